# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs that an operator installed on a simulated machine: a test says in Python what one at a path does.

Not here: the programs of Windows (programs/), batch files (command_interpreter.py runs them from the volume).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator
from typing import Any

from .file_system import FileSystemError
from .processes import (
    Buffer,
    Handles,
    Input,
    Pause,
    Process,
    Program,
    ProgramFunction,
    Until,
    Wait,
    split_command_line,
    wait_for,
)
from .windows_files import Files

HANG = object()


class ProgramCall:
    """One start of an installed program, as its Python function sees it."""

    def __init__(self, machine: Any, process: Process) -> None:
        self.machine = machine
        self.process = process
        self.arguments = split_command_line(process.command_line)[1:]

    @property
    def _files(self) -> Files:
        return Files(self.machine, self.process.token, self.process.directory)

    def read(self, path: str) -> bytes:
        return self._files.read(path)

    def write(self, path: str, data: bytes | str) -> None:
        self._files.write(path, data if isinstance(data, bytes) else data.encode())

    def exists(self, path: str) -> bool:
        return self._files.exists(path)

    def delete(self, path: str) -> None:
        self._files.delete(path)

    def hang(self) -> object:
        """What the function returns so that the process runs until somebody ends it."""
        return HANG

    def run(self, text: str) -> tuple[int, bytes]:
        """Runs a command line in the same context to its end, at once: (exit code, standard output and error)."""
        child, output = self._start(text)
        return self.machine.processes.finish_now(child), output.take()

    def running(self, text: str) -> Generator[Wait, None, tuple[int, bytes]]:
        """The same for a function that is a generator: `code, output = yield from call.running(text)` takes looks."""
        child, output = self._start(text)
        yield wait_for(child)
        return int(child.exit_code or 0), output.take()

    def takes(self, seconds: float, looks: int = 2) -> Wait:
        """Simulated time for a function that is a generator: `yield call.takes(600)`."""
        return Pause(self.machine.now(), seconds, looks)

    def _start(self, text: str) -> tuple[Process, Buffer]:
        output = Buffer()
        child = self.machine.processes.start(
            text,
            token=self.process.token,
            parent=self.process,
            handles=Handles(stdin=Input(closed=True), stdout=output, stderr=output),
            directory=self.process.directory,
            environment=self.process.environment,
        )
        return child, output


def install_program(machine: Any, path: str, function: Callable[[ProgramCall], Any]) -> None:
    """A file at `path` that runs `function(call)` when it is started.

    The function returns an exit code, (exit code, output as bytes or text), or `call.hang()`; a generator function may
    also yield waits. Folders above are made. Deleting or renaming the file ends the program there.
    """
    volume, below = machine.resolve(path)
    folder = below.rpartition("\\")[0]
    if folder and not volume.files.exists(folder):
        volume.files.mkdir(folder, parents=True)
    volume.files.write(below, b"MZ" + bytes(62))
    machine.installed_programs[volume.key_of(below)] = function


def find_installed(machine: Any, process: Process, program: str) -> ProgramFunction | None:
    """The installed program that a command line's first word means, with or without `.exe`, by folder or search path."""
    if not machine.installed_programs:
        return None
    files = Files(machine, process.token, process.directory)
    folders = [""]
    if "\\" not in program and ":" not in program:
        folders += [part.rstrip("\\") + "\\" for part in (process.environment.get("Path") or "").split(";") if part]
    for folder in folders:
        for name in (program, f"{program}.exe", f"{program}.com"):
            try:
                volume, below = files.locate(folder + name)
                function = machine.installed_programs.get(volume.key_of(below))
                if function is None or not volume.exists(below):
                    continue
            except FileSystemError:
                continue
            process.executable = files.absolute(folder + name)
            process.name = process.executable.rpartition("\\")[2]
            return _as_program(function)
    return None


def _as_program(function: Callable[[ProgramCall], Any]) -> ProgramFunction:
    def main(machine: Any, process: Process) -> Program:
        result = function(ProgramCall(machine, process))
        if inspect.isgenerator(result):
            result = yield from result
        if result is HANG:
            yield Until(lambda: False)
        code, output = result if isinstance(result, tuple) else (result, b"")
        if output:
            process.stdout.write(output if isinstance(output, bytes) else output.encode())
        return int(code or 0)

    return main
