# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fault enumeration by hand: `python -m faults` (PYTHONPATH=tests), which `make faults` and `make switches` call.

Responsible for: the command line, and which effect is tried at which exchange. Not responsible for: doing it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from . import planted, report, switches
from .effects import BY_NAME, CHANGE, EFFECTS, READ, SHELL, Effect
from .exploration import Result, Trunk, Undisturbed, undisturbed
from .scenarios import SCENARIOS

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / ".build" / "faults"

Choose = Callable[[int, str, str, bool], Iterator[Effect]]


def sampled(effects: Sequence[Effect], *, every: int | None = None, kinds: Sequence[str] = ()) -> Choose:
    """All changes, all exchanges while a job runs where that matters, and a sample of the rest.

    Samples of different effects are shifted against each other, so that every exchange gets its share.
    """

    def choose(number: int, _what: str, kind: str, busy: bool) -> Iterator[Effect]:
        if kinds and kind not in kinds:
            return
        for place, effect in enumerate(EFFECTS):
            if effect not in effects or (effect.only_job and not busy):
                continue
            always = busy and (effect.while_job or effect.only_job)
            step = every or (1 if always else effect.every(kind))
            if (number + place) % step == 0:
                yield effect

    return choose


def while_job(effects: Sequence[Effect]) -> Choose:
    """Everything at the exchanges while a backup runs, and nothing else."""
    return lambda _number, _what, _kind, busy: iter(effects if busy else ())


def one_slice(plain: Undisturbed) -> Choose:
    """A fixed few for the quick tests: each effect at one change, and those of the wire at one read as well."""
    exchanges = list(enumerate(plain.exchanges, 1))
    changes = [number for number, one in exchanges if one.kind == CHANGE]
    reads = [number for number, one in exchanges if one.kind != CHANGE]
    working = [number for number, one in exchanges if one.busy]
    wanted: dict[int, list[Effect]] = {}
    for place, effect in enumerate(EFFECTS):
        there = working if effect.only_job else changes
        wanted.setdefault(there[place * 7 % len(there)], []).append(effect)
        if effect.of_the_wire:
            wanted.setdefault(reads[place * 41 % len(reads)], []).append(effect)
    return lambda number, _what, _kind, _busy: iter(wanted.get(number, ()))


def while_saved(plain: Undisturbed) -> Choose:
    """One kill, while the VM does not run."""
    return exactly(BY_NAME["killed"], next(number for number, one in enumerate(plain.exchanges, 1) if not one.vm_runs))


def exactly(effect: Effect, wanted: int) -> Choose:
    return lambda number, _what, _kind, _busy: iter([effect] if number == wanted else [])


