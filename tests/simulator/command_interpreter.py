# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""cmd.exe: runs the commands that command_language.py parses - chains, blocks, pipes, redirections, batch files.

Not here: what the internal commands do (internal_commands.py) and other programs (programs/). Texts are English.
Source: windows-commands and the support articles on cmd.exe; what neither says is declared as assumed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from .assumed import assumed
from .command_language import (
    Chain,
    Condition,
    For,
    Group,
    If,
    Incomplete,
    Node,
    Nothing,
    Redirect,
    Simple,
    Switches,
    SyntaxFault,
    arguments_of,
    cmd_switches,
    expand_delayed,
    expand_for,
    expand_percent,
    parse,
)
from .processes import (
    Buffer,
    Discard,
    Handles,
    Input,
    Line,
    Process,
    Program,
    ProgramNotFound,
    Sink,
    Wait,
    decode_text,
    encode_text,
    first_word,
    wait_for,
)
from .windows_files import Files, FileSink, FileSystemError

assumed(
    "cmd-exit-code",
    "cmd /c ends with ERRORLEVEL, which commands such as echo leave alone, not with the result of its last command",
    source="general knowledge of cmd.exe",
    values=("errorlevel", "last-command"),
)
assumed(
    "cmd-unknown-program",
    "An unknown program sets ERRORLEVEL 9009 inside cmd.exe and makes `cmd /c` end with 1",
    source="general knowledge of cmd.exe",
)
assumed(
    "cmd-missing-folder",
    "A program whose folder is not there: 'The system cannot find the path specified.' and this ERRORLEVEL",
    source="general knowledge of cmd.exe",
    values=("3", "1"),
)
assumed("cmd-syntax-exit", "A line that cmd.exe cannot parse ends with 255", source="general knowledge of cmd.exe")

Step: TypeAlias = "Generator[Wait, None, int]"
Builtin: TypeAlias = "Callable[[CommandInterpreter, str], Step]"

MAXIMUM_DEPTH = 64
UNKNOWN_PROGRAM = 9009


class Leave(Exception):
    """exit: leaves the batch file (`whole` false) or the interpreter."""

    def __init__(self, code: int, *, whole: bool) -> None:
        super().__init__(code)
        self.code = code
        self.whole = whole


class Jump(Exception):
    """goto a label of the running batch file."""

    def __init__(self, label: str) -> None:
        super().__init__(label)
        self.label = label


class SetLevel(int):
    """A result that also becomes ERRORLEVEL; a plain int from an internal command only drives && and ||."""


@dataclass
class Batch:
    """One running batch file (or the part of it that `call :label` runs)."""

    path: str
    lines: list[str]
    arguments: list[str]
    at: int = 0
    scopes: list[tuple[Any, bool]] = field(default_factory=list)


