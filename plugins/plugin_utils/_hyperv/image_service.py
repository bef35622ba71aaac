# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
r"""Hyper-V's image management service: make a fixed virtual hard disk, copy a disk into one, check it, mount it read-only.

Copying a physical disk is what Microsoft's New-VHD -SourceDisk does: ConvertVirtualHardDisk with `\\.\PHYSICALDRIVEn` as
the source (hyperv-wmi 5.3; the documentation of the method speaks of files only). All sizes of the new file come from the
source. Copies take hours, so that a copy is found again by the id of its job.

Not here: which disk has which number at the moment (`host_disks`), whether the file fits (`vhd_fit`), renaming (`host_files`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from .._wsman import CimInstance, CimPath, OutcomeUnknown, Value, WsmanFault
from .cim_access import CimClient, int_of, invoke_checked, text_of
from .disk_identity import disk_guid
from .errors import HypervError, JobFailed, Precondition
from .guest_disks import partition_record
from .guest_model import GuestPartition
from .host import read_virtual_hard_disk
from .host_disks import STORAGE_CODES, row_path
from .jobs import HYPERV_CODES, JOB_STARTED, VANISHED, Hands, JobStatus, act, look_until, pause, read_job
from .model import PARTITION_STYLES, VirtualHardDisk, word
from .schema import STORAGE, VIRTUALIZATION

IMAGE_SERVICE = CimPath(
    VIRTUALIZATION, "Msvm_ImageManagementService", {"CreationClassName": "Msvm_ImageManagementService"}
)
_FORMATS: Mapping[str, int] = {"VHD": 2, "VHDX": 3}
_TYPES: Mapping[str, int] = {"fixed": 2, "dynamic": 3}
_BY_PATH = 2  # CriterionType (hyperv-wmi 5.4)
_NOT_MOUNTED = 32789
_FILE_NOT_FOUND = 32779
_KILL = 5  # RequestedState of a job (hyperv-wmi 4.3)
_ACTIVE_JOBS = "(JobState = 2 OR JobState = 3 OR JobState = 4 OR JobState = 6)"
# 1 creation, 6 conversion (hyperv-wmi 4.3); which one a copy of a physical disk shows is not known
_WRITING_JOBS = (1, 6)


@dataclass(frozen=True, kw_only=True)
class DiskLayout:
    """What identifies a disk's content without reading it: partition style, identity and partitions by offset."""

    size_bytes: int | None
    partition_style: str | None
    guid: str | None
    signature: int | None
    partitions: tuple[GuestPartition, ...]

    def differences(self, other: DiskLayout) -> list[str]:
        """What is not the same, in words; sizes and offsets in bytes."""
        found = [
            f"{name.replace('_', ' ')} {getattr(self, name)} and {getattr(other, name)}"
            for name in ("size_bytes", "partition_style", "guid", "signature")
            if getattr(self, name) != getattr(other, name)
        ]
        mine, others = ([_extent(item) for item in layout.partitions] for layout in (self, other))
        if mine != others:
            found.append(f"partitions {mine} and {others}")
        return found


def _extent(partition: GuestPartition) -> tuple[int | None, int | None, str]:
    return (partition.offset_bytes, partition.size_bytes, str(partition.gpt_type or partition.mbr_type or ""))


# --- Making and copying --------------------------------------------------------------------------------------------


def physical_drive(number: int) -> str:
    r"""`\\.\PHYSICALDRIVEn`, the source of a copy of the disk that has this number now."""
    return rf"\\.\PHYSICALDRIVE{number}"


def _setting(
    path: str, format_name: str, *, size_bytes: int = 0, sector_bytes: int = 0, type_name: str = "fixed"
) -> CimInstance:
    """As Microsoft's client fills it; 0 means "from the source" or "default" (hyperv-wmi 5.2, 5.3)."""
    values: dict[str, Value] = {
        "Path": path,
        "Type": _TYPES[type_name],
        "Format": _FORMATS[format_name],
        "BlockSize": 0,
        "MaxInternalSize": size_bytes,
        "LogicalSectorSize": sector_bytes,
        "PhysicalSectorSize": 0,
    }
    return CimInstance("Msvm_VirtualHardDiskSettingData", VIRTUALIZATION, values)


