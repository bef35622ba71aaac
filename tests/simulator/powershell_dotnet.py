# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a PowerShell script reaches .NET: members, overloads, indexing, language mode; and the register of known classes.

Classes declare their members here (`static`, `method`, `constructor`, `getter`): powershell_classes.py and
powershell_streams.py. What is not declared does not exist: the script gets the error that PowerShell gives for a member
that a type lacks. Source: Language Specification 3.0, 7.1; about_Language_Modes; texts of errors as PowerShell 5.1 has them.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from .powershell_operators import formatted
from .powershell_values import (
    ENUMERATIONS,
    Array,
    Byte,
    Char,
    CustomObject,
    DictionaryEntry,
    Enum,
    ErrorRecord,
    GenericList,
    Hashtable,
    NetException,
    NetObject,
    PowerShellError,
    ScriptBlock,
    Thrown,
    TypeRef,
    convert,
    exception,
    is_instance,
    is_number,
    know_type,
    runtime_error,
    sequence,
    thrown,
    to_integer,
    to_text,
    type_of,
)

VOID = object()
"""What a method without a result gives."""

Function = Callable[..., Any]
STATIC: dict[tuple[str, str], list[tuple[tuple[str, ...], Function]]] = {}
METHODS: dict[tuple[str, str], list[tuple[tuple[str, ...], Function]]] = {}
CONSTRUCTORS: dict[str, list[tuple[tuple[str, ...], Function]]] = {}
GETTERS: dict[tuple[str, str], Function] = {}
SETTERS: dict[tuple[str, str], Function] = {}
STATIC_GETTERS: dict[tuple[str, str], Function] = {}
PARENTS: dict[str, str] = {}

CORE_TYPES = {
    *(
        "System.Array",
        "System.Boolean",
        "System.Byte",
        "System.Char",
        "System.DateTime",
        "System.Decimal",
        "System.Double",
    ),
    *("System.Single", "System.Guid", "System.Collections.Hashtable", "System.Int32", "System.Int16", "System.Int64"),
    *(
        "System.String",
        "System.SByte",
        "System.TimeSpan",
        "System.UInt16",
        "System.UInt32",
        "System.UInt64",
        "System.Object",
    ),
    *("System.Management.Automation.PSCustomObject", "System.Management.Automation.ScriptBlock", "System.Void"),
    *(
        "System.Management.Automation.SwitchParameter",
        "System.Collections.Specialized.OrderedDictionary",
        "System.Version",
    ),
    *(
        "System.Management.Automation.PSObject",
        "System.Text.RegularExpressions.Regex",
        "System.Type",
        "System.RuntimeType",
    ),
}
"""Types that ConstrainedLanguage mode allows (about_Language_Modes)."""


# -- declaring -------------------------------------------------------------------------------------------------------------


def static(type_name: str, name: str, *signature: str) -> Callable[[Function], Function]:
    know_type(type_name)

    def declare(function: Function) -> Function:
        STATIC.setdefault((type_name, name.lower()), []).append((signature, function))
        return function

    return declare


def method(type_name: str, name: str, *signature: str) -> Callable[[Function], Function]:
    know_type(type_name)

    def declare(function: Function) -> Function:
        METHODS.setdefault((type_name, name.lower()), []).append((signature, function))
        return function

    return declare


def constructor(type_name: str, *signature: str) -> Callable[[Function], Function]:
    know_type(type_name)

    def declare(function: Function) -> Function:
        CONSTRUCTORS.setdefault(type_name, []).append((signature, function))
        return function

    return declare


def getter(type_name: str, name: str) -> Callable[[Function], Function]:
    know_type(type_name)

    def declare(function: Function) -> Function:
        GETTERS[type_name, name.lower()] = function
        return function

    return declare


def setter(type_name: str, name: str) -> Callable[[Function], Function]:
    def declare(function: Function) -> Function:
        SETTERS[type_name, name.lower()] = function
        return function

    return declare


