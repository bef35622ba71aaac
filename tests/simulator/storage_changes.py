# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Responsible for the methods of root/microsoft/windows/storage: disks, partitions, volumes, images, rescans.

Every refusal has the return code that the facts give for it, with its ExtendedStatus.
Facts: windows-storage 2.3, 2.4 (codes), 3.1, 3.2, 6 (SAN policy, collisions), 8 (state machine).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace

from .assumed import assumed
from .cim import CimFault, Instance, Value
from .disks import REASON_NONE, REASON_POLICY, Disk
from .file_system import BlockFileSystem, DirectoryFileSystem, FileSystemError
from .mounted_images import dismount_image, find_mounted, mount_image
from .partition_table import (
    BASIC_DATA,
    EFI_SYSTEM,
    GPT,
    MBR,
    MIB,
    MICROSOFT_RESERVED,
    RAW,
    RECOVERY,
    Partition,
    clear_table,
    free_ranges,
    initialised,
)
from .service import method
from .storage import NS, Row, embedded, image_row, job_row, partition_id, partition_row, volume_id, volume_row
from .vhd import ImageError
from .volumes import Volume, lay_file_system
from .world import Machine

GPT_MINIMUM = 128 * MIB

assumed(
    "initialize-refusal",
    "Initialize of an offline disk answers 41003, of a read-only one 41002",
    source="facts windows-storage 2.4, 9.3",
)
assumed(
    "collision-online",
    "Online of a disk that collides with another writes new identifiers to it, or is refused",
    source="facts windows-storage 6.4, 9.13",
    values=("re-signs", "refused"),
)
assumed(
    "format-without-access-path",
    "Format of a volume without letter or folder",
    source="facts windows-storage 2.6, 9.9",
    values=("works", "returns 5"),
)
assumed(
    "format-windows-extra",
    "What Windows' own Format takes of an NTFS volume beyond what mkntfs does: nothing, or 128 MiB (a 32nd of small ones)",
    source="facts windows-storage 5.2: up to 64 MiB more and up to 64 MiB of reserved clusters were observed",
    values=("none", "as-observed"),
)
assumed(
    "format-existing",
    "Format of a volume that has a file system needs Force (answers 5 without)",
    source="facts windows-storage 3.2",
    values=("needs Force", "works"),
)
assumed(
    "online-while-attached",
    "Online of a host disk that a running VM holds is refused with 6 (in use)",
    source="facts windows-storage 6.3",
)
assumed(
    "host-drive-row-delay",
    "Reads of Msvm_DiskDrive after Offline until the host's row appears",
    source="facts hyperv-wmi 3.1",
    values=("1", "0", "3"),
)

_MESSAGES = {
    1: "Not Supported",
    4: "Failed",
    5: "Invalid Parameter",
    6: "The object is in use",
    40000: "There is not enough free space",
    40001: "Access denied",
    40003: "The storage management cache is out of date",
    40005: "Specify a size or the maximum size, not both",
    4097: "Size Not Supported",
    41000: "The disk has not been initialized",
    41001: "The disk has already been initialized",
    41002: "The disk is read only",
    41003: "The disk is offline",
    41005: "The alignment is not a multiple of the sector size",
    41006: "The parameter is not valid for this partition style",
    41007: "The disk holds OEM partitions",
    41008: "The disk holds data partitions",
    41009: "Operation not supported on a critical disk",
    41010: "The specified partition type is not valid",
    41014: "The disk is too small for GPT",
    41016: "The offset is not valid",
    41018: "The disk is managed by the cluster: maintenance mode is needed",
    41019: "The disk must first be removed from the cluster",
    42002: "The requested access path is already in use",
    42004: "A hidden partition cannot have an access path",
    42005: "The volume GUID path cannot be removed",
    42006: "The access path of a boot or paging file volume cannot be removed",
    42007: "The access path is not valid",
    42010: "Cannot perform the requested operation on a system critical partition",
    43000: "The specified cluster size is invalid",
    43001: "The specified file system is not supported",
    43005: "The cluster size is not a multiple of the physical sector size",
    43006: "The volume is write protected",
}
_CIM_STATUS = {1: 7, 5: 4, 40001: 2}


