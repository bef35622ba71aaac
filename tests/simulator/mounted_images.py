# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Responsible for images that a machine attaches to itself (loopback): as disks with volumes and letters, and away again.

The two providers that offer it are hyperv_images.py and storage.py. Facts: hyperv-wmi 5.4, windows-storage 3.7.
"""

from __future__ import annotations

from .disks import Disk
from .file_system import ERROR_SHARING_VIOLATION, FileSystemError
from .world import Machine, MountedImage


def find_mounted(machine: Machine, path: str) -> MountedImage | None:
    return next((m for m in machine.mounted_images if m.path.lower() == path.lower()), None)


def disk_of(machine: Machine, mounted: MountedImage) -> Disk | None:
    return next((d for d in machine.disks if d.backing.key == f"image:{mounted.path.lower()}"), None)


def mount_image(machine: Machine, path: str, *, read_only: bool, letters: bool) -> MountedImage:
    """Attach; raises FileSystemError (32 when a VM or another mount holds the file) or ImageError."""
    volume, relative = machine.resolve(path)
    image = machine.open_image(path)
    if volume.key_of(relative) in machine.locked_files():
        raise FileSystemError(ERROR_SHARING_VIOLATION, path)
    if not read_only and volume.key_of(relative) in machine.processes.open_files:
        raise FileSystemError(ERROR_SHARING_VIOLATION, path)
    used = {m.lun for m in machine.mounted_images}
    lun = next(n for n in range(256) if n not in used)
    mounted = MountedImage(path, image, read_only or volume.disk.read_only, letters, lun)
    machine.mounted_images.append(mounted)
    machine.rescan()
    disk = disk_of(machine, mounted)
    if letters and disk is not None:
        for found in machine.volumes_of(disk):
            if found.letter is None and not found.partition.no_default_letter:
                found.mount.letter = machine.free_letter()
    return mounted


def dismount_image(machine: Machine, mounted: MountedImage) -> None:
    machine.mounted_images.remove(mounted)
    machine.rescan()
