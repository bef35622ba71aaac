# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cmdlets of Windows PowerShell 5.1 that scripts on simulated machines may use; others are "not recognized".

Each takes all of its input at once. Texts and defaults (encodings, depth 2 of ConvertTo-Json) are those of 5.1.
Source: the cmdlet reference (MicrosoftDocs/PowerShell-Docs, 5.1).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from .powershell_classes import OBJECT, STRING
from .powershell_commands import CMDLETS, COMMAND_ALIASES, Call, Cmdlet
from .powershell_dotnet import CORE_TYPES, construct, member, method_failed, static
from .powershell_operators import compare, date_text, order
from .powershell_output import from_json, lines_of, to_json
from .powershell_scopes import Emit, Step
from .powershell_streams import create_file
from .powershell_values import (
    Array,
    CustomObject,
    ErrorRecord,
    Hashtable,
    NetException,
    PowerShellError,
    ScriptBlock,
    Thrown,
    TypeRef,
    convert,
    exception,
    resolve_type,
    runtime_error,
    sequence,
    to_bool,
    to_integer,
    to_text,
)
from .processes import Pause, encode_text

Run = Callable[[Any, Call, "list[Any] | None", Emit], Any]


def cmdlet(
    name: str, *positional: str, named: tuple[str, ...] = (), switches: tuple[str, ...] = (), aliases: tuple[str, ...] = (),
    other_names: tuple[tuple[str, str], ...] = (), rest: str = "",
) -> Callable[[Run], Run]:  # fmt: skip
    def declare(function: Run) -> Run:
        CMDLETS[name.lower()] = Cmdlet(
            name=name,
            run=function,
            positional=positional,
            named=named,
            switches=switches,
            other_names=other_names,
            rest=rest,
        )
        for alias in aliases:
            COMMAND_ALIASES[alias] = name.lower()
        return function

    return declare


def given_to(call: Call, name: str, given: list[Any] | None) -> list[Any]:
    """The objects of a parameter that also comes by pipeline."""
    return sequence(call.get(name)) if call.has(name) else list(given or [])


# -- the session -----------------------------------------------------------------------------------------------------------


@cmdlet("Set-StrictMode", named=("Version",), switches=("Off",))
def set_strict_mode(ps: Any, call: Call, _given: Any, _emit: Emit) -> None:
    if call.on("Off"):
        ps.strict = 0
        return
    text = to_text(call.get("Version", "")).lower()
    if text != "latest" and not re.fullmatch(r"[123](\.0)?", text):
        raise runtime_error(
            "ParameterArgumentTransformationError",
            f"Cannot process argument transformation on parameter 'Version'. The value '{text}' is not a version of strict mode.",
            category="InvalidData",
        )
    ps.strict = 3 if text == "latest" else int(text[0])


@cmdlet("Write-Output", switches=("NoEnumerate",), rest="InputObject", aliases=("echo", "write"))
def write_output(_ps: Any, call: Call, given: list[Any] | None, emit: Emit) -> None:
    if call.on("NoEnumerate"):
        emit(call.get("InputObject"))
        return
    for one in given_to(call, "InputObject", given):
        emit(one)


@cmdlet("Out-Null", named=("InputObject",))
def out_null(_ps: Any, _call: Call, _given: Any, _emit: Emit) -> None:
    return None


@cmdlet("Out-String", named=("InputObject", "Width"), switches=("Stream",))
def out_string(ps: Any, call: Call, given: list[Any] | None, emit: Emit) -> None:
    lines = [line for one in given_to(call, "InputObject", given) for line in lines_of(ps, one)]
    if call.on("Stream"):
        for line in lines:
            emit(line)
        return
    emit("".join(f"{line}\r\n" for line in lines))


def _host(ps: Any, text: str) -> None:
    ps.process.stdout.write(encode_text(text, ps.process.code_page))


@cmdlet("Write-Host", named=("ForegroundColor", "BackgroundColor", "Separator"), switches=("NoNewline",), rest="Object")
def write_host(ps: Any, call: Call, given: list[Any] | None, _emit: Emit) -> None:
    separator = to_text(call.get("Separator", " "))
    for one in [call.get("Object")] if call.has("Object") else given or [""]:
        _host(ps, to_text(one, separator) + ("" if call.on("NoNewline") else "\n"))


@cmdlet("Write-Warning", "Message")
def write_warning(ps: Any, call: Call, given: list[Any] | None, _emit: Emit) -> None:
    for one in given_to(call, "Message", given):
        if to_text(ps.get("WarningPreference")).lower() not in ("silentlycontinue", "ignore"):
            _host(ps, f"WARNING: {to_text(one)}\n")


