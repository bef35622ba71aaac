# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Task disk_info: every LUN, VM and VM disk of a Hyper-V host. Options only; the observation is `_hyperv.observe_host`."""

from __future__ import annotations

import typing as t

from ..plugin_utils._hyperv import observe_host
from ..plugin_utils._query import select
from ..plugin_utils._task import HypervAction, Outcome, Run


class ActionModule(HypervAction):
    SPEC: t.ClassVar[dict[str, t.Any]] = {
        "argument_spec": {
            "vms": {"type": "list", "elements": "str"},
            "query": {"type": "str"},
            "include_vhd_details": {"type": "bool", "default": False},
        }
    }
    IDENTITIES = frozenset({"vms"})

    def perform(self, run: Run) -> Outcome:
        select.check(run.arguments["query"])
        view = observe_host(
            run.client, vms=run.arguments["vms"], vhd_details=run.arguments["include_vhd_details"]
        ).to_dict()
        return Outcome(
            data={**view, "vms": select(run.arguments["query"], view["vms"])}, warnings=list(view["problems"])
        )
