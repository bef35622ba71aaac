# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""Does a migration's steps, one by one, and writes down after each of them how far it is.

Every step looks before it acts and changes nothing that is so already, so that a run which was broken off anywhere is
continued by the next one. Identities are proven again before each destructive call (`host_disks`, `passthrough`). When a
step fails before the cut-over, the VM gets back what it had, in the same run, unless a copy still reads the source.

Not here: which steps (`migration_steps`), whether they may be done (`migration_plan`), the guest's side (the role).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from . import image_service as images
from .cim_access import CimClient, bool_of
from .copy_verification import CopyVerification
from .destination_volume import prepare_volume, wipe
from .disk_comparison import Comparer
from .disk_selector import DiskSelector
from .errors import HypervError, Precondition
from .host import observe_host
from .host_disks import act_on_disk, read_disk, read_lun, rescan
from .host_files import delete_own_file, file_at, rename_file
from .image_service import DiskLayout, disk_layout
from .jobs import Hands
from .migration_record import DiskMigration, MigrationRecord, MigrationStore
from .migration_steps import MigrationPlan, Situation, Step, original_is_attached
from .model import Slot, utc_text
from .passthrough import attach, attach_vhd, detach, detach_vhd
from .schema import VIRTUALIZATION
from .vhd_fit import Fit
from .vm_power import change_power, read_power
from .vm_settings import set_automatic_start_action
from .volumes import mounted_volumes

_NOTHING = "Nothing"
# After these the run may not touch anything any more, not even to put something back.
_NOT_OURS_ANY_MORE = frozenset({"superseded", "orphaned"})


def observe_situation(
    client: CimClient,
    store: MigrationStore,
    vm: str,
    *,
    guest: Mapping[str, Any] | None = None,
    other_hosts: Mapping[str, Mapping[str, Any]] | None = None,
) -> Situation:
    """Everything that the plan is made from.

    Raises: as `observe_host`; HypervError `migration_unreadable`.
    """
    view = observe_host(client, vms=[vm], vhd_details=True).to_dict()
    found: Mapping[str, Any] = view["vms"][0]  # type: ignore[index]  # to_dict gives JSON types
    return Situation(
        view=view,
        volumes=[volume.to_dict() for volume in mounted_volumes(client)],
        full_scsi=_full_scsi(client, found["id"]),
        layouts=_layouts(client, found),
        record=store.read(found["id"]),
        guest=guest,
        other_hosts=other_hosts or {},
    )


def _full_scsi(client: CimClient, vm_id: str) -> bool:
    rows = client.query(
        VIRTUALIZATION, "Msvm_VirtualSystemSettingData", where=f"InstanceID = 'Microsoft:{vm_id.upper()}'"
    )
    return any(bool_of(row, "AllowFullSCSICommandSet") for row in rows)


def _layouts(client: CimClient, vm: Mapping[str, Any]) -> dict[str, DiskLayout]:
    """Partition tables of the VM's pass-through LUNs; a LUN that cannot be told apart is the planner's finding."""
    found = {}
    for disk in vm["disks"]:
        if disk["attachment"] == "pass_through" and disk["lun"]:
            try:
                row, lun = read_disk(client, DiskSelector.of(disk["lun"]))
            except HypervError:
                continue
            found[lun.unique_id] = disk_layout(client, row)
    return found


def refresh_grown_luns(client: CimClient, record: MigrationRecord | None, hands: Hands) -> None:
    """Let the host see what the array added to LUNs that wait for their second half (windows-storage 6.2)."""
    waiting = [disk for disk in record.disks if disk.outcome == "awaiting_growth"] if record is not None else []
    if waiting:
        rescan(client, hands)
    for disk in waiting:
        selector = _source(disk)
        try:
            act_on_disk(client, selector, "Refresh", {}, hands, what=f"Looking at {selector.describe()} again")
        except HypervError:
            continue  # some Windows versions do not refresh an offline disk; the plan reads its size in any case


