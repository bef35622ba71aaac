#!/usr/bin/python

# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_restore
short_description: Restore one VM on a Hyper-V host from a backup set
version_added: 0.1.0
author:
  - The hyperv.passthrough authors (@hyperv-passthrough)
description:
  - Restores a VM, its configuration and its virtual hard disks, to where they were, as a detached job on the Hyper-V host.
  - >-
    Everything that forbids it is found before anything is changed. An existing VM is replaced only with O(overwrite_vm), when it is off,
    and after its configuration was exported. Virtual hard disks that are still there without their VM count as an existing VM.
  - >-
    As soon as the restored VM exists, and on every rerun, its automatic start action is V(Nothing), a saved state is discarded, and its
    network adapters and virtual Fibre Channel ports are connected. A VM that its host started before that (a restart right after the
    recovery) is turned off. Its pass-through disks are attached by M(hyperv.passthrough.passthrough_disk) afterwards; start it only then.
  - While the recovery runs, the automatic start action of a VM that is being replaced is V(Nothing) too.
  - In check mode findings are returned and never raised.
extends_documentation_fragment:
  - hyperv.passthrough.connection
  - hyperv.passthrough.connection.mutating
  - hyperv.passthrough.restore_job
options:
  engine:
    description:
      - V(wsb) is Windows Server Backup.
      - V(export) a recovery checkpoint that Hyper-V exports (Server 2016 and later).
      - V(diskshadow) a shadow copy of the host's volumes.
      - V(command) the operator's own product.
      - Without it the engine that made the backup, as the set recorded it.
    type: str
    choices: [command, diskshadow, export, wsb]
  vm:
    description: GUID of the VM. A set of another VM is refused.
    type: str
    required: true
  overwrite_vm:
    description: The GUID of the existing VM that may be replaced, with all of its virtual hard disks.
    type: str
  export_folder:
    description: Folder on the host for the configuration of a VM that is replaced.
    type: str
    default: 'C:\ProgramData\hyperv.passthrough\exports'
  switch_map:
    description: Recorded name of a virtual switch to the name of its counterpart on this host. An empty text leaves adapters disconnected.
    type: dict
    default: {}
  vsan_map:
    description: Recorded name of a virtual SAN to the name of its counterpart on this host. An empty text leaves ports disconnected.
    type: dict
    default: {}
seealso:
  - module: hyperv.passthrough.backup_set
  - module: hyperv.passthrough.passthrough_disk
  - module: hyperv.passthrough.guest_restore
"""

EXAMPLES = r"""
- name: Restore the VM
  hyperv.passthrough.host_restore:
    vm: 5E2F1A0C-3B1D-4A55-9C0E-7B7F0E1D2C3B
    overwrite_vm: 5E2F1A0C-3B1D-4A55-9C0E-7B7F0E1D2C3B
    set: "{{ sets.chosen }}"
    lease: "{{ restoring.lease }}"
  delegate_to: "{{ hyperv_host }}"
  register: host_phase
"""

RETURN = r"""
job:
  description: The job on the machine; V(null) when the set cannot be used.
  returned: always
  type: dict
  contains:
    run_id:
      description: Name of the run; derived from set, restore and attempt.
      type: str
    state:
      description: V(pending), V(running), V(succeeded) or V(failed); V(null) in check mode when nothing was started yet.
      type: str
    percent:
      description: Progress, where the engine tells.
      type: int
    attached:
      description: True when the job was there already and nothing was started.
      type: bool
    request:
      description: >-
        What is restored, with C(version), C(target), C(machine), C(item), C(onto) and C(replace), for engines that are driven by roles.
        Not in check mode.
      type: dict
version:
  description: The version that was restored, proven by exit code and event log; V(null) until then.
  returned: always
  type: str
machine:
  description: Computer name of the Hyper-V host.
  returned: always
  type: str
evidence:
  description: What proves the restore; exit code, event record ids, logs.
  returned: always
  type: dict
vm:
  description: C(id), C(name), C(exists), C(state) and C(automatic_start_action) of the VM.
  returned: always
  type: dict
exported:
  description: Where the configuration of the replaced VM was exported to; V(null) when there was none.
  returned: always
  type: str
network:
  description: Adapters and ports that were connected, each with C(changed).
  returned: always
  type: list
  elements: dict
findings:
  description: In check mode, what forbids the restore, each with C(kind), C(sentence) and C(accept_with).
  returned: always
  type: list
  elements: dict
restored:
  description: Whether this restore has brought the VM back already.
  returned: always
  type: bool
lease:
  description: >-
    O(lease) for the next task; another text when a lease that had run out was taken anew. V(null) without O(lease).
  returned: always
  type: str
"""
