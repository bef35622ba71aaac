# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Responsible for the storage rows of root/virtualization/v2: controllers, drives, media, host disks, Fibre Channel, pools.

Templates (Definition rows) and rows of checkpoints are mixed in, as on a host. Changing them is in hyperv_settings.py.
Facts: hyperv-wmi 2, 3, 8; the recorded RASD dump.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .assumed import assumed
from .cim import NEVER, Ref
from .disks import stable_guid
from .hyperv_rows import (
    NS,
    Known,
    Row,
    asks_templates,
    device,
    device_ref,
    drive_class,
    host_ref,
    managed,
    owners,
    ref,
    selected,
    setting_ref,
    text,
    vssd_ref,
    wmi_path,
)
from .service import view
from .virtual_machine import PHYSICAL_DISK_POOL, Controller, Drive, Vm
from .world import Machine

assumed(
    "host-drive-row-attached",
    "The host's Msvm_DiskDrive row of an offline disk stays while the disk is attached to a VM",
    source="facts hyperv-wmi 11.3",
    values=("stays", "hidden"),
)
assumed(
    "drive-address",
    "RASD.Address of a drive equals its slot",
    source="facts hyperv-wmi 11.6",
    values=("slot", "zero", "empty"),
)
assumed(
    "pool-guids",
    "Pool GUIDs that no source spells out in full are made up",
    source="facts hyperv-wmi 3.3",
)

HV = "Microsoft:Hyper-V:"
RASD, SASD = "Msvm_ResourceAllocationSettingData", "Msvm_StorageAllocationSettingData"


@dataclass(frozen=True, kw_only=True)
class Pool:
    """One primordial resource pool and the class of its settings."""

    subtype: str
    type: int
    guid: str
    setting_class: str
    title: str
    units: str
    visibility: int = 3
    quantity: int = 1


def _made_up(prefix: str, subtype: str) -> str:
    guid = stable_guid("pool", subtype).upper()
    return prefix + guid[len(prefix) :]


POOLS: tuple[Pool, ...] = (
    Pool(
        subtype="Physical Disk Drive", type=17, guid=PHYSICAL_DISK_POOL, setting_class=RASD,
        title="Hard Drive", units="Hard Drives", visibility=2,
    ),
    Pool(
        subtype="Synthetic Disk Drive", type=17, guid="118C3BE5-0D31-4804-85F0-5C6074ABEA8F", setting_class=RASD,
        title="Hard Drive", units="Hard Drives",
    ),
    Pool(
        subtype="Synthetic DVD Drive", type=16, guid=_made_up("7951A5ED", "dvd"), setting_class=RASD,
        title="DVD Drive", units="DVD Drives",
    ),
    Pool(
        subtype="Physical DVD Drive", type=16, guid=_made_up("", "physical dvd"), setting_class=RASD,
        title="DVD Drive", units="DVD Drives", visibility=2,
    ),
    Pool(
        subtype="Synthetic Diskette Drive", type=14, guid=_made_up("", "diskette drive"), setting_class=RASD,
        title="Diskette Drive", units="Diskette Drives",
    ),
    Pool(
        subtype="Synthetic SCSI Controller", type=6, guid="BDE5D4D6-E450-46D2-B925-976CA3E989B4", setting_class=RASD,
        title="SCSI Controller", units="SCSI Controllers",
    ),
    Pool(
        subtype="Emulated IDE Controller", type=5, guid=_made_up("", "ide controller"), setting_class=RASD,
        title="IDE Controller", units="IDE Controllers",
    ),
    Pool(
        subtype="Virtual Diskette Controller", type=1, guid=_made_up("", "diskette controller"), setting_class=RASD,
        title="Diskette Controller", units="Diskette Controllers",
    ),
    Pool(
        subtype="Virtual Hard Disk", type=31, guid="70BB60D2-A9D3-46AA-B654-3DE53004B4F8", setting_class=SASD,
        title="Hard Disk Image", units="Virtual Hard Disks",
    ),
    Pool(
        subtype="Virtual CD/DVD Disk", type=31, guid=_made_up("D92D268E", "cd"), setting_class=SASD,
        title="ISO Disk Image", units="Virtual CD/DVD Disks",
    ),
    Pool(
        subtype="Virtual Floppy Disk", type=31, guid=_made_up("DACDCF3F", "floppy"), setting_class=SASD,
        title="Floppy Disk Image", units="Virtual Floppy Disks",
    ),
    Pool(
        subtype="Synthetic FibreChannel Port", type=7, guid=_made_up("", "fc port"),
        setting_class="Msvm_SyntheticFcPortSettingData",
        title="Virtual Fibre Channel Port Default Settings", units="Fibre Channel Ports",
    ),
    Pool(
        subtype="FibreChannel Connection", type=64764, guid=_made_up("", "fc connection"),
        setting_class="Msvm_FcPortAllocationSettingData", title="Fibre Channel Connection", units="Connections",
    ),
    Pool(
        subtype="Memory", type=4, guid=_made_up("", "memory"), setting_class="Msvm_MemorySettingData",
        title="Memory", units="byte * 2^20", quantity=1024,
    ),
    Pool(
        subtype="Processor", type=3, guid=_made_up("", "processor"), setting_class="Msvm_ProcessorSettingData",
        title="Processor", units="percent / 1000",
    ),
    Pool(
        subtype="Synthetic Ethernet Port", type=10, guid=_made_up("", "ethernet"),
        setting_class="Msvm_SyntheticEthernetPortSettingData", title="Network Adapter", units="Network Adapters",
    ),
    Pool(
        subtype="Ethernet Connection", type=33, guid=_made_up("", "ethernet connection"),
        setting_class="Msvm_EthernetPortAllocationSettingData", title="Ethernet Connection", units="Connections",
    ),
    Pool(
        subtype="Synthetic Display Controller", type=24, guid=_made_up("", "display"),
        setting_class="Msvm_SyntheticDisplayControllerSettingData", title="Display Controller", units="Displays",
    ),
)  # fmt: skip

