# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a set remembers of restores, and what a set records at its opening for a restore."""

from __future__ import annotations

from typing import Any

import pytest

import unit.backup.restore_world as world
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup import backup_set as sets
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.backup_set import BackupSet
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.errors import BackupError
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.restore_record import (
    begin_restore,
    end_restore,
    find_restore,
    restore_run_id,
)
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.set_recording import new_set
from unit.backup.restore_world import NOW, backup_set

HOST = {
    "version": world.HOST_VERSION,
    "machine": "HV01",
    "job": {"run_id": "nightly.host_restore.r1.1", "state": "succeeded"},
}
GUEST = {
    "version": world.GUEST_VERSION,
    "machine": "DB01",
    "job": None,
    "disks": [
        {"label": "SCSI 0:1", "unique_id": world.LUN, "action": "keep", "verified": True, "evidence": "as recorded"}
    ],
}


def begun(item: BackupSet | None = None, restore_id: str = "r1", **changes: Any) -> BackupSet:
    options = {"restore_phase": "both", "host": "HV01", "now": NOW, **changes}
    return begin_restore(item or backup_set(), restore_id, **options)


def entry(item: BackupSet, restore_id: str = "r1") -> dict[str, Any]:
    return dict(find_restore(item, restore_id) or {})


def test_a_restore_is_remembered_with_times_and_disks_and_survives_json() -> None:
    item = end_restore(begun(), "R1", now=NOW, host_result=HOST, guest_result=GUEST)
    assert item.state == "restored"
    assert sets.from_json(item.to_json()) == item
    assert entry(item)["state"] == "finished"
    assert entry(item)["host_phase"]["run_id"] == "nightly.host_restore.r1.1"
    assert entry(item)["disks"][0]["action"] == "keep"


def test_a_finished_restore_is_not_touched_again() -> None:
    item = end_restore(begun(), "r1", now=NOW, host_result=HOST, guest_result=GUEST)
    assert begun(item) is item
    assert end_restore(item, "r1", now=NOW, failure="too late") is item


def test_beginning_again_changes_nothing() -> None:
    item = begun()
    assert begun(item) is item


def test_a_failed_restore_is_continued_and_forgets_its_failure() -> None:
    failed = end_restore(begun(), "r1", now=NOW, host_result=HOST, failure="no power", failure_kind="unreachable")
    assert (failed.state, entry(failed)["state"], entry(failed)["error"]["kind"]) == ("good", "failed", "unreachable")
    again = begun(failed)
    assert (entry(again)["state"], entry(again)["error"]) == ("running", None)
    assert end_restore(again, "r1", now=NOW, host_result=HOST, guest_result=GUEST).state == "restored"


def test_a_second_restore_has_its_own_entry() -> None:
    first = end_restore(begun(), "r1", now=NOW, host_result=HOST, guest_result=GUEST)
    second = begun(first, "r2", host="HV02")
    assert [one["id"] for one in second.restores] == ["r1", "r2"]


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda: begun(restore_id="a b"), "bad_restore_id"),
        (lambda: begun(begun(), host="HV02"), "restore_elsewhere"),
        (lambda: end_restore(backup_set(), "r1", now=NOW, failure="x"), "unknown_restore"),
        (lambda: end_restore(begun(), "r1", now=NOW), "restore_unproven"),
        (lambda: end_restore(begun(), "r1", now=NOW, host_result=HOST), "restore_unproven"),
        (
            lambda: end_restore(begun(), "r1", now=NOW, host_result={**HOST, "failed": True}, guest_result=GUEST),
            "restore_unproven",
        ),
        (lambda: restore_run_id("nightly", "host", "r1", 51), "too_many_attempts"),
    ],
)
def test_what_cannot_be_recorded_is_refused(call: Any, kind: str) -> None:
    with pytest.raises(BackupError) as caught:
        call()
    assert caught.value.kind == kind


def test_half_a_restore_needs_half_the_proof_and_a_failed_set_stays_failed() -> None:
    item = begun(backup_set(state="failed", guest=()), restore_phase="host")
    done = end_restore(item, "r1", now=NOW, host_result=HOST)
    assert (done.state, entry(done)["state"]) == ("failed", "finished")


def test_runs_are_named_by_set_phase_restore_attempt_and_volume() -> None:
    assert restore_run_id("Nightly", "host", "r1", 2) == "nightly.host_restore.r1.2"
    assert restore_run_id("nightly", "guest", "R2", 1, 3) == "nightly.guest_restore.r2.1.3"


def test_a_new_set_holds_what_a_restore_on_another_host_needs() -> None:
    adapters = [{"name": "Network Adapter", "mac_address": "00155D010203", "switch_name": "External"}]
    vm = {
        "id": world.VM_ID,
        "name": "db01",
        "generation": 2,
        "state": "running",
        "automatic_start_action": "Start",
        "network_adapters": adapters,
        "fibre_channel_ports": [{"wwpn": "c003ff0000000001", "san": "Fabric-A"}],
    }
    options = {
        "coverage": {"disks": world.disk_rows(), "guest_volumes": [1]},
        "guest_engine": "wsb",
        "host_engine": "wsb",
        "guest_target": "B:",
        "host_target": "E:",
        "max_skew": 3600,
        "guest_vss_backup_type": "copy",
        "host_vss_backup_type": "copy",
        "allow_offline": False,
    }
    item = new_set(options, vm, "HV01", "nightly", NOW)
    assert sets.from_json(item.to_json()) == item
    assert (item.vm["network_adapters"], item.vm["state"]) == (adapters, "running")
    assert item.vm["fibre_channel_ports"][0]["san"] == "Fabric-A"
    assert item.disks[1]["evidence"]["guest"]["partitions"][0]["number"] == 1
