# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""CIM values as text and back, by the schema: properties, parameters, references, embedded instances, WMI paths, WQL.

WS-Management answers carry no types, so nothing here guesses from the text: the schema says what an element is, and a
text that is not of that type is a `ProtocolError`. The frame of messages is ``wire.py``.
Facts: wsman 3, 5.1-5.3; wire-shapes 1, 2; hyperv-wmi 0.4-0.6; windows-storage 1.2.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from .cim import INTEGER_RANGES, CimClass, CimInstance, CimMethod, CimParameter, CimPath, CimProperty, Schema, Value
from .errors import ProtocolError, SchemaError, ValueRefused, shortened
from .wire import (
    CIM_COMMON,
    XSI,
    bounded_int,
    carried,
    child,
    is_nil,
    local_name,
    namespace_of,
    parse_xml,
    reference,
    resource_uri,
    split_resource_uri,
    text_of,
    xml_text,
)

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

MAX_EMBEDDED_DEPTH = 8  # instances inside instances, references inside keys
MAX_PATH_CHARS = 32_768
MAX_INTERVAL_DAYS = 99_999_999  # eight digits in the DMTF form


# ---------------------------------------------------------------------------------------------------------------------
# WQL and WMI object paths


def wql_literal(text: str) -> str:
    """A quoted WQL string; quotes with the sign that needs less escaping (wsman 2, windows-storage 1.1)."""
    text = carried(text, "A value in a query").replace("\\", "\\\\")
    if "'" in text and '"' not in text:
        return f'"{text}"'
    return "'" + text.replace("'", "\\'") + "'"


_CLASS_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,255}")


def object_path(path: CimPath, host: str | None = None) -> str:
    r"""The WMI path text that properties such as Parent and HostResource hold (wsman 5.3).

    With a host ``\\HOST\root\virtualization\v2:Class.Key="value"``, without one ``root/virtualization/v2:Class.Key=...``;
    backslashes and quotes inside a key's value are escaped with a backslash. A path without keys names the class.
    """
    if host is None:
        prefix = f"{path.namespace}:" if path.namespace else ""
    else:
        prefix = "\\\\" + host + "\\" + path.namespace.replace("/", "\\") + ":"
    return prefix + path.class_name + _path_keys(path, '"')


def _path_keys(path: CimPath, quote: str) -> str:
    def quoted(value: str | CimPath) -> str:
        text = object_path(value) if isinstance(value, CimPath) else carried(value, "A key of a path")
        return quote + text.replace("\\", "\\\\").replace(quote, "\\" + quote) + quote

    pairs = [f"{name}={quoted(value)}" for name, value in path.keys.items()]
    if len(pairs) == 1 and "" in path.keys:
        return pairs[0]
    return f".{','.join(pairs)}" if pairs else ""


def parse_object_path(text: str) -> CimPath:
    r"""The path in a WMI object path; host part dropped, an unnamed key (``Class="x"``) has the name "".

    Raises:
        ProtocolError: the text is not an object path.
    """
    if len(text) > MAX_PATH_CHARS:
        raise ProtocolError(f"A WMI object path has more than {MAX_PATH_CHARS} characters; it was refused.")
    rest = text.strip()
    host = re.match(r"(?:\\\\|//)[^\\/:\"]+[\\/]", rest)
    if host:
        rest = rest[host.end() :]
    place = re.match(r"([^:\"'=.]*):", rest)
    namespace = place.group(1) if place else ""
    rest = rest[place.end() :] if place else rest
    name = _CLASS_NAME.match(rest)
    if not name:
        raise _no_path(text)
    keys = _parse_path_keys(rest[name.end() :], text)
    return CimPath(namespace, name.group(), keys)


_PATH_KEY = re.compile(
    r"([A-Za-z_]\w*|)=(?:\"((?:[^\"\\]|\\.)*)\"|'((?:[^'\\]|\\.)*)'|([^\"',\s][^\"',]*))(,|\Z)", re.ASCII | re.DOTALL
)


def _parse_path_keys(rest: str, whole: str) -> dict[str, str | CimPath]:
    if rest in ("", "=@"):
        return {}
    position = 1 if rest.startswith(".") else 0
    keys: dict[str, str | CimPath] = {}
    while position < len(rest):
        found = _PATH_KEY.match(rest, position)
        if not found or found.group(1) in keys or (not found.group(1) and (keys or rest.startswith("."))):
            raise _no_path(whole)
        double, single, bare = found.group(2, 3, 4)
        if bare is not None:
            value = bare.strip()
        else:
            value = _unescaped(double if double is not None else single)
        keys[found.group(1)] = value
        position = found.end()
        if found.group(5) == "," and (position == len(rest) or not found.group(1)):
            raise _no_path(whole)
    if not keys:
        raise _no_path(whole)
    return keys


