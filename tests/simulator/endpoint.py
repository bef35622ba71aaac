# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The WS-Management endpoint of one machine: which action means what, enumeration contexts, limits, faults.

`Endpoint.exchange` takes the bytes of one request and gives status and bytes of the answer; doors carry them. The
rules are those of wsman 1 to 6 and wire-shapes 1 to 3. CIM itself is service.py, shells are shell.py.
"""

from __future__ import annotations

import random
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Protocol

from . import wire, wql
from .assumed import assumed
from .cim import CimFault, Instance, Ref, normal_namespace
from .service import Caller, CimService, Rows, acting_as, host_name
from .wire import A, B, N, Request, W, X
from .wire_faults import fault_envelope

assumed(
    "unknown-header",
    "A SOAP header that nobody knows and that is not mustUnderstand is ignored, or (to find typos) a fault.",
    source="SOAP 1.2; what Windows does is not recorded",
    values=("ignored", "fault"),
)
assumed(
    "empty-result-items",
    "An optimised enumeration without rows answers without w:Items, or with an empty one, before w:EndOfSequence.",
    source="windows-storage 1.1: the first reply may hold no Items; a client that was tested against Windows with an "
    "empty result reads no Items and would not read an empty one",
    values=("absent", "empty"),
)
assumed(
    "request-too-large",
    "A request above MaxEnvelopeSizekb is w:EncodingLimit 2150858805.",
    source="wsman 7: the limit holds for requests too; the number is from winerror.h",
)
assumed(
    "operation-quota",
    "Open enumerations count as operations; beyond MaxConcurrentOperationsPerUser the answer is 2150859174.",
    source="wsman 7; what counts is a guess",
)
assumed(
    "required-headers",
    "To, Action, MessageID and ReplyTo are required; without one 2150858769.",
    source="WS-Management standard; the Windows answer is not recorded",
)
assumed(
    "enumerate-everything",
    "Enumerate of the class * without a filter is n:CannotProcessFilter.",
    source="no source",
)
assumed(
    "default-namespace",
    "A DMTF class URI without __cimnamespace means root/cimv2.",
    source="MS-WSMV, from memory",
)
assumed(
    "shell-list",
    "Enumerating windows/shell lists the open shells to administrators and is access denied to others.",
    source="what a public WinRM client relies on to tell administrators; the answer is not recorded",
)

PAGE_CHARACTERS = 153_600 // 2
MAX_BATCH_ITEMS = 32_000
WQL_ON_CLASS = 2150859003
ALL_SHELLS = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell"
SHELL_PREFIXES = ("http://schemas.microsoft.com/wbem/wsman/1/windows/shell", "http://schemas.microsoft.com/powershell/")


@dataclass(frozen=True, kw_only=True)
class WinRmSettings:
    """The WinRM service configuration of a machine, with the defaults of wsman 7."""

    basic: bool = False
    negotiate: bool = True
    certificate: bool = False
    allow_unencrypted: bool = False
    enumeration_timeout: float = 240.0
    max_envelope_kb: int = 500
    max_timeout: float = 60.0
    max_shells_per_user: int = 30
    max_processes_per_shell: int = 25
    max_operations_per_user: int = 1500
    idle_timeout: float = 7200.0
    certificate_kind: str = "trusted"

    @classmethod
    def of(cls, machine: Any) -> WinRmSettings:
        """`machine.winrm` may be settings, a mapping of them, or absent."""
        given = getattr(machine, "winrm", None)
        if isinstance(given, WinRmSettings):
            return given
        return cls(**dict(given)) if isinstance(given, Mapping) else cls()


class ShellHost(Protocol):
    """What handles shell resource URIs: (reply action, body text, further prefixes)."""

    def handle(self, request: Request, who: Caller) -> tuple[str, str, str]: ...

    def forget(self) -> None: ...

    def listing(self) -> list[str]: ...


@dataclass(kw_only=True)
class _Context:
    items: list[str]
    owner: str
    namespace: str
    expires: datetime


@dataclass(frozen=True, kw_only=True)
class Reply:
    """`close` asks the door to end the connection after a complete answer, `truncated` in the middle of it.

    `waited` tells that a real server would have kept the client waiting; a door may do so for a moment.
    """

    status: int
    body: bytes
    close: bool = False
    truncated: bool = False
    waited: bool = False


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What an exchange was about, for fault rules and the transcript; never holds a body or a secret."""

    machine: str
    action: str
    namespace: str = ""
    class_name: str = ""
    method: str = ""
    query: str = ""
    selectors: str = ""


