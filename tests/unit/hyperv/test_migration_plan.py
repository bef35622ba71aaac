# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of a migration: order of the steps, what refuses it, reruns, rollback, finalizing. Data in, data out."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.disk_selector import DiskSelector
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.errors import HypervError
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.migration_plan import plan_migration
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.migration_record import (
    DiskMigration,
    MigrationRecord,
    MigrationStore,
    from_json,
)
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.migration_steps import (
    MigrationPlan,
    Request,
    Situation,
)
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.vhd_fit import GIB
from unit.hyperv.migration_scene import (
    BLANK,
    GUID,
    SECOND,
    SIZE,
    SLOT,
    SOURCE,
    VM_ID,
    attached,
    blank_lun,
    layout,
    lun,
    request,
    situation,
    source_lun,
    vm,
    vm_disk,
    wanted,
)

CUT_OVER = "2026-11-22T10:00:00Z"
COPY = ["record", "prepare", "hold_start_action", "shut_down", "detach", "copy", "verify", "name", "attach", "cut_over"]
END = ["restore_start_action", "start", "close"]
PATH = "E:\\sql01-scsi0-2.vhdx"
STAGING = "D:\\Staging\\sql01-scsi0-2.vhdx"


def kinds(plan: MigrationPlan) -> list[str]:
    assert not plan.refused, plan.sentence()
    return [step.kind for step in plan.steps]


def refusals(at: Situation, asked: Request) -> list[str]:
    plan = plan_migration(at, asked)
    assert plan.steps == ()
    return [finding.kind for finding in plan.findings]


def recorded(**changes: Any) -> MigrationRecord:
    """The record of a copy that has begun; `changes` of its only disk."""
    made: dict[str, Any] = {
        "slot": SLOT,
        "mode": "copy",
        "leg": "copy",
        "size_bytes": SIZE,
        "format": "VHDX",
        "reserve_bytes": GIB,
        "path": PATH,
        "drive_letter": "E",
        "source": {"unique_id": SOURCE, "serial_number": f"serial-{SOURCE[-4:]}", "guid": GUID, "size_bytes": SIZE},
        "destination": {"unique_id": BLANK, "serial_number": f"serial-{BLANK[-4:]}"},
        "layout": layout(),
    }
    disk = DiskMigration(**{**made, **changes})
    record = MigrationRecord(vm_id=VM_ID, vm_name="sql01", revision=3, disks=(disk,))
    if disk.is_past("detached") and disk.outcome == "":
        record = dataclasses.replace(
            record, automatic_start_action="StartIfRunning", was_running=True, downtime_began=CUT_OVER
        )
    return record


def off(**changes: Any) -> dict[str, Any]:
    return vm(state="off", automatic_start_action="Nothing", **changes)


# -- a copy from the beginning ---------------------------------------------------------------------------------------


def test_a_copy_prepares_the_destination_before_the_vm_goes_off() -> None:
    plan = plan_migration(situation(), request())
    assert kinds(plan) == COPY + END
    assert next(step.kind for step in plan.steps if step.needs_vm_off) == "detach"
    assert "prepare" in [step.kind for step in plan.steps if not step.needs_vm_off]


def test_the_plan_says_what_is_copied_and_how_long_the_vm_is_off() -> None:
    plan = plan_migration(situation(), request())
    assert plan.downtime() == {"class": "copy", "copied_bytes": SIZE, "estimated_hours": 0.1}
    assert plan.fits[SLOT.describe()].answer == "certain"
    assert json.loads(json.dumps(plan.describe()))[0]["kind"] == "record"
    assert "[VM off] " in plan.text()


def test_the_vhd_gets_a_name_of_vm_and_slot_on_the_first_free_letter() -> None:
    plan = plan_migration(situation(), request())
    (disk,) = plan.disks
    assert (disk.path, disk.work_path) == (PATH, "E:\\sql01-scsi0-2.migrating.vhdx")
    assert disk.layout == layout()


def test_a_name_that_is_no_file_name_is_made_one() -> None:
    plan = plan_migration(situation(the_vm=vm(name='{{ x }} & "仮想"')), request(wanted(drive_letter="v:")))
    (disk,) = plan.disks
    assert disk.path == "V:\\x_-scsi0-2.vhdx"


