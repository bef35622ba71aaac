# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine `command` in the conformance suite: the example that drives Windows Server Backup, on a host and in a guest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from simulator.mishaps import mishap
from unit.conformance.wsb_site import WsbInAGuest, WsbOnAHost

TOOL = r"C:\Tools\backup.cmd"
EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "command" / "windows_server_backup.cmd"


def options_of(what: str, items: str) -> Mapping[str, Any]:
    common = ["{answer}", "{run_id}", "{target}"]
    return {
        "start": [TOOL, "start", *common, what],
        "list": [TOOL, "list", *common, items],
        "restore": [TOOL, "restore", *common, "{version}", "{machine}", "{item}", "{onto}"],
        "stop": [TOOL, "stop", "{answer}", "{run_id}"],
    }


class CommandOnAHost(WsbOnAHost):
    name = "command"
    options = options_of("-hyperv:{vm_id}", "{items}")
    share = None  # the example knows volumes only
    is_enforced = False  # an operator's product says by itself what it lacks

    def without_feature(self) -> None:
        """A program that is not there is a finding before the start, not an ability: only the options name it."""
        mishap(self.world, "delete_file", machine=self.machine.name, path=TOOL)
        (refusal,) = self.engine().refusals(self.request())
        assert refusal.kind == "command_missing"
        pytest.skip("the abilities of a product are what the operator says of it")

    def prepare(self) -> None:
        mishap(
            self.world,
            "write_file",
            machine=self.machine.name,
            path=TOOL,
            text=EXAMPLE.read_text("ascii").replace("\n", "\r\n"),
        )


class CommandInAGuest(WsbInAGuest):
    name = "command"
    options = options_of("-include:{volumes}", "{letters}")
    share = None
    is_enforced = False
    without_feature = CommandOnAHost.without_feature
    prepare = CommandOnAHost.prepare
