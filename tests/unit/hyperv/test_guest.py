# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Observing a Windows guest: every kind of disk, what lives on it, and guests that lack a feature."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

import pytest

from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv import (
    GuestDisk,
    GuestView,
    GuestVolume,
    HypervError,
    Precondition,
    file_evidence,
    list_root,
    observe_guest,
)
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv import guest as guest_module
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.schema import BITLOCKER, CIMV2, STORAGE
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._wsman import (
    CimPath,
    NotFound,
    OperationTimedOut,
    QuotaExceeded,
    Value,
    WsmanFault,
)
from unit.hyperv.cim_store import CimStore

VM_ID = "0F6A0B3C-1111-2222-3333-444455556666"
BASIC = "{ebd0a0a2-b9e5-4433-87c0-68b6b72699c7}"
MSR = "{e3c9e316-0b5c-4db8-817d-f92df00215ae}"
LDM = "{af9b60a0-1431-4f62-bc68-3311714a69ad}"
NAA = "600A098038303053743F463045727A39"
VHD_ID = "60022480495F67CBC95FD232E88561A7"
IQN = "iqn.1992-08.com.netapp:sn.1:vs.3"


class GuestWorld:
    """A guest as CIM rows and registry values."""

    def __init__(self, *, product_type: int = 3, services: Mapping[str, tuple[str, str]] | None = None) -> None:
        self.store = CimStore()
        self.registry: dict[tuple[str, str], str] = {
            ("SOFTWARE\\Microsoft\\Virtual Machine\\Guest\\Parameters", "VirtualMachineId"): VM_ID.lower(),
            ("SOFTWARE\\Microsoft\\Virtual Machine\\Guest\\Parameters", "VirtualMachineName"): "db 01, Größe",
            ("SOFTWARE\\Microsoft\\Virtual Machine\\Guest\\Parameters", "PhysicalHostName"): "HV01",
        }
        self.store.add(
            CIMV2,
            "Win32_OperatingSystem",
            CSName="DB01",
            Caption="Microsoft Windows Server 2022 Standard",
            Version="10.0.20348",
            BuildNumber="20348",
            ProductType=product_type,
            LocalDateTime=datetime(2026, 11, 22, 9, 0, tzinfo=timezone.utc),
            SystemDirectory="C:\\Windows\\system32",
        )
        for name, (state, start_mode) in (services or {}).items():
            self.store.add(CIMV2, "Win32_Service", Name=name, State=state, StartMode=start_mode)
        self.store.on("StdRegProv", "GetStringValue", self._string_value)

    def _string_value(self, target: CimPath, given: Mapping[str, Value]) -> tuple[int, dict[str, Value]]:
        assert given["hDefKey"] == 0x80000002
        value = self.registry.get((str(given["sSubKeyName"]), str(given["sValueName"])))
        return (0, {"sValue": value}) if value is not None else (2, {"sValue": None})

    def disk(self, number: int | None, **properties: Value) -> None:
        given: dict[str, Value] = {
            "ObjectId": f"disk{number}",
            "Number": number,
            "UniqueIdFormat": 3,
            "Size": 10 * 2**30,
            "PartitionStyle": 2,
            "IsOffline": False,
            **properties,
        }
        self.store.add(STORAGE, "MSFT_Disk", **given)

    def vhd(self, number: int, **properties: Value) -> None:
        given: dict[str, Value] = {
            "BusType": 10,
            "Manufacturer": "Msft    ",
            "Model": "Virtual Disk    ",
            "UniqueId": VHD_ID,
            **properties,
        }
        self.disk(number, **given)

    def lun(self, number: int, **properties: Value) -> None:
        given: dict[str, Value] = {
            "BusType": 10,
            "Manufacturer": "NETAPP  ",
            "Model": "LUN C-Mode      ",
            "UniqueId": NAA,
            **properties,
        }
        self.disk(number, **given)

    def partition(
        self, disk: int, number: int, *, volume: str | None = None, letter: str = "", **properties: Value
    ) -> None:
        paths = ([f"{letter}:\\"] if letter else []) + ([volume] if volume else [])
        given: dict[str, Value] = {
            "DiskNumber": disk,
            "PartitionNumber": number,
            "GptType": BASIC,
            "Offset": number * 2**20,
            "Size": 2**30,
            "DriveLetter": letter or None,
            "AccessPaths": paths,
            **properties,
        }
        self.store.add(STORAGE, "MSFT_Partition", **given)

    def volume(self, name: str, **properties: Value) -> str:
        path = f"\\\\?\\Volume{{{name}}}\\"
        given: dict[str, Value] = {
            "FileSystem": "NTFS",
            "FileSystemLabel": "Daten Ä",
            "Size": 1000,
            "SizeRemaining": 400,
            "AllocationUnitSize": 65536,
            **properties,
        }
        self.store.add(STORAGE, "MSFT_Volume", Path=path, **given)
        self.store.add(
            CIMV2,
            "Win32_Volume",
            DeviceID=path.upper(),
            Capacity=1000,
            FreeSpace=400,
            BlockSize=65536,
            SerialNumber=0xA1B2C3D4,
            DriveType=3,
            FileSystem=given["FileSystem"],
            Name=path,
        )
        return path

    def view(self) -> GuestView:
        return observe_guest(self.store)

    def only_disk(self) -> GuestDisk:
        (disk,) = self.view().disks
        return disk


