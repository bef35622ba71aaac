# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Task lun_to_vhd: makes a LUN hold one fixed VHD and the VM use it. Options and results; plan and steps are `_hyperv`'s."""

from __future__ import annotations

import contextlib
import typing as t

from ..plugin_utils._backup.comparison_job import DetachedComparer
from ..plugin_utils._change import guard_of, hands_of, plan_diff
from ..plugin_utils._guard import Guard, NoGuard
from ..plugin_utils._hyperv import Registry, utc_now
from ..plugin_utils._hyperv.disk_selector import DiskSelector
from ..plugin_utils._hyperv.migration import Migration, Options, observe_situation, refresh_grown_luns
from ..plugin_utils._hyperv.migration_plan import plan_migration, reclaimable, written_since
from ..plugin_utils._hyperv.migration_record import MIGRATIONS_BASE, DiskMigration, MigrationStore
from ..plugin_utils._hyperv.migration_steps import MigrationPlan, Request, Situation, Wanted
from ..plugin_utils._hyperv.model import record_dict
from ..plugin_utils._hyperv.passthrough_plan import slot_of
from ..plugin_utils._task import HypervAction, Outcome, Run, TaskError

if t.TYPE_CHECKING:
    from ..plugin_utils._backup.engine import Waiting

_SLOT: dict[str, t.Any] = {
    "controller_type": {"type": "str", "choices": ["SCSI", "IDE"], "default": "SCSI"},
    "controller_number": {"type": "int", "default": 0},
    "controller_location": {"type": "int", "required": True},
}
# Of one disk; also the elements of `disks`
_DISK: dict[str, t.Any] = {
    "slot": {"type": "dict", "options": _SLOT},
    "lun": {"type": "raw"},
    "destination_lun": {"type": "raw"},
    "confirm_size_bytes": {"type": "int"},
    "drive_letter": {"type": "str"},
    "file_name": {"type": "str"},
    "staging_path": {"type": "str"},
    "growth_gib": {"type": "int"},
    "confirm_wipe": {"type": "str"},
    "guest_size_bytes": {"type": "int"},
}


class ActionModule(HypervAction):
    SPEC: t.ClassVar[dict[str, t.Any]] = {
        "argument_spec": {
            **_DISK,
            "vm": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "rolled_back", "finalized"], "default": "present"},
            "mode": {"type": "str", "choices": ["new", "copy", "in_place"], "default": "copy"},
            "disks": {"type": "list", "elements": "dict", "options": _DISK},
            "vhd_format": {"type": "str", "choices": ["VHD", "VHDX"]},
            "file_system": {"type": "str", "choices": ["NTFS", "ReFS"], "default": "NTFS"},
            "allocation_unit": {"type": "int", "choices": [4096, 65536], "default": 65536},
            "reserve": {"type": "bytes", "default": "1G"},
            "verify": {"type": "str", "choices": ["quick", "full"], "default": "quick"},
            "accept_full_allocation": {"type": "bool", "default": False},
            "accept_full_scsi": {"type": "bool", "default": False},
            "accept_seen_elsewhere": {"type": "bool", "default": False},
            "discard_writes_since": {"type": "str"},
            "force": {"type": "bool", "default": False},
            "shutdown_timeout": {"type": "int", "default": 900},
            "guest": {"type": "dict"},
            "other_hosts": {"type": "dict"},
            "wait_timeout": {"type": "int", "default": 86400},
            "poll_interval": {"type": "int", "default": 5},
            "lease": {"type": "str"},
        },
        "mutually_exclusive": [("disks", name) for name in _DISK],
    }
    IDENTITIES = frozenset({"vm", "lun", "destination_lun", "confirm_wipe"})

    def perform(self, run: Run) -> Outcome:
        arguments = run.arguments
        request = _request(arguments)
        client = run.client
        store = MigrationStore(registry=Registry(client, MIGRATIONS_BASE))
        if not run.check_mode and any(wanted.confirm_wipe for wanted in request.disks):
            record = observe_situation(client, store, arguments["vm"]).record
            refresh_grown_luns(client, record, hands_of(run, NoGuard(run)))
        plan, situation = _look(run, store, request)
        told = _told(plan, situation.vm)
        if run.check_mode or not plan.steps:
            data = {**told, **_outcome(plan.disks, planned=bool(plan.steps))}
            return Outcome(data=data, changed=bool(plan.steps), diff=_diff(run, plan))
        with _guarded(run, situation.vm["id"]) as hands:
            # Planned once more: what was there before the VM's lease was ours may have been another run's half-done work.
            plan, situation = _look(run, store, request)
            migration = Migration(
                client,
                situation,
                plan,
                store,
                hands,
                clock=lambda: utc_now(client),
                landed=lambda: setattr(run, "changed", True),
                options=Options(
                    force=arguments["force"],
                    shutdown_timeout_s=float(arguments["shutdown_timeout"]),
                    every_byte=arguments["verify"] == "full",
                    comparer=DetachedComparer(client),
                ),
            )
            record = migration.run()
        slots = {disk.slot for disk in plan.disks}
        done = [disk for disk in record.disks if disk.slot in slots]
        data = {**_told(plan, situation.vm), **_outcome(done, planned=False)}
        return Outcome(data=data, changed=run.changed, diff=_diff(run, plan))


