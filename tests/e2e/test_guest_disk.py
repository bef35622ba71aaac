# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Task guest_disk through ansible-playbook: disks of a simulated guest brought online, prepared and logged in to."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from backup_scene import Scene
from simulator.mishaps import mishap

pytestmark = pytest.mark.e2e

SECRET = "Chap<Secret&1234"
WORLD = f"""
name: guest-disks
seed: guest-disks
clock: 2026-10-01T20:00:00Z
luns:
  - {{id: data, size: 300M, bus: iscsi, serial: "7a0b1e000001"}}
  - {{id: logs, size: 300M, bus: iscsi, serial: "7a0b1e000002"}}
  - {{id: own, size: 48M, bus: iscsi, portal: 127.44.9.2, target: "iqn.2005-10.org.example:own",
     chap: {{user: sql01, secret: "{SECRET}"}}}}
hosts:
  - name: hv01
    address: 127.44.0.1
    os: server2022
    volumes:
      - {{letter: C, size: 40G, label: System}}
      - {{letter: D, size: 60G, label: VMs}}
    luns: [data, logs]
vms:
  - name: sql01
    host: hv01
    disks:
      - {{slot: "scsi 0:0", vhd: 'D:\\VMs\\sql01\\os.vhdx', size: 12M}}
      - {{slot: "scsi 0:1", lun: data}}
      - {{slot: "scsi 0:2", lun: logs}}
    guest:
      address: 127.44.1.1
      iscsi: [own]
      disks:
        - {{slot: "scsi 0:0", partitions: [{{letter: C, label: Windows, boot: true}}]}}
        - slot: "scsi 0:1"
          partitions:
            - {{letter: E, label: Data, size: 120M, files: {{count: 3, size: 64K}}}}
            - {{letter: F, label: More, size: 64M, cluster: 8192}}
        - slot: "scsi 0:2"
          style: mbr
          signature: 0x1b2c3d4e
          partitions: [{{letter: L, label: Logs, mbr_type: 7, files: {{count: 3, size: 64K}}}}]
        - {{lun: own, partitions: [{{letter: O, label: Own}}]}}
"""


class Disks(Scene):
    def do(self, *calls: dict[str, Any], arguments: tuple[str, ...] = ()) -> list[dict[str, Any]]:
        """Results of the task, called once for each dictionary of options; a failure does not end the play."""
        tasks = [
            {"hyperv.passthrough.guest_disk": {"poll_interval": 0, **options}, "ignore_errors": True}
            for options in calls
        ]
        return self._play(tasks, *arguments)

    def look(self) -> dict[str, dict[str, Any]]:
        """The guest's disks by the LUN's name."""
        (seen,) = self._play([{"hyperv.passthrough.guest_disk_info": {}}])
        by_id = {disk["unique_id"]: disk for disk in seen["disks"]}
        return {name: by_id[self.unique_id(name)] for name in self.world.luns if self.unique_id(name) in by_id}

    def _play(self, tasks: list[dict[str, Any]], *arguments: str) -> list[dict[str, Any]]:
        run = self.lab.run([{"hosts": "sql01", "gather_facts": False, "tasks": tasks}], *arguments)
        assert len(run.tasks) == len(tasks), run.output
        self.output = run.output
        return [task.result for task in run.tasks]

    def unique_id(self, lun: str) -> str:
        return str(self.world.luns[lun].identity.unique_id)

    def happens(self, name: str, **parameters: Any) -> None:
        with self.world.lock:
            mishap(self.world, name, **parameters)


@pytest.fixture
def here(lab: Callable[..., Any]) -> Disks:
    return Disks(lab(WORLD))


def volumes_of(disk: dict[str, Any]) -> list[tuple[Any, ...]]:
    names = ("letter", "label", "file_system", "allocation_unit_bytes", "offset_bytes")
    return [tuple(volume[name] for name in names) for volume in disk["volumes"]]


def test_disks_come_online_with_the_letters_that_were_recorded(here: Disks) -> None:
    recorded = here.look()
    digests = here.world.digests()["guest_volumes"]
    for lun in ("data", "logs"):
        here.happens("set_disk_online", machine="sql01", lun=lun, online=False)
    both = {"disks": [recorded["data"], recorded["logs"]]}
    (planned,) = here.do(both, arguments=("--check", "--diff"))
    assert (planned["changed"], planned["planned"], planned["after"]) == (True, True, None)
    assert here.guest.disk_of_lun(here.world.luns["data"]).online is False
    first, second = here.do(both, both)
    assert first.get("msg") is None
    assert (first["changed"], second["changed"]) == (True, False)
    assert {step["kind"] for step in first["plan"]} <= {"online", "add_path"}
    now = here.look()
    for lun in ("data", "logs"):
        assert (now[lun]["is_offline"], now[lun]["is_read_only"]) == (False, False)
        assert volumes_of(now[lun]) == volumes_of(recorded[lun])
    assert here.world.digests()["guest_volumes"] == digests


