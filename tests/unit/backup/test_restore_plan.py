# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of a restore: per disk keep or overwrite with the evidence, and everything that forbids it, as a table."""

from __future__ import annotations

import json
from typing import Any

import pytest

import unit.backup.restore_world as world
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.restore_plan import (
    RestoreOptions,
    restore_plan,
)
from unit.backup.restore_world import IQN, ISCSI, LUN, NEW_LUN, OTHER_VM, VM_ID, backup_set, lun, user, view, vm

SILENT = {"failed": True, "msg": "the host does not answer.", "error": {"kind": "unreachable"}}


def plan(views: dict[str, Any] | None = None, item: Any = None, **options: Any) -> dict[str, Any]:
    more = {key: options.pop(key) for key in ("host_check", "versions", "guest") if key in options}
    chosen = RestoreOptions(**{"target_host": "hv01", **options})
    made = restore_plan(item or backup_set(), {"hv01": view(lun())} if views is None else views, chosen, **more)
    assert json.loads(json.dumps(made)) == made
    assert made["refused"] == bool(made["findings"]) == bool(made["message"])
    return made


def kinds(made: dict[str, Any]) -> list[str]:
    return [one["kind"] for one in made["findings"]]


def actions(made: dict[str, Any]) -> dict[str, str]:
    return {row["label"]: row["action"] for row in made["disks"]}


def test_the_vm_died_and_the_luns_are_intact_so_they_are_kept() -> None:
    made = plan()
    assert kinds(made) == []
    assert actions(made) == {"SCSI 0:0": "with_vm", "SCSI 0:1": "keep", ISCSI: "in_guest"}
    assert made["vm"]["exists"] is False
    assert made["phases"] == ["host", "guest"]
    assert [(one["slot"], one["lun"]["unique_id"]) for one in made["remap"]] == [(world.slot(1), LUN)]
    assert made["iscsi"][0]["portal"] == "192.0.2.10"
    assert any("automatic start of VM db01 back to Start" in step for step in made["steps"])


def test_a_blank_lun_is_overwritten() -> None:
    made = plan({"hv01": view(lun(partition_style="RAW", guid=None))})
    assert (kinds(made), actions(made)["SCSI 0:1"]) == ([], "overwrite")
    (entry,) = [one for one in made["guest_disks"] if one["unique_id"] == LUN]
    assert entry["entry"]["evidence"]["guest"]["partitions"][1]["offset_bytes"] == 17 * 2**20


@pytest.mark.parametrize("name", [LUN, LUN.lower(), "SCSI 0:1", "scsi 0:1"])
def test_a_disk_that_is_named_is_overwritten_although_it_is_as_recorded(name: str) -> None:
    made = plan(overwrite_disks=[name])
    assert (kinds(made), actions(made)["SCSI 0:1"]) == ([], "overwrite")


def test_another_partition_table_is_refused_until_the_disk_is_named() -> None:
    views = {"hv01": view(lun(guid="{bbbbbbbb-0000-4000-8000-000000000009}"))}
    made = plan(views)
    assert (kinds(made), actions(made)["SCSI 0:1"]) == (["lun_changed"], "keep")
    assert made["findings"][0]["accept_with"] == "overwrite_disks"
    assert kinds(plan(views, overwrite_disks=[LUN])) == []


def test_a_replaced_array_is_mapped_and_its_blank_lun_overwritten() -> None:
    new = lun(NEW_LUN, partition_style="RAW", guid=None, serial_number="B2", size_bytes=11 * world.GIB)
    made = plan({"hv01": view(new)}, lun_map={LUN: NEW_LUN})
    assert (kinds(made), actions(made)["SCSI 0:1"]) == ([], "map_overwrite")
    assert made["remap"][0]["lun"]["unique_id"] == NEW_LUN
    entry = next(one for one in made["guest_disks"] if one["slot"])
    assert (entry["unique_id"], entry["entry"]["unique_id"], entry["size_bytes"]) == (NEW_LUN, NEW_LUN, 11 * world.GIB)


def test_a_replica_of_the_array_under_a_new_identity_is_kept() -> None:
    made = plan({"hv01": view(lun(NEW_LUN, serial_number="B2"))}, lun_map={LUN: NEW_LUN})
    assert (kinds(made), actions(made)["SCSI 0:1"]) == ([], "map_keep")


