# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A LUN becomes a VHD: what the image service, the disks of the host, the guest and a host backup make of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from simulator.assumed import import_everything
from simulator.cim import Instance, Ref
from simulator.content import digest
from simulator.jobs import PlannedFailure
from simulator.mishaps import find_vm, mishap
from simulator.virtual_machine import OFF, PAUSED, RUNNING, Drive, Medium, Vm
from simulator.world import Machine, World
from unit.simulator.provider_calls import (
    IMAGES,
    STORAGE,
    V2,
    VSMS,
    call,
    disk_of,
    finish,
    one,
    query,
    setting,
    storage,
)
from unit.simulator.windows_machines import run

RASD, SASD = "Msvm_ResourceAllocationSettingData", "Msvm_StorageAllocationSettingData"
WORLD = """
name: conversion
seed: conversion
clock: 2026-10-01T20:00:00Z
luns:
  - {id: source, size: 128M, bus: iscsi}
  - {id: target, size: 700M, bus: iscsi}
  - {id: four, size: 64M, bus: fc, sector: 4096}
shares:
  - {server: filer, name: backup, size: 10G}
hosts:
  - name: hv01
    address: 127.43.0.1
    volumes: [{letter: C, size: 60G}, {letter: D, size: 60G}]
    luns: [source, target, four]
vms:
  - name: sql01
    host: hv01
    disks:
      - {slot: "scsi 0:0", vhd: 'D:\\VMs\\sql01\\os.vhdx', size: 16M}
      - {slot: "scsi 0:1", lun: source}
    guest:
      address: 127.43.1.1
      disks:
        - {slot: "scsi 0:0", partitions: [{letter: C, boot: true}]}
        - {slot: "scsi 0:1", partitions: [{letter: F, label: Data, files: {count: 6, size: 1M}}]}
"""
GPT_BASIC = "{ebd0a0a2-b9e5-4433-87c0-68b6b72699c7}"


@pytest.fixture
def world(tmp_path: Path) -> World:
    import_everything()
    return World.from_yaml(WORLD, tmp_path)


@pytest.fixture
def host(world: World) -> Machine:
    return world.machine("hv01")


@pytest.fixture
def vm(world: World) -> Vm:
    return find_vm(world, "sql01")


def number_of(host: Machine, lun: str) -> int:
    return next(d.number for d in host.disks if d.lun is not None and d.lun.id == lun)


def disk_row(host: Machine, lun: str) -> Instance:
    return disk_of(host, number_of(host, lun))


def prepared(host: Machine, lun: str = "target", letter: str = "V", cluster: int = 65536) -> Instance:
    """The LUN online with one NTFS volume; gives the row of the volume."""
    for method, arguments in (
        ("Online", {}),
        ("SetAttributes", {"IsReadOnly": False}),
        ("Initialize", {"PartitionStyle": 2}),
        ("CreatePartition", {"UseMaximumSize": True, "GptType": GPT_BASIC, "DriveLetter": letter}),
    ):
        answer = storage(host, "MSFT_Disk", method, disk_row(host, lun), **arguments)
        assert answer["ReturnValue"] == 0, (method, answer)
    text = f"SELECT * FROM MSFT_Volume WHERE DriveLetter = '{letter}'"  # noqa: S608
    volume = one(host, text, STORAGE)
    answer = storage(host, "MSFT_Volume", "Format", volume, FileSystem="NTFS", AllocationUnitSize=cluster)
    assert answer["ReturnValue"] == 0
    return one(host, text, STORAGE)


def convert(host: Machine, path: str, lun: str = "source", image_format: int = 2) -> dict[str, Any]:
    settings = setting("Msvm_VirtualHardDiskSettingData", Path=path, Type=2, Format=image_format, MaxInternalSize=0)
    source = f"\\\\.\\PHYSICALDRIVE{number_of(host, lun)}"
    return call(host, IMAGES, "ConvertVirtualHardDisk", {"SourcePath": source, "VirtualDiskSettingData": settings})


def done(host: Machine, answer: dict[str, Any]) -> int:
    row = finish(host, answer)
    assert row is not None
    state = row.get("JobState")
    assert isinstance(state, int)
    return state


