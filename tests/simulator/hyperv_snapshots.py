# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Responsible for Msvm_VirtualSystemSnapshotService: creating, applying and destroying checkpoints.

Always a job, never a ResultingSnapshot in the answer. Bytes are moved by checkpoints.py.
Facts: hyperv-wmi 7.1, 7.2, backup-engines 3.3.
"""

from __future__ import annotations

from collections.abc import Callable

from .assumed import assumed
from .checkpoints import apply_checkpoint, delete_checkpoint, take_checkpoint
from .cim import Instance, Ref, Value
from .file_system import FileSystemError
from .hyperv_devices import INTEGRATION
from .hyperv_rows import FAILED, INVALID, INVALID_STATE, NS, Row, owner_of, system_ref, vssd_ref, who
from .hyperv_settings import vm_of
from .hyperv_systems import STARTED, job_ref
from .jobs import Job, JobFailed
from .service import method
from .vhd import ImageError
from .virtual_machine import OFF, RUNNING, SAVED, Checkpoint, Vm
from .world import Machine

SERVICE = "Msvm_VirtualSystemSnapshotService"
FULL, DISK_ONLY, RECOVERY = 2, 3, 32768
BUSY_CREATING, BUSY_APPLYING, BUSY_DELETING, BUSY_MERGING = 32768, 32769, 32770, 32772

assumed(
    "snapshot-passthrough",
    "A checkpoint of a VM with pass-through or Fibre Channel disks, without IgnoreNonSnapshottableDisks, is refused",
    source="facts hyperv-wmi 7.2, backup-engines 3.3",
    values=("refused", "ignored"),
)
assumed(
    "snapshot-passthrough-standard",
    "A standard checkpoint (type 2) of such a VM is refused even with IgnoreNonSnapshottableDisks",
    source="facts hyperv-wmi 7.2",
    values=("refused", "allowed"),
)


assumed(
    "snapshot-element-name",
    "The ElementName of embedded snapshot settings names the checkpoint, or the default name is used",
    source="facts hyperv-wmi 7.1: shown for full system settings only",
    values=("honoured", "default-name"),
)
assumed(
    "snapshot-consistency",
    "An application-consistent recovery checkpoint of a VM whose guest takes no part fails, or is crash-consistent with a"
    " warning",
    source="facts hyperv-wmi 7.1 names the levels, not what happens when one cannot be had",
    values=("fails", "warns"),
)
assumed(
    "snapshot-paused",
    "A recovery checkpoint of a paused VM is refused",
    source="no source",
    values=("refused", "allowed"),
)
assumed(
    "snapshot-merge",
    "After DestroySnapshot the merge of the disks goes on for a while (OperationalStatus 32772), or ends with the job",
    source="facts hyperv-wmi 7.1",
    values=("lingers", "with-the-job"),
)


def _checkpoint(machine: Machine, target: Value) -> tuple[Vm, Checkpoint] | None:
    if not isinstance(target, Ref):
        return None
    wanted = owner_of(str(target.key("InstanceID")))
    for vm in machine.vms:
        for checkpoint in vm.checkpoints:
            if checkpoint.id == wanted:
                return vm, checkpoint
    return None


def _job(machine: Machine, vm: Vm, busy: int, job_type: int, title: str, work: Callable[[], list[Ref]]) -> Row:
    return _started(machine, vm, busy, job_type, title, work)[0]


def _started(
    machine: Machine, vm: Vm, busy: int, job_type: int, title: str, work: Callable[[], list[Ref]]
) -> tuple[Row, Job]:
    vm.busy = busy

    def done() -> list[Ref]:
        vm.busy = None
        try:
            return work()
        except (ImageError, FileSystemError) as problem:
            raise JobFailed(FAILED, str(problem)) from problem

    def failed() -> None:
        vm.busy = None

    job = machine.jobs.start(
        "Msvm_ConcreteJob",
        job_type,
        title,
        done,
        owner=who(),
        subject=vm,
        affected=[(system_ref(vm), 0)],
        seconds=8,
        on_failure=failed,
    )
    return {"ReturnValue": STARTED, "Job": job_ref(job)}, job


@method(NS, SERVICE, "CreateSnapshot")
def create_snapshot(machine: Machine, _target: Instance | None, arguments: dict[str, Value]) -> Row:
    vm = vm_of(machine, arguments.get("AffectedSystem"))
    kind = arguments.get("SnapshotType")
    if vm is None or not isinstance(kind, int) or kind not in (FULL, DISK_ONLY, RECOVERY):
        return {"ReturnValue": INVALID}
    if vm.busy is not None or vm.state not in (RUNNING, OFF, SAVED, 9):
        return {"ReturnValue": INVALID_STATE}
    if vm.settings.user_snapshot_type == 2 and kind != RECOVERY:
        return {"ReturnValue": INVALID_STATE}
    if kind == RECOVERY and vm.state == 9 and machine.world.assume("snapshot-paused") == "refused":
        return {"ReturnValue": INVALID_STATE}
    settings = arguments.get("SnapshotSettings")
    given = settings if isinstance(settings, Instance) else None
    problem = _refusal(machine, vm, kind, ignore=bool(given is not None and given.get("IgnoreNonSnapshottableDisks")))
    name = str(given.get("ElementName") or "") if given is not None else ""
    plain = given is not None and given.class_name.lower() == "msvm_virtualsystemsnapshotsettingdata"
    if not name or (plain and machine.world.assume("snapshot-element-name") == "default-name"):
        name = f"{vm.name} - ({machine.local_now():%m/%d/%Y - %I:%M:%S %p})"
    word = {FULL: "standard", DISK_ONLY: "production", RECOVERY: "recovery"}[kind]
    warning = ""
    if kind == RECOVERY and given is not None and given.get("ConsistencyLevel") == 1 and not _takes_part(vm):
        text = f"The guest of '{vm.name}' takes no part in an application-consistent checkpoint."
        if machine.world.assume("snapshot-consistency") == "warns":
            warning = text
        else:
            problem = problem or text

    def work() -> list[Ref]:
        if problem:
            raise JobFailed(FAILED, problem)
        made = take_checkpoint(vm, name, word, with_memory=kind == FULL and vm.running)
        return [vssd_ref(made.id)]

    answer, job = _started(machine, vm, BUSY_CREATING, 70, "Creating Virtual Machine Checkpoint", work)
    job.warning = warning
    return answer


def _takes_part(vm: Vm) -> bool:
    """Whether the guest's VSS can make the checkpoint application-consistent; a VM that does not run always is."""
    if vm.state != RUNNING:
        return True
    offered = vm.settings.integration.get("Vss", bool(INTEGRATION))
    return bool(vm.guest_runs and vm.traits.vss and vm.traits.integration_installed and offered)


