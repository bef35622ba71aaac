# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds for every test: skips are counted and limited (tests/skips.yml), and no test chooses another's file system."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from simulator.ntfs_file_system import availability

SKIPS = Path(__file__).parent / "skips.yml"
NTFS = "HYPERV_PASSTHROUGH_NTFS"
CHOSEN = os.environ.get(NTFS, "auto")


def overdrawn(reasons: list[str], allowed: list[dict[str, Any]], *, in_ci: bool) -> list[str]:
    """Sentences about skips that are not allowed.

    Args:
        reasons: of every skipped test.
        allowed: entries of skips.yml: `reason` (text that the reason contains), `at_most`, and `in_ci` where CI allows fewer.
    """
    count: Counter[str] = Counter()
    problems = []
    for reason in reasons:
        entry = next((one for one in allowed if one["reason"] in reason), None)
        if entry is None:
            problems.append(f"a skip that tests/skips.yml does not list: {reason}")
        else:
            count[entry["reason"]] += 1
    for entry in allowed:
        limit = entry.get("in_ci", entry["at_most"]) if in_ci else entry["at_most"]
        if count[entry["reason"]] > limit:
            problems.append(f"{count[entry['reason']]} tests skipped because '{entry['reason']}', {limit} are allowed")
    return problems


@pytest.fixture(autouse=True)
def _file_system_of_volumes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that wants the simulator's own file system (a variable of the process) leaves the next one its choice.

    The choice is the one of before the tests were collected, because collecting the fuzzed readers makes a world, too.
    """
    availability(CHOSEN)  # found out once in a process, and not while a test has its hands in the environment
    monkeypatch.setenv(NTFS, CHOSEN)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or hasattr(session.config, "workerinput"):
        return
    reasons = [
        str(report.longrepr[2]) for report in reporter.stats.get("skipped", []) if isinstance(report.longrepr, tuple)
    ]
    problems = overdrawn(reasons, yaml.safe_load(SKIPS.read_text()) or [], in_ci=os.environ.get("CI") == "true")
    for problem in problems:
        reporter.write_line(f"SKIPS: {problem}", red=True)
    if problems and session.exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
