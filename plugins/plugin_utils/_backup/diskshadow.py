# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
r"""The engine `diskshadow`: shadow copies of the volumes that hold one VM, made on its host with the Hyper-V writer taking part.

Responsible for a backup from the look before it to its proven end. Not responsible for restoring (`diskshadow_restore.py`), for
what must be true before (`diskshadow_plan.py`), scripts (`diskshadow_job.py`), what a run proves (`diskshadow_proof.py`).

A shadow copy lives on the volumes themselves, or in the array: the target of this engine is a folder for the metadata file, and
for the VM's files when `copy_to` names one. A version is the GUID of the shadow copy set.

What proves a success: see `diskshadow_proof`, AND the VM's virtual hard disks and configuration were found in the exposed shadow
copies afterwards (AND their copies have their size, with `copy_to`).

What an interrupted run leaves: a task and a folder of that run id; a record (`diskshadow_record`); persistent shadow copies that
its log names and that were not there before it; a drive letter that its record names. The next run of the same VM deletes exactly
those copies, and hides exactly those letters; what cannot be proven to be ours is told and left alone.

Facts: backup-engines 2, 3, 5, 10; windows-storage 3.8.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from .._hyperv import Registry, file_evidence, utc_now
from .._hyperv.cim_access import CimClient
from .._hyperv.machine import processes_named
from .._hyperv.shadow_copies import (
    HARDWARE,
    shadow_copies,
    shadow_providers,
    shadow_storages,
    supported_volumes,
)
from .._hyperv.volumes import mounted_volumes
from .._wsman import WsmanFault
from .detached_job import DetachedJobs, JobLook
from .diskshadow_exposure import ShadowScripts
from .diskshadow_job import (
    CAB2_RC,
    CAB_RC,
    LOG,
    METADATA,
    PARTS,
    RC,
    WRITERS,
    WRITERS_RC,
    SourceVolume,
    backup_steps,
    copied_exit_code,
    copy_names,
    copy_steps,
    inside,
)
from .diskshadow_options import DiskShadowOptions
from .diskshadow_plan import FILE_SYSTEMS, Facts, Plan, configuration_paths, plan_backup
from .diskshadow_proof import Proof, Seen, judge, takes_part
from .diskshadow_record import Record, RunRecords
from .engine import (
    BackupRequest,
    BackupResult,
    Capabilities,
    Consistency,
    Job,
    JobStatus,
    Refusal,
    RunState,
    TargetQuestion,
    Waiting,
    Workplace,
    wait_for,
)
from .errors import BackupError, SetUnreadable
from .set_store import REGISTRY_BASE, SetStore
from .target import Target, check_target, folder_name, parse_target
from .wbadmin_text import consistency_of

NAME = "diskshadow"
PROGRAM = "diskshadow.exe"
COPY_SUFFIX = ".copy"
MAX_PARTS_BYTES = 2 * 1024 * 1024
_FILES = (LOG, RC, WRITERS, WRITERS_RC, CAB_RC, CAB2_RC)


# --- abilities ------------------------------------------------------------------------------------------------------


def probe(client: CimClient, machine: Mapping[str, Any]) -> Mapping[str, Any]:
    """The host's facts with its providers of shadow copies; left out when it does not tell them."""
    try:
        providers = shadow_providers(client)
    except WsmanFault as fault:
        if fault.is_passing:
            raise
        return machine
    return {**machine, "shadow_providers": [{"id": one.id, "name": one.name, "type": one.type} for one in providers]}


def capabilities(machine: Mapping[str, Any], options: DiskShadowOptions) -> Capabilities:
    """What diskshadow can do on a host (backup-engines 2: Windows Server only)."""
    caption = str(machine.get("os_caption") or "this Windows")
    if machine.get("is_server") is False:
        return _unable(
            "client_windows", f"{caption} is a client Windows, which has neither diskshadow nor the Hyper-V writer"
        )
    providers = machine.get("shadow_providers")
    if providers is not None and options.provider != "system":
        fitting = [
            one
            for one in providers
            if (one["type"] == HARDWARE if options.provider == "hardware" else one["id"] == options.provider)
        ]
        if not fitting:
            listed = ", ".join(f"{one['name']} {{{one['id']}}}" for one in providers) or "none"
            wanted = "hardware provider" if options.provider == "hardware" else f"provider {options.provider}"
            return _unable(
                "provider_missing",
                f"it has no {wanted} for shadow copies (it has {listed}); install the array's VSS provider, or choose another one in "
                "engine_options.provider",
            )
    return Capabilities(
        engine=NAME,
        available=True,
        backs_up_vms=True,
        restores_vms=True,
        vhd_file_systems=FILE_SYSTEMS,
        checkpoints=False,
        application_consistent=True,
        restores_beside=True,
        deletes_versions=True,
    )


