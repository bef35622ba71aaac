# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks that nobody captures, end to end: each is said with its reason, none is ever called captured, accepted or not.

The whole table of verdicts is in unit/backup/test_coverage.py; here Windows itself (simulated) makes the gaps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from playbook_run import PlaybookRun

pytestmark = pytest.mark.e2e

WORLD = r"""
name: gaps
clock: 2026-10-01T20:00:00Z
luns:
  - {id: boot, size: 16M, bus: iscsi}
  - {id: fat, size: 12M, bus: iscsi}
  - {id: exfat, size: 12M, bus: iscsi}
  - {id: rawvolume, size: 12M, bus: iscsi}
  - {id: rawdisk, size: 12M, bus: iscsi}
  - {id: dynamic, size: 12M, bus: iscsi}
  - {id: pooled, size: 32M, bus: iscsi}
  - {id: locked, size: 12M, bus: iscsi}
  - {id: offline, size: 12M, bus: iscsi}
  - {id: client, size: 12M, bus: iscsi}
  - {id: nowsb, size: 12M, bus: iscsi}
  - {id: silent, size: 12M, bus: iscsi}
  - {id: idle, size: 12M, bus: iscsi}
shares: [{server: filer01, name: vms, size: 100G}]
hosts:
  - name: hv01
    address: 127.62.0.1
    volumes: [{letter: C, size: 80G}, {letter: D, size: 80G}, {letter: E, size: 80G}]
    luns: [boot, fat, exfat, rawvolume, rawdisk, dynamic, pooled, locked, offline, client, nowsb, silent, idle]
    virtual_sans: [Fabric-A]
  - {name: hv02, address: 127.62.0.2}
vms:
  - name: bootpt
    host: hv01
    disks: [{slot: "scsi 0:0", lun: boot}]
    guest:
      address: 127.62.1.1
      disks: [{slot: "scsi 0:0", partitions: [{letter: C, boot: true}]}]
  - name: many
    host: hv01
    disks:
      - {slot: "scsi 0:0", vhd: 'D:\VMs\many\os.vhdx', size: 16M}
      - {slot: "scsi 0:1", lun: fat}
      - {slot: "scsi 0:2", lun: exfat}
      - {slot: "scsi 0:3", lun: rawvolume}
      - {slot: "scsi 0:4", lun: rawdisk}
      - {slot: "scsi 0:5", lun: dynamic}
      - {slot: "scsi 0:6", lun: pooled}
      - {slot: "scsi 0:7", lun: locked}
      - {slot: "scsi 0:8", lun: offline}
    fibre_channel: [{virtual_san: Fabric-A}]
    guest:
      address: 127.62.1.2
      disks:
        - {slot: "scsi 0:0", partitions: [{letter: C, boot: true}]}
        - {slot: "scsi 0:1", partitions: [{file_system: FAT32, label: OLD}]}
        - {slot: "scsi 0:2", partitions: [{file_system: exFAT, label: CARD}]}
        - {slot: "scsi 0:3", partitions: [{letter: H, file_system: RAW}]}
        - {slot: "scsi 0:4", style: raw}
        - {slot: "scsi 0:5", dynamic: true, partitions: [{label: Dyn}]}
        - {slot: "scsi 0:7", partitions: [{letter: K, label: Locked, bitlocker: locked}]}
        - {slot: "scsi 0:8", offline: true, partitions: [{label: Offline}]}
      storage_pools:
        - {name: Pool1, members: ["scsi 0:6"], virtual_disk: Space1, partitions: [{letter: P, label: Pooled}]}
  - name: client
    host: hv01
    disks: [{slot: "scsi 0:0", vhd: 'D:\VMs\client\os.vhdx', size: 12M}, {slot: "scsi 0:1", lun: client}]
    guest:
      address: 127.62.1.3
      os: windows10
      disks:
        - {slot: "scsi 0:0", partitions: [{letter: C, boot: true}]}
        - {slot: "scsi 0:1", partitions: [{letter: S}]}
  - name: nowsb
    host: hv01
    disks: [{slot: "scsi 0:0", vhd: 'D:\VMs\nowsb\os.vhdx', size: 12M}, {slot: "scsi 0:1", lun: nowsb}]
    guest:
      address: 127.62.1.4
      missing_features: [Windows-Server-Backup]
      disks:
        - {slot: "scsi 0:0", partitions: [{letter: C, boot: true}]}
        - {slot: "scsi 0:1", partitions: [{letter: S}]}
  - name: smb
    host: hv01
    disks: [{slot: "scsi 0:0", vhd: '\\filer01\vms\smb\os.vhdx', size: 12M}]
    guest: {address: 127.62.1.5, disks: [{slot: "scsi 0:0", partitions: [{letter: C, boot: true}]}]}
  - name: silent
    host: hv01
    disks: [{slot: "scsi 0:0", vhd: 'D:\VMs\silent\os.vhdx', size: 12M}, {slot: "scsi 0:1", lun: silent}]
    guest:
      address: 127.62.1.6
      disks: [{slot: "scsi 0:0", partitions: [{letter: C, boot: true}]}, {slot: "scsi 0:1", partitions: [{letter: S}]}]
  - name: switched off
    host: hv01
    state: "off"
    disks: [{slot: "scsi 0:0", vhd: 'D:\VMs\off\os.vhdx', size: 12M}, {slot: "scsi 0:1", lun: idle}]
  - name: quiet
    host: hv01
    disks: [{slot: "scsi 0:0", vhd: 'D:\VMs\quiet\os.vhdx', size: 12M}]
"""