class CommandInterpreter:
    """One cmd.exe process."""

    def __init__(self, machine: Any, process: Process, builtins: dict[str, Builtin]) -> None:
        self.machine = machine
        self.process = process
        self.builtins = builtins
        self.level = 0
        self.last = 0
        self.echo = True
        self.delayed = False
        self.unknown_program = False
        self.batches: list[Batch] = []
        self.variables: dict[str, str] = {}
        self.folders: list[str] = []
        self.stdin: Input = process.stdin
        self.stdout: Sink = process.stdout
        self.stderr: Sink = process.stderr
        self.depth = 0

    # -- what internal commands use ----------------------------------------------------------------

    @property
    def files(self) -> Files:
        return Files(self.machine, self.process.token, self.process.directory)

    @property
    def batch(self) -> Batch | None:
        return self.batches[-1] if self.batches else None

    def out(self, text: str) -> None:
        self.stdout.write(encode_text(text + "\n", self.process.code_page))

    def err(self, text: str) -> None:
        self.stderr.write(encode_text(text + "\n", self.process.code_page))

    def lookup(self, name: str) -> str | None:
        value = self.process.environment.get(name)
        if value is not None:
            return value
        dynamic: dict[str, Callable[[], str]] = {
            "ERRORLEVEL": lambda: str(_signed(self.level)),
            "CD": lambda: self.process.directory,
            "CMDCMDLINE": lambda: self.process.command_line,
            "CMDEXTVERSION": lambda: "2",
            "DATE": lambda: self.machine.processes.local_now().strftime("%a %m/%d/%Y"),
            "TIME": lambda: self.machine.processes.local_now().strftime("%H:%M:%S.%f")[:11],
            "RANDOM": lambda: str(int(self.machine.processes.local_now().timestamp() * 1000) % 32768),
        }
        compute = dynamic.get(name.upper())
        return compute() if compute else None

    # -- running -----------------------------------------------------------------------------------

    def run_line(self, text: str) -> Step:
        """A command line as typed: percent expansion, parse, run."""
        try:
            node = parse(expand_percent(text, self.lookup))
        except SyntaxFault as fault:
            self.err(str(fault))
            self.level = 255
            return 255
        return (yield from self.run(node))

    def run(self, node: Node) -> Step:
        self.depth += 1
        try:
            if self.depth > MAXIMUM_DEPTH * 8:
                raise Leave(1, whole=True)
            result = yield from self._run(node)
            if isinstance(result, SetLevel):
                self.level = int(result)
            self.last = int(result)
            return result
        finally:
            self.depth -= 1

    def _run(self, node: Node) -> Step:
        if isinstance(node, Nothing):
            return 0
        if isinstance(node, Chain):
            return (yield from self._chain(node))
        if isinstance(node, Group):
            with self._redirected(node.redirects) as opened:
                if opened:
                    return (yield from self.run(node.body))
            return SetLevel(1)
        if isinstance(node, If):
            branch = node.then if self._holds(node.condition) else node.otherwise
            return (yield from self.run(branch)) if branch is not None else 0
        if isinstance(node, For):
            return (yield from self._for(node))
        return (yield from self._simple(node))

    def _chain(self, node: Chain) -> Step:
        if node.operator == "|":
            return (yield from self._pipe(node))
        result = yield from self.run(node.left)
        if node.operator == "&&" and result != 0:
            return result
        if node.operator == "||":
            if result == 0:
                return result
            self.level = int(result)
        return (yield from self.run(node.right))

    def _pipe(self, node: Chain) -> Step:
        """Each side runs in a cmd.exe of its own, so nothing it sets comes back; the right one gets all of the left."""
        between = Buffer()
        keep = (self.stdin, self.stdout, self.process.environment, self.process.directory, self.level)
        try:
            self.process.environment = keep[2].copy()
            self.stdout = between
            yield from self._guarded(node.left)
            self.process.environment, self.process.directory, self.stdout = keep[2].copy(), keep[3], keep[1]
            self.stdin = Input(between.take(), closed=True)
            result = yield from self._guarded(node.right)
        finally:
            self.stdin, self.stdout, self.process.environment, self.process.directory = keep[:4]
        return SetLevel(result)

    def _guarded(self, node: Node) -> Step:
        try:
            return (yield from self.run(node))
        except Leave as leave:
            return leave.code

    def _text(self, text: str) -> str:
        text = expand_for(text, self.variables)
        return expand_delayed(text, self.lookup) if self.delayed and "!" in text else text

    def _holds(self, condition: Condition) -> bool:
        left, right = self._text(condition.left), self._text(condition.right)
        if condition.ignore_case:
            left, right = left.lower(), right.lower()
        if condition.kind == "exist":
            result = self._exists(left)
        elif condition.kind == "errorlevel":
            result = _signed(self.level) >= int(left) if re.fullmatch(r"-?\d+", left) else False
        elif condition.kind == "defined":
            result = self.lookup(left) is not None
        elif condition.kind == "cmdextversion":
            result = left.isdigit() and int(left) <= 2
        elif condition.kind == "==":
            result = left == right
        else:
            result = _compare(left, condition.kind, right)
        return result != condition.negated

    def _exists(self, path: str) -> bool:
        try:
            return self.files.exists(path.strip('"').rstrip("\\") or "\\")
        except FileSystemError:
            return False

    # -- redirection -------------------------------------------------------------------------------

    @contextmanager
    def _redirected(self, redirects: tuple[Redirect, ...]) -> Iterator[bool]:
        """Applies redirections from left to right; False when one fails, after its message."""
        keep = (self.stdin, self.stdout, self.stderr)
        opened: list[FileSink] = []
        try:
            for redirect in redirects:
                if not self._redirect(redirect, opened):
                    self.stdin, self.stdout, self.stderr = keep
                    yield False
                    return
            yield True
        finally:
            self.stdin, self.stdout, self.stderr = keep
            for sink in opened:
                sink.close()

    def _redirect(self, redirect: Redirect, opened: list[FileSink]) -> bool:
        if redirect.mode == "&":
            source = self.stderr if redirect.target == "2" else self.stdout
            self._set_output(redirect.handle, source)
            return True
        target = self._text(redirect.target).strip('"')
        try:
            if redirect.mode == "<":
                self.stdin = Input(b"" if target.lower() == "nul" else self.files.read(target), closed=True)
                return True
            if target.lower() in {"nul", "con"}:
                self._set_output(redirect.handle, Discard() if target.lower() == "nul" else self.stdout)
                return True
            sink = self.files.open_for_writing(target, append=redirect.mode == ">>", owner=self.process)
        except FileSystemError as problem:
            self.err(str(problem))
            return False
        opened.append(sink)
        self._set_output(redirect.handle, sink)
        return True

    def _set_output(self, handle: int, sink: Sink) -> None:
        if handle == 2:
            self.stderr = sink
        elif handle == 1:
            self.stdout = sink

    # -- simple commands ---------------------------------------------------------------------------

    def _simple(self, node: Simple) -> Step:
        with self._redirected(node.redirects) as opened:
            if not opened:
                return SetLevel(1)
            try:
                return (yield from self.execute(self._text(node.text)))
            except FileSystemError as problem:  # the output itself failed, for example on a full disk
                self.process.stderr.write(encode_text(f"{problem}\n", self.process.code_page))
                return SetLevel(1)

    def execute(self, text: str) -> Step:
        """Internal command, drive letter, batch file or program."""
        text = text.lstrip(" \t,;=")
        if not text.rstrip():
            return 0
        if re.fullmatch(r"[A-Za-z]:\s*", text):
            return (yield from self.builtins["cd"](self, f" /d {text.rstrip()}\\"))
        word = re.match(r"([A-Za-z]+)(?=$|[\s,;=/\\.:(\[\]+\"])", text)
        if word and word[1].lower() in self.builtins and not self.is_batch_name(text):
            return (yield from self.builtins[word[1].lower()](self, text[word.end() :]))
        return (yield from self.run_program(text))

    def is_batch_name(self, text: str) -> bool:
        return bool(re.match(r"[A-Za-z]+\.(?:cmd|bat|exe|com)\b", text, re.IGNORECASE))

    def run_program(self, text: str, *, call: bool = False) -> Step:
        text = text.rstrip()
        batch = self._batch_file(text)
        if batch is not None:
            return (yield from self.run_batch(batch, text, call=call))
        handles = Handles(stdin=self.stdin, stdout=self.stdout, stderr=self.stderr)
        try:
            child = self.machine.processes.start(
                text,
                token=self.process.token,
                parent=self.process,
                handles=handles,
                directory=self.process.directory,
                environment=self.process.environment,
            )
        except ProgramNotFound:
            name = first_word(text)[0]
            if "\\" in name and not self.files.is_folder(name.rpartition("\\")[0] + "\\"):
                self.err("The system cannot find the path specified.")
                return SetLevel(int(self.machine.world.assume("cmd-missing-folder")))
            self.err(f"'{name}' is not recognized as an internal or external command,\noperable program or batch file.")
            self.unknown_program = True
            return SetLevel(UNKNOWN_PROGRAM)
        yield wait_for(child)
        if child.name.lower() == "chcp.com":
            self.process.code_page = child.code_page
        self.unknown_program = False
        return SetLevel(child.exit_code or 0)

    def _batch_file(self, text: str) -> str | None:
        name = first_word(text)[0]
        candidates = [name] if re.search(r"\.(?:cmd|bat)$", name, re.IGNORECASE) else [f"{name}.bat", f"{name}.cmd"]
        for candidate in candidates:
            try:
                if self.files.exists(candidate) and not self.files.is_folder(candidate):
                    return self.files.absolute(candidate)
            except FileSystemError:
                continue
        return None

    # -- batch files -------------------------------------------------------------------------------

    def run_batch(self, path: str, text: str, *, call: bool) -> Step:
        """Runs a .cmd/.bat file; started without `call` from another one it replaces that one, as cmd.exe does."""
        try:
            source = decode_text(self.files.read(path), self.process.code_page)
        except FileSystemError as problem:
            self.err(str(problem))
            return SetLevel(1)
        name, rest = first_word(text)
        lines = source.replace("\r\n", "\n").split("\n")
        batch = Batch(path=path, lines=lines, arguments=[name, *arguments_of(rest)])
        result = yield from self.run_lines(batch)
        if self.batches and not call:
            raise Leave(int(result), whole=False)
        return result

    def run_lines(self, batch: Batch) -> Step:
        if len(self.batches) >= MAXIMUM_DEPTH:
            self.err("****** B A T C H   R E C U R S I O N  exceeds STACK limits ******")
            raise Leave(1, whole=True)
        self.batches.append(batch)
        try:
            while batch.at < len(batch.lines):
                try:
                    yield from self._next_statement(batch)
                except Jump as jump:
                    if self.batches[-1] is not batch or not self.seek(batch, jump.label):
                        raise
        except Leave as leave:
            if leave.whole:
                raise
            self.level = leave.code
        finally:
            self.batches.pop()
            if batch.scopes:
                self.process.environment, self.delayed = batch.scopes[0]
        return SetLevel(self.level)

    def seek(self, batch: Batch, label: str) -> bool:
        wanted = label.lower()
        for index, line in enumerate(batch.lines):
            match = re.match(r"\s*:\s*([^\s:+&|<>]+)", line)
            if match and match[1].lower() == wanted:
                batch.at = index + 1
                return True
        self.err(f"The system cannot find the batch label specified - {label}")
        raise Leave(1, whole=False)

    def _next_statement(self, batch: Batch) -> Step:
        text = ""
        while True:
            line = batch.lines[batch.at]
            batch.at += 1
            if not text and re.match(r"\s*:", line):
                return 0
            while line.endswith("^") and not line.endswith("^^") and batch.at < len(batch.lines):
                line = line[:-1] + batch.lines[batch.at]
                batch.at += 1
            text = f"{text}\n{line}" if text else line
            expanded = expand_percent(text, self.lookup, batch.arguments)
            try:
                node = parse(expanded)
                break
            except Incomplete as fault:
                if batch.at < len(batch.lines):
                    continue
                self.err(str(fault))
                raise Leave(255, whole=True) from fault
            except SyntaxFault as fault:
                self.err(str(fault))
                raise Leave(255, whole=True) from fault
        if self.echo and not isinstance(node, Nothing) and not getattr(node, "silent", False):
            self.out(f"\n{self.process.directory}>{expanded.strip()} ")
        return (yield from self.run(node))

    # -- for ---------------------------------------------------------------------------------------

    def _for(self, node: For) -> Step:
        items = self._text(node.items)
        values: Iterator[dict[str, str]]
        if node.kind == "l":
            values = self._counted(node.variable, items)
        elif node.kind == "f":
            values = iter((yield from self._parsed(node, items)))
        else:
            values = self._words(node.variable, items, folders=node.kind == "d")
        result: int = 0
        for bound in values:
            keep = dict(self.variables)
            self.variables.update(bound)
            try:
                result = yield from self.run(node.body)
            finally:
                self.variables = keep
        return result

    def _counted(self, variable: str, items: str) -> Iterator[dict[str, str]]:
        numbers = [int(word) if re.fullmatch(r"[-+]?\d+", word) else 0 for word in arguments_of(items)]
        start, step, end = [*numbers, 0, 0, 0][:3]
        if step == 0:
            return
        while (start <= end) if step > 0 else (start >= end):
            yield {variable: str(start)}
            start += step

    def _words(self, variable: str, items: str, *, folders: bool) -> Iterator[dict[str, str]]:
        for word in arguments_of(items.replace("\n", " ")):
            bare = word.strip('"')
            if "*" not in bare and "?" not in bare:
                yield {variable: word}
                continue
            folder = bare.rpartition("\\")[0]
            for path in self.files.matching(bare):
                if self.files.is_folder(path) == folders:
                    name = path.rpartition("\\")[2]
                    yield {variable: f"{folder}\\{name}" if folder else name}

    def _parsed(self, node: For, items: str) -> Generator[Wait, None, list[dict[str, str]]]:
        options = node.options.lower()
        usebackq = "usebackq" in options
        text = items.strip()
        quote = text[:1]
        if quote == ("`" if usebackq else "'"):
            lines = (yield from self._captured(text[1:-1])).split("\n")
        elif quote == ("'" if usebackq else '"'):
            lines = [text[1:-1]]
        else:
            lines = []
            for word in arguments_of(text):
                data = decode_text(self.files.read(word.strip('"')), self.process.code_page)
                lines.extend(data.replace("\r\n", "\n").split("\n"))
        return [bound for line in lines if (bound := _tokens(node, line)) is not None][_skip(options) :]

    def _captured(self, command: str) -> Generator[Wait, None, str]:
        buffer = Buffer()
        keep, self.stdout = self.stdout, buffer
        try:
            yield from self._guarded(parse(command))
        except SyntaxFault as fault:
            self.err(str(fault))
        finally:
            self.stdout = keep
        return decode_text(buffer.take(), self.process.code_page).replace("\r\n", "\n")

    # -- input -------------------------------------------------------------------------------------

    def read_line(self) -> Generator[Wait, None, str | None]:
        if not self.stdin.has_line:
            yield Line(self.stdin)
        line = self.stdin.read_line()
        return None if line is None else decode_text(line, self.process.code_page)


