# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Responsible for strict reading of a world's YAML: types, sizes, slots, unknown keys, each mistake as one sentence.

Not responsible for what the keys mean (world_file.py).
"""

from __future__ import annotations

import re
from typing import Any

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


class WorldError(Exception):
    """A world that cannot be: one sentence with the place, what was found and what was needed."""


class Reader:
    """One mapping of the YAML; what nobody took is an unknown key."""

    def __init__(self, data: object, where: str) -> None:
        if data is None:
            data = {}
        if not isinstance(data, dict):
            raise WorldError(f"{where} must be a mapping, not {data!r}.")
        self._data: dict[str, Any] = dict(data)
        self._taken: list[str] = []
        self.where = where

    def has(self, name: str) -> bool:
        return name in self._data

    def _raw(self, name: str, default: Any) -> Any:
        self._taken.append(name)
        return self._data.get(name, default)

    def text(self, name: str, default: str | None = None, *, choices: tuple[str, ...] = ()) -> str:
        value = self._raw(name, default)
        if value is None:
            raise WorldError(f"{self.where} needs {name}.")
        if not isinstance(value, str):
            raise WorldError(f"{self.where}.{name} must be text, not {value!r}: quote it.")
        if choices and value not in choices:
            raise WorldError(f"{self.where}.{name} is {value!r}; it must be one of {', '.join(choices)}.")
        return value

    def optional(self, name: str) -> str | None:
        return None if self._raw(name, None) is None else self.text(name)

    def number(self, name: str, default: int | None = None) -> int:
        value = self._raw(name, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise WorldError(f"{self.where}.{name} must be a whole number, not {value!r}.")
        return value

    def flag(self, name: str, default: bool = False) -> bool:
        value = self._raw(name, default)
        if not isinstance(value, bool):
            raise WorldError(f"{self.where}.{name} must be true or false, not {value!r}.")
        return value

    def size(self, name: str, default: str | int | None = None) -> int:
        return parse_size(self._raw(name, default), f"{self.where}.{name}")

    def items(self, name: str) -> list[Any]:
        value = self._raw(name, [])
        if value is None:
            return []
        if not isinstance(value, list):
            raise WorldError(f"{self.where}.{name} must be a list, not {value!r}.")
        return value

    def texts(self, name: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
        if name not in self._data:
            self._taken.append(name)
            return default
        values = self._data[name] if isinstance(self._data[name], list) else [self._data[name]]
        self._taken.append(name)
        for value in values:
            if not isinstance(value, str):
                raise WorldError(f"{self.where}.{name} must hold texts, not {value!r}: quote it.")
        return tuple(values)

    def mapping(self, name: str) -> dict[str, Any]:
        value = self._raw(name, {}) or {}
        if not isinstance(value, dict):
            raise WorldError(f"{self.where}.{name} must be a mapping, not {value!r}.")
        return value

    def any(self, name: str, default: Any = None) -> Any:
        return self._raw(name, default)

    def readers(self, name: str) -> list[Reader]:
        return [Reader(entry, f"{self.where}.{name}[{n}]") for n, entry in enumerate(self.items(name))]

    def finish(self) -> None:
        unknown = [key for key in self._data if key not in self._taken]
        if unknown:
            known = ", ".join(sorted(set(self._taken)))
            raise WorldError(f"{self.where} has the unknown key {unknown[0]!r}; known here are {known}.")


def parse_size(value: object, where: str) -> int:
    """Bytes of ``64M``, ``2T`` or a number of bytes."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = re.fullmatch(r"(\d+)\s*([KMGT]?)(i?B)?", value.strip()) if isinstance(value, str) else None
    if match is None:
        raise WorldError(f"{where} must be a size such as 64M or 2T, not {value!r}.")
    return int(match[1]) * _UNITS[match[2]]


def parse_slot(text: object, where: str) -> tuple[str, int, int]:
    match = re.fullmatch(r"(ide|scsi|diskette) (\d+):(\d+)", text) if isinstance(text, str) else None
    if match is None:
        raise WorldError(f"{where} must be a slot such as 'scsi 0:1', not {text!r}.")
    return match[1], int(match[2]), int(match[3])