def _unescaped(text: str) -> str:
    """Each backslash gives way to the character after it. Every path has some, so no regular expression."""
    if "\\" not in text:
        return text
    return "\\".join(part.replace("\\", "") for part in text.split("\\\\"))


def _no_path(text: str) -> ProtocolError:
    return ProtocolError(f"The text {shortened(text, 80)!r} is not a WMI object path.")


def associators_query(path: CimPath, *, association: str | None, result_class: str) -> str:
    """The WQL that Windows takes over `/*` for the neighbours of one instance (wire-shapes 3)."""
    where = " ".join(
        f"{word} = {_class_word(name)}"
        for word, name in (("AssocClass", association), ("ResultClass", result_class))
        if name
    )
    return f"ASSOCIATORS OF {{{_class_word(path.class_name)}{_path_keys(path, chr(39))}}} WHERE {where}"


def select_query(class_name: str, *, where: str | None = None, select: Sequence[str] | None = None) -> str:
    columns = ",".join(_class_word(name) for name in select) if select else "*"
    condition = f" WHERE {carried(where, 'The query')}" if where else ""
    return f"SELECT {columns} FROM {_class_word(class_name)}{condition}"  # noqa: S608  WQL, and the names were checked


def _class_word(name: str) -> str:
    if not _CLASS_NAME.fullmatch(name):
        raise SchemaError(f"{shortened(name, 60)!r} is not the name of a class or property.")
    return name


# ---------------------------------------------------------------------------------------------------------------------
# Times

_ISO_DATETIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{0,32}))?)?)?\s*(Z|z|[+-]\d{1,2}(?::?\d\d)?)?",
    re.ASCII,
)
_ISO_INTERVAL = re.compile(
    r"(-?)P(?:(\d{1,10})D)?(?:T(?:(\d{1,12})H)?(?:(\d{1,12})M)?(?:(\d{1,12})(?:[.,](\d{0,32}))?S)?)?", re.ASCII
)
_DMTF_DATETIME = re.compile(
    r"(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)\.(\d{6}|\*{6}|\d{1,5}\*{1,5})([+-])(\d{3}|\*{3})", re.ASCII
)
_DMTF_INTERVAL = re.compile(r"(\d{8})(\d\d)(\d\d)(\d\d)\.(\d{6}|\*{6}|\d{1,5}\*{1,5}):000", re.ASCII)


def _microseconds(fraction: str | None) -> int:
    """A fraction of any length, cut (not rounded) to microseconds; ``*`` is WMI's "not known"."""
    return int((fraction or "").replace("*", "0").ljust(6, "0")[:6])


def parse_time(text: str) -> datetime | timedelta:
    """A date or interval in the ISO 8601 form of WS-CIM or in the DMTF form of WMI; a date without a zone is UTC.

    Raises:
        ValueError: it is neither, or no calendar has that day.
    """
    text = text.strip()
    found = _ISO_DATETIME.fullmatch(text)
    if found:
        year, month, day, hour, minute, second = (int(part or 0) for part in found.group(1, 2, 3, 4, 5, 6))
        zone = found.group(8) or "Z"
        offset = timedelta(0)
        if zone not in "Zz":
            digits = zone[1:].replace(":", "")
            hours, minutes = (digits[:-2], digits[-2:]) if len(digits) > 2 else (digits, "0")
            offset = timedelta(hours=int(hours), minutes=int(minutes)) * (-1 if zone[0] == "-" else 1)
        return datetime(year, month, day, hour, minute, second, _microseconds(found.group(7)), timezone(offset))
    found = _ISO_INTERVAL.fullmatch(text)
    if found and text[-1] not in "PT":
        days, hours_, minutes_, seconds = (int(part or 0) for part in found.group(2, 3, 4, 5))
        length = _interval(days, hours_, minutes_, seconds, _microseconds(found.group(6)))
        return -length if found.group(1) else length
    found = _DMTF_DATETIME.fullmatch(text)
    if found:
        year, month, day, hour, minute, second = (int(part) for part in found.group(1, 2, 3, 4, 5, 6))
        away = 0 if "*" in found.group(9) else int(found.group(9)) * (-1 if found.group(8) == "-" else 1)
        zone_ = timezone(timedelta(minutes=away))
        return datetime(year, month, day, hour, minute, second, _microseconds(found.group(7)), zone_)
    found = _DMTF_INTERVAL.fullmatch(text)
    if found:
        days, hours_, minutes_, seconds = (int(part) for part in found.group(1, 2, 3, 4))
        return _interval(days, hours_, minutes_, seconds, _microseconds(found.group(5)))
    raise ValueError("not a date and not an interval")