@dataclass(kw_only=True)
class _Answer:
    action: str
    body: str
    prefixes: str = "w"


class Endpoint:
    """One machine's WS-Management service. Not thread-safe by itself: doors hold the world's lock."""

    def __init__(self, machine: Any, service: CimService | None = None, shells: ShellHost | None = None) -> None:
        self.machine = machine
        self.service = service or CimService(machine)
        self.shells = shells
        self.contexts: dict[str, _Context] = {}
        self._booted: Any = getattr(machine, "booted_at", None)
        self._dice = random.Random(f"{getattr(getattr(machine, 'world', None), 'seed', 0)}:{machine.name}:endpoint")

    def new_id(self) -> str:
        """An upper-case GUID; the same world and the same exchanges give the same ones."""
        return str(uuid.UUID(int=self._dice.getrandbits(128), version=4)).upper()

    # -- surroundings -------------------------------------------------------------------------------------------------

    @property
    def lang(self) -> str:
        return str(getattr(getattr(self.machine, "os", None), "locale", "en-US"))

    @property
    def host(self) -> str:
        return host_name(self.machine)

    @property
    def settings(self) -> WinRmSettings:
        return WinRmSettings.of(self.machine)

    def now(self) -> datetime:
        clock: Any = getattr(getattr(self.machine, "world", None), "clock", None)
        moment: datetime = clock.utc() if clock is not None else datetime.now(timezone.utc)
        return moment

    def let_pass(self, seconds: float) -> None:
        """Simulated time passes while the server waits."""
        clock: Any = getattr(getattr(self.machine, "world", None), "clock", None)
        if clock is not None:
            clock.advance(seconds)

    # -- one exchange -------------------------------------------------------------------------------------------------

    def exchange(self, who: Caller | None, data: bytes) -> Reply:
        """Answer one request. `who` is None before authentication: then only Identify is answered."""
        request = Request()
        self._notice_reboot()
        try:
            if len(data) > self.settings.max_envelope_kb * 1024:
                self.service.assume("request-too-large")
                raise CimFault.wsman(2150858805, "w:EncodingLimit")
            request = wire.parse_request(data)
            if request.identify:
                return Reply(status=200, body=wire.identify_response(self._product_version(who is not None), self.lang))
            if who is None:
                return Reply(status=401, body=b"")
            self._check_headers(request)
            with acting_as(who):
                answer = self._dispatch(request, who)
            body = wire.envelope(
                answer.action,
                f"uuid:{self.new_id()}",
                request.message_id,
                answer.body,
                answer.prefixes + (" p" if request.activity_id and "p" not in answer.prefixes.split() else ""),
                self.lang,
                request.activity_id,
            )
            if len(body) > min(request.max_envelope_size, self.settings.max_envelope_kb * 1024):
                raise CimFault.wsman(2150858824, "w:EncodingLimit")
        except CimFault as fault:
            waited = fault.code == 2150858793 and request.action == f"{wire.RSP}/Receive"
            return Reply(status=500, body=self._fault(fault, request), waited=waited)
        return Reply(status=200, body=body)

    def _notice_reboot(self) -> None:
        """Enumeration contexts and shells do not survive a restart of the machine."""
        booted = getattr(self.machine, "booted_at", None)
        if booted != self._booted:
            self._booted = booted
            self.contexts.clear()
            if self.shells is not None:
                self.shells.forget()

    def fault(self, fault: CimFault, data: bytes) -> bytes:
        """The fault message for a request, for rules that answer instead of the machine."""
        try:
            request = wire.parse_request(data)
        except CimFault:
            request = Request()
        return self._fault(fault, request)

    def _fault(self, fault: CimFault, request: Request) -> bytes:
        target = wire.parse_class_uri(request.resource_uri)
        return fault_envelope(
            fault,
            message_id=f"uuid:{self.new_id()}",
            relates_to=request.message_id,
            host=self.host,
            namespace=target[0] if target else "",
            in_query=fault.operation == "ExecQuery",
            assume=self.service.assume,
            lang=self.lang,
            activity=request.activity_id,
        )

    def summary(self, data: bytes) -> Summary:
        """What the request asks for, read leniently."""
        try:
            request = wire.parse_request(data)
        except CimFault:
            return Summary(machine=str(self.machine.name), action="unreadable")
        target = wire.parse_class_uri(request.resource_uri)
        action, method = request.action, ""
        head, _unused, tail = request.action.rpartition("/")
        if head and head.lower() == request.resource_uri.lower():
            action, method = "Invoke", tail
        elif request.identify:
            action = "Identify"
        else:
            action = tail or request.action
        query = ""
        if request.body is not None:
            filters = request.body.find(f"{{{W}}}Filter")
            query = wire.text_of(filters)[:500] if filters is not None else ""
        class_name = target[1] if target else request.resource_uri.rpartition("/")[2]
        return Summary(
            machine=str(self.machine.name),
            action=action,
            namespace=target[0] if target else "",
            class_name=class_name,
            method=method,
            query=query,
            selectors=",".join(f"{name}={value}" for name, value in request.selectors if isinstance(value, str)),
        )

    def _product_version(self, authenticated: bool) -> str:
        version = str(getattr(getattr(self.machine, "os", None), "version", "10.0.17763"))
        return f"OS: {version if authenticated else '0.0.0'} SP: 0.0 Stack: 3.0"

    def _check_headers(self, request: Request) -> None:
        if request.misunderstood:
            raise CimFault.wsman(2150858768, "s:MustUnderstand", f"Not understood: {', '.join(request.misunderstood)}")
        if request.unknown_headers and self.service.assume("unknown-header") == "fault":
            names = ", ".join(request.unknown_headers)
            raise CimFault.wsman(2150858767, "a:InvalidMessageInformationHeader", f"Unknown headers: {names}")
        if not (request.action and request.message_id and request.to and request.reply_to):
            self.service.assume("required-headers")
            raise CimFault.wsman(2150858769, "a:MessageInformationHeaderRequired")
        if not request.resource_uri:
            raise CimFault.wsman(2150858811, "w:InvalidResourceURI")
        if request.max_envelope_size < wire.MIN_ENVELOPE_SIZE:
            raise CimFault.wsman(2150858878, "w:EncodingLimit")

    # -- dispatch -----------------------------------------------------------------------------------------------------

    def _dispatch(self, request: Request, who: Caller) -> _Answer:
        uri = request.resource_uri.lower()
        if uri == ALL_SHELLS and request.action in (f"{N}/Enumerate", f"{N}/Pull", f"{N}/Release"):
            return self._shell_list(request, who)
        if uri.startswith(SHELL_PREFIXES):
            return self._shell(request, who)
        if uri == wire.CONFIG_URI or uri.startswith(wire.CONFIG_URI + "/"):
            return self._config(request, who)
        target = wire.parse_class_uri(request.resource_uri)
        if target is None:
            raise CimFault.wsman(2150858811, "w:InvalidResourceURI")
        namespace, class_name, selectors = self._address(target, request)
        action = request.action
        if action in (f"{N}/Pull", f"{N}/Release"):
            return self._pull(request, who) if action == f"{N}/Pull" else self._release(request, who)
        if action == f"{N}/Enumerate":
            return self._enumerate(request, namespace, class_name, selectors, who)
        if class_name == "*":
            raise CimFault.wsman(2150858771, "a:ActionNotSupported")
        if action == f"{X}/Get":
            found = self.service.get(namespace, class_name, selectors)
            return _Answer(action=f"{X}/GetResponse", body=self._writer(request).instance(found), prefixes="x w p")
        if action in (f"{X}/Put", f"{X}/Create", f"{X}/Delete"):
            return self._change(request, namespace, class_name, selectors)
        head, _unused, method = action.rpartition("/")
        if head.lower() != request.resource_uri.lower():
            raise CimFault.wsman(2150858771, "a:ActionNotSupported")
        entry, method_entry, values = self.service.invoke(namespace, class_name, method, selectors, request.body)
        return _Answer(action=f"{action}Response", body=self._writer(request).output(entry, method_entry, values))

    def _writer(self, request: Request) -> wire.Writer:
        return wire.Writer(
            schema=self.service.schema,
            host=self.host,
            assume=self.service.assume,
            dmtf_form=not request.resource_uri.lower().startswith(wire.WMI_PREFIX),
        )

    def _address(self, target: tuple[str, str], request: Request) -> tuple[str, str, list[tuple[str, Any]]]:
        """Namespace, class and selectors without __cimnamespace, which may name the namespace but not another one."""
        namespace, class_name = target
        rest = []
        for name, value in request.selectors:
            if name.lower() != "__cimnamespace":
                rest.append((name, value))
            elif not namespace:
                namespace = normal_namespace(str(value))
            elif normal_namespace(str(value)) != namespace:
                raise CimFault.wsman(2150859067, "w:InvalidSelectors")
        if not namespace:
            self.service.assume("default-namespace")
            namespace = "root/cimv2"
        return namespace, class_name, rest

    # -- enumeration --------------------------------------------------------------------------------------------------

    def _enumerate(
        self, request: Request, namespace: str, class_name: str, selectors: list[tuple[str, Any]], who: Caller
    ) -> _Answer:
        asked = _read_enumerate(request.body)
        if selectors:
            raise CimFault.wsman(2150859016, "w:InvalidSelectors")
        rows = self._rows(asked, namespace, class_name)
        items = [self._item(self._writer(request), row, rows, asked.mode) for row in rows.instances]
        return self._first(items, asked, namespace, who)

    def _first(self, items: list[str], asked: _Enumerate, namespace: str, who: Caller) -> _Answer:
        if not asked.optimized:
            context = self._keep(items, who, namespace)
            inner = f"<n:EnumerationContext>{context}</n:EnumerationContext>"
        elif len(items) <= 1:
            filled = f"<w:Items>{items[0]}</w:Items>" if items else self._empty_items()
            inner = f"<n:EnumerationContext></n:EnumerationContext>{filled}<w:EndOfSequence/>"
        else:
            context = self._keep(items[1:], who, namespace)
            inner = f"<n:EnumerationContext>{context}</n:EnumerationContext><w:Items>{items[0]}</w:Items>"
        return _Answer(
            action=f"{N}/EnumerateResponse", body=f"<n:EnumerateResponse>{inner}</n:EnumerateResponse>", prefixes="n w"
        )

    def _empty_items(self) -> str:
        return "<w:Items></w:Items>" if self.service.assume("empty-result-items") == "empty" else ""

    def _rows(self, asked: _Enumerate, namespace: str, class_name: str) -> Rows:
        if asked.dialect == wire.WQL_DIALECT.lower():
            if class_name != "*":
                raise CimFault.wsman(WQL_ON_CLASS, "n:CannotProcessFilter")
            return self.service.query(namespace, asked.query)
        if asked.dialect == wire.ASSOCIATION_DIALECT.lower():
            if class_name != "*":
                raise CimFault.wsman(WQL_ON_CLASS, "n:CannotProcessFilter")
            return Rows(instances=tuple(self._associated(asked.filter_element, namespace)))
        if asked.dialect == wire.SELECTOR_DIALECT.lower():
            selector_set = (
                asked.filter_element.find(f"{{{W}}}SelectorSet") if asked.filter_element is not None else None
            )
            if selector_set is None or class_name == "*":
                raise CimFault.wsman(2150858778, "n:CannotProcessFilter")
            return self.service.select_rows(namespace, class_name, wire.parse_selectors(selector_set))
        if asked.dialect:
            raise CimFault.wsman(2150858777, "n:FilterDialectRequestedUnavailable")
        if class_name == "*":
            self.service.assume("enumerate-everything")
            raise CimFault.wsman(2150858778, "n:CannotProcessFilter")
        return self.service.enumerate(namespace, class_name)

    def _associated(self, element: ET.Element | None, namespace: str) -> list[Instance]:
        inner = next(iter(element), None) if element is not None else None
        if inner is None or inner.tag not in (f"{{{B}}}AssociatedInstances", f"{{{B}}}AssociationInstances"):
            raise CimFault.wsman(2150858778, "n:CannotProcessFilter")
        source, chosen = None, {}
        for child in inner:
            name = wire.split(child.tag)[1]
            if name == "Object":
                nested = child.find(f"{{{A}}}EndpointReference")
                source = wire.parse_reference(child if nested is None else nested)
            elif name in ("AssociationClassName", "ResultClassName", "Role", "ResultRole"):
                chosen[name] = wire.text_of(child)
            else:
                raise CimFault.wsman(2150858778, "n:CannotProcessFilter")
        if source is None:
            raise CimFault.wsman(2150858778, "n:CannotProcessFilter")
        references = inner.tag == f"{{{B}}}AssociationInstances"
        association = chosen.get("AssociationClassName", "")
        walk = wql.Walk(
            references=references,
            source=Ref(source.namespace or namespace, source.class_name, source.keys),
            association="" if references else association,
            result=chosen.get("ResultClassName", "") or (association if references else ""),
            role=chosen.get("Role", ""),
            result_role=chosen.get("ResultRole", ""),
        )
        self.service.enter(namespace)
        return list(self.service.walk(walk))

    def _item(self, writer: wire.Writer, row: Instance, rows: Rows, mode: str) -> str:
        if mode == "EnumerateEPR":
            return writer.endpoint_reference(self.service.reference(row))
        shown = writer.instance(row) if rows.columns is None else writer.fragment(row, rows.columns)
        if mode == "EnumerateObjectAndEPR":
            return f"<w:Item>{shown}{writer.endpoint_reference(self.service.reference(row))}</w:Item>"
        return shown

    def _keep(self, items: list[str], who: Caller, namespace: str) -> str:
        identifier = f"uuid:{self.new_id()}"
        self.contexts = {key: value for key, value in self.contexts.items() if value.expires > self.now()}
        mine = sum(1 for value in self.contexts.values() if value.owner == who.account.lower())
        if mine >= self.settings.max_operations_per_user:
            self.service.assume("operation-quota")
            raise CimFault.wsman(2150859174, "w:InternalError")
        self.contexts[identifier] = _Context(
            items=items,
            owner=who.account.lower(),
            namespace=namespace,
            expires=self.now() + timedelta(seconds=self.settings.enumeration_timeout),
        )
        return identifier

    def _take(self, identifier: str, who: Caller) -> _Context:
        context = self.contexts.pop(identifier, None)
        if context is None or context.owner != who.account.lower() or context.expires <= self.now():
            raise CimFault.wsman(2150858779, "n:InvalidEnumerationContext")
        return context

    def _pull(self, request: Request, who: Caller) -> _Answer:
        body = _need_body(request, "Pull")
        wanted, characters, identifier = 1, PAGE_CHARACTERS, ""
        for child in body:
            space, name = wire.split(child.tag)
            if space != N or name not in ("EnumerationContext", "MaxElements", "MaxCharacters", "MaxTime"):
                raise wire.schema_error(f"Pull has no element {name}")
            text = wire.text_of(child)
            if name == "EnumerationContext":
                identifier = text
            elif name == "MaxTime":
                wire.parse_duration(text)
            elif not _is_count(text):
                raise CimFault.wsman(2150858799, "w:InvalidBatchParameter")
            elif name == "MaxElements":
                wanted = min(int(text), MAX_BATCH_ITEMS)
            else:
                characters = min(int(text), PAGE_CHARACTERS)
        context = self._take(identifier, who)
        room = min(characters, request.max_envelope_size - 2048)
        page: list[str] = []
        while context.items and len(page) < wanted:
            size = len(context.items[0])
            if page and size > room:
                break
            if not page and size > request.max_envelope_size - 2048:
                raise CimFault.wsman(2150858824, "w:EncodingLimit")
            room -= size
            page.append(context.items.pop(0))
        items = f"<n:Items>{''.join(page)}</n:Items>"
        if context.items:
            inner = f"<n:EnumerationContext>{self._keep(context.items, who, context.namespace)}</n:EnumerationContext>{items}"
        else:
            inner = f"{items}<n:EndOfSequence/>"
        return _Answer(action=f"{N}/PullResponse", body=f"<n:PullResponse>{inner}</n:PullResponse>", prefixes="n w")

    def _release(self, request: Request, who: Caller) -> _Answer:
        body = _need_body(request, "Release")
        self._take(wire.text_of(body.find(f"{{{N}}}EnumerationContext")), who)
        return _Answer(action=f"{N}/ReleaseResponse", body="", prefixes="n w")

    # -- changes ------------------------------------------------------------------------------------------------------

    def _change(self, request: Request, namespace: str, class_name: str, selectors: list[tuple[str, Any]]) -> _Answer:
        if request.action == f"{X}/Delete":
            self.service.delete(namespace, class_name, selectors)
            return _Answer(action=f"{X}/DeleteResponse", body="", prefixes="x w")
        entry = self.service.entry(self.service.enter(namespace), class_name, "PutInstance")
        if request.body is None or wire.split(request.body.tag)[1] != entry.name:
            raise wire.schema_error(f"the body needs the element {entry.name}")
        properties = wire.parse_properties(request.body, entry, self.service.schema)
        writer = self._writer(request)
        if request.action == f"{X}/Put":
            changed = self.service.put(namespace, class_name, selectors, properties)
            return _Answer(action=f"{X}/PutResponse", body=writer.instance(changed), prefixes="x w p")
        reference = writer.reference(self.service.create(namespace, class_name, properties))
        return _Answer(
            action=f"{X}/CreateResponse", body=f"<x:ResourceCreated>{reference}</x:ResourceCreated>", prefixes="x w p"
        )

    # -- what is not CIM ----------------------------------------------------------------------------------------------

    def _shell(self, request: Request, who: Caller) -> _Answer:
        if self.shells is None:
            raise CimFault.wsman(2150858811, "w:InvalidResourceURI")
        action, body, prefixes = self.shells.handle(request, who)
        return _Answer(action=action, body=body, prefixes=prefixes)

    def _shell_list(self, request: Request, who: Caller) -> _Answer:
        """The open shells of everybody; only administrators may ask, and clients ask to learn whether they are one."""
        self.service.assume("shell-list")
        if not who.is_administrator:
            raise CimFault.wsman(5, "w:AccessDenied")
        if request.action != f"{N}/Enumerate":
            return self._pull(request, who) if request.action == f"{N}/Pull" else self._release(request, who)
        asked = _read_enumerate(request.body)
        if asked.dialect:
            raise CimFault.wsman(2150858777, "n:FilterDialectRequestedUnavailable")
        return self._first(self.shells.listing() if self.shells is not None else [], asked, "", who)

    def _config(self, request: Request, who: Caller) -> _Answer:
        if request.action != f"{X}/Get" or request.resource_uri.lower() != wire.CONFIG_URI:
            raise CimFault.wsman(2150858771, "a:ActionNotSupported")
        if not who.is_administrator:
            raise CimFault.wsman(5, "w:AccessDenied")
        return _Answer(action=f"{X}/GetResponse", body=_config_text(self.settings, self.lang), prefixes="x w p")


