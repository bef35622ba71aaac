# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
r"""Where backup sets are remembered: the registry of the Hyper-V host.

Responsible for finding, reading and replacing records. Not responsible for what a set means (`backup_set.py`), for copies
elsewhere (`set_copy.py`), or for the lease that guards its writer (`lease.py`).

Layout: `HKLM\SOFTWARE\hyperv.passthrough\Sets\<set id>`, value `Record` = JSON on one line, ASCII. Replacing a registry
value is atomic, so there is never half a record; `revision` grows with each write, and a writer that has not seen the
newest one is refused. Nothing is ever deleted.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Protocol

from .backup_set import MAX_RECORD_CHARS, BackupSet, check_set_id, from_json, vm_key
from .errors import BackupError, SetUnreadable

REGISTRY_BASE = r"SOFTWARE\hyperv.passthrough"
SETS_KEY = "Sets"
RECORD = "Record"
MAX_SETS = 100_000

_GENERATED = re.compile(r"([0-9a-f]{8})-\d{8}t\d{6}z-[0-9a-z]{4,16}", re.ASCII)  # of a set id in lower case


class SetRegistry(Protocol):
    """What the store needs of `_hyperv.registry.Registry`, based at `REGISTRY_BASE`."""

    def get_string(self, name: str, key: str = "") -> str | None: ...

    def set_string(self, name: str, value: str, key: str = "") -> None: ...

    def list_keys(self, key: str = "") -> tuple[str, ...] | None: ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unreadable:
    """A record that is there and cannot be used: its set id and the sentence why."""

    set_id: str
    kind: str
    reason: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class SetList:
    """Sets, newest first, and what could not be read beside them."""

    sets: tuple[BackupSet, ...]
    unreadable: tuple[Unreadable, ...]


class SetStore:
    """The backup sets of one Hyper-V host."""

    def __init__(self, registry: SetRegistry) -> None:
        self._registry = registry

    def ids(self) -> tuple[str, ...]:
        """The ids of all sets, one request."""
        names = self._registry.list_keys(SETS_KEY) or ()
        if len(names) > MAX_SETS:
            raise BackupError(
                "too_many_sets",
                f"There are {len(names)} sets under HKLM\\{REGISTRY_BASE}\\{SETS_KEY}, more than {MAX_SETS}; delete old ones.",
            )
        return names

    def list(self, vm_id: str | None = None) -> SetList:
        """All sets, or those of one VM. One request for each set that can be that VM's: generated ids tell."""
        sets = []
        unreadable = []
        for set_id in self.ids():
            generated = _GENERATED.fullmatch(set_id.casefold())
            if vm_id is not None and generated and generated[1] != vm_key(vm_id)[:8]:
                continue
            try:
                item = self.read(set_id)
            except SetUnreadable as err:
                unreadable.append(Unreadable(set_id=set_id, kind=err.kind, reason=str(err)))
                continue
            if item is not None and (vm_id is None or item.vm_id == vm_key(vm_id)):
                sets.append(item)
        ordered = sorted(sets, key=lambda item: (item.opened, item.set_id), reverse=True)
        return SetList(sets=tuple(ordered), unreadable=tuple(unreadable))

    def read(self, set_id: str) -> BackupSet | None:
        """One set; None when there is none of that id. Raises `SetUnreadable` for a record that cannot be used."""
        text = self._registry.get_string(RECORD, f"{SETS_KEY}\\{set_id}")
        if text is None:
            return None
        item = from_json(text, name=f"set {set_id}")
        if item.set_id.casefold() != set_id.casefold():
            raise SetUnreadable("set_unreadable", f"The record of set {set_id} is that of set {item.set_id}.")
        return item

    def write(self, item: BackupSet) -> BackupSet:
        """Store a set and read it back; returns it with its new revision.

        Raises: `BackupError`: `set_changed` when another writer was faster, `set_too_large`, `set_not_stored`;
            `SetUnreadable` when what is stored under that id cannot be used (it is not overwritten).
        """
        check_set_id(item.set_id)
        stored = self.read(item.set_id)
        if (0 if stored is None else stored.revision) != item.revision:
            raise BackupError(
                "set_changed",
                f"The set {item.set_id} was changed by another run (revision {stored.revision if stored else 0}, "
                f"{item.revision} was expected); run again.",
            )
        if stored == item:
            return item
        changed = dataclasses.replace(item, revision=item.revision + 1)
        text = changed.to_json()
        if len(text) > MAX_RECORD_CHARS:
            raise BackupError(
                "set_too_large",
                f"The record of set {item.set_id} would have {len(text)} characters, more than the {MAX_RECORD_CHARS} that "
                "the host's registry takes in one request; record fewer sentinel files.",
            )
        key = f"{SETS_KEY}\\{item.set_id}"
        self._registry.set_string(RECORD, text, key)
        if self._registry.get_string(RECORD, key) != text:
            raise BackupError(
                "set_not_stored",
                f"The set {item.set_id} was written to the host's registry, but something else was read back; "
                "another run works on it, or the host's registry is damaged. Run again.",
            )
        return changed