def _interval(days: int, hours: int, minutes: int, seconds: int, microseconds: int) -> timedelta:
    try:
        return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds, microseconds=microseconds)
    except OverflowError:
        raise ValueError("an interval of more than 999999999 days") from None


def _interval_parts(value: timedelta, what: str) -> tuple[int, int, int, int, int]:
    if value < timedelta(0) or value.days > MAX_INTERVAL_DAYS:
        raise ValueRefused(
            f"{what} is an interval that CIM cannot hold; it must be between 0 and {MAX_INTERVAL_DAYS} days."
        )
    hours, rest = divmod(value.seconds, 3600)
    return value.days, hours, rest // 60, rest % 60, value.microseconds


def dmtf_time(value: datetime | timedelta, what: str) -> str:
    """``00000000003000.000000:000`` or ``20130415202612.701000+000``: the only form inside embedded instances."""
    if isinstance(value, timedelta):
        days, hours, minutes, seconds, microseconds = _interval_parts(value, what)
        return f"{days:08d}{hours:02d}{minutes:02d}{seconds:02d}.{microseconds:06d}:000"
    value = _in_utc(value, what)
    return f"{value.year:04d}{value:%m%d%H%M%S}.{value.microsecond:06d}+000"


def iso_time(value: datetime | timedelta, what: str) -> str:
    """The WS-CIM form: ``2013-04-15T20:26:12.701000Z`` or ``P0DT0H30M0S``."""
    if isinstance(value, timedelta):
        days, hours, minutes, seconds, microseconds = _interval_parts(value, what)
        return f"P{days}DT{hours}H{minutes}M{seconds}{f'.{microseconds:06d}' if microseconds else ''}S"
    return f"{_in_utc(value, what).replace(tzinfo=None).isoformat()}Z"


def _in_utc(value: datetime, what: str) -> datetime:
    if value.utcoffset() is None:
        raise ValueRefused(f"{what} is a date without a time zone; give it one, Windows reads it as UTC.")
    try:
        return value.astimezone(timezone.utc)
    except OverflowError:
        raise ValueRefused(f"{what} is a date beyond the calendar; use one between year 1 and 9999.") from None


# ---------------------------------------------------------------------------------------------------------------------
# Scalars in


def _read_boolean(text: str) -> bool:
    word = text.strip().lower()
    if word in ("true", "1"):
        return True
    if word in ("false", "0"):
        return False
    raise ValueError("neither true nor false")


def _read_real(text: str) -> float:
    word = text.strip()
    if len(word) > 400 or not re.fullmatch(
        r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,4})?|[+-]?INF|NaN", word, re.ASCII
    ):
        raise ValueError("not a number")
    return float(word)


def _read_char16(text: str) -> str | None:
    """One character, or its code unit in decimal; NUL, "0" and nothing are "no character" (windows-storage 1.2)."""
    if text in ("", "\0", "0"):
        return None
    if len(text) == 1:
        return text
    number = bounded_int(text)
    if number is None or not 0 <= number <= 0xFFFF or 0xD800 <= number <= 0xDFFF:
        stripped = text.strip()
        if len(stripped) <= 1:
            return stripped or None
        raise ValueError("not one character")
    return chr(number) if number else None


def _read_integer(kind: str) -> Callable[[str], int]:
    low, high = INTEGER_RANGES[kind]

    def read(text: str) -> int:
        number = bounded_int(text)
        if number is None or not low <= number <= high:
            raise ValueError(f"not a number from {low} to {high}")
        return number

    return read


_SCALARS: Mapping[str, Callable[[str], Value]] = {
    **{kind: _read_integer(kind) for kind in INTEGER_RANGES},
    "boolean": _read_boolean,
    "real32": _read_real,
    "real64": _read_real,
    "char16": _read_char16,
    "string": str,
    "datetime": parse_time,
    "reference": parse_object_path,
}


