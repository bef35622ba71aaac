# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
r"""The engine `wsb`: Windows Server Backup through wbadmin, for volumes of a guest and for one VM on its host.

Responsible for the command lines of backups, for telling success from everything else, and for the clean-up of its own old
runs. Not responsible for restoring (`wsb_recovery.py`), for one job at a time and looking at it (`wsb_job.py`), for detaching
and reading back (`detached_job.py`), for the event log's meaning (`backup_events.py`) or for wbadmin's texts (`wbadmin_text.py`).

One run is one job: baseline of the event log, versions on the target, the backup, events again, versions again. The items
of the new version are listed by a second small job, because cmd.exe cannot know the version's id: only wbadmin's localised
listing would tell it, and picking a token out of that with `for /f` depends on the language and on the print order. We read
the id from the event log instead and ask for exactly that version. That second job runs in the context that a restore uses
(SYSTEM, which reaches a share as the computer account), so it also proves that the target can be listed there.

Warnings: a backup that "completed with errors" is state `warning`, never `succeeded`; a set with it is `degraded`.

Online or offline: before the run nothing proves what the host does to a VM with pass-through disks (backup-engines 9.4,
9.5); afterwards the caption of the VM in log, events and items tells it in English, elsewhere it is `unknown`.

Facts: backup-engines 1 (all), 5, 10.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from .._hyperv.machine import processes_named, services_named
from .._hyperv.volumes import has_folder
from .backup_events import CHANNEL, Binding, EventsUnreadable, bind_version
from .detached_job import JobLook, MachineClient, Step, argument, remove_folders
from .engine import (
    BackupRequest,
    BackupResult,
    Capabilities,
    Consistency,
    Job,
    JobStatus,
    Refusal,
    TargetQuestion,
    Waiting,
)
from .errors import BackupError
from .target import VERSIONS_FOLDER, check_target, parse_target, run_target
from .wbadmin_text import (
    consistency_of,
    last_lines,
    lists_guid,
    lists_letter,
    lists_name,
    log_paths,
    version_ids,
)
from .wsb_job import (
    BASELINE,
    BASELINE_RC,
    EVENTS,
    EVENTS_RC,
    HRESULTS,
    LOG,
    MAX_EVENTS_READ,
    NAME,
    RC,
    START_VERB,
    WbadminRuns,
    baseline_of,
    baseline_step,
    events_of,
    events_step,
    interrupted,
    own_words,
    with_output,
)

MAX_VOLUMES = 100
ITEMS_SUFFIX = ".items"
LIST_SUFFIX = ".list"
STOP_SUFFIX = ".stop"

VOLUME_FILE_SYSTEMS = frozenset({"NTFS", "REFS"})
VHD_FILE_SYSTEMS = frozenset({"NTFS", "REFS", "CSVFS", "CSVFS_NTFS", "CSVFS_REFS"})

_BEFORE, _BEFORE_RC = "before.txt", "before-rc.txt"
_AFTER, _AFTER_RC = "after.txt", "after-rc.txt"
_ITEMS, _ITEMS_RC = "items.txt", "items-rc.txt"
_ALL_FILES = (BASELINE_RC, _BEFORE_RC, RC, EVENTS_RC, _AFTER_RC, BASELINE, _BEFORE, _AFTER, EVENTS)

_VOLUME_PATH = re.compile(r"\\\\\?\\Volume\{[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\}\\")
_GUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


# --- abilities ------------------------------------------------------------------------------------------------------


def capabilities(machine: Mapping[str, Any]) -> Capabilities:
    """What Windows Server Backup can do on a machine (backup-engines 1.1).

    Args:
        machine: `guest` of `guest_disk_info` or `host` of `disk_info`: `os_family`, `is_server`, `os_caption` and
            `windows_server_backup` (`installed|missing`; absent means that it was not looked for).
    """
    family = str(machine.get("os_family") or "windows")
    caption = str(machine.get("os_caption") or "this Windows")
    if family != "windows":
        return Capabilities(
            engine=NAME,
            available=False,
            kind="not_windows",
            reason=f"Windows Server Backup does not exist on {family}; choose another engine for this machine",
        )
    if machine.get("windows_server_backup") == "missing" and machine.get("is_server"):
        return Capabilities(
            engine=NAME,
            available=False,
            kind="wbadmin_missing",
            reason="Windows Server Backup is not installed there; install it with "
            "'Install-WindowsFeature Windows-Server-Backup'",
        )
    if not machine.get("is_server"):
        return Capabilities(
            engine=NAME,
            available=True,
            kind="client_windows",
            reason=f"{caption} is a client Windows, whose wbadmin can back volumes up but restore nothing",
            backs_up_volumes=True,
            file_systems=VOLUME_FILE_SYSTEMS,
        )
    return Capabilities(
        engine=NAME,
        available=True,
        backs_up_volumes=True,
        restores_volumes=True,
        backs_up_vms=True,
        restores_vms=True,
        file_systems=VOLUME_FILE_SYSTEMS,
        vhd_file_systems=VHD_FILE_SYSTEMS,
        deletes_versions=True,
        remote_vhds=False,
        application_consistent=True,
        incremental=True,
        restores_elsewhere=True,
    )


def windows_server_backup(client: MachineClient) -> str:
    """`installed` or `missing`, for machines whose view does not tell (the Hyper-V host); one query.

    The engine's service tells: wbadmin.exe may be there and unusable (backup-engines 1.1).
    """
    return "installed" if "wbengine" in services_named(client, ["wbengine"]) else "missing"


# --- command lines --------------------------------------------------------------------------------------------------


def backup_command(request: BackupRequest, target: str) -> str:
    r"""`wbadmin start backup ...` for a request. Raises `BackupError` for a request that is none.

    Volume paths keep their trailing backslash, which wbadmin demands, and stand outside quotes, where it escapes nothing.
    The VM is named by its GUID: names are not unique and may hold commas and quotes.
    """
    parts = ["wbadmin start backup", f"-backupTarget:{argument(target)}"]
    if request.phase == "host":
        if request.vm_id is None or request.volumes:
            raise BackupError("bad_request", "A host backup needs the GUID of exactly one VM, and no volumes.")
        guid = request.vm_id.strip().strip("{}")
        if not _GUID.fullmatch(guid):
            raise BackupError("bad_request", f"{request.vm_id!r} is not the GUID of a VM.")
        parts.append(f"-hyperv:{guid.upper()}")
    else:
        if not request.volumes or request.vm_id is not None:
            raise BackupError("bad_request", "A guest backup needs at least one volume, and no VM.")
        bad = next((path for path in request.volumes if not _VOLUME_PATH.fullmatch(path)), None)
        if bad is not None or len(request.volumes) > MAX_VOLUMES:
            raise BackupError(
                "bad_request",
                f"A guest backup takes at most {MAX_VOLUMES} volume GUID paths; {bad!r} is none."
                if bad is not None
                else f"A guest backup takes at most {MAX_VOLUMES} volumes, {len(request.volumes)} were named.",
            )
        parts.append("-include:" + ",".join(argument(path) for path in request.volumes))
    parts.append("-vssFull" if request.vss_backup_type == "full" else "-vssCopy")
    parts.append("-quiet")
    return " ".join(parts)


def backup_steps(request: BackupRequest, run_id: str) -> tuple[Step, ...]:
    """The steps of a backup job."""
    target = parse_target(request.target)
    place = run_target(target, request.label, run_id)
    listing = f"wbadmin get versions -backupTarget:{argument(place.text)}"
    steps = [
        baseline_step(),
        Step(command=listing, output=_BEFORE, exit_code=_BEFORE_RC),
        Step(command=backup_command(request, place.text), output=LOG, exit_code=RC),
        events_step(),
        Step(command=listing, output=_AFTER, exit_code=_AFTER_RC),
    ]
    if target.kind == "share":
        steps.insert(0, Step(command=f"md {argument(place.text)}"))
    return tuple(steps)


def items_steps(version: str, target: str) -> tuple[Step, ...]:
    return (
        Step(
            command=f"wbadmin get items -version:{version} -backupTarget:{argument(target)}",
            output=_ITEMS,
            exit_code=_ITEMS_RC,
        ),
    )


# --- judging a run --------------------------------------------------------------------------------------------------


def judge(look: JobLook, request: BackupRequest) -> Binding:
    """What a finished run proves, from its files alone. Never raises: what cannot be read is a failure with its kind."""
    failure = own_words(look)
    if failure is not None:
        return _failure(*failure)
    exit_code, said = look.exit_code(RC) or 0, last_lines(look.files.get(LOG, b""))
    try:
        baseline = baseline_of(look)
        events = events_of(look, EVENTS, EVENTS_RC)
    except EventsUnreadable as err:
        return _failure("events_unreadable", with_output(f"the event log {CHANNEL} could not be read ({err})", said))
    binding = bind_version(
        events,
        baseline=baseline,
        limit=MAX_EVENTS_READ,
        exit_code=exit_code,
        before=version_ids(look.files.get(_BEFORE, b"")),
        after=version_ids(look.files.get(_AFTER, b"")),
    )
    if binding.state != "failed":
        return binding
    meaning = HRESULTS.get(binding.hresult or 0)
    message = f"{binding.message}: {meaning}" if meaning else binding.message
    if binding.kind == "no_start_event" and exit_code != 0:
        message = f"wbadmin ended with code {exit_code} before a backup began"
        kind = "backup_not_started"
        if parse_target(request.target).kind == "share":
            message += (
                f"; it writes to {request.target} as the machine's computer account, which needs the rights on the share and "
                "its folder"
            )
    else:
        kind = binding.kind
    if request.phase == "host" and request.left_out_disks and kind in ("snapshot_failed", "backup_failed"):
        message += (
            f". The VM has {request.left_out_disks} disk(s) that a host backup leaves out, and Windows Server Backup may "
            "refuse such a VM on this host: then use engine 'export'"
        )
    return dataclasses.replace(binding, kind=kind, message=with_output(message, said))


def _failure(kind: str, message: str) -> Binding:
    return Binding(state="failed", kind=kind, message=message)


def items_found(data: bytes, request: BackupRequest) -> tuple[list[str], list[str]]:
    """What of the request stands in the items of a version, as evidence, and what does not.

    A VM by its GUID, else by its name; a volume by its GUID, else by its letter, under which wbadmin lists a volume that
    has one (backup-engines 1.3, 1.6).
    """
    if request.phase == "host":
        guid = str(request.vm_id).strip().strip("{}")
        if lists_guid(data, guid):
            return [f"VM {guid} by GUID"], []
        if request.vm_name and lists_name(data, request.vm_name):
            return [f"VM {request.vm_name!r} by name"], []
        return [], [f"VM {request.vm_name!r} ({guid})"]
    found, missing = [], []
    for path in request.volumes:
        match = _GUID.search(path)
        letter = request.volume_letters.get(path)
        if match and lists_guid(data, match[0]):
            found.append(f"{path} by GUID")
        elif letter and lists_letter(data, letter):
            found.append(f"{path} by letter {letter.rstrip(':')}:")
        else:
            missing.append(path)
    return found, missing


# --- the engine -----------------------------------------------------------------------------------------------------


class WindowsServerBackup(WbadminRuns):
    """Windows Server Backup on one machine; see `engine.Engine` and `wsb_job.WbadminRuns`."""

    def check_target(self, question: TargetQuestion) -> None:
        """See `target.check_target`. Windows Server Backup makes room by itself on a volume that holds versions of it; only
        one with a drive letter can be looked at, of another one it is not known, so that it counts as one."""
        target = parse_target(question.target)
        check_target(
            target,
            volumes=question.volumes,
            source_paths=question.source_paths,
            left_out_paths=question.left_out_paths,
            needed_bytes=question.needed_bytes,
            may_be_pruned=target.letter is None or has_folder(self._client, target.letter, VERSIONS_FOLDER),
        )

    def refusals(self, request: BackupRequest) -> Sequence[Refusal]:
        """Nothing: what Windows Server Backup makes of a VM, only the run itself tells."""
        return ()

    def start(self, run_id: str, request: BackupRequest, *, again: bool = False) -> Job:
        """Start a run, or attach to it when the machine knows its id. Tasks and folders of our backups of months ago go with it.

        Args:
            again: the run ended as `busy`, so that nothing was backed up: start it anew under its id.

        Raises: `BackupError`: `busy` when another backup runs (nothing was started), and what the command line refuses.
        """
        place = run_target(parse_target(request.target), request.label, run_id).text
        return self._begin(
            run_id,
            backup_steps(request, run_id),
            place,
            f"Backup {run_id} of {request.label}",
            again=again,
            tidying=lambda: remove_folders(self._jobs.forget_old(run_id)),
        )

    def status(self, job: Job, request: BackupRequest) -> JobStatus:
        """One look: task, files, and the log while it runs."""

        def judged(look: JobLook) -> JobStatus:
            binding = judge(look, request)
            states: dict[str, Any] = {"succeeded": "succeeded", "warning": "warning"}
            return JobStatus(state=states.get(binding.state, "failed"), kind=binding.kind, message=binding.message)

        return self._status(job, judged, _ALL_FILES)

    def result(self, job: Job, request: BackupRequest) -> BackupResult:
        """The proven outcome of a finished run; lists the items of its version by a second job and waits for that.

        Raises: `BackupError` of kind `not_finished` while the run goes on.
        """
        look = self._whole(job, _ALL_FILES)
        if not look.is_done:
            if look.is_interrupted or not look.is_known:
                return self._failed(job, "interrupted", interrupted(job.run_id), {})
            raise BackupError("not_finished", f"The run {job.run_id} has not finished yet; wait for it.")
        binding = judge(look, request)
        evidence = _evidence(look, binding)
        if binding.state == "failed" or binding.version is None:
            return self._failed(job, binding.kind, binding.message, evidence)
        items = self._items(job, binding.version)
        found, missing = items_found(items.files.get(_ITEMS, b""), request)
        evidence["items"] = found
        evidence["items_exit_code"] = items.exit_code(_ITEMS_RC)
        if not items.is_done or items.exit_code(_ITEMS_RC) != 0 or missing:
            said = last_lines(items.files.get(_ITEMS, b""))
            lacking = ", ".join(missing) or "its items"
            message = f"version {binding.version} was made, but {lacking} could not be found in it on {job.target}"
            return self._failed(job, "items_not_listed", with_output(message, said), evidence)
        consistency = _consistency(look, items, request)
        warnings = [binding.message] if binding.state == "warning" else []
        if consistency == "saved_state":
            warnings.append(f"VM {request.vm_name!r} was saved while it was backed up (offline)")
        state: Any = binding.state
        return BackupResult(
            state=state,
            run_id=job.run_id,
            engine=NAME,
            target=job.target,
            version=binding.version,
            snapshot_time=binding.backup_time,
            consistency=consistency,
            listed=True,
            kind=binding.kind,
            message=binding.message,
            warnings=tuple(warnings),
            evidence=evidence,
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

    def _items(self, job: Job, version: str) -> JobLook:
        return self._jobs.run_small(
            job.run_id + ITEMS_SUFFIX,
            items_steps(version, job.target),
            f"listing of version {version}",
            exit_code=_ITEMS_RC,
            files=[_ITEMS],
            waiting=self._waiting,
        )

    def versions(self, run_id: str, target: str) -> tuple[str, ...]:
        """Version ids on a target, as SYSTEM sees it, oldest first. `run_id` names the listing; a known one is reused."""
        text = parse_target(target).text
        step = Step(command=f"wbadmin get versions -backupTarget:{argument(text)}", output=_AFTER, exit_code=_AFTER_RC)
        look = self._jobs.run_small(
            run_id + LIST_SUFFIX,
            [step],
            f"listing of {text}",
            exit_code=_AFTER_RC,
            files=[_AFTER],
            waiting=self._waiting,
        )
        return version_ids(look.files.get(_AFTER, b""))

    def run(self, run_id: str, request: BackupRequest, waiting: Waiting) -> BackupResult:
        """Start or attach, queue behind other backups, wait for the end, and judge it.

        `waiting.timeout_s` bounds queueing and running together. Raises: `BackupError`: `busy_timeout` when the machine was
        never free, `wait_timeout` when the run goes on (a rerun attaches to it).
        """
        job = self._run_to_end(
            run_id,
            waiting,
            what=f"backup {run_id}",
            begin=lambda again: self.start(run_id, request, again=again),
            status=lambda job: self.status(job, request),
            not_begun="backup_not_started",
        )
        return self.result(job, request)

    def stop(self, job: Job) -> None:
        """Stop our own running backup; refused when it cannot be told from somebody else's.

        `wbadmin stop job` stops whatever runs, so exactly one wbadmin must run and write to this run's target.
        """
        look = self._jobs.look(job.run_id)
        if look.is_done or look.task is None or not look.task.is_active:
            return
        processes = [
            process
            for process in processes_named(self._client, ["wbadmin.exe"])
            if START_VERB.search(process.command_line)
        ]
        ours = [process for process in processes if job.target.casefold() in process.command_line.casefold()]
        if len(processes) != 1 or ours != processes:
            raise BackupError(
                "not_ours",
                f"The run {job.run_id} was not stopped: what Windows Server Backup works on now cannot be told to be it.",
            )
        self._jobs.run_small(
            job.run_id + STOP_SUFFIX,
            [Step(command="wbadmin stop job -quiet", output=LOG, exit_code=RC)],
            f"stop of {job.run_id}",
            exit_code=RC,
            files=[],
            waiting=self._waiting,
        )


def _evidence(look: JobLook, binding: Binding) -> dict[str, Any]:
    try:
        baseline: int | None = baseline_of(look)
    except EventsUnreadable:
        baseline = None
    return {
        "exit_code": look.exit_code(RC),
        "baseline_record_id": baseline,
        "start_record_id": None if binding.start is None else binding.start.record_id,
        "end_record_id": None if binding.end is None else binding.end.record_id,
        "end_event_id": None if binding.end is None else binding.end.event_id,
        "template": None if binding.start is None else binding.start.template,
        "hresult": None if binding.hresult is None else f"0x{binding.hresult:08X}",
        "logs": list(log_paths(look.files.get(LOG, b""))),
    }


def _consistency(look: JobLook, items: JobLook, request: BackupRequest) -> Consistency:
    if request.phase != "host" or not request.vm_name:
        return "unknown"
    if request.vm_state in ("off", "saved"):
        return "off"  # its caption says "offline" too, but the backup took nothing away
    # The log and the items name the VM by its caption; the events' ComponentInfo may as well.
    for data in (look.files.get(LOG, b""), look.files.get(EVENTS, b""), items.files.get(_ITEMS, b"")):
        found = consistency_of(data, request.vm_name)
        if found != "unknown":
            return found
    return "unknown"