MANY = {
    "SCSI 0:1": "FAT32",
    "SCSI 0:2": "exFAT",
    "SCSI 0:3": "no file system that Windows knows",
    "SCSI 0:4": "no partition table",
    "SCSI 0:5": "dynamic disk",
    "SCSI 0:6": "Storage Spaces pool",
    "SCSI 0:7": "locked by BitLocker",
    "SCSI 0:8": "offline in the guest",
    "virtual_fibre_channel": "no disk behind them",
    "storage_space": "Storage Spaces pool",
}
OTHERS = {
    "bootpt": {"SCSI 0:0": ("gap", "starts from it")},
    "client": {"SCSI 0:1": ("gap", "client Windows")},
    "nowsb": {"SCSI 0:1": ("gap", "Windows Server Backup is not installed")},
    "smb": {"SCSI 0:0": ("gap", "SMB share")},
    "silent": {
        "SCSI 0:1": ("identity_mismatch", "says that it runs in VM"),
        "guest_storage": ("identity_mismatch", "correct the inventory"),
    },
    "switched_off": {"SCSI 0:1": ("gap", "the VM is off"), "guest_storage": ("unverified", "the VM is off")},
    "quiet": {"guest_storage": ("unverified", "the inventory gives it no winrm or psrp connection); give it")},
}


@pytest.fixture(scope="module")
def gaps(shared_lab: Callable[..., Any]) -> Any:
    made = shared_lab(WORLD)
    # The operator wrote the address of another VM's guest.
    made.guests["silent"].update(
        {key: made.guests["nowsb"][key] for key in ("ansible_host", "ansible_port", "ansible_password")}
    )
    made.inventory["all"]["vars"] = {
        "two_phase_backup_host_target": "E:",
        "two_phase_backup_guest_target": "C:",
        "two_phase_backup_poll_interval": 0,
        "two_phase_backup_allow_offline": True,
    }
    return made


@pytest.fixture(scope="module")
def found(gaps: Any) -> dict[str, dict[str, Any]]:
    return coverages(gaps.run("hyperv.passthrough.discover"))


def coverages(run: PlaybookRun) -> dict[str, dict[str, Any]]:
    return {
        task.host: task.result["ansible_facts"]["discover_coverage"]
        for task in run.tasks
        if "discover_coverage" in (task.result.get("ansible_facts") or {})
    }


