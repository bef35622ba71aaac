# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Server-side WS-Management codec: requests of any client into data, answers in the shapes that Windows sends.

Requests are read by namespace and local name, never by prefix. Answers are text built to the recorded shapes (facts:
wire-shapes 1, wsman 1 to 6). This file holds no state, decides no access and knows no machine; what an operation
means is endpoint.py and service.py.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from .assumed import assumed
from .cim import CimFault, Instance, KeyValue, Ref, Value, normal_namespace
from .cim_xml import Assume, parse_dmtf, write_instance
from .schema import INTEGER_RANGES, Class, Method, Schema, Type

S = "http://www.w3.org/2003/05/soap-envelope"
A = "http://schemas.xmlsoap.org/ws/2004/08/addressing"
N = "http://schemas.xmlsoap.org/ws/2004/09/enumeration"
X = "http://schemas.xmlsoap.org/ws/2004/09/transfer"
E = "http://schemas.xmlsoap.org/ws/2004/08/eventing"
W = "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"
P = "http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd"
B = "http://schemas.dmtf.org/wbem/wsman/1/cimbinding.xsd"
CIM = "http://schemas.dmtf.org/wbem/wscim/1/common"
XSI = "http://www.w3.org/2001/XMLSchema-instance"
RSP = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell"
WSMID = "http://schemas.dmtf.org/wbem/wsman/identity/1/wsmanidentity.xsd"
F = "http://schemas.microsoft.com/wbem/wsman/1/wsmanfault"
WMI_ERROR = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/MSFT_WmiError"
XML = "http://www.w3.org/XML/1998/namespace"

WMI_PREFIX = "http://schemas.microsoft.com/wbem/wsman/1/wmi/"
DMTF_PREFIX = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/"
DMTF_ALL = "http://schemas.dmtf.org/wbem/wscim/1/*"
CONFIG_URI = "http://schemas.microsoft.com/wbem/wsman/1/config"
WQL_DIALECT = "http://schemas.microsoft.com/wbem/wsman/1/WQL"
CQL_DIALECT = "http://schemas.dmtf.org/wbem/cql/1/dsp0202.pdf"
SELECTOR_DIALECT = "http://schemas.dmtf.org/wbem/wsman/1/wsman/SelectorFilter"
ASSOCIATION_DIALECT = "http://schemas.dmtf.org/wbem/wsman/1/cimbinding/associationFilter"
ANONYMOUS = f"{A}/role/anonymous"
FAULT_DETAIL = "http://schemas.dmtf.org/wbem/wsman/1/wsman/faultDetail/"

MAX_REQUEST_BYTES = 500 * 1024
MIN_ENVELOPE_SIZE = 8192
MAX_DEPTH = 64

assumed(
    "fault-subcodes",
    "Subcodes that no recording shows follow the comments of winerror.h; bad values are w:InvalidParameter 2150859011, "
    "broken XML w:InvalidBody 2150858819, rights w:AccessDenied 5 (WinRM) and 2150859013 (WMI).",
    source="winerror.h, wsman 6",
)
assumed(
    "output-order",
    "Method_OUTPUT holds the out parameters in declared order with ReturnValue last.",
    source="hyperv-wmi 0.5: not recorded anywhere",
    values=("declared", "alphabetical"),
)
assumed(
    "null-output",
    "An out parameter without a value is sent as xsi:nil (arrays are left out).",
    source="no recording of an Invoke answer",
    values=("nil", "absent"),
)
assumed(
    "char16-form",
    "A char16 (DriveLetter) is sent as the character itself; no letter is sent as nil.",
    source="windows-storage 1.2",
    values=("letter", "code"),
)
assumed(
    "control-characters",
    "C0 control characters of a property, which XML cannot carry, are sent as question marks.",
    source="wsman 3: WinRM cannot carry them; what it does instead is unknown",
)
assumed(
    "activity-id",
    "The answer carries p:ActivityId only when the request did.",
    source="wire-shapes 1: in parentheses; two recorded faults have it, no recorded answer of 2026 has",
)


# ---------------------------------------------------------------------------------------------------------------------
# Requests


