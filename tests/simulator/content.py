# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Responsible for bytes at addresses: LUNs and files as sparse files, windows into them, noise, copies and digests.

Not responsible for what the bytes mean: partition tables are in partition_table.py, images in vhd.py, files in
file_system.py. A 2 TiB LUN costs nothing because holes stay holes in every copy.
"""

from __future__ import annotations

import errno
import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path

CHUNK = 1 << 20
PLAIN_DIGEST_LIMIT = 256 * 1024**2  # hashing gigabytes of zeros is what tests would mostly do
_ZEROS = bytes(CHUNK)


class Content(ABC):
    """Random access bytes of a known size. ``version`` changes with every write: readers may cache what they parsed."""

    @property
    @abstractmethod
    def size(self) -> int: ...

    @property
    @abstractmethod
    def version(self) -> int: ...

    @abstractmethod
    def read_at(self, offset: int, length: int) -> bytes: ...

    @abstractmethod
    def write_at(self, offset: int, data: bytes) -> None: ...

    @abstractmethod
    def resize(self, size: int) -> None: ...

    @abstractmethod
    def data_extents(self, offset: int = 0, length: int | None = None) -> Iterator[tuple[int, int]]:
        """Ranges that may hold something else than zeros, in order: (offset, length)."""

    @abstractmethod
    def zero(self, offset: int, length: int) -> None:
        """Make a range read as zeros, without keeping the space where possible."""

    def _check(self, offset: int, length: int) -> None:
        if offset < 0 or length < 0 or offset + length > self.size:
            raise ValueError(f"Access to bytes {offset}..{offset + length} of a content of {self.size} bytes.")


class SparseFile(Content):
    """A real file with holes. Opened for each access, so replacing the file under us needs no protocol."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.written = 0  # bytes written through this object, ever: World.mark() counts from it
        self.watchers: list[Callable[[int, int], None]] = []  # told (offset, length) before bytes are written
        self._version = 0

    @classmethod
    def create(cls, path: Path, size: int) -> SparseFile:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as stream:
            stream.truncate(size)
        return cls(path)

    @property
    def size(self) -> int:
        return self.path.stat().st_size

    @property
    def version(self) -> int:
        return self._version

    def touched(self) -> None:
        self._version += 1

    def read_at(self, offset: int, length: int) -> bytes:
        self._check(offset, length)
        handle = os.open(self.path, os.O_RDONLY)
        try:
            return os.pread(handle, length, offset)
        finally:
            os.close(handle)

    def write_at(self, offset: int, data: bytes) -> None:
        self._check(offset, len(data))
        for watcher in list(self.watchers):
            watcher(offset, len(data))
        self._version += 1
        self.written += len(data)
        handle = os.open(self.path, os.O_RDWR)
        try:
            view = memoryview(data)
            while view:
                written = os.pwrite(handle, view, offset)
                offset, view = offset + written, view[written:]
        finally:
            os.close(handle)

    def resize(self, size: int) -> None:
        self._version += 1
        os.truncate(self.path, size)

    def zero(self, offset: int, length: int) -> None:
        self._check(offset, length)
        for start, count in list(self.data_extents(offset, length)):
            for position in range(start, start + count, CHUNK):
                self.write_at(position, _ZEROS[: min(CHUNK, start + count - position)])

    def data_extents(self, offset: int = 0, length: int | None = None) -> Iterator[tuple[int, int]]:
        size = self.size
        end = size if length is None else min(size, offset + length)
        handle = os.open(self.path, os.O_RDONLY)
        try:
            while offset < end:
                try:
                    start = os.lseek(handle, offset, os.SEEK_DATA)
                except OSError as problem:
                    if problem.errno == errno.ENXIO:  # nothing but a hole up to the end
                        return
                    raise
                if start >= end:
                    return
                stop = min(end, os.lseek(handle, start, os.SEEK_HOLE))
                yield start, stop - start
                offset = stop
        finally:
            os.close(handle)


class Window(Content):
    """A range of another content: a partition of a disk, the payload of a fixed VHD."""

    def __init__(self, inner: Content, offset: int, length: int) -> None:
        self.inner = inner
        self.offset = offset
        self._length = length

    @property
    def size(self) -> int:
        return self._length

    @property
    def version(self) -> int:
        return self.inner.version

    def read_at(self, offset: int, length: int) -> bytes:
        self._check(offset, length)
        return self.inner.read_at(self.offset + offset, length)

    def write_at(self, offset: int, data: bytes) -> None:
        self._check(offset, len(data))
        self.inner.write_at(self.offset + offset, data)

    def resize(self, size: int) -> None:
        if self.offset + size > self.inner.size:
            raise ValueError("A window cannot be larger than what it looks into.")
        self._length = size

    def zero(self, offset: int, length: int) -> None:
        self._check(offset, length)
        self.inner.zero(self.offset + offset, length)

    def data_extents(self, offset: int = 0, length: int | None = None) -> Iterator[tuple[int, int]]:
        length = self.size - offset if length is None else min(length, self.size - offset)
        for start, count in self.inner.data_extents(self.offset + offset, length):
            yield start - self.offset, count


