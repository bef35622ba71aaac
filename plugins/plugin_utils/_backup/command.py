# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""The engine `command`: backups by the operator's own product, of a guest's volumes or of a VM on its host.

Responsible for what a product is asked to back up and for telling success from everything else. Not responsible for restores
(`command_restore.py`), for running commands (`command_runs.py`) or for the shapes of requests and answers.

What proves success: the exit code means `succeeded` or `warning`, AND the answer to this very run id names a version, AND that
version was not listed before the run, AND the product's own listing, asked afterwards, has it with the VM or every volume in it.
Driven by roles, the listing has to name our run id instead: a rerun asks the role again, when the version may be there already.

What an interrupted run leaves is the product's; nothing of it is used. The next attempt has another run id. On the machine stay
the task and the folder of the run, by which a rerun finds it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .command_exchange import ListAnswer, asked, items_named
from .command_options import NAME, CommandOptions
from .command_runs import RC, CommandRuns, Said
from .engine import BackupRequest, BackupResult, Capabilities, Job, JobStatus, Refusal, TargetQuestion, Waiting
from .errors import BackupError, TargetRefused
from .target import check_target, parse_target
from .wsb import VHD_FILE_SYSTEMS

BEFORE_SUFFIX = ".before"


def capabilities(machine: Mapping[str, Any], options: CommandOptions) -> Capabilities:
    """What the operator says of the product, on a machine that can run its commands."""
    family = str(machine.get("os_family") or "windows")
    if family != "windows":
        return Capabilities(
            engine=NAME,
            available=False,
            kind="not_windows",
            reason=f"the engine {NAME} runs commands on Windows only, not on {family}",
        )
    guest, restores = options.phase == "guest", options.has("restore")
    return Capabilities(
        engine=NAME,
        available=True,
        reason="" if restores else f"the engine {NAME} was given no restore command",
        backs_up_volumes=guest,
        restores_volumes=guest and restores,
        backs_up_vms=not guest,
        restores_vms=not guest and restores,
        file_systems=options.file_systems if guest else frozenset(),
        vhd_file_systems=frozenset() if guest else VHD_FILE_SYSTEMS,
        remote_vhds=options.remote_vhds,
        checkpoints=options.checkpoints,
        application_consistent=options.application_consistent,
        incremental=options.incremental,
        concurrent=options.concurrent,
        restores_elsewhere=options.restores_elsewhere,
        deletes_versions=options.has("delete"),
    )


def target_kind(text: str) -> Any:
    """`volume` for a volume of the machine; `share` for a share and for a name that only the product understands."""
    try:
        return "share" if parse_target(text).kind == "share" else "volume"
    except TargetRefused as err:
        if err.kind == "target_characters" or not text.strip():
            raise
        return "share"


