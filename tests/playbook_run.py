# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs ansible-playbook as an operator does and gives back what every task returned.

Responsible for: the inventory of a simulated world, the command line, the environment, reading the results. Not responsible
for: the simulated world itself, or what a test expects. Used by the end-to-end tests, the demo and the benchmarks.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
CALLBACKS = ROOT / "tests" / "e2e" / "callback_plugins"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskResult:
    host: str
    task: str
    action: str
    status: str
    result: dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlaybookRun:
    """What one ansible-playbook command printed, returned, and what each of its tasks returned, in order."""

    status: int
    output: str
    tasks: list[TaskResult]

    def of(self, action: str, host: str | None = None) -> list[TaskResult]:
        """Results of one of our tasks (bare name) that was not skipped."""
        return [
            task
            for task in self.tasks
            if task.action.endswith(action) and task.status != "skipped" and host in (None, task.host)
        ]

    def failures(self) -> list[TaskResult]:
        return [task for task in self.tasks if task.status in ("failed", "unreachable")]


class Unsafe(str):
    """Text that an operator marks with `!unsafe`, so that Ansible never takes it for a template."""


class _Dumper(yaml.SafeDumper):
    pass


_Dumper.add_representer(Unsafe, lambda dumper, text: dumper.represent_scalar("!unsafe", str(text), style="'"))


def _as_yaml(data: Any) -> str:
    return yaml.dump(data, Dumper=_Dumper, allow_unicode=True, sort_keys=False)


def run_playbook(
    playbook: str | Path | list[dict[str, Any]],
    inventory: dict[str, Any],
    *arguments: str,
    folder: Path | None = None,
    environment: dict[str, str] | None = None,
    timeout_s: float = 600,
    executable: Path | None = None,
    on_screen: bool = False,
) -> PlaybookRun:
    """Run a playbook by FQCN, by path, or given as a list of plays.

    `inventory` is written as a YAML file of its own, so nothing of the machine's configuration leaks in. With `on_screen`
    the output goes to the terminal while it comes, and is not returned.
    """
    with tempfile.TemporaryDirectory(dir=folder) as name:
        place = Path(name)
        hosts = place / "inventory.yml"
        hosts.write_text(_as_yaml(inventory), encoding="utf-8")
        if isinstance(playbook, list):
            path = place / "playbook.yml"
            path.write_text(_as_yaml(playbook), encoding="utf-8")
            playbook = path
        record = place / "record.jsonl"
        (place / "ansible.cfg").write_text("[defaults]\n")
        command = [
            str(executable or Path(sys.executable).parent / "ansible-playbook"),
            "-i",
            str(hosts),
            str(playbook),
            *arguments,
        ]
        done = subprocess.run(
            command,
            cwd=place,
            env=playbook_environment(record) | {"ANSIBLE_CONFIG": str(place / "ansible.cfg")} | (environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=None if on_screen else subprocess.PIPE,
            stderr=None if on_screen else subprocess.STDOUT,
            check=False,
            timeout=timeout_s,
        )
        return PlaybookRun(
            status=done.returncode,
            output=(done.stdout or b"").decode("utf-8", "replace"),
            tasks=read_record(record),
        )


def playbook_environment(record: Path) -> dict[str, str]:
    """The environment of an ansible-playbook of these tests: this checkout's collection, no proxy, results recorded."""
    collections = os.environ.get("ANSIBLE_COLLECTIONS_PATH", str(Path(sys.prefix) / "collections"))
    return {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": collections,
        "ANSIBLE_HOME": str(Path(sys.prefix) / "ansible-home"),
        "ANSIBLE_LOCALHOST_WARNING": "false",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_RETRY_FILES_ENABLED": "false",
        "ANSIBLE_CALLBACK_PLUGINS": str(CALLBACKS),
        "ANSIBLE_CALLBACKS_ENABLED": "record",
        "HYPERV_PASSTHROUGH_RECORD": str(record),
        "PYTHONWARNINGS": "ignore",
        "no_proxy": "127.0.0.0/8,localhost",
        "NO_PROXY": "127.0.0.0/8,localhost",
        "LC_ALL": "C.UTF-8",
    }


def read_record(record: Path) -> list[TaskResult]:
    if not record.exists():
        return []
    return [TaskResult(**json.loads(line)) for line in record.read_text(encoding="utf-8").splitlines()]
