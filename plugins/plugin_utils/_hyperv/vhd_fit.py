# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""Does one fixed virtual hard disk of a given size fit on a LUN of a given size, and how far must the LUN grow?

Pure arithmetic over sizes, from windows-storage 5: GPT and MSR, NTFS or ReFS on the largest partition, the file's own
overhead. Three answers: `certain` (the conservative formula says yes), `possible` (only the measured floor says yes, so
that the formatted volume has the last word) and `no`. Also here: VHD or VHDX, and the bytes that the file allocates.

Not here: reading or formatting disks, the order of a migration (`migration_plan`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .errors import Precondition
from .model import record_dict

MIB = 1024**2
GIB = 1024**3

# The smallest shadow storage area (320 MB, windows-storage 5.2) and NTFS's own growth, in one LUN-sized step (5.5).
DEFAULT_RESERVE = GIB
DEFAULT_ALLOCATION_UNIT = 65536
ALLOCATION_UNITS = (4096, 65536)  # the two that were measured; ReFS allows no others (windows-storage 3.2)
FILE_SYSTEMS = ("NTFS", "ReFS")
FORMATS = ("VHD", "VHDX")

VHD_MAX_BYTES = 2040 * GIB  # windows-storage 5.3
VHDX_MAX_BYTES = 64 * 1024 * GIB  # windows-storage 5.4
VHD_MIN_BYTES = 3 * MIB
_VHD_FOOTER = 512
_VHDX_BLOCK = 32 * MIB
_VHDX_FRONT = 3 * MIB  # header area, log and metadata of 1 MiB each; the block table is counted apart
_VHDX_MARGIN = 64 * MIB  # what Windows really takes for a fixed VHDX is not known to the byte (windows-storage 9)

# windows-storage 5.1
_FIRST_BUILD_WITH_SMALL_MSR = 14393  # Windows Server 2016
_LEAD_SMALL_MSR = 16 * MIB
_LEAD_OLD_MSR = 129 * MIB
_LEAD_OLD_MSR_SMALL_DISK = 33 * MIB
_OLD_SMALL_DISK = 16 * 10**9
_BACKUP_GPT: Mapping[int, int] = {512: 33 * 512, 4096: 5 * 4096}

# windows-storage 5.2 and 5.5; what mkntfs occupies by itself is exact in all measured sizes of its table
_LOG_CAP = 64 * MIB
_LOG_PARTS = 200  # $LogFile is 0.5 % of the volume
_FIXED_CLUSTERS: Mapping[int, int] = {65536: 14, 4096: 112}
_NTFS_CONSERVATIVE = 256 * MIB

# Two volumes were seen (windows-storage 5.2): 1.01 GiB used of 9.94, 1.89 GiB of 126.94. The floor is the line through
# both; twice that line is what is called certain (assumption).
_REFS_BASE = 956 * MIB
_REFS_PARTS = 133

# A copy's duration is only ever an estimate, said as one: no source gives a rate (assumption).
ESTIMATED_BYTES_PER_S = 100 * MIB
# Changed blocks during a backup: about a tenth of the data (design, section 6).
_CHURN_PARTS = 10


@dataclass(frozen=True, kw_only=True)
class VolumeShape:
    """How the LUN will be formatted, as far as that decides what is left of it."""

    file_system: str = "NTFS"
    allocation_unit: int = DEFAULT_ALLOCATION_UNIT
    os_build: int = _FIRST_BUILD_WITH_SMALL_MSR
    logical_sector_bytes: int = 512

    def __post_init__(self) -> None:
        if self.file_system not in FILE_SYSTEMS or self.allocation_unit not in ALLOCATION_UNITS:
            raise ValueError(
                f"no numbers are known for {self.file_system} with clusters of {self.allocation_unit} bytes"
            )


@dataclass(frozen=True, kw_only=True)
class FormatChoice:
    """`VHD` or `VHDX`, and why."""

    format: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Fit:
    """The answer for one disk and one LUN; all sizes in bytes.

    Attributes:
        answer: `certain`, `possible` or `no`.
        growth_bytes: by how much the LUN must grow for `certain`, whole MiB; 0 when it is certain now.
        growth_gib: the same for an array that grows in GiB.
        left_free_bytes: what the volume has left at least beside the file, when it is certain.
        snapshot_bytes: what a software shadow copy or a recovery checkpoint on the same LUN can need beyond that.
    """

    answer: str
    lun_bytes: int
    data_bytes: int
    file_bytes: int
    format: str
    file_system: str
    allocation_unit: int
    reserve_bytes: int
    largest_certain_bytes: int
    largest_possible_bytes: int
    growth_bytes: int
    growth_gib: int
    left_free_bytes: int
    snapshot_bytes: int
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, object]:
        return record_dict(self)


# --- VHD or VHDX --------------------------------------------------------------------------------------------------


