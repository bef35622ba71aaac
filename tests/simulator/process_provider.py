# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Win32_Process: processes as CIM; Create and Terminate. The table itself is processes.py.

Facts: backup-engines 5.2. A process that has ended is no row any more, so its exit code cannot be asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .assumed import assumed
from .cim import Instance, Value
from .processes import Environment, Process, ProgramNotFound, Token
from .service import caller, method, view
from .windows_files import Files

assumed(
    "process-create-directory",
    "Win32_Process.Create answers 9 for a current directory that does not exist",
    source="Win32_Process.Create documents 9 as path not found",
    values=("9", "8"),
)

OK, ACCESS_DENIED, INSUFFICIENT_PRIVILEGE, UNKNOWN_FAILURE, PATH_NOT_FOUND, INVALID_PARAMETER = 0, 2, 3, 8, 9, 21


def process_row(machine: Any, process: Process) -> Mapping[str, Value]:
    own = {"CSCreationClassName": "Win32_ComputerSystem", "CSName": machine.netbios_name}
    return {
        **own,
        "Caption": process.name,
        "CommandLine": process.command_line or None,
        "CreationClassName": "Win32_Process",
        "CreationDate": process.created,
        "Description": process.name,
        "ExecutablePath": process.executable or None,
        "Handle": str(process.pid),
        "Name": process.name,
        "OSCreationClassName": "Win32_OperatingSystem",
        "OSName": f"{machine.os.caption}|C:\\Windows|\\Device\\Harddisk0\\Partition4",
        "ParentProcessId": process.parent_pid,
        "Priority": 8,
        "ProcessId": process.pid,
        "SessionId": process.session_id,
        "ThreadCount": 4,
        "WindowsVersion": machine.os.version,
    }


@view("root/cimv2", "Win32_Process")
def processes(machine: Any) -> Iterable[Mapping[str, Value]]:
    machine.processes.look()
    for process in machine.processes:
        yield process_row(machine, process)


@method("root/cimv2", "Win32_Process", "Create")
def create(machine: Any, target: Instance | None, arguments: dict[str, Value]) -> Mapping[str, Value]:
    """Runs in session 0 with the caller's network logon, outside every shell's job object, its output discarded."""
    line = arguments.get("CommandLine")
    who = caller()
    if not isinstance(line, str) or not line.strip():
        return {"ReturnValue": INVALID_PARAMETER}
    if not who.is_administrator:
        return {"ReturnValue": ACCESS_DENIED}
    kind = "system" if who.account.upper() == "SYSTEM" else "network"
    token = Token(account=who.account, domain=who.domain, kind=kind, groups=who.groups)
    directory = arguments.get("CurrentDirectory")
    if isinstance(directory, str) and directory and not Files(machine, token, "C:\\").is_folder(directory):
        return {"ReturnValue": int(machine.world.assume("process-create-directory"))}
    environment = machine.processes.environment_of(token)
    startup = arguments.get("ProcessStartupInformation")
    if isinstance(startup, Instance):
        variables = startup.get("EnvironmentVariables")
        if isinstance(variables, list):
            environment = Environment(dict(str(entry).partition("=")[::2] for entry in variables))
    try:
        process = machine.processes.start(
            line,
            token=token,
            directory=directory if isinstance(directory, str) and directory else "C:\\Windows\\system32",
            environment=environment,
            job="",
        )
    except ProgramNotFound:
        return {"ReturnValue": PATH_NOT_FOUND}
    machine.processes.pump()
    return {"ReturnValue": OK, "ProcessId": process.pid}


def _process(machine: Any, target: Instance | None) -> Process | None:
    handle = target.get("Handle") if target is not None else None
    return machine.processes.by_pid(int(str(handle))) if handle is not None and str(handle).isdigit() else None


@method("root/cimv2", "Win32_Process", "Terminate")
def terminate(machine: Any, target: Instance | None, arguments: dict[str, Value]) -> Mapping[str, Value]:
    """Ends this process only; its children and a job of wbengine go on."""
    process = _process(machine, target)
    if process is None:
        return {"ReturnValue": PATH_NOT_FOUND}
    if not caller().is_administrator or process.pid <= 4:
        return {"ReturnValue": ACCESS_DENIED}
    reason = arguments.get("Reason")
    machine.processes.kill(process, reason if isinstance(reason, int) else 0)
    if process.name.lower() == "wbengine.exe":
        machine.backup.engine_stopped()
    return {"ReturnValue": OK}


@method("root/cimv2", "Win32_Process", "GetOwner")
def get_owner(machine: Any, target: Instance | None, arguments: dict[str, Value]) -> Mapping[str, Value]:
    process = _process(machine, target)
    if process is None:
        return {"ReturnValue": PATH_NOT_FOUND}
    return {
        "ReturnValue": OK,
        "User": process.token.account,
        "Domain": process.token.domain or machine.netbios_name,
    }
