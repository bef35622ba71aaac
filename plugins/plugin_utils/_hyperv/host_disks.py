# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""The LUNs of a Hyper-V host one by one: read by identity, offline, online, read-only, rescan, and the drive that VMs get.

Every change reads the disk again right before the call and once more afterwards. The selector that a method gets is
the ObjectId of that moment, which holds the device's path: a disk that was swapped meanwhile has another one, so that
the call meets nothing (windows-storage 1.5).

Not here: which disk is meant (`disk_selector`), VMs (`passthrough`), partitions and volumes (`guest_storage`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .._wsman import CimInstance, CimPath, Value
from .cim_access import CimClient, int_of, text_of
from .disk_selector import DiskSelector, select_disk
from .errors import HypervError, Precondition
from .host import observe_host
from .host_topology import build_luns
from .jobs import Hands, act, look_until
from .model import Lun, record_dict
from .schema import STORAGE, VIRTUALIZATION

# windows-storage 2.4
STORAGE_CODES: Mapping[int, str] = {
    1: "not supported",
    2: "unspecified error",
    3: "timeout",
    4: "failed",
    5: "invalid parameter",
    6: "in use",
    4096: "job started",
    4097: "size not supported",
    40000: "not enough free space",
    40001: "access denied",
    40002: "insufficient resources",
    40003: "cache out of date",
    40004: "I/O error",
    40005: "give exactly one of size and maximum size",
    41000: "the disk is not initialised",
    41001: "the disk is initialised already",
    41002: "the disk is read-only",
    41003: "the disk is offline",
    41004: "partition limit reached",
    41005: "alignment is no multiple of the sector size",
    41006: "parameter not for this partition style",
    41007: "OEM partitions present",
    41008: "data partitions present",
    41009: "not allowed on a critical disk",
    41010: "partition type invalid",
    41011: "only the first 2 TB are usable",
    41012: "offset invalid",
    41014: "too small for GPT",
    41015: "no medium",
    41016: "offset invalid",
    41017: "layout invalid",
    41018: "managed by a cluster",
    41019: "must first be removed from the cluster",
    42002: "access path in use",
    42004: "a hidden partition cannot get an access path",
    42005: "a volume GUID path cannot be removed",
    42007: "access path invalid",
    43000: "cluster size invalid",
    43001: "file system not supported",
    43005: "cluster size is no multiple of the sector size",
    43006: "the volume is write-protected",
}
CACHE_OUT_OF_DATE = 40003

_SETTING = CimPath(STORAGE, "MSFT_StorageSetting")
_HERE = "the host"
# Bringing such a disk online writes a new identity to it, or mounts a second path (windows-storage 6.4)
_NEVER_ONLINE: Mapping[str, tuple[str, str]] = {
    "Collision": (
        "identity_collision",
        "Windows holds it offline because another disk has the same disk GUID or signature, and bringing it online "
        "would write a new identity to it; take the other disk offline or away first",
    ),
    "Redundant Path": (
        "redundant_path",
        "Windows holds it offline because it is a second path to a disk that is online; repair multipathing first",
    ),
}


def disk_rows(client: CimClient) -> list[CimInstance]:
    """All MSFT_Disk rows, with the paths that Windows gives for calling them (windows-storage 9)."""
    return client.query(STORAGE, "MSFT_Disk", with_paths=True)


def row_path(row: CimInstance) -> CimPath:
    """Where a storage object is called: the path that came with it, else its ObjectId."""
    return row.path or CimPath(row.namespace, row.class_name, {"ObjectId": text_of(row, "ObjectId")})


def observe_luns(client: CimClient) -> tuple[Lun, ...]:
    """All LUNs of the host, with every VM that has one."""
    return observe_host(client, vms=()).luns


def read_disk(client: CimClient, selector: DiskSelector, *, where: str = _HERE) -> tuple[CimInstance, Lun]:
    """The row and the record of the disk that is meant, read now.

    Raises: as `select_disk`.
    """
    rows = disk_rows(client)
    luns = build_luns(rows, {})
    chosen = select_disk([record_dict(lun) for lun in luns], selector, where=where)
    lun = next(lun for lun in luns if lun.object_id == chosen["object_id"] and lun.number == chosen["number"])
    row = next(row for row in rows if text_of(row, "ObjectId") == lun.object_id and int_of(row, "Number") == lun.number)
    return row, lun


def read_lun(client: CimClient, selector: DiskSelector) -> Lun:
    """The LUN that is meant, as it is now; which VMs have it is not told (`observe_luns` tells).

    Raises: as `select_disk`: `unknown_disk`, `ambiguous_disk`, `weak_identity`, `disk_changed`, `disk_number_given`.
    """
    return read_disk(client, selector)[1]


def disk_path(client: CimClient, selector: DiskSelector, *, where: str = _HERE) -> CimPath:
    """The path for a method of MSFT_Disk, right before it is called."""
    return row_path(read_disk(client, selector, where=where)[0])


def rescan(client: CimClient, hands: Hands) -> None:
    """Let Windows look at its storage again; a bus is not always asked at once (windows-storage 3.7)."""
    act(client, _SETTING, "UpdateHostStorageCache", {}, hands, what="Rescanning the storage", codes=STORAGE_CODES)


def act_on_disk(
    client: CimClient,
    selector: DiskSelector,
    method: str,
    arguments: Mapping[str, Value],
    hands: Hands,
    *,
    what: str,
    where: str = _HERE,
) -> None:
    """Call a method of MSFT_Disk on the disk that is meant, found again right before; once more after a stale cache.

    A lost reply is no error here: the caller reads the disk back in any case.
    """
    for attempt in (1, 2):
        result = act(
            client,
            disk_path(client, selector, where=where),
            method,
            arguments,
            hands,
            what=what,
            codes=STORAGE_CODES,
            accept=(0, CACHE_OUT_OF_DATE) if attempt == 1 else (0,),
        )
        if result is None or result.return_value != CACHE_OUT_OF_DATE:
            return
        rescan(client, hands)


def set_offline(client: CimClient, selector: DiskSelector, hands: Hands) -> Lun:
    """Take a LUN offline on the host, so that a VM may have it.

    Raises: Precondition `lun_in_use` for what the host itself or a cluster needs.
    """
    lun = read_lun(client, selector)
    if lun.is_offline:
        return lun
    if lun.is_boot or lun.is_system or lun.is_clustered:
        why = "a cluster manages it" if lun.is_clustered else "the host boots from it"
        raise Precondition("lun_in_use", f"The {lun.describe()} cannot be taken offline: {why}.")
    what = f"Taking the {lun.describe()} offline"
    act_on_disk(client, selector, "Offline", {}, hands, what=what)
    return look_until(lambda: _if(read_lun(client, selector), lambda now: now.is_offline), hands, what=what)


def set_online(client: CimClient, selector: DiskSelector, hands: Hands, *, writable: bool = False) -> Lun:
    """Bring a LUN online on the host, after Windows' own read-only mark is taken off when it shall be writable.

    The mark goes first: a read-only disk may refuse to come online (windows-storage 6.4).

    Raises: Precondition `lun_attached` (a VM has it), `lun_in_use` (clustered), `identity_collision`, `redundant_path`.
    """
    lun = read_lun(client, selector)
    if lun.is_clustered:
        raise Precondition("lun_in_use", f"The {lun.describe()} is managed by a cluster, which alone brings it online.")
    if lun.is_offline:
        refuse_attached(client, lun)
        refuse_collision(lun.is_offline, lun.offline_reason, lun.describe())
    return bring_online(client, selector, hands, writable=writable)


def bring_online(client: CimClient, selector: DiskSelector, hands: Hands, *, writable: bool, where: str = _HERE) -> Lun:
    """What `set_online` does when nothing stands in the way; also for a disk of a guest."""
    lun = read_disk(client, selector, where=where)[1]
    refuse_collision(lun.is_offline, lun.offline_reason, lun.describe())
    if writable and lun.is_read_only:
        set_read_only(client, selector, False, hands, where=where)
    if lun.is_offline:
        what = f"Bringing the {lun.describe()} online"
        act_on_disk(client, selector, "Online", {}, hands, what=what, where=where)
        look_until(
            lambda: _if(read_disk(client, selector, where=where)[1], lambda now: not now.is_offline), hands, what=what
        )
    lun = read_disk(client, selector, where=where)[1]
    # Online leaves the mark as it was, and some Windows versions set it again (windows-storage 6.2)
    return set_read_only(client, selector, False, hands, where=where) if writable and lun.is_read_only else lun


def set_read_only(
    client: CimClient, selector: DiskSelector, read_only: bool, hands: Hands, *, where: str = _HERE
) -> Lun:
    """Set or clear Windows' read-only mark of a disk; nothing on the disk is written."""
    lun = read_disk(client, selector, where=where)[1]
    if lun.is_read_only == read_only:
        return lun
    what = f"Making the {lun.describe()} {'read-only' if read_only else 'writable'}"
    act_on_disk(client, selector, "SetAttributes", {"IsReadOnly": read_only}, hands, what=what, where=where)

    def look() -> Lun | None:
        return _if(read_disk(client, selector, where=where)[1], lambda now: now.is_read_only == read_only)

    return look_until(look, hands, what=what)


def refuse_collision(is_offline: bool, reason: str | None, described: str) -> None:
    """Raises Precondition for a disk that must never be brought online as it is."""
    kind, sentence = _NEVER_ONLINE.get(reason or "", ("", "")) if is_offline else ("", "")
    if kind:
        raise Precondition(kind, f"The {described} is not brought online: {sentence}.")


def refuse_attached(client: CimClient, lun: Lun) -> None:
    """Raises Precondition `lun_attached` when a VM has that LUN."""
    for one in observe_luns(client):
        if one.number == lun.number and one.attached_to:
            users = ", ".join(f"VM {user.vm_name or user.vm_id} at {user.slot.describe()}" for user in one.attached_to)
            raise Precondition(
                "lun_attached",
                f"The {lun.describe()} is attached to {users}, and while it is the host must not use it; detach it first.",
                {"attached_to": [record_dict(user) for user in one.attached_to]},
            )


def host_drive(client: CimClient, selector: DiskSelector, hands: Hands) -> tuple[CimPath, Lun]:
    """The Msvm_DiskDrive that stands for an offline LUN, and the LUN, proven to be the same disk after reading both.

    Hyper-V shows the drive a moment after the disk went offline (hyperv-wmi 3.1).

    Raises: Precondition `lun_online`; HypervError `not_observed`, `disk_renumbered`.
    """
    lun = read_lun(client, selector)
    if lun.number is None:
        raise Precondition("lun_in_use", f"The {lun.describe()} is owned by another node of the cluster.")
    if not lun.is_offline:
        raise Precondition(
            "lun_online",
            f"The {lun.describe()} is online on the host, and while it is no VM may have it; take it offline first.",
        )
    number = lun.number

    def look() -> CimInstance | None:
        rows = client.query(VIRTUALIZATION, "Msvm_DiskDrive", where=f"DriveNumber = {number}")
        return next((row for row in rows if int_of(row, "DriveNumber") == number), None)

    row = look_until(look, hands, what=f"The drive of the {lun.describe()} in Hyper-V")
    again = read_lun(client, selector)
    if again.number != number or not again.is_offline:
        raise HypervError(
            "disk_renumbered",
            f"The {lun.describe()} had disk number {number} and has {again.number} now"
            f"{'' if again.is_offline else ' and is online'}: the host's disks changed while they were looked at. Nothing "
            f"was attached; run again.",
        )
    keys = ("CreationClassName", "DeviceID", "SystemCreationClassName", "SystemName")
    return CimPath(VIRTUALIZATION, "Msvm_DiskDrive", {name: text_of(row, name) for name in keys}), again


def _if(lun: Lun, holds: Callable[[Lun], bool]) -> Lun | None:
    return lun if holds(lun) else None
