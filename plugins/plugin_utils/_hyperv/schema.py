# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""The CIM classes that the product reads or calls, as data: property types, arrays, embedded classes, methods, keys.

WS-Management answers carry no types, so this table decides how text becomes values and which names may be sent.
It holds only what the product uses; a test holds it against the fact sheet `cim-classes.json` (live Server 2019).
Classes and types that the sheet lacks, or tells wrongly, have their source beside them.

Not here: how values are written and read (`_wsman`), and what they mean (`model`, `host`, `guest`).

Notation: `properties` maps a type to the names of that type; `uint16[]` is an array, `object:X` a typed embedded object,
`instance:X` an embedded instance as CIM-XML text, `reference:X` a reference. A method reads like Microsoft's page:
`Name(in type Parameter, out type Parameter)`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from .._wsman import CimClass, CimMethod, CimParameter, CimProperty, Schema

VIRTUALIZATION = "root/virtualization/v2"
STORAGE = "root/microsoft/windows/storage"
CIMV2 = "root/cimv2"
TASK_SCHEDULER = "root/microsoft/windows/taskscheduler"
CLUSTER = "root/MSCluster"
BITLOCKER = "root/cimv2/security/microsoftvolumeencryption"

_TYPE = re.compile(r"(?P<type>[a-z0-9]+)(?::(?P<embedded>\w+))?(?P<array>\[\])?\Z")
_SIGNATURES = re.compile(r"\w+\([^)]*\)")
_METHOD = re.compile(r"(?P<name>\w+)\((?P<parameters>.*)\)\Z")


def _type(text: str) -> tuple[str, bool, str | None]:
    """`uint16[]` -> (type, is_array, embedded class)."""
    match = _TYPE.match(text)
    if match is None:
        raise ValueError(f"{text!r} is not a type of this table")
    return match["type"], match["array"] is not None, match["embedded"]


def _method(signature: str) -> CimMethod:
    match = _METHOD.match(signature)
    if match is None:
        raise ValueError(f"{signature!r} is not a method signature of this table")
    parameters = []
    for text in filter(None, match["parameters"].split(", ")):
        direction, type_text, name = text.split(" ")
        cim_type, is_array, embedded = _type(type_text)
        parameters.append(
            CimParameter(name=name, type=cim_type, is_array=is_array, direction=direction, embedded=embedded)
        )
    return CimMethod(name=match["name"], parameters=tuple(parameters))


def _class(
    namespace: str, name: str, *, keys: str = "", properties: Mapping[str, str] | None = None, methods: str = ""
) -> CimClass:
    typed: dict[str, CimProperty] = {}
    for type_text, names in (properties or {}).items():
        cim_type, is_array, embedded = _type(type_text)
        for property_name in names.split():
            typed[property_name] = CimProperty(type=cim_type, is_array=is_array, embedded=embedded)
    signatures = [_method(" ".join(text.split())) for text in _SIGNATURES.findall(methods)]
    return CimClass(
        name=name,
        namespace=namespace,
        base=None,
        properties=typed,
        methods=tuple(signatures),
        keys=tuple(keys.split()),
    )


# Inherited members are written out, so that an entry can be read alone. What each group of rows shares:
_SETTING = "InstanceID Caption Description ElementName"
_RESOURCE: Mapping[str, str] = {
    "string": _SETTING
    + " ResourceSubType OtherResourceType PoolID Parent Address AddressOnParent AllocationUnits VirtualQuantityUnits",
    "uint16": "ResourceType ConsumerVisibility MappingBehavior",
    "string[]": "HostResource Connection",
    "uint64": "VirtualQuantity Reservation Limit",
    "uint32": "Weight",
    "boolean": "AutomaticAllocation AutomaticDeallocation",
}
_DEVICE = "CreationClassName DeviceID SystemCreationClassName SystemName Caption Description ElementName Name"
_DEVICE_KEYS = "CreationClassName DeviceID SystemCreationClassName SystemName"
_JOB_OUT = "out reference:CIM_ConcreteJob Job"
_SERVICE: Mapping[str, str] = {
    "string": "CreationClassName Name SystemCreationClassName SystemName ElementName",
    "uint16": "EnabledState",
}
_JOB: Mapping[str, str] = {
    "string": _SETTING + " Name JobStatus ErrorDescription ErrorSummaryDescription Owner",
    "uint16": "JobState JobType ErrorCode PercentComplete HealthState",
    "uint16[]": "OperationalStatus",
    "string[]": "StatusDescriptions",
    "datetime": "ElapsedTime StartTime TimeSubmitted TimeOfLastStateChange TimeBeforeRemoval",
    "boolean": "Cancellable DeleteOnCompletion",
}
# LastModified and its like are datetime (documentation of CIM_LogicalFile); the sheet's generator writes string.
_FILE: Mapping[str, str] = {
    "string": "Name Drive Path FileName Extension FileType CSName FSName EightDotThreeFileName",
    "uint64": "FileSize",
    "boolean": "Hidden System Readable Writeable Archive Compressed Encrypted",
    "datetime": "CreationDate LastAccessed LastModified InstallDate",
}


