# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The scenarios of a migration: every mode of it, the two halves of `in_place`, the way back and the end.

Responsible for: their worlds, their end states, and what may never happen meanwhile: no LUN online while a VM has it, never
the LUN and its VHD in one VM, no VM on a source that was given up, never a moment without one whole copy of the guest's bytes.
"""

from __future__ import annotations

import dataclasses
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from backup_scene import LEASE_S, host_text, vm_text
from simulator.mishaps import mishap

from .invariants import HKLM, Glance, as_windows_allows, leases
from .scenarios import PREFIX, Scenario, register

SOURCE, TARGET = "sql01-data", "sql01-new"
SOURCE_ID, TARGET_ID = "6006016000000000000000000000AA01", "6006016000000000000000000000BB02"
TARGET_BYTES = 348 * 1024**2
MIGRATIONS = "SOFTWARE\\hyperv.passthrough\\Migrations"
STAGING = "D:\\Staging\\sql01-scsi0-2.vhdx"
VHDX = "V:\\sql01-scsi0-2.vhdx"
CUT_OVER = (
    "HYPERV_PASSTHROUGH_FAULTS_CUT_OVER"  # of the environment: a variable of a scenario is written before its world is
)
RUNNING = 2

_SMALL = {"size: 12M": "size: 6M", "size: 32M": "size: 16M"}  # of the disks of `vm_text`


def _small(text: str) -> str:
    for large, small in _SMALL.items():
        text = text.replace(large, small)
    return text


WORLD = f"""
name: migration
seed: migration
clock: 2026-10-01T20:00:00Z
luns:
  - {{id: {SOURCE}, size: 8M, bus: iscsi, serial: "7a0b1e000001", unique_id: {SOURCE_ID}, unique_id_format: 3}}
  - {{id: {TARGET}, size: 348M, bus: iscsi, serial: "7a0b1e000002", unique_id: {TARGET_ID}, unique_id_format: 3}}
hosts:
{host_text("hv01", "127.40.0.1", luns=f"{SOURCE}, {TARGET}")}
vms:
{_small(vm_text("sql01", "127.40.1.1", lun=SOURCE, data="{letter: S, label: Data, files: {count: 2, size: 32K}}"))}
"""
# Without a pass-through disk, since a restart of the host gives a running VM other disks, whatever a migration does.
WITHOUT = f"""
name: migration
seed: migration
clock: 2026-10-01T20:00:00Z
luns:
  - {{id: {TARGET}, size: 348M, bus: iscsi, serial: "7a0b1e000002", unique_id: {TARGET_ID}, unique_id_format: 3}}
