# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Power: transitions with their intermediate values, refusals, guests that obey or do not, jobs and their end."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from simulator.cim import CimFault, Instance
from simulator.jobs import PlannedFailure
from simulator.virtual_machine import OFF, PAUSED, RUNNING, SAVED
from simulator.world import Machine, World
from unit.simulator.provider_calls import STORAGE, V2, call, finish, one, query, service, small_world


@pytest.fixture
def world(tmp_path: Path) -> World:
    return small_world(tmp_path)


def row(machine: Machine, name: str) -> Instance:
    return one(machine, f"SELECT * FROM Msvm_ComputerSystem WHERE ElementName = '{name}'")  # noqa: S608


def change(machine: Machine, name: str, state: int) -> dict[str, Any]:
    return call(machine, "Msvm_ComputerSystem", "RequestStateChange", {"RequestedState": state}, row(machine, name))


@pytest.mark.parametrize(
    ("before", "requested", "between", "after"),
    [
        (RUNNING, 3, (4, None), OFF),
        (RUNNING, 6, (1, "Saving"), SAVED),
        (RUNNING, 9, (1, "Quiescing"), PAUSED),
        (RUNNING, 11, (11, None), RUNNING),
        (OFF, 2, (10, None), RUNNING),
        (SAVED, 2, (10, None), RUNNING),
        (SAVED, 3, (4, None), OFF),
        (PAUSED, 2, (1, "Resuming"), RUNNING),
    ],
)
def test_a_change_of_state_is_a_job_with_a_value_in_between(
    world: World, before: int, requested: int, between: tuple[int, str | None], after: int
) -> None:
    host, vm = world.machine("hv01"), world.vms[1]
    vm.set_state(before)
    answer = change(host, "sql01", requested)
    assert answer["ReturnValue"] == 4096
    assert (vm.state, vm.other_state) == between
    ended = finish(host, answer)
    assert ended is not None and ended.get("JobState") == 7
    assert vm.state == after
    assert row(host, "sql01").get("EnabledState") == after


@pytest.mark.parametrize(
    ("before", "requested"), [(RUNNING, 2), (OFF, 3), (OFF, 6), (OFF, 9), (OFF, 11), (SAVED, 6), (OFF, 4)]
)
def test_what_cannot_be_is_an_invalid_state(world: World, before: int, requested: int) -> None:
    world.vms[1].set_state(before)
    assert change(world.machine("hv01"), "sql01", requested)["ReturnValue"] == 32775


def test_looking_at_the_vm_alone_moves_the_change_on(world: World) -> None:
    host = world.machine("hv01")
    change(host, "sql01", 3)
    states = [row(host, "sql01").get("EnabledState") for _unused in range(3)]
    assert states[-1] == OFF


def test_a_guest_answers_only_while_its_vm_runs_and_keeps_its_files(world: World) -> None:
    vm = world.vms[1]
    guest = vm.guest
    assert guest is not None and guest.answers
    before = world.guest_digests(guest)
    for state in (OFF, RUNNING, SAVED, RUNNING, PAUSED):
        vm.set_state(state)
        assert guest.answers == (state == RUNNING)
    assert world.guest_digests(guest) == before


def test_shutdown_is_a_message_to_the_guest(world: World) -> None:
    host, vm = world.machine("hv01"), world.vms[0]
    component = query(host, "SELECT * FROM Msvm_ShutdownComponent")[0]
    arguments: dict[str, Any] = {"Force": False, "Reason": "test"}
    assert call(host, "Msvm_ShutdownComponent", "InitiateShutdown", arguments, component)["ReturnValue"] == 0
    assert vm.state == RUNNING
    assert call(host, "Msvm_ShutdownComponent", "InitiateShutdown", arguments, component)["ReturnValue"] == 32782
    seen = [row(host, "web01").get("EnabledState") for _unused in range(4)]
    assert seen[-1] == OFF and 4 in seen
    assert len(query(host, "SELECT * FROM Msvm_ShutdownComponent")) == 1


