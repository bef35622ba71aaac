# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Volume Shadow Copy Service of one simulated machine: providers, writers, shadow copy sets, their storage and exposure.

One set is created at a time: `start_set` (PrepareForBackup .. StartSnapshotSet), `commit` (DoSnapshotSet, PostSnapshot) or
`abort`. The requester is programs/diskshadow.py or Win32_ShadowCopy.Create (shadow_copies.py). Not here: bytes
(shadow_volumes.py), what the Hyper-V writer takes of a VM (vss_writer.py), transport, break and revert (shadow_transport.py).
Facts: backup-engines 2, 3; windows-storage 5 (Win32_ShadowCopy, diff area); vss.h for the codes.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from .assumed import assumed
from .file_system import FileSystemError
from .shadow_volumes import CopyOnWrite, ShadowVolume, freeze
from .volumes import Volume
from .vss_writer import (
    HOST_COMPONENT,
    VSS_E_INSUFFICIENT_STORAGE,
    VSS_E_SNAPSHOT_SET_IN_PROGRESS,
    VSS_E_VOLUME_NOT_SUPPORTED,
    WRITER_ID,
    WRITER_NAME,
    Component,
    Snapshot,
    VssFailure,
    component_volumes,
    components,
    minimum_diff_area,
    prepare_components,
    undo,
)
from .world import Share

SYSTEM_PROVIDER = "{b5946137-7b9f-4925-af80-51abd60b20d5}"
MAXIMUM_COPIES, MAXIMUM_CLIENT_ACCESSIBLE, MAXIMUM_VOLUMES = 512, 64, 64

VSS_E_BAD_STATE = 0x80042301
VSS_E_PROVIDER_NOT_REGISTERED = 0x80042304
VSS_E_PROVIDER_VETO = 0x80042306
VSS_E_OBJECT_NOT_FOUND = 0x80042308
VSS_E_OBJECT_ALREADY_EXISTS = 0x8004230D
VSS_E_VOLUME_NOT_SUPPORTED_BY_PROVIDER = 0x8004230E
VSS_E_MAXIMUM_NUMBER_OF_VOLUMES_REACHED = 0x80042312
VSS_E_MAXIMUM_NUMBER_OF_SNAPSHOTS_REACHED = 0x80042317
VSS_E_NO_SNAPSHOTS_IMPORTED = 0x80042320
VSS_E_VOLUME_IN_USE = 0x8004231D
E_INVALIDARG = 0x80070057

CODES: dict[str, int] = {
    "VSS_E_BAD_STATE": VSS_E_BAD_STATE,
    "VSS_E_UNEXPECTED": 0x80042302,
    "VSS_E_PROVIDER_NOT_REGISTERED": VSS_E_PROVIDER_NOT_REGISTERED,
    "VSS_E_PROVIDER_VETO": VSS_E_PROVIDER_VETO,
    "VSS_E_OBJECT_NOT_FOUND": VSS_E_OBJECT_NOT_FOUND,
    "VSS_E_VOLUME_NOT_SUPPORTED": VSS_E_VOLUME_NOT_SUPPORTED,
    "VSS_E_OBJECT_ALREADY_EXISTS": VSS_E_OBJECT_ALREADY_EXISTS,
    "VSS_E_VOLUME_NOT_SUPPORTED_BY_PROVIDER": VSS_E_VOLUME_NOT_SUPPORTED_BY_PROVIDER,
    "VSS_E_UNEXPECTED_PROVIDER_ERROR": 0x8004230F,
    "VSS_E_MAXIMUM_NUMBER_OF_VOLUMES_REACHED": VSS_E_MAXIMUM_NUMBER_OF_VOLUMES_REACHED,
    "VSS_E_FLUSH_WRITES_TIMEOUT": 0x80042313,
    "VSS_E_HOLD_WRITES_TIMEOUT": 0x80042314,
    "VSS_E_UNEXPECTED_WRITER_ERROR": 0x80042315,
    "VSS_E_SNAPSHOT_SET_IN_PROGRESS": VSS_E_SNAPSHOT_SET_IN_PROGRESS,
    "VSS_E_MAXIMUM_NUMBER_OF_SNAPSHOTS_REACHED": VSS_E_MAXIMUM_NUMBER_OF_SNAPSHOTS_REACHED,
    "VSS_E_WRITER_INFRASTRUCTURE": 0x80042318,
    "VSS_E_WRITER_NOT_RESPONDING": 0x80042319,
    "VSS_E_VOLUME_IN_USE": VSS_E_VOLUME_IN_USE,
    "VSS_E_INSUFFICIENT_STORAGE": VSS_E_INSUFFICIENT_STORAGE,
    "VSS_E_NO_SNAPSHOTS_IMPORTED": VSS_E_NO_SNAPSHOTS_IMPORTED,
    "VSS_E_REVERT_IN_PROGRESS": 0x80042325,
    "VSS_E_WRITERERROR_PARTIAL_FAILURE": 0x80042336,
    "VSS_E_WRITERERROR_INCONSISTENTSNAPSHOT": 0x800423F0,
    "VSS_E_WRITERERROR_OUTOFRESOURCES": 0x800423F1,
    "VSS_E_WRITERERROR_TIMEOUT": 0x800423F2,
    "VSS_E_WRITERERROR_RETRYABLE": 0x800423F3,
    "VSS_E_WRITERERROR_NONRETRYABLE": 0x800423F4,
    "E_ACCESSDENIED": 0x80070005,
    "E_INVALIDARG": E_INVALIDARG,
}
"""vss.h and vswriter.h."""

