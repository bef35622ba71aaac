# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two phases with the guest's Windows Server Backup and Hyper-V's own export on the host, and the way back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from backup_scene import host_text, vm_text, world_text
from restore_scene import SHARE, Restored, lose
from simulator.mishaps import mishap

pytestmark = pytest.mark.e2e

RUNNING = 2


@pytest.fixture
def here(lab: Callable[[str], Any]) -> Restored:
    text = world_text(
        vm_text("sql01", "127.40.1.1", lun="sql01-data", more="    automatic_start: always"),
        hosts=host_text("hv02", "127.40.0.2"),
    )
    return Restored(lab(text.replace("id: sql01-data, size: 24M", "id: sql01-data, size: 136M")))


def test_a_vm_exported_by_its_host_comes_back_with_the_lun_that_survived(here: Restored) -> None:
    run = here.backup(guest_target=SHARE, host_engine="export")
    assert run.status == 0, run.output
    record = here.record()
    attempts = record["phases"]["host"]["attempts"]
    assert [(one["engine"], one["outcome"], one["listed"]) for one in attempts] == [("export", "succeeded", True)]
    assert record["state"] == "good"
    assert here.world.leftovers() == []
    assert here.leases() == {}
    trees, mark = here.trees(), here.world.mark()
    lose(here)
    mishap(here.world, "reboot", machine="hv01")
    restored = here.restore()
    assert restored.status == 0, restored.output
    assert here.vm.state == RUNNING
    assert here.vm.settings.automatic_startup_action == 4
    assert list(here.slots().values()) == ["sql01-data"]
    assert here.world.written_since(mark).get("sql01-data", 0) == 0
    assert here.trees()["sql01:S"] == trees["sql01:S"]
    assert here.trees()["sql01:B"] == trees["sql01:B"]
    assert here.world.check() == []
    assert here.world.leftovers() == []


@pytest.mark.gates
def test_check_mode_changes_nothing_and_a_second_run_neither(here: Restored) -> None:
    planned = here.backup("--check", "--diff", guest_target=SHARE, host_engine="export")
    assert planned.status == 0, planned.output
    assert (here.sets(), here.world.leftovers(), here.leases()) == ([], [], {})
    run = here.backup(guest_target=SHARE, host_engine="export")
    assert run.status == 0, run.output
    lose(here)
    before = here.images()
    checked = here.restore("--check", "--diff")
    assert checked.status == 0, checked.output
    assert (here.images(), here.vm_exists(), here.leases()) == (before, False, {})
    for _unused in range(2):
        restored = here.restore()
        assert restored.status == 0, restored.output
    assert not [task for task in restored.tasks if task.result.get("changed")]


@pytest.mark.gates
def test_a_vm_that_exists_is_replaced_by_name_on_another_share_host(here: Restored) -> None:
    target = "\\\\filer01\\backup\\hv"
    run = here.backup(guest_target=SHARE, host_engine="export", host_target=target)
    assert run.status == 0, run.output
    trees = here.trees()
    mishap(here.world, "overwrite_vhd", vm="sql01", slot="scsi 0:1")
    refused = here.restore()
    assert refused.status != 0
    assert here.trees() != trees
    restored = here.restore(overwrite_vm=str(here.record()["vm"]["id"]), turn_off=True)
    assert restored.status == 0, restored.output
    assert here.trees()["sql01:B"] == trees["sql01:B"]
    assert here.world.check() == []
    assert here.world.leftovers() == []
