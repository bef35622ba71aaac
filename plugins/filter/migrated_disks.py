# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter migrated_disks: the entry point of `_hyperv.migration_report.migrated_disks`."""

from __future__ import annotations

import typing as t

from ..plugin_utils._hyperv.migration_report import migrated_disks

DOCUMENTATION = r"""
name: migrated_disks
short_description: Find migrated disks in the guest, and compare their volumes with what they were
version_added: 0.1.0
author:
  - The hyperv.passthrough authors (@hyperv-passthrough)
description:
  - >-
    A migrated disk has another UniqueId, but the disk GUID or signature that it had. Its volumes are compared by file system, label, serial
    number, size and letter; how much of them is used may have changed.
positional: _input
options:
  _input:
    description: The RV(hyperv.passthrough.lun_to_vhd#module:vhd) of a result of M(hyperv.passthrough.lun_to_vhd).
    type: list
    elements: dict
    required: true
  guest:
    description: The result of M(hyperv.passthrough.guest_disk_info), now.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Bring the migrated disks online with their letters
  hyperv.passthrough.guest_disk:
    state: online
    disks: "{{ (migrated.vhd | hyperv.passthrough.migrated_disks(guest=look)).disks }}"
"""

RETURN = r"""
_value:
  description: >-
    C(disks) for M(hyperv.passthrough.guest_disk), each what was recorded with the UniqueId of now; C(missing) and C(differences) as
    sentences, empty when all is as it was.
  type: dict
"""


class FilterModule:
    def filters(self) -> dict[str, t.Any]:
        return {"migrated_disks": migrated_disks}
