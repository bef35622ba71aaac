# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Task Scheduler of one simulated machine: registered tasks, their runs, triggers, time limits, what a reboot leaves.

Not here: the XML (task_definition.py) and the CIM face (task_scheduler_provider.py). Facts: backup-engines 5.3, 10.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Any

from .assumed import assumed
from .processes import SYSTEM, Process, ProgramNotFound, Token
from .task_definition import ExecAction, Principal, TaskDefinition, TaskError, parse_task

SCHED_S_TASK_RUNNING = 0x41301
SCHED_S_TASK_HAS_NOT_RUN = 0x41303
SCHED_S_TASK_TERMINATED = 0x41306
SCHED_S_TASK_QUEUED = 0x41325
SCHED_E_TASK_NOT_RUNNING = 0x8004130B
SCHED_E_ALREADY_RUNNING = 0x8004131F
SCHED_E_USER_NOT_LOGGED_ON = 0x80041320
SCHED_E_TASK_DISABLED = 0x80041326
SCHED_E_START_ON_DEMAND = 0x80041328
E_FILE_NOT_FOUND = 0x80070002
E_ACCESS_DENIED = 0x80070005
E_INVALID_NAME = 0x8007007B
E_ALREADY_EXISTS = 0x800700B7
E_BAD_DIRECTORY = 0x8007010B
E_LOGON_FAILURE = 0x8007052E
E_NONE_MAPPED = 0x80070534
GONE_AT_REBOOT = 0x40010004

UNKNOWN, DISABLED, QUEUED, READY, RUNNING = range(5)

NEVER_RUN = datetime(1999, 11, 30, tzinfo=timezone.utc)
"""LastRunTime of a task that has never run."""

SYSTEM_NAMES = {"S-1-5-18", "SYSTEM", "NT AUTHORITY\\SYSTEM", "LOCALSYSTEM"}
SERVICE_NAMES = {
    "S-1-5-19": "LOCAL SERVICE",
    "NT AUTHORITY\\LOCALSERVICE": "LOCAL SERVICE",
    "LOCAL SERVICE": "LOCAL SERVICE",
    "S-1-5-20": "NETWORK SERVICE",
    "NT AUTHORITY\\NETWORKSERVICE": "NETWORK SERVICE",
    "NETWORK SERVICE": "NETWORK SERVICE",
}

assumed(
    "task-start-while-running",
    "StartByPath on a running task with IgnoreNew succeeds and does nothing, or fails with 0x8004131F",
    source="backup-engines 5.3 names the code, not when it comes",
    values=("ignored", "0x8004131F"),
)
assumed(
    "task-action-not-found",
    "An action whose program is missing ends the task with LastTaskResult 0x80070002",
    source="task scheduler constants; that later actions do not run is a guess",
)
assumed(
    "task-kill-tree",
    "Ending a task ends the processes that its action started, but not what runs in a service",
    source="backup-engines 5.3 (the engine's job survives); the tree is a guess",
)
assumed(
    "task-after-reboot",
    "A task that ran when the machine went down has LastTaskResult 0x40010004 afterwards",
    source="no source for the value",
    values=("0x40010004", "0x41306", "0x8007042B"),
)
assumed(
    "task-never-run-time",
    "LastRunTime of a task that never ran is 1999-11-30",
    source="public ScheduledTasks output",
)


@dataclass
class Run:
    """One run: actions go one after another."""

    started: datetime
    process: Process | None = None
    action: int = -1


@dataclass
class Task:
    """A registered task. `folder` begins and ends with a backslash."""

    folder: str
    name: str
    definition: TaskDefinition
    token: Token | None
    enabled: bool = True
    last_run: datetime | None = None
    last_result: int = SCHED_S_TASK_HAS_NOT_RUN
    runs: list[Run] = field(default_factory=list)
    queued: int = 0
    fired: datetime | None = None

    @property
    def path(self) -> str:
        return self.folder + self.name

    @property
    def state(self) -> int:
        if self.runs:
            return RUNNING
        if not self.enabled:
            return DISABLED
        return QUEUED if self.queued else READY


def folder_of(path: str) -> str:
    r"""`\`, `\a` and `a\` are `\`, `\a\`, `\a\`."""
    inner = (path or "\\").strip("\\")
    return f"\\{inner}\\" if inner else "\\"


