# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The image service and single files through an in-memory CIM store: what is sent, what is believed, what is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest

from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv import image_service
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.errors import HypervError
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.host_files import (
    check_file_path,
    delete_own_file,
    rename_file,
)
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.image_service import DiskLayout
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.schema import CIMV2, STORAGE, VIRTUALIZATION
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._wsman import (
    CimInstance,
    CimPath,
    OutcomeUnknown,
    Value,
)
from unit.hyperv.cim_store import CimStore
from unit.hyperv.migration_scene import GUID, layout

PATH, WORK = "V:\\sql01.vhdx", "V:\\sql01.migrating.vhdx"
SERVICE = "Msvm_ImageManagementService"


class Hands:
    """No time passes, and what was said is kept."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.looks = 0
        self.poll_s, self.timeout_s = 0.0, 10.0

    def sleep(self, seconds: float) -> None:
        self.looks += 1

    def now(self) -> float:
        return float(self.looks)

    def progress(self, line: str) -> None:
        self.said.append(line)

    def should_stop(self) -> None:
        return


@pytest.fixture
def store() -> CimStore:
    return CimStore()


def kind_of(call: Any) -> str:
    with pytest.raises(HypervError) as refused:
        call()
    return refused.value.kind


def job(store: CimStore, state: int, *, job_type: int = 6, error: int = 0) -> CimInstance:
    return store.add(
        VIRTUALIZATION,
        "Msvm_StorageJob",
        InstanceID="J1",
        JobState=state,
        JobType=job_type,
        ErrorCode=error,
        PercentComplete=5,
    )


def test_a_copy_is_asked_for_as_microsofts_client_does(store: CimStore) -> None:
    path = CimPath(VIRTUALIZATION, "Msvm_StorageJob", {"InstanceID": "J1"})
    store.on(SERVICE, "ConvertVirtualHardDisk", lambda _target, _given: (4096, {"Job": path}))
    assert image_service.start_copy(store, image_service.physical_drive(7), WORK, "VHDX", Hands()) == (False, "J1")
    ((_class, _method, given),) = store.calls
    assert given["SourcePath"] == "\\\\.\\PHYSICALDRIVE7"
    setting = given["VirtualDiskSettingData"]
    assert isinstance(setting, CimInstance)
    assert dict(setting.properties) == {
        "Path": WORK,
        "Type": 2,
        "Format": 3,
        "BlockSize": 0,
        "MaxInternalSize": 0,
        "LogicalSectorSize": 0,
        "PhysicalSectorSize": 0,
    }


def test_a_copy_whose_answer_is_lost_has_no_job_and_is_not_done(store: CimStore) -> None:
    def lost(_target: CimPath, _given: Mapping[str, Value]) -> tuple[int, dict[str, Value]]:
        raise OutcomeUnknown("no answer")

    store.on(SERVICE, "ConvertVirtualHardDisk", lost)
    assert image_service.start_copy(store, "x", WORK, "VHD", Hands()) == (False, None)


@pytest.mark.parametrize(
    ("state", "error", "ended"),
    [(7, 0, "completed"), (10, 32768, "exception"), (7, 32768, "completed"), (None, 0, "vanished")],
)
def test_a_copy_is_waited_for_until_it_ended_however(
    store: CimStore, state: int | None, error: int, ended: str
) -> None:
    if state is not None:
        job(store, state, error=error)
    status = image_service.wait_for_copy(store, "J1", Hands(), what="Copying")
    assert status.state == ended
    assert status.has_failed == (error != 0)


def test_a_copy_that_takes_longer_than_allowed_goes_on_and_is_said(store: CimStore) -> None:
    job(store, 4)
    hands = Hands()
    assert kind_of(lambda: image_service.wait_for_copy(store, "J1", hands, what="Copying")) == "job_timeout"
    assert hands.said == ["Copying: 5 %"]


@pytest.mark.parametrize(("state", "job_type", "waits"), [(4, 6, True), (4, 1, True), (4, 5, False), (7, 6, False)])
def test_jobs_that_may_be_ours_are_waited_out(store: CimStore, state: int, job_type: int, waits: bool) -> None:
    job(store, state, job_type=job_type)
    hands = Hands()
    if waits:
        assert kind_of(lambda: image_service.wait_for_others(store, hands, what="Copying")) == "job_timeout"
    else:
        image_service.wait_for_others(store, hands, what="Copying")
        assert hands.looks == 0


def image(store: CimStore, **changes: Any) -> None:
    setting = {
        "Format": 3,
        "Type": 2,
        "MaxInternalSize": 1000,
        "LogicalSectorSize": 512,
        "VirtualDiskId": "",
        **changes,
    }
    store.on(
        SERVICE,
        "GetVirtualHardDiskSettingData",
        lambda _target, _given: (
            0,
            {"SettingData": CimInstance("Msvm_VirtualHardDiskSettingData", VIRTUALIZATION, setting)},
        ),
    )
    state = CimInstance("Msvm_VirtualHardDiskState", VIRTUALIZATION, {"FileSize": changes.get("FileSize", 2000)})
    store.on(SERVICE, "GetVirtualHardDiskState", lambda _target, _given: (0, {"State": state}))


@pytest.mark.parametrize(
    "changes", [{"Format": 2}, {"Type": 3}, {"MaxInternalSize": 999}, {"LogicalSectorSize": 4096}, {"FileSize": 999}]
)
def test_a_file_that_is_not_what_was_made_is_refused(store: CimStore, changes: dict[str, Any]) -> None:
    image(store)
    assert (
        image_service.check_image(store, WORK, format_name="VHDX", size_bytes=1000, sector_bytes=512).size_bytes == 1000
    )
    image(store, **changes)

    def check() -> Any:
        return image_service.check_image(store, WORK, format_name="VHDX", size_bytes=1000, sector_bytes=512)

    assert kind_of(check) == "vhd_wrong"


class Mounts:
    """The host's loopback mounts: attaching makes a disk appear, detaching takes it away."""

    def __init__(self, store: CimStore) -> None:
        self.store, self.mounted = store, False
        store.on(SERVICE, "AttachVirtualHardDisk", self.attach)
        store.on(SERVICE, "FindMountedStorageImageInstance", self.find)
        store.on("Msvm_MountedStorageImage", "DetachVirtualHardDisk", self.detach)

    def attach(self, _target: CimPath, given: Mapping[str, Value]) -> tuple[int, dict[str, Value]]:
        assert (given["AssignDriveLetter"], given["ReadOnly"]) == (False, True)
        self.mounted = True
        self.store.add(
            STORAGE,
            "MSFT_Disk",
            ObjectId="vhd",
            Number=9,
            Location=WORK,
            Size=layout().size_bytes,
            PartitionStyle=2,
            Guid=GUID,
            IsOffline=False,
        )
        return 0, {}

    def find(self, _target: CimPath, _given: Mapping[str, Value]) -> tuple[int, dict[str, Value]]:
        image_path = CimPath(VIRTUALIZATION, "Msvm_MountedStorageImage", {"Lun": "0", "PathId": "0"})
        return (0, {"Image": image_path}) if self.mounted else (32789, {})

    def detach(self, _target: CimPath, _given: Mapping[str, Value]) -> tuple[int, dict[str, Value]]:
        self.mounted = False
        self.store.rows[STORAGE, "MSFT_Disk"] = [
            row for row in self.store.rows[STORAGE, "MSFT_Disk"] if row.get("ObjectId") != "vhd"
        ]
        return 0, {}


