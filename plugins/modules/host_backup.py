#!/usr/bin/python

# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_backup
short_description: Phase two, back up one VM on its Hyper-V host
version_added: 0.1.0
author:
  - The hyperv.passthrough authors (@hyperv-passthrough)
description:
  - Backs up one VM, its configuration and its virtual hard disks, with a backup engine on the Hyper-V host.
  - >-
    The VM, its owner and the identity of each of its disks are looked at again right before the job is started; anything that changed
    since O(coverage) was computed is refused.
  - The job runs detached from the session, survives its loss, and is found again by a rerun.
extends_documentation_fragment:
  - hyperv.passthrough.connection
  - hyperv.passthrough.connection.mutating
  - hyperv.passthrough.backup_job
options:
  engine:
    description:
      - V(wsb) is Windows Server Backup.
      - V(export) a recovery checkpoint that Hyper-V exports (Server 2016 and later).
      - V(diskshadow) a shadow copy of the host's volumes.
      - V(command) the operator's own product.
    type: str
    choices: [command, diskshadow, export, wsb]
    default: wsb
  vm:
    description: Name or GUID of the VM. Quote names that look like numbers.
    type: str
    required: true
  coverage:
    description:
      - The result of P(hyperv.passthrough.coverage#filter).
      - Without it the disks are not compared with an earlier look.
    type: dict
  allow_offline:
    description: Accept that the backup puts the VM into saved state for a moment. Otherwise such a backup is a failure.
    type: bool
    default: false
seealso:
  - module: hyperv.passthrough.guest_backup
  - module: hyperv.passthrough.backup_set
"""

EXAMPLES = r"""
- name: Back up the VM on its host
  hyperv.passthrough.host_backup:
    vm: "{{ discover_coverage.vm.id }}"
    coverage: "{{ discover_coverage }}"
    target: 'E:'
    set_id: "{{ opened.set.id }}"
    attempt: "{{ opened.attempts.host }}"
  delegate_to: "{{ hyperv_host }}"
  register: host_phase
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
vm:
  description: C(id) and C(name) of the VM.
  returned: always
  type: dict
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
