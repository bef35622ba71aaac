# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Responsible for the other devices of VMs in root/virtualization/v2: integration services, network, memory, CPU, display.

Facts: hyperv-wmi 6.2-6.6; recordings of switch, port and guest network configuration.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .assumed import assumed
from .cim import Instance, Ref, Value
from .disks import stable_guid, stable_hex
from .hyperv_rows import (
    NS,
    Known,
    Row,
    asks_templates,
    device,
    device_ref,
    managed,
    ref,
    selected,
    setting_ref,
    system_ref,
    text,
    vssd_ref,
    wmi_path,
)
from .hyperv_storage import POOL_BY_SUBTYPE, allocation, storage_components, storage_devices, templates
from .service import method, view
from .virtual_machine import PAUSED, RUNNING, Vm
from .world import Machine

assumed(
    "keyboard",
    "Whatever is typed at a running VM is taken and does nothing in its guest.",
    source="public reference Msvm_Keyboard; a limit of the simulator",
)

INTEGRATION = {
    "Heartbeat": ("84EAAE65-2F2E-45F5-9BB5-0E857DC8EB47", "Heartbeat"),
    "KvpExchange": ("2A34B1C2-FD73-4043-8A5B-DD2159BC743F", "Key-Value Pair Exchange"),
    "Shutdown": ("9F8233AC-BE49-4C79-8EE3-E7E1985B2077", "Shutdown"),
    "TimeSync": ("2497F4DE-E9FA-4204-80E4-4B75C46419C0", "Time Synchronization"),
    "Vss": ("5CED1297-4598-4915-A5FC-AD21BB4D02A4", "VSS"),
    "GuestServiceInterface": ("6C09BB55-D683-4DA0-8931-C9BF705F6480", "Guest Service Interface"),
}
"""Integration service -> (GUID, English name); classes are Msvm_<key>Component and ...ComponentSettingData."""


# -- integration services


def _status(vm: Vm, service: str) -> list[int]:
    if service == "Heartbeat" and vm.state == PAUSED:
        return [15, 2]
    if not vm.guest_runs or not vm.traits.integration_installed or (service == "Vss" and not vm.traits.vss):
        return [12]
    return [2, 2] if service == "Heartbeat" else [2]


def _component_row(machine: Machine, vm: Vm, service: str) -> Row:
    guid, title = INTEGRATION[service]
    class_name = f"Msvm_{service}Component"
    status = _status(vm, service)
    words = {2: "OK", 12: "No Contact", 15: "Paused"}
    return {
        **device(machine, class_name, f"Microsoft:{guid}", vm.id, title, f"Microsoft {title} Component"),
        "EnabledState": 2 if vm.settings.integration.get(service, True) else 3,
        "OperationalStatus": status,
        "StatusDescriptions": [text(machine, words[s]) for s in status],
        "TimeOfLastStateChange": vm.state_changed,
    }


def _components(machine: Machine, known: Known, service: str) -> Iterable[Row]:
    for vm in selected(machine, known):
        if service == "Heartbeat":
            vm.wait_for_boot()
        if vm.running and vm.settings.integration.get(service, True):
            yield _component_row(machine, vm, service)


for _service in ("Heartbeat", "Shutdown", "TimeSync", "Vss", "GuestServiceInterface"):

    def _component_rows(machine: Machine, known: Known, service: str = _service) -> Iterable[Row]:
        return _components(machine, known, service)

    view(NS, f"Msvm_{_service}Component")(_component_rows)

for _service in INTEGRATION:

    def _setting_rows(machine: Machine, known: Known, service: str = _service) -> Iterable[Row]:
        return _component_settings(machine, known, service)

    view(NS, f"Msvm_{_service}ComponentSettingData")(_setting_rows)


def component_setting_id(vm: Vm, service: str) -> str:
    return f"Microsoft:{vm.id}\\{INTEGRATION[service][0]}"


