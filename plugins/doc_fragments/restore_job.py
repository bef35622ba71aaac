# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation that guest_restore and host_restore share: the set, the restore, waiting."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  set:
    description: The backup set to restore from, as RV(hyperv.passthrough.backup_set_info#module:chosen) gives it.
    type: dict
    required: true
  restore_id:
    description:
      - Name of the restore. Its jobs are found again by set, phase and this name, so that a rerun attaches to them, goes on after one that
        failed, and does nothing when all is done.
      - Another restore from the same set needs another name.
    type: str
    default: r1
  engine_options:
    description: Options of the O(engine) in place of those that the set recorded, when something has moved since.
    type: dict
  engine_answers:
    description: >-
      What roles of the operator answered in this run, for engine V(command) driven by roles; the roles of this collection fill it. Never
      recorded.
    type: dict
  target:
    description: Where the backup lies now, as seen from the machine that restores, when it is not where it was written.
    type: str
  wait:
    description: Wait for the job. With V(false) the job goes on alone and a later call with the same options attaches to it.
    type: bool
    default: true
  wait_timeout:
    description: Longest time in seconds to wait. The job goes on, and a rerun attaches to it.
    type: int
    default: 86400
  poll_interval:
    description: Seconds between two looks at the job.
    type: int
    default: 10
  queue_timeout:
    description: Longest time in seconds to wait while another backup or recovery, ours or not, runs on the machine. It is never stopped.
    type: int
    default: 28800
  lease:
    description: >-
      The lease that M(hyperv.passthrough.backup_set) returned. It is checked before anything is changed and renewed while the task
      waits; a lost lease ends the task with C(error.kind=superseded).
    type: str
"""
