# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""Did the content of a volume come back: what a set recorded of a volume, held against the volume as it is now.

Pure functions over records; reading volumes is `_hyperv.guest`. Each check says what was expected and found. Hard checks must
hold. A check is conclusive when a volume on which nothing was restored (freshly formatted, empty) could not pass it; without
one the verdict is None: nothing that was recorded can tell, and the engine's own proof has to do.

Assumptions about real Windows: a block-wise recovery may or may not bring back the file system's serial number (no source
tells), so that a different one alone is no failure after a restore; used bytes differ by the diff area of the snapshot and by
the log file, within `used_tolerance`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from .backup_set import MAX_LISTING_NAMES, root_listing

View = Mapping[str, Any]

#: What Windows puts into a root by itself, so that it proves no content and may come and go.
SYSTEM_NAMES = frozenset({"system volume information", "$recycle.bin", "recycler", "$extend"})
USED_TOLERANCE_SHARE = 0.10
USED_TOLERANCE_BYTES = 256 * 1024 * 1024
#: What an empty file system may use: its log file, its tables, and a share for its bitmap.
EMPTY_USED_BYTES = 96 * 1024 * 1024
EMPTY_USED_SHARE = 0.005


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """One comparison. `ok` is None for what differs without proving anything."""

    what: str
    expected: str
    found: str
    ok: bool | None
    conclusive: bool = False

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """`verified`: True proven, False disproven, None when nothing recorded can tell."""

    verified: bool | None
    checks: tuple[Check, ...]

    @property
    def sentence(self) -> str:
        failed = [
            f"{check.what}: {check.expected} was expected, {check.found} found"
            for check in self.checks
            if check.ok is False
        ]
        if failed:
            return "; ".join(failed)
        proven = [check.what for check in self.checks if check.conclusive and check.ok]
        return f"proven by {', '.join(proven)}" if proven else "nothing that was recorded can tell"


def used_tolerance(used_bytes: int) -> int:
    """How far the used bytes may be off."""
    return max(int(used_bytes * USED_TOLERANCE_SHARE), USED_TOLERANCE_BYTES)


def is_empty_listing(names: Sequence[str] | None) -> bool:
    """Whether a root holds nothing but what Windows puts there; False when it is not known."""
    return names is not None and not content_names(names)


def content_names(names: Sequence[str]) -> set[str]:
    return {name.casefold() for name in names} - SYSTEM_NAMES


def may_be_empty(used_bytes: int | None, size_bytes: int | None) -> bool:
    """Whether a volume with so many used bytes can be a freshly formatted one."""
    if used_bytes is None or size_bytes is None:
        return False
    return used_bytes <= EMPTY_USED_BYTES + int(size_bytes * EMPTY_USED_SHARE)


def verify_volume(
    recorded: View,
    current: View | None,
    *,
    names: Sequence[str] | None,
    sentinels: Mapping[str, View | None],
    names_before: Sequence[str] | None = None,
    kept: bool = False,
) -> Verdict:
    """Compare a volume with its record.

    Args:
        recorded: the volume in the set: file_system, serial_number, used_bytes, root_listing, sentinels.
        current: the volume as the guest lists it now; None when it is not there.
        names: its root's names now; None when no path leads there.
        sentinels: recorded path -> file as it is now (size_bytes, modified), None when it is not there.
        names_before: the root before a restore wrote to it; when that looked as recorded already, names prove nothing.
        kept: nothing was restored: only the file system is compared, because newer content may differ in everything else.
    """
    if current is None:
        return Verdict(verified=False, checks=(Check(what="volume", expected="there", found="missing", ok=False),))
    checks = [_file_system(recorded, current), *_serial(recorded, current, hard=kept)]
    if kept:
        hard = all(check.ok is not False for check in checks)
        return Verdict(verified=hard, checks=tuple(checks))
    checks += [
        *_used(recorded, current),
        *_listing(recorded, names, names_before),
        *_sentinels(recorded, sentinels),
    ]
    if any(check.ok is False for check in checks):
        return Verdict(verified=False, checks=tuple(checks))
    return Verdict(
        verified=True if any(check.conclusive and check.ok for check in checks) else None, checks=tuple(checks)
    )


def _file_system(recorded: View, current: View) -> Check:
    expected, found = _upper(recorded.get("file_system")), _upper(current.get("file_system"))
    return Check(what="file system", expected=expected, found=found, ok=expected == found)


def _serial(recorded: View, current: View, *, hard: bool) -> list[Check]:
    expected, found = recorded.get("serial_number"), current.get("serial_number")
    if expected is None or found is None:
        return []
    same = _serial_text(expected) == _serial_text(found)
    return [
        Check(
            what="file system serial number",
            expected=_serial_text(expected),
            found=_serial_text(found),
            ok=True if same else (False if hard else None),
            conclusive=same and not hard,
        )
    ]


def _serial_text(serial: object) -> str:
    return f"{serial & 0xFFFFFFFF:08X}" if isinstance(serial, int) else str(serial)


def _used(recorded: View, current: View) -> list[Check]:
    expected, found = recorded.get("used_bytes"), current.get("used_bytes")
    if not isinstance(expected, int):
        return []
    tolerance = used_tolerance(expected)
    ok = isinstance(found, int) and abs(found - expected) <= tolerance
    return [
        Check(
            what="used bytes",
            expected=f"{expected} (within {tolerance})",
            found=str(found),
            ok=ok,
            conclusive=ok and not may_be_empty(expected - tolerance, recorded.get("size_bytes")),
        )
    ]


def _listing(recorded: View, names: Sequence[str] | None, names_before: Sequence[str] | None) -> list[Check]:
    listing = recorded.get("root_listing")
    if not listing:
        return []
    expected = f"{listing.get('count')} entries"
    if names is None:
        return [Check(what="root listing", expected=expected, found="no path leads to the volume", ok=None)]
    missing = missing_names(listing, names)
    told = f"{len(names)} entries" + (f", without {', '.join(missing[:5])}" if missing else "")
    has_content = bool(content_names([str(name) for name in listing.get("names") or ()]))
    was_so_before = names_before is not None and not missing_names(listing, names_before)
    return [
        Check(
            what="root listing",
            expected=expected,
            found=told,
            ok=not missing,
            conclusive=not missing and has_content and not was_so_before,
        )
    ]


def missing_names(listing: View, names: Sequence[str]) -> list[str]:
    """What of a recorded root listing is not there; one text of dots stands for names that were not recorded one by one."""
    if root_listing(names)["sha256"] == listing.get("sha256"):
        return []
    wanted = content_names([str(name) for name in listing.get("names") or ()])
    present = content_names(names)
    cut = {name[:100] for name in present}  # recorded names are cut to that length
    missing = sorted(wanted - cut)
    count = int(listing.get("count") or 0)
    if not missing and count > MAX_LISTING_NAMES and len(present) < count - len(SYSTEM_NAMES):
        missing = ["..."]
    return missing


def _sentinels(recorded: View, sentinels: Mapping[str, View | None]) -> list[Check]:
    checks = []
    for file in recorded.get("sentinels") or ():
        if not file.get("found", True):
            continue
        path = str(file.get("path"))
        now = sentinels.get(path)
        expected = _file_text(file)
        found = "missing" if now is None else _file_text(now)
        checks.append(
            Check(
                what=f"file {path}", expected=expected, found=found, ok=expected == found, conclusive=expected == found
            )
        )
    return checks


def _file_text(file: View) -> str:
    return f"{file.get('size_bytes')} bytes of {file.get('modified')}"


def _upper(text: object) -> str:
    return str(text or "RAW").upper()
