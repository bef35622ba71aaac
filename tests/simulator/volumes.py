# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Responsible for volumes as one machine mounts them: GUID path, letter, mount points, BitLocker, files and blocks.

And for which file system is laid on a partition's bytes or read from them. Not responsible for the layout itself
(ntfs_file_system.py, partition_file_system.py).
Facts: windows-storage 3.1, 3.2, 5.2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from .content import Content, Window
from .file_system import (
    ERROR_SHARING_VIOLATION,
    ERROR_UNRECOGNIZED_VOLUME,
    ERROR_WRITE_PROTECT,
    BlockFileSystem,
    FileStat,
    FileSystem,
    FileSystemError,
    fold,
    split_path,
)
from .ntfs_file_system import NtfsFileSystem, availability, lays_real_ntfs
from .partition_file_system import PartitionFileSystem, recognise
from .partition_table import EFI_SYSTEM, LDM_DATA, Partition

if TYPE_CHECKING:
    from .disks import Disk
    from .world import Machine

FVE_E_LOCKED_VOLUME = 0x80310000


def lay_file_system(
    content: Content,
    *,
    kind: str,
    label: str = "",
    serial: int,
    cluster_size: int = 4096,
    sector_size: int = 512,
    encrypted: bool = False,
    now: Callable[[], datetime],
) -> BlockFileSystem:
    """Format a partition; ``encrypted`` says that BitLocker will hold it. FileSystemError 112 where it is too small."""
    if lays_real_ntfs(kind, content.size, encrypted=encrypted):
        return NtfsFileSystem.format(
            content, label=label, serial=serial, cluster_size=cluster_size, sector_size=sector_size, now=now
        )
    return PartitionFileSystem.format(
        content, kind=kind, label=label, serial=serial, cluster_size=cluster_size, now=now
    )


def find_file_system(content: Content, now: Callable[[], datetime]) -> BlockFileSystem | None:
    """The file system whose files can be read from the bytes of a partition; None is RAW."""
    found = recognise(content)
    try:
        if found is not None and found.ours:
            return PartitionFileSystem(content, now)
        if found is not None and found.kind == "NTFS" and availability().library is not None:
            return NtfsFileSystem(content, now)
    except FileSystemError:
        return None
    return None


@dataclass
class BitLocker:
    """State of one encrypted volume. ``protection`` on/off, ``locked`` while no key was given; keys live with the machine."""

    locked: bool = False
    protection: bool = True
    method: int = 7
    auto_unlock: bool = False


@dataclass
class Mount:
    """What a machine remembers of a volume GUID: letter ("D" or None) and folders it is mounted in."""

    letter: str | None = None
    folders: list[str] = field(default_factory=list)


