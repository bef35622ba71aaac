# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""A migration as data: what was asked, what was observed, and the ordered steps that are left, shown before they are done.

A rerun plans again: the record's stages, corrected by what hangs at the VM's slots, say what is left. Nothing is done
here, and nothing that is planned depends on the time of day.

Not here: what refuses a migration and which disk is meant (`migration_plan`), doing the steps (`migration`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .disk_selector import DiskSelector
from .image_service import DiskLayout
from .migration_record import DiskMigration, MigrationRecord, same_slot
from .model import Slot, record_dict
from .vhd_fit import Fit, estimated_hours, gib_text


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One disk as the operator asked for it; what is None was not said."""

    mode: str = "copy"
    slot: Slot | None = None
    lun: DiskSelector | None = None
    destination: DiskSelector | None = None
    drive_letter: str | None = None
    staging_path: str | None = None
    file_name: str | None = None
    vhd_format: str | None = None
    file_system: str = "NTFS"
    allocation_unit: int = 65536
    reserve_bytes: int = 1024**3
    confirm_size_bytes: int | None = None
    confirm_wipe: str | None = None
    growth_gib: int | None = None
    guest_size_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the task was asked for. `state` is `present`, `rolled_back` or `finalized`."""

    state: str
    disks: tuple[Wanted, ...]
    accept_full_allocation: bool = False
    accept_full_scsi: bool = False
    accept_seen_elsewhere: bool = False
    discard_writes_since: str | None = None
    every_byte: bool = False


@dataclass(frozen=True, kw_only=True)
class Situation:
    """Everything that was observed; mappings have the shapes that `disk_info` and `guest_disk_info` return.

    Attributes:
        view: `disk_info` of the host, asked for this VM alone.
        volumes: mounted volumes of the host (path, letter, free_bytes).
        full_scsi: the VM's guest may send any SCSI command to its pass-through disks.
        layouts: partition tables of LUNs by UniqueId.
        guest: `guest_disk_info` of the VM's guest, if it was asked.
        other_hosts: `disk_info` of other hosts by name, if they were asked.
    """

    view: Mapping[str, Any]
    volumes: Sequence[Mapping[str, Any]] = ()
    full_scsi: bool = False
    layouts: Mapping[str, DiskLayout] = field(default_factory=dict)
    record: MigrationRecord | None = None
    guest: Mapping[str, Any] | None = None
    other_hosts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def vm(self) -> Mapping[str, Any]:
        vm: Mapping[str, Any] = self.view["vms"][0]
        return vm

    def vm_disk_at(self, slot: Slot) -> Mapping[str, Any] | None:
        return next((disk for disk in self.vm["disks"] if same_slot(Slot(**disk["slot"]), slot)), None)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Why it cannot be done (`kind` for machines), and at which slot if at one."""

    kind: str
    sentence: str
    slot: Slot | None = None


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step. `copied_bytes` is what it reads and writes, which is what takes time."""

    kind: str
    sentence: str
    slot: Slot | None = None
    needs_vm_off: bool = False
    copied_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class MigrationPlan:
    """Ordered steps, or the findings that forbid them.

    Attributes:
        disks: the disks as the record will hold them when the first step is done.
        fits: the fit of each disk whose destination is known, by `slot.describe()`.
        notes: what the operator should know, no obstacle.
    """

    steps: tuple[Step, ...] = ()
    findings: tuple[Finding, ...] = ()
    disks: tuple[DiskMigration, ...] = ()
    fits: Mapping[str, Fit] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def refused(self) -> bool:
        return bool(self.findings)

    @property
    def copied_bytes_while_off(self) -> int:
        return sum(step.copied_bytes for step in self.steps if step.needs_vm_off)

    def downtime(self) -> dict[str, Any]:
        """`class` is `none`, `short` (no copy while the VM is off) or `copy`; hours are an estimate, said as one."""
        needs = any(step.needs_vm_off for step in self.steps)
        copied = self.copied_bytes_while_off
        return {
            "class": "copy" if copied else "short" if needs else "none",
            "copied_bytes": copied,
            "estimated_hours": estimated_hours(copied) if copied else 0,
        }

    def describe(self) -> list[dict[str, Any]]:
        return [record_dict(step) for step in self.steps]

    def text(self) -> str:
        """The plan as lines for `--diff`."""
        lines = [f"{'[VM off] ' if step.needs_vm_off else ''}{step.sentence}" for step in self.steps]
        return "".join(f"{line}\n" for line in lines)

    def sentence(self) -> str:
        """All findings in one message."""
        return " ".join(finding.sentence for finding in self.findings)


# --- Where a disk really is ----------------------------------------------------------------------------------------


def holds_file(vm_disk: Mapping[str, Any] | None, path: str | None) -> bool:
    return bool(vm_disk and path and str(vm_disk.get("path") or "").casefold() == path.casefold())


def holds_lun(vm_disk: Mapping[str, Any] | None, identity: Mapping[str, Any] | None) -> bool:
    if not vm_disk or not identity or vm_disk.get("attachment") != "pass_through":
        return False
    lun = vm_disk.get("lun") or {}
    wanted = str(identity.get("unique_id") or "").casefold()
    return bool(wanted) and str(lun.get("unique_id") or "").casefold() == wanted


def original_is_attached(disk: DiskMigration, vm_disk: Mapping[str, Any] | None) -> bool:
    """Whether the slot holds what it held before this leg."""
    if disk.leg == "growth":
        return holds_file(vm_disk, disk.staging_path)
    return disk.leg != "new" and holds_lun(vm_disk, disk.source)


def as_observed(disk: DiskMigration, vm_disk: Mapping[str, Any] | None) -> DiskMigration:
    """The record corrected by the slot: a run that was broken off may have changed it without writing so.

    The source back at its slot means that the VM may have run on it since, so that a copy is worth nothing.
    """
    before = "planned" if disk.leg == "staging" else "prepared"
    if not disk.is_under_way or disk.cut_over is not None:
        return disk
    if disk.is_past("detached") and original_is_attached(disk, vm_disk):
        return replace(disk, stage=before, job=None)
    if disk.stage == "named" and holds_file(vm_disk, disk.target_path):
        return replace(disk, stage="attached")
    return disk


# --- Steps ---------------------------------------------------------------------------------------------------------


def source_text(disk: DiskMigration) -> str:
    if disk.leg == "growth":
        return str(disk.staging_path)
    return f"the LUN {(disk.source or {}).get('unique_id')}"


def present_steps(
    disks: Sequence[DiskMigration],
    *,
    recorded: MigrationRecord | None,
    vm: Mapping[str, Any],
    every_byte: bool = False,
) -> list[Step]:
    """What is left until every one of these disks is a VHD at its slot, in the order in which it is done.

    All that can be done while the VM runs is done first; then one downtime serves all disks.
    """
    left = [disk for disk in disks if disk.is_under_way]
    steps: list[Step] = []
    if not left:
        return steps
    known = {disk.slot: disk for disk in recorded.disks if disk.is_under_way} if recorded is not None else {}
    new = [disk for disk in left if disk.slot not in known]
    if new:
        steps.append(Step(kind="record", sentence=_record_sentence(new)))
    for disk in left:
        if disk.leg != "staging" and not disk.is_past("prepared"):
            steps += _preparation(disk)
    if not any(needs_downtime(disk, vm) for disk in left):
        return [*steps, *_per_disk(left, _making(every_byte), vm_off=False), _close(left)]
    before_cut_over = [disk for disk in left if disk.cut_over is None]
    if before_cut_over:
        steps += _downtime_begins(recorded, vm)
        table = (("detached", _detach), *_making(every_byte))
        steps += _per_disk(before_cut_over, table, vm_off=True)
        steps.append(
            Step(kind="cut_over", sentence="write down that the VM uses the VHD from now on", needs_vm_off=True)
        )
    steps += _downtime_ends(recorded, vm)
    return [*steps, _close(left)]


def needs_downtime(disk: DiskMigration, vm: Mapping[str, Any]) -> bool:
    """An empty VHD at a SCSI controller is added while the VM runs (hyperv-wmi 3.5); all else needs the VM off."""
    return disk.leg != "new" or (disk.slot.controller_type.upper() == "IDE" and vm["state"] != "off")


def _record_sentence(disks: Sequence[DiskMigration]) -> str:
    slots = ", ".join(disk.slot.describe() for disk in disks)
    return f"write the migration of {slots} into the host's registry, so that a rerun or a rollback knows it"


def _preparation(disk: DiskMigration) -> list[Step]:
    unique_id = (disk.destination or {}).get("unique_id")
    steps = []
    if disk.leg == "growth":
        steps.append(
            Step(
                kind="wipe",
                slot=disk.slot,
                sentence=f"wipe the LUN {unique_id}: from then on the only copy is {disk.staging_path}",
            )
        )
    steps.append(
        Step(
            kind="prepare",
            slot=disk.slot,
            sentence=(
                f"bring the LUN {unique_id} online on the host, make one {disk.file_system} volume with clusters of "
                f"{disk.allocation_unit} bytes as {disk.drive_letter}:, and read what it has free"
            ),
        )
    )
    return steps


def _downtime_begins(recorded: MigrationRecord | None, vm: Mapping[str, Any]) -> list[Step]:
    action = (recorded.automatic_start_action if recorded else None) or vm["automatic_start_action"]
    steps = []
    if vm["automatic_start_action"] != "Nothing" or (recorded and recorded.downtime_began):
        steps.append(
            Step(
                kind="hold_start_action",
                sentence=f"write down the automatic start action {action} and set it to Nothing, so that no restart of the "
                f"host starts VM {vm['name']} meanwhile",
            )
        )
    else:
        steps.append(Step(kind="hold_start_action", sentence="write down that the automatic start action is Nothing"))
    if vm["state"] != "off":
        steps.append(Step(kind="shut_down", sentence=f"shut VM {vm['name']} down: the downtime begins"))
    return steps


def _downtime_ends(recorded: MigrationRecord | None, vm: Mapping[str, Any]) -> list[Step]:
    action = (recorded.automatic_start_action if recorded else None) or vm["automatic_start_action"]
    steps = [Step(kind="restore_start_action", sentence=f"set the automatic start action to {action} again")]
    if was_running(recorded, vm):
        steps.append(Step(kind="start", sentence=f"start VM {vm['name']}: the downtime ends"))
    return steps


def was_running(recorded: MigrationRecord | None, vm: Mapping[str, Any]) -> bool:
    if recorded is not None and recorded.downtime_began and recorded.was_running is not None:
        return recorded.was_running
    return bool(vm["state"] == "running")


def _close(disks: Sequence[DiskMigration]) -> Step:
    waits = [disk for disk in disks if disk.leg == "staging"]
    if waits:
        return Step(
            kind="close",
            sentence="write down that the VM runs on the staging VHD and waits for the array to grow the LUN",
        )
    return Step(kind="close", sentence="write down that the migration is done")


_Maker = Callable[[DiskMigration], Step]


def _per_disk(disks: Sequence[DiskMigration], table: Sequence[tuple[str, _Maker]], *, vm_off: bool) -> list[Step]:
    """One kind of step for all disks before the next kind, so that all fail early or none is attached."""
    return [
        replace(make(disk), slot=disk.slot, needs_vm_off=vm_off)
        for stage, make in table
        for disk in disks
        if not disk.is_past(stage) and not (disk.leg == "new" and stage == "detached")
    ]


def _detach(disk: DiskMigration) -> Step:
    return Step(kind="detach", sentence=f"take {source_text(disk)} from {disk.slot.describe()}")


def _copy(disk: DiskMigration) -> Step:
    if disk.leg == "new":
        return Step(
            kind="copy",
            sentence=f"make the empty fixed {disk.format} {disk.target_path} of {gib_text(disk.size_bytes)}",
            copied_bytes=disk.size_bytes,
        )
    return Step(
        kind="copy",
        sentence=(
            f"rescan, compare the sizes, and copy {source_text(disk)} to the fixed {disk.format} {disk.work_path}: "
            f"{gib_text(disk.size_bytes)}, about {estimated_hours(disk.size_bytes)} h at 100 MiB/s"
        ),
        copied_bytes=disk.size_bytes,
    )


def _verify(disk: DiskMigration) -> Step:
    return Step(
        kind="verify", sentence=f"verify {disk.target_path} under its temporary name, read-only and without letters"
    )


def _compare(disk: DiskMigration) -> Step:
    if disk.leg == "new":
        return _verify(disk)
    return Step(
        kind="verify",
        sentence=(
            f"verify {disk.target_path} under its temporary name, read-only and without letters, and compare every byte with "
            f"{source_text(disk)} by Windows PowerShell on the host: about {estimated_hours(disk.size_bytes)} h more"
        ),
        copied_bytes=disk.size_bytes,
    )


def _name(disk: DiskMigration) -> Step:
    return Step(kind="name", sentence=f"give the file its name {disk.target_path}")


def _attach(disk: DiskMigration) -> Step:
    return Step(kind="attach", sentence=f"attach {disk.target_path} at {disk.slot.describe()}")


def _making(every_byte: bool) -> tuple[tuple[str, _Maker], ...]:
    verify = _compare if every_byte else _verify
    return (("copied", _copy), ("verified", verify), ("named", _name), ("attached", _attach))


def runs_elsewhere(disk: DiskMigration) -> bool:
    """Whether the slot does not hold the pass-through LUN any more, as far as the record knows."""
    return disk.is_past("detached") or disk.leg == "growth"


def rollback_steps(
    disks: Sequence[DiskMigration],
    *,
    recorded: MigrationRecord,
    vm: Mapping[str, Any],
    to_staging: Sequence[DiskMigration],
) -> list[Step]:
    """Back to the pass-through LUNs (or, where a LUN was wiped, to the staging VHD); VHDs are kept.

    A rollback that was broken off after its last disk still owes the VM its start action and its start.
    """
    steps: list[Step] = []
    touched = [disk for disk in disks if runs_elsewhere(disk)]
    is_owed = recorded.downtime_began is not None and not touched
    if is_owed:
        steps += _downtime_ends(recorded, vm)
    elif touched:
        steps += _downtime_begins(recorded, vm)
        for disk in touched:
            what = str(disk.staging_path) if disk in to_staging else f"the LUN {(disk.source or {}).get('unique_id')}"
            steps.append(
                Step(
                    kind="put_back",
                    slot=disk.slot,
                    needs_vm_off=True,
                    sentence=f"take the VHD from {disk.slot.describe()} (the file stays) and attach {what} there again",
                )
            )
        steps += _downtime_ends(recorded, vm)
    if disks or is_owed:
        steps.append(Step(kind="close_rollback", sentence="write down that the migration was rolled back"))
    return steps