@dataclass(frozen=True)
class _Reader:
    """What decoding needs to know wherever it is: the schema, the namespace asked, how deep it already is."""

    schema: Schema
    namespace: str
    depth: int = 0

    def deeper(self) -> _Reader:
        if self.depth >= MAX_EMBEDDED_DEPTH:
            raise ProtocolError(f"The answer nests instances deeper than {MAX_EMBEDDED_DEPTH}; it was refused.")
        return _Reader(self.schema, self.namespace, self.depth + 1)

    def scalar(self, text: str, kind: str, what: str) -> Value:
        try:
            return _SCALARS[kind](text)
        except (ValueError, OverflowError) as error:
            raise ProtocolError(f"{what} should be {kind} but holds {shortened(text, 60)!r} ({error}).") from None

    def value(self, element: Element, kind: CimProperty | CimParameter, what: str) -> Value:
        """One value element, xsi:nil being None."""
        if is_nil(element):
            return None
        if kind.type == "reference":
            return self.reference(element, what)
        if kind.type in ("object", "instance") or (kind.type == "string" and kind.embedded):
            return self.embedded(element, kind.embedded, what)
        if kind.type == "datetime":
            inner = next(
                (one for one in element if local_name(one.tag).lower() in ("datetime", "interval", "date")), None
            )
            text = text_of(inner if inner is not None else element)
            return self.scalar(text, "datetime", what) if text else None
        if len(element):
            raise ProtocolError(f"{what} should be {kind.type} but holds XML elements.")
        text = element.text or ""
        if not text.strip() and kind.type not in ("string", "char16"):
            return None
        return self.scalar(text, kind.type, what)

    def values(self, elements: Sequence[Element], kind: CimProperty | CimParameter, what: str) -> Value:
        """All elements of one name: a list for an array (a lone nil is the empty one), else the only value."""
        if kind.is_array:
            if len(elements) == 1 and is_nil(elements[0]):
                return []
            return [self.value(one, kind, what) for one in elements]
        if len(elements) > 1:
            raise _one_value(what, len(elements))
        return self.value(elements[0], kind, what)

    def reference(self, element: Element, what: str) -> CimPath | None:
        """The path in an endpoint reference, with or without the EndpointReference wrapper, or in path text."""
        wrapper = child(element, "EndpointReference")
        outer = wrapper if wrapper is not None else element
        parameters = child(outer, "ReferenceParameters")
        if parameters is None:
            if len(outer) == 0 and text_of(outer):
                return parse_object_path(text_of(outer))
            if len(outer) == 0:
                return None
            raise ProtocolError(f"{what} should be a reference but holds no ReferenceParameters.")
        return self.path(parameters, what)

    def path(self, parameters: Element, what: str) -> CimPath:
        uri = text_of(child(parameters, "ResourceURI"))
        place = split_resource_uri(uri)
        if place is None:
            raise ProtocolError(f"{what} refers to {shortened(uri, 120)!r}, which is not a WMI class.")
        namespace, class_name = place
        keys: dict[str, str | CimPath] = {}
        selectors = child(parameters, "SelectorSet")
        for one in selectors if selectors is not None else ():
            if local_name(one.tag) != "Selector":
                continue
            name = one.get("Name", "")
            if name.lower() == "__cimnamespace":
                namespace = namespace or text_of(one)
                continue
            nested = self.deeper().reference(one, what) if len(one) else None
            keys[name] = nested if nested is not None else one.text or ""
        return CimPath(namespace or self.namespace, class_name, keys)

    def embedded(self, element: Element, class_name: str | None, what: str) -> Value:
        """An instance nested as elements, or its CIM-XML text."""
        if len(element):
            return self.deeper().instance(element, class_name, what=what, nested=True)
        text = element.text or ""
        return self.deeper().instance_text(text, class_name, what) if text.strip() else None

    def instance(
        self,
        element: Element,
        class_name: str | None,
        *,
        what: str = "",
        path: CimPath | None = None,
        nested: bool = False,
    ) -> CimInstance:
        """A row, or an instance nested in a property. Its own class decodes it if the schema has it, else ``class_name``.

        The children of w:XmlFragment (a projection) have no namespace and are decoded by ``class_name``; arrays that are
        not there stay absent then, for they may not have been asked for.
        """
        namespace, own_name, projection = self._identity(element, class_name, nested=nested)
        cim_class = self.schema.find(namespace, own_name) or (
            self.schema.find(self.namespace, class_name) or self.schema.find_by_name(class_name) if class_name else None
        )
        if cim_class is None:
            raise SchemaError(
                f"The answer holds an instance of {shortened(own_name, 80)} in {shortened(namespace, 80)}, which the "
                f"schema does not know; state the class before asking for it."
            )
        properties: dict[str, Value] = {}
        others: dict[str, tuple[CimProperty, list[Element]]] = {}
        readers = _scalar_readers(cim_class)
        for one in element:
            tag = one.tag
            name = tag[tag.rfind("}") + 1 :]
            read = readers.get(name)
            text = one.text
            # Nearly all: a scalar with text and no attribute (xsi:nil is one). Everything else takes the long way.
            if read is not None and text and not one.attrib and not len(one) and name not in properties:
                try:
                    properties[name] = read(text)
                    continue
                except (ValueError, OverflowError):
                    pass
            known = cim_class.property_named(name)
            if known is not None:
                others.setdefault(known[0], (known[1], []))[1].append(one)
        for name, (kind, elements) in others.items():
            if name in properties:
                raise _one_value(f"{what or own_name}.{name}", len(elements) + 1)
            properties[name] = self.values(elements, kind, f"{what or own_name}.{name}")
        if not projection:
            _add_absent_arrays(properties, cim_class)
        same_place = cim_class.namespace.lower() == namespace.lower()
        return CimInstance(own_name, cim_class.namespace if same_place else namespace, properties, path)

    def _identity(self, element: Element, class_name: str | None, *, nested: bool) -> tuple[str, str, bool]:
        """(namespace, class, is it a projection) of an instance element."""
        if nested:
            # A nested instance has the parameter's name; its class is in xsi:type, or in the namespace of its children.
            place = next(filter(None, (split_resource_uri(namespace_of(one.tag)) for one in element)), None)
            stated = element.get(f"{{{XSI}}}type", "").rpartition(":")[2].removesuffix("_Type")
            name = stated or (place[1] if place else "") or class_name or ""
            return (place[0] if place else "") or self.namespace, name, False
        name = local_name(element.tag)
        if name == "XmlFragment":
            return self.namespace, class_name or name, True
        place = split_resource_uri(namespace_of(element.tag))
        return (place[0] if place else "") or self.namespace, name, False

    def instance_text(self, text: str, class_name: str | None, what: str) -> CimInstance:
        """The instance in a CIM-XML text; properties that the schema does not type are read by their TYPE attribute."""
        root = parse_xml(text)
        element = root if local_name(root.tag) == "INSTANCE" else root.find(".//INSTANCE")
        if element is None:
            raise ProtocolError(f"{what} should hold the text of an embedded instance but holds no INSTANCE.")
        own_name = element.get("CLASSNAME", "") or class_name or ""
        cim_class = self.schema.find(self.namespace, own_name) or (
            self.schema.find(self.namespace, class_name) if class_name else None
        )
        properties: dict[str, Value] = {}
        for one in element:
            tag, name = local_name(one.tag), one.get("NAME", "")
            if tag not in ("PROPERTY", "PROPERTY.ARRAY", "PROPERTY.REFERENCE") or not name:
                continue
            kind: CimProperty | None
            if cim_class is not None:
                known = cim_class.property_named(name)
                if known is None:
                    continue
                name, kind = known
            else:
                kind = _stated_type(one, tag)
            properties[name] = self._property_text(one, kind, f"{own_name}.{name}")
        if cim_class is not None:
            _add_absent_arrays(properties, cim_class)
        return CimInstance(own_name, self.namespace, properties)

    def _property_text(self, element: Element, kind: CimProperty, what: str) -> Value:
        holder = child(element, "VALUE.ARRAY")
        elements = [one for one in (element if holder is None else holder) if local_name(one.tag).startswith("VALUE")]
        nils = {"VALUE.NULL"}
        values = [None if local_name(one.tag) in nils else self._value_text(one, kind, what) for one in elements]
        if kind.is_array:
            return values
        if len(values) > 1:
            raise _one_value(what, len(values))
        return values[0] if values else None

    def _value_text(self, element: Element, kind: CimProperty, what: str) -> Value:
        if local_name(element.tag) == "VALUE.REFERENCE":
            return self._key_path(element, what)
        text = element.text or ""
        if kind.type in ("object", "instance") or (kind.type == "string" and kind.embedded):
            return self.deeper().instance_text(text, kind.embedded, what) if text.strip() else None
        if not text.strip() and kind.type not in ("string", "char16"):
            return None
        return self.scalar(text, kind.type, what)

    def _key_path(self, element: Element, what: str) -> CimPath:
        """The path in a VALUE.REFERENCE, from its names and key values."""
        name = next((one for one in element.iter() if local_name(one.tag) == "INSTANCENAME"), None)
        if name is None:
            raise ProtocolError(f"{what} should be a reference but holds no INSTANCENAME.")
        keys: dict[str, str | CimPath] = {
            one.get("NAME", ""): text_of(child(one, "KEYVALUE")) for one in name if local_name(one.tag) == "KEYBINDING"
        }
        steps = [one.get("NAME", "") for one in element.iter() if local_name(one.tag) == "NAMESPACE"]
        return CimPath("/".join(steps) or self.namespace, name.get("CLASSNAME", ""), keys)


