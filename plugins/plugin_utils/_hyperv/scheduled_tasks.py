# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
r"""Scheduled tasks of a Windows machine over CIM: how a program is started detached and as another account.

PS_ScheduledTask holds the static methods behind the ScheduledTasks cmdlets (backup-engines 5.3, 10). A task's folder is
written `\folder\` and its name without it. The task's XML decides account, program and limits; who writes it must set
`ExecutionTimeLimit` to `PT0S`, or Windows stops the task after 72 hours.

Not here: what is started and how its result is found (`_backup`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from .._wsman import CimInstance, CimPath, NotFound, Value, WsmanFault
from .cim_access import CimClient, any_of, int_of, invoke_checked, query_filtered, text_of, time_of
from .errors import HypervError
from .model import word
from .schema import TASK_SCHEDULER

# documentation of TASK_STATE
TASK_STATES: Mapping[int, str] = {0: "unknown", 1: "disabled", 2: "queued", 3: "ready", 4: "running"}

RESULT_RUNNING = 0x41301
RESULT_NEVER_RUN = 0x41303
RESULT_TERMINATED = 0x41306
RESULT_QUEUED = 0x41325
# backup-engines 5.3 and winerror.h; LastTaskResult holds these, else the exit code of the program
TASK_CODES: Mapping[int, str] = {
    RESULT_RUNNING: "the task is running",
    RESULT_NEVER_RUN: "the task has never run",
    RESULT_TERMINATED: "the task was terminated",
    RESULT_QUEUED: "the task is queued",
    0x8004131F: "an instance of the task is already running",
    0x80041318: "the task XML has a value of the wrong form",
    0x8004131A: "the task XML is malformed",
    0x80070002: "the task or its program was not found",
    0x80070003: "the task folder was not found",
    0x80070005: "access denied",
    0x8007000D: "the data is invalid",
    0x800700B7: "a task of that name exists already",
    0x8007052E: "the account or its password is wrong",
    0x80070534: "the account does not exist",
}
_MISSING = (0x80070002, 0x80070003)
_MAX_XML_CHARS = 100_000
_FOLDER = re.compile(r"\\(?:[^\\/:*?\"<>|]+\\)*\Z")
_NAME = re.compile(r"[^\\/:*?\"<>|]{1,200}\Z")

_SERVICE = CimPath(TASK_SCHEDULER, "PS_ScheduledTask")


class DeletingClient(CimClient, Protocol):
    def delete(self, path: CimPath) -> None: ...


@dataclass(frozen=True, kw_only=True)
class ScheduledTask:
    """A task as it is now; `last_result` is the program's exit code or one of `TASK_CODES`."""

    path: str
    name: str
    state: str
    last_run: datetime | None
    last_result: int | None

    @property
    def is_active(self) -> bool:
        return self.state in ("running", "queued")

    @property
    def has_run(self) -> bool:
        return self.last_run is not None and self.last_result != RESULT_NEVER_RUN


class ScheduledTasks:
    """Register, start, look at and remove tasks of one machine."""

    def __init__(self, client: DeletingClient) -> None:
        self._client = client

    def _call(self, what: str, method: str, path: str, name: str, arguments: Mapping[str, Value]) -> None:
        invoke_checked(
            self._client,
            _SERVICE,
            method,
            {"TaskPath": _checked_path(path), "TaskName": _checked_name(name), **arguments},
            what=f"{what} the scheduled task {path}{name}",
            codes=TASK_CODES,
        )

    def register(self, path: str, name: str, xml: str, *, replace: bool = False) -> None:
        """Make a task from its XML; an existing one is an error unless `replace`."""
        if len(xml) > _MAX_XML_CHARS:
            raise HypervError(
                "task_xml_too_large",
                f"The XML of the scheduled task {path}{name} has {len(xml)} characters and at most {_MAX_XML_CHARS} are "
                f"sent; shorten its arguments.",
            )
        self._call("Registering", "RegisterByXml", path, name, {"Xml": xml, "Force": replace})

    def start(self, path: str, name: str) -> None:
        """Start it now; the method returns before the program does."""
        self._call("Starting", "StartByPath", path, name, {})

    def stop(self, path: str, name: str) -> None:
        """End the task's program. What that program asked of a service goes on (backup-engines 5.3)."""
        self._call("Stopping", "StopByPath", path, name, {})

    def state(self, path: str, name: str) -> ScheduledTask | None:
        """The task, or None when there is none."""
        where = f"{any_of('TaskName', [_checked_name(name)])} AND {any_of('TaskPath', [_checked_path(path)])}"
        rows = [
            row
            for row in query_filtered(self._client, TASK_SCHEDULER, "MSFT_ScheduledTask", where)
            if text_of(row, "TaskName").casefold() == name.casefold()
            and text_of(row, "TaskPath").casefold() == path.casefold()
        ]
        if not rows:
            return None
        info = self._run_info(path, name)
        last_run = time_of(info, "LastRunTime") if info is not None else None
        return ScheduledTask(
            path=path,
            name=name,
            state=word(TASK_STATES, int_of(rows[0], "State")) or "unknown",
            last_run=None if last_run is None or last_run.year <= _NEVER_RUN_YEAR else last_run,
            last_result=int_of(info, "LastTaskResult") if info is not None else None,
        )

    def _run_info(self, path: str, name: str) -> CimInstance | None:
        """When and how it ran last. None when the machine does not tell: the task may vanish between two questions."""
        try:
            result = self._client.invoke(_SERVICE, "GetInfoByName", {"TaskPath": path, "TaskName": name})
        except NotFound:
            return None
        found = result.out.get("cmdletOutput")
        return found if isinstance(found, CimInstance) else None

    def remove(self, path: str, name: str) -> bool:
        """Delete the task; whether there was one. A program that it started goes on."""
        if self.state(path, name) is None:
            return False
        try:
            self._client.delete(CimPath(TASK_SCHEDULER, "MSFT_ScheduledTask", {"TaskName": name, "TaskPath": path}))
        except NotFound:
            return False
        except WsmanFault as fault:
            if fault.provider_code in _MISSING or fault.code in _MISSING:
                return False
            raise
        return True

    def active(self, folder: str) -> tuple[str, ...]:
        """Names of the tasks right in a folder that run or are queued; one query."""
        rows = query_filtered(
            self._client, TASK_SCHEDULER, "MSFT_ScheduledTask", any_of("TaskPath", [_checked_path(folder)])
        )
        return tuple(
            text_of(row, "TaskName")
            for row in rows
            if text_of(row, "TaskPath").casefold() == folder.casefold()
            and word(TASK_STATES, int_of(row, "State")) in ("running", "queued")
        )

    def names(self, folder: str) -> tuple[str, ...]:
        """Names of the tasks right in a folder; none when there is no such folder."""
        rows = query_filtered(
            self._client, TASK_SCHEDULER, "MSFT_ScheduledTask", any_of("TaskPath", [_checked_path(folder)])
        )
        return tuple(
            text_of(row, "TaskName") for row in rows if text_of(row, "TaskPath").casefold() == folder.casefold()
        )


_NEVER_RUN_YEAR = (
    1999  # a task that never ran shows 1999-11-30, CIM's own "never" is 1601 (assumption: general knowledge)
)


def _checked_path(path: str) -> str:
    if not _FOLDER.match(path):
        raise ValueError(f"{path!r} is not a task folder; write it as \\folder\\")
    return path


def _checked_name(name: str) -> str:
    if not _NAME.match(name):
        raise ValueError(f"{name!r} is not a task name")
    return name
