# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The registry of one simulated Windows machine: keys, typed values, access, and the text of .reg files.

Not here: the CIM face of it (registry_provider.py) and reg.exe (programs/reg.py).
Names are compared without case and kept as written.
A registry outlives reboots because it belongs to the machine.
Limits are those of the win32 documentation ("Registry Element Size Limits").
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

REG_NONE = 0
REG_SZ = 1
REG_EXPAND_SZ = 2
REG_BINARY = 3
REG_DWORD = 4
REG_MULTI_SZ = 7
REG_QWORD = 11

TYPE_NAMES = {
    REG_NONE: "REG_NONE",
    REG_SZ: "REG_SZ",
    REG_EXPAND_SZ: "REG_EXPAND_SZ",
    REG_BINARY: "REG_BINARY",
    REG_DWORD: "REG_DWORD",
    REG_MULTI_SZ: "REG_MULTI_SZ",
    REG_QWORD: "REG_QWORD",
}

HKEY_CLASSES_ROOT = 0x80000000
HKEY_CURRENT_USER = 0x80000001
HKEY_LOCAL_MACHINE = 0x80000002
HKEY_USERS = 0x80000003
HKEY_CURRENT_CONFIG = 0x80000005

HIVE_NAMES = {
    HKEY_CLASSES_ROOT: "HKEY_CLASSES_ROOT",
    HKEY_CURRENT_USER: "HKEY_CURRENT_USER",
    HKEY_LOCAL_MACHINE: "HKEY_LOCAL_MACHINE",
    HKEY_USERS: "HKEY_USERS",
    HKEY_CURRENT_CONFIG: "HKEY_CURRENT_CONFIG",
}
HIVE_ABBREVIATIONS = {"HKCR": HKEY_CLASSES_ROOT, "HKCU": HKEY_CURRENT_USER, "HKLM": HKEY_LOCAL_MACHINE}
HIVE_ABBREVIATIONS |= {"HKU": HKEY_USERS, "HKCC": HKEY_CURRENT_CONFIG}

MAXIMUM_KEY_NAME = 255
MAXIMUM_VALUE_NAME = 16383
MAXIMUM_VALUE_BYTES = 1024 * 1024
MAXIMUM_DEPTH = 512

ERROR_FILE_NOT_FOUND = 2
ERROR_ACCESS_DENIED = 5
ERROR_INVALID_HANDLE = 6
ERROR_INVALID_PARAMETER = 87
ERROR_NO_SYSTEM_RESOURCES = 1450

RegistryData: TypeAlias = "int | str | bytes | tuple[str, ...]"

REG_FILE_HEAD = "Windows Registry Editor Version 5.00"