def _one_value(what: str, times: int) -> ProtocolError:
    return ProtocolError(f"{what} is one value by the schema but came {times} times.")


def _scalar_readers(cim_class: CimClass) -> Mapping[str, Callable[[str], Value]]:
    """By the schema's spelling, how the text of a property without inner structure is read; made once per class."""
    made: Mapping[str, Callable[[str], Value]] | None = cim_class.__dict__.get("_scalar_readers")
    if made is None:
        made = {
            name: _SCALARS[kind.type]
            for name, kind in cim_class.properties.items()
            if kind.type in _SCALARS
            and kind.type not in ("datetime", "reference", "char16")
            and not kind.is_array
            and kind.embedded is None
        }
        object.__setattr__(cim_class, "_scalar_readers", made)
    return made


def _add_absent_arrays(properties: dict[str, Value], cim_class: CimClass) -> None:
    for name, kind in cim_class.properties.items():
        if kind.is_array and name not in properties:
            properties[name] = []


def _stated_type(element: Element, tag: str) -> CimProperty:
    if tag == "PROPERTY.REFERENCE":
        return CimProperty("reference")
    stated = element.get("TYPE", "string").strip().lower()
    return CimProperty(stated if stated in _SCALARS else "string", is_array=tag == "PROPERTY.ARRAY")


