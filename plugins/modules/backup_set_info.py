#!/usr/bin/python

# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: backup_set_info
short_description: List the backup sets that a Hyper-V host keeps
version_added: 0.1.0
author:
  - The hyperv.passthrough authors (@hyperv-passthrough)
description:
  - Lists the backup sets in a Hyper-V host's registry, newest first.
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
unreadable:
  description: Records that could not be read, each with the reason.
  returned: success
  type: list
  elements: dict
"""
