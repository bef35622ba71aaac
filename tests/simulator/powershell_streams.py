# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
r"""Files and raw disks for PowerShell scripts: System.IO.File, FileStream, Path, Directory and \\.\PHYSICALDRIVEn.

Responsible for sharing between handles, for what Win32 refuses and for the .NET exception of each Win32 error.
Sources: .NET documentation and Microsoft's reference source of FileStream (overloads, buffering, error mapping); Win32
CreateFile "Physical disks and volumes" and KB 100027 (share modes, sector alignment, rights), KB 942448 (writes to disks
with mounted volumes); Microsoft's disk class driver sample (a read that is not aligned or passes the end: error 87).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from .assumed import assumed
from .content import Content
from .disks import Disk
from .file_system import (
    ERROR_ACCESS_DENIED,
    ERROR_FILE_EXISTS,
    ERROR_FILE_NOT_FOUND,
    ERROR_PATH_NOT_FOUND,
    ERROR_SHARING_VIOLATION,
    ERROR_WRITE_PROTECT,
    FileSystemError,
)
from .powershell_classes import check_range
from .powershell_dotnet import VOID, constructor, getter, inherits, method, setter, static
from .powershell_values import Array, Enum, Int64, NetObject, Thrown, convert, enumeration, thrown

assumed(
    "powershell-device-path",
    r"Whether FileStream of powershell.exe 5.1 opens \\.\ paths: .NET Framework 4.6.2 and later does in full trust unless"
    " legacy path handling is on for the process",
    source="reference source of FileStream.Init; which path handling powershell.exe gets is not documented",
    values=("opened", "refused"),
)
assumed(
    "powershell-device-length",
    "FileStream.Length of a physical disk: GetFileSize fails, or gives 0",
    source="Win32 documents GetFileSize for files only",
    values=("error", "zero"),
)
assumed(
    "powershell-device-share",
    "A physical disk opens only with FileShare.ReadWrite, or with any share mode",
    source="KB 100027: both share flags are needed",
    values=("both", "any"),
)
assumed(
    "powershell-device-in-use",
    "Opening a disk for reading on the host while a running VM has it as pass-through",
    source="not documented",
    values=("refused", "opened"),
)
assumed(
    "powershell-device-past-end",
    "A read that begins inside and ends behind the end of a physical disk: error 87, or what is there",
    source="disk class driver sample: error 87; what lies above it may shorten the read",
    values=("error", "short"),
)
assumed(
    "powershell-device-offline",
    "An offline disk can be read through its device path",
    source="SAN policy documentation: offline disks have no volumes; raw reads are not spoken of",
    values=("read", "refused"),
)
assumed(
    "powershell-mounted-image-read",
    "An image that is attached read-only can be opened for reading with FileShare.Read as a file",
    source="not documented",
    values=("yes", "no"),
)

OPEN_MODES = enumeration(
    "System.IO.FileMode", {"CreateNew": 1, "Create": 2, "Open": 3, "OpenOrCreate": 4, "Truncate": 5, "Append": 6}
)
ACCESSES = enumeration("System.IO.FileAccess", {"Read": 1, "Write": 2, "ReadWrite": 3}, flags=True)
SHARES = enumeration(
    "System.IO.FileShare",
    {"None": 0, "Read": 1, "Write": 2, "ReadWrite": 3, "Delete": 4, "Inheritable": 16},
    flags=True,
)
ORIGINS = enumeration("System.IO.SeekOrigin", {"Begin": 0, "Current": 1, "End": 2})
OPTIONS = enumeration(
    "System.IO.FileOptions",
    {
        "None": 0,
        "Encrypted": 16384,
        "DeleteOnClose": 67108864,
        "SequentialScan": 134217728,
        "RandomAccess": 268435456,
        "Asynchronous": 1073741824,
        "WriteThrough": -2147483648,
    },
    flags=True,
)
READ, WRITE = 1, 2
ERROR_INVALID_PARAMETER = 87
ERROR_DEVICE_NOT_CONNECTED = 1167
ERROR_CRC = 23
_DEVICE = re.compile(r"\\\\[.?]\\PHYSICALDRIVE(\d+)", re.IGNORECASE)
_TEXTS = {
    ERROR_INVALID_PARAMETER: "The parameter is incorrect.",
    ERROR_DEVICE_NOT_CONNECTED: "The device is not connected.",
    ERROR_CRC: "Data error (cyclic redundancy check).",
    53: "The network path was not found.",
    67: "The network name cannot be found.",
    1326: "The user name or password is incorrect.",
}
_NOT_SYNCHRONOUS = (
    "Handle does not support synchronous operations. The parameters to the FileStream constructor may need to be changed to"
    " indicate that the handle was opened asynchronously (that is, it was opened explicitly for overlapped I/O)."
)
BLOCK = 1 << 20


def win32_error(code: int, path: str, text: str = "") -> Thrown:
    """The exception that .NET Framework makes of a Win32 error (its __Error.WinIOError)."""
    hresult = code - (1 << 31) + 0x70000 if code < 0x10000 else code - (1 << 32)
    quoted = f"'{path}'"
    known = {
        ERROR_FILE_NOT_FOUND: ("System.IO.FileNotFoundException", f"Could not find file {quoted}."),
        ERROR_PATH_NOT_FOUND: ("System.IO.DirectoryNotFoundException", f"Could not find a part of the path {quoted}."),
        ERROR_ACCESS_DENIED: (
            "System.UnauthorizedAccessException",
            f"Access to the path {quoted} is denied." if path else "Access to the path is denied.",
        ),
        ERROR_SHARING_VIOLATION: (
            "System.IO.IOException",
            f"The process cannot access the file {quoted} because it is being used by another process.",
        ),
        ERROR_FILE_EXISTS: ("System.IO.IOException", f"The file {quoted} already exists."),
    }
    kind, message = known.get(
        code, ("System.IO.IOException", _TEXTS.get(code, text or f"Windows error {code}.") + "\r\n")
    )
    return thrown(kind, message, hresult=hresult)


def file_error(problem: FileSystemError, path: str) -> Thrown:
    return win32_error(problem.code, path, str(problem))


def full_path(ps: Any, path: str) -> str:
    if not path.strip():
        raise thrown(
            "System.ArgumentException", "The path is not of a legal form." if path else "Empty path name is not legal."
        )
    if path.startswith("\\\\.\\") or _DEVICE.fullmatch(path):
        return path
    try:
        return str(ps.files.absolute(path))
    except FileSystemError as problem:
        raise thrown("System.NotSupportedException", "The given path's format is not supported.") from problem


# -- open files ------------------------------------------------------------------------------------------------------------------


class FileStream(NetObject):
    """One handle. A file's position is free; a disk is read as .NET's buffer makes it, whole sectors at a time."""

    type_name = "System.IO.FileStream"

    def __init__(self, name: str, access: int, share: int, buffer_size: int) -> None:
        self.name = name
        self.access = access
        self.share = share
        self.buffer_size = max(8, buffer_size)
        self.position = 0
        self.closed = False
        self.process: Any = None
        self.content: Content | None = None
        self.volume: Any = None
        self.below = ""
        self.key: tuple[str, str] = ("", "")
        self.disk: Disk | None = None
        self._buffer = b""
        self._buffer_at = 0
        self.owned_entry = False

    # -- what every member asks first

    def need(self, access: int = 0) -> None:
        if self.closed:
            raise thrown("System.ObjectDisposedException", "Cannot access a closed file.")
        if access and not self.access & access:
            word = "reading" if access == READ else "writing"
            raise thrown("System.NotSupportedException", f"Stream does not support {word}.")

    @property
    def alive(self) -> bool:
        return not self.closed and self.process is not None and self.process.alive

    def length(self, ps: Any) -> int:
        self.need()
        if self.disk is not None:
            if ps.machine.world.assume("powershell-device-length") == "error":
                raise win32_error(ERROR_INVALID_PARAMETER, "")
            return 0
        return self.file().size

    def file(self) -> Content:
        assert self.volume is not None
        try:
            self.content = self.volume.files.open(self.below)
        except FileSystemError as problem:
            raise file_error(problem, self.name) from problem
        assert self.content is not None
        return self.content

    # -- reading

    def read(self, ps: Any, count: int) -> bytes:
        self.need(READ)
        data = self._read_disk(ps, count) if self.disk is not None else self._read_file(count)
        self.position += len(data)
        ps.worked += len(data)
        return data

    def _read_file(self, count: int) -> bytes:
        content = self.file()
        count = min(count, content.size - self.position)
        return content.read_at(self.position, count) if count > 0 else b""

    def _read_disk(self, ps: Any, count: int) -> bytes:
        inside = self.position - self._buffer_at
        left = self._buffer[inside:] if 0 <= inside <= len(self._buffer) else b""
        if not left:
            if count >= self.buffer_size:
                self._buffer = b""
                return self.sectors(ps, self.position, count)
            self._buffer_at, self._buffer = self.position, self.sectors(ps, self.position, self.buffer_size)
            return self._buffer[:count]
        if len(left) >= count:
            return left[:count]
        more = self.sectors(ps, self.position + len(left), count - len(left))
        self._buffer = b""
        return left + more

    def sectors(self, ps: Any, offset: int, count: int) -> bytes:
        """ReadFile of a physical disk: aligned and inside, or error 87."""
        disk = self.disk
        assert disk is not None
        if disk not in ps.machine.disks or (disk.lun is not None and not disk.lun.present):
            raise win32_error(ERROR_DEVICE_NOT_CONNECTED, "")
        sector, size = disk.backing.sector, min(disk.size, disk.content.size)
        bad = disk.lun.bad_sectors if disk.lun is not None else []
        if any(offset < first + length and offset + count > first for first, length in bad):
            raise win32_error(ERROR_CRC, "")
        if offset % sector or count % sector:
            raise thrown("System.ArgumentException", _NOT_SYNCHRONOUS, parameter="_handle")
        if offset + count > size:
            if ps.machine.world.assume("powershell-device-past-end") == "error" or offset > size:
                raise thrown("System.ArgumentException", _NOT_SYNCHRONOUS, parameter="_handle")
            count = size - offset
        return disk.content.read_at(offset, count) if count else b""

    def rest(self, ps: Any) -> Iterator[bytes]:
        """Everything from here to the end, as a reader of 4096 bytes at a time would get it."""
        self.need(READ)
        while True:
            if self.disk is not None:
                size = min(self.disk.size, self.disk.content.size)
                block = self.read(
                    ps, min(BLOCK, size - self.position) if self.position < size else max(4096, self.buffer_size)
                )
            else:
                block = self.read(ps, BLOCK)
            if not block:
                return
            yield block

    # -- writing

    def write(self, ps: Any, data: bytes) -> None:
        self.need(WRITE)
        if self.disk is not None:
            self._write_disk(ps, data)
        else:
            content = self.file()
            try:
                if self.position + len(data) > content.size:
                    content.resize(self.position + len(data))
                if data:
                    content.write_at(self.position, data)
            except FileSystemError as problem:
                raise file_error(problem, self.name) from problem
        self.position += len(data)
        ps.worked += len(data)

    def _write_disk(self, ps: Any, data: bytes) -> None:
        disk = self.disk
        assert disk is not None
        end = self.position + len(data)
        if self.position % disk.backing.sector or len(data) % disk.backing.sector or end > disk.size:
            raise thrown("System.ArgumentException", _NOT_SYNCHRONOUS, parameter="_handle")
        if disk.read_only:
            raise win32_error(ERROR_WRITE_PROTECT, "", "The media is write protected.")
        for volume in ps.machine.volumes_of(disk):
            first, last = volume.partition.offset, volume.partition.offset + volume.partition.size
            if not volume.is_raw and self.position < last and end > first:
                raise win32_error(ERROR_ACCESS_DENIED, "")
        disk.content.write_at(self.position, data)

    def close(self, ps: Any) -> None:
        if not self.closed:
            self.closed = True
            if self.owned_entry:
                ps.machine.processes.open_files.pop(self.key, None)


def _streams(ps: Any) -> list[FileStream]:
    table = ps.machine.processes
    table.open_streams = [stream for stream in table.open_streams if stream.alive]
    found: list[FileStream] = table.open_streams
    return found


def _conflict(ps: Any, stream: FileStream) -> bool:
    for other in _streams(ps):
        if other.key != stream.key:
            continue
        if stream.access & ~other.share & 3 or other.access & ~stream.share & 3:
            return True
    holder = ps.machine.processes.open_files.get(stream.key)
    if holder is not None and not any(other.key == stream.key for other in _streams(ps)):
        return bool(stream.access & WRITE or not stream.share & WRITE)
    return False


def open_stream(
    ps: Any, path: str, mode: Enum | int, access: int = 3, share: int = 1, buffer_size: int = 4096
) -> FileStream:
    """FileStream's constructor; raises Thrown."""
    kind = mode if isinstance(mode, int) else mode.value
    if buffer_size <= 0:
        raise thrown("System.ArgumentOutOfRangeException", "Positive number required.", parameter="bufferSize")
    if kind in (1, 2, 5, 6) and not access & WRITE:
        word = next(name for name, value in OPEN_MODES.members.items() if value == kind)
        raise thrown("System.ArgumentException", f"Combining FileMode: {word} with FileAccess: Read is invalid.")
    path = full_path(ps, path)
    stream = FileStream(path, access, share, buffer_size)
    stream.process = ps.process
    if path.startswith("\\\\.\\") or _DEVICE.fullmatch(path):
        _open_disk(ps, stream, kind)
    else:
        _open_file(ps, stream, kind)
    ps.machine.processes.open_streams.append(stream)
    return stream


