# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Responsible for changing VMs through Msvm_VirtualSystemManagementService: define, destroy, add, modify, remove, KVP.

A VM that is off is changed at once (0 and references), a running one by a job (4096 and none); what Windows refuses ends
as a failed job, except where the facts know better. Ports are in hyperv_ports.py, export and import in hyperv_export.py.
Facts: hyperv-wmi 3.5, 3.6, 4.1, 4.2, 6.4; wire-shapes 2.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields
from datetime import timedelta
from typing import Any

from .assumed import assumed
from .cim import CimFault, Instance, Ref, Value
from .disks import stable_guid, stable_hex
from .file_system import FileSystemError
from .hyperv_devices import INTEGRATION
from .hyperv_ports import PORT_CLASSES, PORTS, modify_port, remove_port
from .hyperv_rows import (
    FAILED,
    INVALID,
    INVALID_STATE,
    NS,
    Row,
    find_part,
    first_text,
    key_of_path,
    owner_of,
    setting_ref,
    system_ref,
    text,
    vssd_ref,
    who,
)
from .hyperv_storage import HV, RASD, SASD
from .hyperv_systems import STARTED, job_ref
from .image_file import suffix_of
from .jobs import JobFailed
from .service import PROVIDERS, method
from .vhd import ImageError
from .virtual_machine import (
    CONTROLLERS,
    OFF,
    SAVED,
    SLOTS,
    Checkpoint,
    Controller,
    Drive,
    Medium,
    Settings,
    Vm,
)
from .world import Machine

SERVICE = "Msvm_VirtualSystemManagementService"

assumed(
    "settings-refusal",
    "What AddResourceSettings and its kin refuse ends as a failed job, or comes back as the return code",
    source="facts hyperv-wmi 0.5 (job), 4.2 (return code)",
    values=("job", "return code"),
)
assumed(
    "settings-read-only",
    "ModifySystemSettings that echoes read-only properties is refused, or they are ignored",
    source="facts hyperv-wmi 4.2: measured on one host against a production client",
    values=("refused", "ignored"),
)
assumed(
    "settings-sync",
    "ModifySystemSettings and DefineSystem answer 0 at once, or 4096 with a job",
    source="no source",
    values=("sync", "job"),
)
assumed(
    "passthrough-second-attach",
    "A physical disk that a drive of another slot or VM designates already can be attached once more",
    source="facts windows-storage 6.3, backup-engines 1.12",
    values=("allowed", "refused"),
)
assumed(
    "passthrough-attach-online",
    "Attaching a physical disk that is online on the host",
    source="facts hyperv-wmi 3.1, windows-storage 6.3",
    values=("refused", "allowed"),
)
assumed(
    "scsi-controller-hot-add",
    "Adding a SCSI controller to a running VM",
    source="facts hyperv-wmi 3.5",
    values=("refused", "allowed"),
)
assumed(
    "vhd-on-generation-2",
    "A .vhd file cannot be attached to a generation 2 VM",
    source="design 6; product knowledge",
)
assumed(
    "destroy-saved",
    "DestroySystem of a saved VM discards the saved state and works",
    source="facts hyperv-wmi 4.2",
    values=("works", "refused"),
)


@PROVIDERS.refusal(NS)
def refused_text(machine: Machine, _class_name: str, _method: str, code: int, why: str) -> Row:
    """An embedded instance that the provider does not take."""
    return _refuse(machine, None, code, why)


def _refuse(machine: Machine, vm: Vm | None, code: int, why: str, job_type: int = 31) -> Row:
    if machine.world.assume("settings-refusal") == "return code":
        return {"ReturnValue": code}

    def fail() -> None:
        raise JobFailed(code, why)

    affected = [(system_ref(vm), 0)] if vm is not None else []
    job = machine.jobs.start(
        "Msvm_ConcreteJob", job_type, "Modifying Virtual Machine", fail, owner=who(), subject=vm, affected=affected
    )
    return {"ReturnValue": STARTED, "Job": job_ref(job)}