def decode_instance(
    element: Element, *, schema: Schema, namespace: str, class_name: str, path: CimPath | None = None
) -> CimInstance:
    """One row of an enumeration or the body of a Get; ``class_name`` is the class that was asked for."""
    return _Reader(schema, namespace).instance(element, class_name, path=path)


def decode_reference(element: Element, *, schema: Schema, namespace: str, what: str) -> CimPath | None:
    """The path in an EndpointReference element (or in an element that holds its children)."""
    return _Reader(schema, namespace).reference(element, what)


def decode_embedded_instance(
    text: str, *, schema: Schema, namespace: str, class_name: str | None = None
) -> CimInstance:
    """The instance in the CIM-XML text of a string property or parameter."""
    return _Reader(schema, namespace).instance_text(text, class_name, class_name or "The embedded instance")


def decode_output(
    output: Element, *, schema: Schema, namespace: str, class_name: str, method: CimMethod
) -> tuple[int | None, dict[str, Value]]:
    """(ReturnValue, out parameters) of a ``Method_OUTPUT``; a parameter that is not there is None, an array ``[]``."""
    reader = _Reader(schema, namespace)
    groups: dict[str, list[Element]] = {}
    for one in output:
        groups.setdefault(local_name(one.tag).lower(), []).append(one)
    out: dict[str, Value] = {}
    for parameter in method.parameters:
        if parameter.direction == "in":
            continue
        elements = groups.get(parameter.name.lower(), [])
        what = f"{class_name}.{method.name}: {parameter.name}"
        absent: Value = [] if parameter.is_array else None
        out[parameter.name] = reader.values(elements, parameter, what) if elements else absent
    returned: Value = None
    if method.returns is not None and "returnvalue" in groups:
        # Some methods return an HRESULT (windows-storage 1.3); as a signed number it means the same 32 bits.
        text = text_of(groups["returnvalue"][0])
        number = bounded_int(text) if method.returns == "uint32" and text.startswith("-") else None
        if number is not None and number >= -(2**31):
            return number & 0xFFFFFFFF, out
        kind = CimProperty(method.returns)
        returned = reader.values(groups["returnvalue"], kind, f"{class_name}.{method.name}: ReturnValue")
    return (int(returned) if isinstance(returned, int) else None), out


# ---------------------------------------------------------------------------------------------------------------------
# Values out


