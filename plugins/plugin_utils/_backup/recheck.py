# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""What changed between the look that a plan was made from and a look right now.

Responsible for: comparing a coverage (`coverage.py`) with a fresh view of the host or of the guest, by identity. Not
responsible for: looking, or what is done about a change (the tasks refuse).

Minutes or hours may lie between discovery and a phase: a VM moves, a LUN is swapped, a disk goes offline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .coverage import NOT_A_DISK, slot_text

View = Mapping[str, Any]

#: Fields of a drive that must be as they were, with the word for people.
_HOST_FIELDS = (
    ("attachment", "attachment"),
    ("path", "virtual hard disk"),
    ("unique_id", "identity"),
    ("size_bytes", "size"),
)
#: Fields of a guest's disk that tell one disk from another, weakest last.
_GUEST_FIELDS = ("unique_id", "guid", "signature", "size_bytes")


def host_changes(coverage: View, vm: View) -> list[str]:
    """Sentences for what is different on the host.

    Args:
        coverage: the plan.
        vm: the VM's entry in a fresh `disk_info`.
    """
    changes = []
    if _text(coverage.get("vm", {}).get("id")) != _text(vm.get("id")):
        return [f"the plan is for VM {coverage.get('vm', {}).get('id')}, but this is VM {vm.get('id')}"]
    planned = {
        str(disk["slot_text"]): _host_facts(disk) for disk in coverage.get("disks") or () if disk.get("slot_text")
    }
    present = {
        str(slot_text(disk.get("slot"))): _drive_facts(disk)
        for disk in vm.get("disks") or ()
        if disk.get("attachment") not in NOT_A_DISK
    }
    changes += [f"the disk at {slot} is gone" for slot in sorted(set(planned) - set(present))]
    changes += [f"there is a new disk at {slot}" for slot in sorted(set(present) - set(planned))]
    for slot in sorted(set(planned) & set(present)):
        for field, word in _HOST_FIELDS:
            before, after = planned[slot].get(field), present[slot].get(field)
            if before is not None and _text(before) != _text(after):
                changes.append(f"the disk at {slot} has another {word} ({after} instead of {before})")
    return changes


def guest_changes(coverage: View, guest: View) -> list[str]:
    """Sentences for what is different in the guest, of the disks that its phase backs up.

    Args:
        coverage: the plan.
        guest: a fresh `guest_disk_info`.
    """
    told, wanted = _text((guest.get("guest") or {}).get("vm_id")), _text(coverage.get("vm", {}).get("id"))
    if told and told != wanted:
        return [f"the guest says that it is VM {told}, but the plan is for VM {wanted}"]
    changes = []
    disks = list(guest.get("disks") or ())
    for row in coverage.get("disks") or ():
        if row.get("coverage") != "guest":
            continue
        label = row.get("slot_text") or row.get("unique_id")
        same = [disk for disk in disks if _is_same(row, disk)]
        if len(same) != 1:
            changes.append(f"the disk {label} is {'gone' if not same else 'there several times'}")
            continue
        before = {_text(volume.get("path")) for volume in row.get("volumes") or ()}
        after = {_text(volume.get("path")) for volume in same[0].get("volumes") or ()}
        if same[0].get("is_offline"):
            changes.append(f"the disk {label} went offline")
        elif before != after:
            changes.append(f"the disk {label} has other volumes ({_listed(after)} instead of {_listed(before)})")
    return changes


def _is_same(row: View, disk: View) -> bool:
    evidence = (row.get("evidence") or {}).get("guest") or row
    return all(
        _text(evidence.get(field)) == _text(disk.get(field))
        for field in _GUEST_FIELDS
        if evidence.get(field) is not None
    )


def _host_facts(row: View) -> View:
    return (row.get("evidence") or {}).get("host") or {}


def _drive_facts(disk: View) -> View:
    lun, vhd = disk.get("lun") or {}, disk.get("vhd") or {}
    return {
        **disk,
        "unique_id": disk.get("unique_id") or lun.get("unique_id"),
        "size_bytes": next(
            (
                size
                for size in (disk.get("size_bytes"), lun.get("size_bytes"), vhd.get("size_bytes"))
                if size is not None
            ),
            None,
        ),
    }


def _text(value: object) -> str:
    return "" if value is None else str(value).strip().strip("{}").casefold()


def _listed(paths: Sequence[str] | set[str]) -> str:
    return ", ".join(sorted(paths)) or "none"
