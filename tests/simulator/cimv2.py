# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Responsible for the rows of root/cimv2 about the machine itself: system, processors, disks, volumes, services, clocks.

Files are in cimv2_files.py, BitLocker in bitlocker.py; registry, processes, event log and shadow copies made by backups
belong to other modules. Facts: windows-storage 3.8; wire-shapes 3 (what libvirt reads).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from .assumed import assumed
from .cim import Instance, Ref, Value
from .disks import BUS_TYPES, Disk, stable_hex
from .partition_table import MBR, MICROSOFT_RESERVED
from .service import method, view
from .virtual_machine import Vm
from .volumes import Volume
from .world import Machine

NS = "root/cimv2"
Row = dict[str, Value]
Known = Mapping[str, Value]

assumed(
    "vss-exposed-volume-rows",
    "A shadow copy that is exposed with a letter is a row of Win32_LogicalDisk and Win32_Volume, or is not",
    source="no source; the storage namespace never lists it",
    values=("yes", "no"),
)
assumed(
    "diskdrive-scsi-address",
    "Win32_DiskDrive of a guest shows the slot on the controller as SCSILogicalUnit",
    source="facts windows-storage 4.3",
)

_LANGUAGES = {"en-US": (1033, "0409"), "de-DE": (1031, "0407"), "ja-JP": (1041, "0411")}


@view(NS, "Win32_OperatingSystem")
def operating_system(machine: Machine) -> Iterable[Row]:
    system = machine.os
    memory = (machine.vm.settings.memory_mb if machine.vm else 131072) * 1024
    language, code = _LANGUAGES.get(system.locale, _LANGUAGES["en-US"])
    device = "\\Device\\Harddisk0\\Partition3"
    yield {
        "BootDevice": "\\Device\\HarddiskVolume1",
        "BuildNumber": system.build,
        "BuildType": "Multiprocessor Free",
        "Caption": system.caption,
        "CodeSet": "1252",
        "CountryCode": "1",
        "CreationClassName": "Win32_OperatingSystem",
        "CSCreationClassName": "Win32_ComputerSystem",
        "CSName": machine.netbios_name,
        "CurrentTimeZone": system.utc_offset,
        "DataExecutionPrevention_32BitApplications": True,
        "DataExecutionPrevention_Available": True,
        "DataExecutionPrevention_Drivers": True,
        "DataExecutionPrevention_SupportPolicy": 3,
        "Debug": False,
        "Description": "",
        "Distributed": False,
        "EncryptionLevel": 256,
        "ForegroundApplicationBoost": 2,
        "FreePhysicalMemory": memory // 2,
        "FreeSpaceInPagingFiles": 1310720,
        "FreeVirtualMemory": memory // 2,
        "InstallDate": machine.booted_at - timedelta(days=400),
        "LastBootUpTime": _booted(machine),
        "LocalDateTime": machine.local_now(),
        "Locale": code,
        "Manufacturer": "Microsoft Corporation",
        "MaxNumberOfProcesses": 4294967295,
        "MaxProcessMemorySize": 137438953344,
        "MUILanguages": [system.locale],
        "Name": f"{system.caption}|C:\\Windows|{device}",
        "NumberOfLicensedUsers": 0,
        "NumberOfProcesses": 97,
        "NumberOfUsers": 1,
        "OperatingSystemSKU": system.sku,
        "Organization": "",
        "OSArchitecture": "64-bit",
        "OSLanguage": language,
        "OSProductSuite": 400 if system.product_type != 1 else 256,
        "OSType": 18,
        "PAEEnabled": None,
        "PortableOperatingSystem": False,
        "Primary": True,
        "ProductType": system.product_type,
        "RegisteredUser": "Windows User",
        "SerialNumber": "00454-" + stable_hex(machine.uuid, "serial", length=5) + "-00001-AA738",
        "ServicePackMajorVersion": 0,
        "ServicePackMinorVersion": 0,
        "SizeStoredInPagingFiles": 1310720,
        "Status": "OK",
        "SuiteMask": 400 if system.product_type != 1 else 256,
        "SystemDevice": "\\Device\\HarddiskVolume3",
        "SystemDirectory": "C:\\Windows\\system32",
        "SystemDrive": "C:",
        "TotalVirtualMemorySize": memory + 1310720,
        "TotalVisibleMemorySize": memory,
        "Version": system.version,
        "WindowsDirectory": "C:\\Windows",
    }


