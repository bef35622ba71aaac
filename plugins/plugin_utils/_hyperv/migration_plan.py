# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""May this migration be done, of which disks, to which files? A pure decision over what was observed and recorded.

All obstacles are told at once, each with a kind. What an operator must confirm (a size, a wipe, thin provisioning, data
that a rollback loses) is compared here with what was observed, and nothing is taken for confirmed by default.

Not here: what of VM, guest and LUNs forbids it (`migration_checks`), the steps (`migration_steps`), the arithmetic of the fit
(`vhd_fit`), doing anything (`migration`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .disk_selector import DiskSelector
from .errors import HypervError
from .host_files import check_file_path
from .migration_checks import Lun, MigrationChecks, shown
from .migration_record import DiskMigration, same_slot
from .migration_steps import (
    MigrationPlan,
    Request,
    Situation,
    Step,
    Wanted,
    as_observed,
    holds_file,
    original_is_attached,
    present_steps,
    rollback_steps,
    runs_elsewhere,
    source_text,
)
from .model import Slot
from .vhd_fit import Fit, VolumeShape, choose_format, file_bytes, fit, gib_text, largest_data_bytes

_LETTERS = "DEFGHIJKLMNOPQRSTUVWXYZ"
_NOT_IN_A_FILE_NAME = re.compile(r"[^A-Za-z0-9._-]+")
_IDENTITY = ("unique_id", "unique_id_format", "serial_number", "friendly_name", "guid", "signature", "size_bytes")
_LEG_OF_MODE = {"new": "new", "copy": "copy", "in_place": "staging"}


def plan_migration(situation: Situation, request: Request) -> MigrationPlan:
    """The plan, with findings instead of steps when something forbids it.

    Raises: nothing of its own; every obstacle is a finding.
    """
    planner = _Planner(situation, request)
    return planner.plan()


class _Planner(MigrationChecks):
    """One decision."""

    def __init__(self, situation: Situation, request: Request) -> None:
        super().__init__(situation, request)
        self._fits: dict[str, Fit] = {}
        self._letters: set[str] = set()

    def plan(self) -> MigrationPlan:
        make = {"present": self._present, "rolled_back": self._rolled_back, "finalized": self._finalized}
        plan = make[self._request.state]()
        if self._findings:
            plan = replace(plan, steps=())
        notes = tuple(dict.fromkeys(self._notes))
        return replace(plan, findings=tuple(self._findings), fits=self._fits, notes=notes)

    # -- present -----------------------------------------------------------------------------------------------------

    def _present(self) -> MigrationPlan:
        disks = [disk for wanted in self._request.disks if (disk := self._disk(wanted)) is not None]
        slots = [disk.slot.describe() for disk in disks]
        if len(set(slots)) != len(slots):
            self._refuse("listed_twice", "One slot is listed twice; each disk is migrated once.")
        left = [disk for disk in disks if disk.is_under_way]
        if left:
            self.check_vm(left)
        return MigrationPlan(
            disks=tuple(disks),
            steps=tuple(
                present_steps(disks, recorded=self._at.record, vm=self._at.vm, every_byte=self._request.every_byte)
            ),
        )

    def _disk(self, wanted: Wanted) -> DiskMigration | None:
        """The disk as it is recorded and seen, or a new entry; None with findings when it cannot be migrated."""
        slot = self._slot_of(wanted)
        if slot is None:
            return None
        recorded = self._at.record.disk_at(slot) if self._at.record is not None else None
        if recorded is None or recorded.outcome == "rolled_back" or self._is_history(recorded):
            return self._begun(wanted, slot)
        return self._continued(wanted, recorded)

    def _is_history(self, recorded: DiskMigration) -> bool:
        """A finalized migration whose slot has been given another pass-through disk since."""
        vm_disk = self._at.vm_disk_at(recorded.slot)
        return recorded.outcome == "finalized" and vm_disk is not None and vm_disk["attachment"] == "pass_through"

    def _slot_of(self, wanted: Wanted) -> Slot | None:
        """The slot that is meant: given, or that of the LUN, now or before it was migrated."""
        if wanted.slot is not None:
            return wanted.slot
        lun = wanted.lun
        if lun is None:
            self._refuse("no_disk_named", "Neither slot nor lun was given; name the disk to migrate.")
            return None
        for disk in self._at.vm["disks"]:
            if disk["attachment"] == "pass_through" and _is_meant(disk.get("lun") or {}, lun):
                return Slot(**disk["slot"])
        for item in self._at.record.disks if self._at.record is not None else ():
            if _is_meant(item.source or {}, lun):
                return item.slot
        self._refuse(
            "unknown_disk",
            f"VM {self._at.vm['name']} has no pass-through disk that is {lun.describe()}, and none was migrated; see "
            f"disk_info for its disks.",
        )
        return None

    # -- a migration that is recorded ----------------------------------------------------------------------------------

    def _continued(self, wanted: Wanted, recorded: DiskMigration) -> DiskMigration | None:
        vm_disk = self._at.vm_disk_at(recorded.slot)
        if recorded.mode != wanted.mode:
            self._refuse(
                "other_mode",
                f"The disk at {recorded.slot.describe()} is being migrated in mode {recorded.mode}, not {wanted.mode}; "
                f"go on in that mode, or roll it back first.",
                recorded.slot,
            )
            return None
        if recorded.outcome in ("migrated", "finalized", "awaiting_growth"):
            there = recorded.staging_path if recorded.outcome == "awaiting_growth" else recorded.path
            if not holds_file(vm_disk, there):
                self._refuse(
                    "not_as_recorded",
                    f"{recorded.slot.describe()} of VM {self._at.vm['name']} should hold {there} after its migration, but "
                    f"holds {shown(vm_disk)}; attach the file there again, or roll the migration back.",
                    recorded.slot,
                )
                return None
        if recorded.outcome == "awaiting_growth":
            return self._second_half(wanted, recorded)
        disk = as_observed(recorded, vm_disk)
        if disk.is_under_way:
            self._check_under_way(wanted, disk, vm_disk)
        return disk

    def _check_under_way(self, wanted: Wanted, disk: DiskMigration, vm_disk: Mapping[str, Any] | None) -> None:
        """What still matters when a run is continued; what it has done already is not asked again."""
        if disk.drive_letter:
            self._letters.add(disk.drive_letter)
        if disk.leg != "new" and not disk.is_past("detached") and not original_is_attached(disk, vm_disk):
            self._refuse(
                "source_moved",
                f"{disk.slot.describe()} should still hold {source_text(disk)}, but holds {shown(vm_disk)}; a restart of the host "
                f"may have renumbered its disks: put it right with passthrough_disk, then run again.",
                disk.slot,
            )
        if disk.destination and not disk.is_past("prepared"):
            if disk.leg == "growth":
                self._check_wipe(wanted, disk)
            lun = self.find_lun(DiskSelector.of(disk.destination), disk.slot)
            if lun is not None:
                self._measure(disk, lun)
                if disk.stage == "planned" and disk.leg == "copy":
                    self._check_blank(wanted, disk.slot, lun)
        free = vm_disk is None or vm_disk["attachment"] == "empty"  # an attach that broke off leaves an empty drive
        if disk.is_past("detached") and not free and not holds_file(vm_disk, disk.target_path):
            self._refuse(
                "slot_taken",
                f"{disk.slot.describe()} should be empty in the middle of its migration, but holds {shown(vm_disk)}; take "
                f"that away, or roll the migration back.",
                disk.slot,
            )

    def _second_half(self, wanted: Wanted, recorded: DiskMigration) -> DiskMigration | None:
        """in_place after the array has grown the LUN; without a confirmed wipe it goes on waiting."""
        lun = self.find_lun(DiskSelector.of(_without_size(recorded.source or {})), recorded.slot)
        if lun is None:
            return None
        letter = self._letter(wanted.drive_letter, recorded.slot)
        disk = replace(
            recorded,
            leg="growth",
            stage="planned",
            outcome="",
            job=None,
            staging_cut_over=recorded.cut_over,
            cut_over=None,
            destination={name: lun[name] for name in ("unique_id", "serial_number")},
            drive_letter=letter,
            path=self._path(wanted, recorded.slot, letter, recorded.format),
        )
        found = self._measure(disk, lun, refuse=wanted.confirm_wipe is not None)
        if wanted.confirm_wipe is None:
            unique_id = lun["unique_id"]
            told = f"is large enough now: set confirm_wipe to {unique_id} to go on"
            if found is not None and found.answer != "certain":
                told = f"must still grow by {found.growth_gib} GiB; then set confirm_wipe to {unique_id}"
            self._notes.append(
                f"{recorded.slot.describe()} runs on {recorded.staging_path}; the LUN {unique_id} {told}"
            )
            return recorded
        self._check_wipe(wanted, disk)
        self.check_lun(lun, recorded.slot, attached_is_fine=False)
        return disk

    def _check_wipe(self, wanted: Wanted, disk: DiskMigration) -> None:
        unique_id = str((disk.destination or {}).get("unique_id"))
        if str(wanted.confirm_wipe or "").strip().casefold() != unique_id.casefold():
            self._refuse(
                "wipe_not_confirmed",
                f"The LUN {unique_id} would be wiped, and confirm_wipe is {wanted.confirm_wipe!r}; set it to that UniqueId.",
                disk.slot,
            )

    # -- a migration that begins -------------------------------------------------------------------------------------

    def _begun(self, wanted: Wanted, slot: Slot) -> DiskMigration | None:
        leg = _LEG_OF_MODE[wanted.mode]
        vm_disk = self._at.vm_disk_at(slot)
        source = None if leg == "new" else self._source(wanted, slot, vm_disk)
        if leg == "new":
            if vm_disk is not None and vm_disk["attachment"] != "empty":
                self._refuse("slot_taken", f"{slot.describe()} holds {shown(vm_disk)}; name a free slot.", slot)
            if not any(item["type"] == slot.controller_type.upper() for item in self._at.vm["controllers"]):
                self._refuse(
                    "no_such_controller", f"VM {self._at.vm['name']} has no {slot.controller_type} controller.", slot
                )
        elif source is None:
            return None
        destination = None if leg == "staging" else self._destination(wanted, slot, source)
        if leg != "staging" and destination is None:
            return None
        size = self._size(wanted, source, destination)
        sector = int((source or destination or {}).get("logical_sector_bytes") or 512)
        format_name = self._format(wanted, slot, size, sector)
        if size is None or format_name is None:
            return None
        letter = self._letter(wanted.drive_letter, slot) if leg != "staging" else None
        disk = DiskMigration(
            slot=slot,
            mode=wanted.mode,
            leg=leg,
            size_bytes=size,
            sector_bytes=sector,
            format=format_name,
            file_system=wanted.file_system,
            allocation_unit=wanted.allocation_unit,
            reserve_bytes=wanted.reserve_bytes,
            drive_letter=letter,
            path="" if leg == "staging" else self._path(wanted, slot, letter, format_name),
            staging_path=self._staging_path(wanted, slot, format_name) if leg == "staging" else None,
            source=None if source is None else {name: source.get(name) for name in _IDENTITY},
            destination=None if destination is None else {n: destination[n] for n in ("unique_id", "serial_number")},
            layout=None if source is None else self._at.layouts.get(str(source["unique_id"])),
            guest_disk=None if source is None else self.recorded_guest_disk(source),
        )
        if destination is not None:
            self._measure(disk, destination)
        elif source is not None:
            self._check_staging(wanted, disk, source)
        return disk

    def _source(self, wanted: Wanted, slot: Slot, vm_disk: Mapping[str, Any] | None) -> Lun | None:
        """The LUN at the slot, after everything that forbids to copy it."""
        if vm_disk is None or vm_disk["attachment"] != "pass_through":
            kind = (
                "unresolved_pass_through" if vm_disk and "unresolved" in vm_disk["attachment"] else "not_pass_through"
            )
            self._refuse(
                kind,
                f"{slot.describe()} of VM {self._at.vm['name']} is no pass-through disk but {shown(vm_disk)}.",
                slot,
            )
            return None
        identity = vm_disk["lun"]
        if wanted.lun is not None and not _is_meant(identity, wanted.lun):
            self._refuse(
                "other_lun",
                f"{slot.describe()} holds the LUN {identity['unique_id']} and not {wanted.lun.describe()}; correct slot or "
                f"lun.",
                slot,
            )
            return None
        lun = self.find_lun(wanted.lun or DiskSelector.of(identity), slot)
        if lun is None:
            return None
        self.check_lun(lun, slot, attached_is_fine=True)
        self.check_guest_disk(lun, slot)
        expected = wanted.guest_size_bytes
        if expected is not None and expected != lun["size_bytes"]:
            self._refuse(
                "size_differs",
                f"The host sees {lun['size_bytes']} bytes of the LUN at {slot.describe()} and the guest {expected}; it was "
                f"resized on the array: rescan on both sides until they agree.",
                slot,
            )
        return lun

    def _destination(self, wanted: Wanted, slot: Slot, source: Lun | None) -> Lun | None:
        """The blank LUN that gets the VHD: named by identity, confirmed by size, used by nobody."""
        if wanted.destination is None:
            self._refuse(
                "no_destination",
                f"No destination_lun was given for {slot.describe()}, which mode {wanted.mode} needs.",
                slot,
            )
            return None
        lun = self.find_lun(wanted.destination, slot)
        if lun is None:
            return None
        if source is not None and lun["unique_id"] == source["unique_id"]:
            self._refuse(
                "destination_is_source",
                f"destination_lun is the LUN at {slot.describe()} itself; name another LUN, or use mode in_place.",
                slot,
            )
            return None
        self.check_lun(lun, slot, attached_is_fine=False)
        self._check_blank(wanted, slot, lun)
        return lun

    def _check_blank(self, wanted: Wanted, slot: Slot, lun: Lun) -> None:
        """RAW is not blank: only a disk that the operator named and whose size he knows is (design, section 6)."""
        named = f"The destination {lun['unique_id']} for {slot.describe()}"
        if lun["partition_style"] != "RAW":
            self._refuse(
                "destination_not_blank",
                f"{named} is {lun['partition_style']} and not blank; nothing is overwritten. Clear it yourself if it is "
                f"really free.",
                slot,
            )
        elif wanted.confirm_size_bytes is None or wanted.confirm_size_bytes != lun["size_bytes"]:
            self._refuse(
                "size_not_confirmed",
                f"{named} has {lun['size_bytes']} bytes, and confirm_size_bytes is {wanted.confirm_size_bytes}; a disk "
                f"without a partition table may hold data all the same, so confirm that it is this one by its size.",
                slot,
            )

    def _size(self, wanted: Wanted, source: Lun | None, destination: Lun | None) -> int | None:
        if source is not None:
            return int(source["size_bytes"]) if source.get("size_bytes") else None
        if destination is None or not destination.get("size_bytes"):
            return None
        shape = self._shape(wanted.file_system, wanted.allocation_unit, destination)
        return largest_data_bytes(
            int(destination["size_bytes"]),
            wanted.vhd_format or "VHDX",
            shape,
            reserve_bytes=wanted.reserve_bytes,
            conservative=True,
        )

    def _format(self, wanted: Wanted, slot: Slot, size: int | None, sector: int) -> str | None:
        if size is None:
            self._refuse("size_unknown", f"The host does not tell the size of the disk for {slot.describe()}.", slot)
            return None
        try:
            choice = choose_format(
                wanted.vhd_format,
                generation=self._at.vm["generation"],
                size_bytes=size,
                logical_sector_bytes=sector,
            )
        except HypervError as refused:
            self._refuse(refused.kind, refused.sentence, slot)
            return None
        self._notes.append(f"{slot.describe()} becomes a {choice.format}: {choice.reason}")
        return choice.format

    # -- paths and letters --------------------------------------------------------------------------------------------

    def _letter(self, wanted: str | None, slot: Slot) -> str | None:
        """The drive letter of the destination's volume; the first free one if none was asked for."""
        taken = {str(item["letter"]).upper() for item in self._at.volumes if item.get("letter")} | self._letters
        if wanted:
            letter = wanted.rstrip(":\\").upper()
            if letter in taken:
                self._refuse(
                    "letter_taken", f"The drive letter {letter}: for {slot.describe()} is taken; choose another.", slot
                )
        else:
            letter = next((item for item in _LETTERS if item not in taken), "")
            if not letter:
                self._refuse("no_letter_free", "The host has no drive letter left; free one.", slot)
        self._letters.add(letter)
        return letter or None

    def _path(self, wanted: Wanted, slot: Slot, letter: str | None, format_name: str) -> str:
        return f"{letter or '?'}:\\{self._file_name(wanted, slot, format_name)}"

    def _file_name(self, wanted: Wanted, slot: Slot, format_name: str) -> str:
        kind = f"{slot.controller_type.lower()}{slot.controller_number}-{slot.controller_location}"
        stem = wanted.file_name or f"{self._at.vm['name']}-{kind}"
        stem = _NOT_IN_A_FILE_NAME.sub("_", re.sub(r"\.vhdx?\Z", "", stem, flags=re.IGNORECASE)).strip("._") or kind
        return f"{stem}.{format_name.lower()}"

    def _staging_path(self, wanted: Wanted, slot: Slot, format_name: str) -> str | None:
        r"""A folder of the host, or a whole file name; `D:\Staging` becomes a file in it."""
        given = wanted.staging_path or ""
        if not given:
            self._refuse(
                "no_staging_path", f"Mode in_place needs staging_path, where {slot.describe()} lies meanwhile.", slot
            )
            return None
        path = given
        if not re.search(r"\.vhdx?\Z", given, re.IGNORECASE):
            path = given.rstrip("\\") + "\\" + self._file_name(wanted, slot, format_name)
        elif not given.lower().endswith(f".{format_name.lower()}"):
            self._refuse("other_format", f"{given} names another format than {format_name}, which is needed.", slot)
        try:
            return check_file_path(path)
        except HypervError as refused:
            self._refuse(refused.kind, refused.sentence, slot)
            return None

    def _check_staging(self, wanted: Wanted, disk: DiskMigration, source: Lun) -> None:
        """Room for the staging VHD, and an array that will really grow the LUN: both before any downtime."""
        path = disk.staging_path
        if path is not None:
            needed = file_bytes(disk.format, disk.size_bytes, conservative=True)
            volume = next((v for v in self._at.volumes if str(v.get("letter") or "").upper() == path[0].upper()), None)
            free = int((volume or {}).get("free_bytes") or 0)
            if volume is None or free < needed:
                found = f"has {gib_text(free)} free" if volume else "is not there"
                self._refuse(
                    "staging_too_small",
                    f"The staging VHD needs {gib_text(needed)}, and drive {path[0]}: of the host {found}; name another "
                    f"staging_path or make room.",
                    disk.slot,
                )
        found_fit = self._measure(disk, source, refuse=False)
        if found_fit is None or found_fit.answer == "certain":
            return
        if wanted.growth_gib is None or wanted.growth_gib < found_fit.growth_gib:
            self._refuse(
                "growth_not_confirmed",
                f"The LUN at {disk.slot.describe()} must grow by {found_fit.growth_gib} GiB before its own VHD surely fits "
                f"on it, and growth_gib is {wanted.growth_gib}; ask the array's administrator, then set growth_gib to what "
                f"the array will add. A LUN that cannot grow cannot be migrated in place.",
                disk.slot,
            )

    # -- the fit ------------------------------------------------------------------------------------------------------

    def _shape(self, file_system: str, allocation_unit: int, lun: Lun) -> VolumeShape:
        return VolumeShape(
            file_system=file_system,
            allocation_unit=allocation_unit,
            os_build=int(self._at.view["host"].get("os_build") or 0),
            logical_sector_bytes=int(lun.get("logical_sector_bytes") or 512),
        )

    def _measure(self, disk: DiskMigration, lun: Lun, *, refuse: bool = True) -> Fit | None:
        """The fit on this LUN; `possible` is enough for `copy` alone, whose destination is formatted before anything else."""
        if not lun.get("size_bytes"):
            self._refuse("size_unknown", f"The host does not tell the size of LUN {lun['unique_id']}.", disk.slot)
            return None
        found = fit(
            data_bytes=disk.size_bytes,
            lun_bytes=int(lun["size_bytes"]),
            format_name=disk.format,
            shape=self._shape(disk.file_system, disk.allocation_unit, lun),
            reserve_bytes=disk.reserve_bytes,
        )
        self._fits[disk.slot.describe()] = found
        self._notes += [f"{disk.slot.describe()}: {note}" for note in found.notes]
        if not refuse:
            return found
        where = f"A fixed {disk.format} of {gib_text(disk.size_bytes)}"
        if found.answer == "no" or (found.answer == "possible" and disk.leg != "copy"):
            self._refuse(
                "does_not_fit" if found.answer == "no" else "fit_not_certain",
                f"{where} {'does not fit' if found.answer == 'no' else 'may not fit'} on LUN {lun['unique_id']} of "
                f"{gib_text(found.lun_bytes)} with a reserve of {gib_text(disk.reserve_bytes)}: it must grow by "
                f"{found.growth_gib} GiB ({found.growth_bytes} bytes).",
                disk.slot,
            )
        if lun.get("provisioning") == "Thin" and not self._request.accept_full_allocation:
            self._refuse(
                "thin_lun",
                f"LUN {lun['unique_id']} is thin, and a fixed {disk.format} allocates all of its {gib_text(found.file_bytes)} "
                f"on the array; set accept_full_allocation if the array has them.",
                disk.slot,
            )
        return found

    # -- back, and the end ------------------------------------------------------------------------------------------------

    def _rolled_back(self) -> MigrationPlan:
        disks: list[DiskMigration] = []
        back: list[DiskMigration] = []
        for recorded in self._chosen("nothing_to_roll_back"):
            if is_back(recorded):
                back.append(recorded)
                continue
            if recorded.outcome == "finalized":
                self._refuse(
                    "already_finalized",
                    f"The migration of {recorded.slot.describe()} was finalized, so that nothing says that its LUN is still as "
                    f"it was; use passthrough_disk and vm_state by hand.",
                    recorded.slot,
                )
                continue
            disks.append(as_observed(recorded, self._at.vm_disk_at(recorded.slot)))
        for disk in disks:
            self._check_discard(disk)
        if any(runs_elsewhere(disk) for disk in disks) or (self._at.record and self._at.record.downtime_began):
            self.check_vm([])
        steps = (
            rollback_steps(disks, recorded=self._at.record, vm=self._at.vm, to_staging=[d for d in disks if d.wiped])
            if self._at.record is not None
            else []
        )
        return MigrationPlan(disks=(*disks, *back), steps=tuple(steps))

    def _check_discard(self, disk: DiskMigration) -> None:
        since = written_since(disk)
        if since is None:
            return
        given = self._request.discard_writes_since
        if given != since:
            self._refuse(
                "writes_would_be_lost",
                f"VM {self._at.vm['name']} may have written to the VHD at {disk.slot.describe()} since {since} until now "
                f"({self._at.view['host'].get('utc')}), and going back loses all of that; if that is meant, set "
                f"discard_writes_since to {since}{'' if given is None else f' (it is {given})'}.",
                disk.slot,
            )

    def _finalized(self) -> MigrationPlan:
        disks = []
        for recorded in self._chosen("nothing_to_finalize"):
            if recorded.outcome == "finalized":
                continue
            if recorded.outcome != "migrated":
                told = recorded.outcome or f"in the middle (stage {recorded.stage})"
                self._refuse(
                    "not_migrated",
                    f"The migration of {recorded.slot.describe()} is {told}; finish it first.",
                    recorded.slot,
                )
                continue
            if not holds_file(self._at.vm_disk_at(recorded.slot), recorded.path):
                self._refuse(
                    "not_as_recorded",
                    f"{recorded.slot.describe()} does not hold {recorded.path} any more, so that its LUN is not released.",
                    recorded.slot,
                )
            disks.append(recorded)
        steps = tuple(
            Step(
                kind="finalize",
                slot=disk.slot,
                sentence=f"give up the way back of {disk.slot.describe()}; nothing is wiped, but {reclaimable(disk)}",
            )
            for disk in disks
        )
        return MigrationPlan(disks=tuple(disks), steps=steps)

    def _chosen(self, kind: str) -> list[DiskMigration]:
        """The recorded disks that are meant: those that were named, else all of the VM."""
        recorded = self._at.record.disks if self._at.record is not None else ()
        if not recorded:
            self._refuse(kind, f"The host remembers no migration of VM {self._at.vm['name']}.")
            return []
        named = [wanted for wanted in self._request.disks if wanted.slot is not None or wanted.lun is not None]
        if not named:
            return list(recorded)
        chosen = [item for item in recorded if any(_names(wanted, item) for wanted in named)]
        for wanted in named:
            if not any(_names(wanted, item) for item in recorded):
                text = wanted.slot.describe() if wanted.slot else wanted.lun.describe() if wanted.lun else ""
                self._refuse(kind, f"The host remembers no migration of {text} of VM {self._at.vm['name']}.")
        return chosen


# --- Shared with the executor ----------------------------------------------------------------------------------------


def written_since(disk: DiskMigration) -> str | None:
    """Since when the VM may have written to a file that a rollback gives up; None when it never ran on it."""
    if disk.wiped:
        return disk.cut_over  # back to the staging VHD, which has everything until this leg's cut-over
    return disk.staging_cut_over or disk.cut_over


def is_back(disk: DiskMigration) -> bool:
    """Whether a rollback has nothing left to do: on its LUN again, or on the staging VHD after the LUN was wiped."""
    return disk.outcome == "rolled_back" or (disk.wiped and disk.leg == "staging" and disk.outcome == "awaiting_growth")


def reclaimable(disk: DiskMigration) -> str:
    """What nobody needs any more once this disk is finalized."""
    if disk.mode == "in_place":
        return f"the staging VHD {disk.staging_path} may be deleted"
    if disk.source is None:
        return "nothing is left over"
    return f"the LUN {disk.source.get('unique_id')} ({gib_text(disk.size_bytes)}) may be given back to the array"


def _names(wanted: Wanted, item: DiskMigration) -> bool:
    if wanted.slot is not None:
        return same_slot(wanted.slot, item.slot)
    return wanted.lun is not None and _is_meant(item.source or {}, wanted.lun)


def _is_meant(identity: Mapping[str, Any], selector: DiskSelector) -> bool:
    """Whether a recorded identity is the one that is meant, by the first identifier that was given."""
    name = selector.identifiers()[0]
    wanted, has = getattr(selector, name), identity.get(name)
    if isinstance(wanted, str):
        return isinstance(has, str) and has.strip().casefold() == wanted.strip().casefold()
    return bool(has == wanted)


def _without_size(identity: Mapping[str, Any]) -> dict[str, Any]:
    """A grown LUN has another size; everything else must still be so."""
    return {name: value for name, value in identity.items() if name != "size_bytes"}