def _scalar_text(value: object, kind: str, what: str) -> str:
    """The WS-CIM text of a scalar that is neither a time, a reference nor an instance. Never shows the value."""
    if kind in INTEGER_RANGES:
        low, high = INTEGER_RANGES[kind]
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return str(value)
        raise ValueRefused(f"{what} needs a {kind} ({low} to {high}) but was given {_told(value)}.")
    if kind == "boolean":
        if isinstance(value, bool):
            return "true" if value else "false"
    elif kind == "string":
        if isinstance(value, str):
            return carried(value, what)
    elif kind == "char16":
        if isinstance(value, str) and len(value) == 1 and ord(value) <= 0xFFFF:
            return carried(value, what)
    elif isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return repr(float(value))
    raise ValueRefused(f"{what} needs a {kind} but was given {_told(value)}.")


def _told(value: object) -> str:
    """What a value is, without telling it: it may be a secret."""
    if isinstance(value, int) and not isinstance(value, bool):
        return "a number outside of that range"
    return f"a value of type {type(value).__name__}"


def _listed(value: Value, kind: CimProperty | CimParameter, what: str) -> list[object]:
    """The single values of an argument. An array wants a list, a scalar must not have one."""
    if isinstance(value, (list, tuple)):
        if not kind.is_array:
            raise ValueRefused(f"{what} takes one value but was given a list.")
        if any(one is None for one in value):
            raise ValueRefused(f"{what} was given a list with a null in it; leave the null out.")
        return list(value)
    if kind.is_array:
        raise ValueRefused(f"{what} takes a list but was given {_told(value)}.")
    return [value]


def _is_embedded_text(kind: CimProperty | CimParameter) -> bool:
    return kind.type == "instance" or (kind.type == "string" and kind.embedded is not None)


# Inside VALUE Windows takes `&#38;` and `&#60;` but neither `&amp;` nor `&lt;` (wsman 5.3).
_VALUE_ESCAPES = str.maketrans({"&": "&#38;", "<": "&#60;", ">": "&gt;", "\n": "&#xA;", "\r": "&#xD;", "\t": "&#x9;"})


@dataclass(frozen=True)
class _Writer:
    """What encoding needs to know wherever it is: the schema, the namespace of the class, how deep it already is."""

    schema: Schema
    namespace: str | None
    depth: int = 0

    def deeper(self, namespace: str) -> _Writer:
        if self.depth >= MAX_EMBEDDED_DEPTH:
            raise ValueRefused(f"The value nests instances deeper than {MAX_EMBEDDED_DEPTH}.")
        return _Writer(self.schema, namespace or self.namespace, self.depth + 1)

    def known(self, class_name: str) -> CimClass:
        if self.namespace:
            return self.schema.require(self.namespace, class_name)
        found = self.schema.find_by_name(class_name)
        if found is None:
            raise SchemaError(f"The schema has no class {class_name}; state it before using it.")
        return found

    def elements(self, value: Value, name: str, prefix: str, kind: CimProperty | CimParameter, what: str) -> str:
        """The element (for an array: elements) of one parameter or nested property; nothing for None."""
        if value is None:
            return ""
        parts = []
        for one in _listed(value, kind, what):
            attributes, content = "", ""
            if kind.type == "object":
                attributes, content = self.nested(one, what)
            else:
                content = self.content(one, kind, what)
            parts.append(f"<{prefix}:{name}{attributes}>{content}</{prefix}:{name}>")
        return "".join(parts)

    def content(self, value: object, kind: CimProperty | CimParameter, what: str) -> str:
        if kind.type == "reference":
            if not isinstance(value, CimPath):
                raise ValueRefused(f"{what} needs the path of an instance but was given {_told(value)}.")
            return reference(value)
        if _is_embedded_text(kind):
            return xml_text(self.embedded_text(value, what), what)
        if kind.type == "datetime":
            if not isinstance(value, (datetime, timedelta)):
                raise ValueRefused(f"{what} needs a date or an interval but was given {_told(value)}.")
            word = "Interval" if isinstance(value, timedelta) else "Datetime"
            return f'<cim:{word} xmlns:cim="{CIM_COMMON}">{iso_time(value, what)}</cim:{word}>'
        return xml_text(_scalar_text(value, kind.type, what), what)

    def nested(self, value: object, what: str) -> tuple[str, str]:
        """(attributes, content) of an element that holds a real embedded object: children in its class's namespace."""
        if not isinstance(value, CimInstance):
            raise ValueRefused(f"{what} needs an instance but was given {_told(value)}.")
        inner = self.deeper(value.namespace)
        cim_class = inner.known(value.class_name)
        prefix = f"o{inner.depth}"
        content = "".join(
            inner.elements(one, name, prefix, kind, f"{cim_class.name}.{name}")
            for name, kind, one in _known_properties(cim_class, value.properties)
        )
        uri = resource_uri(cim_class.namespace, cim_class.name)
        return f' xmlns:{prefix}="{uri}" xmlns:xsi="{XSI}" xsi:type="{prefix}:{cim_class.name}_Type"', content

    def embedded_text(self, value: object, what: str) -> str:
        if isinstance(value, str):
            return value
        if isinstance(value, CimInstance):
            return self.deeper(value.namespace).instance_text(value.class_name, value.properties)
        raise ValueRefused(f"{what} needs an instance (or its CIM-XML text) but was given {_told(value)}.")

    def instance_text(self, class_name: str, properties: Mapping[str, Value]) -> str:
        cim_class = self.known(class_name)
        parts = []
        for name, kind, value in _known_properties(cim_class, properties):
            if value is None:
                continue
            what = f"{cim_class.name}.{name}"
            texts = [f"<VALUE>{self.value_text(one, kind, what)}</VALUE>" for one in _listed(value, kind, what)]
            stated = "string" if _is_embedded_text(kind) else kind.type
            if kind.is_array:
                array = f"<VALUE.ARRAY>{''.join(texts)}</VALUE.ARRAY>"
                parts.append(f'<PROPERTY.ARRAY NAME="{name}" TYPE="{stated}">{array}</PROPERTY.ARRAY>')
            else:
                parts.append(f'<PROPERTY NAME="{name}" TYPE="{stated}">{texts[0]}</PROPERTY>')
        return f'<INSTANCE CLASSNAME="{cim_class.name}">{"".join(parts)}</INSTANCE>'

    def value_text(self, value: object, kind: CimProperty, what: str) -> str:
        if kind.type in ("reference", "object"):
            raise SchemaError(f"{what} is a {kind.type}, which cannot be written inside an embedded instance.")
        if _is_embedded_text(kind):
            text = carried(self.embedded_text(value, what), what)
        elif kind.type == "datetime":
            if not isinstance(value, (datetime, timedelta)):
                raise ValueRefused(f"{what} needs a date or an interval but was given {_told(value)}.")
            text = dmtf_time(value, what)
        else:
            text = _scalar_text(value, kind.type, what)
        return text.translate(_VALUE_ESCAPES)


