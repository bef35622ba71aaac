# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Responsible for the life of jobs: looks or simulated time, completion, failure at n percent, removal.

Used by the virtualization provider (Msvm_ConcreteJob, Msvm_StorageJob) and the storage provider (MSFT_StorageJob).
Not responsible for their WMI faces (hyperv_jobs.py, storage.py). Facts: hyperv-wmi 4.3, windows-storage 3.6.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from .cim import Ref

if TYPE_CHECKING:
    from .world import Machine

NEW, STARTING, RUNNING, SUSPENDED, SHUTTING_DOWN, COMPLETED, TERMINATED, KILLED, EXCEPTION = range(2, 11)
COMPLETED_WITH_WARNINGS = 32768
UNFINISHED = (NEW, STARTING, RUNNING, SUSPENDED, SHUTTING_DOWN)
REMOVAL = timedelta(minutes=5)


class JobFailed(Exception):
    """A job ends in Exception: ``code`` is its ErrorCode, the text what a user reads."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass
class Job:
    """One job. ``subject`` is what it works on (a look at the subject is a look at the job).

    ``on_failure`` cleans up when it fails or is cancelled, ``on_loss`` says what is left when the machine goes down.
    """

    id: str
    class_name: str
    type: int
    name: str
    owner: str
    started: datetime
    duration: timedelta
    looks: int
    work: Callable[[], Any] | None
    subject: object = None
    affected: list[tuple[Ref, int]] = field(default_factory=list)
    state: int = RUNNING
    percent: int = 0
    error_code: int = 0
    error_text: str = ""
    changed: datetime | None = None
    finished: datetime | None = None
    failure: tuple[int, int, str] | None = None
    warning: str = ""
    looked: int = 0
    output: dict[str, Any] = field(default_factory=dict)
    cancellable: bool = True
    on_failure: Callable[[], None] | None = None
    on_loss: Callable[[], None] | None = None

    @property
    def done(self) -> bool:
        return self.state not in UNFINISHED


@dataclass
class PlannedFailure:
    """The next ``count`` jobs of ``type`` (None: any) fail at ``percent`` with ``code`` and ``text``; 0 = a warning."""

    type: int | None
    percent: int
    code: int
    text: str
    count: int = 1


class JobTable:
    """The jobs of one machine."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._jobs: dict[str, Job] = {}
        self.removal = REMOVAL
        self.failures: list[PlannedFailure] = []

    def lose(self) -> None:
        """The machine went down: what ran is gone and leaves behind what ``on_loss`` says."""
        for job in self._jobs.values():
            if job.done:
                continue
            if job.on_loss is not None:
                job.on_loss()
            if getattr(job.subject, "busy", None) is not None:
                job.subject.busy = None  # type: ignore[attr-defined]  # a VM that nothing works on any more is not busy
        self._jobs.clear()

    def plan_failure(self, failure: PlannedFailure) -> None:
        self.failures.append(failure)

    def start(
        self,
        class_name: str,
        job_type: int,
        name: str,
        work: Callable[[], Any] | None,
        *,
        owner: str,
        subject: object = None,
        affected: list[tuple[Ref, int]] | None = None,
        seconds: float = 1.0,
        on_failure: Callable[[], None] | None = None,
    ) -> Job:
        """Begin a job whose ``work`` is done when it completes; ``work`` may return Refs that it created."""
        world = self._machine.world
        job = Job(
            id=world.new_guid("job").upper(),
            class_name=class_name,
            type=job_type,
            name=name,
            owner=owner,
            started=self._machine.now(),
            duration=timedelta(seconds=seconds),
            looks=max(1, world.looks_per_job),
            work=work,
            subject=subject,
            affected=list(affected or []),
            on_failure=on_failure,
        )
        job.changed = job.started
        for plan in self.failures:
            if plan.count > 0 and plan.type in (None, job_type):
                plan.count -= 1
                job.failure = (plan.percent, plan.code, plan.text)
                break
        self._jobs[job.id] = job
        return job

    def all(self) -> Iterator[Job]:
        self._purge()
        yield from list(self._jobs.values())

    def find(self, identifier: str) -> Job | None:
        self._purge()
        return self._jobs.get(identifier.upper())

    def look(self, job: Job) -> None:
        """Someone asked for the job: it moves on; simulated time passes as it does."""
        if job.done or job.state == SUSPENDED:
            return
        job.looked += 1
        world = self._machine.world
        overdue = self._machine.now() >= job.started + job.duration and job.looked > 1
        if not overdue:
            world.clock.advance(job.duration.total_seconds() / job.looks)
        job.percent = min(99, job.looked * 100 // (job.looks + 1))
        if job.failure is not None and job.failure[1] and (job.percent >= job.failure[0] or job.looked >= job.looks):
            job.percent = min(job.percent, job.failure[0])
            self._fail(job, job.failure[1], job.failure[2])
        elif job.looked >= job.looks or overdue:
            self.finish(job)

    def look_at_subject(self, subject: object) -> None:
        for job in self.all():
            if job.subject is subject:
                self.look(job)

    def finish(self, job: Job) -> None:
        """Do the work now."""
        try:
            created = job.work() if job.work is not None else None
        except JobFailed as problem:
            self._fail(job, problem.code, str(problem))
            return
        for ref in created or []:
            job.affected.append((ref, 5))
        job.percent = 100
        if job.failure is not None and job.failure[1] == 0:
            job.warning = job.failure[2]
        self._end(job, COMPLETED_WITH_WARNINGS if job.warning else COMPLETED)

    def _fail(self, job: Job, code: int, text: str) -> None:
        job.error_code, job.error_text = code, text
        if job.on_failure is not None:
            job.on_failure()
        self._end(job, EXCEPTION)

    def _end(self, job: Job, state: int) -> None:
        job.state = state
        job.finished = job.changed = self._machine.now()

    def cancel(self, job: Job, *, kill: bool) -> None:
        if job.on_failure is not None:
            job.on_failure()
        self._end(job, KILLED if kill else TERMINATED)

    def _purge(self) -> None:
        now = self._machine.now()
        for job in list(self._jobs.values()):
            if job.finished is not None and now > job.finished + self.removal:
                del self._jobs[job.id]
