# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The storage namespace and the image service: the way of a LUN from blank to a fixed VHD, refusals, collisions, iSCSI."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from simulator.cim import CimFault, Instance
from simulator.content import copy_content, digest
from simulator.partition_table import MIB
from simulator.storage import offset_guid
from simulator.virtual_machine import OFF
from simulator.world import Machine, World
from unit.simulator.provider_calls import (
    IMAGES,
    STORAGE,
    call,
    disk_of,
    finish,
    one,
    query,
    setting,
    small_world,
    storage,
)

LUNS = (
    "name: s\nseed: s\nclock: 2026-10-01T20:00:00Z\n"
    "luns: [{id: blank, size: 300M}, {id: small, size: 64M}, {id: full, size: 64M, partitions: [{label: F}]},"
    " {id: clone, size: 64M}, {id: four, size: 300M, sector: 4096}]\n"
    "hosts: [{name: hv01, address: 127.42.0.1, luns: [blank, small, full, clone, four]}]\n"
)


@pytest.fixture
def host(tmp_path: Path) -> Machine:
    return World.from_yaml(LUNS, tmp_path).machine("hv01")


def number_of(host: Machine, lun: str) -> int:
    return next(d.number for d in host.disks if d.lun is not None and d.lun.id == lun)


def code(host: Machine, lun: str, method: str, **arguments: Any) -> int:
    answer = storage(host, "MSFT_Disk", method, disk_of(host, number_of(host, lun)), **arguments)
    if answer["ReturnValue"]:
        status = answer["ExtendedStatus"]
        assert status.get("MessageID") == f"StorageWMI {answer['ReturnValue']}"
    return int(answer["ReturnValue"])


def open_up(host: Machine, lun: str) -> None:
    assert code(host, lun, "Online") == 0
    assert code(host, lun, "SetAttributes", IsReadOnly=False) == 0


def test_a_lun_becomes_a_volume(host: Machine) -> None:
    open_up(host, "blank")
    assert code(host, "blank", "Initialize", PartitionStyle=2) == 0
    row = disk_of(host, number_of(host, "blank"))
    assert (row.get("NumberOfPartitions"), row.get("LargestFreeExtent")) == (1, (300 - 17) * MIB)
    answer = storage(
        host,
        "MSFT_Disk",
        "CreatePartition",
        row,
        UseMaximumSize=True,
        AssignDriveLetter=True,
        GptType="{ebd0a0a2-b9e5-4433-87c0-68b6b72699c7}",
    )
    made = answer["CreatedPartition"]
    assert (made.get("PartitionNumber"), made.get("Offset"), made.get("Size")) == (2, 16 * MIB, (300 - 17) * MIB)
    letter = str(made.get("DriveLetter"))
    volume = one(host, f"SELECT * FROM MSFT_Volume WHERE DriveLetter = '{letter}'", STORAGE)  # noqa: S608
    assert (volume.get("FileSystem"), volume.get("FileSystemType")) == ("", 0)
    answer = storage(
        host, "MSFT_Volume", "Format", volume, FileSystem="NTFS", FileSystemLabel="New", AllocationUnitSize=65536
    )
    assert answer["ReturnValue"] == 0
    formatted = answer["FormattedVolume"]
    assert formatted.get("Size") == (300 - 17) * MIB - 65536
    assert formatted.get("FileSystemLabel") == "New"
    found = host.volume_by_letter(letter)
    assert found is not None
    found.mkdir("VHDs")
    found.write("VHDs\\note.txt", b"hello")
    assert found.read("vhds\\NOTE.txt") == b"hello"