def _booted(machine: Machine) -> datetime:
    if machine.vm is not None and machine.vm.started is not None:
        return machine.vm.started
    return machine.booted_at - timedelta(days=20)


@view(NS, "Win32_ComputerSystem")
def computer_system(machine: Machine) -> Iterable[Row]:
    vm = machine.vm
    joined = bool(machine.domain)
    server = machine.os.product_type != 1
    role = 5 if machine.os.product_type == 2 else (3 if server else 1) if joined else (2 if server else 0)
    yield {
        "AdminPasswordStatus": 3,
        "AutomaticManagedPagefile": True,
        "AutomaticResetBootOption": True,
        "AutomaticResetCapability": True,
        "BootROMSupported": True,
        "BootupState": "Normal boot",
        "Caption": machine.netbios_name,
        "ChassisBootupState": 3,
        "CreationClassName": "Win32_ComputerSystem",
        "CurrentTimeZone": machine.os.utc_offset,
        "DaylightInEffect": False,
        "Description": "AT/AT COMPATIBLE",
        "DNSHostName": machine.name.split(".")[0],
        "Domain": machine.domain or "WORKGROUP",
        "DomainRole": role,
        "EnableDaylightSavingsTime": True,
        "FrontPanelResetStatus": 3,
        "HypervisorPresent": True,
        "InfraredSupported": False,
        "KeyboardPasswordStatus": 3,
        "Manufacturer": "Microsoft Corporation" if vm else "Dell Inc.",
        "Model": "Virtual Machine" if vm else "PowerEdge R740",
        "Name": machine.netbios_name,
        "NetworkServerModeEnabled": True,
        "NumberOfLogicalProcessors": vm.settings.processors if vm else 32,
        "NumberOfProcessors": 1 if vm else 2,
        "PartOfDomain": joined,
        "PauseAfterReset": -1,
        "PCSystemType": 1 if vm else 4,
        "PCSystemTypeEx": 1 if vm else 4,
        "PowerOnPasswordStatus": 3,
        "PowerState": 0,
        "PowerSupplyState": 3,
        "PrimaryOwnerName": "Windows User",
        "ResetCapability": 1,
        "ResetCount": -1,
        "ResetLimit": -1,
        "Roles": ["LM_Workstation", "LM_Server", "NT", "Server_NT"],
        "Status": "OK",
        "SystemType": "x64-based PC",
        "ThermalState": 3,
        "TotalPhysicalMemory": (vm.settings.memory_mb if vm else 131072) << 20,
        "WakeUpType": 6,
        "Workgroup": None if joined else "WORKGROUP",
    }


def product_uuid(machine: Machine) -> str:
    """The SMBIOS UUID: a guest's is its VM's BIOSGUID."""
    return machine.vm.settings.bios_guid.upper() if machine.vm is not None else machine.uuid


@view(NS, "Win32_ComputerSystemProduct")
def computer_system_product(machine: Machine) -> Iterable[Row]:
    vm: Vm | None = machine.vm
    yield {
        "Caption": "Computer System Product",
        "Description": "Computer System Product",
        "IdentifyingNumber": vm.settings.bios_serial if vm else stable_hex(machine.uuid, "tag", length=7),
        "Name": "Virtual Machine" if vm else "PowerEdge R740",
        "UUID": product_uuid(machine),
        "Vendor": "Microsoft Corporation" if vm else "Dell Inc.",
        "Version": "Hyper-V UEFI Release v4.1" if vm else "Not Specified",
    }


