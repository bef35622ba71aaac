# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which sets are kept and which expire, by table and by property, and what a kill anywhere in between leaves."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup import backup_set as sets
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup import retention, wsb_deletion
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.backup_set import Attempt, BackupSet
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.detached_job import JobLook
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.engine import Deletion
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.errors import BackupError
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.retention import Policy, plan_retention

VM_ID = "285CEA9B-1111-2222-3333-000000000001"
OTHER_VM = "11111111-1111-2222-3333-000000000002"
START = datetime(2026, 6, 1, 20, 0, tzinfo=timezone.utc)  # a Monday
NOW = datetime(2026, 12, 1, tzinfo=timezone.utc)


def made(set_id: str, state: str = "good", hours: float = 0, *, vm: str = VM_ID, **changes: object) -> BackupSet:
    """A set whose two versions lie in folders of their own on a share."""
    when = START + timedelta(hours=hours)

    def attempt(phase: str) -> Attempt:
        run_id = sets.run_id_for(set_id, phase, 1)
        return Attempt(
            number=1,
            run_id=run_id,
            engine="wsb",
            machine="DB01" if phase == "guest" else "HV01",
            target=f"\\\\nas\\backup\\db01\\{run_id}",
            started=when,
            outcome="succeeded",
            version=f"{when:%m/%d/%Y-%H:%M}",
            snapshot_time=when,
            listed=True,
        )

    item = BackupSet(
        set_id=set_id,
        vm={"id": vm, "name": "db01"},
        opened=when,
        updated=when,
        max_skew_s=3600.0,
        state=state,
        guest=(attempt("guest"),),
        host=(attempt("host"),),
        hooks=sets.Hooks(used=True),
    )
    return dataclasses.replace(item, **changes)


def daily(count: int, *, states: str = "") -> list[BackupSet]:
    """One set a day, oldest first; `states` has a letter for each that is not good: d(egraded), f(ailed), l(ost)."""
    words = {"d": "degraded", "f": "failed", "l": "lost"}
    letters = states.ljust(count, "g")
    return [made(f"day{n}", words.get(letters[n], "good"), 24 * n) for n in range(count)]


def going(items: Sequence[BackupSet], **policy: int) -> set[str]:
    return {one.set_id for one in plan_retention(items, VM_ID, Policy(**policy)).to_expire}


def reason(items: Sequence[BackupSet], set_id: str, **policy: int) -> str:
    plan = plan_retention(items, VM_ID, Policy(**policy))
    return "; ".join(next(one.reasons for one in plan.sets if one.set_id == set_id))


# --- rules ----------------------------------------------------------------------------------------------------------


def test_the_newest_good_sets_are_kept():
    assert going(daily(5), keep_last=2) == {"day0", "day1", "day2"}


def test_of_each_day_the_newest_is_kept_by_the_snapshot_in_utc():
    items = [made("evening", hours=3.9), made("midnight", hours=4.0), made("next", hours=27.9)]
    assert going(items, keep_daily=2) == {"midnight"}


def test_days_without_a_good_set_do_not_count():
    items = [made("old", hours=0), made("older", hours=-24), made("new", hours=24 * 40)]
    assert going(items, keep_daily=3) == set()


def test_weeks_begin_on_monday_in_utc():
    items = [made("sunday", hours=-24), made("monday", hours=0), made("next-sunday", hours=24 * 6)]
    assert going(items, keep_weekly=2) == {"monday"}


def test_a_week_belongs_to_its_iso_year():
    year_end = (datetime(2026, 12, 31, 12, tzinfo=timezone.utc) - START).total_seconds() / 3600
    items = [made("thursday", hours=year_end), made("friday", hours=year_end + 24)]  # both in 2026-W53
    assert going(items, keep_weekly=5) == {"thursday"}


def test_what_any_rule_keeps_stays():
    items = daily(15)
    assert going(items, keep_last=1, keep_daily=3, keep_weekly=2) == {f"day{n}" for n in range(15)} - {
        "day14",
        "day13",
        "day12",
    }


@pytest.mark.parametrize("states", ["gggdf", "gggff", "ggldd"])
def test_what_is_not_good_takes_no_good_ones_place(states):
    assert going(daily(5, states=states), keep_last=2) == {"day0"} - ({"day0"} if states[2] == "l" else set())


