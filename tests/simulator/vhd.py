# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Responsible for the VHD format: fixed, dynamic and differencing images in real bytes, and the common image interface.

VHDX is in vhdx.py; `image_file.py` picks the right one. Not responsible for who may open an image.
Facts: windows-storage 5.3 (footer, CHS, checksum).
"""

from __future__ import annotations

import struct
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone

from .content import Content, Window

FIXED, DYNAMIC, DIFFERENCING = 2, 3, 4
"""Msvm_VirtualHardDiskSettingData.Type, and the disk type in a VHD footer."""

VHD, VHDX, VHD_SET = 2, 3, 4
"""Msvm_VirtualHardDiskSettingData.Format."""

FOOTER_SIZE = 512
MINIMUM_SIZE = 3 << 20
MAXIMUM_VHD_SIZE = 2040 << 30
_EPOCH = datetime(2000, 1, 1, tzinfo=timezone.utc)
_DYNAMIC_HEADER_SIZE = 1024
_DEFAULT_BLOCK = 2 << 20
_UNUSED = 0xFFFFFFFF


class ImageError(Exception):
    """A file that is no valid image, or an image whose parent does not fit; one sentence."""


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """What Msvm_VirtualHardDiskSettingData tells of an image. ``disk_id`` and ``parent_id`` are lower-case GUIDs."""

    format: int
    type: int
    virtual_size: int
    disk_id: str
    block_size: int
    logical_sector: int = 512
    physical_sector: int = 512
    parent_path: str | None = None
    parent_id: str | None = None
    parent_timestamp: datetime | None = None


class Image(ABC):
    """An opened image: ``payload`` is the virtual disk, ``facts`` what the file says of itself."""

    file: Content

    @property
    @abstractmethod
    def facts(self) -> ImageFacts: ...

    @property
    @abstractmethod
    def payload(self) -> Content: ...

    @abstractmethod
    def set_disk_id(self, disk_id: str) -> None: ...


OpenParent = Callable[[ImageFacts], "Image"]
"""Finds and opens the parent of a differencing image, or raises ImageError."""


def no_parent(facts: ImageFacts) -> Image:
    raise ImageError(f"The parent {facts.parent_path} of a differencing disk was asked for where none can be opened.")


def geometry(size: int) -> tuple[int, int, int]:
    """Cylinders, heads, sectors per track of a VHD footer (windows-storage 5.3)."""
    total = min(size // 512, 65535 * 16 * 255)
    if total >= 65535 * 16 * 63:
        sectors, heads, tracks = 255, 16, total // 255
    else:
        sectors, tracks = 17, total // 17
        heads = max(4, -(-tracks // 1024))
        if tracks >= heads * 1024 or heads > 16:
            sectors, heads, tracks = 31, 16, total // 31
        if tracks >= heads * 1024:
            sectors, heads, tracks = 63, 16, total // 63
    return tracks // heads, heads, sectors


def checksum(block: bytes, at: int) -> int:
    """One's complement of the byte sum, with the four bytes of the field itself left out."""
    return ~(sum(block) - sum(block[at : at + 4])) & 0xFFFFFFFF


def footer(kind: int, size: int, disk_id: str, moment: datetime, data_offset: int = 0xFFFFFFFFFFFFFFFF) -> bytes:
    cylinders, heads, sectors = geometry(size)
    block = struct.pack(
        ">8sIIQI4sI4sQQHBBII16sB",
        b"conectix",
        2,
        0x00010000,
        data_offset,
        int((moment - _EPOCH).total_seconds()) & 0xFFFFFFFF,
        b"win ",
        0x000A0000,
        b"Wi2k",
        size,
        size,
        cylinders,
        heads,
        sectors,
        kind,
        0,
        uuid.UUID(disk_id).bytes_le,
        0,
    ).ljust(FOOTER_SIZE, b"\0")
    return block[:64] + struct.pack(">I", checksum(block, 64)) + block[68:]


@dataclass(frozen=True, kw_only=True)
class _Footer:
    kind: int
    size: int
    disk_id: str
    data_offset: int
    timestamp: datetime