def layout_of(store: CimStore) -> DiskLayout:
    with image_service.mounted_read_only(store, WORK, Hands(), guid=GUID, signature=None) as row:
        return image_service.disk_layout(store, row)


def test_a_layout_is_read_from_a_read_only_mount_that_is_taken_away_again(store: CimStore) -> None:
    mounts = Mounts(store)
    (partition,) = layout().partitions
    store.add(
        STORAGE,
        "MSFT_Partition",
        DiskNumber=9,
        PartitionNumber=2,
        Offset=partition.offset_bytes,
        Size=partition.size_bytes,
        GptType=partition.gpt_type,
        Guid=partition.guid,
    )
    found = layout_of(store)
    assert layout().differences(found) == []
    assert not mounts.mounted


def test_nothing_is_mounted_while_a_disk_of_the_same_identity_is_online(store: CimStore) -> None:
    mounts = Mounts(store)
    store.add(STORAGE, "MSFT_Disk", ObjectId="lun", Number=3, UniqueId="X", Guid=GUID.upper(), IsOffline=False)

    def look() -> Any:
        return layout_of(store)

    assert kind_of(look) == "identity_online"
    assert not mounts.mounted


def test_a_mount_that_an_interrupted_run_left_is_taken_away_first(store: CimStore) -> None:
    mounts = Mounts(store)
    mounts.attach(image_service.IMAGE_SERVICE, {"AssignDriveLetter": False, "ReadOnly": True})
    layout_of(store)
    assert not mounts.mounted


