# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""VMs whose images cannot grow because a volume of the host is full; Linux guests as the host sees them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from simulator.cim import Instance
from simulator.content import noise
from simulator.door_memory import memory_door
from simulator.mishaps import mishap
from simulator.virtual_machine import PAUSED, RUNNING, Vm
from simulator.world import World
from unit.simulator.provider_calls import query
from unit.simulator.windows_machines import run

WORLD = """
name: room
seed: room
hosts:
  - name: hv01
    address: 127.23.0.1
    volumes: [{letter: C, size: 60G}, {letter: D, size: 1G}, {letter: E, size: 40G}]
vms:
  - name: app01
    host: hv01
    disks:
      - {slot: "scsi 0:0", vhd: 'D:\\VMs\\app01\\os.vhdx', size: 24M}
      - {slot: "scsi 0:1", vhd: 'D:\\VMs\\app01\\grows.vhd', size: 96M, type: dynamic}
      - {slot: "scsi 0:2", vhd: 'D:\\VMs\\app01\\fixed.vhd', size: 48M, type: fixed}
    guest:
      address: 127.23.1.1
      disks:
        - {slot: "scsi 0:0", partitions: [{letter: C, label: Windows, boot: true, files: {count: 4, size: 64K}}]}
        - {slot: "scsi 0:1", partitions: [{letter: G, label: Grows}]}
        - {slot: "scsi 0:2", partitions: [{letter: F, label: Fixed}]}
"""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World.from_yaml(WORLD, tmp_path)
    yield made
    made.close()


def vm_of(world: World) -> Vm:
    return world.vms[0]


def test_a_vm_is_paused_when_its_growing_image_finds_no_room(world: World) -> None:
    mishap(world, "fill_volume", machine="hv01", letter="D", free="1M")
    assert mishap(world, "guest_writes", vm="app01", path="G:\\new.bin", size="40M") != ""
    vm = vm_of(world)
    assert (vm.state, vm.critical) == (PAUSED, True)
    assert world.machine("hv01").volume_by_letter("D").free < 2 << 20  # type: ignore[union-attr]
    out = run(world.machine("hv01"), "wevtutil qe Microsoft-Windows-Hyper-V-VMMS-Admin /f:text").out
    assert "'app01' has been paused because it has run out of disk space on 'D:\\'" in out
    with pytest.raises(ConnectionError):
        memory_door(world.machine("app01"), "Administrator")(b"")


def test_a_fixed_image_never_lacks_room(world: World) -> None:
    mishap(world, "fill_volume", machine="hv01", letter="D", free=0)
    assert mishap(world, "guest_writes", vm="app01", path="F:\\new.bin", size="16M") == ""
    assert vm_of(world).state == RUNNING


def test_it_goes_on_once_there_is_room_and_not_before(world: World) -> None:
    mishap(world, "fill_volume", machine="hv01", letter="D", free=0)
    mishap(world, "guest_writes", vm="app01", path="G:\\new.bin", size="40M")
    vm = vm_of(world)
    world.power.enter(vm, 2)()
    assert (vm.state, vm.critical) == (PAUSED, True)
    mishap(world, "free_volume", machine="hv01", letter="D")
    world.power.enter(vm, 2)()
    assert (vm.state, vm.critical) == (RUNNING, False)
    assert mishap(world, "guest_writes", vm="app01", path="G:\\again.bin", size="1M") == ""
    guest = world.machine("app01").volume_by_letter("G")
    assert guest is not None
    assert guest.read("again.bin") == noise("guest", 0, 1 << 20)


def test_what_the_switch_says_of_a_resume_without_room(world: World) -> None:
    world.switches.choose("paused-critical-resume", "next-write")
    mishap(world, "fill_volume", machine="hv01", letter="D", free=0)
    mishap(world, "guest_writes", vm="app01", path="G:\\new.bin", size="40M")
    world.power.enter(vm_of(world), 2)()
    assert vm_of(world).state == RUNNING


def test_a_backup_that_leaves_no_room_for_the_checkpoint_pauses_the_vm(world: World) -> None:
    mishap(world, "set_shadow_storage", machine="hv01", letter="D", on="E")
    mishap(world, "fill_volume", machine="hv01", letter="D", free="2M")
    ended = run(world.machine("hv01"), "wbadmin start backup -backupTarget:E: -hyperv:app01 -quiet")
    assert ended.code != 0
    assert vm_of(world).state == PAUSED


LINUX = """
name: linux
hosts:
  - {name: hv01, address: 127.23.0.2, volumes: [{letter: C, size: 60G}, {letter: D, size: 20G}]}
vms:
  - name: web02
    host: hv01
    disks: [{slot: "scsi 0:0", vhd: 'D:\\VMs\\web02\\os.vhdx', size: 24M}]
    guest: {address: 127.23.1.2, os: linux}
"""


def test_a_linux_guest_tells_what_its_kvp_daemon_tells_and_has_no_winrm_door(tmp_path: Path) -> None:
    world = World.from_yaml(LINUX, tmp_path)
    try:
        row = query(world.machine("hv01"), "SELECT * FROM Msvm_KvpExchangeComponent")[0]
        items = row.get("GuestIntrinsicExchangeItems")
        assert isinstance(items, list)
        told = {str(item.get("Name")): str(item.get("Data")) for item in items if isinstance(item, Instance)}
        assert not world.machine("web02").answers
    finally:
        world.close()
    assert (told["OSName"], told["OSMajorVersion"], told["OSVersion"]) == ("Debian GNU/Linux", "12", "6.1.0")
    assert "OSPlatformId" not in told
    assert told["NetworkAddressIPv4"] == "127.23.1.2"