hosts:
{host_text("hv01", "127.40.0.1", luns=TARGET)}
vms:
{_small(vm_text("sql01", "127.40.1.1"))}
"""


# -- looking -------------------------------------------------------------------------------------------------------------


def _records(world: Any) -> list[Mapping[str, Any]]:
    found = []
    for host in world.hosts:
        key = host.registry.find(HKLM, MIGRATIONS)
        for one in key.subkeys.values() if key is not None else ():
            if one.values:  # a key is made before its record
                found.append(json.loads(host.registry.text(f"{MIGRATIONS}\\{one.name}", "Record")))
    return found


def _slots(vm: Any) -> dict[str, str]:
    """What hangs at each slot: `lun <id>` of the disk that a pass-through drive means now, or the path of a file."""
    found = {}
    for location, drive in sorted(vm.controller("scsi", 0).drives.items()):
        lun = vm.physical_lun(drive)
        path = getattr(drive.medium, "path", None)
        found[str(location)] = f"lun {getattr(lun, 'id', lun)}" if lun is not None else str(path or "empty")
    return found


def _is_there(world: Any, path: str) -> bool:
    volume = world.machine("hv01").volume_by_letter(path[0])
    return volume is not None and bool(volume.files.exists(path[3:]))


def _checksum(world: Any, path: str) -> int | None:
    """Of a whole file of a disk of the host, also of one that is in use; None when it is not there."""
    volume = world.machine("hv01").volume_by_letter(path[0])
    if not _is_there(world, path):
        return None
    real = os.stat(volume.files.real_path(path[3:]))
    known: dict[str, Any] = world.__dict__.setdefault("checksums", {})
    mark = (real.st_ino, real.st_mtime_ns, real.st_size)
    if known.get(path, (None, 0))[0] != mark:  # read again only when somebody has written to it
        known[path] = (mark, zlib.crc32(volume.files.read(path[3:])))
    return int(known[path][1])


def look(world: Any) -> Mapping[str, Any]:
    """Slots of every VM, the disks of every record, and whether the source and the staging VHD are as they were.

    The file is read only when the source is not what it was, since only then anything depends on it.
    """
    versions = {name: lun.content.version for name, lun in world.luns.items()}
    kept: dict[str, Any] = world.__dict__.setdefault("migration_began", {"source": versions.get(SOURCE)})
    is_source_whole = versions.get(SOURCE) == kept["source"]
    return {
        "slots": {vm.name: _slots(vm) for vm in world.vms},
        "disks": [disk for record in _records(world) for disk in record["disks"]],
        "is_source_whole": is_source_whole,
        "is_staging_whole": is_source_whole or ("staging" in kept and _checksum(world, STAGING) == kept["staging"]),
    }


# -- what may never happen -------------------------------------------------------------------------------------------------


def source_not_written(_before: Glance, now: Glance) -> Iterator[str]:
    """The way back is worth something only while nobody has written to the source."""
    if not now.more["is_source_whole"]:
        yield f"LUN {SOURCE} was written"


def one_whole_copy(_before: Glance, now: Glance) -> Iterator[str]:
    """At every moment the guest's bytes are whole somewhere: on the source, or in the staging VHD once that is the only way back."""
    if not (now.more["is_source_whole"] or now.more["is_staging_whole"]):
        yield f"neither the LUN {SOURCE} nor {STAGING} holds the guest's disk any more"


def wiped_only_when_said(_before: Glance, now: Glance) -> Iterator[str]:
    if not now.more["is_source_whole"] and not any(disk["wiped"] for disk in now.more["disks"]):
        yield f"LUN {SOURCE} was written, and no record says so"


def never_both(_before: Glance, now: Glance) -> Iterator[str]:
    """A guest that sees the LUN and its copy takes one of them offline, or writes to the wrong one."""
    for name, slots in now.more["slots"].items():
        copies = [what for what in slots.values() if what == f"lun {SOURCE}" or what.casefold().startswith(_COPIES)]
        if len(copies) > 1:
            yield f"VM {name} has {' and '.join(copies)}"


_COPIES = (VHDX[:-5].casefold(), STAGING[:-5].casefold())


def never_on_a_source_that_was_given_up(before: Glance, now: Glance) -> Iterator[str]:
    """Once the record says that the VM has run on the VHD, it does not run on the LUN, but after a rollback."""
    for disk in now.more["disks"]:
        if disk["source"] is None or not disk["cut_over"] or disk["outcome"] == "rolled_back":
            continue
        for name, slots in now.more["slots"].items():
            was_off = before.vms.get(name) != RUNNING
            if f"lun {SOURCE}" in slots.values() and now.vms.get(name) == RUNNING and was_off:
                yield f"VM {name} was started on the LUN {SOURCE}, though it had run on its copy since {disk['cut_over']}"


ALWAYS = (as_windows_allows, never_both, never_on_a_source_that_was_given_up)


# -- how it ends -------------------------------------------------------------------------------------------------------------


