# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Task guest_disk: a Windows guest's disks online, or blank ones prepared as recorded, and its iSCSI logins."""

from __future__ import annotations

import typing as t

from ..plugin_utils._change import OPTIONS, guard_of, hands_of, landing, plan_diff
from ..plugin_utils._hyperv import HypervError, observe_guest
from ..plugin_utils._hyperv.guest_storage import connect_iscsi, is_connected
from ..plugin_utils._hyperv.guest_storage_plan import (
    RecordedDisk,
    StoragePlan,
    choose,
    plan_online,
    plan_prepared,
    recorded_disk,
)
from ..plugin_utils._hyperv.guest_storage_steps import StorageSteps, begun
from ..plugin_utils._hyperv.jobs import look_until
from ..plugin_utils._task import HypervAction, Outcome, Run, TaskError
from ..plugin_utils._wsman import WsmanError

if t.TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..plugin_utils._backup.engine import Waiting

# What one of these steps makes is seen only afterwards: a disk that comes online shows its volumes then.
_ROUNDS = 3
_HIDDEN = "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"


class ActionModule(HypervAction):
    SPEC: t.ClassVar[dict[str, t.Any]] = {
        "argument_spec": {
            **OPTIONS,
            "disks": {"type": "list", "elements": "dict"},
            "unique_id": {"type": "raw"},
            "state": {"type": "str", "choices": ["online", "prepared"], "default": "online"},
            "confirm_size_bytes": {"type": "int"},
            "accept_raw_volumes": {"type": "bool", "default": False},
            "iscsi": {
                "type": "list",
                "elements": "dict",
                "options": {
                    "target": {"type": "str", "required": True},
                    "portal": {"type": "str", "required": True},
                    "port": {"type": "int", "default": 3260},
                    "chap_user": {"type": "str"},
                    "chap_secret": {"type": "str", "no_log": True},
                },
            },
            "hyperv_host": {"type": "str"},
        },
        "required_one_of": [("disks", "unique_id", "iscsi")],
        "mutually_exclusive": [("disks", "unique_id")],
        "required_by": {"lease": "hyperv_host"},
    }
    IDENTITIES = frozenset({"hyperv_host"})

    def perform(self, run: Run) -> Outcome:
        secrets = [one["chap_secret"] for one in run.arguments["iscsi"] or () if one["chap_secret"]]
        try:
            return self._perform(run)
        except (WsmanError, HypervError) as error:
            text = str(error)
            if not any(secret in text for secret in secrets):
                raise
            for secret in secrets:
                text = text.replace(secret, _HIDDEN)
            raise TaskError(error.kind, text, changed=run.changed) from None

    def _perform(self, run: Run) -> Outcome:
        arguments = run.arguments
        entries = arguments["disks"] or (
            [{"unique_id": arguments["unique_id"]}] if arguments["unique_id"] is not None else []
        )
        recorded = [recorded_disk(entry) for entry in entries]
        logins = [one for one in arguments["iscsi"] or () if not is_connected(run.client, one["target"])]
        view = observe_guest(run.client).to_dict()
        hidden = _behind(logins, recorded, view)
        plan = _plan(run, view, [one for one in recorded if one not in hidden])
        plan.check()
        steps: list[dict[str, t.Any]] = [
            {"kind": "connect_iscsi", "unique_id": None, "sentence": _login_sentence(one)} for one in logins
        ]
        steps += plan.describe()
        before = _shown(view, recorded)
        if run.check_mode or not steps:
            data = {"plan": steps, "before": before, "after": None if steps else before}
            return Outcome(data=data, changed=bool(steps), diff=plan_diff(run, [], [one["sentence"] for one in steps]))
        host = arguments["hyperv_host"]
        guard = guard_of(run, run.client_of(host) if arguments["lease"] and host else None)
        hands = hands_of(run, guard)
        for login in logins:
            run.progress(_login_sentence(login))
            with landing(run):
                connect_iscsi(
                    run.client,
                    hands,
                    target=login["target"],
                    portal=login["portal"],
                    port=login["port"],
                    chap_user=login["chap_user"],
                    chap_secret=login["chap_secret"],
                )
        if hidden:
            look_until(
                lambda: True if not _unseen(run, hidden) else None, hands, what="The disks of the iSCSI sessions"
            )
        done = steps[: len(logins)] + _take(run, recorded, hands)
        after = _shown(observe_guest(run.client).to_dict(), recorded)
        data = {"plan": done, "before": before, "after": after}
        return Outcome(data=data, changed=True, diff=plan_diff(run, [], [one["sentence"] for one in done]))