@dataclass(kw_only=True)
class Request:
    """One request as sent; `body` is the single element of s:Body, or None."""

    action: str = ""
    resource_uri: str = ""
    message_id: str = ""
    to: str = ""
    reply_to: str = ""
    selectors: list[tuple[str, Any]] = field(default_factory=list)
    has_selector_set: bool = False
    options: dict[str, str] = field(default_factory=dict)
    max_envelope_size: int = MAX_REQUEST_BYTES
    operation_timeout: float | None = None
    locale: str = ""
    activity_id: str = ""
    body: ET.Element | None = None
    identify: bool = False
    unknown_headers: list[str] = field(default_factory=list)
    misunderstood: list[str] = field(default_factory=list)


_KNOWN_HEADERS = {
    (A, "To"), (A, "Action"), (A, "MessageID"), (A, "ReplyTo"), (A, "FaultTo"), (A, "From"), (A, "RelatesTo"),
    (W, "ResourceURI"), (W, "MaxEnvelopeSize"), (W, "OperationTimeout"), (W, "SelectorSet"), (W, "OptionSet"),
    (W, "Locale"), (W, "RequestTotalItemsCountEstimate"), (W, "RequestEPR"),
    (P, "DataLocale"), (P, "SessionId"), (P, "OperationID"), (P, "SequenceId"), (P, "ActivityId"),
    (P, "FunctionalityVersion"), (RSP, "CompressionType"),
}  # fmt: skip


def split(tag: str) -> tuple[str, str]:
    """(`namespace`, `local name`) of an ElementTree tag."""
    if tag.startswith("{"):
        namespace, _unused, local = tag[1:].partition("}")
        return namespace, local
    return "", tag


def text_of(element: ET.Element | None) -> str:
    return "" if element is None or element.text is None else element.text.strip()


def parse_xml(data: bytes) -> ET.Element:
    """The root element; a document type, too deep nesting and broken XML are refused."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or b"<\x00" in data[:8] or b"\x00<" in data[:8]:
        encoding = (
            "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-16-le" if data[1:2] == b"\0" else "utf-16-be"
        )
    else:
        encoding = "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        raise CimFault.wsman(2150858796, "w:UnsupportedEncoding", "The request is neither UTF-8 nor UTF-16.") from None
    if "<!DOCTYPE" in text or "<!doctype" in text:
        refuse_document_type(text)
    text = re.sub(r"^\s*<\?xml[^>]*\?>", "", text)
    try:
        root = ET.fromstring(text)
    except (ET.ParseError, ValueError):
        raise CimFault.wsman(2150858819, "w:InvalidBody") from None
    if _depth(root) > MAX_DEPTH:
        raise CimFault.wsman(2150858819, "w:InvalidBody", "The request is nested too deep.")
    return root


def refuse_document_type(text: str) -> None:
    """Raise when the text really declares a document type (the words may also stand in character data)."""

    def found(*_unused: object) -> None:
        raise CimFault.wsman(2150858819, "w:InvalidBody", "The request declares a document type.")

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = found
    try:
        parser.Parse(re.sub(r"^\s*<\?xml[^>]*\?>", "", text), True)
    except expat.ExpatError:
        raise CimFault.wsman(2150858819, "w:InvalidBody") from None


def _depth(root: ET.Element) -> int:
    level, elements = 0, [root]
    while elements and level <= MAX_DEPTH:
        level, elements = level + 1, [child for element in elements for child in element]
    return level


def parse_request(data: bytes) -> Request:
    """Read an envelope. What is wrong with its headers raises a CimFault with the request's message id lost."""
    root = parse_xml(data)
    if root.tag != f"{{{S}}}Envelope":
        raise CimFault.wsman(2150858765, "s:VersionMismatch")
    header, body = root.find(f"{{{S}}}Header"), root.find(f"{{{S}}}Body")
    request = Request()
    content = list(body) if body is not None else []
    request.body = content[0] if content else None
    if len(content) > 1:
        raise CimFault.wsman(2150858791, "w:InvalidBody")
    if request.body is not None and request.body.tag == f"{{{WSMID}}}Identify":
        request.identify = True
        return request
    seen: set[str] = set()
    for element in header if header is not None else ():
        space, local = split(element.tag)
        if (space, local) not in _KNOWN_HEADERS:
            must = element.get(f"{{{S}}}mustUnderstand", "").lower() in ("true", "1")
            (request.misunderstood if must else request.unknown_headers).append(local)
            continue
        if element.tag in seen:
            raise CimFault.wsman(2150858767, "a:InvalidMessageInformationHeader", f"The header {local} is repeated.")
        seen.add(element.tag)
        _read_header(request, space, local, element)
    return request


