# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Killing it anywhere is safe: runs that die, runs beside each other, lost replies; the next run finishes the work."""

from __future__ import annotations

import json
import select
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import backup_scene as scene
from backup_proof import prove
from backup_scene import (
    LEASE_S,
    Operator,
    Scene,
    error_of,
    hook_files,
    host_text,
    sentence_of,
    vm_text,
    wake,
    world_text,
)

pytestmark = pytest.mark.e2e
GATES = pytest.mark.gates  # of cases that differ in the place only, all but one; the fault enumeration has every place

NIGHT = 24 * 3600


@pytest.fixture
def here(lab: Callable[..., Any]) -> Scene:
    return Scene(lab(world_text()))


@pytest.fixture
def hooks(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    return hook_files(tmp_path)


def running(machine: Any) -> bool:
    return machine.backup.job is not None and machine.backup.job.running


def guest_runs(here: Scene) -> bool:
    return running(here.guest)


def between_phases(here: Scene) -> bool:
    return bool(here.sets() and here.record()["phases"]["guest"]["attempts"])


def host_runs(here: Scene) -> bool:
    return running(here.host)


def before_closing(here: Scene) -> bool:
    return bool(here.sets() and here.record()["phases"]["host"]["attempts"])


def killed(here: Scene, folder: Path, moment: Callable[[Scene], bool], **settings: Any) -> None:
    """A run that is killed, with all its processes, at the first exchange at which `moment` is true."""
    operator: list[Operator] = []
    rule = here.at({}, lambda _machine: operator[0].kill() if operator and moment(here) else None, count=0)
    operator.append(Operator(here, folder, **settings))
    assert operator[0].wait().status == -9
    rule.count = rule.acted = 1
    here.clear()


@pytest.mark.parametrize(
    "moment",
    [between_phases, *(pytest.param(moment, marks=GATES) for moment in (guest_runs, host_runs, before_closing))],
)
def test_a_run_killed_anywhere_is_finished_by_the_next_one(
    here: Scene, tmp_path: Path, hooks: Any, moment: Callable[[Scene], bool]
) -> None:
    log, settings = hooks
    killed(here, tmp_path / "first", moment, **settings)
    (first,) = here.sets()
    assert first["state"] == "open"
    assert first["hooks"]["quiesced"] is True
    here.pass_time(LEASE_S)
    run = here.backup(**settings)
    assert run.status == 0, run.output
    (record,) = here.sets()
    assert (record["set_id"], record["state"]) == (first["set_id"], "good")
    assert record["hooks"]["quiesced"] is False
    assert log.read_text().split()[:2] == ["quiesce", "unquiesce"]
    assert log.read_text().split()[-1] == "unquiesce"
    for machine, phase in ((here.guest, "guest"), (here.host, "host")):
        assert len(here.starts(machine)) == len(here.versions(machine)) == 1
        assert [name for name in here.tasks(machine) if name.endswith(f".{phase}.1")]
        assert not [name for name in here.tasks(machine) if name.endswith(f".{phase}.2")]
    made = {task.action.rpartition(".")[2]: task.result["changed"] for task in run.tasks if "job" in task.result}
    expected = {
        guest_runs: {"guest_backup": False, "host_backup": True},
        between_phases: {"host_backup": True},
        host_runs: {"host_backup": False},
        before_closing: {},
    }
    assert made == expected[moment]
    assert [item for item in prove(here.world, record) if not item.is_proven] == []
    assert here.leases() == {}


@pytest.mark.gates
def test_a_worker_whose_parent_was_killed_changes_nothing_beside_the_rerun(here: Scene, tmp_path: Path) -> None:
    operator: list[Operator] = []
    orphans: list[int] = []

    def kill_parent(_machine: Any) -> None:
        if operator and not orphans and guest_runs(here):
            orphans.extend(operator[0].kill_parent())

    here.at({}, kill_parent, when="after", count=0)
    operator.append(Operator(here, tmp_path / "first"))
    assert operator[0].wait().status == -9
    assert orphans
    here.clear()
    here.pass_time(LEASE_S)
    run = here.backup()
    assert run.status == 0, run.output
    before = (here.sets(), here.tasks(here.host), here.tasks(here.guest), here.host.backup.catalog[:])
    wake(orphans)
    assert (here.sets(), here.tasks(here.host), here.tasks(here.guest), here.host.backup.catalog) == before
    assert len(here.starts(here.guest)) == len(here.starts(here.host)) == 1
    assert here.record()["state"] == "good"
    assert here.leases() == {}


@pytest.mark.gates
def test_a_run_that_another_one_overtook_stops_as_superseded(here: Scene, tmp_path: Path) -> None:
    operator: list[Operator] = []
    frozen: list[bool] = []

    def freeze(_machine: Any) -> None:
        if operator and not frozen and guest_runs(here):
            frozen.append(True)
            operator[0].freeze()

    here.at({}, freeze, when="after", count=0)
    operator.append(Operator(here, tmp_path / "first"))
    for _look in range(6000):  # bounded by the run itself: nothing else moves this world
        if frozen:
            break
        select.select([], [], [], 0.02)
    here.clear()
    here.pass_time(LEASE_S)
    second = here.backup()
    assert second.status == 0, second.output
    before = (here.sets(), here.tasks(here.host), here.tasks(here.guest))
    operator[0].thaw()
    first = operator[0].wait()
    assert first.status == 2
    assert error_of(first)["kind"] == "superseded"
    assert "another run" in sentence_of(first) or "no longer ours" in sentence_of(first)
    assert (here.sets(), here.tasks(here.host), here.tasks(here.guest)) == before
    assert len(here.starts(here.guest)) == len(here.starts(here.host)) == 1
    assert here.leases() == {}


def test_a_run_whose_vm_another_one_works_on_touches_neither_applications_nor_set(here: Scene, hooks: Any) -> None:
    """The other run may be between its two snapshots: starting the applications now would spoil them."""
    log, settings = hooks
    name = f"VM {here.vm.id.lower()}"
    taken: list[Any] = []

    def take_over(_machine: Any) -> None:
        if not taken and guest_runs(here):
            key = here.host.registry.find(scene.HKLM, f"{scene.REGISTRY}\\Leases\\{name}")
            key.values.clear()
            until = (here.world.clock.utc() + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            held = {"format": 1, "state": "held", "expires": until, "ticket": "2026", "owner": "cron process 7"}
            here.host.registry.put(f"{scene.REGISTRY}\\Leases\\{name}", {"OTHER": json.dumps(held)})
            taken.append(here.record())

    here.at({}, take_over, when="after", count=0)
    run = here.backup(**settings)
    assert run.status == 2
    assert error_of(run)["kind"] == "superseded"
    assert "cron process 7" in sentence_of(run)
    assert log.read_text().split() == ["quiesce"]
    assert here.record() == taken[0]
    assert list(here.leases()[name]) == ["OTHER"]
    assert here.starts(here.host) == []


@GATES
def test_a_run_that_slept_too_long_cleans_up_after_itself_when_nobody_else_came(here: Scene, hooks: Any) -> None:
    """The controller was suspended, say: the lease is gone, but nobody took it."""
    log, settings = hooks
    slept: list[Any] = []

    def sleep(_machine: Any) -> None:
        if not slept and guest_runs(here):
            slept.append(here.world.clock.advance(LEASE_S))

    here.at({}, sleep, when="after", count=0)
    broken = here.backup(**settings)
    assert broken.status == 2
    assert error_of(broken)["kind"] == "superseded"
    (first,) = here.sets()
    assert (first["state"], first["hooks"]["quiesced"]) == ("open", False)
    assert log.read_text().split() == ["quiesce", "unquiesce"]
    assert here.leases() == {}
    run = here.backup(**settings)
    assert run.status == 0, run.output
    (record,) = here.sets()
    assert record["state"] == "good"
    assert len(here.starts(here.guest)) == len(here.starts(here.host)) == 1


def test_a_vm_on_which_another_run_is_alive_is_refused(here: Scene) -> None:
    name = f"VM {here.vm.id.lower()}"

    def renew(machine: Any) -> None:
        until = (here.world.clock.utc() + timedelta(seconds=300)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        here.world.clock.advance(1)
        held = {"format": 1, "state": "held", "expires": until, "ticket": "2026", "owner": "cron process 7"}
        machine.registry.put(f"SOFTWARE\\hyperv.passthrough\\Leases\\{name}", {"OTHER": json.dumps(held)})

    renew(here.host)
    here.at({"machine": "hv01", "method": "EnumValues"}, renew, count=0)
    run = here.backup()
    assert run.status == 2
    assert error_of(run)["kind"] == "vm_in_use"
    assert "cron process 7" in sentence_of(run)
    assert here.sets() == []
    assert here.tasks(here.host) == here.tasks(here.guest) == []
    assert list(here.leases()) == [name]
    assert list(here.leases()[name]) == ["OTHER"]


@pytest.mark.gates
def test_last_nights_broken_set_is_closed_its_guest_unquiesced_and_a_new_one_opened(
    here: Scene, tmp_path: Path, hooks: Any
) -> None:
    log, settings = hooks
    killed(here, tmp_path / "last-night", between_phases, **settings)
    here.pass_time(NIGHT)
    run = here.backup(**settings)
    assert run.status == 0, run.output
    broken, tonight = here.sets()
    assert broken["state"] == "failed"
    assert "max_skew" in broken["reasons"][0]
    assert tonight["state"] == "good"
    assert not broken["hooks"]["quiesced"]
    assert not tonight["hooks"]["quiesced"]
    assert log.read_text().split() == ["quiesce", "unquiesce", "quiesce", "unquiesce"]
    assert len(here.starts(here.guest)) == 2
    assert len(here.starts(here.host)) == 1
    assert [item for item in prove(here.world, tonight) if not item.is_proven] == []


@GATES
def test_a_set_that_is_named_is_continued_however_old_and_returned_when_it_is_closed(
    here: Scene, tmp_path: Path
) -> None:
    killed(here, tmp_path / "first", between_phases, set_id="month-end")
    here.pass_time(NIGHT)
    run = here.backup(set_id="month-end")
    assert run.status == 0, run.output
    (record,) = here.sets()
    assert (record["set_id"], record["state"]) == ("month-end", "good")
    purposes = [attempt["purpose"] for attempt in record["phases"]["guest"]["attempts"]]
    assert purposes == ["first", "skew"]
    assert record["skew_s"] <= 3600
    assert len(here.starts(here.guest)) == 2
    again = here.backup(set_id="month-end")
    assert again.status == 0, again.output
    assert [task.task for task in again.tasks if task.result.get("changed")] == []
    assert here.sets() == [record]
    assert len(here.starts(here.host)) == 1


@pytest.mark.gates
def test_records_that_cannot_be_read_hide_no_other_and_are_never_overwritten(here: Scene) -> None:
    prefix = here.vm.id[:8].lower()
    newer = {"format": "hyperv.passthrough/backup-set", "version": 99, "set_id": "from-the-future"}
    junk = {
        "from-the-future": json.dumps(newer),
        f"{prefix}-20260901t000000z-aaaaaaaa": '{"format": "hyperv.passthrough/backup-set", "version": 1}',
        f"{prefix}-20260902t000000z-bbbbbbbb": "\x00 no JSON",
    }
    for set_id, text in junk.items():
        here.put_record(set_id, text)
    refused = here.backup(set_id="from-the-future")
    assert refused.status == 2
    assert error_of(refused)["kind"] == "set_too_new"
    assert here.starts(here.host) == here.starts(here.guest) == []
    run = here.backup()
    assert run.status == 0, run.output
    assert {set_id: here.record_text(set_id) for set_id in junk} == junk
    play = [{"hosts": "hyperv_hosts", "gather_facts": False, "tasks": [{"hyperv.passthrough.backup_set_info": {}}]}]
    (task,) = here.lab.run(play).of("backup_set_info")
    assert [item["state"] for item in task.result["sets"]] == ["good"]
    assert {item["id"]: item["kind"] for item in task.result["unreadable"]} == {
        set_id: "set_too_new" if set_id == "from-the-future" else "set_unreadable" for set_id in junk
    }


@GATES
@pytest.mark.parametrize("where", ["sql01", "hv01"])
def test_a_session_dropped_while_a_backup_runs_is_attached_to_again(here: Scene, where: str) -> None:
    machine = here.world.machine(where)
    cut: list[Any] = []

    def cut_off(_machine: Any) -> None:
        if not cut and running(machine):
            cut.append(here.fault({"machine": f"^{where}$"}, "drop_before", count=0))

    here.at({}, cut_off, when="after", count=0)
    broken = here.backup()
    assert broken.status == 2
    assert cut
    assert broken.tasks[-1].status == "failed"
    (first,) = here.sets()
    assert first["state"] == "open"
    here.clear()
    here.pass_time(LEASE_S)
    run = here.backup()
    assert run.status == 0, run.output
    (record,) = here.sets()
    assert (record["set_id"], record["state"]) == (first["set_id"], "good")
    for one in (here.guest, here.host):
        assert len(here.starts(one)) == len(here.versions(one)) == 1
    assert [item for item in prove(here.world, record) if not item.is_proven] == []


@GATES
@pytest.mark.parametrize("where", ["sql01", "hv01"])
def test_a_machine_that_restarts_during_its_backup_fails_the_set_and_the_next_run_makes_a_new_one(
    here: Scene, hooks: Any, where: str
) -> None:
    log, settings = hooks
    machine = here.world.machine(where)
    rebooted: list[bool] = []

    def reboot(_machine: Any) -> None:
        if not rebooted and running(machine):
            rebooted.append(True)
            machine.reboot(renumber=True)

    here.at({}, reboot, when="after", count=0)
    broken = here.backup(**settings)
    assert broken.status == 2
    assert error_of(broken)["kind"] == "interrupted"
    assert "was interrupted" in sentence_of(broken)
    (first,) = here.sets()
    assert (first["state"], first["hooks"]["quiesced"]) == ("failed", False)
    run = here.backup(**settings)
    assert run.status == 0, run.output
    assert [item["state"] for item in here.sets()] == ["failed", "good"]
    assert log.read_text().split() == ["quiesce", "unquiesce"] * 2
    assert [item for item in prove(here.world, here.record()) if not item.is_proven] == []
    assert len(here.starts(machine)) == 2
    assert len(here.versions(machine)) == 1


LOST = [
    (method, effect, skip)
    for method, effects, calls in (
        ("RegisterByXml", ("drop_after", "drop_before"), 2),
        ("StartByPath", ("drop_after", "drop_before"), 2),
        ("SetStringValue", ("drop_after",), 8),
    )
    for effect in effects
    for skip in range(calls)
]


@pytest.mark.gates
def test_a_reply_that_was_lost_starts_nothing_twice(lab: Callable[..., Any]) -> None:
    """One host for each lost reply: of the first, second, third ... call of each method that changes something there."""
    hosts, vms = "", []
    for number, _lost in enumerate(LOST):
        hosts += host_text(f"h{number}", f"127.42.0.{number + 1}")
        vms.append(vm_text(f"v{number}", f"127.42.1.{number + 1}", host=f"h{number}"))
    here = Scene(lab(world_text(*vms, hosts=hosts)))
    for number, (method, effect, skip) in enumerate(LOST):
        here.fault({"machine": f"^h{number}$", "method": f"^{method}$"}, effect, skip=skip)
    first = here.backup("--forks", "2")
    broken = {task.host for task in first.failures()}
    assert broken
    here.pass_time(LEASE_S)
    run = here.backup("--forks", "2", "--limit", ",".join(sorted(broken)))
    assert run.status == 0, run.output
    for number, lost in enumerate(LOST):
        host = here.world.machine(f"h{number}")
        sets = here.sets(host)
        assert [item["state"] for item in sets][-1:] == ["good"], (lost, sets)
        runs = [name for name in here.tasks(host) if ".host." in name and not name.endswith(".items")]
        assert len(runs) == len(here.starts(host)) == len(here.versions(host)), (lost, runs)
        assert len(sets) == len(runs), (lost, sets, runs)