def _component_settings(machine: Machine, known: Known, service: str) -> Iterable[Row]:
    _guid, title = INTEGRATION[service]
    for vm in selected(machine, known):
        row: Row = {
            "InstanceID": component_setting_id(vm, service),
            "AllocationUnits": "count",
            "AutomaticAllocation": True,
            "AutomaticDeallocation": True,
            "Caption": text(machine, f"Microsoft {title} Component Settings"),
            "ConsumerVisibility": 3,
            "Description": text(machine, f"Settings for the Microsoft {title} Component."),
            "ElementName": text(machine, title),
            "EnabledState": 2 if vm.settings.integration.get(service, True) else 3,
            "Limit": 1,
            "PoolID": "",
            "Reservation": 1,
            "ResourceType": 1,
            "OtherResourceType": f"Microsoft {title} Component",
            "ResourceSubType": "",
            "VirtualQuantity": 1,
            "VirtualQuantityUnits": "count",
            "Weight": 0,
        }
        if service == "Heartbeat":
            row.update({"ErrorThreshold": 5, "Interval": 2000, "Latency": 1000})
        elif service == "GuestServiceInterface":
            row["DefaultEnabledStatePolicy"] = 3
        elif service == "KvpExchange":
            row["DisableHostKVPItems"] = False
            row["HostExchangeItems"] = [_item(n, v, 0) for n, v in vm.kvp_host_items.items()]
            row["HostOnlyItems"] = []
        yield row


def _item(name: str, data: str, source: int) -> Instance:
    return Instance(NS, "Msvm_KvpExchangeDataItem", {"Name": name, "Data": data, "Source": source})


def addresses(vm: Vm) -> list[str]:
    """IP addresses that the guest reports: its own, or one of the private range when nobody can reach it."""
    if vm.guest is not None and vm.guest.addresses:
        return list(vm.guest.addresses)
    return [f"192.168.{int(stable_hex(vm.id, 'net', length=2), 16)}.{10 + int(stable_hex(vm.id, length=2), 16) % 200}"]


def intrinsic_items(vm: Vm) -> dict[str, str]:
    """What a guest's KVP service tells of itself: Windows (hyperv-wmi 6.4), Linux (hv_kvp_daemon of the kernel's tools).

    The Linux daemon has ten items: names of /etc/os-release, uname's release, no OSPlatformId, no edition, no RDP address.
    """
    guest = vm.guest
    if guest is None:
        return {}
    ip = ";".join(addresses(vm))
    common = {"FullyQualifiedDomainName": guest.dns_name, "NetworkAddressIPv4": ip, "NetworkAddressIPv6": "fe80::1%4"}
    if guest.os.family != "windows":
        return {
            **common,
            "IntegrationServicesVersion": "3.1",
            "OSBuildNumber": guest.os.build,
            "OSName": guest.os.caption.partition(" 1")[0],
            "OSMajorVersion": "12",
            "OSMinorVersion": "",
            "OSVersion": guest.os.version,
            "ProcessorArchitecture": "x86_64",
        }
    major, minor, build = guest.os.version.split(".")[:3]
    return {
        **common,
        "RDPAddressIPv4": ip,
        "RDPAddressIPv6": "fe80::1%4",
        "IntegrationServicesVersion": guest.os.version,
        "OSName": guest.os.caption.removeprefix("Microsoft "),
        "OSVersion": guest.os.version,
        "OSMajorVersion": major,
        "OSMinorVersion": minor,
        "OSBuildNumber": build,
        "OSEditionId": str(guest.os.sku),
        "OSPlatformId": "2",
        "CSDVersion": "",
        "ServicePackMajor": "0",
        "ServicePackMinor": "0",
        "ProductType": str(guest.os.product_type),
        "SuiteMask": "400" if guest.os.product_type != 1 else "256",
        "ProcessorArchitecture": "9",
        "OSVendor": "Microsoft Corporation",
        "OSSignature": "",
    }


@view(NS, "Msvm_KvpExchangeComponent")
def kvp_components(machine: Machine, known: Known) -> Iterable[Row]:
    for vm in selected(machine, known):
        if not vm.running or not vm.settings.integration.get("KvpExchange", True):
            continue
        talks = vm.guest_runs and vm.traits.integration_installed
        yield {
            **_component_row(machine, vm, "KvpExchange"),
            "GuestIntrinsicExchangeItems": [_item(n, v, 2) for n, v in intrinsic_items(vm).items()] if talks else None,
            "GuestExchangeItems": [] if talks else None,
        }


