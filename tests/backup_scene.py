# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small simulated world for tests of trouble during a two-phase backup, and what is left on its machines afterwards.

Responsible for: the text of that world, running the playbook with options, doing something at one exact exchange, and
counting versions, event records, scheduled tasks and records of backup sets. Not responsible for: what a test expects.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from playbook_run import PlaybookRun, playbook_environment, read_record
from simulator.door_memory import rules_of
from simulator.faults import Rule, effect
from simulator.windows_backup import ENGINE_TOKEN, Request

PLAYBOOK = "hyperv.passthrough.two_phase_backup"
REGISTRY = "SOFTWARE\\hyperv.passthrough"
HKLM = 0x80000002
CHANNEL = "Microsoft-Windows-Backup"
STARTED = 1
LEASE_S = 301  # longer than a lease lives

SETTINGS: Mapping[str, Any] = {
    "two_phase_backup_host_target": "E:",
    "two_phase_backup_guest_target": "B:",
    "two_phase_backup_poll_interval": 0,
}


def world_text(*vms: str, head: str = "", hosts: str = "", luns: str = "", shares: str = "") -> str:
    """YAML of a world with one host, hv01, and VMs made by `vm_text` (default: sql01, with a pass-through LUN)."""
    return f"""
name: trouble
seed: trouble
clock: 2026-10-01T20:00:00Z
{head}
luns:
  - {{id: sql01-data, size: 24M, bus: iscsi, serial: "7a0b1e000001"}}
{luns}
shares:
  - {{server: filer01, name: backup, size: 10G, write: ['*']}}
{shares}
hosts:
{host_text("hv01", "127.40.0.1", luns="sql01-data")}
{hosts}
vms:
{"".join(vms) if vms else vm_text("sql01", "127.40.1.1", lun="sql01-data")}
"""


def host_text(name: str, address: str, *, luns: str = "", more: str = "", target: str = "20G") -> str:
    return f"""
  - name: {name}
    address: {address}
    os: server2022
    volumes:
      - {{letter: C, size: 40G, label: System}}
      - {{letter: D, size: 60G, label: VMs}}
      - {{letter: E, size: {target}, label: Backup}}
    luns: [{luns}]
{more}
"""


def vm_text(
    name: str,
    address: str,
    *,
    host: str = "hv01",
    lun: str = "",
    more: str = "",
    guest: str = "",
    second: str = "",
    data: str = "{letter: S, label: Data, files: {count: 3, size: 256K}}",
) -> str:
    """A VM with a system disk and a disk B: for the guest's own backups, and with a pass-through LUN when one is named.

    `second` names a LUN that cannot be captured as a whole: it holds a volume T: and one with FAT32.
    """
    disk = f'      - {{slot: "scsi 0:2", lun: {lun}}}\n' if lun else ""
    disk += f'      - {{slot: "scsi 0:3", lun: {second}}}\n' if second else ""
    inside = f'        - slot: "scsi 0:2"\n          partitions: [{data}]\n' if lun else ""
    if second:
        volumes = "{letter: T, label: More, size: 8M}, {letter: F, label: Fat, size: 8M, file_system: FAT32}"
        inside += f'        - slot: "scsi 0:3"\n          partitions: [{volumes}]\n'
    return f"""
  - name: {name}
    host: {host}
    generation: 2
{more}
    disks:
      - {{slot: "scsi 0:0", vhd: 'D:\\VMs\\{name}\\os.vhdx', size: 12M}}
      - {{slot: "scsi 0:1", vhd: 'D:\\VMs\\{name}\\backup.vhdx', size: 32M, type: dynamic}}
{disk}    guest:
      address: {address}
{guest}
      disks:
        - slot: "scsi 0:0"
          partitions: [{{letter: C, label: Windows, boot: true, files: {{count: 3, size: 64K}}}}]
        - slot: "scsi 0:1"
          partitions: [{{letter: B, label: Backup, files: {{count: 1, size: 4K}}}}]
{inside}"""


@effect("call")
def _call(machine: Any, parameters: Mapping[str, Any]) -> None:
    """`{do: function(machine)}`: whatever a test wants to happen around an exchange."""
    parameters["do"](machine)


def at_exchange(
    world: Any,
    match: Mapping[str, str],
    do: Callable[[Any], None],
    *,
    when: str = "before",
    skip: int = 0,
    count: int = 1,
) -> Rule:
    """Do something around the exchange that matches; the world is locked meanwhile."""
    rule = Rule(match=match, effect="call", parameters={"do": do, "when": when}, skip=skip, count=count)
    return rules_of(world).add(rule)


