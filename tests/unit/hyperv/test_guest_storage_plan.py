# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest's disks need to be as recorded, and what is never touched: tables over what guest_disk_info tells."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.guest_storage_plan import (
    MSR,
    StoragePlan,
    plan_online,
    plan_prepared,
    recorded_disk,
)

MIB = 2**20
BASIC = "{ebd0a0a2-b9e5-4433-87c0-68b6b72699c7}"
SIZE = 300 * MIB


def partition(number: int, offset: int, size: int, gpt_type: str | None = BASIC, mbr_type: int | None = None) -> Any:
    names = ("number", "offset_bytes", "size_bytes", "gpt_type", "mbr_type", "guid", "is_active")
    return dict(zip(names, (number, offset, size, gpt_type, mbr_type, None, False), strict=True))


def volume(offset: int, letter: str | None, file_system: str | None = "NTFS", *more: str, label: str = "Data") -> Any:
    return {
        "path": f"\\\\?\\Volume{{{offset:032}}}\\",
        "letter": letter,
        "access_paths": [*([f"{letter}:\\"] if letter else []), *more],
        "label": label,
        "file_system": file_system,
        "allocation_unit_bytes": 4096,
        "offset_bytes": offset,
    }


def disk(unique_id: str = "600A01", **more: Any) -> dict[str, Any]:
    return {
        "unique_id": unique_id,
        "serial_number": "S1",
        "number": 1,
        "friendly_name": "NETAPP LUN",
        "size_bytes": SIZE,
        "partition_style": "GPT",
        "guid": "{0a1b2c3d-0000-4000-8000-000000000001}",
        "signature": None,
        "is_offline": False,
        "offline_reason": None,
        "is_read_only": False,
        "is_boot": False,
        "is_system": False,
        "is_clustered": False,
        "is_dynamic": False,
        "in_storage_pool": False,
        "weak_identity": False,
        "partitions": [partition(1, 17408, 16759808, MSR), partition(2, 16 * MIB, 100 * MIB)],
        "volumes": [volume(16 * MIB, "E")],
        **more,
    }


def blank(unique_id: str = "600A01", **more: Any) -> dict[str, Any]:
    return disk(unique_id, **{"partition_style": "RAW", "guid": None, "partitions": [], "volumes": [], **more})


def view(*disks: dict[str, Any], others: tuple[Any, ...] = ()) -> dict[str, Any]:
    return {"disks": list(disks), "volumes_without_disk": list(others)}


def steps(plan: StoragePlan) -> list[str]:
    assert plan.findings == ()
    return [step.kind + (f" {step.access_path}" if step.access_path else "") for step in plan.steps]


def kinds(plan: StoragePlan) -> list[str]:
    return [finding.kind for finding in plan.findings]


RECORDED = recorded_disk(disk())
OFF = {"is_offline": True, "offline_reason": "Policy", "is_read_only": True, "volumes": []}


def test_a_disk_that_is_as_recorded_needs_nothing() -> None:
    assert steps(plan_online(view(disk()), [RECORDED])) == []
    assert steps(plan_prepared(view(disk()), [RECORDED], confirm_size_bytes=None)) == []


def test_a_disk_is_brought_online_and_gets_the_letters_that_it_had() -> None:
    assert steps(plan_online(view(disk(**OFF)), [RECORDED])) == ["online", "add_path E:\\"]
    assert steps(plan_online(view(disk(is_read_only=True)), [RECORDED])) == ["online"]
    without = disk(volumes=[volume(16 * MIB, None)])
    assert steps(plan_online(view(without), [RECORDED])) == ["add_path E:\\"]
    mounted = recorded_disk(disk(volumes=[volume(16 * MIB, "E", "NTFS", "C:\\Data\\")]))
    assert steps(plan_online(view(disk()), [mounted])) == ["add_path C:\\Data\\"]
    assert steps(plan_online(view(blank(**OFF)), [RECORDED])) == ["online"]


def test_two_volumes_may_have_changed_their_letters() -> None:
    both = [volume(16 * MIB, "E"), volume(120 * MIB, "F")]
    swapped = [volume(16 * MIB, "F"), volume(120 * MIB, "E")]
    parts = [partition(1, 16 * MIB, 100 * MIB), partition(2, 120 * MIB, 100 * MIB)]
    plan = plan_online(
        view(disk(partitions=parts, volumes=swapped)), [recorded_disk(disk(volumes=both, partitions=parts))]
    )
    assert steps(plan) == ["remove_path F:\\", "remove_path E:\\", "add_path E:\\", "add_path F:\\"]


def test_a_letter_of_somebody_else_is_refused_with_its_holder() -> None:
    moved = disk(volumes=[volume(16 * MIB, None)])
    other = disk("600A02", volumes=[volume(16 * MIB, "E")])
    plan = plan_online(view(moved, other), [RECORDED])
    assert kinds(plan) == ["letter_taken"]
    assert "600A02" in plan.findings[0].sentence
    assert kinds(plan_online(view(moved, others=(volume(0, "E", label="Stick"),)), [RECORDED])) == ["letter_taken"]
    twice = recorded_disk({**other, "unique_id": "600A02"})
    assert "listed_twice" in kinds(
        plan_online(view(moved, disk("600A02", volumes=[volume(16 * MIB, None)])), [RECORDED, twice])
    )


@pytest.mark.parametrize(
    ("reason", "kind"), [("Collision", "identity_collision"), ("Redundant Path", "redundant_path")]
)
def test_a_disk_that_windows_holds_offline_for_its_identity_stays_offline(reason: str, kind: str) -> None:
    assert kinds(plan_online(view(disk(**{**OFF, "offline_reason": reason})), [RECORDED])) == [kind]


