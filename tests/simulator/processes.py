# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The processes of one simulated Windows machine: tokens, streams, job objects, and how time reaches a program.

A program is a generator that yields what it waits for and returns its exit code. Nothing runs by itself: `look` is one
poll from outside (a CIM read, a shell Receive); it gives every waiting thing one step, so a job ends after a number of
looks, and simulated time moves by what the job would have taken. Not here: what programs do (programs/, cmd.exe in
command_interpreter.py) and the CIM face (process_provider.py).

API for the remote shell: `ProcessTable.start_shell_command`, `Process.stdout.take()`, `Process.stderr.take()`,
`Process.stdin.feed()/close()`, `Process.exit_code`, `ProcessTable.look()`, `kill_tree(process)`, `kill_job(shell_id)`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping  # pylint: disable=unused-import
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Any, Protocol, TypeAlias

from .assumed import assumed

assumed(
    "process-job-object",
    "Every process below a winrs shell is in the shell's job object and dies with it; Win32_Process.Create leaves it",
    source="backup-engines 5.1, 5.2 (inferred)",
)
assumed("second-hop", "A network logon reaches no UNC path on another machine", source="backup-engines 1.9, 5.2")

STILL_ACTIVE_LIMIT = 200_000
"""Steps that one pump may take before the simulator calls it a loop."""


# -- who runs --------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Token:
    """A logon. `kind`: system, network (no second hop), batch (password known, may hop), s4u (no network), service."""

    account: str
    domain: str = ""
    kind: str = "network"
    groups: frozenset[str] = frozenset()

    def member_of(self, group: str) -> bool:
        return group.lower() in {known.lower() for known in self.groups}

    @property
    def is_administrator(self) -> bool:
        return self.kind == "system" or self.member_of("Administrators")

    @property
    def is_backup_operator(self) -> bool:
        return self.is_administrator or self.member_of("Backup Operators")

    @property
    def full_name(self) -> str:
        return f"{self.domain}\\{self.account}" if self.domain else self.account

    def network_identity(self, computer: str) -> str | None:
        """Who another machine sees: the computer account for SYSTEM, nobody for a logon that cannot hop."""
        if self.kind in {"system", "service"}:
            return f"{computer.upper()}$"
        return self.account if self.kind == "batch" else None


SYSTEM = Token(account="SYSTEM", domain="NT AUTHORITY", kind="system", groups=frozenset({"Administrators"}))


# -- standard streams ------------------------------------------------------------------------------------


class Sink(Protocol):
    def write(self, data: bytes) -> None: ...


class Buffer:
    """Output that somebody will fetch: `take` empties it."""

    def __init__(self) -> None:
        self._data = bytearray()

    def write(self, data: bytes) -> None:
        self._data += data

    def take(self) -> bytes:
        data = bytes(self._data)
        self._data.clear()
        return data

    def __len__(self) -> int:
        return len(self._data)


class Discard:
    """NUL, or a process without a console."""

    def write(self, data: bytes) -> None:
        return None


class Input:
    """Standard input: bytes fed from outside, or from a pipe or file, until closed."""

    def __init__(self, data: bytes = b"", *, closed: bool = False) -> None:
        self._data = bytearray(data)
        self.closed = closed

    def feed(self, data: bytes) -> None:
        self._data += data

    def close(self) -> None:
        self.closed = True

    @property
    def has_line(self) -> bool:
        return self.closed or b"\n" in self._data

    def read_line(self) -> bytes | None:
        """The next line without its end, None at the end of the input."""
        if not self._data:
            return None
        line, newline, rest = bytes(self._data).partition(b"\n")
        self._data = bytearray(rest)
        return line.rstrip(b"\r") if newline or line else None

    def read_all(self) -> bytes:
        data = bytes(self._data)
        self._data.clear()
        return data


CODECS = {437: "cp437", 850: "cp850", 852: "cp852", 932: "cp932", 1252: "cp1252", 65001: "utf-8", 20127: "ascii"}


def encode_text(text: str, code_page: int) -> bytes:
    """What a console program writes: CRLF lines in the console's code page, '?' for what it lacks."""
    normal = text.replace("\r\n", "\n").replace("\n", "\r\n")
    return normal.encode(CODECS.get(code_page, "cp437"), "replace")


