# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reverse restore as an operator runs it: a backup, a disaster, the playbook, and what the bytes say afterwards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backup_scene import error_of, hook_files, host_text, vm_text, world_text
from restore_scene import SHARE, Restored, disks_of, lose
from simulator.mishaps import mishap

pytestmark = pytest.mark.e2e

OFF, RUNNING = 3, 2


@pytest.fixture
def here(lab: Callable[[str], Any]) -> Restored:
    scene = Restored(
        lab(
            world_text(
                vm_text("sql01", "127.40.1.1", lun="sql01-data", more="    automatic_start: always"),
                luns='  - {id: other, size: 16M, bus: iscsi, serial: "7a0b1e000002"}',
                hosts=host_text("hv02", "127.40.0.2"),
            )
            .replace("luns: [sql01-data]", "luns: [other, sql01-data]")
            .replace(
                "id: sql01-data, size: 24M", "id: sql01-data, size: 136M"
            )  # Windows makes no GPT on less than 128 MiB
        )
    )
    run = scene.backup(guest_target=SHARE)
    assert run.status == 0, run.output
    return scene


@pytest.mark.core
def test_a_vm_whose_disks_are_all_noise_and_renumbered_comes_back_byte_for_byte(here: Restored) -> None:
    trees, images = here.trees(), here.images()
    at_boot: dict[str, str] = {}
    lose(here)
    mishap(here.world, "overwrite_lun", lun="sql01-data")
    mishap(here.world, "reboot", machine="hv01")
    # the disk that Windows boots from changes as soon as it runs, so that it is judged at the moment the VM is started
    here.at({"machine": "hv01", "method": "RequestStateChange"}, lambda _machine: at_boot.update(here.images()))
    run = here.restore()
    assert run.status == 0, run.output
    assert here.vm.state == RUNNING
    assert here.vm.settings.automatic_startup_action == 4
    assert list(here.slots().values()) == ["sql01-data"]
    assert here.trees()["sql01:S"] == trees["sql01:S"]
    assert at_boot == images
    assert here.world.check() == []
    assert here.leases() == {}
    assert here.record()["state"] == "restored"


@pytest.mark.core
def test_newer_data_on_a_lun_that_survived_is_kept_and_not_one_byte_of_it_is_written(here: Restored) -> None:
    mishap(here.world, "write_file", machine="sql01", path=r"S:\newer.txt", text="written after the backup")
    mishap(here.world, "stop_vm", vm="sql01")
    trees = here.trees()
    mishap(here.world, "delete_vm", vm="sql01")
    mark = here.world.mark()
    run = here.restore()
    assert run.status == 0, run.output
    assert here.world.written_since(mark)["sql01-data"] == 0
    assert here.trees()["sql01:S"] == trees["sql01:S"]
    assert here.vm.state == RUNNING
    assert disks_of(run)["SCSI 0:2"] == "keep"


@pytest.mark.gates
def test_check_mode_prints_the_plan_and_changes_nothing(here: Restored) -> None:
    lose(here)
    before = (here.world.digests(), here.record(), here.tasks(here.host))
    run = here.restore("--check", "--diff")
    assert run.status == 0, run.output
    assert "SCSI 0:2" in run.output
    assert "keep" in run.output
    assert (here.world.digests(), here.record(), here.tasks(here.host)) == before
    assert [vm.name for vm in here.world.vms] == []


def test_a_living_vm_is_refused_and_everything_that_forbids_the_restore_comes_in_one_message(here: Restored) -> None:
    mishap(here.world, "unplug_lun", lun="sql01-data")
    before = here.world.digests()
    run = here.restore()
    assert run.status == 2
    said = next(str(task.result["msg"]) for task in run.failures())
    assert "overwrite_vm" in said
    assert "prefix reverse_restore_" in said
    assert [task.task for task in run.tasks if task.result.get("changed")] == []
    assert here.lun() in said
    assert here.world.digests() == before
    assert here.vm.state == RUNNING


@pytest.mark.gates
@pytest.mark.parametrize("meaning", ["keeps-number", "wrong-disk", "dropped"])
def test_pass_through_disks_are_remapped_whatever_the_restore_made_of_them(here: Restored, meaning: str) -> None:
    here.world.switches.choose("wsb-passthrough-restore", meaning)
    lose(here)
    mishap(here.world, "reboot", machine="hv01")
    mark = here.world.mark()
    run = here.restore()
    assert run.status == 0, run.output
    assert list(here.slots().values()) == ["sql01-data"]
    assert here.world.written_since(mark) == {"other": 0, "sql01-data": 0}
    assert here.world.check() == []


@pytest.mark.gates
def test_a_finished_restore_run_again_changes_nothing(here: Restored) -> None:
    lose(here)
    first = here.restore()
    assert first.status == 0, first.output
    before = (here.world.digests(), here.record())
    again = here.restore()
    assert again.status == 0, again.output
    assert [task.task for task in again.tasks if task.result.get("changed")] == []
    assert "nothing was left to do" in again.output
    assert (here.world.digests(), here.record()) == before


