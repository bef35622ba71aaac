# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plain script of examples/command on both sides: a two-phase backup with it, and a reverse restore from that, by bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from backup_scene import set_of, world_text
from restore_scene import Restored, lose
from simulator.mishaps import mishap

pytestmark = pytest.mark.e2e

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "command"
SCRIPT = r"C:\Tools\windows_server_backup.cmd"


def test_a_plain_script_backs_up_on_both_sides_and_brings_everything_back(lab: Callable[[str], Any]) -> None:
    # Windows makes no GPT on less than 128 MiB
    here = Restored(lab(world_text().replace("id: sql01-data, size: 24M", "id: sql01-data, size: 136M")))
    script = (EXAMPLES / "windows_server_backup.cmd").read_text(encoding="ascii").replace("\n", "\r\n")
    for machine in ("hv01", "sql01"):
        mishap(here.world, "write_file", machine=machine, path=SCRIPT, text=script)
    options = yaml.safe_load((EXAMPLES / "windows_server_backup.yml").read_text(encoding="utf-8"))
    given = {name.removeprefix("two_phase_backup_"): value for name, value in options.items()}
    run = here.backup(**given)
    assert run.status == 0, run.output
    made = set_of(run)
    assert made["state"] == "good"
    assert [made["phases"][phase]["attempts"][0]["engine"] for phase in ("guest", "host")] == ["command", "command"]

    trees, images, at_boot = here.trees(), here.images(), dict[str, str]()
    lose(here)
    mishap(here.world, "overwrite_lun", lun="sql01-data")
    # the disk that Windows boots from changes as soon as it runs, so that it is judged at the moment the VM is started
    here.at({"machine": "hv01", "method": "RequestStateChange"}, lambda _machine: at_boot.update(here.images()))
    run = here.restore()
    assert run.status == 0, run.output
    assert here.trees()["sql01:S"] == trees["sql01:S"]
    assert at_boot == images
    assert here.world.check() == []
    assert here.record()["state"] == "restored"
