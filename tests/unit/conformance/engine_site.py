# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the conformance suite needs to know of an engine: a small world, how to make the engine, how to look behind it.

Responsible for: everything that is the same for all engines, and the list of questions that differ (methods that raise
NotImplementedError). An engine enters the suite by a subclass in a file of its own and one line in `entries.py`. Not
responsible for: what is demanded (`test_engine_conformance.py`).
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.coverage import coverage
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.engine import (
    BackupRequest,
    BackupResult,
    Capabilities,
    Engine,
    JobStatus,
    RestoreEngine,
    RestoreRequest,
    Waiting,
    Workplace,
)
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.engines import EngineEntry
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.engines import engine as table_entry
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv import SCHEMA, observe_guest, observe_host
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._wsman import ReplyLost, RequestNotSent, WsmanClient
from backup_scene import host_text, vm_text
from simulator.assumed import import_everything
from simulator.content import digest
from simulator.door_memory import caller_of, exchange
from simulator.endpoint import Reply
from simulator.faults import Dropped
from simulator.mishaps import mishap
from simulator.world import World

UNICODE_VM = "Größe 東京 №1"
SHARE = r"\\filer01\backup"
POLL_S = 5.0


class Gone(Exception):
    """The task's own reason to stop waiting, such as a lease that is lost."""


def world_of(*, is_large: bool) -> str:
    """YAML: hv01 with a VM and a share; when large, a second VM on it and an empty host hv02. Every test builds one."""
    vms = [("sql01", "127.46.1.1"), (UNICODE_VM, "127.46.1.2")][: 1 + is_large]
    data = "{letter: S, label: Data, files: {count: 2, size: 32K}}"
    texts = [vm_text(name, address, lun=f"lun{number}", data=data) for number, (name, address) in enumerate(vms)]
    smaller = "".join(texts).replace("size: 12M", "size: 6M").replace("size: 32M", "size: 16M")
    luns = [{"id": f"lun{number}", "size": "8M", "bus": "iscsi"} for number in range(len(vms))]
    shared = {"server": "filer01", "name": "backup", "size": "10G", "write": ["*"]}
    return f"""
name: conformance
seed: conformance
clock: 2026-10-01T20:00:00Z
luns: {json.dumps(luns)}
shares: [{json.dumps(shared)}]
hosts:
{host_text("hv01", "127.46.0.1", luns=", ".join(one["id"] for one in luns))}
{host_text("hv02", "127.46.0.2") if is_large else ""}
vms:
{smaller}
"""


