# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""System.IO.File, Directory, Path and FileInfo for scripts, on the streams of powershell_streams.py.

Source: .NET documentation; the exception of each Win32 error is powershell_streams.win32_error's.
"""

from __future__ import annotations

import re
from typing import Any

from .file_system import (
    ERROR_ACCESS_DENIED,
    ERROR_FILE_EXISTS,
    ERROR_FILE_NOT_FOUND,
    ERROR_PATH_NOT_FOUND,
    FileSystemError,
)
from .powershell_classes import PLAIN_UTF8, Encoding, decode_marked
from .powershell_dotnet import VOID, constructor, getter, static
from .powershell_streams import READ, WRITE, file_error, full_path, open_stream, win32_error
from .powershell_values import Array, Int64, NetObject, thrown
from .windows_files import Files, join, parent_folder

STRING = "System.String"

# -- System.IO.File ----------------------------------------------------------------------------------------------------------------

_FILE, _ENCODING = "System.IO.File", "System.Text.Encoding"
TEXT_LIMIT = 64 << 20


def read_bytes(ps: Any, path: str, *, limit: int = 2 << 30) -> bytes:
    stream = open_stream(ps, path, 3, READ, READ)
    try:
        size = stream.length(ps)
        if size > limit:
            raise thrown(
                "System.IO.IOException",
                "The file is too long. This operation is currently limited to supporting files less than 2 gigabytes in size.",
            )
        return b"".join(stream.rest(ps))
    finally:
        stream.close(ps)


def write_bytes(ps: Any, path: str, data: bytes, *, append: bool = False) -> None:
    stream = open_stream(ps, path, 6 if append else 2, WRITE, READ)
    try:
        stream.write(ps, data)
    finally:
        stream.close(ps)


def _exists(ps: Any, path: str) -> bool:
    files: Files = ps.files
    try:
        return bool(path.strip()) and files.exists(path) and not files.is_folder(path)
    except FileSystemError:
        return False


static(_FILE, "Exists", STRING)(_exists)
static(_FILE, "ReadAllBytes", STRING)(lambda ps, p: Array(read_bytes(ps, p), "System.Byte"))
static(_FILE, "ReadAllText", STRING)(lambda ps, p: decode_marked(read_bytes(ps, p, limit=TEXT_LIMIT), PLAIN_UTF8))
static(_FILE, "ReadAllText", STRING, _ENCODING)(lambda ps, p, e: decode_marked(read_bytes(ps, p, limit=TEXT_LIMIT), e))


def _lines(text: str) -> Array:
    found = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return Array(found[:-1] if found[-1] == "" else found, STRING)


static(_FILE, "ReadAllLines", STRING)(
    lambda ps, p: _lines(decode_marked(read_bytes(ps, p, limit=TEXT_LIMIT), PLAIN_UTF8))
)


@static(_FILE, "WriteAllText", STRING, STRING)
@static(_FILE, "WriteAllText", STRING, STRING, _ENCODING)
def _write_text(ps: Any, path: str, text: str, encoding: Encoding = PLAIN_UTF8) -> Any:
    write_bytes(ps, path, encoding.mark + encoding.encode(text))
    return VOID


@static(_FILE, "AppendAllText", STRING, STRING)
@static(_FILE, "AppendAllText", STRING, STRING, _ENCODING)
def _append_text(ps: Any, path: str, text: str, encoding: Encoding = PLAIN_UTF8) -> Any:
    mark = b"" if _exists(ps, path) else encoding.mark
    write_bytes(ps, path, mark + encoding.encode(text), append=True)
    return VOID


@static(_FILE, "WriteAllLines", STRING, "System.String[]")
def _write_lines(ps: Any, path: str, lines: Array) -> Any:
    write_bytes(ps, path, "".join(f"{one}\r\n" for one in lines).encode())
    return VOID


@static(_FILE, "WriteAllBytes", STRING, "System.Byte[]")
def _write_all(ps: Any, path: str, data: Array) -> Any:
    write_bytes(ps, path, bytes(data.items))
    return VOID


def delete_file(ps: Any, path: str) -> None:
    path = full_path(ps, path)
    files: Files = ps.files
    try:
        if files.is_folder(path):
            raise win32_error(ERROR_ACCESS_DENIED, path)
        if files.exists(path):
            files.delete(path)
        elif files.missing(path) == ERROR_PATH_NOT_FOUND:
            raise win32_error(ERROR_PATH_NOT_FOUND, path)
    except FileSystemError as problem:
        raise file_error(problem, path) from problem


def move_file(ps: Any, path: str, new: str) -> None:
    path, new = full_path(ps, path), full_path(ps, new)
    files: Files = ps.files
    try:
        if not files.exists(path):
            raise win32_error(ERROR_FILE_NOT_FOUND, path)
        if files.exists(new) and files.absolute(path).lower() != files.absolute(new).lower():
            raise win32_error(183, new, "Cannot create a file when that file already exists.")
        if not files.is_folder(parent_folder(new) + "\\"):
            raise thrown(
                "System.IO.DirectoryNotFoundException", "Could not find a part of the path.", hresult=-2147024893
            )
        files.rename(path, new)
    except FileSystemError as problem:
        raise file_error(problem, path) from problem


@static(_FILE, "Delete", STRING)
def _delete(ps: Any, path: str) -> Any:
    delete_file(ps, path)
    return VOID


@static(_FILE, "Move", STRING, STRING)
def _move(ps: Any, path: str, new: str) -> Any:
    move_file(ps, path, new)
    return VOID


@static(_FILE, "Copy", STRING, STRING)
@static(_FILE, "Copy", STRING, STRING, "System.Boolean")
def _copy(ps: Any, path: str, new: str, overwrite: bool = False) -> Any:
    data = read_bytes(ps, path)
    if not overwrite and _exists(ps, new):
        raise win32_error(ERROR_FILE_EXISTS, full_path(ps, new))
    write_bytes(ps, new, data)
    return VOID


@static(_FILE, "Replace", STRING, STRING, STRING)
def _replace(ps: Any, path: str, new: str, backup: str) -> Any:
    if not _exists(ps, path) or not _exists(ps, new):
        raise win32_error(ERROR_FILE_NOT_FOUND, full_path(ps, path if not _exists(ps, path) else new))
    if backup:
        _copy(ps, new, backup, True)
    delete_file(ps, new)
    move_file(ps, path, new)
    return VOID


# -- folders and paths ---------------------------------------------------------------------------------------------------------------

_PATH, _DIRECTORY = "System.IO.Path", "System.IO.Directory"
static(_PATH, "Combine", STRING, STRING)(
    lambda _p, one, two: two if re.match(r"\\|[A-Za-z]:", two) else join(one, two) if one else two
)
static(_PATH, "GetFileName", STRING)(lambda _p, path: re.split(r"[\\/]", path)[-1])
static(_PATH, "GetDirectoryName", STRING)(lambda _p, path: parent_folder(path.replace("/", "\\")))
static(_PATH, "GetExtension", STRING)(
    lambda _p, path: "." + path.rpartition(".")[2] if "." in re.split(r"[\\/]", path)[-1] else ""
)
static(_PATH, "GetFileNameWithoutExtension", STRING)(
    lambda _p, path: re.sub(r"\.[^.]*$", "", re.split(r"[\\/]", path)[-1])
)
static(_PATH, "GetTempPath")(lambda ps: (ps.process.environment.get("TEMP") or "C:\\Windows\\TEMP") + "\\")
static(_PATH, "GetFullPath", STRING)(full_path)
static(_DIRECTORY, "Exists", STRING)(lambda ps, path: bool(path.strip()) and ps.files.is_folder(path))


@static(_DIRECTORY, "CreateDirectory", STRING)
def _create_directory(ps: Any, path: str) -> FileInfo:
    try:
        if not ps.files.is_folder(path):
            ps.files.mkdir(path)
    except FileSystemError as problem:
        raise file_error(problem, path) from problem
    return FileInfo(full_path(ps, path))


class FileInfo(NetObject):
    type_name = "System.IO.FileInfo"

    def __init__(self, path: str) -> None:
        self.path = path

    def text_form(self) -> str:
        return self.path


_INFO = FileInfo.type_name
constructor(_INFO, STRING)(lambda ps, path: FileInfo(full_path(ps, path)))


@getter(_INFO, "Length")
def _info_length(ps: Any, info: FileInfo) -> Int64:
    try:
        return Int64(ps.files.stat(info.path).size)
    except FileSystemError as problem:
        raise file_error(problem, info.path) from problem


getter(_INFO, "Exists")(lambda ps, info: _exists(ps, info.path))
getter(_INFO, "FullName")(lambda _p, info: info.path)
getter(_INFO, "Name")(lambda _p, info: info.path.rpartition("\\")[2])
getter(_INFO, "DirectoryName")(lambda _p, info: parent_folder(info.path))
getter(_INFO, "PSIsContainer")(lambda ps, info: ps.files.is_folder(info.path))
getter(_INFO, "LastWriteTimeUtc")(lambda ps, info: ps.files.stat(info.path).modified)

__all__ = ["FileInfo", "delete_file", "move_file", "read_bytes", "write_bytes"]
