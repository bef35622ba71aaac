# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Responsible for the simulator's own small file system on the bytes of a partition, and for recognising boot sectors.

Everything is on the bytes: the boot sector with the OEM id and serial that Windows would put there, our superblock, the
catalogue and the file data in extents. A copy of the allocated clusters is the volume; the rest may be noise.
"""

from __future__ import annotations

import json
import struct
import zlib
from bisect import insort
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone

from .content import Content
from .file_system import (
    ATTRIBUTE_ARCHIVE,
    ATTRIBUTE_DIRECTORY,
    ERROR_ACCESS_DENIED,
    ERROR_ALREADY_EXISTS,
    ERROR_DIR_NOT_EMPTY,
    ERROR_DIRECTORY,
    ERROR_DISK_FULL,
    ERROR_FILE_CORRUPT,
    ERROR_FILE_NOT_FOUND,
    ERROR_PATH_NOT_FOUND,
    ERROR_UNRECOGNIZED_VOLUME,
    ERROR_WRITE_PROTECT,
    BlockFileSystem,
    FileStat,
    FileSystem,
    FileSystemError,
    fold,
    metadata_bytes,
    parent_of,
    split_path,
)


def _now() -> datetime:
    return datetime.now(timezone.utc)


# The boot sector: bytes 0..255 as Windows lays them out for the kind, from 256 on our own superblock.
_SUPERBLOCK_AT = 0x100
_MAGIC = b"SIMFS\x00\x00\x01"
_OEM = {
    "NTFS": b"NTFS    ",
    "ReFS": b"\x00\x00\x00ReFS\x00",
    "FAT32": b"MSDOS5.0",
    "FAT": b"MSDOS5.0",
    "exFAT": b"EXFAT   ",
}
_ENCRYPTED_OEM = b"-FVE-FS-"
_MAX_ROOT_EXTENTS = 8


@dataclass(frozen=True, kw_only=True)
class Recognised:
    """What a boot sector tells: the file system's kind ("BitLocker" when encrypted), serial and cluster size."""

    kind: str
    serial: int
    cluster_size: int
    ours: bool


def recognise(content: Content) -> Recognised | None:
    """The file system whose boot sector stands at the start of ``content``, or None (RAW)."""
    if content.size < 512:
        return None
    sector = content.read_at(0, 512)
    ours = sector[_SUPERBLOCK_AT : _SUPERBLOCK_AT + 8] == _MAGIC
    oem = sector[3:11]
    if oem == _ENCRYPTED_OEM:
        return Recognised(kind="BitLocker", serial=0, cluster_size=0, ours=ours)
    kind = next((name for name, mark in _OEM.items() if oem == mark and name != "FAT"), None)
    if kind is None:
        return None
    if kind == "NTFS":
        serial, per_cluster = struct.unpack_from("<Q", sector, 0x48)[0], sector[13]
        if per_cluster > 128:
            per_cluster = 1 << (256 - per_cluster)
        cluster = struct.unpack_from("<H", sector, 11)[0] * per_cluster
    elif kind == "ReFS":
        serial, cluster = struct.unpack_from("<Q", sector, 0x38)[0], struct.unpack_from("<I", sector, 0x24)[0] * 512
    elif kind == "exFAT":
        serial, cluster = struct.unpack_from("<I", sector, 0x64)[0], 1 << (sector[0x6C] + sector[0x6D])
    else:
        serial = struct.unpack_from("<I", sector, 0x43)[0]
        cluster = struct.unpack_from("<H", sector, 11)[0] * sector[13]
    return Recognised(kind=kind, serial=serial, cluster_size=cluster, ours=ours)


