# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fault enumeration by hand: `python -m faults` (PYTHONPATH=tests), which `make faults` and `make switches` call.

Responsible for: the command line. Not responsible for: doing it, or in which order (`passes.py`).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from . import diskshadow, export, passes, planted, report, reverse_restore, switches, vhd_migration
from .effects import BY_NAME, CHANGE, READ, SHELL
from .exploration import Trunk, Undisturbed, run_undisturbed
from .report import read_results
from .scenarios import SCENARIOS

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / ".build" / "faults"
REGISTERED = (
    diskshadow,
    export,
    reverse_restore,
    vhd_migration,
)  # modules whose scenarios join the register when they are imported


def main(words: list[str]) -> int:
    options = _options(words)
    if options.switches:
        return _switches(options)
    if options.planted is not None:
        return _planted(options)
    began = time.monotonic()
    if options.case:
        options.scenario = [options.case.split("/")[0]]
        options.results = options.results.with_name("case.jsonl")
    options.results.parent.mkdir(parents=True, exist_ok=True)
    memory = options.results.with_suffix(".memory")
    if not options.resume:
        options.results.unlink(missing_ok=True)
        shutil.rmtree(memory, ignore_errors=True)
    plains: dict[str, Undisturbed] = {}
    for name in options.scenario or list(SCENARIOS):
        plain = plains[name] = run_undisturbed(SCENARIOS[name])
        print(f"{name}: {len(plain.exchanges)} exchanges undisturbed, {plain.seconds:.1f} s", flush=True)
        if plain.status or plain.findings:
            print(f"The undisturbed run is not as it must be: {plain.last_words} {plain.findings}")
            return 2
        passes.remember_undisturbed(plain, memory / name)
    whole = True
    if options.case or options.slice:
        for name, plain in plains.items():
            _some(options, name, plain, None if options.case else memory / name)
    else:
        whole = passes.enumerate_all(
            plains,
            results=options.results,
            memory=memory,
            jobs=options.jobs,
            until=began + options.minutes * 60 if options.minutes else None,
            effects=options.effect or (),
            kinds=options.kind or (),
            which=options.passes or (),
            say=lambda line: print(line, flush=True),
        )
    found = read_results(options.results)
    for one in found:
        if options.case or (options.slice and one.findings):
            print(one.line)
    wrong = [one for one in found if one.findings]
    print(
        f"{len(found)} cases, {len(wrong)} wrong, {(time.monotonic() - began) / 60:.1f} minutes{'' if whole else '; not all tried'}"
    )
    if options.write:
        known = BUILD / "planted.json"
        planted_found = json.loads(known.read_text()) if known.exists() else ()
        text = report.page(plains, found, planted=planted_found, minutes=(time.monotonic() - began) / 60)
        (ROOT / "docs" / "FAULTS.md").write_text(text, encoding="utf-8")
        print("docs/FAULTS.md is written")
    return 1 if wrong else 0


def _some(options: argparse.Namespace, name: str, plain: Undisturbed, memory: Path | None) -> None:
    if options.case:
        _scenario, effect, number = options.case.split("/")
        choose = passes.exactly(BY_NAME[effect], int(number))
    else:
        choose = passes.one_slice(SCENARIOS[name], plain)
    trunk = Trunk(
        SCENARIOS[name], plain, choose=choose, known={}, results=options.results, memory=memory, show=bool(options.case)
    )
    trunk.run()


def _planted(options: argparse.Namespace) -> int:
    names = [name for name in options.planted.split(",") if name not in ("", "1", "all")]
    BUILD.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        found = planted.main(Path(folder), names, BUILD / "planted.json")
    return 0 if all(one["is_caught"] or one["is_harmless"] for one in found) else 1


def _switches(options: argparse.Namespace) -> int:
    names = options.scenario or list(switches.SWITCHED)
    known = BUILD / "switches.json"
    BUILD.mkdir(parents=True, exist_ok=True)
    found = [one for one in switches.read(known) if one.scenario not in names]
    for one in switches.endings([SCENARIOS[name] for name in names], jobs=options.jobs):
        found.append(one)
        if not one.passes:
            print(f"{one.scenario} with {one.switch}: {one.value}: {one.outcome}: {one.detail[:300]}", flush=True)
    switches.keep(known, found)
    switches.write(ROOT / "docs" / "ASSUMPTIONS.md", found)
    print(f"docs/ASSUMPTIONS.md is written: {len(found)} values")
    return 1 if any(one.outcome in ("wrong", "broken") for one in found) else 0


def _options(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="faults", description=__doc__)
    parser.add_argument("--scenario", action="append", choices=sorted(SCENARIOS))
    parser.add_argument("--effect", action="append", choices=sorted(BY_NAME))
    parser.add_argument("--kind", action="append", choices=(CHANGE, SHELL, READ), help="of exchanges")
    parser.add_argument("--passes", action="append", choices=list(passes.PASSES))
    parser.add_argument("--case", help="scenario/effect/number: this one alone, with what its runs said")
    parser.add_argument("--slice", action="store_true", help="the fixed few of the quick tests")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--minutes", type=float, help="begin no case after so many minutes; the table says what is left"
    )
    parser.add_argument("--resume", action="store_true", help="keep what is in the results already, and go on")
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
