# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The CIM value model of the simulator: instances, references, object paths and the fault a view or method raises.

This file knows no XML, no schema and no machine. Values are plain Python:

    None                NULL
    bool int float str  the scalar CIM types (a char16 is a str)
    datetime            an absolute CIM datetime; always timezone-aware
    timedelta           a CIM interval
    Ref                 a reference to an instance (or to a class, when it has no keys)
    Instance            an embedded object or embedded instance
    list                an array of any of the above
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, Union

Value = Union[None, bool, int, float, str, datetime, timedelta, "Ref", "Instance", "list[Any]"]
KeyValue = Union[str, int, bool, "Ref"]

# What a Windows host sends for a time that never was (hyperv-wmi 0.4).
NEVER = datetime(1601, 1, 1, tzinfo=timezone.utc)


def normal_namespace(text: str) -> str:
    r"""`\\HOST\ROOT\CIMV2`, `root\cimv2` and `root/cimv2` are one namespace: `root/cimv2`."""
    text = text.replace("\\", "/")
    if text.startswith("//"):
        text = text[2:].partition("/")[2]
    return text.strip("/").lower()


@dataclass(frozen=True)
class Ref:
    """A reference: namespace in its normal form (`root/virtualization/v2`), class name, key values by key name."""

    namespace: str
    class_name: str
    keys: Mapping[str, KeyValue] = field(default_factory=dict)

    def identity(self) -> tuple[Any, ...]:
        """What Windows compares: names and string keys without regard to letter case, keys in any order."""
        return (
            normal_namespace(self.namespace),
            self.class_name.lower(),
            tuple(sorted((name.lower(), key_identity(value)) for name, value in self.keys.items())),
        )

    def same_as(self, other: object) -> bool:
        return isinstance(other, Ref) and self.identity() == other.identity()

    def key(self, name: str) -> KeyValue | None:
        """The value of a key, found without regard to letter case; None when it is not there."""
        for known, value in self.keys.items():
            if known.lower() == name.lower():
                return value
        return None

    def relative_path(self) -> str:
        """`Class.Key="value",Key2=5`; keys in alphabetical order, quotes and backslashes escaped."""
        if not self.keys:
            return self.class_name
        parts = (f"{name}={_key_text(self.keys[name])}" for name in sorted(self.keys, key=str.lower))
        return f"{self.class_name}.{','.join(parts)}"

    def path(self, host: str) -> str:
        r"""`\\HOST\root\virtualization\v2:Class.Key="value"` (hyperv-wmi 2.6)."""
        return "\\\\" + host + "\\" + self.namespace.replace("/", "\\") + ":" + self.relative_path()

    def __hash__(self) -> int:
        return hash(self.identity())


def key_identity(value: KeyValue) -> Any:
    """A key value in the form that decides equality; selectors arrive as text, so a number equals its decimal text."""
    if isinstance(value, Ref):
        return value.identity()
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value).lower()


def _key_text(value: KeyValue) -> str:
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, int):
        return str(value)
    text = value.relative_path() if isinstance(value, Ref) else value
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


_HEAD = re.compile(
    r"^(?:(?:\\\\|//)(?P<host>[^\\/]+)[\\/])?(?:(?P<namespace>[\\/\w.]+):)?(?P<class>[A-Za-z_]\w*)", re.ASCII
)


def parse_object_path(text: str, namespace: str = "") -> Ref:
    r"""A WMI object path as a Ref; host prefix and namespace are optional, `/` and `\` are equal in the namespace.

    Raises ValueError when the text is no object path. The host prefix is dropped: `path_host` tells it.
    """
    head = _HEAD.match(text.strip())
    if head is None:
        raise ValueError(f"{text!r} is no WMI object path")
    rest = text.strip()[head.end() :]
    where = normal_namespace(head["namespace"]) if head["namespace"] else normal_namespace(namespace)
    if not rest:
        return Ref(where, head["class"], {})
    if rest in ("=@", "=*"):
        return Ref(where, head["class"], {})
    if rest.startswith("="):  # Class="value": one key that is not named
        keys = dict(_parse_keys("?" + rest))
        return Ref(where, head["class"], keys)
    if not rest.startswith("."):
        raise ValueError(f"{text!r} is no WMI object path")
    return Ref(where, head["class"], dict(_parse_keys(rest[1:])))


def path_host(text: str) -> str | None:
    """The host of a full object path, None for a relative one."""
    head = _HEAD.match(text.strip())
    return head["host"] if head else None


_KEY_NAME = re.compile(r"\s*([A-Za-z_?]\w*)\s*=\s*", re.ASCII)
_KEY_NUMBER = re.compile(r"[+-]?\d+|true|false", re.IGNORECASE)


