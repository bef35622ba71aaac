# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Partition tables in bytes: round trips, checksums, what other tools say, sizes as Windows makes them."""

from __future__ import annotations

import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.content import MemoryContent, SparseFile
from simulator.disks import stable_guid
from simulator.partition_table import (
    BASIC_DATA,
    EMPTY,
    GPT,
    MBR,
    MIB,
    MSR_OFFSET,
    RAW,
    Partition,
    PartitionTable,
    clear_table,
    free_ranges,
    initialised,
    read_table,
    write_table,
)

DISK = 64 * MIB


def fresh(style: int, size: int = DISK) -> PartitionTable:
    return initialised(style, size, guid=stable_guid("d"), msr_guid=stable_guid("m"), signature=0x1B2C3D4E)


def with_data(size: int = DISK) -> PartitionTable:
    table = fresh(GPT, size)
    offset, room = free_ranges(table, size)[0]
    return table.adding(Partition(offset=offset, size=room, gpt_type=BASIC_DATA, guid=stable_guid("p"), name="Basic"))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 8), min_size=0, max_size=7), st.sampled_from([512, 4096]))
def test_what_is_written_is_read(sizes: list[int], sector: int) -> None:
    content = MemoryContent(DISK)
    table = PartitionTable(style=GPT, guid=stable_guid("disk"))
    at = MIB
    for number, size in enumerate(sizes):
        new = Partition(offset=at, size=size * MIB, gpt_type=BASIC_DATA, guid=stable_guid(number), name=f"Ü{number}")
        table = table.adding(new.with_flags(hidden=number % 2 == 1))
        at += size * MIB
    write_table(content, table, sector)
    assert read_table(content, sector) == table


def test_the_backup_table_is_enough() -> None:
    content = MemoryContent(DISK)
    table = with_data()
    write_table(content, table)
    content.write_at(512 + 20, b"broken")
    assert read_table(content) == table
    content.write_at(DISK - 512 + 20, b"broken")
    assert read_table(content) == EMPTY


def test_checksums_are_those_of_uefi() -> None:
    content = MemoryContent(DISK)
    write_table(content, with_data())
    header = content.read_at(512, 92)
    assert struct.unpack_from("<I", header, 16)[0] == zlib.crc32(header[:16] + bytes(4) + header[20:])
    assert struct.unpack_from("<I", header, 88)[0] == zlib.crc32(content.read_at(1024, 128 * 128))
    assert content.read_at(450, 1) == b"\xee"


def test_initialize_makes_the_reserved_partition_of_server_2016() -> None:
    table = fresh(GPT)
    assert [(p.offset, p.size) for p in table.partitions] == [(MSR_OFFSET, 16759808)]
    assert free_ranges(table, DISK) == [(16777216, DISK - 16777216 - MIB)]


def test_an_mbr_keeps_signature_and_active_flag() -> None:
    content = MemoryContent(DISK)
    table = fresh(MBR).adding(Partition(offset=MIB, size=20 * MIB, mbr_type=7, active=True))
    write_table(content, table)
    assert read_table(content) == table


def test_a_cleared_disk_is_raw_again() -> None:
    content = MemoryContent(DISK)
    write_table(content, with_data())
    clear_table(content)
    assert read_table(content).style == RAW


def test_noise_and_file_systems_are_no_tables() -> None:
    content = MemoryContent(DISK)
    content.write_at(0, b"\xeb\x52\x90NTFS    ".ljust(510, b"\1") + b"\x55\xaa")
    assert read_table(content) == EMPTY
    assert read_table(MemoryContent(100)) == EMPTY


def test_overlaps_are_refused() -> None:
    table = PartitionTable(
        style=GPT,
        partitions=(
            Partition(offset=MIB, size=2 * MIB, gpt_type=BASIC_DATA, guid=stable_guid(1)),
            Partition(offset=2 * MIB, size=2 * MIB, gpt_type=BASIC_DATA, guid=stable_guid(2)),
        ),
    )
    with pytest.raises(ValueError, match="overlaps"):
        write_table(MemoryContent(DISK), table)


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(
            [tool, *arguments],
            id=tool,
            marks=pytest.mark.skipif(shutil.which(tool) is None, reason=f"{tool} is absent"),
        )
        for tool, arguments in (("sfdisk", ["--verify"]), ("sgdisk", ["--verify"]))
    ],
)
def test_other_tools_accept_the_table(tmp_path: Path, command: list[str]) -> None:
    content = SparseFile.create(tmp_path / "disk", DISK)
    write_table(content, with_data())
    done = subprocess.run([*command, str(tmp_path / "disk")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
