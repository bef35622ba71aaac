# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What people read about a restore. Responsible for the lines; the plans in it are written by hand."""

from __future__ import annotations

from typing import Any

from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.report import restore_summary

MIB = 1024**2
PLAN: dict[str, Any] = {
    "disks": [
        {"slot_text": "SCSI 0:0", "unique_id": "V0", "size_bytes": 24 * MIB, "action": "with_vm", "evidence": "a VHD"},
        {
            "slot_text": "SCSI 0:1",
            "unique_id": "L1",
            "size_bytes": 48 * MIB,
            "action": "keep",
            "evidence": "as recorded",
        },
        {
            "slot_text": "SCSI 0:2",
            "unique_id": "L2",
            "size_bytes": 2048 * MIB,
            "action": "overwrite",
            "evidence": "blank",
        },
    ],
    "steps": ["restore the VM", "start it"],
    "notes": ["the switch Old is not there"],
}


def status(**changed: Any) -> dict[str, Any]:
    return {"inventory_name": "erp01", "state": "planned", "sentence": "Two of three.", "plan": PLAN, **changed}


def test_a_planned_restore_names_each_disk_with_what_happens_to_it_and_lists_the_steps() -> None:
    assert restore_summary([status()]) == [
        "erp01: PLANNED. Two of three.",
        "  SCSI 0:0 (24 MiB) from the host's version: a VHD",
        "  SCSI 0:1 (48 MiB) keep: as recorded",
        "  SCSI 0:2 (2.0 GiB) OVERWRITE: blank",
        "  1. restore the VM",
        "  2. start it",
        "  note: the switch Old is not there",
    ]


def test_what_the_guest_did_counts_more_than_what_was_planned() -> None:
    guest = {"disks": [{"unique_id": "L2", "action": "restore", "evidence": "blank", "verified": True}]}
    lines = restore_summary([status(state="restored", sentence="Done.", guest=guest)])
    assert lines[0] == "erp01: RESTORED. Done."
    assert "  SCSI 0:2 (2.0 GiB) restored, verified: blank" in lines
    assert not [line for line in lines if "start it" in line]


def test_a_vm_that_never_got_a_plan_has_its_sentence_and_vms_come_by_name() -> None:
    failed = {"inventory_name": "app01", "state": "failed", "sentence": "No set.", "plan": None, "guest": None}
    lines = restore_summary([status(), failed])
    assert lines[0] == "app01: FAILED. No set."
    assert lines[1].startswith("erp01: PLANNED")


def test_a_refused_restore_lists_no_steps() -> None:
    lines = restore_summary([status(state="refused")])
    assert "  SCSI 0:1 (48 MiB) keep: as recorded" in lines
    assert not [line for line in lines if "start it" in line]