def static_getter(type_name: str, name: str) -> Callable[[Function], Function]:
    know_type(type_name)

    def declare(function: Function) -> Function:
        STATIC_GETTERS[type_name, name.lower()] = function
        return function

    return declare


def inherits(type_name: str, parent: str) -> None:
    know_type(type_name)
    know_type(parent)
    PARENTS[type_name] = parent


def lineage(name: str) -> list[str]:
    found = [name]
    while name in PARENTS:
        name = PARENTS[name]
        found.append(name)
    return found


# -- choosing --------------------------------------------------------------------------------------------------------------


def _fits(value: Any, wanted: str) -> bool:
    if wanted == "System.Object" or value is None:
        return True
    return is_instance(value, wanted)


def choose(
    name: str, candidates: list[tuple[tuple[str, ...], Function]], arguments: list[Any]
) -> tuple[Function, list[Any]]:
    """The overload for some arguments and the arguments as it wants them; raises PowerShellError."""
    count = len(arguments)
    found = [one for one in candidates if len(one[0]) == count]
    if not found:
        raise no_overload(name, count)
    for signature, function in found:
        if all(_fits(value, wanted) for value, wanted in zip(arguments, signature, strict=True)):
            return function, [
                convert(v, w) if v is not None else _null(w) for v, w in zip(arguments, signature, strict=True)
            ]
    problem: PowerShellError | None = None
    for signature, function in found:
        converted: list[Any] = []
        for number, (value, wanted) in enumerate(zip(arguments, signature, strict=True)):
            try:
                converted.append(convert(value, wanted))
            except PowerShellError as failure:
                problem = runtime_error(
                    "MethodArgumentConversionInvalidCastArgument",
                    f'Cannot convert argument "{number}", with value: "{to_text(value)}", for "{name}" to type'
                    f' "{wanted}": "{failure.record.message()}"',
                    category="NotSpecified",
                    kind="System.Management.Automation.MethodException",
                )
                break
        else:
            return function, converted
    if len(found) == 1 and problem is not None:
        raise problem
    raise no_overload(name, count)


def _null(wanted: str) -> Any:
    """What $null becomes for a parameter."""
    if wanted in ("System.String",):
        return ""
    if wanted.startswith("System.") and wanted in CORE_TYPES and wanted not in ("System.Object", "System.Array"):
        return convert(None, wanted)
    return None


def no_overload(name: str, count: int) -> PowerShellError:
    return runtime_error(
        "MethodCountCouldNotFindBest",
        f'Cannot find an overload for "{name}" and the argument count: "{count}".',
        category="NotSpecified",
        kind="System.Management.Automation.MethodException",
    )


def no_method(type_name: str, name: str) -> PowerShellError:
    return runtime_error(
        "MethodNotFound",
        f"Method invocation failed because [{type_name}] does not contain a method named '{name}'.",
        target=name,
    )


def no_property(name: str) -> PowerShellError:
    return runtime_error(
        "PropertyNotFoundStrict",
        f"The property '{name}' cannot be found on this object. Verify that the property exists.",
        category="NotSpecified",
        kind="System.Management.Automation.PropertyNotFoundException",
    )


def method_failed(name: str, count: int, inner: NetException) -> PowerShellError:
    """A .NET exception as PowerShell shows it."""
    problem = exception(
        "System.Management.Automation.MethodInvocationException",
        f'Exception calling "{name}" with "{count}" argument(s): "{inner.text}"',
        inner=inner,
    )
    return PowerShellError(ErrorRecord(problem, inner.kind.rpartition(".")[2], "NotSpecified"))


def allow_conversion(wanted: str) -> None:
    if wanted.removesuffix("[]") not in CORE_TYPES:
        raise runtime_error(
            "ConversionSupportedOnlyToCoreTypes",
            f'Cannot convert value to type "{wanted}". Only core types are supported in this language mode.',
        )


