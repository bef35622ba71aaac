# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Task backup_set_info: lists the backup sets of a Hyper-V host."""

from __future__ import annotations

import typing as t

from ..plugin_utils._backup.set_store import REGISTRY_BASE, SetStore
from ..plugin_utils._hyperv import Registry
from ..plugin_utils._query import select
from ..plugin_utils._task import HypervAction, Outcome, Run


class ActionModule(HypervAction):
    SPEC: t.ClassVar[dict[str, t.Any]] = {
        "argument_spec": {
            "vm_id": {"type": "str"},
            "set_id": {"type": "str"},
            "query": {"type": "str"},
        }
    }
    IDENTITIES = frozenset({"vm_id", "set_id"})

    def perform(self, run: Run) -> Outcome:
        wanted, query = run.arguments["set_id"], run.arguments["query"]
        select.check(query)
        listed = SetStore(Registry(run.client, REGISTRY_BASE)).list(run.arguments["vm_id"])
        found = [
            {**item.to_dict(), "id": item.set_id}
            for item in listed.sets
            if wanted is None or item.set_id.casefold() == wanted.casefold()
        ]
        unreadable = [{"id": item.set_id, "kind": item.kind, "reason": item.reason} for item in listed.unreadable]
        return Outcome(data={"sets": select(query, found), "unreadable": unreadable})