@cmdlet("Write-Verbose", "Message")
def write_verbose(ps: Any, call: Call, _given: Any, _emit: Emit) -> None:
    if to_text(ps.get("VerbosePreference")).lower() == "continue":
        _host(ps, f"VERBOSE: {to_text(call.get('Message'))}\n")


@cmdlet(
    "Write-Progress", "Activity", "Status", named=("PercentComplete", "Id", "CurrentOperation"), switches=("Completed",)
)
def write_progress(_ps: Any, _call: Call, _given: Any, _emit: Emit) -> None:
    """A console program without a window draws no bar."""


@cmdlet("Write-Error", "Message", named=("Exception", "ErrorId", "Category", "TargetObject", "ErrorRecord"))
def write_error(ps: Any, call: Call, given: list[Any] | None, _emit: Emit) -> None:
    problem = call.get("Exception")
    for one in (
        [None] if isinstance(problem, NetException) and not call.has("Message") else given_to(call, "Message", given)
    ):
        text = problem.text if one is None and isinstance(problem, NetException) else to_text(one)
        value = (
            problem
            if isinstance(problem, NetException)
            else exception("Microsoft.PowerShell.Commands.WriteErrorException", text)
        )
        identifier = to_text(call.get("ErrorId")) if call.has("ErrorId") else value.kind
        call.error(ps, value, identifier, to_text(call.get("Category", "NotSpecified")))


@cmdlet("Start-Sleep", "Seconds", named=("Milliseconds",), aliases=("sleep",))
def start_sleep(ps: Any, call: Call, _given: Any, _emit: Emit) -> Step:
    seconds = (
        float(convert(call.get("Seconds", 0), "System.Double"))
        + int(to_integer(call.get("Milliseconds", 0), "System.Int32")) / 1000
    )
    if ps.drained:
        ps.machine.world.clock.advance(seconds)
    elif seconds > 0:
        yield Pause(ps.machine.now(), seconds, 1)


@cmdlet("Get-Date", named=("Format", "UFormat"))
def get_date(ps: Any, call: Call, _given: Any, emit: Emit) -> None:
    now = ps.machine.local_now().replace(tzinfo=None)
    emit(date_text(now, to_text(call.get("Format"))) if call.has("Format") else now)


@cmdlet("New-TimeSpan", named=("Seconds", "Minutes", "Hours", "Days"))
def new_time_span(_ps: Any, call: Call, _given: Any, emit: Emit) -> None:
    emit(
        timedelta(
            **{
                unit: float(convert(call.get(unit, 0), "System.Double"))
                for unit in ("seconds", "minutes", "hours", "days")
            }
        )
    )


@cmdlet(
    "New-Object", "TypeName", "ArgumentList", named=("Property", "ComObject"), other_names=(("Args", "ArgumentList"),)
)
def new_object(ps: Any, call: Call, _given: Any, emit: Emit) -> None:
    name = to_text(call.get("TypeName"))
    if call.has("ComObject"):
        raise runtime_error(
            "NoCOMClassIdentified", "The simulator has no COM objects for scripts.", category="ResourceUnavailable"
        )
    if re.fullmatch(r"(?:System\.)?(?:Management\.Automation\.)?PSObject|PSCustomObject", name, re.IGNORECASE):
        table = call.get("Property")
        emit(CustomObject(table.items() if isinstance(table, Hashtable) else ()))
        return
    found = resolve_type(name)
    if found is None:
        record = ErrorRecord(
            exception(
                "System.Management.Automation.PSArgumentException",
                f"Cannot find type [{name}]: verify that the assembly containing this type is loaded.",
            ),
            "TypeNotFound,Microsoft.PowerShell.Commands.NewObjectCommand",
            "InvalidType",
            None,
            "New-Object",
            call.at,
            call.end,
        )
        raise PowerShellError(record)
    if ps.constrained and found.name.removesuffix("[]") not in CORE_TYPES:
        raise runtime_error(
            "CannotCreateTypeConstrainedLanguage",
            "Cannot create type. Only core types are supported in this language mode.",
            category="PermissionDenied",
        )
    arguments = call.get("ArgumentList")
    given = (
        list(arguments)
        if isinstance(arguments, Array) and arguments.element == "System.Object"
        else ([arguments] if call.has("ArgumentList") else [])
    )
    try:
        emit(construct(ps, found, given))
    except Thrown as problem:
        raise method_failed(".ctor", len(given), problem.value) from problem


