# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real NTFS of the simulator: the tools of ntfs-3g read what it writes, it reads what they write, damage is RAW."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from simulator.content import MemoryContent, SparseFile, Window, copy_content, fill_with_noise
from simulator.file_system import ERROR_DISK_FULL, FileSystemError, grow_tree
from simulator.image_file import create_image
from simulator.ntfs_file_system import LARGEST, SMALLEST, NtfsFileSystem, availability, lays_real_ntfs
from simulator.partition_file_system import PartitionFileSystem
from simulator.vhd import DYNAMIC, VHDX
from simulator.volumes import find_file_system, lay_file_system
from unit.simulator.windows_machines import make_world, run

pytestmark = pytest.mark.skipif(availability().library is None, reason=f"ntfs-3g: {availability().reason}")

SIZE = 16 << 20
SERIAL = 0x8A1C2D3E4F506172
MOMENT = datetime(2026, 10, 1, 20, 0, 0, 123456, tzinfo=timezone.utc)
TOOL_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def clock() -> datetime:
    return MOMENT


def tool(*words: object) -> str:
    program = shutil.which(str(words[0]), path=TOOL_PATH)
    assert program is not None, f"{words[0]} is part of ntfs-3g"
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    done = subprocess.run([program, *map(str, words[1:])], capture_output=True, check=False, text=True, env=environment)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


def cat(volume: Path, path: str) -> bytes:
    """A file's bytes as ntfscat reads them."""
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    return subprocess.run(["ntfscat", str(volume), path], capture_output=True, check=True, env=environment).stdout


def on_file(path: Path, size: int = SIZE, cluster: int = 4096, sector: int = 512) -> NtfsFileSystem:
    return NtfsFileSystem.format(
        SparseFile.create(path, size),
        label="Daten",
        serial=SERIAL,
        cluster_size=cluster,
        sector_size=sector,
        now=clock,
    )


@pytest.mark.parametrize(("cluster", "sector"), [(512, 512), (4096, 512), (4096, 4096), (65536, 512)])
def test_the_tools_find_the_tree_that_we_wrote(tmp_path: Path, cluster: int, sector: int) -> None:
    fs = on_file(tmp_path / "volume", cluster=cluster, sector=sector)
    with fs.batch():
        grow_tree(fs, "tree", files=30, total=3_000_000)
    fs.mkdir("Übersicht\\資料", parents=True)
    fs.write("Übersicht\\資料\\klein.txt", b"resident")
    listed = {line.strip() for line in tool("ntfsls", "-R", "-p", "/Übersicht", tmp_path / "volume").splitlines()}
    assert {"資料", "klein.txt"} <= listed
    for entry in fs.walk():
        if not entry.is_directory:
            path = "/" + entry.path.replace("\\", "/")
            assert cat(tmp_path / "volume", path) == fs.read(entry.path), path
    information = tool("ntfsinfo", "-m", tmp_path / "volume")
    assert "Volume Name: Daten" in information and "Volume Flags: 0x0000" in information
    assert f"Cluster Size: {cluster}\n" in information
    assert f"Volume Size in Clusters: {fs.size // cluster}\n" in information
    assert f"Free Clusters: {fs.free // cluster} " in information
    assert fs.size == SIZE - max(cluster, sector)
    tool("ntfsfix", "-n", tmp_path / "volume")
    assert fs.content.read_at(0x48, 8) == SERIAL.to_bytes(8, "little")


def test_a_file_put_by_a_tool_is_read(tmp_path: Path) -> None:
    fs = on_file(tmp_path / "volume")
    fs.mkdir("Folder")
    data = random.Random("put").randbytes(300_001)
    (tmp_path / "source").write_bytes(data)
    tool("ntfscp", "-q", tmp_path / "volume", tmp_path / "source", "/Folder/Put.bin")
    assert isinstance(fs.content, SparseFile)
    fs.content.touched()
    assert fs.listdir("folder") == ["Put.bin"]
    assert fs.read("FOLDER\\put.BIN") == data
    fs.append("Folder\\Put.bin", b"more")
    fs.rename("Folder\\Put.bin", "folder\\PUT.BIN")
    assert cat(tmp_path / "volume", "/Folder/PUT.BIN") == data + b"more"
    tool("ntfsfix", "-n", tmp_path / "volume")


@pytest.mark.skipif(os.geteuid() != 0 or not os.access("/dev/fuse", os.W_OK), reason="no root with /dev/fuse to mount")
def test_linux_mounts_what_we_wrote_and_we_read_what_linux_wrote(tmp_path: Path) -> None:
    fs = on_file(tmp_path / "volume")
    grow_tree(fs, "mounted", files=10, total=500_000)
    digest = fs.tree_digest()
    (tmp_path / "mount").mkdir()
    try:
        tool("ntfs-3g", tmp_path / "volume", tmp_path / "mount")
    except AssertionError as problem:
        pytest.skip(f"no root with /dev/fuse to mount: {problem}")
    try:
        files = [path for path in (tmp_path / "mount").rglob("*") if path.is_file()]
        assert sorted(path.stat().st_size for path in files) == sorted(e.size for e in fs.walk() if not e.is_directory)
        (tmp_path / "mount" / "von Linux").write_bytes(b"L" * 100_000)
    finally:
        tool("fusermount", "-u", tmp_path / "mount")
        tool("sync")
    again = NtfsFileSystem(SparseFile(tmp_path / "volume"))
    assert again.read("VON linux") == b"L" * 100_000
    again.delete("von Linux")
    assert again.tree_digest() == digest