TABLE: list[tuple[str, dict[str, Any], dict[str, Any], list[str]]] = [
    ("the LUN is missing", {"hv01": view()}, {}, ["lun_missing"]),
    ("the LUN is smaller", {"hv01": view(lun(size_bytes=5))}, {}, ["lun_too_small"]),
    ("the LUN is online", {"hv01": view(lun(is_offline=False))}, {}, ["lun_online"]),
    ("the LUN is used by another VM", {"hv01": view(lun(attached_to=[user()]))}, {}, ["lun_in_use"]),
    ("the LUN is this VM's own", {"hv01": view(lun(attached_to=[user(VM_ID)]))}, {}, []),
    ("the LUN is a boot disk", {"hv01": view(lun(is_boot=True))}, {}, ["lun_boot_or_system"]),
    ("the LUN is clustered", {"hv01": view(lun(is_clustered=True))}, {}, ["lun_clustered"]),
    (
        "two LUNs have the identity and nothing tells them apart",
        {"hv01": view(lun(), lun(number=8))},
        {},
        ["lun_ambiguous"],
    ),
    (
        "two LUNs have the identity and one is the recorded disk",
        {"hv01": view(lun(), lun(number=8, guid=None, partition_style="RAW", serial_number="B2"))},
        {},
        [],
    ),
    (
        "a weak identity that nothing confirms",
        {"hv01": view(lun(weak_identity=True, guid=None, serial_number="", partition_style="RAW"))},
        {},
        ["lun_weak"],
    ),
    ("a weak identity that the table confirms", {"hv01": view(lun(weak_identity=True))}, {}, []),
    (
        "another host uses the LUN",
        {"hv01": view(lun()), "hv02": view(lun(attached_to=[user()]))},
        {},
        ["lun_in_use"],
    ),
    ("another host has it online", {"hv01": view(lun()), "hv02": view(lun(is_offline=False))}, {}, ["lun_in_use"]),
    ("another host merely sees it", {"hv01": view(lun()), "hv02": view(lun())}, {}, []),
    ("the VM lives elsewhere", {"hv01": view(lun()), "hv02": view(vms=(vm(),))}, {}, ["vm_elsewhere"]),
    ("the VM is here", {"hv01": view(lun(), vms=(vm(),))}, {}, ["vm_exists"]),
    ("the VM is here and named", {"hv01": view(lun(), vms=(vm(),))}, {"overwrite_vm": VM_ID.lower()}, []),
    (
        "another VM is named",
        {"hv01": view(lun(), vms=(vm(),))},
        {"overwrite_vm": OTHER_VM},
        ["overwrite_vm_mismatch"],
    ),
    (
        "the VM's name is no GUID",
        {"hv01": view(lun(), vms=(vm(),))},
        {"overwrite_vm": "db01"},
        ["overwrite_vm_mismatch"],
    ),
    (
        "a replica is never replaced",
        {"hv01": view(lun(), vms=(vm(replication={"is_replica": True}),))},
        {"overwrite_vm": VM_ID},
        ["vm_is_replica"],
    ),
    (
        "a clustered VM is not replaced",
        {"hv01": view(lun(), vms=(vm(is_clustered=True),))},
        {"overwrite_vm": VM_ID},
        ["vm_clustered"],
    ),
    ("an expected host was not asked", {"hv01": view(lun())}, {"hosts_expected": ["hv01", "hv02"]}, ["host_not_seen"]),
    ("a host does not answer", {"hv01": view(lun()), "hv02": SILENT}, {}, ["host_not_seen"]),
    (
        "an unseen host is accepted by name",
        {"hv01": view(lun()), "hv02": SILENT},
        {"accept_unseen_hosts": ["hv02"]},
        [],
    ),
    ("the target host does not answer", {"hv01": SILENT}, {}, ["target_host_not_seen"]),
    ("the set is of another VM", {"hv01": view(lun())}, {"vm_id": OTHER_VM}, ["wrong_set"]),
    ("lun_map names no recorded disk", {"hv01": view(lun())}, {"lun_map": {"1234": NEW_LUN}}, ["lun_map_unknown"]),
    ("lun_map names a LUN that is not there", {"hv01": view(lun())}, {"lun_map": {LUN: NEW_LUN}}, ["lun_missing"]),
    (
        "lun_map gives two disks one LUN",
        {"hv01": view(lun(NEW_LUN))},
        {"lun_map": {LUN: NEW_LUN, ISCSI: NEW_LUN}},
        ["lun_map_twice"],
    ),
    ("overwrite_disks names nothing", {"hv01": view(lun())}, {"overwrite_disks": ["SCSI 0:9"]}, ["overwrite_unknown"]),
    (
        "only the guest phase of a VM that is not there",
        {"hv01": view(lun())},
        {"restore_phase": "guest"},
        ["vm_missing"],
    ),
    (
        "only the guest phase of a VM that runs",
        {"hv01": view(lun(attached_to=[user(VM_ID)]), vms=(vm(state="running"),))},
        {"restore_phase": "guest"},
        [],
    ),
]


