# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Responsible for what a guest keeps on its system disk that the simulator keeps beside it, so that both go back together.

Registry, accounts, event logs, tasks, backup catalog, letters, disk states and iSCSI sessions of a simulated guest are
objects, not bytes of its virtual hard disk. A backup of the VM remembers them, a restore recalls them: a password that was
changed since is the old one again, record numbers of event logs go back.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from .assumed import assumed
from .virtual_machine import Vm

assumed(
    "guest-memory",
    "What a guest keeps in its registry and logs goes back with a restored VM whose system disk is a virtual hard disk",
    source="general knowledge: these are files of the system volume",
    values=("goes-back", "stays"),
)


@dataclass(frozen=True, kw_only=True)
class GuestMemory:
    """Copies, taken at one moment; `recall` copies again, so that one memory serves several restores."""

    registry: Any
    accounts: Any
    channels: Any
    tasks: Any
    catalog: tuple[Any, ...]
    mounts: Any
    disk_memory: Any
    portals: tuple[str, ...]
    persistent: frozenset[str]
    sessions: tuple[Any, ...]
    chap: frozenset[str]
    service_states: Any


def remember(vm: Vm) -> GuestMemory | None:
    """What the guest of a VM knows now; None for one without Windows, or that has no virtual hard disk."""
    guest = vm.guest
    if guest is None or guest.registry is None or not vm.vhd_paths():
        return None
    guest.remember_disks()
    tasks = {key: _still(task) for key, task in guest.scheduler._tasks.items()}
    return GuestMemory(
        registry=copy.deepcopy(guest.registry),
        accounts=copy.deepcopy(guest.accounts),
        channels=copy.deepcopy(guest.event_log._channels),
        tasks=tasks,
        catalog=tuple(guest.backup.catalog),
        mounts=copy.deepcopy(guest.mounts),
        disk_memory=dict(guest.disk_memory),
        portals=tuple(guest.iscsi_portals),
        persistent=frozenset(guest.persistent_targets),
        sessions=tuple(guest.iscsi_sessions),
        chap=frozenset(guest.chap_sessions),
        service_states=dict(guest.service_states),
    )


def _still(task: Any) -> Any:
    """A task as the registry has it: nothing of it runs."""
    made = copy.copy(task)
    made.runs, made.queued = [], 0
    return made


def recall(vm: Vm, memory: GuestMemory | None) -> None:
    """The restored guest knows what it knew when it was backed up."""
    guest = vm.guest
    if guest is None or memory is None or guest.world.assume("guest-memory") == "stays":
        return
    guest.registry = copy.deepcopy(memory.registry)
    guest.accounts = copy.deepcopy(memory.accounts)
    guest.event_log._channels = copy.deepcopy(memory.channels)
    guest.scheduler._tasks = {key: _still(task) for key, task in memory.tasks.items()}
    guest.backup.catalog = list(memory.catalog)
    guest.mounts = copy.deepcopy(memory.mounts)
    guest.disk_memory = dict(memory.disk_memory)
    guest.iscsi_portals = list(memory.portals)
    guest.persistent_targets = set(memory.persistent)
    guest.iscsi_sessions = list(memory.sessions)
    guest.chap_sessions = set(memory.chap)
    guest.service_states = dict(memory.service_states)