@view(NS, "Win32_Processor")
def processors(machine: Machine) -> Iterable[Row]:
    vm = machine.vm
    for number in range(1 if vm else 2):
        yield {
            "AddressWidth": 64,
            "Architecture": 9,
            "Availability": 3,
            "Caption": "Intel64 Family 6 Model 85 Stepping 4",
            "CpuStatus": 1,
            "CreationClassName": "Win32_Processor",
            "CurrentClockSpeed": 2394,
            "DataWidth": 64,
            "Description": "Intel64 Family 6 Model 85 Stepping 4",
            "DeviceID": f"CPU{number}",
            "Family": 179,
            "L2CacheSize": 10240,
            "L3CacheSize": 14080,
            "Level": 6,
            "LoadPercentage": 4,
            "Manufacturer": "GenuineIntel",
            "MaxClockSpeed": 2394,
            "Name": "Intel(R) Xeon(R) Silver 4215 CPU @ 2.40GHz",
            "NumberOfCores": vm.settings.processors if vm else 8,
            "NumberOfEnabledCore": vm.settings.processors if vm else 8,
            "NumberOfLogicalProcessors": vm.settings.processors if vm else 16,
            "PowerManagementSupported": False,
            "ProcessorId": "BFEBFBFF00050654",
            "ProcessorType": 3,
            "Revision": 21764,
            "Role": "CPU",
            "SecondLevelAddressTranslationExtensions": False,
            "SocketDesignation": f"CPU{number + 1}",
            "Status": "OK",
            "StatusInfo": 3,
            "SystemCreationClassName": "Win32_ComputerSystem",
            "SystemName": machine.netbios_name,
            "ThreadCount": vm.settings.processors if vm else 16,
            "UpgradeMethod": 1,
            "VirtualizationFirmwareEnabled": False,
            "VMMonitorModeExtensions": False,
        }


@view(NS, "Win32_ComputerSystemProcessor")
def system_processors(machine: Machine) -> Iterable[Row]:
    for number in range(1 if machine.vm else 2):
        yield {
            "GroupComponent": Ref(NS, "Win32_ComputerSystem", {"Name": machine.netbios_name}),
            "PartComponent": Ref(NS, "Win32_Processor", {"DeviceID": f"CPU{number}"}),
        }


# -- disks and volumes

_INTERFACES = {BUS_TYPES["ata"]: "IDE", BUS_TYPES["sata"]: "IDE"}


def disk_drive_row(disk: Disk) -> Row:
    port, bus, target, lun = disk.backing.scsi
    cylinder = 255 * 63 * disk.backing.sector
    cylinders = disk.size // cylinder
    table = disk.table
    count = sum(1 for p in table.partitions if p.gpt_type != MICROSOFT_RESERVED)
    model = f"{disk.identity.vendor} {disk.identity.model} SCSI Disk Device"
    if disk.backing.bus_type in _INTERFACES:
        model = disk.identity.model
    return {
        "BytesPerSector": disk.backing.sector,
        "Capabilities": [3, 4],
        "CapabilityDescriptions": ["Random Access", "Supports Writing"],
        "Caption": model,
        "ConfigManagerErrorCode": 0,
        "ConfigManagerUserConfig": False,
        "CreationClassName": "Win32_DiskDrive",
        "Description": "Disk drive",
        "DeviceID": disk.device_id,
        "FirmwareRevision": disk.identity.revision,
        "Index": disk.number,
        "InterfaceType": _INTERFACES.get(disk.backing.bus_type, "SCSI"),
        "Manufacturer": "(Standard disk drives)",
        "MediaLoaded": True,
        "MediaType": "Fixed hard disk media",
        "Model": model,
        "Name": disk.device_id,
        "Partitions": count,
        "PNPDeviceID": disk.path[4:].rsplit("#", 1)[0].replace("#", "\\").upper(),
        "SCSIBus": bus,
        "SCSILogicalUnit": lun,
        "SCSIPort": port,
        "SCSITargetId": target,
        "SectorsPerTrack": 63,
        "SerialNumber": disk.identity.serial,
        "Signature": table.signature if table.style == MBR else None,
        "Size": cylinders * cylinder,  # rounded to cylinders, smaller than the truth (windows-storage 3.8)
        "Status": "OK",
        "SystemCreationClassName": "Win32_ComputerSystem",
        "SystemName": machine_name(disk),
        "TotalCylinders": cylinders,
        "TotalHeads": 255,
        "TotalSectors": cylinders * 255 * 63,
        "TotalTracks": cylinders * 255,
        "TracksPerCylinder": 255,
    }


def machine_name(disk: Disk) -> str:
    return disk.machine.netbios_name


