# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""schtasks.exe: /Create /XML, /Run, /End, /Query, /Delete (win32 docs, schtasks). Texts are English."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..file_system import FileSystemError
from ..processes import Process, Program, split_command_line
from ..task_definition import TaskError
from ..task_scheduler import Task
from ..windows_files import Files

_STATES = {0: "Unknown", 1: "Disabled", 2: "Queued", 3: "Ready", 4: "Running"}
_FLAGS = {"/f", "/v", "/nh", "/i", "/it", "/z", "/np"}


def main(machine: Any, process: Process) -> Program:
    yield from ()
    words = split_command_line(process.command_line)[1:]
    action = _ACTIONS.get(words[0].lower() if words else "/query")
    if action is None:
        process.err(f'ERROR: Invalid argument/option - "{words[0]}".\nType "SCHTASKS /?" for usage.')
        return 1
    try:
        return action(machine, process, _options(words[1:]))
    except TaskError as error:
        process.err(f"ERROR: {error}")
    except FileSystemError as problem:
        process.err(f"ERROR: {problem}")
    except ValueError as problem:
        process.err(f'ERROR: Invalid argument/option - "{problem}".\nType "SCHTASKS /?" for usage.')
    return 1


def _options(words: list[str]) -> dict[str, str]:
    options: dict[str, str] = {}
    index = 0
    while index < len(words):
        name = words[index].lower()
        if not name.startswith("/"):
            raise ValueError(words[index])
        has_value = name not in _FLAGS and index + 1 < len(words) and not words[index + 1].startswith("/")
        options[name] = words[index + 1] if has_value else ""
        index += 2 if has_value else 1
    return options


def _split(name: str) -> tuple[str, str]:
    folder, _unused, last = name.rpartition("\\")
    return folder, last


def _named(machine: Any, options: dict[str, str]) -> Task:
    task: Task = machine.scheduler.find(*_split(options.get("/tn", "")))
    return task


def _create(machine: Any, process: Process, options: dict[str, str]) -> int:
    if "/xml" not in options:
        process.err("ERROR: The simulator creates tasks from /XML only.")
        return 1
    data = Files(machine, process.token, process.directory).read(options["/xml"])
    xml = data.decode("utf-16" if data[:2] in {b"\xff\xfe", b"\xfe\xff"} else "utf-8-sig", "replace")
    folder, name = _split(options.get("/tn", ""))
    machine.scheduler.register_xml(
        folder, name, xml, user=options.get("/ru", ""), password=options.get("/rp", ""), force="/f" in options
    )
    process.out(f'SUCCESS: The scheduled task "{options["/tn"]}" has successfully been created.')
    return 0


def _run(machine: Any, process: Process, options: dict[str, str]) -> int:
    machine.scheduler.start(_named(machine, options))
    process.out(f'SUCCESS: Attempted to run the scheduled task "{options["/tn"]}".')
    return 0


def _end(machine: Any, process: Process, options: dict[str, str]) -> int:
    machine.scheduler.stop(_named(machine, options))
    process.out(f'SUCCESS: The scheduled task "{options["/tn"]}" has been terminated successfully.')
    return 0


def _delete(machine: Any, process: Process, options: dict[str, str]) -> int:
    task = _named(machine, options)
    if "/f" not in options:
        process.out(f'WARNING: Are you sure you want to remove the task "{options["/tn"]}" (Y/N)? ')
        return 1
    machine.scheduler.unregister(task)
    process.out(f'SUCCESS: The scheduled task "{options["/tn"]}" was successfully deleted.')
    return 0


def _query(machine: Any, process: Process, options: dict[str, str]) -> int:
    tasks = [_named(machine, options)] if "/tn" in options else machine.scheduler.tasks()
    if "/xml" in options:
        for task in tasks:
            process.out(task.definition.xml)
        return 0
    form = options.get("/fo", "table").lower()
    for task in tasks:
        state = _STATES[task.state]
        if form == "csv":
            process.out(f'"{task.path}","N/A","{state}"')
        elif form == "list":
            process.out(
                f"\nFolder: {task.folder.rstrip(chr(92)) or chr(92)}\nHostName:      {machine.netbios_name}\nTaskName:      {task.path}\n"
                f"Next Run Time: N/A\nStatus:        {state}\nLogon Mode:    Interactive/Background"
            )
            if "/v" in options:
                process.out(f"Last Result:   {task.last_result}")
        else:
            process.out(f"{task.name:40} {'N/A':22} {state:15}")
    return 0


_ACTIONS: dict[str, Callable[[Any, Process, dict[str, str]], int]] = {
    "/create": _create,
    "/delete": _delete,
    "/end": _end,
    "/query": _query,
    "/run": _run,
}
