# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""The WS-Management client: which messages, in which order, and what may be repeated.

Responsible for queries with paging, Get, Invoke and the retry rules (wsman 2, 4, 5, 11). It needs only
``send(bytes) -> bytes``; no socket, no clock, no id is made here. Message texts are ``wire.py`` and ``values.py``.

What is repeated: a read (Enumerate, Get) once after `ReplyLost` or `RequestNotSent` when the transport calls that
repeatable; a Pull only when it was not sent, for a second Pull on a used context loses rows, and otherwise the
enumeration starts again from zero. An Invoke is never repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .cim import CimClass, CimInstance, CimMethod, CimPath, Schema, Value
from .errors import (
    PULL_TIMED_OUT,
    ClassMissing,
    EnvelopeTooLarge,
    FilterRefused,
    HttpError,
    InvalidContext,
    OperationTimedOut,
    OutcomeUnknown,
    ProtocolError,
    ReplyLost,
    ReplyUnreadable,
    RequestNotSent,
    SchemaError,
    WsmanError,
    WsmanFault,
    http_error,
)
from .values import (
    associators_query,
    decode_instance,
    decode_output,
    decode_reference,
    encode_input,
    select_query,
)
from .wire import (
    DELETE,
    GET,
    Page,
    Request,
    Settings,
    enumerate_request,
    envelope,
    fault_error,
    local_name,
    pull_request,
    read_answer,
    read_page,
    release_request,
    resource_uri,
)

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from . import shell

PAGE_ELEMENTS = 500  # rows asked for per request; Windows ends a page near 150 kB anyway (wsman 2)
MAX_PAGES = 10_000  # of one enumeration
MAX_ROWS = 200_000
MAX_EMPTY_PAGES = 16  # in a row
MAX_RESTARTS = 2  # of one enumeration, after its context expired or a Pull was lost


@dataclass(frozen=True)
class MethodResult:
    """ReturnValue (None when the method gives none) and the out parameters, all of them, by the schema's names."""

    return_value: int | None
    out: Mapping[str, Value]


class _PullLost(Exception):
    """The answer to a Pull did not come: the enumeration must start again."""

    def __init__(self, cause: ReplyLost) -> None:
        super().__init__(str(cause))
        self.cause = cause


