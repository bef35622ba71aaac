# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The internal commands of cmd.exe: echo, set, cd, dir, type, copy, del, md, rd, move, ren, call, exit and the like.

Each takes the interpreter and the text after its name. It returns a plain int to drive && and ||, or a SetLevel when
the command also sets ERRORLEVEL: cd, copy, del, dir, md, move, pushd, ren, type, ver clear it on success; echo, rem,
set, rd, title leave it alone (general knowledge of cmd.exe, declared as assumed). Texts are English.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .assumed import assumed
from .command_interpreter import Batch, Builtin, CommandInterpreter, Jump, Leave, SetLevel, Step
from .command_language import arguments_of
from .file_copying import copy_file
from .file_system import ERROR_ALREADY_EXISTS, FileStat, FileSystemError, fold
from .processes import Discard, Handles, Input, ProgramNotFound, encode_text, first_word, wait_for
from .windows_files import join

assumed(
    "cmd-errorlevel-rules",
    "Which internal commands of cmd.exe clear or set ERRORLEVEL",
    source="general knowledge of cmd.exe; windows-commands is silent",
)

NOT_FOUND = "The system cannot find the file specified."
NO_PATH = "The system cannot find the path specified."
BAD_SYNTAX = "The syntax of the command is incorrect."

_Plain = Callable[[CommandInterpreter, str], int]


def _plain(function: _Plain) -> Builtin:
    """A command that waits for nothing; a refused file operation is printed and gives 1."""

    def run(shell: CommandInterpreter, text: str) -> Step:
        yield from ()
        try:
            return function(shell, text)
        except FileSystemError as problem:
            shell.err(str(problem))
            return SetLevel(1)

    return run


def _switches(text: str) -> tuple[set[str], list[str]]:
    """(/x switches in lower case, the other words without quotes)."""
    switches, words = set(), []
    for word in arguments_of(re.sub(r"(?<=[A-Za-z])/", " /", text) if "/" in text else text):
        if word.startswith("/"):
            switches.add(word.lower())
        else:
            words.append(word.replace('"', ""))
    return switches, words


# -- text and variables --------------------------------------------------------------------------------------


def _echo(shell: CommandInterpreter, text: str) -> int:
    first, rest = text[:1], text[1:]
    if first in {"", " ", "\t", ",", ";", "="}:
        word = rest.strip().lower()
        if word in {"on", "off"}:
            shell.echo = word == "on"
            return 0
        if not word:
            shell.out(f"ECHO is {'on' if shell.echo else 'off'}.")
            return 0
    shell.out(rest)
    return 0


def _set(shell: CommandInterpreter, text: str) -> Step:
    text = text.strip()
    switch = text[:2].lower()
    if switch == "/p":
        name, _unused, prompt = text[2:].strip().strip('"').partition("=")
        shell.stdout.write(prompt.strip('"').encode("ascii", "replace"))
        line = yield from shell.read_line()
        if line is None:
            return SetLevel(1)
        shell.process.environment.set(name, line)
        return 0
    if switch == "/a":
        return _calculate(shell, text[2:].strip().strip('"'))
    if text.startswith('"'):
        text = text[1 : text.rfind('"')] if text.rfind('"') > 0 else text[1:]
    name, equals, value = text.partition("=")
    if equals:
        shell.process.environment.set(name, value)
        return 0
    found = [(key, held) for key, held in shell.process.environment.items() if fold(key).startswith(fold(name))]
    for key, held in found:
        shell.out(f"{key}={held}")
    if not found:
        shell.err(f"Environment variable {name} not defined")
        return SetLevel(1)
    return 0


def _calculate(shell: CommandInterpreter, expression: str) -> int:
    """set /a: + - * / % ( ), assignments joined by commas, 32 bit numbers; unknown names are 0."""
    for part in expression.split(","):
        match = re.fullmatch(r"\s*([A-Za-z_]\w*)\s*([-+*/%]?)=(.*)", part)
        target, change, right = (match[1], match[2], match[3]) if match else ("", "", part)
        if change:
            right = f"{target}{change}({right})"
        tokens = re.findall(r"0[xX][0-9A-Fa-f]+|\d+|[A-Za-z_]\w*|[-+*/%()]", right)
        try:
            value = _sum(tokens, shell)
        except ZeroDivisionError:
            shell.err("Divide by zero error.")
            return SetLevel(1073750993)
        except (IndexError, ValueError):
            shell.err("Missing operand.")
            return SetLevel(1073750988)
        if target:
            shell.process.environment.set(target, str(value))
        elif shell.batch is None:
            shell.stdout.write(str(value).encode())
    return 0


