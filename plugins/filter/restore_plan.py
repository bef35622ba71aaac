# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter restore_plan: what a restore from a backup set would do, and all that forbids it. The rules are `_backup.restore_plan`."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError

from ..plugin_utils._backup import restore_plan as rules
from ..plugin_utils._backup.backup_set import from_result
from ..plugin_utils._backup.errors import BackupError
from ..plugin_utils._identities import text, text_map, texts

DOCUMENTATION = r"""
name: restore_plan
short_description: Plan a restore from a backup set and find everything that forbids it
version_added: 0.1.0
author:
  - The hyperv.passthrough authors (@hyperv-passthrough)
description:
  - Compares a backup set with what all Hyper-V hosts show now, and says per disk whether it is kept or overwritten, with the evidence.
  - >-
    The newest data is not assumed to be in the backup. A LUN whose partition table is the recorded one is kept; only a blank or
    unrecognisable one, or one that is named in O(overwrite_disks), is overwritten.
  - All findings come in one message. As long as there is one, nothing may be changed.
positional: _input
options:
  _input:
    description: RV(hyperv.passthrough.backup_set_info#module:chosen), or another set as a dictionary.
    type: dict
    required: true
  views:
    description: >-
      Inventory name to registered result of M(hyperv.passthrough.disk_info) without O(hyperv.passthrough.disk_info#module:vms), for every
      Hyper-V host that could be asked. A failed result counts as not seen.
    type: dict
    required: true
  target_host:
    description: Inventory name of the Hyper-V host on which the VM is restored.
    type: str
    required: true
  vm_id:
    description: GUID of the VM that is meant. A set of another VM is refused.
    type: str
  restore_phase:
    description: Restore both halves or one.
    type: str
    choices: [both, host, guest]
    default: both
  overwrite_vm:
    description: The GUID of the existing VM that may be replaced.
    type: str
  overwrite_disks:
    description: Left-out disks that are overwritten although they look as recorded, each by UniqueId or by its slot such as V(SCSI 0:1).
    type: list
    elements: str
    default: []
  lun_map:
    description: UniqueId of a recorded LUN to the UniqueId of its replacement.
    type: dict
    default: {}
  accept_unseen_hosts:
    description: Inventory names of Hyper-V hosts that need not be seen.
    type: list
    elements: str
    default: []
  hosts_expected:
    description: Inventory names of all Hyper-V hosts on which the VM or its LUNs could be.
    type: list
    elements: str
    default: []
  host_check:
    description: >-
      The registered result of M(hyperv.passthrough.host_restore) in check mode on the target host. Its findings are taken over.
    type: dict
  versions:
    description: RV(hyperv.passthrough.backup_set_info#module:versions).
    type: list
    elements: dict
    default: []
  guest:
    description: >-
      The registered result of M(hyperv.passthrough.guest_disk_info) of the restored guest, once it answers and its disks are online. It
      makes the actions of C(guest_disks) exact.
    type: dict
  chap_targets:
    description: iSCSI targets whose CHAP secret is known.
    type: list
    elements: str
    default: []
seealso:
  - module: hyperv.passthrough.backup_set_info
  - module: hyperv.passthrough.host_restore
"""

EXAMPLES = r"""
- name: Plan the restore
  ansible.builtin.set_fact:
    plan: >-
      {{ sets.chosen | hyperv.passthrough.restore_plan(views=views, target_host=hyperv_host, hosts_expected=groups['hyperv_hosts']) }}
"""

RETURN = r"""
_value:
  description: The plan.
  type: dict
  contains:
    findings:
      description: What forbids the restore, each with C(kind), C(sentence) and C(accept_with), the option that accepts it.
      type: list
      elements: dict
    refused:
      description: True as soon as there is one finding.
      type: bool
    message:
      description: All findings in one text.
      type: str
    vm:
      description: C(id), C(name), C(exists), C(host), C(state), C(overwrite) and the recorded C(automatic_start_action).
      type: dict
    phases:
      description: The phases that are restored, in order.
      type: list
      elements: str
    disks:
      description: >-
        Every disk with C(action) V(keep), V(overwrite), V(map_keep), V(map_overwrite), V(with_vm), V(in_guest), V(not_asked) or
        V(not_captured), and the evidence.
      type: list
      elements: dict
    remap:
      description: Slots and LUNs for M(hyperv.passthrough.passthrough_disk).
      type: list
      elements: dict
    guest_disks:
      description: >-
        Disks of the guest phase, each with its recorded C(entry) for M(hyperv.passthrough.guest_disk), C(action) V(keep), V(overwrite) or
        V(in_guest), and C(needs_preparing), which is known with O(guest) only.
      type: list
      elements: dict
    guest_phase:
      description: Whether there is anything to do in the guest.
      type: bool
    start:
      description: Whether the VM ran when it was backed up.
      type: bool
    iscsi:
      description: iSCSI targets that the guest logs in to.
      type: list
      elements: dict
    steps:
      description: The restore in sentences, in order.
      type: list
      elements: str
    notes:
      description: What is worth knowing.
      type: list
      elements: str
    summary:
      description: The whole plan in one sentence.
      type: str
"""


def restore_plan(
    backup_set: t.Mapping[str, t.Any],
    views: t.Mapping[str, t.Any],
    target_host: str,
    vm_id: str | None = None,
    restore_phase: str = "both",
    overwrite_vm: str | None = None,
    overwrite_disks: t.Sequence[str] | str = (),
    lun_map: t.Mapping[str, str] | None = None,
    accept_unseen_hosts: t.Sequence[str] | str = (),
    hosts_expected: t.Sequence[str] | str = (),
    host_check: t.Mapping[str, t.Any] | None = None,
    versions: t.Sequence[t.Mapping[str, t.Any]] = (),
    guest: t.Mapping[str, t.Any] | None = None,
    chap_targets: t.Sequence[str] | str = (),
) -> dict[str, t.Any]:
    try:
        options = rules.RestoreOptions(
            target_host=target_host,
            vm_id=None if not vm_id else text(vm_id, "vm_id"),
            restore_phase=restore_phase,
            overwrite_vm=None if not overwrite_vm else text(overwrite_vm, "overwrite_vm"),
            overwrite_disks=texts(overwrite_disks, "overwrite_disks"),
            lun_map=text_map(lun_map, "lun_map"),
            accept_unseen_hosts=texts(accept_unseen_hosts, "accept_unseen_hosts"),
            hosts_expected=texts(hosts_expected, "hosts_expected"),
            chap_targets=texts(chap_targets, "chap_targets"),
        )
        return rules.restore_plan(
            from_result(backup_set),
            views,
            options,
            host_check=host_check or None,
            versions=versions or (),
            guest=guest or None,
        )
    except BackupError as err:
        raise AnsibleFilterError(str(err)) from err


class FilterModule:
    def filters(self) -> dict[str, t.Any]:
        return {"restore_plan": restore_plan}
