# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation that the tasks share which change a VM, its disks or a guest's disks: waiting and the lease."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  wait_timeout:
    description: Longest time in seconds to wait for a job, a change of state or a heartbeat.
    type: int
    default: 600
  poll_interval:
    description: Seconds between two looks.
    type: int
    default: 2
  lease:
    description: >-
      The lease that M(hyperv.passthrough.backup_set) returned. It is checked before every step and renewed while the task waits;
      a lost lease ends the task with C(error.kind=superseded). Without it nothing keeps two runs apart.
    type: str
"""
