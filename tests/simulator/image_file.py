# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Responsible for opening and creating image files of any supported format by what the bytes or the request say.

Not responsible for paths on a host nor for locks (virtual_machine.py, hyperv_images.py). Facts: hyperv-wmi 5.2.
"""

from __future__ import annotations

from datetime import datetime

from .content import Content
from .vhd import (
    DIFFERENCING,
    FIXED,
    FOOTER_SIZE,
    MAXIMUM_VHD_SIZE,
    MINIMUM_SIZE,
    VHD,
    VHD_SET,
    VHDX,
    DynamicVhd,
    FixedVhd,
    Image,
    ImageError,
    ImageFacts,
    OpenParent,
    no_parent,
)
from .vhdx import DEFAULT_BLOCK, MIB, Vhdx

FORMAT_BY_SUFFIX = {".vhd": VHD, ".avhd": VHD, ".vhdx": VHDX, ".avhdx": VHDX, ".vhds": VHD_SET}
SUFFIX_OF_CHILD = {VHD: ".avhd", VHDX: ".avhdx"}


def suffix_of(path: str) -> str:
    name = path.rsplit("\\", 1)[-1]
    return "." + name.rsplit(".", 1)[-1].lower() if "." in name else ""


def open_image(file: Content, open_parent: OpenParent = no_parent) -> Image:
    """The image that the bytes are; raises ImageError when they are none."""
    if file.size >= 8 and file.read_at(0, 8) == b"vhdxfile":
        return Vhdx(file, open_parent)
    if file.size >= 8 and file.read_at(0, 8) == b"conectix":
        return DynamicVhd(file, open_parent)
    return FixedVhd(file)


def file_size_for(image_format: int, kind: int, size: int, block: int = 0) -> int:
    """Bytes that a new image file takes at once."""
    if kind != FIXED:
        return 4 * MIB if image_format == VHDX else 0
    if image_format == VHD:
        return size + FOOTER_SIZE
    block = block or DEFAULT_BLOCK
    return -(-size // block) * block + 4 * MIB


def create_image(
    file: Content,
    *,
    image_format: int,
    kind: int,
    size: int,
    disk_id: str,
    moment: datetime,
    block: int = 0,
    logical_sector: int = 512,
    physical_sector: int = 0,
    parent: Image | None = None,
    parent_path: str = "",
    open_parent: OpenParent = no_parent,
) -> Image:
    """Make ``file`` an image. Sizes in bytes; ``block`` 0 means the format's default. Raises ImageError for bad requests."""
    if size % 512:
        raise ImageError(f"A virtual disk of {size} bytes is not a whole number of sectors.")
    if size < MINIMUM_SIZE:
        raise ImageError(f"A virtual disk of {size} bytes is smaller than the {MINIMUM_SIZE} bytes allowed.")
    if image_format == VHD:
        if size > MAXIMUM_VHD_SIZE:
            raise ImageError(f"A VHD holds at most {MAXIMUM_VHD_SIZE} bytes; use VHDX.")
        if logical_sector != 512:
            raise ImageError("A VHD has 512-byte sectors only; use VHDX.")
        if kind == FIXED:
            file.resize(size + FOOTER_SIZE)
            return FixedVhd.create(file, size, disk_id, moment)
        link = (parent_path, parent.facts.disk_id, moment) if parent is not None else None
        return DynamicVhd.create(
            file, size, disk_id, moment, block=block or 2 * MIB, parent=link, open_parent=open_parent
        )
    linkage = (parent_path, parent.linkage) if isinstance(parent, Vhdx) else None
    if kind == DIFFERENCING and linkage is None:
        raise ImageError("A differencing VHDX needs a VHDX as its parent.")
    return Vhdx.create(
        file,
        size,
        disk_id,
        moment,
        fixed=kind == FIXED,
        block=block or (2 * MIB if kind == DIFFERENCING else DEFAULT_BLOCK),
        logical_sector=logical_sector,
        physical_sector=physical_sector or (4096 if logical_sector == 512 else logical_sector),
        parent=linkage,
        open_parent=open_parent,
    )


def describe(facts: ImageFacts) -> str:
    kind = {2: "fixed", 3: "dynamic", 4: "differencing"}[facts.type]
    return f"{kind} {'VHD' if facts.format == VHD else 'VHDX'}"