def start_copy(
    client: CimClient, source: str, path: str, format_name: str, hands: Hands, *, type_name: str = "fixed"
) -> tuple[bool, str | None]:
    """Begin to copy a disk or a virtual hard disk into a new one.

    Args:
        source: `physical_drive(n)`, or the path of a virtual hard disk on the host.
        type_name: `fixed`, or `dynamic` for a virtual hard disk that grows.

    Returns: (finished already, id of the job). (False, None) when the reply was lost: whether it was begun is unknown.

    Raises: MethodFailed when the service refuses; nothing was made then.
    """
    setting = _setting(path, format_name, type_name=type_name)
    arguments: dict[str, Value] = {"SourcePath": source, "VirtualDiskSettingData": setting}
    return _start(client, "ConvertVirtualHardDisk", arguments, hands, what=f"Copying {source} to {path}")


def start_making(
    client: CimClient, path: str, format_name: str, hands: Hands, *, size_bytes: int, sector_bytes: int = 512
) -> tuple[bool, str | None]:
    """Begin to make an empty fixed virtual hard disk; returns and raises as `start_copy`."""
    sector = sector_bytes if format_name == "VHDX" else 0
    setting = _setting(path, format_name, size_bytes=size_bytes, sector_bytes=sector)
    return _start(client, "CreateVirtualHardDisk", {"VirtualDiskSettingData": setting}, hands, what=f"Making {path}")


def _start(
    client: CimClient, method: str, arguments: Mapping[str, Value], hands: Hands, *, what: str
) -> tuple[bool, str | None]:
    hands.should_stop()
    try:
        result = invoke_checked(
            client, IMAGE_SERVICE, method, arguments, what=what, codes=HYPERV_CODES, accept=(0, JOB_STARTED)
        )
    except OutcomeUnknown:
        return False, None
    if result.return_value != JOB_STARTED:
        return True, None
    job = result.out.get("Job")
    found = job.key("InstanceID") if isinstance(job, CimPath) else None
    return False, found if isinstance(found, str) else None


def look_at_copy(client: CimClient, job_id: str) -> JobStatus:
    """The job of a copy now; state `vanished` when the host does not know it any more."""
    return read_job(client, CimPath(VIRTUALIZATION, "Msvm_StorageJob", {"InstanceID": job_id}))


def wait_for_copy(client: CimClient, job_id: str, hands: Hands, *, what: str) -> JobStatus:
    """Wait until the job has ended, however; the caller judges the status. Raises: HypervError `job_timeout`."""
    began = hands.now()
    shown: int | None = -1
    while True:
        status = look_at_copy(client, job_id)
        if status.is_done or status.has_failed or status.state == VANISHED:
            return status
        if status.percent != shown:
            shown = status.percent
            hands.progress(f"{what}: {status.percent or 0} %")
        if hands.now() - began >= hands.timeout_s:
            raise HypervError(
                "job_timeout",
                f"{what} is at {status.percent or 0} % after {int(hands.timeout_s)} s; the host's job goes on, so run again "
                f"to attach to it, or raise wait_timeout.",
                {"job": job_id, "percent": status.percent},
            )
        pause(hands)


def wait_for_others(client: CimClient, hands: Hands, *, what: str) -> None:
    """Wait until no job of the image service makes or converts a file: one of them may be ours, its id was lost.

    Raises: HypervError `job_timeout`.
    """
    began = hands.now()
    while True:
        rows = client.query(VIRTUALIZATION, "Msvm_StorageJob", where=_ACTIVE_JOBS)
        busy = [row for row in rows if int_of(row, "JobType") in (None, 0, *_WRITING_JOBS)]
        if not busy:
            return
        hands.progress(f"{what}: waiting for {len(busy)} job(s) of the host that make virtual hard disks")
        if hands.now() - began >= hands.timeout_s:
            raise HypervError(
                "job_timeout",
                f"{what}: the host still makes virtual hard disks after {int(hands.timeout_s)} s; run again.",
            )
        pause(hands)


def copy_failed(what: str, status: JobStatus) -> JobFailed:
    """The error for a copy that ended badly; `error_description` is in the host's language and only shown."""
    code = status.error_code
    name = HYPERV_CODES.get(code, "no documented name") if code is not None else "not told"
    said = f" Hyper-V says: {status.error_description}" if status.error_description else ""
    return JobFailed(
        "job_failed",
        f"{what}: the host's job ended as {status.state} with error code {code} ({name}).{said}",
        {"state": status.state, "code": code, "code_name": name},
    )


