# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""Is the new virtual hard disk a copy of its source? Looked at while the VM is off, and before anything uses it.

`quick`: Hyper-V itself validates the file, its format and size are right, and the whole partition table, identity
included, is the source's. `full`: besides, every byte is read of both and compared on the host. The copy is mounted read-only
and without letters, never while a disk of the same identity is online, and is taken away before the VM starts.

Not here: the program that compares (`disk_comparison`), what becomes of a failure (`migration`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from .._wsman import CimInstance
from . import image_service as images
from .cim_access import CimClient, int_of
from .disk_comparison import Comparer, Comparison, require_same
from .disk_selector import DiskSelector
from .errors import HypervError, Precondition
from .host_disks import read_lun
from .image_service import DiskLayout, disk_layout, mounted_read_only
from .jobs import Hands
from .migration_record import DiskMigration
from .migration_steps import source_text

_GOES_ON = frozenset({"comparison_timeout"})
Save = Callable[..., DiskMigration]


class CopyVerification:
    """The check of one disk.

    Args:
        comparer: where bytes are compared; None for `quick`.
        save: writes fields of the disk into the record, and returns it as it is then.
        run_id: of a comparison that begins now; never used before.
    """

    def __init__(
        self,
        client: CimClient,
        disk: DiskMigration,
        hands: Hands,
        *,
        comparer: Comparer | None,
        save: Save,
        run_id: Callable[[], str],
    ) -> None:
        self._client, self._disk, self._hands = client, disk, hands
        self._comparer, self._save, self._run_id = comparer, save, run_id

    def verify(self) -> DiskMigration:
        """Returns the disk with what was proven: `verified` and, after `full`, `sha256`.

        Raises: Precondition `vhd_differs`, `vhd_wrong`, `bytes_differ`, `identity_online`; HypervError as `require_same`.
        """
        disk = self._disk
        running = self._running()
        if running is None:
            images.validate(self._client, disk.work_path, self._hands)
            images.check_image(self._client, disk.work_path, format_name=disk.format, size_bytes=disk.size_bytes)
        if disk.leg == "new":  # there is no source: an empty file of its size is all that was asked for
            return self._save(disk, verified="quick", sha256=None, comparison=None)
        if self._comparer is None and disk.layout is None:
            return self._save(disk, verified="quick", sha256=None, comparison=None)
        with self._source(running) as source, self._mounted(disk.work_path, running) as copy:
            if disk.layout is not None:
                self._check_layout(disk.layout, disk_layout(self._client, copy))
            digest = None
            if self._comparer is not None and source is not None:
                digest = self._compare(self._comparer, source, running)
        level = "quick" if digest is None else "full"
        return self._save(self._disk, verified=level, sha256=digest, comparison=None)

    def _running(self) -> str | None:
        """The run id of a comparison that an earlier run began, unless it was broken off; what that one left goes away."""
        recorded = self._disk.comparison
        if self._comparer is None or recorded is None:
            return None
        if self._comparer.knows(recorded):
            return recorded
        self._hands.should_stop()
        self._comparer.stop(recorded)
        return None

    def _check_layout(self, wanted: DiskLayout, found: DiskLayout) -> None:
        differences = wanted.differences(found)
        if differences:
            raise Precondition(
                "vhd_differs",
                f"{self._disk.work_path} is not a copy of the disk at {self._disk.slot.describe()}: {'; '.join(differences)}.",
                {"differences": differences},
            )

    # -- the two disks ------------------------------------------------------------------------------------------------

    def _mounted(self, path: str, running: str | None) -> contextlib.AbstractContextManager[CimInstance]:
        layout = self._disk.layout
        return mounted_read_only(
            self._client,
            path,
            self._hands,
            guid=None if layout is None else layout.guid,
            signature=None if layout is None else layout.signature,
            keep=running is not None,
            leave_on=_GOES_ON,
        )

    @contextlib.contextmanager
    def _source(self, running: str | None) -> Iterator[Callable[[], int] | None]:
        """How to find the source's disk number at any moment; None when no byte of it is to be read."""
        if self._comparer is None:
            yield None
        elif self._disk.leg == "growth":
            path = str(self._disk.staging_path)
            with self._mounted(path, running):
                images.take_image_offline(self._client, path, self._hands)
                yield lambda: self._number_of_image(path)
        else:
            yield self._number_of_lun

    def _number_of_lun(self) -> int:
        lun = read_lun(self._client, DiskSelector.of({**(self._disk.source or {}), "size_bytes": None}))
        if not lun.is_offline or lun.number is None:
            raise Precondition(
                "lun_online",
                f"The {lun.describe()} is online on the host, so that the host may change it while it is compared; take it "
                f"offline and run again.",
            )
        return lun.number

    def _number_of_image(self, path: str) -> int:
        row = images.disk_of_image(self._client, path)
        number = None if row is None else int_of(row, "Number")
        if number is None:
            raise HypervError("not_observed", f"{path} is not mounted on the host any more; run again.")
        return number

    # -- the bytes ----------------------------------------------------------------------------------------------------

    def _compare(self, comparer: Comparer, source: Callable[[], int], running: str | None) -> str:
        """The SHA-256 of both. Which disk has which number is proven right before and, since it may move, afterwards.

        A run id ends with the two numbers, so that an earlier run's comparison is used only while they are still the same.
        """
        size, copy = self._disk.size_bytes, self._disk.work_path
        numbers = self._numbers(source)
        found = None
        if running is not None:
            if running.endswith(_suffix(numbers)):
                found = self._run(comparer, running, numbers)
            else:
                self._hands.should_stop()
                comparer.stop(running)
        if found is None or (
            found.compared != size and found.offset is None
        ):  # what broke an earlier one is no verdict
            run_id = self._run_id() + _suffix(numbers)
            self._disk = self._save(self._disk, comparison=run_id)
            found = self._run(comparer, run_id, numbers)
        if self._numbers(source) != numbers:
            raise HypervError(
                "disks_moved",
                f"The host has renumbered its disks while {copy} was compared, so that the result proves nothing; run again.",
            )
        return require_same(found, source=source_text(self._disk), copy=copy, size_bytes=size)

    def _numbers(self, source: Callable[[], int]) -> tuple[int, int]:
        return source(), self._number_of_image(self._disk.work_path)

    def _run(self, comparer: Comparer, run_id: str, numbers: tuple[int, int]) -> Comparison:
        one, other = (images.physical_drive(number) for number in numbers)
        return comparer.compare(run_id, one, other, self._disk.size_bytes, self._hands)


def _suffix(numbers: tuple[int, int]) -> str:
    return f"-{numbers[0]}-{numbers[1]}"