def _perform(
    machine: Machine, vm: Vm, job_type: int, title: str, work: Callable[[], list[Ref]], *, output: str | None
) -> Row:
    """At once when the VM is off, else as a job (hyperv-wmi 4.2)."""
    if vm.busy is not None or vm.state not in (2, OFF, SAVED, 9):
        return {"ReturnValue": INVALID_STATE}
    if vm.state == OFF:
        try:
            created = work()
        except JobFailed as problem:
            return _refuse(machine, vm, problem.code, str(problem), job_type)
        vm.changed()
        return {"ReturnValue": 0, **({output: created} if output else {})}

    def later() -> list[Ref]:
        created = work()
        vm.changed()
        if vm.guest is not None:
            vm.guest.rescan()
        return created

    job = machine.jobs.start(
        "Msvm_ConcreteJob", job_type, title, later, owner=who(), subject=vm, affected=[(system_ref(vm), 0)], seconds=2
    )
    return {"ReturnValue": STARTED, "Job": job_ref(job)}


def vm_of(machine: Machine, target: Value) -> Vm | None:
    """The VM that a reference to a system or to its settings names."""
    if not isinstance(target, Ref):
        return None
    if target.class_name.lower() in ("msvm_computersystem", "msvm_plannedcomputersystem", "cim_computersystem"):
        return machine.vm_by_id(str(target.key("Name")))
    return machine.vm_by_id(owner_of(str(target.key("InstanceID"))))


def _instances(arguments: dict[str, Value], name: str) -> list[Instance]:
    value = arguments.get(name)
    return [v for v in value if isinstance(v, Instance)] if isinstance(value, list) else []


# -- AddResourceSettings


@method(NS, SERVICE, "AddResourceSettings")
def add_resource_settings(machine: Machine, _target: Instance | None, arguments: dict[str, Value]) -> Row:
    vm = vm_of(machine, arguments.get("AffectedConfiguration"))
    resources = _instances(arguments, "ResourceSettings")
    if vm is None or not resources:
        return {"ReturnValue": INVALID}
    return _perform(
        machine,
        vm,
        30,
        "Adding Virtual Machine Resources",
        lambda: [_add(machine, vm, resource) for resource in resources],
        output="ResultingResourceSettings",
    )


def _add(machine: Machine, vm: Vm, resource: Instance) -> Ref:
    kind = resource.get("ResourceType")
    subtype = str(resource.get("ResourceSubType") or "").removeprefix(HV)
    if kind == 6:
        return _add_controller(machine, vm)
    if kind in (14, 16, 17):
        return _add_drive(machine, vm, resource, subtype)
    if kind == 31:
        return _add_medium(machine, vm, resource, subtype)
    if kind in PORTS:
        return PORTS[kind](machine, vm, resource)
    raise JobFailed(INVALID, f"Resource type {kind} cannot be added.")


def _add_controller(machine: Machine, vm: Vm) -> Ref:
    if sum(1 for c in vm.controllers if c.kind == "scsi") >= CONTROLLERS["scsi"]:
        raise JobFailed(INVALID, "The virtual machine has all SCSI controllers that it can have.")
    if vm.running and machine.world.assume("scsi-controller-hot-add") == "refused":
        raise JobFailed(INVALID_STATE, "A SCSI controller cannot be added while the virtual machine runs.")
    controller = vm.add_controller("scsi", machine.world.new_guid("scsi").upper())
    return setting_ref(RASD, controller.instance_id(vm.id))


def _slot(machine: Machine, vm: Vm, resource: Instance) -> tuple[Controller, int]:
    parent = key_of_path(resource.get("Parent"))
    part = find_part(machine, parent) if parent else None
    if part is None or part[0] is not vm or part[2] is not None:
        raise JobFailed(INVALID, "The parent of the new drive was not found: it must be the path of a controller.")
    controller = part[1]
    wanted = resource.get("AddressOnParent")
    if wanted in (None, ""):
        location = next((n for n in range(SLOTS[controller.kind]) if n not in controller.drives), -1)
    else:
        location = int(str(wanted)) if str(wanted).isdigit() else -1
    if not 0 <= location < SLOTS[controller.kind]:
        raise JobFailed(INVALID, f"{wanted!r} is no slot of this controller.")
    if location in controller.drives:
        raise JobFailed(INVALID, f"Slot {location} of the controller is in use.")
    if controller.kind == "ide" and vm.running:
        raise JobFailed(INVALID_STATE, "A drive cannot be added to an IDE controller while the virtual machine runs.")
    return controller, location


