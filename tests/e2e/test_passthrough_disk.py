# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Task passthrough_disk through ansible-playbook: what it attaches, detaches, remaps and refuses on a simulated host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from backup_scene import Scene

pytestmark = pytest.mark.e2e

WORLD = """
name: passthrough
seed: passthrough
clock: 2026-10-01T20:00:00Z
luns:
  - {id: data, size: 24M, bus: iscsi, serial: "7a0b1e000001"}
  - {id: logs, size: 24M, bus: fc, serial: "7a0b1e000002"}
  - {id: free, size: 24M, bus: iscsi, serial: "7a0b1e000003"}
  - {id: busy, size: 24M, bus: iscsi, serial: "7a0b1e000004"}
  - {id: other, size: 24M, bus: iscsi, serial: "7a0b1e000005"}
  - {id: weak, size: 24M, bus: sas, unique_id: 'SCSI\\DISK&VEN_OLD&PROD_ARRAY\\5&1:HV01', unique_id_format: 0,
     vendor: OLD, model: ARRAY, serial: "OLD-7"}
  - {id: twin-a, size: 24M, bus: iscsi, unique_id: 600A0B80000F0000, unique_id_format: 3, serial: "twin-a"}
  - {id: twin-b, size: 24M, bus: iscsi, unique_id: 600A0B80000F0000, unique_id_format: 3, serial: "twin-b"}
hosts:
  - name: hv01
    address: 127.41.0.1
    os: server2022
    volumes:
      - {letter: C, size: 40G, label: System}
      - {letter: D, size: 60G, label: VMs}
    luns: [data, logs, free, {lun: busy, online: true, read_only: false}, other, weak, twin-a, twin-b]
vms:
  - name: erp01
    host: hv01
    state: "off"
    scsi_controllers: 2
    disks:
      - {slot: "scsi 0:0", vhd: 'D:\\VMs\\erp01\\os.vhdx', size: 8M}
      - {slot: "scsi 0:1", lun: data}
      - {slot: "scsi 0:2", lun: logs}
      - {slot: "scsi 0:3", dvd: null}
  - name: live01
    host: hv01
    disks:
      - {slot: "scsi 0:0", vhd: 'D:\\VMs\\live01\\os.vhdx', size: 8M}
      - {slot: "scsi 0:1", lun: other}
  - name: old01
    host: hv01
    generation: 1
    state: "off"
    disks: [{slot: "ide 0:0", vhd: 'D:\\VMs\\old01\\os.vhd', size: 8M}]
  - name: saved01
    host: hv01
    state: saved
    disks: [{slot: "scsi 0:0", vhd: 'D:\\VMs\\saved01\\os.vhdx', size: 8M}]
"""


class Disks(Scene):
    """The world and the one task on it."""

    def do(self, *calls: dict[str, Any], arguments: tuple[str, ...] = ()) -> list[dict[str, Any]]:
        """Results of the task, called once for each dictionary of options; a failure does not end the play."""
        tasks = [
            {
                "hyperv.passthrough.passthrough_disk": {"vm": "erp01", "poll_interval": 0, **options},
                "ignore_errors": True,
            }
            for options in calls
        ]
        run = self.lab.run([{"hosts": "hv01", "gather_facts": False, "tasks": tasks}], *arguments)
        assert len(run.tasks) == len(calls), run.output
        return [task.result for task in run.tasks]

    def unique_id(self, lun: str) -> str:
        return str(self.world.luns[lun].identity.unique_id)

    def drives(self) -> dict[tuple[str, str], str]:
        """Which LUN, file or kind of drive is where, by VM and slot."""
        found = {}
        with self.world.lock:
            names = {id(lun): name for name, lun in self.world.luns.items()}
            for vm in self.world.vms:
                for kind, numbers in (("scsi", range(2)), ("ide", range(2))):
                    for number in numbers:
                        try:
                            controller = vm.controller(kind, number)
                        except (KeyError, IndexError, LookupError, ValueError):
                            continue
                        if controller is None:
                            continue
                        for location, drive in controller.drives.items():
                            lun = vm.physical_lun(drive)
                            slot = f"{kind} {number}:{location}"
                            found[vm.name, slot] = names.get(id(lun), "nothing") if lun is not None else str(drive.kind)
        return found


