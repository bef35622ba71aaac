# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Task guest_restore through ansible-playbook: newer data is kept, lost data comes back, nothing else is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from backup_scene import Scene, world_text
from simulator.mishaps import mishap

pytestmark = pytest.mark.e2e

SENTINEL = "S:\\version.txt"


class Guest(Scene):
    """A world in which sql01 was backed up, and the task on its guest."""

    def backed_up(self) -> Guest:
        mishap(self.world, "write_file", machine="sql01", path=SENTINEL, text="7.1")
        run = self.backup(sentinels=[SENTINEL])
        assert run.status == 0, run.output
        return self

    def tasks(self, *calls: dict[str, Any]) -> list[dict[str, Any]]:
        """The set's choice on the host, then the task, called once for each dictionary of options."""
        info = {"vm_id": self.record()["vm"]["id"], "choose": True, "poll_interval": 0, "restore_phase": "guest"}
        tasks: list[dict[str, Any]] = [
            {
                "hyperv.passthrough.backup_set_info": info,
                "register": "info",
                "delegate_to": "hv01",
                "check_mode": False,
            }
        ]
        for options in calls:
            given = {"vm_id": info["vm_id"], "set": "{{ info.chosen }}", "poll_interval": 0, **options}
            tasks.append({"hyperv.passthrough.guest_restore": given, "ignore_errors": True})
        return tasks

    def restored(self, *calls: dict[str, Any], arguments: tuple[str, ...] = ()) -> list[dict[str, Any]]:
        play = {"hosts": "sql01", "gather_facts": False, "tasks": self.tasks(*(calls or ({},)))}
        run = self.lab.run([play], *arguments)
        found = [task.result for task in run.of("guest_restore")]
        assert len(found) == len(calls or ({},)), run.output
        return found

    def tree(self) -> str:
        return str(self.world.digests()["guest_volumes"]["sql01:S"])


@pytest.fixture
def here(lab: Callable[[str], Any]) -> Guest:
    return Guest(lab(world_text())).backed_up()


def test_newer_data_is_kept_and_named_data_comes_back(here: Guest) -> None:
    recorded = here.tree()
    mishap(here.world, "write_file", machine="sql01", path="S:\\newer.txt", text="much newer")
    mark = here.world.mark()
    kept, checked = here.restored({}, {"overwrite_disks": ["SCSI 0:2"]}, arguments=("--check", "--diff"))
    assert (kept["changed"], kept["findings"], kept["disks"][0]["action"]) == (False, [], "keep")
    assert (checked["changed"], checked["findings"], checked["disks"][0]["action"]) == (True, [], "restore")
    (kept,) = here.restored()
    assert (kept["changed"], kept["disks"][0]["action"], kept["disks"][0]["verified"]) == (False, "keep", True)
    assert here.world.written_since(mark).get("sql01-data", 0) == 0
    first, second = here.restored({"overwrite_disks": ["SCSI 0:2"]}, {"overwrite_disks": ["SCSI 0:2"]})
    assert first.get("failed") is not True, first
    assert (first["changed"], first["job"]["state"], first["disks"][0]["action"]) == (True, "succeeded", "restore")
    assert first["disks"][0]["verified"] is True, first["disks"]
    assert here.tree() == recorded
    assert (second["changed"], second["job"]["attached"]) == (False, True)
    assert here.world.check() == []
