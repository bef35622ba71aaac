# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values of Windows PowerShell: .NET numbers, arrays, hashtables, objects, exceptions, and how one type becomes another.

An Int32 is a Python int, a Double a float, a String a str; other integers are subclasses of int that know their range.
Not here: operators (powershell_operators.py), classes with behaviour (powershell_dotnet.py).
Source: Windows PowerShell Language Specification 3.0, chapters 4 (types) and 6 (conversions); .NET documentation.
"""

from __future__ import annotations

import decimal
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, ClassVar

# -- numbers -----------------------------------------------------------------------------------------------------------


class Integer(int):
    """An integer of .NET other than Int32."""

    type_name: ClassVar[str] = ""
    low: ClassVar[int] = 0
    high: ClassVar[int] = 0


class SByte(Integer):
    type_name, low, high = "System.SByte", -(1 << 7), (1 << 7) - 1


class Byte(Integer):
    type_name, low, high = "System.Byte", 0, (1 << 8) - 1


class Int16(Integer):
    type_name, low, high = "System.Int16", -(1 << 15), (1 << 15) - 1


class UInt16(Integer):
    type_name, low, high = "System.UInt16", 0, (1 << 16) - 1


class UInt32(Integer):
    type_name, low, high = "System.UInt32", 0, (1 << 32) - 1


class Int64(Integer):
    type_name, low, high = "System.Int64", -(1 << 63), (1 << 63) - 1


class UInt64(Integer):
    type_name, low, high = "System.UInt64", 0, (1 << 64) - 1


class Char(str):
    """System.Char: one UTF-16 unit."""


INTEGERS: dict[str, type[Integer]] = {c.type_name: c for c in (SByte, Byte, Int16, UInt16, UInt32, Int64, UInt64)}
_LOW32, _HIGH32 = -(1 << 31), (1 << 31) - 1
_RANGES = {"System.Int32": (_LOW32, _HIGH32), **{name: (kind.low, kind.high) for name, kind in INTEGERS.items()}}
_INTEGER_WORDS = {
    "System.Byte": "an unsigned byte",
    "System.SByte": "a signed byte",
    "System.Int16": "an Int16",
    "System.UInt16": "a UInt16",
    "System.Int32": "an Int32",
    "System.UInt32": "a UInt32",
    "System.Int64": "an Int64",
    "System.UInt64": "a UInt64",
}


def int_number(value: int) -> Any:
    """An integer literal: the first of Int32, Int64, Decimal, Double that holds it."""
    if _LOW32 <= value <= _HIGH32:
        return value
    if Int64.low <= value <= Int64.high:
        return Int64(value)
    return decimal.Decimal(value) if abs(value) < 1 << 96 else float(value)


def decimal_number(text: str) -> decimal.Decimal:
    return decimal.Decimal(text)


def is_number(value: Any) -> bool:
    return isinstance(value, int | float | decimal.Decimal) and not isinstance(value, bool)


# -- compound values -----------------------------------------------------------------------------------------------------


class Array:
    """A .NET array. Those of bytes are a bytearray, so that blocks of megabytes cost nothing."""

    def __init__(self, items: Any, element: str = "System.Object") -> None:
        self.element = element
        self.items: Any = bytearray(items) if element == "System.Byte" else list(items)

    def __iter__(self) -> Iterator[Any]:
        if self.element == "System.Byte":
            return (Byte(one) for one in self.items)
        return iter(list(self.items))

    def __len__(self) -> int:
        return len(self.items)

    def get(self, index: int) -> Any:
        return Byte(self.items[index]) if self.element == "System.Byte" else self.items[index]


class GenericList:
    """System.Collections.ArrayList, or System.Collections.Generic.List of an element type."""

    def __init__(self, items: Any = (), element: str = "System.Object", kind: str = "List") -> None:
        self.items: list[Any] = list(items)
        self.element = element
        self.kind = kind

    def __iter__(self) -> Iterator[Any]:
        return iter(list(self.items))

    def __len__(self) -> int:
        return len(self.items)

    def get(self, index: int) -> Any:
        return self.items[index]


def fold_key(key: Any) -> Any:
    if isinstance(key, str) and not isinstance(key, Char):
        return ("s", key.lower())
    return (type_of(key), key if isinstance(key, int | float | str | bool | decimal.Decimal) else id(key))


class Hashtable:
    """@{} and [ordered]@{}: keys that are strings are compared without case."""

    def __init__(self, *, ordered: bool = False) -> None:
        self.ordered = ordered
        self._entries: dict[Any, tuple[Any, Any]] = {}

    def set(self, key: Any, value: Any) -> None:
        folded = fold_key(key)
        old = self._entries.get(folded)
        self._entries[folded] = (old[0] if old else key, value)

    def get(self, key: Any) -> Any:
        entry = self._entries.get(fold_key(key))
        return entry[1] if entry else None

    def has(self, key: Any) -> bool:
        return fold_key(key) in self._entries

    def remove(self, key: Any) -> None:
        self._entries.pop(fold_key(key), None)

    def clear(self) -> None:
        self._entries.clear()

    def items(self) -> list[tuple[Any, Any]]:
        return list(self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)


class CustomObject:
    """[pscustomobject]: note properties in order, names compared without case."""

    def __init__(self, pairs: Any = ()) -> None:
        self.properties: dict[str, tuple[str, Any]] = {}
        for name, value in pairs:
            self.put(str(name), value)

    def put(self, name: str, value: Any) -> None:
        old = self.properties.get(name.lower())
        self.properties[name.lower()] = (old[0] if old else name, value)

    def pairs(self) -> list[tuple[str, Any]]:
        return list(self.properties.values())


@dataclass(frozen=True)
class TypeRef:
    name: str


@dataclass(frozen=True)
class Enum:
    type_name: str
    name: str
    value: int


@dataclass
class DictionaryEntry:
    key: Any
    value: Any


class NetObject:
    """An object with behaviour; powershell_dotnet.py knows the members by ``type_name``."""

    type_name = "System.Object"


@dataclass(eq=False)
class ScriptBlock:
    parameters: Any
    body: Any
    text: str
    scope: Any = None


@dataclass(eq=False)
class NetException(NetObject):
    """A .NET exception object."""

    kind: str
    message: str
    inner: NetException | None = None
    hresult: int = -2146233088
    parameter: str = ""

    @property
    def type_name(self) -> str:  # type: ignore[override]
        return self.kind

    @property
    def text(self) -> str:
        return f"{self.message}\nParameter name: {self.parameter}" if self.parameter else self.message

    def base(self) -> NetException:
        return self.inner.base() if self.inner else self


EXCEPTION_BASES: dict[str, str] = {
    "System.SystemException": "System.Exception",
    "System.ApplicationException": "System.Exception",
    "System.ArgumentException": "System.SystemException",
    "System.ArgumentNullException": "System.ArgumentException",
    "System.ArgumentOutOfRangeException": "System.ArgumentException",
    "System.ArithmeticException": "System.SystemException",
    "System.DivideByZeroException": "System.ArithmeticException",
    "System.OverflowException": "System.ArithmeticException",
    "System.FormatException": "System.SystemException",
    "System.IndexOutOfRangeException": "System.SystemException",
    "System.InvalidCastException": "System.SystemException",
    "System.InvalidOperationException": "System.SystemException",
    "System.ObjectDisposedException": "System.InvalidOperationException",
    "System.NotSupportedException": "System.SystemException",
    "System.NotImplementedException": "System.SystemException",
    "System.PlatformNotSupportedException": "System.NotSupportedException",
    "System.OutOfMemoryException": "System.SystemException",
    "System.TimeoutException": "System.SystemException",
    "System.UnauthorizedAccessException": "System.SystemException",
    "System.RankException": "System.SystemException",
    "System.ArrayTypeMismatchException": "System.SystemException",
    "System.IO.IOException": "System.SystemException",
    "System.IO.FileNotFoundException": "System.IO.IOException",
    "System.IO.DirectoryNotFoundException": "System.IO.IOException",
    "System.IO.DriveNotFoundException": "System.IO.IOException",
    "System.IO.PathTooLongException": "System.IO.IOException",
    "System.IO.EndOfStreamException": "System.IO.IOException",
    "System.Collections.Generic.KeyNotFoundException": "System.SystemException",
    "System.Security.SecurityException": "System.SystemException",
    "System.Security.Cryptography.CryptographicException": "System.SystemException",
    "System.Security.Cryptography.CryptographicUnexpectedOperationException": (
        "System.Security.Cryptography.CryptographicException"
    ),
    "System.ComponentModel.Win32Exception": "System.SystemException",
    "System.Management.Automation.RuntimeException": "System.SystemException",
    "System.Management.Automation.PSInvalidCastException": "System.InvalidCastException",
    "System.Management.Automation.CommandNotFoundException": "System.Management.Automation.RuntimeException",
    "System.Management.Automation.ActionPreferenceStopException": "System.Management.Automation.RuntimeException",
    "System.Management.Automation.MethodException": "System.Management.Automation.ExtendedTypeSystemException",
    "System.Management.Automation.MethodInvocationException": "System.Management.Automation.MethodException",
    "System.Management.Automation.GetValueInvocationException": "System.Management.Automation.GetValueException",
    "System.Management.Automation.GetValueException": "System.Management.Automation.ExtendedTypeSystemException",
    "System.Management.Automation.SetValueInvocationException": "System.Management.Automation.SetValueException",
    "System.Management.Automation.SetValueException": "System.Management.Automation.ExtendedTypeSystemException",
    "System.Management.Automation.ExtendedTypeSystemException": "System.Management.Automation.RuntimeException",
    "System.Management.Automation.PropertyNotFoundException": "System.Management.Automation.ExtendedTypeSystemException",
    "System.Management.Automation.ParameterBindingException": "System.Management.Automation.RuntimeException",
    "System.Management.Automation.ItemNotFoundException": "System.Management.Automation.SessionStateException",
    "System.Management.Automation.SessionStateException": "System.Management.Automation.RuntimeException",
    "Microsoft.PowerShell.Commands.WriteErrorException": "System.SystemException",
}
HRESULTS = {
    "System.IO.IOException": -2146232800,
    "System.IO.FileNotFoundException": -2147024894,
    "System.IO.DirectoryNotFoundException": -2147024893,
    "System.UnauthorizedAccessException": -2147024891,
    "System.ArgumentException": -2147024809,
    "System.OutOfMemoryException": -2147024882,
}


def exception(kind: str, message: str, *, hresult: int | None = None, **options: Any) -> NetException:
    code = HRESULTS.get(kind, -2146233088) if hresult is None else hresult
    return NetException(kind, message, hresult=code, **options)


def is_exception(kind: str, wanted: str) -> bool:
    while kind:
        if kind == wanted:
            return True
        kind = EXCEPTION_BASES.get(
            kind, "System.Exception" if kind not in ("System.Exception", "System.Object") else ""
        )
    return wanted == "System.Object"


@dataclass(eq=False)
class ErrorRecord:
    exception: NetException
    identifier: str
    category: str = "NotSpecified"
    target: Any = None
    command: str = ""
    at: int = -1
    end: int = -1

    def message(self) -> str:
        return self.exception.text


class PowerShellError(Exception):
    """A terminating error. ``script``: thrown, so that it ends the script; else it ends the statement."""

    def __init__(self, record: ErrorRecord, *, script: bool = False) -> None:
        super().__init__(record.message())
        self.record = record
        self.script = script


RUNTIME = "System.Management.Automation.RuntimeException"


def runtime_error(
    identifier: str, message: str, *, category: str = "InvalidOperation", target: Any = None, kind: str = RUNTIME
) -> PowerShellError:
    """An error of the language itself."""
    return PowerShellError(ErrorRecord(NetException(kind, message, hresult=-2146233087), identifier, category, target))


class Thrown(Exception):
    """A .NET exception on its way out of a method; the interpreter wraps it as PowerShell does."""

    def __init__(self, value: NetException) -> None:
        super().__init__(value.message)
        self.value = value


def thrown(kind: str, message: str, **options: Any) -> Thrown:
    return Thrown(exception(kind, message, **options))


# -- types ---------------------------------------------------------------------------------------------------------------

ACCELERATORS = {
    "int": "System.Int32",
    "int32": "System.Int32",
    "long": "System.Int64",
    "int64": "System.Int64",
    "byte": "System.Byte",
    "sbyte": "System.SByte",
    "int16": "System.Int16",
    "short": "System.Int16",
    "uint16": "System.UInt16",
    "uint32": "System.UInt32",
    "uint64": "System.UInt64",
    "double": "System.Double",
    "single": "System.Single",
    "float": "System.Single",
    "decimal": "System.Decimal",
    "string": "System.String",
    "char": "System.Char",
    "bool": "System.Boolean",
    "boolean": "System.Boolean",
    "object": "System.Object",
    "array": "System.Array",
    "void": "System.Void",
    "datetime": "System.DateTime",
    "timespan": "System.TimeSpan",
    "guid": "System.Guid",
    "type": "System.Type",
    "regex": "System.Text.RegularExpressions.Regex",
    "hashtable": "System.Collections.Hashtable",
    "ordered": "System.Collections.Specialized.OrderedDictionary",
    "pscustomobject": "System.Management.Automation.PSCustomObject",
    "psobject": "System.Management.Automation.PSObject",
    "scriptblock": "System.Management.Automation.ScriptBlock",
    "switch": "System.Management.Automation.SwitchParameter",
    "math": "System.Math",
    "convert": "System.Convert",
    "io.file": "System.IO.File",
    "exception": "System.Exception",
    "errorrecord": "System.Management.Automation.ErrorRecord",
    "version": "System.Version",
}
KNOWN_TYPES: dict[str, str] = {}
"""Full names by their lower-case form; powershell_dotnet.py and its neighbours add the classes that they know."""


def know_type(full_name: str) -> None:
    KNOWN_TYPES[full_name.lower()] = full_name


for _name in (
    *ACCELERATORS.values(),
    *EXCEPTION_BASES,
    *EXCEPTION_BASES.values(),
    "System.Collections.ArrayList",
    "System.Collections.Generic.List`1",
    "System.Management.Automation.ErrorRecord",
    "System.Collections.IDictionary",
    "System.Collections.IEnumerable",
):
    know_type(_name)


def resolve_type(name: str) -> TypeRef | None:
    """The type that a name in brackets means, None when there is none."""
    name = name.strip()
    if match := re.fullmatch(r"(.*?)\[(,*)\]", name):
        element = resolve_type(match[1])
        return TypeRef(f"{element.name}[]") if element and not match[2] else None
    if match := re.fullmatch(r"([\w.]+)(?:`1)?\[(.+)\]", name):
        outer, inner = resolve_type(match[1] + "`1"), resolve_type(match[2].strip("[] "))
        return TypeRef(f"{outer.name}[{inner.name}]") if outer and inner else None
    lowered = name.lower()
    for candidate in (
        lowered,
        f"system.{lowered}",
        f"system.management.automation.{lowered.removesuffix('attribute')}",
    ):
        if candidate in KNOWN_TYPES:
            return TypeRef(KNOWN_TYPES[candidate])
    full = ACCELERATORS.get(lowered)
    return TypeRef(full) if full else None


def type_of(value: Any) -> str:
    """The full name of a value's type."""
    if isinstance(value, bool):
        return "System.Boolean"
    if isinstance(value, Integer):
        return value.type_name
    if isinstance(value, int):
        return "System.Int32"
    if isinstance(value, float):
        return "System.Double"
    if isinstance(value, decimal.Decimal):
        return "System.Decimal"
    if isinstance(value, Char):
        return "System.Char"
    if isinstance(value, str):
        return "System.String"
    if isinstance(value, Array):
        return f"{value.element}[]"
    if isinstance(value, GenericList):
        if value.kind == "ArrayList":
            return "System.Collections.ArrayList"
        return f"System.Collections.Generic.List`1[{value.element}]"
    if isinstance(value, Hashtable):
        return ACCELERATORS["ordered"] if value.ordered else ACCELERATORS["hashtable"]
    if isinstance(value, Enum | NetObject):
        return value.type_name
    return _OTHER_TYPES.get(type(value), "System.Object")


