# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The scenarios of a reverse restore: the VM is lost on its own host, on a host that was rebuilt, or beside a LUN that is newer.

Responsible for: their worlds (a good backup, then a disaster), their end states, and what a restore must never do: write to
data that nobody named, harm the set that it restores from, let the VM run on disks that are not its own.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from backup_scene import host_text, vm_text
from simulator.content import fill_with_noise
from simulator.mishaps import mishap
from simulator.virtual_machine import STOPPING

from .invariants import (
    FOLDER,
    Glance,
    as_windows_allows,
    closed_stays_closed,
    glance,
    leases,
    no_version_deleted,
    records_readable,
    sets_of,
)
from .scenarios import PREFIX, Scenario, register

SHARE = r"\\filer01\backup"
LUN, OTHER = "sql01-data", "other"


def _world(size: str) -> str:
    return f"""
name: restore
seed: restore
clock: 2026-10-01T20:00:00Z
luns:
  - {{id: {LUN}, size: {size}, bus: iscsi, serial: "7a0b1e000001"}}
  - {{id: {OTHER}, size: 8M, bus: iscsi, serial: "7a0b1e000002"}}
shares:
  - {{server: filer01, name: backup, size: 10G, write: ['*']}}
hosts:
{host_text("hv01", "127.40.0.1", luns=f"{OTHER}, {LUN}")}
vms:
{
        vm_text(
            "sql01",
            "127.40.1.1",
            lun=LUN,
            data="{letter: S, label: Data, files: {count: 2, size: 32K}}",
            more="    automatic_start: always",
        )
        .replace("size: 12M", "size: 6M")
        .replace("size: 32M", "size: 8M")
    }
"""


# -- what there is to look at ---------------------------------------------------------------------------------------------


def _vm(world: Any) -> Any:
    return next((vm for vm in world.vms if vm.name == "sql01"), None)


def _disk(vm: Any) -> str | None:
    """The LUN that the VM's pass-through drive means now."""
    for _controller, drive in vm.drives():
        if drive.kind == "physical":
            return getattr(vm.physical_lun(drive), "id", None)
    return None


def _look(world: Any) -> Mapping[str, Any]:
    vm = _vm(world)
    return {
        # one whose saved state is thrown away is "stopping", and touches no disk
        "runs on": _disk(vm) if vm is not None and vm.running and vm.state != STOPPING else LUN,
        "set": _stored(world),
        "recoveries": sum(
            len(task.runs)
            for host in world.hosts
            for task in host.scheduler.tasks()
            if "_restore." in task.name and task.folder.strip("\\") == FOLDER
        ),
        "written": world.written_since(world.backed_up) if hasattr(world, "backed_up") else {},
    }


def _stored(world: Any) -> str:
    """Names, sizes and times of every file on the backup targets; a copy of the world keeps the times."""
    rows = []
    for root in getattr(world, "targets", ()):
        for path in sorted(Path(root).rglob("*")):
            if path.is_file() and "hyperv.passthrough" not in path.parts:
                found = path.stat()
                rows.append((path.name, found.st_size, found.st_mtime_ns))
    return hashlib.sha256(repr(rows).encode()).hexdigest()


def runs_on_its_own_disk(_before: Glance, now: Glance) -> Iterator[str]:
    if now.more["runs on"] != LUN:
        yield f"sql01 runs, and its pass-through drive means {now.more['runs on'] or 'no disk'}"


def set_survives(before: Glance, now: Glance) -> Iterator[str]:
    if now.more["set"] != before.more["set"]:
        yield "files of the backup were written"


def one_recovery_at_a_time(_before: Glance, now: Glance) -> Iterator[str]:
    if now.more["recoveries"] > 1:
        yield f"{now.more['recoveries']} recoveries of ours run on one machine"


def others_not_written(_before: Glance, now: Glance) -> Iterator[str]:
    if now.more["written"].get(OTHER):
        yield f"LUN {OTHER}, which is not the VM's, was written"


def kept_not_written(_before: Glance, now: Glance) -> Iterator[str]:
    if now.more["written"].get(LUN):
        yield f"LUN {LUN}, which is newer than the set and not named, was written"


INVARIANTS = (
    as_windows_allows,
    no_version_deleted,
    records_readable,
    closed_stays_closed,
    runs_on_its_own_disk,
    set_survives,
    one_recovery_at_a_time,
    others_not_written,
)


# -- before the command ---------------------------------------------------------------------------------------------------


def _back_up(world: Any, controller: Any) -> Mapping[str, Any]:
    """A good set, its record, and what its bytes were."""
    settings = {"host_target": "E:", "guest_target": SHARE, "poll_interval": 0}
    run = controller.run(f"{PREFIX}.two_phase_backup", {f"two_phase_backup_{k}": v for k, v in settings.items()})
    assert run.status == 0, run.last_words
    (record,) = sets_of(glance(world))
    return record


