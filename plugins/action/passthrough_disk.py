# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Task passthrough_disk: a VM's pass-through disks by identity and slot. Options only; plan and steps are `_hyperv`'s."""

from __future__ import annotations

import typing as t

from ..plugin_utils._change import OPTIONS, guard_of, hands_of, landing, plan_diff
from ..plugin_utils._hyperv import observe_host
from ..plugin_utils._hyperv.disk_selector import DiskSelector
from ..plugin_utils._hyperv.passthrough import take_step
from ..plugin_utils._hyperv.passthrough_plan import (
    PassthroughPlan,
    Wanted,
    plan_attached,
    plan_detached,
    plan_passthrough,
    slot_of,
)
from ..plugin_utils._task import HypervAction, Outcome, Run

_SLOT: dict[str, t.Any] = {
    "controller_type": {"type": "str", "choices": ["SCSI", "IDE"], "default": "SCSI"},
    "controller_number": {"type": "int", "default": 0},
    "controller_location": {"type": "int", "required": True},
}


class ActionModule(HypervAction):
    SPEC: t.ClassVar[dict[str, t.Any]] = {
        "argument_spec": {
            **OPTIONS,
            "vm": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["attached", "detached", "remapped"], "default": "attached"},
            "lun": {"type": "raw"},
            "slot": {"type": "dict", "options": _SLOT},
            "disks": {
                "type": "list",
                "elements": "dict",
                "options": {
                    "lun": {"type": "raw", "required": True},
                    "slot": {"type": "dict", "required": True, "options": _SLOT},
                },
            },
            "take_offline": {"type": "bool", "default": False},
            "allow_running": {"type": "bool", "default": False},
        },
        "required_if": [
            ("state", "attached", ["lun", "slot"]),
            ("state", "detached", ["lun", "slot"], True),
            ("state", "remapped", ["disks"]),
        ],
        "mutually_exclusive": [("disks", "lun"), ("disks", "slot")],
    }
    IDENTITIES = frozenset({"vm"})

    def perform(self, run: Run) -> Outcome:
        arguments = run.arguments
        view = observe_host(run.client, vms=[arguments["vm"]]).to_dict()
        vm = view["vms"][0]
        plan = _plan(arguments, vm, view["luns"])
        plan.check()
        data: dict[str, t.Any] = {
            "vm": {"id": vm["id"], "name": vm["name"]},
            "plan": plan.describe(),
            "before": vm["disks"],
        }
        if not plan.steps:
            return Outcome(data={**data, "after": vm["disks"]})
        diff = plan_diff(run, [], [step.sentence for step in plan.steps])
        if run.check_mode:
            return Outcome(data={**data, "after": None}, changed=True, diff=diff)
        hands = hands_of(run, guard_of(run))
        for step in plan.steps:
            run.progress(step.sentence)
            with landing(run):
                take_step(run.client, vm["id"], step, hands, allow_running=arguments["allow_running"])
        after = observe_host(run.client, vms=[vm["id"]]).to_dict()["vms"][0]
        return Outcome(data={**data, "after": after["disks"]}, changed=True, diff=diff)


def _plan(
    arguments: t.Mapping[str, t.Any], vm: t.Mapping[str, t.Any], luns: t.Sequence[t.Mapping[str, t.Any]]
) -> PassthroughPlan:
    """Raises: HypervError (bad_slot, invalid_disk, unquoted_identity)."""
    take_offline, allow_running = arguments["take_offline"], arguments["allow_running"]
    if arguments["state"] == "remapped":
        wanted = [_wanted(one) for one in arguments["disks"]]
        return plan_passthrough(vm, luns, wanted, take_offline=take_offline)
    if arguments["state"] == "attached":
        return plan_attached(vm, luns, _wanted(arguments), take_offline=take_offline, allow_running=allow_running)
    return plan_detached(
        vm,
        luns,
        slot=slot_of(arguments["slot"]) if arguments["slot"] else None,
        lun=DiskSelector.from_option(arguments["lun"]) if arguments["lun"] is not None else None,
        allow_running=allow_running,
    )


def _wanted(option: t.Mapping[str, t.Any]) -> Wanted:
    return Wanted(slot=slot_of(option["slot"]), lun=DiskSelector.from_option(option["lun"]))
