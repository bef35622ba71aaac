# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PS_ScheduledTask and MSFT_ScheduledTask: Task Scheduler as CIM. The scheduler itself is task_scheduler.py.

Names of methods and parameters: cim-classes.json. Facts: backup-engines 5.3, 10. Every question is a look: tasks that
wait come one step nearer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any
from xml.sax.saxutils import escape

from .assumed import assumed
from .cim import CimFault, Instance, Value
from .service import caller, delete, method, view
from .task_definition import NAMESPACE, TaskError
from .task_scheduler import NEVER_RUN, Task, TaskScheduler

TASKS = "root/microsoft/windows/taskscheduler"
E_INVALIDARG = 0x80070057

assumed(
    "task-errors",
    "A refusal of Task Scheduler comes as a CIM error (MSFT_WmiError), or as the method's return value",
    source="backup-engines 10 says return value; the cmdlets' error records look like CIM errors",
    values=("fault", "return-value"),
)
assumed(
    "task-optional-parameters",
    "TaskPath, User, Password and Force may be left out of a call",
    source="backup-engines 10: not settled",
)

_LOGON = {"": 0, "Password": 1, "S4U": 2, "InteractiveToken": 3, "InteractiveTokenOrPassword": 6}
_MULTIPLE = {"Parallel": 0, "Queue": 1, "IgnoreNew": 2, "StopExisting": 3}
_TRIGGER_CLASSES = {
    "BootTrigger": "MSFT_TaskBootTrigger",
    "TimeTrigger": "MSFT_TaskTimeTrigger",
    "CalendarTrigger": "MSFT_TaskDailyTrigger",
}

Arguments = dict[str, Value]
Body = Callable[[TaskScheduler, Arguments], Mapping[str, Value]]


def _iso(limit: Any) -> str:
    return "PT0S" if limit is None else f"PT{int(limit.total_seconds())}S"


def task_properties(task: Task) -> dict[str, Value]:
    definition = task.definition
    actions: list[Value] = [
        Instance(
            TASKS,
            "MSFT_TaskExecAction",
            {
                "Id": action.identifier or None,
                "Execute": action.command,
                "Arguments": action.arguments or None,
                "WorkingDirectory": action.working_directory or None,
            },
        )
        for action in definition.actions
    ]
    triggers: list[Value] = [
        Instance(
            TASKS,
            _TRIGGER_CLASSES.get(trigger.kind, "MSFT_TaskTrigger"),
            {
                "Enabled": trigger.enabled,
                "StartBoundary": trigger.start.isoformat() if trigger.start else None,
                "EndBoundary": trigger.end.isoformat() if trigger.end else None,
            },
        )
        for trigger in definition.triggers
    ]
    is_system = task.token is not None and task.token.kind in {"system", "service"}
    principal = definition.principal
    settings = definition.settings
    return {
        "Actions": actions,
        "Author": definition.author or None,
        "Date": definition.date or None,
        "Description": definition.description or None,
        "Principal": Instance(
            TASKS,
            "MSFT_TaskPrincipal",
            {
                "Id": principal.identifier or None,
                "UserId": "SYSTEM" if is_system else principal.user or None,
                "GroupId": principal.group or None,
                "LogonType": 5 if is_system else _LOGON.get(principal.logon_type, 0),
                "RunLevel": int(principal.highest),
            },
        ),
        "Settings": Instance(
            TASKS,
            "MSFT_TaskSettings",
            {
                "AllowDemandStart": settings.allow_demand_start,
                "Enabled": task.enabled,
                "ExecutionTimeLimit": _iso(settings.execution_limit),
                "Hidden": settings.hidden,
                "MultipleInstances": _MULTIPLE[settings.multiple_instances],
                "Priority": settings.priority,
                "StartWhenAvailable": settings.start_when_available,
            },
        ),
        "State": task.state,
        "TaskName": task.name,
        "TaskPath": task.folder,
        "Triggers": triggers or None,
        "URI": definition.uri or task.path,
    }


def _instance(task: Task) -> Instance:
    return Instance(TASKS, "MSFT_ScheduledTask", task_properties(task))


