# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""xcopy.exe and robocopy.exe: copying trees between volumes, shadow copies and shares, with their documented exit codes.

robocopy answers a bit mask: 1 copied, 2 extra files, 4 mismatches, 8 failures, 16 nothing done. xcopy: 0 done, 1 nothing
found, 2 given up, 4 cannot begin, 5 a file could not be written. Source: windows-commands, robocopy and xcopy; layouts as
public transcripts show them. Switches that concern security, logs and speed are accepted and do nothing.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from ..assumed import assumed
from ..file_copying import copy_file
from ..file_system import FileStat, FileSystemError, fold
from ..processes import Line, Pause, Process, Program, Wait, decode_text, split_command_line
from ..windows_files import Files, join, wildcard

COPIED, EXTRA, MISMATCH, FAILED, FATAL = 1, 2, 4, 8, 16

assumed(
    "robocopy-texts",
    "robocopy's header, lines and summary; only their main parts are shown",
    source="public transcripts; windows-commands documents the switches and exit codes",
)
assumed(
    "robocopy-time-tolerance",
    "Files whose times differ by less than two seconds are the same to robocopy",
    source="the documentation of /fft; without it the tolerance of the simulator's file systems is one second",
)
assumed(
    "xcopy-prompt-eof",
    "A prompt of xcopy that meets the end of standard input ends it with 2",
    source="no source",
)


# -- robocopy


@dataclass
class _Job:
    """A robocopy command line."""

    source: str = ""
    target: str = ""
    names: list[str] = field(default_factory=list)
    deep: bool = False
    empty: bool = False
    purge: bool = False
    move: bool = False
    list_only: bool = False
    retries: int = 1_000_000
    wait: int = 30
    excluded: list[str] = field(default_factory=list)
    excluded_folders: list[str] = field(default_factory=list)
    include_same: bool = False
    skip_older: bool = False
    quiet_files: bool = False
    quiet_folders: bool = False
    head: bool = True
    summary: bool = True
    log: str = ""
    append: bool = False
    tee: bool = False
    options: list[str] = field(default_factory=list)


_IGNORED = re.compile(
    r"/(?:b|z|zb|j|efsraw|sec|secfix|timfix|nocopy|copyall|np|x|v|ts|fp|bytes|ns|nc|eta|fft|dst|xj|xjd|xjf|sl|compress"
    r"|unicode|copy:\w+|dcopy:\w+|mt(?::\d+)?|ipg:\d+|a[+-]:\w+|reg|tbd|r|xx|xc|xn|xl|is|it|im)$",
    re.IGNORECASE,
)


class _Usage(Exception):
    """The word that is wrong."""


def _read_robocopy(words: list[str]) -> _Job:
    job = _Job()
    plain: list[str] = []
    collecting: list[str] | None = None
    for word in words:
        lowered = word.lower()
        if not lowered.startswith("/"):
            (plain if collecting is None else collecting).append(word)
            continue
        collecting = None
        job.options.append(word)
        name, _colon, value = lowered.partition(":")
        if lowered in {"/s", "/e", "/mir"}:
            job.deep, job.empty, job.purge = True, lowered != "/s" or job.empty, job.purge or lowered == "/mir"
        elif lowered == "/purge":
            job.purge = True
        elif lowered in {"/mov", "/move"}:
            job.move = True
        elif lowered == "/l":
            job.list_only = True
        elif name in {"/r", "/w"} and value.isdigit():
            job.retries, job.wait = (int(value), job.wait) if name == "/r" else (job.retries, int(value))
        elif lowered == "/xf":
            collecting = job.excluded
        elif lowered == "/xd":
            collecting = job.excluded_folders
        elif lowered == "/is":
            job.include_same = True
        elif lowered == "/xo":
            job.skip_older = True
        elif lowered in {"/nfl", "/ndl", "/njh", "/njs", "/tee"}:
            job.quiet_files |= lowered == "/nfl"
            job.quiet_folders |= lowered == "/ndl"
            job.head &= lowered != "/njh"
            job.summary &= lowered != "/njs"
            job.tee |= lowered == "/tee"
        elif name in {"/log", "/log+", "/unilog", "/unilog+"} and value:
            job.log, job.append = word.partition(":")[2], name.endswith("+")
        elif not _IGNORED.match(word):
            raise _Usage(word)
    if len(plain) < 2:
        raise _Usage("No Destination Directory Specified." if plain else "No Source Directory Specified.")
    job.source, job.target = plain[0], plain[1]
    job.names = plain[2:] or ["*.*"]
    return job