def _merged(*parts: Mapping[str, str]) -> dict[str, str]:
    merged: dict[str, str] = {}
    for part in parts:
        for type_text, names in part.items():
            merged[type_text] = f"{merged[type_text]} {names}" if type_text in merged else names
    return merged


_VIRTUALIZATION_CLASSES = (
    _class(
        VIRTUALIZATION,
        "Msvm_ComputerSystem",
        keys="CreationClassName Name",  # as recorded; the documentation's key InstanceID is NULL (hyperv-wmi 1.1)
        properties={
            "string": "CreationClassName Name ElementName Caption Description InstanceID OtherEnabledState Status",
            "uint16": "EnabledState RequestedState EnabledDefault HealthState ReplicationState ReplicationHealth "
            "ReplicationMode FailedOverReplicationType LastReplicationType NumberOfNumaNodes ResetCapability "
            "EnhancedSessionModeState",
            "uint16[]": "OperationalStatus",
            "string[]": "StatusDescriptions",
            "datetime": "InstallDate TimeOfLastStateChange TimeOfLastConfigurationChange LastReplicationTime "
            "LastSuccessfulBackupTime LastApplicationConsistentReplicationTime",
            "uint64": "OnTimeInMilliseconds",
            "uint32": "ProcessID HwThreadsPerCoreRealized",
        },
        methods=f"RequestStateChange(in uint16 RequestedState, {_JOB_OUT}, in datetime TimeoutPeriod)",
    ),
    _class(
        VIRTUALIZATION,
        "Msvm_VirtualSystemSettingData",
        keys="InstanceID",
        properties={
            # VirtualSystemSubType is a string such as Microsoft:Hyper-V:SubType:2 (hyperv-wmi 1.4); the sheet shows an enumeration
            "string": _SETTING + " VirtualSystemIdentifier VirtualSystemType VirtualSystemSubType Parent Version "
            "ConfigurationID ConfigurationDataRoot ConfigurationFile SnapshotDataRoot GuestStateFile GuestStateDataRoot",
            "string[]": "Notes",
            "uint16": "AutomaticStartupAction AutomaticShutdownAction UserSnapshotType",
            "datetime": "CreationTime",
            "boolean": "IncrementalBackupEnabled IsAutomaticSnapshot IsSaved AllowFullSCSICommandSet",
        },
    ),
    _class(
        VIRTUALIZATION,
        "Msvm_ResourceAllocationSettingData",
        keys="InstanceID",
        properties=_merged(_RESOURCE, {"string[]": "VirtualSystemIdentifiers"}),
    ),
    _class(
        VIRTUALIZATION,
        "Msvm_StorageAllocationSettingData",
        keys="InstanceID",
        properties=_merged(
            _RESOURCE, {"boolean": "PersistentReservationsSupported", "string": "SnapshotId", "uint16": "Access"}
        ),
    ),
    _class(
        VIRTUALIZATION,
        "Msvm_DiskDrive",
        keys=_DEVICE_KEYS,  # the documentation's key InstanceID is wrong (hyperv-wmi 3.1)
        properties={"string": _DEVICE, "uint32": "DriveNumber", "uint16": "EnabledState"},
    ),
    _class(
        VIRTUALIZATION,
        "Msvm_SyntheticFcPortSettingData",
        keys="InstanceID",
        properties=_merged(
            _RESOURCE,
            {
                "string": "VirtualPortWWPN VirtualPortWWNN SecondaryWWPN SecondaryWWNN",
                "boolean": "ChapEnabled",
                "string[]": "VirtualSystemIdentifiers",
            },
        ),
    ),
    _class(VIRTUALIZATION, "Msvm_FcPortAllocationSettingData", keys="InstanceID", properties=_RESOURCE),
    _class(
        VIRTUALIZATION,
        "Msvm_VirtualFcSwitch",
        keys="CreationClassName Name",
        properties={"string": "CreationClassName Name ElementName InstanceID", "uint16": "EnabledState"},
    ),
    _class(
        VIRTUALIZATION,
        "Msvm_KvpExchangeComponent",
        keys=_DEVICE_KEYS,
        properties={
            "string": _DEVICE,
            "uint16": "EnabledState HealthState",
            "uint16[]": "OperationalStatus",
            # strings in the live schema; each holds an Msvm_KvpExchangeDataItem as text (hyperv-wmi 6.4)
            "instance:Msvm_KvpExchangeDataItem[]": "GuestIntrinsicExchangeItems GuestExchangeItems",
        },
    ),
    _class(VIRTUALIZATION, "Msvm_KvpExchangeDataItem", properties={"string": "Name Data"}),
    _class(
        VIRTUALIZATION,
        "Msvm_VssComponent",
        keys=_DEVICE_KEYS,
        properties={"string": _DEVICE, "uint16": "EnabledState HealthState", "uint16[]": "OperationalStatus"},
    ),
    _class(
        VIRTUALIZATION,
        "Msvm_HeartbeatComponent",
        keys=_DEVICE_KEYS,
        properties={"string": _DEVICE, "uint16": "EnabledState HealthState", "uint16[]": "OperationalStatus"},
    ),
    _class(
        VIRTUALIZATION,
        "Msvm_ShutdownComponent",
        keys=_DEVICE_KEYS,
        properties={"string": _DEVICE, "uint16": "EnabledState HealthState", "uint16[]": "OperationalStatus"},
        methods="InitiateShutdown(in boolean Force, in string Reason)",
    ),
    _class(
        VIRTUALIZATION,
        "Msvm_VirtualSystemManagementService",
        keys="CreationClassName",
        properties=_SERVICE,
        # Embedded instances go in as text; which class each of them is of says its own CLASSNAME (hyperv-wmi 4.1)
        methods=f"""
        AddResourceSettings(in reference:CIM_VirtualSystemSettingData AffectedConfiguration,
            in instance:Msvm_ResourceAllocationSettingData[] ResourceSettings,
            out reference:CIM_ResourceAllocationSettingData[] ResultingResourceSettings, {_JOB_OUT})
        ModifyResourceSettings(in instance:Msvm_ResourceAllocationSettingData[] ResourceSettings,
            out reference:CIM_ResourceAllocationSettingData[] ResultingResourceSettings, {_JOB_OUT})
        RemoveResourceSettings(in reference:CIM_ResourceAllocationSettingData[] ResourceSettings, {_JOB_OUT})
        ModifySystemSettings(in instance:Msvm_VirtualSystemSettingData SystemSettings, {_JOB_OUT})
        ExportSystemDefinition(in reference:CIM_ComputerSystem ComputerSystem, in string ExportDirectory,
            in instance:Msvm_VirtualSystemExportSettingData ExportSettingData, {_JOB_OUT})
        DestroySystem(in reference:CIM_ComputerSystem AffectedSystem, {_JOB_OUT})
        ImportSystemDefinition(in string SystemDefinitionFile, in string SnapshotFolder,
            in boolean GenerateNewSystemIdentifier, out reference:Msvm_PlannedComputerSystem ImportedSystem, {_JOB_OUT})
        ValidatePlannedSystem(in reference:Msvm_PlannedComputerSystem PlannedSystem, {_JOB_OUT})
        RealizePlannedSystem(in reference:Msvm_PlannedComputerSystem PlannedSystem,
            out reference:CIM_ComputerSystem ResultingSystem, {_JOB_OUT})
        """,
    ),
    _class(
        VIRTUALIZATION,
        "Msvm_PlannedComputerSystem",
        keys="CreationClassName Name",
        properties={"string": "CreationClassName Name ElementName Caption Description InstanceID"},
    ),
    _class(
        VIRTUALIZATION,
        "Msvm_VirtualSystemSnapshotService",
        keys="CreationClassName Name SystemCreationClassName SystemName",
        properties={"string": "CreationClassName Name SystemCreationClassName SystemName"},
        methods=f"""
        CreateSnapshot(in reference:CIM_ComputerSystem AffectedSystem,
            in instance:Msvm_VirtualSystemSnapshotSettingData SnapshotSettings, in uint16 SnapshotType,
            inout reference:CIM_VirtualSystemSettingData ResultingSnapshot, {_JOB_OUT})
        DestroySnapshot(in reference:CIM_VirtualSystemSettingData AffectedSnapshot, {_JOB_OUT})
        """,
    ),
    _class(
        VIRTUALIZATION,
        "Msvm_VirtualSystemSnapshotSettingData",
        keys="InstanceID",
        properties={
            "string": _SETTING,
            "uint8": "ConsistencyLevel GuestBackupType",
            "boolean": "IgnoreNonSnapshottableDisks",
        },
    ),
    _class(
        VIRTUALIZATION,
        "Msvm_VirtualSystemExportSettingData",
        keys="InstanceID",
        properties={
            "string": _SETTING + " SnapshotVirtualSystem",
            "uint8": "CopySnapshotConfiguration CaptureLiveState BackupIntent",
            "boolean": "CopyVmRuntimeInformation CopyVmStorage CreateVmExportSubdirectory",
        },
    ),
    # A query of the base class gives a VM's adapters of every kind and their connections, told apart by ResourceSubType.
    _class(VIRTUALIZATION, "CIM_EthernetPortAllocationSettingData", keys="InstanceID", properties=_RESOURCE),
    _class(
        VIRTUALIZATION,
        "Msvm_EthernetPortAllocationSettingData",
        keys="InstanceID",
        properties=_merged(_RESOURCE, {"uint16": "EnabledState"}),
    ),
    _class(
        VIRTUALIZATION,
        "Msvm_VirtualEthernetSwitch",
        keys="CreationClassName Name",
        properties={"string": "CreationClassName Name ElementName InstanceID", "uint16": "EnabledState"},
    ),
    _class(
        VIRTUALIZATION,
        "Msvm_ImageManagementService",
        keys="CreationClassName",
        properties=_SERVICE,
        methods="""
        GetVirtualHardDiskSettingData(in string Path, out instance:Msvm_VirtualHardDiskSettingData SettingData,
            out reference:CIM_ConcreteJob Job)
        GetVirtualHardDiskState(in string Path, out instance:Msvm_VirtualHardDiskState State,
            out reference:CIM_ConcreteJob Job)
        CreateVirtualHardDisk(in instance:Msvm_VirtualHardDiskSettingData VirtualDiskSettingData,
            out reference:CIM_ConcreteJob Job)
        ConvertVirtualHardDisk(in string SourcePath,
            in instance:Msvm_VirtualHardDiskSettingData VirtualDiskSettingData, out reference:CIM_ConcreteJob Job)
        SetVirtualHardDiskSettingData(in instance:Msvm_VirtualHardDiskSettingData VirtualDiskSettingData,
            out reference:CIM_ConcreteJob Job)
        ValidateVirtualHardDisk(in string Path, out reference:CIM_ConcreteJob Job)
        AttachVirtualHardDisk(in string Path, in boolean AssignDriveLetter, in boolean ReadOnly,
            out reference:CIM_ConcreteJob Job)
        FindMountedStorageImageInstance(in string SelectionCriterion, in uint16 CriterionType,
            out reference:Msvm_MountedStorageImage Image)
        """,
    ),
    _class(
        VIRTUALIZATION,
        "Msvm_MountedStorageImage",
        keys="Lun PathId PortNumber TargetId",  # as the documentation's sample uses them (hyperv-wmi 5.4)
        properties={
            "string": _SETTING + " Name PnpDevicePath",
            "uint16": "Access Type",
            "uint8": "Lun PathId PortNumber TargetId",
        },
        methods="DetachVirtualHardDisk()",
    ),
    _class(
        VIRTUALIZATION,
        "Msvm_VirtualHardDiskSettingData",
        keys="InstanceID",
        properties={
            "string": _SETTING + " Path ParentPath ParentIdentifier VirtualDiskId",
            "uint16": "Type Format PmemAddressAbstractionType",
            "uint64": "MaxInternalSize DataAlignment",
            "uint32": "BlockSize LogicalSectorSize PhysicalSectorSize",
            "datetime": "ParentTimestamp",
            "boolean": "IsPmemCompatible",
        },
    ),
    _class(
        VIRTUALIZATION,
        "Msvm_VirtualHardDiskState",
        properties={
            "uint64": "FileSize MinInternalSize",
            "uint32": "Alignment FragmentationPercentage PhysicalSectorSize",
            "boolean": "InUse",
            "datetime": "Timestamp",
        },
    ),
    _class(
        VIRTUALIZATION,
        "Msvm_ConcreteJob",
        keys="InstanceID",
        properties=_JOB,
        methods="""
        GetErrorEx(out string[] Errors)
        RequestStateChange(in uint16 RequestedState, in datetime TimeoutPeriod)
        """,
    ),
    _class(
        VIRTUALIZATION,
        "Msvm_StorageJob",
        keys="InstanceID",
        properties=_merged(_JOB, {"string": "Child Parent", "uint32": "JobCompletionStatusCode"}),
        methods="""
        GetErrorEx(out string[] Errors)
        RequestStateChange(in uint16 RequestedState, in datetime TimeoutPeriod)
        """,
    ),
)

