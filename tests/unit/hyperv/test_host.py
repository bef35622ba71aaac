# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Observing a host: every kind of disk, odd names, broken rows, filters, and costs in numbers of questions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv import (
    Ambiguous,
    HypervError,
    NotFound,
    Precondition,
    VirtualMachine,
    VmDisk,
    observe_host,
)
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv import host_topology as topology
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.machine import MachineFacts
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.model import ClusterMembership
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.schema import (
    CIMV2,
    CLUSTER,
    STORAGE,
    VIRTUALIZATION,
)
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._wsman import (
    CimInstance,
    CimPath,
    QuotaExceeded,
    RequestNotSent,
    Value,
)
from unit.hyperv.cim_store import CimStore
from unit.hyperv.host_world import CLOCK, HOST, HostWorld, guid, host_disk_path, wmi_path

NAA = "600A098038303053743F463045727A39"


def disk_of(world: HostWorld, vm: str = "db01", **arguments: Any) -> VmDisk:
    (found,) = [one for one in observe_host(world.store, **arguments).vms if one.name == vm]
    (disk,) = found.disks
    return disk


def vm_named(world: HostWorld, name: str) -> VirtualMachine:
    (found,) = [one for one in observe_host(world.store).vms if one.name == name]
    return found


# --- Attachments --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "shared", "attachment", "captured_by", "file_kind"),
    [
        ("D:\\VM\\db01.vhdx", False, "virtual_hard_disk", "host", ("VHDX", None)),
        ("D:\\VM\\db01.VHD", False, "virtual_hard_disk", "host", ("VHD", None)),
        ("D:\\VM\\db01_1A2B.avhdx", False, "virtual_hard_disk", "host", ("VHDX", "differencing")),
        ("C:\\ClusterStorage\\Volume1\\db01.vhdx", False, "virtual_hard_disk", "host", ("VHDX", None)),
        ("\\\\nas\\vm\\db01.vhdx", False, "virtual_hard_disk", "none", ("VHDX", None)),
        ("\\\\?\\UNC\\nas\\vm\\db01.vhdx", False, "virtual_hard_disk", "none", ("VHDX", None)),
        ("C:\\ClusterStorage\\Volume1\\q.vhdx", True, "shared_virtual_hard_disk", "guest", ("VHDX", None)),
        ("C:\\ClusterStorage\\Volume1\\q.vhds", False, "shared_virtual_hard_disk", "guest", ("VHDSet", None)),
    ],
)
def test_a_virtual_hard_disk_is_told_by_its_medium(
    path: str, shared: bool, attachment: str, captured_by: str, file_kind: tuple[str, str | None]
) -> None:
    world = HostWorld()
    scsi = world.controller(world.vm("db01"))
    world.vhd(scsi, 3, path, shared=shared)
    disk = disk_of(world)
    assert (disk.attachment, disk.captured_by, disk.path) == (attachment, captured_by, path)
    assert disk.vhd is not None
    assert (disk.vhd.format, disk.vhd.type) == file_kind
    assert disk.slot.describe() == "SCSI 0:3"
    assert disk.controller_id == scsi
    assert disk.reason.endswith(".")


@pytest.mark.parametrize(
    ("path", "letter", "file_system", "is_csv", "is_remote"),
    [
        ("d:\\VM\\a.vhdx", "D", "ReFS", False, False),
        ("\\\\?\\D:\\VM\\a.vhdx", "D", "ReFS", False, False),
        ("C:\\ClusterStorage\\Volume1\\a.vhdx", None, "CSVFS", True, False),
        ("\\\\?\\Volume{11111111-0000-0000-0000-000000000002}\\a.vhdx", "D", "ReFS", False, False),
        ("Z:\\a.vhdx", "Z", None, False, False),
        ("\\\\nas\\vm\\a.vhdx", None, None, False, True),
    ],
)
def test_the_volume_that_holds_a_vhd_is_the_longest_parent_folder(
    path: str, letter: str | None, file_system: str | None, is_csv: bool, is_remote: bool
) -> None:
    world = HostWorld()
    world.vhd(world.controller(world.vm("db01")), 0, path)
    volume = disk_of(world).host_volume
    assert volume is not None
    assert (volume.letter, volume.file_system, volume.is_csv, volume.is_remote) == (
        letter,
        file_system,
        is_csv,
        is_remote,
    )


