# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""WQL: the text of a query into a tree, and the tree against one instance at a time.

Covers SELECT with a condition, ASSOCIATORS OF and REFERENCES OF. Facts: wsman 2, hyperv-wmi 0.7, wire-shapes 3.
Which classes exist and where rows come from is the business of service.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from .assumed import assumed
from .cim import Instance, Ref, Value, parse_object_path
from .cim_xml import Assume, parse_dmtf
from .schema import INTEGER_RANGES, SYSTEM_PROPERTIES, Class, Type

assumed(
    "wql-ref-filter",
    "A WQL condition on a reference property is refused (n:CannotProcessFilter).",
    source="wire-shapes 2, one project",
    values=("refused", "accepted"),
)
assumed(
    "wql-null-comparison",
    "A comparison with a property that is NULL is false, for <> too.",
    source="no source for <>",
    values=("false", "not-equal-true"),
)
assumed("wql-classdefs", "ClassDefsOnly is refused.", source="no source: class definitions do not travel over WinRM")
assumed("wql-system-columns", "System properties in a projection are accepted and not sent.", source="no source")
assumed(
    "wql-array", "A WQL comparison with an array property is an invalid query.", source="WMI reference, from memory"
)

MAX_QUERY = 16_384
MAX_NESTING = 100


class WqlError(ValueError):
    """The text is no query that WMI would take."""


@dataclass(frozen=True)
class Name:
    path: tuple[str, ...]


@dataclass(frozen=True)
class Constant:
    value: str | int | float | bool | None


Operand: TypeAlias = Name | Constant


@dataclass(frozen=True)
class Comparison:
    left: Operand
    operator: str
    right: Operand


@dataclass(frozen=True)
class IsA:
    name: Name
    class_name: str


@dataclass(frozen=True)
class Not:
    term: Condition


@dataclass(frozen=True)
class Junction:
    word: str
    terms: tuple[Condition, ...]


Condition: TypeAlias = Comparison | IsA | Not | Junction


@dataclass(frozen=True, kw_only=True)
class Select:
    """`columns` is None for `*`."""

    columns: tuple[str, ...] | None
    class_name: str
    where: Condition | None

    def known(self) -> dict[str, Any]:
        """Property values that every matching row has: equalities joined by AND at the top."""
        out: dict[str, Any] = {}
        terms = self.where.terms if isinstance(self.where, Junction) and self.where.word == "AND" else (self.where,)
        for term in terms:
            if (
                isinstance(term, Comparison)
                and term.operator == "="
                and isinstance(term.left, Name)
                and isinstance(term.right, Constant)
                and len(term.left.path) == 1
                and term.right.value is not None
            ):
                out[term.left.path[0]] = term.right.value
        return out


@dataclass(frozen=True, kw_only=True)
class Walk:
    """ASSOCIATORS OF (`references` False) or REFERENCES OF (True). In the latter ResultClass is the association."""

    references: bool
    source: Ref
    association: str = ""
    result: str = ""
    role: str = ""
    result_role: str = ""
    class_definitions_only: bool = False


_TOKEN = re.compile(
    r"""\s*(?:
        (?P<string>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
      | (?P<number>[+-]?(?:0x[0-9A-Fa-f]+|\d+(?:\.\d+)?))
      | (?P<name>[A-Za-z_][\w]*(?:\.[A-Za-z_]\w*)*)
      | (?P<op><>|!=|<=|>=|=|<|>|\(|\)|,|\*)
    )""",
    re.VERBOSE | re.DOTALL,
)


def unquote(text: str) -> str:
    r"""A quoted constant; `\\`, `\'` and `\"` are escapes, any other backslash stands for itself (hyperv-wmi 0.7)."""
    return re.sub(r"\\([\\'\"])", r"\1", text[1:-1])


def parse(text: str, namespace: str) -> Select | Walk:
    """The query tree; WqlError when the text is none."""
    if len(text) > MAX_QUERY:
        raise WqlError("the query is too long")
    text = text.strip()
    head = re.match(r"(ASSOCIATORS|REFERENCES)\s+OF\s*\{", text, re.IGNORECASE)
    if head:
        return _parse_walk(text, head.end(), head[1].upper() == "REFERENCES", namespace)
    return _Parser(list(_tokens(text))).select()


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    at = 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None:
            raise WqlError(f"not understood: {text[at : at + 40]!r}")
        yield str(match.lastgroup), match[match.lastgroup or 0]
        at = match.end()