def test_every_refusal_has_its_code(host: Machine) -> None:
    assert code(host, "blank", "Initialize") == 41003
    assert code(host, "blank", "Online") == 0
    assert code(host, "blank", "Initialize") == 41002
    open_up(host, "blank")
    assert code(host, "blank", "Initialize", PartitionStyle=5) == 41010
    assert code(host, "blank", "CreatePartition", UseMaximumSize=True) == 41000
    assert code(host, "blank", "Clear") == 41000
    assert code(host, "blank", "SetAttributes", Guid="{" + "1" * 8 + "-0000-4000-8000-" + "1" * 12 + "}") == 41000
    assert code(host, "blank", "Initialize") == 0
    assert code(host, "blank", "Initialize") == 41001
    assert code(host, "blank", "CreatePartition") == 40005
    assert code(host, "blank", "CreatePartition", UseMaximumSize=True, Size=MIB) == 40005
    assert code(host, "blank", "CreatePartition", Size=1 << 40) == 40000
    assert code(host, "blank", "CreatePartition", Size=MIB, MbrType=7) == 41006
    assert code(host, "blank", "CreatePartition", Size=MIB, DriveLetter="X", AssignDriveLetter=True) == 5
    assert code(host, "blank", "CreatePartition", Size=MIB, DriveLetter="C") == 42002
    assert disk_of(host, number_of(host, "blank")).get("NumberOfPartitions") == 2
    assert code(host, "blank", "Clear") == 41008
    assert code(host, "blank", "Clear", RemoveData=True) == 0
    assert disk_of(host, number_of(host, "blank")).get("PartitionStyle") == 0
    open_up(host, "small")
    assert code(host, "small", "Initialize") == 41014
    system = disk_of(host, 0)
    assert storage(host, "MSFT_Disk", "Offline", system)["ReturnValue"] == 41009
    assert storage(host, "MSFT_Disk", "Clear", system, RemoveData=True, RemoveOEM=True)["ReturnValue"] == 41009


def test_formats_that_cannot_be_are_refused(host: Machine) -> None:
    open_up(host, "four")
    assert code(host, "four", "Initialize") == 0
    assert code(host, "four", "CreatePartition", UseMaximumSize=True, AssignDriveLetter=True) == 0
    volume = next(v for v in query(host, "SELECT * FROM MSFT_Volume", STORAGE) if v.get("FileSystem") == "")

    def result(**arguments: Any) -> int:
        return int(storage(host, "MSFT_Volume", "Format", volume, **arguments)["ReturnValue"])

    assert result(FileSystem="ext4") == 43001
    assert result(FileSystem="NTFS", AllocationUnitSize=1000) == 43000
    assert result(FileSystem="ReFS", AllocationUnitSize=8192) == 43000
    assert result(FileSystem="NTFS", AllocationUnitSize=512) == 43005
    assert result(FileSystem="NTFS") == 0
    assert result(FileSystem="NTFS") == 5
    assert result(FileSystem="NTFS", Force=True) == 0


def test_access_paths_come_and_go(host: Machine) -> None:
    open_up(host, "full")
    row = one(host, f"SELECT * FROM MSFT_Partition WHERE DiskNumber = {number_of(host, 'full')}", STORAGE)  # noqa: S608

    def result(method: str, **arguments: Any) -> int:
        return int(storage(host, "MSFT_Partition", method, row, **arguments)["ReturnValue"])

    assert result("AddAccessPath") == 5
    assert result("AddAccessPath", AccessPath="C:") == 42002
    assert result("AddAccessPath", AccessPath="C:\\nowhere") == 42007
    assert result("AddAccessPath", AccessPath="X:\\") == 0
    system = host.volume_by_letter("C")
    assert system is not None
    system.mkdir("mnt")
    assert result("AddAccessPath", AccessPath="C:\\mnt\\") == 0
    assert host.resolve("C:\\mnt\\file")[0].letter == "X"
    volume = host.volume_by_letter("X")
    assert volume is not None
    assert result("RemoveAccessPath", AccessPath=volume.path) == 42005
    assert result("RemoveAccessPath", AccessPath="X:") == 0
    assert volume.access_paths == ["C:\\mnt\\", volume.path]


