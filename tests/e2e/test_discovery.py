# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Discovery as an operator runs it: real ansible-playbook, real HTTP, a simulated world with every kind of disk."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from playbook_run import ROOT, PlaybookRun

pytestmark = pytest.mark.e2e

ASKED = ("formats", "passthrough", "special", "shared1", "checkpointed")
PLAYS = [
    {
        "hosts": "hyperv_hosts",
        "gather_facts": False,
        "tasks": [
            {"name": "whole", "hyperv.passthrough.disk_info": {"include_vhd_details": True}},
            {
                "name": "left out",
                "hyperv.passthrough.disk_info": {
                    "query": "[].{vm: name, disks: disks[?captured_by=='guest'].slot.controller_location}",
                },
            },
        ],
    },
    {
        "hosts": "formats:passthrough:special:shared1",
        "gather_facts": False,
        "tasks": [
            {"name": "whole", "hyperv.passthrough.guest_disk_info": {}},
            {
                "name": "letters",
                "hyperv.passthrough.guest_disk_info": {"query": "[?kind=='iscsi'].volumes[].letter"},
            },
        ],
    },
    {
        "hosts": "hv01",
        "gather_facts": False,
        "tasks": [
            {
                "name": "not a query",
                "hyperv.passthrough.disk_info": {"query": "[?name=="},
                "ignore_errors": True,
            },
            {
                "name": "unknown VM",
                "hyperv.passthrough.disk_info": {"vms": ["passthru"]},
                "ignore_errors": True,
            },
        ],
    },
]


@pytest.fixture(scope="module")
def everything(shared_lab: Callable[..., Any]) -> Any:
    return shared_lab("everything")


@pytest.fixture(scope="module")
def run(everything: Any) -> PlaybookRun:
    done: PlaybookRun = everything.run(PLAYS)
    assert done.status == 0, done.output
    return done


@pytest.fixture(scope="module")
def discovery(everything: Any) -> PlaybookRun:
    done: PlaybookRun = everything.run("hyperv.passthrough.discover")
    return done


def result(run: PlaybookRun, action: str, host: str, task: str) -> dict[str, Any]:
    (found,) = [one.result for one in run.of(action, host) if one.task == task]
    return found


def disks_of(run: PlaybookRun, name: str) -> dict[str, dict[str, Any]]:
    """Drives of a VM of hv01 by slot, as the host sees them."""
    (vm,) = [vm for vm in result(run, "disk_info", "hv01", "whole")["vms"] if vm["name"] == name]
    return {
        "{controller_type} {controller_number}:{controller_location}".format(**disk["slot"]): disk
        for disk in vm["disks"]
    }


def guest_disks(run: PlaybookRun, host: str) -> list[dict[str, Any]]:
    return list(result(run, "guest_disk_info", host, "whole")["disks"])


def by_letter(run: PlaybookRun, host: str) -> dict[str, dict[str, Any]]:
    return {volume["letter"]: disk for disk in guest_disks(run, host) for volume in disk["volumes"] if volume["letter"]}


def statuses(run: PlaybookRun) -> dict[str, dict[str, Any]]:
    """What the playbook remembered of each VM."""
    return {
        task.host: task.result["ansible_facts"]["discover_status"]
        for task in run.tasks
        if "discover_status" in (task.result.get("ansible_facts") or {})
    }


# --- the host's view ----------------------------------------------------------------------------------------------


def test_the_host_tells_every_format_of_a_virtual_hard_disk_with_its_size(run: PlaybookRun) -> None:
    disks = disks_of(run, "formats")
    told = {
        slot: (disk["attachment"], (disk["vhd"] or {}).get("format"), (disk["vhd"] or {}).get("type"))
        for slot, disk in disks.items()
    }
    assert told == {
        "IDE 0:0": ("virtual_hard_disk", "VHD", "fixed"),
        "IDE 0:1": ("virtual_hard_disk", "VHD", "dynamic"),
        "IDE 1:0": ("empty", None, None),
        "SCSI 0:0": ("virtual_hard_disk", "VHDX", "fixed"),
        "SCSI 0:1": ("virtual_hard_disk", "VHDX", "dynamic"),
        "SCSI 0:2": ("virtual_hard_disk", "VHDX", "differencing"),
        "SCSI 0:3": ("virtual_hard_disk", "VHDX", "fixed"),
        "SCSI 1:0": ("empty", None, None),
        "SCSI 1:63": ("dvd", None, None),
    }
    assert {disk["size_bytes"] for disk in disks.values() if disk["vhd"]} == {16 << 20}
    assert disks["SCSI 0:2"]["vhd"]["parent_path"] == "D:\\VMs\\formats\\base.vhdx"
    assert disks["SCSI 0:0"]["vhd"]["id"] == "11111111-2222-4333-8444-555555555555"
    assert disks["SCSI 0:3"]["vhd"]["logical_sector_bytes"] == 4096


