# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the target host itself says against a restore, as a table."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

import unit.backup.restore_world as world
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.backup_set import BackupSet
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.engine import Capabilities, TargetListing
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.host_restore_checks import (
    HostFacts,
    HostWishes,
    host_findings,
)
from unit.backup.restore_world import HOST_VERSION, OTHER_VM, VM_ID, backup_set, vm

PATH = "D:\\VMs\\db01\\os.vhdx"
MIB = 2**20
ABLE = Capabilities(engine="wsb", available=True, restores_vms=True)
LISTED = TargetListing(versions=(HOST_VERSION,), items={VM_ID: VM_ID})
WISHES = HostWishes(target="E:", version=HOST_VERSION)
NAMED = dataclasses.replace(WISHES, overwrite_vm=VM_ID.lower())


def item(**vm_facts: Any) -> BackupSet:
    rows = world.disk_rows()
    rows[0]["evidence"]["host"]["file_size_bytes"] = 100 * MIB
    facts = {
        "id": VM_ID,
        "name": "db01",
        "configuration": {"data_root": "C:\\ProgramData\\Microsoft\\Windows\\Hyper-V"},
        "network_adapters": [
            {"name": "Network Adapter", "switch_name": "External"},
            {"name": "Spare", "switch_name": None},
        ],
        "fibre_channel_ports": [{"wwpn": "c003ff0000000001", "san": "Fabric-A"}],
        **vm_facts,
    }
    return backup_set(disks=tuple(rows), vm=facts)


def volumes(free: int = 1000 * MIB, letters: str = "CD") -> list[dict[str, Any]]:
    return [{"path": letter, "letter": letter, "free_bytes": free} for letter in letters]


def facts(**changes: Any) -> HostFacts:
    known: dict[str, Any] = {
        "name": "HV01",
        "vms": [],
        "volumes": volumes(),
        "files": {PATH: None},
        "switches": ["External"],
        "virtual_sans": ["Fabric-A"],
        "engine": ABLE,
        "listing": LISTED,
        **changes,
    }
    return HostFacts(**known)


USER = vm(OTHER_VM, name="other", disks=[{"path": PATH.upper()}])

TABLE: list[tuple[str, dict[str, Any], HostWishes, list[str]]] = [
    ("nothing is in the way", {}, WISHES, []),
    ("the feature is missing", {"engine": dataclasses.replace(ABLE, available=False, kind="wbadmin_missing"), "listing": None},
     WISHES, ["wbadmin_missing"]),
    ("the target does not answer", {"listing": TargetListing(versions=None, reason="not ready")}, WISHES, ["target_unreadable"]),
    ("the version is gone", {"listing": TargetListing(versions=())}, WISHES, ["version_not_listed"]),
    ("the VM is not in the version", {"listing": TargetListing(versions=(HOST_VERSION,))}, WISHES, ["items_not_listed"]),
    ("the VM exists", {"vms": [vm()]}, WISHES, ["vm_exists"]),
    ("the VM exists and runs", {"vms": [vm(state="running")]}, NAMED, ["vm_not_off"]),
    ("the VM runs, but only a plan is wanted", {"vms": [vm(state="running")]},
     dataclasses.replace(NAMED, planned_only=True), []),
    ("the VM is off and named", {"vms": [vm()], "files": {PATH: 5}}, NAMED, []),
    ("another VM is named", {"vms": [vm()]}, dataclasses.replace(WISHES, overwrite_vm=OTHER_VM), ["overwrite_vm_mismatch"]),
    ("the VM is busy", {"vms": [vm(busy="merging_disks")]}, NAMED, ["vm_busy"]),
    ("the VM is a replica", {"vms": [vm(replication={"is_replica": True})]}, NAMED, ["vm_is_replica"]),
    ("the VM is clustered", {"vms": [vm(is_clustered=True)]}, NAMED, ["vm_clustered"]),
    ("an earlier attempt of this restore left the VM", {"vms": [vm()], "began_before": True}, WISHES, []),
    ("its files outlived it", {"files": {PATH: 5}}, WISHES, ["vhd_exists"]),
    ("its files outlived it and it is named", {"files": {PATH: 5}}, NAMED, []),
    ("an earlier attempt left the files", {"files": {PATH: 5}, "began_before": True}, WISHES, []),
    ("another VM has its file", {"vms": [USER], "files": {PATH: 5}}, NAMED, ["vhd_in_use"]),
    ("a volume is missing", {"volumes": volumes(letters="C")}, WISHES, ["volume_missing"]),
    ("no room", {"volumes": volumes(99 * MIB)}, WISHES, ["no_room"]),
    ("room once the old file is gone", {"volumes": volumes(99 * MIB), "files": {PATH: 2 * MIB}}, NAMED, []),
    ("the switch is missing", {"switches": ["Rebuilt"]}, WISHES, ["switch_unknown"]),
    ("the switch is mapped", {"switches": ["Rebuilt"]}, dataclasses.replace(WISHES, switch_map={"external": "rebuilt"}), []),
    ("the switch is given up", {"switches": []}, dataclasses.replace(WISHES, switch_map={"External": ""}), []),
    ("the virtual SAN is missing", {"virtual_sans": []}, WISHES, ["vsan_unknown"]),
    ("the virtual SAN is mapped to none that is there", {}, dataclasses.replace(WISHES, vsan_map={"Fabric-A": "B"}), ["vsan_unknown"]),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "wishes", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_what_forbids_a_restore_on_this_host(changes: dict[str, Any], wishes: HostWishes, expected: list[str]) -> None:
    found = host_findings(item(), facts(**changes), wishes)
    assert [one.kind for one in found] == expected
    assert all(one.sentence for one in found)


def test_an_older_set_without_network_and_sizes_is_still_checked() -> None:
    old = backup_set()
    assert host_findings(old, facts(switches=[], virtual_sans=[]), WISHES) == []
    assert [one.kind for one in host_findings(old, facts(volumes=[]), WISHES)] == ["volume_missing"]
