# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The administration door of a running world: JSON over HTTP on a loopback port of its own.

    GET  /world /switches /faults /transcript?since=N /exchanges /check /digests /bugs /unserved /dump
    POST /fault {match, effect, parameters, skip, count}      POST /faults/clear
    POST /reboot {machine, renumber}                          POST /clock {advance: seconds}
    POST /switch {identifier: value}                          POST /connections/drop
    POST /winrm {machine, basic, allow_unencrypted, ...}
    GET  /mishaps                                             POST /mishap {name, ...} (mishaps.py)
    GET  /drifted                                             GET /written (bytes per LUN since POST /mark)

It drives the simulator and reports on it; no simulated Windows has such a door. It never gives a password or a body.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from .assumed import register
from .door_http import HttpDoors
from .door_memory import endpoint_of, lock_of, rules_of
from .endpoint import WinRmSettings
from .mishaps import mishap, mishap_texts

MAX_BODY = 1 << 20


class Admin:
    """What the door does, without HTTP: `call(method, path, query, body)` gives (status, JSON value)."""

    def __init__(self, world: Any, doors: HttpDoors) -> None:
        self._world = world
        self._doors = doors
        self._rules = rules_of(world)
        self._mark: dict[str, tuple[int, int]] = {}
        self._gets: dict[str, Callable[[Mapping[str, str]], Any]] = {
            "/world": lambda query: self.describe(),
            "/switches": lambda query: self._switches(),
            "/faults": lambda query: [vars(rule) for rule in self._rules.rules],
            "/transcript": lambda query: self._transcript(int(query.get("since", "0"))),
            "/exchanges": lambda query: {"exchanges": self._rules.exchanges},
            "/check": lambda query: {"findings": list(world.check())},
            "/digests": lambda query: world.digests(),
            "/shadows": lambda query: world.shadow_state(),
            "/leftovers": lambda query: {"leftovers": world.leftovers()},
            "/bugs": lambda query: self._doors.bugs,
            "/unserved": lambda query: self._unserved(),
            "/mishaps": lambda query: mishap_texts(),
            "/drifted": lambda query: [list(entry) for entry in world.drifted()],
            "/written": lambda query: world.written_since(self._mark),
            "/dump": lambda query: {**self.describe(), "digests": world.digests(), "findings": list(world.check())},
        }
        self._posts: dict[str, Callable[[Mapping[str, Any]], Any]] = {
            "/fault": self._add_fault,
            "/faults/clear": lambda body: self._rules.clear(),
            "/reboot": self._reboot,
            "/clock": self._clock,
            "/switch": self._choose,
            "/winrm": self._winrm,
            "/mark": self._set_mark,
            "/mishap": self._mishap,
            "/connections/drop": lambda body: self._doors.drop_connections(),
        }

    def call(self, method: str, path: str, query: Mapping[str, str], body: Mapping[str, Any]) -> tuple[int, Any]:
        """One request under the world's lock; a bad one is 400 with a sentence."""
        table: Mapping[str, Callable[[Any], Any]] = self._gets if method == "GET" else self._posts
        action = table.get(path)
        if action is None:
            return 404, {"error": f"no {method} {path}; there are {', '.join([*self._gets, *self._posts])}"}
        with lock_of(self._world):
            try:
                return 200, action(query if method == "GET" else body)
            except (ValueError, KeyError, TypeError) as error:
                return 400, {"error": str(error)}

    def describe(self) -> dict[str, Any]:
        """Machines and where they listen, VMs and their state; no secrets."""
        machines = [
            {
                "name": machine.name,
                "kind": getattr(machine, "kind", ""),
                "addresses": list(machine.addresses),
                "accounts": sorted(machine.accounts),
                "answers": bool(getattr(machine, "answers", True)),
                "doors": [door.url for door in self._doors.doors if door.machine == machine.name],
                "vms": [
                    {"name": vm.name, "id": vm.id, "state": getattr(vm, "state", None)}
                    for vm in getattr(machine, "vms", ())
                ],
            }
            for machine in self._world.machines
        ]
        return {
            "name": getattr(self._world, "name", "world"),
            "time": self._world.clock.utc().isoformat(),
            "ca_file": str(self._doors.ca_file),
            "machines": machines,
        }

    def _switches(self) -> list[dict[str, Any]]:
        return [
            {"id": entry.identifier, "text": entry.text, "values": entry.values, "value": self._world.assume(name)}
            for name, entry in register().items()
        ]

    def _transcript(self, since: int) -> list[dict[str, Any]]:
        return [entry.as_json() for entry in self._rules.transcript if entry.number > since]

    def _unserved(self) -> list[str]:
        found = {
            f"{ns}:{name}" for machine in self._world.machines for ns, name in endpoint_of(machine).service.unserved
        }
        return sorted(found)

    def _add_fault(self, body: Mapping[str, Any]) -> dict[str, int]:
        self._rules.add(body)
        return {"rules": len(self._rules.rules)}

    def _reboot(self, body: Mapping[str, Any]) -> None:
        self._world.machine(str(body["machine"])).reboot(renumber=bool(body.get("renumber", False)))

    def _winrm(self, body: Mapping[str, Any]) -> None:
        """`{machine, basic: true, ...}`: WinRM settings of a machine; new connections follow them."""
        machine = self._world.machine(str(body["machine"]))
        machine.winrm = replace(WinRmSettings.of(machine), **{k: v for k, v in body.items() if k != "machine"})

    def _mishap(self, body: Mapping[str, Any]) -> dict[str, Any]:
        arguments = {key: value for key, value in body.items() if key != "name"}
        return {"result": mishap(self._world, str(body["name"]), **arguments)}

    def _set_mark(self, body: Mapping[str, Any]) -> None:
        self._mark = self._world.mark()

    def _clock(self, body: Mapping[str, Any]) -> dict[str, str]:
        self._world.clock.advance(float(body["advance"]))
        return {"time": self._world.clock.utc().isoformat()}

    def _choose(self, body: Mapping[str, Any]) -> None:
        for identifier, value in body.items():
            if identifier not in register():
                raise ValueError(f"no assumption is called {identifier}")
            self._world.switches.choose(identifier, str(value))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Quiet."""

    def do_GET(self) -> None:
        self._run("GET", {})

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "0")
        if not length.isdigit() or int(length) > MAX_BODY:
            self._reply(413, {"error": "the body is too long"})
            return
        data = self.rfile.read(int(length))
        try:
            body = json.loads(data) if data else {}
        except ValueError as error:
            self._reply(400, {"error": f"no JSON: {error}"})
            return
        if not isinstance(body, dict):
            self._reply(400, {"error": "a JSON object is needed"})
            return
        self._run("POST", body)

    def _run(self, method: str, body: Mapping[str, Any]) -> None:
        parts = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        self._reply(*self.server.admin.call(method, parts.path, query, body))

    def _reply(self, status: int, value: Any) -> None:
        body = json.dumps(value, default=str, indent=1).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], admin: Admin) -> None:
        self.admin = admin
        super().__init__(address, _Handler)


class AdminDoor:
    """`Admin` behind HTTP on 127.0.0.1; port 0 chooses a free one."""

    def __init__(self, world: Any, doors: HttpDoors, port: int = 0) -> None:
        self.admin = Admin(world, doors)
        self._server = _Server(("127.0.0.1", port), self.admin)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> AdminDoor:
        self._thread.start()
        return self

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)

    def __enter__(self) -> AdminDoor:
        return self.start()

    def __exit__(self, *_unused: object) -> None:
        self.stop()
