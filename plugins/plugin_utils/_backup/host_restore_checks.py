# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""What only the target host can say against restoring a VM on it: the VM itself, room, files in the way, switches, the engine.

One pure function over what was read there. Findings, never exceptions: a preflight tells everything at once. Not responsible
for other hosts and LUNs (`restore_plan.py`), nor for reading (the task host_restore).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from .backup_set import BackupSet, vm_key
from .engine import Capabilities, Refusal, TargetListing
from .restore_plan import Finding, overwrite_refusal

View = Mapping[str, Any]

#: A VM that is restored must not run; a saved one is as good as off, because its saved state is lost with it.
AT_REST = frozenset({"off", "saved"})


@dataclasses.dataclass(frozen=True, kw_only=True)
class HostFacts:
    """What was read on the target host.

    Attributes:
        vms: all VMs of `disk_info`.
        volumes: `path`, `letter`, `free_bytes`.
        files: recorded path of a virtual hard disk -> its bytes now, None when there is no such file.
        switches, virtual_sans: their names.
        listing: what the target holds; None when it was not asked, because something else forbids the restore already.
        began_before: an earlier attempt of this very restore was started, so that what it left behind is no obstacle.
        refusals: what the engine itself says against it.
    """

    name: str
    vms: Sequence[View]
    volumes: Sequence[View]
    files: Mapping[str, int | None]
    switches: Sequence[str]
    virtual_sans: Sequence[str]
    engine: Capabilities
    listing: TargetListing | None = None
    began_before: bool = False
    refusals: Sequence[Refusal] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class HostWishes:
    """What the operator asked for: see the options of host_restore."""

    overwrite_vm: str | None = None
    switch_map: Mapping[str, str] = dataclasses.field(default_factory=dict)
    vsan_map: Mapping[str, str] = dataclasses.field(default_factory=dict)
    target: str = ""
    version: str = ""
    planned_only: bool = False  # check mode: a VM that runs will have been shut down by then


def host_findings(item: BackupSet, facts: HostFacts, wishes: HostWishes) -> list[Finding]:
    """Everything that forbids the restore on this host, the worst first."""
    vm = next((one for one in facts.vms if vm_key(one.get("id")) == item.vm_id), None)
    return [
        *_engine(facts, wishes),
        *(Finding(kind=one.kind, sentence=one.sentence, accept_with=one.accept_with) for one in facts.refusals),
        *_existing(item, vm, facts, wishes),
        *_files(item, vm, facts, wishes),
        *_room(item, facts),
        *fabric_findings(item, facts, wishes),
    ]


def recorded_files(item: BackupSet) -> list[tuple[str, int | None]]:
    """The virtual hard disks that come back with the VM: path and bytes, as far as they were recorded."""
    found = []
    for row in item.disks:
        host = (row.get("evidence") or {}).get("host") or {}
        if row.get("coverage") == "host" and host.get("path"):
            size = host.get("file_size_bytes")
            found.append((str(host["path"]), size if isinstance(size, int) else None))
    return found


def _engine(facts: HostFacts, wishes: HostWishes) -> list[Finding]:
    able = facts.engine
    if not able.available or not able.restores_vms:
        return [Finding(kind=able.kind or "engine_unable", sentence=f"{facts.name} cannot restore VMs: {able.reason}")]
    listing = facts.listing
    if listing is None:
        return []
    if listing.versions is None:
        return [Finding(kind="target_unreadable", sentence=f"{facts.name} cannot read the backup: {listing.reason}")]
    if wishes.version not in listing.versions:
        held = ", ".join(listing.versions[-5:]) or "no version"
        return [
            Finding(
                kind="version_not_listed",
                sentence=f"version {wishes.version} is not on {wishes.target}, which holds {held}; choose another set, or name where "
                "its backup lies now in target",
            )
        ]
    if not listing.items:
        return [
            Finding(
                kind="items_not_listed",
                sentence=f"version {wishes.version} on {wishes.target} does not list this VM; choose another set",
            )
        ]
    return []


def _existing(item: BackupSet, vm: View | None, facts: HostFacts, wishes: HostWishes) -> list[Finding]:
    if vm is None:
        return []
    name = f"VM {vm.get('name')} ({vm.get('id')})"
    if (vm.get("replication") or {}).get("is_replica"):
        return [Finding(kind="vm_is_replica", sentence=f"{name} on {facts.name} is a replica, which is never touched")]
    if vm.get("is_clustered"):
        return [
            Finding(
                kind="vm_clustered",
                sentence=f"{name} on {facts.name} belongs to a failover cluster, which is not supported; take it out first",
            )
        ]
    found = []
    problem = overwrite_refusal(item, wishes.overwrite_vm, f"{name} exists on {facts.name}")
    if problem is not None and not facts.began_before:
        found.append(Finding(kind=problem[0], sentence=problem[1], accept_with=problem[2]))
    if vm.get("busy"):
        found.append(Finding(kind="vm_busy", sentence=f"{name} is busy ({vm['busy']}); wait for its end"))
    if vm.get("state") not in AT_REST and not wishes.planned_only:
        found.append(
            Finding(
                kind="vm_not_off",
                sentence=f"{name} is {vm.get('state')}; shut it down with vm_state first, because a restore destroys a running VM "
                "without asking",
            )
        )
    return found


