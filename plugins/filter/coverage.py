# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter coverage: joins the host's and the guest's view of one VM into the protection plan. The rules are `_backup.coverage`."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError

from ..plugin_utils._backup import coverage as rules
from ..plugin_utils._backup.engines import engine as engine_named
from ..plugin_utils._backup.errors import BackupError
from ..plugin_utils._identities import texts

DOCUMENTATION = r"""
name: coverage
short_description: Assign every disk of a VM to the phase that captures it
version_added: 0.1.0
author:
  - The hyperv.passthrough authors (@hyperv-passthrough)
description:
  - Joins what the Hyper-V host and the guest say about one VM, by identity and never by disk number.
  - >-
    Every disk gets exactly one of V(host), V(guest), V(gap), V(unverified) and V(identity_mismatch), with the reason and the evidence.
  - >-
    A guest's own iSCSI initiator is invisible from outside, so no VM is covered by the host's view alone. A guest that did not answer is
    V(unverified), which is a gap unless the operator declares otherwise.
  - A disk is V(guest) only if the chosen engine can back up and restore every volume on it there.
positional: _input
options:
  _input:
    description: One entry of RV(hyperv.passthrough.disk_info#module:vms).
    type: dict
    required: true
  host:
    description: RV(hyperv.passthrough.disk_info#module:host) of the same result.
    type: dict
    required: true
  guest:
    description: >-
      The registered result of M(hyperv.passthrough.guest_disk_info) on the VM's guest. A failed or skipped result, or none, means that the
      guest did not answer.
    type: dict
  guest_engine:
    description: Backup engine of the guest phase.
    type: str
    choices: [command, wsb]
    default: wsb
  host_engine:
    description: Backup engine of the host phase.
    type: str
    choices: [command, diskshadow, export, wsb]
    default: wsb
  guest_engine_options:
    description: Options of the guest phase's engine, as the two tasks of that phase take them.
    type: dict
    default: {}
  host_engine_options:
    description: Options of the host phase's engine.
    type: dict
    default: {}
  guest_storage:
    description: V(none) declares that the guest has no storage of its own, so that it need not be asked.
    type: str
    choices: [ask, none]
    default: ask
  accept_gaps:
    description:
      - Gaps that the operator accepts, each by the disk's unique id, its slot such as V(SCSI 0:2), one of the texts in C(accept_as), or
        V(guest_unverified).
      - An accepted gap is still not captured.
    type: list
    elements: str
    default: []
seealso:
  - module: hyperv.passthrough.disk_info
  - module: hyperv.passthrough.guest_disk_info
"""

EXAMPLES = r"""
- name: Assign every disk to a phase
  ansible.builtin.set_fact:
    plan: "{{ host_view.vms[0] | hyperv.passthrough.coverage(host=host_view.host, guest=guest_view) }}"
"""

RETURN = r"""
_value:
  description: The protection plan of the VM.
  type: dict
  contains:
    vm:
      description: GUID and name.
      type: dict
    status:
      description: V(ok), V(replica) or V(clustered).
      type: str
    disks:
      description: Every disk with its coverage, reason and evidence.
      type: list
      elements: dict
    guest_volumes:
      description: Volumes to back up in the guest, per disk.
      type: list
      elements: dict
    complete:
      description: False as soon as one disk is neither captured nor accepted.
      type: bool
    uncovered:
      description: One sentence for each such disk.
      type: list
      elements: str
    summary:
      description: The whole plan in one sentence.
      type: str
"""


def coverage(
    vm: t.Mapping[str, t.Any],
    host: t.Mapping[str, t.Any],
    guest: t.Mapping[str, t.Any] | None = None,
    guest_engine: str = "wsb",
    host_engine: str = "wsb",
    guest_storage: str = "ask",
    accept_gaps: t.Sequence[str] | str = (),
    guest_engine_options: t.Mapping[str, t.Any] | None = None,
    host_engine_options: t.Mapping[str, t.Any] | None = None,
) -> dict[str, t.Any]:
    answered = guest is not None and "guest" in guest and "disks" in guest
    error = None if answered or guest is None else _why_silent(guest)
    try:
        in_guest, on_host = engine_named(guest_engine), engine_named(host_engine)
        guest_options = in_guest.options(guest_engine_options, "guest")
        host_options = on_host.options(host_engine_options, "host")
        plan = rules.coverage(
            vm,
            guest if answered else None,
            guest_engine=in_guest.capabilities(guest["guest"], guest_options)
            if answered and guest is not None
            else None,
            host_engine=on_host.capabilities(host, host_options),
            guest_storage=guest_storage,
            accept_gaps=texts(accept_gaps, "accept_gaps"),
            guest_error=None if guest_storage == "none" else error,
        )
    except BackupError as err:
        raise AnsibleFilterError(str(err)) from err
    return {**plan, "guest_storage": guest_storage}


def _why_silent(result: t.Mapping[str, t.Any]) -> str | None:
    """Why a guest did not answer; a guest without a connection is nobody's hyperv_host, which the task's sentence tells of."""
    if (result.get("error") or {}).get("kind") == "not_windows":
        return "the inventory gives it no winrm or psrp connection"
    return str(result.get("msg") or "") or None


class FilterModule:
    def filters(self) -> dict[str, t.Any]:
        return {"coverage": coverage}
