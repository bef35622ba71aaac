# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs every scenario under every value of every guess that the simulator makes, and writes down how it ended.

Responsible for: docs/ASSUMPTIONS.md. Not responsible for: the guesses (`simulator/assumed.py`) or the scenarios. A switch that
no exchange of a scenario asks for cannot change its end, so it is not flipped there, and the table says so.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from simulator.assumed import Assumption, import_everything, register

from .case import RERUNS
from .exploration import Undisturbed, differences, in_forks, run_undisturbed, undisturbed
from .scenarios import SCENARIOS, Scenario

#: Each kind of work once; the other scenarios ask for the same.
SWITCHED = (
    "two_phase_backup",
    "reverse_restore",
    "vhd_migration",
    "vhd_migration_growth",
    "export_backup",
    "diskshadow_backup",
)
NOT_ASKED = "not asked"
SAME = "same end state"
IDENTITIES = frozenset({"evidence", "accept_as", "unique_id"})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ending:
    """How one scenario ended under one value of one switch."""

    scenario: str
    switch: str
    value: str
    outcome: str
    detail: str = ""

    @property
    def passes(self) -> bool:
        return self.outcome.startswith((SAME, NOT_ASKED))

    @property
    def is_refusal(self) -> bool:
        return self.outcome.startswith("refused")


def alternatives() -> list[Assumption]:
    """Every assumption with more than one value."""
    import_everything()
    return [entry for entry in register().values() if len(entry.values) > 1]


def endings(scenarios: Sequence[Scenario], only: Sequence[str] = (), jobs: int = 0) -> Iterator[Ending]:
    for scenario in scenarios:
        plain = undisturbed(scenario)
        if plain.status or plain.findings:
            raise RuntimeError(
                f"{scenario.name} fails with every switch at its default: {plain.last_words} {plain.findings}"
            )
        entries = [entry for entry in alternatives() if not only or entry.identifier in only]
        flipped = []
        for entry in entries:
            yield Ending(scenario=scenario.name, switch=entry.identifier, value=entry.default, outcome=SAME)
            for value in _others(entry):
                if entry.identifier in plain.asked:
                    flipped.append((entry.identifier, value))
                else:
                    yield Ending(scenario=scenario.name, switch=entry.identifier, value=value, outcome=NOT_ASKED)
        works = (partial(run_undisturbed, scenario, {name: value}, 1 + RERUNS) for name, value in flipped)
        for (name, value), answer in zip(flipped, in_forks(works, jobs=jobs or os.cpu_count() or 1), strict=True):
            outcome, detail = _outcome(answer, plain)
            yield Ending(scenario=scenario.name, switch=name, value=value, outcome=outcome, detail=detail)


def _outcome(answer: Callable[[], Any], plain: Undisturbed) -> tuple[str, str]:
    try:
        found: Undisturbed = answer()
    except RuntimeError as error:
        return "broken", str(error).strip().splitlines()[-1]
    if found.status:
        name = found.kinds[0] if found.kinds else "by the role's own check"
        return f"refused: {name}", found.last_words
    if found.findings:
        return "wrong", "; ".join(found.findings)
    changed = differences(_without_identities(plain.end), _without_identities(found.end))
    after = f" after {found.runs} runs" if found.runs > 1 else ""
    return (f"different{after}", "; ".join(changed)) if changed else (f"{SAME}{after}", "")


def _without_identities(end: Any) -> Any:
    """Ids of disks differ when a switch gives the world others; what came of them is what counts."""
    if isinstance(end, Mapping):
        return {key: _without_identities(one) for key, one in end.items() if key not in IDENTITIES}
    return [_without_identities(one) for one in end] if isinstance(end, list) else end


def page(found: Sequence[Ending]) -> str:
    """docs/ASSUMPTIONS.md."""
    by_key: Mapping[tuple[str, str, str], Ending] = {(one.scenario, one.switch, one.value): one for one in found}
    names = [name for name in SCENARIOS if any(one.scenario == name for one in found)]
    lines = [
        "# What no source proves, and what hangs on it",
        "",
        "Made by `make switches`; do not edit. Each line is a behaviour of Windows that no source proves; the simulator has a",
        "switch for it. Every scenario was run under every value: *same end state* as with every switch at its default (the",
        "first value is the default unless another is marked with *), *refused* by name after the command was given",
        f"{1 + RERUNS} times, or *different*. A switch that a scenario never asks for is *not asked*.",
        "",
        *(f"- `{name}`: {SCENARIOS[name].text}" for name in names),
        "",
    ]
    entries = [entry for entry in alternatives() if any(one.switch == entry.identifier for one in found)]
    single = []
    for name in names:
        asked = [
            entry for entry in entries if any(_of(by_key, name, entry, v).outcome != NOT_ASKED for v in _others(entry))
        ]
        passing = [entry for entry in asked if all(_of(by_key, name, entry, value).passes for value in entry.values)]
        single = [
            entry for entry in asked if not any(_of(by_key, name, entry, value).passes for value in _others(entry))
        ]
        lines += [
            f"## {name}",
            "",
            f"{len(entries)} switches with more than one value; {len(asked)} are asked for by this scenario, and {len(passing)} "
            "of those make no difference to its end under any value.",
            "",
            "Passes with one value only: " + (", ".join(f"`{entry.identifier}`" for entry in single) or "none") + ".",
            "",
            "| switch | what is not proven | outcome of each value |",
            "|---|---|---|",
        ]
        for entry in asked:
            cells = []
            for value in entry.values:
                one = _of(by_key, name, entry, value)
                mark = "*" if value == entry.default and value != entry.values[0] else ""
                cells.append(f"`{value}`{mark} {one.outcome}" + (f" ({_short(one.detail)})" if one.detail else ""))
            lines.append(f"| `{entry.identifier}` | {_cell(entry.text)} | {'<br>'.join(cells)} |")
        left = [entry.identifier for entry in entries if entry not in asked]
        lines += ["", "Not asked: " + (", ".join(f"`{one}`" for one in left) or "none") + ".", ""]
    return "\n".join(lines)


def _others(entry: Assumption) -> list[str]:
    return [value for value in entry.values if value != entry.default]


def _of(found: Mapping[tuple[str, str, str], Ending], scenario: str, entry: Assumption, value: str) -> Ending:
    missing = Ending(scenario=scenario, switch=entry.identifier, value=value, outcome="not run")
    return found.get((scenario, entry.identifier, value), missing)


def _short(text: str) -> str:
    return _cell(text[:220] + ("..." if len(text) > 220 else ""))


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def write(path: Path, found: Sequence[Ending]) -> None:
    path.write_text(page(found), encoding="utf-8")


def keep(path: Path, found: Sequence[Ending]) -> None:
    """For a later run that tries other scenarios only."""
    path.write_text(json.dumps([dataclasses.asdict(one) for one in found]), encoding="utf-8")


def read(path: Path) -> list[Ending]:
    return [Ending(**one) for one in json.loads(path.read_text(encoding="utf-8"))] if path.exists() else []