@view(TASKS, "MSFT_ScheduledTask")
def scheduled_tasks(machine: Any) -> Iterable[Mapping[str, Value]]:
    machine.processes.look()
    for task in machine.scheduler.tasks():
        yield task_properties(task)


@delete(TASKS, "MSFT_ScheduledTask")
def unregister(machine: Any, target: Instance) -> None:
    _require_administrator()
    try:
        task = machine.scheduler.find(str(target.get("TaskPath")), str(target.get("TaskName")))
    except TaskError as error:
        raise CimFault.mi(6, str(error), error.code) from error
    machine.scheduler.unregister(task)


def _require_administrator() -> None:
    if not caller().is_administrator:
        raise CimFault.mi(2, "Access is denied.", 0x80070005)


def _register(name: str, body: Body) -> None:
    def call(machine: Any, target: Instance | None, arguments: Arguments) -> Mapping[str, Value]:
        _require_administrator()
        machine.processes.look()
        try:
            return {"ReturnValue": 0, **body(machine.scheduler, arguments)}
        except TaskError as error:
            if machine.world.assume("task-errors") == "return-value":
                return {"ReturnValue": error.code}
            status = {0x80070002: 6, 0x80070005: 2, 0x800700B7: 11, 0x80070057: 4}.get(error.code, 1)
            raise CimFault.mi(status, str(error), error.code) from error

    method(TASKS, "PS_ScheduledTask", name)(call)


def _text(arguments: Arguments, name: str) -> str:
    value = arguments.get(name)
    return value if isinstance(value, str) else ""


def _task(scheduler: TaskScheduler, arguments: Arguments) -> Task:
    given = arguments.get("InputObject")
    if isinstance(given, Instance):
        return scheduler.find(str(given.get("TaskPath") or ""), str(given.get("TaskName") or ""))
    if not _text(arguments, "TaskName"):
        raise TaskError(E_INVALIDARG, message="The parameter is incorrect.")
    return scheduler.find(_text(arguments, "TaskPath"), _text(arguments, "TaskName"))


def _register_by_xml(scheduler: TaskScheduler, arguments: Arguments) -> Mapping[str, Value]:
    if not _text(arguments, "Xml") or not _text(arguments, "TaskName"):
        raise TaskError(E_INVALIDARG, message="The parameter is incorrect.")
    task = scheduler.register_xml(
        _text(arguments, "TaskPath"),
        _text(arguments, "TaskName"),
        _text(arguments, "Xml"),
        user=_text(arguments, "User"),
        password=_text(arguments, "Password"),
        force=bool(arguments.get("Force")),
    )
    return {"cmdletOutput": _instance(task)}


def _register_by_parts(scheduler: TaskScheduler, arguments: Arguments) -> Mapping[str, Value]:
    """RegisterByUser, RegisterByPrincipal, RegisterByObject: the parts are put together as XML."""
    given = arguments.get("InputObject")
    source: Any = given.properties if isinstance(given, Instance) else arguments
    xml = _xml_of(source, arguments)
    task = scheduler.register_xml(
        _text(arguments, "TaskPath"),
        _text(arguments, "TaskName"),
        xml,
        user=_text(arguments, "User"),
        password=_text(arguments, "Password"),
        force=bool(arguments.get("Force")),
    )
    return {"cmdletOutput": _instance(task)}


