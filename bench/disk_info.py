# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `disk_info` costs, beside the same answer through `ansible.windows.win_powershell`, on the same simulated host.

Responsible for: worlds of 2, 50 and 400 VMs, one task each through the real ansible-playbook, counting what crosses the
wire, CPU and memory of the whole process tree, and the table in docs/PERFORMANCE.md. Not responsible for: proving that the
answers are right (the tests do).

The simulated host answers PowerShell at once with a canned result of the same size, so that only Ansible's own cost is
compared. Usage: bench/disk_info.py [--write] [--repeat N]; `make bench` fetches ansible.windows first.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import socket
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from playbook_run import playbook_environment  # noqa: E402
from simulator.assumed import import_everything  # noqa: E402
from simulator.door_http import HttpDoors  # noqa: E402
from simulator.door_memory import rules_of  # noqa: E402
from simulator.world import World  # noqa: E402

SIZES = (2, 50, 400)
ANSIBLE_WINDOWS = ROOT / ".build" / "bench" / "collections"
PAGE = ROOT / "docs" / "PERFORMANCE.md"
MARK = "<!-- made by bench/disk_info.py --write -->"
TASKS: dict[str, dict[str, Any]] = {
    "empty task": {"ansible.builtin.debug": {"msg": "nothing"}},
    "disk_info": {"hyperv.passthrough.disk_info": {}},
    "disk_info of one VM": {"hyperv.passthrough.disk_info": {"vms": ["vm0001"]}},
    "win_powershell": {
        "ansible.windows.win_powershell": {
            "script": "Get-VM | ForEach-Object { Get-VMHardDiskDrive -VM $_ }; Get-Disk; Get-VMHost | ConvertTo-Json -Depth 9"
        }
    },
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one ansible-playbook run: what it sent and received, and what its process tree used."""

    requests: int
    queries: int
    bytes_sent: int
    bytes_received: int
    cpu_s: float
    peak_mb: float


class Relay:
    """A TCP relay that counts what passes; the encryption of the messages is none of its business."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self.sent = self.received = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _address = self._server.accept()
            except OSError:
                return
            far = socket.create_connection(self._target)
            threading.Thread(target=self._pump, args=(near, far, "sent"), daemon=True).start()
            threading.Thread(target=self._pump, args=(far, near, "received"), daemon=True).start()

    def _pump(self, source: socket.socket, drain: socket.socket, counter: str) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                setattr(self, counter, getattr(self, counter) + len(data))
                drain.sendall(data)
        for end in (source, drain):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._server.close()


def world_of(count: int) -> str:
    """A host with that many VMs of one virtual hard disk, every fifth with a pass-through LUN too."""
    luns, vms = [], []
    for number in range(1, count + 1):
        name = f"vm{number:04}"
        disks: list[dict[str, Any]] = [{"slot": "scsi 0:0", "vhd": f"D:\\VMs\\{name}\\os.vhdx", "size": "8M"}]
        if number % 5 == 0:
            luns.append({"id": f"lun{number}", "size": "8M", "bus": "iscsi", "serial": f"{number:016x}"})
            disks.append({"slot": "scsi 0:1", "lun": f"lun{number}"})
        vms.append({"name": name, "host": "hv01", "generation": 2, "state": "off", "disks": disks})
    volumes = [{"letter": letter, "size": "4T", "label": label} for letter, label in (("C", "System"), ("D", "VMs"))]
    host = {
        "name": "hv01",
        "address": "127.30.0.1",
        "os": "server2022",
        "volumes": volumes,
        "luns": [lun["id"] for lun in luns],
    }
    return yaml.safe_dump({"name": f"bench{count}", "seed": "bench", "luns": luns, "hosts": [host], "vms": vms})


def measure(task: dict[str, Any], inventory: dict[str, Any], world: World, relay: Relay) -> tuple[Cost, Any]:
    """Run one task with the real ansible-playbook; returns its cost and what it returned."""
    rules = rules_of(world)
    before, sent, received = len(rules.transcript), relay.sent, relay.received
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        (place / "inventory.yml").write_text(yaml.safe_dump(inventory))
        (place / "play.yml").write_text(yaml.safe_dump([{"hosts": "hv01", "gather_facts": False, "tasks": [task]}]))
        (place / "ansible.cfg").write_text("[defaults]\n")
        environment = playbook_environment(place / "record.jsonl") | {
            "ANSIBLE_CONFIG": str(place / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": f"{Path(sys.prefix) / 'collections'}:{ANSIBLE_WINDOWS}",
        }
        program = str(Path(sys.executable).parent / "ansible-playbook")
        with open(place / "output", "wb") as output:
            child = os.posix_spawn(
                program,
                [program, "-i", str(place / "inventory.yml"), str(place / "play.yml")],
                environment,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, output.fileno(), 1),
                    (os.POSIX_SPAWN_DUP2, output.fileno(), 2),
                ],
            )
            _child, status, usage = os.wait4(child, 0)
        if status:
            sys.exit((place / "output").read_text())
        result = json.loads((place / "record.jsonl").read_text().splitlines()[-1])["result"]
    exchanges = list(rules.transcript)[before:]
    cost = Cost(
        requests=len(exchanges),
        queries=sum(str(entry.summary.action).endswith("/Enumerate") for entry in exchanges),
        bytes_sent=relay.sent - sent,
        bytes_received=relay.received - received,
        cpu_s=usage.ru_utime + usage.ru_stime,
        peak_mb=usage.ru_maxrss / 1024,
    )
    return cost, result