def test_what_is_not_good_goes_when_it_is_older_than_all_that_is_kept():
    items = daily(5, states="dfldg")
    assert going(items, keep_last=1) == {"day0", "day1", "day2", "day3"}


def test_while_there_is_no_good_set_everything_stays():
    assert going(daily(4, states="dflf"), keep_last=1) == set()


def test_an_open_set_stays_and_does_not_count():
    assert going([made("open", "open", 48), *daily(2)], keep_last=1) == {"day0"}


@pytest.mark.parametrize("state", ["running", "failed"])
def test_a_set_whose_restore_has_not_finished_stays(state):
    items = daily(3)
    items[0] = dataclasses.replace(items[0], restores=({"id": "r1", "state": state},))
    assert going(items, keep_last=1) == {"day1"}
    assert reason(items, "day0", keep_last=1) == "restore r1 from it has not finished"


def test_a_set_that_was_good_when_it_was_restored_from_still_counts():
    items = daily(3)
    items[2] = dataclasses.replace(items[2], state="restored", restores=({"id": "r1", "state": "finished"},))
    assert going(items, keep_last=1) == {"day0", "day1"}


@pytest.mark.parametrize(
    "changes", [{"reasons": ("the guest phase ended with warnings: x",)}, {"host": ()}, {"max_skew_s": -1.0}]
)
def test_a_set_that_was_degraded_when_it_was_restored_from_does_not_count(changes):
    items = daily(2)
    items[1] = dataclasses.replace(items[1], state="restored", **changes)
    assert going(items, keep_last=1) == set()


def test_sets_of_other_vms_are_not_touched():
    assert going([*daily(2), made("theirs", hours=-100, vm=OTHER_VM)], keep_last=1) == {"day0"}


def test_a_version_that_a_kept_set_needs_too_stays():
    items = daily(2)
    shared = dataclasses.replace(items[1].host[0], run_id="day0.host.1")
    items[0] = dataclasses.replace(items[0], host=(shared,))
    plan = plan_retention(items, VM_ID, Policy(keep_last=1))
    assert {one.phase: one.keep for one in plan.to_expire[0].versions} == {
        "guest": "",
        "host": "a set that is kept needs it too",
    }


def test_a_set_of_which_nothing_can_be_deleted_stays_as_it_is():
    plan = plan_retention(daily(2), VM_ID, Policy(keep_last=1), why_kept=lambda phase, attempt: retention.CANNOT)
    assert plan.to_expire == ()
    assert plan.sets[1].reasons == (f"kept: {retention.CANNOT}",)


def test_nothing_goes_while_another_run_works_on_the_vm():
    plan = plan_retention(daily(4), VM_ID, Policy(keep_last=1), in_use="another run works on this VM")
    assert plan.to_expire == ()


@pytest.mark.parametrize("policy", [{}, {"keep_last": 0}, {"keep_daily": -1}, {"keep_weekly": 10**9}])
def test_a_policy_that_keeps_nothing_is_refused(policy):
    with pytest.raises(BackupError) as caught:
        Policy(**policy)
    assert caught.value.kind == "bad_option"


def test_the_plan_says_in_lines_what_goes_and_what_stays():
    plan = plan_retention(
        daily(2),
        VM_ID,
        Policy(keep_last=1),
        why_kept=lambda phase, attempt: retention.CANNOT if phase == "guest" else "",
    )
    assert plan.describe() == (
        "keep day1 (good, 2026-06-02T20:00:00Z): the newest 1 of 1; the last good set\n"
        "expire day0 (good, 2026-06-01T20:00:00Z): no rule keeps it\n"
        "  kept: guest version 06/01/2026-20:00 on \\\\nas\\backup\\db01\\day0.guest.1 (wsb): engine cannot delete single versions\n"
        "  delete host version 06/01/2026-20:00 on \\\\nas\\backup\\db01\\day0.host.1 (wsb)\n"
    )


def test_a_set_that_goes_is_refused_by_every_restore():
    from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.set_choice import refusal

    for phase in ("both", "host", "guest"):
        item = retention.mark_expiring(made("old"), "x", NOW)
        assert (refusal(item, restore_phase=phase) or ("",))[0] == "set_expired"


