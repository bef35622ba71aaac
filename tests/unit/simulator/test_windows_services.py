# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The services of a machine together, through the CIM service that checks every name and type against the schema."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from simulator.assumed import import_everything
from simulator.cim import CimFault, Instance
from simulator.faults import effects
from simulator.service import Caller, CimService, acting_as
from simulator.windows_backup import Failure
from simulator.world import Machine, World
from unit.simulator.windows_machines import WORLD, make_world, read_file, write_file

TASKS = "root/microsoft/windows/taskscheduler"
NAMESPACE = "http://schemas.microsoft.com/windows/2004/02/mit/task"
WMI = "http://schemas.microsoft.com/wbem/wsman/1/wmi"
ADMINISTRATOR = Caller(account="Administrator", groups=frozenset({"Administrators"}))


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Machine]:
    world = make_world(tmp_path)
    with acting_as(ADMINISTRATOR):
        yield world.machine("hv01")
    world.close()


def invoke(host: Machine, namespace: str, class_name: str, method: str, **arguments: str) -> dict[str, Any]:
    space = f"{WMI}/{namespace}/{class_name}"
    body = ET.Element(f"{{{space}}}{method}_INPUT")
    for name, value in arguments.items():
        ET.SubElement(body, f"{{{space}}}{name}").text = value
    return CimService(host).invoke(namespace, class_name, method, [], body)[2]


JOB = (
    "@echo off\r\nwbadmin start backup -backupTarget:E: -hyperv:sql01 -quiet > C:\\job\\out.txt 2>&1\r\n"
    ">C:\\job\\rc.tmp echo %ERRORLEVEL%\r\nwbadmin get versions -backupTarget:E: > C:\\job\\versions.txt\r\n"
    "move /y C:\\job\\rc.tmp C:\\job\\rc.txt > nul\r\n"
)


def run_job(host: Machine, batch: str) -> list[Any]:
    """LastTaskResult at each look until the task has ended."""
    write_file(host, "C:\\job\\run.cmd", batch.encode())
    xml = (
        f'<Task version="1.2" xmlns="{NAMESPACE}"><Principals><Principal><UserId>S-1-5-18</UserId></Principal></Principals>'
        "<Settings><ExecutionTimeLimit>PT0S</ExecutionTimeLimit></Settings><Actions><Exec><Command>C:\\job\\run.cmd</Command>"
        "</Exec></Actions></Task>"
    )
    assert (
        invoke(host, TASKS, "PS_ScheduledTask", "RegisterByXml", TaskName="t", TaskPath="\\x\\", Xml=xml)["ReturnValue"]
        == 0
    )
    assert invoke(host, TASKS, "PS_ScheduledTask", "StartByPath", TaskName="t", TaskPath="\\x\\")["ReturnValue"] == 0
    results = []
    for _look in range(20):
        info = invoke(host, TASKS, "PS_ScheduledTask", "GetInfoByName", TaskName="t", TaskPath="\\x\\")["cmdletOutput"]
        assert isinstance(info, Instance)
        results.append(info.get("LastTaskResult"))
        if results[-1] != 0x41301:
            break
    return results


def test_a_detached_job_backs_up_and_leaves_its_exit_code(host: Machine) -> None:
    results = run_job(host, JOB)
    assert (set(results[:-1]), results[-1]) == ({0x41301}, 0)
    assert read_file(host, "C:\\job\\rc.txt") == b"0\r\n"
    assert b"The backup operation successfully completed." in read_file(host, "C:\\job\\out.txt")
    assert b"Version identifier: 10/01/2026-20:00" in read_file(host, "C:\\job\\versions.txt")


def test_a_detached_job_leaves_the_exit_code_of_a_failure(host: Machine) -> None:
    host.backup.fail_next = Failure()
    run_job(host, JOB)
    assert read_file(host, "C:\\job\\rc.txt") == b"-3\r\n"


def test_methods_of_the_registry_and_of_processes_fit_the_schema(host: Machine) -> None:
    key = {"hDefKey": "2147483650", "sSubKeyName": "SOFTWARE\\a"}
    for namespace in ("root/cimv2", "root/default"):
        assert invoke(host, namespace, "StdRegProv", "CreateKey", **key)["ReturnValue"] == 0
        assert (
            invoke(host, namespace, "StdRegProv", "SetDWORDValue", **key, sValueName="n", uValue="7")["ReturnValue"]
            == 0
        )
        assert invoke(host, namespace, "StdRegProv", "GetDWORDValue", **key, sValueName="n")["uValue"] == 7
        assert invoke(host, namespace, "StdRegProv", "EnumValues", **key) == {
            "ReturnValue": 0,
            "sNames": ["n"],
            "Types": [4],
        }
        assert invoke(host, namespace, "StdRegProv", "CheckAccess", **key, uRequired="2")["bGranted"] is True
    assert invoke(host, "root/cimv2", "Win32_Process", "Create", CommandLine="timeout /nobreak 60")["ReturnValue"] == 0


def test_wrong_parameter_names_are_refused(host: Machine) -> None:
    with pytest.raises(CimFault):
        invoke(host, TASKS, "PS_ScheduledTask", "RegisterByXml", Name="t", Xml="<Task/>")
    with pytest.raises(CimFault):
        invoke(host, "root/cimv2", "StdRegProv", "GetStringValue", Key="x")


def test_a_guest_that_resumes_keeps_its_processes_and_one_that_reboots_does_not(host: Machine) -> None:
    vm = next(vm for vm in host.vms if vm.name == "app01")
    guest = vm.guest
    assert guest is not None
    guest.world.looks_per_job = 100
    invoke(guest, "root/cimv2", "Win32_Process", "Create", CommandLine="timeout /nobreak 6000")
    vm.set_state(6)
    vm.set_state(2)
    assert len(guest.processes.named("timeout.exe")) == 1
    guest.reboot()
    assert guest.processes.named("timeout.exe") == []


def test_faults_of_backups_can_be_named_by_a_world() -> None:
    assert {"fail_backup", "stuck_backup"} <= set(effects())


def test_a_client_finds_wbadmin_as_a_file_only_where_the_feature_is_installed(tmp_path: Path) -> None:
    text = WORLD.replace("{name: hv02,", "{name: hv02, missing_features: [Windows-Server-Backup],")
    world = World.from_yaml(text, tmp_path)
    query = r"SELECT Name FROM CIM_DataFile WHERE Name = 'C:\\Windows\\System32\\wbadmin.exe'"
    import_everything()  # CIM_DataFile is another module's view
    with acting_as(ADMINISTRATOR):
        found = [len(CimService(world.machine(name)).query("root/cimv2", query).instances) for name in ("hv01", "hv02")]
    world.close()
    assert found == [1, 0]
