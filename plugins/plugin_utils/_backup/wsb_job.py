# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""One run of wbadmin as a detached job, whether it backs up (`wsb.py`) or restores (`wsb_recovery.py`).

Responsible for: one backup or recovery of a machine at a time, queueing behind others, looking at a run, its progress, its
log, the event log's records since its baseline. Not responsible for: command lines, and what proves a success.
Facts: backup-engines 1.8, 1.10.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from .._hyperv.machine import RunningProcess, processes_named
from .backup_events import CHANNEL, EventsUnreadable, newest_record_id, read_events
from .detached_job import DetachedJobs, JobLook, MachineClient, Step
from .engine import Job, JobStatus, RunState, Waiting, wait_for
from .errors import BackupError
from .wbadmin_text import last_lines, percent, says_busy, says_syntax_error

NAME = "wsb"
MAX_EVENTS_READ = 40  # a run writes about five; each can have many kilobytes
MAX_LOG_BYTES = 512 * 1024  # of the log that is read while waiting; it repeats its progress line

BASELINE, BASELINE_RC = "baseline.xml", "baseline-rc.txt"
LOG, RC = "log.txt", "rc.txt"
EVENTS, EVENTS_RC = "events.xml", "events-rc.txt"

START_VERB = re.compile(
    r"\bstart\s+(?:backup|recovery|systemstatebackup|systemstaterecovery|sysrecovery)\b", re.IGNORECASE
)
# HRESULTs with a meaning that a sentence can use (backup-engines 1.10)
HRESULTS: Mapping[int, str] = {
    0x807800C5: "the target vanished while it was used",
    0x8078015B: "the share cannot be used; give the computer account of the machine rights on it",
    0x8078011E: "a shadow copy of the EFI system partition could not be made",
    0x80780049: "nothing of what was asked for was backed up",
}


def baseline_step() -> Step:
    """The event log's newest record before the run."""
    return Step(command=f"{_QUERY} /c:1", output=BASELINE, exit_code=BASELINE_RC)


def events_step() -> Step:
    """The newest records after the run."""
    return Step(command=f"{_QUERY} /c:{MAX_EVENTS_READ}", output=EVENTS, exit_code=EVENTS_RC)


_QUERY = f"wevtutil qe {CHANNEL} /rd:true /f:xml"


def baseline_of(look: JobLook) -> int:
    """The newest record id before the run, 0 for an empty log. Raises `EventsUnreadable`."""
    return newest_record_id(events_of(look, BASELINE, BASELINE_RC))


def events_of(look: JobLook, name: str, exit_code: str) -> tuple[Any, ...]:
    code = look.exit_code(exit_code)
    if code != 0:
        raise EventsUnreadable(f"wevtutil ended with code {code}")
    return read_events(look.files.get(name, b""))


def with_output(message: str, said: str) -> str:
    return f"{message}; wbadmin printed: {said}" if said else message


def own_words(look: JobLook) -> tuple[str, str] | None:
    """Why a finished run cannot have worked, as wbadmin itself says: kind and message; None when only events can tell."""
    exit_code, log = look.exit_code(RC), look.files.get(LOG, b"")
    said = last_lines(log)
    if exit_code is None:
        return "interrupted", with_output("wbadmin left no exit code", said)
    if exit_code != 0 and says_busy(log):
        return "busy", with_output("another backup or recovery runs on the machine", said)
    if exit_code == 9009:
        return (
            "wbadmin_missing",
            "wbadmin was not found; install the feature with 'Install-WindowsFeature Windows-Server-Backup'",
        )
    if exit_code != 0 and says_syntax_error(log):
        return "wbadmin_refused", with_output("wbadmin did not accept the command line", said)
    return None


def foreign_jobs(processes: Iterable[RunningProcess]) -> list[str]:
    """wbadmin processes that run a backup or recovery, as text for a message; the machine runs one at a time."""
    return [
        f"process {process.id}: {_verb(process.command_line)}"
        for process in processes
        if process.name.casefold() == "wbadmin.exe" and START_VERB.search(process.command_line)
    ]


def _verb(command_line: str) -> str:
    match = START_VERB.search(command_line)
    return "wbadmin " + " ".join(match[0].split()) if match else "wbadmin"  # no more of it: others may pass a password


def interrupted(run_id: str) -> str:
    return (
        f"the run {run_id} was interrupted before it wrote its result (the machine was restarted, or its scheduled task was "
        "ended or removed); what it left on the target is not used, start a new attempt"
    )