# --- Kinds of disks -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "properties"),
    [
        (
            "virtual_hard_disk",
            {"BusType": 10, "Manufacturer": "Msft    ", "Model": "Virtual Disk    ", "UniqueId": VHD_ID},
        ),
        ("virtual_hard_disk", {"BusType": 10, "UniqueId": "4D53465420202020" + "A" * 32, "UniqueIdFormat": 1}),
        ("virtual_hard_disk", {"BusType": 3, "Model": "Virtual HD", "UniqueId": "IDE\\DISKVIRTUAL_HD_1.1.0:DB01"}),
        ("pass_through", {"BusType": 10, "Manufacturer": "NETAPP  ", "Model": "LUN C-Mode", "UniqueId": NAA}),
        ("pass_through", {"BusType": 10, "Manufacturer": "MSFT    ", "Model": "Virtual HD", "UniqueId": NAA}),
        ("pass_through", {"BusType": 3, "Model": "SEAGATE", "UniqueId": "IDE\\DISKSEAGATE:DB01"}),
        ("iscsi", {"BusType": 9, "Manufacturer": "MSFT    ", "Model": "Virtual HD", "UniqueId": NAA}),
        ("virtual_fibre_channel", {"BusType": 6, "Manufacturer": "NETAPP", "UniqueId": NAA}),
        ("storage_space", {"BusType": 16, "Manufacturer": "Msft    ", "Model": "Storage Space", "UniqueId": NAA}),
        (
            "mounted_virtual_hard_disk",
            {"BusType": 15, "Manufacturer": "Msft    ", "Model": "Virtual Disk", "UniqueId": VHD_ID},
        ),
        ("unknown", {"BusType": 17, "Manufacturer": "Intel", "UniqueId": NAA}),
        ("unknown", {"BusType": 99, "UniqueId": NAA}),
        ("unknown", {"BusType": None, "UniqueId": NAA}),
    ],
)
def test_a_disk_is_told_by_bus_and_maker(kind: str, properties: dict[str, Any]) -> None:
    world = GuestWorld()
    world.store.add(STORAGE, "MSFT_InitiatorPort", ConnectionType=1, NodeAddress="20", PortAddress="c003ff")
    world.disk(1, **properties)
    assert world.only_disk().kind == kind


def test_a_fibre_channel_disk_without_an_initiator_port_is_unknown() -> None:
    world = GuestWorld()
    world.store.add(STORAGE, "MSFT_InitiatorPort", ConnectionType=2, NodeAddress="iqn.x")
    world.disk(1, BusType=6, UniqueId=NAA)
    view = world.view()
    assert (view.disks[0].kind, view.fibre_channel_initiators) == ("unknown", ())