@pytest.fixture
def here(lab: Callable[..., Any]) -> Disks:
    return Disks(lab(WORLD))


def slot(location: int, number: int = 0, kind: str = "SCSI") -> dict[str, Any]:
    return {"controller_type": kind, "controller_number": number, "controller_location": location}


def kinds(results: list[dict[str, Any]]) -> list[str]:
    return [result["error"]["kind"] for result in results]


def test_a_lun_is_attached_once_and_detached_once(here: Disks) -> None:
    attach = {"lun": here.unique_id("free"), "slot": slot(4)}
    detach = {"slot": slot(4), "state": "detached"}
    before = here.drives()
    first, second = here.do(attach, attach)
    assert (first["changed"], second["changed"]) == (True, False)
    assert here.drives() == {**before, ("erp01", "scsi 0:4"): "free"}
    assert [step["kind"] for step in first["plan"]] == ["attach"]
    (made,) = [disk for disk in first["after"] if disk["slot"] == slot(4)]
    assert (made["attachment"], made["unique_id"]) == ("pass_through", here.unique_id("free"))
    assert second["plan"] == []
    assert second["after"] == second["before"] == first["after"]
    results = here.do(detach, detach, {**detach, "lun": here.unique_id("free")})
    assert [result["changed"] for result in results] == [True, False, False]
    assert here.drives() == before
    assert here.world.check() == []


@pytest.mark.gates
def test_check_mode_shows_the_plan_and_leaves_the_world_as_it_is(here: Disks) -> None:
    before, digests = here.drives(), here.world.digests()
    disks = [{"lun": here.unique_id("free"), "slot": slot(1)}]
    (result,) = here.do({"state": "remapped", "disks": disks}, arguments=("--check", "--diff"))
    assert (result["changed"], result["planned"], result["after"]) == (True, True, None)
    assert [step["kind"] for step in result["plan"]] == ["detach", "attach"]
    assert (here.drives(), here.world.digests()) == (before, digests)


def test_a_vm_is_remapped_whatever_was_mixed_up(here: Disks) -> None:
    """The two LUNs have changed places, and a third drive leads to a number that no disk has."""
    vm = here.world.vms[0]
    with here.world.lock:
        one, two = (vm.controller("scsi", 0).drives[location] for location in (1, 2))
        one.host_resource, two.host_resource = two.host_resource, vm.host_resource_for(77)
    digests = here.world.digests()
    disks = [
        {"lun": here.unique_id("data"), "slot": slot(1)},
        {"lun": {"serial_number": "7a0b1e000002"}, "slot": slot(2)},
    ]
    first, second = here.do({"state": "remapped", "disks": disks}, {"state": "remapped", "disks": disks})
    assert first.get("msg") is None
    assert (first["changed"], second["changed"]) == (True, False)
    at = here.drives()
    assert (at["erp01", "scsi 0:1"], at["erp01", "scsi 0:2"]) == ("data", "logs")
    assert (at["erp01", "scsi 0:0"], at["erp01", "scsi 0:3"]) == ("disk", "dvd")
    assert here.world.digests() == digests
    assert here.world.check() == []


