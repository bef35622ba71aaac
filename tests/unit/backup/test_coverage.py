# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Coverage: one table of worlds, each with the verdict that the design demands for its disks."""

from __future__ import annotations

import copy
import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup import wsb
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.coverage import coverage, offline_refusal
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.errors import BackupError
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.disk_identity import vhd_unique_ids

VM_ID = "285CEA9B-1111-2222-3333-000000000001"
VHD_ID = "0F5B2C3D-4E5F-6071-8293-A4B5C6D7E8F9"
GIB = 1 << 30
HOST_ENGINE = wsb.capabilities({"is_server": True, "windows_server_backup": "installed"})
GUEST_ENGINE = wsb.capabilities({"os_family": "windows", "is_server": True, "windows_server_backup": "installed"})


def slot(location, controller="SCSI", number=0):
    return {"controller_type": controller, "controller_number": number, "controller_location": location}


def vhd(location=0, **changes):
    disk = {
        "slot": slot(location),
        "attachment": "virtual_hard_disk",
        "path": f"D:\\vm\\disk{location}.vhdx",
        "vhd": {"format": "VHDX", "type": "fixed", "id": None, "unique_ids": [], "size_bytes": 40 * GIB},
        "lun": None,
        "unique_id": None,
        "size_bytes": 40 * GIB,
        "host_volume": {"path": "v", "letter": "D", "file_system": "NTFS", "is_csv": False, "is_remote": False},
        "captured_by": "host",
        "reason": "",
    }
    return {**disk, **changes}


def lun(unique_id="6000AAA1", guid="{aaaaaaaa-0000-0000-0000-000000000001}", size=100 * GIB, **changes):
    identity = {
        "unique_id": unique_id,
        "unique_id_format": 3,
        "serial_number": "S1",
        "number": 7,
        "size_bytes": size,
        "guid": guid,
        "signature": None,
        "weak_identity": False,
    }
    return {**identity, **changes}


def pass_through(location=1, attachment="pass_through", **changes):
    identity = lun(**changes)
    return {
        "slot": slot(location),
        "attachment": attachment,
        "path": None,
        "vhd": None,
        "lun": identity,
        "unique_id": identity["unique_id"],
        "size_bytes": identity["size_bytes"],
        "host_volume": None,
        "captured_by": "guest",
        "reason": "",
    }


def volume(letter="E", number=1, **changes):
    data = {
        "path": f"\\\\?\\Volume{{00000000-0000-0000-0000-{number:012d}}}\\",
        "letter": letter,
        "access_paths": [f"{letter}:\\"] if letter else [],
        "label": "data",
        "file_system": "NTFS",
        "size_bytes": 99 * GIB,
        "used_bytes": 5 * GIB,
        "serial_number": 1234,
        "allocation_unit_bytes": 4096,
        "partition_number": 2,
        "offset_bytes": 1 << 20,
        "is_boot": False,
        "is_system": False,
        "bitlocker": None,
    }
    return {**data, **changes}


def guest_disk(kind="pass_through", **changes):
    data = {
        **lun(),
        "kind": kind,
        "friendly_name": "ARRAY LUN",
        "iscsi": None,
        "bus_type": "SAS",
        "partition_style": "GPT",
        "is_offline": False,
        "is_read_only": False,
        "is_boot": False,
        "is_system": False,
        "is_clustered": False,
        "is_dynamic": False,
        "in_storage_pool": False,
        "volumes": [volume()],
    }
    return {**data, **changes}


def boot_vhd(**changes):
    """The VHD as the guest sees it, with partitions that have no letter and are nobody's concern."""
    volumes = [
        volume("C", 90, is_boot=True),
        volume(None, 91, file_system="FAT32", is_system=True, label="EFI"),
        volume(None, 92, label="Recovery"),
    ]
    data = guest_disk(
        "virtual_hard_disk",
        unique_id="IDE\\DISKVIRTUAL",
        unique_id_format=0,
        weak_identity=True,
        guid="{bbbbbbbb-0000-0000-0000-000000000001}",
        size_bytes=40 * GIB,
        is_boot=True,
        is_system=True,
        volumes=volumes,
    )
    return {**data, **changes}


