# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Responsible for the rows of root/microsoft/windows/storage on hosts and guests: disks, partitions, volumes, pools, images.

What changes them is in storage_changes.py; the iSCSI initiator is in iscsi.py.
Facts: windows-storage 1.5 (ObjectIds), 2 (disks), 3 (partitions, volumes), 6 (offline, collisions).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .assumed import assumed
from .cim import NEVER, Instance, Ref, Value
from .disks import BUS_TYPES, Disk, stable_guid
from .file_system import FileSystemError
from .image_file import FORMAT_BY_SUFFIX, suffix_of
from .jobs import COMPLETED, Job
from .mounted_images import disk_of, find_mounted
from .partition_table import EFI_SYSTEM, GPT, MBR, MIB, RAW, Partition, free_ranges
from .service import view
from .vhd import VHD, ImageError
from .volumes import Volume
from .world import Machine, StoragePool

NS = "root/microsoft/windows/storage"
Row = dict[str, Value]
Known = Mapping[str, Value]

ONLINE_STATUS, OFFLINE_STATUS = 53264, 53267
FILE_SYSTEM_TYPES = {"NTFS": 14, "ReFS": 15, "FAT32": 6, "FAT": 4, "exFAT": 16}

assumed(
    "no-drive-letter",
    "DriveLetter of a partition or volume without a letter is NULL or an empty text",
    source="facts windows-storage 1.2, 9.4",
    values=("nil", "empty"),
)
assumed(
    "offline-partitions",
    "MSFT_Partition lists the partitions of an offline disk, marked offline",
    source="facts windows-storage 6.1",
    values=("listed", "hidden"),
)
assumed(
    "dynamic-volumes",
    "A volume on a dynamic disk has an MSFT_Volume row but no association to a partition",
    source="no source; behaviour of the storage management API with dynamic disks",
    values=("listed", "hidden"),
)
assumed(
    "pooled-disks",
    "Members of a storage pool vanish from MSFT_Disk and stay in MSFT_PhysicalDisk, with the identity of the disk",
    source="no source; behaviour of Storage Spaces",
)

_PROVIDER = "root/Microsoft/Windows/Storage/Providers_v2"


def object_id(machine: Machine, kind: str, mark: str, rest: str) -> str:
    subsystem = stable_guid(machine.name, "storage subsystem")
    return f'{{1}}\\\\{machine.netbios_name}\\{_PROVIDER}\\WSP_{kind}.ObjectId="{{{subsystem}}}:{mark}:{rest}"'


def offset_guid(offset: int) -> str:
    """The GUID that partition ids carry: its last eight bytes are the offset, little-endian."""
    digits = offset.to_bytes(8, "little").hex()
    return f"{{00000000-0000-0000-{digits[:4]}-{digits[4:]}}}"


def partition_id(disk: Disk, partition: Partition) -> str:
    return object_id(disk.machine, "Partition", "PR", offset_guid(partition.offset) + disk.path)


def volume_id(volume: Volume) -> str:
    return object_id(volume.machine, "Volume", "VO", volume.path)


def ref(class_name: str, identifier: str) -> Ref:
    return Ref(NS, class_name, {"ObjectId": identifier})


def letter_value(machine: Machine, letter: str | None) -> str | None:
    if letter:
        return letter
    return None if machine.world.assume("no-drive-letter") == "nil" else ""


# -- disks


def largest_free(disk: Disk) -> int:
    if disk.table.style == RAW or not disk.online:
        return 0
    gaps = [size for _offset, size in free_ranges(disk.table, disk.size, disk.backing.sector)]
    return max(gaps, default=MIB)


def disk_row(disk: Disk) -> Row:
    table, identity = disk.table, disk.identity
    free = sum(size for _offset, size in free_ranges(table, disk.size, disk.backing.sector))
    if table.style == RAW:
        allocated = 0
    elif not disk.online:
        allocated = disk.size
    else:
        allocated = disk.size - max(free, MIB)
    return {
        "ObjectId": disk.object_id,
        "UniqueId": identity.unique_id,
        "UniqueIdFormat": identity.unique_id_format,
        "Number": disk.number,
        "Path": disk.path,
        "Location": disk.backing.location,
        "FriendlyName": f"{identity.vendor} {identity.model}",
        "Manufacturer": disk.manufacturer,
        "Model": disk.model,
        "SerialNumber": identity.serial,
        "AdapterSerialNumber": None,
        "FirmwareVersion": identity.revision.ljust(4),
        "Size": disk.size,
        "AllocatedSize": allocated,
        "LargestFreeExtent": largest_free(disk),
        "LogicalSectorSize": disk.backing.sector,
        "PhysicalSectorSize": disk.backing.physical_sector,
        "NumberOfPartitions": len(table.partitions),
        "BusType": disk.backing.bus_type,
        "PartitionStyle": table.style,
        "HealthStatus": 0,
        "OfflineReason": disk.offline_reason,
        "ProvisioningType": disk.backing.provisioning,
        "OperationalStatus": [ONLINE_STATUS if disk.online else OFFLINE_STATUS],
        "Signature": table.signature if table.style == MBR else None,
        "Guid": f"{{{table.guid}}}" if table.style == GPT else None,
        "IsOffline": not disk.online,
        "IsReadOnly": disk.read_only,
        "IsSystem": disk.is_system,
        "IsBoot": disk.is_boot,
        "BootFromDisk": disk.is_system,
        "IsClustered": disk.backing.clustered,
        "IsHighlyAvailable": disk.backing.clustered,
        "IsScaleOut": False,
    }