def _allow_call(type_name: str) -> None:
    if type_name.removesuffix("[]") not in CORE_TYPES:
        raise runtime_error(
            "MethodInvocationNotSupportedInConstrainedLanguage",
            "Cannot invoke method. Method invocation is supported only on core types in this language mode.",
        )


# -- static members and construction -------------------------------------------------------------------------------------------


def static_member(ps: Any, target: Any, name: str) -> Any:
    if not isinstance(target, TypeRef):
        return member(ps, target, name)
    function = STATIC_GETTERS.get((target.name, name.lower()))
    if function is not None:
        if ps.constrained and target.name not in CORE_TYPES:
            raise runtime_error(
                "PropertyGetterNotSupportedInConstrainedLanguage",
                "Cannot get property value. Only core types are supported in this language mode.",
            )
        return function(ps)
    entry = ENUMERATIONS.get(target.name)
    if entry is not None:
        for one, value in entry.members.items():
            if one.lower() == name.lower():
                return Enum(target.name, one, value)
    if ps.strict >= 2:
        raise no_property(name)
    return None


def static_call(ps: Any, target: Any, name: str, arguments: list[Any]) -> Any:
    if not isinstance(target, TypeRef):
        raise no_method(type_of(target), name)
    if ps.constrained:
        _allow_call(target.name)
    if name.lower() == "new":
        return construct(ps, target, arguments)
    for owner in lineage(target.name):
        candidates = STATIC.get((owner, name.lower()))
        if candidates is not None:
            function, converted = choose(name, candidates, arguments)
            return function(ps, *converted)
    if name.lower() in ("equals", "referenceequals") and len(arguments) == 2:
        return same(arguments[0], arguments[1])
    raise no_method(target.name, name)


def same(one: Any, two: Any) -> bool:
    """Object.Equals: values by value, arrays and objects by reference."""
    if isinstance(one, Array | GenericList | Hashtable | CustomObject | NetObject | ScriptBlock):
        return one is two
    return type_of(one) == type_of(two) and bool(one == two)


def construct(ps: Any, target: TypeRef, arguments: list[Any]) -> Any:
    """new: raises Thrown for what the constructor refuses."""
    name = target.name
    if name.endswith("[]"):
        if len(arguments) != 1:
            raise no_overload(target.name, len(arguments))
        return new_array(name[:-2], int(to_integer(arguments[0], "System.Int32")))
    if name.startswith("System.Collections.Generic.List`1["):
        items = arguments[0] if arguments else None
        element = name[len("System.Collections.Generic.List`1[") : -1]
        return GenericList([] if is_number(items) else [convert(one, element) for one in sequence(items)], element)
    candidates = CONSTRUCTORS.get(name)
    if candidates is not None:
        function, converted = choose(name.rpartition(".")[2], candidates, arguments)
        return function(ps, *converted)
    from .powershell_values import EXCEPTION_BASES

    if name in EXCEPTION_BASES or name == "System.Exception":
        text = to_text(arguments[0]) if arguments else f"Exception of type '{name}' was thrown."
        inner = arguments[1] if len(arguments) > 1 and isinstance(arguments[1], NetException) else None
        return exception(name, text, inner=inner)
    raise runtime_error(
        "ConstructorInvokedThrowException",
        f"A constructor was not found. Cannot find an appropriate constructor for type {name}.",
        category="NotSpecified",
    )


MAXIMUM_BYTES = 1 << 30


def new_array(element: str, count: int) -> Array:
    if count < 0:
        raise thrown("System.OverflowException", "Arithmetic operation resulted in an overflow.")
    if count > (MAXIMUM_BYTES if element == "System.Byte" else 8_000_000):
        raise thrown("System.OutOfMemoryException", "Exception of type 'System.OutOfMemoryException' was thrown.")
    if element == "System.Byte":
        return Array(bytes(count), element)
    try:
        initial = (
            convert(None, element)
            if element in CORE_TYPES and element not in ("System.Object", "System.String")
            else None
        )
    except PowerShellError:
        initial = None
    return Array([initial] * count, element)


# -- instance members ------------------------------------------------------------------------------------------------------------


