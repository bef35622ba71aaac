# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Responsible for what a volume's files look like to the simulator: the interface, names, errors, seeded file trees.

`DirectoryFileSystem` is a real directory with a capacity, for host volumes that only hold images. Two backends are on the
bytes of a partition: `PartitionFileSystem` (partition_file_system.py), the simulator's own, and `NtfsFileSystem`
(ntfs_file_system.py), real NTFS. Not responsible for letters, mounting, BitLocker or which backend it is (volumes.py).

Paths are relative to the volume's root, with backslashes: `Users\\a.txt`, the root is "".
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from .content import Content, SparseFile, copy_content

ERROR_FILE_NOT_FOUND = 2
ERROR_PATH_NOT_FOUND = 3
ERROR_ACCESS_DENIED = 5
ERROR_WRITE_PROTECT = 19
ERROR_SHARING_VIOLATION = 32
ERROR_FILE_EXISTS = 80
ERROR_DISK_FULL = 112
ERROR_INVALID_NAME = 123
ERROR_DIR_NOT_EMPTY = 145
ERROR_ALREADY_EXISTS = 183
ERROR_DIRECTORY = 267
ERROR_UNRECOGNIZED_VOLUME = 1005
ERROR_FILE_CORRUPT = 1392

ATTRIBUTE_READ_ONLY = 0x1
ATTRIBUTE_HIDDEN = 0x2
ATTRIBUTE_SYSTEM = 0x4
ATTRIBUTE_DIRECTORY = 0x10
ATTRIBUTE_ARCHIVE = 0x20

_BAD_CHARACTERS = re.compile(r'[<>:"/\\|?*\x00-\x1f]')
_DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"COM{n}" for n in range(1, 10)), *(f"LPT{n}" for n in range(1, 10))}
_TEXTS = {
    2: "The system cannot find the file specified.",
    3: "The system cannot find the path specified.",
    5: "Access is denied.",
    19: "The media is write protected.",
    32: "The process cannot access the file because it is being used by another process.",
    80: "The file exists.",
    112: "There is not enough space on the disk.",
    123: "The filename, directory name, or volume label syntax is incorrect.",
    145: "The directory is not empty.",
    183: "Cannot create a file when that file already exists.",
    267: "The directory name is invalid.",
    1005: "The volume does not contain a recognized file system.",
    1392: "The file or directory is corrupted and unreadable.",
}


class FileSystemError(Exception):
    """A file operation that Windows would refuse: ``code`` is the Win32 error, ``str()`` its English text."""

    def __init__(self, code: int, path: str = "") -> None:
        super().__init__(_TEXTS.get(code, f"Windows error {code}."))
        self.code = code
        self.path = path


@dataclass(frozen=True, kw_only=True)
class FileStat:
    """One file or directory. ``path`` is relative to the root, ``allocated`` counts bytes in clusters."""

    name: str
    path: str
    is_directory: bool
    size: int
    allocated: int
    attributes: int
    created: datetime
    modified: datetime


def fold(name: str) -> str:
    """The form in which Windows compares names: upper-cased character by character."""
    return "".join(c.upper() if len(c.upper()) == 1 else c for c in name)


def split_path(path: str) -> list[str]:
    """Components of a relative path; refuses what Windows refuses in a name."""
    parts = [part for part in path.replace("/", "\\").split("\\") if part not in ("", ".")]
    for part in parts:
        stem = part.split(".")[0].rstrip(" ").upper()
        if part == ".." or _BAD_CHARACTERS.search(part) or part[-1] in " ." or len(part) > 255 or stem in _DEVICES:
            raise FileSystemError(ERROR_INVALID_NAME, path)
    return parts


def parent_of(path: str) -> str:
    return "\\".join(split_path(path)[:-1])


def _now() -> datetime:
    return datetime.now(timezone.utc)


