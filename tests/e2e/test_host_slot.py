# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many VMs of one host: one backup at a time there, and the two snapshots of each VM lie together."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

import backup_scene as scene
from backup_scene import Scene, error_of, set_of, vm_text, world_text

pytestmark = pytest.mark.e2e


def crowd(names: list[str]) -> str:
    luns = "".join(f'  - {{id: {name}-data, size: 24M, bus: iscsi, serial: "7a0b2e00{name[2:]}"}}\n' for name in names)
    vms = [
        vm_text(name, f"127.43.1.{number}", lun=f"{name}-data").replace("host: hv01", "host: hv02")
        for number, name in enumerate(names, start=1)
    ]
    host = scene.host_text("hv02", "127.43.0.1", luns=", ".join(f"{name}-data" for name in names))
    return world_text(*vms, hosts=host, luns=luns)


@pytest.mark.parametrize(
    ("vms", "forks"), [(4, 2), *(pytest.param(12, forks, marks=pytest.mark.gates) for forks in (5, 20))]
)
def test_many_vms_of_one_host_queue_for_it_and_each_has_its_snapshots_together(
    lab: Callable[..., Any], vms: int, forks: int
) -> None:
    names = [f"vm{number:02}" for number in range(1, vms + 1)]
    here = Scene(lab(crowd(names)))
    host = here.world.machine("hv02")
    # a waiter looks once in a second, as one in a real queue does; the job's own time is simulated
    run = here.backup("--forks", str(forks), poll_interval=1)
    assert run.status == 0, run.output[-4000:]
    moments = []
    for name in names:
        record = set_of(run, name)
        assert record["state"] == "good"
        (guest,), (on_host,) = (record["phases"][phase]["attempts"] for phase in ("guest", "host"))
        moments.append((guest["snapshot_time"], on_host["snapshot_time"], name))
    moments.sort()
    for (_guest, before, _name), (guest, on_host, name) in pairwise(moments):
        assert before < guest < on_host, name  # no other VM's snapshot in between
    assert len(here.starts(host)) == len(here.versions(host)) == len(names)
    log = host.event_log.query(scene.CHANNEL)
    order = [record.event_id for record in log if record.event_id in (1, 14)]
    assert order == [1, 14] * len(names)  # a backup ended before the next one began
    assert {record.event_id for record in log} == {1, 4, 14}  # none was refused because another one ran
    assert here.leases() == {}
    warned = [task for task in run.tasks if task.task.startswith("Warn when VMs will wait") and task.status == "ok"]
    assert len(warned) == (1 if forks < len(names) else 0)


@pytest.mark.parametrize("strategy", ["linear", "free"])
def test_another_strategy_is_refused_before_anything_is_done(lab: Callable[..., Any], strategy: str) -> None:
    here = Scene(lab(world_text()))
    play = [
        {
            "hosts": "hyperv_guests",
            "gather_facts": False,
            "strategy": strategy,
            "vars": dict(scene.SETTINGS),
            "roles": ["hyperv.passthrough.two_phase_backup"],
        }
    ]
    run = here.lab.run(play)
    assert run.status == 2
    assert error_of(run)["kind"] == "wrong_strategy"
    assert "host_pinned" in run.output
    assert here.tasks(here.host) == here.tasks(here.guest) == []
    assert here.sets() == []
    assert here.leases() == {}
