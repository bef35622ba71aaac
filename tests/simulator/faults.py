# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fault rules around each exchange, and the transcript of exchanges.

A rule says what it matches, how many matches it lets pass, how often it acts and what it does. Rules are tried in the
order they were added; the first that acts on an exchange wins. Nothing is random: the same rules and the same
exchanges give the same faults. Bodies are never kept, so the transcript holds no secret.

Effects here: fault, http, drop_before, drop_after, truncated, garbage, slow, close (the connection is dropped after a
complete answer). Effects that change the world (a reboot, a failing job) are functions that other modules register
with `@effect`; they run before or after the exchange as the rule says.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from .cim import CimFault
from .endpoint import Endpoint, Reply, Summary
from .service import Caller

TRANSCRIPT_LENGTH = 100_000
GARBAGE = b"\x00\xff<html>not what was asked for</html>\xfe"

EffectFunction = Callable[[Any, Mapping[str, Any]], None]
_EFFECTS: dict[str, EffectFunction] = {}
BUILT_IN = {"fault", "http", "drop_before", "drop_after", "truncated", "garbage", "slow", "close"}
_MATCHED = {"machine", "action", "namespace", "class", "method", "query", "selectors"}


class Dropped(Exception):
    """The connection is cut. `executed` tells whether the machine had already done what was asked."""

    def __init__(self, message: str, *, executed: bool) -> None:
        super().__init__(message)
        self.executed = executed


def effect(name: str) -> Callable[[EffectFunction], EffectFunction]:
    """Register `f(machine, parameters)` as an effect that rules may name, for example `reboot` or `fail_job`."""

    def register(function: EffectFunction) -> EffectFunction:
        if name in BUILT_IN or name in _EFFECTS:
            raise ValueError(f"two effects are called {name}")
        _EFFECTS[name] = function
        return function

    return register


def effects() -> list[str]:
    """Every effect a rule may name."""
    return sorted(BUILT_IN | set(_EFFECTS))


@effect("reboot")
def _reboot(machine: Any, parameters: Mapping[str, Any]) -> None:
    """`{renumber: true}` gives the disks other numbers; `{machine: name}` restarts another machine of the world."""
    target = machine.world.machine(str(parameters["machine"])) if "machine" in parameters else machine
    target.reboot(renumber=bool(parameters.get("renumber", False)))


@effect("fail_job")
def _fail_job(machine: Any, parameters: Mapping[str, Any]) -> None:
    """The next job fails: `{type, percent, code, text, count}`; type is a JobType, left out: any; code 0: a warning."""
    from .jobs import PlannedFailure

    kind = parameters.get("type")
    machine.jobs.plan_failure(
        PlannedFailure(
            type=None if kind is None else int(kind),
            percent=int(parameters.get("percent", 50)),
            code=int(parameters.get("code", 32768)),
            text=str(parameters.get("text", "The operation failed.")),
            count=int(parameters.get("count", 1)),
        )
    )


@dataclass(kw_only=True)
class Rule:
    """`match` holds regular expressions (searched, letter case ignored) for machine, action, namespace, class, method,
    query and selectors; `skip` matches pass first, then it acts `count` times (0: for ever)."""

    match: Mapping[str, str] = field(default_factory=dict)
    effect: str = "fault"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    skip: int = 0
    count: int = 1
    seen: int = 0
    acted: int = 0

    @classmethod
    def from_mapping(cls, data: Mapping[str, Any]) -> Rule:
        """From YAML or JSON; ValueError names what is not understood."""
        unknown = set(data) - {"match", "effect", "parameters", "skip", "count"}
        match = {str(key): str(value) for key, value in dict(data.get("match", {})).items()}
        unknown |= {f"match.{key}" for key in match if key not in _MATCHED}
        if unknown:
            raise ValueError(f"a fault rule has no {', '.join(sorted(unknown))}")
        for pattern in match.values():
            re.compile(pattern)
        rule = cls(
            match=match,
            effect=str(data.get("effect", "fault")),
            parameters=dict(data.get("parameters", {})),
            skip=int(data.get("skip", 0)),
            count=int(data.get("count", 1)),
        )
        if rule.effect not in effects():
            raise ValueError(f"no effect is called {rule.effect!r}; there are {', '.join(effects())}")
        return rule

    def acts_on(self, summary: Summary) -> bool:
        """Whether the rule acts now; counts the match."""
        values = asdict(summary)
        values["class"] = values.pop("class_name")
        if not all(re.search(pattern, str(values[key]), re.IGNORECASE) for key, pattern in self.match.items()):
            return False
        self.seen += 1
        if self.seen <= self.skip or (self.count and self.acted >= self.count):
            return False
        self.acted += 1
        return True