_OTHER_TYPES: dict[type, str] = {
    CustomObject: "System.Management.Automation.PSCustomObject",
    TypeRef: "System.RuntimeType",
    DictionaryEntry: "System.Collections.DictionaryEntry",
    ScriptBlock: "System.Management.Automation.ScriptBlock",
    ErrorRecord: "System.Management.Automation.ErrorRecord",
    datetime: "System.DateTime",
    timedelta: "System.TimeSpan",
}


def is_instance(value: Any, wanted: str) -> bool:
    if value is None:
        return False
    name = type_of(value)
    if wanted in (name, "System.Object"):
        return True
    if isinstance(value, NetException):
        return is_exception(name, wanted)
    if isinstance(value, Array):
        return wanted in ("System.Array", "System.Collections.IEnumerable")
    if isinstance(value, Hashtable):
        return wanted in ("System.Collections.IDictionary", "System.Collections.IEnumerable")
    if isinstance(value, CustomObject):
        return wanted == "System.Management.Automation.PSObject"
    return wanted in BASES.get(name, ())


BASES: dict[str, tuple[str, ...]] = {
    "System.String": ("System.Collections.IEnumerable", "System.IComparable"),
    "System.RuntimeType": ("System.Type",),
}


# -- text ------------------------------------------------------------------------------------------------------------------