def choose_format(
    wanted: str | None, *, generation: int | None, size_bytes: int, logical_sector_bytes: int | None
) -> FormatChoice:
    """VHDX where Hyper-V needs it, else VHD unless VHDX was asked for.

    Raises:
        Precondition: `vhd_on_generation_2`, `vhd_4kn`, `vhd_too_large`, `disk_too_large`, `disk_too_small`; nothing can
            have been changed yet, because this is asked first.
    """
    if size_bytes > VHDX_MAX_BYTES:
        raise Precondition(
            "disk_too_large",
            f"The disk has {gib_text(size_bytes)} and a virtual hard disk at most {gib_text(VHDX_MAX_BYTES)}; "
            f"it must stay a pass-through disk.",
        )
    if size_bytes < VHD_MIN_BYTES:
        raise Precondition(
            "disk_too_small",
            f"The disk has {size_bytes} bytes and a virtual hard disk at least {VHD_MIN_BYTES}; check the disk's size.",
        )
    needs = _needs_vhdx(generation, size_bytes, logical_sector_bytes)
    if wanted == "VHD" and needs is not None:
        kind, reason = needs
        raise Precondition(kind, f"The format VHD was asked for, but {reason}; leave vhd_format out or set it to VHDX.")
    if needs is not None:
        return FormatChoice(format="VHDX", reason=needs[1])
    if wanted == "VHDX":
        return FormatChoice(format="VHDX", reason="it was asked for")
    return FormatChoice(
        format="VHD", reason="generation 1 and at most 2040 GiB: nothing in front of the data, one footer behind it"
    )


def _needs_vhdx(generation: int | None, size_bytes: int, logical_sector_bytes: int | None) -> tuple[str, str] | None:
    if generation != 1:
        return "vhd_on_generation_2", "a VM of generation 2 starts only with VHDX"
    if logical_sector_bytes not in (None, 512):
        return "vhd_4kn", f"the disk has sectors of {logical_sector_bytes} bytes and a VHD always 512"
    if size_bytes > VHD_MAX_BYTES:
        return "vhd_too_large", f"the disk has {gib_text(size_bytes)} and a VHD at most {gib_text(VHD_MAX_BYTES)}"
    return None