def test_the_record_of_an_expired_set_can_be_read_again():
    item = retention.mark_expired(retention.mark_expiring(made("old"), "x", NOW), ["guest version"], NOW)
    assert sets.from_json(item.to_json()) == item
    assert item.reasons == ("expiring: x", "not deleted: guest version")


# --- properties -----------------------------------------------------------------------------------------------------

_SETS = st.lists(
    st.tuples(
        st.sampled_from(
            ["good", "good", "good", "degraded", "failed", "lost", "restored", "open", "expiring", "expired"]
        ),
        st.integers(0, 24 * 60),
    ),
    max_size=14,
).map(lambda rows: [made(f"s{n}", state, hours) for n, (state, hours) in enumerate(rows)])
_POLICIES = st.fixed_dictionaries(
    {},
    optional={
        "keep_last": st.integers(1, 6),
        "keep_daily": st.integers(1, 6),
        "keep_weekly": st.integers(1, 4),
    },
).filter(bool)


def applied(items: Sequence[BackupSet], gone: set[str]) -> list[BackupSet]:
    return [dataclasses.replace(item, state="expired") if item.set_id in gone else item for item in items]


@settings(max_examples=120, deadline=None)
@given(_SETS, _POLICIES)
def test_the_last_good_set_never_goes(items, policy):
    verified = sorted((retention.moment_of(item), item.set_id) for item in items if retention.is_verified(item))
    if verified:
        assert verified[-1][1] not in going(items, **policy)
    else:
        assert {item.set_id for item in items if item.state == "expiring"} == going(items, **policy)


@settings(max_examples=80, deadline=None)
@given(_SETS, _POLICIES)
def test_a_second_run_finds_nothing_to_do(items, policy):
    assert going(applied(items, going(items, **policy)), **policy) == set()


@settings(max_examples=80, deadline=None)
@given(_SETS, _POLICIES, st.sampled_from(["keep_last", "keep_daily", "keep_weekly"]))
def test_a_larger_number_never_deletes_more(items, policy, name):
    larger = {**policy, name: policy.get(name, 0) + 1}
    assert going(items, **larger) <= going(items, **policy)


@settings(max_examples=80, deadline=None)
@given(_SETS, _POLICIES, st.integers(1, 24 * 10))
def test_a_further_good_set_never_saves_one_that_went(items, policy, hours):
    newest = max((24 * 60, *(0 for _item in items)))
    before = going(items, **policy)
    assert before <= going([*items, made("further", hours=newest + hours)], **policy)


@settings(max_examples=80, deadline=None)
@given(_SETS, _POLICIES)
def test_a_set_that_is_not_good_never_makes_a_good_one_go(items, policy):
    good = [item for item in items if retention.is_verified(item)]
    kept = {item.set_id for item in good} - going(good, **policy)
    assert not kept & going(items, **policy)


# --- carrying it out ------------------------------------------------------------------------------------------------


class Killed(BaseException):
    pass


class World:
    """Records, versions on their targets, and a run that dies after so many steps."""

    def __init__(self, items: Sequence[BackupSet], *, steps: int = 10**6) -> None:
        self.records = {item.set_id: item for item in items}
        self.versions = {one.run_id for item in items for _phase, one in retention.recorded_versions(item)}
        self.steps = steps
        self.stubborn: set[str] = set()

    def step(self) -> None:
        self.steps -= 1
        if self.steps < 0:
            raise Killed

    def write(self, item: BackupSet) -> BackupSet:
        self.step()
        self.records[item.set_id] = item
        self.step()
        return item

    def delete(self, version: retention.PlannedVersion) -> Deletion:
        assert self.records[version.run_id.split(".")[0]].state == "expiring", "deleted before it was marked"
        if version.run_id in self.stubborn:
            return Deletion(state="kept", reason="the share does not answer")
        self.step()
        there = version.run_id in self.versions
        self.versions.discard(version.run_id)
        self.step()
        return Deletion(state="deleted" if there else "gone")

    def run(self, why_kept: Callable[[str, Attempt], str] = lambda phase, attempt: "", **policy: int):
        plan = plan_retention(list(self.records.values()), VM_ID, Policy(**policy), why_kept=why_kept)
        return retention.carry_out(
            plan,
            retention.Hands(
                read=self.records.get,
                write=self.write,
                delete=self.delete,
                remove_copies=lambda item: [],
                check=self.step,
                now=lambda: NOW,
            ),
        )


