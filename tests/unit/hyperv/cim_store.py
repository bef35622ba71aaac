# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An in-memory CIM store: rows in, queries answered as WMI would, every name held against the product's schema.

It evaluates the WQL that the domain writes (comparisons, LIKE, IS NOT NULL, AND, OR, parentheses), so that a wrong
filter loses rows here as it would on a host. It is data with a query language, not a stand-in for our own code.
Not here: paging, faults of the wire, associations; those are tested where they are made.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.schema import SCHEMA
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._wsman import (
    AccessDenied,
    CimInstance,
    CimPath,
    ClassMissing,
    FilterRefused,
    MethodResult,
    NotFound,
    Value,
    WsmanFault,
)

Handler = Callable[[CimPath, Mapping[str, Value]], tuple[int, dict[str, Value]]]

_TOKEN = re.compile(
    r"\s*(?:(?P<string>'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\")|(?P<number>\d+)|(?P<symbol><>|[=()])|(?P<word>\w+))"
)
_SUBCLASSES = {"CIM_LogicalFile": ("CIM_DataFile", "CIM_Directory", "Win32_Directory")}


class CimStore:
    """Rows by namespace and class, methods by class and name, and faults to be given instead."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], list[CimInstance]] = {}
        self.handlers: dict[tuple[str, str], Handler] = {}
        self.absent: set[str] = set()  # namespaces or classes that this machine lacks
        self.denied: set[str] = set()  # namespaces or classes that the account may not read
        self.broken: set[str] = set()  # classes whose provider fails
        self.passing: dict[str, WsmanFault] = {}  # classes that cannot be asked now, with what is answered
        self.refuses_filters = False
        self.queries: list[tuple[str, str, str | None]] = []
        self.calls: list[tuple[str, str, dict[str, Value]]] = []
        self.rows_given = 0

    def add(self, namespace: str, class_name: str, **properties: Value) -> CimInstance:
        """A row; a property that the schema does not know is a mistake of the test."""
        cim_class = SCHEMA.require(namespace, class_name)
        for name in properties:
            assert cim_class.property_named(name) is not None, f"{class_name} has no {name} in our schema"
        whole: dict[str, Value] = {name: [] if kind.is_array else None for name, kind in cim_class.properties.items()}
        whole.update(properties)
        instance = CimInstance(class_name=class_name, namespace=namespace, properties=whole)
        self.rows.setdefault((namespace, class_name), []).append(instance)
        return instance

    def on(self, class_name: str, method: str, handler: Handler) -> None:
        self.handlers[class_name, method] = handler

    # -- what the domain calls ------------------------------------------------------------------------------------

    def query(
        self,
        namespace: str,
        class_name: str,
        *,
        where: str | None = None,
        with_paths: bool = False,
        deep: bool = True,
        select: Sequence[str] | None = None,
    ) -> list[CimInstance]:
        SCHEMA.require(namespace, class_name)
        self.queries.append((namespace, class_name, where))
        self._refuse(namespace, class_name)
        if where is not None and self.refuses_filters:
            raise FilterRefused("the host does not evaluate this query", code=2150858778)
        classes = (class_name, *_SUBCLASSES.get(class_name, ()))
        rows = [row for name in classes for row in self.rows.get((namespace, name), ())]
        if where is not None:
            condition = _Condition(where, namespace, class_name)
            rows = [row for row in rows if condition.holds(row)]
        self.rows_given += len(rows)
        return rows if select is None else [_projected(row, select) for row in rows]

    def get(self, path: CimPath) -> CimInstance:
        self._refuse(path.namespace, path.class_name)
        for row in self.rows.get((path.namespace, path.class_name), ()):
            if all(str(row.get(name)).casefold() == str(value).casefold() for name, value in path.keys.items()):
                return row
        raise NotFound("no such instance", code=2150858752)

    def invoke(self, target: CimPath, method: str, arguments: Mapping[str, Value] | None = None) -> MethodResult:
        cim_class = SCHEMA.require(target.namespace, target.class_name)
        called = cim_class.method(method)
        assert called is not None, f"{target.class_name} has no method {method} in our schema"
        given = dict(arguments or {})
        for name in given:
            parameter = called.parameter(name)
            assert parameter is not None and parameter.direction != "out", f"{method} has no in parameter {name}"
        self.calls.append((target.class_name, method, given))
        self._refuse(target.namespace, target.class_name)
        handler = self.handlers.get((target.class_name, method))
        if handler is None:
            raise WsmanFault(f"{target.class_name}.{method} is not there", code=2150858771)
        code, out = handler(target, given)
        return MethodResult(return_value=code, out=out)

    def delete(self, path: CimPath) -> None:
        row = self.get(path)
        self.rows[path.namespace, path.class_name].remove(row)

    def _refuse(self, namespace: str, class_name: str) -> None:
        if class_name in self.passing:
            raise self.passing[class_name]
        if self.absent & {namespace, class_name}:
            raise ClassMissing(f"{class_name} in {namespace} is not there", code=2150858778)
        if self.denied & {namespace, class_name}:
            raise AccessDenied("Access is denied.", code=5)
        if self.broken & {namespace, class_name}:
            raise WsmanFault("the provider failed", code=2150858755)


class _OnlySelected(dict[str, Value]):
    """The properties that a query selected: asking for another one is a mistake of the code that wrote the query."""

    def __init__(self, class_name: str, selected: Mapping[str, Value]) -> None:
        super().__init__(selected)
        self._class_name = class_name

    def get(self, key: str, default: Any = None) -> Any:
        assert key in self, f"{self._class_name}.{key} is read but was not selected"
        return super().get(key, default)


def _projected(row: CimInstance, select: Sequence[str]) -> CimInstance:
    """The row with the selected properties only; one that the schema does not know is a mistake of the query."""
    cim_class = SCHEMA.require(row.namespace, row.class_name)
    names = [cim_class.property_named(name) for name in select]
    assert None not in names, f"{row.class_name} lacks a property of {select}"
    projected = CimInstance(row.class_name, row.namespace, {name: row.get(name) for name in select})
    projected.__dict__["properties"] = _OnlySelected(row.class_name, projected.properties)
    return projected


class _Condition:
    """A WHERE clause by recursive descent; strings compare without regard to case, as WQL does."""

    def __init__(self, text: str, namespace: str, class_name: str) -> None:
        self._class = SCHEMA.require(namespace, class_name)
        self._tokens: list[tuple[str, str]] = []
        position = 0
        while position < len(text.rstrip()):
            match = _TOKEN.match(text, position)
            assert match is not None and match.lastgroup is not None, f"not WQL: {text[position:]!r}"
            self._tokens.append((match.lastgroup, match[match.lastgroup]))
            position = match.end()
        self._position = 0
        self._test = self._alternatives()
        assert self._position == len(self._tokens), f"left over in {text!r}"

    def holds(self, row: CimInstance) -> bool:
        return self._test(row)

    def _peek(self) -> str:
        return self._tokens[self._position][1].upper() if self._position < len(self._tokens) else ""

    def _next(self) -> tuple[str, str]:
        self._position += 1
        return self._tokens[self._position - 1]

    def _alternatives(self) -> Callable[[CimInstance], bool]:
        terms = [self._conjunction()]
        while self._peek() == "OR":
            self._next()
            terms.append(self._conjunction())
        return lambda row: any(term(row) for term in terms)

    def _conjunction(self) -> Callable[[CimInstance], bool]:
        terms = [self._comparison()]
        while self._peek() == "AND":
            self._next()
            terms.append(self._comparison())
        return lambda row: all(term(row) for term in terms)

    def _comparison(self) -> Callable[[CimInstance], bool]:
        if self._peek() == "(":
            self._next()
            inner = self._alternatives()
            assert self._next()[1] == ")"
            return inner
        name = self._next()[1]
        assert self._class.property_named(name) is not None, f"{self._class.name} has no {name} to filter by"
        operator = self._next()[1].upper()
        if operator == "IS":
            assert [self._next()[1].upper(), self._next()[1].upper()] == ["NOT", "NULL"]
            return lambda row: row.get(name) is not None
        kind, literal = self._next()
        wanted: Any = int(literal) if kind == "number" else _unquoted(literal)
        if operator == "LIKE":
            # In a LIKE pattern only % is used by the product
            pattern = re.compile(".*".join(re.escape(part) for part in wanted.split("%")), re.IGNORECASE | re.DOTALL)
            return lambda row: pattern.fullmatch(str(row.get(name) or "")) is not None
        assert operator == "=", operator

        def equals(row: CimInstance) -> bool:
            value = row.get(name)
            if isinstance(value, str) and isinstance(wanted, str):
                return value.casefold() == wanted.casefold()
            return value == wanted

        return equals


def _unquoted(literal: str) -> str:
    return re.sub(r"\\(.)", r"\1", literal[1:-1], flags=re.DOTALL)