def _sum(tokens: list[str], shell: CommandInterpreter) -> int:
    value = _product(tokens, shell)
    while tokens and tokens[0] in "+-":
        value = value + _product(tokens, shell) if tokens.pop(0) == "+" else value - _product(tokens, shell)
    return (value + (1 << 31)) % (1 << 32) - (1 << 31)


def _product(tokens: list[str], shell: CommandInterpreter) -> int:
    value = _factor(tokens, shell)
    while tokens and tokens[0] in "*/%":
        operator, right = tokens.pop(0), _factor(tokens, shell)
        if operator == "*":
            value *= right
        else:
            quotient = abs(value) // abs(right) * (1 if (value < 0) == (right < 0) else -1)
            value = quotient if operator == "/" else value - quotient * right
    return value


def _factor(tokens: list[str], shell: CommandInterpreter) -> int:
    token = tokens.pop(0)
    if token == "-":
        return -_factor(tokens, shell)
    if token == "+":
        return _factor(tokens, shell)
    if token == "(":
        value = _sum(tokens, shell)
        tokens.pop(0)
        return value
    if re.fullmatch(r"[A-Za-z_]\w*", token):
        token = shell.lookup(token) or "0"
    return int(token, 0) if token.lower().startswith("0x") else int(token)


def _setlocal(shell: CommandInterpreter, text: str) -> int:
    batch = shell.batch
    if batch is None:
        return 0
    batch.scopes.append((shell.process.environment, shell.delayed))
    shell.process.environment = shell.process.environment.copy()
    words = text.lower()
    if "enabledelayedexpansion" in words:
        shell.delayed = True
    if "disabledelayedexpansion" in words:
        shell.delayed = False
    return 0


def _endlocal(shell: CommandInterpreter, text: str) -> int:
    batch = shell.batch
    if batch is not None and batch.scopes:
        shell.process.environment, shell.delayed = batch.scopes.pop()
    return 0


# -- control ---------------------------------------------------------------------------------------------------


def _exit(shell: CommandInterpreter, text: str) -> int:
    match = re.fullmatch(r"\s*(/b)?\s*(-?\d+)?.*", text, re.IGNORECASE)
    code = int(match[2]) if match and match[2] else shell.level
    raise Leave(code, whole=not (match and match[1]))


def _goto(shell: CommandInterpreter, text: str) -> int:
    label = text.strip().lstrip(":").split(" ")[0]
    if text.strip().lower() == ":eof":
        raise Leave(shell.level, whole=False)
    raise Jump(label)


def _call(shell: CommandInterpreter, text: str) -> Step:
    text = text.strip()
    batch = shell.batch
    if text.startswith(":") and batch is not None:
        label, *arguments = arguments_of(text)
        part = Batch(path=batch.path, lines=batch.lines, arguments=[label, *arguments])
        shell.seek(part, label[1:])
        return (yield from shell.run_lines(part))
    word = re.match(r"([A-Za-z]+)(?=$|[\s,;=/\\.:(])", text)
    if word and word[1].lower() in shell.builtins and not shell.is_batch_name(text):
        return (yield from shell.run_line(text))
    return (yield from shell.run_program(text, call=True))


def _start(shell: CommandInterpreter, text: str) -> Step:
    words = text.strip()
    if words.startswith('"'):
        words = first_word(words)[1].strip()
    wait = False
    while words.startswith("/"):
        switch, words = first_word(words)
        wait = wait or switch.lower() == "/wait"
        words = words.strip()
    try:
        child = shell.machine.processes.start(
            words or "cmd.exe",
            token=shell.process.token,
            parent=shell.process,
            handles=Handles(stdin=Input(closed=True), stdout=shell.stdout if "/b" in text.lower() else Discard()),
            directory=shell.process.directory,
            environment=shell.process.environment,
        )
    except ProgramNotFound:
        shell.err(f"The system cannot find the file {first_word(words)[0]}.")
        return SetLevel(9059)
    if wait:
        yield wait_for(child)
        return SetLevel(child.exit_code or 0)
    return 0


def _pause(shell: CommandInterpreter, text: str) -> Step:
    shell.out("Press any key to continue . . . ")
    yield from shell.read_line()
    return 0


def _nothing(shell: CommandInterpreter, text: str) -> int:
    return 0


def _ver(shell: CommandInterpreter, text: str) -> int:
    shell.out(f"\nMicrosoft Windows [Version {shell.machine.os.version}.1]")
    return SetLevel(0)


def _clock(shell: CommandInterpreter, form: str) -> int:
    shell.out(shell.machine.processes.local_now().strftime(form))
    return SetLevel(0)


