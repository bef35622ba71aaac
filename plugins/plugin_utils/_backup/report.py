# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""What people read at the end of a run: one line per disk, one verdict per VM.

Responsible for: turning the statuses that the playbooks keep per VM into lines of text. Not responsible for: any judgement;
every word of a verdict comes from the coverage or from the backup set.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

View = Mapping[str, Any]

_COLUMNS = ("VM", "disk", "size", "what it is", "captured by", "why")
_GIB = 1024**3
_MIB = 1024**2

#: states of a set that has both halves
_DONE = frozenset({"good", "degraded", "restored"})

#: coverage value -> what the table says; capitals where nobody captures the disk
_CAPTURED_BY: Mapping[str, str] = {
    "host": "host",
    "guest": "guest",
    "gap": "NOBODY",
    "unverified": "UNVERIFIED",
    "identity_mismatch": "MISMATCH",
}


def coverage_table(statuses: Iterable[View]) -> list[str]:
    """One line per disk of every VM, under a heading; VMs that could not be looked at come with the reason.

    Args:
        statuses: what the playbook keeps per VM: `inventory_name`, `sentence`, `coverage` (or None).
    """
    rows: list[Sequence[str]] = [_COLUMNS]
    after: list[str] = []
    for status in sorted(statuses, key=_name):
        coverage = status.get("coverage")
        if not coverage:
            after.append(f"{_name(status)}: not looked at. {status.get('sentence')}")
            continue
        rows.extend(_disk_row(_name(status), disk) for disk in coverage.get("disks") or [])
        if not coverage.get("disks"):
            after.append(f"{_name(status)}: {coverage.get('summary')}")
        after.extend(f"{_name(status)}: {note}" for note in coverage.get("notes") or [])
    return [*(_aligned(rows) if len(rows) > 1 else []), *after]


def backup_summary(statuses: Iterable[View]) -> list[str]:
    """Per VM: the verdict, what each phase captured, and what nobody captured."""
    lines: list[str] = []
    for status in sorted(statuses, key=_name):
        lines.append(f"{_name(status)}: {str(status.get('state')).upper()}. {status.get('sentence')}".rstrip())
        coverage = status.get("coverage") or {}
        for disk in coverage.get("disks") or []:
            captured = _captured(disk, done=str(status.get("state")) in _DONE)
            lines.append(f"  {_label(disk)} ({_size(disk.get('size_bytes'))}) {captured}: {disk.get('reason')}")
    return lines


#: what a restore plan does with a disk -> what the summary says
_RESTORED_BY: Mapping[str, str] = {
    "keep": "keep",
    "map_keep": "keep, on the LUN that replaces it",
    "overwrite": "OVERWRITE",
    "map_overwrite": "OVERWRITE, on the LUN that replaces it",
    "with_vm": "from the host's version",
    "in_guest": "decided inside the guest",
    "not_captured": "NOT in the backup",
    "restore": "restored",
    "skipped": "not asked for",
    "not_asked": "not asked for",
}


def restore_summary(statuses: Iterable[View]) -> list[str]:
    """Per VM: the verdict; per disk what is done with it and why; what happens, in order, while it is only planned.

    Args:
        statuses: what the playbook keeps per VM: `inventory_name`, `state`, `sentence`, `plan` (or None), and `guest`, the
            result of guest_restore, whose word on a disk counts more than the plan's.
    """
    lines: list[str] = []
    for status in sorted(statuses, key=_name):
        plan = status.get("plan") or {}
        state = str(status.get("state"))
        lines.append(f"{_name(status)}: {state.upper()}. {status.get('sentence')}".rstrip())
        told = {str(disk.get("unique_id")): disk for disk in (status.get("guest") or {}).get("disks") or []}
        for disk in plan.get("disks") or []:
            known = told.get(str(disk.get("unique_id")), disk)
            action = _RESTORED_BY.get(str(known.get("action")), str(known.get("action")))
            checked = ", verified" if known.get("verified") else ""
            lines.append(
                f"  {_label(disk)} ({_size(disk.get('size_bytes'))}) {action}{checked}: {known.get('evidence')}"
            )
        if state == "planned":
            lines.extend(f"  {number}. {step}" for number, step in enumerate(plan.get("steps") or [], start=1))
        lines.extend(f"  note: {note}" for note in plan.get("notes") or [])
    return lines


def _captured(disk: View, *, done: bool) -> str:
    value = str(disk.get("coverage"))
    if value in ("host", "guest"):
        return f"captured by the {value} phase" if done else f"planned for the {value} phase"
    return "NOT captured, accepted by the operator" if disk.get("accepted") else "NOT captured"


def _disk_row(name: str, disk: View) -> Sequence[str]:
    by = _CAPTURED_BY.get(str(disk.get("coverage")), str(disk.get("coverage")))
    if disk.get("accepted"):
        by += " (accepted)"
    what = str(disk.get("kind") or "unknown").replace("_", " ")
    return (name, _label(disk), _size(disk.get("size_bytes")), what, by, str(disk.get("reason") or ""))


def _label(disk: View) -> str:
    """What the operator can name it by: the slot, the UniqueId, or the word that accept_gaps takes."""
    named = [*(disk.get("accept_as") or ()), disk.get("kind") or "disk"]
    return str(disk.get("slot_text") or disk.get("unique_id") or named[0])


def _name(status: View) -> str:
    return str(status.get("inventory_name") or "?")


def _size(size: object) -> str:
    if not isinstance(size, int):
        return "?"
    return f"{size / _GIB:.1f} GiB" if size >= _GIB else f"{size / _MIB:.0f} MiB"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS) - 1)]
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]) for row in rows
    ]