def _end(world: Any, now: Glance) -> Mapping[str, Any]:
    records = _records(world)
    return {
        "outcome": [
            [
                disk["outcome"],
                disk["stage"],
                disk["leg"],
                disk["path"],
                disk["staging_path"],
                disk["wiped"],
                disk["job"],
            ]
            for one in records
            for disk in one["disks"]
        ],
        "downtime": [one["downtime_began"] for one in records],
        "vms": dict(now.vms),
        "slots": {vm.name: _slots(vm) for vm in world.vms},
        "start actions": {vm.name: vm.settings.automatic_startup_action for vm in world.vms},
        "guest volumes": world.digests()["guest_volumes"],
        "files": [path for path in _FILES if _is_there(world, path)],
        "host disks": sorted((d.backing.key, d.online, d.read_only) for host in world.hosts for d in host.disks),
        "mounted": [name for host in world.hosts for name in _mounted(host)],
        # One that a killed run held runs out by itself: a rerun that has nothing left to do takes none.
        "leases": {name: entries for name, entries in leases(world).items() if not _runs_out(world, entries)},
    }


def _runs_out(world: Any, entries: list[Mapping[str, Any]]) -> bool:
    soon = world.clock.utc() + timedelta(seconds=LEASE_S)
    return all(datetime.fromisoformat(str(one["expires"]).replace("Z", "+00:00")) < soon for one in entries)


_FILES = (VHDX, f"{VHDX[:-5]}.migrating.vhdx", STAGING, f"{STAGING[:-5]}.migrating.vhdx")


def _mounted(host: Any) -> list[str]:
    return sorted(disk.backing.key for disk in host.disks if disk.backing.key.casefold().endswith(".vhdx"))


def _besides(_now: Glance) -> str:
    return ""


def _proof(world: Any, _now: Glance) -> Iterator[str]:
    """The guest has all its volumes, with the files that they had before anything began."""
    if world.digests()["guest_volumes"] != world.__dict__.setdefault("volumes_before", _volumes(world)):
        yield "the guest's volumes are not what they were"


def _volumes(world: Any) -> Mapping[str, Any]:
    return dict(world.digests()["guest_volumes"])


# -- before the command ------------------------------------------------------------------------------------------------------


def _begin(world: Any, _controller: Any) -> None:
    world.volumes_before = _volumes(world)
    mishap(world, "write_file", machine="hv01", path="D:\\Staging\\readme.txt", text="room for staging")
    look(world)


def _after(world: Any, controller: Any, variables: Mapping[str, Any]) -> None:
    """Let the migration be done up to here."""
    _begin(world, controller)
    command = controller.run(f"{PREFIX}.vhd_migration", variables)
    if command.status != 0:
        raise RuntimeError(f"the migration before this scenario failed: {command.last_words}")
    (disk,) = (disk for record in _records(world) for disk in record["disks"])
    os.environ[CUT_OVER] = str(disk["cut_over"])
    world.migration_began["staging"] = _checksum(world, STAGING)


def _after_copy(world: Any, controller: Any) -> None:
    _after(world, controller, COPY)


def _after_first_half(world: Any, controller: Any) -> None:
    _after(world, controller, IN_PLACE)
    mishap(world, "grow_lun", lun=SOURCE, size=f"{TARGET_BYTES}")
    world.__dict__.pop("migration_began")
    look(world)
    world.migration_began["staging"] = _checksum(world, STAGING)


# -- the scenarios -------------------------------------------------------------------------------------------------------------

_SHARED = {"vhd_migration_reserve": "0", "vhd_migration_poll_interval": 0}
COPY: Mapping[str, Any] = {
    **_SHARED,
    "vhd_migration_disks": [
        {"lun": SOURCE_ID, "destination_lun": TARGET_ID, "confirm_size_bytes": TARGET_BYTES, "drive_letter": "V"}
    ],
}
IN_PLACE: Mapping[str, Any] = {
    **_SHARED,
    "vhd_migration_mode": "in_place",
    "vhd_migration_disks": [{"lun": SOURCE_ID, "staging_path": "D:\\Staging", "growth_gib": 1}],
}

