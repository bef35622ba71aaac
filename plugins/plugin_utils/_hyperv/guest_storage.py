# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""Partitions, volumes and access paths of one disk of a Windows machine, and logging in to an iSCSI target again.

A disk is named by identity and found again before each call; partitions are tied to it by the disk's device path and not
by its number (windows-storage 3.1). Nothing that is not blank is initialised or formatted: blank is a disk without
partition table and partitions whose size the caller confirmed, and a volume without file system and without BitLocker.
A RAW partition style alone proves nothing, because a destroyed table looks the same.

Not here: what shall be made (`guest_storage_plan`), online and offline (`host_disks`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .._wsman import CimInstance, CimPath, Value, WsmanFault
from .cim_access import CimClient, any_of, int_of, invoke_checked, query_filtered, text_of, texts_of
from .disk_selector import DiskSelector
from .errors import HypervError, MethodFailed, Precondition
from .guest_disks import drive_letter
from .host_disks import STORAGE_CODES, act_on_disk, bring_online, read_disk, row_path
from .jobs import Hands, act, look_until
from .machine import services_named
from .model import PARTITION_STYLES, Lun
from .schema import BITLOCKER, CIMV2, STORAGE

_HERE = "the machine"
_STYLES: Mapping[str, int] = {"MBR": 1, "GPT": 2}
_IFS = 7  # MBR type of NTFS, ReFS and exFAT (windows-storage 3.1)
_IN_USE = 42002
# windows-storage 1.3 and 4.1
_ISCSI_CODES: Mapping[int, str] = {
    0xEFFF0029: "the target was not found at that portal, or hides from this initiator",
    0xEFFF003E: "the service MSiSCSI is not running",
    0xEFFF003F: "the session exists already",
    0x54F: "internal error",
}
_ISCSI_SERVICE = "MSiSCSI"
_START_CODES: Mapping[int, str] = {2: "access denied", 7: "timeout", 10: "it is running already", 14: "it is disabled"}
_RUNNING_ALREADY = 10


@dataclass(frozen=True, kw_only=True)
class PartitionRow:
    """One partition as it is now; `volume_path` is None for one without a volume."""

    number: int | None
    offset_bytes: int
    size_bytes: int
    gpt_type: str | None
    mbr_type: int | None
    letter: str | None
    access_paths: tuple[str, ...]
    volume_path: str | None
    path: CimPath


def set_disk_online(client: CimClient, selector: DiskSelector, hands: Hands) -> Lun:
    """Bring a disk of a guest online and make it writable.

    Raises: Precondition `lun_in_use` (clustered), `identity_collision`, `redundant_path`; as `select_disk`.
    """
    lun = read_disk(client, selector, where=_HERE)[1]
    if lun.is_clustered:
        raise Precondition("lun_in_use", f"The {lun.describe()} is managed by a cluster, which alone brings it online.")
    return bring_online(client, selector, hands, writable=True, where=_HERE)


# --- Disk -----------------------------------------------------------------------------------------------------------


def initialize_disk(
    client: CimClient, selector: DiskSelector, style: str, hands: Hands, *, confirm_size_bytes: int | None
) -> Lun:
    """Give a blank disk a partition table, `GPT` or `MBR`.

    Args:
        confirm_size_bytes: the disk's size as somebody confirmed it for overwriting.

    Raises: Precondition `not_blank`, `size_not_confirmed`, `lun_in_use`, `disk_offline`.
    """
    row, lun = read_disk(client, selector, where=_HERE)
    if lun.is_boot or lun.is_system or lun.is_clustered:
        raise Precondition("lun_in_use", f"The {lun.describe()} is the machine's own or a cluster's and is left alone.")
    if lun.partition_style != PARTITION_STYLES[0] or (int_of(row, "NumberOfPartitions") or 0) > 0:
        raise Precondition(
            "not_blank",
            f"The {lun.describe()} has a partition table ({lun.partition_style}), and only a blank disk is initialised; "
            f"nothing was written.",
        )
    if confirm_size_bytes is None or confirm_size_bytes != lun.size_bytes:
        raise Precondition(
            "size_not_confirmed",
            f"The {lun.describe()} has {lun.size_bytes} bytes and {confirm_size_bytes or 'no size'} was confirmed. A disk "
            f"without partition table may still hold data: look at it, then set confirm_size_bytes to its size.",
        )
    _check_writable(lun)
    what = f"Initialising the {lun.describe()} as {style}"
    act_on_disk(client, selector, "Initialize", {"PartitionStyle": _STYLES[style]}, hands, what=what, where=_HERE)

    def look() -> Lun | None:
        now = read_disk(client, selector, where=_HERE)[1]
        return now if now.partition_style == style else None

    return look_until(look, hands, what=what)


def set_disk_identity(
    client: CimClient, selector: DiskSelector, hands: Hands, *, guid: str | None = None, signature: int | None = None
) -> None:
    """Give a disk the GPT disk GUID or MBR signature that was recorded of it; the selector must not rest on either."""
    lun = read_disk(client, selector, where=_HERE)[1]
    arguments: dict[str, Value] = {}
    if guid and lun.partition_style == "GPT" and (lun.guid or "").strip("{}").casefold() != guid.strip("{}").casefold():
        arguments["Guid"] = "{" + guid.strip("{}").lower() + "}"
    if signature and lun.partition_style == "MBR" and lun.signature != signature:
        arguments["Signature"] = signature
    if arguments:
        what = f"Giving the {lun.describe()} its recorded disk identity"
        act_on_disk(client, selector, "SetAttributes", arguments, hands, what=what, where=_HERE)


def _check_writable(lun: Lun) -> None:
    if lun.is_offline or lun.is_read_only:
        raise Precondition(
            "disk_offline",
            f"The {lun.describe()} is {'offline' if lun.is_offline else 'read-only'}; bring it online and writable first.",
        )


# --- Partitions -------------------------------------------------------------------------------------------------------


def partitions_of(client: CimClient, selector: DiskSelector) -> tuple[PartitionRow, ...]:
    """The partitions of a disk, by offset."""
    row, lun = read_disk(client, selector, where=_HERE)
    if lun.number is None:
        return ()
    device = text_of(row, "Path").casefold()
    rows = client.query(STORAGE, "MSFT_Partition", where=f"DiskNumber = {lun.number}", with_paths=True)
    found = [_partition(one) for one in rows if not device or text_of(one, "DiskId").casefold() in ("", device)]
    return tuple(sorted(found, key=lambda one: one.offset_bytes))


def _partition(row: CimInstance) -> PartitionRow:
    paths = texts_of(row, "AccessPaths")
    return PartitionRow(
        number=int_of(row, "PartitionNumber"),
        offset_bytes=int_of(row, "Offset") or 0,
        size_bytes=int_of(row, "Size") or 0,
        gpt_type=text_of(row, "GptType").lower() or None,
        mbr_type=int_of(row, "MbrType") or None,
        letter=drive_letter(row),
        access_paths=tuple(path for path in paths if not _is_volume(path)),
        volume_path=next(filter(_is_volume, paths), None),
        path=row_path(row),
    )


def _is_volume(path: str) -> bool:
    return path.casefold().startswith("\\\\?\\volume{")


def partition_at(client: CimClient, selector: DiskSelector, offset_bytes: int) -> PartitionRow:
    """Raises: HypervError `unknown_partition`."""
    found = next((one for one in partitions_of(client, selector) if one.offset_bytes == offset_bytes), None)
    if found is None:
        raise HypervError("unknown_partition", f"{selector.describe()} has no partition at offset {offset_bytes}.")
    return found


def create_partition(
    client: CimClient,
    selector: DiskSelector,
    hands: Hands,
    *,
    size_bytes: int | None,
    offset_bytes: int | None = None,
    gpt_type: str | None = None,
    mbr_type: int | None = None,
    is_active: bool = False,
) -> PartitionRow:
    """Make a partition without drive letter in free space; without size as large as possible.

    One that is there at the wanted offset with the wanted size is returned as it is. What was made is found by its offset,
    which no partition had before.

    Raises: MethodFailed (40000 not enough free space), HypervError `not_observed`; Precondition `disk_offline`.
    """
    lun = read_disk(client, selector, where=_HERE)[1]
    _check_writable(lun)
    before = partitions_of(client, selector)
    for one in before:
        if offset_bytes is not None and one.offset_bytes == offset_bytes and one.size_bytes == size_bytes:
            return one
    arguments: dict[str, Value] = {"UseMaximumSize": True} if size_bytes is None else {"Size": size_bytes}
    if offset_bytes is not None:
        arguments["Offset"] = offset_bytes
    if lun.partition_style == "MBR":
        arguments |= {"MbrType": mbr_type or _IFS, "IsActive": is_active}
    elif gpt_type:
        arguments["GptType"] = gpt_type
    what = f"Making a partition on the {lun.describe()}"
    act_on_disk(client, selector, "CreatePartition", arguments, hands, what=what, where=_HERE)
    known = {one.offset_bytes for one in before}

    def look() -> PartitionRow | None:
        return next((one for one in partitions_of(client, selector) if one.offset_bytes not in known), None)

    return look_until(look, hands, what=what)


def delete_partition(
    client: CimClient, selector: DiskSelector, hands: Hands, *, offset_bytes: int, only_type: str
) -> None:
    """Delete the partition at an offset, if it is of that GPT type; nothing else is ever deleted.

    Raises: MethodFailed; HypervError `unknown_partition`, `not_observed`.
    """
    partition = partition_at(client, selector, offset_bytes)
    if partition.gpt_type != only_type:
        raise HypervError(
            "not_blank", f"The partition at {offset_bytes} of {selector.describe()} is of type {partition.gpt_type}."
        )
    what = f"Deleting the reserved partition at {offset_bytes} of {selector.describe()}"
    act(client, partition.path, "DeleteObject", {}, hands, what=what, codes=STORAGE_CODES)

    def look() -> bool | None:
        return True if all(one.offset_bytes != offset_bytes for one in partitions_of(client, selector)) else None

    look_until(look, hands, what=what)


# --- Volumes ----------------------------------------------------------------------------------------------------------


def _volume_of(client: CimClient, selector: DiskSelector, offset_bytes: int) -> CimInstance | None:
    partition = partition_at(client, selector, offset_bytes)
    if partition.volume_path is None:
        return None
    wanted = partition.volume_path.rstrip("\\").casefold()
    rows = client.query(STORAGE, "MSFT_Volume", with_paths=True)
    return next((row for row in rows if text_of(row, "Path").rstrip("\\").casefold() == wanted), None)


def format_volume(
    client: CimClient,
    selector: DiskSelector,
    hands: Hands,
    *,
    offset_bytes: int,
    file_system: str,
    label: str = "",
    allocation_unit_bytes: int | None = None,
) -> str:
    """Quick-format the volume of the partition at an offset; the volume's path.

    Give the partition an access path first: some Windows versions refuse to format without one (windows-storage 2.6).

    Raises: Precondition `not_blank`: a file system or BitLocker is there; MethodFailed; HypervError `not_observed`.
    """
    what = f"Formatting the volume at offset {offset_bytes} of {selector.describe()}"
    volume = look_until(lambda: _volume_of(client, selector, offset_bytes), hands, what=what)
    path = text_of(volume, "Path")
    if text_of(volume, "FileSystem") or _has_bitlocker(client, path):
        raise Precondition(
            "not_blank",
            f"The volume {path} has {text_of(volume, 'FileSystem') or 'BitLocker'} on it, and only an empty one is "
            f"formatted; nothing was written.",
        )
    arguments: dict[str, Value] = {"FileSystem": file_system, "Full": False}
    if label:
        arguments["FileSystemLabel"] = label
    if allocation_unit_bytes:
        arguments["AllocationUnitSize"] = allocation_unit_bytes
    hands.progress(f"{what} with {file_system}")
    act(client, row_path(volume), "Format", arguments, hands, what=what, codes=STORAGE_CODES)

    def look() -> str | None:
        now = _volume_of(client, selector, offset_bytes)
        return path if now is not None and text_of(now, "FileSystem").casefold() == file_system.casefold() else None

    return look_until(look, hands, what=what)


def _has_bitlocker(client: CimClient, path: str) -> bool:
    """A locked volume shows no file system; a machine without BitLocker has no such class."""
    try:
        rows = client.query(BITLOCKER, "Win32_EncryptableVolume")
    except WsmanFault as fault:
        if fault.is_passing:
            raise
        return False
    wanted = path.rstrip("\\").casefold()
    return any(
        text_of(row, "DeviceID").rstrip("\\").casefold() == wanted and int_of(row, "ProtectionStatus") != 0
        for row in rows
    )


# --- Letters and mount folders --------------------------------------------------------------------------------------


def _spelled(access_path: str) -> str:
    return access_path if access_path.endswith("\\") else f"{access_path}\\"


def holder_of(client: CimClient, access_path: str) -> str | None:
    """The volume path that a letter or mount folder leads to now; None when it is free."""
    wanted = _spelled(access_path).casefold()
    for row in client.query(CIMV2, "Win32_Volume"):
        names = [text_of(row, "Name"), text_of(row, "DriveLetter")]
        if any(name and _spelled(name).casefold() == wanted for name in names):
            return text_of(row, "DeviceID") or text_of(row, "Name")
    return None


def add_access_path(
    client: CimClient, selector: DiskSelector, hands: Hands, *, offset_bytes: int, access_path: str
) -> bool:
    r"""Give a partition a drive letter (`E:\`) or mount folder; whether it had not got it already.

    Raises: Precondition `letter_taken`, with who has it; MethodFailed (42007: the folder is not an empty NTFS folder).
    """
    access_path = _spelled(access_path)
    partition = partition_at(client, selector, offset_bytes)
    if _has_path(partition, access_path):
        return False
    holder = holder_of(client, access_path)
    if holder is not None:
        raise _taken(access_path, holder)
    what = f"Giving {selector.describe()} the path {access_path}"
    try:
        arguments = {"AccessPath": access_path}
        act(client, partition.path, "AddAccessPath", arguments, hands, what=what, codes=STORAGE_CODES)
    except MethodFailed as error:
        if error.details.get("code") == _IN_USE:
            raise _taken(access_path, "another volume") from error
        raise

    def look() -> bool | None:
        return True if _has_path(partition_at(client, selector, offset_bytes), access_path) else None

    return look_until(look, hands, what=what)


def remove_access_path(
    client: CimClient, selector: DiskSelector, hands: Hands, *, offset_bytes: int, access_path: str
) -> bool:
    """Take a drive letter or mount folder away from a partition; whether it had it."""
    access_path = _spelled(access_path)
    partition = partition_at(client, selector, offset_bytes)
    if not _has_path(partition, access_path):
        return False
    what = f"Taking the path {access_path} from {selector.describe()}"
    act(client, partition.path, "RemoveAccessPath", {"AccessPath": access_path}, hands, what=what, codes=STORAGE_CODES)

    def look() -> bool | None:
        return None if _has_path(partition_at(client, selector, offset_bytes), access_path) else True

    return look_until(look, hands, what=what)


def _has_path(partition: PartitionRow, access_path: str) -> bool:
    wanted = access_path.casefold()
    by_letter = partition.letter is not None and f"{partition.letter}:\\".casefold() == wanted
    return by_letter or any(_spelled(path).casefold() == wanted for path in partition.access_paths)


def _taken(access_path: str, holder: str) -> Precondition:
    return Precondition(
        "letter_taken",
        f"{access_path} leads to {holder} already; give that volume another letter first, or record another one.",
        {"access_path": access_path, "holder": holder},
    )


# --- iSCSI ------------------------------------------------------------------------------------------------------------


def is_connected(client: CimClient, target: str) -> bool:
    """Whether the initiator has a session with a target; without its service it has none."""
    service = services_named(client, [_ISCSI_SERVICE]).get(_ISCSI_SERVICE.lower())
    if service is None or service.state.casefold() != "running":
        return False
    rows = client.query(STORAGE, "MSFT_iSCSISession")
    return any(
        text_of(row, "TargetNodeAddress").casefold() == target.casefold() and row.get("IsConnected") is True
        for row in rows
    )


def connect_iscsi(
    client: CimClient,
    hands: Hands,
    *,
    target: str,
    portal: str,
    port: int = 3260,
    chap_user: str | None = None,
    chap_secret: str | None = None,
) -> bool:
    """Log in to a target for good, through a portal that is made known first; whether there was no session before.

    The disk of a new session appears some seconds later (windows-storage 4.1).

    Raises: Precondition `iscsi_unavailable`; HypervError `iscsi_login_failed`, `not_observed`; MethodFailed of the portal.
    """
    if is_connected(client, target):
        return False
    _start_initiator(client, hands)
    known = {
        (text_of(row, "TargetPortalAddress").casefold(), int_of(row, "TargetPortalPortNumber"))
        for row in client.query(STORAGE, "MSFT_iSCSITargetPortal")
    }
    where: dict[str, Value] = {"TargetPortalAddress": portal, "TargetPortalPortNumber": port}
    login: dict[str, Value] = {}
    if chap_user and chap_secret:
        login = {"AuthenticationType": "ONEWAYCHAP", "ChapUsername": chap_user, "ChapSecret": chap_secret}
    if (portal.casefold(), port) not in known:
        what = f"Making the iSCSI portal {portal}:{port} known"
        act(
            client,
            CimPath(STORAGE, "MSFT_iSCSITargetPortal"),
            "New",
            where,
            hands,
            what=what,
            codes=_ISCSI_CODES,
        )
    what = f"Logging in to the iSCSI target {target}"
    try:
        act(
            client,
            CimPath(STORAGE, "MSFT_iSCSITarget"),
            "Connect",
            {"NodeAddress": target, **where, **login, "IsPersistent": True},
            hands,
            what=what,
            codes=_ISCSI_CODES,
        )
    except (WsmanFault, MethodFailed) as error:
        raise HypervError(
            "iscsi_login_failed",
            f"{what} at {portal}:{port} failed ({str(error).rstrip('.')}); check the target's name, its portal, what the array "
            f"allows this initiator, and user and secret of CHAP.",
        ) from error
    return look_until(lambda: True if is_connected(client, target) else None, hands, what=what)


def _start_initiator(client: CimClient, hands: Hands) -> None:
    service = services_named(client, [_ISCSI_SERVICE]).get(_ISCSI_SERVICE.lower())
    if service is None:
        raise Precondition("iscsi_unavailable", f"The machine has no service {_ISCSI_SERVICE}; install the initiator.")
    if service.state.casefold() == "running":
        return
    hands.should_stop()
    invoke_checked(
        client,
        CimPath(CIMV2, "Win32_Service", {"Name": service.name}),
        "StartService",
        {},
        what=f"Starting the service {service.name}",
        codes=_START_CODES,
        accept=(0, _RUNNING_ALREADY),
    )

    def look() -> bool | None:
        now = query_filtered(client, CIMV2, "Win32_Service", any_of("Name", [service.name]))
        return True if any(text_of(row, "State").casefold() == "running" for row in now) else None

    look_until(look, hands, what=f"Starting the service {service.name}")