class FileSystem(ABC):
    """What cmd.exe, wbadmin, CIM_LogicalFile and the image service need of a volume's files.

    ``kind`` is "NTFS", "ReFS", "FAT32", "exFAT"; ``serial`` the volume serial number (64 bit on NTFS and ReFS);
    ``reservations`` names space that others hold (diff areas), which counts as used.
    """

    kind: str
    label: str
    serial: int
    cluster_size: int

    def __init__(self, now: Callable[[], datetime] = _now) -> None:
        self.now = now
        self.reservations: dict[str, int] = {}
        self.read_only = False

    @property
    @abstractmethod
    def size(self) -> int: ...

    @abstractmethod
    def _free(self) -> int: ...

    @property
    def free(self) -> int:
        return max(0, self._free() - sum(self.reservations.values()))

    @abstractmethod
    def listdir(self, path: str = "") -> list[str]: ...

    @abstractmethod
    def stat(self, path: str) -> FileStat: ...

    @abstractmethod
    def open(self, path: str) -> Content: ...

    @abstractmethod
    def create(self, path: str, size: int = 0) -> Content:
        """A new file of ``size`` zero bytes whose whole size is taken from the volume; replaces an existing file."""

    @abstractmethod
    def mkdir(self, path: str, *, parents: bool = False) -> None: ...

    @abstractmethod
    def delete(self, path: str, *, recursive: bool = False) -> None: ...

    @abstractmethod
    def rename(self, old: str, new: str) -> None: ...

    @abstractmethod
    def set_attributes(self, path: str, attributes: int) -> None: ...

    @abstractmethod
    def set_modified(self, path: str, moment: datetime) -> None: ...

    @abstractmethod
    def allocated(self) -> Iterator[tuple[int, int]]:
        """Allocated clusters as (offset, length) from the start of the volume; empty where there is no block device."""

    def exists(self, path: str) -> bool:
        try:
            self.stat(path)
        except FileSystemError:
            return False
        return True

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        content = self.open(path)
        end = content.size if length is None else min(content.size, offset + length)
        return content.read_at(offset, end - offset) if end > offset else b""

    def write(self, path: str, data: bytes) -> None:
        """The file holds exactly ``data`` afterwards; the directory must exist."""
        content = self.create(path, len(data))
        if data:
            content.write_at(0, data)

    def append(self, path: str, data: bytes) -> None:
        if not self.exists(path):
            self.write(path, data)
            return
        content = self.open(path)
        at = content.size
        content.resize(at + len(data))
        content.write_at(at, data)

    def walk(self, path: str = "") -> Iterator[FileStat]:
        """Everything below ``path``, depth first, in name order."""
        for name in sorted(self.listdir(path), key=fold):
            entry = self.stat(f"{path}\\{name}" if path else name)
            yield entry
            if entry.is_directory:
                yield from self.walk(entry.path)

    def tree_digest(self, *, ignore: tuple[str, ...] = ("System Volume Information", "$RECYCLE.BIN")) -> str:
        """SHA-256 over the file tree: names, sizes and contents of every file and directory."""
        skipped = {fold(name) for name in ignore}
        state = hashlib.sha256()
        for entry in self.walk():
            if fold(entry.path.split("\\")[0]) in skipped:
                continue
            state.update(f"{entry.path}\0{'d' if entry.is_directory else entry.size}\0".encode())
            if not entry.is_directory:
                content = self.open(entry.path)
                for position in range(0, entry.size, 1 << 20):
                    state.update(content.read_at(position, min(1 << 20, entry.size - position)))
        return state.hexdigest()

    def _make_parents(self, path: str) -> None:
        parts = split_path(path)
        for count in range(1, len(parts)):
            above = "\\".join(parts[:count])
            if not self.exists(above):
                self.mkdir(above)


class BlockFileSystem(FileSystem):
    """A file system on the bytes of a partition: a copy of its allocated ranges is the volume."""

    content: Content

    @abstractmethod
    def batch(self) -> AbstractContextManager[None]:
        """Many changes, written together at the end."""

    @abstractmethod
    def set_label(self, label: str) -> None: ...

    @abstractmethod
    def grow(self) -> None:
        """Use the whole partition after it was made larger."""


