# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The language of cmd.exe: percent expansion, the parser of lines, and the expansions that happen late.

Pure functions of text; running commands is command_interpreter.py. Order of events, as in cmd.exe: `%VAR%` is replaced
once for the whole line (or parenthesised block) before anything runs, then the line is parsed, and only when a command
runs are `for` variables and, with /v:on, `!VAR!` replaced; what those bring in is never parsed again.
Source: windows-commands (cmd, if, for, call, set, redirection) and general knowledge of cmd.exe where that is silent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

MAXIMUM_LINE = 8191
"""Longest command line that cmd.exe accepts (support article 830473)."""

Lookup: TypeAlias = "Callable[[str], str | None]"


class SyntaxFault(Exception):
    """The line cannot be parsed; the text is what cmd.exe prints."""


class Incomplete(SyntaxFault):
    """A block is still open at the end of the text: a batch file goes on with its next line."""


# -- what a line means -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Redirect:
    """`handle` 0..2; `mode` "<", ">", ">>" or "&" (then `target` is the number of another handle)."""

    handle: int
    mode: str
    target: str


@dataclass(frozen=True, kw_only=True)
class Simple:
    text: str
    redirects: tuple[Redirect, ...] = ()
    silent: bool = False


@dataclass(frozen=True, kw_only=True)
class Group:
    body: Node
    redirects: tuple[Redirect, ...] = ()
    silent: bool = False


@dataclass(frozen=True, kw_only=True)
class Chain:
    """`operator` is "&", "&&", "||" or "|"."""

    operator: str
    left: Node
    right: Node


@dataclass(frozen=True, kw_only=True)
class Condition:
    """`kind`: exist, errorlevel, defined, == or one of EQU NEQ LSS LEQ GTR GEQ."""

    kind: str
    left: str
    right: str = ""
    negated: bool = False
    ignore_case: bool = False


@dataclass(frozen=True, kw_only=True)
class If:
    condition: Condition
    then: Node
    otherwise: Node | None = None


@dataclass(frozen=True, kw_only=True)
class For:
    """`kind`: "" (words and wildcards), "d", "l", "f", "r"."""

    kind: str
    options: str
    variable: str
    items: str
    body: Node


@dataclass(frozen=True, kw_only=True)
class Nothing:
    """An empty line, or rem."""


Node: TypeAlias = "Simple | Group | Chain | If | For | Nothing"

_DELIMITERS = " \t,;="
_COMPARISONS = {"EQU", "NEQ", "LSS", "LEQ", "GTR", "GEQ"}


# -- percent expansion -----------------------------------------------------------------------------------


def expand_percent(text: str, lookup: Lookup, arguments: Sequence[str] | None = None) -> str:
    """Replaces %VAR%, %VAR:a=b%, %VAR:~n,m% and, in a batch file (`arguments` given), %0..%9, %*, %~1 and %%.

    An unknown variable stays as it is on a command line and vanishes in a batch file.
    """
    out: list[str] = []
    index = 0
    while index < len(text):
        if text[index] != "%":
            out.append(text[index])
            index += 1
            continue
        if arguments is not None:
            if text[index + 1 : index + 2] == "%":
                out.append("%")
                index += 2
                continue
            parameter, used = _batch_parameter(text, index, arguments)
            if used:
                out.append(parameter)
                index += used
                continue
        end = text.find("%", index + 1)
        newline = text.find("\n", index + 1)
        if end < 0 or 0 <= newline < end:
            if arguments is None:
                out.append("%")
            index += 1
            continue
        value = variable_text(text[index + 1 : end], lookup)
        if value is None and arguments is None:
            out.append("%")
            index += 1
            continue
        out.append(value or "")
        index = end + 1
    return "".join(out)


def _batch_parameter(text: str, index: int, arguments: Sequence[str]) -> tuple[str, int]:
    match = re.compile(r"%(?:(\*)|(\d)|~([fdpnxsatz]*)(\d))").match(text, index)
    if match is None:
        return "", 0
    if match[1]:
        return " ".join(arguments[1:]), len(match[0])
    number = int(match[2] if match[2] is not None else match[4])
    value = arguments[number] if number < len(arguments) else ""
    if match[3] is not None:
        value = modified(value, match[3])
    return value, len(match[0])


