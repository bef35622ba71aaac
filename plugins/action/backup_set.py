# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Task backup_set: opens, records and closes the record that keeps both halves of a backup together.

The decisions are pure functions of `_backup.backup_set`; here they are fed with the host's registry and clock, and the
leases are taken and given back.
"""

from __future__ import annotations

import dataclasses
import json
import os
import typing as t
from datetime import datetime
from pathlib import Path

from ..plugin_utils._backup import backup_set as sets
from ..plugin_utils._backup.detached_job import DetachedJobs
from ..plugin_utils._backup.engine import check_vss_backup_types
from ..plugin_utils._backup.engines import engine as engine_named
from ..plugin_utils._backup.errors import BackupError
from ..plugin_utils._backup.restore_record import FINISHED, begin_restore, check_restore_id, end_restore, find_restore
from ..plugin_utils._backup.set_choice import phases_of, refusal
from ..plugin_utils._backup.set_copy import copy_path, copy_set
from ..plugin_utils._backup.set_recording import attempt_of, judged, new_set, sentence_of
from ..plugin_utils._backup.set_store import REGISTRY_BASE, SetStore
from ..plugin_utils._guard import Guard, strategy_of, waiting_of
from ..plugin_utils._hyperv import Registry, observe_host, utc_now
from ..plugin_utils._task import HypervAction, Outcome, Run, TaskError

if t.TYPE_CHECKING:
    from ..plugin_utils._backup.engine import Phase, Waiting

_COPY_TIMEOUT_S = 900.0


class ActionModule(HypervAction):
    SPEC: t.ClassVar[dict[str, t.Any]] = {
        "argument_spec": {
            "vm": {"type": "str", "required": True},
            "state": {
                "type": "str",
                "choices": ["open", "recorded", "closed", "restoring", "restored"],
                "required": True,
            },
            "set_id": {"type": "str"},
            "lease": {"type": "str"},
            "coverage": {"type": "dict"},
            "guest_engine": {"type": "str", "choices": ["command", "wsb"], "default": "wsb"},
            "host_engine": {"type": "str", "choices": ["command", "diskshadow", "export", "wsb"], "default": "wsb"},
            "guest_engine_options": {"type": "dict", "default": {}},
            "host_engine_options": {"type": "dict", "default": {}},
            "guest_target": {"type": "str"},
            "host_target": {"type": "str"},
            "guest_vss_backup_type": {"type": "str", "choices": ["copy", "full"], "default": "copy"},
            "host_vss_backup_type": {"type": "str", "choices": ["copy", "full"], "default": "copy"},
            "max_skew": {"type": "int", "default": 3600},
            "allow_offline": {"type": "bool", "default": False},
            "hold_slot": {"type": "bool", "default": False},
            "host_concurrency": {"type": "int", "default": 4},
            "queue_timeout": {"type": "int", "default": 28800},
            "poll_interval": {"type": "int", "default": 10},
            "phase": {"type": "str", "choices": ["quiesce", "quiesced", "guest", "host", "unquiesced"]},
            "result": {"type": "dict"},
            "failure": {"type": "str"},
            "failure_kind": {"type": "str"},
            "copy_beside_backup": {"type": "bool", "default": False},
            "controller_copy": {"type": "str"},
            "set": {"type": "dict"},
            "restore_id": {"type": "str", "default": "r1"},
            "restore_phase": {"type": "str", "choices": ["both", "host", "guest"], "default": "both"},
            "host_result": {"type": "dict"},
            "guest_result": {"type": "dict"},
        },
        "required_if": [
            ("state", "open", ("coverage", "host_target")),
            ("state", "recorded", ("set_id", "phase")),
            ("state", "closed", ("set_id",)),
            ("state", "restoring", ("set",)),
            ("state", "restored", ("set_id",)),
        ],
    }
    IDENTITIES = frozenset({"vm", "set_id", "restore_id"})

    def perform(self, run: Run) -> Outcome:
        states = {
            "open": self._open,
            "recorded": self._recorded,
            "closed": self._closed,
            "restoring": self._restoring,
            "restored": self._restored,
        }
        return states[run.arguments["state"]](run)

    # -- open ----------------------------------------------------------------------------------------------------------

    def _open(self, run: Run) -> Outcome:
        arguments, coverage = run.arguments, run.arguments["coverage"]
        check_vss_backup_types(arguments["guest_vss_backup_type"], arguments["host_vss_backup_type"])
        for phase in sets.PHASES:
            entry, as_phase = engine_named(arguments[f"{phase}_engine"]), t.cast("Phase", phase)
            entry.options(arguments[f"{phase}_engine_options"], as_phase)
            if arguments[f"{phase}_target"]:
                entry.target_kind(arguments[f"{phase}_target"])
        if arguments["hold_slot"]:
            self._check_strategy()
        view = observe_host(run.client, vms=[arguments["vm"]]).to_dict()
        vm, host = view["vms"][0], view["host"]["name"]
        if sets.vm_key(vm["id"]) != sets.vm_key(coverage.get("vm", {}).get("id")):
            raise TaskError(
                "wrong_coverage",
                f"coverage is of VM {coverage.get('vm', {}).get('id')}, but {arguments['vm']} is VM {vm['id']}; pass the "
                "coverage of the same VM",
            )
        guard = Guard(run, run.client)
        if run.check_mode:
            return self._planned_open(run, vm, host)
        waiting = waiting_of(
            run,
            timeout_s=float(arguments["queue_timeout"]),
            poll_s=float(arguments["poll_interval"]),
            should_stop=guard.check,
        )
        if arguments["lease"]:
            guard.attach(arguments["lease"])
        guard.take_vm(vm["id"], waiting)
        try:
            if arguments["hold_slot"]:
                self._take_slot(run, guard, view["host"], waiting)
            guard.check()  # the controller may have died while this waited; a worker that is left alone writes nothing
            before, item = self._opened(run, vm, host)
        except BaseException:
            guard.release()
            raise
        return _outcome(run, item, before=before, lease=guard.lease, more=self._quiesced_elsewhere(run, item))

    @staticmethod
    def _take_slot(run: Run, guard: Guard, host: t.Mapping[str, t.Any], waiting: Waiting) -> None:
        """The host's one backup job, or one of several places when its engine works on several VMs at once."""
        arguments = run.arguments
        entry = engine_named(arguments["host_engine"])
        able = entry.capabilities(host, entry.options(arguments["host_engine_options"], "host"))
        if able.concurrent:
            guard.take_place(str(host["name"]), entry.name, max(1, arguments["host_concurrency"]), waiting)
        else:
            guard.take_slot(str(host["name"]), waiting)

    def _opened(self, run: Run, vm: t.Mapping[str, t.Any], host: str) -> tuple[sets.BackupSet | None, sets.BackupSet]:
        """Decide with the lease held, give up what is given up, and store the set; returns it before and after."""
        store, now = _store(run), utc_now(run.client)
        existing = store.list(vm["id"]).sets
        requested = run.arguments["set_id"]
        if requested and not any(item.set_id.casefold() == requested.casefold() for item in existing):
            other = store.read(requested)
            existing = existing if other is None else (*existing, other)
        decision = sets.open_or_resume(existing, vm["id"], now, float(run.arguments["max_skew"]), requested)
        by_id = {item.set_id: item for item in existing}
        for set_id, reason in decision.close_as_failed:
            store.write(sets.close_as_failed(by_id[set_id], reason, now))
            run.changed = True
        if decision.action != "open":
            return by_id[str(decision.set_id)], by_id[str(decision.set_id)]
        item = new_set(run.arguments, vm, host, decision.set_id or sets.new_set_id(vm["id"], now, run.new_id()), now)
        stored = store.write(item)
        run.changed = True
        return None, stored

    def _planned_open(self, run: Run, vm: t.Mapping[str, t.Any], host: str) -> Outcome:
        now = utc_now(run.client)
        existing = _store(run).list(vm["id"]).sets
        decision = sets.open_or_resume(
            existing, vm["id"], now, float(run.arguments["max_skew"]), run.arguments["set_id"]
        )
        by_id = {item.set_id: item for item in existing}
        if decision.action != "open":
            item = by_id[str(decision.set_id)]
            return _outcome(run, item, before=item, lease=None)
        item = new_set(run.arguments, vm, host, decision.set_id or sets.new_set_id(vm["id"], now, run.new_id()), now)
        run.changed = True
        return _outcome(run, item, before=None, lease=None)

    def _check_strategy(self) -> None:
        strategy = strategy_of(self._task)
        if strategy and strategy != "host_pinned":
            raise TaskError(
                "wrong_strategy",
                f"the play uses strategy {strategy}, under which VMs that wait for a host's backup slot block the one that holds "
                "it; set strategy: ansible.builtin.host_pinned in the play",
            )

    @staticmethod
    def _quiesced_elsewhere(run: Run, item: sets.BackupSet) -> dict[str, t.Any]:
        """A set that was given up may have left the guest's applications stopped."""
        others = _store(run).list(item.vm_id).sets
        return {"quiesced": any(other.hooks.quiesced for other in others)}

    # -- recorded ------------------------------------------------------------------------------------------------------

    def _recorded(self, run: Run) -> Outcome:
        item = self._existing(run)
        if item is None:
            return _nothing_planned(run)
        guard = self._attached(run)
        now, phase = utc_now(run.client), run.arguments["phase"]
        changed = item
        if phase == "quiesce":
            changed = sets.record_quiesce(item, True, now)
        elif phase == "unquiesced":
            self._unquiesce_others(run, item, now)
            changed = sets.record_quiesce(item, False, now)
        elif phase in sets.PHASES:
            changed = self._with_attempt(run, item, now)
        stored = self._stored(run, item, changed)
        return _outcome(run, stored, before=item, lease=guard.lease if guard else run.arguments["lease"])

    def _with_attempt(self, run: Run, item: sets.BackupSet, now: datetime) -> sets.BackupSet:
        result, phase = run.arguments["result"] or {}, run.arguments["phase"]
        if not (result.get("job") or {}).get("run_id"):
            raise TaskError("no_result", f"phase {phase} needs result, the registered result of {phase}_backup")
        if result.get("planned") or result["job"].get("state") is None:
            return item
        attempt = attempt_of(result)
        purposes = [(one.run_id, one.purpose) for one in (*sets.what_is_left(item).phases, *item.attempts(phase))]
        attempt = dataclasses.replace(attempt, purpose=dict(purposes).get(attempt.run_id, attempt.purpose))
        changed = sets.record_phase(item, phase, attempt, now)
        if phase == "guest":
            changed = sets.record_volumes(changed, result.get("volumes") or (), result.get("sentinels") or (), now)
        return changed

    @staticmethod
    def _unquiesce_others(run: Run, item: sets.BackupSet, now: datetime) -> None:
        store = _store(run)
        for other in store.list(item.vm_id).sets:
            if other.hooks.quiesced and other.set_id != item.set_id and not run.check_mode:
                store.write(sets.record_quiesce(other, False, now))
                run.changed = True

    # -- closed --------------------------------------------------------------------------------------------------------

    def _closed(self, run: Run) -> Outcome:
        arguments = run.arguments
        item = self._existing(run)
        if item is None:
            return _nothing_planned(run)
        guard = self._attached(run)
        warnings: list[str] = []
        try:
            now = utc_now(run.client)
            closed = self._stored(run, item, judged(arguments, item, now))
            if closed.state in ("good", "degraded") and not run.check_mode:
                closed = self._copied(run, closed, warnings)
        finally:
            if guard is not None:
                guard.release()
        return _outcome(run, closed, before=item, lease=None, warnings=warnings)

    def _copied(self, run: Run, item: sets.BackupSet, warnings: list[str]) -> sets.BackupSet:
        """Write the copies that were asked for and are not there; one that fails is a warning, the set itself is safe."""
        arguments, changed = run.arguments, item
        target, folder = arguments["host_target"], arguments["controller_copy"]
        if arguments["copy_beside_backup"] and target:
            waiting = waiting_of(run, timeout_s=_COPY_TIMEOUT_S, poll_s=float(arguments["poll_interval"]))
            try:
                if copy_path(item, target) not in item.copies:  # raises for a target that is no place in a file system
                    path = copy_set(DetachedJobs(run.client), item, target, waiting)
                    changed = sets.add_copy(changed, path, utc_now(run.client))
            except BackupError as err:
                warnings.append(str(err))
        if not folder or _controller_path(folder, item) in item.copies:
            return self._stored(run, item, changed)
        changed = self._stored(run, item, sets.add_copy(changed, _controller_path(folder, item), utc_now(run.client)))
        _write_controller_copy(folder, changed, warnings)
        return changed

    # -- restoring -----------------------------------------------------------------------------------------------------

    def _restoring(self, run: Run) -> Outcome:
        """Take the VM's lease and open the restore's entry; a set that this host does not know is brought into its registry."""
        arguments = run.arguments
        given = sets.from_result(arguments["set"])
        why = refusal(given, restore_phase=arguments["restore_phase"], vm_id=arguments["vm"])
        if why is not None:
            raise TaskError(why[0], why[1])
        store = _store(run)
        stored = store.read(given.set_id)
        item = stored or dataclasses.replace(given, revision=0)
        if item.vm_id != given.vm_id:
            raise TaskError(
                "wrong_set",
                f"the set {item.set_id} on {run.target} is of another VM than the one that was passed as set",
            )
        known = find_restore(item, arguments["restore_id"])
        if known is not None and known.get("state") == FINISHED:
            return _restore_outcome(run, item, before=item, lease=None)
        host = observe_host(run.client, vms=[]).host.name
        if run.check_mode:
            begun = self._begun(run, item, host)
            run.changed = True
            return _restore_outcome(run, begun, before=stored, lease=None)
        guard = Guard(run, run.client)
        waiting = waiting_of(
            run,
            timeout_s=float(arguments["queue_timeout"]),
            poll_s=float(arguments["poll_interval"]),
            should_stop=guard.check,
        )
        if arguments["lease"]:
            guard.attach(arguments["lease"])
        guard.take_vm(item.vm_id, waiting)
        try:
            guard.check()
            item = store.read(given.set_id) or item  # as it is now that nobody else writes it
            known = find_restore(item, arguments["restore_id"])
            if known is not None and known.get("state") == FINISHED:  # by a run that this one waited for
                guard.release()
                return _restore_outcome(run, item, before=item, lease=None)
            begun = self._begun(run, item, host)
            if begun != stored:
                begun = store.write(begun)
                run.changed = True
        except BaseException:
            guard.release()
            raise
        return _restore_outcome(run, begun, before=stored, lease=guard.lease)

    @staticmethod
    def _begun(run: Run, item: sets.BackupSet, host: str) -> sets.BackupSet:
        return begin_restore(
            item,
            check_restore_id(run.arguments["restore_id"]),
            restore_phase=run.arguments["restore_phase"],
            host=host,
            now=utc_now(run.client),
        )

    def _restored(self, run: Run) -> Outcome:
        arguments = run.arguments
        item = self._existing(run)
        if item is None:
            return _nothing_planned(run)
        guard = self._attached(run)
        warnings: list[str] = []
        try:
            if run.check_mode and find_restore(item, arguments["restore_id"]) is None:
                return _nothing_planned(run)
            ended = end_restore(
                item,
                arguments["restore_id"],
                now=utc_now(run.client),
                host_result=arguments["host_result"],
                guest_result=arguments["guest_result"],
                failure=arguments["failure"],
                failure_kind=arguments["failure_kind"],
            )
            stored = self._stored(run, item, ended)
        finally:
            if guard is not None:
                guard.release()
        return _restore_outcome(run, stored, before=item, lease=None, warnings=warnings)

    # -- shared --------------------------------------------------------------------------------------------------------

    def _existing(self, run: Run) -> sets.BackupSet | None:
        """The set that was named; None in check mode, where an earlier task only planned it."""
        item = _store(run).read(run.arguments["set_id"])
        if item is None and not run.check_mode:
            raise TaskError(
                "unknown_set",
                f"there is no backup set {run.arguments['set_id']} on {run.target}; list them with backup_set_info",
            )
        if item is not None:
            wanted = sets.vm_key(run.arguments["vm"])
            if wanted not in (item.vm_id, str(item.vm.get("name")).casefold()):
                raise TaskError(
                    "wrong_set",
                    f"the backup set {item.set_id} belongs to VM {item.vm.get('name')} ({item.vm.get('id')}), not to "
                    f"{run.arguments['vm']}",
                )
        return item

    @staticmethod
    def _attached(run: Run) -> Guard | None:
        if run.check_mode or not run.arguments["lease"]:
            return None
        guard = Guard(run, run.client).attach(run.arguments["lease"])
        guard.check()
        return guard

    @staticmethod
    def _stored(run: Run, before: sets.BackupSet, after: sets.BackupSet) -> sets.BackupSet:
        if dataclasses.replace(after, updated=before.updated) == before:
            return before
        run.changed = True
        return after if run.check_mode else _store(run).write(after)


