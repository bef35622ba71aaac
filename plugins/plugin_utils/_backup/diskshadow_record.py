# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
r"""What a host remembers of each run of diskshadow, so that a run is found again by its id and only our own things are touched.

Responsible for the records below `HKLM\SOFTWARE\hyperv.passthrough\DiskShadow\<run id>`, value `Record`: JSON on one line. Not
responsible for what they mean to a backup (`diskshadow.py`) or a restore (`diskshadow_restore.py`).

A record is written before anything is started: it holds which shadow copies there were before. What a run is allowed to delete
later is what its record and its log prove to be its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .._hyperv import Registry
from .detached_job import MachineClient, check_run_id
from .errors import BackupError
from .set_store import REGISTRY_BASE

KEY = "DiskShadow"
RECORD = "Record"
MAX_CHARS = 100_000
MAX_RECORDS = 10_000

Record = dict[str, Any]


class RunRecords:
    """The records of one host."""

    def __init__(self, client: MachineClient) -> None:
        self._registry = Registry(client, REGISTRY_BASE)

    def read(self, run_id: str) -> Record | None:
        """Raises: `BackupError` `record_unreadable`: what cannot be read is never guessed."""
        text = self._registry.get_string(RECORD, f"{KEY}\\{check_run_id(run_id)}")
        if text is None:
            return None
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        if not isinstance(found, dict) or found.get("run_id") != run_id:
            raise BackupError(
                "record_unreadable",
                f"The record of the run {run_id} in the host's registry (HKLM\\{REGISTRY_BASE}\\{KEY}) cannot be read; look at it, and "
                "delete it when its shadow copies are not needed.",
            )
        return found

    def write(self, run_id: str, record: Mapping[str, Any]) -> Record:
        changed = {**record, "run_id": run_id}
        text = json.dumps(changed, sort_keys=True, separators=(",", ":"))
        if len(text) > MAX_CHARS:
            raise BackupError(
                "record_too_large",
                f"The record of the run {run_id} would have {len(text)} characters, more than {MAX_CHARS}: the host has very many "
                "shadow copies; delete old ones.",
            )
        self._registry.set_string(RECORD, text, f"{KEY}\\{check_run_id(run_id)}")
        return changed

    def update(self, run_id: str, **changes: Any) -> Record:
        return self.write(run_id, {**(self.read(run_id) or {}), **changes})

    def of_vm(self, vm_id: str) -> list[Record]:
        """Records of one VM's runs, as `all` tells them."""
        wanted = vm_id.strip("{}").casefold()
        return [one for one in self.all() if str(one.get("vm_id") or "").casefold() == wanted]

    def all(self) -> list[Record]:
        """Records of the host's runs; unreadable ones are left out, nothing of theirs is touched."""
        names = self._registry.list_keys(KEY) or ()
        found = []
        for name in names[:MAX_RECORDS]:
            try:
                record = self.read(name)
            except BackupError:
                continue
            if record is not None:
                found.append(record)
        return found

    def forget(self, run_id: str) -> None:
        self._registry.delete_key(f"{KEY}\\{check_run_id(run_id)}")
