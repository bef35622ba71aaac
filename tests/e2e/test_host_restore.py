# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tasks backup_set_info, backup_set and host_restore through ansible-playbook: a VM comes back, or nothing is touched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from backup_scene import Scene, host_text, vm_text, world_text
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

    @property
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
    assert result.get("failed") is not True, result
    assert here.world.digests()["images"] == before["images"]
    assert here.world.written_since(mark).get("sql01-data", 0) == 0
    assert here.vm.state == OFF
    assert here.vm.settings.automatic_startup_action == NOTHING
    assert result["vm"]["automatic_start_action"] == "Nothing"
    assert (result["restored"], result["job"]["state"], result["changed"]) == (True, "succeeded", True)
    assert [one["switch_name"] for one in result["network"]] == ["External"]
    again = here.restored()
    assert (again["changed"], again["restored"], again["job"]["attached"]) == (False, True, True)