# -- folders ---------------------------------------------------------------------------------------------------


def _cd(shell: CommandInterpreter, text: str) -> int:
    text = text.strip()
    change_drive = bool(re.match(r"/d\b", text, re.IGNORECASE))
    path = re.sub(r"^/d\s*", "", text, flags=re.IGNORECASE).strip().replace('"', "")
    if not path:
        shell.out(shell.process.directory)
        return SetLevel(0)
    absolute = shell.files.absolute(path)
    if absolute.startswith("\\\\") and not absolute.startswith("\\\\?\\"):
        shell.err(f"'{path}'\nCMD does not support UNC paths as current directories.")
        return SetLevel(1)
    try:
        if not shell.files.stat(absolute).is_directory:
            shell.err("The directory name is invalid.")
            return SetLevel(1)
    except FileSystemError:
        shell.err(NO_PATH)
        return SetLevel(1)
    if absolute[:1].upper() == shell.process.directory[:1].upper() or change_drive:
        real = shell.files.real_name(absolute)
        shell.process.directory = real[:1].upper() + real[1:] if real[1:2] == ":" else real
    return SetLevel(0)


def _pushd(shell: CommandInterpreter, text: str) -> int:
    before = shell.process.directory
    result = _cd(shell, "/d " + text.strip())
    if result == 0:
        shell.folders.append(before)
    return result


def _popd(shell: CommandInterpreter, text: str) -> int:
    if not shell.folders:
        return 1
    shell.process.directory = shell.folders.pop()
    return 0


def _mkdir(shell: CommandInterpreter, text: str) -> int:
    _found, words = _switches(text)
    if not words:
        shell.err(BAD_SYNTAX)
        return SetLevel(1)
    result = 0
    for word in words:
        try:
            shell.files.mkdir(word)
        except FileSystemError as problem:
            exists = problem.code == ERROR_ALREADY_EXISTS
            shell.err(f"A subdirectory or file {word} already exists." if exists else str(problem))
            result = 1
    return SetLevel(result)


def _rmdir(shell: CommandInterpreter, text: str) -> int:
    switches, words = _switches(text)
    result = 0
    for word in words:
        files = shell.files
        if not files.exists(word):
            shell.err(NOT_FOUND)
            result = 2
        elif not files.is_folder(word):
            shell.err("The directory name is invalid.")
            result = 267
        else:
            try:
                files.delete(word, recursive="/s" in switches)
            except FileSystemError as problem:
                shell.err(str(problem))
                result = problem.code
    return result


# -- files -----------------------------------------------------------------------------------------------------


def _expand(shell: CommandInterpreter, word: str) -> list[str]:
    """The files a word names, wildcards or not."""
    if "*" in word or "?" in word.removeprefix("\\\\?\\"):
        return [path for path in shell.files.matching(word) if not shell.files.is_folder(path)]
    return [shell.files.absolute(word)] if shell.files.exists(word) else []


def _type(shell: CommandInterpreter, text: str) -> int:
    _found, words = _switches(text)
    result = 0
    for word in words:
        paths = _expand(shell, word)
        if not paths:
            missing = shell.files.missing(word)
            shell.err(NOT_FOUND if missing == 2 else NO_PATH)
            result = 1
        for path in paths:
            if len(words) > 1 or len(paths) > 1:
                shell.err(f"\n{path}\n\n")
            data = shell.files.read(path)
            if data.startswith(b"\xff\xfe"):
                shell.stdout.write(encode_text(data[2:].decode("utf-16-le", "replace"), shell.process.code_page))
            else:
                shell.stdout.write(data)
    return SetLevel(result)


def _del(shell: CommandInterpreter, text: str) -> int:
    switches, words = _switches(text)
    if not words:
        shell.err(BAD_SYNTAX)
        return SetLevel(1)
    files = shell.files
    for named in words:
        word = join(named, "*") if files.is_folder(named) else named
        roots = _expand(shell, word)
        if "/s" in switches:
            folder, _unused, last = files.absolute(word).rpartition("\\")
            for path, _entries in _tree(shell, folder + "\\"):
                roots.extend(p for p in files.matching(join(path, last)) if not files.is_folder(p) and p not in roots)
        if not roots:
            shell.err(f"Could Not Find {files.absolute(word)}")
        for path in roots:
            try:
                files.delete(path)
            except FileSystemError as problem:
                shell.err(f"{path}\n{problem}")
    return SetLevel(0)


def _target(shell: CommandInterpreter, source: str, target: str) -> str:
    name = source.rpartition("\\")[2]
    if shell.files.is_folder(target) or target.endswith("\\"):
        return join(shell.files.absolute(target), name)
    return shell.files.absolute(target)


