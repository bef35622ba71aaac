# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
r"""The engine `export`: a recovery checkpoint of one VM, exported by Hyper-V into a folder of the run, then removed.

Responsible for the order of these steps, for what proves a success, and for cleaning up after runs that died. Not responsible
for the calls (`_hyperv.vm_export`), the folder (`export_folder.py`), restoring (`export_restore.py`).

What proves a success: Hyper-V's export job ended as completed AND the definition stands in the folder AND every virtual hard
disk of the VM stands there with the size of the disk that was captured. A job whose end nobody saw proves nothing: the run
fails, and the next attempt begins anew.

What an interrupted run leaves: a record in the host's registry (written first), a recovery checkpoint with the name that the
record holds, a folder with the run's id. The same run goes on from there; another run for the same VM removes exactly these,
and nothing that it cannot prove to be ours: a recovery checkpoint of another name is somebody else's, and the VM is refused.

Pass-through disks, Fibre Channel and iSCSI LUNs are left out by wish (IgnoreNonSnapshottableDisks): the guest phase has them.
Several VMs of a host run at once: nothing of the machine is held, each VM's own lease guards it.

Facts: hyperv-wmi 7.1 to 7.5, backup-engines 3.3. Assumptions: see `_hyperv.vm_export`, and that the exported file of a disk has
the name of the disk's own file.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from .._hyperv import HypervError, utc_now
from .._hyperv.jobs import VANISHED, look_until
from .._hyperv.vm_export import (
    VmCheckpoint,
    checkpoints_of,
    files_of,
    look_at_export,
    make_recovery_checkpoint,
    name_checkpoint,
    remove_checkpoint,
    start_export,
    stop_export,
    wait_for_merge,
)
from .._hyperv.vm_power import find_power
from .detached_job import check_run_id
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
from .errors import BackupError, TargetRefused
from .export_folder import (
    ExportedDisk,
    definition_file,
    disks_of,
    export_folder,
    listed_files,
    problems_of,
    read_disk,
    remove_export,
)
from .export_record import RunRecords
from .target import check_target, parse_target

NAME = "export"
RUNS_KEY = "Exports"
OPTIONS = ("consistency", "allow_crash_consistent")
_SERVER_2016 = 14393
_VHD_FILE_SYSTEMS = frozenset({"NTFS", "REFS", "CSVFS", "CSVFS_NTFS", "CSVFS_REFS"})
_STEADY = frozenset({"running", "off", "saved"})
# of one run, in this order
_BEGUN, _CHECKPOINTED, _EXPORTING, _JUDGED, _ENDED = "begun", "checkpointed", "exporting", "judged", "ended"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """`consistency`: what is asked of the guest, `application` or `crash`. `allow_crash_consistent`: take a crash consistent
    checkpoint when the guest cannot give an application consistent one."""

    consistency: str = "application"
    allow_crash_consistent: bool = False


def parse_options(given: Mapping[str, Any], phase: str) -> ExportOptions:
    """Raises: `BackupError` `bad_option`."""
    from .engines import known_options

    known_options(given, OPTIONS, NAME)
    consistency = str(given.get("consistency", "application"))
    if consistency not in ("application", "crash"):
        raise BackupError("bad_option", f"consistency is {consistency!r}; it must be 'application' or 'crash'.")
    allowed = given.get("allow_crash_consistent", False)
    if str(allowed).casefold() not in ("true", "false", "yes", "no"):
        raise BackupError("bad_option", f"allow_crash_consistent is {allowed!r}; it must be true or false.")
    return ExportOptions(consistency=consistency, allow_crash_consistent=str(allowed).casefold() in ("true", "yes"))


def capabilities(machine: Mapping[str, Any], options: ExportOptions) -> Capabilities:
    """What an export can do on a Hyper-V host (`host` of `disk_info`)."""
    build = str(machine.get("os_build") or "")
    if build.isdigit() and int(build) < _SERVER_2016:
        return Capabilities(
            engine=NAME,
            available=False,
            kind="too_old",
            reason=f"{machine.get('os_caption') or 'this Windows'} makes no recovery checkpoints that leave disks out, Windows Server "
            "2016 is the first that does; choose another engine for this host",
        )
    return Capabilities(
        engine=NAME,
        available=True,
        backs_up_vms=True,
        restores_vms=True,
        vhd_file_systems=_VHD_FILE_SYSTEMS,
        remote_vhds=False,
        checkpoints=False,
        application_consistent=options.consistency == "application",
        concurrent=True,
        restores_elsewhere=True,
        restores_beside=True,
        deletes_versions=True,
    )


def target_kind(text: str) -> Any:
    """`share` or `volume`. Raises `TargetRefused`: a volume GUID path too, of which nothing can be listed over CIM."""
    target = parse_target(text, folders=True)
    if target.volume is not None:
        raise TargetRefused(
            "target_invalid",
            f"The target {text} is a volume GUID path, below which Windows lists no files over CIM; write a drive letter (E:), a "
            "folder of one or a share.",
        )
    return "share" if target.kind == "share" else "volume"


def checkpoint_name(run_id: str) -> str:
    return f"hyperv.passthrough {run_id}"


class VmExports:
    """Exports on one Hyper-V host; see `engine.Engine`."""

    name = NAME

    def __init__(self, place: Workplace) -> None:
        self._client = place.client
        self._hands: Waiting = place.waiting
        self._options: ExportOptions = place.options
        self._records = RunRecords(place.client, RUNS_KEY)

    # -- before --------------------------------------------------------------------------------------------------------

    def known(self, run_id: str) -> RunState:
        record = self._records.read(run_id)
        if record is None:
            return "unknown"
        return "ended" if record["stage"] == _ENDED else "running"

    def is_busy(self) -> Sequence[str]:
        """Nothing: several exports of one host run at once."""
        return ()

    def check_target(self, question: TargetQuestion) -> None:
        """See `target.check_target`; a share is not looked at."""
        target_kind(question.target)
        check_target(
            parse_target(question.target, folders=True),
            volumes=question.volumes,
            source_paths=(),  # beside the VM's own files is a bad place, but a working one
            left_out_paths=question.left_out_paths,
            needed_bytes=question.needed_bytes,
        )

    def refusals(self, request: BackupRequest) -> Sequence[Refusal]:
        vm, found = request.vm, []
        if request.vm_state not in _STEADY:
            found.append(
                Refusal(
                    kind="vm_not_steady",
                    sentence=f"it is {request.vm_state}, in which its guest cannot take part in a checkpoint; resume it, or shut it down",
                )
            )
        ours = self._own_names(str(request.vm_id))
        for checkpoint in checkpoints_of(self._client, str(request.vm_id)):
            if checkpoint.name in ours:
                continue
            if checkpoint.is_recovery:
                found.append(
                    Refusal(
                        kind="foreign_checkpoint",
                        sentence=f"it has the recovery checkpoint {checkpoint.name!r}, which another backup product made and may still "
                        "use; wait for that backup, or remove the checkpoint when nobody needs it",
                    )
                )
            else:
                found.append(
                    Refusal(
                        kind="checkpoints_exist",
                        sentence=f"it has the checkpoint {checkpoint.name!r}, and nothing proves what an export makes of a chain of "
                        "virtual hard disks; remove its checkpoints, or choose another engine",
                    )
                )
        files = Counter(
            str(disk.get("path")).rpartition("\\")[2].casefold()
            for disk in vm.get("disks") or ()
            if disk.get("captured_by") == "host" and disk.get("path")
        )
        twice = sorted(name for name, count in files.items() if count > 1)
        if twice:
            found.append(
                Refusal(
                    kind="same_file_names",
                    sentence=f"several of its virtual hard disks are named {', '.join(twice)}, and an export puts all of them into one "
                    "folder; rename one, or choose another engine",
                )
            )
        if request.left_out_disks and not request.covered:
            found.append(
                Refusal(
                    kind="not_covered",
                    sentence=f"{request.left_out_disks} of its disks are left out of an export, and no plan says who captures them; "
                    "give the coverage of this VM",
                )
            )
        return found

    def _own_names(self, vm_id: str) -> set[str]:
        """Names of the checkpoints that runs of ours for this VM made or were about to make."""
        return {str(record["checkpoint_name"]) for _run, record in self._runs_of(vm_id)}

    def _runs_of(self, vm_id: str) -> list[tuple[str, dict[str, Any]]]:
        """Runs for a VM that have not ended."""
        found = []
        for run_id in self._records.run_ids():
            record = self._records.read(run_id)
            if record is not None and record["stage"] != _ENDED and _same(record["vm_id"], vm_id):
                found.append((run_id, record))
        return found

    # -- the run -------------------------------------------------------------------------------------------------------

    def start(self, run_id: str, request: BackupRequest) -> Job:
        """Make the checkpoint and begin its export, or go on with a run that the host knows.

        Raises: `BackupError`: `busy_vm` while another run exports this VM, and kinds of `refusals`.
        """
        record = self._records.read(check_run_id(run_id))
        attached = record is not None
        if record is None:
            self._clean_up(str(request.vm_id))
            refused = self.refusals(request)
            if refused:
                raise BackupError(refused[0].kind, f"VM {request.vm_name} cannot be exported: {refused[0].sentence}.")
            self._hands.should_stop()
            record = self._records.write(
                run_id,
                {
                    "stage": _BEGUN,
                    "vm_id": str(request.vm_id).upper(),
                    "vm_name": request.vm_name,
                    "folder": export_folder(request.target, request.label, run_id),
                    "checkpoint_name": checkpoint_name(run_id),
                    "known_checkpoints": [one.id for one in checkpoints_of(self._client, str(request.vm_id))],
                    "vm_state": request.vm_state,
                },
            )
        if record["stage"] == _BEGUN:
            record = self._checkpointed(run_id, record, request)
        if record["stage"] == _CHECKPOINTED:
            record = self._exporting(run_id, record)
        return Job(run_id=run_id, engine=NAME, target=str(record["folder"]), attached=attached)

    def _checkpointed(self, run_id: str, record: dict[str, Any], request: BackupRequest) -> dict[str, Any]:
        """The run's checkpoint, made now or by the part of this run that died."""
        vm_id, name = str(record["vm_id"]), str(record["checkpoint_name"])
        wait_for_merge(self._client, vm_id, self._hands)
        there = self._own_checkpoint(record)
        came = self._options.consistency
        if there is None:
            try:
                came = self._make(vm_id, name, request)
            except HypervError as err:
                if err.kind not in ("job_failed", "method_failed"):
                    raise
                return self._judge(
                    run_id, record, "checkpoint_failed", f"the checkpoint could not be made: {err.sentence}"
                )
            there = look_until(lambda: self._new_checkpoint(record), self._hands, what=f"Making checkpoint {name}")
            name_checkpoint(self._client, there, name, self._hands)
        files = files_of(self._client, there.id)
        running = request.vm_state == "running"
        return self._records.write(
            run_id,
            {
                **record,
                "stage": _CHECKPOINTED,
                "checkpoint": there.id,
                "snapshot_time": (there.created or utc_now(self._client)).isoformat(),
                "consistency_came": came if running else "off",
                "disks": [read_disk(self._client, path).to_dict() for path in files],
            },
        )

    def _make(self, vm_id: str, name: str, request: BackupRequest) -> str:
        """Ask for a checkpoint; returns the consistency it has, as far as Hyper-V's job says."""
        wish, guest = self._options.consistency, request.vss_backup_type
        try:
            make_recovery_checkpoint(self._client, vm_id, name, self._hands, consistency=wish, guest_backup_type=guest)
        except HypervError as err:
            if err.kind != "job_failed" or wish == "crash" or not self._options.allow_crash_consistent:
                raise
            self._hands.progress(
                f"no application consistent checkpoint ({err.sentence}); taking a crash consistent one"
            )
            make_recovery_checkpoint(
                self._client, vm_id, name, self._hands, consistency="crash", guest_backup_type=guest
            )
            return "crash"
        return wish

    def _own_checkpoint(self, record: Mapping[str, Any]) -> VmCheckpoint | None:
        """The run's own recovery checkpoint: by the id that was recorded, else by its name, which holds the run id."""
        for one in checkpoints_of(self._client, str(record["vm_id"])):
            if one.is_recovery and (one.id == record.get("checkpoint") or one.name == record["checkpoint_name"]):
                return one
        return None

    def _new_checkpoint(self, record: Mapping[str, Any]) -> VmCheckpoint | None:
        """Right after our own job: the one of our name, or the only recovery checkpoint that was not there before it."""
        own = self._own_checkpoint(record)
        if own is not None:
            return own
        known = set(record["known_checkpoints"])
        new = [
            one for one in checkpoints_of(self._client, str(record["vm_id"])) if one.id not in known and one.is_recovery
        ]
        if len(new) > 1:
            raise BackupError(
                "foreign_checkpoint",
                f"{len(new)} recovery checkpoints appeared at once ({', '.join(one.name for one in new)}), so that ours cannot be "
                "told; remove those that nobody needs, then run again.",
            )
        return new[0] if new else None

    def _exporting(self, run_id: str, record: dict[str, Any]) -> dict[str, Any]:
        there, folder = self._own_checkpoint(record), str(record["folder"])
        if there is None:
            return self._judge(run_id, record, "interrupted", "the run's checkpoint is gone; start a new attempt")
        lacking = self._not_captured(record)
        if lacking:
            return self._judge(run_id, record, "disk_not_in_checkpoint", lacking)
        record = self._records.write(run_id, {**record, "stage": _EXPORTING, "job": None, "done": False})
        try:
            done, job_id = start_export(self._client, str(record["vm_id"]), there, folder, self._hands)
        except HypervError as err:
            if err.kind != "method_failed":
                raise
            return self._judge(run_id, record, "export_refused", err.sentence)
        return self._records.write(run_id, {**record, "job": job_id, "done": done})

    def _not_captured(self, record: Mapping[str, Any]) -> str:
        """Why the checkpoint does not hold what it must; a VM without virtual hard disks has an export all the same."""
        files = {disk.path.casefold() for disk in disks_of(record)}
        chain = sorted(path for path in files if path.endswith((".avhd", ".avhdx")))
        if chain:
            return f"the checkpoint stands on {', '.join(chain)}, a part of a chain; remove the VM's checkpoints"
        return ""

    def status(self, job: Job, request: BackupRequest) -> JobStatus:
        """One look at the export's job."""
        record = self._records.read(job.run_id)
        if record is None:
            return JobStatus(
                state="failed", kind="unknown_run", message=f"the host knows no run {job.run_id}; start it again"
            )
        outcome = record.get("outcome")
        if outcome:
            state: Any = "succeeded" if not outcome["kind"] else "failed"
            return JobStatus(state=state, percent=100, kind=outcome["kind"], message=outcome["message"])
        if record["stage"] in (_BEGUN, _CHECKPOINTED):
            return JobStatus(state="pending", message="its checkpoint is not exported yet")
        seen = self._job_end(record)
        return JobStatus(state="running", percent=seen[2]) if seen[0] is None else _told(seen)

    def _job_end(self, record: Mapping[str, Any]) -> tuple[bool | None, str, int | None]:
        """Whether the export's job succeeded (None while it runs), what it said, its percentage."""
        if record.get("done"):
            return True, "", 100
        if not record.get("job"):
            power = find_power(self._client, str(record["vm_id"]))
            if power is not None and power.busy:
                return None, "", None
            return (
                False,
                "the answer to the export was lost, so that nothing proves how it ended; start a new attempt",
                None,
            )
        status = look_at_export(self._client, str(record["job"]))
        if status.has_failed:
            said = f": {status.error_description}" if status.error_description else ""
            return (
                False,
                f"Hyper-V's export job ended as {status.state} with error code {status.error_code}{said}",
                None,
            )
        if status.state == VANISHED:
            return (
                False,
                "Hyper-V's export job is gone and nobody saw its end (the host was restarted, or too long ago)",
                None,
            )
        return (True if status.is_done else None), "", status.percent

    def result(self, job: Job, request: BackupRequest) -> BackupResult:
        """The proven outcome; removes the checkpoint, and what a failed export left, before it says anything.

        Raises: `BackupError` `not_finished` while the export runs; HypervError when the checkpoint cannot be removed: then the
        run has not ended, and running again tries once more.
        """
        record = self._records.read(job.run_id)
        if record is None:
            return self._failed(job, "unknown_run", f"the host knows no run {job.run_id}", {})
        if record["stage"] in (_BEGUN, _CHECKPOINTED):
            raise BackupError("not_finished", f"The run {job.run_id} has not exported anything yet; run it.")
        if record["stage"] == _EXPORTING:
            succeeded, said, _percent = self._job_end(record)
            if succeeded is None:
                raise BackupError("not_finished", f"The run {job.run_id} has not finished yet; wait for it.")
            record = self._judged(job.run_id, record, succeeded, said)
        if record["stage"] == _JUDGED:
            record = self._tidied(job.run_id, record)
        outcome, evidence = record["outcome"], record["evidence"]
        if outcome["kind"]:
            return self._failed(job, outcome["kind"], outcome["message"], evidence)
        consistency: Consistency = "online" if record["vm_state"] == "running" else "off"
        return BackupResult(
            state="succeeded",
            run_id=job.run_id,
            engine=NAME,
            target=job.target,
            version=job.run_id,
            snapshot_time=datetime.fromisoformat(str(record["snapshot_time"])),
            consistency=consistency,
            listed=True,
            warnings=tuple(outcome["warnings"]),
            evidence=evidence,
        )

    def _judged(self, run_id: str, record: dict[str, Any], succeeded: bool, said: str) -> dict[str, Any]:
        """Hold the folder against the checkpoint: a job that calls itself a success proves nothing alone."""
        if not succeeded:
            gone = "interrupted" if "nobody saw" in said or "was lost" in said else "export_failed"
            return self._judge(run_id, record, gone, said)
        folder, disks = str(record["folder"]), disks_of(record)
        problems = problems_of(self._client, folder, str(record["vm_id"]), disks)
        if problems:
            return self._judge(
                run_id, record, "export_not_whole", f"the export job succeeded, but {'; '.join(problems)}"
            )
        return self._judge(run_id, record, "", "")

    def _judge(self, run_id: str, record: dict[str, Any], kind: str, message: str) -> dict[str, Any]:
        folder = str(record["folder"])
        files = {} if kind else listed_files(self._client, folder) or {}
        came = record.get("consistency_came")
        wish = self._options.consistency
        warnings = []
        if not kind and came == "crash" and wish == "application":
            warnings.append(f"VM {record['vm_name']!r} has a crash consistent backup: its guest could not take part")
        return self._records.write(
            run_id,
            {
                **record,
                "stage": _JUDGED,
                "outcome": {"kind": kind, "message": message, "warnings": warnings},
                "evidence": {
                    "consistency_wished": wish,
                    "consistency_came": came,
                    "checkpoint": record.get("checkpoint"),
                    "checkpoint_name": record["checkpoint_name"],
                    "job": record.get("job"),
                    "definition": definition_file(folder, str(record["vm_id"])),
                    "disks": list(record.get("disks") or ()),
                    "files": [{"path": path, "size_bytes": size} for path, size in sorted(files.items())],
                },
            },
        )

    def _tidied(self, run_id: str, record: dict[str, Any]) -> dict[str, Any]:
        """Remove the checkpoint, and the folder of a failure; only then the run has ended."""
        there = self._own_checkpoint(record)
        if there is not None:
            remove_checkpoint(self._client, str(record["vm_id"]), there, self._hands)
        outcome = dict(record["outcome"])
        if outcome["kind"]:
            left = remove_export(self._client, str(record["folder"]), run_id, self._hands)
            if left and record.get("job"):
                outcome["message"] += f" (what it wrote to {record['folder']} is not used and can be deleted)"
        return self._records.write(run_id, {**record, "stage": _ENDED, "outcome": outcome})

    def _clean_up(self, vm_id: str) -> None:
        """End the runs for this VM that died: their checkpoint goes, and what they wrote. Raises: `BackupError` `busy_vm`."""
        for run_id, record in self._runs_of(vm_id):
            if record["stage"] == _EXPORTING and self._job_end(record)[0] is None:
                raise BackupError(
                    "busy_vm",
                    f"VM {record['vm_name']} is being exported by the run {run_id}, which is left alone; wait for its end, then "
                    "run again.",
                )
            self._hands.progress(f"cleaning up after the run {run_id}, which was broken off")
            why = "the run was broken off and another one took its place"
            judged = record if record["stage"] == _JUDGED else self._judge(run_id, record, "interrupted", why)
            self._tidied(run_id, judged)

    def run(self, run_id: str, request: BackupRequest, waiting: Waiting) -> BackupResult:
        """Start or attach, wait for the end, clean up, and judge it. Raises: `BackupError` `wait_timeout`."""
        self._hands = waiting
        try:
            job = self.start(run_id, request)
            seen = wait_for(lambda: self.status(job, request), waiting, what=f"export {run_id}")
            if seen.is_finished:
                return self.result(job, request)
        except HypervError as err:
            if err.kind != "job_timeout":
                raise
        raise BackupError(
            "wait_timeout",
            f"The export {run_id} still runs after {waiting.timeout_s:.0f} s; it goes on, and running this again attaches to it.",
        )

    def versions(self, run_id: str, target: str) -> Sequence[str]:
        """Run ids of our exports to a target (or to the run's own folder) that succeeded and still are whole."""
        root = parse_target(target, folders=True).root.casefold()
        found = []
        for known in self._records.run_ids():
            record = self._records.read(known)
            if record is None or record["stage"] != _ENDED or record["outcome"]["kind"]:
                continue
            folder = str(record["folder"])
            if not f"{folder}\\".casefold().startswith(f"{root}\\"):
                continue
            if not problems_of(self._client, folder, str(record["vm_id"]), disks_of(record)):
                found.append(known)
        return tuple(found)

    def stop(self, job: Job) -> None:
        """End the export's job, which the record proves to be this run's; what it leaves, `result` or the next run removes."""
        record = self._records.read(job.run_id)
        if record is None or record["stage"] != _EXPORTING or not record.get("job"):
            return
        if self._job_end(record)[0] is None:
            stop_export(self._client, str(record["job"]), self._hands)

    @staticmethod
    def _failed(job: Job, kind: str, message: str, evidence: Mapping[str, Any]) -> BackupResult:
        return BackupResult(
            state="failed",
            run_id=job.run_id,
            engine=NAME,
            target=job.target,
            kind=kind,
            message=message,
            evidence=evidence,
        )


def exported_disks(evidence: Mapping[str, Any]) -> tuple[ExportedDisk, ...]:
    return disks_of(evidence)


def _told(seen: tuple[bool | None, str, int | None]) -> JobStatus:
    succeeded, said, _percent = seen
    return JobStatus(
        state="succeeded" if succeeded else "failed",
        percent=100,
        kind="" if succeeded else "export_failed",
        message=said,
    )


def _same(one: object, other: object) -> bool:
    return str(one).strip("{}").casefold() == str(other).strip("{}").casefold()
