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
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from . import wql
from .assumed import Switches, assumed
from .cim import (
    WBEM_E_ACCESS_DENIED,
    WBEM_E_FAILED,
    WBEM_E_INVALID_CLASS,
    WBEM_E_INVALID_METHOD_PARAMETERS,
    WBEM_E_INVALID_NAMESPACE,
    WBEM_E_INVALID_QUERY,
    WBEM_E_NOT_FOUND,
    WBEM_E_NOT_SUPPORTED,
    WBEM_E_PROVIDER_NOT_CAPABLE,
    CimFault,
    Instance,
    Ref,
    Value,
    key_identity,
    normal_namespace,
)
from .cim_xml import EmbeddedRefused, read_instance
from .schema import Class, Method, Parameter, Schema
from .wire import FAULT_DETAIL, is_nil, parse_class_uri, parse_value, schema_error, split

assumed(
    "get-with-partial-keys",
    "Get or Invoke with some but not all keys finds nothing (services are found by CreationClassName alone).",
    source="wsman 4 against wire-shapes 2, which says that a VM is found by Name alone",
    values=("unreachable", "accepted"),
)
assumed(
    "remote-enable",
    "A member of Remote Management Users needs Remote Enable on each namespace (an account's remote_enable set).",
    source="wsman 7",
    values=("needed", "granted"),
)
assumed(
    "hyperv-without-rights",
    "Who may enter the virtualization namespace but is no Hyper-V administrator sees no rows.",
    source="hyperv-wmi 0.2: empty sets, from the class remarks",
)
assumed(
    "unserved-method",
    "A documented method that the simulator does not have answers WBEM_E_PROVIDER_NOT_CAPABLE.",
    source="a limit of the simulator, not of Windows",
)
assumed(
    "service-without-selectors",
    "An instance method without selectors: the management service says 0x8004102F, image and switch service "
    "w:InternalError (0x80041001); every other class 0x8004102F.",
    source="hyperv-wmi 0.5; other classes and the number of InternalError are guesses",
)
assumed(
    "unknown-parameter",
    "A parameter that the method does not have gives 0x8004102F.",
    source="no source",
)

Row = Mapping[str, Value]
ViewFunction = Callable[..., Iterable[Row]]
MethodFunction = Callable[[Any, "Instance | None", dict[str, Value]], Row]
PutFunction = Callable[[Any, Instance, dict[str, Value]], None]
DeleteFunction = Callable[[Any, Instance], None]
CreateFunction = Callable[[Any, dict[str, Value]], Row]
RefusalFunction = Callable[[Any, str, str, int, str], Row]
Guard = Callable[[Any, "Caller"], None]


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who sends the request: account name as authenticated, the groups it is in, whether its token is filtered."""

    account: str
    groups: frozenset[str] = frozenset()
    domain: str = ""
    remote_enable: frozenset[str] = frozenset()

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
    refusals: dict[str, RefusalFunction] = field(default_factory=dict)

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

    def refusal(self, namespace: str) -> Callable[[RefusalFunction], RefusalFunction]:
        """Register what a namespace answers to an embedded instance text it does not take.

        `f(machine, class_name, method_name, code, why) -> outputs`; without one the answer is `ReturnValue: code`.
        """

        def register(function: RefusalFunction) -> RefusalFunction:
            self.refusals[normal_namespace(namespace)] = function
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
refusal = PROVIDERS.refusal


# ---------------------------------------------------------------------------------------------------------------------
# The service of one machine

VIRTUALIZATION = "root/virtualization/v2"

# Methods that take no selectors although their class has keys (windows-storage 1.1; public references).
STATIC_METHODS = {
    ("win32_process", "create"),
    ("win32_shadowcopy", "create"),
    ("win32_shadowstorage", "create"),
    ("win32_baseservice", "create"),
    ("win32_service", "create"),
    ("msft_iscsitarget", "connect"),
    ("msft_iscsitarget", "update"),
    ("msft_iscsitargetportal", "new"),
    ("mscluster_resourcegroup", "creategroup"),
    ("mscluster_resource", "createresource"),
}


def host_name(machine: Any) -> str:
    """The name that object paths and __SERVER carry: the NetBIOS name."""
    return str(getattr(machine, "netbios_name", None) or machine.name)


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The answer to an enumeration: instances, and for a projection the chosen columns."""

    instances: tuple[Instance, ...]
    columns: tuple[str, ...] | None = None


