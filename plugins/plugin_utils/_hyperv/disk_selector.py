# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""How an operator or a record names a disk, and which of the disks that a machine shows is meant: pure functions.

A LUN of a host and a disk of a guest are named alike: by UniqueId, by serial number, or by everything that was recorded
of it. A disk number names nothing, because Windows renumbers disks at every restart (windows-storage 2.1). A UniqueId
that is not global, or that several disks claim, must come with a second identifier (windows-storage 2.2).

Not here: reading the disks (`host_disks`, `guest_storage`), doing anything with them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from .disk_identity import identity_key
from .errors import Ambiguous, HypervError, NotFound, Precondition

Disk = Mapping[str, object]  # a LUN or guest disk as `to_dict()` gives it

_DISKS_LISTED = 12
_DISK_NUMBERS = 10_000  # a shorter number is one of these and no identity


@dataclass(frozen=True, kw_only=True)
class DiskSelector:
    """What is known of a disk. What is given must all match; `size_bytes` is compared but identifies nothing."""

    unique_id: str | None = None
    serial_number: str | None = None
    guid: str | None = None
    signature: int | None = None
    size_bytes: int | None = None

    @classmethod
    def of(cls, disk: object) -> DiskSelector:
        """From a record (`Lun`, `GuestDisk`, ..) or from what was recorded of a disk."""
        names = [item.name for item in fields(cls)]
        if isinstance(disk, Mapping):
            given = {name: disk.get(name) for name in names}
        else:
            given = {name: getattr(disk, name, None) for name in names}
        return cls._checked(given)

    @classmethod
    def from_option(cls, value: object) -> DiskSelector:
        """From a task's option: a UniqueId as text, or a dictionary with identifiers; other keys of it are left alone.

        Raises: HypervError (invalid_disk).
        """
        if isinstance(value, str):
            return cls._checked({"unique_id": value})
        if isinstance(value, Mapping):
            return cls._checked(value)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _DISK_NUMBERS:
            return cls(unique_id=str(value))  # `select_disk` tells which disk has that number now
        if isinstance(value, (int, float)):
            raise _unquoted("unique_id", value)
        raise HypervError(
            "invalid_disk", f"A disk is named by its UniqueId as text, or by a dictionary; {value!r} is neither."
        )

    @classmethod
    def _checked(cls, given: Mapping[str, object]) -> DiskSelector:
        texts: dict[str, str | None] = {}
        for name in ("unique_id", "serial_number", "guid"):
            value = given.get(name)
            if value is not None and not isinstance(value, str):
                raise _unquoted(name, value)
            texts[name] = value.strip() or None if value is not None else None
        numbers: dict[str, int | None] = {}
        for name in ("signature", "size_bytes"):
            value = given.get(name)
            text = str(value).strip() if isinstance(value, (str, int)) and not isinstance(value, bool) else ""
            numbers[name] = int(text) if text.isdecimal() else None
        selector = cls(
            unique_id=texts["unique_id"],
            serial_number=texts["serial_number"],
            guid=texts["guid"],
            signature=numbers["signature"] or None,
            size_bytes=numbers["size_bytes"],
        )
        if not selector.identifiers():
            raise HypervError(
                "invalid_disk",
                "A disk is named by unique_id, serial_number, guid or signature; none of them was given.",
            )
        return selector

    def identifiers(self) -> tuple[str, ...]:
        return tuple(
            name for name in ("unique_id", "serial_number", "guid", "signature") if getattr(self, name) is not None
        )

    def describe(self) -> str:
        names = {
            "unique_id": "UniqueId",
            "serial_number": "serial number",
            "guid": "disk GUID",
            "signature": "signature",
        }
        return "the disk with " + " and ".join(f"{names[name]} {getattr(self, name)}" for name in self.identifiers())


def _unquoted(name: str, value: object) -> HypervError:
    return HypervError(
        "unquoted_identity",
        f"{name} of a disk was given as {value} without quotes, which YAML reads as a number and may rewrite; quote it: "
        f'{name}: "{value}".',
    )


def _same_text(one: object, other: str) -> bool:
    return isinstance(one, str) and identity_key(one).strip("{}") == identity_key(other).strip("{}")


def _differences(disk: Disk, selector: DiskSelector, names: Sequence[str]) -> list[str]:
    """What of the given identifiers the disk does not have, in words."""
    found = []
    for name in names:
        wanted, has = getattr(selector, name), disk.get(name)
        same = _same_text(has, wanted) if isinstance(wanted, str) else has == wanted
        if not same:
            found.append(f"its {name} is {has or 'not there'} and not {wanted}")
    return found