class RegistryError(Exception):
    """The registry said no; `code` is the Win32 error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def fold_name(name: str) -> str:
    """Upper-cases one character at a time, as NT does, so that no name changes its length."""
    return "".join(upper if len(upper := letter.upper()) == 1 else letter for letter in name)


@dataclass(frozen=True, kw_only=True)
class RegistryValue:
    """One value; DWORD and QWORD hold an int, SZ kinds a str, MULTI_SZ a tuple, everything else bytes."""

    kind: int
    data: RegistryData

    def raw(self) -> bytes:
        """The bytes that Windows stores, strings with their closing NUL."""
        if isinstance(self.data, bytes):
            return self.data
        if isinstance(self.data, int):
            return self.data.to_bytes(8 if self.kind == REG_QWORD else 4, "little")
        if isinstance(self.data, str):
            return _utf16(self.data + "\0")
        return _utf16("".join(item + "\0" for item in self.data) + "\0")


def value_from_raw(kind: int, raw: bytes) -> RegistryValue:
    """The value of stored bytes; bytes that cannot be what `kind` says stay bytes."""
    if (kind, len(raw)) in {(REG_DWORD, 4), (REG_QWORD, 8)}:
        return RegistryValue(kind=kind, data=int.from_bytes(raw, "little"))
    if kind in {REG_SZ, REG_EXPAND_SZ} and len(raw) % 2 == 0:
        return RegistryValue(kind=kind, data=_from_utf16(raw).rstrip("\0"))
    if kind == REG_MULTI_SZ and len(raw) % 2 == 0:
        text = _from_utf16(raw)
        return RegistryValue(kind=kind, data=tuple(part for part in text.split("\0") if part))
    return RegistryValue(kind=kind, data=raw)


def _utf16(text: str) -> bytes:
    return text.encode("utf-16-le", "surrogatepass")


def _from_utf16(raw: bytes) -> str:
    return raw.decode("utf-16-le", "surrogatepass")


@dataclass
class Key:
    """One key with its values and subkeys, both in the order in which they came."""

    name: str
    values: dict[str, tuple[str, RegistryValue]] = field(default_factory=dict)
    subkeys: dict[str, Key] = field(default_factory=dict)

    def walk(self, path: str) -> Iterator[tuple[str, Key]]:
        yield path, self
        for child in self.subkeys.values():
            yield from child.walk(f"{path}\\{child.name}")


def split_hive(path: str) -> tuple[int, str]:
    """("HKLM\\A\\B") -> (handle, "A\\B"); RegistryError when the root is unknown."""
    root, _unused, rest = path.strip().partition("\\")
    for handle, name in HIVE_NAMES.items():
        if root.upper() == name:
            return handle, rest
    handle_of_short = HIVE_ABBREVIATIONS.get(root.upper())
    if handle_of_short is None:
        raise RegistryError(ERROR_INVALID_HANDLE, f"{root!r} is no root of the registry; it needs one like HKLM.")
    return handle_of_short, rest


class Registry:
    """All hives of one machine. `path` is always below a hive, with backslashes, case-insensitive."""

    def __init__(self) -> None:
        self._hives = {handle: Key(name) for handle, name in HIVE_NAMES.items()}
        classes = self.create_key(HKEY_LOCAL_MACHINE, "SOFTWARE\\Classes")
        self._hives[HKEY_CLASSES_ROOT] = classes  # a view of HKLM\SOFTWARE\Classes, as on Windows

    # -- keys ------------------------------------------------------------------------------------------------------

    def find(self, hive: int, path: str) -> Key | None:
        key = self._hives.get(hive)
        if key is None:
            raise RegistryError(ERROR_INVALID_HANDLE, f"0x{hive:08X} is no hive of the registry.")
        for part in _parts(path):
            key = key.subkeys.get(fold_name(part))
            if key is None:
                return None
        return key

    def open(self, hive: int, path: str) -> Key:
        key = self.find(hive, path)
        if key is None:
            raise RegistryError(ERROR_FILE_NOT_FOUND, f"The registry key {path!r} does not exist.")
        return key

    def create_key(self, hive: int, path: str) -> Key:
        key = self._hives.get(hive)
        if key is None:
            raise RegistryError(ERROR_INVALID_HANDLE, f"0x{hive:08X} is no hive of the registry.")
        parts = _parts(path)
        if len(parts) > MAXIMUM_DEPTH or any(len(part) > MAXIMUM_KEY_NAME or "\0" in part for part in parts):
            raise RegistryError(ERROR_INVALID_PARAMETER, f"The registry key {path[:80]!r} breaks a limit of names.")
        for part in parts:
            key = key.subkeys.setdefault(fold_name(part), Key(part))
        return key

    def delete_key(self, hive: int, path: str, *, tree: bool = False) -> None:
        """Removes a key; one that has subkeys only with `tree`, as RegDeleteKey."""
        parts = _parts(path)
        if not parts:
            raise RegistryError(ERROR_ACCESS_DENIED, "The root of a hive cannot be deleted.")
        parent = self.open(hive, "\\".join(parts[:-1]))
        key = self.open(hive, path)
        if key.subkeys and not tree:
            raise RegistryError(ERROR_ACCESS_DENIED, f"The registry key {path!r} has subkeys.")
        del parent.subkeys[fold_name(parts[-1])]

    # -- values ----------------------------------------------------------------------------------------------------

    def get(self, hive: int, path: str, name: str) -> RegistryValue | None:
        """The value, or None when the (existing) key has no such value."""
        entry = self.open(hive, path).values.get(fold_name(name))
        return entry[1] if entry else None

    def set(self, hive: int, path: str, name: str, value: RegistryValue) -> None:
        key = self.open(hive, path)
        if len(name) > MAXIMUM_VALUE_NAME:
            raise RegistryError(ERROR_INVALID_PARAMETER, "The name of a registry value has at most 16,383 characters.")
        if len(value.raw()) > MAXIMUM_VALUE_BYTES:
            raise RegistryError(ERROR_NO_SYSTEM_RESOURCES, "A registry value of this size is refused.")
        old = key.values.get(fold_name(name))
        key.values[fold_name(name)] = (old[0] if old else name, value)

    def delete_value(self, hive: int, path: str, name: str) -> None:
        key = self.open(hive, path)
        if key.values.pop(fold_name(name), None) is None:
            raise RegistryError(ERROR_FILE_NOT_FOUND, f"The registry value {name!r} does not exist.")

    # -- short forms for the other services of the machine -----------------------------------------------------------

    def text(self, path: str, name: str, default: str = "") -> str:
        """The string below HKLM, or `default`."""
        key = self.find(HKEY_LOCAL_MACHINE, path)
        entry = key.values.get(fold_name(name)) if key else None
        return entry[1].data if entry and isinstance(entry[1].data, str) else default

    def put(self, path: str, values: Mapping[str, int | str | bytes | tuple[str, ...]]) -> None:
        """Creates the key below HKLM (a leading "HKLM\\" is allowed); the kinds of values follow from their types."""
        path = path.removeprefix("HKLM\\")
        self.create_key(HKEY_LOCAL_MACHINE, path)
        for name, data in values.items():
            self.set(HKEY_LOCAL_MACHINE, path, name, RegistryValue(kind=_kind_of(data), data=data))

    # -- .reg files --------------------------------------------------------------------------------------------------

    def export_reg(self, hive: int, path: str) -> str:
        """The text of a .reg file (CRLF; the caller encodes it as UTF-16 with a byte order mark)."""
        start = self.open(hive, path)
        root = HIVE_NAMES[hive] + ("\\" + "\\".join(_parts(path)) if _parts(path) else "")
        lines = [REG_FILE_HEAD, ""]
        for where, key in start.walk(root):
            lines.append(f"[{where}]")
            for name, value in key.values.values():
                lines.extend(_reg_lines(name, value))
            lines.append("")
        return "\r\n".join(lines) + "\r\n"

    def import_reg(self, text: str) -> int:
        """Applies the text of a .reg file; returns how many values and keys were touched."""
        text = text.lstrip("\ufeff")
        head, _unused, body = text.replace("\r\n", "\n").partition("\n")
        if head.strip() not in {REG_FILE_HEAD, "REGEDIT4"}:
            raise RegistryError(ERROR_INVALID_PARAMETER, f"A .reg file opens with {REG_FILE_HEAD!r}, not {head[:40]!r}")
        touched, here = 0, None
        for statement in _reg_statements(body):
            if statement.startswith("["):
                here = self._import_key(statement)
                touched += 1
            elif here is not None:
                self._import_value(here, statement)
                touched += 1
        return touched

    def _import_key(self, statement: str) -> tuple[int, str] | None:
        path = statement[1:].rstrip().removesuffix("]")
        if path.startswith("-"):
            hive, rest = split_hive(path[1:])
            if self.find(hive, rest) is not None:
                self.delete_key(hive, rest, tree=True)
            return None
        hive, rest = split_hive(path)
        self.create_key(hive, rest)
        return hive, rest

    def _import_value(self, here: tuple[int, str], statement: str) -> None:
        if statement.startswith("@"):
            name, rest = "", statement[1:].lstrip()
        else:
            name, end = _quoted(statement, 0)
            rest = statement[end:].lstrip()
        data = rest.removeprefix("=").lstrip()
        if data == "-":
            self.open(*here).values.pop(fold_name(name), None)
            return
        self.set(*here, name, _reg_value(data))


def _parts(path: str) -> list[str]:
    return [part for part in path.split("\\") if part]


def _kind_of(data: int | str | bytes | tuple[str, ...]) -> int:
    if isinstance(data, int):
        return REG_DWORD if 0 <= data < 1 << 32 else REG_QWORD
    if isinstance(data, str):
        return REG_SZ
    return REG_BINARY if isinstance(data, bytes) else REG_MULTI_SZ


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _reg_lines(name: str, value: RegistryValue) -> list[str]:
    left = "@" if name == "" else f'"{_escape(name)}"'
    if value.kind == REG_SZ and isinstance(value.data, str):
        return [f'{left}="{_escape(value.data)}"']
    if value.kind == REG_DWORD and isinstance(value.data, int):
        return [f"{left}=dword:{value.data:08x}"]
    kind = "hex" if value.kind == REG_BINARY else f"hex({value.kind:x})"
    line, lines = f"{left}={kind}:", []
    digits = [f"{byte:02x}" for byte in value.raw()]
    for index, digit in enumerate(digits):
        part = digit + ("," if index < len(digits) - 1 else "")
        if len(line) + len(part) > 77:
            lines.append(line + "\\")
            line = "  "
        line += part
    return [*lines, line]


def _reg_statements(body: str) -> Iterator[str]:
    """Logical lines: strings may span lines, `\\` continues hexadecimal data, `;` opens a comment line."""
    lines = iter(body.split("\n"))
    for line in lines:
        statement = line.strip()
        if not statement or statement.startswith(";"):
            continue
        while statement.endswith("\\") and "=hex" in statement.lower():
            statement = statement[:-1] + next(lines, "").strip()
        while not statement.startswith("[") and _open_quote(statement):
            following = next(lines, None)
            if following is None:
                raise RegistryError(ERROR_INVALID_PARAMETER, "A string of the .reg file is never closed.")
            statement += "\r\n" + following
        yield statement


def _open_quote(statement: str) -> bool:
    inside, index = False, 0
    while index < len(statement):
        if inside and statement[index] == "\\":
            index += 1
        elif statement[index] == '"':
            inside = not inside
        index += 1
    return inside


def _quoted(text: str, start: int) -> tuple[str, int]:
    if not text.startswith('"', start):
        raise RegistryError(ERROR_INVALID_PARAMETER, f"A .reg file needs a quoted name, not {text[:60]!r}.")
    result, index = [], start + 1
    while index < len(text) and text[index] != '"':
        if text[index] == "\\" and index + 1 < len(text):
            index += 1
        result.append(text[index])
        index += 1
    return "".join(result), index + 1


def _reg_value(data: str) -> RegistryValue:
    if data.startswith('"'):
        return RegistryValue(kind=REG_SZ, data=_quoted(data, 0)[0])
    if data.lower().startswith("dword:"):
        return RegistryValue(kind=REG_DWORD, data=int(data[6:].strip(), 16) & 0xFFFFFFFF)
    match = re.fullmatch(r"hex(?:\(([0-9a-fA-F]+)\))?:([0-9a-fA-F,\s]*)", data)
    if match is None:
        raise RegistryError(ERROR_INVALID_PARAMETER, f"A .reg file holds data it cannot mean: {data[:60]!r}.")
    kind = REG_BINARY if match[1] is None else int(match[1], 16)
    return value_from_raw(kind, bytes(int(part, 16) for part in match[2].split(",") if part.strip()))