def _parse_keys(text: str) -> Iterator[tuple[str, KeyValue]]:
    at = 0
    while True:
        name = _KEY_NAME.match(text, at)
        if name is None:
            raise ValueError(f"no key name at {text[at:]!r}")
        at = name.end()
        if at < len(text) and text[at] in "\"'":
            value, at = _quoted(text, at)
            yield name[1], value
        else:
            number = _KEY_NUMBER.match(text, at)
            if number is None:
                raise ValueError(f"no key value at {text[at:]!r}")
            at = number.end()
            word = number[0].lower()
            yield name[1], (word == "true") if word in ("true", "false") else int(word)
        if at == len(text):
            return
        if text[at] != ",":
            raise ValueError(f"a comma was expected at {text[at:]!r}")
        at += 1


def _quoted(text: str, at: int) -> tuple[str, int]:
    quote, out = text[at], []
    at += 1
    while at < len(text):
        char = text[at]
        if char == "\\" and at + 1 < len(text):
            out.append(text[at + 1])
            at += 2
            continue
        if char == quote:
            return "".join(out), at + 1
        out.append(char)
        at += 1
    raise ValueError("a quoted key value has no end")


@dataclass
class Instance:
    """One instance: the namespace and exact class it belongs to and its property values by their declared names."""

    namespace: str
    class_name: str
    properties: dict[str, Value] = field(default_factory=dict)

    def get(self, name: str, default: Value = None) -> Value:
        """A property value found without regard to letter case; `default` when the property is not there."""
        if name in self.properties:
            return self.properties[name]
        for known, value in self.properties.items():
            if known.lower() == name.lower():
                return value
        return default

    def __contains__(self, name: str) -> bool:
        return any(known.lower() == name.lower() for known in self.properties)


# WBEM status codes (winerror.h / wbemcli.h) that views and methods raise most.
WBEM_E_FAILED = 0x80041001
WBEM_E_NOT_FOUND = 0x80041002
WBEM_E_ACCESS_DENIED = 0x80041003
WBEM_E_TYPE_MISMATCH = 0x80041005
WBEM_E_INVALID_PARAMETER = 0x80041008
WBEM_E_NOT_SUPPORTED = 0x8004100C
WBEM_E_INVALID_NAMESPACE = 0x8004100E
WBEM_E_INVALID_CLASS = 0x80041010
WBEM_E_PROVIDER_NOT_CAPABLE = 0x80041024
WBEM_E_INVALID_QUERY = 0x80041017
WBEM_E_INVALID_METHOD = 0x8004102E
WBEM_E_INVALID_METHOD_PARAMETERS = 0x8004102F


class CimFault(Exception):
    """Raised wherever Windows would answer a fault; the doors turn it into the recorded shape.

    Make one with `CimFault.wmi` (a classic WMI provider or the WMI service failed), `CimFault.mi` (a newer provider
    such as storage answered an error of its own) or `CimFault.wsman` (WinRM itself said no).
    """

    def __init__(
        self,
        kind: str,
        code: int,
        subcode: str = "",
        message: str = "",
        provider: str = "",
        detail: str = "",
        operation: str = "",
        parameter: str = "",
        status: int = 0,
        wbem: int = 0,
    ) -> None:
        super().__init__(f"{kind} {code:#x} {subcode} {message}".strip())
        self.kind = kind
        self.code = code
        self.subcode = subcode
        self.message = message
        self.provider = provider
        self.detail = detail
        self.operation = operation
        self.parameter = parameter
        self.status = status
        self.wbem = wbem

    @classmethod
    def wmi(
        cls, hresult: int, message: str = "", provider: str = "", operation: str = "", parameter: str = ""
    ) -> CimFault:
        """`hresult` such as 0x80041002; the door adds the WS-Man code and subcode that go with it."""
        return cls(
            "wmi", hresult, message=message, provider=provider, operation=operation, parameter=parameter, wbem=hresult
        )

    @classmethod
    def mi(cls, status: int, message: str = "", error_code: int = 0) -> CimFault:
        """An MSFT_WmiError: `status` is CIMStatusCode (4 invalid parameter, 6 not found, 11 exists)."""
        return cls("mi", error_code, message=message, status=status)

    @classmethod
    def wsman(cls, code: int, subcode: str, message: str = "", detail: str = "") -> CimFault:
        """`code` is the decimal WinRM code, `subcode` a prefixed name such as `w:InvalidSelectors`."""
        return cls("wsman", code, subcode=subcode, message=message, detail=detail)
