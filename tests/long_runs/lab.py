# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A simulated world and the machine that commands are given on, for as many commands as one likes, in this process.

Responsible for: the world's text, the folder it lies in, playbooks of single tasks, giving a command that may break in its
middle. Not responsible for: what is done to it and what must hold (`walk.py`, `soak.py`).
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from backup_scene import host_text, vm_text
from faults import one_process
from faults.one_process import Command, Controller, ParentGone
from faults.scenarios import inventory_of
from simulator.assumed import import_everything
from simulator.endpoint import Reply
from simulator.world import World

PREFIX = "hyperv.passthrough"
SOURCE_ID, TARGET_ID, APP_ID = (f"6006016000000000000000000000{tail}" for tail in ("AA01", "BB02", "CC03"))
TARGET_BYTES = 500 * 1024**2
MEMORY = Path("/dev/shm")

_DATA = "{letter: S, label: Data, files: {count: 2, size: 32K}}"
WORLD = f"""
name: long-run
seed: long-run
clock: 2026-10-01T20:00:00Z
luns:
  - {{id: sql01-data, size: 136M, bus: iscsi, serial: "7a0b1e000001", unique_id: {SOURCE_ID}, unique_id_format: 3}}
  - {{id: sql01-new, size: 500M, bus: iscsi, serial: "7a0b1e000002", unique_id: {TARGET_ID}, unique_id_format: 3}}
  - {{id: app01-data, size: 8M, bus: iscsi, serial: "7a0b1e000003", unique_id: {APP_ID}, unique_id_format: 3}}
shares:
  - {{server: filer01, name: backup, size: 10G, write: ['*']}}
hosts:
{host_text("hv01", "127.40.0.1", luns="sql01-data, sql01-new, app01-data")}
vms:
{vm_text("sql01", "127.40.1.1", lun="sql01-data", data=_DATA)}
{vm_text("app01", "127.40.1.2", lun="app01-data", data=_DATA)}
""".replace("size: 12M", "size: 6M").replace("size: 32M", "size: 16M")


class Lab:
    """One world with its controller."""

    def __init__(self, text: str = WORLD) -> None:
        one_process.prepare()
        import_everything()
        self.folder = Path(tempfile.mkdtemp(prefix="hyperv-long-", dir=MEMORY if MEMORY.is_dir() else None))
        self._origin = Path.cwd()
        os.chdir(self.folder)
        self.world = World.from_yaml(text, Path("world"))
        self.controller = Controller(self.world, inventory_of(self.world), self.folder)
        self.exchanges = 0
        #: Called after every exchange.
        self.look: Callable[[], None] = lambda: None
        #: Exchange of the command that runs -> what happens there, before it.
        self.surprises: dict[int, Callable[[], None]] = {}
        self.unreachable: set[str] = set()
        self.controller.hook = self._exchange

    def close(self) -> None:
        self.world.close()
        os.chdir(self._origin)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _exchange(self, machine: Any, _data: bytes, carry: Callable[[], Reply]) -> Reply:
        self.exchanges += 1
        surprise = self.surprises.pop(self.exchanges, None)
        if surprise is not None:
            surprise()
        if machine.name in self.unreachable:
            raise ConnectionRefusedError(111, "Connection refused")
        try:
            return carry()
        finally:
            self.look()

    def run(self, playbook: str, variables: Mapping[str, Any], *arguments: str, vm: str = "sql01") -> Command:
        """One command from its beginning to its end, in a thread of its own, since another one may be under way."""
        if not any(one.vms for one in self.world.hosts):
            raise AssertionError("the world has no VM left")
        command = Command()
        trouble: list[BaseException] = []

        def work() -> None:
            try:
                self.controller.go_on(command, playbook, variables, "--limit", f"{vm},hv01", *arguments)
            except BaseException as error:  # noqa: BLE001  # raised again below
                trouble.append(error)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join()
        if trouble:
            raise trouble[0]
        return command

    def task(self, host: str, module: str, **options: Any) -> Command:
        """A playbook of one task."""
        play = {
            "hosts": host,
            "gather_facts": False,
            "tasks": [{"name": module, f"{PREFIX}.{module}": options}],
        }
        path = self.folder / "task.yml"
        path.write_text(json.dumps([play]), encoding="utf-8")
        return self.run(str(path), {})

    @staticmethod
    def kill() -> None:
        """The controller dies in the middle of an exchange."""
        raise ParentGone