@pytest.mark.parametrize(
    ("trait", "force", "code"), [("ignores", False, 0), ("locked", False, 32781), ("locked", True, 0)]
)
def test_guests_need_not_obey(world: World, trait: str, force: bool, code: int) -> None:
    host, vm = world.machine("hv01"), world.vms[0]
    vm.traits.shutdown = trait
    component = query(host, "SELECT * FROM Msvm_ShutdownComponent")[0]
    assert call(host, "Msvm_ShutdownComponent", "InitiateShutdown", {"Force": force}, component)["ReturnValue"] == code
    for _unused in range(6):
        row(host, "web01")
    assert vm.state == (OFF if force else RUNNING)


def test_a_vm_whose_lun_is_online_on_the_host_does_not_start(world: World) -> None:
    host, vm = world.machine("hv01"), world.vms[1]
    vm.set_state(OFF)
    disk = host.disk_of_lun(world.luns["data1"])
    assert disk is not None
    disk.online = True
    assert world.check() != []
    ended = finish(host, change(host, "sql01", 2))
    assert ended is not None and ended.get("JobState") == 10
    assert "online on the host" in str(ended.get("ErrorDescription"))
    assert vm.state == OFF


def test_a_guest_without_its_boot_volume_does_not_come_up(world: World) -> None:
    host, vm = world.machine("hv01"), world.vms[0]
    vm.set_state(OFF)
    payload = host.open_image("D:\\VMs\\web01\\os.vhdx").payload
    payload.write_at(0, bytes(2 << 20))
    finish(host, change(host, "web01", 2))
    assert vm.state == RUNNING
    assert vm.guest is not None and not vm.guest.answers
    heartbeat = one(host, f"SELECT * FROM Msvm_HeartbeatComponent WHERE SystemName = '{vm.id}'")  # noqa: S608
    assert heartbeat.get("OperationalStatus") == [12]


def test_a_planned_failure_ends_the_job_with_its_code(world: World) -> None:
    host = world.machine("hv01")
    host.jobs.plan_failure(PlannedFailure(13, 30, 32774, "System in use"))
    answer = change(host, "sql01", 3)
    ended = finish(host, answer)
    assert ended is not None
    assert (ended.get("JobState"), ended.get("ErrorCode")) == (10, 32774)
    errors = call(host, "Msvm_ConcreteJob", "GetErrorEx", {}, ended)["Errors"]
    assert errors[0].get("Message") == "System in use"
    assert world.vms[1].state == RUNNING


def test_a_job_may_end_with_a_warning(world: World) -> None:
    host = world.machine("hv01")
    host.jobs.plan_failure(PlannedFailure(None, 0, 0, "look at this"))
    ended = finish(host, change(host, "sql01", 3))
    assert ended is not None and ended.get("JobState") == 32768
    assert world.vms[1].state == OFF


def test_a_finished_job_is_removed_after_its_time(world: World) -> None:
    host = world.machine("hv01")
    answer = change(host, "sql01", 3)
    finish(host, answer)
    job = answer["Job"]
    assert len(query(host, "SELECT * FROM Msvm_AffectedJobElement")) == 1
    world.clock.advance(301)
    with pytest.raises(CimFault):
        service(host).get(V2, "Msvm_ConcreteJob", [("InstanceID", str(job.key("InstanceID")))])


def test_jobs_can_vanish_at_once(world: World) -> None:
    host = world.machine("hv01")
    host.jobs.removal = timedelta(seconds=-1)
    job = change(host, "sql01", 3)["Job"]
    for _unused in range(4):
        found = query(host, f"SELECT * FROM Msvm_ConcreteJob WHERE InstanceID = '{job.key('InstanceID')}'")  # noqa: S608
    assert found == []
    assert world.vms[1].state == OFF


def test_a_job_passes_simulated_time(world: World) -> None:
    host = world.machine("hv01")
    before = world.clock.utc()
    finish(host, change(host, "sql01", 3))
    assert world.clock.utc() > before


def test_a_reboot_brings_back_what_ran_and_other_disk_numbers(tmp_path: Path) -> None:
    world = small_world(tmp_path)
    host = world.machine("hv01")
    world.vms[0].set_state(OFF)
    host.reboot()
    assert [vm.state for vm in world.vms] == [OFF, RUNNING]
    assert world.check() == []


