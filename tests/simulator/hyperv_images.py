# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Responsible for Msvm_ImageManagementService and mounted images: create, convert, resize, attach, inspect image files.

Everything that takes time is a Msvm_StorageJob; reading facts of an image answers at once. Not simulated: merging and
reparenting by hand, VHD sets beyond reading them, change tracking. Facts: hyperv-wmi 5.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable

from .assumed import assumed
from .checkpoints import parent_opener
from .cim import Instance, Ref, Value
from .content import Content, copy_content
from .disks import Disk
from .file_system import FileSystemError
from .hyperv_rows import FAILED, INVALID, NS, Row, managed, text, who
from .hyperv_systems import STARTED, job_ref
from .image_file import FORMAT_BY_SUFFIX, create_image, file_size_for, suffix_of
from .jobs import JobFailed
from .mounted_images import disk_of, dismount_image, find_mounted, mount_image
from .service import method, view
from .vhd import DIFFERENCING, FIXED, VHD, VHD_SET, VHDX, DynamicVhd, FixedVhd, Image, ImageError
from .vhdx import Vhdx
from .volumes import Volume
from .world import Machine, MountedImage

SERVICE = "Msvm_ImageManagementService"
FILE_NOT_FOUND = 32779
NOT_MOUNTED = 32789
BYTES_PER_SECOND = 200 << 20

assumed(
    "convert-physical-disk",
    "ConvertVirtualHardDisk takes \\\\.\\PHYSICALDRIVEn as its source",
    source="facts hyperv-wmi 5.3, 11.1",
    values=("works", "refused"),
)
assumed(
    "convert-online-disk",
    "Converting a physical disk that is online on the host, or that a running VM holds",
    source="facts hyperv-wmi 11.2",
    values=("refused", "copies"),
)
assumed(
    "convert-job-type",
    "JobType of a conversion from a physical disk",
    source="facts hyperv-wmi 5.3",
    values=("6", "1"),
)
assumed(
    "convert-leftover",
    "The file of a conversion exists from the start of the job; what a host that goes down leaves of it is no valid image",
    source="no source; a fixed VHD's footer is its last sector",
    values=("left", "removed"),
)
assumed(
    "convert-failure-file",
    "A conversion that fails removes its half-made file, or leaves it",
    source="no source",
    values=("removed", "left"),
)
assumed(
    "get-vhd-async",
    "GetVirtualHardDiskSettingData and GetVirtualHardDiskState answer 0 with the text inline",
    source="facts hyperv-wmi 5.1",
)
assumed(
    "virtual-disk-id-text",
    "VirtualDiskId is written in upper case without braces",
    source="no source",
    values=("upper", "braces"),
)


def _name_of(path: str) -> str:
    return path.rsplit("\\", 1)[-1]


def _failure(problem: Exception, path: str) -> tuple[JobFailed, int]:
    """The job's failure and its JobCompletionStatusCode."""
    if isinstance(problem, FileSystemError):
        code = FILE_NOT_FOUND if problem.code in (2, 3) else FAILED
        status = 0x80070000 | (problem.code & 0xFFFF)
    else:
        code, status = FAILED, 0xC03A0014
    return JobFailed(code, f"'{path}': {problem} (0x{status:08X})."), status


def _start(machine: Machine, job_type: int, title: str, path: str, work: Callable[[], None], size: int = 0) -> Row:
    def guarded() -> None:
        try:
            work()
        except (FileSystemError, ImageError) as problem:
            failed, job.output["status"] = _failure(problem, path)
            job.output["child"] = path
            raise failed from problem

    job = machine.jobs.start(
        "Msvm_StorageJob", job_type, title, guarded, owner=who(), seconds=1 + size / BYTES_PER_SECOND
    )
    return {"ReturnValue": STARTED, "Job": job_ref(job)}


def _path(arguments: dict[str, Value], name: str = "Path") -> str:
    value = arguments.get(name)
    return value if isinstance(value, str) else ""