def _open_disk(ps: Any, stream: FileStream, mode: int, *, by_path: bool = True) -> None:
    world, path = ps.machine.world, stream.name
    if by_path and world.assume("powershell-device-path") == "refused":
        raise thrown(
            "System.ArgumentException",
            'FileStream will not open Win32 devices such as disk partitions and tape drives. Avoid use of "\\\\.\\" in the path.',
        )
    match = _DEVICE.fullmatch(path)
    if match is None:
        raise thrown("System.IO.IOException", f"The simulator opens no other device than physical disks: '{path}'.")
    disk = ps.machine.disk_by_number(int(match[1]))
    if disk is None or (disk.lun is not None and not disk.lun.present):
        raise win32_error(ERROR_FILE_NOT_FOUND, path)
    if not ps.process.token.is_administrator:
        raise win32_error(ERROR_ACCESS_DENIED, path)
    if mode != 3:
        raise win32_error(ERROR_INVALID_PARAMETER, path)
    if not disk.online and world.assume("powershell-device-offline") == "refused":
        raise win32_error(ERROR_ACCESS_DENIED, path)
    if stream.share & 3 != 3 and world.assume("powershell-device-share") == "both":
        raise win32_error(ERROR_SHARING_VIOLATION, path)
    vm = ps.machine.attached_to_vm(disk)
    if vm is not None and vm.running and world.assume("powershell-device-in-use") == "refused":
        raise win32_error(ERROR_SHARING_VIOLATION, path)
    stream.disk, stream.key = disk, ("device", disk.device_id.upper())
    if _conflict(ps, stream):
        raise win32_error(ERROR_SHARING_VIOLATION, path)