def test_an_offline_disk_still_shows_its_layout(host: Machine) -> None:
    row = disk_of(host, number_of(host, "full"))
    assert (row.get("IsOffline"), row.get("PartitionStyle"), row.get("NumberOfPartitions")) == (True, 2, 1)
    assert row.get("Guid") is not None
    partition = one(host, f"SELECT * FROM MSFT_Partition WHERE DiskNumber = {row.get('Number')}", STORAGE)  # noqa: S608
    assert (partition.get("IsOffline"), partition.get("AccessPaths")) == (True, None)
    assert host.volumes_of(host.disks[int(str(row.get("Number")))]) == []


def test_a_clone_collides_and_online_signs_it_anew(host: Machine) -> None:
    world = host.world
    copy_content(world.luns["full"].content, world.luns["clone"].content)
    open_up(host, "full")
    host.disk_memory.clear()
    clone = next(d for d in host.disks if d.lun is world.luns["clone"])
    host.disks.remove(clone)
    host.san_policy = 1
    host.rescan()
    row = disk_of(host, number_of(host, "clone"))
    assert (row.get("IsOffline"), row.get("OfflineReason"), row.get("IsReadOnly")) == (True, 4, False)
    before = row.get("Guid")
    assert code(host, "clone", "Online") == 0
    row = disk_of(host, number_of(host, "clone"))
    assert (row.get("IsOffline"), row.get("OfflineReason")) == (False, 0)
    assert row.get("Guid") != before


def test_a_grown_lun_is_seen_after_a_rescan(host: Machine) -> None:
    open_up(host, "full")
    host.world.luns["full"].grow(80 * MIB)
    assert disk_of(host, number_of(host, "full")).get("Size") == 64 * MIB
    assert storage(host, "MSFT_StorageSetting", "UpdateHostStorageCache")["ReturnValue"] == 0
    assert disk_of(host, number_of(host, "full")).get("Size") == 80 * MIB
    row = one(host, f"SELECT * FROM MSFT_Partition WHERE DiskNumber = {number_of(host, 'full')}", STORAGE)  # noqa: S608
    sizes = storage(host, "MSFT_Partition", "GetSupportedSize", row)
    assert sizes["SizeMax"] == 78 * MIB
    assert storage(host, "MSFT_Partition", "Resize", row, Size=79 * MIB)["ReturnValue"] == 4097
    assert storage(host, "MSFT_Partition", "Resize", row, Size=78 * MIB)["ReturnValue"] == 0


def test_a_mapped_lun_appears_with_the_next_free_number_and_the_policy(host: Machine) -> None:
    lun = host.world.luns["small"]
    host.mapped_luns.remove(lun)
    host.rescan()
    gone = {d.number for d in host.disks}
    host.mapped_luns.append(lun)
    assert {d.number for d in host.disks} == gone
    storage(host, "MSFT_StorageSetting", "UpdateHostStorageCache")
    assert (set(range(len(gone) + 1)) - gone) == {number_of(host, "small")}


def test_partition_ids_carry_the_offset() -> None:
    assert offset_guid(1 << 20) == "{00000000-0000-0000-0000-100000000000}"
    assert offset_guid(0x16900000) == "{00000000-0000-0000-0000-901600000000}"
    assert offset_guid(16 << 20) == "{00000000-0000-0000-0000-000100000000}"


# -- images


def disk_settings(path: str, **more: Any) -> Instance:
    return setting("Msvm_VirtualHardDiskSettingData", Path=path, **{"Type": 2, "Format": 2, **more})


