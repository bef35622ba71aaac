# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""The event log Microsoft-Windows-Backup: reading its XML, and deciding which version is the one our run made.

Named fields only, never a message, which is localised. The binding is a pure function: a version counts as ours only when
the log shows exactly one backup start after our baseline, its end with the same template and success codes, and the target
lists now, and did not list before, the version of exactly that backup time. Everything else is a failure with its kind.
Facts: backup-engines 1.5, 1.10.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta, timezone

from .._wsman import ProtocolError
from .._wsman.wire import local_name, parse_xml, text_of
from .wbadmin_text import shown_text, version_id

CHANNEL = "Microsoft-Windows-Backup"

STARTED = 1
SUCCEEDED = 4
FAILED = 5
WARNED = 7
CANCELLED = 8
SNAPSHOT_FAILED = 9
ENDED = 14
START_FAILED = 19
_ENDS = frozenset({SUCCEEDED, FAILED, WARNED, CANCELLED, ENDED})

BACKUP_STATE_DONE = 14
MAX_EVENTS = 500
MAX_FIELD_CHARS = 60_000

_EVENT_END = "</Event>"
_EVENT_START = re.compile(r"<Event[\s>]")
_BETWEEN = re.compile(r"(?:\s+|<\?xml[^<>]*\?>|</?Events(?:\s[^<>]*)?>)*")
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_TIME = re.compile(r"(\d{4})-(\d{2})-(\d{2})[T ](\d{2}):(\d{2}):(\d{2})(\.\d{1,9})?(Z|[+-]\d{2}:?\d{2})?", re.ASCII)
_NUMBER = re.compile(r"0[xX][0-9A-Fa-f]{1,16}|[+-]?[0-9]{1,20}")


class EventsUnreadable(Exception):
    """The text is not what `wevtutil qe /f:xml` prints; its message is part of a sentence."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BackupEvent:
    """One event; `fields` are the named data, in the log's own words."""

    record_id: int
    event_id: int
    fields: Mapping[str, str]

    def code(self, name: str) -> int | None:
        """A number written as decimal or 0x hexadecimal, as unsigned 32 bits; None when it is missing or no number."""
        return number_of(self.fields.get(name, ""))

    @property
    def template(self) -> str:
        return self.fields.get("BackupTemplateID", "").strip().strip("{}").casefold()

    @property
    def backup_time(self) -> datetime | None:
        return time_of(self.fields.get("BackupTime", ""))

    @property
    def is_clean(self) -> bool:
        """All that a success must show (backup-engines 1.10, working success rule)."""
        return (
            self.code("HRESULT") == 0
            and self.code("DetailedHRESULT") == 0
            and self.code("BackupState") == BACKUP_STATE_DONE
            and bool(self.fields.get("BackupTarget", "").strip())
        )


def number_of(text: str) -> int | None:
    text = text.strip()
    if not _NUMBER.fullmatch(text):
        return None
    return int(text, 16 if text[:2] in ("0x", "0X") else 10) & 0xFFFFFFFF


def time_of(text: str) -> datetime | None:
    """A time of the log in UTC; without a zone it is UTC already (backup-engines 1.10)."""
    match = _TIME.fullmatch(text.strip())
    if match is None:
        return None
    micros = int(float("0" + (match[7] or ".0")) * 1_000_000)
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    try:
        moment = datetime(year, month, day, hour, minute, second, min(micros, 999_999), timezone.utc)
    except ValueError:
        return None
    zone = match[8]
    if zone and zone != "Z":
        hours, minutes = int(zone[1:3]), int(zone[-2:])
        shift = timedelta(hours=hours, minutes=minutes)
        try:
            moment = moment - shift if zone[0] == "+" else moment + shift
        except OverflowError:
            return None
    return moment


def read_events(data: bytes) -> tuple[BackupEvent, ...]:
    """Events as wevtutil prints them, one after another without a root; in ascending order of their record ids.

    Raises: `EventsUnreadable`. Nothing that looks like an event is skipped: it might be a second start.
    """
    *pieces, rest = _NOT_XML.sub(" ", shown_text(data)).split(
        _EVENT_END
    )  # no pattern: a broken text must not cost hours
    if len(pieces) > MAX_EVENTS:
        raise EventsUnreadable(f"there are more than {MAX_EVENTS} events")
    texts = [_without_frame(piece) + _EVENT_END for piece in pieces]
    if _without_frame(rest) or not all(_EVENT_START.match(text) for text in texts):
        raise EventsUnreadable("there is text that is no event")
    events = [_read_event(one) for one in texts]
    return tuple(sorted(events, key=lambda event: event.record_id))


def _without_frame(text: str) -> str:
    """Without white space, XML declarations and tags of a root in front of an event."""
    between = _BETWEEN.match(text)
    return text[between.end() :] if between else text


def _read_event(text: str) -> BackupEvent:
    try:
        root = parse_xml(text)
    except ProtocolError as err:
        raise EventsUnreadable("an event is not well-formed XML") from err
    numbers: dict[str, int | None] = {"EventID": None, "EventRecordID": None}
    fields: dict[str, str] = {}
    for element in root.iter():
        name = local_name(element.tag)
        if name in numbers:
            numbers[name] = number_of(text_of(element))
        elif name == "Data" and element.get("Name"):
            fields[str(element.get("Name"))] = (element.text or "")[:MAX_FIELD_CHARS]
    event_id, record_id = numbers["EventID"], numbers["EventRecordID"]
    if event_id is None or record_id is None:
        raise EventsUnreadable("an event has no id or no record id")
    return BackupEvent(record_id=record_id, event_id=event_id, fields=fields)


