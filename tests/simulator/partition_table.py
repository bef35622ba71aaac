# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Responsible for partition tables in bytes: MBR and GPT (protective MBR, both headers, CRCs).

Not responsible for who may change them (storage.py) nor for what is inside a partition (file_system.py).
Facts: windows-storage 3.1 (types), 5.1 (sizes, MSR, alignment).
"""

from __future__ import annotations

import struct
import uuid
import zlib
from dataclasses import dataclass, field, replace

from .content import Content

MIB = 1 << 20
GPT_ENTRIES = 128
GPT_ENTRY_SIZE = 128

RAW, MBR, GPT = 0, 1, 2
"""MSFT_Disk.PartitionStyle."""

EFI_SYSTEM = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
MICROSOFT_RESERVED = "e3c9e316-0b5c-4db8-817d-f92df00215ae"
BASIC_DATA = "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7"
LDM_METADATA = "5808c8aa-7e8f-42e0-85d2-e1e90434cfb3"
LDM_DATA = "af9b60a0-1431-4f62-bc68-3311714a69ad"
RECOVERY = "de94bba4-06d1-4d40-a16a-bfd50179d6ac"
STORAGE_SPACES = "e75caf8f-f680-4cee-afa3-b001e56efc2d"

MBR_IFS = 7
MBR_LDM = 0x42

_ATTRIBUTE_HIDDEN = 1 << 62
_ATTRIBUTE_NO_LETTER = 1 << 63
_ATTRIBUTE_READ_ONLY = 1 << 60

MSR_OFFSET = 17408
MSR_END = 16 * MIB
"""What Initialize makes on Windows 10 / Server 2016 and later (windows-storage 5.1)."""


@dataclass(frozen=True, kw_only=True)
class Partition:
    """One partition; ``guid`` and ``gpt_type`` only on GPT (lower case, no braces), ``mbr_type`` only on MBR."""

    offset: int
    size: int
    gpt_type: str | None = None
    guid: str | None = None
    mbr_type: int | None = None
    active: bool = False
    attributes: int = 0
    name: str = ""

    @property
    def end(self) -> int:
        return self.offset + self.size

    @property
    def hidden(self) -> bool:
        return bool(self.attributes & _ATTRIBUTE_HIDDEN)

    @property
    def no_default_letter(self) -> bool:
        return bool(self.attributes & _ATTRIBUTE_NO_LETTER)

    @property
    def read_only(self) -> bool:
        return bool(self.attributes & _ATTRIBUTE_READ_ONLY)

    def with_flags(
        self, *, hidden: bool | None = None, no_default_letter: bool | None = None, read_only: bool | None = None
    ) -> Partition:
        attributes = self.attributes
        for flag, wanted in (
            (_ATTRIBUTE_HIDDEN, hidden),
            (_ATTRIBUTE_NO_LETTER, no_default_letter),
            (_ATTRIBUTE_READ_ONLY, read_only),
        ):
            if wanted is not None:
                attributes = attributes | flag if wanted else attributes & ~flag
        return replace(self, attributes=attributes)


@dataclass(frozen=True, kw_only=True)
class PartitionTable:
    """A disk's layout. ``style`` RAW has nothing else; ``signature`` belongs to MBR, ``guid`` to GPT."""

    style: int
    guid: str | None = None
    signature: int | None = None
    partitions: tuple[Partition, ...] = field(default=())

    def replacing(self, old: Partition, new: Partition | None) -> PartitionTable:
        kept = [new if p is old or p == old else p for p in self.partitions]
        return replace(self, partitions=tuple(sorted((p for p in kept if p is not None), key=lambda p: p.offset)))

    def adding(self, new: Partition) -> PartitionTable:
        return replace(self, partitions=tuple(sorted((*self.partitions, new), key=lambda p: p.offset)))


EMPTY = PartitionTable(style=RAW)


def read_table(content: Content, sector: int = 512) -> PartitionTable:
    """The table that the bytes hold; RAW when there is none that a checksum or a signature confirms."""
    if content.size < 2 * sector:
        return EMPTY
    first = content.read_at(0, 512)
    if first[510:512] != b"\x55\xaa":
        return EMPTY
    entries = [_read_mbr_entry(first[446 + 16 * i : 462 + 16 * i], sector) for i in range(4)]
    if any(e is not None and e.mbr_type == 0xEE for e in entries):
        for header_at in (sector, content.size - sector):
            table = _read_gpt(content, header_at, sector)
            if table is not None:
                return table
        return EMPTY
    signature = struct.unpack_from("<I", first, 440)[0]
    if first[3:11] in (b"NTFS    ", b"MSDOS5.0", b"EXFAT   ") or (signature == 0 and not any(entries)):
        return EMPTY
    return PartitionTable(
        style=MBR,
        signature=signature,
        partitions=tuple(sorted((e for e in entries if e is not None), key=lambda e: e.offset)),
    )