def _id_text(machine: Machine, identifier: str) -> str:
    if machine.world.assume("virtual-disk-id-text") == "braces":
        return "{" + identifier + "}"
    return identifier.upper()


def setting_instance(machine: Machine, path: str, image: Image) -> Instance:
    facts = image.facts
    is_set = suffix_of(path) == ".vhds"
    return Instance(
        NS,
        "Msvm_VirtualHardDiskSettingData",
        {
            "BlockSize": facts.block_size,
            "Caption": text(machine, "Virtual Hard Disk Setting Data"),
            "DataAlignment": 1048576 if facts.format == VHDX else 0,
            "Description": text(machine, "Setting Data for a Virtual Hard Disk"),
            "ElementName": _name_of(path),
            "Format": VHD_SET if is_set else facts.format,
            "InstanceID": path,
            "IsPmemCompatible": False,
            "LogicalSectorSize": facts.logical_sector,
            "MaxInternalSize": facts.virtual_size,
            "ParentIdentifier": _id_text(machine, facts.parent_id) if facts.parent_id else "",
            "ParentPath": facts.parent_path or "",
            "ParentTimestamp": facts.parent_timestamp,
            "Path": path,
            "PhysicalSectorSize": facts.physical_sector,
            "PmemAddressAbstractionType": 0,
            "Type": facts.type,
            "VirtualDiskId": _id_text(machine, facts.disk_id),
        },
    )


@method(NS, SERVICE, "GetVirtualHardDiskSettingData")
def get_setting_data(machine: Machine, _target: Instance | None, arguments: dict[str, Value]) -> Row:
    path = _path(arguments)
    try:
        image = machine.open_image(path)
    except FileSystemError as problem:
        return {"ReturnValue": FILE_NOT_FOUND if problem.code in (2, 3) else FAILED}
    except ImageError:
        return {"ReturnValue": FAILED}
    return {"ReturnValue": 0, "SettingData": setting_instance(machine, path, image)}


@method(NS, SERVICE, "GetVirtualHardDiskState")
def get_state(machine: Machine, _target: Instance | None, arguments: dict[str, Value]) -> Row:
    path = _path(arguments)
    try:
        image = machine.open_image(path)
        volume, relative = machine.resolve(path)
        entry = volume.files.stat(relative)
    except FileSystemError as problem:
        return {"ReturnValue": FILE_NOT_FOUND if problem.code in (2, 3) else FAILED}
    except ImageError:
        return {"ReturnValue": FAILED}
    state = Instance(
        NS,
        "Msvm_VirtualHardDiskState",
        {
            "Alignment": 1,
            "FileSize": entry.size,
            "FragmentationPercentage": 0 if image.facts.type == FIXED else 7,
            "InUse": volume.key_of(relative) in machine.locked_files(),
            "MinInternalSize": None,
            "PhysicalSectorSize": image.facts.physical_sector,
            "Timestamp": entry.modified,
        },
    )
    return {"ReturnValue": 0, "State": state}


# -- making image files


def _new_file(machine: Machine, settings: Instance) -> tuple[Volume, str, str, int, int]:
    """(volume, path on it, path, format, type) of an image to be made; checks what can be checked before."""
    path = str(settings.get("Path") or "")
    kind, image_format = settings.get("Type"), settings.get("Format")
    if not isinstance(kind, int) or kind not in (2, 3, 4):
        raise ImageError("The type of the virtual hard disk is not valid.")
    if not isinstance(image_format, int) or image_format not in (VHD, VHDX):
        raise ImageError("The format of the virtual hard disk is not valid.")
    if FORMAT_BY_SUFFIX.get(suffix_of(path)) != image_format:
        raise ImageError("The file's extension does not fit the format.")
    volume, relative = machine.resolve(path, write=True)
    if volume.files.exists(relative):
        raise FileSystemError(80, path)
    return volume, relative, path, image_format, kind