def _read_footer(file: Content) -> _Footer:
    if file.size < FOOTER_SIZE:
        raise ImageError("The file is too small to be a virtual hard disk.")
    for at in (file.size - FOOTER_SIZE, 0):
        block = file.read_at(at, FOOTER_SIZE)
        if block[:8] == b"conectix" and struct.unpack_from(">I", block, 64)[0] == checksum(block, 64):
            offset, stamp = struct.unpack_from(">QI", block, 16)
            size, kind = struct.unpack_from(">Q", block, 48)[0], struct.unpack_from(">I", block, 60)[0]
            return _Footer(
                kind=kind,
                size=size,
                disk_id=str(uuid.UUID(bytes_le=block[68:84])),
                data_offset=offset,
                timestamp=datetime.fromtimestamp(_EPOCH.timestamp() + stamp, timezone.utc),
            )
    raise ImageError("The file has no valid virtual hard disk footer.")


class FixedVhd(Image):
    """Data, then a footer: the file is the disk."""

    def __init__(self, file: Content) -> None:
        self.file = file
        self._footer = _read_footer(file)
        if self._footer.kind != FIXED or self._footer.size + FOOTER_SIZE > file.size:
            raise ImageError("The footer does not describe a fixed virtual hard disk of this file's size.")

    @classmethod
    def create(cls, file: Content, size: int, disk_id: str, moment: datetime) -> FixedVhd:
        """``file`` must have room for ``size`` + 512 bytes; its data area is left as it is."""
        file.write_at(size, footer(FIXED, size, disk_id, moment))
        return cls(file)

    @property
    def facts(self) -> ImageFacts:
        f = self._footer
        return ImageFacts(format=VHD, type=FIXED, virtual_size=f.size, disk_id=f.disk_id, block_size=0)

    @property
    def payload(self) -> Content:
        return Window(self.file, 0, self._footer.size)

    def set_disk_id(self, disk_id: str) -> None:
        self.file.write_at(self._footer.size, footer(FIXED, self._footer.size, disk_id, self._footer.timestamp))
        self._footer = _read_footer(self.file)


