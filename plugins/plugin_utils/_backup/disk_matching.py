# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""Which disk of a guest is which disk that its host attaches.

Responsible for pairing the two views by identity, and for saying why a disk that looks alike was not taken. Not for
what follows from it (`coverage.py`). Disk numbers, places and sizes alone never pair anything (windows-storage 4.3).
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .._hyperv.disk_identity import identity_key, vhd_unique_ids

View = Mapping[str, Any]

# Attachments that the VSS writer leaves out of a host backup (backup-engines 1.11; design section 1).
LEFT_OUT = frozenset({"pass_through", "unresolved_pass_through", "shared_virtual_hard_disk"})
# Guest disks that are made of files or of other disks, so that no host disk is their counterpart.
DERIVED_KINDS = frozenset({"storage_space", "mounted_virtual_hard_disk"})


@dataclasses.dataclass(frozen=True)
class Pair:
    guest: int
    how: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Matches:
    """Host index -> guest disk, and why a disk that looks alike was not taken.

    `lookalikes` (host index -> guest disk) share a UniqueId that proves nothing: surely one line for people, never a pair.
    """

    pairs: dict[int, Pair]
    lookalikes: dict[int, int]
    trouble: dict[int, str]
    guest_trouble: dict[int, str]


def match_disks(hosts: Sequence[View], guests: Sequence[View]) -> Matches:
    """Pair host disks with guest disks by identity, never by number or place (windows-storage 4.3).

    Tried in this order, each time only where exactly one disk on either side has the identity: UniqueId (for a virtual
    hard disk the one made of its disk id), UniqueId with the partition table's identity, the partition table's identity
    with the size. A weak or duplicate UniqueId alone never pairs anything.
    """
    pairs: dict[int, Pair] = {}
    trouble: dict[int, str] = {}
    guest_trouble: dict[int, str] = {}
    candidates = [index for index, disk in enumerate(guests) if disk.get("kind") not in DERIVED_KINDS]
    ways: tuple[tuple[str, Callable[[View], frozenset[str]], Callable[[View], frozenset[str]]], ...] = (
        ("UniqueId", host_unique_ids, _guest_strong),
        ("UniqueId and partition table", _host_both, _guest_both),
        ("partition table and size", _host_second, _guest_second),
    )
    for how, host_ids, guest_ids in ways:
        left = [(index, host_ids(disk)) for index, disk in enumerate(hosts)]
        right = [(index, guest_ids(guests[index])) for index in candidates]
        host_count = Counter(text for _index, ids in left for text in ids)
        guest_count = Counter(text for _index, ids in right for text in ids)
        taken = {pair.guest for pair in pairs.values()}
        for index, ids in left:
            if index in pairs:
                continue
            found = [(other, ids & others) for other, others in right if other not in taken and ids & others]
            unique = [
                (other, shared)
                for other, shared in found
                if any(host_count[text] == 1 and guest_count[text] == 1 for text in shared)
            ]
            if len(unique) == 1 and len(found) == 1:
                pairs[index] = Pair(unique[0][0], how)
                taken.add(unique[0][0])
            elif found and index not in trouble:
                trouble[index] = (
                    f"several disks have the same identity ({how}), so that it is not certain which one this is; "
                    "give each disk its own partition table identity"
                )
                for other, _shared in found:
                    guest_trouble.setdefault(other, trouble[index])
    taken = {pair.guest for pair in pairs.values()}
    lookalikes = _lookalikes(hosts, guests, pairs, [other for other in candidates if other not in taken])
    for index, other in lookalikes.items():
        if index not in trouble:
            trouble[index] = _WEAK
            guest_trouble.setdefault(other, _WEAK)
    alone = [index for index, disk in enumerate(hosts) if index not in pairs and disk.get("attachment") in LEFT_OUT]
    for other in candidates:
        if other not in taken and alone and guests[other].get("kind") in ("pass_through", "unknown"):
            guest_trouble.setdefault(
                other,
                "the guest sees a disk of the storage array that is not one of those the host says it attaches; "
                "compare both views and attach the disk again by its UniqueId",
            )
    return Matches(
        pairs=pairs,
        lookalikes=lookalikes,
        trouble={
            **{index: text for index, text in trouble.items() if index not in pairs},
            **_contradictions(hosts, guests, pairs),
        },
        guest_trouble={index: text for index, text in guest_trouble.items() if index not in taken},
    )