def _wreck(world: Any, controller: Any) -> Mapping[str, Any]:
    _back_up(world, controller)
    mishap(world, "stop_vm", vm="sql01")
    world.trees = world.digests()["guest_volumes"]
    mishap(world, "delete_vm", vm="sql01")
    mishap(world, "blank_lun", lun=LUN)
    fill_with_noise(world.luns[LUN].content, "rubbish", 0, 1024**2)  # no more: every fork copies it
    mishap(world, "reboot", machine="hv01")
    return _ready(world)


def _rebuild(world: Any, controller: Any) -> Mapping[str, Any]:
    record = _back_up(world, controller)
    mishap(world, "stop_vm", vm="sql01")
    world.trees = world.digests()["guest_volumes"]
    mishap(world, "delete_vm", vm="sql01")
    mishap(world, "rebuild_host", machine="hv01", volumes=["C", "D"], switches=["New"])
    adapters = record["vm"]["network_adapters"]
    return {
        **_ready(world),
        "hyperv_vm": record["vm"]["id"],
        "reverse_restore_set_source": str(record["copies"][-1]),
        "reverse_restore_switch_map": {one["switch_name"]: "New" for one in adapters if one["switch_name"]},
    }


def _newer(world: Any, controller: Any) -> Mapping[str, Any]:
    _back_up(world, controller)
    mishap(world, "write_file", machine="sql01", path=r"S:\newer.txt", text="written after the backup")
    mishap(world, "stop_vm", vm="sql01")
    world.trees = world.digests()["guest_volumes"]
    mishap(world, "delete_vm", vm="sql01")
    mishap(world, "reboot", machine="hv01")
    return _ready(world)


def _ready(world: Any) -> Mapping[str, Any]:
    world.backed_up = world.mark()
    volume, _path = world.machine("hv01").resolve("E:\\")
    world.targets = [str(files.root) for files in (volume.files, *(share.volume.files for share in world.shares))]
    return {}


# -- afterwards -----------------------------------------------------------------------------------------------------------


def _end(world: Any, now: Glance) -> Mapping[str, Any]:
    vm = _vm(world)
    (record,) = sets_of(now)
    return {
        "vm": None
        if vm is None
        else {
            "state": vm.state,
            "automatic start": vm.settings.automatic_startup_action,
            "slots": {
                vm.slot_name(controller, drive.location): _disk(vm)
                if drive.kind == "physical"
                else str(drive.medium.path)
                for controller, drive in vm.drives()
                if drive.kind == "physical" or drive.medium is not None
            },
        },
        "volumes": {name: tree for name, tree in world.digests()["guest_volumes"].items() if name != "sql01:C"},
        "set": [record["state"], [[one["id"], one["state"]] for one in record["restores"]]],
        "host disks": sorted((d.backing.key, d.online, d.read_only) for host in world.hosts for d in host.disks),
        "leases": leases(world),
    }


def _proof(world: Any, _now: Glance) -> Iterator[str]:
    found = world.digests()["guest_volumes"]
    for name, tree in world.trees.items():
        if name != "sql01:C" and found.get(name) != tree:  # Windows writes to the volume that it boots from
            yield f"volume {name} is not as it was before the disaster"
    if "sql01:C" not in found:
        yield "the volume that sql01 boots from is not there"


def _besides(_now: Glance) -> str:
    return ""


SAME_HOST = register(
    Scenario(
        name="reverse_restore",
        text="a VM that was deleted with its disks, and whose pass-through LUN begins with noise, comes back on its own host, which "
        "numbers its disks anew",
        world=_world("136M"),  # Windows makes no GPT on less than 128 MiB
        playbook=f"{PREFIX}.reverse_restore",
        variables={"reverse_restore_poll_interval": 0, "reverse_restore_boot_timeout": 60},
        vm="sql01",
        prepare=_wreck,
        look=_look,
        end_state=_end,
        others=_besides,
        proof=_proof,
        invariants=INVARIANTS,
    )
)

REBUILT = register(
    dataclasses.replace(
        SAME_HOST,
        name="reverse_restore_rebuilt",
        text="the host was installed anew under its name: set from the copy beside the backup, VM onto a switch of another name, "
        "LUN kept",
        world=_world("8M"),
        prepare=_rebuild,
        invariants=(*INVARIANTS, kept_not_written),
    )
)

KEPT = register(
    dataclasses.replace(
        SAME_HOST,
        name="reverse_restore_kept",
        text="the VM is lost, its LUN has survived and is newer than the set: not one byte of it is written",
        world=_world("8M"),
        prepare=_newer,
        invariants=(*INVARIANTS, kept_not_written),
    )
)

__all__ = ["KEPT", "REBUILT", "SAME_HOST"]
