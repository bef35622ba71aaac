#!/usr/bin/python

# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: vm_state
short_description: Start, shut down, turn off or save a VM, and set what its host does with it at start
version_added: 0.1.0
author:
  - The hyperv.passthrough authors (@hyperv-passthrough)
description:
  - Brings one VM of a Hyper-V host into a state, discards its saved state, sets its automatic start action, and waits for its heartbeat.
  - What Hyper-V calls done is not believed; the VM's own state is read until it is as wanted.
  - The order is saved state, start action, power, heartbeat.
extends_documentation_fragment:
  - hyperv.passthrough.connection
  - hyperv.passthrough.connection.mutating
  - hyperv.passthrough.change
options:
  vm:
    description: Name or GUID of the VM. Quote names that look like numbers.
    type: str
    required: true
  state:
    description:
      - V(running) starts, resumes or restores the VM.
      - V(shut_down) asks the guest to shut down and waits until the VM is off. The guest needs integration services.
      - V(off) turns the VM off at once, as pulling its plug would.
      - V(saved) saves the VM's memory.
      - A saved VM is never turned off without O(discard_saved_state).
      - Without this option the power is left as it is.
    type: str
    choices: [running, "off", shut_down, saved]
  force:
    description: >-
      For O(state=shut_down). The guest closes applications without asking and also when it is locked, and is turned off when it does not
      shut down within O(wait_timeout) or cannot be asked.
    type: bool
    default: false
  automatic_start_action:
    description:
      - What the host does with the VM when the host itself starts.
      - The words of M(hyperv.passthrough.disk_info); the same words in lower case with underscores mean the same.
    type: str
    choices: [Nothing, StartIfRunning, Start, nothing, start_if_running, start]
  discard_saved_state:
    description: Throw away the memory of a saved VM, before anything else. What the guest had not written to disk is lost.
    type: bool
    default: false
  wait_for:
    description: V(heartbeat) waits at the end until the guest's integration services answer.
    type: str
    choices: [none, heartbeat]
    default: none
seealso:
  - module: hyperv.passthrough.disk_info
  - module: hyperv.passthrough.passthrough_disk
"""

EXAMPLES = r"""
- name: Shut the VM down
  hyperv.passthrough.vm_state:
    vm: sql01
    state: shut_down
    wait_timeout: 900
  delegate_to: "{{ hyperv_host }}"

- name: Keep a restored VM from starting, with what it remembers of other disks thrown away
  hyperv.passthrough.vm_state:
    vm: "{{ set.vm.id }}"
    discard_saved_state: true
    automatic_start_action: Nothing
    lease: "{{ lease }}"
  delegate_to: "{{ hyperv_host }}"

- name: Start it and wait until its guest lives
  hyperv.passthrough.vm_state:
    vm: "{{ set.vm.id }}"
    state: running
    wait_for: heartbeat
    lease: "{{ lease }}"
  delegate_to: "{{ hyperv_host }}"
"""

RETURN = r"""
vm:
  description: C(id) and C(name) of the VM.
  returned: always
  type: dict
plan:
  description: The steps, in order; empty when all is as wanted.
  returned: always
  type: list
  elements: dict
  contains:
    kind:
      description: V(discard_saved_state), V(automatic_start_action), or the wanted state.
      type: str
    sentence:
      description: The step in words.
      type: str
before:
  description: The VM before.
  returned: always
  type: dict
  contains:
    state:
      description: Its state, as M(hyperv.passthrough.disk_info) returns it.
      type: str
    automatic_start_action:
      description: V(Nothing), V(StartIfRunning) or V(Start).
      type: str
    heartbeat:
      description: The guest's heartbeat; V(null) when the VM does not run.
      type: str
after:
  description: The same afterwards; V(null) in check mode when something would change.
  returned: always
  type: dict
"""