class Scene:
    """A running world as a test looks at it."""

    def __init__(self, lab: Any) -> None:
        self.lab = lab
        self.world = lab.world

    @property
    def host(self) -> Any:
        return self.world.machine("hv01")

    @property
    def guest(self) -> Any:
        return self.world.machine("sql01")

    @property
    def vm(self) -> Any:
        return next(vm for vm in self.world.vms if vm.name == "sql01")

    # -- running ---------------------------------------------------------------------------------------------------

    def backup(self, *arguments: str, run: Mapping[str, Any] | None = None, **settings: Any) -> Any:
        """Run the playbook; `settings` are variables of the role without its prefix, None leaves one out."""
        chosen = {**SETTINGS, **{f"two_phase_backup_{name}": value for name, value in settings.items()}}
        given = json.dumps({name: value for name, value in chosen.items() if value is not None})
        return self.lab.run(PLAYBOOK, "-e", given, *arguments, **(run or {}))

    def at(
        self,
        match: Mapping[str, str],
        do: Callable[[Any], None],
        *,
        when: str = "before",
        skip: int = 0,
        count: int = 1,
    ) -> Rule:
        """Do something around the exchange that matches; the world is locked meanwhile."""
        return at_exchange(self.world, match, do, when=when, skip=skip, count=count)

    def fault(self, match: Mapping[str, str], name: str, *, skip: int = 0, count: int = 1, **parameters: Any) -> Rule:
        """A fault rule that goes before all others."""
        rule = Rule(match=match, effect=name, parameters=parameters, skip=skip, count=count)
        rules_of(self.world).rules.insert(0, rule)
        return rule

    def clear(self) -> None:
        rules_of(self.world).clear()

    def methods(self, machine: str, method: str) -> int:
        """How often a method was called on a machine."""
        return sum(
            entry.summary.machine == machine and entry.summary.method == method
            for entry in rules_of(self.world).transcript
        )

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        with self.world.lock:
            yield

    def pass_time(self, seconds: float) -> None:
        with self.world.lock:
            self.world.clock.advance(seconds)

    # -- what is left ----------------------------------------------------------------------------------------------

    def sets(self, host: Any = None) -> list[dict[str, Any]]:
        """Records in a host's registry, oldest first; what is no JSON is left out."""
        with self.world.lock:
            registry = (host or self.host).registry
            key = registry.find(HKLM, f"{REGISTRY}\\Sets")
            found = []
            for one in key.subkeys.values() if key is not None else ():
                with contextlib.suppress(ValueError):
                    found.append(json.loads(registry.text(f"{REGISTRY}\\Sets\\{one.name}", "Record")))
            return sorted(found, key=lambda item: tuple(item.get(name, "") for name in ("opened", "updated", "set_id")))

    def record(self, vm: str = "sql01") -> dict[str, Any]:
        """The only, or the newest, set of a VM."""
        return [item for item in self.sets() if item["vm"]["name"] == vm][-1]

    def put_record(self, set_id: str, text: str) -> None:
        with self.world.lock:
            self.host.registry.put(f"{REGISTRY}\\Sets\\{set_id}", {"Record": text})

    def record_text(self, set_id: str) -> str:
        return str(self.host.registry.text(f"{REGISTRY}\\Sets\\{set_id}", "Record"))

    def leases(self) -> dict[str, dict[str, str]]:
        """Live and dead values of every lease."""
        with self.world.lock:
            key = self.host.registry.find(HKLM, f"{REGISTRY}\\Leases")
            return {
                one.name: {name: value.data for name, value in one.values.values()}
                for one in (key.subkeys.values() if key is not None else ())
                if one.values
            }

    def starts(self, machine: Any) -> list[Any]:
        """Records of backups that began (event 1)."""
        with self.world.lock:
            return [record for record in machine.event_log.query(CHANNEL) if record.event_id == STARTED]

    def versions(self, machine: Any) -> list[Any]:
        """Versions that the machine's catalog lists."""
        return list(machine.backup.catalog)

    def tasks(self, machine: Any) -> list[str]:
        """Names of our scheduled tasks."""
        with self.world.lock:
            return sorted(
                task.name for task in machine.scheduler.tasks() if task.folder.strip("\\") == "hyperv.passthrough"
            )

    # -- other people's backups ------------------------------------------------------------------------------------

    def start_foreign(self, machine: Any, target: str = "E:", **request: Any) -> Any:
        """A backup that is not ours begins in the engine, as the schedule starts one (no wbadmin.exe runs)."""
        with self.world.lock:
            if not request:
                request = {"include": ("C:",)}
            plan = machine.backup.plan(Request(target=target, **request), ENGINE_TOKEN)
            return machine.backup.start_backup(plan)

    def finish_foreign(self, machine: Any, job: Any) -> None:
        with self.world.lock:
            for _look in range(50):
                if not job.running:
                    return
                machine.backup.look()
        raise AssertionError("the other backup did not end")


