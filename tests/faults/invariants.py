# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must be true of a world after every exchange, as pure functions over two looks at it.

Responsible for: the look (`Glance`), the invariants that need history, and the ones that hold at the end of a case. Not
responsible for: which world, which command, which fault. The rules are those of the design: no disk online on its host while
a VM has it, no version deleted, no second job for one run, records readable, a good set is good, no secret anywhere.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from simulator.registry import fold_name
from simulator.windows_backup import BACKUP

HKLM = 0x80000002
BASE = "SOFTWARE\\hyperv.passthrough"
FOLDER = "hyperv.passthrough"
EVENTS = "Microsoft-Windows-Backup"
STARTED = 1
RECORD = fold_name("Record")
CLOSED_WELL = ("good", "degraded")
USABLE = ("succeeded", "warning")
_RUN = re.compile(r"(?P<set>.+)\.(?P<phase>guest|host)\.(?P<number>\d+)$")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Glance:
    """One look at the world, cheap enough to be taken after every exchange.

    Attributes:
        findings: what the simulator itself calls impossible or dangerous.
        vms: state of each VM.
        sets: text of every record, by host and set id.
        versions: what each machine's catalog lists.
        starts: how many backups began on each machine (events 1).
        runs: names of our backup tasks on each machine, without the helpers; also of those that somebody has deleted since.
        disks: a number for each LUN that changes with every write to it.
        quiesced: guests whose applications the hook has stopped.
        more: what the scenario's own `look` has seen.
    """

    findings: tuple[str, ...]
    vms: Mapping[str, int]
    sets: Mapping[str, str]
    versions: Mapping[str, frozenset[str]]
    starts: Mapping[str, int]
    runs: Mapping[str, frozenset[str]]
    disks: Mapping[str, int]
    quiesced: frozenset[str]
    more: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def glance(world: Any) -> Glance:
    return Glance(
        findings=tuple(world.check()),
        vms={vm.name: vm.state for vm in world.vms},
        sets=dict(_records(world)),
        versions={one.name: frozenset(v.version_id for v in one.backup.catalog) for one in _windows(world)},
        starts={one.name: sum(e.event_id == STARTED for e in one.event_log.query(EVENTS)) for one in _windows(world)},
        runs={one.name: _runs(one) for one in _windows(world)},
        disks={name: lun.content.version for name, lun in world.luns.items()},
        quiesced=frozenset(getattr(world, "quiesced", ())),
    )


def _runs(machine: Any) -> frozenset[str]:
    seen: dict[str, set[str]] = machine.world.__dict__.setdefault("runs_seen", {})
    seen.setdefault(machine.name, set()).update(run_names(machine))
    return frozenset(seen[machine.name])


def _windows(world: Any) -> list[Any]:
    return [machine for machine in world.machines if machine.os.family == "windows"]


def run_names(machine: Any) -> list[str]:
    """Our scheduled tasks that are backups; a rerun finds its job by them."""
    ours = (task.name for task in machine.scheduler.tasks() if task.folder.strip("\\") == FOLDER)
    return sorted(name for name in ours if _RUN.fullmatch(name))


def _records(world: Any) -> Iterator[tuple[str, str]]:
    for host in world.hosts:
        key = host.registry.find(HKLM, f"{BASE}\\Sets")
        for one in key.subkeys.values() if key is not None else ():
            entry = one.values.get(RECORD)
            if entry is not None:  # a key is made before its record
                yield f"{host.name}/{one.name}", str(entry[1].data)


def leases(world: Any) -> dict[str, list[Mapping[str, Any]]]:
    """Who holds a lease, or stands in line for it, by host and name."""
    found = {}
    for host in world.hosts:
        key = host.registry.find(HKLM, f"{BASE}\\Leases")
        for one in key.subkeys.values() if key is not None else ():
            if one.values:
                found[f"{host.name}/{one.name}"] = [json.loads(str(value.data)) for _name, value in one.values.values()]
    return found


@functools.lru_cache(maxsize=4096)
def record_of(text: str) -> Mapping[str, Any] | None:
    """A record's JSON, None when it cannot be read."""
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) and "phases" in found and "state" in found else None


