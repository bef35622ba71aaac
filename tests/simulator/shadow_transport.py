# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done with shadow copies after they were made: metadata, import on another host, break, mask, revert.

A transportable set belongs to the array: the world keeps it (`World.transportable_sets`) until a host imports or deletes it.
Facts: backup-engines 2 (hardware providers, revert); vss.h for the codes. The .cab is the simulator's own text.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from .assumed import assumed
from .content import SparseFile, Window, copy_content
from .disks import Identity, Lun, stable_guid, stable_hex
from .file_system import DirectoryFileSystem
from .partition_file_system import _boot_sector
from .partition_table import BASIC_DATA, GPT, Partition, PartitionTable, write_table
from .shadow_volumes import ShadowVolume, copy_tree, frozen_directory, frozen_partition, thaw
from .volume_shadow_service import (
    VSS_E_BAD_STATE,
    VSS_E_NO_SNAPSHOTS_IMPORTED,
    VSS_E_OBJECT_NOT_FOUND,
    VSS_E_PROVIDER_NOT_REGISTERED,
    VSS_E_VOLUME_IN_USE,
    ShadowCopy,
    VolumeShadowService,
    VssError,
)
from .volumes import Volume
from .vss_writer import VSS_E_VOLUME_NOT_SUPPORTED

CABINET = b"MSCF\0\0\0\0"
MIB = 1 << 20

assumed(
    "vss-break-disk",
    "A hardware shadow copy that is broken becomes a disk of its own with new identifiers, online, with a free letter",
    source="backup-engines 2: break turns it into a normal volume; the rest is a guess",
)
assumed(
    "vss-revert-newer",
    "Reverting a volume deletes the shadow copies of it that are newer",
    source="no source",
)


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """What a .cab says: the set, its copies, and per VM the component document."""

    set_id: str
    provider_ids: tuple[str, ...]
    transportable: bool
    machines: dict[str, dict[str, Any]]
    originating: str


def metadata_bytes(vss: VolumeShadowService, copies: list[ShadowCopy]) -> bytes:
    machines: dict[str, dict[str, Any]] = {}
    for copy in copies:
        for identifier, facts in copy.components.items():
            if facts["method"] != "none":
                vm = vss.machine.vm_by_id(identifier)
                machines[identifier] = {**facts, "document": vm.export_configuration() if vm is not None else {}}
    data = {
        "set_id": copies[0].set_id,
        "provider_ids": [copy.provider.id for copy in copies],
        "transportable": copies[0].options.transportable,
        "machines": machines,
        "originating": vss.machine.dns_name,
    }
    return CABINET + json.dumps(data, default=str).encode()


def read_metadata(data: bytes) -> Metadata:
    """ValueError when it is no .cab of diskshadow."""
    if not data.startswith(CABINET):
        raise ValueError("The file is no cabinet with backup metadata.")
    found = json.loads(data[len(CABINET) :])
    return Metadata(**{**found, "provider_ids": tuple(found["provider_ids"])})


def keep_for_transport(vss: VolumeShadowService, copies: list[ShadowCopy]) -> None:
    """The array holds the copies of a transportable set now; hosts see them after an import."""
    vss.machine.world.transportable_sets[copies[0].set_id] = [
        (copy, vss.machine.volume_by_guid(copy.origin_guid)) for copy in copies
    ]


def import_set(vss: VolumeShadowService, metadata: Metadata) -> list[ShadowCopy]:
    call = "ImportSnapshots"
    vss.fail_if_planned("import", call)
    known = {provider.id.lower() for provider in vss.providers()}
    if not metadata.transportable:
        raise VssError(call, VSS_E_NO_SNAPSHOTS_IMPORTED, "The metadata describe no transportable shadow copies.")
    if not set(metadata.provider_ids) <= known:
        raise VssError(call, VSS_E_PROVIDER_NOT_REGISTERED, "The provider of the shadow copies is not registered here.")
    kept = vss.machine.world.transportable_sets.get(metadata.set_id)
    if not kept:
        raise VssError(call, VSS_E_NO_SNAPSHOTS_IMPORTED, "The shadow copies are not there any more.")
    if vss.of_set(metadata.set_id) and any(copy.surfaced for copy in vss.of_set(metadata.set_id)):
        raise VssError(call, VSS_E_BAD_STATE, "The set is imported already.")
    made = []
    for copy, origin in kept:
        if copy in vss.copies:
            vss.copies.remove(copy)
        arrived = replace(
            copy, number=vss.device_number(copy.id), imported=True, service=vss.machine.dns_name, exposed=None
        )
        files = (
            frozen_directory(origin.files, copy.bytes_at)
            if isinstance(origin.files, DirectoryFileSystem)
            else frozen_partition(origin, copy.bytes_at)
        )
        shown = Volume(vss.machine, origin.disk, origin.partition, origin.guid)
        arrived.volume = ShadowVolume(shown, copy.id, files, arrived.device + "\\")
        vss.copies.append(arrived)
        made.append(arrived)
    return made