_STATUS_OUT = "out object:MSFT_StorageExtendedStatus ExtendedStatus"
_STORAGE_CLASSES = (
    _class(
        STORAGE,
        "MSFT_StorageExtendedStatus",
        properties={"string": "Message MessageID ErrorSource", "uint32": "CIMStatusCode"},
    ),
    _class(
        STORAGE,
        "MSFT_StorageJob",
        keys="ObjectId",
        properties={"string": "ObjectId Name ErrorDescription", "uint16": "JobState PercentComplete ErrorCode"},
    ),
    _class(
        STORAGE,
        "MSFT_Disk",
        keys="ObjectId",
        properties={
            "string": "ObjectId UniqueId Path Location FriendlyName Manufacturer Model SerialNumber "
            "AdapterSerialNumber FirmwareVersion Guid",
            "uint32": "Number LogicalSectorSize PhysicalSectorSize NumberOfPartitions Signature",
            "uint64": "Size AllocatedSize LargestFreeExtent",
            "uint16": "UniqueIdFormat BusType PartitionStyle HealthStatus OfflineReason ProvisioningType",
            "uint16[]": "OperationalStatus",
            "boolean": "IsOffline IsReadOnly IsSystem IsBoot BootFromDisk IsClustered IsHighlyAvailable IsScaleOut",
        },
        # What is made is read back and not taken from the answer: its shape there is unproven (windows-storage 9)
        methods=f"""
        Online({_STATUS_OUT})
        Offline({_STATUS_OUT})
        Refresh({_STATUS_OUT})
        SetAttributes(in boolean IsReadOnly, in uint32 Signature, in string Guid, {_STATUS_OUT})
        Initialize(in uint16 PartitionStyle, {_STATUS_OUT})
        Clear(in boolean RemoveData, in boolean RemoveOEM, in boolean ZeroOutEntireDisk, in boolean Sanitize,
            in boolean RunAsJob, out object:MSFT_StorageJob CreatedStorageJob, {_STATUS_OUT})
        CreatePartition(in uint64 Size, in boolean UseMaximumSize, in uint64 Offset, in uint32 Alignment,
            in uint8 DriveLetter, in boolean AssignDriveLetter, in uint16 MbrType, in string GptType,
            in boolean IsHidden, in boolean IsActive, out object:MSFT_Partition CreatedPartition, {_STATUS_OUT})
        """,
    ),
    _class(
        STORAGE,
        "MSFT_Partition",
        keys="ObjectId",
        properties={
            "string": "ObjectId UniqueId DiskId GptType Guid",
            "char16": "DriveLetter",  # documentation of MSFT_Partition; the sheet's generator writes uint8
            "string[]": "AccessPaths",
            "uint32": "DiskNumber PartitionNumber",
            "uint64": "Offset Size",
            "uint16": "MbrType OperationalStatus TransitionState",
            "boolean": "IsActive IsBoot IsHidden IsOffline IsReadOnly IsShadowCopy IsSystem NoDefaultDriveLetter",
        },
        methods=f"""
        DeleteObject({_STATUS_OUT})
        AddAccessPath(in string AccessPath, in boolean AssignDriveLetter, {_STATUS_OUT})
        RemoveAccessPath(in string AccessPath, {_STATUS_OUT})
        """,
    ),
    _class(
        STORAGE,
        "MSFT_Volume",
        keys="ObjectId",
        properties={
            "string": "ObjectId UniqueId Path FileSystem FileSystemLabel",
            "char16": "DriveLetter",
            "uint32": "DriveType AllocationUnitSize DedupMode",
            "uint64": "Size SizeRemaining",
            "uint16": "FileSystemType HealthStatus",
            "uint16[]": "OperationalStatus",
        },
        methods=f"""
        Format(in string FileSystem, in string FileSystemLabel, in uint32 AllocationUnitSize, in boolean Full,
            in boolean Force, in boolean Compress, in boolean ShortFileNameSupport, in boolean SetIntegrityStreams,
            in boolean UseLargeFRS, in boolean DisableHeatGathering, in boolean IsDAX, in boolean RunAsJob,
            out object:MSFT_Volume FormattedVolume, out object:MSFT_StorageJob CreatedStorageJob, {_STATUS_OUT})
        """,
    ),
    _class(
        STORAGE,
        "MSFT_PhysicalDisk",
        keys="ObjectId",
        properties={
            "string": "ObjectId UniqueId DeviceId FriendlyName Manufacturer Model SerialNumber StoragePoolUniqueId "
            "PhysicalLocation FirmwareVersion",
            "uint64": "Size AllocatedSize LogicalSectorSize PhysicalSectorSize",
            "uint16": "BusType UniqueIdFormat MediaType Usage HealthStatus",
            "uint16[]": "CannotPoolReason OperationalStatus",
            "boolean": "CanPool",
        },
    ),
    _class(
        STORAGE,
        "MSFT_StoragePool",
        keys="ObjectId",
        properties={
            "string": "ObjectId UniqueId FriendlyName Name",
            "uint64": "Size AllocatedSize",
            "uint16": "HealthStatus Usage Version",
            "uint16[]": "OperationalStatus",
            "boolean": "IsPrimordial IsClustered IsReadOnly",
        },
    ),
    _class(
        STORAGE,
        "MSFT_iSCSISession",
        keys="SessionIdentifier",
        properties={
            "string": "SessionIdentifier TargetNodeAddress InitiatorNodeAddress InitiatorPortalAddress "
            "InitiatorInstanceName AuthenticationType",
            "boolean": "IsConnected IsPersistent IsDiscovered",
            "uint32": "NumberOfConnections",
        },
        methods="Register(in boolean IsMultipathEnabled, in string ChapUsername, in string ChapSecret)",
    ),
    _class(
        STORAGE,
        "MSFT_iSCSITarget",
        keys="NodeAddress",
        properties={"string": "NodeAddress", "boolean": "IsConnected"},
        methods="""
        Connect(in string NodeAddress, in string TargetPortalAddress, in uint16 TargetPortalPortNumber,
            in string InitiatorPortalAddress, in boolean IsDataDigest, in boolean IsHeaderDigest,
            in boolean ReportToPnP, in string AuthenticationType, in string ChapUsername, in string ChapSecret,
            in boolean IsMultipathEnabled, in boolean IsPersistent, in string InitiatorInstanceName,
            out object:MSFT_iSCSISession CreatediSCSISession)
        """,
    ),
    _class(
        STORAGE,
        "MSFT_iSCSITargetPortal",
        keys="TargetPortalAddress",
        properties={"string": "TargetPortalAddress", "uint16": "TargetPortalPortNumber"},
        methods="""
        New(in string TargetPortalAddress, in uint16 TargetPortalPortNumber, in string InitiatorInstanceName,
            in string InitiatorPortalAddress, in string AuthenticationType, in string ChapUsername,
            in string ChapSecret, in boolean IsHeaderDigest, in boolean IsDataDigest,
            out object:MSFT_iSCSITargetPortal CreatedTargetPortal)
        """,
    ),
    _class(
        STORAGE,
        "MSFT_iSCSISessionToDisk",
        keys="Disk iSCSISession",
        properties={"reference:MSFT_iSCSISession": "iSCSISession", "reference:MSFT_Disk": "Disk"},
    ),
    _class(
        STORAGE,
        "MSFT_InitiatorPort",
        keys="ObjectId",
        properties={
            "string": "ObjectId NodeAddress PortAddress InstanceName",
            "uint16": "ConnectionType PortType",
            "uint16[]": "OperationalStatus",
        },
    ),
    _class(
        STORAGE,
        "MSFT_StorageSetting",
        properties={"uint16": "NewDiskPolicy", "uint32": "ScrubPolicy"},
        methods="""
        Get(out object:MSFT_StorageSetting StorageSetting)
        UpdateHostStorageCache()
        """,
    ),
)