def modified(value: str, letters: str) -> str:
    """%~dpnx1 and its like; paths are taken as they are."""
    value = value.strip('"')
    if not letters:
        return value
    if "f" in letters:
        letters = "dpnx"
    drive = value[:2] if value[1:2] == ":" else ""
    rest = value[len(drive) :]
    folder, slash, name = rest.rpartition("\\")
    stem, dot, extension = name.rpartition(".")
    stem, extension = (stem, dot + extension) if dot else (name, "")
    parts = {"d": drive, "p": folder + slash, "n": stem, "x": extension}
    return "".join(parts[letter] for letter in "dpnx" if letter in letters)


def variable_text(name: str, lookup: Lookup) -> str | None:
    """The value of `VAR`, `VAR:old=new` or `VAR:~start,length`; None when VAR is not defined."""
    value = lookup(name) if name else None
    if value is not None or ":" not in name:
        return value
    name, _unused, change = name.partition(":")
    value = lookup(name) if name else None
    if value is None:
        return None
    cut = re.fullmatch(r"~(-?\d*)(?:,(-?\d+))?", change)
    if cut:
        start = int(cut[1] or 0)
        value = value[start:] if start >= 0 or -start <= len(value) else value
        return value if cut[2] is None else value[: int(cut[2])]
    old, equals, new = change.partition("=")
    if not equals or not old:
        return None
    if old.startswith("*"):
        at = value.lower().find(old[1:].lower())
        return value if at < 0 else new + value[at + len(old) - 1 :]
    return re.sub(re.escape(old), lambda _match: new, value, flags=re.IGNORECASE)


def expand_delayed(text: str, lookup: Lookup) -> str:
    """Replaces !VAR! (delayed expansion); an undefined variable vanishes, a single ! too."""
    return re.sub(r"!([^!\r\n]*)!|!", lambda match: variable_text(match[1], lookup) or "" if match[1] else "", text)


def expand_for(text: str, variables: Mapping[str, str]) -> str:
    """Replaces %i and %~nxi of the loops around."""
    if not variables:
        return text

    def replace(match: re.Match[str]) -> str:
        """After ~ come modifiers, then the first letter that names a loop's variable."""
        letters = match[1] or match[2]
        for index, letter in enumerate(letters):
            if letter in variables:
                value = variables[letter]
                return (modified(value, letters[:index]) if match[1] else value) + letters[index + 1 :]
            if not match[1] or letter not in "fdpnxsatz":
                break
        return match[0]

    return re.sub(r"%(?:~([A-Za-z]+)|([A-Za-z]))", replace, text)


# -- the parser ------------------------------------------------------------------------------------------


def parse(text: str) -> Node:
    """The command of one line or block (percent expansion done); SyntaxFault when it has no meaning."""
    if len(text) > MAXIMUM_LINE and "\n" not in text:
        raise SyntaxFault("The command line is too long.")
    parser = _Parser(text)
    node = parser.sequence(0)
    parser.expect_end()
    return node


