# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can stand in the way of a reverse restore: told before anything is changed, or survived by running it again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from backup_scene import error_of, host_text, vm_text, world_text
from restore_scene import SHARE, Restored, lose, plan_of
from simulator.mishaps import mishap

pytestmark = [pytest.mark.e2e, pytest.mark.gates]

OFF, RUNNING, SAVED = 3, 2, 6


@pytest.fixture
def here(lab: Callable[[str], Any]) -> Restored:
    """sql01 with a pass-through LUN and a good backup; app01 beside it; a second host that sees nothing of them."""
    scene = Restored(
        lab(
            world_text(
                vm_text("sql01", "127.40.1.1", lun="sql01-data"),
                vm_text("app01", "127.40.1.2", lun="app01-data"),
                luns='  - {id: app01-data, size: 136M, bus: iscsi, serial: "7a0b1e000002"}\n'
                '  - {id: small, size: 16M, bus: iscsi, serial: "7a0b1e000003"}',
                hosts=host_text("hv02", "127.40.0.2"),
            )
            .replace("luns: [sql01-data]", "luns: [small, app01-data, sql01-data]")
            .replace("id: sql01-data, size: 24M", "id: sql01-data, size: 136M")
        )
    )
    run = scene.backup("--limit", "sql01", guest_target=SHARE)
    assert run.status == 0, run.output
    return scene


def kinds(run: Any) -> set[str]:
    return {str(finding["kind"]) for finding in plan_of(run)["findings"]}


def test_everything_that_forbids_a_restore_is_found_before_anything_is_changed(here: Restored) -> None:
    world, lun = here.world, here.lun()
    lose(here)
    before = (world.digests(), here.record())

    mishap(world, "attach_lun", vm="app01", lun="sql01-data", slot="scsi 0:5")
    assert kinds(here.restore("--check")) == {"lun_in_use"}
    mishap(world, "detach_disk", vm="app01", slot="scsi 0:5")

    mishap(world, "same_identity", lun="small", other="sql01-data")
    assert "lun_ambiguous" in kinds(here.restore("--check"))
    new = mishap(world, "replace_lun", lun="small", size="16M")
    mishap(world, "unplug_lun", lun="sql01-data")
    assert kinds(here.restore("--check")) == {"lun_missing"}
    assert kinds(here.restore("--check", lun_map={lun: new})) == {"lun_too_small"}
    mishap(world, "plug_lun", lun="sql01-data")

    mishap(world, "set_password", machine="hv02", account="Administrator", password="changed")
    assert kinds(here.restore("--check")) == {"host_not_seen"}
    accepted = here.restore("--check", accept_unseen_hosts=["hv02"])
    assert accepted.status == 0, accepted.output
    unlisted = here.restore("--check", accept_unseen_hosts=["hv02"], hosts_expected=["hv01", "hv02", "hv07"])
    assert kinds(unlisted) == {"host_not_seen"}
    assert "hv07" in str(plan_of(unlisted)["message"])

    here.lab.guests["app01"]["hyperv_vm"] = "sql01-twin"
    wrong = here.lab.run(
        "hyperv.passthrough.reverse_restore", "--limit", "app01", "-e", f"reverse_restore_set_id={before[1]['set_id']}"
    )
    assert wrong.status == 2
    assert "hyperv_vm is sql01-twin" in wrong.output
    assert (world.digests(), here.record()) == before


def test_a_vm_that_lives_on_another_host_is_not_brought_to_life_twice(here: Restored) -> None:
    mishap(here.world, "move_vm", vm="sql01", host="hv02")
    before = here.world.digests()
    run = here.restore()
    assert run.status == 2
    assert "vm_elsewhere" in kinds(run)
    assert here.world.digests() == before


def test_a_vm_that_was_saved_for_its_backup_boots_and_never_resumes(lab: Callable[[str], Any]) -> None:
    here = Restored(
        lab(
            world_text(vm_text("sql01", "127.40.1.1", lun="sql01-data")).replace(
                "id: sql01-data, size: 24M", "id: sql01-data, size: 136M"
            )
        )
    )
    here.world.switches.choose("wsb-passthrough", "saved")
    saved = here.backup(guest_target=SHARE, allow_offline=True)
    assert saved.status in (0, 2), saved.output
    assert here.record()["state"] in ("good", "degraded")
    lose(here)
    states: list[int] = []
    here.at(
        {"machine": "hv01", "method": "AddResourceSettings"}, lambda _machine: states.append(here.vm.state), count=0
    )
    mishap(here.world, "overwrite_lun", lun="sql01-data")
    mishap(here.world, "reboot", machine="hv01")
    run = here.restore()
    assert run.status == 0, run.output
    assert set(states) <= {OFF}
    assert here.vm.state == RUNNING
    assert here.world.check() == []


def test_a_target_that_vanishes_in_the_middle_fails_the_run_and_the_next_one_finishes(here: Restored) -> None:
    trees = here.trees()
    lose(here)
    mishap(here.world, "overwrite_lun", lun="sql01-data")
    here.at({"machine": "hv01", "class": "PS_ScheduledTask", "method": "StartByPath"}, lambda _m: unplug(here), skip=1)
    broken = here.restore()
    assert broken.status == 2
    mishap(here.world, "plug_target", machine="hv01", target="E:")
    here.clear()
    run = here.restore()
    assert run.status == 0, run.output
    assert here.trees()["sql01:S"] == trees["sql01:S"]
    assert here.world.check() == []


def unplug(here: Restored) -> None:
    mishap(here.world, "unplug_target", machine="hv01", target="E:")


