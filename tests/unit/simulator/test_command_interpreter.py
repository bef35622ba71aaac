# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""cmd.exe of the simulator: tables of command lines and what they do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.command_language import SyntaxFault, cmd_switches, expand_percent, parse
from simulator.processes import Token, split_command_line
from simulator.world import Machine
from unit.simulator.windows_machines import ADMINISTRATOR, make_world, read_file, run, write_file


@pytest.fixture(scope="module")
def shared_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """For lines that leave nothing behind."""
    world = make_world(tmp_path_factory.mktemp("shared"))
    machine = world.machine("hv01")
    write_file(machine, "C:\\job\\in.txt", b"one\r\ntwo\r\nthree\r\n")
    yield machine
    world.close()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Machine]:
    world = make_world(tmp_path)
    machine = world.machine("hv01")
    write_file(machine, "C:\\job\\in.txt", b"one\r\ntwo\r\nthree\r\n")
    yield machine
    world.close()


@pytest.mark.parametrize(
    ("line", "out"),
    [
        ("echo hello", "hello\n"),
        ("echo a & echo b", "a \nb\n"),
        ("echo a&echo b", "a\nb\n"),
        ("echo.", "\n"),
        ("echo(x", "x\n"),
        ("echo a^&b ^> c", "a&b > c\n"),
        ('echo "a&b"', '"a&b"\n'),
        ('(echo a& echo b) | find /c /v ""', "2\n"),
        ("echo a&& echo b", "a\nb\n"),
        ("nosuch 2>nul || echo no", "no\n"),
        ("nosuch 2>nul && echo yes", ""),
        ("cmd /c exit 3 || echo failed", "failed\n"),
        ("cmd /c exit 3 && echo ok || echo failed", "failed\n"),
        ("set X=1& echo %X%", "%X%\n"),
        ("set X=1& cmd /c echo %^X%", "1\n"),
        ('cmd /v:on /c "set X=5& echo !X!"', "5\n"),
        ('cmd /v:on /c "cmd /c exit 7 & echo !ERRORLEVEL!"', "7\n"),
        ("cmd /c exit 7 & echo %ERRORLEVEL%", "0\n"),
        ("if 1==1 (echo yes) else echo no", "yes\n"),
        ("if not 1==1 (echo yes) else (echo no)", "no\n"),
        ('if /i "ABC"=="abc" echo same', "same\n"),
        ("if 1==2 echo a & echo b", ""),
        ("if exist C:\\job\\in.txt echo there", "there\n"),
        ("if exist C:\\job\\none.txt (echo there) else echo missing", "missing\n"),
        ("if exist C:\\job\\*.txt echo there", "there\n"),
        ("if defined SystemRoot echo %SystemRoot%", "C:\\Windows\n"),
        ("if 10 GTR 9 echo number", "number\n"),
        ("cmd /c exit 2 & if errorlevel 2 echo two", "two\n"),
        ("cmd /c exit 2 & if not errorlevel 3 echo below", "below\n"),
        ("for %i in (a b c) do @echo [%i]", "[a]\n[b]\n[c]\n"),
        ("for /l %i in (1,2,5) do @echo %i", "1\n3\n5\n"),
        ("for %f in (C:\\job\\*.txt) do @echo %~nxf", "in.txt\n"),
        ('for /f "tokens=1,2 delims=," %a in ("x,y,z") do @echo %b%a', "yx\n"),
        (
            'for /f "usebackq skip=1" %a in ("C:\\job\\in.txt") do @echo <%a>'.replace("<", "^<").replace(">", "^>"),
            "<two>\n<three>\n",
        ),
        ("for /f %a in ('hostname') do @echo %a", "hv01\n"),
        ('type C:\\job\\in.txt | find "t"', "two\nthree\n"),
        ('type C:\\job\\in.txt | findstr /v /r "^t"', "one\n"),
        ('find /c "o" < C:\\job\\in.txt', "2\n"),
        ("cd /d C:\\job & cd", "C:\\job\n"),
        ("C: & cd", "C:\\\n"),
        ("set /a 2+3*4", "14"),
        ("echo %PATH:~0,10%", "C:\\Windows\n"),
        ("set Q=a-b& call echo %^Q:-=+%", "a+b\n"),
        ("rem hidden & echo x", ""),
        ("title x & ver", "\nMicrosoft Windows [Version 10.0.20348.1]\n"),
        ("chcp", "Active code page: 437\n"),
        ("hostname", "hv01\n"),
        ("where wbadmin", "C:\\Windows\\System32\\wbadmin.exe\n"),
    ],
)
def test_what_a_command_line_prints(shared_host: Machine, line: str, out: str) -> None:
    assert run(shared_host, line).out == out


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("echo x", 0),
        ("exit 5", 5),
        ("exit /b 6", 6),
        ("exit -4", 0xFFFFFFFC),
        ("cmd /c exit 9", 9),
        ("nosuchprogram", 1),
        ("md C:\\job", 1),
        ("type C:\\job\\none", 1),
        ("del C:\\job\\none", 0),
        ("cd C:\\none", 1),
        ("copy C:\\none C:\\job", 1),
        ("echo x > C:\\none\\x", 1),
        ("echo x > Q:\\x", 1),
        ("dir C:\\job\\none", 1),
        ("&", 255),
        ("if", 1),
        ("(echo a", 255),
        ("timeout", 1),
    ],
)
def test_how_a_command_line_ends(shared_host: Machine, line: str, code: int) -> None:
    assert run(shared_host, line).code == code


