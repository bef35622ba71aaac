# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The CIM schema of the simulator: classes, inherited members, keys, method signatures and documented return codes.

Read from schema_data (see its README for how that was made). This file answers questions about names and types; it
knows no instances and no wire. Class, property and method lookups ignore letter case, as WMI does; parameter names
of a method call are compared exactly elsewhere.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from .cim import Instance, Ref, Value, normal_namespace

DATA = Path(__file__).parent / "schema_data"
INTEGER_RANGES = {
    "uint8": (0, 2**8 - 1), "uint16": (0, 2**16 - 1), "uint32": (0, 2**32 - 1), "uint64": (0, 2**64 - 1),
    "sint8": (-(2**7), 2**7 - 1), "sint16": (-(2**15), 2**15 - 1),
    "sint32": (-(2**31), 2**31 - 1), "sint64": (-(2**63), 2**63 - 1),
}  # fmt: skip
SYSTEM_PROPERTIES = (
    "__CLASS", "__DERIVATION", "__DYNASTY", "__GENUS", "__NAMESPACE", "__PATH", "__PROPERTY_COUNT", "__RELPATH",
    "__SERVER", "__SUPERCLASS",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Type:
    """`base` is a scalar type word, `ref` or `object`; `of` the class a reference or object is declared with.

    `embedded` names the class when a string carries an embedded instance as CIM-XML text.
    """

    base: str
    array: bool = False
    of: str = ""
    embedded: str = ""
    guessed_width: bool = False

    @classmethod
    def parse(cls, word: str) -> Type:
        guessed = word.endswith("?")
        word = word.removesuffix("?")
        array = word.endswith("[]")
        base, _unused, of = word.removesuffix("[]").partition(":")
        return cls(base=base, array=array, of=of, guessed_width=guessed)

    def __str__(self) -> str:
        return self.base + (f":{self.of}" if self.of else "") + ("[]" if self.array else "")


@dataclass(frozen=True, kw_only=True)
class Property:
    name: str
    type: Type
    declared_by: str
    values: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Parameter:
    name: str
    type: Type
    is_in: bool
    is_out: bool


@dataclass(frozen=True, kw_only=True)
class Method:
    name: str
    declared_by: str
    parameters: tuple[Parameter, ...]
    returns: Mapping[str, str]

    @property
    def inputs(self) -> dict[str, Parameter]:
        return {parameter.name: parameter for parameter in self.parameters if parameter.is_in}

    @property
    def outputs(self) -> dict[str, Parameter]:
        return {parameter.name: parameter for parameter in self.parameters if parameter.is_out}


@dataclass(frozen=True, kw_only=True)
class Class:
    """One class with everything it inherits; `properties` and `methods` by declared name, alphabetical."""

    namespace: str
    name: str
    base: str | None
    derivation: tuple[str, ...]
    properties: Mapping[str, Property]
    methods: Mapping[str, Method]
    keys: tuple[str, ...]
    singleton: bool
    source: str

    def find_property(self, name: str) -> Property | None:
        found = self.properties.get(name)
        if found is not None:
            return found
        return next((p for known, p in self.properties.items() if known.lower() == name.lower()), None)

    def find_method(self, name: str) -> Method | None:
        return next((m for known, m in self.methods.items() if known.lower() == name.lower()), None)

    @property
    def is_association(self) -> bool:
        return bool(self.keys) and all(self.properties[key].type.base == "ref" for key in self.keys)

    def is_a(self, name: str) -> bool:
        """Whether the class is `name` or derives from it."""
        wanted = name.lower()
        return self.name.lower() == wanted or any(base.lower() == wanted for base in self.derivation)


class Schema:
    """All namespaces; `shared()` is the one instance read from schema_data."""

    def __init__(self, namespaces: Mapping[str, Mapping[str, Class]]) -> None:
        self._by_name = {
            namespace: {name.lower(): entry for name, entry in classes.items()}
            for namespace, classes in namespaces.items()
        }
        self._subclasses: dict[tuple[str, str], list[Class]] = {}
        for namespace, classes in self._by_name.items():
            for entry in classes.values():
                if entry.base:
                    self._subclasses.setdefault((namespace, entry.base.lower()), []).append(entry)

    @staticmethod
    @functools.lru_cache(maxsize=1)
    def shared() -> Schema:
        return Schema(_read())

    def namespaces(self) -> list[str]:
        return sorted(self._by_name)

    def classes(self, namespace: str) -> list[Class]:
        return list(self._by_name.get(normal_namespace(namespace), {}).values())

    def find(self, namespace: str, name: str) -> Class | None:
        return self._by_name.get(normal_namespace(namespace), {}).get(name.lower())

    def get(self, namespace: str, name: str) -> Class:
        """The class; KeyError when the schema does not have it (a bug of whoever asks)."""
        found = self.find(namespace, name)
        if found is None:
            raise KeyError(f"the schema has no class {name} in {namespace}")
        return found

    def family(self, namespace: str, name: str) -> Iterator[Class]:
        """The class and all its subclasses, the class itself first."""
        found = self.find(namespace, name)
        if found is None:
            return
        yield found
        for child in self._subclasses.get((found.namespace, found.name.lower()), ()):
            yield from self.family(found.namespace, child.name)

    def check_value(self, kind: Type, value: Value, where: str) -> None:
        """Raise TypeError when a view or method hands out a value that the declared type cannot hold."""
        if value is None:
            return
        if kind.array:
            if not isinstance(value, list):
                raise TypeError(f"{where}: an array ({kind}) is needed, found {value!r}")
            for item in value:
                if item is not None:
                    self._check_scalar(kind, item, where)
            return
        self._check_scalar(kind, value, where)

    def _check_scalar(self, kind: Type, value: Any, where: str) -> None:
        if kind.base in INTEGER_RANGES:
            low, high = INTEGER_RANGES[kind.base]
            good = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
        elif kind.embedded:
            good = isinstance(value, (str, Instance))
        elif kind.base == "object":
            good = isinstance(value, Instance)
        else:
            good = isinstance(value, _PYTHON_TYPES[kind.base])
            if kind.base == "datetime" and isinstance(value, datetime):
                good = value.tzinfo is not None
            if kind.base == "char16":
                good = good and len(value) <= 1
        if not good:
            raise TypeError(f"{where}: {kind} is needed, found {value!r}")


_PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "char16": (str,),
    "boolean": (bool,),
    "datetime": (datetime, timedelta),
    "ref": (Ref,),
    "real32": (int, float),
    "real64": (int, float),
}


