# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Holds the fit of `_hyperv/vhd_fit.py` against real NTFS: LUNs as sparse images, mkntfs, ntfs-3g, real fixed VHDs.

For each LUN: the fixed VHD of the largest `certain` size must fit, that of the largest `possible` size must fit here, and
one MiB more must not. Responsible for the machine's side and the table; not for the arithmetic.

Needs Linux, root, loop devices, /dev/fuse, mkntfs and ntfs-3g, and as much free disk as the largest LUN; says what is
missing and ends with status 2. NTFS made by mkntfs is not NTFS made by Windows: windows-storage 5.2 tells the difference.

Usage: ntfs_fit.py [LUN size in GiB ...]        `make heavy` calls it with 1 5 10 20
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv import vhd_fit
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.vhd_fit import GIB, MIB, VolumeShape

TOOLS = ("mkntfs", "ntfs-3g", "losetup", "umount")
SIZES_GIB = (1, 5, 10, 20)
FIRST_PARTITION = 16 * MIB  # where Windows 2016 and newer put it on a GPT disk
CHUNK = bytes(8 * MIB)
SPARE_DISK = 2 * GIB


@dataclass(frozen=True, kw_only=True)
class Row:
    """One LUN: sizes in bytes as vhd_fit said, and what the real volume said."""

    lun_gib: int
    allocation_unit: int
    free_said: int
    free_found: int
    certain: int
    possible: int
    certain_fits: bool
    possible_fits: bool
    one_more_fits: bool
    image_is_read: str

    @property
    def is_good(self) -> bool:
        return (
            self.certain_fits
            and self.possible_fits
            and not self.one_more_fits
            and self.free_said == self.free_found
            and self.image_is_read != "wrong"
        )


def missing() -> str:
    """Why this cannot run here, or nothing."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "it mounts images, which needs Linux and root"
    lacking = [tool for tool in TOOLS if shutil.which(tool, path=tool_path()) is None]
    if lacking:
        return f"{', '.join(lacking)} not found (on Debian: apt install ntfs-3g util-linux)"
    if not Path("/dev/fuse").exists():
        return "there is no /dev/fuse, so that ntfs-3g cannot mount"
    try:
        run("losetup", "-f")
    except subprocess.CalledProcessError:
        return "no loop device can be had"
    return ""


def tool_path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def run(*command: str) -> str:
    done = subprocess.run(command, env={**os.environ, "PATH": tool_path()}, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@contextlib.contextmanager
def ntfs_on_a_lun(place: Path, lun_bytes: int, shape: VolumeShape) -> Iterator[Path]:
    """A sparse LUN whose largest partition is NTFS, mounted; everything is gone afterwards."""
    image, folder = place / "lun.img", place / "volume"
    folder.mkdir(exist_ok=True)
    with image.open("wb") as file:
        file.truncate(lun_bytes)
    partition = vhd_fit.volume_bytes(lun_bytes, shape) + shape.allocation_unit  # NTFS leaves its last cluster out
    device = run("losetup", "-f", "--show", "-o", str(FIRST_PARTITION), "--sizelimit", str(partition), str(image))
    try:
        run("mkntfs", "-Q", "-F", "-c", str(shape.allocation_unit), device)
        run("ntfs-3g", "-o", "big_writes", device, str(folder))
        try:
            yield folder
        finally:
            run("umount", str(folder))
    finally:
        run("losetup", "-d", device)
        image.unlink()


def vhd_footer(data_bytes: int) -> bytes:
    """The 512 bytes behind a fixed VHD's data (windows-storage 5.3)."""
    head = struct.pack(">8sIIQI4sI4sQQHBBI", b"conectix", 2, 0x00010000, 2**64 - 1, 0, b"win ", 0x000A0000, b"Wi2k",
                       data_bytes, data_bytes, 65535, 16, 255, 2)  # fmt: skip
    body = head + bytes(4) + uuid.UUID(int=data_bytes).bytes + bytes(428)
    checksum = struct.pack(">I", ~sum(body) & 0xFFFFFFFF)
    return body[:64] + checksum + body[68:]


def grow_vhd(file: BinaryIO, from_bytes: int, data_bytes: int) -> bool:
    """Make it a fixed VHD of that much data, really written; whether it fitted."""
    try:
        file.seek(from_bytes)
        left = data_bytes - from_bytes
        while left:
            left -= file.write(CHUNK[: min(left, len(CHUNK))])
        file.write(vhd_footer(data_bytes))
        os.fsync(file.fileno())
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return False
    return True


def reads_as_vhd(path: Path, data_bytes: int) -> str:
    """What qemu-img says of the file; `not asked` where it is absent."""
    if shutil.which("qemu-img") is None:
        return "not asked"
    told = run("qemu-img", "info", "-f", "vpc", str(path))
    return "yes" if f"({data_bytes} bytes)" in told else "wrong"


def measure(place: Path, lun_gib: int, shape: VolumeShape) -> Row:
    lun = lun_gib * GIB
    certain, possible = (
        vhd_fit.largest_data_bytes(lun, "VHD", shape, reserve_bytes=0, conservative=conservative)
        for conservative in (True, False)
    )
    with ntfs_on_a_lun(place, lun, shape) as volume:
        free = os.statvfs(volume)
        free_found = free.f_bavail * free.f_frsize
        path = volume / "lun.vhd"
        with path.open("wb", buffering=0) as file:
            certain_fits = grow_vhd(file, 0, certain)
            read = reads_as_vhd(path, certain) if certain_fits else "not asked"
            possible_fits = certain_fits and grow_vhd(file, certain, possible)
            one_more_fits = possible_fits and grow_vhd(file, possible, possible + MIB)
    return Row(
        lun_gib=lun_gib,
        allocation_unit=shape.allocation_unit,
        free_said=vhd_fit.free_after_format(lun, shape, conservative=False),
        free_found=free_found,
        certain=certain,
        possible=possible,
        certain_fits=certain_fits,
        possible_fits=possible_fits,
        one_more_fits=one_more_fits,
        image_is_read=read,
    )


def main(arguments: list[str]) -> int:
    reason = missing()
    if reason:
        print(f"The heavy NTFS session cannot run here: {reason}.")
        return 2
    sizes = [int(text) for text in arguments] or list(SIZES_GIB)
    rows = []
    print(
        "| LUN GiB | cluster | free said | free found | certain MiB | fits | possible MiB | fits | +1 MiB fits | qemu-img |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for lun_gib in sizes:
        with tempfile.TemporaryDirectory(prefix="ntfs-fit-") as name:
            free = shutil.disk_usage(name).free
            if free < lun_gib * GIB + SPARE_DISK:
                print(f"A LUN of {lun_gib} GiB needs that much free disk and 2 GiB more; {name} has {free // GIB} GiB.")
                return 2
            for unit in (65536, 4096) if lun_gib <= 1 else (65536,):
                row = measure(Path(name), lun_gib, VolumeShape(allocation_unit=unit))
                rows.append(row)
                print(
                    f"| {row.lun_gib} | {row.allocation_unit} | {row.free_said} | {row.free_found} | {row.certain // MIB} | "
                    f"{_yes(row.certain_fits)} | {row.possible // MIB} | {_yes(row.possible_fits)} | "
                    f"{_yes(row.one_more_fits)} | {row.image_is_read} |",
                    flush=True,
                )
    wrong = [row for row in rows if not row.is_good]
    print("All as calculated." if not wrong else f"{len(wrong)} of {len(rows)} LUNs differ from the calculation.")
    return 1 if wrong else 0


def _yes(value: bool) -> str:
    return "yes" if value else "no"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
