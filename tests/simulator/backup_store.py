# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Windows Server Backup leaves on a target: the folder WindowsImageBackup, its catalog, and containers of real bytes.

A container (`*.wsbimage`) is a format of the simulator's own: a JSON header, then data. A volume is kept as its allocated
clusters (the rest of a restored volume is noise); files are kept whole, holes as holes. Nothing else of the world is in
it, so a test can prove that bytes which the VSS writer leaves out are nowhere on the target.
Facts: backup-engines 1.1, 1.4, 1.5. Not here: jobs and rules (windows_backup.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from .content import CHUNK, Content, noise
from .file_system import FileSystem, FileSystemError

MAGIC = b"SIMWSB01"
ROOT_FOLDER = "WindowsImageBackup"
NOISE_LIMIT = 64 << 20
"""Most bytes of noise that one restore writes, so that a sparse terabyte stays sparse."""

Extents = list[tuple[int, int]]


@dataclass(frozen=True, kw_only=True)
class Member:
    """One thing in a container. `name` is the original path of a file, or the GUID path of a volume."""

    name: str
    size: int
    data: Extents
    """(offset, length) of the bytes that follow the header, in order."""
    allocated: Extents | None = None
    """Of a volume: its allocated clusters; None for a file."""
    position: int = 0
    """Where the first byte of `data` stands in the data part of the container."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Something to be written into a container."""

    name: str
    content: Content
    allocated: Extents | None = None


@dataclass(kw_only=True)
class Version:
    """One backup version as the catalog knows it; JSON types only. `time` is ISO 8601 UTC."""

    version_id: str
    time: str
    computer: str
    target: str
    target_label: str
    target_kind: str
    folder: str
    template_id: str
    snapshot_id: str = ""
    size: int = 0
    vss_full: bool = False
    system_state: bool = False
    bare_metal: bool = False
    volumes: list[dict[str, Any]] = field(default_factory=list)
    files: list[dict[str, Any]] = field(default_factory=list)
    machines: list[dict[str, Any]] = field(default_factory=list)


# -- containers -----------------------------------------------------------------------------------


def within(extents: Iterable[tuple[int, int]], allocated: Iterable[tuple[int, int]]) -> Extents:
    """The parts of `extents` that lie in `allocated`; both sorted."""
    result: Extents = []
    ranges = list(allocated)
    index = 0
    for offset, length in extents:
        end = offset + length
        while index < len(ranges) and ranges[index][0] + ranges[index][1] <= offset:
            index += 1
        probe = index
        while probe < len(ranges) and ranges[probe][0] < end:
            start, stop = max(offset, ranges[probe][0]), min(end, ranges[probe][0] + ranges[probe][1])
            if start < stop:
                result.append((start, stop - start))
            probe += 1
    return result


def write_container(target: FileSystem, path: str, sources: list[Source], facts: dict[str, Any]) -> int:
    """Writes a container of its exact size and returns that size; FileSystemError 112 when the target is full."""
    members: list[Member] = []
    position = 0
    for source in sources:
        data = list(source.content.data_extents())
        if source.allocated is not None:
            data = within(data, source.allocated)
        members.append(
            Member(
                name=source.name,
                size=source.content.size,
                data=data,
                allocated=source.allocated,
                position=position,
            )
        )
        position += sum(length for _offset, length in data)
    header = json.dumps({"facts": facts, "members": [asdict(member) for member in members]}).encode()
    start = len(MAGIC) + 8 + len(header)
    content = target.create(path, start + position)
    content.write_at(0, MAGIC + len(header).to_bytes(8, "little") + header)
    at = start
    for source, member in zip(sources, members, strict=True):
        for offset, length in member.data:
            for block in range(offset, offset + length, CHUNK):
                piece = source.content.read_at(block, min(CHUNK, offset + length - block))
                content.write_at(at, piece)
                at += len(piece)
    return start + position


class Container:
    """A container that is being read; ValueError when the file is none."""

    def __init__(self, content: Content) -> None:
        self._content = content
        head = content.read_at(0, len(MAGIC) + 8)
        if not head.startswith(MAGIC):
            raise ValueError("The file is no container of the simulated Windows Server Backup.")
        length = int.from_bytes(head[len(MAGIC) :], "little")
        header = json.loads(content.read_at(len(head), length))
        self._start = len(head) + length
        self.facts: dict[str, Any] = header["facts"]
        self.members = [
            Member(
                name=entry["name"],
                size=entry["size"],
                data=[tuple(extent) for extent in entry["data"]],
                allocated=None if entry["allocated"] is None else [tuple(extent) for extent in entry["allocated"]],
                position=entry["position"],
            )
            for entry in header["members"]
        ]

    def pieces(self, member: Member) -> Iterator[tuple[int, bytes]]:
        at = self._start + member.position
        for offset, length in member.data:
            for block in range(offset, offset + length, CHUNK):
                count = min(CHUNK, offset + length - block)
                yield block, self._content.read_at(at, count)
                at += count

    def restore_file(self, member: Member, target: Content) -> None:
        """Over a file of the member's size whose bytes are zeros."""
        for offset, data in self.pieces(member):
            target.write_at(offset, data)

    def restore_volume(self, member: Member, target: Content, seed: str) -> None:
        """Allocated clusters as they were, noise elsewhere; `target` is the whole partition."""
        assert member.allocated is not None
        left = NOISE_LIMIT
        for offset, length in _gaps(member.allocated, member.size):
            count = min(length, left, CHUNK)
            if count > 0:
                target.write_at(offset, noise(seed, offset, count))
                left -= count
        for offset, length in member.allocated:
            target.zero(offset, min(length, target.size - offset))
        for offset, data in self.pieces(member):
            target.write_at(offset, data)


def _gaps(extents: Extents, size: int) -> Iterator[tuple[int, int]]:
    at = 0
    for offset, length in extents:
        if offset > at:
            yield at, offset - at
        at = max(at, offset + length)
    if at < size:
        yield at, size - at


# -- the catalog on a target -------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Place:
    """A folder on a file system in which WindowsImageBackup lies; `prefix` is "" at the root of a volume."""

    files: FileSystem
    prefix: str

    def path(self, *parts: str) -> str:
        return "\\".join(part for part in (self.prefix, ROOT_FOLDER, *parts) if part)

    def computers(self) -> list[str]:
        if not self.files.exists(self.path()):
            return []
        return [name for name in self.files.listdir(self.path()) if self.files.exists(self._catalog(name))]

    def _catalog(self, computer: str) -> str:
        return self.path(computer, "Catalog", "GlobalCatalog")

    def versions(self, computer: str) -> list[Version]:
        """Oldest first; empty when nothing of that computer is here."""
        try:
            text = self.files.read(self._catalog(computer))
        except FileSystemError:
            return []
        return [Version(**entry) for entry in json.loads(text)["versions"]]

    def write_catalog(self, computer: str, versions: list[Version]) -> None:
        data = json.dumps({"computer": computer, "versions": [asdict(version) for version in versions]}).encode()
        folder = self.path(computer, "Catalog")
        if not self.files.exists(folder):
            self.files.mkdir(folder, parents=True)
        self.files.write(self._catalog(computer), data)
        self.files.write(self.path(computer, "MediaId"), b"\0" * 32)

    def make_folder(self, computer: str, name: str) -> str:
        folder = self.path(computer, name)
        if not self.files.exists(folder):
            self.files.mkdir(folder, parents=True)
        return folder

    def remove(self, *parts: str) -> None:
        if self.files.exists(self.path(*parts)):
            self.files.delete(self.path(*parts), recursive=True)

    def drop_version(self, computer: str, version: Version) -> None:
        self.remove(computer, version.folder)
        self.write_catalog(computer, [kept for kept in self.versions(computer) if kept.folder != version.folder])

    def container(self, computer: str, version: Version, name: str) -> Container:
        return Container(self.files.open(self.path(computer, version.folder, name)))