_REGISTRY_METHODS = """
    CreateKey(in uint32 hDefKey, in string sSubKeyName)
    DeleteKey(in uint32 hDefKey, in string sSubKeyName)
    DeleteValue(in uint32 hDefKey, in string sSubKeyName, in string sValueName)
    EnumKey(in uint32 hDefKey, in string sSubKeyName, out string[] sNames)
    EnumValues(in uint32 hDefKey, in string sSubKeyName, out string[] sNames, out sint32[] Types)
    GetStringValue(in uint32 hDefKey, in string sSubKeyName, in string sValueName, out string sValue)
    GetExpandedStringValue(in uint32 hDefKey, in string sSubKeyName, in string sValueName, out string sValue)
    GetMultiStringValue(in uint32 hDefKey, in string sSubKeyName, in string sValueName, out string[] sValue)
    GetDWORDValue(in uint32 hDefKey, in string sSubKeyName, in string sValueName, out uint32 uValue)
    GetQWORDValue(in uint32 hDefKey, in string sSubKeyName, in string sValueName, out uint64 uValue)
    GetBinaryValue(in uint32 hDefKey, in string sSubKeyName, in string sValueName, out uint8[] uValue)
    SetStringValue(in uint32 hDefKey, in string sSubKeyName, in string sValueName, in string sValue)
    SetMultiStringValue(in uint32 hDefKey, in string sSubKeyName, in string sValueName, in string[] sValue)
    SetDWORDValue(in uint32 hDefKey, in string sSubKeyName, in string sValueName, in uint32 uValue)
    SetQWORDValue(in uint32 hDefKey, in string sSubKeyName, in string sValueName, in uint64 uValue)
"""

