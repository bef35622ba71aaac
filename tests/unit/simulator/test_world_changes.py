# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changing VMs: attaching and detaching disks, what is refused and how, settings, checkpoints with real bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from simulator.cim import CimFault, Instance, Ref
from simulator.content import digest
from simulator.virtual_machine import OFF, RUNNING, Vm
from simulator.world import Machine, World
from unit.simulator.provider_calls import (
    SNAPSHOTS,
    STORAGE,
    V2,
    VSMS,
    call,
    disk_of,
    finish,
    one,
    query,
    setting,
    small_world,
    storage,
)

RASD, SASD = "Msvm_ResourceAllocationSettingData", "Msvm_StorageAllocationSettingData"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return small_world(tmp_path)


def vssd(vm: Vm) -> Ref:
    return Ref(V2, "Msvm_VirtualSystemSettingData", {"InstanceID": f"Microsoft:{vm.id}"})


def controller_path(host: Machine, vm: Vm) -> str:
    identifier = vm.controllers[0].instance_id(vm.id)
    return Ref(V2, RASD, {"InstanceID": identifier}).path(host.netbios_name)


def physical(host: Machine, vm: Vm, number: int, slot: int) -> Instance:
    return setting(
        RASD,
        ResourceType=17,
        ResourceSubType="Microsoft:Hyper-V:Physical Disk Drive",
        Parent=controller_path(host, vm),
        AddressOnParent=str(slot),
        HostResource=[vm.host_resource_for(number)],
    )


def add(host: Machine, vm: Vm, *resources: Instance) -> dict[str, Any]:
    return call(
        host, VSMS, "AddResourceSettings", {"AffectedConfiguration": vssd(vm), "ResourceSettings": list(resources)}
    )


def remove(host: Machine, class_name: str, identifier: str) -> dict[str, Any]:
    return call(
        host, VSMS, "RemoveResourceSettings", {"ResourceSettings": [Ref(V2, class_name, {"InstanceID": identifier})]}
    )


def failed_code(host: Machine, answer: dict[str, Any]) -> int:
    row = finish(host, answer)
    if row is None:
        return int(answer["ReturnValue"])
    assert row.get("JobState") == 10
    code = row.get("ErrorCode")
    assert isinstance(code, int)
    return code


def test_a_pass_through_disk_moves_from_one_vm_to_another(world: World) -> None:
    host = world.machine("hv01")
    web, sql = world.vms
    sql.set_state(OFF)
    web.set_state(OFF)
    before = digest(world.luns["data1"].content)
    answer = remove(host, RASD, sql.controllers[0].drive_id(sql.id, 1))
    assert answer["ReturnValue"] == 0 and answer["Job"] is None
    number = host.disk_of_lun(world.luns["data1"]).number  # type: ignore[union-attr]
    answer = add(host, web, physical(host, web, number, 5))
    assert answer["ReturnValue"] == 0
    assert answer["ResultingResourceSettings"][0].key("InstanceID") == web.controllers[0].drive_id(web.id, 5)
    web.set_state(RUNNING)
    assert web.guest is not None
    seen = [d for d in web.guest.disks if d.lun is world.luns["data1"]]
    assert [(d.online, d.read_only, d.backing.slot) for d in seen] == [(False, True, "scsi 0:5")]
    assert digest(world.luns["data1"].content) == before
    assert world.check() == []


