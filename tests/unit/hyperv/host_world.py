# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Hyper-V host as CIM rows: VMs, controllers, drives, media, LUNs, spelled as the fact sheets record them."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta, timezone

from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.schema import (
    CIMV2,
    STORAGE,
    VIRTUALIZATION,
)
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._wsman import Value
from unit.hyperv.cim_store import CimStore

HOST = "HV01"
POOL = "353B3BE8-310C-4cf4-839E-4E1B14616136"
IDE = "83F8638B-8DCA-4152-9EDA-2CA8B33039B4"
PASS_THROUGH = "Microsoft:Hyper-V:Physical Disk Drive"
CLOCK = datetime(2026, 11, 22, 10, 30, tzinfo=timezone(timedelta(hours=1)))


def guid(text: str) -> str:
    """A stable GUID for a name."""
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, text)).upper()


def wmi_path(class_name: str, **keys: str) -> str:
    """A WMI object path as Windows writes it: keys in order, backslashes and quotes escaped."""
    written = ",".join(
        '{}="{}"'.format(name, value.replace("\\", "\\\\").replace('"', '\\"')) for name, value in keys.items()
    )
    return f"\\\\{HOST}\\root\\virtualization\\v2:{class_name}.{written}"


def host_disk_path(tail: str, *, host: str = HOST) -> str:
    return wmi_path(
        "Msvm_DiskDrive",
        CreationClassName="Msvm_DiskDrive",
        DeviceID=f"Microsoft:{POOL}\\{tail}",
        SystemCreationClassName="Msvm_ComputerSystem",
        SystemName=host,
    )


