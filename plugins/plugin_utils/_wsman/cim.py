# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""The CIM object model: paths, instances, and the schema vocabulary that gives wire text its types.

Responsible for data only. It knows no XML, no WS-Management and no Hyper-V: text forms are in ``wire.py``, the classes
that we rely on are data in ``_hyperv/schema.py``.

CIM names (classes, properties, methods, parameters, namespaces) compare without regard to case everywhere here; the
spelling that is written on the wire is the schema's, because Windows minds the case of element names (wsman 1.2).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any  # pylint: disable=unused-import  # used in the text of a type

from .errors import SchemaError

if TYPE_CHECKING:
    from datetime import timedelta
    from typing import TypeAlias

# None is CIM NULL and nothing else. Elements of a list are values of the declared type.
Value: TypeAlias = "bool | int | float | str | datetime | timedelta | CimPath | CimInstance | list[Any] | None"

# "Never" as WMI writes it in datetime properties (wire-shapes 1). It is kept as it came: a caller that means
# "no time known" compares with this constant.
NEVER = datetime(1601, 1, 1, tzinfo=timezone.utc)

INTEGER_RANGES: Mapping[str, tuple[int, int]] = {
    **{f"uint{bits}": (0, 2**bits - 1) for bits in (8, 16, 32, 64)},
    **{f"sint{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32, 64)},
}
# `object` is an instance nested as XML elements, `instance` the CIM-XML text of one inside a string.
CIM_TYPES = frozenset(
    [*INTEGER_RANGES, "boolean", "string", "datetime", "char16", "real32", "real64", "reference", "object", "instance"]
)
_DIRECTIONS = frozenset(["in", "out", "inout"])


def normal_namespace(text: str) -> str:
    r"""``\root\virtualization\v2`` and ``root/virtualization/v2/`` -> ``root/virtualization/v2`` (case is kept)."""
    return text.replace("\\", "/").strip("/")


@dataclass(frozen=True)
class CimPath:
    """Where an instance (or, without keys, a class or a singleton) is.

    ``keys`` maps key names to text as it is in a selector, or to the path of another instance (association classes).
    Equality ignores the case of names but not of key values; `identity` ignores both, as WMI itself does.
    """

    namespace: str
    class_name: str
    keys: Mapping[str, str | CimPath] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "namespace", normal_namespace(self.namespace))
        object.__setattr__(self, "keys", dict(self.keys))

    def key(self, name: str) -> str | CimPath | None:
        """The value of one key, or None when the path has no such key."""
        wanted = name.lower()
        return next((value for key, value in self.keys.items() if key.lower() == wanted), None)

    @property
    def identity(self) -> tuple[object, ...]:
        """A hashable that is equal for two paths to one object however their letters are cased."""
        return (
            self.namespace.lower(),
            self.class_name.lower(),
            frozenset(
                (name.lower(), value.identity if isinstance(value, CimPath) else value.lower())
                for name, value in self.keys.items()
            ),
        )

    def _comparable(self) -> tuple[object, ...]:
        names = frozenset((name.lower(), value) for name, value in self.keys.items())
        return (self.namespace.lower(), self.class_name.lower(), names)

    def __eq__(self, other: object) -> bool:
        return self._comparable() == other._comparable() if isinstance(other, CimPath) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._comparable())


_NOT_THERE: Any = object()


@dataclass(frozen=True)
class CimInstance:
    """One decoded instance; ``class_name`` is its own class, which may be a subclass of the one asked for.

    ``properties`` holds only what the schema knows. An array that was not in the answer is ``[]`` in a whole instance,
    because WMI leaves out NULL and empty arrays alike (wire-shapes 1); an absent scalar is absent here too.
    """

    class_name: str
    namespace: str
    properties: Mapping[str, Value]
    path: CimPath | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "namespace", normal_namespace(self.namespace))
        object.__setattr__(self, "properties", dict(self.properties))

    def _by_lower_name(self) -> Mapping[str, Value]:
        """Made when first needed: nearly all readers use the schema's spelling, and rows are many."""
        made: dict[str, Value] | None = self.__dict__.get("_lower")
        if made is None:
            made = {name.lower(): value for name, value in self.properties.items()}
            object.__setattr__(self, "_lower", made)
        return made

    def get(self, name: str, default: Value = None) -> Value:
        """The value of a property whatever the case of ``name``; ``default`` when the instance has no such property."""
        value = self.properties.get(name, _NOT_THERE)
        return self._by_lower_name().get(name.lower(), default) if value is _NOT_THERE else value

    def __getitem__(self, name: str) -> Value:
        """Like `get`, but a property that is not there raises `SchemaError`; one that is NULL gives None."""
        value = self.get(name, _NOT_THERE)
        if value is _NOT_THERE:
            raise SchemaError(
                f"The answer for class {self.class_name} in {self.namespace} has no property {name}; "
                f"check that this Windows version offers it."
            )
        return value

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name, _NOT_THERE) is not _NOT_THERE

    def __hash__(self) -> int:
        return hash((self.class_name.lower(), self.namespace.lower(), self.path))


def _check_type(owner: str, type_name: str) -> None:
    if type_name not in CIM_TYPES:
        raise SchemaError(f"{owner} has the type {type_name!r}, which is none of {', '.join(sorted(CIM_TYPES))}.")


@dataclass(frozen=True)
class CimProperty:
    """Type of a property. ``embedded`` names the class of an `object` or `instance`, or the target of a reference."""

    type: str
    is_array: bool = False
    embedded: str | None = None

    def __post_init__(self) -> None:
        _check_type("A property", self.type)