@dataclass
class _Count:
    total: int = 0
    copied: int = 0
    skipped: int = 0
    mismatch: int = 0
    failed: int = 0
    extras: int = 0

    def row(self, title: str) -> str:
        cells = (self.total, self.copied, self.skipped, self.mismatch, self.failed, self.extras)
        return f"{title:>8} :" + "".join(f"{cell:>10}" for cell in cells)


class _Robocopy:
    def __init__(self, machine: Any, process: Process, job: _Job) -> None:
        self.machine = machine
        self.process = process
        self.job = job
        self.files = Files(machine, process.token, process.directory)
        self.result = 0
        self.folders, self.counts, self.bytes = _Count(), _Count(), _Count()

    def say(self, text: str) -> None:
        if not self.job.log or self.job.tee:
            self.process.out(text)
        if self.job.log:
            self.files.append(self.job.log, (text + "\n").replace("\n", "\r\n").encode("cp1252", "replace"))

    def run(self) -> Program:
        job, files = self.job, self.files
        if job.log and not job.append:
            files.write(job.log, b"")
        source, target = files.absolute(job.source).rstrip("\\") + "\\", files.absolute(job.target).rstrip("\\") + "\\"
        if job.head:
            self._head(source, target)
        if not files.is_folder(source):
            code = files.missing(source.rstrip("\\"))
            try:
                files.stat(source)
            except FileSystemError as problem:
                code = problem.code
            self._error(code, f"Accessing Source Directory {source}")
            return FATAL
        try:
            yield from self._folder(source, target)
        except FileSystemError as problem:
            self._error(problem.code, f"Creating Destination Directory {target}")
            return FATAL
        if job.summary:
            line = "-" * 78
            heads = ("Total", "Copied", "Skipped", "Mismatch", "FAILED", "Extras")
            self.say(f"\n{line}\n\n{'':10}" + "".join(f"{head:>10}" for head in heads))
            for title, count in (("Dirs", self.folders), ("Files", self.counts), ("Bytes", self.bytes)):
                self.say(count.row(title))
            self.say("")
        return self.result

    def _head(self, source: str, target: str) -> None:
        line = "-" * 79
        now = self.machine.processes.local_now()
        self.say(
            f"\n{line}\n   ROBOCOPY     ::     Robust File Copy for Windows\n{line}\n\n"
            f"  Started : {now.strftime('%A, %B')} {now.day}, {now.year} {now.hour % 12 or 12}:{now:%M:%S %p}\n"
            f"   Source : {source}\n     Dest : {target}\n\n    Files : {' '.join(self.job.names)}\n\n"
            f"  Options : {' '.join(self.job.options)}\n\n{line[:-1]}\n"
        )

    def _error(self, code: int, what: str) -> None:
        now = self.machine.processes.local_now()
        self.say(f"{now:%Y/%m/%d %H:%M:%S} ERROR {code} (0x{code:08X}) {what}\n{FileSystemError(code)}\n")

    def _entries(self, folder: str) -> list[FileStat]:
        try:
            return self.files.listdir(folder)
        except FileSystemError:
            return []

    def _folder(self, source: str, target: str) -> Generator[Wait, None, None]:
        job, files = self.job, self.files
        entries = files.listdir(source)
        wanted = [wildcard(name) for name in job.names]
        unwanted = [wildcard(name) for name in job.excluded]
        chosen = [
            entry
            for entry in entries
            if not entry.is_directory
            and any(pattern.fullmatch(fold(entry.name)) for pattern in wanted)
            and not any(pattern.fullmatch(fold(entry.name)) for pattern in unwanted)
        ]
        new = not files.is_folder(target)
        self.folders.total += 1
        self.folders.copied += new
        self.folders.skipped += not new
        if not job.quiet_folders:
            self.say(f"\t{'  New Dir  ' if new else '           '}{len(chosen):>12}\t{source}")
        if new and not job.list_only:
            files.mkdir(target)
            self.result |= COPIED
        there = {fold(entry.name): entry for entry in self._entries(target)}
        for entry in chosen:
            yield from self._file(source, target, entry, there.get(fold(entry.name)))
        self._extras(target, entries, there)
        if not job.deep:
            return
        for entry in entries:
            if not entry.is_directory or self._excluded_folder(source, entry):
                continue
            below = join(source, entry.name) + "\\"
            if job.empty or any(True for _one in self._entries(below)):
                yield from self._folder(below, join(target, entry.name) + "\\")

    def _excluded_folder(self, source: str, entry: FileStat) -> bool:
        full = fold(join(source, entry.name))
        return any(
            full == fold(self.files.absolute(word))
            if "\\" in word
            else bool(wildcard(word).fullmatch(fold(entry.name)))
            for word in self.job.excluded_folders
        )

    def _extras(self, target: str, entries: list[FileStat], there: dict[str, FileStat]) -> None:
        known = {fold(entry.name) for entry in entries}
        for key, entry in there.items():
            if key in known or (entry.is_directory and not self.job.deep):
                continue
            self.result |= EXTRA
            count = self.folders if entry.is_directory else self.counts
            count.extras += 1
            kind = "*EXTRA Dir " if entry.is_directory else "*EXTRA File"
            self.say(f"\t  {kind} {entry.size:>14}\t{entry.name}")
            if self.job.purge and not self.job.list_only:
                try:
                    self.files.delete(join(target, entry.name), recursive=entry.is_directory)
                except FileSystemError as problem:
                    self.result |= FAILED
                    self._error(problem.code, f"Deleting Extra File {join(target, entry.name)}")

    def _file(self, source: str, target: str, entry: FileStat, old: FileStat | None) -> Generator[Wait, None, None]:
        job = self.job
        self.counts.total += 1
        self.bytes.total += entry.size
        if old is not None and old.is_directory:
            self.result |= MISMATCH
            self.counts.mismatch += 1
            self.say(f"\t  *Mismatch\t\t{entry.size:>8}\t{entry.name}")
            return
        kind = _difference(entry, old)
        if (kind == "same" and not job.include_same) or (kind == "Older" and job.skip_older):
            self.counts.skipped += 1
            self.bytes.skipped += entry.size
            return
        if not job.quiet_files:
            self.say(f"\t    {kind if kind != 'same' else 'Same'}\t\t{entry.size:>8}\t{entry.name}")
        if job.list_only:
            self.counts.copied += 1
            self.result |= COPIED
            return
        if (yield from self._copied(join(source, entry.name), join(target, entry.name))):
            self.result |= COPIED
            self.counts.copied += 1
            self.bytes.copied += entry.size
            if job.move:
                self.files.delete(join(source, entry.name))
        else:
            self.result |= FAILED
            self.counts.failed += 1
            self.bytes.failed += entry.size

    def _copied(self, source: str, target: str) -> Generator[Wait, None, bool]:
        for again in range(self.job.retries + 1):
            try:
                yield from copy_file(self.machine, self.files, source, target, self.process)
                return True
            except FileSystemError as problem:
                self._error(problem.code, f"Copying File {source}")
            if again < self.job.retries:
                self.say(f"Waiting {self.job.wait} seconds... Retrying...")
                yield Pause(self.machine.now(), self.job.wait, 1)
        self.say("ERROR: RETRY LIMIT EXCEEDED.\n")
        return False


