# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of engines: the guide's table says what their capabilities are, every engine has its page and its place in the tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup import engines
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.errors import BackupError

ROOT = Path(__file__).resolve().parents[3]
SERVER = {"is_server": True, "os_build": "20348", "os_family": "windows", "windows_server_backup": "installed"}
#: Least options of engines that cannot be used without any; what depends on them is "by its contract" in the table.
OPTIONS: dict[str, dict[str, Any]] = {
    "command": {"start": ["backup.exe", "{request}"], "list": ["list.exe", "{answer}"]}
}
BY_CONTRACT = {"command"}
ROWS = {
    "application consistent": "application_consistent",
    "incremental": "incremental",
    "needs the VM off": "needs_vm_off",
    "several VMs of a host at once": "concurrent",
    "restores on another host": "restores_elsewhere",
    "VMs that have checkpoints": "checkpoints",
    "VHDs on SMB shares": "remote_vhds",
    "deletes single versions (retention)": "deletes_versions",
}


def table() -> dict[str, dict[str, str]]:
    """Row -> engine -> cell of docs/ENGINES.md."""
    lines = [line for line in (ROOT / "docs" / "ENGINES.md").read_text().splitlines() if line.startswith("|")]
    cells = [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]
    names = [cell.split("]")[0].lstrip("[").strip("`") for cell in cells[0][1:]]
    return {row[0]: dict(zip(names, row[1:], strict=True)) for row in cells[2:]}


def test_the_guides_table_is_what_the_engines_say() -> None:
    found = table()
    assert set(found) == {"phases", *ROWS}
    for name in engines.names():
        entry = engines.engine(name)
        assert found["phases"][name] == ", ".join(sorted(entry.phases))
        able = entry.capabilities(SERVER, entry.options(OPTIONS.get(name), "host"))
        for row, attribute in ROWS.items():
            said = "by its contract" if name in BY_CONTRACT else "yes" if getattr(able, attribute) else "no"
            assert found[row][name] == said, (row, name)
    assert set(found["phases"]) == set(engines.names())


@pytest.mark.parametrize("name", engines.names())
def test_every_engine_has_its_page(name: str) -> None:
    page = (ROOT / "docs" / "engines" / f"{name}.md").read_text()
    assert "without this collection" in page.replace("\n", " ")


@pytest.mark.parametrize("phase", ["guest", "host"])
def test_roles_and_tasks_offer_the_engines_of_their_phase(phase: str) -> None:
    wanted = list(engines.names(phase))  # type: ignore[arg-type]
    spec = yaml.safe_load((ROOT / "roles" / "two_phase_backup" / "meta" / "argument_specs.yml").read_text())
    assert spec["argument_specs"]["main"]["options"][f"two_phase_backup_{phase}_engine"]["choices"] == wanted
    for task in (f"{phase}_backup", f"{phase}_restore"):
        module = (ROOT / "plugins" / "modules" / f"{task}.py").read_text()
        documented = yaml.safe_load(module.split('DOCUMENTATION = r"""')[1].split('"""')[0])
        assert documented["options"]["engine"]["choices"] == wanted


def test_an_engine_that_does_not_exist_is_told_with_those_that_do() -> None:
    with pytest.raises(BackupError, match="wsb"):
        engines.engine("tape")
