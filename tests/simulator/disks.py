# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Responsible for LUNs and for disks as one machine sees them: identity, number, online and read-only state.

A LUN's bytes are shared by every machine that sees it; number and state belong to the machine. Not responsible for who
may change what (storage.py) nor for the volumes on a disk (volumes.py).
Facts: windows-storage 2.2, 2.5, 4.2, 4.3 (identities), 6 (SAN policy, collisions).
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .assumed import assumed
from .content import Content, SparseFile
from .partition_table import GPT, RAW, PartitionTable, read_table, write_table

if TYPE_CHECKING:
    from .world import Machine

BUS_TYPES = {"ata": 3, "fc": 6, "raid": 8, "iscsi": 9, "sas": 10, "sata": 11, "virtual": 15, "spaces": 16, "nvme": 17}
"""MSFT_Disk.BusType by the world's words."""

SHARED_BUSES = {6, 8, 9, 10}
"""Buses that SAN policy OfflineShared takes offline (windows-storage 6.1)."""

ONLINE_ALL, OFFLINE_SHARED, OFFLINE_ALL, OFFLINE_INTERNAL = 1, 2, 3, 4
SAN_POLICIES = {
    "online_all": ONLINE_ALL,
    "offline_shared": OFFLINE_SHARED,
    "offline_all": OFFLINE_ALL,
    "offline_internal": OFFLINE_INTERNAL,
}

REASON_NONE, REASON_POLICY, REASON_COLLISION = 0, 1, 4
DISK_INTERFACE = "{53f56307-b6bf-11d0-94f2-00a0c91efb8b}"