@pytest.mark.parametrize("as_reference", [True, False])
def test_an_iscsi_disk_names_its_target(as_reference: bool) -> None:
    world = GuestWorld(services={"MSiSCSI": ("Running", "Auto")})
    world.disk(3, BusType=9, UniqueId=NAA, ObjectId='{1}\\\\DB01\\root:WSP_Disk.ObjectId="a"')
    session = world.store.add(
        STORAGE,
        "MSFT_iSCSISession",
        SessionIdentifier="ffff990fafe34010-4000013700000006",
        TargetNodeAddress=IQN,
        InitiatorNodeAddress="iqn.1991-05.com.microsoft:db01",
        AuthenticationType="ONEWAYCHAP",
        IsConnected=True,
        IsPersistent=True,
    )
    disk = world.store.rows[STORAGE, "MSFT_Disk"][0]
    ends: dict[str, Value] = {"Disk": disk, "iSCSISession": session}
    if as_reference:
        ends = {
            "Disk": CimPath(STORAGE, "MSFT_Disk", {"ObjectId": str(disk["ObjectId"])}),
            "iSCSISession": CimPath(
                STORAGE, "MSFT_iSCSISession", {"SessionIdentifier": "FFFF990FAFE34010-4000013700000006"}
            ),
        }
    world.store.add(STORAGE, "MSFT_iSCSISessionToDisk", **ends)
    world.store.add(STORAGE, "MSFT_iSCSITargetPortal", TargetPortalAddress="192.0.2.10", TargetPortalPortNumber=3260)
    view = world.view()
    assert view.disks[0].iscsi is not None
    assert view.disks[0].iscsi.target == IQN
    assert view.disks[0].iscsi.authentication == "ONEWAYCHAP"
    assert [(one.address, one.port) for one in view.disks[0].iscsi.portals] == [("192.0.2.10", 3260)]
    assert [(one.target, one.is_connected, one.is_persistent) for one in view.iscsi_sessions] == [(IQN, True, True)]


@pytest.mark.parametrize("services", [{}, {"MSiSCSI": ("Stopped", "Manual")}])
def test_a_guest_whose_iscsi_service_does_not_run_is_not_asked_for_sessions(
    services: dict[str, tuple[str, str]],
) -> None:
    world = GuestWorld(services=services)
    world.store.broken.update({"MSFT_iSCSISession", "MSFT_iSCSISessionToDisk"})
    world.disk(1, BusType=9, UniqueId=NAA)
    view = world.view()
    assert (view.disks[0].kind, view.disks[0].iscsi, view.iscsi_sessions) == ("iscsi", None, ())
    assert view.problems == ()


def test_sessions_that_cannot_be_read_are_a_warning() -> None:
    world = GuestWorld(services={"MSiSCSI": ("Running", "Auto")})
    world.store.broken.update({"MSFT_iSCSISession", "MSFT_iSCSISessionToDisk"})
    assert len(world.view().problems) == 2


@pytest.mark.parametrize(
    ("partition", "is_dynamic"),
    [({"GptType": LDM}, True), ({"GptType": "", "MbrType": 0x42}, True), ({"GptType": BASIC}, False)],
)
def test_a_dynamic_disk_is_told_by_its_partition_types(partition: dict[str, Any], is_dynamic: bool) -> None:
    world = GuestWorld()
    world.lun(1)
    world.partition(1, 1, GptType=MSR)
    world.partition(1, 2, **{**partition, "GptType": partition["GptType"].upper()})
    assert world.only_disk().is_dynamic is is_dynamic