@method(NS, "Msvm_ShutdownComponent", "InitiateShutdown")
def initiate_shutdown(machine: Machine, target: Instance | None, arguments: dict[str, Value]) -> Row:
    vm = machine.vm_by_id(str(target.get("SystemName"))) if target is not None else None
    if vm is None:
        return {"ReturnValue": 32773}
    return {"ReturnValue": machine.world.power.initiate_shutdown(vm, force=bool(arguments.get("Force")))}


@method(NS, "Msvm_ShutdownComponent", "InitiateReboot")
def initiate_reboot(machine: Machine, target: Instance | None, arguments: dict[str, Value]) -> Row:
    vm = machine.vm_by_id(str(target.get("SystemName"))) if target is not None else None
    if vm is None:
        return {"ReturnValue": 32773}
    force = bool(arguments.get("Force"))
    return {"ReturnValue": machine.world.power.initiate_shutdown(vm, force=force, restart=True)}


# -- network


def _mac(mac: str) -> str:
    return mac.upper()


def nic_id(vm: Vm, guid: str) -> str:
    return f"Microsoft:{vm.id}\\{guid}"


@view(NS, "Msvm_GuestNetworkAdapterConfiguration")
def guest_network(machine: Machine, known: Known) -> Iterable[Row]:
    for vm in selected(machine, known):
        for number, adapter in enumerate(vm.adapters):
            row: Row = {
                "InstanceID": f"Microsoft:GuestNetwork\\{vm.id}\\{adapter.guid}",
                "DHCPEnabled": True,
                "ProtocolIFType": 0,
            }
            if vm.guest_runs and vm.traits.integration_installed and number == 0:
                found = addresses(vm)
                row.update(
                    {
                        "DHCPEnabled": False,
                        "ProtocolIFType": 4096,
                        "IPAddresses": found,
                        "Subnets": ["255.255.255.0"] * len(found),
                        "DefaultGateways": [found[0].rsplit(".", 1)[0] + ".254"],
                        "DNSServers": [found[0].rsplit(".", 1)[0] + ".253"],
                        "IPAddressOrigins": [2] * len(found),
                    }
                )
            yield row


@view(NS, "Msvm_SyntheticEthernetPortSettingData")
def adapters(machine: Machine, known: Known) -> Iterable[Row]:
    for vm in selected(machine, known):
        for adapter in vm.adapters:
            yield {
                **allocation(machine, POOL_BY_SUBTYPE["Synthetic Ethernet Port"]),
                "InstanceID": nic_id(vm, adapter.guid),
                "ElementName": adapter.name,
                "Address": _mac(adapter.mac),
                "AllowPacketDirect": False,
                "ClusterMonitored": True,
                "DesiredVLANEndpointMode": None,
                "DeviceNamingEnabled": False,
                "InterruptModeration": False,
                "MediaType": 0,
                "NumaAwarePlacement": False,
                "StaticMacAddress": adapter.static_mac,
                "VirtualSystemIdentifiers": ["{" + adapter.guid + "}"],
            }
    if asks_templates(known):
        yield from templates(machine, "Msvm_SyntheticEthernetPortSettingData")


def switch_ref(guid: str) -> Ref:
    return ref("Msvm_VirtualEthernetSwitch", CreationClassName="Msvm_VirtualEthernetSwitch", Name=guid)