def test_a_pass_through_disk_leads_to_its_lun_by_number_and_is_kept_by_identity() -> None:
    world = HostWorld()
    world.lun(5, unique_id=NAA, size=3 * 2**30)
    ide = world.controller(world.vm("db01", generation=1), "IDE", 1)
    world.pass_through(ide, 0, "5")
    view = observe_host(world.store)
    (disk,) = view.vms[0].disks
    assert (disk.attachment, disk.captured_by, disk.unique_id, disk.size_bytes) == (
        "pass_through",
        "guest",
        NAA,
        3 * 2**30,
    )
    assert disk.lun is not None
    assert (disk.lun.serial_number, disk.lun.guid) == ("wOj6X?Yn", "{abcdef00-0000-0000-0000-000000000001}")
    assert disk.slot.describe() == "IDE 1:0"
    (lun,) = [one for one in view.luns if one.number == 5]
    assert [(one.vm_name, one.slot.describe()) for one in lun.attached_to] == [("db01", "IDE 1:0")]
    assert (lun.manufacturer, lun.model, lun.bus_type, lun.partition_style) == (
        "NETAPP",
        "LUN C-Mode",
        "Fibre Channel",
        "GPT",
    )
    assert (lun.offline_reason, lun.provisioning) == ("Policy", "Thin")


def test_a_pass_through_disk_resolves_when_hyperv_no_longer_lists_the_attached_disk() -> None:
    world = HostWorld()
    world.lun(5, unique_id=NAA, drive_row=False)
    world.pass_through(world.controller(world.vm("db01")), 0, "5")
    assert disk_of(world).unique_id == NAA


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        (None, "names no disk"),
        (host_disk_path("NODRIVE"), "NODRIVE"),
        (host_disk_path("7"), "no disk number 7"),
        (host_disk_path("0"), "boot or system disk"),
        (host_disk_path("6"), "online on the host"),
        (host_disk_path("5", host="OLDHOST"), "host OLDHOST"),
        (host_disk_path("x"), "holds no disk number"),
        ("rubbish", "not the path of a host disk"),
        ("", "names no disk"),
    ],
)
def test_a_pass_through_reference_that_leads_nowhere_is_told_and_never_guessed(
    reference: str | None, said: str
) -> None:
    world = HostWorld()
    world.lun(5, unique_id=NAA)
    world.lun(6, unique_id="600A0980AAAA", offline=False)
    drive = world.controller(world.vm("db01"))
    world.drive(drive, 1, "Microsoft:Hyper-V:Physical Disk Drive", host_resource=reference)
    disk = disk_of(world)
    assert (disk.attachment, disk.lun, disk.unique_id, disk.captured_by) == (
        "unresolved_pass_through",
        None,
        None,
        "guest",
    )
    assert said in disk.reason
    view = observe_host(world.store)
    assert all(not lun.attached_to for lun in view.luns)
    assert any(said in problem for problem in view.vms[0].problems)


def test_renumbered_disks_follow_what_the_host_lists_now() -> None:
    """The drive row of Hyper-V designates disk 5 by another number than its DeviceID says."""
    world = HostWorld()
    world.lun(9, unique_id=NAA, drive_row=False)
    world.store.add(
        VIRTUALIZATION, "Msvm_DiskDrive", DeviceID="microsoft:353b3be8-310c-4cf4-839e-4e1b14616136\\5", DriveNumber=9
    )
    world.pass_through(world.controller(world.vm("db01")), 0, "5")
    assert disk_of(world).unique_id == NAA


def test_a_clustered_pass_through_disk_may_be_online() -> None:
    world = HostWorld()
    world.lun(5, unique_id=NAA, offline=False, clustered=True)
    world.pass_through(world.controller(world.vm("db01")), 0, "5")
    assert disk_of(world).attachment == "pass_through"


@pytest.mark.parametrize(
    ("sub_type", "medium", "attachment"),
    [
        ("Microsoft:Hyper-V:Synthetic DVD Drive", "D:\\iso\\setup.iso", "dvd"),
        ("Microsoft:Hyper-V:Synthetic DVD Drive", None, "empty"),
        ("Microsoft:Hyper-V:Physical DVD Drive", None, "dvd"),
        ("Microsoft:Hyper-V:Synthetic Disk Drive", None, "empty"),
    ],
)
def test_drives_without_a_disk_need_no_backup(sub_type: str, medium: str | None, attachment: str) -> None:
    world = HostWorld()
    drive = world.drive(world.controller(world.vm("db01")), 1, sub_type)
    if medium:
        world.medium(drive, medium, sub_type="Microsoft:Hyper-V:Virtual CD/DVD Disk")
    disk = disk_of(world)
    assert (disk.attachment, disk.captured_by, disk.path) == (attachment, "none", medium)


def test_a_medium_without_a_file_is_captured_by_nobody() -> None:
    world = HostWorld()
    world.medium(world.drive(world.controller(world.vm("db01")), 0), None)
    disk = disk_of(world)
    assert (disk.attachment, disk.captured_by) == ("virtual_hard_disk", "none")


@pytest.mark.parametrize("parent", ["", "nonsense", wmi_path("X", InstanceID="Microsoft:SOMETHING\\ELSE")])
def test_the_instance_id_tells_the_hierarchy_when_parent_does_not(parent: str) -> None:
    world = HostWorld()
    scsi = world.controller(world.vm("db01"))
    drive = world.drive(scsi, 2, parent=parent)
    world.medium(drive, "D:\\a.vhdx", parent=parent)
    disk = disk_of(world)
    assert (disk.path, disk.slot.describe(), disk.controller_id) == ("D:\\a.vhdx", "SCSI 0:2", scsi)


