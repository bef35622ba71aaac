# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""Settings of one VM that a restore or migration changes: start action, network, virtual SAN, export, deletion.

Of a setting only what changes is sent (hyperv-wmi 4.2), and what it became is read back.

Not here: power (`vm_power`), disks (`passthrough`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .._wsman import CimInstance, CimPath, Value, object_path
from .cim_access import CimClient, any_of, int_of, query_filtered, text_of, texts_of
from .errors import Ambiguous, HypervError, Precondition
from .guest import file_evidence
from .host_topology import owner_of, referenced_instance_id, referenced_key
from .jobs import Hands, act, look_until
from .machine import machine_facts
from .model import START_ACTIONS, word
from .passthrough import MANAGEMENT_SERVICE, setting_path
from .schema import VIRTUALIZATION
from .vm_power import find_power, read_power, vm_path

_SETTINGS = "Msvm_VirtualSystemSettingData"
_NO_SNAPSHOTS = 1  # CopySnapshotConfiguration (hyperv-wmi 7.4)
_ENABLED, _DISABLED = 2, 3


@dataclass(frozen=True, kw_only=True)
class Fabric:
    """A virtual switch or virtual SAN of the host."""

    id: str
    name: str


# --- Start action -----------------------------------------------------------------------------------------------------


def start_action_number(wanted: str) -> int:
    """From `StartIfRunning` (disk_info's word) or `start_if_running`.

    Raises: ValueError.
    """
    plain = wanted.replace("_", "").casefold()
    for number, name in START_ACTIONS.items():
        if name.casefold() == plain:
            return number
    raise ValueError(f"{wanted!r} is none of {', '.join(START_ACTIONS.values())}")


def read_automatic_start_action(client: CimClient, vm_id: str) -> str:
    row = client.get(setting_path(f"Microsoft:{vm_id.upper()}", _SETTINGS))
    return word(START_ACTIONS, int_of(row, "AutomaticStartupAction")) or "unknown"


def set_automatic_start_action(client: CimClient, vm_id: str, wanted: str, hands: Hands) -> str:
    """What the host does with the VM at its own start; returns what it was before, in disk_info's words."""
    number = start_action_number(wanted)
    before = read_automatic_start_action(client, vm_id)
    name = START_ACTIONS[number]
    if before == name:
        return before
    what = f"Setting the automatic start action of VM {vm_id} to {name}"
    settings: dict[str, Value] = {"InstanceID": f"Microsoft:{vm_id.upper()}", "AutomaticStartupAction": number}
    act(
        client,
        MANAGEMENT_SERVICE,
        "ModifySystemSettings",
        {"SystemSettings": CimInstance(_SETTINGS, VIRTUALIZATION, settings)},
        hands,
        what=what,
    )
    look_until(lambda: True if read_automatic_start_action(client, vm_id) == name else None, hands, what=what)
    return before


# --- Export and deletion ----------------------------------------------------------------------------------------------


def export_configuration(client: CimClient, vm_id: str, folder: str, hands: Hands) -> str:
    r"""Write a VM's configuration, without disks, checkpoints and memory, below `folder\<name of the VM>`.

    The folder is one of the host; a share needs rights of the host's computer account (hyperv-wmi 7.4).

    Returns: the path of the configuration file.

    Raises: HypervError `export_exists`, `not_observed`; Precondition `vm_not_off`; MethodFailed, JobFailed.
    """
    power = read_power(client, vm_id)
    if power.state not in ("off", "saved"):
        raise Precondition("vm_not_off", f"VM {power.name} is {power.state} and must be off to be exported.")
    base = folder.rstrip("\\") + f"\\{power.name}\\Virtual Machines\\{vm_id.upper()}"

    def exported() -> str | None:
        # .xml is what hosts before Server 2016 write
        return next((path for path in (f"{base}.vmcx", f"{base}.xml") if file_evidence(client, path) is not None), None)

    there = exported()
    if there is not None:
        raise HypervError(
            "export_exists", f"{there} is there already and is not overwritten; name another folder or take it away."
        )
    what = f"Exporting the configuration of VM {power.name} to {folder}"
    settings: dict[str, Value] = {
        "CopySnapshotConfiguration": _NO_SNAPSHOTS,
        "CopyVmRuntimeInformation": False,
        "CopyVmStorage": False,
        "CreateVmExportSubdirectory": True,
    }
    act(
        client,
        MANAGEMENT_SERVICE,
        "ExportSystemDefinition",
        {
            "ComputerSystem": vm_path(vm_id),
            "ExportDirectory": folder,
            "ExportSettingData": CimInstance("Msvm_VirtualSystemExportSettingData", VIRTUALIZATION, settings),
        },
        hands,
        what=what,
    )
    return look_until(exported, hands, what=what)


def delete_vm(client: CimClient, vm_id: str, hands: Hands) -> bool:
    """Remove a VM that is off from the host; its virtual hard disks and LUNs stay (hyperv-wmi 4.2).

    Returns: whether it was there.

    Raises: Precondition `vm_not_off`; MethodFailed, JobFailed; HypervError `not_observed`.
    """
    power = find_power(client, vm_id)
    if power is None:
        return False
    if power.state != "off" or power.busy:
        raise Precondition(
            "vm_not_off",
            f"VM {power.name} is {power.busy or power.state} and is only deleted while it is off and at rest.",
        )
    what = f"Deleting VM {power.name} ({vm_id})"
    act(client, MANAGEMENT_SERVICE, "DestroySystem", {"AffectedSystem": vm_path(vm_id)}, hands, what=what)
    look_until(lambda: True if find_power(client, vm_id) is None else None, hands, what=what)
    return True


# --- Network and virtual SAN --------------------------------------------------------------------------------------


def network_switches(client: CimClient) -> tuple[Fabric, ...]:
    """The host's virtual switches."""
    return _fabrics(client, "Msvm_VirtualEthernetSwitch")


def virtual_sans(client: CimClient) -> tuple[Fabric, ...]:
    """The host's virtual SANs."""
    return _fabrics(client, "Msvm_VirtualFcSwitch")


def _fabrics(client: CimClient, class_name: str) -> tuple[Fabric, ...]:
    rows = client.query(VIRTUALIZATION, class_name, select=("Name", "ElementName"))
    return tuple(Fabric(id=text_of(row, "Name"), name=text_of(row, "ElementName")) for row in rows)


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """What a network adapter and a virtual Fibre Channel port have in common, as data (hyperv-wmi 2.1, 8)."""

    noun: str
    unknown: str
    fabric_noun: str
    unknown_fabric: str
    fabric_class: str
    ports_class: str
    address: str
    connections_class: str
    connection_class: str
    connection_type: int
    connection_sub_type: str
    enables: bool


_NETWORK = _Kind(
    noun="network adapter",
    unknown="unknown_adapter",
    fabric_noun="virtual switch",
    unknown_fabric="unknown_switch",
    fabric_class="Msvm_VirtualEthernetSwitch",
    ports_class="CIM_EthernetPortAllocationSettingData",
    address="Address",
    connections_class="CIM_EthernetPortAllocationSettingData",
    connection_class="Msvm_EthernetPortAllocationSettingData",
    connection_type=33,
    connection_sub_type="Microsoft:Hyper-V:Ethernet Connection",
    enables=True,
)
_FIBRE_CHANNEL = _Kind(
    noun="Fibre Channel port",
    unknown="unknown_port",
    fabric_noun="virtual SAN",
    unknown_fabric="unknown_vsan",
    fabric_class="Msvm_VirtualFcSwitch",
    ports_class="Msvm_SyntheticFcPortSettingData",
    address="VirtualPortWWPN",
    connections_class="Msvm_FcPortAllocationSettingData",
    connection_class="Msvm_FcPortAllocationSettingData",
    connection_type=64764,
    connection_sub_type="Microsoft:Hyper-V:FibreChannel Connection",
    enables=False,
)


def reconnect_network(
    client: CimClient,
    vm_id: str,
    wanted: Sequence[Mapping[str, object]],
    switch_map: Mapping[str, str],
    hands: Hands,
) -> list[dict[str, object]]:
    """Connect a VM's adapters to the switches that were recorded, or to what `switch_map` says instead of them.

    Args:
        wanted: recorded `network_adapters`; one that had no switch is left as it is.
        switch_map: recorded name of a switch -> name of the switch on this host.

    Returns: [{adapter, switch_name, changed}].

    Raises: Precondition `unknown_switch`, `unknown_adapter`, before anything is changed; MethodFailed, JobFailed.
    """
    named = [(str(one.get("mac_address") or ""), str(one.get("name") or ""), one.get("switch_name")) for one in wanted]
    return [
        {"adapter": label, "switch_name": name, "changed": changed}
        for label, name, changed in _reconnect(client, vm_id, _NETWORK, named, switch_map, hands)
    ]


def reconnect_fibre_channel(
    client: CimClient, vm_id: str, wanted: Sequence[Mapping[str, object]], vsan_map: Mapping[str, str], hands: Hands
) -> list[dict[str, object]]:
    """Connect a VM's virtual Fibre Channel ports to their virtual SANs; the VM must be off.

    Args:
        wanted: recorded `fibre_channel_ports` (wwpn, san).

    Returns: [{wwpn, san, changed}].

    Raises: Precondition `unknown_vsan`, `unknown_port`, before anything is changed; MethodFailed, JobFailed.
    """
    named = [(str(one.get("wwpn") or ""), "", one.get("san")) for one in wanted]
    return [
        {"wwpn": label, "san": name, "changed": changed}
        for label, name, changed in _reconnect(client, vm_id, _FIBRE_CHANNEL, named, vsan_map, hands)
    ]


def _address(text: str) -> str:
    return "".join(character for character in text.upper() if character.isalnum())


def _reconnect(
    client: CimClient,
    vm_id: str,
    kind: _Kind,
    wanted: Sequence[tuple[str, str, object]],
    mapped: Mapping[str, str],
    hands: Hands,
) -> list[tuple[str, str, bool]]:
    """(label, fabric's name, changed) of each adapter that shall be connected."""
    connected = [(address, name, str(fabric)) for address, name, fabric in wanted if fabric]
    if not connected:
        return []
    host = machine_facts(client).computer_name
    fabrics = _fabrics(client, kind.fabric_class)
    ports = _ports(client, vm_id, kind)
    pairs = [
        (_port(ports, kind, address, name, vm_id), _fabric(fabrics, kind, mapped.get(fabric, fabric)))
        for address, name, fabric in connected
    ]
    results = []
    for port, fabric in pairs:
        label = text_of(port, kind.address) or text_of(port, "ElementName")
        changed = _connect(client, vm_id, kind, port, fabric, host, hands, label=label)
        results.append((label, fabric.name, changed))
    return results


def _rows_of(client: CimClient, vm_id: str, class_name: str) -> list[CimInstance]:
    where = any_of("InstanceID", [f"Microsoft:{vm_id.upper()}%"], operator="LIKE")
    rows = query_filtered(client, VIRTUALIZATION, class_name, where)
    return [row for row in rows if owner_of(text_of(row, "InstanceID")) == vm_id.upper()]


def _ports(client: CimClient, vm_id: str, kind: _Kind) -> list[CimInstance]:
    return [
        row
        for row in _rows_of(client, vm_id, kind.ports_class)
        if text_of(row, "ResourceSubType").casefold() != kind.connection_sub_type.casefold()
    ]


def _connection(client: CimClient, vm_id: str, kind: _Kind, port: CimInstance) -> CimInstance | None:
    port_id = text_of(port, "InstanceID").casefold()
    for row in _rows_of(client, vm_id, kind.connections_class):
        is_connection = text_of(row, "ResourceSubType").casefold() == kind.connection_sub_type.casefold()
        if is_connection and (referenced_instance_id(text_of(row, "Parent")) or "").casefold() == port_id:
            return row
    return None


def _port(ports: Sequence[CimInstance], kind: _Kind, address: str, name: str, vm_id: str) -> CimInstance:
    """By address, which a restore keeps; else by a name that only one of them has."""
    by_address = [port for port in ports if address and _address(text_of(port, kind.address)) == _address(address)]
    by_name = [port for port in ports if name and text_of(port, "ElementName").casefold() == name.casefold()]
    for found in (by_address, by_name):
        if len(found) == 1:
            return found[0]
    there = ", ".join(text_of(port, kind.address) or text_of(port, "ElementName") for port in ports) or "none"
    raise Precondition(
        kind.unknown, f"VM {vm_id} has no {kind.noun} {address or name} (it has {there}); connect it by hand."
    )


def _fabric(fabrics: Sequence[Fabric], kind: _Kind, name: str) -> Fabric:
    found = [fabric for fabric in fabrics if fabric.name.casefold() == name.casefold()]
    if len(found) > 1:
        raise Ambiguous(
            kind.unknown_fabric, f"The host has {len(found)} objects {kind.fabric_noun} {name}; rename all but one."
        )
    if not found:
        there = ", ".join(sorted(fabric.name for fabric in fabrics)) or "none"
        raise Precondition(
            kind.unknown_fabric,
            f"The host has no {kind.fabric_noun} {name} (it has {there}); create it, or map the name to another one.",
            {"wanted": name, "available": sorted(fabric.name for fabric in fabrics)},
        )
    return found[0]


def _leads_to(row: CimInstance | None) -> str:
    """The id of the switch or virtual SAN that a connection leads to; "" for none, or when it is disabled."""
    if row is None or int_of(row, "EnabledState") == _DISABLED:
        return ""
    host_resource = next(iter(texts_of(row, "HostResource")), "")
    return (referenced_key(host_resource, "Name") or "").casefold() if host_resource else ""


def _connect(
    client: CimClient,
    vm_id: str,
    kind: _Kind,
    port: CimInstance,
    fabric: Fabric,
    host: str,
    hands: Hands,
    *,
    label: str,
) -> bool:
    row = _connection(client, vm_id, kind, port)
    if _leads_to(row) == fabric.id.casefold():
        return False
    what = f"Connecting the {kind.noun} {label} of VM {vm_id} to {kind.fabric_noun} {fabric.name}"
    there = CimPath(VIRTUALIZATION, kind.fabric_class, {"CreationClassName": kind.fabric_class, "Name": fabric.id})
    settings: dict[str, Value] = {"HostResource": [object_path(there, host)]}
    if kind.enables:
        settings["EnabledState"] = _ENABLED
    if row is not None:
        settings["InstanceID"] = text_of(row, "InstanceID")
        method, arguments = "ModifyResourceSettings", {}
    else:
        port_path = object_path(setting_path(text_of(port, "InstanceID"), port.class_name), host)
        settings |= {
            "ResourceType": kind.connection_type,
            "ResourceSubType": kind.connection_sub_type,
            "Parent": port_path,
        }
        method = "AddResourceSettings"
        arguments = {"AffectedConfiguration": setting_path(f"Microsoft:{vm_id.upper()}", _SETTINGS)}
    instance = CimInstance(kind.connection_class, VIRTUALIZATION, settings)
    act(client, MANAGEMENT_SERVICE, method, {**arguments, "ResourceSettings": [instance]}, hands, what=what)

    def connected() -> bool | None:
        return True if _leads_to(_connection(client, vm_id, kind, port)) == fabric.id.casefold() else None

    return look_until(connected, hands, what=what)
