# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Classes of .NET Framework 4.8 that scripts on simulated machines may use: text, numbers, bytes, collections.

Hashes are in powershell_hashes.py, time and console in powershell_session.py, files and devices in
powershell_streams.py. Source: the .NET API documentation. Members that are not here do not exist for a script.
"""

from __future__ import annotations

import base64
import binascii
import decimal
import math
import re
from typing import Any

from .powershell_dotnet import VOID, constructor, getter, inherits, method, no_overload, same, static, static_getter
from .powershell_operators import format_operator
from .powershell_values import (
    INTEGERS,
    Array,
    Char,
    DictionaryEntry,
    GenericList,
    Hashtable,
    NetObject,
    PowerShellError,
    ScriptBlock,
    convert,
    enumeration,
    is_number,
    sequence,
    thrown,
    to_text,
    type_of,
)

STRING, INT, LONG, OBJECT, BOOL = "System.String", "System.Int32", "System.Int64", "System.Object", "System.Boolean"
BYTES, CHARS, DOUBLE = "System.Byte[]", "System.Char[]", "System.Double"


def null_argument(name: str) -> Exception:
    return thrown("System.ArgumentNullException", "Value cannot be null.", parameter=name)


def check_range(buffer: Array | None, offset: int, count: int, name: str = "buffer") -> None:
    """The argument checks that streams and hashes share."""
    if buffer is None:
        raise null_argument(name)
    if offset < 0:
        raise thrown("System.ArgumentOutOfRangeException", "Non-negative number required.", parameter="offset")
    if count < 0:
        raise thrown("System.ArgumentOutOfRangeException", "Non-negative number required.", parameter="count")
    if len(buffer) - offset < count:
        raise thrown(
            "System.ArgumentException",
            "Offset and length were out of bounds for the array or count is greater than the number of elements from index"
            " to the end of the source collection.",
        )


# -- strings -----------------------------------------------------------------------------------------------------------


def _empty_old() -> str:
    raise thrown("System.ArgumentException", "String cannot be of zero length.", parameter="oldValue")


def _split_at(text: str, letters: Array) -> Array:
    pattern = "[" + re.escape("".join(letters)) + "]" if len(letters) else r"\s"
    return Array(re.split(pattern, text), STRING)


_TEXT_METHODS: tuple[tuple[str, tuple[str, ...], Any], ...] = (
    ("ToUpper", (), lambda _p, t: t.upper()),
    ("ToLower", (), lambda _p, t: t.lower()),
    ("ToUpperInvariant", (), lambda _p, t: t.upper()),
    ("ToLowerInvariant", (), lambda _p, t: t.lower()),
    ("Trim", (), lambda _p, t: t.strip()),
    ("Trim", (CHARS,), lambda _p, t, c: t.strip("".join(c))),
    ("TrimStart", (), lambda _p, t: t.lstrip()),
    ("TrimStart", (CHARS,), lambda _p, t, c: t.lstrip("".join(c))),
    ("TrimEnd", (), lambda _p, t: t.rstrip()),
    ("TrimEnd", (CHARS,), lambda _p, t, c: t.rstrip("".join(c))),
    ("Contains", (STRING,), lambda _p, t, w: w in t),
    ("StartsWith", (STRING,), lambda _p, t, w: t.startswith(w)),
    ("EndsWith", (STRING,), lambda _p, t, w: t.endswith(w)),
    ("IndexOf", (STRING,), lambda _p, t, w: t.find(w)),
    ("LastIndexOf", (STRING,), lambda _p, t, w: t.rfind(w)),
    ("Replace", (STRING, STRING), lambda _p, t, old, new: t.replace(old, new) if old else _empty_old()),
    ("PadLeft", (INT,), lambda _p, t, n: t.rjust(n)),
    ("PadLeft", (INT, "System.Char"), lambda _p, t, n, c: t.rjust(n, c)),
    ("PadRight", (INT,), lambda _p, t, n: t.ljust(n)),
    ("PadRight", (INT, "System.Char"), lambda _p, t, n, c: t.ljust(n, c)),
    ("Insert", (INT, STRING), lambda _p, t, n, w: t[:n] + w + t[n:]),
    ("ToCharArray", (), lambda _p, t: Array([Char(c) for c in t], "System.Char")),
    ("Split", (CHARS,), lambda _p, t, c: _split_at(t, c)),
    ("Equals", (OBJECT,), lambda _p, t, other: isinstance(other, str) and t == other),
)
for _name, _signature, _function in _TEXT_METHODS:
    method(STRING, _name, *_signature)(_function)
enumeration(
    "System.StringComparison",
    {
        "CurrentCulture": 0,
        "CurrentCultureIgnoreCase": 1,
        "InvariantCulture": 2,
        "InvariantCultureIgnoreCase": 3,
        "Ordinal": 4,
        "OrdinalIgnoreCase": 5,
    },
)


def _ignores_case(how: Any) -> bool:
    return "ignorecase" in str(how.name).lower()


def _with_case(test: Any) -> Any:
    def run(_ps: Any, text: str, other: str, how: Any) -> bool:
        return bool(test(text.upper(), other.upper()) if _ignores_case(how) else test(text, other))

    return run


for _name, _test in (("Equals", str.__eq__), ("StartsWith", str.startswith), ("EndsWith", str.endswith)):
    method(STRING, _name, STRING, "System.StringComparison")(_with_case(_test))
static(STRING, "Equals", STRING, STRING, "System.StringComparison")(_with_case(str.__eq__))


@method(STRING, "Substring", INT)
def _substring(_ps: Any, text: str, start: int) -> str:
    if not 0 <= start <= len(text):
        message = "startIndex cannot be larger than length of string."
        raise thrown("System.ArgumentOutOfRangeException", message, parameter="startIndex")
    return text[start:]


@method(STRING, "Substring", INT, INT)
def _substring_of(_ps: Any, text: str, start: int, length: int) -> str:
    if length < 0 or not 0 <= start <= len(text) or start + length > len(text):
        message = "Index and length must refer to a location within the string."
        raise thrown("System.ArgumentOutOfRangeException", message, parameter="length")
    return text[start : start + length]


_TEXT_STATICS: tuple[tuple[str, tuple[str, ...], Any], ...] = (
    ("IsNullOrEmpty", (STRING,), lambda _p, t: not t),
    ("IsNullOrWhiteSpace", (STRING,), lambda _p, t: not t.strip()),
    ("Join", (STRING, "System.Object[]"), lambda _p, s, items: s.join(to_text(x) for x in items)),
    ("Concat", ("System.Object[]",), lambda _p, items: "".join(to_text(x) for x in items)),
    ("Concat", (STRING, STRING), lambda _p, a, b: a + b),
    ("Format", (STRING, OBJECT), lambda _p, f, a: format_operator(f, Array([a]))),
    ("Format", (STRING, OBJECT, OBJECT), lambda _p, f, a, b: format_operator(f, Array([a, b]))),
    ("Format", (STRING, OBJECT, OBJECT, OBJECT), lambda _p, f, a, b, c: format_operator(f, Array([a, b, c]))),
    ("CompareOrdinal", (STRING, STRING), lambda _p, a, b: (a > b) - (a < b)),
    ("Compare", (STRING, STRING), lambda _p, a, b: (a.lower() > b.lower()) - (a.lower() < b.lower())),
)
for _name, _signature, _function in _TEXT_STATICS:
    static(STRING, _name, *_signature)(_function)
static_getter(STRING, "Empty")(lambda _p: "")


# -- numbers -----------------------------------------------------------------------------------------------------------

static_getter(INT, "MaxValue")(lambda _p: (1 << 31) - 1)
static_getter(INT, "MinValue")(lambda _p: -(1 << 31))
for _kind, _class in INTEGERS.items():
    static_getter(_kind, "MaxValue")(lambda _p, c=_class: c(c.high))
    static_getter(_kind, "MinValue")(lambda _p, c=_class: c(c.low))
static_getter(DOUBLE, "MaxValue")(lambda _p: 1.7976931348623157e308)
static_getter("System.IntPtr", "Zero")(lambda _p: convert(0, LONG))


def _parse(kind: str) -> Any:
    def parse(_ps: Any, text: str) -> Any:
        if not re.fullmatch(r"\s*[+-]?\d+\s*", text):
            raise thrown("System.FormatException", "Input string was not in a correct format.")
        try:
            return convert(text.strip(), kind)
        except PowerShellError as problem:
            raise thrown(
                "System.OverflowException", f"Value was either too large or too small for {kind[7:]}."
            ) from problem

    return parse


for _kind in (INT, *INTEGERS):
    static(_kind, "Parse", STRING)(_parse(_kind))

_MATH = "System.Math"
_WIDTHS = ("System.Byte", "System.Int16", INT, LONG, "System.UInt64", "System.Single", DOUBLE, "System.Decimal")


def _extreme(pick: Any) -> Any:
    def run(_ps: Any, one: Any, two: Any) -> Any:
        """The overload of the wider of both types."""
        kinds = [type_of(one), type_of(two)]
        wide = max((kind for kind in kinds if kind in _WIDTHS), key=_WIDTHS.index, default=DOUBLE)
        return pick(convert(one, wide), convert(two, wide))

    return run


static(_MATH, "Min", OBJECT, OBJECT)(_extreme(min))
static(_MATH, "Max", OBJECT, OBJECT)(_extreme(max))
static(_MATH, "Floor", DOUBLE)(lambda _p, v: float(math.floor(v)))
static(_MATH, "Ceiling", DOUBLE)(lambda _p, v: float(math.ceil(v)))
static(_MATH, "Truncate", DOUBLE)(lambda _p, v: float(math.trunc(v)))
static(_MATH, "Round", DOUBLE)(lambda _p, v: float(round(v)))
static(_MATH, "Round", DOUBLE, INT)(lambda _p, v, n: float(round(decimal.Decimal(repr(v)), n)))
static(_MATH, "Sqrt", DOUBLE)(lambda _p, v: math.sqrt(v) if v >= 0 else float("nan"))
static(_MATH, "Pow", DOUBLE, DOUBLE)(lambda _p, a, b: float(a**b))
static(_MATH, "Abs", OBJECT)(lambda _p, v: type(v)(abs(v)) if is_number(v) else abs(convert(v, DOUBLE)))

_CONVERT = "System.Convert"
_UNSIGNED = ("System.Byte", "System.UInt32", "System.UInt64")
static(_CONVERT, "ToBase64String", BYTES)(lambda _p, data: base64.b64encode(bytes(data.items)).decode())
static(_CONVERT, "ToString", OBJECT)(lambda _p, v: to_text(v))
for _name, _kind in {
    "ToInt32": INT,
    "ToInt64": LONG,
    "ToUInt32": "System.UInt32",
    "ToUInt64": "System.UInt64",
    "ToByte": "System.Byte",
    "ToInt16": "System.Int16",
    "ToUInt16": "System.UInt16",
    "ToDouble": DOUBLE,
    "ToBoolean": BOOL,
}.items():
    static(_CONVERT, _name, OBJECT)(lambda _p, v, k=_kind: convert(v, k))


@static(_CONVERT, "ToBase64String", BYTES, INT, INT)
def _to_base64(_ps: Any, data: Array | None, offset: int, count: int) -> str:
    check_range(data, offset, count, "inArray")
    assert data is not None
    return base64.b64encode(bytes(data.items[offset : offset + count])).decode()


@static(_CONVERT, "FromBase64String", STRING)
def _from_base64(_ps: Any, text: str) -> Array:
    try:
        return Array(base64.b64decode(re.sub(r"\s", "", text), validate=True), "System.Byte")
    except (binascii.Error, ValueError) as problem:
        raise thrown(
            "System.FormatException",
            "The input is not a valid Base-64 string as it contains a non-base 64 character, more than two padding"
            " characters, or an illegal character among the padding characters.",
        ) from problem


def _based(kind: str) -> Any:
    width = {INT: 32, LONG: 64, "System.Byte": 8, "System.UInt32": 32, "System.UInt64": 64}[kind]

    def run(_ps: Any, text: str, base: int) -> Any:
        try:
            value = int(text, base)
        except ValueError as problem:
            raise thrown("System.FormatException", "Could not find any recognizable digits.") from problem
        if base != 10 and kind not in _UNSIGNED and value >> (width - 1) == 1:
            value -= 1 << width
        return convert(value, kind)

    return run


for _name, _kind in {"ToInt32": INT, "ToInt64": LONG, "ToByte": "System.Byte", "ToUInt64": "System.UInt64"}.items():
    static(_CONVERT, _name, STRING, INT)(_based(_kind))


@static(_CONVERT, "ToString", LONG, INT)
def _to_base(_ps: Any, value: int, base: int) -> str:
    if base not in (2, 8, 10, 16):
        raise thrown("System.ArgumentException", "Invalid Base.")
    return format(int(value) & ((1 << 64) - 1) if base != 10 else int(value), {2: "b", 8: "o", 10: "d", 16: "x"}[base])


_BITS = "System.BitConverter"
static_getter(_BITS, "IsLittleEndian")(lambda _p: True)


@static(_BITS, "ToString", BYTES)
def _hex(_ps: Any, data: Array | None) -> str:
    if data is None:
        raise null_argument("value")
    return bytes(data.items).hex("-").upper()


@static(_BITS, "ToString", BYTES, INT, INT)
def _hex_part(_ps: Any, data: Array | None, start: int, length: int) -> str:
    check_range(data, start, length, "value")
    assert data is not None
    return bytes(data.items[start : start + length]).hex("-").upper()


def _bit_number(kind: str, size: int, *, signed: bool) -> Any:
    def run(_ps: Any, data: Array | None, start: int) -> Any:
        if data is None:
            raise null_argument("value")
        if not 0 <= start < len(data):
            message = "Index was out of range. Must be non-negative and less than the size of the collection."
            raise thrown("System.ArgumentOutOfRangeException", message, parameter="startIndex")
        if start > len(data) - size:
            raise thrown(
                "System.ArgumentException",
                "Destination array is not long enough to copy all the items in the collection. Check array index and length.",
            )
        return convert(int.from_bytes(bytes(data.items[start : start + size]), "little", signed=signed), kind)

    return run


for _kind, _size in {"Int16": 2, "Int32": 4, "Int64": 8}.items():
    static(_BITS, f"To{_kind}", BYTES, INT)(_bit_number(f"System.{_kind}", _size, signed=True))
    static(_BITS, f"ToU{_kind}", BYTES, INT)(_bit_number(f"System.U{_kind}", _size, signed=False))


@static(_BITS, "GetBytes", OBJECT)
def _get_bytes(_ps: Any, value: Any) -> Array:
    sizes = {"System.Int16": 2, "System.UInt16": 2, INT: 4, "System.UInt32": 4, LONG: 8, "System.UInt64": 8}
    size = sizes.get(type_of(value))
    if size is None:
        raise no_overload("GetBytes", 1)
    return Array(int(value).to_bytes(size, "little", signed=int(value) < 0), "System.Byte")


# -- text encodings ----------------------------------------------------------------------------------------------------


class Encoding(NetObject):
    type_name = "System.Text.Encoding"

    def __init__(self, codec: str, mark: bytes, name: str) -> None:
        self.codec = codec
        self.mark = mark
        self.name = name

    def decode(self, data: bytes) -> str:
        return data.decode(self.codec, "replace")

    def encode(self, text: str) -> bytes:
        return text.encode(self.codec, "replace")


UTF8 = Encoding("utf-8", b"\xef\xbb\xbf", "Unicode (UTF-8)")
PLAIN_UTF8 = Encoding("utf-8", b"", "Unicode (UTF-8)")
UNICODE = Encoding("utf-16-le", b"\xff\xfe", "Unicode")
ASCII = Encoding("ascii", b"", "US-ASCII")
ANSI = Encoding("cp1252", b"", "Western European (Windows)")
_ENCODING = Encoding.type_name
for _name, _encoding in (
    ("UTF8", UTF8),
    ("Unicode", UNICODE),
    ("ASCII", ASCII),
    ("Default", ANSI),
    ("BigEndianUnicode", Encoding("utf-16-be", b"\xfe\xff", "Unicode (Big-Endian)")),
    ("UTF32", Encoding("utf-32-le", b"\xff\xfe\0\0", "Unicode (UTF-32)")),
):
    static_getter(_ENCODING, _name)(lambda _p, e=_encoding: e)
constructor("System.Text.UTF8Encoding")(lambda _p: PLAIN_UTF8)
constructor("System.Text.UTF8Encoding", BOOL)(lambda _p, mark: UTF8 if mark else PLAIN_UTF8)
constructor("System.Text.UnicodeEncoding")(lambda _p: UNICODE)
constructor("System.Text.ASCIIEncoding")(lambda _p: ASCII)
inherits("System.Text.UTF8Encoding", _ENCODING)
method(_ENCODING, "GetBytes", STRING)(lambda _p, e, text: Array(e.encode(text), "System.Byte"))
method(_ENCODING, "GetString", BYTES)(lambda _p, e, data: e.decode(bytes(data.items)))
method(_ENCODING, "GetString", BYTES, INT, INT)(lambda _p, e, data, at, n: e.decode(bytes(data.items[at : at + n])))
method(_ENCODING, "GetPreamble")(lambda _p, e: Array(e.mark, "System.Byte"))
getter(_ENCODING, "EncodingName")(lambda _p, e: e.name)


def decode_marked(data: bytes, otherwise: Encoding) -> str:
    """Text of a file: by its byte order mark, else as told."""
    for encoding in (UTF8, UNICODE):
        if data.startswith(encoding.mark):
            return encoding.decode(data[len(encoding.mark) :])
    return otherwise.decode(data)


# -- collections -------------------------------------------------------------------------------------------------------

_ARRAY = "System.Array"


@static(_ARRAY, "Copy", _ARRAY, _ARRAY, INT)
def _copy(ps: Any, source: Array, target: Array, length: int) -> Any:
    return _copy_part(ps, source, 0, target, 0, length)


@static(_ARRAY, "Copy", _ARRAY, INT, _ARRAY, INT, INT)
def _copy_part(_ps: Any, source: Array, at: int, target: Array, to: int, length: int) -> Any:
    if source is None or target is None:
        raise null_argument("sourceArray" if source is None else "destinationArray")
    if length < 0 or at < 0 or to < 0:
        raise thrown("System.ArgumentOutOfRangeException", "Value has to be >= 0.", parameter="length")
    for array, first, word, index in ((source, at, "Source", "srcIndex"), (target, to, "Destination", "destIndex")):
        if first + length > len(array):
            message = f"{word} array was not long enough. Check {index} and length, and the array's lower bounds."
            raise thrown("System.ArgumentException", message)
    if source.element == target.element:
        target.items[to : to + length] = source.items[at : at + length]
    else:
        for number in range(length):
            target.items[to + number] = convert(source.get(at + number), target.element)
    return VOID


static("System.Buffer", "BlockCopy", _ARRAY, INT, _ARRAY, INT, INT)(_copy_part)


@static(_ARRAY, "Clear", _ARRAY, INT, INT)
def _clear(_ps: Any, target: Array, at: int, length: int) -> Any:
    if at < 0 or length < 0 or at + length > len(target):
        raise thrown("System.IndexOutOfRangeException", "Index was outside the bounds of the array.")
    zero = None if target.element in (OBJECT, STRING, "System.Byte") else convert(None, target.element)
    target.items[at : at + length] = bytes(length) if target.element == "System.Byte" else [zero] * length
    return VOID


@static(_ARRAY, "Reverse", _ARRAY)
def _reverse(_ps: Any, target: Array) -> Any:
    target.items.reverse()
    return VOID


@static(_ARRAY, "IndexOf", _ARRAY, OBJECT)
def _index_of(_ps: Any, target: Array, value: Any) -> int:
    return next((number for number, one in enumerate(target) if same(one, value)), -1)


@static("System.Linq.Enumerable", "SequenceEqual", OBJECT, OBJECT)
def _sequence_equal(_ps: Any, one: Any, two: Any) -> bool:
    """The type argument is inferred from both: arrays of one element type, as PowerShell needs them."""
    if one is None or two is None:
        raise null_argument("first" if one is None else "second")
    kinds = [x.element if isinstance(x, Array | GenericList) else None for x in (one, two)]
    if None in kinds or kinds[0] != kinds[1]:
        raise no_overload("SequenceEqual", 2)
    if kinds[0] == "System.Byte" and isinstance(one, Array) and isinstance(two, Array):
        return bool(one.items == two.items)
    return len(one) == len(two) and all(same(a, b) for a, b in zip(one, two, strict=True))


def _list_index(items: GenericList, number: int) -> None:
    if not 0 <= number < len(items):
        message = "Index was out of range. Must be non-negative and less than the size of the collection."
        raise thrown("System.ArgumentOutOfRangeException", message, parameter="index")


def _list_add(_ps: Any, items: GenericList, value: Any) -> Any:
    items.items.append(convert(value, items.element))
    return len(items) - 1 if items.kind == "ArrayList" else VOID


def _list_range(_ps: Any, items: GenericList, values: Any) -> Any:
    items.items.extend(convert(one, items.element) for one in sequence(values))
    return VOID


def _list_remove_at(_ps: Any, items: GenericList, number: int) -> Any:
    _list_index(items, number)
    del items.items[number]
    return VOID


def _list_remove(_ps: Any, items: GenericList, value: Any) -> Any:
    found = next((n for n, one in enumerate(items.items) if same(one, value)), -1)
    if found >= 0:
        del items.items[found]
    return VOID if items.kind == "ArrayList" else found >= 0


def _list_insert(_ps: Any, items: GenericList, number: int, value: Any) -> Any:
    if not 0 <= number <= len(items):
        _list_index(items, number)
    items.items.insert(number, convert(value, items.element))
    return VOID


def _list_clear(_ps: Any, items: GenericList) -> Any:
    items.items.clear()
    return VOID


def declare_list(type_name: str) -> None:
    method(type_name, "Add", OBJECT)(_list_add)
    method(type_name, "AddRange", OBJECT)(_list_range)
    method(type_name, "RemoveAt", INT)(_list_remove_at)
    method(type_name, "Remove", OBJECT)(_list_remove)
    method(type_name, "Insert", INT, OBJECT)(_list_insert)
    method(type_name, "Clear")(_list_clear)
    method(type_name, "Contains", OBJECT)(lambda _p, items, value: any(same(one, value) for one in items))
    method(type_name, "IndexOf", OBJECT)(
        lambda _p, items, v: next((n for n, one in enumerate(items) if same(one, v)), -1)
    )
    method(type_name, "ToArray")(lambda _p, items: Array(items.items, items.element))


declare_list("System.Collections.ArrayList")
for _kind in (OBJECT, STRING, INT, LONG, "System.Byte", DOUBLE, BOOL, "System.Collections.Hashtable", "System.Byte[]"):
    declare_list(f"System.Collections.Generic.List`1[{_kind}]")
constructor("System.Collections.ArrayList")(lambda _p: GenericList([], kind="ArrayList"))
constructor("System.Collections.ArrayList", OBJECT)(
    lambda _p, items: GenericList([] if is_number(items) else sequence(items), kind="ArrayList")
)


def _table_add(_ps: Any, table: Hashtable, key: Any, value: Any) -> Any:
    if table.has(key):
        raise thrown(
            "System.ArgumentException",
            f"Item has already been added. Key in dictionary: '{to_text(key)}'  Key being added: '{to_text(key)}'",
        )
    table.set(key, value)
    return VOID


def _table_remove(_ps: Any, table: Hashtable, key: Any) -> Any:
    table.remove(key)
    return VOID


def _table_clear(_ps: Any, table: Hashtable) -> Any:
    table.clear()
    return VOID


for _kind in ("System.Collections.Hashtable", "System.Collections.Specialized.OrderedDictionary"):
    constructor(_kind)(lambda _p, k=_kind: Hashtable(ordered=k.endswith("OrderedDictionary")))
    method(_kind, "Add", OBJECT, OBJECT)(_table_add)
    method(_kind, "Remove", OBJECT)(_table_remove)
    method(_kind, "Clear")(_table_clear)
    method(_kind, "Contains", OBJECT)(lambda _p, table, key: table.has(key))
    method(_kind, "GetEnumerator")(lambda _p, table: Array([DictionaryEntry(k, v) for k, v in table.items()]))
method("System.Collections.Hashtable", "ContainsKey", OBJECT)(lambda _p, table, key: table.has(key))


@method("System.Management.Automation.ScriptBlock", "Invoke")
@method("System.Management.Automation.ScriptBlock", "Invoke", OBJECT)
def _invoke_block(ps: Any, block: ScriptBlock, *arguments: Any) -> Any:
    found: list[Any] = []
    ps.drain(ps.invoke_block(block, list(arguments), found.append))
    return GenericList(found)


__all__ = ["Encoding", "check_range", "decode_marked"]
