# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CimFault into the SOAP fault that Windows sends: codes, subcodes, reason and the two detail shapes.

Facts: the recorded faults (wire-shapes 1), wsman 6, the error numbers of winerror.h. One table says which role,
subcode and detail go with which number; nothing here decides when something fails.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import quoteattr

from .assumed import assumed
from .cim import (
    WBEM_E_ACCESS_DENIED,
    WBEM_E_INVALID_CLASS,
    WBEM_E_INVALID_METHOD,
    WBEM_E_INVALID_NAMESPACE,
    WBEM_E_INVALID_PARAMETER,
    WBEM_E_INVALID_QUERY,
    WBEM_E_NOT_FOUND,
    WBEM_E_NOT_SUPPORTED,
    CimFault,
)
from .wire import CIM, FAULT_DETAIL, WMI_ERROR, WMI_PREFIX, XSI, B, F, envelope, xml_text

assumed(
    "wmi-fault-shape",
    "Faults carry f:WSManFault (a WMI error without a WS-Man code of its own has its HRESULT as code); the other value "
    "gives every fault the MSFT_WmiError shape with the same number and subcode.",
    source="wire-shapes 1: detail is one of the two, parse both; windows-storage 1.3 B' has numbers seen as MSFT_WmiError",
    values=("wsmanfault", "wmierror"),
)
assumed(
    "missing-class-fault",
    "Get, Invoke and Enumerate of a class that is not there answer like a missing instance (a:DestinationUnreachable).",
    source="only the WQL case is recorded (wire-shapes 1); windows-storage 1.3 B' says 2150858778 as MSFT_WmiError",
    values=("unreachable", "cannot-process-filter"),
)

PROVIDER_PATH = "%systemroot%\\system32\\WsmWmiPl.dll"
NO_SUCH_CLASS = "The specified class does not exist in the given namespace. "
NOT_FOUND = (
    "The WS-Management service cannot process the request. The service cannot find the resource identified by the "
    "resource URI and selectors. "
)
CANNOT_FILTER = (
    "The data source could not process the filter. The filter might be missing or it might be invalid. Change the "
    "filter and try the request again.  "
)
TIMED_OUT = "The WS-Management service cannot complete the operation within the time specified in OperationTimeout."

# Reasons in our own words except where a recording shows the text; clients must never branch on them.
REASONS = {
    5: "Access is denied. ",
    2150858752: NOT_FOUND,
    2150858753: "The action URI is not valid.",
    2150858765: "The SOAP version is not supported.",
    2150858767: "One or more SOAP headers are not valid.",
    2150858768: "A header marked mustUnderstand is not understood.",
    2150858769: "A required SOAP header is missing.",
    2150858770: NOT_FOUND,
    2150858771: "The action is not supported by this resource.",
    2150858777: "The filter dialect is not supported.",
    2150858778: CANNOT_FILTER,
    2150858779: "The enumeration context is not valid: it was completed, cancelled or has expired.",
    2150858791: "The request has no valid SOAP body.",
    2150858793: TIMED_OUT,
    2150858799: "MaxElements, MaxTime or MaxCharacters is not valid.",
    2150858811: "The resource URI is missing or has an incorrect format.",
    2150858813: "The selectors are not valid.",
    2150858817: "The XML in the message does not match its schema.",
    2150858818: "The feature is not supported.",
    2150858819: "The XML of the request is not valid.",
    2150858824: "The response exceeds the maximum envelope size in the request.",
    2150858842: "The request did not contain all required selectors.",
    2150858843: "The request contained invalid selectors for the resource.",
    2150858847: "The request contained a selector twice.",
    2150858878: "The maximum envelope size in the request is too small.",
    2150858884: "The enumeration is invalid because a previous Pull failed.",
    2150858886: "The enumeration mode is not supported.",
    2150859002: "The class has instances: selectors are needed, or use Enumerate.",
    2150859003: "A WQL filter needs a resource URI whose class is *, without keys.",
    2150859011: "A value is not valid for its type.",
    2150859013: "The WMI provider denied access.",
    2150859014: "The WMI service denied access to the namespace.",
    2150859016: "Selectors are not allowed in an Enumerate.",
    2150859063: "The polymorphism mode is not supported.",
    2150859067: "The selector __cimnamespace and the resource URI name different namespaces.",
    2150859173: "This user has the maximum number of concurrent shells.",
    2150859174: "This user has the maximum number of concurrent operations.",
}
CIM_STATUS = {
    WBEM_E_ACCESS_DENIED: 2,
    WBEM_E_INVALID_NAMESPACE: 3,
    WBEM_E_INVALID_PARAMETER: 4,
    WBEM_E_INVALID_CLASS: 5,
    WBEM_E_NOT_FOUND: 6,
    WBEM_E_NOT_SUPPORTED: 7,
    WBEM_E_INVALID_QUERY: 15,
    WBEM_E_INVALID_METHOD: 17,
}
RECEIVER = {"w:TimedOut", "w:InternalError", "n:InvalidEnumerationContext", "n:TimedOut"}


