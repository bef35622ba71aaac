# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The scenarios: a world, the command that an operator gives, and what the world has to look like when it has worked.

Responsible for: the register, and the first scenario, two-phase backup. A later scenario is one more `Scenario` passed to
`register`; `prepare` brings its world to where the command begins. Not responsible for: faults and how they are tried.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from backup_proof import prove
from backup_scene import host_text, vm_text

from .invariants import FOR_BACKUP, Glance, Invariant, glance, leases, sets_of

PREFIX = "hyperv.passthrough"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scenario:
    """One promise to break.

    Attributes:
        world: YAML.
        playbook: by FQCN, as it is given on the command line, with `variables` as `-e`.
        vm: the VM that is worked on.
        prepare: brings a fresh world to where the command begins; it may give commands to `controller`, and return more
            variables.
        end_state: what has to be the same with and without a fault; ids, times and counts left out.
        others: what may be there besides, for the table ("one set recorded as failed").
        proof: sentences about bytes that are not as they must be at the end.
        invariants: hold after every exchange.
        hook: called with (world, name of a task that has just ended), for hooks that stop and start applications.
        refusals: kinds of errors that a case may end in for good, each documented.
        switches: of the simulator, where they are not at their default.
        effects: names of those that are tried; empty: all.
        only_while_job: no exchanges are tried but those at which a backup runs.
        look: what the invariants need to see of the world besides a `Glance`; it becomes `Glance.more`.
    """

    name: str
    text: str
    world: str
    playbook: str
    variables: Mapping[str, Any]
    vm: str
    end_state: Callable[[Any, Glance], Mapping[str, Any]]
    others: Callable[[Glance], str]
    proof: Callable[[Any, Glance], Iterator[str]]
    invariants: tuple[Invariant, ...]
    prepare: Callable[[Any, Any], Mapping[str, Any] | None] | None = None
    hook: Callable[[Any, str], None] | None = None
    refusals: frozenset[str] = frozenset()
    switches: Mapping[str, str] = dataclasses.field(default_factory=dict)
    effects: tuple[str, ...] = ()
    only_while_job: bool = False
    look: Callable[[Any], Mapping[str, Any]] | None = None

    def vm_of(self, world: Any) -> Any:
        return next((vm for vm in world.vms if vm.name == self.vm), None)


SCENARIOS: dict[str, Scenario] = {}


def register(scenario: Scenario) -> Scenario:
    if SCENARIOS.setdefault(scenario.name, scenario) is not scenario:
        raise ValueError(f"two scenarios are called {scenario.name}")
    return scenario


# -- what scenarios share -------------------------------------------------------------------------------------------------


def inventory_of(world: Any) -> Mapping[str, Any]:
    """Hosts and guests of a world, as an operator writes them; there is no port, because nothing listens."""

    def reached(machine: Any) -> dict[str, Any]:
        account, entry = next(iter(machine.accounts.items()))
        return {
            "ansible_connection": "winrm",
            "ansible_host": machine.addresses[0],
            "ansible_user": account,
            "ansible_password": entry.password,
            "ansible_winrm_transport": "ntlm",
        }

    guests = {
        vm.name: {
            "hyperv_host": vm.host.name,
            "hyperv_vm": vm.name,
            **(reached(vm.guest) if vm.guest is not None else {}),
        }
        for vm in world.vms
    }
    hosts = {host.name: reached(host) for host in world.hosts}
    groups = {"hyperv_hosts": {"hosts": hosts}, "hyperv_guests": {"hosts": guests}}
    return {"all": {"children": groups}}


def hooks_in(folder: Path) -> dict[str, str]:
    """Files of tasks that stop and start applications; the scenario's `hook` sees their names go by."""
    made = {}
    for name in ("quiesce", "unquiesce"):
        path = folder / f"{name}.yml"
        path.write_text(json.dumps([{"name": f"Applications {name}", "ansible.builtin.debug": {"msg": name}}]))
        made[f"{name}_tasks"] = str(path)
    return made


def applications(vm: str) -> Callable[[Any, str], None]:
    """A hook that remembers in the world whether a VM's applications are stopped."""

    def hook(world: Any, task: str) -> None:
        if not hasattr(world, "quiesced"):
            world.quiesced = set()
        if task == "Applications quiesce":
            world.quiesced.add(vm)
        elif task == "Applications unquiesce":
            world.quiesced.discard(vm)

    return hook


_NUMBER = re.compile(r"\d+")
_VOLATILE = frozenset({"used_bytes", "number", "object_id"})


def without_volatile(value: Any) -> Any:
    """JSON without what may differ between two runs that did the same."""
    if isinstance(value, Mapping):
        return {key: without_volatile(one) for key, one in value.items() if key not in _VOLATILE}
    if isinstance(value, (list, tuple)):
        return [without_volatile(one) for one in value]
    return value


