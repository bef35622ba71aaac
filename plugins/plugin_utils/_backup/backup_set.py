# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""Backup sets: what keeps the two halves of a backup together.

Responsible for the record of one set (what was captured by which phase, as which version, when, of which disks), its
states, and the decisions about opening, resuming and closing. Not responsible for where it is stored (`set_store.py`),
for making backups (`engine.py`) or for coverage.

States: `open` -> `good` | `degraded` | `failed`; later `lost` (a version is gone from its target) or `restored`, in the end
`expiring` and `expired` (`retention.py`). A closed set is never opened again. Every transition is a pure function that returns a new set.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from .._wsman.errors import shortened
from .engine import BackupResult
from .errors import BackupError, SetUnreadable
from .record_shape import check_disk, check_shape

FORMAT = "hyperv.passthrough/backup-set"
VERSION = 1
# The registry writer takes 150,000 characters in one request; a set of forty disks with full listings needs about 90,000.
MAX_RECORD_CHARS = 140_000
MAX_ATTEMPTS = 50
MAX_LISTING_NAMES = 40  # kept by name; all of them count for the digest
MAX_TEXT_CHARS = 2_000
MAX_DEPTH = 20
CLOCK_TOLERANCE_S = 300.0  # a set from the future by more than this is not resumed

PHASES = ("guest", "host")
STATES = ("open", "good", "degraded", "failed", "lost", "restored", "expiring", "expired")
OUTCOMES = ("running", "succeeded", "warning", "failed")
USABLE = frozenset({"succeeded", "warning"})

_SET_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_DEVICE_NAMES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)


# --- records --------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class Attempt:
    """One run of one phase.

    Attributes:
        number: from 1.
        machine: computer name of where it ran.
        target: the place this run wrote to (on a share a folder of its own).
        outcome: `running`, `succeeded`, `warning` (a version exists that the engine calls incomplete), `failed`.
        version: the engine's version id, only when proven to be this run's.
        snapshot_time: of the version, on that machine's clock.
        clock_offset_s: that machine's clock minus the Hyper-V host's when it was read; makes two machines comparable.
        consistency: of the VM in the host phase: `online`, `saved_state` (the backup had to save it), `off` (it did not
            run anyway), `unknown`.
        listed: the version was read back from the target in the context that a restore uses.
        purpose: `first`, `retry`, or `skew` when it repeats a phase because the snapshots lay too far apart.
        error: {"kind", "message"} of a failure.
        engine_options: the engine's options as the operator gave them; a restore needs nothing else.
    """

    number: int
    run_id: str
    engine: str
    machine: str
    target: str
    started: datetime
    outcome: str = "running"
    ended: datetime | None = None
    version: str | None = None
    snapshot_time: datetime | None = None
    clock_offset_s: float = 0.0
    consistency: str = "unknown"
    listed: bool = False
    purpose: str = "first"
    warnings: tuple[str, ...] = ()
    evidence: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    error: Mapping[str, Any] | None = None
    engine_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def is_usable(self) -> bool:
        return self.outcome in USABLE and self.version is not None

    @property
    def moment(self) -> float | None:
        """The snapshot in seconds of the Hyper-V host's clock, comparable between machines."""
        return None if self.snapshot_time is None else self.snapshot_time.timestamp() - self.clock_offset_s


