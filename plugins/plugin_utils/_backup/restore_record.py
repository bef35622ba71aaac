# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""What a backup set remembers of restores from it: when, where to, what became of each disk.

Responsible for the entries of `BackupSet.restores` and their transitions, pure functions. Not responsible for whether a set may
be restored (`set_choice.py`), nor for the runs themselves: their ids are derived here, so that a rerun finds them.

One entry per restore id: `running` -> `finished` | `failed`. A failed one is continued by the next run with that id; a
finished one is over, and another restore from the same set needs another id.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from .backup_set import BackupSet, check_set_id
from .errors import BackupError

RUNNING, FINISHED, FAILED = "running", "finished", "failed"
MAX_ATTEMPTS = 50
MAX_RESTORES = 100
MAX_SENTENCE_CHARS = 500

_RESTORE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,15}", re.ASCII)


def check_restore_id(restore_id: str) -> str:
    """The restore id, when it can be part of a run id. Raises `BackupError` `bad_restore_id`."""
    if not _RESTORE_ID.fullmatch(restore_id):
        raise BackupError(
            "bad_restore_id",
            f"{restore_id!r} cannot be a restore_id; it must be 1 to 16 letters, digits, dashes or underscores.",
        )
    return restore_id


def restore_run_id(set_id: str, phase: str, restore_id: str, attempt: int, volume: int | None = None) -> str:
    """`<set>.host_restore.<restore id>.<attempt>`, with the volume's number behind it in the guest phase."""
    if not 1 <= attempt <= MAX_ATTEMPTS:
        raise BackupError(
            "too_many_attempts",
            f"Restore {restore_id} from set {set_id} was tried {attempt - 1} times; find out why it fails, then use another "
            "restore_id.",
        )
    name = f"{check_set_id(set_id).lower()}.{phase}_restore.{check_restore_id(restore_id).lower()}.{attempt}"
    return name if volume is None else f"{name}.{volume}"


def find_restore(item: BackupSet, restore_id: str) -> Mapping[str, Any] | None:
    wanted = check_restore_id(restore_id).casefold()
    return next((one for one in item.restores if str(one.get("id")).casefold() == wanted), None)


def begin_restore(item: BackupSet, restore_id: str, *, restore_phase: str, host: str, now: datetime) -> BackupSet:
    """Open an entry, or continue the one of that id. A finished one is returned unchanged.

    Raises: `BackupError`: `restore_elsewhere` when that id was begun on another host, `too_many_restores`.
    """
    known = find_restore(item, restore_id)
    if known is None:
        if len(item.restores) >= MAX_RESTORES:
            raise BackupError(
                "too_many_restores", f"The set {item.set_id} was restored {len(item.restores)} times; make a new one."
            )
        entry = {
            "id": restore_id,
            "state": RUNNING,
            "phase": restore_phase,
            "host": host,
            "started": _time(now),
            "ended": None,
        }
        return dataclasses.replace(item, restores=(*item.restores, entry), updated=now)
    if known.get("state") == FINISHED:
        return item
    if str(known.get("host")).casefold() != host.casefold():
        raise BackupError(
            "restore_elsewhere",
            f"Restore {restore_id} from set {item.set_id} was begun on {known.get('host')}, not on {host}; use another restore_id.",
        )
    changed = {**known, "state": RUNNING, "phase": restore_phase, "error": None}
    return item if changed == {"error": None, **known} else _with(item, changed, now)


def end_restore(
    item: BackupSet,
    restore_id: str,
    *,
    now: datetime,
    host_result: Mapping[str, Any] | None = None,
    guest_result: Mapping[str, Any] | None = None,
    failure: str | None = None,
    failure_kind: str | None = None,
) -> BackupSet:
    """Record the end of a restore: finished, or failed with the reason. A finished one is returned unchanged.

    A set that was usable becomes `restored`; one that was restored from in part although it is `failed` stays so.

    Raises: `BackupError` `unknown_restore`, `restore_unproven` when neither half proves that anything came back.
    """
    known = find_restore(item, restore_id)
    if known is None:
        raise BackupError("unknown_restore", f"The set {item.set_id} knows no restore {restore_id}; begin it first.")
    if known.get("state") == FINISHED:
        return item
    entry: dict[str, Any] = {**known, "ended": _time(now), "error": None}
    if host_result:
        entry["host_phase"] = _half(host_result)
    if guest_result:
        entry["guest_phase"] = _half(guest_result)
        entry["disks"] = [_disk(one) for one in guest_result.get("disks") or ()]
    if failure is not None:
        entry["state"] = FAILED
        entry["error"] = {"kind": failure_kind or "failed", "message": failure[:MAX_SENTENCE_CHARS]}
        return _with(item, entry, now)
    _check_proven(item, known, host_result, guest_result)
    entry["state"] = FINISHED
    changed = _with(item, entry, now)
    usable = item.state in ("good", "degraded", "restored")
    return dataclasses.replace(changed, state="restored") if usable else changed


def _check_proven(
    item: BackupSet, entry: Mapping[str, Any], host: Mapping[str, Any] | None, guest: Mapping[str, Any] | None
) -> None:
    phase = entry.get("phase")
    lacking = []
    if phase in ("both", "host") and not (host and host.get("version") and not host.get("failed")):
        lacking.append("host_result")
    if (
        phase in ("both", "guest")
        and item.guest_phase_needed
        and not (guest and guest.get("version") and not guest.get("failed"))
    ):
        lacking.append("guest_result")
    if lacking:
        raise BackupError(
            "restore_unproven",
            f"Restore {entry.get('id')} from set {item.set_id} cannot be recorded as finished without {' and '.join(lacking)} of a "
            "restore that succeeded; pass the registered results, or failure.",
        )


def _half(result: Mapping[str, Any]) -> dict[str, Any]:
    job = result.get("job") or {}
    return {
        "run_id": job.get("run_id"),
        "state": job.get("state"),
        "version": result.get("version"),
        "machine": result.get("machine"),
    }


def _disk(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "label": row.get("label"),
        "unique_id": row.get("unique_id"),
        "action": row.get("action"),
        "verified": row.get("verified"),
        "evidence": str(row.get("evidence") or "")[:MAX_SENTENCE_CHARS],
    }


def _with(item: BackupSet, entry: Mapping[str, Any], now: datetime) -> BackupSet:
    wanted = str(entry.get("id")).casefold()
    restores: Sequence[Mapping[str, Any]] = [
        entry if str(one.get("id")).casefold() == wanted else one for one in item.restores
    ]
    return dataclasses.replace(item, restores=tuple(restores), updated=now)


def _time(moment: datetime) -> str:
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