@view(NS, "Msvm_EthernetPortAllocationSettingData")
def connections(machine: Machine, known: Known) -> Iterable[Row]:
    names = {guid: name for name, guid in machine.virtual_switches.items()}
    for vm in selected(machine, known):
        for adapter in vm.adapters:
            parent = setting_ref("Msvm_SyntheticEthernetPortSettingData", nic_id(vm, adapter.guid))
            connected = adapter.switch in names
            yield {
                **allocation(machine, POOL_BY_SUBTYPE["Ethernet Connection"]),
                "InstanceID": f"{nic_id(vm, adapter.guid)}\\C",
                "Parent": wmi_path(machine, parent),
                "EnabledState": 2 if connected else 3,
                "HostResource": [wmi_path(machine, switch_ref(adapter.switch))] if adapter.switch else None,
                "LastKnownSwitchName": names.get(adapter.switch or "", adapter.last_switch),
                "CompartmentGuid": "{00000000-0000-0000-0000-000000000000}",
                "TestReplicaPoolID": "",
                "TestReplicaSwitchName": "",
            }
    if asks_templates(known):
        yield from templates(machine, "Msvm_EthernetPortAllocationSettingData")


@view(NS, "Msvm_VirtualEthernetSwitch")
def switches(machine: Machine) -> Iterable[Row]:
    for name, guid in machine.virtual_switches.items():
        yield {
            **managed(machine),
            "Caption": text(machine, "Virtual Switch"),
            "CreationClassName": "Msvm_VirtualEthernetSwitch",
            "Dedicated": [38],
            "Description": text(machine, "Microsoft Virtual Switch"),
            "ElementName": name,
            "EnabledDefault": 2,
            "EnabledState": 5,
            "IdentifyingDescriptions": [text(machine, "Virtual Switch Extension Miniport Adapter Id")],
            "MaxIOVOffloads": 0,
            "MaxVMQOffloads": 0,
            "Name": guid,
            "OtherIdentifyingInfo": ["{" + stable_guid(guid, "miniport") + "}"],
            "RequestedState": 12,
            "ResetCapability": 5,
        }


@view(NS, "Msvm_VirtualEthernetSwitchSettingData")
def switch_settings(machine: Machine) -> Iterable[Row]:
    for name, guid in machine.virtual_switches.items():
        yield {
            "InstanceID": f"Microsoft:{guid}",
            "Caption": text(machine, "Virtual Switch Settings"),
            "Description": text(machine, "Microsoft Virtual Switch Settings"),
            "ElementName": name,
            "VirtualSystemIdentifier": guid,
            "VirtualSystemType": "Microsoft:Hyper-V:Switch:Realized",
            "AssociatedResourcePool": [],
            "BandwidthReservationMode": 1,
            "IOVPreferred": False,
            "MaxNumMACAddress": 65536,
            "SwitchBehaviour": 0,
            "TeamingEnabled": False,
            "PacketDirectEnabled": False,
        }


@view(NS, "Msvm_ExternalEthernetPort")
def external_ports(machine: Machine) -> Iterable[Row]:
    for number in range(2):
        guid = stable_guid(machine.name, "nic", number)
        yield {
            **device(
                machine,
                "Msvm_ExternalEthernetPort",
                f"Microsoft:{{{guid.upper()}}}",
                machine.netbios_name,
                "Ethernet Port",
                "Microsoft External Ethernet Port",
            ),
            "ElementName": "Intel(R) Ethernet Controller X710" + (f" #{number + 1}" if number else ""),
            "Name": "Intel(R) Ethernet Controller X710" + (f" #{number + 1}" if number else ""),
            "ActiveMaximumTransmissionUnit": 1500,
            "AutoSense": True,
            "FullDuplex": True,
            "IsBound": number == 0,
            "LinkTechnology": 2,
            "MaxDataSize": 1500,
            "MaxSpeed": 10000000000,
            "PermanentAddress": "3CFDFE" + stable_hex(machine.name, "mac", number, length=6),
            "PortNumber": number,
            "PortType": 53,
            "RequestedSpeed": 10000000000,
            "Speed": 10000000000,
            "SupportedMaximumTransmissionUnit": 1500,
            "UsageRestriction": 4,
        }