REFUSED = [
    ("a LUN that is online on the host", {"lun": "busy", "slot": slot(4)}, "lun_online"),
    ("a LUN of another VM", {"lun": "other", "slot": slot(4)}, "lun_attached_elsewhere"),
    ("a LUN at another slot of this VM", {"lun": "data", "slot": slot(4)}, "lun_attached_elsewhere"),
    ("a slot with a virtual hard disk", {"lun": "free", "slot": slot(0)}, "slot_taken"),
    ("a slot with a DVD drive", {"lun": "free", "slot": slot(3)}, "slot_taken"),
    ("a slot with another LUN", {"lun": "free", "slot": slot(1)}, "slot_taken"),
    ("a controller that is not there", {"lun": "free", "slot": slot(0, 3)}, "no_such_controller"),
    ("a slot that no controller has", {"lun": "free", "slot": slot(64)}, "bad_slot"),
    ("a running VM", {"lun": "free", "slot": slot(4), "vm": "live01"}, "vm_not_off"),
    ("a saved VM", {"lun": "free", "slot": slot(4), "vm": "saved01"}, "vm_saved"),
    ("an identity that is not unique", {"lun": "weak", "slot": slot(4)}, "weak_identity"),
    ("an identity that two LUNs have", {"lun": "twin-a", "slot": slot(4)}, "ambiguous_disk"),
    ("an unknown LUN", {"lun": "60000000DEADBEEF", "slot": slot(4)}, "unknown_disk"),
    ("an unquoted identity", {"lun": 600000000000, "slot": slot(4)}, "unquoted_identity"),
    ("an unquoted serial number", {"lun": {"serial_number": 12345}, "slot": slot(4)}, "unquoted_identity"),
    (
        "another disk than the slot has",
        {"lun": "logs", "slot": slot(1), "state": "detached"},
        "other_lun",
    ),
    ("a virtual hard disk", {"slot": slot(0), "state": "detached"}, "not_pass_through"),
    (
        "two slots for one LUN",
        {"state": "remapped", "disks": [{"lun": "free", "slot": slot(4)}, {"lun": "free", "slot": slot(5)}]},
        "listed_twice",
    ),
    (
        "a listed slot with a virtual hard disk",
        {"state": "remapped", "disks": [{"lun": "free", "slot": slot(0)}]},
        "slot_taken",
    ),
    (
        "remapping a running VM",
        {"state": "remapped", "vm": "live01", "disks": [{"lun": "free", "slot": slot(1)}]},
        "vm_not_off",
    ),
]


def test_what_is_refused_changes_nothing(here: Disks) -> None:
    def named(value: Any) -> Any:
        return here.unique_id(value) if isinstance(value, str) and value in here.world.luns else value

    calls = []
    for _unused, options, _unused in REFUSED:
        call: dict[str, Any] = {name: named(value) if name == "lun" else value for name, value in options.items()}
        if "disks" in call:
            call["disks"] = [{**one, "lun": named(one["lun"])} for one in call["disks"]]
        calls.append(call)
    before, digests = here.drives(), here.world.digests()
    results = here.do(*calls)
    assert dict(zip([what for what, _unused, _unused in REFUSED], kinds(results), strict=True)) == {
        what: kind for what, _unused, kind in REFUSED
    }
    assert not any(result["changed"] for result in results)
    assert (here.drives(), here.world.digests()) == (before, digests)


@pytest.mark.gates
def test_a_disk_number_is_refused_with_the_disk_that_has_it_now(here: Disks) -> None:
    with here.world.lock:
        number = here.host.disk_of_lun(here.world.luns["free"]).number
    results = here.do({"lun": number, "slot": slot(4)}, {"lun": str(number), "slot": slot(4)})
    assert kinds(results) == ["disk_number_given", "disk_number_given"]
    assert all(here.unique_id("free") in result["msg"] for result in results)
    assert results[0]["error"]["disk"]["unique_id"] == here.unique_id("free")


@pytest.mark.gates
def test_a_weak_or_shared_identity_is_accepted_with_a_second_identifier(here: Disks) -> None:
    results = here.do(
        {"lun": {"unique_id": here.unique_id("weak"), "serial_number": "OLD-7"}, "slot": slot(4)},
        {"lun": {"unique_id": here.unique_id("twin-b"), "serial_number": "twin-b"}, "slot": slot(5)},
        {"lun": {"unique_id": here.unique_id("free"), "serial_number": "twin-b"}, "slot": slot(6)},
    )
    assert [result["changed"] for result in results] == [True, True, False], results
    assert results[2]["error"]["kind"] == "disk_changed"
    at = here.drives()
    assert (at["erp01", "scsi 0:4"], at["erp01", "scsi 0:5"]) == ("weak", "twin-b")