_DRIVES = {
    "Synthetic Disk Drive": "disk",
    "Physical Disk Drive": "physical",
    "Synthetic DVD Drive": "dvd",
    "Physical DVD Drive": "physical dvd",
    "Synthetic Diskette Drive": "diskette",
}


def _add_drive(machine: Machine, vm: Vm, resource: Instance, subtype: str) -> Ref:
    kind = _DRIVES.get(subtype)
    if kind is None:
        raise JobFailed(INVALID, f"Resource subtype {subtype!r} is not known.")
    controller, location = _slot(machine, vm, resource)
    drive = Drive(kind, location)
    if kind == "physical":
        drive.host_resource, drive.given = _physical(machine, vm, resource, None)
    controller.drives[location] = drive  # ElementName is ignored on add (hyperv-wmi 3.5)
    return setting_ref(RASD, controller.drive_id(vm.id, location))


def _physical(machine: Machine, vm: Vm, resource: Instance, replaced: Drive | None) -> tuple[str, str | None]:
    """The HostResource of the disk that is named, and its UniqueId."""
    path = first_text(resource.get("HostResource"))
    device = key_of_path(path, "DeviceID")
    number = vm.number_in(device)
    disk = machine.disk_by_number(number) if number is not None else None
    if path is None or disk is None:
        raise JobFailed(INVALID, "The host resource is no physical disk of this host.")
    if disk.online and machine.world.assume("passthrough-attach-online") == "refused":
        raise JobFailed(INVALID, f"Physical disk {number} is online on the host.")
    for other in machine.vms:
        for _controller, drive in other.physical_drives():
            if drive is replaced or other.number_in(drive.host_resource) != number:
                continue
            if machine.world.assume("passthrough-second-attach") == "refused" or (vm.running and other.running):
                raise JobFailed(FAILED, f"Physical disk {number} is in use by '{other.name}'.")
    return vm.host_resource_for(disk.number), disk.identity.unique_id if disk.lun is not None else None


_MEDIA = {"Virtual Hard Disk": "vhd", "Virtual CD/DVD Disk": "iso", "Virtual Floppy Disk": "floppy"}


def _add_medium(machine: Machine, vm: Vm, resource: Instance, subtype: str) -> Ref:
    kind = _MEDIA.get(subtype)
    parent = key_of_path(resource.get("Parent"))
    part = find_part(machine, parent) if parent else None
    if kind is None or part is None or part[0] is not vm or part[2] is None or part[3]:
        raise JobFailed(INVALID, "The parent of the new medium was not found: it must be the path of a drive.")
    _vm, controller, drive, _medium = part  # pylint: disable=unpacking-non-sequence  # it is not None here
    assert drive is not None
    if drive.kind == "physical" or drive.medium is not None:
        raise JobFailed(INVALID, "The drive cannot take a medium or holds one already.")
    if {"vhd": "disk", "iso": "dvd", "floppy": "diskette"}[kind] != drive.kind:
        raise JobFailed(INVALID, "This kind of medium does not fit the drive.")
    path = _checked_medium(machine, vm, resource, kind)
    drive.medium = Medium(path, kind, shared=bool(resource.get("PersistentReservationsSupported")))
    return setting_ref(SASD, controller.medium_id(vm.id, drive.location))


def _checked_medium(machine: Machine, vm: Vm, resource: Instance, kind: str) -> str:
    path = first_text(resource.get("HostResource"))
    if not path:
        raise JobFailed(INVALID, "The medium names no file.")
    try:
        volume, relative = machine.resolve(path)
        volume.files.open(relative)
        if kind == "vhd":
            machine.open_image(path)
    except FileSystemError as problem:
        raise JobFailed(FAILED, f"Attachment '{path}' could not be opened: {problem}") from problem
    except ImageError as problem:
        raise JobFailed(FAILED, f"Attachment '{path}' is no virtual hard disk: {problem}") from problem
    if kind == "vhd" and vm.generation == 2 and suffix_of(path) in (".vhd", ".avhd"):
        raise JobFailed(FAILED, f"'{path}' is in VHD format, which a generation 2 virtual machine cannot use.")
    shared = bool(resource.get("PersistentReservationsSupported"))
    if kind == "vhd" and vm.running and not shared and volume.key_of(relative) in machine.locked_files():
        raise JobFailed(FAILED, f"Attachment '{path}' is in use by another process.")
    return path


