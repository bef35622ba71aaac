#!/usr/bin/python

# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: passthrough_disk
short_description: Attach, detach and remap pass-through disks of a VM by identity
version_added: 0.1.0
author:
  - The hyperv.passthrough authors (@hyperv-passthrough)
description:
  - Attaches a LUN of the Hyper-V host to a VM as a pass-through disk, detaches it, or puts several LUNs at the slots where they belong.
  - >-
    A LUN is named by its UniqueId or another identity, never by a disk number. Its identity is proven again right before each call, and
    what the VM has afterwards is read back; a disk that is not the wanted one is taken away again at once.
  - >-
    Everything that stands in the way is told in one message before anything is changed. A LUN that is online on the host, that another VM
    has, that the host boots from, that a cluster manages, or whose identity is not unique is refused.
  - Virtual hard disks and DVD drives are never touched.
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
      - V(attached) puts O(lun) at O(slot), which must be free.
      - V(detached) takes away the pass-through drive at O(slot), or the one with O(lun); with both, only if they belong together.
      - >-
        V(remapped) leaves each slot of O(disks) with exactly its LUN. Pass-through drives at these slots with another disk, drives at other
        slots with a listed LUN, and drives that lead to nothing are removed. The VM must be off.
    type: str
    choices: [attached, detached, remapped]
    default: attached
  lun:
    description:
      - UniqueId of the LUN as text, or a dictionary with C(unique_id), C(serial_number), C(guid) (GPT disk GUID), C(signature) (MBR) and
        C(size_bytes), of which all that are given must match. What M(hyperv.passthrough.disk_info) returned of a LUN may be given whole.
      - A UniqueId that is not worldwide unique, or that several disks claim, needs a second identifier.
      - A disk number is refused, with the disk that has it now.
    type: raw
  slot:
    description: Where the disk belongs in the VM.
    type: dict
    suboptions: &slot
      controller_type:
        description: Kind of the controller.
        type: str
        choices: [SCSI, IDE]
        default: SCSI
      controller_number:
        description: Number of the controller among those of its kind, as M(hyperv.passthrough.disk_info) returns it.
        type: int
        default: 0
      controller_location:
        description: Location on the controller.
        type: int
        required: true
  disks:
    description: The disks of O(state=remapped).
    type: list
    elements: dict
    suboptions:
      lun:
        description: As O(lun).
        type: raw
        required: true
      slot:
        description: As O(slot).
        type: dict
        required: true
        suboptions: *slot
  take_offline:
    description: >-
      Take a LUN that is online on the host offline first. Only for LUNs whose file system nothing on the host uses; a LUN of the host's own
      system or of a cluster is refused all the same.
    type: bool
    default: false
  allow_running:
    description: >-
      Attach to, or detach from, a SCSI controller of a running VM. Not for O(state=remapped). Applications in the guest must not use a disk
      that is detached.
    type: bool
    default: false
seealso:
  - module: hyperv.passthrough.disk_info
  - module: hyperv.passthrough.vm_state
"""

EXAMPLES = r"""
- name: Attach a LUN
  hyperv.passthrough.passthrough_disk:
    vm: sql01
    lun: 600A098038314F7A7A2B4E7A5A4B3131
    slot:
      controller_location: 2
  delegate_to: "{{ hyperv_host }}"

- name: Put the LUNs of a restored VM where the backup set says
  hyperv.passthrough.passthrough_disk:
    vm: "{{ set.vm.id }}"
    state: remapped
    disks: "{{ recorded_disks }}"
    lease: "{{ lease }}"
  delegate_to: "{{ hyperv_host }}"
  vars:
    recorded_disks:
      - lun:
          unique_id: 600A098038314F7A7A2B4E7A5A4B3131
          guid: '{0a1b2c3d-0000-4000-8000-000000000001}'
        slot:
          controller_type: SCSI
          controller_number: 0
          controller_location: 2

- name: Detach what is at a slot
  hyperv.passthrough.passthrough_disk:
    vm: sql01
    state: detached
    slot:
      controller_location: 2
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
      description: V(take_offline), V(detach) or V(attach).
      type: str
    slot:
      description: The slot, V(null) for V(take_offline).
      type: dict
    unique_id:
      description: UniqueId of the LUN; V(null) for a drive that leads to nothing.
      type: str
    sentence:
      description: The step in words.
      type: str
before:
  description: The VM's disks before, as M(hyperv.passthrough.disk_info) returns them.
  returned: always
  type: list
  elements: dict
after:
  description: The VM's disks afterwards; V(null) in check mode when something would change.
  returned: always
  type: list
  elements: dict
"""
