# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A random walk through commands, outages, restarts and operators' mistakes in one world; the same seed is the same walk.

Responsible for: the steps, the oracle of the guests' bytes, what must hold after every exchange and after every step. Not
responsible for: the world and giving a command (`lab.py`), the command line (`__main__.py`).

The oracle. A guest's bytes are known by the digest of its volumes and virtual hard disks. A command may change them only when it
is a restore that names the VM for overwriting, and then only into what a set holds. A command that broke may leave them where
they are or where it was told to bring them. What a good set holds is remembered when it is closed. At the end of a walk the VM
and its LUN are lost, and the newest good set must bring back exactly what it held then, or refuse with a name.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from faults.invariants import (
    Glance,
    as_windows_allows,
    closed_stays_closed,
    glance,
    good_is_good,
    no_secret,
    no_version_deleted,
    records_readable,
    sets_of,
)
from faults.one_process import KILLED, Command
from simulator.mishaps import mishap

from .lab import APP_ID, PREFIX, SOURCE_ID, TARGET_BYTES, TARGET_ID, Lab

INVARIANTS = (as_windows_allows, no_version_deleted, records_readable, good_is_good, closed_stays_closed)
GOOD = ("good", "degraded", "restored")
RUNNING, OFF = 2, 3
#: What the simulator calls dangerous and what the operator of this walk did himself.
HOURS = 3600


@dataclasses.dataclass(kw_only=True)
class Step:
    name: str
    detail: str = ""
    outcome: str = ""

    def __str__(self) -> str:
        return " ".join(part for part in (self.name, self.detail, f"-> {self.outcome}" if self.outcome else "") if part)


class Wrong(Exception):
    """A walk has come to where nobody may come."""


