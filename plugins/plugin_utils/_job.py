# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this file is private to the hyperv.passthrough collection and may change without notice.
"""What guest_backup and host_backup share: their common options, and running one engine job to its proven end.

Responsible for: queueing behind other backups, starting or attaching, waiting with progress, and the shape of the result.
Not responsible for: what is backed up and whether it may be (the two tasks), how an engine works (`_backup`).
"""

from __future__ import annotations

import typing as t

from ._backup.backup_set import run_id_for
from ._backup.engine import TargetQuestion, Workplace
from ._backup.engines import engine as engine_named
from ._backup.errors import BackupError
from ._guard import waiting_of, with_timeout
from ._hyperv import utc_now
from ._hyperv.volumes import mounted_volumes
from ._task import Outcome, TaskError

if t.TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from ._backup.engine import BackupRequest, Capabilities, Phase, Refusal
    from ._guard import Guard, NoGuard
    from ._task import Run

#: Options of both tasks; documented in the fragment backup_job. Which engines there are, a task says for its phase.
OPTIONS: Mapping[str, Mapping[str, t.Any]] = {
    "engine_options": {"type": "dict", "default": {}},
    "engine_answers": {"type": "dict"},
    "target": {"type": "str", "required": True},
    "set_id": {"type": "str", "required": True},
    "attempt": {"type": "int", "default": 1},
    "vss_backup_type": {"type": "str", "choices": ["copy", "full"], "default": "copy"},
    "wait": {"type": "bool", "default": True},
    "wait_timeout": {"type": "int", "default": 86400},
    "poll_interval": {"type": "int", "default": 10},
    "queue_timeout": {"type": "int", "default": 28800},
    "lease": {"type": "str"},
}
_HELPER_TIMEOUT_S = 900.0  # listing a target takes seconds; a share that has gone away takes minutes