@view(NS, "Win32_DiskDrive")
def disk_drives(machine: Machine) -> Iterable[Row]:
    for disk in machine.disks:
        yield disk_drive_row(disk)


def _exposed(machine: Machine) -> list[Volume]:
    return machine.exposed_volumes() if machine.world.assume("vss-exposed-volume-rows") == "yes" else []


@view(NS, "Win32_LogicalDisk")
def logical_disks(machine: Machine) -> Iterable[Row]:
    for volume in [*machine.volumes(), *_exposed(machine)]:
        if volume.letter is None:
            continue
        raw = volume.is_raw
        yield {
            "Access": 0,
            "Caption": f"{volume.letter}:",
            "Compressed": False if not raw else None,
            "CreationClassName": "Win32_LogicalDisk",
            "Description": "Local Fixed Disk",
            "DeviceID": f"{volume.letter}:",
            "DriveType": 3,
            "FileSystem": None if raw else volume.file_system,
            "FreeSpace": None if raw else volume.free,
            "MaximumComponentLength": None if raw else 255,
            "MediaType": 12,
            "Name": f"{volume.letter}:",
            "Size": None if raw else volume.size,
            "SupportsDiskQuotas": volume.file_system == "NTFS",
            "SupportsFileBasedCompression": volume.file_system == "NTFS",
            "SystemCreationClassName": "Win32_ComputerSystem",
            "SystemName": machine.netbios_name,
            "VolumeDirty": False,
            "VolumeName": volume.label,
            "VolumeSerialNumber": None if raw else f"{volume.serial & 0xFFFFFFFF:08X}",
        }


@view(NS, "Win32_Volume")
def win32_volumes(machine: Machine) -> Iterable[Row]:
    for volume in [*machine.volumes(), *_exposed(machine)]:
        raw = volume.is_raw
        name = volume.access_paths[0]
        yield {
            "Automount": True,
            "BlockSize": None if raw else volume.allocation_unit,
            "BootVolume": volume.is_boot,
            "Capacity": None if raw else volume.size,
            "Caption": name,
            "Compressed": False,
            "CreationClassName": None,
            "DeviceID": volume.path,
            "DirtyBitSet": False if not raw else None,
            "DriveLetter": f"{volume.letter}:" if volume.letter else None,
            "DriveType": 3,
            "FileSystem": None if raw else volume.file_system,
            "FreeSpace": None if raw else volume.free,
            "IndexingEnabled": not raw,
            "Label": volume.label or None,
            "MaximumFileNameLength": 255,
            "Name": name,
            "PageFilePresent": volume.is_boot,
            "QuotasEnabled": False,
            "QuotasIncomplete": False,
            "QuotasRebuilding": False,
            "SerialNumber": None if raw else volume.serial & 0xFFFFFFFF,
            "SupportsDiskQuotas": volume.file_system == "NTFS",
            "SupportsFileBasedCompression": volume.file_system == "NTFS",
            "SystemName": machine.netbios_name,
            "SystemVolume": volume.is_system,
        }


# -- services


@dataclass(frozen=True, kw_only=True)
class WindowsService:
    """A service and when it exists: ``on`` is "all", "host" (Hyper-V role), "server", "cluster", "backup" (its engine)."""

    name: str
    title: str
    state: str
    mode: str
    path: str
    on: str = "all"
    account: str = "LocalSystem"