class WbadminRuns:
    """What backups and recoveries of one machine share.

    Args:
        client: of the machine on which wbadmin runs.
        helper_waiting: how to wait for small jobs that list; they take seconds.
    """

    name = NAME

    def __init__(self, client: MachineClient, *, helper_waiting: Waiting) -> None:
        self._client = client
        self._jobs = DetachedJobs(client)
        self._waiting = helper_waiting
        self._seen: tuple[str, int] | None = None  # the log that `_percent` was read from
        self._percent: int | None = None

    def is_busy(self) -> list[str]:
        """Backups and recoveries that run on the machine now, ours or not; empty when there is none."""
        return foreign_jobs(processes_named(self._client, ["wbadmin.exe"]))

    def known(self, run_id: str) -> RunState:
        """What the machine knows of a run, by one look."""
        look = self._jobs.look(run_id)
        if look.is_done:
            return "ended"
        if not look.is_known:
            return "unknown"
        if look.is_pending:
            return "pending"
        return "interrupted" if look.is_interrupted else "running"

    def _begin(
        self,
        run_id: str,
        steps: Sequence[Step],
        place: str,
        description: str,
        *,
        again: bool,
        tidying: Callable[[], Sequence[Step]] = tuple,
    ) -> Job:
        """Start a run, or attach to it when the machine knows its id; refused (`busy`) while another one runs.

        Args:
            tidying: asked only when a run will be started, for steps after its own.
        """
        if again or not self._jobs.look(run_id).is_known:
            busy = self.is_busy()
            if busy:
                raise BackupError(
                    "busy",
                    f"The machine runs another backup or recovery ({'; '.join(busy)}) and can run only one; "
                    "wait for its end. It is not ours and is left alone.",
                    {"processes": busy},
                )
            steps = (*steps, *tidying())
        attached = self._jobs.start(run_id, steps, description, again=again)
        return Job(run_id=run_id, engine=NAME, target=place, attached=attached)

    def _status(self, job: Job, judged: Callable[[JobLook], JobStatus], files: Sequence[str]) -> JobStatus:
        """One look: task, files, and the log while it runs."""
        look = self._jobs.look(job.run_id)
        if not look.is_known:
            return JobStatus(
                state="failed", kind="unknown_run", message=f"the machine knows no run {job.run_id}; start it again"
            )
        if look.is_done:
            return dataclasses.replace(judged(self._whole(job, files)), percent=100)
        if look.is_interrupted:
            return JobStatus(state="failed", kind="interrupted", message=interrupted(job.run_id))
        if look.is_pending:
            return JobStatus(state="pending", message="the scheduled task has not begun")
        return self._progress(job)

    def _whole(self, job: Job, files: Sequence[str]) -> JobLook:
        """A run with all its files; without its log when that has grown too large, it proves nothing by itself."""
        look = self._jobs.look(job.run_id, files)
        if not look.is_done:
            return look
        return dataclasses.replace(look, files={**look.files, LOG: self._log(job, self._jobs.size(job.run_id, LOG))})

    def _log(self, job: Job, size: int | None) -> bytes:
        if size is None or size > MAX_LOG_BYTES:
            return b""
        return self._jobs.read(job.run_id, [LOG], limit=2 * MAX_LOG_BYTES).get(LOG, b"")

    def _progress(self, job: Job) -> JobStatus:
        """The size tells over CIM whether the log has grown; only then it is read in a shell."""
        size = self._jobs.size(job.run_id, LOG)
        if size is None:
            return JobStatus(state="running", message="preparing")
        if size > MAX_LOG_BYTES:
            return JobStatus(state="running", message=f"the log has {size} bytes, too many to be read while waiting")
        if (job.run_id, size) != self._seen:
            self._seen, self._percent = (job.run_id, size), percent(self._log(job, size))
        return JobStatus(state="running", percent=self._percent)

    def _run_to_end(
        self,
        run_id: str,
        waiting: Waiting,
        *,
        what: str,
        begin: Callable[[bool], Job],
        status: Callable[[Job], JobStatus],
        not_begun: str,
    ) -> Job:
        """Start or attach, queue behind other backups and recoveries, wait for the end.

        Args:
            begin: starts or attaches; True when the run is to be started anew under its id.
            not_begun: kind of a failure that may only mean that another run was faster.

        `waiting.timeout_s` bounds queueing and running together. Raises: `BackupError`: `busy_timeout` when the machine was
        never free, `wait_timeout` when the run goes on (a rerun attaches to it).
        """
        began = waiting.now()
        again = False
        while True:
            waiting.should_stop()
            left = dataclasses.replace(waiting, timeout_s=max(0.0, waiting.timeout_s - (waiting.now() - began)))
            try:
                job = begin(again)
            except BackupError as err:
                if err.kind != "busy":
                    raise
                self._queue(left, str(err), what)
                continue
            seen = wait_for(lambda job=job: status(job), left, what=what)  # type: ignore[misc]
            if not seen.is_finished:
                raise BackupError(
                    "wait_timeout",
                    f"The {what} still runs after {waiting.timeout_s:.0f} s; it goes on, and running this again "
                    "attaches to it.",
                )
            if seen.kind == "busy" or (seen.kind == not_begun and self.is_busy()):
                self._queue(left, seen.message, what)
                again = True
                continue
            return job

    def _queue(self, waiting: Waiting, why: str, what: str) -> None:
        if waiting.timeout_s <= 0:
            raise BackupError("busy_timeout", f"The {what} could not begin in time. {why}")
        waiting.progress(f"{what} is queued: {why}")
        waiting.sleep(waiting.poll_s)
