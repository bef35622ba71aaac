# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""Which disks of a host could become virtual hard disks, and whether a guest shows after a migration what it showed before.

Pure functions over what `disk_info`, `guest_disk_info` and `lun_to_vhd` return; both are filters of playbooks.

Not here: the plan of one migration (`migration_plan`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .errors import HypervError
from .migration_checks import MigrationChecks
from .migration_steps import Request, Situation
from .model import Slot, record_dict
from .vhd_fit import DEFAULT_RESERVE, GIB, VolumeShape, choose_format, estimated_hours, gib_text, needed_lun_bytes

# What of a volume must be the same before and after; how much of it is used may have changed since
_COMPARED = ("file_system", "label", "serial_number", "size_bytes", "letter")


def migration_candidates(
    view: Mapping[str, Any],
    guest: Mapping[str, Any] | None = None,
    reserve: int = DEFAULT_RESERVE,
    allocation_unit: int = 65536,
) -> list[dict[str, Any]]:
    """One entry per pass-through disk of the VMs in a result of disk_info: fit, growth, downtime, and what stands in the way.

    Args:
        guest: result of guest_disk_info, when `view` holds that guest's VM alone.
    """
    shape = VolumeShape(allocation_unit=allocation_unit, os_build=int(view["host"].get("os_build") or 0))
    return [
        _candidate(view, vm, disk, guest, shape, reserve)
        for vm in view["vms"]
        for disk in vm["disks"]
        if disk["attachment"] in ("pass_through", "unresolved_pass_through")
    ]


def _candidate(
    view: Mapping[str, Any],
    vm: Mapping[str, Any],
    disk: Mapping[str, Any],
    guest: Mapping[str, Any] | None,
    shape: VolumeShape,
    reserve: int,
) -> dict[str, Any]:
    slot = Slot(**disk["slot"])
    checks = MigrationChecks(Situation(view={**view, "vms": [vm]}, guest=guest), Request(state="present", disks=()))
    checks.check_vm([])
    lun = next((one for one in view["luns"] if disk["lun"] and one["unique_id"] == disk["lun"]["unique_id"]), None)
    obstacles: list[dict[str, Any]] = []
    size, format_name, needed = disk["size_bytes"], None, None
    if lun is None or not lun["size_bytes"]:
        obstacles.append(
            {"kind": disk["attachment"], "sentence": f"{slot.describe()} leads to no LUN ({disk['reason']})."}
        )
    else:
        checks.check_lun(lun, slot, attached_is_fine=True)
        checks.check_guest_disk(lun, slot)
        size = int(lun["size_bytes"])
        try:
            choice = choose_format(
                None, generation=vm["generation"], size_bytes=size, logical_sector_bytes=lun["logical_sector_bytes"]
            )
            format_name = choice.format
            needed = needed_lun_bytes(size, choice.format, shape, reserve_bytes=reserve)
        except HypervError as refused:
            obstacles.append({"kind": refused.kind, "sentence": refused.sentence})
    obstacles = [{"kind": item.kind, "sentence": item.sentence} for item in checks.findings] + obstacles
    growth = 0 if needed is None or size is None else -(-(needed - size) // GIB)
    entry = {
        "vm": {"id": vm["id"], "name": vm["name"]},
        "slot": record_dict(slot),
        "unique_id": disk["unique_id"],
        "size_bytes": size,
        "format": format_name,
        "destination_bytes": needed,
        "growth_gib": growth if needed is not None else None,
        "copied_bytes": size,
        "estimated_hours": estimated_hours(size) if size else None,
        "obstacles": obstacles,
        "notes": list(checks.notes),
    }
    return {**entry, "sentence": _sentence(entry, slot)}


def _sentence(entry: Mapping[str, Any], slot: Slot) -> str:
    where = f"{entry['vm']['name']} {slot.describe()}"
    if entry["obstacles"]:
        return f"{where}: not now: {' '.join(item['sentence'] for item in entry['obstacles'])}"
    return (
        f"{where} ({entry['unique_id']}, {gib_text(entry['size_bytes'])}): {entry['format']}; copy needs a LUN of "
        f"{gib_text(entry['destination_bytes'])}, in_place needs {entry['growth_gib']} GiB more on this one; the VM is off "
        f"for about {entry['estimated_hours']} h per copy at 100 MiB/s"
    )


def migrated_disks(vhds: Sequence[Mapping[str, Any]], guest: Mapping[str, Any]) -> dict[str, Any]:
    """The migrated disks as the guest shows them now, by disk GUID or signature: their UniqueId is another one.

    Args:
        vhds: `vhd` of a result of lun_to_vhd.
        guest: result of guest_disk_info, now.

    Returns: `disks` for guest_disk (what was recorded, with the UniqueId of now); `missing` and `differences` as sentences.
    """
    disks: list[dict[str, Any]] = []
    missing: list[str] = []
    differences: list[str] = []
    for item in vhds:
        before = item.get("guest_disk")
        if not before:
            continue
        slot = Slot(**item["slot"]).describe()
        now = next((disk for disk in guest["disks"] if _is_same_content(disk, before)), None)
        if now is None:
            missing.append(
                f"the guest does not show the disk of {slot} (disk GUID {before['guid'] or before['signature']})"
            )
            continue
        disks.append({**before, "unique_id": now["unique_id"]})
        differences += [f"{slot}: {text}" for text in _volume_differences(before, now)]
    return {"disks": disks, "missing": missing, "differences": differences}


def _is_same_content(disk: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    if before.get("guid"):
        return str(disk.get("guid") or "").casefold() == str(before["guid"]).casefold()
    return bool(before.get("signature")) and disk.get("signature") == before["signature"]


def _volume_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    if now["is_offline"] or now["is_read_only"]:
        yield f"the disk is {'offline' if now['is_offline'] else 'read-only'} in the guest"
        return
    shown = {volume["offset_bytes"]: volume for volume in now["volumes"]}
    for volume in before["volumes"]:
        name = f"volume {volume.get('letter') or volume.get('label') or volume.get('offset_bytes')}"
        found = shown.get(volume["offset_bytes"])
        if found is None:
            yield f"{name} is not there"
            continue
        for word in _COMPARED:
            if volume.get(word) != found.get(word):
                yield f"{name}: {word.replace('_', ' ')} was {volume.get(word)} and is {found.get(word)}"
