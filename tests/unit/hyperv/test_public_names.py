# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The packages' public names are all there although they are imported late, and a task imports only what it needs."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import pytest

from ansible_collections.hyperv.passthrough.plugins.plugin_utils import _hyperv, _wsman

COLLECTION = "ansible_collections.hyperv.passthrough.plugins"
NOT_FOR_A_HOST = (
    "_hyperv.guest",
    "_hyperv.jobs",
    "_hyperv.registry",
    "_hyperv.scheduled_tasks",
    "_wsman.shell",
    "_backup",
)


@pytest.mark.parametrize("package", [_wsman, _hyperv])
def test_every_public_name_of_a_package_is_there(package: ModuleType) -> None:
    for name in package.__all__:
        assert getattr(package, name).__class__ is not None
    with pytest.raises(AttributeError):
        _unused = package.no_such_name


def test_observing_a_host_imports_nothing_that_only_other_tasks_need() -> None:
    listed = subprocess.run(
        [sys.executable, "-c", f"import sys, {COLLECTION}.action.disk_info\nprint(*sys.modules)"],
        check=True,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    ).stdout.split()
    assert f"{COLLECTION}.plugin_utils._hyperv.host" in listed  # by the plugin's file: once, before ansible forks
    ours = [name.removeprefix(f"{COLLECTION}.plugin_utils.") for name in listed if name.startswith(COLLECTION)]
    assert [name for name in ours if name.startswith(NOT_FOR_A_HOST)] == []
