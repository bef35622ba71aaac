# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Task XML as Task Scheduler reads it: schema, values, defaults, and the error each mistake gets.

Source: win32 docs, "Task Scheduler Schema" (elements, types, defaults) and "Task Scheduler Error and Success Constants";
backup-engines 5.3. Not here: running tasks (task_scheduler.py).
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from .assumed import assumed

NAMESPACE = "http://schemas.microsoft.com/windows/2004/02/mit/task"

SCHED_E_UNEXPECTEDNODE = 0x80041316
SCHED_E_NAMESPACE = 0x80041317
SCHED_E_INVALIDVALUE = 0x80041318
SCHED_E_MISSINGNODE = 0x80041319
SCHED_E_MALFORMEDXML = 0x8004131A
SCHED_E_TOO_MANY_NODES = 0x8004131D
MAXIMUM_ACTIONS = 32

assumed(
    "task-xml-encoding",
    "A task XML string that declares an encoding other than UTF-16 is refused as malformed",
    source="general knowledge: the string reaches the parser as UTF-16; public samples declare UTF-16",
)
assumed(
    "task-xml-order", "Elements of a task XML may come in any order", source="the schema uses xs:all; [U] in practice"
)

_TEXTS = {
    SCHED_E_UNEXPECTEDNODE: "The task XML contains an unexpected node.",
    SCHED_E_NAMESPACE: "The task XML contains an element or attribute from an unexpected namespace.",
    SCHED_E_INVALIDVALUE: "The task XML contains a value which is incorrectly formatted or out of range.",
    SCHED_E_MISSINGNODE: "The task XML is missing a required element or attribute.",
    SCHED_E_MALFORMEDXML: "The task XML is malformed.",
    SCHED_E_TOO_MANY_NODES: "The task XML contains too many nodes of the same type.",
}


class TaskError(Exception):
    """Task Scheduler refuses; `code` is the HRESULT, the text names the element as Windows does."""

    def __init__(self, code: int, detail: str = "", message: str = "") -> None:
        super().__init__(message or f"{_TEXTS.get(code, 'Task Scheduler error.')} {detail}".strip())
        self.code = code


@dataclass(frozen=True, kw_only=True)
class ExecAction:
    command: str
    arguments: str = ""
    working_directory: str = ""
    identifier: str = ""


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """`kind` is the element name; times are local to the machine unless they carry an offset."""

    kind: str
    enabled: bool = True
    start: datetime | None = None
    end: datetime | None = None
    every_days: int = 0


@dataclass(frozen=True, kw_only=True)
class Principal:
    user: str = ""
    group: str = ""
    logon_type: str = ""
    highest: bool = False
    identifier: str = ""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Defaults are the schema's. `execution_limit` None means without limit (PT0S)."""

    enabled: bool = True
    allow_demand_start: bool = True
    multiple_instances: str = "IgnoreNew"
    execution_limit: timedelta | None = timedelta(hours=72)
    delete_expired_after: timedelta | None = None
    hidden: bool = False
    start_when_available: bool = False
    priority: int = 7


@dataclass(frozen=True, kw_only=True)
class TaskDefinition:
    xml: str
    version: str
    actions: tuple[ExecAction, ...]
    triggers: tuple[Trigger, ...]
    principal: Principal
    settings: Settings
    author: str = ""
    description: str = ""
    date: str = ""
    uri: str = ""