def _login_sentence(login: Mapping[str, t.Any]) -> str:
    return f"log in to the iSCSI target {login['target']} at {login['portal']}:{login['port']}"


def _plan(run: Run, view: Mapping[str, t.Any], recorded: Sequence[RecordedDisk]) -> StoragePlan:
    if run.arguments["state"] == "online":
        return plan_online(view, recorded)
    return plan_prepared(
        view,
        recorded,
        confirm_size_bytes=run.arguments["confirm_size_bytes"],
        begun=_begun(run, view, recorded),
        accept_raw_volumes=run.arguments["accept_raw_volumes"],
    )


def _begun(run: Run, view: Mapping[str, t.Any], recorded: Sequence[RecordedDisk]) -> frozenset[str]:
    """Disks that an earlier run had begun to prepare; only what is not blank any more is looked up."""
    chosen = []
    for one in recorded:
        try:
            disk = choose(view["disks"], one)[0]
        except HypervError:
            continue  # the plan tells it
        if disk.get("partition_style") != "RAW":
            chosen.append(disk)
    return begun(run.client, chosen)


def _take(run: Run, recorded: Sequence[RecordedDisk], hands: Waiting) -> list[dict[str, t.Any]]:
    """Plan on what is there now, do it, and look again, because a disk shows its volumes only when it is online."""
    steps = StorageSteps(run.client, hands, confirm_size_bytes=run.arguments["confirm_size_bytes"])
    done: list[dict[str, t.Any]] = []
    disks = []
    for _unused in range(_ROUNDS):
        plan = _plan(run, observe_guest(run.client).to_dict(), recorded)
        plan.check()
        if not plan.steps:
            break
        online = [step for step in plan.steps if step.kind == "online"]
        for step in online or plan.steps:
            run.progress(step.sentence)
            with landing(run):
                steps.take(step)
            done.append({"kind": step.kind, "unique_id": step.disk.unique_id, "sentence": step.sentence})
            disks.append(step.disk)
    if run.arguments["state"] == "prepared":
        steps.finish(disks)
    return done


def _behind(
    logins: Sequence[object], recorded: Sequence[RecordedDisk], view: Mapping[str, t.Any]
) -> list[RecordedDisk]:
    """Disks that are not there yet because a login is missing."""
    if not logins:
        return []
    return [one for one in recorded if _kind_of_failure(one, view) == "unknown_disk"]


def _kind_of_failure(recorded: RecordedDisk, view: Mapping[str, t.Any]) -> str | None:
    try:
        choose(view["disks"], recorded)
    except HypervError as error:
        return error.kind
    return None


def _unseen(run: Run, recorded: Sequence[RecordedDisk]) -> list[RecordedDisk]:
    view = observe_guest(run.client).to_dict()
    return [one for one in recorded if _kind_of_failure(one, view) == "unknown_disk"]


def _shown(view: Mapping[str, t.Any], recorded: Sequence[RecordedDisk]) -> list[dict[str, t.Any]]:
    """The listed disks as they are."""
    found = []
    for one in recorded:
        try:
            found.append(dict(choose(view["disks"], one)[0]))
        except HypervError:
            continue
    return found
