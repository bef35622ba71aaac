# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""wbengine: Windows Server Backup of one simulated machine, one job at a time.

The same state serves wbadmin.exe, the event log Microsoft-Windows-Backup and the schedule. A job runs in the engine, not
in the program that asked for it. Data are captured when the shadow copy is made (the first look at the job), the catalog
is written when the job ends. Not here: what wbadmin reads and prints (programs/wbadmin.py, backup_texts.py), containers
(backup_store.py), restores (backup_recovery.py), which disks of a VM are taken (vss_writer.py).
Facts: backup-engines 1.2-1.8, 1.10-1.12.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Any

from .assumed import assumed
from .backup_reports import (
    CANCELLED,
    FAILED,
    RUNNING,
    SUCCEEDED,
    WARNED,
    BackupReports,
    event_time,
    spoken,
    volume_label,
)
from .backup_store import Place, Source, Version, write_container
from .event_log import ERROR, INFORMATION, WARNING
from .file_system import ERROR_DISK_FULL, DirectoryFileSystem, FileSystemError
from .guest_memory import remember
from .processes import SYSTEM, Token
from .vss_writer import (
    HOST_COMPONENT,
    VSS_E_SNAPSHOT_SET_IN_PROGRESS,
    Component,
    Snapshot,
    VssFailure,
    component_files,
    components,
    resume,
    take_snapshot,
    undo,
)
from .windows_files import Files, join

assumed(
    "wsb-prune-last",
    "A local target that is full loses its oldest versions, but never the last one that is left",
    source="backup-engines 1.4 (oldest are dropped; whether the last may go is unknown)",
    values=("keep-last", "drop-all"),
)
assumed(
    "wsb-missing-folder",
    "A UNC target whose last folder does not exist is refused, or made",
    source="no source",
    values=("refused", "made"),
)
assumed(
    "wsb-start-event",
    "A backup that wbengine refuses before it starts writes event 19, or nothing",
    source="backup-engines 1.10 names the event, not when it comes",
    values=("event-19", "nothing"),
)
assumed(
    "wsb-target-holds-source",
    "A local target that holds files of the backup or a VHD of its VMs is refused",
    source="backup-engines 1.3 says so of volumes that are backed up as a whole; files and VMs are a guess",
    values=("refused", "allowed"),
)
assumed(
    "wsb-several-computers",
    "Without -machine a target is asked for this computer's backups, or for those of the only computer there",
    source="backup-engines 1.3 says when -machine is to be used, not what happens without it",
)
assumed(
    "wsb-failure-codes",
    "Which HRESULT a failed job has: 0x80780077 with the VSS code as detail when the snapshot fails, else the Win32 error",
    source="backup-engines 1.10 shows a few codes; which failure gives which is a guess",
)
assumed(
    "wsb-same-minute",
    "Two backups within one minute have the same version identifier, and recovery takes the newer one",
    source="backup-engines 1.5 (resolution of one minute is inferred)",
)
assumed(
    "wsb-speed",
    "A job takes one simulated minute plus its bytes at 100 MB/s",
    source="backup-engines 1.4 reports about 2 GB/min for a slow disk; any figure will do",
)
assumed(
    "wsb-unc-failure",
    "A failed run to a share leaves no version there once it has begun to write",
    source="backup-engines 1.4: it can leave none",
)

BYTES_PER_SECOND = 100_000_000

E_ACCESSDENIED = 0x80070005
E_DISK_FULL = 0x80070070
E_DEVICE_GONE = 0x800701B1
E_CANCELLED = 0x800704C7
WSB_E_FAILED = 0x807800C5
WSB_E_SHARE_ACCESS = 0x8078015B
WSB_E_NOTHING = 0x80780049
WSB_E_VSS = 0x80780077

BACKUP, RECOVERY = "backup", "recovery"


