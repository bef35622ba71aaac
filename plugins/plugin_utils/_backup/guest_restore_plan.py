# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""Which of a guest's left-out disks are kept and which volumes are restored: one pure function over the guest's own view.

A volume is kept when it is recognisable (its file system has the recorded serial number) and readable. It is restored only
where there is no file system, where it was freshly formatted and is empty, or where its disk is named in `overwrite_disks`.
Everything between the two is `disk_doubtful`: somebody's data, perhaps; nothing is written until the operator names the disk.
A disk is found by identity, a volume by its GUID path, else by its place on the disk; disk numbers are not looked at.

Not responsible for: what the host sees (`restore_plan.py`), reading volumes, restoring them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from .backup_set import BackupSet
from .content_evidence import content_names, is_empty_listing, may_be_empty
from .coverage import slot_text
from .disk_matching import fold, table_identity

View = Mapping[str, Any]
Listings = Mapping[
    str, Sequence[str] | None
]  # volume GUID path (case-folded) -> names in its root; None: no path leads there

KEEP, RESTORE, SKIPPED = "keep", "restore", "skipped"


@dataclasses.dataclass(frozen=True, kw_only=True)
class VolumePlan:
    """One recorded volume and what becomes of it.

    Attributes:
        number: its place in the set, from 1, whatever is restored: names its job.
        recorded: the volume as the set holds it.
        current: the volume as the guest lists it now; None when it is not there.
        action: keep, restore or skipped.
        reason: the evidence, a sentence.
    """

    number: int
    recorded: View
    current: View | None
    action: str
    reason: str
    doubtful: bool = False

    @property
    def name(self) -> str:
        return volume_name(self.recorded)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiskPlan:
    """One recorded left-out disk.

    Attributes:
        needs_preparing: it is blank, or half prepared, and has to get its partitions first.
        doubtful: its content is neither as recorded nor nothing.
    """

    label: str
    slot: View | None
    kind: str
    row: View
    disk: View | None
    action: str
    evidence: str
    needs_preparing: bool
    doubtful: bool
    volumes: tuple[VolumePlan, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class GuestFinding:
    kind: str
    sentence: str
    accept_with: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GuestPlan:
    disks: tuple[DiskPlan, ...]
    findings: tuple[GuestFinding, ...]

    @property
    def to_restore(self) -> list[tuple[DiskPlan, VolumePlan]]:
        return [(disk, volume) for disk in self.disks for volume in disk.volumes if volume.action == RESTORE]


def guest_restore_plan(
    item: BackupSet,
    guest: View,
    *,
    overwrite_disks: Sequence[str] = (),
    lun_map: Mapping[str, str] | None = None,
    restore_volumes: Sequence[str] = (),
    listings: Listings | None = None,
    prepared: bool = True,
    begun: Collection[int] = (),
) -> GuestPlan:
    """Keep or restore, per volume of the disks that the set captured in the guest.

    Args:
        guest: `guest_disk_info` of the guest right now.
        overwrite_disks: disks by UniqueId (recorded or new) or slot text, which are restored whatever is on them.
        lun_map: recorded UniqueId -> UniqueId of its replacement.
        restore_volumes: letters, GUID paths or labels; others are skipped. Empty means all.
        listings: what lies in the roots of the guest's volumes. Without it (None) a volume whose serial number differs cannot
            be told from somebody's data and counts as doubtful.
        prepared: blank disks should have their partitions by now, so that a blank one is a finding.
        begun: numbers of volumes onto which this very restore has begun to write, so that what they hold is no obstacle.
    """
    planner = _Planner(guest, overwrite_disks, lun_map or {}, restore_volumes, listings or {}, prepared, begun)
    return planner.plan(item)


def sharpened(rows: Sequence[Mapping[str, Any]], plan: GuestPlan) -> list[dict[str, Any]]:
    """Rows of a host's plan (`label`, `action`, ...) with what the guest sees: exact actions, sizes, what is blank."""
    seen = {disk.label: disk for disk in plan.disks}
    found = []
    for row in rows:
        disk = seen.get(str(row["label"]))
        if disk is None or disk.disk is None:
            found.append(dict(row))
            continue
        unique_id = disk.disk.get("unique_id")
        words = {KEEP: "keep", RESTORE: "overwrite"}
        found.append(
            {
                **row,
                "unique_id": unique_id,
                "action": "in_guest" if disk.doubtful else words.get(disk.action, "in_guest"),
                "evidence": disk.evidence,
                "needs_preparing": disk.needs_preparing,
                "size_bytes": disk.disk.get("size_bytes") or row.get("size_bytes"),
                "entry": {**row["entry"], "unique_id": unique_id},
            }
        )
    return found


def still_the_same(plan: DiskPlan, volume: VolumePlan, guest: View) -> str | None:
    """Why a volume must not be written to right now, or None: the last look before something is overwritten.

    The disk with the planned identity must be there once, online, no boot or system disk, and hold the planned volume.
    """
    if plan.disk is None or volume.current is None:
        return f"there is no volume {volume.name} to restore onto"
    wanted = fold(plan.disk.get("unique_id"))
    table = table_identity(plan.disk)
    path = str(volume.current.get("path") or "").casefold()
    disks = [
        disk
        for disk in guest.get("disks") or ()
        if fold(disk.get("unique_id")) & wanted and (not table or table_identity(disk) == table)
    ]
    if len(disks) != 1:
        return f"the disk {plan.label} is {'gone' if not disks else 'there several times'}"
    disk = disks[0]
    if disk.get("is_offline") or disk.get("is_read_only"):
        return f"the disk {plan.label} is {'offline' if disk.get('is_offline') else 'read-only'}"
    if disk.get("is_boot") or disk.get("is_system"):
        return f"the disk {plan.label} is a boot or system disk"
    same = [one for one in disk.get("volumes") or () if path and str(one.get("path") or "").casefold() == path]
    if len(same) != 1:
        return f"the disk {plan.label} does not hold the volume {volume.current.get('path')} any more"
    if same[0].get("is_boot") or same[0].get("is_system"):
        return f"the volume {volume.name} is a boot or system volume"
    return None


def volume_name(volume: View) -> str:
    letter = volume.get("letter")
    label = f" ({volume['label']})" if volume.get("label") else ""
    return f"{letter}:{label}" if letter else f"{volume.get('path')}{label}"


class _Planner:
    def __init__(
        self,
        guest: View,
        overwrite_disks: Sequence[str],
        lun_map: Mapping[str, str],
        restore_volumes: Sequence[str],
        listings: Listings,
        prepared: bool,
        begun: Collection[int],
    ) -> None:
        self._disks = list(guest.get("disks") or ())
        self._overwrite = list(overwrite_disks)
        self._map = dict(lun_map)
        self._wanted = [_volume_key(text) for text in restore_volumes]
        self._listings = listings
        self._prepared = prepared
        self._begun = frozenset(begun)
        self._findings: list[GuestFinding] = []

    def plan(self, item: BackupSet) -> GuestPlan:
        found = []
        number = 0
        for row in item.disks:
            if row.get("coverage") != "guest":
                continue
            volumes = list(row.get("volumes") or ())
            found.append(self._disk(row, first_number=number + 1))
            number += len(volumes)
        known = {key for row in item.disks for volume in row.get("volumes") or () for key in _volume_keys(volume)}
        for text in self._wanted:
            if text not in known:
                self._find(
                    "volume_unknown", f"restore_volumes names {text}, which is no volume of the set {item.set_id}"
                )
        return GuestPlan(disks=tuple(found), findings=tuple(self._findings))

    def _find(self, kind: str, sentence: str, accept_with: str | None = None) -> None:
        self._findings.append(GuestFinding(kind=kind, sentence=sentence, accept_with=accept_with))

    def _disk(self, row: View, *, first_number: int) -> DiskPlan:
        label = slot_text(row.get("slot")) or str(row.get("unique_id"))
        mapped = next((new for old, new in self._map.items() if fold(old) & _ids(row)), None)
        disk, evidence = self._present(row, label, mapped)
        named = self._is_named(row, mapped)
        volumes: list[VolumePlan] = []
        if disk is not None and not disk.get("is_offline"):
            volumes = [
                self._volume(row, disk, label, recorded, number, named=named)
                for number, recorded in enumerate(row.get("volumes") or (), start=first_number)
            ]
        blank = disk is not None and _is_blank(disk)
        if disk is None:
            action = SKIPPED
        elif blank or any(volume.action == RESTORE for volume in volumes):
            action = RESTORE
            evidence = "it is blank" if blank else "; ".join(v.reason for v in volumes if v.action == RESTORE)
        elif disk.get("is_offline"):
            action, evidence = SKIPPED, "it is offline"
        elif volumes and all(volume.action == SKIPPED for volume in volumes):
            action, evidence = SKIPPED, "; ".join(dict.fromkeys(volume.reason for volume in volumes))
        else:
            action = KEEP
            evidence = "; ".join(dict.fromkeys(volume.reason for volume in volumes)) or evidence
        return DiskPlan(
            label=label,
            slot=row.get("slot"),
            kind=str(row.get("kind")),
            row=row,
            disk=disk,
            action=action,
            evidence=evidence,
            needs_preparing=disk is not None and _needs_preparing(disk, volumes),
            doubtful=any(volume.doubtful for volume in volumes),
            volumes=tuple(volumes),
        )

    def _is_named(self, row: View, mapped: str | None) -> bool:
        ids = {*_ids(row), *(fold(mapped) if mapped else ())}
        slot = str(slot_text(row.get("slot")) or "").casefold()
        return any(fold(text) & ids or text.strip().casefold() == slot for text in self._overwrite)

    def _present(self, row: View, label: str, mapped: str | None) -> tuple[View | None, str]:
        """The guest's disk that is the recorded one, or its replacement; None with a finding when that is not certain."""
        wanted = fold(mapped) if mapped else _ids(row)
        table = _table(row)
        found = [disk for disk in self._disks if fold(disk.get("unique_id")) & wanted]
        how = "its UniqueId"
        if not found and not mapped and table:
            found = [disk for disk in self._disks if table_identity(disk) & table]
            how = "its partition table"
        if len(found) > 1 or (len(found) == 1 and found[0].get("weak_identity") and how == "its UniqueId"):
            sure = [disk for disk in found if table and table_identity(disk) & table]
            if len(sure) != 1:
                self._find(
                    "disk_ambiguous",
                    f"{len(found)} disk(s) of the guest look like {label} ({mapped or row.get('unique_id')}), and nothing proves which "
                    "one it is; remove the copy, or give the disk a partition table",
                )
                return None, "it is not certain which disk it is"
            found = sure
        if not found:
            self._find(
                "disk_missing",
                f"the guest does not see the disk {label} ({mapped or row.get('unique_id')}); attach it, log in to its iSCSI "
                "target, or name its replacement in lun_map",
            )
            return None, "the guest does not see it"
        disk = found[0]
        if disk.get("is_offline"):
            self._find(
                "disk_offline",
                f"the disk {label} is offline in the guest ({disk.get('offline_reason')}); bring it online with guest_disk",
            )
        elif _is_blank(disk) and self._prepared:
            self._find(
                "volume_missing",
                f"the disk {label} is blank; give it its recorded partitions with guest_disk state=prepared first",
            )
        return disk, f"it is there, known by {how}"

    def _volume(self, row: View, disk: View, label: str, recorded: View, number: int, *, named: bool) -> VolumePlan:
        current = _current_volume(recorded, disk)
        name = volume_name(recorded)

        def plan(action: str, reason: str) -> VolumePlan:
            return VolumePlan(number=number, recorded=recorded, current=current, action=action, reason=reason)

        if self._wanted and not set(self._wanted) & set(_volume_keys(recorded)):
            return plan(SKIPPED, f"{name} is not one of restore_volumes")
        if current is None:
            if self._prepared and not _is_blank(disk):
                self._find(
                    "volume_missing",
                    f"the disk {label} has no partition in the place of volume {name}; name the disk in overwrite_disks after "
                    "clearing it, or restore the volume by hand",
                )
            return plan(RESTORE, f"{name} is not there")
        if ((current.get("bitlocker") or {}).get("lock")) == "locked":
            self._find("volume_locked", f"the volume {name} is locked by BitLocker; unlock it first")
            return plan(SKIPPED, f"{name} is locked by BitLocker")
        action, reason = self._verdict(recorded, current, named=named)
        if number in self._begun:
            action, reason = RESTORE, "is being restored by this restore already"
        if action is None:
            self._find(
                "disk_doubtful",
                f"the volume {name} on disk {label} {reason}; nothing is written to it unless the disk is named in "
                f"overwrite_disks ({row.get('unique_id')})",
                "overwrite_disks",
            )
            return dataclasses.replace(plan(KEEP, f"{name} {reason}"), doubtful=True)
        size, wanted = current.get("size_bytes"), recorded.get("size_bytes")
        if action == RESTORE and isinstance(size, int) and isinstance(wanted, int) and size < wanted:
            self._find(
                "volume_too_small",
                f"the volume {name} has {size} bytes now, but the recorded one had {wanted}; make its partition at least as large",
            )
        return plan(action, f"{name} {reason}")

    def _verdict(self, recorded: View, current: View, *, named: bool) -> tuple[str | None, str]:
        if named:
            return RESTORE, "is on a disk that overwrite_disks names"
        file_system = str(current.get("file_system") or "RAW").upper()
        if file_system == "RAW":
            return RESTORE, "has no file system that Windows recognises"
        names = self._listings.get(str(current.get("path")).casefold())
        same_system = file_system == str(recorded.get("file_system") or "").upper()
        expected, found = recorded.get("serial_number"), current.get("serial_number")
        if expected is not None and found is not None:
            is_same = same_system and _number(expected) == _number(found)
        else:
            same_place = str(current.get("path")).casefold() == str(recorded.get("path")).casefold()
            is_same = same_system and same_place and current.get("label") == recorded.get("label")
        listing = recorded.get("root_listing") or {}
        had_content = bool(content_names([str(one) for one in listing.get("names") or ()]))
        if is_same:
            if names is not None and had_content and is_empty_listing(names):
                return None, "has the recorded file system, but its root is empty or cannot be read, which it was not"
            return KEEP, "is there with the recorded file system and readable"
        if names is None:
            if not _has_root(current) and may_be_empty(current.get("used_bytes"), current.get("size_bytes")):
                return RESTORE, "was freshly formatted and is empty, by its used bytes"
            return None, "has another file system than the recorded one, and what is on it could not be listed"
        if is_empty_listing(names):
            return RESTORE, "was freshly formatted and is empty"
        return None, f"has another file system than the recorded one with {len(names)} entries in its root"


# --- small readings -------------------------------------------------------------------------------------------------


def _ids(row: View) -> set[str]:
    evidence = row.get("evidence") or {}
    texts = [row.get("unique_id"), *((evidence.get(side) or {}).get("unique_id") for side in ("host", "guest"))]
    return {key for text in texts for key in fold(text)}


def _table(row: View) -> frozenset[str]:
    evidence = row.get("evidence") or {}
    return table_identity(evidence.get("guest") or {}) or table_identity(evidence.get("host") or {})


def _is_blank(disk: View) -> bool:
    return str(disk.get("partition_style") or "").upper() == "RAW" and not disk.get("volumes")


def _current_volume(recorded: View, disk: View) -> View | None:
    """The recorded volume on a disk: by its GUID path, else by its place, else the only one of its size."""
    volumes: list[View] = list(disk.get("volumes") or ())
    for key in ("path", "offset_bytes"):
        wanted = recorded.get(key)
        same = [one for one in volumes if wanted is not None and _folded(one.get(key)) == _folded(wanted)]
        if len(same) == 1:
            return same[0]
    same = [one for one in volumes if one.get("size_bytes") == recorded.get("size_bytes")]
    return same[0] if len(same) == 1 else None


def _has_root(volume: View) -> bool:
    """Whether a letter or a mount folder leads to the volume, so that its root can be listed."""
    return bool(volume.get("letter")) or any(str(path)[1:3] == ":\\" for path in volume.get("access_paths") or ())


def _needs_preparing(disk: View, volumes: Sequence[VolumePlan]) -> bool:
    """Whether partitions or file systems are still to be made: it is blank, or lacks some of them."""
    if disk.get("is_offline"):
        return False
    return not disk.get("volumes") or any(
        one.action == RESTORE and (one.current is None or not one.current.get("file_system")) for one in volumes
    )


def _folded(value: object) -> object:
    return value.casefold() if isinstance(value, str) else value


def _number(serial: object) -> object:
    return serial & 0xFFFFFFFF if isinstance(serial, int) else str(serial)


def _volume_keys(volume: View) -> list[str]:
    texts = [volume.get("path"), volume.get("letter"), volume.get("label")]
    return [_volume_key(str(text)) for text in texts if text]


def _volume_key(text: str) -> str:
    r"""One spelling for `s`, `S:`, `S:\`, a GUID path and a label."""
    plain = text.strip().casefold().rstrip("\\")
    return plain.rstrip(":")