def _refusal(machine: Machine, vm: Vm, kind: int, *, ignore: bool) -> str | None:
    """Why the checkpoint cannot be, None when it can."""
    if vm.physical_drives() or vm.fibre_channel:
        rule = machine.world.assume("snapshot-passthrough") == "refused"
        standard = kind == FULL and machine.world.assume("snapshot-passthrough-standard") == "refused"
        if rule and (not ignore or standard):
            return f"Checkpoint operation for '{vm.name}' failed: it has disks that cannot be in a checkpoint."
    if any(d.medium is not None and d.medium.shared for _c, d in vm.drives()) and kind == FULL:
        return f"Checkpoint operation for '{vm.name}' failed: it has a shared virtual hard disk."
    if kind == DISK_ONLY and vm.state == RUNNING and vm.settings.user_snapshot_type == 4 and not _takes_part(vm):
        return f"Production checkpoints cannot be created for '{vm.name}': the guest does not take part."
    return None


@method(NS, SERVICE, "DestroySnapshot")
def destroy_snapshot(machine: Machine, _target: Instance | None, arguments: dict[str, Value]) -> Row:
    found = _checkpoint(machine, arguments.get("AffectedSnapshot"))
    if found is None:
        return {"ReturnValue": INVALID}
    vm, checkpoint = found
    if vm.busy is not None:
        return {"ReturnValue": INVALID_STATE}

    def work() -> list[Ref]:
        delete_checkpoint(vm, checkpoint)
        if vm.running and machine.world.assume("snapshot-merge") == "lingers":
            _linger(machine, vm)
        return []

    return _job(machine, vm, BUSY_DELETING, 72, "Deleting Virtual Machine Checkpoint", work)


def _linger(machine: Machine, vm: Vm) -> None:
    """The merge of a running VM's disks: a job of its own that a look at the VM moves on. The bytes are merged already."""

    def over() -> None:
        vm.busy = None

    vm.busy = BUSY_MERGING
    machine.jobs.start(
        "Msvm_ConcreteJob", 50, "Merging Disks", over, owner=who(), subject=vm, seconds=4, on_failure=over
    )


@method(NS, SERVICE, "DestroySnapshotTree")
def destroy_snapshot_tree(machine: Machine, _target: Instance | None, arguments: dict[str, Value]) -> Row:
    found = _checkpoint(machine, arguments.get("SnapshotSettingData"))
    if found is None:
        return {"ReturnValue": INVALID}
    vm, root = found
    if vm.busy is not None:
        return {"ReturnValue": INVALID_STATE}

    def work() -> list[Ref]:
        doomed = [root]
        for checkpoint in doomed:
            doomed += [c for c in vm.checkpoints if c.parent == checkpoint.id]
        for checkpoint in reversed(doomed):
            delete_checkpoint(vm, checkpoint)
        return []

    return _job(machine, vm, BUSY_DELETING, 72, "Deleting Virtual Machine Checkpoint Tree", work)


@method(NS, SERVICE, "ApplySnapshot")
def apply_snapshot(machine: Machine, _target: Instance | None, arguments: dict[str, Value]) -> Row:
    found = _checkpoint(machine, arguments.get("Snapshot"))
    if found is None:
        return {"ReturnValue": INVALID}
    vm, checkpoint = found
    if vm.busy is not None or vm.state not in (OFF, SAVED):
        return {"ReturnValue": INVALID_STATE}

    def work() -> list[Ref]:
        if vm.state == SAVED:
            vm.set_state(OFF)
        apply_checkpoint(vm, checkpoint)
        if checkpoint.with_memory:
            vm.state = SAVED
        return []

    return _job(machine, vm, BUSY_APPLYING, 71, "Applying Virtual Machine Checkpoint", work)


@method(NS, SERVICE, "ClearSnapshotState")
def clear_snapshot_state(machine: Machine, _target: Instance | None, arguments: dict[str, Value]) -> Row:
    found = _checkpoint(machine, arguments.get("SnapshotSettingData"))
    if found is None:
        return {"ReturnValue": INVALID}
    vm, checkpoint = found

    def work() -> list[Ref]:
        checkpoint.with_memory = False
        return []

    return _job(machine, vm, BUSY_DELETING, 73, "Clearing Checkpoint State", work)