def test_a_running_vm_is_changed_by_a_job_without_references(world: World) -> None:
    host = world.machine("hv01")
    web, sql = world.vms
    drive = sql.controllers[0].drive_id(sql.id, 1)
    finish(host, remove(host, RASD, drive))
    assert sql.guest is not None and len(sql.guest.disks) == 1
    number = host.disk_of_lun(world.luns["data1"]).number  # type: ignore[union-attr]
    answer = add(host, web, physical(host, web, number, 2))
    assert answer["ReturnValue"] == 4096 and answer["ResultingResourceSettings"] is None
    assert 2 not in web.controllers[0].drives
    job = finish(host, answer)
    assert job is not None and job.get("JobState") == 7
    created = [
        r.get("AffectedElement")
        for r in query(host, "SELECT * FROM Msvm_AffectedJobElement")
        if r.get("ElementEffects") == [5]
    ]
    assert [c.key("InstanceID") for c in created if isinstance(c, Ref)][-1] == web.controllers[0].drive_id(web.id, 2)
    assert web.guest is not None and len(web.guest.disks) == 2


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"Parent": "not a path"}, 32773),
        ({"Parent": None}, 32773),
        ({"AddressOnParent": "0"}, 32773),
        ({"AddressOnParent": "64"}, 32773),
        ({"AddressOnParent": "-1"}, 32773),
        ({"HostResource": ["D:\\x.vhdx"]}, 32773),
        ({"HostResource": None}, 32773),
        ({"ResourceType": 99}, 32773),
        ({"ResourceSubType": "Microsoft:Hyper-V:Something"}, 32773),
    ],
)
def test_a_wrong_attach_ends_as_a_failed_job(world: World, changes: dict[str, Any], code: int) -> None:
    host, vm = world.machine("hv01"), world.vms[0]
    vm.set_state(OFF)
    resource = physical(host, vm, 3, 7)
    resource.properties.update(changes)
    assert failed_code(host, add(host, vm, resource)) == code
    assert 7 not in vm.controllers[0].drives


def test_backslashes_that_are_not_doubled_lead_nowhere(world: World) -> None:
    host, vm = world.machine("hv01"), world.vms[0]
    vm.set_state(OFF)
    resource = physical(host, vm, 3, 7)
    resource.properties["Parent"] = str(resource.get("Parent")).replace("\\\\", "\\")
    assert failed_code(host, add(host, vm, resource)) == 32773


def test_an_online_disk_cannot_be_attached(world: World) -> None:
    host, vm = world.machine("hv01"), world.vms[0]
    vm.set_state(OFF)
    assert failed_code(host, add(host, vm, physical(host, vm, 2, 7))) == 32773


def test_a_vhd_needs_a_drive_first_and_the_drive_outlives_its_vhd(world: World) -> None:
    host, vm = world.machine("hv01"), world.vms[0]
    vm.set_state(OFF)
    drive_id, medium_id = vm.controllers[0].drive_id(vm.id, 9), vm.controllers[0].medium_id(vm.id, 9)
    medium = setting(
        SASD,
        ResourceType=31,
        ResourceSubType="Microsoft:Hyper-V:Virtual Hard Disk",
        Parent=Ref(V2, RASD, {"InstanceID": drive_id}).path("HV01"),
        HostResource=["D:\\VMs\\sql01\\os.vhdx"],
    )
    assert failed_code(host, add(host, vm, medium)) == 32773
    drive = setting(
        RASD,
        ResourceType=17,
        ResourceSubType="Microsoft:Hyper-V:Synthetic Disk Drive",
        Parent=controller_path(host, vm),
        AddressOnParent="9",
    )
    assert add(host, vm, drive)["ReturnValue"] == 0
    assert add(host, vm, medium)["ReturnValue"] == 0
    assert one(host, f"SELECT * FROM {SASD} WHERE InstanceID = '{medium_id.replace(chr(92), chr(92) * 2)}'")  # noqa: S608
    with pytest.raises(CimFault) as raised:
        remove(host, RASD, drive_id)
    assert raised.value.code == 0x80041001
    assert remove(host, SASD, medium_id)["ReturnValue"] == 0
    assert remove(host, RASD, drive_id)["ReturnValue"] == 0


@pytest.mark.parametrize(("path", "code"), [("D:\\nowhere.vhdx", 32768), ("C:\\Windows", 32768)])
def test_a_file_that_is_no_image_is_refused(world: World, path: str, code: int) -> None:
    host, vm = world.machine("hv01"), world.vms[0]
    vm.set_state(OFF)
    vm.controllers[0].drives[0].medium = None
    medium = setting(
        SASD,
        ResourceType=31,
        ResourceSubType="Microsoft:Hyper-V:Virtual Hard Disk",
        Parent=Ref(V2, RASD, {"InstanceID": vm.controllers[0].drive_id(vm.id, 0)}).path("HV01"),
        HostResource=[path],
    )
    assert failed_code(host, add(host, vm, medium)) == code