_CIMV2_CLASSES = (
    _class(CIMV2, "StdRegProv", methods=_REGISTRY_METHODS),
    _class(
        CIMV2,
        "Win32_OperatingSystem",
        properties={
            "string": "Caption Version BuildNumber CSName OSArchitecture SystemDirectory SystemDrive WindowsDirectory",
            "uint32": "ProductType OperatingSystemSKU",
            "sint16": "CurrentTimeZone",
            "datetime": "LocalDateTime LastBootUpTime InstallDate",  # documentation; the sheet's generator writes string
        },
    ),
    _class(
        CIMV2,
        "Win32_ComputerSystem",
        keys="Name",
        properties={"string": "Name DNSHostName Domain Workgroup", "uint16": "DomainRole", "boolean": "PartOfDomain"},
    ),
    _class(
        CIMV2,
        "Win32_Service",
        keys="Name",
        properties={
            "string": "Name DisplayName State StartMode PathName StartName",
            "boolean": "Started",
            "uint32": "ProcessId ExitCode",
        },
        methods="StartService()",
    ),
    _class(
        CIMV2,
        "Win32_Process",
        keys="Handle",
        properties={
            "string": "Handle Name CommandLine ExecutablePath Caption",
            "uint32": "ProcessId ParentProcessId SessionId",
            "datetime": "CreationDate",  # documentation of Win32_Process; the sheet's generator writes string
        },
    ),
    _class(
        CIMV2,
        "Win32_Volume",
        keys="DeviceID",
        properties={
            "string": "DeviceID Name Caption DriveLetter FileSystem Label",
            "uint64": "Capacity FreeSpace BlockSize",
            "uint32": "SerialNumber DriveType",
            "boolean": "BootVolume SystemVolume DirtyBitSet Automount",
        },
    ),
    _class(
        CIMV2,
        "Win32_LogicalDisk",
        keys="DeviceID",
        properties={"string": "DeviceID VolumeName FileSystem", "uint32": "DriveType", "uint64": "Size FreeSpace"},
    ),
    _class(
        CIMV2,
        "Win32_ShadowCopy",
        keys="ID",
        properties={
            "string": "ID SetID ProviderID VolumeName DeviceObject ExposedName ExposedPath OriginatingMachine ServiceMachine",
            "uint32": "State Count",
            "datetime": "InstallDate",
            "boolean": "Persistent ClientAccessible NoAutoRelease NoWriters Transportable NotSurfaced HardwareAssisted "
            "Differential Plex Imported ExposedRemotely ExposedLocally",
        },
    ),
    # documentation: references to Win32_Volume, which are its keys
    _class(
        CIMV2,
        "Win32_ShadowStorage",
        keys="Volume DiffVolume",
        properties={"reference:Win32_Volume": "Volume DiffVolume", "uint64": "AllocatedSpace MaxSpace UsedSpace"},
    ),
    # documentation of Win32_ShadowProvider and Win32_ShadowVolumeSupport (VSS WMI provider); not in cim-classes.json
    _class(
        CIMV2,
        "Win32_ShadowProvider",
        keys="ID",
        properties={"string": "ID Name CLSID Version VersionID", "uint32": "Type"},
    ),
    _class(
        CIMV2,
        "Win32_ShadowVolumeSupport",
        keys="Antecedent Dependent",
        properties={"reference:Win32_ShadowProvider": "Antecedent", "reference:Win32_Volume": "Dependent"},
    ),
    _class(CIMV2, "CIM_LogicalFile", keys="Name", properties=_FILE),
    _class(
        CIMV2,
        "CIM_DataFile",
        keys="Name",
        properties=_merged(_FILE, {"string": "Manufacturer Version"}),
        methods="Rename(in string FileName) Delete()",
    ),
    # documentation of CIM_Directory and Win32_Directory (CIMWin32 provider); both only inherit from CIM_LogicalFile
    _class(CIMV2, "CIM_Directory", keys="Name", properties=_FILE, methods="Delete()"),
    _class(CIMV2, "Win32_Directory", keys="Name", properties=_FILE),
)

