# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""Restoring with the operator's own product: one VM on its host, or one volume in a guest.

Responsible for what a product is asked to restore, and for calling only that a success which its exit code and its answer to
this very run id call one. Not responsible for whether anything may be overwritten, nor for looking at what came back (the
callers: the VM with every recorded file, the volume's contents).

A restore with a warning is a failure: part of it may not have come back. A VM that exists may be replaced by the product only when
the request says `replace: true`; without it a VM of that GUID ends the restore before it begins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .._hyperv.vm_power import find_power
from .command_exchange import asked, items_named
from .command_options import NAME
from .command_runs import CommandRuns
from .engine import Job, JobStatus, Refusal, RestoreRequest, RestoreResult, TargetListing, Waiting
from .errors import BackupError


class CommandRestore(CommandRuns):
    """Restores by the operator's commands on one machine; see `engine.RestoreEngine`."""

    def refusals(self, request: RestoreRequest) -> Sequence[Refusal]:
        """Programs that are not there, and a product that was given no way to restore."""
        if not self._options.has("restore"):
            return [
                Refusal(
                    kind="engine_unable",
                    sentence=f"the engine {NAME} was given no restore command; add one to engine_options, or restore by hand",
                )
            ]
        return self._missing_programs()

    def start(self, run_id: str, request: RestoreRequest, *, again: bool = False) -> Job:
        """Start a run, or attach to it when the machine knows its id.

        Raises: `BackupError`: `engine_unable`, `bad_request`, `vm_exists`, `vm_not_off`.
        """
        if not self._options.has("restore"):
            raise BackupError("engine_unable", f"The engine {NAME} was given no restore command.")
        steps = self._steps("restore", run_id, run_id, request.target, _facts(request))
        if again or self.known(run_id) in ("unknown", "pending"):
            self._check_free(run_id)
            self._check_vm(request)
        return self._begin(run_id, steps, request.target, f"Restore {run_id} of {request.label}", again=again)

    def _check_vm(self, request: RestoreRequest) -> None:
        if request.kind != "vm":
            return
        power = find_power(self._client, request.item)
        if power is None:
            return
        if not request.replace:
            raise BackupError(
                "vm_exists", f"VM {power.name} is there, and its overwriting was not permitted; nothing was changed."
            )
        if power.state not in ("off", "saved"):
            raise BackupError("vm_not_off", f"VM {power.name} is {power.state}; shut it down. Nothing was changed.")

    def status(self, job: Job, request: RestoreRequest) -> JobStatus:
        """One look: the run's own command, then the product."""
        shown = self._shown(self._followed(job, "restore"))
        if shown.state != "warning":
            return shown
        return JobStatus(state="failed", kind="restore_incomplete", message=shown.message)

    def result(self, job: Job, request: RestoreRequest) -> RestoreResult:
        """The outcome of a finished run. Raises: `BackupError` `not_finished` while it goes on."""
        said = self._followed(job, "restore")
        if said.state in ("pending", "running"):
            raise BackupError("not_finished", f"The run {job.run_id} has not finished yet; wait for it.")
        state, kind, message = said.state, said.kind, said.message
        answer = said.answer
        if state == "warning":
            state, kind = "failed", "restore_incomplete"
            message = f"the restore ended with a warning, so that part of it may not have come back: {message or 'no details'}"
        elif state == "succeeded" and answer is not None and answer.version not in (None, request.version):
            state, kind = "failed", "wrong_version"
            message = f"version {request.version} was asked for, but the product says that it restored {answer.version}"
        shown: Any = state
        return RestoreResult(
            state=shown,
            run_id=job.run_id,
            engine=NAME,
            version=request.version,
            kind=kind,
            message=message,
            evidence={"exit_code": said.exit_code, "job": self._job_of(said), "logs": []},
        )

    def run(self, run_id: str, request: RestoreRequest, waiting: Waiting) -> RestoreResult:
        """Start or attach, wait for the end, and judge it. Raises: `BackupError`: `wait_timeout` and those of `start`."""
        waiting.should_stop()
        job = self.start(run_id, request)
        self._wait(job, "restore", waiting, f"restore {run_id}")
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
        """What the product holds, and which of the asked things a version lists. An answer that cannot be used is no answer."""
        wanted = dict(items or {})
        try:
            answer = self._listed(run_id, target, machine=machine, version=version, **asked(wanted))
        except BackupError as err:
            return TargetListing(versions=None, reason=str(err).rstrip("."))
        listed = None if version is None else answer.find(version)
        return TargetListing(
            versions=tuple(one.version for one in answer.versions),
            items={} if listed is None else items_named(listed, wanted),
        )


def _facts(request: RestoreRequest) -> dict[str, Any]:
    """What the restore command is told."""
    return {
        "version": request.version,
        "machine": request.machine,
        "kind": request.kind,
        "item": request.item,
        "onto": request.onto,
        "label": request.label,
        "replace": request.replace,
        "evidence_job": str(request.evidence.get("job") or ""),
    }
