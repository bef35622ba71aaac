# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""WS-Management messages as pure functions: envelopes out; answers, faults and enumeration pages in.

Responsible for the frame of a message and for reading XML from outside within limits. The values inside (properties,
parameters, references, embedded instances) are ``values.py``; the order of messages is ``client.py`` and ``shell.py``.
Facts: wsman 1, 2, 5.1, 6; wire-shapes 1; windows-storage 1.3. Prefixes are never matched on, only namespaces.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from . import errors
from .cim import CimPath, normal_namespace
from .errors import ProtocolError, ValueRefused, WsmanFault, shortened

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

SOAP = "http://www.w3.org/2003/05/soap-envelope"
ADDRESSING = "http://schemas.xmlsoap.org/ws/2004/08/addressing"
ENUMERATION = "http://schemas.xmlsoap.org/ws/2004/09/enumeration"
TRANSFER = "http://schemas.xmlsoap.org/ws/2004/09/transfer"
WSMAN = "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"
CIM_COMMON = "http://schemas.dmtf.org/wbem/wscim/1/common"
XSI = "http://www.w3.org/2001/XMLSchema-instance"
XML = "http://www.w3.org/XML/1998/namespace"
SHELL = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell"
ANONYMOUS = "http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous"
WMI = "http://schemas.microsoft.com/wbem/wsman/1/wmi/"
DMTF_CLASS = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/"
WQL_DIALECT = "http://schemas.microsoft.com/wbem/wsman/1/WQL"

ENUMERATE = f"{ENUMERATION}/Enumerate"
PULL = f"{ENUMERATION}/Pull"
RELEASE = f"{ENUMERATION}/Release"
GET = f"{TRANSFER}/Get"
CREATE = f"{TRANSFER}/Create"
DELETE = f"{TRANSFER}/Delete"

# Limits on what comes from outside. A page of Windows is about 150 kB (wsman 2).
MAX_ANSWER_BYTES = 8 * 1024 * 1024
MAX_XML_DEPTH = 64
MAX_XML_NODES = 200_000
MAX_XML_ATTRIBUTES = 400_000  # counted as equals signs, before anything is parsed
MAX_NAMESPACE_CHARS = 512  # the parser repeats it for each name
MAX_CONTEXT_CHARS = 4096
# One element must not carry thousands of prefixed attributes: the parser repeats the namespace for each of them.
_LONG_SEGMENT = re.compile(r"<[^<]{32768,}")
_PREFIXED_ATTRIBUTE = re.compile(r"\s[^\s=<>:]+:[^\s=<>]+\s*=")
_MAX_PREFIXED_ATTRIBUTES = 256
_LONG_NAMESPACE = re.compile(r"xmlns(?::[^\s=<]{1,4096})?\s*=\s*(?:\"[^\"<]{512,}|'[^'<]{512,})")

_DOCUMENT_TYPE = re.compile(r"<\s*!\s*(?:DOCTYPE|ENTITY)", re.IGNORECASE)
_XML_DECLARATION = re.compile(r"\A\s*<\?xml\s[^>]{0,256}?\?>")
_DECLARED_ENCODING = re.compile(r"encoding\s*=\s*[\"']([^\"']{1,40})[\"']")
# All that is not a Char of XML 1.0. Written out, because the pattern of what is allowed takes 20 times longer to compile.
_NOT_CARRIED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


# ---------------------------------------------------------------------------------------------------------------------
# Text out


def carried(text: str, what: str) -> str:
    """The text itself, or `ValueRefused` when XML cannot carry one of its characters; ``what`` names it, not its value."""
    found = _NOT_CARRIED.search(text)
    if found:
        raise ValueRefused(
            f"{what} holds the control character U+{ord(found.group()):04X} at position {found.start()}, which "
            f"WS-Management cannot carry; remove it."
        )
    return text


def xml_text(text: str, what: str) -> str:
    """Escaped element content. A carriage return is written as a reference, or a parser would make it a newline."""
    text = carried(text, what)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\r", "&#xD;")


def xml_attribute(text: str, what: str) -> str:
    """Escaped content of a double-quoted attribute; white space is kept by references."""
    return xml_text(text, what).replace('"', "&quot;").replace("\n", "&#xA;").replace("\t", "&#x9;")


# ---------------------------------------------------------------------------------------------------------------------
# Resource URIs


def resource_uri(namespace: str, class_name: str) -> str:
    """``root/cimv2`` + ``Win32_Process`` -> the URI of the class; ``*`` as class stands for any of the namespace."""
    return f"{WMI}{normal_namespace(namespace)}/{class_name}"