class BackupJob:
    """One run of an engine on the task's target machine; nothing is started before `run`.

    Args:
        reference_clock: the clock of the VM's Hyper-V host, when the target is another machine: the two snapshots of a set
            are compared by the host's clock, and neither machine's clock nor the controller's is trusted to be right.
    """

    def __init__(
        self,
        run: Run,
        phase: Phase,
        guard: Guard | NoGuard,
        *,
        reference_clock: Callable[[], datetime] | None = None,
    ) -> None:
        arguments = run.arguments
        self._entry = engine_named(arguments["engine"])
        self._options = self._entry.answered(
            self._entry.options(arguments["engine_options"], phase), arguments["engine_answers"]
        )
        self._entry.target_kind(arguments["target"])
        self._run = run
        self._guard = guard
        self._reference_clock = reference_clock
        self.run_id = run_id_for(arguments["set_id"], phase, arguments["attempt"])
        self._waiting = waiting_of(
            run,
            timeout_s=float(arguments["wait_timeout"]),
            poll_s=float(arguments["poll_interval"]),
            should_stop=guard.check,
        )
        self._engine = self._entry.backup(
            Workplace(
                client=run.client,
                waiting=with_timeout(self._waiting, _HELPER_TIMEOUT_S),
                options=self._options,
                new_id=run.new_id,
            )
        )
        self._known = self._engine.known(self.run_id)  # a rerun attaches, whatever has changed since it was started

    @property
    def is_under_way(self) -> bool:
        """It runs or has ended, so that nothing will be started: what is checked before a start does not matter any more."""
        return self._known not in ("unknown", "pending")

    def capabilities(self, machine: Mapping[str, t.Any]) -> Capabilities:
        """What the engine can do on the task's target, by its view and what else it has to ask."""
        return self._entry.capabilities(self._entry.probe(self._run.client, machine), self._options)

    def check_target(
        self, *, source_paths: Sequence[str], left_out_paths: Sequence[str] = (), needed_bytes: int | None = None
    ) -> None:
        """Refuse a target that cannot work, by what is known before the run. Raises: TargetRefused."""
        self._engine.check_target(
            TargetQuestion(
                target=self._run.arguments["target"],
                volumes=[volume.to_dict() for volume in mounted_volumes(self._run.client)],
                source_paths=source_paths,
                left_out_paths=left_out_paths,
                needed_bytes=needed_bytes,
            )
        )

    def refusals(self, request: BackupRequest) -> Sequence[Refusal]:
        """What else the engine says against this backup."""
        return self._engine.refusals(request)

    def planned(self, request: BackupRequest, **more: t.Any) -> Outcome:
        """What check mode returns: every key, nothing started."""
        changed = self._known == "unknown"
        return Outcome(
            changed=changed,
            data={
                "job": {"run_id": self.run_id, "state": None, "percent": None, "attached": not changed},
                **_NOTHING,
                "lease": self._run.arguments["lease"],
                **more,
            },
            diff=self._diff(request) if changed else (),
        )

    def run(self, request: BackupRequest, **more: t.Any) -> Outcome:
        """Start or attach, and wait for the end unless told not to.

        Raises: TaskError with the engine's own kind when the backup failed; BackupError; WsmanError.
        """
        run = self._run
        started = utc_now(run.client)
        offset = 0.0 if self._reference_clock is None else (started - self._reference_clock()).total_seconds()
        self._guard.check()
        if self._known == "unknown":
            self._queue()
        job = self._engine.start(self.run_id, request)
        run.changed = not job.attached
        machine: dict[str, t.Any] = {
            "started": started.isoformat(),
            "clock_offset_s": offset,
            "engine": self._entry.name,
            "engine_options": dict(run.arguments["engine_options"]),
        }
        if not run.arguments["wait"]:
            status = self._engine.status(job, request)
            shown = {"run_id": self.run_id, "state": status.state, "percent": status.percent, "attached": job.attached}
            if not status.is_finished:
                return Outcome(
                    changed=run.changed,
                    data={"job": shown, **_NOTHING, "lease": self._guard.lease, **machine, **more},
                    diff=self._diff(request),
                )
        result = self._engine.run(self.run_id, request, self._waiting)
        data = {
            "job": {"run_id": self.run_id, "state": result.state, "percent": 100, "attached": job.attached},
            "version": result.version,
            "result": {**result.to_dict(), **machine, "ended": utc_now(run.client).isoformat()},
            "lease": self._guard.lease,
            **more,
        }
        if result.state == "failed":
            raise TaskError(result.kind or "backup_failed", _failed(request, result.message), **data)
        return Outcome(
            changed=run.changed, data=data, diff=self._diff(request) if run.changed else (), warnings=result.warnings
        )

    def _queue(self) -> None:
        """Wait until no other backup or recovery runs; it is never stopped."""
        began = self._run.now()
        while busy := self._engine.is_busy():
            if self._run.now() - began >= float(self._run.arguments["queue_timeout"]):
                raise BackupError(
                    "busy_timeout",
                    f"{self._run.target} still runs another backup or recovery ({'; '.join(busy)}), which is left alone; run "
                    "again when it has ended, or raise queue_timeout",
                )
            self._run.progress(f"waiting for another backup or recovery: {'; '.join(busy)}")
            self._run.sleep(self._waiting.poll_s)
            self._guard.check()

    def _diff(self, request: BackupRequest) -> tuple[dict[str, str], ...]:
        what = f"VM {request.vm_name} ({request.vm_id})" if request.phase == "host" else "\n".join(request.volumes)
        return (
            {
                "before_header": self._run.target,
                "after_header": self._run.target,
                "before": "",
                "after": f"backup {self.run_id} to {request.target} of\n{what}\n",
            },
        )


_NOTHING: Mapping[str, t.Any] = {"version": None, "result": None}


def _failed(request: BackupRequest, message: str) -> str:
    what = f"VM {request.vm_name}" if request.phase == "host" else f"the volumes of {request.label}"
    return f"The backup of {what} failed: {message}"
