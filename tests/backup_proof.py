# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judges a two-phase backup by bytes: what of a simulated VM can be got back from the versions that a backup set names.

Responsible for: reading the simulated backup targets and comparing digests with the simulated world. Not responsible for:
making backups; nothing of the product is used here, only the record it left and the bytes on the targets.
"""

from __future__ import annotations

import dataclasses
import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from simulator.backup_store import Container, Place, Version
from simulator.content import Content, SparseFile, digest
from simulator.volumes import find_file_system
from simulator.world import Machine, World


@dataclasses.dataclass(frozen=True, kw_only=True)
class Held:
    """One thing of a VM, what it is now, and what a phase's version holds of it."""

    phase: str
    kind: str  # virtual hard disk | volume
    name: str
    bytes_now: int
    digest_now: str
    digest_held: str | None

    @property
    def is_proven(self) -> bool:
        return self.digest_held == self.digest_now


def prove(world: World, record: Mapping[str, Any]) -> list[Held]:
    """Every virtual hard disk byte by byte, and every file of every guest volume on a left-out disk.

    Args:
        record: the backup set, as the task backup_set returned it.
    """
    host = world.machine(str(record["vm"]["host"]))
    vm = host.vm_by_id(str(record["vm"]["id"]))
    assert vm is not None, f"VM {record['vm']} is not on {host.name}"
    found = [*_virtual_hard_disks(host, vm, record)]
    if vm.guest is not None and record["phases"]["guest"]["needed"]:
        found += _guest_volumes(vm.guest, record)
    return found


def guest_volumes(world: World, record: Mapping[str, Any]) -> list[Held]:
    """The files of every guest volume on a left-out disk alone; for host phases of another engine than Windows Server Backup."""
    vm = world.machine(str(record["vm"]["host"])).vm_by_id(str(record["vm"]["id"]))
    assert vm is not None, f"VM {record['vm']} is not on its host"
    return _guest_volumes(vm.guest, record) if vm.guest is not None and record["phases"]["guest"]["needed"] else []


def only_on_the_host(world: World, record: Mapping[str, Any]) -> list[str]:
    """File trees of guest volumes that the host's version alone would have lost: their bytes are not in it."""
    host = world.machine(str(record["vm"]["host"]))
    held = _held_by_host(host, record)
    return [
        item.name
        for item in prove(world, record)
        if item.kind == "volume" and not any(item.digest_now == one for one in held)
    ]


def _held_by_host(host: Machine, record: Mapping[str, Any]) -> set[str]:
    opened = _version(host, _attempt(record, "host"))
    trees: set[str] = set()
    for name in _containers(opened.version):
        container = opened.open(name)
        for member in container.members:
            with _scratch(member.size) as content:
                if member.allocated is not None:
                    container.restore_volume(member, content, "proof")
                    trees.add(_tree(content))
    return trees


def _virtual_hard_disks(host: Machine, vm: Any, record: Mapping[str, Any]) -> Iterator[Held]:
    opened = _version(host, _attempt(record, "host"))
    held: dict[str, str] = {}
    for name in _containers(opened.version):
        container = opened.open(name)
        for member in container.members:
            if member.allocated is None:
                with _scratch(member.size) as content:
                    container.restore_file(member, content)
                    held[member.name.casefold()] = digest(content)
    for path in vm.vhd_paths():
        volume, relative = host.resolve(path)
        now = volume.files.open(relative)
        yield Held(
            phase="host",
            kind="virtual hard disk",
            name=path,
            bytes_now=now.size,
            digest_now=digest(now),
            digest_held=held.get(path.casefold()),
        )


def _guest_volumes(guest: Machine, record: Mapping[str, Any]) -> list[Held]:
    opened = _version(guest, _attempt(record, "guest"))
    held: dict[str, str] = {}
    for name in _containers(opened.version):
        container = opened.open(name)
        for member in container.members:
            with _scratch(member.size) as content:
                if member.allocated is not None:
                    container.restore_volume(member, content, "proof")
                    held[member.name.casefold()] = _tree(content)
    found = []
    for row in record["disks"]:
        for planned in row["volumes"] if row["coverage"] == "guest" else ():
            volume = next(one for one in guest.volumes() if one.path.casefold() == planned["path"].casefold())
            backend = volume.backend()
            assert backend is not None, f"{volume.path} is RAW"
            found.append(
                Held(
                    phase="guest",
                    kind="volume",
                    name=f"{volume.letter or volume.path}: {volume.label}",
                    bytes_now=volume.size - volume.free,
                    digest_now=backend.tree_digest(),
                    digest_held=held.get(planned["path"].casefold()),
                )
            )
    return found


@dataclasses.dataclass(frozen=True)
class _Opened:
    place: Place
    computer: str
    version: Version

    def open(self, name: str) -> Container:
        return self.place.container(self.computer, self.version, name)


def _version(machine: Machine, attempt: Mapping[str, Any]) -> _Opened:
    target = str(attempt["target"])
    volume, relative = machine.resolve(target if not target.endswith(":") else target + "\\", machine.computer_account)
    place = Place(files=volume.files, prefix=relative.strip("\\"))
    for computer in place.computers():
        for version in place.versions(computer):
            if version.version_id == attempt["version"] and computer.casefold() == machine.netbios_name.casefold():
                return _Opened(place, computer, version)
    raise AssertionError(f"version {attempt['version']} of {machine.name} is not on {target}")


def _attempt(record: Mapping[str, Any], phase: str) -> Mapping[str, Any]:
    done = [one for one in record["phases"][phase]["attempts"] if one["outcome"] in ("succeeded", "warning")]
    assert done, f"the set {record.get('id')} has no finished {phase} phase"
    return done[-1]


def _containers(version: Version) -> list[str]:
    entries = [*version.volumes, *version.files, *version.machines]
    return sorted({str(entry["container"]) for entry in entries})


class _scratch:  # noqa: N801  # used as a context manager, like open
    """A sparse file of a size, removed at the end."""

    def __init__(self, size: int) -> None:
        self._size = size

    def __enter__(self) -> Content:
        self._folder = tempfile.TemporaryDirectory()
        return SparseFile.create(Path(self._folder.name) / "content", self._size)

    def __exit__(self, *_reason: object) -> None:
        self._folder.cleanup()


def _tree(content: Content) -> str:
    """Digest over names, sizes and contents of a file system; of its bytes when it cannot be read."""
    try:
        found = find_file_system(content, lambda: datetime.now(timezone.utc))
        assert found is not None
        return found.tree_digest()
    except Exception:  # noqa: BLE001  # a restore that cannot be read is a finding, not a crash of the judge
        return "unreadable " + hashlib.sha256(content.read_at(0, min(content.size, 4096))).hexdigest()
