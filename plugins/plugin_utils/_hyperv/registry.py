# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""The registry of a Windows machine through StdRegProv: no shell, one call per value, each write atomic.

A `Registry` works below one base key, so that nothing else can be touched by it. A name means a value; `key` a path of
subkeys below the base, with backslashes, "" for the base itself.

Not here: what is kept there (`_backup`), the remote registry service (this is CIM).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .._wsman import CimPath, MethodResult, NotFound, Value
from .cim_access import CimClient, invoke_checked
from .errors import HypervError
from .schema import CIMV2

HIVES: Mapping[str, int] = {
    "HKEY_CLASSES_ROOT": 0x80000000,
    "HKEY_CURRENT_USER": 0x80000001,
    "HKEY_LOCAL_MACHINE": 0x80000002,
    "HKEY_USERS": 0x80000003,
}
# documentation of StdRegProv: type numbers of EnumValues
VALUE_TYPES: Mapping[int, str] = {
    1: "REG_SZ",
    2: "REG_EXPAND_SZ",
    3: "REG_BINARY",
    4: "REG_DWORD",
    7: "REG_MULTI_SZ",
    11: "REG_QWORD",
}
# A request must fit into WinRM's envelope of 500 KB, where every character may become an entity or two bytes.
MAX_STRING_CHARS = 150_000
MAX_KEY_DEPTH = 32

_PROVIDER = CimPath(CIMV2, "StdRegProv")
_NO_VALUE = 1  # what StdRegProv answers for a value that is not there on some versions (assumption)
_NOT_FOUND = 2
_ALREADY_DELETED = 1018
# winerror.h; StdRegProv returns Win32 error codes
_CODES: Mapping[int, str] = {
    1: "invalid function",
    2: "key or value not found",
    5: "access denied",
    6: "invalid handle",
    13: "the value has another type",
    19: "write protected",
    87: "invalid parameter",
    234: "more data",
    1010: "configuration registry key is invalid",
    1018: "key is marked for deletion",
    1020: "the key has subkeys",
    1450: "insufficient system resources",
    0x80041002: "not found",
    0x80041003: "access denied",
    0x80041005: "the value has another type",
    0x80041008: "invalid parameter",
}


@dataclass(frozen=True, kw_only=True)
class RegistryValue:
    name: str
    type: str


