# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this file is private to the hyperv.passthrough collection and may change without notice.
"""What host_restore, guest_restore and backup_set_info share: their options, listing targets, and running one restore job.

Responsible for: finding the attempt of a restore that this machine knows, queueing, starting or attaching, waiting, the shape
of a job in a result. Not responsible for: what is restored and whether it may be (the tasks), how an engine works (`_backup`).
"""

from __future__ import annotations

import dataclasses
import typing as t

from ._backup.engine import Job, RestoreResult, Workplace
from ._backup.engines import engine as engine_named
from ._backup.restore_record import MAX_ATTEMPTS, restore_run_id
from ._guard import waiting_of, with_timeout
from ._task import TaskError

if t.TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ._backup.backup_set import Attempt
    from ._backup.engine import (
        Capabilities,
        Phase,
        Refusal,
        RestoreEngine,
        RestoreRequest,
        TargetListing,
        Waiting,
    )
    from ._guard import Guard, NoGuard
    from ._task import Run

#: Options of both tasks; documented in the fragment restore_job.
OPTIONS: Mapping[str, Mapping[str, t.Any]] = {
    "set": {"type": "dict", "required": True},
    "restore_id": {"type": "str", "default": "r1"},
    "engine_options": {"type": "dict"},
    "engine_answers": {"type": "dict"},
    "target": {"type": "str"},
    "wait": {"type": "bool", "default": True},
    "wait_timeout": {"type": "int", "default": 86400},
    "poll_interval": {"type": "int", "default": 10},
    "queue_timeout": {"type": "int", "default": 28800},
    "lease": {"type": "str"},
}
_HELPER_TIMEOUT_S = 900.0  # listing a target takes seconds; a share that has gone away takes minutes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tried:
    """What a machine knows of a restore: the attempt to use next, and what became of it.

    Attributes:
        state: `new` (nothing was started under this number), `running`, `succeeded`.
        earlier: numbers that were started before and failed or were interrupted.
    """

    attempt: int
    state: str
    earlier: tuple[int, ...] = ()
    result: RestoreResult | None = None