def test_pool_members_are_disks_even_where_windows_hides_them() -> None:
    world = GuestWorld()
    world.vhd(0)
    world.disk(7, BusType=16, UniqueId="space", Model="Storage Space", Manufacturer="Msft    ")
    pool = {"UniqueId": "{POOL-1}", "FriendlyName": "Pool Ä", "Size": 5}
    world.store.add(STORAGE, "MSFT_StoragePool", IsPrimordial=True, UniqueId="{prim}", FriendlyName="Primordial")
    world.store.add(STORAGE, "MSFT_StoragePool", IsPrimordial=False, **pool)
    for device, unique_id, reasons in (("0", VHD_ID, [5]), ("2", NAA, [2]), ("7", "space", [2])):
        world.store.add(
            STORAGE,
            "MSFT_PhysicalDisk",
            DeviceId=device,
            UniqueId=unique_id,
            UniqueIdFormat=3,
            CannotPoolReason=reasons,
            BusType=10,
            Manufacturer="NETAPP",
            Model="LUN",
            Size=2**30,
            StoragePoolUniqueId="{pool-1}",
            PhysicalLocation="Integrated : Adapter 2 : Port 0 : Target 0 : LUN 4",
        )
    view = world.view()
    told = {disk.number: (disk.kind, disk.in_storage_pool) for disk in view.disks}
    assert told == {0: ("virtual_hard_disk", False), 7: ("storage_space", True), 2: ("pass_through", True)}
    hidden = next(disk for disk in view.disks if disk.number == 2)
    assert (hidden.scsi_lun, hidden.size_bytes, hidden.unique_id) == (4, 2**30, NAA)
    assert [(one.name, one.member_unique_ids) for one in view.storage_pools] == [("Pool Ä", (NAA, "space"))]


def test_a_disk_keeps_what_host_and_guest_agree_by() -> None:
    world = GuestWorld()
    world.lun(
        4,
        SerialNumber=" wOj6X \0",
        Guid="{ABC}",
        IsOffline=True,
        OfflineReason=4,
        IsReadOnly=True,
        Location="Integrated : Bus 0 : Device 8331 : Function 65486 : Adapter 2 : Port 0 : Target 0 : LUN 12",
    )
    disk = world.only_disk()
    assert (disk.serial_number, disk.guid, disk.scsi_lun, disk.size_bytes) == ("wOj6X", "{abc}", 12, 10 * 2**30)
    assert (disk.is_offline, disk.offline_reason, disk.is_read_only) == (True, "Collision", True)
    assert (disk.manufacturer, disk.model) == ("NETAPP", "LUN C-Mode")
    assert disk.weak_identity is False


# --- Volumes ------------------------------------------------------------------------------------------------------


def test_volumes_are_joined_by_their_volume_path_whatever_its_case() -> None:
    world = GuestWorld()
    world.lun(1)
    path = world.volume("aaaa")
    world.partition(1, 1, GptType=MSR)
    world.partition(1, 2, volume=path.upper(), letter="e", IsBoot=True)
    (volume,) = world.only_disk().volumes
    assert (volume.letter, volume.access_paths, volume.label) == ("E", ("e:\\",), "Daten Ä")
    assert (volume.size_bytes, volume.used_bytes, volume.serial_number) == (1000, 600, 0xA1B2C3D4)
    assert (volume.file_system, volume.allocation_unit_bytes, volume.partition_number) == ("NTFS", 65536, 2)
    assert (volume.is_boot, volume.is_system, volume.bitlocker) == (True, False, None)


def test_a_volume_without_a_letter_may_have_mount_folders() -> None:
    world = GuestWorld()
    world.lun(1)
    path = world.volume("aaaa")
    world.partition(1, 1, AccessPaths=["C:\\mount\\Größe & co\\", path])
    (volume,) = world.only_disk().volumes
    assert (volume.letter, volume.access_paths) == (None, ("C:\\mount\\Größe & co\\",))
    assert volume.root() == "C:\\mount\\Größe & co\\"