# A restart of the host renumbers its disks under a VM that runs: that is for the operator to put right, and said.
_MOVED = frozenset({"source_moved", "disks_moved", "unknown_disk", "slot_taken"})
# What breaks the later scenarios: their steps are those of the first one, which gets all effects.
_FEWER = (
    *("drop_after", "fault", "outage", "killed", "orphaned", "overtaken"),
    *("restart_host", "restart_host_down", "turned_off", "turned_on", "cim_job_fails_50", "cim_job_vanishes"),
)

VHD_MIGRATION = register(
    Scenario(
        name="vhd_migration",
        text="a pass-through disk of a running VM becomes a fixed VHD on another LUN",
        world=WORLD,
        playbook=f"{PREFIX}.vhd_migration",
        variables=COPY,
        vm="sql01",
        prepare=_begin,
        look=look,
        end_state=_end,
        others=_besides,
        proof=_proof,
        invariants=(*ALWAYS, source_not_written),
        refusals=_MOVED,
    )
)

# Compares every byte besides; what it does up to there is that of the first one.
FULL = register(
    dataclasses.replace(
        VHD_MIGRATION,
        name="vhd_migration_full",
        text="the same with a comparison of every byte of LUN and VHD before the VM uses it",
        variables={**COPY, "vhd_migration_verify": "full"},
        effects=("drop_after", "fault", "outage", "killed", "orphaned", "overtaken", "restart_host_down", "turned_on"),
    )
)

IN_PLACE_STAGING = register(
    dataclasses.replace(
        VHD_MIGRATION,
        name="vhd_migration_staging",
        text="the first half of a migration in place: the VM runs on a staging VHD until the array has grown the LUN",
        variables=IN_PLACE,
        effects=_FEWER,
    )
)

IN_PLACE_GROWTH = register(
    dataclasses.replace(
        VHD_MIGRATION,
        name="vhd_migration_growth",
        text="the second half: the grown LUN is wiped, and the staging VHD is copied onto it",
        variables={
            **IN_PLACE,
            "vhd_migration_disks": [
                {"lun": SOURCE_ID, "staging_path": "D:\\Staging", "confirm_wipe": SOURCE_ID, "drive_letter": "V"}
            ],
        },
        prepare=_after_first_half,
        invariants=(*ALWAYS, one_whole_copy, wiped_only_when_said),
        effects=_FEWER,
    )
)

NEW = register(
    dataclasses.replace(
        VHD_MIGRATION,
        name="vhd_migration_new",
        text="an empty VHD on a LUN of its own is added to the running VM",
        world=WITHOUT,
        variables={
            **_SHARED,
            "vhd_migration_mode": "new",
            "vhd_migration_disks": [
                {
                    "slot": {"controller_location": 5},
                    "destination_lun": TARGET_ID,
                    "confirm_size_bytes": TARGET_BYTES,
                    "drive_letter": "V",
                }
            ],
        },
        effects=_FEWER,
    )
)

ROLLED_BACK = register(
    dataclasses.replace(
        VHD_MIGRATION,
        name="vhd_migration_rolled_back",
        text="a VM that has run on its VHD is led back to the LUN, with what it wrote since given up by name",
        playbook=f"{PREFIX}.vhd_migration_rollback",
        variables={
            **_SHARED,
            "vhd_migration_discard_writes_since": f"{{{{ lookup('ansible.builtin.env', '{CUT_OVER}') }}}}",
        },
        prepare=_after_copy,
        effects=tuple(name for name in _FEWER if name != "restart_host"),  # at the end the VM runs on its LUN
    )
)

FINALIZED = register(
    dataclasses.replace(
        VHD_MIGRATION,
        name="vhd_migration_finalized",
        text="the way back is given up, and the host says which LUN may be reclaimed",
        variables={**_SHARED, "vhd_migration_state": "finalized"},
        prepare=_after_copy,
        effects=_FEWER,
    )
)
