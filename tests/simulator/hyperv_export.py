# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Responsible for exporting VMs and importing them again as planned systems (Msvm_VirtualSystemManagementService).

An exported definition is the simulator's own configuration text in a .vmcx file. Not simulated: exports of checkpoints,
differential exports, live migration. Facts: hyperv-wmi 7.4, 7.5.
"""

from __future__ import annotations

import copy
import json
import re
from typing import Any

from .assumed import assumed
from .cim import Instance, Ref, Value
from .content import copy_content
from .disks import stable_guid
from .file_system import FileSystemError
from .hyperv_rows import FAILED, INVALID, INVALID_STATE, NS, Row, system_ref, vssd_ref, who
from .hyperv_settings import SERVICE, vm_of
from .hyperv_systems import STARTED, job_ref
from .jobs import Job, JobFailed
from .service import method
from .vhd import ImageError
from .virtual_machine import OFF, SAVED, Vm, vm_from_configuration
from .volumes import Volume
from .world import Machine

FILE_IN_USE = 32779
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


@method(NS, SERVICE, "ExportSystemDefinition")
def export_system_definition(machine: Machine, _target: Instance | None, arguments: dict[str, Value]) -> Row:
    vm = vm_of(machine, arguments.get("ComputerSystem"))
    directory, given = arguments.get("ExportDirectory"), arguments.get("ExportSettingData")
    settings = given if isinstance(given, Instance) else None
    if vm is None or not isinstance(directory, str) or not directory:
        return {"ReturnValue": INVALID}
    allowed = (OFF, SAVED) if machine.world.assume("export-running") == "refused" else (2, OFF, SAVED, 9)
    if vm.busy is not None or vm.state not in allowed:
        return {"ReturnValue": INVALID_STATE}
    folder = directory.rstrip("\\")
    if _flag(settings, "CreateVmExportSubdirectory", True):
        folder += "\\" + re.sub(r'[<>:"/\\|?*]', "_", vm.name)
    storage = _flag(settings, "CopyVmStorage", True)
    checkpoints = settings.get("CopySnapshotConfiguration") if settings is not None else 0
    vm.busy = EXPORTING
    size = sum(content.size for _volume, _path, content in vm.files()) if storage else 0
    answer, job = _job(
        machine,
        vm,
        62,
        "Exporting Virtual Machine",
        lambda: _export(machine, vm, folder, storage=storage, with_checkpoints=checkpoints in (None, 0)),
        seconds=2 + size / 100_000_000,
    )
    job.on_loss = lambda: _leave_folder(machine, folder)
    return answer


def _leave_folder(machine: Machine, folder: str) -> None:
    """The host went down in the middle: the folder is there and holds no definition."""
    try:
        _place(machine, folder).files.mkdir(_below(machine, f"{folder}\\Virtual Machines"), parents=True)
    except FileSystemError:
        return


def _place(machine: Machine, path: str) -> Volume:
    return machine.resolve(path, write=True)[0]


def _below(machine: Machine, path: str) -> str:
    return machine.resolve(path, write=True)[1]


def _export(machine: Machine, vm: Vm, folder: str, *, storage: bool, with_checkpoints: bool) -> None:
    volume, relative = machine.resolve(folder, write=True)
    files = volume.files
    if files.exists(relative) and files.listdir(relative):
        raise JobFailed(FAILED, f"'{folder}' holds files already.")
    above = relative.rpartition("\\")[0]
    if above and not files.exists(above) and machine.world.assume("export-missing-folder") == "refused":
        raise FileSystemError(3, folder)
    if storage and vm.physical_drives() and machine.world.assume("export-passthrough") == "refused":
        raise JobFailed(FAILED, f"'{vm.name}' has a physical disk, which cannot be exported.")
    configuration = copy.deepcopy(vm.export_configuration())
    if not with_checkpoints:
        configuration["checkpoints"], configuration["current_checkpoint"] = [], None
    if configuration["state"] != SAVED:
        configuration["state"] = OFF
    machines = f"{relative}\\Virtual Machines"
    files.mkdir(machines, parents=True)
    if storage:
        files.mkdir(f"{relative}\\Virtual Hard Disks", parents=True)
        moved = {path.lower(): _copy_image(machine, path, folder) for path in vm.vhd_paths()}
        _point_to(configuration, moved)
    configuration["configuration_root"] = configuration["snapshot_root"] = folder
    text = json.dumps(configuration, indent=1, ensure_ascii=False, default=str)
    files.write(f"{machines}\\{vm.id}.vmcx", text.encode())
    files.write(f"{machines}\\{vm.id}.vmrs", bytes(4096))
    if vm.generation == 2:
        files.write(f"{machines}\\{vm.id}.vmgs", bytes(4096))


def _copy_image(machine: Machine, path: str, folder: str) -> str:
    origin_volume, origin = machine.resolve(path)
    goal = f"{folder}\\Virtual Hard Disks\\{path.rpartition(chr(92))[2]}"
    volume, relative = machine.resolve(goal, write=True)
    source = origin_volume.files.open(origin)
    copy_content(source, volume.files.create(relative, source.size))
    return goal


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