STABLE, WAITING_FOR_BACKUP_COMPLETE = 1, 5
FAILED_AT_PREPARE_SNAPSHOT, FAILED_AT_FREEZE, FAILED_AT_POST_SNAPSHOT = 8, 9, 11
WRITER_STATES = {
    1: "VSS_WS_STABLE",
    2: "VSS_WS_WAITING_FOR_FREEZE",
    3: "VSS_WS_WAITING_FOR_THAW",
    4: "VSS_WS_WAITING_FOR_POST_SNAPSHOT",
    5: "VSS_WS_WAITING_FOR_BACKUP_COMPLETE",
    7: "VSS_WS_FAILED_AT_PREPARE_BACKUP",
    8: "VSS_WS_FAILED_AT_PREPARE_SNAPSHOT",
    9: "VSS_WS_FAILED_AT_FREEZE",
    10: "VSS_WS_FAILED_AT_THAW",
    11: "VSS_WS_FAILED_AT_POST_SNAPSHOT",
    12: "VSS_WS_FAILED_AT_BACKUP_COMPLETE",
}

STAGES = ("add", "prepare", "commit", "post", "expose", "delete", "import", "complete")
"""Where a planned failure strikes: AddToSnapshotSet, PrepareForBackup, DoSnapshotSet, PostSnapshot, and the other calls."""

assumed(
    "vss-full-diff-area",
    "When a volume's diff area can grow no more its oldest shadow copies are deleted, or all of them",
    source="volsnap's event texts name both (33: the oldest at the limit; 25, 35, 36: all); which comes when is a guess",
    values=("oldest-deleted", "all-deleted"),
)
assumed(
    "vss-diff-area-limit",
    "A volume without configured shadow storage may use a tenth of itself",
    source="the default of vssadmin and the backup documentation; the figure for each version is not in the facts",
)
assumed(
    "vss-expose-volatile",
    "Exposing a volatile shadow copy is refused, or works until the requester ends",
    source="backup-engines 2: expose is documented for persistent shadow copies",
    values=("refused", "works"),
)
assumed(
    "vss-missing-end-backup",
    "What a backup session without BackupComplete leaves: writers that wait, or a recovery checkpoint of each VM as well",
    source="backup-engines 2 (the note), 3.2; leftover .avhdx files are a common report, their cause is not documented",
    values=("waiting-writers", "recovery-checkpoints"),
)
assumed(
    "vss-interrupted-creation",
    "A machine that goes down while a shadow copy set is created has nothing of it afterwards",
    source="no source",
)
assumed(
    "vss-hyperv-noautorecover",
    "With noautorecover the Hyper-V writer refuses VMs that run, or their files are only crash-consistent",
    source="backup-engines 2, 3.2: auto-recovery is required",
    values=("refused", "crash-consistent"),
)


class VssError(Exception):
    """A call of the VSS API that fails: `call` names it, `hresult` as in vss.h, the text says what was wrong."""

    def __init__(self, call: str, hresult: int, text: str = "") -> None:
        super().__init__(text)
        self.call = call
        self.hresult = hresult

    @property
    def name(self) -> str:
        return next((name for name, code in CODES.items() if code == self.hresult), f"0x{self.hresult:08x}")


@dataclass(frozen=True, kw_only=True)
class Provider:
    """A registered provider; `luns` (ids of LUNs) and `letters` say what a hardware provider supports, "*" is everything."""

    id: str
    name: str
    kind: str = "hardware"
    version: str = "1.0.0.0"
    class_id: str = ""
    luns: tuple[str, ...] = ()
    letters: tuple[str, ...] = ()

    def supports(self, volume: Volume) -> bool:
        if self.kind == "system":
            return volume.file_system in {"NTFS", "ReFS"}
        lun = volume.disk.lun
        letter = volume.letter or ""
        return "*" in self.luns or (lun is not None and lun.id in self.luns) or letter in self.letters