def hook_files(folder: Path) -> tuple[Path, dict[str, str]]:
    """A log of what the hooks did, and the settings of the role that name them."""
    log = folder / "hooks.log"
    log.write_text("")
    for name in ("quiesce", "unquiesce"):
        text = "{{ lookup('ansible.builtin.pipe', 'echo " + f"{name} >> {log}" + "') }}"
        task = [{"name": f"Applications {name}", "ansible.builtin.debug": {"msg": text}}]
        (folder / f"{name}.yml").write_text(json.dumps(task))
    return log, {f"{name}_tasks": str(folder / f"{name}.yml") for name in ("quiesce", "unquiesce")}


def set_of(run: Any, host: str = "sql01") -> dict[str, Any]:
    """The set as the last backup_set task of that VM returned it."""
    return dict(run.of("backup_set", host)[-1].result["set"])


def sentence_of(run: Any, host: str = "sql01") -> str:
    """What the summary play says about a VM that has no good backup."""
    failed = [task for task in run.tasks if task.host == host and task.task == "Fail each VM that has no good backup"]
    return str(failed[-1].result["msg"])


def error_of(run: Any, host: str = "sql01") -> dict[str, Any]:
    """`error` of the first task of ours that failed on that VM."""
    return next(dict(task.result["error"]) for task in run.failures() if task.host == host and "error" in task.result)


# -- runs that are killed ------------------------------------------------------------------------------------------------


class Operator:
    """One ansible-playbook of the main playbook, started and not waited for, so that a test can kill it or stop its time."""

    def __init__(self, here: Scene, folder: Path, *arguments: str, **settings: Any) -> None:
        folder.mkdir(parents=True)
        self._record = folder / "record.jsonl"
        self._output = folder / "output.txt"
        (folder / "inventory.yml").write_text(yaml.safe_dump(here.lab.inventory))
        (folder / "ansible.cfg").write_text("[defaults]\n")
        chosen = {**SETTINGS, **{f"two_phase_backup_{name}": value for name, value in settings.items()}}
        command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(folder / "inventory.yml"), PLAYBOOK]
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [*command, "-e", json.dumps(chosen), *arguments],
                cwd=folder,
                env=playbook_environment(self._record) | {"ANSIBLE_CONFIG": str(folder / "ansible.cfg")},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def kill(self) -> None:
        """SIGKILL for ansible-playbook and everything it started."""
        for pid in [self._process.pid, *self.workers()]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def kill_parent(self) -> list[int]:
        """SIGKILL for ansible-playbook alone; its workers are stopped and returned, `wake` lets them go on."""
        workers = self.workers()
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        os.kill(self._process.pid, signal.SIGKILL)
        return workers

    def freeze(self) -> None:
        for pid in [self._process.pid, *self.workers()]:
            os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        for pid in [*self.workers(), self._process.pid]:
            os.kill(pid, signal.SIGCONT)

    def workers(self) -> list[int]:
        """Descendants, by /proc: workers have sessions of their own."""
        parents: dict[int, int] = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        found = [self._process.pid]
        for pid in found:
            found += [child for child, parent in parents.items() if parent == pid]
        return found[1:]

    def wait(self, timeout_s: float = 300) -> PlaybookRun:
        status = self._process.wait(timeout_s)
        return PlaybookRun(
            status=status, output=self._output.read_text("utf-8", "replace"), tasks=read_record(self._record)
        )


def wake(pids: list[int], timeout_s: int = 120) -> None:
    """Let stopped processes go on, and wait until they are gone."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            watch = os.pidfd_open(pid)
            os.kill(pid, signal.SIGCONT)
            ready, _writable, _broken = select.select([watch], [], [], timeout_s)
            os.close(watch)
            assert ready, f"process {pid} goes on and on"
