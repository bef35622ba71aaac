# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The simulated Task Scheduler and Win32_Process, through their CIM methods."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from simulator.cim import CimFault, Instance, Value
from simulator.service import CimService
from simulator.task_definition import NAMESPACE, TaskError, parse_duration, parse_task
from simulator.world import Machine
from unit.simulator.windows_machines import call, make_world, read_file, rows, run, write_file

TASKS = "root/microsoft/windows/taskscheduler"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Machine]:
    world = make_world(tmp_path)
    yield world.machine("hv01")
    world.close()


def task_xml(*actions: str, settings: str = "", principal: str = "<UserId>S-1-5-18</UserId>", head: str = "") -> str:
    execs = "".join(f"<Exec><Command>cmd.exe</Command><Arguments>{text}</Arguments></Exec>" for text in actions)
    return (
        f'{head}<Task version="1.2" xmlns="{NAMESPACE}"><Principals><Principal id="Author">{principal}</Principal></Principals>'
        f'<Settings>{settings}</Settings><Actions Context="Author">{execs}</Actions></Task>'
    )


def ps(host: Machine, name: str, **arguments: Any) -> Mapping[str, Value]:
    return call(host, TASKS, "PS_ScheduledTask", name, **arguments)


def info(host: Machine, name: str = "job", path: str = "\\x\\") -> Instance:
    found = ps(host, "GetInfoByName", TaskName=name, TaskPath=path)["cmdletOutput"]
    assert isinstance(found, Instance)
    return found


def register(host: Machine, xml: str, name: str = "job") -> None:
    assert ps(host, "RegisterByXml", Xml=xml, TaskName=name, TaskPath="\\x\\", Force=True)["ReturnValue"] == 0


def start(host: Machine, name: str = "job") -> None:
    assert ps(host, "StartByPath", TaskName=name, TaskPath="\\x")["ReturnValue"] == 0


def state(host: Machine) -> Value:
    return rows(host, TASKS, "MSFT_ScheduledTask")[0]["State"]


def test_a_task_runs_its_actions_in_order_as_system(host: Machine) -> None:
    write_file(host, "C:\\job\\x", b"")
    register(
        host,
        task_xml(
            "/c whoami&gt; C:\\job\\log",
            "/v:on /c timeout /nobreak 100 &lt;nul &amp; echo second&gt;&gt; C:\\job\\log",
            "/c echo %TEMP%&gt;&gt; C:\\job\\log&amp; exit 7",
        ),
    )
    assert info(host).get("LastTaskResult") == 0x41303
    assert str(info(host).get("LastRunTime")).startswith("1999-11-30")
    start(host)
    assert info(host).get("LastTaskResult") == 0x41301
    assert state(host) in {3, 4}
    for _look in range(6):
        info(host)
    assert (info(host).get("LastTaskResult"), state(host)) == (7, 3)
    assert read_file(host, "C:\\job\\log") == b"nt authority\\system\r\nsecond\r\nC:\\Windows\\TEMP\r\n"


def test_the_default_time_limit_is_72_hours_and_pt0s_has_none(host: Machine) -> None:
    long = "/c timeout /nobreak 999999 &lt;nul"
    register(host, task_xml(long), "limited")
    register(host, task_xml(long, settings="<ExecutionTimeLimit>PT0S</ExecutionTimeLimit>"), "free")
    start(host, "limited")
    start(host, "free")
    host.world.clock.advance(timedelta(hours=73).total_seconds())
    host.processes.pump()
    results = {row["TaskName"]: row["State"] for row in rows(host, TASKS, "MSFT_ScheduledTask")}
    assert results["limited"] == 3
    assert host.scheduler.find("\\x\\", "limited").last_result == 0x41306
    assert len(host.processes.named("timeout.exe")) <= 1


def test_stop_ends_the_programs_of_a_task(host: Machine) -> None:
    register(host, task_xml("/c timeout /nobreak 999999 &lt;nul"))
    start(host)
    assert [p.name for p in host.processes.named("timeout.exe")] == ["timeout.exe"]
    ps(host, "StopByPath", TaskName="job", TaskPath="\\x\\")
    assert host.processes.named("timeout.exe") == []
    assert info(host).get("LastTaskResult") == 0x41306


def test_a_reboot_ends_what_runs_and_keeps_what_is_registered(host: Machine) -> None:
    register(host, task_xml("/c timeout /nobreak 999999 &lt;nul"))
    start(host)
    host.reboot()
    assert (info(host).get("LastTaskResult"), state(host)) == (0x40010004, 3)
    assert host.processes.named("cmd.exe") == []