def float_text(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "∞" if value > 0 else "-∞"
    text = f"{value:.15G}"
    if "E" in text:
        mantissa, _unused, exponent = text.partition("E")
        sign, digits = exponent[0], exponent[1:].rjust(2, "0")
        return f"{mantissa}E{sign}{digits}"
    return text


def number_text(value: Any) -> str:
    if isinstance(value, float):
        return float_text(value)
    return str(int(value)) if isinstance(value, int) else format(value, "f")


def to_text(value: Any, separator: str = " ") -> str:
    """[string]$value"""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "True" if value else "False"
    if isinstance(value, str):
        return str(value)
    if is_number(value):
        return number_text(value)
    if isinstance(value, Array | GenericList):
        return separator.join(to_text(one, separator) for one in value)
    if isinstance(value, CustomObject):
        return "@{" + "; ".join(f"{name}={to_text(one)}" for name, one in value.pairs()) + "}"
    if isinstance(value, TypeRef):
        return value.name
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, ErrorRecord):
        return value.message()
    if isinstance(value, NetException):
        return f"{value.kind}: {value.text}" + (f" ---> {to_text(value.inner)}" if value.inner else "")
    if isinstance(value, ScriptBlock):
        return value.text
    if isinstance(value, datetime):
        return value.strftime("%m/%d/%Y %H:%M:%S")
    if isinstance(value, timedelta):
        return timespan_text(value)
    shown = getattr(value, "text_form", None)
    return str(shown()) if callable(shown) else type_of(value)


