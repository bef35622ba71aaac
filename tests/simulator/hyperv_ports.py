# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Responsible for adding, changing and removing the ports of VMs: network adapters, virtual HBAs and their connections.

Called by hyperv_settings.py, which decides whether it happens now or as a job. Their rows are in hyperv_devices.py and
hyperv_storage.py. Facts: hyperv-wmi 4.1, 8; backup-engines 1.12.
"""

from __future__ import annotations

from collections.abc import Callable

from .assumed import assumed
from .cim import Instance, Ref, Value
from .disks import stable_hex
from .hyperv_rows import INVALID, INVALID_STATE, first_text, key_of_path, setting_ref
from .jobs import JobFailed
from .virtual_machine import FibreChannelPort, NetworkAdapter, Vm
from .world import Machine

ADAPTER, CONNECTION = "Msvm_SyntheticEthernetPortSettingData", "Msvm_EthernetPortAllocationSettingData"
HBA, SAN_CONNECTION = "Msvm_SyntheticFcPortSettingData", "Msvm_FcPortAllocationSettingData"
PORT_CLASSES = (ADAPTER, CONNECTION, HBA, SAN_CONNECTION)

assumed(
    "connect-unknown-switch",
    "Connecting an adapter to a switch, or a port to a virtual SAN, that the host does not have fails with 32773",
    source="no source; path texts that name nothing fail so elsewhere (hyperv-wmi 0.5)",
)


def _guid_in(value: Value) -> str | None:
    text_value = first_text(value)
    return text_value.strip("{}").upper() if text_value else None


def _switch(machine: Machine, resource: Instance) -> str | None:
    """The switch that HostResource names, None when it names none."""
    path = first_text(resource.get("HostResource"))
    if path is None:
        return None
    name = (key_of_path(path, "Name") or "").upper()
    if name not in machine.virtual_switches.values():
        raise JobFailed(INVALID, f"The virtual switch {name or path!r} was not found.")
    return name


def _virtual_san(machine: Machine, resource: Instance) -> str | None:
    path = first_text(resource.get("HostResource"))
    if path is None:
        return None
    wanted = (key_of_path(path, "Name") or "").upper()
    found = next((name for name, guid in machine.virtual_sans.items() if guid.upper() == wanted), None)
    if found is None:
        raise JobFailed(INVALID, f"The virtual SAN {wanted or path!r} was not found.")
    return found


def _add_adapter(machine: Machine, vm: Vm, resource: Instance) -> Ref:
    guid = _guid_in(resource.get("VirtualSystemIdentifiers")) or machine.world.new_guid("nic").upper()
    mac = str(resource.get("Address") or "") or "00155D" + stable_hex(vm.id, guid, length=6)
    name = str(resource.get("ElementName") or "Network Adapter")
    vm.adapters.append(NetworkAdapter(guid, mac, None, name, bool(resource.get("StaticMacAddress"))))
    return setting_ref(ADAPTER, f"Microsoft:{vm.id}\\{guid}")


def _connect_adapter(machine: Machine, vm: Vm, resource: Instance) -> Ref:
    parent = (key_of_path(resource.get("Parent")) or "").upper()
    adapter = next((a for a in vm.adapters if parent.endswith(a.guid)), None)
    if adapter is None:
        raise JobFailed(INVALID, "The network adapter of the connection was not found.")
    adapter.switch = _switch(machine, resource)
    return setting_ref(CONNECTION, f"Microsoft:{vm.id}\\{adapter.guid}\\C")


def _add_hba(machine: Machine, vm: Vm, resource: Instance) -> Ref:
    if vm.running:
        raise JobFailed(INVALID_STATE, "A Fibre Channel port cannot be added while the virtual machine runs.")
    guid = machine.world.new_guid("fc").upper()
    wwpn = (str(resource.get("VirtualPortWWPN") or ""), str(resource.get("SecondaryWWPN") or ""))
    if not all(wwpn):
        tail = stable_hex(vm.id, guid, length=6)
        wwpn = (f"C003FF{tail}0000"[:16], f"C003FF{tail}0001"[:16])
    wwnn = "C003FF0000FFFF00"
    luns = [identifier for name, found in machine.world.zoning.items() if name in wwpn for identifier in found]
    vm.fibre_channel.append(FibreChannelPort(guid, None, wwpn, (wwnn, wwnn), luns))
    return setting_ref(HBA, f"Microsoft:{vm.id}\\{guid}")


def _connect_hba(machine: Machine, vm: Vm, resource: Instance) -> Ref:
    parent = (key_of_path(resource.get("Parent")) or "").upper()
    port = next((p for p in vm.fibre_channel if parent.endswith(p.guid)), None)
    if port is None:
        raise JobFailed(INVALID, "The Fibre Channel port of the connection was not found.")
    if vm.running:
        raise JobFailed(INVALID_STATE, "A Fibre Channel port cannot be connected while the virtual machine runs.")
    port.virtual_san = _virtual_san(machine, resource)
    return setting_ref(SAN_CONNECTION, f"Microsoft:{vm.id}\\{port.guid}\\C")


PORTS: dict[object, Callable[[Machine, Vm, Instance], Ref]] = {
    10: _add_adapter,
    33: _connect_adapter,
    7: _add_hba,
    64764: _connect_hba,
}
"""By ResourceType (hyperv-wmi 8 for Fibre Channel)."""


def modify_port(machine: Machine, vm: Vm, resource: Instance) -> Ref:
    """Change an adapter, an HBA or the connection of one; raises JobFailed."""
    identifier = str(resource.get("InstanceID"))
    if resource.class_name in (HBA, SAN_CONNECTION):
        return _modify_hba(machine, vm, resource, identifier)
    adapter = next((a for a in vm.adapters if a.guid in identifier.upper()), None)
    if adapter is None:
        raise JobFailed(INVALID, f"{identifier} was not found.")
    if resource.class_name == CONNECTION:
        adapter.last_switch = vm.switch_name(adapter) or adapter.last_switch
        if "HostResource" in resource.properties:
            adapter.switch = _switch(machine, resource)
        if resource.get("EnabledState") == 3:
            adapter.switch = None
        return setting_ref(resource.class_name, identifier)
    name, mac, static = (resource.get(n) for n in ("ElementName", "Address", "StaticMacAddress"))
    adapter.name = str(name) if name else adapter.name
    adapter.mac = str(mac) if mac else adapter.mac
    adapter.static_mac = static if isinstance(static, bool) else adapter.static_mac
    return setting_ref(resource.class_name, identifier)


def _modify_hba(machine: Machine, vm: Vm, resource: Instance, identifier: str) -> Ref:
    port = next((p for p in vm.fibre_channel if p.guid in identifier.upper()), None)
    if port is None:
        raise JobFailed(INVALID, f"{identifier} was not found.")
    if vm.running:
        raise JobFailed(INVALID_STATE, "A Fibre Channel port cannot be changed while the virtual machine runs.")
    if resource.class_name == SAN_CONNECTION:
        if "HostResource" in resource.properties:
            port.virtual_san = _virtual_san(machine, resource)
        return setting_ref(resource.class_name, identifier)
    first, second = resource.get("VirtualPortWWPN"), resource.get("SecondaryWWPN")
    port.wwpn = (str(first or port.wwpn[0]), str(second or port.wwpn[1]))
    node = resource.get("VirtualPortWWNN")
    port.wwnn = (str(node or port.wwnn[0]), port.wwnn[1])
    return setting_ref(resource.class_name, identifier)


def remove_port(vm: Vm, identifier: str) -> bool:
    """Remove an adapter, an HBA or a connection; false when the InstanceID names none."""
    upper = identifier.upper()
    for adapter in list(vm.adapters):
        if upper == f"MICROSOFT:{vm.id}\\{adapter.guid}":
            vm.adapters.remove(adapter)
            return True
        if upper == f"MICROSOFT:{vm.id}\\{adapter.guid}\\C":
            adapter.switch = None
            return True
    for port in list(vm.fibre_channel):
        if upper.startswith(f"MICROSOFT:{vm.id}\\{port.guid}"):
            if vm.running:
                raise JobFailed(INVALID_STATE, "A Fibre Channel port cannot be removed while the virtual machine runs.")
            if upper.endswith("\\C"):
                port.virtual_san = None
            else:
                vm.fibre_channel.remove(port)
            return True
    return False
