# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Task backup_retention: deletes the versions of backup sets that no rule keeps. Plans, looks at the newest good set, deletes.

The rules and the order are `_backup.retention`; each engine deletes its own versions. Here they get the host's registry and
clock, the VM's lease, and the two machines.
"""

from __future__ import annotations

import typing as t
from pathlib import Path

from ..plugin_utils._backup.detached_job import DetachedJobs
from ..plugin_utils._backup.engine import Deletion, Workplace
from ..plugin_utils._backup.engines import engine as engine_named
from ..plugin_utils._backup.errors import BackupError
from ..plugin_utils._backup.retention import (
    EXPIRE,
    Hands,
    Policy,
    RetentionPlan,
    carry_out,
    is_verified,
    plan_retention,
)
from ..plugin_utils._backup.set_choice import Listing, moment_of, phases_of, relisted, used_attempt
from ..plugin_utils._backup.set_copy import remove_copy
from ..plugin_utils._backup.set_store import REGISTRY_BASE, SetStore
from ..plugin_utils._channel import ConnectionRefused
from ..plugin_utils._guard import Guard, waiting_of
from ..plugin_utils._hyperv import HypervError, Registry, machine_facts, utc_now
from ..plugin_utils._restore import list_target
from ..plugin_utils._task import HypervAction, Outcome, Run
from ..plugin_utils._wsman import WsmanError

if t.TYPE_CHECKING:
    from ..plugin_utils._backup.backup_set import Attempt, BackupSet
    from ..plugin_utils._backup.engine import RestoreEngine
    from ..plugin_utils._backup.retention import PlannedVersion

_STEP_TIMEOUT_S = 3600.0  # a folder of many terabytes on a share is not removed in a moment


class ActionModule(HypervAction):
    SPEC: t.ClassVar[dict[str, t.Any]] = {
        "argument_spec": {
            "vm_id": {"type": "str", "required": True},
            "keep_last": {"type": "int"},
            "keep_daily": {"type": "int"},
            "keep_weekly": {"type": "int"},
            "guest": {"type": "str"},
            "lease": {"type": "str"},
            "queue_timeout": {"type": "int", "default": 28800},
            "poll_interval": {"type": "int", "default": 10},
        },
        "required_one_of": [("keep_last", "keep_daily", "keep_weekly")],
    }
    IDENTITIES = frozenset({"vm_id", "guest"})

    def perform(self, run: Run) -> Outcome:
        arguments = run.arguments
        policy = Policy(
            keep_last=arguments["keep_last"],
            keep_daily=arguments["keep_daily"],
            keep_weekly=arguments["keep_weekly"],
        )
        guard = Guard(run, run.client)
        if run.check_mode:
            holders = () if arguments["lease"] else guard.holders(arguments["vm_id"])
            return _Retention(
                run, policy, guard, f"another run works on this VM ({'; '.join(holders)})" * bool(holders)
            ).perform()
        waiting = waiting_of(
            run,
            timeout_s=float(arguments["queue_timeout"]),
            poll_s=float(arguments["poll_interval"]),
            should_stop=guard.check,
        )
        if arguments["lease"]:
            guard.attach(arguments["lease"])
        guard.take_vm(arguments["vm_id"], waiting)
        try:
            return _Retention(run, policy, guard, "").perform()
        finally:
            if not arguments["lease"]:
                guard.release()


class _Retention:
    """One pass over the sets of one VM, with its lease held."""

    def __init__(self, run: Run, policy: Policy, guard: Guard, in_use: str) -> None:
        self._run = run
        self._policy = policy
        self._guard = guard
        self._in_use = in_use
        self._store = SetStore(Registry(run.client, REGISTRY_BASE))
        self._waiting = waiting_of(
            run,
            timeout_s=_STEP_TIMEOUT_S,
            poll_s=float(run.arguments["poll_interval"]),
            should_stop=(lambda: None) if run.check_mode else guard.check,
        )
        self._machines = {"host": machine_facts(run.client).computer_name}
        self._clients = {"host": run.client}
        self._absent = {"guest": "the guest's machine is not asked; name it in guest"}
        self._items = list(self._store.list(run.arguments["vm_id"]).sets)
        if run.arguments["guest"] and any(item.guest for item in self._items):
            self._ask_guest(run.arguments["guest"])

    def _ask_guest(self, name: str) -> None:
        try:
            client = self._run.client_of(name)
            self._machines["guest"] = machine_facts(client).computer_name
        except (WsmanError, HypervError, ConnectionRefused) as err:
            self._absent["guest"] = f"{name} cannot be asked: {err}"
            return
        self._clients["guest"] = client

    def perform(self) -> Outcome:
        run = self._run
        plan = self._checked()
        done: tuple[t.Any, ...] = ()
        if plan.to_expire and not run.check_mode:
            done = carry_out(
                plan,
                Hands(
                    read=self._store.read,
                    write=self._written,
                    delete=self._delete,
                    remove_copies=self._remove_copies,
                    check=self._guard.check,
                    now=lambda: utc_now(run.client),
                ),
            )
        problems = [sentence for one in done for sentence in one.problems]
        text = plan.describe()
        changed = run.changed or bool(run.check_mode and plan.to_expire)
        header = f"backup sets of VM {run.arguments['vm_id']}"
        diff = {"before_header": header, "after_header": header, "before": "", "after": text}
        return Outcome(
            changed=changed,
            data={
                "sets": plan.to_dict(),
                "expired": [one.to_dict() for one in done],
                "problems": problems,
                "sentence": _sentence(plan, done, planned=run.check_mode),
                "lease": self._guard.lease if run.arguments["lease"] else None,
            },
            diff=(diff,) if plan.to_expire else (),
            warnings=problems,
        )

    # -- planning ------------------------------------------------------------------------------------------------------

    def _checked(self) -> RetentionPlan:
        """The plan, once the newest good set was seen on its targets: nothing older goes on the word of a record alone."""
        run, items = self._run, self._items
        while True:
            plan = self._plan(items, self._in_use)
            if not any(one.action == EXPIRE for one in plan.sets):
                return plan
            newest = max((item for item in items if is_verified(item)), key=lambda item: (moment_of(item), item.set_id))
            listings = self._listings(newest)
            marked = relisted(newest, listings, utc_now(run.client))
            if marked is not newest:
                stored = marked if run.check_mode else self._written(marked)
                items = [stored if item.set_id == stored.set_id else item for item in items]
                continue
            unseen = [one for one in listings if one.listed is None]
            if unseen:
                why = "; ".join(f"{one.phase} version {one.version}: {one.reason}" for one in unseen)
                return self._plan(
                    items, f"whether the newest good set {newest.set_id} is still there is not known ({why})"
                )
            return plan

    def _plan(self, items: t.Sequence[BackupSet], in_use: str) -> RetentionPlan:
        return plan_retention(
            items,
            self._run.arguments["vm_id"],
            self._policy,
            why_kept=self._why_kept,
            why_waiting=self._why_waiting,
            in_use=in_use,
        )

    def _listings(self, item: BackupSet) -> list[Listing]:
        """Whether the set's versions are there, each asked from the machine of its phase."""
        found = []
        for phase in phases_of("both", item):
            attempt = used_attempt(item, phase)
            if attempt is None or attempt.version is None:
                continue
            listed, reason = None, self._why_waiting(phase, attempt)
            if not reason:
                answer = self._versions(phase, attempt)
                listed = None if isinstance(answer, str) else attempt.version in answer
                reason = (
                    answer if isinstance(answer, str) else f"{attempt.target} lists {', '.join(answer) or 'no version'}"
                )
            found.append(
                Listing(
                    set_id=item.set_id,
                    phase=phase,
                    machine=attempt.machine,
                    target=attempt.target,
                    version=attempt.version,
                    listed=listed,
                    reason=reason,
                )
            )
        return found

    def _versions(self, phase: str, attempt: Attempt) -> t.Sequence[str] | str:
        try:
            engine = self._engine(phase, attempt.engine, attempt.engine_options)
        except BackupError as err:
            return str(err)
        listing = list_target(self._run, engine, "relist", attempt.target, attempt.machine)
        return listing.reason if listing.versions is None else listing.versions

    def _why_kept(self, phase: str, attempt: Attempt) -> str:
        if phase not in self._clients:
            return ""
        try:
            return self._engine(phase, attempt.engine, attempt.engine_options).why_kept(attempt.target)
        except BackupError as err:
            return str(err)

    def _why_waiting(self, phase: str, attempt: Attempt) -> str:
        if phase not in self._clients:
            return self._absent[phase]
        machine = self._machines[phase]
        if machine.casefold() == attempt.machine.casefold():
            return ""
        if engine_named(attempt.engine).target_kind(attempt.target) == "share":
            return ""
        return f"its version was made by {attempt.machine}, and {machine} cannot reach {attempt.target}"

    def _engine(self, phase: str, name: str, options: t.Mapping[str, t.Any]) -> RestoreEngine:
        entry = engine_named(name)
        on: t.Any = phase
        return entry.restore(
            Workplace(
                client=self._clients[phase],
                waiting=self._waiting,
                options=entry.options(options, on),
                new_id=self._run.new_id,
            )
        )

    # -- hands ---------------------------------------------------------------------------------------------------------

    def _written(self, item: BackupSet) -> BackupSet:
        stored = self._store.write(item)
        self._run.changed = True
        return stored

    def _delete(self, version: PlannedVersion) -> Deletion:
        run = self._run
        run.progress(f"deleting {version.phase} version {version.version} on {version.target}")
        try:
            engine = self._engine(version.phase, version.engine, version.engine_options)
            return engine.delete(version.run_id, version.version, version.target, version.machine)
        except BackupError as err:
            if err.kind == "superseded":
                raise
            return Deletion(state="kept", reason=str(err))

    def _remove_copies(self, item: BackupSet) -> list[str]:
        """Copies of the record would bring a set back that has no versions."""
        problems = []
        for path in item.copies:
            if path.startswith("/"):
                problems += _unlinked(path, item)
            else:
                problems.append(remove_copy(DetachedJobs(self._run.client), item, path, self._waiting))
        return [sentence for sentence in problems if sentence]


def _unlinked(path: str, item: BackupSet) -> list[str]:
    file = Path(path)
    if file.name != f"{item.set_id}.json":
        return [f"the copy {path} is not named as a copy of set {item.set_id} and was left where it is"]
    try:
        file.unlink(missing_ok=True)
    except OSError as err:
        return [f"the copy {path} of set {item.set_id} could not be removed ({err.strerror})"]
    return []


def _sentence(plan: RetentionPlan, done: t.Sequence[t.Any], *, planned: bool) -> str:
    kept = sum(one.action == "keep" for one in plan.sets)
    if planned:
        return f"{len(plan.to_expire)} set(s) would expire, {kept} would be kept"
    gone = sum(one.state == "expired" for one in done)
    left = len(done) - gone
    return f"{gone} set(s) expired, {kept} kept" + (f", {left} could not be finished" if left else "")