def test_letter_case_of_ids_does_not_matter() -> None:
    world = HostWorld()
    vm_id = world.vm("db01")
    scsi = world.controller(vm_id.lower())
    drive = world.drive(scsi.upper(), 2)
    world.medium(drive.swapcase(), "D:\\a.vhdx", parent="")
    assert disk_of(world).path == "D:\\a.vhdx"


def test_scsi_controllers_are_numbered_by_the_order_of_the_host() -> None:
    world = HostWorld()
    vm_id = world.vm("db01")
    first, second = world.controller(vm_id, number=7), world.controller(vm_id, number=1)
    world.vhd(second, 0, "D:\\b.vhdx")
    world.vhd(first, 63, "D:\\a.vhdx")
    slots = {disk.path: (disk.slot.describe(), disk.controller_id) for disk in vm_named(world, "db01").disks}
    assert slots == {"D:\\a.vhdx": ("SCSI 0:63", first), "D:\\b.vhdx": ("SCSI 1:0", second)}


def test_devices_of_snapshots_templates_and_planned_vms_are_not_disks_of_a_vm() -> None:
    world = HostWorld()
    vm_id = world.vm("db01")
    world.vhd(world.controller(vm_id), 0, "D:\\now.avhdx")
    checkpoint = world.checkpoint(vm_id, "before update")
    world.vhd(world.controller(checkpoint), 0, "D:\\then.vhdx")
    planned = guid("planned")
    world.store.add(
        VIRTUALIZATION,
        "Msvm_VirtualSystemSettingData",
        InstanceID=f"Microsoft:{planned}",
        VirtualSystemIdentifier=planned,
        VirtualSystemType="Microsoft:Hyper-V:System:Planned",
    )
    world.vhd(world.controller(planned), 0, "D:\\planned.vhdx")
    vm = vm_named(world, "db01")
    assert [disk.path for disk in vm.disks] == ["D:\\now.avhdx"]
    assert [(one.id, one.name, one.type) for one in vm.checkpoints] == [(checkpoint, "before update", "standard")]


def test_one_row_given_twice_is_one_disk() -> None:
    world = HostWorld()
    world.lun(5, unique_id=NAA)
    world.pass_through(world.controller(world.vm("db01")), 0, "5")
    rows = world.store.rows[VIRTUALIZATION, "Msvm_ResourceAllocationSettingData"]
    rows.append(rows[-1])
    view = observe_host(world.store)
    assert len(view.vms[0].disks) == 1
    assert [len(lun.attached_to) for lun in view.luns if lun.number == 5] == [1]


def test_a_lun_that_two_vms_have_shows_both() -> None:
    world = HostWorld()
    world.lun(5, unique_id=NAA)
    for name in ("node1", "node2"):
        world.pass_through(world.controller(world.vm(name)), 4, "5")
    (lun,) = [one for one in observe_host(world.store).luns if one.number == 5]
    assert [one.vm_name for one in lun.attached_to] == ["node1", "node2"]


# --- LUNs ---------------------------------------------------------------------------------------------------------


def test_identities_that_are_empty_local_or_repeated_are_weak() -> None:
    world = HostWorld()
    for number, (unique_id, unique_id_format) in enumerate(
        [(NAA, 3), ("6000AAAA", 3), ("6000aaaa ", 3), ("", 3), ("SCSI\\DISK&VEN_X:HV01", 0)], start=1
    ):
        world.lun(number, unique_id=unique_id, unique_id_format=unique_id_format)
    weak = {lun.number: lun.weak_identity for lun in observe_host(world.store).luns}
    assert weak == {0: False, 1: False, 2: True, 3: True, 4: True, 5: True}


def test_rows_of_other_cluster_nodes_are_one_lun_with_the_local_row() -> None:
    world = HostWorld()
    world.lun(None, unique_id=NAA, clustered=True)
    world.lun(5, unique_id=NAA, clustered=True)
    world.lun(None, unique_id="6000BBBB", clustered=True)
    world.lun(None, unique_id="6000bbbb", clustered=True)
    luns = [
        (lun.number, lun.unique_id, lun.weak_identity) for lun in observe_host(world.store).luns if lun.is_clustered
    ]
    assert luns == [(5, NAA, False), (None, "6000BBBB", False)]


# --- VMs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "other", "word"),
    [
        (2, None, "running"),
        (3, None, "off"),
        (4, None, "stopping"),
        (6, None, "saved"),
        (9, None, "paused"),
        (10, None, "starting"),
        (1, "Saving", "saving"),
        (1, "Quiescing", "pausing"),
        (1, "Brewing", "unknown (Brewing)"),
        (1, None, "unknown (1)"),
        (4711, None, "unknown (4711)"),
        (None, None, "unknown (not told)"),
    ],
)
def test_a_state_is_a_word_and_an_unknown_one_stays_visible(state: int | None, other: str | None, word: str) -> None:
    row = CimInstance("Msvm_ComputerSystem", VIRTUALIZATION, {"EnabledState": state, "OtherEnabledState": other})
    assert topology.vm_state(row) == word