@dataclass(frozen=True, kw_only=True)
class _Shape:
    role: str
    subcode: str
    code: int
    detail: str = ""
    provider: bool = False
    inner: str = ""


def _shape(fault: CimFault, in_query: bool, assume: Any) -> _Shape:
    if fault.kind == "wsman":
        role = "s:Receiver" if fault.subcode in RECEIVER else "s:Sender"
        return _Shape(role=role, subcode=fault.subcode, code=fault.code, detail=fault.detail)
    missing_class = fault.code in (WBEM_E_INVALID_CLASS, WBEM_E_INVALID_NAMESPACE)
    if fault.code == WBEM_E_INVALID_QUERY or (
        missing_class and (in_query or assume("missing-class-fault") == "cannot-process-filter")
    ):
        inner = NO_SUCH_CLASS if missing_class else CANNOT_FILTER
        return _Shape(role="s:Sender", subcode="n:CannotProcessFilter", code=2150858778, provider=True, inner=inner)
    if fault.code == WBEM_E_NOT_FOUND or missing_class:
        return _Shape(
            role="s:Sender",
            subcode="a:DestinationUnreachable",
            code=2150858752,
            detail=FAULT_DETAIL + "InvalidResourceURI",
            provider=True,
            inner=NO_SUCH_CLASS if missing_class else NOT_FOUND,
        )
    if fault.code == WBEM_E_ACCESS_DENIED:
        return _Shape(role="s:Sender", subcode="w:AccessDenied", code=2150859013, provider=True)
    if fault.code == WBEM_E_INVALID_METHOD:
        return _Shape(role="s:Sender", subcode="a:ActionNotSupported", code=2150858771)
    return _Shape(role="s:Receiver", subcode="w:InternalError", code=fault.code, provider=True)


def fault_envelope(
    fault: CimFault,
    *,
    message_id: str,
    relates_to: str,
    host: str,
    namespace: str,
    in_query: bool,
    assume: Any,
    lang: str,
    activity: str = "",
) -> bytes:
    """The complete fault message. `namespace` is that of the request, for the extended status element."""
    shape = _shape(fault, in_query, assume)
    reason = fault.message if fault.kind == "mi" else REASONS.get(shape.code, fault.message)
    if fault.kind == "mi":
        detail = _wmi_error(fault, namespace)
        shape = _Shape(role="s:Receiver", subcode=fault.subcode or "w:InternalError", code=fault.code)
    elif assume("wmi-fault-shape") == "wmierror":
        status = CIM_STATUS.get(fault.code, 1)
        detail = _wmi_error(CimFault.mi(status, reason or fault.message, shape.code), namespace="")
    else:
        detail = _wsman_fault(fault, shape, reason or fault.message, host, namespace, lang)
    prefix = shape.subcode.partition(":")[0]
    action = {
        "a": "http://schemas.xmlsoap.org/ws/2004/08/addressing/fault",
        "n": "http://schemas.xmlsoap.org/ws/2004/09/enumeration/fault",
        "x": "http://schemas.xmlsoap.org/ws/2004/09/transfer/fault",
    }.get(prefix, "http://schemas.dmtf.org/wbem/wsman/1/wsman/fault")
    if shape.subcode in ("s:MustUnderstand", "s:VersionMismatch"):
        code = f"<s:Value>{shape.subcode}</s:Value>"
    else:
        code = f"<s:Value>{shape.role}</s:Value><s:Subcode><s:Value>{shape.subcode}</s:Value></s:Subcode>"
    body = (
        f"<s:Fault><s:Code>{code}</s:Code><s:Reason>"
        f'<s:Text xml:lang="{lang}">{xml_text(reason or fault.message)}</s:Text></s:Reason>'
        f"<s:Detail>{detail}</s:Detail></s:Fault>"
    )
    return envelope(action, message_id, relates_to, body, "x e n w p", lang, activity)