class _Parser:
    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self._tokens = tokens
        self._at = 0
        self._depth = 0

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._at] if self._at < len(self._tokens) else ("end", "")

    def _next(self) -> tuple[str, str]:
        token = self._peek()
        self._at += 1
        return token

    def _word(self, word: str) -> bool:
        kind, text = self._peek()
        if kind == "name" and text.upper() == word:
            self._at += 1
            return True
        return False

    def _need(self, word: str) -> None:
        if not self._word(word):
            raise WqlError(f"{word} was expected, found {self._peek()[1]!r}")

    def select(self) -> Select:
        self._need("SELECT")
        columns: list[str] | None = []
        if self._peek() == ("op", "*"):
            self._next()
            columns = None
        else:
            assert columns is not None
            while True:
                kind, text = self._next()
                if kind != "name":
                    raise WqlError(f"a property name was expected, found {text!r}")
                columns.append(text)
                if self._peek() != ("op", ","):
                    break
                self._next()
        self._need("FROM")
        kind, class_name = self._next()
        if kind != "name" or "." in class_name:
            raise WqlError(f"a class name was expected, found {class_name!r}")
        where = self._or() if self._word("WHERE") else None
        if self._peek()[0] != "end":
            raise WqlError(f"not expected here: {self._peek()[1]!r}")
        return Select(columns=None if columns is None else tuple(columns), class_name=class_name, where=where)

    def _or(self) -> Condition:
        terms = [self._and()]
        while self._word("OR"):
            terms.append(self._and())
        return terms[0] if len(terms) == 1 else Junction("OR", tuple(terms))

    def _and(self) -> Condition:
        terms = [self._not()]
        while self._word("AND"):
            terms.append(self._not())
        return terms[0] if len(terms) == 1 else Junction("AND", tuple(terms))

    def _not(self) -> Condition:
        self._depth += 1
        if self._depth > MAX_NESTING:
            raise WqlError("nested too deep")
        try:
            if self._word("NOT"):
                return Not(self._not())
            if self._peek() == ("op", "("):
                self._next()
                inner = self._or()
                if self._next() != ("op", ")"):
                    raise WqlError("a closing parenthesis was expected")
                return inner
            return self._comparison()
        finally:
            self._depth -= 1

    def _comparison(self) -> Condition:
        left = self._operand()
        if self._word("IS"):
            negated = self._word("NOT")
            self._need("NULL")
            return Comparison(left, "<>" if negated else "=", Constant(None))
        if self._word("ISA"):
            kind, text = self._next()
            if kind != "string" or not isinstance(left, Name):
                raise WqlError("ISA needs a property and a quoted class name")
            return IsA(left, unquote(text))
        negated = self._word("NOT")
        if self._word("LIKE"):
            right = self._operand()
            if not isinstance(right, Constant) or not isinstance(right.value, str) or not isinstance(left, Name):
                raise WqlError("LIKE needs a property and a quoted pattern")
            term = Comparison(left, "LIKE", right)
            return Not(term) if negated else term
        kind, operator = self._next()
        if negated or kind != "op" or operator not in ("=", "<>", "!=", "<", ">", "<=", ">="):
            raise WqlError(f"a comparison was expected, found {operator!r}")
        right = self._operand()
        if isinstance(left, Constant) and isinstance(right, Constant):
            raise WqlError("a comparison needs a property")
        return Comparison(left, "<>" if operator == "!=" else operator, right)

    def _operand(self) -> Operand:
        kind, text = self._next()
        if kind == "string":
            return Constant(unquote(text))
        if kind == "number":
            return Constant(float(text) if "." in text and "x" not in text.lower() else int(text, 0))
        if kind == "name":
            word = text.upper()
            if word in ("TRUE", "FALSE"):
                return Constant(word == "TRUE")
            if word == "NULL":
                return Constant(None)
            if word in ("AND", "OR", "WHERE", "LIKE", "IS"):
                raise WqlError(f"not expected here: {text!r}")
            return Name(tuple(text.split(".")))
        raise WqlError(f"a property or a constant was expected, found {text!r}")