class WsmanClient:
    """CIM operations on one host. Not for use by several threads: one channel, one client, one thread (wsman 11.1).

    Args:
        send: posts one envelope and returns the body of the answer, also of HTTP 500 when there is one; raises only
            the transport errors of ``errors.py``.
        schema: the classes that may be used; an unknown one raises `SchemaError` before anything is sent.
        new_id: gives a fresh GUID text for each message.
        endpoint: URL for the To header; Windows does not read it.
        operation_timeout_s: how long the host may work on one request; WinRM caps it at 60 by default.
        max_envelope_bytes: the largest answer asked for, and the largest request sent.
    """

    def __init__(
        self,
        send: Callable[[bytes], bytes],
        *,
        schema: Schema,
        new_id: Callable[[], str],
        endpoint: str = "",
        operation_timeout_s: int = 60,
        max_envelope_bytes: int = 512_000,
        locale: str = "en-US",
    ) -> None:
        self._send = send
        self._schema = schema
        self._new_id = new_id
        self._whole_only: set[CimClass] = set()  # classes of which this host refused to give some properties only
        self._settings = Settings(
            endpoint=endpoint,
            operation_timeout_s=operation_timeout_s,
            max_envelope_bytes=max_envelope_bytes,
            locale=locale,
        )

    @property
    def schema(self) -> Schema:
        return self._schema

    # -- reading ------------------------------------------------------------------------------------------------------

    def query(
        self,
        namespace: str,
        class_name: str,
        *,
        where: str | None = None,
        with_paths: bool = False,
        deep: bool = True,
        select: Sequence[str] | None = None,
        limit: int | None = None,
    ) -> list[CimInstance]:
        """``SELECT * FROM class [WHERE where]`` over the whole namespace, all pages.

        ``where`` is WQL; quote values with `wql_literal`. ``deep=False`` leaves out rows of subclasses. ``with_paths``
        fills each row's path. ``select`` asks for some properties only; rows then carry the queried class's name, their
        own being lost on the wire (wsman 3). ``limit`` stops after so many rows and releases the enumeration.

        ``select`` saves work and decides nothing: a host that refuses it (a property that its Windows lacks) is asked
        for all properties. When the host does not evaluate WQL, a query without ``where`` falls back to an unfiltered enumeration of the
        class; with ``where`` it raises `FilterRefused`, and filtering what `enumerate` gives is the caller's business.

        Raises:
            ClassMissing, NamespaceMissing: the host has no such class. Windows says the same for a refused query, so an
                unfiltered enumeration of the class is tried to tell them apart (wsman 2).
            FilterRefused: the class is there but not this query.
        """
        cim_class = self._schema.require(namespace, class_name)
        asked = f"The query of {class_name} in {namespace}"
        if cim_class in self._whole_only:
            select = None
        wql = select_query(class_name, where=where, select=select)
        request = enumerate_request(
            namespace, class_name, query=wql, max_elements=_page_size(limit), with_paths=with_paths
        )
        try:
            return self._rows(request, namespace, class_name, asked, deep=deep, limit=limit)
        except FilterRefused as refused:
            if select is not None:
                self._whole_only.add(cim_class)
                return self.query(namespace, class_name, where=where, with_paths=with_paths, deep=deep, limit=limit)
            if where is None:
                return self.enumerate(namespace, class_name, with_paths=with_paths, deep=deep, limit=limit)
            self._probe(namespace, class_name, refused)
            raise

    def enumerate(
        self,
        namespace: str,
        class_name: str,
        *,
        with_paths: bool = False,
        deep: bool = True,
        limit: int | None = None,
    ) -> list[CimInstance]:
        """All instances of a class by its own URI, without WQL: what remains when a host refuses a query."""
        self._schema.require(namespace, class_name)
        asked = f"The enumeration of {class_name} in {namespace}"
        request = enumerate_request(
            namespace, class_name, query=None, max_elements=_page_size(limit), with_paths=with_paths
        )
        with _without_filter(asked):
            return self._rows(request, namespace, class_name, asked, deep=deep, limit=limit)

    def associators(
        self, path: CimPath, *, association: str | None = None, result_class: str, with_paths: bool = False
    ) -> list[CimInstance]:
        """The instances of ``result_class`` that are associated with an instance, through ``association`` if given."""
        self._schema.require(path.namespace, result_class)
        asked = f"The query of {result_class} associated with {path.class_name} in {path.namespace}"
        wql = associators_query(path, association=association, result_class=result_class)
        request = enumerate_request(
            path.namespace, result_class, query=wql, max_elements=PAGE_ELEMENTS, with_paths=with_paths
        )
        try:
            return self._rows(request, path.namespace, result_class, asked)
        except FilterRefused as refused:
            self._probe(path.namespace, result_class, refused)
            raise

    def get(self, path: CimPath) -> CimInstance:
        """One instance by all its keys; `NotFound` when it is gone (or when a key is missing in the path)."""
        self._schema.require(path.namespace, path.class_name)
        asked = f"The reading of one {path.class_name} in {path.namespace}"
        request = Request(action=GET, resource_uri=resource_uri(path.namespace, path.class_name), selectors=path.keys)
        with _without_filter(asked):
            body = self._read(request, asked)
        element = next(iter(body), None)
        if element is None:
            raise ProtocolError(f"{asked} was answered with an empty body.")
        return decode_instance(
            element, schema=self._schema, namespace=path.namespace, class_name=path.class_name, path=path
        )

    # -- acting -------------------------------------------------------------------------------------------------------

    def invoke(self, target: CimPath, method: str, arguments: Mapping[str, Value] | None = None) -> MethodResult:
        """Call a method once. ReturnValue is not judged here: 4096 means that ``out["Job"]`` is running.

        Args:
            target: the instance (for a static method: its class; keys are not sent then).
            arguments: by parameter name; None leaves a parameter out.

        Raises:
            SchemaError, ValueRefused: an unknown name or a value of the wrong type; nothing was sent.
            RequestNotSent: nothing was executed.
            OutcomeUnknown: the answer was lost, unreadable (`ReplyUnreadable`) or a timeout; look, do not repeat.
            WsmanFault: the host refused the call.
        """
        cim_class = self._schema.require(target.namespace, target.class_name)
        called = cim_class.method(method)
        if called is None:
            raise SchemaError(
                f"Class {cim_class.name} in {cim_class.namespace} has no method {method}; nothing was sent."
            )
        asked = f"The call of {cim_class.name}.{called.name} in {cim_class.namespace}"
        for parameter in called.parameters:
            # Asked now, because an answer that cannot be decoded would be an outcome that is not known.
            if parameter.direction != "in" and parameter.type == "object":
                self._schema.require(target.namespace, parameter.embedded or f"(of {called.name}'s {parameter.name})")
        uri = resource_uri(target.namespace, cim_class.name)
        request = Request(
            action=f"{uri}/{called.name}",
            resource_uri=uri,
            selectors={} if called.is_static else target.keys,
            body=encode_input(arguments or {}, schema=self._schema, cim_class=cim_class, method=called),
        )
        with _without_filter(asked):
            body = self._act(request, asked)
        try:
            return self._method_result(body, target, called, asked)
        except (ProtocolError, SchemaError) as error:
            raise ReplyUnreadable(f"{asked} was answered, but the answer cannot be read: {error}") from error

    def _method_result(self, body: Element, target: CimPath, method: CimMethod, asked: str) -> MethodResult:
        wanted = f"{method.name}_OUTPUT".lower()
        output = next((one for one in body if local_name(one.tag).lower() == wanted), None)
        if output is None:
            raise ProtocolError(f"{asked} was answered without {method.name}_OUTPUT.")
        returned, out = decode_output(
            output,
            schema=self._schema,
            namespace=target.namespace,
            class_name=target.class_name,
            method=method,
        )
        return MethodResult(return_value=returned, out=out)

    def delete(self, path: CimPath) -> None:
        """Delete one instance by all its keys, once; for the classes whose provider offers it (a scheduled task).

        Raises:
            NotFound: there is no such instance.
            OutcomeUnknown: the answer was lost, unreadable or a timeout; look, do not repeat.
        """
        self._schema.require(path.namespace, path.class_name)
        asked = f"The deletion of one {path.class_name} in {path.namespace}"
        request = Request(
            action=DELETE, resource_uri=resource_uri(path.namespace, path.class_name), selectors=path.keys
        )
        with _without_filter(asked):
            self._act(request, asked)

    def run(
        self,
        command: str,
        *,
        arguments: Sequence[str] = (),
        stdin: bytes = b"",
        skip_cmd_shell: bool = False,
        keep_waiting: Callable[[], bool] | None = None,
        max_output_bytes: int | None = None,
    ) -> shell.ShellResult:
        """Run a program in a shell of its own and wait for it; see ``shell.py``.

        Args:
            command: command line for cmd.exe, or with ``skip_cmd_shell`` the program itself.
            keep_waiting: asked before each further wait of up to the operation timeout; False ends the program.

        Raises:
            OutcomeUnknown: from the moment the command was sent on, whatever goes wrong, the deadline included.
        """
        from . import shell  # few tasks run a program

        return shell.run(
            self._exchange,
            shell.Command(
                line=command,
                arguments=tuple(arguments),
                stdin=stdin,
                skip_cmd_shell=skip_cmd_shell,
                max_output_bytes=shell.MAX_OUTPUT_BYTES if max_output_bytes is None else max_output_bytes,
                # Base64 and the frame around it must fit the envelope.
                stdin_chunk_bytes=max(1024, (self._settings.max_envelope_bytes - 16_384) // 4 * 3),
            ),
            keep_waiting=keep_waiting,
        )

    # -- one exchange -------------------------------------------------------------------------------------------------

    def _exchange(self, request: Request, asked: str) -> Element:
        """Send once; the Body of the answer, or an exception."""
        message_id = f"uuid:{self._new_id().removeprefix('uuid:').upper()}"
        message = envelope(request, self._settings, message_id)
        if len(message) > self._settings.max_envelope_bytes:
            raise EnvelopeTooLarge(
                f"{asked} needs a message of {len(message)} bytes, but {self._settings.max_envelope_bytes} is the limit; "
                f"nothing was sent, split the request."
            )
        data = self._send(message)
        if not data.strip():
            raise http_error(500, data)
        answer = read_answer(data, message_id)
        if answer.fault is not None:
            raise fault_error(answer.fault, asked)
        return answer.body

    def _read(self, request: Request, asked: str) -> Element:
        try:
            return self._exchange(request, asked)
        except (ReplyLost, RequestNotSent) as error:
            if not error.repeatable:
                raise
        return self._exchange(request, asked)

    def _act(self, request: Request, asked: str) -> Element:
        try:
            return self._exchange(request, asked)
        except ProtocolError as error:
            raise ReplyUnreadable(f"{asked} was answered, but the answer cannot be read: {error}") from error
        except (ReplyLost, OperationTimedOut) as error:
            raise _unknown(asked, error) from error
        except HttpError as error:
            if not error.may_have_run:
                raise
            raise _unknown(asked, error) from error

    # -- enumerations -------------------------------------------------------------------------------------------------

    def _rows(
        self,
        request: Request,
        namespace: str,
        class_name: str,
        asked: str,
        *,
        deep: bool = True,
        limit: int | None = None,
    ) -> list[CimInstance]:
        for restart in range(MAX_RESTARTS + 1):
            try:
                return self._rows_once(request, namespace, class_name, asked, deep=deep, limit=limit)
            except InvalidContext:
                if restart == MAX_RESTARTS:
                    raise
            except _PullLost as lost:
                if restart == MAX_RESTARTS or not lost.cause.repeatable:
                    raise lost.cause from None
        raise AssertionError("unreachable: the last restart returns or raises")

    def _rows_once(
        self, request: Request, namespace: str, class_name: str, asked: str, *, deep: bool, limit: int | None
    ) -> list[CimInstance]:
        rows: list[CimInstance] = []
        page = read_page(self._read(request, asked))
        empty = 0
        for _unused in range(MAX_PAGES):
            try:
                for item in page.items:
                    row = self._row(item, namespace, class_name)
                    if deep or row.class_name.lower() == class_name.lower():
                        rows.append(row)
                empty = 0 if page.items else empty + 1
                if len(rows) > MAX_ROWS:
                    raise ProtocolError(f"{asked} gave more than {MAX_ROWS} rows; ask for fewer.")
                if empty > MAX_EMPTY_PAGES:
                    raise ProtocolError(f"{asked} gave {empty} empty pages in a row and no end.")
            except WsmanError:
                self._release(request.resource_uri, page.context, asked)
                raise
            if limit is not None and len(rows) >= limit:
                self._release(request.resource_uri, page.context, asked)
                return rows[:limit]
            if page.context is None:
                return rows
            page = self._pull(request.resource_uri, page.context, asked)
        self._release(request.resource_uri, page.context, asked)
        raise ProtocolError(f"{asked} gave more than {MAX_PAGES} pages; ask for fewer rows.")

    def _pull(self, uri: str, context: str, asked: str) -> Page:
        request = pull_request(uri, context, PAGE_ELEMENTS)
        repeated = False
        for _unused in range(MAX_EMPTY_PAGES):
            try:
                return read_page(self._exchange(request, asked))
            except ReplyLost as lost:
                raise _PullLost(lost) from lost
            except RequestNotSent as error:
                if repeated or not error.repeatable:
                    raise
                repeated = True
            except OperationTimedOut as error:
                if error.code != PULL_TIMED_OUT:
                    raise
        raise ProtocolError(f"{asked} gave no rows in {MAX_EMPTY_PAGES} attempts and no end.")

    def _release(self, uri: str, context: str | None, asked: str) -> None:
        """Free the host's enumeration; it expires by itself, so a failure is of no consequence."""
        if context is None:
            return
        try:
            self._exchange(release_request(uri, context), asked)
        except WsmanError:
            return

    def _row(self, item: Element, namespace: str, class_name: str) -> CimInstance:
        path: CimPath | None = None
        instance: Element | None = item
        # A class could be called Item: only EnumerateObjectAndEPR's has an EndpointReference inside.
        if local_name(item.tag) == "Item" and any(local_name(one.tag) == "EndpointReference" for one in item):
            instance = None
            for one in item:
                if local_name(one.tag) == "EndpointReference":
                    path = decode_reference(
                        one, schema=self._schema, namespace=namespace, what=f"The path of a {class_name}"
                    )
                else:
                    instance = one
        if instance is None:
            raise ProtocolError(f"A row of the query of {class_name} holds a path but no instance.")
        return decode_instance(instance, schema=self._schema, namespace=namespace, class_name=class_name, path=path)

    def _probe(self, namespace: str, class_name: str, refused: FilterRefused) -> None:
        """Ask for the class without a filter: returns when it is there, raises `ClassMissing` when it is not."""
        try:
            self.enumerate(namespace, class_name, limit=1)
        except ClassMissing as missing:
            raise missing from refused


def _page_size(limit: int | None) -> int:
    return PAGE_ELEMENTS if limit is None else max(1, min(limit, PAGE_ELEMENTS))


def _unknown(asked: str, error: WsmanError) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"{asked} was sent, but whether it was executed is not known ({str(error).rstrip('.')}); it is not repeated, "
        f"look at the host."
    )


@contextmanager
def _without_filter(asked: str) -> Iterator[None]:
    """Where no filter was sent, "cannot process the filter" means that the class is not there (windows-storage 1.3)."""
    try:
        yield
    except FilterRefused as error:
        raise _as_class_missing(error, asked) from error


def _as_class_missing(error: WsmanFault, asked: str) -> ClassMissing:
    return ClassMissing(
        f"{asked} found no such class on the host (fault {error.code}); the role or feature that brings it is not "
        f"installed, or this Windows is too old.",
        code=error.code,
        subcode=error.subcode,
        reason=error.reason,
        provider_code=error.provider_code,
        provider_message=error.provider_message,
        cim_status=error.cim_status,
    )