_TASK = "in string TaskPath, in string TaskName"
_TASK_SCHEDULER_CLASSES = (
    _class(
        TASK_SCHEDULER,
        "PS_ScheduledTask",
        methods=f"""
        RegisterByXml(in boolean Force, in string Xml, in string Password, in string User, {_TASK},
            out object:MSFT_ScheduledTask cmdletOutput)
        StartByPath({_TASK})
        StopByPath({_TASK})
        GetInfoByName({_TASK}, out object:MSFT_TaskDynamicInfo cmdletOutput)
        """,
    ),
    _class(
        TASK_SCHEDULER,
        "MSFT_ScheduledTask",
        keys="TaskName TaskPath",
        properties={
            "string": "TaskName TaskPath Author Date Description URI Version Source Documentation SecurityDescriptor",
            "uint32": "State",
        },
    ),
    # generated schema of live hosts (microsoft/windows-rs style dump of the namespace); not in cim-classes.json
    _class(
        TASK_SCHEDULER,
        "MSFT_TaskDynamicInfo",
        properties={
            "string": "TaskName TaskPath",
            "datetime": "LastRunTime NextRunTime",
            "uint32": "LastTaskResult NumberOfMissedRuns",
        },
    ),
)

_OTHER_CLASSES = (
    _class(CLUSTER, "MSCluster_Cluster", keys="Name", properties={"string": "Name Fqdn SharedVolumesRoot"}),
    _class(
        CLUSTER,
        "MSCluster_Resource",
        keys="Name",
        properties={
            "string": "Name Id Type OwnerGroup OwnerNode",
            "uint32": "State",
            "object:MSCluster_Property": "PrivateProperties",
        },
    ),
    # The property set is dynamic; of it we read VmID (windows-storage 7.3). Not in cim-classes.json.
    _class(CLUSTER, "MSCluster_Property", properties={"string": "VmID"}),
    # documentation of Win32_EncryptableVolume (Win32 SecProv reference); not in cim-classes.json
    _class(
        BITLOCKER,
        "Win32_EncryptableVolume",
        keys="DeviceID",
        properties={"string": "DeviceID DriveLetter PersistentVolumeID", "uint32": "ProtectionStatus"},
        methods="GetLockStatus(out uint32 LockStatus)",
    ),
)