def timespan_text(value: timedelta) -> str:
    ticks = round(value.total_seconds() * 10_000_000)
    sign, ticks = ("-" if ticks < 0 else ""), abs(ticks)
    seconds, fraction = divmod(ticks, 10_000_000)
    days, seconds = divmod(seconds, 86400)
    text = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return sign + (f"{days}." if days else "") + text + (f".{fraction:07}" if fraction else "")


# -- conversions -------------------------------------------------------------------------------------------------------------


def to_bool(value: Any) -> bool:
    """What a value means as a condition."""
    if value is None:
        return False
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return value != "" and not (isinstance(value, Char) and value == "\0")
    if is_number(value):
        return bool(value != 0)
    if isinstance(value, Array | GenericList):
        if not len(value):
            return False
        return to_bool(value.get(0)) if len(value) == 1 else True
    if isinstance(value, Enum):
        return value.value != 0
    return True


def failed_conversion(value: Any, wanted: str, why: str = "", identifier: str = "") -> PowerShellError:
    shown = to_text(value)
    if why:
        text = f'Cannot convert value "{shown}" to type "{wanted}". Error: "{why}"'
    else:
        text = f'Cannot convert the "{shown}" value of type "{type_of(value)}" to type "{wanted}".'
    return runtime_error(identifier or "InvalidCast", text, category="InvalidArgument")