class TaskScheduler:
    """The service Schedule of one machine."""

    def __init__(self, machine: Any) -> None:
        self.machine = machine
        self._tasks: dict[str, Task] = {}
        self.folders: set[str] = {"\\", "\\Microsoft\\", "\\Microsoft\\Windows\\"}

    # -- registration ---------------------------------------------------------------------------------

    def tasks(self) -> list[Task]:
        return list(self._tasks.values())

    def find(self, folder: str, name: str) -> Task:
        task = self._tasks.get((folder_of(folder) + name).upper())
        if task is None:
            raise TaskError(E_FILE_NOT_FOUND, message="The system cannot find the file specified.")
        return task

    def register_xml(
        self, folder: str, name: str, xml: str, *, user: str = "", password: str = "", force: bool = False
    ) -> Task:
        return self.register(folder, name, parse_task(xml), user=user, password=password, force=force)

    def register(
        self,
        folder: str,
        name: str,
        definition: TaskDefinition,
        *,
        user: str = "",
        password: str = "",
        force: bool = False,
    ) -> Task:
        """Makes or, with `force`, replaces a task; a running one goes on with its old definition's run."""
        if not name or re.search(r'[<>:"/|?*\x00-\x1f]', name) or len(name) > 238:
            raise TaskError(
                E_INVALID_NAME, message="The filename, directory name, or volume label syntax is incorrect."
            )
        inner_folder, _unused, last = name.rpartition("\\")
        where = folder_of(folder + inner_folder if inner_folder else folder)
        key = (where + last).upper()
        old = self._tasks.get(key)
        if old is not None and not force:
            raise TaskError(E_ALREADY_EXISTS, message="Cannot create a file when that file already exists.")
        principal = replace(definition.principal, user=user) if user else definition.principal
        token = self._token(principal, password)
        task = Task(
            folder=where,
            name=last,
            definition=replace(definition, principal=principal),
            token=token,
            enabled=definition.settings.enabled,
        )
        if old is not None:
            task.runs, task.last_run, task.last_result = old.runs, old.last_run, old.last_result
        self._tasks[key] = task
        self.folders.add(where)
        if any(trigger.kind == "RegistrationTrigger" and trigger.enabled for trigger in definition.triggers):
            self._begin(task)
        return task

    def unregister(self, task: Task) -> None:
        """The task is gone; what it started runs on."""
        self._tasks.pop(task.path.upper(), None)

    def _token(self, principal: Principal, password: str) -> Token | None:
        """Who the task runs as; None for a user who would have to be logged on."""
        name = principal.user or principal.group
        if name.upper() in SYSTEM_NAMES:
            return SYSTEM
        if name.upper() in SERVICE_NAMES:
            return Token(account=SERVICE_NAMES[name.upper()], domain="NT AUTHORITY", kind="service")
        if principal.group or not name:
            return None
        short = name.rpartition("\\")[2].lower()
        account = next((a for key, a in self.machine.accounts.items() if key.lower() == short), None)
        if account is None:
            raise TaskError(E_NONE_MAPPED, message="No mapping between account names and security IDs was done.")
        groups = account.groups if principal.highest else account.groups - {"Administrators"}
        kinds = {"S4U": "s4u", "Password": "batch", "InteractiveTokenOrPassword": "batch"}
        kind = kinds.get(principal.logon_type or ("Password" if password else "InteractiveToken"))
        if kind is None:
            return None
        if kind == "batch" and password != account.password:
            raise TaskError(E_LOGON_FAILURE, message="The user name or password is incorrect.")
        return Token(account=short, domain=account.domain, kind=kind, groups=frozenset(groups))

    # -- running ----------------------------------------------------------------------------------------

    def start(self, task: Task) -> None:
        """On demand. A refusal of the policy is silent or 0x8004131F, see "task-start-while-running"."""
        if not task.enabled:
            raise TaskError(SCHED_E_TASK_DISABLED, message="The task is disabled.")
        if not task.definition.settings.allow_demand_start:
            raise TaskError(SCHED_E_START_ON_DEMAND, message="The task does not allow to be started on demand.")
        if task.token is None:
            raise TaskError(SCHED_E_USER_NOT_LOGGED_ON, message="The user is not logged on.")
        policy = task.definition.settings.multiple_instances
        if task.runs and policy == "IgnoreNew":
            if self.machine.world.assume("task-start-while-running") != "ignored":
                raise TaskError(SCHED_E_ALREADY_RUNNING, message="An instance of this task is already running.")
            return
        self._begin(task)
        self.machine.processes.pump()

    def _begin(self, task: Task) -> None:
        policy = task.definition.settings.multiple_instances
        if task.token is None:
            return
        if task.runs:
            if policy == "IgnoreNew":
                return
            if policy == "Queue":
                task.queued += 1
                return
            if policy == "StopExisting":
                self.stop(task)
        now = self.machine.now()
        run = Run(started=now)
        task.runs.append(run)
        task.last_run, task.last_result = now, SCHED_S_TASK_RUNNING
        self._next_action(task, run)

    def _next_action(self, task: Task, run: Run) -> None:
        run.action += 1
        task.last_result = SCHED_S_TASK_RUNNING
        if run.action >= len(task.definition.actions):
            self._ended(task, run)
            return
        action = task.definition.actions[run.action]
        assert task.token is not None
        try:
            run.process = self._start_process(action, task.token)
        except TaskError as error:
            task.last_result = error.code
            self._ended(task, run, keep_result=True)

    def _start_process(self, action: ExecAction, token: Token) -> Process:
        processes = self.machine.processes
        environment = processes.environment_of(token)

        def expand(text: str) -> str:
            return re.sub(r"%([^%]+)%", lambda match: environment.get(match[1]) or match[0], text)

        command = expand(action.command).strip()
        bare = command.strip('"')
        line = f'"{bare}"' if " " in bare else bare
        if action.arguments:
            line += " " + expand(action.arguments)
        directory = expand(action.working_directory).strip('"') or "C:\\Windows\\system32"
        if action.working_directory and not _is_folder(self.machine, token, directory):
            raise TaskError(E_BAD_DIRECTORY)
        try:
            started: Process = processes.start(line, token=token, directory=directory, environment=environment, job="")
        except ProgramNotFound:
            raise TaskError(E_FILE_NOT_FOUND) from None
        return started

    def _ended(self, task: Task, run: Run, *, keep_result: bool = False) -> None:
        if not keep_result and run.process is not None and run.process.exit_code is not None:
            task.last_result = run.process.exit_code
        if run in task.runs:
            task.runs.remove(run)
        if task.queued and not task.runs:
            task.queued -= 1
            self._begin(task)

    def stop(self, task: Task, result: int = SCHED_S_TASK_TERMINATED) -> None:
        """Ends every run; LastTaskResult says terminated. Services that a program talked to go on."""
        task.queued = 0
        for run in list(task.runs):
            if run.process is not None:
                self.machine.processes.kill_tree(run.process, result)
            task.last_result = result
            task.runs.remove(run)

    # -- time ------------------------------------------------------------------------------------------------

    def tick(self) -> bool:
        """Moves runs whose process has ended, ends those over their limit, fires triggers; true when something moved."""
        moved = False
        now = self.machine.now()
        for task in self.tasks():
            for run in list(task.runs):
                limit = task.definition.settings.execution_limit
                if run.process is not None and not run.process.alive:
                    self._next_action(task, run)
                    moved = True
                elif limit is not None and now - run.started >= limit:
                    self.stop(task)
                    moved = True
            moved = self._fire(task, now) or moved
        return moved

    def _fire(self, task: Task, now: datetime) -> bool:
        due = self.next_run(task, task.fired or now - timedelta(seconds=1))
        if task.fired is None:
            task.fired = now
        if due is None or due > now or not task.enabled:
            return False
        task.fired = now
        self._begin(task)
        return True

    def next_run(self, task: Task, after: datetime) -> datetime | None:
        """UTC of the next time a time or daily trigger fires."""
        found: list[datetime] = []
        for trigger in task.definition.triggers:
            if not trigger.enabled or trigger.start is None or trigger.kind not in {"TimeTrigger", "CalendarTrigger"}:
                continue
            moment = self._utc(trigger.start)
            step = timedelta(days=trigger.every_days)
            while moment <= after and step:
                moment += step
            if moment > after and (trigger.end is None or moment <= self._utc(trigger.end)):
                found.append(moment)
        return min(found, default=None)

    def _utc(self, moment: datetime) -> datetime:
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=timezone(timedelta(minutes=int(self.machine.os.utc_offset))))
        return moment.astimezone(timezone.utc)

    def reboot(self) -> None:
        """Running tasks are gone, boot triggers fire; everything registered stays."""
        code = int(self.machine.world.assume("task-after-reboot"), 16)
        for task in self.tasks():
            if task.runs:
                task.last_result = code
            task.runs.clear()
            task.queued = 0
            task.fired = None
        for task in self.tasks():
            if task.enabled and any(t.kind == "BootTrigger" and t.enabled for t in task.definition.triggers):
                self._begin(task)


def _is_folder(machine: Any, token: Token, path: str) -> bool:
    from .windows_files import Files

    return Files(machine, token, "C:\\").is_folder(path)