POOL_BY_SUBTYPE = {pool.subtype: pool for pool in POOLS}
_ROLES = {"Default": (0, 0, 1), "Minimum": (3, 1, 0), "Maximum": (3, 2, 64), "Increment": (3, 3, 1)}
"""Name of a template -> (ValueRole, ValueRange, its quantity)."""


def pool_id(pool: Pool) -> str:
    return f"Microsoft:{pool.guid}\\Root"


def allocation(machine: Machine, pool: Pool) -> Row:
    """What every allocation setting has, as the recordings show it."""
    return {
        "AllocationUnits": pool.units,
        "AutomaticAllocation": True,
        "AutomaticDeallocation": True,
        "Caption": text(machine, pool.title),
        "ConsumerVisibility": pool.visibility,
        "Description": text(machine, f"Settings for the Microsoft {pool.subtype}."),
        "ElementName": text(machine, pool.title),
        "Limit": 1,
        "PoolID": "",
        "Reservation": 1,
        "ResourceSubType": HV + pool.subtype,
        "ResourceType": pool.type,
        "VirtualQuantity": 1,
        "VirtualQuantityUnits": "count",
        "Weight": 0,
    }


def templates(machine: Machine, setting_class: str) -> Iterator[Row]:
    """Definition rows of a class: Default, Minimum, Maximum and Increment of each of its pools."""
    for pool in POOLS:
        if pool.setting_class != setting_class:
            continue
        for role, (_role, _range, quantity) in _ROLES.items():
            row = {
                **allocation(machine, pool),
                "InstanceID": f"Microsoft:Definition\\{pool.guid}\\{role}",
                "Caption": text(machine, f"{pool.title} {role} Settings"),
                "VirtualQuantity": quantity * pool.quantity,
                "Reservation": 1 if role == "Default" else 0,
            }
            if role == "Default":
                row["Caption"] = text(machine, pool.title)
                if pool.type in (16, 17):
                    row["Address"] = "0"
            else:
                row["ElementName"] = None
            if pool.type == 1:
                row["OtherResourceType"] = HV + pool.subtype
            yield row


_CONTROLLER_POOLS = {
    "ide": "Emulated IDE Controller",
    "scsi": "Synthetic SCSI Controller",
    "diskette": "Virtual Diskette Controller",
}
_DRIVE_POOLS = {
    "disk": "Synthetic Disk Drive",
    "physical": "Physical Disk Drive",
    "dvd": "Synthetic DVD Drive",
    "physical dvd": "Physical DVD Drive",
    "diskette": "Synthetic Diskette Drive",
}
_MEDIUM_POOLS = {"vhd": "Virtual Hard Disk", "iso": "Virtual CD/DVD Disk", "floppy": "Virtual Floppy Disk"}


