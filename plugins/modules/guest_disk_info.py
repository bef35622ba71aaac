#!/usr/bin/python

# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: guest_disk_info
short_description: Every disk and volume of a guest, and how the disk reaches it
version_added: 0.1.0
author:
  - The hyperv.passthrough authors (@hyperv-passthrough)
description:
  - >-
    Lists a guest's disks and tells apart virtual hard disks, pass-through disks, LUNs of the guest's own iSCSI initiator
    (with the target's IQN), virtual Fibre Channel LUNs, Storage Spaces and disks mounted inside the guest.
  - Says which volumes and letters live on each disk, whether it is a dynamic disk, and the BitLocker state of each volume.
  - Run it on the guest itself; its inventory host needs a connection of its own.
extends_documentation_fragment:
  - hyperv.passthrough.connection
  - hyperv.passthrough.connection.read_only
options:
  query:
    description:
      - A JMESPath expression, applied to the list of disks; its result is returned as RV(disks).
      - Needs the Python library jmespath on the controller.
    type: str
seealso:
  - module: hyperv.passthrough.disk_info
  - plugin: hyperv.passthrough.coverage
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Which volumes live on disks that a host backup cannot see?
  hyperv.passthrough.guest_disk_info:
    query: "[?kind!='virtual_hard_disk'].{disk: unique_id, kind: kind, volumes: volumes[].access_paths[0]}"
"""

RETURN = r"""
guest:
  description: The guest's operating system, and the VM that its host says it is.
  returned: success
  type: dict
  contains:
    computer_name:
      description: Computer name inside the guest.
      type: str
    vm_id:
      description: GUID of the VM as the Hyper-V host told the guest, or V(null) when data exchange is off.
      type: str
    is_server:
      description: Whether it is a server edition; Windows client editions cannot restore with Windows Server Backup.
      type: bool
    windows_server_backup:
      description: V(installed) or V(missing).
      type: str
    utc:
      description: The guest's own clock, ISO 8601 in UTC.
      type: str
disks:
  description: The disks, or the result of O(query).
  returned: success
  type: list
  elements: dict
  contains:
    unique_id:
      description: The disk's identity.
      type: str
    kind:
      description: >-
        One of V(virtual_hard_disk), V(pass_through), V(iscsi), V(virtual_fibre_channel), V(storage_space),
        V(mounted_virtual_hard_disk), V(unknown).
      type: str
    iscsi:
      description: >-
        C(target), C(session), C(authentication) and the C(portals) that the initiator knows, for a LUN of the guest's own initiator.
      type: dict
    partitions:
      description: >-
        The whole partition table by offset, each entry with C(number), C(offset_bytes), C(size_bytes), C(gpt_type), C(mbr_type), C(guid)
        and C(is_active).
      type: list
      elements: dict
    size_bytes:
      description: Size in bytes.
      type: int
    is_dynamic:
      description: Whether the disk belongs to a dynamic disk group, which no engine here restores.
      type: bool
    volumes:
      description: The volumes on this disk.
      type: list
      elements: dict
      contains:
        path:
          description: Volume GUID path.
          type: str
        letter:
          description: Drive letter, if there is one.
          type: str
        file_system:
          description: File system.
          type: str
        used_bytes:
          description: Bytes in use.
          type: int
        bitlocker:
          description: Protection and lock state, or V(null) when BitLocker is not there.
          type: dict
storage_pools:
  description: Storage pools of the guest.
  returned: success
  type: list
  elements: dict
iscsi_sessions:
  description: Sessions of the guest's own iSCSI initiator.
  returned: success
  type: list
  elements: dict
fibre_channel_initiators:
  description: Fibre Channel initiator ports that the guest sees.
  returned: success
  type: list
  elements: dict
volumes_without_disk:
  description: Volumes that lie on no disk of the list, such as those of dynamic disks.
  returned: success
  type: list
  elements: dict
problems:
  description: What could not be read and therefore may be missing above, one sentence each; also shown as warnings.
  returned: success
  type: list
  elements: str
"""
