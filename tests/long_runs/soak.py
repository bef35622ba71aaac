# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The same two commands over and over against one world: nothing of ours may grow.

Responsible for: cycles of backup and restore a few days apart, what is counted after each, and how much it may grow. Not
responsible for: the world (`lab.py`), the command line (`__main__.py`).

What grows by design: one record of each backup set in the registry (retention is an operator's choice), the machines' own event
logs, the catalogs. What must not: memory of this process that the product holds, leases and queues, tasks and folders of our
jobs beyond those that are kept for some weeks, anything else that a run leaves on a machine or in a VM.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from backup_scene import host_text, vm_text
from faults.invariants import HKLM, glance, leases, sets_of
from simulator.file_system import FileSystemError
from simulator.mishaps import mishap

from .lab import PREFIX, Lab

BASE = "SOFTWARE\\hyperv.passthrough"
JOBS = "C:\\Windows\\Logs\\hyperv.passthrough\\jobs"
RESTORE_EVERY = 4
KEPT_DAYS = 60  # for which what a backup has left on its machines stays there
#: What one more cycle may cost the process that holds the world, its transcript and its growing logs too.
MAX_KIB_A_CYCLE = 1024

WORLD = f"""
name: soak
seed: soak
clock: 2026-10-01T20:00:00Z
luns:
  - {{id: sql01-data, size: 8M, bus: iscsi, serial: "7a0b1e000001"}}
shares:
  - {{server: filer01, name: backup, size: 100G, write: ['*']}}
hosts:
{host_text("hv01", "127.40.0.1", luns="sql01-data", target="200G")}
vms:
{vm_text("sql01", "127.40.1.1", lun="sql01-data", data="{letter: S, label: Data, files: {count: 1, size: 4K}}")}
""".replace("size: 12M", "size: 6M").replace("size: 32M", "size: 16M")


def resident_kib() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4


def _names(machine: Any, folder: str) -> list[str]:
    try:
        volume, path = machine.resolve(folder)
        return list(volume.files.listdir(path))
    except FileSystemError:
        return []


def counted(world: Any) -> Mapping[str, int]:
    """How many there are of everything of ours."""
    found: dict[str, int] = {}
    for machine in world.machines:
        if machine.scheduler is None:
            continue
        ours = [task for task in machine.scheduler.tasks() if task.folder.strip("\\") == "hyperv.passthrough"]
        found[f"tasks on {machine.name}"] = len(ours)
        found[f"folders of jobs on {machine.name}"] = len(_names(machine, JOBS))
        programs = ("cmd.exe", "wbadmin.exe", "wevtutil.exe", "winrshost.exe")
        found[f"processes on {machine.name}"] = sum(len(machine.processes.named(name)) for name in programs)
        found[f"shadow copies on {machine.name}"] = len(machine.vss.copies) if machine.vss else 0
        found[f"mounted images on {machine.name}"] = len(machine.mounted_images)
    for host in world.hosts:
        key = host.registry.find(HKLM, BASE)
        for group in key.subkeys.values() if key is not None else ():
            found[f"registry keys {group.name} on {host.name}"] = len(group.subkeys)
    found["leases that are held"] = sum(len(entries) for entries in leases(world).values())
    found["VMs"] = len(list(world.vms))
    found["checkpoints"] = sum(len(vm.checkpoints) for vm in world.vms)
    return found


#: Grows with every backup, and is counted to be exactly one for each.
RECORDS = "registry keys Sets on hv01"


class Soak:
    """Cycles in one world.

    Args:
        days_apart: of two backups.
    """

    def __init__(self, tell: Callable[[str], None] = lambda _line: None, *, days_apart: float = 7.0) -> None:
        self.days_apart = days_apart
        #: Cycles until everything that is kept for a while is there, so that growth can be told from filling up.
        self.warm_up = int(KEPT_DAYS / days_apart) + RESTORE_EVERY
        self.lab = Lab(WORLD)
        self._tell = tell
        self.findings: list[str] = []
        self.cycles = 0
        self.memory: list[int] = []
        self.counts: list[Mapping[str, int]] = []

    def close(self) -> None:
        self.lab.close()

    def cycle(self) -> None:
        began = time.monotonic()
        self.cycles += 1
        world = self.lab.world
        world.clock.advance(self.days_apart * 86400)
        mishap(world, "write_file", machine="sql01", path="S:\\changed.txt", text=f"cycle {self.cycles}")
        targets = {"host_target": "E:", "guest_target": r"\\filer01\backup", "poll_interval": 0}
        self._command("two_phase_backup", targets)
        if self.cycles % RESTORE_EVERY == 0:
            self._restore()
        gc.collect()
        self.memory.append(resident_kib())
        self.counts.append(counted(world))
        self._tell(f"cycle {self.cycles}: {time.monotonic() - began:.1f} s, {self.memory[-1]} KiB")

    def _command(self, play: str, variables: Mapping[str, Any]) -> None:
        given = {f"{play}_{name}": value for name, value in variables.items()}
        command = self.lab.run(f"{PREFIX}.{play}", given)
        if command.status:
            self.findings.append(
                f"cycle {self.cycles}: {play} failed: {', '.join(command.kinds)}: {command.last_words[:300]}"
            )

    def _restore(self) -> None:
        world = self.lab.world
        vm = next(vm for vm in world.vms if vm.name == "sql01")
        before = world.digests()["guest_volumes"]["sql01:S"]
        newest = max(sets_of(glance(world)), key=lambda one: str(one["opened"]))
        mishap(world, "stop_vm", vm="sql01")
        options = {
            "id": f"r{self.cycles}",
            "set_id": newest["set_id"],
            "overwrite_vm": vm.id.upper(),
            "poll_interval": 0,
            "boot_timeout": 60,
        }
        self._command("reverse_restore", options)
        if world.digests()["guest_volumes"].get("sql01:S") != before:
            self.findings.append(f"cycle {self.cycles}: the restored VM has other data")
        if not next(vm for vm in world.vms if vm.name == "sql01").running:
            mishap(world, "start_vm", vm="sql01")

    # -- judging -----------------------------------------------------------------------------------------------------------

    def judge(self) -> Iterator[str]:
        """Why this was no good soak; its findings first."""
        yield from self.findings
        whole = (
            (self.cycles - self.warm_up) // RESTORE_EVERY * RESTORE_EVERY
        )  # the same place of two rounds is compared
        if whole <= 0:
            yield f"{self.cycles} cycles tell nothing; give at least {self.warm_up + RESTORE_EVERY}"
            return
        first, last = self.counts[self.cycles - 1 - whole], self.counts[-1]
        for name, count in last.items():
            wanted = first.get(name, 0) + (whole if name == RECORDS else 0)
            allowed = wanted + (RESTORE_KEPT * whole // RESTORE_EVERY if name in KEPT_OF_RESTORES else 0)
            if count > allowed:
                yield f"{name}: {first.get(name, 0)} after {self.cycles - whole} cycles, {count} after {self.cycles}"
        kib = self.slope_kib()
        if kib > MAX_KIB_A_CYCLE:
            yield f"memory grows by {kib:.0f} KiB a cycle, {MAX_KIB_A_CYCLE} are allowed"

    def slope_kib(self) -> float:
        """KiB a cycle, by least squares over the cycles after the warm-up."""
        values = self.memory[self.warm_up :]
        if len(values) < 3:
            return 0.0
        middle, mean = (len(values) - 1) / 2, sum(values) / len(values)
        above = sum((place - middle) * (value - mean) for place, value in enumerate(values))
        return above / sum((place - middle) ** 2 for place in range(len(values)))


#: That a restore has ended is known from its tasks, which are kept: a VM's and a volume's for each.
RESTORE_KEPT = 2
KEPT_OF_RESTORES = ("tasks on hv01", "tasks on sql01", "folders of jobs on hv01", "folders of jobs on sql01")
