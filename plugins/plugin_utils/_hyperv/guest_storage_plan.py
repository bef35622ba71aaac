# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""What must be done so that a guest's disks are online with their letters, or hold the volumes that were recorded: pure.

The input is what `guest_disk_info` returns, and what was recorded of a disk (a backup set's disk entry, or a disk of an
earlier `guest_disk_info`). All findings are told at once; a plan with a finding is never executed.

Not here: doing it (`guest_storage_steps`), which disks are to be prepared at all (`_backup`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .disk_selector import Disk, DiskSelector, select_disk
from .errors import HypervError, Precondition
from .passthrough_plan import Finding

MSR = "{e3c9e316-0b5c-4db8-817d-f92df00215ae}"  # windows-storage 3.1
_LDM = ("{5808c8aa-7e8f-42e0-85d2-e1e90434cfb3}", "{af9b60a0-1431-4f62-bc68-3311714a69ad}")
_MBR_DYNAMIC = 0x42
_GPT_TAIL_BYTES = 33 * 512  # backup table at the end (windows-storage 5.1)
FILE_SYSTEMS: Mapping[str, str] = {"ntfs": "NTFS", "refs": "ReFS", "fat": "FAT", "fat32": "FAT32", "exfat": "ExFAT"}
_HERE = "the guest"


@dataclass(frozen=True, kw_only=True)
class RecordedPartition:
    offset_bytes: int
    size_bytes: int
    gpt_type: str | None = None
    mbr_type: int | None = None
    is_active: bool = False


@dataclass(frozen=True, kw_only=True)
class RecordedVolume:
    r"""`access_paths` are the letter as `E:\` and mount folders."""

    offset_bytes: int | None
    path: str | None
    letter: str | None
    access_paths: tuple[str, ...]
    label: str
    file_system: str | None
    allocation_unit_bytes: int | None


@dataclass(frozen=True, kw_only=True)
class RecordedDisk:
    """A disk by the identity that it has now, with the layout that it had."""

    selector: DiskSelector
    alternatives: tuple[DiskSelector, ...]
    style: str | None
    guid: str | None
    signature: int | None
    partitions: tuple[RecordedPartition, ...]
    volumes: tuple[RecordedVolume, ...]


@dataclass(frozen=True, kw_only=True)
class StorageStep:
    """`kind`: online, initialize, identity, partition, remove_path, add_path or format; `offset_bytes` as recorded."""

    kind: str
    disk: DiskSelector
    sentence: str
    offset_bytes: int | None = None
    access_path: str | None = None
    recorded: RecordedDisk | None = None
    partition: RecordedPartition | None = None
    volume: RecordedVolume | None = None


@dataclass(frozen=True, kw_only=True)
class StoragePlan:
    steps: tuple[StorageStep, ...] = ()
    findings: tuple[Finding, ...] = ()

    def describe(self) -> list[dict[str, object]]:
        return [{"kind": step.kind, "unique_id": step.disk.unique_id, "sentence": step.sentence} for step in self.steps]

    def check(self) -> None:
        """Raises Precondition with the first finding's kind and every finding's sentence."""
        if self.findings:
            raise Precondition(
                self.findings[0].kind,
                " ".join(finding.sentence for finding in self.findings),
                {
                    **self.findings[0].details,
                    "findings": [{"kind": finding.kind, "message": finding.sentence} for finding in self.findings],
                },
            )


def recorded_disk(entry: Mapping[str, Any]) -> RecordedDisk:
    """From a backup set's disk entry (`evidence.guest`, `volumes`) or a disk of guest_disk_info.

    The identity is `unique_id` (with `serial_number` when it stands beside it). What the layout holds of identities is that
    of the disk then, which a replacement has not: it only tells disks of a weak identity apart.

    Raises: HypervError `invalid_disk`, `unquoted_identity`.
    """
    evidence = (entry.get("evidence") or {}).get("guest") or {}
    identity: object = dict(entry)
    if "unique_id" in entry:
        identity = {name: entry.get(name) for name in ("unique_id", "serial_number")}
        if isinstance(entry["unique_id"], int):
            identity = entry["unique_id"]  # told with the disk that has that number now
    selector = DiskSelector.from_option(identity)
    layout = evidence or entry
    then = {name: layout.get(name) for name in ("serial_number", "guid", "signature")}
    alternatives = tuple(
        replace(selector, **{name: value}) for name, value in then.items() if value and getattr(selector, name) is None
    )
    return RecordedDisk(
        selector=selector,
        alternatives=alternatives,
        style=layout.get("partition_style"),
        guid=layout.get("guid"),
        signature=layout.get("signature"),
        partitions=tuple(
            RecordedPartition(
                offset_bytes=int(one.get("offset_bytes") or 0),
                size_bytes=int(one.get("size_bytes") or 0),
                gpt_type=one.get("gpt_type"),
                mbr_type=one.get("mbr_type"),
                is_active=bool(one.get("is_active")),
            )
            for one in sorted(layout.get("partitions") or (), key=lambda one: int(one.get("offset_bytes") or 0))
        ),
        volumes=tuple(_recorded_volume(one) for one in entry.get("volumes") or ()),
    )


def _recorded_volume(one: Mapping[str, Any]) -> RecordedVolume:
    letter = one.get("letter")
    paths = [f"{letter}:\\"] if letter else []
    paths += [path for path in one.get("access_paths") or () if path[1:3] == ":\\" and path.rstrip("\\")[2:]]
    return RecordedVolume(
        offset_bytes=one.get("offset_bytes"),
        path=one.get("path"),
        letter=letter or None,
        access_paths=tuple(dict.fromkeys(paths)),
        label=one.get("label") or "",
        file_system=one.get("file_system"),
        allocation_unit_bytes=one.get("allocation_unit_bytes"),
    )


def choose(disks: Sequence[Disk], recorded: RecordedDisk) -> tuple[Disk, DiskSelector]:
    """The disk and the selector that found it; a weak identity is helped by what was recorded beside it."""
    try:
        return select_disk(disks, recorded.selector, where=_HERE), recorded.selector
    except HypervError as error:
        if error.kind in ("weak_identity", "ambiguous_disk"):
            for other in recorded.alternatives:
                try:
                    return select_disk(disks, other, where=_HERE), other
                except HypervError:
                    continue
        raise


def plan_online(view: Mapping[str, Any], recorded: Sequence[RecordedDisk]) -> StoragePlan:
    """Every disk online and writable, and its volumes with the letters and mount folders that were recorded.

    Volumes of a disk that is offline are not known before it is online: their paths are then planned as additions.
    """
    look = _Look(view)
    for one in recorded:
        disk, selector = look.choose(one)
        if disk is not None and selector is not None:
            look.online(disk, selector)
            look.paths(disk, selector, one)
    return look.plan()


def plan_prepared(
    view: Mapping[str, Any],
    recorded: Sequence[RecordedDisk],
    *,
    confirm_size_bytes: int | None,
    begun: frozenset[str] = frozenset(),
    accept_raw_volumes: bool = False,
) -> StoragePlan:
    """Blank disks with the partition table, partitions, volumes and letters that were recorded.

    A disk that has them all is only given its letters. Blank is: no partition table, no partition, and its size confirmed.

    Args:
        begun: marks (`mark_of`) of disks that an earlier run found blank and had begun to prepare.
        accept_raw_volumes: go on too where the partition table is the recorded one (by its GUID or signature) but recorded
            partitions are missing or hold no file system. A file system that is there is never formatted.
    """
    look = _Look(view)
    for one in recorded:
        disk, selector = look.choose(one)
        if disk is None or selector is None:
            continue
        if not one.style or not one.partitions:
            look.find("nothing_recorded", f"{_named(disk)}: no partition table was recorded that it could be given.")
        elif not _is_blank(disk) and _missing(disk, one) == ():
            look.online(disk, selector)
            look.paths(disk, selector, one)
        else:
            may_go_on = mark_of(disk) in begun or (accept_raw_volumes and _has_recorded_table(disk, one))
            look.prepare(disk, selector, one, confirm_size_bytes, may_go_on)
    return look.plan()


def _has_recorded_table(disk: Disk, recorded: RecordedDisk) -> bool:
    name, wanted = ("guid", recorded.guid) if recorded.style == "GPT" else ("signature", recorded.signature)
    return bool(wanted) and disk.get("partition_style") == recorded.style and disk.get(name) == wanted


def mark_of(disk: Disk) -> str:
    """What a disk is remembered by while it is prepared; disks that share a UniqueId differ in their serial number."""
    return f"{disk.get('unique_id') or ''} {disk.get('serial_number') or ''}".strip().casefold()


def _is_blank(disk: Disk) -> bool:
    return disk.get("partition_style") == "RAW" and not disk.get("partitions") and not disk.get("volumes")


def _missing(disk: Disk, recorded: RecordedDisk) -> tuple[RecordedVolume | RecordedPartition, ...]:
    """Recorded partitions and formatted volumes that the disk has not."""
    partitions: Any = disk.get("partitions") or ()
    volumes: Any = disk.get("volumes") or ()
    offsets = {one["offset_bytes"] for one in partitions}
    formatted = {one["offset_bytes"]: (one["file_system"] or "").casefold() for one in volumes}
    lacks: list[RecordedVolume | RecordedPartition] = [
        one for one in recorded.partitions if not _is_msr(one) and one.offset_bytes not in offsets
    ]
    lacks += [
        one
        for one in recorded.volumes
        if one.file_system and formatted.get(one.offset_bytes, "") != one.file_system.casefold()
    ]
    return tuple(lacks) if disk.get("partition_style") == recorded.style else recorded.partitions


def _is_msr(partition: RecordedPartition) -> bool:
    return (partition.gpt_type or "").lower() == MSR


class _Look:
    """A guest looked at for several disks: steps and findings are collected."""

    def __init__(self, view: Mapping[str, Any]) -> None:
        self._disks: Sequence[Disk] = view["disks"]
        self._others: Sequence[Mapping[str, Any]] = view.get("volumes_without_disk") or ()
        self._findings: list[Finding] = []
        self._steps: list[StorageStep] = []
        self._removals: list[StorageStep] = []
        self._additions: list[StorageStep] = []
        self._formats: list[StorageStep] = []
        self._given_up: set[str] = set()
        self._wanted: list[tuple[str, Disk]] = []

    def find(self, kind: str, sentence: str, details: Mapping[str, object] | None = None) -> None:
        self._findings.append(Finding(kind=kind, sentence=sentence, details=details or {}))

    def choose(self, recorded: RecordedDisk) -> tuple[Disk | None, DiskSelector | None]:
        try:
            return choose(self._disks, recorded)
        except HypervError as error:
            self.find(error.kind, error.sentence, error.details)
            return None, None

    def online(self, disk: Disk, selector: DiskSelector) -> None:
        if not disk.get("is_offline") and not disk.get("is_read_only"):
            return
        if disk.get("is_clustered"):
            self.find("lun_in_use", f"{_named(disk)} is managed by a cluster, which alone brings it online.")
        reason = disk.get("offline_reason")
        if disk.get("is_offline") and reason in ("Collision", "Redundant Path"):
            self.find(
                "identity_collision" if reason == "Collision" else "redundant_path",
                f"{_named(disk)} is held offline by Windows ({reason}) and is not brought online: that would write a new "
                f"identity to it or mount a second path.",
            )
        self._steps.append(
            StorageStep(kind="online", disk=selector, sentence=f"bring {_named(disk)} online and make it writable")
        )

    def paths(self, disk: Disk, selector: DiskSelector, recorded: RecordedDisk) -> None:
        """Letters and mount folders of volumes that are there, or that are hidden while the disk is offline."""
        volumes: Any = disk.get("volumes") or ()
        for one in recorded.volumes:
            now = next((volume for volume in volumes if volume["offset_bytes"] == one.offset_bytes), None)
            if now is None and not (disk.get("is_offline") and self._has_partition(disk, one.offset_bytes)):
                continue
            has = {path.casefold() for path in _paths_of(now)} if now is not None else set()
            letter = now["letter"] if now is not None else None
            wants_letter = one.letter is not None and letter is not None and letter != one.letter
            if wants_letter and now is not None:
                self._given_up.add(f"{letter}:\\".casefold())
                self._removals.append(self._path_step("remove_path", disk, selector, one, f"{letter}:\\"))
            for path in one.access_paths:
                if path.casefold() not in has:
                    self._wanted.append((path, disk))
                    self._additions.append(self._path_step("add_path", disk, selector, one, path))

    def _has_partition(self, disk: Disk, offset: int | None) -> bool:
        partitions: Any = disk.get("partitions") or ()
        return any(one["offset_bytes"] == offset for one in partitions)

    def _path_step(
        self, kind: str, disk: Disk, selector: DiskSelector, volume: RecordedVolume, path: str
    ) -> StorageStep:
        verb = "take the path {path} from" if kind == "remove_path" else "give the path {path} to"
        name = f"volume {volume.label or '(no label)'} on {_named(disk)}"
        return StorageStep(
            kind=kind,
            disk=selector,
            sentence=f"{verb.format(path=path)} {name}",
            offset_bytes=volume.offset_bytes,
            access_path=path,
        )

    def prepare(
        self,
        disk: Disk,
        selector: DiskSelector,
        recorded: RecordedDisk,
        confirmed: int | None,
        may_go_on: bool,
    ) -> None:
        name, size = _named(disk), disk.get("size_bytes")
        in_use = [
            word for word in ("is_boot", "is_system", "is_clustered", "is_dynamic", "in_storage_pool") if disk.get(word)
        ]
        if in_use:
            self.find("lun_in_use", f"{name} is in use by the guest itself ({', '.join(in_use)}) and is left alone.")
        elif not _is_blank(disk) and not may_go_on:
            self.find(
                "not_blank",
                f"{name} is not blank (partition style {disk.get('partition_style')}, "
                f"{len(disk.get('volumes') or ())} volumes) and is not touched; "  # type: ignore[arg-type]  # a disk's dict
                f"look at what it holds, and clear it by hand if it may be overwritten (accept_raw_volumes formats recorded "
                f"volumes without a file system where the partition table is the recorded one).",
            )
        if confirmed is None or confirmed != size:
            self.find(
                "size_not_confirmed",
                f"{name} has {size} bytes and {confirmed or 'no size'} was confirmed; a disk that looks blank may be a "
                f"damaged one, so set confirm_size_bytes to its size when it may be overwritten.",
                {"size_bytes": size},
            )
        end = max(one.offset_bytes + one.size_bytes for one in recorded.partitions)
        end += _GPT_TAIL_BYTES if recorded.style == "GPT" else 0
        if isinstance(size, int) and end > size:
            self.find(
                "too_small", f"{name} has {size} bytes, and the recorded partitions need {end}; use a larger LUN."
            )
        if any((one.gpt_type or "").lower() in _LDM or one.mbr_type == _MBR_DYNAMIC for one in recorded.partitions):
            self.find("dynamic_disk", f"{name}: the recorded disk was a dynamic disk, which cannot be made again.")
        self._layout(disk, selector, recorded)

    def _layout(self, disk: Disk, selector: DiskSelector, recorded: RecordedDisk) -> None:
        name = _named(disk)
        blank = _is_blank(disk)
        self.online(disk, selector)
        if blank:
            self._steps.append(
                StorageStep(
                    kind="initialize",
                    disk=selector,
                    sentence=f"initialise {name} as {recorded.style}",
                    recorded=recorded,
                )
            )
        if self._lacks_identity(disk, recorded):
            self._steps.append(
                StorageStep(
                    kind="identity",
                    disk=selector,
                    sentence=f"give {name} the disk identity that was recorded ({recorded.guid or recorded.signature})",
                    recorded=recorded,
                )
            )
        has: Any = {one["offset_bytes"] for one in disk.get("partitions") or ()}  # type: ignore[attr-defined]  # a disk's dict
        volumes = {one.offset_bytes: one for one in recorded.volumes}
        for one in recorded.partitions:
            if one.offset_bytes not in has and not _is_msr(one):
                self._steps.append(
                    StorageStep(
                        kind="partition",
                        disk=selector,
                        sentence=f"make a partition of {one.size_bytes} bytes at {one.offset_bytes} on {name}",
                        offset_bytes=one.offset_bytes,
                        partition=one,
                    )
                )
            volume = volumes.get(one.offset_bytes)
            if volume is not None and volume.file_system:
                self._volume(disk, selector, volume)

    def _lacks_identity(self, disk: Disk, recorded: RecordedDisk) -> bool:
        """Whether the disk can be given its GUID or signature: not while another disk of the guest has the same."""
        name, wanted = ("guid", recorded.guid) if recorded.style == "GPT" else ("signature", recorded.signature)
        return bool(wanted) and all(one.get(name) != wanted for one in self._disks)

    def _volume(self, disk: Disk, selector: DiskSelector, volume: RecordedVolume) -> None:
        name = _named(disk)
        volumes: Any = disk.get("volumes") or ()
        now = next((one for one in volumes if one["offset_bytes"] == volume.offset_bytes), None)
        has = {path.casefold() for path in _paths_of(now)} if now is not None else set()
        for path in volume.access_paths:
            if path.casefold() not in has:
                self._wanted.append((path, disk))
                self._additions.append(self._path_step("add_path", disk, selector, volume, path))
        file_system = FILE_SYSTEMS.get((volume.file_system or "").casefold())
        if file_system is None:
            self.find("unsupported_file_system", f"{name}: Windows cannot format a volume with {volume.file_system}.")
        elif now is not None and now["file_system"]:
            if now["file_system"].casefold() != file_system.casefold():
                self.find(
                    "not_blank", f"{name} holds a {now['file_system']} volume already, which is not formatted again."
                )
        elif now is not None and (now.get("bitlocker") or {"protection": "off"})["protection"] != "off":
            self.find("not_blank", f"{name} holds a volume that BitLocker protects, which is not formatted.")
        else:
            self._formats.append(
                StorageStep(
                    kind="format",
                    disk=selector,
                    sentence=f"format volume {volume.label or '(no label)'} on {name} with {file_system}",
                    offset_bytes=volume.offset_bytes,
                    volume=replace(volume, file_system=file_system),
                )
            )

    def plan(self) -> StoragePlan:
        """Letters are taken away before they are given, so that two volumes may change theirs."""
        for path, disk in self._wanted:
            holder = self._holder(path)
            if holder is not None and path.casefold() not in self._given_up:
                self.find(
                    "letter_taken",
                    f"{path} shall lead to {_named(disk)}, but {holder} has it; give that volume another letter first.",
                )
        paths = [path.casefold() for path, _unused in self._wanted]
        for path in sorted({path for path in paths if paths.count(path) > 1}):
            self.find("listed_twice", f"{path} was recorded for two volumes; correct the record.")
        steps = (*self._steps, *self._removals, *self._additions, *self._formats)
        return StoragePlan(steps=steps, findings=tuple(self._findings))

    def _holder(self, path: str) -> str | None:
        for disk in self._disks:
            volumes: Any = disk.get("volumes") or ()
            for volume in volumes:
                if path.casefold() in {one.casefold() for one in _paths_of(volume)}:
                    return f"a volume on {_named(disk)}"
        for volume in self._others:
            if path.casefold() in {one.casefold() for one in _paths_of(volume)}:
                return f"volume {volume['label'] or volume['path']}"
        return None


def _paths_of(volume: Mapping[str, Any]) -> list[str]:
    letter = volume["letter"]
    paths = [f"{letter}:\\"] if letter else []
    return [*paths, *(path if path.endswith("\\") else f"{path}\\" for path in volume["access_paths"])]


def _named(disk: Disk) -> str:
    return f"the disk with UniqueId {disk.get('unique_id') or '(none)'} ({disk.get('friendly_name') or 'unnamed'})"
