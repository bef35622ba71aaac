# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restoring VMs and volumes with the simulated Windows Server Backup: other hosts, missing switches, targets that vanish."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulator.assumed import import_everything
from simulator.cim import Ref
from simulator.content import digest
from simulator.mishaps import find_vm, mishap
from simulator.processes import SYSTEM
from simulator.virtual_machine import OFF, RUNNING, SAVED, Vm
from simulator.world import Machine, World
from unit.simulator.provider_calls import V2, VSMS, call, finish, one, query
from unit.simulator.windows_machines import Outcome, run

WORLD = """
name: recovery
seed: recovery
clock: 2026-10-01T20:00:00Z
luns:
  - {id: data, size: 24M, bus: iscsi}
  - {id: other, size: 24M, bus: iscsi}
  - {id: fabric, size: 24M, bus: fc}
shares:
  - {server: filer, name: backup, size: 10G}
hosts:
  - name: hv01
    address: 127.41.0.1
    volumes: [{letter: C, size: 60G}, {letter: D, size: 60G}, {letter: E, size: 60G, label: Backup}]
    luns: [data, other]
    virtual_sans: [Fabric-A]
  - name: hv02
    address: 127.41.0.2
    volumes: [{letter: C, size: 60G}, {letter: D, size: 60G}, {letter: E, size: 60G}]
    luns: [other, data]
    switches: [External, Spare]
vms:
  - name: sql01
    host: hv01
    automatic_start: if_running
    disks:
      - {slot: "scsi 0:0", vhd: 'D:\\VMs\\sql01\\os.vhdx', size: 16M}
      - {slot: "scsi 0:1", lun: data}
    fibre_channel: [{virtual_san: Fabric-A, luns: [fabric]}]
    guest:
      address: 127.41.1.1
      services: {MSSQLSERVER: {path: '"S:\\Binn\\sqlservr.exe" -s', state: Running}}
      disks:
        - {slot: "scsi 0:0", partitions: [{letter: C, boot: true, files: {count: 4, size: 256K}}]}
        - {slot: "scsi 0:1", partitions: [{letter: S, label: Data, files: {count: 6, size: 1M}}]}
        - {lun: fabric, partitions: [{letter: V, label: Fabric}]}
"""
SHARE = "\\\\filer\\backup"
EVENTS = "Microsoft-Windows-Backup"


@pytest.fixture
def world(tmp_path: Path) -> World:
    import_everything()
    return World.from_yaml(WORLD, tmp_path)


@pytest.fixture
def host(world: World) -> Machine:
    return world.machine("hv01")


@pytest.fixture
def second(world: World) -> Machine:
    return world.machine("hv02")


def vm_of(world: World) -> Vm:
    return find_vm(world, "sql01")


def backed_up(machine: Machine, target: str = SHARE) -> str:
    """A backup of the VM; gives its version."""
    done = run(machine, f"wbadmin start backup -backupTarget:{target} -hyperv:sql01 -quiet")
    assert done.code == 0, done.text
    version: str = machine.backup.catalog[-1].version_id
    return version


def restored(machine: Machine, version: str, options: str = f"-backupTarget:{SHARE} -machine:HV01") -> Outcome:
    line = f"wbadmin start recovery -version:{version} -itemType:HyperV -items:sql01 {options} -quiet"
    return run(machine, line)


def test_a_vm_comes_back_on_another_host_with_its_guid_and_bytes(world: World, host: Machine, second: Machine) -> None:
    vm = vm_of(world)
    version = backed_up(host)
    before = digest(host.open_image("D:\\VMs\\sql01\\os.vhdx").payload)
    mishap(world, "delete_vm", vm="sql01")
    world.switches.choose("start-without-san", "starts")
    assert restored(second, version).code == 0
    found = vm_of(world)
    assert (found.host.name, found.id, found.state) == ("hv02", vm.id, OFF)
    assert digest(second.open_image("D:\\VMs\\sql01\\os.vhdx").payload) == before
    assert found.settings.automatic_startup_action == 3
    assert world.drifted() == [("sql01", "scsi 0:1", "other")]


@pytest.mark.parametrize(("choice", "connected"), [("guid", False), ("name", True)])
def test_a_switch_that_the_host_does_not_have_leaves_the_adapter_disconnected(
    world: World, host: Machine, second: Machine, choice: str, connected: bool
) -> None:
    world.switches.choose("wsb-switch-restore", choice)
    version = backed_up(host)
    assert restored(second, version).code == 0
    mishap(world, "delete_vm", vm="sql01", host="hv01", files=False)
    rows = query(second, "SELECT * FROM Msvm_EthernetPortAllocationSettingData")
    row = next(row for row in rows if str(row.get("InstanceID")).startswith(f"Microsoft:{vm_of(world).id}"))
    assert row.get("LastKnownSwitchName") == "External"
    assert row.get("EnabledState") == (2 if connected else 3)
    assert (row.get("HostResource") is not None) is connected