@dataclass(kw_only=True)
class Entry:
    """One line of the transcript."""

    number: int
    account: str
    summary: Summary
    status: int = 0
    effect: str = ""
    request_bytes: int = 0
    reply_bytes: int = 0

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self.summary), **{k: v for k, v in vars(self).items() if k != "summary"}}


class FaultRules:
    """The rules and the transcript of one world."""

    def __init__(self) -> None:
        self.rules: list[Rule] = []
        self.transcript: deque[Entry] = deque(maxlen=TRANSCRIPT_LENGTH)
        self.exchanges = 0

    def add(self, rule: Rule | Mapping[str, Any]) -> Rule:
        made = rule if isinstance(rule, Rule) else Rule.from_mapping(rule)
        self.rules.append(made)
        return made

    def clear(self) -> None:
        self.rules.clear()

    def around(self, endpoint: Endpoint, who: Caller | None, data: bytes) -> Reply:
        """Run the exchange with whatever rule acts on it."""
        self.exchanges += 1
        summary = endpoint.summary(data)
        entry = Entry(
            number=self.exchanges, account=who.account if who else "", summary=summary, request_bytes=len(data)
        )
        self.transcript.append(entry)
        rule = next((rule for rule in self.rules if rule.acts_on(summary)), None)
        if rule is None:
            reply = endpoint.exchange(who, data)
        else:
            entry.effect = rule.effect
            reply = self._apply(rule, endpoint, who, data)
        entry.status, entry.reply_bytes = reply.status, len(reply.body)
        return reply

    def _apply(self, rule: Rule, endpoint: Endpoint, who: Caller | None, data: bytes) -> Reply:
        parameters = rule.parameters
        if rule.effect in _EFFECTS:
            after = parameters.get("when") == "after"
            if not after:
                _EFFECTS[rule.effect](endpoint.machine, parameters)
            reply = endpoint.exchange(who, data)
            if after:
                _EFFECTS[rule.effect](endpoint.machine, parameters)
            return reply
        if rule.effect == "fault":
            return Reply(status=500, body=endpoint.fault(_fault_of(parameters), data))
        if rule.effect == "http":
            return Reply(status=int(parameters.get("status", 503)), body=b"")
        if rule.effect == "drop_before":
            raise Dropped("the connection was cut before the request was executed", executed=False)
        if rule.effect == "slow":
            endpoint.machine.world.clock.advance(float(parameters.get("seconds", 30)))
        reply = endpoint.exchange(who, data)
        if rule.effect == "drop_after":
            raise Dropped("the connection was cut after the request was executed", executed=True)
        if rule.effect == "truncated":
            return replace(reply, truncated=True)
        if rule.effect == "garbage":
            return replace(reply, body=GARBAGE)
        if rule.effect == "close":
            return replace(reply, close=True)
        return reply


def _fault_of(parameters: Mapping[str, Any]) -> CimFault:
    """`{code, subcode}` a WS-Man fault, `{hresult}` a WMI error, `{cim_status, message}` a provider's own."""
    message = str(parameters.get("message", ""))
    if "hresult" in parameters:
        return CimFault.wmi(int(str(parameters["hresult"]), 0), message)
    if "cim_status" in parameters:
        return CimFault.mi(int(parameters["cim_status"]), message, int(str(parameters.get("error_code", 0)), 0))
    code = int(str(parameters.get("code", 2150858793)), 0)
    default = "w:TimedOut" if code == 2150858793 else "w:InternalError"
    return CimFault.wsman(code, str(parameters.get("subcode", default)), message)
