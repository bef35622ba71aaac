# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""What identifies a disk: MSFT_Disk rows cleaned of duplicates and padding, weak identities, and a VHD's identities.

Host and guest share these rules, because their answers are compared with each other (windows-storage 2, 4.3).

Not here: attaching disks to VMs (`host`), classifying a guest's disks (`guest`), comparing both sides (`_backup`).
"""

from __future__ import annotations

import re
import uuid
from collections import Counter
from collections.abc import Iterable, Sequence

from .._wsman import CimInstance
from .cim_access import int_of, trimmed_text_of

_VENDOR_SPECIFIC = 0  # UniqueIdFormat: the text is a PnP id and holds the machine's name (windows-storage 2.2)
_NAA_PREFIX = "60022480"  # windows-storage 4.3: Microsoft's OUI as the virtual disk's NAA name begins
_T10_PREFIX = b"MSFT    ".hex().upper()
_LUN_AT_END = re.compile(r"\bLUN (\d+)\s*\Z")


def identity_key(unique_id: str) -> str:
    """Two UniqueIds that differ only in letter case or padding are one."""
    return unique_id.strip().casefold()


def distinct_disks(rows: Sequence[CimInstance]) -> list[CimInstance]:
    """MSFT_Disk rows without the copies that a cluster node shows of other nodes' disks.

    A clustered disk is listed once per node and only the row of this node has a Number (windows-storage 3.4). A disk
    that has no row with a number stays, once: it is there, but owned by another node.
    """
    numbered = {identity_key(trimmed_text_of(row, "UniqueId")) for row in rows if int_of(row, "Number") is not None}
    kept: list[CimInstance] = []
    elsewhere: set[str] = set()
    for row in rows:
        key = identity_key(trimmed_text_of(row, "UniqueId"))
        if int_of(row, "Number") is None:
            if key and (key in numbered or key in elsewhere):
                continue
            elsewhere.add(key)
        kept.append(row)
    return kept


def repeated_unique_ids(rows: Iterable[CimInstance]) -> frozenset[str]:
    """Keys of UniqueIds that more than one disk claims (clones, or a LUN seen twice without multipathing)."""
    counts = Counter(identity_key(trimmed_text_of(row, "UniqueId")) for row in rows)
    return frozenset(key for key, count in counts.items() if count > 1)


def is_weak_identity(unique_id: str, unique_id_format: int | None, repeated: frozenset[str]) -> bool:
    """Whether a UniqueId alone must not decide anything: empty, not global, or claimed by several disks."""
    return not unique_id or unique_id_format in (None, _VENDOR_SPECIFIC) or identity_key(unique_id) in repeated


def disk_guid(row: CimInstance) -> str | None:
    """The GPT disk GUID, lower case with braces; None when there is none."""
    return trimmed_text_of(row, "Guid").lower() or None


def scsi_lun(location: str) -> int | None:
    """The trailing `LUN n` of MSFT_Disk.Location; all the rest of that text varies (windows-storage 9)."""
    match = _LUN_AT_END.search(location)
    return int(match[1]) if match else None


def vhd_unique_ids(virtual_disk_id: str) -> tuple[str, ...]:
    """UniqueIds under which a guest may see the VHD with this VirtualDiskId (windows-storage 4.3).

    NAA (format 3) and T10 (format 1), each for both byte orders of the GUID: which one Windows uses is unproven.
    Two copies of one VHD share all of them. Empty for text that is no GUID.
    """
    try:
        guid = uuid.UUID(virtual_disk_id.strip().strip("{}"))
    except ValueError:
        return ()
    found: list[str] = []
    for stored in (guid.bytes_le, guid.bytes):
        found.append(_NAA_PREFIX + stored[:6].hex().upper() + stored[-6:].hex().upper())
        found.append(_T10_PREFIX + stored.hex().upper())
    return tuple(dict.fromkeys(found))