@view(NS, "Msvm_SyntheticEthernetPort")
def synthetic_ports(machine: Machine, known: Known) -> Iterable[Row]:
    for vm in selected(machine, known):
        for adapter in vm.adapters if vm.running else []:
            yield {
                **device(
                    machine,
                    "Msvm_SyntheticEthernetPort",
                    f"Microsoft:{adapter.guid}",
                    vm.id,
                    "Network Adapter",
                    "Microsoft Synthetic Ethernet Port",
                ),
                "ElementName": adapter.name,
                "PermanentAddress": _mac(adapter.mac),
                "LinkTechnology": 2,
                "PortType": 53,
                "Speed": 10000000000,
                "MaxSpeed": 10000000000,
                "FullDuplex": True,
            }


# -- memory and processors


@view(NS, "Msvm_MemorySettingData")
def memory_settings(machine: Machine, known: Known) -> Iterable[Row]:
    for vm in selected(machine, known):
        s = vm.settings
        yield {
            **allocation(machine, POOL_BY_SUBTYPE["Memory"]),
            "InstanceID": f"Microsoft:{vm.id}\\4764334d-e001-4176-82ee-5594ec9b530e",
            "DynamicMemoryEnabled": s.dynamic_memory,
            "HugePagesEnabled": False,
            "IsVirtualized": True,
            "Limit": s.maximum_memory_mb,
            "MaxMemoryBlocksPerNumaNode": 65536,
            "Reservation": s.minimum_memory_mb if s.dynamic_memory else s.memory_mb,
            "SgxEnabled": False,
            "SgxLaunchControlDefault": "",
            "SgxLaunchControlMode": 0,
            "SgxSize": 0,
            "SwapFilesInUse": False,
            "TargetMemoryBuffer": 20,
            "VirtualQuantity": s.memory_mb,
            "VirtualQuantityUnits": "byte * 2^20",
            "Weight": 5000,
        }
    if asks_templates(known):
        yield from templates(machine, "Msvm_MemorySettingData")


@view(NS, "Msvm_ProcessorSettingData")
def processor_settings(machine: Machine, known: Known) -> Iterable[Row]:
    for vm in selected(machine, known):
        yield {
            **allocation(machine, POOL_BY_SUBTYPE["Processor"]),
            "InstanceID": f"Microsoft:{vm.id}\\b637f346-6a0e-4dec-af52-bd70cb80a21d\\0",
            "CpuGroupId": "00000000-0000-0000-0000-000000000000",
            "DisableSpeculationControls": False,
            "EnableHostResourceProtection": False,
            "EnablePerfmonLbr": False,
            "EnablePerfmonPebs": False,
            "EnablePerfmonPmu": False,
            "ExposeVirtualizationExtensions": False,
            "HideHypervisorPresent": False,
            "HwThreadsPerCore": 0,
            "Limit": 100000,
            "LimitCPUID": False,
            "LimitProcessorFeatures": False,
            "MaxNumaNodesPerSocket": 1,
            "MaxProcessorsPerNumaNode": 8,
            "Reservation": 0,
            "VirtualQuantity": vm.settings.processors,
            "Weight": 100,
        }
    if asks_templates(known):
        yield from templates(machine, "Msvm_ProcessorSettingData")


@view(NS, "Msvm_Processor")
def processors(machine: Machine, known: Known) -> Iterable[Row]:
    for vm in selected(machine, known):
        for number in range(vm.settings.processors if vm.running else 0):
            yield {
                **device(
                    machine,
                    "Msvm_Processor",
                    f"Microsoft:b637f346-6a0e-4dec-af52-bd70cb80a21d\\{number}",
                    vm.id,
                    "Processor",
                    "Microsoft Virtual Processor",
                ),
                "CPUStatus": 1,
                "CurrentClockSpeed": 2394,
                "Family": 179,
                "LoadPercentage": 3,
                "LoadPercentageHistory": [3, 4, 2, 3],
                "MaxClockSpeed": 2394,
                "UpgradeMethod": 2,
                "OtherFamilyDescription": None,
            }


# -- keyboard and display

_DISPLAY = "F38FF98C-3ECF-4E67-9A45-65D17CA6F2D2"