def _unable(kind: str, reason: str) -> Capabilities:
    return Capabilities(engine=NAME, available=False, kind=kind, reason=reason)


def place_of(text: str) -> Target:
    """A target of this engine: a folder of the host, a volume, or a share. Raises `TargetRefused`."""
    return parse_target(text, folders=True)


def run_folder(target: str, label: str, run_id: str) -> str:
    return f"{place_of(target).root}\\{folder_name(label)}\\{run_id}"


# --- the engine -----------------------------------------------------------------------------------------------------


class DiskShadow:
    """diskshadow on one host; see `engine.Engine`."""

    name = NAME

    def __init__(self, place: Workplace) -> None:
        self._client = place.client
        self._options: DiskShadowOptions = place.options
        self._waiting = place.waiting
        self._jobs = DetachedJobs(place.client)
        self._records = RunRecords(place.client)
        self._scripts = ShadowScripts(place.client, self._jobs, place.waiting)

    def known(self, run_id: str) -> RunState:
        record = self._records.read(run_id)
        if record is not None and record.get("result"):
            return "ended"
        look = self._jobs.look(run_id)
        if look.is_done:
            return "running" if record is not None and record.get("copy_to") else "ended"
        if not look.is_known:
            return "unknown" if record is None else "pending"
        if look.is_pending:
            return "pending"
        return "interrupted" if look.is_interrupted else "running"

    def is_busy(self) -> tuple[str, ...]:
        """Other programs diskshadow: the service makes one set at a time, and a second one would fail."""
        return tuple(f"process {one.id}: {PROGRAM}" for one in processes_named(self._client, [PROGRAM]))

    def check_target(self, question: TargetQuestion) -> None:
        """The folder for the metadata file, off the volumes that hold the disks; and room for `copy_to`."""
        place = place_of(question.target)
        check_target(
            place, volumes=question.volumes, source_paths=question.source_paths, left_out_paths=question.left_out_paths
        )
        if self._options.copy_to:
            check_target(
                place_of(self._options.copy_to),
                volumes=question.volumes,
                source_paths=question.source_paths,
                needed_bytes=question.needed_bytes,
            )

    def refusals(self, request: BackupRequest) -> Sequence[Refusal]:
        return self._plan(request).refusals

    def start(self, run_id: str, request: BackupRequest, *, again: bool = False) -> Job:
        """Start a run, or attach to it when the machine knows its id.

        Raises: `BackupError` with the kind of the first refusal; `busy` while another diskshadow runs.
        """
        folder = run_folder(request.target, request.label, run_id)
        known = self.known(run_id)
        if known not in ("unknown", "pending") and not again:
            return Job(run_id=run_id, engine=NAME, target=folder, attached=True)
        plan = self._plan(request)
        if plan.refusals:
            raise BackupError(plan.refusals[0].kind, _sentences(plan.refusals))
        busy = self.is_busy()
        if busy:
            raise BackupError("busy", f"The host makes another shadow copy now ({'; '.join(busy)}); wait for its end.")
        warnings = self._clean_up(run_id, str(request.vm_id))
        self._waiting.should_stop()
        self._records.write(
            run_id,
            {
                "kind": "backup",
                "vm_id": str(request.vm_id),
                "label": request.label,
                "volumes": [volume.to_dict() for volume in plan.volumes],
                "provider": plan.provider,
                "options": self._options.to_dict(),
                "copy_to": self._options.copy_to,
                "files": dict(plan.files),
                "baseline": [copy.id for copy in shadow_copies(self._client)],
                "target": folder,
                "warnings": list(warnings),
                "configuration": list(configuration_paths(request.vm)),
            },
        )
        steps = backup_steps(run_id, plan.volumes, plan.provider, self._options, folder)
        attached = self._jobs.start(run_id, steps, f"Backup {run_id} of {request.label}", again=again)
        return Job(run_id=run_id, engine=NAME, target=folder, attached=attached and known != "unknown")

    def status(self, job: Job, request: BackupRequest) -> JobStatus:
        record = self._records.read(job.run_id)
        if record is not None and record.get("result"):
            result = record["result"]
            return JobStatus(state=result["state"], percent=100, kind=result["kind"], message=result["message"])
        look = self._jobs.look(job.run_id)
        if not look.is_known and record is None:
            return JobStatus(
                state="failed", kind="unknown_run", message=f"the host knows no run {job.run_id}; start it again"
            )
        if look.is_done and record is not None:
            proof = self._judged(self._jobs.look(job.run_id, _FILES), record)
            if proof.state == "failed":
                return JobStatus(state="failed", percent=100, kind=proof.kind, message=proof.message)
            if record.get("copy_to"):
                return JobStatus(state="running", message="the shadow copies are made; the VM's files are copied")
            state: Any = proof.state
            return JobStatus(state=state, percent=100, kind=proof.kind, message=proof.message)
        if look.is_interrupted:
            return JobStatus(state="failed", kind="interrupted", message=f"the run {job.run_id} was interrupted")
        if look.is_pending or not look.is_known:
            return JobStatus(state="pending", message="the scheduled task has not begun")
        return JobStatus(state="running", message="diskshadow works")

    def result(self, job: Job, request: BackupRequest) -> BackupResult:
        """The proven outcome of a finished run. Raises: `BackupError` of kind `not_finished` while it goes on."""
        record = self._records.read(job.run_id)
        if record is not None and record.get("result"):
            return _result_of(record["result"])
        look = self._jobs.look(job.run_id, _FILES)
        if record is None or not (look.is_done or look.is_interrupted):
            if record is None and not look.is_known:
                return self._failed(
                    job, Proof(state="failed", kind="unknown_run", message="the host knows no such run")
                )
            if record is not None:
                raise BackupError("not_finished", f"The run {job.run_id} has not finished yet; wait for it.")
            return self._failed(
                job, Proof(state="failed", kind="record_missing", message="the host lost its record of this run")
            )
        proof = self._judged(look, record)
        if proof.kind == "busy":
            return self._failed(job, proof)  # nothing was made, so that the run may be started anew under its id
        result = (
            self._failed(job, proof) if proof.state == "failed" else self._succeeded(job, request, look, record, proof)
        )
        leftovers = (
            proof.leftovers if proof.state == "failed" else _copies_of(proof) if result.state == "failed" else ()
        )
        self._records.update(
            job.run_id, result=result.to_dict(), leftovers=list(leftovers), shadows=dict(proof.shadows)
        )
        return result

    def run(self, run_id: str, request: BackupRequest, waiting: Waiting) -> BackupResult:
        """Start or attach, wait for the end, copy the VM's files when that was asked for, and judge it.

        Raises: `BackupError`: `busy_timeout`, `wait_timeout` when the run goes on (a rerun attaches to it).
        """
        began, again = waiting.now(), False
        while True:
            waiting.should_stop()
            left = dataclasses.replace(waiting, timeout_s=max(0.0, waiting.timeout_s - (waiting.now() - began)))
            try:
                job = self.start(run_id, request, again=again)
                self._wait(job, left)
            except BackupError as err:
                if err.kind != "busy":
                    raise
                self._queue(left, str(err), run_id)
                continue
            result = self.result_after_copy(job, request, left)
            if result.kind == "busy":
                self._queue(left, result.message, run_id)
                again = True
                continue
            return result

    def result_after_copy(self, job: Job, request: BackupRequest, waiting: Waiting) -> BackupResult:
        record = self._records.read(job.run_id)
        if record is None or record.get("result") or not record.get("copy_to"):
            return self.result(job, request)
        proof = self._judged(self._jobs.look(job.run_id, _FILES), record)
        if proof.state != "failed":
            self._copy(job.run_id, record, proof, waiting)
        return self.result(job, request)

    def versions(self, run_id: str, target: str) -> tuple[str, ...]:
        """The shadow copy sets of the host, oldest first."""
        return tuple(dict.fromkeys(copy.set_id for copy in shadow_copies(self._client)))

    def stop(self, job: Job) -> None:
        """End the copies into `copy_to`, which can take hours; what they leave, `result` and the next run see to.

        Raises: `BackupError` `not_stoppable` while the shadow copies are made: that takes seconds, and broken off between freeze
        and thaw it harms.
        """
        look = self._jobs.look(job.run_id)
        if look.is_known and not (look.is_done or look.is_interrupted):
            raise BackupError(
                "not_stoppable", f"The run {job.run_id} makes shadow copies and ends by itself; wait for it."
            )
        self._jobs.stop(job.run_id + COPY_SUFFIX)

    # -- looking -------------------------------------------------------------------------------------------------------

    def _plan(self, request: BackupRequest) -> Plan:
        facts = Facts(
            vm=request.vm,
            volumes=[volume.to_dict() for volume in mounted_volumes(self._client)],
            providers=_told(lambda: shadow_providers(self._client)),
            support=_told(lambda: supported_volumes(self._client)),
            storages=_told(lambda: shadow_storages(self._client)) or (),
        )
        return plan_backup(facts, self._options, covered=request.covered)

    def _judged(self, look: JobLook, record: Record) -> Proof:
        volumes = [SourceVolume(path=one["path"], letter=one["letter"]) for one in record["volumes"]]
        options = record["options"]
        return judge(
            Seen(
                is_done=look.is_done,
                exit_code=look.exit_code(RC),
                log=look.files.get(LOG, b""),
                writers=look.files.get(WRITERS, b""),
                writers_code=look.exit_code(WRITERS_RC),
                cab_code=look.exit_code(CAB_RC),
                cab2_code=look.exit_code(CAB2_RC),
                copies=shadow_copies(self._client),
            ),
            baseline=record["baseline"],
            volumes=volumes,
            provider=record["provider"],
            transportable=bool(options.get("transportable")),
            second_cab=bool(options.get("metadata_copy")),
        )

    def _wait(self, job: Job, waiting: Waiting) -> None:
        def look() -> JobStatus:
            seen = self._jobs.look(job.run_id)
            if seen.is_done or seen.is_interrupted:
                return JobStatus(state="succeeded")
            return JobStatus(state="running")

        if self._records.read(job.run_id) is None:
            return
        if not wait_for(look, waiting, what=f"backup {job.run_id}").is_finished:
            raise _still_running(job.run_id, waiting)

    def _queue(self, waiting: Waiting, why: str, run_id: str) -> None:
        if waiting.timeout_s <= 0:
            raise BackupError("busy_timeout", f"The backup {run_id} could not begin in time. {why}")
        waiting.progress(f"backup {run_id} is queued: {why}")
        waiting.sleep(waiting.poll_s)

    # -- after ---------------------------------------------------------------------------------------------------------

    def _succeeded(self, job: Job, request: BackupRequest, look: JobLook, record: Record, proof: Proof) -> BackupResult:
        """The VM's files are looked for in the shadow copies before they count as a version."""
        warnings = [*record.get("warnings", ()), *proof.warnings]
        transportable = bool(record["options"].get("transportable"))
        found: dict[str, int | None] = {}
        if not transportable:
            found, missing = self._found_files(job.run_id, record, proof)
            if missing:
                message = f"the shadow copies were made, but {', '.join(missing)} is not in them"
                return self._failed(
                    job, dataclasses.replace(proof, state="failed", kind="items_not_listed", message=message)
                )
        copied = self._copied(job.run_id, record, found) if record.get("copy_to") else {}
        bad = [path for path, ok in copied.items() if not ok]
        if bad:
            message = f"the shadow copies were made, but the copy of {', '.join(bad)} in copy_to is missing or has another size"
            return self._failed(
                job, dataclasses.replace(proof, state="failed", kind="copy_incomplete", message=message)
            )
        log = look.files.get(LOG, b"")
        included = takes_part(log, str(record["vm_id"]))
        if included is False:
            message = "the shadow copies were made, but the Hyper-V writer did not add the VM to the backup; see the log of the run"
            return self._failed(
                job, dataclasses.replace(proof, state="failed", kind="vm_not_included", message=message)
            )
        consistency = self._consistency(job.run_id, request, log)
        if consistency == "saved_state":
            warnings.append(f"VM {request.vm_name!r} was saved while its shadow copies were made (offline)")
        state: Any = proof.state
        return BackupResult(
            state=state,
            run_id=job.run_id,
            engine=NAME,
            target=job.target,
            version=proof.set_id,
            snapshot_time=self._moment(proof, look),
            consistency=consistency,
            listed=True,
            kind=proof.kind,
            message=proof.message,
            warnings=tuple(warnings),
            evidence={
                **proof.evidence,
                "set_id": proof.set_id,
                "shadows": dict(proof.shadows),
                "volumes": record["volumes"],
                "provider": record["provider"],
                "transportable": transportable,
                "configuration": next(
                    (path for path in record["configuration"] if transportable or path in found), None
                ),
                "files": {path: size for path, size in found.items() if path in record["files"]},
                "metadata": f"{job.target}\\{METADATA}",
                "copied_to": self._copy_folder(job.run_id, record) if copied else None,
                "vm_took_part": included,
            },
        )

    def _consistency(self, run_id: str, request: BackupRequest, log: bytes) -> Consistency:
        """By the caption of the VM's component, in the log or in what the writer told right after (English, else unknown)."""
        if request.vm_state in ("off", "saved"):
            return "off"
        if not request.vm_name:
            return "unknown"
        found = consistency_of(log, request.vm_name)
        size = self._jobs.size(run_id, PARTS)
        if found == "unknown" and size is not None and size <= MAX_PARTS_BYTES:
            parts = self._jobs.read(run_id, [PARTS]).get(PARTS, b"")
            found = consistency_of(parts, request.vm_name)
        return found

    def _found_files(self, run_id: str, record: Record, proof: Proof) -> tuple[dict[str, int | None], list[str]]:
        """Sizes of the VM's files in the shadow copies by their own paths, and what is not there."""
        roots = self._scripts.expose(
            run_id, sorted(proof.shadows.values()), lambda places: self._remember(run_id, places)
        )
        found: dict[str, int | None] = {}
        for path in [*record["files"], *record["configuration"]]:
            entry = file_evidence(self._client, inside(path, record["volumes"], proof.shadows, roots))
            if entry is not None:
                found[path] = entry.size_bytes
        self._hide(run_id)
        missing = [path for path in record["files"] if not found.get(path)]
        if record["configuration"] and not any(path in found for path in record["configuration"]):
            missing.append(record["configuration"][0])
        return found, missing

    def _remember(self, run_id: str, places: Mapping[str, str]) -> None:
        record = self._records.read(run_id) or {}
        self._records.update(run_id, exposed={**record.get("exposed", {}), **places})

    def _hide(self, run_id: str) -> None:
        record = self._records.read(run_id) or {}
        if record.get("exposed") and self._scripts.hide(run_id, record["exposed"]):
            self._records.update(run_id, exposed={})

    def _moment(self, proof: Proof, look: JobLook) -> datetime:
        """When the copies were made, by the host's clock; a transportable set has none there."""
        times = [copy.created for copy in proof.copies if copy.created is not None]
        found = min(times) if times else look.task.last_run if look.task is not None else None
        if found is None:
            found = utc_now(self._client)
        return (found if found.tzinfo is not None else found.replace(tzinfo=timezone.utc)).astimezone(timezone.utc)

    def _failed(self, job: Job, proof: Proof) -> BackupResult:
        message = proof.message
        if proof.doubtful:
            message += (
                f"; {len(proof.doubtful)} shadow copies appeared meanwhile that cannot be proven to be this run's and are left alone: "
                + ", ".join(f"{{{one}}}" for one in proof.doubtful)
            )
        return BackupResult(
            state="failed",
            run_id=job.run_id,
            engine=NAME,
            target=job.target,
            kind=proof.kind,
            message=message,
            evidence=dict(proof.evidence),
        )

    # -- copying the VM's files ----------------------------------------------------------------------------------------

    def _copy_folder(self, run_id: str, record: Record) -> str:
        return run_folder(str(record["copy_to"]), str(record["label"]), run_id)

    def _copy(self, run_id: str, record: Record, proof: Proof, waiting: Waiting) -> None:
        """Copy the files out of the exposed shadow copies in a job of its own, which can take hours."""
        job = run_id + COPY_SUFFIX
        if not self._jobs.look(job).is_done:
            roots = self._scripts.expose(
                run_id, sorted(proof.shadows.values()), lambda places: self._remember(run_id, places)
            )
            folder = self._copy_folder(run_id, record)
            wanted = [*record["files"], *record["configuration"]]
            sources = {path: inside(path, record["volumes"], proof.shadows, roots) for path in wanted}
            there = {
                path: source for path, source in sources.items() if file_evidence(self._client, source) is not None
            }
            steps = copy_steps(there, folder)
            broken = self._jobs.look(job).is_interrupted
            self._jobs.start(job, steps, f"Copies of {record['label']}", again=broken)

        def look() -> JobStatus:
            seen = self._jobs.look(job)
            return JobStatus(state="succeeded" if seen.is_done or seen.is_interrupted else "running")

        if not wait_for(look, waiting, what=f"copies of {run_id}").is_finished:
            raise _still_running(run_id, waiting)

    def _copied(self, run_id: str, record: Record, found: Mapping[str, int | None]) -> dict[str, bool]:
        """Whether each file has its size in `copy_to`; a share is believed by the exit codes of its copies alone."""
        folder = self._copy_folder(run_id, record)
        names = copy_names(found)
        codes = [copied_exit_code(number) for number in range(1, len(found) + 1)]
        look = self._jobs.look(run_id + COPY_SUFFIX, codes)
        copied = {}
        for number, path in enumerate(sorted(found), 1):
            ok = look.is_done and look.exit_code(copied_exit_code(number)) == 0
            if ok and not folder.startswith("\\\\"):
                entry = file_evidence(self._client, f"{folder}\\{names[path]}")
                ok = entry is not None and entry.size_bytes == found[path]
            copied[path] = ok
        return copied

    # -- leftovers -----------------------------------------------------------------------------------------------------

    def _clean_up(self, run_id: str, vm_id: str) -> list[str]:
        """Delete what earlier runs of this VM provably left; returns what could not be, as warnings."""
        warnings = []
        for record in self._records.of_vm(vm_id):
            other = str(record.get("run_id"))
            if record.get("kind") != "backup" or other == run_id:
                continue
            looks = [self._jobs.look(one) for one in (other, other + COPY_SUFFIX)]
            if any(look.is_known and not (look.is_done or look.is_interrupted) for look in looks):
                continue  # it runs
            self._hide(other)
            leftovers = record.get("leftovers")
            if not record.get("result"):
                leftovers = self._unasked(other, record)
                self._records.update(other, leftovers=leftovers)
            if not leftovers:
                continue
            left = self._scripts.delete(other, leftovers)
            self._records.update(other, leftovers=list(left))
            if left:
                warnings.append(f"{len(left)} shadow copies that the failed run {other} left could not be deleted")
        return warnings

    def _unasked(self, run_id: str, record: Record) -> list[str]:
        """What a run left whose result nobody has asked for: what it made in vain, or all of it once its set is closed without it."""
        proof = self._judged(self._jobs.look(run_id, _FILES), record)
        if proof.state == "failed":
            return list(proof.leftovers)
        try:
            item = SetStore(Registry(self._client, REGISTRY_BASE)).read(set_of(run_id))
        except SetUnreadable:
            return []  # nobody knows whether it is needed
        if item is None or item.is_open or any(one.run_id == run_id and one.version for one in item.host):
            return []
        return list(_copies_of(proof))


def set_of(run_id: str) -> str:
    """The backup set that a run belongs to, by the run's own name (`<set>.host.<attempt>`)."""
    return run_id.rpartition(".")[0].rpartition(".")[0]


def _told(read: Any) -> Any:
    """What the machine tells, None when it refuses (an old provider of WMI, a class that is missing)."""
    try:
        return read()
    except WsmanFault as fault:
        if fault.is_passing:
            raise
        return None


def _copies_of(proof: Proof) -> tuple[str, ...]:
    return tuple(copy.id for copy in proof.copies)


def _sentences(refusals: Sequence[Refusal]) -> str:
    return "; ".join(one.sentence for one in refusals) + "."


def _still_running(run_id: str, waiting: Waiting) -> BackupError:
    return BackupError(
        "wait_timeout",
        f"The backup {run_id} still runs after {waiting.timeout_s:.0f} s; it goes on, and running this again attaches to it.",
    )


def _result_of(data: Mapping[str, Any]) -> BackupResult:
    moment = data.get("snapshot_time")
    return BackupResult(
        **{
            **data,
            "snapshot_time": datetime.fromisoformat(moment) if moment else None,
            "warnings": tuple(data.get("warnings") or ()),
        }
    )
