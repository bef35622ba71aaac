# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which backup set a restore uses, which it refuses and why, and what a listing of the targets means."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta, timezone

import pytest

from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup import backup_set as sets
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup import set_choice
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.backup_set import Attempt, BackupSet
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.errors import BackupError

VM_ID = "285CEA9B-1111-2222-3333-000000000001"
OTHER_VM = "11111111-1111-2222-3333-000000000002"
NOW = datetime(2026, 6, 30, 19, 26, tzinfo=timezone.utc)
HOST_VERSION, GUEST_VERSION = "06/30/2026-19:30", "06/30/2026-19:26"


def attempt(set_id: str, phase: str, hours: float, **changes: object) -> Attempt:
    facts = {
        "number": 1,
        "run_id": sets.run_id_for(set_id, phase, 1),
        "engine": "wsb",
        "machine": "DB01" if phase == "guest" else "HV01",
        "target": "B:" if phase == "guest" else "E:",
        "started": NOW,
        "outcome": "succeeded",
        "version": GUEST_VERSION if phase == "guest" else HOST_VERSION,
        "snapshot_time": NOW + timedelta(hours=hours),
        "listed": True,
    }
    return Attempt(**{**facts, **changes})


def backup_set(
    set_id: str, state: str = "good", hours: float = 0, phases: str = "guest host", **changes: object
) -> BackupSet:
    """A set; an `outcome` of its phases stands in `phases`, as in `guest host!` for a failed host phase."""
    runs: dict[str, tuple[Attempt, ...]] = {"guest": (), "host": ()}
    for word in phases.split():
        phase = word.rstrip("!")
        failed = {"outcome": "failed", "version": None, "snapshot_time": None} if word.endswith("!") else {}
        runs[phase] = (attempt(set_id, phase, hours, **failed),)
    opened = NOW + timedelta(hours=hours)
    item = BackupSet(
        set_id=set_id, vm={"id": VM_ID, "name": "db01"}, opened=opened, updated=opened, max_skew_s=3600.0, state=state
    )
    return dataclasses.replace(item, **runs, **changes)


GOOD = backup_set("monday")


def kind_of(call: object) -> str:
    with pytest.raises(BackupError) as caught:
        call()  # type: ignore[operator]
    assert str(caught.value).strip().endswith(".")
    return caught.value.kind


@pytest.mark.parametrize(
    ("item", "phase", "kind"),
    [
        (GOOD, "both", None),
        (backup_set("a", "degraded"), "both", None),
        (backup_set("a", "restored"), "both", None),
        (backup_set("a", "open"), "host", "set_open"),
        (backup_set("a", "lost"), "host", "set_lost"),
        (backup_set("a", "failed"), "both", "set_failed"),
        (backup_set("a", "failed", phases="guest! host"), "both", "guest_half_failed"),
        (backup_set("a", "failed", phases="guest! host"), "guest", "guest_half_failed"),
        (backup_set("a", "failed", phases="guest! host"), "host", None),
        (backup_set("a", "failed", phases="guest host!"), "both", "host_half_failed"),
        (backup_set("a", "failed", phases="guest host!"), "guest", None),
        (backup_set("a", phases="host", guest_phase_needed=False), "both", None),
        (backup_set("a", phases="host", guest_phase_needed=False), "guest", "nothing_to_restore"),
    ],
)
def test_what_a_set_can_be_restored_from(item: BackupSet, phase: str, kind: str | None) -> None:
    why = set_choice.refusal(item, restore_phase=phase, vm_id=VM_ID.lower())
    assert (why and why[0]) == kind


def test_a_set_of_another_vm_is_refused() -> None:
    why = set_choice.refusal(GOOD, vm_id=OTHER_VM)
    assert why is not None
    assert why[0] == "wrong_set"
    assert OTHER_VM in why[1]


def test_a_guest_half_that_failed_points_to_the_half_that_is_there() -> None:
    why = set_choice.refusal(backup_set("a", "failed", phases="guest! host", reasons=("disk full",)))
    assert why is not None
    assert "restore_phase host" in why[1]
    assert "disk full" in why[1]