def _wsman_fault(fault: CimFault, shape: _Shape, reason: str, host: str, namespace: str, lang: str) -> str:
    text = fault.message or reason
    machine = quoteattr(host)
    head = f"<w:FaultDetail>{shape.detail}</w:FaultDetail>" if shape.detail else ""
    open_tag = f'<f:WSManFault xmlns:f="{F}" Code="{shape.code}" Machine={machine}><f:Message>'
    if not shape.provider:
        return f"{head}{open_tag}{xml_text(text)}</f:Message></f:WSManFault>"
    status = (
        f'<f:ExtendedError><p:__ExtendedStatus xmlns:xsi="{XSI}" '
        f'xmlns:p="{WMI_PREFIX}{namespace or "root/cimv2"}/__ExtendedStatus" xmlns:cim="{CIM}" '
        'xsi:type="p:__ExtendedStatus_Type">'
        + _member("Description", fault.message or None)
        + _member("Operation", fault.operation or None)
        + _member("ParameterInfo", fault.parameter or None)
        + _member("ProviderName", fault.provider or "WinMgmt")
        + _member("StatusCode", None)
        + "</p:__ExtendedStatus></f:ExtendedError>"
    )
    return (
        f'{head}{open_tag}<f:ProviderFault provider="WMI Provider" path="{PROVIDER_PATH}">'
        f'<f:WSManFault xmlns:f="{F}" Code="{shape.code}" Machine={machine} xml:lang="{lang}">'
        f"<f:Message>{xml_text(shape.inner or text)}</f:Message></f:WSManFault>"
        f"{status}</f:ProviderFault></f:Message></f:WSManFault>"
    )


def _member(name: str, value: str | None) -> str:
    return f'<p:{name} xsi:nil="true"/>' if value is None else f"<p:{name}>{xml_text(value)}</p:{name}>"


_MI_NAMES: tuple[tuple[str, str], ...] = (
    ("CIMStatusCode", "cimUnsignedInt"),
    ("CIMStatusCodeDescription", "cimString"),
    ("ErrorSource", "cimString"),
    ("ErrorSourceFormat", "cimUnsignedShort"),
    ("ErrorType", "cimUnsignedShort"),
    ("Message", "cimString"),
    ("MessageID", "cimString"),
    ("OtherErrorSourceFormat", "cimString"),
    ("OtherErrorType", "cimString"),
    ("OwningEntity", "cimString"),
    ("PerceivedSeverity", "cimUnsignedShort"),
    ("ProbableCause", "cimUnsignedShort"),
    ("ProbableCauseDescription", "cimString"),
    ("error_Category", "cimUnsignedInt"),
    ("error_Code", "cimUnsignedInt"),
    ("error_Type", "cimString"),
    ("error_WindowsErrorMessage", "cimString"),
)


def _wmi_error(fault: CimFault, namespace: str) -> str:
    """MSFT_WmiError as recorded; the storage provider uses the namespace of its own (windows-storage 1.3)."""
    uri = WMI_ERROR
    if namespace == "root/microsoft/windows/storage":
        uri = f"{WMI_PREFIX}{namespace}/MSFT_WmiError"
    hresult = fault.code or 0x80041000 + fault.status
    values: dict[str, object] = {
        "CIMStatusCode": fault.status or 1,
        "ErrorSourceFormat": 0,
        "ErrorType": 0,
        "Message": fault.message,
        "MessageID": f"HRESULT {hresult:#x}",
        "PerceivedSeverity": 0,
        "ProbableCause": 0,
        "error_Category": 0,
        "error_Code": hresult,
        "error_Type": "HRESULT",
        "error_WindowsErrorMessage": fault.message,
    }
    parts = [
        f'<p:MSFT_WmiError xmlns:b="{B}" b:IsCIM_Error="true" xmlns:cim="{CIM}" xmlns:p="{uri}" '
        f'xmlns:xsi="{XSI}" xsi:type="p:MSFT_WmiError_Type">'
    ]
    for name, kind in _MI_NAMES:
        value = values.get(name)
        if value is None:
            parts.append(f'<p:{name} xsi:nil="true" xsi:type="cim:{kind}"/>')
        else:
            parts.append(f'<p:{name} xsi:type="cim:{kind}">{xml_text(str(value))}</p:{name}>')
    parts.append("</p:MSFT_WmiError>")
    return "".join(parts)
