# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""Attach and detach a VM's disks, pass-through and virtual, by slot; each call is followed by reading back what it did.

Hyper-V takes the host disk by its number of the moment (hyperv-wmi 3.2). So a LUN is found by identity right before the
call, its drive in Hyper-V is read, the identity is proven once more, and what the VM then has is read back: a disk that is
not the wanted one is taken away again at once.

Not here: whether it may be done (`passthrough_plan`), power (`vm_power`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .._wsman import CimInstance, CimPath, Value, object_path
from .cim_access import CimClient, int_of
from .disk_selector import DiskSelector, select_disk
from .errors import HypervError, Precondition
from .host import observe_host
from .host_disks import host_drive, set_offline
from .host_topology import PHYSICAL_DISK_DRIVE
from .jobs import Hands, act, look_until
from .model import HostView, Slot, VmDisk, record_dict
from .passthrough_plan import (
    PASS_THROUGH,
    PlanStep,
    Wanted,
    controller_of,
    disk_at,
    plan_attached,
    plan_detached,
)
from .schema import VIRTUALIZATION

MANAGEMENT_SERVICE = CimPath(
    VIRTUALIZATION,
    "Msvm_VirtualSystemManagementService",
    {"CreationClassName": "Msvm_VirtualSystemManagementService"},
)
# hyperv-wmi 2.1
_DISK_DRIVE, _LOGICAL_DISK = 17, 31
_SYNTHETIC_DISK_DRIVE = "Microsoft:Hyper-V:Synthetic Disk Drive"
_VIRTUAL_HARD_DISK = "Microsoft:Hyper-V:Virtual Hard Disk"
_RESOURCE, _STORAGE = "Msvm_ResourceAllocationSettingData", "Msvm_StorageAllocationSettingData"


def setting_path(instance_id: str, class_name: str = _RESOURCE) -> CimPath:
    return CimPath(VIRTUALIZATION, class_name, {"InstanceID": instance_id})


def take_step(client: CimClient, vm_id: str, step: PlanStep, hands: Hands, *, allow_running: bool = False) -> None:
    """One step of a plan of `passthrough_plan`."""
    if step.kind == "take_offline" and step.lun is not None:
        set_offline(client, step.lun, hands)
    elif step.kind == "detach" and step.slot is not None:
        detach(client, vm_id, step.slot, hands, expected=step.lun, allow_running=allow_running)
    elif step.kind == "attach" and step.slot is not None and step.lun is not None:
        attach(client, vm_id, step.slot, step.lun, hands, allow_running=allow_running)
    else:
        raise ValueError(f"{step.kind} is no step of a plan")


def attach(
    client: CimClient, vm_id: str, slot: Slot, lun: DiskSelector, hands: Hands, *, allow_running: bool = False
) -> VmDisk:
    """Attach a LUN at a free slot of a VM that is off, and prove that it is the LUN which is there afterwards.

    Raises: the findings of `plan_attached` as Precondition; those of `host_drive`; HypervError `wrong_disk_attached`: the
        host's disks changed meanwhile, and the drive was taken away again; MethodFailed, JobFailed.
    """
    view = observe_host(client, vms=[vm_id])
    plan = plan_attached(
        _vm(view), _luns(view), Wanted(slot=slot, lun=lun), take_offline=False, allow_running=allow_running
    )
    plan.check()
    if not plan.steps:
        return _required(view, slot)
    drive, _unused = host_drive(client, lun, hands)
    host = view.host.name
    what = f"Attaching {lun.describe()} at {slot.describe()} of VM {view.vms[0].name}"
    _add(
        client,
        vm_id,
        _RESOURCE,
        {
            "ResourceType": _DISK_DRIVE,
            "ResourceSubType": PHYSICAL_DISK_DRIVE,
            "Parent": _controller(view, slot),
            "AddressOnParent": str(slot.controller_location),
            "HostResource": [object_path(drive, host)],
        },
        hands,
        what=what,
    )

    def look() -> HostView | None:
        seen = observe_host(client, vms=[vm_id])
        return seen if disk_at(_vm(seen), slot) is not None else None

    return _prove(client, look_until(look, hands, what=what), slot, lun, hands)


def _prove(client: CimClient, view: HostView, slot: Slot, lun: DiskSelector, hands: Hands) -> VmDisk:
    """The drive at the slot, when it is the LUN; else it is taken away again."""
    disk = _required(view, slot)
    problem = disk.reason
    if disk.attachment == "pass_through" and disk.lun is not None:
        try:
            chosen = select_disk(_luns(view), lun, where="the host")
            if chosen["number"] == disk.lun.number and chosen["unique_id"] == disk.lun.unique_id:
                return disk
            problem = f"the drive leads to UniqueId {disk.lun.unique_id}"
        except HypervError as error:
            problem = error.sentence
    if disk.attachment in PASS_THROUGH:
        _remove(client, view.vms[0].id, disk, hands)
    raise HypervError(
        "wrong_disk_attached",
        f"After {lun.describe()} was attached at {slot.describe()} of VM {view.vms[0].name}, another disk was found there "
        f"({problem}): the host's disk numbers moved in that moment. The drive was taken away again and nothing was "
        f"written; run again.",
    )


def detach(
    client: CimClient,
    vm_id: str,
    slot: Slot,
    hands: Hands,
    *,
    expected: DiskSelector | None = None,
    allow_running: bool = False,
) -> VmDisk | None:
    """Take away the pass-through drive at a slot; what was there, None when nothing was.

    Args:
        expected: refuse when another LUN is there. A drive that leads to nothing is taken away all the same.

    Raises: the findings of `plan_detached` as Precondition; MethodFailed, JobFailed.
    """
    view = observe_host(client, vms=[vm_id])
    at_slot = disk_at(_vm(view), slot)
    resolved = at_slot is not None and at_slot["attachment"] == "pass_through"
    plan = plan_detached(
        _vm(view), _luns(view), slot=slot, lun=expected if resolved else None, allow_running=allow_running
    )
    plan.check()
    if not plan.steps:
        return None
    disk = _required(view, slot)
    _remove(client, vm_id, disk, hands)
    return disk


def _remove(client: CimClient, vm_id: str, disk: VmDisk, hands: Hands) -> None:
    what = f"Detaching the drive at {disk.slot.describe()} of VM {vm_id}"
    act(
        client,
        MANAGEMENT_SERVICE,
        "RemoveResourceSettings",
        {"ResourceSettings": [setting_path(disk.drive_id)]},
        hands,
        what=what,
    )
    look_until(lambda: _gone(observe_host(client, vms=[vm_id]), disk), hands, what=what)


def _gone(view: HostView, disk: VmDisk) -> bool | None:
    return True if all(one.drive_id.casefold() != disk.drive_id.casefold() for one in view.vms[0].disks) else None


def attach_vhd(
    client: CimClient, vm_id: str, slot: Slot, path: str, hands: Hands, *, allow_running: bool = False
) -> VmDisk:
    """Attach a virtual hard disk file at a slot that is free, or that holds an empty drive left by an interrupted run.

    Raises: Precondition `slot_taken`, `no_such_controller`, `vm_not_off`, `vm_saved`, `vm_busy`; MethodFailed, JobFailed.
    """
    view = observe_host(client, vms=[vm_id])
    vm = view.vms[0]
    disk = _disk(view, slot)
    if disk is not None and _is_file(disk, path):
        return disk
    _check_off(view, allow_running=allow_running and slot.controller_type == "SCSI")
    if disk is not None and not _is_empty_drive(client, disk):
        raise Precondition(
            "slot_taken", f"Slot {slot.describe()} of VM {vm.name} holds {disk.path or disk.attachment}; free it first."
        )
    what = f"Attaching {path} at {slot.describe()} of VM {vm.name}"
    if disk is None:
        settings: dict[str, Value] = {
            "ResourceType": _DISK_DRIVE,
            "ResourceSubType": _SYNTHETIC_DISK_DRIVE,
            "Parent": _controller(view, slot),
            "AddressOnParent": str(slot.controller_location),
        }
        _add(client, vm_id, _RESOURCE, settings, hands, what=what)
        disk = look_until(lambda: _disk(observe_host(client, vms=[vm_id]), slot), hands, what=what)
    settings = {
        "ResourceType": _LOGICAL_DISK,
        "ResourceSubType": _VIRTUAL_HARD_DISK,
        "Parent": object_path(setting_path(disk.drive_id), view.host.name),
        "HostResource": [path],
    }
    _add(client, vm_id, _STORAGE, settings, hands, what=what)

    def look() -> VmDisk | None:
        now = _disk(observe_host(client, vms=[vm_id]), slot)
        return now if now is not None and _is_file(now, path) else None

    return look_until(look, hands, what=what)


def detach_vhd(
    client: CimClient, vm_id: str, slot: Slot, hands: Hands, *, path: str, allow_running: bool = False
) -> bool:
    """Take a virtual hard disk away from a slot: the medium first, then its drive (hyperv-wmi 3.6). The file stays.

    Returns: whether there was something to take away.

    Raises: Precondition `other_vhd`: the slot holds something else; and as `attach_vhd`.
    """
    view = observe_host(client, vms=[vm_id])
    disk = _disk(view, slot)
    if disk is None:
        return False
    if not _is_file(disk, path) and not _is_empty_drive(client, disk):
        raise Precondition(
            "other_vhd",
            f"Slot {slot.describe()} of VM {view.vms[0].name} holds {disk.path or disk.attachment} and not {path}; it is left "
            f"alone.",
        )
    _check_off(view, allow_running=allow_running and slot.controller_type == "SCSI")
    what = f"Detaching {path} from {slot.describe()} of VM {view.vms[0].name}"
    if disk.attachment != "empty":
        medium = setting_path(f"{disk.drive_id[:-1]}L", _STORAGE)  # hyperv-wmi 2.4
        act(client, MANAGEMENT_SERVICE, "RemoveResourceSettings", {"ResourceSettings": [medium]}, hands, what=what)

        def emptied() -> VmDisk | None:
            now = _disk(observe_host(client, vms=[vm_id]), slot)
            return now if now is not None and now.attachment == "empty" else None

        disk = look_until(emptied, hands, what=what)
    _remove(client, vm_id, disk, hands)
    return True


# --- Shared by all of them ------------------------------------------------------------------------------------------


def _add(
    client: CimClient, vm_id: str, class_name: str, settings: Mapping[str, Value], hands: Hands, *, what: str
) -> None:
    """AddResourceSettings of one device. What it made is read back and not taken from the answer (hyperv-wmi 4.2)."""
    act(
        client,
        MANAGEMENT_SERVICE,
        "AddResourceSettings",
        {
            "AffectedConfiguration": setting_path(f"Microsoft:{vm_id}", "Msvm_VirtualSystemSettingData"),
            "ResourceSettings": [CimInstance(class_name, VIRTUALIZATION, settings)],
        },
        hands,
        what=what,
    )


def _controller(view: HostView, slot: Slot) -> str:
    controller = controller_of(_vm(view), slot)
    if controller is None:
        raise Precondition(
            "no_such_controller",
            f"VM {view.vms[0].name} has no controller {slot.controller_type} {slot.controller_number}; add it first.",
        )
    return object_path(setting_path(controller), view.host.name)


def _check_off(view: HostView, *, allow_running: bool) -> None:
    vm = view.vms[0]
    if vm.busy:
        raise Precondition(
            "vm_busy", f"Hyper-V is at work on VM {vm.name} ({vm.busy}); wait for its end, then run again."
        )
    if vm.state == "saved":
        raise Precondition(
            "vm_saved", f"VM {vm.name} is saved and would resume onto other disks; discard the saved state first."
        )
    if vm.state != "off" and not (allow_running and vm.state == "running"):
        raise Precondition("vm_not_off", f"VM {vm.name} is {vm.state} and must be off; shut it down first.")


def _vm(view: HostView) -> dict[str, object]:
    return record_dict(view.vms[0])


def _luns(view: HostView) -> Sequence[dict[str, object]]:
    return [record_dict(lun) for lun in view.luns]


def _disk(view: HostView, slot: Slot) -> VmDisk | None:
    return next((disk for disk in view.vms[0].disks if disk.slot == slot), None)


def _required(view: HostView, slot: Slot) -> VmDisk:
    disk = _disk(view, slot)
    if disk is None:
        raise HypervError("not_observed", f"Slot {slot.describe()} of VM {view.vms[0].name} is empty again; run again.")
    return disk


def _is_file(disk: VmDisk, path: str) -> bool:
    return disk.path is not None and disk.path.casefold() == path.casefold() and disk.attachment != "dvd"


def _is_empty_drive(client: CimClient, disk: VmDisk) -> bool:
    """Whether it is a disk drive without medium; an empty DVD drive looks alike and is never touched."""
    return disk.attachment == "empty" and int_of(client.get(setting_path(disk.drive_id)), "ResourceType") == _DISK_DRIVE