@pytest.mark.parametrize(("seed", "cluster"), [(1, 4096), (2, 4096), (3, 65536)])
def test_the_allocated_ranges_are_the_volume(tmp_path: Path, seed: int, cluster: int) -> None:
    fs = on_file(tmp_path / "volume", cluster=cluster)
    with fs.batch():
        grow_tree(fs, str(seed), files=12, total=800_000)
    fs.delete(fs.listdir()[0], recursive=True)
    copy = SparseFile.create(tmp_path / "copy", SIZE)
    fill_with_noise(copy, str(seed), 0, SIZE)
    for offset, length in fs.allocated():
        copy.write_at(offset, fs.content.read_at(offset, length))
    restored = find_file_system(copy, clock)
    assert isinstance(restored, NtfsFileSystem)
    assert restored.tree_digest() == fs.tree_digest()
    assert (restored.label, restored.serial, restored.cluster_size) == ("Daten", SERIAL, cluster)
    tool("ntfsfix", "-n", tmp_path / "copy")
    assert "OK" in tool("ntfsfix", "-n", tmp_path / "copy").split("alternate boot sector", 1)[1].splitlines()[0]


def test_a_wrecked_volume_comes_back_through_wbadmin_and_the_tools_accept_it(tmp_path: Path) -> None:
    guest = make_world(tmp_path).machine("sql01")
    volume = guest.volume_by_letter("S")
    assert volume is not None and isinstance(volume.files, NtfsFileSystem)
    before = volume.files.tree_digest()
    assert run(guest, "wbadmin start backup -backupTarget:B: -include:S: -quiet").code == 0
    fill_with_noise(volume.content, "wreck", 0, volume.content.size)
    assert volume.file_system == "RAW"
    found = re.search(r"Version identifier: (\S+)", run(guest, "wbadmin get versions -backupTarget:B:").out)
    assert found is not None
    restore = f"wbadmin start recovery -version:{found[1]} -itemType:Volume -items:{volume.path} -quiet"
    assert run(guest, restore + " -recoveryTarget:S: -backupTarget:B:").code == 0
    volume = guest.volume_by_letter("S")
    assert volume is not None
    assert (volume.files.tree_digest(), volume.label, volume.file_system) == (before, "Data", "NTFS")
    copy_content(volume.content, SparseFile.create(tmp_path / "copy", volume.content.size))
    tool("ntfsfix", "-n", tmp_path / "copy")
    assert f"Free Clusters: {volume.free // 4096} " in tool("ntfsinfo", "-m", tmp_path / "copy")
    for entry in volume.files.walk():
        if not entry.is_directory:
            path = "/" + entry.path.replace("\\", "/")
            assert cat(tmp_path / "copy", path) == volume.files.read(entry.path)


def test_formatting_over_noise_leaves_nothing_of_it_in_the_files(tmp_path: Path) -> None:
    content = SparseFile.create(tmp_path / "volume", SIZE)
    fill_with_noise(content, "old", 0, SIZE)
    fs = NtfsFileSystem.format(content, serial=1, now=clock)
    assert (fs.listdir(), fs.label) == ([], "")
    assert fs.create("zeros", 500_000).read_at(0, 500_000) == bytes(500_000)
    grown = fs.create("grown", 10)
    grown.write_at(0, b"0123456789")
    grown.resize(200_000)
    assert fs.read("grown") == b"0123456789" + bytes(199_990)
    grown.resize(100)
    grown.resize(9000)
    assert fs.read("grown") == b"0123456789" + bytes(8990)
    tool("ntfsfix", "-n", tmp_path / "volume")


def test_the_same_steps_make_the_same_bytes() -> None:
    made = []
    for _unused in range(2):
        fs = NtfsFileSystem.format(MemoryContent(SIZE), label="x", serial=7, now=clock)
        with fs.batch():
            grow_tree(fs, "same", files=20, total=1_000_000)
        fs.mkdir("a\\b", parents=True)
        fs.write("a\\b\\c", b"1")
        fs.rename("a\\b\\c", "a\\C")
        fs.delete("a\\b")
        made.append(fs.content.read_at(0, SIZE))
    assert made[0] == made[1]


def test_looking_writes_nothing(tmp_path: Path) -> None:
    fs = on_file(tmp_path / "volume")
    grow_tree(fs, "quiet", files=5, total=100_000)
    before = (tmp_path / "volume").read_bytes()
    again = NtfsFileSystem(SparseFile(tmp_path / "volume"))
    assert again.tree_digest() == fs.tree_digest() and again.free and list(again.allocated())
    assert (tmp_path / "volume").read_bytes() == before