def _store(run: Run) -> SetStore:
    return SetStore(Registry(run.client, REGISTRY_BASE))


def _outcome(
    run: Run,
    item: sets.BackupSet,
    *,
    before: sets.BackupSet | None,
    lease: str | None,
    more: t.Mapping[str, t.Any] | None = None,
    warnings: t.Sequence[str] = (),
) -> Outcome:
    left = sets.what_is_left(item)
    todo = {phase.phase: phase for phase in left.phases}
    data = {
        "set": {**item.to_dict(), "id": item.set_id},
        "lease": lease,
        "left": list(todo),
        "attempts": {
            phase: todo[phase].attempt if phase in todo else max(1, len(item.attempts(phase))) for phase in sets.PHASES
        },
        "quiesced": left.unquiesce,
        "sentence": sentence_of(item),
        "restore": None,
        **(more or {}),
    }
    return Outcome(data=data, changed=run.changed, diff=_diff(before, item) if run.changed else (), warnings=warnings)


def _restore_outcome(
    run: Run,
    item: sets.BackupSet,
    *,
    before: sets.BackupSet | None,
    lease: str | None,
    warnings: t.Sequence[str] = (),
) -> Outcome:
    entry = dict(find_restore(item, run.arguments["restore_id"]) or {})
    left = [] if entry.get("state") == FINISHED else list(phases_of(str(entry.get("phase") or "both"), item))
    shown = _outcome(run, item, before=before, lease=lease, warnings=warnings)
    data = {
        **shown.data,
        "left": left,
        "restore": {**entry, "automatic_start_action": item.automatic_start_action},
    }
    return dataclasses.replace(shown, data=data)


