# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which pass-through drives go and come: tables over what disk_info tells of a VM and of the host's LUNs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv import Slot
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.disk_selector import DiskSelector
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.passthrough_plan import (
    PassthroughPlan,
    Wanted,
    plan_attached,
    plan_detached,
    plan_passthrough,
)

VM_ID = "11111111-0000-4000-8000-000000000001"


def slot(location: int, kind: str = "SCSI", number: int = 0) -> Slot:
    return Slot(controller_type=kind, controller_number=number, controller_location=location)


def lun(number: int | None, **more: Any) -> dict[str, Any]:
    return {
        "unique_id": f"600A0{number}",
        "unique_id_format": 3,
        "serial_number": f"S{number}",
        "number": number,
        "friendly_name": "NETAPP LUN",
        "size_bytes": 10**9,
        "partition_style": "GPT",
        "guid": None,
        "signature": None,
        "weak_identity": False,
        "is_offline": True,
        "is_boot": False,
        "is_system": False,
        "is_clustered": False,
        "attached_to": [],
        **more,
    }


IDENTITY = (
    "unique_id",
    "unique_id_format",
    "serial_number",
    "number",
    "friendly_name",
    "size_bytes",
    "partition_style",
    "guid",
    "signature",
    "weak_identity",
)


def drive(at: Slot, attachment: str, of: Mapping[str, Any] | None = None, path: str | None = None) -> dict[str, Any]:
    return {
        "slot": vars(at),
        "drive_id": f"Microsoft:{VM_ID}\\{at.describe()}\\D",
        "attachment": attachment,
        "path": path,
        "lun": {name: of[name] for name in IDENTITY} if of is not None else None,
        "unique_id": of["unique_id"] if of is not None else None,
    }


def vm(*disks: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "id": VM_ID,
        "name": "erp01",
        "state": "off",
        "busy": None,
        "replication": {"is_replica": False},
        "is_clustered": False,
        "controllers": [
            {"id": "ide", "type": "IDE", "number": 0},
            {"id": "scsi", "type": "SCSI", "number": 0},
        ],
        "disks": list(disks),
        **more,
    }


def wanted(location: int, of: Mapping[str, Any]) -> Wanted:
    return Wanted(slot=slot(location), lun=DiskSelector(unique_id=of["unique_id"]))


def steps(plan: PassthroughPlan) -> list[tuple[str, int | None, str | None]]:
    assert plan.findings == ()
    return [
        (step.kind, step.slot.controller_location if step.slot else None, step.lun.unique_id if step.lun else None)
        for step in plan.steps
    ]


def kinds(plan: PassthroughPlan) -> list[str]:
    return [finding.kind for finding in plan.findings]


A, B, C = lun(1), lun(2), lun(3)
OS = drive(slot(0), "virtual_hard_disk", path="D:\\os.vhdx")
DVD = drive(slot(9), "dvd")


def test_what_is_as_wanted_needs_no_step_whatever_else_is_true_of_the_vm() -> None:
    here = vm(OS, drive(slot(1), "pass_through", A), state="running", busy="merging_disks")
    luns = [{**A, "is_offline": False, "attached_to": [{"vm_id": VM_ID, "vm_name": "erp01", "slot": vars(slot(1))}]}, B]
    assert steps(plan_attached(here, luns, wanted(1, A))) == []
    assert steps(plan_passthrough(here, luns, [wanted(1, A)])) == []
    assert steps(plan_detached(here, luns, slot=slot(5))) == []
    assert steps(plan_detached(here, luns, lun=DiskSelector(unique_id="600A02"))) == []


def test_remapping_puts_every_lun_at_its_slot_and_removes_what_leads_to_nothing() -> None:
    here = vm(
        OS,
        DVD,
        drive(slot(1), "pass_through", B),
        drive(slot(2), "unresolved_pass_through"),
        drive(slot(3), "unresolved_pass_through"),
        drive(slot(4), "pass_through", A),
        drive(slot(5), "pass_through", C),
    )
    plan = plan_passthrough(here, [A, B, C], [wanted(1, A), wanted(2, B)])
    assert steps(plan) == [
        ("detach", 1, "600A02"),
        ("detach", 4, "600A01"),
        ("detach", 2, None),
        ("detach", 3, None),
        ("attach", 1, "600A01"),
        ("attach", 2, "600A02"),
    ]


def test_a_lun_is_taken_offline_right_before_it_is_attached_and_only_when_allowed() -> None:
    online = {**A, "is_offline": False}
    assert kinds(plan_passthrough(vm(OS), [online], [wanted(1, A)])) == ["lun_online"]
    plan = plan_passthrough(vm(OS), [online], [wanted(1, A)], take_offline=True)
    assert steps(plan) == [("take_offline", None, "600A01"), ("attach", 1, "600A01")]
    boot = {**online, "is_boot": True}
    assert kinds(plan_passthrough(vm(OS), [boot], [wanted(1, A)], take_offline=True)) == ["lun_in_use"]


OTHER_VM = [{"vm_id": "OTHER", "vm_name": "live01", "slot": vars(slot(3))}]


