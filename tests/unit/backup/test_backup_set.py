# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backup sets: their decisions and transitions, their JSON, their storage and copies."""

from __future__ import annotations

import dataclasses
import json
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup import backup_set as sets
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.backup_set import Attempt, BackupSet
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.errors import BackupError, SetUnreadable
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.set_copy import (
    copy_path,
    copy_steps,
    parse_reg_export,
)
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.set_store import SetStore

VM_ID = "285CEA9B-1111-2222-3333-000000000001"
OTHER_VM = "11111111-1111-2222-3333-000000000002"
NOW = datetime(2026, 6, 30, 19, 26, tzinfo=timezone.utc)


def later(seconds):
    return NOW + timedelta(seconds=seconds)


def new_set(set_id="nightly", vm_id=VM_ID, opened=NOW, **changes):
    item = BackupSet(set_id=set_id, vm={"id": vm_id, "name": "db01"}, opened=opened, updated=opened, max_skew_s=3600.0)
    return dataclasses.replace(item, **changes)


def attempt(item, phase, number=1, **changes):
    data = Attempt(
        number=number,
        run_id=sets.run_id_for(item.set_id, phase, number),
        engine="wsb",
        machine="DB01" if phase == "guest" else "HV01",
        target="E:",
        started=NOW,
    )
    return dataclasses.replace(data, **changes)


def done(item, phase, number=1, snapshot=NOW, **changes):
    facts = {
        "outcome": "succeeded",
        "ended": later(60),
        "version": "06/30/2026-19:26",
        "snapshot_time": snapshot,
        "listed": True,
        "consistency": "online",
    }
    return attempt(item, phase, number, **{**facts, **changes})


def record(item, *attempts):
    for phase, one in attempts:
        item = sets.record_phase(item, phase, one, NOW)
    return item


def complete(item=None, gap_s=60, **host):
    item = item or new_set()
    return record(item, ("guest", done(item, "guest")), ("host", done(item, "host", snapshot=later(gap_s), **host)))


# --- names ----------------------------------------------------------------------------------------------------------


@given(st.text(max_size=70))
def test_any_text_is_a_usable_set_id_or_refused(text):
    try:
        sets.check_set_id(text)
    except BackupError as err:
        assert err.kind == "bad_set_id"
        return
    run_id = sets.run_id_for(text, "guest", 1)
    assert run_id.isascii()
    assert not set(run_id) & set('\\/:*?"<>|%!^ ')
    assert run_id == sets.run_id_for(text.upper(), "guest", 1)


@pytest.mark.parametrize("text", ["", "a b", "a/b", "..", ".a", "a.", "nul", "COM1", "con.x", "a" * 65, "ü", "a\n"])
def test_names_that_windows_cannot_have_are_refused(text):
    with pytest.raises(BackupError):
        sets.check_set_id(text)


def test_run_ids_differ_by_set_phase_and_attempt_and_are_always_the_same():
    ids = {sets.run_id_for(name, phase, n) for name in ("a", "b") for phase in ("guest", "host") for n in (1, 2)}
    assert len(ids) == 8
    assert sets.run_id_for("a", "guest", 1) == "a.guest.1"
    with pytest.raises(BackupError):
        sets.run_id_for("a", "guest", 0)


def test_a_made_set_id_begins_with_the_vm_so_that_listings_can_skip_others():
    assert sets.new_set_id(VM_ID, NOW, "4f3a11") == "285cea9b-20260630T192600Z-4f3a11"


# --- opening --------------------------------------------------------------------------------------------------------


def decide(*existing, now=NOW, requested=None):
    return sets.open_or_resume(existing, VM_ID, now, 3600.0, requested)


def test_without_sets_a_new_one_is_opened():
    assert (decide().action, decide().set_id) == ("open", None)


@pytest.mark.parametrize(
    ("age", "action"), [(0, "resume"), (3600, "resume"), (3601, "open"), (-200, "resume"), (-9999, "open")]
)
def test_an_open_set_is_resumed_only_while_it_is_younger_than_max_skew(age, action):
    decision = decide(new_set(), now=later(age))
    assert decision.action == action
    assert [set_id for set_id, _reason in decision.close_as_failed] == ([] if action == "resume" else ["nightly"])


def test_last_nights_broken_set_is_given_up_and_its_guest_unquiesced():
    old = sets.record_quiesce(new_set("last-night"), True, NOW)
    decision = decide(old, now=later(86400))
    assert decision.action == "open"
    assert decision.unquiesce == ("last-night",)
    assert decision.close_as_failed[0][0] == "last-night"
    assert "max_skew" in decision.close_as_failed[0][1]