def test_a_second_start_of_a_running_task_is_ignored_or_refused(host: Machine) -> None:
    host.world.looks_per_job = 100
    register(host, task_xml("/c timeout /nobreak 999999 &lt;nul"))
    start(host)
    start(host)
    assert len(host.processes.named("cmd.exe")) == 1
    host.world.switches.choose("task-start-while-running", "0x8004131F")
    with pytest.raises(CimFault) as caught:
        start(host)
    assert caught.value.code == 0x8004131F


@pytest.mark.parametrize(
    ("principal", "out"),
    [
        ("<UserId>NT AUTHORITY\\SYSTEM</UserId>", b"nt authority\\system\r\n"),
        ("<UserId>S-1-5-20</UserId>", b"nt authority\\network service\r\n"),
        ("<UserId>Administrator</UserId><LogonType>S4U</LogonType>", b"hv01\\administrator\r\n"),
    ],
)
def test_the_principal_decides_who_runs(host: Machine, principal: str, out: bytes) -> None:
    write_file(host, "C:\\job\\x", b"")
    register(host, task_xml("/c whoami&gt;C:\\job\\who", principal=principal))
    start(host)
    assert read_file(host, "C:\\job\\who") == out


def test_system_reaches_a_share_as_the_computer_account_and_s4u_does_not(host: Machine) -> None:
    write_file(host, "C:\\job\\x", b"")
    line = "/c echo x&gt; \\\\filer\\backups\\%USERNAME%.txt 2&gt;C:\\job\\err"
    register(host, task_xml(line))
    start(host)
    info(host)
    assert read_file(host, "\\\\filer\\backups\\HV01$.txt") == b"x \r\n"
    register(host, task_xml(line, principal="<UserId>Administrator</UserId><LogonType>S4U</LogonType>"))
    start(host)
    info(host)
    assert info(host).get("LastTaskResult") == 1


@pytest.mark.parametrize(
    ("xml", "code"),
    [
        ("<Task", 0x8004131A),
        (task_xml("x", head='<?xml version="1.0" encoding="UTF-8"?>'), 0x8004131A),
        (task_xml("x").replace(NAMESPACE, "urn:other"), 0x80041317),
        (task_xml("x", settings="<Bogus>1</Bogus>"), 0x80041316),
        (task_xml("x", settings="<ExecutionTimeLimit>1h</ExecutionTimeLimit>"), 0x80041318),
        (task_xml("x", settings="<Enabled>yes</Enabled>"), 0x80041318),
        (task_xml("x", settings="<DeleteExpiredTaskAfter>PT1H</DeleteExpiredTaskAfter>"), 0x80041319),
        (task_xml("x", principal="<UserId>SYSTEM</UserId><LogonType>ServiceAccount</LogonType>"), 0x80041318),
        (task_xml("x").replace("<Command>cmd.exe</Command>", ""), 0x80041319),
        (task_xml(), 0x80041319),
    ],
)
def test_task_xml_is_refused_with_the_code_of_task_scheduler(host: Machine, xml: str, code: int) -> None:
    with pytest.raises(TaskError) as caught:
        parse_task(xml)
    assert caught.value.code == code
    host.world.switches.choose("task-errors", "return-value")
    assert ps(host, "RegisterByXml", Xml=xml, TaskName="bad", TaskPath="\\")["ReturnValue"] == code


def test_a_utf16_declaration_in_the_string_is_fine() -> None:
    assert (
        parse_task(task_xml("/c x", head='<?xml version="1.0" encoding="UTF-16"?>\r\n')).actions[0].command == "cmd.exe"
    )


def test_refusals_come_as_faults(host: Machine) -> None:
    def code(name: str, **arguments: Any) -> int:
        with pytest.raises(CimFault) as caught:
            ps(host, name, **arguments)
        return caught.value.code

    register(host, task_xml("/c echo"))
    assert code("RegisterByXml", Xml=task_xml("x"), TaskName="JOB", TaskPath="\\X") == 0x800700B7
    assert code("StartByPath", TaskName="none", TaskPath="\\") == 0x80070002
    assert code("GetInfoByName", TaskName="job", TaskPath="\\") == 0x80070002
    unknown = task_xml("x", principal="<UserId>nobody</UserId>")
    assert code("RegisterByXml", Xml=unknown, TaskName="u", TaskPath="\\") == 0x80070534
    user = task_xml("x", principal="<UserId>Administrator</UserId><LogonType>Password</LogonType>")
    assert code("RegisterByXml", Xml=user, TaskName="u", TaskPath="\\", Password="wrong") == 0x8007052E
    ps(host, "DisableByName", TaskName="job", TaskPath="\\x\\")
    assert code("StartByPath", TaskName="job", TaskPath="\\x\\") == 0x80041326
    with pytest.raises(CimFault):
        call(host, TASKS, "PS_ScheduledTask", "GetInfoByName", groups=("Users",), TaskName="job", TaskPath="\\x\\")