class BackupRefused(Exception):
    """A request that ends before a job begins; `key` and `values` name the text, `outcome` the exit code."""

    def __init__(self, key: str, outcome: str = "failed", **values: str) -> None:
        super().__init__(key)
        self.key = key
        self.outcome = outcome
        self.values = values


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a start backup asks for; names as on the command line."""

    target: str = ""
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    hyperv: tuple[str, ...] = ()
    all_critical: bool = False
    system_state: bool = False
    vss_full: bool = False
    user: str = ""
    password: str = ""


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where versions lie: `kind` is volume or share, `label` how outputs call it."""

    kind: str
    label: str
    text: str
    volume: Any
    place: Place


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A request that can be started."""

    request: Request
    target: Target
    volumes: tuple[Any, ...] = ()
    files: tuple[str, ...] = ()
    components: tuple[Component, ...] = ()
    bare_metal: bool = False

    def items(self) -> list[str]:
        """As "This will back up ..." prints them; one string per volume or VM."""
        found = [volume_label(volume) for volume in self.volumes]
        drives = sorted({path[:2].upper() for path in self.files})
        found += [f"({drive}) (Selected Files)" for drive in drives]
        found += [f'"{component.caption}"' for component in self.components]
        if self.request.system_state:
            found.append("System State")
        return found


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Lets the next job go wrong when it reaches `percent`; `warning` lets it complete with errors."""

    percent: int = 50
    hresult: int = WSB_E_FAILED
    detailed: int = E_DEVICE_GONE
    warning: bool = False


@dataclass
class Job:
    """One backup or recovery. `lines` are (key, values) of backup_texts.py in the order of printing."""

    kind: str
    template_id: str
    started: datetime
    steps: int
    items: list[str]
    state: str = RUNNING
    step: int = 0
    percent: int = 0
    seconds: float = 60.0
    hresult: int = 0
    detailed: int = 0
    message: str = ""
    ended: datetime | None = None
    lines: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    log_path: str = ""
    error_log_path: str = ""
    version: Version | None = None
    failed_items: list[str] = field(default_factory=list)
    outcome: str = "failed"
    begin: Callable[[Job], None] | None = None
    end: Callable[[Job], None] | None = None
    abandon: Callable[[Job], None] | None = None
    report: Callable[[Job], None] | None = None
    snapshot: Snapshot | None = None
    media: Target | None = None
    progress_key: str = "progress_backup"

    @property
    def running(self) -> bool:
        return self.state == RUNNING

    def say(self, key: str, **values: str) -> None:
        self.lines.append((key, values))


@dataclass(frozen=True, kw_only=True)
class Policy:
    """The scheduled backup: local times HH:MM and what to do."""

    schedule: tuple[str, ...]
    request: Request


def version_id(moment: datetime) -> str:
    """MM/DD/YYYY-HH:MM in UTC (backup-engines 1.5)."""
    return moment.astimezone(timezone.utc).strftime("%m/%d/%Y-%H:%M")


