# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""Which backup sets of a VM are kept and which expire: one planner for all engines, and the transitions of a set that goes.

Responsible for the rules, the plan as data, and the order of its record's states. Not responsible for deleting a version (an
engine's `delete`), nor for who may work on the VM (its lease).

Rules. A verified set is one that is `good`, or that was good and has been restored from. Only verified sets count:
- `keep_last` n: the n newest;
- `keep_daily` n: of the n newest days that have one, the newest of each day; days are those of the snapshot in UTC;
- `keep_weekly` n: the same for weeks, which are ISO weeks (Monday to Sunday) in UTC.
A set that any rule keeps stays. Days and weeks without a verified set are not counted, so that a VM that was not backed up for a
month loses nothing by that. Degraded, failed and lost sets never take a good one's place; they go once they are older than
every verified set that a rule keeps. The newest verified set always stays, and while there is none, everything does.

Order, so that a kill at any moment leaves a rerun nothing but the rest: the record becomes `expiring` (no restore uses it any
more), the versions are deleted, the record becomes `expired`. A set that is expiring is always finished, whatever the rules say
by then: part of it may be gone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from .backup_set import Attempt, BackupSet, close, vm_key
from .engine import Deletion
from .errors import BackupError
from .restore_record import FINISHED
from .set_choice import moment_of

MAX_KEEP = 10_000
CANNOT = "engine cannot delete single versions"
EXPIRING, EXPIRED = "expiring", "expired"
KEEP, EXPIRE, CONTINUE, GONE = "keep", "expire", "continue", "gone"

