# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs of the operator's own on a simulated machine: what a test's function does when something starts them."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from simulator.installed_programs import ProgramCall
from simulator.processes import Buffer, Handles, Wait
from simulator.world import Machine
from unit.simulator.windows_machines import ADMINISTRATOR, make_world, read_file, run, write_file


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Machine]:
    world = make_world(tmp_path)
    yield world.machine("hv01")
    world.close()


def test_an_installed_program_gets_its_arguments_and_gives_output_and_exit_code(host: Machine) -> None:
    seen: list[list[str]] = []

    def backup(call: ProgramCall) -> tuple[int, bytes]:
        seen.append(call.arguments)
        call.write("C:\\Tools\\answer.json", b"{}")
        return 5, b"done\r\n"

    host.install_program("C:\\Tools\\my jobs\\backup.exe", backup)
    line = '"C:\\Tools\\my jobs\\backup.exe" start "E: x" -hyperv:1 & echo !ERRORLEVEL!'
    ended = run(host, f'cmd /d /v:on /s /c "{line}"')
    assert seen == [["start", "E: x", "-hyperv:1"]]
    assert ended.out == "done\n5\n"
    assert read_file(host, "C:\\Tools\\answer.json") == b"{}"


def test_an_installed_program_runs_other_programs_to_their_end(host: Machine) -> None:
    found: list[tuple[int, bytes]] = []

    def backup(call: ProgramCall) -> int:
        found.append(call.run("cmd /c echo inner& exit 4"))
        found.append(call.run("timeout /t 30 /nobreak"))
        return found[0][0]

    host.install_program("C:\\Tools\\backup.exe", backup)
    before = host.world.clock.utc()
    assert run(host, "C:\\Tools\\backup.exe").code == 4
    assert found[0] == (4, b"inner\r\n")
    assert (host.world.clock.utc() - before).total_seconds() >= 30


def test_a_generator_takes_looks_and_a_hanging_program_runs_until_it_is_ended(host: Machine) -> None:
    def slow(call: ProgramCall) -> Generator[Wait, None, tuple[int, str]]:
        yield call.takes(600)
        code, output = yield from call.running("hostname")
        return code, output.decode()

    host.install_program("C:\\Tools\\slow.exe", slow)
    host.install_program("C:\\Tools\\stuck.exe", lambda call: call.hang())
    processes: Any = host.processes
    output = Buffer()
    one = processes.start("C:\\Tools\\slow.exe", token=ADMINISTRATOR, handles=Handles(stdout=output))
    two = processes.start("C:\\Tools\\stuck.exe", token=ADMINISTRATOR)
    processes.pump()
    assert one.alive
    for _look in range(20):
        processes.look()
    assert (one.exit_code, output.take().strip().lower(), two.alive) == (0, b"hv01", True)
    processes.kill(two)
    assert not two.alive


def test_a_program_that_is_not_there_is_told_from_one_whose_folder_is_missing(host: Machine) -> None:
    host.install_program("C:\\Tools\\backup.exe", lambda call: 0)
    assert run(host, "C:\\Tools\\backup").code == 0
    write_file(host, "C:\\Tools\\x.txt", b"")
    assert "is not recognized" in run(host, "C:\\Tools\\nosuch.exe").err
    assert run(host, "C:\\nosuch\\nosuch.exe").err == "The system cannot find the path specified.\n"
    assert run(host, "del C:\\Tools\\backup.exe & C:\\Tools\\backup.exe").err.startswith(
        "'C:\\Tools\\backup.exe' is not"
    )
