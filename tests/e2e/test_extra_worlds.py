# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Worlds written by hand, unlike the demo's, go through the whole two-phase backup and are judged by their bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from backup_proof import only_on_the_host, prove

pytestmark = pytest.mark.e2e

PLAYBOOK = "hyperv.passthrough.two_phase_backup"
LEASES = "SOFTWARE\\hyperv.passthrough\\Leases"


def back_up(world: Any, *, host_target: str, guest_target: str) -> dict[str, dict[str, Any]]:
    """The whole playbook; returns the sets by inventory name."""
    world.inventory["all"]["vars"] = {
        "two_phase_backup_host_target": host_target,
        "two_phase_backup_guest_target": guest_target,
        "two_phase_backup_poll_interval": 0,
    }
    run = world.run(PLAYBOOK)
    assert run.status == 0, run.output
    return {name: dict(run.of("backup_set", name)[-1].result["set"]) for name in world.guests}


def lost_without_the_guest_phase(world: Any, record: dict[str, Any]) -> list[str]:
    """Prove one set; returns the guest's volumes that the host's half does not hold."""
    assert record["state"] == "good"
    proof = prove(world.world, record)
    assert [item for item in proof if not item.is_proven] == []
    lost = only_on_the_host(world.world, record)
    assert lost == [item.name for item in proof if item.kind == "volume"]
    return lost


def leases_left(world: Any) -> list[str]:
    found = []
    for machine in world.world.machines:
        key = machine.registry.find(0x80000002, LEASES)
        found += [path for path, one in (key.walk("") if key is not None else ()) if one.values]
    return found


def test_a_german_branch_office_with_a_wrong_clock_backs_up_to_its_filer(lab: Callable[..., Any]) -> None:
    world = lab("branch_office")
    records = back_up(world, host_target=r"\\ablage\sicherung", guest_target=r"\\ablage\sicherung")
    assert lost_without_the_guest_phase(world, records["KASSE"]) == ["K: Kasse", "B: Belege", "A: Ältere Belege"]
    assert lost_without_the_guest_phase(world, records["WAWI"]) == ["P: Planung", "L: Lager"]
    assert [abs(record["skew_s"]) < 3600 for record in records.values()] == [True, True]
    assert leases_left(world) == []
    assert world.world.check() == []


@pytest.mark.gates
def test_a_vm_with_forty_disks_and_awkward_names_everywhere_is_backed_up_whole(lab: Callable[..., Any]) -> None:
    world = lab("awkward")
    records = back_up(world, host_target="E:", guest_target="C:")
    assert len(records["FORTY"]["disks"]) == 40
    assert len(lost_without_the_guest_phase(world, records["FORTY"])) == 6
    assert lost_without_the_guest_phase(world, records["JINJA"]) == ["X: {% if %}", "Y: a,b & c%d"]
    assert lost_without_the_guest_phase(world, records["KANJI"]) == []
    assert leases_left(world) == []
    assert world.world.check() == []