SCHEMA = Schema(
    [*_VIRTUALIZATION_CLASSES, *_STORAGE_CLASSES, *_CIMV2_CLASSES, *_TASK_SCHEDULER_CLASSES, *_OTHER_CLASSES]
)


# What the observation of a host reads of the classes of which it reads many rows: these properties are asked for, so
# that an answer does not carry the other ninety per cent. A test holds that nothing else is read. A class that is not
# here is read whole: one row, or embedded objects.
HOST_COLUMNS: Mapping[str, tuple[str, ...]] = {
    class_name: tuple(names.split())
    for class_name, names in {
        "Msvm_ComputerSystem": "Name ElementName EnabledState OtherEnabledState HealthState OperationalStatus "
        "ReplicationState ReplicationMode",
        "Msvm_VirtualSystemSettingData": "InstanceID ElementName VirtualSystemIdentifier VirtualSystemType "
        "VirtualSystemSubType Version Notes CreationTime AutomaticStartupAction AutomaticShutdownAction "
        "ConfigurationDataRoot ConfigurationFile SnapshotDataRoot",
        "Msvm_ResourceAllocationSettingData": "InstanceID ResourceType ResourceSubType Parent Address AddressOnParent "
        "HostResource",
        "Msvm_StorageAllocationSettingData": "InstanceID ResourceSubType Parent HostResource "
        "PersistentReservationsSupported",
        "Msvm_DiskDrive": "DeviceID DriveNumber",
        "Msvm_SyntheticFcPortSettingData": "InstanceID VirtualPortWWPN SecondaryWWPN",
        "Msvm_FcPortAllocationSettingData": "Parent HostResource",
        "Msvm_VirtualFcSwitch": "Name ElementName",
        "CIM_EthernetPortAllocationSettingData": "InstanceID ElementName ResourceSubType Address",
        "Msvm_EthernetPortAllocationSettingData": "Parent HostResource EnabledState",
        "Msvm_VirtualEthernetSwitch": "Name ElementName",
        "Msvm_KvpExchangeComponent": "SystemName GuestIntrinsicExchangeItems",
        "Msvm_VssComponent": "SystemName OperationalStatus",
        "Msvm_HeartbeatComponent": "SystemName OperationalStatus",
        "MSFT_Disk": "ObjectId UniqueId UniqueIdFormat Number SerialNumber FriendlyName Manufacturer Model Size "
        "LogicalSectorSize PhysicalSectorSize BusType ProvisioningType PartitionStyle Guid Signature IsOffline "
        "OfflineReason IsReadOnly IsBoot IsSystem IsClustered Location",
        "Win32_Volume": "Name DeviceID DriveLetter FileSystem",
    }.items()
}
