# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter backup_summary: the entry point of `_backup.report.backup_summary`."""

from __future__ import annotations

import typing as t

from ..plugin_utils._backup.report import backup_summary

DOCUMENTATION = r"""
name: backup_summary
short_description: Say per VM what a two-phase backup captured, and what it did not
version_added: 0.1.0
author:
  - The hyperv.passthrough authors (@hyperv-passthrough)
description:
  - Turns the statuses that the playbook C(hyperv.passthrough.two_phase_backup) keeps per VM into lines of text.
positional: _input
options:
  _input:
    description: A list of dictionaries with C(inventory_name), C(state), C(sentence) and C(coverage).
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Show it
  ansible.builtin.debug:
    msg: "{{ [{'inventory_name': inventory_hostname, 'state': 'good', 'sentence': '', 'coverage': discover_coverage}]
      | hyperv.passthrough.backup_summary }}"
"""

RETURN = r"""
_value:
  description: Lines of text.
  type: list
  elements: str
"""


class FilterModule:
    def filters(self) -> dict[str, t.Any]:
        return {"backup_summary": backup_summary}
