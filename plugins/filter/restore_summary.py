# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter restore_summary: the entry point of `_backup.report.restore_summary`."""

from __future__ import annotations

import typing as t

from ..plugin_utils._backup.report import restore_summary

DOCUMENTATION = r"""
name: restore_summary
short_description: Say per VM what a restore brings back, and what it keeps
version_added: 0.1.0
author:
  - The hyperv.passthrough authors (@hyperv-passthrough)
description:
  - Turns the statuses that the playbook C(hyperv.passthrough.reverse_restore) keeps per VM into lines of text.
positional: _input
options:
  _input:
    description: >-
      A list of dictionaries with C(inventory_name), C(state), C(sentence), C(plan) of the filter
      P(hyperv.passthrough.restore_plan#filter), and C(guest), the result of M(hyperv.passthrough.guest_restore).
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Show it
  ansible.builtin.debug:
    msg: "{{ [{'inventory_name': inventory_hostname, 'state': 'planned', 'sentence': plan.summary, 'plan': plan}]
      | hyperv.passthrough.restore_summary }}"
"""

RETURN = r"""
_value:
  description: Lines of text.
  type: list
  elements: str
"""


class FilterModule:
    def filters(self) -> dict[str, t.Any]:
        return {"restore_summary": restore_summary}