def arrive(machine: Machine) -> None:
    """Disks that are on their way (an iSCSI login) appear after some looks."""
    if machine.arriving > 0:
        machine.arriving -= 1
        if machine.arriving == 0:
            machine.rescan()


@view(NS, "MSFT_Disk")
def disks(machine: Machine, known: Known) -> Iterable[Row]:
    arrive(machine)
    number = known.get("Number")
    for disk in machine.disks:
        if isinstance(number, int) and number != disk.number:
            continue
        row = disk_row(disk)
        yield row
        if disk.backing.clustered and machine.cluster is not None:
            for node in machine.cluster.nodes:  # the same LUN as other nodes see it (windows-storage 3.4)
                if node.upper() != machine.netbios_name:
                    other = str(row["ObjectId"]).replace(machine.netbios_name, node.upper(), 1)
                    yield {**row, "Number": None, "ObjectId": other}


# -- partitions


def partition_volume(disk: Disk, partition: Partition) -> Volume | None:
    return next((v for v in disk.machine.volumes_of(disk) if v.partition.offset == partition.offset), None)


def partition_row(disk: Disk, number: int, partition: Partition) -> Row:
    machine = disk.machine
    volume = partition_volume(disk, partition)
    gpt = disk.table.style == GPT
    return {
        "ObjectId": partition_id(disk, partition),
        "UniqueId": offset_guid(partition.offset) + disk.identity.unique_id,
        "DiskNumber": disk.number,
        "PartitionNumber": number,
        "DiskId": disk.path,
        "Offset": partition.offset,
        "Size": partition.size,
        "DriveLetter": letter_value(machine, volume.letter if volume else None),
        "AccessPaths": volume.access_paths if volume else None,
        "GptType": f"{{{partition.gpt_type}}}" if gpt else None,
        "MbrType": partition.mbr_type if not gpt else None,
        "Guid": f"{{{partition.guid}}}" if gpt else None,
        "IsActive": partition.active,
        "IsBoot": volume.is_boot if volume else False,
        "IsDAX": False,
        "IsHidden": partition.hidden,
        "IsOffline": not disk.online,
        "IsReadOnly": partition.read_only or disk.read_only,
        "IsShadowCopy": False,
        "IsSystem": (volume.is_system if volume else False)
        or (gpt and partition.gpt_type == EFI_SYSTEM and disk.is_boot),
        "NoDefaultDriveLetter": partition.no_default_letter or partition.gpt_type == EFI_SYSTEM,
        "OperationalStatus": 1 if disk.online else 4,
        "TransitionState": 1,
    }


@view(NS, "MSFT_Partition")
def partitions(machine: Machine, known: Known) -> Iterable[Row]:
    wanted = known.get("DiskNumber")
    hidden = machine.world.assume("offline-partitions") == "hidden"
    for disk in machine.disks:
        if (isinstance(wanted, int) and wanted != disk.number) or (hidden and not disk.online):
            continue
        for number, partition in enumerate(disk.table.partitions, 1):
            yield partition_row(disk, number, partition)


# -- volumes


def volume_row(volume: Volume) -> Row:
    machine = volume.machine
    raw = volume.is_raw
    return {
        "ObjectId": volume_id(volume),
        "UniqueId": volume.path,
        "Path": volume.path,
        "DriveLetter": letter_value(machine, volume.letter),
        "DriveType": 3,
        "FileSystem": "" if raw else volume.file_system,
        "FileSystemType": 0 if raw else FILE_SYSTEM_TYPES[volume.file_system],
        "FileSystemLabel": volume.label,
        "AllocationUnitSize": volume.allocation_unit,
        "Size": 0 if raw else volume.size,
        "SizeRemaining": volume.free,
        "HealthStatus": 0,
        "OperationalStatus": [2] if not raw else [0],
        "DedupMode": 4,
    }


