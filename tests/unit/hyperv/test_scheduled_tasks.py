# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Scheduled tasks: registering, starting, looking at, removing; codes by name; names that are none."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone

import pytest

from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv import (
    HypervError,
    MethodFailed,
    ScheduledTasks,
)
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.schema import TASK_SCHEDULER
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._wsman import CimInstance, CimPath, NotFound, Value
from unit.hyperv.cim_store import CimStore

FOLDER = "\\hyperv.passthrough\\"
NEVER_RUN = datetime(1999, 11, 30, tzinfo=timezone.utc)
RAN = datetime(2026, 11, 22, 9, 30, tzinfo=timezone.utc)


class Scheduler:
    """PS_ScheduledTask over the rows of the store."""

    def __init__(self) -> None:
        self.store = CimStore()
        self.info: dict[str, tuple[datetime, int]] = {}
        self.xml: dict[str, str] = {}
        self.store.on("PS_ScheduledTask", "RegisterByXml", self._register)
        self.store.on("PS_ScheduledTask", "StartByPath", self._start)
        self.store.on("PS_ScheduledTask", "StopByPath", lambda target, given: (0x80070002, {}))
        self.store.on("PS_ScheduledTask", "GetInfoByName", self._info)

    def row(self, name: str, state: int = 3, folder: str = FOLDER) -> None:
        self.store.add(TASK_SCHEDULER, "MSFT_ScheduledTask", TaskName=name, TaskPath=folder, State=state)

    def _register(self, target: CimPath, given: Mapping[str, Value]) -> tuple[int, dict[str, Value]]:
        name = str(given["TaskName"])
        if name in self.xml and not given["Force"]:
            return 0x800700B7, {}
        if name not in self.xml:
            self.row(name)
        self.xml[name] = str(given["Xml"])
        self.info[name] = (NEVER_RUN, 0x41303)
        return 0, {}

    def _start(self, target: CimPath, given: Mapping[str, Value]) -> tuple[int, dict[str, Value]]:
        name = str(given["TaskName"])
        if name not in self.xml:
            return 0x80070002, {}
        self.info[name] = (RAN, 0x41301)
        return 0, {}

    def _info(self, target: CimPath, given: Mapping[str, Value]) -> tuple[int, dict[str, Value]]:
        if str(given["TaskName"]) not in self.info:
            raise NotFound("no task", code=0x80070002)
        last_run, result = self.info[str(given["TaskName"])]
        properties: dict[str, Value] = {"LastRunTime": last_run, "LastTaskResult": result}
        return 0, {"cmdletOutput": CimInstance("MSFT_TaskDynamicInfo", TASK_SCHEDULER, properties)}


@pytest.fixture
def scheduler() -> Scheduler:
    return Scheduler()


@pytest.fixture
def tasks(scheduler: Scheduler) -> ScheduledTasks:
    return ScheduledTasks(scheduler.store)


def test_a_task_is_registered_started_and_seen(tasks: ScheduledTasks, scheduler: Scheduler) -> None:
    assert tasks.state(FOLDER, "run-1") is None
    tasks.register(FOLDER, "run-1", "<Task>ü</Task>")
    before = tasks.state(FOLDER, "run-1")
    tasks.start(FOLDER, "run-1")
    after = tasks.state(FOLDER, "RUN-1")
    assert before is not None
    assert after is not None
    assert (before.state, before.last_run, before.has_run, before.is_active) == ("ready", None, False, False)
    assert (after.last_run, after.last_result, after.has_run) == (None, None, False)
    seen = tasks.state(FOLDER, "run-1")
    assert seen is not None
    assert (seen.last_run, seen.last_result, seen.has_run) == (RAN, 0x41301, True)
    assert scheduler.xml == {"run-1": "<Task>ü</Task>"}


@pytest.mark.parametrize(
    ("number", "state", "is_active"),
    [
        (4, "running", True),
        (2, "queued", True),
        (1, "disabled", False),
        (9, "unknown (9)", False),
        (None, "unknown", False),
    ],
)
def test_a_tasks_state_is_a_word(
    tasks: ScheduledTasks, scheduler: Scheduler, number: int, state: str, is_active: bool
) -> None:
    scheduler.row("t", number)
    found = tasks.state(FOLDER, "t")
    assert found is not None
    assert (found.state, found.is_active) == (state, is_active)


def test_an_existing_task_is_replaced_only_when_asked(tasks: ScheduledTasks, scheduler: Scheduler) -> None:
    tasks.register(FOLDER, "t", "<one/>")
    with pytest.raises(MethodFailed, match="exists already") as caught:
        tasks.register(FOLDER, "t", "<two/>")
    assert caught.value.details["code"] == 0x800700B7
    tasks.register(FOLDER, "t", "<two/>", replace=True)
    assert scheduler.xml == {"t": "<two/>"}


def test_starting_or_stopping_what_is_not_there_says_so(tasks: ScheduledTasks) -> None:
    with pytest.raises(MethodFailed, match="not found"):
        tasks.start(FOLDER, "t")
    with pytest.raises(MethodFailed, match="not found"):
        tasks.stop(FOLDER, "t")


def test_removing_tells_whether_there_was_something(tasks: ScheduledTasks) -> None:
    tasks.register(FOLDER, "t", "<one/>")
    assert tasks.remove(FOLDER, "t") is True
    assert tasks.remove(FOLDER, "t") is False


def test_names_are_those_of_the_folder_alone(tasks: ScheduledTasks, scheduler: Scheduler) -> None:
    for name in ("b", "a"):
        scheduler.row(name)
    scheduler.row("c", folder="\\hyperv.passthrough\\old\\")
    scheduler.row("d", folder="\\")
    assert tasks.names(FOLDER) == ("b", "a")
    scheduler.store.refuses_filters = True
    assert tasks.names(FOLDER) == ("b", "a")
    assert tasks.names("\\nothing\\") == ()


@pytest.mark.parametrize("folder", ["", "hyperv", "\\a", "a\\", "\\a*\\", "\\..\\x"])
def test_a_folder_that_is_none_is_refused(tasks: ScheduledTasks, folder: str) -> None:
    with pytest.raises(ValueError, match="not a task folder"):
        tasks.register(folder, "t", "<a/>")


@pytest.mark.parametrize("name", ["", "a\\b", "a/b", "a" * 201, 'a"b'])
def test_a_name_that_is_none_is_refused(tasks: ScheduledTasks, name: str) -> None:
    with pytest.raises(ValueError, match="not a task name"):
        tasks.start(FOLDER, name)


def test_xml_beyond_the_limit_is_refused(tasks: ScheduledTasks, scheduler: Scheduler) -> None:
    with pytest.raises(HypervError) as caught:
        tasks.register(FOLDER, "t", "x" * 100_001)
    assert caught.value.kind == "task_xml_too_large"
    assert scheduler.store.calls == []
