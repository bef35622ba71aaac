# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""Every error of the WS-Management layer, and the one table that turns fault numbers into them.

Responsible for the classes, their machine word (``kind``) and the choice of a class by number (wsman 6). Reading the
numbers out of XML is ``wire.py``'s work. ``str()`` of each error is one sentence that holds no secret: arguments,
command lines and credentials never enter it. Texts of Windows are shown but never branched on, they are localised.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

MAX_TEXT_CHARS = 300  # of a provider's message inside one of our sentences


def shortened(text: str, limit: int = MAX_TEXT_CHARS) -> str:
    """Text of the other side as one line of bounded length, without control characters."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text[: limit * 4]).split())
    return line if len(line) <= limit else line[: limit - 3].rstrip() + "..."


class WsmanError(Exception):
    """Base of all errors of this package; ``kind`` is the word for machines, ``str()`` the sentence for people."""

    kind: ClassVar[str] = "wsman"

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else self.kind


class SchemaError(WsmanError, KeyError):
    """Our own side asked for, or wrote, what the schema does not know; nothing was sent."""

    kind = "schema"


class ValueRefused(SchemaError):
    """A value does not fit its declared type or cannot be carried by WS-Management; nothing was sent."""

    kind = "value"


class TransportError(WsmanError):
    """What a transport's ``send`` may raise; ``repeatable`` says whether trying a read again can help."""

    def __init__(self, sentence: str, *, repeatable: bool = True) -> None:
        super().__init__(sentence)
        self.repeatable = repeatable


class RequestNotSent(TransportError):
    """The host was not reached: nothing was executed, so the request may be repeated."""

    kind = "unreachable"


class ReplyLost(TransportError):
    """The request was sent and no answer came. The client never lets it out of an Invoke: see `OutcomeUnknown`."""

    kind = "reply_lost"


class AuthenticationFailed(WsmanError):
    """The host refused the credentials (or, out of quota, answered as if it did: wsman 6)."""

    kind = "authentication"


class CertificateRejected(WsmanError):
    """TLS could not be set up because the host's certificate is not trusted."""

    kind = "certificate"