def to_number(value: Any) -> Any:
    """A number for arithmetic: strings as literals are read; raises PowerShellError."""
    if value is None:
        return 0
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, Char):
        return ord(value)
    if is_number(value):
        return value
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, str):
        text = value.strip()
        if not text:
            return 0
        if re.fullmatch(r"[+-]?\d+", text):
            return int_number(int(text))
        if match := re.fullmatch(r"([+-]?)0x([0-9a-f]+)", text, re.IGNORECASE):
            return int_number(int(match[1] + match[2], 16))
        if re.fullmatch(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?", text, re.IGNORECASE):
            return float(text)
        raise failed_conversion(
            value, "System.Int32", "Input string was not in a correct format.", "InvalidCastFromStringToInteger"
        )
    raise failed_conversion(value, "System.Int32", identifier="ConvertToFinalInvalidCastException")


def to_integer(value: Any, wanted: str) -> Any:
    number = to_number(value)
    if isinstance(number, float):
        if not math.isfinite(number):
            raise _too_large(value, wanted)
        number = round(number)
    elif isinstance(number, decimal.Decimal):
        number = int(number.to_integral_value(rounding=decimal.ROUND_HALF_EVEN))
    number = int(number)
    low, high = _RANGES[wanted]
    if not low <= number <= high:
        raise _too_large(value, wanted)
    kind = INTEGERS.get(wanted)
    return kind(number) if kind else number


def _too_large(value: Any, wanted: str) -> PowerShellError:
    return failed_conversion(
        value,
        wanted,
        f"Value was either too large or too small for {_INTEGER_WORDS[wanted]}.",
        "InvalidCastIConvertible" if not isinstance(value, str) else "InvalidCastFromStringToInteger",
    )


def sequence(value: Any) -> list[Any]:
    """A value as the elements that a pipeline or a cast to an array makes of it."""
    if value is None:
        return []
    if isinstance(value, Array | GenericList):
        return list(value)
    return [value]


def to_array(value: Any, element: str) -> Array:
    if isinstance(value, Array) and value.element == element:
        return value
    if element == "System.Byte" and isinstance(value, Array) and value.element == "System.Byte":
        return value
    if isinstance(value, str) and element == "System.Char":
        return Array([Char(c) for c in value], element)
    items = [None] if value is None and element == "System.Object" else sequence(value)
    return Array([convert(one, element) for one in items], element)


def convert(value: Any, wanted: str) -> Any:
    """[wanted]$value; raises PowerShellError as PowerShell does."""
    if wanted in ("System.Object", "System.Management.Automation.PSObject", "System.Void"):
        return value
    if wanted.endswith("[]"):
        if value is None:
            return None
        return to_array(value, wanted[:-2])
    if wanted == "System.String":
        return to_text(value)
    if wanted in ("System.Boolean", "System.Management.Automation.SwitchParameter"):
        if isinstance(value, str):
            if wanted == "System.Boolean":
                return to_bool(value)
            raise failed_conversion(value, wanted)
        return to_bool(value)
    if wanted in _RANGES:
        if isinstance(value, Char):
            return to_integer(ord(value), wanted)
        if isinstance(value, str) and value.strip() and not re.fullmatch(r"\s*[+-]?[\w.]+(?:[+-]\d+)?\s*", value):
            raise failed_conversion(
                value, wanted, "Input string was not in a correct format.", "InvalidCastFromStringToInteger"
            )
        return to_integer(_single(value, wanted), wanted)
    if wanted in ("System.Double", "System.Single"):
        return float(to_number(_single(value, wanted)))
    if wanted == "System.Decimal":
        number = to_number(_single(value, wanted))
        return decimal.Decimal(repr(number)) if isinstance(number, float) else decimal.Decimal(number)
    if wanted == "System.Char":
        if isinstance(value, str) and len(value) == 1:
            return Char(value)
        if isinstance(value, int):
            return Char(chr(to_integer(value, "System.UInt16")))
        raise failed_conversion(value, wanted, "String must be exactly one character long.")
    if wanted == "System.Array":
        return value if isinstance(value, Array) else Array(sequence(value))
    if wanted == "System.Type":
        found = value if isinstance(value, TypeRef) else resolve_type(to_text(value))
        if found is None:
            raise failed_conversion(value, wanted)
        return found
    if value is None or is_instance(value, wanted):
        return value
    if isinstance(value, ErrorRecord) and is_exception(value.exception.kind, wanted):
        return value.exception
    if wanted in CONVERTERS:
        return CONVERTERS[wanted](value)
    raise failed_conversion(value, wanted, identifier="ConvertToFinalInvalidCastException")


CONVERTERS: dict[str, Any] = {}
"""Conversions to classes that other modules know: full name -> function."""


def _single(value: Any, wanted: str) -> Any:
    """Windows PowerShell converts an array of one element to a number."""
    if isinstance(value, Array | GenericList):
        if len(value) == 1:
            return value.get(0)
        raise failed_conversion(value, wanted, identifier="ConvertToFinalInvalidCastException")
    return value


@dataclass
class Enumeration:
    """One enum type: its members in order, flags or not."""

    type_name: str
    members: dict[str, int]
    flags: bool = False
    _by_name: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._by_name = {name.lower(): name for name in self.members}

    def of(self, value: Any) -> Enum:
        if isinstance(value, Enum):
            value = value.value if value.type_name == self.type_name else value.name
        if isinstance(value, str):
            total, names = 0, []
            for part in value.split(","):
                name = self._by_name.get(part.strip().lower())
                if name is None:
                    possible = ",".join(self.members)
                    raise runtime_error(
                        "InvalidCastFromStringToEnum",
                        f'Cannot convert value "{value}" to type "{self.type_name}". Error: "Unable to match the identifier'
                        f" name {value} to a valid enumerator name. Specify one of the following enumerator names and try"
                        f' again:\n{possible}"',
                        category="InvalidArgument",
                    )
                total |= self.members[name]
                names.append(name)
            return Enum(self.type_name, ", ".join(names), total)
        number = to_integer(value, "System.Int32")
        for name, known in self.members.items():
            if known == number:
                return Enum(self.type_name, name, number)
        if self.flags:
            names = [name for name, known in self.members.items() if known and number & known == known]
            if names and sum(self.members[name] for name in names) == number:
                return Enum(self.type_name, ", ".join(names), number)
        return Enum(self.type_name, str(number), number)


ENUMERATIONS: dict[str, Enumeration] = {}


def enumeration(type_name: str, members: dict[str, int], *, flags: bool = False) -> Enumeration:
    entry = Enumeration(type_name, members, flags)
    ENUMERATIONS[type_name] = entry
    CONVERTERS[type_name] = entry.of
    know_type(type_name)
    return entry
