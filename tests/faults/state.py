# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When two states of a world are the same for a rerun.

Responsible for: a digest of everything that a run of ours can see or come to depend on, with ids and times left out. Not
responsible for: what is right or wrong (`invariants.py`).

Left out on purpose: the clock (but how old the newest open set is against `max_skew`, and whether a lease has run out, are in),
ids that runs make up, counts of revisions, contents of files that only hold times (their sizes are in).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from simulator.file_system import FileSystemError

from .invariants import BASE, HKLM, glance, leases, record_of

_OTHERS = frozenset({"windows", "program files", "windowsimagebackup", "system volume information"})
JOBS = "C:\\Windows\\Logs\\hyperv.passthrough"
YOUNG_S = 3000  # of a set: well within the skew that is allowed
_IDS = (
    (re.compile(r"[0-9a-f]{8}-\d{8}t\d{6}z-[0-9a-f]{8}", re.IGNORECASE), "SET"),
    (re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE), "GUID"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)?"), "TIME"),
    (re.compile(r"\d\d/\d\d/\d{4}-\d\d:\d\d"), "VERSION"),
    (re.compile(r'"(revision|skew_s|used_bytes|start_record_id|end_record_id|baseline_record_id)":[-\d.]+'), ""),
    (re.compile(r"Backup-\d\d-\d\d-\d{4}_\d\d-\d\d-\d\d"), "LOG"),
    (re.compile(r"process \d+"), "PROCESS"),
)
_MESSAGE = re.compile(rb"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


def without_ids(request: bytes) -> bytes:
    """A request without the ids that every message has anew (of selectors too: two VMs of one request are told apart)."""
    return _MESSAGE.sub(b"ID", request)


def fingerprint(world: Any) -> str:
    text = json.dumps(_state(world), default=str, sort_keys=True)
    return hashlib.sha256(_nameless(text).encode()).hexdigest()


_SAID = frozenset({"msg", "exception", "invocation", "start", "end", "delta", "warnings", "deprecations"})


def essence(result: Any) -> str:
    """What of a task's result a run can depend on: no sentences, ids or times; of an error its kind."""
    return _nameless(json.dumps(_essence(result), default=str, sort_keys=True))


def _essence(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            str(key): (one.get("kind") if key == "error" and isinstance(one, Mapping) else _essence(one))
            for key, one in value.items()
            if key not in _SAID and not str(key).startswith("_ansible")
        }
    return [_essence(one) for one in value] if isinstance(value, (list, tuple)) else _said(value)


def _said(value: Any) -> Any:
    """Sentences are for people."""
    return "TEXT" if isinstance(value, str) and value.count(" ") > 3 else value


def _record(text: str) -> str:
    """A record of ours without its sentences."""
    try:
        found = json.loads(text)
    except ValueError:
        return text
    return json.dumps(_essence(found), sort_keys=True)


def _nameless(text: str) -> str:
    for pattern, word in _IDS:
        text = pattern.sub(word, text)
    return text


def _state(world: Any) -> Any:
    now = glance(world)
    return {
        "vms": now.vms,
        "sets": sorted(_nameless(_record(text)) for text in now.sets.values()),
        "ages": [_is_young(world, text) for text in now.sets.values()],
        "versions": {name: len(versions) for name, versions in now.versions.items()},
        "starts": now.starts,
        "disks": now.disks,
        "quiesced": sorted(now.quiesced),
        "leases": sorted(_leases(world)),
        "other records": sorted(_other_records(world)),
        "machines": [_machine(machine) for machine in world.machines if machine.os.family == "windows"],
        "start actions": [(vm.name, vm.settings.automatic_startup_action, vm.guest_runs) for vm in world.vms],
        "drives": [(vm.name, vm.host.name, vm.planned, list(_drives(vm)), _ports(vm)) for vm in world.vms],
        "images": [list(_images(host)) for host in world.hosts],
        "seen": _more(world),
    }


def _is_young(world: Any, text: str) -> bool:
    record = record_of(text)
    if record is None or record["state"] != "open":
        return True
    opened = datetime.fromisoformat(str(record["opened"]).replace("Z", "+00:00"))
    return bool((world.clock.utc() - opened).total_seconds() < YOUNG_S)


def _leases(world: Any) -> Iterator[Any]:
    for name, entries in leases(world).items():
        for entry in entries:
            expires = datetime.fromisoformat(str(entry["expires"]).replace("Z", "+00:00"))
            yield name, entry.get("state"), expires < world.clock.utc()


def _other_records(world: Any) -> Iterator[str]:
    """Whatever else we keep in a host's registry, such as what a migration remembers."""
    for host in world.hosts:
        base = host.registry.find(HKLM, BASE)
        for group in base.subkeys.values() if base is not None else ():
            for one in group.subkeys.values() if group.name not in ("Sets", "Leases") else ():
                for name, value in one.values.values():
                    yield _nameless(f"{group.name} {name} {_record(str(value.data))}")


def _machine(machine: Any) -> Any:
    job = machine.backup.job
    return {
        "name": machine.name,
        "answers": machine.answers,
        "disks": [(disk.backing.key, disk.number, disk.online, disk.read_only) for disk in machine.disks],
        "tasks": sorted(
            (task.folder, task.name, len(task.runs), task.last_result, task.enabled)
            for task in machine.scheduler.tasks()
        ),
        "job": None if job is None else (job.kind, job.state, job.step, job.outcome, job.hresult),
        "engine": (machine.backup.stuck, machine.backup.fail_next, sorted(machine.service_states.items())),
        "files": sorted(_files(machine, JOBS)),
        "events": len(machine.event_log.query("Microsoft-Windows-Backup")),
    }


def _drives(vm: Any) -> Iterator[Any]:
    """What is in each slot, and the disk that it means now."""
    for controller, drive in vm.drives():
        lun = vm.physical_lun(drive) if drive.kind == "physical" else None
        path = getattr(drive.medium, "path", None)
        yield vm.slot_name(controller, drive.location), drive.kind, getattr(lun, "id", lun), path, vm.drifted(drive)


def _ports(vm: Any) -> Any:
    return [vm.switch_name(adapter) for adapter in vm.adapters], [sorted(port.luns) for port in vm.fibre_channel]


def _images(host: Any) -> Iterator[Any]:
    """Disk images on the host's volumes: size and how often each was written."""
    for volume in host.volumes():
        try:
            yield from _images_in(volume, "")
        except FileSystemError:
            yield volume.letter, "unreadable"


def _images_in(volume: Any, folder: str) -> Iterator[Any]:
    backend = volume.backend()
    for name in backend.listdir(folder) if backend is not None else ():
        path = f"{folder}\\{name}" if folder else name
        entry = backend.stat(path)
        if entry.is_directory:
            if name.lower() not in _OTHERS:
                yield from _images_in(volume, path)
        elif name.lower().endswith((".vhd", ".vhdx", ".avhdx", ".vmcx", ".tmp")):
            yield volume.letter, path, entry.size


def _more(world: Any) -> Any:
    return [
        (job.type, job.state, job.looked, job.percent, job.failure)
        for machine in world.machines
        if machine.jobs is not None
        for job in machine.jobs.all()
        if not job.done
    ] + [
        (plan.type, plan.percent, plan.count) for m in world.machines if m.jobs is not None for plan in m.jobs.failures
    ]


def job_files(machine: Any) -> Iterator[bytes]:
    """Contents of what our jobs have left."""
    for name, size in _files(machine, JOBS):
        volume, path = machine.resolve(name)
        yield volume.files.open(path).read_at(0, size)


def _files(machine: Any, folder: str) -> Iterator[tuple[str, int]]:
    """Names and sizes of what our jobs have left."""
    try:
        volume, path = machine.resolve(folder)
        names = volume.listdir(path)
    except FileSystemError:
        return
    for name in names:
        entry = volume.stat(f"{path}\\{name}")
        if entry.is_directory:
            yield from _files(machine, f"{folder}\\{name}")
        else:
            yield f"{folder}\\{name}", entry.size


__all__ = ["essence", "fingerprint", "job_files", "without_ids"]
