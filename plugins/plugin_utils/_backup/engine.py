# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""What a backup engine is to the rest of the collection: its abilities, a request, a job, a result.

Responsible for the contract and the table of engines by name. Not responsible for how an engine works (`wsb.py`), for
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class BackupRequest:
    """One backup of one machine: volumes of a guest, or one VM of a host (never both; one VM per job).

    Attributes:
        target: where to, as the operator wrote it (`E:`, `\\\\?\\Volume{guid}\\` or `\\\\server\\share[\\folder]`).
        label: the VM's or computer's name, for the folder on a share and for messages.
        volumes: volume GUID paths (guest phase).
        vm_id, vm_name, vm_state: of the VM (host phase), the state right before the backup.
        left_out_disks: how many disks of the VM the host's backup leaves out; only makes messages more helpful.
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
    """

    name: str

    def capabilities(self, machine: Mapping[str, Any]) -> Capabilities: ...

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
    """

    kind: Literal["vm", "volume"]
    version: str
    target: str
    machine: str
    item: str
    label: str
    onto: str | None = None


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


class RestoreEngine(Protocol):
    """The restoring half of a backup engine, bound to one machine; runs are found again by their run id."""

    name: str

    def start(self, run_id: str, request: RestoreRequest, *, again: bool = False) -> Job: ...

    def status(self, job: Job, request: RestoreRequest) -> JobStatus: ...

    def result(self, job: Job, request: RestoreRequest) -> RestoreResult: ...

    def run(self, run_id: str, request: RestoreRequest, waiting: Waiting) -> RestoreResult: ...

    def listing(
        self, run_id: str, target: str, machine: str, *, version: str | None = None, items: Mapping[str, str] = ...
    ) -> TargetListing: ...


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


class EngineTable:
    """Engines by name; a factory makes one for a machine."""

    def __init__(self, factories: Mapping[str, Callable[..., Engine]]) -> None:
        self._factories = dict(factories)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self._factories))

    def factory(self, name: str) -> Callable[..., Engine]:
        """The factory of that name. Raises `BackupError` (kind `unknown_engine`) that lists the names there are."""
        try:
            return self._factories[name]
        except KeyError:
            raise BackupError(
                "unknown_engine", f"There is no backup engine {name!r}; choose one of: {', '.join(self.names)}."
            ) from None