def _skip(options: str) -> int:
    match = re.search(r"skip=(\d+)", options)
    return int(match[1]) if match else 0


def _tokens(node: For, line: str) -> dict[str, str] | None:
    """for /f: eol, delims and tokens of one line; None for lines it passes over."""
    options = node.options
    eol = re.search(r"eol=(.)", options)
    if not line.strip("\r") or line[:1] == (eol[1] if eol else ";"):
        return None
    delimiters = re.search(r"delims=(.*?)(?:\s+(?:tokens|eol|skip|usebackq)\b.*)?$", options, re.IGNORECASE)
    letters = delimiters[1] if delimiters else " \t"
    wanted = re.search(r"tokens=([\d,*-]+)", options, re.IGNORECASE)
    spec = wanted[1] if wanted else "1"
    numbers: list[int] = []
    star = spec.endswith("*")
    for part in spec.rstrip("*").split(","):
        first, _unused, last = part.partition("-")
        if first:
            numbers.extend(range(int(first), int(last or first) + 1))
    rest, words = line.rstrip("\r"), []
    for _number in range(max(numbers, default=0)):
        rest = rest.lstrip(letters) if letters else rest
        stop = next((index for index, letter in enumerate(rest) if letter in letters), len(rest))
        words.append(rest[:stop])
        rest = rest[stop:]
    bound = {chr(ord(node.variable) + i): words[n - 1] if n <= len(words) else "" for i, n in enumerate(numbers)}
    if star:
        bound[chr(ord(node.variable) + len(numbers))] = rest.lstrip(letters) if letters else rest
    return bound if any(bound.values()) else None


