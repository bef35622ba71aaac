# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What befalls a world from outside Windows, the counters and invariants with which tests look at the outcome."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulator.assumed import import_everything
from simulator.content import digest
from simulator.disks import Disk
from simulator.door_memory import memory_door, rules_of
from simulator.mishaps import MISHAPS, mishap, mishap_texts
from simulator.processes import SYSTEM
from simulator.virtual_machine import OFF, PAUSED, RUNNING, SAVED, Vm
from simulator.world import Machine, World
from unit.simulator.tiny_world import Client, query, values
from unit.simulator.windows_machines import run

WORLD = """
name: mishaps
seed: mishaps
clock: 2026-10-01T20:00:00Z
luns:
  - {id: one, size: 24M, bus: iscsi}
  - {id: two, size: 24M, bus: fc}
  - {id: three, size: 24M, bus: sas}
  - {id: inside, size: 24M, bus: iscsi, portal: 127.40.9.2}
  - {id: fabric, size: 24M, bus: fc}
shares:
  - {server: filer, name: backup, size: 10G}
hosts:
  - name: hv01
    address: 127.40.0.1
    volumes: [{letter: C, size: 60G}, {letter: D, size: 60G}, {letter: E, size: 60G, label: Backup}]
    luns: [one, two, three]
    virtual_sans: [Fabric-A]
  - name: hv02
    address: 127.40.0.2
    volumes: [{letter: C, size: 60G}, {letter: D, size: 60G}]
    luns: [one, two, three]
vms:
  - name: sql01
    host: hv01
    automatic_start: always
    disks:
      - {slot: "scsi 0:0", vhd: 'D:\\VMs\\sql01\\os.vhdx', size: 16M}
      - {slot: "scsi 0:1", lun: one}
      - {slot: "scsi 0:2", lun: two}
    fibre_channel: [{virtual_san: Fabric-A, luns: [fabric]}]
    guest:
      address: 127.40.1.1
      iscsi: [inside]
      disks:
        - {slot: "scsi 0:0", partitions: [{letter: C, boot: true}]}
        - {slot: "scsi 0:1", partitions: [{letter: F, label: One, files: {count: 6, size: 1M}}]}
        - {slot: "scsi 0:2", partitions: [{letter: G, label: Two, files: {count: 6, size: 1M}}]}
        - {lun: inside, partitions: [{letter: I, label: Inside}]}
        - {lun: fabric, partitions: [{letter: V, label: Fabric}]}
  - name: web01
    host: hv01
    disks: [{slot: "scsi 0:0", vhd: 'D:\\VMs\\web01\\os.vhdx', size: 16M}]
    guest:
      address: 127.40.1.2
      disks: [{slot: "scsi 0:0", partitions: [{letter: C, boot: true}]}]
"""


@pytest.fixture
def world(tmp_path: Path) -> World:
    import_everything()
    return World.from_yaml(WORLD, tmp_path)


@pytest.fixture
def host(world: World) -> Machine:
    return world.machine("hv01")


@pytest.fixture
def vm(world: World) -> Vm:
    return next(vm for vm in world.vms if vm.name == "sql01")


def disk_of(machine: Machine, world: World, lun: str) -> Disk:
    disk = machine.disk_of_lun(world.luns[lun])
    assert disk is not None
    return disk


def guest_of(vm: Vm) -> Machine:
    assert vm.guest is not None
    return vm.guest


def test_an_unknown_mishap_or_argument_is_named(world: World) -> None:
    with pytest.raises(ValueError, match="delete_vm"):
        mishap(world, "earthquake")
    with pytest.raises(ValueError, match="colour"):
        mishap(world, "delete_vm", vm="sql01", colour="red")
    with pytest.raises(ValueError, match="no LUN is called"):
        mishap(world, "blank_lun", lun="nine")


def test_the_administration_door_lists_every_mishap_with_its_arguments() -> None:
    import_everything()
    texts = mishap_texts()
    assert set(texts) == set(MISHAPS)
    assert "size: 'int | str'" in texts["grow_lun"] and "keep the old size" in texts["grow_lun"]


def test_a_world_without_mishaps_has_nothing_to_find(world: World) -> None:
    assert world.check() == []
    assert world.drifted() == []


def test_a_vm_is_deleted_with_its_files(world: World, host: Machine) -> None:
    mishap(world, "delete_vm", vm="sql01")
    assert [vm.name for vm in host.vms] == ["web01"]
    volume, _unused = host.resolve("D:\\")
    assert not volume.files.exists("VMs\\sql01\\os.vhdx")
    assert not world.machine("sql01").answers


