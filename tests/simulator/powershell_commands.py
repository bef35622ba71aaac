# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a PowerShell command line becomes a call: finding functions, cmdlets and programs, binding parameters, redirection.

Not here: what the cmdlets do (powershell_cmdlets.py). Source: Language Specification 3.0, 8.14 (binding) and 2.3.5
(redirection); about_Redirection, about_Command_Precedence.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from . import powershell_language as tree
from .powershell_dotnet import VOID
from .powershell_scopes import Emit, Flow, Scope, Slot, Step
from .powershell_values import (
    Array,
    ErrorRecord,
    Hashtable,
    NetException,
    PowerShellError,
    ScriptBlock,
    Thrown,
    convert,
    exception,
    resolve_type,
    runtime_error,
    sequence,
    to_bool,
    to_text,
)

MAXIMUM_CALLS = 100
COMMON = {
    "erroraction",
    "errorvariable",
    "warningaction",
    "informationaction",
    "outvariable",
    "outbuffer",
    "verbose",
    "debug",
}
_ALIASES = {"ea": "erroraction", "wa": "warningaction", "vb": "verbose", "db": "debug", "infa": "informationaction"}
NOT_GIVEN = object()


@dataclass(frozen=True, kw_only=True)
class Cmdlet:
    """``positional`` parameters may be named as well; ``run(ps, parameters, input, emit)`` may be a generator."""

    name: str
    run: Callable[..., Any]
    positional: tuple[str, ...] = ()
    named: tuple[str, ...] = ()
    switches: tuple[str, ...] = ()
    other_names: tuple[tuple[str, str], ...] = ()
    rest: str = ""


CMDLETS: dict[str, Cmdlet] = {}
COMMAND_ALIASES: dict[str, str] = {}


@dataclass
class Call:
    """The bound parameters of a cmdlet."""

    cmdlet: Cmdlet
    values: dict[str, Any]
    at: int
    end: int

    def get(self, name: str, default: Any = None) -> Any:
        return self.values.get(name.lower(), default)

    def has(self, name: str) -> bool:
        return name.lower() in self.values

    def on(self, name: str) -> bool:
        return to_bool(self.values.get(name.lower(), False))

    def action(self, ps: Any) -> str:
        given = self.get("erroraction")
        return to_text(given).lower() if given is not None else ps.preference()

    def error(self, ps: Any, problem: NetException, identifier: str, category: str, target: Any = None) -> None:
        """A non-terminating error of the cmdlet; terminating where the preference is Stop."""
        record = ErrorRecord(problem, f"{identifier}", category, target, self.cmdlet.name, self.at, self.end)
        if self.action(ps) == "stop":
            raise PowerShellError(record, script=True)
        ps.report(record, self.action(ps))


# -- running -------------------------------------------------------------------------------------------------------------


def run_command(ps: Any, node: tree.Command, given: list[Any] | None, emit: Emit) -> Step:
    named = node.name
    target = ps.evaluate(named)
    with redirecting(ps, node.redirections, emit) as out:
        if isinstance(target, ScriptBlock):
            arguments = elements(ps, node)
            yield from _run_block(ps, target, arguments, out, own_scope=node.operator != ".", given=given)
            return
        name = to_text(target)
        function = find_function(ps, name)
        if function is not None:
            yield from call_function(ps, function, elements(ps, node), given, out)
            return
        cmdlet = CMDLETS.get(COMMAND_ALIASES.get(name.lower(), name.lower()))
        if cmdlet is not None:
            call = bind_cmdlet(cmdlet, elements(ps, node), node)
            try:
                result = cmdlet.run(ps, call, given, out)
                if result is not None:
                    yield from result
            except Thrown as problem:
                raise _of_cmdlet(cmdlet, problem, node) from problem
            return
        if re.search(r"\.ps1$", name, re.IGNORECASE) or not ps.knows_native(name):
            raise not_recognized(name, named)
        words = [name, *(to_text(value) for kind, value in native_words(ps, node) if kind)]
        yield from ps.native(" ".join(quoted(word) for word in words), out, given)