def controller_row(machine: Machine, vm: Vm, owner: str, controller: Controller) -> Row:
    pool = POOL_BY_SUBTYPE[_CONTROLLER_POOLS[controller.kind]]
    row = allocation(machine, pool)
    row["InstanceID"] = controller.instance_id(owner)
    if controller.kind == "ide":
        row["ElementName"] = f"{text(machine, 'IDE Controller')} {controller.number}"
        row["Address"] = str(controller.number)
    elif controller.kind == "scsi":
        row["VirtualSystemIdentifiers"] = ["{" + controller.guid + "}"]
    else:
        row["OtherResourceType"] = HV + pool.subtype
    return row


def drive_row(machine: Machine, vm: Vm, owner: str, controller: Controller, drive: Drive) -> Row:
    pool = POOL_BY_SUBTYPE[_DRIVE_POOLS[drive.kind]]
    parent = setting_ref(RASD, controller.instance_id(owner))
    address = {"slot": str(drive.location), "zero": "0", "empty": ""}[machine.world.assume("drive-address")]
    return {
        **allocation(machine, pool),
        "ConsumerVisibility": 3,
        "InstanceID": controller.drive_id(owner, drive.location),
        "Parent": wmi_path(machine, parent),
        "Address": address,
        "AddressOnParent": str(drive.location),
        "HostResource": [drive.host_resource] if drive.host_resource else None,
        **({"ElementName": drive.element_name} if drive.element_name else {}),
    }


def medium_row(machine: Machine, vm: Vm, owner: str, controller: Controller, drive: Drive) -> Row:
    assert drive.medium is not None
    pool = POOL_BY_SUBTYPE[_MEDIUM_POOLS[drive.medium.kind]]
    parent = setting_ref(RASD, controller.drive_id(owner, drive.location))
    row: Row = {
        **allocation(machine, pool),
        "InstanceID": controller.medium_id(owner, drive.location),
        "Parent": wmi_path(machine, parent),
        "HostResource": [drive.medium.path],
        "Access": 3 if drive.medium.kind == "vhd" else 1,
        "Address": "",
        "VirtualResourceBlockSize": 0,
        "HostResourceBlockSize": 0,
        "HostExtentStartingAddress": 0,
        "PersistentReservationsSupported": drive.medium.shared,
        "IOPSAllocationUnits": "count(IO operations)/second",
        "IOPSLimit": 0,
        "IOPSReservation": 0,
        "StorageQoSPolicyID": "00000000-0000-0000-0000-000000000000",
        "CachingMode": 2,
        "SnapshotId": "",
        "IgnoreFlushes": False,
        "WriteHardeningMethod": 0,
        "VirtualQuantityUnits": "count(fixed size block)",
    }
    row.update(drive.medium.settings)
    return row


@view(NS, RASD)
def resource_settings(machine: Machine, known: Known) -> Iterable[Row]:
    for vm in selected(machine, known):
        for owner, controllers in owners(vm):
            for controller in controllers:
                yield controller_row(machine, vm, owner, controller)
                for location in sorted(controller.drives):
                    yield drive_row(machine, vm, owner, controller, controller.drives[location])
    if asks_templates(known):
        yield from templates(machine, RASD)


@view(NS, SASD)
def storage_settings(machine: Machine, known: Known) -> Iterable[Row]:
    for vm in selected(machine, known):
        for owner, controllers in owners(vm):
            for controller in controllers:
                for location in sorted(controller.drives):
                    if controller.drives[location].medium is not None:
                        yield medium_row(machine, vm, owner, controller, controller.drives[location])
    if asks_templates(known):
        yield from templates(machine, SASD)


# -- disk drives of host and running VMs


