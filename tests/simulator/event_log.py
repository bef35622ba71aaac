# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The event logs of one simulated Windows machine: channels, records, their XML, and the XPath that queries accept.

Not here: wevtutil (programs/wevtutil.py) and the CIM view Win32_NTLogEvent (event_log_provider.py).
Facts: backup-engines 1.10 for the channel Microsoft-Windows-Backup; the XML is the event schema of win32 WES.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from xml.sax.saxutils import escape, quoteattr

EVENT_NAMESPACE = "http://schemas.microsoft.com/win/2004/08/events/event"
BACKUP_CHANNEL = "Microsoft-Windows-Backup"
BACKUP_PROVIDER = "Microsoft-Windows-Backup"
BACKUP_PROVIDER_GUID = "{1db28f2e-8f80-4027-8c5a-a11f7f10f62d}"

CRITICAL, ERROR, WARNING, INFORMATION = 1, 2, 3, 4
LEVEL_NAMES = {0: "Information", 1: "Critical", 2: "Error", 3: "Warning", 4: "Information", 5: "Verbose"}
CLASSIC_CHANNELS = ("Application", "Security", "System")
CHANNELS = (
    *CLASSIC_CHANNELS,
    BACKUP_CHANNEL,
    "Microsoft-Windows-Hyper-V-VMMS-Admin",
    "Microsoft-Windows-Hyper-V-Worker-Admin",
    "Microsoft-Windows-TaskScheduler/Operational",
)
HYPERV_CHANNELS = ("Microsoft-Windows-Hyper-V-VMMS-Admin", "Microsoft-Windows-Hyper-V-Worker-Admin")
MAXIMUM_RECORDS = 20000


@dataclass(frozen=True, kw_only=True)
class EventRecord:
    """One event; `data` holds the named fields in order, `message` is what rendering in the machine's locale gives."""

    record_id: int
    channel: str
    provider: str
    event_id: int
    level: int
    created: datetime
    computer: str
    data: tuple[tuple[str, str], ...] = ()
    provider_guid: str = ""
    opcode: int = 0
    task: int = 0
    keywords: int = 0x8000000000000000
    process_id: int = 4
    thread_id: int = 8
    user_sid: str = "S-1-5-18"
    message: str = ""

    def xml(self) -> str:
        """One line, single-quoted attributes, the order of elements that wevtutil prints."""
        data = "".join(
            f"<Data Name={_attribute(name)}>{escape(_clean(value))}</Data>"
            if value
            else f"<Data Name={_attribute(name)}></Data>"
            for name, value in self.data
        )
        guid = f" Guid={_attribute(self.provider_guid)}" if self.provider_guid else ""
        user = f"<Security UserID={_attribute(self.user_sid)}/>" if self.user_sid else "<Security/>"
        return (
            f"<Event xmlns='{EVENT_NAMESPACE}'><System><Provider Name={_attribute(self.provider)}{guid}/>"
            f"<EventID>{self.event_id}</EventID><Version>0</Version><Level>{self.level}</Level><Task>{self.task}</Task>"
            f"<Opcode>{self.opcode}</Opcode><Keywords>0x{self.keywords:x}</Keywords>"
            f"<TimeCreated SystemTime='{system_time(self.created)}'/><EventRecordID>{self.record_id}</EventRecordID>"
            f"<Correlation/><Execution ProcessID='{self.process_id}' ThreadID='{self.thread_id}'/>"
            f"<Channel>{escape(self.channel)}</Channel><Computer>{escape(self.computer)}</Computer>{user}</System>"
            f"<EventData>{data}</EventData></Event>"
        )

    def field(self, name: str) -> str | None:
        return next((value for key, value in self.data if key == name), None)


def _attribute(value: str) -> str:
    quoted = quoteattr(_clean(value))
    return "'" + quoted[1:-1].replace("'", "&apos;") + "'"


def _clean(value: str) -> str:
    """Drops what XML 1.0 cannot hold."""
    return re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]", "", value)


def system_time(moment: datetime) -> str:
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"


@dataclass
class Channel:
    name: str
    records: list[EventRecord] = field(default_factory=list)
    next_record: int = 1