def _of_cmdlet(cmdlet: Cmdlet, problem: Thrown, node: tree.Command) -> PowerShellError:
    record = ErrorRecord(
        problem.value, problem.value.kind.rpartition(".")[2], "NotSpecified", None, cmdlet.name, node.at, node.end
    )
    return PowerShellError(record)


def quoted(word: str) -> str:
    """PowerShell 5.1 puts quotes around an argument with blanks and leaves inner quotes as they are."""
    return f'"{word}"' if (re.search(r"\s", word) and not word.startswith('"')) or not word else word


def native_words(ps: Any, node: tree.Command) -> Iterator[tuple[bool, Any]]:
    for element in node.elements:
        if isinstance(element, tree.CommandParameter):
            yield True, f"-{element.name}" + (f":{to_text(ps.evaluate(element.value))}" if element.value else "")
        else:
            for one in sequence(ps.evaluate(element)):
                yield True, one


def not_recognized(name: str, node: tree.Node) -> PowerShellError:
    problem = runtime_error(
        "CommandNotFoundException",
        f"The term '{name}' is not recognized as the name of a cmdlet, function, script file, or operable program. Check the"
        " spelling of the name, or if a path was included, verify that the path is correct and try again.",
        category="ObjectNotFound",
        target=name,
        kind="System.Management.Automation.CommandNotFoundException",
    )
    problem.record.command = name
    problem.record.at, problem.record.end = node.at, node.end
    return problem


def elements(ps: Any, node: tree.Command) -> list[tuple[str, Any]]:
    """The words of a command: ("", value) or (parameter name, value or NOT_GIVEN)."""
    found: list[tuple[str, Any]] = []
    for element in node.elements:
        if isinstance(element, tree.CommandParameter):
            found.append((element.name, ps.evaluate(element.value) if element.value is not None else NOT_GIVEN))
        elif isinstance(element, tree.Variable) and element.splatted:
            value = ps.read(element)
            if isinstance(value, Hashtable):
                found += [(to_text(key), Splatted(one)) for key, one in value.items()]
            else:
                found += [("", one) for one in sequence(value)]
        else:
            value = ps.evaluate(element)
            found.append(("", None if value is VOID else value))
    return found


@dataclass
class Splatted:
    value: Any


def _run_block(
    ps: Any, block: ScriptBlock, words: list[tuple[str, Any]], emit: Emit, *, own_scope: bool, given: list[Any] | None
) -> Step:
    outer = ps.scope
    if own_scope:
        ps.scope = Scope(parent=outer)
        bind(ps, "", block.parameters, words, given)
    try:
        yield from ps.block(block.body, emit)
    except Flow as flow:
        if flow.keyword != "return":
            raise
    finally:
        ps.scope = outer


def find_function(ps: Any, name: str) -> tree.FunctionDefinition | None:
    scope: Scope | None = ps.scope
    while scope is not None:
        found = scope.functions.get(name.lower())
        if found is not None:
            return found
        scope = scope.parent
    return None


def call_function(
    ps: Any, function: tree.FunctionDefinition, words: list[tuple[str, Any]], given: list[Any] | None, emit: Emit
) -> Step:
    if ps.calls >= MAXIMUM_CALLS:
        raise PowerShellError(
            ErrorRecord(
                exception(
                    "System.Management.Automation.ScriptCallDepthException",
                    "The script failed due to call depth overflow.",
                ),
                "CallDepthOverflow",
                "InvalidOperation",
            ),
            script=True,
        )
    outer = ps.scope
    ps.scope = Scope(parent=outer)
    ps.calls += 1
    try:
        bind(ps, function.name, function.parameters, words, given)
        yield from ps.block(function.body, emit)
    except Flow as flow:
        if flow.keyword != "return":
            raise
    finally:
        ps.calls -= 1
        ps.scope = outer


# -- binding -------------------------------------------------------------------------------------------------------------


def _parameter_error(name: str, identifier: str, message: str) -> PowerShellError:
    problem = runtime_error(
        identifier,
        message,
        category="InvalidArgument",
        kind="System.Management.Automation.ParameterBindingException",
    )
    problem.record.command = name
    return problem


