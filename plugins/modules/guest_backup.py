#!/usr/bin/python

# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: guest_backup
short_description: Phase one, back up the left-out disks of a VM inside its guest
version_added: 0.1.0
author:
  - The hyperv.passthrough authors (@hyperv-passthrough)
description:
  - Backs up the volumes that live on disks which the Hyper-V VSS writer leaves out, with a backup engine inside the guest.
  - The job runs detached from the session, survives its loss, and is found again by a rerun.
  - >-
    The result also holds what a later restore compares, such as file system serial, label, letters, used bytes and root listing of each
    volume.
extends_documentation_fragment:
  - hyperv.passthrough.connection
  - hyperv.passthrough.connection.mutating
  - hyperv.passthrough.backup_job
options:
  engine:
    description:
      - "Backup engine: V(wsb) is Windows Server Backup; V(command) the operator's own product."
    type: str
    choices: [command, wsb]
    default: wsb
  vm_id:
    description: GUID of the VM that this guest must be. A guest that says it is another VM is refused.
    type: str
    required: true
  coverage:
    description:
      - The result of P(hyperv.passthrough.coverage#filter); its guest volumes are backed up.
      - The guest is observed again first, and every disk is identified again before anything is started.
    type: dict
    required: true
  sentinels:
    description: Files whose size and times are recorded, so that a restore can be verified against them.
    type: list
    elements: str
    default: []
  hyperv_host:
    description: >-
      Inventory name of the VM's Hyper-V host. O(lease) is held there, and its clock is the one that both snapshots are compared by.
    type: str
seealso:
  - module: hyperv.passthrough.host_backup
  - module: hyperv.passthrough.backup_set
"""

EXAMPLES = r"""
- name: Back up the left-out disks inside the guest
  hyperv.passthrough.guest_backup:
    vm_id: "{{ discover_coverage.vm.id }}"
    coverage: "{{ discover_coverage }}"
    target: 'R:'
    set_id: "{{ opened.set.id }}"
    attempt: "{{ opened.attempts.guest }}"
  register: guest_phase
"""

RETURN = r"""
job:
  description: The job on the machine.
  returned: always
  type: dict
  contains:
    run_id:
      description: Name of the run; derived from set, phase and attempt.
      type: str
    state:
      description: V(pending), V(running), V(succeeded), V(warning) or V(failed); V(null) in check mode.
      type: str
    percent:
      description: Progress, where the engine tells.
      type: int
    attached:
      description: True when the job was there already and nothing was started.
      type: bool
version:
  description: >-
    The version this run made, bound to it by the event log and read back from the target; V(null) while it runs and in check mode.
  returned: always
  type: str
result:
  description: What the engine proved about the version, with the evidence; V(null) while it runs and in check mode.
  returned: always
  type: dict
volumes:
  description: What was recorded of each volume for a later restore.
  returned: always
  type: list
  elements: dict
sentinels:
  description: C(path), C(found), size and times of each file named in O(sentinels).
  returned: always
  type: list
  elements: dict
lease:
  description: >-
    O(lease) for the next task; another text when a lease that had run out was taken anew. V(null) without O(lease).
  returned: always
  type: str
machine:
  description: Computer name of the machine that ran the backup.
  returned: always
  type: str
"""
