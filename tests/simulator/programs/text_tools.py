# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Small console programs: chcp, find, findstr, hostname, more, sort, tasklist, timeout, where, whoami.

Only the switches that scripts commonly use; another one is answered with the program's own complaint.
Source: windows-commands. Texts are English.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from ..assumed import assumed
from ..file_system import FileSystemError
from ..processes import CODECS, Pause, Process, Program, decode_text, first_word, split_command_line
from ..windows_files import Files

assumed(
    "chcp-in-session", "chcp changes the code page for the rest of the shell", source="windows-commands chcp (console)"
)


def _arguments(process: Process) -> list[str]:
    return split_command_line(process.command_line)[1:]


def _tail(process: Process) -> str:
    return first_word(process.command_line)[1].strip()


def _files(machine: Any, process: Process) -> Files:
    return Files(machine, process.token, process.directory)


def hostname(machine: Any, process: Process) -> Program:
    yield from ()
    process.out(str(machine.name))
    return 0


def whoami(machine: Any, process: Process) -> Program:
    yield from ()
    token = process.token
    name = (
        "nt authority\\system" if token.kind == "system" else f"{token.domain or machine.name}\\{token.account}".lower()
    )
    words = [word.lower() for word in _arguments(process)]
    if "/groups" in words or "/all" in words:
        process.out("\nGROUP INFORMATION\n-----------------\n")
        for group in sorted(token.groups):
            process.out(f"BUILTIN\\{group}  Alias  Mandatory group, Enabled by default, Enabled group")
    else:
        process.out(name)
    return 0


def chcp(machine: Any, process: Process) -> Program:
    yield from ()
    words = _arguments(process)
    if words:
        if not words[0].isdigit() or int(words[0]) not in CODECS:
            process.err("Invalid code page")
            return 1
        process.code_page = int(words[0])
    process.out(f"Active code page: {process.code_page}")
    return 0


def timeout(machine: Any, process: Process) -> Program:
    words = [word.lower() for word in _arguments(process)]
    numbers = [word for word in words if re.fullmatch(r"-?\d+", word)]
    if not numbers:
        process.err('ERROR: Invalid syntax. Timeout value must be a valid number.\nType "TIMEOUT /?" for usage.')
        return 1
    if not process.stdin.closed:
        process.err("ERROR: Input redirection is not supported, exiting the process immediately.")
        return 1
    seconds = int(numbers[0])
    if "/nobreak" not in words:
        process.out(f"\nWaiting for {seconds} seconds, press a key to continue ...")
    yield Pause(machine.now(), seconds, machine.world.looks_per_job)
    return 0


def more(machine: Any, process: Process) -> Program:
    yield from ()
    words = _arguments(process)
    try:
        for name in words:
            process.stdout.write(_files(machine, process).read(name))
    except FileSystemError as problem:
        process.err(str(problem))
        return 1
    if not words:
        process.stdout.write(process.stdin.read_all())
    return 0


def sort(machine: Any, process: Process) -> Program:
    yield from ()
    words = _arguments(process)
    lines = _input_lines(machine, process, [word for word in words if not word.startswith("/")])
    for line in sorted(lines, key=str.upper, reverse="/r" in [word.lower() for word in words]):
        process.out(line)
    return 0


def _input_lines(machine: Any, process: Process, names: list[str]) -> list[str]:
    if names:
        data = b"".join(_files(machine, process).read(name) for name in names)
    else:
        data = process.stdin.read_all()
    text = decode_text(data, process.code_page).replace("\r\n", "\n")
    return text.removesuffix("\n").split("\n") if text else []


def find(machine: Any, process: Process) -> Program:
    """find [/v] [/c] [/n] [/i] "text" [file ...]"""
    yield from ()
    match = re.match(r'((?:\s*/[vcniVCNI])*)\s*"((?:[^"]|"")*)"(.*)', _tail(process))
    if match is None:
        process.err("FIND: Parameter format not correct")
        return 2
    flags = {flag.lower() for flag in re.findall(r"/(\w)", match[1] + match[3])}
    names = [word for word in split_command_line(match[3]) if not word.startswith("/")]
    needle = match[2].replace('""', '"')
    if "i" in flags:
        needle = needle.lower()

    def wanted(line: str) -> bool:
        held = needle != "" and needle in (line.lower() if "i" in flags else line)  # "" is in no line
        return held != ("v" in flags)

    return _print_matches(machine, process, names, wanted, flags, head=True)


