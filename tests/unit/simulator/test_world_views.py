# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the machines of the worlds answer: every class fits the schema, keys are unique, the topology joins."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from simulator.cim import Instance, Ref, parse_object_path
from simulator.disks import vhd_unique_id
from simulator.service import PROVIDERS
from simulator.virtual_machine import OFF, SAVED
from simulator.world import Machine, World
from unit.simulator.provider_calls import STORAGE, V2, WORLDS, call, one, query, service, small_world

HELD_BY_SERVICES = {"stdregprov", "win32_process", "win32_ntlogevent", "ps_scheduledtask", "msft_scheduledtask"}


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World.from_yaml(WORLDS / "everything.yml", tmp_path_factory.mktemp("everything"))


def _classes(machine: Machine) -> Iterator[tuple[str, str]]:
    service(machine)
    for namespace, name in PROVIDERS.views:
        if namespace in machine.namespaces and name not in HELD_BY_SERVICES | {"cim_datafile", "win32_directory"}:
            yield namespace, name


def test_every_row_of_every_class_fits_the_schema_and_has_its_own_keys(everything: World) -> None:
    seen = 0
    for machine in everything.machines:
        if machine.os.family != "windows" or not machine.answers:
            continue
        cim = service(machine)
        for namespace, name in _classes(machine):
            entry = cim.schema.get(namespace, name)
            keys = set()
            for row in cim.exact_rows(entry, {}):
                seen += 1
                for key in entry.keys:
                    assert row.get(key) is not None, f"{entry.name} without {key}"
                keys.add(cim.reference(row).identity())
            assert not entry.keys or len(keys) == len(list(cim.exact_rows(entry, {}))), entry.name
    assert seen > 1500


def test_references_lead_somewhere(everything: World) -> None:
    host = everything.machine("hv01")
    cim = service(host)
    for namespace, name in _classes(host):
        entry = cim.schema.get(namespace, name)
        if not entry.is_association:
            continue
        for row in cim.exact_rows(entry, {}):
            for value in row.properties.values():
                if isinstance(value, Ref):
                    assert cim.find(value) is not None, f"{entry.name}: {value.relative_path()}"


def test_the_host_comes_first_and_is_no_vm(everything: World) -> None:
    rows = query(everything.machine("hv01"), "SELECT * FROM Msvm_ComputerSystem")
    assert rows[0].get("Name") == "HV01"
    assert rows[0].get("InstallDate") is None
    assert all(re.fullmatch(r"[0-9A-F-]{36}", str(r.get("Name"))) for r in rows[1:])


def test_a_german_host_says_german_words(everything: World) -> None:
    rows = query(everything.machine("hv02"), "SELECT * FROM Msvm_ComputerSystem")
    assert {str(r.get("Caption")) for r in rows} == {"Hostcomputersystem", "Virtueller Computer"}
    assert {r.get("Description") for r in rows[1:]} == {"Microsoft Virtual Machine"}


def test_the_whole_topology_joins_by_paths_and_identities(everything: World) -> None:
    host = everything.machine("hv01")
    drives = {str(r.get("InstanceID")): r for r in query(host, "SELECT * FROM Msvm_ResourceAllocationSettingData")}
    media = query(host, "SELECT * FROM Msvm_StorageAllocationSettingData")
    host_drives = {str(r.get("DeviceID")): r for r in query(host, "SELECT * FROM Msvm_DiskDrive")}
    disks = {r.get("Number"): r for r in query(host, "SELECT * FROM MSFT_Disk", STORAGE) if r.get("Number") is not None}
    for row in [*drives.values(), *media]:
        if row.get("Parent"):
            parent = parse_object_path(str(row.get("Parent")))
            assert str(parent.key("InstanceID")) in drives
    found = set()
    for row in drives.values():
        if row.get("ResourceSubType") == "Microsoft:Hyper-V:Physical Disk Drive" and row.get("HostResource"):
            resources = row.get("HostResource")
            assert isinstance(resources, list)
            device = host_drives[str(parse_object_path(resources[0]).key("DeviceID"))]
            disk = disks[device.get("DriveNumber")]
            assert disk.get("IsOffline") is True
            found.add(disk.get("UniqueId"))
    expected = {
        lun.identity.unique_id
        for vm in host.vms
        for _c, d in vm.physical_drives()
        if (lun := vm.physical_lun(d)) is not None
    }
    assert found == expected
    assert len(found) >= 9


def test_templates_and_checkpoint_rows_are_mixed_in(everything: World) -> None:
    host = everything.machine("hv01")
    owners = {
        str(r.get("InstanceID")).split(":", 1)[1].split("\\")[0].upper()
        for r in query(host, "SELECT * FROM Msvm_ResourceAllocationSettingData")
    }
    assert "DEFINITION" in owners
    assert {c.id for vm in host.vms for c in vm.checkpoints} <= owners
    physical = one(
        host,
        "SELECT * FROM Msvm_ResourceAllocationSettingData"
        " WHERE ResourceSubType = 'Microsoft:Hyper-V:Physical Disk Drive' AND InstanceID LIKE '%\\\\Default'",
    )
    assert physical.get("InstanceID") == "Microsoft:Definition\\353B3BE8-310C-4cf4-839E-4E1B14616136\\Default"