class Walk:
    """One walk.

    Args:
        seed: two walks of one seed and one number of steps are the same.
    """

    def __init__(self, seed: int, tell: Callable[[str], None] = lambda _line: None) -> None:
        self.dice = random.Random(f"walk/{seed}")
        self.lab = Lab()
        self.world = self.lab.world
        self.steps: list[Step] = []
        self.findings: list[str] = []
        self.held: dict[str, Mapping[str, str]] = {}
        self._tell = tell
        self._restores = 0
        self._last: Glance = glance(self.world)
        self._blamed: set[str] = set(self._last.findings)
        self.lab.look = self._look
        self._commands: list[Command] = []

    def close(self) -> None:
        self.lab.close()

    # -- looking ---------------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        now = glance(self.world)
        for invariant in INVARIANTS:
            for text in invariant(self._last, now):
                if text not in self._blamed:
                    self._blamed.add(text)
                    self.findings.append(f"{self.steps[-1].name if self.steps else 'start'}: {text}")
        self._last = now

    def _forgive(self) -> None:
        """What an operator has just done outside of us is not our doing."""
        self._last = glance(self.world)
        self._blamed |= set(self._last.findings)

    def bytes_of(self, vm: str) -> Mapping[str, str]:
        """The digest of a VM's data as its guest sees it; empty when there is no such VM or it has no such volume. What
        Windows itself writes to C: and a backup to B: is nobody's data."""
        return {name: one for name, one in self.world.digests()["guest_volumes"].items() if name == f"{vm}:S"}

    def vm(self, name: str = "sql01") -> Any:
        return next((vm for vm in self.world.vms if vm.name == name), None)

    # -- walking -----------------------------------------------------------------------------------------------------------

    def go(self, steps: int) -> None:
        for _unused in range(steps):
            names = [name for name, _weight in STEPS]
            (name,) = self.dice.choices(names, [weight for _name, weight in STEPS])
            self._do(name)
            if self.findings:
                return
        self._do("disaster")

    def _do(self, name: str) -> None:
        step = Step(name=name)
        self.steps.append(step)
        before = {vm: self.bytes_of(vm) for vm in ("sql01", "app01")}
        step.outcome = getattr(self, f"_{name}")(step) or "done"
        self._look()
        if name not in BY_OPERATOR:
            for vm, old in before.items():
                self._judge_bytes(name, vm, old)
        if not self.findings:
            self._remember_sets()
        texts = {
            f"the screen of step {len(self.steps)}": "\n".join(self._commands[-1].screen) if self._commands else ""
        }
        self.findings += no_secret(self.world, texts)
        self._tell(f"{len(self.steps):3} {step}")

    def _judge_bytes(self, step: str, vm: str, old: Mapping[str, str]) -> None:
        now = self.bytes_of(vm)
        may_be = (
            [old, *(held for set_id, held in self.held.items() if set_id.startswith(vm))]
            if step == "overwrite"
            else [old]
        )
        for name in old:
            if step == "overwrite" and not now:
                continue  # a restore that broke; the set still holds it, and the end of the walk proves that
            if now.get(name) not in [held.get(name) for held in may_be]:
                self.findings.append(f"{step}: the bytes of {name} are not what they were, and nobody named them")

    def _remember_sets(self) -> None:
        """What a set that was just closed well holds: nothing has happened to the guest since its host phase."""
        for record in sets_of(self._last):
            key = f"{record['vm']['name']}/{record['set_id']}"
            if record["state"] in GOOD and key not in self.held:
                self.held[key] = self.bytes_of(str(record["vm"]["name"]))

    # -- commands ------------------------------------------------------------------------------------------------------------

    def _command(
        self, step: Step, play: str, variables: Mapping[str, Any], *, vm: str = "sql01", surprised: bool = True
    ) -> Command:
        """One command; often something happens in its middle, and then often it is given once more."""
        given = {f"{play}_{name}": value for name, value in variables.items()}
        playbook = f"{PREFIX}.{PLAYBOOKS.get(play, play)}"
        command = self._once(step, playbook, given, vm=vm, is_surprised=surprised and self.dice.random() < 0.45)
        if command.status and self.dice.random() < 0.7:
            self.world.clock.advance(self.dice.choice((30, 400)))
            command = self._once(step, playbook, given, vm=vm, is_surprised=False)
        return command

    def _once(self, step: Step, playbook: str, given: Mapping[str, Any], *, vm: str, is_surprised: bool) -> Command:
        self.lab.surprises.clear()
        if is_surprised:
            name = self.dice.choice(sorted(SURPRISES))
            at = self.dice.randrange(2, 160)
            step.detail += f" [{name} at {at}]"
            self.lab.surprises[self.lab.exchanges + at] = lambda: SURPRISES[name](self)
        command = self.lab.run(playbook, given, vm=vm)
        self.lab.surprises.clear()
        self.lab.unreachable.clear()
        self._commands.append(command)
        if command.status not in (0, KILLED) and (not command.named or "internal" in command.kinds):
            self.findings.append(
                f"{step.name} failed without a name of its own: {command.last_words or command.screen[-3:]}"
            )
        return command

    @staticmethod
    def _said(command: Command) -> str:
        if command.status == 0:
            return "good"
        return (
            "killed" if command.status == KILLED else f"refused: {', '.join(command.kinds) or command.last_words[:120]}"
        )

    def _backup(self, step: Step) -> str:
        vm = self.dice.choice(("sql01", "sql01", "app01"))
        step.detail = vm
        return self._said(self._command(step, "two_phase_backup", self._targets(), vm=vm))

    @staticmethod
    def _targets() -> Mapping[str, Any]:
        return {"host_target": "E:", "guest_target": r"\\filer01\backup", "poll_interval": 0}

    def _restore(self, step: Step) -> str:
        """Without a word about overwriting: an existing VM is refused, a missing one comes back."""
        return self._said(self._command(step, "reverse_restore", self._restoring()))

    def _overwrite(self, step: Step) -> str:
        """The operator means it."""
        vm = self.vm()
        if vm is None:
            return self._restore(step)
        if self.dice.random() < 0.7 and vm.running:
            mishap(self.world, "stop_vm", vm="sql01")
            self._forgive()
        disks = [SOURCE_ID] if self.dice.random() < 0.6 else []
        more = {"overwrite_vm": vm.id.upper(), "overwrite_disks": disks}
        return self._said(self._command(step, "reverse_restore", {**self._restoring(), **more}))

    def _wrong_vm(self, step: Step) -> str:
        """The operator names another VM's GUID, or another VM's disk."""
        vm = self.vm("app01")
        more = {"overwrite_vm": vm.id.upper()} if self.dice.random() < 0.5 else {"overwrite_disks": [APP_ID]}
        return self._said(self._command(step, "reverse_restore", {**self._restoring(), **more}))

    def _restoring(self) -> Mapping[str, Any]:
        self._restores += 1
        return {"id": f"r{self._restores}", "poll_interval": 0, "boot_timeout": 60}

    def _migrate(self, step: Step) -> str:
        disk = {"lun": SOURCE_ID, "destination_lun": TARGET_ID, "confirm_size_bytes": TARGET_BYTES, "drive_letter": "V"}
        if self.dice.random() < 0.15:
            disk["lun"], step.detail = APP_ID, "another VM's LUN"
        return self._said(self._command(step, "vhd_migration", {**self._migrating(), "disks": [disk]}))

    @staticmethod
    def _migrating() -> Mapping[str, Any]:
        return {"reserve": "0", "poll_interval": 0}

    def _rollback(self, step: Step) -> str:
        return self._said(self._command(step, "vhd_migration", {**self._migrating(), "state": "rolled_back"}))

    def _finalize(self, step: Step) -> str:
        return self._said(self._command(step, "vhd_migration", {**self._migrating(), "state": "finalized"}))

    def _detach_and_attach(self, step: Step) -> str:
        options = {"vm": "sql01", "lun": SOURCE_ID}
        off = self.lab.task("hv01", "vm_state", vm="sql01", state="off")
        gone = self.lab.task("hv01", "passthrough_disk", state="detached", **options)
        slot = {"controller_type": "SCSI", "controller_number": 0, "controller_location": 2}
        back = self.lab.task("hv01", "passthrough_disk", state="attached", slot=slot, **options)
        on = self.lab.task("hv01", "vm_state", vm="sql01", state="running") if self.dice.random() < 0.8 else off
        for one in (off, gone, back, on):
            if one.status and (not one.named or "internal" in one.kinds):
                self.findings.append(
                    f"{step.name} failed without a name of its own: {one.last_words or one.screen[-3:]}"
                )
        return ", ".join(self._said(one) for one in (off, gone, back, on))

    # -- what happens outside of us ----------------------------------------------------------------------------------------------

    def _time(self, step: Step) -> str:
        hours = self.dice.choice((0.1, 1, 5, 30))
        step.detail = f"{hours} h"
        self.world.clock.advance(hours * HOURS)
        return ""

    def _reboot(self, step: Step) -> str:
        step.detail = self.dice.choice(("reboot", "power_cut"))
        mishap(self.world, step.detail, machine="hv01", renumber=self.dice.random() < 0.5)
        self._forgive()
        return ""

    def _reboot_guest(self, _step: Step) -> str:
        vm = self.vm()
        if vm is not None and vm.running:
            mishap(self.world, "reboot_guest", vm="sql01")
        return ""

    def _power(self, step: Step) -> str:
        vm = self.vm()
        if vm is None:
            return "no VM"
        step.detail = self.dice.choice(("start_vm", "stop_vm", "save_vm"))
        if (step.detail == "start_vm") == vm.running or self.world.drifted():
            return "not possible"
        mishap(self.world, step.detail, vm="sql01")
        self._forgive()
        return ""

    def _write(self, step: Step) -> str:
        vm = self.dice.choice(("sql01", "app01"))
        if f"{vm}:S" not in self.bytes_of(vm):
            return "no volume"
        name = f"S:\\new{self.dice.randrange(100)}.txt"
        step.detail = f"{vm} {name}"
        mishap(self.world, "write_file", machine=vm, path=name, text=f"text {len(self.steps)}")
        return ""

    def _delete_vm(self, _step: Step) -> str:
        """Only after a good backup: what nobody has a copy of is nobody's to bring back."""
        if self.vm() is None or not any(key.startswith("sql01/") for key in self.held):
            return "not now"
        mishap(self.world, "stop_vm", vm="sql01")
        mishap(self.world, "delete_vm", vm="sql01", files=self.dice.random() < 0.7)
        self._forgive()
        return ""

    def _start_action(self, step: Step) -> str:
        if self.vm() is None:
            return "no VM"
        action = self.dice.choice((2, 3, 4))
        step.detail = str(action)
        mishap(self.world, "set_automatic_start", vm="sql01", action=action)
        return ""

    # -- the end -------------------------------------------------------------------------------------------------------------

    def _disaster(self, step: Step) -> str:
        """Everything of the VM but its backups is lost; the newest good set brings back what it held."""
        self.world.clock.advance(HOURS)
        sets = [one for one in sets_of(self._last) if one["vm"]["name"] == "sql01" and one["state"] in GOOD]
        if not sets:
            return "no good set"
        record = max(sets, key=lambda one: str(one["closed"]))
        held = self.held[f"sql01/{record['set_id']}"]
        if self.vm() is not None:
            mishap(self.world, "stop_vm", vm="sql01")
            mishap(self.world, "delete_vm", vm="sql01")
        mishap(self.world, "overwrite_lun", lun="sql01-data")
        mishap(self.world, "reboot", machine="hv01")
        self._forgive()
        wanted = {**self._restoring(), "set_id": record["set_id"], "overwrite_disks": [SOURCE_ID]}
        command = self._command(step, "reverse_restore", wanted, surprised=False)
        step.detail = f"{record['set_id']} ({record['state']})"
        if command.status:
            return self._said(command) + f": {command.last_words[:300]}"
        now = self.bytes_of("sql01")
        wrong = [name for name, one in held.items() if now.get(name) != one]
        if wrong:
            self.findings.append(f"the set {record['set_id']} did not bring back {', '.join(wrong)}")
        return "all bytes are back"


