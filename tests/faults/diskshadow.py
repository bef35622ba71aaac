# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The scenarios of the host engine diskshadow: a migrated VM is backed up by shadow copies, and replaced from them.

Responsible for: their worlds (a shadow copy of somebody else's is there all the time), their end states, and what this engine must
never do: delete a shadow copy that is not provably its own or that a good set names, call a set good whose copies are not there,
leave a VM's disk without one whole copy.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

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
    no_job_beside_another,
    records_readable,
    sets_of,
)
from .scenarios import PREFIX, Scenario, applications, register, without_volatile

VM, HOST = "sql01", "hv01"
RECORDS = r"E:\shadow-records"

WORLD = f"""
name: shadow
seed: shadow
clock: 2026-10-01T20:00:00Z
hosts:
{host_text(HOST, "127.40.0.1")}
vms:
{
    vm_text(VM, "127.40.1.1", more="    automatic_start: always")
    .replace("size: 12M", "size: 6M")
    .replace("size: 32M", "size: 8M")
}
"""


# -- what there is to look at ----------------------------------------------------------------------------------------------


def _look(world: Any) -> Mapping[str, Any]:
    return {
        "copies": {copy.id.strip("{}").lower(): copy.set_id.strip("{}").lower() for copy in _copies(world)},
        "others": getattr(world, "foreign_copy", ""),
    }


def _copies(world: Any) -> list[Any]:
    return list(world.machine(HOST).vss.present())


def no_copy_deleted(before: Glance, now: Glance) -> Iterator[str]:
    """A copy that a good set names, or that somebody else made, stays."""
    kept = {str(before.more["others"])} | {one for record in _good(before) for one in _named(record)}
    for one in sorted(set(before.more["copies"]) - set(now.more["copies"])):
        if one in kept:
            yield f"the shadow copy {one} is gone"


def good_has_its_copies(before: Glance, now: Glance) -> Iterator[str]:
    if now.sets == before.sets:
        return
    for record in _good(now):
        named = _named(record)
        if not named:
            yield f"set {record['set_id']} is {record['state']} and names no shadow copy"
        for one in named:
            if one not in now.more["copies"]:
                yield f"set {record['set_id']} is {record['state']}, and its shadow copy {one} is not there"


def _good(now: Glance) -> list[Mapping[str, Any]]:
    found = [record for record in sets_of(now) if record["state"] in (*CLOSED_WELL, "restored")]
    return sorted(found, key=lambda record: str(record["closed"]))


def _version(record: Mapping[str, Any]) -> Mapping[str, Any]:
    attempts = record["phases"]["host"]["attempts"]
    held = [one for one in attempts if one["outcome"] in USABLE and one["version"]]
    return held[-1] if held else {}


def _named(record: Mapping[str, Any]) -> list[str]:
    return sorted((_version(record).get("evidence") or {}).get("shadows", {}).values())


# -- backing up ------------------------------------------------------------------------------------------------------------


def _with_others(world: Any, _controller: Any) -> Mapping[str, Any]:
    found = mishap(world, "shadow_of_others", machine=HOST, letter="D")
    world.foreign_copy = str(found).strip("{}").lower()
    return {}


def _end_of_backup(world: Any, now: Glance) -> Mapping[str, Any]:
    good = _good(now)
    own = {one for record in good for one in _named(record)} | {world.foreign_copy}
    return {
        "set": _essence(good[-1]) if good else None,
        "open": sum(record["state"] == "open" for record in sets_of(now)),
        "vms": dict(now.vms),
        "start actions": {vm.name: vm.settings.automatic_startup_action for vm in world.vms},
        "nobody's copies": sorted(one for one in now.more["copies"] if one not in own),
        "exposed": sorted(str(copy.exposed) for copy in _copies(world) if copy.exposed),
        "left": sorted(one for one in world.leftovers() if "shadow copy" not in one),
        "leases": leases(world),
    }