@pytest.mark.parametrize(
    ("line", "path", "data"),
    [
        ("echo a> C:\\job\\o", "C:\\job\\o", b"a\r\n"),
        ("echo a > C:\\job\\o", "C:\\job\\o", b"a \r\n"),
        (">C:\\job\\o echo a", "C:\\job\\o", b"a\r\n"),
        ("echo a>C:\\job\\o& echo b>>C:\\job\\o", "C:\\job\\o", b"a\r\nb\r\n"),
        ("echo 1 2>C:\\job\\o", "C:\\job\\o", b""),
        ("echo err 1>&2 2>C:\\job\\o", "C:\\job\\o", b""),
        (
            "nosuch > C:\\job\\o 2>&1",
            "C:\\job\\o",
            b"'nosuch' is not recognized as an internal or external command,\r\noperable program or batch file.\r\n",
        ),
        ("(echo a& echo b)> C:\\job\\o", "C:\\job\\o", b"a\r\nb\r\n"),
        ('echo x> "C:\\job\\with blank"', "C:\\job\\with blank", b"x\r\n"),
        ("copy C:\\job\\in.txt C:\\job\\o", "C:\\job\\o", b"one\r\ntwo\r\nthree\r\n"),
        ("md C:\\a\\b\\c & move C:\\job\\in.txt C:\\a\\b\\c", "C:\\a\\b\\c\\in.txt", b"one\r\ntwo\r\nthree\r\n"),
        ("ren C:\\job\\in.txt new.txt", "C:\\job\\new.txt", b"one\r\ntwo\r\nthree\r\n"),
        ("echo 7> C:\\job\\rc", "C:\\job\\rc", b""),
        (">C:\\job\\rc.tmp echo 7& move /y C:\\job\\rc.tmp C:\\job\\rc", "C:\\job\\rc", b"7\r\n"),
        ("cd /d C:\\job& echo x> rel.txt", "C:\\job\\rel.txt", b"x\r\n"),
        ("type C:\\job\\in.txt > \\\\?\\Volume{%V%}\\o".replace("%V%", "GUID"), "C:\\o", b"one\r\ntwo\r\nthree\r\n"),
    ],
)
def test_what_a_command_line_writes(host: Machine, line: str, path: str, data: bytes) -> None:
    volume = host.volume_by_letter("C")
    assert volume is not None
    run(host, line.replace("GUID", volume.guid))
    assert read_file(host, path) == data


def test_redirected_text_is_in_the_oem_code_page(host: Machine) -> None:
    run(host, "echo Größe> C:\\job\\o", code_page=850)
    assert read_file(host, "C:\\job\\o") == "Größe\r\n".encode("cp850")
    run(host, "chcp 65001 > nul & echo Größe> C:\\job\\o")
    assert read_file(host, "C:\\job\\o") == "Größe\r\n".encode()


def test_type_converts_utf16_to_the_console(host: Machine) -> None:
    write_file(host, "C:\\job\\u", b"\xff\xfe" + "über\r\n".encode("utf-16-le"))
    assert run(host, "type C:\\job\\u", code_page=850).out == "über\n"


def test_a_batch_file_runs_with_its_arguments(host: Machine) -> None:
    text = (
        "@echo off\r\n:: comment\r\nsetlocal EnableDelayedExpansion\r\n"
        "set N=0\r\nfor %%i in (%*) do (\r\n  set /a N+=1\r\n  echo !N!: %%~i\r\n)\r\n"
        'call :sub x\r\nif "%~1"=="a b" (echo first) else (\r\n  echo other\r\n)\r\n'
        "cmd /c exit 4\r\necho rc %ERRORLEVEL% 100%%\r\ngoto end\r\necho never\r\n:end\r\nexit /b 12\r\n"
        ":sub\r\necho in %0 %1 %undefined%.\r\ngoto :eof\r\n"
    )
    write_file(host, "C:\\job\\run.cmd", text.encode())
    outcome = run(host, 'C:\\job\\run.cmd "a b" c & echo after %^ERRORLEVEL%')
    assert outcome.out.splitlines() == ["1: a b", "2: c", "in :sub x .", "first", "rc 4 100%", "after %ERRORLEVEL%"]
    assert run(host, "C:\\job\\run.cmd a").code == 12


def test_a_batch_file_echoes_its_commands_unless_told_not_to(host: Machine) -> None:
    write_file(host, "C:\\job\\loud.cmd", b"ver>nul\r\n@echo quiet\r\n")
    assert run(host, "C:\\job\\loud.cmd").out == "\nC:\\>ver>nul \nquiet\n"