def test_a_vm_that_is_off_stays_off() -> None:
    plan = plan_migration(situation(the_vm=off()), request())
    assert kinds(plan) == [kind for kind in COPY + END if kind not in ("shut_down", "start")]


def test_several_disks_share_one_downtime_and_all_are_verified_before_one_is_attached() -> None:
    other, other_blank = "6006016000000000000000000000CC03", "6006016000000000000000000000DD04"
    at = situation(
        the_vm=vm(disks=[vm_disk(), vm_disk(SECOND, lun_id=other)]),
        luns=[
            source_lun(),
            blank_lun(),
            lun(other, partition_style="GPT", guid=GUID.replace("aa}", "bb}"), attached_to=[attached()], number=8),
            lun(other_blank, size_bytes=SIZE + GIB),
        ],
    )
    at.vm["disks"][1]["lun"].update(guid=GUID.replace("aa}", "bb}"))
    second = wanted(slot=SECOND, destination=DiskSelector(unique_id=other_blank))
    plan = plan_migration(at, request(wanted(), second))
    assert kinds(plan) == (
        ["record", "prepare", "prepare", "hold_start_action", "shut_down"]
        + [kind for kind in ("detach", "copy", "verify", "name", "attach") for _unused in range(2)]
        + ["cut_over", *END]
    )
    assert [disk.drive_letter for disk in plan.disks] == ["E", "F"]


def test_a_lun_names_the_slot_too() -> None:
    plan = plan_migration(situation(), request(wanted(slot=None, lun=DiskSelector(unique_id=SOURCE))))
    assert [disk.slot for disk in plan.disks] == [SLOT]


# -- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"state": "saved"}, "vm_saved"),
        ({"state": "paused"}, "vm_paused"),
        ({"state": "starting"}, "vm_busy"),
        ({"busy": "merging_disks"}, "vm_busy"),
        ({"checkpoints": [{"id": "x", "name": "before", "type": "standard"}]}, "checkpoints_exist"),
        ({"checkpoints": [{"id": "x", "name": "backup", "type": "recovery"}]}, "checkpoints_exist"),
        ({"replication": {"state": "", "mode": "replica", "is_replica": True}}, "replica"),
        ({"is_clustered": True}, "clustered"),
        ({"disks": []}, "not_pass_through"),
        ({"disks": [vm_disk(path="D:\\x.vhdx")]}, "not_pass_through"),
        ({"disks": [vm_disk(lun_id=None, attachment="unresolved_pass_through")]}, "unresolved_pass_through"),
    ],
)
def test_a_vm_that_must_not_be_touched_is_refused(changes: dict[str, Any], kind: str) -> None:
    assert kind in refusals(situation(the_vm=vm(**changes)), request())


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"is_offline": False}, "lun_online"),
        ({"is_boot": True}, "lun_in_use"),
        ({"is_system": True}, "lun_in_use"),
        ({"is_clustered": True}, "lun_in_use"),
        (
            {"attached_to": [attached(), attached("BBBBBBBB-0000-4000-8000-000000000002", "other")]},
            "lun_attached_elsewhere",
        ),
        ({"size_bytes": SIZE + 512}, "disk_changed"),
        ({"guid": "{00000000-0000-4000-8000-000000000000}"}, "disk_changed"),
    ],
)
def test_a_source_that_must_not_be_copied_is_refused(changes: dict[str, Any], kind: str) -> None:
    assert kind in refusals(situation(luns=[source_lun(**changes), blank_lun()]), request())


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"partition_style": "GPT"}, "destination_not_blank"),
        ({"partition_style": "MBR"}, "destination_not_blank"),
        ({"is_boot": True}, "lun_in_use"),
        ({"is_clustered": True}, "lun_in_use"),
        ({"attached_to": [attached("BBBBBBBB-0000-4000-8000-000000000002", "other")]}, "lun_attached_elsewhere"),
        ({"offline_reason": "Collision"}, "identity_collision"),
        ({"weak_identity": True}, "weak_identity"),
        ({"provisioning": "Thin"}, "thin_lun"),
        ({"size_bytes": SIZE + 2 * GIB}, "size_not_confirmed"),
        ({"size_bytes": SIZE}, "does_not_fit"),
    ],
)
def test_a_destination_that_is_not_free_is_refused(changes: dict[str, Any], kind: str) -> None:
    assert kind in refusals(situation(luns=[source_lun(), blank_lun(**changes)]), request())


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"confirm_size_bytes": None}, "size_not_confirmed"),
        ({"confirm_size_bytes": 1}, "size_not_confirmed"),
        ({"destination": None}, "no_destination"),
        ({"destination": DiskSelector(unique_id="7")}, "disk_number_given"),
        ({"destination": DiskSelector(unique_id="FFFF00")}, "unknown_disk"),
        ({"destination": DiskSelector(unique_id=SOURCE)}, "destination_is_source"),
        ({"slot": None, "lun": None}, "no_disk_named"),
        ({"slot": None, "lun": DiskSelector(unique_id=BLANK)}, "unknown_disk"),
        ({"lun": DiskSelector(unique_id=BLANK)}, "other_lun"),
        ({"vhd_format": "VHD"}, "vhd_on_generation_2"),
        ({"drive_letter": "D"}, "letter_taken"),
        ({"guest_size_bytes": SIZE - GIB}, "size_differs"),
    ],
)
def test_an_order_that_does_not_fit_what_is_there_is_refused(changes: dict[str, Any], kind: str) -> None:
    assert kind in refusals(situation(), request(wanted(**changes)))


