# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Responsible for the rows of systems in root/virtualization/v2: host and VMs, their settings, summaries, services, jobs.

Power methods are here too; changing settings is in hyperv_settings.py. Facts: hyperv-wmi 1, 4.3, 6.1; recordings.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from .assumed import assumed
from .cim import NEVER, CimFault, Instance, Ref, Value
from .hyperv_power import TRANSITIONS
from .hyperv_rows import (
    INVALID_STATE,
    NS,
    Known,
    Row,
    asks_templates,
    host_ref,
    managed,
    ref,
    selected,
    setting_ref,
    system_ref,
    text,
    vssd_ref,
    who,
    wmi_path,
)
from .jobs import COMPLETED_WITH_WARNINGS, EXCEPTION, KILLED, RUNNING, TERMINATED, Job
from .service import guard, method, view
from .virtual_machine import OFF, PAUSED, SAVED, Checkpoint, Vm
from .virtual_machine import RUNNING as VM_RUNNING
from .world import Machine

STARTED = 4096

assumed(
    "paused-critical",
    "A VM that is paused because its volume is full has HealthState 20 and OperationalStatus 5",
    source="facts hyperv-wmi 1.2 (HealthState is not 5), 1.3 (5: VHD storage low); which values is a guess",
)


@guard(NS)
def needs_role(machine: Machine, _caller: object) -> None:
    if not machine.role_present:
        raise CimFault.wmi(0x8004100E, "Invalid namespace")


# -- Msvm_ComputerSystem


@view(NS, "Msvm_ComputerSystem")
def computer_systems(machine: Machine, known: Known) -> Iterable[Row]:
    name = known.get("Name")
    yield _host_row(machine)
    for vm in list(machine.vms):
        if vm.planned or (isinstance(name, str) and name.upper() != vm.id):
            continue
        machine.world.power.look(vm)
        yield vm_row(machine, vm)


def _host_row(machine: Machine) -> Row:
    return {
        **managed(machine),
        "Caption": text(machine, "Hosting Computer System"),
        "CreationClassName": "Msvm_ComputerSystem",
        "Description": text(machine, "Microsoft Hosting Computer System"),
        "ElementName": machine.netbios_name,
        "EnabledDefault": 2,
        "EnabledState": 2,
        "Name": machine.netbios_name,
        "NumberOfNumaNodes": 1,
        "RequestedState": 12,
        "ResetCapability": 1,
    }


def vm_row(machine: Machine, vm: Vm) -> Row:
    running = vm.running
    status = [5 if vm.critical else 2] if vm.busy is None else [11, vm.busy]
    replication = {"none": (0, 0), "primary": (3, 1), "replica": (3, 2)}[vm.replica]
    return {
        **managed(machine),
        "HealthState": 20 if vm.critical else 5,
        "Caption": text(machine, "Virtual Machine"),
        "CreationClassName": "Msvm_ComputerSystem",
        "Description": "Microsoft Virtual Machine",
        "ElementName": vm.name,
        "EnabledDefault": 2 if running else 3,
        "EnabledState": vm.state,
        "EnhancedSessionModeState": 6 if vm.state == VM_RUNNING else 3,
        "FailedOverReplicationType": 0,
        "HwThreadsPerCoreRealized": 2 if running else None,
        "InstallDate": vm.created,
        "LastApplicationConsistentReplicationTime": NEVER,
        "LastReplicationTime": NEVER if vm.replica == "none" else vm.host.now() - timedelta(minutes=4),
        "LastReplicationType": 0 if vm.replica == "none" else 1,
        "LastSuccessfulBackupTime": vm.last_backup,
        "Name": vm.id,
        "NumberOfNumaNodes": 1,
        "OnTimeInMilliseconds": vm.uptime_ms,
        "OperationalStatus": status,
        "OtherEnabledState": vm.other_state,
        "ProcessID": vm.process_id,
        "ReplicationHealth": 0 if vm.replica == "none" else 1,
        "ReplicationMode": replication[1],
        "ReplicationState": replication[0],
        "RequestedState": vm.requested_state,
        "ResetCapability": 1,
        "StatusDescriptions": [text(machine, "Operating normally")] * len(status),
        "TimeOfLastConfigurationChange": vm.configured,
        "TimeOfLastStateChange": vm.state_changed,
    }


