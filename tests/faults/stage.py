# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A world with its controller in a folder of its own, prepared for a scenario, and the eye on it.

Responsible for: making the world and its copies, looking at it after every exchange. Not responsible for: what breaks
(`case.py`), what must hold (`invariants.py`, the scenario).

The world's files lie in a relative folder. A fork shares them with the process that it came from, which waits for it, until the
moment before its first write: then it gets a copy of the folder and changes into it. An audit hook of Python sees that moment.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from simulator.assumed import import_everything
from simulator.door_memory import rules_of
from simulator.world import World

from . import one_process
from .invariants import Glance, glance
from .one_process import Command, Controller
from .scenarios import Scenario, hooks_in, inventory_of

WORLD = "world"
MEMORY = Path("/dev/shm")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Those of shutil come before it opens a folder: what it does then is relative to that folder, not to the current one.
_CHANGES = frozenset({"shutil.rmtree", "shutil.move", "shutil.copytree", "shutil.copyfile"}) | frozenset(
    {"os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.truncate", "os.utime", "os.link", "os.symlink"}
)

_before_write: list[Callable[[], None]] = []  # of this process: what is to be done once, before it writes to its world


def _audit(event: str, given: tuple[Any, ...]) -> None:
    if not _before_write:
        return
    if event == "open":
        path, _mode, flags = given
        if not isinstance(flags, int) or not flags & _WRITES:
            return
    elif event in _CHANGES:
        path = given[0]
    else:
        return
    if isinstance(path, (str, bytes, os.PathLike)) and not os.path.isabs(path):
        _before_write.pop()()


class Stage:
    """A world with its controller, in a folder of its own, prepared for a scenario."""

    def __init__(self, scenario: Scenario, *, switches: Mapping[str, str] | None = None) -> None:
        one_process.prepare()
        import_everything()
        self.scenario = scenario
        self.folder = Path(tempfile.mkdtemp(prefix="hyperv-faults-", dir=MEMORY if MEMORY.is_dir() else None))
        self._origin = Path.cwd()
        os.chdir(self.folder)
        chosen = f"{scenario.world}\nswitches: {json.dumps({**scenario.switches, **(switches or {})})}\n"
        self.world = World.from_yaml(chosen, Path(WORLD))
        self.controller = Controller(self.world, inventory_of(self.world), self.folder)
        self.variables = dict(scenario.variables)
        if scenario.hook is not None:
            hook = scenario.hook
            hook(self.world, "")
            self.variables |= {
                f"{scenario.playbook.rpartition('.')[2]}_{k}": v for k, v in hooks_in(self.folder).items()
            }
            self.controller.on_task = lambda task: hook(self.world, task)
        if scenario.prepare is not None:
            self.variables |= scenario.prepare(self.world, self.controller) or {}

    def run(self) -> Command:
        return self.controller.run(self.scenario.playbook, self.variables)

    def go_on(self, command: Command) -> Command:
        return self.controller.go_on(command, self.scenario.playbook, self.variables)

    def share_world(self) -> None:
        """In a fork: use the files of the process that it came from until the first write."""
        if not getattr(Stage, "_hooked", False):
            sys.addaudithook(_audit)
            Stage._hooked = True  # type: ignore[attr-defined]
        self.own = False
        _before_write[:] = [self.copy_world]

    def copy_world(self) -> None:
        """In a fork: leave the shared files to the others."""
        _before_write.clear()
        folder = Path(tempfile.mkdtemp(prefix="hyperv-faults-", dir=self.folder))
        _copy_tree(self.folder / WORLD, folder / WORLD)
        self.folder, self.own = folder, True
        os.chdir(folder)

    def leave(self) -> None:
        """A fork is over."""
        os.chdir("/")
        if self.own:
            shutil.rmtree(self.folder, ignore_errors=True)

    def close(self) -> None:
        os.chdir(self._origin)
        shutil.rmtree(self.folder, ignore_errors=True)


def _copy_tree(source: Path, target: Path) -> None:
    """A copy in which holes stay holes and times stay times."""
    for place, folders, files in os.walk(source):
        here = target / Path(place).relative_to(source)
        here.mkdir(parents=True, exist_ok=True)
        for name in folders:
            (here / name).mkdir(exist_ok=True)
        for name in files:
            _copy_file(Path(place) / name, here / name)


def _copy_file(source: Path, target: Path) -> None:
    with source.open("rb") as reader, target.open("wb") as writer:
        found = os.fstat(reader.fileno())
        writer.truncate(found.st_size)
        offset = 0
        while offset < found.st_size:
            try:
                start = os.lseek(reader.fileno(), offset, os.SEEK_DATA)
            except OSError:
                break
            offset = min(found.st_size, os.lseek(reader.fileno(), start, os.SEEK_HOLE))
            position = start
            while position < offset:
                position += os.copy_file_range(reader.fileno(), writer.fileno(), offset - position, position, position)
        os.utime(writer.fileno(), ns=(found.st_atime_ns, found.st_mtime_ns))


class Watch:
    """Looks at the world after every exchange of everybody."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._excused: set[str] = set()
        self.findings: list[str] = []
        self.last: Glance = self._seen()

    def _seen(self) -> Glance:
        world, look = self._stage.world, self._stage.scenario.look
        return glance(world) if look is None else dataclasses.replace(glance(world), more=look(world))

    def look(self) -> Glance:
        now = self._seen()
        for invariant in self._stage.scenario.invariants:
            for finding in invariant(self.last, now):
                text = f"exchange {rules_of(self._stage.world).exchanges}: {finding}"
                known = finding in self._excused or any(one.endswith(finding) for one in self.findings)
                if len(self.findings) < 20 and not known:
                    self.findings.append(text)
        self.last = now
        return now

    def excuse(self) -> None:
        """What is wrong right after an operator or a machine has acted on its own is not the product's doing."""
        now = self._seen()
        for invariant in self._stage.scenario.invariants:
            self._excused.update(invariant(self.last, now))
        self.last = now


__all__ = ["Stage", "Watch"]
