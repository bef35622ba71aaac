# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine `diskshadow` in the conformance suite: shadow copies of Windows' own provider on the host.

A version is a shadow copy set and lies on the volumes themselves; the target holds records only.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from simulator.endpoint import Reply
from simulator.mishaps import mishap
from simulator.volume_shadow_service import STABLE
from unit.conformance.engine_site import POLL_S, EngineSite

STAGES = {0: "prepare", 50: "commit", 99: "complete"}  # the writers, the provider, the end of the backup
MARKS = (".restoring", ".replaced")


class DiskShadow(EngineSite):
    name = "diskshadow"
    target = "E:\\shadow-records"
    share = None  # a shadow copy stays on its host
    is_stoppable = False  # broken off between freeze and thaw it harms

    def prepare(self) -> None:
        self._begun = 0
        self._is_restoring = False
        start_set = self.host.vss.start_set

        def counted(*arguments: Any, **more: Any) -> Any:
            self._begun += 1
            return start_set(*arguments, **more)

        self.host.vss.start_set = counted

    def without_feature(self) -> None:
        """A client Windows has no diskshadow."""
        self.host.os = dataclasses.replace(self.host.os, caption="Microsoft Windows 11 Pro", product_type=1)

    def begun(self) -> int:
        return self._begun

    def there(self) -> frozenset[str]:
        """Sets of shadow copies, but for those of a backup that was never ended."""
        vss = self.host.vss
        return frozenset(copy.set_id for copy in vss.present() if copy.set_id not in vss.unnotified)

    def make_foreign(self) -> None:
        mishap(self.world, "shadow_of_others", machine="hv01", letter="D")

    def break_next(self, percent: int) -> None:
        if self._is_restoring:
            self.hook = self._end_copying(1 if percent <= 50 else 2)
        else:
            mishap(self.world, "fail_shadow", machine="hv01", stage=STAGES[percent])

    def _end_copying(self, number: int) -> Callable[[Any, bytes, Callable[[], Reply]], Reply]:
        """Somebody ends the task that copies the disks back, at the disk of that number, while it is waited for; once."""
        looks, self.world.looks_per_job = self.world.looks_per_job, 10

        def hook(_machine: Any, _data: bytes, carry: Callable[[], Reply]) -> Reply:
            for task in self.host.scheduler.tasks():
                is_copying = task.name.endswith(".restore.1") and task.runs and len(self._marked()) >= number
                if is_copying and self.now() - task.runs[0].started.timestamp() >= POLL_S:
                    self.host.scheduler.stop(task)
                    self.world.looks_per_job = looks
                    self.hook = lambda _machine, _data, carry: carry()
            return carry()

        return hook

    def damage(self, vm: str = "sql01") -> None:
        self._is_restoring = True
        super().damage(vm)

    def is_working(self) -> bool:
        return bool(self.working_tasks(self.host))

    def leftovers(self) -> Sequence[str]:
        vss = self.host.vss
        versions = self.there()
        return [
            *(f"a copy of no version: {copy.id}" for copy in vss.copies if copy.set_id not in versions),
            *(f"a copy with a letter: {copy.id}" for copy in vss.copies if copy.exposed),
            *(f"an end that nobody told: {set_id}" for set_id in vss.unnotified),
            *(one.name for one in vss.writers() if vss.writer_status(one).state != STABLE),
            *self._marked(),
        ]

    def _marked(self) -> list[str]:
        """Disks that lie beside their place."""
        volume, path = self.host.resolve("D:\\VMs")
        names = (entry.path for entry in volume.files.walk(path) if not entry.is_directory)
        return sorted(name for name in names if name.endswith(MARKS))
