# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""The disks, volumes and pools of a Windows guest, joined from rows: pure functions, no question is asked here.

A disk's kind follows the decision table of windows-storage 4.2. It is the guest's view, which for pass-through is only
likely: the proof comes from the host, and coverage demands that both agree.

Not here: reading the rows (`guest`), the host's disks (`host_topology`), coverage (`_backup`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from .._wsman import CimInstance, CimPath
from .cim_access import bool_of, int_of, ints_of, text_of, texts_of, trimmed_text_of
from .disk_identity import disk_guid, distinct_disks, is_weak_identity, repeated_unique_ids, scsi_lun
from .guest_model import (
    BitLocker,
    GuestDisk,
    GuestInfo,
    GuestPartition,
    GuestView,
    GuestVolume,
    InitiatorPort,
    IscsiConnection,
    IscsiPortal,
    IscsiSession,
    StoragePool,
)
from .model import BUS_TYPES, OFFLINE_REASONS, PARTITION_STYLES, word

# windows-storage 2.2
_ATA, _FIBRE_CHANNEL, _ISCSI, _SAS, _FILE_BACKED, _STORAGE_SPACES = 3, 6, 9, 10, 15, 16
_VHD_UNIQUE_ID_PREFIXES = ("60022480", "4D53465420202020")  # windows-storage 4.2
_FC_INITIATOR = 1
_IN_A_POOL = 2  # MSFT_PhysicalDisk.CannotPoolReason (windows-storage 3.5)
_FIXED_DRIVE = 3

# windows-storage 3.1; MBR type 0x42 marks a dynamic disk
_BASIC_DATA = "{ebd0a0a2-b9e5-4433-87c0-68b6b72699c7}"
_LDM_TYPES = frozenset(["{5808c8aa-7e8f-42e0-85d2-e1e90434cfb3}", "{af9b60a0-1431-4f62-bc68-3311714a69ad}"])
_MBR_DYNAMIC = 0x42
_MBR_WITHOUT_VOLUME = frozenset([0, 5, 0x0F, _MBR_DYNAMIC, 0xEE])  # nothing, extended, dynamic, protective
_MBR, _GPT = 1, 2


@dataclass(frozen=True, kw_only=True)
class GuestRows:
    """Everything that was read of a guest, as it came.

    `bitlocker` maps the case-folded volume path to its state; None when the guest has no BitLocker at all.
    """

    guest: GuestInfo
    disks: Sequence[CimInstance] = ()
    partitions: Sequence[CimInstance] = ()
    volumes: Sequence[CimInstance] = ()
    win32_volumes: Sequence[CimInstance] = ()
    physical_disks: Sequence[CimInstance] = ()
    pools: Sequence[CimInstance] = ()
    iscsi_sessions: Sequence[CimInstance] = ()
    iscsi_disks: Sequence[CimInstance] = ()
    iscsi_portals: Sequence[CimInstance] = ()
    initiator_ports: Sequence[CimInstance] = ()
    bitlocker: Mapping[str, BitLocker] | None = None
    problems: Sequence[str] = field(default=())


def disk_kind(row: CimInstance, *, has_fibre_channel: bool) -> str:
    """What a guest's disk is, by bus and maker (windows-storage 4.2); `row` is an MSFT_Disk or MSFT_PhysicalDisk.

    The order matters: a LUN of a Windows iSCSI target calls itself "MSFT Virtual HD" too, so that the bus goes first.
    """
    bus = int_of(row, "BusType")
    maker, model = trimmed_text_of(row, "Manufacturer").casefold(), trimmed_text_of(row, "Model").casefold()
    by_bus = {_ISCSI: "iscsi", _FILE_BACKED: "mounted_virtual_hard_disk", _STORAGE_SPACES: "storage_space"}
    if bus in by_bus:
        return by_bus[bus]
    if bus == _FIBRE_CHANNEL:
        return "virtual_fibre_channel" if has_fibre_channel else "unknown"
    if bus == _SAS:
        is_vhd = (maker == "msft" and model == "virtual disk") or trimmed_text_of(row, "UniqueId").upper().startswith(
            _VHD_UNIQUE_ID_PREFIXES
        )
        return "virtual_hard_disk" if is_vhd else "pass_through"
    if bus == _ATA:
        is_vhd = model == "virtual hd" or "DISKVIRTUAL_HD" in trimmed_text_of(row, "UniqueId").upper()
        return "virtual_hard_disk" if is_vhd else "pass_through"
    return "unknown"


