# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups that cannot work, or work under difficulties: targets, Windows without a backup, other people's backups.

The first part puts many machines with one trouble each into one world and backs them all up in one run: each is told what
is wrong with it in one sentence, and none stops the others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import backup_scene as scene
from backup_proof import prove
from backup_scene import Scene, error_of, host_text, sentence_of, set_of, vm_text, world_text
from simulator.assumed import import_everything, register

import_everything()
pytestmark = pytest.mark.e2e

WARD = {
    # name: (host options, VM options, role variables)
    "german": ({"more": "    locale: de-DE"}, {"guest": "      locale: de-DE"}, {}),
    "full": ({"target": "8M"}, {}, {}),
    "missing": ({}, {}, {"host_target": "X:"}),
    "source": ({}, {}, {"host_target": "D:"}),
    "guestmissing": ({}, {}, {"guest_target": "X:"}),
    "guestsource": ({}, {}, {"guest_target": "S:"}),
    "leftout": (
        {"luns": "leftout-data, leftout-more"},
        {"second": "leftout-more"},
        {"guest_target": "T:", "accept_gaps": ["SCSI 0:3"], "allow_offline": True},
    ),
    "offline": (
        {},
        {"data": "{letter: S, label: Data, size: 8M}, {letter: F, label: Fat, size: 8M, file_system: FAT32}"},
        {"accept_gaps": ["SCSI 0:2"]},
    ),
    "nowb": ({"more": "    missing_features: [Windows-Server-Backup]"}, {}, {}),
    "guestnowb": ({}, {"guest": "      missing_features: [Windows-Server-Backup]"}, {}),
    "client": ({}, {"guest": "      os: windows11"}, {}),
    "noshare": ({}, {}, {"host_target": "\\\\filer01\\closed"}),
    "shared": ({}, {}, {"host_target": "\\\\filer01\\backup", "guest_target": "\\\\filer01\\backup"}),
    "stopped": ({}, {"more": '    state: "off"'}, {"guest_storage": "none"}),
}


def ward() -> str:
    hosts, vms, luns = "", [], ""
    for number, (name, (host, vm, _unused)) in enumerate(WARD.items(), start=10):
        lun = f"{name}-data" if name != "stopped" else ""
        luns += f'  - {{id: {name}-data, size: 24M, bus: iscsi, serial: "7a0b1e0000{number}"}}\n'
        hosts += host_text(f"hv-{name}", f"127.41.0.{number}", **{"luns": lun, **host})
        vms.append(vm_text(name, f"127.41.1.{number}", host=f"hv-{name}", lun=lun, **vm))
    luns += '  - {id: leftout-more, size: 24M, bus: iscsi, serial: "7a0b1e000099"}\n'
    shares = "  - {server: filer01, name: closed, size: 10G, write: ['ANOTHER$'], read: ['ANOTHER$']}"
    return world_text(*vms, hosts=hosts, luns=luns, shares=shares)


@pytest.fixture(scope="module")
def treated(shared_lab: Callable[[str], Any]) -> tuple[Scene, Any]:
    """One run over all of them."""
    lab = shared_lab(ward())
    for name, (_unused, _unused, settings) in WARD.items():
        mine = {f"two_phase_backup_{option}": value for option, value in settings.items()}
        lab.guests[name].update({**scene.SETTINGS, **mine})
    return Scene(lab), lab.run(scene.PLAYBOOK, "--forks", "2")


