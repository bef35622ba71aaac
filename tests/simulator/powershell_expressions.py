# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Expressions of PowerShell: operators by precedence, primaries, literals, strings with variables in them.

Statements are in powershell_parser.py, whose class completes this one. Source: Language Specification 3.0, chapters 2, 7.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import Any

from .powershell_language import (
    ArrayExpression,
    ArrayLiteral,
    Binary,
    Block,
    Cast,
    Constant,
    Expandable,
    HashLiteral,
    Index,
    Invoke,
    Member,
    Node,
    Parameter,
    Parenthesised,
    ScriptBlockLiteral,
    Step,
    SubExpression,
    TypeLiteral,
    Unary,
    Variable,
)
from .powershell_source import _ESCAPES, _LEVELS, _MULTIPLIERS, _NAME, _NUMBER, _UNARY_WORDS, MAXIMUM_DEPTH, Source
from .powershell_values import Int64, decimal_number, int_number


class ExpressionParser(Source, ABC):
    @abstractmethod
    def statements(self, closing: str) -> Block: ...

    @abstractmethod
    def statement(self) -> Node: ...

    @abstractmethod
    def param_block(self) -> tuple[Parameter, ...]: ...

    # -- expressions -----------------------------------------------------------------------------------------------------

    def expression(self, *, comma: bool = True) -> Node:
        self.depth += 1
        if self.depth > MAXIMUM_DEPTH:
            raise self.fail("ScriptTooComplicated", "The script is too complicated: it is nested too deeply.")
        node = self.binary(0, comma)
        self.depth -= 1
        return node

    def binary(self, level: int, comma: bool) -> Node:
        if level == len(_LEVELS):
            return self.array(comma)
        left = self.binary(level + 1, comma)
        while True:
            before = self.at
            self.space()
            operator = self.operator(_LEVELS[level])
            if not operator or self.is_assignment(operator) or (operator in "+-" and self.peek(operator * 2)):
                self.at = before
                return left
            self.at += len(operator)
            self.space(lines=True)
            if self.at >= len(self.text) or self.letter() in ");}|":
                raise self.fail(
                    "ExpectedValueExpression",
                    f"You must provide a value expression following the '{operator}' operator.",
                )
            right = self.binary(level + 1, comma)
            left = Binary(operator=operator, left=left, right=right, at=left.at, end=self.at)

    def is_assignment(self, operator: str) -> bool:
        """+= and its kind, or the dash of an operator that is a word."""
        if operator == "-" and self.letter(1).isalpha():
            return True
        return operator in ("+", "-", "*", "/", "%") and self.letter(1) == "="

    def array(self, comma: bool) -> Node:
        start = self.at
        if comma and self.eat(","):
            self.space(lines=True)
            item = self.unary()
            return ArrayLiteral(items=(item,), at=start, end=self.at)
        items = [self.unary()]
        while comma:
            before = self.at
            self.space()
            if not self.eat(","):
                self.at = before
                break
            self.space(lines=True)
            if self.at >= len(self.text) or self.letter() in ");}|":
                raise self.fail("MissingExpressionAfterToken", "Missing expression after ','.")
            items.append(self.unary())
        return items[0] if len(items) == 1 else ArrayLiteral(items=tuple(items), at=start, end=self.at)

    def unary(self) -> Node:
        self.space()
        start = self.at
        if word := self.operator(_UNARY_WORDS):
            self.at += len(word)
            self.space(lines=True)
            return Unary(operator=word, operand=self.unary(), at=start, end=self.at)
        for sign in ("++", "--"):
            if self.eat(sign):
                operand = self.unary()
                return Step(operator=sign, operand=operand, prefix=True, at=start, end=self.at)
        letter = self.letter()
        if letter and letter in "!+-":
            number = _NUMBER.match(self.text, self.at + 1)
            if letter == "-" and number is not None:
                self.at = number.end()
                value = self.number(number, negative=True)
                return self.postfix(Constant(value=value, at=start, end=self.at))
            self.at += 1
            self.space(lines=True)
            return Unary(operator=letter, operand=self.unary(), at=start, end=self.at)
        if letter == "[":
            return self.bracket()
        return self.primary()

    def bracket(self) -> Node:
        """[type] before an operand is a cast, else a type."""
        start = self.at
        name = self.bracketed().strip()
        if not re.fullmatch(r"[\w.+`]+(?:\[[\w.,+`\s\[\]]*\])*", name):
            raise self.fail("UnexpectedAttribute", f"Unexpected attribute '{name}'.", start)
        here = self.at
        self.space()
        if self.peek("::"):
            return self.postfix(TypeLiteral(name=name, at=start, end=here))
        if self.at < len(self.text) and (self.letter() in "$('\"[@{!-+," or self.letter().isdigit()):
            if self.letter() in "!-+," and not self.starts_operand():
                self.at = here
                return self.postfix(TypeLiteral(name=name, at=start, end=here))
            operand = self.unary()
            return Cast(type_name=name, operand=operand, at=start, end=self.at)
        self.at = here
        return self.postfix(TypeLiteral(name=name, at=start, end=here))

    def starts_operand(self) -> bool:
        letter = self.letter()
        if letter == ",":
            return False
        if letter in "-+":
            return self.letter(1) in ("$", "(") or self.letter(1).isdigit() or bool(self.operator(_UNARY_WORDS))
        return True

    def primary(self) -> Node:
        return self.postfix(self.primary_only())

    def primary_only(self) -> Node:
        self.space()
        start, letter = self.at, self.letter()
        if letter == "$":
            if self.letter(1) == "(":
                self.at += 2
                body = self.statements(")")
                if not self.eat(")"):
                    raise self.fail(
                        "MissingEndParenthesisInSubexpression", "Missing closing ')' in subexpression.", start
                    )
                return SubExpression(body=body, at=start, end=self.at)
            return self.variable()
        if letter == "@":
            return self.at_literal()
        if letter == "(":
            return self.parenthesised()
        if letter == "'":
            return self.single_quoted()
        if letter == '"':
            return self.double_quoted()
        if letter == "{":
            return self.script_block()
        number = _NUMBER.match(self.text, self.at)
        if number is not None:
            self.at = number.end()
            return Constant(value=self.number(number), at=start, end=self.at)
        if self.at >= len(self.text):
            raise self.fail("ExpectedExpression", "An expression was expected.")
        raise self.unexpected()

    def parenthesised(self) -> Node:
        start = self.at
        self.at += 1
        self.space(lines=True)
        if self.peek(")"):
            raise self.fail("ExpectedExpression", "An expression was expected after '('.")
        body = self.statement()
        self.need(")", "MissingEndParenthesisInExpression", "Missing closing ')' in expression.")
        return Parenthesised(body=body, at=start, end=self.at)

    def at_literal(self) -> Node:
        start = self.at
        following = self.letter(1)
        if following and following in "'\"":
            return self.here_string(following)
        if following == "(":
            self.at += 2
            body = self.statements(")")
            if not self.eat(")"):
                raise self.fail("MissingEndParenthesisInExpression", "Missing closing ')' in expression.", start)
            return ArrayExpression(body=body, at=start, end=self.at)
        if following == "{":
            return self.hash_literal()
        if re.match(r"[A-Za-z_]", following or " "):
            name = self.text[start + 1 :]
            raise self.fail(
                "SplattingNotPermitted", f"The splatting operator '@' cannot be used here: @{name.split()[0]}"
            )
        raise self.fail("UnrecognizedToken", "Unrecognized token in source text.")

    def hash_literal(self) -> Node:
        start = self.at
        self.at += 2
        pairs: list[tuple[Node, Node]] = []
        while True:
            self.space(lines=True)
            if self.eat(";"):
                continue
            if self.eat("}"):
                return HashLiteral(pairs=tuple(pairs), at=start, end=self.at)
            if self.at >= len(self.text):
                raise self.fail("IncompleteHashLiteral", "The hash literal was incomplete.", start)
            bare = re.compile(r"[A-Za-z_][\w-]*(?=\s*=)").match(self.text, self.at)
            if bare is not None:
                key: Node = Constant(value=bare[0], at=self.at, end=bare.end())
                self.at = bare.end()
            else:
                key = self.unary()
            self.space(lines=True)
            if not self.eat("="):
                raise self.fail("MissingEqualsInHashLiteral", "Missing '=' operator after key in hash literal.")
            self.space(lines=True)
            pairs.append((key, self.statement()))
            self.space()
            if self.letter() not in (";", "\r", "\n", "}"):
                raise self.unexpected()

    def script_block(self) -> Node:
        start = self.at
        self.at += 1
        parameters = self.param_block()
        body = self.statements("}")
        if not self.eat("}"):
            raise self.fail("MissingEndCurlyBrace", "Missing closing '}' in statement block or type definition.", start)
        text = self.text[start + 1 : self.at - 1]
        return ScriptBlockLiteral(parameters=parameters, body=body, text=text, at=start, end=self.at)

    def postfix(self, node: Node) -> Node:
        while True:
            start = node.at
            if self.peek("::") or (
                self.peek(".") and not self.peek("..") and re.match(r"[\w$('\"]", self.letter(1) or " ")
            ):
                static = self.peek("::")
                self.at += 2 if static else 1
                if static:
                    self.space()
                name = self.member_name()
                if self.peek("("):
                    arguments = self.arguments()
                    node = Invoke(target=node, name=name, arguments=arguments, static=static, at=start, end=self.at)
                else:
                    node = Member(target=node, name=name, static=static, at=start, end=self.at)
            elif self.peek("["):
                self.at += 1
                self.space(lines=True)
                if self.peek("]"):
                    raise self.fail("MissingArrayIndexExpression", "Array index expression is missing or not valid.")
                index = self.expression()
                self.need("]", "MissingEndSquareBracket", "Missing ']' after array index expression.")
                node = Index(target=node, index=index, at=start, end=self.at)
            elif self.peek("++") or self.peek("--"):
                operator = self.text[self.at : self.at + 2]
                self.at += 2
                node = Step(operator=operator, operand=node, prefix=False, at=start, end=self.at)
            else:
                return node

    def member_name(self) -> Node:
        found = re.compile(r"[A-Za-z_]\w*").match(self.text, self.at)
        if found is not None:
            start, self.at = self.at, found.end()
            return Constant(value=found[0], at=start, end=self.at)
        if self.letter() and self.letter() in "$('\"":
            return self.primary_only()
        raise self.fail("MissingPropertyName", "Missing property name after reference operator.")

    def arguments(self) -> tuple[Node, ...]:
        self.at += 1
        found: list[Node] = []
        while True:
            self.space(lines=True)
            if not found and self.eat(")"):
                return ()
            found.append(self.expression(comma=False))
            self.space(lines=True)
            if self.eat(")"):
                return tuple(found)
            if not self.eat(","):
                raise self.fail("MissingEndParenthesisInMethodCall", "Missing ')' in method call.")
            self.space(lines=True)
            if self.peek(")"):
                raise self.fail("MissingExpressionAfterToken", "Missing expression after ','.")

    # -- literals ----------------------------------------------------------------------------------------------------------

    def number(self, match: re.Match[str], *, negative: bool = False) -> Any:
        factor = _MULTIPLIERS.get((match["multiplier"] or match["hm"] or "").lower(), 1)
        sign = -1 if negative else 1
        if match["hex"]:
            digits = match["hex"][2:]
            value = int(digits, 16)
            if len(digits) <= 8 and value > 0x7FFFFFFF:
                value -= 1 << 32
            elif 8 < len(digits) <= 16 and value > 0x7FFFFFFFFFFFFFFF:
                value -= 1 << 64
            value *= sign * factor
            return Int64(value) if match["hl"] else int_number(value)
        text, suffix = match["number"], match["suffix"].lower()
        if suffix == "d":
            return decimal_number(text) * sign * factor
        if "." in text or "e" in text.lower():
            number = float(text) * sign * factor
            return Int64(round(number)) if suffix == "l" else number
        whole = int(text) * sign * factor
        if suffix == "l":
            return Int64(whole)
        return int_number(whole)

    def variable(self) -> Variable:
        start = self.at
        self.at += 1
        if self.eat("{"):
            end = self.text.find("}", self.at)
            if end < 0:
                raise self.fail(
                    "IncompleteDollarVariableReference", "The variable reference is incomplete: '}' is missing.", start
                )
            name = self.text[self.at : end]
            self.at = end + 1
            scope, colon, rest = name.partition(":")
            return Variable(name=rest if colon else name, scope=scope.lower() if colon else "", at=start, end=self.at)
        found = _NAME.match(self.text, self.at)
        if found is None or found["name"] == "::":
            raise self.fail("UnrecognizedToken", "The token '$' is not followed by the name of a variable.", start)
        self.at = found.end()
        return Variable(name=found["name"], scope=(found["scope"] or "").lower(), at=start, end=self.at)

    def single_quoted(self) -> Node:
        start = self.at
        self.at += 1
        text = ""
        while True:
            end = self.text.find("'", self.at)
            if end < 0:
                raise self.fail("TerminatorExpectedAtEndOfString", "The string is missing the terminator: '.", start)
            text += self.text[self.at : end]
            self.at = end + 1
            if not self.eat("'"):
                return Constant(value=text, at=start, end=self.at)
            text += "'"

    def double_quoted(self) -> Node:
        start = self.at
        self.at += 1
        return self.expandable(start, None)

    def expandable(self, start: int, stop: int | None) -> Node:
        """The rest of a string with variables: up to a double quote, or up to an offset (here-strings)."""
        parts: list[Any] = []
        text = ""
        while stop is None or self.at < stop:
            if self.at >= len(self.text):
                raise self.fail("TerminatorExpectedAtEndOfString", 'The string is missing the terminator: ".', start)
            letter = self.letter()
            if letter == '"' and stop is None:
                self.at += 1
                if not self.eat('"'):
                    break
                text += '"'
            elif letter == "`":
                text += _ESCAPES.get(self.letter(1), self.letter(1))
                self.at += 2
            elif letter == "$" and self.expands():
                parts = [*parts, text] if text else parts
                text = ""
                parts.append(self.inside_string())
            else:
                text += letter
                self.at += 1
        if not parts:
            return Constant(value=text, at=start, end=self.at)
        return Expandable(parts=tuple([*parts, text] if text else parts), at=start, end=self.at)

    def expands(self) -> bool:
        following = self.letter(1)
        return bool(following) and (following in "({$^?_" or following.isalnum())

    def inside_string(self) -> Node:
        if self.letter(1) == "(":
            return self.primary_only()
        if self.letter(1) != "{":
            broken = re.compile(r"\$\w+:(?![\w:])").match(self.text, self.at)
            if broken is not None:
                raise self.fail(
                    "InvalidVariableReferenceWithDrive",
                    "Variable reference is not valid. ':' was not followed by a valid variable name character. Consider"
                    " using ${} to delimit the name.",
                )
        return self.variable()

    def here_string(self, quote: str) -> Node:
        start = self.at
        opened = re.compile(r"@['\"][ \t]*\r?\n").match(self.text, self.at)
        if opened is None:
            raise self.fail(
                "UnexpectedCharactersAfterHereStringHeader",
                "No characters are allowed after a here-string header but before the end of the line.",
            )
        closing = re.compile(r"\r?\n" + quote + "@").search(self.text, opened.end() - 1)
        if closing is None:
            raise self.fail(
                "TerminatorExpectedAtEndOfString", f"The string is missing the terminator: {quote}@.", start
            )
        if quote == "'" or closing.start() < opened.end():
            self.at = closing.end()
            return Constant(value=self.text[opened.end() : closing.start()], at=start, end=self.at)
        self.at = opened.end()
        found = self.expandable(start, closing.start())
        self.at = closing.end()
        return found
