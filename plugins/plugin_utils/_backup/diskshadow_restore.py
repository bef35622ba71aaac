# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
r"""Restoring one VM from its shadow copies, beside what is there, and deleting a version that is provably ours.

Responsible for the steps of a restore and for their order; each looks first and is repeated harmlessly, the record of the run
(`diskshadow_record`) says how far it came, and a rerun goes on there. Not responsible for whether a VM may be overwritten (the task
host_restore), nor for LUNs: the restored VM has no pass-through drive until the role attaches them by identity.

1. copying: the shadow copies are exposed under free letters; a detached job copies each virtual hard disk beside its place,
   `<file>.<run id>.restoring`; each has to have the size that it has in the shadow copy. Nothing of the VM was touched so far, and
   a failure up to here ends the run and takes those copies away.
2. removing: a VM of that GUID that is there (permitted by name, exported, off) is deleted; its files stay.
3. swapping: the file that is there becomes `<file>.<run id>.replaced`, then the copy gets its name.
4. importing: the configuration in the exposed shadow copy becomes a planned VM, start action Nothing, then a VM.
5. cleaning: the replaced files are deleted, the letters given back.

What proves a success: the VM is registered, every virtual hard disk lies in its place with its size. What an interrupted run
leaves is named by its record: letters, files that carry its run id, a planned VM.

Facts: backup-engines 2, 3.1; hyperv-wmi 7.5. Assumed: a definition file can be imported from a read-only volume.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .._hyperv import JobFailed, MethodFailed, file_evidence
from .._hyperv.host_files import delete_own_file, rename_file
from .._hyperv.shadow_copies import guid_in, shadow_copies
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
from .detached_job import DetachedJobs, Step
from .diskshadow import NAME
from .diskshadow_exposure import ShadowScripts
from .diskshadow_job import copy_step, inside
from .diskshadow_record import Record, RunRecords
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
    wait_for,
)
from .errors import BackupError
from .wbadmin_text import last_lines

COPYING, REMOVING, SWAPPING, IMPORTING, CLEANING = "copying", "removing", "swapping", "importing", "cleaning"
LOOKS = 12  # at what an earlier run may have set going
_RC, _LOG = "file-{}-rc.txt", "file-{}.txt"


class ShadowRestore:
    """The restoring half of diskshadow on one host; see `engine.RestoreEngine`."""

    name = NAME

    def __init__(self, place: Workplace) -> None:
        self._client = place.client
        self._waiting = place.waiting
        self._jobs = DetachedJobs(place.client)
        self._records = RunRecords(place.client)
        self._scripts = ShadowScripts(place.client, self._jobs, place.waiting)

    def known(self, run_id: str) -> RunState:
        """A run goes on until its record has a result, whatever became of its job."""
        record = self._records.read(run_id)
        if record is None:
            return "unknown"
        return "ended" if record.get("result") else "running"

    def is_busy(self) -> tuple[str, ...]:
        return ()  # it reads shadow copies, and makes none

    def refusals(self, request: RestoreRequest) -> Sequence[Refusal]:
        evidence = request.evidence
        copies = shadow_copies(self._client, _shadows(request).values()) if evidence.get("transportable") else ()
        if evidence.get("transportable") and not any(copy.is_surfaced for copy in copies):
            return [
                Refusal(
                    kind="not_imported",
                    sentence=f"the shadow copies of set {{{request.version}}} are transportable and not imported on this host; import them "
                    f"first (diskshadow> load metadata {evidence.get('metadata')}, then import), or copy the VM's files by hand "
                    "where they are imported",
                )
            ]
        paths, covered = _files(request), {guid_in(one.get("path")) for one in evidence.get("volumes") or ()}
        if not paths or not evidence.get("configuration") or not covered:
            return [
                Refusal(
                    kind="record_incomplete",
                    sentence="the set does not record which files of the VM its shadow copies hold; choose another set",
                )
            ]
        missing = [path for path in paths if not _letter_of(path, evidence)]
        return [
            Refusal(
                kind="items_not_listed",
                sentence=f"{path} lies on no volume that was shadow-copied; choose another set",
            )
            for path in missing
        ]

    def start(self, run_id: str, request: RestoreRequest, *, again: bool = False) -> Job:
        """Start a run, or attach to it: its record alone says that there is one."""
        job = Job(run_id=run_id, engine=NAME, target=request.target, attached=True)
        if self._records.read(run_id) is not None:
            return job
        refused = self.refusals(request)
        if refused:
            raise BackupError(refused[0].kind, "; ".join(one.sentence for one in refused) + ".")
        configuration = request.vm.get("configuration") or {}
        self._waiting.should_stop()
        self._records.write(
            run_id,
            {
                "kind": "restore",
                "vm_id": request.item.strip("{}").upper(),
                "label": request.label,
                "version": request.version,
                "replace": request.replace,
                "files": dict.fromkeys(_files(request)),
                "volumes": list(request.evidence["volumes"]),
                "shadows": _shadows(request),
                "configuration": request.evidence["configuration"],
                "roots": {
                    "ConfigurationDataRoot": configuration.get("data_root"),
                    "SnapshotDataRoot": configuration.get("snapshot_root"),
                },
                "step": COPYING,
            },
        )
        self._begin_copies(run_id)
        return Job(run_id=run_id, engine=NAME, target=request.target)

    def status(self, job: Job, request: RestoreRequest) -> JobStatus:
        record = self._records.read(job.run_id)
        if record is None:
            return JobStatus(state="failed", kind="unknown_run", message=f"the host knows no run {job.run_id}")
        if record.get("result"):
            result = record["result"]
            return JobStatus(state=result["state"], percent=100, kind=result["kind"], message=result["message"])
        return JobStatus(state="running", message=str(record["step"]))

    def result(self, job: Job, request: RestoreRequest) -> RestoreResult:
        record = self._records.read(job.run_id)
        if record is not None and record.get("result"):
            return RestoreResult(**record["result"])
        raise BackupError("not_finished", f"The restore {job.run_id} has not finished yet; run it again.")

    def run(self, run_id: str, request: RestoreRequest, waiting: Waiting) -> RestoreResult:
        """Start or go on, to the end.

        Raises: `BackupError`: `wait_timeout`; `vm_exists`, `vm_not_off` when a VM is in the way, nothing of it was changed then;
        errors of Hyper-V: the run is at the step where it stopped, and running it again goes on there.
        """
        job = self.start(run_id, request)
        record = self._record(run_id)
        if record.get("result"):
            return self.result(job, request)
        if record["step"] == COPYING:
            failure = self._copied(run_id, waiting)
            if failure is not None:
                return self._end(run_id, request, "failed", *failure)
            self._records.update(run_id, step=REMOVING)
        for step, act, following in (
            (REMOVING, self._remove, SWAPPING),
            (SWAPPING, self._swap, IMPORTING),
            (IMPORTING, self._import, CLEANING),
        ):
            if self._record(run_id)["step"] == step:
                waiting.progress(f"restore {run_id}: {step}")
                act(run_id, waiting)
                self._records.update(run_id, step=following)
        self._clean(run_id, waiting)
        return self._end(run_id, request, "succeeded")

    # -- 1. copying ----------------------------------------------------------------------------------------------------

    def _begin_copies(self, run_id: str) -> None:
        record = self._record(run_id)
        roots = self._expose(run_id)
        sizes: dict[str, int | None] = {}
        steps: list[Step] = []
        for number, path in enumerate(sorted(record["files"]), 1):
            source = inside(path, record["volumes"], record["shadows"], roots)
            entry = file_evidence(self._client, source)
            if entry is None or not entry.size_bytes:
                raise BackupError(
                    "items_not_listed",
                    f"{path} is not in the shadow copy of its volume ({source}); choose another set.",
                )
            sizes[path] = entry.size_bytes
            steps.append(copy_step(source, staged(path, run_id), _LOG.format(number), _RC.format(number)))
        self._records.update(run_id, files=sizes)
        look = self._jobs.look(run_id)
        self._waiting.should_stop()
        self._jobs.start(run_id, steps, f"Restore {run_id} of {record['label']}", again=look.is_interrupted)

    def _copied(self, run_id: str, waiting: Waiting) -> tuple[str, str] | None:
        """Wait for the copies; kind and sentence of what makes them useless."""
        try:
            look = self._jobs.look(run_id)
            if not look.is_done and (not look.is_known or look.is_pending or look.is_interrupted):
                self._begin_copies(run_id)
        except BackupError as err:
            if err.kind in ("shadow_copy_gone", "items_not_listed"):
                return err.kind, str(err)
            raise

        def look_once() -> JobStatus:
            seen = self._jobs.look(run_id)
            if seen.is_done or seen.is_interrupted:
                return JobStatus(state="succeeded" if seen.is_done else "failed")
            return JobStatus(state="running")

        status = wait_for(look_once, waiting, what=f"restore {run_id}")
        if not status.is_finished:
            raise BackupError(
                "wait_timeout",
                f"The restore {run_id} still copies after {waiting.timeout_s:.0f} s; it goes on, and running this again attaches to it.",
            )
        files = self._record(run_id)["files"]
        numbers = range(1, len(files) + 1)
        wanted = [name.format(number) for number in numbers for name in (_RC, _LOG)]
        look = self._jobs.look(run_id, wanted)
        if not look.is_done:
            return "interrupted", f"the copies of the run {run_id} were broken off; nothing of the VM was changed"
        for number, path in zip(numbers, sorted(files), strict=True):
            entry = file_evidence(self._client, staged(path, run_id))
            code = look.exit_code(_RC.format(number))
            if code != 0 or entry is None or entry.size_bytes != files[path]:
                size = "is missing" if entry is None else f"has {entry.size_bytes} bytes"
                said = last_lines(look.files.get(_LOG.format(number), b""))
                return (
                    "copy_incomplete",
                    f"the copy of {path} out of the shadow copy {size} instead of {files[path]} bytes (code {code}"
                    + (f": {said}" if said else "")
                    + "); nothing of the VM was changed",
                )
        return None

    # -- 2. removing ---------------------------------------------------------------------------------------------------

    def _remove(self, run_id: str, waiting: Waiting) -> None:
        record = self._record(run_id)
        vm_id = record["vm_id"]
        power = find_power(self._client, vm_id)
        if power is None:
            return
        if not record["replace"]:
            raise BackupError(
                "vm_exists",
                f"VM {power.name} ({vm_id}) has appeared on the host since the restore began, and nobody permitted to overwrite it; its "
                "restored disks lie beside its own. Move it away and run again.",
            )
        if power.state == "saved":
            discard_saved_state(self._client, vm_id, waiting)
            power = find_power(self._client, vm_id)
        if power is not None and (power.state != "off" or power.busy):
            raise BackupError(
                "vm_not_off",
                f"VM {power.name} is {power.busy or power.state} and has to be off to be replaced; shut it down and run again.",
            )
        try:
            delete_vm(self._client, vm_id, waiting)
        except (MethodFailed, JobFailed):
            # a run that was killed may have begun to delete it, and the host is still at it
            if not self._seen(lambda: find_power(self._client, vm_id) is None, waiting):
                raise

    # -- 3. swapping ---------------------------------------------------------------------------------------------------

    def _swap(self, run_id: str, waiting: Waiting) -> None:
        """At every moment one whole copy of each disk: the old one is moved aside by a rename before the new one takes its name."""
        for path in sorted(self._record(run_id)["files"]):
            if file_evidence(self._client, staged(path, run_id)) is None:
                continue  # it has its name already
            if file_evidence(self._client, path) is not None:
                rename_file(self._client, path, replaced(path, run_id), waiting)
            rename_file(self._client, staged(path, run_id), path, waiting)

    # -- 4. importing --------------------------------------------------------------------------------------------------

    def _import(self, run_id: str, waiting: Waiting) -> None:
        """Once more when the host refuses a step: a run that was killed may have left it at work on the one before."""
        record = self._record(run_id)
        vm_id = record["vm_id"]
        self._check_files(record)

        def is_there() -> bool:
            return find_power(self._client, vm_id) is not None and find_planned(self._client, vm_id) is None

        if is_there():
            return
        try:
            self._make_vm(run_id, record, waiting)
        except (MethodFailed, JobFailed):
            planned = find_planned(self._client, vm_id) is not None
            if self._seen(
                lambda: is_there() or (not planned and find_planned(self._client, vm_id) is not None), waiting
            ):
                if is_there():
                    return
            elif not planned:
                raise
            self._make_vm(run_id, record, waiting)

    def _make_vm(self, run_id: str, record: Record, waiting: Waiting) -> None:
        vm_id, roots = record["vm_id"], self._expose(run_id)
        definition = inside(record["configuration"], record["volumes"], record["shadows"], roots)
        import_definition(self._client, definition, vm_id, waiting)
        planned = settle_planned(
            self._client,
            vm_id,
            waiting,
            place=lambda old: back_in_place(old, record["files"], record["shadows"], roots),
            roots={name: folder for name, folder in record["roots"].items() if name in DATA_ROOTS and folder},
        )
        known = {path.casefold() for path in record["files"]}
        foreign = sorted(path for path in planned.files.values() if path.casefold() not in known)
        if foreign:
            raise BackupError(
                "unknown_disk",
                f"The configuration in the shadow copy names {', '.join(foreign)}, which the set did not record as a disk of the VM; "
                "it stays a planned VM, and its disks lie in their places. Look at it (Get-VM does not show it), or restore "
                "another set.",
            )
        validate_planned(self._client, vm_id, waiting)
        realize_planned(self._client, vm_id, waiting)

    @staticmethod
    def _seen(is_so: Callable[[], bool], waiting: Waiting) -> bool:
        """Whether something becomes true within a few looks."""
        for _unused in range(LOOKS):
            if is_so():
                return True
            waiting.sleep(waiting.poll_s)
            waiting.should_stop()
        return False

    def _check_files(self, record: Record) -> None:
        for path, size in record["files"].items():
            entry = file_evidence(self._client, path)
            if entry is None or entry.size_bytes != size:
                found = "is not there" if entry is None else f"has {entry.size_bytes} bytes"
                raise BackupError(
                    "files_missing",
                    f"{path} {found} and should have {size} bytes after the restore; look what became of it before you run again.",
                )

    # -- 5. cleaning ---------------------------------------------------------------------------------------------------

    def _clean(self, run_id: str, waiting: Waiting) -> None:
        record = self._record(run_id)
        for path in sorted(record["files"]):
            delete_own_file(self._client, replaced(path, run_id), waiting)
        self._hide(run_id)

    def _end(
        self, run_id: str, request: RestoreRequest, state: Any, kind: str = "", message: str = ""
    ) -> RestoreResult:
        record = self._record(run_id)
        if state == "failed":  # before anything of the VM was touched: what we put beside it is of no use
            for path in sorted(record["files"]):
                delete_own_file(self._client, staged(path, run_id), self._waiting)
            self._hide(run_id)
        result = RestoreResult(
            state=state,
            run_id=run_id,
            engine=NAME,
            version=request.version,
            kind=kind,
            message=message,
            evidence={"files": record["files"], "shadows": record["shadows"], "logs": []},
        )
        self._records.update(run_id, result=result.to_dict())
        return result

    # -- versions ------------------------------------------------------------------------------------------------------

    def listing(
        self,
        run_id: str,
        target: str,
        machine: str,
        *,
        version: str | None = None,
        items: Mapping[str, str] | None = None,
    ) -> TargetListing:
        """The shadow copy sets of the host.

        A set holds the VM that the host's record of its run names, as long as all copies of that run are there. A set that no record
        names (the registry was lost, the volumes were not) is taken at its caller's word: `start` looks for each file in it before
        anything of a VM is touched.
        """
        copies = shadow_copies(self._client)
        versions = tuple(dict.fromkeys(copy.set_id for copy in copies))
        wanted = guid_in(version)
        if wanted not in versions or not items:
            return TargetListing(versions=versions)
        there = {copy.id for copy in copies}
        records = [
            one
            for one in self._records.all()
            if one.get("kind") == "backup" and (one.get("result") or {}).get("version") == wanted
        ]
        held = {guid_in(str(one.get("vm_id"))) for one in records if set((one.get("shadows") or {}).values()) <= there}
        found = {item: item for item in items if not records or guid_in(item) in held}
        return TargetListing(versions=versions, items=found)

    def why_kept(self, target: str) -> str:
        return ""

    def delete(self, run_id: str, version: str, target: str, machine: str) -> Deletion:
        """Delete the shadow copies of a run of ours.

        Proof: the host's record of that run binds exactly these ids and this set to it, and each copy that is there is of that set
        and of the volume that the record says. One that is exposed is in use and kept.
        """
        record = self._records.read(run_id)
        shadows: Mapping[str, str] = (record or {}).get("shadows") or {}
        ids = list(shadows.values())
        if record is None or record.get("kind") != "backup" or not ids:
            return Deletion(
                state="kept", reason=f"the host has no record that the run {run_id} made these shadow copies"
            )
        if (record.get("result") or {}).get("version") != guid_in(version):
            return Deletion(state="kept", reason=f"the run {run_id} made another version than {version}")
        present = shadow_copies(self._client, ids)
        if not present:
            return Deletion(state="gone")
        volume_of = {shadow: volume for volume, shadow in shadows.items()}
        for copy in present:
            if copy.set_id != guid_in(version) or copy.volume_guid != volume_of[copy.id]:
                return Deletion(state="kept", reason=f"the shadow copy {copy.describe()} is not what the record says")
            if copy.exposed_as is not None:
                return Deletion(
                    state="kept",
                    reason=f"the shadow copy {copy.describe()} is exposed as {copy.exposed_as} and may be in use",
                )
        left = self._scripts.delete(run_id, ids)
        if left:
            return Deletion(state="kept", reason=f"diskshadow did not delete {len(left)} of {len(ids)} shadow copies")
        return Deletion(state="deleted")

    # -- helpers of the steps ------------------------------------------------------------------------------------------

    def _record(self, run_id: str) -> Record:
        record = self._records.read(run_id)
        if record is None:
            raise BackupError(
                "unknown_run", f"The host lost its record of the restore {run_id}; look at the VM's files."
            )
        return record

    def _expose(self, run_id: str) -> dict[str, str]:
        ids = sorted(set(self._record(run_id)["shadows"].values()))

        def remember(places: Mapping[str, str]) -> None:
            self._records.update(run_id, exposed={**self._record(run_id).get("exposed", {}), **places})

        return self._scripts.expose(run_id, ids, remember)

    def _hide(self, run_id: str) -> None:
        exposed = self._record(run_id).get("exposed")
        if exposed and self._scripts.hide(run_id, exposed):
            self._records.update(run_id, exposed={})


def staged(path: str, run_id: str) -> str:
    """Where the copy lies until it is complete."""
    return f"{path}.{run_id}.restoring"


def replaced(path: str, run_id: str) -> str:
    return f"{path}.{run_id}.replaced"


def back_in_place(
    old: str, files: Mapping[str, Any], shadows: Mapping[str, str], roots: Mapping[str, str]
) -> str | None:
    """A disk's own path when the import has pointed it into the exposed shadow copy; None leaves it as it is."""
    if old.casefold() in {path.casefold() for path in files}:
        return None
    for root in (roots[one] for one in shadows.values()):
        if old.casefold().startswith(root.casefold()):
            rest = old[len(root) - 1 :].casefold()
            found = [path for path in files if path[2:].casefold() == rest]
            if len(found) == 1:
                return found[0]
    return None


def _files(request: RestoreRequest) -> tuple[str, ...]:
    found = []
    for row in request.disks:
        path = ((row.get("evidence") or {}).get("host") or {}).get("path")
        if row.get("coverage") == "host" and path:
            found.append(str(path))
    return tuple(dict.fromkeys(found))


def _shadows(request: RestoreRequest) -> dict[str, str]:
    shadows = request.evidence.get("shadows") or {}
    return {guid_in(volume): guid_in(shadow) for volume, shadow in shadows.items()}


def _letter_of(path: str, evidence: Mapping[str, Any]) -> str:
    shadows = {guid_in(one) for one in evidence.get("shadows") or ()}
    for one in evidence.get("volumes") or ():
        letter = str(one.get("letter") or "").upper()
        if letter and path[:2].upper() == f"{letter}:" and guid_in(one.get("path")) in shadows:
            return letter
    return ""