def sets_of(now: Glance) -> list[Mapping[str, Any]]:
    """Readable records, oldest first."""
    found = [record for text in now.sets.values() if (record := record_of(text)) is not None]
    return sorted(found, key=lambda one: (str(one["opened"]), str(one.get("updated")), str(one["set_id"])))


# -- after every exchange: (before, now) -> findings -----------------------------------------------------------------------

Invariant = Callable[[Glance, Glance], Iterator[str]]


def as_windows_allows(_before: Glance, now: Glance) -> Iterator[str]:
    """No LUN online on its host while a VM has it, no disk in two slots or two VMs, no VM resumed onto changed disks."""
    yield from now.findings


def no_version_deleted(before: Glance, now: Glance) -> Iterator[str]:
    for machine, versions in before.versions.items():
        for gone in sorted(versions - now.versions.get(machine, frozenset())):
            yield f"version {gone} of {machine} is gone"


def no_run_started_twice(_before: Glance, now: Glance) -> Iterator[str]:
    """No backup begins that is not the first of its own run."""
    for machine, count in now.starts.items():
        if count > len(now.runs[machine]):
            yield f"{count} backups began on {machine}, but only {len(now.runs[machine])} runs of ours exist"


def no_second_job_for_a_phase(_before: Glance, now: Glance) -> Iterator[str]:
    """A phase that has a usable version is not run again, but once when the two snapshots lie too far apart."""
    for record in sets_of(now):
        for phase in ("guest", "host"):
            usable = [one for one in record["phases"][phase]["attempts"] if one["outcome"] in USABLE and one["version"]]
            if sum(one["purpose"] != "skew" for one in usable) > 1 or len(usable) > 2:
                yield f"set {record['set_id']} has {len(usable)} usable {phase} versions"


def no_job_beside_another(before: Glance, now: Glance) -> Iterator[str]:
    """A phase gets another run only when the one before it is recorded, as failed or as too far apart from the other phase."""
    if now.runs == before.runs:
        return
    records = {str(record["set_id"]).lower(): record for record in sets_of(now)}
    for machine, names in now.runs.items():
        for name in sorted(names - before.runs.get(machine, frozenset())):
            found = _RUN.fullmatch(name)
            if found is None or found["number"] == "1":
                continue
            record = records.get(found["set"].lower())
            attempts = record["phases"][found["phase"]]["attempts"] if record is not None else []
            if int(found["number"]) - 1 not in [one["number"] for one in attempts]:
                yield f"run {name} was made on {machine}, though the one before it is not recorded"


def records_readable(_before: Glance, now: Glance) -> Iterator[str]:
    for name, text in now.sets.items():
        if record_of(text) is None:
            yield f"the record {name} cannot be read"


def good_is_good(before: Glance, now: Glance) -> Iterator[str]:
    """A set called good or degraded has a version of each phase that it needs, and the machines list them."""
    if now.sets == before.sets:
        return
    machines = {name.upper(): versions for name, versions in now.versions.items()}
    for record in sets_of(now):
        if record["state"] not in CLOSED_WELL:
            continue
        for phase, entry in record["phases"].items():
            held = [one for one in entry["attempts"] if one["outcome"] in USABLE and one["version"]]
            if entry["needed"] and not held:
                yield f"set {record['set_id']} is {record['state']} without a version of its {phase} phase"
            for one in held:
                if one["version"] not in machines.get(str(one["machine"]).upper(), ()):
                    yield f"set {record['set_id']} names version {one['version']}, which {one['machine']} does not list"


def closed_stays_closed(before: Glance, now: Glance) -> Iterator[str]:
    """A set that was closed never gets another verdict but lost or restored."""
    for name, text in before.sets.items():
        old, new = record_of(text), record_of(now.sets.get(name, ""))
        if old is None or old["state"] == "open":
            continue
        if new is None or new["state"] not in (old["state"], "lost", "restored"):
            yield f"the record {name} was {old['state']} and is {new['state'] if new else 'gone'} now"