def test_a_lun_is_copied_into_a_fixed_vhd_on_another_lun_and_the_guest_meets_a_new_disk(
    world: World, host: Machine, vm: Vm
) -> None:
    before = world.digests()
    vm.set_state(OFF)
    volume = prepared(host)
    assert volume.get("SizeRemaining") < volume.get("Size") < (700 - 17) << 20  # type: ignore[operator]
    assert done(host, convert(host, "V:\\new.vhdx", image_format=3)) == 7
    assert digest(host.open_image("V:\\new.vhdx").payload) == before["luns"]["source"]
    validated = call(host, IMAGES, "ValidateVirtualHardDisk", {"Path": "V:\\new.vhdx"})
    assert done(host, validated) == 7
    controller = vm.controllers[0]
    drive = Ref(V2, RASD, {"InstanceID": controller.drive_id(vm.id, 1)})
    call(host, VSMS, "RemoveResourceSettings", {"ResourceSettings": [drive]})
    parent = Ref(V2, RASD, {"InstanceID": controller.instance_id(vm.id)}).path(host.netbios_name)
    vssd = Ref(V2, "Msvm_VirtualSystemSettingData", {"InstanceID": f"Microsoft:{vm.id}"})
    slot = setting(
        RASD,
        ResourceType=17,
        ResourceSubType="Microsoft:Hyper-V:Synthetic Disk Drive",
        Parent=parent,
        AddressOnParent="1",
    )
    added = call(host, VSMS, "AddResourceSettings", {"AffectedConfiguration": vssd, "ResourceSettings": [slot]})
    medium = setting(
        SASD,
        ResourceType=31,
        ResourceSubType="Microsoft:Hyper-V:Virtual Hard Disk",
        Parent=added["ResultingResourceSettings"][0].path(host.netbios_name),
        HostResource=["V:\\new.vhdx"],
    )
    call(host, VSMS, "AddResourceSettings", {"AffectedConfiguration": vssd, "ResourceSettings": [medium]})
    assert mishap(world, "start_vm", vm="sql01") == ""
    guest = vm.guest
    assert guest is not None
    disk = next(d for d in guest.disks if d.backing.slot == "scsi 0:1")
    assert (disk.online, disk.read_only, disk.offline_reason) == (False, True, 1)
    assert disk.identity.unique_id.startswith("60022480")
    disk.online, disk.read_only = True, False
    assert guest.volume_by_letter("F") is not None
    assert world.digests()["guest_volumes"] == before["guest_volumes"]
    assert world.digests()["luns"]["source"] == before["luns"]["source"]
    assert world.check() == []


def test_an_attached_copy_collides_with_its_source_once_that_is_online(world: World, host: Machine, vm: Vm) -> None:
    vm.set_state(OFF)
    assert done(host, convert(host, "D:\\copy.vhd")) == 7
    attach = {"Path": "D:\\copy.vhd", "AssignDriveLetter": False, "ReadOnly": True}
    assert done(host, call(host, IMAGES, "AttachVirtualHardDisk", attach)) == 7
    image = one(host, "SELECT * FROM MSFT_Disk WHERE BusType = 15", STORAGE)
    assert (image.get("IsOffline"), image.get("IsReadOnly")) == (False, True)
    assert all(v.letter is None for v in host.volumes() if v.disk.backing.image_path == "D:\\copy.vhd")
    guid = disk_row(host, "source").get("Guid")
    mishap(world, "detach_disk", vm="sql01", slot="scsi 0:1")
    storage(host, "MSFT_Disk", "SetAttributes", disk_row(host, "source"), IsReadOnly=False)
    assert storage(host, "MSFT_Disk", "Online", disk_row(host, "source"))["ReturnValue"] == 0
    assert disk_row(host, "source").get("Guid") != guid  # Windows signed the source anew: what nobody wants


