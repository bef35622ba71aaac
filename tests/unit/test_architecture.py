# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Holds the arrows of docs/ARCHITECTURE.md: imports go downward only, and nothing below the glue touches the outside world."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = ROOT / "plugins"
UTILS = PLUGINS / "plugin_utils"
SIMULATOR = ROOT / "tests" / "simulator"
PREFIX = "ansible_collections.hyperv.passthrough.plugins."

#: layer -> the layers it may import; `glue` is every file directly in plugin_utils
ALLOWED = {
    "_wsman": {"_wsman"},
    "_hyperv": {"_hyperv", "_wsman"},
    "_backup": {"_backup", "_hyperv", "_wsman"},
    "glue": {"glue", "_backup", "_hyperv", "_wsman"},
    "entry": {"entry", "glue", "_backup", "_hyperv", "_wsman"},
}
LIBRARY = ("_wsman", "_hyperv", "_backup")
OUTSIDE_WORLD = {
    "socket",
    "requests",
    "urllib3",
    "http",
    "winrm",
    "pypsrp",
    "spnego",
    "subprocess",
    "random",
    "secrets",
}
ACTS = {
    ("time", "sleep"),
    ("time", "time"),
    ("time", "monotonic"),
    ("uuid", "uuid4"),
    ("uuid", "uuid1"),
    ("os", "urandom"),
}
CLOCKS = {"now", "utcnow", "today"}


def layer_of(path: Path) -> str:
    if UTILS in path.parents:
        below = path.relative_to(UTILS).parts
        return below[0] if len(below) > 1 else "glue"
    return "entry"


def imports_of(path: Path) -> list[str]:
    """Absolute dotted names of everything a file imports; relative imports are resolved."""
    package = [*PREFIX.rstrip(".").split("."), *path.relative_to(PLUGINS).parts[:-1]]
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                base = package[: len(package) - node.level + 1]
                found.append(".".join([*base, *(node.module or "").split(".")]).rstrip("."))
                if not node.module:
                    found += [".".join([*base, name.name]) for name in node.names]
            else:
                found.append(node.module or "")
    return found


def product_files() -> list[Path]:
    return sorted(path for path in PLUGINS.rglob("*.py") if "__pycache__" not in path.parts)


def library_files() -> list[Path]:
    return [path for path in product_files() if layer_of(path) in LIBRARY]


def broken_arrows(path: Path) -> list[str]:
    broken = []
    for name in imports_of(path):
        if not name.startswith(PREFIX + "plugin_utils"):
            continue
        parts = name.removeprefix(PREFIX).split(".")[1:]
        if not parts:
            continue
        into = parts[0] if parts[0] in LIBRARY else "glue"
        if into not in ALLOWED[layer_of(path)]:
            broken.append(f"{path.relative_to(ROOT)} ({layer_of(path)}) imports {into}")
    return broken


@pytest.mark.parametrize("path", product_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_downward_only(path: Path) -> None:
    assert broken_arrows(path) == []


@pytest.mark.parametrize("path", library_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_library_layers_do_not_know_ansible_or_the_outside_world(path: Path) -> None:
    roots = {name.split(".")[0] for name in imports_of(path)} - {"ansible_collections"}
    assert "ansible" not in roots
    assert not roots & OUTSIDE_WORLD
    if layer_of(path) != "_wsman":
        assert not [
            name for name in imports_of(path) if name.startswith("xml") and path.name not in XML_OUTSIDE_THE_PROTOCOL
        ]


#: The two readers of XML that is not WS-Management: Task Scheduler definitions and event log entries.
XML_OUTSIDE_THE_PROTOCOL = {"backup_events.py", "wsb.py", "scheduled_tasks.py", "task_xml.py"}


@pytest.mark.parametrize("path", library_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_library_layers_take_time_and_ids_through_parameters(path: Path) -> None:
    calls = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value
            name = owner.id if isinstance(owner, ast.Name) else owner.attr if isinstance(owner, ast.Attribute) else ""
            if (name, node.func.attr) in ACTS or (name in ("datetime", "date") and node.func.attr in CLOCKS):
                calls.append(f"{name}.{node.func.attr} in line {node.lineno}")
    assert calls == []


@pytest.mark.parametrize(
    "path",
    sorted(path for path in SIMULATOR.rglob("*.py") if "__pycache__" not in path.parts),
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_the_simulator_imports_nothing_of_the_product(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        names = (
            [name.name for name in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom) and not node.level
            else []
        )
        for name in names:
            assert not name.startswith(("ansible", "plugins", "winrm", "pypsrp"))


def test_the_product_never_imports_tests() -> None:
    for path in product_files():
        assert not [name for name in imports_of(path) if name.startswith(("simulator", "tests"))]


def test_a_planted_upward_import_is_found(tmp_path: Path) -> None:
    planted = UTILS / "_wsman" / "wire.py"
    tree = ast.parse("from .._hyperv import model")
    assert isinstance(tree.body[0], ast.ImportFrom)
    source = planted.read_text() + "\nfrom .._hyperv import model\n"
    copy = tmp_path / "plugins" / "plugin_utils" / "_wsman" / "wire.py"
    copy.parent.mkdir(parents=True)
    copy.write_text(source)
    names = imports_in_place(copy, like=planted)
    assert PREFIX + "plugin_utils._hyperv" in names


def imports_in_place(copy: Path, *, like: Path) -> list[str]:
    """Imports of `copy`, resolved as if it lay where `like` lies."""
    package = [*PREFIX.rstrip(".").split("."), *like.relative_to(PLUGINS).parts[:-1]]
    return [
        ".".join([*package[: len(package) - node.level + 1], *(node.module or "").split(".")])
        for node in ast.walk(ast.parse(copy.read_text()))
        if isinstance(node, ast.ImportFrom) and node.level
    ]


def test_no_file_is_called_utils_helpers_or_common() -> None:
    forbidden = re.compile(r"(^|_)(utils?|helpers?|common|misc)(_|\.|$)")
    for folder in (PLUGINS, SIMULATOR, ROOT / "roles", ROOT / "bench"):
        for path in folder.rglob("*.py"):
            if "__pycache__" not in path.parts:
                assert not forbidden.search(path.name), path


def test_every_python_file_says_what_it_is_responsible_for() -> None:
    for path in [*product_files(), *SIMULATOR.rglob("*.py")]:
        if "__pycache__" in path.parts or (layer_of(path) == "entry" and "modules" in path.parts):
            continue
        text = path.read_text()
        assert "SPDX-License-Identifier: GPL-3.0-or-later" in text.split('"""')[0], path
        assert ast.get_docstring(ast.parse(text)), f"{path} has no module docstring"