def test_all_obstacles_are_told_at_once() -> None:
    at = situation(
        the_vm=vm(state="paused", busy="merging_disks"),
        luns=[source_lun(is_offline=False), blank_lun(provisioning="Thin")],
    )
    found = refusals(at, request(wanted(confirm_size_bytes=None)))
    assert {"vm_paused", "vm_busy", "lun_online", "size_not_confirmed", "thin_lun"} <= set(found)


def test_full_allocation_of_a_thin_lun_can_be_accepted() -> None:
    at = situation(luns=[source_lun(), blank_lun(provisioning="Thin")])
    assert kinds(plan_migration(at, request(accept_full_allocation=True))) == COPY + END


def test_any_scsi_command_of_the_guest_must_be_accepted_to_get_lost() -> None:
    assert refusals(situation(full_scsi=True), request()) == ["full_scsi_command_set"]
    assert kinds(plan_migration(situation(full_scsi=True), request(accept_full_scsi=True))) == COPY + END


def test_a_cluster_node_is_refused_before_anything() -> None:
    at = situation(host={"cluster": {"member": True, "name": "c1"}})
    assert refusals(at, request()) == ["clustered"]


def test_a_fit_that_is_only_possible_is_enough_for_a_copy() -> None:
    at = situation(luns=[source_lun(), blank_lun(size_bytes=SIZE + GIB // 4)])
    asked = wanted(reserve_bytes=0, confirm_size_bytes=SIZE + GIB // 4)
    plan = plan_migration(at, request(asked))
    assert plan.fits[SLOT.describe()].answer == "possible"
    assert kinds(plan) == COPY + END


@pytest.mark.parametrize(
    ("seen", "kind"),
    [
        ({"is_offline": True}, "lun_seen_elsewhere"),
        ({"is_offline": False}, "lun_used_elsewhere"),
        ({"attached_to": [attached("X", "other")]}, "lun_used_elsewhere"),
    ],
)
def test_a_destination_that_another_host_sees_is_refused(seen: dict[str, Any], kind: str) -> None:
    at = situation(other_hosts={"hv02": {"luns": [lun(BLANK, **seen)]}})
    assert refusals(at, request()) == [kind]


def test_another_host_that_only_sees_the_destination_can_be_accepted() -> None:
    at = situation(other_hosts={"hv02": {"luns": [lun(BLANK)]}})
    assert kinds(plan_migration(at, request(accept_seen_elsewhere=True))) == COPY + END


@pytest.mark.parametrize(
    ("disk", "volume", "kind"),
    [
        ({"is_dynamic": True}, {}, "guest_dynamic_disk"),
        ({"in_storage_pool": True}, {}, "guest_storage_pool"),
        ({"is_clustered": True}, {}, "guest_cluster"),
        ({"size_bytes": SIZE - 512}, {}, "size_differs"),
        ({}, {"is_boot": True, "bitlocker": {"protection": "on", "lock": "unlocked"}}, "bitlocker_boot_disk"),
    ],
)
def test_what_only_the_guest_knows_refuses_too(disk: dict[str, Any], volume: dict[str, Any], kind: str) -> None:
    assert refusals(situation(guest=guest(disk, volume)), request()) == [kind]


def test_a_data_disk_with_bitlocker_is_copied_as_it_is_and_said() -> None:
    plan = plan_migration(
        situation(guest=guest({}, {"bitlocker": {"protection": "on", "lock": "unlocked"}})), request()
    )
    assert kinds(plan) == COPY + END
    assert any("BitLocker" in note for note in plan.notes)


@pytest.mark.parametrize(
    "observed",
    [
        {"the_vm": vm(guest={"os_name": "Ubuntu", "os_family": "other", "heartbeat": "ok"})},
        {"guest": {"guest": {"os_family": "linux"}, "disks": []}},
    ],
    ids=["by its host", "by itself"],
)
def test_a_guest_that_is_not_windows_is_told_what_changes_and_what_nobody_proves(observed: dict[str, Any]) -> None:
    notes = plan_migration(situation(**observed), request()).notes
    for said in ("another WWN", "/etc/fstab", "UUID=", "nobody proves inside this guest"):
        assert any(said in note for note in notes), said


@pytest.mark.parametrize("family", ["windows", None])
def test_a_windows_guest_or_a_silent_one_is_not_warned_of_wwns(family: str | None) -> None:
    plan = plan_migration(situation(the_vm=vm(guest={"os_name": None, "os_family": family})), request())
    assert not any("WWN" in note for note in plan.notes)


def guest(disk: dict[str, Any], volume: dict[str, Any]) -> dict[str, Any]:
    whole_volume = {"is_boot": False, "is_system": False, "bitlocker": None, **volume}
    whole = {
        "unique_id": SOURCE,
        "size_bytes": SIZE,
        "is_dynamic": False,
        "in_storage_pool": False,
        "is_clustered": False,
        "is_boot": bool(volume.get("is_boot")),
        "volumes": [whole_volume],
        **disk,
    }
    return {"guest": {"os_family": "windows"}, "disks": [whole]}


# -- reruns ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "left"),
    [
        ("planned", COPY[1:]),
        ("preparing", COPY[1:]),
        ("prepared", COPY[2:]),
    ],
)
def test_a_run_broken_off_before_the_downtime_goes_on_where_it_was(stage: str, left: list[str]) -> None:
    luns = [source_lun(), blank_lun(partition_style="RAW" if stage == "planned" else "GPT")]
    plan = plan_migration(situation(luns=luns, record=recorded(stage=stage)), request())
    assert kinds(plan) == left + END


@pytest.mark.parametrize(
    ("stage", "left"),
    [
        ("detached", ["copy", "verify", "name", "attach", "cut_over"]),
        ("copied", ["verify", "name", "attach", "cut_over"]),
        ("verified", ["name", "attach", "cut_over"]),
        ("named", ["attach", "cut_over"]),
    ],
)
def test_a_run_broken_off_in_the_downtime_goes_on_where_it_was(stage: str, left: list[str]) -> None:
    at = situation(the_vm=off(disks=[]), record=recorded(stage=stage))
    plan = plan_migration(at, request())
    assert kinds(plan) == ["hold_start_action", *left, *END]
    assert "StartIfRunning" in next(step.sentence for step in plan.steps if step.kind == "restore_start_action")


def test_a_source_that_hangs_at_its_slot_again_is_copied_anew() -> None:
    at = situation(record=recorded(stage="verified", job="X"))
    plan = plan_migration(at, request())
    assert kinds(plan) == COPY[2:] + END
    assert plan.disks[0].job is None


def test_a_vhd_that_was_attached_without_being_written_down_is_taken_as_attached() -> None:
    at = situation(the_vm=off(disks=[vm_disk(path=PATH)]), record=recorded(stage="named"))
    assert kinds(plan_migration(at, request())) == ["hold_start_action", "cut_over", *END]


def test_after_the_cut_over_only_the_end_is_left_even_when_the_vm_runs_already() -> None:
    at = situation(
        the_vm=vm(automatic_start_action="Nothing", disks=[vm_disk(path=PATH)]),
        record=recorded(stage="attached", cut_over=CUT_OVER),
    )
    assert kinds(plan_migration(at, request())) == END


def test_a_foreign_disk_at_the_slot_in_the_middle_is_refused() -> None:
    at = situation(the_vm=off(disks=[vm_disk(path="D:\\other.vhdx")]), record=recorded(stage="copied"))
    assert refusals(at, request()) == ["slot_taken"]


@pytest.mark.parametrize(
    "there", [[], [vm_disk(lun_id=BLANK)], [vm_disk(lun_id=None, attachment="unresolved_pass_through")]]
)
def test_a_source_that_left_its_slot_before_the_downtime_is_told(there: list[dict[str, Any]]) -> None:
    at = situation(the_vm=vm(disks=there), record=recorded(stage="prepared"))
    assert "source_moved" in refusals(at, request())


def test_an_empty_drive_that_a_broken_attach_left_is_used() -> None:
    empty = vm_disk(lun_id=None)
    at = situation(the_vm=off(disks=[empty]), record=recorded(stage="named"))
    assert empty["attachment"] == "empty"
    assert kinds(plan_migration(at, request())) == ["hold_start_action", "attach", "cut_over", *END]


def test_a_finished_migration_has_nothing_left_to_do() -> None:
    at = situation(
        the_vm=vm(disks=[vm_disk(path=PATH)]), record=recorded(stage="done", outcome="migrated", cut_over=CUT_OVER)
    )
    plan = plan_migration(at, request())
    assert kinds(plan) == []
    assert plan.disks[0].outcome == "migrated"


def test_a_finished_migration_whose_disk_is_gone_is_told() -> None:
    at = situation(the_vm=vm(disks=[]), record=recorded(stage="done", outcome="migrated", cut_over=CUT_OVER))
    assert refusals(at, request()) == ["not_as_recorded"]


def test_a_slot_that_got_another_lun_after_finalizing_is_migrated_anew() -> None:
    record = recorded(stage="done", outcome="finalized", cut_over=CUT_OVER, source={"unique_id": "old"})
    plan = plan_migration(situation(record=record), request())
    assert kinds(plan) == COPY + END
    assert plan.disks[0].source is not None
    assert plan.disks[0].source["unique_id"] == SOURCE


def test_another_mode_than_the_one_begun_is_refused() -> None:
    at = situation(record=recorded(stage="prepared"))
    assert refusals(at, request(wanted(mode="in_place"))) == ["other_mode"]


# -- new ---------------------------------------------------------------------------------------------------------------


def test_an_empty_vhd_is_added_while_the_vm_runs_and_fills_the_lun_but_for_the_reserve() -> None:
    plan = plan_migration(situation(luns=[source_lun(), blank_lun()]), request(wanted(mode="new", slot=SECOND)))
    assert kinds(plan) == ["record", "prepare", "copy", "verify", "name", "attach", "close"]
    assert plan.downtime()["class"] == "none"
    assert SIZE - GIB < plan.disks[0].size_bytes <= SIZE


def test_an_empty_vhd_at_an_ide_controller_needs_the_vm_off() -> None:
    ide = dataclasses.replace(SLOT, controller_type="IDE", controller_location=1)
    at = situation(the_vm=vm(generation=1, disks=[], controllers=[{"id": "i", "type": "IDE", "number": 0}]))
    plan = plan_migration(at, request(wanted(mode="new", slot=ide)))
    assert "shut_down" in kinds(plan)
    assert plan.disks[0].format == "VHD"


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"slot": SLOT}, "slot_taken"),
        ({"slot": dataclasses.replace(SLOT, controller_type="IDE")}, "no_such_controller"),
    ],
)
def test_an_empty_vhd_needs_a_free_slot_of_a_controller_that_is_there(changes: dict[str, Any], kind: str) -> None:
    assert kind in refusals(situation(), request(wanted(mode="new", **changes)))


