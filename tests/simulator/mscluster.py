# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Responsible for failover clusters as far as detecting them goes: namespace root/MSCluster on cluster nodes.

Not simulated: failover, moving groups, maintenance mode. Facts: hyperv-wmi 9, windows-storage 7.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Cluster:
    """A cluster as one node sees it: its name, node names, and the LUN ids that are Physical Disk resources."""

    name: str
    nodes: list[str]
    luns: set[str] = field(default_factory=set)
