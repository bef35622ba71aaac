# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Exporting a VM and importing it again, and reconnecting ports: network adapters and virtual Fibre Channel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from simulator.assumed import import_everything
from simulator.cim import Instance, Ref
from simulator.content import digest
from simulator.mishaps import find_vm, mishap
from simulator.virtual_machine import OFF, RUNNING, Vm
from simulator.world import Machine, World
from unit.simulator.provider_calls import SNAPSHOTS, V2, VSMS, call, finish, one, query, setting

WORLD = """
name: export
seed: export
clock: 2026-10-01T20:00:00Z
luns:
  - {id: data, size: 24M, bus: iscsi}
  - {id: fabric, size: 24M, bus: fc}
hosts:
  - name: hv01
    address: 127.42.0.1
    volumes: [{letter: C, size: 60G}, {letter: D, size: 60G}]
    luns: [data]
    switches: [External, Spare]
    virtual_sans: [Fabric-A, Fabric-B]
vms:
  - name: sql01
    host: hv01
    automatic_start: always
    disks:
      - {slot: "scsi 0:0", vhd: 'D:\\VMs\\sql01\\os.vhdx', size: 16M}
      - {slot: "scsi 0:1", lun: data}
    fibre_channel: [{virtual_san: Fabric-A, luns: [fabric]}]
    guest:
      address: 127.42.1.1
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
    return find_vm(world, "sql01")


def system(vm: Vm) -> Ref:
    return Ref(V2, "Msvm_ComputerSystem", {"CreationClassName": "Msvm_ComputerSystem", "Name": vm.id})


def planned(identifier: str) -> Ref:
    return Ref(
        V2, "Msvm_PlannedComputerSystem", {"CreationClassName": "Msvm_PlannedComputerSystem", "Name": identifier}
    )


def configuration_only(**changes: Any) -> Instance:
    values = {
        "CopySnapshotConfiguration": 1,
        "CopyVmStorage": False,
        "CopyVmRuntimeInformation": False,
        "CreateVmExportSubdirectory": True,
        **changes,
    }
    return setting("Msvm_VirtualSystemExportSettingData", **values)


def export(host: Machine, vm: Vm, directory: str, settings: Instance | None = None) -> Instance:
    answer = call(
        host,
        VSMS,
        "ExportSystemDefinition",
        {"ComputerSystem": system(vm), "ExportDirectory": directory, "ExportSettingData": settings},
    )
    assert answer["ReturnValue"] == 4096
    job = finish(host, answer)
    assert job is not None
    return job


def files_below(host: Machine, path: str) -> list[str]:
    volume, relative = host.resolve(path)
    return sorted(entry.path for entry in volume.files.walk(relative) if not entry.is_directory)


def test_an_export_of_the_configuration_alone_copies_no_disk(host: Machine, vm: Vm) -> None:
    job = export(host, vm, "D:\\Exports\\before restore", configuration_only())
    assert (job.get("JobState"), job.get("JobType")) == (7, 62)
    names = [path.rpartition("\\")[2] for path in files_below(host, "D:\\Exports\\before restore\\sql01")]
    assert names == [f"{vm.id}.vmcx", f"{vm.id}.vmgs", f"{vm.id}.vmrs"]
    assert vm.state == RUNNING and vm.busy is None


def test_an_export_into_a_folder_with_files_fails(host: Machine, vm: Vm) -> None:
    export(host, vm, "D:\\Exports", configuration_only())
    job = export(host, vm, "D:\\Exports", configuration_only())
    assert (job.get("JobState"), job.get("ErrorCode")) == (10, 32768)


def test_a_vm_that_is_exported_says_so_and_takes_no_other_order(host: Machine, vm: Vm) -> None:
    answer = call(host, VSMS, "ExportSystemDefinition", {"ComputerSystem": system(vm), "ExportDirectory": "D:\\X"})
    assert vm.busy == 32773
    again = call(host, VSMS, "ExportSystemDefinition", {"ComputerSystem": system(vm), "ExportDirectory": "D:\\Y"})
    assert again["ReturnValue"] == 32775
    finish(host, answer)
    assert vm.busy is None


def test_a_power_cut_leaves_a_folder_without_a_definition(world: World, host: Machine, vm: Vm) -> None:
    call(host, VSMS, "ExportSystemDefinition", {"ComputerSystem": system(vm), "ExportDirectory": "D:\\X"})
    mishap(world, "power_cut", machine="hv01")
    volume, relative = host.resolve("D:\\X\\sql01\\Virtual Machines")
    assert volume.files.exists(relative) and volume.files.listdir(relative) == []


def test_an_exported_vm_comes_back_as_a_planned_one_and_is_realized(world: World, host: Machine, vm: Vm) -> None:
    vm.set_state(OFF)
    before = digest(host.open_image("D:\\VMs\\sql01\\os.vhdx").payload)
    export(host, vm, "D:\\Exports")
    definition = f"D:\\Exports\\sql01\\Virtual Machines\\{vm.id}.vmcx"
    taken = call(host, VSMS, "ImportSystemDefinition", {"SystemDefinitionFile": definition})
    job = finish(host, taken)
    assert job is not None and (job.get("JobState"), job.get("ErrorCode")) == (10, 32774)
    mishap(world, "delete_vm", vm="sql01")
    job = finish(host, call(host, VSMS, "ImportSystemDefinition", {"SystemDefinitionFile": definition}))
    assert job is not None and job.get("JobState") == 7
    row = one(host, "SELECT * FROM Msvm_PlannedComputerSystem")
    assert row.get("Name") == vm.id
    assert [r.get("Name") for r in query(host, "SELECT * FROM Msvm_ComputerSystem")] == ["HV01"]
    mishap(world, "reboot", machine="hv01", renumber=False)
    assert find_vm(world, "sql01").state == OFF
    for method_name in ("ValidatePlannedSystem", "RealizePlannedSystem"):
        done = finish(host, call(host, VSMS, method_name, {"PlannedSystem": planned(vm.id)}))
        assert done is not None and done.get("JobState") == 7
    found = find_vm(world, "sql01")
    assert not found.planned and found.vhd_paths() == ["D:\\Exports\\sql01\\Virtual Hard Disks\\os.vhdx"]
    assert digest(host.open_image(found.vhd_paths()[0]).payload) == before
    assert mishap(world, "start_vm", vm="sql01") == ""


@pytest.mark.parametrize(("choice", "state"), [("validate", 10), ("start", 7)])
def test_a_planned_vm_whose_disk_is_missing(world: World, host: Machine, vm: Vm, choice: str, state: int) -> None:
    world.switches.choose("import-missing-disk", choice)
    vm.set_state(OFF)
    export(host, vm, "D:\\Exports")
    mishap(world, "delete_vm", vm="sql01")
    mishap(world, "unplug_lun", lun="data")
    definition = f"D:\\Exports\\sql01\\Virtual Machines\\{vm.id}.vmcx"
    finish(host, call(host, VSMS, "ImportSystemDefinition", {"SystemDefinitionFile": definition}))
    done = finish(host, call(host, VSMS, "ValidatePlannedSystem", {"PlannedSystem": planned(vm.id)}))
    assert done is not None and done.get("JobState") == state


# -- ports


def connection(host: Machine, vm: Vm, class_name: str) -> Instance:
    rows = query(host, f"SELECT * FROM {class_name}")  # noqa: S608
    return next(r for r in rows if str(r.get("InstanceID")).startswith(f"Microsoft:{vm.id}"))


def switch_path(host: Machine, class_name: str, guid: str) -> str:
    return Ref(V2, class_name, {"CreationClassName": class_name, "Name": guid}).path(host.netbios_name)


def modify(host: Machine, class_name: str, **properties: Any) -> Instance | None:
    answer = call(host, VSMS, "ModifyResourceSettings", {"ResourceSettings": [setting(class_name, **properties)]})
    return finish(host, answer)


def test_an_adapter_is_disconnected_and_connected_to_another_switch(host: Machine, vm: Vm) -> None:
    vm.set_state(OFF)
    name = "Msvm_EthernetPortAllocationSettingData"
    identifier = connection(host, vm, name).get("InstanceID")
    modify(host, name, InstanceID=identifier, EnabledState=3)
    row = connection(host, vm, name)
    assert (row.get("EnabledState"), row.get("LastKnownSwitchName")) == (3, "External")
    path = switch_path(host, "Msvm_VirtualEthernetSwitch", host.virtual_switches["Spare"])
    modify(host, name, InstanceID=identifier, EnabledState=2, HostResource=[path])
    row = connection(host, vm, name)
    assert (row.get("EnabledState"), row.get("HostResource")) == (2, [path])
    wrong = modify(host, name, InstanceID=identifier, HostResource=[path.replace("Name=", 'Name="x",Other=')])
    assert wrong is not None and (wrong.get("JobState"), wrong.get("ErrorCode")) == (10, 32773)
    assert connection(host, vm, name).get("HostResource") == [path]


def test_a_fibre_channel_port_moves_to_another_virtual_san_while_the_vm_is_off(
    world: World, host: Machine, vm: Vm
) -> None:
    name = "Msvm_FcPortAllocationSettingData"
    identifier = connection(host, vm, name).get("InstanceID")
    path = switch_path(host, "Msvm_VirtualFcSwitch", host.virtual_sans["Fabric-B"])
    running = modify(host, name, InstanceID=identifier, HostResource=[path])
    assert running is not None and running.get("ErrorCode") == 32775
    vm.set_state(OFF)
    assert modify(host, name, InstanceID=identifier, HostResource=[path]) is None
    assert connection(host, vm, name).get("HostResource") == [path]
    assert mishap(world, "start_vm", vm="sql01") == ""


def test_a_fibre_channel_port_is_made_again_with_its_names_and_sees_its_luns(
    world: World, host: Machine, vm: Vm
) -> None:
    vm.set_state(OFF)
    port = connection(host, vm, "Msvm_SyntheticFcPortSettingData")
    wwpn = port.get("VirtualPortWWPN")
    identifier = str(port.get("InstanceID"))
    reference = Ref(V2, "Msvm_SyntheticFcPortSettingData", {"InstanceID": identifier})
    call(host, VSMS, "RemoveResourceSettings", {"ResourceSettings": [reference]})
    assert vm.fibre_channel == []
    target = Ref(V2, "Msvm_VirtualSystemSettingData", {"InstanceID": f"Microsoft:{vm.id}"})
    made = setting(
        "Msvm_SyntheticFcPortSettingData",
        ResourceType=7,
        ResourceSubType="Microsoft:Hyper-V:Synthetic FibreChannel Port",
        VirtualPortWWPN=wwpn,
        SecondaryWWPN=port.get("SecondaryWWPN"),
    )
    arguments = {"AffectedConfiguration": target, "ResourceSettings": [made]}
    answer = call(host, VSMS, "AddResourceSettings", arguments)
    parent = answer["ResultingResourceSettings"][0].path(host.netbios_name)
    assert "no virtual SAN" in str(mishap(world, "start_vm", vm="sql01"))
    link = setting(
        "Msvm_FcPortAllocationSettingData",
        ResourceType=64764,
        ResourceSubType="Microsoft:Hyper-V:FibreChannel Connection",
        Parent=parent,
        HostResource=[switch_path(host, "Msvm_VirtualFcSwitch", host.virtual_sans["Fabric-A"])],
    )
    call(host, VSMS, "AddResourceSettings", {"AffectedConfiguration": target, "ResourceSettings": [link]})
    assert mishap(world, "start_vm", vm="sql01") == ""
    assert vm.guest is not None and vm.guest.disk_of_lun(world.luns["fabric"]) is not None


def test_the_heartbeat_comes_after_some_looks(world: World, host: Machine, vm: Vm) -> None:
    mishap(world, "set_guest", vm="sql01", boot_looks=2)
    vm.set_state(OFF)
    mishap(world, "start_vm", vm="sql01")
    text = f"SELECT * FROM Msvm_HeartbeatComponent WHERE SystemName = '{vm.id}'"  # noqa: S608
    seen = [one(host, text).get("OperationalStatus") for _unused in range(3)]
    assert seen == [[12], [2, 2], [2, 2]]


# -- recovery checkpoints


def recovery(host: Machine, vm: Vm, **settings: Any) -> Instance | None:
    values = {"ConsistencyLevel": 1, "IgnoreNonSnapshottableDisks": True, "ElementName": "ours", **settings}
    embedded = setting("Msvm_VirtualSystemSnapshotSettingData", **values)
    answer = call(
        host,
        SNAPSHOTS,
        "CreateSnapshot",
        {"AffectedSystem": system(vm), "SnapshotSettings": embedded, "SnapshotType": 32768},
    )
    return finish(host, answer)


def snapshot_path(host: Machine, vm: Vm) -> str:
    checkpoint = vm.checkpoints[0]
    return f'\\\\{host.netbios_name}\\root\\virtualization\\v2:Msvm_VirtualSystemSettingData.InstanceID="Microsoft:{checkpoint.id}"'


def for_backup(host: Machine, vm: Vm, **changes: Any) -> Instance:
    values = {
        "CopySnapshotConfiguration": 3,
        "CopyVmStorage": True,
        "CopyVmRuntimeInformation": False,
        "CreateVmExportSubdirectory": False,
        "SnapshotVirtualSystem": snapshot_path(host, vm),
        "BackupIntent": 1,
        **changes,
    }
    return setting("Msvm_VirtualSystemExportSettingData", **values)


def guest_writes(vm: Vm, text: bytes) -> None:
    assert vm.guest is not None
    volume = vm.guest.volume_by_letter("C")
    assert volume is not None
    volume.write("written.txt", text)


def test_a_recovery_checkpoint_is_exported_as_it_was_and_merged_afterwards(host: Machine, vm: Vm) -> None:
    guest_writes(vm, b"before" * 900)
    frozen = digest(host.open_image("D:\\VMs\\sql01\\os.vhdx").payload)
    done = recovery(host, vm)
    assert done is not None and done.get("JobState") == 7
    row = one(host, "SELECT * FROM Msvm_VirtualSystemSettingData WHERE VirtualSystemType LIKE '%Recovery'")
    assert (row.get("ElementName"), row.get("VirtualSystemIdentifier")) == ("ours", vm.id)
    assert vm.media_paths()[0].endswith(".avhdx")
    guest_writes(vm, b"after" * 900)

    job = export(host, vm, "D:\\Exports\\one", for_backup(host, vm))

    assert job.get("JobState") == 7
    copied = "D:\\Exports\\one\\Virtual Hard Disks\\os.vhdx"
    assert digest(host.open_image(copied).payload) == frozen
    assert [path.rpartition("\\")[2] for path in files_below(host, "D:\\Exports\\one\\Virtual Hard Disks")] == [
        "os.vhdx"
    ]
    snapshot = Ref(V2, "Msvm_VirtualSystemSettingData", {"InstanceID": f"Microsoft:{vm.checkpoints[0].id}"})
    finish(host, call(host, SNAPSHOTS, "DestroySnapshot", {"AffectedSnapshot": snapshot}))
    assert vm.busy == 32772 and vm.checkpoints == []
    for _look in range(4):
        query(host, "SELECT * FROM Msvm_ComputerSystem")
    assert vm.busy is None and vm.media_paths() == ["D:\\VMs\\sql01\\os.vhdx"]
    assert digest(host.open_image("D:\\VMs\\sql01\\os.vhdx").payload) != frozen
    assert host.world.leftovers() == []


@pytest.mark.parametrize("level", [1, 2])
def test_a_checkpoint_of_a_vm_with_other_disks_needs_them_ignored(host: Machine, vm: Vm, level: int) -> None:
    refused = recovery(host, vm, ConsistencyLevel=level, IgnoreNonSnapshottableDisks=False)
    assert refused is not None and refused.get("JobState") == 10
    assert vm.checkpoints == [] and not vm.media_paths()[0].endswith(".avhdx")


@pytest.mark.parametrize(("choice", "state", "count"), [("fails", 10, 0), ("warns", 32768, 1)])
def test_a_guest_that_takes_no_part(world: World, host: Machine, vm: Vm, choice: str, state: int, count: int) -> None:
    world.switches.choose("snapshot-consistency", choice)
    vm.traits.vss = False
    done = recovery(host, vm)
    assert done is not None and (done.get("JobState"), len(vm.checkpoints)) == (state, count)


def test_an_export_of_a_checkpoint_comes_back_beside_nothing_but_itself(world: World, host: Machine, vm: Vm) -> None:
    recovery(host, vm)
    export(host, vm, "D:\\Exports\\one", for_backup(host, vm))
    before = {
        path: digest(host.resolve(f"D:\\{path}")[0].files.open(path)) for path in files_below(host, "D:\\Exports")
    }
    mishap(world, "delete_vm", vm="sql01")
    definition = f"D:\\Exports\\one\\Virtual Machines\\{vm.id}.vmcx"
    job = finish(host, call(host, VSMS, "ImportSystemDefinition", {"SystemDefinitionFile": definition}))
    assert job is not None and job.get("JobState") == 7
    made = find_vm(world, "sql01")
    assert made.planned and made.checkpoints == []
    assert made.vhd_paths() == ["D:\\Exports\\one\\Virtual Hard Disks\\os.vhdx"]
    values = {"InstanceID": f"Microsoft:{vm.id}", "ConfigurationDataRoot": "D:\\Home", "AutomaticStartupAction": 2}
    settings = setting("Msvm_VirtualSystemSettingData", **values)
    finish(host, call(host, VSMS, "ModifySystemSettings", {"SystemSettings": settings}))
    row = next(
        r
        for r in query(host, "SELECT * FROM Msvm_ResourceAllocationSettingData")
        if r.get("ResourceSubType") == "Microsoft:Hyper-V:Physical Disk Drive" and vm.id in str(r.get("InstanceID"))
    )
    ref = Ref(V2, "Msvm_ResourceAllocationSettingData", {"InstanceID": str(row.get("InstanceID"))})
    gone = finish(host, call(host, VSMS, "RemoveResourceSettings", {"ResourceSettings": [ref]}))
    assert gone is None or gone.get("JobState") == 7
    disk = next(
        r
        for r in query(host, "SELECT * FROM Msvm_StorageAllocationSettingData")
        if vm.id in str(r.get("InstanceID")) and r.get("HostResource")
    )
    copied = "D:\\Home\\os.vhdx"
    volume, _below = host.resolve("D:\\")
    volume.files.mkdir("Home", parents=True)
    volume.files.write("Home\\os.vhdx", volume.files.read("Exports\\one\\Virtual Hard Disks\\os.vhdx"))
    moved = setting("Msvm_StorageAllocationSettingData", InstanceID=disk.get("InstanceID"), HostResource=[copied])
    changed = finish(host, call(host, VSMS, "ModifyResourceSettings", {"ResourceSettings": [moved]}))
    assert changed is None or changed.get("JobState") == 7
    for method_name in ("ValidatePlannedSystem", "RealizePlannedSystem"):
        done = finish(host, call(host, VSMS, method_name, {"PlannedSystem": planned(vm.id)}))
        assert done is not None and done.get("JobState") == 7
    found = find_vm(world, "sql01")
    assert found.vhd_paths() == [copied] and found.physical_drives() == []
    assert found.configuration_path == f"D:\\Home\\Virtual Machines\\{vm.id}.vmcx"
    after = {path: digest(host.resolve(f"D:\\{path}")[0].files.open(path)) for path in files_below(host, "D:\\Exports")}
    assert after == before


def test_an_import_may_name_the_disks_where_they_were(world: World, host: Machine, vm: Vm) -> None:
    recovery(host, vm)
    export(host, vm, "D:\\Exports\\one", for_backup(host, vm))
    mishap(world, "delete_vm", vm="sql01")
    world.switches.choose("import-disk-paths", "original")
    definition = f"D:\\Exports\\one\\Virtual Machines\\{vm.id}.vmcx"
    finish(host, call(host, VSMS, "ImportSystemDefinition", {"SystemDefinitionFile": definition}))
    assert find_vm(world, "sql01").media_paths() == ["D:\\VMs\\sql01\\os.vhdx"]
    done = finish(host, call(host, VSMS, "ValidatePlannedSystem", {"PlannedSystem": planned(vm.id)}))
    assert done is not None and done.get("JobState") == 10


def test_a_backup_export_needs_its_checkpoint(host: Machine, vm: Vm) -> None:
    settings = setting("Msvm_VirtualSystemExportSettingData", CopySnapshotConfiguration=3)
    arguments = {"ComputerSystem": system(vm), "ExportDirectory": "D:\\X", "ExportSettingData": settings}
    assert call(host, VSMS, "ExportSystemDefinition", arguments)["ReturnValue"] == 32773


def test_an_export_that_finds_no_room_leaves_its_parts_and_the_checkpoint(host: Machine, vm: Vm) -> None:
    recovery(host, vm)
    volume = host.volume_by_letter("D")
    assert volume is not None
    volume.reserve("others", volume.free - (1 << 20))
    job = export(host, vm, "D:\\Exports\\one", for_backup(host, vm))
    assert job.get("JobState") == 10 and "not enough space" in str(job.get("ErrorDescription"))
    assert vm.busy is None and len(vm.checkpoints) == 1
    assert files_below(host, "D:\\Exports\\one") == []


def test_a_power_cut_leaves_empty_files_and_the_checkpoint(world: World, host: Machine, vm: Vm) -> None:
    recovery(host, vm)
    arguments = {
        "ComputerSystem": system(vm),
        "ExportDirectory": "D:\\Exports\\one",
        "ExportSettingData": for_backup(host, vm),
    }
    call(host, VSMS, "ExportSystemDefinition", arguments)
    mishap(world, "power_cut", machine="hv01")
    assert [path.rpartition("\\")[2] for path in files_below(host, "D:\\Exports\\one")] == ["os.vhdx"]
    volume, relative = host.resolve("D:\\Exports\\one\\Virtual Hard Disks\\os.vhdx")
    assert volume.files.read(relative).strip(b"\0") == b""
    assert [c.kind for c in find_vm(world, "sql01").checkpoints] == ["recovery"]
    assert "has the recovery checkpoint" in world.leftovers()[0]


@pytest.mark.parametrize(("choice", "count"), [("parts-left", 1), ("removed", 0)])
def test_a_job_that_fails_in_the_middle(world: World, host: Machine, vm: Vm, choice: str, count: int) -> None:
    world.switches.choose("export-failed", choice)
    recovery(host, vm)
    mishap(world, "fail_job", machine="hv01", job_type=62)
    job = export(host, vm, "D:\\Exports\\one", for_backup(host, vm))
    volume, _below = host.resolve("D:\\")
    assert job.get("JobState") == 10
    assert volume.files.exists("Exports\\one") == bool(count)
    assert vm.busy is None


def test_excluded_disks_are_not_exported(host: Machine, vm: Vm) -> None:
    recovery(host, vm)
    rows = query(host, "SELECT * FROM Msvm_StorageAllocationSettingData")
    disk = next(str(r.get("InstanceID")) for r in rows if vm.id in str(r.get("InstanceID")))
    job = export(host, vm, "D:\\Exports\\one", for_backup(host, vm, ExcludedVirtualHardDisks=[disk]))
    assert job.get("JobState") == 7
    assert not any(path.endswith(".vhdx") for path in files_below(host, "D:\\Exports\\one"))


def test_a_vm_is_not_busy_with_a_job_that_is_lost(host: Machine, vm: Vm) -> None:
    call(host, VSMS, "ExportSystemDefinition", {"ComputerSystem": system(vm), "ExportDirectory": "D:\\X"})
    assert vm.busy == 32773
    host.jobs.lose()
    assert vm.busy is None