def member(ps: Any, target: Any, name: str) -> Any:
    """A property of a value."""
    lowered = name.lower()
    if target is None:
        if ps.strict >= 2:
            raise no_property(name)
        return 0 if lowered in ("count", "length") else None
    if isinstance(target, Hashtable):
        if target.has(name):
            return target.get(name)
        if lowered in ("count", "keys", "values"):
            return _table_part(target, lowered)
        return _absent(ps, name)
    if isinstance(target, CustomObject):
        if lowered in target.properties:
            return target.properties[lowered][1]
        if lowered == "psobject":
            return CustomObject(
                [("Properties", Array([CustomObject([("Name", n), ("Value", v)]) for n, v in target.pairs()]))]
            )
        return _absent(ps, name, count=lowered in ("count", "length"))
    if isinstance(target, Array | GenericList):
        if lowered == "count" or (lowered in ("length", "longlength") and isinstance(target, Array)):
            return len(target)
        if lowered in ("rank", "isreadonly", "isfixedsize", "syncroot"):
            return 1 if lowered == "rank" else isinstance(target, Array) and lowered == "isfixedsize"
        if lowered == "capacity" and isinstance(target, GenericList):
            return max(4, len(target))
        found = []
        for one in target:
            try:
                found.append(member(_Lenient(ps), one, name) if not _has(one, lowered) else member(ps, one, name))
            except PowerShellError:
                continue
        present = [one for one, item in zip(found, target, strict=False) if one is not None or _has(item, lowered)]
        if not present:
            return _absent(ps, name)
        return present[0] if len(present) == 1 else Array(present)
    if isinstance(target, DictionaryEntry) and lowered in ("key", "name", "value"):
        return target.value if lowered == "value" else target.key
    if isinstance(target, ErrorRecord):
        return _record_part(ps, target, lowered, name)
    if isinstance(target, NetException):
        return _exception_part(ps, target, lowered, name)
    if isinstance(target, str) and lowered == "length" and not isinstance(target, Char):
        return len(target)
    if isinstance(target, TypeRef) and lowered in ("name", "fullname", "basetype", "isarray"):
        short = target.name.rpartition(".")[2]
        return {"name": short, "fullname": target.name, "isarray": target.name.endswith("[]")}.get(lowered)
    if isinstance(target, Enum) and lowered == "value__":
        return target.value
    for owner in lineage(type_of(target)):
        function = GETTERS.get((owner, lowered))
        if function is not None:
            try:
                return function(ps, target)
            except Thrown as problem:
                failed = exception(
                    "System.Management.Automation.GetValueInvocationException",
                    f'Exception getting "{name}": "{problem.value.text}"',
                    inner=problem.value,
                )
                raise PowerShellError(ErrorRecord(failed, "ExceptionWhenGetting", "NotSpecified")) from problem
    return _absent(ps, name, count=lowered in ("count", "length"))


class _Lenient:
    def __init__(self, ps: Any) -> None:
        self.strict = 0
        self.constrained = ps.constrained


def _has(value: Any, lowered: str) -> bool:
    if isinstance(value, CustomObject):
        return lowered in value.properties
    if isinstance(value, Hashtable):
        return value.has(lowered)
    return any((owner, lowered) in GETTERS for owner in lineage(type_of(value)))


def _absent(ps: Any, name: str, *, count: bool = False) -> Any:
    if ps.strict >= 2:
        raise no_property(name)
    return 1 if count else None


def _table_part(table: Hashtable, lowered: str) -> Any:
    if lowered == "count":
        return len(table)
    return Array([key if lowered == "keys" else value for key, value in table.items()])