# -- ModifyResourceSettings


@method(NS, SERVICE, "ModifyResourceSettings")
def modify_resource_settings(machine: Machine, _target: Instance | None, arguments: dict[str, Value]) -> Row:
    resources = _instances(arguments, "ResourceSettings")
    vms = {id(vm): vm for r in resources if (vm := machine.vm_by_id(owner_of(str(r.get("InstanceID"))))) is not None}
    if not resources or len(vms) != 1:
        return _refuse(machine, None, INVALID, "The settings belong to no virtual machine, or to several.")
    vm = next(iter(vms.values()))
    return _perform(
        machine,
        vm,
        31,
        "Modifying Virtual Machine Resources",
        lambda: [_modify(machine, vm, resource) for resource in resources],
        output="ResultingResourceSettings",
    )


def _modify(machine: Machine, vm: Vm, resource: Instance) -> Ref:
    identifier = str(resource.get("InstanceID"))
    class_name = resource.class_name
    service = class_name.removeprefix("Msvm_").removesuffix("ComponentSettingData")
    if service in INTEGRATION and class_name.endswith("ComponentSettingData"):
        if resource.get("EnabledState") in (2, 3):
            vm.settings.integration[service] = resource.get("EnabledState") == 2
        return setting_ref(class_name, identifier)
    if class_name == "Msvm_MemorySettingData":
        _modify_memory(vm, resource)
        return setting_ref(class_name, identifier)
    if class_name == "Msvm_ProcessorSettingData":
        count = resource.get("VirtualQuantity")
        if isinstance(count, int):
            if vm.running:
                raise JobFailed(INVALID_STATE, "The number of processors cannot change while the virtual machine runs.")
            vm.settings.processors = max(1, count)
        return setting_ref(class_name, identifier)
    if class_name in PORT_CLASSES:
        return modify_port(machine, vm, resource)
    part = find_part(machine, identifier)
    if part is None or part[0] is not vm:
        raise JobFailed(INVALID, f"{identifier} was not found.")
    _vm, controller, drive, is_medium = part
    if drive is None:
        return setting_ref(RASD, identifier)
    if is_medium:
        assert drive.medium is not None
        if "HostResource" in resource.properties:
            drive.medium.path = _checked_medium(machine, vm, resource, drive.medium.kind)
        shared = resource.get("PersistentReservationsSupported")
        if isinstance(shared, bool):
            drive.medium.shared = shared
        for name in ("IOPSLimit", "IOPSReservation", "StorageQoSPolicyID", "CachingMode", "WriteHardeningMethod"):
            if resource.get(name) is not None:
                drive.medium.settings[name] = resource.get(name)
        return setting_ref(SASD, controller.medium_id(vm.id, drive.location))
    return _modify_drive(machine, vm, resource, controller, drive)


def _modify_drive(machine: Machine, vm: Vm, resource: Instance, controller: Controller, drive: Drive) -> Ref:
    subtype = str(resource.get("ResourceSubType") or "").removeprefix(HV)
    if subtype and _DRIVES.get(subtype) != drive.kind:
        raise JobFailed(INVALID, "A drive cannot change its kind: remove it and add another.")
    host_resource = first_text(resource.get("HostResource"))
    if host_resource is not None and host_resource != drive.host_resource:
        if drive.kind != "physical":
            raise JobFailed(INVALID, "Only a physical drive has a host resource.")
        if vm.running:
            raise JobFailed(INVALID_STATE, "The physical disk cannot be changed while the virtual machine runs.")
        drive.host_resource, drive.given = _physical(machine, vm, resource, drive)
    name = resource.get("ElementName")
    if isinstance(name, str) and name and name != text(machine, "Hard Drive"):
        drive.element_name = name
    wanted = resource.get("AddressOnParent")
    parent = key_of_path(resource.get("Parent"))
    same_parent = parent is None or parent.upper() == controller.instance_id(vm.id).upper()
    if wanted is not None and (str(wanted) != str(drive.location) or not same_parent):
        if vm.running:
            raise JobFailed(INVALID_STATE, "A drive cannot move while the virtual machine runs.")
        moved = Instance(NS, RASD, {"Parent": resource.get("Parent"), "AddressOnParent": wanted})
        if parent is None:
            path = setting_ref(RASD, controller.instance_id(vm.id)).path(machine.netbios_name)
            moved.properties["Parent"] = path
        target, location = _slot(machine, vm, moved)
        del controller.drives[drive.location]
        drive.location = location
        target.drives[location] = drive
        controller = target
    return setting_ref(RASD, controller.drive_id(vm.id, drive.location))


