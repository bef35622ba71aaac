# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""Doing what `guest_storage_plan` planned on a guest, step by step, so that a rerun after an interruption goes on.

Once a blank disk was initialised it is not blank any more. So before that a mark is left in the guest's registry, with the
disk's identity and its confirmed size, and taken away at the end: a disk with the mark may be prepared further.

Not here: the plan, and the single calls (`guest_storage`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from .cim_access import CimClient
from .disk_selector import Disk, DiskSelector
from .errors import HypervError, MethodFailed
from .guest_storage import (
    PartitionRow,
    add_access_path,
    create_partition,
    delete_partition,
    format_volume,
    initialize_disk,
    partitions_of,
    remove_access_path,
    set_disk_identity,
    set_disk_online,
)
from .guest_storage_plan import MSR, RecordedDisk, RecordedPartition, StorageStep, mark_of
from .host_disks import read_disk
from .jobs import Hands
from .model import record_dict
from .registry import Registry

_BASE, _KEY = "SOFTWARE\\hyperv.passthrough", "Preparing"


def begun(client: CimClient, disks: Iterable[Disk]) -> frozenset[str]:
    """The marks of those of these disks that an earlier run had begun to prepare at the size that they have now."""
    registry = Registry(client, _BASE)
    return frozenset(
        mark_of(disk)
        for disk in disks
        if mark_of(disk) and registry.get_string(mark_of(disk), _KEY) == str(disk.get("size_bytes"))
    )


class StorageSteps:
    """Executes the steps of one plan; keeps where partitions really came to lie.

    Args:
        confirm_size_bytes: of the disks that are initialised.
    """

    def __init__(self, client: CimClient, hands: Hands, *, confirm_size_bytes: int | None) -> None:
        self._client = client
        self._hands = hands
        self._confirmed = confirm_size_bytes
        self._offsets: dict[tuple[DiskSelector, int], int] = {}
        self._marks = Registry(client, _BASE)

    def take(self, step: StorageStep) -> None:
        """Raises: Precondition, MethodFailed, HypervError of `guest_storage`."""
        client, hands, disk = self._client, self._hands, step.disk
        if step.kind == "online":
            set_disk_online(client, disk, hands)
        elif step.kind == "initialize" and step.recorded is not None:
            self._initialize(disk, step.recorded)
        elif step.kind == "partition" and step.partition is not None:
            self._partition(disk, step.partition)
        elif step.kind == "identity" and step.recorded is not None:
            bare = DiskSelector(unique_id=disk.unique_id, serial_number=disk.serial_number)
            set_disk_identity(client, bare, hands, guid=step.recorded.guid, signature=step.recorded.signature)
        elif step.kind == "remove_path" and step.access_path:
            offset = self._offset(disk, step.offset_bytes)
            remove_access_path(client, disk, hands, offset_bytes=offset, access_path=step.access_path)
        elif step.kind == "add_path" and step.access_path:
            offset = self._offset(disk, step.offset_bytes)
            add_access_path(client, disk, hands, offset_bytes=offset, access_path=step.access_path)
        elif step.kind == "format" and step.volume is not None and step.volume.file_system:
            format_volume(
                client,
                disk,
                hands,
                offset_bytes=self._offset(disk, step.offset_bytes),
                file_system=step.volume.file_system,
                label=step.volume.label,
                allocation_unit_bytes=step.volume.allocation_unit_bytes,
            )
        else:
            raise ValueError(f"{step.kind} is no step of a plan")

    def finish(self, disks: Iterable[DiskSelector]) -> None:
        """Take the marks of disks away that are prepared now."""
        for selector in dict.fromkeys(disks):
            mark = mark_of(record_dict(read_disk(self._client, selector, where="the guest")[1]))
            if self._marks.get_string(mark, _KEY) is not None:
                self._hands.should_stop()
                self._marks.delete_value(mark, _KEY)

    def _offset(self, disk: DiskSelector, recorded: int | None) -> int:
        """Where the partition lies that was recorded at an offset."""
        if recorded is None:
            raise HypervError("unknown_partition", f"No offset was recorded of a volume on {disk.describe()}.")
        return self._offsets.get((disk, recorded), recorded)

    def _initialize(self, disk: DiskSelector, recorded: RecordedDisk) -> None:
        lun = read_disk(self._client, disk, where="the guest")[1]
        self._hands.should_stop()
        self._marks.set_string(mark_of(record_dict(lun)), str(self._confirmed), _KEY)
        style = "MBR" if recorded.style == "MBR" else "GPT"
        initialize_disk(self._client, disk, style, self._hands, confirm_size_bytes=self._confirmed)

    def _make_room(self, disk: DiskSelector, wanted: RecordedPartition) -> None:
        """Take away the reserved partition that Windows made by itself where the recorded table had something else.

        Where Windows keeps it, the partition goes where there is room (assumption: it lets itself be deleted).
        """
        for one in partitions_of(self._client, disk):
            if one.gpt_type == MSR and _overlap(one, wanted):
                with contextlib.suppress(MethodFailed):
                    delete_partition(self._client, disk, self._hands, offset_bytes=one.offset_bytes, only_type=MSR)

    def _partition(self, disk: DiskSelector, wanted: RecordedPartition) -> None:
        self._make_room(disk, wanted)
        blocking = [one for one in partitions_of(self._client, disk) if _overlap(one, wanted)]
        is_there = any(one.offset_bytes == wanted.offset_bytes for one in blocking)
        made = create_partition(
            self._client,
            disk,
            self._hands,
            size_bytes=wanted.size_bytes,
            offset_bytes=wanted.offset_bytes if is_there or not blocking else None,
            gpt_type=wanted.gpt_type,
            mbr_type=wanted.mbr_type,
            is_active=wanted.is_active,
        )
        self._offsets[disk, wanted.offset_bytes] = made.offset_bytes


def _overlap(one: PartitionRow, wanted: RecordedPartition) -> bool:
    return (
        one.offset_bytes < wanted.offset_bytes + wanted.size_bytes
        and wanted.offset_bytes < one.offset_bytes + one.size_bytes
    )