def bind(
    ps: Any,
    name: str,
    parameters: tuple[tree.Parameter, ...],
    words: list[Any],
    given: list[Any] | None,
) -> None:
    """Sets the parameters of a function or script block as variables of the scope just made."""
    pairs = [one if isinstance(one, tuple) and len(one) == 2 else ("", one) for one in words]
    values: dict[str, Any] = {}
    rest: list[Any] = []
    index = 0
    while index < len(pairs):
        word, value = pairs[index]
        index += 1
        if not word:
            rest.append(value)
            continue
        chosen = [p for p in parameters if p.name.lower() == word.lower()]
        chosen = chosen or [p for p in parameters if p.name.lower().startswith(word.lower())]
        if len(chosen) > 1:
            raise _parameter_error(
                name,
                "AmbiguousParameter",
                f"Parameter cannot be processed because the parameter name '{word}' is ambiguous.",
            )
        if not chosen:
            if word.lower() in COMMON and value is NOT_GIVEN and index < len(pairs):
                index += 1
                continue
            rest += [f"-{word}"] + ([value] if value is not NOT_GIVEN else [])
            continue
        parameter = chosen[0]
        if isinstance(value, Splatted):
            value = value.value
        elif value is NOT_GIVEN:
            if parameter.switch:
                value = True
            elif index < len(pairs) and not pairs[index][0]:
                value = pairs[index][1]
                index += 1
            else:
                raise _parameter_error(
                    name,
                    "MissingArgument",
                    f"Missing an argument for parameter '{parameter.name}'. Specify a parameter of type"
                    f" '{_last_type(parameter)}' and try again.",
                )
        if parameter.name.lower() in values:
            raise _parameter_error(
                name,
                "ParameterAlreadyBound",
                f"Cannot bind parameter because parameter '{parameter.name}' is specified more than once.",
            )
        values[parameter.name.lower()] = value
    order = sorted(
        (p for p in parameters if not p.switch), key=lambda p: p.position if p.position is not None else 1000
    )
    for parameter in order:
        if rest and parameter.name.lower() not in values:
            values[parameter.name.lower()] = rest.pop(0)
    if given and (piped := next((p for p in parameters if p.pipeline and p.name.lower() not in values), None)):
        values[piped.name.lower()] = given[-1]
    missing = [p.name for p in parameters if p.mandatory and p.name.lower() not in values]
    if missing:
        raise _parameter_error(
            name,
            "MissingMandatoryParameter",
            f"Cannot process command because of one or more missing mandatory parameters: {' '.join(missing)}.",
        )
    for parameter in parameters:
        _set_parameter(ps, name, parameter, values)
    ps.scope.variables["args"] = Slot(Array(rest))
    ps.scope.variables["input"] = Slot(Array(given or []))
    bound = Hashtable()
    for parameter in parameters:
        if parameter.name.lower() in values:
            bound.set(parameter.name, values[parameter.name.lower()])
    ps.scope.variables["psboundparameters"] = Slot(bound)


def _last_type(parameter: tree.Parameter) -> str:
    found = resolve_type(parameter.type_names[-1]) if parameter.type_names else None
    return found.name if found else "System.Object"


def _set_parameter(ps: Any, name: str, parameter: tree.Parameter, values: dict[str, Any]) -> None:
    lowered = parameter.name.lower()
    kind = ps.type_named(parameter.type_names[-1]).name if parameter.type_names else ""
    if lowered in values:
        value = values[lowered]
        if kind:
            try:
                value = convert(value, kind)
            except PowerShellError as problem:
                raise _parameter_error(
                    name,
                    "ParameterArgumentTransformationError",
                    f"Cannot process argument transformation on parameter '{parameter.name}'. {problem.record.message()}",
                ) from problem
    elif parameter.default is not None:
        value = ps.evaluate(parameter.default)
        value = convert(value, kind) if kind else value
    else:
        value = convert(None, kind) if kind and not kind.endswith("[]") else None
    ps.scope.variables[lowered] = Slot(value, "" if parameter.switch else kind)