def decode_text(data: bytes, code_page: int) -> str:
    return data.decode(CODECS.get(code_page, "cp437"), "replace")


class Environment:
    """Variables, their names compared without case."""

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        self._values: dict[str, tuple[str, str]] = {}
        for name, value in (values or {}).items():
            self.set(name, value)

    def get(self, name: str) -> str | None:
        entry = self._values.get(name.upper())
        return entry[1] if entry else None

    def set(self, name: str, value: str) -> None:
        if value == "":
            self._values.pop(name.upper(), None)
        else:
            self._values[name.upper()] = (name, value)

    def copy(self) -> Environment:
        other = Environment()
        other._values = dict(self._values)
        return other

    def items(self) -> list[tuple[str, str]]:
        return sorted(self._values.values(), key=lambda item: item[0].upper())


# -- what a program waits for ----------------------------------------------------------------------------


class Wait:
    """Ready at once; subclasses say when. `look` is told that somebody polled."""

    def ready(self, now: datetime) -> bool:
        return True

    def look(self, clock: Clock) -> None:
        return None


class Clock(Protocol):
    def utc(self) -> datetime: ...

    def advance(self, seconds: float) -> datetime: ...


class Until(Wait):
    def __init__(self, predicate: Callable[[], bool]) -> None:
        self._predicate = predicate

    def ready(self, now: datetime) -> bool:
        return self._predicate()


class Pause(Wait):
    """Simulated seconds; `looks` polls carry the clock to the end."""

    def __init__(self, now: datetime, seconds: float, looks: int = 2) -> None:
        self._until = now + timedelta(seconds=seconds)
        self._looks = max(1, looks)

    def ready(self, now: datetime) -> bool:
        return now >= self._until

    def look(self, clock: Clock) -> None:
        left = (self._until - clock.utc()).total_seconds()
        if left > 0:
            clock.advance(left / self._looks)
        self._looks = max(1, self._looks - 1)


class Line(Wait):
    def __init__(self, source: Input) -> None:
        self._source = source

    def ready(self, now: datetime) -> bool:
        return self._source.has_line


Program: TypeAlias = "Generator[Wait, None, int]"


@dataclass(eq=False)
class Process:
    """One process; alive while `exit_code` is None."""

    pid: int
    parent_pid: int
    name: str
    command_line: str
    executable: str
    created: datetime
    token: Token
    session_id: int
    environment: Environment
    directory: str
    code_page: int
    stdin: Input
    stdout: Sink
    stderr: Sink
    job: str | None = None
    exit_code: int | None = None
    ended: datetime | None = None
    generator: Program | None = None
    waiting: Wait | None = None

    @property
    def alive(self) -> bool:
        return self.exit_code is None

    def out(self, text: str) -> None:
        """Writes one line to standard output."""
        self.stdout.write(encode_text(text + "\n", self.code_page))

    def err(self, text: str) -> None:
        self.stderr.write(encode_text(text + "\n", self.code_page))


ProgramFunction: TypeAlias = "Callable[[Any, Process], Program]"


class ProgramNotFound(Exception):
    """CreateProcess found no such program (ERROR_FILE_NOT_FOUND)."""


@dataclass
class Handles:
    """The streams a new process gets; what is left out is its own."""

    stdin: Input = field(default_factory=lambda: Input(closed=True))
    stdout: Sink = field(default_factory=Discard)
    stderr: Sink = field(default_factory=Discard)


_BOOT_PROCESSES = (
    ("System Idle Process", "", ""),
    ("System", "", ""),
    ("smss.exe", "\\SystemRoot\\System32\\smss.exe", ""),
    ("csrss.exe", "%SystemRoot%\\system32\\csrss.exe ObjectDirectory=\\Windows", "C:\\Windows\\system32\\csrss.exe"),
    ("wininit.exe", "wininit.exe", "C:\\Windows\\system32\\wininit.exe"),
    ("services.exe", "C:\\Windows\\system32\\services.exe", "C:\\Windows\\system32\\services.exe"),
    ("lsass.exe", "C:\\Windows\\system32\\lsass.exe", "C:\\Windows\\system32\\lsass.exe"),
    ("svchost.exe", "C:\\Windows\\system32\\svchost.exe -k netsvcs -p", "C:\\Windows\\system32\\svchost.exe"),
    ("WmiPrvSE.exe", "C:\\Windows\\system32\\wbem\\wmiprvse.exe", "C:\\Windows\\system32\\wbem\\wmiprvse.exe"),
)
_HOST_PROCESSES = (("vmms.exe", "C:\\Windows\\system32\\vmms.exe", "C:\\Windows\\system32\\vmms.exe"),)


