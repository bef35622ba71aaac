# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
r"""Observing a Windows guest: which questions are asked, and what a guest may lack without being broken.

Also the evidence that a restore is compared with later: what lies in the root of a volume, and single files.

Not here: the joins (`guest_disks`), the host (`host`), Linux guests (`module_utils/_guest`), changing anything.
"""

from __future__ import annotations

from collections.abc import Mapping

from .._wsman import AccessDenied, CimInstance, CimPath, WsmanFault, wql_literal
from .cim_access import CimClient, any_of, bool_of, int_of, query_optional, text_of, time_of
from .errors import HypervError
from .guest_disks import GuestRows, build_guest_view
from .guest_model import BITLOCKER_LOCK, BITLOCKER_PROTECTION, BitLocker, FileEntry, GuestInfo, GuestView, GuestVolume
from .host_topology import vm_guid
from .machine import MachineFacts, Service, machine_facts, rights_missing, services_named
from .model import word
from .registry import Registry
from .schema import BITLOCKER, CIMV2, STORAGE

# What Hyper-V's key-value pair exchange writes into the guest (design and product contract)
_GUEST_PARAMETERS = "SOFTWARE\\Microsoft\\Virtual Machine\\Guest\\Parameters"
_SERVICES_KEY = "SYSTEM\\CurrentControlSet\\Services"
_BACKUP_SERVICE, _CLUSTER_SERVICE, _DIRECTORY_SERVICE, _ISCSI_SERVICE = "wbengine", "ClusSvc", "NTDS", "MSiSCSI"
# Where Active Directory keeps database, logs and SYSVOL (documentation of the directory service's registry values)
_NTDS_VALUES = (("DSA Database file", "NTDS\\Parameters"), ("Database log files path", "NTDS\\Parameters"))
_SYSVOL_VALUE = ("SysVol", "Netlogon\\Parameters")
MAX_ROOT_ENTRIES = 10_000


def observe_guest(client: CimClient) -> GuestView:
    """The guest, its disks with their volumes, pools and sessions.

    Raises:
        Precondition: `rights_missing`.
    """
    problems: list[str] = []
    machine = machine_facts(client)
    services = services_named(client, [_BACKUP_SERVICE, _CLUSTER_SERVICE, _DIRECTORY_SERVICE, _ISCSI_SERVICE])
    iscsi = services.get(_ISCSI_SERVICE.lower())
    asks_iscsi = iscsi is not None and iscsi.state.casefold() == "running"

    def storage(what: str, class_name: str) -> list[CimInstance]:
        return query_optional(client, problems, STORAGE, class_name, what=what) or []

    try:
        disks, partitions = client.query(STORAGE, "MSFT_Disk"), client.query(STORAGE, "MSFT_Partition")
        volumes, win32_volumes = client.query(STORAGE, "MSFT_Volume"), client.query(CIMV2, "Win32_Volume")
    except AccessDenied as fault:
        raise rights_missing("The guest's disks", fault) from fault
    rows = GuestRows(
        guest=_guest_info(client, machine, services),
        disks=disks,
        partitions=partitions,
        volumes=volumes,
        win32_volumes=win32_volumes,
        physical_disks=storage("Storage pools", "MSFT_PhysicalDisk"),
        pools=storage("Storage pools", "MSFT_StoragePool"),
        # Without its service the initiator has no session, and its classes answer with an error (windows-storage 4.1)
        iscsi_sessions=storage("iSCSI sessions", "MSFT_iSCSISession") if asks_iscsi else [],
        iscsi_disks=storage("iSCSI sessions", "MSFT_iSCSISessionToDisk") if asks_iscsi else [],
        iscsi_portals=storage("iSCSI portals", "MSFT_iSCSITargetPortal") if asks_iscsi else [],
        initiator_ports=storage("Initiator ports", "MSFT_InitiatorPort"),
        bitlocker=_bitlocker(client),
        problems=problems,
    )
    return build_guest_view(rows)


def _guest_info(client: CimClient, machine: MachineFacts, services: Mapping[str, Service]) -> GuestInfo:
    parameters = Registry(client, _GUEST_PARAMETERS)
    vm_id = parameters.get_string("VirtualMachineId")
    return GuestInfo(
        computer_name=machine.computer_name,
        vm_id=vm_guid(vm_id) if vm_id else None,
        vm_name=parameters.get_string("VirtualMachineName") or None,
        physical_host_name=parameters.get_string("PhysicalHostName") or None,
        os_caption=machine.os_caption,
        os_version=machine.os_version,
        os_build=machine.os_build,
        os_family="windows",
        is_server=machine.is_server,
        cluster_member=_is_cluster_member(services),
        windows_server_backup=_windows_server_backup(services),
        utc=machine.utc,
        ntds_paths=_ntds_paths(client) if _DIRECTORY_SERVICE.lower() in services else (),
    )


