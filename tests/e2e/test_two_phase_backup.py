# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The main job as an operator runs it, judged by the bytes on the backup targets and the state of the simulated world."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from backup_proof import only_on_the_host, prove

pytestmark = pytest.mark.e2e

PLAYBOOK = "hyperv.passthrough.two_phase_backup"
OPTIONS = (
    "-e",
    "two_phase_backup_host_target=E:",
    "-e",
    "two_phase_backup_guest_target=C:",
    "-e",
    "two_phase_backup_poll_interval=0",
)


def set_of(run: Any, host: str) -> dict[str, Any]:
    """The set as the last backup_set task of that VM returned it."""
    return dict(run.of("backup_set", host)[-1].result["set"])


def test_both_halves_hold_every_byte_and_the_host_alone_would_have_lost_the_guests(lab: Callable[..., Any]) -> None:
    world = lab("small")
    run = world.run(PLAYBOOK, *OPTIONS)
    assert run.status == 0, run.output
    record = set_of(run, "sql01")
    assert record["state"] == "good"
    proof = prove(world.world, record)
    assert {item.kind for item in proof} == {"virtual hard disk", "volume"}
    assert [item for item in proof if not item.is_proven] == []
    assert only_on_the_host(world.world, record) == [item.name for item in proof if item.kind == "volume"]
    assert world.world.check() == []


def test_check_mode_with_diff_leaves_the_world_as_it_was(lab: Callable[..., Any]) -> None:
    world = lab("small")
    before = world.world.digests()
    run = world.run(PLAYBOOK, *OPTIONS, "--check", "--diff")
    assert run.status == 0, run.output
    assert world.world.digests() == before
    for machine in world.world.machines:
        assert machine.scheduler.tasks() == []
        assert machine.registry.find(0x80000002, "SOFTWARE\\hyperv.passthrough") is None