def failed(code: int) -> Row:
    """A refusal as method output."""
    status = embedded(
        "MSFT_StorageExtendedStatus",
        {
            "CIMStatusCode": _CIM_STATUS.get(code, 1),
            "Message": _MESSAGES.get(code, "Unspecified error"),
            "MessageID": f"StorageWMI {code}",
            "ErrorType": 0,
            "PerceivedSeverity": 2,
        },
    )
    return {"ReturnValue": code, "ExtendedStatus": status}


OK: Row = {"ReturnValue": 0}


def _number(arguments: dict[str, Value], name: str) -> int | None:
    value = arguments.get(name)
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _text(arguments: dict[str, Value], name: str) -> str | None:
    value = arguments.get(name)
    return value if isinstance(value, str) and value not in ("", "\0", "0") else None


def _disk(machine: Machine, target: Instance | None) -> Disk:
    wanted = str(target.get("ObjectId")).lower() if target is not None else ""
    for disk in machine.disks:
        if disk.object_id.lower() == wanted:
            return disk
    raise CimFault.mi(6, "The requested object could not be found.")


def _partition(machine: Machine, target: Instance | None) -> tuple[Disk, Partition]:
    wanted = str(target.get("ObjectId")).lower() if target is not None else ""
    for disk in machine.disks:
        for partition in disk.table.partitions:
            if partition_id(disk, partition).lower() == wanted:
                return disk, partition
    raise CimFault.mi(6, "The requested object could not be found.")


def _volume(machine: Machine, target: Instance | None) -> Volume:
    wanted = str(target.get("ObjectId")).lower() if target is not None else ""
    for volume in machine.volumes():
        if volume_id(volume).lower() == wanted:
            return volume
    raise CimFault.mi(6, "The requested object could not be found.")


# -- disks


@method(NS, "MSFT_Disk", "Online")
def online(machine: Machine, target: Instance | None, _arguments: dict[str, Value]) -> Row:
    disk = _disk(machine, target)
    if disk.backing.clustered:
        return failed(41018)
    if disk.online:
        return OK
    holder = machine.attached_to_vm(disk)
    if holder is not None and holder.running:
        return failed(6)
    if machine.collides(disk):
        if disk.read_only or machine.world.assume("collision-online") == "refused":
            return failed(4)
        _sign_anew(machine, disk)
    disk.online, disk.offline_reason = True, REASON_NONE
    machine.remember_disks()
    return OK


def _sign_anew(machine: Machine, disk: Disk) -> None:
    """What Windows does to a clone that is brought online: new disk and partition identifiers, on the bytes."""
    new = machine.world.new_guid
    table = disk.table
    if table.style == MBR:
        disk.set_table(replace(table, signature=uuid.UUID(new("signature")).fields[0]))
        return
    kept = tuple(replace(p, guid=new("partition")) for p in table.partitions)
    disk.set_table(replace(table, guid=new("disk"), partitions=kept))


@method(NS, "MSFT_Disk", "Offline")
def offline(machine: Machine, target: Instance | None, _arguments: dict[str, Value]) -> Row:
    disk = _disk(machine, target)
    if disk.backing.clustered:
        return failed(41018)
    if disk.is_boot or disk.is_system:
        return failed(41009)
    if disk.online:
        for volume in machine.volumes_of(disk):
            volume.forget_backend()
        disk.online, disk.offline_reason = False, REASON_POLICY
        disk.hidden_looks = int(machine.world.assume("host-drive-row-delay"))
        machine.remember_disks()
    return OK


@method(NS, "MSFT_Disk", "Refresh")
def refresh(machine: Machine, target: Instance | None, _arguments: dict[str, Value]) -> Row:
    disk = _disk(machine, target)
    disk.size = disk.content.size
    return OK


@method(NS, "MSFT_Disk", "SetAttributes")
def set_attributes(machine: Machine, target: Instance | None, arguments: dict[str, Value]) -> Row:
    disk = _disk(machine, target)
    read_only, guid, signature = arguments.get("IsReadOnly"), _text(arguments, "Guid"), _number(arguments, "Signature")
    if disk.backing.clustered:
        return failed(41018)
    if isinstance(read_only, bool) and read_only and disk.is_boot:
        return failed(41009)
    if guid is not None or signature is not None:
        table = disk.table
        if table.style == RAW:
            return failed(41000)
        if not disk.online:
            return failed(41003)
        if (guid is not None) != (table.style == GPT):
            return failed(41006)
        if disk.read_only and read_only is not False:
            return failed(41002)
        try:
            wanted = str(uuid.UUID((guid or "").strip("{}"))) if guid is not None else None
        except ValueError:
            return failed(5)
        disk.set_table(replace(table, guid=wanted or table.guid, signature=signature if guid is None else None))
    if isinstance(read_only, bool):
        disk.read_only = read_only or disk.backing.forced_read_only
    machine.remember_disks()
    return OK


