# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The domain's actions on a simulated host, in process: disks, settings and networks of a VM, LUNs of the host.

What goes wrong on the way (lost replies, failing jobs, renumbered disks) is tested end to end with the tasks.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv import (
    SCHEMA,
    HypervError,
    Slot,
    observe_host,
)
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.disk_selector import DiskSelector
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.host_disks import (
    observe_luns,
    read_lun,
    rescan,
    set_offline,
    set_online,
)
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.passthrough import (
    attach,
    attach_vhd,
    detach,
    detach_vhd,
)
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.vm_power import change_power
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.vm_settings import (
    delete_vm,
    export_configuration,
    network_switches,
    reconnect_fibre_channel,
    reconnect_network,
    virtual_sans,
)
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._wsman import WsmanClient
from simulator.assumed import import_everything
from simulator.door_memory import memory_door
from simulator.world import World

TEXT = """
name: changes
seed: changes
clock: 2026-10-01T20:00:00Z
luns:
  - {id: data, size: 24M, bus: iscsi}
  - {id: free, size: 24M, bus: iscsi}
  - {id: vfc, size: 24M, bus: fc}
hosts:
  - name: hv01
    address: 127.45.0.1
    os: server2022
    volumes:
      - {letter: C, size: 40G, label: System}
      - {letter: D, size: 60G, label: VMs}
    luns: [data, free]
    switches: [External, Private]
    virtual_sans: [Fabric-A, Fabric-B]
    images: [{vhd: 'D:\\VMs\\spare.vhdx', size: 16M}]
vms:
  - name: erp01
    host: hv01
    state: "off"
    networks: [External]
    fibre_channel: [{virtual_san: Fabric-A, luns: [vfc]}]
    disks:
      - {slot: "scsi 0:0", vhd: 'D:\\VMs\\erp01\\os.vhdx', size: 8M}
      - {slot: "scsi 0:1", lun: data}
      - {slot: "scsi 0:2", dvd: null}
"""
FREE_SLOT = Slot(controller_type="SCSI", controller_number=0, controller_location=5)
DATA_SLOT = Slot(controller_type="SCSI", controller_number=0, controller_location=1)
OS_SLOT = Slot(controller_type="SCSI", controller_number=0, controller_location=0)
DVD_SLOT = Slot(controller_type="SCSI", controller_number=0, controller_location=2)
SPARE = "D:\\VMs\\spare.vhdx"


@dataclasses.dataclass(frozen=True)
class Hands:
    """Time passes only when somebody sleeps."""

    clock: Any
    seconds: Callable[[], float]
    progress: Callable[[str], None] = lambda line: None
    should_stop: Callable[[], None] = lambda: None
    poll_s: float = 1.0
    timeout_s: float = 60.0

    @property
    def now(self) -> Callable[[], float]:
        return self.seconds

    @property
    def sleep(self) -> Callable[[float], None]:
        return self.clock.advance  # type: ignore[no-any-return]  # the simulator's clock


class Site:
    def __init__(self, world: Any) -> None:
        self.world = world
        self.host = world.machine("hv01")
        ids = (f"{number:08X}-0000-4000-8000-000000000000" for number in itertools.count())
        self.client = WsmanClient(
            memory_door(self.host, "Administrator"), schema=SCHEMA, new_id=lambda: next(ids), endpoint="memory"
        )
        counter = itertools.count()
        self.hands = Hands(clock=world.clock, seconds=lambda: float(next(counter)))
        self.vm_id = next(vm.id for vm in world.vms if vm.name == "erp01").upper()

    def selector(self, lun: str) -> DiskSelector:
        return DiskSelector(unique_id=self.world.luns[lun].identity.unique_id)

    def vm(self) -> Any:
        return observe_host(self.client, vms=[self.vm_id]).vms[0]

    def held(self) -> dict[str, str | None]:
        return {disk.slot.describe(): disk.path or disk.unique_id or disk.attachment for disk in self.vm().disks}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    import_everything()
    with closing(World.from_yaml(TEXT, tmp_path / "world")) as world:
        yield Site(world)


def kind_of(action: Callable[[], object]) -> str:
    with pytest.raises(HypervError) as caught:
        action()
    return caught.value.kind


def test_a_pass_through_disk_gives_way_to_a_virtual_hard_disk_at_its_slot_and_back(site: Site) -> None:
    before = site.held()
    client, vm_id, hands = site.client, site.vm_id, site.hands
    assert kind_of(lambda: attach_vhd(client, vm_id, DATA_SLOT, SPARE, hands)) == "slot_taken"
    gone = detach(client, vm_id, DATA_SLOT, hands, expected=site.selector("data"))
    assert gone is not None and gone.unique_id == site.selector("data").unique_id
    assert attach_vhd(client, vm_id, DATA_SLOT, SPARE, hands).path == SPARE
    assert attach_vhd(client, vm_id, DATA_SLOT, SPARE.upper(), hands).path == SPARE
    assert site.held() == {**before, "SCSI 0:1": SPARE}
    assert kind_of(lambda: detach(client, vm_id, DATA_SLOT, hands)) == "not_pass_through"
    assert kind_of(lambda: detach_vhd(client, vm_id, OS_SLOT, hands, path=SPARE)) == "other_vhd"
    assert [detach_vhd(client, vm_id, DATA_SLOT, hands, path=SPARE) for _unused in range(2)] == [True, False]
    assert attach(client, vm_id, DATA_SLOT, site.selector("data"), hands).attachment == "pass_through"
    assert site.held() == before
    assert site.world.check() == []