def split_resource_uri(uri: str) -> tuple[str, str] | None:
    """(namespace, class) of a WMI resource URI in any of its forms, the namespace "" in the DMTF form; else None."""
    uri = uri.strip()
    lower = uri.lower()
    if lower.startswith(DMTF_CLASS.lower()):
        return "", uri[len(DMTF_CLASS) :]
    start = lower.find("/wmi/")
    if not lower.startswith(("http://schemas.microsoft.com/", "https://schemas.microsoft.com/")) or start < 0:
        return None
    namespace, slash, class_name = uri[start + len("/wmi/") :].rpartition("/")
    return (namespace, class_name) if slash and namespace and class_name else None


# ---------------------------------------------------------------------------------------------------------------------
# Requests


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is the same in every header: endpoint URL, timeout, largest answer wanted, language."""

    endpoint: str = ""
    operation_timeout_s: int = 60
    max_envelope_bytes: int = 512_000
    locale: str = "en-US"


@dataclass(frozen=True, kw_only=True)
class Request:
    """One message to send; ``body`` is the ready XML inside s:Body, ``selectors`` go into the header."""

    action: str
    resource_uri: str
    body: str = ""
    selectors: Mapping[str, str | CimPath] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)


def selector_set(selectors: Mapping[str, str | CimPath]) -> str:
    """The w:SelectorSet of some keys, "" without keys. A key that is a reference is wrapped (hyperv-wmi 0.5b)."""
    if not selectors:
        return ""
    parts = []
    for name, value in selectors.items():
        inner = (
            f"<a:EndpointReference>{reference(value)}</a:EndpointReference>"
            if isinstance(value, CimPath)
            else xml_text(value, f"Key {name}")
        )
        parts.append(f'<w:Selector Name="{xml_attribute(name, "A key name")}">{inner}</w:Selector>')
    return f"<w:SelectorSet>{''.join(parts)}</w:SelectorSet>"


def reference(path: CimPath) -> str:
    """Address and ReferenceParameters of a path, without a wrapper: so does a method's parameter want it (wsman 5.1)."""
    uri = xml_text(resource_uri(path.namespace, path.class_name), "A class name")
    return (
        f"<a:Address>{ANONYMOUS}</a:Address><a:ReferenceParameters>"
        f"<w:ResourceURI>{uri}</w:ResourceURI>{selector_set(path.keys)}</a:ReferenceParameters>"
    )


def envelope(request: Request, settings: Settings, message_id: str) -> bytes:
    """The bytes to POST. The header set is wsman 1.4; ``message_id`` is ``uuid:`` and an upper-case GUID.

    DataLocale is left out, as libvirt does (wire-shapes 3): it says how numbers and dates in texts are written, and we
    read neither from texts. Locale stays, because people read the texts of faults.
    """
    options = "".join(
        f'<w:Option Name="{xml_attribute(name, "An option name")}">{xml_text(value, f"Option {name}")}</w:Option>'
        for name, value in request.options.items()
    )
    language = xml_attribute(settings.locale, "The locale")
    # Windows does not read To (wsman 1.4), but the element must be there.
    to = xml_text(settings.endpoint or "http://windows-host:5985/wsman", "The endpoint")
    return (
        f'<s:Envelope xmlns:s="{SOAP}" xmlns:a="{ADDRESSING}" xmlns:w="{WSMAN}"><s:Header>'
        f"<a:To>{to}</a:To>"
        f'<w:ResourceURI s:mustUnderstand="true">{xml_text(request.resource_uri, "A class name")}</w:ResourceURI>'
        f'<a:ReplyTo><a:Address s:mustUnderstand="true">{ANONYMOUS}</a:Address></a:ReplyTo>'
        f'<a:Action s:mustUnderstand="true">{xml_text(request.action, "A method name")}</a:Action>'
        f"<a:MessageID>{xml_text(message_id, 'The message id')}</a:MessageID>"
        f'<w:MaxEnvelopeSize s:mustUnderstand="true">{settings.max_envelope_bytes}</w:MaxEnvelopeSize>'
        f"<w:OperationTimeout>PT{settings.operation_timeout_s}S</w:OperationTimeout>"
        f'<w:Locale xml:lang="{language}" s:mustUnderstand="false"/>'
        f"{f'<w:OptionSet>{options}</w:OptionSet>' if options else ''}"
        f"{selector_set(request.selectors)}"
        f"</s:Header><s:Body>{request.body}</s:Body></s:Envelope>"
    ).encode()