_BOOLEAN, _TEXT, _DURATION, _TIME, _NUMBER = "boolean", "text", "duration", "time", "number"
_ANY = "any"
_TRIGGER_COMMON: dict[str, str | dict[str, object]] = {
    "Enabled": _BOOLEAN,
    "StartBoundary": _TIME,
    "EndBoundary": _TIME,
    "Repetition": _ANY,
    "ExecutionTimeLimit": _DURATION,
    "Delay": _DURATION,
    "RandomDelay": _DURATION,
    "UserId": _TEXT,
    "Subscription": _TEXT,
    "ValueQueries": _ANY,
    "StateChange": _TEXT,
    "ScheduleByDay": _ANY,
    "ScheduleByWeek": _ANY,
    "ScheduleByMonth": _ANY,
    "ScheduleByMonthDayOfWeek": _ANY,
}
_TRIGGERS = (
    "BootTrigger",
    "RegistrationTrigger",
    "IdleTrigger",
    "TimeTrigger",
    "EventTrigger",
    "LogonTrigger",
    "SessionStateChangeTrigger",
    "CalendarTrigger",
)
_SETTINGS: dict[str, str] = {
    "AllowStartOnDemand": _BOOLEAN,
    "RestartOnFailure": _ANY,
    "MultipleInstancesPolicy": "Parallel Queue IgnoreNew StopExisting",
    "DisallowStartIfOnBatteries": _BOOLEAN,
    "StopIfGoingOnBatteries": _BOOLEAN,
    "AllowHardTerminate": _BOOLEAN,
    "StartWhenAvailable": _BOOLEAN,
    "NetworkProfileName": _TEXT,
    "RunOnlyIfNetworkAvailable": _BOOLEAN,
    "WakeToRun": _BOOLEAN,
    "Enabled": _BOOLEAN,
    "Hidden": _BOOLEAN,
    "DeleteExpiredTaskAfter": _DURATION,
    "IdleSettings": _ANY,
    "NetworkSettings": _ANY,
    "ExecutionTimeLimit": _DURATION,
    "Priority": _NUMBER,
    "RunOnlyIfIdle": _BOOLEAN,
    "UseUnifiedSchedulingEngine": _BOOLEAN,
    "DisallowStartOnRemoteAppSession": _BOOLEAN,
    "MaintenanceSettings": _ANY,
    "Volatile": _BOOLEAN,
}
_PRINCIPAL: dict[str, str] = {
    "UserId": _TEXT,
    "LogonType": "S4U Password InteractiveToken InteractiveTokenOrPassword",
    "GroupId": _TEXT,
    "DisplayName": _TEXT,
    "RunLevel": "LeastPrivilege HighestAvailable",
    "ProcessTokenSidType": "None Unrestricted Default",
    "RequiredPrivileges": _ANY,
}
_REGISTRATION = ("URI", "SecurityDescriptor", "Source", "Date", "Author", "Version", "Description", "Documentation")
_EXEC: dict[str, str] = {"Command": _TEXT, "Arguments": _TEXT, "WorkingDirectory": _TEXT}
_SECTIONS = ("RegistrationInfo", "Triggers", "Settings", "Data", "Principals", "Actions")
_DURATION_FORM = re.compile(r"P(?!$)(?:(\d+)Y)?(?:(\d+)M)?(?:(\d+)D)?(?:T(?!$)(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?")


def parse_duration(text: str) -> timedelta:
    """ISO 8601; a year counts 365 days, a month 30 (only limits use it)."""
    match = _DURATION_FORM.fullmatch(text.strip())
    if match is None:
        raise ValueError(text)
    years, months, days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return timedelta(days=365 * years + 30 * months + days, hours=hours, minutes=minutes, seconds=seconds)


def parse_time(text: str) -> datetime:
    """xs:dateTime; without an offset it is naive: the machine's local time."""
    match = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?(Z|[+-]\d\d:\d\d)?", text.strip())
    if match is None:
        raise ValueError(text)
    moment = datetime.fromisoformat(match[1])
    if match[2] == "Z":
        return moment.replace(tzinfo=timezone.utc)
    if match[2]:
        sign = 1 if match[2][0] == "+" else -1
        offset = sign * timedelta(hours=int(match[2][1:3]), minutes=int(match[2][4:6]))
        return moment.replace(tzinfo=timezone(offset))
    return moment