def _modify_memory(vm: Vm, resource: Instance) -> None:
    dynamic, size = resource.get("DynamicMemoryEnabled"), resource.get("VirtualQuantity")
    if vm.running and isinstance(dynamic, bool) and dynamic != vm.settings.dynamic_memory:
        raise JobFailed(INVALID_STATE, "Dynamic memory cannot be switched while the virtual machine runs.")
    if isinstance(dynamic, bool):
        vm.settings.dynamic_memory = dynamic
    if isinstance(size, int):
        if size < 32 or size % 2:
            raise JobFailed(INVALID, "Memory must be an even number of at least 32 MB.")
        vm.settings.memory_mb = size
    least, most = resource.get("Reservation"), resource.get("Limit")
    if isinstance(least, int) and vm.settings.dynamic_memory:
        vm.settings.minimum_memory_mb = least
    if isinstance(most, int):
        vm.settings.maximum_memory_mb = most


# -- RemoveResourceSettings


@method(NS, SERVICE, "RemoveResourceSettings")
def remove_resource_settings(machine: Machine, _target: Instance | None, arguments: dict[str, Value]) -> Row:
    wanted = arguments.get("ResourceSettings")
    refs = [r for r in wanted if isinstance(r, Ref)] if isinstance(wanted, list) else []
    identifiers = [str(r.key("InstanceID")) for r in refs]
    vms = {id(vm): vm for i in identifiers if (vm := machine.vm_by_id(owner_of(i))) is not None}
    if not identifiers or len(vms) != 1:
        return {"ReturnValue": INVALID}
    vm = next(iter(vms.values()))
    for identifier in identifiers:
        part = find_part(machine, identifier)
        if part is not None and part[2] is not None and not part[3] and part[2].medium is not None:
            # The medium must go first, in a call of its own (hyperv-wmi 3.6).
            raise CimFault.wmi(0x80041001, "Generic failure", operation="ExecMethod")

    def work() -> list[Ref]:
        for identifier in identifiers:
            _remove(machine, vm, identifier)
        return []

    return _perform(machine, vm, 32, "Removing Virtual Machine Resources", work, output=None)


def _remove(machine: Machine, vm: Vm, identifier: str) -> None:
    if remove_port(vm, identifier):
        return
    part = find_part(machine, identifier)
    if part is None or part[0] is not vm:
        raise JobFailed(INVALID, f"{identifier} was not found.")
    _vm, controller, drive, is_medium = part
    if vm.running and controller.kind == "ide" and not (is_medium and drive is not None and drive.kind == "dvd"):
        raise JobFailed(INVALID_STATE, "Nothing can be removed from an IDE controller while the virtual machine runs.")
    if drive is None:
        if controller.drives or controller.kind != "scsi" or vm.running:
            raise JobFailed(INVALID_STATE, "The controller has drives, or cannot be removed now.")
        vm.controllers.remove(controller)
    elif is_medium:
        drive.medium = None
    else:
        del controller.drives[drive.location]


# -- systems

