# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The long run of the fuzzing: `python -m fuzz` (PYTHONPATH=tests), which `make fuzz` calls.

Responsible for: how long, which cases, the limits of time and memory of each, one line for each finding that reproduces it.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

from .readers import READERS, Reader

CASE_S = 20
MORE_MEMORY = 1 << 30


class TooLong(BaseException):
    """A reader works on one text for longer than a person waits."""


@contextlib.contextmanager
def limited(seconds: int = CASE_S) -> Iterator[None]:
    def ring(_number: int, _frame: object) -> None:
        raise TooLong(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def finding(reader: Reader, number: int) -> str | None:
    """Why a case is wrong, None when it is right."""
    try:
        with limited():
            reader.try_once(number)
    except (Exception, TooLong) as error:  # noqa: BLE001  # whatever comes out is the finding
        last = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {str(error)[:160]} ({last.filename.rpartition('/')[2]}:{last.lineno})"
    return None


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("--reader", action="append", choices=sorted(READERS))
    parser.add_argument("--seconds", type=float, default=30.0, help="for each reader")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--case", help="reader/number: this one alone, with its traceback")
    options = parser.parse_args(words)
    if options.case:
        name, _slash, number = options.case.rpartition("/")
        with limited(600):
            READERS[name].try_once(int(number))
        print(f"{options.case}: nothing wrong")
        return 0
    status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    used = int(next(line.split()[1] for line in status if line.startswith("VmSize"))) * 1024
    resource.setrlimit(resource.RLIMIT_AS, (used + MORE_MEMORY, resource.RLIM_INFINITY))
    wrong = 0
    for name in options.reader or READERS:
        reader, number, began, slowest = READERS[name], options.first, time.monotonic(), (0.0, 0)
        seen: set[str] = set()
        while time.monotonic() - began < options.seconds:
            at = time.monotonic()
            text = finding(reader, number)
            slowest = max(slowest, (time.monotonic() - at, number))
            if text is not None:
                place = text[text.rfind("(") :]
                if place not in seen:
                    print(f"make fuzz CASE={name}/{number}  # {text}", flush=True)
                seen.add(place)
                wrong += 1
            number += 1
        print(
            f"{name}: {number - options.first} cases, {len(seen)} kinds of findings, the slowest case {slowest[1]} took "
            f"{slowest[0]:.2f} s",
            flush=True,
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"most memory used: {peak} MiB")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