@pytest.mark.parametrize("letter", [None, "", "\0", "0"])
def test_no_letter_has_many_spellings(letter: str | None) -> None:
    world = GuestWorld()
    world.lun(1)
    world.partition(1, 1, volume=world.volume("aaaa"), DriveLetter=letter)
    (volume,) = world.only_disk().volumes
    assert (volume.letter, volume.root()) == (None, None)


def test_a_data_partition_without_a_volume_is_shown_and_others_are_not() -> None:
    world = GuestWorld()
    world.lun(1)
    world.partition(1, 1, GptType=MSR)
    world.partition(1, 2)
    (volume,) = world.only_disk().volumes
    assert (volume.path, volume.file_system, volume.size_bytes, volume.used_bytes) == (None, None, 2**30, None)


@pytest.mark.parametrize(("mbr_type", "count"), [(7, 1), (12, 1), (5, 0), (0xEE, 0), (0x42, 0), (0, 0)])
def test_mbr_partitions_count_by_type(mbr_type: int, count: int) -> None:
    world = GuestWorld()
    world.lun(1, PartitionStyle=1, Signature=7)
    world.partition(1, 1, GptType=None, MbrType=mbr_type)
    assert len(world.only_disk().volumes) == count


def test_the_whole_partition_table_is_told_in_the_order_of_the_disk() -> None:
    world = GuestWorld()
    world.lun(1)
    world.partition(1, 2, volume=world.volume("bbbb"), Offset=17 * 2**20)
    world.partition(1, 1, GptType=MSR, Offset=2**20)
    table = world.only_disk().partitions
    assert [(one.number, one.offset_bytes) for one in table] == [(1, 2**20), (2, 17 * 2**20)]
    assert table[0].gpt_type == MSR.lower()


def test_an_offline_disk_shows_no_volumes() -> None:
    world = GuestWorld()
    world.lun(1, IsOffline=True)
    world.partition(1, 1)
    assert world.only_disk().volumes == ()


def test_volumes_come_in_the_order_of_the_disk() -> None:
    world = GuestWorld()
    world.lun(1)
    for number, name in ((2, "bbbb"), (1, "aaaa")):
        world.partition(1, number, volume=world.volume(name))
    assert [volume.partition_number for volume in world.only_disk().volumes] == [1, 2]


def test_fixed_volumes_that_no_disk_claims_are_told_and_others_are_not() -> None:
    world = GuestWorld()
    path = world.volume("dyn")
    world.store.add(CIMV2, "Win32_Volume", DeviceID="\\\\?\\Volume{cd}\\", Name="F:\\", DriveType=5)
    view = world.view()
    assert [volume.path for volume in view.volumes_without_disk] == [path.upper()]


@pytest.mark.parametrize(
    ("protection", "lock_answer", "told"),
    [
        (0, (0, {"LockStatus": 1}), ("off", "unlocked")),
        (1, (0, {"LockStatus": 0}), ("on", "unlocked")),
        (2, (0, {"LockStatus": 1}), ("unknown", "locked")),
        (1, (0, {"LockStatus": None}), ("on", "unknown")),
        (1, None, ("on", "unknown")),
        (7, (0, {"LockStatus": 0}), ("unknown (7)", "unlocked")),
    ],
)
def test_bitlocker_state_is_read_per_volume(protection: int, lock_answer: Any, told: tuple[str, str]) -> None:
    world = GuestWorld()
    world.lun(1)
    path = world.volume("aaaa")
    world.partition(1, 1, volume=path)
    world.store.add(BITLOCKER, "Win32_EncryptableVolume", DeviceID=path, ProtectionStatus=protection)
    if lock_answer is not None:
        world.store.on("Win32_EncryptableVolume", "GetLockStatus", lambda target, given: lock_answer)
    (volume,) = world.only_disk().volumes
    assert volume.bitlocker is not None
    assert (volume.bitlocker.protection, volume.bitlocker.lock) == told


