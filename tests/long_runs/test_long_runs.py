# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The short versions of the long runs; `make walk` and `make soak` are the long ones."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]


def long_runs(*words: str) -> subprocess.CompletedProcess[str]:
    """Apart from pytest, because it changes ansible within its process."""
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "PYTHONHASHSEED": "0"}
    command = [sys.executable, "-m", "long_runs", *words]
    return subprocess.run(command, env=environment, check=False, capture_output=True, text=True, cwd=TESTS)


@pytest.mark.e2e
def test_a_short_random_walk_of_commands_and_mistakes_loses_no_byte() -> None:
    done = long_runs("walk", "--seed", "11", "--steps", "5", "--show")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 findings" in done.stdout


@pytest.mark.gates
def test_the_same_seed_is_the_same_walk() -> None:
    first, second = (long_runs("walk", "--seed", "3", "--steps", "6", "--show") for _unused in range(2))
    steps = [line for line in first.stdout.splitlines() if line.startswith("  ") and "->" in line]
    assert steps
    assert steps == [line for line in second.stdout.splitlines() if line.startswith("  ") and "->" in line]


@pytest.mark.gates
def test_ten_cycles_of_backup_and_restore_leave_nothing_behind() -> None:
    done = long_runs("soak", "--cycles", "10", "--days-apart", "61")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "10 cycles, 0 findings" in done.stdout
