# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""File systems on the bytes of a partition: files survive, clusters are accounted for, a copy of the allocated is the volume.

What holds for the simulator's own file system and for real NTFS alike is asked of both.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.content import MemoryContent, fill_with_noise
from simulator.file_system import BlockFileSystem, DirectoryFileSystem, FileSystem, FileSystemError, grow_tree
from simulator.ntfs_file_system import NtfsFileSystem, availability
from simulator.partition_file_system import PartitionFileSystem, recognise
from simulator.volumes import find_file_system

SIZE = 8 << 20


Make = Callable[[], BlockFileSystem]


def formatted(size: int = SIZE, kind: str = "NTFS", cluster: int = 4096) -> PartitionFileSystem:
    content = MemoryContent(size)
    return PartitionFileSystem.format(content, kind=kind, label="Data", serial=0x1122334455667788, cluster_size=cluster)


def formatted_ntfs(size: int = SIZE, cluster: int = 4096) -> NtfsFileSystem:
    return NtfsFileSystem.format(MemoryContent(size), label="Data", serial=0x1122334455667788, cluster_size=cluster)


def opened(fs: BlockFileSystem) -> BlockFileSystem:
    """The same bytes through eyes that know nothing yet."""
    found = find_file_system(fs.content, lambda: datetime.now(timezone.utc))
    assert found is not None
    return found


both = pytest.mark.parametrize(
    "make",
    [
        pytest.param(formatted, id="own"),
        pytest.param(
            formatted_ntfs,
            id="ntfs",
            marks=pytest.mark.skipif(availability().library is None, reason=f"ntfs-3g: {availability().reason}"),
        ),
    ],
)
names = st.sampled_from(["a.txt", "B.log", "ordner", "Übersicht.csv", "x", "資料"])
operations = st.lists(
    st.tuples(st.sampled_from(["write", "append", "delete", "rename", "resize"]), names, names, st.integers(0, 90000)),
    max_size=25,
)


@both
@settings(max_examples=40, deadline=None)
@given(steps=operations)
def test_files_and_free_space_are_what_a_dictionary_says(make: Make, steps: list[tuple[str, str, str, int]]) -> None:
    fs = make()
    fs.write("first", b"")  # with the first file an MFT takes room for many
    fs.delete("first")
    empty = fs.free
    truth: dict[str, bytes] = {}
    for number, (step, name, other, size) in enumerate(steps):
        data = bytes([number % 251 + 1]) * size
        if step == "write":
            fs.write(name, data)
            truth[name] = data
        elif step == "append":
            fs.append(name, data)
            truth[name] = truth.get(name, b"") + data
        elif name not in truth:
            with pytest.raises(FileSystemError):
                fs.open(name)
        elif step == "delete":
            fs.delete(name)
            del truth[name]
        elif step == "resize":
            fs.open(name).resize(size)
            truth[name] = truth[name][:size].ljust(size, b"\0")
        elif other not in truth:
            fs.rename(name, other)
            truth[other] = truth.pop(name)
    again = opened(fs)
    assert {name: again.read(name) for name in again.listdir()} == truth
    used = sum(again.stat(name).allocated for name in truth)
    assert abs(empty - again.free - used) <= 2 * 4096  # the catalogue (the MFT) itself may take another cluster
    clusters = [extent for extent in again.allocated() if sum(extent) <= again.size]
    assert sum(length for _offset, length in clusters) == again.size - again.free


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 1000), st.sampled_from(["NTFS", "ReFS", "FAT32", "exFAT"]), st.sampled_from([4096, 65536]))
def test_the_allocated_clusters_are_the_volume(seed: int, kind: str, cluster: int) -> None:
    fs = formatted(16 << 20, kind, cluster)
    with fs.batch():
        grow_tree(fs, str(seed), files=12, total=300000)
    copy = MemoryContent(16 << 20)
    fill_with_noise(copy, str(seed), 0, 16 << 20)
    for offset, length in fs.allocated():
        copy.write_at(offset, fs.content.read_at(offset, length))
    restored = PartitionFileSystem(copy)
    assert restored.tree_digest() == fs.tree_digest()
    assert (restored.kind, restored.label, restored.serial, restored.cluster_size) == (kind, "Data", fs.serial, cluster)


