# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Time, console, environment and threads for scripts: the classes of .NET through which one meets its machine.

Source: the .NET API documentation. The clock is the simulated one.
"""

from __future__ import annotations

import re
import uuid
from datetime import datetime, timedelta, timezone
from typing import Any

from .powershell_dotnet import VOID, constructor, getter, method, static, static_getter
from .powershell_operators import date_text, regular
from .powershell_scopes import Flow
from .powershell_values import CONVERTERS, Int64, NetObject, failed_conversion, to_text
from .processes import decode_text, encode_text

STRING, INT, OBJECT = "System.String", "System.Int32", "System.Object"

# -- time, the machine, the console ----------------------------------------------------------------------------------------------------


class Stopwatch(NetObject):
    type_name = "System.Diagnostics.Stopwatch"

    def __init__(self) -> None:
        self.before = timedelta(0)
        self.since: datetime | None = None

    def elapsed(self, ps: Any) -> timedelta:
        return self.before + ((ps.machine.now() - self.since) if self.since else timedelta(0))


_WATCH = Stopwatch.type_name
constructor(_WATCH)(lambda _p: Stopwatch())


def _start_watch(ps: Any, watch: Stopwatch) -> Any:
    watch.since = watch.since or ps.machine.now()
    return VOID


def _stop_watch(ps: Any, watch: Stopwatch) -> Any:
    watch.before, watch.since = watch.elapsed(ps), None
    return VOID


def _new_watch(ps: Any) -> Stopwatch:
    watch = Stopwatch()
    watch.since = ps.machine.now()
    return watch


static(_WATCH, "StartNew")(_new_watch)
method(_WATCH, "Start")(_start_watch)
method(_WATCH, "Stop")(_stop_watch)
getter(_WATCH, "Elapsed")(lambda ps, watch: watch.elapsed(ps))
getter(_WATCH, "ElapsedMilliseconds")(lambda ps, watch: Int64(int(watch.elapsed(ps).total_seconds() * 1000)))
getter(_WATCH, "IsRunning")(lambda _p, watch: watch.since is not None)

_DATE, _SPAN = "System.DateTime", "System.TimeSpan"
static_getter(_DATE, "UtcNow")(lambda ps: ps.machine.now().astimezone(timezone.utc))
static_getter(_DATE, "Now")(lambda ps: ps.machine.local_now().replace(tzinfo=None))
static_getter(_DATE, "Today")(
    lambda ps: ps.machine.local_now().replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
)
_EPOCH = datetime(1, 1, 1)
getter(_DATE, "Ticks")(lambda _p, d: Int64((d.replace(tzinfo=None) - _EPOCH) // timedelta(microseconds=1) * 10))
for _name in ("year", "month", "day", "hour", "minute", "second"):
    getter(_DATE, _name.title())(lambda _p, d, n=_name: getattr(d, n))
getter(_DATE, "Millisecond")(lambda _p, d: d.microsecond // 1000)
method(_DATE, "ToUniversalTime")(
    lambda _p, d: d.astimezone(timezone.utc) if d.tzinfo else d.replace(tzinfo=timezone.utc)
)
method(_DATE, "ToString", STRING, OBJECT)(lambda _p, d, spec, _culture: date_text(d, spec))
for _name, _unit in {
    "Days": "days",
    "Hours": "hours",
    "Minutes": "minutes",
    "Seconds": "seconds",
    "Milliseconds": "milliseconds",
}.items():
    method(_DATE, f"Add{_name}", "System.Double")(lambda _p, d, n, u=_unit: d + timedelta(**{u: n}))
    static(_SPAN, f"From{_name}", "System.Double")(lambda _p, n, u=_unit: timedelta(**{u: n}))
    _seconds = timedelta(**{_unit: 1}).total_seconds()
    getter(_SPAN, f"Total{_name}")(lambda _p, t, s=_seconds: t.total_seconds() / s)
getter(_SPAN, "Days")(lambda _p, t: int(t.total_seconds() // 86400))
getter(_SPAN, "Hours")(lambda _p, t: int(t.total_seconds() // 3600 % 24))
getter(_SPAN, "Minutes")(lambda _p, t: int(t.total_seconds() // 60 % 60))
getter(_SPAN, "Seconds")(lambda _p, t: int(t.total_seconds() % 60))
getter(_SPAN, "Ticks")(lambda _p, t: Int64(round(t.total_seconds() * 10_000_000)))


class Guid(NetObject):
    type_name = "System.Guid"

    def __init__(self, text: str) -> None:
        self.value = text

    def text_form(self) -> str:
        return self.value


static("System.Guid", "NewGuid")(lambda ps: Guid(ps.machine.world.new_guid("powershell")))


def _guid(value: Any) -> Guid:
    try:
        return Guid(str(uuid.UUID(to_text(value))))
    except ValueError as problem:
        raise failed_conversion(
            value, "System.Guid", "Unrecognized Guid format.", "InvalidCastParseTargetInvocation"
        ) from problem


def _date(value: Any) -> datetime:
    """ISO 8601 only: what the invariant culture also reads is not simulated."""
    try:
        return datetime.fromisoformat(to_text(value).strip().replace("Z", "+00:00"))
    except ValueError as problem:
        why = "String was not recognized as a valid DateTime."
        raise failed_conversion(
            value, "System.DateTime", why, "InvalidCastParseTargetInvocationWithFormatProvider"
        ) from problem


CONVERTERS["System.Guid"] = _guid
CONVERTERS["System.DateTime"] = _date

_ENVIRONMENT = "System.Environment"
static_getter(_ENVIRONMENT, "MachineName")(lambda ps: ps.machine.netbios_name)
static_getter(_ENVIRONMENT, "NewLine")(lambda _p: "\r\n")
static_getter(_ENVIRONMENT, "UserName")(lambda ps: ps.process.environment.get("USERNAME"))
static_getter(_ENVIRONMENT, "TickCount")(
    lambda ps: int((ps.machine.now() - ps.machine.booted_at).total_seconds() * 1000) & 0x7FFFFFFF
)
static_getter(_ENVIRONMENT, "ProcessorCount")(lambda _p: 8)
static_getter(_ENVIRONMENT, "Is64BitProcess")(lambda _p: True)
static(_ENVIRONMENT, "GetEnvironmentVariable", STRING)(lambda ps, name: ps.process.environment.get(name))
static(_ENVIRONMENT, "Exit", INT)(lambda ps, code: _leave(code))


def _leave(code: int) -> Any:
    raise Flow("exit", code=code)


_CONSOLE = "System.Console"


class _ConsoleStream(NetObject):
    type_name = "System.IO.TextWriter"

    def __init__(self, error: bool) -> None:
        self.error = error


def _console(ps: Any, text: str, *, error: bool = False) -> Any:
    sink = ps.process.stderr if error else ps.process.stdout
    sink.write(encode_text(text, ps.process.code_page))
    return VOID


static_getter(_CONSOLE, "Out")(lambda _p: _ConsoleStream(False))
static_getter(_CONSOLE, "Error")(lambda _p: _ConsoleStream(True))
static(_CONSOLE, "WriteLine", OBJECT)(lambda ps, value: _console(ps, to_text(value) + "\n"))
static(_CONSOLE, "WriteLine")(lambda ps: _console(ps, "\n"))
static(_CONSOLE, "Write", OBJECT)(lambda ps, value: _console(ps, to_text(value)))
method("System.IO.TextWriter", "WriteLine", OBJECT)(
    lambda ps, s, value: _console(ps, to_text(value) + "\n", error=s.error)
)
method("System.IO.TextWriter", "Write", OBJECT)(lambda ps, s, value: _console(ps, to_text(value), error=s.error))
method("System.IO.TextWriter", "Flush")(lambda _p, _s: VOID)


class _ConsoleInput(NetObject):
    type_name = "System.IO.TextReader"


static_getter(_CONSOLE, "In")(lambda _p: _ConsoleInput())
method("System.IO.TextReader", "ReadToEnd")(
    lambda ps, _s: decode_text(ps.process.stdin.read_all(), ps.process.code_page)
)

static("System.GC", "Collect")(lambda _p: VOID)
static("System.GC", "WaitForPendingFinalizers")(lambda _p: VOID)


@static("System.Threading.Thread", "Sleep", INT)
def _sleep(ps: Any, milliseconds: int) -> Any:
    ps.machine.world.clock.advance(milliseconds / 1000)
    return VOID


_REGEX = "System.Text.RegularExpressions.Regex"
static(_REGEX, "IsMatch", STRING, STRING)(
    lambda _p, text, pattern: regular(pattern, case=True).search(text) is not None
)
static(_REGEX, "Escape", STRING)(lambda _p, text: re.sub(r"([\\*+?|{\[()^$.# ])", r"\\\1", text))
static(_REGEX, "Replace", STRING, STRING, STRING)(
    lambda _p, text, pattern, new: regular(pattern, case=True).sub(new.replace("$", "\\"), text)
)
