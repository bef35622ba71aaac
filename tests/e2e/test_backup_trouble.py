# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups that cannot work, or work under difficulties: targets, Windows without a backup, other people's backups.

The first part puts many machines with one trouble each into one world and backs them all up in one run: each is told what
is wrong with it in one sentence, and none stops the others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import backup_scene as scene
from backup_proof import prove
from backup_scene import Scene, error_of, host_text, sentence_of, set_of, vm_text, world_text

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