def test_bytes_written_to_a_lun_are_counted_from_a_mark(world: World) -> None:
    mark = world.mark()
    assert world.written_since(mark) == dict.fromkeys(world.luns, 0)
    mishap(world, "write_file", machine="sql01", path="F:\\new\\report.txt", text="newer")
    written = world.written_since(mark)
    assert written["one"] > 0 and written["two"] == 0
    mark = world.mark()
    mishap(world, "overwrite_lun", lun="two")
    assert world.written_since(mark)["two"] == 24 << 20
    assert world.written_since(mark)["one"] == 0


def test_a_wiped_lun_is_raw_in_its_guest(world: World, vm: Vm) -> None:
    guest = guest_of(vm)
    mishap(world, "overwrite_lun", lun="one")
    assert disk_of(guest, world, "one").table.partitions == ()
    assert guest.volume_by_letter("F") is None
    mishap(world, "blank_lun", lun="two")
    assert not any(True for _found in world.luns["two"].content.read_at(0, 24 << 20).strip(b"\0"))


def test_a_replacement_lun_is_a_new_disk_of_another_identity(world: World, host: Machine, vm: Vm) -> None:
    old = world.luns["one"].identity.unique_id
    new = mishap(world, "replace_lun", lun="one", size="32M")
    disk = disk_of(host, world, "one")
    assert new != old and disk.identity.unique_id == new and disk.size == 32 << 20
    assert (disk.online, disk.read_only, disk.offline_reason) == (False, True, 1)
    assert ("sql01", "scsi 0:1", "one") in world.drifted()
    assert disk_of(world.machine("hv02"), world, "one").identity.unique_id == new


def test_an_unplugged_lun_is_seen_by_nobody_until_it_is_back(world: World, host: Machine, vm: Vm) -> None:
    guest = guest_of(vm)
    for lun in ("one", "inside", "fabric"):
        mishap(world, "unplug_lun", lun=lun)
        assert host.disk_of_lun(world.luns[lun]) is None
        assert guest.disk_of_lun(world.luns[lun]) is None
        mishap(world, "plug_lun", lun=lun)
        assert guest.disk_of_lun(world.luns[lun]) is not None
    vm.set_state(OFF)
    mishap(world, "unplug_lun", lun="one")
    assert "was not found" in str(mishap(world, "start_vm", vm="sql01"))
    assert vm.state == OFF


def test_a_grown_lun_keeps_its_size_on_the_host_until_a_rescan(world: World, host: Machine) -> None:
    mishap(world, "grow_lun", lun="three", size="40M")
    assert disk_of(host, world, "three").size == 24 << 20
    host.rescan()
    assert disk_of(host, world, "three").size == 40 << 20


def test_a_reboot_that_renumbers_disks_starts_a_vm_with_automatic_start_on_the_wrong_disks(
    world: World, host: Machine, vm: Vm
) -> None:
    before = {lun: disk_of(host, world, lun).number for lun in ("one", "two", "three")}
    mishap(world, "reboot", machine="hv01")
    after = {lun: disk_of(host, world, lun).number for lun in ("one", "two", "three")}
    assert before != after and sorted(before.values()) == sorted(after.values())
    assert vm.state == RUNNING and world.check() == []
    assert [entry[0] for entry in world.drifted()] == ["sql01"] * len(world.drifted()) != []
    vm.set_state(OFF)
    mishap(world, "set_automatic_start", vm="sql01", action=2)
    mishap(world, "reboot", machine="hv01")
    assert vm.state == OFF


def test_an_automatic_start_that_fails_leaves_an_event_and_the_vm_off(world: World, host: Machine, vm: Vm) -> None:
    vm.set_state(OFF)
    mishap(world, "unplug_lun", lun="one")
    mishap(world, "unplug_lun", lun="three")
    mishap(world, "reboot", machine="hv01", renumber=False)
    assert vm.state == OFF
    events = host.event_log.query("Microsoft-Windows-Hyper-V-Worker-Admin")
    assert [event.event_id for event in events][-1] == 12010


def test_a_power_cut_saves_nobody(world: World, host: Machine) -> None:
    web = next(vm for vm in world.vms if vm.name == "web01")
    web.settings.automatic_startup_action = 2
    mishap(world, "power_cut", machine="hv01")
    assert web.state == OFF
    assert world.check() == []


