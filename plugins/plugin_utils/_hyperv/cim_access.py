# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""How the domain asks a machine: the client it needs, WQL built from names and ids, and faults that mean "not there".

Not here: the protocol (`_wsman`), what the rows mean (`host`, `guest`), and any retry (the client repeats reads itself).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Protocol, TypeVar

from .._wsman import (
    AccessDenied,
    CimInstance,
    CimPath,
    FilterRefused,
    MethodResult,
    Value,
    WsmanFault,
    wql_literal,
)
from .errors import HypervError, MethodFailed, Precondition

T = TypeVar("T")

# Terms OR-ed into one query: WQL has no IN, and a long filter costs the provider more than a second request.
TERMS_PER_QUERY = 20


class CimClient(Protocol):
    """What the domain needs of `_wsman.WsmanClient`; tests give an in-memory CIM store."""

    def query(
        self,
        namespace: str,
        class_name: str,
        *,
        where: str | None = None,
        with_paths: bool = False,
        deep: bool = True,
        select: Sequence[str] | None = None,
    ) -> list[CimInstance]: ...

    def get(self, path: CimPath) -> CimInstance: ...

    def invoke(self, target: CimPath, method: str, arguments: Mapping[str, Value] = ...) -> MethodResult: ...


def chunks(items: Sequence[T], size: int = TERMS_PER_QUERY) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def any_of(property_name: str, values: Iterable[str], *, operator: str = "=") -> str:
    """`(Name = 'a' OR Name = 'b')`; a WQL string compares without regard to case."""
    terms = [f"{property_name} {operator} {wql_literal(value)}" for value in values]
    return f"({' OR '.join(terms)})"


def query_filtered(
    client: CimClient, namespace: str, class_name: str, where: str | None, *, select: Sequence[str] | None = None
) -> list[CimInstance]:
    """Rows that a filter selects; the whole class when the host does not evaluate the filter.

    For callers whose joins cope with rows too many, and for classes whose whole is no danger (never files).
    """
    try:
        return client.query(namespace, class_name, where=where, select=select)
    except FilterRefused:
        if where is None:
            raise
        return client.query(namespace, class_name, select=select)


def query_optional(
    client: CimClient,
    notes: list[str],
    namespace: str,
    class_name: str,
    *,
    what: str,
    where: str | None = None,
    select: Sequence[str] | None = None,
) -> list[CimInstance] | None:
    """Rows of a class that a healthy machine may lack (feature or service absent); None and a note when it does.

    Only the machine's refusals count as "not there". That it cannot be reached, or cannot answer now, is never swallowed.
    """
    try:
        return query_filtered(client, namespace, class_name, where, select=select)
    except WsmanFault as fault:
        if fault.is_passing:
            raise
        notes.append(f"{what} could not be read: {fault}")
        return None


def invoke_checked(
    client: CimClient,
    target: CimPath,
    method: str,
    arguments: Mapping[str, Value],
    *,
    what: str,
    codes: Mapping[int, str],
    accept: Sequence[int] = (0,),
) -> MethodResult:
    """Call a method and turn every code that is not accepted into `MethodFailed` with the code's name.

    Windows may leave ReturnValue out of an otherwise good answer (wsman 5); that counts as 0.
    """
    try:
        result = client.invoke(target, method, arguments)
    except AccessDenied as fault:
        raise Precondition(
            "rights_missing",
            f"{what} was refused because the connection's account lacks the rights ({fault}); "
            f"use an account of the local group Administrators.",
        ) from fault
    code = 0 if result.return_value is None else result.return_value
    if code in accept:
        return result
    name = codes.get(code, "no documented name")
    raise MethodFailed(
        "method_failed",
        f"{what} failed: {target.class_name}.{method} answered {code_text(code)} ({name}).",
        {"class": target.class_name, "method": method, "code": code, "code_name": name},
    )


def code_text(code: int) -> str:
    """Small codes in decimal as Microsoft's pages list them, HRESULTs in hexadecimal as people search for them."""
    return f"0x{code & 0xFFFFFFFF:08X}" if code < 0 or code > 0xFFFF else str(code)


# --- Reading values out of instances, whatever a provider leaves out --------------------------------------------


def text_of(instance: CimInstance, name: str) -> str:
    """A string property just as it is (names may begin or end with a blank); "" for NULL."""
    value = instance.get(name)
    return value if isinstance(value, str) else ""


def trimmed_text_of(instance: CimInstance, name: str) -> str:
    """A string without the blanks and NULs that pad what comes from a disk's INQUIRY data (windows-storage 2.1)."""
    return text_of(instance, name).strip(" \t\0")


def int_of(instance: CimInstance, name: str) -> int | None:
    value = instance.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def bool_of(instance: CimInstance, name: str) -> bool:
    return instance.get(name) is True


def time_of(instance: CimInstance, name: str) -> datetime | None:
    value = instance.get(name)
    return value if isinstance(value, datetime) else None


def texts_of(instance: CimInstance, name: str) -> tuple[str, ...]:
    value = instance.get(name)
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def ints_of(instance: CimInstance, name: str) -> tuple[int, ...]:
    value = instance.get(name)
    return tuple(item for item in value if isinstance(item, int)) if isinstance(value, list) else ()


def required_text(instance: CimInstance, name: str, *, what: str) -> str:
    """A string that a row is useless without."""
    value = text_of(instance, name)
    if not value:
        raise HypervError(
            "unexpected_answer",
            f"{what}: an instance of {instance.class_name} has no {name}; the machine's WMI provider answers "
            f"incompletely, restart its service or see the event log.",
            {"class": instance.class_name, "property": name},
        )
    return value