@dataclasses.dataclass(frozen=True, kw_only=True)
class Waiver:
    """What the operator declared for this set: `accept_gap` or `guest_storage_none`, what for, and when."""

    kind: str
    value: str
    date: datetime


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hooks:
    """The quiesce hook: `quiesced` is true from before it starts until unquiesce has run."""

    used: bool = False
    quiesced: bool = False
    quiesced_at: datetime | None = None
    unquiesced_at: datetime | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class BackupSet:
    """One backup of one VM in all its phases.

    Attributes:
        vm: {id, name, generation, host, ...}: JSON types; `id` is the GUID that sets are looked up by.
        disks: as `coverage()` gives them, with what a restore compares later: identities, slot, size, volumes with file
            system serial number, label, letter, used bytes, `root_listing` (`root_listing()`), `sentinels`.
        guest_phase_needed: whether any disk is captured in the guest.
        automatic_start_action: of the VM when the set was opened; the value that a restore puts back.
        allow_offline: the operator accepts that the VM is saved while it is backed up.
        reasons: why the set is in its state, sentences.
        restores: when it was restored: {"time", "host", "note"}.
    """

    set_id: str
    vm: Mapping[str, Any]
    opened: datetime
    updated: datetime
    max_skew_s: float
    state: str = "open"
    revision: int = 0
    closed: datetime | None = None
    vss_backup_type: Mapping[str, str] = dataclasses.field(default_factory=lambda: {"guest": "copy", "host": "copy"})
    automatic_start_action: str | None = None
    allow_offline: bool = False
    guest_phase_needed: bool = True
    guest: tuple[Attempt, ...] = ()
    host: tuple[Attempt, ...] = ()
    disks: tuple[Mapping[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    waivers: tuple[Waiver, ...] = ()
    hooks: Hooks = dataclasses.field(default_factory=Hooks)
    skew_s: float | None = None
    reasons: tuple[str, ...] = ()
    restores: tuple[Mapping[str, Any], ...] = ()
    copies: tuple[str, ...] = ()

    @property
    def vm_id(self) -> str:
        return vm_key(self.vm.get("id"))

    @property
    def is_open(self) -> bool:
        return self.state == "open"

    def attempts(self, phase: str) -> tuple[Attempt, ...]:
        _check_phase(phase)
        return self.guest if phase == "guest" else self.host

    def to_dict(self) -> dict[str, Any]:
        """JSON types only; the documented result of `backup_set`, and the copy on the controller."""
        plain = _plain(self)
        phases = {phase: {"attempts": plain.pop(phase)} for phase in PHASES}
        phases["guest"]["needed"] = plain.pop("guest_phase_needed")
        phases["host"]["needed"] = True
        return {"format": FORMAT, "version": VERSION, **plain, "phases": phases}

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), separators=(",", ":"), sort_keys=True, allow_nan=False)


def check_set_id(set_id: str) -> str:
    """The set id, when it can be a registry key, a folder and a task name. Raises `BackupError` `bad_set_id`."""
    if not _SET_ID.fullmatch(set_id) or set_id.endswith(".") or _DEVICE_NAMES.match(set_id):
        raise BackupError(
            "bad_set_id",
            f"{set_id!r} cannot be a set_id; it must be 1 to 64 letters, digits, dots, dashes or underscores, begin with a "
            "letter or digit, not end with a dot and not be a device name such as NUL.",
        )
    return set_id


def new_set_id(vm_id: str, now: datetime, suffix: str) -> str:
    """`285cea9b-20260630T192600Z-<suffix>`: the VM's first eight digits let a listing skip other VMs' sets."""
    return check_set_id(f"{vm_key(vm_id)[:8]}-{now.astimezone(timezone.utc):%Y%m%dT%H%M%SZ}-{suffix.lower()[:8]}")


def run_id_for(set_id: str, phase: str, attempt: int) -> str:
    """The run's name on its machine: task name and folder. Derived, so a rerun finds a run whose recording was lost."""
    _check_phase(phase)
    if not 1 <= attempt <= MAX_ATTEMPTS:
        raise BackupError("too_many_attempts", f"Attempt {attempt} of set {set_id} is outside 1 to {MAX_ATTEMPTS}.")
    return f"{check_set_id(set_id).lower()}.{phase}.{attempt}"


def root_listing(names: Iterable[str]) -> dict[str, Any]:
    """The names in a volume's root, as a restore compares them: some by name, all in count and digest."""
    ordered = sorted(names, key=lambda name: (name.casefold(), name))
    digest = hashlib.sha256("\n".join(ordered).encode("utf-8", "surrogatepass")).hexdigest()
    return {"count": len(ordered), "sha256": digest, "names": [name[:100] for name in ordered[:MAX_LISTING_NAMES]]}