def enumerate_request(
    namespace: str, class_name: str, *, query: str | None, max_elements: int, with_paths: bool = False
) -> Request:
    """Enumerate by WQL on the whole namespace, or (``query`` None) one class unfiltered (wsman 1.2, 2).

    MaxElements is always there: without it Windows gives one row per request.
    """
    mode = "<w:EnumerationMode>EnumerateObjectAndEPR</w:EnumerationMode>" if with_paths else ""
    wql = "" if query is None else f'<w:Filter Dialect="{WQL_DIALECT}">{xml_text(query, "The query")}</w:Filter>'
    return Request(
        action=ENUMERATE,
        resource_uri=resource_uri(namespace, class_name if query is None else "*"),
        body=(
            f'<n:Enumerate xmlns:n="{ENUMERATION}"><w:OptimizeEnumeration/>'
            f"<w:MaxElements>{max_elements}</w:MaxElements>"
            f"{mode}{wql}</n:Enumerate>"
        ),
    )


def pull_request(uri: str, context: str, max_elements: int) -> Request:
    context_xml = f"<n:EnumerationContext>{xml_text(context, 'The context')}</n:EnumerationContext>"
    return Request(
        action=PULL,
        resource_uri=uri,
        body=(f'<n:Pull xmlns:n="{ENUMERATION}">{context_xml}<n:MaxElements>{max_elements}</n:MaxElements></n:Pull>'),
    )


def release_request(uri: str, context: str) -> Request:
    context_xml = f"<n:EnumerationContext>{xml_text(context, 'The context')}</n:EnumerationContext>"
    return Request(
        action=RELEASE, resource_uri=uri, body=f'<n:Release xmlns:n="{ENUMERATION}">{context_xml}</n:Release>'
    )


# ---------------------------------------------------------------------------------------------------------------------
# XML in


def _decoded(data: bytes) -> str:
    """The text of an XML document. Only UTF-8 and UTF-16 exist here, so that what is scanned is what is parsed."""
    if len(data) > MAX_ANSWER_BYTES:
        raise ProtocolError(f"The answer is {len(data)} bytes long; more than {MAX_ANSWER_BYTES} are refused.")
    if data.startswith((b"\xff\xfe\x00\x00", b"\x00\x00\xfe\xff")):
        raise ProtocolError("The answer is in UTF-32, but WS-Management has UTF-8 and UTF-16 only.")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    elif data.startswith(b"<\x00"):
        encoding = "utf-16-le"
    elif data.startswith(b"\x00<"):
        encoding = "utf-16-be"
    else:
        encoding = "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise ProtocolError(f"The answer is not text in {encoding.removesuffix('-sig')} ({error.reason}).") from None
    declaration = _XML_DECLARATION.match(text)
    declared = _DECLARED_ENCODING.search(declaration.group()) if declaration else None
    if declared and not declared.group(1).lower().startswith(("utf-16" if "16" in encoding else "utf-8", "us-ascii")):
        raise ProtocolError(
            f"The answer says that it is in {shortened(declared.group(1))!r}, which it is not or which is not "
            f"supported; WS-Management has UTF-8 and UTF-16 only."
        )
    return text


def parse_xml(data: bytes | str) -> Element:
    """The root element of a document from outside.

    A document type is refused before any parsing (so no entity can be declared, none is ever expanded), as is anything
    beyond the limits of this file.

    Raises:
        ProtocolError: it is none of what we accept.
    """
    if isinstance(data, str):
        if len(data) > MAX_ANSWER_BYTES:
            raise ProtocolError(f"An embedded document has more than {MAX_ANSWER_BYTES} characters; it was refused.")
        text = data
    else:
        text = _decoded(data)
    if _DOCUMENT_TYPE.search(text):
        raise ProtocolError("The answer declares a document type or an entity, which no Windows host does; refused.")
    if _LONG_NAMESPACE.search(text):
        raise ProtocolError(
            f"The answer holds a namespace of {MAX_NAMESPACE_CHARS} or more characters; it was refused."
        )
    for segment in _LONG_SEGMENT.finditer(text):
        if sum(1 for _unused in _PREFIXED_ATTRIBUTE.finditer(segment.group())) > _MAX_PREFIXED_ATTRIBUTES:
            raise ProtocolError("The answer holds an element with hundreds of attributes; it was refused.")
    if text.count("<") > 2 * MAX_XML_NODES:
        raise ProtocolError(f"The answer holds more than {MAX_XML_NODES} XML elements; it was refused.")
    if text.count("=") > MAX_XML_ATTRIBUTES:
        raise ProtocolError(f"The answer holds more than {MAX_XML_ATTRIBUTES} XML attributes; it was refused.")
    text = _XML_DECLARATION.sub("", text, count=1)
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise ProtocolError(f"The answer is not well-formed XML: {shortened(str(error))}.") from None
    level, depth = [root], 0
    while level:
        depth += 1
        if depth > MAX_XML_DEPTH:
            raise ProtocolError(f"The answer nests XML elements deeper than {MAX_XML_DEPTH}; it was refused.")
        level = [one for parent in level for one in parent]
    return root