# -- in place ----------------------------------------------------------------------------------------------------------

IN_PLACE = {"mode": "in_place", "destination": None, "staging_path": "D:\\Staging", "growth_gib": 1}
FIRST_HALF = [kind for kind in COPY if kind != "prepare"]


def on_staging(**changes: Any) -> MigrationRecord:
    return recorded(
        **{
            "mode": "in_place",
            "leg": "staging",
            "stage": "done",
            "outcome": "awaiting_growth",
            "path": "",
            "drive_letter": None,
            "destination": None,
            "staging_path": STAGING,
            "cut_over": CUT_OVER,
            **changes,
        }
    )


def grown(**changes: Any) -> dict[str, Any]:
    return source_lun(**{"size_bytes": SIZE + GIB, "attached_to": [], **changes})


def test_the_first_half_copies_to_the_staging_file_and_leaves_the_lun_alone() -> None:
    plan = plan_migration(situation(luns=[source_lun()]), request(wanted(**IN_PLACE)))
    assert kinds(plan) == FIRST_HALF + END
    assert (plan.disks[0].target_path, plan.disks[0].path) == (STAGING, "")
    assert plan.fits[SLOT.describe()].growth_gib == 1
    assert "wipe" not in plan.text()


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"growth_gib": None}, "growth_not_confirmed"),
        ({"growth_gib": 0}, "growth_not_confirmed"),
        ({"staging_path": None}, "no_staging_path"),
        ({"staging_path": "C:\\Staging"}, "staging_too_small"),
        ({"staging_path": "Z:\\Staging"}, "staging_too_small"),
        ({"staging_path": "D:\\x.vhd"}, "other_format"),
        ({"staging_path": "\\\\server\\share"}, "bad_path"),
    ],
)
def test_a_first_half_that_cannot_end_well_is_refused_before_any_downtime(changes: dict[str, Any], kind: str) -> None:
    assert kind in refusals(situation(luns=[source_lun()]), request(wanted(**{**IN_PLACE, **changes})))