@pytest.mark.parametrize(
    ("mode", "state", "mode_word", "state_word", "is_replica"),
    [
        (0, 0, "none", "disabled", False),
        (1, 3, "primary", "replicating", False),
        (2, 3, "replica", "replicating", True),
        (3, 0, "test_replica", "disabled", True),
        (4, 8, "extended_replica", "critical", True),
        (9, 99, "unknown (9)", "unknown (99)", False),
    ],
)
def test_replicas_are_told_apart_from_primaries(
    mode: int, state: int, mode_word: str, state_word: str, is_replica: bool
) -> None:
    world = HostWorld()
    world.vm("db01", ReplicationMode=mode, ReplicationState=state)
    replication = vm_named(world, "db01").replication
    assert (replication.mode, replication.state, replication.is_replica) == (mode_word, state_word, is_replica)


def test_virtual_fibre_channel_ports_are_listed_with_their_san() -> None:
    world = HostWorld()
    vm_id = world.vm("db01")
    port_id = f"Microsoft:{vm_id}\\{guid('port')}"
    world.store.add(
        VIRTUALIZATION,
        "Msvm_SyntheticFcPortSettingData",
        InstanceID=port_id,
        VirtualPortWWPN="C003FF0000FFFF00",
        SecondaryWWPN="C003FF0000FFFF01",
    )
    world.store.add(VIRTUALIZATION, "Msvm_VirtualFcSwitch", Name="abc", ElementName="Fabric Ä")
    world.store.add(
        VIRTUALIZATION,
        "Msvm_FcPortAllocationSettingData",
        InstanceID=port_id + "\\C",
        Parent=wmi_path("Msvm_SyntheticFcPortSettingData", InstanceID=port_id),
        HostResource=[wmi_path("Msvm_VirtualFcSwitch", CreationClassName="Msvm_VirtualFcSwitch", Name="ABC")],
    )
    ports = vm_named(world, "db01").fibre_channel_ports
    assert [(port.wwpn, port.secondary_wwpn, port.san) for port in ports] == [
        ("C003FF0000FFFF00", "C003FF0000FFFF01", "Fabric Ä")
    ]


def test_what_the_guest_tells_its_host_is_shown() -> None:
    world = HostWorld()
    vm_id = world.vm("db01")

    def item(name: str, data: str) -> CimInstance:
        return CimInstance("Msvm_KvpExchangeDataItem", VIRTUALIZATION, {"Name": name, "Data": data})

    world.store.add(
        VIRTUALIZATION,
        "Msvm_KvpExchangeComponent",
        SystemName=vm_id.lower(),
        GuestIntrinsicExchangeItems=[
            item("FullyQualifiedDomainName", "db01.example.com"),
            item("OSName", "Windows Server 2022 Standard"),
            item("OSVersion", "10.0.20348"),
            item("NetworkAddressIPv4", "192.0.2.5;192.0.2.6"),
            item("NetworkAddressIPv6", "fe80::1"),
        ],
    )
    world.store.add(VIRTUALIZATION, "Msvm_HeartbeatComponent", SystemName=vm_id, OperationalStatus=[2, 2])
    world.store.add(VIRTUALIZATION, "Msvm_VssComponent", SystemName=vm_id, OperationalStatus=[12])
    guest = vm_named(world, "db01").guest
    assert (guest.fqdn, guest.heartbeat, guest.vss_state) == ("db01.example.com", "ok", "no_contact")
    assert guest.ip_addresses == ("192.0.2.5", "192.0.2.6", "fe80::1")


def test_a_vm_without_integration_services_has_no_guest_facts() -> None:
    world = HostWorld()
    world.vm("db01", state=3)
    guest = vm_named(world, "db01").guest
    assert (guest.heartbeat, guest.fqdn, guest.ip_addresses) == (None, None, ())


def test_a_vm_without_settings_is_listed_with_a_warning() -> None:
    world = HostWorld()
    world.vm("broken", settings=False, HealthState=25)
    vm = vm_named(world, "broken")
    assert (vm.generation, vm.version, vm.health) == (None, None, "critical_failure")
    assert "no settings" in vm.problems[0]
    assert "critical_failure" in vm.problems[1]


def test_settings_of_a_vm_read_like_powershell() -> None:
    world = HostWorld()
    world.vm("db01", OperationalStatus=[11, 32772])
    vm = vm_named(world, "db01")
    assert (vm.automatic_start_action, vm.automatic_stop_action) == ("StartIfRunning", "ShutDown")
    assert (vm.busy, vm.generation, vm.version, vm.notes) == ("merging_disks", 2, "10.0", "")
    assert vm.configuration.file == f"Virtual Machines\\{vm.id}.vmcx"


# --- Odd names ----------------------------------------------------------------------------------------------------