_IMPORT = re.compile(
    r"\[DllImport\(\s*\"kernel32(?:\.dll)?\"(?P<options>[^\]]*)\)\]\s*public\s+static\s+extern\s+(?P<result>[\w.]+)\s+"
    r"(?P<name>\w+)\s*\((?P<parameters>[^)]*)\)\s*;",
    re.IGNORECASE,
)


@cmdlet(
    "Add-Type",
    "TypeDefinition",
    named=("AssemblyName", "MemberDefinition", "Name", "Namespace"),
    switches=("PassThru",),
)
def add_type(ps: Any, call: Call, _given: Any, emit: Emit) -> None:
    """No compiler: -AssemblyName, and a -MemberDefinition that is kernel32's CreateFile with a SafeFileHandle."""
    if call.has("AssemblyName"):
        return
    definition = to_text(call.get("MemberDefinition", ""))
    found = list(_IMPORT.finditer(definition))
    known = [one for one in found if _is_create_file(one)]
    if ps.constrained:
        raise runtime_error(
            "CannotDefineNewType",
            "Cannot add type. Definition of new types is not supported in this language mode.",
            category="PermissionDenied",
        )
    if not call.has("MemberDefinition") or len(known) != len(found) or _IMPORT.sub("", definition).strip() or not found:
        raise runtime_error(
            "NotSimulated",
            "The simulator compiles no C#: of -MemberDefinition it knows kernel32's CreateFile that returns a SafeFileHandle.",
            category="NotImplemented",
        )
    space = to_text(call.get("Namespace", "Microsoft.PowerShell.Commands.AddType.AutoGeneratedTypes"))
    name = f"{space}.{to_text(call.get('Name'))}"
    for one in known:
        static(name, one["name"], STRING, *(["System.UInt32"] * 2), OBJECT, *(["System.UInt32"] * 2), OBJECT)(
            _create_file
        )
    if call.on("PassThru"):
        emit(TypeRef(name))


def _is_create_file(match: re.Match[str]) -> bool:
    entry = re.search(r'EntryPoint\s*=\s*"(\w+)"', match["options"])
    wide = bool(re.search(r"CharSet\s*=\s*CharSet\.(?:Unicode|Auto)", match["options"]))
    name = entry[1] if entry else match["name"]
    return (
        (name == "CreateFileW" or (name == "CreateFile" and wide))
        and match["result"].rpartition(".")[2] == "SafeFileHandle"
        and match["parameters"].count(",") == 6
    )


def _create_file(
    ps: Any, name: str, access: int, share: int, _security: Any, disposition: int, flags: int, _template: Any
) -> Any:
    return create_file(ps, name, int(access), int(share), int(disposition), int(flags))


# -- pipelines -------------------------------------------------------------------------------------------------------------


@cmdlet("ForEach-Object", "Process", named=("Begin", "End", "InputObject", "MemberName"), aliases=("foreach", "%"))
def for_each(ps: Any, call: Call, given: list[Any] | None, emit: Emit) -> Step:
    block = call.get("Process")
    if isinstance(call.get("Begin"), ScriptBlock):
        yield from ps.invoke_block(call.get("Begin"), [], emit, own_scope=False)
    keep = ps.scope.variables.get("_")
    for one in given or []:
        if isinstance(block, ScriptBlock):
            ps.set_local("_", one)
            ps.set_local("psitem", one)
            yield from ps.invoke_block(block, [], emit, own_scope=False)
        else:
            emit(member(ps, one, to_text(block)))
    if keep is not None:
        ps.scope.variables["_"] = keep
    if isinstance(call.get("End"), ScriptBlock):
        yield from ps.invoke_block(call.get("End"), [], emit, own_scope=False)


_TESTS = (
    "eq",
    "ne",
    "gt",
    "ge",
    "lt",
    "le",
    "like",
    "notlike",
    "match",
    "notmatch",
    "contains",
    "notcontains",
    "in",
    "is",
)