def test_a_guest_whose_password_is_that_of_the_backup_is_told_and_the_rerun_goes_on(here: Restored) -> None:
    trees = here.trees()
    lose(here)
    mishap(here.world, "overwrite_lun", lun="sql01-data")
    old = here.lab.guests["sql01"]["ansible_password"]
    here.lab.guests["sql01"]["ansible_password"] = "not-the-one-of-the-backup"
    broken = here.restore()
    assert broken.status == 2
    assert error_of(broken)["kind"] == "authentication"
    assert here.vm.state == RUNNING
    here.lab.guests["sql01"]["ansible_password"] = old
    run = here.restore()
    assert run.status == 0, run.output
    assert here.trees()["sql01:S"] == trees["sql01:S"]
    assert here.record()["state"] == "restored"


def test_a_rebuilt_host_restores_from_the_copy_beside_the_backup_onto_its_new_switch(here: Restored) -> None:
    trees = here.trees()
    record = here.record()
    copy = str(record["copies"][-1]) if record["copies"] else ""
    lose(here)
    mishap(here.world, "rebuild_host", machine="hv01", volumes=["C", "D"], switches=["New"])
    here.lab.guests["sql01"]["hyperv_vm"] = record["vm"]["id"]
    refused = here.restore(set_source=copy)
    assert refused.status == 2
    assert "switch_unknown" in kinds(refused)
    switches = {adapter["switch_name"]: "New" for adapter in record["vm"]["network_adapters"] if adapter["switch_name"]}
    run = here.restore(set_source=copy, switch_map=switches)
    assert run.status == 0, run.output
    assert here.vm.state == RUNNING
    assert here.trees()["sql01:S"] == trees["sql01:S"]
    assert here.world.check() == []


def test_another_host_takes_the_vm_over_from_a_share(here: Restored) -> None:
    backed_up = here.backup("--limit", "sql01", guest_target=SHARE, host_target=SHARE)
    assert backed_up.status == 0, backed_up.output
    trees, record = here.trees(), here.record()
    lose(here)
    mishap(here.world, "map_lun", lun="sql01-data", machine="hv02")
    here.lab.guests["sql01"].update(hyperv_host="hv02", hyperv_vm=record["vm"]["id"])
    run = here.restore(set_source=record["copies"][-1])
    assert run.status == 0, run.output
    assert here.vm.host.name == "hv02"
    assert here.vm.state == RUNNING
    assert list(here.slots().values()) == ["sql01-data"]
    assert here.trees()["sql01:S"] == trees["sql01:S"]
    assert here.world.check() == []


def test_a_guest_phase_without_a_way_into_the_guest_is_refused_before_the_host_phase(here: Restored) -> None:
    lose(here)
    mishap(here.world, "overwrite_lun", lun="sql01-data")
    before = here.world.digests()
    here.lab.guests["sql01"]["ansible_connection"] = "ssh"
    run = here.restore()
    assert run.status == 2
    assert "has the connection ssh" in str(run.failures()[0].result["msg"])
    assert here.world.digests() == before
    assert not here.vm_exists()


def test_a_lun_of_a_new_array_takes_the_place_of_the_lost_one(here: Restored) -> None:
    trees, old = here.trees(), here.lun()
    lose(here)
    new = str(mishap(here.world, "replace_lun", lun="sql01-data", size="160M"))
    assert kinds(here.restore("--check")) == {"lun_missing"}
    run = here.restore(lun_map={old: new})
    assert run.status == 0, run.output
    assert list(here.slots().values()) == ["sql01-data"]
    assert here.lun() == new
    assert here.trees()["sql01:S"] == trees["sql01:S"]
    assert here.vm.state == RUNNING
    assert here.world.check() == []


ISCSI_VM = """
  - name: sql01
    host: hv01
    generation: 2
    disks:
      - {slot: "scsi 0:0", vhd: 'D:\\VMs\\sql01\\os.vhdx', size: 16M}
    guest:
      address: 127.40.1.1
      iscsi: [sql01-data]
      disks:
        - slot: "scsi 0:0"
          partitions: [{letter: C, label: Windows, boot: true, files: {count: 3, size: 64K}}]
        - lun: sql01-data
          partitions: [{letter: S, label: Data, files: {count: 3, size: 256K}}]
"""


@pytest.mark.core
def test_a_guest_logs_in_to_its_own_iscsi_lun_again_and_gets_its_files_back(lab: Callable[[str], Any]) -> None:
    secret = "Sesame-Open-123"
    text = world_text(ISCSI_VM).replace("luns: [sql01-data]", "luns: []")
    lun = f"id: sql01-data, size: 136M, chap: {{user: sql, secret: {secret}}}"
    here = Restored(lab(text.replace("id: sql01-data, size: 24M", lun)))
    saved = here.backup(guest_target=SHARE)
    assert saved.status == 0, saved.output
    trees = here.trees()
    target = here.record()["disks"][-1]["evidence"]["guest"]["iscsi"]["target"]
    lose(here)
    mishap(here.world, "overwrite_lun", lun="sql01-data")
    here.at(
        {"machine": "hv01", "method": "RequestStateChange"},
        lambda _machine: mishap(here.world, "forget_iscsi", machine="sql01"),
    )
    assert kinds(here.restore("--check")) == {"chap_secret_missing"}
    run = here.restore(chap_secrets={target: {"user": "sql", "secret": secret}})
    assert run.status == 0, run.output
    assert here.trees()["sql01:S"] == trees["sql01:S"]
    assert here.record()["state"] == "restored"
    assert secret not in run.output
    assert secret not in here.record_text(here.record()["set_id"])
    assert here.world.check() == []