ODD_NAMES = [
    "db 01, 'primary'",
    'the "big" one',
    "100%_sure",
    "R&D <test>",
    "back\\slash",
    "Größe-Übung",
    "数据库",
    "{{ 7*7 }}",
    "{% raw %}",
    "$(whoami)",
    "a' OR ElementName LIKE '%",
    " blanks around ",
]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_vm_of_any_name_is_found_by_it_and_nothing_else_is(name: str) -> None:
    world = HostWorld()
    path = f"D:\\VM\\{name}\\disk 'a'.vhdx"
    for one in (name, "other"):
        world.vhd(world.controller(world.vm(one)), 0, path if one == name else "D:\\other.vhdx")
    view = observe_host(world.store, vms=[name])
    assert [(vm.name, vm.disks[0].path) for vm in view.vms] == [(name, path)]


def test_vms_are_found_by_name_in_any_case_or_by_guid_in_any_spelling() -> None:
    world = HostWorld()
    vm_id = world.vm("DB01")
    for wanted in ("db01", vm_id, vm_id.lower(), "{" + vm_id + "}"):
        assert [vm.id for vm in observe_host(world.store, vms=[wanted]).vms] == [vm_id]
    assert [vm.id for vm in observe_host(world.store, vms=["db01", vm_id]).vms] == [vm_id]


def test_a_vm_whose_name_is_the_guid_of_another_is_never_taken_for_it() -> None:
    world = HostWorld()
    vm_id = world.vm("db01")
    world.vm(vm_id, vm_id=guid("impostor"))
    assert [vm.name for vm in observe_host(world.store, vms=[vm_id]).vms] == ["db01"]


def test_an_unknown_vm_lists_what_there_is_with_the_likeliest_first() -> None:
    world = HostWorld()
    for name in ("zebra", "db01", "db02"):
        world.vm(name)
    with pytest.raises(NotFound) as caught:
        observe_host(world.store, vms=["db0l"])
    assert caught.value.kind == "unknown_vm"
    candidates = caught.value.details["candidates"]
    assert isinstance(candidates, list)
    assert {one["name"] for one in candidates[:2]} == {"db01", "db02"}
    assert candidates[2] == {"name": "zebra", "id": guid("zebra")}
    assert guid("db01") in str(caught.value)


def test_two_vms_of_one_name_are_listed_with_their_guids() -> None:
    world = HostWorld()
    world.vm("db01")
    world.vm("DB01", vm_id=guid("second"))
    with pytest.raises(Ambiguous) as caught:
        observe_host(world.store, vms=["db01"])
    assert caught.value.kind == "ambiguous_vm"
    assert guid("db01") in str(caught.value)
    assert guid("second") in str(caught.value)
    assert [vm.id for vm in observe_host(world.store, vms=[guid("second")]).vms] == [guid("second")]


def test_no_vm_at_all_may_be_asked_for() -> None:
    world = HostWorld()
    world.vm("db01")
    view = observe_host(world.store, vms=[])
    assert view.vms == ()
    assert [lun.number for lun in view.luns] == [0]


# --- Some VMs of many ---------------------------------------------------------------------------------------------


def crowded(count: int) -> HostWorld:
    world = HostWorld()
    world.lun(5, unique_id=NAA)
    for index in range(count):
        vm_id = world.vm(f"vm{index:03}")
        scsi = world.controller(vm_id)
        world.vhd(scsi, 0, f"D:\\VM\\{index}.vhdx")
        world.store.add(VIRTUALIZATION, "Msvm_HeartbeatComponent", SystemName=vm_id, OperationalStatus=[2])
        if index in (0, 1):
            world.pass_through(scsi, 1, "5")
    return world


def test_the_number_of_questions_does_not_grow_with_the_vms() -> None:
    asked = {}
    for count in (2, 50, 400):
        world = crowded(count)
        observe_host(world.store)
        asked[count] = len(world.store.queries) + len(world.store.calls)
    assert asked[2] == asked[50] == asked[400]
    assert asked[2] <= 16


def test_one_vm_costs_the_same_on_a_host_of_any_size() -> None:
    cost = {}
    for count in (3, 400):
        world = crowded(count)
        view = observe_host(world.store, vms=["vm000"])
        assert [vm.name for vm in view.vms] == ["vm000"]
        cost[count] = (len(world.store.queries), world.store.rows_given)
    assert cost[3] == cost[400]


def classes_asked(world: HostWorld, **arguments: Any) -> set[str]:
    world.store.queries.clear()
    observe_host(world.store, **arguments)
    return {class_name for _namespace, class_name, _where in world.store.queries}


def test_what_only_running_guests_have_is_asked_for_only_when_one_runs() -> None:
    components = {"Msvm_KvpExchangeComponent", "Msvm_VssComponent", "Msvm_HeartbeatComponent"}
    world = HostWorld()
    world.vm("off", state=3)
    world.vm("saved", state=6)
    assert not components & classes_asked(world)
    world.vm("paused", state=9)
    assert components < classes_asked(world)
    assert components < classes_asked(world, vms=["paused", "off"])
    assert not components & classes_asked(world, vms=["off", "saved"])


