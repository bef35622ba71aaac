# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A backup set and views of hosts for tests of restores: one VM with a virtual hard disk, a pass-through LUN, an iSCSI LUN."""

from __future__ import annotations

import copy
from datetime import datetime, timezone
from typing import Any

from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup import backup_set as sets
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.backup_set import (
    Attempt,
    BackupSet,
    root_listing,
)

VM_ID = "285CEA9B-1111-2222-3333-000000000001"
OTHER_VM = "11111111-1111-2222-3333-000000000002"
NOW = datetime(2026, 6, 30, 19, 26, tzinfo=timezone.utc)
HOST_VERSION, GUEST_VERSION = "06/30/2026-19:30", "06/30/2026-19:26"
GIB = 2**30
LUN = "600A0B8000123456000ABCD4EF012345"
NEW_LUN = "600A0B8000123456000ABCD4EF099999"
ISCSI = "6589CFC000000A1B2C3D4E5F60718293"
IQN = "iqn.2005-10.org.example:mail"
GUID = "{aaaaaaaa-0000-4000-8000-000000000001}"
VOLUME = "\\\\?\\Volume{0a0b0c0d-1111-2222-3333-000000000001}\\"
ISCSI_VOLUME = "\\\\?\\Volume{0a0b0c0d-1111-2222-3333-000000000002}\\"


def slot(location: int) -> dict[str, Any]:
    return {"controller_type": "SCSI", "controller_number": 0, "controller_location": location}


def volume(path: str = VOLUME, letter: str = "S", **changes: Any) -> dict[str, Any]:
    return {
        "path": path,
        "letter": letter,
        "access_paths": [f"{letter}:\\"],
        "label": "Data",
        "file_system": "NTFS",
        "size_bytes": 9 * GIB,
        "used_bytes": 4 * GIB,
        "serial_number": 0x1234ABCD,
        "allocation_unit_bytes": 4096,
        "partition_number": 2,
        "offset_bytes": 17 * 2**20,
        "is_boot": False,
        "is_system": False,
        "bitlocker": None,
        "root_listing": root_listing(["System Volume Information", "db", "readme.txt"]),
        "sentinels": [
            {"path": "S:\\db\\version.txt", "found": True, "size_bytes": 12, "modified": "2026-06-30T10:00:00Z"}
        ],
        **changes,
    }


def disk_rows() -> list[dict[str, Any]]:
    table = [
        {
            "number": 1,
            "offset_bytes": 2**20,
            "size_bytes": 16 * 2**20,
            "gpt_type": "{e3c9e316-0b5c-4db8-817d-f92df00215ae}",
        },
        {
            "number": 2,
            "offset_bytes": 17 * 2**20,
            "size_bytes": 9 * GIB,
            "gpt_type": "{ebd0a0a2-b9e5-4433-87c0-68b6b72699c7}",
        },
    ]
    seen = {"guid": GUID, "signature": None, "size_bytes": 10 * GIB, "partition_style": "GPT", "partitions": table}
    host = {"guid": GUID, "signature": None, "size_bytes": 10 * GIB, "serial_number": "A1", "unique_id": LUN}
    return [
        {
            "slot": slot(0),
            "slot_text": "SCSI 0:0",
            "unique_id": "60022480AAAA",
            "kind": "virtual_hard_disk",
            "size_bytes": 20 * GIB,
            "coverage": "host",
            "reason": "",
            "evidence": {"host": {"path": "D:\\VMs\\db01\\os.vhdx", "size_bytes": 20 * GIB}, "guest": None},
            "volumes": [],
        },
        {
            "slot": slot(1),
            "slot_text": "SCSI 0:1",
            "unique_id": LUN,
            "kind": "pass_through",
            "size_bytes": 10 * GIB,
            "coverage": "guest",
            "reason": "",
            "evidence": {"host": host, "guest": {**seen, "kind": "pass_through", "unique_id": LUN, "iscsi": None}},
            "volumes": [volume()],
        },
        {
            "slot": None,
            "slot_text": None,
            "unique_id": ISCSI,
            "kind": "iscsi",
            "size_bytes": 10 * GIB,
            "coverage": "guest",
            "reason": "",
            "evidence": {
                "host": None,
                "guest": {
                    **seen,
                    "guid": "{aaaaaaaa-0000-4000-8000-000000000002}",
                    "kind": "iscsi",
                    "unique_id": ISCSI,
                    "iscsi": {
                        "target": IQN,
                        "session": "ffff-4",
                        "authentication": "NONE",
                        "portals": [{"address": "192.0.2.10", "port": 3260}],
                    },
                },
            },
            "volumes": [volume(ISCSI_VOLUME, "M", serial_number=0x77, sentinels=[])],
        },
    ]


def attempt(phase: str, **changes: Any) -> Attempt:
    facts: dict[str, Any] = {
        "number": 1,
        "run_id": sets.run_id_for("nightly", phase, 1),
        "engine": "wsb",
        "machine": "DB01" if phase == "guest" else "HV01",
        "target": "B:" if phase == "guest" else "E:",
        "started": NOW,
        "outcome": "succeeded",
        "version": GUEST_VERSION if phase == "guest" else HOST_VERSION,
        "snapshot_time": NOW,
        "listed": True,
        **changes,
    }
    return Attempt(**facts)


def backup_set(**changes: Any) -> BackupSet:
    facts: dict[str, Any] = {
        "set_id": "nightly",
        "vm": {"id": VM_ID, "name": "db01", "host": "HV01"},
        "opened": NOW,
        "updated": NOW,
        "max_skew_s": 3600.0,
        "state": "good",
        "automatic_start_action": "Start",
        "guest": (attempt("guest"),),
        "host": (attempt("host"),),
        "disks": tuple(disk_rows()),
        **changes,
    }
    return BackupSet(**facts)


def lun(unique_id: str = LUN, **changes: Any) -> dict[str, Any]:
    return {
        "unique_id": unique_id,
        "unique_id_format": 3,
        "serial_number": "A1",
        "number": 7,
        "size_bytes": 10 * GIB,
        "partition_style": "GPT",
        "guid": GUID,
        "signature": None,
        "is_offline": True,
        "is_boot": False,
        "is_system": False,
        "is_clustered": False,
        "weak_identity": False,
        "attached_to": [],
        **changes,
    }


def user(vm_id: str = OTHER_VM) -> dict[str, Any]:
    return {"vm_id": vm_id, "vm_name": "other", "slot": slot(3)}


def vm(vm_id: str = VM_ID, **changes: Any) -> dict[str, Any]:
    return {
        "id": vm_id,
        "name": "db01",
        "state": "off",
        "checkpoints": [],
        "replication": {"state": "disabled", "mode": "none", "is_replica": False},
        "is_clustered": False,
        **changes,
    }


def view(*luns: dict[str, Any], vms: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    return copy.deepcopy({"host": {"name": "HV01"}, "luns": list(luns), "vms": list(vms)})
