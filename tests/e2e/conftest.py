# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the end-to-end tests: a simulated world behind real HTTP doors, and its inventory."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from playbook_run import PlaybookRun, run_playbook
from simulator.__main__ import inventory as inventory_of
from simulator.assumed import import_everything
from simulator.door_http import HttpDoors
from simulator.world import World

WORLDS = Path(__file__).resolve().parents[1] / "simulator" / "worlds"


@dataclasses.dataclass
class Lab:
    """A running world, its doors, and the inventory an operator would write for it."""

    world: World
    doors: HttpDoors
    inventory: dict[str, Any]

    def run(self, playbook: str | list[dict[str, Any]], *arguments: str, **options: Any) -> PlaybookRun:
        return run_playbook(playbook, self.inventory, *arguments, **options)

    @property
    def hosts(self) -> dict[str, Any]:
        return self.inventory["all"]["children"]["hyperv_hosts"]["hosts"]

    @property
    def guests(self) -> dict[str, Any]:
        return self.inventory["all"]["children"]["hyperv_guests"]["hosts"]


@contextlib.contextmanager
def labs_in(place: Path) -> Iterator[Callable[[str], Lab]]:
    """Start worlds by the name of their file, or from YAML text; everything is stopped and removed afterwards."""
    with contextlib.ExitStack() as stack:

        def start(source: str) -> Lab:
            import_everything()
            file = WORLDS / f"{source}.yml"
            folder = place / f"world-{len(list(place.iterdir()))}"
            world = stack.enter_context(
                contextlib.closing(World.from_yaml(file if "\n" not in source else source, folder))
            )
            machines = [machine for machine in world.machines if machine.os.family == "windows"]
            doors = stack.enter_context(
                HttpDoors(machines, folder / "certificates", name=world.name, port=0, tls_port=0)
            )
            return Lab(world=world, doors=doors, inventory=inventory_of(world, doors))

        yield start


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Callable[[str], Lab]]:
    with labs_in(tmp_path) as start:
        yield start


@pytest.fixture(scope="module")
def shared_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Lab]]:
    """As `lab`, but kept for all tests of a file; only for worlds that these tests leave as they are."""
    with labs_in(tmp_path_factory.mktemp("shared")) as start:
        yield start