@view(NS, "Msvm_DiskDrive")
def disk_drives(machine: Machine, known: Known) -> Iterable[Row]:
    hidden = machine.world.assume("host-drive-row-attached") == "hidden"
    for disk in machine.disks:
        if disk.online or (hidden and machine.attached_to_vm(disk) is not None):
            continue
        if disk.hidden_looks > 0:  # the row appears some time after the disk went offline
            disk.hidden_looks -= 1
            continue
        yield {
            **device(
                machine,
                "Msvm_DiskDrive",
                f"Microsoft:{PHYSICAL_DISK_POOL}\\{disk.number}",
                machine.netbios_name,
                "Hard Drive",
                "Microsoft Physical Hard Drive",
            ),
            "ElementName": f"{text(machine, 'Disk')} {disk.number} {disk.size / (1 << 30):.2f} GB"
            f" {text(machine, 'Bus')} 0 Lun {disk.backing.scsi[3]} Target {disk.backing.scsi[2]}",
            "DriveNumber": disk.number,
            "MaxMediaSize": disk.size // 1000,
            "DefaultBlockSize": disk.backing.sector,
            "Capabilities": [3, 4],
        }
    for vm in selected(machine, known):
        if vm.running:
            for controller, drive in vm.drives():
                if drive_class(drive) == "Msvm_DiskDrive":
                    yield _vm_drive_row(machine, vm, controller, drive)


def _vm_drive_row(machine: Machine, vm: Vm, controller: Controller, drive: Drive) -> Row:
    return {
        **device(
            machine,
            drive_class(drive),
            vm_device_id(controller, drive.location),
            vm.id,
            {"dvd": "DVD Drive", "diskette": "Diskette Drive"}.get(drive.kind, "Hard Drive"),
            "Microsoft Synthetic Disk Drive",
        ),
        "TimeOfLastStateChange": vm.state_changed,
        "MaxMediaSize": 0,
        "Capabilities": [3, 4],
    }


def vm_device_id(controller: Controller, location: int) -> str:
    return f"Microsoft:{controller.guid}\\{controller.index}\\{location}\\D"


@view(NS, "Msvm_DVDDrive")
def dvd_drives(machine: Machine, known: Known) -> Iterable[Row]:
    return _other_drives(machine, known, "Msvm_DVDDrive")


@view(NS, "Msvm_DisketteDrive")
def diskette_drives(machine: Machine, known: Known) -> Iterable[Row]:
    return _other_drives(machine, known, "Msvm_DisketteDrive")


def _other_drives(machine: Machine, known: Known, class_name: str) -> Iterable[Row]:
    for vm in selected(machine, known):
        if vm.running:
            for controller, drive in vm.drives():
                if drive_class(drive) == class_name:
                    yield _vm_drive_row(machine, vm, controller, drive)


def _controllers(machine: Machine, known: Known, kind: str, class_name: str, caption: str) -> Iterable[Row]:
    for vm in selected(machine, known):
        if not vm.running:
            continue
        for controller in vm.controllers:
            if controller.kind == kind:
                identifier = f"Microsoft:{controller.guid}\\{controller.index}"
                yield device(machine, class_name, identifier, vm.id, caption, f"Microsoft {caption}")


@view(NS, "Msvm_IDEController")
def ide_controllers(machine: Machine, known: Known) -> Iterable[Row]:
    return _controllers(machine, known, "ide", "Msvm_IDEController", "IDE Controller")


@view(NS, "Msvm_SCSIProtocolController")
def scsi_controllers(machine: Machine, known: Known) -> Iterable[Row]:
    return _controllers(machine, known, "scsi", "Msvm_SCSIProtocolController", "SCSI Controller")


@view(NS, "Msvm_DisketteController")
def diskette_controllers(machine: Machine, known: Known) -> Iterable[Row]:
    return _controllers(machine, known, "diskette", "Msvm_DisketteController", "Diskette Controller")


# -- virtual Fibre Channel


def virtual_san_ref(machine: Machine, name: str) -> Ref:
    return ref("Msvm_VirtualFcSwitch", CreationClassName="Msvm_VirtualFcSwitch", Name=machine.virtual_sans[name])