def _outage(walk: Walk) -> None:
    walk.lab.unreachable.update({"hv01"} if walk.dice.random() < 0.7 else {"hv01", "sql01"})


def _killed(walk: Walk) -> None:
    walk.lab.kill()


def _restart_host(walk: Walk) -> None:
    mishap(walk.world, "reboot", machine="hv01", renumber=False)
    walk._forgive()


def _restart_guest(walk: Walk) -> None:
    vm = walk.vm()
    if vm is not None and vm.running:
        mishap(walk.world, "reboot_guest", vm="sql01")


def _another_command(walk: Walk) -> None:
    """Somebody else gives a command for the same VM in the middle of this one."""
    step = walk.steps[-1]
    play = walk.dice.choice(("two_phase_backup", "vhd_migration", "reverse_restore"))
    chosen: Mapping[str, Mapping[str, Any]] = {
        "two_phase_backup": {**walk._targets(), "queue_timeout": 0},
        "vhd_migration": {
            **walk._migrating(),
            "disks": [
                {
                    "lun": SOURCE_ID,
                    "destination_lun": TARGET_ID,
                    "confirm_size_bytes": TARGET_BYTES,
                    "drive_letter": "V",
                }
            ],
        },
        "reverse_restore": walk._restoring(),
    }
    step.detail += f" <{play}>"
    given = {f"{play}_{name}": value for name, value in chosen[play].items()}
    command = walk.lab.run(f"{PREFIX}.{play}", given)
    walk._commands.append(command)
    step.detail += f" ({walk._said(command)})"
    if command.status not in (0, KILLED) and (not command.named or "internal" in command.kinds):
        walk.findings.append(f"a second command failed without a name of its own: {command.last_words}")