def test_without_a_confirmed_wipe_it_goes_on_waiting_and_says_what_is_missing() -> None:
    at = situation(the_vm=vm(disks=[vm_disk(path=STAGING)]), luns=[source_lun(attached_to=[])], record=on_staging())
    plan = plan_migration(at, request(wanted(**IN_PLACE)))
    assert kinds(plan) == []
    assert any("must still grow by 1 GiB" in note for note in plan.notes)
    at = situation(the_vm=vm(disks=[vm_disk(path=STAGING)]), luns=[grown()], record=on_staging())
    assert any("large enough now" in note for note in plan_migration(at, request(wanted(**IN_PLACE))).notes)


def test_the_second_half_wipes_only_the_lun_that_was_named_and_after_it_has_grown() -> None:
    at = situation(the_vm=vm(disks=[vm_disk(path=STAGING)]), luns=[grown()], record=on_staging())
    plan = plan_migration(at, request(wanted(**IN_PLACE, confirm_wipe=SOURCE)))
    assert kinds(plan) == ["record", "wipe", *COPY[1:], *END]
    (disk,) = plan.disks
    assert (disk.leg, disk.path, disk.staging_cut_over, disk.cut_over) == ("growth", PATH, CUT_OVER, None)
    assert STAGING in next(step.sentence for step in plan.steps if step.kind == "copy")