def _read() -> dict[str, dict[str, Class]]:
    raw = _raw_classes()
    corrections = _load("corrections.json")
    embedded = _load("embedded.json")
    keys = _load("keys.json")
    out: dict[str, dict[str, Class]] = {}
    for namespace, classes in raw.items():
        reader = _NamespaceReader(
            namespace=namespace,
            raw=classes,
            corrections={k.lower(): v[0] for k, v in corrections.get(namespace, {}).items()},
            embedded={k.lower(): v for k, v in embedded.get(namespace, {}).items()},
            keys={k.lower(): v[0] for k, v in {**keys["keys"]["*"], **keys["keys"].get(namespace, {})}.items()},
            singletons={name.lower() for name in keys["singletons"].get(namespace, ())},
        )
        out[namespace] = {name: reader.build(name) for name in classes}
    return out


def _load(name: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((DATA / name).read_text(encoding="utf-8"))
    return data


HAND_WRITTEN = ("keys.json", "corrections.json", "embedded.json", "additions.json")


def _raw_classes() -> dict[str, dict[str, dict[str, Any]]]:
    raw: dict[str, dict[str, dict[str, Any]]] = {}
    for path in sorted(DATA.glob("*.json")):
        if path.name in HAND_WRITTEN:
            continue
        data = _load(path.name)
        raw[data["namespace"]] = {name: {**entry, "source": data["source"]} for name, entry in data["classes"].items()}
    additions = _load("additions.json")
    for namespace in additions.pop("empty namespaces"):
        raw.setdefault(namespace, {})
    additions.pop("about")
    everywhere = additions.pop("*")
    for namespace, classes in additions.items():
        for name, entry in classes.items():
            if "like" in entry:
                raw.setdefault(namespace, {})[name] = {**raw[entry["like"]][name], "source": entry["source"]}
            else:
                raw.setdefault(namespace, {})[name] = entry
    for classes in raw.values():
        for name, entry in everywhere.items():
            classes.setdefault(name, entry)
    return raw


@dataclass(kw_only=True)
class _NamespaceReader:
    namespace: str
    raw: Mapping[str, dict[str, Any]]
    corrections: Mapping[str, str]
    embedded: Mapping[str, str]
    keys: Mapping[str, list[str]]
    singletons: set[str]
    built: dict[str, Class] = field(default_factory=dict)

    def build(self, name: str) -> Class:
        if name in self.built:
            return self.built[name]
        entry = self.raw[name]
        base_name: str | None = entry.get("base")
        base = self.build(base_name) if base_name is not None and base_name in self.raw else None
        properties = dict(base.properties) if base else {}
        values = entry.get("values", {})
        for property_name, word in entry.get("properties", {}).items():
            properties = {k: v for k, v in properties.items() if k.lower() != property_name.lower()}
            properties[property_name] = Property(
                name=property_name,
                type=self._type(word, f"{name}.{property_name}"),
                declared_by=name,
                values=values.get(property_name, {}),
            )
        methods = dict(base.methods) if base else {}
        for method_name, spec in entry.get("methods", {}).items():
            methods[method_name] = self._method(name, method_name, spec)
        keys = self.keys.get(name.lower())
        made = Class(
            namespace=self.namespace,
            name=name,
            base=base_name,
            derivation=((base.name, *base.derivation) if base else ((base_name,) if base_name else ())),
            properties=dict(sorted(properties.items(), key=lambda item: item[0].lower())),
            methods=dict(sorted(methods.items())),
            keys=tuple(sorted(keys, key=str.lower)) if keys is not None else (base.keys if base else ()),
            singleton=name.lower() in self.singletons or (base is not None and base.singleton),
            source=entry["source"],
        )
        missing = [key for key in made.keys if key not in made.properties]
        if missing:
            raise ValueError(f"{self.namespace}:{name} has no property {', '.join(missing)} to be its key")
        self.built[name] = made
        return made

    def _method(self, class_name: str, name: str, spec: Mapping[str, Any]) -> Method:
        parameters = []
        for row in spec["parameters"]:
            way, parameter, word = row.split(" ")
            kind = self._type(word, f"{class_name}.{name}.{parameter}")
            general = self.embedded.get(parameter.lower())
            if general and kind.base == "string" and not kind.embedded:
                kind = Type(base="string", array=kind.array, embedded=general)
            parameters.append(
                Parameter(name=parameter, type=kind, is_in="in" in way.split(",")[0], is_out="out" in way)
            )
        return Method(name=name, declared_by=class_name, parameters=tuple(parameters), returns=spec.get("returns", {}))

    def _type(self, word: str, where: str) -> Type:
        kind = Type.parse(self.corrections.get(where.lower(), word))
        of_class = self.embedded.get(where.lower())
        if of_class:
            return Type(base=kind.base, array=kind.array, embedded=of_class)
        return kind