def _essence(record: Mapping[str, Any]) -> Mapping[str, Any]:
    host = _version(record)
    return {
        "state": record["state"],
        "host": [host.get("machine"), host.get("listed"), host.get("outcome"), len(_named(record))],
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
    present = {copy.id.strip("{}").lower(): copy for copy in _copies(world)}
    vm_id = next((one.id.upper() for one in world.vms if one.name == VM), "")
    for record in _good(now)[-1:]:
        for one in _named(record):
            if one not in present:
                yield f"the shadow copy {one} of the set is not there"
            elif vm_id not in {name.upper() for name in present[one].components}:
                yield f"the shadow copy {one} was made without the VM taking part"


BACKUP = register(
    Scenario(
        name="diskshadow_backup",
        text="a VM whose disks are all virtual hard disks is backed up by shadow copies of its volumes, beside one of somebody else's",
        world=WORLD,
        playbook=f"{PREFIX}.two_phase_backup",
        variables={
            "two_phase_backup_host_engine": "diskshadow",
            "two_phase_backup_host_target": RECORDS,
            "two_phase_backup_poll_interval": 0,
        },
        vm=VM,
        prepare=_with_others,
        look=_look,
        end_state=_end_of_backup,
        others=_besides_a_backup,
        proof=_proof_of_backup,
        invariants=(
            as_windows_allows,
            no_copy_deleted,
            good_has_its_copies,
            no_job_beside_another,
            records_readable,
            closed_stays_closed,
            disks_not_written,
        ),
        hook=applications(VM),
    )
)


# -- restoring -------------------------------------------------------------------------------------------------------------


def _replaced(world: Any, controller: Any) -> Mapping[str, Any]:
    """A good set, then a VM whose disk holds noise: it is replaced by name."""
    _with_others(world, controller)
    run = controller.run(BACKUP.playbook, dict(BACKUP.variables))
    assert run.status == 0, run.last_words
    (record,) = sets_of(glance(world))
    mishap(world, "stop_vm", vm=VM)
    world.images = dict(world.digests()["images"])
    mishap(world, "overwrite_vhd", vm=VM, slot="scsi 0:0")
    return {"reverse_restore_overwrite_vm": str(record["vm"]["id"])}


def every_disk_is_somewhere(_before: Glance, now: Glance) -> Iterator[str]:
    """The set's copies stay, and so does what the VM had until the restored VM has its disks."""
    if not set(now.more["copies"]) - {str(now.more["others"])}:
        yield "the shadow copies that are restored from are gone"


def _end_of_restore(world: Any, now: Glance) -> Mapping[str, Any]:
    vm = next((one for one in world.vms if one.name == VM), None)
    (record,) = sets_of(now)
    return {
        "vm": None
        if vm is None
        else {
            "state": vm.state,
            "automatic start": vm.settings.automatic_startup_action,
            "disks": sorted(str(drive.medium.path) for _controller, drive in vm.drives() if drive.medium is not None),
        },
        "set": [record["state"], [[one["id"], one["state"]] for one in record["restores"]]],
        "files": sorted(_files(world)),
        "exposed": sorted(str(copy.exposed) for copy in _copies(world) if copy.exposed),
        "left": sorted(one for one in world.leftovers() if "shadow copy" not in one),
        "leases": leases(world),
    }


def _files(world: Any) -> list[str]:
    return [name for name in world.digests()["images"] if name.startswith(f"{HOST}:")]


def _proof_of_restore(world: Any, _now: Glance) -> Iterator[str]:
    found = world.digests()["images"]
    for name, digest in world.images.items():
        if name not in found:
            yield f"{name} is not there"
        elif found[name] != digest and "os.vhdx" not in name:  # Windows writes to the volume that it boots from
            yield f"{name} is not as it was when its shadow copy was made"


RESTORE = register(
    dataclasses.replace(
        BACKUP,
        name="diskshadow_restore",
        text="a VM whose disk holds noise is replaced, by name, from its shadow copies",
        playbook=f"{PREFIX}.reverse_restore",
        variables={"reverse_restore_poll_interval": 0, "reverse_restore_boot_timeout": 60},
        prepare=_replaced,
        end_state=_end_of_restore,
        others=lambda _now: "",
        proof=_proof_of_restore,
        invariants=(as_windows_allows, no_copy_deleted, every_disk_is_somewhere, records_readable, closed_stays_closed),
        hook=None,
    )
)

__all__ = ["BACKUP", "RESTORE"]