class DirectoryFileSystem(FileSystem):
    """A host volume whose files are real files below ``root``; ``size`` is its capacity."""

    def __init__(
        self,
        root: Path,
        capacity: int,
        *,
        kind: str = "NTFS",
        label: str = "",
        serial: int = 0,
        cluster_size: int = 4096,
        used: int = 0,
        now: Callable[[], datetime] = _now,
    ) -> None:
        super().__init__(now)
        self.root = root
        self.kind, self.label, self.serial, self.cluster_size = kind, label, serial, cluster_size
        self._capacity = capacity
        self._base_use = used or metadata_bytes(kind, capacity, cluster_size)
        self._contents: dict[Path, SparseFile] = {}
        self._used: int | None = None
        self.watchers: list[
            Callable[[str, int, int], None]
        ] = []  # told (path, offset, length) before bytes are written
        root.mkdir(parents=True, exist_ok=True)

    @property
    def size(self) -> int:
        return self._capacity

    def _free(self) -> int:
        if self._used is None:  # counted once, then kept: only this class changes the files
            self._used = 0
            for folder, _names, files in os.walk(self.root):
                self._used += sum(self._clusters_of(os.lstat(os.path.join(folder, name)).st_size) for name in files)
        return self._capacity - self._base_use - self._used

    def _clusters_of(self, size: int) -> int:
        return -(-size // self.cluster_size) * self.cluster_size

    def account(self, old: int, new: int) -> None:
        """A file changed its size from ``old`` to ``new`` bytes."""
        if self._used is not None:
            self._used += self._clusters_of(new) - self._clusters_of(old)

    def recount(self) -> None:
        """Files were changed behind our back: count them anew when asked."""
        self._used = None

    def real_path(self, path: str, *, must_exist: bool = True) -> Path:
        """The real file behind a path, letter case ignored; with ``must_exist`` false the last part may be new."""
        here = self.root
        parts = split_path(path)
        for number, part in enumerate(parts):
            match = self._child(here, part)
            if match is None:
                last = number == len(parts) - 1
                if last and not must_exist:
                    return here / part
                raise FileSystemError(ERROR_FILE_NOT_FOUND if last else ERROR_PATH_NOT_FOUND, path)
            if number < len(parts) - 1 and not match.is_dir():
                raise FileSystemError(ERROR_PATH_NOT_FOUND, path)
            here = match
        return here

    @staticmethod
    def _child(folder: Path, name: str) -> Path | None:
        exact = folder / name
        if exact.exists():
            return exact
        wanted = fold(name)
        return next((entry for entry in folder.iterdir() if fold(entry.name) == wanted), None)

    def listdir(self, path: str = "") -> list[str]:
        real = self.real_path(path)
        if not real.is_dir():
            raise FileSystemError(ERROR_DIRECTORY, path)
        return sorted((entry.name for entry in real.iterdir()), key=fold)

    def stat(self, path: str) -> FileStat:
        real = self.real_path(path)
        facts = real.stat()
        directory = real.is_dir()
        moment = datetime.fromtimestamp(facts.st_mtime, timezone.utc)
        size = 0 if directory else facts.st_size
        return FileStat(
            name=real.name if split_path(path) else "",
            path=str(real.relative_to(self.root)).replace("/", "\\") if split_path(path) else "",
            is_directory=directory,
            size=size,
            allocated=-(-size // self.cluster_size) * self.cluster_size,
            attributes=ATTRIBUTE_DIRECTORY if directory else ATTRIBUTE_ARCHIVE,
            created=moment,
            modified=moment,
        )

    def open(self, path: str) -> Content:
        real = self.real_path(path)
        if real.is_dir():
            raise FileSystemError(ERROR_ACCESS_DENIED, path)
        return self._contents.setdefault(real, _CappedFile(real, self))

    def create(self, path: str, size: int = 0) -> Content:
        if self.read_only:
            raise FileSystemError(ERROR_WRITE_PROTECT, path)
        if not split_path(path):
            raise FileSystemError(ERROR_ACCESS_DENIED, path)
        real = self.real_path(path, must_exist=False)
        if real.is_dir():
            raise FileSystemError(ERROR_ACCESS_DENIED, path)
        old = real.stat().st_size if real.exists() else 0
        if size - old > self.free:
            raise FileSystemError(ERROR_DISK_FULL, path)
        with real.open("wb") as stream:
            stream.truncate(size)
        self.account(old, size)
        content = self._contents.setdefault(real, _CappedFile(real, self))
        content.touched()
        return content

    def mkdir(self, path: str, *, parents: bool = False) -> None:
        if self.read_only:
            raise FileSystemError(ERROR_WRITE_PROTECT, path)
        if parents:
            self._make_parents(path)
        real = self.real_path(path, must_exist=False)
        if real.exists():
            if parents and real.is_dir():
                return
            raise FileSystemError(ERROR_ALREADY_EXISTS, path)
        real.mkdir()

    def delete(self, path: str, *, recursive: bool = False) -> None:
        if self.read_only:
            raise FileSystemError(ERROR_WRITE_PROTECT, path)
        real = self.real_path(path)
        if real == self.root:
            raise FileSystemError(ERROR_ACCESS_DENIED, path)
        if real.is_dir():
            if any(real.iterdir()) and not recursive:
                raise FileSystemError(ERROR_DIR_NOT_EMPTY, path)
            shutil.rmtree(real)
            self.recount()
        else:
            self.account(real.stat().st_size, 0)
            real.unlink()
        self._forget(real)

    def rename(self, old: str, new: str) -> None:
        if self.read_only:
            raise FileSystemError(ERROR_WRITE_PROTECT, old)
        source = self.real_path(old)
        target = self.real_path(new, must_exist=False)
        if target.exists() and target != source:
            raise FileSystemError(ERROR_ALREADY_EXISTS, new)
        source.rename(target.parent / split_path(new)[-1])
        self._forget(source)

    def _forget(self, real: Path) -> None:
        for known in [k for k in self._contents if k == real or real in k.parents]:
            self._contents.pop(known).touched()

    def set_attributes(self, path: str, attributes: int) -> None:
        self.real_path(path)  # a real directory keeps no Windows attributes; only existence is checked

    def set_modified(self, path: str, moment: datetime) -> None:
        real = self.real_path(path)
        ticks = int(moment.timestamp() * 1e9)
        os.utime(real, ns=(ticks, ticks))

    def allocated(self) -> Iterator[tuple[int, int]]:
        return iter(())


class _CappedFile(SparseFile):
    """A real file that cannot grow beyond the free space of its volume."""

    def __init__(self, path: Path, owner: DirectoryFileSystem) -> None:
        super().__init__(path)
        self._owner = owner

    def write_at(self, offset: int, data: bytes) -> None:
        for watcher in list(self._owner.watchers):
            watcher(str(self.path.relative_to(self._owner.root)), offset, len(data))
        super().write_at(offset, data)

    def resize(self, size: int) -> None:
        if size - self.size > self._owner.free:
            raise FileSystemError(ERROR_DISK_FULL, self.path.name)
        self._owner.account(self.size, size)
        super().resize(size)


def metadata_bytes(kind: str, size: int, cluster: int) -> int:
    """What an empty volume already uses (windows-storage 5.2: NTFS as measured; ReFS about a tenth, at most 1.9 GB)."""
    if kind == "ReFS":
        return min(size // 10, 2029043097) // cluster * cluster
    if kind in ("FAT32", "exFAT", "FAT"):
        return -(-(size // cluster * 4) // cluster) * cluster + 2 * cluster
    log = min(max(size // 200, 262144), 64 << 20)
    bitmap = size // cluster // 8
    fixed = min(14 * 65536, max(16 * cluster, 65536) if size < (256 << 20) else 14 * 65536)
    return -(-(log + bitmap + fixed) // cluster) * cluster


_WORDS = (
    *("report", "ledger", "invoice", "order", "archive", "policy", "notes", "draft", "plan", "index", "summary"),
    *("export", "contract", "photo", "backup", "log", "data", "Übersicht", "資料", "query", "config", "batch", "team"),
)
_SUFFIXES = (".txt", ".log", ".dat", ".xml", ".db", ".bak", ".csv", ".docx")


def grow_tree(fs: FileSystem, seed: str, *, files: int, total: int, root: str = "") -> None:
    """Files and folders from a seed: ``files`` files of about ``total`` bytes in all; some names are not ASCII."""
    dice = random.Random(f"tree:{seed}")
    folders = [root]
    weights = [dice.random() + 0.05 for _unused in range(files)]
    for number, weight in enumerate(weights):
        if dice.random() < 0.25:
            name = f"{dice.choice(_WORDS)} {dice.randrange(1000)}"
            folder = f"{dice.choice(folders)}\\{name}".strip("\\")
            if not fs.exists(folder):
                fs.mkdir(folder, parents=True)
                folders.append(folder)
        name = f"{dice.choice(_WORDS)}-{number:03d}{dice.choice(_SUFFIXES)}"
        length = int(total * weight / sum(weights))
        fs.write(f"{dice.choice(folders)}\\{name}".strip("\\"), dice.randbytes(length))


def copy_file(source: FileSystem, source_path: str, target: FileSystem, target_path: str) -> None:
    """A file from one volume to another; the target takes the whole size, holes of the source stay cheap."""
    origin = source.open(source_path)
    copy_content(origin, target.create(target_path, origin.size))
