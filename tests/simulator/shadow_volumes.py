# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Responsible for the bytes of shadow copies: frozen files or partitions, the volume that shows them, what later writes
cost the diff area.

A shadow copy of a volume whose files are a folder of this computer is a copy of that folder; of any other volume a copy of
the partition's bytes. Holes stay holes. Not responsible for who may make one and when (volume_shadow_service.py).
Facts: windows-storage 5 (diff area), backup-engines 2.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from .content import Content, SparseFile, copy_content
from .file_system import (
    ERROR_UNRECOGNIZED_VOLUME,
    ERROR_WRITE_PROTECT,
    DirectoryFileSystem,
    FileSystem,
    FileSystemError,
)
from .volumes import BitLocker, Mount, Volume, find_file_system

COPY_ON_WRITE_BLOCK = 16384
"""volsnap copies blocks of 16 KiB before they are overwritten."""


class FrozenContent(Content):
    """Bytes that nobody may write any more: Windows answers ERROR_WRITE_PROTECT."""

    def __init__(self, inner: Content) -> None:
        self.inner = inner

    @property
    def size(self) -> int:
        return self.inner.size

    @property
    def version(self) -> int:
        return self.inner.version

    def read_at(self, offset: int, length: int) -> bytes:
        return self.inner.read_at(offset, length)

    def write_at(self, offset: int, data: bytes) -> None:
        raise FileSystemError(ERROR_WRITE_PROTECT)

    def resize(self, size: int) -> None:
        raise FileSystemError(ERROR_WRITE_PROTECT)

    def zero(self, offset: int, length: int) -> None:
        raise FileSystemError(ERROR_WRITE_PROTECT)

    def data_extents(self, offset: int = 0, length: int | None = None) -> Iterator[tuple[int, int]]:
        return self.inner.data_extents(offset, length)


class FrozenDirectory(DirectoryFileSystem):
    """The copied folder behind a shadow copy: everything can be read, nothing written."""

    def open(self, path: str) -> Content:
        return FrozenContent(super().open(path))