def _open_file(ps: Any, stream: FileStream, mode: int) -> None:
    path, files = stream.name, ps.files
    try:
        volume, below = files.locate(path, write=bool(stream.access & WRITE))
        exists = bool(below) and volume.exists(below)
        if not below or (exists and volume.stat(below).is_directory):
            raise win32_error(ERROR_ACCESS_DENIED, path)
        stream.key, stream.volume, stream.below = volume.key_of(below), volume, below
        _refuse_locked(ps, stream)
        if _conflict(ps, stream):
            raise win32_error(ERROR_SHARING_VIOLATION, path)
        if exists and mode == 1:
            raise win32_error(ERROR_FILE_EXISTS, path)
        if not exists and mode in (3, 5):
            raise win32_error(files.missing(path), path)
        if not exists or mode in (2, 5):
            if stream.access & WRITE and (volume.disk is not None and volume.disk.read_only):
                raise FileSystemError(ERROR_WRITE_PROTECT, path)
            volume.files.create(below, 0)
        if mode == 6:
            stream.position = volume.stat(below).size
    except FileSystemError as problem:
        raise file_error(problem, path) from problem
    if not stream.share & WRITE and stream.key not in ps.machine.processes.open_files:
        ps.machine.processes.open_files[stream.key] = ps.process
        stream.owned_entry = True