def test_a_missing_program_is_the_last_result(host: Machine) -> None:
    register(host, task_xml("x").replace("cmd.exe", "C:\\none\\nothing.exe"))
    start(host)
    assert info(host).get("LastTaskResult") == 0x80070002


def test_a_time_trigger_fires_in_simulated_time(host: Machine) -> None:
    write_file(host, "C:\\job\\x", b"")
    xml = task_xml("/c echo fired&gt;C:\\job\\out").replace(
        "<Settings>",
        "<Triggers><TimeTrigger><StartBoundary>2026-10-01T14:00:00</StartBoundary></TimeTrigger></Triggers><Settings>",
    )
    register(host, xml)  # local time is UTC-7: 21:00 UTC
    assert str(info(host).get("NextRunTime")).startswith("2026-10-01 21:00")
    assert info(host).get("LastTaskResult") == 0x41303
    host.world.clock.advance(3601)
    info(host)
    assert read_file(host, "C:\\job\\out") == b"fired\r\n"


def test_instances_and_answers_fit_the_schema(host: Machine) -> None:
    register(host, task_xml("/c echo"))
    service = CimService(host)
    found = service.query(TASKS, "SELECT * FROM MSFT_ScheduledTask WHERE TaskName = 'job'")
    assert [row.get("TaskPath") for row in found.instances] == ["\\x\\"]
    processes = service.query("root/cimv2", "SELECT ProcessId, CommandLine FROM Win32_Process WHERE Name = 'lsass.exe'")
    assert len(processes.instances) == 1
    host.event_log.write("System", provider="x", event_id=3)
    events = service.query("root/cimv2", "SELECT * FROM Win32_NTLogEvent WHERE Logfile = 'System' AND EventCode = 3")
    assert len(events.instances) == 1
    service.delete(TASKS, "MSFT_ScheduledTask", [("TaskName", "job"), ("TaskPath", "\\x\\")])
    assert host.scheduler.tasks() == []


def test_schtasks_creates_runs_and_queries(host: Machine) -> None:
    write_file(
        host,
        "C:\\t.xml",
        b"\xff\xfe" + task_xml("/c exit 3", head='<?xml version="1.0" encoding="UTF-16"?>').encode("utf-16-le"),
    )
    assert run(host, "schtasks /create /tn \\x\\job /xml C:\\t.xml /ru SYSTEM /f").code == 0
    assert run(host, "schtasks /run /tn \\x\\job").code == 0
    assert "Last Result:   3" in run(host, "schtasks /query /tn \\x\\job /fo list /v").out
    assert run(host, "schtasks /query /tn none").code == 1


@pytest.mark.parametrize(("text", "hours"), [("PT72H", 72), ("P3D", 72), ("PT0S", 0), ("P1DT12H", 36), ("PT90M", 1.5)])
def test_durations(text: str, hours: float) -> None:
    assert parse_duration(text) == timedelta(hours=hours)


# -- Win32_Process ------------------------------------------------------------------------------------


def create(host: Machine, line: str, **arguments: Any) -> Mapping[str, Value]:
    return call(host, "root/cimv2", "Win32_Process", "Create", CommandLine=line, **arguments)


def test_a_created_process_is_listed_until_it_ends(host: Machine) -> None:
    answer = create(host, "timeout.exe /nobreak 100")
    assert answer["ReturnValue"] == 0
    found = [row for row in rows(host, "root/cimv2", "Win32_Process") if row["ProcessId"] == answer["ProcessId"]]
    assert [row["CommandLine"] for row in found] == ["timeout.exe /nobreak 100"]
    for _look in range(3):
        found = [row for row in rows(host, "root/cimv2", "Win32_Process") if row["ProcessId"] == answer["ProcessId"]]
    assert found == []


def test_create_answers_its_documented_codes(host: Machine) -> None:
    assert create(host, "nosuch.exe")["ReturnValue"] == 9
    assert create(host, " ")["ReturnValue"] == 21
    assert create(host, "cmd.exe", CurrentDirectory="C:\\none")["ReturnValue"] == 9
    assert call(host, "root/cimv2", "Win32_Process", "Create", groups=("Users",), CommandLine="cmd")["ReturnValue"] == 2


def test_a_created_process_has_the_callers_network_logon(host: Machine) -> None:
    write_file(host, "C:\\job\\x", b"")
    create(host, "cmd /c whoami>C:\\job\\who & echo x>\\\\filer\\backups\\x 2>C:\\job\\err")
    assert read_file(host, "C:\\job\\who") == b"hv01\\administrator\r\n"
    with pytest.raises(Exception, match="cannot find"):
        read_file(host, "\\\\filer\\backups\\x")