def test_a_guest_without_bitlocker_says_nothing_about_it() -> None:
    world = GuestWorld()
    world.store.absent.add(BITLOCKER)
    world.lun(1)
    world.partition(1, 1, volume=world.volume("aaaa"))
    view = world.view()
    assert (view.disks[0].volumes[0].bitlocker, view.problems) == (None, ())


# --- The guest itself ---------------------------------------------------------------------------------------------


PASSING = [
    QuotaExceeded("too many operations", code=2150859174),
    OperationTimedOut("no answer in time", code=2150858793),
    WsmanFault("an internal error", code=2150858755, subcode="InternalError"),
]


@pytest.mark.parametrize("fault", PASSING, ids=lambda fault: type(fault).__name__)
def test_a_guest_that_cannot_tell_bitlocker_now_is_not_taken_for_one_without_it(fault: WsmanFault) -> None:
    world = GuestWorld()
    world.store.passing["Win32_EncryptableVolume"] = fault
    world.lun(1)
    world.partition(1, 1, volume=world.volume("aaaa"))
    with pytest.raises(type(fault)):
        world.view()


def test_the_guest_knows_which_vm_it_is() -> None:
    guest = GuestWorld().view().guest
    assert (guest.vm_id, guest.vm_name, guest.physical_host_name) == (VM_ID, "db 01, Größe", "HV01")
    assert (guest.computer_name, guest.os_family, guest.is_server, guest.os_build) == ("DB01", "windows", True, 20348)


def test_a_machine_without_integration_services_does_not_know_its_vm() -> None:
    world = GuestWorld()
    world.registry.clear()
    guest = world.view().guest
    assert (guest.vm_id, guest.vm_name, guest.physical_host_name) == (None, None, None)


@pytest.mark.parametrize(("services", "told"), [({"wbengine": ("Stopped", "Manual")}, "installed"), ({}, "missing")])
def test_windows_server_backup_is_its_service_and_not_its_program(
    services: dict[str, tuple[str, str]], told: str
) -> None:
    world = GuestWorld(services=services)
    world.store.add(CIMV2, "CIM_DataFile", Name="c:\\windows\\system32\\wbadmin.exe", FileSize=5)
    assert world.view().guest.windows_server_backup == told


def test_a_client_windows_is_no_server() -> None:
    assert GuestWorld(product_type=1).view().guest.is_server is False


@pytest.mark.parametrize(
    ("services", "member"),
    [({}, False), ({"ClusSvc": ("Running", "Auto")}, True), ({"ClusSvc": ("Stopped", "Disabled")}, False)],
)
def test_a_guest_cluster_node_is_told(services: dict[str, tuple[str, str]], member: bool) -> None:
    assert GuestWorld(services=services).view().guest.cluster_member is member


def test_a_domain_controller_tells_where_its_directory_lies() -> None:
    world = GuestWorld(services={"NTDS": ("Running", "Auto")})
    key = "SYSTEM\\CurrentControlSet\\Services\\"
    world.registry[key + "NTDS\\Parameters", "DSA Database file"] = "E:\\NTDS\\ntds.dit"
    world.registry[key + "NTDS\\Parameters", "Database log files path"] = "F:\\logs"
    world.registry[key + "Netlogon\\Parameters", "SysVol"] = "E:\\SYSVOL\\sysvol"
    assert world.view().guest.ntds_paths == ("E:\\NTDS\\ntds.dit", "F:\\logs", "E:\\SYSVOL\\sysvol")


def test_a_view_is_json_in_the_agreed_shape() -> None:
    world = GuestWorld()
    world.lun(1)
    world.partition(1, 1, volume=world.volume("aaaa"), letter="E")
    whole = world.view().to_dict()
    assert json.loads(json.dumps(whole)) == whole
    assert {"guest", "disks", "storage_pools", "iscsi_sessions", "fibre_channel_initiators"} <= set(whole)


def test_missing_rights_are_told() -> None:
    world = GuestWorld()
    world.store.denied.add(STORAGE)
    with pytest.raises(Precondition) as caught:
        world.view()
    assert caught.value.kind == "rights_missing"