# --- decisions ------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class OpenDecision:
    """What to do at the start of a run.

    Attributes:
        action: `open` a new set, `resume` the open set `set_id`, or `return` the closed set `set_id` unchanged.
        set_id: None when a new id has to be made (`new_set_id`).
        close_as_failed: open sets of this VM that are given up, each with the reason for its record.
        unquiesce: ids among them, or the resumed one, whose guest may still be quiesced: run the unquiesce hook first.
    """

    action: str
    set_id: str | None
    reason: str
    close_as_failed: tuple[tuple[str, str], ...] = ()
    unquiesce: tuple[str, ...] = ()


def open_or_resume(
    existing: Sequence[BackupSet], vm_id: str, now: datetime, max_skew_s: float, requested_set_id: str | None = None
) -> OpenDecision:
    """Decide with which set a run works (design section 4, `set_id`). `now` is the Hyper-V host's clock.

    A requested set is continued whatever its age, or returned when it is closed. Without a request the newest open set is
    resumed only if it is younger than `max_skew_s`. Every other open set of the VM is given up: the caller holds the VM's
    lease, so nobody works on them.

    Raises: `BackupError`: `bad_set_id`; `set_id_taken` when the requested set belongs to another VM.
    """
    mine = [item for item in existing if item.vm_id == vm_key(vm_id)]
    chosen: BackupSet | None = None
    if requested_set_id is not None:
        check_set_id(requested_set_id)
        for item in existing:
            if item.set_id.casefold() == requested_set_id.casefold():
                if item.vm_id != vm_key(vm_id):
                    raise BackupError(
                        "set_id_taken",
                        f"The set {item.set_id} belongs to VM {item.vm.get('name')!r} ({item.vm.get('id')}); "
                        "choose another set_id, one for each VM.",
                    )
                chosen = item
        if chosen is not None and not chosen.is_open:
            return OpenDecision(action="return", set_id=chosen.set_id, reason=f"the set is already {chosen.state}")
        reason = "a new set with the requested id" if chosen is None else "the requested set is open and continued"
    else:
        young = [item for item in mine if item.is_open and _is_young(item, now, max_skew_s)]
        chosen = max(young, key=lambda item: (item.opened, item.set_id), default=None)
        reason = "no open set is young enough" if chosen is None else "the open set is younger than max_skew"
    given_up = [item for item in mine if item.is_open and item is not chosen]
    why = (
        "given up: another run asked for a set of its own"
        if requested_set_id is not None
        else f"given up: it was not finished within max_skew ({max_skew_s:.0f} s)"
    )
    quiesced = [item for item in (*given_up, *([chosen] if chosen else [])) if item.hooks.quiesced]
    return OpenDecision(
        action="open" if chosen is None else "resume",
        set_id=requested_set_id if chosen is None else chosen.set_id,
        reason=reason,
        close_as_failed=tuple((item.set_id, why) for item in given_up),
        unquiesce=tuple(item.set_id for item in quiesced),
    )


def _is_young(item: BackupSet, now: datetime, max_skew_s: float) -> bool:
    age = (now - item.opened).total_seconds()
    return -CLOCK_TOLERANCE_S <= age <= max_skew_s


@dataclasses.dataclass(frozen=True, kw_only=True)
class PhaseTodo:
    """What one phase still needs: `start` a new attempt, or `attach` to one that was started or may have been."""

    phase: str
    action: str
    attempt: int
    run_id: str
    purpose: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Todo:
    """What is left of an open set, in the order in which it is done."""

    unquiesce: bool
    phases: tuple[PhaseTodo, ...]
    close: bool

    @property
    def is_nothing(self) -> bool:
        return not (self.unquiesce or self.phases or self.close)