@view(NS, "Msvm_PlannedComputerSystem")
def planned_systems(machine: Machine) -> Iterable[Row]:
    for vm in machine.vms:
        if vm.planned:
            yield {
                **managed(machine),
                "Caption": text(machine, "Planned Virtual Machine"),
                "CreationClassName": "Msvm_PlannedComputerSystem",
                "Description": "Microsoft Planned Virtual Machine",
                "ElementName": vm.name,
                "EnabledDefault": 3,
                "EnabledState": 3,
                "Name": vm.id,
                "RequestedState": 12,
                "TimeOfLastConfigurationChange": vm.configured,
            }


@method(NS, "Msvm_ComputerSystem", "RequestStateChange")
def request_state_change(machine: Machine, target: Instance | None, arguments: dict[str, Value]) -> Row:
    vm = machine.vm_by_id(str(target.get("Name"))) if target is not None else None
    if vm is None:
        return {"ReturnValue": 32770}  # the host cannot be powered through Hyper-V
    requested = arguments.get("RequestedState")
    if not isinstance(requested, int) or requested not in TRANSITIONS:
        return {"ReturnValue": 32773}
    allowed, _transitional, _other, _final, job_type, name = TRANSITIONS[requested]
    if vm.state not in allowed:
        return {"ReturnValue": INVALID_STATE}
    if vm.busy is not None:
        return {"ReturnValue": INVALID_STATE}
    if vm.replica == "replica" and requested == 2:
        return {"ReturnValue": INVALID_STATE}
    if requested == 4:
        code = machine.world.power.initiate_shutdown(vm, force=True)
        if code:
            return {"ReturnValue": code}
    power = machine.world.power
    before = vm.state
    finish = power.enter(vm, requested) if requested != 4 else None

    def failed() -> None:
        if vm.state not in (VM_RUNNING, OFF, SAVED, PAUSED):
            vm.state, vm.other_state = before, None

    job = machine.jobs.start(
        "Msvm_ConcreteJob",
        job_type,
        name,
        finish,
        owner=who(),
        subject=vm,
        affected=[(system_ref(vm), 0)],
        seconds=4,
        on_failure=failed,
    )
    return {"ReturnValue": STARTED, "Job": job_ref(job)}


# -- settings of systems


def _settings_common(vm: Vm) -> Row:
    s = vm.settings
    generation_two = vm.generation == 2
    return {
        "AllowFullSCSICommandSet": s.allow_full_scsi,
        "AllowReducedFcRedundancy": False,
        "Architecture": "x64",
        "AutomaticCriticalErrorAction": 1,
        "AutomaticCriticalErrorActionTimeout": timedelta(minutes=30),
        "AutomaticRecoveryAction": s.automatic_recovery_action,
        "AutomaticShutdownAction": s.automatic_shutdown_action,
        "AutomaticSnapshotsEnabled": False,
        "AutomaticStartupAction": s.automatic_startup_action,
        "AutomaticStartupActionDelay": timedelta(seconds=s.automatic_startup_delay),
        "AutomaticStartupActionSequenceNumber": 0,
        "BIOSGUID": "{" + s.bios_guid + "}",
        "BIOSNumLock": False,
        "BIOSSerialNumber": s.bios_serial,
        "BaseBoardSerialNumber": s.bios_serial,
        "BootOrder": [] if generation_two else [1, 2, 3, 0],
        "BootSourceOrder": [],
        "ChassisAssetTag": s.bios_serial,
        "ChassisSerialNumber": s.bios_serial,
        "ConsoleMode": 0,
        "DebugChannelId": 0,
        "DebugPort": 0,
        "DebugPortEnabled": 0,
        "EnableHibernation": False,
        "EnhancedSessionTransportType": 0,
        "GuestControlledCacheTypes": False,
        "HighMmioGapBase": 0,
        "HighMmioGapSize": 512,
        "IncrementalBackupEnabled": s.incremental_backup,
        "IsAutomaticSnapshot": False,
        "LockOnDisconnect": False,
        "LowMmioGapSize": 128,
        "NetworkBootPreferredProtocol": 4096,
        "Notes": [s.notes],
        "PauseAfterBootFailure": False,
        "SecureBootEnabled": s.secure_boot and generation_two,
        "SecureBootTemplateId": "1734c6e8-3154-4dda-ba5f-a874cc483422" if generation_two else None,
        "TurnOffOnGuestRestart": False,
        "UserSnapshotType": s.user_snapshot_type,
        "Version": s.version,
        "VirtualNumaEnabled": True,
        "VirtualSystemSubType": f"Microsoft:Hyper-V:SubType:{vm.generation}",
        "VirtualSystemIdentifier": vm.id,
        "ConfigurationDataRoot": vm.configuration_root,
        "SnapshotDataRoot": vm.snapshot_root,
        "SuspendDataRoot": vm.configuration_root,
        "SwapFileDataRoot": vm.configuration_root,
        "LogDataRoot": vm.configuration_root,
        "GuestStateDataRoot": vm.configuration_root,
        **{k: v for k, v in s.extra.items() if not k.startswith("_")},
    }


