# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A reverse restore by hand, call by call, under everything that is unknown about wbadmin: what any client has to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulator.assumed import import_everything
from simulator.cim import Ref
from simulator.mishaps import find_vm, mishap
from simulator.virtual_machine import OFF, RUNNING, SAVED, Vm
from simulator.world import Machine, World
from unit.simulator.provider_calls import V2, VSMS, call, finish, one, setting
from unit.simulator.windows_machines import run

RASD = "Msvm_ResourceAllocationSettingData"
WORLD = """
name: rehearsal
seed: rehearsal
clock: 2026-10-01T20:00:00Z
luns:
  - {id: data, size: 24M, bus: iscsi}
  - {id: log, size: 24M, bus: fc}
  - {id: foreign, size: 24M, bus: sas}
shares:
  - {server: filer, name: backup, size: 10G}
hosts:
  - name: hv01
    address: 127.44.0.1
    volumes: [{letter: C, size: 60G}, {letter: D, size: 60G}]
    luns: [data, log, foreign]
vms:
  - name: sql01
    host: hv01
    automatic_start: always
    disks:
      - {slot: "scsi 0:0", vhd: 'D:\\VMs\\sql01\\os.vhdx', size: 16M}
      - {slot: "scsi 0:1", lun: data}
      - {slot: "scsi 0:2", lun: log}
    guest:
      address: 127.44.1.1
      disks:
        - {slot: "scsi 0:0", partitions: [{letter: C, boot: true, files: {count: 4, size: 256K}}]}
        - {slot: "scsi 0:1", partitions: [{letter: F, label: Data, files: {count: 6, size: 1M}}]}
        - {slot: "scsi 0:2", partitions: [{letter: G, label: Log, files: {count: 6, size: 1M}}]}
"""
WANTED = {1: "data", 2: "log"}


def restored_vm(world: World, host: Machine, vm: Vm, version: str) -> Vm:
    line = f"wbadmin start recovery -version:{version} -itemType:HyperV -items:{vm.id} -backupTarget:\\\\filer\\backup -quiet"
    outcome = run(host, line)
    assert outcome.code == 0, outcome.text
    return find_vm(world, vm.id)


def never_start_by_itself(host: Machine, vm: Vm) -> None:
    settings = setting("Msvm_VirtualSystemSettingData", InstanceID=f"Microsoft:{vm.id}", AutomaticStartupAction=2)
    finish(host, call(host, VSMS, "ModifySystemSettings", {"SystemSettings": settings}))


def discard_saved_state(host: Machine, vm: Vm) -> None:
    row = one(host, f"SELECT * FROM Msvm_ComputerSystem WHERE Name = '{vm.id}'")  # noqa: S608
    if row.get("EnabledState") == SAVED:
        finish(host, call(host, "Msvm_ComputerSystem", "RequestStateChange", {"RequestedState": 3}, row))


def remap(world: World, host: Machine, vm: Vm) -> None:
    """Drop every pass-through drive, then attach each LUN, found by its identity, to its slot."""
    controller = vm.controllers[0]
    for location in [d.location for _c, d in vm.physical_drives()]:
        drive = Ref(V2, RASD, {"InstanceID": controller.drive_id(vm.id, location)})
        assert call(host, VSMS, "RemoveResourceSettings", {"ResourceSettings": [drive]})["ReturnValue"] == 0
    parent = Ref(V2, RASD, {"InstanceID": controller.instance_id(vm.id)}).path(host.netbios_name)
    vssd = Ref(V2, "Msvm_VirtualSystemSettingData", {"InstanceID": f"Microsoft:{vm.id}"})
    for location, lun in WANTED.items():
        unique_id = world.luns[lun].identity.unique_id
        number = next(d.number for d in host.disks if d.identity.unique_id == unique_id)
        resource = setting(
            RASD,
            ResourceType=17,
            ResourceSubType="Microsoft:Hyper-V:Physical Disk Drive",
            Parent=parent,
            AddressOnParent=str(location),
            HostResource=[vm.host_resource_for(number)],
        )
        arguments = {"AffectedConfiguration": vssd, "ResourceSettings": [resource]}
        assert call(host, VSMS, "AddResourceSettings", arguments)["ReturnValue"] == 0


@pytest.mark.parametrize("saved", [False, True])
@pytest.mark.parametrize("choice", ["keeps-number", "wrong-disk", "dropped"])
def test_host_first_then_the_luns_by_identity(tmp_path: Path, choice: str, saved: bool) -> None:
    import_everything()
    world = World.from_yaml(WORLD, tmp_path)
    world.switches.choose("wsb-passthrough-restore", choice)
    world.switches.choose("wsb-passthrough", "saved" if saved else "online")
    host, vm = world.machine("hv01"), find_vm(world, "sql01")
    trees = world.digests()["guest_volumes"]
    assert run(host, "wbadmin start backup -backupTarget:\\\\filer\\backup -hyperv:sql01 -quiet").code == 0
    version = host.backup.catalog[-1].version_id
    mishap(world, "write_file", machine="sql01", path="F:\\newer.txt", text="written after the backup")
    newer = world.digests()["luns"]
    mishap(world, "delete_vm", vm="sql01")
    mishap(world, "reboot", machine="hv01")
    mark = world.mark()

    vm = restored_vm(world, host, vm, version)
    assert vm.state == (SAVED if saved else OFF) and vm.settings.automatic_startup_action == 4
    never_start_by_itself(host, vm)
    mishap(world, "reboot", machine="hv01")  # the moment before the remap
    assert not vm.running and world.check() == []
    discard_saved_state(host, vm)
    remap(world, host, vm)
    assert world.drifted() == []
    assert world.written_since(mark) == dict.fromkeys(world.luns, 0)
    assert mishap(world, "start_vm", vm=vm.id) == ""
    assert vm.state == RUNNING and world.machine("sql01").answers
    found = world.digests()
    assert found["luns"] == newer
    assert found["guest_volumes"]["sql01:C"] == trees["sql01:C"]
    assert found["guest_volumes"]["sql01:F"] != trees["sql01:F"]
    assert world.check() == []