def what_is_left(item: BackupSet) -> Todo:
    """What a run, or a rerun after a kill, still has to do; a closed set needs at most its guest unquiesced.

    An attempt that was recorded as running is attached to, never started again. The number of the next attempt comes from
    the record, and `start` on a machine where that run id exists attaches as well, so that an attempt whose recording was
    lost is found. When both phases are done and the snapshots lie too far apart, the guest phase is repeated once.
    """
    if not item.is_open:
        return Todo(unquiesce=item.hooks.quiesced, phases=(), close=False)
    todo = []
    for phase in PHASES:
        if phase == "guest" and not item.guest_phase_needed:
            continue
        attempts = item.attempts(phase)
        if any(attempt.is_usable for attempt in attempts):
            continue
        todo.append(_next(item, phase, "retry" if attempts else "first"))
    if not todo and item.guest_phase_needed:
        skew = skew_seconds(item)
        if skew is not None and skew > item.max_skew_s:
            repeats = [attempt for attempt in item.guest if attempt.purpose == "skew"]
            if not repeats or repeats[-1].outcome == "running":
                todo.append(_next(item, "guest", "skew"))
    return Todo(unquiesce=item.hooks.quiesced, phases=tuple(todo), close=not todo)


def guest_is_stale(item: BackupSet, now: datetime, clock_offset_s: float = 0.0) -> bool:
    """Whether the guest phase should be repeated before the host phase starts, because it is already too old.

    `now` and `clock_offset_s` are of the machine whose clock `now` is.
    """
    usable = [attempt for attempt in item.guest if attempt.outcome == "succeeded" and attempt.moment is not None]
    if not usable or any(attempt.is_usable for attempt in item.host):
        return False
    if any(attempt.purpose == "skew" for attempt in item.guest):
        return False
    newest = max(attempt.moment for attempt in usable if attempt.moment is not None)
    return now.timestamp() - clock_offset_s - newest > item.max_skew_s


def _next(item: BackupSet, phase: str, purpose: str) -> PhaseTodo:
    attempts = item.attempts(phase)
    if attempts and attempts[-1].outcome == "running":
        last = attempts[-1]
        return PhaseTodo(phase=phase, action="attach", attempt=last.number, run_id=last.run_id, purpose=last.purpose)
    number = len(attempts) + 1
    return PhaseTodo(
        phase=phase, action="start", attempt=number, run_id=run_id_for(item.set_id, phase, number), purpose=purpose
    )


def best_pair(item: BackupSet) -> tuple[Attempt | None, Attempt | None]:
    """The guest and host attempts that make up the set: complete before incomplete, then closest together, then newest."""
    hosts = [attempt for attempt in item.host if attempt.is_usable]
    guests = [attempt for attempt in item.guest if attempt.is_usable]
    if not hosts or not guests:
        return _newest(guests), _newest(hosts)

    def merit(pair: tuple[Attempt, Attempt]) -> tuple[int, float, int]:
        guest, host = pair
        complete = (guest.outcome == "succeeded") + (host.outcome == "succeeded")
        gap = abs(guest.moment - host.moment) if guest.moment is not None and host.moment is not None else 1e12
        return (complete, -gap, guest.number + host.number)

    return max(((guest, host) for guest in guests for host in hosts), key=merit)


def _newest(attempts: Sequence[Attempt]) -> Attempt | None:
    return max(attempts, key=lambda attempt: (attempt.outcome == "succeeded", attempt.number), default=None)


def skew_seconds(item: BackupSet) -> float | None:
    """Time between the two snapshots, corrected by the machines' clock offsets; None when one is missing."""
    guest, host = best_pair(item)
    if guest is None or host is None or guest.moment is None or host.moment is None:
        return None
    return round(abs(guest.moment - host.moment), 3)


def begun_attempt(todo: PhaseTodo, *, engine: str, machine: str, target: str, started: datetime) -> Attempt:
    """The record to write before a run is started, so that a rerun attaches to it."""
    return Attempt(
        number=todo.attempt,
        run_id=todo.run_id,
        engine=engine,
        machine=machine,
        target=target,
        started=started,
        purpose=todo.purpose,
    )


def ended_attempt(attempt: Attempt, result: BackupResult, *, ended: datetime, clock_offset_s: float) -> Attempt:
    """The record of a finished run. `clock_offset_s`: the machine's clock minus the Hyper-V host's, read together."""
    failed = result.state not in USABLE or result.version is None
    return dataclasses.replace(
        attempt,
        target=result.target,
        outcome="failed" if failed else result.state,
        ended=ended,
        version=None if failed else result.version,
        snapshot_time=None if failed else result.snapshot_time,
        clock_offset_s=clock_offset_s,
        consistency=result.consistency,
        listed=result.listed and not failed,
        warnings=tuple(result.warnings),
        evidence=dict(result.evidence),
        error={"kind": result.kind, "message": result.message} if failed else None,
    )