def vssd_row(machine: Machine, vm: Vm) -> Row:
    kind = "Planned" if vm.planned else "Realized"
    parent = vm.current_checkpoint
    return {
        **_settings_common(vm),
        "Caption": text(machine, "Virtual Machine Settings"),
        "Description": text(machine, "Active settings for the virtual machine."),
        "ElementName": vm.name,
        "InstanceID": f"Microsoft:{vm.id}",
        "ConfigurationID": vm.id,
        "ConfigurationFile": vm.configuration_file,
        "GuestStateFile": f"Virtual Machines\\{vm.id}.vmgs" if vm.generation == 2 else None,
        "CreationTime": vm.created,
        "IsSaved": vm.state == SAVED,
        "Parent": wmi_path(machine, vssd_ref(parent)) if parent else None,
        "VirtualSystemType": f"Microsoft:Hyper-V:System:{kind}",
    }


_SNAPSHOT_TYPES = {"standard": "Realized", "production": "Realized", "recovery": "Recovery"}


def checkpoint_row(machine: Machine, vm: Vm, checkpoint: Checkpoint) -> Row:
    return {
        **_settings_common(vm),
        "Caption": text(machine, "Virtual Machine Settings"),
        "Description": text(machine, "Checkpoint settings for the virtual machine."),
        "ElementName": checkpoint.name,
        "InstanceID": f"Microsoft:{checkpoint.id}",
        "ConfigurationID": checkpoint.id,
        "ConfigurationFile": f"Snapshots\\{checkpoint.id}.vmcx",
        "CreationTime": checkpoint.created,
        "IsSaved": checkpoint.with_memory,
        "Notes": [checkpoint.notes],
        "Parent": wmi_path(machine, vssd_ref(checkpoint.parent)) if checkpoint.parent else None,
        "VirtualSystemType": f"Microsoft:Hyper-V:Snapshot:{_SNAPSHOT_TYPES[checkpoint.kind]}",
    }


@view(NS, "Msvm_VirtualSystemSettingData")
def system_settings(machine: Machine, known: Known) -> Iterable[Row]:
    for vm in selected(machine, known):
        yield vssd_row(machine, vm)
        for checkpoint in vm.checkpoints:
            yield checkpoint_row(machine, vm, checkpoint)
    if asks_templates(known):
        templates = {
            "Microsoft:Definition\\VirtualSystem\\SecureBootTemplateId\\1734c6e8-3154-4dda-ba5f-a874cc483422": (
                "MicrosoftWindows",
                "1734c6e8-3154-4dda-ba5f-a874cc483422",
            ),
            "Microsoft:Definition\\VirtualSystem\\SecureBootTemplateId\\272e7447-90a4-4563-a4b9-8e4ab00526ce": (
                "MicrosoftUEFICertificateAuthority",
                "272e7447-90a4-4563-a4b9-8e4ab00526ce",
            ),
        }
        for identifier, (name, template) in templates.items():
            yield {
                "InstanceID": identifier,
                "ElementName": name,
                "Caption": name,
                "Description": name,
                "SecureBootTemplateId": template,
                "VirtualSystemType": "Microsoft:Hyper-V:System:Definition",
            }


# -- summaries