#: Reasons of a set that say nothing against it.
_REMARKS = ("not captured, and accepted:", "not one point in time:")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Policy:
    """How many verified sets stay. At least one rule is given, each at least 1."""

    keep_last: int | None = None
    keep_daily: int | None = None
    keep_weekly: int | None = None

    def __post_init__(self) -> None:
        given = {name: value for name, value in dataclasses.asdict(self).items() if value is not None}
        if not given:
            raise BackupError(
                "bad_option", "Nothing says what to keep; give at least one of keep_last, keep_daily and keep_weekly."
            )
        for name, value in given.items():
            if not 1 <= value <= MAX_KEEP:
                raise BackupError(
                    "bad_option",
                    f"{name} is {value}, but it must be 1 to {MAX_KEEP}; leave it out to keep nothing by that rule.",
                )


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlannedVersion:
    """One version of a set.

    Attributes:
        keep: why it can never be deleted, a sentence; empty when it can.
        wait: why it cannot be deleted now, so that the whole set waits; empty when it can.
    """

    phase: str
    engine: str
    machine: str
    target: str
    version: str
    run_id: str
    engine_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    keep: str = ""
    wait: str = ""

    def to_dict(self) -> dict[str, Any]:
        shown = {name: value for name, value in vars(self).items() if name != "engine_options"}
        return {**shown, "action": "keep" if self.keep or self.wait else "delete"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlannedSet:
    """What becomes of one set: `keep`, `expire`, `continue` (it is expiring already) or `gone` (it has expired)."""

    set_id: str
    state: str
    moment: datetime
    action: str
    reasons: tuple[str, ...]
    versions: tuple[PlannedVersion, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {
            "set_id": self.set_id,
            "state": self.state,
            "moment": _time(self.moment),
            "action": self.action,
            "reasons": list(self.reasons),
            "versions": [one.to_dict() for one in self.versions],
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class RetentionPlan:
    """What becomes of every set of a VM, newest first."""

    vm_id: str
    sets: tuple[PlannedSet, ...]

    @property
    def to_expire(self) -> tuple[PlannedSet, ...]:
        """Sets that go, oldest first; those that are half gone before all others."""
        going = [one for one in reversed(self.sets) if one.action in (EXPIRE, CONTINUE)]
        return tuple(sorted(going, key=lambda one: one.action != CONTINUE))

    def describe(self) -> str:
        """One line for each set and version; what check mode and `--diff` show."""
        lines = []
        for one in self.sets:
            if one.action == GONE:
                continue
            lines.append(
                f"{one.action} {one.set_id} ({one.state}, {_time(one.moment)}): {'; '.join(one.reasons) or 'no rule keeps it'}"
            )
            if one.action == KEEP:
                continue
            for version in one.versions:
                what = f"{version.phase} version {version.version} on {version.target} ({version.engine})"
                why = version.keep or version.wait
                lines.append(f"  kept: {what}: {why}" if why else f"  delete {what}")
        return "".join(f"{line}\n" for line in lines)

    def to_dict(self) -> list[dict[str, Any]]:
        return [one.to_dict() for one in self.sets if one.action != GONE]


def is_verified(item: BackupSet) -> bool:
    """Whether a set counts: good, or good until it was restored from (which only adds to what is known of it)."""
    if item.state == "good":
        return True
    if item.state != "restored":
        return False
    if close(dataclasses.replace(item, state="open", closed=None), item.updated).state != "good":
        return False
    return all(reason.startswith(_REMARKS) for reason in item.reasons)


def plan_retention(
    sets: Sequence[BackupSet],
    vm_id: str,
    policy: Policy,
    *,
    why_kept: Callable[[str, Attempt], str] = lambda _phase, _attempt: "",
    why_waiting: Callable[[str, Attempt], str] = lambda _phase, _attempt: "",
    in_use: str = "",
) -> RetentionPlan:
    """What becomes of the sets of a VM. Sets of other VMs are not looked at.

    Args:
        why_kept: (phase, attempt) -> why its version can never be deleted by itself, a sentence; empty when it can.
        why_waiting: (phase, attempt) -> why it cannot be deleted now (its machine does not answer), a sentence; empty when it
            can. Its set waits as a whole.
        in_use: why nothing of this VM may be deleted now (its lease is held by another run); empty when it may.
    """
    mine = sorted((item for item in sets if item.vm_id == vm_key(vm_id)), key=_order, reverse=True)
    kept = _kept([item for item in mine if is_verified(item)], policy)
    oldest = min((_order(item) for item in mine if item.set_id in kept), default=None)
    decided = {item.set_id: _decide(item, kept, oldest) for item in mine}
    staying = _versions_of(item for item in mine if decided[item.set_id][0] == KEEP)
    planned = []
    for item in mine:
        action, reasons = decided[item.set_id]
        if action in (EXPIRE, CONTINUE) and in_use:
            action, reasons = KEEP, (in_use,)
        versions = tuple(
            PlannedVersion(
                phase=phase,
                engine=one.engine,
                machine=one.machine,
                target=one.target,
                version=str(one.version),
                run_id=one.run_id,
                engine_options=one.engine_options,
                keep="a set that is kept needs it too" if _key(one) in staying else why_kept(phase, one),
                wait="" if _key(one) in staying else why_waiting(phase, one),
            )
            for phase, one in recorded_versions(item)
        )
        waits = tuple(dict.fromkeys(one.wait for one in versions if one.wait and not one.keep))
        if action == EXPIRE and waits:
            action, reasons = KEEP, waits
        if action == EXPIRE and versions and all(one.keep for one in versions):
            action, reasons = KEEP, tuple(dict.fromkeys(f"kept: {one.keep}" for one in versions))
        planned.append(
            PlannedSet(
                set_id=item.set_id,
                state=item.state,
                moment=_moment(item),
                action=action,
                reasons=reasons,
                versions=versions,
            )
        )
    return RetentionPlan(vm_id=vm_key(vm_id), sets=tuple(planned))


def recorded_versions(item: BackupSet) -> tuple[tuple[str, Attempt], ...]:
    """Every version that the record binds to a run of this set, with its phase, each once."""
    found: dict[tuple[str, str, str, str], tuple[str, Attempt]] = {}
    for phase in ("guest", "host"):
        for attempt in item.attempts(phase):
            if attempt.version is not None:
                found.setdefault(_key(attempt), (phase, attempt))
    return tuple(found.values())


def mark_expiring(item: BackupSet, reason: str, now: datetime) -> BackupSet:
    """The set is about to lose its versions; from now on no restore uses it. Marking it twice changes nothing.

    Raises: `BackupError` `bad_transition` for a set that is open or has expired.
    """
    if item.state == EXPIRING:
        return item
    if item.state in ("open", EXPIRED):
        raise BackupError(
            "bad_transition",
            f"The set {item.set_id} is {item.state}; only a closed set that is still there can expire.",
        )
    return dataclasses.replace(item, state=EXPIRING, updated=now, reasons=(*item.reasons, f"expiring: {reason}"))


def mark_expired(item: BackupSet, left: Iterable[str], now: datetime) -> BackupSet:
    """Every version that can be deleted is gone. What only a restore needs is dropped from the record.

    Args:
        left: sentences about versions that stay where they are, because their engine cannot delete them.
    """
    if item.state == EXPIRED:
        return item
    if item.state != EXPIRING:
        raise BackupError("bad_transition", f"The set {item.set_id} is {item.state}; mark it as expiring first.")
    return dataclasses.replace(
        item,
        state=EXPIRED,
        updated=now,
        reasons=(*item.reasons, *(f"not deleted: {text}" for text in left)),
        disks=(),
        copies=(),
    )


# --- carrying it out ------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hands:
    """What carrying a plan out needs of the outside.

    Attributes:
        read: the record of a set as it is now, None when there is none.
        write: stores it; returns what is stored.
        delete: deletes one version through its engine. Deleting what is gone is a success.
        remove_copies: removes the copies of a set's record; returns a sentence for each that is still there.
        check: raises when this run may change nothing more.
        now: of the Hyper-V host's clock.
    """

    read: Callable[[str], BackupSet | None]
    write: Callable[[BackupSet], BackupSet]
    delete: Callable[[PlannedVersion], Deletion]
    remove_copies: Callable[[BackupSet], Sequence[str]]
    check: Callable[[], None]
    now: Callable[[], datetime]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one set that was to expire. `problems`: sentences; the set stays `expiring`, a rerun goes on."""

    set_id: str
    state: str
    deleted: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}


def carry_out(plan: RetentionPlan, hands: Hands) -> tuple[Outcome, ...]:
    """Expire what the plan says, one set after the other; each step is safe to repeat."""
    return tuple(_expire(one, hands) for one in plan.to_expire)


def _expire(one: PlannedSet, hands: Hands) -> Outcome:
    hands.check()
    item = hands.read(one.set_id)
    if item is None or item.state == EXPIRED:
        return Outcome(set_id=one.set_id, state=EXPIRED)
    if item.state != EXPIRING:
        if item.state != one.state or _unfinished(item):
            return Outcome(
                set_id=one.set_id,
                state=item.state,
                problems=(
                    f"set {one.set_id} was {one.state} when it was planned for and is {item.state} now; run again",
                ),
            )
        item = hands.write(mark_expiring(item, "; ".join(one.reasons) or "no rule keeps it", hands.now()))
    deleted, kept, problems = [], [], []
    for version in one.versions:
        what = f"{version.phase} version {version.version} on {version.target}"
        if version.keep:
            kept.append(f"{what}: {version.keep}")
            continue
        if version.wait:
            problems.append(f"{what} was not deleted: {version.wait}")
            continue
        hands.check()
        result = hands.delete(version)
        if result.state == "kept":
            problems.append(f"{what} was not deleted: {result.reason}")
        else:
            deleted.append(what if result.state == "deleted" else f"{what} (it was gone)")
    if not problems:
        problems += hands.remove_copies(item)
    if not problems:
        item = hands.write(mark_expired(item, kept, hands.now()))
    return Outcome(
        set_id=one.set_id, state=item.state, deleted=tuple(deleted), kept=tuple(kept), problems=tuple(problems)
    )


# --- rules ----------------------------------------------------------------------------------------------------------


def _kept(verified: Sequence[BackupSet], policy: Policy) -> dict[str, tuple[str, ...]]:
    """Set ids that rules keep, with the rules' words. `verified` is newest first."""
    found: dict[str, list[str]] = {}
    for number, item in enumerate(verified[: policy.keep_last or 0], start=1):
        found.setdefault(item.set_id, []).append(f"the newest {number} of {policy.keep_last}")
    for count, name, bucket in (
        (policy.keep_daily, "day", _day),
        (policy.keep_weekly, "week", _week),
    ):
        newest: dict[str, BackupSet] = {}
        for item in verified:
            newest.setdefault(bucket(item), item)
        for label, item in list(newest.items())[: count or 0]:
            found.setdefault(item.set_id, []).append(f"the newest of {name} {label}")
    if verified:
        found.setdefault(verified[0].set_id, []).append("the last good set")
    return {set_id: tuple(words) for set_id, words in found.items()}


def _decide(
    item: BackupSet, kept: dict[str, tuple[str, ...]], oldest: tuple[float, str] | None
) -> tuple[str, tuple[str, ...]]:
    if item.state == EXPIRED:
        return GONE, ()
    if item.state == EXPIRING:
        return CONTINUE, ("its deletion has begun",)
    if item.state == "open":
        return KEEP, ("it is open",)
    unfinished = _unfinished(item)
    if unfinished:
        return KEEP, (f"restore {', '.join(unfinished)} from it has not finished",)
    if item.set_id in kept:
        return KEEP, kept[item.set_id]
    if oldest is None:
        return KEEP, ("there is no good set that could take its place",)
    if is_verified(item):
        return EXPIRE, ()
    if _order(item) < oldest:
        return EXPIRE, (f"it is {item.state} and older than every good set that is kept",)
    return KEEP, (f"it is {item.state} and younger than a good set that is kept; it counts for nothing",)


def _unfinished(item: BackupSet) -> list[str]:
    """Restores from a set that run, or failed and can be continued."""
    return [str(one.get("id")) for one in item.restores if one.get("state", FINISHED) != FINISHED]


def _versions_of(items: Iterable[BackupSet]) -> set[tuple[str, str, str, str]]:
    return {_key(attempt) for item in items for _phase, attempt in recorded_versions(item)}


def _key(attempt: Attempt) -> tuple[str, str, str, str]:
    """What one version is to its engine: two sets with the same key name the same thing."""
    return (attempt.engine, attempt.machine.casefold(), attempt.target.casefold(), str(attempt.version))


def _order(item: BackupSet) -> tuple[float, str]:
    return (moment_of(item), item.set_id)


def _moment(item: BackupSet) -> datetime:
    return datetime.fromtimestamp(moment_of(item), tz=timezone.utc)


def _day(item: BackupSet) -> str:
    return f"{_moment(item):%Y-%m-%d}"


def _week(item: BackupSet) -> str:
    year, week, _day_of_week = _moment(item).isocalendar()
    return f"{year}-W{week:02d}"


def _time(moment: datetime) -> str:
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