def test_a_blank_disk_is_given_what_was_recorded() -> None:
    plan = plan_prepared(view(blank(**OFF)), [RECORDED], confirm_size_bytes=SIZE)
    assert steps(plan) == ["online", "initialize", "identity", "partition", "add_path E:\\", "format"]
    mbr = {"partition_style": "MBR", "guid": None, "signature": 77, "partitions": [partition(1, MIB, MIB, None, 7)]}
    in_evidence = {"unique_id": "600A01", "evidence": {"guest": mbr}, "volumes": [volume(MIB, None)]}
    assert steps(plan_prepared(view(blank()), [recorded_disk(in_evidence)], confirm_size_bytes=SIZE)) == [
        *("initialize", "identity", "partition", "format")
    ]


def test_an_interrupted_preparation_goes_on_and_only_that() -> None:
    half = disk(volumes=[volume(16 * MIB, "E", None)])
    begun = frozenset(["600a01 s1"])
    assert steps(plan_prepared(view(half), [RECORDED], confirm_size_bytes=SIZE, begun=begun)) == ["format"]
    assert kinds(plan_prepared(view(half), [RECORDED], confirm_size_bytes=SIZE)) == ["not_blank"]
    renamed = disk(guid="{0a1b2c3d-0000-4000-8000-00000000000f}", volumes=[], partitions=[])
    plan = plan_prepared(view(renamed), [RECORDED], confirm_size_bytes=SIZE, begun=begun)
    assert steps(plan) == ["identity", "partition", "add_path E:\\", "format"]
    clone = disk("600A02")
    plan = plan_prepared(view(renamed, clone), [recorded_disk(disk(volumes=[]))], confirm_size_bytes=SIZE, begun=begun)
    assert steps(plan) == ["partition"]
    foreign = disk(volumes=[volume(16 * MIB, "E", "ReFS")])
    assert kinds(plan_prepared(view(foreign), [RECORDED], confirm_size_bytes=SIZE, begun=begun)) == ["not_blank"]


def test_a_destroyed_file_system_is_made_again_only_when_accepted_and_on_the_recorded_partition_table() -> None:
    def plan(now: dict[str, Any], accept: bool = True) -> StoragePlan:
        return plan_prepared(view(now), [RECORDED], confirm_size_bytes=SIZE, accept_raw_volumes=accept)

    raw = disk(volumes=[volume(16 * MIB, "E", None)])
    assert steps(plan(raw)) == ["format"]
    assert kinds(plan(raw, accept=False)) == ["not_blank"]
    assert steps(plan(disk(volumes=[], partitions=[]))) == ["partition", "add_path E:\\", "format"]
    assert "not_blank" in kinds(plan({**raw, "guid": "{0a1b2c3d-0000-4000-8000-00000000000f}"}))
    locked = {**volume(16 * MIB, "E", None), "bitlocker": {"protection": "unknown", "lock": "locked"}}
    assert kinds(plan(disk(volumes=[locked]))) == ["not_blank"]
    assert kinds(plan(disk(volumes=[volume(16 * MIB, "E", "ReFS")]))) == ["not_blank"]


@pytest.mark.parametrize(
    ("now", "confirmed", "kind"),
    [
        (blank(), None, "size_not_confirmed"),
        (blank(), SIZE - 1, "size_not_confirmed"),
        (disk(partitions=[], volumes=[]), SIZE, "not_blank"),
        (blank(volumes=[volume(0, None, None)]), SIZE, "not_blank"),
        (blank(partitions=[partition(1, 0, MIB)]), SIZE, "not_blank"),
        (blank(is_system=True), SIZE, "lun_in_use"),
        (blank(in_storage_pool=True), SIZE, "lun_in_use"),
        (blank(is_clustered=True), SIZE, "lun_in_use"),
        (blank(size_bytes=100 * MIB), 100 * MIB, "too_small"),
        (blank(weak_identity=True, serial_number="", unique_id="IDE\\X"), SIZE, "unknown_disk"),
    ],
)
def test_what_is_not_certainly_blank_and_large_enough_is_refused(now: Any, confirmed: int | None, kind: str) -> None:
    assert kind in kinds(plan_prepared(view(now), [RECORDED], confirm_size_bytes=confirmed))


def test_what_windows_cannot_make_again_is_refused() -> None:
    fat = recorded_disk(disk(volumes=[volume(16 * MIB, None, "ext4")]))
    assert kinds(plan_prepared(view(blank()), [fat], confirm_size_bytes=SIZE)) == ["unsupported_file_system"]
    ldm = "{af9b60a0-1431-4f62-bc68-3311714a69ad}"
    dynamic = recorded_disk(disk(partitions=[partition(1, MIB, MIB, ldm)], volumes=[]))
    assert kinds(plan_prepared(view(blank()), [dynamic], confirm_size_bytes=SIZE)) == ["dynamic_disk"]
    nothing = recorded_disk({"unique_id": "600A01"})
    assert kinds(plan_prepared(view(blank()), [nothing], confirm_size_bytes=SIZE)) == ["nothing_recorded"]


def test_a_weak_identity_is_helped_by_what_was_recorded_beside_it() -> None:
    weak = {"unique_id": "IDE\\DISK:HOST", "weak_identity": True}
    offline = disk(**{**OFF, **weak})
    assert steps(plan_online(view(offline), [recorded_disk(disk(**weak))])) == ["online", "add_path E:\\"]
    bare = recorded_disk({"unique_id": "IDE\\DISK:HOST", "volumes": []})
    assert kinds(plan_online(view(offline), [bare])) == ["weak_identity"]