@pytest.mark.parametrize(
    ("the_lun", "confirm", "kind"),
    [
        (grown(), BLANK, "wipe_not_confirmed"),
        (source_lun(attached_to=[]), SOURCE, "does_not_fit"),
        (grown(attached_to=[attached("X", "other")]), SOURCE, "lun_attached_elsewhere"),
        (grown(provisioning="Thin"), SOURCE, "thin_lun"),
        (grown(guid="{00000000-0000-4000-8000-000000000000}"), SOURCE, "disk_changed"),
    ],
)
def test_a_second_half_that_must_not_wipe_is_refused(the_lun: dict[str, Any], confirm: str, kind: str) -> None:
    at = situation(the_vm=vm(disks=[vm_disk(path=STAGING)]), luns=[the_lun], record=on_staging())
    assert kind in refusals(at, request(wanted(**IN_PLACE, confirm_wipe=confirm)))


def test_a_second_half_that_was_broken_off_after_the_wipe_still_wants_the_confirmation() -> None:
    record = on_staging(
        leg="growth", stage="preparing", outcome="", wiped=True, path=PATH, drive_letter="E", cut_over=None,
        staging_cut_over=CUT_OVER, destination={"unique_id": SOURCE, "serial_number": f"serial-{SOURCE[-4:]}"},
    )  # fmt: skip
    at = situation(
        the_vm=vm(disks=[vm_disk(path=STAGING)]), luns=[grown(partition_style="RAW", guid=None)], record=record
    )
    assert refusals(at, request(wanted(**IN_PLACE))) == ["wipe_not_confirmed"]
    assert kinds(plan_migration(at, request(wanted(**IN_PLACE, confirm_wipe=SOURCE)))) == ["wipe", *COPY[1:], *END]


