# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation that every task of this collection shares: how it reaches Windows, check and diff mode, errors."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options: {}
notes:
  - >-
    Runs on the controller and talks WS-Management to the target through the target's own connection
    (C(ansible_connection=winrm) or C(psrp)); nothing is installed on Windows and no PowerShell is started.
  - There is no connection option here on purpose. Address, account, transport and certificates come from the inventory.
  - C(become) is ignored; the account of the connection needs the rights itself.
  - >-
    A failed task returns one sentence in RV(ignore:msg) and a word for machines in RV(ignore:error.kind). Trouble with the
    network is a failure with C(error.kind=unreachable), never an unreachable host, so that C(rescue) and C(always) run.
requirements:
  - pywinrm >= 0.5.0 on the controller (connection C(winrm))
  - pypsrp >= 0.8.0 on the controller (connection C(psrp))
attributes:
  action_group:
    description: Use C(group/hyperv.passthrough.all) in C(module_defaults) to set defaults for this task.
    support: full
    membership:
      - hyperv.passthrough.all
"""

    READ_ONLY = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and return the same without changing anything.
    support: full
    details:
      - This task only reads.
  diff_mode:
    description: Will return details on what has changed, or would change, in diff mode.
    support: N/A
    details:
      - This task only reads.
  idempotent:
    description: A second run changes nothing.
    support: full
    details:
      - This task only reads.
"""

    MUTATING = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode), says what it would do and changes nothing.
    support: full
    details:
      - >-
        Every documented return key is there, C(null) where only a real run can know the value, with C(planned=true).
  diff_mode:
    description: Will return details on what has changed, or would change, in diff mode.
    support: full
  idempotent:
    description: A second run changes nothing.
    support: full
    details:
      - Rerunning is also the way to recover from an interruption.
"""
