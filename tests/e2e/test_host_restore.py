# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tasks backup_set_info, backup_set and host_restore through ansible-playbook: a VM comes back, or nothing is touched."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

from backup_scene import Scene, vm_text, world_text
from simulator.mishaps import mishap

pytestmark = pytest.mark.e2e

NOTHING = 2
OFF, RUNNING = 3, 2


class Host(Scene):
    """A world in which sql01 was backed up, and tasks that run on its host."""

    def backed_up(self) -> Host:
        run = self.backup()
        assert run.status == 0, run.output
        return self

    @functools.cached_property
    def vm_id(self) -> str:
        return str(self.record()["vm"]["id"])

    def play(self, *tasks: dict[str, Any], arguments: tuple[str, ...] = (), host: str = "hv01") -> Any:
        return self.lab.run([{"hosts": host, "gather_facts": False, "tasks": list(tasks)}], *arguments)

    def choose(self, **options: Any) -> dict[str, Any]:
        given = {"vm_id": self.vm_id, "choose": True, "relist": True, "poll_interval": 0, **options}
        return {"hyperv.passthrough.backup_set_info": given, "register": "info"}

    def restore(self, **options: Any) -> dict[str, Any]:
        given = {"vm": self.vm_id, "set": "{{ info.chosen }}", "poll_interval": 0, **options}
        return {"hyperv.passthrough.host_restore": given, "register": "restored", "ignore_errors": True}

    def restored(self, **options: Any) -> Any:
        """Choose the set and restore; the result of host_restore."""
        arguments = options.pop("arguments", ())
        run = self.play(self.choose(), self.restore(**options), arguments=arguments)
        assert run.of("host_restore"), run.output
        return run.of("host_restore")[-1].result


@pytest.fixture
def here(lab: Callable[[str], Any]) -> Host:
    text = world_text(
        vm_text("sql01", "127.40.1.1", lun="sql01-data", more="    automatic_start: always\n    networks: [External]")
    )
    text = text.replace("    luns: [sql01-data]", "    luns: [sql01-data]\n    switches: [External]")
    return Host(lab(text)).backed_up()


def test_a_vm_that_is_gone_comes_back_off_connected_and_does_not_start_by_itself(here: Host) -> None:
    before = here.world.digests()
    mishap(here.world, "delete_vm", vm="sql01")
    mark = here.world.mark()
    checked = here.restored(arguments=("--check", "--diff"))
    assert (checked["findings"], checked["planned"], checked["restored"]) == ([], True, False)
    assert not [vm for vm in here.world.vms if vm.name == "sql01"]
    result = here.restored()
    assert "error" not in result, result
    assert here.world.digests()["images"] == before["images"]
    assert here.world.written_since(mark).get("sql01-data", 0) == 0
    assert here.vm.state == OFF
    assert here.vm.settings.automatic_startup_action == NOTHING
    assert result["vm"]["automatic_start_action"] == "Nothing"
    assert (result["restored"], result["job"]["state"], result["changed"]) == (True, "succeeded", True)
    assert [one["switch_name"] for one in result["network"]] == ["External"]
    begin = {"hyperv.passthrough.backup_set": {"vm": here.vm_id, "state": "restoring", "set": "{{ info.chosen }}"}}
    begin["hyperv.passthrough.backup_set"]["restore_phase"] = "host"
    end = {"vm": here.vm_id, "state": "restored", "set_id": "{{ info.chosen.id }}", "lease": "{{ begun.lease }}"}
    run = here.play(
        here.choose(),
        {**begin, "register": "begun"},
        here.restore(lease="{{ begun.lease }}"),
        {"hyperv.passthrough.backup_set": {**end, "host_result": "{{ restored }}"}},
        begin,
    )
    again = run.of("host_restore")[0].result
    assert (again["changed"], again["restored"], again["job"]["attached"]) == (False, True, True)
    begun, ended, finished = (task.result for task in run.of("backup_set"))
    assert (begun["left"], begun["restore"]["state"], begun["restore"]["automatic_start_action"]) == (
        ["host"],
        "running",
        "Start",
    )
    assert (ended["restore"]["state"], ended["set"]["state"], ended["left"]) == ("finished", "restored", [])
    assert (finished["changed"], finished["lease"], finished["left"]) == (False, None, [])
    assert finished["restore"]["ended"]
    assert here.leases() == {}


def emptied(files: Any, folder: str = "") -> None:
    """Delete everything below a folder, as somebody does who needs the room."""
    for name in list(files.listdir(folder)):
        path = f"{folder}\\{name}".lstrip("\\")
        if files.stat(path).is_directory:
            emptied(files, path)
        files.delete(path)


def kinds(result: dict[str, Any]) -> list[str]:
    """Kinds of the findings, of check mode or of a refusal."""
    return [one["kind"] for one in result.get("findings") or result.get("error", {}).get("findings") or ()]


def test_a_living_vm_is_replaced_only_when_it_is_named_and_off_and_was_exported(here: Host) -> None:
    other = "11111111-1111-2222-3333-000000000002"
    vm_id = self_id = here.vm_id
    run = here.play(
        here.choose(),
        here.restore(),
        here.restore(overwrite_vm=other),
        here.restore(overwrite_vm=vm_id),
        here.restore(vm=other),
        here.restore(vm=other, overwrite_vm=other),
        {"hyperv.passthrough.vm_state": {"vm": vm_id, "state": "off", "poll_interval": 0}},
        here.restore(overwrite_vm=self_id.lower()),
    )
    bare, wrong, running, foreign, foreign_too, done = (task.result for task in run.of("host_restore"))
    assert kinds(bare) == ["vm_exists", "vm_not_off"]
    assert kinds(wrong) == ["overwrite_vm_mismatch", "vm_not_off"]
    assert kinds(running) == ["vm_not_off"]
    assert foreign["error"]["kind"] == foreign_too["error"]["kind"] == "wrong_set"
    assert "error" not in done, done
    assert done["exported"].startswith("C:\\ProgramData\\hyperv.passthrough\\exports\\")
    folder, _slash, name = done["exported"].removeprefix("C:\\").rpartition("\\")
    assert here.host.volume_by_letter("C").read(f"{folder}\\{name}")
    assert (here.vm.state, here.vm.settings.automatic_startup_action) == (OFF, NOTHING)