def test_a_rerun_after_a_kill_is_told_to_unquiesce_the_set_that_it_resumes():
    assert decide(sets.record_quiesce(new_set(), True, NOW)).unquiesce == ("nightly",)


def test_of_several_open_sets_the_newest_is_resumed_and_the_others_are_given_up():
    decision = decide(new_set("a"), new_set("b", opened=later(10)), now=later(20))
    assert (decision.action, decision.set_id) == ("resume", "b")
    assert [set_id for set_id, _unused in decision.close_as_failed] == ["a"]


def test_a_requested_set_is_continued_whatever_its_age_and_in_any_case():
    decision = decide(new_set("Weekly"), now=later(10**6), requested="weekly")
    assert (decision.action, decision.set_id) == ("resume", "Weekly")


def test_a_requested_set_that_is_closed_is_returned():
    closed = sets.close(complete(), later(100))
    assert decide(closed, requested="nightly").action == "return"


def test_a_requested_set_that_is_not_there_is_opened_under_that_id_and_others_are_given_up():
    decision = decide(new_set("old"), requested="fresh")
    assert (decision.action, decision.set_id) == ("open", "fresh")
    assert [set_id for set_id, _unused in decision.close_as_failed] == ["old"]


def test_a_set_id_of_another_vm_is_refused():
    with pytest.raises(BackupError) as caught:
        decide(new_set(vm_id=OTHER_VM), requested="nightly")
    assert caught.value.kind == "set_id_taken"


def test_sets_of_other_vms_are_left_alone():
    assert decide(new_set(vm_id=OTHER_VM), now=later(10**6)).close_as_failed == ()


# --- what is left ---------------------------------------------------------------------------------------------------


def todo(item):
    return [(one.phase, one.action, one.attempt, one.purpose) for one in sets.what_is_left(item).phases]


def test_a_fresh_set_needs_guest_then_host():
    assert todo(new_set()) == [("guest", "start", 1, "first"), ("host", "start", 1, "first")]


def test_a_set_without_left_out_disks_needs_the_host_alone():
    assert todo(new_set(guest_phase_needed=False)) == [("host", "start", 1, "first")]


def test_a_running_attempt_is_attached_to():
    item = new_set()
    item = record(item, ("guest", attempt(item, "guest")))
    assert todo(item)[0] == ("guest", "attach", 1, "first")
    assert sets.what_is_left(item).phases[0].run_id == "nightly.guest.1"


def test_a_failed_attempt_is_retried_under_the_next_number():
    item = new_set()
    item = record(item, ("guest", attempt(item, "guest", outcome="failed", error={"kind": "x", "message": "y"})))
    assert todo(item)[0] == ("guest", "start", 2, "retry")


def test_after_both_phases_only_closing_is_left():
    left = sets.what_is_left(complete())
    assert (left.phases, left.close) == ((), True)


def test_too_much_skew_repeats_the_guest_phase_once():
    item = complete(gap_s=7200)
    assert todo(item) == [("guest", "start", 2, "skew")]
    item = record(item, ("guest", attempt(item, "guest", 2, purpose="skew")))
    assert todo(item) == [("guest", "attach", 2, "skew")]
    item = record(item, ("guest", done(item, "guest", 2, snapshot=later(20000), purpose="skew")))
    assert todo(item) == []
    closed = sets.close(item, later(30000))
    assert closed.state == "degraded"
    assert closed.skew_s == 7200.0, "the closer pair counts"


def test_a_repeated_guest_phase_that_lies_close_makes_the_set_good():
    item = complete(gap_s=7200)
    item = record(item, ("guest", done(item, "guest", 2, snapshot=later(7500), purpose="skew")))
    assert sets.close(item, later(8000)).state == "good"


def test_clocks_that_differ_are_corrected_before_the_skew_is_measured():
    item = new_set()
    item = record(
        item,
        ("guest", done(item, "guest", snapshot=later(7200), clock_offset_s=7200.0)),
        ("host", done(item, "host", snapshot=later(30), clock_offset_s=0.0)),
    )
    assert item.skew_s == 30.0


def test_an_old_guest_snapshot_is_noticed_before_the_host_phase():
    item = new_set()
    item = record(item, ("guest", done(item, "guest")))
    assert not sets.guest_is_stale(item, later(3600))
    assert sets.guest_is_stale(item, later(3601))
    assert not sets.guest_is_stale(item, later(3601), clock_offset_s=100.0)


