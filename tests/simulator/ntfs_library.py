# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Responsible for speaking to libntfs-3g in this process: finding it, mounting a `Content`, inodes, data, names, errors.

Not responsible for paths, Windows' rules or what is cached (ntfs_file_system.py). No root, no mount point, no device:
the library gets device operations of ours that read and write the content. It keeps no state of its own between two
mounts, and only one thread is inside at a time (`LOCK`). The structures below are those of `libntfs-3g.so.89`
(ntfs-3g 2021.8.22 to 2022.10.3, read from its headers); any other version is not used.
"""

from __future__ import annotations

import ctypes
import errno
import glob
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import (
    POINTER,
    Structure,
    c_char_p,
    c_int,
    c_int64,
    c_uint8,
    c_uint16,
    c_uint32,
    c_uint64,
    c_ulong,
    c_void_p,
)
from dataclasses import dataclass
from typing import Any

from .content import Content
from .file_system import (
    ERROR_ACCESS_DENIED,
    ERROR_ALREADY_EXISTS,
    ERROR_DIR_NOT_EMPTY,
    ERROR_DISK_FULL,
    ERROR_FILE_CORRUPT,
    ERROR_FILE_NOT_FOUND,
    ERROR_INVALID_NAME,
    FileSystemError,
)

LOCK = threading.RLock()
ROOT = 5  # MFT records with a fixed meaning
VOLUME = 3
BITMAP = 6
FIRST_FILE = 24
ATTRIBUTE_VOLUME_NAME = 0x60
ATTRIBUTE_DATA = 0x80
DIRECTORY_MODE = 0o040000
FILE_MODE = 0o100000
SONAME_VERSION = "89"

_RECORD_OF_REFERENCE = (1 << 48) - 1
_MOUNT_READ_ONLY = 0x1
_MOUNT_RECOVER = 0x10000000
_DEVICE_READ_ONLY = 1 << 1
_NAME_SPACE_DOS = 2
_FOLDERS = (
    *("/usr/lib/*-linux-gnu*", "/lib/*-linux-gnu*", "/usr/lib64", "/lib64", "/usr/lib", "/lib", "/usr/local/lib"),
    "/opt/homebrew/lib",
)
_ERRORS = {
    errno.ENOSPC: ERROR_DISK_FULL,
    errno.EFBIG: ERROR_DISK_FULL,
    errno.ENOENT: ERROR_FILE_NOT_FOUND,
    errno.EEXIST: ERROR_ALREADY_EXISTS,
    errno.ENOTEMPTY: ERROR_DIR_NOT_EMPTY,
    errno.ENAMETOOLONG: ERROR_INVALID_NAME,
    errno.EPERM: ERROR_ACCESS_DENIED,
    errno.EACCES: ERROR_ACCESS_DENIED,
}

_OPEN = ctypes.CFUNCTYPE(c_int, c_void_p, c_int, use_errno=True)
_CLOSE = ctypes.CFUNCTYPE(c_int, c_void_p, use_errno=True)
_SEEK = ctypes.CFUNCTYPE(c_int64, c_void_p, c_int64, c_int, use_errno=True)
_READ = ctypes.CFUNCTYPE(c_int64, c_void_p, c_void_p, c_int64, use_errno=True)
_PREAD = ctypes.CFUNCTYPE(c_int64, c_void_p, c_void_p, c_int64, c_int64, use_errno=True)
_STAT = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p, use_errno=True)
_IOCTL = ctypes.CFUNCTYPE(c_int, c_void_p, c_ulong, c_void_p, use_errno=True)
_FILL = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int, c_int64, c_uint64, ctypes.c_uint)


class _Operations(Structure):
    _fields_ = [  # the form that ctypes asks for
        ("open", _OPEN),
        ("close", _CLOSE),
        ("seek", _SEEK),
        ("read", _READ),
        ("write", _READ),
        ("pread", _PREAD),
        ("pwrite", _PREAD),
        ("sync", _CLOSE),
        ("stat", _STAT),
        ("ioctl", _IOCTL),
    ]


class _Run(Structure):
    _fields_ = [("vcn", c_int64), ("lcn", c_int64), ("length", c_int64)]


class _Attribute(Structure):
    """The head of `ntfs_attr`; it is only read."""

    _fields_ = [
        ("runs", POINTER(_Run)),
        ("inode", c_void_p),
        ("type", c_uint32),
        ("name", c_void_p),
        ("name_length", c_uint32),
        ("state", c_ulong),
        ("allocated_size", c_int64),
        ("data_size", c_int64),
        ("initialized_size", c_int64),
    ]


class _SearchContext(Structure):
    """The head of `ntfs_attr_search_ctx`."""

    _fields_ = [
        ("record", c_void_p),
        ("attribute", c_void_p),
        ("is_first", c_int),
        ("inode", c_void_p),
    ]


class _OnDisk(Structure):
    """A non-resident attribute as it stands in an MFT record."""

    _pack_ = 1
    _fields_ = [
        ("type", c_uint32),
        ("length", c_uint32),
        ("non_resident", c_uint8),
        ("name_length", c_uint8),
        ("name_offset", c_uint16),
        ("flags", c_uint16),
        ("instance", c_uint16),
        ("lowest_vcn", c_int64),
        ("highest_vcn", c_int64),
        ("mapping_pairs_offset", c_uint16),
        ("compression_unit", c_uint8),
        ("reserved", c_uint8 * 5),
        ("allocated_size", c_int64),
        ("data_size", c_int64),
        ("initialized_size", c_int64),
    ]


_PROTOTYPES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "ntfs_log_set_handler": (None, (c_void_p,)),
    "ntfs_device_alloc": (c_void_p, (c_char_p, c_ulong, c_void_p, c_void_p)),
    "ntfs_device_free": (c_int, (c_void_p,)),
    "ntfs_device_mount": (c_void_p, (c_void_p, c_ulong)),
    "ntfs_umount": (c_int, (c_void_p, c_int)),
    "ntfs_set_shown_files": (c_int, (c_void_p, c_int, c_int, c_int)),
    "ntfs_volume_rename": (c_int, (c_void_p, c_void_p, c_int)),
    "ntfs_inode_open": (c_void_p, (c_void_p, c_uint64)),
    "ntfs_inode_close": (c_int, (c_void_p,)),
    "ntfs_inode_close_in_dir": (c_int, (c_void_p, c_void_p)),
    "ntfs_inode_mark_dirty": (None, (c_void_p,)),
    "ntfs_inode_get_times": (c_int, (c_void_p, c_void_p, ctypes.c_size_t)),
    "ntfs_inode_set_times": (c_int, (c_void_p, c_void_p, ctypes.c_size_t, c_int)),
    "ntfs_get_ntfs_attrib": (c_int, (c_void_p, c_void_p, ctypes.c_size_t)),
    "ntfs_set_ntfs_attrib": (c_int, (c_void_p, c_void_p, ctypes.c_size_t, c_int)),
    "ntfs_readdir": (c_int, (c_void_p, POINTER(c_int64), c_void_p, _FILL)),
    "ntfs_create": (c_void_p, (c_void_p, c_uint32, c_void_p, c_uint8, c_uint32)),
    "ntfs_link": (c_int, (c_void_p, c_void_p, c_void_p, c_uint8)),
    "ntfs_delete": (c_int, (c_void_p, c_char_p, c_void_p, c_void_p, c_void_p, c_uint8)),
    "ntfs_attr_open": (POINTER(_Attribute), (c_void_p, c_uint32, c_void_p, c_uint32)),
    "ntfs_attr_close": (None, (POINTER(_Attribute),)),
    "ntfs_attr_pread": (c_int64, (POINTER(_Attribute), c_int64, c_int64, c_void_p)),
    "ntfs_attr_pwrite": (c_int64, (POINTER(_Attribute), c_int64, c_int64, c_void_p)),
    "ntfs_attr_truncate_solid": (c_int, (POINTER(_Attribute), c_int64)),
    "ntfs_attr_map_whole_runlist": (c_int, (POINTER(_Attribute),)),
    "ntfs_attr_get_search_ctx": (POINTER(_SearchContext), (c_void_p, c_void_p)),
    "ntfs_attr_put_search_ctx": (None, (POINTER(_SearchContext),)),
    "ntfs_attr_lookup": (
        c_int,
        (c_uint32, c_void_p, c_uint32, c_int, c_int64, c_void_p, c_uint32, POINTER(_SearchContext)),
    ),
    "NAttrCompressed": (c_int, (POINTER(_Attribute),)),
    "NAttrEncrypted": (c_int, (POINTER(_Attribute),)),
}
_STANDARD_INFORMATION = 0x10
_FILE_NAME = 0x30
_VALUE_OFFSET_AT = 0x14  # of a resident attribute, as on disk
_NON_RESIDENT = 1 << 1  # in `_Attribute.state`


class Unavailable(Exception):
    """The library cannot be used on this computer; the text is the reason, one clause."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """The unnamed data of a file: sizes in bytes; ``runs`` are (offset in the file, offset on the volume or -1, length).

    ``runs`` is None where the bytes are not simply on clusters: resident in the MFT, compressed or encrypted.
    """

    size: int
    allocated: int
    initialised: int
    runs: tuple[tuple[int, int, int], ...] | None


def find_library() -> str:
    """The path of the shared library; raises Unavailable."""
    name = f"libntfs-3g.so.{SONAME_VERSION}"
    for folder in _FOLDERS:
        for path in sorted(glob.glob(f"{folder}/{name}")):
            return path
    other = [path for folder in _FOLDERS for path in glob.glob(f"{folder}/libntfs-3g.so.*")]
    if other:
        raise Unavailable(f"{sorted(other)[0]} is not {name}, whose structures are known here")
    raise Unavailable(f"{name} is not installed (Debian: ntfs-3g)")


class _Device:
    """What the library takes for a block device."""

    def __init__(self, content: Content, writable: bool) -> None:
        self.content = content
        self.size = content.size  # a partition does not change while it is mounted
        self.writable = writable
        self.position = 0
        self.failure: Exception | None = None

    def read(self, buffer: int, count: int, offset: int) -> int:
        data = self.content.read_at(offset, max(0, min(count, self.size - offset)))
        ctypes.memmove(buffer, data, len(data))
        return len(data)

    def write(self, buffer: int, count: int, offset: int) -> int:
        if not self.writable or offset + count > self.size:
            ctypes.set_errno(errno.EROFS if not self.writable else errno.ENOSPC)
            return -1
        self.content.write_at(offset, ctypes.string_at(buffer, count))
        return count


class Library:
    """libntfs-3g, loaded. Raises Unavailable when it is absent or lacks a function."""

    def __init__(self, path: str | None = None) -> None:
        self.path = path or find_library()
        try:
            self._c = ctypes.CDLL(self.path, use_errno=True)
            for name, (result, arguments) in _PROTOTYPES.items():
                function = getattr(self._c, name)
                function.restype, function.argtypes = result, arguments
            self.unnamed = ctypes.addressof(c_uint16.in_dll(self._c, "AT_UNNAMED"))
            silent = ctypes.cast(self._c.ntfs_log_handler_null, c_void_p)
        except (OSError, AttributeError, ValueError) as problem:
            raise Unavailable(f"{self.path} cannot be used: {problem}") from problem
        self._c.ntfs_log_set_handler(silent)
        self._devices: dict[int, _Device] = {}
        self._dead: deque[int] = deque()
        self._names: list[tuple[str, int]] = []
        self._fill = _FILL(self._take_name)
        self._operations = _Operations(
            _OPEN(lambda _device, _flags: 0),
            _CLOSE(lambda _device: 0),
            _SEEK(self._seek),
            _READ(lambda device, buffer, count: self._sequential(device, buffer, count, write=False)),
            _READ(lambda device, buffer, count: self._sequential(device, buffer, count, write=True)),
            _PREAD(lambda device, buffer, count, offset: self._access(device, buffer, count, offset, write=False)),
            _PREAD(lambda device, buffer, count, offset: self._access(device, buffer, count, offset, write=True)),
            _CLOSE(lambda _device: 0),
            _STAT(lambda _device, _result: _refuse()),
            _IOCTL(lambda _device, _request, _argument: _refuse()),
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self._c, name)

    # -- device operations

    def _access(self, address: int, buffer: int, count: int, offset: int, *, write: bool) -> int:
        device = self._devices[address]
        try:
            return device.write(buffer, count, offset) if write else device.read(buffer, count, offset)
        except Exception as problem:  # noqa: BLE001  # nothing may be raised through C; `NtfsVolume.check` raises it
            device.failure = device.failure or problem
            ctypes.set_errno(errno.EIO)
            return -1

    def _sequential(self, address: int, buffer: int, count: int, *, write: bool) -> int:
        device = self._devices[address]
        done = self._access(address, buffer, count, device.position, write=write)
        device.position += max(done, 0)
        return done

    def _seek(self, address: int, offset: int, whence: int) -> int:
        device = self._devices[address]
        device.position = offset + (0, device.position, device.size)[whence]
        return device.position

    def _take_name(
        self, _context: int, name: int, length: int, space: int, _position: int, reference: int, _kind: int
    ) -> int:
        if space != _NAME_SPACE_DOS:
            text = ctypes.string_at(name, length * 2).decode("utf-16-le", "surrogatepass")
            self._names.append((text, reference))
        return 0

    # -- mounts

    def mount(self, content: Content, *, writable: bool) -> NtfsVolume:
        """A mounted volume; FileSystemError 1392 when the library refuses the bytes."""
        self.bury()
        device = self._c.ntfs_device_alloc(
            b"simulator", 0 if writable else _DEVICE_READ_ONLY, ctypes.addressof(self._operations), None
        )
        if not device:
            raise MemoryError("ntfs_device_alloc")
        self._devices[device] = _Device(content, writable)
        volume = self._c.ntfs_device_mount(device, _MOUNT_RECOVER if writable else _MOUNT_READ_ONLY)
        if not volume:
            self._devices.pop(device)
            self._c.ntfs_device_free(device)
            raise FileSystemError(ERROR_FILE_CORRUPT)
        self._c.ntfs_set_shown_files(volume, 0, 1, 0)
        return NtfsVolume(self, volume, device)

    def unmount(self, volume: int, device: int) -> None:
        self._c.ntfs_umount(volume, 0)
        failure = self._devices.pop(device).failure
        if failure is not None:
            raise failure

    def leave_behind(self, volume: int, device: int) -> None:
        """A volume whose Python object died (in whatever thread): unmounted at the next mount, nothing is written."""
        self._devices[device].writable = False
        self._dead.append(volume)
        self._dead.append(device)

    def bury(self) -> None:
        while self._dead:
            volume, device = self._dead.popleft(), self._dead.popleft()
            self._c.ntfs_umount(volume, 0)
            self._devices.pop(device, None)

    def read_names(self, folder: int) -> list[tuple[str, int]]:
        self._names = []
        if self._c.ntfs_readdir(folder, ctypes.byref(c_int64(0)), None, self._fill):
            raise failed()
        found, self._names = self._names, []
        return found

    def failure_of(self, device: int) -> Exception | None:
        return self._devices[device].failure


def _refuse() -> int:
    ctypes.set_errno(errno.ENOTSUP)
    return -1


def failed(path: str = "") -> FileSystemError:
    """The Windows error for what the library has just refused."""
    return FileSystemError(_ERRORS.get(ctypes.get_errno(), ERROR_FILE_CORRUPT), path)


def _utf16(name: str) -> tuple[Any, int]:
    raw = name.encode("utf-16-le", "surrogatepass")
    return ctypes.create_string_buffer(raw + b"\0\0"), len(raw) // 2


class NtfsVolume:
    """One mount of one content; every method needs LOCK. References are MFT references as the library gives them."""

    def __init__(self, library: Library, handle: int, device: int) -> None:
        self._library = library
        self._handle = handle
        self._device = device
        self._mounted = True

    def close(self) -> None:
        """Everything is written afterwards; raises what a write of the content raised."""
        if self._mounted:
            self._mounted = False
            self._library.unmount(self._handle, self._device)

    def check(self) -> None:
        """Raise what the content raised while the library read or wrote it (a full host volume, for example)."""
        failure = self._library.failure_of(self._device)
        if failure is not None:
            raise failure

    def __del__(self) -> None:
        if self._mounted:
            self._mounted = False
            self._library.leave_behind(self._handle, self._device)

    @contextmanager
    def _inode(self, reference: int) -> Iterator[int]:
        inode = self._library.ntfs_inode_open(self._handle, reference)
        if not inode:
            raise failed()
        try:
            yield inode
        except BaseException:
            self._library.ntfs_inode_close(inode)
            raise
        if self._library.ntfs_inode_close(inode):
            raise failed()

    @contextmanager
    def _attribute(self, inode: int, kind: int) -> Iterator[Any]:
        attribute = self._library.ntfs_attr_open(inode, kind, self._library.unnamed, 0)
        if not attribute:
            raise failed()
        try:
            yield attribute
        finally:
            self._library.ntfs_attr_close(attribute)

    @contextmanager
    def _search(self, inode: int) -> Iterator[Any]:
        context = self._library.ntfs_attr_get_search_ctx(inode, None)
        if not context:
            raise failed()
        try:
            yield context
        finally:
            self._library.ntfs_attr_put_search_ctx(context)

    # -- looking

    def names(self, reference: int) -> list[tuple[str, int]]:
        """Names and references of a directory, without the file system's own files."""
        with self._inode(reference) as inode:
            found = self._library.read_names(inode)
        return [(n, r) for n, r in found if n not in (".", "..") and r & _RECORD_OF_REFERENCE >= FIRST_FILE]

    def facts(self, reference: int) -> tuple[int, int, int]:
        """(attributes, created, modified) of a file or directory; times in 100 ns since 1601."""
        with self._inode(reference) as inode:
            attributes, times = c_uint32(0), (c_uint64 * 4)()
            if self._library.ntfs_get_ntfs_attrib(inode, ctypes.byref(attributes), 4) != 4:
                raise failed()
            if self._library.ntfs_inode_get_times(inode, ctypes.byref(times), 32) < 16:
                raise failed()
            return attributes.value, times[0], times[1]

    def data(self, reference: int, cluster: int) -> Data:
        with self._inode(reference) as inode, self._attribute(inode, ATTRIBUTE_DATA) as attribute:
            head = attribute.contents
            size, allocated, initialised = head.data_size, head.allocated_size, head.initialized_size
            plain = not self._library.NAttrCompressed(attribute) and not self._library.NAttrEncrypted(attribute)
            if not head.state & _NON_RESIDENT:
                return Data(size=size, allocated=0, initialised=initialised, runs=None)
            if not plain:
                return Data(size=size, allocated=allocated, initialised=initialised, runs=None)
            if self._library.ntfs_attr_map_whole_runlist(attribute):
                raise failed()
            runs, number = [], 0
            while head.runs and head.runs[number].length:
                run = head.runs[number]
                at = run.lcn * cluster if run.lcn >= 0 else -1
                runs.append((run.vcn * cluster, at, run.length * cluster))
                number += 1
            return Data(size=size, allocated=allocated, initialised=initialised, runs=tuple(runs))

    def read(self, reference: int, offset: int, length: int) -> bytes:
        return self._read(reference, ATTRIBUTE_DATA, offset, length)

    def _read(self, reference: int, kind: int, offset: int, length: int) -> bytes:
        with self._inode(reference) as inode, self._attribute(inode, kind) as attribute:
            buffer = ctypes.create_string_buffer(max(length, 1))
            done = self._library.ntfs_attr_pread(attribute, offset, length, buffer)
            if done != length:
                raise FileSystemError(ERROR_FILE_CORRUPT)
            return buffer.raw[:length]

    def bitmap(self, clusters: int) -> bytes:
        """One bit for each cluster, the lowest bit first; 1 is allocated."""
        return self._read(BITMAP, ATTRIBUTE_DATA, 0, -(-clusters // 8))

    def label(self) -> str:
        with self._inode(VOLUME) as inode:
            attribute = self._library.ntfs_attr_open(inode, ATTRIBUTE_VOLUME_NAME, self._library.unnamed, 0)
            if not attribute:
                return ""
            try:
                size = attribute.contents.data_size
                buffer = ctypes.create_string_buffer(size + 1)
                done = self._library.ntfs_attr_pread(attribute, 0, size, buffer)
            finally:
                self._library.ntfs_attr_close(attribute)
        return buffer.raw[: max(done, 0)].decode("utf-16-le", "replace")

    # -- changing

    def set_label(self, label: str) -> None:
        name, length = _utf16(label)
        if self._library.ntfs_volume_rename(self._handle, name, length):
            raise failed()

    def create(self, folder: int, name: str, *, directory: bool) -> int:
        """An empty file or directory; returns its reference (record number alone: sequence 0 is not compared)."""
        text, length = _utf16(name)
        with self._inode(folder) as parent:
            made = self._library.ntfs_create(parent, 0, text, length, DIRECTORY_MODE if directory else FILE_MODE)
            if not made:
                raise failed(name)
            reference = c_uint64.from_address(made).value  # `mft_no`, the first member of `ntfs_inode`
            # Only one copy of a directory's inode may be in memory: the child is closed with the open parent in hand.
            if self._library.ntfs_inode_close_in_dir(made, parent):
                raise failed(name)
        return reference

    def remove(self, folder: int, name: str, reference: int) -> None:
        """Take a name away, and the file with its last name."""
        text, length = _utf16(name)
        inode = self._library.ntfs_inode_open(self._handle, reference)
        parent = self._library.ntfs_inode_open(self._handle, folder)
        if not inode or not parent:
            for opened in (inode, parent):
                if opened:
                    self._library.ntfs_inode_close(opened)
            raise FileSystemError(ERROR_FILE_CORRUPT, name)
        if self._library.ntfs_delete(self._handle, None, inode, parent, text, length):  # closes both
            raise failed(name)

    def link(self, reference: int, folder: int, name: str) -> None:
        text, length = _utf16(name)
        inode = self._library.ntfs_inode_open(self._handle, reference)
        if not inode:
            raise failed(name)
        parent = self._library.ntfs_inode_open(self._handle, folder)
        if not parent:
            self._library.ntfs_inode_close(inode)
            raise failed(name)
        wrong = self._library.ntfs_link(inode, parent, text, length)
        problem = failed(name) if wrong else None
        self._library.ntfs_inode_close_in_dir(inode, parent)
        self._library.ntfs_inode_close(parent)
        if problem is not None:
            raise problem

    def set_facts(
        self, reference: int, *, attributes: int | None = None, created: int | None = None, modified: int | None = None
    ) -> None:
        with self._inode(reference) as inode:
            if attributes is not None:
                value = c_uint32(attributes)
                if self._library.ntfs_set_ntfs_attrib(inode, ctypes.byref(value), 4, 0):
                    raise failed()
            if modified is not None:
                times = (c_uint64 * 4)()
                if self._library.ntfs_inode_get_times(inode, ctypes.byref(times), 32) < 24:
                    raise failed()
                times[0] = times[0] if created is None else created
                times[1] = times[2] = modified
                if self._library.ntfs_inode_set_times(inode, ctypes.byref(times), 24, 0):
                    raise failed()
                self._set_record_change_time(inode, modified)

    def _set_record_change_time(self, inode: int, ticks: int) -> None:
        """The library takes the real clock for this one; the same world shall have the same bytes."""
        for kind, inside in ((_STANDARD_INFORMATION, 0x10), (_FILE_NAME, 0x18)):
            with self._search(inode) as context:
                while not self._library.ntfs_attr_lookup(kind, self._library.unnamed, 0, 0, 0, None, 0, context):
                    at = context.contents.attribute
                    value = at + c_uint16.from_address(at + _VALUE_OFFSET_AT).value
                    c_uint64.from_address(value + inside).value = ticks
                    if kind == _STANDARD_INFORMATION:
                        break

    def resize(self, reference: int, size: int) -> None:
        """The data has ``size`` bytes, all of them on clusters (or resident); what is new reads as zeros."""
        with self._inode(reference) as inode, self._attribute(inode, ATTRIBUTE_DATA) as attribute:
            if self._library.ntfs_attr_truncate_solid(attribute, size):
                raise failed()

    def write(self, reference: int, offset: int, data: bytes) -> None:
        with self._inode(reference) as inode, self._attribute(inode, ATTRIBUTE_DATA) as attribute:
            done = 0
            while done < len(data):
                piece = self._library.ntfs_attr_pwrite(attribute, offset + done, len(data) - done, data[done:])
                if piece <= 0:
                    raise failed()
                done += piece

    def set_initialised(self, reference: int) -> None:
        """Say that all of the data was written: the caller has put its bytes on the clusters."""
        with self._inode(reference) as inode, self._search(inode) as context:
            if self._library.ntfs_attr_lookup(ATTRIBUTE_DATA, self._library.unnamed, 0, 0, 0, None, 0, context):
                raise failed()
            attribute = _OnDisk.from_address(context.contents.attribute)
            if attribute.type != ATTRIBUTE_DATA or not attribute.non_resident or attribute.lowest_vcn:
                raise FileSystemError(ERROR_FILE_CORRUPT)
            attribute.initialized_size = attribute.data_size
            self._library.ntfs_inode_mark_dirty(context.contents.inode)