class ProcessTable:
    """All processes of a machine. `programs` finds the program of a command line; it is set by windows_services."""

    def __init__(
        self,
        machine: Any,
        *,
        clock: Clock,
        find_program: Callable[[Any, Process], ProgramFunction],
        code_page: int = 437,
    ) -> None:
        self._machine = machine
        self._clock = clock
        self._find_program = find_program
        self._processes: list[Process] = []
        self._next_pid = 0
        self._pumping = False
        self._stepping: set[int] = set()
        self.code_page = code_page
        self.tickers: list[Callable[[], bool]] = []
        """Called by every pump; true when something moved."""
        self.lookers: list[Callable[[], None]] = []
        """Called once per look."""
        self.open_files: dict[tuple[str, str], Process] = {}
        """Files that a living process holds open for writing, by `Volume.key_of`."""
        self.open_streams: list[Any] = []
        """Handles of files and disks with share modes (powershell_streams.py); dead ones leave when somebody opens."""
        self._boot()

    # -- life and death --------------------------------------------------------------------------------------------

    def _boot(self) -> None:
        host = _HOST_PROCESSES if getattr(self._machine, "kind", "") == "host" else ()
        for name, command_line, executable in (*_BOOT_PROCESSES, *host):
            self.resident(name, command_line, executable)

    def resident(self, name: str, command_line: str, executable: str) -> Process:
        """A process that the simulator only shows (a service); it ends when killed."""
        process = self._new(
            name=name, command_line=command_line, executable=executable, token=SYSTEM, parent_pid=4, handles=Handles()
        )
        self._processes.append(process)
        return process

    def start(
        self,
        command_line: str,
        *,
        token: Token,
        parent: Process | None = None,
        handles: Handles | None = None,
        directory: str = "C:\\Windows\\system32",
        environment: Environment | None = None,
        code_page: int | None = None,
        job: str | None = None,
    ) -> Process:
        """CreateProcess: raises ProgramNotFound. The program begins at the next pump."""
        process = self._new(
            name="",
            command_line=command_line,
            executable="",
            token=token,
            parent_pid=parent.pid if parent else 4,
            handles=handles or Handles(),
        )
        process.directory = directory
        process.environment = environment.copy() if environment else self.environment_of(token)
        process.code_page = code_page or (parent.code_page if parent else self.code_page)
        process.job = job if job is not None else (parent.job if parent else None)
        program = self._find_program(self._machine, process)
        process.generator = program(self._machine, process)
        self._processes.append(process)
        return process

    def start_shell_command(
        self,
        command_line: str,
        *,
        token: Token,
        shell_id: str,
        directory: str = "",
        environment: Mapping[str, str] | None = None,
        code_page: int | None = None,
        skip_cmd_shell: bool = False,
    ) -> Process:
        """One command of a winrs shell, by default through `cmd /C` as winrshost does; all below it is in the shell's
        job object. Its streams are Buffers and an open Input."""
        variables = self.environment_of(token)
        for name, value in (environment or {}).items():
            variables.set(name, value)
        line = command_line if skip_cmd_shell else f'C:\\Windows\\system32\\cmd.exe /C "{command_line}"'
        process = self.start(
            line,
            token=token,
            handles=Handles(stdin=Input(), stdout=Buffer(), stderr=Buffer()),
            directory=directory or f"C:\\Users\\{token.account}",
            environment=variables,
            code_page=code_page,
            job=shell_id,
        )
        self.pump()
        return process

    def environment_of(self, token: Token) -> Environment:
        name = str(self._machine.netbios_name)
        profile = (
            "C:\\Windows\\system32\\config\\systemprofile" if token.kind == "system" else f"C:\\Users\\{token.account}"
        )
        temporary = "C:\\Windows\\TEMP" if token.kind == "system" else f"{profile}\\AppData\\Local\\Temp"
        return Environment(
            {
                "ALLUSERSPROFILE": "C:\\ProgramData",
                "COMPUTERNAME": name,
                "ComSpec": "C:\\Windows\\system32\\cmd.exe",
                "OS": "Windows_NT",
                "Path": "C:\\Windows\\system32;C:\\Windows;C:\\Windows\\System32\\Wbem",
                "PATHEXT": ".COM;.EXE;.BAT;.CMD;.VBS;.JS;.MSC",
                "PROCESSOR_ARCHITECTURE": "AMD64",
                "ProgramData": "C:\\ProgramData",
                "ProgramFiles": "C:\\Program Files",
                "PUBLIC": "C:\\Users\\Public",
                "SystemDrive": "C:",
                "SystemRoot": "C:\\Windows",
                "TEMP": temporary,
                "TMP": temporary,
                "USERDOMAIN": token.domain or name,
                "USERNAME": f"{name}$" if token.kind == "system" else token.account,
                "USERPROFILE": profile,
                "windir": "C:\\Windows",
            }
        )

    def _new(
        self, *, name: str, command_line: str, executable: str, token: Token, parent_pid: int, handles: Handles
    ) -> Process:
        return Process(
            pid=self._free_pid(),
            parent_pid=parent_pid,
            name=name,
            command_line=command_line,
            executable=executable,
            created=self._clock.utc(),
            token=token,
            session_id=0,
            environment=Environment(),
            directory="C:\\Windows\\system32",
            code_page=self.code_page,
            stdin=handles.stdin,
            stdout=handles.stdout,
            stderr=handles.stderr,
        )

    def _free_pid(self) -> int:
        """Multiples of four that come round again: a process id alone never names a process for long."""
        used = {process.pid for process in self._processes}
        while self._next_pid in used:
            self._next_pid = (self._next_pid + 4) % 10_000
        pid = self._next_pid
        self._next_pid = (self._next_pid + 4) % 10_000
        return pid

    def kill(self, process: Process, code: int = 1) -> None:
        """Ends one process and nothing else; its children live on."""
        if not process.alive:
            return
        if process.generator is not None:
            process.generator.close()
        self._finish(process, code)

    def kill_tree(self, process: Process, code: int = 1) -> None:
        for child in self.children(process):
            self.kill_tree(child, code)
        self.kill(process, code)

    def kill_job(self, job: str, code: int = 1) -> None:
        """The job object closes (a winrs shell is deleted or times out): everything in it ends."""
        for process in [process for process in self._processes if process.job == job]:
            self.kill(process, code)

    def reboot(self) -> None:
        """Everything is gone; only the services come back."""
        for process in list(self._processes):
            self.kill(process, 0x40010004)
        self._processes.clear()
        self._next_pid = 0
        self._boot()

    def _finish(self, process: Process, code: int) -> None:
        process.exit_code = code & 0xFFFFFFFF
        process.ended = self._clock.utc()
        process.generator = None
        process.waiting = None
        for key in [key for key, owner in self.open_files.items() if owner is process]:
            del self.open_files[key]
        if process in self._processes:
            self._processes.remove(process)

    # -- reading ----------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Process]:
        return iter(list(self._processes))

    def by_pid(self, pid: int) -> Process | None:
        return next((process for process in self._processes if process.pid == pid), None)

    def children(self, parent: Process) -> list[Process]:
        return [process for process in self._processes if process.parent_pid == parent.pid and process is not parent]

    def named(self, name: str) -> list[Process]:
        return [process for process in self._processes if process.name.lower() == name.lower()]

    def knows_program(self, name: str, process: Process) -> bool:
        """Whether `name` is an executable that this process could start."""
        probe = replace(process, command_line=f'"{name}"', name="", executable="")
        try:
            self._find_program(self._machine, probe)
        except ProgramNotFound:
            return False
        return True

    def local_time(self, moment: datetime) -> datetime:
        return moment.astimezone(timezone(timedelta(minutes=int(self._machine.os.utc_offset))))

    def local_now(self) -> datetime:
        return self.local_time(self._clock.utc())

    # -- time ---------------------------------------------------------------------------------------------------------

    def pump(self) -> None:
        """Runs everything that is ready until nothing is."""
        if self._pumping:
            return
        self._pumping = True
        try:
            for _step in range(STILL_ACTIVE_LIMIT):
                if not sum(ticker() for ticker in list(self.tickers)) + sum(self._step(process) for process in self):
                    return
            raise RuntimeError("The processes of a simulated machine never come to rest: one of them loops.")
        finally:
            self._pumping = False

    def _step(self, process: Process) -> bool:
        if process.generator is None or not process.alive:
            return False
        if process.pid in self._stepping:  # it is the one that waits for another right now (finish_now)
            return False
        if process.waiting is not None and not process.waiting.ready(self._clock.utc()):
            return False
        self._stepping.add(process.pid)
        try:
            process.waiting = next(process.generator)
        except StopIteration as end:
            self._finish(process, int(end.value or 0))
        finally:
            self._stepping.discard(process.pid)
        return True

    def finish_now(self, process: Process, *, looks: int = 10_000) -> int:
        """Runs a process to its end within one step of another one; simulated time moves, whatever else runs goes on."""
        outer, self._pumping = self._pumping, True
        try:
            for _look in range(looks):
                while process.alive and sum(t() for t in list(self.tickers)) + sum(self._step(p) for p in self):
                    pass
                if process.exit_code is not None:
                    return process.exit_code
                for waiting in self:
                    if waiting.waiting is not None and waiting.pid not in self._stepping:
                        waiting.waiting.look(self._clock)
                for looker in list(self.lookers):
                    looker()
            raise RuntimeError(f"{process.command_line!r} had not ended after {looks} looks.")
        finally:
            self._pumping = outer

    def look(self) -> None:
        """One poll from outside: what is ready runs, what waits comes one step nearer."""
        self.pump()
        for process in self:
            if process.waiting is not None:
                process.waiting.look(self._clock)
        for looker in list(self.lookers):
            looker()
        self.pump()

    def run_to_end(self, process: Process, *, looks: int = 1000) -> int:
        """Looks until the process has ended and gives its exit code (unsigned, as Windows does)."""
        self.pump()
        for _look in range(looks):
            if process.exit_code is not None:
                return process.exit_code
            self.look()
        raise RuntimeError(f"{process.command_line!r} had not ended after {looks} looks.")