def test_the_hosts_disk_drives_are_asked_for_only_when_a_vm_has_a_pass_through_disk() -> None:
    world = HostWorld()
    world.lun(5, unique_id=NAA)
    scsi = world.controller(world.vm("db01"))
    world.vhd(scsi, 0, "D:\\VM\\0.vhdx")
    assert "Msvm_DiskDrive" not in classes_asked(world)
    world.pass_through(scsi, 1, "5")
    assert "Msvm_DiskDrive" in classes_asked(world)


def test_a_lun_shows_vms_that_were_not_asked_for() -> None:
    world = crowded(3)
    (lun,) = [one for one in observe_host(world.store, vms=["vm000"]).luns if one.number == 5]
    assert sorted(one.vm_name or "" for one in lun.attached_to) == ["vm000", "vm001"]
    other = next(one for one in lun.attached_to if one.vm_name == "vm001")
    assert (other.slot.controller_number, other.slot.controller_location) == (None, 1)


def test_some_vms_read_the_same_as_in_the_whole() -> None:
    world = crowded(45)
    wanted = [f"vm{index:03}" for index in range(41)]
    whole = {vm.id: vm for vm in observe_host(world.store).vms}
    some = observe_host(world.store, vms=wanted)
    assert len(some.vms) == 41
    assert all(whole[vm.id] == vm for vm in some.vms)


def test_a_host_that_refuses_filters_is_read_whole_and_filtered_here() -> None:
    world = crowded(4)
    expected = observe_host(world.store, vms=["vm002"])
    world.store.refuses_filters = True
    assert observe_host(world.store, vms=["vm002"]).vms == expected.vms
    assert len(observe_host(world.store).vms) == 4


class CountingProperties(dict[str, Value]):
    """A property mapping that counts how often it is read."""

    reads = 0

    def get(self, key: str, default: Any = None) -> Any:
        CountingProperties.reads += 1
        return super().get(key, default)


def counted(rows: list[CimInstance]) -> Iterator[CimInstance]:
    for row in rows:
        copy = replace(row)
        copy.__dict__["properties"] = CountingProperties(row.properties)
        yield copy


def test_joining_400_vms_reads_rows_in_proportion() -> None:
    def reads(count: int) -> int:
        rows = crowded(count).store.rows
        given: Mapping[str, list[CimInstance]] = {
            name: list(counted(rows.get((namespace, class_name), [])))
            for name, namespace, class_name in (
                ("systems", VIRTUALIZATION, "Msvm_ComputerSystem"),
                ("settings", VIRTUALIZATION, "Msvm_VirtualSystemSettingData"),
                ("resources", VIRTUALIZATION, "Msvm_ResourceAllocationSettingData"),
                ("storage", VIRTUALIZATION, "Msvm_StorageAllocationSettingData"),
                ("disk_drives", VIRTUALIZATION, "Msvm_DiskDrive"),
                ("disks", STORAGE, "MSFT_Disk"),
                ("volumes", CIMV2, "Win32_Volume"),
                ("heartbeats", VIRTUALIZATION, "Msvm_HeartbeatComponent"),
            )
        }
        machine = MachineFacts(
            computer_name=HOST,
            os_caption="",
            os_version="",
            os_build=0,
            is_server=True,
            is_domain_controller=False,
            system_directory="",
            utc=CLOCK,
        )
        CountingProperties.reads = 0
        view = topology.build_host_view(
            topology.HostRows(machine=machine, cluster=ClusterMembership(member=False), **given)
        )
        assert len(view.vms) == count
        return CountingProperties.reads

    small, large = reads(100), reads(400)
    assert small > 1000
    assert large < 4.2 * small


# --- The host itself, and refusals --------------------------------------------------------------------------------


def test_the_host_is_described_with_its_own_clock_in_utc() -> None:
    host = observe_host(HostWorld().store).to_dict()["host"]
    assert host == {
        "name": HOST,
        "os_caption": "Microsoft Windows Server 2022 Datacenter",
        "os_version": "10.0.20348",
        "os_build": 20348,
        "is_server": True,
        "utc": "2026-11-22T09:30:00Z",
        "cluster": {"member": False, "name": None},
        "disk_policy": "OfflineShared",
    }


def test_a_view_is_json() -> None:
    world = crowded(2)
    world.checkpoint(guid("vm000"), "c")
    whole = observe_host(world.store).to_dict()
    assert json.loads(json.dumps(whole)) == whole
    assert set(whole) == {"host", "luns", "vms", "problems"}


@pytest.mark.parametrize("how", ["absent", "broken"])
def test_a_machine_without_the_role_is_told_from_one_whose_service_is_down(how: str) -> None:
    """Windows says "not there" by several numbers; which one comes does not matter."""
    world = HostWorld()
    getattr(world.store, how).add(VIRTUALIZATION)
    with pytest.raises(Precondition) as caught:
        observe_host(world.store)
    assert caught.value.kind == "hyperv_unavailable"
    world.store.rows[CIMV2, "Win32_Service"].clear()
    with pytest.raises(Precondition) as caught:
        observe_host(world.store)
    assert caught.value.kind == "no_hyperv_role"