def vm(*disks, **changes):
    data = {
        "id": VM_ID,
        "name": "db01",
        "state": "running",
        "disks": list(disks) or [vhd()],
        "fibre_channel_ports": [],
        "checkpoints": [],
        "replication": {"is_replica": False},
        "is_clustered": False,
    }
    return {**data, **changes}


def guest(*disks, pools=(), **changes):
    info = {
        "computer_name": "DB01",
        "vm_id": VM_ID.lower(),
        "os_family": "windows",
        "is_server": True,
        "windows_server_backup": "installed",
        "ntds_paths": [],
    }
    return {"guest": {**info, **changes}, "disks": [boot_vhd(), *disks], "storage_pools": list(pools)}


def plan(machine, view=None, **options):
    options = {"guest_engine": GUEST_ENGINE, "host_engine": HOST_ENGINE, **options}
    before = copy.deepcopy((machine, view))
    result = coverage(machine, view, **options)
    assert (machine, view) == before, "coverage changed its input"
    json.dumps(result)
    return result


def at(result, where):
    """The verdict of one disk: by slot text, by UniqueId, or by kind."""
    for disk in result["disks"]:
        if where in (disk["slot_text"], disk["unique_id"], disk["kind"]):
            return disk
    raise AssertionError(f"no disk {where} in {[disk['slot_text'] or disk['kind'] for disk in result['disks']]}")