@method(NS, "MSFT_Disk", "Initialize")
def initialize(machine: Machine, target: Instance | None, arguments: dict[str, Value]) -> Row:
    disk = _disk(machine, target)
    style = _number(arguments, "PartitionStyle")
    style = GPT if style is None else style
    if disk.backing.clustered:
        return failed(41018)
    if style not in (MBR, GPT):
        return failed(41010)
    if not disk.online:
        return failed(41003)
    if disk.read_only:
        return failed(41002)
    if disk.table.style != RAW:
        return failed(41001)
    if style == GPT and disk.size < GPT_MINIMUM:
        return failed(41014)
    new = machine.world.new_guid
    signature = uuid.UUID(new("signature")).fields[0]
    disk.set_table(
        initialised(
            style,
            disk.size,
            guid=new("disk"),
            msr_guid=new("msr"),
            signature=signature,
            sector=disk.backing.sector,
        )
    )
    return OK


@method(NS, "MSFT_Disk", "ConvertStyle")
def convert_style(machine: Machine, target: Instance | None, arguments: dict[str, Value]) -> Row:
    disk = _disk(machine, target)
    style = _number(arguments, "PartitionStyle")
    if disk.backing.clustered:
        return failed(41019)
    if disk.table.style == RAW:
        return failed(41000)
    if not disk.online:
        return failed(41003)
    if disk.read_only:
        return failed(41002)
    if disk.is_boot:
        return failed(41009)
    if any(p.gpt_type != MICROSOFT_RESERVED for p in disk.table.partitions):
        return failed(41013)
    if style not in (MBR, GPT):
        return failed(5)
    new = machine.world.new_guid
    clear_table(disk.content, disk.backing.sector)
    signature = uuid.UUID(new("signature")).fields[0]
    disk.set_table(
        initialised(
            style,
            disk.size,
            guid=new("disk"),
            msr_guid=new("msr"),
            signature=signature,
            sector=disk.backing.sector,
        )
    )
    return OK


@method(NS, "MSFT_Disk", "Clear")
def clear(machine: Machine, target: Instance | None, arguments: dict[str, Value]) -> Row:
    disk = _disk(machine, target)
    if disk.backing.clustered:
        return failed(41019)
    if disk.table.style == RAW:
        return failed(41000)
    if not disk.online:
        return failed(41003)
    if disk.read_only:
        return failed(41002)
    if disk.is_boot or disk.is_system:
        return failed(41009)
    oem = [p for p in disk.table.partitions if p.gpt_type in (RECOVERY, EFI_SYSTEM)]
    data = [p for p in disk.table.partitions if p.gpt_type not in (RECOVERY, EFI_SYSTEM, MICROSOFT_RESERVED)]
    if data and not arguments.get("RemoveData"):
        return failed(41008)
    if oem and not arguments.get("RemoveOEM"):
        return failed(41007)

    def work() -> None:
        if arguments.get("ZeroOutEntireDisk"):
            disk.content.zero(0, disk.content.size)
        clear_table(disk.content, disk.backing.sector)

    return _now_or_job(machine, arguments, "Clear Disk", work, {})


def _now_or_job(machine: Machine, arguments: dict[str, Value], name: str, work: Callable[[], None], output: Row) -> Row:
    if not arguments.get("RunAsJob"):
        work()
        return {"ReturnValue": 0, **output}
    job = machine.jobs.start("MSFT_StorageJob", 0, name, work, owner="SYSTEM", seconds=30)
    return {"ReturnValue": 4096, "CreatedStorageJob": embedded("MSFT_StorageJob", job_row(machine, job))}