def test_a_physical_disk_is_cloned_byte_by_byte(tmp_path: Path) -> None:
    world = small_world(tmp_path)
    host, vm = world.machine("hv01"), world.vms[1]
    arguments: dict[str, Any] = {
        "SourcePath": "\\\\.\\PHYSICALDRIVE3",
        "VirtualDiskSettingData": disk_settings("D:\\VMs\\sql01\\data.vhd"),
    }
    refused = finish(host, call(host, IMAGES, "ConvertVirtualHardDisk", arguments))
    assert refused is not None and refused.get("JobState") == 10
    assert refused.get("JobCompletionStatusCode") == 0x80070020
    vm.set_state(OFF)
    row = finish(host, call(host, IMAGES, "ConvertVirtualHardDisk", arguments))
    assert row is not None and row.get("JobState") == 7, row.get("ErrorDescription") if row else ""
    image = host.open_image("D:\\VMs\\sql01\\data.vhd")
    assert digest(image.payload) == digest(world.luns["data1"].content)
    real = world.directory / "volumes" / "hv01" / "D" / "VMs" / "sql01" / "data.vhd"
    assert real.stat().st_size == (32 << 20) + 512
    assert (
        subprocess.run(["cmp", "-n", str(32 << 20), real, world.luns["data1"].content.path], check=False).returncode
        == 0
    )
    again = finish(host, call(host, IMAGES, "ConvertVirtualHardDisk", arguments))
    assert again is not None and again.get("JobCompletionStatusCode") == 0x80070050


def test_a_full_volume_and_a_missing_disk_are_failed_jobs(host: Machine) -> None:
    made = disk_settings("D:\\big.vhdx", Format=3, MaxInternalSize=600 << 30)
    row = finish(host, call(host, IMAGES, "CreateVirtualHardDisk", {"VirtualDiskSettingData": made}))
    assert row is not None and row.get("JobCompletionStatusCode") == 0x80070070
    assert not host.resolve("D:\\")[0].exists("big.vhdx")
    arguments = {"SourcePath": "\\\\.\\PHYSICALDRIVE77", "VirtualDiskSettingData": disk_settings("D:\\x.vhd")}
    row = finish(host, call(host, IMAGES, "ConvertVirtualHardDisk", arguments))
    assert row is not None and row.get("ErrorCode") == 32779


def test_a_fixed_vhd_on_a_lun_of_the_host_is_a_real_one(host: Machine) -> None:
    test_a_lun_becomes_a_volume(host)
    letter = next(v.letter for v in host.volumes() if v.label == "New")
    made = disk_settings(f"{letter}:\\disk.vhd", MaxInternalSize=100 << 20)
    row = finish(host, call(host, IMAGES, "CreateVirtualHardDisk", {"VirtualDiskSettingData": made}))
    assert row is not None and row.get("JobState") == 7
    image = host.open_image(f"{letter}:\\disk.vhd")
    image.payload.write_at((100 << 20) - 512, b"e" * 512)
    assert host.open_image(f"{letter}:\\disk.vhd").payload.read_at((100 << 20) - 512, 1) == b"e"
    too_big = disk_settings(f"{letter}:\\more.vhd", MaxInternalSize=250 << 20)
    row = finish(host, call(host, IMAGES, "CreateVirtualHardDisk", {"VirtualDiskSettingData": too_big}))
    assert row is not None and row.get("JobCompletionStatusCode") == 0x80070070


def test_an_image_is_mounted_as_a_disk_and_found_again(tmp_path: Path) -> None:
    world = small_world(tmp_path)
    host, vm = world.machine("hv01"), world.vms[0]
    path = "D:\\VMs\\web01\\os.vhdx"
    arguments: dict[str, Any] = {"Path": path, "AssignDriveLetter": True, "ReadOnly": True}
    row = finish(host, call(host, IMAGES, "AttachVirtualHardDisk", arguments))
    assert row is not None and row.get("JobState") == 10
    vm.set_state(OFF)
    finish(host, call(host, IMAGES, "AttachVirtualHardDisk", arguments))
    disk = one(host, "SELECT * FROM MSFT_Disk WHERE BusType = 15", STORAGE)
    assert (disk.get("Location"), disk.get("IsReadOnly")) == (path, True)
    found = next(v for v in host.volumes() if v.disk.backing.image_path == path)
    assert found.letter is not None and found.label == "Windows"
    assert "Windows" in found.listdir()
    find = {"SelectionCriterion": path, "CriterionType": 2}
    answer = call(host, IMAGES, "FindMountedStorageImageInstance", find)
    assert answer["ReturnValue"] == 0
    mounted = one(host, "SELECT * FROM Msvm_MountedStorageImage")
    assert call(host, "Msvm_MountedStorageImage", "DetachVirtualHardDisk", {}, mounted)["ReturnValue"] == 0
    assert call(host, IMAGES, "FindMountedStorageImageInstance", find)["ReturnValue"] == 32789
    assert query(host, "SELECT * FROM MSFT_Disk WHERE BusType = 15", STORAGE) == []