_REQUESTED: dict[int, tuple[str, ...]] = {
    0: ("Name",),
    1: ("ElementName",),
    2: ("CreationTime",),
    3: ("Notes",),
    4: ("NumberOfProcessors",),
    8: ("AllocatedGPU",),
    9: ("VirtualSwitchNames",),
    10: ("Version",),
    11: ("Shielded",),
    100: ("EnabledState",),
    101: ("ProcessorLoad",),
    102: ("ProcessorLoadHistory",),
    103: ("MemoryUsage",),
    104: ("Heartbeat",),
    105: ("UpTime",),
    106: ("GuestOperatingSystem",),
    107: ("Snapshots",),
    108: ("AsynchronousTasks",),
    109: ("HealthState",),
    110: ("OperationalStatus",),
    111: ("StatusDescriptions",),
    112: ("MemoryAvailable",),
    113: ("AvailableMemoryBuffer",),
    114: ("ReplicationMode",),
    115: ("ReplicationState",),
    116: ("ReplicationHealth",),
    117: ("ApplicationHealth",),
    120: ("SwapFilesInUse",),
    121: ("IntegrationServicesVersionState",),
    122: ("ReplicationProviderId",),
    123: ("MemorySpansPhysicalNumaNodes",),
    132: ("OtherEnabledState",),
}


def summary_row(machine: Machine, vm: Vm, *, embed: bool = True) -> Row:
    switches = [n for n, g in machine.virtual_switches.items() if any(a.switch == g for a in vm.adapters)]
    talks = vm.guest_runs and vm.traits.integration_installed
    row = vm_row(machine, vm)
    return {
        "InstanceID": f"Microsoft:{vm.id}",
        "Name": vm.id,
        "ElementName": vm.name,
        "CreationTime": vm.created,
        "Notes": vm.settings.notes,
        "NumberOfProcessors": vm.settings.processors,
        "AllocatedGPU": "",
        "VirtualSwitchNames": switches,
        "Version": vm.settings.version,
        "Shielded": False,
        "EnabledState": vm.state,
        "ProcessorLoad": 3 if vm.state == VM_RUNNING else 0,
        "ProcessorLoadHistory": [3, 4, 2, 3] if vm.state == VM_RUNNING else [],
        "MemoryUsage": vm.settings.memory_mb if vm.running else 0,
        "Heartbeat": (2 if talks else 12) if vm.state == VM_RUNNING else None,
        "UpTime": vm.uptime_ms,
        "GuestOperatingSystem": vm.guest.os.caption if talks and vm.guest is not None else "",
        "HealthState": row["HealthState"],
        "OperationalStatus": row["OperationalStatus"],
        "StatusDescriptions": row["StatusDescriptions"],
        "MemoryAvailable": 60 if vm.running else 2147483647,
        "AvailableMemoryBuffer": 2147483647,
        "ReplicationMode": row["ReplicationMode"],
        "ReplicationState": row["ReplicationState"],
        "ReplicationHealth": row["ReplicationHealth"],
        "ApplicationHealth": 2 if talks else None,
        "SwapFilesInUse": False,
        "IntegrationServicesVersionState": 1 if talks else 0,
        "MemorySpansPhysicalNumaNodes": False,
        "OtherEnabledState": vm.other_state,
        "EnhancedSessionModeState": row["EnhancedSessionModeState"],
        "HostComputerSystemName": machine.netbios_name,
        "VirtualSystemSubType": f"Microsoft:Hyper-V:SubType:{vm.generation}",
        "Snapshots": [
            Instance(NS, "Msvm_VirtualSystemSettingData", checkpoint_row(machine, vm, c)) for c in vm.checkpoints
        ]
        if embed
        else [],
    }


@view(NS, "Msvm_SummaryInformation")
def summaries(machine: Machine, known: Known) -> Iterable[Row]:
    for vm in selected(machine, known):
        if not vm.planned:
            vm.wait_for_boot()
            yield summary_row(machine, vm, embed=False)


