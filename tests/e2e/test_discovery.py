# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Discovery as an operator runs it: real ansible-playbook, real HTTP, a simulated host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.e2e


def disk_info(**options: Any) -> list[dict[str, Any]]:
    return [{"hosts": "hyperv_hosts", "gather_facts": False, "tasks": [{"hyperv.passthrough.disk_info": options}]}]


def test_disk_info_tells_which_disks_a_host_backup_leaves_out(lab: Callable[..., Any]) -> None:
    run = lab("small").run(disk_info())
    assert run.status == 0, run.output
    (task,) = run.of("disk_info")
    vms = {vm["name"]: vm for vm in task.result["vms"]}
    assert set(vms) == {"web01", "sql01"}
    captured = {disk["attachment"]: disk["captured_by"] for disk in vms["sql01"]["disks"]}
    assert captured == {"virtual_hard_disk": "host", "pass_through": "guest"}
