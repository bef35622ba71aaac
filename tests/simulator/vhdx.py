# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Responsible for the VHDX format: fixed, dynamic and differencing images in real bytes.

What is missing: the log is always empty (each write goes to its place at once) and is never replayed; a differencing
image holds whole blocks only (no sector bitmaps in use, which the format allows); no resilient change tracking.
Facts: windows-storage 5.4; structure from the public format specification [MS-VHDX].
"""

from __future__ import annotations

import functools
import struct
import uuid
from collections.abc import Iterator
from datetime import datetime

from .content import Content
from .vhd import (
    DIFFERENCING,
    DYNAMIC,
    FIXED,
    VHDX,
    BlockImage,
    BlockPayload,
    ImageError,
    ImageFacts,
    OpenParent,
    no_parent,
)

MIB = 1 << 20
DEFAULT_BLOCK = 32 * MIB
_BAT = uuid.UUID("2DC27766-F623-4200-9D64-115E9BFD4A08")
_METADATA = uuid.UUID("8B7CA206-4790-4B9A-B8FE-575F050F886E")
_FILE_PARAMETERS = uuid.UUID("CAA16737-FA36-4D43-B3B6-33F0AA44E76B")
_VIRTUAL_SIZE = uuid.UUID("2FA54224-CD1B-4876-B211-5DBED83BF4B8")
_DISK_ID = uuid.UUID("BECA12AB-B2E6-4523-93EF-C309E000C746")
_LOGICAL_SECTOR = uuid.UUID("8141BF1D-A96F-4709-BA47-F233A8FAAB5F")
_PHYSICAL_SECTOR = uuid.UUID("CDA348C7-445D-4471-9CC9-E9885251C556")
_PARENT_LOCATOR = uuid.UUID("A8D35F2D-B30B-454D-ABF7-D3D84834AB0C")
_LOCATOR_TYPE = uuid.UUID("B04AEFB7-D19E-4A81-B789-25B8E9445913")
_HEADERS_AT = (64 << 10, 128 << 10)
_REGIONS_AT = (192 << 10, 256 << 10)
_LOG_AT, _METADATA_AT, _BAT_AT = MIB, 2 * MIB, 3 * MIB
_FULLY_PRESENT = 6
_ITEM_USER, _ITEM_VIRTUAL_DISK, _ITEM_REQUIRED = 1, 2, 4


def _table() -> list[int]:
    entries = []
    for number in range(256):
        value = number
        for _unused in range(8):
            value = value >> 1 ^ 0x82F63B78 if value & 1 else value >> 1
        entries.append(value)
    return entries


_CRC_TABLE = _table()


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli) of ``data``."""
    value = 0xFFFFFFFF
    table = _CRC_TABLE
    for byte in data:
        value = table[(value ^ byte) & 0xFF] ^ value >> 8
    return value ^ 0xFFFFFFFF


@functools.lru_cache(maxsize=512)
def _sealed(block: bytes) -> bytes:
    """The block with its checksum (bytes 4..8) filled in."""
    return block[:4] + struct.pack("<I", crc32c(block[:4] + b"\0\0\0\0" + block[8:])) + block[8:]