@dataclass
class _Parser:
    text: str
    at: int = 0
    _redirects: list[Redirect] = field(default_factory=list)

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def skip(self, letters: str = " \t") -> None:
        while self.peek() and self.peek() in letters:
            self.at += 1

    def expect_end(self) -> None:
        self.skip(" \t\n")
        if self.peek():
            raise SyntaxFault(f"{self.peek()} was unexpected at this time.")

    # sequence := either ('&' either)* ; either := both ('||' both)* ; both := pipe ('&&' pipe)*
    def sequence(self, depth: int) -> Node:
        separators = "\n" if depth else ""
        self.skip(" \t" + separators)
        node = self._either(depth)
        while True:
            self.skip()
            if self.peek() == "&" and self.text[self.at : self.at + 2] != "&&":
                self.at += 1
            elif depth and self.peek() == "\n":
                self.skip(" \t\n")
            else:
                return node
            self.skip(" \t" + separators)
            if not self.peek() or (depth and self.peek() == ")"):
                return node
            node = Chain(operator="&", left=node, right=self._either(depth))

    def _either(self, depth: int) -> Node:
        node = self._both(depth)
        while self._take("||"):
            node = Chain(operator="||", left=node, right=self._both(depth))
        return node

    def _both(self, depth: int) -> Node:
        node = self._pipe(depth)
        while self._take("&&"):
            node = Chain(operator="&&", left=node, right=self._pipe(depth))
        return node

    def _pipe(self, depth: int) -> Node:
        node = self._command(depth)
        self.skip()
        while self.peek() == "|" and self.text[self.at : self.at + 2] != "||":
            self.at += 1
            node = Chain(operator="|", left=node, right=self._command(depth))
            self.skip()
        return node

    def _take(self, operator: str) -> bool:
        self.skip()
        if self.text.startswith(operator, self.at):
            self.at += len(operator)
            return True
        return False

    def _command(self, depth: int) -> Node:
        self.skip(_DELIMITERS)
        silent = False
        while self.peek() == "@":
            silent = True
            self.at += 1
            self.skip(_DELIMITERS)
        if not self.peek() or self.peek() == "\n":
            return Nothing()
        if self.peek() in "&|" or (self.peek() == ")" and not depth):
            raise SyntaxFault(f"{self._unexpected()} was unexpected at this time.")
        if self.peek() == "(":
            self.at += 1
            body = self.sequence(depth + 1)
            self.skip(" \t\n")
            if not self.peek():
                raise Incomplete("The syntax of the command is incorrect.")
            if self.peek() != ")":
                raise SyntaxFault(f"{self._unexpected()} was unexpected at this time.")
            self.at += 1
            return Group(body=body, redirects=self._trailing_redirects(), silent=silent)
        word = re.compile(r"[A-Za-z]+").match(self.text, self.at)
        keyword = word[0].lower() if word else ""
        after = self.text[word.end() : word.end() + 1] if word else ""
        if keyword == "if" and after in {" ", "\t"}:
            return self._if(depth)
        if keyword == "for" and after in {" ", "\t"}:
            return self._for(depth)
        if keyword == "rem" and (not after or after in " \t\n"):
            end = self.text.find("\n", self.at)
            self.at = len(self.text) if end < 0 else end
            return Nothing()
        return self._simple(depth, silent=silent)

    def _unexpected(self) -> str:
        return self.text[self.at : self.at + 2] if self.text[self.at : self.at + 2] in {"&&", "||"} else self.peek()

    def _simple(self, depth: int, *, silent: bool) -> Simple:
        out: list[str] = []
        redirects: list[Redirect] = []
        quoted = False
        while self.at < len(self.text):
            letter = self.text[self.at]
            if letter == "\n":
                break
            if letter == '"':
                quoted = not quoted
            elif not quoted:
                if letter == "^":
                    self.at += 1
                    if self.peek() == "\n":
                        self.at += 1
                        self.skip()
                    if self.peek():
                        out.append(self.peek())
                        self.at += 1
                    continue
                if letter in "&|" or (letter == ")" and depth):
                    break
                if letter in "<>":
                    redirects.append(self._redirect(out, depth))
                    continue
            out.append(letter)
            self.at += 1
        return Simple(text="".join(out), redirects=tuple(redirects), silent=silent)

    def _trailing_redirects(self) -> tuple[Redirect, ...]:
        redirects: list[Redirect] = []
        while True:
            self.skip()
            match = re.compile(r"(\d?)([<>])").match(self.text, self.at)
            if match is None:
                return tuple(redirects)
            self.at += len(match[1])
            redirects.append(self._redirect([" ", match[1]] if match[1] else [], 1))

    def _redirect(self, before: list[str], depth: int) -> Redirect:
        """At `<` or `>`; a digit that stands alone before it is the handle and is taken out of the command."""
        mode = self.peek()
        handle = 0 if mode == "<" else 1
        alone = len(before) == 1 or (len(before) > 1 and before[-2] in _DELIMITERS)
        if before and before[-1].isdigit() and alone:
            handle = int(before.pop())
        self.at += 1
        if mode == ">" and self.peek() == ">":
            mode = ">>"
            self.at += 1
        if self.peek() == "&":
            self.at += 1
            self.skip()
            target = self.peek()
            if not target.isdigit():
                raise SyntaxFault("The syntax of the command is incorrect.")
            self.at += 1
            return Redirect(handle=handle, mode="&", target=target)
        self.skip(_DELIMITERS)
        target = self._word(depth, stop=_DELIMITERS + "<>")
        if not target:
            raise SyntaxFault("The syntax of the command is incorrect.")
        return Redirect(handle=handle, mode=mode, target=target)

    def _word(self, depth: int, *, stop: str = " \t") -> str:
        out: list[str] = []
        quoted = False
        while self.at < len(self.text):
            letter = self.text[self.at]
            if letter == "\n":
                break
            if letter == '"':
                quoted = not quoted
            elif not quoted:
                if letter == "^" and self.at + 1 < len(self.text):
                    self.at += 1
                    letter = self.text[self.at]
                elif letter in stop or letter in "&|" or (letter == ")" and depth):
                    break
            out.append(letter)
            self.at += 1
        return "".join(out)

    def _keyword(self, word: str) -> bool:
        match = re.compile(re.escape(word) + r"(?![\w=])", re.IGNORECASE).match(self.text, self.at)
        if match is None:
            return False
        self.at = match.end()
        self.skip()
        return True

    def _if(self, depth: int) -> If:
        self.at += 2
        self.skip()
        ignore_case = self._keyword("/i")
        negated = self._keyword("not")
        ignore_case = self._keyword("/i") or ignore_case
        kind, left, right = "", "", ""
        for keyword in ("exist", "errorlevel", "defined", "cmdextversion"):
            if self._keyword(keyword):
                kind, left = keyword, self._word(depth)
                break
        else:
            left = self._word(depth, stop=" \t=")
            self.skip()
            if self.text.startswith("==", self.at):
                self.at += 2
                self.skip()
                kind, right = "==", self._word(depth)
            else:
                kind = self._word(depth).upper()
                self.skip()
                right = self._word(depth)
                if kind not in _COMPARISONS:
                    raise SyntaxFault(f"{kind} was unexpected at this time.")
        condition = Condition(kind=kind, left=left, right=right, negated=negated, ignore_case=ignore_case)
        self.skip()
        if not self.peek() or self.peek() in "\n)":
            raise SyntaxFault("The syntax of the command is incorrect.")
        grouped = self.peek() == "("
        then = self._command(depth) if grouped else self.sequence(depth) if not depth else self._inline(depth)
        otherwise: Node | None = None
        mark = self.at
        self.skip()
        if grouped and self._keyword("else"):
            otherwise = self._command(depth) if self.peek() == "(" else self._inline(depth)
        else:
            self.at = mark
        return If(condition=condition, then=then, otherwise=otherwise)

    def _inline(self, depth: int) -> Node:
        """The rest of the physical line: `if a b & c` takes b and c."""
        node = self._either(depth)
        while True:
            self.skip()
            if self.peek() != "&" or self.text[self.at : self.at + 2] == "&&":
                return node
            self.at += 1
            self.skip()
            if not self.peek() or self.peek() in "\n)":
                return node
            node = Chain(operator="&", left=node, right=self._either(depth))

    def _for(self, depth: int) -> For:
        self.at += 3
        self.skip()
        kind, options = "", ""
        match = re.compile(r"/([dlfr])\b", re.IGNORECASE).match(self.text, self.at)
        if match:
            kind = match[1].lower()
            self.at = match.end()
            self.skip()
        if self.peek() != "%" and kind in {"f", "r"}:
            options = self._word(depth)
            self.skip()
        variable = re.compile(r"%([A-Za-z])").match(self.text, self.at)
        if variable is None:
            raise SyntaxFault(f"{self._word(depth) or 'for'} was unexpected at this time.")
        self.at = variable.end()
        self.skip()
        if not self._keyword("in"):
            raise SyntaxFault(f"{self._word(depth)} was unexpected at this time.")
        if self.peek() != "(":
            raise SyntaxFault("The syntax of the command is incorrect.")
        items = self._items()
        self.skip()
        if not self._keyword("do"):
            raise SyntaxFault(f"{self._word(depth)} was unexpected at this time.")
        body = self._command(depth) if self.peek() == "(" else self._inline(depth)
        return For(kind=kind, options=options.strip('"'), variable=variable[1], items=items, body=body)

    def _items(self) -> str:
        quoted, start = "", self.at + 1
        self.at += 1
        while self.at < len(self.text):
            letter = self.text[self.at]
            if quoted:
                quoted = "" if letter == quoted else quoted
            elif letter in "\"'`":
                quoted = letter
            elif letter == "^":
                self.at += 1
            elif letter == ")":
                self.at += 1
                return re.sub(r"\^(.)", r"\1", self.text[start : self.at - 1])
            self.at += 1
        raise Incomplete("The syntax of the command is incorrect.")