# --- closing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("item", "state", "word"),
    [
        (complete(), "good", "not one point in time"),
        (complete(gap_s=3601), "degraded", "max_skew"),
        (complete(consistency="saved_state"), "degraded", "allow_offline"),
        (complete(new_set(allow_offline=True), consistency="saved_state"), "good", ""),
        (complete(consistency="unknown"), "good", ""),
        (complete(listed=False), "degraded", "not read back"),
        (complete(outcome="warning", warnings=("disk 2",)), "degraded", "disk 2"),
        (complete(snapshot_time=None), "degraded", "no snapshot time"),
        (new_set(), "failed", "never started"),
        (record(new_set(), ("guest", attempt(new_set(), "guest"))), "failed", "still recorded as running"),
        (
            record(new_set(), ("guest", attempt(new_set(), "guest", outcome="failed", error={"message": "no room"}))),
            "failed",
            "no room",
        ),
    ],
)
def test_a_set_closes_as_what_it_is_with_its_reasons(item, state, word):
    closed = sets.close(item, later(9000))
    assert closed.state == state
    assert any(word in reason for reason in closed.reasons)
    assert sets.close(closed, later(9999)) == closed


def test_an_uncovered_disk_fails_the_set_and_an_accepted_one_is_said():
    assert sets.close(complete(), NOW, uncovered=["SCSI 0:2: FAT32"]).state == "failed"
    closed = sets.close(complete(), NOW, accepted=["SCSI 0:2: FAT32"])
    assert (closed.state, "FAT32" in closed.reasons[0]) == ("good", True)


@pytest.mark.parametrize(
    "broken",
    [
        {"outcome": "fine"},
        {"version": None},
        {"run_id": "other.guest.1"},
        {"number": 3, "run_id": "nightly.guest.3"},
    ],
)
def test_a_record_that_contradicts_itself_is_refused(broken):
    item = new_set()
    with pytest.raises(BackupError) as caught:
        sets.record_phase(item, "guest", dataclasses.replace(done(item, "guest"), **broken), NOW)
    assert caught.value.kind == "bad_attempt"


def test_what_has_ended_is_not_rewritten_and_a_closed_set_takes_nothing():
    item = complete()
    with pytest.raises(BackupError, match="already ended"):
        record(item, ("guest", done(item, "guest", target="F:")))
    with pytest.raises(BackupError, match="closed set"):
        record(sets.close(item, NOW), ("guest", done(item, "guest", 2)))


def test_a_closed_set_can_still_be_unquiesced_lost_and_restored():
    item = sets.record_quiesce(complete(), True, NOW)
    closed = sets.close(item, NOW)
    assert sets.what_is_left(closed).unquiesce
    assert sets.what_is_left(sets.record_quiesce(closed, False, NOW)).is_nothing
    assert sets.mark_lost(closed, "gone", NOW).state == "lost"
    assert sets.mark_restored(closed, {"host": "HV02"}, NOW).restores == ({"host": "HV02"},)
    with pytest.raises(BackupError):
        sets.mark_restored(new_set(), {}, NOW)


class SetMachine(RuleBasedStateMachine):
    """Whatever a run, a rerun and a killed run do in any order: the record stays whole, and good means good."""

    def __init__(self):
        super().__init__()
        self.item = new_set()
        self.clock = 0
        self.ended = {}

    def now(self):
        self.clock += 600
        return later(self.clock)

    @precondition(lambda self: self.item.is_open and self.next("guest", "host"))
    @rule(ok=st.sampled_from(["succeeded", "failed", "warning", "running"]), listed=st.booleans())
    def work(self, ok, listed):
        one = self.next("guest", "host")
        now = self.now()
        facts = {"outcome": ok, "listed": listed, "purpose": one.purpose}
        if ok in ("succeeded", "warning"):
            facts.update(version="06/30/2026-19:26", snapshot_time=now, ended=now)
        self.item = sets.record_phase(self.item, one.phase, attempt(self.item, one.phase, one.attempt, **facts), now)
        if ok != "running":
            self.ended[(one.phase, one.attempt)] = self.item.attempts(one.phase)[one.attempt - 1]

    def next(self, *phases):
        left = [one for one in sets.what_is_left(self.item).phases if one.phase in phases]
        return left[0] if left and left[0].attempt < sets.MAX_ATTEMPTS else None

    @rule(quiesced=st.booleans())
    def hook(self, quiesced):
        if self.item.is_open or not quiesced:
            self.item = sets.record_quiesce(self.item, quiesced, self.now())

    @rule(uncovered=st.booleans())
    def close(self, uncovered):
        self.item = sets.close(self.item, self.now(), uncovered=["a disk"] if uncovered else [])

    @invariant()
    def the_record_survives_being_written_and_read(self):
        assert sets.from_json(self.item.to_json()) == self.item

    @invariant()
    def what_ended_stays_as_it_was(self):
        for (phase, number), known in self.ended.items():
            assert self.item.attempts(phase)[number - 1] == known

    @invariant()
    def run_ids_are_unique(self):
        ids = [one.run_id for one in (*self.item.guest, *self.item.host)]
        assert len(ids) == len(set(ids))

    @invariant()
    def good_means_both_halves_close_together_and_read_back(self):
        if self.item.state != "good":
            return
        guest, host = sets.best_pair(self.item)
        assert guest.outcome == host.outcome == "succeeded"
        assert guest.listed and host.listed
        assert abs((guest.snapshot_time - host.snapshot_time).total_seconds()) <= self.item.max_skew_s


SetMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=20)
test_sets_under_any_order_of_events = SetMachine.TestCase


# --- reading --------------------------------------------------------------------------------------------------------


def test_a_record_of_a_newer_version_is_refused_with_the_advice_to_update():
    data = {**complete().to_dict(), "version": 2, "shiny": True}
    with pytest.raises(SetUnreadable, match="newer release") as caught:
        sets.from_dict(data)
    assert caught.value.kind == "set_too_new"


@pytest.mark.parametrize(
    "change",
    [
        {"state": "fine"},
        {"unknown": 1},
        {"opened": "yesterday"},
        {"opened": None},
        {"revision": "1"},
        {"revision": True},
        {"max_skew_s": None},
        {"vm": {}},
        {"vm": None},
        {"set_id": "a b"},
        {"phases": {}},
        {"disks": {"a": 1}},
        {"hooks": None},
        {"version": 0},
        {"version": "1"},
        {"format": "other"},
        {"guest": []},
    ],
)
def test_a_damaged_record_is_refused_whole(change):
    with pytest.raises(SetUnreadable) as caught:
        sets.from_dict({**complete().to_dict(), **change}, name="set nightly")
    assert caught.value.kind == "set_unreadable"


def test_attempts_of_another_set_are_refused():
    text = complete().to_json().replace("nightly.guest.1", "weekly.guest.1")
    with pytest.raises(SetUnreadable):
        sets.from_json(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=10,
)


@given(JSON)
def test_any_json_is_a_set_or_refused(data):
    with pytest.raises(SetUnreadable):
        sets.from_dict(data)


@given(st.sampled_from(sorted(complete().to_dict())), JSON)
def test_any_field_of_any_shape_is_read_or_refused(field, value):
    try:
        item = sets.from_dict({**complete().to_dict(), field: value})
    except SetUnreadable:
        return
    assert sets.from_json(item.to_json()) == item


@given(st.text(max_size=200))
def test_any_text_is_a_record_or_refused(text):
    with pytest.raises(SetUnreadable):
        sets.from_json(text)


def test_a_listing_keeps_some_names_and_a_digest_of_all():
    names = [f"file {number}" for number in range(1000)]
    listing = sets.root_listing(names)
    assert (listing["count"], len(listing["names"])) == (1000, sets.MAX_LISTING_NAMES)
    assert listing == sets.root_listing(reversed(names))
    assert listing["sha256"] != sets.root_listing(names[1:])["sha256"]


# --- storage --------------------------------------------------------------------------------------------------------


class Registry:
    def __init__(self):
        self.keys = {}

    def get_string(self, name, key=""):
        return self.keys.get(key.casefold(), {}).get(name)

    def set_string(self, name, value, key=""):
        self.keys.setdefault(key.casefold(), {})[name] = value

    def list_keys(self, key=""):
        prefix = key.casefold() + "\\"
        return tuple(name[len(prefix) :] for name in self.keys if name.startswith(prefix)) or None


def test_what_is_written_is_read_and_found_by_the_vms_guid():
    store = SetStore(Registry())
    item = store.write(complete())
    assert item.revision == 1
    assert store.read("NIGHTLY") == item
    assert store.list(VM_ID.lower()).sets == (item,)
    assert store.list(OTHER_VM).sets == ()
    assert store.read("other") is None
    assert store.list().unreadable == ()


def test_writing_the_same_again_changes_nothing():
    store = SetStore(Registry())
    item = store.write(complete())
    assert store.write(item).revision == 1