# Name of the world: (VM, guest, options, which disk, its coverage, a word of its reason)
CASES = {
    "a VHD on a local volume is the host's": (vm(), guest(), {}, "SCSI 0:0", "host", "virtual hard disk"),
    "a VHD on a CSV is the host's": (
        vm(vhd(host_volume={"path": "v", "file_system": "CSVFS", "is_csv": True, "is_remote": False})),
        guest(),
        {},
        "SCSI 0:0",
        "host",
        "",
    ),
    "a VHD on an SMB share": (
        vm(vhd(host_volume={"path": "v", "file_system": None, "is_csv": False, "is_remote": True})),
        guest(),
        {},
        "SCSI 0:0",
        "gap",
        "SMB share",
    ),
    "a VHD on a FAT32 volume of the host": (
        vm(vhd(host_volume={"path": "v", "file_system": "FAT32", "is_csv": False, "is_remote": False})),
        guest(),
        {},
        "SCSI 0:0",
        "gap",
        "FAT32",
    ),
    "a VHD on a share with an engine that reads shares": (
        vm(
            vhd(captured_by="none", host_volume={"path": None, "file_system": None, "is_csv": False, "is_remote": True})
        ),
        guest(),
        {"host_engine": dataclasses.replace(HOST_ENGINE, remote_vhds=True)},
        "SCSI 0:0",
        "host",
        "SMB",
    ),
    "a VHD on a letter of which the host shows no volume": (
        vm(vhd(host_volume={"path": None, "letter": "Q", "file_system": None, "is_csv": False, "is_remote": False})),
        guest(),
        {},
        "SCSI 0:0",
        "gap",
        "not known",
    ),
    "a VHD whose volume is unknown": (vm(vhd(host_volume=None)), guest(), {}, "SCSI 0:0", "gap", "not known"),
    "a VHD that the host itself calls not captured": (
        vm(vhd(captured_by="none", reason="the file is missing")),
        guest(),
        {},
        "SCSI 0:0",
        "gap",
        "the file is missing",
    ),
    "no wbadmin on the host": (
        vm(),
        guest(),
        {"host_engine": wsb.capabilities({"is_server": True, "windows_server_backup": "missing"})},
        "SCSI 0:0",
        "gap",
        "Install-WindowsFeature",
    ),
    "a pass-through disk with NTFS volumes": (
        vm(vhd(), pass_through()),
        guest(guest_disk()),
        {},
        "SCSI 0:1",
        "guest",
        "E:",
    ),
    "UniqueIds that differ in case only": (
        vm(vhd(), pass_through(unique_id="6000aaa1")),
        guest(guest_disk()),
        {},
        "SCSI 0:1",
        "guest",
        "",
    ),
    "a pass-through disk on IDE, known by its GPT GUID and size": (
        vm(vhd(), pass_through()),
        guest(guest_disk("unknown", unique_id="IDE\\X", unique_id_format=0, weak_identity=True)),
        {},
        "SCSI 0:1",
        "guest",
        "",
    ),
    "a weak identity without a second one": (
        vm(vhd(), pass_through(guid=None, unique_id_format=0, weak_identity=True)),
        guest(guest_disk(guid=None, unique_id_format=0, weak_identity=True)),
        {},
        "SCSI 0:1",
        "identity_mismatch",
        "weak identity",
    ),
    "an MBR signature as second identity": (
        vm(vhd(), pass_through(guid=None, signature=0x1234ABCD, unique_id_format=0)),
        guest(guest_disk(guid=None, signature=0x1234ABCD, unique_id="other", unique_id_format=0)),
        {},
        "SCSI 0:1",
        "guest",
        "",
    ),
    "an MBR signature of 0 is no identity": (
        vm(vhd(), pass_through(guid=None, signature=0, unique_id_format=0)),
        guest(guest_disk(guid=None, signature=0, unique_id="other", unique_id_format=0)),
        {},
        "SCSI 0:1",
        "identity_mismatch",
        "",
    ),
    "two disks of one UniqueId and no second identity": (
        vm(vhd(), pass_through(1, guid=None), pass_through(2, guid=None)),
        guest(guest_disk(guid=None), guest_disk(guid=None, volumes=[volume("F", 2)])),
        {},
        "SCSI 0:2",
        "identity_mismatch",
        "several disks",
    ),
    "two disks of one UniqueId told apart by their GPT GUIDs": (
        vm(vhd(), pass_through(1), pass_through(2, guid="{cccccccc-0000-0000-0000-000000000002}")),
        guest(
            guest_disk(guid="{cccccccc-0000-0000-0000-000000000002}", volumes=[volume("F", 2)]),
            guest_disk(),
        ),
        {},
        "SCSI 0:2",
        "guest",
        "F:",
    ),
    "host and guest disagree on the size": (
        vm(vhd(), pass_through()),
        guest(guest_disk(size_bytes=50 * GIB)),
        {},
        "SCSI 0:1",
        "identity_mismatch",
        str(50 * GIB),
    ),
    "UniqueId of one disk, partition table of another": (
        vm(vhd(), pass_through()),
        guest(
            guest_disk(guid="{dddddddd-0000-0000-0000-000000000001}"),
            guest_disk("iscsi", unique_id="6000BBB", volumes=[volume("F", 2)]),
        ),
        {},
        "SCSI 0:1",
        "identity_mismatch",
        "another one",
    ),
    "a partition table that only the host's cache still shows is no disagreement": (
        vm(vhd(), pass_through(guid="{eeeeeeee-0000-0000-0000-000000000001}")),
        guest(guest_disk()),
        {},
        "SCSI 0:1",
        "guest",
        "",
    ),
    "a pass-through disk that the guest does not show": (
        vm(vhd(), pass_through()),
        guest(),
        {},
        "SCSI 0:1",
        "identity_mismatch",
        "no disk of the guest",
    ),
    "a pass-through disk that the guest put into a pool": (
        vm(vhd(), pass_through()),
        guest(pools=[{"unique_id": "p", "name": "pool", "member_unique_ids": ["6000aaa1"]}]),
        {},
        "SCSI 0:1",
        "gap",
        "Storage Spaces",
    ),
    "a LUN that the host cannot resolve": (
        vm(vhd(), {**pass_through(attachment="unresolved_pass_through"), "lun": None, "unique_id": None}),
        guest(guest_disk()),
        {},
        "SCSI 0:1",
        "gap",
        "cannot tell which LUN",
    ),
    "a shared virtual hard disk": (
        vm(vhd(), vhd(1, attachment="shared_virtual_hard_disk", vhd={"id": VHD_ID}, size_bytes=100 * GIB)),
        guest(guest_disk("virtual_hard_disk", unique_id=vhd_unique_ids(VHD_ID)[0], is_clustered=True)),
        {},
        "SCSI 0:1",
        "guest",
        "E:",
    ),
    "an in-guest iSCSI disk": (vm(), guest(guest_disk("iscsi")), {}, "6000AAA1", "guest", "E:"),
    "an in-guest iSCSI disk with FAT32": (
        vm(),
        guest(guest_disk("iscsi", volumes=[volume(file_system="FAT32")])),
        {},
        "6000AAA1",
        "gap",
        "FAT32",
    ),
    "a virtual Fibre Channel disk": (
        vm(fibre_channel_ports=[{"wwpn": "C003"}]),
        guest(guest_disk("virtual_fibre_channel")),
        {},
        "6000AAA1",
        "guest",
        "",
    ),
    "virtual Fibre Channel ports without a disk": (
        vm(fibre_channel_ports=[{"wwpn": "C003"}]),
        guest(),
        {},
        "virtual_fibre_channel",
        "unverified",
        "shows no disk",
    ),
    "virtual Fibre Channel ports of a VM declared to have no storage of its own": (
        vm(fibre_channel_ports=[{"wwpn": "C003"}]),
        None,
        {"guest_storage": "none"},
        "virtual_fibre_channel",
        "unverified",
        "not asked",
    ),
    "a guest disk that maps to nothing": (
        vm(),
        guest(guest_disk("unknown")),
        {},
        "6000AAA1",
        "gap",
        "nothing that the host attaches",
    ),
    "a guest disk of the array while the host attaches another one": (
        vm(vhd(), pass_through(unique_id="6000CCC", guid=None)),
        guest(guest_disk()),
        {},
        "6000AAA1",
        "identity_mismatch",
        "not one of those",
    ),
    "a virtual hard disk in the guest that the host does not have": (
        vm(),
        guest(boot_vhd(unique_id="60022480FF", size_bytes=7 * GIB)),
        {},
        "60022480FF",
        "gap",
        "nothing that the host attaches",
    ),
    "a VHD known by its disk id, with another size in the guest": (
        vm(vhd(vhd={"id": VHD_ID, "size_bytes": 40 * GIB})),
        guest(boot_vhd(unique_id=vhd_unique_ids(VHD_ID)[0], unique_id_format=3, weak_identity=False, size_bytes=1)),
        {},
        "SCSI 0:0",
        "identity_mismatch",
        "bytes",
    ),
    "a left-out disk that the guest starts from": (
        vm(vhd(), pass_through()),
        guest(guest_disk(is_boot=True)),
        {},
        "SCSI 0:1",
        "gap",
        "starts from it",
    ),
    "a left-out disk that is offline": (
        vm(vhd(), pass_through()),
        guest(guest_disk(is_offline=True, volumes=[])),
        {},
        "SCSI 0:1",
        "gap",
        "offline",
    ),
    "a left-out disk that another cluster node owns": (
        vm(vhd(), pass_through()),
        guest(guest_disk(is_offline=True, is_clustered=True, volumes=[])),
        {},
        "SCSI 0:1",
        "gap",
        "another node",
    ),
    "a left-out disk that is read-only": (
        vm(vhd(), pass_through()),
        guest(guest_disk(is_read_only=True)),
        {},
        "SCSI 0:1",
        "gap",
        "read-only",
    ),
    "a left-out dynamic disk": (
        vm(vhd(), pass_through()),
        guest(guest_disk(is_dynamic=True)),
        {},
        "SCSI 0:1",
        "gap",
        "dynamic disk",
    ),
    "a left-out disk in a pool that the guest still lists": (
        vm(vhd(), pass_through()),
        guest(guest_disk(in_storage_pool=True)),
        {},
        "SCSI 0:1",
        "gap",
        "Storage Spaces",
    ),
    "a space on disks that are not all VHDs": (
        vm(),
        guest(
            guest_disk("storage_space"), pools=[{"unique_id": "p", "name": "pool", "member_unique_ids": ["6000DDD"]}]
        ),
        {},
        "6000AAA1",
        "gap",
        "Storage Spaces",
    ),
    "a space whose pool is unknown": (vm(), guest(guest_disk("storage_space")), {}, "6000AAA1", "gap", "Storage"),
    "a space on VHDs alone": (
        vm(vhd(), vhd(1, vhd={"id": VHD_ID})),
        guest(
            guest_disk("storage_space"),
            pools=[{"unique_id": "p", "name": "pool", "member_unique_ids": [vhd_unique_ids(VHD_ID)[0]]}],
        ),
        {},
        "6000AAA1",
        "host",
        "pool",
    ),
    "a VHD file mounted inside the guest": (
        vm(),
        guest(guest_disk("mounted_virtual_hard_disk")),
        {},
        "6000AAA1",
        "gap",
        "mounted",
    ),
    "a left-out disk without a partition table": (
        vm(vhd(), pass_through(guid=None)),
        guest(guest_disk(partition_style="RAW", guid=None, volumes=[])),
        {},
        "SCSI 0:1",
        "gap",
        "no partition table",
    ),
    "a left-out disk without a volume": (
        vm(vhd(), pass_through()),
        guest(guest_disk(volumes=[])),
        {},
        "SCSI 0:1",
        "gap",
        "no volume",
    ),
    "a RAW volume beside a good one": (
        vm(vhd(), pass_through()),
        guest(guest_disk(volumes=[volume(), volume("F", 2, file_system=None)])),
        {},
        "SCSI 0:1",
        "gap",
        "F: has no file system",
    ),
    "exFAT": (
        vm(vhd(), pass_through()),
        guest(guest_disk(volumes=[volume(file_system="exFAT")])),
        {},
        "SCSI 0:1",
        "gap",
        "exFAT",
    ),
    "ReFS": (
        vm(vhd(), pass_through()),
        guest(guest_disk(volumes=[volume(file_system="ReFS")])),
        {},
        "SCSI 0:1",
        "guest",
        "",
    ),
    "a cluster shared volume of a guest cluster": (
        vm(vhd(), pass_through()),
        guest(guest_disk(volumes=[volume(file_system="CSVFS")])),
        {},
        "SCSI 0:1",
        "gap",
        "CSVFS",
    ),
    "a locked BitLocker volume": (
        vm(vhd(), pass_through()),
        guest(guest_disk(volumes=[volume(bitlocker={"protection": "on", "lock": "locked"}, file_system=None)])),
        {},
        "SCSI 0:1",
        "gap",
        "locked by BitLocker",
    ),
    "a volume over a left-out disk and a VHD": (
        vm(vhd(), pass_through()),
        guest(guest_disk(volumes=[volume("C", 90)])),
        {},
        "SCSI 0:1",
        "gap",
        "spans several disks",
    ),
    "a client Windows": (
        vm(vhd(), pass_through()),
        guest(guest_disk()),
        {"guest_engine": wsb.capabilities({"is_server": False, "os_caption": "Windows 11"})},
        "SCSI 0:1",
        "gap",
        "Windows 11 is a client",
    ),
    "a guest without wbadmin": (
        vm(vhd(), pass_through()),
        guest(guest_disk()),
        {"guest_engine": wsb.capabilities({"is_server": True, "windows_server_backup": "missing"})},
        "SCSI 0:1",
        "gap",
        "Install-WindowsFeature Windows-Server-Backup",
    ),
    "a Linux guest": (
        vm(vhd(), pass_through()),
        guest(guest_disk()),
        {"guest_engine": wsb.capabilities({"os_family": "linux"})},
        "SCSI 0:1",
        "gap",
        "linux",
    ),
    "a guest of which no engine is known": (
        vm(vhd(), pass_through()),
        guest(guest_disk()),
        {"guest_engine": None},
        "SCSI 0:1",
        "gap",
        "no backup engine",
    ),
    "a pass-through disk of a VM that is off": (
        vm(vhd(), pass_through(), state="off"),
        None,
        {},
        "SCSI 0:1",
        "gap",
        "the VM is off",
    ),
    "a pass-through disk of a saved VM, declared to have no storage of its own": (
        vm(vhd(), pass_through(), state="saved"),
        None,
        {"guest_storage": "none"},
        "SCSI 0:1",
        "gap",
        "the VM is saved",
    ),
    "a pass-through disk of a guest that did not answer": (
        vm(vhd(), pass_through()),
        None,
        {"guest_error": "connection refused."},
        "SCSI 0:1",
        "unverified",
        "connection refused",
    ),
    "an all-VHD VM whose guest cannot be asked": (vm(), None, {}, "guest_storage", "unverified", "not asked"),
    "an all-VHD VM that is off": (vm(state="off"), None, {}, "guest_storage", "unverified", "is off"),
    "its VHD all the same": (vm(), None, {}, "SCSI 0:0", "host", ""),
    "a guest that belongs to another VM": (
        vm(vhd(), pass_through()),
        guest(guest_disk(), vm_id="99999999-0000-0000-0000-000000000000"),
        {},
        "SCSI 0:0",
        "identity_mismatch",
        "correct the inventory",
    ),
    "a guest that does not tell its VM": (
        vm(),
        guest(vm_id=None),
        {},
        "guest_storage",
        "unverified",
        "does not tell which VM",
    ),
    "a guest that does not tell its VM but shows its disk": (
        vm(vhd(), pass_through()),
        guest(guest_disk(), vm_id=None),
        {},
        "SCSI 0:1",
        "guest",
        "",
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_each_disk_has_the_verdict_that_the_design_demands(case):
    machine, view, options, where, verdict, word = case
    result = plan(machine, view, **options)
    disk = at(result, where)
    assert (disk["coverage"], word in disk["reason"]) == (verdict, True), disk["reason"]
    assert disk["reason"]
    if verdict not in ("host", "guest"):
        assert result["complete"] is False
        assert any(disk["reason"] in text for text in result["uncovered"])
    in_guest = [entry["unique_id"] for entry in result["guest_volumes"]]
    assert (disk["unique_id"] in in_guest) == (verdict == "guest")


def test_a_vm_with_everything_captured_is_complete_and_lists_the_volumes_for_the_guest():
    result = plan(vm(vhd(), pass_through()), guest(guest_disk()))
    assert result["complete"] is True
    assert [(entry["slot"], [v["path"] for v in entry["volumes"]]) for entry in result["guest_volumes"]] == [
        (slot(1), [volume()["path"]])
    ]
    assert result["disks"][1]["evidence"]["guest"]["matched_by"] == "UniqueId"
    assert "nothing is left out" in result["summary"]


@pytest.mark.parametrize("text", ["SCSI 0:1", "scsi 0:1", "6000AAA1", " 6000aaa1 "])
def test_an_accepted_gap_lets_the_run_go_on_and_stays_a_gap(text):
    machine, view = vm(vhd(), pass_through()), guest(guest_disk(volumes=[volume(file_system="FAT32")]))
    result = plan(machine, view, accept_gaps=[text])
    disk = at(result, "SCSI 0:1")
    assert (disk["coverage"], disk["accepted"], result["complete"]) == ("gap", True, True)
    assert result["uncovered"] == []
    assert len(result["accepted"]) == 1
    assert result["guest_volumes"] == []


def test_accepting_the_unasked_guest_does_not_accept_a_disk():
    result = plan(vm(vhd(), pass_through()), None, accept_gaps=["guest_unverified"])
    assert at(result, "guest_storage")["accepted"] is True
    assert at(result, "SCSI 0:1")["accepted"] is False
    assert result["complete"] is False


def test_declaring_no_guest_storage_makes_an_all_vhd_vm_complete_and_is_noted():
    result = plan(vm(), None, guest_storage="none")
    assert result["complete"] is True
    assert any("guest_storage: none" in note for note in result["notes"])


def test_a_text_that_fits_two_disks_or_a_captured_one_accepts_nothing():
    machine = vm(vhd(), pass_through(1, guid=None), pass_through(2, guid=None))
    view = guest(guest_disk(guid=None), guest_disk(guid=None, volumes=[volume("F", 2)]))
    result = plan(machine, view, accept_gaps=["6000AAA1", "SCSI 0:0", "SCSI 3:3"])
    assert result["accepted"] == []
    assert result["unused_acceptances"] == ["6000AAA1", "SCSI 0:0", "SCSI 3:3"]


def test_a_guest_of_another_vm_cannot_be_accepted_away():
    view = guest(vm_id="99999999-0000-0000-0000-000000000000")
    result = plan(vm(), view, accept_gaps=["SCSI 0:0", "guest_unverified"])
    assert result["complete"] is False
    assert result["accepted"] == []
    assert result["guest_volumes"] == []


def test_a_disk_that_is_only_weakly_the_same_on_both_sides_is_one_line_and_can_be_accepted():
    weak = {"unique_id": "SCSI\\DISK:HV01", "unique_id_format": 0, "weak_identity": True, "guid": None}
    machine, view = vm(vhd(), pass_through(**weak)), guest(guest_disk(**weak, partition_style="RAW", volumes=[]))
    assert [disk["slot_text"] for disk in plan(machine, view)["disks"]] == ["SCSI 0:0", "SCSI 0:1"]
    accepted = plan(machine, view, accept_gaps=["SCSI\\DISK:HV01"])
    assert accepted["complete"]
    assert at(accepted, "SCSI 0:1")["coverage"] == "identity_mismatch"


def test_two_weak_twins_on_each_side_are_never_told_apart():
    weak = {"unique_id": "TWIN", "unique_id_format": 0, "weak_identity": True, "guid": None}
    result = plan(
        vm(vhd(), pass_through(1, **weak), pass_through(2, **weak)), guest(guest_disk(**weak), guest_disk(**weak))
    )
    assert {disk["coverage"] for disk in result["disks"][1:]} == {"identity_mismatch"}
    assert len(result["disks"]) == 5


def test_a_volume_without_a_letter_is_named_by_its_folder():
    folder = volume(None, access_paths=["C:\\Mounts\\one & two\\"])
    result = plan(vm(vhd(), pass_through()), guest(guest_disk(volumes=[folder])))
    assert at(result, "SCSI 0:1")["reason"] == "the guest's backup takes its volumes C:\\Mounts\\one & two\\"


def test_a_volume_that_no_listed_disk_holds_is_said():
    view = guest()
    view["volumes_without_disk"] = [volume("Q", 77)]
    assert any("volume Q: lies on no disk" in note for note in plan(vm(), view)["notes"])


def test_names_stand_in_sentences_as_they_are():
    name = "a 'b' \"c\" \\ {{ 7*7 }} 100% Ü 仮"
    result = plan(vm(name=name), None)
    assert result["summary"].startswith(f"VM '{name}': ")


def test_a_fibre_channel_port_is_accepted_by_its_wwpn():
    result = plan(vm(fibre_channel_ports=[{"wwpn": "C003"}]), guest(), accept_gaps=["wwpn:c003"])
    assert result["complete"] is True


def test_a_replica_is_listed_and_fails_nothing():
    result = plan(vm(replication={"is_replica": True}), None)
    assert (result["status"], result["disks"], result["complete"]) == ("replica", [], True)


def test_a_clustered_vm_is_refused_by_name():
    result = plan(vm(is_clustered=True), guest())
    assert (result["status"], result["complete"]) == ("clustered", False)
    assert "db01" in result["uncovered"][0]


def test_dvd_and_empty_drives_are_no_disks():
    result = plan(vm(vhd(), vhd(1, attachment="dvd"), vhd(2, attachment="empty")), guest())
    assert [disk["slot_text"] for disk in result["disks"]] == ["SCSI 0:0"]
    assert any("SCSI 0:1 is a DVD drive" in note for note in result["notes"])


def test_ntds_and_bitlocker_on_a_left_out_disk_are_said():
    disk = guest_disk(volumes=[volume(bitlocker={"protection": "on", "lock": "unlocked"})])
    result = plan(vm(vhd(), pass_through()), guest(disk, ntds_paths=["E:\\NTDS\\ntds.dit", "C:\\Windows\\NTDS"]))
    assert at(result, "SCSI 0:1")["coverage"] == "guest"
    assert [note for note in result["notes"] if "system state" in note] == [
        note for note in result["notes"] if "E:\\NTDS" in note
    ]
    assert any("BitLocker" in note for note in result["notes"])


def test_identical_virtual_hard_disks_need_no_pairing():
    disks = [boot_vhd(), boot_vhd(volumes=[volume("G", 5)], is_boot=False)]
    result = plan(vm(vhd(0), vhd(1), vhd(2)), {**guest(), "disks": disks})
    assert [disk["coverage"] for disk in result["disks"]] == ["host", "host", "host"]
    unpaired = [v["letter"] for disk in result["unpaired_virtual_hard_disks"] for v in disk["volumes"]]
    assert unpaired == ["C", None, None, "G"]
    assert result["complete"] is True


def test_a_virtual_hard_disk_of_unknown_size_stands_for_any():
    result = plan(vm(vhd(vhd={"id": None}, size_bytes=None)), guest())
    assert result["complete"] is True


@pytest.mark.parametrize(
    ("machine", "view", "expected"),
    [
        (vm(), guest(), "online"),
        (vm(state="off"), None, "off"),
        (vm(state="saved"), None, "off"),
        (vm(state="paused"), None, "unknown"),
        (vm(vhd(), pass_through()), guest(guest_disk()), "unknown"),
        (vm(), None, "unknown"),
        (vm(), guest(guest_disk("iscsi", is_dynamic=True)), "saved_state"),
        (vm(), guest(guest_disk("iscsi", volumes=[volume(file_system="FAT32")])), "saved_state"),
    ],
)
def test_what_is_known_beforehand_of_the_vm_staying_online(machine, view, expected):
    assert plan(machine, view)["consistency_forecast"]["consistency"] == expected


def test_only_a_certain_interruption_of_the_vm_is_refused_beforehand():
    sure = plan(vm(), guest(guest_disk("iscsi", is_dynamic=True)))
    assert "dynamic disk" in offline_refusal(sure, allow_offline=False)
    assert offline_refusal(sure, allow_offline=True) is None
    assert offline_refusal(plan(vm(vhd(), pass_through()), guest(guest_disk())), allow_offline=False) is None


def test_an_unknown_guest_storage_is_refused():
    with pytest.raises(BackupError) as caught:
        plan(vm(), guest(), guest_storage="false")
    assert caught.value.kind == "bad_option"


IDENTITIES = st.sampled_from(["6000A", "6000B", "6000C", ""])
GUIDS = st.sampled_from([None, "{aaaaaaaa-0000-0000-0000-000000000001}", "{aaaaaaaa-0000-0000-0000-000000000002}"])
DISKS = st.tuples(IDENTITIES, GUIDS, st.sampled_from([GIB, 2 * GIB]), st.sampled_from([0, 3]))


@given(st.lists(DISKS, max_size=4), st.lists(DISKS, max_size=4))
def test_no_disk_is_ever_left_out_of_the_plan_or_captured_twice(hosts, guests):
    machine = vm(
        *(
            pass_through(index, unique_id=uid, guid=guid, size=size, unique_id_format=form)
            for index, (uid, guid, size, form) in enumerate(hosts)
        ),
        vhd(9),
    )
    seen = [
        guest_disk(
            unique_id=uid,
            guid=guid,
            size_bytes=size,
            unique_id_format=form,
            volumes=[volume("E", number, label=str(number))],
        )
        for number, (uid, guid, size, form) in enumerate(guests)
    ]
    result = plan(machine, guest(*seen))
    slots = [disk["slot_text"] for disk in result["disks"] if disk["slot_text"]]
    assert sorted(slots) == sorted([f"SCSI 0:{index}" for index in range(len(hosts))] + ["SCSI 0:9"])
    listed = [v["label"] for disk in result["disks"] for v in disk["volumes"] if v["letter"] == "E"]
    assert sorted(listed) == sorted(str(number) for number in range(len(guests)))
    for disk in result["disks"]:
        if disk["coverage"] == "guest":
            shown = disk["evidence"]["guest"]
            assert shown["size_bytes"] == disk["size_bytes"]
            assert shown["unique_id"] == disk["evidence"]["host"]["unique_id"] or shown["guid"] is not None


@pytest.mark.parametrize(("kind", "taken"), [("standard", "gap"), ("recovery", "host")])
def test_an_engine_that_takes_no_chains_leaves_a_vm_with_checkpoints_uncovered(kind: str, taken: str) -> None:
    engine = dataclasses.replace(HOST_ENGINE, engine="export", checkpoints=False)
    disk = {
        "slot": {"controller_type": "SCSI", "controller_number": 0, "controller_location": 0},
        "attachment": "virtual_hard_disk",
        "captured_by": "host",
        "path": "D:\\VMs\\os.vhdx",
        "host_volume": {"path": "\\\\?\\Volume{0}\\", "file_system": "NTFS"},
    }
    vm = {
        "id": "v",
        "name": "sql01",
        "state": "off",
        "disks": [disk],
        "checkpoints": [{"name": "before update", "type": kind}],
    }
    plan = coverage(vm, None, guest_engine=None, host_engine=engine, guest_storage="none")
    assert [row["coverage"] for row in plan["disks"]] == [taken]
    assert ("before update" in plan["disks"][0]["reason"]) == (taken == "gap")
    other = coverage(vm, None, guest_engine=None, host_engine=HOST_ENGINE, guest_storage="none")
    assert [row["coverage"] for row in other["disks"]] == ["host"]