def test_times_and_attributes_are_kept() -> None:
    now = [MOMENT]
    fs = NtfsFileSystem.format(MemoryContent(SIZE), serial=7, now=lambda: now[0])
    fs.write("file", b"1")
    now[0] = MOMENT + timedelta(days=1)
    fs.append("file", b"2")
    fs.set_attributes("file", 0x22)
    fs.mkdir("folder")
    again = NtfsFileSystem(fs.content)
    assert (again.stat("file").created, again.stat("file").modified) == (MOMENT, now[0])
    assert (again.stat("file").attributes, again.stat("folder").attributes) == (0x22, 0x10)


def test_a_full_volume_takes_no_more_and_stays_whole(tmp_path: Path) -> None:
    fs = on_file(tmp_path / "volume", size=SMALLEST)
    written = 0
    with pytest.raises(FileSystemError) as raised:
        for number in range(10_000):
            fs.write(f"file {number}", bytes([number % 250 + 1]) * 70_000)
            written += 1
    assert raised.value.code == ERROR_DISK_FULL
    assert written > 40
    with pytest.raises(FileSystemError) as raised:
        fs.open("file 3").resize(SMALLEST)
    assert raised.value.code == ERROR_DISK_FULL
    again = NtfsFileSystem(fs.content)
    assert len(again.listdir()) == written
    assert all(again.read(f"file {n}") == bytes([n % 250 + 1]) * 70_000 for n in range(written))
    tool("ntfsfix", "-n", tmp_path / "volume")


def test_a_volume_uses_the_partition_that_was_made_larger(tmp_path: Path) -> None:
    disk = SparseFile.create(tmp_path / "disk", 4 * SIZE)
    window = Window(disk, 1 << 20, SIZE)
    fs = NtfsFileSystem.format(window, label="Daten", serial=SERIAL, now=clock)
    grow_tree(fs, "grow", files=10, total=1_000_000)
    digest, free = fs.tree_digest(), fs.free
    larger = NtfsFileSystem(Window(disk, 1 << 20, 2 * SIZE), clock)
    larger.grow()
    assert larger.size == 2 * SIZE - 4096
    assert larger.free >= free + SIZE - (1 << 20)
    assert (larger.tree_digest(), larger.label, larger.serial) == (digest, "Daten", SERIAL)
    larger.write("behind the old end", b"x" * (SIZE + 100))


@pytest.mark.parametrize("seed", range(12))
def test_damage_is_an_error_or_raw_and_never_the_end_of_the_process(seed: int) -> None:
    dice = random.Random(f"damage:{seed}")
    fs = NtfsFileSystem.format(MemoryContent(SMALLEST), label="x", serial=7, now=clock)
    with fs.batch():
        grow_tree(fs, "damage", files=20, total=200_000)
    used = [extent for extent in fs.allocated() if extent[1] < 1 << 20]
    for _unused in range(dice.randrange(1, 60)):
        offset, length = dice.choice(used)
        at = offset + dice.randrange(length)
        fs.content.write_at(at, dice.randbytes(min(dice.choice((1, 2, 8, 700)), fs.content.size - at)))
    found = find_file_system(fs.content, clock)
    if found is None:
        return
    try:
        found.tree_digest()
        found.write("new", b"x" * 10_000)
        found.delete("new")
    except (FileSystemError, ValueError):
        pass
    fill_with_noise(fs.content, "all of it", 512, SMALLEST - 512)
    assert find_file_system(fs.content, clock) is None
    with pytest.raises(FileSystemError):
        found.listdir()


def test_a_dynamic_vhdx_carries_a_volume(tmp_path: Path) -> None:
    file = SparseFile.create(tmp_path / "d.vhdx", 0)
    disk_id = "11111111-2222-4333-8444-555555555555"
    image = create_image(file, image_format=VHDX, kind=DYNAMIC, size=64 << 20, disk_id=disk_id, moment=MOMENT)
    fs = NtfsFileSystem.format(Window(image.payload, 1 << 20, 32 << 20), label="VHDX", serial=3, now=clock)
    grow_tree(fs, "vhdx", files=10, total=2_000_000)
    assert NtfsFileSystem(Window(image.payload, 1 << 20, 32 << 20)).tree_digest() == fs.tree_digest()


def test_small_huge_encrypted_and_other_volumes_keep_the_own_file_system() -> None:
    assert lays_real_ntfs("NTFS", SMALLEST) and lays_real_ntfs("NTFS", LARGEST)
    assert not lays_real_ntfs("NTFS", SMALLEST - 1)
    assert not lays_real_ntfs("NTFS", LARGEST + 1)
    assert not lays_real_ntfs("NTFS", SIZE, encrypted=True)
    assert not lays_real_ntfs("ReFS", SIZE)
    tiny = lay_file_system(MemoryContent(4 << 20), kind="NTFS", serial=1, now=clock)
    assert isinstance(tiny, PartitionFileSystem)
    real = lay_file_system(MemoryContent(SIZE), kind="NTFS", serial=1, now=clock)
    assert isinstance(real, NtfsFileSystem)
    assert isinstance(find_file_system(tiny.content, clock), PartitionFileSystem)
