# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Task backup_set_info: lists the backup sets of a Hyper-V host or in a copy, lists their targets again, and chooses one."""

from __future__ import annotations

import typing as t
from pathlib import Path

from ..plugin_utils._backup import backup_set as sets
from ..plugin_utils._backup.engine import Workplace
from ..plugin_utils._backup.engines import engine as engine_named
from ..plugin_utils._backup.errors import BackupError
from ..plugin_utils._backup.set_choice import Choice, choose_set, listings_of, parse_moment, relisted
from ..plugin_utils._backup.set_copy import parse_reg_export
from ..plugin_utils._backup.set_store import REGISTRY_BASE, SetStore
from ..plugin_utils._guard import waiting_of
from ..plugin_utils._hyperv import Registry, machine_facts, utc_now
from ..plugin_utils._query import select
from ..plugin_utils._task import HypervAction, Outcome, Run, TaskError

if t.TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

_LISTING_TIMEOUT_S = 900.0
_MAX_COPY_BYTES = 1024 * 1024
_READ, _RC = "copy.txt", "type.rc"


class ActionModule(HypervAction):
    SPEC: t.ClassVar[dict[str, t.Any]] = {
        "argument_spec": {
            "vm_id": {"type": "str"},
            "set_id": {"type": "str"},
            "query": {"type": "str"},
            "source": {"type": "str", "default": "registry"},
            "relist": {"type": "bool", "default": False},
            "choose": {"type": "bool", "default": False},
            "not_after": {"type": "str"},
            "restore_phase": {"type": "str", "choices": ["both", "host", "guest"], "default": "both"},
            "poll_interval": {"type": "int", "default": 2},
        }
    }
    IDENTITIES = frozenset({"vm_id", "set_id"})

    def perform(self, run: Run) -> Outcome:
        arguments = run.arguments
        wanted, query = arguments["set_id"], arguments["query"]
        select.check(query)
        moment = parse_moment(arguments["not_after"]) if arguments["not_after"] else None
        found, unreadable = self._sets(run)
        if wanted is not None:
            found = [item for item in found if item.set_id.casefold() == wanted.casefold()]
        lister = _Lister(run) if arguments["relist"] else None
        chosen: Choice | None = None
        if arguments["choose"]:
            chosen, found = self._chosen(run, found, moment, lister)
        elif lister is not None:
            found = [lister.relisted(item) for item in found]
        return Outcome(
            changed=run.changed,
            data={
                "sets": select(query, [_shown(item) for item in found]),
                "unreadable": unreadable,
                "versions": [] if lister is None else lister.versions,
                "chosen": None if chosen is None else _shown(chosen.item),
                "chosen_reason": None if chosen is None else chosen.reason,
            },
        )

    def _sets(self, run: Run) -> tuple[list[sets.BackupSet], list[dict[str, str]]]:
        """The sets of the source, newest first, and what could not be read beside them."""
        source, vm_id = run.arguments["source"], run.arguments["vm_id"]
        if source == "registry":
            # a set that was asked for by its id is looked at whatever VM it belongs to, so that a wrong one is told as such
            listed = SetStore(Registry(run.client, REGISTRY_BASE)).list(
                None if run.arguments["choose"] and run.arguments["set_id"] else vm_id
            )
            unreadable = [{"id": one.set_id, "kind": one.kind, "reason": one.reason} for one in listed.unreadable]
            return list(listed.sets), unreadable
        return [_controller_copy(source) if source.startswith("/") else _host_copy(run, source)], []

    @staticmethod
    def _chosen(
        run: Run, found: Sequence[sets.BackupSet], moment: datetime | None, lister: _Lister | None
    ) -> tuple[Choice, list[sets.BackupSet]]:
        """Choose; with a lister look whether the chosen set is still there, and choose again while it is not."""
        arguments, items = run.arguments, list(found)
        while True:
            chosen = choose_set(
                items,
                vm_id=arguments["vm_id"],
                set_id=arguments["set_id"],
                not_after=moment,
                restore_phase=arguments["restore_phase"],
            )
            if lister is None:
                return chosen, items
            item = lister.relisted(chosen.item)
            items = [item if one.set_id == item.set_id else one for one in items]
            if item.state != "lost":
                return Choice(item=item, reason=chosen.reason), items