@pytest.mark.parametrize(
    ("choice", "ports", "starts"), [("kept", 1, True), ("disconnected", 1, False), ("dropped", 0, True)]
)
def test_fibre_channel_ports_of_a_restored_vm(
    world: World, host: Machine, choice: str, ports: int, starts: bool
) -> None:
    world.switches.choose("wsb-fibre-channel-restore", choice)
    version = backed_up(host)
    assert restored(host, version).code == 0
    vm = vm_of(world)
    assert len(vm.fibre_channel) == ports
    assert (mishap(world, "start_vm", vm="sql01") == "") is starts


def test_a_target_that_is_unplugged_during_a_restore_leaves_no_vm_and_empty_files(world: World, host: Machine) -> None:
    version = backed_up(host)
    world.looks_per_job = 4
    line = f"wbadmin start recovery -version:{version} -itemType:HyperV -items:sql01 -backupTarget:{SHARE} -quiet"
    process = host.processes.start_shell_command(line, token=SYSTEM, shell_id="a", directory="C:\\")
    host.backup.look()
    host.backup.look()
    mishap(world, "unplug_target", machine="hv01", target=SHARE)
    code = host.processes.run_to_end(process)
    assert code not in (0, None)
    assert host.vms == []
    volume, relative = host.resolve("D:\\VMs\\sql01\\os.vhdx")
    assert not volume.files.read(relative, 0, 1 << 20).strip(b"\0")
    assert 1028 in [event.event_id for event in host.event_log.query(EVENTS)]
    mishap(world, "plug_target", machine="hv01", target=SHARE)
    assert restored(host, version).code == 0
    assert vm_of(world).state == OFF


def test_a_target_that_is_unplugged_during_a_backup_leaves_no_version(world: World, host: Machine) -> None:
    backed_up(host, "E:")
    world.looks_per_job = 4
    world.clock.advance(120)
    line = "wbadmin start backup -backupTarget:E: -hyperv:sql01 -quiet"
    process = host.processes.start_shell_command(line, token=SYSTEM, shell_id="a", directory="C:\\")
    host.backup.look()
    mishap(world, "unplug_target", machine="hv01", target="E:")
    assert host.processes.run_to_end(process) != 0
    mishap(world, "plug_target", machine="hv01", target="E:")
    assert len(host.backup.catalog) == 1
    listed = run(host, "wbadmin get versions -backupTarget:E:")
    assert listed.out.count("Version identifier") == 1


@pytest.mark.parametrize(("choice", "state"), [("starts", RUNNING), ("stays-off", OFF)])
def test_a_reboot_after_the_restore_of_a_running_vm(world: World, host: Machine, choice: str, state: int) -> None:
    world.switches.choose("start-if-running-after-restore", choice)
    version = backed_up(host)
    assert restored(host, version).code == 0
    mishap(world, "reboot", machine="hv01", renumber=False)
    assert vm_of(world).state == state


def test_nothing_starts_a_restored_vm_whose_automatic_start_action_is_nothing(world: World, host: Machine) -> None:
    version = backed_up(host)
    assert restored(host, version).code == 0
    mishap(world, "set_automatic_start", vm="sql01", action=2)
    mishap(world, "reboot", machine="hv01")
    assert vm_of(world).state == OFF


def test_a_vm_restored_in_saved_state_must_not_resume_on_a_newer_disk(world: World, host: Machine) -> None:
    mishap(world, "save_vm", vm="sql01")
    version = backed_up(host)
    mishap(world, "start_vm", vm="sql01")
    mishap(world, "write_file", machine="sql01", path="S:\\newer.txt", text="written after the backup")
    assert restored(host, version).code == 0
    assert vm_of(world).state == SAVED
    assert world.check() == []
    mishap(world, "start_vm", vm="sql01")
    assert world.check() == ["sql01 resumed from saved state although its disk scsi 0:1 changed"]


def test_a_vm_that_was_saved_and_untouched_since_resumes(world: World, host: Machine) -> None:
    mishap(world, "save_vm", vm="sql01")
    version = backed_up(host)
    assert restored(host, version).code == 0
    mishap(world, "start_vm", vm="sql01")
    assert vm_of(world).state == RUNNING and world.check() == []


@pytest.mark.parametrize(("choice", "code"), [("refused", False), ("dismounts", True)])
def test_a_volume_that_a_service_works_on(world: World, choice: str, code: bool) -> None:
    world.switches.choose("wsb-volume-in-use", choice)
    guest = world.machine("sql01")
    done = run(guest, f"wbadmin start backup -backupTarget:{SHARE} -include:S: -quiet")
    assert done.code == 0, done.text
    version = guest.backup.catalog[-1].version_id
    line = f"wbadmin start recovery -version:{version} -itemType:Volume -items:S: -backupTarget:{SHARE} -quiet"
    assert (run(guest, line).code == 0) is code
    service = one(guest, "SELECT * FROM Win32_Service WHERE Name = 'MSSQLSERVER'", "root/cimv2")
    assert str(service.get("PathName")).startswith('"S:\\')
    guest.service_states["MSSQLSERVER"] = "Stopped"
    assert run(guest, line).code == 0