def _record_part(ps: Any, record: ErrorRecord, lowered: str, name: str) -> Any:
    parts: dict[str, Any] = {
        "exception": record.exception,
        "fullyqualifiederrorid": record.identifier + (f",{record.command}" if record.command else ""),
        "targetobject": record.target,
        "categoryinfo": CustomObject([("Category", record.category), ("Activity", record.command)]),
        "errordetails": None,
        "scriptstacktrace": "at <ScriptBlock>, <No file>: line 1",
    }
    if lowered == "invocationinfo":
        before = ps.text[: max(record.at, 0)]
        place = "\n".join(ps.position(record.at, record.end)) if record.at >= 0 else ""
        pairs = [
            ("ScriptLineNumber", before.count("\n") + 1),
            ("PositionMessage", place),
            ("Line", place.split("\n")[1][2:] if place else ""),
        ]
        return CustomObject(pairs)
    return parts[lowered] if lowered in parts else _absent(ps, name)


def _exception_part(ps: Any, problem: NetException, lowered: str, name: str) -> Any:
    parts: dict[str, Any] = {
        "message": problem.text,
        "innerexception": problem.inner,
        "hresult": problem.hresult,
        "paramname": problem.parameter,
        "stacktrace": None,
        "source": "mscorlib",
        "nativeerrorcode": problem.hresult & 0xFFFF,
    }
    return parts[lowered] if lowered in parts else _absent(ps, name)


def set_member(ps: Any, target: Any, name: str, value: Any) -> None:
    if isinstance(target, Hashtable):
        target.set(name, value)
        return
    if isinstance(target, CustomObject):
        if name.lower() in target.properties:
            target.put(name, value)
            return
    elif target is not None:
        for owner in lineage(type_of(target)):
            function = SETTERS.get((owner, name.lower()))
            if function is not None:
                if ps.constrained and owner not in CORE_TYPES:
                    raise runtime_error(
                        "PropertySetterNotSupportedInConstrainedLanguage",
                        "Cannot set property. Property setting is supported only on core types in this language mode.",
                    )
                try:
                    function(ps, target, value)
                except Thrown as problem:
                    failed = exception(
                        "System.Management.Automation.SetValueInvocationException",
                        f'Exception setting "{name}": "{problem.value.text}"',
                        inner=problem.value,
                    )
                    raise PowerShellError(ErrorRecord(failed, "ExceptionWhenSetting", "NotSpecified")) from problem
                return
    raise runtime_error(
        "PropertyNotFound",
        f"The property '{name}' cannot be found on this object. Verify that the property exists and can be set.",
    )


def call(ps: Any, target: Any, name: str, arguments: list[Any]) -> Any:
    """A method of a value; raises Thrown for what .NET throws."""
    lowered = name.lower()
    if target is None:
        raise runtime_error("InvokeMethodOnNull", "You cannot call a method on a null-valued expression.")
    if ps.constrained:
        _allow_call(type_of(target))
    for owner in lineage(type_of(target)):
        candidates = METHODS.get((owner, lowered))
        if candidates is not None and not _only_generic(candidates, lowered, len(arguments)):
            function, converted = choose(name, candidates, arguments)
            return function(ps, target, *converted)
    generic = _GENERIC.get((lowered, len(arguments)))
    if generic is not None:
        result = generic(ps, target, *arguments)
        if result is not NotImplemented:
            return result
    if isinstance(target, CustomObject | Hashtable):
        block = target.get(name) if isinstance(target, Hashtable) else target.properties.get(lowered, ("", None))[1]
        if isinstance(block, ScriptBlock):
            return call(ps, block, "Invoke", arguments)
    members = target if isinstance(target, Array | GenericList) and lowered not in ("add", "remove") else ()
    if len(members) and all((type_of(one), lowered) in METHODS for one in members):
        return Array([call(ps, one, name, arguments) for one in members])
    raise no_method(type_of(target), name)


def _only_generic(candidates: list[tuple[tuple[str, ...], Function]], lowered: str, count: int) -> bool:
    """Whether what is asked for is a member that every object has, beside overloads of another length."""
    return (lowered, count) in _GENERIC and not any(len(signature) == count for signature, _function in candidates)


