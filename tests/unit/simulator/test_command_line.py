# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line: starts a world, says where it is, stops when told; lists what is assumed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

TESTS = Path(__file__).parents[2]
WORLD = TESTS / "simulator" / "worlds" / "small.yml"


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "simulator", *arguments],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_world_starts_writes_its_state_and_stops_on_sigterm(tmp_path: Path) -> None:
    process = start(str(WORLD), "--port", "0", "--tls-port", "0", "--basic", "--state-directory", str(tmp_path / "s"))
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("World small:")
        state: dict[str, Any] = json.loads((tmp_path / "s" / "state.json").read_text(encoding="utf-8"))
        assert Path(state["ca_file"]).read_bytes().startswith(b"-----BEGIN CERTIFICATE")
        host = next(machine for machine in state["machines"] if machine["kind"] == "host")
        assert [url.split(":")[0] for url in host["doors"]] == ["http", "https"]
        assert state["pid"] == process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 0


def test_the_inventory_is_one_that_ansible_reads(tmp_path: Path) -> None:
    process = start(
        str(WORLD), "--port", "0", "--tls-port", "0", "--print-inventory", "--state-directory", str(tmp_path / "s")
    )
    try:
        assert process.stdout is not None
        first = process.stdout.readline()  # the inventory comes when the world answers
        process.send_signal(signal.SIGTERM)
        rest = process.stdout.read()
    finally:
        process.kill()
        process.wait(timeout=60)
    children = yaml.safe_load(first + rest)["all"]["children"]
    assert set(children) == {"hyperv_hosts", "hyperv_guests"}
    assert all("hyperv_host" in entry for entry in children["hyperv_guests"]["hosts"].values())


def test_the_assumptions_are_listed_with_their_values_and_places() -> None:
    out, err = start("--assumed").communicate(timeout=60)
    assert err == ""
    assert "get-with-partial-keys:" in out
    assert "values: unreachable, accepted (default unreachable)" in out
    assert "in: -" not in out


def test_a_missing_world_is_an_error_in_words() -> None:
    process = start()
    _unused, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "a world file is needed" in err


def test_a_world_file_opens_basic_and_limits_accounts(tmp_path: Path) -> None:
    from simulator.door_memory import caller_of
    from simulator.world import World

    text = WORLD.read_text(encoding="utf-8").replace(
        "    os: server2022\n",
        "    os: server2022\n    winrm: {basic: true, max_shells_per_user: 2}\n    accounts:\n      Administrator: pw\n"
        "      local: {password: x, filtered: true}\n      view: {password: v, groups: [Remote Management Users], "
        'remote_enable: ["root/cimv2"]}\n',
        1,
    )
    world = World.from_yaml(text, tmp_path)
    host = world.machine("hv01")
    assert (host.winrm.basic, host.winrm.max_shells_per_user) == (True, 2)
    assert caller_of(host, "administrator").is_administrator
    assert not caller_of(host, "local").is_administrator
    assert caller_of(host, "view").remote_enable == {"root/cimv2"}
    world.close()