_SVCHOST = "C:\\Windows\\system32\\svchost.exe -k netsvcs -p"
SERVICES: tuple[WindowsService, ...] = (
    WindowsService(
        name="vmms", title="Hyper-V Virtual Machine Management", state="Running", mode="Auto",
        path="C:\\Windows\\system32\\vmms.exe", on="host",
    ),
    WindowsService(
        name="vmcompute", title="Hyper-V Host Compute Service", state="Running", mode="Manual",
        path="C:\\Windows\\system32\\vmcompute.exe", on="host",
    ),
    WindowsService(
        name="wbengine", title="Block Level Backup Engine Service", state="Stopped", mode="Manual",
        path='"C:\\Windows\\system32\\wbengine.exe"', on="backup",
    ),
    WindowsService(
        name="MSiSCSI", title="Microsoft iSCSI Initiator Service", state="Stopped", mode="Manual", path=_SVCHOST,
    ),
    WindowsService(
        name="VSS", title="Volume Shadow Copy", state="Stopped", mode="Manual",
        path="C:\\Windows\\system32\\vssvc.exe",
    ),
    WindowsService(
        name="swprv", title="Microsoft Software Shadow Copy Provider", state="Stopped", mode="Manual",
        path="C:\\Windows\\System32\\svchost.exe -k swprv",
    ),
    WindowsService(
        name="Schedule", title="Task Scheduler", state="Running", mode="Auto", path=_SVCHOST,
    ),
    WindowsService(
        name="EventLog", title="Windows Event Log", state="Running", mode="Auto",
        path="C:\\Windows\\System32\\svchost.exe -k LocalServiceNetworkRestricted -p",
        account="NT AUTHORITY\\LocalService",
    ),
    WindowsService(
        name="WinRM", title="Windows Remote Management (WS-Management)", state="Running", mode="Auto",
        path="C:\\Windows\\System32\\svchost.exe -k NetworkService -p", account="NT AUTHORITY\\NetworkService",
    ),
    WindowsService(
        name="Winmgmt", title="Windows Management Instrumentation", state="Running", mode="Auto", path=_SVCHOST,
    ),
    WindowsService(
        name="LanmanServer", title="Server", state="Running", mode="Auto", path=_SVCHOST,
    ),
    WindowsService(
        name="vds", title="Virtual Disk", state="Stopped", mode="Manual", path="C:\\Windows\\System32\\vds.exe",
    ),
    WindowsService(
        name="defragsvc", title="Optimize drives", state="Stopped", mode="Manual",
        path="C:\\Windows\\system32\\svchost.exe -k defragsvc",
    ),
    WindowsService(
        name="BDESVC", title="BitLocker Drive Encryption Service", state="Stopped", mode="Manual", path=_SVCHOST,
    ),
    WindowsService(
        name="ClusSvc", title="Cluster Service", state="Running", mode="Auto",
        path="C:\\Windows\\Cluster\\clussvc.exe -s", on="cluster",
    ),
    WindowsService(
        name="NTDS", title="Active Directory Domain Services", state="Running", mode="Auto",
        path="C:\\Windows\\System32\\lsass.exe", on="domain controller",
    ),
    WindowsService(
        name="vmickvpexchange", title="Hyper-V Data Exchange Service", state="Running", mode="Manual",
        path="C:\\Windows\\system32\\svchost.exe -k LocalSystemNetworkRestricted -p", on="guest",
    ),
    WindowsService(
        name="vmicvss", title="Hyper-V Volume Shadow Copy Requestor", state="Running", mode="Manual",
        path="C:\\Windows\\system32\\svchost.exe -k LocalSystemNetworkRestricted -p", on="guest",
    ),
    WindowsService(
        name="vmicshutdown", title="Hyper-V Guest Shutdown Service", state="Running", mode="Manual",
        path="C:\\Windows\\system32\\svchost.exe -k LocalSystemNetworkRestricted -p", on="guest",
    ),
    WindowsService(
        name="vmicheartbeat", title="Hyper-V Heartbeat Service", state="Running", mode="Manual",
        path="C:\\Windows\\system32\\svchost.exe -k ICService -p", on="guest",
    ),
)  # fmt: skip


def _exists(machine: Machine, service: WindowsService) -> bool:
    return {
        "all": True,
        "host": machine.kind == "host" and machine.role_present,
        "guest": machine.kind == "guest" and machine.vm is not None and machine.vm.traits.integration_installed,
        "cluster": machine.cluster is not None,
        "domain controller": machine.os.product_type == 2,
        "backup": machine.backup is not None and machine.backup.installed,
    }[service.on]