def _text_of(ps: Any, target: Any, *arguments: Any) -> Any:
    if not arguments:
        if isinstance(target, Array | GenericList | Hashtable):
            return type_of(target)
        return "" if isinstance(target, CustomObject) else to_text(target)
    if is_number(target) or isinstance(target, datetime | timedelta | Enum):
        try:
            return formatted(target, to_text(arguments[0]))
        except PowerShellError as problem:
            raise thrown("System.FormatException", "Format specifier was invalid.") from problem
    return NotImplemented


def _compare_to(ps: Any, target: Any, other: Any) -> Any:
    if is_number(target) or isinstance(target, str | datetime | timedelta):
        other = convert(other, type_of(target))
        return (target > other) - (target < other)
    return NotImplemented


_GENERIC: dict[tuple[str, int], Function] = {
    ("tostring", 0): _text_of,
    ("tostring", 1): _text_of,
    ("gettype", 0): lambda _ps, target: TypeRef(type_of(target)),
    ("equals", 1): lambda _ps, target, other: same(target, other),
    ("gethashcode", 0): lambda _ps, target: hash(str(target)) & 0x7FFFFFFF,
    ("compareto", 1): _compare_to,
    ("getbaseexception", 0): lambda _ps, t: t.base() if isinstance(t, NetException) else NotImplemented,
}


# -- indexing ----------------------------------------------------------------------------------------------------------------------


def index(ps: Any, target: Any, where: Any) -> Any:
    if target is None:
        raise runtime_error("NullArray", "Cannot index into a null array.")
    if isinstance(target, Hashtable):
        if isinstance(where, Array):
            return Array([target.get(one) for one in where])
        if target.ordered and isinstance(where, int) and not isinstance(where, bool):
            entries = target.items()
            return entries[where][1] if -len(entries) <= where < len(entries) else None
        return target.get(where)
    if isinstance(where, Array | GenericList):
        found = [one for one in (_item(ps, target, i, many=True) for i in where) if one is not VOID]
        return Array(found)
    return _item(ps, target, where)


def _item(ps: Any, target: Any, where: Any, *, many: bool = False) -> Any:
    number = int(to_integer(where, "System.Int32"))
    if isinstance(target, str):
        if -len(target) <= number < len(target):
            return Char(target[number])
    elif isinstance(target, Array | GenericList):
        count = len(target)
        if -count <= number < count and not (isinstance(target, GenericList) and number < -count):
            return target.get(number)
        if isinstance(target, GenericList) and not many:
            raise runtime_error(
                "System.ArgumentOutOfRangeException",
                "Index was out of range. Must be non-negative and less than the size of the collection.\nParameter name: index",
                category="OperationStopped",
                kind="System.ArgumentOutOfRangeException",
            )
    elif number == 0 and is_number(target) is False and not isinstance(target, NetObject):
        raise runtime_error("CannotIndex", f"Unable to index into an object of type {type_of(target)}.")
    else:
        raise runtime_error("CannotIndex", f"Unable to index into an object of type {type_of(target)}.")
    if ps.strict >= 3:
        raise runtime_error(
            "System.IndexOutOfRangeException",
            "Index was outside the bounds of the array.",
            category="OperationStopped",
            kind="System.IndexOutOfRangeException",
        )
    return VOID if many else None


def set_index(ps: Any, target: Any, where: Any, value: Any) -> None:
    if target is None:
        raise runtime_error("NullArray", "Cannot index into a null array.")
    if isinstance(target, Hashtable):
        target.set(where, value)
        return
    if not isinstance(target, Array | GenericList):
        raise runtime_error("CannotIndex", f"Unable to index into an object of type {type_of(target)}.")
    number = int(to_integer(where, "System.Int32"))
    if not -len(target) <= number < len(target):
        raise runtime_error(
            "System.IndexOutOfRangeException",
            "Index was outside the bounds of the array.",
            category="OperationStopped",
            kind="System.IndexOutOfRangeException",
        )
    item = convert(value, target.element)
    target.items[number] = int(item) if isinstance(item, Byte) and isinstance(target.items, bytearray) else item