_WALK_OPTION = re.compile(r"\s*(\w+)\s*(?:=\s*(\w+))?", re.ASCII)


def _parse_walk(text: str, at: int, references: bool, namespace: str) -> Walk:
    end, quote = at, ""
    while end < len(text):  # instance ids hold braces, so quoted text is skipped
        char = text[end]
        if quote:
            if char == "\\":
                end += 1
            elif char == quote:
                quote = ""
        elif char in "'\"":
            quote = char
        elif char == "}":
            break
        end += 1
    else:
        raise WqlError("the object path has no closing brace")
    try:
        source = parse_object_path(text[at:end], namespace)
    except ValueError as error:
        raise WqlError(str(error)) from None
    rest = text[end + 1 :].strip()
    chosen: dict[str, str] = {}
    if rest:
        if not rest.upper().startswith("WHERE"):
            raise WqlError(f"WHERE was expected, found {rest[:20]!r}")
        position, rest = 0, rest[5:].strip()
        while position < len(rest):
            option = _WALK_OPTION.match(rest, position)
            if option is None:
                raise WqlError(f"not understood: {rest[position:]!r}")
            chosen[option[1].lower()] = option[2] or ""
            position = option.end()
    unknown = set(chosen) - {"assocclass", "resultclass", "role", "resultrole", "classdefsonly", "keysonly"}
    if unknown or (references and {"assocclass", "resultrole"} & set(chosen)):
        raise WqlError(f"not a condition of this query: {', '.join(sorted(chosen))}")
    return Walk(
        references=references,
        source=source,
        association=chosen.get("assocclass", ""),
        result=chosen.get("resultclass", ""),
        role=chosen.get("role", ""),
        result_role=chosen.get("resultrole", ""),
        class_definitions_only="classdefsonly" in chosen,
    )


