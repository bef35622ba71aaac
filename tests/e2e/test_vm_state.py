# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Task vm_state through ansible-playbook: power, saved state, start action and heartbeat of VMs of a simulated host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from backup_scene import Scene

pytestmark = pytest.mark.e2e

OFF, RUNNING, SAVED = 3, 2, 6
NOTHING, START_IF_RUNNING = 2, 3


def vm_text(name: str, number: int, *, state: str = "running", guest: str = "") -> str:
    return f"""
  - name: {name}
    host: hv01
    state: "{state}"
    automatic_start: if_running
    disks: [{{slot: "scsi 0:0", vhd: 'D:\\\\VMs\\\\{name}\\\\os.vhdx', size: 8M}}]
    guest:
      address: 127.43.1.{number}
      {guest}
      disks: [{{slot: "scsi 0:0", partitions: [{{letter: C, boot: true}}]}}]
"""


WORLD = (
    """
name: power
seed: power
clock: 2026-10-01T20:00:00Z
hosts:
  - name: hv01
    address: 127.43.0.1
    os: server2022
    volumes:
      - {letter: C, size: 40G, label: System}
      - {letter: D, size: 60G, label: VMs}
vms:
"""
    + vm_text("good01", 1)
    + vm_text("saved01", 2, state="saved")
    + vm_text("off01", 3, state="off")
    + vm_text("stubborn01", 4, guest="shutdown: ignores")
    + vm_text("locked01", 5, guest="shutdown: locked")
    + vm_text("mute01", 6, guest="integration_services: false")
)


class Power(Scene):
    def do(self, *calls: dict[str, Any], arguments: tuple[str, ...] = ()) -> list[dict[str, Any]]:
        """Results of the task, called once for each dictionary of options; a failure does not end the play."""
        tasks = [
            {
                "hyperv.passthrough.vm_state": {"vm": "good01", "poll_interval": 0, **options},
                "ignore_errors": True,
            }
            for options in calls
        ]
        run = self.lab.run([{"hosts": "hv01", "gather_facts": False, "tasks": tasks}], *arguments)
        assert len(run.tasks) == len(calls), run.output
        return [task.result for task in run.tasks]

    def states(self) -> dict[str, int]:
        with self.world.lock:
            return {vm.name: vm.state for vm in self.world.vms}

    def start_actions(self) -> dict[str, int]:
        with self.world.lock:
            return {vm.name: vm.settings.automatic_startup_action for vm in self.world.vms}


@pytest.fixture
def here(lab: Callable[..., Any]) -> Power:
    return Power(lab(WORLD))


def changes(results: list[dict[str, Any]]) -> list[bool]:
    assert [result["msg"] for result in results if "error" in result] == []
    return [result["changed"] for result in results]


def test_a_vm_goes_from_state_to_state_and_a_second_call_changes_nothing(here: Power) -> None:
    calls = [{"state": state} for state in ("shut_down", "shut_down", "off", "running", "running", "saved", "saved")]
    results = here.do(*calls, {"state": "running"}, {"state": "off"}, {"state": "off"})
    assert changes(results) == [True, False, False, True, False, True, False, True, True, False]
    assert [result["after"]["state"] for result in results] == [
        *("off", "off", "off", "running", "running", "saved", "saved"),
        *("running", "off", "off"),
    ]
    assert here.states()["good01"] == OFF
    assert here.methods("hv01", "InitiateShutdown") == 1
    assert here.methods("hv01", "RequestStateChange") == 4


@pytest.mark.gates
def test_start_action_and_saved_state_are_changed_without_touching_the_power(here: Power) -> None:
    nothing = {"vm": "saved01", "discard_saved_state": True, "automatic_start_action": "Nothing"}
    first, second = here.do(nothing, nothing)
    assert (first["changed"], second["changed"]) == (True, False)
    assert [step["kind"] for step in first["plan"]] == ["discard_saved_state", "automatic_start_action"]
    assert first["before"]["automatic_start_action"] == "StartIfRunning"
    assert first["after"] == {"state": "off", "automatic_start_action": "Nothing", "heartbeat": None}
    assert here.states()["saved01"] == OFF
    assert here.start_actions()["saved01"] == NOTHING
    (back,) = here.do({"vm": "saved01", "automatic_start_action": first["before"]["automatic_start_action"]})
    assert back["changed"] is True
    assert here.start_actions()["saved01"] == START_IF_RUNNING
    assert here.do({"vm": "saved01", "automatic_start_action": "start_if_running"})[0]["changed"] is False