def _copy(shell: CommandInterpreter, text: str) -> Step:
    _found, words = _switches(text)
    if not words:
        shell.err(BAD_SYNTAX)
        return SetLevel(1)
    source, target = words[0], words[1] if len(words) > 1 else "."
    copied = 0
    try:
        parts = source.split("+")
        if len(parts) > 1:
            shell.files.write(_target(shell, parts[0], target), b"".join(shell.files.read(part) for part in parts))
            shell.out("        1 file(s) copied.")
            return SetLevel(0)
        sources = _expand(shell, join(source, "*") if shell.files.is_folder(source) else source)
        if not sources:
            shell.err(NOT_FOUND if shell.files.missing(source) == 2 else NO_PATH)
            shell.out("        0 file(s) copied.")
            return SetLevel(1)
        for path in sources:
            if len(sources) > 1:
                shell.out(path if "\\" in source else path.rpartition("\\")[2])
            goal = _target(shell, path, target)
            if target.lower() != "nul" and fold(goal) == fold(shell.files.absolute(path)):
                shell.err("The file cannot be copied onto itself.")
                continue
            if target.lower() != "nul":
                yield from copy_file(shell.machine, shell.files, path, goal, shell.process)
            copied += 1
    except FileSystemError as problem:
        shell.err(str(problem))
        if len(source.split("+")) > 1:
            return SetLevel(1)
    shell.out(f"        {copied} file(s) copied.")
    return SetLevel(0 if copied and copied == len(sources) else 1)


def _move(shell: CommandInterpreter, text: str) -> int:
    switches, words = _switches(text)
    if len(words) != 2:
        shell.err(BAD_SYNTAX)
        return SetLevel(1)
    source, target = words
    files = shell.files
    if files.is_folder(source):
        goal = (
            join(files.absolute(target), source.rstrip("\\").rpartition("\\")[2]) if files.is_folder(target) else target
        )
        files.rename(source, goal)
        shell.out("        1 dir(s) moved.")
        return SetLevel(0)
    sources = _expand(shell, source)
    if not sources:
        shell.err(NOT_FOUND)
        return SetLevel(1)
    for path in sources:
        goal = _target(shell, path, target)
        if files.exists(goal) and fold(goal) != fold(path):
            # /-y asks; a batch file and cmd /c overwrite without a question
            if "/-y" in switches:
                shell.out(f"Overwrite {goal}? (Yes/No/All): ")
                return SetLevel(1)
            files.delete(goal)
        files.rename(path, goal)
    shell.out(f"        {len(sources)} file(s) moved.")
    return SetLevel(0)


def _ren(shell: CommandInterpreter, text: str) -> int:
    _found, words = _switches(text)
    if len(words) != 2 or "\\" in words[1] or ":" in words[1]:
        shell.err(BAD_SYNTAX)
        return SetLevel(1)
    files = shell.files
    if not files.exists(words[0]):
        shell.err(NOT_FOUND)
        return SetLevel(1)
    source = files.absolute(words[0])
    goal = join(source.rpartition("\\")[0], words[1])
    if files.exists(goal) and fold(goal) != fold(source):
        shell.err("A duplicate file name exists, or the file\ncannot be found.")
        return SetLevel(1)
    files.rename(source, goal)
    return SetLevel(0)


# -- dir -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Listing:
    bare: bool
    deep: bool
    every: bool
    folders: bool | None

    def shows(self, entry: FileStat) -> bool:
        if self.folders is not None and entry.is_directory != self.folders:
            return False
        return self.every or not entry.attributes & 0x6


def _listing(switches: set[str]) -> _Listing:
    attributes = next((switch[2:].lstrip(":") for switch in switches if switch.startswith("/a")), None)
    folders = None if attributes is None or "d" not in attributes else "-d" not in attributes
    return _Listing(bare="/b" in switches, deep="/s" in switches, every=attributes is not None, folders=folders)


def _tree(shell: CommandInterpreter, folder: str) -> Iterator[tuple[str, list[FileStat]]]:
    entries = shell.files.listdir(folder)
    yield folder, entries
    for entry in entries:
        if entry.is_directory:
            yield from _tree(shell, join(folder, entry.name))


