# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""What a backup engine is to the rest of the collection: its abilities, a request, a job, a result.

Responsible for the contract. Not responsible for which engines there are (`engines.py`), for how one works (`wsb.py`), for
which disk is captured by whom (`coverage.py`) or for what is remembered (`backup_set.py`).

An engine is found again by its run id alone: `start` with a run id that is already known attaches to that run and never
starts a second one. Waiting belongs to the caller: `status` looks once, `wait_for` loops over the caller's callbacks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, Protocol

from .errors import BackupError

Phase = Literal["guest", "host"]
JobState = Literal["pending", "running", "succeeded", "warning", "failed"]
RunState = Literal["unknown", "pending", "running", "ended", "interrupted"]
Consistency = Literal["online", "saved_state", "off", "unknown"]
VssBackupType = Literal["copy", "full"]

FINISHED: frozenset[str] = frozenset({"succeeded", "warning", "failed"})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What an engine can do on one machine.

    Attributes:
        engine: the engine's name.
        available: whether it can run there at all; `reason` is the sentence when it cannot.
        kind: machine word for `reason`, such as `wbadmin_missing`.
        file_systems: of volumes that it can back up AND restore, upper case.
        vhd_file_systems: of host volumes whose virtual hard disks a VM backup takes, upper case.
        remote_vhds: whether a VM backup takes virtual hard disks on an SMB share.
        checkpoints: whether a VM backup can take a VM that has checkpoints of its own.
        application_consistent: whether applications in the VM or machine are asked to flush before the snapshot.
        incremental: whether a further backup to the same target stores only what has changed.
        needs_vm_off: whether a running VM cannot be backed up.
        concurrent: whether several VMs of one host can be backed up at once; else the role holds the host's backup slot.
        restores_elsewhere: whether a version can be restored on another machine than the one that made it.
        deletes_versions: whether single versions can be deleted, at least on some targets; `RestoreEngine.why_kept` says which.
        restores_beside: whether a restore completes its new files beside the old ones, so that it needs room for both.
    """

    engine: str
    available: bool
    kind: str = ""
    reason: str = ""
    backs_up_volumes: bool = False
    restores_volumes: bool = False
    backs_up_vms: bool = False
    restores_vms: bool = False
    file_systems: frozenset[str] = frozenset()
    vhd_file_systems: frozenset[str] = frozenset()
    remote_vhds: bool = False
    checkpoints: bool = True
    application_consistent: bool = False
    incremental: bool = False
    needs_vm_off: bool = False
    concurrent: bool = False
    restores_elsewhere: bool = False
    restores_beside: bool = False
    deletes_versions: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workplace:
    """The machine an engine works on and the hands it works with; a factory makes an engine out of it.

    Attributes:
        client: `_wsman.WsmanClient` of that machine.
        waiting: for small steps (minutes); `should_stop` raises when this run may change nothing more: ask it right before
            every changing call. `run` gets its own `Waiting` with the caller's `wait_timeout`.
        options: what the engine's own option parser made of `engine_options`.
        new_id: makes an upper-case GUID; for names that need not be found again.
    """

    client: Any
    waiting: Waiting
    options: Any
    new_id: Callable[[], str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TargetQuestion:
    """What an engine is asked to refuse a target by, before a run starts; see `target.check_target`."""

    target: str
    volumes: Sequence[Mapping[str, Any]]
    source_paths: Sequence[str] = ()
    left_out_paths: Sequence[str] = ()
    needed_bytes: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class BackupRequest:
    """One backup of one machine: volumes of a guest, or one VM of a host (never both; one VM per job).

    Attributes:
        target: where to, as the operator wrote it (`E:`, `\\\\?\\Volume{guid}\\` or `\\\\server\\share[\\folder]`).
        label: the VM's or computer's name, for the folder on a share and for messages.
        volumes: volume GUID paths (guest phase).
        vm_id, vm_name, vm_state: of the VM (host phase), the state right before the backup.
        left_out_disks: how many disks of the VM the host's backup leaves out.
        vm: the VM's entry of `disk_info` as it is now, with details of its virtual hard disks (host phase).
        covered: a plan was given in which every disk of the VM is captured by a phase or accepted as a gap (host phase).
    """

    phase: Phase
    target: str
    label: str
    volumes: Sequence[str] = ()
    volume_letters: Mapping[str, str] = dataclasses.field(default_factory=dict)
    vm_id: str | None = None
    vm_name: str | None = None
    vm_state: str | None = None
    vss_backup_type: VssBackupType = "copy"
    left_out_disks: int = 0
    vm: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    covered: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """A run on a machine. `attached` is true when it was already there and nothing was started."""

    run_id: str
    engine: str
    target: str  # the place this run writes to: for shares a folder of its own
    attached: bool = False

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class JobStatus:
    """What one look at a job showed. `kind` and `message` explain a failure or what it waits for."""

    state: JobState
    percent: int | None = None
    message: str = ""
    kind: str = ""

    @property
    def is_finished(self) -> bool:
        return self.state in FINISHED


@dataclasses.dataclass(frozen=True, kw_only=True)
class BackupResult:
    """The outcome of a finished run; `version` is None unless it is proven to be this run's.

    Attributes:
        state: `succeeded`, `warning` (a version exists, but the engine says that it is not whole) or `failed`.
        snapshot_time: of the version, on the machine's own clock, UTC.
        consistency: of the VM: `online`; `saved_state` when the backup had to save it; `off` when it did not run anyway.
        listed: the version and its items were read back from the target in the context that a restore uses.
        evidence: JSON types only; what proves `version` (event record ids, texts found, exit code).
    """

    state: JobState
    run_id: str
    engine: str
    target: str
    version: str | None = None
    snapshot_time: datetime | None = None
    consistency: Consistency = "unknown"
    listed: bool = False
    kind: str = ""
    message: str = ""
    warnings: Sequence[str] = ()
    evidence: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        data = dataclasses.asdict(self)
        data["snapshot_time"] = None if self.snapshot_time is None else self.snapshot_time.isoformat()
        data["warnings"] = list(self.warnings)
        data["evidence"] = dict(self.evidence)
        return data


@dataclasses.dataclass(frozen=True, kw_only=True)
class Waiting:
    """The caller's hands while something is waited for. Nothing here reads a clock or sleeps by itself.

    Attributes:
        sleep: waits that many seconds.
        now: seconds of a monotonic clock.
        progress: shows one line.
        should_stop: called before every look; raises to end the wait (a lost lease, a dead controller).
    """

    sleep: Callable[[float], None]
    now: Callable[[], float]
    progress: Callable[[str], None] = lambda line: None
    should_stop: Callable[[], None] = lambda: None
    poll_s: float = 10.0
    timeout_s: float = 86400.0


class Engine(Protocol):
    """A backup engine bound to one machine.

    Errors are `BackupError` (of the engine) or those of `_wsman` (of the connection).

    `known` tells by the run id alone what the machine knows of a run. `is_busy` names what has to end before a run may
    start, as texts for a message; always empty for an engine that is `concurrent`. `check_target` raises `TargetRefused`.
    `refusals` are further findings against this very backup, read only; check mode asks them too. `stop` leaves alone what
    has ended or never was; a job that would do harm when it is broken off is refused (`BackupError` `not_stoppable`).
    """

    name: str

    def known(self, run_id: str) -> RunState: ...

    def is_busy(self) -> Sequence[str]: ...

    def check_target(self, question: TargetQuestion) -> None: ...

    def refusals(self, request: BackupRequest) -> Sequence[Refusal]: ...

    def start(self, run_id: str, request: BackupRequest) -> Job: ...

    def status(self, job: Job, request: BackupRequest) -> JobStatus: ...

    def result(self, job: Job, request: BackupRequest) -> BackupResult: ...

    def run(self, run_id: str, request: BackupRequest, waiting: Waiting) -> BackupResult: ...

    def versions(self, run_id: str, target: str) -> Sequence[str]: ...

    def stop(self, job: Job) -> None: ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class RestoreRequest:
    """One restore onto one machine: a VM of a host, or one volume of a guest (an engine restores one thing per job).

    Attributes:
        version: the engine's version id.
        target: the place the version lies in, as the backup's record names it (on a share the run's own folder).
        machine: computer name of the machine that made the version.
        item: GUID of the VM; or the volume as the version lists it, its letter (`S:`) or GUID path.
        onto: of a volume: GUID path of the volume that is overwritten.
        label: the VM's or volume's name, for messages.
        vm: of a VM: what the set recorded of it (`name`, `generation`, `configuration`, `network_adapters`, ...).
        disks: of a VM: the set's rows of its disks (`coverage`, `slot`, `evidence.host.path`, ...).
        evidence: what the backup's engine recorded as evidence of the version.
        replace: a VM with this GUID that is on the machine may be destroyed: its overwriting was permitted by name and its
            configuration was exported. The engine does that itself, as late as it can; without it a VM that is there is a
            failure.
    """

    kind: Literal["vm", "volume"]
    version: str
    target: str
    machine: str
    item: str
    label: str
    onto: str | None = None
    vm: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    disks: Sequence[Mapping[str, Any]] = ()
    evidence: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    replace: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why an engine cannot do a backup or restore, as a finding of the preflight."""

    kind: str
    sentence: str
    accept_with: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class RestoreResult:
    """The outcome of a finished restore. Only `succeeded` means that all of it was restored, as far as the engine tells;
    what is there afterwards has to be looked at by the caller. `evidence`: JSON types only."""

    state: JobState
    run_id: str
    engine: str
    version: str
    kind: str = ""
    message: str = ""
    evidence: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "evidence": dict(self.evidence)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TargetListing:
    """What a target holds, as the account sees it that a restore uses.

    Attributes:
        versions: version ids, oldest first; None when the target could not be listed, `reason` says why.
        items: whether the asked item stands in the asked version, and as what it has to be named; None when not found.
    """

    versions: tuple[str, ...] | None
    reason: str = ""
    items: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Deletion:
    """What became of one version that was to be deleted: `deleted`, `gone` (it was not there any more), or `kept`, with the
    sentence why: it could not be proven to be ours, or the engine failed."""

    state: Literal["deleted", "gone", "kept"]
    reason: str = ""