def _nothing_planned(run: Run) -> Outcome:
    data = {"set": None, "lease": None, "left": [], "attempts": {}, "quiesced": False, "sentence": "", "restore": None}
    data["planned"] = True
    return Outcome(data=data, changed=True)


def _diff(before: sets.BackupSet | None, after: sets.BackupSet) -> tuple[dict[str, str], ...]:
    def text(item: sets.BackupSet | None) -> str:
        return "" if item is None else json.dumps(item.to_dict(), indent=2, sort_keys=True) + "\n"

    header = f"backup set {after.set_id}"
    return ({"before_header": header, "after_header": header, "before": text(before), "after": text(after)},)


def _controller_path(folder: str, item: sets.BackupSet) -> str:
    if not os.path.isabs(folder):
        raise TaskError(
            "relative_path", f"controller_copy is {folder}, but it must be an absolute path of the controller"
        )
    return str(Path(folder) / f"{item.set_id}.json")


def _write_controller_copy(folder: str, item: sets.BackupSet, warnings: list[str]) -> None:
    path = Path(_controller_path(folder, item))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(item.to_json() + "\n", encoding="utf-8")
        partial.replace(path)
    except OSError as err:
        warnings.append(
            f"the copy of backup set {item.set_id} could not be written to {path} ({err.strerror}); the set is safe"
        )