@view(NS, "Msvm_Keyboard")
def keyboards(machine: Machine, known: Known) -> Iterable[Row]:
    for vm in selected(machine, known):
        if vm.running:
            yield {
                **device(
                    machine,
                    "Msvm_Keyboard",
                    "Microsoft:58F75A6D-D949-4320-99E1-A2A2576D581C",
                    vm.id,
                    "Keyboard",
                    "Microsoft Keyboard",
                ),
                "NumberOfFunctionKeys": 12,
                "Password": 5,
                "UnicodeSupported": True,
            }


@method(NS, "Msvm_Keyboard", "PressKey")
@method(NS, "Msvm_Keyboard", "ReleaseKey")
@method(NS, "Msvm_Keyboard", "TypeCtrlAltDel")
@method(NS, "Msvm_Keyboard", "TypeKey")
@method(NS, "Msvm_Keyboard", "TypeScancodes")
@method(NS, "Msvm_Keyboard", "TypeText")
def type_something(machine: Machine, target: Instance | None, _arguments: dict[str, Value]) -> Row:
    machine.world.assume("keyboard")
    vm = machine.vm_by_id(str(target.get("SystemName"))) if target is not None else None
    return {"ReturnValue": 0 if vm is not None and vm.state == RUNNING else 32775}


@view(NS, "Msvm_SyntheticDisplayController")
def display_controllers(machine: Machine, known: Known) -> Iterable[Row]:
    for vm in selected(machine, known):
        if vm.running:
            yield {
                **device(
                    machine,
                    "Msvm_SyntheticDisplayController",
                    f"Microsoft:{_DISPLAY}",
                    vm.id,
                    "Display Controller",
                    "Microsoft Synthetic Display Controller",
                ),
                "MaxMemorySupported": 67108864,
                "MaxNumberControlled": 1,
                "VideoArchitecture": 2,
                "VideoMemoryType": 2,
            }


@view(NS, "Msvm_VideoHead")
def video_heads(machine: Machine, known: Known) -> Iterable[Row]:
    for vm in selected(machine, known):
        if vm.running:
            yield {
                **device(
                    machine,
                    "Msvm_VideoHead",
                    f"Microsoft:{_DISPLAY}\\0",
                    vm.id,
                    "Video Head",
                    "Microsoft Video Head",
                ),
                "CurrentBitsPerPixel": 32,
                "CurrentHorizontalResolution": 1024,
                "CurrentVerticalResolution": 768,
                "CurrentRefreshRate": 60,
                "CurrentNumberOfColors": 4294967296,
                "CurrentScanMode": 3,
                "MaxRefreshRate": 60,
                "MinRefreshRate": 60,
            }


@view(NS, "Msvm_VideoHeadOnController")
def video_heads_on_controllers(machine: Machine) -> Iterable[Row]:
    for vm in machine.vms:
        if vm.running:
            yield {
                "Antecedent": device_ref("Msvm_SyntheticDisplayController", f"Microsoft:{_DISPLAY}", vm.id),
                "Dependent": device_ref("Msvm_VideoHead", f"Microsoft:{_DISPLAY}\\0", vm.id),
                "AccessState": 1,
            }


@view(NS, "Msvm_SyntheticDisplayControllerSettingData")
def display_settings(machine: Machine, known: Known) -> Iterable[Row]:
    for vm in selected(machine, known):
        yield {
            **allocation(machine, POOL_BY_SUBTYPE["Synthetic Display Controller"]),
            "InstanceID": f"Microsoft:{vm.id}\\{_DISPLAY}",
            "HorizontalResolution": 1024,
            "VerticalResolution": 768,
            "ResolutionType": 3,
        }
    if asks_templates(known):
        yield from templates(machine, "Msvm_SyntheticDisplayControllerSettingData")


# -- associations over all devices