def test_a_saved_vm_that_resumes_on_a_changed_disk_is_found_for_ever(world: World, vm: Vm) -> None:
    vm.set_state(SAVED)
    mishap(world, "start_vm", vm="sql01")
    assert world.check() == []
    vm.set_state(SAVED)
    mishap(world, "write_file", machine="sql01", path="F:\\late.txt", text="changed while saved")
    mishap(world, "start_vm", vm="sql01")
    vm.set_state(OFF)
    assert world.check() == ["sql01 resumed from saved state although its disk scsi 0:1 changed"]


def test_a_discarded_saved_state_lets_disks_change(world: World, vm: Vm) -> None:
    vm.set_state(SAVED)
    mishap(world, "write_file", machine="sql01", path="F:\\late.txt", text="changed while saved")
    vm.set_state(OFF)
    mishap(world, "start_vm", vm="sql01")
    assert world.check() == []


def test_a_lun_that_is_online_anywhere_while_a_vm_has_it_is_found(world: World) -> None:
    mishap(world, "set_disk_online", machine="hv02", lun="one", online=True)
    number = disk_of(world.machine("hv02"), world, "one").number
    assert world.check() == [f"hv02: disk {number} is online on the host while attached to sql01 scsi 0:1"]


def test_a_lun_in_two_vms_is_found(world: World) -> None:
    mishap(world, "attach_lun", vm="web01", lun="one", slot="scsi 0:7")
    assert world.check() == ["hv01: lun:one is in sql01 scsi 0:1 and in web01 scsi 0:7"]
    mishap(world, "detach_disk", vm="web01", slot="scsi 0:7")
    assert world.check() == []


def test_a_vm_on_two_hosts_is_found_and_a_moved_one_is_not(world: World, vm: Vm) -> None:
    mishap(world, "copy_vm", vm="web01", host="hv02")
    identifier = next(v.id for v in world.vms if v.name == "web01")
    assert world.check() == [f"VM {identifier} is registered on hv01 and hv02"]
    mishap(world, "delete_vm", vm="web01", host="hv02")
    before = digest(vm.host.open_image("D:\\VMs\\sql01\\os.vhdx").payload)
    mishap(world, "move_vm", vm="sql01", host="hv02")
    moved = next(v for v in world.vms if v.name == "sql01")
    assert (moved.host.name, moved.id, moved.state) == ("hv02", vm.id, OFF)
    assert digest(moved.host.open_image("D:\\VMs\\sql01\\os.vhdx").payload) == before
    assert world.check() == []


def test_two_luns_may_say_the_same_of_themselves(world: World, host: Machine) -> None:
    mishap(world, "same_identity", lun="three", other="one")
    ids = [disk.identity.unique_id for disk in host.disks]
    assert ids.count(world.luns["one"].identity.unique_id) == 2


def test_a_cloned_disk_guid_collides_when_both_are_online(world: World) -> None:
    second = world.machine("hv02")
    mishap(world, "clone_lun", lun="three", other="two")
    mishap(world, "set_disk_online", machine="hv02", lun="two", online=True)
    assert second.collides(disk_of(second, world, "three"))


@pytest.mark.parametrize("target", ["E:", "\\\\filer\\backup"])
def test_an_unplugged_backup_target_is_gone_and_comes_back(world: World, host: Machine, target: str) -> None:
    token = SYSTEM
    assert host.backup.target(target, token, write=True).label
    mishap(world, "unplug_target", machine="hv01", target=target)
    with pytest.raises(Exception, match=r"bad_target|share_failed"):
        host.backup.target(target, token, write=True)
    mishap(world, "plug_target", machine="hv01", target=target)
    assert host.backup.target(target, token, write=True).label


def test_a_rebuilt_host_has_no_memory_and_no_vms(world: World, host: Machine) -> None:
    host.registry.put("HKLM\\SOFTWARE\\Test", {"a": "b"})
    assert host.registry.text("SOFTWARE\\Test", "a") == "b"
    old_switch = host.virtual_switches["External"]
    mishap(world, "rebuild_host", machine="hv01", volumes=["C", "D"], switches=["LAN"])
    assert host.vms == [] and list(host.virtual_switches) == ["LAN"]
    assert old_switch not in host.virtual_switches.values()
    assert host.registry.text("SOFTWARE\\Test", "a") == ""
    assert all(not disk.online for disk in host.disks if disk.lun in world.luns.values())
    assert host.volume_by_letter("D") is not None and host.backup.catalog == []
    assert run(host, "echo new > C:\\Windows\\Temp\\new.txt").code == 0
    assert world.check() == []