def _refuse_locked(ps: Any, stream: FileStream) -> None:
    machine = ps.machine
    if stream.key not in machine.locked_files():
        return
    mounted = next((m for m in machine.mounted_images if _same_file(machine, m.path, stream.key)), None)
    readable = (
        mounted is not None and mounted.read_only and machine.world.assume("powershell-mounted-image-read") == "yes"
    )
    if not readable or stream.access & WRITE:
        raise win32_error(ERROR_SHARING_VIOLATION, stream.name)


def _same_file(machine: Any, path: str, key: tuple[str, str]) -> bool:
    try:
        volume, below = machine.resolve(path)
        return bool(volume.key_of(below) == key)
    except FileSystemError:
        return False


# -- FileStream for scripts ------------------------------------------------------------------------------------------------------

_FS, STRING, INT, LONG = FileStream.type_name, "System.String", "System.Int32", "System.Int64"
_MODE, _ACCESS, _SHARE = "System.IO.FileMode", "System.IO.FileAccess", "System.IO.FileShare"
inherits(_FS, "System.IO.Stream")


@constructor(_FS, STRING, _MODE)
@constructor(_FS, STRING, _MODE, _ACCESS)
@constructor(_FS, STRING, _MODE, _ACCESS, _SHARE)
@constructor(_FS, STRING, _MODE, _ACCESS, _SHARE, INT)
@constructor(_FS, STRING, _MODE, _ACCESS, _SHARE, INT, "System.IO.FileOptions")
@constructor(_FS, STRING, _MODE, _ACCESS, _SHARE, INT, "System.Boolean")
def _new_stream(
    ps: Any,
    path: str,
    mode: Enum,
    access: Enum | None = None,
    share: Enum | None = None,
    size: int = 4096,
    options: Any = None,
) -> FileStream:
    wanted = access.value if access else (WRITE if mode.value == 6 else 3)
    return open_stream(ps, path, mode, wanted, share.value if share else READ, size)


