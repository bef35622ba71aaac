# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Task vm_state: power, saved state and start action of one VM. Options and order; the steps are `_hyperv`'s."""

from __future__ import annotations

import dataclasses
import typing as t

from ..plugin_utils._change import OPTIONS, guard_of, hands_of, landing, plan_diff
from ..plugin_utils._hyperv import observe_host
from ..plugin_utils._hyperv.model import START_ACTIONS
from ..plugin_utils._hyperv.vm_power import (
    VmPower,
    change_power,
    check_possible,
    discard_saved_state,
    wait_for_heartbeat,
)
from ..plugin_utils._hyperv.vm_settings import set_automatic_start_action, start_action_number
from ..plugin_utils._task import HypervAction, Outcome, Run, TaskError

if t.TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..plugin_utils._backup.engine import Waiting

_SENTENCES = {
    "running": "start VM {name} ({state})",
    "off": "turn off VM {name} ({state})",
    "saved": "save VM {name} ({state})",
    "shut_down": "shut down the guest of VM {name} ({state})",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Step:
    kind: str
    sentence: str
    take: Callable[[Waiting], object]


class ActionModule(HypervAction):
    SPEC: t.ClassVar[dict[str, t.Any]] = {
        "argument_spec": {
            **OPTIONS,
            "vm": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["running", "off", "shut_down", "saved"]},
            "force": {"type": "bool", "default": False},
            "automatic_start_action": {
                "type": "str",
                "choices": ["Nothing", "StartIfRunning", "Start", "nothing", "start_if_running", "start"],
            },
            "discard_saved_state": {"type": "bool", "default": False},
            "wait_for": {"type": "str", "choices": ["none", "heartbeat"], "default": "none"},
        }
    }
    IDENTITIES = frozenset({"vm"})

    def perform(self, run: Run) -> Outcome:
        arguments = run.arguments
        vm = observe_host(run.client, vms=[arguments["vm"]]).to_dict()["vms"][0]
        before = _shown(vm)
        steps = _steps(run, vm)
        if steps:
            _refuse_foreign(vm)
        data: dict[str, t.Any] = {
            "vm": {"id": vm["id"], "name": vm["name"]},
            "plan": [{"kind": step.kind, "sentence": step.sentence} for step in steps],
            "before": before,
        }
        diff = plan_diff(run, [], [step.sentence for step in steps])
        if run.check_mode:
            return Outcome(data={**data, "after": None if steps else before}, changed=bool(steps), diff=diff)
        waits = arguments["wait_for"] == "heartbeat"
        if not steps and not waits:
            return Outcome(data={**data, "after": before})
        hands = hands_of(run, guard_of(run))
        for step in steps:
            with landing(run):
                step.take(hands)
        if waits:
            wait_for_heartbeat(run.client, vm["id"], hands)
        after = observe_host(run.client, vms=[vm["id"]]).to_dict()["vms"][0]
        return Outcome(data={**data, "after": _shown(after)}, changed=run.changed, diff=diff)


def _shown(vm: Mapping[str, t.Any]) -> dict[str, t.Any]:
    return {
        "state": vm["state"],
        "automatic_start_action": vm["automatic_start_action"],
        "heartbeat": vm["guest"]["heartbeat"],
    }


def _refuse_foreign(vm: Mapping[str, t.Any]) -> None:
    if vm["replication"]["is_replica"]:
        raise TaskError("replica", f"VM {vm['name']} is a replica, which is never changed")
    if vm["is_clustered"]:
        raise TaskError(
            "clustered", f"VM {vm['name']} belongs to a failover cluster, which is not supported; nothing was changed"
        )


def _steps(run: Run, vm: Mapping[str, t.Any]) -> list[_Step]:
    """What is to be done, in this order: saved state, start action, power. Raises: Precondition."""
    arguments, client, vm_id, state = run.arguments, run.client, vm["id"], vm["state"]
    steps: list[_Step] = []
    if arguments["discard_saved_state"] and state == "saved":
        steps.append(
            _Step(
                kind="discard_saved_state",
                sentence=f"discard the saved state of VM {vm['name']}",
                take=lambda hands: discard_saved_state(client, vm_id, hands),
            )
        )
        state = "off"
    action = arguments["automatic_start_action"]
    if action is not None and START_ACTIONS[start_action_number(action)] != vm["automatic_start_action"]:
        steps.append(
            _Step(
                kind="automatic_start_action",
                sentence=f"set the automatic start action of VM {vm['name']} from {vm['automatic_start_action']} to "
                f"{START_ACTIONS[start_action_number(action)]}",
                take=lambda hands: set_automatic_start_action(client, vm_id, action, hands),
            )
        )
    wanted = arguments["state"]
    if wanted is not None and state != ("off" if wanted == "shut_down" else wanted):
        power = VmPower(name=vm["name"], state=state, health=vm["health"], busy=vm["busy"])
        if power.is_stable:
            check_possible(power, wanted, force=arguments["force"])
        steps.append(
            _Step(
                kind=wanted,
                sentence=_SENTENCES[wanted].format(name=vm["name"], state=state),
                take=lambda hands: change_power(client, vm_id, wanted, hands, force=arguments["force"]),
            )
        )
    return steps