def test_the_host_leads_every_pass_through_disk_to_its_lun(run: PlaybookRun) -> None:
    disks = disks_of(run, "passthrough")
    assert [disk["attachment"] for disk in disks.values()] == ["virtual_hard_disk"] + ["pass_through"] * 6
    luns = {lun["unique_id"]: lun for lun in result(run, "disk_info", "hv01", "whole")["luns"]}
    assert {slot: luns[disk["unique_id"]]["bus_type"] for slot, disk in disks.items() if disk["lun"]} == {
        "SCSI 0:1": "iSCSI",
        "SCSI 0:2": "Fibre Channel",
        "SCSI 0:3": "SATA",
        "SCSI 0:4": "iSCSI",
        "SCSI 0:5": "SAS",
        "SCSI 0:6": "Fibre Channel",
    }
    assert disks["SCSI 0:2"]["unique_id"] == "624A9370AAAABBBBCCCCDDDD00011000"
    assert [slot for slot, disk in disks.items() if disk["lun"] and disk["lun"]["weak_identity"]] == ["SCSI 0:5"]
    assert {disk["captured_by"] for slot, disk in disks.items() if disk["lun"]} == {"guest"}
    assert [one["slot"]["controller_location"] for one in luns[disks["SCSI 0:2"]["unique_id"]]["attached_to"]] == [2]
    assert [one["vm_name"] for one in luns[disks["SCSI 0:2"]["unique_id"]]["attached_to"]] == ["passthrough"]


def test_shared_disks_ports_replicas_and_clustered_vms_are_told_apart(run: PlaybookRun) -> None:
    vms = {vm["name"]: vm for vm in result(run, "disk_info", "hv01", "whole")["vms"]}
    shared = disks_of(run, "shared one")
    assert [disk["attachment"] for disk in shared.values()] == ["virtual_hard_disk"] + ["shared_virtual_hard_disk"] * 2
    assert shared["SCSI 0:2"]["vhd"]["format"] == "VHDSet"
    assert [port["san"] for port in vms["special disks"]["fibre_channel_ports"]] == ["Fabric-A"]
    adapters = vms["formats"]["network_adapters"]
    assert [(one["switch_name"], one["is_synthetic"]) for one in adapters] == [("External", True), ("Private", True)]
    assert len({one["mac_address"] for one in adapters}) == 2
    assert {name for name, vm in vms.items() if vm["replication"]["is_replica"]} == {"replica"}
    assert {name for name, vm in vms.items() if vm["is_clustered"]} == {"clustered"}
    assert {name: vm["state"] for name, vm in vms.items() if vm["state"] != "running"} == {
        "replica": "off",
        "checkpointed": "saved",
        "ide passthrough": "paused",
    }
    assert [point["name"] for point in vms["checkpointed"]["checkpoints"]] == ["before update", "second"]


def test_a_query_is_applied_to_the_vms_and_one_that_is_none_is_refused(run: PlaybookRun) -> None:
    chosen = {vm["vm"]: vm["disks"] for vm in result(run, "disk_info", "hv01", "left out")["vms"]}
    assert chosen["passthrough"] == [1, 2, 3, 4, 5, 6]
    assert chosen["formats"] == []
    refused = result(run, "disk_info", "hv01", "not a query")
    assert refused["error"]["kind"] == "invalid_query"


def test_an_unknown_vm_is_refused_with_the_likeliest_names(run: PlaybookRun) -> None:
    refused = result(run, "disk_info", "hv01", "unknown VM")
    assert refused["error"]["kind"] == "unknown_vm"
    assert refused["error"]["candidates"][0]["name"] == "passthrough"
    assert "The host has no VM 'passthru'" in refused["msg"]


# --- the guest's view ---------------------------------------------------------------------------------------------


def test_a_guest_tells_what_each_of_its_disks_is(run: PlaybookRun) -> None:
    disks = by_letter(run, "special")
    assert {letter: disk["kind"] for letter, disk in disks.items()} == {
        "C": "virtual_hard_disk",
        "K": "virtual_hard_disk",
        "N": "virtual_hard_disk",
        "I": "iscsi",
        "V": "virtual_fibre_channel",
        "P": "storage_space",
        "T": "pass_through",
        "Y": "virtual_hard_disk",
    }
    assert disks["I"]["iscsi"]["target"] == "iqn.2005-10.org.freenas.ctl:guest-iscsi"
    kinds = [disk["kind"] for disk in guest_disks(run, "special")]
    assert kinds.count("pass_through") == 1
    assert sum(disk["is_dynamic"] for disk in guest_disks(run, "special")) == 2
    assert sum(disk["in_storage_pool"] for disk in guest_disks(run, "special")) == 1
    locks = {volume["letter"]: volume["bitlocker"]["lock"] for letter in "KN" for volume in disks[letter]["volumes"]}
    assert locks == {"K": "unlocked", "N": "locked"}