static("System.IO.File", "Open", STRING, _MODE)(lambda ps, p, m: open_stream(ps, p, m, WRITE if m.value == 6 else 3, 0))
static("System.IO.File", "Open", STRING, _MODE, _ACCESS)(lambda ps, p, m, a: open_stream(ps, p, m, a.value, 0))
static("System.IO.File", "Open", STRING, _MODE, _ACCESS, _SHARE)(
    lambda ps, p, m, a, s: open_stream(ps, p, m, a.value, s.value)
)
static("System.IO.File", "OpenRead", STRING)(lambda ps, p: open_stream(ps, p, 3, READ, 1))
static("System.IO.File", "OpenWrite", STRING)(lambda ps, p: open_stream(ps, p, 4, WRITE, 0))
static("System.IO.File", "Create", STRING)(lambda ps, p: open_stream(ps, p, 2, 3, 0))
getter(_FS, "Name")(lambda _p, s: s.name)
getter(_FS, "CanRead")(lambda _p, s: not s.closed and bool(s.access & READ))
getter(_FS, "CanWrite")(lambda _p, s: not s.closed and bool(s.access & WRITE))
getter(_FS, "CanSeek")(lambda _p, s: not s.closed)
getter(_FS, "Length")(lambda ps, s: Int64(s.length(ps)))


@getter(_FS, "Position")
def _position(_ps: Any, stream: FileStream) -> Int64:
    stream.need()
    return Int64(stream.position)


@setter(_FS, "Position")
def _set_position(ps: Any, stream: FileStream, value: Any) -> None:
    place = convert(value, LONG)
    if place < 0:
        raise thrown("System.ArgumentOutOfRangeException", "Non-negative number required.", parameter="value")
    _seek(ps, stream, place, ORIGINS.of(0))


@method(_FS, "Seek", LONG, "System.IO.SeekOrigin")
def _seek(ps: Any, stream: FileStream, offset: int, origin: Enum) -> Int64:
    stream.need()
    base = {0: 0, 1: stream.position}.get(origin.value)
    if base is None:
        base = stream.length(ps)
    place = base + int(offset)
    if place < 0:
        raise thrown(
            "System.IO.IOException",
            "An attempt was made to move the file pointer before the beginning of the file.\r\n",
        )
    stream.position = place
    return Int64(place)


@method(_FS, "Read", "System.Byte[]", INT, INT)
def _read(ps: Any, stream: FileStream, buffer: Array | None, offset: int, count: int) -> int:
    check_range(buffer, offset, count, "array")
    assert buffer is not None
    data = stream.read(ps, count)
    buffer.items[offset : offset + len(data)] = data
    return len(data)


@method(_FS, "ReadByte")
def _read_byte(ps: Any, stream: FileStream) -> int:
    data = stream.read(ps, 1)
    return data[0] if data else -1


@method(_FS, "Write", "System.Byte[]", INT, INT)
def _write(ps: Any, stream: FileStream, buffer: Array | None, offset: int, count: int) -> Any:
    check_range(buffer, offset, count, "array")
    assert buffer is not None
    stream.write(ps, bytes(memoryview(buffer.items)[offset : offset + count]))
    return VOID


@method(_FS, "WriteByte", "System.Byte")
def _write_byte(ps: Any, stream: FileStream, value: int) -> Any:
    stream.write(ps, bytes([int(value)]))
    return VOID


