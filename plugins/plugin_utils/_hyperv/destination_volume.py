# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""One LUN of the host as one volume with a letter, so that one virtual hard disk can fill it; and wiping a LUN before.

Every step looks first: a LUN that an earlier run left half prepared is finished. That it may be touched at all was decided
by the plan, and the caller has written that down.

Not here: the calls on disk, partition and volume (`guest_storage`, `host_disks`), the fit (`vhd_fit`).
"""

from __future__ import annotations

from .._wsman import CimInstance, Value
from .cim_access import CimClient, int_of, text_of
from .disk_selector import DiskSelector
from .errors import HypervError, Precondition
from .guest_disks import drive_letter as letter_of
from .guest_storage import add_access_path, create_partition, initialize_disk
from .host_disks import STORAGE_CODES, act_on_disk, read_disk, read_lun, row_path, set_online
from .image_service import disk_layout
from .jobs import Hands, act, look_until
from .schema import STORAGE

_BASIC_DATA = "{ebd0a0a2-b9e5-4433-87c0-68b6b72699c7}"  # windows-storage 3.1
_RAW = "RAW"


def wipe(client: CimClient, selector: DiskSelector, hands: Hands) -> None:
    """Take the whole partition table off a LUN. MSFT_Disk.Clear wants it online (windows-storage 2.4).

    Raises: as `set_online`; MethodFailed; HypervError `not_observed`.
    """
    lun = set_online(client, selector, hands, writable=True)
    if lun.partition_style == _RAW:
        return
    what = f"Wiping the {lun.describe()}"
    act_on_disk(client, selector, "Clear", {"RemoveData": True, "RemoveOEM": True}, hands, what=what)
    look_until(
        lambda: True if read_lun(client, selector).partition_style == _RAW else None,
        hands,
        what=what,
    )


def prepare_volume(
    client: CimClient,
    selector: DiskSelector,
    hands: Hands,
    *,
    file_system: str,
    allocation_unit: int,
    label: str,
    drive_letter: str,
    overwrite: bool = False,
) -> int:
    """GPT, one partition as large as it gets, the letter, the file system; returns the bytes that are free then.

    The letter comes before the format, because some Windows versions refuse to format a partition that has no access path
    (windows-storage 2.6). A new partition that begins where an old one began shows the old file system again: that one is
    formatted over only when the disk was wiped for this (`overwrite`), and else is a sign that the disk is not blank.

    Args:
        label: of the volume; one that has it was formatted by an earlier run of this migration.

    Raises: as `host_disks.set_online` and `guest_storage`; Precondition `destination_not_blank` for what no run of ours left.
    """
    lun = set_online(client, selector, hands, writable=True)
    if lun.partition_style == _RAW:
        initialize_disk(client, selector, "GPT", hands, confirm_size_bytes=lun.size_bytes)
    offset = _partition_offset(client, selector)
    if offset is None:
        offset = create_partition(client, selector, hands, size_bytes=None).offset_bytes
    add_access_path(client, selector, hands, offset_bytes=offset, access_path=f"{drive_letter}:\\")
    volume = _volume(client, drive_letter, hands)
    wanted = (file_system.casefold(), allocation_unit, label)
    if _shape_of(volume) != wanted:
        found = text_of(volume, "FileSystem")
        if found and not overwrite:
            raise Precondition(
                "destination_not_blank",
                f"The new partition of the {lun.describe()} shows an old file system ({found}), so that the LUN was not "
                f"blank; look at the volume {drive_letter}:, and clear the LUN with all its data if nobody needs them.",
            )
        _format(client, volume, hands, file_system, allocation_unit, label)
        volume = look_until(
            lambda: _if_shaped(_volume(client, drive_letter, hands), wanted), hands, what=f"Formatting {drive_letter}:"
        )
    free = int_of(volume, "SizeRemaining")
    if free is None:
        raise HypervError(
            "unexpected_answer", f"The host does not tell what the volume {drive_letter}: has free; run again."
        )
    return free


def _format(
    client: CimClient, volume: CimInstance, hands: Hands, file_system: str, allocation_unit: int, label: str
) -> None:
    arguments: dict[str, Value] = {
        "FileSystem": file_system,
        "FileSystemLabel": label,
        "AllocationUnitSize": allocation_unit,
        "Full": False,
    }
    if text_of(volume, "FileSystem"):
        arguments["Force"] = True
    what = f"Formatting the volume {text_of(volume, 'Path')} with {file_system}"
    act(client, row_path(volume), "Format", arguments, hands, what=what, codes=STORAGE_CODES)


def _shape_of(volume: CimInstance) -> tuple[str, int | None, str]:
    return (
        text_of(volume, "FileSystem").casefold(),
        int_of(volume, "AllocationUnitSize"),
        text_of(volume, "FileSystemLabel"),
    )


def _if_shaped(volume: CimInstance, wanted: tuple[str, int, str]) -> CimInstance | None:
    return volume if _shape_of(volume) == wanted else None


def _partition_offset(client: CimClient, selector: DiskSelector) -> int | None:
    """Where the one data partition begins; None when there is none yet."""
    row, lun = read_disk(client, selector)
    data = [item for item in disk_layout(client, row).partitions if item.gpt_type == _BASIC_DATA]
    if len(data) > 1 or lun.partition_style != "GPT":
        raise Precondition(
            "destination_not_blank",
            f"The {lun.describe()} is {lun.partition_style} with {len(data)} data partitions, which no run of this "
            f"collection makes; look what it holds.",
        )
    return data[0].offset_bytes if data else None


def _volume(client: CimClient, letter: str, hands: Hands) -> CimInstance:
    def look() -> CimInstance | None:
        rows = client.query(STORAGE, "MSFT_Volume", with_paths=True)
        return next((row for row in rows if (letter_of(row) or "").upper() == letter.upper()), None)

    return look_until(look, hands, what=f"The volume {letter}:")