def _is_cluster_member(services: Mapping[str, Service]) -> bool:
    """The cluster service is Disabled until the node joins a cluster (assumption: general Windows knowledge)."""
    service = services.get(_CLUSTER_SERVICE.lower())
    return service is not None and service.start_mode.casefold() not in ("disabled", "")


def _windows_server_backup(services: Mapping[str, Service]) -> str:
    """`installed` when the engine's service is there (backup-engines 1.1).

    wbadmin.exe proves nothing, it may be present but unusable. What a client Windows lacks (it has the service too, but
    no recovery) is decided by who asks for a restore.
    """
    return "installed" if _BACKUP_SERVICE in services else "missing"


def _ntds_paths(client: CimClient) -> tuple[str, ...]:
    """Where a domain controller keeps its directory: database, logs and SYSVOL, as far as the registry tells."""
    found = []
    services = Registry(client, _SERVICES_KEY)
    for name, key in (*_NTDS_VALUES, _SYSVOL_VALUE):
        value = services.get_string(name, key)
        if value:
            found.append(value)
    return tuple(dict.fromkeys(found))


def _bitlocker(client: CimClient) -> dict[str, BitLocker] | None:
    """BitLocker by volume path; None when the guest has not the feature, which is no reason for a warning."""
    rows = query_optional(client, [], BITLOCKER, "Win32_EncryptableVolume", what="BitLocker")
    if rows is None:
        return None
    return {text_of(row, "DeviceID").rstrip("\\").casefold(): _bitlocker_of(client, row) for row in rows}


def _bitlocker_of(client: CimClient, row: CimInstance) -> BitLocker:
    """Protection is a property, the lock a method; a volume without protection cannot be locked."""
    protection = int_of(row, "ProtectionStatus")
    lock: int | None = 0
    if protection != 0:
        path = CimPath(BITLOCKER, "Win32_EncryptableVolume", {"DeviceID": text_of(row, "DeviceID")})
        try:
            value = client.invoke(path, "GetLockStatus", {}).out.get("LockStatus")
        except WsmanFault as fault:
            if fault.is_passing:
                raise
            value = None
        lock = value if isinstance(value, int) else None
    return BitLocker(
        protection=word(BITLOCKER_PROTECTION, protection) or "unknown",
        lock=word(BITLOCKER_LOCK, lock) or "unknown",
    )


# --- Evidence -----------------------------------------------------------------------------------------------------


def list_root(client: CimClient, volume: GuestVolume) -> tuple[FileEntry, ...] | None:
    """What lies in the root of a volume, by name; None when no letter or mount folder leads there.

    Raises:
        HypervError: `root_too_large`, beyond `MAX_ROOT_ENTRIES`.
    """
    root = volume.root()
    if root is None:
        return None
    drive, folder = root[:2], root[2:]
    folder = folder if folder.endswith("\\") else f"{folder}\\"
    where = f"Drive = {wql_literal(drive)} AND Path = {wql_literal(folder)}"
    rows = client.query(CIMV2, "CIM_LogicalFile", where=where)
    if len(rows) > MAX_ROOT_ENTRIES:
        raise HypervError(
            "root_too_large",
            f"The root of volume {root} holds {len(rows)} entries and at most {MAX_ROOT_ENTRIES} are recorded; "
            f"move files into folders.",
        )
    entries = [_file_entry(row) for row in rows]
    return tuple(sorted(entries, key=lambda entry: entry.name.casefold()))


def file_evidence(client: CimClient, path: str) -> FileEntry | None:
    r"""Size and times of one file given by its whole path (`D:\app\version.txt`); None when it is not there."""
    where = any_of("Name", [path.replace("/", "\\")])
    rows = client.query(CIMV2, "CIM_DataFile", where=where)
    return _file_entry(rows[0]) if rows else None


def _file_entry(row: CimInstance) -> FileEntry:
    path = text_of(row, "Name")
    is_directory = row.class_name.casefold() in ("win32_directory", "cim_directory")
    return FileEntry(
        name=path.rstrip("\\").rsplit("\\", 1)[-1],
        path=path,
        is_directory=is_directory,
        size_bytes=None if is_directory else int_of(row, "FileSize"),
        created=time_of(row, "CreationDate"),
        modified=time_of(row, "LastModified"),
        is_hidden=bool_of(row, "Hidden"),
        is_system=bool_of(row, "System"),
    )
