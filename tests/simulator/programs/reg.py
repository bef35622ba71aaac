# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""reg.exe: query, add, delete, export, import. Exit code 0 or 1 (windows-commands, reg). Texts are English."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..file_system import FileSystemError
from ..processes import Process, Program, split_command_line
from ..registry import (
    HIVE_NAMES,
    REG_BINARY,
    REG_DWORD,
    REG_EXPAND_SZ,
    REG_MULTI_SZ,
    REG_QWORD,
    REG_SZ,
    TYPE_NAMES,
    Key,
    RegistryError,
    RegistryValue,
    split_hive,
)
from ..registry_provider import may
from ..service import Caller
from ..windows_files import Files

_DONE = "The operation completed successfully."
_MISSING = "ERROR: The system was unable to find the specified registry key or value."
_SYNTAX = 'ERROR: Invalid syntax.\nType "REG {} /?" for usage.'
_DENIED = "ERROR: Access is denied."


def main(machine: Any, process: Process) -> Program:
    yield from ()
    words = split_command_line(process.command_line)[1:]
    command = words[0].lower() if words else ""
    action = _ACTIONS.get(command)
    if action is None or len(words) < 2:
        process.err(_SYNTAX.format(command.upper()).replace("  ", " "))
        return 1
    try:
        return action(machine, process, words[1:])
    except RegistryError as error:
        process.err(_DENIED if error.code == 5 else _MISSING)
    except FileSystemError as problem:
        process.err(f"ERROR: {problem}")
    except (ValueError, IndexError):
        process.err(_SYNTAX.format(command.upper()))
    return 1


def _options(words: list[str], *, with_value: str) -> dict[str, str]:
    options: dict[str, str] = {}
    rest = iter(words)
    for word in rest:
        name = word.lower()
        if not name.startswith("/"):
            raise ValueError(word)
        options[name] = next(rest, "") if name[1:] in with_value.split() else ""
    return options


def _check(process: Process, path: str, *, write: bool) -> tuple[int, str]:
    hive, below = split_hive(path)
    who = Caller(account=process.token.account, groups=process.token.groups)
    if not may(who, hive, below, write=write):
        raise RegistryError(5, "Access is denied.")
    return hive, below


def _shown(value: RegistryValue) -> str:
    if isinstance(value.data, bytes):
        return value.data.hex().upper()
    if isinstance(value.data, tuple):
        return "\\0".join(value.data)
    return f"0x{value.data:x}" if isinstance(value.data, int) else value.data


def _query(machine: Any, process: Process, words: list[str]) -> int:
    hive, below = _check(process, words[0], write=False)
    options = _options(words[1:], with_value="v f t se")
    key: Key = machine.registry.open(hive, below)
    root = HIVE_NAMES[hive] + ("\\" + below.strip("\\") if below.strip("\\") else "")
    if "/v" in options or "/ve" in options:
        name = options.get("/v", "")
        value = machine.registry.get(hive, below, name)
        if value is None:
            raise RegistryError(2, "not found")
        process.out(f"\n{root}\n    {name or '(Default)'}    {TYPE_NAMES.get(value.kind)}    {_shown(value)}\n")
        return 0
    process.out("")
    for path, entry in key.walk(root) if "/s" in options else [(root, key)]:
        if entry.values:
            process.out(path)
            for name, value in entry.values.values():
                process.out(f"    {name or '(Default)'}    {TYPE_NAMES.get(value.kind)}    {_shown(value)}")
            process.out("")
    if "/s" not in options:
        for child in key.subkeys.values():
            process.out(f"{root}\\{child.name}")
    return 0


_READERS: dict[str, tuple[int, Callable[[str, str], Any]]] = {
    "REG_SZ": (REG_SZ, lambda text, separator: text),
    "REG_EXPAND_SZ": (REG_EXPAND_SZ, lambda text, separator: text),
    "REG_DWORD": (REG_DWORD, lambda text, separator: int(text, 0) & 0xFFFFFFFF),
    "REG_QWORD": (REG_QWORD, lambda text, separator: int(text, 0)),
    "REG_BINARY": (REG_BINARY, lambda text, separator: bytes.fromhex(text)),
    "REG_MULTI_SZ": (REG_MULTI_SZ, lambda text, separator: tuple(part for part in text.split(separator) if part)),
}


def _add(machine: Any, process: Process, words: list[str]) -> int:
    hive, below = _check(process, words[0], write=True)
    options = _options(words[1:], with_value="v t d s")
    machine.registry.create_key(hive, below)
    if "/v" in options or "/ve" in options:
        kind, read = _READERS[options.get("/t", "REG_SZ").upper()]
        data = read(options.get("/d", "0" if kind in {REG_DWORD, REG_QWORD} else ""), options.get("/s") or "\\0")
        name = options.get("/v", "")
        if "/f" not in options and machine.registry.get(hive, below, name) is not None:
            process.out(f"Value {name} exists, overwrite(Yes/No)? ")
            return 1
        machine.registry.set(hive, below, name, RegistryValue(kind=kind, data=data))
    process.out(_DONE)
    return 0


def _delete(machine: Any, process: Process, words: list[str]) -> int:
    hive, below = _check(process, words[0], write=True)
    options = _options(words[1:], with_value="v")
    if "/f" not in options:
        process.out(f"Permanently delete the registry key {words[0]} (Yes/No)? ")
        return 1
    if "/v" in options:
        machine.registry.delete_value(hive, below, options["/v"])
    elif "/va" in options:
        machine.registry.open(hive, below).values.clear()
    else:
        machine.registry.delete_key(hive, below, tree=True)
    process.out(_DONE)
    return 0


def _export(machine: Any, process: Process, words: list[str]) -> int:
    hive, below = _check(process, words[0], write=False)
    options = _options(words[2:], with_value="")
    files = Files(machine, process.token, process.directory)
    if "/y" not in options and files.exists(words[1]):
        process.out(f"File {words[1]} already exists. Overwrite (Yes/No)? ")
        return 1
    text = machine.registry.export_reg(hive, below)
    files.write(words[1], b"\xff\xfe" + text.encode("utf-16-le", "surrogatepass"))
    process.out(_DONE)
    return 0


def _import(machine: Any, process: Process, words: list[str]) -> int:
    data = Files(machine, process.token, process.directory).read(words[0])
    text = data.decode("utf-16" if data.startswith(b"\xff\xfe") else "cp1252", "replace")
    if not process.token.is_administrator:
        raise RegistryError(5, "Access is denied.")
    machine.registry.import_reg(text)
    process.err(_DONE)  # reg import writes its success to standard error
    return 0


_ACTIONS: dict[str, Callable[[Any, Process, list[str]], int]] = {
    "add": _add,
    "delete": _delete,
    "export": _export,
    "import": _import,
    "query": _query,
}