@method(NS, "Msvm_VirtualSystemManagementService", "GetSummaryInformation")
def get_summary_information(machine: Machine, _target: Instance | None, arguments: dict[str, Value]) -> Row:
    wanted = arguments.get("SettingData")
    requested = arguments.get("RequestedInformation")
    codes = requested if isinstance(requested, list) else []
    names = {"Name", *(n for code in codes for n in _REQUESTED.get(int(code), ()))}
    if not codes:
        return {"ReturnValue": 32773}
    if isinstance(wanted, list):
        found: list[Vm | None] = []
        for entry in wanted:
            key = entry.key("InstanceID") if isinstance(entry, Ref) else None
            identifier = str(key).rsplit(":", 1)[-1].upper() if key is not None else ""
            found.append(next((v for v in machine.vms if v.id == identifier), None))
    else:
        found = [vm for vm in machine.vms if not vm.planned]
    out: list[Instance] = []
    for vm in found:
        if vm is None:
            out.append(Instance(NS, "Msvm_SummaryInformation", {"Name": ""}))
            continue
        vm.wait_for_boot()
        row = summary_row(machine, vm)
        out.append(Instance(NS, "Msvm_SummaryInformation", {k: v for k, v in row.items() if k in names}))
    return {"ReturnValue": 0, "SummaryInformation": out}


# -- services

_SERVICES = {
    "Msvm_VirtualSystemManagementService": ("vmms", "Hyper-V Virtual System Management Service"),
    "Msvm_ImageManagementService": ("vmms", "Hyper-V Image Management Service"),
    "Msvm_VirtualSystemSnapshotService": ("vmms", "Hyper-V Virtual System Snapshot Service"),
    "Msvm_VirtualEthernetSwitchManagementService": ("nvspwmi", "Hyper-V Network Management Service"),
    "Msvm_VirtualSystemReferencePointService": ("vmms", "Hyper-V Virtual System Reference Point Service"),
    "Msvm_ResourcePoolConfigurationService": ("vmms", "Hyper-V Resource Pool Configuration Service"),
    "Msvm_CollectionManagementService": ("vmms", "Hyper-V Collection Management Service"),
}


def service_ref(machine: Machine, class_name: str) -> Ref:
    name = _SERVICES[class_name][0]
    return ref(
        class_name,
        CreationClassName=class_name,
        Name=name,
        SystemCreationClassName="Msvm_ComputerSystem",
        SystemName=machine.netbios_name,
    )


def _service_row(machine: Machine, class_name: str) -> Row:
    name, title = _SERVICES[class_name]
    return {
        **managed(machine),
        "Caption": text(machine, title),
        "CreationClassName": class_name,
        "Description": text(machine, title),
        "ElementName": text(machine, title),
        "EnabledDefault": 2,
        "EnabledState": 2,
        "Name": name,
        "PrimaryOwnerName": "Administrators",
        "RequestedState": 12,
        "StartMode": "Automatic",
        "Started": True,
        "SystemCreationClassName": "Msvm_ComputerSystem",
        "SystemName": machine.netbios_name,
    }


for _name in _SERVICES:

    def _rows(machine: Machine, _known: Known, name: str = _name) -> Iterable[Row]:
        yield _service_row(machine, name)

    view(NS, _name)(_rows)


@view(NS, "Msvm_VirtualSystemManagementServiceSettingData")
def service_settings(machine: Machine) -> Iterable[Row]:
    yield {
        "InstanceID": f"Microsoft:{machine.netbios_name}",
        "Caption": text(machine, "Hyper-V Virtual System Management Service Settings"),
        "Description": text(machine, "Settings for the Virtual System Management Service"),
        "ElementName": text(machine, "Hyper-V Virtual System Management Service"),
        "BiosLockString": "",
        "CurrentWWNNAddress": "C003FF0000FFFF00",
        "DefaultExternalDataRoot": machine.configuration_root,
        "DefaultVirtualHardDiskPath": machine.vhd_root,
        "EnhancedSessionModeEnabled": False,
        "HypervisorRootSchedulerEnabled": False,
        "MaximumMacAddress": "00155D0001FF",
        "MinimumMacAddress": "00155D000100",
        "MaximumWWPNAddress": "C003FF00FFFFFFFF",
        "MinimumWWPNAddress": "C003FF0000000000",
        "NumaSpanningEnabled": True,
    }


@view(NS, "Msvm_VirtualSystemManagementCapabilities")
def service_capabilities(machine: Machine) -> Iterable[Row]:
    yield {
        "InstanceID": f"Microsoft:{machine.netbios_name}",
        "Caption": text(machine, "Management Capabilities"),
        "Description": text(machine, "Capabilities of the Virtual System Management Service"),
        "ElementName": text(machine, "Management Capabilities"),
        "ElementNameEditSupported": True,
        "MaxElementNameLen": 100,
        "AsynchronousMethodsSupported": [1, 2, 3, 4, 5],
        "SynchronousMethodsSupported": [],
        "VirtualSystemTypesSupported": ["Microsoft:Hyper-V"],
    }