REFUSED = {
    # name: (error.kind, what the sentence says)
    "full": ("target_full", ["E:", "bytes"]),
    "missing": ("target_missing", ["X:", "C:, D:, E:"]),
    "source": ("target_is_source", ["D:", "choose another volume"]),
    "guestmissing": ("target_missing", ["X:", "B:, C:, S:"]),
    "guestsource": ("target_is_source", ["S:"]),
    "leftout": ("target_on_left_out_disk", ["T:", "same VM"]),
    "offline": ("would_go_offline", ["saved state", "FAT32", "allow_offline"]),
    "nowb": ("wbadmin_missing", ["Install-WindowsFeature Windows-Server-Backup"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_work_is_refused_in_one_sentence_before_anything_is_started(treated: Any, name: str) -> None:
    here, run = treated
    kind, words = REFUSED[name]
    assert error_of(run, name)["kind"] == kind
    sentence = sentence_of(run, name)
    assert [word for word in words if word not in sentence] == []
    for machine in (here.world.machine(name), here.world.machine(f"hv-{name}")):
        assert here.starts(machine) == []
        assert here.tasks(machine) == []
    assert set_of(run, name)["state"] == "failed"
    assert here.leases() == {}


GAPS = {
    "guestnowb": "Install-WindowsFeature Windows-Server-Backup",
    "client": "client Windows, whose wbadmin can back volumes up but restore nothing",
}


@pytest.mark.parametrize("name", GAPS)
def test_a_guest_that_cannot_back_up_and_restore_is_a_gap_said_at_once(treated: Any, name: str) -> None:
    here, run = treated
    assert GAPS[name] in sentence_of(run, name)
    assert "Nothing was backed up" in sentence_of(run, name)
    assert here.starts(here.world.machine(name)) == here.starts(here.world.machine(f"hv-{name}")) == []
    assert run.of("backup_set", name) == []


def test_a_share_without_rights_for_the_computer_account_is_refused_and_says_so(treated: Any) -> None:
    here, run = treated
    assert error_of(run, "noshare")["kind"] == "backup_not_started"
    assert "computer account" in sentence_of(run, "noshare")
    assert "Access is denied" in sentence_of(run, "noshare")
    assert here.starts(here.world.machine("hv-noshare")) == []


def test_each_run_to_a_share_has_a_folder_of_its_own_and_holds_every_byte(treated: Any) -> None:
    here, run = treated
    record = set_of(run, "shared")
    assert record["state"] == "good"
    targets = [record["phases"][phase]["attempts"][0]["target"] for phase in ("guest", "host")]
    runs = [record["phases"][phase]["attempts"][0]["run_id"] for phase in ("guest", "host")]
    assert targets == [f"\\\\filer01\\backup\\SHARED\\{runs[0]}", f"\\\\filer01\\backup\\shared\\{runs[1]}"]
    assert [item for item in prove(here.world, record) if not item.is_proven] == []


def test_a_german_host_and_guest_are_backed_up_like_any_other(treated: Any) -> None:
    here, run = treated
    record = set_of(run, "german")
    assert record["state"] == "good"
    assert [item for item in prove(here.world, record) if not item.is_proven] == []


def test_a_vm_that_is_off_is_backed_up_and_that_takes_nothing_away_from_it(treated: Any) -> None:
    _here, run = treated
    record = set_of(run, "stopped")
    assert record["state"] == "good"
    assert record["phases"]["host"]["attempts"][0]["consistency"] == "off"
    assert {waiver["kind"] for waiver in record["waivers"]} == {"guest_storage_none"}


def test_one_vms_failure_stops_no_other_and_the_exit_code_is_true(treated: Any) -> None:
    _here, run = treated
    assert run.status == 2
    (summary,) = [task for task in run.tasks if task.task == "What each backup holds, and what it does not"]
    told = {
        line.split(":")[0]: line.split(":")[1].split(".")[0].strip() for line in summary.result["msg"] if line[0] != " "
    }
    assert set(told) == set(WARD)
    assert {name for name, state in told.items() if state == "GOOD"} == {"german", "shared", "stopped"}
    failed = {task.host for task in run.failures() if task.task == "Fail each VM that has no good backup"}
    assert failed == set(WARD) - {"german", "shared", "stopped"}


# -- a VM with pass-through disks: what the host may do to it -----------------------------------------------------------


@pytest.fixture
def here(lab: Callable[..., Any]) -> Scene:
    return Scene(lab(world_text()))


@pytest.mark.parametrize("allowed", [True, False])
def test_a_vm_that_was_saved_for_its_backup_is_degraded_unless_that_was_allowed(here: Scene, allowed: bool) -> None:
    here.world.switches.choose("wsb-passthrough", "saved")
    run = here.backup(allow_offline=allowed)
    record = here.record()
    assert record["phases"]["host"]["attempts"][0]["consistency"] == "saved_state"
    assert (run.status, record["state"]) == ((0, "good") if allowed else (2, "degraded"))
    if not allowed:
        assert "the VM was saved while the host backed it up, and allow_offline was not set" in sentence_of(run)
    assert here.vm.running
    assert [item for item in prove(here.world, record) if not item.is_proven] == []


def test_a_host_that_refuses_such_a_vm_is_named_and_points_to_another_engine(here: Scene) -> None:
    here.world.switches.choose("wsb-passthrough", "refused")
    run = here.backup()
    assert run.status == 2
    assert error_of(run)["kind"] == "snapshot_failed"
    assert "1 disk(s) that a host backup leaves out" in sentence_of(run)
    assert "engine 'export'" in sentence_of(run)
    assert here.record()["state"] == "failed"
    assert len(here.versions(here.guest)) == 1
    assert here.versions(here.host) == []
    assert here.leases() == {}


# -- targets that fill up ------------------------------------------------------------------------------------------------


def test_a_target_that_fills_up_during_the_backup_fails_with_what_windows_said(here: Scene) -> None:
    volume = here.host.volume_by_letter("E")
    here.at({"machine": "hv01", "method": "StartByPath"}, lambda _m: volume.reserve("others", volume.free - 4096))
    run = here.backup()
    assert run.status == 2
    job = error_of(run)["job"]
    assert job["state"] == "failed"
    assert error_of(run)["result"]["evidence"]["exit_code"] == -4
    assert "0x80070070" in sentence_of(run)
    assert here.record()["state"] == "failed"
    assert here.versions(here.host) == []


def test_old_versions_that_windows_drops_for_room_are_no_reason_to_refuse_and_do_not_confuse(here: Scene) -> None:
    volume = here.host.volume_by_letter("E")
    for _night in range(3):
        here.finish_foreign(here.host, here.start_foreign(here.host, hyperv=(here.vm.id,)))
    volume.reserve("others", volume.free - 4096)
    run = here.backup()
    assert run.status == 0, run.output
    record = here.record()
    assert record["state"] == "good"
    assert record["phases"]["host"]["attempts"][0]["version"] == here.versions(here.host)[-1].version_id
    assert len(here.versions(here.host)) < 4
    assert [item for item in prove(here.world, record) if not item.is_proven] == []


# -- other people's backups ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "locale"), [("hv01", "en-US"), pytest.param("sql01", "en-US", marks=pytest.mark.gates), ("hv01", "de-DE")]
)
def test_a_backup_that_already_runs_is_waited_for_and_never_stopped(here: Scene, where: str, locale: str) -> None:
    machine = here.world.machine(where)
    machine.os = replace(machine.os, locale=locale)
    others = here.start_foreign(machine, "E:" if where == "hv01" else "B:")
    run = here.backup()
    assert run.status == 0, run.output
    assert others.state == "succeeded"
    assert here.record()["state"] == "good"
    log = machine.event_log.query(scene.CHANNEL)
    assert [record.event_id for record in log if record.event_id in (1, 8, 14)] == [1, 14, 1, 14]
    assert here.methods(where, "StopByPath") == 0


def test_a_backup_that_begins_between_our_look_and_our_start_is_queued_behind(here: Scene) -> None:
    others: list[Any] = []
    here.at({"machine": "hv01", "method": "StartByPath"}, lambda machine: others.append(here.start_foreign(machine)))
    run = here.backup()
    assert run.status == 0, run.output
    assert others[0].state == "succeeded"
    assert here.record()["state"] == "good"
    assert len(here.starts(here.host)) == 2


def test_a_scheduled_backup_that_ends_inside_our_window_is_not_taken_for_ours(here: Scene) -> None:
    """It began before our baseline was read, so only one start lies in our window, and its end is of another template."""
    others = here.start_foreign(here.host)
    here.at({"machine": "hv01", "method": "StartByPath"}, lambda machine: here.finish_foreign(machine, others))
    run = here.backup()
    assert run.status == 0, run.output
    mine = here.record()["phases"]["host"]["attempts"][0]
    assert others.version.version_id != mine["version"]
    assert mine["version"] == here.versions(here.host)[-1].version_id


def test_another_backup_that_begins_in_our_window_makes_the_version_ambiguous(here: Scene) -> None:
    seen: list[Any] = []

    def follow(machine: Any) -> None:
        job = machine.backup.job
        if not seen and job is not None and job.step + 1 >= job.steps and job.running:
            machine.backup.look()
            if not job.running:
                seen.append(here.start_foreign(machine))

    here.at({"machine": "hv01"}, follow, count=0)
    run = here.backup()
    assert run.status == 2
    assert seen
    assert error_of(run)["kind"] == "ambiguous_version"
    assert "2 backups began on this machine" in sentence_of(run)
    assert here.record()["state"] == "failed"
    (attempt,) = here.record()["phases"]["host"]["attempts"]
    assert (attempt["outcome"], attempt["version"], attempt["error"]["kind"]) == ("failed", None, "ambiguous_version")
    here.finish_foreign(here.host, seen[0])
    assert seen[0].state == "succeeded"


def test_two_versions_of_one_minute_cannot_be_told_apart_and_fail(here: Scene) -> None:
    def earlier(machine: Any) -> None:
        """A version of the minute in which our job begins."""
        others = here.start_foreign(machine)
        others.seconds = 0.0
        here.finish_foreign(machine, others)

    here.at({"machine": "hv01", "method": "StartByPath"}, earlier)
    run = here.backup()
    assert run.status == 2
    assert error_of(run)["kind"] == "ambiguous_version"
    assert "two backups in one minute" in sentence_of(run)
    assert here.record()["state"] == "failed"


def test_an_event_log_that_cannot_be_read_fails_although_wbadmin_was_content(here: Scene) -> None:
    here.at(
        {"machine": "hv01", "method": "StartByPath"},
        lambda machine: machine.event_log._channels.pop(scene.CHANNEL.upper()),
    )
    run = here.backup()
    assert run.status == 2
    assert error_of(run)["kind"] == "events_unreadable"
    assert scene.CHANNEL in sentence_of(run)
    assert len(here.versions(here.host)) == 1
    assert here.record()["state"] == "failed"


# -- the two snapshots ---------------------------------------------------------------------------------------------------


@pytest.mark.gates
def test_snapshots_too_far_apart_are_cured_by_one_more_guest_phase(here: Scene) -> None:
    here.at({"machine": "hv01", "method": "RegisterByXml"}, lambda _machine: here.world.clock.advance(150))
    run = here.backup(max_skew=150)
    assert run.status == 0, run.output
    record = here.record()
    assert record["state"] == "good"
    assert [attempt["purpose"] for attempt in record["phases"]["guest"]["attempts"]] == ["first", "skew"]
    assert len(record["phases"]["host"]["attempts"]) == 1
    assert record["skew_s"] <= 150
    # what the second guest phase wrote into virtual hard disks of the VM came after the host's snapshot
    volumes = [item for item in prove(here.world, record) if item.kind == "volume"]
    assert [item.is_proven for item in volumes] == [True]


@pytest.mark.gates
def test_snapshots_that_stay_too_far_apart_are_degraded_and_said(here: Scene) -> None:
    run = here.backup(max_skew=1)
    assert run.status == 2
    record = here.record()
    assert record["state"] == "degraded"
    assert len(record["phases"]["guest"]["attempts"]) == 2
    assert "more than max_skew (1 s)" in sentence_of(run)


def test_full_in_both_phases_is_refused_before_anything_is_done(here: Scene) -> None:
    run = here.backup(guest_vss_backup_type="full", host_vss_backup_type="full")
    assert run.status == 2
    assert "full in both phases" in sentence_of(run)
    assert here.sets() == []


def test_full_in_the_guest_reaches_windows_as_such(here: Scene) -> None:
    run = here.backup(guest_vss_backup_type="full")
    assert run.status == 0, run.output
    assert [version.vss_full for version in here.versions(here.guest)] == [True]
    assert [version.vss_full for version in here.versions(here.host)] == [False]


# -- guesses about Windows that no source proves ---------------------------------------------------------------------------

#: What a backup may find otherwise than the simulator's first guess. Left out: what a host does to a VM with pass-through
#: disks, which has tests of its own above.
GUESSES = {
    name: entry.values[1:]
    for name, entry in register().items()
    if name.startswith(("wsb-", "wbadmin-", "task-", "wevtutil-"))
    and len(entry.values) > 1
    and name != "wsb-passthrough"
}


@pytest.mark.gates
def test_a_backup_that_queues_behind_another_is_good_under_every_other_guess(here: Scene) -> None:
    for name, values in GUESSES.items():
        here.world.switches.choose(name, values[0])
    here.start_foreign(here.host)
    run = here.backup()
    assert run.status == 0, run.output
    record = here.record()
    assert record["state"] == "good"
    assert [item for item in prove(here.world, record) if not item.is_proven] == []
    assert len(here.versions(here.host)) == 2