_READ_ONLY = (
    "CreationTime",
    "VirtualSystemIdentifier",
    "VirtualSystemType",
    "VirtualSystemSubType",
    "Parent",
    "Caption",
    "Description",
    "ConfigurationID",
    "ConfigurationFile",
    "IsSaved",
    "Version",
)
_PLAIN: dict[str, str] = {
    "AutomaticStartupAction": "automatic_startup_action",
    "AutomaticShutdownAction": "automatic_shutdown_action",
    "AutomaticRecoveryAction": "automatic_recovery_action",
    "UserSnapshotType": "user_snapshot_type",
    "IncrementalBackupEnabled": "incremental_backup",
    "AllowFullSCSICommandSet": "allow_full_scsi",
    "SecureBootEnabled": "secure_boot",
    "BIOSSerialNumber": "bios_serial",
}
_NEEDS_OFF = ("SecureBootEnabled", "AllowFullSCSICommandSet", "BIOSSerialNumber", "BIOSGUID", "VirtualNumaEnabled")
_ALLOWED = {
    "AutomaticStartupAction": (2, 3, 4),
    "AutomaticShutdownAction": (2, 3, 4),
    "AutomaticRecoveryAction": (2, 3, 4),
    "UserSnapshotType": (2, 3, 4, 5),
}
_EXTRA = (
    "AutomaticCriticalErrorAction",
    "BootOrder",
    "BootSourceOrder",
    "ConsoleMode",
    "EnhancedSessionTransportType",
    "GuestControlledCacheTypes",
    "HighMmioGapSize",
    "LockOnDisconnect",
    "LowMmioGapSize",
    "NetworkBootPreferredProtocol",
    "PauseAfterBootFailure",
    "SecureBootTemplateId",
    "TurnOffOnGuestRestart",
    "VirtualNumaEnabled",
    "BIOSNumLock",
    "AutomaticSnapshotsEnabled",
)


@method(NS, SERVICE, "ModifySystemSettings")
def modify_system_settings(machine: Machine, _target: Instance | None, arguments: dict[str, Value]) -> Row:
    given = arguments.get("SystemSettings")
    if not isinstance(given, Instance):
        return {"ReturnValue": INVALID}
    identifier = owner_of(str(given.get("InstanceID")))
    vm = machine.vm_by_id(identifier)
    if vm is None:
        for owner in machine.vms:
            for checkpoint in owner.checkpoints:
                if checkpoint.id == identifier:
                    return _modify_checkpoint(owner, checkpoint, given)
        return _refuse(machine, None, INVALID, "The settings belong to no virtual machine.", 2)
    if vm.busy is not None:
        return {"ReturnValue": INVALID_STATE}
    echoed = [name for name in _READ_ONLY if given.get(name) is not None]
    if echoed and machine.world.assume("settings-read-only") == "refused":
        return _refuse(machine, vm, INVALID, f"The property {echoed[0]} is read-only.", 2)
    if vm.running and any(given.get(name) is not None for name in _NEEDS_OFF):
        return {"ReturnValue": FAILED}
    for name, allowed in _ALLOWED.items():
        if given.get(name) is not None and given.get(name) not in allowed:
            return _refuse(machine, vm, INVALID, f"{given.get(name)} is no value of {name}.", 2)

    def work() -> None:
        _apply_settings(vm, given)
        vm.changed()

    if machine.world.assume("settings-sync") == "sync":
        work()
        return {"ReturnValue": 0}
    job = machine.jobs.start(
        "Msvm_ConcreteJob",
        2,
        "Modifying Virtual Machine",
        work,
        owner=who(),
        subject=vm,
        affected=[(system_ref(vm), 0)],
    )
    return {"ReturnValue": STARTED, "Job": job_ref(job)}


def _modify_checkpoint(vm: Vm, checkpoint: Checkpoint, given: Instance) -> Row:
    name, notes = given.get("ElementName"), first_text(given.get("Notes"))
    checkpoint.name = str(name) if name else checkpoint.name
    checkpoint.notes = notes if notes is not None else checkpoint.notes
    vm.changed()
    return {"ReturnValue": 0}