@pytest.mark.parametrize(("views", "options", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_what_forbids_a_restore(views: dict[str, Any], options: dict[str, Any], expected: list[str]) -> None:
    assert kinds(plan(views, **options)) == expected


def test_all_findings_come_in_one_message() -> None:
    views = {"hv01": view(lun(size_bytes=5, is_offline=False), vms=(vm(),)), "hv02": SILENT}
    made = plan(views)
    assert kinds(made) == ["host_not_seen", "vm_exists", "lun_online", "lun_too_small"]
    assert all(one["sentence"].split(";")[0][10:40] in made["message"] for one in made["findings"])
    assert made["message"].startswith("4 findings")


def test_findings_of_the_host_itself_are_taken_over_and_not_said_twice() -> None:
    check = {"findings": [{"kind": "no_room", "sentence": "no room"}, {"kind": "vm_exists", "sentence": "again"}]}
    views = {"hv01": view(lun(), vms=(vm(),))}
    assert kinds(plan(views, host_check=check)) == ["vm_exists", "no_room"]
    failed = {"failed": True, "msg": "No rights.", "error": {"kind": "rights_missing"}}
    assert kinds(plan(host_check=failed)) == ["rights_missing"]


def test_a_set_that_cannot_be_used_has_no_phases() -> None:
    made = plan(item=backup_set(state="lost", reasons=("gone",)))
    assert (kinds(made), made["phases"], made["remap"]) == (["set_lost"], [], [])


def test_a_guest_half_that_failed_is_refused_unless_only_the_host_phase_is_wanted() -> None:
    item = backup_set(state="failed", guest=())
    assert kinds(plan(item=item)) == ["guest_half_failed"]
    made = plan(item=item, restore_phase="host")
    assert (kinds(made), made["phases"]) == ([], ["host"])


def test_a_phase_that_was_not_asked_for_leaves_its_disks_alone() -> None:
    blank = {"hv01": view(lun(partition_style="RAW", guid=None))}
    made = plan(blank, restore_phase="host")
    assert actions(made) == {"SCSI 0:0": "with_vm", "SCSI 0:1": "not_asked", ISCSI: "not_asked"}
    assert (len(made["remap"]), made["guest_disks"]) == (1, [])
    views = {"hv01": view(lun(attached_to=[user(VM_ID)]), vms=(vm(state="running"),))}
    made = plan(views, restore_phase="guest")
    assert (actions(made)["SCSI 0:0"], made["remap"]) == ("not_asked", [])


def test_a_secret_that_is_not_known_is_found_before_anything_is_done() -> None:
    rows = world.disk_rows()
    rows[2]["evidence"]["guest"]["iscsi"]["authentication"] = "ONEWAYCHAP"
    item = backup_set(disks=tuple(rows))
    assert kinds(plan(item=item)) == ["chap_secret_missing"]
    assert kinds(plan(item=item, chap_targets=[IQN])) == []


def test_a_gap_that_was_accepted_is_attached_again_and_never_called_restored() -> None:
    rows = world.disk_rows()
    rows[1].update(coverage="gap", reason="FAT32")
    views = {"hv01": view(lun(partition_style="RAW", guid=None))}
    made = plan(views, item=backup_set(disks=tuple(rows)))
    assert actions(made)["SCSI 0:1"] == "not_captured"
    assert made["remap"][0]["lun"]["unique_id"] == LUN
    assert [one["kind"] for one in made["guest_disks"]] == ["iscsi"]


# -- once the guest answers, and on reruns ---------------------------------------------------------------------------


def guest_disk(**changes: Any) -> dict[str, Any]:
    facts = {
        "unique_id": LUN,
        "partition_style": "GPT",
        "guid": world.GUID,
        "is_offline": False,
        "weak_identity": False,
    }
    return {**facts, "size_bytes": 10 * world.GIB, "volumes": [world.volume()], **changes}


def test_the_guest_makes_the_plan_of_its_disks_exact() -> None:
    blank = guest_disk(unique_id=ISCSI, partition_style="RAW", guid=None, volumes=[], size_bytes=12 * world.GIB)
    made = plan(guest={"disks": [guest_disk(), blank]})
    rows = {row["unique_id"]: row for row in made["guest_disks"]}
    assert (rows[LUN]["action"], rows[LUN]["needs_preparing"]) == ("keep", False)
    assert (rows[ISCSI]["action"], rows[ISCSI]["needs_preparing"]) == ("overwrite", True)
    assert rows[ISCSI]["size_bytes"] == 12 * world.GIB
    assert rows[ISCSI]["entry"]["volumes"][0]["letter"] == "M"


def test_a_disk_that_the_guest_does_not_see_is_found_then() -> None:
    assert kinds(plan(guest={"disks": [guest_disk()]})) == ["disk_missing"]


def test_what_only_content_can_tell_is_left_to_the_restore_itself() -> None:
    fresh = world.volume(serial_number=5)
    other = guest_disk(guid="{dddddddd-0000-4000-8000-000000000004}", volumes=[fresh])
    iscsi = guest_disk(unique_id=ISCSI, guid="{aaaaaaaa-0000-4000-8000-000000000002}")
    made = plan(guest={"disks": [other, iscsi]})
    assert (kinds(made), made["guest_disks"][0]["action"]) == ([], "in_guest")


def test_a_vm_that_this_restore_brought_back_is_no_obstacle_to_a_rerun() -> None:
    views = {"hv01": view(lun(attached_to=[user(VM_ID)]), vms=(vm(state="running"),))}
    made = plan(views, host_check={"restored": True, "changed": False, "findings": []})
    assert (kinds(made), made["vm"]["overwrite"]) == ([], False)


def test_a_vm_that_did_not_run_need_not_be_started() -> None:
    assert plan()["start"] is True
    assert plan(item=backup_set(vm={"id": VM_ID, "name": "db01", "state": "off"}))["start"] is False
    assert plan(item=backup_set(host=(world.attempt("host", consistency="off"),)))["start"] is False
