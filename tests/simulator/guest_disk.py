# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A growing image as the disk of a running VM: when its file cannot grow, the VM is paused and not its guest told.

Windows Server 2016 and later pause a VM only when it writes what would have to grow its VHD or .avhdx on a full volume, and
it stays paused until somebody resumes it; fixed images never grow (storage resiliency, Microsoft's Hyper-V team). The event
is 16060 of VMMS. Limit: the write that could not be done is lost to the simulated guest instead of being tried again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from .assumed import assumed
from .content import Content
from .file_system import ERROR_DISK_FULL, FileSystemError

if TYPE_CHECKING:
    from .virtual_machine import Vm

assumed(
    "paused-critical-resume",
    "Resuming a VM that was paused for lack of room while there is none: it runs and is paused again by its next write, or"
    " the same write pauses it at once",
    source="storage resiliency says resume by hand after making room; what happens without is not documented",
    values=("at-once", "next-write"),
)
STEP = 2 << 20
"""Free bytes that let a paused VM go on: one block of a dynamic image."""


class GuestDisk(Content):
    """Passes everything on to the image; a write that finds no room pauses the VM."""

    def __init__(self, inner: Content, vm: Vm, path: str) -> None:
        self.inner = inner
        self._vm = vm
        self._path = path

    @property
    def size(self) -> int:
        return self.inner.size

    @property
    def version(self) -> int:
        return self.inner.version

    def read_at(self, offset: int, length: int) -> bytes:
        return self.inner.read_at(offset, length)

    def write_at(self, offset: int, data: bytes) -> None:
        try:
            self.inner.write_at(offset, data)
        except FileSystemError as problem:
            if problem.code == ERROR_DISK_FULL and self._vm.guest_runs:
                self._vm.run_out_of_room(self._path)
            raise

    def resize(self, size: int) -> None:
        self.inner.resize(size)

    def data_extents(self, offset: int = 0, length: int | None = None) -> Iterator[tuple[int, int]]:
        return self.inner.data_extents(offset, length)

    def zero(self, offset: int, length: int) -> None:
        self.inner.zero(offset, length)