@view(NS, "Msvm_SyntheticFcPortSettingData")
def fibre_channel_ports(machine: Machine, known: Known) -> Iterable[Row]:
    for vm in selected(machine, known):
        for port in vm.fibre_channel:
            yield {
                **allocation(machine, POOL_BY_SUBTYPE["Synthetic FibreChannel Port"]),
                "Caption": text(machine, "Fibre Channel Adapter"),
                "ElementName": text(machine, "Fibre Channel Adapter"),
                "InstanceID": f"Microsoft:{vm.id}\\{port.guid}",
                "ChapEnabled": False,
                "VirtualPortWWPN": port.wwpn[0],
                "VirtualPortWWNN": port.wwnn[0],
                "SecondaryWWPN": port.wwpn[1],
                "SecondaryWWNN": port.wwnn[1],
                "VirtualSystemIdentifiers": ["{" + port.guid + "}"],
            }
    if asks_templates(known):
        yield from templates(machine, "Msvm_SyntheticFcPortSettingData")


@view(NS, "Msvm_FcPortAllocationSettingData")
def fibre_channel_connections(machine: Machine, known: Known) -> Iterable[Row]:
    for vm in selected(machine, known):
        for port in vm.fibre_channel:
            parent = setting_ref("Msvm_SyntheticFcPortSettingData", f"Microsoft:{vm.id}\\{port.guid}")
            san = port.virtual_san if port.virtual_san in machine.virtual_sans else None
            yield {
                **allocation(machine, POOL_BY_SUBTYPE["FibreChannel Connection"]),
                "InstanceID": f"Microsoft:{vm.id}\\{port.guid}\\C",
                "Parent": wmi_path(machine, parent),
                "HostResource": [wmi_path(machine, virtual_san_ref(machine, san))] if san is not None else None,
            }
    if asks_templates(known):
        yield from templates(machine, "Msvm_FcPortAllocationSettingData")


@view(NS, "Msvm_VirtualFcSwitch")
def virtual_sans(machine: Machine) -> Iterable[Row]:
    for name, guid in machine.virtual_sans.items():
        yield {
            **managed(machine),
            "Caption": text(machine, "Virtual SAN"),
            "CreationClassName": "Msvm_VirtualFcSwitch",
            "Description": text(machine, "Microsoft Virtual Fibre Channel SAN"),
            "ElementName": name,
            "EnabledDefault": 2,
            "EnabledState": 5,
            "Name": guid,
            "RequestedState": 12,
            "ResetCapability": 5,
        }


@view(NS, "Msvm_SyntheticFcPort")
def running_fibre_channel_ports(machine: Machine, known: Known) -> Iterable[Row]:
    for vm in selected(machine, known):
        for port in vm.fibre_channel if vm.running else []:
            yield {
                **device(
                    machine,
                    "Msvm_SyntheticFcPort",
                    f"Microsoft:{port.guid}",
                    vm.id,
                    "Fibre Channel Adapter",
                    "Microsoft Synthetic Fibre Channel Port",
                ),
                "PermanentAddress": port.wwpn[0],
                "PortType": 10,
                "LinkTechnology": 4,
                "Speed": 8000000000,
            }


@view(NS, "Msvm_ExternalFcPort")
def host_bus_adapters(machine: Machine) -> Iterable[Row]:
    for number, name in enumerate(machine.virtual_sans):
        wwpn = "2100" + stable_guid(machine.name, name, "hba").replace("-", "").upper()[:12]
        yield {
            **device(
                machine,
                "Msvm_ExternalFcPort",
                f"Microsoft:{{{stable_guid(machine.name, name, 'hba')}}}",
                machine.netbios_name,
                "Fibre Channel Port",
                "Microsoft External Fibre Channel Port",
            ),
            "ElementName": f"QLogic Fibre Channel Adapter #{number + 1}",
            "IsHyperVCapable": True,
            "WWPN": wwpn,
            "WWNN": "2000" + wwpn[4:],
            "PortNumber": number,
            "Speed": 16000000000,
        }


# -- resource pools and their templates


@view(NS, "Msvm_ResourcePool")
def resource_pools(machine: Machine) -> Iterable[Row]:
    for pool in POOLS:
        if pool.type == 3:  # processors have Msvm_ProcessorPool
            continue
        yield _pool_row(machine, pool)


@view(NS, "Msvm_ProcessorPool")
def processor_pools(machine: Machine) -> Iterable[Row]:
    yield _pool_row(machine, POOL_BY_SUBTYPE["Processor"])