def _apply_settings(vm: Vm, given: Instance) -> None:
    name = given.get("ElementName")
    if isinstance(name, str) and name:
        vm.name = name
        if vm.guest is not None:
            vm.guest.set_host_values()
    notes = first_text(given.get("Notes"))
    if notes is not None:
        vm.settings.notes = notes
    known = {f.name for f in fields(Settings)}
    for property_name, attribute in _PLAIN.items():
        value = given.get(property_name)
        if value is not None and attribute in known:
            setattr(vm.settings, attribute, value)
    guid = given.get("BIOSGUID")
    if isinstance(guid, str):
        vm.settings.bios_guid = guid.strip("{}").upper()
    delay = given.get("AutomaticStartupActionDelay")
    if isinstance(delay, timedelta):
        vm.settings.automatic_startup_delay = int(delay.total_seconds())
    root = given.get("SnapshotDataRoot")
    if isinstance(root, str) and root:
        vm.snapshot_root = root
    home = given.get("ConfigurationDataRoot")
    if vm.planned and isinstance(home, str) and home:
        vm.configuration_root = home
    for extra in _EXTRA:
        if given.get(extra) is not None:
            vm.settings.extra[extra] = given.get(extra)


@method(NS, SERVICE, "DefineSystem")
def define_system(machine: Machine, _target: Instance | None, arguments: dict[str, Value]) -> Row:
    return _define(machine, arguments, planned=False)


@method(NS, SERVICE, "DefinePlannedSystem")
def define_planned_system(machine: Machine, _target: Instance | None, arguments: dict[str, Value]) -> Row:
    return _define(machine, arguments, planned=True)


def _define(machine: Machine, arguments: dict[str, Value], *, planned: bool) -> Row:
    given = arguments.get("SystemSettings")
    resources = _instances(arguments, "ResourceSettings")
    if not isinstance(given, Instance):
        return {"ReturnValue": INVALID}
    subtype = str(given.get("VirtualSystemSubType") or f"{HV}SubType:1")
    match = re.fullmatch(r"Microsoft:Hyper-V:SubType:([12])", subtype)
    if match is None:
        return _refuse(machine, None, INVALID, f"{subtype!r} is no subtype of virtual machines.", 1)
    identifier = machine.world.new_guid("vm").upper()
    name = str(given.get("ElementName") or text(machine, "New Virtual Machine"))
    vm = Vm(machine, identifier, name, int(match[1]), machine.now())
    vm.settings.memory_mb, vm.settings.processors = 1024, 1
    vm.settings.bios_guid = stable_guid(identifier, "bios").upper()
    vm.settings.bios_serial = f"{int(stable_hex(identifier), 16) % 10**26:026d}"
    vm.settings.secure_boot = vm.generation == 2
    root = given.get("ConfigurationDataRoot")
    vm.configuration_root = root if isinstance(root, str) and root else machine.configuration_root
    vm.snapshot_root = vm.configuration_root
    if vm.generation == 1:  # generation 2 has no SCSI controller until one is added (hyperv-wmi 2.5)
        vm.add_controller("ide")
        vm.add_controller("ide")
        vm.add_controller("diskette").drives[0] = Drive("diskette", 0)
    _apply_settings(vm, given)
    vm.planned = planned
    before = list(machine.vms)

    def work() -> list[Ref]:
        machine.adopt(vm)
        try:
            for resource in resources:
                _define_resource(machine, vm, resource)
        except JobFailed as problem:
            machine.vms = before
            raise JobFailed(32776 if problem.code == INVALID else problem.code, str(problem)) from problem
        vm.changed()
        return [system_ref(vm), vssd_ref(vm.id)]

    if machine.world.assume("settings-sync") == "sync":
        try:
            work()
        except JobFailed as problem:
            return _refuse(machine, None, problem.code, str(problem), 1)
        return {"ReturnValue": 0, "ResultingSystem": system_ref(vm)}
    job = machine.jobs.start("Msvm_ConcreteJob", 1, "Defining Virtual Machine", work, owner=who())
    return {"ReturnValue": STARTED, "Job": job_ref(job)}


def _define_resource(machine: Machine, vm: Vm, resource: Instance) -> None:
    if resource.class_name == "Msvm_MemorySettingData":
        _modify_memory(vm, resource)
    elif resource.class_name == "Msvm_ProcessorSettingData":
        count = resource.get("VirtualQuantity")
        vm.settings.processors = count if isinstance(count, int) else vm.settings.processors
    else:
        _add(machine, vm, resource)