def test_a_pass_through_drive_is_repointed_by_modify(world: World) -> None:
    host, vm = world.machine("hv01"), world.vms[1]
    vm.set_state(OFF)
    identifier = vm.controllers[0].drive_id(vm.id, 1)
    change = setting(RASD, InstanceID=identifier, HostResource=["nonsense"])
    answer = call(host, VSMS, "ModifyResourceSettings", {"ResourceSettings": [change]})
    assert failed_code(host, answer) == 32773
    change.properties["HostResource"] = [vm.host_resource_for(3).replace("\\\\HV01\\root\\virtualization\\v2:", "")]
    change.properties["ElementName"] = "serial"
    answer = call(host, VSMS, "ModifyResourceSettings", {"ResourceSettings": [change]})
    assert answer["ReturnValue"] == 0
    assert vm.controllers[0].drives[1].element_name == "serial"
    assert vm.physical_lun(vm.controllers[0].drives[1]) is world.luns["data1"]


def test_startup_action_changes_while_the_vm_runs_and_firmware_does_not(world: World) -> None:
    host, vm = world.machine("hv01"), world.vms[0]

    def modify(**properties: Any) -> dict[str, Any]:
        given = setting("Msvm_VirtualSystemSettingData", InstanceID=f"Microsoft:{vm.id}", **properties)
        return call(host, VSMS, "ModifySystemSettings", {"SystemSettings": given})

    assert modify(AutomaticStartupAction=2, Notes=["first", "second"])["ReturnValue"] == 0
    row = one(host, f"SELECT * FROM Msvm_VirtualSystemSettingData WHERE InstanceID = 'Microsoft:{vm.id}'")  # noqa: S608
    assert (row.get("AutomaticStartupAction"), row.get("Notes")) == (2, ["first"])
    assert modify(SecureBootEnabled=False)["ReturnValue"] == 32768
    assert failed_code(host, modify(AutomaticStartupAction=9)) == 32773
    assert failed_code(host, modify(VirtualSystemIdentifier=vm.id)) == 32773
    world.switches.choose("settings-read-only", "ignored")
    assert modify(VirtualSystemIdentifier=vm.id)["ReturnValue"] == 0


def test_a_vm_is_defined_without_a_scsi_controller_and_destroyed_without_its_files(world: World) -> None:
    host = world.machine("hv01")
    given = setting(
        "Msvm_VirtualSystemSettingData", ElementName="new", VirtualSystemSubType="Microsoft:Hyper-V:SubType:2"
    )
    answer = call(host, VSMS, "DefineSystem", {"SystemSettings": given})
    assert answer["ReturnValue"] == 0
    vm = host.vm_by_id(str(answer["ResultingSystem"].key("Name")))
    assert vm is not None and vm.controllers == [] and vm.generation == 2
    controller = setting(RASD, ResourceType=6, ResourceSubType="Microsoft:Hyper-V:Synthetic SCSI Controller")
    for _unused in range(4):
        assert add(host, vm, controller)["ReturnValue"] == 0
    assert failed_code(host, add(host, vm, controller)) == 32773
    doomed = world.vms[0]
    system = Ref(V2, "Msvm_ComputerSystem", {"CreationClassName": "Msvm_ComputerSystem", "Name": doomed.id})
    assert call(host, VSMS, "DestroySystem", {"AffectedSystem": system})["ReturnValue"] == 32775
    doomed.set_state(OFF)
    finish(host, call(host, VSMS, "DestroySystem", {"AffectedSystem": system}))
    assert host.vm_by_id(doomed.id) is None
    assert host.open_image("D:\\VMs\\web01\\os.vhdx").payload.size == 16 << 20


# -- checkpoints


def checkpoint(host: Machine, vm: Vm, kind: int = 2, **settings: Any) -> dict[str, Any]:
    system = Ref(V2, "Msvm_ComputerSystem", {"CreationClassName": "Msvm_ComputerSystem", "Name": vm.id})
    arguments: dict[str, Any] = {"AffectedSystem": system, "SnapshotType": kind}
    if settings:
        arguments["SnapshotSettings"] = setting("Msvm_VirtualSystemSnapshotSettingData", **settings)
    return call(host, SNAPSHOTS, "CreateSnapshot", arguments)