def newest_record_id(events: Iterable[BackupEvent]) -> int:
    """The baseline; 0 for an empty log."""
    return max((event.record_id for event in events), default=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Binding:
    """The proven version, or why there is none.

    Attributes:
        state: `succeeded`, `warning` (the engine made the version and says that not all of it is whole) or `failed`.
        kind: machine word of a failure: `no_start_event`, `ambiguous_version`, `no_end_event`, `backup_failed`,
            `snapshot_failed`, `version_not_listed`, `cancelled`.
        hresult: the code of a failure, for the message.
    """

    state: str
    kind: str = ""
    message: str = ""
    version: str | None = None
    backup_time: datetime | None = None
    start: BackupEvent | None = None
    end: BackupEvent | None = None
    hresult: int | None = None


def bind_version(
    events: Sequence[BackupEvent],
    *,
    baseline: int,
    limit: int,
    exit_code: int,
    before: Sequence[str],
    after: Sequence[str],
) -> Binding:
    """Which version our run made.

    Args:
        events: the newest events after the run, at most `limit` of them.
        baseline: the newest record id before the run, 0 for an empty log.
        exit_code: of `wbadmin start backup`.
        before, after: version ids on the target before and after the run.

    A warning (event 7, "completed with errors") is not a success, whatever the exit code: the engine itself says that
    something is missing. Its version is bound all the same, so that the set can be `degraded` instead of empty-handed.
    """
    window = [event for event in events if event.record_id > baseline]
    if len(events) >= limit and len(window) == len(events):
        return _failed("ambiguous_version", f"more than {limit} events were written, so that not all of them were seen")
    starts = [event for event in window if event.event_id == STARTED]
    if not starts:
        refused = next((event for event in reversed(window) if event.event_id == START_FAILED), None)
        code = refused.code("HRESULT") if refused else None
        return _failed("no_start_event", "the event log shows no backup that began in this run", hresult=code)
    if len(starts) > 1:
        return _failed(
            "ambiguous_version",
            f"{len(starts)} backups began on this machine during the run, so that it is not certain which version is ours",
        )
    start = starts[0]
    own = [event for event in window if event.record_id > start.record_id]
    ends = [event for event in own if event.event_id in _ENDS and event.template == start.template]
    verdict = _verdict(start, own, ends, exit_code)
    if verdict.state == "failed":
        return verdict
    times = {event.backup_time for event in ends if event.event_id in (SUCCEEDED, WARNED, ENDED)}
    moment = next(iter(times))
    if len(times) != 1 or moment is None:
        return _failed("ambiguous_version", "the events of the backup do not agree on its time", start=start)
    version = version_id(moment)
    if version in before:
        return _failed(
            "ambiguous_version",
            f"version {version} was on the target before the run; two backups in one minute cannot be told apart",
            start=start,
        )
    if version not in after:
        return _failed("version_not_listed", f"version {version} is not on the target after the run", start=start)
    return dataclasses.replace(verdict, version=version, backup_time=moment)


def _verdict(start: BackupEvent, own: Sequence[BackupEvent], ends: Sequence[BackupEvent], exit_code: int) -> Binding:
    by_id = {event.event_id: event for event in ends}
    if FAILED in by_id or CANCELLED in by_id:
        event = by_id.get(FAILED) or by_id[CANCELLED]
        snapshot = any(other.event_id == SNAPSHOT_FAILED for other in own)
        kind = "cancelled" if FAILED not in by_id else "snapshot_failed" if snapshot else "backup_failed"
        said = "was cancelled" if kind == "cancelled" else "failed"
        return _failed(kind, f"the backup {said}{_codes(event)}", start=start, end=event, hresult=_hresult(event))
    if WARNED in by_id:
        event = by_id[WARNED]
        return Binding(
            state="warning",
            kind="completed_with_errors",
            message=f"the backup was completed with errors{_codes(event)}",
            start=start,
            end=event,
            hresult=_hresult(event),
        )
    finished = [event for event in ends if event.event_id in (SUCCEEDED, ENDED)]
    if not finished:
        return _failed("no_end_event", "the event log shows no end of the backup that began in this run", start=start)
    unclean = next((event for event in finished if not event.is_clean), None)
    if unclean is not None:
        return _failed(
            "backup_failed",
            f"the event log does not call the backup a success{_codes(unclean)}",
            start=start,
            end=unclean,
            hresult=_hresult(unclean),
        )
    if exit_code != 0:
        return _failed(
            "backup_failed",
            f"wbadmin ended with code {exit_code} although the event log calls the backup a success",
            start=start,
        )
    return Binding(state="succeeded", start=start, end=finished[-1])


def _hresult(event: BackupEvent) -> int | None:
    return event.code("HRESULT") or event.code("DetailedHRESULT")


def _codes(event: BackupEvent) -> str:
    shown = [
        f"{name} 0x{code:08X}" for name in ("HRESULT", "DetailedHRESULT") if (code := event.code(name)) not in (None, 0)
    ]
    return f" ({', '.join(shown)})" if shown else ""


def _failed(
    kind: str,
    message: str,
    *,
    start: BackupEvent | None = None,
    end: BackupEvent | None = None,
    hresult: int | None = None,
) -> Binding:
    return Binding(state="failed", kind=kind, message=message, start=start, end=end, hresult=hresult)
