#!/usr/bin/python

# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: guest_disk
short_description: Bring a guest's disks online, prepare blank ones as recorded, and log in to iSCSI targets
version_added: 0.1.0
author:
  - The hyperv.passthrough authors (@hyperv-passthrough)
description:
  - Runs on a Windows guest. Disks are named by UniqueId, never by number, and are found again before each call.
  - >-
    Nothing that is not blank is ever initialised or formatted. Blank is a disk without partition table and partitions whose size was
    confirmed with O(confirm_size_bytes); a destroyed partition table looks the same, so look at such a disk first.
  - Everything that stands in the way is told in one message before anything is changed.
extends_documentation_fragment:
  - hyperv.passthrough.connection
  - hyperv.passthrough.connection.mutating
  - hyperv.passthrough.change
options:
  disks:
    description:
      - >-
        The disks, each with C(unique_id) (text) of the disk as it is now, and what was recorded of it; a disk of a backup set, or of an
        earlier M(hyperv.passthrough.guest_disk_info).
      - >-
        Of the record are used C(partition_style), C(guid), C(signature) and C(partitions) (beside C(unique_id), or in C(evidence.guest)),
        and C(volumes) with C(offset_bytes), C(letter), C(access_paths), C(label), C(file_system) and C(allocation_unit_bytes).
    type: list
    elements: dict
  unique_id:
    description: One disk by its UniqueId, when no letters are to be put back.
    type: raw
  state:
    description:
      - V(online) makes each disk online and writable and gives its volumes the letters and mount folders that were recorded.
      - >-
        V(prepared) gives a blank disk the partition table, disk identity, partitions, file systems, labels, letters and mount folders that
        were recorded. A disk that has its partitions and volumes only gets its letters. An interrupted run is finished by the next one.
      - A letter that another volume has is refused, with that volume.
    type: str
    choices: [online, prepared]
    default: online
  confirm_size_bytes:
    description: Size in bytes of the blank disk of O(state=prepared), to confirm that it may be overwritten.
    type: int
  accept_raw_volumes:
    description: >-
      For O(state=prepared). Go on too with a disk that is not blank, where the partition table is the recorded one (by its disk GUID or
      signature) but recorded partitions are missing or hold no file system; these are made and formatted. A file system that is there,
      whatever it holds, and what BitLocker protects are never formatted.
    type: bool
    default: false
  iscsi:
    description: >-
      Targets that the guest's own initiator is to be logged in to, before anything else and for good. Listed disks that are not there yet
      are then waited for.
    type: list
    elements: dict
    suboptions:
      target:
        description: Name of the target (IQN).
        type: str
        required: true
      portal:
        description: Address of a portal of the target.
        type: str
        required: true
      port:
        description: Port of the portal.
        type: int
        default: 3260
      chap_user:
        description: User name of CHAP, when the target wants it.
        type: str
      chap_secret:
        description: Secret of CHAP. It travels inside the connection's encryption; use a connection that has it.
        type: str
  hyperv_host:
    description: Inventory name of the Hyper-V host that keeps the lease; needed with O(lease).
    type: str
seealso:
  - module: hyperv.passthrough.guest_disk_info
  - module: hyperv.passthrough.passthrough_disk
"""

EXAMPLES = r"""
- name: Bring the disks of a restored guest online, with their letters
  hyperv.passthrough.guest_disk:
    disks: "{{ recorded_disks }}"

- name: Log in again
  hyperv.passthrough.guest_disk:
    iscsi:
      - target: iqn.2005-10.org.example:sql01
        portal: 192.0.2.10
        chap_user: sql01
        chap_secret: "{{ vault_chap_secret }}"

- name: Make a blank replacement LUN what the old one was
  hyperv.passthrough.guest_disk:
    state: prepared
    disks:
      - "{{ recorded_disk | combine({'unique_id': '600A098038314F7A7A2B4E7A5A4B3199'}) }}"
    confirm_size_bytes: 107374182400
"""

RETURN = r"""
plan:
  description: The steps, in order; in a real run those that were done. Empty when all is as wanted.
  returned: always
  type: list
  elements: dict
  contains:
    kind:
      description: >-
        V(connect_iscsi), V(online), V(initialize), V(identity), V(partition), V(remove_path), V(add_path) or V(format).
      type: str
    unique_id:
      description: UniqueId of the disk; V(null) for V(connect_iscsi).
      type: str
    sentence:
      description: The step in words.
      type: str
before:
  description: The listed disks before, as M(hyperv.passthrough.guest_disk_info) returns them.
  returned: always
  type: list
  elements: dict
after:
  description: The same afterwards; V(null) in check mode when something would change.
  returned: always
  type: list
  elements: dict
"""