@method(NS, SERVICE, "DestroySystem")
def destroy_system(machine: Machine, _target: Instance | None, arguments: dict[str, Value]) -> Row:
    vm = vm_of(machine, arguments.get("AffectedSystem"))
    if vm is None:
        return {"ReturnValue": INVALID}
    saved_works = machine.world.assume("destroy-saved") == "works"
    if vm.busy is not None or not (vm.state == OFF or (vm.state == SAVED and saved_works)):
        return {"ReturnValue": INVALID_STATE}

    def work() -> None:
        machine.unregister(vm)

    job = machine.jobs.start(
        "Msvm_ConcreteJob",
        3,
        "Destroying Virtual Machine",
        work,
        owner=who(),
        subject=vm,
        affected=[(system_ref(vm), 0)],
    )
    return {"ReturnValue": STARTED, "Job": job_ref(job)}


# -- key-value pairs and world wide names


def _kvp(machine: Machine, arguments: dict[str, Value], change: Callable[[Vm, dict[str, str]], int]) -> Row:
    vm = vm_of(machine, arguments.get("TargetSystem"))
    items = _instances(arguments, "DataItems")
    if vm is None or not items or len(items) > 128:
        return {"ReturnValue": INVALID}
    given: dict[str, Any] = {str(i.get("Name")): str(i.get("Data") or "") for i in items}

    def work() -> None:
        code = change(vm, given)
        if code:
            raise JobFailed(code, "A key-value pair exists already, or does not exist.")
        vm.changed()

    job = machine.jobs.start(
        "Msvm_ConcreteJob",
        31,
        "Modifying Key-Value Pairs",
        work,
        owner=who(),
        subject=vm,
        affected=[(system_ref(vm), 0)],
    )
    return {"ReturnValue": STARTED, "Job": job_ref(job)}


@method(NS, SERVICE, "AddKvpItems")
def add_kvp_items(machine: Machine, _target: Instance | None, arguments: dict[str, Value]) -> Row:
    def change(vm: Vm, items: dict[str, str]) -> int:
        if any(name in vm.kvp_host_items for name in items):
            return FAILED
        vm.kvp_host_items.update(items)
        return 0

    return _kvp(machine, arguments, change)


@method(NS, SERVICE, "ModifyKvpItems")
def modify_kvp_items(machine: Machine, _target: Instance | None, arguments: dict[str, Value]) -> Row:
    def change(vm: Vm, items: dict[str, str]) -> int:
        if any(name not in vm.kvp_host_items for name in items):
            return FAILED
        vm.kvp_host_items.update(items)
        return 0

    return _kvp(machine, arguments, change)


@method(NS, SERVICE, "RemoveKvpItems")
def remove_kvp_items(machine: Machine, _target: Instance | None, arguments: dict[str, Value]) -> Row:
    def change(vm: Vm, items: dict[str, str]) -> int:
        if any(name not in vm.kvp_host_items for name in items):
            return FAILED
        for name in items:
            del vm.kvp_host_items[name]
        return 0

    return _kvp(machine, arguments, change)


@method(NS, SERVICE, "GenerateWwpn")
def generate_wwpn(machine: Machine, _target: Instance | None, arguments: dict[str, Value]) -> Row:
    count = arguments.get("NumberOfWwpns")
    if not isinstance(count, int) or not 0 < count <= 64:
        return {"ReturnValue": INVALID}
    names = ["C003FF" + machine.world.new_guid("wwpn").replace("-", "").upper()[:10] for _unused in range(count)]
    return {"ReturnValue": 0, "GeneratedWwpn": names}


@method(NS, SERVICE, "GetSizeOfSystemFiles")
def size_of_system_files(machine: Machine, _target: Instance | None, arguments: dict[str, Value]) -> Row:
    vm = vm_of(machine, arguments.get("Vssd"))
    if vm is None:
        return {"ReturnValue": INVALID}
    return {"ReturnValue": 0, "Size": (1 << 20) + (vm.settings.memory_mb << 20 if vm.state == SAVED else 0)}


@method(NS, SERVICE, "FormatError")
def format_error(_machine: Machine, _target: Instance | None, arguments: dict[str, Value]) -> Row:
    return {"ReturnValue": 0, "ErrorMessage": "\n".join(str(e.get("Message")) for e in _instances(arguments, "Errors"))}
