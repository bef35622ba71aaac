# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Responsible for exporting VMs and importing them again as planned systems (Msvm_VirtualSystemManagementService).

An exported definition is the simulator's own configuration text in a .vmcx file. Not simulated: differential exports,
reference points, live migration. Facts: hyperv-wmi 7.4, 7.5.
"""

from __future__ import annotations

import copy
import json
import re
from dataclasses import asdict, dataclass
from typing import Any

from .assumed import assumed
from .cim import Instance, Ref, Value
from .content import copy_content
from .disks import stable_guid
from .file_system import FileSystemError
from .hyperv_rows import FAILED, INVALID, INVALID_STATE, NS, Row, system_ref, vssd_ref, who
from .hyperv_settings import SERVICE, vm_of
from .hyperv_systems import STARTED, job_ref
from .image_file import create_image, file_size_for
from .jobs import Job, JobFailed
from .service import method
from .vhd import DYNAMIC, ImageError
from .virtual_machine import OFF, SAVED, Checkpoint, Controller, Vm, vm_from_configuration
from .world import Machine

FILE_IN_USE = 32779
ONE_SNAPSHOT, ONE_FOR_BACKUP = 2, 3
"""CopySnapshotConfiguration (hyperv-wmi 7.4)."""

EXPORTING = 32773
"""OperationalStatus[1] of a VM that is being exported (hyperv-wmi 1.3)."""

assumed(
    "export-running",
    "ExportSystemDefinition of a running VM works, or needs it off or saved",
    source="facts hyperv-wmi 7.4: the method's page and the setting data's page contradict each other",
    values=("works", "refused"),
)
assumed(
    "export-existing-folder",
    "An export into a folder that holds files already fails with 32768",
    source="facts hyperv-wmi 7.4 (inferred)",
)
assumed(
    "export-missing-folder",
    "The export directory is made when it is not there",
    source="no source",
    values=("made", "refused"),
)
assumed(
    "export-passthrough",
    "An export with storage leaves pass-through disks out silently, or fails because of them",
    source="facts hyperv-wmi 11.18",
    values=("ignored", "refused"),
)
assumed(
    "export-interrupted",
    "An export that the host's power cut ends leaves files of full size without contents, or folders only",
    source="no source",
    values=("empty-files", "folders"),
)
assumed(
    "export-failed",
    "An export that fails leaves what it had written, or removes it",
    source="no source",
    values=("parts-left", "removed"),
)
assumed(
    "export-definition",
    "The definition file of an export is written after the disks, or before them",
    source="no source",
    values=("last", "first"),
)
assumed(
    "export-same-file-name",
    "Two disks of a VM whose files have the same name cannot be exported together",
    source="facts hyperv-wmi 7.4: one folder for all disks",
)
assumed(
    "import-disk-paths",
    "An imported definition names the disks in the export's folder, or where they were before",
    source="facts hyperv-wmi 7.5: the disks' paths may have to be changed",
    values=("export-folder", "original"),
)
assumed(
    "import-missing-disk",
    "An import whose pass-through disk is missing fails at ValidatePlannedSystem and RealizePlannedSystem, or at the start",
    source="facts hyperv-wmi 11.19",
    values=("validate", "start"),
)
assumed(
    "import-same-identifier",
    "Importing a VM under an identifier that is registered fails with 32774",
    source="facts hyperv-wmi 7.5 (inferred)",
)


def _job(machine: Machine, vm: Vm | None, job_type: int, title: str, work: Any, seconds: float = 4) -> tuple[Row, Job]:
    """Start a job; file trouble becomes its failure."""

    def guarded() -> Any:
        try:
            return work()
        except (FileSystemError, ImageError, ValueError, KeyError) as problem:
            raise JobFailed(FAILED, str(problem)) from problem
        finally:
            if vm is not None:
                vm.busy = None

    def failed() -> None:
        if vm is not None:
            vm.busy = None

    affected = [(system_ref(vm), 0)] if vm is not None else []
    job = machine.jobs.start(
        "Msvm_ConcreteJob",
        job_type,
        title,
        guarded,
        owner=who(),
        subject=vm,
        affected=affected,
        seconds=seconds,
        on_failure=failed,
    )
    return {"ReturnValue": STARTED, "Job": job_ref(job)}, job


# -- export


def _flag(settings: Instance | None, name: str, default: bool) -> bool:
    value = settings.get(name) if settings is not None else None
    return value if isinstance(value, bool) else default


@dataclass(frozen=True, kw_only=True)
class _Order:
    """What is exported: `snapshot` a checkpoint instead of the VM as it is, `merged` one file per disk instead of chains."""

    vm: Vm
    folder: str
    storage: bool
    with_checkpoints: bool
    snapshot: Checkpoint | None = None
    own_identifier: bool = False
    merged: bool = False
    excluded: frozenset[str] = frozenset()


def _snapshot_of(vm: Vm, path: Value) -> Checkpoint | None:
    """The checkpoint that an object path of its settings names."""
    found = re.search(r'InstanceID="Microsoft:([0-9A-Fa-f-]{36})"', str(path or ""))
    wanted = found[1].upper() if found else ""
    return next((checkpoint for checkpoint in vm.checkpoints if checkpoint.id == wanted), None)


@method(NS, SERVICE, "ExportSystemDefinition")
def export_system_definition(machine: Machine, _target: Instance | None, arguments: dict[str, Value]) -> Row:
    vm = vm_of(machine, arguments.get("ComputerSystem"))
    directory, given = arguments.get("ExportDirectory"), arguments.get("ExportSettingData")
    settings = given if isinstance(given, Instance) else None
    if vm is None or not isinstance(directory, str) or not directory:
        return {"ReturnValue": INVALID}
    checkpoints = settings.get("CopySnapshotConfiguration") if settings is not None else None
    one = checkpoints in (ONE_SNAPSHOT, ONE_FOR_BACKUP)
    snapshot = _snapshot_of(vm, settings.get("SnapshotVirtualSystem") if settings is not None else None)
    excluded = settings.get("ExcludedVirtualHardDisks") if settings is not None else None
    if (one and snapshot is None) or (excluded and checkpoints in (None, 0)):
        return {"ReturnValue": INVALID}
    allowed = (2, OFF, SAVED, 9) if one or machine.world.assume("export-running") == "works" else (OFF, SAVED)
    if vm.busy is not None or vm.state not in allowed:
        return {"ReturnValue": INVALID_STATE}
    folder = directory.rstrip("\\")
    if _flag(settings, "CreateVmExportSubdirectory", True):
        folder += "\\" + re.sub(r'[<>:"/\\|?*]', "_", vm.name)
    intent = settings.get("BackupIntent") if settings is not None else 0
    order = _Order(
        vm=vm,
        folder=folder,
        storage=checkpoints == ONE_SNAPSHOT or _flag(settings, "CopyVmStorage", True),
        with_checkpoints=checkpoints in (None, 0),
        snapshot=snapshot if one else None,
        own_identifier=checkpoints == ONE_FOR_BACKUP,
        merged=checkpoints == ONE_SNAPSHOT or (one and intent == 1),
        excluded=frozenset(str(e).upper() for e in excluded) if isinstance(excluded, list) else frozenset(),
    )
    vm.busy = EXPORTING
    begun: list[bool] = []
    answer, job = _job(
        machine,
        vm,
        62,
        "Exporting Virtual Machine",
        lambda: _export(machine, order, begun),
        seconds=2 + _bytes_of(machine, order) / 100_000_000,
    )
    job.on_loss = lambda: _leave_parts(machine, order)
    before = job.on_failure

    def failed() -> None:
        if before is not None:
            before()
        if machine.world.assume("export-failed") == "removed":
            if begun:
                _remove_parts(machine, order)
        elif job.failure is not None and not begun:  # a failure that was planned, in the middle
            _leave_parts(machine, order)

    job.on_failure = failed
    return answer


def _bytes_of(machine: Machine, order: _Order) -> int:
    total = 0
    for path in _exported_paths(machine, order) if order.storage else []:
        try:
            volume, relative = machine.resolve(path)
            total += volume.files.stat(relative).size
        except FileSystemError:
            continue
    return total


def _exported_controllers(order: _Order) -> list[Controller]:
    return order.snapshot.controllers if order.snapshot is not None else order.vm.controllers


def _exported_paths(machine: Machine, order: _Order) -> list[str]:
    """Image files that the export copies, chains followed unless they are merged."""
    if order.snapshot is None and order.with_checkpoints:
        return order.vm.vhd_paths()
    found: dict[str, str] = {}
    for controller in _exported_controllers(order):
        for location, drive in controller.drives.items():
            medium = drive.medium
            if drive.kind != "disk" or medium is None or medium.kind != "vhd":
                continue
            if {controller.medium_id(owner, location).upper() for owner in _owners(order)} & order.excluded:
                continue
            path: str | None = medium.path
            while path is not None and path.lower() not in found:
                found[path.lower()] = path
                path = None if order.merged else _parent_path(machine, path)
    return list(found.values())


def _parent_path(machine: Machine, path: str) -> str | None:
    try:
        return machine.open_image(path).facts.parent_path
    except (FileSystemError, ImageError):
        return None


def _owners(order: _Order) -> list[str]:
    return [order.vm.id] + ([order.snapshot.id] if order.snapshot is not None else [])


def _leave_parts(machine: Machine, order: _Order) -> None:
    """It broke off in the middle: folders, and files of full size without contents; a definition by a switch only."""
    try:
        volume, relative = machine.resolve(order.folder, write=True)
        files = volume.files
        if files.exists(relative) and files.listdir(relative):
            return
        files.mkdir(f"{relative}\\Virtual Machines", parents=True)
        if machine.world.assume("export-definition") == "first":
            files.write(f"{relative}\\Virtual Machines\\{order.vm.id}.vmcx", _definition(machine, order, {}))
        if order.storage and machine.world.assume("export-interrupted") == "empty-files":
            files.mkdir(f"{relative}\\Virtual Hard Disks", parents=True)
            for path in _exported_paths(machine, order):
                origin, below = machine.resolve(path)
                size = origin.files.stat(below).size
                files.create(f"{relative}\\Virtual Hard Disks\\{path.rpartition(chr(92))[2]}", size)
    except (FileSystemError, ImageError):
        return


def _remove_parts(machine: Machine, order: _Order) -> None:
    try:
        volume, relative = machine.resolve(order.folder, write=True)
        for name in volume.files.listdir(relative):
            volume.files.delete(f"{relative}\\{name}", recursive=True)
    except FileSystemError:
        return


def _definition(machine: Machine, order: _Order, moved: dict[str, str]) -> bytes:
    """The .vmcx: the configuration with the paths of the exported files, and where they came from."""
    configuration = copy.deepcopy(order.vm.export_configuration())
    if order.snapshot is not None:
        configuration["controllers"] = [asdict(controller) for controller in order.snapshot.controllers]
        if not order.own_identifier:
            configuration["id"] = order.snapshot.id
    if not order.with_checkpoints:
        configuration["checkpoints"], configuration["current_checkpoint"] = [], None
    if configuration["state"] != SAVED or order.snapshot is not None:
        configuration["state"] = OFF
    _point_to(configuration, {old.lower(): new for old, new in moved.items()})
    configuration["exported_from"] = {new: old for old, new in moved.items()}
    configuration["configuration_root"] = configuration["snapshot_root"] = order.folder
    return json.dumps(configuration, indent=1, ensure_ascii=False, default=str).encode()


def _export(machine: Machine, order: _Order, begun: list[bool]) -> None:
    vm, folder = order.vm, order.folder
    volume, relative = machine.resolve(folder, write=True)
    files = volume.files
    if files.exists(relative) and files.listdir(relative):
        raise JobFailed(FAILED, f"'{folder}' holds files already.")
    above = relative.rpartition("\\")[0]
    if above and not files.exists(above) and machine.world.assume("export-missing-folder") == "refused":
        raise FileSystemError(3, folder)
    if order.storage and vm.physical_drives() and machine.world.assume("export-passthrough") == "refused":
        raise JobFailed(FAILED, f"'{vm.name}' has a physical disk, which cannot be exported.")
    begun.append(True)
    machines = f"{relative}\\Virtual Machines"
    files.mkdir(machines, parents=True)
    definition = f"{machines}\\{vm.id if order.snapshot is None or order.own_identifier else order.snapshot.id}.vmcx"
    paths = _exported_paths(machine, order) if order.storage else []
    goals = {path: f"{folder}\\Virtual Hard Disks\\{path.rpartition(chr(92))[2]}" for path in paths}
    if len({goal.lower() for goal in goals.values()}) < len(goals):
        raise JobFailed(FAILED, f"Two virtual hard disks of '{vm.name}' have the same file name.")
    if machine.world.assume("export-definition") == "first":
        files.write(definition, _definition(machine, order, goals))
    if order.storage:
        files.mkdir(f"{relative}\\Virtual Hard Disks", parents=True)
        for path in paths:
            _copy_image(machine, path, goals[path], merged=order.merged)
    files.write(definition, _definition(machine, order, goals))
    files.write(f"{definition[:-5]}.vmrs", bytes(4096))
    if vm.generation == 2:
        files.write(f"{definition[:-5]}.vmgs", bytes(4096))


def _copy_image(machine: Machine, path: str, goal: str, *, merged: bool) -> None:
    origin_volume, origin = machine.resolve(path)
    volume, relative = machine.resolve(goal, write=True)
    facts = machine.open_image(path).facts
    if not merged or facts.parent_path is None:
        source = origin_volume.files.open(origin)
        copy_content(source, volume.files.create(relative, source.size))
        return
    image = machine.open_image(path)
    target = volume.files.create(relative, file_size_for(facts.format, DYNAMIC, facts.virtual_size))
    made = create_image(
        target,
        image_format=facts.format,
        kind=DYNAMIC,
        size=facts.virtual_size,
        disk_id=facts.disk_id,
        moment=machine.now(),
        logical_sector=facts.logical_sector,
        physical_sector=facts.physical_sector,
    )
    copy_content(image.payload, made.payload)


def _point_to(configuration: dict[str, Any], moved: dict[str, str]) -> None:
    for controllers in (configuration["controllers"], *(c["controllers"] for c in configuration["checkpoints"])):
        for controller in controllers:
            for drive in controller["drives"].values():
                medium = drive.get("medium")
                if medium and str(medium["path"]).lower() in moved:
                    medium["path"] = moved[str(medium["path"]).lower()]


# -- import


@method(NS, SERVICE, "ImportSystemDefinition")
def import_system_definition(machine: Machine, _target: Instance | None, arguments: dict[str, Value]) -> Row:
    path, fresh = arguments.get("SystemDefinitionFile"), bool(arguments.get("GenerateNewSystemIdentifier"))
    if not isinstance(path, str) or not path:
        return {"ReturnValue": INVALID}
    if any(vm.configuration_path.lower() == path.lower() for vm in machine.vms):
        return {"ReturnValue": FILE_IN_USE}

    def work() -> list[Ref]:
        volume, relative = machine.resolve(path)
        configuration = json.loads(volume.files.read(relative).decode())
        if fresh:
            configuration["id"] = machine.world.new_guid("vm").upper()
        if machine.world.assume("import-disk-paths") == "original":
            _point_to(configuration, {new.lower(): old for new, old in configuration.get("exported_from", {}).items()})
        if machine.vm_by_id(configuration["id"]) is not None:
            raise JobFailed(32774, f"A virtual machine with the identifier {configuration['id']} exists already.")
        vm = vm_from_configuration(machine, configuration)
        vm.planned = True
        vm.configuration_root = vm.snapshot_root = machine.configuration_root
        known = machine.virtual_switches.values()
        for adapter in vm.adapters:
            adapter.switch = adapter.switch if adapter.switch in known else None
        machine.vms.append(vm)
        return [system_ref(vm), vssd_ref(vm.id)]

    return _job(machine, None, 61, "Importing Virtual Machine", work)[0]


def _planned(machine: Machine, arguments: dict[str, Value]) -> Vm | None:
    vm = vm_of(machine, arguments.get("PlannedSystem"))
    return vm if vm is not None and vm.planned else None


def _problem(machine: Machine, vm: Vm) -> str | None:
    """Why the planned VM cannot become real: a file or a disk that it names is not there."""
    for controller, drive in vm.drives():
        slot = vm.slot_name(controller, drive.location)
        if drive.kind == "physical":
            missing = machine.disk_by_number(vm.number_in(drive.host_resource)) is None
            if missing and machine.world.assume("import-missing-disk") == "validate":
                return f"The physical disk in slot {slot} was not found."
        elif drive.medium is not None:
            try:
                volume, relative = machine.resolve(drive.medium.path)
                volume.files.open(relative)
            except FileSystemError:
                return f"The attachment '{drive.medium.path}' in slot {slot} was not found."
    return None


@method(NS, SERVICE, "ValidatePlannedSystem")
def validate_planned_system(machine: Machine, _target: Instance | None, arguments: dict[str, Value]) -> Row:
    vm = _planned(machine, arguments)
    if vm is None:
        return {"ReturnValue": INVALID}

    def work() -> None:
        problem = _problem(machine, vm)
        if problem:
            raise JobFailed(FAILED, problem)

    return _job(machine, vm, 140, "Validating Planned Virtual Machine", work)[0]


@method(NS, SERVICE, "RealizePlannedSystem")
def realize_planned_system(machine: Machine, _target: Instance | None, arguments: dict[str, Value]) -> Row:
    vm = _planned(machine, arguments)
    if vm is None:
        return {"ReturnValue": INVALID}

    def work() -> list[Ref]:
        problem = _problem(machine, vm)
        if problem:
            raise JobFailed(FAILED, problem)
        machine.vms.remove(vm)
        vm.planned = False
        machine.adopt(vm)
        vm.changed()
        return [system_ref(vm), vssd_ref(vm.id)]

    return _job(machine, vm, 141, "Realizing Virtual Machine", work)[0]


@method(NS, SERVICE, "GetDefinitionFileSummaryInformation")
def definition_file_summary(machine: Machine, _target: Instance | None, arguments: dict[str, Value]) -> Row:
    """Name and identifier of the VMs in definition files; an unreadable file gives an empty name."""
    paths = arguments.get("DefinitionFiles")
    found: list[Instance] = []
    for path in paths if isinstance(paths, list) else []:
        try:
            volume, relative = machine.resolve(str(path))
            data = json.loads(volume.files.read(relative).decode())
            facts: dict[str, Value] = {
                "Name": str(data["id"]),
                "ElementName": str(data["name"]),
                "InstanceID": f"Microsoft:{data['id']}",
                "VirtualSystemSubType": f"Microsoft:Hyper-V:SubType:{data['generation']}",
            }
        except (FileSystemError, ValueError, KeyError):
            facts = {"Name": "", "InstanceID": f"Microsoft:{stable_guid(path).upper()}"}
        found.append(Instance(NS, "Msvm_SummaryInformation", facts))
    return {"ReturnValue": 0, "SummaryInformation": found}