def test_a_blank_replacement_gets_what_was_recorded_and_an_interrupted_run_is_finished(here: Disks) -> None:
    """Both disks are replaced by blank LUNs; the run that prepares one of them is cut off before the volume is formatted."""
    recorded = here.look()
    for lun in ("data", "logs"):
        here.happens("replace_lun", lun=lun)
    entries = {
        lun: {**recorded[lun], "unique_id": here.unique_id(lun), "serial_number": None} for lun in ("data", "logs")
    }
    size = recorded["data"]["size_bytes"]
    prepare = {"state": "prepared", "confirm_size_bytes": size}
    here.fault({"machine": "^sql01$", "method": "^Format$"}, "drop_before", count=0)
    unconfirmed, planned = here.do(
        {"state": "prepared", "disks": [entries["data"]]},
        {**prepare, "disks": [entries["data"]]},
        arguments=("--check",),
    )
    assert (unconfirmed["error"]["kind"], planned["changed"]) == ("size_not_confirmed", True)
    assert [step["kind"] for step in planned["plan"]] == [
        *("online", "initialize", "identity", "partition", "partition", "add_path", "add_path", "format", "format")
    ]
    (cut,) = here.do({**prepare, "disks": [entries["data"]]})
    assert (cut["changed"], "error" in cut) == (True, True)
    here.clear()
    finished, again, logs = here.do(
        {**prepare, "disks": [entries["data"]]},
        {**prepare, "disks": [entries["data"]]},
        {**prepare, "disks": [entries["logs"]]},
    )
    assert [result.get("msg") for result in (finished, again, logs)] == [None] * 3
    assert [result["changed"] for result in (finished, again, logs)] == [True, False, True]
    now = here.look()
    for lun in ("data", "logs"):
        assert volumes_of(now[lun]) == volumes_of(recorded[lun])
        assert now[lun]["partition_style"] == recorded[lun]["partition_style"]
        assert (now[lun]["guid"], now[lun]["signature"]) == (recorded[lun]["guid"], recorded[lun]["signature"])
    (late,) = here.do({**prepare, "disks": [{**entries["logs"], "partition_style": "GPT"}]})
    assert late["error"]["kind"] == "not_blank"


@pytest.mark.gates
def test_what_is_refused_changes_nothing(here: Disks) -> None:
    recorded = here.look()
    here.happens("take_letter", machine="sql01", letter="F", new="G")
    digests = here.world.digests()
    other = {**recorded["data"], "partitions": [{**recorded["data"]["partitions"][0], "offset_bytes": 2**20 * 64}]}
    swapped = {**recorded["data"], "volumes": [{**recorded["data"]["volumes"][0], "letter": "L"}]}
    results = here.do(
        {"state": "prepared", "disks": [other], "confirm_size_bytes": recorded["data"]["size_bytes"]},
        {"disks": [swapped]},
        {"unique_id": "60000000DEADBEEF"},
        {"unique_id": 3},
        {"unique_id": 600000000001},
        {"disks": [{"unique_id": 123456789, "volumes": []}]},
        {"iscsi": [{"target": "iqn.2005-10.org.example:nosuch", "portal": "127.44.9.2"}]},
        {},
    )
    assert [result["error"]["kind"] for result in results] == [
        *("not_blank", "letter_taken", "unknown_disk", "disk_number_given", "unquoted_identity", "unquoted_identity"),
        *("iscsi_login_failed", "invalid_arguments"),
    ]
    assert here.world.digests() == digests
    (back,) = here.do({"disks": [recorded["data"]]})
    assert [step["kind"] for step in back["plan"]] == ["remove_path", "add_path"]
    assert volumes_of(here.look()["data"]) == volumes_of(recorded["data"])


@pytest.mark.gates
def test_a_guest_is_logged_in_to_its_targets_again_and_no_secret_is_shown(here: Disks) -> None:
    recorded = here.look()["own"]
    here.happens("forget_iscsi", machine="sql01")
    assert "own" not in here.look()
    login = {"target": "iqn.2005-10.org.example:own", "portal": "127.44.9.2", "chap_user": "sql01"}
    wrong, first, second = here.do(
        {"iscsi": [{**login, "chap_secret": "Wrong<Secret&1234"}]},
        {"iscsi": [{**login, "chap_secret": SECRET}], "disks": [recorded]},
        {"iscsi": [{**login, "chap_secret": SECRET}], "disks": [recorded]},
        arguments=("-vvv", "--diff"),
    )
    assert wrong["error"]["kind"] == "iscsi_login_failed"
    assert first.get("msg") is None
    assert (first["changed"], second["changed"]) == (True, False)
    assert first["plan"][0]["kind"] == "connect_iscsi"
    told = here.output + json.dumps([wrong, first, second])
    assert [text for text in (SECRET, "Wrong<Secret&1234") if text in told or json.dumps(text)[1:-1] in told] == []
    now = here.look()["own"]
    assert volumes_of(now) == volumes_of(recorded)
    assert now["iscsi"]["target"] == login["target"]