class EngineSite:
    """One engine on one machine of a fresh world.

    Class attributes of an entry:
        name: of the engine in the table.
        phase: `host` (a VM is backed up, on its host) or `guest` (a volume, inside the guest).
        target: where to.
        share: a target that another host can read too; None when the engine knows none.
        options: `engine_options` as an operator writes them.
        switches: of the simulator, where they are not at their default.
        is_enforced: whether the simulated Windows itself stops what cannot work `without_feature`.
        is_stoppable: whether a backup can be broken off without harm; else `stop` refuses it.
    """

    name = ""
    phase: Any = "host"
    target = "E:"
    share: str | None = SHARE
    options: Mapping[str, Any] = {}
    switches: Mapping[str, str] = {}
    is_enforced = True
    is_stoppable = True

    def __init__(self, folder: Path, *, is_large: bool = False) -> None:
        os.environ["HYPERV_PASSTHROUGH_NTFS"] = "no"
        import_everything()
        text = yaml.safe_load(self.world_text(is_large=is_large))
        self.world = World.from_yaml(yaml.safe_dump({**text, "switches": dict(self.switches)}), folder / "world")
        self._ids = (f"{number:08X}-0000-4000-8000-000000000000" for number in itertools.count())
        self.host = self.world.machine("hv01")
        self.machine = self.host if self.phase == "host" else self.world.machine("sql01")
        #: Called with (machine, request, carry) for every exchange, returns the answer.
        self.hook: Callable[[Any, bytes, Callable[[], Reply]], Reply] = lambda _machine, _data, carry: carry()
        self.exchanges = 0
        self.prepare()

    # -- what an entry may change ------------------------------------------------------------------------------------

    def world_text(self, *, is_large: bool) -> str:
        return world_of(is_large=is_large)

    def prepare(self) -> None:
        """Whatever the world needs besides."""

    def without_feature(self) -> None:
        """Take away from the machine what the engine cannot work without."""
        raise NotImplementedError

    def begun(self) -> int:
        """How many backups really began on the machine, by anybody, as the simulated Windows knows it."""
        raise NotImplementedError

    def there(self) -> frozenset[str]:
        """Versions at the target, by anybody, as the simulated Windows knows it; named as the engine names them."""
        raise NotImplementedError

    def make_foreign(self) -> None:
        """Somebody else's backup of the same things to the same target, from its start to its end."""
        raise NotImplementedError

    def break_next(self, percent: int) -> None:
        """The engine's next job fails at that percentage."""
        raise NotImplementedError

    def slow_down(self) -> None:
        """From now on a job is looked at many times before it ends."""
        self.world.looks_per_job = 100

    def is_working(self) -> bool:
        """Whether the engine works on a job now."""
        raise NotImplementedError

    def leftovers(self) -> Sequence[str]:
        """Things of a run that no finished run may leave, beside what `footprint` sees."""
        return ()

    def listed_items(self) -> Mapping[str, str]:
        """Item -> letter, as `RestoreEngine.listing` is asked for what was backed up."""
        if self.phase == "host":
            return {self.vm().id.upper(): ""}
        return {self.volume().path: "S"}

    # -- the same for all ----------------------------------------------------------------------------------------------

    def close(self) -> None:
        for machine in self.world.machines:
            if machine.processes is not None:
                machine.processes.reboot()  # what still runs ends while its files are there
        self.world.close()

    def client(self, machine: Any = None) -> WsmanClient:
        there = machine or self.machine
        account = next(iter(there.accounts))

        def send(data: bytes) -> bytes:
            self.exchanges += 1
            if not there.answers:
                there.knock()
                raise RequestNotSent(f"{there.name} cannot be reached.")
            try:
                reply = self.hook(there, data, lambda: exchange(there, caller_of(there, account), data))
            except Dropped:
                raise ReplyLost(f"{there.name} closed the connection.") from None
            return reply.body

        return WsmanClient(send, schema=SCHEMA, new_id=lambda: next(self._ids), endpoint="memory")

    def entry(self) -> EngineEntry:
        return table_entry(self.name)

    def workplace(self, machine: Any = None) -> Workplace:
        return Workplace(
            client=self.client(machine),
            waiting=self.waiting(),
            options=self.entry().options(self.options, self.phase),
            new_id=lambda: next(self._ids),
        )

    def engine(self, machine: Any = None) -> Engine:
        """A new object with a new client, as every task of a playbook makes one."""
        return self.entry().backup(self.workplace(machine))

    def restorer(self, machine: Any = None) -> RestoreEngine:
        return self.entry().restore(self.workplace(machine))

    def capabilities(self, machine: Any = None) -> Capabilities:
        client = self.client(machine)
        if self.phase == "host":
            view = observe_host(client).to_dict()["host"]
        else:
            view = observe_guest(client).to_dict()["guest"]
        options = self.entry().options(self.options, self.phase)
        return self.entry().capabilities(self.entry().probe(client, view), options)

    def view(self, vm: str) -> Mapping[str, Any]:
        """The VM as `disk_info` shows it."""
        found = observe_host(self.client(self.host), vms=[vm], vhd_details=True).to_dict()["vms"][0]
        assert isinstance(found, dict)
        return found

    def now(self) -> float:
        return float(self.world.clock.utc().timestamp())

    def waiting(self, *, timeout_s: float = 7200.0, should_stop: Callable[[], None] = lambda: None) -> Waiting:
        return Waiting(
            sleep=self.world.clock.advance,
            now=self.now,
            poll_s=POLL_S,
            timeout_s=timeout_s,
            should_stop=should_stop,
        )

    def vm(self, name: str = "sql01") -> Any:
        return next(vm for vm in self.world.vms if vm.name == name)

    def volume(self) -> Any:
        """The guest's volume on its pass-through disk."""
        return self.world.machine("sql01").volume_by_letter("S")

    def run_id(self, number: int = 1, *, vm: str = "conformance") -> str:
        return f"{vm}.{self.phase}.{number}"

    def request(self, vm: str = "sql01", **changes: Any) -> BackupRequest:
        """A backup of one VM, or of the volume S: inside sql01."""
        common: dict[str, Any] = {"phase": self.phase, "target": self.target, "label": vm}
        if self.phase == "host":
            view = self.view(vm)
            left_out = sum(disk["captured_by"] == "guest" for disk in view["disks"])
            common |= {"vm_id": view["id"], "vm_name": view["name"], "vm_state": view["state"]}
            common |= {"left_out_disks": left_out, "vm": view, "covered": True}
        else:
            path = self.volume().path
            common |= {"volumes": (path,), "volume_letters": {path: "S"}}
        return BackupRequest(**{**common, **changes})

    def recorded(self, vm: str = "sql01") -> Mapping[str, Any]:
        """What a backup set records of a VM and its disks; asked while the VM is there."""
        if self.phase == "guest":
            return {}
        view = self.view(vm)
        plan = coverage(view, None, guest_engine=None, host_engine=self.capabilities(), guest_error="not asked")
        return {"vm": view, "disks": tuple(plan["disks"])}

    def restore_request(self, result: BackupResult, recorded: Mapping[str, Any], **changes: Any) -> RestoreRequest:
        """`recorded` is what `recorded()` gave when the backup was made."""
        assert result.version is not None
        common: dict[str, Any] = {
            "kind": "vm" if self.phase == "host" else "volume",
            "version": result.version,
            "target": result.target,
            "machine": self.machine.netbios_name,
            "evidence": result.evidence,
            **recorded,
        }
        if self.phase == "host":
            common |= {"item": recorded["vm"]["id"], "label": recorded["vm"]["name"]}
        else:
            common |= {"item": self.volume().path, "onto": self.volume().path, "label": "S:"}
        return RestoreRequest(**{**common, **changes})

    def backup(self, number: int = 1, *, vm: str = "sql01", **changes: Any) -> BackupResult:
        run_id = self.run_id(number, vm="conformance" if vm == "sql01" else "other")
        return self.engine().run(run_id, self.request(vm, **changes), self.waiting())

    def look_until_finished(self, engine: Engine, run_id: str, request: BackupRequest) -> list[JobStatus]:
        """Every status from the start of a run to its end."""
        job = engine.start(run_id, request)
        seen = [engine.status(job, request)]
        while not seen[-1].is_finished:
            assert len(seen) < 500, f"the job never ends: {seen[-1]}"
            self.world.clock.advance(POLL_S)
            seen.append(engine.status(job, request))
        return seen

    def work_until_busy(self) -> None:
        """Let time pass until the engine is in the middle of its job."""
        for _unused in range(50):
            if self.is_working():
                return
            self.world.clock.advance(1.0)
            self.engine().status(self.engine().start(self.run_id(), self.request()), self.request())
        raise AssertionError("the engine never began to work")

    def cut_power(self) -> None:
        """The machine loses its power and is there again."""
        mishap(self.world, "power_cut", machine=self.machine.name)
        if self.phase == "guest" and not self.vm().guest_runs:
            mishap(self.world, "start_vm", vm="sql01")
        for _unused in range(50):
            if self.machine.answers:
                return
            self.machine.knock()
        raise AssertionError("the machine does not come back")

    def damage(self, vm: str = "sql01") -> None:
        """What was backed up is lost."""
        if self.phase == "host":
            mishap(self.world, "stop_vm", vm=vm)
            mishap(self.world, "delete_vm", vm=vm)
        else:
            for name in sorted(self.tree()):
                mishap(self.world, "delete_file", machine="sql01", path=f"S:\\{name}")
            mishap(self.world, "write_file", machine="sql01", path="S:\\ransom.txt", text="pay")

    def contents(self, vm: str = "sql01", host: Any = None) -> Mapping[str, str]:
        """Digests of what is backed up: of the contents of each virtual hard disk by path, or of each file by name."""
        if self.phase == "guest":
            return self.tree()
        found = {}
        there = next(one for one in (host or self.host).vms if one.name == vm)
        for path in there.vhd_paths():
            found[path.casefold()] = digest(there.host.open_image(path).payload)
        return found

    def tree(self) -> dict[str, str]:
        files = self.volume().files
        found = {}
        for name in files.listdir(""):
            if not files.stat(name).is_directory:
                found[name] = hashlib.sha256(files.open(name).read_at(0, files.stat(name).size)).hexdigest()
        return found

    def footprint(self) -> Mapping[str, Any]:
        """What a run could leave on machines and VMs beside its version and its own small files and finished tasks."""
        versions = self.there()
        return {
            "checkpoints": {vm.name: sorted(one.name for one in vm.checkpoints) for vm in self.world.vms},
            "vms": sorted((vm.name, vm.host.name, vm.planned, vm.state) for vm in self.world.vms),
            "slots": {
                vm.name: {
                    str(place): f"{drive.kind} {getattr(drive.medium, 'path', drive.medium)}"
                    for place, drive in sorted(vm.controller("scsi", 0).drives.items())
                }
                for vm in self.world.vms
            },
            "start actions": {vm.name: vm.settings.automatic_startup_action for vm in self.world.vms},
            "shadow copies": {
                one.name: len([copy for copy in one.vss.copies if copy.set_id not in versions])
                for one in self.world.machines
                if one.vss
            },
            "mounted": {one.name: len(one.mounted_images) for one in self.world.machines},
            "letters": {
                one.name: sorted(volume.letter for volume in one.volumes() if volume.letter)
                for one in self.world.machines
            },
            "working tasks": {one.name: sorted(self.working_tasks(one)) for one in self.world.machines},
            "leftovers": list(self.leftovers()),
            "warnings": self.world.check(),
        }

    def working_tasks(self, machine: Any) -> list[str]:
        if machine.scheduler is None:
            return []
        ours = (task for task in machine.scheduler.tasks() if task.folder.strip("\\") == "hyperv.passthrough")
        return [task.name for task in ours if task.runs]


__all__ = ["SHARE", "UNICODE_VM", "EngineSite", "Gone", "Reply"]