def _xml_of(source: Mapping[str, Value], arguments: Arguments) -> str:
    actions = source.get("Actions") or source.get("Action") or []
    principal = source.get("Principal")
    settings = source.get("Settings")

    def element(name: str, value: Value) -> str:
        return f"<{name}>{escape(str(value))}</{name}>" if value not in (None, "") else ""

    who = ""
    if isinstance(principal, Instance):
        logon = {1: "Password", 2: "S4U", 3: "InteractiveToken", 6: "InteractiveTokenOrPassword"}
        kind = principal.get("LogonType")
        word = logon.get(kind, "") if isinstance(kind, int) else ""
        level = "HighestAvailable" if principal.get("RunLevel") == 1 else "LeastPrivilege"
        who = (
            f"<Principals><Principal>{element('UserId', principal.get('UserId'))}{element('GroupId', principal.get('GroupId'))}"
            f"{element('LogonType', word)}<RunLevel>{level}</RunLevel></Principal></Principals>"
        )
    elif arguments.get("RunLevel") == 1:
        who = "<Principals><Principal><RunLevel>HighestAvailable</RunLevel></Principal></Principals>"
    limits = ""
    if isinstance(settings, Instance):
        limits = f"<Settings>{element('ExecutionTimeLimit', settings.get('ExecutionTimeLimit'))}</Settings>"
    lines = ""
    for action in actions if isinstance(actions, list) else []:
        lines += (
            f"<Exec>{element('Command', action.get('Execute'))}{element('Arguments', action.get('Arguments'))}"
            f"{element('WorkingDirectory', action.get('WorkingDirectory'))}</Exec>"
        )
    return f'<Task version="1.2" xmlns="{NAMESPACE}">{who}{limits}<Actions>{lines}</Actions></Task>'


def _start(scheduler: TaskScheduler, arguments: Arguments) -> Mapping[str, Value]:
    scheduler.start(_task(scheduler, arguments))
    return {}


def _stop(scheduler: TaskScheduler, arguments: Arguments) -> Mapping[str, Value]:
    scheduler.stop(_task(scheduler, arguments))
    return {}


def _get_info(scheduler: TaskScheduler, arguments: Arguments) -> Mapping[str, Value]:
    task = _task(scheduler, arguments)
    info: dict[str, Value] = {
        "LastRunTime": task.last_run or NEVER_RUN,
        "LastTaskResult": task.last_result,
        "NextRunTime": scheduler.next_run(task, scheduler.machine.now()),
        "NumberOfMissedRuns": 0,
        "TaskName": task.name,
        "TaskPath": task.folder,
    }
    return {"cmdletOutput": Instance(TASKS, "MSFT_TaskDynamicInfo", info)}


def _export(scheduler: TaskScheduler, arguments: Arguments) -> Mapping[str, Value]:
    return {"cmdletOutput": _task(scheduler, arguments).definition.xml}


def _switch(enabled: bool) -> Body:
    def body(scheduler: TaskScheduler, arguments: Arguments) -> Mapping[str, Value]:
        task = _task(scheduler, arguments)
        task.enabled = enabled
        return {"cmdletOutput": _instance(task)}

    return body


def _new_action(scheduler: TaskScheduler, arguments: Arguments) -> Mapping[str, Value]:
    if not _text(arguments, "Execute"):
        raise TaskError(E_INVALIDARG, message="The parameter is incorrect.")
    properties: dict[str, Value] = {
        "Id": arguments.get("Id"),
        "Execute": arguments.get("Execute"),
        "Arguments": arguments.get("Argument"),
        "WorkingDirectory": arguments.get("WorkingDirectory"),
    }
    return {"cmdletOutput": Instance(TASKS, "MSFT_TaskExecAction", properties)}


def _new_principal(scheduler: TaskScheduler, arguments: Arguments) -> Mapping[str, Value]:
    properties: dict[str, Value] = {
        name: arguments.get(name) for name in ("Id", "UserId", "GroupId", "LogonType", "RunLevel") if name in arguments
    }
    return {"cmdletOutput": Instance(TASKS, "MSFT_TaskPrincipal", properties)}


for _suffix in ("ByPath", "ByObject"):
    _register(f"Start{_suffix}", _start)
    _register(f"Stop{_suffix}", _stop)
for _suffix in ("ByName", "ByObject"):
    _register(f"GetInfo{_suffix}", _get_info)
    _register(f"Export{_suffix}", _export)
    _register(f"Enable{_suffix}", _switch(True))
    _register(f"Disable{_suffix}", _switch(False))
for _suffix in ("ByUser", "ByPrincipal", "ByObject"):
    _register(f"Register{_suffix}", _register_by_parts)
for _suffix in ("ByUser", "ByGroup"):
    _register(f"NewPrincipal{_suffix}", _new_principal)
_register("RegisterByXml", _register_by_xml)
_register("NewActionByExec", _new_action)