def bind_cmdlet(cmdlet: Cmdlet, words: list[tuple[str, Any]], node: tree.Command) -> Call:
    names = {p.lower(): p for p in (*cmdlet.positional, *cmdlet.named, *cmdlet.switches, cmdlet.rest) if p}
    others = {alias.lower(): name for alias, name in cmdlet.other_names}
    switches = {p.lower() for p in cmdlet.switches} | {"verbose", "debug"}
    values: dict[str, Any] = {}
    rest: list[Any] = []
    index = 0
    while index < len(words):
        word, value = words[index]
        index += 1
        if not word:
            rest.append(value)
            continue
        lowered = _ALIASES.get(word.lower(), word.lower())
        lowered = others.get(lowered, lowered).lower()
        if lowered not in names and lowered not in COMMON:
            known = [n for n in {*names, *COMMON} if n.startswith(lowered)]
            known = known if len(known) == 1 else [n for n in names if n.startswith(lowered)]
            if len(known) != 1:
                problem = _parameter_error(
                    cmdlet.name,
                    "NamedParameterNotFound" if not known else "AmbiguousParameter",
                    f"A parameter cannot be found that matches parameter name '{word}'."
                    if not known
                    else f"Parameter cannot be processed because the parameter name '{word}' is ambiguous.",
                )
                problem.record.at, problem.record.end = node.at, node.end
                raise problem
            lowered = known[0]
        if isinstance(value, Splatted):
            value = value.value
        elif value is NOT_GIVEN:
            if lowered in switches:
                value = True
            elif index < len(words) and not words[index][0]:
                value = words[index][1]
                index += 1
            else:
                raise _parameter_error(
                    cmdlet.name,
                    "MissingArgument",
                    f"Missing an argument for parameter '{names.get(lowered, word)}'. Specify a parameter of type"
                    " 'System.Object' and try again.",
                )
        values[lowered] = value
    for parameter in cmdlet.positional:
        if rest and parameter.lower() not in values:
            values[parameter.lower()] = rest.pop(0)
    if rest:
        if not cmdlet.rest:
            problem = _parameter_error(
                cmdlet.name,
                "PositionalParameterNotFound",
                f"A positional parameter cannot be found that accepts argument '{to_text(rest[0])}'.",
            )
            problem.record.at, problem.record.end = node.at, node.end
            raise problem
        values[cmdlet.rest.lower()] = rest[0] if len(rest) == 1 else Array(rest)
    return Call(cmdlet, values, node.at, node.end)


# -- redirection -----------------------------------------------------------------------------------------------------------


@contextmanager
def redirecting(ps: Any, redirections: tuple[tree.Redirection, ...], emit: Emit) -> Iterator[Emit]:
    """Applies >, >>, 2>, 2>&1 and their kind around a command."""
    if not redirections:
        yield emit
        return
    from .powershell_files import write_bytes
    from .powershell_output import lines_of

    files: list[tuple[str, bool, list[Any]]] = []
    out = emit
    sink: Callable[[ErrorRecord], None] | None = None
    for one in redirections:
        if one.stream not in ("1", "2", "*"):
            continue
        target = ps.evaluate(one.target) if one.target is not None else None
        if one.target is not None and target is None:  # > $null
            gathered: list[Any] | None = []
        elif one.target is not None:
            gathered = []
            files.append((to_text(target), one.append, gathered))
        else:
            gathered = None
        if one.stream in ("1", "*") and gathered is not None:
            out = gathered.append
        if one.stream in ("2", "*"):
            sink = gathered.append if gathered is not None else out
    if sink is not None:
        ps.error_sinks.append(sink)
    try:
        yield out
    finally:
        if sink is not None:
            ps.error_sinks.pop()
        for path, append, found in files:
            text = "".join(f"{line}\r\n" for value in found for line in lines_of(ps, value))
            mark = b"" if append and ps.files.exists(path) else b"\xff\xfe"
            write_bytes(ps, path, mark + text.encode("utf-16-le"), append=append)


__all__ = ["CMDLETS", "Call", "Cmdlet", "bind", "redirecting", "run_command"]
