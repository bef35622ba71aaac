# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Responsible for real NTFS on the bytes of a partition: when it is used, formatting, and the `FileSystem` of it.

Not responsible for the calls into libntfs-3g (ntfs_library.py). `HYPERV_PASSTHROUGH_NTFS` (or `--ntfs`) says when: `auto`
where the library and mkntfs are installed and pass a self test, `no` never, `yes` or an error. Real NTFS is laid on
volumes of SMALLEST to LARGEST bytes that are not encrypted: below, the log file leaves no room for a world's files;
above, formatting would write log file and bitmap of tens of megabytes. Those, BitLocker volumes, and ReFS, FAT and exFAT
keep the simulator's own file system (partition_file_system.py).

Between two operations the bytes are complete: whoever reads them raw (a backup, another machine, ntfsinfo) sees the
volume. So a change mounts for writing and unmounts; looking mounts read-only and stays mounted until the bytes change.
"""

from __future__ import annotations

import functools
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from .content import Content, MemoryContent, SparseFile, copy_content
from .file_system import (
    ATTRIBUTE_ARCHIVE,
    ATTRIBUTE_DIRECTORY,
    ATTRIBUTE_HIDDEN,
    ATTRIBUTE_READ_ONLY,
    ATTRIBUTE_SYSTEM,
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
    FileSystemError,
    fold,
    split_path,
)
from .ntfs_library import LOCK, ROOT, Data, Library, NtfsVolume, Unavailable

VARIABLE = "HYPERV_PASSTHROUGH_NTFS"
MODES = ("auto", "no", "yes")
SMALLEST = 8 << 20
LARGEST = 16 << 30

_EPOCH = datetime(1601, 1, 1, tzinfo=timezone.utc)
_TICK = timedelta(microseconds=1)
_SHOWN = ATTRIBUTE_READ_ONLY | ATTRIBUTE_HIDDEN | ATTRIBUTE_SYSTEM | ATTRIBUTE_DIRECTORY | ATTRIBUTE_ARCHIVE
_TOOL_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/local/sbin"  # a plain user's PATH lacks sbin


# -- whether it is there


@dataclass(frozen=True, kw_only=True)
class Availability:
    """Whether real NTFS is used by this process, and a clause that says why."""

    library: Library | None
    reason: str


def mode() -> str:
    """The wish: `auto`, `no` or `yes`."""
    wish = os.environ.get(VARIABLE, "auto") or "auto"
    if wish not in MODES:
        raise ValueError(f"{VARIABLE} is {wish!r}; it must be one of {', '.join(MODES)}.")
    return wish


def availability(wish: str | None = None) -> Availability:
    """What this process does under ``wish`` (default: the environment's). RuntimeError for `yes` where it cannot be."""
    wish = wish or mode()
    if wish == "no":
        return Availability(library=None, reason=f"{VARIABLE} is no")
    found = _tested()
    if wish == "yes" and found.library is None:
        raise RuntimeError(f"{VARIABLE} is yes, but real NTFS cannot be used: {found.reason}.")
    return found


@functools.cache
def _tested() -> Availability:
    try:
        library = Library()
        _tool("mkntfs")
        self_test(library)
    except (Unavailable, FileSystemError, ValueError) as problem:
        return Availability(library=None, reason=str(problem))
    return Availability(library=library, reason=library.path)


def self_test(library: Library) -> None:
    """A small volume in memory, written and read again; Unavailable when anything is not as it was written."""
    moment = datetime(2026, 10, 1, 20, 0, 0, 123456, tzinfo=timezone.utc)
    content = MemoryContent(SMALLEST)
    new = NtfsFileSystem.format(
        content, label="Prüfung", serial=0x1234567890ABCDEF, now=lambda: moment, library=library
    )
    new.mkdir("Ordner")
    new.write("Ordner\\small", b"resident")
    new.write("Ordner\\LARGE", bytes(range(256)) * 1200)
    again = NtfsFileSystem(content, library=library)
    small, large = again.stat("ordner\\SMALL"), again.stat("ordner\\large")
    found = (
        again.label,
        again.serial,
        again.listdir("ORDNER"),
        small.size,
        small.allocated,
        large.size,
        large.allocated,
    )
    if found != ("Prüfung", 0x1234567890ABCDEF, ["LARGE", "small"], 8, 0, 307200, 307200) or large.created != moment:
        raise Unavailable(f"{library.path} does not give back what was written")
    if again.read("Ordner\\large") != bytes(range(256)) * 1200 or again.read("Ordner\\small") != b"resident":
        raise Unavailable(f"{library.path} gives back other bytes than were written")


def lays_real_ntfs(kind: str, size: int, *, encrypted: bool = False) -> bool:
    """Whether a volume of that kind and size in bytes gets real NTFS in this process."""
    return kind == "NTFS" and SMALLEST <= size <= LARGEST and not encrypted and availability().library is not None


def _tool(name: str) -> str:
    found = shutil.which(name, path=_TOOL_PATH)
    if found is None:
        raise Unavailable(f"{name} is not installed (Debian: ntfs-3g)")
    return found


# -- formatting


@functools.lru_cache(maxsize=64)
def _template(size: int, cluster: int, sector: int) -> tuple[tuple[int, bytes], ...]:
    """What mkntfs writes on a volume of that geometry: (offset, bytes). Serial and label are set afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        image = SparseFile.create(Path(folder) / "volume", size)
        options = ["-s", str(sector), "-c", str(cluster), "-p", "2048", "-H", "255", "-S", "63"]
        done = subprocess.run(  # -F: it is a file; -Q: free clusters stay as they are; -T: no clock; -q: no talk
            [_tool("mkntfs"), "-F", "-Q", "-T", "-q", *options, str(image.path)], check=False, capture_output=True
        )
        if done.returncode:
            raise FileSystemError(ERROR_DISK_FULL)
        return tuple((offset, image.read_at(offset, length)) for offset, length in image.data_extents())


@dataclass(frozen=True, kw_only=True)
class _BootSector:
    sector: int
    cluster: int
    clusters: int
    serial: int


def _boot_sector(content: Content) -> _BootSector:
    """The numbers of a boot sector that can be NTFS; FileSystemError 1005 for anything else. Nothing else is believed."""
    if content.size < 1 << 20:
        raise FileSystemError(ERROR_UNRECOGNIZED_VOLUME)
    raw = content.read_at(0, 512)
    sector, code = struct.unpack_from("<HB", raw, 11)
    per_cluster = code if code <= 128 else 1 << (256 - code)
    sectors, table, mirror, serial = struct.unpack_from("<QQQ8x", raw, 0x28) + struct.unpack_from("<Q", raw, 0x48)
    plausible = (
        raw[3:11] == b"NTFS    "
        and raw[510:] == b"\x55\xaa"
        and sector in (512, 1024, 2048, 4096)
        and per_cluster in {1 << n for n in range(13)}
        and 0 < sectors * sector <= content.size
    )
    clusters = sectors // per_cluster if plausible else 0
    if not plausible or not 0 < table < clusters or not 0 < mirror < clusters:
        raise FileSystemError(ERROR_UNRECOGNIZED_VOLUME)
    cluster = sector * per_cluster
    if any(content.read_at(at * cluster, 4) != b"FILE" for at in (table, mirror)):
        raise FileSystemError(ERROR_UNRECOGNIZED_VOLUME)
    return _BootSector(sector=sector, cluster=cluster, clusters=clusters, serial=serial)


def _ticks(moment: datetime) -> int:
    return (moment - _EPOCH) // _TICK * 10


def _moment(ticks: int) -> datetime:
    return _EPOCH + min(ticks, 10**18) // 10 * _TICK


def _now() -> datetime:
    return datetime.now(timezone.utc)


@dataclass(frozen=True, kw_only=True)
class _Entry:
    name: str
    path: str
    reference: int


class NtfsFileSystem(BlockFileSystem):
    """Real NTFS on ``content``. Raises FileSystemError 1005 when the boot sector is none, 1392 when the library refuses.

    ``size`` is the partition less one cluster (windows-storage 5.2); ``allocated()`` gives the clusters of $Bitmap and
    then the copy of the boot sector behind the last cluster, which Windows keeps in its image too.
    """

    kind = "NTFS"

    def __init__(self, content: Content, now: Callable[[], datetime] = _now, *, library: Library | None = None) -> None:
        super().__init__(now)
        self.content = content
        found = library or availability().library
        if found is None:
            raise FileSystemError(ERROR_UNRECOGNIZED_VOLUME)
        self._library = found
        self._volume: NtfsVolume | None = None
        self._seen_version = -1
        self._depth = 0
        self._forget()
        with LOCK:
            self._look()

    # -- mounting

    @classmethod
    def format(
        cls,
        content: Content,
        *,
        label: str = "",
        serial: int,
        cluster_size: int = 4096,
        sector_size: int = 512,
        now: Callable[[], datetime] = _now,
        library: Library | None = None,
    ) -> NtfsFileSystem:
        for offset, data in _template(content.size, cluster_size, max(sector_size, 512)):
            content.write_at(offset, data)
        raw = struct.pack("<Q", serial & 0xFFFFFFFFFFFFFFFF)
        for start in (0, content.size - max(sector_size, 512)):  # the boot sector and its copy in the last sector
            content.write_at(start + 0x48, raw)
        new = cls(content, now, library=library)
        moment = _ticks(now())
        with new._changing() as volume:
            if label:
                volume.set_label(label)
            volume.set_facts(ROOT, created=moment, modified=moment)
        return new

    def _believe_the_bytes(self) -> None:
        """What was remembered holds while nobody else wrote the bytes."""
        if self.content.version == self._seen_version:
            return
        self._forget()
        boot = _boot_sector(self.content)
        self.cluster_size, self.serial, self._clusters, self._sector = (
            boot.cluster,
            boot.serial,
            boot.clusters,
            boot.sector,
        )

    def _forget(self) -> None:
        self._folders: dict[int, dict[str, tuple[str, int]]] = {}
        self._data: dict[int, Data] = {}
        self._facts: dict[int, tuple[int, int, int]] = {}
        self._map: bytes | None = None

    def _forget_file(self, reference: int) -> None:
        self._data.pop(reference, None)
        self._facts.pop(reference, None)
        self._map = None

    def _unmount(self) -> None:
        volume, self._volume = self._volume, None
        if volume is not None:
            volume.close()

    def _look(self) -> NtfsVolume:
        """The volume, mounted for reading unless a change is under way."""
        if self._depth and self._volume is not None:
            return self._volume
        if self._volume is None or self.content.version != self._seen_version:
            self._unmount()
            self._believe_the_bytes()
            self._volume = self._library.mount(self.content, writable=False)
            self.label = self._volume.label()
            self._seen_version = self.content.version
        return self._volume

    @contextmanager
    def _changing(self, path: str = "") -> Iterator[NtfsVolume]:
        """The volume, mounted for writing; everything is on the bytes at the end of the outermost one."""
        if self.read_only:
            raise FileSystemError(ERROR_WRITE_PROTECT, path)
        with LOCK:
            if not self._depth:
                self._unmount()
                self._believe_the_bytes()
                self._volume = self._library.mount(self.content, writable=True)
            assert self._volume is not None
            self._depth += 1
            try:
                yield self._volume
                self._volume.check()
            except BaseException:
                self._forget()
                raise
            finally:
                self._depth -= 1
                self._map = None
                if not self._depth:
                    self._unmount()
                    self._seen_version = self.content.version

    @contextmanager
    def batch(self) -> Iterator[None]:
        with self._changing():
            yield

    def mounts(self) -> bool:
        """Whether the bytes still are an NTFS volume that can be mounted."""
        try:
            with LOCK:
                self._look()
        except FileSystemError:
            return False
        return True

    # -- the volume

    @property
    def size(self) -> int:
        return self._clusters * self.cluster_size

    def set_label(self, label: str) -> None:
        with self._changing() as volume:
            volume.set_label(label)
            self.label = label

    def grow(self) -> None:
        with LOCK, tempfile.TemporaryDirectory() as folder:
            self._unmount()
            image = SparseFile.create(Path(folder) / "volume", self.content.size)
            copy_content(self.content, image)
            for tool, *options in (("ntfsresize", "-f", "-f", "-P"), ("ntfsfix", "-d")):
                done = subprocess.run([_tool(tool), *options, str(image.path)], check=False, capture_output=True)
                if done.returncode:
                    raise FileSystemError(ERROR_FILE_CORRUPT)
            copy_content(image, self.content)
            self._look()

    def _bitmap(self) -> bytes:
        volume = self._look()
        if self._map is None:
            self._map = volume.bitmap(self._clusters)
        return self._map

    def _free(self) -> int:
        with LOCK:
            used = int.from_bytes(self._bitmap(), "little") & ((1 << self._clusters) - 1)
            return (self._clusters - used.bit_count()) * self.cluster_size

    def allocated(self) -> Iterator[tuple[int, int]]:
        with LOCK:
            number = int.from_bytes(self._bitmap(), "little") & ((1 << self._clusters) - 1)
        bits = f"{number:b}"[::-1]
        at = bits.find("1")
        while at >= 0:
            end = bits.find("0", at)
            end = len(bits) if end < 0 else end
            yield at * self.cluster_size, (end - at) * self.cluster_size
            at = bits.find("1", end)
        yield self.content.size - self._sector, self._sector

    # -- finding

    def _folder(self, reference: int) -> dict[str, tuple[str, int]]:
        known = self._folders.get(reference)
        if known is None:
            known = {fold(name): (name, found) for name, found in self._look().names(reference)}
            self._folders[reference] = known
        return known

    def _facts_of(self, reference: int) -> tuple[int, int, int]:
        known = self._facts.get(reference)
        if known is None:
            known = self._facts[reference] = self._look().facts(reference)
        return known

    def _is_folder(self, reference: int) -> bool:
        return reference == ROOT or bool(self._facts_of(reference)[0] & ATTRIBUTE_DIRECTORY)

    def _find(self, path: str) -> _Entry:
        self._look()
        names: list[str] = []
        reference = ROOT
        parts = split_path(path)
        for number, part in enumerate(parts):
            last = number == len(parts) - 1
            found = self._folder(reference).get(fold(part))
            if found is None or (not last and not self._is_folder(found[1])):
                raise FileSystemError(ERROR_FILE_NOT_FOUND if last else ERROR_PATH_NOT_FOUND, path)
            names.append(found[0])
            reference = found[1]
        return _Entry(name=names[-1] if names else "", path="\\".join(names), reference=reference)

    def _parent(self, path: str) -> _Entry:
        try:
            parent = self._find("\\".join(split_path(path)[:-1]))
        except FileSystemError as problem:
            raise FileSystemError(ERROR_PATH_NOT_FOUND, path) from problem
        if not self._is_folder(parent.reference):
            raise FileSystemError(ERROR_PATH_NOT_FOUND, path)
        return parent

    def _data_of(self, reference: int) -> Data:
        known = self._data.get(reference)
        if known is None:
            known = self._look().data(reference, self.cluster_size)
            if known.size > self.size or any(where + length > self.size for _at, where, length in known.runs or ()):
                raise FileSystemError(ERROR_FILE_CORRUPT)  # sparse files larger than their volume are nobody's here
            self._data[reference] = known
        return known

    def listdir(self, path: str = "") -> list[str]:
        with LOCK:
            entry = self._find(path)
            if not self._is_folder(entry.reference):
                raise FileSystemError(ERROR_DIRECTORY, path)
            return sorted((name for name, _found in self._folder(entry.reference).values()), key=fold)

    def stat(self, path: str) -> FileStat:
        with LOCK:
            entry = self._find(path)
            attributes, created, modified = self._facts_of(entry.reference)
            folder = self._is_folder(entry.reference)
            data = None if folder else self._data_of(entry.reference)
        return FileStat(
            name=entry.name,
            path=entry.path,
            is_directory=folder,
            size=data.size if data else 0,
            allocated=data.allocated if data else 0,
            attributes=attributes & _SHOWN | (ATTRIBUTE_DIRECTORY if folder else 0),
            created=_moment(created),
            modified=_moment(modified),
        )

    def open(self, path: str) -> Content:
        with LOCK:
            if self._is_folder(self._find(path).reference):
                raise FileSystemError(ERROR_ACCESS_DENIED, path)
        return _NtfsFile(self, path)

    # -- changing

    def _names(self, path: str) -> list[str]:
        if self.read_only:
            raise FileSystemError(ERROR_WRITE_PROTECT, path)
        parts = split_path(path)
        if not parts:
            raise FileSystemError(ERROR_ACCESS_DENIED, path)
        return parts

    def _known(self, folder: _Entry, name: str) -> tuple[str, int] | None:
        return self._folder(folder.reference).get(fold(name))

    def create(self, path: str, size: int = 0) -> Content:
        with self._batch_of(path):
            self._create(path, size)
        return _NtfsFile(self, path)

    def _batch_of(self, path: str) -> AbstractContextManager[NtfsVolume]:
        """As `batch`, after what needs no mount for writing was refused."""
        self._names(path)
        return self._changing(path)

    def _create(self, path: str, size: int) -> int:
        """The reference of a file of ``size`` zero bytes."""
        name = self._names(path)[-1]
        folder = self._parent(path)
        old = self._known(folder, name)
        if old is not None and self._is_folder(old[1]):
            raise FileSystemError(ERROR_ACCESS_DENIED, path)
        had = self._data_of(old[1]).allocated if old is not None else 0
        if -(-size // self.cluster_size) * self.cluster_size - had > self.free:
            raise FileSystemError(ERROR_DISK_FULL, path)
        moment = _ticks(self.now())
        volume = self._look()
        if old is None:
            reference = self._new(folder, name, directory=False)
        else:
            reference = old[1]
            volume.resize(reference, 0)
        try:
            self._enlarge(reference, size)
        except FileSystemError:
            if old is None:
                self._remove(folder.reference, name, reference)
            raise
        created = moment if old is None else None
        self._touch(folder.reference)
        volume.set_facts(reference, attributes=ATTRIBUTE_ARCHIVE, created=created, modified=moment)
        self._forget_file(reference)
        return reference

    def _touch(self, reference: int) -> None:
        """A directory's entries changed."""
        self._look().set_facts(reference, modified=_ticks(self.now()))
        self._facts.pop(reference, None)

    def _new(self, folder: _Entry, name: str, *, directory: bool) -> int:
        siblings = self._folder(folder.reference)
        reference = self._look().create(folder.reference, name, directory=directory)
        siblings[fold(name)] = (name, reference)
        self._folders.pop(reference, None)
        self._forget_file(reference)
        return reference

    def _enlarge(self, reference: int, size: int) -> None:
        """More bytes, all of them zeros on clusters of their own: later writes go straight to the clusters."""
        volume = self._look()
        before = volume.data(reference, self.cluster_size)
        volume.resize(reference, size)
        self._forget_file(reference)
        after = volume.data(reference, self.cluster_size)
        if after.runs is None:
            return
        valid = before.initialised if before.runs is not None else after.initialised
        for at, where, length in after.runs:
            start = max(at, min(valid, size))
            if where >= 0 and start < at + length:
                self.content.zero(where + start - at, at + length - start)
        if after.initialised < size:
            volume.set_initialised(reference)

    def _resize(self, path: str, size: int) -> None:
        with self._batch_of(path) as volume:
            reference = self._find(path).reference
            data = self._data_of(reference)
            if -(-size // self.cluster_size) * self.cluster_size - data.allocated > self.free:
                raise FileSystemError(ERROR_DISK_FULL, path)
            if size > data.size:
                try:
                    self._enlarge(reference, size)
                except FileSystemError:
                    volume.resize(reference, data.size)
                    raise
            else:
                volume.resize(reference, size)
            volume.set_facts(reference, modified=_ticks(self.now()))
            self._forget_file(reference)

    def write(self, path: str, data: bytes) -> None:
        with self._batch_of(path):
            reference = self._create(path, len(data))
            self._put(reference, 0, data)

    def append(self, path: str, data: bytes) -> None:
        with self._batch_of(path):
            super().append(path, data)

    def _put(self, reference: int, offset: int, data: bytes) -> None:
        """Bytes into what a file has already; straight to the clusters where it has some."""
        known = self._data_of(reference)
        if offset + len(data) > known.size:
            raise ValueError(f"Access to bytes {offset}..{offset + len(data)} of a file of {known.size} bytes.")
        end = offset + len(data)
        direct = known.runs is not None and end <= known.initialised
        if direct and all(where >= 0 for _at, where, _start, _stop in _cut(known, offset, end)):
            for at, where, start, stop in _cut(known, offset, end):
                self.content.write_at(where + start - at, data[start - offset : stop - offset])
            if not self._depth:
                self._seen_version = self.content.version
            return
        with self._changing() as volume:
            volume.write(reference, offset, data)
            self._forget_file(reference)

    def _get(self, reference: int, offset: int, length: int) -> bytes:
        known = self._data_of(reference)
        if known.runs is None:
            return self._look().read(reference, offset, length)
        end = offset + length
        valid = min(end, known.initialised)
        pieces = [
            self.content.read_at(where + start - at, stop - start) if where >= 0 else bytes(stop - start)
            for at, where, start, stop in _cut(known, offset, valid)
        ]
        return b"".join(pieces) + bytes(end - max(offset, valid))

    def mkdir(self, path: str, *, parents: bool = False) -> None:
        with self._batch_of(path) as volume:
            if parents:
                self._make_parents(path)
            folder, name = self._parent(path), self._names(path)[-1]
            known = self._known(folder, name)
            if known is not None:
                if parents and self._is_folder(known[1]):
                    return
                raise FileSystemError(ERROR_ALREADY_EXISTS, path)
            reference = self._new(folder, name, directory=True)
            moment = _ticks(self.now())
            volume.set_facts(reference, attributes=0, created=moment, modified=moment)
            self._touch(folder.reference)
            self._forget_file(reference)

    def delete(self, path: str, *, recursive: bool = False) -> None:
        with self._batch_of(path):
            entry, folder = self._find(path), self._parent(path)
            if self._is_folder(entry.reference) and self._folder(entry.reference) and not recursive:
                raise FileSystemError(ERROR_DIR_NOT_EMPTY, path)
            self._remove(folder.reference, entry.name, entry.reference)
            self._touch(folder.reference)

    def _remove(self, folder: int, name: str, reference: int) -> None:
        if self._is_folder(reference):
            for below, found in list(self._folder(reference).values()):
                self._remove(reference, below, found)
            self._touch(reference)
        siblings = self._folder(folder)
        self._look().remove(folder, name, reference)
        siblings.pop(fold(name), None)
        self._folders.pop(reference, None)
        self._forget_file(reference)

    def rename(self, old: str, new: str) -> None:
        with self._batch_of(old) as volume:
            name = self._names(new)[-1]
            entry, source, target = self._find(old), self._parent(old), self._parent(new)
            existing = self._known(target, name)
            if existing is not None and existing[1] != entry.reference:
                raise FileSystemError(ERROR_ALREADY_EXISTS, new)
            if existing is not None and existing[0] == name:
                return
            if (target.path + "\\").startswith(entry.path + "\\") and self._is_folder(entry.reference):
                raise FileSystemError(ERROR_ACCESS_DENIED, new)
            modified = self._facts_of(entry.reference)[2]
            volume.link(entry.reference, target.reference, name)
            volume.remove(source.reference, entry.name, entry.reference)
            volume.set_facts(entry.reference, modified=modified)
            for folder in sorted({source.reference, target.reference}):
                self._touch(folder)
            self._forget()

    def set_attributes(self, path: str, attributes: int) -> None:
        with self._changing(path) as volume:
            reference = self._find(path).reference
            volume.set_facts(reference, attributes=attributes & ~ATTRIBUTE_DIRECTORY)
            self._forget_file(reference)

    def set_modified(self, path: str, moment: datetime) -> None:
        with self._changing(path) as volume:
            reference = self._find(path).reference
            volume.set_facts(reference, modified=_ticks(moment))
            self._forget_file(reference)


def _cut(data: Data, offset: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """The runs between two offsets of a file: (start of the run, its place or -1, first, behind last)."""
    for at, where, length in data.runs or ():
        start, stop = max(offset, at), min(end, at + length)
        if start < stop:
            yield at, where, start, stop


class _NtfsFile(Content):
    """The bytes of one file, found by path at each access."""

    def __init__(self, owner: NtfsFileSystem, path: str) -> None:
        self._owner = owner
        self._path = path

    def _reference(self) -> int:
        return self._owner._find(self._path).reference

    @property
    def size(self) -> int:
        with LOCK:
            return self._owner._data_of(self._reference()).size

    @property
    def version(self) -> int:
        return self._owner.content.version

    def read_at(self, offset: int, length: int) -> bytes:
        with LOCK:
            self._check(offset, length)
            return self._owner._get(self._reference(), offset, length)

    def write_at(self, offset: int, data: bytes) -> None:
        if self._owner.read_only:
            raise FileSystemError(ERROR_WRITE_PROTECT, self._path)
        with LOCK:
            self._check(offset, len(data))
            self._owner._put(self._reference(), offset, data)

    def resize(self, size: int) -> None:
        self._owner._resize(self._path, size)

    def zero(self, offset: int, length: int) -> None:
        with LOCK:
            self._check(offset, length)
            known = self._owner._data_of(self._reference())
            pieces = list(_cut(known, offset, min(offset + length, known.initialised)))
            if known.runs is None:
                self.write_at(offset, bytes(length))
            for at, where, start, stop in pieces:
                if where >= 0:
                    self._owner.content.zero(where + start - at, stop - start)
            if not self._owner._depth:
                self._owner._seen_version = self._owner.content.version

    def data_extents(self, offset: int = 0, length: int | None = None) -> Iterator[tuple[int, int]]:
        with LOCK:
            known = self._owner._data_of(self._reference())
        end = known.size if length is None else min(known.size, offset + length)
        if known.runs is None:
            if offset < end:
                yield offset, end - offset
            return
        for at, where, start, stop in list(_cut(known, offset, min(end, known.initialised))):
            if where >= 0:
                for found, count in self._owner.content.data_extents(where + start - at, stop - start):
                    yield at + found - where, count