def _pool_row(machine: Machine, pool: Pool) -> Row:
    return {
        **managed(machine),
        "AllocationUnits": pool.units,
        "Capacity": 0,
        "Caption": text(machine, "Resource Pool"),
        "CurrentlyConsumedResource": 0,
        "Description": text(machine, f"Microsoft {pool.subtype} resource pool."),
        "ElementName": text(machine, "Primordial"),
        "InstallDate": NEVER,
        "InstanceID": pool_id(pool),
        "Name": text(machine, "Primordial"),
        "OtherResourceType": HV + pool.subtype if pool.type == 1 else None,
        "PoolID": "",
        "Primordial": True,
        "Reserved": 0,
        "ResourceSubType": HV + pool.subtype,
        "ResourceType": pool.type,
    }


def capabilities_ref(pool: Pool) -> Ref:
    return setting_ref("Msvm_AllocationCapabilities", f"Microsoft:{pool.guid}\\Root")


@view(NS, "Msvm_AllocationCapabilities")
def allocation_capabilities(machine: Machine) -> Iterable[Row]:
    for pool in POOLS:
        yield {
            "InstanceID": pool_id(pool),
            "Caption": text(machine, "Allocation Capabilities"),
            "Description": text(machine, f"Allocation capabilities of the {pool.subtype} pool."),
            "ElementName": text(machine, "Allocation Capabilities"),
            "OtherResourceType": HV + pool.subtype if pool.type == 1 else None,
            "RequestTypesSupported": 3,
            "ResourceSubType": HV + pool.subtype,
            "ResourceType": pool.type,
            "SharingMode": 3,
            "SupportedAddStates": [3],
            "SupportedRemoveStates": [3],
        }


def pool_ref(pool: Pool) -> Ref:
    return setting_ref("Msvm_ProcessorPool" if pool.type == 3 else "Msvm_ResourcePool", pool_id(pool))


@view(NS, "Msvm_ElementCapabilities")
def element_capabilities(machine: Machine) -> Iterable[Row]:
    for pool in POOLS:
        yield {
            "ManagedElement": pool_ref(pool),
            "Capabilities": capabilities_ref(pool),
            "Characteristics": [2, 3],
        }
    yield {
        "ManagedElement": host_ref(machine),
        "Capabilities": setting_ref("Msvm_VirtualSystemManagementCapabilities", f"Microsoft:{machine.netbios_name}"),
        "Characteristics": [2, 3],
    }


@view(NS, "Msvm_SettingsDefineCapabilities")
def settings_define_capabilities(machine: Machine) -> Iterable[Row]:
    for pool in POOLS:
        for role, (value_role, value_range, _quantity) in _ROLES.items():
            yield {
                "GroupComponent": capabilities_ref(pool),
                "PartComponent": setting_ref(pool.setting_class, f"Microsoft:Definition\\{pool.guid}\\{role}"),
                "PropertyPolicy": 0,
                "SupportStatement": None,
                "ValueRange": value_range,
                "ValueRole": value_role,
            }


# -- associations


def parts_of(vm: Vm, owner: str, controllers: list[Controller]) -> Iterator[Ref]:
    """References to every storage setting of a VM or checkpoint."""
    for controller in controllers:
        yield setting_ref(RASD, controller.instance_id(owner))
        for location in sorted(controller.drives):
            yield setting_ref(RASD, controller.drive_id(owner, location))
            if controller.drives[location].medium is not None:
                yield setting_ref(SASD, controller.medium_id(owner, location))


def storage_components(vm: Vm) -> Iterator[tuple[Ref, Ref]]:
    """(VSSD, part) pairs of the storage settings."""
    for owner, controllers in owners(vm):
        for part in parts_of(vm, owner, controllers):
            yield vssd_ref(owner), part
    for port in vm.fibre_channel:
        identifier = f"Microsoft:{vm.id}\\{port.guid}"
        yield vssd_ref(vm.id), setting_ref("Msvm_SyntheticFcPortSettingData", identifier)
        yield vssd_ref(vm.id), setting_ref("Msvm_FcPortAllocationSettingData", f"{identifier}\\C")


def storage_devices(vm: Vm) -> Iterator[tuple[Ref, Ref]]:
    """(device, its setting) pairs of a running VM."""
    for controller, drive in vm.drives():
        yield (
            device_ref(drive_class(drive), vm_device_id(controller, drive.location), vm.id),
            setting_ref(RASD, controller.drive_id(vm.id, drive.location)),
        )
