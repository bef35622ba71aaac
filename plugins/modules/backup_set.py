#!/usr/bin/python

# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: backup_set
short_description: Open, record and close the backup set of one VM
version_added: 0.1.0
author:
  - The hyperv.passthrough authors (@hyperv-passthrough)
description:
  - >-
    A backup set is the record that keeps both halves of a two-phase backup together; the guest's version, the host's version, the disks
    of each with identity and slot, and the time between the phases. A restore needs nothing else.
  - It is kept in the Hyper-V host's registry below C(HKLM\SOFTWARE\hyperv.passthrough).
  - Run it on the VM's Hyper-V host.
extends_documentation_fragment:
  - hyperv.passthrough.connection
  - hyperv.passthrough.connection.mutating
options:
  vm:
    description: Name or GUID of the VM. Quote names that look like numbers.
    type: str
    required: true
  state:
    description:
      - >-
        V(open) continues the VM's open set when it is younger than O(max_skew), closes an older one as failed, and opens a new one. It
        takes the VM's lease and, with O(hold_slot), the host's backup slot.
      - V(recorded) adds what O(phase) says.
      - V(closed) judges the set, writes the copies, and gives back lease and slot.
      - >-
        V(restoring) takes the VM's lease and begins a restore from O(set), or continues the one of that O(restore_id). A set that this host
        does not know is brought into its registry. A restore that is finished is returned as it is.
      - V(restored) records the end of the restore, and gives the lease back.
    type: str
    choices: [open, recorded, closed, restoring, restored]
    required: true
  set_id:
    description:
      - With O(state=open) this set is continued or returned instead of the VM's open one.
      - Required for the other states but V(restoring).
    type: str
  lease:
    description: The lease that O(state=open) returned. With O(state=open) itself, the lease that this run holds already.
    type: str
  coverage:
    description:
      - The result of P(hyperv.passthrough.coverage#filter). Required with O(state=open).
      - With O(state=closed) the set is judged by it.
    type: dict
  guest_engine:
    description: Engine of the guest phase.
    type: str
    choices: [command, wsb]
    default: wsb
  guest_engine_options:
    description: Its options, for the record. A name that looks like a secret is refused.
    type: dict
    default: {}
  host_engine:
    description: Engine of the host phase.
    type: str
    choices: [command, diskshadow, export, wsb]
    default: wsb
  host_engine_options:
    description: Its options, for the record. A name that looks like a secret is refused.
    type: dict
    default: {}
  guest_target:
    description: Target of the guest phase, for the record.
    type: str
  host_target:
    description: Target of the host phase, for the record and for O(copy_beside_backup). Required with O(state=open).
    type: str
  guest_vss_backup_type:
    description: VSS backup type of the guest phase. V(full) in both phases is refused.
    type: str
    choices: [copy, full]
    default: copy
  host_vss_backup_type:
    description: VSS backup type of the host phase. V(full) in both phases is refused.
    type: str
    choices: [copy, full]
    default: copy
  max_skew:
    description: Greatest time in seconds between the two snapshots.
    type: int
    default: 3600
  allow_offline:
    description: Whether a VM that was put into saved state during the backup still makes a good set.
    type: bool
    default: false
  hold_slot:
    description: Also take the host's backup slot, so that the two snapshots of one VM lie close together.
    type: bool
    default: false
  host_concurrency:
    description:
      - How many VMs of one host an engine that works on several at once may back up at the same time, for O(hold_slot=true). An engine that
        can work on one only takes no notice of it.
    type: int
    default: 4
  queue_timeout:
    description: Longest time in seconds to wait for the slot.
    type: int
    default: 28800
  poll_interval:
    description: Seconds between two looks at the slot.
    type: int
    default: 10
  phase:
    description:
      - What O(state=recorded) records.
      - >-
        V(quiesce) is recorded before the applications are stopped and V(quiesced) after it; V(unquiesced) after they were started again.
        A run that dies in between is found out by the next one.
    type: str
    choices: [quiesce, quiesced, guest, host, unquiesced]
  result:
    description: The result of M(hyperv.passthrough.guest_backup) or M(hyperv.passthrough.host_backup).
    type: dict
  failure:
    description: >-
      Why the run failed, with O(state=closed) or O(state=restored). A set whose phases are not done is closed as failed. A restore that
      failed is continued by the next run with the same O(restore_id).
    type: str
  failure_kind:
    description: >-
      The failed task's C(error.kind). When the job may still run, as with V(unreachable) or V(wait_timeout), the set stays open and a
      rerun continues it.
    type: str
  copy_beside_backup:
    description: >-
      With O(state=closed), export the record into a file on the host phase's target. It is written by the host's SYSTEM account, which is
      the computer account on a share, with C(reg export); C(reg import) brings it back on a rebuilt host.
    type: bool
    default: false
  controller_copy:
    description: With O(state=closed), a folder on the controller that gets the record as JSON. Absolute path.
    type: str
  set:
    description: >-
      The set to restore from, as RV(hyperv.passthrough.backup_set_info#module:chosen) gives it. Required with O(state=restoring).
    type: dict
  restore_id:
    description: Name of the restore. Another restore from the same set needs another one.
    type: str
    default: r1
  restore_phase:
    description: Which half is restored, with O(state=restoring).
    type: str
    choices: [both, host, guest]
    default: both
  host_result:
    description: The result of M(hyperv.passthrough.host_restore), with O(state=restored).
    type: dict
  guest_result:
    description: The result of M(hyperv.passthrough.guest_restore), with O(state=restored).
    type: dict
seealso:
  - module: hyperv.passthrough.backup_set_info
"""

EXAMPLES = r"""
- name: Open a set, or continue the one that an interrupted run left
  hyperv.passthrough.backup_set:
    vm: "{{ hyperv_vm }}"
    state: open
    coverage: "{{ discover_coverage }}"
    host_target: 'E:'
  delegate_to: "{{ hyperv_host }}"
  register: opened
"""

RETURN = r"""
set:
  description: The set's record.
  returned: always
  type: dict
  contains:
    id:
      description: Identity of the set.
      type: str
    state:
      description: V(open), V(good), V(degraded), V(failed), V(lost) or V(restored).
      type: str
lease:
  description: Proof that this run works on the VM; pass the newest one to the next task. V(null) once the set is closed.
  returned: always
  type: str
restore:
  description: >-
    The restore's entry with C(id), C(state) V(running), V(finished) or V(failed), C(phase), C(host), C(started), C(ended), C(disks), and
    the C(automatic_start_action) to put back; V(null) for the states of a backup.
  returned: always
  type: dict
left:
  description: Which phases are still to be done, in order. Empty when the restore is finished.
  returned: always
  type: list
  elements: str
attempts:
  description: The attempt to use for each phase.
  returned: always
  type: dict
quiesced:
  description: True when an earlier run stopped the applications and did not start them again.
  returned: always
  type: bool
sentence:
  description: What the set holds, in one sentence.
  returned: always
  type: str
"""
