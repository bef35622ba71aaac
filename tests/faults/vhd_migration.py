# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The scenario of a migration: a pass-through LUN is copied to a VHD on another LUN, whatever breaks meanwhile.

Responsible for: its world, its end state, and that nobody ever writes to the source or starts the VM without its disk.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from backup_scene import host_text, vm_text

from .invariants import HKLM, Glance, as_windows_allows, leases
from .scenarios import PREFIX, Scenario, register

SOURCE, TARGET = "sql01-data", "sql01-new"
SOURCE_ID, TARGET_ID = "6006016000000000000000000000AA01", "6006016000000000000000000000BB02"
TARGET_BYTES = 340 * 1024**2
MIGRATIONS = "SOFTWARE\\hyperv.passthrough\\Migrations"

WORLD = f"""
name: migration
seed: migration
clock: 2026-10-01T20:00:00Z
luns:
  - {{id: {SOURCE}, size: 8M, bus: iscsi, serial: "7a0b1e000001", unique_id: {SOURCE_ID}, unique_id_format: 3}}
  - {{id: {TARGET}, size: 340M, bus: iscsi, serial: "7a0b1e000002", unique_id: {TARGET_ID}, unique_id_format: 3}}
hosts:
{host_text("hv01", "127.40.0.1", luns=f"{SOURCE}, {TARGET}")}
vms:
{
    vm_text("sql01", "127.40.1.1", lun=SOURCE, data="{letter: S, label: Data, files: {count: 2, size: 32K}}")
    .replace("size: 12M", "size: 6M")
    .replace("size: 32M", "size: 16M")
}
"""


def source_not_written(before: Glance, now: Glance) -> Iterator[str]:
    """The way back is worth something only while nobody has written to the source."""
    if now.disks.get(SOURCE) != before.disks.get(SOURCE):
        yield f"LUN {SOURCE} was written"


def _records(world: Any) -> list[Mapping[str, Any]]:
    found = []
    for host in world.hosts:
        key = host.registry.find(HKLM, MIGRATIONS)
        for one in key.subkeys.values() if key is not None else ():
            found.append(json.loads(host.registry.text(f"{MIGRATIONS}\\{one.name}", "Record")))
    return found


def _slots(vm: Any) -> dict[str, str]:
    return {
        str(location): f"{drive.kind} {getattr(drive.medium, 'path', drive.medium)}"
        for location, drive in sorted(vm.controller("scsi", 0).drives.items())
    }


def _end(world: Any, now: Glance) -> Mapping[str, Any]:
    records = _records(world)
    return {
        "outcome": [[disk["outcome"], disk["stage"], disk["path"]] for one in records for disk in one["disks"]],
        "downtime": [one["downtime_began"] for one in records],
        "vms": dict(now.vms),
        "slots": {vm.name: _slots(vm) for vm in world.vms},
        "start actions": {vm.name: vm.settings.automatic_startup_action for vm in world.vms},
        "guest volumes": world.digests()["guest_volumes"],
        "leases": leases(world),
    }


def _besides(_now: Glance) -> str:
    return ""


def _proof(world: Any, _now: Glance) -> Iterator[str]:
    if world.digests()["guest_volumes"].keys() != {"sql01:B", "sql01:C", "sql01:S"}:
        yield "the guest does not have all its volumes"


VHD_MIGRATION = register(
    Scenario(
        name="vhd_migration",
        text="a pass-through disk of a running VM becomes a fixed VHD on another LUN",
        world=WORLD,
        playbook=f"{PREFIX}.vhd_migration",
        variables={
            "vhd_migration_disks": [
                {
                    "lun": SOURCE_ID,
                    "destination_lun": TARGET_ID,
                    "confirm_size_bytes": TARGET_BYTES,
                    "drive_letter": "V",
                }
            ],
            "vhd_migration_reserve": "0",
            "vhd_migration_poll_interval": 0,
        },
        vm="sql01",
        end_state=_end,
        others=_besides,
        proof=_proof,
        invariants=(as_windows_allows, source_not_written),
        refusals=frozenset({"source_moved", "disks_moved"}),  # a restart renumbered the disks under the running VM
    )
)