class _Lister:
    """Lists the targets of sets again, each target once; a set whose version is gone is marked `lost` in the registry."""

    def __init__(self, run: Run) -> None:
        self._waiting = waiting_of(run, timeout_s=_LISTING_TIMEOUT_S, poll_s=float(run.arguments["poll_interval"]))
        self._run = run
        self._answers: dict[tuple[str, ...], Sequence[str] | str] = {}
        self._machine = machine_facts(run.client).computer_name
        self.versions: list[dict[str, t.Any]] = []

    def relisted(self, item: sets.BackupSet) -> sets.BackupSet:
        run = self._run
        listings = listings_of(
            item,
            machine=self._machine,
            targets={},
            list_versions=self._list_versions,
            is_share=lambda attempt, target: engine_named(attempt.engine).target_kind(target) == "share",
        )
        self.versions += [one.to_dict() for one in listings]
        marked = relisted(item, listings, utc_now(run.client))
        if marked is item or run.check_mode or run.arguments["source"] != "registry":
            return marked
        run.changed = True
        return SetStore(Registry(run.client, REGISTRY_BASE)).write(marked)

    def _list_versions(self, attempt: sets.Attempt, target: str) -> Sequence[str] | str:
        from ..plugin_utils._restore import list_target

        key = (attempt.engine, repr(attempt.engine_options), target.casefold(), attempt.machine.casefold())
        if key in self._answers:
            return self._answers[key]
        run, entry = self._run, engine_named(attempt.engine)
        phase: t.Any = attempt.run_id.split(".")[-2]
        try:
            options = entry.options(attempt.engine_options, phase)
        except BackupError as err:
            return str(err)  # written by another release of the engine: that proves nothing
        place = Workplace(client=run.client, waiting=self._waiting, options=options, new_id=run.new_id)
        listing = list_target(run, entry.restore(place), "relist", target, attempt.machine)
        self._answers[key] = listing.reason if listing.versions is None else listing.versions
        return self._answers[key]


def _shown(item: sets.BackupSet) -> dict[str, t.Any]:
    return {**item.to_dict(), "id": item.set_id}


def _controller_copy(path: str) -> sets.BackupSet:
    try:
        data = Path(path).read_bytes()[: _MAX_COPY_BYTES + 1]
        return sets.from_json(data.decode("utf-8"), name=path)
    except (OSError, UnicodeDecodeError) as err:
        raise TaskError(
            "copy_unreadable",
            f"the copy {path} on the controller could not be read ({getattr(err, 'strerror', None) or 'it is no text'}); name the "
            "JSON file that backup_set wrote there",
        ) from err


def _host_copy(run: Run, path: str) -> sets.BackupSet:
    """A copy beside a backup; `type` is the only reader that every Windows has.

    A file on the host is read by the account of the connection. That account has no second hop, so that a share is read by a
    small job as SYSTEM, which is the computer account there, as the one that wrote it was.
    """
    from ..plugin_utils._backup.detached_job import DetachedJobs, Step, argument

    command = f"type {argument(path)}"
    if not path.startswith("\\\\"):
        shell = run.client.run(command, max_output_bytes=_MAX_COPY_BYTES)
        data = shell.stdout if shell.exit_code == 0 else b""
    else:
        jobs = DetachedJobs(run.client)
        run_id = f"copy.read.{run.new_id().lower()}"
        try:
            seen = jobs.run_small(
                run_id,
                (Step(command=command, output=_READ, exit_code=_RC),),
                f"reading {path}",
                exit_code=_RC,
                files=[_READ],
                waiting=waiting_of(run, timeout_s=_LISTING_TIMEOUT_S, poll_s=float(run.arguments["poll_interval"])),
            )
        finally:
            jobs.discard(run_id)
        data = seen.files.get(_READ, b"") if seen.exit_code(_RC) == 0 else b""
    if not data:
        raise TaskError(
            "copy_unreadable",
            f"the copy {path} could not be read on {run.target}; name the .reg file beside the backup, and give the computer "
            "account of that host rights on its share",
        )
    return parse_reg_export(data)
