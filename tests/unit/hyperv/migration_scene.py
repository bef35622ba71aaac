# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host with one VM, its pass-through LUN and a blank LUN, in the shapes that disk_info returns, for planner tests."""

from __future__ import annotations

from typing import Any

from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.disk_selector import DiskSelector
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.guest_model import GuestPartition
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.image_service import DiskLayout
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.migration_record import MigrationRecord
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.migration_steps import (
    Request,
    Situation,
    Wanted,
)
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.model import Slot
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.vhd_fit import GIB

VM_ID = "AAAAAAAA-0000-4000-8000-000000000001"
SLOT = Slot(controller_type="SCSI", controller_number=0, controller_location=2)
SECOND = Slot(controller_type="SCSI", controller_number=0, controller_location=3)
SOURCE, BLANK = "6006016000000000000000000000AA01", "6006016000000000000000000000BB02"
SIZE = 10 * GIB
GUID = "{aaaaaaaa-0000-4000-8000-0000000000aa}"


def lun(unique_id: str, **changes: Any) -> dict[str, Any]:
    made = {
        "unique_id": unique_id,
        "unique_id_format": 3,
        "serial_number": f"serial-{unique_id[-4:]}",
        "number": 7,
        "friendly_name": "NETAPP LUN",
        "manufacturer": "NETAPP",
        "model": "LUN C-Mode",
        "size_bytes": SIZE,
        "logical_sector_bytes": 512,
        "physical_sector_bytes": 4096,
        "bus_type": "iSCSI",
        "provisioning": "Fixed",
        "partition_style": "RAW",
        "guid": None,
        "signature": None,
        "is_offline": True,
        "offline_reason": "Policy",
        "is_read_only": True,
        "is_boot": False,
        "is_system": False,
        "is_clustered": False,
        "location": "",
        "weak_identity": False,
        "attached_to": [],
        "object_id": unique_id,
    }
    return {**made, **changes}


def slot_dict(slot: Slot) -> dict[str, Any]:
    return {
        "controller_type": slot.controller_type,
        "controller_number": slot.controller_number,
        "controller_location": slot.controller_location,
    }


def vm_disk(
    slot: Slot = SLOT, *, lun_id: str | None = SOURCE, path: str | None = None, **changes: Any
) -> dict[str, Any]:
    identity = {**lun(lun_id), "partition_style": "GPT", "guid": GUID} if lun_id else None
    made = {
        "slot": slot_dict(slot),
        "drive_id": f"Microsoft:{VM_ID}\\X\\0\\{slot.controller_location}\\D",
        "controller_id": "controller",
        "attachment": "virtual_hard_disk" if path else "pass_through" if lun_id else "empty",
        "path": path,
        "vhd": None,
        "lun": None if path else identity,
        "unique_id": lun_id,
        "size_bytes": SIZE,
        "host_volume": None,
        "captured_by": "guest",
        "reason": "",
    }
    return {**made, **changes}


def vm(**changes: Any) -> dict[str, Any]:
    made = {
        "id": VM_ID,
        "name": "sql01",
        "state": "running",
        "health": "ok",
        "generation": 2,
        "version": "10.0",
        "automatic_start_action": "StartIfRunning",
        "checkpoints": [],
        "replication": {"state": "disabled", "mode": "none", "is_replica": False},
        "is_clustered": False,
        "guest": {"heartbeat": "ok", "os_name": "Windows Server 2022"},
        "busy": None,
        "controllers": [{"id": "controller", "type": "SCSI", "number": 0}],
        "disks": [vm_disk()],
    }
    return {**made, **changes}


def attached(vm_id: str = VM_ID, name: str = "sql01") -> dict[str, Any]:
    return {"vm_id": vm_id, "vm_name": name, "slot": slot_dict(SLOT)}


def source_lun(**changes: Any) -> dict[str, Any]:
    return lun(SOURCE, **{"partition_style": "GPT", "guid": GUID, "attached_to": [attached()], **changes})


def blank_lun(**changes: Any) -> dict[str, Any]:
    return lun(BLANK, **{"size_bytes": SIZE + GIB, **changes})


def layout() -> DiskLayout:
    partition = GuestPartition(
        number=2,
        offset_bytes=16 * 1024**2,
        size_bytes=SIZE - 17 * 1024**2,
        gpt_type="{ebd0a0a2-b9e5-4433-87c0-68b6b72699c7}",
        mbr_type=None,
        guid="{bbbbbbbb-0000-4000-8000-000000000001}",
        is_active=False,
    )
    return DiskLayout(size_bytes=SIZE, partition_style="GPT", guid=GUID, signature=None, partitions=(partition,))


def situation(
    *,
    the_vm: dict[str, Any] | None = None,
    luns: list[dict[str, Any]] | None = None,
    record: MigrationRecord | None = None,
    host: dict[str, Any] | None = None,
    **changes: Any,
) -> Situation:
    view = {
        "host": {
            "name": "HV01",
            "os_build": 20348,
            "utc": "2026-11-22T12:00:00Z",
            "cluster": {"member": False, "name": None},
            **(host or {}),
        },
        "luns": luns if luns is not None else [source_lun(), blank_lun()],
        "vms": [the_vm or vm()],
    }
    made: dict[str, Any] = {
        "view": view,
        "volumes": [
            {"path": "c", "letter": "C", "free_bytes": 10 * GIB},
            {"path": "d", "letter": "D", "free_bytes": 100 * GIB},
        ],
        "layouts": {SOURCE: layout()},
        "record": record,
    }
    return Situation(**{**made, **changes})


def wanted(**changes: Any) -> Wanted:
    made: dict[str, Any] = {
        "slot": SLOT,
        "destination": DiskSelector(unique_id=BLANK),
        "confirm_size_bytes": SIZE + GIB,
    }
    return Wanted(**{**made, **changes})


def request(*disks: Wanted, state: str = "present", **changes: Any) -> Request:
    return Request(state=state, disks=disks if disks or state != "present" else (wanted(),), **changes)