def _read_mbr_entry(entry: bytes, sector: int) -> Partition | None:
    active, kind = entry[0], entry[4]
    start, count = struct.unpack_from("<II", entry, 8)
    if kind == 0 or count == 0:
        return None
    return Partition(offset=start * sector, size=count * sector, mbr_type=kind, active=active == 0x80)


def _read_gpt(content: Content, header_at: int, sector: int) -> PartitionTable | None:
    header = content.read_at(header_at, 92)
    if header[:8] != b"EFI PART":
        return None
    stated = struct.unpack_from("<I", header, 16)[0]
    if zlib.crc32(header[:16] + b"\0\0\0\0" + header[20:92]) != stated:
        return None
    entries_at, count, width, entries_crc = struct.unpack_from("<QIII", header, 72)
    if count > 1024 or width != GPT_ENTRY_SIZE or (entries_at * sector + count * width) > content.size:
        return None
    raw = content.read_at(entries_at * sector, count * width)
    if zlib.crc32(raw) != entries_crc:
        return None
    partitions = []
    for number in range(count):
        entry = raw[number * width : (number + 1) * width]
        if entry[:16] == bytes(16):
            continue
        first, last, attributes = struct.unpack_from("<QQQ", entry, 32)
        partitions.append(
            Partition(
                offset=first * sector,
                size=(last - first + 1) * sector,
                gpt_type=str(uuid.UUID(bytes_le=entry[:16])),
                guid=str(uuid.UUID(bytes_le=entry[16:32])),
                attributes=attributes,
                name=entry[56:128].decode("utf-16-le").rstrip("\0"),
            )
        )
    guid = str(uuid.UUID(bytes_le=header[56:72]))
    return PartitionTable(style=GPT, guid=guid, partitions=tuple(sorted(partitions, key=lambda p: p.offset)))


def write_table(content: Content, table: PartitionTable, sector: int = 512) -> None:
    """Write ``table`` over the content's own; partitions must be sorted, inside the disk and free of overlap."""
    _check_layout(content, table, sector)
    if table.style == GPT:
        _write_gpt(content, table, sector)
    elif table.style == MBR:
        _write_mbr(content, table, sector)
    else:
        clear_table(content, sector)


def clear_table(content: Content, sector: int = 512) -> None:
    """What Clear without ZeroOutEntireDisk leaves: the first and the last MiB zeroed (windows-storage 2.3)."""
    edge = min(MIB, content.size)
    content.zero(0, edge)
    content.zero(content.size - edge, edge)


def _check_layout(content: Content, table: PartitionTable, sector: int) -> None:
    end = 0
    for partition in table.partitions:
        if partition.offset % sector or partition.size % sector or partition.size <= 0:
            raise ValueError(
                f"A partition at {partition.offset} of {partition.size} bytes does not fit sectors of {sector}."
            )
        if partition.offset < end or partition.end > content.size:
            raise ValueError(f"A partition at {partition.offset}..{partition.end} overlaps or leaves the disk.")
        end = partition.end


def _write_mbr(content: Content, table: PartitionTable, sector: int) -> None:
    if len(table.partitions) > 4:
        raise ValueError("An MBR holds four partitions; the simulator writes no extended ones.")
    block = bytearray(content.read_at(0, 512))
    block[440:444] = struct.pack("<I", table.signature or 0)
    for slot in range(4):
        entry = bytes(16)
        if slot < len(table.partitions):
            p = table.partitions[slot]
            first, count = p.offset // sector, p.size // sector
            chs = b"\xfe\xff\xff"  # "beyond CHS", what Windows writes above 8 GB and readers ignore
            entry = bytes([0x80 if p.active else 0]) + chs + bytes([p.mbr_type or MBR_IFS]) + chs
            entry += struct.pack("<II", first, count)
        block[446 + 16 * slot : 462 + 16 * slot] = entry
    block[510:512] = b"\x55\xaa"
    content.write_at(0, bytes(block))


