# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
r"""What the Hyper-V host remembers of the migrations of one VM: enough for a rerun, a rollback, and the person after us.

Layout: `HKLM\SOFTWARE\hyperv.passthrough\Migrations\<VM GUID>`, value `Record` = JSON on one line. Replacing a registry
value is atomic; `revision` grows with each write and a writer that has not seen the newest one is refused.

A disk goes through its legs. `copy`: LUN to a VHD on another LUN. `staging`: LUN to a VHD elsewhere on the host, so that
the array can grow the LUN. `growth`: that VHD to a VHD on the same LUN, wiped. `new`: an empty VHD. Each leg has the same
stages, so that one table says what is left to do.

Not here: what is to be done next (`migration_plan`, `migration_steps`), doing it (`migration`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol

from .._wsman.errors import shortened
from .errors import HypervError
from .guest_model import GuestPartition
from .image_service import DiskLayout
from .model import Slot, record_dict

MIGRATIONS_BASE = r"SOFTWARE\hyperv.passthrough\Migrations"
RECORD = "Record"
VERSION = 1
MAX_RECORD_CHARS = 60_000
MAX_DISKS = 64

# Every leg goes through these, in this order. `preparing` marks that the destination may be half initialised by us.
STAGES = ("planned", "preparing", "prepared", "detached", "copied", "verified", "named", "attached", "done")
LEGS = ("new", "copy", "staging", "growth")
# How a disk's migration ended, or what it waits for; "" while a leg is under way.
OUTCOMES = ("", "awaiting_growth", "migrated", "rolled_back", "finalized")


@dataclass(frozen=True, kw_only=True)
class DiskMigration:
    """One disk of the VM.

    Attributes:
        source: identity of the pass-through LUN (unique_id, serial_number, guid, signature, size_bytes); None for `new`.
        destination: identity of the LUN that gets the VHD (unique_id, serial_number); None on the way to staging.
        layout: the source's partition table as it was read before anything was changed.
        guest_disk: the disk and its volumes as the guest saw them before (for letters, and to compare afterwards).
        path: the VHD's final name; `work_path` is its name until it is verified.
        staging_path: the VHD that the VM runs on between the two halves of `in_place`.
        job: the host's job that copies at the moment.
        cut_over: since when the VM may have written to the VHD of this leg; ISO text of the host's clock.
        staging_cut_over: the same of the leg `staging`, once the leg `growth` has begun.
        wiped: whether the source's content may be gone from the LUN.
        verified: how the file was verified, `quick` or `full`; "" while it is not.
        sha256: of every byte of source and VHD, after `full`.
        comparison: run id of the comparison of both at the moment.
        problem: the sentence of the last failure.
    """

    slot: Slot
    mode: str
    leg: str
    stage: str = "planned"
    outcome: str = ""
    size_bytes: int
    sector_bytes: int = 512
    format: str
    file_system: str = "NTFS"
    allocation_unit: int = 65536
    reserve_bytes: int = 0
    path: str
    drive_letter: str | None = None
    staging_path: str | None = None
    source: Mapping[str, object] | None = None
    destination: Mapping[str, object] | None = None
    layout: DiskLayout | None = None
    guest_disk: Mapping[str, object] | None = None
    free_bytes: int | None = None
    job: str | None = None
    cut_over: str | None = None
    staging_cut_over: str | None = None
    wiped: bool = False
    verified: str = ""
    sha256: str | None = None
    comparison: str | None = None
    problem: str = ""

    @property
    def target_path(self) -> str:
        """The file that this leg makes."""
        return self.staging_path or "" if self.leg == "staging" else self.path

    @property
    def work_path(self) -> str:
        stem, _unused, extension = self.target_path.rpartition(".")
        return f"{stem}.migrating.{extension}"

    def is_past(self, stage: str) -> bool:
        """Whether that stage of this leg is reached."""
        return STAGES.index(self.stage) >= STAGES.index(stage)

    @property
    def is_under_way(self) -> bool:
        return self.outcome == ""


@dataclass(frozen=True, kw_only=True)
class MigrationRecord:
    """The migrations of one VM. `automatic_start_action` and `was_running` are put back when the downtime ends.

    `pass_through` has the UniqueId of every pass-through disk by slot, as the downtime began: the VM is not started on others.
    """

    vm_id: str
    vm_name: str
    revision: int = 0
    automatic_start_action: str | None = None
    was_running: bool | None = None
    downtime_began: str | None = None
    pass_through: Mapping[str, str] = field(default_factory=dict)
    disks: tuple[DiskMigration, ...] = ()

    def disk_at(self, slot: Slot) -> DiskMigration | None:
        return next((disk for disk in self.disks if same_slot(disk.slot, slot)), None)

    def with_disk(self, disk: DiskMigration) -> MigrationRecord:
        """The record with this disk in the place of the one at its slot, or added."""
        kept = [disk if same_slot(one.slot, disk.slot) else one for one in self.disks]
        return replace(self, disks=tuple(kept if self.disk_at(disk.slot) else [*kept, disk]))

    def to_json(self) -> str:
        return json.dumps({"version": VERSION, **record_dict(self)}, ensure_ascii=True, sort_keys=True)


def same_slot(one: Slot, other: Slot) -> bool:
    return (one.controller_type.upper(), one.controller_number, one.controller_location) == (
        other.controller_type.upper(),
        other.controller_number,
        other.controller_location,
    )


_TOP: Mapping[str, tuple[type, ...]] = {
    "vm_id": (str,),
    "vm_name": (str,),
    "revision": (int,),
    "automatic_start_action": (str, type(None)),
    "was_running": (bool, type(None)),
    "downtime_began": (str, type(None)),
    "pass_through": (dict,),
    "disks": (list,),
}
_OF_A_DISK: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(
        ("mode", "leg", "stage", "outcome", "format", "file_system", "path", "verified", "problem"), (str,)
    ),
    **dict.fromkeys(
        ("drive_letter", "staging_path", "job", "cut_over", "staging_cut_over", "sha256", "comparison"),
        (str, type(None)),
    ),
    **dict.fromkeys(("size_bytes", "sector_bytes", "allocation_unit", "reserve_bytes"), (int,)),
    **dict.fromkeys(("source", "destination", "guest_disk"), (dict, type(None))),
    "free_bytes": (int, type(None)),
    "wiped": (bool,),
}


# --- Reading -------------------------------------------------------------------------------------------------------


def from_json(text: str, *, what: str) -> MigrationRecord:
    """Raises: HypervError (`migration_unreadable`), for text that is not a record of this version."""
    try:
        data = json.loads(text)
        if not isinstance(data, dict) or data.get("version") != VERSION:
            raise ValueError(f"version {data.get('version') if isinstance(data, dict) else None}, {VERSION} was needed")
        if len(data["disks"]) > MAX_DISKS:
            raise ValueError(f"{len(data['disks'])} disks")
        known = {item.name for item in fields(MigrationRecord)}
        given = {name: value for name, value in data.items() if name in known}
        wrong = [name for name, kinds in _TOP.items() if name in given and not _is_one_of(given[name], kinds)]
        if wrong or not all(isinstance(value, str) for value in given.get("pass_through", {}).values()):
            raise ValueError(f"{', '.join(wrong) or 'pass_through'} of the wrong type")
        return MigrationRecord(**{**given, "disks": tuple(_disk(item) for item in data["disks"])})
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise HypervError(
            "migration_unreadable",
            f"The record of {what} in the host's registry cannot be used ({shortened(str(error))}); it was written by another version of "
            f"this collection, or damaged. Look at HKLM\\{MIGRATIONS_BASE}, and migrate nothing before it is understood.",
        ) from error


def _disk(data: object) -> DiskMigration:
    known = {item.name for item in fields(DiskMigration)}
    given = {name: value for name, value in _mapping(data).items() if name in known}
    of_a_wrong_type = [
        name for name, kinds in _OF_A_DISK.items() if name in given and not _is_one_of(given[name], kinds)
    ]
    if of_a_wrong_type:
        raise ValueError(f"a disk with {', '.join(of_a_wrong_type)} of the wrong type")
    disk = DiskMigration(**{**given, "slot": Slot(**_mapping(given["slot"])), "layout": _layout(given.get("layout"))})
    words = ((disk.leg, LEGS), (disk.stage, STAGES), (disk.outcome, OUTCOMES))
    wrong = [word for word, allowed in words if word not in allowed]
    if wrong:
        raise ValueError(f"a disk with {wrong}")
    return disk


def _is_one_of(value: object, kinds: tuple[type, ...]) -> bool:
    """As JSON has them: a truth value is no number."""
    return isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))


def _layout(data: object) -> DiskLayout | None:
    if data is None:
        return None
    given = _mapping(data)
    partitions = given.get("partitions")
    if not isinstance(partitions, list):
        raise TypeError("no partitions")
    return DiskLayout(**{**given, "partitions": tuple(GuestPartition(**_mapping(item)) for item in partitions)})


def _mapping(data: object) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise TypeError(f"{type(data).__name__} where a mapping was needed")
    return data


# --- The registry of the host --------------------------------------------------------------------------------------


class RecordRegistry(Protocol):
    """What the store needs of `registry.Registry`, based at `MIGRATIONS_BASE`."""

    def get_string(self, name: str, key: str = "") -> str | None: ...

    def set_string(self, name: str, value: str, key: str = "") -> None: ...

    def create_key(self, key: str = "") -> None: ...


@dataclass(frozen=True, kw_only=True)
class MigrationStore:
    """The migrations that one Hyper-V host remembers."""

    registry: RecordRegistry = field(repr=False)

    def read(self, vm_id: str) -> MigrationRecord | None:
        """The record of a VM; None when it was never migrated. Raises: HypervError `migration_unreadable`."""
        text = self.registry.get_string(RECORD, vm_id.upper())
        if text is None:
            return None
        record = from_json(text, what=f"the migrations of VM {vm_id}")
        if record.vm_id.upper() != vm_id.upper():
            raise HypervError(
                "migration_unreadable", f"The migration record of VM {vm_id} is that of VM {record.vm_id}; look at it."
            )
        return record

    def write(self, record: MigrationRecord) -> MigrationRecord:
        """Store and read back; returns it with its new revision.

        The key is made before the revision is looked at: between that look and the write there must be no other call, in
        which a suspended run could be overtaken and then write its old record over the newer one.

        Raises: HypervError `migration_changed` when another run wrote meanwhile, `migration_not_stored`.
        """
        if record.revision == 0:
            self.registry.create_key(record.vm_id.upper())
        stored = self.read(record.vm_id)
        if (0 if stored is None else stored.revision) != record.revision:
            raise HypervError(
                "migration_changed",
                f"The migration of VM {record.vm_name} was changed by another run meanwhile; let it end, then run again.",
            )
        changed = replace(record, revision=record.revision + 1)
        text = changed.to_json()
        if len(text) > MAX_RECORD_CHARS:
            raise HypervError(
                "migration_not_stored",
                f"The migration record of VM {record.vm_name} would have {len(text)} characters, more than "
                f"{MAX_RECORD_CHARS}; finalize older migrations of this VM first.",
            )
        self.registry.set_string(RECORD, text, record.vm_id.upper())
        if self.registry.get_string(RECORD, record.vm_id.upper()) != text:
            raise HypervError(
                "migration_not_stored",
                f"The migration record of VM {record.vm_name} was written to the host's registry, but something else was "
                f"read back; another run works on it, or the registry is damaged. Run again.",
            )
        return changed