def test_a_guest_sees_its_vhds_under_the_ids_that_the_host_can_compute(everything: World) -> None:
    host, guest = everything.machine("hv01"), everything.machine("passthrough")
    answer = call(
        host,
        "Msvm_ImageManagementService",
        "GetVirtualHardDiskSettingData",
        {"Path": "D:\\VMs\\passthrough\\os.vhdx"},
    )
    facts = answer["SettingData"]
    assert isinstance(facts, Instance)
    disks = query(guest, "SELECT * FROM MSFT_Disk", STORAGE)
    assert disks[0].get("UniqueId") == vhd_unique_id(str(facts.get("VirtualDiskId")))
    assert disks[0].get("Manufacturer") == "Msft    "
    host_ids = {r.get("UniqueId") for r in query(host, "SELECT * FROM MSFT_Disk", STORAGE)}
    assert {r.get("UniqueId") for r in disks[1:]} <= host_ids


def test_a_guest_knows_its_iscsi_and_fibre_channel_luns_apart(everything: World) -> None:
    guest = everything.machine("special")
    buses = {r.get("UniqueId"): r.get("BusType") for r in query(guest, "SELECT * FROM MSFT_Disk", STORAGE)}
    assert buses[everything.luns["guest-iscsi"].identity.unique_id] == 9
    assert buses[everything.luns["vfc-a"].identity.unique_id] == 6
    assert 16 in buses.values()
    sessions = query(guest, "SELECT * FROM MSFT_iSCSISession", STORAGE)
    assert [s.get("TargetNodeAddress") for s in sessions] == [everything.luns["guest-iscsi"].target]
    ports = query(guest, "SELECT * FROM MSFT_InitiatorPort WHERE ConnectionType = 1", STORAGE)
    assert [p.get("PortAddress") for p in ports] == [guest.vm.fibre_channel[0].wwpn[0]] if guest.vm else []


def test_bitlocker_locked_volumes_are_raw_and_unlocked_ones_are_not(everything: World) -> None:
    guest = everything.machine("special")
    volumes = {r.get("DriveLetter"): r for r in query(guest, "SELECT * FROM MSFT_Volume", STORAGE)}
    assert volumes["N"].get("FileSystem") == ""
    assert volumes["K"].get("FileSystem") == "NTFS"
    states = query(guest, "SELECT * FROM Win32_EncryptableVolume", "root/cimv2/security/microsoftvolumeencryption")
    assert {s.get("DriveLetter"): s.get("ProtectionStatus") for s in states if s.get("PersistentVolumeID")} == {
        "K:": 1,
        "N:": 2,
    }


def test_a_new_disk_of_a_server_guest_comes_offline_and_read_only(everything: World) -> None:
    guest = everything.machine("special")
    fresh = [d for d in guest.disks if not d.online]
    assert [d.backing.slot for d in fresh] == ["scsi 0:5"]
    row = one(guest, f"SELECT * FROM MSFT_Disk WHERE Number = {fresh[0].number}", STORAGE)  # noqa: S608
    assert (row.get("IsReadOnly"), row.get("OfflineReason"), row.get("OperationalStatus")) == (True, 1, [53267])


def test_only_cluster_nodes_have_the_cluster_namespace(everything: World) -> None:
    assert "root/mscluster" in everything.machine("hv01").namespaces
    assert "root/mscluster" not in everything.machine("hv02").namespaces
    groups = query(
        everything.machine("hv01"), "SELECT * FROM MSCluster_ResourceGroup WHERE GroupType = 111", "root/mscluster"
    )
    assert [g.get("Name") for g in groups] == ["clustered"]
    numbers = [r.get("Number") for r in query(everything.machine("hv01"), "SELECT * FROM MSFT_Disk", STORAGE)]
    assert numbers.count(None) == 1


def test_integration_rows_exist_only_while_the_vm_runs(everything: World) -> None:
    host = everything.machine("hv01")
    running = {vm.id for vm in host.vms if vm.state not in (OFF, SAVED)}
    for name in ("Shutdown", "Heartbeat", "Vss", "KvpExchange"):
        assert {r.get("SystemName") for r in query(host, f"SELECT * FROM Msvm_{name}Component")} == running  # noqa: S608
    assert len(query(host, "SELECT * FROM Msvm_VssComponentSettingData")) == len(host.vms)


def test_kvp_tells_name_system_and_addresses(tmp_path: Path) -> None:
    host = small_world(tmp_path).machine("hv01")
    row = query(host, "SELECT * FROM Msvm_KvpExchangeComponent")[0]
    items = row.get("GuestIntrinsicExchangeItems")
    assert isinstance(items, list)
    told = {str(i.get("Name")): str(i.get("Data")) for i in items}
    assert told["FullyQualifiedDomainName"] == "web01"
    assert told["NetworkAddressIPv4"] == "127.20.1.1"
    assert told["OSName"] == "Windows Server 2022 Datacenter"