def _job_fails(walk: Walk) -> None:
    mishap(walk.world, "fail_backup", machine="hv01", percent=walk.dice.choice((0, 50, 99)))


SURPRISES: Mapping[str, Callable[[Walk], None]] = {
    "outage": _outage,
    "killed": _killed,
    "restart_host": _restart_host,
    "restart_guest": _restart_guest,
    "another_command": _another_command,
    "job_fails": _job_fails,
}
STEPS: Sequence[tuple[str, float]] = (
    ("backup", 5),
    ("restore", 1.5),
    ("overwrite", 2),
    ("wrong_vm", 1),
    ("migrate", 2),
    ("rollback", 1.5),
    ("finalize", 0.7),
    ("detach_and_attach", 1.5),
    ("time", 1.5),
    ("reboot", 1),
    ("reboot_guest", 0.5),
    ("power", 1.5),
    ("write", 2),
    ("delete_vm", 0.7),
    ("start_action", 0.5),
)
BY_OPERATOR = frozenset({"write", "delete_vm", "disaster", "power"})
PLAYBOOKS: Mapping[str, str] = {}


def walked(seed: int, steps: int, tell: Callable[[str], None] = lambda _line: None) -> Iterator[str]:
    """What is wrong after a walk, one line that repeats it first."""
    walk = Walk(seed, tell)
    try:
        walk.go(steps)
        for finding in walk.findings:
            yield f'make walk ARGS="--seed {seed} --steps {steps} --show"  # step {len(walk.steps)}: {finding}'
    finally:
        walk.close()