def test_a_guest_tells_offline_disks_file_systems_and_mount_folders(run: PlaybookRun) -> None:
    disks = by_letter(run, "passthrough")
    systems = {letter: disk["volumes"][0]["file_system"] for letter, disk in disks.items()}
    assert systems == {"C": "NTFS", "E": "NTFS", "F": "ReFS", "G": "exFAT", "H": "NTFS"}
    assert sum(disk["is_offline"] for disk in guest_disks(run, "passthrough")) == 1
    assert {disk["kind"] for disk in guest_disks(run, "passthrough")} == {"virtual_hard_disk", "pass_through"}
    mounted = [
        volume for disk in guest_disks(run, "formats") for volume in disk["volumes"] if volume["label"] == "Mounted"
    ]
    assert [volume["access_paths"] for volume in mounted] == [["C:\\Data\\"]]


def test_a_query_is_applied_to_the_disks_of_a_guest(run: PlaybookRun) -> None:
    assert result(run, "guest_disk_info", "special", "letters")["disks"] == ["I"]
    assert result(run, "guest_disk_info", "formats", "letters")["disks"] == []


@pytest.mark.parametrize(("task", "host"), [("disk_info", "hv01"), ("guest_disk_info", "special")])
def test_the_documented_return_keys_are_there_and_no_others(run: PlaybookRun, task: str, host: str) -> None:
    documented = _returns(ROOT / "plugins" / "modules" / f"{task}.py")
    told = result(run, task, host, "whole")
    own = set(told) - {"changed", "failed", "invocation", "warnings", "_ansible_no_log"}
    assert own == set(documented)
    for name, entry in documented.items():
        _holds(told[name], entry, name)


def _returns(module: Path) -> dict[str, Any]:
    for node in ast.parse(module.read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "RETURN":
            assert isinstance(node.value, ast.Constant)
            return dict(yaml.safe_load(str(node.value.value)))
    raise AssertionError(f"{module} documents no return values")


def _holds(value: Any, entry: dict[str, Any], where: str) -> None:
    """Every documented key is in every element, at every level."""
    for item in value if isinstance(value, list) else [value]:
        for name, inner in (entry.get("contains") or {}).items():
            assert name in item, f"{where}.{name}"
            _holds(item[name], inner, f"{where}.{name}")


# --- both together: the playbook ----------------------------------------------------------------------------------


def test_discovery_of_everything_gives_each_disk_its_phase(discovery: PlaybookRun) -> None:
    found = statuses(discovery)
    told = {
        name: {disk["slot_text"] or disk["kind"]: disk["coverage"] for disk in found[name]["coverage"]["disks"]}
        for name in ("passthrough", "special", "shared1", "checkpointed", "primary")
    }
    assert told == {
        "passthrough": {
            "SCSI 0:0": "host",
            "SCSI 0:1": "guest",
            "SCSI 0:2": "guest",
            "SCSI 0:3": "gap",
            "SCSI 0:4": "gap",
            "SCSI 0:5": "identity_mismatch",
            "SCSI 0:6": "guest",
        },
        "special": {
            **{f"SCSI 0:{location}": "host" for location in range(6)},
            "SCSI 0:6": "gap",
            "virtual_fibre_channel": "guest",
            "iscsi": "guest",
            "storage_space": "host",
        },
        "shared1": {"SCSI 0:0": "host", "SCSI 0:1": "gap", "SCSI 0:2": "gap"},
        "checkpointed": {"SCSI 0:0": "host", "guest_storage": "unverified"},
        "primary": {"SCSI 0:0": "host", "guest_storage": "unverified"},
    }
    assert len(found["passthrough"]["coverage"]["disks"]) == 7
    assert any("NTDS" in note for note in found["special"]["coverage"]["notes"])


def test_discovery_ends_with_a_table_and_fails_for_each_incomplete_vm(discovery: PlaybookRun) -> None:
    assert discovery.status == 2
    (table,) = [task.result["msg"] for task in discovery.tasks if task.task == "Coverage of every disk"]
    assert not [line for line in table if " ?  " in line and "guest_unverified" not in line]
    assert [line for line in table if line.startswith("passthrough") and "SCSI 0:5" in line and "weak identity" in line]
    assert [line for line in table if line.startswith("clustered: VM 'clustered' belongs to a failover cluster")]
    assert [line for line in table if line.startswith("replica: VM 'replica' is a replica")]
    passed = {task.host for task in discovery.tasks if task.task.startswith("Fail for each VM") and task.status == "ok"}
    assert passed == {"formats", "replica"}


def test_the_exit_code_is_that_of_the_vms_that_were_asked_for(everything: Any) -> None:
    assert everything.run("hyperv.passthrough.discover", "--limit", "formats").status == 0
    assert everything.run("hyperv.passthrough.discover", "--limit", "passthrough").status == 2


def test_looking_changes_nothing(everything: Any, run: PlaybookRun, discovery: PlaybookRun) -> None:
    assert [task.task for task in (*run.tasks, *discovery.tasks) if task.status == "changed"] == []
    assert everything.world.check() == []