def local_name(tag: str) -> str:
    return tag.rpartition("}")[2]


def namespace_of(tag: str) -> str:
    return tag[1:].partition("}")[0] if tag.startswith("{") else ""


def child(element: Element, name: str) -> Element | None:
    """The first direct child of that local name, whatever its namespace."""
    return next((one for one in element if local_name(one.tag) == name), None)


def text_of(element: Element | None) -> str:
    return "" if element is None else (element.text or "").strip()


def is_nil(element: Element) -> bool:
    return element.get(f"{{{XSI}}}nil", "").strip().lower() in ("true", "1")


def bounded_int(text: str) -> int | None:
    """An integer of at most 20 digits, else None. `int` alone would take underscores, other scripts and megabytes."""
    text = text.strip()
    return int(text) if re.fullmatch(r"[+-]?[0-9]{1,20}", text) else None


# ---------------------------------------------------------------------------------------------------------------------
# Answers and faults


@dataclass(frozen=True, kw_only=True)
class Fault:
    """The numbers and texts of a SOAP fault, from WSManFault or MSFT_WmiError alike; numbers unsigned."""

    code: int | None = None
    subcode: str = ""
    reason: str = ""
    provider_code: int | None = None
    provider_message: str = ""
    hresult: int | None = None
    cim_status: int | None = None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A decoded frame: the Body element, and the fault if it holds one."""

    action: str
    relates_to: str
    body: Element
    fault: Fault | None


def read_answer(data: bytes, message_id: str | None = None) -> Answer:
    """The frame of an answer; with ``message_id`` its RelatesTo, where present, must agree.

    Raises:
        ProtocolError: not an envelope, beyond a limit, or the answer to another request.
    """
    root = parse_xml(data)
    if root.tag != f"{{{SOAP}}}Envelope":
        raise ProtocolError(
            f"The answer is a document of {shortened(local_name(root.tag), 60)!r} instead of a SOAP 1.2 envelope; "
            f"check that the port and path are those of WinRM."
        )
    header = root.find(f"{{{SOAP}}}Header")
    body = root.find(f"{{{SOAP}}}Body")
    if body is None:
        raise ProtocolError("The answer is a SOAP envelope without a body.")
    action = relates_to = ""
    if header is not None:
        action = text_of(header.find(f"{{{ADDRESSING}}}Action"))
        relates_to = text_of(header.find(f"{{{ADDRESSING}}}RelatesTo"))
    if message_id is not None and relates_to and relates_to.lower() != message_id.lower():
        raise ProtocolError(
            "The answer belongs to another request (its RelatesTo is not our MessageID); the connection is mixed up."
        )
    fault_element = body.find(f"{{{SOAP}}}Fault")
    fault = None if fault_element is None else read_fault(fault_element)
    return Answer(action=action, relates_to=relates_to, body=body, fault=fault)


def _unsigned(text: str) -> int | None:
    number = bounded_int(text)
    return number & 0xFFFFFFFF if number is not None and -(2**31) <= number < 2**32 else None


def read_fault(fault: Element) -> Fault:
    """A fault's numbers, whichever of the three shapes Windows chose (wsman 6, windows-storage 1.3)."""
    subcode = fault.find(f"{{{SOAP}}}Code/{{{SOAP}}}Subcode/{{{SOAP}}}Value")
    reason = " ".join(text_of(one) for one in fault.iterfind(f"{{{SOAP}}}Reason/{{{SOAP}}}Text"))
    detail = fault.find(f"{{{SOAP}}}Detail")
    code = provider_code = hresult = cim_status = None
    message = ""
    for one in detail if detail is not None else ():
        if local_name(one.tag) == "WSManFault":
            code = _unsigned(one.get("Code", ""))
            provider_code, message = _provider_fault(one)
        elif local_name(one.tag) == "MSFT_WmiError":
            code = _unsigned(text_of(child(one, "error_Code")))
            message = text_of(child(one, "Message")) or text_of(child(one, "error_WindowsErrorMessage"))
            number = re.search(r"0x([0-9A-Fa-f]{8})\b", text_of(child(one, "MessageID")))
            hresult = int(number.group(1), 16) if number else None
            cim_status = _unsigned(text_of(child(one, "CIMStatusCode")))
    return Fault(
        code=code,
        subcode=text_of(subcode).rpartition(":")[2],
        reason=reason,
        provider_code=provider_code,
        provider_message=message,
        hresult=hresult,
        cim_status=cim_status,
    )


