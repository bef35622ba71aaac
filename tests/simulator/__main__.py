# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m simulator world.yml`: start a world, say how to reach it, run until SIGTERM or SIGINT.

--assumed           list every behaviour that no source proves, with its values, and end
--print-inventory   print an Ansible inventory (YAML) of the world to standard output
--state-directory   where certificates, disks and state.json go (default: a temporary folder, removed at the end)
--ntfs              auto, no or yes: real NTFS on simulated volumes (default: HYPERV_PASSTHROUGH_NTFS, or auto)
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from .admin import AdminDoor
from .assumed import import_everything, register, used_in
from .door_http import HttpDoors
from .endpoint import WinRmSettings
from .ntfs_file_system import MODES, VARIABLE, availability


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="simulator", description="Simulated Hyper-V hosts and Windows guests.")
    parser.add_argument("world", nargs="?", type=Path, help="the world (YAML)")
    parser.add_argument("--port", type=int, help="http port of every machine; 0: a free one each")
    parser.add_argument("--tls-port", type=int, help="https port of every machine; 0: a free one each")
    parser.add_argument("--admin-port", type=int, default=0, help="port of the administration door on 127.0.0.1")
    parser.add_argument("--state-directory", type=Path, help="folder for certificates, disks and state.json")
    parser.add_argument("--basic", action="store_true", help="every machine allows Basic authentication")
    parser.add_argument("--allow-unencrypted", action="store_true", help="every machine allows unencrypted http")
    parser.add_argument("--ntfs", choices=MODES, help="real NTFS on simulated volumes")
    parser.add_argument("--assumed", action="store_true", help="list the assumptions and end")
    parser.add_argument("--print-inventory", action="store_true", help="print an Ansible inventory")
    chosen = parser.parse_args(arguments)
    if chosen.assumed:
        import_everything()
        print_assumptions()
        return 0
    if chosen.world is None:
        parser.error("a world file is needed (or --assumed)")
    if chosen.ntfs is not None:
        os.environ[VARIABLE] = chosen.ntfs
    try:
        availability()
    except (RuntimeError, ValueError) as problem:
        parser.error(str(problem))
    return run(chosen)


def print_assumptions() -> None:
    """The register, one block per assumption."""
    for identifier, entry in register().items():
        print(f"{identifier}: {entry.text}")
        print(f"    values: {', '.join(entry.values)} (default {entry.default}); source: {entry.source}")
        print(f"    in: {', '.join(used_in(identifier)) or '-'}")


def run(chosen: argparse.Namespace) -> int:
    """Start the world and wait for a signal."""
    import_everything()
    from .world import World

    folder = chosen.state_directory or Path(tempfile.mkdtemp(prefix="simulator-"))
    folder.mkdir(parents=True, exist_ok=True)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        with contextlib.closing(World.from_yaml(chosen.world, folder / "world")) as world:
            machines: list[Any] = [m for m in world.machines if m.os.family == "windows"]
            for machine in machines:
                settings = WinRmSettings.of(machine)
                machine.winrm = replace(
                    settings,
                    basic=settings.basic or chosen.basic,
                    allow_unencrypted=settings.allow_unencrypted or chosen.allow_unencrypted,
                )
            doors = HttpDoors(
                machines, folder / "certificates", name=world.name, port=chosen.port, tls_port=chosen.tls_port
            )
            with doors, AdminDoor(world, doors, chosen.admin_port) as admin:
                state = {**admin.admin.describe(), "admin": admin.url, "pid": os.getpid()}
                _write_state(folder / "state.json", state)
                _announce(state, folder, sys.stderr if chosen.print_inventory else sys.stdout)
                if chosen.print_inventory:
                    print(yaml.safe_dump(inventory(world, doors), sort_keys=False), end="", flush=True)
                stop.wait()
    except OSError as error:
        print(f"The world cannot start: {error}", file=sys.stderr)
        return 1
    finally:
        if chosen.state_directory is None:
            shutil.rmtree(folder, ignore_errors=True)
    return 0


def _write_state(path: Path, state: dict[str, Any]) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(state, indent=1, default=str), encoding="utf-8")
    temporary.replace(path)


def _announce(state: dict[str, Any], folder: Path, stream: Any) -> None:
    print(f"World {state['name']}: state in {folder / 'state.json'}, CA {state['ca_file']}", file=stream)
    real = availability()
    kind = f"real ({real.reason})" if real.library is not None else f"the simulator's own ({real.reason})"
    print(f"NTFS: {kind}", file=stream)
    print(f"Administration: {state['admin']} (GET /world, /transcript, /check; POST /fault, /reboot)", file=stream)
    for machine in state["machines"]:
        note = "" if machine["answers"] else " (does not run now)"
        where = ", ".join(machine["doors"]) or "no door"
        print(
            f"  {machine['name']} [{machine['kind']}] {where}; accounts {', '.join(machine['accounts'])}{note}",
            file=stream,
        )
    stream.flush()


def inventory(world: Any, doors: HttpDoors) -> dict[str, Any]:
    """An Ansible inventory: groups hyperv_hosts and hyperv_guests, plain http with NTLM message encryption."""
    hosts: dict[str, dict[str, Any]] = {}
    guests: dict[str, dict[str, Any]] = {}
    for machine in world.machines:
        if machine.kind == "host":
            hosts[machine.name] = _connection(machine, doors)
    for vm in world.vms:
        entry: dict[str, Any] = {"hyperv_host": vm.host.name, "hyperv_vm": _vm_in_inventory(vm)}
        if vm.guest is not None:
            entry.update(_connection(vm.guest, doors))
        name = vm.guest.name if vm.guest is not None else re.sub(r"\W+", "_", vm.name, flags=re.ASCII).strip("_")
        guests[name if name and name not in guests else f"{name}_{vm.id[:8]}".lower()] = entry
    return {"all": {"children": {"hyperv_hosts": {"hosts": hosts}, "hyperv_guests": {"hosts": guests}}}}


def _vm_in_inventory(vm: Any) -> str:
    """The VM's name, or its GUID where the name does not tell which VM is meant or Ansible would take it for a template."""
    alike = [other for other in vm.host.vms if other.name.casefold() == vm.name.casefold()]
    return str(vm.id if len(alike) > 1 or re.search(r"\{[{%#]", vm.name) else vm.name)


def _connection(machine: Any, doors: HttpDoors) -> dict[str, Any]:
    door = next((door for door in doors.doors if door.machine == machine.name and not door.tls), None)
    if door is None:
        return {}
    account = "Administrator" if "Administrator" in machine.accounts else next(iter(machine.accounts))
    return {
        "ansible_connection": "winrm",
        "ansible_host": door.address,
        "ansible_port": door.port,
        "ansible_winrm_scheme": "http",
        "ansible_winrm_transport": "ntlm",
        "ansible_user": account,
        "ansible_password": machine.accounts[account].password,
    }


if __name__ == "__main__":
    sys.exit(main())
