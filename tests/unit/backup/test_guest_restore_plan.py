# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which left-out disks of a guest are kept and which volumes restored; what content evidence proves, as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import pytest

import unit.backup.restore_world as world
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.backup_set import root_listing
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.content_evidence import verify_volume
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.guest_restore_plan import (
    GuestPlan,
    guest_restore_plan,
    still_the_same,
)
from unit.backup.restore_world import GIB, ISCSI, ISCSI_VOLUME, LUN, NEW_LUN, VOLUME, backup_set

FULL = ("System Volume Information", "db", "readme.txt")
NEWER = [*FULL, "newer.txt"]
EMPTY = ["System Volume Information", "$RECYCLE.BIN"]
MIB = 2**20


def volume(**changes: Any) -> dict[str, Any]:
    return world.volume(root_listing=None, sentinels=None, **changes)


def disk(*volumes: dict[str, Any], unique_id: str = LUN, **changes: Any) -> dict[str, Any]:
    guid = world.GUID if unique_id == LUN else "{aaaaaaaa-0000-4000-8000-000000000002}"
    return {
        "unique_id": unique_id,
        "kind": "pass_through",
        "size_bytes": 10 * GIB,
        "partition_style": "GPT",
        "guid": guid,
        "signature": None,
        "is_offline": False,
        "weak_identity": False,
        "volumes": list(volumes),
        **changes,
    }


ISCSI_DISK = disk(
    volume(path=ISCSI_VOLUME, letter="M", serial_number=0x77, access_paths=["M:\\"]), unique_id=ISCSI, kind="iscsi"
)


def planned(*disks: dict[str, Any], names: Sequence[str] | None = FULL, **options: Any) -> GuestPlan:
    listings = {VOLUME.casefold(): names, ISCSI_VOLUME.casefold(): FULL}
    return guest_restore_plan(backup_set(), {"disks": [*disks, ISCSI_DISK]}, listings=listings, **options)


def kinds(plan: GuestPlan) -> list[str]:
    return [one.kind for one in plan.findings]


def test_disks_that_are_as_recorded_are_kept_however_much_newer_their_content_is() -> None:
    plan = planned(disk(volume(used_bytes=8 * GIB)), names=NEWER)
    assert [one.action for one in plan.disks] == ["keep", "keep"]
    assert (kinds(plan), plan.to_restore) == ([], [])


TABLE: list[tuple[str, dict[str, Any], Sequence[str] | None, dict[str, Any], str, list[str]]] = [
    ("no file system", disk(volume(file_system=None, serial_number=None)), None, {}, "restore", []),
    ("freshly formatted and empty", disk(volume(serial_number=5)), EMPTY, {}, "restore", []),
    ("formatted by somebody who wrote files", disk(volume(serial_number=5)), FULL, {}, "keep", ["disk_doubtful"]),
    ("another file system with files", disk(volume(file_system="ReFS")), FULL, {}, "keep", ["disk_doubtful"]),
    ("recognised but emptied", disk(volume()), EMPTY, {}, "keep", ["disk_doubtful"]),
    ("recognised but named", disk(volume()), FULL, {"overwrite_disks": [LUN.lower()]}, "restore", []),
    ("named by its slot", disk(volume()), FULL, {"overwrite_disks": ["scsi 0:1"]}, "restore", []),
    ("emptied and named", disk(volume()), EMPTY, {"overwrite_disks": [LUN]}, "restore", []),
    ("blank", disk(partition_style="RAW", guid=None), None, {}, "restore", ["volume_missing"]),
    ("offline", disk(is_offline=True, offline_reason="Policy"), None, {}, "skipped", ["disk_offline"]),
    ("no partition in its place", disk(), None, {}, "keep", ["volume_missing"]),
    (
        "a smaller partition",
        disk(volume(serial_number=5, size_bytes=GIB)),
        EMPTY,
        {},
        "restore",
        ["volume_too_small"],
    ),
    (
        "locked",
        disk(volume(file_system=None, serial_number=None, bitlocker={"protection": "on", "lock": "locked"})),
        None,
        {},
        "skipped",
        ["volume_locked"],
    ),
    ("left out by restore_volumes", disk(volume(serial_number=5)), EMPTY, {"restore_volumes": ["M:"]}, "skipped", []),
    ("chosen by restore_volumes", disk(volume(serial_number=5)), EMPTY, {"restore_volumes": ["s"]}, "restore", []),
    ("a volume that is none", disk(volume()), FULL, {"restore_volumes": ["Q:", "S:"]}, "keep", ["volume_unknown"]),
    (
        "no letter, freshly formatted",
        disk(volume(serial_number=5, letter=None, access_paths=[], used_bytes=20 * MIB)),
        None,
        {},
        "restore",
        [],
    ),
    (
        "no letter, and something on it",
        disk(volume(serial_number=5, letter=None, access_paths=[])),
        None,
        {},
        "keep",
        ["disk_doubtful"],
    ),
    ("its root could not be listed", disk(volume(serial_number=5)), None, {}, "keep", ["disk_doubtful"]),
    ("serial numbers unknown, the rest the same", disk(volume(serial_number=None)), FULL, {}, "keep", []),
]