class EventLog:
    """All channels of one machine. `now` gives UTC, so that the log never reads a clock of its own."""

    def __init__(self, *, computer: str, now: Callable[[], datetime], channels: Iterable[str] = CHANNELS) -> None:
        self._computer = computer
        self._now = now
        self._channels = {name.upper(): Channel(name) for name in channels}

    def channel_names(self) -> list[str]:
        return sorted((channel.name for channel in self._channels.values()), key=str.upper)

    def channel(self, name: str) -> Channel | None:
        return self._channels.get(name.upper())

    def write(
        self,
        channel: str,
        *,
        provider: str,
        event_id: int,
        level: int = INFORMATION,
        data: Mapping[str, str] | None = None,
        message: str = "",
        opcode: int = 0,
        process_id: int = 4,
        user_sid: str = "S-1-5-18",
    ) -> EventRecord:
        log = self._channels.setdefault(channel.upper(), Channel(channel))
        record = EventRecord(
            record_id=log.next_record,
            channel=log.name,
            provider=provider,
            event_id=event_id,
            level=level,
            created=self._now(),
            computer=self._computer,
            data=tuple((data or {}).items()),
            provider_guid=BACKUP_PROVIDER_GUID if provider == BACKUP_PROVIDER else "",
            opcode=opcode,
            process_id=process_id,
            user_sid=user_sid,
            message=message,
        )
        log.next_record += 1
        log.records.append(record)
        if len(log.records) > MAXIMUM_RECORDS:
            del log.records[: len(log.records) - MAXIMUM_RECORDS]
        return record

    def clear(self, name: str) -> None:
        """Empties a channel; Windows starts again at record 1, so that a baseline taken before is worth nothing."""
        log = self._channels[name.upper()]
        log.records.clear()
        log.next_record = 1

    def query(self, name: str, xpath: str = "*", *, newest_first: bool = False) -> list[EventRecord]:
        """Records of one channel that the XPath selects; KeyError for no channel, XPathError for a bad query."""
        wanted = compile_query(xpath)
        now = self._now()
        records = [record for record in self._channels[name.upper()].records if wanted(record, now)]
        return records[::-1] if newest_first else records


# -- the XPath subset of the event log --------------------------------------------------------------------------


class XPathError(Exception):
    """The query is not what the event log understands."""


_Test = Callable[[EventRecord, datetime], bool]
_TOKEN = re.compile(
    r"\s*(?:(?P<string>'[^']*'|\"[^\"]*\")|(?P<number>\d+)|(?P<word>[A-Za-z_][\w]*)|(?P<op><=|>=|!=|&lt;=|&gt;=|&lt;|&gt;|[=<>()\[\]/@*,]))"
)
_ENTITIES = {"&lt;": "<", "&gt;": ">", "&lt;=": "<=", "&gt;=": ">="}


def compile_query(xpath: str) -> _Test:
    """`*`, `*[System[...]]`, `Event/System[...]`, `*[EventData[Data[@Name='x']='y']]`, joined by `and` / `or`."""
    parser = _Parser(_tokens(xpath))
    test = parser.path()
    parser.end()
    return test


def _tokens(text: str) -> list[str]:
    tokens, position = [], 0
    text = text.rstrip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise XPathError(f"The specified query is invalid near {text[position : position + 20]!r}.")
        token = match[0].strip()
        tokens.append(_ENTITIES.get(token, token))
        position = match.end()
    return tokens