# -- jobs


def job_ref(job: Job) -> Ref:
    return setting_ref(job.class_name, job.id)


def _job_row(machine: Machine, job: Job) -> Row:
    failed = job.state in (EXCEPTION, TERMINATED, KILLED)
    if job.state == RUNNING:
        status, words = [2], [text(machine, "Job is running")]
    elif job.state == COMPLETED_WITH_WARNINGS:
        status, words = [17, 3], [text(machine, "The job has completed"), text(machine, "with warnings")]
    elif failed:
        status, words = [6], [job.error_text]
    else:
        status = [17, 2]
        words = [text(machine, "The job has completed"), text(machine, "The job completed successfully.")]
    end = job.finished or machine.now()
    name = text(machine, job.name)
    row: Row = {
        "InstanceID": job.id,
        "Cancellable": job.cancellable,
        "Caption": name,
        "DeleteOnCompletion": False,
        "Description": name,
        "ElapsedTime": max(timedelta(0), end - job.started),
        "ElementName": name,
        "ErrorCode": job.error_code,
        "ErrorDescription": job.error_text,
        "ErrorSummaryDescription": job.error_text,
        "HealthState": 5,
        "InstallDate": NEVER,
        "JobRunTimes": 1,
        "JobState": job.state,
        "JobStatus": words[0],
        "JobType": job.type,
        "LocalOrUtcTime": 2,
        "Name": name,
        "Notify": "",
        "OperationalStatus": status,
        "OtherRecoveryAction": "",
        "Owner": job.owner,
        "PercentComplete": job.percent,
        "Priority": 0,
        "RecoveryAction": 2,
        "ScheduledStartTime": job.started,
        "StartTime": job.started,
        "Status": "OK" if not failed else "Error",
        "StatusDescriptions": words,
        "TimeBeforeRemoval": machine.jobs.removal,
        "TimeOfLastStateChange": job.changed,
        "TimeSubmitted": job.started,
    }
    if job.class_name == "Msvm_StorageJob":
        row["JobCompletionStatusCode"] = job.output.get("status", 0) if failed else 0
        row["Child"] = job.output.get("child") if failed else None
        row["Parent"] = job.output.get("parent") if failed else None
    return row


def _jobs(machine: Machine, class_name: str, known: Known) -> Iterable[Row]:
    wanted = known.get("InstanceID")
    for job in machine.jobs.all():
        if job.class_name != class_name or (isinstance(wanted, str) and wanted.upper() != job.id):
            continue
        machine.jobs.look(job)
        if machine.jobs.find(job.id) is not None:
            yield _job_row(machine, job)


@view(NS, "Msvm_ConcreteJob")
def concrete_jobs(machine: Machine, known: Known) -> Iterable[Row]:
    return _jobs(machine, "Msvm_ConcreteJob", known)


@view(NS, "Msvm_StorageJob")
def storage_jobs(machine: Machine, known: Known) -> Iterable[Row]:
    return _jobs(machine, "Msvm_StorageJob", known)


@view(NS, "Msvm_AffectedJobElement")
def affected_job_elements(machine: Machine) -> Iterable[Row]:
    for job in machine.jobs.all():
        if not job.class_name.startswith("Msvm_"):
            continue
        for element, effect in job.affected:
            yield {"AffectedElement": element, "AffectingElement": job_ref(job), "ElementEffects": [effect]}


def _error(job: Job) -> Instance:
    return Instance(
        NS,
        "Msvm_Error",
        {
            "ErrorType": 0,
            "Message": job.error_text,
            "MessageID": str(job.error_code),
            "ProbableCause": 0,
            "PerceivedSeverity": 5,
            "ErrorSource": job.class_name,
        },
    )


def _job_of(machine: Machine, target: Instance | None) -> Job:
    job = machine.jobs.find(str(target.get("InstanceID"))) if target is not None else None
    if job is None:
        raise CimFault.wmi(0x80041002, "Not found")
    return job


