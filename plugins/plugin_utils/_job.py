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
from ._backup.detached_job import DetachedJobs
from ._backup.errors import BackupError
from ._backup.target import VERSIONS_FOLDER
from ._backup.wsb import WindowsServerBackup
from ._guard import waiting_of, with_timeout
from ._hyperv import utc_now
from ._hyperv.volumes import has_folder
from ._task import Outcome, TaskError

if t.TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from ._backup.detached_job import JobLook
    from ._backup.engine import BackupRequest
    from ._backup.target import Target
    from ._guard import Guard, NoGuard
    from ._task import Run
    from ._wsman import WsmanClient

#: Options of both tasks; documented in the fragment backup_job.
OPTIONS: Mapping[str, Mapping[str, t.Any]] = {
    "engine": {"type": "str", "choices": ["wsb"], "default": "wsb"},
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


def earlier_run(run: Run, phase: str) -> JobLook:
    """What the machine knows of this run: a rerun attaches to it, whatever has changed since it was started."""
    return DetachedJobs(run.client).look(run_id_for(run.arguments["set_id"], phase, run.arguments["attempt"]))


def is_under_way(earlier: JobLook) -> bool:
    """It runs or has ended, so that nothing will be started: what is checked before a start does not matter any more."""
    return earlier.is_known and not earlier.is_pending


def may_be_pruned(client: WsmanClient, target: Target) -> bool:
    """Whether Windows Server Backup may make room on a target by itself, because older versions lie there.

    Only a target with a drive letter can be looked at; of another one it is not known, so that it counts as one.
    """
    return target.letter is None or has_folder(client, target.letter, VERSIONS_FOLDER)


class BackupJob:
    """One run of an engine on the task's target machine.

    Args:
        earlier: what `earlier_run` saw.
        reference_clock: the clock of the VM's Hyper-V host, when the target is another machine: the two snapshots of a set
            are compared by the host's clock, and neither machine's clock nor the controller's is trusted to be right.
    """

    def __init__(
        self,
        run: Run,
        request: BackupRequest,
        guard: Guard | NoGuard,
        *,
        earlier: JobLook,
        reference_clock: Callable[[], datetime] | None = None,
    ) -> None:
        arguments = run.arguments
        self._run = run
        self._request = request
        self._guard = guard
        self._is_known = earlier.is_known
        self._reference_clock = reference_clock
        self.run_id = run_id_for(arguments["set_id"], request.phase, arguments["attempt"])
        self._waiting = waiting_of(
            run,
            timeout_s=float(arguments["wait_timeout"]),
            poll_s=float(arguments["poll_interval"]),
            should_stop=guard.check,
        )
        self._engine = WindowsServerBackup(run.client, helper_waiting=with_timeout(self._waiting, _HELPER_TIMEOUT_S))

    def planned(self, **more: t.Any) -> Outcome:
        """What check mode returns: every key, nothing started."""
        changed = not self._is_known
        return Outcome(
            changed=changed,
            data={
                "job": {"run_id": self.run_id, "state": None, "percent": None, "attached": not changed},
                **_NOTHING,
                "lease": self._run.arguments["lease"],
                **more,
            },
            diff=self._diff() if changed else (),
        )

    def run(self, **more: t.Any) -> Outcome:
        """Start or attach, and wait for the end unless told not to.

        Raises: TaskError with the engine's own kind when the backup failed; BackupError; WsmanError.
        """
        run = self._run
        started = utc_now(run.client)
        offset = 0.0 if self._reference_clock is None else (started - self._reference_clock()).total_seconds()
        self._guard.check()
        if not self._is_known:
            self._queue()
        job = self._engine.start(self.run_id, self._request)
        run.changed = not job.attached
        machine: dict[str, t.Any] = {"started": started.isoformat(), "clock_offset_s": offset}
        if not run.arguments["wait"]:
            status = self._engine.status(job, self._request)
            shown = {"run_id": self.run_id, "state": status.state, "percent": status.percent, "attached": job.attached}
            if not status.is_finished:
                return Outcome(
                    changed=run.changed,
                    data={"job": shown, **_NOTHING, "lease": self._guard.lease, **machine, **more},
                    diff=self._diff(),
                )
        result = self._engine.run(self.run_id, self._request, self._waiting)
        data = {
            "job": {"run_id": self.run_id, "state": result.state, "percent": 100, "attached": job.attached},
            "version": result.version,
            "result": {**result.to_dict(), **machine, "ended": utc_now(run.client).isoformat()},
            "lease": self._guard.lease,
            **more,
        }
        if result.state == "failed":
            raise TaskError(result.kind or "backup_failed", _failed(self._request, result.message), **data)
        return Outcome(
            changed=run.changed, data=data, diff=self._diff() if run.changed else (), warnings=result.warnings
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

    def _diff(self) -> tuple[dict[str, str], ...]:
        what = (
            f"VM {self._request.vm_name} ({self._request.vm_id})"
            if self._request.phase == "host"
            else "\n".join(self._request.volumes)
        )
        return (
            {
                "before_header": self._run.target,
                "after_header": self._run.target,
                "before": "",
                "after": f"backup {self.run_id} to {self._request.target} of\n{what}\n",
            },
        )


_NOTHING: Mapping[str, t.Any] = {"version": None, "result": None}


def _failed(request: BackupRequest, message: str) -> str:
    what = f"VM {request.vm_name}" if request.phase == "host" else f"the volumes of {request.label}"
    return f"The backup of {what} failed: {message}"
