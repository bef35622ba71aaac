# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""Which backup set a restore uses, whether it can be used at all, and what a listing of its targets means for it.

Pure functions over records. Not responsible for reading records (`set_store.py`, `set_copy.py`), for listing targets
(`listing.py`) or for what a restore does with the set (`restore_plan.py`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from .backup_set import USABLE, Attempt, BackupSet, best_pair, vm_key
from .errors import BackupError

RESTORE_PHASES = ("both", "host", "guest")
#: States of a set that a restore may use; the others have their own sentence.
RESTORABLE = frozenset({"good", "degraded", "restored"})
#: States of a set whose versions retention deletes or has deleted (`retention.py`).
GOING = frozenset({"expiring", "expired"})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
    """The set that a restore uses, and why this one, a sentence."""

    item: BackupSet
    reason: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Listing:
    """What the listing of one version's target showed.

    Attributes:
        listed: None when the target cannot be asked from where the question was put (a volume of another machine).
        reason: a sentence.
    """

    set_id: str
    phase: str
    machine: str
    target: str
    version: str
    listed: bool | None
    reason: str

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def phases_of(restore_phase: str, item: BackupSet) -> tuple[str, ...]:
    """The phases that a restore runs, in its order (host first). Raises `BackupError` `bad_option`."""
    if restore_phase not in RESTORE_PHASES:
        raise BackupError(
            "bad_option", f"restore_phase is {restore_phase!r}; it must be one of {', '.join(RESTORE_PHASES)}."
        )
    wanted = ("host", "guest") if restore_phase == "both" else (restore_phase,)
    return tuple(phase for phase in wanted if phase != "guest" or item.guest_phase_needed)


def used_attempt(item: BackupSet, phase: str) -> Attempt | None:
    """The run of a phase whose version a restore uses: of the pair that makes up the set."""
    guest, host = best_pair(item)
    return guest if phase == "guest" else host


def refusal(
    item: BackupSet,
    *,
    restore_phase: str = "both",
    vm_id: str | None = None,
    versions: Iterable[Mapping[str, Any]] = (),
) -> tuple[str, str] | None:
    """Why a set cannot be restored from, as kind and sentence; None when it can.

    Args:
        vm_id: the VM that is to be restored; a set of another VM is refused.
        versions: `Listing.to_dict()` of the set's versions, as far as they were listed again.

    Kinds: `wrong_set`, `set_open`, `guest_half_failed`, `host_half_failed`, `set_lost`, `set_expired`, `set_failed`,
    `version_not_listed`, `nothing_to_restore`. A set that failed only because its guest half is missing can still be
    restored with `restore_phase: host`, and the other way round: what is there is whole.
    """
    name = f"The backup set {item.set_id}"
    if vm_id is not None and item.vm_id != vm_key(vm_id):
        return (
            "wrong_set",
            f"{name} is of VM {item.vm.get('name')} ({item.vm.get('id')}), not of VM {vm_id}; choose a set of this VM",
        )
    if item.state == "open":
        return ("set_open", f"{name} is still open; finish the backup, or let it fail, before restoring from it")
    if item.state == "lost":
        return (
            "set_lost",
            f"{name} is lost ({_last(item.reasons) or 'a version is gone from its target'}); choose an older set",
        )
    if item.state in GOING:
        return (
            "set_expired",
            f"{name} is {item.state}: retention deleted its versions, or has begun to; choose another set",
        )
    phases = phases_of(restore_phase, item)
    if not phases:
        return (
            "nothing_to_restore",
            f"{name} has nothing that was captured in the guest, so that there is no guest phase to restore; leave "
            "restore_phase at both or host",
        )
    for phase in phases:
        if used_attempt(item, phase) is None:
            kind = f"{phase}_half_failed"
            other = "host" if phase == "guest" else "guest"
            way = f", or restore what there is with restore_phase {other}" if used_attempt(item, other) else ""
            return (
                kind,
                f"{name} holds no version of its {phase} phase ({_last(item.reasons)}); choose another set{way}",
            )
    if item.state not in RESTORABLE and restore_phase == "both":
        return (
            "set_failed",
            f"{name} is {item.state} ({'; '.join(item.reasons) or 'no reason recorded'}); choose another set",
        )
    used = {(phase, str(getattr(used_attempt(item, phase), "version", None))) for phase in phases}
    for row in versions:
        same = str(row.get("set_id")).casefold() == item.set_id.casefold()
        if same and row.get("listed") is False and (str(row.get("phase")), str(row.get("version"))) in used:
            return (
                "version_not_listed",
                f"{name} needs version {row.get('version')} of the {row.get('phase')} phase, which {row.get('target')} does "
                f"not list ({row.get('reason')}); make the target reachable, or choose another set",
            )
    return None


def choose_set(
    sets: Sequence[BackupSet],
    *,
    vm_id: str | None = None,
    set_id: str | None = None,
    not_after: datetime | None = None,
    restore_phase: str = "both",
    versions: Sequence[Mapping[str, Any]] = (),
) -> Choice:
    """The set that a restore uses.

    Args:
        set_id: exactly this one; its refusal is raised and no other is tried.
        not_after: without `set_id`, the newest whose host snapshot is not younger than this.

    Raises: `BackupError`: `bad_option` without VM and set, `unknown_set`, `no_set` (with the reasons of those that were
        passed over), and the kinds of `refusal`.
    """
    if vm_id is None and set_id is None:
        raise BackupError("bad_option", "Name the VM (its GUID) or the backup set that is to be restored.")
    if set_id is not None:
        item = next((one for one in sets if one.set_id.casefold() == set_id.casefold()), None)
        if item is None:
            raise BackupError(
                "unknown_set",
                f"There is no backup set {set_id} here; known are {_named(sets)}. Look on the other Hyper-V hosts, or give "
                "the path of a copy as source.",
            )
        why = refusal(item, restore_phase=restore_phase, vm_id=vm_id, versions=versions)
        if why is not None:
            raise BackupError(why[0], _sentence(why[1]))
        return Choice(item=item, reason=f"set {item.set_id} was asked for")
    mine = sorted((one for one in sets if one.vm_id == vm_key(vm_id)), key=_age, reverse=True)
    passed = []
    for item in mine:
        if not_after is not None and _age(item)[0] > not_after.timestamp():
            passed.append(f"{item.set_id} is younger than {_time(not_after)}")
            continue
        why = refusal(item, restore_phase=restore_phase, versions=versions)
        if why is None:
            when = f" not after {_time(not_after)}" if not_after is not None else ""
            return Choice(item=item, reason=f"the newest usable set{when} ({item.state})")
        passed.append(why[1])
    raise BackupError(
        "no_set",
        f"There is no backup set of VM {vm_id} that can be restored"
        + (f": {'; '.join(passed)}." if passed else " on this host; look on the other Hyper-V hosts, or give a copy."),
        {"passed_over": passed},
    )


def relisted(item: BackupSet, listings: Iterable[Listing], now: datetime) -> BackupSet:
    """The set with what a new listing of its targets means: `lost` as soon as a version that it needs is gone.

    A target that could not be asked proves nothing. A set that is not usable anyway stays as it is.
    """
    if item.state not in RESTORABLE:
        return item
    needed = {(phase, getattr(used_attempt(item, phase), "version", None)) for phase in phases_of("both", item)}
    gone = [one for one in listings if one.listed is False and (one.phase, one.version) in needed]
    if not gone:
        return item
    why = "; ".join(f"version {one.version} of the {one.phase} phase is gone: {one.reason}" for one in gone)
    return dataclasses.replace(item, state="lost", updated=now, reasons=(*item.reasons, why))


def listings_of(
    item: BackupSet,
    *,
    machine: str,
    targets: Mapping[str, str],
    list_versions: Callable[[Attempt, str], Sequence[str] | str],
    is_share: Callable[[Attempt, str], bool],
) -> list[Listing]:
    """List the targets of a set's versions again, from one machine.

    Args:
        machine: computer name of the machine that is asked.
        targets: phase -> where the version lies now, when it is not where it was written.
        list_versions: (attempt, where its version lies now) -> version ids there, or a sentence why the target could not be
            listed, which proves nothing.
        is_share: (attempt, target) -> whether every machine can list it; a volume only its own machine can.
    """
    found = []
    for phase in phases_of("both", item):
        attempt = used_attempt(item, phase)
        if attempt is None or attempt.version is None:
            continue
        target = targets.get(phase) or attempt.target
        listed: bool | None
        if attempt.machine.casefold() != machine.casefold() and not is_share(attempt, target) and phase not in targets:
            listed, reason = None, f"{target} is a volume of {attempt.machine}, which {machine} cannot list"
        else:
            answer = list_versions(attempt, target)
            if isinstance(answer, str):
                listed, reason = None, answer  # a target that does not answer has lost nothing yet
            else:
                listed = attempt.version in answer
                reason = f"{machine} lists it" if listed else f"{machine} lists {', '.join(answer) or 'no version'}"
        found.append(
            Listing(
                set_id=item.set_id,
                phase=phase,
                machine=attempt.machine,
                target=target,
                version=attempt.version,
                listed=listed,
                reason=reason,
            )
        )
    return found


def parse_moment(text: str) -> datetime:
    """A point in time as an operator writes it; UTC unless it says otherwise. Raises `BackupError` `bad_option`."""
    try:
        moment = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    except ValueError:
        raise BackupError(
            "bad_option",
            f"{text!r} is no point in time; write it like 2026-10-01T20:00:00Z (UTC unless it says otherwise).",
        ) from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=timezone.utc)


def moment_of(item: BackupSet) -> float:
    """When the set's state of the VM was, in seconds: its host snapshot, else its guest snapshot, else its opening."""
    guest, host = best_pair(item)
    for attempt in (host, guest):
        if attempt is not None and attempt.outcome in USABLE and attempt.moment is not None:
            return attempt.moment
    return item.opened.timestamp()


def _age(item: BackupSet) -> tuple[float, str]:
    return (moment_of(item), item.set_id)


def _named(sets: Sequence[BackupSet]) -> str:
    return ", ".join(f"{one.set_id} ({one.state})" for one in sets[:10]) or "none"


def _last(reasons: Sequence[str]) -> str:
    return reasons[-1] if reasons else ""


def _time(moment: datetime) -> str:
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."