def _signed(code: int) -> int:
    return code - (1 << 32) if code >= 1 << 31 else code


def _compare(left: str, operator: str, right: str) -> bool:
    a: Any = left
    b: Any = right
    if re.fullmatch(r"-?\d+", left) and re.fullmatch(r"-?\d+", right):
        a, b = int(left), int(right)
    outcomes: dict[str, Callable[[], Any]] = {
        "EQU": lambda: a == b,
        "NEQ": lambda: a != b,
        "LSS": lambda: a < b,
        "LEQ": lambda: a <= b,
        "GTR": lambda: a > b,
        "GEQ": lambda: a >= b,
    }
    return bool(outcomes[operator]())


def main(machine: Any, process: Process) -> Program:
    """The program cmd.exe."""
    from .internal_commands import INTERNAL_COMMANDS  # it needs the classes above

    interpreter = CommandInterpreter(machine, process, INTERNAL_COMMANDS)

    def is_program(name: str) -> bool:
        return bool(machine.processes.knows_program(name, process))

    switches: Switches = cmd_switches(first_word(process.command_line)[1], is_program)
    interpreter.delayed = switches.delayed
    interpreter.echo = not switches.quiet
    try:
        if switches.command is not None:
            yield from interpreter.run_line(switches.command)
            if not switches.keep:
                return _exit_code(interpreter)
        while True:
            line = yield from interpreter.read_line()
            if line is None:
                return _exit_code(interpreter)
            yield from interpreter.run_line(line)
    except Leave as leave:
        return leave.code
    except Jump:
        return 1


def _exit_code(interpreter: CommandInterpreter) -> int:
    if interpreter.unknown_program and interpreter.level == UNKNOWN_PROGRAM and interpreter.last == UNKNOWN_PROGRAM:
        return 1
    if interpreter.machine.world.assume("cmd-exit-code") == "last-command":
        return interpreter.last
    return interpreter.level