def disks_not_written(before: Glance, now: Glance) -> Iterator[str]:
    """A backup writes to no LUN."""
    for name, number in before.disks.items():
        if now.disks.get(name) != number:
            yield f"LUN {name} was written"


EVERYWHERE: tuple[Invariant, ...] = (
    as_windows_allows,
    no_version_deleted,
    no_run_started_twice,
    no_second_job_for_a_phase,
    no_job_beside_another,
    records_readable,
    good_is_good,
    closed_stays_closed,
)
FOR_BACKUP: tuple[Invariant, ...] = (*EVERYWHERE, disks_not_written)


# -- at the end of a case --------------------------------------------------------------------------------------------------


def nobody_left_quiesced(now: Glance) -> Iterator[str]:
    for name in sorted(now.quiesced):
        yield f"the applications of {name} are still stopped"
    for record in sets_of(now):
        if record["hooks"]["quiesced"]:
            yield f"set {record['set_id']} says that its guest is still quiesced"


def no_secret(world: Any, texts: Mapping[str, str]) -> Iterator[str]:
    """No password in a result, on the screen, in a registry or in a file that we wrote."""
    secrets = {
        account.password for machine in world.machines for account in machine.accounts.values() if account.password
    }
    for place, text in texts.items():
        if any(secret in text for secret in secrets):
            yield f"a password is in {place}"


def nothing_runs(world: Any) -> Iterator[str]:
    for machine in _windows(world):
        job = machine.backup.job
        if job is not None and job.running and job.kind == BACKUP:
            yield f"a backup still runs on {machine.name}"


_ALWAYS = "after every exchange"
#: The list of issue 5, one by one: (what must hold, when it is looked at, by what).
CHECKED: tuple[tuple[str, str, str], ...] = (
    (
        "no LUN online on any host while it is attached to a VM",
        _ALWAYS,
        "`as_windows_allows` (`World.check`), every scenario",
    ),
    ("no disk in two slots or two VMs", _ALWAYS, "`as_windows_allows`, every scenario"),
    (
        "no VM runs on the source after the copy began",
        _ALWAYS,
        "`never_on_a_source_that_was_given_up`, `never_both`, migrations",
    ),
    (
        "no VM resumes from saved state after a disk under it changed",
        _ALWAYS,
        "`as_windows_allows` (`World.incidents`, kept for ever), every scenario",
    ),
    ("no guest left quiesced once the rerun has ended", "at the end", "`nobody_left_quiesced`, backups with hooks"),
    (
        "at every moment an intact copy of every guest byte: backup",
        _ALWAYS,
        "`disks_not_written`: no LUN is written. Virtual hard disks of the running guest are its own to write; that both can be got "
        "back from the versions, byte by byte, is looked at at the end",
    ),
    (
        "at every moment an intact copy of every guest byte: migration",
        _ALWAYS,
        "`one_whole_copy`, `source_not_written`",
    ),
    (
        "restore: the set's bytes survive",
        _ALWAYS,
        "`set_survives`: no file on a backup target changes; restores from wsb",
    ),
    (
        "restore: data not named for overwriting is never written",
        _ALWAYS,
        "`others_not_written`, `kept_not_written` (`World.written_since`)",
    ),
    (
        "restore: the VM never runs on another disk than its own",
        _ALWAYS,
        "`runs_on_its_own_disk`; not for what an operator or a restart starts in the same moment",
    ),
    ("no version deleted by us", _ALWAYS, "`no_version_deleted`; `no_copy_deleted` for shadow copies"),
    (
        "no second backup job for the same set",
        _ALWAYS,
        "`no_run_started_twice`, `no_second_job_for_a_phase`, `no_job_beside_another`; `one_recovery_at_a_time` for restores",
    ),
    ("a set called good has what it says; a closed one stays closed", _ALWAYS, "`good_is_good`, `closed_stays_closed`"),
    (
        "registry records readable",
        _ALWAYS,
        "`records_readable`, and whoever looks at leases and migrations reads them all",
    ),
    (
        "no secret in any log, result, process list or file",
        "at the end of every case that is played",
        "`no_secret`: screen and results of every run, definitions of our tasks, our registry, command lines of processes, files of "
        "our jobs",
    ),
)