def test_a_writer_that_has_not_seen_the_newest_revision_is_refused():
    store = SetStore(Registry())
    first = store.write(new_set())
    store.write(sets.record_quiesce(first, True, NOW))
    with pytest.raises(BackupError) as caught:
        store.write(sets.close(first, NOW))
    assert caught.value.kind == "set_changed"


def test_an_unreadable_record_is_reported_by_name_and_hides_nothing_and_is_not_overwritten():
    registry = Registry()
    store = SetStore(registry)
    store.write(complete())
    registry.set_string("Record", "{broken", "Sets\\bad")
    registry.set_string("Record", json.dumps({"format": sets.FORMAT, "version": 99}), "Sets\\future")
    found = store.list()
    assert [item.set_id for item in found.sets] == ["nightly"]
    assert {(one.set_id, one.kind) for one in found.unreadable} == {
        ("bad", "set_unreadable"),
        ("future", "set_too_new"),
    }
    with pytest.raises(SetUnreadable):
        store.write(new_set("bad"))


def test_a_registry_that_gives_back_something_else_is_noticed():
    class Forgetful(Registry):
        def set_string(self, name, value, key=""):
            super().set_string(name, value[:-1] + " }", key)

    with pytest.raises(BackupError) as caught:
        SetStore(Forgetful()).write(new_set())
    assert caught.value.kind == "set_not_stored"


def test_listing_one_vms_sets_does_not_read_the_generated_ones_of_others():
    class Counting(Registry):
        reads = 0

        def get_string(self, name, key=""):
            self.reads += 1
            return super().get_string(name, key)

    registry = Counting()
    store = SetStore(registry)
    for vm_id in (VM_ID, OTHER_VM):
        for hour in range(3):
            opened = later(3600 * hour)
            store.write(new_set(sets.new_set_id(vm_id, opened, "abcdef"), vm_id, opened))
    registry.reads = 0
    found = store.list(VM_ID)
    assert [item.opened for item in found.sets] == [later(7200), later(3600), NOW]
    assert registry.reads == 3


def test_a_set_of_forty_disks_fits_and_an_endless_one_is_refused():
    disk = {
        "slot": {"controller_type": "SCSI", "controller_number": 0, "controller_location": 1},
        "unique_id": "6" * 32,
        "coverage": "guest",
        "reason": "x" * 120,
        "evidence": {"host": {"a": "b" * 300}, "guest": {"a": "b" * 300}},
        "volumes": [{"path": "p" * 49, "root_listing": sets.root_listing(f"folder number {n}" for n in range(200))}],
    }
    store = SetStore(Registry())
    assert store.write(new_set(disks=(disk,) * 40)).revision == 1
    with pytest.raises(BackupError) as caught:
        store.write(new_set("big", disks=(disk,) * 400))
    assert caught.value.kind == "set_too_large"


# --- copies ---------------------------------------------------------------------------------------------------------


def reg_export(text, key="HKEY_LOCAL_MACHINE\\SOFTWARE\\hyperv.passthrough\\Sets\\nightly"):
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    lines = ["Windows Registry Editor Version 5.00", "", f"[{key}]", f'"Record"="{escaped}"', "", ""]
    return "\r\n".join(lines).encode("utf-16")


@given(st.text(max_size=30))
def test_an_exported_set_is_the_set(name):
    item = dataclasses.replace(complete(), vm={"id": VM_ID, "name": name})
    assert parse_reg_export(reg_export(item.to_json())) == item


@given(st.binary(max_size=300))
def test_any_file_is_a_copy_or_refused(data):
    with pytest.raises(SetUnreadable):
        parse_reg_export(data)


def test_a_file_with_two_records_is_refused():
    item = complete()
    twice = reg_export(item.to_json()).decode("utf-16")
    with pytest.raises(SetUnreadable, match="2 records"):
        parse_reg_export((twice + twice.split("\r\n\r\n", 1)[1]).encode("utf-16"))


def test_the_copy_lies_beside_the_backup_and_is_made_by_reg_export():
    item = complete()
    assert copy_path(item, "e:") == "E:\\hyperv.passthrough\\nightly.reg"
    assert copy_path(item, "\\\\nas\\my backups\\") == "\\\\nas\\my backups\\hyperv.passthrough\\nightly.reg"
    make, export = copy_steps(item, "\\\\nas\\my backups")
    assert make.command == 'md "\\\\nas\\my backups\\hyperv.passthrough"'
    assert export.command == (
        "reg export HKLM\\SOFTWARE\\hyperv.passthrough\\Sets\\nightly "
        '"\\\\nas\\my backups\\hyperv.passthrough\\nightly.reg" /y'
    )