def _make(machine: Machine, settings: Instance, size: int, sector: int, physical: int) -> Image:
    volume, relative, _path_text, image_format, kind = _new_file(machine, settings)
    block = settings.get("BlockSize")
    parent_path = str(settings.get("ParentPath") or "")
    parent = machine.open_image(parent_path) if kind == DIFFERENCING else None
    if parent is not None:
        size = parent.facts.virtual_size
    wanted = str(settings.get("VirtualDiskId") or "").strip("{}")
    disk_id = str(uuid.UUID(wanted)) if wanted else machine.world.new_guid("disk")
    blocks = block if isinstance(block, int) else 0
    file = volume.files.create(relative, file_size_for(image_format, kind, size, blocks))
    try:
        return create_image(
            file,
            image_format=image_format,
            kind=kind,
            size=size,
            disk_id=disk_id,
            moment=machine.now(),
            block=blocks,
            logical_sector=sector,
            physical_sector=physical,
            parent=parent,
            parent_path=parent_path,
            open_parent=parent_opener(machine),
        )
    except (ImageError, FileSystemError):
        volume.files.delete(relative)
        raise


def _drop(machine: Machine, path: str) -> None:
    try:
        volume, relative = machine.resolve(path)
        volume.files.delete(relative)
    except FileSystemError:
        return