@method(NS, "MSFT_Disk", "CreatePartition")
def create_partition(machine: Machine, target: Instance | None, arguments: dict[str, Value]) -> Row:
    disk = _disk(machine, target)
    size, offset = _number(arguments, "Size"), _number(arguments, "Offset")
    whole, letter = bool(arguments.get("UseMaximumSize")), _text(arguments, "DriveLetter")
    alignment = _number(arguments, "Alignment") or (MIB if disk.size >= 4 << 30 else 65536)
    problem = _refuse_partition(disk, arguments, size, whole, letter, alignment)
    if problem:
        return failed(problem)
    gaps = free_ranges(disk.table, disk.size, disk.backing.sector)
    if offset is not None:
        at = -(-offset // alignment) * alignment
        gap = next(((o, o + s) for o, s in gaps if o <= at < o + s), None)
        if gap is None:
            return failed(41016)
        room = gap[1] - at
    else:
        at, room = max(gaps, key=lambda g: g[1], default=(0, 0))
    wanted = room if whole else -(-(size or 0) // MIB) * MIB
    if room == 0 or wanted > room:
        return failed(40000)
    partition = _new_partition(machine, disk, arguments, at, wanted)
    if isinstance(partition, int):
        return failed(partition)
    stale = min(MIB, wanted)
    disk.content.zero(at, stale)  # Windows wipes what an old file system left at the start
    disk.set_table(disk.table.adding(partition))
    number = disk.table.partitions.index(next(p for p in disk.table.partitions if p.offset == at)) + 1
    volume = next((v for v in machine.volumes_of(disk) if v.partition.offset == at), None)
    code = 0
    if letter is not None and volume is not None:
        if machine.volume_by_letter(letter) is not None:
            code = 42002  # the partition exists all the same
        else:
            machine.give_letter(volume, letter)
    elif arguments.get("AssignDriveLetter") and volume is not None:
        volume.mount.letter = machine.free_letter()
    created = next(p for p in disk.table.partitions if p.offset == at)
    output: Row = {"CreatedPartition": embedded("MSFT_Partition", partition_row(disk, number, created))}
    return {**(failed(code) if code else OK), **output}


def _refuse_partition(
    disk: Disk, arguments: dict[str, Value], size: int | None, whole: bool, letter: str | None, alignment: int
) -> int:
    if disk.table.style == RAW:
        return 41000
    if not disk.online:
        return 41003
    if disk.read_only:
        return 41002
    if disk.backing.clustered:
        return 41018
    if whole == (size is not None):
        return 40005
    if letter is not None and arguments.get("AssignDriveLetter"):
        return 5
    if letter is not None and not ("A" <= letter.upper() <= "Z"):
        return 42007
    if alignment % disk.backing.sector:
        return 41005
    gpt = disk.table.style == GPT
    if (gpt and (arguments.get("MbrType") is not None or arguments.get("IsActive"))) or (
        not gpt and _text(arguments, "GptType") is not None
    ):
        return 41006
    if arguments.get("IsHidden") and (letter is not None or arguments.get("AssignDriveLetter")):
        return 42004
    if not gpt and len(disk.table.partitions) >= 4:
        return 41004
    return 0


def _new_partition(machine: Machine, disk: Disk, arguments: dict[str, Value], at: int, size: int) -> Partition | int:
    if disk.table.style == MBR:
        kind = _number(arguments, "MbrType") or 6
        return Partition(offset=at, size=size, mbr_type=kind, active=bool(arguments.get("IsActive")))
    try:
        kind_guid = str(uuid.UUID((_text(arguments, "GptType") or BASIC_DATA).strip("{}")))
    except ValueError:
        return 41010
    made = Partition(
        offset=at, size=size, gpt_type=kind_guid, guid=machine.world.new_guid("partition"), name="Basic data partition"
    )
    return made.with_flags(hidden=True) if arguments.get("IsHidden") else made


# -- partitions


@method(NS, "MSFT_Partition", "GetAccessPaths")
def get_access_paths(machine: Machine, target: Instance | None, _arguments: dict[str, Value]) -> Row:
    disk, partition = _partition(machine, target)
    volume = next((v for v in machine.volumes_of(disk) if v.partition.offset == partition.offset), None)
    return {"ReturnValue": 0, "AccessPaths": volume.access_paths if volume else []}


@method(NS, "MSFT_Partition", "AddAccessPath")
def add_access_path(machine: Machine, target: Instance | None, arguments: dict[str, Value]) -> Row:
    disk, partition = _partition(machine, target)
    path, assign = _text(arguments, "AccessPath"), bool(arguments.get("AssignDriveLetter"))
    if (path is not None) == assign:
        return failed(5)
    if partition.hidden:
        return failed(42004)
    volume = next((v for v in machine.volumes_of(disk) if v.partition.offset == partition.offset), None)
    if volume is None:
        return failed(41003 if not disk.online else 42004)
    if assign:
        if volume.letter is None:
            volume.mount.letter = machine.free_letter()
        return OK
    assert path is not None
    bare = path.rstrip("\\")
    if len(bare) == 2 and bare[1] == ":" and bare[0].isalpha():
        if volume.letter is not None or machine.volume_by_letter(bare[0]) is not None:
            return failed(42002)
        machine.give_letter(volume, bare[0])
        return OK
    try:
        other, folder = machine.resolve(path)
        if other.file_system not in ("NTFS", "ReFS") or not folder or not other.stat(folder).is_directory:
            return failed(42007)
        if other.listdir(folder) or any(m.rstrip("\\").lower() == bare.lower() for m in _mount_points(machine)):
            return failed(42002)
    except FileSystemError:
        return failed(42007)
    volume.mount.folders.append(bare + "\\")
    return OK


def _mount_points(machine: Machine) -> list[str]:
    return [folder for volume in machine.volumes() for folder in volume.mount_points]


@method(NS, "MSFT_Partition", "RemoveAccessPath")
def remove_access_path(machine: Machine, target: Instance | None, arguments: dict[str, Value]) -> Row:
    disk, partition = _partition(machine, target)
    path = _text(arguments, "AccessPath")
    volume = next((v for v in machine.volumes_of(disk) if v.partition.offset == partition.offset), None)
    if path is None or volume is None:
        return failed(5)
    bare = path.rstrip("\\").lower()
    if bare.startswith("\\\\?\\volume{"):
        return failed(42005)
    if volume.letter and bare == f"{volume.letter.lower()}:":
        if volume.is_boot:
            return failed(42006)
        volume.mount.letter = None
        return OK
    for folder in volume.mount_points:
        if folder.rstrip("\\").lower() == bare:
            volume.mount.folders.remove(folder)
            return OK
    return failed(42007)


@method(NS, "MSFT_Partition", "DeleteObject")
def delete_partition(machine: Machine, target: Instance | None, _arguments: dict[str, Value]) -> Row:
    disk, partition = _partition(machine, target)
    if not disk.online:
        return failed(41003)
    if disk.read_only:
        return failed(41002)
    volume = next((v for v in machine.volumes_of(disk) if v.partition.offset == partition.offset), None)
    if volume is not None and (volume.is_boot or volume.is_system):
        return failed(42010)
    disk.set_table(disk.table.replacing(partition, None))
    if volume is not None:
        machine.mounts.pop(volume.guid, None)
    return OK


@method(NS, "MSFT_Partition", "GetSupportedSize")
def get_supported_size(machine: Machine, target: Instance | None, _arguments: dict[str, Value]) -> Row:
    disk, partition = _partition(machine, target)
    machine.service_states["defragsvc"] = "Running"
    least, most = _supported(machine, disk, partition)
    return {"ReturnValue": 0, "SizeMin": least, "SizeMax": most}


def _supported(machine: Machine, disk: Disk, partition: Partition) -> tuple[int, int]:
    gap = next((s for o, s in free_ranges(disk.table, disk.size, disk.backing.sector) if o == partition.end), 0)
    volume = next((v for v in machine.volumes_of(disk) if v.partition.offset == partition.offset), None)
    least = partition.size - (volume.free if volume is not None and not volume.is_raw else 0)
    return max(MIB, least), partition.size + gap


@method(NS, "MSFT_Partition", "Resize")
def resize_partition(machine: Machine, target: Instance | None, arguments: dict[str, Value]) -> Row:
    disk, partition = _partition(machine, target)
    size = _number(arguments, "Size")
    if size is None:
        return failed(5)
    if not disk.online:
        return failed(41003)
    if disk.read_only:
        return failed(41002)
    _least, most = _supported(machine, disk, partition)
    if size < partition.size or size > most:
        return failed(4097)  # the simulator's file system does not shrink
    disk.set_table(disk.table.replacing(partition, replace(partition, size=size // MIB * MIB)))
    volume = next((v for v in machine.volumes_of(disk) if v.partition.offset == partition.offset), None)
    backend = volume.backend() if volume is not None else None
    if isinstance(backend, BlockFileSystem):
        backend.grow()
    return OK


@method(NS, "MSFT_Partition", "Online")
def partition_online(machine: Machine, target: Instance | None, _arguments: dict[str, Value]) -> Row:
    _partition(machine, target)
    return OK


@method(NS, "MSFT_Partition", "Offline")
def partition_offline(machine: Machine, target: Instance | None, _arguments: dict[str, Value]) -> Row:
    _partition(machine, target)
    return failed(1)


@method(NS, "MSFT_Partition", "SetAttributes")
def set_partition_attributes(machine: Machine, target: Instance | None, arguments: dict[str, Value]) -> Row:
    disk, partition = _partition(machine, target)
    if not disk.online:
        return failed(41003)
    gpt = disk.table.style == GPT
    if (arguments.get("IsActive") is not None and gpt) or (_text(arguments, "GptType") is not None and not gpt):
        return failed(41006)

    def flag(name: str) -> bool | None:
        value = arguments.get(name)
        return value if isinstance(value, bool) else None

    new = partition.with_flags(
        hidden=flag("IsHidden"), no_default_letter=flag("NoDefaultDriveLetter"), read_only=flag("IsReadOnly")
    )
    if flag("IsActive") is not None:
        new = replace(new, active=bool(flag("IsActive")))
    kind = _text(arguments, "GptType")
    if kind is not None:
        new = replace(new, gpt_type=kind.strip("{}").lower())
    disk.set_table(disk.table.replacing(partition, new))
    return OK


# -- volumes

_CLUSTERS = {
    "NTFS": tuple(512 << n for n in range(13)),
    "ReFS": (4096, 65536),
    "FAT32": tuple(512 << n for n in range(8)),
    "exFAT": tuple(512 << n for n in range(17)),
    "FAT": tuple(512 << n for n in range(8)),
}
_KINDS = {"ntfs": "NTFS", "refs": "ReFS", "fat32": "FAT32", "exfat": "exFAT", "fat": "FAT"}


@method(NS, "MSFT_Volume", "Format")
def format_volume(machine: Machine, target: Instance | None, arguments: dict[str, Value]) -> Row:
    volume = _volume(machine, target)
    kind = _KINDS.get((_text(arguments, "FileSystem") or "NTFS").lower())
    cluster = _number(arguments, "AllocationUnitSize") or 4096
    if kind is None:
        return failed(43001)
    if cluster not in _CLUSTERS[kind] or (arguments.get("Compress") and cluster > 4096):
        return failed(43000)
    if cluster % volume.disk.backing.sector:
        return failed(43005)
    if volume.disk.backing.clustered:
        return failed(41018)
    if volume.is_boot or volume.is_system:
        return failed(42010)
    if volume.disk.read_only or volume.partition.read_only:
        return failed(43006)
    if arguments.get("SetIntegrityStreams") is not None and kind != "ReFS":
        return failed(5)
    unreachable = volume.letter is None and not volume.mount_points
    if unreachable and machine.world.assume("format-without-access-path") == "returns 5":
        return failed(5)
    formatted = not volume.is_raw
    if formatted and not arguments.get("Force") and machine.world.assume("format-existing") == "needs Force":
        return failed(5)
    if any(guid == volume.guid for guid, _path in machine.locked_files()):
        return failed(6)
    label = _text(arguments, "FileSystemLabel") or ""

    def work() -> None:
        _format(machine, volume, kind, label, cluster, full=bool(arguments.get("Full")))

    if not arguments.get("RunAsJob"):
        try:
            work()
        except FileSystemError:
            return failed(43000)
        volume.forget_backend()
        return {"ReturnValue": 0, "FormattedVolume": embedded("MSFT_Volume", volume_row(volume))}
    return _now_or_job(machine, arguments, "Format", work, {})


def _format(machine: Machine, volume: Volume, kind: str, label: str, cluster: int, *, full: bool) -> None:
    serial = int(machine.world.new_guid("serial").replace("-", "")[: 16 if kind in ("NTFS", "ReFS") else 8], 16)
    directory = machine.directory_volumes.get(volume.guid)
    if directory is not None:
        for name in directory.listdir():
            directory.delete(name, recursive=True)
        machine.directory_volumes[volume.guid] = DirectoryFileSystem(
            directory.root, directory.size, kind=kind, label=label, serial=serial, cluster_size=cluster, now=machine.now
        )
        return
    if full:
        volume.content.zero(0, volume.content.size)
    volume.forget_backend()
    machine.bitlocker.pop(volume.guid, None)
    made = lay_file_system(
        volume.content,
        kind=kind,
        label=label,
        serial=serial,
        cluster_size=cluster,
        sector_size=volume.disk.backing.sector,
        now=machine.now,
    )
    if kind == "NTFS" and machine.world.assume("format-windows-extra") == "as-observed":
        made.mkdir("System Volume Information")
        made.create("System Volume Information\\reserved", min(128 * MIB, made.size // 32))


@method(NS, "MSFT_Volume", "SetFileSystemLabel")
def set_label(machine: Machine, target: Instance | None, arguments: dict[str, Value]) -> Row:
    volume = _volume(machine, target)
    if volume.is_raw:
        return failed(43001)
    label = _text(arguments, "FileSystemLabel") or ""
    files = volume.files
    if isinstance(files, BlockFileSystem):
        files.set_label(label)
    else:
        files.label = label
    return OK


@method(NS, "MSFT_Volume", "GetSupportedFileSystems")
def supported_file_systems(machine: Machine, target: Instance | None, _arguments: dict[str, Value]) -> Row:
    _volume(machine, target)
    return {"ReturnValue": 0, "SupportedFileSystems": ["NTFS", "ReFS", "exFAT", "FAT32"]}


@method(NS, "MSFT_Volume", "GetSupportedClusterSizes")
def supported_clusters(machine: Machine, target: Instance | None, arguments: dict[str, Value]) -> Row:
    _volume(machine, target)
    kind = _KINDS.get((_text(arguments, "FileSystem") or "NTFS").lower())
    if kind is None:
        return failed(43001)
    return {"ReturnValue": 0, "SupportedClusterSizes": list(_CLUSTERS[kind])}


@method(NS, "MSFT_Volume", "Flush")
def flush(machine: Machine, target: Instance | None, _arguments: dict[str, Value]) -> Row:
    _volume(machine, target)
    return OK


@method(NS, "MSFT_Volume", "GetCorruptionCount")
def corruption_count(machine: Machine, target: Instance | None, _arguments: dict[str, Value]) -> Row:
    _volume(machine, target)
    return {"ReturnValue": 0, "CorruptionCount": 0}


@method(NS, "MSFT_Volume", "Repair")
def repair(machine: Machine, target: Instance | None, _arguments: dict[str, Value]) -> Row:
    _volume(machine, target)
    return {"ReturnValue": 0, "Output": 0}


# -- settings and images


@method(NS, "MSFT_StorageSetting", "Get")
def get_setting(machine: Machine, _target: Instance | None, _arguments: dict[str, Value]) -> Row:
    row: Row = {"NewDiskPolicy": machine.san_policy, "ScrubPolicy": 2}
    return {"ReturnValue": 0, "StorageSetting": embedded("MSFT_StorageSetting", row)}


@method(NS, "MSFT_StorageSetting", "Set")
def set_setting(machine: Machine, _target: Instance | None, arguments: dict[str, Value]) -> Row:
    policy = _number(arguments, "NewDiskPolicy")
    if policy is not None:
        if policy not in (1, 2, 3, 4):
            return {"ReturnValue": 5}
        machine.san_policy = policy
    return OK


@method(NS, "MSFT_StorageSetting", "UpdateHostStorageCache")
def update_host_storage_cache(machine: Machine, _target: Instance | None, _arguments: dict[str, Value]) -> Row:
    machine.rescan()
    return OK


@method(NS, "MSFT_DiskImage", "Mount")
def mount(machine: Machine, target: Instance | None, arguments: dict[str, Value]) -> Row:
    path = str(target.get("ImagePath")) if target is not None else ""
    if find_mounted(machine, path) is None:
        read_only = _number(arguments, "Access") == 3
        try:
            mount_image(machine, path, read_only=read_only, letters=not arguments.get("NoDriveLetter"))
        except FileSystemError as problem:
            raise CimFault.mi(6 if problem.code in (2, 3) else 1, str(problem), 0x80070000 | problem.code) from problem
        except ImageError as problem:
            raise CimFault.mi(1, str(problem), 0xC03A0014) from problem
    return {"ReturnValue": 0, "DiskImage": embedded("MSFT_DiskImage", image_row(machine, path))}


@method(NS, "MSFT_DiskImage", "Dismount")
def dismount(machine: Machine, target: Instance | None, _arguments: dict[str, Value]) -> Row:
    path = str(target.get("ImagePath")) if target is not None else ""
    mounted = find_mounted(machine, path)
    if mounted is not None:
        dismount_image(machine, mounted)
    return {"ReturnValue": 0, "DiskImage": embedded("MSFT_DiskImage", image_row(machine, path))}