def _write_gpt(content: Content, table: PartitionTable, sector: int) -> None:
    sectors = content.size // sector
    entry_sectors = -(-GPT_ENTRIES * GPT_ENTRY_SIZE // sector)
    first_usable, last_usable = 2 + entry_sectors, sectors - 2 - entry_sectors
    raw = bytearray(GPT_ENTRIES * GPT_ENTRY_SIZE)
    for slot, p in enumerate(table.partitions):
        first, last = p.offset // sector, p.end // sector - 1
        if first < first_usable or last > last_usable:
            raise ValueError(f"A partition at {p.offset}..{p.end} lies on the GPT itself.")
        entry = uuid.UUID(p.gpt_type or BASIC_DATA).bytes_le + uuid.UUID(p.guid or "0" * 32).bytes_le
        entry += struct.pack("<QQQ", first, last, p.attributes) + p.name.encode("utf-16-le")[:72].ljust(72, b"\0")
        raw[slot * GPT_ENTRY_SIZE : (slot + 1) * GPT_ENTRY_SIZE] = entry
    entries_crc = zlib.crc32(raw)
    guid = uuid.UUID(table.guid or "0" * 32).bytes_le

    def header(own: int, other: int, entries_at: int) -> bytes:
        text = struct.pack("<8sIIIIQQQQ", b"EFI PART", 0x00010000, 92, 0, 0, own, other, first_usable, last_usable)
        text += guid + struct.pack("<QIII", entries_at, GPT_ENTRIES, GPT_ENTRY_SIZE, entries_crc)
        return text[:16] + struct.pack("<I", zlib.crc32(text)) + text[20:]

    protective = bytearray(512)
    protective[446:462] = b"\x00\x00\x02\x00\xee\xff\xff\xff" + struct.pack("<II", 1, min(sectors - 1, 0xFFFFFFFF))
    protective[510:512] = b"\x55\xaa"
    content.write_at(0, bytes(protective))
    content.write_at(sector, header(1, sectors - 1, 2).ljust(sector, b"\0"))
    content.write_at(2 * sector, bytes(raw))
    content.write_at((sectors - 1 - entry_sectors) * sector, bytes(raw))
    content.write_at((sectors - 1) * sector, header(sectors - 1, 1, sectors - 1 - entry_sectors).ljust(sector, b"\0"))


def usable_range(table: PartitionTable, disk_size: int, sector: int = 512) -> tuple[int, int]:
    """First and last usable byte (end exclusive) for new partitions, as Windows rounds it (windows-storage 5.1)."""
    if table.style == GPT:
        back = -(-GPT_ENTRIES * GPT_ENTRY_SIZE // sector) * sector + sector
        return MIB, (disk_size - back) // MIB * MIB
    end = min(disk_size, 2**32 * sector) // MIB * MIB
    return MIB, end - MIB if end == disk_size else end


def free_ranges(table: PartitionTable, disk_size: int, sector: int = 512) -> list[tuple[int, int]]:
    """Gaps of whole MiB between partitions: (offset, size), in order."""
    start, end = usable_range(table, disk_size, sector)
    gaps = []
    for p in table.partitions:
        first = -(-start // MIB) * MIB
        last = min(p.offset, end) // MIB * MIB
        if last > first:
            gaps.append((first, last - first))
        start = max(start, p.end)
    first = -(-start // MIB) * MIB
    if end > first:
        gaps.append((first, end - first))
    return gaps


def initialised(
    style: int, disk_size: int, *, guid: str, msr_guid: str, signature: int, sector: int = 512
) -> PartitionTable:
    """What MSFT_Disk.Initialize makes: GPT with the MSR as partition 1 (17408..16 MiB), or an empty MBR."""
    msr_offset = MSR_OFFSET if sector == 512 else 2 * sector + GPT_ENTRIES * GPT_ENTRY_SIZE
    if style == MBR:
        return PartitionTable(style=MBR, signature=signature)
    msr = Partition(
        offset=msr_offset,
        size=MSR_END - msr_offset,
        gpt_type=MICROSOFT_RESERVED,
        guid=msr_guid,
        name="Microsoft reserved partition",
    )
    partitions = (msr,) if disk_size >= 2 * MSR_END else ()
    return PartitionTable(style=GPT, guid=guid, partitions=partitions)
