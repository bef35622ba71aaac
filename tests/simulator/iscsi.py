# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Responsible for the iSCSI initiator and the initiator ports of a machine (root/microsoft/windows/storage).

The fabric is the world: a portal shows the targets of every LUN that names it. Facts: windows-storage 4.1, 1.3, 1.4.
"""

from __future__ import annotations

from collections.abc import Iterable

from .assumed import assumed
from .cim import CimFault, Instance, Ref, Value
from .disks import Lun, stable_hex
from .service import method, view
from .storage import NS, Row, arrive, embedded, object_id, ref
from .world import Machine

assumed(
    "iscsi-chap-refusal",
    "A login without CHAP, or with a wrong secret, to a target that wants it gives 0xEFFF0009, CHAP to a target that"
    " wants none 0xEFFF0002",
    source="the names of the codes are public (iscsierr.h); which refusal gives which is a guess",
)

AUTHENTICATION_FAILURE = 0xEFFF0009
LOGIN_FAILED = 0xEFFF0002
NOT_RUNNING = 0xEFFF003E
TARGET_NOT_FOUND = 0xEFFF0029
SESSION_IN_USE = 0xEFFF0021


def initiator_name(machine: Machine) -> str:
    return f"iqn.1991-05.com.microsoft:{machine.dns_name.lower()}"


def _session_id(machine: Machine, lun: Lun) -> str:
    return "ffff" + stable_hex(machine.name, lun.id, "session", length=12).lower() + "-4000013700000001"


def _connection_id(machine: Machine, lun: Lun) -> str:
    return "ffff" + stable_hex(machine.name, lun.id, "connection", length=12).lower() + "-1"


def _require_service(machine: Machine) -> None:
    if machine.service_states.get("MSiSCSI", "Stopped") != "Running":
        raise CimFault.mi(1, "The service MSiSCSI is not running.", NOT_RUNNING)


def _visible(machine: Machine) -> list[Lun]:
    luns = machine.world.luns.values()
    return [lun for lun in luns if lun.present and lun.target and lun.portal in machine.iscsi_portals]


def _session_row(machine: Machine, lun: Lun) -> Row:
    return {
        "SessionIdentifier": _session_id(machine, lun),
        "TargetNodeAddress": lun.target,
        "InitiatorNodeAddress": initiator_name(machine),
        "InitiatorPortalAddress": "0.0.0.0",
        "InitiatorInstanceName": "ROOT\\ISCSIPRT\\0000_0",
        "InitiatorSideIdentifier": "400001370000",
        "TargetSideIdentifier": "0100",
        "NumberOfConnections": 1,
        "AuthenticationType": "ONEWAYCHAP" if lun.id in machine.chap_sessions else "NONE",
        "IsConnected": lun.present,
        "IsDiscovered": lun.portal in machine.iscsi_portals,
        "IsPersistent": lun.target in machine.persistent_targets,
        "IsHeaderDigest": False,
        "IsDataDigest": False,
    }


@view(NS, "MSFT_iSCSISession")
def sessions(machine: Machine) -> Iterable[Row]:
    for lun in machine.iscsi_sessions:
        yield _session_row(machine, lun)


@view(NS, "MSFT_iSCSIConnection")
def connections(machine: Machine) -> Iterable[Row]:
    for number, lun in enumerate(machine.iscsi_sessions):
        yield {
            "ConnectionIdentifier": _connection_id(machine, lun),
            "InitiatorAddress": machine.addresses[0] if machine.addresses else "0.0.0.0",
            "InitiatorPortNumber": 49152 + number,
            "TargetAddress": lun.portal,
            "TargetPortNumber": 3260,
        }


@view(NS, "MSFT_iSCSITarget")
def targets(machine: Machine) -> Iterable[Row]:
    seen: set[str] = set()
    for lun in [*_visible(machine), *machine.iscsi_sessions]:
        if lun.target and lun.target not in seen:
            seen.add(lun.target)
            yield {"NodeAddress": lun.target, "IsConnected": lun in machine.iscsi_sessions}


def _portal_row(address: str) -> Row:
    return {
        "TargetPortalAddress": address,
        "TargetPortalPortNumber": 3260,
        "InitiatorInstanceName": "",
        "InitiatorPortalAddress": "",
        "IsHeaderDigest": False,
        "IsDataDigest": False,
    }


@view(NS, "MSFT_iSCSITargetPortal")
def portals(machine: Machine) -> Iterable[Row]:
    for address in dict.fromkeys(machine.iscsi_portals):
        yield _portal_row(address)


@view(NS, "MSFT_InitiatorPort")
def initiator_ports(machine: Machine) -> Iterable[Row]:
    name = initiator_name(machine)
    yield {
        "ObjectId": object_id(machine, "InitiatorPort", "IP", name),
        "NodeAddress": name,
        "PortAddress": "0x00-40-00-01-37-00-00-00",
        "InstanceName": "ROOT\\ISCSIPRT\\0000_0",
        "ConnectionType": 2,
        "PortType": 1,
        "OperationalStatus": [2],
    }
    ports = machine.vm.fibre_channel if machine.vm is not None else []
    for number, port in enumerate(ports):
        yield {
            "ObjectId": object_id(machine, "InitiatorPort", "IP", port.wwpn[0]),
            "NodeAddress": port.wwnn[0],
            "PortAddress": port.wwpn[0],
            "InstanceName": f"VMBUS\\FC_{number}",
            "ConnectionType": 1,
            "PortType": 10,
            "OperationalStatus": [2],
        }


@view(NS, "MSFT_iSCSISessionToDisk")
def sessions_to_disks(machine: Machine) -> Iterable[Row]:
    arrive(machine)  # clients wait for the disk here
    for lun in machine.iscsi_sessions:
        disk = machine.disk_of_lun(lun)
        if disk is not None:
            session = Ref(NS, "MSFT_iSCSISession", {"SessionIdentifier": _session_id(machine, lun)})
            yield {"iSCSISession": session, "Disk": ref("MSFT_Disk", disk.object_id)}


@view(NS, "MSFT_iSCSISessionToiSCSIConnection")
def sessions_to_connections(machine: Machine) -> Iterable[Row]:
    for lun in machine.iscsi_sessions:
        yield {
            "iSCSISession": Ref(NS, "MSFT_iSCSISession", {"SessionIdentifier": _session_id(machine, lun)}),
            "iSCSIConnection": Ref(NS, "MSFT_iSCSIConnection", {"ConnectionIdentifier": _connection_id(machine, lun)}),
        }


@view(NS, "MSFT_iSCSITargetToiSCSISession")
def targets_to_sessions(machine: Machine) -> Iterable[Row]:
    for lun in machine.iscsi_sessions:
        yield {
            "iSCSITarget": Ref(NS, "MSFT_iSCSITarget", {"NodeAddress": lun.target or ""}),
            "iSCSISession": Ref(NS, "MSFT_iSCSISession", {"SessionIdentifier": _session_id(machine, lun)}),
        }


@method(NS, "MSFT_iSCSITargetPortal", "New")
def new_portal(machine: Machine, _target: Instance | None, arguments: dict[str, Value]) -> Row:
    _require_service(machine)
    address = arguments.get("TargetPortalAddress")
    if not isinstance(address, str) or not any(
        lun.portal == address and lun.present for lun in machine.world.luns.values()
    ):
        raise CimFault.mi(1, "Connection Failed.", 0xEFFF0003)
    if address not in machine.iscsi_portals:
        machine.iscsi_portals.append(address)
    return {"ReturnValue": 0, "CreatedTargetPortal": embedded("MSFT_iSCSITargetPortal", _portal_row(address))}


@method(NS, "MSFT_iSCSITargetPortal", "Remove")
def remove_portal(machine: Machine, target: Instance | None, arguments: dict[str, Value]) -> Row:
    address = arguments.get("TargetPortalAddress") or (target.get("TargetPortalAddress") if target else None)
    machine.iscsi_portals = [p for p in machine.iscsi_portals if p != address]
    return {"ReturnValue": 0}


@method(NS, "MSFT_iSCSITargetPortal", "Update")
def update_portal(machine: Machine, _target: Instance | None, _arguments: dict[str, Value]) -> Row:
    _require_service(machine)
    return {"ReturnValue": 0}


@method(NS, "MSFT_iSCSITarget", "Connect")
def connect(machine: Machine, _target: Instance | None, arguments: dict[str, Value]) -> Row:
    _require_service(machine)
    address = arguments.get("NodeAddress")
    portal = arguments.get("TargetPortalAddress")
    found = [lun for lun in _visible(machine) if lun.target == address and portal in (None, "", lun.portal)]
    if not found:
        raise CimFault.mi(6, "The target name is not found or is marked as hidden from login.", TARGET_NOT_FOUND)
    lun = found[0]
    if lun in machine.iscsi_sessions:
        raise CimFault.mi(1, "The target has already been logged in via an iSCSI session.", 0xEFFF003F)
    _authenticate(machine, lun, arguments)
    machine.iscsi_sessions.append(lun)
    if arguments.get("IsPersistent"):
        machine.persistent_targets.add(lun.target or "")
    machine.arriving = 2  # the disk comes some looks later
    return {"ReturnValue": 0, "CreatediSCSISession": embedded("MSFT_iSCSISession", _session_row(machine, lun))}


def _authenticate(machine: Machine, lun: Lun, arguments: dict[str, Value]) -> None:
    """The target's say: it wants CHAP with its secret, or none."""
    kind = str(arguments.get("AuthenticationType") or "NONE").upper()
    if kind not in ("NONE", "ONEWAYCHAP", "MUTUALCHAP"):
        raise CimFault.mi(4, "The authentication type is not valid.")
    if lun.chap is None:
        if kind != "NONE":
            raise CimFault.mi(1, "Login Failed.", LOGIN_FAILED)
        machine.chap_sessions.discard(lun.id)
        return
    name = str(arguments.get("ChapUsername") or initiator_name(machine))
    if kind == "NONE" or (name, arguments.get("ChapSecret")) != lun.chap:
        raise CimFault.mi(1, "Authentication Failure.", AUTHENTICATION_FAILURE)
    machine.chap_sessions.add(lun.id)