class CimService:
    """CIM operations of one machine on behalf of the caller in force (`acting_as`); raises CimFault where Windows does.

    `unserved` collects (namespace, class or class.method) that was asked and that nothing serves.
    """

    def __init__(self, machine: Any, providers: Providers = PROVIDERS, schema: Schema | None = None) -> None:
        self.machine = machine
        self.providers = providers
        self.schema = schema or Schema.shared()
        self.unserved: set[tuple[str, str]] = set()
        self._switches = Switches()

    def assume(self, identifier: str) -> str:
        world: Any = getattr(self.machine, "world", None)
        return str(world.assume(identifier)) if hasattr(world, "assume") else self._switches[identifier]

    # -- rights and names ---------------------------------------------------------------------------------------------

    def enter(self, namespace: str) -> str:
        """The namespace in its normal form, after the general rights rule (wsman 7) and whether it exists here."""
        namespace = normal_namespace(namespace)
        who = caller()
        if not who.is_administrator:
            if not who.member_of("Remote Management Users"):
                raise CimFault.wsman(5, "w:AccessDenied")
            allowed = {normal_namespace(name) for name in who.remote_enable}
            if self.assume("remote-enable") == "needed" and namespace not in allowed and "*" not in who.remote_enable:
                raise CimFault.wmi(WBEM_E_ACCESS_DENIED, operation="ConnectServer", parameter=namespace)
        if namespace not in {normal_namespace(name) for name in self.machine.namespaces}:
            raise CimFault.wmi(WBEM_E_INVALID_NAMESPACE, operation="ConnectServer", parameter=namespace)
        self._guard(namespace, "*")
        return namespace

    def _guard(self, namespace: str, class_name: str) -> None:
        check = self.providers.guards.get((namespace, class_name.lower()))
        if check is not None:
            check(self.machine, caller())

    def entry(self, namespace: str, class_name: str, operation: str) -> Class:
        found = self.schema.find(namespace, class_name)
        if found is None:
            raise CimFault.wmi(WBEM_E_INVALID_CLASS, operation=operation, parameter=class_name)
        self._guard(namespace, found.name)
        return found

    def _blind(self, namespace: str) -> bool:
        who = caller()
        if namespace != VIRTUALIZATION or who.is_administrator or who.member_of("Hyper-V Administrators"):
            return False
        self.assume("hyperv-without-rights")
        return True

    # -- rows ---------------------------------------------------------------------------------------------------------

    def exact_rows(self, entry: Class, known: Mapping[str, Value]) -> Iterator[Instance]:
        """The rows of exactly this class, completed and checked against the schema."""
        if entry.name == "__NAMESPACE":
            rows: Iterable[Row] = self._child_namespaces(entry.namespace)
        else:
            found = self.providers.views.get((entry.namespace, entry.name.lower()))
            if found is None:
                return
            declared = {p.name: value for name, value in known.items() if (p := entry.find_property(name))}
            rows = found.rows(self.machine, declared)
        for row in rows:
            yield self.complete(entry, row)

    def _child_namespaces(self, namespace: str) -> list[Row]:
        names = sorted(normal_namespace(name) for name in self.machine.namespaces)
        prefix = namespace + "/"
        children = sorted({name[len(prefix) :].split("/")[0] for name in names if name.startswith(prefix)})
        return [{"Name": name} for name in children]

    def complete(self, entry: Class, row: Row) -> Instance:
        """An instance with every property of its class; TypeError or KeyError for what the schema does not know."""
        out: dict[str, Value] = dict.fromkeys(entry.properties)
        for name, value in row.items():
            if name not in out:
                raise KeyError(f"a view of {entry.name} gives {name}, which the schema does not know")
            self.schema.check_value(entry.properties[name].type, value, f"{entry.name}.{name}")
            out[name] = value
        for name in entry.keys:
            if out[name] is None and not entry.singleton:
                raise TypeError(f"a view of {entry.name} gives a row without its key {name}")
        return Instance(entry.namespace, entry.name, out)

    def instances(self, entry: Class, known: Mapping[str, Value] | None = None) -> Iterator[Instance]:
        """The rows of the class and of all its subclasses."""
        if self._blind(entry.namespace):
            return
        family = list(self.schema.family(entry.namespace, entry.name))
        if entry.name != "__NAMESPACE" and not any(
            (member.namespace, member.name.lower()) in self.providers.views for member in family
        ):
            self.unserved.add((entry.namespace, entry.name))
        for member in family:
            yield from self.exact_rows(member, known or {})

    def reference(self, instance: Instance) -> Ref:
        entry = self.schema.get(instance.namespace, instance.class_name)
        keys: dict[str, Any] = {name: instance.properties.get(name) for name in entry.keys}
        return Ref(instance.namespace, instance.class_name, {n: v for n, v in keys.items() if v is not None})

    def find(self, ref: Ref) -> Instance | None:
        """The instance a reference names, for providers and association walks; None when it is not there."""
        entry = self.schema.find(ref.namespace, ref.class_name)
        if entry is None:
            return None
        return next((row for row in self.instances(entry, ref.keys) if self._has_keys(entry, row, ref.keys)), None)

    def _has_keys(self, entry: Class, row: Instance, keys: Mapping[str, Any]) -> bool:
        for name, wanted in keys.items():
            value: Any = row.get(name)
            if value is None or not self._same_key(value, wanted):
                return False
        return True

    @staticmethod
    def _same_key(value: Any, wanted: Any) -> bool:
        if isinstance(value, Ref) or isinstance(wanted, Ref):
            return isinstance(value, Ref) and value.same_as(wanted)
        return bool(key_identity(value) == key_identity(wanted))

    # -- operations ---------------------------------------------------------------------------------------------------

    def get(self, namespace: str, class_name: str, selectors: Sequence[tuple[str, Any]]) -> Instance:
        """WS-Transfer Get. Selectors are (name, text or Ref)."""
        namespace = self.enter(namespace)
        entry = self.entry(namespace, class_name, "GetObject")
        found = self._select(entry, selectors, "GetObject", service=False)
        if found is None:
            raise CimFault.wsman(2150859002, "w:InvalidSelectors", detail=FAULT_DETAIL + "InsufficientSelectors")
        return found

    def _select(
        self, entry: Class, selectors: Sequence[tuple[str, Any]], operation: str, *, service: bool
    ) -> Instance | None:
        """The instance that the selectors name; None when there are no selectors and the class is no singleton."""
        by_key = {key.lower(): key for key in entry.keys}
        unknown = [name for name, _unused in selectors if name.lower() not in by_key]
        if unknown:
            raise CimFault.wsman(2150858843, "w:InvalidSelectors", detail=FAULT_DETAIL + "UnexpectedSelectors")
        keys = {by_key[name.lower()]: value for name, value in selectors}
        if not keys and not entry.singleton:
            return None
        shown = Ref(entry.namespace, entry.name, keys).relative_path()
        missing = CimFault.wmi(WBEM_E_NOT_FOUND, operation=operation, parameter=shown)
        partial = len(keys) < len(entry.keys) and not entry.singleton
        by_class_name = service and entry.is_a("CIM_Service")
        if partial and not by_class_name and self.assume("get-with-partial-keys") == "unreachable":
            raise missing
        rows = [row for row in self.instances(entry, keys) if self._has_keys(entry, row, keys)]
        if not rows:
            raise missing
        if len(rows) > 1:
            raise CimFault.wsman(2150858846, "w:InvalidSelectors", detail=FAULT_DETAIL + "AmbiguousSelectors")
        return rows[0]

    def enumerate(self, namespace: str, class_name: str) -> Rows:
        """An unfiltered enumeration, deep."""
        namespace = self.enter(namespace)
        entry = self.entry(namespace, class_name, "CreateInstanceEnum")
        return Rows(instances=tuple(self.instances(entry)))

    def query(self, namespace: str, text: str) -> Rows:
        """A WQL query; a refusal is n:CannotProcessFilter on the wire, missing class and namespace included."""
        try:
            namespace = self.enter(namespace)
            tree = wql.parse(text, namespace)
            if isinstance(tree, wql.Walk):
                if tree.class_definitions_only:
                    self.assume("wql-classdefs")
                    raise wql.WqlError("class definitions are not sent")
                return Rows(instances=tuple(self.walk(tree)))
            entry = self.entry(namespace, tree.class_name, "ExecQuery")
            wql.check(tree, entry, self.assume)
            rows = [row for row in self.instances(entry, tree.known()) if self._matches(tree.where, row)]
        except wql.WqlError as error:
            raise CimFault.wmi(WBEM_E_INVALID_QUERY, str(error), operation="ExecQuery", parameter=text) from None
        except CimFault as fault:
            if fault.kind == "wmi":
                fault.operation, fault.parameter = "ExecQuery", text
            raise
        return Rows(instances=tuple(rows), columns=tree.columns)

    def _matches(self, condition: wql.Condition | None, row: Instance) -> bool:
        context = wql.Context(
            server=host_name(self.machine),
            assume=self.assume,
            entry=self.schema.get(row.namespace, row.class_name),
            is_a=lambda value, name: self.schema.get(value.namespace, value.class_name).is_a(name),
            reference=self.reference,
        )
        return wql.matches(condition, row, context)

    def select_rows(self, namespace: str, class_name: str, wanted: Sequence[tuple[str, Any]]) -> Rows:
        """The selector filter dialect: equality on any property."""
        namespace = self.enter(namespace)
        entry = self.entry(namespace, class_name, "CreateInstanceEnum")
        for name, _unused in wanted:
            if entry.find_property(name) is None:
                raise CimFault.wmi(WBEM_E_INVALID_QUERY, f"{entry.name} has no property {name}", operation="ExecQuery")
        return Rows(instances=tuple(row for row in self.instances(entry) if self._has_keys(entry, row, dict(wanted))))

    def walk(self, tree: wql.Walk) -> Iterator[Instance]:
        """ASSOCIATORS OF / REFERENCES OF over the rows of the association classes."""
        namespace = normal_namespace(tree.source.namespace)
        self.entry(namespace, tree.source.class_name, "ExecQuery")
        source = self._named_keys(tree.source)
        singleton = self.schema.get(namespace, source.class_name).singleton
        if source.keys or singleton:
            found = self.find(source)
            if found is None:
                raise CimFault.wmi(WBEM_E_NOT_FOUND, operation="ExecQuery", parameter=tree.source.relative_path())
            source = self.reference(found) if singleton else source
        for name in (tree.association, tree.result):
            if name:
                self.entry(namespace, name, "ExecQuery")
        wanted = tree.result if tree.references else tree.association
        seen: set[Any] = set()
        for row, role in self._association_rows(namespace, wanted, source):
            if tree.role and role.lower() != tree.role.lower():
                continue
            if tree.references:
                yield row
                continue
            for name, value in row.properties.items():
                if not isinstance(value, Ref) or name == role or value.identity() in seen:
                    continue
                if tree.result_role and name.lower() != tree.result_role.lower():
                    continue
                target = self.schema.find(value.namespace, value.class_name)
                if target is None or (tree.result and not target.is_a(tree.result)):
                    continue
                found = self.find(value)
                if found is not None:
                    seen.add(value.identity())
                    yield found

    def _named_keys(self, ref: Ref) -> Ref:
        """A path `Class="x"` names its one key only by position."""
        entry = self.schema.get(ref.namespace, ref.class_name)
        if "?" in ref.keys and len(entry.keys) == 1:
            return Ref(ref.namespace, entry.name, {entry.keys[0]: ref.keys["?"]})
        return Ref(ref.namespace, entry.name, ref.keys)

    def _association_rows(self, namespace: str, name: str, source: Ref) -> Iterator[tuple[Instance, str]]:
        family = self.schema.family(namespace, name) if name else iter(self.schema.classes(namespace))
        if self._blind(namespace):
            return
        for entry in family:
            if not any(found.type.base == "ref" for found in entry.properties.values()):
                continue
            roles = [found.name for found in entry.properties.values() if found.type.base == "ref"]
            for row in self.exact_rows(entry, {}):
                for role in roles:
                    value = row.properties[role]
                    if isinstance(value, Ref) and value.same_as(source):
                        yield row, role
                        break

    # -- methods ------------------------------------------------------------------------------------------------------

    def invoke(
        self, namespace: str, class_name: str, name: str, selectors: Sequence[tuple[str, Any]], body: ET.Element | None
    ) -> tuple[Class, Method, dict[str, Value]]:
        """Invoke; returns the class, the method and its outputs, completed and checked."""
        namespace = self.enter(namespace)
        entry = self.entry(namespace, class_name, "ExecMethod")
        method_entry = entry.find_method(name)
        if method_entry is None:
            raise CimFault.wsman(2150858771, "a:ActionNotSupported")
        static = not entry.keys or any(
            (ancestor.lower(), method_entry.name.lower()) in STATIC_METHODS
            for ancestor in (entry.name, *entry.derivation)
        )
        target = self._target(entry, method_entry, selectors, static=static)
        try:
            arguments = self._arguments(entry, method_entry, body)
        except EmbeddedRefused as refused:
            answer = self.providers.refusals.get(namespace)
            outputs: Row = (
                answer(self.machine, entry.name, method_entry.name, refused.code, str(refused))
                if answer
                else {"ReturnValue": refused.code}
            )
            return entry, method_entry, self._outputs(entry, method_entry, outputs)
        function = self._function(target.class_name if target else entry.name, namespace, method_entry.name)
        if function is None:
            self.unserved.add((namespace, f"{entry.name}.{method_entry.name}"))
            self.assume("unserved-method")
            raise CimFault.wmi(WBEM_E_PROVIDER_NOT_CAPABLE, operation="ExecMethod", parameter=method_entry.name)
        return entry, method_entry, self._outputs(entry, method_entry, function(self.machine, target, arguments))

    def _target(
        self, entry: Class, method_entry: Method, selectors: Sequence[tuple[str, Any]], *, static: bool
    ) -> Instance | None:
        target = None if static and not selectors else self._select(entry, selectors, "ExecMethod", service=True)
        if target is None and not static:
            self.assume("service-without-selectors")
            if entry.name in ("Msvm_ImageManagementService", "Msvm_VirtualEthernetSwitchManagementService"):
                raise CimFault.wmi(WBEM_E_FAILED, operation="ExecMethod", parameter=method_entry.name)
            raise CimFault.wmi(WBEM_E_INVALID_METHOD_PARAMETERS, operation="ExecMethod", parameter=method_entry.name)
        return target

    def _function(self, class_name: str, namespace: str, name: str) -> MethodFunction | None:
        entry = self.schema.get(namespace, class_name)
        for ancestor in (entry.name, *entry.derivation):
            found = self.providers.methods.get((namespace, ancestor.lower(), name.lower()))
            if found is not None:
                return found
        return None

    def _arguments(self, entry: Class, method_entry: Method, body: ET.Element | None) -> dict[str, Value]:
        if body is None or split(body.tag)[1] != f"{method_entry.name}_INPUT":
            raise schema_error(f"the body needs the element {method_entry.name}_INPUT")
        out: dict[str, Value] = {}
        inputs = method_entry.inputs
        family = {ancestor.lower() for ancestor in (entry.name, *entry.derivation)}
        for element in body:
            space, name = split(element.tag)
            where = parse_class_uri(space)
            if where is None or where[0] not in ("", entry.namespace) or where[1].lower() not in family:
                raise schema_error(f"the parameter {name} is not in the namespace of the class")
            parameter = inputs.get(name)
            if parameter is None:
                self.assume("unknown-parameter")
                raise CimFault.wmi(
                    WBEM_E_INVALID_METHOD_PARAMETERS, operation="ExecMethod", parameter=f"{method_entry.name}.{name}"
                )
            if is_nil(element):
                continue
            value = self._argument(entry, parameter, element)
            if parameter.type.array:
                collected = out.setdefault(name, [])
                assert isinstance(collected, list)
                if value is not None:
                    collected.append(value)
            elif name in out:
                raise schema_error(f"the parameter {name} is no array, found it twice")
            elif value is not None:
                out[name] = value
        return out

    def _argument(self, entry: Class, parameter: Parameter, element: ET.Element) -> Any:
        value = parse_value(element, parameter.type, self.schema, entry.namespace)
        if not parameter.type.embedded:
            return value
        return read_instance(value, self.schema, entry.namespace, self.assume) if value.strip() else None

    def _outputs(self, entry: Class, method_entry: Method, row: Row) -> dict[str, Value]:
        where = f"{entry.name}.{method_entry.name}"
        out: dict[str, Value] = dict.fromkeys(method_entry.outputs)
        for name, value in row.items():
            if name == "ReturnValue":
                if isinstance(value, bool) or not isinstance(value, int):
                    raise TypeError(f"{where} returns {value!r}, a number is needed")
                out[name] = value
                continue
            if name not in out:
                raise KeyError(f"{where} returns {name}, which the schema does not know")
            self.schema.check_value(method_entry.outputs[name].type, value, f"{where}.{name}")
            out[name] = value
        return out

    # -- changes of instances -----------------------------------------------------------------------------------------

    def _registered(self, table: Mapping[Key, Any], entry: Class) -> Any:
        for ancestor in (entry.name, *entry.derivation):
            found = table.get((entry.namespace, ancestor.lower()))
            if found is not None:
                return found
        self.unserved.add((entry.namespace, f"{entry.name} (change)"))
        raise CimFault.wmi(WBEM_E_NOT_SUPPORTED, operation="PutInstance", parameter=entry.name)

    def put(
        self, namespace: str, class_name: str, selectors: Sequence[tuple[str, Any]], properties: dict[str, Value]
    ) -> Instance:
        """WS-Transfer Put; returns the instance as it is afterwards."""
        target = self.get(namespace, class_name, selectors)
        entry = self.schema.get(target.namespace, target.class_name)
        function = self._registered(self.providers.puts, entry)
        changed = {name: value for name, value in properties.items() if target.get(name) != value}
        function(self.machine, target, changed)
        return self.get(namespace, class_name, selectors)

    def create(self, namespace: str, class_name: str, properties: dict[str, Value]) -> Ref:
        """WS-Transfer Create; returns the reference of the new instance."""
        namespace = self.enter(namespace)
        entry = self.entry(namespace, class_name, "PutInstance")
        keys = self._registered(self.providers.creates, entry)(self.machine, properties)
        return Ref(namespace, entry.name, {name: keys[name] for name in entry.keys})

    def delete(self, namespace: str, class_name: str, selectors: Sequence[tuple[str, Any]]) -> None:
        """WS-Transfer Delete."""
        target = self.get(namespace, class_name, selectors)
        function = self._registered(self.providers.deletes, self.schema.get(target.namespace, target.class_name))
        function(self.machine, target)


@contextmanager
def acting_as(who: Caller) -> Iterator[None]:
    """Everything inside happens on behalf of `who`."""
    token = _CALLER.set(who)
    try:
        yield
    finally:
        _CALLER.reset(token)