@dataclass(frozen=True, kw_only=True)
class _Enumerate:
    optimized: bool
    mode: str
    dialect: str
    query: str
    filter_element: ET.Element | None


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 18 and int(text) > 0


def _need_body(request: Request, name: str) -> ET.Element:
    if request.body is None or request.body.tag != f"{{{N}}}{name}":
        raise wire.schema_error(f"the body needs the element {name}")
    return request.body


def _read_enumerate(body: ET.Element | None) -> _Enumerate:
    if body is None or body.tag != f"{{{N}}}Enumerate":
        raise wire.schema_error("the body needs the element Enumerate")
    optimized, mode, found = False, "", None
    for child in body:
        space, name = wire.split(child.tag)
        text = wire.text_of(child)
        if (space, name) == (W, "OptimizeEnumeration"):
            optimized = True
        elif (space, name) == (W, "MaxElements"):
            if not _is_count(text):
                raise CimFault.wsman(2150858799, "w:InvalidBatchParameter")
        elif (space, name) == (W, "EnumerationMode"):
            if text not in ("EnumerateEPR", "EnumerateObjectAndEPR"):
                raise CimFault.wsman(2150858886, "w:UnsupportedFeature")
            mode = text
        elif (space, name) == (B, "PolymorphismMode"):
            if text != "IncludeSubClassProperties":
                raise CimFault.wsman(2150859063, "w:UnsupportedFeature")
        elif name == "Filter" and space in (W, N):
            if found is not None:
                raise CimFault.wsman(2150858778, "n:CannotProcessFilter")
            found = child
        elif (space, name) == (N, "Expires"):
            wire.parse_duration(text)
        else:
            raise wire.schema_error(f"Enumerate has no element {name}")
    dialect = found.get("Dialect", "").lower() if found is not None else ""
    if found is not None and not dialect:
        raise CimFault.wsman(2150858777, "n:FilterDialectRequestedUnavailable")
    query = "" if found is None else (found.text or "")
    return _Enumerate(optimized=optimized, mode=mode, dialect=dialect, query=query, filter_element=found)


