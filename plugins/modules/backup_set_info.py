#!/usr/bin/python

# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: backup_set_info
short_description: List the backup sets that a Hyper-V host keeps, and choose one to restore from
version_added: 0.1.0
author:
  - The hyperv.passthrough authors (@hyperv-passthrough)
description:
  - Lists the backup sets in a Hyper-V host's registry, newest first.
  - With O(choose) it says which set a restore uses; with O(relist) it looks whether the versions are still on their targets.
  - A record that cannot be read is listed under RV(unreadable) and never hides the others.
extends_documentation_fragment:
  - hyperv.passthrough.connection
  - hyperv.passthrough.connection.read_only
options:
  vm_id:
    description: Only the sets of the VM with this GUID.
    type: str
  set_id:
    description: Only this set.
    type: str
  source:
    description:
      - Where the sets are read. V(registry) is the host's registry.
      - >-
        A text that begins with V(/) is a set's JSON copy on the controller; any other text is the path of a set's C(.reg) copy on the host,
        such as the one beside the backup. A share is read as the host's computer account.
    type: str
    default: registry
  relist:
    description:
      - List again, as SYSTEM, what the targets of the sets hold. With O(choose) only those of the sets that come into question.
      - >-
        A set whose version is gone is marked V(lost) in the host's registry. Check mode lists too, because nothing is left behind by that,
        but marks nothing.
    type: bool
    default: false
  choose:
    description: >-
      Choose the set that a restore uses. O(set_id) is taken or refused; otherwise it is the newest usable set of O(vm_id). Fails with a
      reason for each set that was passed over when there is none.
    type: bool
    default: false
  not_after:
    description: With O(choose), the newest set whose host snapshot is not younger than this time, such as V(2026-10-01T20:00:00Z).
    type: str
  restore_phase:
    description: With O(choose), the halves that are to be restored. A set whose guest half failed is good enough for V(host).
    type: str
    choices: [both, host, guest]
    default: both
  poll_interval:
    description: Seconds between two looks at a listing.
    type: int
    default: 2
  query:
    description: A JMESPath expression, applied to the list of sets; its result is returned as RV(sets).
    type: str
seealso:
  - module: hyperv.passthrough.backup_set
"""

EXAMPLES = r"""
- name: The newest good set of a VM
  hyperv.passthrough.backup_set_info:
    vm_id: 5E2F1A0C-3B1D-4A55-9C0E-7B7F0E1D2C3B
    query: "[?state=='good'] | [0]"
  delegate_to: "{{ hyperv_host }}"
"""

RETURN = r"""
sets:
  description: The sets, newest first, or the result of O(query).
  returned: success
  type: list
  elements: dict
chosen:
  description: The set that a restore uses; V(null) without O(choose).
  returned: success
  type: dict
chosen_reason:
  description: Why this one.
  returned: success
  type: str
versions:
  description: >-
    With O(relist), per version C(set_id), C(phase), C(machine), C(target), C(version), C(listed) and C(reason). C(listed) is V(null) when
    the target cannot be asked from this host.
  returned: success
  type: list
  elements: dict
unreadable:
  description: Records that could not be read, each with the reason.
  returned: success
  type: list
  elements: dict
"""