@pytest.mark.gates
def test_check_mode_says_what_it_would_do_and_leaves_the_world_as_it_is(here: Power) -> None:
    before = (here.states(), here.start_actions(), here.world.digests())
    results = here.do(
        {"vm": "saved01", "discard_saved_state": True, "state": "running", "wait_for": "heartbeat"},
        {"state": "shut_down", "automatic_start_action": "Nothing"},
        {"state": "running"},
        arguments=("--check", "--diff"),
    )
    assert [(result["changed"], result["after"] is None) for result in results] == [
        (True, True),
        (True, True),
        (False, False),
    ]
    assert [step["kind"] for step in results[0]["plan"]] == ["discard_saved_state", "running"]
    assert (here.states(), here.start_actions(), here.world.digests()) == before


@pytest.mark.gates
def test_the_heartbeat_is_waited_for(here: Power) -> None:
    (result,) = here.do({"vm": "off01", "state": "running", "wait_for": "heartbeat"})
    assert (result["changed"], result["after"]["heartbeat"]) == (True, "ok")
    assert here.states()["off01"] == RUNNING


@pytest.mark.gates
def test_a_guest_that_sends_no_heartbeat_is_told_and_its_vm_is_left_running(here: Power) -> None:
    (result,) = here.do({"vm": "mute01", "wait_for": "heartbeat", "wait_timeout": 1})
    assert result["error"]["kind"] == "heartbeat_timeout"
    assert result["changed"] is False
    assert here.states()["mute01"] == RUNNING


def test_what_is_refused_changes_nothing(here: Power) -> None:
    before = (here.states(), here.start_actions())
    results = here.do(
        {"vm": "saved01", "state": "off"},
        {"vm": "saved01", "state": "shut_down", "automatic_start_action": "Nothing"},
        {"vm": "off01", "state": "saved"},
        {"vm": "locked01", "state": "shut_down"},
        {"vm": "mute01", "state": "shut_down"},
        {"vm": "nosuch", "state": "off"},
        {"vm": 123, "state": "off"},
    )
    assert [result["error"]["kind"] for result in results] == [
        *("vm_saved", "vm_saved", "cannot_save", "shutdown_refused", "shutdown_refused"),
        *("unknown_vm", "unquoted_identity"),
    ]
    assert (here.states(), here.start_actions()) == before


def test_a_guest_that_ignores_the_shutdown_is_turned_off_only_with_force(here: Power) -> None:
    (first,) = here.do({"vm": "stubborn01", "state": "shut_down", "wait_timeout": 1})
    assert first["error"]["kind"] == "shutdown_timeout"
    assert here.states()["stubborn01"] == RUNNING
    results = here.do(
        {"vm": "stubborn01", "state": "shut_down", "wait_timeout": 1, "force": True},
        {"vm": "mute01", "state": "shut_down", "force": True},
    )
    assert changes(results) == [True, True]
    states = here.states()
    assert (states["stubborn01"], states["mute01"]) == (OFF, OFF)


@pytest.mark.gates
def test_a_job_that_fails_is_told_with_its_code_and_a_rerun_succeeds(here: Power) -> None:
    here.fault({"method": "RequestStateChange"}, "fail_job", code=32778)
    first, second = here.do({"vm": "off01", "state": "running"}, {"vm": "off01", "state": "running"})
    assert (first["error"]["kind"], first["error"]["code"], first["changed"]) == ("job_failed", 32778, False)
    assert second["changed"] is True
    assert here.states()["off01"] == RUNNING


@pytest.mark.gates
@pytest.mark.parametrize("method", ["RequestStateChange", "InitiateShutdown", "ModifySystemSettings"])
def test_a_reply_that_is_lost_after_the_change_is_not_sent_twice(here: Power, method: str) -> None:
    options = {
        "RequestStateChange": {"vm": "off01", "state": "running"},
        "InitiateShutdown": {"state": "shut_down"},
        "ModifySystemSettings": {"automatic_start_action": "Nothing"},
    }
    here.fault({"method": method}, "drop_after")
    (result,) = here.do(options[method])
    assert (result.get("msg"), result["changed"]) == (None, True)
    assert here.methods("hv01", method) == 1