@dataclass(frozen=True)
class CimParameter:
    """Type and direction of a method's parameter; ``embedded`` as in `CimProperty`."""

    name: str
    type: str
    is_array: bool = False
    direction: str = "in"
    embedded: str | None = None

    def __post_init__(self) -> None:
        _check_type(f"Parameter {self.name}", self.type)
        if self.direction not in _DIRECTIONS:
            raise SchemaError(f"Parameter {self.name} has the direction {self.direction!r}; use in, out or inout.")


@dataclass(frozen=True)
class CimMethod:
    """A method; ``returns`` is the type of ReturnValue, None for a method without one."""

    name: str
    parameters: tuple[CimParameter, ...] = ()
    returns: str | None = "uint32"
    is_static: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "parameters", tuple(self.parameters))
        if self.returns is not None:
            _check_type(f"The return value of {self.name}", self.returns)

    def parameter(self, name: str) -> CimParameter | None:
        wanted = name.lower()
        return next((parameter for parameter in self.parameters if parameter.name.lower() == wanted), None)


@dataclass(frozen=True)
class CimClass:
    """A class as the schema states it; `Schema.find` returns it with the members of its bases merged in."""

    name: str
    namespace: str
    base: str | None = None
    properties: Mapping[str, CimProperty] = field(default_factory=dict)
    methods: tuple[CimMethod, ...] = ()
    keys: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "namespace", normal_namespace(self.namespace))
        object.__setattr__(self, "properties", dict(self.properties))
        object.__setattr__(self, "methods", tuple(self.methods))
        object.__setattr__(self, "keys", tuple(self.keys))
        object.__setattr__(self, "_by_lower_name", {name.lower(): name for name in self.properties})

    def property_named(self, name: str) -> tuple[str, CimProperty] | None:
        """The schema's spelling of a property's name, and its type; None when the class has no such property."""
        names: Mapping[str, str] = self.__dict__["_by_lower_name"]
        spelling = names.get(name.lower())
        return None if spelling is None else (spelling, self.properties[spelling])

    def method(self, name: str) -> CimMethod | None:
        wanted = name.lower()
        return next((method for method in self.methods if method.name.lower() == wanted), None)

    def __hash__(self) -> int:
        return hash((self.name.lower(), self.namespace.lower()))


class Schema:
    """The classes that the product relies on, found by namespace and name; inherited members included.

    A base that is not in the schema ends the chain: the schema holds only what is used.

    Raises:
        SchemaError: a class is stated twice, or is its own base.
    """

    def __init__(self, classes: Iterable[CimClass]) -> None:
        self._stated: dict[tuple[str, str], CimClass] = {}
        for stated in classes:
            key = (stated.namespace.lower(), stated.name.lower())
            if key in self._stated:
                raise SchemaError(f"The schema states class {stated.name} in {stated.namespace} twice.")
            self._stated[key] = stated
        self._merged = {key: self._merge(stated) for key, stated in self._stated.items()}

    def _chain(self, cim_class: CimClass) -> list[CimClass]:
        """The class and its bases, the class first."""
        chain = [cim_class]
        while chain[-1].base is not None:
            base = self._stated.get((cim_class.namespace.lower(), chain[-1].base.lower()))
            if base is None:
                break
            if base in chain:
                raise SchemaError(f"Class {cim_class.name} in {cim_class.namespace} is its own base.")
            chain.append(base)
        return chain

    def _merge(self, cim_class: CimClass) -> CimClass:
        properties: dict[str, tuple[str, CimProperty]] = {}
        methods: dict[str, CimMethod] = {}
        keys: dict[str, str] = {}
        for one in reversed(self._chain(cim_class)):
            properties.update({name.lower(): (name, kind) for name, kind in one.properties.items()})
            methods.update({method.name.lower(): method for method in one.methods})
            keys.update({key.lower(): key for key in one.keys})
        return CimClass(
            name=cim_class.name,
            namespace=cim_class.namespace,
            base=cim_class.base,
            properties=dict(properties.values()),
            methods=tuple(methods.values()),
            keys=tuple(keys.values()),
        )

    def __iter__(self) -> Iterator[CimClass]:
        return iter(self._merged.values())

    def find(self, namespace: str, class_name: str) -> CimClass | None:
        """The class with all inherited members, or None when the schema does not know it."""
        return self._merged.get((normal_namespace(namespace).lower(), class_name.lower()))

    def require(self, namespace: str, class_name: str) -> CimClass:
        """Like `find`, but an unknown class raises `SchemaError`."""
        found = self.find(namespace, class_name)
        if found is None:
            raise SchemaError(
                f"The schema has no class {class_name} in {normal_namespace(namespace)}; state it before using it."
            )
        return found

    def find_by_name(self, class_name: str) -> CimClass | None:
        """The one class of that name in any namespace; `SchemaError` when several namespaces have it."""
        found = [one for (_unused, name), one in self._merged.items() if name == class_name.lower()]
        if len(found) > 1:
            namespaces = ", ".join(sorted(one.namespace for one in found))
            raise SchemaError(f"Class {class_name} is in several namespaces ({namespaces}); name the namespace.")
        return found[0] if found else None

    def is_a(self, namespace: str, class_name: str, ancestor: str) -> bool:
        """Whether the schema says that a class is, or inherits from, ``ancestor``."""
        stated = self._stated.get((normal_namespace(namespace).lower(), class_name.lower()))
        if stated is None:
            return class_name.lower() == ancestor.lower()
        chain = self._chain(stated)
        names = {one.name.lower() for one in chain} | {one.base.lower() for one in chain if one.base}
        return ancestor.lower() in names