def cancel_copy(client: CimClient, job_id: str, hands: Hands, *, what: str) -> None:
    """End a copy that is not wanted any more; one that cannot be ended is waited for, because it reads the source."""
    status = look_at_copy(client, job_id)
    if status.is_done or status.has_failed or status.state == VANISHED:
        return
    try:
        act(client, status.path, "RequestStateChange", {"RequestedState": _KILL}, hands, what=f"{what}: ending it")
    except (HypervError, WsmanFault):
        hands.progress(f"{what}: it cannot be ended, so that its end is waited for")
    wait_for_copy(client, job_id, hands, what=what)


def set_disk_id(client: CimClient, path: str, disk_id: str, hands: Hands) -> None:
    """Give a virtual hard disk the id that another one had: the guest tells its disks by it, and a copy gets a new one.

    Raises: MethodFailed, JobFailed; HypervError `not_observed`.
    """
    if (read_virtual_hard_disk(client, path).id or "").casefold() == disk_id.casefold():
        return
    values: dict[str, Value] = {"Path": path, "VirtualDiskId": disk_id}
    setting = CimInstance("Msvm_VirtualHardDiskSettingData", VIRTUALIZATION, values)
    what = f"Giving {path} the id {disk_id}"
    act(client, IMAGE_SERVICE, "SetVirtualHardDiskSettingData", {"VirtualDiskSettingData": setting}, hands, what=what)

    def given() -> bool | None:
        return True if (read_virtual_hard_disk(client, path).id or "").casefold() == disk_id.casefold() else None

    look_until(given, hands, what=what)


# --- Checking and mounting -----------------------------------------------------------------------------------------


def validate(client: CimClient, path: str, hands: Hands) -> None:
    """Let Hyper-V check the file itself: its footer or header, its structure. Raises: MethodFailed, JobFailed."""
    what = f"Validating {path}"
    for _unused in range(2):  # nothing is changed by it, so that it may be asked once more when the answer was lost
        if act(client, IMAGE_SERVICE, "ValidateVirtualHardDisk", {"Path": path}, hands, what=what) is not None:
            return
    raise HypervError("not_observed", f"{what}: the host did not tell the result twice; run again.")


def check_image(
    client: CimClient, path: str, *, format_name: str, size_bytes: int, sector_bytes: int | None = None
) -> VirtualHardDisk:
    """The file's own data are those of a whole fixed virtual hard disk of exactly that size.

    Raises: Precondition `vhd_wrong`.
    """
    found = read_virtual_hard_disk(client, path)
    wrong = [
        f"{name} {has} instead of {wanted}"
        for name, has, wanted in (
            ("format", found.format, format_name),
            ("type", found.type, "fixed"),
            ("size", found.size_bytes, size_bytes),
            ("sector size", found.logical_sector_bytes if sector_bytes else None, sector_bytes or None),
        )
        if has != wanted
    ]
    if found.file_size_bytes is not None and found.file_size_bytes < size_bytes:
        wrong.append(f"a file of {found.file_size_bytes} bytes, less than its data")
    if wrong or found.problem:
        raise Precondition(
            "vhd_wrong",
            f"{path} is not what was made: {'; '.join(wrong) or found.problem}. It is left where it is; look at it.",
        )
    return found


def mounted_image(client: CimClient, path: str) -> CimPath | None:
    """The loopback mount of a file on the host; None when it is not mounted."""
    result = invoke_checked(
        client,
        IMAGE_SERVICE,
        "FindMountedStorageImageInstance",
        {"SelectionCriterion": path, "CriterionType": _BY_PATH},
        what=f"Looking whether {path} is mounted on the host",
        codes=HYPERV_CODES,
        accept=(0, _NOT_MOUNTED, _FILE_NOT_FOUND),
    )
    image = result.out.get("Image")
    return image if isinstance(image, CimPath) else None