def _known_properties(cim_class: CimClass, properties: Mapping[str, Value]) -> list[tuple[str, CimProperty, Value]]:
    known = []
    for name, value in properties.items():
        found = cim_class.property_named(name)
        if found is None:
            raise SchemaError(
                f"Class {cim_class.name} in {cim_class.namespace} has no property {name}; nothing was sent."
            )
        known.append((*found, value))
    return known


def encode_input(arguments: Mapping[str, Value], *, schema: Schema, cim_class: CimClass, method: CimMethod) -> str:
    """The ``Method_INPUT`` body. Arguments are matched by name without case and written in the schema's spelling; None
    is left out, and so is an empty list, for WS-Management has no empty arrays.

    Raises:
        SchemaError: the method has no such parameter, or it is only an output.
        ValueRefused: a value is not of the parameter's type, or cannot be carried.
    """
    writer = _Writer(schema, cim_class.namespace)
    parts = []
    given: set[str] = set()
    for name, value in arguments.items():
        parameter = method.parameter(name)
        if parameter is None or parameter.direction == "out":
            raise SchemaError(f"{cim_class.name}.{method.name} takes no parameter {name}; nothing was sent.")
        if parameter.name in given:
            raise SchemaError(f"{cim_class.name}.{method.name} was given {parameter.name} twice; nothing was sent.")
        given.add(parameter.name)
        what = f"{cim_class.name}.{method.name}: {parameter.name}"
        parts.append(writer.elements(value, parameter.name, "i", parameter, what))
    uri = resource_uri(cim_class.namespace, cim_class.name)
    return f'<i:{method.name}_INPUT xmlns:i="{uri}">{"".join(parts)}</i:{method.name}_INPUT>'


def embedded_instance(
    class_name: str, properties: Mapping[str, Value], schema: Schema, *, namespace: str | None = None
) -> str:
    """The CIM-XML text of an instance, for the string parameters of Hyper-V's methods (wsman 5.2, 5.3).

    Only what is given is written: a property that is None or missing stays unchanged on the host; write 0, False or ""
    to set those. An empty list is written as an empty array. ``namespace`` is needed only when several have the class.

    Raises:
        SchemaError: the class or a property is unknown to the schema.
        ValueRefused: a value is not of the property's type, or cannot be carried.
    """
    return _Writer(schema, namespace).instance_text(class_name, properties)
