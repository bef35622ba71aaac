# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""The table of backup engines: which there are, for which phase, and how each is made for a machine.

Responsible for choosing an engine by name and for its options as far as all engines share them: nothing secret, known names
only. Not responsible for the contract (`engine.py`) or for any engine (`wsb.py`, `export.py`, ...). Everything outside this
package that needs an engine asks here; no task imports one.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

from . import (
    command,
    command_options,
    command_restore,
    diskshadow,
    diskshadow_options,
    diskshadow_restore,
    export,
    export_restore,
    wsb,
    wsb_recovery,
)
from .engine import Capabilities, Engine, Phase, RestoreEngine, Workplace
from .errors import BackupError
from .target import parse_target
from .wsb_job import NAME as WSB

TargetKind = Literal["volume", "share"]

_MAX_OPTIONS_CHARS = 4000
_SECRET = re.compile(r"pass(word|wd|phrase)|pwd|secret|token|credential|api_?key|private_?key", re.IGNORECASE)


def _no_probe(client: Any, machine: Mapping[str, Any]) -> Mapping[str, Any]:
    return machine


def _target_kind(text: str) -> TargetKind:
    return "share" if parse_target(text).kind == "share" else "volume"


@dataclasses.dataclass(frozen=True, kw_only=True)
class EngineEntry:
    """One engine.

    Attributes:
        phases: in which it works.
        parse_options: (engine_options, phase) -> the engine's own frozen dataclass. Raises `BackupError` `bad_option`; see
            `known_options`.
        capabilities: (machine, parsed options) -> what it can do there; pure. `machine` is `guest` of `guest_disk_info` or
            `host` of `disk_info`, for the tasks with what `probe` adds.
        backup, restore: make the two halves for a machine.
        probe: (client, machine) -> the machine's facts with what only this engine needs to know; one or two queries.
        with_answers: (parsed options, engine_answers) -> the options with them, for an engine that is driven by roles.
        target_kind: `share` when every machine can reach what lies on that target, `volume` when only its own can; raises
            `TargetRefused` for a text that is no target of this engine.
    """

    name: str
    phases: frozenset[Phase]
    parse_options: Callable[[Mapping[str, Any], Phase], Any]
    capabilities: Callable[[Mapping[str, Any], Any], Capabilities]
    backup: Callable[[Workplace], Engine]
    restore: Callable[[Workplace], RestoreEngine]
    probe: Callable[[Any, Mapping[str, Any]], Mapping[str, Any]] = _no_probe
    target_kind: Callable[[str], TargetKind] = _target_kind
    with_answers: Callable[[Any, Mapping[str, Any]], Any] | None = None

    def options(self, given: Mapping[str, Any] | None, phase: Phase) -> Any:
        """What the engine makes of `engine_options`.

        Raises: `BackupError`: `wrong_phase`, `secret_option`, `bad_option`.
        """
        if phase not in self.phases:
            raise BackupError(
                "wrong_phase",
                f"The engine {self.name} works on the {' and the '.join(sorted(self.phases))} only, not in the {phase} phase; "
                f"choose one of: {', '.join(names(phase))}.",
            )
        refuse_secrets(given or {})
        return self.parse_options(given or {}, phase)

    def answered(self, options: Any, answers: Mapping[str, Any] | None) -> Any:
        """The options with what roles of the operator answered in this run. Raises: `BackupError` `bad_option`."""
        if not answers:
            return options
        if self.with_answers is None:
            raise BackupError("bad_option", f"The engine {self.name} takes no engine_answers.")
        return self.with_answers(options, answers)


def engine(name: str) -> EngineEntry:
    """The engine of that name. Raises `BackupError` (kind `unknown_engine`) that lists the names there are."""
    try:
        return _ENGINES[name]
    except KeyError:
        raise BackupError(
            "unknown_engine", f"There is no backup engine {name!r}; choose one of: {', '.join(names())}."
        ) from None


def names(phase: Phase | None = None) -> tuple[str, ...]:
    """The engines that work in a phase, or all."""
    return tuple(sorted(name for name, entry in _ENGINES.items() if phase is None or phase in entry.phases))


def known_options(given: Mapping[str, Any], known: Iterable[str], engine_name: str) -> None:
    """Refuse what an engine does not know, for its option parser. Raises: `BackupError` `bad_option`."""
    there = sorted(known)
    unknown = sorted(str(key) for key in given if key not in there)
    if unknown:
        raise BackupError(
            "bad_option",
            f"The engine {engine_name} has no option {', '.join(unknown)}; it has {', '.join(there) or 'none'}.",
        )


def refuse_secrets(given: Mapping[str, Any]) -> None:
    """Options are recorded in the backup set, for a restore years later, so that nothing secret may be among them.

    Raises: `BackupError`: `secret_option`; `bad_option` for what is too long to be recorded.
    """
    for path, _value in _leaves(given, ""):
        if _SECRET.search(path):
            raise BackupError(
                "secret_option",
                f"The engine option {path} looks like a secret, and engine options are written into the backup set, where "
                "everybody who may read the host's registry reads them; give the machine's own account the rights instead.",
            )
    if len(repr(given)) > _MAX_OPTIONS_CHARS:
        raise BackupError(
            "bad_option",
            f"The engine options have more than the {_MAX_OPTIONS_CHARS} characters that a set can record.",
        )


def _leaves(value: Any, path: str) -> Iterable[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for inner in value:
            yield from _leaves(inner, path)
    else:
        yield path, value


# --- the engines ----------------------------------------------------------------------------------------------------


def _wsb_options(given: Mapping[str, Any], phase: Phase) -> None:
    known_options(given, (), WSB)


def _wsb_probe(client: Any, machine: Mapping[str, Any]) -> Mapping[str, Any]:
    """The guest's view tells it already; the host's does not."""
    if "windows_server_backup" in machine:
        return machine
    return {**machine, "windows_server_backup": wsb.windows_server_backup(client)}


_ENGINES: Mapping[str, EngineEntry] = {
    entry.name: entry
    for entry in (
        EngineEntry(
            name=WSB,
            phases=frozenset({"guest", "host"}),
            parse_options=_wsb_options,
            capabilities=lambda machine, options: wsb.capabilities(machine),
            backup=lambda place: wsb.WindowsServerBackup(place.client, helper_waiting=place.waiting),
            restore=lambda place: wsb_recovery.WindowsServerRecovery(place.client, helper_waiting=place.waiting),
            probe=_wsb_probe,
        ),
        EngineEntry(
            name=diskshadow.NAME,
            phases=frozenset({"host"}),
            parse_options=lambda given, phase: diskshadow_options.parse_options(given),
            capabilities=diskshadow.capabilities,
            backup=diskshadow.DiskShadow,
            restore=diskshadow_restore.ShadowRestore,
            probe=diskshadow.probe,
            target_kind=lambda text: "share" if diskshadow.place_of(text).kind == "share" else "volume",
        ),
        EngineEntry(
            name=command_options.NAME,
            phases=frozenset({"guest", "host"}),
            parse_options=command_options.parse_options,
            capabilities=command.capabilities,
            backup=command.CommandBackup,
            restore=command_restore.CommandRestore,
            target_kind=command.target_kind,
            with_answers=command_options.with_answers,
        ),
        EngineEntry(
            name=export.NAME,
            phases=frozenset({"host"}),
            parse_options=export.parse_options,
            capabilities=export.capabilities,
            backup=export.VmExports,
            restore=export_restore.ExportRestores,
            target_kind=export.target_kind,
        ),
    )
}
