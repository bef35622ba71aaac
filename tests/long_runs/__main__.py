# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Long runs by hand: `python -m long_runs walk|soak` (PYTHONPATH=tests), which `make walk` and `make soak` call."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter

from .soak import Soak
from .walk import walked


def _walk(options: argparse.Namespace) -> int:
    wrong, began = 0, time.monotonic()
    outcomes: Counter[str] = Counter()
    for seed in range(options.seed, options.seed + options.walks):
        if options.seconds and time.monotonic() - began > options.seconds:
            break

        def tell(line: str) -> None:
            _number, name, *_rest = line.split()
            outcomes[f"{name} {line.rpartition('-> ')[2].split(':')[0].split(',')[0]}"] += 1
            if options.show:
                print(line, flush=True)

        at = time.monotonic()
        lines = list(walked(seed, options.steps, tell))
        for line in lines:
            print(line, flush=True)
        wrong += bool(lines)
        print(f"seed {seed}: {options.steps} steps, {time.monotonic() - at:.1f} s, {len(lines)} findings", flush=True)
    for name, count in sorted(outcomes.items()):
        print(f"  {count:5} {name}")
    return 1 if wrong else 0


def _soak(options: argparse.Namespace) -> int:
    soak = Soak(lambda line: print(line, flush=True), days_apart=options.days_apart)
    try:
        for _unused in range(options.cycles):
            soak.cycle()
            if soak.findings:
                break
        wrong = list(soak.judge())
        first = soak.counts[min(soak.warm_up, soak.cycles) - 1]
        for name, count in soak.counts[-1].items():
            print(f"  {name}: {first.get(name, 0)} after cycle {min(soak.warm_up, soak.cycles)}, {count} at the end")
        print(f"  memory: {soak.memory[0]} KiB, {soak.memory[-1]} KiB, {soak.slope_kib():.0f} KiB a cycle")
    finally:
        soak.close()
    for line in wrong:
        print(f'make soak ARGS="--cycles {options.cycles}"  # {line}')
    print(f"{soak.cycles} cycles, {len(wrong)} findings")
    return 1 if wrong else 0


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="long_runs", description=__doc__)
    parts = parser.add_subparsers(required=True)
    walk = parts.add_parser("walk", help="random commands, outages and mistakes")
    walk.add_argument("--seed", type=int, default=1, help="of the first walk")
    walk.add_argument("--walks", type=int, default=1, help="how many, each with the next seed")
    walk.add_argument("--steps", type=int, default=20)
    walk.add_argument("--seconds", type=float, help="begin no walk after so many seconds")
    walk.add_argument("--show", action="store_true", help="every step with its outcome")
    walk.set_defaults(run=_walk)
    soak = parts.add_parser("soak", help="backups and restores over and over")
    soak.add_argument("--cycles", type=int, default=300)
    soak.add_argument("--days-apart", type=float, default=7.0, help="of two backups")
    soak.set_defaults(run=_soak)
    options = parser.parse_args(words)
    return int(options.run(options))


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":
        again = [sys.executable, "-m", "long_runs", *sys.argv[1:]]
        os.execve(sys.executable, again, {**os.environ, "PYTHONHASHSEED": "0"})  # noqa: S606  # itself, hashes fixed
    sys.exit(main(sys.argv[1:]))
