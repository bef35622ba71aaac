# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation that guest_backup and host_backup share: engine, run, waiting."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  engine_options:
    description:
      - Options of the O(engine), as its page in the guide names them. They are recorded in the backup set, so that a restore needs nothing
        else; a name that looks like a secret is refused.
    type: dict
    default: {}
  engine_answers:
    description: >-
      What roles of the operator answered in this run, for engine V(command) driven by roles; the roles of this collection fill it. Never
      recorded.
    type: dict
  target:
    description:
      - Where to write, as seen from the machine that is backed up; a drive letter such as V(E:), a volume GUID path, or a share.
      - >-
        On a share every run gets a folder of its own, because Windows Server Backup keeps one backup per computer and folder.
        The machine's computer account needs the rights on the share; no password is passed.
    type: str
    required: true
  set_id:
    description:
      - The backup set this run belongs to. The job is found again by set, phase and O(attempt), so that a rerun attaches to it.
    type: str
    required: true
  attempt:
    description: Which attempt of the phase this is, as M(hyperv.passthrough.backup_set) returned it.
    type: int
    default: 1
  vss_backup_type:
    description: V(full) truncates application logs, V(copy) leaves them alone.
    type: str
    choices: [copy, full]
    default: copy
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
      The lease that M(hyperv.passthrough.backup_set) returned. It is checked before the job is started and renewed while the task
      waits; a lost lease ends the task with C(error.kind=superseded).
    type: str
"""
