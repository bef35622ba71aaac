# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of the fault enumeration, docs/FAULTS.md, out of what the run wrote down.

Responsible for: the page. Not responsible for: running anything. The page says of every effect at how many exchanges it could be
tried, was played, was taken over (and why), and was not tried; nothing that was left out looks as if it had been done.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from .case import AUDIT, RERUNS
from .effects import BY_NAME, CHANGE, READ, SHELL
from .exploration import Exchange, Result, Undisturbed
from .invariants import CHECKED
from .passes import possible
from .scenarios import SCENARIOS

KINDS = {CHANGE: "changes", SHELL: "shell steps", READ: "reads"}
EARLY = ("repaired", "merged", "rerun")
WITHOUT_A_FORK = ("state", "position", "request", "answers")


def read_results(path: Path) -> list[Result]:
    if not path.exists():
        return []
    return [Result(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def page(
    plain: Mapping[str, Undisturbed],
    results: Sequence[Result],
    *,
    planted: Sequence[Mapping[str, object]] = (),
    minutes: float = 0,
) -> str:
    """docs/FAULTS.md.

    Args:
        plain: the undisturbed run of each scenario.
        planted: what `planted.py` found: {"fault", "text", "cases", "caught", "example"}.
        minutes: that the run took.
    """
    by_scenario = {name: [one for one in results if one.scenario == name] for name in plain}
    there = {name: possible(SCENARIOS[name], one) for name, one in plain.items()}
    wrong = [one for one in results if one.findings]
    how = Counter(one.how for one in results)
    total = sum(len(rows) for effects in there.values() for rows in effects.values())
    audited = [one for one in results if one.audited]
    differ = [one for one in audited if any(text.startswith("taking over") for text in one.findings)]
    lines = [
        "# What happens when it breaks",
        "",
        "Made by `make faults`; do not edit. Each scenario is run once undisturbed. Then it is broken at its exchanges with the",
        f"simulated machines, once per case, and the same command is given again, at most {RERUNS} times, until it succeeds. The",
        "world must then be as after the undisturbed run, and its invariants are looked at after every exchange on the way.",
        "",
        f"**{len(results)} of {total} cases, {len(wrong)} wrong, {total - len(results)} not tried**; the run took {minutes:.0f} minutes.",
        "",
        "| how a case was decided | cases |",
        "|---|---|",
        f"| *played*: to its end | {how['played']} |",
        "| *repaired*: the same request was sent again at once, in the same state of the world, and all went on as undisturbed | "
        f"{how['repaired']} |",
        "| *merged*: begun, until at the end of a task the results of the run's tasks and the state of the world were those of the "
        f"undisturbed run or of a case whose end is known | {how['merged']} |",
        "| *rerun*: begun, until the command was given again in a state of the world in which it had been given before | "
        f"{how['rerun']} |",
        f"| *state*: the controller is killed in a state of the world in which it was killed before | {how['state']} |",
        "| *position*: a request that only looks fails in the same way at the same place in the code (every line of the stack), "
        f"after the same results of earlier tasks, in the same state of the world, as in another case | {how['position']} |",
        "| *request*: the reply to a request that only looks is lost, which is to both sides as if the request were; and that was "
        f"tried | {how['request']} |",
        "| *answers*: something happens to a machine before requests that only look and are answered as if nothing had happened, to "
        f"the last byte; it was tried after them | {how['answers']} |",
        "",
        "In the last seven a case takes over the outcome of another one. Two states are the same as `tests/faults/state.py` says:",
        f"ids, times and the sentences of errors are left out. One in {AUDIT} is played to its end all the same: {len(audited)} were, and",
        f"{len(differ)} of them ended in another way than they would have taken over.",
        "",
        "Outcomes: *same* = the same end state, ids, times and counts left out, and every byte can be got back; *same, beside ...* =",
        "the same, and what is named was left besides; *refused* = named, documented and for good; *wrong* = anything else. One line",
        "reproduces a case: `make faults CASE=scenario/effect/exchange`; it is then played to its end.",
        "",
        "An exchange is a *change* (a method that is not known to only look), a *shell step* (only files of our own jobs are read",
        "in shells), or a *read*. Columns of kinds say tried/possible.",
        "",
    ]
    for name, one in plain.items():
        lines += _scenario(name, one, there[name], by_scenario[name])
    if wrong:
        lines += ["## Wrong", "", *(f"- `{one.line[:600]}`" for one in wrong[:100]), ""]
    lines += _checked()
    if planted:
        lines += _planted(planted)
    return "\n".join(lines)


def _checked() -> list[str]:
    return [
        "## What is checked",
        "",
        "| it must hold | checked | by |",
        "|---|---|---|",
        *(f"| {what} | {when} | {how} |" for what, when, how in CHECKED),
        "",
    ]


def _planted(planted: Sequence[Mapping[str, object]]) -> list[str]:
    return [
        "## That it can fail",
        "",
        "`make faults PLANTED=1` puts each of these faults into a scratch copy of the collection, and breaks the scenario there.",
        "",
        "| planted fault | scenario | cases | caught by | first one |",
        "|---|---|---|---|---|",
        *(
            f"| {one['text']} | {one.get('scenario', 'two_phase_backup')} | {one['cases']} | {one['caught']} | "
            f"{str(one['example']).replace('|', '/')} |"
            for one in planted
        ),
        "",
    ]


def _scenario(
    name: str, undisturbed: Undisturbed, there: Mapping[str, list[Exchange]], results: Sequence[Result]
) -> list[str]:
    count = Counter(one.kind for one in undisturbed.exchanges)
    lines = [
        f"## {name}",
        "",
        f"{SCENARIOS[name].text}: {len(undisturbed.exchanges)} exchanges undisturbed, "
        + ", ".join(f"{count[kind]} {word}" for kind, word in KINDS.items())
        + ".",
        "",
        "| effect | "
        + " | ".join(KINDS.values())
        + " | played | ended early | taken over unbegun | not tried | outcome |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for effect, rows in there.items():
        mine = [one for one in results if one.effect == effect]
        if not rows and not mine:
            continue
        tried, could = Counter(one.kind for one in mine), Counter(one.kind for one in rows)
        how = Counter(one.how for one in mine)
        cells = [
            f"{BY_NAME[effect].text} (`{effect}`)",
            *(f"{tried[kind]}/{could[kind]}" if could[kind] or tried[kind] else "-" for kind in KINDS),
            str(how["played"]),
            _some(how, EARLY),
            _some(how, WITHOUT_A_FORK),
            str(max(0, len(rows) - len(mine))),
            _outcomes(mine),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    left = [f"`{effect}`" for effect in BY_NAME if effect not in there and not BY_NAME[effect].only_named]
    if left:
        lines += ["", f"Effects that this scenario leaves out: {', '.join(left)}."]
    names = sorted({kind for one in results for kind in one.kinds})
    said = ", ".join(f"`{one}`" for one in names) or "none"
    return [*lines, "", f"Errors that a run stopped with on the way: {said}.", ""]


def _some(how: Mapping[str, int], names: Sequence[str]) -> str:
    return ", ".join(f"{how[name]} {name}" for name in names if how[name]) or "0"


def _outcomes(results: Sequence[Result]) -> str:
    count = Counter(one.outcome for one in results)
    return (
        ", ".join(f"{number} {outcome}" for outcome, number in sorted(count.items(), key=lambda item: -item[1])) or "-"
    )