@pytest.mark.parametrize("steps", range(30))
def test_a_run_killed_anywhere_is_finished_by_the_next(steps):
    world = World(daily(4), steps=steps)
    try:
        world.run(keep_last=2)
    except Killed:
        for item in world.records.values():
            held = {one.run_id for _phase, one in retention.recorded_versions(item)}
            assert item.state != "good" or held <= world.versions, "a good set lost a version"
            assert item.state != "expired" or not held & world.versions, "an expired set still has a version"
    world.steps = 10**6
    world.run(keep_last=2)
    assert {item.set_id: item.state for item in world.records.values()} == {
        "day0": "expired",
        "day1": "expired",
        "day2": "good",
        "day3": "good",
    }
    assert {run.split(".")[0] for run in world.versions} == {"day2", "day3"}


def test_a_version_that_could_not_be_deleted_leaves_the_set_expiring_and_is_tried_again():
    world = World(daily(2))
    world.stubborn = {"day0.host.1"}
    (outcome,) = world.run(keep_last=1)
    assert outcome.state == "expiring"
    assert "the share does not answer" in outcome.problems[0]
    world.stubborn = set()
    (outcome,) = world.run(keep_last=1)
    assert outcome.state == "expired"
    assert "it was gone" in outcome.deleted[0]


def test_a_version_that_its_engine_cannot_delete_is_named_in_the_record():
    world = World(daily(2))
    (outcome,) = world.run(lambda phase, attempt: retention.CANNOT if phase == "guest" else "", keep_last=1)
    assert outcome.state == "expired"
    assert "day0.guest.1" in world.versions
    assert retention.CANNOT in world.records["day0"].reasons[-1]


def test_a_set_that_changed_since_it_was_planned_for_is_left_alone():
    world = World(daily(2))
    plan = plan_retention(list(world.records.values()), VM_ID, Policy(keep_last=1))
    world.records["day0"] = dataclasses.replace(world.records["day0"], restores=({"id": "r1", "state": "running"},))
    hands = retention.Hands(
        read=world.records.get,
        write=world.write,
        delete=world.delete,
        remove_copies=lambda item: [],
        check=world.step,
        now=lambda: NOW,
    )
    (outcome,) = retention.carry_out(plan, hands)
    assert outcome.problems
    assert world.records["day0"].state == "good"


# --- the folder of a run of Windows Server Backup -------------------------------------------------------------------

FOLDER = "\\\\nas\\backup\\db01\\day0.host.1"
LISTED = b"Version identifier: 06/01/2026-20:00\r\n"
OTHER = b"Version identifier: 06/02/2026-20:00\r\n"


def looked(*, above: int = 0, folder: int = 0, versions: bytes = LISTED, is_done: bool = True) -> JobLook:
    files = {"above-rc.txt": b"%d" % above, "folder-rc.txt": b"%d" % folder, "versions.txt": versions}
    return JobLook(run_id="x", task=None, is_done=is_done, files=files)


@pytest.mark.parametrize(
    ("look", "began", "state"),
    [
        (looked(), False, None),
        (looked(versions=b""), True, None),
        (looked(versions=b""), False, "kept"),
        (looked(versions=OTHER), False, "kept"),
        (looked(versions=LISTED + OTHER), False, "kept"),
        (looked(versions=OTHER), True, "kept"),
        (looked(folder=1), False, "gone"),
        (looked(above=1, folder=1), False, "kept"),
        (looked(above=1), True, "kept"),
        (looked(is_done=False), False, "kept"),
    ],
)
def test_a_folder_goes_only_when_it_holds_the_recorded_version_and_nothing_else(look, began, state):
    verdict = wsb_deletion._judge(look, "06/01/2026-20:00", FOLDER, began=began)
    assert (None if verdict is None else verdict.state) == state


def test_a_version_on_a_volume_is_never_deleted_singly():
    assert wsb_deletion.why_kept("E:") == retention.CANNOT
    assert wsb_deletion.why_kept("\\\\nas\\backup") == ""