@both
def test_a_file_cut_and_grown_again_shows_zeros(make: Make) -> None:
    fs = make()
    for size in (2, 9000):
        fs.write("x", b"\x01" * size)
        fs.open("x").resize(1)
        fs.open("x").resize(size)
        assert fs.read("x") == b"\x01" + bytes(size - 1)


@both
def test_letter_case_is_kept_and_ignored(make: Make) -> None:
    fs = make()
    fs.mkdir("Users\\Anna", parents=True)
    fs.write("users\\ANNA\\Brief.TXT", b"x")
    assert fs.listdir("USERS\\anna") == ["Brief.TXT"]
    assert fs.stat("users\\anna\\brief.txt").path == "Users\\Anna\\Brief.TXT"
    with pytest.raises(FileSystemError) as raised:
        fs.mkdir("USERS")
    assert raised.value.code == 183


@pytest.mark.parametrize("name", ["a:b", "a?", "con", "NUL.txt", "ends ", "ends.", "x" * 256, "a|b", "..\\up"])
@both
def test_names_that_windows_refuses_are_refused(make: Make, name: str) -> None:
    with pytest.raises(FileSystemError) as raised:
        make().write(name, b"")
    assert raised.value.code == 123


@both
def test_a_full_disk_says_so_and_loses_nothing(make: Make) -> None:
    fs = make()
    fs.write("kept", b"k" * 10000)
    with pytest.raises(FileSystemError) as raised:
        fs.write("big", b"b" * SIZE)
    assert raised.value.code == 112
    assert opened(fs).read("kept") == b"k" * 10000
    fs.reservations["diff area"] = fs.free
    with pytest.raises(FileSystemError):
        fs.write("small", b"s" * 8192)


@pytest.mark.parametrize("kind", ["NTFS", "ReFS", "FAT32", "exFAT"])
def test_boot_sectors_are_recognised(kind: str) -> None:
    fs = formatted(16 << 20, kind)
    found = recognise(fs.content)
    assert found is not None
    mask = 0xFFFFFFFFFFFFFFFF if kind in ("NTFS", "ReFS") else 0xFFFFFFFF
    assert (found.kind, found.serial, found.cluster_size) == (kind, fs.serial & mask, 4096)


def test_a_boot_sector_of_ntfs_alone_is_no_volume() -> None:
    content = MemoryContent(1 << 20)
    content.write_at(3, b"NTFS    ")
    content.write_at(11, b"\x00\x02\x08")
    content.write_at(510, b"\x55\xaa")
    found = recognise(content)
    assert found is not None and found.kind == "NTFS" and not found.ours
    with pytest.raises(FileSystemError):
        PartitionFileSystem(content)
    assert find_file_system(content, lambda: datetime.now(timezone.utc)) is None


def test_an_encrypted_volume_shows_nothing_but_bitlocker() -> None:
    fs = formatted()
    fs.set_encrypted(True)
    found = recognise(fs.content)
    assert found is not None and found.kind == "BitLocker"


@both
def test_a_change_through_other_eyes_is_seen(make: Make) -> None:
    fs = make()
    other = opened(fs)
    other.write("new", b"1")
    assert fs.read("new") == b"1"
    fs.write("newer", b"2")
    assert other.listdir() == ["new", "newer"]


def test_damage_is_an_error_and_no_crash() -> None:
    fs = formatted()
    fs.write("a", b"1")
    fs.content.write_at(0x100 + 8 + 30, b"\xff\xff")
    with pytest.raises(FileSystemError):
        PartitionFileSystem(fs.content)


def test_a_directory_volume_behaves_alike(tmp_path: Path) -> None:
    fs: FileSystem = DirectoryFileSystem(tmp_path / "D", 10 << 20, label="VMs")
    fs.mkdir("VMs\\one", parents=True)
    content = fs.create("vms\\ONE\\disk.vhd", 4 << 20)
    content.write_at(100, b"hello")
    assert fs.read("VMs\\one\\DISK.vhd", 100, 5) == b"hello"
    assert fs.stat("vms\\one\\disk.vhd").path == "VMs\\one\\disk.vhd"
    with pytest.raises(FileSystemError) as raised:
        fs.create("other.vhd", 8 << 20)
    assert raised.value.code == 112
    fs.rename("vms\\one\\disk.vhd", "disk2.vhd")
    assert fs.listdir() == ["disk2.vhd", "VMs"]
    fs.delete("vms", recursive=True)
    assert not fs.exists("vms\\one")
