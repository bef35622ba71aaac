# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Embedded instances: CIM-XML `<INSTANCE>` text read into and written from Instance values.

Facts: wsman 5.2 and 5.3, hyperv-wmi 0.4 to 0.6. What Windows does not take comes out as EmbeddedRefused with the
return code that the virtualization provider gives; turning that into an answer is the business of the service.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from .assumed import assumed
from .cim import Instance, Ref, Value, parse_object_path
from .schema import INTEGER_RANGES, Class, Property, Schema, Type

FAILED = 32768
INVALID_PARAMETER = 32773

assumed(
    "embedded-amp",
    "The entity &amp; inside a VALUE of an embedded instance makes the call fail with 32768; &#38; works.",
    source="wsman 5.3, one claim",
    values=("refused", "accepted"),
)
assumed(
    "embedded-lt",
    "The entity &lt; inside a VALUE of an embedded instance makes the call fail with 32773; &#60; works.",
    source="wsman 5.3, one claim",
    values=("refused", "accepted"),
)
assumed(
    "embedded-iso-interval",
    "A datetime of an embedded instance that is not in DMTF form, or not marked TYPE datetime, gives 32768.",
    source="wsman 5.3, one claim",
    values=("refused", "accepted"),
)
assumed(
    "embedded-unknown-property",
    "An embedded instance that names a property its class does not have gives 32773.",
    source="no source; Windows may ignore it",
    values=("refused", "ignored"),
)
assumed(
    "embedded-malformed",
    "Embedded text that is no well-formed INSTANCE of a known class gives 32773.",
    source="hyperv-wmi 0.5: bad path strings give 32773; no source for the text itself",
)

Assume = Callable[[str], str]