# -- back and the end -----------------------------------------------------------------------------------------------------


def migrated(**changes: Any) -> Situation:
    return situation(
        the_vm=vm(disks=[vm_disk(path=PATH)]),
        record=recorded(**{"stage": "done", "outcome": "migrated", "cut_over": CUT_OVER, **changes}),
    )


def test_going_back_after_the_vm_ran_on_the_vhd_names_the_time_that_would_be_lost() -> None:
    plan = plan_migration(migrated(), request(state="rolled_back"))
    (finding,) = plan.findings
    assert finding.kind == "writes_would_be_lost"
    assert CUT_OVER in finding.sentence
    assert "2026-11-22T12:00:00Z" in finding.sentence
    assert refusals(migrated(), request(state="rolled_back", discard_writes_since="2026-11-22T10:00:01Z")) == [
        "writes_would_be_lost"
    ]


def test_going_back_with_exactly_that_time_attaches_the_lun_again() -> None:
    plan = plan_migration(migrated(), request(state="rolled_back", discard_writes_since=CUT_OVER))
    assert kinds(plan) == [
        "hold_start_action",
        "shut_down",
        "put_back",
        "restore_start_action",
        "start",
        "close_rollback",
    ]


def test_going_back_before_the_cut_over_loses_nothing() -> None:
    at = situation(the_vm=off(disks=[]), record=recorded(stage="copied"))
    plan = plan_migration(at, request(state="rolled_back"))
    assert kinds(plan) == ["hold_start_action", "put_back", "restore_start_action", "start", "close_rollback"]


def test_going_back_before_the_downtime_only_forgets_it() -> None:
    at = situation(record=recorded(stage="prepared"))
    assert kinds(plan_migration(at, request(state="rolled_back"))) == ["close_rollback"]


def test_after_the_wipe_the_way_back_is_the_staging_vhd() -> None:
    record = on_staging(
        leg="growth",
        outcome="migrated",
        wiped=True,
        path=PATH,
        cut_over=CUT_OVER,
        staging_cut_over="2026-11-21T10:00:00Z",
    )
    at = situation(the_vm=vm(disks=[vm_disk(path=PATH)]), luns=[], record=record)
    plan = plan_migration(at, request(state="rolled_back", discard_writes_since=CUT_OVER))
    assert STAGING in next(step.sentence for step in plan.steps if step.kind == "put_back")


def test_between_the_halves_going_back_loses_what_was_written_to_the_staging_vhd() -> None:
    at = situation(the_vm=vm(disks=[vm_disk(path=STAGING)]), record=on_staging())
    assert refusals(at, request(state="rolled_back")) == ["writes_would_be_lost"]
    plan = plan_migration(at, request(state="rolled_back", discard_writes_since=CUT_OVER))
    assert SOURCE in next(step.sentence for step in plan.steps if step.kind == "put_back")


def test_nothing_to_roll_back_is_told() -> None:
    assert refusals(situation(), request(state="rolled_back")) == ["nothing_to_roll_back"]
    assert refusals(migrated(), request(wanted(slot=SECOND), state="rolled_back")) == ["nothing_to_roll_back"]


def test_a_second_rollback_has_nothing_to_do() -> None:
    assert kinds(plan_migration(migrated(outcome="rolled_back"), request(state="rolled_back"))) == []


