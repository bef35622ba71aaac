# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a machine answers to each WS-Man operation, below the wire: providers, rights, dispatch.

Modules that know a part of Windows (virtualization, storage, registry ...) register plain functions here:

    @view("root/virtualization/v2", "Msvm_ComputerSystem")
    def computer_systems(machine): yield {"Name": ..., ...}         # rows of exactly this class

    @method("root/virtualization/v2", "Msvm_ComputerSystem", "RequestStateChange")
    def request_state_change(machine, target, arguments): return {"ReturnValue": 0}

The service fills properties that a row leaves out with NULL, refuses names and types that the schema does not know,
and does keys, Get, WQL, deep enumeration and association walks over the rows.
"""

from __future__ import annotations

import contextvars
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .cim import Instance, Value, normal_namespace

Row = Mapping[str, Value]
ViewFunction = Callable[..., Iterable[Row]]
MethodFunction = Callable[[Any, "Instance | None", dict[str, Value]], Row]
PutFunction = Callable[[Any, Instance, dict[str, Value]], None]
DeleteFunction = Callable[[Any, Instance], None]
CreateFunction = Callable[[Any, dict[str, Value]], Row]
Guard = Callable[[Any, "Caller"], None]


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who sends the request: account name as authenticated, the groups it is in, whether its token is filtered."""

    account: str
    groups: frozenset[str] = frozenset()
    domain: str = ""

    def member_of(self, group: str) -> bool:
        return group.lower() in {known.lower() for known in self.groups}

    @property
    def is_administrator(self) -> bool:
        return self.member_of("Administrators")


_CALLER: contextvars.ContextVar[Caller] = contextvars.ContextVar("caller")

SYSTEM = Caller(account="SYSTEM", groups=frozenset({"Administrators"}), domain="NT AUTHORITY")


def caller() -> Caller:
    """Who is asking, for a view or method that needs it; the SYSTEM account outside of any request."""
    return _CALLER.get(SYSTEM)


@dataclass(frozen=True, kw_only=True)
class RegisteredView:
    namespace: str
    class_name: str
    function: ViewFunction
    takes_known: bool

    def rows(self, machine: Any, known: Mapping[str, Value]) -> Iterable[Row]:
        return self.function(machine, known) if self.takes_known else self.function(machine)


Key = tuple[str, str]


@dataclass
class Providers:
    """A set of views and methods by namespace and class. `PROVIDERS` is the one that machines of a world share."""

    views: dict[Key, RegisteredView] = field(default_factory=dict)
    methods: dict[tuple[str, str, str], MethodFunction] = field(default_factory=dict)
    puts: dict[Key, PutFunction] = field(default_factory=dict)
    deletes: dict[Key, DeleteFunction] = field(default_factory=dict)
    creates: dict[Key, CreateFunction] = field(default_factory=dict)
    guards: dict[Key, Guard] = field(default_factory=dict)

    def view(self, namespace: str, class_name: str) -> Callable[[ViewFunction], ViewFunction]:
        """Register the rows of exactly `class_name`: `f(machine)` or `f(machine, known)` -> iterable of property dicts.

        `known` holds property values that the question already fixes (selectors of a Get, `Name = 'x'` terms of a
        WQL filter joined by AND); a view over something large uses it to look up instead of listing, others ignore it.
        Rows that do not fit are dropped afterwards in any case.
        """

        def register(function: ViewFunction) -> ViewFunction:
            key = _key(namespace, class_name)
            if key in self.views:
                raise ValueError(f"two views of {class_name} in {namespace}")
            self.views[key] = RegisteredView(
                namespace=key[0],
                class_name=class_name,
                function=function,
                takes_known=len(inspect.signature(function).parameters) > 1,
            )
            return function

        return register

    def method(self, namespace: str, class_name: str, name: str) -> Callable[[MethodFunction], MethodFunction]:
        """Register `f(machine, target, arguments) -> {"ReturnValue": .., out parameters}`.

        `target` is the instance that the selectors name, None for a static method. `arguments` holds what the
        request carried under the declared names; what it left out is absent. References arrive as Ref, embedded
        instance texts and objects as Instance, datetimes as datetime or timedelta. Serves subclasses too.
        """

        def register(function: MethodFunction) -> MethodFunction:
            key = (*_key(namespace, class_name), name.lower())
            if key in self.methods:
                raise ValueError(f"two methods {name} of {class_name} in {namespace}")
            self.methods[key] = function
            return function

        return register

    def put(self, namespace: str, class_name: str) -> Callable[[PutFunction], PutFunction]:
        """Register WS-Transfer Put: `f(machine, target, changed_properties)`."""

        def register(function: PutFunction) -> PutFunction:
            self.puts[_key(namespace, class_name)] = function
            return function

        return register

    def delete(self, namespace: str, class_name: str) -> Callable[[DeleteFunction], DeleteFunction]:
        """Register instance deletion: `f(machine, target)`."""

        def register(function: DeleteFunction) -> DeleteFunction:
            self.deletes[_key(namespace, class_name)] = function
            return function

        return register

    def create(self, namespace: str, class_name: str) -> Callable[[CreateFunction], CreateFunction]:
        """Register instance creation: `f(machine, properties) -> key properties of the new instance`."""

        def register(function: CreateFunction) -> CreateFunction:
            self.creates[_key(namespace, class_name)] = function
            return function

        return register

    def guard(self, namespace: str, class_name: str = "*") -> Callable[[Guard], Guard]:
        """Register `f(machine, caller)`, run before any operation on the class ("*": on the namespace); it raises
        CimFault to refuse. It comes after the general rule of the namespace."""

        def register(function: Guard) -> Guard:
            self.guards[_key(namespace, class_name)] = function
            return function

        return register


def _key(namespace: str, class_name: str) -> Key:
    return normal_namespace(namespace), class_name.lower()


PROVIDERS = Providers()
view = PROVIDERS.view
method = PROVIDERS.method
put = PROVIDERS.put
delete = PROVIDERS.delete
create = PROVIDERS.create
guard = PROVIDERS.guard