class RestoreEngine(Protocol):
    """The restoring half of a backup engine, bound to one machine; runs are found again by their run id.

    `known` and `is_busy` as in `Engine`. `refusals` are findings of its own, read only; check mode asks it too. `listing`
    leaves nothing behind on the machine; `run_id` is new each time.

    `why_kept` is why a version on that target can never be deleted by itself, empty when it can; nothing is asked of the
    machine. `delete` deletes the version that the run `run_id` made, after it has been proven to be that version and nothing
    else; deleting it again is a success.
    """

    name: str

    def known(self, run_id: str) -> RunState: ...

    def is_busy(self) -> Sequence[str]: ...

    def refusals(self, request: RestoreRequest) -> Sequence[Refusal]: ...

    def start(self, run_id: str, request: RestoreRequest, *, again: bool = False) -> Job: ...

    def status(self, job: Job, request: RestoreRequest) -> JobStatus: ...

    def result(self, job: Job, request: RestoreRequest) -> RestoreResult: ...

    def run(self, run_id: str, request: RestoreRequest, waiting: Waiting) -> RestoreResult: ...

    def listing(
        self, run_id: str, target: str, machine: str, *, version: str | None = None, items: Mapping[str, str] = ...
    ) -> TargetListing: ...

    def why_kept(self, target: str) -> str: ...

    def delete(self, run_id: str, version: str, target: str, machine: str) -> Deletion: ...