def rows(coverage: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {disk["slot_text"] or disk["kind"]: disk for disk in coverage["disks"]}


def summary_of(run: PlaybookRun) -> list[str]:
    (lines,) = [task.result["msg"] for task in run.tasks if task.task.startswith("What each backup holds")]
    return list(lines)


def test_each_left_out_disk_that_the_guest_cannot_back_up_is_a_gap_with_its_reason(found: Any) -> None:
    told = rows(found["many"])
    assert set(told) == {"SCSI 0:0", *MANY}
    assert told["SCSI 0:0"]["coverage"] == "host"
    for where, reason in MANY.items():
        assert told[where]["coverage"] in ("gap", "unverified"), where
        assert reason in told[where]["reason"], where
    assert not found["many"]["complete"]
    assert len(found["many"]["uncovered"]) == len(MANY)
    assert found["many"]["guest_volumes"] == []


@pytest.mark.parametrize("name", OTHERS)
def test_each_guest_that_cannot_help_leaves_a_gap_with_its_reason(found: Any, name: str) -> None:
    told = rows(found[name])
    for where, (verdict, reason) in OTHERS[name].items():
        assert (told[where]["coverage"], reason in told[where]["reason"]) == (verdict, True), told[where]["reason"]
    assert not found[name]["complete"]


def test_gaps_stop_the_backup_before_anything_is_done_and_fail_only_their_vms(gaps: Any) -> None:
    run = gaps.run("hyperv.passthrough.two_phase_backup", "--limit", "bootpt,quiet")
    assert run.status == 2
    assert run.of("backup_set") == []
    assert [line.split(":")[0] for line in summary_of(run) if "FAILED" in line] == ["bootpt", "quiet"]
    assert not [line for line in summary_of(run) if "captured by" in line]


def test_accepted_gaps_let_the_backup_run_and_are_said_as_not_captured(gaps: Any, found: Any) -> None:
    names = [rows(found["many"])[where]["accept_as"][0] for where in MANY]
    names[0] = rows(found["many"])["SCSI 0:1"]["unique_id"]
    gaps.guests["many"]["two_phase_backup_accept_gaps"] = names
    gaps.guests["switched_off"]["two_phase_backup_accept_gaps"] = ["SCSI 0:1", "guest_unverified"]
    gaps.guests["quiet"]["two_phase_backup_guest_storage"] = "none"
    run = gaps.run("hyperv.passthrough.two_phase_backup", "--limit", "many,switched_off,quiet")
    assert run.status == 0, run.output
    lines = summary_of(run)
    missing = [line for line in lines if "NOT captured, accepted by the operator" in line]
    assert len(missing) == len(MANY) + 2
    assert len([line for line in lines if "captured by the host phase" in line]) == 3
    assert not [line for line in lines if "captured by the guest phase" in line]
    waived = {
        name: {waiver["kind"] for waiver in run.of("backup_set", name)[-1].result["set"]["waivers"]}
        for name in ("many", "switched_off", "quiet")
    }
    assert waived == {"many": {"accept_gap"}, "switched_off": {"accept_gap"}, "quiet": {"guest_storage_none"}}


def test_a_guest_of_another_vm_cannot_be_accepted(gaps: Any) -> None:
    gaps.guests["silent"]["two_phase_backup_accept_gaps"] = ["SCSI 0:1", "guest_unverified"]
    run = gaps.run("hyperv.passthrough.two_phase_backup", "--limit", "silent")
    assert run.status == 2
    assert run.of("backup_set") == []
    assert [line for line in summary_of(run) if line.startswith("silent: FAILED") and "correct the inventory" in line]


# --- what changed since discovery ---------------------------------------------------------------------------------

MOVING = r"""
name: moving
clock: 2026-10-01T20:00:00Z
luns:
  - {id: data, size: 16M, bus: iscsi}
  - {id: other, size: 16M, bus: iscsi, partitions: [{label: Other}]}
hosts:
  - name: hv01
    address: 127.63.0.1
    volumes: [{letter: C, size: 80G}, {letter: D, size: 80G}, {letter: E, size: 80G}]
    luns: [data, other]
  - {name: hv02, address: 127.63.0.2}
vms:
  - name: sql01
    host: hv01
    disks: [{slot: "scsi 0:0", vhd: 'D:\VMs\sql01\os.vhdx', size: 12M}, {slot: "scsi 0:1", lun: data}]
    guest:
      address: 127.63.1.1
      disks: [{slot: "scsi 0:0", partitions: [{letter: C, boot: true}]}, {slot: "scsi 0:1", partitions: [{letter: S}]}]
"""


def phases_with(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """Both phases from a plan that was made earlier, as they stand in the role."""
    common = {"set_id": "late", "coverage": plan, "poll_interval": 0}
    guest = {"target": "C:", "vm_id": plan["vm"]["id"], **common}
    host = {"target": "E:", "vm": plan["vm"]["id"], **common}
    return [
        {
            "hosts": "hyperv_guests",
            "gather_facts": False,
            "tasks": [
                {"hyperv.passthrough.guest_backup": guest, "ignore_errors": True},
                {"hyperv.passthrough.host_backup": host, "delegate_to": "hv01", "ignore_errors": True},
            ],
        }
    ]


def nothing_was_started(world: Any) -> bool:
    return all(machine.scheduler.tasks() == [] for machine in world.machines)


def test_a_lun_that_was_swapped_since_discovery_stops_both_phases_before_anything_is_started(
    lab: Callable[..., Any],
) -> None:
    made = lab(MOVING)
    plan = coverages(made.run("hyperv.passthrough.discover"))["sql01"]
    assert plan["complete"]
    (vm,) = made.world.vms
    drive = vm.controller("scsi", 0).drives[1]
    drive.host_resource = vm.host_resource_for(vm.host.disk_of_lun(made.world.luns["other"]).number)
    vm.guest.rescan()
    run = made.run(phases_with(plan))
    (guest,), (host,) = run.of("guest_backup"), run.of("host_backup")
    assert guest.result["error"]["kind"] == "changed_since_discovery", guest.result["msg"]
    assert host.result["error"]["kind"] == "changed_since_discovery"
    assert "SCSI 0:1 has another identity" in host.result["msg"]
    assert nothing_was_started(made.world)


def test_a_vm_that_moved_to_another_host_since_discovery_is_refused_there_where_it_was(lab: Callable[..., Any]) -> None:
    made = lab(MOVING)
    plan = coverages(made.run("hyperv.passthrough.discover"))["sql01"]
    (vm,) = made.world.vms
    old, new = made.world.machine("hv01"), made.world.machine("hv02")
    old.vms.remove(vm)
    new.vms.append(vm)
    run = made.run([{**phases_with(plan)[0], "tasks": phases_with(plan)[0]["tasks"][1:]}])
    (host,) = run.of("host_backup")
    assert host.result["error"]["kind"] == "unknown_vm"
    assert "look on the host that owns the VM now" in host.result["msg"]
    assert nothing_was_started(made.world)
