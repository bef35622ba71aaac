#!/usr/bin/python

# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: backup_retention
short_description: Delete the versions of backup sets that no rule keeps
version_added: 0.1.0
author:
  - The hyperv.passthrough authors (@hyperv-passthrough)
description:
  - >-
    Plans which backup sets of one VM are kept, looks whether the newest good one is really on its targets, and deletes the versions of the
    others through the engines that made them. Check mode and C(--diff) show the plan.
  - >-
    Only verified sets count, that is sets in state V(good), also after a restore from them. Degraded, failed and lost sets never take
    the place of a good one; they go once they are older than every good set that a rule keeps.
  - >-
    The newest good set of a VM is never deleted, nor is a set from which a restore has not finished, an open set, or anything while another
    run works on the VM. Only versions that a set's record binds to a run of ours are deleted, each after its engine has proven
    that it is that version.
  - >-
    A set that goes becomes V(expiring) first, which no restore uses any more, and V(expired) when its versions are gone. Killing the task
    anywhere is safe; the next run finishes what was begun.
  - >-
    The engine V(wsb) deletes versions on shares only, where every run has a folder of its own. On a volume Windows documents no way to
    delete one version of a server's backup; such a version is reported as kept, and Windows Server Backup drops the oldest itself when it
    needs room.
extends_documentation_fragment:
  - hyperv.passthrough.connection
  - hyperv.passthrough.connection.mutating
options:
  vm_id:
    description: GUID of the VM whose sets are looked at. The VM itself need not exist any more.
    type: str
    required: true
  keep_last:
    description: Keep this many of the newest good sets.
    type: int
  keep_daily:
    description: >-
      Keep the newest good set of each of this many days, newest days first. Days are those of the snapshot in UTC; a day without a good set
      does not count.
    type: int
  keep_weekly:
    description: As O(keep_daily) for weeks. Weeks are ISO weeks in UTC, Monday to Sunday.
    type: int
  guest:
    description: >-
      Inventory name of the VM's guest, which deletes the versions that it made. Without it, or when it does not answer, sets that hold
      such versions wait as a whole.
    type: str
  lease:
    description: >-
      The lease that M(hyperv.passthrough.backup_set) returned, when this task is part of a run that holds the VM. Without it the task
      takes the lease itself.
    type: str
  queue_timeout:
    description: Longest time in seconds to wait for a lease that an earlier run left behind.
    type: int
    default: 28800
  poll_interval:
    description: Seconds between two looks at a small job.
    type: int
    default: 10
seealso:
  - module: hyperv.passthrough.backup_set_info
"""

EXAMPLES = r"""
- name: See what would go
  hyperv.passthrough.backup_retention:
    vm_id: 285CEA9B-1111-2222-3333-000000000001
    keep_last: 3
    keep_daily: 7
    keep_weekly: 4
    guest: sql01
  delegate_to: "{{ hyperv_host }}"
  check_mode: true
  diff: true

- name: Keep three good sets
  hyperv.passthrough.backup_retention:
    vm_id: "{{ two_phase_backup_set.vm.id }}"
    keep_last: 3
    guest: "{{ inventory_hostname }}"
  delegate_to: "{{ hyperv_host }}"
"""

RETURN = r"""
sets:
  description: The plan, newest set first. Expired sets are left out.
  returned: success
  type: list
  elements: dict
  contains:
    set_id:
      description: The set.
      type: str
    state:
      description: Its state when it was planned for.
      type: str
    moment:
      description: Time of the snapshot, in UTC.
      type: str
    action:
      description: V(keep), V(expire), or V(continue) for a set that an earlier run had begun to delete.
      type: str
    reasons:
      description: Why.
      type: list
      elements: str
    versions:
      description: Its versions, each with C(phase), C(engine), C(machine), C(target), C(version), C(action), and why it is kept or waits.
      type: list
      elements: dict
expired:
  description: What became of the sets that were to go. Empty in check mode.
  returned: success
  type: list
  elements: dict
  contains:
    set_id:
      description: The set.
      type: str
    state:
      description: V(expired), or V(expiring) when a rerun has to go on.
      type: str
    deleted:
      description: The versions that were deleted or were gone already.
      type: list
      elements: str
    kept:
      description: The versions that stay, because their engine cannot delete single versions.
      type: list
      elements: str
    problems:
      description: What could not be done.
      type: list
      elements: str
problems:
  description: What could not be done, of all sets. Also shown as warnings.
  returned: success
  type: list
  elements: str
sentence:
  description: The outcome in one sentence.
  returned: success
  type: str
lease:
  description: The lease to pass on, when one was given.
  returned: success
  type: str
planned:
  description: True in check mode, when something would be deleted.
  returned: when something would be deleted
  type: bool
"""
