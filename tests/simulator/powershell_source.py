# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PowerShell source text under a cursor: blanks, comments, words, numbers, operators as they stand in it.

The grammar is in powershell_expressions.py and powershell_parser.py. Source: Language Specification 3.0, chapter 2.
"""

from __future__ import annotations

import re

from .powershell_language import SyntaxFault

_LEVELS: tuple[tuple[str, ...], ...] = (
    ("-and", "-or", "-xor"),
    ("-band", "-bor", "-bxor"),
    (
        *(f"-{c}{w}" for c in ("", "i", "c") for w in ("eq", "ne", "gt", "ge", "lt", "le", "like", "notlike", "match")),
        *(f"-{c}{w}" for c in ("", "i", "c") for w in ("notmatch", "contains", "notcontains", "in", "notin")),
        *(f"-{c}{w}" for c in ("", "i", "c") for w in ("replace", "split")),
        *("-join", "-is", "-isnot", "-as", "-shl", "-shr"),
    ),
    ("+", "-"),
    ("*", "/", "%"),
    ("-f",),
    ("..",),
)
_UNARY_WORDS = ("-not", "-bnot", "-split", "-isplit", "-csplit", "-join")
_NAME = re.compile(r"(?:(?P<scope>\w+):(?!:))?(?P<name>[\w?]+|::|[$^])")
_NUMBER = re.compile(
    r"(?P<hex>0[xX][0-9a-fA-F]+)(?P<hl>[lL]?)(?P<hm>[kmgtpKMGTP][bB])?(?![\w.])"
    r"|(?P<number>(?:\d+\.\d+|\d+|\.\d+)(?:[eE][+-]?\d+)?)(?P<suffix>[dDlL]?)(?P<multiplier>[kmgtpKMGTP][bB])?(?!\w)"
)
_MULTIPLIERS = {"kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30, "tb": 1 << 40, "pb": 1 << 50}
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "0": "\0", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_KEYWORDS = {
    *("if", "while", "do", "for", "foreach", "switch", "function", "filter", "try", "throw", "return", "exit"),
    *("break", "continue", "param"),
}
_FOREIGN = {
    *("trap", "class", "enum", "workflow", "configuration", "data", "begin", "process", "end", "dynamicparam", "using"),
    *("parallel", "sequence", "inlinescript"),
}
_ASSIGN = re.compile(r"(?:\+=|-=|\*=|/=|%=|=)(?!=)")
_REDIRECT = re.compile(r"(?P<stream>[1-6*])?(?P<operator>>>|>)(?:&(?P<merge>[12]))?")
_WORD_END = " \t\r\n;|&(){}'\"`,<>"
MAXIMUM_DEPTH = 60
"""Nesting that the simulator reads; a real script stays far below it."""


class Source:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.depth = 0

    # -- small things ------------------------------------------------------------------------------------------------

    def fail(self, identifier: str, message: str, at: int | None = None) -> SyntaxFault:
        return SyntaxFault(self.at if at is None else at, identifier, message)

    def peek(self, text: str) -> bool:
        return self.text.startswith(text, self.at)

    def letter(self, ahead: int = 0) -> str:
        return self.text[self.at + ahead : self.at + ahead + 1]

    def space(self, *, lines: bool = False) -> None:
        """Blanks, comments and continued lines; with ``lines`` the ends of lines as well."""
        while self.at < len(self.text):
            letter = self.text[self.at]
            if letter in " \t\f\xa0" or (lines and letter in "\r\n"):
                self.at += 1
            elif letter == "`" and self.text[self.at + 1 : self.at + 2] in ("\n", "\r"):
                self.at += 3 if self.text.startswith("\r\n", self.at + 1) else 2
            elif letter == "#":
                while self.at < len(self.text) and self.text[self.at] not in "\r\n":
                    self.at += 1
            elif self.peek("<#"):
                end = self.text.find("#>", self.at)
                if end < 0:
                    raise self.fail(
                        "MissingTerminatorMultiLineComment",
                        "The terminator '#>' is missing from the multiline comment.",
                    )
                self.at = end + 2
            else:
                return

    def eat(self, text: str) -> bool:
        if self.peek(text):
            self.at += len(text)
            return True
        return False

    def word(self) -> str:
        """The bare word at this place, lower case, "" when there is none."""
        found = re.compile(r"[A-Za-z_][\w]*(?![\w.\\/:*?-])").match(self.text, self.at)
        return found[0].lower() if found else ""

    def need(self, text: str, identifier: str, message: str) -> None:
        self.space(lines=True)
        if not self.eat(text):
            raise self.fail(identifier, message)

    def token(self) -> str:
        """What stands here, for an error."""
        found = re.compile(r"[\w$-]+|[^\w\s]+?").match(self.text, self.at)
        return found[0] if found else ""

    def unexpected(self) -> SyntaxFault:
        return self.fail("UnexpectedToken", f"Unexpected token '{self.token()}' in expression or statement.")

    def bracketed(self) -> str:
        """The text between [ and the ] that belongs to it, strings respected."""
        start, depth = self.at, 0
        while self.at < len(self.text):
            letter = self.text[self.at]
            if letter in "'\"":
                end = self.text.find(letter, self.at + 1)
                self.at = end if end > 0 else len(self.text)
            depth += (letter == "[") - (letter == "]")
            self.at += 1
            if not depth:
                return self.text[start + 1 : self.at - 1]
        raise self.fail(
            "EndSquareBracketExpectedAtEndOfAttribute", "Missing ] at end of attribute or type literal.", start
        )

    def operator(self, words: tuple[str, ...]) -> str:
        """Which of the operators stands here ("" none); words end where a letter does not follow."""
        for word in words:
            if self.text[self.at : self.at + len(word)].lower() == word:
                following = self.letter(len(word))
                if word[-1].isalpha() and following and (following.isalnum() or following in "_:"):
                    continue
                return word
        return ""
