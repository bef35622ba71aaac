# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which effects are tried at which exchanges, in which order, and by how many processes.

Responsible for: the passes, from what matters most to what costs most; sharing the time there is among scenarios; what was left
when it was over. Not responsible for: trying (`exploration.py`).

A unit of work is one pass over one scenario, in a process of its own. Every scenario gets its first pass before any gets its
second. A unit that has used up its share stops in order and is put at the end of the queue, for the time that is left then.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from .case import Memory
from .effects import BESIDE, BY_NAME, CHANGE, EFFECTS, Effect
from .exploration import Choose, Exchange, Result, Trunk, Undisturbed
from .scenarios import SCENARIOS, Scenario

ALONE = "two_at_once"  # every interleaving is a case of its own
LEAST_S = 20
#: How the time is shared among what is still to be done; the passes that are not named weigh 1.
WEIGHTS = {"changes": 10, "looks": 8, "machines": 5, "two at changes": 2, "every 64th": 2}
STOPPED = 3


def effects_of(scenario: Scenario) -> list[Effect]:
    named = scenario.effects
    return [effect for effect in EFFECTS if (effect.name in named if named else not effect.only_named)]


def is_possible(scenario: Scenario, effect: Effect, one: Exchange) -> bool:
    """Whether an effect can be tried at an exchange, as the undisturbed run saw it."""
    if (effect.needs_stopped_vm and one.vm_runs) or (effect.needs_running_vm and not one.vm_runs):
        return False
    return effect.is_for(one.what, one.busy) and (one.busy or not scenario.only_while_job)


def possible(scenario: Scenario, plain: Undisturbed) -> Mapping[str, list[Exchange]]:
    """Every exchange at which an effect is to be tried, for the table."""
    return {
        effect.name: [one for one in plain.exchanges if is_possible(scenario, effect, one)]
        for effect in effects_of(scenario)
    }


Wanted = Callable[[int, int, Effect, Exchange], bool]  # exchange, place of the effect, effect, exchange


def _strided(stride: int) -> Wanted:
    return lambda number, place, _effect, _one: (number + place * 7) % stride == 0


#: In the order in which they are made; what an earlier one has tried is not tried again.
PASSES: Mapping[str, Wanted] = {
    "changes": lambda _number, _place, effect, one: one.kind == CHANGE and effect.name != ALONE,
    "looks": lambda _number, _place, effect, one: (
        one.kind != CHANGE and (effect.of_the_wire or effect.name in ("outage", "killed"))
    ),
    "machines": lambda _number, _place, effect, one: one.kind != CHANGE and effect.of_the_world,
    "two at changes": lambda number, _place, effect, one: (
        one.kind == CHANGE and effect.name == ALONE and number % 3 == 0
    ),
    "every 64th": _strided(64),
    "every 16th": _strided(16),
    "every 4th": _strided(4),
    "all": _strided(1),
}


def chosen(
    scenario: Scenario,
    wanted: Wanted,
    known: Mapping[str, Result],
    effects: Sequence[str] = (),
    kinds: Sequence[str] = (),
) -> Choose:
    def choose(number: int, one: Exchange) -> Iterator[Effect]:
        for place, effect in enumerate(effects_of(scenario)):
            if (effects and effect.name not in effects) or (kinds and one.kind not in kinds):
                continue
            if not is_possible(scenario, effect, one) or not wanted(number, place, effect, one):
                continue
            if f"{scenario.name}/{effect.name}/{number}" not in known:
                yield effect

    return choose


def one_slice(scenario: Scenario, plain: Undisturbed) -> Choose:
    """A fixed few for the quick tests: a rerun beside the run at one change, a lost look, something at a machine.

    The change is the second one: there a restore asks for its lease, where a run that was overtaken once kept it.
    """
    exchanges = list(enumerate(plain.exchanges, 1))
    found: dict[int, list[Effect]] = {}
    if scenario.only_while_job:
        number = next(number for number, one in exchanges if not one.vm_runs)
        return lambda here, _one: iter([BY_NAME["killed"]] if here == number else [])
    shift = sum(map(ord, scenario.name))
    for place, effect in enumerate(effects_of(scenario)):
        there = [(number, one) for number, one in exchanges if is_possible(scenario, effect, one)]
        changes = [number for number, one in there if one.kind == CHANGE]
        looks = [number for number, one in there if one.kind != CHANGE]
        if changes and effect.name in BESIDE:
            found.setdefault(changes[1 % len(changes)], []).append(effect)
        elif changes and effect.of_the_world and (place + shift) % 4 == 0:
            found.setdefault(changes[shift % len(changes)], []).append(effect)
        elif looks and effect.of_the_wire and (place + shift) % 3 == 0:
            found.setdefault(looks[(place * 41 + shift) % len(looks)], []).append(effect)
    return lambda number, _one: iter(found.get(number, ()))


