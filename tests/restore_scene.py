# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small simulated world whose VM is lost and restored: the operator's command and what there is to look at afterwards.

Responsible for running the playbook with options and for reading plans and digests. Not responsible for: the world's text
(`backup_scene.py`), what a test expects.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from backup_scene import Scene
from simulator.mishaps import mishap

PLAYBOOK = "hyperv.passthrough.reverse_restore"
SHARE = r"\\filer01\backup"


class Restored(Scene):
    """A world with a good backup of sql01 (a system disk, a pass-through LUN), and the operator who restores it."""

    def restore(self, *arguments: str, **settings: Any) -> Any:
        """Run the playbook; `settings` are variables of the role without its prefix."""
        chosen = {"poll_interval": 0, "boot_timeout": 60, **settings}
        given = json.dumps({f"reverse_restore_{name}": value for name, value in chosen.items()})
        return self.lab.run(PLAYBOOK, "--limit", "sql01", "-e", given, *arguments)

    def vm_exists(self) -> bool:
        return any(vm.name == "sql01" for vm in self.world.vms)

    def lun(self) -> str:
        """UniqueId of the pass-through LUN as the host shows it."""
        return str(self.world.luns["sql01-data"].identity.unique_id)

    def trees(self) -> dict[str, str]:
        return dict(self.world.digests()["guest_volumes"])

    def images(self) -> dict[str, str]:
        return dict(self.world.digests()["images"])

    def slots(self) -> dict[int, str | None]:
        """What LUN each pass-through drive of sql01 means now."""
        return {
            slot: getattr(self.vm.physical_lun(drive), "id", None)
            for slot, drive in self.vm.controller("scsi", 0).drives.items()
            if drive.kind == "physical"
        }


def lose(here: Restored) -> None:
    """The VM is turned off and deleted, with its virtual hard disks."""
    mishap(here.world, "stop_vm", vm="sql01")
    mishap(here.world, "delete_vm", vm="sql01")


def plan_of(run: Any) -> Mapping[str, Any]:
    return next(
        task.result["ansible_facts"]["reverse_restore_plan"]
        for task in run.tasks
        if "reverse_restore_plan" in (task.result.get("ansible_facts") or {})
    )


def disks_of(run: Any) -> Mapping[str, str]:
    """Slot to what the plan does with the disk."""
    return {str(disk["slot_text"]): str(disk["action"]) for disk in plan_of(run)["disks"]}
