# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long several VMs of one host take to be exported at once, beside one after the other.

Responsible for: a simulated host with N VMs, the engine `export` itself over the in-memory door, one run per thread or one run
after the other, and a table of what each run waited for. Not responsible for: how fast a real disk is. Time is counted and not
taken: a run's time is the sum of what it sleeps between its looks at Hyper-V's jobs, whose length is the same number of looks
for each VM; at once the longest run counts, one after the other their sum. What would show is a run that waits for another.

Usage: bench/exports.py [VMS ...]
"""

from __future__ import annotations

import itertools
import sys
import tempfile
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / ".venv" / "collections")]

from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup import engines  # noqa: E402
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.engine import (  # noqa: E402
    BackupRequest,
    Waiting,
    Workplace,
)
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv import SCHEMA, observe_host  # noqa: E402
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._wsman import WsmanClient  # noqa: E402
from simulator.assumed import import_everything  # noqa: E402
from simulator.door_memory import memory_door  # noqa: E402
from simulator.world import World  # noqa: E402

POLL_S = 10.0
LOOKS = 20


class SharedTime:
    """Seconds that pass for all runs together, only while every one of them sleeps."""

    def __init__(self, runs: int) -> None:
        self.now = 0.0
        self._awake = runs
        self._sleepers: list[float] = []
        self._changed = threading.Condition()

    def sleep(self, seconds: float) -> None:
        with self._changed:
            until = self.now + seconds
            self._sleepers.append(until)
            self._awake -= 1
            self._pass()
            self._changed.wait_for(lambda: self.now >= until)
            self._awake += 1
            self._sleepers.remove(until)

    def ended(self) -> None:
        with self._changed:
            self._awake -= 1
            self._pass()

    def _pass(self) -> None:
        due = [until for until in self._sleepers if until <= self.now]
        if self._awake == 0 and self._sleepers and not due:
            self.now = min(self._sleepers)
            self._changed.notify_all()


def world_text(vms: int, looks: int) -> str:
    rows = "".join(
        f"""
  - name: vm{number:02}
    host: hv01
    state: "off"
    disks: [{{slot: "scsi 0:0", vhd: 'D:\\VMs\\vm{number:02}\\os.vhdx', size: 4M}}]"""
        for number in range(vms)
    )
    return f"""
name: bench
seed: bench
clock: 2026-10-01T20:00:00Z
looks_per_job: {looks}
hosts:
  - name: hv01
    address: 127.47.0.1
    os: server2022
    volumes:
      - {{letter: C, size: 40G, label: System}}
      - {{letter: D, size: 60G, label: VMs}}
      - {{letter: E, size: 60G, label: Backup}}
vms:{rows}
"""


class OneRun:
    """One VM's backup: its own client, its own hands, what it asked."""

    def __init__(self, world: Any, vm: Any, run_id: str, time: SharedTime) -> None:
        self.requests = 0
        self._time = time
        self.state = ""
        self._run_id = run_id
        self._vm = vm
        door = memory_door(world.machine("hv01"), "Administrator")
        numbers = itertools.count(hash(run_id) % (1 << 30))

        def send(envelope: bytes) -> bytes:
            self.requests += 1
            with world.lock:
                return door(envelope)  # type: ignore[no-any-return]

        def new_id() -> str:
            return f"{next(numbers):08X}-0000-4000-8000-000000000000"

        self._client = WsmanClient(send, schema=SCHEMA, new_id=new_id, endpoint="memory")
        self._waiting = Waiting(sleep=time.sleep, now=lambda: time.now, poll_s=POLL_S, timeout_s=1e6)
        entry = engines.engine("export")
        options = entry.options({}, "host")
        place = Workplace(client=self._client, waiting=self._waiting, options=options, new_id=new_id)
        self._engine = entry.backup(place)

    def __call__(self) -> None:
        try:
            self._back_up()
        finally:
            self._time.ended()

    def _back_up(self) -> None:
        view = observe_host(self._client, vms=[self._vm.id], vhd_details=True).to_dict()["vms"][0]
        request = BackupRequest(
            phase="host",
            target="E:",
            label=view["name"],
            vm_id=view["id"],
            vm_name=view["name"],
            vm_state=view["state"],
            vm=view,
            covered=True,
        )
        self.state = self._engine.run(self._run_id, request, self._waiting).state


def measured(vms: int, *, at_once: bool) -> tuple[float, int]:
    """(seconds until the last run has ended, requests of all runs)."""
    text = world_text(vms, LOOKS * (vms if at_once else 1))
    with tempfile.TemporaryDirectory() as place, closing(World.from_yaml(text, Path(place) / "w")) as world:
        asked, seconds = 0, 0.0
        for group in [list(world.vms)] if at_once else [[vm] for vm in world.vms]:
            time = SharedTime(len(group))
            runs = [OneRun(world, vm, f"{vm.name}.host.1", time) for vm in group]
            threads = [threading.Thread(target=run) for run in runs]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert {run.state for run in runs} == {"succeeded"}
            asked += sum(run.requests for run in runs)
            seconds += time.now
        return seconds, asked


def main(counts: list[int]) -> None:
    import_everything()
    print("| VMs of one host | one after the other | at once | ratio | requests of one VM, alone and at once |")
    print("|---|---|---|---|---|")
    for vms in counts:
        alone, asked_alone = measured(vms, at_once=False)
        together, asked = measured(vms, at_once=True)
        each = f"{asked_alone / vms:.0f}, {asked / vms:.0f}"
        print(f"| {vms} | {alone:.0f} s | {together:.0f} s | {together / alone:.2f} | {each} |", flush=True)


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]] or [1, 2, 4, 8])
