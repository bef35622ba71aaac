# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of one running PowerShell script: its variables with their types, $Error, and how errors are shown.

Running statements is powershell_interpreter.py. Source: Language Specification 3.0, 2.3.2 (variables), 3.5 (scopes); the
form of error records on the console of 5.1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import powershell_language as tree
from .assumed import assumed
from .powershell_scopes import Scope, Slot
from .powershell_values import (
    Array,
    CustomObject,
    ErrorRecord,
    GenericList,
    Hashtable,
    NetException,
    PowerShellError,
    convert,
    runtime_error,
    to_text,
    type_of,
)
from .processes import Process
from .windows_files import Files

assumed(
    "powershell-pace",
    "A script reads and hashes this many bytes between two polls from outside, at 200 MB of simulated time a second",
    source="limit of the simulator",
    values=("256 MiB", "16 MiB", "4 MiB", "1 MiB"),
)

AUTOMATIC = {"null", "true", "false"}


class ScriptState:
    """What statements read and change beside the values themselves."""

    def __init__(self, machine: Any, process: Process, text: str, *, path: str = "", constrained: bool = False) -> None:
        self.machine = machine
        self.process = process
        self.text = text
        self.path = path
        self.constrained = constrained
        self.scope = Scope()
        self.strict = 0
        self.errors: list[ErrorRecord] = []
        self.clixml = False
        self.last_error = 0
        self.reported: list[str] = []
        self.error_sinks: list[Callable[[ErrorRecord], None]] = []
        self.succeeded = True
        self.tries = 0
        self.calls = 0
        self.drained = 0
        self.worked = 0
        self.steps = 0
        self.pace = _bytes_of(machine.world.assume("powershell-pace"))
        for name, value in {
            "ErrorActionPreference": "Continue",
            "WarningPreference": "Continue",
            "ProgressPreference": "Continue",
            "VerbosePreference": "SilentlyContinue",
            "OFS": None,
            "PSScriptRoot": path.rpartition("\\")[0],
            "PSCommandPath": path,
            "args": Array([]),
            "Error": GenericList([], kind="ArrayList"),
            "LASTEXITCODE": None,
            "PID": process.pid,
            "Host": CustomObject([("Name", "ConsoleHost")]),
            "PSVersionTable": _version_table(machine),
            "ExecutionContext": CustomObject(
                [
                    (
                        "SessionState",
                        CustomObject([("LanguageMode", "ConstrainedLanguage" if constrained else "FullLanguage")]),
                    )
                ]
            ),
        }.items():
            self.scope.variables[name.lower()] = Slot(value)
        del self.scope.variables["ofs"]
        del self.scope.variables["lastexitcode"]

    @property
    def files(self) -> Files:
        return Files(self.machine, self.process.token, self.process.directory)

    # -- variables -------------------------------------------------------------------------------------------------

    def read(self, node: tree.Variable) -> Any:
        name, scope = node.name.lower(), node.scope
        if scope == "env":
            return self.process.environment.get(node.name)
        if name in AUTOMATIC and not scope:
            return {"null": None, "true": True, "false": False}[name]
        if name == "?":
            return self.succeeded
        where = self.scope.root() if scope in ("script", "global") else self.scope
        slot = where.find(name)
        if slot is None and scope not in ("", "script", "global", "local", "private", "variable"):
            raise runtime_error(
                "DriveNotFound",
                f"Cannot find drive. A drive with the name '{scope}' does not exist.",
                category="ObjectNotFound",
            )
        if slot is None:
            if (self.strict and name not in ("lastexitcode",)) or (self.strict and name == "lastexitcode"):
                raise runtime_error(
                    "VariableIsUndefined",
                    f"The variable '${node.name}' cannot be retrieved because it has not been set.",
                    target=node.name,
                )
            return None
        return slot.value

    def get(self, name: str) -> Any:
        slot = self.scope.find(name.lower())
        return slot.value if slot else None

    def set(self, name: str, value: Any, *, scope: str = "", type_name: str = "") -> None:
        lowered = name.lower()
        if scope == "env":
            self.process.environment.set(name, to_text(value))
            return
        if lowered in AUTOMATIC | {"pid", "host", "error", "executioncontext", "psversiontable", "?"}:
            if lowered == "null":
                return
            raise runtime_error(
                "VariableNotWritable",
                f"Cannot overwrite variable {name} because it is read-only or constant.",
                category="WriteError",
                target=name,
                kind="System.Management.Automation.SessionStateUnauthorizedAccessException",
            )
        where = self.scope.root() if scope in ("script", "global") else self.scope
        slot = where.variables.get(lowered)
        if slot is None:
            where.variables[lowered] = Slot(convert(value, type_name) if type_name else value, type_name)
            return
        slot.type_name = type_name or slot.type_name
        slot.value = convert(value, slot.type_name) if slot.type_name else value

    def set_local(self, name: str, value: Any) -> None:
        self.scope.variables[name.lower()] = Slot(value)

    def separator(self) -> str:
        slot = self.scope.find("ofs")
        return " " if slot is None else to_text(slot.value)

    # -- errors --------------------------------------------------------------------------------------------------------

    def preference(self) -> str:
        return to_text(self.get("ErrorActionPreference")).lower()

    def remember(self, record: ErrorRecord) -> None:
        errors = self.scope.root().variables["error"].value
        errors.items.insert(0, record)

    def report(self, record: ErrorRecord, action: str = "") -> None:
        """A non-terminating error, or one that ended its statement only."""
        self.remember(record)
        self.succeeded = False
        if (action or self.preference()) not in ("silentlycontinue", "ignore"):
            self.write_error(record)

    def write_error(self, record: ErrorRecord) -> None:
        if self.error_sinks:
            self.error_sinks[-1](record)
            return
        text = self.error_text(record)
        if self.clixml:
            self.reported.append(text)
        else:
            self.process.err(text)

    def error_text(self, record: ErrorRecord) -> str:
        lines = [f"{record.command} : {record.message()}" if record.command else record.message()]
        if record.at >= 0:
            lines += self.position(record.at, record.end)
        target = f"{_short(to_text(record.target))}:{_short_type(record.target)}" if record.target is not None else ":"
        lines.append(
            f"    + CategoryInfo          : {record.category}: ({target}) [{record.command}], {record.exception.kind.rpartition('.')[2]}"
        )
        lines.append(f"    + FullyQualifiedErrorId : {record.identifier}")
        return "\n".join(lines) + "\n "

    def position(self, at: int, end: int) -> list[str]:
        before = self.text[:at]
        line = before.count("\n") + 1
        start = before.rfind("\n") + 1
        text = self.text[start:].split("\n", 1)[0].rstrip("\r")
        column = at - start
        width = max(1, min(end, start + len(text)) - at)
        where = f"At {self.path}:{line}" if self.path else f"At line:{line}"
        return [f"{where} char:{column + 1}", f"+ {text}", f"+ {' ' * column}{'~' * width}"]

    def from_net(self, problem: NetException, node: tree.Node) -> PowerShellError:
        short = problem.kind.rpartition(".")[2]
        return PowerShellError(ErrorRecord(problem, short, "NotSpecified", at=node.at, end=node.end))


def _bytes_of(text: str) -> int:
    number, unit = text.split()
    return int(number) << {"MiB": 20, "KiB": 10}[unit]


def _version_table(machine: Any) -> Hashtable:
    table = Hashtable()
    table.set(
        "PSVersion", CustomObject([("Major", 5), ("Minor", 1), ("Build", int(machine.os.build)), ("Revision", 1)])
    )
    table.set("PSEdition", "Desktop")
    return table


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:19]}...{text[-18:]}"


def _short_type(value: Any) -> str:
    return type_of(value).rpartition(".")[2]