@view(NS, "MSFT_Volume")
def volumes(machine: Machine) -> Iterable[Row]:
    hidden = machine.world.assume("dynamic-volumes") == "hidden"
    for volume in machine.volumes():
        if not (volume.is_dynamic and hidden):
            yield volume_row(volume)


@view(NS, "MSFT_DiskToPartition")
def disks_to_partitions(machine: Machine) -> Iterable[Row]:
    for disk in machine.disks:
        for partition in disk.table.partitions:
            yield {
                "Disk": ref("MSFT_Disk", disk.object_id),
                "Partition": ref("MSFT_Partition", partition_id(disk, partition)),
            }


@view(NS, "MSFT_PartitionToVolume")
def partitions_to_volumes(machine: Machine) -> Iterable[Row]:
    for volume in machine.volumes():
        if not volume.is_dynamic:
            yield {
                "Partition": ref("MSFT_Partition", partition_id(volume.disk, volume.partition)),
                "Volume": ref("MSFT_Volume", volume_id(volume)),
            }


# -- physical disks, pools, spaces


def _pool_object(machine: Machine, pool: StoragePool | None) -> str:
    return object_id(
        machine, "StoragePool", "SP", f"{{{pool.guid if pool else stable_guid(machine.name, 'primordial')}}}"
    )


@view(NS, "MSFT_PhysicalDisk")
def physical_disks(machine: Machine) -> Iterable[Row]:
    for disk in machine.disks:
        if disk.backing.bus_type in (BUS_TYPES["spaces"], BUS_TYPES["virtual"]):
            continue
        blank = disk.table.style == RAW
        yield {
            "ObjectId": object_id(machine, "PhysicalDisk", "PD", f"{{{stable_guid(machine.name, disk.backing.key)}}}"),
            "UniqueId": disk.identity.unique_id,
            "UniqueIdFormat": disk.identity.unique_id_format,
            "DeviceId": str(disk.number),
            "FriendlyName": f"{disk.identity.vendor} {disk.identity.model}",
            "Manufacturer": disk.manufacturer,
            "Model": disk.model,
            "SerialNumber": disk.identity.serial,
            "FirmwareVersion": disk.identity.revision,
            "PhysicalLocation": disk.backing.location,
            "Size": disk.size,
            "AllocatedSize": 0 if blank else disk.size,
            "VirtualDiskFootprint": 0,
            "LogicalSectorSize": disk.backing.sector,
            "PhysicalSectorSize": disk.backing.physical_sector,
            "BusType": disk.backing.bus_type,
            "MediaType": 0,
            "SpindleSpeed": 0xFFFFFFFF,
            "HealthStatus": 0,
            "OperationalStatus": [2],
            "Usage": 1,
            "SupportedUsages": [1, 2, 3, 4, 5],
            "CanPool": blank,
            "CannotPoolReason": [] if blank else [7],
            "IsPartial": True,
            "IsIndicationEnabled": None,
        }
    for pool in machine.pools:
        for position, member in enumerate(machine.pool_members(pool)):
            yield {
                "ObjectId": object_id(machine, "PhysicalDisk", "PD", f"{{{stable_guid(machine.name, member.key)}}}"),
                "UniqueId": member.identity.unique_id,
                "UniqueIdFormat": member.identity.unique_id_format,
                "DeviceId": str(100 + position),
                "FriendlyName": f"{member.identity.vendor} {member.identity.model}",
                "Manufacturer": f"{member.identity.vendor:<8}",
                "Model": f"{member.identity.model:<16}",
                "SerialNumber": member.identity.serial,
                "PhysicalLocation": member.location,
                "Size": member.content.size,
                "AllocatedSize": member.content.size,
                "LogicalSectorSize": member.sector,
                "PhysicalSectorSize": member.physical_sector,
                "StoragePoolUniqueId": f"{{{pool.guid}}}",
                "BusType": member.bus_type,
                "MediaType": 0,
                "HealthStatus": 0,
                "OperationalStatus": [2],
                "Usage": 1,
                "CanPool": False,
                "CannotPoolReason": [2],
            }


@view(NS, "MSFT_StoragePool")
def pools(machine: Machine) -> Iterable[Row]:
    total = sum(d.size for d in machine.disks)
    yield {
        "ObjectId": _pool_object(machine, None),
        "UniqueId": f"{{{stable_guid(machine.name, 'primordial')}}}",
        "FriendlyName": "Primordial",
        "IsPrimordial": True,
        "IsClustered": False,
        "IsReadOnly": False,
        "HealthStatus": 0,
        "OperationalStatus": [2],
        "Size": total,
        "AllocatedSize": 0,
    }
    for pool in machine.pools:
        backing = pool.backing()
        size = backing.content.size if backing is not None else 0
        yield {
            "ObjectId": _pool_object(machine, pool),
            "UniqueId": f"{{{pool.guid}}}",
            "FriendlyName": pool.name,
            "IsPrimordial": False,
            "IsClustered": False,
            "IsReadOnly": False,
            "HealthStatus": 0 if backing is not None else 2,
            "OperationalStatus": [2],
            "Size": size,
            "AllocatedSize": size,
        }