class WindowsBackup:
    """The engine of one machine. `fail_next`, `stuck` and `churn` are knobs for worlds and tests."""

    def __init__(self, machine: Any) -> None:
        self.machine = machine
        self.reports = BackupReports(machine)
        self.job: Job | None = None
        self.history: list[Job] = []
        self.catalog: list[Version] = []
        self.policy: Policy | None = None
        self.fail_next: Failure | None = None
        self.stuck = False
        self.fail_deletes = 0
        self.churn = 0
        self.engine_process: Any = None
        self._schedule_seen: datetime | None = None

    # -- questions -----------------------------------------------------------------------------------

    @property
    def installed(self) -> bool:
        return self.is_client or bool(self.machine.features.get("Windows-Server-Backup", False))

    @property
    def is_client(self) -> bool:
        return int(self.machine.os.product_type) == 1

    @property
    def busy(self) -> bool:
        self._notice_service()
        return self.stuck or (self.job is not None and self.job.running)

    def _notice_service(self) -> None:
        """Somebody stopped the service (Win32_Service.StopService): its job is lost, a stuck engine is free."""
        working = self.stuck or (self.job is not None and self.job.running)
        if working and self.machine.service_states.get("wbengine") == "Stopped":
            self.engine_stopped()

    def get_stuck(self) -> None:
        """From now on every request is answered with busy, until the service is stopped."""
        self.stuck = True
        self.machine.service_states["wbengine"] = "Running"

    def components(self) -> list[Component]:
        return components(self.machine)

    def find_volume(self, text: str) -> Any:
        """The volume that a letter, mount point or GUID path names, None when there is none."""
        wanted = text.rstrip("\\").lower()
        for volume in self.machine.volumes():
            if any(path.rstrip("\\").lower() == wanted for path in volume.access_paths):
                return volume
        return None

    def require_rights(self, token: Token) -> None:
        if not self.installed:
            raise BackupRefused("not_installed")
        if not token.is_backup_operator:
            raise BackupRefused("no_rights", "denied")

    # -- targets -------------------------------------------------------------------------------------

    def target(self, text: str, token: Token, *, write: bool, user: str = "", password: str = "") -> Target:
        if text.startswith("\\\\") and not text.startswith("\\\\?\\"):
            return self._share(text, token, write=write, user=user, password=password)
        volume = self.find_volume(text)
        if volume is None:
            raise BackupRefused("bad_target", target=text)
        if volume.file_system not in {"NTFS", "ReFS"}:
            raise BackupRefused("target_not_ntfs", target=text)
        label = f"{volume.letter}:" if volume.letter else volume.path
        return Target(kind="volume", label=label, text=text, volume=volume, place=Place(files=volume.files, prefix=""))

    def _share(self, text: str, token: Token, *, write: bool, user: str, password: str) -> Target:
        try:
            volume, below = self._reach(text, token, write=write, user=user, password=password)
        except FileSystemError as problem:
            raise BackupRefused("share_failed", target=text, reason=str(problem)) from problem
        if volume.file_system not in {"NTFS", "ReFS"}:
            raise BackupRefused("share_not_ntfs")
        files = volume.files
        if below and not files.exists(below):
            if not write or self.machine.world.assume("wsb-missing-folder") == "refused":
                raise BackupRefused("share_failed", target=text, reason=str(FileSystemError(3)))
            files.mkdir(below, parents=True)
        return Target(
            kind="share",
            label=text.rstrip("\\"),
            text=text,
            volume=volume,
            place=Place(files=files, prefix=below),
        )

    def _reach(self, text: str, token: Token, *, write: bool, user: str, password: str) -> tuple[Any, str]:
        if not user:
            files = Files(self.machine, token, "C:\\")
            volume, below = files.locate(text, write=write)
            return volume, below
        server = text[2:].partition("\\")[0].partition(".")[0].lower()
        owner = next((m for m in self.machine.world.machines if m.name.lower() == server), None)
        short = user.rpartition("\\")[2].lower()
        known = {name.lower(): account for name, account in owner.accounts.items()} if owner is not None else {}
        if short in known and known[short].password != password:
            raise FileSystemError(1326, text)
        found: tuple[Any, str] = self.machine.resolve(text, user, write=write)
        return found

    def versions_at(self, target: Target, computer: str = "") -> list[Version]:
        """Versions of one computer: the named one, else this one, else the only one that is there."""
        place = target.place
        found = place.computers()
        own = str(self.machine.netbios_name)
        if computer:
            names = [name for name in found if name.lower() == computer.lower()]
        elif own in found:
            names = [own]
        elif len(found) > 1:
            raise BackupRefused("several_computers", target=target.label)
        else:
            names = found
        return [version for name in names for version in place.versions(name)]

    # -- planning a backup -----------------------------------------------------------------------------

    def plan(self, request: Request, token: Token) -> Plan:
        """Everything that wbadmin checks before it asks; BackupRefused otherwise."""
        self.require_rights(token)
        if not request.target:
            raise BackupRefused("no_target")
        target = self.target(request.target, token, write=True, user=request.user, password=request.password)
        volumes, files = self._sources(request, token)
        chosen = self._chosen_components(request.hyperv)
        if request.all_critical:
            for volume in self.machine.volumes():
                if (volume.is_boot or volume.is_system) and volume not in volumes:
                    volumes.append(volume)
        for volume in volumes:
            self._check_source(volume, target)
        self._check_target(target, files, chosen)
        if not (volumes or files or chosen or request.system_state):
            raise BackupRefused("nothing_to_back_up")
        return Plan(
            request=request,
            target=target,
            volumes=tuple(volumes),
            files=tuple(files),
            components=tuple(chosen),
            bare_metal=request.all_critical,
        )

    def _sources(self, request: Request, token: Token) -> tuple[list[Any], list[str]]:
        volumes: list[Any] = []
        files: list[str] = []
        access = Files(self.machine, token, "C:\\")
        for item in request.include:
            volume = self.find_volume(item)
            if volume is not None:
                if volume not in volumes:
                    volumes.append(volume)
                continue
            if re.fullmatch(r"[A-Za-z]:\\?|\\\\\?\\Volume\{[0-9A-Fa-f-]+\}\\?", item):
                raise BackupRefused("no_volume", item=item)
            if self.is_client:
                raise BackupRefused("client_files", item=item)
            if not access.exists(item):
                raise BackupRefused("no_file", item=item)
            files.append(access.absolute(item))
        return volumes, files

    def _check_source(self, volume: Any, target: Target) -> None:
        where = volume.letter + ":" if volume.letter else volume.path
        if target.kind == "volume" and target.volume.guid == volume.guid:
            raise BackupRefused("target_is_source", target=target.label)
        if volume.locked:
            raise BackupRefused("volume_locked", item=where)
        if volume.file_system not in {"NTFS", "ReFS"}:
            raise BackupRefused("volume_not_ntfs", item=where)

    def _check_target(self, target: Target, files: list[str], chosen: list[Component]) -> None:
        """A volume that holds files of the backup, or of its VMs, cannot store it."""
        if target.kind != "volume" or self.machine.world.assume("wsb-target-holds-source") == "allowed":
            return
        volumes = [Files(self.machine, ENGINE_TOKEN, "C:\\").locate(path)[0] for path in files]
        volumes += [file.volume for component in chosen for file in _files_or_none(component)]
        if any(volume.guid == target.volume.guid for volume in volumes):
            raise BackupRefused("target_is_source", target=target.label)

    def _chosen_components(self, wanted: tuple[str, ...]) -> list[Component]:
        known = self.components()
        if wanted and not known:
            raise BackupRefused("no_component", item=wanted[0])
        chosen: list[Component] = []
        for name in wanted:
            bare = name.strip().strip("{}").lower()
            found = [c for c in known if c.identifier.lower() == bare or c.name.lower() == name.strip().lower()]
            if not found:
                raise BackupRefused("no_component", item=name)
            chosen += [component for component in found if component not in chosen]
        return chosen

    # -- running -----------------------------------------------------------------------------------------

    def new_job(self, kind: str, items: list[str]) -> Job:
        """Takes the lock; BackupRefused when another job has it."""
        if self.busy:
            raise BackupRefused("busy", "busy")
        job = Job(
            kind=kind,
            template_id="{" + self.machine.world.new_guid("backup template") + "}",
            started=self.machine.now(),
            steps=max(1, int(self.machine.world.looks_per_job)),
            items=items,
        )
        stamp = job.started.strftime("%d-%m-%Y_%H-%M-%S")
        word = "Backup" if kind == BACKUP else "Recovery"
        folder = "C:\\Windows\\Logs\\WindowsServerBackup"
        job.log_path, job.error_log_path = f"{folder}\\{word}-{stamp}.log", f"{folder}\\{word}_Error-{stamp}.log"
        self.job = job
        self.history.append(job)
        del self.history[:-100]
        self.machine.service_states["wbengine"] = "Running"
        self.engine_process = self.machine.processes.resident(
            "wbengine.exe", '"C:\\Windows\\system32\\wbengine.exe"', "C:\\Windows\\system32\\wbengine.exe"
        )
        return job

    def start_backup(self, plan: Plan) -> Job:
        try:
            job = self.new_job(BACKUP, plan.items())
        except BackupRefused:
            if self.machine.world.assume("wsb-start-event") == "event-19":
                self.reports.event(
                    19,
                    ERROR,
                    {
                        "BackupTime": event_time(self.machine.now()),
                        "BackupTarget": plan.target.label,
                        "HRESULT": self.reports.code(WSB_E_FAILED),
                    },
                )
            raise
        size = sum(volume.size - volume.free for volume in plan.volumes)
        size += sum(file.content.size for component in plan.components for file in _files_or_none(component))
        job.seconds = 60.0 + size / BYTES_PER_SECOND
        self.reports.event(
            1,
            INFORMATION,
            {
                "BackupTemplateID": job.template_id,
                "SystemStateBackup": "true" if plan.request.system_state else "false",
            },
        )
        job.say("starting_backup", target=plan.target.label)
        for _again in range(2):
            job.say("creating_shadow_copy")
        job.media = plan.target
        job.begin = lambda job: self._capture(job, plan)
        job.end = lambda job: self._commit(job, plan)
        job.abandon = lambda job: self._drop(job, plan)
        job.report = lambda job: self.reports.backup(job, plan)
        return job

    def look(self) -> None:
        """One poll: the running job makes one of its steps, simulated time passes."""
        self._notice_service()
        job = self.job
        if job is None or not job.running or self.stuck:
            return
        self.machine.world.clock.advance(job.seconds / job.steps)
        job.step += 1
        try:
            if job.snapshot is not None:
                resume(job.snapshot)
            if self.media_gone(job):
                raise JobFailed(WSB_E_FAILED, E_DEVICE_GONE, "The backup storage device is not available.")
            if job.step == 1 and job.begin is not None:
                job.begin(job)
            job.percent = 100 * job.step // job.steps
            self._progress(job)
            failure = self.fail_next
            if failure is not None and job.percent >= failure.percent:
                self.fail_next = None
                if not failure.warning:
                    raise JobFailed(failure.hresult, failure.detailed, "The backup storage device is not available.")
                job.hresult, job.detailed = failure.hresult, failure.detailed
            if job.step >= job.steps:
                if job.end is not None:
                    job.end(job)
                self.finish(job, WARNED if job.hresult else SUCCEEDED)
        except JobFailed as failed:
            self._fail(job, failed)
        except VssFailure as failed:
            self.reports.event(
                9,
                ERROR,
                {
                    "BackupStartTime": event_time(job.started),
                    "BackupSetId": job.template_id,
                    "HRESULT": self.reports.code(failed.hresult),
                },
            )
            self._fail(job, JobFailed(WSB_E_VSS, failed.hresult, str(failed)))
        except FileSystemError as problem:
            full = problem.code == ERROR_DISK_FULL
            hresult = 0x80070000 | (problem.code & 0xFFFF)
            self._fail(job, JobFailed(hresult, hresult, str(problem), "full" if full else "failed"))

    def media_gone(self, job: Job) -> bool:
        """The disk or share that the job writes to or reads from was taken away."""
        if job.media is None:
            return False
        volume = job.media.volume
        if job.media.kind == "volume":
            return self.machine.volume_by_guid(volume.guid) is None
        world = self.machine.world
        shares = [*world.shares, *(share for machine in world.machines for share in machine.shares)]
        return not any(share.present for share in shares if share.volume is volume)

    def _progress(self, job: Job) -> None:
        for item in job.items:
            name = spoken(item)
            for percent in (max(0, job.percent - 1), job.percent):
                job.say(job.progress_key, item=name, percent=str(percent))

    def finish(self, job: Job, state: str) -> None:
        job.state = state
        job.ended = self.machine.now()
        job.outcome = {SUCCEEDED: "success", WARNED: "warnings", CANCELLED: "cancelled"}.get(state, job.outcome)
        if job.snapshot is not None:
            undo(job.snapshot)
        if job.report is not None:
            job.report(job)
        self.reports.write_log(job)
        if self.engine_process is not None:
            self.machine.processes.kill(self.engine_process, 0)
            self.engine_process = None

    def _fail(self, job: Job, failed: JobFailed) -> None:
        job.hresult, job.detailed, job.message = failed.hresult, failed.detailed, str(failed)
        job.outcome = failed.outcome
        if job.abandon is not None:
            job.abandon(job)
        self.finish(job, FAILED)

    def stop_job(self) -> bool:
        """stop job: true when there was one. A cancelled job cannot go on."""
        job = self.job
        if job is None or not job.running or self.stuck:
            return False
        job.hresult, job.detailed, job.message = E_CANCELLED, E_CANCELLED, "The operation was cancelled."
        if job.abandon is not None:
            job.abandon(job)
        self.finish(job, CANCELLED)
        return True

    def engine_stopped(self) -> None:
        """The service wbengine was stopped or killed: its job is lost, a stuck engine is free again."""
        self.stuck = False
        job = self.job
        if job is not None and job.running:
            self._fail(job, JobFailed(WSB_E_FAILED, 0x800706BE, "The backup engine stopped."))
        self.machine.service_states["wbengine"] = "Stopped"

    def reboot(self) -> None:
        """The machine went down: the job is lost without an event; what it had written is no version."""
        job = self.job
        self.stuck = False
        if job is not None and job.running:
            if job.abandon is not None:
                job.abandon(job)
            if job.snapshot is not None:
                job.snapshot.resume.clear()
                undo(job.snapshot)
            job.state, job.outcome, job.ended = FAILED, "failed", self.machine.now()
        self.machine.service_states["wbengine"] = "Stopped"
        self.engine_process = None

    # -- a backup's work -----------------------------------------------------------------------------------

    def _folder(self, job: Job) -> str:
        return job.started.strftime("Backup %Y-%m-%d %H%M%S")

    def _capture(self, job: Job, plan: Plan) -> None:
        """Snapshot, then every byte goes to the target."""
        computer = str(self.machine.netbios_name)
        if self.machine.vss.pending is not None:
            raise VssFailure(VSS_E_SNAPSHOT_SET_IN_PROGRESS, "Another shadow copy creation is already in progress.")
        files = [component_files(component) for component in plan.components]
        if any(
            not found and component.name != HOST_COMPONENT
            for found, component in zip(files, plan.components, strict=True)
        ):
            raise JobFailed(WSB_E_NOTHING, WSB_E_NOTHING, "Nothing was backed up.")
        volumes = [*plan.volumes, *[file.volume for group in files for file in group]]
        volumes += [Files(self.machine, ENGINE_TOKEN, "C:\\").locate(path)[0] for path in plan.files]
        job.snapshot = take_snapshot(self.machine, volumes, list(plan.components), job.template_id, self.churn)
        place = plan.target.place
        if plan.target.kind == "share":
            place.remove(computer)
            self.catalog = [kept for kept in self.catalog if kept.target != plan.target.label]
        version = Version(
            version_id=version_id(job.started),
            time=job.started.isoformat(),
            computer=computer,
            target=plan.target.label,
            target_label=plan.target.label,
            target_kind=plan.target.kind,
            folder=self._folder(job),
            template_id=job.template_id,
            snapshot_id="{" + self.machine.world.new_guid("snapshot") + "}" if plan.target.kind == "volume" else "",
            vss_full=plan.request.vss_full,
            system_state=plan.request.system_state,
            bare_metal=plan.bare_metal,
        )
        job.version = version
        self._with_pruning(plan, computer, lambda: place.make_folder(computer, version.folder))
        for volume in plan.volumes:
            self._store(
                plan, version, volume.guid, self._volume_sources(volume), {"kind": "volume", "guid": volume.guid}
            )
            version.volumes.append(
                {
                    "name": f"{volume.letter}:" if volume.letter else volume.path,
                    "label": volume.label,
                    "guid": volume.guid,
                    "size": volume.size,
                    "file_system": volume.file_system,
                    "container": f"{volume.guid}.wsbimage",
                }
            )
        if plan.files:
            self._capture_files(job, plan, version)
        for component, found in zip(plan.components, files, strict=True):
            facts = {"kind": "vm", "caption": component.caption}
            if component.vm is not None:
                facts["configuration"] = component.vm.export_configuration()
                facts["method"] = component.method
                component.vm.last_backup = self.machine.now()
                memories = self.machine.world.guest_memories
                memories[version.template_id, component.vm.id] = remember(component.vm)
            name = component.identifier.replace(" ", "")
            sources = [Source(name=file.path, content=file.content) for file in found]
            self._store(plan, version, name, sources, facts)
            version.machines.append(
                {
                    "id": component.identifier,
                    "name": component.name,
                    "caption": component.caption,
                    "method": component.method,
                    "container": f"{name}.wsbimage",
                }
            )
        if plan.request.system_state:
            self._store(plan, version, "SystemState", [], {"kind": "system state"})

    def _volume_sources(self, volume: Any) -> list[Source]:
        if isinstance(volume.files, DirectoryFileSystem):
            return [
                Source(name=entry.path, content=volume.files.open(entry.path))
                for entry in volume.files.walk()
                if not entry.is_directory
            ]
        return [Source(name=volume.path, content=volume.content, allocated=list(volume.allocated()))]

    def _capture_files(self, job: Job, plan: Plan, version: Version) -> None:
        access = Files(self.machine, ENGINE_TOKEN, "C:\\")
        excluded = {path.lower().rstrip("\\") for path in plan.request.exclude}
        sources: list[Source] = []
        for path in plan.files:
            for found in _walk(access, path):
                if any(found.lower() == out or found.lower().startswith(out + "\\") for out in excluded):
                    continue
                volume, below = access.locate(found)
                sources.append(Source(name=found, content=volume.files.open(below)))
        for drive in sorted({path[:2].upper() for path in plan.files}):
            for key in ("identifying_files", "several_minutes", "scanning"):
                job.say(key, item=drive)
            count = sum(1 for source in sources if source.name[:2].upper() == drive)
            job.say("found_files", count=str(count))
        self._store(plan, version, "Files", sources, {"kind": "files"})
        version.files = [{"path": path, "container": "Files.wsbimage"} for path in plan.files]

    def _store(self, plan: Plan, version: Version, name: str, sources: list[Source], facts: dict[str, Any]) -> None:
        place = plan.target.place
        path = place.path(version.computer, version.folder, f"{name}.wsbimage")

        def write() -> None:
            version.size += write_container(place.files, path, sources, facts)

        self._with_pruning(plan, version.computer, write, keep=version.folder)

    def _with_pruning(self, plan: Plan, computer: str, work: Callable[[], object], keep: str = "") -> None:
        """A full local target loses its oldest versions until the work fits (backup-engines 1.4)."""
        place = plan.target.place
        while True:
            try:
                work()
                return
            except FileSystemError as problem:
                older = [version for version in place.versions(computer) if version.folder != keep]
                spare = 1 if self.machine.world.assume("wsb-prune-last") == "keep-last" else 0
                if problem.code != ERROR_DISK_FULL or plan.target.kind == "share" or len(older) <= spare:
                    raise
                self.reports.event(51, WARNING, {"VolumeName": plan.target.label})
                place.drop_version(computer, older[0])
                self.forget(older[0])

    def delete_version(self, version: Version, token: Token) -> None:
        """delete backup: the version leaves its target, the target's catalog and this machine's."""
        if self.fail_deletes > 0:
            self.fail_deletes -= 1
            raise BackupRefused("delete_failed", version=version.version_id)
        target = self.target(version.target, token, write=True)
        target.place.drop_version(version.computer, version)
        self.forget(version)

    def forget(self, version: Version) -> None:
        self.catalog = [kept for kept in self.catalog if kept.template_id != version.template_id]

    def _commit(self, job: Job, plan: Plan) -> None:
        version = job.version
        assert version is not None
        place = plan.target.place
        versions = [*place.versions(version.computer), version]
        self._with_pruning(
            plan, version.computer, lambda: place.write_catalog(version.computer, versions), keep=version.folder
        )
        self.catalog.append(version)

    def _drop(self, job: Job, plan: Plan) -> None:
        """A run that does not end well leaves no version; on a share the old one is gone as well."""
        if job.version is None or self.media_gone(job):
            return  # what was written stays where nobody can reach it; without a catalog entry it is no version
        place = plan.target.place
        if plan.target.kind == "share":
            place.remove(job.version.computer)
        else:
            place.remove(job.version.computer, job.version.folder)
        job.version = None

    # -- the schedule --------------------------------------------------------------------------------------------

    def set_policy(self, policy: Policy | None) -> None:
        self.policy = policy
        self._schedule_seen = self.machine.local_now()

    def next_backup(self) -> datetime | None:
        """Local time of the next scheduled backup."""
        if self.policy is None or self._schedule_seen is None:
            return None
        return min(self._times_after(self._schedule_seen), default=None)

    def _times_after(self, moment: datetime) -> Iterator[datetime]:
        assert self.policy is not None
        for entry in self.policy.schedule:
            hour, _unused, minute = entry.partition(":")
            time = moment.replace(hour=int(hour), minute=int(minute), second=0, microsecond=0)
            yield time if time > moment else time + timedelta(days=1)

    def tick(self) -> bool:
        """Starts the scheduled backup when its time has come; a busy engine skips it."""
        due = self.next_backup()
        if due is None or self.machine.local_now() < due or self.policy is None:
            return False
        self._schedule_seen = self.machine.local_now()
        try:
            request = replace(self.policy.request)
            self.start_backup(self.plan(request, ENGINE_TOKEN))
        except BackupRefused:
            return False
        return True


class JobFailed(Exception):
    def __init__(self, hresult: int, detailed: int, message: str, outcome: str = "failed") -> None:
        super().__init__(message)
        self.hresult = hresult
        self.detailed = detailed
        self.outcome = outcome


ENGINE_TOKEN = SYSTEM


def _files_or_none(component: Component) -> list[Any]:
    try:
        return list(component_files(component))
    except VssFailure:
        return []


def _walk(access: Files, path: str) -> Iterator[str]:
    if "*" in path:
        for found in access.matching(path):
            if not access.is_folder(found):
                yield found
    elif not access.is_folder(path):
        yield path
    else:
        for entry in access.listdir(path):
            yield from _walk(access, join(path, entry.name))
