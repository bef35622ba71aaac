# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Windows Server Backup in the conformance suite, on a host and inside a guest."""

from __future__ import annotations

from simulator.windows_backup import ENGINE_TOKEN, Failure, Request
from unit.conformance.engine_site import EngineSite

STARTED = 1


class WsbOnAHost(EngineSite):
    name = "wsb"

    def without_feature(self) -> None:
        self.machine.features["Windows-Server-Backup"] = False

    def begun(self) -> int:
        return sum(event.event_id == STARTED for event in self.machine.event_log.query("Microsoft-Windows-Backup"))

    def there(self) -> frozenset[str]:
        return frozenset(version.version_id for version in self.machine.backup.catalog)

    def make_foreign(self) -> None:
        backup = self.machine.backup
        job = backup.start_backup(backup.plan(Request(target=self.target, include=("C:",)), ENGINE_TOKEN))
        while job.running:
            backup.look()
        self.world.clock.advance(120)  # version ids have whole minutes

    def break_next(self, percent: int) -> None:
        self.machine.backup.fail_next = Failure(percent=percent)

    def is_working(self) -> bool:
        return bool(self.machine.backup.busy)


class WsbInAGuest(WsbOnAHost):
    phase = "guest"
    target = "B:"
    share = None
