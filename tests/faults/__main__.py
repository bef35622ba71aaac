# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the fault enumeration by hand: `python -m faults` (PYTHONPATH=tests), which `make faults` and `make switches` call."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from .effects import BY_NAME, CHANGE, EFFECTS, READ, SHELL, Effect
from .exploration import Result, Trunk, undisturbed
from .scenarios import SCENARIOS

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / ".build" / "faults"


def chosen(number: int, kind: str, busy: bool, effects: tuple[Effect, ...], *, every: int | None) -> Iterator[Effect]:
    """Effects to try at an exchange. Samples of different effects are shifted, so that every exchange gets some."""
    for place, effect in enumerate(EFFECTS):
        if effect not in effects or (effect.only_job and not busy):
            continue
        step = 1 if busy and (effect.while_job or effect.only_job) else effect.every(kind)
        if every is not None:
            step = every
        if step and (number + place) % step == 0:
            yield effect


def read_results(path: Path) -> list[Result]:
    if not path.exists():
        return []
    return [Result(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="faults", description=__doc__)
    parser.add_argument("--scenario", action="append", choices=sorted(SCENARIOS))
    parser.add_argument("--effect", action="append", choices=sorted(BY_NAME))
    parser.add_argument("--case", help="scenario/effect/number")
    parser.add_argument("--kind", action="append", choices=(CHANGE, SHELL, READ), help="of exchanges")
    parser.add_argument("--every", type=int, help="every which exchange, for all effects and kinds of exchanges")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seconds", type=float, help="begin no case after so many seconds")
    parser.add_argument("--resume", action="store_true", help="keep what is in the results already")
    parser.add_argument("--results", type=Path, default=BUILD / "results.jsonl")
    options = parser.parse_args(words)
    options.results.parent.mkdir(parents=True, exist_ok=True)
    if options.case:
        scenario, effect, number = options.case.split("/")
        options.scenario, options.effect, only = [scenario], [effect], int(number)
        options.results = options.results.with_name("case.jsonl")
    else:
        only = None
    if not options.resume:
        options.results.unlink(missing_ok=True)
    done = {result.case for result in read_results(options.results)}
    effects = tuple(BY_NAME[name] for name in options.effect) if options.effect else EFFECTS
    for name in options.scenario or list(SCENARIOS):
        plain = undisturbed(SCENARIOS[name])
        print(f"{name}: {len(plain.exchanges)} exchanges undisturbed, {plain.seconds:.1f} s", flush=True)
        if plain.status or plain.findings:
            print(f"The undisturbed run is not as it must be: {plain.last_words} {plain.findings}")
            return 2

        def choose(number: int, _what: str, kind: str, busy: bool, name: str = name) -> Iterator[Effect]:
            if only is not None:
                yield from effects if number == only else ()
                return
            if options.kind and kind not in options.kind:
                return
            for effect in chosen(number, kind, busy, effects, every=options.every):
                if f"{name}/{effect.name}/{number}" not in done:
                    yield effect

        deadline = time.monotonic() + options.seconds if options.seconds else None
        trunk = Trunk(
            SCENARIOS[name], plain, choose=choose, results=options.results, jobs=options.jobs, deadline=deadline
        )
        began = time.monotonic()
        trunk.run()
        found = [result for result in read_results(options.results) if result.scenario == name]
        bad = [result for result in found if result.findings]
        print(f"{name}: {len(found)} cases, {len(bad)} wrong, {time.monotonic() - began:.0f} s", flush=True)
        if trunk.stopped_at:
            print(f"{name}: stopped before exchange {trunk.stopped_at}")
        for result in bad:
            print(result.line)
    return 1 if any(result.findings for result in read_results(options.results)) else 0


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":
        again = [sys.executable, "-m", "faults", *sys.argv[1:]]
        os.execve(sys.executable, again, {**os.environ, "PYTHONHASHSEED": "0"})  # noqa: S606  # itself, hashes fixed
    sys.exit(main(sys.argv[1:]))
