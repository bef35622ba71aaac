# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""The records that an observation of a guest consists of; the rules for them and the words for numbers are in `model`.

Not here: how records are made (`guest`, `guest_disks`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from .model import record_dict

# documentation of Win32_EncryptableVolume
BITLOCKER_PROTECTION: Mapping[int, str] = {0: "off", 1: "on", 2: "unknown"}
BITLOCKER_LOCK: Mapping[int, str] = {0: "unlocked", 1: "locked"}


@dataclass(frozen=True, kw_only=True)
class GuestInfo:
    computer_name: str
    vm_id: str | None
    vm_name: str | None
    physical_host_name: str | None
    os_caption: str
    os_version: str
    os_build: int
    os_family: str
    is_server: bool
    cluster_member: bool
    windows_server_backup: str
    utc: datetime
    ntds_paths: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class IscsiPortal:
    address: str
    port: int | None


@dataclass(frozen=True, kw_only=True)
class IscsiConnection:
    """How a disk is logged in. `portals` are all that the guest's initiator knows: Windows does not tell which one leads to
    which target. `authentication` is Windows' word (NONE, ONEWAYCHAP, MUTUALCHAP; windows-storage 4.1)."""

    target: str
    session: str
    authentication: str | None = None
    portals: tuple[IscsiPortal, ...] = ()


@dataclass(frozen=True, kw_only=True)
class GuestPartition:
    """One entry of a disk's partition table, whether a volume lies on it or not; what a blank replacement disk is given."""

    number: int | None
    offset_bytes: int | None
    size_bytes: int | None
    gpt_type: str | None
    mbr_type: int | None
    guid: str | None
    is_active: bool


@dataclass(frozen=True, kw_only=True)
class BitLocker:
    protection: str
    lock: str


@dataclass(frozen=True, kw_only=True)
class GuestVolume:
    """A volume on a disk of the guest. `path` is None for a data partition without a volume that Windows knows."""

    path: str | None
    letter: str | None
    access_paths: tuple[str, ...]
    label: str
    file_system: str | None
    size_bytes: int | None
    used_bytes: int | None
    serial_number: int | None
    allocation_unit_bytes: int | None
    partition_number: int | None
    offset_bytes: int | None
    is_boot: bool
    is_system: bool
    bitlocker: BitLocker | None

    def root(self) -> str | None:
        r"""Where to look into the volume: `E:\` or a mount folder with a trailing backslash; None when neither is."""
        if self.letter:
            return f"{self.letter}:\\"
        return next((path for path in self.access_paths if path[1:3] == ":\\"), None)


@dataclass(frozen=True, kw_only=True)
class GuestDisk:
    unique_id: str
    unique_id_format: int | None
    serial_number: str
    number: int | None
    friendly_name: str
    manufacturer: str
    model: str
    kind: str
    iscsi: IscsiConnection | None
    size_bytes: int | None
    bus_type: str | None
    scsi_lun: int | None
    partition_style: str | None
    guid: str | None
    signature: int | None
    is_offline: bool
    offline_reason: str | None
    is_read_only: bool
    is_boot: bool
    is_system: bool
    is_clustered: bool
    is_dynamic: bool
    in_storage_pool: bool
    weak_identity: bool
    volumes: tuple[GuestVolume, ...]
    partitions: tuple[GuestPartition, ...] = ()


@dataclass(frozen=True, kw_only=True)
class StoragePool:
    unique_id: str
    name: str
    size_bytes: int | None
    is_clustered: bool
    member_unique_ids: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class IscsiSession:
    session: str
    target: str
    initiator: str
    is_connected: bool
    is_persistent: bool


@dataclass(frozen=True, kw_only=True)
class InitiatorPort:
    node_address: str
    port_address: str


@dataclass(frozen=True, kw_only=True)
class GuestView:
    """One observation of a guest: what `guest_disk_info` returns. The names fit a Linux guest too."""

    guest: GuestInfo
    disks: tuple[GuestDisk, ...]
    storage_pools: tuple[StoragePool, ...]
    iscsi_sessions: tuple[IscsiSession, ...]
    fibre_channel_initiators: tuple[InitiatorPort, ...]
    volumes_without_disk: tuple[GuestVolume, ...] = ()
    problems: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, object]:
        return record_dict(self)


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """One file or folder: evidence that a restore is compared with."""

    name: str
    path: str
    is_directory: bool
    size_bytes: int | None
    created: datetime | None
    modified: datetime | None
    is_hidden: bool
    is_system: bool

    def to_dict(self) -> dict[str, object]:
        return record_dict(self)
