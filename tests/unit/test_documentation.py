# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation of every task is its argument spec, and every task is where people look for it."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "ansible_collections.hyperv.passthrough.plugins"
TASKS = sorted(path.stem for path in (ROOT / "plugins" / "action").glob("*.py"))
SPEC_KEYS = ("type", "elements", "choices", "default", "required")


def texts_of(path: Path) -> dict[str, str]:
    """Module or class level string assignments of a file, without importing it."""
    return {
        node.targets[0].id: node.value.value
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    }


def documentation(task: str) -> dict[str, Any]:
    docs = yaml.safe_load(texts_of(ROOT / "plugins" / "modules" / f"{task}.py")["DOCUMENTATION"])
    for name in docs.get("extends_documentation_fragment", []):
        _unused, _unused, fragment, *section = name.split(".")
        texts = texts_of(ROOT / "plugins" / "doc_fragments" / f"{fragment}.py")
        docs["options"] = {
            **yaml.safe_load(texts[section[0].upper() if section else "DOCUMENTATION"]).get("options", {}),
            **(docs.get("options") or {}),
        }
    return dict(docs)


def comparable(options: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {key: option[key] for key in SPEC_KEYS if option.get(key) not in (None, False)}
        for name, option in (options or {}).items()
    }


@pytest.mark.parametrize("task", TASKS)
def test_the_documentation_of_a_task_is_its_argument_spec(task: str) -> None:
    spec = importlib.import_module(f"{PACKAGE}.action.{task}").ActionModule.SPEC["argument_spec"]
    assert comparable(documentation(task)["options"]) == comparable(spec)


@pytest.mark.parametrize("task", TASKS)
def test_identities_are_options_of_the_task(task: str) -> None:
    action = importlib.import_module(f"{PACKAGE}.action.{task}").ActionModule
    assert set(action.SPEC["argument_spec"]) >= action.IDENTITIES


def test_every_task_has_documentation_and_belongs_to_the_action_group() -> None:
    modules = sorted(path.stem for path in (ROOT / "plugins" / "modules").glob("*.py"))
    groups = yaml.safe_load((ROOT / "meta" / "runtime.yml").read_text())["action_groups"]
    assert modules == TASKS == sorted(groups["all"])


@pytest.mark.parametrize("role", sorted(path.name for path in (ROOT / "roles").iterdir()))
def test_defaults_of_a_role_are_the_defaults_of_its_argument_spec(role: str) -> None:
    spec = yaml.safe_load((ROOT / "roles" / role / "meta" / "argument_specs.yml").read_text())
    options = spec["argument_specs"]["main"]["options"]
    defaults = yaml.safe_load((ROOT / "roles" / role / "defaults" / "main.yml").read_text())
    assert {name: option["default"] for name, option in options.items() if "default" in option} == defaults
    own = {name for name in options if not name.startswith("hyperv_")}
    assert all(name.startswith(f"{role}_") for name in own)


def test_the_inventory_of_the_readme_can_be_used_as_it_is() -> None:
    text = (ROOT / "README.md").read_text().split("```yaml\n")[1].split("```")[0]
    inventory = yaml.safe_load(text)["all"]
    guests = inventory["children"]["hyperv_guests"]
    hosts = inventory["children"]["hyperv_hosts"]["hosts"]
    spec = yaml.safe_load((ROOT / "roles" / "two_phase_backup" / "meta" / "argument_specs.yml").read_text())
    options = spec["argument_specs"]["main"]["options"]
    for variables in guests["hosts"].values():
        given = {**guests["vars"], **variables}
        assert given["hyperv_host"] in hosts
        assert {name for name, option in options.items() if option.get("required")} <= set(given)
        assert {name for name in given if name.startswith("two_phase_backup_")} <= set(options)


def test_every_playbook_and_option_that_the_readme_names_exists() -> None:
    readme = (ROOT / "README.md").read_text()
    roles = {path.name for path in (ROOT / "roles").iterdir()}
    names = TASKS + [path.stem for path in (ROOT / "plugins" / "filter").glob("*.py")] + sorted(roles)
    names += [path.stem for path in (ROOT / "playbooks").glob("*.yml")]
    for name in set(re.findall(r"hyperv\.passthrough\.([a-z_]+)", readme)):
        assert name in names, name
    options = yaml.safe_load((ROOT / "roles" / "two_phase_backup" / "meta" / "argument_specs.yml").read_text())
    known = set(options["argument_specs"]["main"]["options"])
    assert {name for name in re.findall(r"`(two_phase_backup_[a-z_]+)", readme) if name not in known} == set()