def test_the_newest_usable_set_is_chosen_and_not_the_newest() -> None:
    choice = set_choice.choose_set(
        [backup_set("tuesday", "failed", 24, "guest! host"), GOOD, backup_set("sunday", hours=-24)], vm_id=VM_ID
    )
    assert choice.item.set_id == "monday"


def test_a_time_chooses_the_newest_set_before_it() -> None:
    sunday = backup_set("sunday", hours=-24)
    choice = set_choice.choose_set([GOOD, sunday], vm_id=VM_ID, not_after=set_choice.parse_moment("2026-06-30T12:00"))
    assert choice.item is sunday


def test_a_set_asked_for_by_id_is_taken_or_refused_but_never_another_one() -> None:
    assert set_choice.choose_set([GOOD], set_id="MONDAY", vm_id=VM_ID).item is GOOD
    assert kind_of(lambda: set_choice.choose_set([GOOD], set_id="friday")) == "unknown_set"
    assert kind_of(lambda: set_choice.choose_set([GOOD, backup_set("a", "open")], set_id="a")) == "set_open"
    assert kind_of(lambda: set_choice.choose_set([GOOD], set_id="monday", vm_id=OTHER_VM)) == "wrong_set"


def test_no_set_tells_why_each_was_passed_over() -> None:
    with pytest.raises(BackupError) as caught:
        set_choice.choose_set([backup_set("a", "open"), backup_set("b", "failed", phases="guest!")], vm_id=VM_ID)
    assert caught.value.kind == "no_set"
    assert len(caught.value.details["passed_over"]) == 2


def test_neither_vm_nor_set_is_no_question() -> None:
    assert kind_of(lambda: set_choice.choose_set([GOOD])) == "bad_option"
    assert kind_of(lambda: set_choice.choose_set([GOOD], vm_id=VM_ID, restore_phase="half")) == "bad_option"
    assert kind_of(lambda: set_choice.parse_moment("yesterday")) == "bad_option"


# -- listing again ---------------------------------------------------------------------------------------------------


def listings(answers: dict[str, object], machine: str = "HV01", **targets: str) -> list[set_choice.Listing]:
    return set_choice.listings_of(
        GOOD,
        machine=machine,
        targets=targets,
        list_versions=lambda _attempt, target: answers[target],  # type: ignore[arg-type, return-value]
        is_share=lambda _attempt, target: target.startswith("\\\\"),
    )


def test_a_version_that_is_listed_stays_and_a_volume_of_another_machine_proves_nothing() -> None:
    found = listings({"E:": [HOST_VERSION]})
    assert [(one.phase, one.listed) for one in found] == [("host", True), ("guest", None)]
    assert set_choice.relisted(GOOD, found, NOW) is GOOD


def test_a_version_that_is_gone_makes_the_set_lost() -> None:
    found = listings({"E:": ["06/29/2026-19:30"]})
    lost = set_choice.relisted(GOOD, found, NOW)
    assert lost.state == "lost"
    assert HOST_VERSION in lost.reasons[-1]
    assert set_choice.refusal(lost) is not None
    assert set_choice.refusal(GOOD, versions=[one.to_dict() for one in found])[0] == "version_not_listed"  # type: ignore[index]


def test_a_target_that_does_not_answer_loses_nothing() -> None:
    found = listings({"E:": "the share does not answer"})
    assert found[0].listed is None
    assert set_choice.relisted(GOOD, found, NOW) is GOOD


def test_a_share_is_listed_for_the_guest_too() -> None:
    share = "\\\\nas\\backup"
    found = listings({"E:": [HOST_VERSION], share: [GUEST_VERSION]}, guest=share)
    assert [(one.phase, one.listed) for one in found] == [("host", True), ("guest", True)]


def test_an_open_or_failed_set_is_not_marked() -> None:
    item = backup_set("a", "failed")
    gone = [dataclasses.replace(one, set_id="a") for one in listings({"E:": []})]
    assert set_choice.relisted(item, gone, NOW) is item