@method(_FS, "SetLength", LONG)
def _set_length(_ps: Any, stream: FileStream, size: int) -> Any:
    stream.need(WRITE)
    if stream.disk is not None:
        raise win32_error(ERROR_INVALID_PARAMETER, "")
    try:
        stream.file().resize(int(size))
    except FileSystemError as problem:
        raise file_error(problem, stream.name) from problem
    return VOID


@method(_FS, "Flush")
@method(_FS, "Flush", "System.Boolean")
def _flush(_ps: Any, stream: FileStream, _to_disk: bool = False) -> Any:
    stream.need()
    return VOID


@method(_FS, "Close")
@method(_FS, "Dispose")
def _close(ps: Any, stream: FileStream) -> Any:
    stream.close(ps)
    return VOID


@method(_FS, "CopyTo", "System.IO.Stream")
@method(_FS, "CopyTo", "System.IO.Stream", INT)
def _copy_to(ps: Any, stream: FileStream, target: FileStream, _size: int = 81920) -> Any:
    for block in stream.rest(ps):
        target.write(ps, block)
    return VOID


class SafeFileHandle(NetObject):
    """What CreateFileW gives: a handle around a stream that is not read through it, or an invalid one."""

    type_name = "Microsoft.Win32.SafeHandles.SafeFileHandle"

    def __init__(self, stream: FileStream | None) -> None:
        self.stream = stream


_HANDLE = SafeFileHandle.type_name
getter(_HANDLE, "IsInvalid")(lambda _p, h: h.stream is None)
getter(_HANDLE, "IsClosed")(lambda _p, h: h.stream is not None and h.stream.closed)
_GENERIC_BITS = {0x80000000: READ, 0x40000000: WRITE}


def create_file(ps: Any, name: str, access: int, share: int, disposition: int, flags: int) -> SafeFileHandle:
    """kernel32's CreateFileW; the last error is kept for Marshal.GetLastWin32Error."""
    wanted = sum(bit for generic, bit in _GENERIC_BITS.items() if access & generic)
    try:
        if disposition not in OPEN_MODES.members.values() or disposition == 6:
            raise win32_error(ERROR_INVALID_PARAMETER, name)
        stream = FileStream(name, wanted, share & 7, 4096)
        stream.process = ps.process
        if name.startswith("\\\\.\\") or _DEVICE.fullmatch(name):
            _open_disk(ps, stream, disposition, by_path=False)
        else:
            stream.name = full_path(ps, name)
            _open_file(ps, stream, disposition)
        ps.machine.processes.open_streams.append(stream)
    except Thrown as problem:
        ps.last_error = problem.value.hresult & 0xFFFF
        return SafeFileHandle(None)
    ps.last_error = 0
    return SafeFileHandle(stream)


@constructor(_FS, _HANDLE, _ACCESS)
@constructor(_FS, _HANDLE, _ACCESS, INT)
@constructor(_FS, _HANDLE, _ACCESS, INT, "System.Boolean")
def _stream_of_handle(
    _ps: Any, handle: SafeFileHandle, access: Enum, size: int = 4096, _async: bool = False
) -> FileStream:
    if handle is None or handle.stream is None:
        raise thrown("System.ArgumentException", "Invalid handle.", parameter="handle")
    if size <= 0:
        raise thrown("System.ArgumentOutOfRangeException", "Positive number required.", parameter="bufferSize")
    if access.value & ~handle.stream.access:
        raise win32_error(ERROR_ACCESS_DENIED, "")
    handle.stream.buffer_size = max(8, size)
    return handle.stream


@method(_HANDLE, "Close")
@method(_HANDLE, "Dispose")
def _close_handle(ps: Any, handle: SafeFileHandle) -> Any:
    if handle.stream is not None:
        handle.stream.close(ps)
    return VOID


static("System.Runtime.InteropServices.Marshal", "GetLastWin32Error")(lambda ps: ps.last_error)


class MemoryStream(NetObject):
    type_name = "System.IO.MemoryStream"

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    def rest(self, _ps: Any) -> Iterator[bytes]:
        data, self.position = self.data[self.position :], len(self.data)
        if data:
            yield data


inherits(MemoryStream.type_name, "System.IO.Stream")
constructor(MemoryStream.type_name, "System.Byte[]")(lambda _p, data: MemoryStream(bytes(data.items)))
method(MemoryStream.type_name, "Dispose")(lambda _p, _s: VOID)
method(MemoryStream.type_name, "Close")(lambda _p, _s: VOID)


__all__ = ["FileStream", "create_file", "open_stream"]