class CommandBackup(CommandRuns):
    """Backups by the operator's commands on one machine; see `engine.Engine`."""

    def check_target(self, question: TargetQuestion) -> None:
        """A volume must be there, and hold nothing of what is backed up; what else a product needs it has to say itself."""
        if target_kind(question.target) == "volume":
            check_target(
                parse_target(question.target),
                volumes=question.volumes,
                source_paths=question.source_paths,
                left_out_paths=question.left_out_paths,
            )

    def refusals(self, request: BackupRequest) -> Sequence[Refusal]:
        """Programs that are not there."""
        return self._missing_programs()

    def start(self, run_id: str, request: BackupRequest) -> Job:
        """Start a run, or attach to it when the machine knows its id; what is there is listed first.

        Raises: `BackupError`: `bad_request`, and why the product could not be listed, so that nothing was started.
        """
        facts = _facts(request)
        steps = self._steps("start", run_id, run_id, request.target, facts)
        if self.known(run_id) == "unknown" and not self._options.roles:
            self._check_free(run_id)
            self._before(run_id, request)
        return self._begin(run_id, steps, request.target, f"Backup {run_id} of {request.label}")

    def status(self, job: Job, request: BackupRequest) -> JobStatus:
        """One look: the run's own command, then the product."""
        return self._shown(self._followed(job, "start"))

    def result(self, job: Job, request: BackupRequest) -> BackupResult:
        """The proven outcome of a finished run. Raises: `BackupError` `not_finished` while it goes on."""
        said = self._followed(job, "start")
        if said.state in ("pending", "running"):
            raise BackupError("not_finished", f"The run {job.run_id} has not finished yet; wait for it.")
        evidence: dict[str, Any] = {"exit_code": said.exit_code, "job": self._job_of(said)}
        answer = said.answer
        if said.state == "failed" or answer is None:
            return self._failed(job, said.kind, said.message, evidence)
        if answer.version is None:
            message = f"the command ended well (exit code {said.exit_code}), but its answer names no version"
            return self._failed(job, "no_version", message, evidence)
        return self._proven(job, request, said, answer.version, evidence)

    def run(self, run_id: str, request: BackupRequest, waiting: Waiting) -> BackupResult:
        """Start or attach, wait for the end, and judge it. Raises: `BackupError`: `wait_timeout` and those of `start`."""
        waiting.should_stop()
        job = self.start(run_id, request)
        self._wait(job, "start", waiting, f"backup {run_id}")
        return self.result(job, request)

    # -- proof ---------------------------------------------------------------------------------------------------------

    def _before(self, run_id: str, request: BackupRequest) -> None:
        """List what is there; the answer stays beside the run, so that a rerun judges by the same one."""
        listing = run_id + BEFORE_SUFFIX
        self._jobs.run_small(
            listing,
            self._steps("list", listing, listing, request.target, asked(_items(request))),
            f"listing before {run_id}",
            exit_code=RC,
            files=[],
            waiting=self._waiting,
        )
        self._list_of(self._finished(listing), listing)

    def _list_before(self, job: Job) -> ListAnswer:
        """A role is asked anew by every rerun; there the run id in the listing tells whose a version is."""
        if self._options.roles:
            return ListAnswer(run_id=job.run_id, versions=())
        listing = job.run_id + BEFORE_SUFFIX
        return self._list_of(self._finished(listing), listing)

    def _proven(
        self, job: Job, request: BackupRequest, said: Said, version: str, evidence: dict[str, Any]
    ) -> BackupResult:
        try:
            before = self._list_before(job)
            listed = self._listed(job.run_id, job.target, version=version, **asked(_items(request))).find(version)
        except BackupError as err:
            return self._failed(job, err.kind, str(err).rstrip("."), evidence)
        if before.find(version) is not None:
            message = f"the product names version {version}, which it listed before this run began"
            return self._failed(job, "old_version", message, evidence)
        if listed is None:
            return self._failed(
                job, "not_listed", f"the product names version {version}, but does not list it", evidence
            )
        if listed.run_id != job.run_id and (listed.run_id is not None or self._options.roles):
            message = f"the product lists version {version} as one of run {listed.run_id or '(none)'}"
            return self._failed(job, "not_ours", message, evidence)
        named = items_named(listed, _items(request))
        missing = [item for item in _items(request) if item not in named]
        if missing:
            message = f"version {version} was made, but the product does not list {', '.join(missing)} in it"
            return self._failed(job, "items_not_listed", message, evidence)
        answer = said.answer
        state: Any = said.state
        consistency: Any = "unknown"
        if request.phase == "host":
            consistency = "off" if request.vm_state in ("off", "saved") else answer.consistency if answer else "unknown"
        warnings = answer.warnings if answer else ()
        if state == "warning" and not warnings:
            warnings = (said.message or f"its exit code {said.exit_code} means a warning",)
        return BackupResult(
            state=state,
            run_id=job.run_id,
            engine=NAME,
            target=job.target,
            version=version,
            snapshot_time=(answer.snapshot_time if answer else None) or listed.time,
            consistency=consistency,
            listed=True,
            message=said.message,
            warnings=warnings,
            evidence={**evidence, "items": list(listed.items)[:100], "versions_before": len(before.versions)},
        )

    def _failed(self, job: Job, kind: str, message: str, evidence: Mapping[str, Any]) -> BackupResult:
        return BackupResult(
            state="failed",
            run_id=job.run_id,
            engine=NAME,
            target=job.target,
            kind=kind,
            message=message,
            evidence=evidence,
        )


def _items(request: BackupRequest) -> dict[str, str]:
    """What a version has to hold: GUID of the VM, or GUID paths of the volumes with their letters."""
    if request.phase == "host":
        return {str(request.vm_id).strip("{}").upper(): ""}
    return {path: request.volume_letters.get(path, "") for path in request.volumes}


def _facts(request: BackupRequest) -> dict[str, Any]:
    """What the start command is told. Raises: `BackupError` `bad_request`."""
    if request.phase == "host":
        if request.vm_id is None or request.volumes:
            raise BackupError("bad_request", "A host backup needs the GUID of exactly one VM, and no volumes.")
        more: dict[str, Any] = {
            "vm_id": request.vm_id.strip("{}").upper(),
            "vm_name": request.vm_name,
            "vm_state": request.vm_state,
        }
    else:
        if not request.volumes or request.vm_id is not None:
            raise BackupError("bad_request", "A guest backup needs at least one volume, and no VM.")
        more = {"volumes": list(request.volumes)}
    return {
        "label": request.label,
        "vss_backup_type": request.vss_backup_type,
        **asked(_items(request)),
        **more,
    }