@view(NS, "MSFT_VirtualDisk")
def virtual_disks(machine: Machine) -> Iterable[Row]:
    for pool in machine.pools:
        backing = pool.backing()
        if backing is None:
            continue
        yield {
            "ObjectId": object_id(machine, "VirtualDisk", "VD", f"{{{pool.guid}}}"),
            "UniqueId": backing.identity.unique_id,
            "UniqueIdFormat": 0,
            "FriendlyName": pool.virtual_disk,
            "Size": backing.content.size,
            "AllocatedSize": backing.content.size,
            "FootprintOnPool": backing.content.size,
            "ResiliencySettingName": "Simple",
            "ProvisioningType": 2,
            "NumberOfColumns": len(pool.members),
            "NumberOfDataCopies": 1,
            "PhysicalDiskRedundancy": 0,
            "LogicalSectorSize": backing.sector,
            "PhysicalSectorSize": backing.physical_sector,
            "HealthStatus": 0,
            "OperationalStatus": [2],
            "Access": 3,
            "DetachedReason": 0,
            "IsManualAttach": False,
            "IsSnapshot": False,
            "IsTiered": False,
        }


# -- settings, images, jobs


@view(NS, "MSFT_StorageSetting")
def storage_setting(machine: Machine) -> Iterable[Row]:
    yield {"NewDiskPolicy": machine.san_policy, "ScrubPolicy": 2}


def image_row(machine: Machine, path: str) -> Row:
    mounted = find_mounted(machine, path)
    disk = disk_of(machine, mounted) if mounted is not None else None
    row: Row = {
        "ImagePath": path,
        "StorageType": {".iso": 1}.get(suffix_of(path), FORMAT_BY_SUFFIX.get(suffix_of(path), 0)),
        "Attached": mounted is not None,
        "DevicePath": disk.device_id if disk is not None else None,
        "Number": disk.number if disk is not None else None,
    }
    try:
        image = mounted.image if mounted is not None else machine.open_image(path)
        facts = image.facts
        row["Size"], row["FileSize"] = facts.virtual_size, image.file.size
        row["LogicalSectorSize"], row["BlockSize"] = facts.logical_sector, facts.block_size
        row["StorageType"] = 2 if facts.format == VHD else 3
    except (FileSystemError, ImageError):
        pass
    return row


@view(NS, "MSFT_DiskImage")
def disk_images(machine: Machine, known: Known) -> Iterable[Row]:
    path = known.get("ImagePath")
    if isinstance(path, str):  # an image may be addressed although it is not mounted
        yield image_row(machine, path)
        return
    for mounted in machine.mounted_images:
        yield image_row(machine, mounted.path)


def job_row(machine: Machine, job: Job) -> Row:
    return {
        "ObjectId": object_id(machine, "StorageJob", "SJ", f"{{{job.id.lower()}}}"),
        "UniqueId": f"{{{job.id.lower()}}}",
        "Name": job.name,
        "Description": job.name,
        "JobState": job.state,
        "JobStatus": "Completed" if job.state == COMPLETED else "Running" if not job.done else "Failed",
        "PercentComplete": job.percent,
        "ErrorCode": min(job.error_code, 65535),
        "ErrorDescription": job.error_text,
        "OperationalStatus": [2] if not job.error_code else [6],
        "StatusDescriptions": [],
        "BytesProcessed": 0,
        "BytesTotal": 0,
        "ElapsedTime": (job.finished or machine.now()) - job.started,
        "StartTime": job.started,
        "TimeSubmitted": job.started,
        "TimeOfLastStateChange": job.changed or NEVER,
        "TimeBeforeRemoval": machine.jobs.removal,
        "LocalOrUtcTime": 2,
        "DeleteOnCompletion": False,
        "IsBackgroundTask": False,
        "RecoveryAction": 2,
        "OtherRecoveryAction": "",
    }


@view(NS, "MSFT_StorageJob")
def storage_jobs(machine: Machine) -> Iterable[Row]:
    for job in machine.jobs.all():
        if job.class_name == "MSFT_StorageJob":
            machine.jobs.look(job)
            yield job_row(machine, job)


def embedded(class_name: str, row: Row) -> Instance:
    return Instance(NS, class_name, row)