def copy_tree(source: Path, target: Path) -> int:
    """Folders and files with their times, holes as holes; the bytes that were really moved."""
    moved = 0
    target.mkdir(parents=True, exist_ok=True)
    for entry in sorted(source.iterdir()):
        goal = target / entry.name
        facts = entry.stat()
        if entry.is_dir():
            moved += copy_tree(entry, goal)
        else:
            moved += copy_content(SparseFile(entry), SparseFile.create(goal, facts.st_size))
        os.utime(goal, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    return moved


def freeze(volume: Volume, directory: Path) -> tuple[FileSystem, Path]:
    """The volume as it is now, below ``directory``: a file system that cannot be written, and where its bytes lie."""
    backend = volume.files
    if isinstance(backend, DirectoryFileSystem):
        copy_tree(backend.root, directory)
        return frozen_directory(backend, directory), directory
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "partition.img"
    copy_content(volume.content, SparseFile.create(path, volume.content.size))
    return frozen_partition(volume, path), path


def frozen_directory(like: DirectoryFileSystem, directory: Path) -> FrozenDirectory:
    frozen = FrozenDirectory(
        directory,
        like.size,
        kind=like.kind,
        label=like.label,
        serial=like.serial,
        cluster_size=like.cluster_size,
        used=like._base_use,
        now=like.now,
    )
    frozen.read_only = True
    return frozen


def frozen_partition(volume: Volume, path: Path) -> FileSystem:
    found = find_file_system(FrozenContent(SparseFile(path)), volume.machine.now)
    if found is None:
        raise FileSystemError(ERROR_UNRECOGNIZED_VOLUME)
    found.read_only = True
    return found


def thaw(volume: Volume, source: Path) -> None:
    """Write what was frozen back over the volume (revert): its files and bytes are those of the shadow copy again."""
    backend = volume.files
    if isinstance(backend, DirectoryFileSystem):
        for name in backend.listdir():
            backend.delete(name, recursive=True)
        copy_tree(source, backend.root)
        backend.recount()
        return
    copy_content(SparseFile(source), volume.content)
    volume.forget_backend()


class ShadowVolume(Volume):
    """A shadow copy as a volume of its machine: it can be read wherever a volume can, by device path or where exposed."""

    def __init__(self, origin: Volume, guid: str, files: FileSystem, device: str) -> None:
        super().__init__(origin.machine, origin.disk, origin.partition, guid)
        self.device = device
        self._frozen = files
        self._mount = Mount()

    @property
    def path(self) -> str:
        return self.device

    @property
    def mount(self) -> Mount:
        return self._mount

    @property
    def is_boot(self) -> bool:
        return False

    @property
    def is_system(self) -> bool:
        return False

    @property
    def bitlocker(self) -> BitLocker | None:
        return None

    @property
    def locked(self) -> bool:
        return False

    @property
    def content(self) -> Content:
        raise FileSystemError(ERROR_WRITE_PROTECT)

    def backend(self) -> FileSystem:
        return self._frozen

    @property
    def file_system(self) -> str:
        return self._frozen.kind

    def _guard(self, path: str, *, write: bool) -> FileSystem:
        if write:
            raise FileSystemError(ERROR_WRITE_PROTECT, path)
        return self._frozen

    def write_at(self, offset: int, data: bytes) -> None:
        raise FileSystemError(ERROR_WRITE_PROTECT)

    def reserve(self, purpose: str, size: int) -> None:
        raise FileSystemError(ERROR_WRITE_PROTECT)


class CopyOnWrite:
    """Counts what of a volume is overwritten since a moment: the diff area's use of the newest shadow copy.

    A file counts up to the size it had then, a partition with the clusters that were allocated then; new files and new
    clusters cost nothing. ``grown`` is called, before the bytes change, when the use has grown.
    """

    def __init__(self, volume: Volume, grown: Callable[[], None]) -> None:
        self._grown = grown
        self._blocks: set[tuple[str, int]] = set()
        self._watched: DirectoryFileSystem | SparseFile | None = None
        self._sizes: dict[str, int] = {}
        self._allocated: list[tuple[int, int]] = []
        backend = volume.files
        if isinstance(backend, DirectoryFileSystem):
            self._sizes = {e.path.replace("\\", "/"): e.size for e in backend.walk() if not e.is_directory}
            backend.watchers.append(self._file_written)
            self._watched = backend
        elif isinstance(volume.disk.content, SparseFile):
            start = volume.partition.offset
            self._allocated = [(start + offset, length) for offset, length in volume.allocated()]
            volume.disk.content.watchers.append(self._bytes_written)
            self._watched = volume.disk.content

    @property
    def used(self) -> int:
        return len(self._blocks) * COPY_ON_WRITE_BLOCK

    def stop(self) -> None:
        """No longer the newest shadow copy of its volume: what it holds stays, nothing is added."""
        watched, self._watched = self._watched, None
        if isinstance(watched, DirectoryFileSystem) and self._file_written in watched.watchers:
            watched.watchers.remove(self._file_written)
        elif isinstance(watched, SparseFile) and self._bytes_written in watched.watchers:
            watched.watchers.remove(self._bytes_written)

    def _file_written(self, path: str, offset: int, length: int) -> None:
        size = self._sizes.get(path, 0)
        if offset < size:
            self._add(path, offset, min(offset + length, size))

    def _bytes_written(self, offset: int, length: int) -> None:
        for start, count in overlaps(self._allocated, offset, length):
            self._add("", start, start + count)

    def _add(self, name: str, start: int, end: int) -> None:
        before = len(self._blocks)
        width = COPY_ON_WRITE_BLOCK
        self._blocks.update((name, number) for number in range(start // width, -(-end // width)))
        if len(self._blocks) > before:
            self._grown()


def overlaps(extents: Iterable[tuple[int, int]], offset: int, length: int) -> Iterator[tuple[int, int]]:
    for start, count in extents:
        low, high = max(start, offset), min(start + count, offset + length)
        if low < high:
            yield low, high - low