def test_a_checkpoint_freezes_the_image_and_deleting_it_merges(world: World) -> None:
    host, vm = world.machine("hv01"), world.vms[0]
    guest = vm.guest
    assert guest is not None
    frozen = digest(vm.files()[0][2])
    answer = checkpoint(host, vm)
    assert answer["ReturnValue"] == 4096 and answer["ResultingSnapshot"] is None
    finish(host, answer)
    assert vm.controllers[0].drives[0].medium.path.endswith(".avhdx")  # type: ignore[union-attr]
    identity = guest.disks[0].identity.unique_id
    vm.set_state(OFF)
    vm.set_state(RUNNING)
    assert guest.disks[0].identity.unique_id == identity
    volume = guest.volume_by_letter("C")
    assert volume is not None
    volume.write("after.txt", b"after" * 5000)
    with_change = world.guest_digests(guest)
    assert digest(host.resolve("D:\\VMs\\web01\\os.vhdx")[0].files.open("VMs\\web01\\os.vhdx")) == frozen
    rows = query(host, "SELECT * FROM Msvm_VirtualSystemSettingData WHERE VirtualSystemType LIKE '%Snapshot%'")
    assert len(rows) == 1
    target = Ref(V2, "Msvm_VirtualSystemSettingData", {"InstanceID": str(rows[0].get("InstanceID"))})
    vm.set_state(OFF)
    answer = call(host, SNAPSHOTS, "DestroySnapshot", {"AffectedSnapshot": target})
    again = call(host, SNAPSHOTS, "DestroySnapshot", {"AffectedSnapshot": target})
    assert again["ReturnValue"] == 32775
    finish(host, answer)
    assert vm.controllers[0].drives[0].medium.path == "D:\\VMs\\web01\\os.vhdx"  # type: ignore[union-attr]
    assert world.guest_digests(guest) == with_change
    assert list(host.resolve("D:\\VMs\\web01")[0].listdir("VMs\\web01")) == ["os.vhdx"]


def test_applying_a_checkpoint_goes_back(world: World) -> None:
    host, vm = world.machine("hv01"), world.vms[0]
    guest = vm.guest
    assert guest is not None
    before = world.guest_digests(guest)
    finish(host, checkpoint(host, vm, 3))
    vm.set_state(OFF)
    vm.set_state(RUNNING)
    volume = guest.volume_by_letter("C")
    assert volume is not None
    volume.write("after.txt", b"x")
    target = Ref(V2, "Msvm_VirtualSystemSettingData", {"InstanceID": f"Microsoft:{vm.checkpoints[0].id}"})
    assert call(host, SNAPSHOTS, "ApplySnapshot", {"Snapshot": target})["ReturnValue"] == 32775
    vm.set_state(OFF)
    finish(host, call(host, SNAPSHOTS, "ApplySnapshot", {"Snapshot": target}))
    assert world.guest_digests(guest) == before


@pytest.mark.parametrize(
    ("kind", "ignore", "good"),
    [(2, False, False), (2, True, False), (3, False, False), (3, True, True), (32768, True, True)],
)
def test_a_vm_with_a_pass_through_disk_has_no_checkpoint_unless_told_to_ignore_it(
    world: World, kind: int, ignore: bool, good: bool
) -> None:
    host, vm = world.machine("hv01"), world.vms[1]
    row = finish(host, checkpoint(host, vm, kind, IgnoreNonSnapshottableDisks=ignore))
    assert row is not None and (row.get("JobState") == 7) == good
    assert len(vm.checkpoints) == int(good)
    assert vm.busy is None


# -- host disk rows


def test_the_row_of_a_host_disk_comes_late_and_goes_at_once(world: World) -> None:
    host = world.machine("hv01")
    wql = "SELECT * FROM Msvm_DiskDrive WHERE DriveNumber = 2"
    assert query(host, wql) == []
    assert storage(host, "MSFT_Disk", "Offline", disk_of(host, 2))["ReturnValue"] == 0
    assert query(host, wql) == []
    assert len(query(host, wql)) == 1
    assert storage(host, "MSFT_Disk", "Online", disk_of(host, 2))["ReturnValue"] == 0
    assert query(host, wql) == []


def test_a_disk_of_a_running_vm_cannot_be_brought_online(world: World) -> None:
    host = world.machine("hv01")
    row = one(host, "SELECT * FROM MSFT_Disk WHERE Number = 3", STORAGE)
    assert storage(host, "MSFT_Disk", "Online", row)["ReturnValue"] == 6
    assert world.check() == []