SYSTEM = Provider(
    id=SYSTEM_PROVIDER,
    name="Microsoft Software Shadow Copy provider 1.0",
    kind="system",
    version="1.0.0.7",
    class_id="{65ee1dba-8ff4-4a58-ac1c-3470ee2f376a}",
)


@dataclass(frozen=True, kw_only=True)
class Writer:
    id: str
    name: str
    component: str


_SYSTEM_WRITERS = (
    Writer(id="d61d61c8-d73a-4eee-8cdd-f6f9786b7124", name="Task Scheduler Writer", component="\\TasksStore"),
    Writer(
        id="75dfb225-e2e4-4d39-9ac9-ffaff65ddf06", name="VSS Metadata Store Writer", component="\\WriterMetadataStore"
    ),
    Writer(
        id="0bada1de-01a9-4625-8278-69e735f39dd2", name="Performance Counters Writer", component="\\PerformanceCounters"
    ),
    Writer(id="e8132975-6f93-4464-a53e-1050253ae220", name="System Writer", component="\\System Files"),
    Writer(id="afbab4a2-367d-4d15-a586-71dbb18f8485", name="Registry Writer", component="\\Registry"),
    Writer(id="542da469-d3e1-473c-9f4f-7847f01fc64f", name="COM+ REGDB Writer", component="\\COM+ REGDB"),
    Writer(id="a6ad56c2-b509-4e6c-bb19-49d8f43532f0", name="WMI Writer", component="\\WMI"),
)
HYPERV_WRITER = Writer(id=WRITER_ID, name=WRITER_NAME, component="")


@dataclass(frozen=True, kw_only=True)
class SetOptions:
    """Context and options of a shadow copy set; `full` is a backup that the writers are told the end of."""

    persistent: bool = False
    no_writers: bool = False
    client_accessible: bool = False
    transportable: bool = False
    plex: bool = False
    rollback_recover: bool = False
    txf_recover: bool = False
    no_auto_recover: bool = False
    full: bool = False

    @property
    def stays(self) -> bool:
        return self.persistent or self.client_accessible


@dataclass
class WriterStatus:
    state: int = STABLE
    failure: int = 0


@dataclass(frozen=True, kw_only=True)
class Exposure:
    """`kind` letter, folder or share; `name` as Windows prints it."""

    kind: str
    name: str


@dataclass
class ShadowCopy:
    """One shadow copy. `components`: by VM GUID its name, the writer's method and how consistent its files are."""

    id: str
    set_id: str
    number: int
    count: int
    created: datetime
    origin_guid: str
    origin_path: str
    origin_names: list[str]
    provider: Provider
    options: SetOptions
    originating: str
    service: str
    bytes_at: Path
    volume: ShadowVolume | None
    components: dict[str, dict[str, Any]] = field(default_factory=dict)
    exposed: Exposure | None = None
    imported: bool = False
    allocated: int = 0
    cost: CopyOnWrite | None = None
    requester: Any = None

    @property
    def device(self) -> str:
        return f"\\\\?\\GLOBALROOT\\Device\\HarddiskVolumeShadowCopy{self.number}"

    @property
    def surfaced(self) -> bool:
        return self.volume is not None

    @property
    def used(self) -> int:
        return self.cost.used if self.cost is not None else 0

    @property
    def attributes(self) -> list[str]:
        """As diskshadow prints them."""
        options = self.options
        words = {
            "No_Auto_Release": options.stays,
            "Persistent": options.stays,
            "Client_Accessible": options.client_accessible,
            "No_Writers": options.no_writers or options.client_accessible,
            "Transportable": options.transportable,
            "Not_Surfaced": not self.surfaced,
            "Hardware_Assisted": self.provider.kind == "hardware",
            "Differential": not options.plex,
            "Plex": options.plex,
            "Imported": self.imported,
            "Exposed_Locally": self.exposed is not None and self.exposed.kind != "share",
            "Exposed_Remotely": self.exposed is not None and self.exposed.kind == "share",
            "Auto_Recover": options.rollback_recover,
        }
        return [word for word, given in words.items() if given]


@dataclass
class PendingSet:
    """A set that is being created: writers are prepared, nothing is frozen yet."""

    id: str
    volumes: list[tuple[Volume, Provider]]
    options: SetOptions
    chosen: list[Component]
    writers: list[Writer]
    excluded: list[tuple[Component, str]]
    snapshot: Snapshot
    requester: Any


@dataclass
class PlannedVssFailure:
    """The next `count` calls of a stage fail with a code; `letter` limits it to a volume."""

    stage: str
    hresult: int
    text: str = ""
    count: int = 1
    letter: str = ""


@dataclass(frozen=True, kw_only=True)
class Unnotified:
    """A full backup whose writers were never told that it is complete."""

    set_id: str
    since: datetime
    machines: tuple[str, ...]


