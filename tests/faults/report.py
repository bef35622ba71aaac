# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of the fault enumeration, docs/FAULTS.md, out of what the run wrote down.

Responsible for: the page. Not responsible for: running anything. The page says how many exchanges of each kind an effect was
tried at, out of how many there are; nothing that was only sampled looks as if it were complete.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from .effects import CHANGE, EFFECTS, READ, SHELL, Effect
from .exploration import PLAY_OUT, RERUNS, Result, Undisturbed
from .scenarios import SCENARIOS

KINDS = {CHANGE: "changes", SHELL: "shell steps", READ: "reads"}


def page(
    plain: Mapping[str, Undisturbed],
    results: Sequence[Result],
    *,
    planted: Sequence[Mapping[str, object]] = (),
    stopped: str = "",
) -> str:
    """docs/FAULTS.md.

    Args:
        plain: the undisturbed run of each scenario.
        stopped: where the run ended, when it was not run to its end.
        planted: what `planted.py` found: {"fault", "text", "cases", "caught", "example"}.
    """
    wrong = [one for one in results if one.findings]
    lines = [
        "# What happens when it breaks",
        "",
        "Made by `make faults`; do not edit. Each scenario is run once undisturbed. Then it is broken at its exchanges with the",
        f"simulated machines, once per case, and the same command is given again, at most {RERUNS} times, until it succeeds. The",
        "world must then be as after the undisturbed run, and its invariants are looked at after every exchange on the way.",
        "",
        f"{len(results)} cases, {len(wrong)} wrong; one after another they took {sum(one.seconds for one in results) / 60:.0f} minutes.",
        *([f"The run was stopped early: {stopped}."] if stopped else []),
        "",
        "- *same*: the same end state, ids, times and counts left out, and every byte can be got back.",
        "- *same, beside ...*: the same, and what is named was left besides.",
        "- *repaired*: the same request was sent again at once, in the same state of the world, so that everything went on as in",
        f"  the undisturbed run. Such a case ends there; at every {PLAY_OUT}th exchange it is played to its end all the same.",
        "- *refused*: named, documented and for good.",
        "- *wrong*: anything else. One line reproduces it: `make faults CASE=scenario/effect/exchange`.",
        "",
        "An exchange is a *change* (a method that is not known to only look), a *shell step* (only files of our own jobs are read",
        "in shells), or a *read*. Every effect is tried at every change; `tried` says at how many of the others. Reruns that would",
        "begin in a state where another case's rerun began take over that one's end (`tests/faults/state.py` says what is the",
        "same); `taken over` counts them.",
        "",
    ]
    for name, undisturbed in plain.items():
        lines += _scenario(name, undisturbed, [one for one in results if one.scenario == name])
    if wrong:
        lines += ["## Wrong", "", *(f"- `{one.line[:600]}`" for one in wrong), ""]
    if planted:
        lines += [
            "## That it can fail",
            "",
            "`make faults PLANTED=1` puts each of these faults into a scratch copy of the collection, and breaks the scenario there.",
            "",
            "| planted fault | cases | caught by | first one |",
            "|---|---|---|---|",
            *(
                f"| {one['text']} | {one['cases']} | {one['caught']} | {str(one['example']).replace('|', '/')} |"
                for one in planted
            ),
            "",
        ]
    return "\n".join(lines)


def _scenario(name: str, undisturbed: Undisturbed, results: Sequence[Result]) -> list[str]:
    there = Counter(one.kind for one in undisturbed.exchanges)
    lines = [
        f"## {name}",
        "",
        f"{SCENARIOS[name].text}: {len(undisturbed.exchanges)} exchanges undisturbed, "
        + ", ".join(f"{there[kind]} {word}" for kind, word in KINDS.items())
        + f". {sum(one.taken_over for one in results)} reruns taken over.",
        "",
        "| effect | break points tried | outcome |",
        "|---|---|---|",
    ]
    for effect in EFFECTS:
        mine = [one for one in results if one.effect == effect.name]
        if mine:
            lines.append(f"| {effect.text} (`{effect.name}`) | {_tried(effect, mine, there)} | {_outcomes(mine)} |")
    names = sorted({kind for one in results for kind in one.kinds})
    return [*lines, "", f"Errors that a run stopped with on the way: {', '.join(f'`{one}`' for one in names)}.", ""]


def _tried(effect: Effect, results: Sequence[Result], there: Mapping[str, int]) -> str:
    if effect.only_job:
        return f"{len(results)}: all while a job runs"
    tried = Counter(one.kind for one in results)
    parts = [f"{tried[kind]}/{there[kind]} {word}" for kind, word in KINDS.items() if there[kind]]
    return f"{len(results)}: {', '.join(parts)}"


def _outcomes(results: Sequence[Result]) -> str:
    count = Counter(one.outcome for one in results)
    return ", ".join(f"{number} {outcome}" for outcome, number in sorted(count.items(), key=lambda item: -item[1]))