def test_a_restore_while_the_vm_is_registered_elsewhere_is_found_by_the_world(
    world: World, host: Machine, second: Machine
) -> None:
    version = backed_up(host)
    assert restored(second, version).code == 0
    assert f"VM {vm_id(world)} is registered on hv01 and hv02" in world.check()


def vm_id(world: World) -> str:
    return world.vms[0].id


@pytest.mark.parametrize(("choice", "password"), [("goes-back", "Passw0rd!"), ("stays", "Changed-1")])
def test_a_restored_guest_knows_what_it_knew_then(world: World, host: Machine, choice: str, password: str) -> None:
    world.switches.choose("guest-memory", choice)
    guest = world.machine("sql01")
    guest.registry.put("HKLM\\SOFTWARE\\Test", {"when": "before"})
    version = backed_up(host)
    guest.registry.put("HKLM\\SOFTWARE\\Test", {"when": "after"})
    mishap(world, "set_password", machine="sql01", account="Administrator", password="Changed-1")
    mishap(world, "take_letter", machine="sql01", letter="S", new="T")
    assert restored(host, version).code == 0
    mishap(world, "start_vm", vm="sql01")
    assert guest.answers and guest.accounts["Administrator"].password == password
    back = choice == "goes-back"
    assert guest.registry.text("SOFTWARE\\Test", "when") == ("before" if back else "after")
    assert (guest.volume_by_letter("S") is not None) is back


def test_a_running_backup_may_show_as_a_recovery_checkpoint(world: World, host: Machine) -> None:
    world.switches.choose("vss-recovery-checkpoint", "listed")
    world.looks_per_job = 4
    line = f"wbadmin start backup -backupTarget:{SHARE} -hyperv:sql01 -quiet"
    process = host.processes.start_shell_command(line, token=SYSTEM, shell_id="a", directory="C:\\")
    host.backup.look()
    rows = query(host, "SELECT * FROM Msvm_VirtualSystemSettingData")
    kinds = [row.get("VirtualSystemType") for row in rows if row.get("VirtualSystemIdentifier") == vm_of(world).id]
    assert kinds == ["Microsoft:Hyper-V:System:Realized", "Microsoft:Hyper-V:Snapshot:Recovery"]
    assert host.processes.run_to_end(process) == 0
    assert vm_of(world).checkpoints == []
    version = host.backup.catalog[-1].version_id
    assert restored(host, version).code == 0
    assert vm_of(world).checkpoints == []


def test_a_backup_and_a_job_can_be_told_to_fail(world: World, host: Machine) -> None:
    mishap(world, "fail_backup", machine="hv01", percent=40)
    assert run(host, f"wbadmin start backup -backupTarget:{SHARE} -hyperv:sql01 -quiet").code != 0
    backed_up(host)
    mishap(world, "fail_job", machine="hv01", job_type=3)
    vm = vm_of(world)
    vm.set_state(OFF)
    target = Ref(V2, "Msvm_ComputerSystem", {"CreationClassName": "Msvm_ComputerSystem", "Name": vm.id})
    job = finish(host, call(host, VSMS, "DestroySystem", {"AffectedSystem": target}))
    assert job is not None and job.get("JobState") == 10 and vm_of(world) is vm


@pytest.mark.parametrize(("choice", "text"), [("stale", '\\\\3"'), ("nodrive", '\\\\NODRIVE"')])
def test_a_restored_drive_whose_disk_is_not_there(
    world: World, host: Machine, second: Machine, choice: str, text: str
) -> None:
    world.switches.choose("passthrough-missing", choice)
    version = backed_up(host)
    mishap(world, "delete_vm", vm="sql01")
    for lun in ("data", "other"):
        mishap(world, "unmap_lun", lun=lun, machine="hv02")
    assert restored(second, version).code == 0
    drive = vm_of(world).controllers[0].drives[1]
    assert text in str(drive.host_resource)
    assert "was not found" in str(mishap(world, "start_vm", vm="sql01"))


def test_a_vm_comes_back_on_its_rebuilt_host(world: World, host: Machine) -> None:
    vm = vm_of(world)
    version = backed_up(host)
    before = world.digests()["luns"]
    mishap(world, "rebuild_host", machine="hv01", virtual_sans=["Fabric-A"])
    assert run(host, "wbadmin get versions").code != 0
    assert version in run(host, f"wbadmin get versions -backupTarget:{SHARE}").out
    assert restored(host, version).code == 0
    found = vm_of(world)
    assert (found.id, found.state) == (vm.id, OFF)
    assert found.adapters[0].switch is None and found.adapters[0].last_switch == "External"
    assert world.digests()["luns"] == before and world.check() == []
