# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The programs that a simulated Windows machine can start, and how a command line finds one.

Each program is a function `main(machine, process)` of its own module: a generator that yields waits and returns the exit
code. Programs live in C:\\Windows\\System32; batch files on volumes run through cmd.exe, as CreateProcess does it.
"""

from __future__ import annotations

import re
from typing import Any

from .. import command_interpreter
from ..file_system import FileSystemError
from ..installed_programs import find_installed
from ..processes import Process, ProgramFunction, ProgramNotFound, first_word
from ..windows_files import Files
from . import diskshadow, file_copies, powershell, reg, schtasks, text_tools, wbadmin, wevtutil

SYSTEM_FOLDER = "C:\\Windows\\System32"

PROGRAMS: dict[str, ProgramFunction] = {
    "chcp.com": text_tools.chcp,
    "cmd.exe": command_interpreter.main,
    "diskshadow.exe": diskshadow.main,
    "find.exe": text_tools.find,
    "findstr.exe": text_tools.findstr,
    "hostname.exe": text_tools.hostname,
    "more.com": text_tools.more,
    "powershell.exe": powershell.main,
    "reg.exe": reg.main,
    "robocopy.exe": file_copies.robocopy,
    "schtasks.exe": schtasks.main,
    "sort.exe": text_tools.sort,
    "tasklist.exe": text_tools.tasklist,
    "timeout.exe": text_tools.timeout,
    "wbadmin.exe": wbadmin.main,
    "wevtutil.exe": wevtutil.main,
    "where.exe": text_tools.where,
    "whoami.exe": text_tools.whoami,
    "xcopy.exe": file_copies.xcopy,
}

_FOLDERS = (
    "",
    "c:\\windows\\system32\\",
    "c:\\windows\\sysnative\\",
    "c:\\windows\\system32\\windowspowershell\\v1.0\\",
)


def full_path(name: str) -> str:
    """Where a program of the table lies."""
    folder = f"{SYSTEM_FOLDER}\\WindowsPowerShell\\v1.0" if name == "powershell.exe" else SYSTEM_FOLDER
    return f"{folder}\\{name}"


def known_name(program: str) -> str | None:
    """The table's name of a program written with or without folder and extension, None when there is none."""
    lowered = program.lower().replace("/", "\\")
    folder, _unused, last = lowered.rpartition("\\")
    if (folder + "\\" if folder else "") not in _FOLDERS:
        return None
    for name in (last, f"{last}.exe", f"{last}.com"):
        if name in PROGRAMS:
            return name
    return None


def find_program(machine: Any, process: Process) -> ProgramFunction:
    """Fills in the name and path of the process and gives its program; ProgramNotFound when there is none."""
    program, rest = first_word(process.command_line)
    installed = find_installed(machine, process, program)
    if installed is not None:
        return installed
    name = known_name(program)
    if name == "diskshadow.exe" and machine.os.product_type == 1:
        raise ProgramNotFound(program)  # on Windows Server only
    if name is not None:
        process.name, process.executable = name, full_path(name)
        return PROGRAMS[name]
    if re.search(r"\.(?:cmd|bat)$", program, re.IGNORECASE):
        files = Files(machine, process.token, process.directory)
        try:
            found = files.exists(program) and not files.is_folder(program)
        except FileSystemError:
            found = False
        if found:
            process.name, process.executable = "cmd.exe", full_path("cmd.exe")
            process.command_line = f'C:\\Windows\\system32\\cmd.exe /c ""{program}"{rest}"'
            return command_interpreter.main
    raise ProgramNotFound(program)