@dataclass(frozen=True, kw_only=True)
class Options:
    """How the steps are done.

    Attributes:
        force: turns the VM off when its guest does not shut down within `shutdown_timeout_s`.
        every_byte: compare every byte of a copy (`verify: full`), not only what CIM tells.
        comparer: does that, and ends what another run began of it.
    """

    force: bool = False
    shutdown_timeout_s: float = 900.0
    every_byte: bool = False
    comparer: Comparer | None = None


class Migration:
    """One run over one VM.

    Args:
        clock: the Hyper-V host's own time.
        landed: called when something was changed, before the next step.
    """

    def __init__(
        self,
        client: CimClient,
        situation: Situation,
        plan: MigrationPlan,
        store: MigrationStore,
        hands: Hands,
        *,
        clock: Callable[[], datetime],
        landed: Callable[[], None],
        options: Options | None = None,
    ) -> None:
        self._client = client
        self._plan = plan
        self._store = store
        self._hands = hands
        self._clock = clock
        self._landed = landed
        self._options = options or Options()
        self._vm = situation.vm
        self._record = situation.record or MigrationRecord(vm_id=self._vm["id"], vm_name=self._vm["name"])
        self._fits = plan.fits

    def run(self) -> MigrationRecord:
        """All steps of the plan. Returns the record as it is then.

        Raises: what a step raises; when the VM got back what it had, the sentence says so, and when it could not, too.
        """
        if not self._plan.steps:
            return self._record
        self._open()
        try:
            for step in self._plan.steps:
                self._hands.progress(step.sentence)
                _STEPS[step.kind](self, step)
                self._landed()
        except Exception as error:
            self._after_failure(error)
            raise
        return self._record

    # -- the record ------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        """The plan's disks into the record, before anything else is changed."""
        record = self._record
        for disk in self._plan.disks:
            record = record.with_disk(replace(disk, problem=""))
        self._write(record)

    def _write(self, record: MigrationRecord) -> None:
        if record != self._record or record.revision == 0:
            self._hands.should_stop()
            self._record = self._store.write(record)
            self._landed()

    def _disk(self, step: Step) -> DiskMigration:
        if step.slot is None:
            raise ValueError(f"step {step.kind} names no slot")
        found = self._record.disk_at(step.slot)
        if found is None:
            raise ValueError(f"step {step.kind} names a slot that is not recorded")
        return found

    def _save(self, disk: DiskMigration, **changes: Any) -> DiskMigration:
        changed = replace(disk, **changes)
        self._write(self._record.with_disk(changed))
        return changed

    def _planned_disks(self) -> Iterator[DiskMigration]:
        for disk in self._plan.disks:
            found = self._record.disk_at(disk.slot)
            if found is not None:
                yield found

    # -- before the downtime ------------------------------------------------------------------------------------------

    def _record_step(self, step: Step) -> None:
        """Done by `_open`."""

    def _wipe(self, step: Step) -> None:
        disk = self._disk(step)
        selector = _destination(disk)
        lun = read_lun(self._client, selector)
        ours = disk.stage == "preparing" and lun.guid != (disk.source or {}).get("guid")
        if lun.partition_style == "RAW" or (ours and lun.signature != ((disk.source or {}).get("signature") or -1)):
            self._save(disk, wiped=True)
            return
        disk = self._save(disk, wiped=True, stage="preparing")
        wipe(self._client, selector, self._hands)

    def _prepare(self, step: Step) -> None:
        disk = self._save(self._disk(step), stage="preparing")
        free = prepare_volume(
            self._client,
            _destination(disk),
            self._hands,
            file_system=disk.file_system,
            allocation_unit=disk.allocation_unit,
            label=disk.path.rpartition("\\")[2].rpartition(".")[0][:32],
            drive_letter=str(disk.drive_letter),
            overwrite=disk.wiped,
        )
        self._check_room(disk, free)
        self._save(disk, stage="prepared", free_bytes=free)

    def _check_room(self, disk: DiskMigration, free: int) -> None:
        """The formatted volume has the last word (windows-storage 5.5), and the VM still runs."""
        planned: Fit | None = self._fits.get(disk.slot.describe())
        if planned is None:
            return
        needed = -(-planned.file_bytes // disk.allocation_unit) * disk.allocation_unit
        if needed > free:
            raise Precondition(
                "does_not_fit",
                f"The volume {disk.drive_letter}: has {free} bytes free after formatting and the file for "
                f"{disk.slot.describe()} needs {needed}; the VM was not touched. Let the array grow the LUN by at least "
                f"{needed - free} bytes, clear it, and run again.",
                {"free_bytes": free, "needed_bytes": needed},
            )

    # -- the downtime -------------------------------------------------------------------------------------------------

    def _hold_start_action(self, step: Step) -> None:
        """The old value is written down before it is changed: a rerun must not take Nothing for it."""
        record = self._record
        if record.downtime_began is None:
            record = replace(
                record,
                automatic_start_action=self._vm["automatic_start_action"],
                was_running=self._vm["state"] == "running",
                downtime_began=utc_text(self._clock()),
                pass_through={
                    Slot(**disk["slot"]).describe(): str(disk["unique_id"])
                    for disk in self._vm["disks"]
                    if disk["attachment"] == "pass_through"
                },
            )
            self._write(record)
        set_automatic_start_action(self._client, self._record.vm_id, _NOTHING, self._hands)

    def _shut_down(self, step: Step) -> None:
        patient, vm_id = self._hands, self._record.vm_id
        try:
            change_power(self._client, vm_id, "shut_down", _Shorter(patient, self._options.shutdown_timeout_s))
        except HypervError as error:
            if not self._options.force or error.kind not in ("shutdown_timeout", "shutdown_refused"):
                raise
            patient.progress(str(error))
            change_power(self._client, vm_id, "off", patient)

    def _detach(self, step: Step) -> None:
        disk = self._disk(step)
        if disk.leg == "growth":
            detach_vhd(self._client, self._record.vm_id, disk.slot, self._hands, path=str(disk.staging_path))
        else:
            detach(self._client, self._record.vm_id, disk.slot, self._hands, expected=_source(disk))
        self._save(disk, stage="detached")

    def _copy(self, step: Step) -> None:
        disk = self._disk(step)
        what = f"Copying {disk.slot.describe()}"
        if disk.job is not None:
            status = images.wait_for_copy(self._client, disk.job, self._hands, what=what)
            if not status.is_done or status.has_failed:
                disk = self._save(disk, job=None)
        if disk.job is None:
            disk = self._copy_anew(disk, what)
        images.check_image(
            self._client,
            disk.work_path,
            format_name=disk.format,
            size_bytes=disk.size_bytes,
            sector_bytes=disk.sector_bytes if disk.sector_bytes != 512 else None,
        )
        self._save(disk, stage="copied", job=None, verified="", sha256=None)

    def _copied_from(self, disk: DiskMigration) -> str | None:
        """The source as the image service takes it, proven right before; None for an empty VHD."""
        if disk.leg == "new":
            return None
        if disk.leg == "growth":
            return str(disk.staging_path)
        rescan(self._client, self._hands)
        lun = read_lun(self._client, _source(disk))
        if lun.size_bytes != disk.size_bytes:
            raise Precondition(
                "size_differs",
                f"The {lun.describe()} has {lun.size_bytes} bytes after a rescan and {disk.size_bytes} when the migration "
                f"began: it was resized on the array meanwhile. Roll back and begin anew.",
            )
        if not lun.is_offline or lun.number is None:
            raise Precondition(
                "lun_online",
                f"The {lun.describe()} is online on the host, so that the host may change it while it is copied; take it "
                f"offline and run again.",
            )
        return images.physical_drive(lun.number)

    def _copy_anew(self, disk: DiskMigration, what: str) -> DiskMigration:
        """From the beginning: what an earlier try left is ours, unfinished, and fills the volume.

        The source's disk number is read anew for each try: what ends a copy unseen may be a restart that moves the numbers.
        """
        if file_at(self._client, disk.target_path) is not None:
            raise Precondition(
                "file_exists",
                f"{disk.target_path} exists already and is never overwritten; move it away, or choose another name.",
            )
        for _unused in range(2):
            images.wait_for_others(self._client, self._hands, what=what)
            if file_at(self._client, disk.work_path) is not None:
                self._let_go(disk)
            delete_own_file(self._client, disk.work_path, self._hands)
            source = self._copied_from(disk)
            if source is None:
                done, job = images.start_making(
                    self._client,
                    disk.work_path,
                    disk.format,
                    self._hands,
                    size_bytes=disk.size_bytes,
                    sector_bytes=disk.sector_bytes,
                )
            else:
                done, job = images.start_copy(self._client, source, disk.work_path, disk.format, self._hands)
            self._landed()
            if done:
                return disk
            if job is None:
                continue  # the answer was lost: whatever was begun is waited out, and the copy begins once more
            disk = self._save(disk, job=job)
            status = images.wait_for_copy(self._client, job, self._hands, what=what)
            if status.has_failed:
                raise images.copy_failed(what, status)
            if status.is_done:
                return disk
            disk = self._save(disk, job=None)  # vanished: nobody knows how it ended
        raise HypervError(
            "copy_unknown",
            f"{what}: twice it could not be seen how the host's copy ended; look at the host, then run again.",
        )

    def _verify(self, step: Step) -> None:
        disk, options = self._disk(step), self._options
        if disk.comparison is not None and not options.every_byte:
            disk = self._let_go(disk)
        # Every run id names the record's revision, so that none is ever used twice.
        run_id = f"verify-{self._record.vm_id.lower()}-{disk.slot.controller_number}-{disk.slot.controller_location}"
        disk = CopyVerification(
            self._client,
            disk,
            self._hands,
            comparer=options.comparer if options.every_byte else None,
            save=self._save,
            run_id=lambda: f"{run_id}-{self._record.revision}",
        ).verify()
        self._save(disk, stage="verified")

    def _name(self, step: Step) -> None:
        disk = self._disk(step)
        rename_file(self._client, disk.work_path, disk.target_path, self._hands)
        self._save(disk, stage="named")

    def _attach(self, step: Step) -> None:
        disk = self._disk(step)
        allow_running = disk.leg == "new" and not step.needs_vm_off
        attach_vhd(
            self._client, self._record.vm_id, disk.slot, disk.target_path, self._hands, allow_running=allow_running
        )
        self._save(disk, stage="attached")

    def _cut_over(self, step: Step) -> None:
        """From here on the VM may write to the VHDs, so that going back loses something."""
        now = utc_text(self._clock())
        record = self._record
        for disk in self._planned_disks():
            if disk.is_under_way and disk.stage == "attached" and disk.cut_over is None:
                record = record.with_disk(replace(disk, cut_over=now))
        self._write(record)

    def _check_disks(self) -> None:
        """Every disk of the VM is its own: a restart of the host moves disk numbers, and pass-through follows the number.

        Raises: Precondition `disks_moved`; neither the start action nor the VM may be touched then.
        """
        view = observe_host(self._client, vms=[self._record.vm_id]).to_dict()
        at = Situation(view=view)
        own = {disk.slot.describe(): str(disk.source.get("unique_id")) for disk in self._record.disks if disk.source}
        known = {**self._record.pass_through, **own}
        wrong = []
        for vm_disk in at.vm["disks"]:
            slot = Slot(**vm_disk["slot"])
            wanted = known.get(slot.describe())
            if vm_disk["attachment"].endswith("pass_through") and vm_disk["unique_id"] != wanted:
                wrong.append(f"{slot.describe()} holds {vm_disk['unique_id'] or 'no LUN'} and not {wanted or 'a VHD'}")
        if wrong:
            raise Precondition(
                "disks_moved",
                f"VM {self._record.vm_name} is not started, because {'; '.join(wrong)}: the host has renumbered its disks. Put "
                f"them right with passthrough_disk, then run again.",
            )

    def _restore_start_action(self, step: Step) -> None:
        self._check_disks()
        wanted = self._record.automatic_start_action
        if wanted is not None:
            set_automatic_start_action(self._client, self._record.vm_id, wanted, self._hands)

    def _start(self, step: Step) -> None:
        self._check_disks()  # once more: the host may have restarted since its start action was put back
        change_power(self._client, self._record.vm_id, "running", self._hands)

    def _close(self, step: Step) -> None:
        record = self._record
        for disk in self._planned_disks():
            if disk.is_under_way:
                outcome = "awaiting_growth" if disk.leg == "staging" else "migrated"
                record = record.with_disk(replace(disk, stage="done", outcome=outcome, job=None))
        self._write(_after_downtime(record))

    # -- back -----------------------------------------------------------------------------------------------------------

    def _after_failure(self, error: Exception) -> None:
        """Give the VM back what it had; adds to the error's sentence what became of that."""
        began = [disk for disk in self._planned_disks() if disk.is_under_way]
        if self._plan.steps[-1].kind != "close" or any(disk.cut_over for disk in began):
            return
        kind = str(getattr(error, "kind", ""))
        if kind in _NOT_OURS_ANY_MORE or (self._record.downtime_began is None and not _past(began)):
            return
        try:
            copying = [disk for disk in began if disk.job and _is_active(self._client, disk.job)]
            if copying or kind == "comparison_timeout":
                what = "copy" if copying else "comparison"
                _add_to(error, f"The {what} goes on and the VM stays off: run again to attach to it, or roll back.")
                return
            self._put_all_back(began, str(error))
        except Exception as second:  # noqa: BLE001  # the first error is the one to tell; this one is told with it
            _add_to(error, f"Putting back what the VM had failed too ({second}); run again, or with state rolled_back.")
            return
        _add_to(error, "The VM has its disks back as they were, and the migration can be run again.")

    def _put_all_back(self, disks: Sequence[DiskMigration], problem: str) -> None:
        for one in _past(disks):
            disk = self._let_go(one)
            detach_vhd_if_there(self._client, self._record.vm_id, disk.slot, disk.target_path, self._hands)
            if disk.stage in ("verified", "named", "attached") and file_at(self._client, disk.target_path) is not None:
                rename_file(self._client, disk.target_path, disk.work_path, self._hands)  # no copy of what comes next
            self._attach_original(disk)
            stage = "planned" if disk.leg == "staging" else "prepared"
            self._save(disk, stage=stage, job=None, problem=problem[:500])
        self._end_downtime()

    def _let_go(self, disk: DiskMigration) -> DiskMigration:
        """End what a broken-off verification may still have open: the comparison, and the mounts that it read."""
        if disk.comparison is not None and self._options.comparer is not None:
            self._hands.should_stop()
            self._options.comparer.stop(disk.comparison)
            disk = self._save(disk, comparison=None)
        images.dismount(self._client, disk.work_path, self._hands)
        if disk.leg == "growth":
            images.dismount(self._client, str(disk.staging_path), self._hands)
        return disk

    def _attach_original(self, disk: DiskMigration) -> None:
        if disk.leg == "new":
            return
        if disk.leg == "growth":
            attach_vhd(self._client, self._record.vm_id, disk.slot, str(disk.staging_path), self._hands)
        else:
            attach(self._client, self._record.vm_id, disk.slot, _source(disk), self._hands)

    def _end_downtime(self) -> None:
        record = self._record
        if record.downtime_began is None:
            return
        self._check_disks()
        if record.automatic_start_action is not None:
            set_automatic_start_action(self._client, record.vm_id, record.automatic_start_action, self._hands)
        if record.was_running and read_power(self._client, record.vm_id).state == "off":  # a saved one is never resumed
            self._check_disks()
            change_power(self._client, record.vm_id, "running", self._hands)
        self._write(_after_downtime(self._record))

    def _put_back(self, step: Step) -> None:
        """The rollback of one disk: the VHD leaves the slot and stays where it is, the original comes back."""
        disk = self._disk(step)
        vm_id = self._record.vm_id
        if disk.job is not None:
            images.cancel_copy(self._client, disk.job, self._hands, what=f"Copying {disk.slot.describe()}")
        disk = self._let_go(disk)
        images.dismount(self._client, disk.target_path, self._hands)
        view = observe_host(self._client, vms=[vm_id]).to_dict()
        vm_disk = Situation(view=view).vm_disk_at(disk.slot)
        to_staging = disk.wiped
        if to_staging:
            detach_vhd_if_there(self._client, vm_id, disk.slot, disk.path, self._hands)
            attach_vhd(self._client, vm_id, disk.slot, str(disk.staging_path), self._hands)
            self._save(
                disk,
                leg="staging",
                stage="done",
                outcome="awaiting_growth",
                job=None,
                cut_over=disk.staging_cut_over,
                staging_cut_over=None,
            )
            return
        if disk.leg == "new":
            detach_vhd_if_there(self._client, vm_id, disk.slot, disk.path, self._hands)
        elif not (disk.leg != "growth" and original_is_attached(disk, vm_disk)):
            for file in filter(None, (disk.target_path, disk.path, disk.staging_path)):
                detach_vhd_if_there(self._client, vm_id, disk.slot, file, self._hands)
            attach(self._client, vm_id, disk.slot, _source(disk), self._hands)
        self._save(disk, outcome="rolled_back", job=None)

    def _close_rollback(self, step: Step) -> None:
        record = self._record
        for disk in self._planned_disks():
            if disk.is_under_way:  # its slot was never touched
                record = record.with_disk(replace(disk, outcome="rolled_back", job=None))
        self._write(_after_downtime(record))

    def _finalize(self, step: Step) -> None:
        self._save(self._disk(step), outcome="finalized")


class _Shorter:
    """The same hands with less patience."""

    def __init__(self, hands: Hands, timeout_s: float) -> None:
        self.sleep, self.now, self.progress = hands.sleep, hands.now, hands.progress
        self.should_stop, self.poll_s, self.timeout_s = hands.should_stop, hands.poll_s, timeout_s


def detach_vhd_if_there(client: CimClient, vm_id: str, slot: Slot, path: str, hands: Hands) -> bool:
    """Take that file, or an empty drive that a broken attach left, from the slot; whatever else hangs there is left alone."""
    view = observe_host(client, vms=[vm_id])
    there = next((disk for disk in view.vms[0].disks if disk.slot == slot), None)
    if there is None or ((there.path or "").casefold() != path.casefold() and there.attachment != "empty"):
        return False
    return detach_vhd(client, vm_id, slot, hands, path=path)


def _past(disks: Sequence[DiskMigration]) -> list[DiskMigration]:
    return [disk for disk in disks if disk.is_past("detached")]


def _is_active(client: CimClient, job_id: str) -> bool:
    status = images.look_at_copy(client, job_id)
    return not (status.is_done or status.has_failed or status.state == "vanished")


def _after_downtime(record: MigrationRecord) -> MigrationRecord:
    return replace(record, automatic_start_action=None, was_running=None, downtime_began=None, pass_through={})


def _source(disk: DiskMigration) -> DiskSelector:
    """Without the size, which is compared where it matters: a LUN that grew meanwhile must still come back to its VM."""
    return DiskSelector.of({**(disk.source or {}), "size_bytes": None})


def _destination(disk: DiskMigration) -> DiskSelector:
    return DiskSelector.of(disk.destination or {})


def _add_to(error: Exception, sentence: str) -> None:
    """Append to the error's one sentence; errors of the protocol keep theirs and get it as their last argument."""
    if isinstance(error, HypervError):
        error.sentence = f"{error.sentence} {sentence}"
        error.args = (error.sentence,)
    elif error.args and isinstance(error.args[0], str):
        error.args = (f"{error.args[0]} {sentence}", *error.args[1:])


_STEPS: Mapping[str, Callable[[Migration, Step], None]] = {
    "record": Migration._record_step,
    "wipe": Migration._wipe,
    "prepare": Migration._prepare,
    "hold_start_action": Migration._hold_start_action,
    "shut_down": Migration._shut_down,
    "detach": Migration._detach,
    "copy": Migration._copy,
    "verify": Migration._verify,
    "name": Migration._name,
    "attach": Migration._attach,
    "cut_over": Migration._cut_over,
    "restore_start_action": Migration._restore_start_action,
    "start": Migration._start,
    "close": Migration._close,
    "put_back": Migration._put_back,
    "close_rollback": Migration._close_rollback,
    "finalize": Migration._finalize,
}
