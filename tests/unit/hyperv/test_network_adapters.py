# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A VM's network adapters with the switches that they lead to, as disk_info returns them."""

from __future__ import annotations

from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv import observe_host
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.schema import VIRTUALIZATION
from unit.hyperv.host_world import HostWorld, guid, wmi_path

SYNTHETIC, EMULATED = "Microsoft:Hyper-V:Synthetic Ethernet Port", "Microsoft:Hyper-V:Emulated Ethernet Port"
PORTS, CONNECTIONS = "CIM_EthernetPortAllocationSettingData", "Msvm_EthernetPortAllocationSettingData"


def switch(world: HostWorld, name: str) -> str:
    world.store.add(VIRTUALIZATION, "Msvm_VirtualEthernetSwitch", Name=guid(name), ElementName=name)
    return wmi_path("Msvm_VirtualEthernetSwitch", CreationClassName="Msvm_VirtualEthernetSwitch", Name=guid(name))


def adapter(
    world: HostWorld, vm_id: str, name: str, mac: str, *, to: str | None = None, kind: str = SYNTHETIC, state: int = 2
) -> None:
    instance_id = f"Microsoft:{vm_id}\\{guid(vm_id + name)}"
    world.store.add(
        VIRTUALIZATION,
        PORTS,
        InstanceID=instance_id,
        ElementName=name,
        Address=mac,
        ResourceType=10,
        ResourceSubType=kind,
    )
    if to is not None:
        world.store.add(
            VIRTUALIZATION,
            CONNECTIONS,
            InstanceID=f"{instance_id}\\C",
            ResourceType=33,
            EnabledState=state,
            Parent=wmi_path("Msvm_SyntheticEthernetPortSettingData", InstanceID=instance_id),
            HostResource=[to],
        )


def world_with_adapters() -> HostWorld:
    world = HostWorld()
    vm_id, other = world.vm("web01"), world.vm("other")
    lan = switch(world, "LAN")
    adapter(world, vm_id, "connected", "00155d000001", to=lan)
    adapter(world, vm_id, "legacy", "00155D000002", kind=EMULATED)
    adapter(world, vm_id, "disabled", "00155D000003", to=lan, state=3)
    gone = wmi_path("Msvm_VirtualEthernetSwitch", CreationClassName="Msvm_VirtualEthernetSwitch", Name=guid("gone"))
    adapter(world, vm_id, "switch is gone", "00155D000004", to=gone)
    adapter(world, other, "of another VM", "00155D000005", to=lan)
    adapter(world, "Definition", "template", "")
    return world


def test_an_adapter_shows_the_switch_that_it_is_connected_to() -> None:
    for vms in (None, ["web01"]):
        (vm,) = [vm for vm in observe_host(world_with_adapters().store, vms=vms).vms if vm.name == "web01"]
        shown = [(one.name, one.mac_address, one.is_synthetic, one.switch_name) for one in vm.network_adapters]
        assert shown == [
            ("connected", "00155D000001", True, "LAN"),
            ("legacy", "00155D000002", False, None),
            ("disabled", "00155D000003", True, None),
            ("switch is gone", "00155D000004", True, None),
        ]
        assert [one.switch_id for one in vm.network_adapters] == [guid("LAN"), None, None, guid("gone")]


def test_a_vm_without_adapters_costs_one_question_only() -> None:
    world = HostWorld()
    world.vm("web01")
    assert observe_host(world.store, vms=["web01"]).vms[0].network_adapters == ()
    asked = {class_name for _namespace, class_name, _where in world.store.queries}
    assert PORTS in asked
    assert not {CONNECTIONS, "Msvm_VirtualEthernetSwitch"} & asked
