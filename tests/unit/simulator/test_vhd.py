# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Image files: what qemu-img says of them, round trips of every kind, identities, geometry."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import uuid
from datetime import datetime, timezone
from pathlib import Path

import pytest

from simulator.content import MemoryContent, SparseFile, copy_content, digest
from simulator.disks import vhd_unique_id
from simulator.image_file import create_image, file_size_for, open_image
from simulator.vhd import (
    DIFFERENCING,
    DYNAMIC,
    FIXED,
    MAXIMUM_VHD_SIZE,
    VHD,
    VHDX,
    FixedVhd,
    Image,
    ImageError,
    checksum,
    footer,
    geometry,
)
from simulator.vhdx import Vhdx, crc32c

MOMENT = datetime(2026, 3, 4, 5, 6, 7, tzinfo=timezone.utc)
SIZE = 40 << 20
KINDS = [(VHD, FIXED), (VHD, DYNAMIC), (VHDX, FIXED), (VHDX, DYNAMIC)]
needs_qemu = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")


def make(path: Path, image_format: int, kind: int, size: int = SIZE, **more: object) -> Image:
    file = SparseFile.create(path, file_size_for(image_format, kind, size))
    return create_image(
        file, image_format=image_format, kind=kind, size=size, disk_id=str(uuid.uuid4()), moment=MOMENT, **more
    )  # type: ignore[arg-type]


def scribble(image: Image, seed: int) -> None:
    dice = random.Random(seed)
    for _unused in range(30):
        offset = dice.randrange(image.payload.size - 5000)
        image.payload.write_at(offset, dice.randbytes(dice.randrange(1, 5000)))
    image.payload.write_at(image.payload.size - 700, b"end" * 200)


@needs_qemu
@pytest.mark.parametrize(("image_format", "kind"), KINDS)
def test_qemu_img_reads_every_byte_that_was_written(tmp_path: Path, image_format: int, kind: int) -> None:
    path, raw = tmp_path / "image", tmp_path / "raw"
    image = make(path, image_format, kind)
    scribble(image, kind)
    name = "vpc" if image_format == VHD else "vhdx"
    facts = subprocess.run(
        ["qemu-img", "info", "-f", name, "--output=json", str(path)], check=True, capture_output=True
    ).stdout
    assert json.loads(facts)["virtual-size"] == SIZE
    subprocess.run(["qemu-img", "convert", "-f", name, "-O", "raw", str(path), str(raw)], check=True)
    assert digest(SparseFile(raw)) == digest(image.payload)


@needs_qemu
@pytest.mark.parametrize("kind", [FIXED, DYNAMIC])
def test_qemu_img_finds_no_error_in_a_vhdx(tmp_path: Path, kind: int) -> None:
    path = tmp_path / "image.vhdx"
    scribble(make(path, VHDX, kind), 1)
    checked = subprocess.run(["qemu-img", "check", "-f", "vhdx", str(path)], capture_output=True, check=False)
    assert checked.returncode == 0, checked.stderr


@needs_qemu
@pytest.mark.parametrize("subformat", ["fixed", "dynamic"])
def test_images_made_by_qemu_img_are_read(tmp_path: Path, subformat: str) -> None:
    raw, path = tmp_path / "raw", tmp_path / "theirs.vhdx"
    raw.write_bytes(random.Random(5).randbytes(3 << 20) + bytes(5 << 20))
    subprocess.run(
        ["qemu-img", "convert", "-O", "vhdx", "-o", f"subformat={subformat}", str(raw), str(path)], check=True
    )
    image = open_image(SparseFile(path))
    assert image.payload.read_at(0, 8 << 20) == raw.read_bytes()


@pytest.mark.parametrize(("image_format", "kind"), KINDS)
def test_an_image_opened_again_has_the_same_facts_and_bytes(tmp_path: Path, image_format: int, kind: int) -> None:
    image = make(tmp_path / "image", image_format, kind)
    scribble(image, 3)
    again = open_image(SparseFile(tmp_path / "image"))
    assert again.facts == image.facts
    assert (again.facts.format, again.facts.type, again.facts.virtual_size) == (image_format, kind, SIZE)
    assert digest(again.payload) == digest(image.payload)


@pytest.mark.parametrize("image_format", [VHD, VHDX])
def test_a_child_reads_through_to_its_parent_until_it_is_written(tmp_path: Path, image_format: int) -> None:
    parent = make(tmp_path / "parent", image_format, FIXED)
    parent.payload.write_at(1000, b"from the parent")
    child = make(
        tmp_path / "child",
        image_format,
        DIFFERENCING,
        parent=parent,
        parent_path="D:\\parent",
        open_parent=lambda facts: parent,
    )
    assert child.payload.read_at(1000, 15) == b"from the parent"
    child.payload.write_at(1005, b"THE")
    assert child.payload.read_at(1000, 15) == b"from THE parent"
    assert parent.payload.read_at(1000, 15) == b"from the parent"
    assert child.facts.parent_path == "D:\\parent"


