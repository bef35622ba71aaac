# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `disk_info` costs, beside the same answer through `ansible.windows.win_powershell`, on the same simulated host.

Responsible for: worlds of 2, 50 and 400 VMs, one task each through the real ansible-playbook, counting what crosses the
wire, CPU and memory of the whole process tree, and the table in docs/PERFORMANCE.md with the verdicts on what was
promised. Not responsible for: proving that the answers are right (the tests do).

The simulated host answers PowerShell at once with a canned result that holds what `disk_info` returned, so that only
Ansible's own cost is compared; that both ways returned the same is checked. Usage: bench/disk_info.py [--write]
[--repeat N]; `make bench` fetches ansible.windows first.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import re
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

ANSIBLE_WINDOWS = ROOT / ".build" / "bench" / "collections"
PAGE = ROOT / "docs" / "PERFORMANCE.md"
MARK = "<!-- made by bench/disk_info.py --write -->"
EMPTY, OURS, ONE_VM, THEIRS = "empty task", "disk_info", "disk_info of one VM", "win_powershell"
TASKS: dict[str, dict[str, Any]] = {
    EMPTY: {"ansible.builtin.debug": {"msg": "nothing"}},
    OURS: {"hyperv.passthrough.disk_info": {}},
    ONE_VM: {"hyperv.passthrough.disk_info": {"vms": ["vm0001"]}},
    THEIRS: {
        "ansible.windows.win_powershell": {
            "script": "$Ansible.Result = @{ luns = Get-Disk; vms = Get-VM | % { Get-VMHardDiskDrive -VM $_ }; host = Get-VMHost }"
        }
    },
}
MORE_HOSTS = 4  # what a further host costs is measured by a play over this many more


@dataclasses.dataclass(frozen=True, kw_only=True)
class Size:
    """A world: a host with that many VMs. Running ones tell their name and addresses by key-value pairs."""

    vms: int
    running: bool = False

    def words(self) -> str:
        return f"{self.vms} running" if self.running else str(self.vms)


