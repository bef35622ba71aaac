# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The scenarios of the host engine export: two phases with the guest's Windows Server Backup, and a VM replaced from its export.

Responsible for: their worlds, their end states, and what this engine must never do: call a set good whose files are not there,
write to an export, start a VM on another disk than its own, leave a checkpoint or a planned VM behind at the end.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from backup_proof import guest_volumes
from backup_scene import host_text, vm_text
from simulator.mishaps import mishap

from .invariants import (
    CLOSED_WELL,
    USABLE,
    Glance,
    as_windows_allows,
    closed_stays_closed,
    disks_not_written,
    glance,
    leases,
    records_readable,
    sets_of,
)
from .scenarios import PREFIX, Scenario, applications, register, without_volatile

VM, HOST, LUN = "sql01", "hv01", "sql01-data"
SHARE = r"\\filer01\backup"

WORLD = f"""
name: export
seed: export
clock: 2026-10-01T20:00:00Z
luns:
  - {{id: {LUN}, size: 8M, bus: iscsi, serial: "7a0b1e000001"}}
shares:
  - {{server: filer01, name: backup, size: 10G, write: ['*']}}
hosts:
{host_text(HOST, "127.40.0.1", luns=LUN)}
vms:
{
    vm_text(
        VM,
        "127.40.1.1",
        lun=LUN,
        data="{letter: S, label: Data, files: {count: 2, size: 32K}}",
        more="    automatic_start: always",
    )
    .replace("size: 12M", "size: 6M")
    .replace("size: 32M", "size: 8M")
}
"""


# -- what there is to look at ----------------------------------------------------------------------------------------------


def _look(world: Any) -> Mapping[str, Any]:
    vm = next((one for one in world.vms if one.name == VM), None)
    return {
        "files": _files(world),
        "runs on": _lun(vm) if vm is not None and vm.running else LUN,
    }


def _lun(vm: Any) -> str | None:
    for _controller, drive in vm.drives():
        if drive.kind == "physical":
            return getattr(vm.physical_lun(drive), "id", None)
    return None


def _good(now: Glance) -> list[Mapping[str, Any]]:
    found = [record for record in sets_of(now) if record["state"] in (*CLOSED_WELL, "restored")]
    return sorted(found, key=lambda record: str(record["closed"]))


def _host_half(record: Mapping[str, Any]) -> Mapping[str, Any]:
    held = [one for one in record["phases"]["host"]["attempts"] if one["outcome"] in USABLE and one["version"]]
    return held[-1] if held else {}


def _exported(record: Mapping[str, Any]) -> dict[str, str]:
    """The VM's file -> its copy in the export."""
    half = _host_half(record)
    rows = (half.get("evidence") or {}).get("disks") or []
    return {str(row["path"]): f"{half['target']}\\Virtual Hard Disks\\{row['file']}" for row in rows}


def _missing(record: Mapping[str, Any], there: Mapping[str, Any]) -> list[str]:
    """What a good set names of its export and is not there; nothing can be looked at on a host without its volume E:."""
    evidence = _host_half(record).get("evidence") or {}
    return [
        path for path in (str(evidence.get("definition")), *_exported(record).values()) if path.casefold() not in there
    ]


def _files(world: Any) -> dict[str, tuple[int, int]]:
    """Size and time of every file of the exports on E:, by lower-case path."""
    volume, _path = world.machine(HOST).resolve("E:\\")
    root, found = Path(volume.files.root), {}
    for path in sorted(root.rglob("*")):
        parts = [part.casefold() for part in path.relative_to(root).parts]
        if path.is_file() and "exports" in parts:
            seen = path.stat()
            found["e:\\" + "\\".join(parts)] = (seen.st_size, seen.st_mtime_ns)
    return found


def good_has_its_files(_before: Glance, now: Glance) -> Iterator[str]:
    for record in _good(now):
        for path in _missing(record, now.more["files"]):
            yield f"set {record['set_id']} is {record['state']}, and {path} of its export is not there"


def export_not_written(before: Glance, now: Glance) -> Iterator[str]:
    if now.more["files"] != before.more["files"]:
        yield "files of the export that is restored from were written"


def runs_on_its_own_disk(_before: Glance, now: Glance) -> Iterator[str]:
    if now.more["runs on"] != LUN:
        yield f"{VM} runs, and its pass-through drive means {now.more['runs on'] or 'no disk'}"


# -- backing up ------------------------------------------------------------------------------------------------------------


def _end_of_backup(world: Any, now: Glance) -> Mapping[str, Any]:
    good = _good(now)
    return {
        "set": _essence(good[-1]) if good else None,
        "open": sum(record["state"] == "open" for record in sets_of(now)),
        "vms": dict(now.vms),
        "start actions": {vm.name: vm.settings.automatic_startup_action for vm in world.vms},
        "left": sorted(world.leftovers()),
        "leases": leases(world),
        "luns": dict(now.disks),
    }


def _essence(record: Mapping[str, Any]) -> Mapping[str, Any]:
    half = _host_half(record)
    return {
        "state": record["state"],
        "host": [half.get("machine"), half.get("listed"), half.get("outcome"), sorted(_exported(record))],
        "guest needed": record["phases"]["guest"]["needed"],
        "disks": without_volatile(record["disks"]),
        "hooks": [record["hooks"]["used"], record["hooks"]["quiesced"]],
        "start action": record["automatic_start_action"],
    }