def test_a_guest_that_takes_its_time_answers_after_so_many_looks(world: World, vm: Vm) -> None:
    guest = guest_of(vm)
    mishap(world, "set_guest", vm="sql01", boot_looks=3)
    vm.set_state(OFF)
    mishap(world, "start_vm", vm="sql01")
    assert vm.state == RUNNING and not guest.answers
    send = memory_door(guest, "Administrator")
    for _unused in range(3):
        with pytest.raises(ConnectionError):
            send(query("SELECT * FROM Win32_OperatingSystem", "root/cimv2"))
    assert b"Win32_OperatingSystem" in send(query("SELECT * FROM Win32_OperatingSystem", "root/cimv2"))


def test_a_guest_that_never_boots_runs_without_answering(world: World, vm: Vm) -> None:
    mishap(world, "set_guest", vm="sql01", boots=False)
    vm.set_state(OFF)
    mishap(world, "start_vm", vm="sql01")
    assert vm.state == RUNNING and not guest_of(vm).answers
    assert world.power.initiate_shutdown(vm, force=True) == 32780


def test_a_rebuilt_guest_has_no_iscsi_session(world: World, vm: Vm) -> None:
    guest = guest_of(vm)
    mishap(world, "forget_iscsi", machine="sql01")
    assert guest.disk_of_lun(world.luns["inside"]) is None
    mishap(world, "reboot_guest", vm="sql01")
    assert guest.disk_of_lun(world.luns["inside"]) is None and guest.answers


def test_a_mishap_happens_between_two_exchanges(world: World, host: Machine) -> None:
    rules_of(world).add(
        {
            "match": {"query": "MSFT_Disk", "action": "Enumerate"},
            "effect": "mishap",
            "parameters": {"name": "unplug_lun", "lun": "three", "when": "after"},
        }
    )
    look = Client(host)  # type: ignore[arg-type]
    unique = world.luns["three"].identity.unique_id
    for expected in (True, False):
        rows = look.rows("SELECT * FROM MSFT_Disk", "root/microsoft/windows/storage")
        assert (unique in [values(row)["UniqueId"] for row in rows]) is expected


def test_a_paused_vm_is_no_saved_one(world: World, vm: Vm) -> None:
    vm.set_state(PAUSED)
    mishap(world, "save_vm", vm="sql01")
    assert vm.state == SAVED
    mishap(world, "stop_vm", vm="sql01")
    assert vm.state == OFF and vm.saved_disks == {}


def test_an_overwritten_vhd_takes_its_vm_down_and_cannot_be_started_on(world: World, vm: Vm) -> None:
    mishap(world, "overwrite_vhd", vm="sql01", slot="scsi 0:0")
    assert vm.state == OFF
    assert "could not be opened" in str(mishap(world, "start_vm", vm="sql01"))


def test_a_deleted_vhd_takes_its_vm_down(world: World, vm: Vm) -> None:
    mishap(world, "delete_vhd", vm="sql01", slot="scsi 0:0")
    assert vm.state == OFF
    assert world.digests()["images"]["hv01:D:\\VMs\\sql01\\os.vhdx"] == "missing"


def test_a_letter_that_another_volume_took_does_not_come_back_with_its_disk(world: World, vm: Vm) -> None:
    guest = guest_of(vm)
    mishap(world, "unplug_lun", lun="one")
    mishap(world, "use_letter", machine="sql01", volume="G", letter="F")
    mishap(world, "plug_lun", lun="one")
    returned = [volume for volume in guest.volumes() if volume.disk is disk_of(guest, world, "one")]
    assert [volume.letter for volume in returned] == [None]
    assert world.check() == []


def test_looking_restarting_and_backing_up_write_nothing_to_a_lun(world: World, vm: Vm) -> None:
    guest = guest_of(vm)
    mark = world.mark()
    assert run(guest, "dir /s F:\\").code == 0
    mishap(world, "stop_vm", vm="sql01")
    mishap(world, "start_vm", vm="sql01")
    done = run(guest, "wbadmin start backup -backupTarget:\\\\filer\\backup -include:F: -quiet")
    assert done.code == 0 and world.digests()
    assert world.written_since(mark) == dict.fromkeys(world.luns, 0)