# --- transitions ----------------------------------------------------------------------------------------------------


def record_phase(item: BackupSet, phase: str, attempt: Attempt, now: datetime) -> BackupSet:
    """Add an attempt, or complete the one with that number. Raises `BackupError` when the record would contradict itself.

    Kinds: `set_closed`; `bad_attempt` for a number or run id that does not fit, an outcome that is none, a success without
    version, or a change of an attempt that has already ended.
    """
    _check_open(item)
    attempts = list(item.attempts(phase))
    if attempt.outcome not in OUTCOMES or (attempt.outcome in USABLE and not attempt.version):
        raise BackupError(
            "bad_attempt",
            f"The {phase} phase of set {item.set_id} cannot be recorded as {attempt.outcome!r} with version "
            f"{attempt.version!r}; a success needs the version that proves it.",
        )
    if attempt.run_id != run_id_for(item.set_id, phase, attempt.number):
        raise BackupError(
            "bad_attempt", f"Run {attempt.run_id!r} is not attempt {attempt.number} of set {item.set_id}."
        )
    if attempt.number == len(attempts) + 1:
        if attempts and attempts[-1].outcome == "running":
            raise BackupError(
                "bad_attempt",
                f"Attempt {attempts[-1].number} of the {phase} phase of set {item.set_id} is still recorded as running; "
                "record its end first.",
            )
        attempts.append(attempt)
    elif 1 <= attempt.number <= len(attempts):
        known = attempts[attempt.number - 1]
        if known == attempt:
            return item
        if known.outcome != "running":
            raise BackupError(
                "bad_attempt",
                f"Attempt {attempt.number} of the {phase} phase of set {item.set_id} has already ended as "
                f"{known.outcome}; what is recorded is not changed.",
            )
        attempts[attempt.number - 1] = attempt
    else:
        raise BackupError(
            "bad_attempt",
            f"Attempt {attempt.number} of the {phase} phase of set {item.set_id} would leave a gap after {len(attempts)}.",
        )
    done = tuple(attempts)
    changed = (
        dataclasses.replace(item, updated=now, guest=done)
        if phase == "guest"
        else dataclasses.replace(item, updated=now, host=done)
    )
    return dataclasses.replace(changed, skew_s=skew_seconds(changed))


def record_volumes(
    item: BackupSet, volumes: Sequence[Mapping[str, Any]], sentinels: Sequence[Mapping[str, Any]], now: datetime
) -> BackupSet:
    """Add to the disks what `guest_backup` read of their volumes right before the snapshot.

    Args:
        volumes: each with `path`; its other keys are added to the volume of that path, such as `root_listing`.
        sentinels: files with size and times; each goes to the volume whose letter or access path it lies on.
    """
    _check_open(item)
    known = {str(volume.get("path")).casefold(): volume for volume in volumes}

    def described(volume: Mapping[str, Any]) -> dict[str, Any]:
        more = known.get(str(volume.get("path")).casefold(), {})
        merged = {**volume, **more}
        roots = [f"{merged.get('letter')}:\\", *(merged.get("access_paths") or ())]
        lying = [dict(file) for file in sentinels if _lies_below(str(file.get("path")), roots)]
        return {**merged, "sentinels": lying} if lying else merged

    disks = tuple(
        {**disk, "volumes": [described(volume) for volume in disk.get("volumes") or ()]} for disk in item.disks
    )
    return item if disks == item.disks else dataclasses.replace(item, disks=disks, updated=now)


def _lies_below(path: str, roots: Sequence[str]) -> bool:
    return any(root and path.casefold().startswith(str(root).casefold()) for root in roots)