class DynamicVhd(Image):
    """Dynamic and differencing VHDs: header, block allocation table, blocks with a sector bitmap each."""

    def __init__(self, file: Content, open_parent: OpenParent = no_parent) -> None:
        self.file = file
        self._open_parent = open_parent
        self._parent: Image | None = None
        self._seen = -1
        self.reload()

    def reload(self) -> None:
        if self._seen == self.file.version:
            return
        self._footer = _read_footer(self.file)
        if self._footer.kind not in (DYNAMIC, DIFFERENCING):
            raise ImageError("The footer does not describe a dynamic virtual hard disk.")
        header = self.file.read_at(self._footer.data_offset, _DYNAMIC_HEADER_SIZE)
        if header[:8] != b"cxsparse" or struct.unpack_from(">I", header, 36)[0] != checksum(header, 36):
            raise ImageError("The dynamic disk header is damaged.")
        self._table_at = struct.unpack_from(">Q", header, 16)[0]
        entries, self._block = struct.unpack_from(">II", header, 28)
        self._parent_id = str(uuid.UUID(bytes_le=header[40:56]))
        self._parent_path = header[64:576].decode("utf-16-be").split("\0")[0]
        self._parent_stamp = struct.unpack_from(">I", header, 56)[0]
        self._table: list[int] = list(struct.unpack(f">{entries}I", self.file.read_at(self._table_at, 4 * entries)))
        self._bitmap = -(-(self._block // 512 // 8) // 512) * 512
        self._seen = self.file.version

    @classmethod
    def create(
        cls,
        file: Content,
        size: int,
        disk_id: str,
        moment: datetime,
        *,
        block: int = _DEFAULT_BLOCK,
        parent: tuple[str, str, datetime] | None = None,
        open_parent: OpenParent = no_parent,
    ) -> DynamicVhd:
        """Write an empty image into ``file`` (resized as needed). ``parent`` = (path, disk id, its time) for a child."""
        kind = DIFFERENCING if parent else DYNAMIC
        mark = footer(kind, size, disk_id, moment, FOOTER_SIZE)
        entries = -(-size // block)
        table_size = -(-4 * entries // 512) * 512
        head = struct.pack(">8sQQIII", b"cxsparse", 0xFFFFFFFFFFFFFFFF, 1536, 0x00010000, entries, block)
        head += b"\0" * 4
        path, parent_id, parent_time = parent or ("", str(uuid.UUID(int=0)), _EPOCH)
        head += uuid.UUID(parent_id).bytes_le
        head += struct.pack(">II", int((parent_time - _EPOCH).total_seconds()) & 0xFFFFFFFF, 0)
        head += path.encode("utf-16-be")[:512].ljust(512, b"\0")
        locator = path.encode("utf-16-le")
        locator_at = 1536 + table_size
        locator_size = -(-len(locator) // 512) * 512 if parent else 0
        if parent:
            head += struct.pack(">4sIIIQ", b"W2ku", max(1, locator_size // 512) * 512, len(locator), 0, locator_at)
        head = head.ljust(_DYNAMIC_HEADER_SIZE, b"\0")
        head = head[:36] + struct.pack(">I", checksum(head, 36)) + head[40:]
        end = locator_at + locator_size
        file.resize(end + FOOTER_SIZE)
        file.write_at(0, mark + head + b"\xff" * table_size)
        if parent:
            file.write_at(locator_at, locator)
        file.write_at(end, mark)
        return cls(file, open_parent)

    @property
    def facts(self) -> ImageFacts:
        child = self._footer.kind == DIFFERENCING
        return ImageFacts(
            format=VHD,
            type=self._footer.kind,
            virtual_size=self._footer.size,
            disk_id=self._footer.disk_id,
            block_size=self._block,
            parent_path=self._parent_path if child else None,
            parent_id=self._parent_id if child else None,
            parent_timestamp=datetime.fromtimestamp(_EPOCH.timestamp() + self._parent_stamp, timezone.utc)
            if child
            else None,
        )

    @property
    def payload(self) -> Content:
        return BlockPayload(self)

    def set_disk_id(self, disk_id: str) -> None:
        mark = footer(self._footer.kind, self._footer.size, disk_id, self._footer.timestamp, FOOTER_SIZE)
        self.file.write_at(0, mark)
        self.file.write_at(self.file.size - FOOTER_SIZE, mark)
        self.reload()

    # -- blocks, as BlockPayload asks for them

    @property
    def block_size(self) -> int:
        return int(self._block)

    @property
    def virtual_size(self) -> int:
        return self._footer.size

    def parent(self) -> Content | None:
        if self._footer.kind != DIFFERENCING:
            return None
        if self._parent is None:
            self._parent = self._open_parent(self.facts)
            if self._parent.facts.disk_id != self._parent_id:
                raise ImageError(
                    f"There is an identifier mismatch between a differencing disk and its parent {self._parent_path}."
                )
        return self._parent.payload

    def has_block(self, number: int) -> bool:
        self.reload()
        return self._table[number] != _UNUSED

    def read_block(self, number: int, offset: int, length: int) -> bytes:
        base = self._table[number] * 512
        data = self.file.read_at(base + self._bitmap + offset, length)
        parent = self.parent()
        if parent is None:
            return data
        bitmap = self.file.read_at(base, self._bitmap)
        out = bytearray(data)
        first = offset // 512
        for sector in range(first, -(-(offset + length) // 512)):
            if not bitmap[sector // 8] & (0x80 >> sector % 8):
                start, stop = max(sector * 512, offset), min(sector * 512 + 512, offset + length)
                at = number * self._block + start
                stop = min(stop, start + max(0, parent.size - at))
                if stop > start:
                    out[start - offset : stop - offset] = parent.read_at(at, stop - start)
        return bytes(out)

    def add_block(self, number: int, data: bytes) -> None:
        at = self.file.size - FOOTER_SIZE
        mark = self.file.read_at(at, FOOTER_SIZE)
        self.file.resize(at + self._bitmap + self._block + FOOTER_SIZE)
        self.file.write_at(at, b"\xff" * self._bitmap)
        if data.strip(b"\0"):
            self.file.write_at(at + self._bitmap, data)
        else:
            self.file.zero(at + self._bitmap, self._block)
        self.file.write_at(at + self._bitmap + self._block, mark)
        self._table[number] = at // 512
        self.file.write_at(self._table_at + 4 * number, struct.pack(">I", at // 512))
        self._seen = self.file.version

    def write_block(self, number: int, offset: int, data: bytes) -> None:
        self.file.write_at(self._table[number] * 512 + self._bitmap + offset, data)
        self._seen = self.file.version

    def block_extents(self, number: int, offset: int, length: int) -> Iterator[tuple[int, int]]:
        base = self._table[number] * 512 + self._bitmap
        if self._footer.kind == DIFFERENCING:
            yield offset, length
            return
        for start, count in self.file.data_extents(base + offset, length):
            yield start - base, count


class BlockImage(Image):
    """What BlockPayload needs of an image that keeps its data in blocks (DynamicVhd and the VHDX have it)."""

    block_size: int
    virtual_size: int

    @abstractmethod
    def parent(self) -> Content | None: ...

    @abstractmethod
    def has_block(self, number: int) -> bool: ...

    @abstractmethod
    def read_block(self, number: int, offset: int, length: int) -> bytes: ...

    @abstractmethod
    def add_block(self, number: int, data: bytes) -> None: ...

    @abstractmethod
    def write_block(self, number: int, offset: int, data: bytes) -> None: ...

    @abstractmethod
    def block_extents(self, number: int, offset: int, length: int) -> Iterator[tuple[int, int]]: ...


class BlockPayload(Content):
    """The virtual disk of an image whose blocks exist only when written. A new block is filled from the parent."""

    def __init__(self, image: DynamicVhd | BlockImage) -> None:
        self._image = image

    @property
    def size(self) -> int:
        return self._image.virtual_size

    @property
    def version(self) -> int:
        parent = self._image.parent()
        return self._image.file.version + (parent.version if parent is not None else 0)

    def _pieces(self, offset: int, length: int) -> Iterator[tuple[int, int, int]]:
        width = self._image.block_size
        while length > 0:
            number, inside = divmod(offset, width)
            count = min(length, width - inside)
            yield number, inside, count
            offset, length = offset + count, length - count

    def read_at(self, offset: int, length: int) -> bytes:
        self._check(offset, length)
        out = []
        for number, inside, count in self._pieces(offset, length):
            if self._image.has_block(number):
                out.append(self._image.read_block(number, inside, count))
            else:
                out.append(self._from_parent(number * self._image.block_size + inside, count))
        return b"".join(out)

    def _from_parent(self, offset: int, count: int) -> bytes:
        parent = self._image.parent()
        if parent is None or offset >= parent.size:
            return bytes(count)
        have = min(count, parent.size - offset)
        return parent.read_at(offset, have) + bytes(count - have)

    def write_at(self, offset: int, data: bytes) -> None:
        self._check(offset, len(data))
        at = 0
        for number, inside, count in self._pieces(offset, len(data)):
            piece = data[at : at + count]
            at += count
            if self._image.has_block(number):
                self._image.write_block(number, inside, piece)
                continue
            if self._image.parent() is None and not piece.strip(b"\0"):
                continue
            base = number * self._image.block_size
            whole = bytearray(self._from_parent(base, self._image.block_size))
            whole[inside : inside + count] = piece
            self._image.add_block(number, bytes(whole))

    def resize(self, size: int) -> None:
        raise ImageError("The size of a dynamic disk is changed through its image.")

    def zero(self, offset: int, length: int) -> None:
        for number, inside, count in self._pieces(offset, length):
            if self._image.has_block(number) or self._image.parent() is not None:
                self.write_at(number * self._image.block_size + inside, bytes(count))

    def data_extents(self, offset: int = 0, length: int | None = None) -> Iterator[tuple[int, int]]:
        length = self.size - offset if length is None else min(length, self.size - offset)
        parent = self._image.parent()
        for number, inside, count in self._pieces(offset, length):
            base = number * self._image.block_size
            if self._image.has_block(number):
                for start, n in self._image.block_extents(number, inside, count):
                    yield base + start, n
            elif parent is not None and base + inside < parent.size:
                yield from parent.data_extents(base + inside, min(count, parent.size - base - inside))