def _difference(entry: FileStat, old: FileStat | None) -> str:
    if old is None:
        return "New File"
    apart = entry.modified - old.modified
    if abs(apart) < timedelta(seconds=2):
        return "same" if entry.size == old.size else "Changed"
    return "Newer" if apart > timedelta(0) else "Older"


def robocopy(machine: Any, process: Process) -> Program:
    yield from ()
    try:
        job = _read_robocopy(split_command_line(process.command_line)[1:])
    except _Usage as problem:
        process.out(
            f'\nERROR : Invalid Parameter #1 : "{problem}"\n\n       Simple Usage :: ROBOCOPY source destination /MIR'
        )
        return FATAL
    try:
        return (yield from _Robocopy(machine, process, job).run())
    except FileSystemError as problem:
        process.out(f"ERROR : {problem}")
        return FATAL


# -- xcopy


def xcopy(machine: Any, process: Process) -> Program:
    yield from ()
    words = split_command_line(process.command_line)[1:]
    switches = {word.lower() for word in words if word.startswith("/")}
    plain = [word for word in words if not word.startswith("/")]
    files = Files(machine, process.token, process.directory)
    known = re.compile(r"/(?:s|e|y|-y|i|h|r|k|o|x|j|q|c|f|v|w|g|n|t|u|l|z|b|a|m|p|d(?::.*)?|compress)$")
    if not 1 <= len(plain) <= 2 or any(not known.match(switch) for switch in switches):
        process.err("Invalid number of parameters" if len(plain) != 2 else "Invalid switch")
        process.out("0 File(s) copied")
        return 4
    try:
        pairs = list(_xcopy_pairs(files, plain[0], deep=bool(switches & {"/s", "/e"})))
    except FileSystemError:
        pairs = []
    if not pairs:
        process.err(f"File not found - {plain[0].rpartition(chr(92))[2]}\n0 File(s) copied")
        return 4 if files.missing(plain[0]) == 3 else 1
    target = files.absolute(plain[1] if len(plain) == 2 else ".")
    as_folder = files.is_folder(target) or plain[-1].endswith("\\") or ("/i" in switches and len(pairs) > 1)
    if not as_folder and not files.exists(target) and not ("/i" in switches and files.is_folder(plain[0])):
        process.out(f"Does {target} specify a file name\nor directory name on the target\n(F = file, D = directory)? ")
        yield Line(process.stdin)
        answer = process.stdin.read_line()
        if answer is None:
            return 2
        as_folder = decode_text(answer, process.code_page).strip().lower().startswith("d")
    elif "/i" in switches and not files.exists(target):
        as_folder = True
    return (yield from _xcopy_all(machine, process, files, pairs, target, as_folder, switches))


