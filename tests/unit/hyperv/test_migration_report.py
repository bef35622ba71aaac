# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of candidates, and the comparison of a guest's volumes before and after a migration."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.migration_report import (
    migrated_disks,
    migration_candidates,
)
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.vhd_fit import GIB
from unit.hyperv.migration_scene import GUID, SECOND, SIZE, SLOT, SOURCE, situation, slot_dict, source_lun, vm, vm_disk

NEW_ID = "600224800000000000000000000000FF"


def test_a_candidate_says_fit_growth_and_downtime_and_is_json() -> None:
    view = situation(the_vm=vm(disks=[vm_disk(), vm_disk(SECOND, path="D:\\os.vhdx")])).view
    (found,) = migration_candidates(view)
    assert json.loads(json.dumps(found)) == found
    assert (found["unique_id"], found["format"], found["growth_gib"]) == (SOURCE, "VHDX", 1)
    assert found["destination_bytes"] == SIZE + GIB
    assert found["obstacles"] == []
    assert "in_place needs 1 GiB more" in found["sentence"]


@pytest.mark.parametrize(
    ("the_vm", "the_lun", "kind"),
    [
        ({"state": "saved"}, {}, "vm_saved"),
        ({"checkpoints": [{"id": "x", "name": "n", "type": "standard"}]}, {}, "checkpoints_exist"),
        ({}, {"is_offline": False}, "lun_online"),
        ({}, {"size_bytes": 65 * 1024 * GIB}, "disk_too_large"),
        ({"disks": [vm_disk(lun_id=None, attachment="unresolved_pass_through")]}, {}, "unresolved_pass_through"),
    ],
)
def test_what_stands_in_the_way_is_said_and_nothing_is_hidden(
    the_vm: dict[str, Any], the_lun: dict[str, Any], kind: str
) -> None:
    (found,) = migration_candidates(situation(the_vm=vm(**the_vm), luns=[source_lun(**the_lun)]).view)
    assert kind in [item["kind"] for item in found["obstacles"]]
    assert "not now" in found["sentence"]


def volume(**changes: Any) -> dict[str, Any]:
    made = {
        "offset_bytes": 1048576,
        "letter": "S",
        "label": "Data",
        "file_system": "NTFS",
        "serial_number": 77,
        "size_bytes": 500,
        "used_bytes": 20,
    }
    return {**made, **changes}


def vhd(**changes: Any) -> dict[str, Any]:
    before = {"unique_id": SOURCE, "guid": GUID, "signature": None, "volumes": [volume()], **changes}
    return {"slot": slot_dict(SLOT), "guest_disk": before}


def guest(**changes: Any) -> dict[str, Any]:
    disk = {
        "unique_id": NEW_ID,
        "guid": GUID.upper(),
        "signature": None,
        "is_offline": False,
        "is_read_only": False,
        "volumes": [volume(used_bytes=21)],
        **changes,
    }
    return {"disks": [{**disk, "unique_id": "other", "guid": None}, disk]}


def test_a_disk_with_a_new_identity_is_found_by_its_guid_and_is_as_it_was() -> None:
    found = migrated_disks([vhd(), {"slot": slot_dict(SECOND), "guest_disk": None}], guest())
    assert (found["missing"], found["differences"]) == ([], [])
    assert [disk["unique_id"] for disk in found["disks"]] == [NEW_ID]
    assert found["disks"][0]["volumes"] == [volume()]


def test_an_mbr_disk_is_found_by_its_signature() -> None:
    found = migrated_disks([vhd(guid=None, signature=9)], guest(guid=None, signature=9))
    assert [disk["unique_id"] for disk in found["disks"]] == ["other"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"is_offline": True, "volumes": []}, "offline"),
        ({"is_read_only": True}, "read-only"),
        ({"volumes": []}, "volume S is not there"),
        ({"volumes": [volume(letter="T")]}, "letter was S and is T"),
        ({"volumes": [volume(serial_number=78)]}, "serial number"),
        ({"volumes": [volume(file_system="RAW")]}, "file system"),
        ({"volumes": [volume(size_bytes=499)]}, "size bytes"),
    ],
)
def test_a_volume_that_is_not_as_it_was_is_told(changes: dict[str, Any], said: str) -> None:
    (difference,) = migrated_disks([vhd()], guest(**changes))["differences"]
    assert said in difference


def test_a_disk_that_the_guest_does_not_show_is_told() -> None:
    found = migrated_disks([vhd()], guest(guid="{00000000-0000-0000-0000-000000000000}"))
    assert found["disks"] == []
    assert GUID in found["missing"][0]