def _other_settings(vm: Vm) -> Iterator[Ref]:
    yield setting_ref("Msvm_MemorySettingData", f"Microsoft:{vm.id}\\4764334d-e001-4176-82ee-5594ec9b530e")
    yield setting_ref("Msvm_ProcessorSettingData", f"Microsoft:{vm.id}\\b637f346-6a0e-4dec-af52-bd70cb80a21d\\0")
    yield setting_ref("Msvm_SyntheticDisplayControllerSettingData", f"Microsoft:{vm.id}\\{_DISPLAY}")
    for service in INTEGRATION:
        yield setting_ref(f"Msvm_{service}ComponentSettingData", component_setting_id(vm, service))
    for adapter in vm.adapters:
        yield setting_ref("Msvm_SyntheticEthernetPortSettingData", nic_id(vm, adapter.guid))
        yield setting_ref("Msvm_EthernetPortAllocationSettingData", f"{nic_id(vm, adapter.guid)}\\C")


@view(NS, "Msvm_VirtualSystemSettingDataComponent")
def components(machine: Machine) -> Iterable[Row]:
    for vm in machine.vms:
        for group, part in storage_components(vm):
            yield {"GroupComponent": group, "PartComponent": part}
        for part in _other_settings(vm):
            yield {"GroupComponent": vssd_ref(vm.id), "PartComponent": part}


def _devices(vm: Vm) -> Iterator[tuple[Ref, Ref]]:
    if not vm.running:
        return
    yield from storage_devices(vm)
    for service, (guid, _title) in INTEGRATION.items():
        if vm.settings.integration.get(service, True):
            yield (
                device_ref(f"Msvm_{service}Component", f"Microsoft:{guid}", vm.id),
                setting_ref(f"Msvm_{service}ComponentSettingData", component_setting_id(vm, service)),
            )
    for number in range(vm.settings.processors):
        yield (
            device_ref("Msvm_Processor", f"Microsoft:b637f346-6a0e-4dec-af52-bd70cb80a21d\\{number}", vm.id),
            setting_ref("Msvm_ProcessorSettingData", f"Microsoft:{vm.id}\\b637f346-6a0e-4dec-af52-bd70cb80a21d\\0"),
        )
    for adapter in vm.adapters:
        yield (
            device_ref("Msvm_SyntheticEthernetPort", f"Microsoft:{adapter.guid}", vm.id),
            setting_ref("Msvm_SyntheticEthernetPortSettingData", nic_id(vm, adapter.guid)),
        )
    yield (
        device_ref("Msvm_SyntheticDisplayController", f"Microsoft:{_DISPLAY}", vm.id),
        setting_ref("Msvm_SyntheticDisplayControllerSettingData", f"Microsoft:{vm.id}\\{_DISPLAY}"),
    )


@view(NS, "Msvm_ElementSettingData")
def element_settings(machine: Machine) -> Iterable[Row]:
    for vm in machine.vms:
        for checkpoint in vm.checkpoints:
            yield {
                "ManagedElement": system_ref(vm),
                "SettingData": vssd_ref(checkpoint.id),
                "IsCurrent": 2,
                "IsDefault": 2,
                "IsNext": 2,
            }
        for element, setting in _devices(vm):
            yield {"ManagedElement": element, "SettingData": setting, "IsCurrent": 1, "IsDefault": 2, "IsNext": 1}


@view(NS, "Msvm_SystemDevice")
def system_devices(machine: Machine) -> Iterable[Row]:
    for vm in machine.vms:
        for element, _setting in _devices(vm):
            yield {"GroupComponent": system_ref(vm), "PartComponent": element}
        if vm.state in (RUNNING, PAUSED):
            keyboard = "Microsoft:58F75A6D-D949-4320-99E1-A2A2576D581C"
            yield {
                "GroupComponent": system_ref(vm),
                "PartComponent": device_ref("Msvm_Keyboard", keyboard, vm.id),
            }


@view(NS, "Msvm_SettingDataComponent")
def setting_data_components(machine: Machine) -> Iterable[Row]:
    for vm in machine.vms:
        for adapter in vm.adapters:
            yield {
                "GroupComponent": setting_ref("Msvm_SyntheticEthernetPortSettingData", nic_id(vm, adapter.guid)),
                "PartComponent": setting_ref(
                    "Msvm_GuestNetworkAdapterConfiguration", f"Microsoft:GuestNetwork\\{vm.id}\\{adapter.guid}"
                ),
            }