@pytest.mark.parametrize(
    ("here", "luns", "kind"),
    [
        (vm(OS, state="running"), [A], "vm_not_off"),
        (vm(OS, state="paused"), [A], "vm_not_off"),
        (vm(OS, state="unknown (7)"), [A], "vm_not_off"),
        (vm(OS, state="saved"), [A], "vm_saved"),
        (vm(OS, busy="merging_disks"), [A], "vm_busy"),
        (vm(OS, replication={"is_replica": True}), [A], "replica"),
        (vm(OS, is_clustered=True), [A], "clustered"),
        (vm(drive(slot(1), "virtual_hard_disk", path="D:\\x.vhdx")), [A], "slot_taken"),
        (vm(drive(slot(1), "dvd")), [A], "slot_taken"),
        (vm(drive(slot(1), "empty")), [A], "slot_taken"),
        (vm(OS, controllers=[]), [A], "no_such_controller"),
        (vm(OS), [{**A, "attached_to": OTHER_VM}], "lun_attached_elsewhere"),
        (vm(OS), [{**A, "is_system": True, "is_offline": False}], "lun_in_use"),
        (vm(OS), [{**A, "is_clustered": True}], "lun_in_use"),
        (vm(OS), [{**A, "number": None}], "lun_in_use"),
        (vm(OS), [{**A, "is_offline": False}], "lun_online"),
        (vm(OS), [{**A, "weak_identity": True}], "weak_identity"),
        (vm(OS), [A, {**A, "number": 7}], "ambiguous_disk"),
        (vm(OS), [B], "unknown_disk"),
    ],
)
def test_both_ways_of_attaching_refuse_the_same(here: Any, luns: Any, kind: str) -> None:
    assert kind in kinds(plan_attached(here, luns, wanted(1, A)))
    assert kind in kinds(plan_passthrough(here, luns, [wanted(1, A)]))


def test_all_findings_are_told_at_once() -> None:
    here = vm(drive(slot(1), "dvd"), state="running")
    luns = [{**A, "attached_to": OTHER_VM, "is_offline": False}, B]
    plan = plan_passthrough(here, luns, [wanted(1, A), wanted(2, A), wanted(3, C)])
    assert set(kinds(plan)) >= {"slot_taken", "lun_attached_elsewhere", "lun_online", "listed_twice", "unknown_disk"}


def test_a_slot_that_is_listed_twice_is_refused() -> None:
    assert kinds(plan_passthrough(vm(OS), [A, B], [wanted(1, A), wanted(1, B)])) == ["listed_twice"]


def test_a_running_vm_is_changed_on_scsi_only_and_only_when_asked() -> None:
    here = vm(drive(slot(1), "pass_through", B), drive(slot(0, "IDE"), "pass_through", C), state="running")
    assert steps(plan_attached(here, [A, B, C], wanted(2, A), allow_running=True)) == [("attach", 2, "600A01")]
    ide = Wanted(slot=slot(1, "IDE"), lun=DiskSelector(unique_id="600A01"))
    assert kinds(plan_attached(here, [A, B, C], ide, allow_running=True)) == ["vm_not_off"]
    assert steps(plan_detached(here, [A, B, C], slot=slot(1), allow_running=True)) == [("detach", 1, "600A02")]
    assert kinds(plan_detached(here, [A, B, C], slot=slot(0, "IDE"), allow_running=True)) == ["vm_not_off"]


def test_detaching_takes_the_pass_through_drive_that_is_meant_and_nothing_else() -> None:
    here = vm(OS, drive(slot(1), "pass_through", A), drive(slot(2), "unresolved_pass_through"))
    luns = [A, B]
    assert steps(plan_detached(here, luns, lun=DiskSelector(unique_id="600A01"))) == [("detach", 1, "600A01")]
    assert steps(plan_detached(here, luns, slot=slot(2))) == [("detach", 2, None)]
    assert kinds(plan_detached(here, luns, slot=slot(0))) == ["not_pass_through"]
    assert kinds(plan_detached(here, luns, slot=slot(1), lun=DiskSelector(unique_id="600A02"))) == ["other_lun"]


@given(st.lists(st.integers(1, 6), min_size=4, max_size=4, unique=True), st.permutations([1, 2, 3, 4]))
def test_wherever_the_drives_are_remapping_ends_with_each_lun_at_its_slot(places: list[int], order: list[int]) -> None:
    luns = [lun(number) for number in (1, 2, 3, 4)]
    here = vm(*(drive(slot(place), "pass_through", one) for place, one in zip(places, luns, strict=True)))
    asked = [wanted(location, luns[number - 1]) for location, number in enumerate(order, start=1)]
    plan = plan_passthrough(here, luns, asked)
    assert plan.findings == ()
    at = {place: one["unique_id"] for place, one in zip(places, luns, strict=True)}
    for step in plan.steps:
        assert step.slot is not None
        location = step.slot.controller_location or 0
        if step.kind == "detach":
            del at[location]
        else:
            assert location not in at
            assert step.lun is not None and step.lun.unique_id not in at.values()
            at[location] = step.lun.unique_id
    assert at == {location: f"600A0{number}" for location, number in enumerate(order, start=1)}
