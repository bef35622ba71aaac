# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter coverage_table: the entry point of `_backup.report.coverage_table`."""

from __future__ import annotations

import typing as t

from ..plugin_utils._backup.report import coverage_table

DOCUMENTATION = r"""
name: coverage_table
short_description: Show coverage as a table, one line per disk
version_added: 0.1.0
author:
  - The hyperv.passthrough authors (@hyperv-passthrough)
description:
  - Turns the statuses that the playbook C(hyperv.passthrough.discover) keeps per VM into lines of text.
positional: _input
options:
  _input:
    description: A list of dictionaries with C(inventory_name), C(sentence) and C(coverage).
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Show it
  ansible.builtin.debug:
    msg: "{{ [{'inventory_name': inventory_hostname, 'state': 'good', 'sentence': '', 'coverage': discover_coverage}]
      | hyperv.passthrough.coverage_table }}"
"""

RETURN = r"""
_value:
  description: Lines of text.
  type: list
  elements: str
"""


class FilterModule:
    def filters(self) -> dict[str, t.Any]:
        return {"coverage_table": coverage_table}