def parse_task(text: str) -> TaskDefinition:
    """The definition in a task XML string; TaskError with the code and place that Windows gives."""
    root = _root(text)
    version = root.get("version", "1.1")
    if not re.fullmatch(r"1\.[1-6]", version):
        raise TaskError(SCHED_E_INVALIDVALUE, f"version:{version}")
    for child in root:
        _known(child, _SECTIONS)
    sections = {_name(child): child for child in root}
    if len(sections) != len(root):
        raise TaskError(SCHED_E_TOO_MANY_NODES, "Task")
    if "Actions" not in sections:
        raise TaskError(SCHED_E_MISSINGNODE, "Actions")
    info = _values(sections.get("RegistrationInfo"), dict.fromkeys(_REGISTRATION, _TEXT))
    settings = _settings(sections.get("Settings"))
    triggers = tuple(_trigger(child) for child in sections.get("Triggers", ()))
    if settings.delete_expired_after is not None and not any(trigger.end for trigger in triggers):
        raise TaskError(SCHED_E_MISSINGNODE, "EndBoundary:")
    principals = [_principal(child) for child in sections.get("Principals", ())]
    if len(principals) > 1:
        raise TaskError(SCHED_E_TOO_MANY_NODES, "Principal")
    principal = principals[0] if principals else Principal()
    context = sections["Actions"].get("Context")
    if context is not None and context != principal.identifier:
        raise TaskError(SCHED_E_INVALIDVALUE, f"Context:{context}")
    actions = tuple(_action(child) for child in sections["Actions"])
    if not actions:
        raise TaskError(SCHED_E_MISSINGNODE, "Exec")
    if len(actions) > MAXIMUM_ACTIONS:
        raise TaskError(SCHED_E_TOO_MANY_NODES, "Exec")
    return TaskDefinition(
        xml=text,
        version=version,
        actions=actions,
        triggers=triggers,
        principal=principal,
        settings=settings,
        author=info.get("Author", ""),
        description=info.get("Description", ""),
        date=info.get("Date", ""),
        uri=info.get("URI", ""),
    )


def _root(text: str) -> ET.Element:
    body = text.lstrip("\ufeff")
    declared = re.match(r"<\?xml[^>]*?encoding\s*=\s*[\"']([^\"']+)[\"'][^>]*\?>", body)
    if declared is not None and declared[1].upper() not in {"UTF-16", "UNICODE"}:
        raise TaskError(SCHED_E_MALFORMEDXML, f"(1,{declared.start(1)})::ERROR: incorrect document syntax")
    if re.search(r"<!DOCTYPE", body, re.IGNORECASE):
        raise TaskError(SCHED_E_MALFORMEDXML, "(1,1)::ERROR: a document type is not allowed")
    body = re.sub(r"^<\?xml[^>]*\?>", "", body)
    try:
        root = ET.fromstring(body)
    except ET.ParseError as problem:
        line, column = problem.position
        raise TaskError(SCHED_E_MALFORMEDXML, f"({line},{column})::ERROR: incorrect document syntax") from problem
    if root.tag != f"{{{NAMESPACE}}}Task":
        wrong_space = not root.tag.startswith(f"{{{NAMESPACE}}}")
        raise TaskError(SCHED_E_NAMESPACE if wrong_space else SCHED_E_UNEXPECTEDNODE, _name(root))
    return root


def _name(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]


def _known(element: ET.Element, names: object) -> str:
    name = _name(element)
    if not element.tag.startswith(f"{{{NAMESPACE}}}"):
        raise TaskError(SCHED_E_NAMESPACE, name)
    if name not in names:  # type: ignore[operator]
        raise TaskError(SCHED_E_UNEXPECTEDNODE, name)
    return name