def _boot_sector(kind: str, serial: int, label: str, cluster: int, partition_size: int) -> bytearray:
    sector = bytearray(512)
    sector[0:3] = b"\xeb\x52\x90"
    sector[3:11] = _OEM[kind]
    sectors, per_cluster = partition_size // 512, cluster // 512
    if kind == "NTFS":
        shift = per_cluster if per_cluster <= 128 else 256 - per_cluster.bit_length() + 1
        struct.pack_into("<HB", sector, 11, 512, shift)
        sector[0x15] = 0xF8
        struct.pack_into("<QQQ", sector, 0x28, sectors - 1, 1, 2)
        struct.pack_into("<Q", sector, 0x48, serial & 0xFFFFFFFFFFFFFFFF)
    elif kind == "ReFS":
        sector[0:3] = b"\0\0\0"
        sector[0x10:0x14] = b"FSRS"
        struct.pack_into("<QII", sector, 0x18, sectors, 512, per_cluster)
        struct.pack_into("<Q", sector, 0x38, serial & 0xFFFFFFFFFFFFFFFF)
    elif kind == "exFAT":
        sector[0:3] = b"\xeb\x76\x90"
        struct.pack_into("<QI", sector, 0x48, sectors, 0)
        struct.pack_into("<I", sector, 0x64, serial & 0xFFFFFFFF)
        sector[0x6C], sector[0x6D] = 9, per_cluster.bit_length() - 1
    else:
        struct.pack_into("<HB", sector, 11, 512, per_cluster)
        struct.pack_into("<I", sector, 0x43, serial & 0xFFFFFFFF)
        sector[0x47:0x52] = label.encode("ascii", "replace")[:11].ljust(11)
        sector[0x52:0x5A] = b"FAT32   "
    sector[510:512] = b"\x55\xaa"
    return sector


@dataclass
class _Node:
    name: str
    directory: bool
    created: datetime
    modified: datetime
    attributes: int = 0
    size: int = 0
    extents: list[tuple[int, int]] = field(default_factory=list)  # (first cluster, count)
    children: dict[str, _Node] = field(default_factory=dict)

    def dump(self) -> list[object]:
        times = [self.created.timestamp(), self.modified.timestamp()]
        body: object = [c.dump() for c in self.children.values()] if self.directory else [self.size, self.extents]
        return [self.name, int(self.directory), self.attributes, times, body]

    @classmethod
    def load(cls, data: list[object]) -> _Node:
        name, directory, attributes, times, body = data
        assert isinstance(times, list) and isinstance(body, list)
        node = cls(
            str(name),
            bool(directory),
            datetime.fromtimestamp(times[0], timezone.utc),
            datetime.fromtimestamp(times[1], timezone.utc),
            int(str(attributes)),
        )
        if node.directory:
            for entry in body:
                child = cls.load(entry)
                node.children[fold(child.name)] = child
        else:
            node.size = int(body[0])
            node.extents = [(int(a), int(b)) for a, b in body[1]]
        return node


