# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The watch over skipped tests can fail."""

from __future__ import annotations

import importlib.util
from pathlib import Path

SPEC = importlib.util.spec_from_file_location("skip_watch", Path(__file__).resolve().parents[1] / "conftest.py")
assert SPEC is not None and SPEC.loader is not None
watch = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(watch)

ALLOWED = [{"reason": "no qemu-img", "at_most": 2, "in_ci": 0}]


def test_a_skip_that_nobody_allowed_is_told() -> None:
    assert watch.overdrawn(["tired"], ALLOWED, in_ci=False) == ["a skip that tests/skips.yml does not list: tired"]


def test_one_more_than_allowed_is_told() -> None:
    assert watch.overdrawn(["Skipped: no qemu-img here"] * 2, ALLOWED, in_ci=False) == []
    assert len(watch.overdrawn(["Skipped: no qemu-img here"] * 3, ALLOWED, in_ci=False)) == 1


def test_continuous_integration_has_its_own_limit() -> None:
    assert len(watch.overdrawn(["Skipped: no qemu-img here"], ALLOWED, in_ci=True)) == 1