class _Parser:
    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._at = 0

    def peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def take(self, expected: str = "") -> str:
        token = self.peek()
        if not token or (expected and token != expected):
            raise XPathError("The specified query is invalid.")
        self._at += 1
        return token

    def end(self) -> None:
        if self.peek():
            raise XPathError("The specified query is invalid.")

    def path(self) -> _Test:
        """The outermost step: `*` or `Event`, then predicates, then perhaps `/System[...]`."""
        step = self.take()
        if step not in {"*", "Event"}:
            raise XPathError("The specified query is invalid.")
        tests = []
        while self.peek() == "[":
            tests.append(self._bracketed(self._event_expression))
        if self.peek() == "/":
            self.take("/")
            tests.append(self._section())
        return _all(tests)

    def _bracketed(self, inner: Callable[[], _Test]) -> _Test:
        self.take("[")
        test = inner()
        self.take("]")
        return test

    def _junction(self, operand: Callable[[], _Test]) -> _Test:
        """and binds tighter than or."""
        groups = [[operand()]]
        while self.peek() in {"and", "or"}:
            if self.take() == "or":
                groups.append([])
            groups[-1].append(operand())
        return _any([_all(group) for group in groups])

    def _event_expression(self) -> _Test:
        return self._junction(self._event_operand)

    def _event_operand(self) -> _Test:
        if self.peek() == "(":
            self.take("(")
            test = self._event_expression()
            self.take(")")
            return test
        return self._section()

    def _section(self) -> _Test:
        name = self.take()
        if name == "System":
            if self.peek() == "/":
                self.take("/")
                return self._system_operand()
            return self._bracketed(lambda: self._junction(self._system_operand)) if self.peek() == "[" else _always
        if name == "EventData":
            if self.peek() == "/":
                self.take("/")
                return self._data_operand()
            return self._bracketed(lambda: self._junction(self._data_operand)) if self.peek() == "[" else _has_data
        if name == "UserData":
            return _never
        raise XPathError("The specified query is invalid.")

    def _system_operand(self) -> _Test:
        if self.peek() == "(":
            self.take("(")
            test = self._junction(self._system_operand)
            self.take(")")
            return test
        name = self.take()
        if name in {"Provider", "TimeCreated", "Execution", "Security"}:
            return self._bracketed(lambda: self._junction(lambda: self._attribute_operand(name)))
        getter = _SYSTEM_FIELDS.get(name)
        if getter is None:
            raise XPathError("The specified query is invalid.")
        return self._comparison(getter)

    def _attribute_operand(self, element: str) -> _Test:
        if self.peek() == "timediff":
            return self._timediff()
        self.take("@")
        getter = _ATTRIBUTES.get((element, self.take()))
        if getter is None:
            raise XPathError("The specified query is invalid.")
        return self._comparison(getter)

    def _timediff(self) -> _Test:
        for expected in ("timediff", "(", "@", "SystemTime", ")"):
            self.take(expected)
        operator, limit = self.take(), timedelta(milliseconds=int(self.take()))
        return lambda record, now: _OPERATORS[operator](now - record.created, limit)

    def _data_operand(self) -> _Test:
        if self.peek() == "(":
            self.take("(")
            test = self._junction(self._data_operand)
            self.take(")")
            return test
        self.take("Data")
        if self.peek() == "[":
            for expected in ("[", "@", "Name", "="):
                self.take(expected)
            name = self._literal()
            self.take("]")
            return self._comparison(lambda record: record.field(name))
        self.take("=")
        value = self._literal()
        return lambda record, _now: any(held == value for _name, held in record.data)

    def _comparison(self, getter: Callable[[EventRecord], object]) -> _Test:
        operator = self.peek()
        if operator not in _OPERATORS:
            return lambda record, _now: getter(record) is not None
        self.take()
        literal = self._literal()
        return lambda record, _now: _compare(getter(record), operator, literal)

    def _literal(self) -> str:
        token = self.take()
        if token[0] in "'\"":
            return token[1:-1]
        if token.isdigit():
            return token
        raise XPathError("The specified query is invalid.")


_OPERATORS: dict[str, Callable[..., bool]] = {
    "=": lambda left, right: bool(left == right),
    "!=": lambda left, right: bool(left != right),
    "<": lambda left, right: bool(left < right),
    ">": lambda left, right: bool(left > right),
    "<=": lambda left, right: bool(left <= right),
    ">=": lambda left, right: bool(left >= right),
}


def _compare(value: object, operator: str, literal: str) -> bool:
    if value is None:
        return False
    if isinstance(value, int):
        return literal.isdigit() and _OPERATORS[operator](value, int(literal))
    if isinstance(value, datetime):
        moment = _moment(literal)
        return moment is not None and _OPERATORS[operator](value, moment)
    return _OPERATORS[operator](str(value), literal)


def _moment(text: str) -> datetime | None:
    match = re.fullmatch(r"(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2})(?:\.(\d{1,9}))?Z?", text)
    if match is None:
        return None
    micro = int((match[2] or "0").ljust(9, "0")[:6])
    return datetime.fromisoformat(match[1]).replace(microsecond=micro, tzinfo=timezone.utc)


_SYSTEM_FIELDS: dict[str, Callable[[EventRecord], object]] = {
    "EventID": lambda record: record.event_id,
    "EventRecordID": lambda record: record.record_id,
    "Level": lambda record: record.level,
    "Task": lambda record: record.task,
    "Opcode": lambda record: record.opcode,
    "Channel": lambda record: record.channel,
    "Computer": lambda record: record.computer,
    "Keywords": lambda record: record.keywords,
}
_ATTRIBUTES: dict[tuple[str, str], Callable[[EventRecord], object]] = {
    ("Provider", "Name"): lambda record: record.provider,
    ("Provider", "Guid"): lambda record: record.provider_guid,
    ("TimeCreated", "SystemTime"): lambda record: record.created,
    ("Execution", "ProcessID"): lambda record: record.process_id,
    ("Execution", "ThreadID"): lambda record: record.thread_id,
    ("Security", "UserID"): lambda record: record.user_sid,
}


def _all(tests: list[_Test]) -> _Test:
    return lambda record, now: all(test(record, now) for test in tests)


def _any(tests: list[_Test]) -> _Test:
    return lambda record, now: any(test(record, now) for test in tests)


def _always(_record: EventRecord, _now: datetime) -> bool:
    return True


def _never(_record: EventRecord, _now: datetime) -> bool:
    return False


def _has_data(record: EventRecord, _now: datetime) -> bool:
    return bool(record.data)