def mask_set(vss: VolumeShadowService, identifier: str) -> int:
    """Hardware shadow copies that were imported leave this host; the array still has them."""
    copies = [copy for copy in vss.of_set(identifier) if copy.imported]
    if not copies:
        raise VssError("mask", VSS_E_OBJECT_NOT_FOUND, "There is no imported shadow copy set of that ID.")
    for copy in copies:
        vss.unexpose(copy)
        vss.copies.remove(copy)
    return len(copies)


def break_set(vss: VolumeShadowService, identifier: str, *, writable: bool) -> int:
    """The shadow copies are ordinary disks from now on, unknown to VSS."""
    call = "BreakSnapshotSet"
    copies = vss.of_set(identifier)
    if not copies:
        raise VssError(call, VSS_E_OBJECT_NOT_FOUND, "There is no shadow copy set of that ID.")
    if any(copy.provider.kind != "hardware" or not copy.surfaced for copy in copies):
        raise VssError(call, VSS_E_BAD_STATE, "Only surfaced shadow copies of a hardware provider can be broken.")
    for copy in copies:
        letter = copy.volume.letter if copy.volume is not None else None
        vss.unexpose(copy)
        _become_disk(vss.machine, copy, letter, writable=writable)
        vss.machine.world.transportable_sets.pop(copy.set_id, None)
        vss.delete(copy)
    return len(copies)


def _become_disk(machine: Any, copy: ShadowCopy, letter: str | None, *, writable: bool) -> None:
    world = machine.world
    assert copy.volume is not None
    frozen = copy.volume.files
    size = copy.volume.partition.size
    key = f"snapshot-{copy.id[:8]}"
    content = SparseFile.create(world.directory / "luns" / f"{key}.img", size + 3 * MIB)
    guid = stable_guid(world.seed, key, "volume")
    table = PartitionTable(style=GPT, guid=stable_guid(world.seed, key, "disk")).adding(
        Partition(offset=MIB, size=size, gpt_type=BASIC_DATA, guid=guid, name="Basic data partition")
    )
    write_table(content, table)
    if isinstance(frozen, DirectoryFileSystem):
        root = world.directory / "volumes" / machine.name / key
        copy_tree(copy.bytes_at, root)
        content.write_at(MIB, bytes(_boot_sector(frozen.kind, frozen.serial, frozen.label, frozen.cluster_size, size)))
        machine.directory_volumes[guid] = DirectoryFileSystem(
            root,
            frozen.size,
            kind=frozen.kind,
            label=frozen.label,
            serial=frozen.serial,
            cluster_size=frozen.cluster_size,
            used=frozen._base_use,
            now=frozen.now,
        )
    else:
        copy_content(SparseFile(copy.bytes_at), Window(content, MIB, size))
    lun = Lun(
        key,
        content,
        "iscsi",
        Identity(
            unique_id=f"6001405{stable_hex(key, length=25)}", unique_id_format=3, vendor="ARRAY", model="SNAPSHOT"
        ),
    )
    world.luns[lun.id] = lun
    machine.mapped_luns.append(lun)
    machine.rescan()
    disk = machine.disk_of_lun(lun)
    disk.online, disk.read_only, disk.offline_reason = True, not writable, 0
    volume = machine.volume_by_guid(guid)
    if volume is not None:
        volume.mount.letter = letter or machine.free_letter()


def revert(vss: VolumeShadowService, copy: ShadowCopy, *, force: bool = False) -> None:
    """RevertToSnapshot: client-accessible copies of the system provider only, never the boot or system volume."""
    call = "RevertToSnapshot"
    volume = vss.machine.volume_by_guid(copy.origin_guid)
    if volume is None or copy.provider.kind != "system" or not copy.options.client_accessible:
        raise VssError(
            call, VSS_E_BAD_STATE, "Only client-accessible shadow copies of the system provider are reverted to."
        )
    if volume.is_boot or volume.is_system:
        raise VssError(call, VSS_E_VOLUME_NOT_SUPPORTED, "The volume holds Windows and cannot be reverted.")
    held = any(key[0] == volume.guid for key in vss.machine.locked_files())
    if held or (not force and any(key[0] == volume.guid for key in vss.machine.processes.open_files)):
        raise VssError(call, VSS_E_VOLUME_IN_USE, "Files of the volume are in use.")
    if copy.cost is not None:
        copy.cost.stop()
    for newer in [c for c in vss.of_volume(volume.guid) if c.created > copy.created]:
        vss.delete(newer)
    thaw(volume, copy.bytes_at)