def test_a_host_that_is_only_busy_is_not_called_one_without_the_role() -> None:
    class Exhausted(CimStore):
        def query(self, namespace: str, class_name: str, **rest: Any) -> list[CimInstance]:
            if namespace == VIRTUALIZATION:
                raise QuotaExceeded("too many operations", code=2150859174)
            return super().query(namespace, class_name, **rest)

    exhausted = Exhausted()
    exhausted.__dict__.update(HostWorld().store.__dict__)
    with pytest.raises(QuotaExceeded):
        observe_host(exhausted)


@pytest.mark.parametrize("how", ["no rows", "denied", "all denied", "storage denied"])
def test_missing_rights_are_told_with_what_to_do(how: str) -> None:
    world = HostWorld()
    world.vm("db01")
    if how == "no rows":
        for key in [key for key in world.store.rows if key[0] == VIRTUALIZATION]:
            world.store.rows[key].clear()
    else:
        world.store.denied.add({"denied": VIRTUALIZATION, "all denied": CIMV2, "storage denied": STORAGE}[how])
    with pytest.raises(Precondition) as caught:
        observe_host(world.store)
    assert caught.value.kind == "rights_missing"
    assert "group" in str(caught.value)


def test_an_unreachable_host_is_never_taken_for_an_absent_feature() -> None:
    class Gone(CimStore):
        def query(self, namespace: str, class_name: str, **rest: Any) -> list[CimInstance]:
            if class_name == "Msvm_KvpExchangeComponent":
                raise RequestNotSent("no route to host")
            return super().query(namespace, class_name, **rest)

    world = HostWorld()
    world.vm("db01")
    gone = Gone()
    gone.__dict__.update(world.store.__dict__)
    with pytest.raises(RequestNotSent):
        observe_host(gone)


def test_integration_data_that_cannot_be_read_is_a_warning_and_no_failure() -> None:
    world = HostWorld()
    world.vm("db01")
    world.store.broken.add("Msvm_KvpExchangeComponent")
    view = observe_host(world.store)
    assert [vm.name for vm in view.vms] == ["db01"]
    assert any("Guest data" in problem for problem in view.problems)


# --- Clusters -----------------------------------------------------------------------------------------------------


def test_a_cluster_node_and_its_clustered_vms_are_told() -> None:
    world = HostWorld(cluster_service="Auto")
    names = ("by id", "by name", "by group", "free")
    ids = [world.vm(name) for name in names]
    world.store.add(CLUSTER, "MSCluster_Cluster", Name="CL1")
    for resource, group, vm_id in (
        ("Virtual Machine old name", "old name", ids[0].lower()),
        ("Virtual Machine by name", "g", None),
        ("x", "by group", None),
    ):
        properties = CimInstance("MSCluster_Property_Resource_Virtual_Machine", CLUSTER, {"VmID": vm_id})
        world.store.add(
            CLUSTER,
            "MSCluster_Resource",
            Name=resource,
            Type="Virtual Machine",
            OwnerGroup=group,
            PrivateProperties=properties if vm_id else None,
        )
    view = observe_host(world.store)
    assert (view.host.cluster.member, view.host.cluster.name) == (True, "CL1")
    assert {vm.name: vm.is_clustered for vm in view.vms} == {
        "by id": True,
        "by name": True,
        "by group": True,
        "free": False,
    }


@pytest.mark.parametrize(("start_mode", "member"), [("Auto", True), ("Manual", True), ("Disabled", False)])
def test_a_node_whose_cluster_does_not_answer_is_judged_by_its_service(start_mode: str, member: bool) -> None:
    world = HostWorld(cluster_service=start_mode)
    world.store.absent.add(CLUSTER)
    assert observe_host(world.store).host.cluster.member is member


def test_a_host_without_the_cluster_service_is_not_asked_for_its_cluster() -> None:
    world = HostWorld()
    observe_host(world.store)
    assert CLUSTER not in {namespace for namespace, _unused, _unused in world.store.queries}


# --- Details of VHDs ----------------------------------------------------------------------------------------------


def with_images(world: HostWorld, answers: Mapping[str, tuple[int, dict[str, Value]]]) -> None:
    """`answers` by path for the setting data; the state is always the same."""

    def setting(target: CimPath, given: Mapping[str, Value]) -> tuple[int, dict[str, Value]]:
        assert target.keys == {"CreationClassName": "Msvm_ImageManagementService"}
        return answers[str(given["Path"])]

    state = CimInstance("Msvm_VirtualHardDiskState", VIRTUALIZATION, {"FileSize": 4096})
    world.store.on("Msvm_ImageManagementService", "GetVirtualHardDiskSettingData", setting)
    world.store.on(
        "Msvm_ImageManagementService", "GetVirtualHardDiskState", lambda target, given: (0, {"State": state})
    )