class Vhdx(BlockImage):
    """A VHDX. ``create`` writes one; the constructor reads one (both by us and by others, with an empty log)."""

    def __init__(self, file: Content, open_parent: OpenParent = no_parent) -> None:
        self.file = file
        self._open_parent = open_parent
        self._parent: Vhdx | BlockImage | None = None
        self._parent_payload: Content | None = None
        self._seen = -1
        self.reload()

    # -- writing a new one

    @classmethod
    def create(
        cls,
        file: Content,
        size: int,
        disk_id: str,
        moment: datetime,
        *,
        fixed: bool = False,
        block: int = DEFAULT_BLOCK,
        logical_sector: int = 512,
        physical_sector: int = 4096,
        parent: tuple[str, str] | None = None,
        open_parent: OpenParent = no_parent,
    ) -> Vhdx:
        """Write an image into ``file`` (resized as needed). ``parent`` = (path, its data write GUID) for a child."""
        ratio = (1 << 23) * logical_sector // block
        blocks = -(-size // block)
        entries = (-(-blocks // ratio) * (ratio + 1)) if parent else blocks + (blocks - 1) // ratio
        bat_size = -(-8 * entries // MIB) * MIB
        data_at = _BAT_AT + bat_size
        file.resize(data_at + (blocks * block if fixed else 0))
        creator = "Microsoft Windows 10.0.20348.1".encode("utf-16-le")
        file.write_at(0, b"vhdxfile" + creator)
        writing = uuid.uuid5(uuid.UUID(disk_id), moment.isoformat())
        for number, at in enumerate(_HEADERS_AT):
            file.write_at(at, cls._header(number + 1, writing))
        regions = struct.pack("<4sIII", b"regi", 0, 2, 0)
        regions += _BAT.bytes_le + struct.pack("<QII", _BAT_AT, bat_size, 1)
        regions += _METADATA.bytes_le + struct.pack("<QII", _METADATA_AT, MIB, 1)
        regions = _sealed(regions.ljust(64 << 10, b"\0"))
        for at in _REGIONS_AT:
            file.write_at(at, regions)
        file.zero(_LOG_AT, MIB)
        file.zero(_METADATA_AT, MIB)
        file.zero(_BAT_AT, bat_size)
        items = [
            (_FILE_PARAMETERS, _ITEM_REQUIRED, struct.pack("<II", block, (1 if fixed else 0) | (2 if parent else 0))),
            (_VIRTUAL_SIZE, _ITEM_REQUIRED | _ITEM_VIRTUAL_DISK, struct.pack("<Q", size)),
            (_DISK_ID, _ITEM_REQUIRED | _ITEM_VIRTUAL_DISK, uuid.UUID(disk_id).bytes_le),
            (_LOGICAL_SECTOR, _ITEM_REQUIRED | _ITEM_VIRTUAL_DISK, struct.pack("<I", logical_sector)),
            (_PHYSICAL_SECTOR, _ITEM_REQUIRED | _ITEM_VIRTUAL_DISK, struct.pack("<I", physical_sector)),
        ]
        if parent:
            items.append((_PARENT_LOCATOR, _ITEM_REQUIRED, cls._locator(*parent)))
        table = struct.pack("<8sHH20x", b"metadata", 0, len(items))
        at = 64 << 10
        for identifier, flags, data in items:
            table += identifier.bytes_le + struct.pack("<IIII", at, len(data), flags, 0)
            file.write_at(_METADATA_AT + at, data)
            at += -(-len(data) // 8) * 8
        file.write_at(_METADATA_AT, table)
        if fixed:
            bat = bytearray(8 * entries)
            for number in range(blocks):
                struct.pack_into("<Q", bat, 8 * (number + number // ratio), data_at + number * block | _FULLY_PRESENT)
            file.write_at(_BAT_AT, bytes(bat))
        return cls(file, open_parent)

    @staticmethod
    def _header(sequence: int, writing: uuid.UUID) -> bytes:
        block = struct.pack("<4sIQ", b"head", 0, sequence)
        block += writing.bytes_le + writing.bytes_le + bytes(16)
        block += struct.pack("<HHIQ", 0, 1, MIB, _LOG_AT)
        return _sealed(block.ljust(4096, b"\0"))

    @staticmethod
    def _locator(path: str, linkage: str) -> bytes:
        pairs = [("parent_linkage", "{" + linkage + "}"), ("absolute_win32_path", path)]
        head = _LOCATOR_TYPE.bytes_le + struct.pack("<HH", 0, len(pairs))
        at = 20 + 12 * len(pairs)
        entries, text = b"", b""
        for key, value in pairs:
            raw_key, raw_value = key.encode("utf-16-le"), value.encode("utf-16-le")
            key_at = at + len(text)
            text += raw_key + raw_value
            entries += struct.pack("<IIHH", key_at, key_at + len(raw_key), len(raw_key), len(raw_value))
        return head + entries + text

    # -- reading

    def reload(self) -> None:
        if self._seen == self.file.version:
            return
        file = self.file
        if file.size < _BAT_AT or file.read_at(0, 8) != b"vhdxfile":
            raise ImageError("The file is not a VHDX.")
        headers = [h for at in _HEADERS_AT if (h := file.read_at(at, 4096))[:4] == b"head" and _sealed(h) == h]
        if not headers:
            raise ImageError("Both headers of the VHDX are damaged.")
        header = max(headers, key=lambda h: int(struct.unpack_from("<Q", h, 8)[0]))
        if header[48:64] != bytes(16):
            raise ImageError("The VHDX has a log to replay, which the simulator does not do.")
        self._data_write = str(uuid.UUID(bytes_le=header[32:48]))
        raw = file.read_at(_REGIONS_AT[0], 512)
        count = struct.unpack_from("<I", raw, 8)[0]
        regions = {
            uuid.UUID(bytes_le=raw[16 + 32 * i : 32 + 32 * i]): struct.unpack_from("<QI", raw, 32 + 32 * i)
            for i in range(min(count, 15))
        }
        if raw[:4] != b"regi" or _BAT not in regions or _METADATA not in regions:
            raise ImageError("The region table of the VHDX is damaged.")
        self._read_metadata(regions[_METADATA][0])
        self._bat_at = regions[_BAT][0]
        self._ratio: int = (1 << 23) * self._logical // self.block_size
        blocks = -(-self.virtual_size // self.block_size)
        length = 8 * (blocks + blocks // self._ratio + 1)
        raw = file.read_at(self._bat_at, min(length, regions[_BAT][1]))
        self._bat: list[int] = list(struct.unpack(f"<{len(raw) // 8}Q", raw[: len(raw) // 8 * 8]))
        self._seen = file.version

    def _read_metadata(self, at: int) -> None:
        table = self.file.read_at(at, 64 << 10)
        if table[:8] != b"metadata":
            raise ImageError("The metadata of the VHDX is damaged.")
        items: dict[uuid.UUID, bytes] = {}
        self._item_at: dict[uuid.UUID, int] = {}
        for number in range(min(struct.unpack_from("<H", table, 10)[0], 2047)):
            entry = table[32 + 32 * number : 64 + 32 * number]
            identifier = uuid.UUID(bytes_le=entry[:16])
            offset, length = struct.unpack_from("<II", entry, 16)
            items[identifier] = self.file.read_at(at + offset, length)
            self._item_at[identifier] = at + offset
        self.block_size, flags = struct.unpack("<II", items[_FILE_PARAMETERS])
        self._fixed, self._has_parent = bool(flags & 1), bool(flags & 2)
        self.virtual_size = struct.unpack("<Q", items[_VIRTUAL_SIZE])[0]
        self._disk_id = str(uuid.UUID(bytes_le=items[_DISK_ID]))
        self._logical = struct.unpack("<I", items[_LOGICAL_SECTOR])[0]
        self._physical = struct.unpack("<I", items[_PHYSICAL_SECTOR])[0]
        self._pairs: dict[str, str] = {}
        if self._has_parent:
            raw = items[_PARENT_LOCATOR]
            for number in range(struct.unpack_from("<H", raw, 18)[0]):
                key_at, value_at, key_n, value_n = struct.unpack_from("<IIHH", raw, 20 + 12 * number)
                key = raw[key_at : key_at + key_n].decode("utf-16-le")
                self._pairs[key] = raw[value_at : value_at + value_n].decode("utf-16-le")

    @property
    def linkage(self) -> str:
        """The data write GUID, which a child remembers of its parent."""
        return self._data_write

    @property
    def facts(self) -> ImageFacts:
        kind = DIFFERENCING if self._has_parent else FIXED if self._fixed else DYNAMIC
        return ImageFacts(
            format=VHDX,
            type=kind,
            virtual_size=self.virtual_size,
            disk_id=self._disk_id,
            block_size=self.block_size,
            logical_sector=self._logical,
            physical_sector=self._physical,
            parent_path=self._pairs.get("absolute_win32_path"),
            parent_id=self._pairs.get("parent_linkage", "").strip("{}") or None,
        )

    @property
    def payload(self) -> Content:
        return BlockPayload(self)

    def set_disk_id(self, disk_id: str) -> None:
        self.file.write_at(self._item_at[_DISK_ID], uuid.UUID(disk_id).bytes_le)
        self.reload()

    def set_virtual_size(self, size: int) -> None:
        """Grow the virtual disk; the allocation table must have room, as it has up to 1 MiB of entries."""
        blocks = -(-size // self.block_size)
        if 8 * (blocks + blocks // self._ratio + 1) > MIB:
            raise ImageError("The block allocation table has no room for that size.")
        old = -(-self.virtual_size // self.block_size)
        self.file.write_at(self._item_at[_VIRTUAL_SIZE], struct.pack("<Q", size))
        self.reload()
        if self._fixed:
            for number in range(old, blocks):
                self.add_block(number, b"")

    # -- blocks

    def parent(self) -> Content | None:
        if not self._has_parent:
            return None
        if self._parent_payload is None:
            image = self._open_parent(self.facts)
            if isinstance(image, Vhdx) and image.linkage != self.facts.parent_id:
                raise ImageError(
                    "There is an identifier mismatch between a differencing disk and its parent"
                    f" {self.facts.parent_path}."
                )
            self._parent_payload = image.payload
        return self._parent_payload

    def _slot(self, number: int) -> int:
        return number + number // self._ratio

    def has_block(self, number: int) -> bool:
        self.reload()
        return self._bat[self._slot(number)] & 7 == _FULLY_PRESENT

    def _address(self, number: int) -> int:
        return self._bat[self._slot(number)] & ~0xFFFFF

    def read_block(self, number: int, offset: int, length: int) -> bytes:
        return self.file.read_at(self._address(number) + offset, length)

    def add_block(self, number: int, data: bytes) -> None:
        at = -(-self.file.size // MIB) * MIB
        self.file.resize(at + self.block_size)
        if data.strip(b"\0"):
            self.file.write_at(at, data)
        entry = at | _FULLY_PRESENT
        self._bat[self._slot(number)] = entry
        self.file.write_at(self._bat_at + 8 * self._slot(number), struct.pack("<Q", entry))
        self._seen = self.file.version

    def write_block(self, number: int, offset: int, data: bytes) -> None:
        self.file.write_at(self._address(number) + offset, data)
        self._seen = self.file.version

    def block_extents(self, number: int, offset: int, length: int) -> Iterator[tuple[int, int]]:
        base = self._address(number)
        for start, count in self.file.data_extents(base + offset, length):
            yield start - base, count