def record_quiesce(item: BackupSet, quiesced: bool, now: datetime) -> BackupSet:
    """Record that the quiesce hook is about to run (True, before it runs) or that the unquiesce hook has run (False).

    Unquiesce may be recorded on a closed set too, because it always runs.
    """
    if quiesced:
        _check_open(item)
        hooks = dataclasses.replace(item.hooks, used=True, quiesced=True, quiesced_at=now)
    else:
        hooks = dataclasses.replace(item.hooks, quiesced=False, unquiesced_at=now)
    return dataclasses.replace(item, hooks=hooks, updated=now)


def add_copy(item: BackupSet, path: str, now: datetime) -> BackupSet:
    """Record where a copy of the record lies."""
    if path in item.copies:
        return item
    return dataclasses.replace(item, copies=(*item.copies, path), updated=now)


def close(item: BackupSet, now: datetime, *, uncovered: Sequence[str] = (), accepted: Sequence[str] = ()) -> BackupSet:
    """Close an open set as what it is, with all reasons. Closing a closed set returns it unchanged.

    Args:
        uncovered: sentences of `coverage()` about disks that no phase captured and nobody accepted; they make it failed.
        accepted: sentences about accepted gaps; the set can be good, and says what it lacks.
    """
    if not item.is_open:
        return item
    failed = list(dict.fromkeys(f"not captured: {text}" for text in uncovered))
    degraded: list[str] = []
    guest, host = best_pair(item)
    parts = [("host", host)] if not item.guest_phase_needed else [("guest", guest), ("host", host)]
    for phase, attempt in parts:
        if attempt is None:
            failed.append(_why_missing(item, phase))
            continue
        if attempt.outcome == "warning":
            degraded.append(f"the {phase} phase ended with warnings: {'; '.join(attempt.warnings) or 'no details'}")
        if not attempt.listed:
            degraded.append(f"the {phase} version {attempt.version} was not read back from {attempt.target}")
        if attempt.snapshot_time is None:
            degraded.append(f"the {phase} phase tells no snapshot time")
    if host is not None and host.consistency == "saved_state" and not item.allow_offline:
        degraded.append("the VM was saved while the host backed it up, and allow_offline was not set")
    skew = skew_seconds(item)
    if item.guest_phase_needed and skew is not None and skew > item.max_skew_s:
        degraded.append(f"{skew:.0f} s lie between the two snapshots, more than max_skew ({item.max_skew_s:.0f} s)")
    remarks = [f"not captured, and accepted: {text}" for text in accepted]
    if item.guest_phase_needed and not item.hooks.used:
        remarks.append("not one point in time: no quiesce hook was used")
    state = "failed" if failed else "degraded" if degraded else "good"
    return dataclasses.replace(
        item, state=state, closed=now, updated=now, skew_s=skew, reasons=(*failed, *degraded, *remarks)
    )


def close_as_failed(item: BackupSet, reason: str, now: datetime) -> BackupSet:
    """Give an open set up. A closed one is returned unchanged."""
    if not item.is_open:
        return item
    return dataclasses.replace(item, state="failed", closed=now, updated=now, reasons=(*item.reasons, reason))


def mark_lost(item: BackupSet, reason: str, now: datetime) -> BackupSet:
    """A version of a usable set is gone from its target."""
    if item.state not in ("good", "degraded", "restored", "lost"):
        raise BackupError("bad_transition", f"The set {item.set_id} is {item.state}; only a usable set can be lost.")
    return dataclasses.replace(item, state="lost", updated=now, reasons=(*item.reasons, reason))


def mark_restored(item: BackupSet, restore: Mapping[str, Any], now: datetime) -> BackupSet:
    """Remember a finished restore from this set."""
    if item.state not in ("good", "degraded", "restored"):
        raise BackupError("bad_transition", f"The set {item.set_id} is {item.state}; it cannot have been restored.")
    return dataclasses.replace(item, state="restored", updated=now, restores=(*item.restores, dict(restore)))


def _why_missing(item: BackupSet, phase: str) -> str:
    attempts = item.attempts(phase)
    if not attempts:
        return f"the {phase} phase was never started"
    last = attempts[-1]
    if last.outcome == "running":
        return f"the {phase} phase is still recorded as running ({last.run_id})"
    return f"the {phase} phase failed: {(last.error or {}).get('message') or 'no reason recorded'}"