@method(NS, "CIM_ConcreteJob", "GetError")
def get_error(machine: Machine, target: Instance | None, _arguments: dict[str, Value]) -> Row:
    job = _job_of(machine, target)
    return {"ReturnValue": 0, "Error": _error(job) if job.error_code else None}


@method(NS, "Msvm_ConcreteJob", "GetErrorEx")
def get_error_ex(machine: Machine, target: Instance | None, _arguments: dict[str, Value]) -> Row:
    job = _job_of(machine, target)
    return {"ReturnValue": 0, "Errors": [_error(job)] if job.error_code else []}


@method(NS, "Msvm_StorageJob", "GetErrorEx")
def get_storage_error_ex(machine: Machine, target: Instance | None, arguments: dict[str, Value]) -> Row:
    return dict(get_error_ex(machine, target, arguments))


@method(NS, "CIM_ConcreteJob", "RequestStateChange")
def change_job(machine: Machine, target: Instance | None, arguments: dict[str, Value]) -> Row:
    job = _job_of(machine, target)
    requested = arguments.get("RequestedState")
    if job.done:
        return {"ReturnValue": 32775}
    if requested in (4, 5):
        if not job.cancellable:
            return {"ReturnValue": 32770}
        machine.jobs.cancel(job, kill=requested == 5)
        return {"ReturnValue": 0}
    return {"ReturnValue": 32770}


# -- associations between systems and settings


@view(NS, "Msvm_SettingsDefineState")
def settings_define_state(machine: Machine) -> Iterable[Row]:
    for vm in machine.vms:
        yield {"ManagedElement": system_ref(vm), "SettingData": vssd_ref(vm.id)}


@view(NS, "Msvm_SnapshotOfVirtualSystem")
def snapshots_of_systems(machine: Machine) -> Iterable[Row]:
    for vm in machine.vms:
        for checkpoint in vm.checkpoints:
            yield {"Antecedent": system_ref(vm), "Dependent": vssd_ref(checkpoint.id)}


@view(NS, "Msvm_MostCurrentSnapshotInBranch")
def most_current_snapshots(machine: Machine) -> Iterable[Row]:
    for vm in machine.vms:
        if vm.current_checkpoint:
            yield {"Antecedent": system_ref(vm), "Dependent": vssd_ref(vm.current_checkpoint)}


@view(NS, "Msvm_LastAppliedSnapshot")
def last_applied_snapshots(machine: Machine) -> Iterable[Row]:
    for vm in machine.vms:
        if vm.current_checkpoint:
            yield {"Antecedent": vssd_ref(vm.current_checkpoint), "Dependent": system_ref(vm)}


@view(NS, "Msvm_HostedService")
def hosted_services(machine: Machine) -> Iterable[Row]:
    for class_name in _SERVICES:
        yield {"Antecedent": host_ref(machine), "Dependent": service_ref(machine, class_name)}


@view(NS, "Msvm_HostedDependency")
def hosted_dependencies(machine: Machine) -> Iterable[Row]:
    for vm in machine.vms:
        yield {"Antecedent": host_ref(machine), "Dependent": system_ref(vm)}


@view(NS, "Msvm_SystemExportSettingData")
def system_export_settings(machine: Machine) -> Iterable[Row]:
    for vm in machine.vms:
        yield {
            "ManagedElement": system_ref(vm),
            "SettingData": setting_ref("Msvm_VirtualSystemExportSettingData", f"Microsoft:{vm.id}"),
            "IsCurrent": 1,
            "IsDefault": 1,
            "IsNext": 3,
        }


@view(NS, "Msvm_VirtualSystemExportSettingData")
def export_settings(machine: Machine) -> Iterable[Row]:
    for vm in machine.vms:
        yield {
            "InstanceID": f"Microsoft:{vm.id}",
            "Caption": text(machine, "Virtual Machine Export Settings"),
            "Description": text(machine, "Settings for the export of a virtual machine."),
            "ElementName": vm.name,
            "BackupIntent": 0,
            "CaptureLiveState": 1,
            "CopySnapshotConfiguration": 0,
            "CopyVmRuntimeInformation": True,
            "CopyVmStorage": True,
            "CreateVmExportSubdirectory": True,
            "DisableDifferentialOfIgnoredStorage": False,
            "ExportForLiveMigration": False,
        }
