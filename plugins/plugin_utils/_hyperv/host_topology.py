# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""The disks of a host and of its VMs, joined from rows: pure functions, no question is asked here.

Joins are those of hyperv-wmi 2.4 and 2.6: by GUID prefix and InstanceID without regard to case, `Parent` and
`HostResource` with doubled backslashes undone, templates, snapshots and planned VMs left aside. Every step is one pass
over rows with look-ups by key.

`captured_by` is the host's view: what the Hyper-V VSS writer takes. Whether a disk is protected at all is decided by
coverage, which also asks the guest.

Not here: reading the rows (`host`), guests (`guest`), coverage and backup (`_backup`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from .._wsman import CimInstance, WsmanError, parse_object_path
from .cim_access import bool_of, int_of, ints_of, text_of, texts_of, time_of, trimmed_text_of
from .disk_identity import (
    disk_guid,
    distinct_disks,
    is_weak_identity,
    repeated_unique_ids,
)
from .machine import MachineFacts
from .model import (
    BUS_TYPES,
    CHECKPOINT_TYPES,
    COMPONENT_STATES,
    DISK_POLICIES,
    OFFLINE_REASONS,
    OTHER_VM_STATES,
    PARTITION_STYLES,
    PROVISIONING_TYPES,
    REPLICA_MODES,
    REPLICATION_MODES,
    REPLICATION_STATES,
    START_ACTIONS,
    STOP_ACTIONS,
    VM_BUSY,
    VM_HEALTH,
    VM_STATES,
    Checkpoint,
    ClusterMembership,
    Controller,
    FibreChannelPort,
    GuestFacts,
    HostInfo,
    HostView,
    HostVolume,
    Lun,
    LunAttachment,
    NetworkAdapter,
    Replication,
    Slot,
    VirtualHardDisk,
    VirtualMachine,
    VmConfiguration,
    VmDisk,
    word,
)

_GUID = re.compile(r"[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}\Z")

# hyperv-wmi 2.1
_IDE_CONTROLLER, _SCSI_CONTROLLER, _DVD_DRIVE, _DISK_DRIVE = 5, 6, 16, 17
_CONTROLLER_TYPES = {_IDE_CONTROLLER: "IDE", _SCSI_CONTROLLER: "SCSI"}
RESOURCE_TYPES = (_IDE_CONTROLLER, _SCSI_CONTROLLER, _DVD_DRIVE, _DISK_DRIVE)
PHYSICAL_DISK_DRIVE = "Microsoft:Hyper-V:Physical Disk Drive"
_PASS_THROUGH = PHYSICAL_DISK_DRIVE.casefold()
_PHYSICAL_DVD = "microsoft:hyper-v:physical dvd drive"
VIRTUAL_HARD_DISK = "microsoft:hyper-v:virtual hard disk"
_REALIZED = "microsoft:hyper-v:system:realized"
_SNAPSHOT = "microsoft:hyper-v:snapshot:"
_IDE_CONTROLLER_GUID = "83F8638B-8DCA-4152-9EDA-2CA8B33039B4"  # hyperv-wmi 2.4
_NO_DRIVE = "NODRIVE"  # hyperv-wmi 3.2: how HostResource tells that the disk is gone

_VHD_EXTENSIONS: Mapping[str, tuple[str, str | None]] = {
    ".vhd": ("VHD", None),
    ".vhdx": ("VHDX", None),
    ".avhd": ("VHD", "differencing"),
    ".avhdx": ("VHDX", "differencing"),
    ".vhds": ("VHDSet", None),
}


@dataclass(frozen=True, kw_only=True)
class HostRows:
    """Everything that was read of a host, as it came. A row list may hold more than is asked for, never less.

    `vhds` maps the case-folded path of a VHD to its details; `network_adapters` maps the GUID of a VM to its adapters
    (`network_adapters.py`); `vm_names` maps the GUIDs of VMs that were not asked for
    (but use a LUN) to their names.
    """

    machine: MachineFacts
    cluster: ClusterMembership
    disk_policy: int | None = None
    systems: Sequence[CimInstance] = ()
    settings: Sequence[CimInstance] = ()
    resources: Sequence[CimInstance] = ()
    storage: Sequence[CimInstance] = ()
    disk_drives: Sequence[CimInstance] = ()
    disks: Sequence[CimInstance] = ()
    volumes: Sequence[CimInstance] = ()
    fc_ports: Sequence[CimInstance] = ()
    fc_connections: Sequence[CimInstance] = ()
    fc_switches: Sequence[CimInstance] = ()
    kvp: Sequence[CimInstance] = ()
    vss: Sequence[CimInstance] = ()
    heartbeats: Sequence[CimInstance] = ()
    cluster_resources: Sequence[CimInstance] = ()
    vhds: Mapping[str, VirtualHardDisk] = field(default_factory=dict)
    vm_names: Mapping[str, str] = field(default_factory=dict)
    network_adapters: Mapping[str, tuple[NetworkAdapter, ...]] = field(default_factory=dict)
    problems: Sequence[str] = ()


# --- Names and paths ----------------------------------------------------------------------------------------------


def vm_guid(text: str) -> str | None:
    """A GUID as Hyper-V writes it (upper case, no braces), or None when the text is none."""
    bare = text.strip().strip("{}").upper()
    return bare if _GUID.match(bare) else None


def owner_of(instance_id: str) -> str:
    r"""`Microsoft:<GUID>\<device>` -> the GUID in upper case; `DEFINITION` for a template, "" for anything else."""
    prefix, _unused, rest = instance_id.partition(":")
    return rest.split("\\", 1)[0].upper() if prefix.casefold() == "microsoft" else ""


def referenced_instance_id(path_text: str) -> str | None:
    r"""The InstanceID inside a WMI path text such as `Parent`, with `\\` undone (hyperv-wmi 2.6)."""
    return referenced_key(path_text, "InstanceID")


def referenced_key(path_text: str, key: str) -> str | None:
    """One key of the object that a WMI path text names."""
    try:
        value = parse_object_path(path_text).key(key)
    except (WsmanError, ValueError):
        return None
    return value if isinstance(value, str) else None


def _same_machine(one: str, other: str) -> bool:
    """Whether two names mean one machine; WMI paths write the short name, sometimes a dot."""
    first, second = (name.split(".")[0].casefold() for name in (one, other))
    return first == second or "" in (first, second) or "localhost" in (first, second)


def is_remote_path(path: str) -> bool:
    r"""Whether a file path leads to a share (`\\server\share\..`, `\\?\UNC\..`) and not to a volume of this host."""
    plain_path = path.replace("/", "\\")
    if plain_path[:4] in ("\\\\?\\", "\\\\.\\"):
        return plain_path[4:8].casefold() == "unc\\"
    return plain_path.startswith("\\\\")


def vhd_of_path(path: str) -> VirtualHardDisk:
    """What the file name alone tells: the format, and that a checkpoint's file is differencing."""
    extension = "." + path.rsplit(".", 1)[-1].casefold() if "." in path.rsplit("\\", 1)[-1] else ""
    vhd_format, vhd_type = _VHD_EXTENSIONS.get(extension, (None, None))
    return VirtualHardDisk(format=vhd_format, type=vhd_type)


# --- LUNs ---------------------------------------------------------------------------------------------------------


def build_luns(disks: Sequence[CimInstance], attached: Mapping[int, Sequence[LunAttachment]]) -> tuple[Lun, ...]:
    """MSFT_Disk rows as LUNs; `attached` maps a disk number to the VMs that have it."""
    rows = distinct_disks(disks)
    repeated = repeated_unique_ids(rows)
    return tuple(_lun(row, repeated, attached) for row in rows)


def _lun(row: CimInstance, repeated: frozenset[str], attached: Mapping[int, Sequence[LunAttachment]]) -> Lun:
    number = int_of(row, "Number")
    unique_id = trimmed_text_of(row, "UniqueId")
    unique_id_format = int_of(row, "UniqueIdFormat")
    is_offline = bool_of(row, "IsOffline")
    return Lun(
        unique_id=unique_id,
        unique_id_format=unique_id_format,
        serial_number=trimmed_text_of(row, "SerialNumber"),
        number=number,
        friendly_name=trimmed_text_of(row, "FriendlyName"),
        manufacturer=trimmed_text_of(row, "Manufacturer"),
        model=trimmed_text_of(row, "Model"),
        size_bytes=int_of(row, "Size"),
        logical_sector_bytes=int_of(row, "LogicalSectorSize"),
        physical_sector_bytes=int_of(row, "PhysicalSectorSize"),
        bus_type=word(BUS_TYPES, int_of(row, "BusType")),
        provisioning=word(PROVISIONING_TYPES, int_of(row, "ProvisioningType")),
        partition_style=word(PARTITION_STYLES, int_of(row, "PartitionStyle")),
        guid=disk_guid(row),
        signature=int_of(row, "Signature"),
        is_offline=is_offline,
        offline_reason=word(OFFLINE_REASONS, int_of(row, "OfflineReason")) if is_offline else None,
        is_read_only=bool_of(row, "IsReadOnly"),
        is_boot=bool_of(row, "IsBoot"),
        is_system=bool_of(row, "IsSystem"),
        is_clustered=bool_of(row, "IsClustered"),
        location=trimmed_text_of(row, "Location"),
        weak_identity=is_weak_identity(unique_id, unique_id_format, repeated),
        attached_to=() if number is None else tuple(attached.get(number, ())),
        object_id=text_of(row, "ObjectId"),
    )


class _HostDisks:
    """From the HostResource text of a pass-through drive to the LUN that it designates now, or to why not.

    Hyper-V stores pass-through disks by number, frozen at attach time (hyperv-wmi 3.2). A number that leads to a disk
    which cannot be the VM's is told as unresolved, never guessed.
    """

    def __init__(self, rows: HostRows) -> None:
        self._host = rows.machine.computer_name
        self._numbers = {
            text_of(row, "DeviceID").casefold(): number
            for row in rows.disk_drives
            if (number := int_of(row, "DriveNumber")) is not None
        }
        self._luns = {lun.number: lun for lun in build_luns(rows.disks, {}) if lun.number is not None}

    def resolve(self, host_resource: str) -> tuple[Lun | None, str]:
        """The LUN and "", or None and the reason."""
        if not host_resource:
            return None, "Hyper-V names no disk of the host for it"
        if _NO_DRIVE in host_resource.upper():
            return None, "Hyper-V says that the disk of the host is gone (NODRIVE)"
        device_id = referenced_key(host_resource, "DeviceID")
        if device_id is None:
            return None, f"its reference {host_resource!r} is not the path of a host disk"
        system = referenced_key(host_resource, "SystemName") or ""
        if not _same_machine(system, self._host):
            return None, f"its reference still names a disk of host {system}, where the VM came from"
        number = self._numbers.get(device_id.casefold(), _trailing_number(device_id))
        if number is None:
            return None, f"its reference {device_id!r} holds no disk number"
        lun = self._luns.get(number)
        if lun is None:
            return None, f"the host has no disk number {number} any more"
        if lun.is_boot or lun.is_system:
            return None, f"disk number {number} is now the host's own boot or system disk, so the numbers have moved"
        if not lun.is_offline and not lun.is_clustered:
            return None, (
                f"disk number {number} ({lun.describe()}) is online on the host, which no disk of a VM may be: "
                f"either the numbers have moved or somebody brought it online"
            )
        return lun, ""


def _trailing_number(device_id: str) -> int | None:
    tail = device_id.rsplit("\\", 1)[-1]
    return int(tail) if tail.isdecimal() else None


# --- Disks of VMs -------------------------------------------------------------------------------------------------


class _HostVolumes:
    """Which volume of the host holds a file: the longest of its parent folders that is a volume's path."""

    def __init__(self, volumes: Iterable[CimInstance]) -> None:
        self._by_path: dict[str, CimInstance] = {}
        for row in volumes:
            for path in (text_of(row, "Name"), text_of(row, "DeviceID"), text_of(row, "DriveLetter")):
                if path:
                    self._by_path[path.rstrip("\\").casefold()] = row

    def of(self, path: str) -> HostVolume:
        if is_remote_path(path):
            return HostVolume(path=None, letter=None, file_system=None, is_csv=False, is_remote=True)
        folder = path.replace("/", "\\").casefold()
        if folder.startswith("\\\\?\\") and folder[5:6] == ":":
            folder = folder[4:]
        is_csv = folder[1:].startswith(":\\clusterstorage\\")
        letter = path[0].upper() if path[1:2] == ":" else None
        while "\\" in folder:
            folder = folder.rsplit("\\", 1)[0]
            row = self._by_path.get(folder)
            if row is not None:
                file_system = text_of(row, "FileSystem") or None
                return HostVolume(
                    path=text_of(row, "DeviceID") or None,
                    letter=text_of(row, "DriveLetter")[:1].upper() or None,
                    file_system=file_system,
                    is_csv=is_csv or (file_system or "").upper().startswith("CSVFS"),
                    is_remote=False,
                )
        return HostVolume(path=None, letter=letter, file_system=None, is_csv=is_csv, is_remote=False)


def capture_of(attachment: str, *, path: str | None, volume: HostVolume | None, problem: str = "") -> tuple[str, str]:
    """(captured_by, reason) of one disk from the host's view: what the Hyper-V VSS writer takes (hyperv-wmi 7.2)."""
    if attachment == "virtual_hard_disk":
        if not path:
            return "none", "Hyper-V names no file for this virtual hard disk, so nothing can be backed up."
        if volume is not None and volume.is_remote:
            return (
                "none",
                "The virtual hard disk lies on an SMB share, which a backup of this host does not contain; "
                "move it to a volume of the host or back it up where the share is.",
            )
        where = "a cluster shared volume" if volume is not None and volume.is_csv else "a local volume"
        return "host", f"The Hyper-V VSS writer takes virtual hard disks on {where} of the host."
    if attachment == "shared_virtual_hard_disk":
        return "guest", "The Hyper-V VSS writer leaves out virtual hard disks that several VMs share."
    if attachment == "pass_through":
        return "guest", "The Hyper-V VSS writer leaves out pass-through disks."
    if attachment == "unresolved_pass_through":
        return (
            "guest",
            f"The Hyper-V VSS writer leaves out pass-through disks, and which LUN this one is cannot be told: {problem}.",
        )
    if attachment == "dvd":
        return "none", "A DVD drive needs no backup."
    return "none", "The drive is empty, so there is nothing to back up."


@dataclass(frozen=True, kw_only=True)
class _Devices:
    """The device rows of the realized VMs, by owner and InstanceID (case-folded)."""

    controllers: Mapping[str, list[CimInstance]]
    drives: Mapping[str, list[CimInstance]]
    media: Mapping[str, CimInstance]


def _devices(rows: HostRows, owners: frozenset[str]) -> _Devices:
    """Sort the rows; templates and the devices of snapshots and planned VMs belong to no owner and fall away."""
    controllers: dict[str, list[CimInstance]] = {}
    drives: dict[str, list[CimInstance]] = {}
    media: dict[str, CimInstance] = {}
    seen: set[str] = set()
    for row in rows.resources:
        instance_id = text_of(row, "InstanceID")
        owner = owner_of(instance_id)
        if owner not in owners or instance_id.casefold() in seen:
            continue
        seen.add(instance_id.casefold())
        resource_type = int_of(row, "ResourceType")
        if resource_type in _CONTROLLER_TYPES:
            controllers.setdefault(owner, []).append(row)
        elif resource_type in (_DVD_DRIVE, _DISK_DRIVE):
            drives.setdefault(owner, []).append(row)
    for row in rows.storage:
        instance_id = text_of(row, "InstanceID")
        if owner_of(instance_id) not in owners:
            continue
        by_parent = (referenced_instance_id(text_of(row, "Parent")) or "").casefold()
        media.setdefault(by_parent if by_parent in seen else _drive_of_medium(instance_id).casefold(), row)
    return _Devices(controllers=controllers, drives=drives, media=media)


def _drive_of_medium(instance_id: str) -> str:
    r"""`..\L` -> `..\D` (hyperv-wmi 2.4): the way when `Parent` is NULL or unreadable."""
    return instance_id[:-2] + "\\D" if instance_id[-2:].upper() == "\\L" else instance_id


def _controllers(rows: Sequence[CimInstance]) -> tuple[Controller, ...]:
    """IDE by the last part of the InstanceID, SCSI by position in the host's enumeration (hyperv-wmi 2.4)."""
    found = []
    scsi_seen = 0
    for row in rows:
        instance_id = text_of(row, "InstanceID")
        if int_of(row, "ResourceType") == _IDE_CONTROLLER:
            number = _trailing_number(instance_id)
            if number is None and text_of(row, "Address").isdecimal():
                number = int(text_of(row, "Address"))
            found.append(Controller(id=instance_id, type="IDE", number=number))
        else:
            found.append(Controller(id=instance_id, type="SCSI", number=scsi_seen))
            scsi_seen += 1
    return tuple(found)


def _slot(row: CimInstance, controllers: Mapping[str, Controller]) -> tuple[Slot, str | None]:
    r"""Slot of a drive and the InstanceID of its controller; from `Parent`, else from `..\<slot>\D`."""
    instance_id = text_of(row, "InstanceID")
    parts = instance_id.split("\\")
    by_grammar = "\\".join(parts[:-2]) if len(parts) > 3 and parts[-1].upper() == "D" else ""
    controller_id = referenced_instance_id(text_of(row, "Parent")) or by_grammar
    controller = controllers.get(controller_id.casefold()) or controllers.get(by_grammar.casefold())
    address = text_of(row, "AddressOnParent")
    location = parts[-2] if by_grammar else ""
    is_ide = _IDE_CONTROLLER_GUID in controller_id.upper()
    slot = Slot(
        controller_type=controller.type if controller else ("IDE" if is_ide else "SCSI"),
        controller_number=controller.number if controller else (_trailing_number(controller_id) if is_ide else None),
        controller_location=int(address) if address.isdecimal() else (int(location) if location.isdecimal() else None),
    )
    return slot, (controller.id if controller else controller_id) or None


@dataclass(frozen=True, kw_only=True)
class _DiskContext:
    devices: _Devices
    host_disks: _HostDisks
    volumes: _HostVolumes
    vhds: Mapping[str, VirtualHardDisk]
    luns: Mapping[int, Lun]


def _vm_disk(row: CimInstance, controllers: Mapping[str, Controller], context: _DiskContext) -> VmDisk:
    slot, controller_id = _slot(row, controllers)
    drive_id = text_of(row, "InstanceID")
    sub_type = text_of(row, "ResourceSubType").casefold()
    medium = context.devices.media.get(drive_id.casefold())
    is_dvd = int_of(row, "ResourceType") == _DVD_DRIVE
    path = next(iter(texts_of(medium, "HostResource")), "") if medium is not None else ""
    lun: Lun | None = None
    vhd: VirtualHardDisk | None = None
    volume: HostVolume | None = None
    problem = ""
    if sub_type == _PASS_THROUGH:
        found, problem = context.host_disks.resolve(next(iter(texts_of(row, "HostResource")), ""))
        lun = context.luns.get(found.number) if found is not None and found.number is not None else None
        attachment = "pass_through" if lun is not None else "unresolved_pass_through"
    elif is_dvd:
        attachment = "dvd" if medium is not None or sub_type == _PHYSICAL_DVD else "empty"
        path = path or next(iter(texts_of(row, "HostResource")), "")
    elif medium is None or text_of(medium, "ResourceSubType").casefold() != VIRTUAL_HARD_DISK:
        attachment = "empty"
    else:
        vhd = context.vhds.get(path.casefold()) or vhd_of_path(path)
        volume = context.volumes.of(path) if path else None
        is_shared = bool_of(medium, "PersistentReservationsSupported") or vhd.format == "VHDSet"
        attachment = "shared_virtual_hard_disk" if is_shared else "virtual_hard_disk"
    captured_by, reason = capture_of(attachment, path=path or None, volume=volume, problem=problem)
    return VmDisk(
        slot=slot,
        drive_id=drive_id,
        controller_id=controller_id,
        attachment=attachment,
        path=path or None,
        vhd=vhd,
        lun=lun.identity() if lun is not None else None,
        unique_id=lun.unique_id if lun is not None else None,
        size_bytes=lun.size_bytes if lun is not None else (vhd.size_bytes if vhd is not None else None),
        host_volume=volume,
        captured_by=captured_by,
        reason=reason,
    )


# --- VMs ----------------------------------------------------------------------------------------------------------


def vm_state(row: CimInstance) -> str:
    """The state of a VM in one word; transitional states are told by OtherEnabledState (hyperv-wmi 1.2)."""
    number = int_of(row, "EnabledState")
    other = text_of(row, "OtherEnabledState")
    if number == 1 and other:
        return OTHER_VM_STATES.get(other.casefold(), f"unknown ({other})")
    return word(VM_STATES, number) or "unknown (not told)"


def is_vm(row: CimInstance) -> bool:
    """The host's own row has the computer name where a VM has its GUID; every other sign is localised (hyperv-wmi 1.1)."""
    return vm_guid(text_of(row, "Name")) is not None


def _generation(setting: CimInstance | None) -> int | None:
    if setting is None:
        return None
    tail = _trailing_number(text_of(setting, "VirtualSystemSubType").replace(":", "\\"))
    return 1 if tail is None else tail  # absent on Server 2012, where there is generation 1 only (hyperv-wmi 1.4)


def _checkpoints(settings: Iterable[CimInstance]) -> tuple[Checkpoint, ...]:
    found = []
    for row in settings:
        kind = text_of(row, "VirtualSystemType").casefold()
        if kind.startswith(_SNAPSHOT):
            found.append(
                Checkpoint(
                    id=owner_of(text_of(row, "InstanceID")),
                    name=text_of(row, "ElementName"),
                    type=CHECKPOINT_TYPES.get(kind, f"unknown ({text_of(row, 'VirtualSystemType')})"),
                    created=time_of(row, "CreationTime"),
                )
            )
    return tuple(found)


def _component_state(rows: Mapping[str, CimInstance], vm_id: str) -> str | None:
    row = rows.get(vm_id)
    return word(COMPONENT_STATES, next(iter(ints_of(row, "OperationalStatus")), None)) if row is not None else None


def _kvp_items(row: CimInstance | None) -> dict[str, str]:
    """Intrinsic key-value pairs that the guest tells its host; lists come as `;`-separated text (hyperv-wmi 6.4)."""
    value = row.get("GuestIntrinsicExchangeItems") if row is not None else None
    items = value if isinstance(value, list) else []
    return {text_of(item, "Name"): text_of(item, "Data") for item in items if isinstance(item, CimInstance)}


def _guest_facts(
    vm_id: str, kvp: Mapping[str, CimInstance], vss: Mapping[str, CimInstance], heartbeat: Mapping[str, CimInstance]
) -> GuestFacts:
    items = _kvp_items(kvp.get(vm_id))
    addresses = ";".join(items.get(name, "") for name in ("NetworkAddressIPv4", "NetworkAddressIPv6"))
    return GuestFacts(
        heartbeat=_component_state(heartbeat, vm_id),
        fqdn=items.get("FullyQualifiedDomainName") or None,
        os_name=items.get("OSName") or None,
        os_version=items.get("OSVersion") or None,
        os_family=_os_family(items.get("OSName", ""), items.get("OSPlatformId", "")),
        ip_addresses=tuple(address.strip() for address in addresses.split(";") if address.strip()),
        vss_state=_component_state(vss, vm_id),
    )


def _os_family(name: str, platform: str) -> str | None:
    """OSPlatformId is 2, or 1, for Windows; Linux guests do not tell one and name their distribution (hyperv-wmi 6.4)."""
    if platform.strip() in ("1", "2") or "windows" in name.casefold():
        return "windows"
    return "other" if name.strip() else None


def _clustered_vm_ids(rows: HostRows, names: Mapping[str, str]) -> frozenset[str]:
    """VMs that are cluster resources: by VmID, else by the default names (windows-storage 7.3)."""
    found: set[str] = set()
    by_name: dict[str, list[str]] = {}
    for vm_id, name in names.items():
        by_name.setdefault(name.casefold(), []).append(vm_id)
    for row in rows.cluster_resources:
        properties = row.get("PrivateProperties")
        owner = vm_guid(text_of(properties, "VmID")) if isinstance(properties, CimInstance) else None
        if owner is not None:
            found.add(owner)
            continue
        resource, group = text_of(row, "Name").casefold(), text_of(row, "OwnerGroup").casefold()
        for name in (group, resource.removeprefix("virtual machine ")):
            found.update(by_name.get(name, ()))
    return frozenset(found)


def _fibre_channel(rows: HostRows) -> Mapping[str, list[FibreChannelPort]]:
    """vFC ports by VM; the virtual SAN is the switch that the port's connection names (hyperv-wmi 8)."""
    switches = {text_of(row, "Name").casefold(): text_of(row, "ElementName") for row in rows.fc_switches}
    sans: dict[str, str | None] = {}
    for row in rows.fc_connections:
        port_id = referenced_instance_id(text_of(row, "Parent"))
        switch = referenced_key(next(iter(texts_of(row, "HostResource")), ""), "Name")
        if port_id is not None and switch is not None:
            sans[port_id.casefold()] = switches.get(switch.casefold())
    ports: dict[str, list[FibreChannelPort]] = {}
    for row in rows.fc_ports:
        instance_id = text_of(row, "InstanceID")
        ports.setdefault(owner_of(instance_id), []).append(
            FibreChannelPort(
                wwpn=text_of(row, "VirtualPortWWPN"),
                secondary_wwpn=text_of(row, "SecondaryWWPN"),
                san=sans.get(instance_id.casefold()),
            )
        )
    return ports


def _by_system(rows: Iterable[CimInstance]) -> dict[str, CimInstance]:
    return {text_of(row, "SystemName").upper(): row for row in rows}


def _vm_problems(name: str, row: CimInstance, setting: CimInstance | None, disks: Sequence[VmDisk]) -> tuple[str, ...]:
    problems = []
    if setting is None:
        problems.append(
            f"Hyper-V shows no settings for VM {name}: its configuration is broken or unreachable, and its disks may be "
            f"missing here; repair the VM before relying on this list."
        )
    health = int_of(row, "HealthState")
    if health not in (None, 5):
        problems.append(f"Hyper-V reports the health of VM {name} as {word(VM_HEALTH, health)}.")
    problems += [f"{disk.slot.describe()}: {disk.reason}" for disk in disks if disk.attachment.startswith("unresolved")]
    problems += [f"{disk.slot.describe()}: {disk.vhd.problem}" for disk in disks if disk.vhd and disk.vhd.problem]
    return tuple(problems)


def _settings_by_vm(rows: HostRows) -> tuple[dict[str, CimInstance], dict[str, list[CimInstance]]]:
    """Realized settings by VM, and the settings of snapshots by the VM they belong to."""
    realized: dict[str, CimInstance] = {}
    snapshots: dict[str, list[CimInstance]] = {}
    for row in rows.settings:
        vm_id = text_of(row, "VirtualSystemIdentifier").upper()
        kind = text_of(row, "VirtualSystemType").casefold()
        if kind == _REALIZED:
            realized[vm_id] = row
        elif kind.startswith(_SNAPSHOT):
            snapshots.setdefault(vm_id, []).append(row)
    return realized, snapshots


def build_host_view(rows: HostRows, *, selected: frozenset[str] | None = None) -> HostView:
    """Join the rows of a host. `selected` are the GUIDs of the VMs to tell about; None for all.

    Every step is one pass over rows with look-ups by key, so that the work grows with the rows and not with their
    product.
    """
    systems = {text_of(row, "Name").upper(): row for row in rows.systems if is_vm(row)}
    names = {vm_id: text_of(row, "ElementName") for vm_id, row in systems.items()}
    all_names = {**{vm_id.upper(): name for vm_id, name in rows.vm_names.items()}, **names}
    devices = _devices(rows, frozenset(all_names))
    controllers = {vm_id: _controllers(found) for vm_id, found in devices.controllers.items()}
    host_disks = _HostDisks(rows)
    attached: dict[int, list[LunAttachment]] = {}
    for vm_id, drives in devices.drives.items():
        by_id = {controller.id.casefold(): controller for controller in controllers.get(vm_id, ())}
        for row in drives:
            if text_of(row, "ResourceSubType").casefold() != _PASS_THROUGH:
                continue
            lun, _unused = host_disks.resolve(next(iter(texts_of(row, "HostResource")), ""))
            if lun is not None and lun.number is not None:
                attachment = LunAttachment(vm_id=vm_id, vm_name=all_names.get(vm_id), slot=_slot(row, by_id)[0])
                attached.setdefault(lun.number, []).append(attachment)
    luns = build_luns(rows.disks, attached)
    context = _DiskContext(
        devices=devices,
        host_disks=host_disks,
        volumes=_HostVolumes(rows.volumes),
        vhds=rows.vhds,
        luns={lun.number: lun for lun in luns if lun.number is not None},
    )
    realized, snapshots = _settings_by_vm(rows)
    clustered = _clustered_vm_ids(rows, names)
    ports = _fibre_channel(rows)
    kvp, vss, heartbeat = _by_system(rows.kvp), _by_system(rows.vss), _by_system(rows.heartbeats)
    vms = []
    for vm_id, row in systems.items():
        if selected is not None and vm_id not in selected:
            continue
        setting = realized.get(vm_id)
        by_id = {controller.id.casefold(): controller for controller in controllers.get(vm_id, ())}
        disks = tuple(_vm_disk(drive, by_id, context) for drive in devices.drives.get(vm_id, ()))
        replication_mode = int_of(row, "ReplicationMode")
        statuses = ints_of(row, "OperationalStatus")
        vms.append(
            VirtualMachine(
                id=vm_id,
                name=names[vm_id],
                state=vm_state(row),
                health=word(VM_HEALTH, int_of(row, "HealthState")),
                generation=_generation(setting),
                version=(text_of(setting, "Version") or None) if setting else None,
                notes="\n".join(texts_of(setting, "Notes")) if setting else "",
                automatic_start_action=word(START_ACTIONS, int_of(setting, "AutomaticStartupAction"))
                if setting
                else None,
                automatic_stop_action=word(STOP_ACTIONS, int_of(setting, "AutomaticShutdownAction"))
                if setting
                else None,
                checkpoints=_checkpoints(snapshots.get(vm_id, ())),
                replication=Replication(
                    state=word(REPLICATION_STATES, int_of(row, "ReplicationState")),
                    mode=word(REPLICATION_MODES, replication_mode),
                    is_replica=replication_mode in REPLICA_MODES,
                ),
                is_clustered=vm_id in clustered,
                fibre_channel_ports=tuple(ports.get(vm_id, ())),
                configuration=VmConfiguration(
                    data_root=(text_of(setting, "ConfigurationDataRoot") or None) if setting else None,
                    file=(text_of(setting, "ConfigurationFile") or None) if setting else None,
                    snapshot_root=(text_of(setting, "SnapshotDataRoot") or None) if setting else None,
                ),
                guest=_guest_facts(vm_id, kvp, vss, heartbeat),
                busy=word(VM_BUSY, statuses[1]) if len(statuses) > 1 else None,
                controllers=controllers.get(vm_id, ()),
                disks=disks,
                network_adapters=rows.network_adapters.get(vm_id, ()),
                problems=_vm_problems(names[vm_id], row, setting, disks),
            )
        )
    machine = rows.machine
    return HostView(
        host=HostInfo(
            name=machine.computer_name,
            os_caption=machine.os_caption,
            os_version=machine.os_version,
            os_build=machine.os_build,
            is_server=machine.is_server,
            utc=machine.utc,
            cluster=rows.cluster,
            disk_policy=word(DISK_POLICIES, rows.disk_policy),
        ),
        luns=luns,
        vms=tuple(vms),
        problems=tuple(rows.problems),
    )