def _provider_fault(outer: Element) -> tuple[int | None, str]:
    """(number, text) of the innermost provider below a WSManFault; faults nest fault, message, provider, fault, ..."""
    number: int | None = None
    message = ""
    for one in outer.iter():
        name = local_name(one.tag)
        if name == "WSManFault" and one is not outer:
            number = _unsigned(one.get("Code", "")) if one.get("Code") else number
        elif name == "StatusCode" and text_of(one):
            number = _unsigned(text_of(one))
        elif name in ("Message", "ProviderFault", "Description") and text_of(one):
            message = text_of(one)
    return number, message


_ADVICE: Mapping[type[WsmanFault], str] = {
    errors.AccessDenied: "the account needs remote access to this WMI namespace and rights on what the class manages",
    errors.NotFound: "it is gone, or its path is incomplete",
    errors.ClassMissing: "the role or feature that brings this class is not installed, or this Windows is too old",
    errors.NamespaceMissing: "the role or feature that brings this WMI namespace is not installed",
    errors.MethodMissing: "this Windows version has no such method",
    errors.FilterRefused: "the host does not evaluate this query",
    errors.QuotaExceeded: "nothing was executed; try again later or raise the quota of WinRM",
    errors.Busy: "try again later",
    errors.OperationTimedOut: "the host needed longer than the operation timeout",
    errors.InvalidContext: "the enumeration expired on the host",
    errors.EnvelopeTooLarge: "raise MaxEnvelopeSizekb of WinRM on the host",
}


def fault_error(fault: Fault, asked: str, as_class: type[WsmanFault] | None = None) -> WsmanFault:
    """The exception for a fault; ``asked`` says what was asked in words that hold no argument and no secret."""
    chosen = as_class or errors.fault_class(
        (fault.provider_code, fault.hresult, fault.code), subcode=fault.subcode, cim_status=fault.cim_status
    )
    numbers = []
    for number in dict.fromkeys((fault.code, fault.provider_code)):
        if number is not None:
            name = errors.FAULTS[number][0] if number in errors.FAULTS else ""
            numbers.append(f"{number} (0x{number:08X}{f', {name}' if name else ''})")
    what = " / ".join(numbers) or shortened(fault.subcode, 60) or "without a number"
    text = shortened(fault.provider_message or fault.reason).rstrip(".")
    advice = _ADVICE.get(chosen, "")
    sentence = f"{asked} was refused with fault {what}" + (f": {text}" if text else "")
    return chosen(
        f"{sentence}; {advice}." if advice else f"{sentence}.",
        code=fault.code,
        subcode=fault.subcode,
        reason=fault.reason,
        provider_code=fault.provider_code if fault.provider_code is not None else fault.hresult,
        provider_message=fault.provider_message,
        cim_status=fault.cim_status,
    )


# ---------------------------------------------------------------------------------------------------------------------
# Pages of an enumeration


@dataclass(frozen=True, kw_only=True)
class Page:
    """Rows of one answer as elements, and the context for the next; ``context`` is None after the last row."""

    items: tuple[Element, ...]
    context: str | None


def read_page(body: Element) -> Page:
    """The page in an EnumerateResponse or PullResponse.

    Items and EndOfSequence are looked for among the direct children only and in both namespaces (wsman 2), for a
    property may have the same name. An answer that is not the end and has no context would lose rows silently, so it
    is an error.
    """
    response = next(
        (one for one in body if one.tag in (f"{{{ENUMERATION}}}EnumerateResponse", f"{{{ENUMERATION}}}PullResponse")),
        None,
    )
    if response is None:
        raise ProtocolError("The answer to an enumeration holds no EnumerateResponse and no PullResponse.")
    items: list[Element] = []
    context = ""
    ended = False
    for one in response:
        if one.tag in (f"{{{ENUMERATION}}}Items", f"{{{WSMAN}}}Items"):
            items.extend(one)
        elif one.tag in (f"{{{ENUMERATION}}}EndOfSequence", f"{{{WSMAN}}}EndOfSequence"):
            ended = True
        elif one.tag == f"{{{ENUMERATION}}}EnumerationContext":
            context = text_of(one)
    if not ended and not context:
        raise ProtocolError("A page of an enumeration is neither the last nor has it a context for the next one.")
    if len(context) > MAX_CONTEXT_CHARS:
        raise ProtocolError(f"The context of an enumeration has more than {MAX_CONTEXT_CHARS} characters.")
    return Page(items=tuple(items), context=None if ended else context)
