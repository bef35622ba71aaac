# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Task guest_restore through ansible-playbook: newer data is kept, lost data comes back, nothing else is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from backup_scene import Scene, vm_text, world_text
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
    assert "error" not in first, first
    assert (first["changed"], first["job"]["state"], first["disks"][0]["action"]) == (True, "succeeded", "restore")
    assert first["disks"][0]["verified"] is True, first["disks"]
    assert here.tree() == recorded
    assert (second["changed"], second["job"]["attached"]) == (False, True)
    assert here.world.check() == []


@pytest.mark.gates
def test_a_blank_disk_gets_its_partitions_and_then_its_content(lab: Callable[[str], Any]) -> None:
    data = "{letter: S, label: Data, size: 96M, files: {count: 3, size: 256K}}"
    text = world_text(vm_text("sql01", "127.40.1.1", lun="sql01-data", data=data)).replace("size: 24M", "size: 200M")
    here = Guest(lab(text)).backed_up()
    recorded = here.tree()
    mishap(here.world, "blank_lun", lun="sql01-data")
    mishap(here.world, "reboot_guest", vm="sql01")
    (refused,) = here.restored()
    assert refused["error"]["kind"] == "volume_missing", refused
    assert refused["changed"] is False
    row = next(disk for disk in here.record()["disks"] if disk["slot_text"] == "SCSI 0:2")
    prepare = {
        "hyperv.passthrough.guest_disk": {
            "state": "prepared",
            "disks": [row],
            "confirm_size_bytes": row["size_bytes"],
            "poll_interval": 0,
        }
    }
    tasks = here.tasks({})
    play = {"hosts": "sql01", "gather_facts": False, "tasks": [prepare, *tasks]}
    run = here.lab.run([play])
    assert run.of("guest_restore"), run.output
    done = run.of("guest_restore")[-1].result
    assert "error" not in done, done
    assert (done["changed"], done["disks"][0]["verified"]) == (True, True), done["disks"]
    assert here.tree() == recorded


@pytest.mark.gates
def test_what_forbids_a_guest_restore_is_told_and_nothing_is_written(lab: Callable[[str], Any]) -> None:
    service = "      services: {MSSQLSERVER: {title: SQL Server, path: 'S:\\Binn\\sqlservr.exe', state: Running}}"
    here = Guest(lab(world_text(vm_text("sql01", "127.40.1.1", lun="sql01-data", guest=service)))).backed_up()
    mark = here.world.mark()
    named = {"overwrite_disks": ["SCSI 0:2"]}
    held, unknown, wrong = here.restored(
        named,
        {**named, "restore_volumes": ["Q:"]},
        {**named, "vm_id": "11111111-1111-2222-3333-000000000002"},
    )
    assert held["error"]["kind"] == "volume_in_use"
    assert "SQL Server (MSSQLSERVER)" in held["msg"]
    assert unknown["error"]["kind"] == "volume_unknown"
    assert wrong["error"]["kind"] == "wrong_set"
    assert here.world.written_since(mark).get("sql01-data", 0) == 0


@pytest.mark.gates
def test_a_restore_after_which_content_is_missing_fails_and_says_what(here: Guest) -> None:
    wiped: list[bool] = []

    def wipe(machine: Any) -> None:
        """Somebody deletes a file as soon as the recovery has ended."""
        job = machine.backup.job
        if job is not None and job.running:
            wiped.append(False)
        elif wiped and not any(wiped):
            wiped.append(True)
            mishap(here.world, "delete_file", machine="sql01", path=SENTINEL)

    here.at({"machine": "sql01"}, wipe, count=0)
    (failed,) = here.restored({"overwrite_disks": ["SCSI 0:2"]})
    assert any(wiped)
    assert failed["error"]["kind"] == "verification_failed", failed
    assert SENTINEL.casefold() in failed["msg"].casefold()
    assert failed["changed"] is True
    assert failed["error"]["disks"][0]["verified"] is False
