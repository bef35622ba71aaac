# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Responsible for simulated time: one clock per world that is virtual or runs beside the real one.

Not responsible for a machine's own error in time (a machine adds its skew) nor for what happens when time passes.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

EPOCH_OF_CIM = datetime(1601, 1, 1, tzinfo=timezone.utc)
"""How Windows writes "never" in a datetime property (hyperv-wmi 0.4)."""


class SimClock:
    """Time of one world.

    With ``start`` the clock is virtual: it stands still until :meth:`advance` moves it. Without, it is the real clock
    plus everything that was advanced, so long jobs take simulated time and never real sleeping.
    """

    def __init__(self, start: datetime | None = None) -> None:
        if start is not None and start.tzinfo is None:
            start = start.replace(tzinfo=timezone.utc)
        self._start = start
        self._advanced = timedelta(0)

    @property
    def virtual(self) -> bool:
        return self._start is not None

    def utc(self) -> datetime:
        base = self._start if self._start is not None else datetime.now(timezone.utc)
        return base.astimezone(timezone.utc) + self._advanced

    def local(self, utc_offset_minutes: int) -> datetime:
        return self.utc().astimezone(timezone(timedelta(minutes=utc_offset_minutes)))

    def advance(self, seconds: float) -> datetime:
        if seconds < 0:
            raise ValueError(
                f"A clock was asked to go back by {-seconds} s; it only moves forward: use a machine's skew."
            )
        self._advanced += timedelta(seconds=seconds)
        return self.utc()
