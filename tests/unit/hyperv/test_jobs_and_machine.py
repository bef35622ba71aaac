# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for jobs with a given clock, and the facts of any machine."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest

from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv import (
    HypervError,
    JobFailed,
    JobStatus,
    processes_named,
    read_job,
    services_named,
    utc_now,
    wait_for_job,
)
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.machine import services_on
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.schema import CIMV2, VIRTUALIZATION
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._wsman import CimInstance, CimPath, Value
from unit.hyperv.cim_store import CimStore
from unit.hyperv.host_world import HostWorld

JOB = CimPath(VIRTUALIZATION, "Msvm_StorageJob", {"InstanceID": "11111111-2222-3333-4444-555555555555"})


class Host:
    """A job that shows one state after the other as time goes by; None means that the host has removed it."""

    def __init__(self, states: list[dict[str, Value] | None]) -> None:
        self.store = CimStore()
        self._states: Iterator[dict[str, Value] | None] = iter(states)
        self.now_is = datetime(2026, 1, 1, tzinfo=timezone.utc)
        self.told: list[JobStatus] = []
        self._show()

    def _show(self) -> None:
        state = next(self._states)
        rows = self.store.rows.setdefault((VIRTUALIZATION, "Msvm_StorageJob"), [])
        rows.clear()
        if state is not None:
            self.store.add(VIRTUALIZATION, "Msvm_StorageJob", InstanceID=str(JOB.key("InstanceID")), **state)

    def sleep(self, seconds: float) -> None:
        self.now_is += timedelta(seconds=seconds)
        self._show()

    def wait(self, timeout_s: float = 60) -> JobStatus:
        return wait_for_job(
            self.store,
            JOB,
            now=lambda: self.now_is,
            sleep=self.sleep,
            progress=self.told.append,
            timeout_s=timeout_s,
            poll_s=2,
        )


def test_a_job_is_polled_until_it_is_done_and_progress_is_told_once_per_change() -> None:
    running: dict[str, Value] = {"JobState": 4, "PercentComplete": 10, "ErrorCode": 0}
    host = Host(
        [{"JobState": 2}, running, running, {**running, "PercentComplete": 90}, {"JobState": 7, "ErrorCode": 0}]
    )
    assert host.wait().is_done
    assert [(one.state, one.percent) for one in host.told] == [
        ("new", None),
        ("running", 10),
        ("running", 90),
        ("completed", None),
    ]
    assert host.now_is == datetime(2026, 1, 1, 0, 0, 8, tzinfo=timezone.utc)


def test_a_job_with_warnings_is_done() -> None:
    assert Host([{"JobState": 32768, "ErrorCode": 0}]).wait().state == "completed_with_warnings"


def test_a_job_that_the_host_has_removed_is_vanished_and_no_failure() -> None:
    status = Host([{"JobState": 4}, None]).wait()
    assert (status.state, status.is_done, status.has_failed) == ("vanished", False, False)


@pytest.mark.parametrize(
    ("state", "word"),
    [
        ({"JobState": 10}, "exception"),
        ({"JobState": 8}, "terminated"),
        ({"JobState": 9}, "killed"),
        ({"JobState": 7}, "completed"),
    ],
)
def test_a_failed_job_names_its_code(state: dict[str, Value], word: str) -> None:
    host = Host([{"JobState": 4}, {**state, "ErrorCode": 32775, "ErrorDescription": "Vorgang fehlgeschlagen"}])
    with pytest.raises(JobFailed) as caught:
        host.wait()
    assert caught.value.details == {
        "job": "11111111-2222-3333-4444-555555555555",
        "state": word,
        "code": 32775,
        "code_name": "invalid state for this operation",
    }
    assert "Vorgang fehlgeschlagen" in str(caught.value)


def test_a_job_beyond_its_time_is_told_as_still_running() -> None:
    host = Host([{"JobState": 4, "PercentComplete": 3}] * 50)
    with pytest.raises(HypervError) as caught:
        host.wait(timeout_s=10)
    assert caught.value.kind == "job_timeout"
    assert "3 %" in str(caught.value)


@pytest.mark.parametrize(("number", "word"), [(11, "service"), (4711, "unknown (4711)"), (None, "unknown (not told)")])
def test_a_state_without_a_meaning_is_shown_and_waited_for(number: int, word: str) -> None:
    host = Host([{"JobState": number}, {"JobState": 7}])
    assert read_job(host.store, JOB).state == word
    assert host.wait().is_done


def test_the_clock_is_the_machines_own_in_utc() -> None:
    assert utc_now(HostWorld().store) == datetime(2026, 11, 22, 9, 30, tzinfo=timezone.utc)
    assert utc_now(HostWorld().store).utcoffset() == timedelta(0)


def test_a_clock_without_a_zone_counts_as_utc() -> None:
    store = CimStore()
    store.add(CIMV2, "Win32_OperatingSystem", LocalDateTime=datetime(2026, 1, 1, 12))
    assert utc_now(store) == datetime(2026, 1, 1, 12, tzinfo=timezone.utc)


@pytest.mark.parametrize("refuses_filters", [False, True])
def test_programs_and_services_are_found_by_name(refuses_filters: bool) -> None:
    store = HostWorld(cluster_service="Auto").store
    store.refuses_filters = refuses_filters
    started = datetime(2026, 1, 1, tzinfo=timezone.utc)
    for number, (name, line) in enumerate([("WBADMIN.EXE", "wbadmin start backup"), ("svchost.exe", None)], start=1):
        store.add(CIMV2, "Win32_Process", Name=name, ProcessId=number, CommandLine=line, CreationDate=started)
    found = processes_named(store, ["wbadmin.exe"])
    assert [(one.id, one.command_line, one.started) for one in found] == [(1, "wbadmin start backup", started)]
    services = services_named(store, ["CLUSSVC", "nothing"])
    assert {name: service.start_mode for name, service in services.items()} == {"clussvc": "Auto"}


@pytest.mark.parametrize("refuses_filters", [False, True])
def test_running_services_whose_program_lies_on_a_drive_are_named(refuses_filters: bool) -> None:
    store = CimStore()
    store.refuses_filters = refuses_filters
    rows = (
        ("MSSQLSERVER", "SQL Server", '"S:\\Binn\\sqlservr.exe" -sMSSQL', "Running"),
        ("Stopped", "", "S:\\x.exe", "Stopped"),
        ("Other", "", "C:\\S:\\x.exe", "Running"),
        ("bare", "", "s:\\bare.exe", "Running"),
    )
    for name, title, path, state in rows:
        store.add(CIMV2, "Win32_Service", Name=name, DisplayName=title, PathName=path, State=state)
    assert services_on(store, "S:") == ("SQL Server (MSSQLSERVER)", "bare (bare)")
    assert services_on(store, "T") == ()


def test_rows_that_are_not_of_the_class_do_not_count_as_the_job() -> None:
    store = CimStore()
    store.rows[VIRTUALIZATION, "Msvm_StorageJob"] = [
        CimInstance("Msvm_StorageJob", VIRTUALIZATION, {"InstanceID": "other", "JobState": 7})
    ]
    assert read_job(store, JOB).state == "vanished"