class MemoryContent(Content):
    """Bytes in memory: for tests and for tables that are not stored yet."""

    def __init__(self, size: int) -> None:
        self._data = bytearray(size)
        self._version = 0

    @property
    def size(self) -> int:
        return len(self._data)

    @property
    def version(self) -> int:
        return self._version

    def read_at(self, offset: int, length: int) -> bytes:
        self._check(offset, length)
        return bytes(self._data[offset : offset + length])

    def write_at(self, offset: int, data: bytes) -> None:
        self._check(offset, len(data))
        self._version += 1
        self._data[offset : offset + len(data)] = data

    def resize(self, size: int) -> None:
        self._version += 1
        if size < len(self._data):
            del self._data[size:]
        else:
            self._data.extend(bytes(size - len(self._data)))

    def zero(self, offset: int, length: int) -> None:
        self.write_at(offset, bytes(length))

    def data_extents(self, offset: int = 0, length: int | None = None) -> Iterator[tuple[int, int]]:
        length = self.size - offset if length is None else min(length, self.size - offset)
        if length > 0:
            yield offset, length


def copy_content(source: Content, target: Content, length: int | None = None) -> int:
    """Copy the first ``length`` bytes (default: all of the source) of ``source`` over ``target``; holes become zeros.

    Returns the number of bytes that were really moved.
    """
    length = source.size if length is None else length
    moved = 0
    end = 0
    for start, count in source.data_extents(0, length):
        if start > end:
            target.zero(end, start - end)
        for position in range(start, start + count, CHUNK):
            block = source.read_at(position, min(CHUNK, start + count - position))
            target.write_at(position, block)
            moved += len(block)
        end = start + count
    if end < length:
        target.zero(end, length - end)
    return moved


def digest(content: Content, offset: int = 0, length: int | None = None) -> str:
    """SHA-256 of the bytes as ``sha256sum`` gives it; above 256 MiB that of the non-zero blocks, prefixed ``sparse:``."""
    length = content.size - offset if length is None else length
    if length > PLAIN_DIGEST_LIMIT:
        return _sparse_digest(content, offset, length)
    state = hashlib.sha256()
    end = offset
    for start, count in content.data_extents(offset, length):
        _hash_zeros(state, start - end)
        for position in range(start, start + count, CHUNK):
            state.update(content.read_at(position, min(CHUNK, start + count - position)))
        end = start + count
    _hash_zeros(state, offset + length - end)
    return state.hexdigest()


def fingerprint(content: Content) -> str:
    """A digest whose cost depends on what is not zero: for telling whether contents changed, not for showing."""
    return _sparse_digest(content, 0, content.size)


def _hash_zeros(state: hashlib._Hash, count: int) -> None:
    while count > 0:
        state.update(_ZEROS[: min(CHUNK, count)])
        count -= CHUNK


def _sparse_digest(content: Content, offset: int, length: int) -> str:
    block_size = 65536
    state = hashlib.sha256(f"{length}".encode())
    seen = -1
    for start, count in content.data_extents(offset, length):
        first = max((start - offset) // block_size, seen + 1)
        last = (start - offset + count - 1) // block_size
        for number in range(first, last + 1):
            at = number * block_size
            block = content.read_at(offset + at, min(block_size, length - at))
            if block.strip(b"\0"):
                state.update(f"@{at}".encode())
                state.update(block)
        seen = max(seen, last)
    return "sparse:" + state.hexdigest()


def noise(seed: str, offset: int, length: int) -> bytes:
    """Reproducible rubbish: what lies on clusters that nobody wrote. Depends on ``seed`` and the address only."""
    page = 65536
    first, last = offset // page, (offset + max(length, 1) - 1) // page
    blocks = [hashlib.shake_128(f"{seed}:{number}".encode()).digest(page) for number in range(first, last + 1)]
    start = offset - first * page
    return b"".join(blocks)[start : start + length]


def fill_with_noise(content: Content, seed: str, offset: int, length: int) -> None:
    for position in range(offset, offset + length, CHUNK):
        content.write_at(position, noise(seed, position, min(CHUNK, offset + length - position)))