def _check_open(item: BackupSet) -> None:
    if not item.is_open:
        raise BackupError("set_closed", f"The set {item.set_id} is {item.state}; a closed set is not changed any more.")


def _check_phase(phase: str) -> None:
    if phase not in PHASES:
        raise BackupError("bad_option", f"{phase!r} is not a phase; there are {' and '.join(PHASES)}.")


def vm_key(vm_id: object) -> str:
    return str(vm_id or "").strip().strip("{}").casefold()


# --- JSON -----------------------------------------------------------------------------------------------------------


def from_json(text: str, *, name: str = "backup set") -> BackupSet:
    """Read a record. Raises `SetUnreadable`: `set_too_new` for a later version, `set_unreadable` for anything else."""
    if len(text) > MAX_RECORD_CHARS * 8:
        raise SetUnreadable("set_unreadable", f"The record of {name} has {len(text)} characters, far too many.")
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as err:
        raise SetUnreadable("set_unreadable", f"The record of {name} is no JSON ({type(err).__name__}).") from err
    return from_dict(data, name=name)


def from_dict(data: object, *, name: str = "backup set") -> BackupSet:
    """Like `from_json`, from JSON types; every field is checked, unknown ones are refused."""
    if not isinstance(data, Mapping) or data.get("format") != FORMAT:
        raise SetUnreadable("set_unreadable", f"{name} is not a backup set of hyperv.passthrough.")
    version = data.get("version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise SetUnreadable("set_unreadable", f"{name} has the version {version!r}, which is none.")
    if version > VERSION:
        raise SetUnreadable(
            "set_too_new",
            f"{name} has record version {version}; this release of hyperv.passthrough reads versions up to {VERSION}. "
            "Use a newer release of the collection for it.",
        )
    try:
        return _read_set({key: value for key, value in data.items() if key not in ("format", "version")})
    except (_Malformed, BackupError) as err:
        raise SetUnreadable("set_unreadable", f"The record of {name} cannot be used: {err}.") from err


def from_result(data: object, *, name: str = "set") -> BackupSet:
    """A set as a task returned it: the record with its id once more as `id`. Raises `SetUnreadable`."""
    if isinstance(data, Mapping):
        data = {key: value for key, value in data.items() if key != "id"}
    return from_dict(data, name=name)


class _Malformed(Exception):
    pass


def _read_set(data: dict[str, Any]) -> BackupSet:
    phases = data.pop("phases", None)
    if not isinstance(phases, Mapping) or set(phases) != set(PHASES) or data.keys() & {*PHASES, "guest_phase_needed"}:
        raise _Malformed("its phases are not guest and host")
    for phase in PHASES:
        body = phases[phase]
        if not isinstance(body, Mapping) or set(body) != {"attempts", "needed"}:
            raise _Malformed(f"its {phase} phase is malformed")
        data[phase] = body["attempts"]
    data["guest_phase_needed"] = phases["guest"]["needed"]
    item: BackupSet = _read(BackupSet, data, _SET_FIELDS)
    check_set_id(item.set_id)
    if item.state not in STATES:
        raise _Malformed(f"its state is {item.state!r}")
    if not item.vm_id:
        raise _Malformed("it names no VM")
    for phase in PHASES:
        for number, attempt in enumerate(item.attempts(phase), start=1):
            if attempt.number != number or attempt.outcome not in OUTCOMES:
                raise _Malformed(f"its {phase} attempts are not numbered or have an unknown outcome")
            if attempt.run_id != run_id_for(item.set_id, phase, number):
                raise _Malformed(f"its {phase} attempt {number} has a run id of another set")
    return item


def _read(record: Any, data: object, fields: Mapping[str, Any]) -> Any:
    """Build a record from a mapping by a table of readers; missing fields take the record's own defaults."""
    if not isinstance(data, Mapping):
        raise _Malformed(f"a {record.__name__} is not a mapping")
    unknown = sorted(set(data) - set(fields))
    if unknown:
        raise _Malformed(f"it has unknown fields: {', '.join(shortened(str(one), 60) for one in unknown[:5])}")
    values = {}
    for name, reader in fields.items():
        if name in data:
            try:
                values[name] = reader(data[name])
            except (TypeError, ValueError, OverflowError) as err:
                raise _Malformed(f"its field {name} is malformed") from err
    try:
        return record(**values)
    except TypeError as err:
        raise _Malformed(f"fields of a {record.__name__} are missing") from err


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT_CHARS * 4:
        raise TypeError
    return value


def _integer(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError
    return value


def _number(value: object) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not abs(value) <= 1e15:
        raise TypeError
    return float(value)


def _boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _moment(value: object) -> datetime:
    moment = datetime.strptime(_text(value), "%Y-%m-%dT%H:%M:%S.%fZ")
    return moment.replace(tzinfo=timezone.utc)


def _mapping(value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError
    return {_text(key): _json(item) for key, item in value.items()}


def _json(value: object, depth: int = 0) -> object:
    """JSON types that can be written again; others, NaN and endless nesting are refused."""
    if depth > MAX_DEPTH:
        raise ValueError
    if isinstance(value, Mapping):
        return {_text(key): _json(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json(item, depth + 1) for item in value]
    if isinstance(value, float) and not abs(value) <= 1e300:
        raise ValueError
    if value is not None and not isinstance(value, (str, int, float, bool)):
        raise TypeError
    return value


def _described(value: object) -> dict[str, Any]:
    found = _mapping(value)
    check_shape(found)
    return found


def _disk(value: object) -> dict[str, Any]:
    row = _mapping(value)
    check_disk(row)
    return row


def _optional(reader: Any) -> Any:
    return lambda value: None if value is None else reader(value)


def _each(reader: Any, limit: int) -> Any:
    def read(value: object) -> tuple[Any, ...]:
        if not isinstance(value, (list, tuple)) or len(value) > limit:
            raise TypeError
        return tuple(reader(item) for item in value)

    return read


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, datetime):
        return value.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


_TEXTS = _each(_text, 1000)
_ATTEMPT_FIELDS: Mapping[str, Any] = {
    "number": _integer,
    "run_id": _text,
    "engine": _text,
    "machine": _text,
    "target": _text,
    "started": _moment,
    "outcome": _text,
    "ended": _optional(_moment),
    "version": _optional(_text),
    "snapshot_time": _optional(_moment),
    "clock_offset_s": _number,
    "consistency": _text,
    "listed": _boolean,
    "purpose": _text,
    "warnings": _TEXTS,
    "evidence": _mapping,
    "error": _optional(_mapping),
    "engine_options": _mapping,
}
_WAIVER_FIELDS: Mapping[str, Any] = {"kind": _text, "value": _text, "date": _moment}
_HOOKS_FIELDS: Mapping[str, Any] = {
    "used": _boolean,
    "quiesced": _boolean,
    "quiesced_at": _optional(_moment),
    "unquiesced_at": _optional(_moment),
}
_ATTEMPTS = _each(lambda value: _read(Attempt, value, _ATTEMPT_FIELDS), MAX_ATTEMPTS)
_SET_FIELDS: Mapping[str, Any] = {
    "set_id": _text,
    "vm": _described,
    "opened": _moment,
    "updated": _moment,
    "max_skew_s": _number,
    "state": _text,
    "revision": _integer,
    "closed": _optional(_moment),
    "vss_backup_type": _mapping,
    "automatic_start_action": _optional(_text),
    "allow_offline": _boolean,
    "guest_phase_needed": _boolean,
    "guest": _ATTEMPTS,
    "host": _ATTEMPTS,
    "disks": _each(_disk, 1000),
    "notes": _TEXTS,
    "waivers": _each(lambda value: _read(Waiver, value, _WAIVER_FIELDS), 1000),
    "hooks": lambda value: _read(Hooks, value, _HOOKS_FIELDS),
    "skew_s": _optional(_number),
    "reasons": _TEXTS,
    "restores": _each(_mapping, 1000),
    "copies": _TEXTS,
}