def drive_letter(row: CimInstance) -> str | None:
    """A letter of MSFT_Partition or MSFT_Volume (a character) or of Win32_Volume (`D:`); None when there is none."""
    value = trimmed_text_of(row, "DriveLetter")[:1].upper()
    return value if "A" <= value <= "Z" else None


def _volume_key(path: str) -> str:
    r"""One spelling for `\\?\Volume{..}\` in AccessPaths, MSFT_Volume.Path and Win32_Volume.DeviceID."""
    return path.rstrip("\\").casefold()


def _is_volume_path(path: str) -> bool:
    return path.casefold().startswith("\\\\?\\volume{")


@dataclass(frozen=True, kw_only=True)
class _VolumeTables:
    volumes: Mapping[str, CimInstance]
    win32: Mapping[str, CimInstance]
    bitlocker: Mapping[str, BitLocker] | None

    def volume(self, path: str | None, partition: CimInstance | None) -> GuestVolume:
        """Join one volume; MSFT_Volume is preferred, Win32_Volume alone knows the file system's serial number."""
        key = _volume_key(path) if path else ""
        row, win32 = self.volumes.get(key), self.win32.get(key)
        file_system = _first_text(row, "FileSystem", win32, "FileSystem")
        size = _first_int(row, "Size", win32, "Capacity")
        free = _first_int(row, "SizeRemaining", win32, "FreeSpace")
        size_of_partition = int_of(partition, "Size") if partition is not None else None
        access_paths = texts_of(partition, "AccessPaths") if partition is not None else _win32_paths(win32)
        letter = next(
            filter(None, (drive_letter(found) for found in (partition, row, win32) if found is not None)), None
        )
        has_size = bool(file_system) and size is not None
        return GuestVolume(
            path=path,
            letter=letter,
            access_paths=tuple(access for access in access_paths if not _is_volume_path(access)),
            label=_first_text(row, "FileSystemLabel", win32, "Label"),
            file_system=file_system or None,
            size_bytes=size if size else size_of_partition,
            used_bytes=size - free if has_size and size is not None and free is not None else None,
            serial_number=int_of(win32, "SerialNumber") if win32 is not None else None,
            allocation_unit_bytes=_first_int(row, "AllocationUnitSize", win32, "BlockSize") or None,
            partition_number=int_of(partition, "PartitionNumber") if partition is not None else None,
            offset_bytes=int_of(partition, "Offset") if partition is not None else None,
            is_boot=_any_true((partition, "IsBoot"), (win32, "BootVolume")),
            is_system=_any_true((partition, "IsSystem"), (win32, "SystemVolume")),
            bitlocker=self.bitlocker.get(key) if self.bitlocker is not None else None,
        )


def _first_text(row: CimInstance | None, name: str, other: CimInstance | None, other_name: str) -> str:
    return (text_of(row, name) if row is not None else "") or (text_of(other, other_name) if other is not None else "")


def _first_int(row: CimInstance | None, name: str, other: CimInstance | None, other_name: str) -> int | None:
    value = int_of(row, name) if row is not None else None
    if value is None and other is not None:
        value = int_of(other, other_name)
    return value


def _any_true(*pairs: tuple[CimInstance | None, str]) -> bool:
    return any(row is not None and bool_of(row, name) for row, name in pairs)


def _win32_paths(row: CimInstance | None) -> tuple[str, ...]:
    name = text_of(row, "Name") if row is not None else ""
    return (name,) if name else ()


def _needs_volume(partition: CimInstance, style: int | None) -> bool:
    """Whether a partition is for data, so that one without a volume must be shown and not passed over."""
    gpt_type = text_of(partition, "GptType").lower()
    if gpt_type:
        return gpt_type == _BASIC_DATA
    return style == _MBR and int_of(partition, "MbrType") not in (None, *_MBR_WITHOUT_VOLUME)


def _is_dynamic(partitions: Iterable[CimInstance]) -> bool:
    return any(
        text_of(row, "GptType").lower() in _LDM_TYPES or int_of(row, "MbrType") == _MBR_DYNAMIC for row in partitions
    )


