# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Windows PowerShell 5.1, the language: what its source text means as a tree. powershell_parser.py makes the tree.

Responsible for the nodes and the syntax error; not for running them (powershell_interpreter.py). Source: the Windows
PowerShell Language Specification 3.0, chapters 2 (lexical structure), 7 (expressions) and 8 (statements).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["Node", "SyntaxFault"]


class SyntaxFault(Exception):
    """The script does not parse: nothing of it runs. ``identifier`` is the FullyQualifiedErrorId that PowerShell shows."""

    def __init__(self, at: int, identifier: str, message: str) -> None:
        super().__init__(message)
        self.at = at
        self.identifier = identifier


@dataclass(frozen=True, kw_only=True, eq=False)
class Node:
    """``at`` and ``end`` are offsets into the script."""

    at: int = 0
    end: int = 0


# -- expressions -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class Constant(Node):
    value: Any
    bare: bool = False
    """A word of a command line without quotes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Expandable(Node):
    """A string with variables and subexpressions in it: str and Node parts."""

    parts: tuple[Any, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Variable(Node):
    name: str
    scope: str = ""
    splatted: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Unary(Node):
    operator: str
    operand: Node


@dataclass(frozen=True, kw_only=True, eq=False)
class Step(Node):
    """++ and --, before or after."""

    operator: str
    operand: Node
    prefix: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Binary(Node):
    operator: str
    left: Node
    right: Node


@dataclass(frozen=True, kw_only=True, eq=False)
class ArrayLiteral(Node):
    items: tuple[Node, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class ArrayExpression(Node):
    """@( ... )"""

    body: Block


@dataclass(frozen=True, kw_only=True, eq=False)
class SubExpression(Node):
    """$( ... )"""

    body: Block


@dataclass(frozen=True, kw_only=True, eq=False)
class Parenthesised(Node):
    body: Node


@dataclass(frozen=True, kw_only=True, eq=False)
class HashLiteral(Node):
    pairs: tuple[tuple[Node, Node], ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class ScriptBlockLiteral(Node):
    parameters: tuple[Parameter, ...]
    body: Block
    text: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class TypeLiteral(Node):
    name: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Cast(Node):
    type_name: str
    operand: Node


@dataclass(frozen=True, kw_only=True, eq=False)
class Member(Node):
    target: Node
    name: Node
    static: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Invoke(Node):
    target: Node
    name: Node
    arguments: tuple[Node, ...]
    static: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Index(Node):
    target: Node
    index: Node


# -- commands and pipelines --------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class CommandParameter(Node):
    """-Name or -Name:value"""

    name: str
    value: Node | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Redirection(Node):
    stream: str
    """"1" to "6" or "*"."""
    target: Node | None
    """None: into the output stream (n>&1)."""
    append: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Command(Node):
    name: Node
    elements: tuple[Node, ...]
    redirections: tuple[Redirection, ...] = ()
    operator: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class CommandExpression(Node):
    expression: Node
    redirections: tuple[Redirection, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Pipeline(Node):
    elements: tuple[Node, ...]


# -- statements --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class Block(Node):
    statements: tuple[Node, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Assignment(Node):
    target: Node
    operator: str
    value: Node


@dataclass(frozen=True, kw_only=True, eq=False)
class If(Node):
    clauses: tuple[tuple[Node, Block], ...]
    otherwise: Block | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Loop(Node):
    """while, do-while, do-until and for. ``first``: the body runs before the first question."""

    condition: Node | None
    body: Block
    label: str = ""
    first: bool = False
    until: bool = False
    initial: Node | None = None
    step: Node | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class ForEach(Node):
    variable: Variable
    items: Node
    body: Block
    label: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Switch(Node):
    mode: str
    """exact, wildcard or regex."""
    case_sensitive: bool
    items: Node
    clauses: tuple[tuple[Node, Block], ...]
    default: Block | None = None
    label: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Parameter(Node):
    name: str
    type_names: tuple[str, ...] = ()
    default: Node | None = None
    mandatory: bool = False
    position: int | None = None
    switch: bool = False
    pipeline: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class FunctionDefinition(Node):
    name: str
    parameters: tuple[Parameter, ...]
    body: Block


@dataclass(frozen=True, kw_only=True, eq=False)
class Catch(Node):
    types: tuple[str, ...]
    body: Block


@dataclass(frozen=True, kw_only=True, eq=False)
class Try(Node):
    body: Block
    catches: tuple[Catch, ...]
    final: Block | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Flow(Node):
    """return, throw, exit (with a pipeline or none), break, continue (with a label or none)."""

    keyword: str
    value: Node | None = None
    label: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Script(Node):
    parameters: tuple[Parameter, ...]
    body: Block
    text: str = field(default="", repr=False)