def best(costs: list[Cost]) -> Cost:
    """The least disturbed of several runs: counts are the same in all, CPU and memory are the lowest."""
    return dataclasses.replace(
        costs[0], cpu_s=min(cost.cpu_s for cost in costs), peak_mb=min(cost.peak_mb for cost in costs)
    )


def bench(count: int, repeat: int, folder: Path) -> dict[str, Cost]:
    with contextlib.closing(World.from_yaml(world_of(count), folder / f"world{count}")) as world:
        host = world.machine("hv01")
        with HttpDoors([host], folder / f"certificates{count}", name=world.name, port=0, tls_port=0) as doors:
            door = next(door for door in doors.doors if not door.tls)
            relay = Relay(door.address, door.port)
            account = next(iter(host.accounts))
            inventory = {
                "all": {
                    "hosts": {
                        "hv01": {
                            "ansible_connection": "winrm",
                            "ansible_host": "127.0.0.1",
                            "ansible_port": relay.port,
                            "ansible_winrm_scheme": "http",
                            "ansible_winrm_transport": "ntlm",
                            "ansible_user": account,
                            "ansible_password": host.accounts[account].password,
                        }
                    }
                }
            }
            found: dict[str, Cost] = {}
            for name, task in TASKS.items():
                costs = []
                for _round in range(repeat):
                    cost, result = measure(task, inventory, world, relay)
                    costs.append(cost)
                found[name] = best(costs)
                if name == "disk_info":
                    view = {key: result[key] for key in ("host", "luns", "vms")}
                    answer = {"changed": True, "output": [json.dumps(view)], "host_out": "", "host_err": ""}
                    host.powershell_results = [(".*", json.dumps({**answer, "result": {}, "error": []}), 0)]
            relay.close()
            return found


def table(results: dict[int, dict[str, Cost]]) -> str:
    lines = [
        "| VMs | task | enumerations | HTTP requests | sent | received | CPU above an empty task | peak memory above it |",
        "|---:|---|---:|---:|---:|---:|---:|---:|",
    ]
    for count, costs in results.items():
        empty = costs["empty task"]
        for name, cost in costs.items():
            if name != "empty task":
                lines.append(
                    f"| {count} | `{name}` | {cost.queries} | {cost.requests} | {cost.bytes_sent / 1000:.0f} kB "
                    f"| {cost.bytes_received / 1000:.0f} kB | {(cost.cpu_s - empty.cpu_s) * 1000:.0f} ms "
                    f"| {max(0.0, cost.peak_mb - empty.peak_mb):.0f} MB |"
                )
    lines += [
        "",
        "| VMs | CPU, `disk_info` : `win_powershell` | bytes sent, `win_powershell` : `disk_info` |",
        "|---:|---:|---:|",
    ]
    for count, costs in results.items():
        empty, ours, theirs = costs["empty task"], costs["disk_info"], costs["win_powershell"]
        cpu = (ours.cpu_s - empty.cpu_s) / max(0.001, theirs.cpu_s - empty.cpu_s)
        lines.append(f"| {count} | {cpu:.2f} | {theirs.bytes_sent / max(1, ours.bytes_sent):.1f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put the table into docs/PERFORMANCE.md")
    parser.add_argument("--repeat", type=int, default=3)
    chosen = parser.parse_args()
    import_everything()
    with tempfile.TemporaryDirectory() as folder:
        results = {count: bench(count, chosen.repeat, Path(folder)) for count in SIZES}
    text = table(results)
    print(text)
    if chosen.write:
        head = PAGE.read_text().split(MARK)[0]
        PAGE.write_text(f"{head}{MARK}\n\n{text}\n")


if __name__ == "__main__":
    main()