def _read_header(request: Request, space: str, local: str, element: ET.Element) -> None:
    text = text_of(element)
    if (space, local) == (A, "Action"):
        request.action = text
    elif (space, local) == (A, "MessageID"):
        request.message_id = text
    elif (space, local) == (A, "To"):
        request.to = text
    elif (space, local) == (A, "ReplyTo"):
        request.reply_to = text_of(element.find(f"{{{A}}}Address"))
    elif local == "ResourceURI":
        request.resource_uri = text
    elif local == "MaxEnvelopeSize":
        request.max_envelope_size = _positive(text, local)
    elif local == "OperationTimeout":
        request.operation_timeout = parse_duration(text).total_seconds()
    elif local == "Locale":
        request.locale = element.get(f"{{{XML}}}lang", "")
    elif local == "ActivityId":
        request.activity_id = text
    elif local == "SelectorSet":
        request.has_selector_set = True
        request.selectors = parse_selectors(element)
    elif local == "OptionSet":
        for option in element:
            request.options[option.get("Name", "")] = text_of(option)


def _positive(text: str, what: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise CimFault.wsman(2150858767, "a:InvalidMessageInformationHeader", f"{what} is no number: {text[:40]!r}")
    return int(text)


_DURATION = re.compile(r"P(?:(\d+)Y)?(?:(\d+)M)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?", re.ASCII)


def parse_duration(text: str) -> timedelta:
    """An XML duration such as PT60S; a fault when it is none."""
    match = _DURATION.fullmatch(text)
    if match is None or text in ("P", "PT"):
        raise CimFault.wsman(2150858881, "a:InvalidMessageInformationHeader", f"No duration: {text[:40]!r}")
    years, months, days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return timedelta(days=days + 365 * years + 30 * months, hours=hours, minutes=minutes, seconds=seconds)


def parse_selectors(selector_set: ET.Element) -> list[tuple[str, Any]]:
    """(name, text or Ref) pairs; a selector that holds an EndpointReference becomes a Ref."""
    out: list[tuple[str, Any]] = []
    for element in selector_set:
        if element.tag != f"{{{W}}}Selector":
            raise CimFault.wsman(2150858813, "w:InvalidSelectors")
        name = element.get("Name")
        if not name:
            raise CimFault.wsman(2150858813, "w:InvalidSelectors")
        nested = element.find(f"{{{A}}}EndpointReference")
        value: Any = element.text or ""
        if nested is not None:
            value = parse_reference(nested)
        elif len(element):
            raise CimFault.wsman(2150858813, "w:InvalidSelectors")
        if any(known.lower() == name.lower() for known, _unused in out):
            raise CimFault.wsman(2150858847, "w:InvalidSelectors", detail=FAULT_DETAIL + "DuplicateSelectors")
        out.append((name, value))
    return out


def parse_reference(element: ET.Element) -> Ref:
    """A Ref from Address + ReferenceParameters below `element`; SchemaValidationError for any other shape."""
    parameters = element.find(f"{{{A}}}ReferenceParameters")
    children = {child.tag for child in element}
    if parameters is None or not children <= {f"{{{A}}}Address", f"{{{A}}}ReferenceParameters"}:
        raise schema_error("a reference is a:Address and a:ReferenceParameters directly below the element")
    uri = text_of(parameters.find(f"{{{W}}}ResourceURI"))
    selector_set = parameters.find(f"{{{W}}}SelectorSet")
    selectors = parse_selectors(selector_set) if selector_set is not None else []
    target = parse_class_uri(uri)
    if target is None:
        raise CimFault.wsman(2150858811, "w:InvalidResourceURI", f"No class URI in a reference: {uri[:200]!r}")
    namespace = target[0]
    keys: dict[str, KeyValue] = {}
    for name, value in selectors:
        if name.lower() == "__cimnamespace":
            if not namespace:
                namespace = normal_namespace(str(value))
            elif normal_namespace(str(value)) != namespace:
                raise CimFault.wsman(2150859067, "w:InvalidSelectors")
        else:
            keys[name] = value
    return Ref(namespace or "root/cimv2", target[1], keys)


def parse_class_uri(uri: str) -> tuple[str, str] | None:
    """(`namespace`, `class`) of a class URI; the namespace is "" in the DMTF form. None when it is no class URI."""
    lower = uri.lower()
    if lower.startswith(WMI_PREFIX):
        namespace, _unused, class_name = uri[len(WMI_PREFIX) :].rpartition("/")
        if not namespace or not class_name or "\\" in uri:
            return None
        return normal_namespace(namespace), class_name
    if lower.startswith(DMTF_PREFIX):
        class_name = uri[len(DMTF_PREFIX) :]
        return ("", class_name) if class_name and "/" not in class_name else None
    if lower == DMTF_ALL:
        return "", "*"
    return None


def schema_error(message: str) -> CimFault:
    return CimFault.wsman(2150858817, "w:SchemaValidationError", message)


def is_nil(element: ET.Element) -> bool:
    return element.get(f"{{{XSI}}}nil", "").lower() in ("true", "1")


def parse_value(element: ET.Element, kind: Type, schema: Schema, namespace: str) -> Any:
    """The value of one parameter or property element by its declared type; embedded texts stay text."""
    if is_nil(element):
        return None
    if kind.base == "ref":
        return parse_reference(element)
    if kind.base == "object":
        return parse_object(element, kind.of, schema, namespace)
    if kind.base == "datetime":
        return _parse_time(element)
    if len(element):
        raise schema_error(f"{split(element.tag)[1]} is {kind.base}: text is needed, elements were found")
    text = element.text or ""
    if kind.base in ("string", "char16"):
        return text
    text = text.strip()
    if kind.base == "boolean":
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
        raise bad_value(element)
    try:
        if kind.base in INTEGER_RANGES:
            low, high = INTEGER_RANGES[kind.base]
            number = int(text)
            if low <= number <= high:
                return number
            raise bad_value(element)
        return float(text)
    except ValueError:
        raise bad_value(element) from None


def bad_value(element: ET.Element) -> CimFault:
    return CimFault.wsman(
        2150859011, "w:InvalidParameter", f"The value of {split(element.tag)[1]} is not of the declared type."
    )


def parse_object(element: ET.Element, declared: str, schema: Schema, namespace: str) -> Instance:
    """A typed embedded object: children are its properties; xsi:type or their namespace names a subclass."""
    name = declared
    kind = element.get(f"{{{XSI}}}type", "").rpartition(":")[2].removesuffix("_Type")
    spaces = {parse_class_uri(split(child.tag)[0]) for child in element}
    for candidate in (kind, *(target[1] for target in spaces if target)):
        if candidate and schema.find(namespace, candidate):
            name = candidate
            break
    entry = schema.find(namespace, name)
    if entry is None or (not len(element) and text_of(element)):
        raise schema_error(f"{split(element.tag)[1]} is an embedded {declared}")
    return Instance(entry.namespace, entry.name, parse_properties(element, entry, schema))


def parse_properties(element: ET.Element, entry: Class, schema: Schema) -> dict[str, Value]:
    """The property values below `element`; names are compared exactly, unknown ones are a SchemaValidationError."""
    out: dict[str, Value] = {}
    for child in element:
        name = split(child.tag)[1]
        found = entry.properties.get(name)
        if found is None:
            raise schema_error(f"{entry.name} has no property {name}")
        value = parse_value(child, found.type, schema, entry.namespace)
        if found.type.array:
            if value is not None:
                collected = out.setdefault(name, [])
                assert isinstance(collected, list)
                collected.append(value)
        elif name in out:
            raise schema_error(f"{entry.name}.{name} is no array, found it twice")
        else:
            out[name] = value
    return out


def _parse_time(element: ET.Element) -> datetime | timedelta:
    child = next(iter(element), None)
    text = text_of(child if child is not None else element)
    local = split(child.tag)[1] if child is not None else ""
    if local == "Interval" or (not local and text.startswith("P")):
        return parse_duration(text)
    plain = parse_dmtf(text)
    if plain is not None:
        return plain
    try:
        moment = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text.replace("Z", "+00:00")))
    except ValueError:
        raise bad_value(element) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