def test_the_summary_has_what_was_asked_for_and_the_order_of_the_question(tmp_path: Path) -> None:
    host = small_world(tmp_path).machine("hv01")
    wanted = [Ref(V2, "Msvm_VirtualSystemSettingData", {"InstanceID": f"Microsoft:{vm.id}"}) for vm in host.vms[::-1]]
    answer = call(
        host,
        "Msvm_VirtualSystemManagementService",
        "GetSummaryInformation",
        {"SettingData": wanted, "RequestedInformation": [1, 100]},
    )
    rows = answer["SummaryInformation"]
    assert [r.get("ElementName") for r in rows] == ["sql01", "web01"]
    assert all(set(r.properties) == {"Name", "ElementName", "EnabledState"} for r in rows)


def test_libvirt_questions_are_answered(tmp_path: Path) -> None:
    host = small_world(tmp_path).machine("hv01")
    vm = host.vms[0]
    assert one(host, "SELECT * FROM Win32_ComputerSystemProduct", "root/cimv2").get("UUID")
    assert one(host, "SELECT * FROM Win32_OperatingSystem", "root/cimv2").get("Version") == "10.0.20348"
    settings = query(
        host,
        f"ASSOCIATORS OF {{Msvm_ComputerSystem.CreationClassName='Msvm_ComputerSystem',Name='{vm.id.lower()}'}}"
        " WHERE AssocClass = Msvm_SettingsDefineState ResultClass = Msvm_VirtualSystemSettingData",
    )
    assert [s.get("ElementName") for s in settings] == ["web01"]
    parts = query(
        host,
        f"ASSOCIATORS OF {{Msvm_VirtualSystemSettingData.InstanceID='Microsoft:{vm.id}'}}"
        " WHERE AssocClass = Msvm_VirtualSystemSettingDataComponent ResultClass = Msvm_ProcessorSettingData",
    )
    assert len(parts) == 1


@pytest.mark.skipif("HYPERV_PASSTHROUGH_RECORDINGS" not in os.environ, reason="HYPERV_PASSTHROUGH_RECORDINGS unset")
@pytest.mark.parametrize(
    ("recording", "class_name", "index"),
    [
        ("recorded_computersystem_pull_host.xml", "Msvm_ComputerSystem", 0),
        ("recorded_computersystem_pull_vm_running_c_eos.xml", "Msvm_ComputerSystem", 1),
        ("recorded_pull_virtualethernetswitch.xml", "Msvm_VirtualEthernetSwitch", 0),
        ("recorded_pull_externalethernetport.xml", "Msvm_ExternalEthernetPort", 0),
    ],
)
def test_rows_are_null_where_real_hosts_say_null(tmp_path: Path, recording: str, class_name: str, index: int) -> None:
    text = (Path(os.environ["HYPERV_PASSTHROUGH_RECORDINGS"]) / "r4sd-go-wsman-recorded" / recording).read_text("utf-8")
    host = small_world(tmp_path).machine("hv01")
    ours = query(host, f"SELECT * FROM {class_name}")[index]  # noqa: S608
    null = set(re.findall(r'<p:(\w+) xsi:nil="true"', text))
    given = set(re.findall(r"<p:(\w+)>", text))
    for name, value in ours.properties.items():
        if name in null - given:
            assert value is None, f"{name} is NULL on a real host"
        if name in given:
            assert value is not None, f"{name} has a value on a real host"


FLIPPED = [
    ("no-drive-letter", "empty"),
    ("offline-partitions", "hidden"),
    ("dynamic-volumes", "hidden"),
    ("drive-address", "empty"),
    ("host-drive-row-attached", "hidden"),
    ("vhd-unique-id", "big-endian"),
    ("passthrough-guest-identity", "hidden"),
    ("virtual-disk-id-text", "braces"),
]


@pytest.mark.parametrize(("identifier", "value"), FLIPPED)
def test_rows_fit_the_schema_under_either_value_of_an_assumption(tmp_path: Path, identifier: str, value: str) -> None:
    text = (WORLDS / "small.yml").read_text("utf-8") + f"\nswitches: {{{identifier}: {value}}}\n"
    world = World.from_yaml(text, tmp_path)
    plain = small_world(tmp_path / "plain")
    differs = identifier in ("virtual-disk-id-text", "dynamic-volumes")  # small.yml has nothing to show them with
    for machine, other in zip(world.machines, plain.machines, strict=True):
        cim = service(machine)
        for namespace, name in _classes(machine):
            entry = cim.schema.get(namespace, name)
            rows = [row.properties for row in cim.exact_rows(entry, {})]
            differs = differs or rows != [row.properties for row in service(other).exact_rows(entry, {})]
    assert differs