def test_image_facts_come_at_once_and_missing_files_have_their_code(host: Machine) -> None:
    assert call(host, IMAGES, "GetVirtualHardDiskSettingData", {"Path": "D:\\no.vhdx"})["ReturnValue"] == 32779


# -- guest iSCSI


def test_an_iscsi_login_needs_the_service_and_the_disk_comes_later(tmp_path: Path) -> None:
    world = small_world(tmp_path)
    guest = world.machine("web01")
    lun = world.luns["data1"]
    target: dict[str, Any] = {"NodeAddress": lun.target, "TargetPortalAddress": lun.portal}
    with pytest.raises(CimFault) as raised:
        storage(guest, "MSFT_iSCSITarget", "Connect", **target)
    assert raised.value.code == 0xEFFF003E
    service_row = one(guest, "SELECT * FROM Win32_Service WHERE Name = 'MSiSCSI'", "root/cimv2")
    assert call(guest, "Win32_Service", "StartService", {}, service_row, "root/cimv2")["ReturnValue"] == 0
    with pytest.raises(CimFault) as raised:
        storage(guest, "MSFT_iSCSITarget", "Connect", **target)
    assert raised.value.code == 0xEFFF0029
    storage(guest, "MSFT_iSCSITargetPortal", "New", TargetPortalAddress=lun.portal)
    session = storage(guest, "MSFT_iSCSITarget", "Connect", **target)["CreatediSCSISession"]
    counts = [len(query(guest, "SELECT * FROM MSFT_Disk", STORAGE)) for _unused in range(3)]
    assert counts[0] == 1 and counts[-1] == 2
    row = one(guest, "SELECT * FROM MSFT_Disk WHERE BusType = 9", STORAGE)
    assert (row.get("IsOffline"), row.get("UniqueId")) == (True, lun.identity.unique_id)
    portal = one(guest, "SELECT * FROM MSFT_iSCSITarget", STORAGE)
    storage(guest, "MSFT_iSCSITarget", "Disconnect", portal, SessionIdentifier=session.get("SessionIdentifier"))
    assert query(guest, "SELECT * FROM MSFT_iSCSISession", STORAGE) == []


def test_a_running_vms_image_cannot_be_touched_but_a_shadow_copy_reads_it(tmp_path: Path) -> None:
    world = small_world(tmp_path)
    volume, relative = world.machine("hv01").resolve("D:\\VMs\\web01\\os.vhdx")
    for act in (lambda: volume.read(relative), lambda: volume.delete(relative), lambda: volume.write(relative, b"")):
        with pytest.raises(Exception, match="being used by another process"):
            act()
    assert volume.files.open(relative).size > 16 << 20


def test_a_diff_area_on_another_volume_is_told_and_takes_its_space(tmp_path: Path) -> None:
    host = small_world(tmp_path).machine("hv01")
    source, store = host.volume_by_letter("D"), host.volume_by_letter("E")
    assert source is not None and store is not None
    assert query(host, "SELECT * FROM Win32_ShadowStorage", "root/cimv2") == []
    host.shadow_storage[source.guid] = (store.guid, 10 << 30)
    free = store.free
    store.reserve(f"diff area of {source.guid}", 1 << 30)
    row = one(host, "SELECT * FROM Win32_ShadowStorage", "root/cimv2")
    assert (row.get("UsedSpace"), row.get("MaxSpace")) == (1 << 30, 10 << 30)
    assert store.free == free - (1 << 30)
    store.reserve(f"diff area of {source.guid}", 0)
    assert store.free == free
