# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A simulated host in this process with VMs on pass-through LUNs, and migrations run on it as the task runs them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.comparison_job import DetachedComparer
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.engine import Waiting
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv import SCHEMA, Registry, observe_host, utc_now
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.disk_selector import DiskSelector
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.migration import (
    Migration,
    Options,
    observe_situation,
    refresh_grown_luns,
)
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.migration_plan import plan_migration
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.migration_record import (
    MIGRATIONS_BASE,
    MigrationRecord,
    MigrationStore,
)
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.migration_steps import (
    MigrationPlan,
    Request,
    Wanted,
)
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.model import Slot
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._wsman import WsmanClient
from simulator.assumed import import_everything
from simulator.door_memory import memory_door, rules_of
from simulator.mishaps import mishap
from simulator.world import World

SOURCE, TARGET = "6006016000000000000000000000AA01", "6006016000000000000000000000BB02"
TARGET_BYTES = 360 * 1024**2
SLOT = Slot(controller_type="SCSI", controller_number=0, controller_location=2)
VHDX = "V:\\sql01-scsi0-2.vhdx"
WORK = VHDX.replace(".vhdx", ".migrating.vhdx")
STAGING = "D:\\Staging\\sql01-scsi0-2.vhdx"
RUNNING, OFF, PAUSED = 2, 3, 9


def world_text(
    *, luns: str = "", more_luns: str = "", vm: str = "", disks: str = "", inside: str = "", switches: str = ""
) -> str:
    return f"""
name: migration
seed: migration
clock: 2026-10-01T20:00:00Z
switches: {{{switches}}}
luns:
  - {{id: data, size: 8M, bus: iscsi, serial: "7a0b1e000001", unique_id: {SOURCE}, unique_id_format: 3}}
  - {{id: target, size: 360M, bus: iscsi, serial: "7a0b1e000002", unique_id: {TARGET}, unique_id_format: 3}}
{luns}
hosts:
  - name: hv01
    address: 127.46.0.1
    os: server2022
    volumes:
      - {{letter: C, size: 40G, label: System}}
      - {{letter: D, size: 60G, label: VMs}}
      - {{letter: E, size: 20G, label: Backup}}
    luns: [data, target{more_luns}]
vms:
  - name: sql01
    host: hv01
    generation: 2
    automatic_start: if_running
{vm}
    disks:
      - {{slot: "scsi 0:0", vhd: 'D:\\VMs\\sql01\\os.vhdx', size: 6M}}
      - {{slot: "scsi 0:2", lun: data}}
{disks}
    guest:
      address: 127.46.1.1
      disks:
        - slot: "scsi 0:0"
          partitions: [{{letter: C, label: Windows, boot: true, files: {{count: 1, size: 4K}}}}]
        - slot: "scsi 0:2"
          partitions: [{{letter: S, label: Data, files: {{count: 2, size: 32K}}}}]
{inside}
"""


class Stopped(BaseException):
    """The controller was killed: nothing of the run happens any more, and nothing catches it."""