class EmbeddedRefused(Exception):
    """The provider does not take the text: `code` is the return value (or job error code) that says so."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.code = code


_DMTF_TIME = re.compile(r"(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)\.(\d{6})([+-])(\d{3})")
_DMTF_INTERVAL = re.compile(r"(\d{8})(\d\d)(\d\d)(\d\d)\.(\d{6}):000")


def parse_dmtf(text: str) -> datetime | timedelta | None:
    """A DMTF datetime or interval; None when the text is neither."""
    interval = _DMTF_INTERVAL.fullmatch(text)
    if interval:
        days, hours, minutes, seconds, micro = (int(part) for part in interval.groups())
        return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds, microseconds=micro)
    moment = _DMTF_TIME.fullmatch(text)
    if not moment:
        return None
    *numbers, sign, offset = moment.groups()
    year, month, day, hour, minute, second, micro = (int(part) for part in numbers)
    zone = timezone(timedelta(minutes=int(offset) * (-1 if sign == "-" else 1)))
    try:
        return datetime(year, month, day, hour, minute, second, micro, tzinfo=zone)
    except ValueError:
        return None


def dmtf(value: datetime | timedelta) -> str:
    """The DMTF text: `20260722120000.000000+000`, `00000000003000.000000:000`."""
    if isinstance(value, timedelta):
        minutes, seconds = divmod(value.seconds, 60)
        hours, minutes = divmod(minutes, 60)
        return f"{value.days:08d}{hours:02d}{minutes:02d}{seconds:02d}.{value.microseconds:06d}:000"
    offset = value.utcoffset() or timedelta(0)
    minutes = int(offset.total_seconds() // 60)
    return f"{value:%Y%m%d%H%M%S}.{value.microsecond:06d}{'-' if minutes < 0 else '+'}{abs(minutes):03d}"


def read_instance(text: str, schema: Schema, namespace: str, assume: Assume) -> Instance:
    """One `<INSTANCE CLASSNAME=...>` text as an Instance that holds only the properties the text gives a value."""
    if "&amp;" in text and assume("embedded-amp") == "refused":
        raise EmbeddedRefused(FAILED, "the entity &amp; in an embedded instance")
    if "&lt;" in text and assume("embedded-lt") == "refused":
        raise EmbeddedRefused(INVALID_PARAMETER, "the entity &lt; in an embedded instance")
    assume("embedded-malformed")
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise EmbeddedRefused(INVALID_PARAMETER, "a document type in an embedded instance")
    try:
        root = ET.fromstring(text.strip())
    except ET.ParseError as error:
        raise EmbeddedRefused(INVALID_PARAMETER, f"embedded text is no XML: {error}") from None
    if root.tag != "INSTANCE":
        root = next(iter(root.iter("INSTANCE")), root)  # the DTD 2.0 dump wraps it in declaration elements
    entry = schema.find(namespace, root.get("CLASSNAME", ""))
    if root.tag != "INSTANCE" or entry is None:
        raise EmbeddedRefused(INVALID_PARAMETER, f"embedded text is no instance of a known class: {root.attrib}")
    out = Instance(namespace=entry.namespace, class_name=entry.name)
    for element in root:
        if element.tag not in ("PROPERTY", "PROPERTY.ARRAY", "PROPERTY.REFERENCE"):
            continue
        name = element.get("NAME", "")
        if name.startswith("__"):
            continue
        found = entry.find_property(name)
        if found is None:
            if assume("embedded-unknown-property") == "refused":
                raise EmbeddedRefused(INVALID_PARAMETER, f"{entry.name} has no property {name}")
            continue
        if element.tag == "PROPERTY.REFERENCE" or not len(element):
            continue
        out.properties[found.name] = _read_property(element, found, entry, assume)
    return out


def _read_property(element: ET.Element, found: Property, entry: Class, assume: Assume) -> Value:
    is_array = element.tag == "PROPERTY.ARRAY"
    if is_array != found.type.array:
        raise EmbeddedRefused(INVALID_PARAMETER, f"{entry.name}.{found.name}: array and scalar mixed up")
    kind_word = element.get("TYPE", "")
    if (
        found.type.base == "datetime"
        and kind_word.lower() != "datetime"
        and assume("embedded-iso-interval") == "refused"
    ):
        raise EmbeddedRefused(FAILED, f"{entry.name}.{found.name}: TYPE {kind_word}, datetime is needed")
    where = f"{entry.name}.{found.name}"
    if is_array:
        return [_scalar(value.text or "", found.type, where, assume) for value in element.iter("VALUE")]
    value = element.find("VALUE")
    return None if value is None else _scalar(value.text or "", found.type, where, assume)


def _scalar(text: str, kind: Type, where: str, assume: Assume) -> Any:
    if kind.base in ("string", "char16", "object"):
        return text
    text = text.strip()
    if kind.base == "boolean":
        if text.lower() not in ("true", "false"):
            raise EmbeddedRefused(INVALID_PARAMETER, f"{where}: {text!r} is no boolean")
        return text.lower() == "true"
    if kind.base == "datetime":
        moment = parse_dmtf(text)
        if moment is None:
            if assume("embedded-iso-interval") == "refused":
                raise EmbeddedRefused(FAILED, f"{where}: {text!r} is not in DMTF form")
            return None
        return moment
    try:
        if kind.base == "ref":
            return parse_object_path(text)
        if kind.base in INTEGER_RANGES:
            number = int(text, 0)
            low, high = INTEGER_RANGES[kind.base]
            if not low <= number <= high:
                raise ValueError
            return number
        return float(text)
    except ValueError:
        raise EmbeddedRefused(INVALID_PARAMETER, f"{where}: {text!r} is no {kind.base}") from None


def write_instance(instance: Instance, schema: Schema, host: str) -> str:
    """The text that Windows gives for an embedded instance; unset properties are there without a VALUE."""
    entry = schema.get(instance.namespace, instance.class_name)
    parts = [f"<INSTANCE CLASSNAME={quoteattr(entry.name)}>"]
    for name, found in entry.properties.items():
        value = instance.get(name)
        tag = "PROPERTY.ARRAY" if found.type.array else "PROPERTY"
        kind = "string" if found.type.base in ("ref", "object") else found.type.base
        if value is None:
            parts.append(
                f'<{tag} NAME="{name}" CLASSORIGIN="{found.declared_by}" PROPAGATED="true" TYPE="{kind}"></{tag}>'
            )
            continue
        parts.append(f'<{tag} NAME="{name}" TYPE="{kind}">')
        if isinstance(value, list):
            items = "".join(f"<VALUE>{_text(item, schema, host)}</VALUE>" for item in value)
            parts.append(f"<VALUE.ARRAY>{items}</VALUE.ARRAY>")
        else:
            parts.append(f"<VALUE>{_text(value, schema, host)}</VALUE>")
        parts.append(f"</{tag}>")
    parts.append("</INSTANCE>")
    return "".join(parts)


def _text(value: Any, schema: Schema, host: str) -> str:
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, (datetime, timedelta)):
        return dmtf(value)
    if isinstance(value, Ref):
        return escape(value.path(host))
    if isinstance(value, Instance):
        return escape(write_instance(value, schema, host))
    return escape(str(value))