@contextlib.contextmanager
def mounted_read_only(
    client: CimClient,
    path: str,
    hands: Hands,
    *,
    guid: str | None,
    signature: int | None,
    keep: bool = False,
    leave_on: frozenset[str] = frozenset(),
) -> Iterator[CimInstance]:
    """A virtual hard disk mounted read-only and without letters, as its row of MSFT_Disk; taken away again afterwards.

    Args:
        guid, signature: of the disk that was copied. While a disk with one of them is online on the host, nothing is
            mounted: Windows could hold one of the two back, or write a new identity (windows-storage 6.4).
        keep: use a mount that is there; otherwise it was left behind by a run that was broken off, and goes first.
        leave_on: kinds of errors after which it stays, because somebody still reads it.

    Raises: Precondition `identity_online`; HypervError `not_observed`.
    """
    is_mounted = mounted_image(client, path) is not None
    if is_mounted and not keep:
        dismount(client, path, hands)
        is_mounted = False
    what = f"Mounting {path} read-only"
    try:
        if not is_mounted:
            _refuse_twin(client, path, guid, signature)
            arguments: dict[str, Value] = {"Path": path, "AssignDriveLetter": False, "ReadOnly": True}
            act(client, IMAGE_SERVICE, "AttachVirtualHardDisk", arguments, hands, what=what)
        yield look_until(lambda: disk_of_image(client, path), hands, what=what)
    except BaseException as error:
        if getattr(error, "kind", "") not in leave_on:
            dismount(client, path, hands)
        raise
    dismount(client, path, hands)


def _refuse_twin(client: CimClient, path: str, guid: str | None, signature: int | None) -> None:
    twin = next((row for row in client.query(STORAGE, "MSFT_Disk") if _is_online_twin(row, guid, signature)), None)
    if twin is not None:
        raise Precondition(
            "identity_online",
            f"{path} is not mounted for its verification, because disk {int_of(twin, 'Number')} (UniqueId "
            f"{text_of(twin, 'UniqueId').strip()}) has the same identity and is online on the host; take it offline.",
        )


def take_image_offline(client: CimClient, path: str, hands: Hands) -> None:
    """Let Windows leave a mounted file's disk alone, so that a disk with the same identity may come; its bytes stay readable."""
    row = disk_of_image(client, path)
    if row is None or row.get("IsOffline") is True:
        return
    what = f"Taking the disk of {path} offline"
    act(client, row_path(row), "Offline", {}, hands, what=what, codes=STORAGE_CODES)

    def is_offline() -> bool | None:
        now = disk_of_image(client, path)
        return True if now is not None and now.get("IsOffline") is True else None

    look_until(is_offline, hands, what=what)


def dismount(client: CimClient, path: str, hands: Hands) -> bool:
    """Take a file's loopback mount away; whether there was one. Its answer 1 means failed (hyperv-wmi 5.4)."""
    image = mounted_image(client, path)
    if image is None:
        return False
    what = f"Dismounting {path}"
    act(client, image, "DetachVirtualHardDisk", {}, hands, what=what, codes={1: "failed"})
    look_until(lambda: True if mounted_image(client, path) is None else None, hands, what=what)
    return True


def disk_layout(client: CimClient, row: CimInstance) -> DiskLayout:
    """The layout of one MSFT_Disk; partitions show while the disk is offline too (windows-storage 6.1)."""
    number = int_of(row, "Number")
    partitions = client.query(STORAGE, "MSFT_Partition", where=f"DiskNumber = {number}") if number is not None else []
    ordered = sorted(
        (item for item in partitions if int_of(item, "DiskNumber") == number),
        key=lambda item: int_of(item, "Offset") or 0,
    )
    return DiskLayout(
        size_bytes=int_of(row, "Size"),
        partition_style=word(PARTITION_STYLES, int_of(row, "PartitionStyle")),
        guid=disk_guid(row),
        signature=int_of(row, "Signature"),
        partitions=tuple(partition_record(item) for item in ordered),
    )


def disk_of_image(client: CimClient, path: str) -> CimInstance | None:
    """The disk that the mounted file became: its Location is the file's path (hyperv-wmi 5.4)."""
    rows = client.query(STORAGE, "MSFT_Disk")
    return next((row for row in rows if text_of(row, "Location").strip().casefold() == path.casefold()), None)


def _is_online_twin(row: CimInstance, guid: str | None, signature: int | None) -> bool:
    if row.get("IsOffline") is True:
        return False
    return (guid is not None and disk_guid(row) == guid) or (bool(signature) and int_of(row, "Signature") == signature)
