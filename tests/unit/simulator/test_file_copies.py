# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""copy, xcopy and robocopy: real bytes with holes, exit codes, full targets, open files, and what a cut-off copy leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulator.mishaps import mishap
from simulator.processes import SYSTEM
from simulator.world import Machine, World
from unit.simulator.windows_machines import make_world, read_file, run, write_file


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path)


@pytest.fixture
def host(world: World) -> Machine:
    return world.machine("hv01")


def sparse(host: Machine, path: str, size: int, data: bytes) -> None:
    volume, below = host.resolve(path)
    volume.files.create(below, size).write_at(size - len(data), data)


def real_blocks(host: Machine, path: str) -> int:
    volume, below = host.resolve(path)
    return Path(volume.files.real_path(below)).stat().st_blocks


def tree(host: Machine) -> None:
    write_file(host, "C:\\src\\a.txt", b"alpha")
    write_file(host, "C:\\src\\b.log", b"beta")
    write_file(host, "C:\\src\\sub\\c.txt", b"gamma")


def test_copy_keeps_holes_bytes_and_times_to_a_share(host: Machine) -> None:
    sparse(host, "D:\\big.vhdx", 64 << 20, b"end")
    assert run(host, "copy /b /y D:\\big.vhdx \\\\filer\\backups\\big.vhdx").code == 0
    volume, below = host.resolve("\\\\filer\\backups\\big.vhdx")
    assert volume.stat(below).size == 64 << 20 and volume.read(below, (64 << 20) - 3) == b"end"
    assert real_blocks(host, "\\\\filer\\backups\\big.vhdx") < 100
    assert volume.stat(below).modified == host.resolve("D:\\big.vhdx")[0].stat("big.vhdx").modified


def test_copy_onto_a_full_volume_says_so_and_leaves_nothing(host: Machine) -> None:
    sparse(host, "D:\\big.vhdx", 700 << 20, b"end")
    done = run(host, "copy /b D:\\big.vhdx F:\\big.vhdx")
    assert done.code == 1 and "There is not enough space on the disk." in done.err
    assert "0 file(s) copied." in done.out
    assert not host.resolve("F:\\")[0].exists("big.vhdx")


def test_a_disk_of_a_running_vm_cannot_be_copied(host: Machine) -> None:
    done = run(host, "copy /b D:\\VMs\\web01\\os.vhdx E:\\x.vhdx")
    assert done.code == 1 and "being used by another process" in done.err
    assert run(host, "robocopy D:\\VMs\\web01 E:\\x /b /r:1 /w:5").code == 9
    assert run(host, "xcopy /y D:\\VMs\\web01\\os.vhdx E:\\y\\").code == 4


@pytest.mark.parametrize(("choice", "there"), [("full-size", True), ("removed", False)])
def test_a_power_cut_in_the_middle_of_a_copy(world: World, host: Machine, choice: str, there: bool) -> None:
    world.switches.choose("copy-interrupted", choice)
    sparse(host, "D:\\big.vhdx", 8 << 20, b"end")
    host.processes.start_shell_command("copy /b D:\\big.vhdx E:\\big.vhdx", token=SYSTEM, shell_id="x")
    volume, _below = host.resolve("E:\\")
    assert volume.stat("big.vhdx").size == 8 << 20
    mishap(world, "power_cut", machine="hv01")
    volume, _below = host.resolve("E:\\")
    assert volume.exists("big.vhdx") == there
    if there:
        assert read_file(host, "E:\\big.vhdx").strip(b"\0") == b""


def test_a_share_that_goes_away_during_a_copy(world: World, host: Machine) -> None:
    sparse(host, "D:\\big.vhdx", 8 << 20, b"end")
    line = "copy /b D:\\big.vhdx \\\\filer\\backups\\big.vhdx"
    process = host.processes.start_shell_command(line, token=SYSTEM, shell_id="x")
    mishap(world, "unplug_target", machine="hv01", target="\\\\filer\\backups")
    assert host.processes.run_to_end(process) == 1


def test_robocopy_says_what_it_did_in_its_exit_code(host: Machine) -> None:
    tree(host)
    first = run(host, "robocopy C:\\src E:\\dst /e /np")
    assert first.code == 1 and "ROBOCOPY     ::     Robust File Copy for Windows" in first.out
    assert read_file(host, "E:\\dst\\sub\\c.txt") == b"gamma"
    assert run(host, "robocopy C:\\src E:\\dst /e").code == 0
    write_file(host, "E:\\dst\\extra.txt", b"x")
    assert run(host, "robocopy C:\\src E:\\dst /e").code == 2
    write_file(host, "C:\\src\\a.txt", b"alpha and more")
    assert run(host, "robocopy C:\\src E:\\dst /mir").code == 3
    assert not host.resolve("E:\\")[0].exists("dst\\extra.txt")
    assert read_file(host, "E:\\dst\\a.txt") == b"alpha and more"
    assert run(host, "robocopy C:\\src E:\\dst *.log /l /s").code == 0


def test_robocopy_of_a_missing_folder_and_of_a_wrong_switch_is_fatal(host: Machine) -> None:
    done = run(host, "robocopy C:\\none E:\\dst")
    assert done.code == 16 and "ERROR 2 (0x00000002) Accessing Source Directory C:\\none\\" in done.out
    assert run(host, "robocopy C:\\Windows E:\\dst /nonsense").code == 16
    assert run(host, "robocopy C:\\Windows").code == 16


def test_robocopy_retries_and_gives_up_where_there_is_no_room(host: Machine) -> None:
    write_file(host, "D:\\much\\small.txt", b"s")
    sparse(host, "D:\\much\\big.bin", 700 << 20, b"x")
    done = run(host, "robocopy D:\\much F:\\much /r:2 /w:1 /log:C:\\robo.txt /tee")
    assert done.code == 9 and done.out.count("Retrying...") == 2
    assert "ERROR 112 (0x00000070) Copying File D:\\much\\big.bin" in done.out
    assert read_file(host, "F:\\much\\small.txt") == b"s"
    assert b"RETRY LIMIT EXCEEDED" in read_file(host, "C:\\robo.txt")


def test_xcopy_copies_trees_and_answers_as_documented(host: Machine) -> None:
    tree(host)
    done = run(host, "xcopy C:\\src E:\\dst /e /i /y")
    assert done.code == 0 and "3 File(s) copied" in done.out
    assert read_file(host, "E:\\dst\\sub\\c.txt") == b"gamma"
    assert run(host, "xcopy C:\\src\\none.* E:\\dst").code == 1
    assert run(host, "xcopy C:\\src\\a.txt E:\\dst /nonsense").code == 4
    assert run(host, "xcopy C:\\src\\a.txt E:\\one.txt", stdin=b"f\r\n").code == 0
    assert read_file(host, "E:\\one.txt") == b"alpha"
    assert run(host, "xcopy C:\\src\\a.txt E:\\one.txt").code == 2
    sparse(host, "D:\\big.bin", 700 << 20, b"x")
    assert run(host, "xcopy /y D:\\big.bin F:\\").code == 5