@pytest.mark.gates
def test_a_lun_is_taken_offline_only_when_that_is_asked_for(here: Disks) -> None:
    (result,) = here.do({"lun": here.unique_id("busy"), "slot": slot(4), "take_offline": True})
    assert [step["kind"] for step in result["plan"]] == ["take_offline", "attach"]
    assert here.drives()["erp01", "scsi 0:4"] == "busy"
    assert here.host.disk_of_lun(here.world.luns["busy"]).online is False
    assert here.world.check() == []


@pytest.mark.gates
def test_a_scsi_disk_of_a_running_vm_may_be_changed_when_asked_for_and_an_ide_disk_never(here: Disks) -> None:
    live = {"vm": "live01", "allow_running": True}
    with here.world.lock:
        old = next(vm for vm in here.world.vms if vm.name == "old01")
    results = here.do(
        {**live, "lun": here.unique_id("free"), "slot": slot(4)},
        {**live, "slot": slot(1), "state": "detached"},
        {"vm": "old01", "lun": here.unique_id("weak"), "slot": slot(2, 0, "IDE")},
    )
    assert [result["changed"] for result in results] == [True, True, False], results
    assert results[2]["error"]["kind"] == "bad_slot"
    at = here.drives()
    assert at["live01", "scsi 0:4"] == "free"
    assert ("live01", "scsi 0:1") not in at
    assert old.state == 3


def test_disks_that_are_renumbered_between_look_and_attach_never_end_in_the_wrong_vm(here: Disks) -> None:
    """The host restarts right before Hyper-V is asked: the number in the call is another disk's."""
    moved: list[bool] = []

    def shuffle(machine: Any) -> None:
        if not moved:
            moved.append(True)
            disks = [machine.disk_of_lun(here.world.luns[name]) for name in ("free", "logs", "twin-a")]
            numbers = [disk.number for disk in disks]
            for disk, number in zip(disks, [*numbers[1:], numbers[0]], strict=True):
                disk.number = number

    here.at({"method": "AddResourceSettings"}, shuffle)
    before = here.drives()
    (result,) = here.do({"lun": here.unique_id("free"), "slot": slot(4)})
    assert moved
    assert result["error"]["kind"] == "wrong_disk_attached"
    assert result["changed"] is False
    assert ("erp01", "scsi 0:4") not in here.drives()
    assert before["erp01", "scsi 0:1"] == "data"
    # The restart has mixed up the VM's other drive too; remapping puts both right.
    disks = [
        {"lun": here.unique_id(name), "slot": slot(location)}
        for name, location in (("data", 1), ("logs", 2), ("free", 4))
    ]
    (again,) = here.do({"state": "remapped", "disks": disks})
    assert again["changed"] is True, again
    at = here.drives()
    assert [at["erp01", f"scsi 0:{location}"] for location in (1, 2, 4)] == ["data", "logs", "free"]
    assert here.world.check() == []


@pytest.mark.gates
def test_a_reply_that_is_lost_after_the_attach_is_not_sent_twice(here: Disks) -> None:
    here.fault({"method": "AddResourceSettings"}, "drop_after")
    (result,) = here.do({"lun": here.unique_id("free"), "slot": slot(4)})
    assert (result.get("msg"), result["changed"]) == (None, True)
    assert here.drives()["erp01", "scsi 0:4"] == "free"
    assert here.methods("hv01", "AddResourceSettings") == 1


@pytest.mark.gates
def test_a_job_that_fails_is_told_with_its_code_and_a_rerun_succeeds(here: Disks) -> None:
    """A running VM's disk is added by a job (hyperv-wmi 10)."""
    here.fault({"method": "AddResourceSettings"}, "fail_job", code=32769)
    attach = {"vm": "live01", "lun": here.unique_id("free"), "slot": slot(4), "allow_running": True}
    first, second = here.do(attach, attach)
    assert (first["error"]["kind"], first["error"]["code"], first["changed"]) == ("job_failed", 32769, False)
    assert (second["changed"], here.drives()["live01", "scsi 0:4"]) == (True, "free")