def _iscsi_by_disk(rows: GuestRows) -> Mapping[str, IscsiConnection]:
    """Connection by the disk's ObjectId; both ends of the association are references."""
    sessions = {text_of(row, "SessionIdentifier").casefold(): row for row in rows.iscsi_sessions}
    portals = tuple(
        IscsiPortal(address=text_of(row, "TargetPortalAddress"), port=int_of(row, "TargetPortalPortNumber"))
        for row in rows.iscsi_portals
        if text_of(row, "TargetPortalAddress")
    )
    found: dict[str, IscsiConnection] = {}
    for row in rows.iscsi_disks:
        disk, session = _key_of(row, "Disk", "ObjectId"), _key_of(row, "iSCSISession", "SessionIdentifier")
        if disk and session:
            row_of_session = sessions.get(session.casefold())
            found[disk.casefold()] = IscsiConnection(
                target="" if row_of_session is None else text_of(row_of_session, "TargetNodeAddress"),
                session=session,
                authentication=None
                if row_of_session is None
                else text_of(row_of_session, "AuthenticationType") or None,
                portals=portals,
            )
    return found


def _key_of(row: CimInstance, end: str, key: str) -> str:
    """A key of one end of an association, whether it comes as a reference or as the object itself."""
    value = row.get(end)
    if isinstance(value, CimPath):
        found = value.key(key)
        return found if isinstance(found, str) else ""
    return text_of(value, key) if isinstance(value, CimInstance) else ""


def build_guest_view(rows: GuestRows) -> GuestView:
    """Join the rows of a guest; look-ups by key throughout."""
    tables = _VolumeTables(
        volumes={_volume_key(text_of(row, "Path")): row for row in rows.volumes},
        win32={_volume_key(text_of(row, "DeviceID")): row for row in rows.win32_volumes},
        bitlocker=rows.bitlocker,
    )
    disk_rows = distinct_disks(rows.disks)
    partitions: dict[int, list[CimInstance]] = {}
    for row in rows.partitions:
        number = int_of(row, "DiskNumber")
        if number is not None:
            partitions.setdefault(number, []).append(row)
    pooled_numbers, pooled_rows = _pooled_disks(rows, {int_of(row, "Number") for row in disk_rows})
    repeated = repeated_unique_ids([*disk_rows, *pooled_rows])
    initiators = tuple(
        InitiatorPort(node_address=text_of(row, "NodeAddress"), port_address=text_of(row, "PortAddress"))
        for row in rows.initiator_ports
        if int_of(row, "ConnectionType") == _FC_INITIATOR
    )
    connections = _iscsi_by_disk(rows)
    joined: set[str] = set()
    disks = []
    for row in disk_rows:
        number = int_of(row, "Number")
        own = sorted(partitions.get(number, ()) if number is not None else (), key=_partition_order)
        volumes = _volumes_of(row, own, tables)
        joined.update(_volume_key(volume.path) for volume in volumes if volume.path)
        disks.append(
            _guest_disk(
                row,
                kind=disk_kind(row, has_fibre_channel=bool(initiators)),
                iscsi=connections.get(text_of(row, "ObjectId").casefold()),
                repeated=repeated,
                is_dynamic=_is_dynamic(own),
                in_pool=number in pooled_numbers,
                volumes=volumes,
                partitions=tuple(partition_record(one) for one in own),
            )
        )
    for row in pooled_rows:
        disks.append(
            _guest_disk(
                row,
                kind=disk_kind(row, has_fibre_channel=bool(initiators)),
                iscsi=None,
                repeated=repeated,
                is_dynamic=False,
                in_pool=True,
                volumes=(),
            )
        )
    return GuestView(
        guest=rows.guest,
        disks=tuple(disks),
        storage_pools=_pools(rows),
        iscsi_sessions=tuple(
            IscsiSession(
                session=text_of(row, "SessionIdentifier"),
                target=text_of(row, "TargetNodeAddress"),
                initiator=text_of(row, "InitiatorNodeAddress"),
                is_connected=bool_of(row, "IsConnected"),
                is_persistent=bool_of(row, "IsPersistent"),
            )
            for row in rows.iscsi_sessions
        ),
        fibre_channel_initiators=initiators,
        volumes_without_disk=tuple(
            tables.volume(text_of(row, "DeviceID"), None)
            for key, row in tables.win32.items()
            if key and key not in joined and int_of(row, "DriveType") == _FIXED_DRIVE
        ),
        problems=tuple(rows.problems),
    )


def _partition_order(row: CimInstance) -> int:
    return int_of(row, "Offset") or 0


def partition_record(row: CimInstance) -> GuestPartition:
    return GuestPartition(
        number=int_of(row, "PartitionNumber"),
        offset_bytes=int_of(row, "Offset"),
        size_bytes=int_of(row, "Size"),
        gpt_type=text_of(row, "GptType").lower() or None,
        mbr_type=int_of(row, "MbrType") or None,
        guid=text_of(row, "Guid").lower() or None,
        is_active=bool_of(row, "IsActive"),
    )