def _besides_a_backup(now: Glance) -> str:
    sets = sets_of(now)
    failed, more = sum(record["state"] == "failed" for record in sets), len(_good(now)) - 1
    parts = [f"{failed} set{'s' if failed > 1 else ''} recorded as failed"] if failed else []
    return ", ".join([*parts, *([f"{more} more good set{'s' if more > 1 else ''}"] if more > 0 else [])])


def _proof_of_backup(world: Any, now: Glance) -> Iterator[str]:
    for record in _good(now)[-1:]:
        for path, copy in _exported(record).items():
            if _digest(world, copy) is None:
                yield f"{copy} is not there"
            elif _digest(world, copy) != _digest(world, path):
                yield f"{copy} does not hold the bytes of {path}"
        for held in guest_volumes(world, record):
            if not held.is_proven:
                yield f"{held.kind} {held.name} cannot be got back from the guest phase's version"


def _digest(world: Any, path: str) -> str | None:
    """Of a file's bytes, None when there is none."""
    volume, relative = world.machine(HOST).resolve(path)
    wanted = relative.replace("\\", "/").strip("/").casefold()
    root = Path(volume.files.root)
    for one in root.rglob("*"):
        if one.is_file() and one.relative_to(root).as_posix().casefold() == wanted:
            return hashlib.sha256(one.read_bytes()).hexdigest()
    return None


BACKUP = register(
    Scenario(
        name="export_backup",
        text="two-phase backup of a VM with one pass-through disk, its host phase an export by Hyper-V",
        world=WORLD,
        playbook=f"{PREFIX}.two_phase_backup",
        variables={
            "two_phase_backup_host_engine": "export",
            "two_phase_backup_host_target": "E:",
            "two_phase_backup_guest_target": SHARE,
            "two_phase_backup_poll_interval": 0,
        },
        vm=VM,
        look=_look,
        end_state=_end_of_backup,
        others=_besides_a_backup,
        proof=_proof_of_backup,
        invariants=(
            as_windows_allows,
            good_has_its_files,
            records_readable,
            closed_stays_closed,
            disks_not_written,
        ),
        hook=applications(VM),
    )
)


# -- restoring -------------------------------------------------------------------------------------------------------------


def _replaced(world: Any, controller: Any) -> Mapping[str, Any]:
    """A good set, then a VM whose disk holds noise and a LUN that is newer than the set; the VM is replaced by name."""
    run = controller.run(BACKUP.playbook, dict(BACKUP.variables))
    assert run.status == 0, run.last_words
    (record,) = sets_of(glance(world))
    mishap(world, "write_file", machine=VM, path=r"S:\newer.txt", text="written after the backup")
    mishap(world, "stop_vm", vm=VM)
    world.trees = world.digests()["guest_volumes"]
    mishap(world, "overwrite_vhd", vm=VM, slot="scsi 0:1")
    return {"reverse_restore_overwrite_vm": str(record["vm"]["id"])}


def _end_of_restore(world: Any, now: Glance) -> Mapping[str, Any]:
    vm = next((one for one in world.vms if one.name == VM), None)
    (record,) = sets_of(now)
    found = world.digests()
    return {
        "vm": None
        if vm is None
        else {
            "state": vm.state,
            "automatic start": vm.settings.automatic_startup_action,
            "disks": sorted(
                str(_lun(vm) if drive.kind == "physical" else drive.medium.path)
                for _controller, drive in vm.drives()
                if drive.kind == "physical" or drive.medium is not None
            ),
        },
        "volumes": {name: tree for name, tree in found["guest_volumes"].items() if name != f"{VM}:C"},
        "files": sorted(name for name in found["images"] if name.startswith(f"{HOST}:")),
        "set": [record["state"], [[one["id"], one["state"]] for one in record["restores"]]],
        "left": sorted(world.leftovers()),
        "leases": leases(world),
    }


def _proof_of_restore(world: Any, _now: Glance) -> Iterator[str]:
    found = world.digests()["guest_volumes"]
    for name, tree in world.trees.items():
        if name != f"{VM}:C" and found.get(name) != tree:  # Windows writes to the volume that it boots from
            yield f"volume {name} is not as it was before the disaster"


RESTORE = register(
    dataclasses.replace(
        BACKUP,
        name="export_restore",
        text="a VM whose disk holds noise is replaced, by name, from its export; its pass-through LUN is newer than the set and kept",
        playbook=f"{PREFIX}.reverse_restore",
        variables={"reverse_restore_poll_interval": 0, "reverse_restore_boot_timeout": 60},
        prepare=_replaced,
        end_state=_end_of_restore,
        others=lambda _now: "",
        proof=_proof_of_restore,
        invariants=(
            as_windows_allows,
            good_has_its_files,
            export_not_written,
            runs_on_its_own_disk,
            records_readable,
            closed_stays_closed,
            disks_not_written,
        ),
        hook=None,
    )
)

__all__ = ["BACKUP", "RESTORE"]