def exactly(effect: Effect, wanted: int) -> Choose:
    return lambda number, _one: iter([effect] if number == wanted else [])


def remember_undisturbed(plain: Undisturbed, memory: Path) -> None:
    """A case whose run is, between two tasks, where the undisturbed run was goes on like it."""
    known = Memory(memory)
    for key in plain.states:
        known.put(key, ("same", []))


def tried(results: Path, scenario: str) -> dict[str, Result]:
    from .report import read_results

    return {one.case: one for one in read_results(results) if one.scenario == scenario}


def enumerate_all(
    plains: Mapping[str, Undisturbed],
    *,
    results: Path,
    memory: Path,
    jobs: int,
    until: float | None,
    effects: Sequence[str] = (),
    kinds: Sequence[str] = (),
    which: Sequence[str] = (),
    say: Callable[[str], None] = print,
) -> bool:
    """Every pass over every scenario; False when the time was over before."""
    queue = [(name, one) for one in PASSES if not which or one in which for name in plains]
    active: dict[int, tuple[str, str, float, int]] = {}
    whole, done, total = True, 0, len(queue)
    while queue or active:
        while queue and len(active) < jobs:
            left = None if until is None else until - time.monotonic()
            if left is not None and left < 1:
                queue.clear()
                whole = False
                break
            name, now_made = queue.pop(0)
            share = None if left is None else min(left, max(LEAST_S, _share(now_made, queue) * left * jobs))
            before = len(tried(results, name))
            sys.stdout.flush()
            pid = os.fork()
            if not pid:
                _unit(name, now_made, plains[name], results, memory / name, (until, share), effects, kinds)
            active[pid] = (name, now_made, time.monotonic(), before)
        if not active:
            break
        pid, status = os.wait()
        if pid not in active:
            continue
        name, made, began, before = active.pop(pid)
        code = os.waitstatus_to_exitcode(status)
        now = tried(results, name)
        done += code == 0
        if code == STOPPED:
            queue.insert(_place(made, queue), (name, made))
        elif code:
            whole = False
        new = list(now.values())[before:]
        played = sum(one.seconds > 0 for one in new)
        wrong = sum(bool(one.findings) for one in now.values())
        note = "" if not code else ", not to its end" if code == STOPPED else f", the process ended with {code}"
        say(
            f"[{time.strftime('%H:%M:%S')}] {done}/{total} {name}, {made}: {len(new)} cases, {played} of them begun"
            f"{note}, {wrong} wrong so far, {time.monotonic() - began:.0f} s"
        )
        for one in new:
            if one.findings and one.seconds:
                say(f"  {one.line[:700]}")
    return whole


def _share(which: str, queue: Sequence[tuple[str, str]]) -> float:
    """Of the time that is left, somewhat more than the weight says: not every unit needs its share."""
    mine = WEIGHTS.get(which, 1)
    return 1.4 * mine / (mine + sum(WEIGHTS.get(one, 1) for _name, one in queue))


def _place(which: str, queue: Sequence[tuple[str, str]]) -> int:
    """What was stopped goes on when the next pass is through."""
    order = list(PASSES)
    later = (place for place, (_name, one) in enumerate(queue) if order.index(one) > order.index(which) + 1)
    return next(later, len(queue))


def _unit(
    name: str,
    which: str,
    plain: Undisturbed,
    results: Path,
    memory: Path,
    limits: tuple[float | None, float | None],
    effects: Sequence[str],
    kinds: Sequence[str],
) -> None:
    code = 1
    try:
        known = tried(results, name)
        scenario = SCENARIOS[name]
        trunk = Trunk(
            scenario,
            plain,
            choose=chosen(scenario, PASSES[which], known, effects, kinds),
            known=known,
            results=results,
            memory=memory,
            until=limits[0],
            budget=limits[1],
        )
        trunk.run()
        code = STOPPED if trunk.stopped_at else 0
    except BaseException:  # noqa: BLE001  # the process ends here
        import traceback

        traceback.print_exc()
    sys.stdout.flush()
    os._exit(code)


__all__ = ["PASSES", "enumerate_all", "exactly", "one_slice", "possible", "tried"]
