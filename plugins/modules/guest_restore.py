#!/usr/bin/python

# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: guest_restore
short_description: Restore a guest's left-out disks from a backup set, and keep those that are still there
version_added: 0.1.0
author:
  - The hyperv.passthrough authors (@hyperv-passthrough)
description:
  - >-
    Compares each left-out disk of the set with what the guest has now. A disk that is there, recognisable and readable is kept, however
    much newer it is.
  - >-
    A volume is restored where it has no file system, where it was freshly formatted and is empty, or where its disk is named in
    O(overwrite_disks). Anything in between is refused until it is named, and nothing at all is written as long as there is one such
    finding.
  - Each volume is a detached job of its own. Its disk is identified again right before it is started.
  - >-
    What was restored is compared with the content that the set recorded; file system, used bytes, names in the root, sentinel files. A
    restore that wrote nothing fails with C(error.kind=verification_failed).
  - Disks have to be online and to have their partitions; see M(hyperv.passthrough.guest_disk).
  - In check mode findings are returned and never raised.
extends_documentation_fragment:
  - hyperv.passthrough.connection
  - hyperv.passthrough.connection.mutating
  - hyperv.passthrough.restore_job
options:
  engine:
    description:
      - "Backup engine: V(wsb) is Windows Server Backup; V(command) the operator's own product."
      - Without it the engine that made the backup, as the set recorded it.
    type: str
    choices: [command, wsb]
  vm_id:
    description: GUID of the VM that the guest must be.
    type: str
    required: true
  overwrite_disks:
    description: Disks that are restored whatever is on them, each by UniqueId or by its slot such as V(SCSI 0:1).
    type: list
    elements: str
    default: []
  lun_map:
    description: UniqueId of a recorded disk to the UniqueId of its replacement.
    type: dict
    default: {}
  restore_volumes:
    description: Only these volumes, by letter, volume GUID path or label. Empty means all.
    type: list
    elements: str
    default: []
  hyperv_host:
    description: Inventory name of the VM's Hyper-V host, where O(lease) is renewed. Required with O(lease).
    type: str
seealso:
  - module: hyperv.passthrough.guest_disk
  - module: hyperv.passthrough.host_restore
  - module: hyperv.passthrough.backup_set
"""

EXAMPLES = r"""
- name: Restore what is not there any more
  hyperv.passthrough.guest_restore:
    vm_id: "{{ plan.vm.id }}"
    set: "{{ sets.chosen }}"
    lease: "{{ restoring.lease }}"
    hyperv_host: "{{ hyperv_host }}"
  register: guest_phase
"""

RETURN = r"""
jobs:
  description: >-
    The jobs on the machine, one per restored volume, each with C(run_id), C(volume), C(state), C(percent), C(attached),
    C(request) and C(evidence).
  returned: always
  type: list
  elements: dict
job:
  description: The last of them; V(null) when nothing was to be restored.
  returned: always
  type: dict
version:
  description: The set's guest version, once everything that was to be restored was; V(null) until then.
  returned: always
  type: str
machine:
  description: Computer name of the guest.
  returned: always
  type: str
disks:
  description: What became of each left-out disk.
  returned: always
  type: list
  elements: dict
  contains:
    label:
      description: Slot or UniqueId.
      type: str
    action:
      description: V(keep), V(restore) or V(skipped).
      type: str
    evidence:
      description: Why, in a sentence.
      type: str
    verified:
      description: True when its content was proven, false when it was disproven, V(null) when nothing recorded can tell.
      type: bool
    volumes:
      description: The same per volume, with every comparison in C(checks).
      type: list
      elements: dict
findings:
  description: In check mode, what forbids the restore, each with C(kind), C(sentence) and C(accept_with).
  returned: always
  type: list
  elements: dict
lease:
  description: >-
    O(lease) for the next task; another text when a lease that had run out was taken anew. V(null) without O(lease).
  returned: always
  type: str
"""