class RestoreJobs:
    """Restore jobs on the task's target machine.

    Args:
        attempt: of the backup that is restored; it names the engine and its options, unless the task's own say otherwise.
    """

    def __init__(self, run: Run, *, phase: Phase, set_id: str, guard: Guard | NoGuard, attempt: Attempt) -> None:
        arguments = run.arguments
        self._run = run
        self._phase = phase
        self._set_id = set_id
        self._guard = guard
        self.waiting: Waiting = waiting_of(
            run,
            timeout_s=float(arguments["wait_timeout"]),
            poll_s=float(arguments["poll_interval"]),
            should_stop=guard.check,
        )
        self._entry = engine_named(arguments["engine"] or attempt.engine)
        given = arguments["engine_options"]
        self._options = self._entry.answered(
            self._entry.options(attempt.engine_options if given is None else given, phase), arguments["engine_answers"]
        )
        if arguments["target"]:
            self._entry.target_kind(arguments["target"])
        self.engine: RestoreEngine = self._entry.restore(
            Workplace(
                client=run.client,
                waiting=with_timeout(self.waiting, _HELPER_TIMEOUT_S),
                options=self._options,
                new_id=run.new_id,
            )
        )

    def capabilities(self, machine: Mapping[str, t.Any]) -> Capabilities:
        """What the engine can do on the task's target, by its view and what else it has to ask."""
        return self._entry.capabilities(self._entry.probe(self._run.client, machine), self._options)

    def refusals(self, request: RestoreRequest) -> Sequence[Refusal]:
        return self.engine.refusals(request)

    def run_id(self, attempt: int, volume: int | None = None) -> str:
        return restore_run_id(self._set_id, self._phase, self._run.arguments["restore_id"], attempt, volume)

    def tried(self, request: RestoreRequest, volume: int | None = None, *, skip_succeeded: bool = False) -> Tried:
        """Look at the attempts of this restore in turn; the first that is not a failure is the one to use."""
        earlier: list[int] = []
        for attempt in range(1, MAX_ATTEMPTS + 1):
            run_id = self.run_id(attempt, volume)
            known = self.engine.known(run_id)
            if known in ("unknown", "pending"):
                return Tried(attempt=attempt, state="new", earlier=tuple(earlier))
            if known == "running":
                return Tried(attempt=attempt, state="running", earlier=tuple(earlier))
            result = self.engine.result(self._job(run_id, request), request)
            if result.state == "succeeded" and not skip_succeeded:
                return Tried(attempt=attempt, state="succeeded", earlier=tuple(earlier), result=result)
            if result.kind == "busy":
                return Tried(attempt=attempt, state="new", earlier=tuple(earlier))
            earlier.append(attempt)
        self.run_id(MAX_ATTEMPTS + 1)  # says that there were too many
        raise AssertionError

    def _job(self, run_id: str, request: RestoreRequest) -> Job:
        return Job(run_id=run_id, engine=self._entry.name, target=request.target, attached=True)

    def queue(self) -> None:
        """Wait until no other backup or recovery runs; it is never stopped."""
        began = self._run.now()
        while busy := self.engine.is_busy():
            if self._run.now() - began >= float(self._run.arguments["queue_timeout"]):
                raise TaskError(
                    "busy_timeout",
                    f"{self._run.target} still runs another backup or recovery ({'; '.join(busy)}), which is left alone; run "
                    "again when it has ended, or raise queue_timeout",
                )
            self._run.progress(f"waiting for another backup or recovery: {'; '.join(busy)}")
            self._run.sleep(self.waiting.poll_s)
            self._guard.check()

    def start(self, tried: Tried, request: RestoreRequest, volume: int | None = None) -> dict[str, t.Any]:
        """Start or attach; returns the job as the result shows it."""
        run_id = self.run_id(tried.attempt, volume)
        job = self.engine.start(run_id, request)
        if not job.attached:
            self._run.changed = True
        status = self.engine.status(job, request)
        return {
            "run_id": run_id,
            "state": status.state,
            "percent": status.percent,
            "attached": job.attached,
            "request": {
                "version": request.version,
                "target": request.target,
                "machine": request.machine,
                "item": request.item,
                "onto": request.onto,
                "replace": request.replace,
            },
        }

    def finish(
        self, tried: Tried, request: RestoreRequest, waiting: Waiting, volume: int | None = None
    ) -> RestoreResult:
        """Wait for the end and judge it."""
        return self.engine.run(self.run_id(tried.attempt, volume), request, waiting)

    def listing(
        self, target: str, machine: str, *, version: str | None = None, items: Mapping[str, str] | None = None
    ) -> TargetListing:
        return list_target(self._run, self.engine, self._set_id, target, machine, version=version, items=items)


def list_target(
    run: Run,
    engine: RestoreEngine,
    set_id: str,
    target: str,
    machine: str,
    *,
    version: str | None = None,
    items: Mapping[str, str] | None = None,
) -> TargetListing:
    """What a target holds now; leaves nothing behind on the machine, so that check mode may ask too."""
    run_id = f"{set_id.lower()}.listing.{run.new_id()[:8].lower()}"
    return engine.listing(run_id, target, machine, version=version, items=items or {})


def refuse(findings: Sequence[Mapping[str, t.Any]], what: str) -> None:
    """Raise for findings: the first one's kind, and the sentences of all."""
    if not findings:
        return
    sentences = [str(one["sentence"]).strip().rstrip(".") for one in findings]
    listed = (
        "; ".join(sentences) if len(sentences) == 1 else " ".join(f"({n}) {s}." for n, s in enumerate(sentences, 1))
    )
    raise TaskError(
        str(findings[0]["kind"]),
        f"{what}; nothing was changed: {listed}".rstrip(".") + ".",
        findings=[dict(one) for one in findings],
    )