def _dir(shell: CommandInterpreter, text: str) -> int:
    switches, words = _switches(text)
    listing = _listing(switches)
    files = shell.files
    result = 0
    for word in words or ["."]:
        absolute = files.absolute(word)
        wild = "*" in absolute or "?" in absolute.removeprefix("\\\\?\\")
        if not wild and files.is_folder(absolute):
            folder, pattern = absolute, "*"
        else:
            folder, _unused, pattern = absolute.rpartition("\\")
            folder += "\\"
        if not files.is_folder(folder):
            if not listing.bare:
                _dir_head(shell, absolute)
            shell.err("File Not Found" if files.exists(folder[:3]) else NO_PATH)
            result = 1
            continue
        if _dir_folder(shell, folder, pattern, listing) == 0:
            shell.err("File Not Found")
            result = 1
    return SetLevel(result)


def _dir_head(shell: CommandInterpreter, path: str) -> None:
    volume, _below = shell.files.locate(path)
    drive = f"drive {path[0].upper()}" if path[1:2] == ":" else f"drive {path}"
    shell.out(f" Volume in {drive} {'is ' + volume.label if volume.label else 'has no label.'}")
    serial = volume.serial & 0xFFFFFFFF
    shell.out(f" Volume Serial Number is {serial >> 16:04X}-{serial & 0xFFFF:04X}")


def _dir_folder(shell: CommandInterpreter, folder: str, pattern: str, listing: _Listing) -> int:
    if not listing.bare:
        _dir_head(shell, folder)
    names = set(shell.files.matching(join(folder, pattern))) if pattern != "*" else None
    total_files = total_bytes = total_folders = shown = 0
    for path, entries in _tree(shell, folder) if listing.deep else [(folder, shell.files.listdir(folder))]:
        if names is not None and path != folder:
            names |= set(shell.files.matching(join(path, pattern)))
        chosen = [
            e for e in entries if listing.shows(e) and (names is None or join(path.rstrip("\\"), e.name) in names)
        ]
        shown += len(chosen)
        if listing.bare:
            for entry in chosen:
                shell.out(join(path, entry.name) if listing.deep else entry.name)
            continue
        if listing.deep and not chosen:
            continue
        files = [entry for entry in chosen if not entry.is_directory]
        shell.out(f"\n Directory of {path.rstrip(chr(92)) if len(path) > 3 else path}\n")
        if len(path.rstrip("\\")) > 2 and names is None and listing.folders is not False:
            now = shell.machine.processes.local_now().strftime("%m/%d/%Y  %I:%M %p")
            shell.out(f"{now}    <DIR>          .\n{now}    <DIR>          ..")
            total_folders += 2
        for entry in chosen:
            stamp = shell.machine.processes.local_time(entry.modified).strftime("%m/%d/%Y  %I:%M %p")
            middle = "   <DIR>         " if entry.is_directory else f"{entry.size:17,}"
            shell.out(f"{stamp} {middle} {entry.name}")
        shell.out(f"{len(files):16,} File(s) {sum(entry.size for entry in files):14,} bytes")
        total_files += len(files)
        total_bytes += sum(entry.size for entry in files)
        total_folders += len(chosen) - len(files)
    if not listing.bare and (shown or names is None):
        volume, _below = shell.files.locate(folder)
        if listing.deep:
            shell.out(f"\n     Total Files Listed:\n{total_files:16,} File(s) {total_bytes:14,} bytes")
        shell.out(f"{total_folders:16,} Dir(s) {volume.free:15,} bytes free")
    return shown if names is not None or listing.bare else 1


INTERNAL_COMMANDS: dict[str, Builtin] = {
    "break": _plain(_nothing),
    "call": _call,
    "cd": _plain(_cd),
    "chdir": _plain(_cd),
    "cls": _plain(_nothing),
    "color": _plain(_nothing),
    "copy": _copy,
    "date": _plain(lambda shell, text: _clock(shell, "%a %m/%d/%Y")),
    "del": _plain(_del),
    "dir": _plain(_dir),
    "echo": _plain(_echo),
    "endlocal": _plain(_endlocal),
    "erase": _plain(_del),
    "exit": _plain(_exit),
    "goto": _plain(_goto),
    "md": _plain(_mkdir),
    "mkdir": _plain(_mkdir),
    "move": _plain(_move),
    "path": _plain(_nothing),
    "pause": _pause,
    "popd": _plain(_popd),
    "prompt": _plain(_nothing),
    "pushd": _plain(_pushd),
    "rd": _plain(_rmdir),
    "rem": _plain(_nothing),
    "ren": _plain(_ren),
    "rename": _plain(_ren),
    "rmdir": _plain(_rmdir),
    "set": _set,
    "setlocal": _plain(_setlocal),
    "start": _start,
    "time": _plain(lambda shell, text: _clock(shell, "%I:%M %p")),
    "title": _plain(_nothing),
    "type": _plain(_type),
    "ver": _plain(_ver),
    "verify": _plain(_nothing),
}