# --- Evidence -----------------------------------------------------------------------------------------------------


def volume_at(letter: str | None, access_paths: tuple[str, ...] = ()) -> GuestVolume:
    return GuestVolume(
        path=None,
        letter=letter,
        access_paths=access_paths,
        label="",
        file_system="NTFS",
        size_bytes=None,
        used_bytes=None,
        serial_number=None,
        allocation_unit_bytes=None,
        partition_number=None,
        offset_bytes=None,
        is_boot=False,
        is_system=False,
        bitlocker=None,
    )


def with_files() -> CimStore:
    store = CimStore()
    when = datetime(2026, 1, 2, tzinfo=timezone.utc)

    def add(class_name: str, drive: str, folder: str, name: str, **properties: Value) -> None:
        store.add(
            CIMV2,
            class_name,
            Name=f"{drive}{folder}{name}",
            Drive=drive,
            Path=folder,
            LastModified=when,
            CreationDate=when,
            **properties,
        )

    add("CIM_DataFile", "e:", "\\", "zz Übersicht.txt", FileSize=12)
    add("Win32_Directory", "e:", "\\", "Daten", FileSize=None)
    add("Win32_Directory", "e:", "\\", "System Volume Information", Hidden=True, System=True)
    add("CIM_DataFile", "e:", "\\Daten\\", "inside.txt", FileSize=1)
    add("CIM_DataFile", "c:", "\\mount\\o'neil & {{ 7*7 }}\\", "f.txt", FileSize=3)
    add("CIM_DataFile", "c:", "\\", "pagefile.sys", FileSize=9)
    return store


def test_the_root_of_a_volume_is_listed_by_letter() -> None:
    entries = list_root(with_files(), volume_at("E"))
    assert entries is not None
    assert [(one.name, one.is_directory, one.size_bytes, one.is_system) for one in entries] == [
        ("Daten", True, None, False),
        ("System Volume Information", True, None, True),
        ("zz Übersicht.txt", False, 12, False),
    ]
    assert entries[0].to_dict()["modified"] == "2026-01-02T00:00:00Z"


@pytest.mark.parametrize("folder", ["C:\\mount\\o'neil & {{ 7*7 }}\\", "C:\\mount\\o'neil & {{ 7*7 }}"])
def test_the_root_of_a_volume_is_listed_by_mount_folder(folder: str) -> None:
    entries = list_root(with_files(), volume_at(None, (folder,)))
    assert entries is not None
    assert [one.name for one in entries] == ["f.txt"]


def test_a_volume_that_no_path_leads_to_is_not_listed() -> None:
    store = with_files()
    assert list_root(store, volume_at(None)) is None
    assert store.queries == []


def test_a_root_beyond_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest_module, "MAX_ROOT_ENTRIES", 2)
    with pytest.raises(HypervError) as caught:
        list_root(with_files(), volume_at("E"))
    assert caught.value.kind == "root_too_large"


def test_a_single_file_is_evidence_and_a_missing_one_is_none() -> None:
    store = with_files()
    found = file_evidence(store, "E:/Daten/inside.txt")
    assert found is not None
    assert (found.size_bytes, found.name) == (1, "inside.txt")
    assert file_evidence(store, "E:\\nothing.txt") is None


def test_files_are_never_asked_for_without_a_filter() -> None:
    store = with_files()
    store.refuses_filters = True
    with pytest.raises(Exception, match="does not evaluate"):
        list_root(store, volume_at("E"))
    assert all(where is not None for _unused, _unused, where in store.queries)


def test_a_missing_registry_key_given_as_a_fault_is_no_value() -> None:
    world = GuestWorld()

    def gone(target: CimPath, given: Mapping[str, Value]) -> tuple[int, dict[str, Value]]:
        raise NotFound("no such key", code=0x80041002)

    world.store.on("StdRegProv", "GetStringValue", gone)
    assert world.view().guest.vm_id is None
