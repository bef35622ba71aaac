# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""From what tasks return to what a backup set records: a new set, an attempt, the verdict of closing, the set in a sentence.

Pure functions between the shapes of task results and the records of `backup_set.py`. Not responsible for storing (`set_store.py`),
or for the transitions themselves.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from .backup_set import (
    Attempt,
    BackupSet,
    Waiver,
    best_pair,
    close,
    close_as_failed,
    what_is_left,
)

#: Failures after which the job may still run or the record may still be continued: the set stays open for a rerun.
CONTINUABLE = frozenset(
    {
        "unreachable",
        "reply_lost",
        "outcome_unknown",
        "timeout",
        "wait_timeout",
        "busy_timeout",
        "orphaned",
        "quota",
        "http",
        "protocol",
        "authentication",
        "helper_timeout",
        "superseded",
        "busy",
    }
)


def new_set(options: Mapping[str, Any], vm: Mapping[str, Any], host: str, set_id: str, now: datetime) -> BackupSet:
    """The set that is opened for a VM.

    Args:
        options: of the task backup_set: coverage, engines, targets, VSS backup types, max_skew, allow_offline.
        vm: its entry in a fresh `disk_info`; what a restore on another host needs of it is taken along.
    """
    coverage = options["coverage"]
    waivers = [Waiver(kind="accept_gap", value=text, date=now) for text in coverage.get("accepted") or ()]
    if coverage.get("guest_storage") == "none":
        waivers.append(Waiver(kind="guest_storage_none", value=str(vm["name"]), date=now))
    return BackupSet(
        set_id=set_id,
        vm={
            "id": vm["id"],
            "name": vm["name"],
            "generation": vm["generation"],
            "state": vm.get("state"),
            "host": host,
            "guest_engine": options["guest_engine"],
            "host_engine": options["host_engine"],
            "guest_engine_options": dict(options.get("guest_engine_options") or {}),
            "host_engine_options": dict(options.get("host_engine_options") or {}),
            "guest_target": options["guest_target"],
            "host_target": options["host_target"],
            "configuration": vm.get("configuration"),
            "network_adapters": list(vm.get("network_adapters") or ()),
            "fibre_channel_ports": list(vm.get("fibre_channel_ports") or ()),
        },
        opened=now,
        updated=now,
        max_skew_s=float(options["max_skew"]),
        vss_backup_type={"guest": options["guest_vss_backup_type"], "host": options["host_vss_backup_type"]},
        automatic_start_action=vm["automatic_start_action"],
        allow_offline=options["allow_offline"],
        guest_phase_needed=bool(coverage.get("guest_volumes")),
        disks=tuple(_recorded_disk(row) for row in coverage.get("disks") or ()),
        notes=tuple(coverage.get("notes") or ()),
        waivers=tuple(waivers),
    )


def _recorded_disk(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A row of the coverage; partition tables only of disks that may have to be prepared anew, the record is limited."""
    guest = (row.get("evidence") or {}).get("guest")
    if row.get("coverage") != "host" or not guest or "partitions" not in guest:
        return row
    kept = {key: value for key, value in guest.items() if key != "partitions"}
    return {**row, "evidence": {**row["evidence"], "guest": kept}}


def attempt_of(result: Mapping[str, Any]) -> Attempt:
    """An attempt of the record from the registered result of guest_backup or host_backup."""
    job, proven = result["job"], result.get("result") or {}
    run_id = str(job["run_id"])
    started = proven.get("started") or result.get("started")
    return Attempt(
        number=int(run_id.rpartition(".")[2]),
        run_id=run_id,
        engine=str(proven.get("engine") or result.get("engine") or "wsb"),
        machine=str(result.get("machine")),
        target=str(proven.get("target") or ""),
        started=datetime.fromisoformat(str(started)),
        outcome=str(proven.get("state") or "running"),
        ended=_moment(proven.get("ended")),
        version=proven.get("version"),
        snapshot_time=_moment(proven.get("snapshot_time")),
        clock_offset_s=float(proven.get("clock_offset_s") or result.get("clock_offset_s") or 0.0),
        consistency=str(proven.get("consistency") or "unknown"),
        listed=bool(proven.get("listed")),
        warnings=tuple(proven.get("warnings") or ()),
        evidence=dict(proven.get("evidence") or {}),
        error={"kind": proven.get("kind"), "message": proven.get("message")}
        if proven.get("state") == "failed"
        else None,
        engine_options=dict(proven.get("engine_options") or result.get("engine_options") or {}),
    )


def _moment(text: object) -> datetime | None:
    return datetime.fromisoformat(str(text)) if text else None


def judged(options: Mapping[str, Any], item: BackupSet, now: datetime) -> BackupSet:
    """What closing makes of a set: its own judgement, a failure, or nothing yet when a rerun can continue it."""
    if not item.is_open:
        return item  # another run may have closed it; its verdict stands
    failure, kind = options["failure"], options["failure_kind"]
    done = not what_is_left(item).phases
    if failure and not done:
        return item if kind in CONTINUABLE else close_as_failed(item, failure, now)
    coverage = options["coverage"] or {}
    closed = close(item, now, uncovered=coverage.get("uncovered") or (), accepted=coverage.get("accepted") or ())
    if failure and closed.state in ("good", "degraded"):
        return dataclasses.replace(closed, state="degraded", reasons=(failure, *closed.reasons))
    return closed


def sentence_of(item: BackupSet) -> str:
    """What the set holds."""
    guest, host = best_pair(item)
    parts = [f"backup set {item.set_id} of VM {item.vm.get('name')} is {item.state}"]
    if host is not None:
        parts.append(f"host version {host.version} on {host.target}")
    if guest is not None:
        parts.append(f"guest version {guest.version} on {guest.target}")
    if item.skew_s is not None:
        parts.append(f"{item.skew_s:.0f} s apart")
    if item.is_open:
        parts.append("run again to continue it")
    return "; ".join([", ".join(parts), *item.reasons])