def _config_text(settings: WinRmSettings, lang: str) -> str:
    def word(flag: bool) -> str:
        return "true" if flag else "false"

    return (
        f'<cfg:Config xmlns:cfg="{wire.CONFIG_URI}" xml:lang="{lang}">'
        f"<cfg:MaxEnvelopeSizekb>{settings.max_envelope_kb}</cfg:MaxEnvelopeSizekb>"
        f"<cfg:MaxTimeoutms>{int(settings.max_timeout * 1000)}</cfg:MaxTimeoutms>"
        f"<cfg:MaxBatchItems>{MAX_BATCH_ITEMS}</cfg:MaxBatchItems>"
        "<cfg:MaxProviderRequests>4294967295</cfg:MaxProviderRequests>"
        "<cfg:Service><cfg:MaxConcurrentOperations>4294967295</cfg:MaxConcurrentOperations>"
        f"<cfg:MaxConcurrentOperationsPerUser>{settings.max_operations_per_user}</cfg:MaxConcurrentOperationsPerUser>"
        f"<cfg:EnumerationTimeoutms>{int(settings.enumeration_timeout * 1000)}</cfg:EnumerationTimeoutms>"
        "<cfg:MaxConnections>300</cfg:MaxConnections>"
        "<cfg:MaxPacketRetrievalTimeSeconds>120</cfg:MaxPacketRetrievalTimeSeconds>"
        f"<cfg:AllowUnencrypted>{word(settings.allow_unencrypted)}</cfg:AllowUnencrypted>"
        f"<cfg:Auth><cfg:Basic>{word(settings.basic)}</cfg:Basic><cfg:Kerberos>true</cfg:Kerberos>"
        f"<cfg:Negotiate>{word(settings.negotiate)}</cfg:Negotiate>"
        f"<cfg:Certificate>{word(settings.certificate)}</cfg:Certificate><cfg:CredSSP>false</cfg:CredSSP>"
        "<cfg:CbtHardeningLevel>Relaxed</cfg:CbtHardeningLevel></cfg:Auth></cfg:Service>"
        "<cfg:Winrs><cfg:AllowRemoteShellAccess>true</cfg:AllowRemoteShellAccess>"
        f"<cfg:IdleTimeout>{int(settings.idle_timeout * 1000)}</cfg:IdleTimeout>"
        f"<cfg:MaxProcessesPerShell>{settings.max_processes_per_shell}</cfg:MaxProcessesPerShell>"
        f"<cfg:MaxShellsPerUser>{settings.max_shells_per_user}</cfg:MaxShellsPerUser>"
        "</cfg:Winrs></cfg:Config>"
    )
