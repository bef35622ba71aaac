# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engines that the conformance suite holds: one line each."""

from __future__ import annotations

from unit.conformance.command_site import CommandInAGuest, CommandOnAHost
from unit.conformance.diskshadow_site import DiskShadow
from unit.conformance.engine_site import EngineSite
from unit.conformance.export_site import Export
from unit.conformance.wsb_site import WsbInAGuest, WsbOnAHost

ENTRIES: tuple[type[EngineSite], ...] = (
    Export,
    DiskShadow,
    WsbOnAHost,
    WsbInAGuest,
    CommandOnAHost,
    CommandInAGuest,
)