def file_bytes(format_name: str, data_bytes: int, *, conservative: bool = False) -> int:
    """Size of the file of a fixed virtual hard disk (windows-storage 5.3, 5.4)."""
    if format_name == "VHD":
        return data_bytes + _VHD_FOOTER
    blocks = -(-data_bytes // _VHDX_BLOCK)
    table = _up(blocks * 8, MIB)
    size = blocks * _VHDX_BLOCK + _VHDX_FRONT + table
    return max(size, data_bytes + _VHDX_MARGIN) if conservative else size


# --- The volume ---------------------------------------------------------------------------------------------------


def volume_bytes(lun_bytes: int, shape: VolumeShape) -> int:
    """Size of the volume on the largest partition of a GPT disk; not above zero when there is no room for one."""
    backup = _BACKUP_GPT.get(shape.logical_sector_bytes, _BACKUP_GPT[4096])
    end = (lun_bytes - backup) // MIB * MIB
    return end - _lead(lun_bytes, shape.os_build) - shape.allocation_unit


def _lead(lun_bytes: int, os_build: int) -> int:
    if os_build >= _FIRST_BUILD_WITH_SMALL_MSR:
        return _LEAD_SMALL_MSR
    return _LEAD_OLD_MSR_SMALL_DISK if lun_bytes < _OLD_SMALL_DISK else _LEAD_OLD_MSR


def free_after_format(lun_bytes: int, shape: VolumeShape, *, conservative: bool) -> int:
    """What a fresh volume has free: at least (conservative) or at most (the measured floor of what is used)."""
    volume = volume_bytes(lun_bytes, shape)
    if volume <= 0:
        return 0
    if shape.file_system == "ReFS":
        used = _REFS_BASE + volume // _REFS_PARTS
        return max(0, volume - (2 * used if conservative else used))
    unit = shape.allocation_unit
    bitmap = _up(-(-volume // unit) // 8 + 1, unit)
    if conservative:
        return max(0, volume - _NTFS_CONSERVATIVE - bitmap)
    log = min(_LOG_CAP, volume // _LOG_PARTS // unit * unit)
    return max(0, volume - log - bitmap - _FIXED_CLUSTERS[unit] * unit)


def holds(
    data_bytes: int, lun_bytes: int, format_name: str, shape: VolumeShape, *, reserve_bytes: int, conservative: bool
) -> bool:
    """Whether the file for that much data fits while `reserve_bytes` of the LUN stay unused by the data.

    The reserve counts from the LUN's size: partitioning and the file system are paid from it first, and where they cost
    more, they alone decide. The 512 bytes behind a VHD's data cost one whole cluster (windows-storage 5.2).
    """
    size = file_bytes(format_name, data_bytes, conservative=conservative)
    free = free_after_format(lun_bytes, shape, conservative=conservative)
    return data_bytes <= lun_bytes - reserve_bytes and _up(size, shape.allocation_unit) <= free


def largest_data_bytes(
    lun_bytes: int, format_name: str, shape: VolumeShape, *, reserve_bytes: int = DEFAULT_RESERVE, conservative: bool
) -> int:
    """The largest data size in whole MiB that `holds`; 0 for none."""
    low, high = 0, lun_bytes // MIB + 1
    while high - low > 1:
        middle = (low + high) // 2
        fits = holds(
            middle * MIB, lun_bytes, format_name, shape, reserve_bytes=reserve_bytes, conservative=conservative
        )
        low, high = (middle, high) if fits else (low, middle)
    return low * MIB


def needed_lun_bytes(
    data_bytes: int, format_name: str, shape: VolumeShape, *, reserve_bytes: int = DEFAULT_RESERVE
) -> int:
    """The smallest LUN, in whole MiB, on which the answer is `certain`; a LUN of the data's own size never is."""

    def is_certain(lun_mib: int) -> bool:
        return holds(data_bytes, lun_mib * MIB, format_name, shape, reserve_bytes=reserve_bytes, conservative=True)

    low = data_bytes // MIB
    step = 1
    while not is_certain(low + step):
        step *= 2
    high = low + step
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_certain(middle) else (middle, high)
    return high * MIB


# --- The answer ---------------------------------------------------------------------------------------------------


def fit(
    *,
    data_bytes: int,
    lun_bytes: int,
    format_name: str,
    shape: VolumeShape,
    reserve_bytes: int = DEFAULT_RESERVE,
) -> Fit:
    """Does a fixed virtual hard disk of exactly `data_bytes` fit on a LUN of `lun_bytes` that is formatted like `shape`?"""
    certain, possible = (
        largest_data_bytes(lun_bytes, format_name, shape, reserve_bytes=reserve_bytes, conservative=conservative)
        for conservative in (True, False)
    )
    fits_surely, fits_perhaps = (
        holds(data_bytes, lun_bytes, format_name, shape, reserve_bytes=reserve_bytes, conservative=conservative)
        for conservative in (True, False)
    )
    answer = "certain" if fits_surely else "possible" if fits_perhaps else "no"
    needed = needed_lun_bytes(data_bytes, format_name, shape, reserve_bytes=reserve_bytes)
    growth = 0 if answer == "certain" else max(MIB, needed - lun_bytes)
    size = file_bytes(format_name, data_bytes, conservative=True)
    left = free_after_format(lun_bytes, shape, conservative=True) - _up(size, shape.allocation_unit)
    return Fit(
        answer=answer,
        lun_bytes=lun_bytes,
        data_bytes=data_bytes,
        file_bytes=file_bytes(format_name, data_bytes),
        format=format_name,
        file_system=shape.file_system,
        allocation_unit=shape.allocation_unit,
        reserve_bytes=reserve_bytes,
        largest_certain_bytes=certain,
        largest_possible_bytes=possible,
        growth_bytes=growth,
        growth_gib=-(-growth // GIB),
        left_free_bytes=max(0, left) if answer == "certain" else 0,
        snapshot_bytes=data_bytes // _CHURN_PARTS,
        notes=_notes(answer, data_bytes, growth, reserve_bytes, shape, max(0, left)),
    )


def _notes(
    answer: str, data_bytes: int, growth: int, reserve_bytes: int, shape: VolumeShape, left: int
) -> tuple[str, ...]:
    notes = []
    if answer == "no":
        notes.append(f"the LUN must grow by {mib_text(growth)} before a file for {gib_text(data_bytes)} surely fits")
    elif answer == "possible":
        notes.append(
            f"only the formatted volume tells whether it fits; with {mib_text(growth)} more on the LUN it would be certain"
        )
    if reserve_bytes == 0:
        notes.append(
            "no reserve was asked for: no software shadow copy and no checkpoint of this VM may ever lie on this LUN"
        )
    elif answer == "certain" and left < data_bytes // _CHURN_PARTS:
        notes.append(
            f"about {mib_text(left)} stay free; a software shadow copy or a recovery checkpoint can need "
            f"{mib_text(data_bytes // _CHURN_PARTS)} or what changes during the backup: raise reserve, keep the shadow "
            f"storage on another volume, or use the array's snapshots"
        )
    if shape.file_system == "ReFS":
        notes.append("ReFS takes about 1 to 2 GB for itself; two measured volumes are all that is known of it")
    return tuple(notes)


def fits_on_volume(fit_before: Fit, size_remaining: int) -> bool:
    """Whether the file fits on the volume as it was really formatted: the number that counts (windows-storage 5.5)."""
    return _up(fit_before.file_bytes, fit_before.allocation_unit) <= size_remaining


def estimated_hours(copied_bytes: int) -> float:
    """Hours at `ESTIMATED_BYTES_PER_S`, one decimal, never 0 for something."""
    return max(0.1, round(copied_bytes / ESTIMATED_BYTES_PER_S / 3600, 1))


# --- Numbers as text ----------------------------------------------------------------------------------------------


def gib_text(size: int) -> str:
    return f"{size / GIB:.2f} GiB ({size} bytes)"


def mib_text(size: int) -> str:
    return f"{-(-size // MIB)} MiB"


def _up(size: int, step: int) -> int:
    return -(-size // step) * step
