# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""WS-Management and CIM for Windows hosts, without sockets: the public names.

    errors.py   every error, its machine word, and the table of fault numbers
    cim.py      the object model: paths, instances, the schema's vocabulary
    wire.py     envelopes, answers, faults, pages (pure functions of text, with limits)
    values.py   CIM values as text and back, by the schema; embedded instances, WMI paths, WQL literals
    client.py   `WsmanClient`: which messages in which order, what may be repeated
    shell.py    one program in one remote shell

Left out on purpose: sockets, TLS, authentication and message encryption (a transport gives ``send(bytes) -> bytes``),
clocks and sleeping (waiting is the caller's), Put and Create of instances, events, and every dialect of filter but
WQL. Nothing here knows Hyper-V or Ansible.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .cim import (
    NEVER,
    CimClass,
    CimInstance,
    CimMethod,
    CimParameter,
    CimPath,
    CimProperty,
    Schema,
    Value,
)
from .client import MethodResult, WsmanClient
from .errors import (
    AccessDenied,
    AuthenticationFailed,
    Busy,
    CertificateRejected,
    ClassMissing,
    EnvelopeTooLarge,
    FilterRefused,
    HttpError,
    InvalidContext,
    MethodMissing,
    NamespaceMissing,
    NotFound,
    OperationTimedOut,
    OutcomeUnknown,
    ProtocolError,
    QuotaExceeded,
    ReplyLost,
    ReplyUnreadable,
    RequestNotSent,
    SchemaError,
    SchemaRejected,
    SelectorsRejected,
    TransportError,
    ValueRefused,
    WsmanError,
    WsmanFault,
    http_error,
    shortened,
)
from .values import (
    decode_embedded_instance,
    dmtf_time,
    embedded_instance,
    object_path,
    parse_object_path,
    parse_time,
    wql_literal,
)

if TYPE_CHECKING:
    from .shell import ShellResult
else:

    def __getattr__(name):
        """Few tasks run a program in a shell, so that the others do not import it."""
        if name == "ShellResult":
            from .shell import ShellResult

            return ShellResult
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "NEVER",
    "AccessDenied",
    "AuthenticationFailed",
    "Busy",
    "CertificateRejected",
    "CimClass",
    "CimInstance",
    "CimMethod",
    "CimParameter",
    "CimPath",
    "CimProperty",
    "ClassMissing",
    "EnvelopeTooLarge",
    "FilterRefused",
    "HttpError",
    "InvalidContext",
    "MethodMissing",
    "MethodResult",
    "NamespaceMissing",
    "NotFound",
    "OperationTimedOut",
    "OutcomeUnknown",
    "ProtocolError",
    "QuotaExceeded",
    "ReplyLost",
    "ReplyUnreadable",
    "RequestNotSent",
    "Schema",
    "SchemaError",
    "SchemaRejected",
    "SelectorsRejected",
    "ShellResult",
    "TransportError",
    "Value",
    "ValueRefused",
    "WsmanClient",
    "WsmanError",
    "WsmanFault",
    "decode_embedded_instance",
    "dmtf_time",
    "embedded_instance",
    "http_error",
    "object_path",
    "parse_object_path",
    "parse_time",
    "shortened",
    "wql_literal",
]