def _look(run: Run, store: MigrationStore, request: Request) -> tuple[MigrationPlan, Situation]:
    """Raises: TaskError with all findings, when something forbids the migration."""
    arguments = run.arguments
    situation = observe_situation(
        run.client, store, arguments["vm"], guest=arguments["guest"], other_hosts=arguments["other_hosts"]
    )
    plan = plan_migration(situation, request)
    if plan.refused:
        findings = [record_dict(finding) for finding in plan.findings]
        raise TaskError(plan.findings[0].kind, plan.sentence(), findings=findings, fit=_fits(plan))
    return plan, situation


@contextlib.contextmanager
def _guarded(run: Run, vm_id: str) -> t.Iterator[Waiting]:
    """The lease that was given, or the VM's own lease for as long as this task runs: a backup must not come in between."""
    guard = guard_of(run)
    if not isinstance(guard, NoGuard):
        yield hands_of(run, guard)
        return
    own = Guard(run, run.client)
    own.take_vm(vm_id, hands_of(run, guard))
    try:
        yield hands_of(run, own)
    finally:
        own.release()


def _told(plan: MigrationPlan, vm: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    return {
        "vm": {"id": vm["id"], "name": vm["name"]},
        "plan": plan.describe(),
        "downtime": plan.downtime(),
        "notes": list(plan.notes),
        "fit": _fits(plan),
    }


def _diff(run: Run, plan: MigrationPlan) -> tuple[dict[str, str], ...]:
    return plan_diff(run, [], plan.text().splitlines())


def _request(arguments: t.Mapping[str, t.Any]) -> Request:
    """Raises: HypervError (bad_slot, invalid_disk, unquoted_identity)."""
    listed: t.Sequence[t.Mapping[str, t.Any]] = arguments["disks"] or [arguments]
    if arguments["state"] != "present" and not arguments["disks"] and not (arguments["slot"] or arguments["lun"]):
        listed = ()
    return Request(
        state=arguments["state"],
        disks=tuple(_wanted(arguments, one) for one in listed),
        accept_full_allocation=arguments["accept_full_allocation"],
        accept_full_scsi=arguments["accept_full_scsi"],
        accept_seen_elsewhere=arguments["accept_seen_elsewhere"],
        discard_writes_since=arguments["discard_writes_since"],
        every_byte=arguments["verify"] == "full",
    )


def _wanted(arguments: t.Mapping[str, t.Any], one: t.Mapping[str, t.Any]) -> Wanted:
    selectors = {
        name: DiskSelector.from_option(one[option]) if one[option] is not None else None
        for name, option in (("lun", "lun"), ("destination", "destination_lun"))
    }
    same = (
        "drive_letter",
        "file_name",
        "staging_path",
        "confirm_size_bytes",
        "confirm_wipe",
        "growth_gib",
        "guest_size_bytes",
    )
    return Wanted(
        mode=arguments["mode"],
        slot=slot_of(one["slot"]) if one["slot"] else None,
        vhd_format=arguments["vhd_format"],
        file_system=arguments["file_system"],
        allocation_unit=arguments["allocation_unit"],
        reserve_bytes=arguments["reserve"],
        **selectors,
        **{name: one[name] for name in same},
    )


def _fits(plan: MigrationPlan) -> list[dict[str, t.Any]]:
    slots = {disk.slot.describe(): record_dict(disk.slot) for disk in plan.disks}
    return [{"slot": slots.get(name), **fit.to_dict()} for name, fit in plan.fits.items()]


def _outcome(disks: t.Sequence[DiskMigration], *, planned: bool) -> dict[str, t.Any]:
    """`state`, `vhd` and `rollback`; what only a real run knows is None in a plan."""
    outcomes = {disk.outcome or "in_progress" for disk in disks}
    return {
        "state": None if planned else outcomes.pop() if len(outcomes) == 1 else "mixed" if outcomes else "none",
        "vhd": [_vhd(disk) for disk in disks],
        "rollback": [_rollback(disk) for disk in disks],
    }


def _vhd(disk: DiskMigration) -> dict[str, t.Any]:
    return {
        "slot": record_dict(disk.slot),
        "path": disk.target_path or None,
        "format": disk.format,
        "size_bytes": disk.size_bytes,
        "outcome": disk.outcome or None,
        "stage": disk.stage,
        "verified": disk.verified or None,
        "sha256": disk.sha256,
        "guest_disk": disk.guest_disk,
    }


def _rollback(disk: DiskMigration) -> dict[str, t.Any]:
    back = disk.staging_path if disk.wiped else (disk.source or {}).get("unique_id")
    possible = disk.outcome not in ("rolled_back", "finalized") and disk.leg != "new"
    return {
        "slot": record_dict(disk.slot),
        "possible": possible,
        "back_to": back if possible else None,
        "discard_writes_since": written_since(disk) if possible else None,
        "reclaimable": reclaimable(disk) if disk.outcome == "finalized" else None,
    }