def test_a_copy_attached_while_its_source_is_online_stays_offline(world: World, host: Machine, vm: Vm) -> None:
    vm.set_state(OFF)
    assert done(host, convert(host, "D:\\copy.vhd")) == 7
    mishap(world, "detach_disk", vm="sql01", slot="scsi 0:1")
    mishap(world, "set_disk_online", machine="hv01", lun="source", online=True)
    attach = {"Path": "D:\\copy.vhd", "AssignDriveLetter": False, "ReadOnly": True}
    assert done(host, call(host, IMAGES, "AttachVirtualHardDisk", attach)) == 7
    image = one(host, "SELECT * FROM MSFT_Disk WHERE BusType = 15", STORAGE)
    assert (image.get("IsOffline"), image.get("OfflineReason")) == (True, 4)


@pytest.mark.parametrize(("choice", "there"), [("removed", False), ("left", True)])
def test_a_conversion_that_fails_half_way(world: World, host: Machine, vm: Vm, choice: str, there: bool) -> None:
    world.switches.choose("convert-failure-file", choice)
    vm.set_state(OFF)
    host.jobs.plan_failure(PlannedFailure(type=6, percent=40, code=32768, text="The conversion failed."))
    row = finish(host, convert(host, "D:\\copy.vhd"))
    assert row is not None and (row.get("JobState"), row.get("ErrorCode")) == (10, 32768)
    assert host.resolve("D:\\")[0].exists("copy.vhd") is there
    if there:
        assert done(host, call(host, IMAGES, "ValidateVirtualHardDisk", {"Path": "D:\\copy.vhd"})) == 10


@pytest.mark.parametrize(("choice", "there"), [("left", True), ("removed", False)])
def test_a_host_that_goes_down_during_a_conversion(
    world: World, host: Machine, vm: Vm, choice: str, there: bool
) -> None:
    world.switches.choose("convert-leftover", choice)
    vm.set_state(OFF)
    before = world.digests()["luns"]["source"]
    answer = convert(host, "D:\\copy.vhd")
    mishap(world, "power_cut", machine="hv01")
    job = answer["Job"]
    assert query(host, f"SELECT * FROM Msvm_StorageJob WHERE InstanceID = '{job.key('InstanceID')}'") == []  # noqa: S608
    assert host.resolve("D:\\")[0].exists("copy.vhd") is there
    if there:
        assert call(host, IMAGES, "GetVirtualHardDiskSettingData", {"Path": "D:\\copy.vhd"})["ReturnValue"] == 32768
    assert world.digests()["luns"]["source"] == before


def test_a_source_that_somebody_starts_a_vm_on_is_not_copied(world: World, host: Machine, vm: Vm) -> None:
    vm.set_state(OFF)
    answer = convert(host, "D:\\copy.vhd")
    mishap(world, "start_vm", vm="sql01")
    row = finish(host, answer)
    assert row is not None and row.get("JobCompletionStatusCode") == 0x80070020


@pytest.mark.parametrize(("image_format", "state"), [(2, 10), (3, 7)])
def test_a_disk_of_4096_byte_sectors_fits_a_vhdx_only(host: Machine, vm: Vm, image_format: int, state: int) -> None:
    path = "D:\\four.vhd" if image_format == 2 else "D:\\four.vhdx"
    assert done(host, convert(host, path, "four", image_format)) == state


def test_a_vhd_that_does_not_fit_on_the_formatted_lun_is_disk_full(host: Machine, vm: Vm) -> None:
    volume = prepared(host)
    free = volume.get("SizeRemaining")
    assert isinstance(free, int)

    def make(path: str, size: int) -> Instance:
        made = setting("Msvm_VirtualHardDiskSettingData", Path=path, Type=2, Format=2, MaxInternalSize=size)
        row = finish(host, call(host, IMAGES, "CreateVirtualHardDisk", {"VirtualDiskSettingData": made}))
        assert row is not None
        return row

    whole = free // 65536 * 65536
    too_big = make("V:\\big.vhd", whole)  # its footer needs a cluster more
    assert too_big.get("JobCompletionStatusCode") == 0x80070070
    assert make("V:\\fits.vhd", whole - 4 * 65536).get("JobState") == 7