@cmdlet(
    "Where-Object", "FilterScript", "Value", named=("Property", "InputObject"), switches=_TESTS, aliases=("where", "?")
)
def where(ps: Any, call: Call, given: list[Any] | None, emit: Emit) -> Step:
    block = call.get("FilterScript", call.get("Property"))
    keep = ps.scope.variables.get("_")
    for one in given or []:
        if isinstance(block, ScriptBlock):
            found: list[Any] = []
            ps.set_local("_", one)
            ps.set_local("psitem", one)
            yield from ps.invoke_block(block, [], found.append, own_scope=False)
            holds = to_bool(found[0] if len(found) == 1 else Array(found))
        else:
            value = member(ps, one, to_text(block))
            test = next((t for t in _TESTS if call.on(t)), None)
            holds = to_bool(
                compare(f"-{test}", value, call.get("Value"), case=False, matches=lambda _g: None) if test else value
            )
        if holds:
            emit(one)
    if keep is not None:
        ps.scope.variables["_"] = keep


@cmdlet(
    "Select-Object", "Property", named=("First", "Last", "Skip", "ExpandProperty", "InputObject"), switches=("Unique",),
    aliases=("select",),
)  # fmt: skip
def select(ps: Any, call: Call, given: list[Any] | None, emit: Emit) -> None:
    items = given_to(call, "InputObject", given)
    items = items[int(to_integer(call.get("Skip", 0), "System.Int32")) :]
    if call.has("First"):
        items = items[: int(to_integer(call.get("First"), "System.Int32"))]
    if call.has("Last"):
        count = int(to_integer(call.get("Last"), "System.Int32"))
        items = items[-count:] if count else []
    if call.on("Unique"):
        seen: list[str] = []
        items = [x for x in items if to_text(x) not in seen and not seen.append(to_text(x))]  # type: ignore[func-returns-value]
    for one in items:
        if call.has("ExpandProperty"):
            for value in sequence(member(ps, one, to_text(call.get("ExpandProperty")))):
                emit(value)
        elif call.has("Property"):
            emit(
                CustomObject(
                    [(to_text(name), _lenient(ps, one, to_text(name))) for name in sequence(call.get("Property"))]
                )
            )
        else:
            emit(one)


def _lenient(ps: Any, one: Any, name: str) -> Any:
    strict, ps.strict = ps.strict, 0
    try:
        return member(ps, one, name)
    finally:
        ps.strict = strict


@cmdlet("Sort-Object", "Property", named=("InputObject",), switches=("Descending", "Unique"), aliases=("sort",))
def sort(ps: Any, call: Call, given: list[Any] | None, emit: Emit) -> None:
    import functools

    def key(one: Any) -> Any:
        return member(ps, one, to_text(call.get("Property"))) if call.has("Property") else one

    items = sorted(given_to(call, "InputObject", given), key=functools.cmp_to_key(lambda a, b: order(key(a), key(b))))
    for one in reversed(items) if call.on("Descending") else items:
        emit(one)


@cmdlet(
    "Measure-Object",
    "Property",
    named=("InputObject",),
    switches=("Sum", "Average", "Maximum", "Minimum"),
    aliases=("measure",),
)
def measure(ps: Any, call: Call, given: list[Any] | None, emit: Emit) -> None:
    items = given_to(call, "InputObject", given)
    numbers = (
        [
            float(convert(member(ps, x, to_text(call.get("Property"))) if call.has("Property") else x, "System.Double"))
            for x in items
        ]
        if any(call.on(s) for s in ("Sum", "Average", "Maximum", "Minimum"))
        else []
    )
    emit(
        CustomObject(
            [
                ("Count", len(items)),
                ("Average", sum(numbers) / len(numbers) if call.on("Average") and numbers else None),
                ("Sum", sum(numbers) if call.on("Sum") else None),
                ("Maximum", max(numbers) if call.on("Maximum") and numbers else None),
                ("Minimum", min(numbers) if call.on("Minimum") and numbers else None),
            ]
        )
    )


@cmdlet("ConvertTo-Json", "InputObject", named=("Depth",), switches=("Compress",))
def convert_to_json(_ps: Any, call: Call, given: list[Any] | None, emit: Emit) -> None:
    items = [call.get("InputObject")] if call.has("InputObject") else list(given or [])
    if not items:
        return
    value = items[0] if len(items) == 1 else Array(items)
    depth = int(to_integer(call.get("Depth", 2), "System.Int32"))
    emit(to_json(value, depth, compress=call.on("Compress")).replace("\n", "\r\n"))


@cmdlet("ConvertFrom-Json", "InputObject")
def convert_from_json(_ps: Any, call: Call, given: list[Any] | None, emit: Emit) -> None:
    value = from_json("\n".join(to_text(one) for one in given_to(call, "InputObject", given)))
    emit(value)


__all__ = ["cmdlet", "given_to"]