def _xcopy_pairs(files: Files, source: str, *, deep: bool) -> Generator[tuple[str, str], None, None]:
    """(absolute source, name below the target) of every file."""
    absolute = files.absolute(source)
    folder, pattern = (absolute, "*") if files.is_folder(absolute) else absolute.rstrip("\\").rpartition("\\")[::2]

    def walk(here: str, below: str) -> Generator[tuple[str, str], None, None]:
        for entry in files.listdir(here.rstrip("\\") + "\\"):
            name = join(below, entry.name) if below else entry.name
            if not entry.is_directory and wildcard(pattern).fullmatch(fold(entry.name)):
                yield join(here, entry.name), name
            elif entry.is_directory and deep:
                yield from walk(join(here, entry.name), name)

    yield from walk(folder, "")


def _xcopy_all(
    machine: Any,
    process: Process,
    files: Files,
    pairs: list[tuple[str, str]],
    target: str,
    as_folder: bool,
    switches: set[str],
) -> Program:
    copied = 0
    for path, below in pairs:
        goal = join(target, below) if as_folder else target
        if files.exists(goal) and "/y" not in switches:
            process.out(f"Overwrite {goal} (Yes/No/All)? ")
            yield Line(process.stdin)
            answer = process.stdin.read_line()
            if answer is None:
                return 2
            letter = decode_text(answer, process.code_page).strip().lower()[:1]
            if letter not in {"y", "a"}:
                continue
            switches |= {"/y"} if letter == "a" else set()
        if "/q" not in switches:
            process.out(path)
        try:
            folder = goal.rpartition("\\")[0]
            if not files.is_folder(folder + "\\"):
                files.mkdir(folder)
            yield from copy_file(machine, files, path, goal, process)
            copied += 1
        except FileSystemError as problem:
            process.err(str(problem))
            if "/c" not in switches:
                process.out(f"{copied} File(s) copied")
                return 4 if problem.code in {5, 32} else 5
    process.out(f"{copied} File(s) copied")
    return 0
