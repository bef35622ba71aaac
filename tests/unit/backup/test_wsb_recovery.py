# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Recoveries of Windows Server Backup: command lines, what proves success, and whole runs on a machine in memory."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.engine import RestoreRequest
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.errors import BackupError
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.wsb_recovery import (
    WindowsServerRecovery,
    items_named,
    recovery_command,
)
from unit.backup.test_wsb import Machine, event

VM_ID = "285CEA9B-1111-2222-3333-000000000001"
VOLUME = "\\\\?\\Volume{0a0b0c0d-1111-2222-3333-000000000001}\\"
NOW_THERE = "\\\\?\\Volume{0a0b0c0d-1111-2222-3333-000000000009}\\"
VERSION = "06/30/2026-19:30"
RUN = "nightly.host_restore.r1.1"


def vm_request(**changes: Any) -> RestoreRequest:
    facts = {"kind": "vm", "version": VERSION, "target": "E:", "machine": "HV01", "item": VM_ID, "label": "db01"}
    return RestoreRequest(**{**facts, **changes})


def volume_request(**changes: Any) -> RestoreRequest:
    return vm_request(**{"kind": "volume", "machine": "DB01", "item": "S:", "onto": NOW_THERE, **changes})


def test_a_vm_is_restored_by_its_guid_to_where_it_was() -> None:
    assert recovery_command(vm_request(item=VM_ID.lower())) == (
        f"wbadmin start recovery -version:{VERSION} -itemType:HyperV -items:{VM_ID} -backupTarget:E: -machine:HV01 -quiet"
    )


def test_a_volume_is_named_as_it_is_listed_and_goes_onto_a_volume_named_by_its_path() -> None:
    line = recovery_command(volume_request(target="\\\\nas\\my share"))
    assert line == (
        f"wbadmin start recovery -version:{VERSION} -itemType:Volume -items:S: -recoveryTarget:{NOW_THERE} "
        '-backupTarget:"\\\\nas\\my share" -machine:DB01 -quiet'
    )


@pytest.mark.parametrize(
    "request_",
    [
        vm_request(item="db01"),
        vm_request(onto=VOLUME),
        vm_request(version="newest"),
        vm_request(machine="HV01 -quiet"),
        volume_request(item="S:\\data"),
        volume_request(onto="S:"),
        volume_request(onto=None),
        volume_request(item="*"),
    ],
)
def test_a_request_that_is_none_is_refused(request_: RestoreRequest) -> None:
    with pytest.raises(BackupError) as caught:
        recovery_command(request_)
    assert caught.value.kind == "bad_request"


def files(*events: str, code: str = "0", log: str = "") -> dict[str, str]:
    return {
        "baseline.xml": event(10, 14),
        "baseline-rc.txt": "0",
        "log.txt": log or "Running the recovery operation, copied (100%).",
        "rc.txt": code,
        "events.xml": "".join(reversed(events)) + event(10, 14),
        "events-rc.txt": "0",
        "done.txt": "done",
    }


VM_DONE = event(12, 1026, HRESULT="0", DetailedHRESULT="0")
VOLUME_DONE = (event(11, 192, BackupSetId="{a}"), event(12, 194, HRESULT="0x0", BackupSetId="{a}"), event(13, 193))


class RecoveryMachine(Machine):
    def engine(self) -> WindowsServerRecovery:  # type: ignore[override]
        return WindowsServerRecovery(self, helper_waiting=self.waiting())


@pytest.fixture
def machine() -> RecoveryMachine:
    return RecoveryMachine()


def test_a_vm_that_came_back_is_proven_by_exit_code_and_event(machine: RecoveryMachine) -> None:
    machine.plan(RUN, None, files(VM_DONE))
    result = machine.engine().run(RUN, vm_request(), machine.waiting())
    assert (result.state, result.evidence["end_event_id"], result.evidence["baseline_record_id"]) == (
        "succeeded",
        1026,
        10,
    )
    again = machine.engine().run(RUN, vm_request(), machine.waiting())
    assert (again.state, machine.starts) == ("succeeded", [RUN])


def test_a_volume_that_came_back_is_proven_by_exit_code_and_event(machine: RecoveryMachine) -> None:
    machine.plan(RUN, files(*VOLUME_DONE))
    assert machine.engine().run(RUN, volume_request(), machine.waiting()).state == "succeeded"