def _volumes_of(disk: CimInstance, partitions: Sequence[CimInstance], tables: _VolumeTables) -> tuple[GuestVolume, ...]:
    """The volumes on a disk, by offset. On an offline disk Windows has no volumes, only the layout."""
    found = []
    for row in partitions:
        path = next(filter(_is_volume_path, texts_of(row, "AccessPaths")), None)
        if path is not None or (_needs_volume(row, int_of(disk, "PartitionStyle")) and not bool_of(disk, "IsOffline")):
            found.append(tables.volume(path, row))
    return tuple(found)


def _pooled_disks(rows: GuestRows, numbers: set[int | None]) -> tuple[frozenset[int], list[CimInstance]]:
    """Numbers of disks that are in a storage pool, and the pool members that MSFT_Disk hides.

    Windows takes the members of a pool out of its disks; without them a LUN of the host would map to nothing.
    """
    found: set[int] = set()
    hidden = []
    for row in rows.physical_disks:
        if _IN_A_POOL not in ints_of(row, "CannotPoolReason"):
            continue
        device = trimmed_text_of(row, "DeviceId")
        number = int(device) if device.isdecimal() else None
        if number is not None and number in numbers:
            found.add(number)
        else:
            hidden.append(row)
    return frozenset(found), hidden


def _guest_disk(
    row: CimInstance,
    *,
    kind: str,
    iscsi: IscsiConnection | None,
    repeated: frozenset[str],
    is_dynamic: bool,
    in_pool: bool,
    volumes: tuple[GuestVolume, ...],
    partitions: tuple[GuestPartition, ...] = (),
) -> GuestDisk:
    unique_id, unique_id_format = trimmed_text_of(row, "UniqueId"), int_of(row, "UniqueIdFormat")
    device = trimmed_text_of(row, "DeviceId")  # MSFT_PhysicalDisk: the disk number as text
    is_offline = bool_of(row, "IsOffline")
    return GuestDisk(
        unique_id=unique_id,
        unique_id_format=unique_id_format,
        serial_number=trimmed_text_of(row, "SerialNumber"),
        number=int(device) if device.isdecimal() else int_of(row, "Number"),
        friendly_name=trimmed_text_of(row, "FriendlyName"),
        manufacturer=trimmed_text_of(row, "Manufacturer"),
        model=trimmed_text_of(row, "Model"),
        kind=kind,
        iscsi=iscsi,
        size_bytes=int_of(row, "Size"),
        bus_type=word(BUS_TYPES, int_of(row, "BusType")),
        scsi_lun=scsi_lun(trimmed_text_of(row, "Location") or trimmed_text_of(row, "PhysicalLocation")),
        partition_style=word(PARTITION_STYLES, int_of(row, "PartitionStyle")),
        guid=disk_guid(row),
        signature=int_of(row, "Signature"),
        is_offline=is_offline,
        offline_reason=word(OFFLINE_REASONS, int_of(row, "OfflineReason")) if is_offline else None,
        is_read_only=bool_of(row, "IsReadOnly"),
        is_boot=bool_of(row, "IsBoot"),
        is_system=bool_of(row, "IsSystem"),
        is_clustered=bool_of(row, "IsClustered"),
        is_dynamic=is_dynamic,
        in_storage_pool=in_pool,
        weak_identity=is_weak_identity(unique_id, unique_id_format, repeated),
        volumes=volumes,
        partitions=partitions,
    )


def _pools(rows: GuestRows) -> tuple[StoragePool, ...]:
    """Pools that somebody made; the primordial one is only the list of what could be pooled."""
    members: dict[str, list[str]] = {}
    for row in rows.physical_disks:
        if _IN_A_POOL in ints_of(row, "CannotPoolReason"):
            members.setdefault(text_of(row, "StoragePoolUniqueId").casefold(), []).append(
                trimmed_text_of(row, "UniqueId")
            )
    return tuple(
        StoragePool(
            unique_id=trimmed_text_of(row, "UniqueId"),
            name=trimmed_text_of(row, "FriendlyName"),
            size_bytes=int_of(row, "Size"),
            is_clustered=bool_of(row, "IsClustered"),
            member_unique_ids=tuple(members.get(trimmed_text_of(row, "UniqueId").casefold(), ())),
        )
        for row in rows.pools
        if not bool_of(row, "IsPrimordial")
    )