def test_every_part_of_a_layout_counts() -> None:
    same = layout()
    others: list[DiskLayout] = [
        dataclasses.replace(same, size_bytes=1),
        dataclasses.replace(same, guid=None),
        dataclasses.replace(same, partition_style="MBR", signature=7),
        dataclasses.replace(same, partitions=()),
        dataclasses.replace(same, partitions=(dataclasses.replace(same.partitions[0], size_bytes=1),)),
    ]
    assert all(same.differences(other) for other in others)


# -- single files --------------------------------------------------------------------------------------------------------


class Files:
    """CIM_DataFile of a store, where renaming and deleting really happen."""

    def __init__(self, store: CimStore, *names: str) -> None:
        self.store = store
        for name in names:
            store.add(CIMV2, "CIM_DataFile", Name=name, FileSize=5)
        store.on("CIM_DataFile", "Rename", self.rename)
        store.on("CIM_DataFile", "Delete", self.delete)

    @property
    def names(self) -> list[str]:
        return sorted(str(row.get("Name")) for row in self.store.rows.get((CIMV2, "CIM_DataFile"), []))

    def rename(self, target: CimPath, given: Mapping[str, Value]) -> tuple[int, dict[str, Value]]:
        self.store.delete(target)
        self.store.add(CIMV2, "CIM_DataFile", Name=given["FileName"], FileSize=5)
        return 0, {}

    def delete(self, target: CimPath, _given: Mapping[str, Value]) -> tuple[int, dict[str, Value]]:
        self.store.delete(target)
        return 0, {}


def test_a_file_gets_its_name_once(store: CimStore) -> None:
    files = Files(store, WORK)
    rename_file(store, WORK, PATH, Hands())
    rename_file(store, WORK, PATH, Hands())
    assert files.names == [PATH]
    assert len(store.calls) == 1


@pytest.mark.parametrize(("names", "kind"), [((WORK, PATH), "file_exists"), ((), "file_missing")])
def test_a_name_that_is_taken_is_never_overwritten(store: CimStore, names: tuple[str, ...], kind: str) -> None:
    files = Files(store, *names)
    assert kind_of(lambda: rename_file(store, WORK, PATH, Hands())) == kind
    assert files.names == sorted(names)


def test_only_the_unfinished_file_is_deleted(store: CimStore) -> None:
    files = Files(store, WORK, PATH)
    assert delete_own_file(store, WORK, Hands())
    assert not delete_own_file(store, WORK, Hands())
    assert files.names == [PATH]


@pytest.mark.parametrize(
    "path",
    ["", "V:", "V:\\", "vhd", "\\\\server\\share\\x.vhd", "V:\\a\\..\\x.vhd", "V:\\a*.vhd", "V:\\a\\ .vhd ", "V:/x"],
)
def test_what_is_no_file_on_a_drive_is_refused(path: str) -> None:
    assert kind_of(lambda: check_file_path(path)) == "bad_path"


def test_a_whole_path_on_a_drive_is_taken() -> None:
    assert check_file_path("V:\\VHDs of sql01\\data-1.vhdx") == "V:\\VHDs of sql01\\data-1.vhdx"