class HttpError(WsmanError):
    """An HTTP answer that is not SOAP. ``may_have_run`` tells whether the request can have been executed."""

    kind = "http"

    def __init__(self, sentence: str, *, status: int, may_have_run: bool | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.may_have_run = status >= 500 if may_have_run is None else may_have_run


class OutcomeUnknown(WsmanError):
    """A method or command was sent and nobody knows whether it ran: never resend it, look at the host instead."""

    kind = "outcome_unknown"


class ProtocolError(WsmanError):
    """The other side sent what WS-Management does not allow, or more than our limits."""

    kind = "protocol"


class ReplyUnreadable(OutcomeUnknown, ProtocolError):
    """The reply to a method or command came but cannot be read, so that its outcome is unknown."""

    kind = "outcome_unknown"


class WsmanFault(WsmanError):
    """The host refused the request with a SOAP fault.

    Attributes:
        code: the number of the outer fault (WSManFault Code or MSFT_WmiError error_Code), unsigned, or None.
        subcode: local name of the SOAP subcode, such as ``CannotProcessFilter``.
        reason: text of the fault, localised.
        provider_code: number that the provider below gave, unsigned, or None.
        provider_message: the provider's text, localised.
        cim_status: CIMStatusCode of an MSFT_WmiError, or None.
    """

    kind = "fault"

    def __init__(
        self,
        sentence: str,
        *,
        code: int | None = None,
        subcode: str = "",
        reason: str = "",
        provider_code: int | None = None,
        provider_message: str = "",
        cim_status: int | None = None,
    ) -> None:
        super().__init__(sentence)
        self.code = code
        self.subcode = subcode
        self.reason = reason
        self.provider_code = provider_code
        self.provider_message = provider_message
        self.cim_status = cim_status

    @property
    def is_passing(self) -> bool:
        """Whether the host could not answer now, which says nothing about what was asked for: it may answer later."""
        unexplained = self.subcode == "InternalError" and self.provider_code is None and self.cim_status is None
        return unexplained or isinstance(self, (Busy, InvalidContext, OperationTimedOut, QuotaExceeded))


class AccessDenied(WsmanFault):
    kind = "access_denied"


class NotFound(WsmanFault):
    """The instance is not there, or the path lacks a key: WMI answers both alike."""

    kind = "not_found"


class ClassMissing(WsmanFault):
    """The host has no such class, or not even its namespace."""

    kind = "class_missing"


class NamespaceMissing(ClassMissing):
    kind = "namespace_missing"


class MethodMissing(WsmanFault):
    """The class has no such method on this Windows version."""

    kind = "method_missing"


class FilterRefused(WsmanFault):
    """The class is there, but the host does not evaluate this query: enumerate it whole and filter here."""

    kind = "filter_refused"


class QuotaExceeded(WsmanFault):
    """A limit of the WinRM service: nothing was executed, it may be tried again later."""

    kind = "quota"


class Busy(WsmanFault):
    kind = "busy"


class OperationTimedOut(WsmanFault):
    kind = "timeout"


class InvalidContext(WsmanFault):
    """An enumeration expired or was already used up; it is restarted from the beginning."""

    kind = "invalid_context"


class SchemaRejected(WsmanFault):
    """The host does not accept the shape or a value of our request."""

    kind = "schema_rejected"


class SelectorsRejected(SchemaRejected):
    """The keys of the path are not those of the class; also what a shell that is gone answers."""

    kind = "selectors_rejected"


class EnvelopeTooLarge(WsmanFault):
    """A request, or one object of an answer, is larger than the envelope limit."""

    kind = "too_large"


# Number -> (name of winerror.h or WBEM without prefix, class). The names are for people who search for them.
FAULTS: Mapping[int, tuple[str, type[WsmanFault]]] = {
    5: ("ACCESS_DENIED", AccessDenied),
    170: ("BUSY", Busy),
    0x80070005: ("ACCESSDENIED", AccessDenied),
    0x80041002: ("WBEM_E_NOT_FOUND", NotFound),
    0x80041003: ("WBEM_E_ACCESS_DENIED", AccessDenied),
    0x80041005: ("WBEM_E_TYPE_MISMATCH", SchemaRejected),
    0x80041008: ("WBEM_E_INVALID_PARAMETER", SchemaRejected),
    0x8004100E: ("WBEM_E_INVALID_NAMESPACE", NamespaceMissing),
    0x80041010: ("WBEM_E_INVALID_CLASS", ClassMissing),
    0x80041017: ("WBEM_E_INVALID_QUERY", FilterRefused),
    0x8004102F: ("WBEM_E_INVALID_METHOD_PARAMETERS", SchemaRejected),
    2150858752: ("RESOURCE_NOT_FOUND", NotFound),
    2150858753: ("INVALID_ACTIONURI", SchemaRejected),
    2150858754: ("INVALID_URI", SchemaRejected),
    2150858770: ("DESTINATION_UNREACHABLE", NotFound),
    2150858771: ("ACTION_NOT_SUPPORTED", MethodMissing),
    2150858778: ("ENUMERATE_CANNOT_PROCESS_FILTER", FilterRefused),
    2150858779: ("ENUMERATE_INVALID_ENUMERATION_CONTEXT", InvalidContext),
    2150858780: ("ENUMERATE_TIMED_OUT", OperationTimedOut),
    2150858884: ("ENUMERATION_INVALID", InvalidContext),
    2150858790: ("ENVELOPE_TOO_LARGE", EnvelopeTooLarge),
    2150858823: ("MAX_ENVELOPE_SIZE", EnvelopeTooLarge),
    2150858824: ("MAX_ENVELOPE_SIZE_EXCEEDED", EnvelopeTooLarge),
    2150858825: ("SERVER_ENVELOPE_LIMIT", EnvelopeTooLarge),
    2150858793: ("OPERATION_TIMEDOUT", OperationTimedOut),
    2150858811: ("INVALID_RESOURCE_URI", SchemaRejected),
    2150858813: ("INVALID_SELECTORS", SelectorsRejected),
    2150858842: ("INSUFFCIENT_SELECTORS", SelectorsRejected),
    2150858843: ("UNEXPECTED_SELECTORS", SelectorsRejected),
    2150858846: ("AMBIGUOUS_SELECTORS", SelectorsRejected),
    2150858847: ("DUPLICATE_SELECTORS", SelectorsRejected),
    2150858815: ("QUOTA_LIMIT", QuotaExceeded),
    2150858817: ("SCHEMA_VALIDATION_ERROR", SchemaRejected),
    2150859002: ("INVALID_URI_WMI_SINGLETON", SelectorsRejected),
    2150859003: ("INVALID_URI_WMI_ENUM_WQL", SchemaRejected),
    2150859008: ("WMI_MAX_NESTED", SchemaRejected),
    2150859009: ("REMOTE_CIMPATH_NOT_SUPPORTED", SchemaRejected),
    2150859011: ("WMI_INVALID_VALUE", SchemaRejected),
    2150859016: ("ENUMERATE_WMI_INVALID_KEY", SchemaRejected),
    2150859012: ("WMI_SVC_ACCESS_DENIED", AccessDenied),
    2150859013: ("WMI_PROVIDER_ACCESS_DENIED", AccessDenied),
    2150859014: ("WMI_CANNOT_CONNECT_ACCESS_DENIED", AccessDenied),
    2150859067: ("DIFFERENT_CIM_SELECTOR", SchemaRejected),
    2150859173: ("QUOTA_MAX_SHELLS", QuotaExceeded),
    2150859174: ("QUOTA_MAX_OPERATIONS", QuotaExceeded),
    2150859175: ("QUOTA_USER", QuotaExceeded),
    2150859176: ("QUOTA_SYSTEM", QuotaExceeded),
    2150859179: ("QUOTA_MAX_SHELLUSERS", QuotaExceeded),
    **dict.fromkeys(range(2150859236, 2150859242), ("QUOTA of the WMI plug-in", QuotaExceeded)),
}
PULL_TIMED_OUT = 2150858780  # Pull's own time was up; the context is still valid (wsman 6)

# windows-storage 1.3: what MSFT_WmiError says when its number is not in the table above.
CIM_STATUS: Mapping[int, type[WsmanFault]] = {
    2: AccessDenied,
    3: NamespaceMissing,
    4: SchemaRejected,
    5: ClassMissing,
    6: NotFound,
    16: MethodMissing,
    17: MethodMissing,
}
SUBCODES: Mapping[str, type[WsmanFault]] = {
    "AccessDenied": AccessDenied,
    "TimedOut": OperationTimedOut,
    "DestinationUnreachable": NotFound,
    "ActionNotSupported": MethodMissing,
    "CannotProcessFilter": FilterRefused,
    "InvalidEnumerationContext": InvalidContext,
    "InvalidSelectors": SelectorsRejected,
    "SchemaValidationError": SchemaRejected,
    "QuotaLimit": QuotaExceeded,
    "EncodingLimit": EnvelopeTooLarge,
}


def fault_class(codes: Iterable[int | None], *, subcode: str = "", cim_status: int | None = None) -> type[WsmanFault]:
    """The class for a fault; ``codes`` most specific first. Numbers win over CIM status, that over the subcode."""
    for code in codes:
        if code is not None and code in FAULTS:
            return FAULTS[code][1]
    if cim_status is not None and cim_status in CIM_STATUS:
        return CIM_STATUS[cim_status]
    return SUBCODES.get(subcode, WsmanFault)


_HTTP_ADVICE: Mapping[int, str] = {
    400: "the host could not read or decrypt the request",
    403: "the URL is reserved for others or a proxy stands in between",
    404: "there is no WS-Management service at this URL prefix; check the path and the port",
    407: "a proxy asks for a login; check the proxy settings",
    413: "the request is larger than the host or a proxy takes",
    502: "a proxy between the controller and the host failed",
    503: "the WinRM service is not ready",
    504: "a proxy between the controller and the host waited in vain",
}


def http_error(status: int, body: bytes = b"") -> HttpError:
    """The error for an HTTP answer without SOAP in it; 500 with nothing in it is WinRM's refusal of plain text."""
    if status == 500 and not body.strip():
        return HttpError(
            "The host answered HTTP 500 with an empty body, which is how WinRM refuses unencrypted traffic; "
            "use message encryption (NTLM, Kerberos, CredSSP) or HTTPS.",
            status=status,
            may_have_run=False,
        )
    advice = _HTTP_ADVICE.get(status, "this is not an answer of WS-Management")
    return HttpError(f"The host answered HTTP {status} without a WS-Management message: {advice}.", status=status)