def test_a_host_backup_takes_its_space_beside_the_vhd_and_pauses_a_vm_without_room(
    world: World, host: Machine, vm: Vm
) -> None:
    vm.set_state(OFF)
    prepared(host)
    assert done(host, convert(host, "V:\\new.vhdx", image_format=3)) == 7
    mishap(world, "detach_disk", vm="sql01", slot="scsi 0:1")
    vm.controllers[0].drives[1] = Drive("disk", 1, Medium("V:\\new.vhdx"))
    assert mishap(world, "start_vm", vm="sql01") == ""
    line = "wbadmin start backup -backupTarget:\\\\filer\\backup -hyperv:sql01 -quiet"
    assert run(host, line).code == 0
    assert vm.state == RUNNING and not vm.critical
    volume = host.volume_by_letter("V")
    assert volume is not None
    volume.files.create("filler.bin", volume.free - (330 << 20) if volume.free > (331 << 20) else volume.free // 2)
    world.clock.advance(120)
    host.backup.churn = 64 << 20
    assert run(host, line).code != 0
    row = one(host, f"SELECT * FROM Msvm_ComputerSystem WHERE Name = '{vm.id}'")  # noqa: S608
    assert (vm.state, row.get("EnabledState"), row.get("HealthState")) == (PAUSED, 9, 20)


def test_a_vm_that_merges_disks_says_so_and_refuses_changes(world: World, host: Machine, vm: Vm) -> None:
    mishap(world, "set_busy", vm="sql01", status=32772)
    row = one(host, f"SELECT * FROM Msvm_ComputerSystem WHERE Name = '{vm.id}'")  # noqa: S608
    assert row.get("OperationalStatus") == [11, 32772]
    drive = Ref(V2, RASD, {"InstanceID": vm.controllers[0].drive_id(vm.id, 1)})
    answer = call(host, VSMS, "RemoveResourceSettings", {"ResourceSettings": [drive]})
    assert answer["ReturnValue"] == 32775


def test_windows_may_take_more_of_a_formatted_volume_than_mkntfs(world: World, host: Machine, vm: Vm) -> None:
    bare = prepared(host).get("SizeRemaining")
    volume = one(host, "SELECT * FROM MSFT_Volume WHERE DriveLetter = 'V'", STORAGE)
    world.switches.choose("format-windows-extra", "as-observed")
    again = storage(host, "MSFT_Volume", "Format", volume, FileSystem="NTFS", AllocationUnitSize=65536, Force=True)
    assert again["ReturnValue"] == 0
    left = again["FormattedVolume"].get("SizeRemaining")
    assert isinstance(bare, int) and isinstance(left, int)
    assert bare - left >= (700 << 20) // 40


def test_disk_numbers_change_without_a_reboot_but_not_under_a_running_vm(world: World, host: Machine, vm: Vm) -> None:
    before = {lun: number_of(host, lun) for lun in ("source", "target", "four")}
    mishap(world, "renumber_disks", machine="hv01")
    assert number_of(host, "source") == before["source"] and world.drifted() == []
    assert (number_of(host, "target"), number_of(host, "four")) == (before["four"], before["target"])
    vm.set_state(OFF)
    mishap(world, "renumber_disks", machine="hv01")
    assert world.drifted() == [("sql01", "scsi 0:1", "target")]


@pytest.mark.parametrize("name", ["overwrite_lun", "blank_lun", "unplug_lun", "replace_lun"])
def test_a_vm_whose_images_lie_on_a_lost_lun_is_off(world: World, host: Machine, vm: Vm, name: str) -> None:
    vm.set_state(OFF)
    prepared(host)
    assert done(host, convert(host, "V:\\new.vhdx", image_format=3)) == 7
    vm.controllers[0].drives[1] = Drive("disk", 1, Medium("V:\\new.vhdx"))
    assert mishap(world, "start_vm", vm="sql01") == ""
    mishap(world, name, lun="target")
    assert vm.state == OFF and world.check() == []
    assert "could not be opened" in str(mishap(world, "start_vm", vm="sql01"))
    assert world.digests()["images"]["hv01:V:\\new.vhdx"] == "missing"