def test_a_full_disk_stops_the_output(host: Machine) -> None:
    volume = host.volume_by_letter("F")
    assert volume is not None
    volume.reserve("test", volume.free)
    outcome = run(host, "echo x> F:\\o")
    assert (outcome.code, outcome.err) == (1, "There is not enough space on the disk.\n")


def test_a_file_that_a_program_writes_cannot_be_moved_or_written(host: Machine) -> None:
    processes = host.processes
    writer = processes.start_shell_command(
        "(echo start& timeout /nobreak 60 < nul)> C:\\job\\log", token=ADMINISTRATOR, shell_id="w", directory="C:\\"
    )
    assert writer.alive
    busy = "The process cannot access the file because it is being used by another process."
    assert busy in run(host, "del C:\\job\\log").err
    assert busy in run(host, "echo x> C:\\job\\log").err
    assert run(host, "type C:\\job\\log").out == "start\n"
    processes.run_to_end(writer)
    assert run(host, "del C:\\job\\log").err == ""


def test_a_network_logon_has_no_second_hop(host: Machine) -> None:
    share = "\\\\filer\\backups\\x.txt"
    assert run(host, f"echo x> {share}", token=ADMINISTRATOR).err == "Access is denied.\n"
    assert run(host, f"echo x> {share}").code == 0  # SYSTEM goes out as HV01$
    operator = Token(account="operator", kind="batch", groups=frozenset({"Users"}))
    assert run(host, f"type {share}", token=operator).out == "x\n"
    assert run(host, "echo x> \\\\filer\\readonly\\x").err == "Access is denied.\n"


def test_dir_lists_folders_files_and_trees(host: Machine) -> None:
    run(host, "md C:\\job\\sub & echo 12345> C:\\job\\sub\\b.txt")
    assert run(host, "dir /b C:\\job").out == "in.txt\nsub\n"
    assert run(host, "dir /b /ad C:\\job").out == "sub\n"
    assert run(host, "dir /a-d /b C:\\job").out == "in.txt\n"
    assert run(host, "dir /s /b C:\\job").out == "C:\\job\\in.txt\nC:\\job\\sub\nC:\\job\\sub\\b.txt\n"
    listing = run(host, "dir C:\\job\\sub").out
    assert " Volume in drive C is System\n" in listing
    assert " Directory of C:\\job\\sub\n" in listing
    assert "                 7 b.txt\n" in listing


def test_children_of_a_shell_die_with_it(host: Machine) -> None:
    shell = host.processes.start_shell_command(
        "start /b timeout /nobreak 600 & timeout /nobreak 600 < nul",
        token=ADMINISTRATOR,
        shell_id="gone",
        directory="C:\\",
    )
    assert len(host.processes.named("timeout.exe")) == 2
    host.processes.kill_job("gone")
    assert not shell.alive
    assert host.processes.named("timeout.exe") == []


@pytest.mark.parametrize(
    ("tail", "command"),
    [
        ('/c "echo a"', "echo a"),
        ('/c "C:\\a b\\x.exe"', '"C:\\a b\\x.exe"'),
        ('/s /c "C:\\a b\\x.exe"', "C:\\a b\\x.exe"),
        ('/c ""C:\\a b\\x.cmd" "arg""', '"C:\\a b\\x.cmd" "arg"'),
        ('/c "C:\\a b\\x.exe" "arg"', 'C:\\a b\\x.exe" "arg'),
        ('/d /q /v:on /c "echo !X! & echo"', "echo !X! & echo"),
        ("/C echo x", "echo x"),
    ],
)
def test_cmd_strips_quotes_as_documented(tail: str, command: str) -> None:
    switches = cmd_switches(tail, lambda name: name == "C:\\a b\\x.exe")
    assert switches.command == command
    assert switches.delayed == ("/v:on" in tail)


@pytest.mark.parametrize(
    ("line", "arguments"),
    [
        ("a b  c", ["a", "b", "c"]),
        ('a "b c" d', ["a", "b c", "d"]),
        ('a "b\\"c"', ["a", 'b"c']),
        ('a "b\\\\" c', ["a", "b\\", "c"]),
        ("a b\\\\c", ["a", "b\\\\c"]),
        ('-hyperv:"Host Component",VM1', ["-hyperv:Host Component,VM1"]),
        ('""', [""]),
        ('-t:"\\\\?\\Volume{1}\\" -q', ['-t:\\\\?\\Volume{1}" -q']),
    ],
)
def test_programs_get_their_arguments_as_the_c_runtime_splits_them(line: str, arguments: list[str]) -> None:
    assert split_command_line(line) == arguments


@given(st.text(alphabet='ab()&|<>^"% \n!ifor@=', max_size=40))
def test_any_line_is_parsed_or_refused(line: str) -> None:
    try:
        parse(expand_percent(line, lambda name: None))
    except SyntaxFault as fault:
        assert str(fault)


def test_percent_expansion_differs_between_line_and_batch() -> None:
    assert expand_percent("%no% %x%", {"x": "1"}.get) == "%no% 1"
    assert expand_percent("%no% %x% %1 %% %*", {"x": "1"}.get, ["p", "a", "b"]) == " 1 a % a b"