class HostWorld:
    """Builds rows; every method returns what the next one needs."""

    def __init__(self, *, cluster_service: str | None = None) -> None:
        self.store = CimStore()
        add = self.store.add
        add(
            CIMV2,
            "Win32_OperatingSystem",
            CSName=HOST,
            Caption="Microsoft Windows Server 2022 Datacenter",
            Version="10.0.20348",
            BuildNumber="20348",
            ProductType=3,
            LocalDateTime=CLOCK,
            SystemDirectory="C:\\Windows\\system32",
        )
        add(CIMV2, "Win32_Service", Name="vmms", State="Running", StartMode="Auto")
        if cluster_service is not None:
            add(CIMV2, "Win32_Service", Name="ClusSvc", State="Running", StartMode=cluster_service)
        add(VIRTUALIZATION, "Msvm_VirtualSystemManagementService", Name="vmms")
        add(VIRTUALIZATION, "Msvm_ComputerSystem", Name=HOST, ElementName=HOST, EnabledState=2)
        add(
            CIMV2,
            "Win32_Volume",
            DeviceID="\\\\?\\Volume{11111111-0000-0000-0000-000000000001}\\",
            Name="C:\\",
            DriveLetter="C:",
            FileSystem="NTFS",
            DriveType=3,
        )
        add(
            CIMV2,
            "Win32_Volume",
            DeviceID="\\\\?\\Volume{11111111-0000-0000-0000-000000000002}\\",
            Name="D:\\",
            DriveLetter="D:",
            FileSystem="ReFS",
            DriveType=3,
        )
        add(
            CIMV2,
            "Win32_Volume",
            DeviceID="\\\\?\\Volume{11111111-0000-0000-0000-000000000003}\\",
            Name="C:\\ClusterStorage\\Volume1\\",
            FileSystem="CSVFS",
            DriveType=3,
        )
        self.store.on(
            "MSFT_StorageSetting",
            "Get",
            lambda target, given: (0, {"StorageSetting": add(STORAGE, "MSFT_StorageSetting", NewDiskPolicy=2)}),
        )
        self.lun(0, unique_id="6000C290AAAA0000", boot=True, offline=False)
        self._templates()

    def _templates(self) -> None:
        """Rows that every host shows and that belong to no VM (hyperv-wmi 2.4)."""
        self.store.add(
            VIRTUALIZATION,
            "Msvm_ResourceAllocationSettingData",
            InstanceID=f"Microsoft:Definition\\{POOL}\\Default",
            ResourceType=17,
            ResourceSubType=PASS_THROUGH,
        )
        self.store.add(
            VIRTUALIZATION,
            "Msvm_StorageAllocationSettingData",
            InstanceID="Microsoft:Definition\\70BB60D2-A9D3-46AA-B654-3DE53004B4F8\\Default",
            ResourceType=31,
            ResourceSubType="Microsoft:Hyper-V:Virtual Hard Disk",
        )
        self.store.add(
            VIRTUALIZATION,
            "Msvm_SyntheticFcPortSettingData",
            InstanceID="Microsoft:Definition\\AAAAAAAA-0000-0000-0000-000000000000\\Default",
        )

    def lun(
        self,
        number: int | None,
        *,
        unique_id: str,
        unique_id_format: int = 3,
        offline: bool = True,
        boot: bool = False,
        clustered: bool = False,
        size: int = 10 * 2**30,
        drive_row: bool = True,
    ) -> None:
        self.store.add(
            STORAGE,
            "MSFT_Disk",
            ObjectId=f'{{1}}\\\\{HOST}\\root/Microsoft/Windows/Storage/Providers_v2\\WSP_Disk.ObjectId="{unique_id}"',
            Number=number,
            UniqueId=unique_id,
            UniqueIdFormat=unique_id_format,
            FriendlyName="NETAPP LUN",
            Manufacturer="NETAPP  ",
            Model="LUN C-Mode      ",
            SerialNumber="  wOj6X?Yn \0",
            Size=size,
            LogicalSectorSize=512,
            PhysicalSectorSize=4096,
            BusType=6,
            PartitionStyle=2,
            Guid="{ABCDEF00-0000-0000-0000-000000000001}",
            ProvisioningType=1,
            IsOffline=offline,
            OfflineReason=1 if offline else 0,
            IsBoot=boot,
            IsSystem=boot,
            IsClustered=clustered,
            Location="PCI Slot 3 : Adapter 1 : Port 0 : Target 0 : LUN 5",
        )
        if offline and number is not None and drive_row:
            self.store.add(
                VIRTUALIZATION,
                "Msvm_DiskDrive",
                DeviceID=f"Microsoft:{POOL}\\{number}",
                SystemName=HOST,
                DriveNumber=number,
                CreationClassName="Msvm_DiskDrive",
                SystemCreationClassName="Msvm_ComputerSystem",
            )

    def vm(
        self,
        name: str,
        *,
        vm_id: str | None = None,
        generation: int = 2,
        state: int = 2,
        settings: bool = True,
        **properties: Value,
    ) -> str:
        vm_id = vm_id or guid(name)
        given: dict[str, Value] = {
            "HealthState": 5,
            "OperationalStatus": [2],
            "ReplicationMode": 0,
            "ReplicationState": 0,
            **properties,
        }
        self.store.add(
            VIRTUALIZATION,
            "Msvm_ComputerSystem",
            Name=vm_id,
            ElementName=name,
            EnabledState=state,
            InstallDate=CLOCK,
            **given,
        )
        if settings:
            self.store.add(
                VIRTUALIZATION,
                "Msvm_VirtualSystemSettingData",
                InstanceID=f"Microsoft:{vm_id}",
                ElementName=name,
                VirtualSystemIdentifier=vm_id,
                VirtualSystemType="Microsoft:Hyper-V:System:Realized",
                VirtualSystemSubType=f"Microsoft:Hyper-V:SubType:{generation}",
                Version="10.0",
                Notes=[""],
                AutomaticStartupAction=3,
                AutomaticShutdownAction=4,
                ConfigurationDataRoot="D:\\VM",
                ConfigurationFile=f"Virtual Machines\\{vm_id}.vmcx",
                SnapshotDataRoot="D:\\VM",
            )
        return vm_id

    def checkpoint(self, vm_id: str, name: str, kind: str = "Microsoft:Hyper-V:Snapshot:Realized") -> str:
        checkpoint_id = guid(vm_id + name)
        self.store.add(
            VIRTUALIZATION,
            "Msvm_VirtualSystemSettingData",
            InstanceID=f"Microsoft:{checkpoint_id}",
            ElementName=name,
            VirtualSystemIdentifier=vm_id,
            VirtualSystemType=kind,
            CreationTime=CLOCK,
        )
        return checkpoint_id

    def controller(self, owner: str, kind: str = "SCSI", number: int = 0) -> str:
        part = f"{IDE}\\{number}" if kind == "IDE" else f"{guid(f'{owner}{number}')}\\0"
        instance_id = f"Microsoft:{owner}\\{part}"
        self.store.add(
            VIRTUALIZATION,
            "Msvm_ResourceAllocationSettingData",
            InstanceID=instance_id,
            ResourceType=5 if kind == "IDE" else 6,
            ResourceSubType=f"Microsoft:Hyper-V:{'Emulated IDE' if kind == 'IDE' else 'Synthetic SCSI'} Controller",
            Address=str(number),
        )
        return instance_id

    def drive(
        self,
        controller_id: str,
        slot: int,
        sub_type: str = "Microsoft:Hyper-V:Synthetic Disk Drive",
        *,
        host_resource: str | None = None,
        parent: str | None = None,
    ) -> str:
        instance_id = f"{controller_id}\\{slot}\\D"
        self.store.add(
            VIRTUALIZATION,
            "Msvm_ResourceAllocationSettingData",
            InstanceID=instance_id,
            ResourceType=16 if "DVD" in sub_type else 17,
            ResourceSubType=sub_type,
            Parent=wmi_path("Msvm_ResourceAllocationSettingData", InstanceID=controller_id)
            if parent is None
            else parent,
            AddressOnParent=str(slot),
            HostResource=[] if host_resource is None else [host_resource],
        )
        return instance_id

    def pass_through(self, controller_id: str, slot: int, tail: str, *, host: str = HOST) -> str:
        return self.drive(controller_id, slot, PASS_THROUGH, host_resource=host_disk_path(tail, host=host))

    def medium(
        self,
        drive_id: str,
        path: str | None,
        *,
        sub_type: str = "Microsoft:Hyper-V:Virtual Hard Disk",
        shared: bool = False,
        parent: str | None = None,
    ) -> None:
        self.store.add(
            VIRTUALIZATION,
            "Msvm_StorageAllocationSettingData",
            InstanceID=drive_id[:-1] + "L",
            ResourceType=31,
            ResourceSubType=sub_type,
            Parent=wmi_path("Msvm_ResourceAllocationSettingData", InstanceID=drive_id) if parent is None else parent,
            HostResource=[] if path is None else [path],
            PersistentReservationsSupported=shared,
        )

    def vhd(self, controller_id: str, slot: int, path: str, *, shared: bool = False) -> str:
        drive_id = self.drive(controller_id, slot)
        self.medium(drive_id, path, shared=shared)
        return drive_id