def findstr(machine: Any, process: Process) -> Program:
    """findstr [/i] [/v] [/n] [/r] [/l] [/x] [/c:"text"] words [file ...]; a small part of its expressions."""
    yield from ()
    flags: set[str] = set()
    literals: list[str] = []
    rest: list[str] = []
    for word in _arguments(process):
        if word.lower().startswith("/c:"):
            literals.append(word[3:])
        elif word.startswith("/") and not rest:
            flags.update(word[1:].lower())
        else:
            rest.append(word)
    if not literals:
        if not rest:
            process.err("FINDSTR: Bad command line")
            return 2
        literals = rest.pop(0).split(" ")
    patterns = [_expression(text, plain="l" in flags or ("r" not in flags and " " in text)) for text in literals]
    options = re.IGNORECASE if "i" in flags else 0

    def wanted(line: str) -> bool:
        search: Callable[..., object] = re.fullmatch if "x" in flags else re.search
        return any(search(pattern, line, options) for pattern in patterns) != ("v" in flags)

    return _print_matches(machine, process, rest, wanted, flags, head=False)


def _expression(text: str, *, plain: bool) -> str:
    if plain:
        return re.escape(text)
    text = text.replace("\\<", "\\b").replace("\\>", "\\b")
    return re.sub(r"(?<!\\)([+?{}()|])", r"\\\1", text)


def _print_matches(
    machine: Any,
    process: Process,
    names: list[str],
    wanted: Callable[[str], bool],
    flags: set[str],
    *,
    head: bool,
) -> int:
    found = 0
    for name in names or [""]:
        try:
            lines = _input_lines(machine, process, [name] if name else [])
        except FileSystemError:
            process.err(f"File not found - {name.upper()}" if head else f"FINDSTR: Cannot open {name}")
            continue
        if name and head and "c" not in flags:
            process.out(f"\n---------- {name.upper()}")
        chosen = [(number, line) for number, line in enumerate(lines, 1) if wanted(line)]
        found += len(chosen)
        if head and "c" in flags:
            process.out(f"\n---------- {name.upper()}: {len(chosen)}" if name else str(len(chosen)))
            continue
        for number, line in chosen:
            prefix = f"{name}:" if not head and len(names) > 1 else ""
            process.out(
                prefix + (f"[{number}]" if head and "n" in flags else f"{number}:" if "n" in flags else "") + line
            )
    return 0 if found else 1


def where(machine: Any, process: Process) -> Program:
    from . import full_path, known_name

    yield from ()
    names = [word for word in _arguments(process) if not word.startswith("/")]
    result = 0
    for name in names:
        known = known_name(name)
        if known:
            process.out(full_path(known))
        else:
            process.err("INFO: Could not find files for the given pattern(s).")
            result = 1
    return result


def tasklist(machine: Any, process: Process) -> Program:
    """tasklist [/fi "imagename eq x"|"pid eq n"] [/fo table|csv|list] [/nh]"""
    yield from ()
    words = _arguments(process)
    lowered = [word.lower() for word in words]
    form = lowered[lowered.index("/fo") + 1] if "/fo" in lowered[:-1] else "table"
    chosen = list(machine.processes)
    for index, word in enumerate(lowered[:-1]):
        if word == "/fi":
            match = re.fullmatch(r"(imagename|pid)\s+(eq|ne)\s+(.+)", lowered[index + 1].strip())
            if match is None:
                process.err("ERROR: The search filter cannot be recognized.")
                return 1
            key = (lambda p: p.name.lower()) if match[1] == "imagename" else (lambda p: str(p.pid))
            chosen = [p for p in chosen if (key(p) == match[3].strip()) == (match[2] == "eq")]
    if not chosen:
        process.out("INFO: No tasks are running which match the specified criteria.")
        return 0
    if form == "csv":
        if "/nh" not in lowered:
            process.out('"Image Name","PID","Session Name","Session#","Mem Usage"')
        for entry in chosen:
            process.out(f'"{entry.name}","{entry.pid}","Services","0","4,096 K"')
        return 0
    if "/nh" not in lowered:
        process.out("\nImage Name                     PID Session Name        Session#    Mem Usage")
        process.out("========================= ======== ================ =========== ============")
    for entry in chosen:
        process.out(f"{entry.name[:25]:25} {entry.pid:8} {'Services':16} {0:11} {'4,096 K':>12}")
    return 0