class VolumeShadowService:
    """VSS of one machine. `failures`, `extra_providers` and `churn` are knobs for worlds and tests."""

    def __init__(self, machine: Any) -> None:
        self.machine = machine
        self.extra_providers: list[Provider] = []
        self.failures: list[PlannedVssFailure] = []
        self.absent_writers: set[str] = set()
        self.churn = 0
        self.copies: list[ShadowCopy] = []
        self.pending: PendingSet | None = None
        self.status: dict[str, WriterStatus] = {}
        self.unnotified: dict[str, Unnotified] = {}
        self._numbers: dict[str, int] = {}

    # -- questions --------------------------------------------------------------------------------------

    def providers(self) -> list[Provider]:
        return [*self.extra_providers, SYSTEM]

    def writers(self) -> list[Writer]:
        hyperv = [HYPERV_WRITER] if self.machine.kind == "host" and self.machine.role_present else []
        return [writer for writer in (*_SYSTEM_WRITERS, *hyperv) if writer.id not in self.absent_writers]

    def writer_status(self, writer: Writer) -> WriterStatus:
        return self.status.setdefault(writer.id, WriterStatus())

    def present(self) -> list[ShadowCopy]:
        """Shadow copies that can be seen now, oldest first: those of the system provider need their volume."""
        return [
            copy
            for copy in self.copies
            if copy.provider.kind == "hardware" or self.machine.volume_by_guid(copy.origin_guid) is not None
        ]

    def find(self, identifier: str) -> ShadowCopy | None:
        wanted = identifier.strip("{}").lower()
        return next((copy for copy in self.present() if copy.id == wanted), None)

    def of_set(self, identifier: str) -> list[ShadowCopy]:
        wanted = identifier.strip("{}").lower()
        return [copy for copy in self.present() if copy.set_id == wanted]

    def of_volume(self, guid: str) -> list[ShadowCopy]:
        return [copy for copy in self.present() if copy.origin_guid == guid]

    def exposed_volumes(self) -> list[ShadowVolume]:
        """Shadow copies with a letter or a folder, as volumes of the machine."""
        return [
            copy.volume
            for copy in self.present()
            if copy.volume is not None and copy.exposed is not None and copy.exposed.kind != "share"
        ]

    def device_volume(self, number: int) -> ShadowVolume | None:
        return next((copy.volume for copy in self.present() if copy.number == number), None)

    def device_number(self, key: str) -> int:
        """The N of HarddiskVolumeShadowCopyN, given once and never again."""
        if key not in self._numbers:
            self._numbers[key] = len(self._numbers) + 1
        return self._numbers[key]

    def used_space(self, volume_guid: str) -> tuple[int, int]:
        """(allocated, used) bytes of the diff area of a volume."""
        copies = [copy for copy in self.copies if copy.origin_guid == volume_guid]
        return sum(copy.allocated for copy in copies), sum(copy.used for copy in copies)

    # -- choosing ----------------------------------------------------------------------------------------

    def provider_for(self, volume: Volume, wanted: str, options: SetOptions) -> Provider:
        """AddToSnapshotSet: the provider asked for, or hardware before the system provider (backup-engines 2)."""
        call = "AddToSnapshotSet"
        self.fail_if_planned("add", call, volume)
        known = self.providers()
        if wanted:
            known = [p for p in known if p.id.strip("{}").lower() == wanted.strip("{}").lower()]
            if not known:
                raise VssError(call, VSS_E_PROVIDER_NOT_REGISTERED, f"No provider {wanted} is registered.")
        able = [p for p in known if p.supports(volume) and not (options.transportable and p.kind == "system")]
        if not able:
            code = VSS_E_VOLUME_NOT_SUPPORTED_BY_PROVIDER if wanted else VSS_E_VOLUME_NOT_SUPPORTED
            raise VssError(call, code, f"{volume.letter or volume.path} is not supported.")
        limit = MAXIMUM_CLIENT_ACCESSIBLE if options.client_accessible else MAXIMUM_COPIES
        if able[0].kind == "system" and len(self.of_volume(volume.guid)) >= limit:
            raise VssError(call, VSS_E_MAXIMUM_NUMBER_OF_SNAPSHOTS_REACHED)
        return able[0]

    def fail_if_planned(self, stage: str, call: str, volume: Volume | None = None) -> None:
        for plan in self.failures:
            if plan.stage != stage or plan.count <= 0:
                continue
            if plan.letter and (volume is None or volume.letter != plan.letter):
                continue
            plan.count -= 1
            raise VssError(call, plan.hresult, plan.text)

    def choose_components(
        self, volumes: Iterable[Volume], excluded: set[str]
    ) -> tuple[list[Component], list[tuple[Component, str]]]:
        """VMs whose files all lie on the set's volumes; the others that touch it, each with the volume that is missing."""
        inside = {volume.guid for volume in volumes}
        chosen: list[Component] = []
        left: list[tuple[Component, str]] = []
        for component in components(self.machine):
            if component.identifier.lower() in excluded or component.name.lower() in excluded:
                continue
            if component.name == HOST_COMPONENT:
                if self.machine.boot_volume_guid in inside:
                    chosen.append(component)
                continue
            needed = component_volumes(component)
            outside = [place for guid, place in needed.items() if guid not in inside]
            if not outside:
                chosen.append(component)
            elif len(outside) < len(needed):
                place = outside[0]
                left.append((component, place if isinstance(place, str) else place.access_paths[0]))
        return chosen, left

    # -- creating ----------------------------------------------------------------------------------------

    def start_set(
        self,
        volumes: list[tuple[Volume, Provider]],
        options: SetOptions,
        *,
        excluded: set[str] | None = None,
        verified: Iterable[str] = (),
        requester: Any = None,
    ) -> PendingSet:
        """Writers prepare (VMs that cannot go online are saved); VssError leaves nothing behind."""
        call = "StartSnapshotSet"
        if self.pending is not None:
            raise VssError(call, VSS_E_SNAPSHOT_SET_IN_PROGRESS, "Another shadow copy creation is already in progress.")
        if len(volumes) > MAXIMUM_VOLUMES:
            raise VssError(call, VSS_E_MAXIMUM_NUMBER_OF_VOLUMES_REACHED)
        skip = {word.strip("{}").lower() for word in excluded or set()}
        writers = [w for w in self.writers() if w.id not in skip and w.name.lower() not in skip]
        chosen: list[Component] = []
        left: list[tuple[Component, str]] = []
        if options.no_writers or options.client_accessible:
            writers = []
        else:
            boot = any(volume.is_boot for volume, _provider in volumes)
            if HYPERV_WRITER in writers:
                chosen, left = self.choose_components([volume for volume, _provider in volumes], skip)
            writers = [w for w in writers if (w is HYPERV_WRITER and chosen) or (w is not HYPERV_WRITER and boot)]
        self._verify(verified, writers, chosen)
        snapshot = Snapshot()
        set_id = self.machine.world.new_guid("shadow copy set")
        try:
            running = [component.name for component in chosen if component.method == "online"]
            strict = self.machine.world.assume("vss-hyperv-noautorecover") == "refused"
            if options.no_auto_recover and running and strict:
                raise VssFailure(CODES["VSS_E_WRITERERROR_NONRETRYABLE"], f"{running[0]} needs auto-recovery.")
            prepare_components(self.machine, snapshot, chosen, set_id, self.churn)
            self.fail_if_planned("prepare", "PrepareForBackup")
        except VssFailure as failed:
            undo(snapshot)
            self._writer_failed(chosen, FAILED_AT_PREPARE_SNAPSHOT, failed.hresult)
            raise VssError("PrepareForBackup", failed.hresult, str(failed)) from failed
        except VssError as failed:
            undo(snapshot)
            self._writer_failed(chosen, FAILED_AT_PREPARE_SNAPSHOT, failed.hresult)
            raise
        for writer in writers:
            self.status[writer.id] = WriterStatus()
        self.pending = PendingSet(
            id=set_id,
            volumes=volumes,
            options=options,
            chosen=chosen,
            writers=writers,
            excluded=left,
            snapshot=snapshot,
            requester=requester,
        )
        return self.pending

    def _verify(self, verified: Iterable[str], writers: list[Writer], chosen: list[Component]) -> None:
        """`writer verify`: the set is not made without what was named."""
        inside = {w.id for w in writers} | {w.name.lower() for w in writers}
        inside |= {c.identifier.lower() for c in chosen} | {c.name.lower() for c in chosen}
        for word in verified:
            wanted = word.strip('"').lower()
            bare = wanted.rpartition("\\")[2] if "\\" in wanted else wanted
            if not {wanted.strip("{}"), bare.strip("{}")} & inside:
                raise VssError("writer verify", VSS_E_OBJECT_NOT_FOUND, f"{word} is not included in the backup.")

    def _writer_failed(self, chosen: list[Component], state: int, hresult: int) -> None:
        if chosen:
            self.status[HYPERV_WRITER.id] = WriterStatus(state=state, failure=hresult)

    def commit(self, pending: PendingSet) -> list[ShadowCopy]:
        """Freeze, copy, thaw, PostSnapshot; all or nothing."""
        if self.pending is not pending:
            raise VssError("DoSnapshotSet", VSS_E_BAD_STATE)
        made: list[ShadowCopy] = []
        try:
            for volume, provider in pending.volumes:
                if self.machine.volume_by_guid(volume.guid) is None:
                    raise VssError("DoSnapshotSet", VSS_E_OBJECT_NOT_FOUND, f"{volume.path} is gone.")
                self.fail_if_planned("commit", "DoSnapshotSet", volume)
                made.append(self._make(pending, volume, provider))
            self.fail_if_planned("post", "DoSnapshotSet")
        except VssError as failed:
            for copy in made:
                self._drop(copy)
            state = FAILED_AT_POST_SNAPSHOT if len(made) == len(pending.volumes) else FAILED_AT_FREEZE
            self.abort(pending)
            self._writer_failed(pending.chosen, state, failed.hresult)
            raise
        self.copies += made
        self._release(pending)
        waits = WAITING_FOR_BACKUP_COMPLETE if pending.options.full else STABLE
        for writer in pending.writers:
            self.status[writer.id] = WriterStatus(state=waits)
        return made

    def abort(self, pending: PendingSet) -> None:
        if self.pending is pending:
            self._release(pending)

    def _release(self, pending: PendingSet) -> None:
        undo(pending.snapshot)
        self.pending = None

    def _make(self, pending: PendingSet, volume: Volume, provider: Provider) -> ShadowCopy:
        world, options = self.machine.world, pending.options
        identifier = world.new_guid("shadow copy")
        allocated = self._room(volume, identifier) if provider.kind == "system" else 0
        folder = world.directory / "shadow copies" / identifier
        try:
            files, bytes_at = freeze(volume, folder)
        except FileSystemError as problem:
            raise VssError("DoSnapshotSet", CODES["VSS_E_UNEXPECTED_PROVIDER_ERROR"], str(problem)) from problem
        copy = ShadowCopy(
            id=identifier,
            set_id=pending.id,
            number=self.device_number(identifier),
            count=len(pending.volumes),
            created=self.machine.now(),
            origin_guid=volume.guid,
            origin_path=volume.path,
            origin_names=volume.access_paths[:-1],
            provider=provider,
            options=options,
            originating=self.machine.dns_name,
            service=self.machine.dns_name,
            bytes_at=bytes_at,
            volume=None,
            components=self._consistency(pending, volume),
            allocated=allocated,
            requester=None if options.stays else pending.requester,
        )
        if not options.transportable:
            copy.volume = ShadowVolume(volume, identifier, files, copy.device + "\\")
        if provider.kind == "system":
            for older in self.copies:
                if older.origin_guid == volume.guid and older.cost is not None:
                    older.cost.stop()
            copy.cost = CopyOnWrite(volume, lambda: self._grown(copy))
        return copy

    def _consistency(self, pending: PendingSet, volume: Volume) -> dict[str, dict[str, Any]]:
        """Every VM with files on the volume: taken by the writer, or just bytes of the moment."""
        found: dict[str, dict[str, Any]] = {}
        taken = {component.identifier: component for component in pending.chosen}
        words = {"online": "application", "saved": "saved", "still": "off"}
        for component in components(self.machine):
            if component.vm is None or volume.guid not in component_volumes(component):
                continue
            chosen = taken.get(component.identifier)
            if chosen is not None:
                state = "crash" if pending.options.no_auto_recover else words[chosen.method]
                state = words[chosen.method] if chosen.method != "online" else state
            else:
                state = "crash" if component.vm.running else "off"
            found[component.identifier] = {
                "name": component.name,
                "method": chosen.method if chosen is not None else "none",
                "consistency": state,
                "left_out": list(component.left_out),
                "configuration_path": component.vm.configuration_path,
            }
        return found

    # -- after the copy ------------------------------------------------------------------------------------

    def backup_complete(self, set_id: str) -> None:
        """BackupComplete reaches the writers of a full backup."""
        self.fail_if_planned("complete", "BackupComplete")
        machines = {vm for copy in self.copies if copy.set_id == set_id for vm in copy.components}
        for vm in getattr(self.machine, "vms", []):
            if vm.id in machines:
                vm.last_backup = self.machine.now()
        for old in [u for u in self.unnotified.values() if u.set_id == set_id or set(u.machines) <= machines]:
            self._notified(old)
        for status in self.status.values():
            if status.state == WAITING_FOR_BACKUP_COMPLETE:
                status.state = STABLE

    def session_ended(self, set_id: str, *, complete: bool) -> None:
        """The requester is gone: volatile copies go with it; a full backup that is not complete stays on record."""
        copies = [copy for copy in self.copies if copy.set_id == set_id]
        if copies and not complete and copies[0].options.full:
            machines = tuple(
                sorted({vm for c in copies for vm, facts in c.components.items() if facts["method"] != "none"})
            )
            self.unnotified[set_id] = Unnotified(set_id=set_id, since=self.machine.now(), machines=machines)
            if self.machine.world.assume("vss-missing-end-backup") == "recovery-checkpoints":
                self._leave_checkpoints(machines)
        for copy in copies:
            if not copy.options.stays:
                self._remove(copy)

    def _leave_checkpoints(self, machines: tuple[str, ...]) -> None:
        from .checkpoints import take_checkpoint

        for vm in self.machine.vms:
            if vm.id in machines and vm.running:
                take_checkpoint(vm, f"{vm.name} - Backup", "recovery")

    def _notified(self, entry: Unnotified) -> None:
        from .checkpoints import delete_checkpoint

        self.unnotified.pop(entry.set_id, None)
        if self.machine.world.assume("vss-missing-end-backup") == "recovery-checkpoints":
            for vm in self.machine.vms:
                for checkpoint in [c for c in vm.checkpoints if c.kind == "recovery" and vm.id in entry.machines]:
                    delete_checkpoint(vm, checkpoint)

    def delete(self, copy: ShadowCopy) -> None:
        self.fail_if_planned("delete", "DeleteSnapshots", self.machine.volume_by_guid(copy.origin_guid))
        self._remove(copy)

    def _remove(self, copy: ShadowCopy) -> None:
        self.unexpose(copy)
        self._drop(copy)
        if copy in self.copies:
            self.copies.remove(copy)

    def _drop(self, copy: ShadowCopy) -> None:
        """Give back bytes and diff area."""
        if copy.cost is not None:
            copy.cost.stop()
        store = self._store(copy.origin_guid)
        if store is not None and copy.allocated:
            store.reserve(_purpose(copy.id, copy.origin_guid), 0)
        copy.allocated = 0
        folder = copy.bytes_at if copy.bytes_at.is_dir() else copy.bytes_at.parent
        if not copy.options.transportable:
            shutil.rmtree(folder, ignore_errors=True)

    def forget_all(self) -> None:
        """The machine was built anew."""
        for copy in list(self.copies):
            self._remove(copy)
        self.unnotified.clear()
        self.status.clear()

    def reboot(self) -> None:
        """The machine went down: volatile copies and whatever was being created are gone, writers start afresh."""
        if self.pending is not None:
            self.pending.snapshot.resume.clear()
            self._release(self.pending)
        for copy in list(self.copies):
            if not copy.options.stays:
                self._remove(copy)
        if self.machine.world.assume("vss-missing-end-backup") == "waiting-writers":
            self.unnotified.clear()
        self.status.clear()

    # -- exposing ------------------------------------------------------------------------------------------

    def expose(self, copy: ShadowCopy, where: str) -> Exposure:
        """As a letter (Z:), a folder (C:\\mnt, empty) or a share (a bare name)."""
        call = "ExposeSnapshot"
        self.fail_if_planned("expose", call)
        volume = copy.volume
        if volume is None or copy.exposed is not None:
            raise VssError(call, VSS_E_BAD_STATE, "The shadow copy is not surfaced, or is exposed already.")
        if not copy.options.stays and self.machine.world.assume("vss-expose-volatile") == "refused":
            raise VssError(call, E_INVALIDARG, "Only persistent shadow copies can be exposed.")
        text = where.rstrip("\\")
        if len(text) == 2 and text[1] == ":" and text[0].isalpha():
            if self.machine.letter_taken(text[0]):
                raise VssError(call, VSS_E_OBJECT_ALREADY_EXISTS, f"The drive letter {text} is in use.")
            volume.mount.letter = text[0].upper()
            copy.exposed = Exposure(kind="letter", name=f"{text}\\")
        elif "\\" in text or ":" in text:
            self._check_folder(text)
            volume.mount.folders.append(f"{text}\\")
            copy.exposed = Exposure(kind="folder", name=f"{text}\\")
        else:
            if not text or any(share.name.lower() == text.lower() for share in self.machine.shares):
                raise VssError(call, VSS_E_OBJECT_ALREADY_EXISTS, f"The share name {text} is in use.")
            self.machine.shares.append(Share(self.machine.name, text, volume, "", ("*",), ()))
            copy.exposed = Exposure(kind="share", name=f"\\\\{self.machine.netbios_name}\\{text}")
        return copy.exposed

    def _check_folder(self, path: str) -> None:
        try:
            holder, below = self.machine.resolve(path)
            good = holder.stat(below).is_directory and not holder.listdir(below)
        except FileSystemError as problem:
            raise VssError("ExposeSnapshot", E_INVALIDARG, str(problem)) from problem
        if not good or not below or holder.file_system != "NTFS":
            raise VssError("ExposeSnapshot", E_INVALIDARG, f"{path} is no empty NTFS folder.")

    def unexpose(self, copy: ShadowCopy) -> None:
        if copy.exposed is None or copy.volume is None:
            return
        if copy.exposed.kind == "share":
            self.machine.shares = [s for s in self.machine.shares if s.volume is not copy.volume]
        copy.volume.mount.letter = None
        copy.volume.mount.folders.clear()
        copy.exposed = None

    def exposed_at(self, where: str) -> ShadowCopy | None:
        wanted = where.rstrip("\\").lower()
        for copy in self.present():
            if copy.exposed is not None:
                name = copy.exposed.name.rstrip("\\").lower()
                if wanted in (name, name.rpartition("\\")[2] if copy.exposed.kind == "share" else name):
                    return copy
        return None

    # -- the diff area ---------------------------------------------------------------------------------------

    def _store(self, guid: str) -> Volume | None:
        store_guid = self.machine.shadow_storage.get(guid, (guid, 0))[0]
        found: Volume | None = self.machine.volume_by_guid(store_guid)
        return found

    def limit(self, guid: str) -> int:
        """Most bytes that the diff area of a volume may take."""
        store = self._store(guid)
        configured = int(self.machine.shadow_storage.get(guid, (guid, 0))[1])
        if configured or store is None or store.is_raw:
            return configured
        return max(store.size // 10, self._initial(store.size))

    def _initial(self, size: int) -> int:
        return minimum_diff_area(size, self.machine.world.assume("vss-small-volumes"))

    def _room(self, volume: Volume, identifier: str) -> int:
        """The first piece of diff area of a new copy; at the limit the oldest copies make room."""
        store = self._store(volume.guid)
        size = self._initial(volume.size)
        if store is None or store.is_raw:
            raise VssError("DoSnapshotSet", VSS_E_INSUFFICIENT_STORAGE, "The shadow storage volume is missing.")
        self._make_room(volume.guid, size, keep=None)
        if self.used_space(volume.guid)[0] + size > self.limit(volume.guid) or store.free < size:
            text = f"{store.letter or store.path} has {store.free} bytes free; the shadow copy needs {size}."
            raise VssError("DoSnapshotSet", VSS_E_INSUFFICIENT_STORAGE, text)
        store.reserve(_purpose(identifier, volume.guid), size)
        return size

    def _make_room(self, guid: str, more: int, keep: ShadowCopy | None) -> None:
        """The oldest copies go until `more` bytes fit below the limit."""
        while self.used_space(guid)[0] + more > self.limit(guid):
            older = [copy for copy in self.of_volume(guid) if copy is not keep and copy.provider.kind == "system"]
            if not older:
                return
            self._event(33, guid, "The oldest shadow copy was deleted to keep the shadow storage below its limit.")
            self._remove(older[0])

    def _grown(self, copy: ShadowCopy) -> None:
        """Later writes cost diff area; when it can grow no more, shadow copies are lost and the write goes on."""
        more = copy.used - copy.allocated
        if more <= 0 or copy not in self.copies:
            return
        store = self._store(copy.origin_guid)
        if self.machine.world.assume("vss-full-diff-area") == "oldest-deleted":
            self._make_room(copy.origin_guid, more, keep=copy)
        fits = self.used_space(copy.origin_guid)[0] + more <= self.limit(copy.origin_guid)
        if store is None or not fits or store.free < more:
            number = 36 if not fits else 35
            self._event(number, copy.origin_guid, "The shadow copies were aborted: the shadow storage cannot grow.")
            for lost in self.of_volume(copy.origin_guid):
                if lost.provider.kind == "system":
                    self._remove(lost)
            return
        copy.allocated += more
        store.reserve(_purpose(copy.id, copy.origin_guid), copy.allocated)

    def _event(self, number: int, guid: str, message: str) -> None:
        volume = self.machine.volume_by_guid(guid)
        name = volume.access_paths[0] if volume is not None else guid
        self.machine.event_log.write(
            "System",
            provider="Volsnap",
            event_id=number,
            level=4 if number == 33 else 2,
            data={"VolumeName": name},
            message=f"{name}: {message}",
        )

    # -- for tests ---------------------------------------------------------------------------------------------

    def describe(self) -> dict[str, Any]:
        """JSON types: copies, what is being created, writers that wait, backups whose end nobody told."""
        return {
            "copies": [
                {
                    "id": copy.id,
                    "set": copy.set_id,
                    "volume": copy.origin_names[0] if copy.origin_names else copy.origin_path,
                    "device": copy.device,
                    "provider": copy.provider.id,
                    "attributes": copy.attributes,
                    "exposed": copy.exposed.name if copy.exposed is not None else None,
                    "allocated": copy.allocated,
                    "used": copy.used,
                    "components": copy.components,
                }
                for copy in self.present()
            ],
            "pending": self.pending.id if self.pending is not None else None,
            "writers": {
                writer.name: WRITER_STATES.get(self.writer_status(writer).state, "?") for writer in self.writers()
            },
            "unnotified": [
                {"set": u.set_id, "since": u.since.isoformat(), "machines": list(u.machines)}
                for u in self.unnotified.values()
            ],
        }


def _purpose(identifier: str, guid: str) -> str:
    return f"diff area {identifier} {guid}"