class Volume:
    """One volume of one machine. File paths are relative to its root; see file_system.py for their form."""

    def __init__(self, machine: Machine, disk: Disk, partition: Partition, guid: str) -> None:
        self.machine = machine
        self.disk = disk
        self.partition = partition
        self.guid = guid
        self._backend: FileSystem | None = None
        self._backend_version = -2

    # -- where it is

    @property
    def path(self) -> str:
        return f"\\\\?\\Volume{{{self.guid}}}\\"

    @property
    def mount(self) -> Mount:
        return self.machine.mounts.setdefault(self.guid, Mount())

    @property
    def letter(self) -> str | None:
        return self.mount.letter

    @property
    def mount_points(self) -> list[str]:
        return list(self.mount.folders)

    @property
    def access_paths(self) -> list[str]:
        letter = [f"{self.letter}:\\"] if self.letter else []
        return [*letter, *self.mount.folders, self.path]

    @property
    def is_boot(self) -> bool:
        return self.guid == self.machine.boot_volume_guid

    @property
    def is_system(self) -> bool:
        if self.partition.gpt_type == EFI_SYSTEM:
            return self.machine.boots_from(self.disk)
        return self.partition.active and self.machine.boots_from(self.disk)

    @property
    def is_dynamic(self) -> bool:
        return self.partition.gpt_type == LDM_DATA

    # -- what is on it

    @property
    def content(self) -> Content:
        """The bytes of the partition."""
        return Window(self.disk.content, self.partition.offset, self.partition.size)

    @property
    def bitlocker(self) -> BitLocker | None:
        return self.machine.bitlocker.get(self.guid)

    @property
    def locked(self) -> bool:
        found = recognise(self.content)
        if found is None or found.kind != "BitLocker":
            return False
        state = self.bitlocker
        return state is None or state.locked

    def backend(self) -> FileSystem | None:
        """The file system, None when the volume is RAW. BitLocker is not asked here: see :attr:`files`."""
        directory = self.machine.directory_volumes.get(self.guid)
        if directory is not None:
            return directory
        version = self.disk.content.version
        if self._backend_version != version:
            if not self._still_there():
                self._backend = find_file_system(self.content, self.machine.now)
            self._backend_version = version
        if self._backend is not None:
            self._backend.read_only = self.disk.read_only or self.partition.read_only
        return self._backend

    def _still_there(self) -> bool:
        """The bytes changed: does the file system that was found on them know what to do with that?"""
        if isinstance(self._backend, NtfsFileSystem):
            return self._backend.mounts()
        found = recognise(self.content)
        return isinstance(self._backend, PartitionFileSystem) and found is not None and found.ours

    def forget_backend(self) -> None:
        self._backend = None
        self._backend_version = -2

    @property
    def files(self) -> FileSystem:
        """The file system behind this volume, past every sharing lock (what a shadow copy may read).

        Raises FileSystemError: 1005 when RAW, 0x80310000 when BitLocker holds it locked.
        """
        if self.locked:
            raise FileSystemError(FVE_E_LOCKED_VOLUME)
        backend = self.backend()
        if backend is None:
            raise FileSystemError(ERROR_UNRECOGNIZED_VOLUME)
        return backend

    @property
    def file_system(self) -> str:
        """ "NTFS", "ReFS", "FAT32", "exFAT", or "RAW" (nothing recognised, or locked)."""
        if self.machine.directory_volumes.get(self.guid) is not None:
            return self.machine.directory_volumes[self.guid].kind
        found = recognise(self.content)
        if found is None or self.locked:
            return "RAW"
        backend = self.backend()
        return backend.kind if backend is not None else "RAW"

    @property
    def is_raw(self) -> bool:
        return self.file_system == "RAW"

    @property
    def label(self) -> str:
        return "" if self.is_raw else self.files.label

    @property
    def serial(self) -> int:
        return 0 if self.is_raw else self.files.serial

    @property
    def size(self) -> int:
        return self.partition.size if self.is_raw else self.files.size

    @property
    def free(self) -> int:
        return 0 if self.is_raw else self.files.free

    @property
    def allocation_unit(self) -> int:
        return 0 if self.is_raw else self.files.cluster_size

    # -- files, as a program of this machine meets them

    def _guard(self, path: str, *, write: bool) -> FileSystem:
        files = self.files
        if write and (self.disk.read_only or self.partition.read_only):
            raise FileSystemError(ERROR_WRITE_PROTECT, path)
        if self.machine.file_in_use(self, path):
            raise FileSystemError(ERROR_SHARING_VIOLATION, path)
        return files

    def listdir(self, path: str = "") -> list[str]:
        return self.files.listdir(path)

    def stat(self, path: str) -> FileStat:
        return self.files.stat(path)

    def exists(self, path: str) -> bool:
        return self.files.exists(path)

    def walk(self, path: str = "") -> Iterator[FileStat]:
        return self.files.walk(path)

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        return self._guard(path, write=False).read(path, offset, length)

    def write(self, path: str, data: bytes) -> None:
        self._guard(path, write=True).write(path, data)

    def append(self, path: str, data: bytes) -> None:
        self._guard(path, write=True).append(path, data)

    def mkdir(self, path: str, *, parents: bool = False) -> None:
        self._guard(path, write=True).mkdir(path, parents=parents)

    def delete(self, path: str, *, recursive: bool = False) -> None:
        self._guard(path, write=True).delete(path, recursive=recursive)

    def rename(self, old: str, new: str) -> None:
        self._guard(new, write=True)
        self._guard(old, write=True).rename(old, new)

    # -- blocks

    def allocated(self) -> Iterator[tuple[int, int]]:
        """Allocated clusters as (offset, length); empty for a volume whose files are real files of this computer."""
        return self.files.allocated()

    def read_at(self, offset: int, length: int) -> bytes:
        return self.content.read_at(offset, length)

    def write_at(self, offset: int, data: bytes) -> None:
        if self.disk.read_only or self.partition.read_only:
            raise FileSystemError(ERROR_WRITE_PROTECT)
        self.content.write_at(offset, data)

    # -- space that others hold on it

    def reserve(self, purpose: str, size: int) -> None:
        """Let ``purpose`` (a diff area, for example) hold ``size`` bytes; 0 gives them back."""
        reservations = self.files.reservations
        if size:
            reservations[purpose] = size
        else:
            reservations.pop(purpose, None)

    def key_of(self, path: str) -> tuple[str, str]:
        """What tells a file apart on this machine, letter case ignored."""
        return self.guid, "\\".join(fold(part) for part in split_path(path))

    def __repr__(self) -> str:
        return f"<Volume {self.letter or self.path} of {self.machine.name}>"