class Site:
    """The host, and migrations of its VM."""

    def __init__(self, folder: Path, text: str) -> None:
        import_everything()
        self.world = World.from_yaml(text, folder / "world")
        self.host = self.world.machine("hv01")
        self.vm = next(vm for vm in self.world.vms if vm.name == "sql01")
        ids = (f"{number:08X}-0000-4000-8000-000000000000" for number in itertools.count())
        self.client = WsmanClient(
            memory_door(self.host, "Administrator"), schema=SCHEMA, new_id=lambda: next(ids), endpoint="memory"
        )
        mishap(self.world, "write_file", machine="hv01", path="D:\\Staging\\readme.txt", text="room for staging")
        self.store = MigrationStore(registry=Registry(self.client, MIGRATIONS_BASE))
        self.said: list[str] = []

    def hands(self, *, timeout_s: float = 600.0, dies_at: str | None = None) -> Waiting:
        """`dies_at`: part of a progress line at which the run is killed."""

        def progress(line: str) -> None:
            self.said.append(line)
            if dies_at is not None and dies_at in line:
                raise Stopped(line)

        def should_stop() -> None:
            if dies_at is not None and any(dies_at in line for line in self.said):
                raise Stopped("killed")

        counter = itertools.count()
        return Waiting(
            sleep=self.world.clock.advance,
            now=lambda: float(next(counter)),
            progress=progress,
            should_stop=should_stop,
            poll_s=1.0,
            timeout_s=timeout_s,
        )

    def request(self, *disks: Mapping[str, Any], state: str = "present", **more: Any) -> Request:
        """One disk as `copy` from `data` to `target`, changed by `disks`."""
        one: dict[str, Any] = {
            "slot": SLOT,
            "destination": DiskSelector(unique_id=TARGET),
            "confirm_size_bytes": TARGET_BYTES,
            "drive_letter": "V",
            "reserve_bytes": 0,
        }
        wanted = tuple(Wanted(**{**one, **disk}) for disk in disks or ({},))
        return Request(state=state, disks=wanted, **more)

    def plan(self, request: Request, **observed: Any) -> MigrationPlan:
        return plan_migration(observe_situation(self.client, self.store, "sql01", **observed), request)

    def migrate(
        self, request: Request | None = None, *, timeout_s: float = 600.0, dies_at: str | None = None, **observed: Any
    ) -> MigrationRecord:
        """As the task does it. Raises what a step raises; AssertionError with the findings when it is refused."""
        request = request or self.request()
        self.said.clear()
        hands = self.hands(timeout_s=timeout_s, dies_at=dies_at)
        if any(wanted.confirm_wipe for wanted in request.disks):
            refresh_grown_luns(self.client, self.store.read(self.vm.id), hands)
        situation = observe_situation(self.client, self.store, "sql01", **observed)
        plan = plan_migration(situation, request)
        assert not plan.refused, plan.sentence()
        return Migration(
            self.client,
            situation,
            plan,
            self.store,
            hands,
            clock=lambda: utc_now(self.client),
            landed=lambda: None,
            options=Options(every_byte=request.every_byte, comparer=DetachedComparer(self.client)),
        ).run()

    # -- looking -------------------------------------------------------------------------------------------------------

    def disk(self, slot: Slot = SLOT) -> Mapping[str, Any] | None:
        """What hangs at a slot, as disk_info says."""
        view = observe_host(self.client, vms=["sql01"]).to_dict()["vms"][0]  # type: ignore[index]
        wanted = {
            "controller_type": slot.controller_type,
            "controller_number": slot.controller_number,
            "controller_location": slot.controller_location,
        }
        return next((disk for disk in view["disks"] if disk["slot"] == wanted), None)  # type: ignore[index]

    def record(self) -> dict[str, Any]:
        text = self.host.registry.text(f"SOFTWARE\\hyperv.passthrough\\Migrations\\{self.vm.id.upper()}", "Record")
        return dict(json.loads(text))

    def is_there(self, path: str) -> bool:
        volume = self.host.volume_by_letter(path[0])
        return volume is not None and bool(volume.files.exists(path[3:]))

    def jobs_left(self) -> list[str]:
        """Scheduled tasks of ours, and what is mounted on the host."""
        tasks = [one.name for one in self.host.scheduler.tasks() if one.folder.strip("\\") == "hyperv.passthrough"]
        mounted = [disk.backing.key for disk in self.host.disks if disk.backing.key.casefold().endswith(".vhdx")]
        return [*tasks, *mounted]

    def fault(self, match: Mapping[str, str], effect: str, *, skip: int = 0, **parameters: Any) -> None:
        rules_of(self.world).add({"match": match, "effect": effect, "skip": skip, "parameters": parameters})

    def calls(self, method: str) -> int:
        return sum(entry.summary.method == method for entry in rules_of(self.world).transcript)

    def assert_on_its_lun(self) -> None:
        """The VM runs on its pass-through disk, with its start action, and nobody left anything on the host."""
        disk = self.disk()
        assert disk is not None
        assert (disk["attachment"], disk["unique_id"]) == ("pass_through", SOURCE)
        assert self.vm.state == RUNNING
        assert self.vm.settings.automatic_startup_action == 3
        assert self.jobs_left() == []
        assert self.world.check() == []


def in_place(**changes: Any) -> dict[str, Any]:
    """A disk of mode in_place, for `Site.request`."""
    return {
        "mode": "in_place",
        "destination": None,
        "confirm_size_bytes": None,
        "staging_path": "D:\\Staging",
        "growth_gib": 1,
        "drive_letter": None,
        **changes,
    }


def lines_with(said: Sequence[str], part: str) -> list[str]:
    return [line for line in said if part in line]
