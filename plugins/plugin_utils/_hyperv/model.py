# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""The records that an observation of a host consists of, and the words for CIM's numbers.

Records are data: frozen, keyword-only, equal by value; `None` means that the machine did not tell. `to_dict()` gives
JSON types only and is the documented shape of what the tasks return. Sizes are bytes, times are UTC.
Numbers become Microsoft's words; a number without a known word stays visible as `unknown (n)`.

Not here: a guest's records (`guest_model`: no task on a host pays for making them), how records are made (`host_topology`,
`disk_identity`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime, timezone


def plain(value: object) -> object:
    """Records, tuples, mappings and times as JSON types."""
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {name: plain(item) for name, item in value.__dict__.items()}  # the fields, in their order
    if isinstance(value, datetime):
        return utc_text(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return [plain(item) for item in value]
    return value


def utc_text(moment: datetime) -> str:
    """`2026-10-08T15:15:36Z`, with as many fraction digits as the moment has."""
    return moment.astimezone(timezone.utc).replace(tzinfo=None).isoformat() + "Z"


def record_dict(record: object) -> dict[str, object]:
    value = plain(record)
    if not isinstance(value, dict):
        raise TypeError(f"{type(record).__name__} is not a record")
    return value


# --- Words for numbers --------------------------------------------------------------------------------------------


def word(table: Mapping[int, str], number: int | None) -> str | None:
    """The word for a number; `unknown (n)` when there is none, None for NULL."""
    if number is None:
        return None
    return table.get(number, f"unknown ({number})")


# hyperv-wmi 1.2; 1 (Other) is told by OtherEnabledState
VM_STATES: Mapping[int, str] = {
    2: "running",
    3: "off",
    4: "stopping",
    6: "saved",
    9: "paused",
    10: "starting",
    11: "resetting",
}
OTHER_VM_STATES: Mapping[str, str] = {
    "saving": "saving",
    "quiescing": "pausing",
    "resuming": "resuming",
    "fastsaving": "fast_saving",
    "componentservicing": "component_servicing",
}
# hyperv-wmi 1.3, OperationalStatus[1]
VM_BUSY: Mapping[int, str] = {
    32768: "creating_snapshot",
    32769: "applying_snapshot",
    32770: "deleting_snapshot",
    32771: "waiting_to_start",
    32772: "merging_disks",
    32773: "exporting_virtual_machine",
    32774: "migrating_virtual_machine",
}
VM_HEALTH: Mapping[int, str] = {5: "ok", 20: "major_failure", 25: "critical_failure"}
# hyperv-wmi 1.4, in the words of Set-VM
START_ACTIONS: Mapping[int, str] = {2: "Nothing", 3: "StartIfRunning", 4: "Start"}
STOP_ACTIONS: Mapping[int, str] = {2: "TurnOff", 3: "Save", 4: "ShutDown"}
CHECKPOINT_TYPES: Mapping[str, str] = {
    "microsoft:hyper-v:snapshot:realized": "standard",
    "microsoft:hyper-v:snapshot:recovery": "recovery",
    "microsoft:hyper-v:snapshot:planned": "planned",
    "microsoft:hyper-v:snapshot:missing": "missing",
    "microsoft:hyper-v:snapshot:replica:standard": "replica",
    "microsoft:hyper-v:snapshot:replica:applicationconsistent": "application_consistent_replica",
    "microsoft:hyper-v:snapshot:replica:plannedfailover": "planned_failover",
}
# documentation of Msvm_ComputerSystem (Win32 Hyper-V reference)
REPLICATION_MODES: Mapping[int, str] = {
    0: "none",
    1: "primary",
    2: "replica",
    3: "test_replica",
    4: "extended_replica",
}
REPLICA_MODES = frozenset([2, 3, 4])
REPLICATION_STATES: Mapping[int, str] = {
    0: "disabled",
    1: "ready_for_replication",
    2: "waiting_to_complete_initial_replication",
    3: "replicating",
    4: "synced_replication_complete",
    5: "recovered",
    6: "committed",
    7: "suspended",
    8: "critical",
    9: "waiting_to_start_resynchronization",
    10: "resynchronizing",
    11: "resynchronization_suspended",
    12: "failover_in_progress",
    13: "failback_in_progress",
    14: "failback_complete",
}
# hyperv-wmi 6.3, OperationalStatus[0] of every integration component
COMPONENT_STATES: Mapping[int, str] = {
    2: "ok",
    3: "degraded",
    6: "error",
    7: "non_recoverable_error",
    12: "no_contact",
    13: "lost_communication",
    15: "paused",
}
# hyperv-wmi 5.2
VHD_TYPES: Mapping[int, str] = {2: "fixed", 3: "dynamic", 4: "differencing"}
VHD_FORMATS: Mapping[int, str] = {2: "VHD", 3: "VHDX", 4: "VHDSet"}
# windows-storage 2.2
BUS_TYPES: Mapping[int, str] = {
    0: "Unknown",
    1: "SCSI",
    2: "ATAPI",
    3: "ATA",
    4: "1394",
    5: "SSA",
    6: "Fibre Channel",
    7: "USB",
    8: "RAID",
    9: "iSCSI",
    10: "SAS",
    11: "SATA",
    12: "SD",
    13: "MMC",
    14: "Virtual",
    15: "File Backed Virtual",
    16: "Storage Spaces",
    17: "NVMe",
    18: "SCM",
    19: "UFS",
}
PARTITION_STYLES: Mapping[int, str] = {0: "RAW", 1: "MBR", 2: "GPT"}
PROVISIONING_TYPES: Mapping[int, str] = {0: "Unknown", 1: "Thin", 2: "Fixed"}
# 0 is shown while a disk is online
OFFLINE_REASONS: Mapping[int, str] = {
    1: "Policy",
    2: "Redundant Path",
    3: "Snapshot",
    4: "Collision",
    5: "Resource Exhaustion",
    6: "Critical Write Failures",
    7: "Data Integrity Scan Required",
    8: "Lost Data Persistence",
}
DISK_POLICIES: Mapping[int, str] = {
    0: "Unknown",
    1: "OnlineAll",
    2: "OfflineShared",
    3: "OfflineAll",
    4: "OfflineInternal",
}


# --- Host ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ClusterMembership:
    member: bool
    name: str | None = None


@dataclass(frozen=True, kw_only=True)
class HostInfo:
    name: str
    os_caption: str
    os_version: str
    os_build: int
    is_server: bool
    utc: datetime
    cluster: ClusterMembership
    disk_policy: str | None


@dataclass(frozen=True, kw_only=True)
class Slot:
    """Where a disk sits in a VM, in PowerShell's words.

    The number of a SCSI controller is the position in the host's enumeration: nothing proves that PowerShell counts the
    same way (hyperv-wmi 2.4), so that `controller_id` is what identifies the controller.
    """

    controller_type: str
    controller_number: int | None
    controller_location: int | None

    def describe(self) -> str:
        def shown(number: int | None) -> str:
            return "?" if number is None else str(number)

        return f"{self.controller_type} {shown(self.controller_number)}:{shown(self.controller_location)}"


@dataclass(frozen=True, kw_only=True)
class LunAttachment:
    vm_id: str
    vm_name: str | None
    slot: Slot


@dataclass(frozen=True, kw_only=True)
class LunIdentity:
    """What identifies a LUN beyond the disk number of the moment."""

    unique_id: str
    unique_id_format: int | None
    serial_number: str
    number: int | None
    friendly_name: str
    size_bytes: int | None
    partition_style: str | None
    guid: str | None
    signature: int | None
    weak_identity: bool


@dataclass(frozen=True, kw_only=True)
class Lun:
    """A physical disk as the host sees it (MSFT_Disk)."""

    unique_id: str
    unique_id_format: int | None
    serial_number: str
    number: int | None
    friendly_name: str
    manufacturer: str
    model: str
    size_bytes: int | None
    logical_sector_bytes: int | None
    physical_sector_bytes: int | None
    bus_type: str | None
    provisioning: str | None
    partition_style: str | None
    guid: str | None
    signature: int | None
    is_offline: bool
    offline_reason: str | None
    is_read_only: bool
    is_boot: bool
    is_system: bool
    is_clustered: bool
    location: str
    weak_identity: bool
    attached_to: tuple[LunAttachment, ...]
    object_id: str

    def identity(self) -> LunIdentity:
        return LunIdentity(**{item.name: getattr(self, item.name) for item in fields(LunIdentity)})

    def describe(self) -> str:
        return f"{self.friendly_name or 'disk'} with UniqueId {self.unique_id or '(none)'}"


@dataclass(frozen=True, kw_only=True)
class VirtualHardDisk:
    """A VHD file. Without details only format (from the extension) and, for a checkpoint's file, type are known."""

    format: str | None
    type: str | None
    id: str | None = None
    unique_ids: tuple[str, ...] = ()
    size_bytes: int | None = None
    file_size_bytes: int | None = None
    parent_path: str | None = None
    logical_sector_bytes: int | None = None
    physical_sector_bytes: int | None = None
    block_bytes: int | None = None
    problem: str | None = None


@dataclass(frozen=True, kw_only=True)
class HostVolume:
    """The volume of the host that holds a VHD file."""

    path: str | None
    letter: str | None
    file_system: str | None
    is_csv: bool
    is_remote: bool


@dataclass(frozen=True, kw_only=True)
class VmDisk:
    slot: Slot
    drive_id: str
    controller_id: str | None
    attachment: str
    path: str | None
    vhd: VirtualHardDisk | None
    lun: LunIdentity | None
    unique_id: str | None
    size_bytes: int | None
    host_volume: HostVolume | None
    captured_by: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    id: str
    name: str
    type: str
    created: datetime | None


@dataclass(frozen=True, kw_only=True)
class Replication:
    state: str | None
    mode: str | None
    is_replica: bool


@dataclass(frozen=True, kw_only=True)
class FibreChannelPort:
    wwpn: str
    secondary_wwpn: str
    san: str | None


@dataclass(frozen=True, kw_only=True)
class NetworkAdapter:
    """`switch_name` is None when the adapter is not connected, or to a switch that the host does not have."""

    name: str
    mac_address: str
    is_synthetic: bool
    switch_name: str | None
    switch_id: str | None


@dataclass(frozen=True, kw_only=True)
class VmConfiguration:
    data_root: str | None
    file: str | None
    snapshot_root: str | None


@dataclass(frozen=True, kw_only=True)
class GuestFacts:
    """What the host knows of the guest through integration services; all None when nothing answers inside.

    Attributes:
        os_family: `windows`, or `other` for a guest that names itself and says nothing that only Windows says.
    """

    heartbeat: str | None = None
    fqdn: str | None = None
    os_name: str | None = None
    os_version: str | None = None
    os_family: str | None = None
    ip_addresses: tuple[str, ...] = ()
    vss_state: str | None = None


@dataclass(frozen=True, kw_only=True)
class Controller:
    id: str
    type: str
    number: int | None


@dataclass(frozen=True, kw_only=True)
class VirtualMachine:
    id: str
    name: str
    state: str
    health: str | None
    generation: int | None
    version: str | None
    notes: str
    automatic_start_action: str | None
    automatic_stop_action: str | None
    checkpoints: tuple[Checkpoint, ...]
    replication: Replication
    is_clustered: bool
    fibre_channel_ports: tuple[FibreChannelPort, ...]
    configuration: VmConfiguration
    guest: GuestFacts
    busy: str | None
    controllers: tuple[Controller, ...]
    disks: tuple[VmDisk, ...]
    network_adapters: tuple[NetworkAdapter, ...] = ()
    problems: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, object]:
        return record_dict(self)


@dataclass(frozen=True, kw_only=True)
class HostView:
    """One observation of a Hyper-V host: what `disk_info` returns. `problems` are sentences about what was not told."""

    host: HostInfo
    luns: tuple[Lun, ...]
    vms: tuple[VirtualMachine, ...]
    problems: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, object]:
        return record_dict(self)