def select_disk(disks: Sequence[Disk], selector: DiskSelector, *, where: str) -> Disk:
    """The one disk that is meant.

    Args:
        where: the machine, for messages.

    Raises:
        NotFound `unknown_disk`; HypervError `disk_number_given`: a number, told with the disk that has it now.
        Ambiguous `ambiguous_disk`.
        Precondition `weak_identity`: the UniqueId alone proves nothing here, a second identifier is needed.
        Precondition `disk_changed`: the UniqueId is there, but what else is known of the disk differs.
    """
    identifiers = selector.identifiers()
    anchor = identifiers[0]
    matches = [disk for disk in disks if not _differences(disk, selector, [anchor])]
    if not matches:
        raise _unknown(disks, selector, where)
    # What was recorded may go stale on a disk that is still the same (its partition table was rewritten), but a disk
    # that differs in what was given is refused: it is for the caller to leave out what does not matter.
    exact = [disk for disk in matches if not _differences(disk, selector, identifiers[1:])]
    if not exact:
        differences = "; ".join(_differences(matches[0], selector, identifiers[1:]))
        raise Precondition(
            "disk_changed",
            f"{_described(matches[0])} on {where} is not the one that is meant: {differences}. Look which disk it is now.",
            {"candidates": [_summary(disk) for disk in matches]},
        )
    if len(exact) > 1:
        raise Ambiguous(
            "ambiguous_disk",
            f"{len(exact)} disks on {where} are {selector.describe()} ({_listed(exact)}); two paths to one LUN without "
            f"multipathing, or a clone. Give a second identifier (serial_number, guid or signature) that only one of "
            f"them has, or take the other one away.",
            {"candidates": [_summary(disk) for disk in exact]},
        )
    disk = exact[0]
    if disk.get("weak_identity") and len(identifiers) < 2:
        raise Precondition(
            "weak_identity",
            f"{_described(disk)} on {where} has an identity that is not worldwide unique or that several disks claim; "
            f"name it with a second identifier too (serial_number {disk.get('serial_number') or 'none'!s}, guid "
            f"{disk.get('guid') or 'none'!s}, signature {disk.get('signature') or 'none'!s}).",
            {"disk": _summary(disk)},
        )
    if selector.size_bytes is not None and disk.get("size_bytes") != selector.size_bytes:
        raise Precondition(
            "disk_changed",
            f"{_described(disk)} on {where} has {disk.get('size_bytes')} bytes and not {selector.size_bytes} as "
            f"expected; look which disk it is now, or whether it was resized.",
            {"disk": _summary(disk)},
        )
    return disk


def _unknown(disks: Sequence[Disk], selector: DiskSelector, where: str) -> HypervError:
    text = selector.unique_id or ""
    summaries = [_summary(disk) for disk in disks[:_DISKS_LISTED]]
    if text.isdecimal() and int(text) < _DISK_NUMBERS:
        now = next((disk for disk in disks if disk.get("number") == int(text)), None)
        has_it = f"now {_described(now)} has it" if now is not None else "no disk has it now"
        return HypervError(
            "disk_number_given",
            f"{text} is a disk number and not an identity: {has_it} on {where}, and after the next restart it may be "
            f"another one. Give the UniqueId.",
            {"disk": _summary(now) if now is not None else None},
        )
    return NotFound(
        "unknown_disk",
        f"{where} does not show {selector.describe()}; it shows {_listed(disks) or 'no disk at all'}. Check the "
        f"mapping on the array and rescan, or correct the identity.",
        {"candidates": summaries},
    )


def _described(disk: Disk) -> str:
    name = disk.get("friendly_name") or "the disk"
    return f"{name} (number {disk.get('number')}, UniqueId {disk.get('unique_id') or 'none'})"


def _listed(disks: Sequence[Disk]) -> str:
    shown = ", ".join(str(disk.get("unique_id") or "(no UniqueId)") for disk in disks[:_DISKS_LISTED])
    more = len(disks) - _DISKS_LISTED
    return shown + (f" and {more} more" if more > 0 else "")


def _summary(disk: Disk) -> dict[str, object]:
    return {
        name: disk.get(name)
        for name in ("unique_id", "serial_number", "guid", "signature", "size_bytes", "number", "friendly_name")
    }
