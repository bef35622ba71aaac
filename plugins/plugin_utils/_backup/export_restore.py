# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
r"""Restoring a VM from an export: its disks copied to where they were, its definition imported as a planned VM, realised.

Responsible for the order of these steps. Not responsible for whether a VM may be replaced (host_restore asks that first), for
the export's folder (`export_folder.py`), for the calls (`_hyperv.vm_import`, `_hyperv.image_service`), or for pass-through
disks, which are attached by identity afterwards.

The order keeps one intact copy of every byte at every moment. Each disk is first copied beside its old file, under a name of
this restore, and checked; then an existing VM is removed (its configuration was exported); then old files step aside and the
new ones take their names; then the VM is imported and realised; only then the old files are deleted. The export itself is
only read. The copies are made by Hyper-V's own conversion of a virtual hard disk into one of the same format and type: it is a
job of the host, which goes on without us and can be asked after, and it reads a share as the computer account;
CIM_DataFile.Copy has no job, no progress and no way to a share. Only a folder that is missing, as on a host that was built anew, is
made by a program (`md`, as a small job of the host), because no CIM method makes one. A copy gets a new id, by which the guest would take
its disk for another one, so that the old id is put back.

What proves a success: every disk of the export stands at its place with its size and id, and the VM is realised there. What an
interrupted restore leaves: a record (its stages are written first), copies with `.restoring` in their name, old files with
`.replaced`, a planned VM. The same restore goes on from there; only what carries its mark is ever deleted.

Facts: hyperv-wmi 5, 7.5, backup-engines 5. Assumptions: `_hyperv.vm_import`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from .._hyperv import HypervError, file_evidence
from .._hyperv.host import read_virtual_hard_disk
from .._hyperv.host_files import delete_own_file, rename_file
from .._hyperv.image_service import copy_failed, look_at_copy, set_disk_id, start_copy, wait_for_copy, wait_for_others
from .._hyperv.jobs import VANISHED
from .._hyperv.vm_import import (
    DATA_ROOTS,
    find_planned,
    import_definition,
    realize_planned,
    settle_planned,
    validate_planned,
)
from .._hyperv.vm_power import discard_saved_state, find_power
from .._hyperv.vm_settings import delete_vm
from .detached_job import DetachedJobs, Step, argument, check_run_id
from .engine import (
    Deletion,
    Job,
    JobStatus,
    Refusal,
    RestoreRequest,
    RestoreResult,
    RunState,
    TargetListing,
    Waiting,
    Workplace,
)
from .errors import BackupError
from .export import NAME, RUNS_KEY
from .export_folder import (
    ExportedDisk,
    definition_file,
    disk_file,
    disks_of,
    has_directory,
    is_on_share,
    is_ours,
    listed_files,
    problems_of,
    remove_export,
)
from .export_record import RunRecords
from .retention import CANNOT
from .target import parse_target

RESTORES_KEY = "ExportRestores"
_OUT, _RC = "folder.txt", "folder-rc.txt"
_COPYING, _REPLACING, _IMPORTING, _TIDYING, _ENDED = "copying", "replacing", "importing", "tidying", "ended"


class ExportRestores:
    """Restores from exports on one Hyper-V host; see `engine.RestoreEngine`."""

    name = NAME

    def __init__(self, place: Workplace) -> None:
        self._client = place.client
        self._hands: Waiting = place.waiting
        self._runs = RunRecords(place.client, RUNS_KEY)
        self._records = RunRecords(place.client, RESTORES_KEY)

    # -- before --------------------------------------------------------------------------------------------------------

    def known(self, run_id: str) -> RunState:
        record = self._records.read(run_id)
        if record is None:
            return "unknown"
        return "ended" if record["stage"] == _ENDED else "running"

    def is_busy(self) -> Sequence[str]:
        """Nothing: it works on one VM, whose lease guards it."""
        return ()

    def refusals(self, request: RestoreRequest) -> Sequence[Refusal]:
        found = []
        planned = find_planned(self._client, _guid(request.item))
        if planned is not None:
            found.append(
                Refusal(
                    kind="planned_vm_exists",
                    sentence=f"the host has a planned VM {planned.name} of the same GUID, which somebody else is importing or has left "
                    "behind; remove it first",
                )
            )
        disks = disks_of(request.evidence)
        problems = problems_of(self._client, self._folder(request), _guid(request.item), disks)
        if problems:
            found.append(Refusal(kind="export_not_whole", sentence=f"the export is not whole: {'; '.join(problems)}"))
        wanted = {str(path).casefold() for path in _recorded_paths(request)}
        lacking = sorted(wanted - {disk.path.casefold() for disk in disks})
        if lacking:
            found.append(
                Refusal(
                    kind="items_not_listed",
                    sentence=f"the export does not hold {', '.join(lacking)}; choose another set",
                )
            )
        return found

    def listing(
        self,
        run_id: str,
        target: str,
        machine: str,
        *,
        version: str | None = None,
        items: Mapping[str, str] | None = None,
    ) -> TargetListing:
        """The versions (run ids of exports) in a folder: the run's own, or one that holds the runs' folders.

        On a share nothing can be listed over CIM; what this host's records hold of it is told, and a restore looks at each disk
        through Hyper-V itself before it begins.
        """
        place = parse_target(target, folders=True).root
        if is_on_share(place):
            name = version or place.rpartition("\\")[2]
            record = self._runs.read(name)
            disks = disks_of((record or {}).get("evidence") or {})
            if disks and problems_of(self._client, self._run_folder(place, name), "", disks):
                return TargetListing(versions=())
            found = {item: item for item in items or {}}
            return (
                TargetListing(versions=(name,), items=found)
                if disks or version
                else TargetListing(
                    versions=None, reason=f"nothing on this host tells which disks the export {name} on {place} has"
                )
            )
        names = [version] if version is not None else [place.rpartition("\\")[2]]
        versions, held = [], {}
        for name in names:
            files = listed_files(self._client, self._run_folder(place, name)) or {}
            definitions = [path for path in files if path.endswith(".vmcx") and files[path] > 0]
            record = self._runs.read(name)
            disks = disks_of((record or {}).get("evidence") or {})
            there = {path.rpartition("\\")[2] for path in files}
            if definitions and all(disk.file.casefold() in there for disk in disks):
                versions.append(name)
                stems = {path.rpartition("\\")[2].rpartition(".")[0] for path in definitions}
                held.update({item: item for item in items or {} if _guid(item).casefold() in stems})
        return TargetListing(versions=tuple(versions), items=held)

    def _run_folder(self, place: str, version: str) -> str:
        r"""The run's own folder: the place itself, or the one of that name in it when it was moved with its parent."""
        return (
            place
            if place.casefold().endswith(f"\\{version.casefold()}") or not version
            else self._inside(place, version)
        )

    def _inside(self, place: str, version: str) -> str:
        inner = f"{place}\\{version}"
        return inner if not is_on_share(place) and listed_files(self._client, inner) else place

    def _folder(self, request: RestoreRequest) -> str:
        return self._run_folder(parse_target(request.target, folders=True).root, request.version)

    # -- the run -------------------------------------------------------------------------------------------------------

    def start(self, run_id: str, request: RestoreRequest, *, again: bool = False) -> Job:
        """Begin to copy the first disk, or attach to a run that the host knows. Raises: `BackupError` kinds of `refusals`."""
        record = None if again else self._records.read(check_run_id(run_id))
        folder = self._folder(request)
        if record is not None:
            return Job(run_id=run_id, engine=NAME, target=folder, attached=True)
        refused = self.refusals(request)
        if refused:
            raise BackupError(refused[0].kind, f"VM {request.label} cannot be restored: {refused[0].sentence}.")
        self._hands.should_stop()
        self._records.write(
            run_id,
            {
                "stage": _COPYING,
                "vm_id": _guid(request.item),
                "folder": folder,
                "replace": request.replace,
                "had": [
                    one.path for one in disks_of(request.evidence) if file_evidence(self._client, one.path) is not None
                ],
                "mark": hashlib.sha256(run_id.rpartition(".")[0].encode()).hexdigest()[:8],
                "jobs": {},
                "old": [],
            },
        )
        return Job(run_id=run_id, engine=NAME, target=folder)

    def status(self, job: Job, request: RestoreRequest) -> JobStatus:
        record = self._records.read(job.run_id)
        if record is None:
            return JobStatus(state="failed", kind="unknown_run", message=f"the host knows no run {job.run_id}")
        if record["stage"] != _ENDED:
            return JobStatus(state="running", message=str(record["stage"]))
        kind = str(record["outcome"]["kind"])
        return JobStatus(
            state="failed" if kind else "succeeded", percent=100, kind=kind, message=record["outcome"]["message"]
        )

    def result(self, job: Job, request: RestoreRequest) -> RestoreResult:
        """Raises: `BackupError` `not_finished`."""
        record = self._records.read(job.run_id)
        if record is None or record["stage"] != _ENDED:
            raise BackupError("not_finished", f"The restore {job.run_id} has not finished yet; run it again.")
        outcome = record["outcome"]
        return RestoreResult(
            state="failed" if outcome["kind"] else "succeeded",
            run_id=job.run_id,
            engine=NAME,
            version=request.version,
            kind=outcome["kind"],
            message=outcome["message"],
            evidence={"folder": record["folder"], "logs": [], **outcome.get("evidence", {})},
        )

    def run(self, run_id: str, request: RestoreRequest, waiting: Waiting) -> RestoreResult:
        """Every step that is left, each of which looks first. A failure before the old VM is touched ends the run; one later
        does not, so that running again goes on."""
        self._hands = waiting
        job = self.start(run_id, request)
        disks = disks_of(request.evidence)
        record = self._required(run_id)
        if record["stage"] == _COPYING:
            try:
                self._copy_all(run_id, record, disks)
            except HypervError as err:
                if err.kind not in ("job_failed", "method_failed", "copy_wrong"):
                    raise
                for disk in disks:
                    delete_own_file(self._client, _beside(disk.path, record["mark"], "restoring"), self._hands)
                self._end(run_id, "copy_failed", err.sentence, {})
                return self.result(job, request)
            record = self._stage(run_id, _REPLACING)
        if record["stage"] == _REPLACING:
            self._replace_vm(record)
            self._swap(run_id, record, disks)
            record = self._stage(run_id, _IMPORTING)
        if record["stage"] == _IMPORTING:
            self._import(record, request, disks)
            record = self._stage(run_id, _TIDYING)
        if record["stage"] == _TIDYING:
            for path in record["old"]:
                delete_own_file(self._client, path, self._hands)
            self._end(run_id, "", "", {"disks": [disk.path for disk in disks], "removed": list(record["old"])})
        return self.result(job, request)

    def _required(self, run_id: str) -> dict[str, Any]:
        record = self._records.read(run_id)
        if record is None:
            raise BackupError("unknown_run", f"The host forgot the restore {run_id}; run again.")
        return record

    def _stage(self, run_id: str, stage: str) -> dict[str, Any]:
        return self._records.write(run_id, {**self._required(run_id), "stage": stage})

    def _end(self, run_id: str, kind: str, message: str, evidence: Mapping[str, Any]) -> None:
        outcome = {"kind": kind, "message": message, "evidence": dict(evidence)}
        self._records.write(run_id, {**self._required(run_id), "stage": _ENDED, "outcome": outcome})

    # -- steps ---------------------------------------------------------------------------------------------------------

    def _copy_all(self, run_id: str, record: dict[str, Any], disks: Sequence[ExportedDisk]) -> None:
        for disk in disks:
            copy = _beside(disk.path, record["mark"], "restoring")
            source = disk_file(str(record["folder"]), disk.file)
            if not self._is_whole(copy, disk) and not self._attached(run_id, copy, disk):
                self._copy(run_id, source, copy, disk)
            if not self._is_whole(copy, disk):
                raise HypervError("copy_wrong", f"the copy {copy} of {source} is not a disk like it, and was not used")
            if disk.id:
                set_disk_id(self._client, copy, disk.id, self._hands)

    def _attached(self, run_id: str, copy: str, disk: ExportedDisk) -> bool:
        """Wait for a copy that the part of this run began which died; whether it is whole. What is left of it is deleted."""
        job_id = self._required(run_id)["jobs"].get(copy)
        if job_id:
            if look_at_copy(self._client, job_id).state != VANISHED:
                wait_for_copy(self._client, job_id, self._hands, what=f"copying {disk.file}")
        elif file_evidence(self._client, copy) is not None or job_id == "":
            wait_for_others(self._client, self._hands, what=f"copying {disk.file}")
        if self._is_whole(copy, disk):
            return True
        delete_own_file(self._client, copy, self._hands)
        return False

    def _make_folder(self, run_id: str, path: str) -> None:
        """The folder of a disk, which a rebuilt host lacks. No CIM method makes one, so that a small job of the host does."""
        folder = path.rpartition("\\")[0]
        if has_directory(self._client, folder):
            return
        jobs, name = DetachedJobs(self._client), f"{run_id}.folder"
        self._hands.should_stop()
        try:
            jobs.run_small(
                name,
                (Step(command=f"md {argument(folder)}", output=_OUT, exit_code=_RC),),
                f"folder {folder}",
                exit_code=_RC,
                files=[_OUT],
                waiting=self._hands,
            )
        finally:
            jobs.discard(name)
        if not has_directory(self._client, folder):
            raise HypervError("copy_wrong", f"the folder {folder} is not on the host and could not be made there")

    def _copy(self, run_id: str, source: str, copy: str, disk: ExportedDisk) -> None:
        what = f"copying {disk.file}"
        self._make_folder(run_id, copy)
        self._remember(run_id, copy, "")
        done, job_id = start_copy(
            self._client, source, copy, disk.format or "VHDX", self._hands, type_name=disk.type or "fixed"
        )
        if job_id is None:
            if not done:
                wait_for_others(self._client, self._hands, what=what)
            return
        self._remember(run_id, copy, job_id)
        status = wait_for_copy(self._client, job_id, self._hands, what=what)
        if status.has_failed:
            raise copy_failed(what, status)

    def _remember(self, run_id: str, copy: str, job_id: str) -> None:
        record = self._required(run_id)
        self._records.write(run_id, {**record, "jobs": {**record["jobs"], copy: job_id}})

    def _is_whole(self, copy: str, disk: ExportedDisk) -> bool:
        """A whole virtual hard disk of the same kind and size; no job of the host works on it (the caller waited)."""
        if file_evidence(self._client, copy) is None:
            return False
        found = read_virtual_hard_disk(self._client, copy)
        return (
            not found.problem
            and found.size_bytes == disk.size_bytes
            and found.format == (disk.format or found.format)
            and found.type == (disk.type or found.type)
        )

    def _replace_vm(self, record: Mapping[str, Any]) -> None:
        """Remove the VM that is there, when that was permitted; one that runs is never touched."""
        vm_id = str(record["vm_id"])
        power = find_power(self._client, vm_id)
        if power is None:
            return
        if not record["replace"]:
            raise BackupError(
                "vm_exists", f"VM {power.name} appeared on the host while its disks were copied; it is left alone."
            )
        if power.state == "saved":
            discard_saved_state(self._client, vm_id, self._hands)
        delete_vm(self._client, vm_id, self._hands)

    def _swap(self, run_id: str, record: Mapping[str, Any], disks: Sequence[ExportedDisk]) -> None:
        """Each old file steps aside, then its copy takes its name."""
        for disk in disks:
            copy, aside = (_beside(disk.path, record["mark"], word) for word in ("restoring", "replaced"))
            if file_evidence(self._client, copy) is None:
                continue  # it has its name already
            if file_evidence(self._client, disk.path) is not None:
                now = self._required(run_id)
                if disk.path not in now["had"]:
                    raise BackupError(
                        "vhd_exists",
                        f"{disk.path} appeared on the host while the export was copied, and nobody allowed to replace it; move it away, "
                        "then run again.",
                    )
                if aside not in now["old"]:
                    self._records.write(run_id, {**now, "old": [*now["old"], aside]})
                rename_file(self._client, disk.path, aside, self._hands)
            rename_file(self._client, copy, disk.path, self._hands)

    def _import(self, record: Mapping[str, Any], request: RestoreRequest, disks: Sequence[ExportedDisk]) -> None:
        vm_id, hands = str(record["vm_id"]), self._hands
        if find_power(self._client, vm_id) is None or find_planned(self._client, vm_id) is not None:
            import_definition(self._client, definition_file(str(record["folder"]), vm_id), vm_id, hands)
            by_name = {disk.file.casefold(): disk.path for disk in disks}
            settle_planned(
                self._client,
                vm_id,
                hands,
                place=lambda path: by_name.get(path.rpartition("\\")[2].casefold()),
                roots=_roots(request.vm),
            )
            validate_planned(self._client, vm_id, hands)
        realize_planned(self._client, vm_id, hands)

    # -- retention -----------------------------------------------------------------------------------------------------

    def why_kept(self, target: str) -> str:
        """A share is not reached over CIM, so that nothing can be deleted there."""
        return CANNOT if parse_target(target, folders=True).kind == "share" else ""

    def delete(self, run_id: str, version: str, target: str, machine: str) -> Deletion:
        """Delete an export that the run of that id made, when its record on this host says so."""
        folder = self._run_folder(parse_target(target, folders=True).root, version)
        if is_on_share(folder):
            return Deletion(state="kept", reason=CANNOT)
        record = self._runs.read(run_id)
        proven = record is not None and str(record["folder"]).casefold() == folder.casefold()
        if version != run_id or not proven or not is_ours(folder, run_id):
            return Deletion(
                state="kept", reason=f"nothing on this host proves that {folder} was made by the run {run_id}"
            )
        if not listed_files(self._client, folder):
            return Deletion(state="gone")
        left = remove_export(self._client, folder, run_id, self._hands)
        return (
            Deletion(state="kept", reason=f"{', '.join(left)} could not be deleted")
            if left
            else Deletion(state="deleted")
        )


def _recorded_paths(request: RestoreRequest) -> list[str]:
    found = []
    for row in request.disks:
        host = (row.get("evidence") or {}).get("host") or {}
        if row.get("coverage") == "host" and host.get("path"):
            found.append(str(host["path"]))
    return found


def _roots(vm: Mapping[str, Any]) -> dict[str, str]:
    """Where the VM's own files were, as the set recorded it; an export's folder is never one of them."""
    recorded = vm.get("configuration") or {}
    names = dict(zip(DATA_ROOTS, ("data_root", "snapshot_data_root"), strict=True))
    root = str(recorded.get("data_root") or "")
    return {name: str(recorded.get(key) or root) for name, key in names.items() if recorded.get(key) or root}


def _beside(path: str, mark: str, word: str) -> str:
    r"""`D:\VMs\os.vhdx` -> `D:\VMs\os.1a2b3c4d.restoring.vhdx`: beside it, on the same volume, a virtual hard disk by its name."""
    stem, _dot, extension = path.rpartition(".")
    return f"{stem}.{mark}.{word}.{extension}"


def _guid(text: str) -> str:
    return text.strip().strip("{}").upper()