assumed(
    "vhd-unique-id",
    "Byte order in which a VHD's disk id becomes the NAA that its guest sees: first and last six bytes of the GUID as"
    " stored (little-endian struct) or of its text form",
    source="facts windows-storage 4.3, 9.7",
    values=("little-endian", "big-endian"),
)
assumed(
    "passthrough-guest-identity",
    "A pass-through disk on a SCSI controller shows the array's vendor, model, serial and UniqueId in the guest",
    source="facts windows-storage 4.2, 9.5",
    values=("array", "hidden"),
)
assumed(
    "disk-memory",
    "Online and read-only state of a disk seen before is remembered by its identity or by its number",
    source="facts windows-storage 6.2, 9.14",
    values=("identity", "number"),
)


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What a disk says of itself: UniqueId with its format, INQUIRY strings (not padded), serial number (None: none)."""

    unique_id: str
    unique_id_format: int
    vendor: str
    model: str
    revision: str = "1.0"
    serial: str | None = None


def stable_hex(*words: object, length: int = 32) -> str:
    """Upper-case hex digits that depend on the words only."""
    return hashlib.sha256("\x1f".join(str(word) for word in words).encode()).hexdigest()[:length].upper()


def stable_guid(*words: object) -> str:
    """A lower-case GUID that depends on the words only."""
    digits = stable_hex(*words)
    return str(uuid.UUID(digits[:12] + "4" + digits[13:16] + "8" + digits[17:])).lower()


def vhd_unique_id(disk_id: str, byte_order: str = "little-endian") -> str:
    """The NAA of a VHD on a SCSI controller: 60022480 + first 6 + last 6 bytes of its disk id (windows-storage 4.3)."""
    guid = uuid.UUID(disk_id)
    raw = guid.bytes_le if byte_order == "little-endian" else guid.bytes
    return "60022480" + (raw[:6] + raw[-6:]).hex().upper()


@dataclass
class Lun:
    """A logical unit of an array (or a local disk): its bytes and what it says of itself.

    ``chap`` is (user name, secret) that a login needs; a LUN that is not ``present`` is seen by nobody (cable, array).
    """

    id: str
    content: SparseFile
    bus: str
    identity: Identity
    sector: int = 512
    physical_sector: int = 4096
    target: str | None = None
    portal: str | None = None
    thin: bool = False
    chap: tuple[str, str] | None = None
    present: bool = True
    bad_sectors: list[tuple[int, int]] = field(default_factory=list)

    @property
    def size(self) -> int:
        return self.content.size

    def grow(self, size: int) -> None:
        """The array makes the LUN larger; machines see it after a rescan."""
        if size < self.size:
            raise ValueError(f"LUN {self.id} has {self.size} bytes and cannot shrink to {size}.")
        self.content.resize(size)


@dataclass(kw_only=True)
class Backing:
    """Something that a machine may see as a disk: ``key`` tells it apart for ever, ``lun`` is set for LUNs."""

    key: str
    content: Content
    identity: Identity
    bus_type: int
    lun: Lun | None = None
    sector: int = 512
    physical_sector: int = 512
    location: str = ""
    scsi: tuple[int, int, int, int] = (0, 0, 0, 0)
    image_path: str | None = None
    provisioning: int = 2
    clustered: bool = False
    forced_read_only: bool = False
    target: str | None = None
    slot: str | None = None


@dataclass
class Disk:
    """A disk of one machine."""

    machine: Machine
    backing: Backing
    number: int
    online: bool = True
    read_only: bool = False
    offline_reason: int = REASON_NONE
    size: int = 0
    hidden_looks: int = 0
    _table: PartitionTable | None = field(default=None, repr=False)
    _table_version: int = field(default=-1, repr=False)

    def __post_init__(self) -> None:
        self.size = self.size or self.backing.content.size

    @property
    def content(self) -> Content:
        return self.backing.content

    @property
    def identity(self) -> Identity:
        return self.backing.identity

    @property
    def lun(self) -> Lun | None:
        return self.backing.lun

    @property
    def table(self) -> PartitionTable:
        version = self.content.version
        if self._table is None or self._table_version != version:
            self._table = read_table(self.content, self.backing.sector)
            self._table_version = version
        return self._table

    def set_table(self, table: PartitionTable) -> None:
        write_table(self.content, table, self.backing.sector)

    @property
    def initialised(self) -> bool:
        return self.table.style != RAW

    @property
    def identifier_on_disk(self) -> str | None:
        """The GPT GUID or MBR signature: what two disks of one machine must not share while online."""
        if self.table.style == GPT:
            return f"gpt:{self.table.guid}"
        return f"mbr:{self.table.signature:08x}" if self.table.style and self.table.signature else None

    @property
    def manufacturer(self) -> str:
        return self.identity.vendor.ljust(8)

    @property
    def model(self) -> str:
        return self.identity.model.ljust(16)

    @property
    def path(self) -> str:
        r"""The device interface path, such as \\?\scsi#disk&ven_msft&prod_virtual_disk#6&2cdaf2aa&0&000000#{...}."""
        vendor = self.identity.vendor.lower().replace(" ", "_")
        model = self.identity.model.lower().replace(" ", "_")
        instance = stable_hex(self.machine.name, self.backing.key, "instance", length=8).lower()
        port, bus, target, lun = self.backing.scsi
        kind = "ide" if self.backing.bus_type == BUS_TYPES["ata"] else "scsi"
        address = f"{bus:02x}{target:02x}{lun:02x}"
        return f"\\\\?\\{kind}#disk&ven_{vendor}&prod_{model}#6&{instance}&{port}&{address}#{DISK_INTERFACE}"

    @property
    def object_id(self) -> str:
        subsystem = stable_guid(self.machine.name, "storage subsystem")
        provider = "root/Microsoft/Windows/Storage/Providers_v2"
        return f'{{1}}\\\\{self.machine.netbios_name}\\{provider}\\WSP_Disk.ObjectId="{{{subsystem}}}:DI:{self.path}"'

    @property
    def device_id(self) -> str:
        return f"\\\\.\\PHYSICALDRIVE{self.number}"

    def write_permitted(self) -> bool:
        return self.online and not self.read_only

    @property
    def is_boot(self) -> bool:
        return any(volume.is_boot for volume in self.machine.volumes_of(self))

    @property
    def is_system(self) -> bool:
        return any(volume.is_system for volume in self.machine.volumes_of(self)) or self.is_boot

    def __hash__(self) -> int:
        return id(self)


def offline_by_policy(policy: int, bus_type: int) -> bool:
    """Whether a disk that was never seen before comes up offline and read-only (windows-storage 6.1)."""
    if policy == OFFLINE_ALL:
        return True
    if policy == OFFLINE_SHARED:
        return bus_type in SHARED_BUSES
    return policy == OFFLINE_INTERNAL and bus_type not in SHARED_BUSES
