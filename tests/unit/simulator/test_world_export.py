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
from unit.simulator.provider_calls import V2, VSMS, call, finish, one, query, setting

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