def read_results(path: Path) -> list[Result]:
    if not path.exists():
        return []
    return [Result(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def main(words: list[str]) -> int:
    options = _options(words)
    if options.switches:
        return _switches(options)
    if options.planted is not None:
        names = [name for name in options.planted.split(",") if name not in ("", "1", "all")]
        BUILD.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            found = planted.main(Path(folder), names, BUILD / "planted.json")
        return 0 if all(one["is_caught"] or one["is_harmless"] for one in found) else 1
    if options.case:
        scenario, effect, number = options.case.split("/")
        options.scenario = [scenario]
        options.results = options.results.with_name("case.jsonl")
    options.results.parent.mkdir(parents=True, exist_ok=True)
    if not options.resume:
        options.results.unlink(missing_ok=True)
    names = options.scenario or list(SCENARIOS)
    chosen = [BY_NAME[name] for name in options.effect or BY_NAME]
    plains: dict[str, Undisturbed] = {}
    stopped: list[str] = []
    for name in names:
        plain = plains[name] = undisturbed(SCENARIOS[name])
        print(f"{name}: {len(plain.exchanges)} exchanges undisturbed, {plain.seconds:.1f} s", flush=True)
        if plain.status or plain.findings:
            print(f"The undisturbed run is not as it must be: {plain.last_words} {plain.findings}")
            return 2
        if options.case:
            choose = exactly(BY_NAME[effect], int(number))
        elif options.slice:
            choose = while_saved(plain) if SCENARIOS[name].only_while_job else one_slice(plain)
        else:
            mine = [effect for effect in chosen if effect.name in (SCENARIOS[name].effects or BY_NAME)]
            choose = sampled(mine, every=options.every, kinds=options.kind or ())
            if SCENARIOS[name].only_while_job:
                choose = while_job(mine)
        stopped += _enumerate(options, name, plain, choose)
    found_all = read_results(options.results)
    if options.write:
        _write_page(found_all, plains, stopped)
    return 1 if any(result.findings for result in found_all) else 0


def _enumerate(options: argparse.Namespace, name: str, plain: Undisturbed, choose: Choose) -> list[str]:
    done = {result.case for result in read_results(options.results)}

    def new(number: int, what: str, kind: str, busy: bool) -> Iterator[Effect]:
        for effect in choose(number, what, kind, busy):
            if f"{name}/{effect.name}/{number}" not in done:
                yield effect

    began = time.monotonic()
    trunk = Trunk(
        SCENARIOS[name],
        plain,
        choose=new,
        results=options.results,
        jobs=options.jobs,
        deadline=began + options.seconds if options.seconds else None,
        show=bool(options.case),
    )
    trunk.run()
    found = [result for result in read_results(options.results) if result.scenario == name]
    bad = [result for result in found if result.findings]
    print(f"{name}: {len(found)} cases, {len(bad)} wrong, {time.monotonic() - began:.0f} s", flush=True)
    if trunk.stopped_at:
        print(f"{name}: stopped before exchange {trunk.stopped_at}")
    for result in bad if not options.case else found:
        print(result.line)
    return [f"{name} before exchange {trunk.stopped_at} of {len(plain.exchanges)}"] if trunk.stopped_at else []


def _write_page(found: list[Result], plains: dict[str, Undisturbed], stopped: list[str]) -> None:
    known = BUILD / "planted.json"
    planted_found = json.loads(known.read_text()) if known.exists() else ()
    text = report.page(plains, found, planted=planted_found, stopped=", ".join(stopped))
    (ROOT / "docs" / "FAULTS.md").write_text(text, encoding="utf-8")
    print("docs/FAULTS.md is written")


def _switches(options: argparse.Namespace) -> int:
    names = options.scenario or [name for name, one in SCENARIOS.items() if not one.only_while_job]
    found = []
    for one in switches.endings([SCENARIOS[name] for name in names], jobs=options.jobs):
        found.append(one)
        if not one.passes:
            print(f"{one.scenario} with {one.switch}: {one.value}: {one.outcome}: {one.detail[:300]}", flush=True)
    switches.write(ROOT / "docs" / "ASSUMPTIONS.md", found)
    print(f"docs/ASSUMPTIONS.md is written: {len(found)} values")
    return 1 if any(one.outcome in ("wrong", "broken") for one in found) else 0


def _options(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="faults", description=__doc__)
    parser.add_argument("--scenario", action="append", choices=sorted(SCENARIOS))
    parser.add_argument("--effect", action="append", choices=sorted(BY_NAME))
    parser.add_argument("--kind", action="append", choices=(CHANGE, SHELL, READ), help="of exchanges")
    parser.add_argument("--case", help="scenario/effect/number: this one alone, with what its runs said")
    parser.add_argument("--slice", action="store_true", help="the fixed few of the quick tests")
    parser.add_argument("--every", type=int, help="every which exchange, for all effects and kinds of exchanges")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seconds", type=float, help="begin no case after so many seconds, for each scenario")
    parser.add_argument("--resume", action="store_true", help="keep what is in the results already")
    parser.add_argument("--results", type=Path, default=BUILD / "results.jsonl")
    parser.add_argument("--write", action="store_true", help="write docs/FAULTS.md")
    parser.add_argument("--switches", action="store_true", help="flip every switch, write docs/ASSUMPTIONS.md")
    parser.add_argument("--planted", nargs="?", const="all", help="plant faults in a scratch copy: all, or names")
    return parser.parse_args(words)


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":
        again = [sys.executable, "-m", "faults", *sys.argv[1:]]
        os.execve(sys.executable, again, {**os.environ, "PYTHONHASHSEED": "0"})  # noqa: S606  # itself, hashes fixed
    sys.exit(main(sys.argv[1:]))