# -- words -----------------------------------------------------------------------------------------------


def arguments_of(text: str) -> list[str]:
    """Arguments of an internal command or batch file: split at blanks , ; = outside quotes, quotes kept."""
    words: list[str] = []
    current: list[str] = []
    quoted = False
    for letter in text:
        if letter == '"':
            quoted = not quoted
        if letter in _DELIMITERS and not quoted:
            if current:
                words.append("".join(current))
            current = []
        else:
            current.append(letter)
    if current:
        words.append("".join(current))
    return words


@dataclass(frozen=True, kw_only=True)
class Switches:
    """The command line of cmd.exe itself."""

    command: str | None = None
    keep: bool = False
    quiet: bool = False
    unicode: bool = False
    delayed: bool = False
    extensions: bool = True


def cmd_switches(tail: str, is_program: Callable[[str], bool]) -> Switches:
    """Reads what follows `cmd.exe`; `is_program` tells whether the text between the quotes names an executable."""
    found: dict[str, bool] = {}
    values: dict[str, str] = {}
    rest = tail.lstrip(_DELIMITERS)
    while rest[:1] in {"/", "-"} and len(rest) > 1:
        letter = rest[1].lower()
        rest = rest[2:]
        if letter in "ckr":
            found["k"] = letter == "k"
            command = _strip_quotes(rest.lstrip(" \t"), bool(found.get("s")), is_program)
            return Switches(
                command=command,
                keep=letter == "k",
                quiet=bool(found.get("q")),
                unicode=bool(found.get("u")),
                delayed=values.get("v", "off") == "on",
                extensions=values.get("e", "on") == "on",
            )
        if rest.startswith(":"):
            value = re.match(r":(\w*)", rest)
            values[letter] = value[1].lower() if value else ""
            rest = rest[len(value[0]) if value else 1 :]
        else:
            found[letter] = True
        rest = rest.lstrip(_DELIMITERS)
    return Switches(quiet=bool(found.get("q")), delayed=values.get("v", "off") == "on")


def _strip_quotes(command: str, strict: bool, is_program: Callable[[str], bool]) -> str:
    """The documented rule of `cmd /?`: quotes stay only when /S is absent, there are exactly two, no special character
    and at least one blank between them, and what they hold is an executable; else first and last quote go."""
    if not command.startswith('"'):
        return command
    inner = command[1 : command.rfind('"')]
    keep = (
        not strict
        and command.count('"') == 2
        and not any(letter in "&<>()@^|" for letter in inner)
        and any(letter in " \t" for letter in inner)
        and is_program(inner)
    )
    if keep:
        return command
    last = command.rfind('"')
    return command[1:] if last == 0 else command[1:last] + command[last + 1 :]
