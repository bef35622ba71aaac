# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From PowerShell source text to the tree of powershell_language.py: statements, pipelines, command lines.

Responsible for the grammar above expressions (powershell_expressions.py) and its syntax errors. What the simulator does not
know of the language (classes, workflows, trap, begin/process/end) is a syntax error, never skipped.
Source: Windows PowerShell Language Specification 3.0, appendix B and chapter 8; texts of errors as Windows shows them.
"""

from __future__ import annotations

import re
from typing import Any

from .powershell_expressions import ExpressionParser
from .powershell_language import (
    ArrayLiteral,
    Assignment,
    Block,
    Cast,
    Catch,
    Command,
    CommandExpression,
    CommandParameter,
    Constant,
    Expandable,
    Flow,
    ForEach,
    FunctionDefinition,
    If,
    Index,
    Loop,
    Member,
    Node,
    Parameter,
    Pipeline,
    Redirection,
    Script,
    Switch,
    SyntaxFault,
    Try,
    Variable,
)
from .powershell_source import (
    _ASSIGN,
    _ESCAPES,
    _FOREIGN,
    _KEYWORDS,
    _NUMBER,
    _REDIRECT,
    _UNARY_WORDS,
    _WORD_END,
    MAXIMUM_DEPTH,
)


class Parser(ExpressionParser):
    # -- scripts and blocks --------------------------------------------------------------------------------------------

    def script(self) -> Script:
        parameters = self.param_block()
        body = self.statements("")
        if self.at < len(self.text):
            raise self.unexpected()
        return Script(parameters=parameters, body=body, text=self.text, at=0, end=len(self.text))

    def param_block(self) -> tuple[Parameter, ...]:
        start = self.at
        self.space(lines=True)
        while self.peek("["):  # [CmdletBinding()] before param
            attribute = self.at
            self.bracketed()
            self.space(lines=True)
            if not self.peek("[") and self.word() != "param":
                self.at = attribute
                break
        if self.word() != "param":
            self.at = start
            return ()
        self.at += 5
        self.space(lines=True)
        if not self.eat("("):
            self.at = start
            return ()
        return self.parameters(")")

    def parameters(self, closing: str) -> tuple[Parameter, ...]:
        found: list[Parameter] = []
        while True:
            self.space(lines=True)
            if self.eat(closing):
                return tuple(found)
            if found and not self.eat(","):
                raise self.fail(
                    "MissingEndParenthesisInFunctionParameterList", "Missing ')' in function parameter list."
                )
            self.space(lines=True)
            found.append(self.parameter())

    def parameter(self) -> Parameter:
        start = self.at
        types: list[str] = []
        options: dict[str, Any] = {}
        while self.peek("["):
            inner = self.bracketed()
            attribute = re.fullmatch(r"\s*([\w.]+)\s*\((.*)\)\s*", inner, re.DOTALL)
            if attribute is None:
                types.append(inner.strip())
            elif attribute[1].lower() == "parameter":
                if re.search(r"mandatory(?!\s*=\s*\$false)", attribute[2], re.IGNORECASE):
                    options["mandatory"] = True
                if re.search(r"valuefrompipeline\b(?!\s*=\s*\$false)", attribute[2], re.IGNORECASE):
                    options["pipeline"] = True
                if position := re.search(r"position\s*=\s*(\d+)", attribute[2], re.IGNORECASE):
                    options["position"] = int(position[1])
            elif attribute[1].lower() not in ("cmdletbinding", "alias", "validatenotnullorempty", "allownull"):
                raise self.fail("UnexpectedAttribute", f"Unexpected attribute '{attribute[1]}'.", start)
            self.space(lines=True)
        if not self.peek("$"):
            raise self.unexpected()
        variable = self.variable()
        self.space(lines=True)
        default: Node | None = None
        if self.eat("="):
            self.space(lines=True)
            default = self.expression(comma=False)
        switch = any(
            name.lower() in ("switch", "switchparameter", "management.automation.switchparameter") for name in types
        )
        return Parameter(
            name=variable.name,
            type_names=tuple(types),
            default=default,
            switch=switch,
            at=start,
            end=self.at,
            **options,
        )

    def block(self) -> Block:
        self.need("{", "MissingStatementBlock", "Missing statement block after the keyword or its condition.")
        start = self.at - 1
        body = self.statements("}")
        if not self.eat("}"):
            raise self.fail("MissingEndCurlyBrace", "Missing closing '}' in statement block or type definition.", start)
        return Block(statements=body.statements, at=start, end=self.at)

    def statements(self, closing: str) -> Block:
        self.depth += 1
        if self.depth > MAXIMUM_DEPTH:
            raise self.fail("ScriptTooComplicated", "The script is too complicated: it is nested too deeply.")
        start, found = self.at, []
        while True:
            self.space(lines=True)
            if self.eat(";"):
                continue
            if self.at >= len(self.text) or (closing and self.letter() == closing):
                break
            found.append(self.statement())
            self.space()
            if self.at < len(self.text) and self.letter() not in (";", "\r", "\n", closing or "\n"):
                raise self.unexpected()
        self.depth -= 1
        return Block(statements=tuple(found), at=start, end=self.at)

    # -- statements ----------------------------------------------------------------------------------------------------

    def statement(self) -> Node:
        start = self.at
        label = ""
        if marked := re.compile(r":(\w+)\s+(?=(?:while|do|for|foreach|switch)\b)", re.IGNORECASE).match(
            self.text, self.at
        ):
            label = marked[1].lower()
            self.at = marked.end()
        word = self.word()
        if word in _FOREIGN and re.compile(r"\w+\s*[\w{(]").match(self.text, self.at):
            raise self.fail(
                "NotSimulated", f"The keyword '{word}' is not part of what the simulator knows of PowerShell."
            )
        if word not in _KEYWORDS:
            return self.pipeline()
        self.at += len(word)
        return self.keyword(word, start, label)

    def keyword(self, word: str, start: int, label: str) -> Node:
        if word == "if":
            return self.if_statement(start)
        if word == "while":
            condition = self.condition("while")
            return Loop(condition=condition, body=self.block(), label=label, at=start, end=self.at)
        if word == "do":
            return self.do_statement(start, label)
        if word == "for":
            return self.for_statement(start, label)
        if word == "foreach":
            return self.foreach_statement(start, label)
        if word == "switch":
            return self.switch_statement(start, label)
        if word in ("function", "filter"):
            return self.function(word, start)
        if word == "try":
            return self.try_statement(start)
        if word == "param":
            raise self.fail("UnexpectedToken", "Unexpected token 'param' in expression or statement.", start)
        self.space()
        if word in ("break", "continue"):
            found = re.compile(r"\w+").match(self.text, self.at)
            if found:
                self.at = found.end()
            return Flow(keyword=word, label=found[0].lower() if found else "", at=start, end=self.at)
        value = None if self.at >= len(self.text) or self.letter() in ";\r\n})" else self.pipeline()
        return Flow(keyword=word, value=value, at=start, end=self.at)

    def condition(self, keyword: str) -> Node:
        self.need(
            "(",
            f"MissingOpenParenthesisIn{keyword.title()}Statement",
            f"Missing '(' after '{keyword}' in {keyword} statement.",
        )
        self.space(lines=True)
        if self.peek(")"):
            identifier = "IfStatementMissingCondition" if keyword == "if" else f"Missing{keyword.title()}Condition"
            raise self.fail(identifier, f"Missing condition in {keyword} statement after '{keyword} ('.")
        node = self.pipeline()
        self.need(
            ")",
            "MissingEndParenthesisAfterStatement",
            f"Missing closing ')' after expression in '{keyword}' statement.",
        )
        return node

    def if_statement(self, start: int) -> Node:
        clauses = [(self.condition("if"), self.block())]
        otherwise = None
        while True:
            before = self.at
            self.space(lines=True)
            word = self.word()
            if word == "elseif":
                self.at += 6
                clauses.append((self.condition("elseif"), self.block()))
            elif word == "else":
                self.at += 4
                otherwise = self.block()
                break
            else:
                self.at = before
                break
        return If(clauses=tuple(clauses), otherwise=otherwise, at=start, end=self.at)

    def do_statement(self, start: int, label: str) -> Node:
        body = self.block()
        self.space(lines=True)
        word = self.word()
        if word not in ("while", "until"):
            raise self.fail("MissingWhileOrUntilInDoWhile", "The while or until keyword was missing from the do loop.")
        self.at += 5
        condition = self.condition(word)
        return Loop(
            condition=condition, body=body, label=label, first=True, until=word == "until", at=start, end=self.at
        )

    def for_statement(self, start: int, label: str) -> Node:
        self.need("(", "MissingOpenParenthesisAfterKeyword", "Missing opening '(' after keyword 'for'.")
        parts: list[Node | None] = []
        for ending in (";", ";", ")"):
            self.space(lines=True)
            parts.append(None if self.letter() in (";", ")") else self.pipeline())
            self.space(lines=True)
            if self.letter() == ";" and ending == ";":
                self.at += 1
            elif ending == ")" or self.letter() != ")":
                self.need(
                    ")",
                    "MissingEndParenthesisAfterStatement",
                    "Missing closing ')' after expression in 'for' statement.",
                )
        body = self.block()
        initial, condition, step = parts
        return Loop(condition=condition, body=body, label=label, initial=initial, step=step, at=start, end=self.at)

    def foreach_statement(self, start: int, label: str) -> Node:
        self.need("(", "MissingOpenParenthesisAfterKeyword", "Missing opening '(' after keyword 'foreach'.")
        self.space(lines=True)
        if not self.peek("$"):
            raise self.fail("MissingVariableNameAfterForeach", "Missing variable name after foreach.")
        variable = self.variable()
        self.space(lines=True)
        if self.word() != "in":
            raise self.fail("MissingInInForeach", "Missing 'in' after variable in foreach loop.")
        self.at += 2
        self.space(lines=True)
        items = self.pipeline()
        self.need(")", "MissingEndParenthesisAfterForeach", "Missing closing ')' after expression in 'foreach' loop.")
        return ForEach(variable=variable, items=items, body=self.block(), label=label, at=start, end=self.at)

    def switch_statement(self, start: int, label: str) -> Node:
        mode, case = "exact", False
        while True:
            self.space(lines=True)
            flag = re.compile(r"-(\w+)").match(self.text, self.at)
            if flag is None:
                break
            name = flag[1].lower()
            if name in ("exact", "wildcard", "regex"):
                mode = name
            elif name == "casesensitive":
                case = True
            else:
                raise self.fail(
                    "InvalidSwitchFlag", f"The switch statement was incomplete or has an unknown flag '-{name}'."
                )
            self.at = flag.end()
        items = self.condition("switch")
        self.need("{", "MissingCurlyBraceInSwitchStatement", "Missing opening '{' in switch statement.")
        clauses: list[tuple[Node, Block]] = []
        default: Block | None = None
        while True:
            self.space(lines=True)
            if self.eat("}"):
                break
            if self.at >= len(self.text):
                raise self.fail(
                    "MissingEndCurlyBrace", "Missing closing '}' in statement block or type definition.", start
                )
            if self.word() == "default":
                self.at += 7
                default = self.block()
                continue
            test = self.script_block() if self.peek("{") else self.argument()
            clauses.append((test, self.block()))
            self.space()
            self.eat(";")
        return Switch(
            mode=mode,
            case_sensitive=case,
            items=items,
            clauses=tuple(clauses),
            default=default,
            label=label,
            at=start,
            end=self.at,
        )

    def function(self, word: str, start: int) -> Node:
        self.space()
        found = re.compile(r"(?:\w+:)?[\w-]+").match(self.text, self.at)
        if found is None:
            raise self.fail("MissingNameAfterKeyword", f"Missing name after {word} keyword.")
        self.at = found.end()
        self.space(lines=True)
        outer = self.parameters(")") if self.eat("(") else ()
        self.need("{", "MissingFunctionBody", "Missing function body in function declaration.")
        opened = self.at - 1
        inner = self.param_block()
        body = self.statements("}")
        if not self.eat("}"):
            raise self.fail(
                "MissingEndCurlyBrace", "Missing closing '}' in statement block or type definition.", opened
            )
        name = found[0].rpartition(":")[2]
        return FunctionDefinition(name=name, parameters=outer or inner, body=body, at=start, end=self.at)

    def try_statement(self, start: int) -> Node:
        body = self.block()
        catches: list[Catch] = []
        final = None
        while True:
            before = self.at
            self.space(lines=True)
            word = self.word()
            if word == "catch":
                at = self.at
                self.at += 5
                types: list[str] = []
                self.space(lines=True)
                while self.peek("["):
                    types.append(self.bracketed().strip())
                    self.space(lines=True)
                    if self.eat(","):
                        self.space(lines=True)
                catches.append(Catch(types=tuple(types), body=self.block(), at=at, end=self.at))
            elif word == "finally":
                self.at += 7
                final = self.block()
            else:
                self.at = before
                break
        if not catches and final is None:
            raise self.fail("MissingCatchOrFinally", "The Try statement is missing its Catch or Finally block.")
        return Try(body=body, catches=tuple(catches), final=final, at=start, end=self.at)

    # -- pipelines and commands ------------------------------------------------------------------------------------------

    def pipeline(self) -> Node:
        start = self.at
        elements: list[Node] = []
        while True:
            self.space(lines=bool(elements))
            if not elements and self.starts_expression():
                expression = self.expression()
                self.space()
                assign = _ASSIGN.match(self.text, self.at)
                if assign is not None:
                    self.at = assign.end()
                    self.space(lines=True)
                    if self.at >= len(self.text) or self.letter() in ";})":
                        raise self.fail(
                            "ExpectedValueExpression",
                            f"You must provide a value expression following the '{assign[0]}' operator.",
                        )
                    self.assignable(expression)
                    value = self.statement()
                    return Assignment(target=expression, operator=assign[0], value=value, at=start, end=self.at)
                at = expression.at
                elements.append(
                    CommandExpression(expression=expression, redirections=self.redirections(), at=at, end=self.at)
                )
            elif elements and self.starts_expression() and not self.peek("{"):
                raise self.fail(
                    "ExpressionsMustBeFirstInPipeline",
                    "Expressions are only allowed as the first element of a pipeline.",
                )
            else:
                elements.append(self.command())
            self.space()
            if self.peek("||") or self.peek("&&"):
                raise self.fail(
                    "InvalidEndOfLine",
                    f"The token '{self.text[self.at : self.at + 2]}' is not a valid statement separator in this version.",
                )
            if not self.eat("|"):
                break
            self.space(lines=True)
            if self.at >= len(self.text) or self.letter() in ";})":
                raise self.fail("EmptyPipeElement", "An empty pipe element is not allowed.")
        return Pipeline(elements=tuple(elements), at=start, end=self.at)

    def assignable(self, node: Node) -> None:
        inner = node
        while isinstance(inner, Cast):
            inner = inner.operand
        parts = inner.items if isinstance(inner, ArrayLiteral) else (inner,)
        if not all(isinstance(part, Variable | Member | Index | Cast) for part in parts):
            raise self.fail(
                "InvalidLeftHandSide",
                "The assignment expression is not valid. The input to an assignment operator must be an object that is able"
                " to accept assignments, such as a variable or a property.",
                node.at,
            )

    def starts_expression(self) -> bool:
        letter = self.letter()
        if letter and letter in "$('\"[@{!+,":
            return not (letter == "@" and self.letter(1) not in "({'\"")
        if letter.isdigit() or (letter == "." and self.letter(1).isdigit()):
            return _NUMBER.match(self.text, self.at) is not None
        if letter == "-":
            return bool(self.letter(1) in "-($" or self.letter(1).isdigit() or self.operator(_UNARY_WORDS))
        return False

    def redirections(self) -> tuple[Redirection, ...]:
        found: list[Redirection] = []
        while True:
            self.space()
            one = self.redirection()
            if one is None:
                return tuple(found)
            found.append(one)

    def redirection(self) -> Redirection | None:
        start = self.at
        match = _REDIRECT.match(self.text, self.at)
        if match is None:
            if self.peek("<"):
                raise self.fail("RedirectionNotSupported", "The '<' operator is reserved for future use.")
            return None
        self.at = match.end()
        if match["merge"]:
            return Redirection(stream=match["stream"] or "1", target=None, at=start, end=self.at)
        self.space()
        if self.at >= len(self.text) or self.letter() in ";|\r\n":
            raise self.fail("MissingFileSpecification", "Missing file specification after redirection operator.")
        target = self.argument()
        return Redirection(
            stream=match["stream"] or "1", target=target, append=match["operator"] == ">>", at=start, end=self.at
        )

    def command(self) -> Node:
        start, operator = self.at, ""
        if self.peek("&") or (self.peek(".") and self.letter(1) in " \t'\"$({"):
            operator = self.letter()
            self.at += 1
            self.space()
        if self.at >= len(self.text) or self.letter() in ";|)}\r\n,":
            raise (
                self.unexpected()
                if self.at < len(self.text)
                else self.fail("MissingExpression", "An expression was expected.")
            )
        name = self.primary() if operator and self.letter() in "$('\"{" else self.bare_word()
        elements: list[Node] = []
        redirections: list[Redirection] = []
        while True:
            self.space()
            if self.at >= len(self.text) or self.letter() in ";|)}\r\n":
                break
            redirection = self.redirection()
            if redirection is not None:
                redirections.append(redirection)
                continue
            elements.append(self.command_element())
        return Command(
            name=name,
            elements=tuple(elements),
            redirections=tuple(redirections),
            operator=operator,
            at=start,
            end=self.at,
        )

    def command_element(self) -> Node:
        start = self.at
        parameter = re.compile(r"-([A-Za-z_?][\w-]*)(:)?").match(self.text, self.at)
        if parameter is not None:
            self.at = parameter.end()
            value: Node | None = None
            if parameter[2]:
                self.space()
                value = self.argument()
            return CommandParameter(name=parameter[1], value=value, at=start, end=self.at)
        return self.argument_list()

    def argument_list(self) -> Node:
        start = self.at
        items = [self.argument()]
        while True:
            before = self.at
            self.space()
            if not self.eat(","):
                self.at = before
                break
            self.space(lines=True)
            items.append(self.argument())
        return items[0] if len(items) == 1 else ArrayLiteral(items=tuple(items), at=start, end=self.at)

    def argument(self) -> Node:
        """One argument of a command line."""
        letter = self.letter()
        if letter == "@" and re.compile(r"@[A-Za-z_]").match(self.text, self.at):
            self.at += 1
            name = re.compile(r"\w+").match(self.text, self.at)
            assert name is not None
            self.at = name.end()
            return Variable(name=name[0], splatted=True, at=self.at, end=self.at)
        if (letter and letter in "('\"{") or (letter in "@$" and letter):
            node = self.postfix(self.primary_only())
            if self.at < len(self.text) and self.letter() not in _WORD_END and not self.redirect_here():
                return self.composite(node)
            return node
        number = _NUMBER.match(self.text, self.at)
        if number is None and letter == "-":
            number = _NUMBER.match(self.text, self.at + 1)
        if number is not None and self.text[number.end() : number.end() + 1] in (*_WORD_END, ""):
            start, self.at = self.at, number.end()
            value = self.number(number)
            negative = self.text[start] == "-"
            return Constant(value=(type(value)(-value) if negative else value), at=start, end=self.at)
        return self.bare_word()

    def redirect_here(self) -> bool:
        return _REDIRECT.match(self.text, self.at) is not None

    def composite(self, first: Node) -> Node:
        """$name.txt, "a"b: pieces without a blank between them are one word."""
        parts: list[Any] = [first]
        while self.at < len(self.text) and self.letter() not in " \t\r\n;|)},<>":
            rest = self.argument()
            parts.extend(rest.parts if isinstance(rest, Expandable) else [rest])
        return Expandable(parts=tuple(parts), at=first.at, end=self.at)

    def bare_word(self) -> Node:
        start = self.at
        parts: list[Any] = []
        text = ""
        while self.at < len(self.text):
            letter = self.letter()
            if letter == "`" and self.at + 1 < len(self.text):
                text += _ESCAPES.get(self.letter(1), self.letter(1))
                self.at += 2
                continue
            if letter in " \t\r\n;|&(){},<>":
                break
            if letter == "$" and (self.letter(1) in "({" or re.match(r"[\w?^$]", self.letter(1))):
                parts, text = [*parts, text] if text else parts, ""
                parts.append(self.inside_string())
                continue
            if letter in "'\"":
                quoted = self.primary_only()
                if isinstance(quoted, Constant):
                    text += str(quoted.value)
                else:
                    parts, text = [*parts, text, quoted] if text else [*parts, quoted], ""
                continue
            text += letter
            self.at += 1
        if not parts and not text:
            raise self.unexpected()
        if not parts:
            return Constant(value=text, bare=True, at=start, end=self.at)
        return Expandable(parts=tuple([*parts, text] if text else parts), at=start, end=self.at)


def parse(text: str) -> Script:
    """The script as a tree; raises SyntaxFault."""
    try:
        return Parser(text).script()
    except RecursionError:
        raise SyntaxFault(
            0, "ScriptTooComplicated", "The script is too complicated: it is nested too deeply."
        ) from None
