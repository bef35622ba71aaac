# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
r"""Restoring with Windows Server Backup: one VM on its host, or one volume in a guest, as a detached job.

Responsible for the command line of a recovery, for listing what a target holds in the context that restores (SYSTEM), and for
telling success: exit code 0 AND the event log's success of a recovery that began after our baseline, and of no other one.
Never the exit code alone. Not responsible for whether anything may be overwritten, nor for looking at what came back (the
callers), nor for what backups and recoveries share (`wsb_job.py`).

One job restores one thing: wbadmin takes one volume per call, and what is overwritten is identified again right before each.
A recovery that ended with warnings is a failure: part of it did not come back.

Facts: backup-engines 1.3 (syntax), 1.7, 1.8, 1.10 (events), 1.12 (what the writer does). Assumptions, all marked there as
inferred or unknown: `-recoveryTarget` takes a volume GUID path; a recovery of a VM writes the events 1025-1029 or those of an
application (224-228); `-machine` is accepted for the machine's own backups too.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from .._hyperv.volumes import has_folder, mounted_volumes
from . import wsb_deletion
from .backup_events import CHANNEL, BackupEvent, EventsUnreadable
from .detached_job import JobLook, Step, argument
from .engine import Deletion, Job, JobStatus, Refusal, RestoreRequest, RestoreResult, TargetListing, Waiting
from .errors import BackupError
from .target import VERSIONS_FOLDER, parse_target
from .wbadmin_text import (
    last_lines,
    lists_guid,
    lists_letter,
    log_paths,
    version_ids,
    version_moment,
)
from .wsb_job import (
    BASELINE,
    BASELINE_RC,
    EVENTS,
    EVENTS_RC,
    HRESULTS,
    LOG,
    MAX_EVENTS_READ,
    NAME,
    RC,
    WbadminRuns,
    baseline_of,
    baseline_step,
    events_of,
    events_step,
    interrupted,
    own_words,
    with_output,
)

_VERSIONS, _VERSIONS_RC = "versions.txt", "versions-rc.txt"
_ITEMS, _ITEMS_RC = "items.txt", "items-rc.txt"
_ALL_FILES = (BASELINE_RC, RC, EVENTS_RC, BASELINE, EVENTS)

_VOLUME_PATH = re.compile(r"\\\\\?\\Volume\{[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\}\\")
_LETTER = re.compile(r"[A-Za-z]:")
_GUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_COMPUTER = re.compile(r"[^\s\"%!^<>|&*?/\\:,;]{1,63}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Events:
    """Event ids of one kind of recovery (backup-engines 1.10)."""

    started: frozenset[int]
    succeeded: frozenset[int]
    warned: frozenset[int]
    failed: frozenset[int]
    stopped: frozenset[int]


_EVENTS_OF: Mapping[str, _Events] = {
    "volume": _Events(
        started=frozenset({192}),
        succeeded=frozenset({194}),
        warned=frozenset({195}),
        failed=frozenset({196, 197}),
        stopped=frozenset({193}),
    ),
    "vm": _Events(
        started=frozenset(),
        succeeded=frozenset({1026, 225}),
        warned=frozenset({1027, 226}),
        failed=frozenset({1028, 1029, 227, 228}),
        stopped=frozenset({1025, 224}),
    ),
}


# --- command lines --------------------------------------------------------------------------------------------------


def recovery_command(request: RestoreRequest) -> str:
    r"""`wbadmin start recovery ...` for a request. Raises `BackupError` `bad_request` for a request that is none.

    A VM goes back to where it was: an alternate location is no copy beside it (backup-engines 1.12).
    """
    if version_moment(request.version) is None:
        raise BackupError("bad_request", f"{request.version!r} is not a version of Windows Server Backup.")
    parts = [f"wbadmin start recovery -version:{request.version}"]
    if request.kind == "vm":
        guid = request.item.strip().strip("{}")
        if not _GUID.fullmatch(guid) or request.onto is not None:
            raise BackupError("bad_request", "A host restore needs the GUID of exactly one VM, and nothing else.")
        parts.append(f"-itemType:HyperV -items:{guid.upper()}")
    else:
        if not (_VOLUME_PATH.fullmatch(request.item) or _LETTER.fullmatch(request.item)):
            raise BackupError("bad_request", f"{request.item!r} is neither a drive letter nor a volume GUID path.")
        if request.onto is None or not _VOLUME_PATH.fullmatch(request.onto):
            raise BackupError("bad_request", f"{request.onto!r} is not the GUID path of a volume to restore onto.")
        parts.append(f"-itemType:Volume -items:{argument(request.item)} -recoveryTarget:{argument(request.onto)}")
    parts += [*_from(request.target, request.machine), "-quiet"]
    return " ".join(parts)


def recovery_steps(request: RestoreRequest) -> tuple[Step, ...]:
    return (baseline_step(), Step(command=recovery_command(request), output=LOG, exit_code=RC), events_step())


def listing_steps(target: str, machine: str, version: str | None) -> tuple[Step, ...]:
    place = " ".join(_from(target, machine))
    steps = [Step(command=f"wbadmin get versions {place}", output=_VERSIONS, exit_code=_VERSIONS_RC)]
    if version is not None:
        if version_moment(version) is None:
            raise BackupError("bad_request", f"{version!r} is not a version of Windows Server Backup.")
        steps.append(Step(command=f"wbadmin get items -version:{version} {place}", output=_ITEMS, exit_code=_ITEMS_RC))
    return tuple(steps)


def _from(target: str, machine: str) -> tuple[str, str]:
    if not _COMPUTER.fullmatch(machine):
        raise BackupError("bad_request", f"{machine!r} is not the name of a computer.")
    return (f"-backupTarget:{argument(parse_target(target).text)}", f"-machine:{machine}")


# --- judging a run --------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class Proof:
    """What a finished run proves; `end` is the event that says so."""

    state: str  # succeeded | failed
    kind: str = ""
    message: str = ""
    start: BackupEvent | None = None
    end: BackupEvent | None = None


def judge_recovery(look: JobLook, request: RestoreRequest) -> Proof:
    """What the files of a finished run prove. Never raises: what cannot be read is a failure with its kind."""
    failure = own_words(look)
    if failure is not None:
        return _failure(*failure)
    exit_code, said = look.exit_code(RC) or 0, last_lines(look.files.get(LOG, b""))
    try:
        baseline = baseline_of(look)
        events = events_of(look, EVENTS, EVENTS_RC)
    except EventsUnreadable as err:
        return _failure("events_unreadable", with_output(f"the event log {CHANNEL} could not be read ({err})", said))
    proof = bind_recovery(events, baseline=baseline, limit=MAX_EVENTS_READ, exit_code=exit_code, kind=request.kind)
    if proof.state == "succeeded":
        return proof
    code = None if proof.end is None else proof.end.code("HRESULT") or proof.end.code("DetailedHRESULT")
    meaning = HRESULTS.get(code or 0)
    message = f"{proof.message}: {meaning}" if meaning else proof.message
    return dataclasses.replace(proof, message=with_output(message, said))


def bind_recovery(events: Sequence[BackupEvent], *, baseline: int, limit: int, exit_code: int, kind: str) -> Proof:
    """Whether the log shows exactly one recovery of this kind after the baseline, and its success.

    Args:
        events: the newest events after the run, at most `limit` of them.
        baseline: the newest record id before the run, 0 for an empty log.
        kind: `vm` or `volume`.

    Kinds of a failure: `recovery_failed`, `recovery_incomplete` (warnings), `no_recovery_event`, `ambiguous_recovery`,
    `recovery_not_started` (a failure before any recovery began).
    """
    ids = _EVENTS_OF[kind]
    window = [event for event in events if event.record_id > baseline]
    if len(events) >= limit and len(window) == len(events):
        return Proof(
            state="failed",
            kind="ambiguous_recovery",
            message=f"more than {limit} events were written, so that not all of them were seen",
        )
    starts = [event for event in window if event.event_id in ids.started]
    ended = [event for event in window if event.event_id in ids.succeeded | ids.warned | ids.failed]
    start = starts[0] if starts else None
    failed = next((event for event in ended if event.event_id in ids.failed), None)
    if failed is not None:
        return Proof(
            state="failed",
            kind="recovery_failed",
            message=f"the recovery failed{_codes(failed)}",
            start=start,
            end=failed,
        )
    warned = next((event for event in ended if event.event_id in ids.warned), None)
    if warned is not None:
        return Proof(
            state="failed",
            kind="recovery_incomplete",
            message=f"the recovery was completed with errors{_codes(warned)}, so that part of it did not come back",
            start=start,
            end=warned,
        )
    runs = {event.fields.get("RestoreEventId") or str(event.record_id) for event in ended}
    if len(starts) > 1 or len(runs) > 1:
        return Proof(
            state="failed",
            kind="ambiguous_recovery",
            message=f"{max(len(starts), len(runs))} recoveries ran on this machine during the run, so that it is not certain "
            "which one is ours",
            start=start,
        )
    if not ended:
        if exit_code != 0:
            return Proof(
                state="failed",
                kind="recovery_not_started" if not starts else "recovery_failed",
                message=f"wbadmin ended with code {exit_code} and the event log shows no recovery that succeeded",
                start=start,
            )
        return Proof(
            state="failed",
            kind="no_recovery_event",
            message="wbadmin ended with code 0, but the event log shows no recovery that succeeded in this run",
            start=start,
        )
    end = ended[0]
    stops = [event for event in window if event.event_id in ids.stopped]
    unclean = next((event for event in (end, *stops) if _codes(event)), None)
    if unclean is not None:
        return Proof(
            state="failed",
            kind="recovery_failed",
            message=f"the event log does not call the recovery a success{_codes(unclean)}",
            start=start,
            end=unclean,
        )
    if exit_code != 0:
        return Proof(
            state="failed",
            kind="recovery_failed",
            message=f"wbadmin ended with code {exit_code} although the event log calls the recovery a success",
            start=start,
            end=end,
        )
    return Proof(state="succeeded", start=start, end=end)


def items_named(data: bytes, items: Mapping[str, str]) -> dict[str, str]:
    r"""As what each asked item has to be named in a version: a GUID (of a VM), a volume GUID path, or a letter (`S:`).

    Args:
        items: VM GUID or volume GUID path -> drive letter of the volume when it was backed up, or an empty text. wbadmin lists
            a volume that had a letter under it (backup-engines 1.3).
    """
    found = {}
    for item, letter in items.items():
        guid = _GUID.search(item)
        if guid is not None and lists_guid(data, guid[0]):
            found[item] = item
        elif letter and lists_letter(data, letter):
            found[item] = f"{letter.rstrip(':').upper()}:"
    return found


def _failure(kind: str, message: str) -> Proof:
    return Proof(state="failed", kind=kind, message=message)


def _codes(event: BackupEvent) -> str:
    shown = [
        f"{name} 0x{code:08X}" for name in ("HRESULT", "DetailedHRESULT") if (code := event.code(name)) not in (None, 0)
    ]
    return f" ({', '.join(shown)})" if shown else ""


# --- the engine -----------------------------------------------------------------------------------------------------


class WindowsServerRecovery(WbadminRuns):
    """Recoveries of Windows Server Backup on one machine; see `engine.RestoreEngine` and `wsb_job.WbadminRuns`."""

    def start(self, run_id: str, request: RestoreRequest, *, again: bool = False) -> Job:
        """Start a run, or attach to it when the machine knows its id. Raises: `BackupError` `busy` and bad requests."""
        steps = recovery_steps(request)
        place = parse_target(request.target).text
        return self._begin(run_id, steps, place, f"Restore {run_id} of {request.label}", again=again)

    def refusals(self, request: RestoreRequest) -> Sequence[Refusal]:
        """Nothing beyond what a preflight finds anyway: a recovery writes over what is there."""
        return ()

    def status(self, job: Job, request: RestoreRequest) -> JobStatus:
        """One look: task, files, and the log while it runs."""

        def judged(look: JobLook) -> JobStatus:
            proof = judge_recovery(look, request)
            state: Any = proof.state
            return JobStatus(state=state, kind=proof.kind, message=proof.message)

        return self._status(job, judged, _ALL_FILES)

    def result(self, job: Job, request: RestoreRequest) -> RestoreResult:
        """The proven outcome of a finished run. Raises: `BackupError` `not_finished` while it goes on."""
        look = self._whole(job, _ALL_FILES)
        if not look.is_done and not look.is_interrupted and look.is_known:
            raise BackupError("not_finished", f"The run {job.run_id} has not finished yet; wait for it.")
        proof = (
            judge_recovery(look, request)
            if look.is_done
            else Proof(state="failed", kind="interrupted", message=interrupted(job.run_id))
        )
        state: Any = proof.state
        return RestoreResult(
            state=state,
            run_id=job.run_id,
            engine=NAME,
            version=request.version,
            kind=proof.kind,
            message=proof.message,
            evidence=_evidence(look, proof),
        )

    def run(self, run_id: str, request: RestoreRequest, waiting: Waiting) -> RestoreResult:
        """Start or attach, queue behind other backups and recoveries, wait for the end, and judge it.

        Raises: `BackupError`: `busy_timeout`, `wait_timeout` (see `WbadminRuns`).
        """
        job = self._run_to_end(
            run_id,
            waiting,
            what=f"restore {run_id}",
            begin=lambda again: self.start(run_id, request, again=again),
            status=lambda job: self.status(job, request),
            not_begun="recovery_not_started",
        )
        return self.result(job, request)

    def listing(
        self,
        run_id: str,
        target: str,
        machine: str,
        *,
        version: str | None = None,
        items: Mapping[str, str] | None = None,
    ) -> TargetListing:
        """What a target holds now, as SYSTEM sees it. `run_id` must be new each time; nothing of the job is left behind.

        Args:
            machine: computer name of the machine that made the backups.
            version, items: also look whether these items stand in that version (`items_named`).
        """
        look = self._jobs.run_small(
            run_id,
            listing_steps(target, machine, version),
            f"listing of {target}",
            exit_code=_VERSIONS_RC,
            files=[_VERSIONS, _ITEMS, _ITEMS_RC],
            waiting=self._waiting,
        )
        self._jobs.discard(run_id)
        data = look.files.get(_VERSIONS, b"")
        versions = version_ids(data)
        code = look.exit_code(_VERSIONS_RC)
        if not look.is_done or (code != 0 and not versions):
            if self._holds_nothing(target):
                return TargetListing(versions=(), reason=f"there is no folder {VERSIONS_FOLDER} on {target}")
            said = last_lines(data)
            return TargetListing(versions=None, reason=with_output(f"{target} could not be listed (code {code})", said))
        listed = items_named(look.files.get(_ITEMS, b""), items or {}) if look.exit_code(_ITEMS_RC) == 0 else {}
        return TargetListing(versions=versions, items=listed)

    def why_kept(self, target: str) -> str:
        """See `wsb_deletion.why_kept`."""
        return wsb_deletion.why_kept(target)

    def delete(self, run_id: str, version: str, target: str, machine: str) -> Deletion:
        """See `wsb_deletion.delete_folder`."""
        return wsb_deletion.delete_folder(self._jobs, run_id, version, target, machine, self._waiting)

    def _holds_nothing(self, target: str) -> bool:
        """A volume that is there without a folder of backups holds none: that is an answer, however wbadmin words it."""
        letter = parse_target(target).letter
        return (
            letter is not None
            and any(volume.letter == letter for volume in mounted_volumes(self._client))
            and not has_folder(self._client, letter, VERSIONS_FOLDER)
        )


def _evidence(look: JobLook, proof: Proof) -> dict[str, Any]:
    try:
        baseline: int | None = baseline_of(look)
    except EventsUnreadable:
        baseline = None
    return {
        "exit_code": look.exit_code(RC),
        "baseline_record_id": baseline,
        "start_record_id": None if proof.start is None else proof.start.record_id,
        "end_record_id": None if proof.end is None else proof.end.record_id,
        "end_event_id": None if proof.end is None else proof.end.event_id,
        "backup_set_time": None if proof.end is None else proof.end.fields.get("BackupSetTime"),
        "restore_event_id": None if proof.end is None else proof.end.fields.get("RestoreEventId"),
        "logs": list(log_paths(look.files.get(LOG, b""))),
    }