# -- two-phase backup -----------------------------------------------------------------------------------------------------

SMALL = f"""
name: faults
seed: faults
clock: 2026-10-01T20:00:00Z
luns:
  - {{id: sql01-data, size: 8M, bus: iscsi, serial: "7a0b1e000001"}}
hosts:
{host_text("hv01", "127.40.0.1", luns="sql01-data")}
vms:
{
    vm_text(
        "sql01",
        "127.40.1.1",
        lun="sql01-data",
        data="{letter: S, label: Data, files: {count: 2, size: 32K}}",
    )
    .replace("size: 12M", "size: 6M")
    .replace("size: 32M", "size: 16M")
}
"""


def _set_essence(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a backup set says, without ids, times and how often something was tried."""

    def usable(phase: str) -> list[Any]:
        attempts = record["phases"][phase]["attempts"]
        good = [one for one in attempts if one["outcome"] in ("succeeded", "warning") and one["version"]]
        keys = ("machine", "target", "consistency", "listed", "outcome")
        # a VM that somebody turned off before its host phase is captured as well as one that runs
        return [["online" if one[key] == "off" else one[key] for key in keys] for one in good[-1:]]

    return {
        "state": record["state"],
        "guest": [record["phases"]["guest"]["needed"], usable("guest")],
        "host": [record["phases"]["host"]["needed"], usable("host")],
        "disks": without_volatile(record["disks"]),
        "hooks": [record["hooks"]["used"], record["hooks"]["quiesced"]],
        "reasons": [_NUMBER.sub("N", text) for text in record["reasons"]],
        "more": {key: record[key] for key in ("notes", "waivers", "vss_backup_type", "automatic_start_action")},
        "copies": len(record["copies"]),
        "restores": len(record["restores"]),
    }


def _good(now: Glance) -> list[Mapping[str, Any]]:
    """In the order in which they were closed: a run that was suspended may close its set after a younger one."""
    found = [record for record in sets_of(now) if record["state"] in ("good", "degraded")]
    return sorted(found, key=lambda record: str(record["closed"]))


def _end_of_backup(world: Any, now: Glance) -> Mapping[str, Any]:
    good = _good(now)
    return {
        "set": _set_essence(good[-1]) if good else None,
        "open": sum(record["state"] == "open" for record in sets_of(now)),
        "vms": dict(now.vms),
        "start actions": {vm.name: vm.settings.automatic_startup_action for vm in world.vms},
        "host disks": sorted((d.backing.key, d.online, d.read_only) for host in world.hosts for d in host.disks),
        "leases": leases(world),
        "luns": dict(now.disks),
    }


def _besides_a_backup(now: Glance) -> str:
    sets = sets_of(now)
    failed = sum(record["state"] == "failed" for record in sets)
    more = len(_good(now)) - 1
    parts = [f"{failed} set{'s' if failed > 1 else ''} recorded as failed"] if failed else []
    return ", ".join([*parts, *([f"{more} more good set{'s' if more > 1 else ''}"] if more > 0 else [])])


def _proof_of_backup(world: Any, now: Glance) -> Iterator[str]:
    for record in _good(now)[-1:]:
        for held in prove(world, record):
            if not held.is_proven:
                yield f"{held.kind} {held.name} cannot be got back from the {held.phase} phase's version"


TWO_PHASE_BACKUP = register(
    Scenario(
        name="two_phase_backup",
        text="two-phase backup of a VM with one pass-through disk, with hooks that stop and start its applications",
        world=SMALL,
        playbook=f"{PREFIX}.two_phase_backup",
        variables={
            "two_phase_backup_host_target": "E:",
            "two_phase_backup_guest_target": "B:",
        },
        vm="sql01",
        end_state=_end_of_backup,
        others=_besides_a_backup,
        proof=_proof_of_backup,
        invariants=FOR_BACKUP,
        hook=applications("sql01"),
    )
)

TWO_PHASE_BACKUP_SAVED = register(
    dataclasses.replace(
        TWO_PHASE_BACKUP,
        name="two_phase_backup_saved",
        text="the same on a host whose Windows Server Backup saves the VM while it is backed up",
        variables={**TWO_PHASE_BACKUP.variables, "two_phase_backup_allow_offline": True},
        switches={"wsb-passthrough": "saved"},
        effects=("killed", "outage", "orphaned", "overtaken", "restart_host", "turned_on", "job_fails_50"),
        only_while_job=True,
    )
)

__all__ = [
    "SCENARIOS",
    "Scenario",
    "applications",
    "glance",
    "hooks_in",
    "inventory_of",
    "register",
    "without_volatile",
]