def setting_data(**properties: Value) -> CimInstance:
    return CimInstance("Msvm_VirtualHardDiskSettingData", VIRTUALIZATION, properties)


@pytest.mark.parametrize("method", ["GetVirtualHardDiskSettingData", "GetVirtualHardDiskState"])
def test_a_host_that_cannot_tell_a_vhd_now_is_not_taken_for_one_without_details(method: str) -> None:
    world = HostWorld()
    world.vhd(world.controller(world.vm("db01")), 0, "D:\\a.vhdx")
    with_images(world, {"D:\\a.vhdx": (0, {"SettingData": setting_data(Type=2, Format=3)})})

    def refused(_target: CimPath, _given: Mapping[str, Value]) -> tuple[int, dict[str, Value]]:
        raise QuotaExceeded("too many operations", code=2150859174)

    world.store.on("Msvm_ImageManagementService", method, refused)
    with pytest.raises(QuotaExceeded):
        disk_of(world, vhd_details=True)


@pytest.mark.parametrize(
    ("number", "file_type"), [(2, "fixed"), (3, "dynamic"), (4, "differencing"), (9, "unknown (9)")]
)
def test_vhd_details_are_read_once_per_file_when_asked(number: int, file_type: str) -> None:
    world = HostWorld()
    vm_id = world.vm("db01")
    scsi = world.controller(vm_id)
    world.vhd(scsi, 0, "D:\\a.vhdx")
    world.vhd(world.controller(world.checkpoint(vm_id, "c")), 0, "D:\\old.vhdx")
    disk_id = "{00112233-4455-6677-8899-aabbccddeeff}"
    data = setting_data(
        Type=number, Format=3, MaxInternalSize=2**30, VirtualDiskId=disk_id, ParentPath="", LogicalSectorSize=512
    )
    with_images(world, {"D:\\a.vhdx": (0, {"SettingData": data})})
    disk = disk_of(world, vhd_details=True)
    assert disk.vhd is not None
    assert (disk.vhd.type, disk.vhd.format, disk.size_bytes, disk.vhd.file_size_bytes) == (
        file_type,
        "VHDX",
        2**30,
        4096,
    )
    assert (disk.vhd.id, disk.vhd.parent_path) == (disk_id.strip("{}").upper(), None)
    assert "60022480332211005544AABBCCDDEEFF" in disk.vhd.unique_ids
    assert [method for _unused, method, _unused in world.store.calls].count("GetVirtualHardDiskSettingData") == 1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((32779, {}), "does not exist"),
        ((4096, {}), "in a job"),
        ((32769, {}), "answered 32769"),
        ((0, {"SettingData": None}), "answered 0"),
    ],
)
def test_vhd_details_that_cannot_be_read_are_told_beside_what_the_name_tells(
    answer: tuple[int, dict[str, Value]], said: str
) -> None:
    world = HostWorld()
    world.vhd(world.controller(world.vm("db01")), 0, "D:\\a.avhdx")
    with_images(world, {"D:\\a.avhdx": answer})
    disk = disk_of(world, vhd_details=True)
    assert disk.vhd is not None
    assert (disk.vhd.type, disk.vhd.format, disk.vhd.id) == ("differencing", "VHDX", None)
    assert disk.vhd.problem is not None
    assert said in disk.vhd.problem
    assert any(said in problem for problem in vm_problems(world))


def test_vhd_details_that_come_beside_a_job_count() -> None:
    world = HostWorld()
    world.vhd(world.controller(world.vm("db01")), 0, "D:\\a.vhdx")
    with_images(world, {"D:\\a.vhdx": (4096, {"SettingData": setting_data(Type=2, Format=3)})})
    disk = disk_of(world, vhd_details=True)
    assert disk.vhd is not None
    assert (disk.vhd.type, disk.vhd.problem) == ("fixed", None)


def vm_problems(world: HostWorld) -> tuple[str, ...]:
    return observe_host(world.store, vhd_details=True).vms[0].problems


def test_without_details_no_file_is_asked_for() -> None:
    world = HostWorld()
    world.vhd(world.controller(world.vm("db01")), 0, "D:\\a.vhdx")
    disk = disk_of(world)
    assert disk.vhd is not None
    assert (disk.vhd.type, disk.vhd.size_bytes, disk.size_bytes) == (None, None, None)
    assert [method for _unused, method, _unused in world.store.calls] == ["Get"]


def test_a_machine_that_tells_no_clock_is_an_error_with_a_sentence() -> None:
    world = HostWorld()
    row = world.store.rows[CIMV2, "Win32_OperatingSystem"].pop()
    with pytest.raises(HypervError, match="no instance"):
        observe_host(world.store)
    world.store.add(CIMV2, "Win32_OperatingSystem", **{**row.properties, "LocalDateTime": None})
    with pytest.raises(HypervError, match="LocalDateTime"):
        observe_host(world.store)