def test_an_empty_dvd_drive_is_neither_filled_nor_removed(site: Site) -> None:
    before = site.held()
    assert kind_of(lambda: attach_vhd(site.client, site.vm_id, DVD_SLOT, SPARE, site.hands)) == "slot_taken"
    assert kind_of(lambda: detach_vhd(site.client, site.vm_id, DVD_SLOT, site.hands, path=SPARE)) == "other_vhd"
    assert site.held() == before


def test_a_lun_goes_online_for_the_host_only_while_no_vm_has_it(site: Site) -> None:
    free, data = site.selector("free"), site.selector("data")
    online = set_online(site.client, free, site.hands, writable=True)
    assert (online.is_offline, online.is_read_only) == (False, False)
    assert kind_of(lambda: set_online(site.client, data, site.hands)) == "lun_attached"
    assert kind_of(lambda: attach(site.client, site.vm_id, FREE_SLOT, free, site.hands)) == "lun_online"
    rescan(site.client, site.hands)
    assert set_offline(site.client, free, site.hands).is_offline is True
    assert attach(site.client, site.vm_id, FREE_SLOT, free, site.hands).slot == FREE_SLOT
    assert {one.vm_name for lun in observe_luns(site.client) for one in lun.attached_to} == {"erp01"}
    boot = next(lun for lun in observe_luns(site.client) if lun.is_boot)
    assert kind_of(lambda: set_offline(site.client, DiskSelector.of(boot), site.hands)) == "lun_in_use"
    assert read_lun(site.client, DiskSelector.of(boot)).is_offline is False


def test_adapters_are_connected_to_recorded_or_mapped_switches_once(site: Site) -> None:
    (adapter,) = site.vm().network_adapters
    recorded = [{"name": adapter.name, "mac_address": adapter.mac_address, "switch_name": "Old"}]

    def connect(switch_map: dict[str, str]) -> list[dict[str, object]]:
        return reconnect_network(site.client, site.vm_id, recorded, switch_map, site.hands)

    assert {switch.name for switch in network_switches(site.client)} == {"External", "Private"}
    assert kind_of(lambda: connect({})) == "unknown_switch"
    assert [(one["switch_name"], one["changed"]) for one in connect({"Old": "Private"})] == [("Private", True)]
    assert [one["changed"] for one in connect({"Old": "private"})] == [False]
    assert [one.switch_name for one in site.vm().network_adapters] == ["Private"]
    unknown = [{"name": "nosuch", "mac_address": "001122334455", "switch_name": "Private"}]
    assert kind_of(lambda: reconnect_network(site.client, site.vm_id, unknown, {}, site.hands)) == "unknown_adapter"
    without = [{"name": adapter.name, "mac_address": adapter.mac_address, "switch_name": None}]
    assert reconnect_network(site.client, site.vm_id, without, {}, site.hands) == []


def test_fibre_channel_ports_are_connected_to_recorded_or_mapped_sans_once(site: Site) -> None:
    (port,) = site.vm().fibre_channel_ports
    recorded = [{"wwpn": port.wwpn, "san": "Fabric-A"}]

    def connect(vsan_map: dict[str, str]) -> list[dict[str, object]]:
        return reconnect_fibre_channel(site.client, site.vm_id, recorded, vsan_map, site.hands)

    assert {san.name for san in virtual_sans(site.client)} == {"Fabric-A", "Fabric-B"}
    assert [one["changed"] for one in connect({})] == [False]
    assert kind_of(lambda: connect({"Fabric-A": "nosuch"})) == "unknown_vsan"
    assert [one["changed"] for one in connect({"Fabric-A": "Fabric-B"})] == [True]
    assert [one.san for one in site.vm().fibre_channel_ports] == ["Fabric-B"]


def test_a_vm_is_exported_and_deleted_without_its_disks(site: Site) -> None:
    client, vm_id, hands = site.client, site.vm_id, site.hands
    change_power(client, vm_id, "running", hands)
    assert kind_of(lambda: export_configuration(client, vm_id, "D:\\Export", hands)) == "vm_not_off"
    assert kind_of(lambda: delete_vm(client, vm_id, hands)) == "vm_not_off"
    change_power(client, vm_id, "off", hands)
    path = export_configuration(client, vm_id, "D:\\Export", hands)
    assert path == f"D:\\Export\\erp01\\Virtual Machines\\{vm_id}.vmcx"
    assert kind_of(lambda: export_configuration(client, vm_id, "D:\\Export", hands)) == "export_exists"
    assert [delete_vm(client, vm_id, hands) for _unused in range(2)] == [True, False]
    assert [vm.name for vm in site.world.vms] == []
    volume, below = site.host.resolve("D:\\VMs\\erp01\\os.vhdx")
    assert volume.files.exists(below)