@method(NS, SERVICE, "CreateVirtualHardDisk")
def create_virtual_hard_disk(machine: Machine, _target: Instance | None, arguments: dict[str, Value]) -> Row:
    settings = arguments.get("VirtualDiskSettingData")
    if not isinstance(settings, Instance):
        return {"ReturnValue": INVALID}
    size = settings.get("MaxInternalSize")
    wanted = -(-size // 512) * 512 if isinstance(size, int) else 0
    sector = settings.get("LogicalSectorSize")
    physical = settings.get("PhysicalSectorSize")

    def work() -> None:
        _make(
            machine,
            settings,
            wanted,
            sector if isinstance(sector, int) and sector else 512,
            physical if isinstance(physical, int) else 0,
        )

    fixed = wanted if settings.get("Type") == FIXED else 0
    return _start(machine, 1, "Creating Virtual Hard Disk", str(settings.get("Path")), work, fixed)


def _physical_source(machine: Machine, path: str) -> Disk | None:
    match = re.fullmatch(r"\\\\\.\\PHYSICALDRIVE(\d+)", path, re.IGNORECASE)
    if match is None:
        return None
    disk = machine.disk_by_number(int(match[1]))
    if disk is None:
        raise FileSystemError(2, path)
    if machine.world.assume("convert-physical-disk") == "refused":
        raise FileSystemError(2, path)
    holder = machine.attached_to_vm(disk)
    held = disk.online or (holder is not None and holder.running)
    if held and machine.world.assume("convert-online-disk") == "refused":
        raise FileSystemError(32, path)
    return disk


@method(NS, SERVICE, "ConvertVirtualHardDisk")
def convert_virtual_hard_disk(machine: Machine, _target: Instance | None, arguments: dict[str, Value]) -> Row:
    source, settings = _path(arguments, "SourcePath"), arguments.get("VirtualDiskSettingData")
    if not isinstance(settings, Instance) or not source:
        return {"ReturnValue": INVALID}
    physical = source.upper().startswith("\\\\.\\PHYSICALDRIVE")
    size = 0
    try:
        disk = _physical_source(machine, source)
        size = disk.size if disk is not None else machine.open_image(source).facts.virtual_size
    except (FileSystemError, ImageError):
        size = 0  # the job says what is wrong
    path = str(settings.get("Path"))
    made: list[Image] = []
    trouble: list[Exception] = []
    try:
        made.append(_target_of_conversion(machine, source, settings))
    except (FileSystemError, ImageError) as problem:
        trouble.append(problem)

    def work() -> None:
        if trouble:
            raise trouble[0]
        copy_content(_origin(machine, source)[0], made[0].payload)

    def failed() -> None:
        if made and machine.world.assume("convert-failure-file") == "removed":
            _drop(machine, path)
        elif made:
            _spoil(machine, path)

    def lost() -> None:
        if made and machine.world.assume("convert-leftover") == "removed":
            _drop(machine, path)
        elif made:
            _spoil(machine, path)

    job_type = int(machine.world.assume("convert-job-type")) if physical else 6
    answer = _start(machine, job_type, "Converting Virtual Hard Disk", path, work, size)
    job = machine.jobs.find(str(answer["Job"].key("InstanceID"))) if isinstance(answer["Job"], Ref) else None
    if job is not None:
        job.on_failure, job.on_loss = failed, lost
    return answer


def _origin(machine: Machine, source: str) -> tuple[Content, int, int]:
    """Bytes, logical and physical sector size of what is converted; refuses what is in use."""
    found = _physical_source(machine, source)
    if found is not None:
        return found.content, found.backing.sector, found.backing.physical_sector
    volume, relative = machine.resolve(source)
    if volume.key_of(relative) in machine.locked_files():
        raise FileSystemError(32, source)
    image = machine.open_image(source)
    return image.payload, image.facts.logical_sector, image.facts.physical_sector


def _target_of_conversion(machine: Machine, source: str, settings: Instance) -> Image:
    """The empty image that the conversion fills."""
    origin, sector, physical_sector = _origin(machine, source)
    return _make(machine, settings, origin.size, sector, physical_sector)


def _spoil(machine: Machine, path: str) -> None:
    """What is left of an image that was not finished: neither its header nor its footer is there."""
    try:
        volume, relative = machine.resolve(path)
        content = volume.files.open(relative)
        content.zero(0, min(content.size, 1 << 20))
        content.zero(max(0, content.size - 512), min(content.size, 512))
    except FileSystemError:
        return


@method(NS, SERVICE, "ResizeVirtualHardDisk")
def resize_virtual_hard_disk(machine: Machine, _target: Instance | None, arguments: dict[str, Value]) -> Row:
    path, size = _path(arguments), arguments.get("MaxInternalSize")
    if not isinstance(size, int):
        return {"ReturnValue": INVALID}

    def work() -> None:
        volume, relative = machine.resolve(path)
        image = machine.open_image(path)
        facts = image.facts
        wanted = -(-size // 512) * 512
        if volume.key_of(relative) in machine.locked_files() and facts.format == VHD:
            raise FileSystemError(32, path)
        if wanted < facts.virtual_size:
            raise ImageError("The simulator does not shrink virtual hard disks.")
        if isinstance(image, FixedVhd):
            image.file.resize(wanted + 512)
            image.file.zero(facts.virtual_size, 512)
            FixedVhd.create(image.file, wanted, facts.disk_id, machine.now())
        elif isinstance(image, Vhdx):
            image.set_virtual_size(wanted)
        elif isinstance(image, DynamicVhd):
            raise ImageError("The simulator does not resize dynamic VHDs.")

    return _start(machine, 4, "Expanding Virtual Hard Disk", path, work)


@method(NS, SERVICE, "SetVirtualHardDiskSettingData")
def set_setting_data(machine: Machine, _target: Instance | None, arguments: dict[str, Value]) -> Row:
    settings = arguments.get("VirtualDiskSettingData")
    if not isinstance(settings, Instance):
        return {"ReturnValue": INVALID}
    path = str(settings.get("Path") or "")

    def work() -> None:
        volume, relative = machine.resolve(path)
        if volume.key_of(relative) in machine.locked_files():
            raise FileSystemError(32, path)
        wanted = str(settings.get("VirtualDiskId") or "").strip("{}")
        if wanted:
            machine.open_image(path).set_disk_id(str(uuid.UUID(wanted)))

    return _start(machine, 8, "Setting Virtual Hard Disk Properties", path, work)


@method(NS, SERVICE, "ValidateVirtualHardDisk")
def validate_virtual_hard_disk(machine: Machine, _target: Instance | None, arguments: dict[str, Value]) -> Row:
    path = _path(arguments)

    def work() -> None:
        seen: list[str] = []
        here: str | None = path
        while here:
            if here.lower() in seen:
                raise ImageError("The chain of virtual hard disks has a cycle.")
            seen.append(here.lower())
            image = machine.open_image(here)
            if image.facts.type == DIFFERENCING:
                image.payload.read_at(0, 512)  # opens the parent, which checks the identifiers
            here = image.facts.parent_path

    return _start(machine, 9, "Validating Virtual Hard Disk", path, work)


@method(NS, SERVICE, "ValidatePersistentReservationSupport")
def validate_sharing(machine: Machine, _target: Instance | None, arguments: dict[str, Value]) -> Row:
    path = _path(arguments)

    def work() -> None:
        machine.resolve(path)
        raise JobFailed(FAILED, f"The storage where '{path}' is located does not support virtual hard disk sharing.")

    return _start(machine, 8, "Validating Sharing Support", path, work)


@method(NS, SERVICE, "CompactVirtualHardDisk")
def compact_virtual_hard_disk(machine: Machine, _target: Instance | None, arguments: dict[str, Value]) -> Row:
    path = _path(arguments)

    def work() -> None:
        machine.open_image(path)

    return _start(machine, 3, "Compacting Virtual Hard Disk", path, work)


# -- attaching to the host


@method(NS, SERVICE, "AttachVirtualHardDisk")
def attach_virtual_hard_disk(machine: Machine, _target: Instance | None, arguments: dict[str, Value]) -> Row:
    path = _path(arguments)

    def work() -> None:
        mount_image(
            machine,
            path,
            read_only=bool(arguments.get("ReadOnly")),
            letters=bool(arguments.get("AssignDriveLetter")),
        )

    return _start(machine, 7, "Attaching Virtual Hard Disk", path, work)


def _mounted_ref(mounted: MountedImage) -> Ref:
    return Ref(NS, "Msvm_MountedStorageImage", {"Lun": mounted.lun, "PathId": 0, "PortNumber": 7, "TargetId": 0})


@view(NS, "Msvm_MountedStorageImage")
def mounted_images(machine: Machine) -> Iterable[Row]:
    for mounted in machine.mounted_images:
        disk = disk_of(machine, mounted)
        yield {
            **managed(machine),
            "Access": 1 if mounted.read_only else 2,
            "Caption": text(machine, "Mounted Storage Image"),
            "Description": text(machine, "Mounted Storage Image"),
            "ElementName": _name_of(mounted.path),
            "Lun": mounted.lun,
            "Name": mounted.path,
            "PathId": 0,
            "PnpDevicePath": disk.path if disk is not None else None,
            "PortNumber": 7,
            "TargetId": 0,
            "Type": 0,
        }


@method(NS, SERVICE, "FindMountedStorageImageInstance")
def find_mounted_image(machine: Machine, _target: Instance | None, arguments: dict[str, Value]) -> Row:
    wanted, kind = arguments.get("SelectionCriterion"), arguments.get("CriterionType")
    if not isinstance(wanted, str) or kind != 2:
        return {"ReturnValue": INVALID}
    mounted = find_mounted(machine, wanted)
    if mounted is None:
        return {"ReturnValue": NOT_MOUNTED}
    return {"ReturnValue": 0, "Image": _mounted_ref(mounted)}


@method(NS, "Msvm_MountedStorageImage", "DetachVirtualHardDisk")
def detach_virtual_hard_disk(machine: Machine, target: Instance | None, _arguments: dict[str, Value]) -> Row:
    path = str(target.get("Name")) if target is not None else ""
    mounted = find_mounted(machine, path)
    if mounted is None:
        return {"ReturnValue": 1}
    dismount_image(machine, mounted)
    return {"ReturnValue": 0}