TABLE: list[tuple[str, RestoreRequest, dict[str, str], str]] = [
    ("nothing in the log", vm_request(), files(), "no_recovery_event"),
    ("only an older event", vm_request(), files(event(9, 1026, HRESULT="0")), "no_recovery_event"),
    ("an event of another kind", vm_request(), files(*VOLUME_DONE), "no_recovery_event"),
    ("a file recovery of somebody", volume_request(), files(event(12, 209, HRESULT="0")), "no_recovery_event"),
    ("the log says failure", vm_request(), files(event(12, 1028, HRESULT="0x807800C5")), "recovery_failed"),
    (
        "failure in spite of code 0",
        volume_request(),
        files(event(11, 192), event(12, 196, HRESULT="5")),
        "recovery_failed",
    ),
    ("an unclean success", vm_request(), files(event(12, 1026, HRESULT="0x80070005")), "recovery_failed"),
    ("a stop that failed", vm_request(), files(VM_DONE, event(13, 1025, HRESULT="0x80070015")), "recovery_failed"),
    ("warnings", vm_request(), files(event(12, 1027, HRESULT="0x80780049")), "recovery_incomplete"),
    ("a code beside a success", vm_request(), files(VM_DONE, code="-4"), "recovery_failed"),
    ("two volumes", volume_request(), files(*VOLUME_DONE, event(14, 192), event(15, 194)), "ambiguous_recovery"),
    ("two VMs", vm_request(), files(VM_DONE, event(13, 1026, HRESULT="0")), "ambiguous_recovery"),
    ("it never began", vm_request(), files(code="-3"), "recovery_not_started"),
    ("it began and ended without a word", volume_request(), files(event(11, 192), code="-3"), "recovery_failed"),
    ("no exit code", vm_request(), {**files(VM_DONE), "rc.txt": ""}, "interrupted"),
    ("no wbadmin", vm_request(), files(code="9009"), "wbadmin_missing"),
    (
        "a refused line",
        vm_request(),
        files(code="1", log="ERROR - Command syntax incorrect. Error: X."),
        "wbadmin_refused",
    ),
    ("a log that cannot be read", vm_request(), {**files(VM_DONE), "events-rc.txt": "15007"}, "events_unreadable"),
    ("a log that is no XML", vm_request(), {**files(VM_DONE), "events.xml": "<Event>"}, "events_unreadable"),
]


@pytest.mark.parametrize(("request_", "left", "kind"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_what_does_not_prove_a_restore(
    machine: RecoveryMachine, request_: RestoreRequest, left: dict[str, str], kind: str
) -> None:
    machine.plan(RUN, left)
    result = machine.engine().run(RUN, request_, machine.waiting())
    assert (result.state, result.kind) == ("failed", kind)
    assert result.message


def test_two_events_of_one_recovery_are_one_recovery(machine: RecoveryMachine) -> None:
    both = [
        event(number, kind, HRESULT="0", RestoreEventId="{b}") for number, kind in ((12, 225), (13, 1026), (14, 1025))
    ]
    machine.plan(RUN, files(*both))
    result = machine.engine().run(RUN, vm_request(), machine.waiting())
    assert (result.state, result.evidence["restore_event_id"]) == ("succeeded", "{b}")


def test_too_many_events_are_never_a_proof(machine: RecoveryMachine) -> None:
    many = [event(number, 4) for number in range(13, 52)]
    left = {**files(VM_DONE, *many), "events.xml": "".join(reversed([VM_DONE, *many]))}
    machine.plan(RUN, left)
    assert machine.engine().run(RUN, vm_request(), machine.waiting()).kind == "ambiguous_recovery"


def test_a_machine_that_restarted_in_the_middle_is_interrupted(machine: RecoveryMachine) -> None:
    engine = machine.engine()
    job = engine.start(RUN, vm_request())
    machine.tasks[RUN]["active"] = False
    assert engine.status(job, vm_request()).kind == "interrupted"
    assert engine.result(job, vm_request()).kind == "interrupted"


def test_another_recovery_is_waited_for(machine: RecoveryMachine) -> None:
    machine.plan(RUN, files(VM_DONE))
    machine.processes = ["wbadmin start recovery -version:x -itemType:File"]
    engine, waiting = machine.engine(), machine.waiting()

    def sleep(seconds: float) -> None:
        machine.processes = []
        machine.pass_time(seconds)

    result = engine.run(RUN, vm_request(), dataclasses.replace(waiting, sleep=sleep))
    assert result.state == "succeeded"
    assert any("queued" in line for line in machine.shown)


def test_a_recovery_that_found_the_machine_busy_is_started_anew_under_its_id(machine: RecoveryMachine) -> None:
    busy = files(code="-1", log="There is another backup or recovery operation in progress.")
    machine.plan(RUN, busy, files(VM_DONE))
    assert machine.engine().run(RUN, vm_request(), machine.waiting()).state == "succeeded"
    assert machine.starts == [RUN, RUN]


# -- listing ---------------------------------------------------------------------------------------------------------


def test_a_target_is_listed_and_nothing_of_the_listing_is_left(machine: RecoveryMachine) -> None:
    left = {
        "versions.txt": f"Version identifier: {VERSION}",
        "versions-rc.txt": "0",
        "items.txt": f"Volume ID = {{{VOLUME[11:47]}}}\r\nVolume 'New Volume (S:)'",
        "items-rc.txt": "0",
        "done.txt": "done",
    }
    machine.plan("x.list", left)
    found = machine.engine().listing("x.list", "E:", "DB01", version=VERSION, items={VOLUME: "S", NOW_THERE: "T"})
    assert found.versions == (VERSION,)
    assert found.items == {VOLUME: VOLUME}
    assert (machine.tasks, machine.files) == ({}, {})


def test_a_target_that_cannot_be_listed_says_why(machine: RecoveryMachine) -> None:
    machine.plan(
        "x.list", *[{"versions.txt": "The device is not ready.", "versions-rc.txt": "-3", "done.txt": "done"}] * 2
    )
    found = machine.engine().listing("x.list", "E:", "DB01")
    assert found.versions is None
    assert "not ready" in found.reason


def test_items_are_named_as_the_version_lists_them() -> None:
    text = b"Volume S:, mounted at S:\\"
    assert items_named(text, {VOLUME: "s:", NOW_THERE: "T"}) == {VOLUME: "S:"}
    assert items_named(VM_ID.lower().encode(), {VM_ID: ""}) == {VM_ID: VM_ID}
