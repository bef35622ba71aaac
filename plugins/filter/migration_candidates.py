# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter migration_candidates: the entry point of `_hyperv.migration_report.migration_candidates`."""

from __future__ import annotations

import typing as t

from ..plugin_utils._hyperv.migration_report import migration_candidates
from ..plugin_utils._query import select

DOCUMENTATION = r"""
name: migration_candidates
short_description: Which pass-through disks could become virtual hard disks
version_added: 0.1.0
author:
  - The hyperv.passthrough authors (@hyperv-passthrough)
description:
  - Takes what M(hyperv.passthrough.disk_info) returned and touches nothing.
positional: _input
options:
  _input:
    description: The result of M(hyperv.passthrough.disk_info).
    type: dict
    required: true
  guest:
    description: The result of M(hyperv.passthrough.guest_disk_info), when the input holds that guest's VM alone.
    type: dict
  reserve:
    description: Bytes of the LUN that the virtual hard disk shall not fill.
    type: int
    default: 1073741824
  allocation_unit:
    description: Cluster size of the host's volume in bytes.
    type: int
    choices: [4096, 65536]
    default: 65536
  query:
    description: A JMESPath expression that selects among the candidates.
    type: str
"""

EXAMPLES = r"""
- name: Candidates of a host
  ansible.builtin.debug:
    msg: "{{ look | hyperv.passthrough.migration_candidates | map(attribute='sentence') }}"
"""

RETURN = r"""
_value:
  description: >-
    One dictionary per pass-through disk with C(vm), C(slot), C(unique_id), C(size_bytes), C(format), C(destination_bytes) (the smallest LUN
    for a copy), C(growth_gib) (for in_place), C(copied_bytes), C(estimated_hours), C(obstacles) (each C(kind) and C(sentence)), C(notes)
    and C(sentence).
  type: list
  elements: dict
"""


def _candidates(view: t.Mapping[str, t.Any], query: str | None = None, **options: t.Any) -> t.Any:
    select.check(query)
    return select(query, migration_candidates(view, **options))


class FilterModule:
    def filters(self) -> dict[str, t.Any]:
        return {"migration_candidates": _candidates}