def renumbering_world(tmp_path: Path, **switches: str) -> World:
    text = (
        "name: n\nseed: n\nclock: 2026-10-01T20:00:00Z\n"
        "luns: [{id: a, size: 8M}, {id: b, size: 8M}, {id: c, size: 8M}]\n"
        "hosts: [{name: hv01, address: 127.41.0.1, luns: [a, b, c]}]\n"
        "vms: [{name: v, host: hv01, state: 'off', disks: [{slot: 'scsi 0:0', lun: a}, {slot: 'scsi 0:1', lun: b}]}]\n"
    )
    world = World.from_yaml(text, tmp_path)
    for name, value in switches.items():
        world.switches.choose(name.replace("_", "-"), value)
    return world


def test_renumbering_makes_a_drive_mean_another_lun(tmp_path: Path) -> None:
    world = renumbering_world(tmp_path)
    host, vm = world.machine("hv01"), world.vms[0]
    before = [vm.physical_lun(d) for _c, d in vm.physical_drives()]
    paths = [d.host_resource for _c, d in vm.physical_drives()]
    ids = {d.number: d.identity.unique_id for d in host.disks}
    host.reboot(renumber=True)
    assert [d.host_resource for _c, d in vm.physical_drives()] == paths
    assert [vm.physical_lun(d) for _c, d in vm.physical_drives()] != before
    assert {d.number: d.identity.unique_id for d in host.disks} != ids
    assert {d.identity.unique_id for d in host.disks} == set(ids.values())
    assert all(not d.online for d in host.disks if d.lun and d.lun.id in ("a", "b", "c"))


def test_renumbering_can_be_followed(tmp_path: Path) -> None:
    world = renumbering_world(tmp_path, passthrough_after_renumber="follow")
    vm = world.vms[0]
    before = [vm.physical_lun(d) for _c, d in vm.physical_drives()]
    world.machine("hv01").reboot(renumber=True)
    assert [vm.physical_lun(d) for _c, d in vm.physical_drives()] == before


def test_the_same_world_renumbers_the_same_way(tmp_path: Path) -> None:
    orders = []
    for name in "xy":
        world = renumbering_world(tmp_path / name)
        world.machine("hv01").reboot(renumber=True)
        orders.append([d.backing.key for d in world.machine("hv01").disks])
    assert orders[0] == orders[1]


def test_a_lun_that_is_gone_leaves_a_path_or_nodrive(tmp_path: Path) -> None:
    world = renumbering_world(tmp_path, passthrough_missing="nodrive")
    host, vm = world.machine("hv01"), world.vms[0]
    host.mapped_luns.clear()
    host.reboot()
    assert all("NODRIVE" in str(d.host_resource) for _c, d in vm.physical_drives())
    ended = finish(host, change(host, "v", 2))
    assert ended is not None and "was not found" in str(ended.get("ErrorDescription"))


def test_a_world_may_hold_two_pass_through_vms_of_one_lun_but_only_one_runs(tmp_path: Path) -> None:
    world = renumbering_world(tmp_path)
    host = world.machine("hv01")
    copy = world.vms[0].export_configuration()
    copy["id"], copy["name"] = "0" * 8 + "-0000-4000-8000-" + "0" * 12, "w"
    host.register(copy)
    assert any("is in" in finding for finding in world.check())
    finish(host, change(host, "v", 2))
    ended = finish(host, change(host, "w", 2))
    assert ended is not None and "in use by 'v'" in str(ended.get("ErrorDescription"))


def test_a_vm_moves_to_another_registration_with_its_guest(world: World) -> None:
    host, vm = world.machine("hv01"), world.vms[0]
    configuration = vm.export_configuration()
    digests = world.digests()["guest_volumes"]
    host.unregister(vm)
    assert [v.name for v in host.vms] == ["sql01"]
    again = host.register(configuration)
    again.set_state(RUNNING)
    assert again.guest is not None and again.guest.answers
    assert world.digests()["guest_volumes"] == digests
    assert query(again.guest, "SELECT * FROM MSFT_Disk", STORAGE)
