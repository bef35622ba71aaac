# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""What runs of the engine `export` remember on the Hyper-V host, by their run ids, in its registry.

Each stage is written before what it names is made, so that a run which died can be told from one that never was, and what it
left behind from what is somebody else's. Not responsible for what the stages mean (`export.py`, `export_restore.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .._hyperv import Registry
from .set_store import REGISTRY_BASE

_VERSION = 1
MAX_RUNS_READ = 2000


class RunRecords:
    """Records below one key of the host's registry; each is a mapping of JSON types."""

    def __init__(self, client: Any, key: str) -> None:
        self._registry = Registry(client, REGISTRY_BASE)
        self._key = key

    def read(self, run_id: str) -> dict[str, Any] | None:
        """The record of a run; None when there is none, or none that can be read."""
        text = self._registry.get_string(run_id, self._key)
        try:
            data = json.loads(text) if text else None
        except (ValueError, RecursionError):
            return None
        return data if isinstance(data, dict) and data.get("version") == _VERSION else None

    def write(self, run_id: str, record: Mapping[str, Any]) -> dict[str, Any]:
        data = {**record, "version": _VERSION}
        self._registry.set_string(run_id, json.dumps(data, sort_keys=True), self._key)
        return data

    def forget(self, run_id: str) -> None:
        self._registry.delete_value(run_id, self._key)

    def run_ids(self) -> tuple[str, ...]:
        values = self._registry.list_values(self._key) or ()
        return tuple(value.name for value in values[:MAX_RUNS_READ])