@pytest.mark.parametrize(
    ("seen", "names", "options", "action", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_keep_or_restore(
    seen: dict[str, Any], names: list[str] | None, options: dict[str, Any], action: str, expected: list[str]
) -> None:
    plan = planned(seen, names=names, **options)
    if action == "keep" and expected == ["volume_missing"]:
        assert plan.disks[0].volumes[0].current is None
    else:
        assert plan.disks[0].action == action, plan.disks[0].evidence
    assert kinds(plan) == expected


def test_a_disk_that_is_gone_or_there_twice_is_found() -> None:
    assert kinds(planned()) == ["disk_missing"]
    twin = disk(volume())
    assert kinds(planned(disk(volume()), twin)) == ["disk_ambiguous"]
    other = disk(volume(), guid="{cccccccc-0000-4000-8000-000000000003}")
    plan = planned(twin, other)
    assert (kinds(plan), plan.disks[0].disk) == ([], twin)


def test_a_disk_whose_identity_changed_is_known_by_its_partition_table() -> None:
    plan = planned(disk(volume(), unique_id=NEW_LUN, guid=world.GUID))
    assert (kinds(plan), plan.disks[0].action) == ([], "keep")


def test_a_mapped_disk_is_found_by_its_new_identity_alone() -> None:
    blank = disk(unique_id=NEW_LUN, partition_style="RAW", guid=None)
    plan = planned(blank, lun_map={LUN: NEW_LUN}, prepared=False)
    assert (kinds(plan), plan.disks[0].needs_preparing, plan.disks[0].action) == ([], True, "restore")


def test_a_prepared_partition_is_found_by_its_place() -> None:
    path = "\\\\?\\Volume{99999999-1111-2222-3333-000000000009}\\"
    fresh = disk(volume(path=path, serial_number=5), guid="{dddddddd-0000-4000-8000-000000000004}", unique_id=NEW_LUN)
    plan = guest_restore_plan(
        backup_set(),
        {"disks": [fresh, ISCSI_DISK]},
        lun_map={LUN: NEW_LUN},
        listings={path.casefold(): EMPTY, ISCSI_VOLUME.casefold(): FULL},
    )
    ((_disk, one),) = plan.to_restore
    assert (one.current or {})["path"] == path
    assert one.number == 1


def test_a_disk_that_lacks_a_file_system_needs_preparing_and_one_that_has_all_never() -> None:
    other = "{dddddddd-0000-4000-8000-000000000004}"
    assert planned(disk(guid=other), names=None, prepared=False).disks[0].needs_preparing
    raw = volume(file_system=None, serial_number=None)
    assert planned(disk(raw, guid=other), names=None).disks[0].needs_preparing
    assert planned(disk(raw), names=None).disks[0].needs_preparing
    assert planned(disk(), names=None, prepared=False).disks[0].needs_preparing
    assert not planned(disk(volume()), overwrite_disks=[LUN]).disks[0].needs_preparing


# -- content evidence ------------------------------------------------------------------------------------------------

SENTINEL = "S:\\db\\version.txt"
GOOD_FILE = MappingProxyType({"size_bytes": 12, "modified": "2026-06-30T10:00:00Z"})


def verdict(
    names: Sequence[str] | None = FULL,
    file: Mapping[str, Any] | None = GOOD_FILE,
    before: list[str] | None = None,
    **changes: Any,
) -> bool | None:
    recorded = world.volume()
    current = {**recorded, **changes}
    return verify_volume(recorded, current, names=names, sentinels={SENTINEL: file}, names_before=before).verified


def test_a_volume_that_came_back_is_verified_whatever_its_serial_number() -> None:
    assert verdict() is True
    assert verdict(serial_number=5) is True
    assert verdict(names=[*FULL, "$RECYCLE.BIN"]) is True
    assert verdict(used_bytes=4 * GIB + 100 * MIB) is True


@pytest.mark.parametrize(
    "found",
    [
        {"names": EMPTY, "file": None, "used_bytes": 30 * MIB, "serial_number": 5},  # formatted, nothing written
        {"names": EMPTY},
        {"names": ["System Volume Information", "db"]},
        {"file": None},
        {"file": {**GOOD_FILE, "size_bytes": 13}},
        {"file": {**GOOD_FILE, "modified": "2026-07-01T10:00:00Z"}},
        {"used_bytes": GIB},
        {"used_bytes": None},
        {"file_system": None},
        {"file_system": "FAT32"},
    ],
)
def test_a_restore_that_wrote_nothing_or_something_else_fails_verification(found: dict[str, Any]) -> None:
    assert verdict(**found) is False


def test_a_missing_volume_is_not_verified() -> None:
    assert verify_volume(world.volume(), None, names=None, sentinels={}).verified is False


def test_names_that_were_there_before_prove_nothing() -> None:
    recorded = world.volume(sentinels=[], used_bytes=None, serial_number=None)
    one = verify_volume(recorded, recorded, names=FULL, sentinels={}, names_before=FULL)
    assert one.verified is None
    assert one.sentence == "nothing that was recorded can tell"
    assert verify_volume(recorded, recorded, names=FULL, sentinels={}, names_before=EMPTY).verified is True


def test_a_volume_that_was_empty_cannot_be_told_from_a_formatted_one() -> None:
    recorded = world.volume(sentinels=[], used_bytes=20 * MIB, root_listing=root_listing(EMPTY))
    assert verify_volume(recorded, {**recorded, "serial_number": 5}, names=EMPTY, sentinels={}).verified is None


def test_a_kept_volume_is_compared_by_its_file_system_only() -> None:
    recorded = world.volume()
    newer = {**recorded, "used_bytes": 8 * GIB}
    assert verify_volume(recorded, newer, names=NEWER, sentinels={}, kept=True).verified is True
    other = {**recorded, "serial_number": 5}
    assert verify_volume(recorded, other, names=NEWER, sentinels={}, kept=True).verified is False


def test_long_listings_are_compared_by_digest_and_by_the_names_that_were_recorded() -> None:
    many = [f"folder {number:03}" for number in range(200)]
    recorded = world.volume(sentinels=[], used_bytes=None, serial_number=None, root_listing=root_listing(many))
    for names, expected in ((many, True), ([*many, "$RECYCLE.BIN"], True), (many[:60], False), (many[1:], False)):
        assert verify_volume(recorded, recorded, names=names, sentinels={}).verified is expected


# -- the last look before something is overwritten -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (disk(volume(serial_number=5)), None),
        (disk(volume(serial_number=5), number=9), None),
        (disk(volume(serial_number=5), unique_id=NEW_LUN, guid=world.GUID), "gone"),
        (disk(volume(serial_number=5), guid="{dddddddd-0000-4000-8000-000000000004}"), "gone"),
        (disk(volume(serial_number=5), is_offline=True), "offline"),
        (disk(volume(serial_number=5), is_read_only=True), "read-only"),
        (disk(volume(serial_number=5), is_system=True), "boot or system disk"),
        (disk(volume(serial_number=5, is_boot=True)), "boot or system volume"),
        (disk(volume(serial_number=5, path=ISCSI_VOLUME)), "does not hold the volume"),
    ],
)
def test_a_volume_that_moved_since_the_plan_is_not_written_to(now: dict[str, Any], said: str | None) -> None:
    ((one, what),) = planned(disk(volume(serial_number=5)), names=EMPTY).to_restore
    why = still_the_same(one, what, {"disks": [now]})
    assert (why is None) if said is None else (why is not None and said in why)


def test_two_disks_of_one_identity_are_never_written_to() -> None:
    ((one, what),) = planned(disk(volume(serial_number=5)), names=EMPTY).to_restore
    twin = disk(volume(serial_number=5))
    assert "several times" in str(still_the_same(one, what, {"disks": [twin, twin]}))


def test_what_this_restore_has_begun_to_write_is_written_again_and_nothing_else() -> None:
    half = disk(volume(serial_number=5))
    assert kinds(planned(half, names=FULL)) == ["disk_doubtful"]
    plan = planned(half, names=FULL, begun=[1])
    assert (kinds(plan), [one.action for one in plan.disks]) == ([], ["restore", "keep"])