@pytest.mark.gates
def test_a_host_that_reboots_between_restore_and_remap_does_not_start_the_vm(here: Restored) -> None:
    started: list[str] = []

    def reboot(machine: Any) -> None:
        mishap(here.world, "reboot", machine="hv01")
        started.extend(vm.name for vm in here.world.vms if vm.state == RUNNING)

    lose(here)
    here.at({"machine": "hv01", "method": "AddResourceSettings"}, reboot)
    here.restore()
    assert started == []
    here.clear()
    run = here.restore()
    assert run.status == 0, run.output
    assert list(here.slots().values()) == ["sql01-data"]
    assert here.world.check() == []


@pytest.mark.gates
def test_a_guest_that_never_answers_leaves_the_vm_running_and_a_rerun_goes_on_there(here: Restored) -> None:
    lose(here)
    mishap(here.world, "overwrite_lun", lun="sql01-data")
    here.at(
        {"machine": "hv01", "method": "RequestStateChange"},
        lambda _machine: mishap(here.world, "set_guest", vm="sql01", boots=False),
    )
    broken = here.restore(boot_timeout=1)
    assert broken.status == 2
    assert error_of(broken)["kind"] == "heartbeat_timeout"
    assert here.vm.settings.automatic_startup_action == 2
    mishap(here.world, "set_guest", vm="sql01", boots=True)
    mishap(here.world, "stop_vm", vm="sql01")
    run = here.restore()
    assert run.status == 0, run.output
    assert here.record()["state"] == "restored"
    assert here.vm.settings.automatic_startup_action == 4


@pytest.mark.gates
def test_only_the_guest_phase_brings_back_one_named_disk_of_a_running_vm(here: Restored) -> None:
    trees = here.trees()
    mishap(here.world, "write_file", machine="sql01", path=r"S:\mistake.txt", text="should not be here")
    kept = here.restore(phase="guest", id="look")
    assert kept.status == 0, kept.output
    assert here.trees()["sql01:S"] != trees["sql01:S"]
    run = here.restore(phase="guest", id="named", overwrite_disks=["SCSI 0:2"], volumes=["S"])
    assert run.status == 0, run.output
    assert here.trees()["sql01:S"] == trees["sql01:S"]
    assert here.vm.state == RUNNING
    assert here.methods("hv01", "RequestStateChange") == 0
    assert here.world.check() == []


@pytest.mark.gates
def test_applications_are_held_before_their_disks_are_attached_and_started_after_the_data(
    here: Restored, tmp_path: Path
) -> None:
    trees = here.trees()
    log, hooks = hook_files(tmp_path)
    attached: list[str] = []
    here.at(
        {"machine": "hv01", "method": "AddResourceSettings"},
        lambda _machine: attached.append(f"attach after {log.read_text().split()} in state {here.vm.state}"),
        count=0,
    )
    lose(here)
    mishap(here.world, "overwrite_lun", lun="sql01-data")
    run = here.restore(
        boot_without_data_disks=True,
        before_guest_tasks=hooks["quiesce_tasks"],
        after_guest_tasks=hooks["unquiesce_tasks"],
    )
    assert run.status == 0, run.output
    assert log.read_text().split() == ["quiesce", "unquiesce"]
    assert set(attached) == {f"attach after ['quiesce'] in state {RUNNING}"}
    assert here.trees()["sql01:S"] == trees["sql01:S"]
    assert list(here.slots().values()) == ["sql01-data"]
    assert here.world.check() == []


@pytest.mark.gates
def test_a_running_vm_that_is_named_is_shut_down_exported_and_replaced_and_its_lun_keeps_what_is_newer(
    here: Restored,
) -> None:
    images, states = here.images(), []
    mishap(here.world, "write_file", machine="sql01", path=r"C:\broken.txt", text="the update that broke Windows")
    mishap(here.world, "write_file", machine="sql01", path=r"S:\newer.txt", text="written after the backup")
    newer, mark = here.trees()["sql01:S"], here.world.mark()
    at_boot: list[dict[str, str]] = []
    here.at(
        {"machine": "hv01", "method": "RequestStateChange"}, lambda _machine: at_boot.append(here.images()), count=0
    )
    here.at(
        {"machine": "hv01", "method": "ExportSystemDefinition"}, lambda _machine: states.append(here.vm.state), count=0
    )
    wrong = here.restore(overwrite_vm="11111111-2222-3333-4444-555555555555")
    assert wrong.status == 2
    assert here.vm.state == RUNNING
    run = here.restore(overwrite_vm=here.vm.id)
    assert run.status == 0, run.output
    assert states == [OFF]
    assert at_boot[-1] == images
    assert here.trees()["sql01:S"] == newer
    assert here.world.written_since(mark)["sql01-data"] == 0
    assert here.vm.state == RUNNING
    again = here.restore(overwrite_vm=here.vm.id)
    assert again.status == 0, again.output
    assert [task.task for task in again.tasks if task.result.get("changed")] == []
    assert here.world.check() == []