@method(NS, "MSFT_iSCSITarget", "Disconnect")
def disconnect(machine: Machine, target: Instance | None, arguments: dict[str, Value]) -> Row:
    _require_service(machine)
    address = target.get("NodeAddress") if target is not None else None
    wanted = arguments.get("SessionIdentifier")
    for lun in list(machine.iscsi_sessions):
        if lun.target == address and wanted in (None, "", _session_id(machine, lun)):
            disk = machine.disk_of_lun(lun)
            if disk is not None and disk.online and disk.table.partitions:
                raise CimFault.mi(
                    1, "The session cannot be logged out since a device on that session is in use.", SESSION_IN_USE
                )
            machine.iscsi_sessions.remove(lun)
            machine.rescan()
    return {"ReturnValue": 0}


@method(NS, "MSFT_iSCSITarget", "Update")
def update_targets(machine: Machine, _target: Instance | None, _arguments: dict[str, Value]) -> Row:
    _require_service(machine)
    return {"ReturnValue": 0}


def _session(machine: Machine, target: Instance | None) -> Lun | None:
    wanted = target.get("SessionIdentifier") if target is not None else None
    return next((lun for lun in machine.iscsi_sessions if _session_id(machine, lun) == wanted), None)


@method(NS, "MSFT_iSCSISession", "Register")
def register_session(machine: Machine, target: Instance | None, _arguments: dict[str, Value]) -> Row:
    lun = _session(machine, target)
    if lun is None:
        return {"ReturnValue": 5}
    machine.persistent_targets.add(lun.target or "")
    return {"ReturnValue": 0}


@method(NS, "MSFT_iSCSISession", "Unregister")
def unregister_session(machine: Machine, target: Instance | None, _arguments: dict[str, Value]) -> Row:
    lun = _session(machine, target)
    if lun is None:
        return {"ReturnValue": 5}
    machine.persistent_targets.discard(lun.target or "")
    return {"ReturnValue": 0}


@method(NS, "MSFT_iSCSISession", "SetCHAPSecret")
def set_chap_secret(machine: Machine, target: Instance | None, _arguments: dict[str, Value]) -> Row:
    return {"ReturnValue": 0 if _session(machine, target) is not None else 5}