def _files(item: BackupSet, vm: View | None, facts: HostFacts, wishes: HostWishes) -> list[Finding]:
    found = []
    others = {
        str(disk.get("path")).casefold(): str(one.get("name"))
        for one in facts.vms
        if vm_key(one.get("id")) != item.vm_id
        for disk in one.get("disks") or ()
        if disk.get("path")
    }
    named = wishes.overwrite_vm is not None and vm_key(wishes.overwrite_vm) == item.vm_id
    for path, _size in recorded_files(item):
        user = others.get(path.casefold())
        if user is not None:
            found.append(
                Finding(
                    kind="vhd_in_use",
                    sentence=f"{path}, to which the restore would write, is a disk of VM {user}; detach it there or move it",
                )
            )
        elif facts.files.get(path) is not None and vm is None and not named and not facts.began_before:
            found.append(
                Finding(
                    kind="vhd_exists",
                    sentence=f"{path} is still there although its VM is not, and the restore would overwrite it; set overwrite_vm to "
                    f"{item.vm.get('id')} when its content is not needed, or move it away",
                    accept_with="overwrite_vm",
                )
            )
    return found


def _room(item: BackupSet, facts: HostFacts) -> list[Finding]:
    by_letter = {str(volume.get("letter")).upper(): volume for volume in facts.volumes if volume.get("letter")}
    wanted: dict[str, int] = {}
    places = [path for path, _size in recorded_files(item)]
    root = (item.vm.get("configuration") or {}).get("data_root")
    found = []
    for path in [*places, *([str(root)] if root else [])]:
        if path[1:2] != ":":
            continue
        letter = path[:1].upper()
        if letter not in by_letter and letter not in wanted:
            wanted[letter] = 0
            found.append(
                Finding(
                    kind="volume_missing",
                    sentence=f"the volume {letter}: of {path} is not on {facts.name}; make one, the VM goes back to where it was",
                )
            )
    for path, size in recorded_files(item):
        letter = path[:1].upper()
        if path[1:2] == ":" and size is not None and letter in by_letter:
            replaced = 0 if facts.engine.restores_beside else facts.files.get(path) or 0
            wanted[letter] = wanted.get(letter, 0) + size - replaced
    for letter, needed in wanted.items():
        free = by_letter.get(letter, {}).get("free_bytes")
        if isinstance(free, int) and needed > free:
            found.append(
                Finding(
                    kind="no_room",
                    sentence=f"the volume {letter}: of {facts.name} has {free} bytes free and the VM's virtual hard disks need "
                    f"{needed} more; make room",
                )
            )
    return found


def fabric_findings(item: BackupSet, facts: HostFacts, wishes: HostWishes) -> list[Finding]:
    """Switches and virtual SANs that the VM was connected to and that this host does not have under that or its mapped name."""
    adapters = [str(one.get("switch_name")) for one in item.vm.get("network_adapters") or () if one.get("switch_name")]
    ports = [str(one.get("san")) for one in item.vm.get("fibre_channel_ports") or () if one.get("san")]
    return [
        *_unknown(adapters, wishes.switch_map, facts.switches, facts.name, "switch"),
        *_unknown(ports, wishes.vsan_map, facts.virtual_sans, facts.name, "vsan"),
    ]


def _unknown(
    recorded: Sequence[str], mapping: Mapping[str, str], present: Sequence[str], host: str, word: str
) -> list[Finding]:
    said = {"switch": "virtual switch", "vsan": "virtual SAN"}[word]
    found = []
    for name in dict.fromkeys(recorded):
        now = mapped_name(name, mapping)
        if now and now.casefold() not in {one.casefold() for one in present}:
            found.append(
                Finding(
                    kind=f"{word}_unknown",
                    sentence=f"the VM was connected to the {said} {name}, and {host} has no {now} (it has "
                    f"{', '.join(present) or 'none'}); name its counterpart in {word}_map, or map it to '' to leave it disconnected",
                    accept_with=f"{word}_map",
                )
            )
    return found


def mapped_name(name: str, mapping: Mapping[str, str]) -> str:
    """The name on this host; an empty text means: leave it disconnected."""
    return next((new for old, new in mapping.items() if old.casefold() == name.casefold()), name)