def wait_for(look: Callable[[], JobStatus], waiting: Waiting, *, what: str) -> JobStatus:
    """Look until the job is finished or the time is over; progress is shown when it changed.

    Returns the last status, which is unfinished when `timeout_s` is over: the job goes on and can be attached to again.
    """
    began = waiting.now()
    shown: tuple[str, int | None, str] | None = None
    while True:
        waiting.should_stop()
        status = look()
        if status.is_finished:
            return status
        line = (status.state, status.percent, status.message)
        if line != shown:
            percent = "" if status.percent is None else f" {status.percent} %"
            detail = f": {status.message}" if status.message else ""
            waiting.progress(f"{what} {status.state}{percent}{detail}")
            shown = line
        if waiting.now() - began >= waiting.timeout_s:
            return status
        waiting.sleep(waiting.poll_s)


def check_vss_backup_types(guest: str, host: str) -> None:
    """Refuse `full` in both phases: each would tell the applications that it is their backup."""
    for value in (guest, host):
        if value not in ("copy", "full"):
            raise BackupError("bad_option", f"vss_backup_type is {value!r}; it must be 'copy' or 'full'.")
    if guest == host == "full":
        raise BackupError(
            "full_in_both_phases",
            "vss_backup_type is full for guest and host, so that both would truncate the applications' logs; "
            "use full in one phase at most.",
        )