# ---------------------------------------------------------------------------------------------------------------------
# Values in answers

_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


def xml_text(text: str) -> str:
    return escape(_CONTROLS.sub("?", text), {"\r": "&#13;"})


def iso_time(value: datetime) -> str:
    """`2026-10-08T15:15:36.68424Z`: trailing zeros of the fraction cut, UTC as Z, other zones with their offset."""
    fraction = f".{value.microsecond:06d}".rstrip("0").rstrip(".")
    offset = value.utcoffset() or timedelta(0)
    zone = "Z"
    if offset:
        minutes = int(offset.total_seconds() // 60)
        zone = f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"
    head = f"{value.year:04d}-{value.month:02d}-{value.day:02d}T{value.hour:02d}:{value.minute:02d}:{value.second:02d}"
    return head + fraction + zone


def iso_interval(value: timedelta) -> str:
    """`P0DT0H0M1.00417S` (wire-shapes 1)."""
    minutes, seconds = divmod(value.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    fraction = f".{value.microseconds:06d}".rstrip("0").rstrip(".")
    return f"P{value.days}DT{hours}H{minutes}M{seconds}{fraction}S"


@dataclass(frozen=True, kw_only=True)
class Writer:
    """Turns values into answer text for one machine: `host` is its name, `dmtf_form` the URI form that was asked."""

    schema: Schema
    host: str
    assume: Assume
    dmtf_form: bool = False

    def class_uri(self, namespace: str, class_name: str) -> str:
        return DMTF_PREFIX + class_name if self.dmtf_form else f"{WMI_PREFIX}{namespace}/{class_name}"

    def reference(self, ref: Ref) -> str:
        """Address and ReferenceParameters, without a wrapper; selectors alphabetical, no __cimnamespace.

        A singleton is named by its class alone (windows-storage 1.1).
        """
        entry = self.schema.find(ref.namespace, ref.class_name)
        keys = {} if entry is not None and entry.singleton else ref.keys
        parts = [f"<a:Address>{ANONYMOUS}</a:Address><a:ReferenceParameters>"]
        parts.append(f"<w:ResourceURI>{xml_text(self.class_uri(ref.namespace, ref.class_name))}</w:ResourceURI>")
        if keys or self.dmtf_form:
            parts.append("<w:SelectorSet>")
            for name in sorted(keys, key=str.lower):
                parts.append(f"<w:Selector Name={quoteattr(name)}>{self._selector(keys[name])}</w:Selector>")
            if self.dmtf_form:
                parts.append(f'<w:Selector Name="__cimnamespace">{xml_text(ref.namespace)}</w:Selector>')
            parts.append("</w:SelectorSet>")
        parts.append("</a:ReferenceParameters>")
        return "".join(parts)

    def _selector(self, value: KeyValue) -> str:
        if isinstance(value, Ref):
            return f"<a:EndpointReference>{self.reference(value)}</a:EndpointReference>"
        if isinstance(value, bool):
            return "true" if value else "false"
        return xml_text(str(value))

    def endpoint_reference(self, ref: Ref) -> str:
        return f'<a:EndpointReference xmlns:a="{A}" xmlns:w="{W}">{self.reference(ref)}</a:EndpointReference>'

    def instance(self, instance: Instance) -> str:
        entry = self.schema.get(instance.namespace, instance.class_name)
        uri = xml_text(self.class_uri(entry.namespace, entry.name))
        parts = [f'<p:{entry.name} xmlns:xsi="{XSI}" xmlns:p="{uri}" xmlns:cim="{CIM}" xsi:type="p:{entry.name}_Type">']
        for name, found in entry.properties.items():
            parts.append(self.member("p", name, found.type, instance.properties.get(name), depth=0))
        parts.append(f"</p:{entry.name}>")
        return "".join(parts)

    def fragment(self, instance: Instance, names: Iterable[str]) -> str:
        """A projected row: the chosen properties without any namespace."""
        entry = self.schema.get(instance.namespace, instance.class_name)
        chosen = {name.lower() for name in names}
        parts = [f'<w:XmlFragment xmlns:xsi="{XSI}" xmlns:w="{W}">']
        for name, found in entry.properties.items():
            if name.lower() in chosen:
                parts.append(self.member("", name, found.type, instance.properties.get(name), depth=0))
        parts.append("</w:XmlFragment>")
        return "".join(parts)

    def output(self, entry: Class, method: Method, values: Mapping[str, Value]) -> str:
        """The `Method_OUTPUT` element."""
        uri = xml_text(self.class_uri(entry.namespace, entry.name))
        tag = f"p:{method.name}_OUTPUT"
        parts = [f'<{tag} xmlns:xsi="{XSI}" xmlns:p="{uri}" xmlns:cim="{CIM}" xsi:type="{tag}_Type">']
        rows = [(name, parameter.type, values.get(name)) for name, parameter in method.outputs.items()]
        if "ReturnValue" in values:
            rows.append(("ReturnValue", Type(base="uint32"), values["ReturnValue"]))
        if self.assume("output-order") == "alphabetical":
            rows.sort(key=lambda row: row[0].lower())
        for name, kind, value in rows:
            if value is None and self.assume("null-output") == "absent":
                continue
            parts.append(self.member("p", name, kind, value, depth=0))
        parts.append(f"</{tag}>")
        return "".join(parts)

    def member(self, prefix: str, name: str, kind: Type, value: Value, *, depth: int) -> str:
        """One property or parameter; a null or empty array is nothing at all, a null scalar is xsi:nil."""
        tag = f"{prefix}:{name}" if prefix else name
        if kind.array:
            items = value if isinstance(value, list) else []
            return "".join(self._element(tag, prefix, kind, item, depth) for item in items)
        return self._element(tag, prefix, kind, value, depth)

    def _element(self, tag: str, prefix: str, kind: Type, value: Any, depth: int) -> str:
        if value is None:
            return f'<{tag} xsi:nil="true"/>'
        if isinstance(value, Ref):
            return f'<{tag} xmlns:a="{A}" xmlns:w="{W}">{self.reference(value)}</{tag}>'
        if isinstance(value, Instance):
            if kind.embedded or kind.base == "string":
                return f"<{tag}>{xml_text(write_instance(value, self.schema, self.host))}</{tag}>"
            return self._object(tag, value, depth)
        if isinstance(value, datetime):
            inner = "cim:Datetime" if prefix else "Datetime"
            return f"<{tag}><{inner}>{iso_time(value)}</{inner}></{tag}>"
        if isinstance(value, timedelta):
            inner = "cim:Interval" if prefix else "Interval"
            return f"<{tag}><{inner}>{iso_interval(value)}</{inner}></{tag}>"
        if isinstance(value, bool):
            return f"<{tag}>{'true' if value else 'false'}</{tag}>"
        if kind.base == "char16" and value not in ("", "\0") and self.assume("char16-form") == "code":
            value = ord(value)
        if kind.base == "char16" and value == "\0":
            value = ""
        return f"<{tag}>{xml_text(str(value))}</{tag}>"

    def _object(self, tag: str, value: Instance, depth: int) -> str:
        entry = self.schema.get(value.namespace, value.class_name)
        prefix = f"p{depth + 1}"
        uri = xml_text(self.class_uri(entry.namespace, entry.name))
        parts = [f'<{tag} xmlns:{prefix}="{uri}" xsi:type="{prefix}:{entry.name}_Type">']
        for name, found in entry.properties.items():
            parts.append(self.member(prefix, name, found.type, value.get(name), depth=depth + 1))
        parts.append(f"</{tag}>")
        return "".join(parts)


# ---------------------------------------------------------------------------------------------------------------------
# Envelopes


_PREFIXES = {"s": S, "a": A, "n": N, "x": X, "e": E, "w": W, "p": P, "rsp": RSP}


def envelope(
    action: str,
    message_id: str,
    relates_to: str,
    body: str,
    prefixes: str = "w",
    lang: str = "en-US",
    activity: str = "",
) -> bytes:
    """A complete answer; `prefixes` names what is declared besides s and a, e.g. `"n w"`."""
    declared = " ".join(f'xmlns:{p}="{_PREFIXES[p]}"' for p in ("s", "a", *prefixes.split()))
    relates = f"<a:RelatesTo>{xml_text(relates_to)}</a:RelatesTo>" if relates_to else ""
    extra = f"<p:ActivityId>{xml_text(activity)}</p:ActivityId>" if activity and " p" in f" {prefixes}" else ""
    return (
        f'<s:Envelope xml:lang="{lang}" {declared}><s:Header><a:Action>{xml_text(action)}</a:Action>'
        f"<a:MessageID>{message_id}</a:MessageID>{extra}<a:To>{ANONYMOUS}</a:To>{relates}</s:Header>"
        f"<s:Body>{body}</s:Body></s:Envelope>"
    ).encode()


def identify_response(version: str, lang: str = "en-US") -> bytes:
    """The answer to Identify; `version` such as `OS: 10.0.17763 SP: 0.0 Stack: 3.0`."""
    return (
        f'<s:Envelope xmlns:s="{S}" xml:lang="{lang}"><s:Header/><s:Body>'
        f'<wsmid:IdentifyResponse xmlns:wsmid="{WSMID}">'
        f"<wsmid:ProtocolVersion>{W}</wsmid:ProtocolVersion>"
        "<wsmid:ProductVendor>Microsoft Corporation</wsmid:ProductVendor>"
        f"<wsmid:ProductVersion>{xml_text(version)}</wsmid:ProductVersion>"
        "</wsmid:IdentifyResponse></s:Body></s:Envelope>"
    ).encode()