class PartitionFileSystem(BlockFileSystem):
    """The simulator's file system on the bytes of a partition. Everything is on the bytes: a copy of them is a volume.

    ``size`` is the partition less one cluster, as Windows reports it (windows-storage 5.2). Raises FileSystemError
    ERROR_UNRECOGNIZED_VOLUME when the bytes hold no such file system, ERROR_FILE_CORRUPT when they are damaged.
    """

    def __init__(self, content: Content, now: Callable[[], datetime] = _now) -> None:
        super().__init__(now)
        self.content = content
        self._seen_version = -1
        self._generation = -1
        self._depth = 0
        self._load()

    # -- the bytes

    @classmethod
    def format(
        cls,
        content: Content,
        *,
        kind: str = "NTFS",
        label: str = "",
        serial: int,
        cluster_size: int = 4096,
        now: Callable[[], datetime] = _now,
    ) -> PartitionFileSystem:
        clusters = content.size // cluster_size - 1
        first_free = metadata_bytes(kind, content.size - cluster_size, cluster_size) // cluster_size + 1
        if clusters <= first_free + 1:
            raise FileSystemError(ERROR_DISK_FULL)
        new = cls.__new__(cls)
        FileSystem.__init__(new, now)
        new.content = content
        new.kind, new.label, new.serial, new.cluster_size = kind, label, serial, cluster_size
        new.encrypted = False
        new._clusters, new._first_free = clusters, first_free
        new._root = _Node("", True, now(), now(), ATTRIBUTE_DIRECTORY)
        new._catalogue = []
        new._free_extents = [(first_free, clusters - first_free)]
        new._depth = 0
        new._generation = 0
        new._seen_version = content.version
        content.write_at(0, bytes(_boot_sector(kind, serial, label, cluster_size, content.size)))
        new._store()
        return new

    def _load(self) -> None:
        found = recognise(self.content)
        if found is None or not found.ours:
            raise FileSystemError(ERROR_UNRECOGNIZED_VOLUME)
        sector = self.content.read_at(0, 512)
        at = _SUPERBLOCK_AT + 8
        generation, clusters, first_free, cluster, length, crc, count, flags, kind = struct.unpack_from(
            "<QQQIIIBB8s", sector, at
        )
        pieces: list[tuple[int, int]] = [
            struct.unpack_from("<QI", sector, at + struct.calcsize("<QQQIIIBB8s") + 12 * i) for i in range(count)
        ]
        if (clusters + 1) * cluster > self.content.size:
            raise FileSystemError(ERROR_FILE_CORRUPT)
        blob = b"".join(self.content.read_at(first * cluster, n * cluster) for first, n in pieces)[:length]
        if zlib.crc32(blob) != crc:
            raise FileSystemError(ERROR_FILE_CORRUPT)
        data = json.loads(zlib.decompress(blob))
        self.kind, self.cluster_size = kind.rstrip(b"\0").decode(), cluster
        self.label, self.serial = data["label"], data["serial"]
        self.encrypted = bool(flags & 1)
        self._generation, self._clusters, self._first_free = generation, clusters, first_free
        self._root = _Node.load(data["root"])
        self._catalogue = pieces
        self._free_extents = self._free_from_use()
        self._seen_version = self.content.version

    def _free_from_use(self) -> list[tuple[int, int]]:
        used = sorted(self._catalogue + [e for node in self._nodes(self._root) for e in node.extents])
        free, at = [], self._first_free
        for first, count in used:
            if first > at:
                free.append((at, first - at))
            at = max(at, first + count)
        if at < self._clusters:
            free.append((at, self._clusters - at))
        return free

    def _nodes(self, node: _Node) -> Iterator[_Node]:
        yield node
        for child in node.children.values():
            yield from self._nodes(child)

    def _refresh(self) -> None:
        """Another machine (or a restore) may have written the same bytes: believe them."""
        if self._depth == 0 and self.content.version != self._seen_version:
            sector = self.content.read_at(0, 512)
            stated: int = struct.unpack_from("<Q", sector, _SUPERBLOCK_AT + 8)[0]
            magic = sector[_SUPERBLOCK_AT : _SUPERBLOCK_AT + 8]
            if magic != _MAGIC or stated != self._generation:
                self._load()
            self._seen_version = self.content.version

    def _store(self) -> None:
        if self._depth:
            return
        data = {"label": self.label, "serial": self.serial, "root": self._root.dump()}
        blob = zlib.compress(json.dumps(data).encode(), 1)
        pieces = self._allocate(-(-len(blob) // self.cluster_size))
        if len(pieces) > _MAX_ROOT_EXTENTS:
            self._release(pieces)
            raise FileSystemError(ERROR_DISK_FULL)
        at = 0
        for first, count in pieces:
            part = blob[at : at + count * self.cluster_size]
            self.content.write_at(first * self.cluster_size, part)
            at += len(part)
        self._generation += 1
        header = _MAGIC + struct.pack(
            "<QQQIIIBB8s",
            self._generation,
            self._clusters,
            self._first_free,
            self.cluster_size,
            len(blob),
            zlib.crc32(blob),
            len(pieces),
            int(self.encrypted),
            self.kind.encode(),
        )
        header += b"".join(struct.pack("<QI", first, count) for first, count in pieces)
        self.content.write_at(_SUPERBLOCK_AT, header.ljust(0x1FE - _SUPERBLOCK_AT, b"\0"))
        old, self._catalogue = self._catalogue, pieces
        self._release(old)
        self._seen_version = self.content.version

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Many changes, one write of the catalogue at the end."""
        self._refresh()
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            self._store()

    def set_label(self, label: str) -> None:
        self._refresh()
        self.label = label
        self._store()

    def set_encrypted(self, encrypted: bool) -> None:
        self._refresh()
        self.encrypted = encrypted
        self.content.write_at(3, _ENCRYPTED_OEM if encrypted else _OEM[self.kind])
        self._store()

    def grow(self) -> None:
        """Use the whole partition after it was made larger."""
        self._refresh()
        clusters = self.content.size // self.cluster_size - 1
        if clusters > self._clusters:
            self._release([(self._clusters, clusters - self._clusters)])
            self._clusters = clusters
            self._store()

    # -- clusters

    @property
    def size(self) -> int:
        return int(self._clusters * self.cluster_size)

    def _free(self) -> int:
        self._refresh()
        return int(sum(count for _first, count in self._free_extents) * self.cluster_size)

    def _allocate(self, wanted: int) -> list[tuple[int, int]]:
        if wanted * self.cluster_size > sum(c for _f, c in self._free_extents) * self.cluster_size - sum(
            self.reservations.values()
        ):
            raise FileSystemError(ERROR_DISK_FULL)
        single = next(((f, c) for f, c in self._free_extents if c >= wanted), None)
        taken: list[tuple[int, int]] = []
        if wanted and single is not None:
            self._take(single[0], wanted)
            return [(single[0], wanted)]
        while wanted:
            first, count = max(self._free_extents, key=lambda e: e[1])
            count = min(count, wanted)
            self._take(first, count)
            taken.append((first, count))
            wanted -= count
        return taken

    def _take(self, first: int, count: int) -> None:
        for index, (start, length) in enumerate(self._free_extents):
            if start == first:
                if length == count:
                    del self._free_extents[index]
                else:
                    self._free_extents[index] = (start + count, length - count)
                return

    def _release(self, extents: list[tuple[int, int]]) -> None:
        for extent in extents:
            insort(self._free_extents, extent)
        merged: list[tuple[int, int]] = []
        for first, count in self._free_extents:
            if merged and merged[-1][0] + merged[-1][1] == first:
                merged[-1] = (merged[-1][0], merged[-1][1] + count)
            else:
                merged.append((first, count))
        self._free_extents = merged

    def allocated(self) -> Iterator[tuple[int, int]]:
        self._refresh()
        at = 0
        for first, count in self._free_extents:
            if first > at:
                yield at * self.cluster_size, (first - at) * self.cluster_size
            at = first + count
        if at < self._clusters:
            yield at * self.cluster_size, (self._clusters - at) * self.cluster_size

    # -- files

    def _find(self, path: str) -> _Node:
        self._refresh()
        node = self._root
        parts = split_path(path)
        for number, part in enumerate(parts):
            child = node.children.get(fold(part))
            if child is None or (not child.directory and number < len(parts) - 1):
                raise FileSystemError(ERROR_FILE_NOT_FOUND if number == len(parts) - 1 else ERROR_PATH_NOT_FOUND, path)
            node = child
        return node

    def _folder(self, path: str) -> _Node:
        try:
            node = self._find(parent_of(path))
        except FileSystemError as problem:
            raise FileSystemError(ERROR_PATH_NOT_FOUND, path) from problem
        if not node.directory:
            raise FileSystemError(ERROR_PATH_NOT_FOUND, path)
        return node

    def _writable(self, path: str) -> list[str]:
        if self.read_only:
            raise FileSystemError(ERROR_WRITE_PROTECT, path)
        parts = split_path(path)
        if not parts:
            raise FileSystemError(ERROR_ACCESS_DENIED, path)
        return parts

    def listdir(self, path: str = "") -> list[str]:
        node = self._find(path)
        if not node.directory:
            raise FileSystemError(ERROR_DIRECTORY, path)
        return sorted((c.name for c in node.children.values()), key=fold)

    def stat(self, path: str) -> FileStat:
        node = self._find(path)
        names, here = [], self._root
        for part in split_path(path):
            here = here.children[fold(part)]
            names.append(here.name)
        return FileStat(
            name=node.name,
            path="\\".join(names),
            is_directory=node.directory,
            size=node.size,
            allocated=sum(c for _f, c in node.extents) * self.cluster_size,
            attributes=node.attributes,
            created=node.created,
            modified=node.modified,
        )

    def open(self, path: str) -> Content:
        node = self._find(path)
        if node.directory:
            raise FileSystemError(ERROR_ACCESS_DENIED, path)
        return _FileContent(self, path)

    def create(self, path: str, size: int = 0) -> Content:
        parts = self._writable(path)
        folder = self._folder(path)
        old = folder.children.get(fold(parts[-1]))
        if old is not None and old.directory:
            raise FileSystemError(ERROR_ACCESS_DENIED, path)
        wanted = -(-size // self.cluster_size)
        had = sum(c for _f, c in old.extents) if old is not None else 0
        if (wanted - had) * self.cluster_size > self.free:
            raise FileSystemError(ERROR_DISK_FULL, path)
        if old is not None:
            self._release(old.extents)
        extents = self._allocate(wanted)
        for first, count in extents:
            self.content.zero(first * self.cluster_size, count * self.cluster_size)
        moment = self.now()
        folder.children[fold(parts[-1])] = _Node(
            old.name if old is not None else parts[-1],
            False,
            old.created if old is not None else moment,
            moment,
            ATTRIBUTE_ARCHIVE,
            size,
            extents,
        )
        self._store()
        return _FileContent(self, path)

    def _resize(self, path: str, size: int) -> None:
        self._writable(path)
        node = self._find(path)
        had, wanted = sum(c for _f, c in node.extents), -(-size // self.cluster_size)
        if size > node.size:  # what an earlier, longer file left behind in its last cluster is not shown
            length = min(size, had * self.cluster_size) - node.size
            for at, _position, count in list(_FileContent(self, path)._pieces(node.size, length)):
                self.content.zero(at, count)
        if wanted > had:
            if (wanted - had) * self.cluster_size > self.free:
                raise FileSystemError(ERROR_DISK_FULL, path)
            more = self._allocate(wanted - had)
            for first, count in more:
                self.content.zero(first * self.cluster_size, count * self.cluster_size)
            node.extents.extend(more)
        while wanted < had:
            first, count = node.extents.pop()
            keep = max(0, count - (had - wanted))
            if keep:
                node.extents.append((first, keep))
            self._release([(first + keep, count - keep)])
            had -= count - keep
        node.size, node.modified = size, self.now()
        self._store()

    def mkdir(self, path: str, *, parents: bool = False) -> None:
        names = self._writable(path)
        if parents:
            self._make_parents(path)
        folder = self._folder(path)
        if fold(names[-1]) in folder.children:
            if parents and folder.children[fold(names[-1])].directory:
                return
            raise FileSystemError(ERROR_ALREADY_EXISTS, path)
        folder.children[fold(names[-1])] = _Node(names[-1], True, self.now(), self.now(), ATTRIBUTE_DIRECTORY)
        self._store()

    def delete(self, path: str, *, recursive: bool = False) -> None:
        names = self._writable(path)
        node = self._find(path)
        if node.directory and node.children and not recursive:
            raise FileSystemError(ERROR_DIR_NOT_EMPTY, path)
        for part in list(self._nodes(node)):
            self._release(part.extents)
        del self._folder(path).children[fold(names[-1])]
        self._store()

    def rename(self, old: str, new: str) -> None:
        old_names, new_names = self._writable(old), self._writable(new)
        node, source, target = self._find(old), self._folder(old), self._folder(new)
        existing = target.children.get(fold(new_names[-1]))
        if existing is not None and existing is not node:
            raise FileSystemError(ERROR_ALREADY_EXISTS, new)
        del source.children[fold(old_names[-1])]
        node.name = new_names[-1]
        target.children[fold(node.name)] = node
        self._store()

    def set_attributes(self, path: str, attributes: int) -> None:
        node = self._find(path)
        node.attributes = attributes | (ATTRIBUTE_DIRECTORY if node.directory else 0)
        self._store()

    def set_modified(self, path: str, moment: datetime) -> None:
        self._find(path).modified = moment
        self._store()


class _FileContent(Content):
    """The bytes of one file of a PartitionFileSystem, found by path at each access."""

    def __init__(self, owner: PartitionFileSystem, path: str) -> None:
        self._owner = owner
        self._path = path

    def _node(self) -> _Node:
        return self._owner._find(self._path)

    @property
    def size(self) -> int:
        return self._node().size

    @property
    def version(self) -> int:
        return self._owner.content.version

    def _pieces(self, offset: int, length: int) -> Iterator[tuple[int, int, int]]:
        """(offset on the volume, offset in the file, length)"""
        width, at = self._owner.cluster_size, 0
        for first, count in self._node().extents:
            start, stop = max(offset, at), min(offset + length, at + count * width)
            if start < stop:
                yield first * width + start - at, start, stop - start
            at += count * width

    def read_at(self, offset: int, length: int) -> bytes:
        self._check(offset, length)
        return b"".join(self._owner.content.read_at(at, n) for at, _o, n in self._pieces(offset, length))

    def write_at(self, offset: int, data: bytes) -> None:
        if self._owner.read_only:
            raise FileSystemError(ERROR_WRITE_PROTECT, self._path)
        self._check(offset, len(data))
        for at, position, length in list(self._pieces(offset, len(data))):
            self._owner.content.write_at(at, data[position - offset : position - offset + length])
        self._owner._seen_version = self._owner.content.version

    def resize(self, size: int) -> None:
        self._owner._resize(self._path, size)

    def zero(self, offset: int, length: int) -> None:
        self._check(offset, length)
        for at, _position, count in list(self._pieces(offset, length)):
            self._owner.content.zero(at, count)

    def data_extents(self, offset: int = 0, length: int | None = None) -> Iterator[tuple[int, int]]:
        length = self.size - offset if length is None else min(length, self.size - offset)
        for at, position, count in list(self._pieces(offset, length)):
            for start, n in self._owner.content.data_extents(at, count):
                yield position + start - at, n