@pytest.mark.gates
def test_virtual_hard_disks_that_outlived_their_vm_are_not_overwritten_unasked(here: Host) -> None:
    mishap(here.world, "overwrite_vhd", vm="sql01", slot="scsi 0:0", seed="newer")
    before = here.world.digests()["images"]
    vm_id = here.vm_id
    mishap(here.world, "delete_vm", vm="sql01", files=False)
    refused = here.restored()
    assert kinds(refused) == ["vhd_exists", "vhd_exists"]
    assert refused["changed"] is False
    assert here.restored(overwrite_vm=vm_id)["restored"] is True
    assert here.world.digests()["images"] != before


@pytest.mark.gates
def test_a_target_that_vanishes_fails_the_attempt_and_the_rerun_makes_another(here: Host) -> None:
    images = here.world.digests()["images"]
    mishap(here.world, "delete_vm", vm="sql01")
    broken: list[str] = []

    def break_off(machine: Any) -> None:
        if not broken and machine.backup.job is not None and machine.backup.job.running:
            broken.append(mishap(here.world, "fail_backup", machine="hv01"))

    here.at({"machine": "hv01"}, break_off, count=0)
    failed = here.restored()
    assert broken
    assert "error" in failed, failed
    assert failed["error"]["kind"] == "recovery_failed", failed["msg"]
    assert "vanished" in failed["msg"]
    assert not [vm for vm in here.world.vms if vm.name == "sql01"]
    mishap(here.world, "unplug_target", machine="hv01", target="E:")
    again = here.play(here.choose(relist=False), here.restore()).of("host_restore")[-1].result
    assert kinds(again) == ["target_unreadable"], again
    mishap(here.world, "plug_target", machine="hv01", target="E:")
    done = here.restored()  # files of the first attempt are in the way of nobody
    assert "error" not in done, done
    assert done["job"]["run_id"].endswith(".2")
    assert here.world.digests()["images"] == images


@pytest.mark.gates
def test_a_set_whose_version_is_gone_is_lost_and_never_restored(here: Host) -> None:
    vm_id = here.vm_id
    with here.locked():
        emptied(here.host.volume_by_letter("E").files)
    run = here.play({**here.choose(), "ignore_errors": True}, here.choose(choose=False, relist=False))
    first, listed = (task.result for task in run.of("backup_set_info"))
    assert first["error"]["kind"] == "no_set"
    assert "lost" in first["msg"]
    assert listed["sets"][0]["state"] == "lost"
    assert listed["sets"][0]["vm"]["id"] == vm_id


@pytest.mark.gates
def test_a_rebuilt_host_restores_from_the_copy_beside_the_backup_onto_another_switch(here: Host) -> None:
    assert here.backup(copy_beside_backup=True, set_id="copied").status == 0
    record = here.record()
    copy = record["copies"][0]
    images = here.world.digests()["images"]
    vm_id = here.vm_id
    mishap(here.world, "rebuild_host", machine="hv01", volumes=["C", "D"], switches=["Rebuilt"])
    run = here.play(
        here.choose(vm_id=vm_id, source=copy),
        here.restore(vm=vm_id),
        {
            "hyperv.passthrough.backup_set": {"vm": vm_id, "state": "restoring", "set": "{{ info.chosen }}"},
            "register": "restoring",
        },
        here.restore(vm=vm_id, switch_map={"External": "Rebuilt"}, lease="{{ restoring.lease }}"),
        {
            "hyperv.passthrough.backup_set": {
                "vm": vm_id,
                "state": "restored",
                "set_id": "{{ info.chosen.id }}",
                "lease": "{{ restoring.lease }}",
                "failure": "the guest was not restored",
                "failure_kind": "test",
            }
        },
    )
    assert run.of("host_restore"), run.output
    refused, done = (task.result for task in run.of("host_restore"))
    assert kinds(refused) == ["switch_unknown"]
    assert "error" not in done, done
    assert [one["switch_name"] for one in done["network"]] == ["Rebuilt"]
    assert here.world.digests()["images"] == images
    assert here.record()["restores"][0]["state"] == "failed"
    assert here.leases() == {}


@pytest.mark.gates
def test_a_vm_that_its_host_started_right_after_the_recovery_is_turned_off_again(here: Host) -> None:
    mishap(here.world, "delete_vm", vm="sql01")
    started: list[str] = []

    def restart(machine: Any) -> None:
        """The host restarts as soon as the VM is registered again, whose start action is still the recorded one."""
        if not started and any(vm.name == "sql01" for vm in machine.vms):
            started.append("host")
            mishap(here.world, "reboot", machine="hv01")

    here.at({"machine": "hv01"}, restart, count=0)
    run = here.play(here.choose(), here.restore())
    first = run.of("host_restore")[-1].result if run.of("host_restore") else {}
    assert started
    here.clear()
    if "error" in first or not first:
        first = here.restored()
    assert "error" not in first, first
    assert (here.vm.state, here.vm.settings.automatic_startup_action) == (OFF, NOTHING)
    mishap(here.world, "start_vm", vm="sql01")
    again = here.restored()
    assert (again["restored"], again["changed"], here.vm.state) == (True, False, RUNNING)
