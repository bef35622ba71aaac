# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Task guest_disk_info: a guest's disks and volumes. Options only; the observation is `_hyperv.observe_guest`."""

from __future__ import annotations

import typing as t

from ..plugin_utils._hyperv import observe_guest
from ..plugin_utils._query import select
from ..plugin_utils._task import HypervAction, Outcome, Run


class ActionModule(HypervAction):
    SPEC: t.ClassVar[dict[str, t.Any]] = {"argument_spec": {"query": {"type": "str"}}}

    def perform(self, run: Run) -> Outcome:
        select.check(run.arguments["query"])
        view = observe_guest(run.client).to_dict()
        return Outcome(
            data={**view, "disks": select(run.arguments["query"], view["disks"])}, warnings=list(view["problems"])
        )
