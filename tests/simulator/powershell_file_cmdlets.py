# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cmdlets on files and folders: contents, items, paths, hashes of files, in the encodings of 5.1.

Source: the cmdlet reference (MicrosoftDocs/PowerShell-Docs, 5.1).
"""

from __future__ import annotations

import hashlib
from typing import Any

from .file_system import FileSystemError
from .powershell_classes import ANSI, ASCII, UNICODE, UTF8, Encoding, decode_marked
from .powershell_cmdlets import cmdlet, given_to
from .powershell_commands import Call
from .powershell_files import FileInfo, delete_file, move_file, read_bytes, write_bytes
from .powershell_output import lines_of
from .powershell_scopes import Emit
from .powershell_streams import open_stream
from .powershell_values import (
    Array,
    CustomObject,
    Thrown,
    convert,
    exception,
    runtime_error,
    to_integer,
    to_text,
)
from .windows_files import join, parent_folder

# -- files -----------------------------------------------------------------------------------------------------------------

_ENCODINGS: dict[str, Encoding] = {
    "utf8": UTF8,
    "unicode": UNICODE,
    "ascii": ASCII,
    "default": ANSI,
    "oem": Encoding("cp437", b"", "OEM United States"),
    "string": UNICODE,
}
_LITERAL = (("LiteralPath", "Path"), ("PSPath", "Path"), ("FilePath", "Path"))


def _encoding(call: Call, otherwise: Encoding) -> Encoding:
    if not call.has("Encoding"):
        return otherwise
    name = to_text(call.get("Encoding")).lower()
    if name not in _ENCODINGS:
        raise runtime_error(
            "CannotConvertArgumentNoMessage",
            f"Cannot bind parameter 'Encoding'. Unable to match the identifier name {name} to a valid enumerator name.",
            category="InvalidArgument",
        )
    return _ENCODINGS[name]


def _one_path(call: Call) -> str:
    return to_text(call.get("Path"))


def _file_problem(ps: Any, call: Call, problem: Thrown, identifier: str = "") -> None:
    short = problem.value.kind.rpartition(".")[2]
    categories = {
        "UnauthorizedAccessException": "PermissionDenied",
        "FileNotFoundException": "ObjectNotFound",
        "DirectoryNotFoundException": "ObjectNotFound",
    }
    call.error(
        ps,
        problem.value,
        identifier or f"{short},Microsoft.PowerShell.Commands.{call.cmdlet.name.replace('-', '')}Command",
        categories.get(short, "WriteError"),
    )


def _not_found(ps: Any, call: Call, path: str) -> None:
    problem = exception(
        "System.Management.Automation.ItemNotFoundException", f"Cannot find path '{path}' because it does not exist."
    )
    call.error(
        ps,
        problem,
        f"PathNotFound,Microsoft.PowerShell.Commands.{call.cmdlet.name.replace('-', '')}Command",
        "ObjectNotFound",
        path,
    )


@cmdlet("Test-Path", "Path", named=("PathType",), other_names=_LITERAL)
def test_path(ps: Any, call: Call, given: list[Any] | None, emit: Emit) -> None:
    for one in given_to(call, "Path", given):
        path = to_text(one)
        kind = to_text(call.get("PathType", "Any")).lower()
        try:
            exists = ps.files.exists(path)
            folder = exists and ps.files.is_folder(path)
        except FileSystemError:
            exists = folder = False
        emit(bool(exists and (kind == "any" or folder == (kind == "container"))))


@cmdlet(
    "Set-Content",
    "Path",
    "Value",
    named=("Encoding",),
    switches=("Force", "NoNewline"),
    other_names=_LITERAL,
    aliases=("sc",),
)
def set_content(ps: Any, call: Call, given: list[Any] | None, _emit: Emit) -> None:
    _put(ps, call, given_to(call, "Value", given), append=False)


@cmdlet(
    "Add-Content",
    "Path",
    "Value",
    named=("Encoding",),
    switches=("Force", "NoNewline"),
    other_names=_LITERAL,
    aliases=("ac",),
)
def add_content(ps: Any, call: Call, given: list[Any] | None, _emit: Emit) -> None:
    _put(ps, call, given_to(call, "Value", given), append=True)


def _put(ps: Any, call: Call, values: list[Any], *, append: bool) -> None:
    if to_text(call.get("Encoding", "")).lower() == "byte":
        data = bytes(int(to_integer(one, "System.Byte")) for one in values)
    else:
        encoding = _encoding(call, ANSI)
        text = "".join(to_text(one) + ("" if call.on("NoNewline") else "\r\n") for one in values)
        fresh = not append or not ps.files.exists(_one_path(call))
        data = (encoding.mark if fresh else b"") + encoding.encode(text)
    try:
        write_bytes(ps, _one_path(call), data, append=append)
    except Thrown as problem:
        _file_problem(
            ps,
            call,
            problem,
            "GetContentWriterDirectoryNotFoundError,Microsoft.PowerShell.Commands.SetContentCommand"
            if "Directory" in problem.value.kind
            else "",
        )


@cmdlet(
    "Out-File", "Path", "Encoding", named=("InputObject", "Width"), switches=("Append", "Force", "NoClobber", "NoNewline"),
    other_names=_LITERAL,
)  # fmt: skip
def out_file(ps: Any, call: Call, given: list[Any] | None, _emit: Emit) -> None:
    encoding = _encoding(call, UNICODE)
    lines = [line for one in given_to(call, "InputObject", given) for line in lines_of(ps, one)]
    text = "".join(line + ("" if call.on("NoNewline") else "\r\n") for line in lines)
    exists = ps.files.exists(_one_path(call))
    if exists and call.on("NoClobber"):
        call.error(
            ps,
            exception("System.IO.IOException", f"The file '{_one_path(call)}' already exists."),
            "NoClobber,Microsoft.PowerShell.Commands.OutFileCommand",
            "ResourceExists",
        )
        return
    append = call.on("Append")
    try:
        write_bytes(
            ps, _one_path(call), (b"" if append and exists else encoding.mark) + encoding.encode(text), append=append
        )
    except Thrown as problem:
        _file_problem(ps, call, problem, "FileOpenFailure,Microsoft.PowerShell.Commands.OutFileCommand")


@cmdlet(
    "Get-Content",
    "Path",
    named=("Encoding", "TotalCount", "Tail"),
    switches=("Raw", "Force"),
    other_names=_LITERAL,
    aliases=("cat", "gc", "type"),
)
def get_content(ps: Any, call: Call, given: list[Any] | None, emit: Emit) -> None:
    for one in given_to(call, "Path", given):
        path = to_text(one)
        if not ps.files.exists(path):
            _not_found(ps, call, ps.files.absolute(path))
            continue
        try:
            data = read_bytes(ps, path, limit=64 << 20)
        except Thrown as problem:
            _file_problem(ps, call, problem, "GetContentReaderIOError,Microsoft.PowerShell.Commands.GetContentCommand")
            continue
        if to_text(call.get("Encoding", "")).lower() == "byte":
            for number in (
                convert(Array(data, "System.Byte"), "System.Object[]")
                if not call.on("Raw")
                else [Array(data, "System.Byte")]
            ):
                emit(number)
            continue
        text = decode_marked(data, _encoding(call, ANSI))
        if call.on("Raw"):
            emit(text)
            continue
        lines = text.replace("\r\n", "\n").split("\n")
        lines = lines[:-1] if lines[-1] == "" else lines
        if call.has("TotalCount"):
            lines = lines[: int(to_integer(call.get("TotalCount"), "System.Int32"))]
        for line in lines:
            emit(line)


@cmdlet(
    "Remove-Item",
    "Path",
    switches=("Force", "Recurse"),
    named=("Confirm",),
    other_names=_LITERAL,
    aliases=("del", "rm", "erase", "rd", "ri"),
)
def remove_item(ps: Any, call: Call, given: list[Any] | None, _emit: Emit) -> None:
    for one in given_to(call, "Path", given):
        path = ps.files.absolute(to_text(one))
        found = ps.files.matching(path) if "*" in path else [path]
        for item in found:
            try:
                if not ps.files.exists(item):
                    _not_found(ps, call, item)
                elif ps.files.is_folder(item):
                    ps.files.delete(item, recursive=call.on("Recurse"))
                else:
                    delete_file(ps, item)
            except Thrown as problem:
                _file_problem(
                    ps, call, problem, "RemoveFileSystemItemIOError,Microsoft.PowerShell.Commands.RemoveItemCommand"
                )
            except FileSystemError as problem:
                call.error(
                    ps,
                    exception("System.IO.IOException", str(problem)),
                    "RemoveFileSystemItemIOError,Microsoft.PowerShell.Commands.RemoveItemCommand",
                    "WriteError",
                    item,
                )


def _moved(ps: Any, call: Call, source: str, target: str) -> None:
    if not ps.files.exists(source):
        _not_found(ps, call, source)
        return
    try:
        if (
            ps.files.exists(target)
            and call.on("Force")
            and call.cmdlet.name == "Move-Item"
            and not ps.files.is_folder(target)
        ):
            delete_file(ps, target)
        move_file(ps, source, target)
    except Thrown as problem:
        _file_problem(
            ps,
            call,
            problem,
            f"MoveFileInfoItemIOError,Microsoft.PowerShell.Commands.{call.cmdlet.name.replace('-', '')}Command",
        )


@cmdlet("Move-Item", "Path", "Destination", switches=("Force",), other_names=_LITERAL, aliases=("mv", "move", "mi"))
def move_item(ps: Any, call: Call, _given: Any, _emit: Emit) -> None:
    source, target = (ps.files.absolute(to_text(call.get(name))) for name in ("Path", "Destination"))
    if ps.files.is_folder(target):
        target = join(target, source.rpartition("\\")[2])
    _moved(ps, call, source, target)


@cmdlet("Rename-Item", "Path", "NewName", switches=("Force",), other_names=_LITERAL, aliases=("ren", "rni"))
def rename_item(ps: Any, call: Call, _given: Any, _emit: Emit) -> None:
    source = ps.files.absolute(to_text(call.get("Path")))
    name = to_text(call.get("NewName"))
    target = ps.files.absolute(name) if "\\" in name else join(parent_folder(source), name)
    if parent_folder(target).lower() != parent_folder(source).lower():
        raise runtime_error(
            "Argument",
            "Cannot rename the specified target, because it represents a path or device name.",
            category="InvalidArgument",
        )
    _moved(ps, call, source, target)


@cmdlet(
    "Copy-Item",
    "Path",
    "Destination",
    switches=("Force", "Recurse"),
    other_names=_LITERAL,
    aliases=("copy", "cp", "cpi"),
)
def copy_item(ps: Any, call: Call, _given: Any, _emit: Emit) -> None:
    source, target = (ps.files.absolute(to_text(call.get(name))) for name in ("Path", "Destination"))
    if not ps.files.exists(source):
        _not_found(ps, call, source)
        return
    if ps.files.is_folder(target):
        target = join(target, source.rpartition("\\")[2])
    try:
        write_bytes(ps, target, read_bytes(ps, source))
    except Thrown as problem:
        _file_problem(ps, call, problem)


@cmdlet(
    "New-Item",
    "Path",
    named=("ItemType", "Value", "Name"),
    switches=("Force",),
    other_names=(("Type", "ItemType"),),
    aliases=("ni",),
)
def new_item(ps: Any, call: Call, _given: Any, emit: Emit) -> None:
    path = ps.files.absolute(_one_path(call))
    if call.has("Name"):
        path = join(path, to_text(call.get("Name")))
    folder = to_text(call.get("ItemType", "File")).lower() in ("directory", "container")
    if ps.files.exists(path) and not call.on("Force"):
        text = (
            f"An item with the specified name {path} already exists."
            if folder
            else f"The file '{path}' already exists."
        )
        call.error(
            ps,
            exception("System.IO.IOException", text),
            "NewItemIOError,Microsoft.PowerShell.Commands.NewItemCommand",
            "ResourceExists",
            path,
        )
        return
    try:
        if folder:
            if not ps.files.is_folder(path):
                ps.files.mkdir(path)
        else:
            write_bytes(ps, path, to_text(call.get("Value", "")).encode())
    except (Thrown, FileSystemError) as problem:
        value = problem.value if isinstance(problem, Thrown) else exception("System.IO.IOException", str(problem))
        call.error(ps, value, "NewItemIOError,Microsoft.PowerShell.Commands.NewItemCommand", "WriteError", path)
        return
    emit(FileInfo(path))


@cmdlet("Get-Item", "Path", switches=("Force",), other_names=_LITERAL, aliases=("gi",))
def get_item(ps: Any, call: Call, given: list[Any] | None, emit: Emit) -> None:
    for one in given_to(call, "Path", given):
        path = ps.files.absolute(to_text(one))
        if ps.files.exists(path):
            emit(FileInfo(path))
        else:
            _not_found(ps, call, path)


@cmdlet(
    "Get-ChildItem",
    "Path",
    "Filter",
    switches=("Force", "File", "Directory"),
    other_names=_LITERAL,
    aliases=("dir", "ls", "gci"),
)
def get_child_item(ps: Any, call: Call, _given: Any, emit: Emit) -> None:
    path = ps.files.absolute(to_text(call.get("Path", ".")))
    if not ps.files.exists(path):
        _not_found(ps, call, path)
        return
    pattern = join(path, to_text(call.get("Filter", "*"))) if ps.files.is_folder(path) else path
    for one in ps.files.matching(pattern):
        folder = ps.files.is_folder(one)
        if (call.on("File") and folder) or (call.on("Directory") and not folder):
            continue
        emit(FileInfo(one))


@cmdlet("Join-Path", "Path", "ChildPath")
def join_path(_ps: Any, call: Call, _given: Any, emit: Emit) -> None:
    emit(join(to_text(call.get("Path")), to_text(call.get("ChildPath")).lstrip("\\")))


@cmdlet("Split-Path", "Path", switches=("Parent", "Leaf"))
def split_path(_ps: Any, call: Call, _given: Any, emit: Emit) -> None:
    path = to_text(call.get("Path"))
    emit(path.rstrip("\\").rpartition("\\")[2] if call.on("Leaf") else parent_folder(path))


@cmdlet("Get-FileHash", "Path", named=("Algorithm", "InputStream"), other_names=_LITERAL)
def get_file_hash(ps: Any, call: Call, given: list[Any] | None, emit: Emit) -> None:
    algorithm = to_text(call.get("Algorithm", "SHA256")).upper()
    if algorithm.lower() not in ("sha1", "sha256", "sha384", "sha512", "md5"):
        raise runtime_error(
            "ParameterArgumentValidationError",
            f"Cannot validate argument on parameter 'Algorithm'. The argument \"{algorithm}\" does not belong to the set.",
            category="InvalidData",
        )
    for one in given_to(call, "Path", given):
        path = ps.files.absolute(to_text(one))
        if not ps.files.exists(path):
            _not_found(ps, call, path)
            continue
        state = hashlib.new(algorithm.lower(), usedforsecurity=False)
        try:
            stream = open_stream(ps, path, 3, 1, 1)
            for block in stream.rest(ps):
                state.update(block)
            stream.close(ps)
        except Thrown as problem:
            call.error(ps, problem.value, "FileReadError,Get-FileHash", "ReadError", path)
            continue
        emit(CustomObject([("Algorithm", algorithm), ("Hash", state.hexdigest().upper()), ("Path", path)]))