SIZES = (Size(vms=2), Size(vms=50), Size(vms=400), Size(vms=50, running=True))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one ansible-playbook run: what it sent and received, and what its process tree used."""

    requests: int
    queries: int
    bytes_sent: int
    bytes_received: int
    cpu_s: float
    peak_mb: float
    further_host_s: float = 0.0  # CPU of each host more in the same play
    spread_s: float = 0.0  # between the runs that should have cost the same CPU


class Relay:
    """A TCP relay that counts what passes: bytes, and HTTP requests by their first line, which is never encrypted."""

    _REQUEST = re.compile(rb"POST /\S* HTTP/1\.1\r\n")

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self.sent = self.received = self.requests = 0
        self._counting = threading.Lock()
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
        tail = b""
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                found = len(self._REQUEST.findall(tail + data)) - len(self._REQUEST.findall(tail))
                tail = data[-64:]
                with self._counting:
                    setattr(self, counter, getattr(self, counter) + len(data))
                    self.requests += found if counter == "sent" else 0
                drain.sendall(data)
        for end in (source, drain):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._server.close()


def world_of(size: Size) -> str:
    """A host with that many VMs of one virtual hard disk, every fifth with a pass-through LUN too."""
    luns, vms = [], []
    for number in range(1, size.vms + 1):
        name = f"vm{number:04}"
        disks: list[dict[str, Any]] = [{"slot": "scsi 0:0", "vhd": f"D:\\VMs\\{name}\\os.vhdx", "size": "16M"}]
        if number % 5 == 0:
            luns.append({"id": f"lun{number}", "size": "8M", "bus": "iscsi", "serial": f"{number:016x}"})
            disks.append({"slot": "scsi 0:1", "lun": f"lun{number}"})
        vm = {"name": name, "host": "hv01", "generation": 2, "state": "off", "disks": disks}
        if size.running:
            partition = {"letter": "C", "label": "Windows", "boot": True, "files": {"count": 1, "size": "1M"}}
            guest = {
                "address": f"127.31.{number // 200}.{number % 200 + 1}",
                "domain": "corp.example",
                "disks": [{"slot": "scsi 0:0", "partitions": [partition]}],
            }
            vm |= {"state": "running", "guest": guest}
        vms.append(vm)
    volumes = [{"letter": letter, "size": "4T", "label": label} for letter, label in (("C", "System"), ("D", "VMs"))]
    host = {
        "name": "hv01",
        "address": "127.30.0.1",
        "os": "server2022",
        "volumes": volumes,
        "luns": [lun["id"] for lun in luns],
    }
    return yaml.safe_dump({"name": f"bench{size.vms}", "seed": "bench", "luns": luns, "hosts": [host], "vms": vms})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scene:
    """One simulated host behind a relay, and the inventory by which ansible-playbook finds it (under several names)."""

    world: World
    relay: Relay
    inventory: dict[str, Any]


def measure(task: dict[str, Any], hosts: str, scene: Scene, *, record: bool = False) -> tuple[Cost, dict[str, Any]]:
    """Run one task with the real ansible-playbook; returns its cost and, if recorded, what it returned.

    Recording costs much CPU itself, so that the runs that count do without.
    """
    rules, relay = rules_of(scene.world), scene.relay
    before = max((entry.number for entry in rules.transcript), default=0)
    requests, sent, received = relay.requests, relay.sent, relay.received
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        (place / "inventory.yml").write_text(yaml.safe_dump(scene.inventory))
        (place / "play.yml").write_text(yaml.safe_dump([{"hosts": hosts, "gather_facts": False, "tasks": [task]}]))
        (place / "ansible.cfg").write_text("[defaults]\n")
        environment = playbook_environment(place / "record.jsonl") | {
            "ANSIBLE_CONFIG": str(place / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": f"{Path(sys.prefix) / 'collections'}:{ANSIBLE_WINDOWS}",
        }
        environment["BENCH_WORKER_CLOCK"] = str(place / "worker_clock")
        environment["PYTHONPATH"] = str(ROOT / "bench" / "worker_clock")
        if not record:
            del environment["ANSIBLE_CALLBACKS_ENABLED"]
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
        seconds = [float(line) for line in (place / "worker_clock").read_text().split()]
        result = json.loads((place / "record.jsonl").read_text().splitlines()[-1])["result"] if record else {}
    cost = Cost(
        requests=relay.requests - requests,
        queries=sum(entry.number > before and entry.summary.action == "Enumerate" for entry in rules.transcript),
        bytes_sent=relay.sent - sent,
        bytes_received=relay.received - received,
        cpu_s=sum(seconds),
        peak_mb=usage.ru_maxrss / 1024,
    )
    return cost, result


def best(costs: list[Cost], further: list[Cost]) -> Cost:
    """The least disturbed of several runs: counts are the same in all, CPU and memory are the lowest."""
    least = min(cost.cpu_s for cost in costs)
    return dataclasses.replace(
        costs[0],
        cpu_s=least,
        peak_mb=min(cost.peak_mb for cost in costs),
        spread_s=max(cost.cpu_s for cost in costs) - least,
        further_host_s=(min(cost.cpu_s for cost in further) - least) / MORE_HOSTS,
    )


def view_of(result: dict[str, Any]) -> dict[str, Any]:
    return {key: result[key] for key in ("host", "luns", "vms")}


def check_same(canned: dict[str, Any], theirs: dict[str, Any]) -> None:
    """What win_powershell returned must be what disk_info returned, or the comparison would not be fair."""
    if theirs["result"] != canned:
        sys.exit("win_powershell returned other content than disk_info: the comparison would not be fair")


def bench(size: Size, repeat: int, folder: Path) -> dict[str, Cost]:
    name = f"{size.vms}{'running' if size.running else ''}"
    with contextlib.closing(World.from_yaml(world_of(size), folder / f"world{name}")) as world:
        host = world.machine("hv01")
        with HttpDoors([host], folder / f"certificates{name}", name=world.name, port=0, tls_port=0) as doors:
            door = next(door for door in doors.doors if not door.tls)
            relay = Relay(door.address, door.port)
            account = next(iter(host.accounts))
            variables = {
                "ansible_connection": "winrm",
                "ansible_host": "127.0.0.1",
                "ansible_port": relay.port,
                "ansible_winrm_scheme": "http",
                "ansible_winrm_transport": "ntlm",
                "ansible_user": account,
                "ansible_password": host.accounts[account].password,
            }
            names = ["hv01", *(f"again{number}" for number in range(1, MORE_HOSTS + 1))]
            inventory = {"all": {"hosts": {name: {} for name in names}, "vars": variables}}
            scene = Scene(world=world, relay=relay, inventory=inventory)
            found: dict[str, Cost] = {}
            canned: dict[str, Any] = {}
            for name, task in TASKS.items():
                runs = [measure(task, "hv01", scene)[0] for _round in range(repeat)]
                further = [measure(task, "all", scene)[0] for _round in range(repeat)]
                found[name] = best(runs, further)
                if name in (OURS, THEIRS):
                    result = measure(task, "hv01", scene, record=True)[1]
                if name == OURS:
                    canned = view_of(result)
                    answer = {"changed": True, "output": [], "host_out": "", "host_err": "", "error": []}
                    host.powershell_results = [(".*", json.dumps({**answer, "result": canned}), 0)]
                elif name == THEIRS:
                    check_same(canned, result)
            relay.close()
            return found


def tables(results: dict[Size, dict[str, Cost]]) -> str:
    lines = [
        "| VMs | task | enumerations | HTTP requests | sent | received | CPU above an empty task | CPU of each further "
        "host | peak memory above an empty task |",
        "|---:|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for size, costs in results.items():
        empty = costs[EMPTY]
        for name, cost in costs.items():
            if name != EMPTY:
                lines.append(
                    f"| {size.words()} | `{name}` | {cost.queries} | {cost.requests} | {cost.bytes_sent / 1000:.0f} kB "
                    f"| {cost.bytes_received / 1000:.0f} kB | {(cost.cpu_s - empty.cpu_s) * 1000:.0f} ms "
                    f"| {(cost.further_host_s - empty.further_host_s) * 1000:.0f} ms "
                    f"| {max(0.0, cost.peak_mb - empty.peak_mb):.0f} MB |"
                )
    return "\n".join([*lines, "", *ratios(results), "", *verdicts(results)])


def cpu_ratio(costs: dict[str, Cost], further: bool) -> float:
    """CPU of disk_info by CPU of win_powershell, both above an empty task."""

    def above(name: str) -> float:
        if further:
            return costs[name].further_host_s - costs[EMPTY].further_host_s
        return costs[name].cpu_s - costs[EMPTY].cpu_s

    return above(OURS) / max(0.001, above(THEIRS))


def sent_ratio(costs: dict[str, Cost]) -> float:
    return costs[THEIRS].bytes_sent / max(1, costs[OURS].bytes_sent)


def ratios(results: dict[Size, dict[str, Cost]]) -> list[str]:
    lines = [
        "| VMs | CPU, `disk_info` : `win_powershell`, one host | the same, each further host "
        "| bytes sent, `win_powershell` : `disk_info` |",
        "|---:|---:|---:|---:|",
    ]
    return lines + [
        f"| {size.words()} | {cpu_ratio(costs, False):.2f} | {cpu_ratio(costs, True):.2f} | {sent_ratio(costs):.1f} |"
        for size, costs in results.items()
    ]


def verdicts(results: dict[Size, dict[str, Cost]]) -> list[str]:
    """What was promised, and whether this run kept it."""
    off = {size: costs for size, costs in results.items() if not size.running}
    queries = {costs[OURS].queries for size, costs in off.items() if size.vms > min(one.vms for one in off)}
    kept = {
        "the same number of enumerations for 50 and 400 VMs": len(queries) == 1,
        "peak memory within 60 MB of an empty task": all(
            costs[OURS].peak_mb - costs[EMPTY].peak_mb < 60 for costs in results.values()
        ),
    }
    lines = [f"| {name} | {'kept' if yes else 'not kept'} |" for name, yes in kept.items()]
    for size, costs in results.items():
        words = f"{size.words()} VMs"
        lines += [
            f"| {words}: under half the CPU, one host | {cpu_verdict(costs, False)} |",
            f"| {words}: under half the CPU, each further host | {cpu_verdict(costs, True)} |",
            f"| {words}: under 1/20 of the bytes sent | {'kept' if sent_ratio(costs) > 20 else 'not kept'} |",
        ]
    return ["| promise | this run |", "|---|---|", *lines]


def cpu_verdict(costs: dict[str, Cost], further: bool) -> str:
    """No verdict when equal runs differed by more than what they are compared for."""
    noise = max(costs[name].spread_s for name in (EMPTY, OURS, THEIRS))
    difference = costs[THEIRS].cpu_s - costs[EMPTY].cpu_s
    if noise > difference / 2:
        return f"cannot be told: equal runs differed by {noise * 1000:.0f} ms"
    return "kept" if cpu_ratio(costs, further) < 0.5 else "not kept"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put the tables into docs/PERFORMANCE.md")
    parser.add_argument("--repeat", type=int, default=3)
    chosen = parser.parse_args()
    if not (ANSIBLE_WINDOWS / "ansible_collections" / "ansible" / "windows").is_dir():
        sys.exit(f"ansible.windows is not in {ANSIBLE_WINDOWS}; run `make bench`, which fetches it")
    import_everything()
    results = {}
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            results[size] = bench(size, chosen.repeat, Path(folder))
        print(f"measured: {size.words()} VMs", file=sys.stderr, flush=True)
    text = tables(results)
    print(text)
    if chosen.write:
        head = PAGE.read_text().split(MARK)[0]
        PAGE.write_text(f"{head}{MARK}\n\n{text}\n")


if __name__ == "__main__":
    main()