class Registry:
    r"""Values and keys below one base key.

    Args:
        client: a WS-Management client.
        base: path below the hive, for example `SOFTWARE\hyperv.passthrough`.
        hive: one of `HIVES`.
    """

    def __init__(self, client: CimClient, base: str, *, hive: str = "HKEY_LOCAL_MACHINE") -> None:
        self._client = client
        self._hive = HIVES[hive]
        self._hive_name = hive
        self._base = base.strip("\\")
        if not self._base:
            raise ValueError("a registry base key must not be a whole hive")

    def path(self, key: str = "") -> str:
        r"""The whole path as people write it: `HKEY_LOCAL_MACHINE\SOFTWARE\..`."""
        return f"{self._hive_name}\\{self._sub_key(key)}"

    def _sub_key(self, key: str) -> str:
        bare = key.strip("\\")
        if bare.count("\\") > MAX_KEY_DEPTH:
            raise HypervError("registry_key_too_deep", f"The registry key {key!r} is nested too deeply; shorten it.")
        return f"{self._base}\\{bare}" if bare else self._base

    def _call(
        self, what: str, method: str, key: str, arguments: Mapping[str, Value], *, accept: tuple[int, ...] = (0,)
    ) -> MethodResult:
        return invoke_checked(
            self._client,
            _PROVIDER,
            method,
            {"hDefKey": self._hive, "sSubKeyName": self._sub_key(key), **arguments},
            what=f"{what} {self.path(key)}",
            codes=_CODES,
            accept=accept,
        )

    def _get(self, method: str, output: str, key: str, name: str) -> Value:
        """The value, None when key or value is missing; some providers say so by a fault instead of a code."""
        what = f"Reading {name!r} of the registry key"
        try:
            result = self._call(what, method, key, {"sValueName": name}, accept=(0, _NO_VALUE, _NOT_FOUND))
        except NotFound:
            return None
        return result.out.get(output) if result.return_value in (0, None) else None

    def get_string(self, name: str, key: str = "") -> str | None:
        value = self._get("GetStringValue", "sValue", key, name)
        return value if isinstance(value, str) else None

    def get_multi_string(self, name: str, key: str = "") -> tuple[str, ...] | None:
        value = self._get("GetMultiStringValue", "sValue", key, name)
        return tuple(str(item) for item in value) if isinstance(value, list) else None

    def get_dword(self, name: str, key: str = "") -> int | None:
        value = self._get("GetDWORDValue", "uValue", key, name)
        return value if isinstance(value, int) else None

    def get_qword(self, name: str, key: str = "") -> int | None:
        value = self._get("GetQWORDValue", "uValue", key, name)
        return value if isinstance(value, int) else None

    def _set(self, method: str, parameter: str, key: str, name: str, value: Value) -> None:
        """Write a value; the key is made when it is missing, which StdRegProv itself does not do reliably."""
        arguments: dict[str, Value] = {"sValueName": name, parameter: value}
        what = f"Writing {name!r} of the registry key"
        result = self._call(what, method, key, arguments, accept=(0, _NOT_FOUND))
        if result.return_value == _NOT_FOUND:
            self.create_key(key)
            self._call(what, method, key, arguments)

    def set_string(self, name: str, value: str, key: str = "") -> None:
        """Raises HypervError `registry_value_too_large` before anything is sent."""
        if len(value) > MAX_STRING_CHARS:
            raise HypervError(
                "registry_value_too_large",
                f"The value {name!r} of {self.path(key)} would have {len(value)} characters and at most "
                f"{MAX_STRING_CHARS} fit into one request; split it.",
            )
        self._set("SetStringValue", "sValue", key, name, value)

    def set_multi_string(self, name: str, values: tuple[str, ...], key: str = "") -> None:
        self._set("SetMultiStringValue", "sValue", key, name, list(values))

    def set_dword(self, name: str, value: int, key: str = "") -> None:
        self._set("SetDWORDValue", "uValue", key, name, value)

    def set_qword(self, name: str, value: int, key: str = "") -> None:
        self._set("SetQWORDValue", "uValue", key, name, value)

    def delete_value(self, name: str, key: str = "") -> bool:
        """Whether there was something to delete."""
        result = self._call(
            f"Deleting {name!r} of the registry key", "DeleteValue", key, {"sValueName": name}, accept=(0, _NOT_FOUND)
        )
        return result.return_value in (0, None)

    def create_key(self, key: str = "") -> None:
        """Make a key and all keys above it; nothing happens when it is there."""
        self._call("Making the registry key", "CreateKey", key, {})

    def delete_key(self, key: str) -> bool:
        """Delete a key with its values and subkeys; whether it was there. The base key itself is never deleted."""
        if not key.strip("\\"):
            raise ValueError("the base key is not deleted as a whole")
        for child in self.list_keys(key) or ():
            self.delete_key(f"{key}\\{child}")
        result = self._call("Deleting the registry key", "DeleteKey", key, {}, accept=(0, _NOT_FOUND, _ALREADY_DELETED))
        return result.return_value in (0, None)

    def list_keys(self, key: str = "") -> tuple[str, ...] | None:
        """Names of the subkeys; None when the key itself is missing."""
        result = self._call("Listing the registry key", "EnumKey", key, {}, accept=(0, _NOT_FOUND))
        if result.return_value == _NOT_FOUND:
            return None
        names = result.out.get("sNames")
        return tuple(str(name) for name in names) if isinstance(names, list) else ()

    def list_values(self, key: str = "") -> tuple[RegistryValue, ...] | None:
        """Names and types of the values; None when the key itself is missing."""
        result = self._call("Listing the registry key", "EnumValues", key, {}, accept=(0, _NOT_FOUND))
        if result.return_value == _NOT_FOUND:
            return None
        names, types = result.out.get("sNames"), result.out.get("Types")
        if not isinstance(names, list) or not isinstance(types, list):
            return ()
        return tuple(
            RegistryValue(name=str(name), type=VALUE_TYPES.get(number, f"unknown ({number})"))
            for name, number in zip(names, types, strict=False)
        )

    def key_exists(self, key: str = "") -> bool:
        return self.list_keys(key) is not None