# ---------------------------------------------------------------------------------------------------------------------
# Evaluation


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a condition may ask beside the row: the server's name, the class tree, the row's own reference."""

    server: str
    assume: Assume
    entry: Class
    is_a: Callable[[Instance, str], bool]
    reference: Callable[[Instance], Ref]


def check(query: Select, entry: Class, assume: Assume) -> None:
    """WqlError when the query names properties that the class does not have, or compares what WQL does not."""
    for column in query.columns or ():
        if column.upper() in SYSTEM_PROPERTIES:
            assume("wql-system-columns")
        elif entry.find_property(column.split(".")[0]) is None:
            raise WqlError(f"{entry.name} has no property {column}")
    if query.where is not None:
        _check(query.where, entry, assume)


def _check(term: Condition, entry: Class, assume: Assume) -> None:
    if isinstance(term, Not):
        _check(term.term, entry, assume)
        return
    if isinstance(term, Junction):
        for part in term.terms:
            _check(part, entry, assume)
        return
    names = (
        [term.name] if isinstance(term, IsA) else [side for side in (term.left, term.right) if isinstance(side, Name)]
    )
    for name in names:
        head = name.path[0]
        if head.upper() in SYSTEM_PROPERTIES or head.upper() == "__THIS":
            continue
        found = entry.find_property(head)
        if found is None:
            raise WqlError(f"{entry.name} has no property {head}")
        null_test = isinstance(term, Comparison) and term.right == Constant(None)
        if found.type.array and not null_test:
            assume("wql-array")
            raise WqlError(f"{entry.name}.{found.name} is an array")
        if found.type.base == "ref" and not null_test and assume("wql-ref-filter") == "refused":
            raise WqlError(f"{entry.name}.{found.name} is a reference")


def matches(condition: Condition | None, row: Instance, context: Context) -> bool:
    if condition is None:
        return True
    if isinstance(condition, Not):
        return not matches(condition.term, row, context)
    if isinstance(condition, Junction):
        results = (matches(term, row, context) for term in condition.terms)
        return all(results) if condition.word == "AND" else any(results)
    if isinstance(condition, IsA):
        value: Any = row if condition.name.path[0].upper() == "__THIS" else _value(condition.name, row, context)[0]
        return isinstance(value, Instance) and context.is_a(value, condition.class_name)
    return _compare(condition, row, context)


def _value(operand: Operand, row: Instance, context: Context) -> tuple[Value, Type | None]:
    if isinstance(operand, Constant):
        return operand.value, None
    head = operand.path[0]
    system = head.upper()
    if system in SYSTEM_PROPERTIES:
        return _system_value(system, row, context), Type(base="string")
    found = context.entry.find_property(head)
    value = row.get(head)
    for part in operand.path[1:]:
        value = value.get(part) if isinstance(value, Instance) else None
        found = None
    return value, found.type if found else None


def _system_value(name: str, row: Instance, context: Context) -> Value:
    reference = context.reference(row)
    return {
        "__CLASS": row.class_name,
        "__SERVER": context.server,
        "__NAMESPACE": row.namespace.replace("/", "\\"),
        "__PATH": reference.path(context.server),
        "__RELPATH": reference.relative_path(),
        "__SUPERCLASS": context.entry.base,
        "__DYNASTY": context.entry.derivation[-1] if context.entry.derivation else context.entry.name,
    }.get(name)


def _compare(term: Comparison, row: Instance, context: Context) -> bool:
    left, kind = _value(term.left, row, context)
    right, other = _value(term.right, row, context)
    kind = kind or other
    null_constant = Constant(None) in (term.left, term.right)
    if null_constant:
        value = right if term.left == Constant(None) else left
        is_null = value is None
        return is_null if term.operator == "=" else not is_null and term.operator == "<>"
    if left is None or right is None:
        return term.operator == "<>" and context.assume("wql-null-comparison") == "not-equal-true"
    if term.operator == "LIKE":
        return like(str(left), str(right))
    path = isinstance(term.left, Name) and term.left.path[0].upper() in ("__PATH", "__RELPATH")
    a, b = _comparable(left, kind, path), _comparable(right, kind, path)
    try:
        return {
            "=": lambda: bool(a == b),
            "<>": lambda: bool(a != b),
            "<": lambda: bool(a < b),
            ">": lambda: bool(a > b),
            "<=": lambda: bool(a <= b),
            ">=": lambda: bool(a >= b),
        }[term.operator]()
    except TypeError:
        raise WqlError("values that cannot be compared") from None


def _comparable(value: Any, kind: Type | None, path: bool) -> Any:
    if path or (kind is not None and kind.base == "ref") or isinstance(value, Ref):
        try:
            reference = value if isinstance(value, Ref) else parse_object_path(str(value))
        except ValueError:
            return ("no path", str(value).lower())
        return reference.identity()[1:]
    base = kind.base if kind else ""
    if base == "boolean":
        if isinstance(value, str):
            return value.strip().lower() in ("true", "1")
        return bool(value)
    if base in INTEGER_RANGES or base.startswith("real"):
        if isinstance(value, str):
            try:
                return float(value) if "." in value else int(value, 0)
            except ValueError:
                raise WqlError(f"{value!r} is no number") from None
        return value
    if base == "datetime":
        moment = parse_dmtf(value) if isinstance(value, str) else value
        if not isinstance(moment, (datetime, timedelta)):
            raise WqlError(f"{value!r} is no datetime")
        return moment
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value).lower()


def like(text: str, pattern: str) -> bool:
    """`%` any text, `_` one character, `[abc]`, `[a-z]`, `[^a]`; letter case is ignored."""
    parts = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        end = pattern.find("]", at + 1) if char == "[" else -1
        if char == "%":
            parts.append(".*")
        elif char == "_":
            parts.append(".")
        elif end > at + 1:
            inner = pattern[at + 1 : end].replace("\\", "\\\\").replace("=", "-")
            parts.append(f"[{inner}]" if inner != "^" else re.escape("[^]"))
            at = end
        else:
            parts.append(re.escape(char))
        at += 1
    try:
        return re.fullmatch("".join(parts), text, re.IGNORECASE | re.DOTALL) is not None
    except re.error:
        raise WqlError(f"bad LIKE pattern {pattern!r}") from None