_WEAK = (
    "host and guest show the same UniqueId, but it is a weak identity and no partition table that both see confirms it; "
    "initialise the disk in the guest and rescan both sides, or accept it by name"
)


def _lookalikes(
    hosts: Sequence[View], guests: Sequence[View], pairs: Mapping[int, Pair], candidates: Sequence[int]
) -> dict[int, int]:
    """One unpaired disk on either side with the same UniqueId."""
    left = {index: key for index, disk in enumerate(hosts) if index not in pairs for key in _own_id(disk)}
    right = {other: key for other in candidates for key in fold(guests[other].get("unique_id"))}
    once = {key for key, count in Counter(left.values()).items() if count == 1}
    once &= {key for key, count in Counter(right.values()).items() if count == 1}
    by_key = {key: other for other, key in right.items() if key in once}
    return {index: by_key[key] for index, key in left.items() if key in once}


def _own_id(disk: View) -> set[str]:
    return fold(first(disk.get("unique_id"), (disk.get("lun") or {}).get("unique_id")))


def _contradictions(hosts: Sequence[View], guests: Sequence[View], pairs: Mapping[int, Pair]) -> dict[int, str]:
    """Disks whose UniqueId says one thing and whose partition table says another disk of the same guest."""
    found = {}
    for index, pair in pairs.items():
        mine = table_identity(hosts[index].get("lun") or {})
        if not mine or mine & table_identity(guests[pair.guest]):
            continue  # a host that cached an old partition table disagrees with nobody
        if any(mine & table_identity(disk) for other, disk in enumerate(guests) if other != pair.guest):
            found[index] = (
                "by its UniqueId it is one disk of the guest, by its partition table another one; "
                "rescan the disks on host and guest"
            )
    return found


def host_unique_ids(disk: View) -> frozenset[str]:
    lun = disk.get("lun") or {}
    vhd = disk.get("vhd") or {}
    ids = {identity_key(text) for text in (*vhd_unique_ids(str(vhd.get("id") or "")), *(vhd.get("unique_ids") or ()))}
    weak = bool(lun.get("weak_identity")) or lun.get("unique_id_format") == 0
    if not weak:
        ids.update(fold(disk.get("unique_id")), fold(lun.get("unique_id")))
    return frozenset(ids)


def _guest_strong(disk: View) -> frozenset[str]:
    if disk.get("weak_identity") or disk.get("unique_id_format") == 0:
        return frozenset()
    return frozenset(fold(disk.get("unique_id")))


def _host_both(disk: View) -> frozenset[str]:
    lun = disk.get("lun") or {}
    return frozenset(f"{a}|{b}" for a in fold(lun.get("unique_id")) for b in table_identity(lun))


def _guest_both(disk: View) -> frozenset[str]:
    return frozenset(f"{a}|{b}" for a in fold(disk.get("unique_id")) for b in table_identity(disk))


def _host_second(disk: View) -> frozenset[str]:
    lun = disk.get("lun") or {}
    size = first(disk.get("size_bytes"), lun.get("size_bytes"))
    return frozenset(f"{text}|{size}" for text in table_identity(lun))


def _guest_second(disk: View) -> frozenset[str]:
    return frozenset(f"{text}|{disk.get('size_bytes')}" for text in table_identity(disk))


def table_identity(disk: View) -> frozenset[str]:
    """The GPT disk GUID or the MBR signature, as comparable text; nothing for a disk without a partition table."""
    if guid_text(disk.get("guid")):
        return frozenset({f"gpt:{guid_text(disk.get('guid'))}"})
    signature = disk.get("signature")
    if isinstance(signature, int) and signature:
        return frozenset({f"mbr:{signature & 0xFFFFFFFF:08x}"})
    return frozenset()


def fold(text: object) -> set[str]:
    return {identity_key(str(text))} if text not in (None, "") else set()


def guid_text(text: object) -> str:
    return str(text or "").strip().strip("{}").casefold()


def first(*values: Any) -> Any:
    """The first value that says something."""
    return next((value for value in values if value not in (None, "")), None)
