# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fault rules, the transcript, the administration door and the register of assumptions."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

import simulator
from simulator.admin import AdminDoor
from simulator.assumed import Switches, assumed, import_everything, register, used_in
from simulator.door_http import HttpDoors
from simulator.door_memory import memory_door, rules_of
from simulator.faults import FaultRules, Rule, effects
from unit.simulator.tiny_world import NS, V2, Client, TinyMachine, query

QUERY = query("SELECT * FROM Msvm_ConcreteJob")


@pytest.fixture
def machine() -> TinyMachine:
    made = TinyMachine()
    made.install()
    return made


@pytest.fixture
def rules(machine: TinyMachine) -> FaultRules:
    return rules_of(machine.world)


def outcome(machine: TinyMachine, data: bytes = QUERY) -> str:
    """`ok`, the fault's subcode and code, or why the connection broke."""
    client = Client(machine)
    try:
        if client.send(data).find(".//s:Fault", NS) is None:
            return "ok"
        return " ".join(str(part) for part in client.fault(data))
    except ConnectionError as error:
        return str(error)


def test_a_rule_skips_acts_and_is_spent(machine: TinyMachine, rules: FaultRules) -> None:
    rules.add({"match": {"query": "ConcreteJob"}, "effect": "drop_before", "skip": 1, "count": 2})
    results = [outcome(machine) for _unused in range(5)]
    assert [result == "ok" for result in results] == [True, False, False, True, True]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"effect": "fault", "parameters": {"code": 2150858793}}, "w:TimedOut 2150858793"),
        ({"effect": "fault", "parameters": {"hresult": "0x80041002"}}, "a:DestinationUnreachable 2150858752"),
        ({"effect": "fault", "parameters": {"cim_status": 6, "error_code": 5, "message": "x"}}, "w:InternalError 5"),
        ({"effect": "http", "parameters": {"status": 503}}, "HV01 answered HTTP 503 without a body"),
        ({"effect": "drop_after"}, "the connection was cut after the request was executed"),
    ],
)
def test_an_effect_is_what_the_client_sees(
    machine: TinyMachine, rules: FaultRules, rule: dict[str, Any], expected: str
) -> None:
    rules.add({**rule, "count": 0})
    assert outcome(machine) == expected


def test_garbage_and_truncation_leave_no_xml(machine: TinyMachine, rules: FaultRules) -> None:
    whole = memory_door(machine, "Administrator")(QUERY)
    rules.add({"effect": "truncated"})
    cut = memory_door(machine, "Administrator")(QUERY)
    assert len(cut) == len(whole) // 2
    rules.add({"effect": "garbage"})
    assert memory_door(machine, "Administrator")(QUERY).startswith(b"\x00\xff")


def test_slow_moves_the_simulated_clock(machine: TinyMachine, rules: FaultRules) -> None:
    before = machine.world.clock.utc()
    rules.add({"effect": "slow", "parameters": {"seconds": 90}})
    assert outcome(machine) == "ok"
    assert (machine.world.clock.utc() - before).total_seconds() == 90


@pytest.mark.parametrize(
    "bad", [{"effect": "explode"}, {"match": {"colour": "red"}}, {"nonsense": 1}, {"match": {"query": "("}}]
)
def test_a_rule_that_is_not_understood_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(Exception, match=r"effect|colour|nonsense|parenthesis|unterminated"):
        Rule.from_mapping(bad)


def test_world_effects_are_known_by_name() -> None:
    assert {"reboot", "fail_job", "drop_after", "fault"} <= set(effects())


def test_the_transcript_names_every_exchange_and_keeps_no_body(machine: TinyMachine, rules: FaultRules) -> None:
    outcome(machine)
    rules.add({"effect": "drop_before"})
    outcome(machine)
    entries = [entry.as_json() for entry in rules.transcript]
    assert [(entry["number"], entry["action"], entry["status"], entry["effect"]) for entry in entries] == [
        (1, "Enumerate", 200, ""),
        (2, "Enumerate", 0, "drop_before"),
    ]
    assert entries[0]["query"] == "SELECT * FROM Msvm_ConcreteJob"
    assert not any("body" in entry for entry in entries)


def test_the_administration_door_drives_the_world(machine: TinyMachine, tmp_path: Path) -> None:
    with HttpDoors([machine], tmp_path, port=0, tls_port=0) as doors, AdminDoor(machine.world, doors) as admin:

        def call(path: str, body: dict[str, Any] | None = None) -> Any:
            data = None if body is None else json.dumps(body).encode()
            with urllib.request.urlopen(f"{admin.url}{path}", data, timeout=10) as response:  # noqa: S310
                return json.load(response)

        described = json.dumps(call("/world"))
        assert doors.door("HV01").url in described
        assert "Correct-Horse-9" not in described
        assert call("/fault", {"effect": "drop_before", "match": {"class": "^x$"}}) == {"rules": 1}
        call("/faults/clear", {})
        assert call("/faults") == []
        call("/switch", {"unknown-header": "fault"})
        assert machine.world.assume("unknown-header") == "fault"
        before = machine.world.clock.utc()
        call("/clock", {"advance": 60})
        assert (machine.world.clock.utc() - before).total_seconds() == 60
        outcome(machine)
        assert call("/exchanges") == {"exchanges": 1}
        assert len(call("/transcript?since=0")) == 1
        assert call("/transcript?since=1") == []
        for path, body in (("/nowhere", None), ("/switch", {"no-such": "x"}), ("/fault", {"effect": "explode"})):
            with pytest.raises(urllib.error.HTTPError):
                call(path, body)
        assert call("/unserved") == []


def test_a_restart_forgets_contexts_and_shells(machine: TinyMachine) -> None:
    client = Client(machine)
    context = client.send(query("SELECT * FROM Msvm_ComputerSystem")).findtext(".//n:EnumerationContext", "", NS)
    machine.booted_at = machine.world.clock.utc()
    from unit.simulator.tiny_world import pull

    assert client.fault(pull(context, V2)) == ("n:InvalidEnumerationContext", 2150858779)


def test_an_assumption_is_declared_once_and_a_switch_has_only_its_values() -> None:
    assumed("test-only-colour", "A test.", source="none", values=("red", "blue"))
    switches = Switches({"test-only-colour": "blue"})
    assert (switches["test-only-colour"], Switches()["test-only-colour"]) == ("blue", "red")
    with pytest.raises(ValueError, match="green"):
        switches.choose("test-only-colour", "green")
    with pytest.raises(ValueError, match="twice"):
        assumed("test-only-colour", "Another.", source="none", values=("red", "blue"))
    with pytest.raises(KeyError, match="no assumption"):
        switches["test-only-nothing"]


def test_every_assumption_of_the_doors_is_used_where_it_is_declared() -> None:
    import simulator.door_http
    import simulator.shell  # noqa: F401 - declares its assumptions

    mine = [name for name in register() if not name.startswith("test-only")]
    assert mine
    assert [name for name in mine if not used_in(name)] == []


def test_every_assumption_that_code_asks_for_is_declared() -> None:
    import_everything()
    package = Path(simulator.__file__).parent
    asked = {
        name for path in package.rglob("*.py") for name in re.findall(r'assume\(\s*"([^"]+)"', path.read_text("utf-8"))
    }
    assert asked
    assert asked - set(register()) == set()