def wait_for(process: Process) -> Until:
    """Ready when the process has ended."""
    return Until(lambda: not process.alive)


def split_command_line(command_line: str) -> list[str]:
    """argv as the C runtime of Windows makes it: quotes group, backslashes count only before a quote, "" inside quotes
    is one quote (win32 docs, "Parsing C command-line arguments")."""
    arguments: list[str] = []
    current: list[str] = []
    inside, started, index = False, False, 0
    while index < len(command_line):
        letter = command_line[index]
        if letter == "\\":
            run = len(command_line[index:]) - len(command_line[index:].lstrip("\\"))
            index += run
            quoted = index < len(command_line) and command_line[index] == '"'
            current.append("\\" * (run // 2 if quoted else run))
            if quoted and run % 2:
                current.append('"')
                index += 1
            started = True
            continue
        if letter == '"':
            if inside and command_line[index + 1 : index + 2] == '"':
                current.append('"')
                index += 1
            else:
                inside = not inside
            started = True
        elif letter in " \t" and not inside:
            if started:
                arguments.append("".join(current))
            current, started = [], False
        else:
            current.append(letter)
            started = True
        index += 1
    if started:
        arguments.append("".join(current))
    return arguments


def first_word(command_line: str) -> tuple[str, str]:
    """(program, rest) as CreateProcess reads it."""
    text = command_line.lstrip()
    if text.startswith('"'):
        program, _unused, rest = text[1:].partition('"')
        return program, rest
    for index, letter in enumerate(text):
        if letter in " \t":
            return text[:index], text[index:]
    return text, ""


def alive(processes: Iterable[Process]) -> list[Process]:
    return [process for process in processes if process.alive]