@pytest.mark.parametrize(
    "record",
    [
        recorded(stage="attached", outcome="rolled_back", cut_over=CUT_OVER),
        recorded(stage="prepared"),
        on_staging(wiped=True, cut_over="2026-11-21T10:00:00Z"),
    ],
    ids=["after its last disk", "before any disk", "after the wipe"],
)
def test_a_rollback_that_was_broken_off_in_its_downtime_still_starts_the_vm(record: MigrationRecord) -> None:
    record = dataclasses.replace(
        record, downtime_began=CUT_OVER, automatic_start_action="StartIfRunning", was_running=True
    )
    at = situation(the_vm=vm(state="off", automatic_start_action="Nothing"), record=record)
    plan = plan_migration(at, request(state="rolled_back", discard_writes_since=CUT_OVER))
    assert kinds(plan) == ["restore_start_action", "start", "close_rollback"]
    assert "StartIfRunning" in plan.text()


def test_after_the_wipe_a_second_rollback_never_leads_to_the_wiped_lun() -> None:
    at = situation(the_vm=vm(disks=[vm_disk(path=STAGING)]), record=on_staging(wiped=True))
    plan = plan_migration(at, request(state="rolled_back", discard_writes_since=CUT_OVER))
    assert (kinds(plan), plan.refused) == ([], False)


def test_finalizing_wipes_nothing_and_says_what_may_be_given_back() -> None:
    plan = plan_migration(migrated(), request(state="finalized"))
    assert kinds(plan) == ["finalize"]
    assert SOURCE in plan.text()
    assert kinds(plan_migration(migrated(outcome="finalized"), request(state="finalized"))) == []


@pytest.mark.parametrize("outcome", ["", "awaiting_growth", "rolled_back"])
def test_only_a_finished_migration_is_finalized(outcome: str) -> None:
    at = migrated(outcome=outcome, stage="copied" if outcome == "" else "done")
    assert refusals(at, request(state="finalized")) == ["not_migrated"]


def test_after_finalizing_there_is_no_way_back() -> None:
    assert refusals(migrated(outcome="finalized"), request(state="rolled_back")) == ["already_finalized"]


# -- the record --------------------------------------------------------------------------------------------------------


class OneKey:
    """A registry of one value per key."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    def get_string(self, name: str, key: str = "") -> str | None:
        return self.values.get(f"{key}\\{name}")

    def set_string(self, name: str, value: str, key: str = "") -> None:
        self.values[f"{key}\\{name}"] = value

    def create_key(self, key: str = "") -> None:
        return


def test_a_record_is_read_as_it_was_written() -> None:
    store = MigrationStore(registry=OneKey())
    written = store.write(dataclasses.replace(on_staging(), revision=0))
    assert written.revision == 1
    assert store.read(VM_ID.lower()) == written
    assert from_json(written.to_json(), what="it") == written


def test_a_record_that_another_run_changed_is_not_overwritten() -> None:
    store = MigrationStore(registry=OneKey())
    first = store.write(dataclasses.replace(recorded(), revision=0))
    store.write(first)
    with pytest.raises(HypervError) as refused:
        store.write(first)
    assert refused.value.kind == "migration_changed"


def test_a_run_that_is_overtaken_before_its_first_record_does_not_write_over_the_newer_one() -> None:
    class Slow(OneKey):
        """While the key is made, another run does everything."""

        def create_key(self, key: str = "") -> None:
            if not self.values:
                done = recorded(stage="done", outcome="migrated", cut_over=CUT_OVER)
                self.set_string("Record", done.to_json(), key)

    registry = Slow()
    with pytest.raises(HypervError) as refused:
        MigrationStore(registry=registry).write(dataclasses.replace(recorded(), revision=0))
    assert refused.value.kind == "migration_changed"
    kept = MigrationStore(registry=registry).read(VM_ID)
    assert kept is not None
    assert kept.disks[0].outcome == "migrated"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"version": 2}',
        '{"version": 1, "vm_id": "x", "vm_name": "x", "disks": [{}]}',
        recorded().to_json().replace('"copy"', '"away"'),
        recorded().to_json().replace(str(SIZE), '"10"'),
    ],
)
def test_a_record_that_cannot_be_used_is_told_and_left_alone(text: str) -> None:
    with pytest.raises(HypervError) as refused:
        from_json(text, what="the migrations of sql01")
    assert refused.value.kind == "migration_unreadable"


def test_the_oldest_record_of_this_version_lacks_what_came_later() -> None:
    data = json.loads(recorded().to_json())
    del data["disks"][0]["staging_cut_over"]
    data["disks"][0]["of the future"] = 1
    assert from_json(json.dumps(data), what="it") == recorded()