@view(NS, "Win32_Service")
def services(machine: Machine, known: Known) -> Iterable[Row]:
    wanted = known.get("Name")
    for service in (*SERVICES, *machine.extra_services):
        if not _exists(machine, service) or (isinstance(wanted, str) and wanted.lower() != service.name.lower()):
            continue
        state = machine.service_states.get(service.name, service.state)
        running = state == "Running"
        yield {
            "AcceptPause": False,
            "AcceptStop": running,
            "Caption": service.title,
            "CheckPoint": 0,
            "CreationClassName": "Win32_Service",
            "DelayedAutoStart": False,
            "Description": service.title,
            "DesktopInteract": False,
            "DisplayName": service.title,
            "ErrorControl": "Normal",
            "ExitCode": 0 if running or service.mode == "Auto" else 1077,
            "Name": service.name,
            "PathName": service.path,
            "ProcessId": 600 + int(stable_hex(service.name, length=3), 16) // 4 * 4 if running else 0,
            "ServiceSpecificExitCode": 0,
            "ServiceType": "Own Process" if "svchost" not in service.path else "Share Process",
            "Started": running,
            "StartMode": machine.service_states.get(f"{service.name}:mode", service.mode),
            "StartName": service.account,
            "State": state,
            "Status": "OK",
            "SystemCreationClassName": "Win32_ComputerSystem",
            "SystemName": machine.netbios_name,
            "TagId": 0,
            "WaitHint": 0,
        }


def _known_service(machine: Machine, target: Instance | None) -> WindowsService | None:
    name = str(target.get("Name")).lower() if target is not None else ""
    known = (*SERVICES, *machine.extra_services)
    return next((s for s in known if s.name.lower() == name and _exists(machine, s)), None)


@method(NS, "Win32_Service", "StartService")
def start_service(machine: Machine, target: Instance | None, _arguments: dict[str, Value]) -> Row:
    service = _known_service(machine, target)
    if service is None:
        return {"ReturnValue": 2}
    if machine.service_states.get(service.name, service.state) == "Running":
        return {"ReturnValue": 10}
    if machine.service_states.get(f"{service.name}:mode", service.mode) == "Disabled":
        return {"ReturnValue": 14}
    machine.service_states[service.name] = "Running"
    return {"ReturnValue": 0}


@method(NS, "Win32_Service", "StopService")
def stop_service(machine: Machine, target: Instance | None, _arguments: dict[str, Value]) -> Row:
    service = _known_service(machine, target)
    if service is None:
        return {"ReturnValue": 2}
    if machine.service_states.get(service.name, service.state) != "Running":
        return {"ReturnValue": 5}
    machine.service_states[service.name] = "Stopped"
    return {"ReturnValue": 0}


@method(NS, "Win32_Service", "ChangeStartMode")
def change_start_mode(machine: Machine, target: Instance | None, arguments: dict[str, Value]) -> Row:
    service = _known_service(machine, target)
    mode = {"automatic": "Auto", "manual": "Manual", "disabled": "Disabled"}.get(
        str(arguments.get("StartMode", "")).lower()
    )
    if service is None or mode is None:
        return {"ReturnValue": 21}
    machine.service_states[f"{service.name}:mode"] = mode
    return {"ReturnValue": 0}


# -- clocks


def _clock_row(moment: datetime) -> Row:
    return {
        "Day": moment.day,
        "DayOfWeek": moment.isoweekday() % 7,
        "Hour": moment.hour,
        "Minute": moment.minute,
        "Month": moment.month,
        "Quarter": (moment.month - 1) // 3 + 1,
        "Second": moment.second,
        "WeekInMonth": (moment.day - 1) // 7 + 1,
        "Year": moment.year,
    }


@view(NS, "Win32_UTCTime")
def utc_time(machine: Machine) -> Iterable[Row]:
    yield _clock_row(machine.now())


@view(NS, "Win32_LocalTime")
def local_time(machine: Machine) -> Iterable[Row]:
    yield _clock_row(machine.local_now())


@view(NS, "Win32_TimeZone")
def time_zone(machine: Machine) -> Iterable[Row]:
    offset = machine.os.utc_offset
    name = "UTC" if not offset else f"UTC{'+' if offset > 0 else '-'}{abs(offset) // 60:02d}:{abs(offset) % 60:02d}"
    yield {
        "Bias": offset,
        "Caption": f"({name}) {name}",
        "Description": f"({name}) {name}",
        "SettingID": name,
        "StandardName": name,
        "StandardBias": 0,
        "DaylightName": name,
        "DaylightBias": 0,
    }