def _values(section: ET.Element | None, allowed: dict[str, str]) -> dict[str, str]:
    """Texts of a section's children, each checked against its type."""
    found: dict[str, str] = {}
    for child in section if section is not None else ():
        name = _known(child, allowed)
        if name in found:
            raise TaskError(SCHED_E_TOO_MANY_NODES, name)
        kind, text = allowed[name], (child.text or "").strip()
        if kind != _ANY and len(child):
            raise TaskError(SCHED_E_UNEXPECTEDNODE, _name(child[0]))
        if not _fits(kind, text):
            raise TaskError(SCHED_E_INVALIDVALUE, f"{name}:{text}")
        found[name] = text
    return found


def _fits(kind: str, text: str) -> bool:
    if kind in {_ANY, _TEXT}:
        return True
    if kind == _BOOLEAN:
        return text in {"true", "false", "1", "0"}
    if kind == _NUMBER:
        return text.isdigit() and int(text) <= 10
    try:
        if kind == _DURATION:
            parse_duration(text)
        elif kind == _TIME:
            parse_time(text)
        else:
            return text in kind.split()
    except ValueError:
        return False
    return True


def _flag(values: dict[str, str], name: str, default: bool) -> bool:
    return values.get(name, "true" if default else "false") in {"true", "1"}


def _settings(section: ET.Element | None) -> Settings:
    values = _values(section, _SETTINGS)
    limit = parse_duration(values.get("ExecutionTimeLimit", "PT72H"))
    expire = values.get("DeleteExpiredTaskAfter")
    return Settings(
        enabled=_flag(values, "Enabled", True),
        allow_demand_start=_flag(values, "AllowStartOnDemand", True),
        multiple_instances=values.get("MultipleInstancesPolicy", "IgnoreNew"),
        execution_limit=limit or None,
        delete_expired_after=parse_duration(expire) if expire else None,
        hidden=_flag(values, "Hidden", False),
        start_when_available=_flag(values, "StartWhenAvailable", False),
        priority=int(values.get("Priority", "7")),
    )


def _trigger(element: ET.Element) -> Trigger:
    kind = _known(element, _TRIGGERS)
    values = _values(element, {name: str(form) for name, form in _TRIGGER_COMMON.items()})
    if kind in {"TimeTrigger", "CalendarTrigger"} and "StartBoundary" not in values:
        raise TaskError(SCHED_E_MISSINGNODE, "StartBoundary")
    interval = element.find(f"{{{NAMESPACE}}}ScheduleByDay/{{{NAMESPACE}}}DaysInterval")
    days = 0
    if element.find(f"{{{NAMESPACE}}}ScheduleByDay") is not None:
        days = int(interval.text or 1) if interval is not None else 1
    return Trigger(
        kind=kind,
        enabled=_flag(values, "Enabled", True),
        start=parse_time(values["StartBoundary"]) if "StartBoundary" in values else None,
        end=parse_time(values["EndBoundary"]) if "EndBoundary" in values else None,
        every_days=days,
    )


def _principal(element: ET.Element) -> Principal:
    _known(element, ("Principal",))
    values = _values(element, _PRINCIPAL)
    if "UserId" in values and "GroupId" in values:
        raise TaskError(SCHED_E_UNEXPECTEDNODE, "GroupId")
    return Principal(
        user=values.get("UserId", ""),
        group=values.get("GroupId", ""),
        logon_type=values.get("LogonType", ""),
        highest=values.get("RunLevel") == "HighestAvailable",
        identifier=element.get("id", ""),
    )


def _action(element: ET.Element) -> ExecAction:
    kind = _known(element, ("Exec", "ComHandler", "SendEmail", "ShowMessage"))
    if kind != "Exec":
        raise TaskError(SCHED_E_INVALIDVALUE, f"{kind}: the simulator runs Exec actions only")
    values = _values(element, _EXEC)
    if not values.get("Command"):
        raise TaskError(SCHED_E_MISSINGNODE, "Command")
    return ExecAction(
        command=values["Command"],
        arguments=values.get("Arguments", ""),
        working_directory=values.get("WorkingDirectory", ""),
        identifier=element.get("id", ""),
    )