@pytest.mark.parametrize("image_format", [VHD, VHDX])
def test_a_child_refuses_a_parent_that_is_another_image(tmp_path: Path, image_format: int) -> None:
    parent, other = make(tmp_path / "parent", image_format, FIXED), make(tmp_path / "other", image_format, FIXED)
    child = make(
        tmp_path / "child", image_format, DIFFERENCING, parent=parent, parent_path="P", open_parent=lambda facts: other
    )
    with pytest.raises(ImageError, match="identifier mismatch"):
        child.payload.read_at(0, 512)


def test_a_fixed_vhd_is_its_data_and_one_footer() -> None:
    file = MemoryContent((3 << 20) + 512)
    FixedVhd.create(file, 3 << 20, "01020304-0506-0708-090a-0b0c0d0e0f10", MOMENT)
    block = file.read_at(3 << 20, 512)
    assert block[:8] == b"conectix"
    assert int.from_bytes(block[64:68], "big") == checksum(block, 64)
    assert block[68:84] == uuid.UUID("01020304-0506-0708-090a-0b0c0d0e0f10").bytes_le
    assert file.read_at(0, 3 << 20) == bytes(3 << 20)


@pytest.mark.parametrize(
    ("size", "expected"),
    [(3 << 20, (90, 4, 17)), (10000 << 20, (20317, 16, 63)), (100 << 30, (51400, 16, 255))],
)
def test_the_geometry_is_that_of_the_specification(size: int, expected: tuple[int, int, int]) -> None:
    assert geometry(size) == expected
    block = footer(FIXED, size, str(uuid.uuid4()), MOMENT)
    assert (int.from_bytes(block[56:58], "big"), block[58], block[59]) == expected


def test_the_guest_sees_a_unique_id_made_of_the_disk_id() -> None:
    disk_id = "00112233-4455-6677-8899-aabbccddeeff"
    assert vhd_unique_id(disk_id) == "60022480" + "332211005544" + "AABBCCDDEEFF"
    assert vhd_unique_id(disk_id, "big-endian") == "60022480" + "001122334455" + "AABBCCDDEEFF"


def test_requests_that_windows_refuses_are_refused(tmp_path: Path) -> None:
    for size, match in ((1 << 20, "smaller"), ((4 << 20) + 1, "sectors"), (MAXIMUM_VHD_SIZE + 512, "VHDX")):
        with pytest.raises(ImageError, match=match):
            make(tmp_path / "x", VHD, DYNAMIC, size)
    with pytest.raises(ImageError, match="512-byte"):
        make(tmp_path / "x", VHD, FIXED, 4 << 20, logical_sector=4096)


def test_damage_is_noticed(tmp_path: Path) -> None:
    image = make(tmp_path / "a.vhd", VHD, FIXED, 4 << 20)
    image.file.write_at((4 << 20) + 30, b"!")
    with pytest.raises(ImageError, match="footer"):
        open_image(SparseFile(tmp_path / "a.vhd"))
    image = make(tmp_path / "a.vhdx", VHDX, FIXED, 4 << 20)
    for at in (64 << 10, 128 << 10):
        image.file.write_at(at + 20, b"!!!!")
    with pytest.raises(ImageError, match="headers"):
        open_image(SparseFile(tmp_path / "a.vhdx"))


def test_a_vhdx_grows_and_keeps_its_bytes(tmp_path: Path) -> None:
    image = make(tmp_path / "a.vhdx", VHDX, FIXED)
    assert isinstance(image, Vhdx)
    scribble(image, 9)
    before = digest(image.payload, 0, SIZE)
    image.set_virtual_size(200 << 20)
    again = open_image(SparseFile(tmp_path / "a.vhdx"))
    assert again.facts.virtual_size == 200 << 20
    assert digest(again.payload, 0, SIZE) == before
    again.payload.write_at((200 << 20) - 5, b"there")
    assert again.payload.read_at((200 << 20) - 5, 5) == b"there"


def test_crc32c_has_its_known_value() -> None:
    assert crc32c(b"123456789") == 0xE3069283


def test_huge_images_cost_nothing(tmp_path: Path) -> None:
    image = make(tmp_path / "huge.vhdx", VHDX, FIXED, 2 << 40)
    image.payload.write_at(1 << 40, b"in the middle")
    assert (tmp_path / "huge.vhdx").stat().st_blocks * 512 < 16 << 20
    target = SparseFile.create(tmp_path / "copy", 2 << 40)
    assert copy_content(image.payload, target) < 1 << 20
    assert target.read_at(1 << 40, 13) == b"in the middle"
