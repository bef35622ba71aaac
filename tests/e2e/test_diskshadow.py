# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Host engine diskshadow through the shipped playbooks: a VM without left-out disks, and one whose LUN the guest phase covers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from backup_scene import vm_text, world_text
from restore_scene import SHARE, Restored, lose
from simulator.mishaps import mishap

pytestmark = pytest.mark.e2e

SETTINGS = {"host_engine": "diskshadow", "host_target": "E:\\shadow-records"}


@pytest.fixture
def migrated(lab: Callable[[str], Any]) -> Restored:
    """A host and a VM all of whose disks are virtual hard disks, as after a migration."""
    text = world_text(vm_text("sql01", "127.40.1.1", more="    automatic_start: always"))
    return Restored(lab(text))


def copies(here: Restored) -> set[str]:
    return {one.set_id.strip("{}").lower() for one in here.host.vss.present()}


def test_a_migrated_vm_is_backed_up_by_shadow_copies_and_comes_back_with_every_byte(migrated: Restored) -> None:
    here = migrated
    run = here.backup(**SETTINGS)
    assert run.status == 0, run.output
    record = here.record()
    (attempt,) = record["phases"]["host"]["attempts"]
    assert (record["state"], attempt["engine"], copies(here)) == ("good", "diskshadow", {attempt["version"]})
    mishap(here.world, "stop_vm", vm="sql01")
    images, trees = here.images(), here.trees()
    mishap(here.world, "delete_vm", vm="sql01")
    back = here.restore()
    assert back.status == 0, back.output
    now = here.images()
    assert set(now) == set(images)
    assert {name for name in images if now[name] != images[name]} <= {name for name in images if "os.vhdx" in name}
    assert {name: tree for name, tree in here.trees().items() if name != "sql01:C"} == {
        name: tree for name, tree in trees.items() if name != "sql01:C"
    }
    assert here.vm.settings.automatic_startup_action == 4
    assert copies(here) == {attempt["version"]}
    assert not [one for one in here.world.leftovers() if "shadow copy" not in one]
    assert here.world.check() == []


@pytest.mark.gates
def test_check_mode_changes_nothing_and_a_second_restore_has_nothing_to_do(migrated: Restored) -> None:
    here = migrated
    before = here.world.digests()
    planned = here.backup("--check", "--diff", **SETTINGS)
    assert planned.status == 0, planned.output
    assert (here.world.digests(), copies(here), here.sets()) == (before, set(), [])
    assert here.backup(**SETTINGS).status == 0
    lose(here)
    checked = here.restore("--check", "--diff")
    assert checked.status == 0, checked.output
    assert not here.vm_exists()
    for _unused in range(2):
        restored = here.restore()
        assert restored.status == 0, restored.output
    assert not [task for task in restored.tasks if task.result.get("changed")]


@pytest.mark.gates
def test_a_pass_through_disk_is_the_guest_phases_and_comes_back_at_its_slot(lab: Callable[[str], Any]) -> None:
    here = Restored(lab(world_text()))
    run = here.backup(**SETTINGS, guest_target=SHARE)
    assert run.status == 0, run.output
    slots, trees = here.slots(), here.trees()
    lose(here)
    back = here.restore()
    assert back.status == 0, back.output
    assert here.slots() == slots
    assert here.trees()["sql01:S"] == trees["sql01:S"]


@pytest.mark.gates
def test_a_provider_that_the_host_has_not_is_refused_before_anything_is_stopped_or_made(migrated: Restored) -> None:
    run = migrated.backup(**SETTINGS, host_engine_options={"provider": "hardware"})
    assert run.status != 0
    assert "provider" in run.output
    assert copies(migrated) == set()
