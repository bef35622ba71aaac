# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Leases: every interleaving of contenders' requests, with crashes and expiry at any point; then the driver."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone

import pytest

from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.engine import Waiting
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.errors import BackupError, LeaseLost
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.lease import (
    Claim,
    DeleteValue,
    Leases,
    ListValues,
    ReadClock,
    WriteValue,
    acquire_steps,
    host_slot,
    renew_steps,
    vm_lease,
)
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.registry import RegistryValue

START = datetime(2026, 6, 30, 19, 0, tzinfo=timezone.utc)
TTL = timedelta(seconds=100)


# --- all interleavings ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Contender:
    """A contender between two requests: which steps it is in, what it has been answered so far, what it believes."""

    name: str
    claim: Claim
    phase: str  # acquire | renew | stopped
    answers: tuple = ()
    tries: int = 1
    renewals: int = 1


@dataclass(frozen=True)
class World:
    now: datetime
    values: frozenset
    contenders: tuple
    ticks: int
    crashes: int


def advance(contender, acquire):
    """Replay the answers; the next request, or the claim when the steps are over."""
    return _advance(contender.claim, contender.phase, contender.answers, acquire)


@functools.cache
def _advance(claim, phase, answers, acquire):
    steps = (acquire if phase == "acquire" else renew_steps)(claim, TTL)
    try:
        request = next(steps)
        for answer in answers:
            request = steps.send(dict(answer) if isinstance(answer, frozenset) else answer)
    except StopIteration as end:
        return None, end.value
    return request, None


def settle(contender, acquire):
    """Move on when the steps are over: renew what is held, try again what is not, each a limited number of times."""
    request, claim = advance(contender, acquire)
    if request is not None:
        return contender
    if claim.is_held and contender.renewals:
        return replace(contender, claim=claim, phase="renew", answers=(), renewals=contender.renewals - 1)
    if not claim.is_held and contender.phase == "acquire" and contender.tries:
        token = claim.token if claim.state == "waiting" else f"{claim.token}'"
        again = replace(claim, token=token)
        return replace(contender, claim=again, phase="acquire", answers=(), tries=contender.tries - 1)
    return replace(contender, claim=claim, phase="stopped", answers=())


def believes(contender, now):
    """Held, from its own point of view: it looks at the machine's clock before it acts."""
    claim = contender.claim
    return claim.is_held and claim.expires is not None and now <= claim.expires


def successors(world, acquire):
    for index, contender in enumerate(world.contenders):
        if contender.phase == "stopped":
            continue
        request, _claim = advance(contender, acquire)
        values = dict(world.values)
        answer = None
        if isinstance(request, ReadClock):
            answer = world.now
        elif isinstance(request, ListValues):
            answer = world.values
        elif isinstance(request, WriteValue):
            values[request.token] = request.text
        else:
            assert isinstance(request, DeleteValue)
            values.pop(request.token, None)
        moved = settle(replace(contender, answers=(*contender.answers, answer)), acquire)
        yield put(world, index, moved, values)
        if world.crashes:
            dead = replace(contender, phase="stopped", claim=replace(contender.claim, state="withdrawn"))
            yield replace(put(world, index, dead, dict(world.values)), crashes=world.crashes - 1)
    if world.ticks:
        yield replace(world, now=world.now + TTL + timedelta(seconds=1), ticks=world.ticks - 1)


def put(world, index, contender, values):
    contenders = (*world.contenders[:index], contender, *world.contenders[index + 1 :])
    return replace(world, contenders=contenders, values=frozenset(values.items()))


def explore(world, acquire=acquire_steps):
    """Walk through every reachable state; returns how many there were and in how many somebody held the lease."""
    seen = {world}
    todo = [world]
    held = 0
    while todo:
        here = todo.pop()
        holders = [contender.name for contender in here.contenders if believes(contender, here.now)]
        assert len(holders) <= 1, f"{holders} hold at once"
        held += bool(holders)
        for after in successors(here, acquire):
            if after not in seen:
                seen.add(after)
                todo.append(after)
    return len(seen), held


def contenders(count, *, tries, renewals):
    return tuple(
        Contender(
            name,
            Claim(name="VM x", token=name, owner=name, ticket=f"2026-06-30T19:00:0{index}.000000Z"),
            "acquire",
            tries=tries,
            renewals=renewals,
        )
        for index, name in enumerate("abc"[:count])
    )


@pytest.mark.parametrize(
    ("count", "tries", "renewals", "ticks", "crashes"),
    [
        pytest.param(2, 1, 1, 1, 1, id="two contenders, each tries twice and renews, one expiry, one crash"),
        pytest.param(2, 0, 1, 2, 0, id="two contenders, two expiries"),
        pytest.param(3, 0, 0, 0, 0, id="three contenders"),
        pytest.param(3, 0, 0, 1, 0, id="three contenders, one expiry"),
    ],
)
def test_no_interleaving_lets_two_contenders_hold_a_lease(count, tries, renewals, ticks, crashes):
    start = World(START, frozenset(), contenders(count, tries=tries, renewals=renewals), ticks, crashes)
    states, held = explore(start)
    assert states > 1000
    assert held > 100


def test_the_walk_finds_the_mistake_when_a_contender_does_not_look_again():
    """The proof is worth something only if it can fail: a contender that holds without looking is caught."""

    def careless(claim, ttl):
        now = yield ReadClock()
        yield WriteValue(claim.token, "{}")
        return replace(claim, state="held", expires=now + ttl)

    with pytest.raises(AssertionError, match="hold at once"):
        explore(World(START, frozenset(), contenders(2, tries=0, renewals=0), 0, 0), careless)


# --- the driver -----------------------------------------------------------------------------------------------------


class Machine:
    """A registry and a clock in memory."""

    def __init__(self):
        self.now = START
        self.keys = {}
        self.tokens = 0

    def list_values(self, key=""):
        return tuple(RegistryValue(name=name, type="REG_SZ") for name in self.keys[key]) if key in self.keys else None

    def get_string(self, name, key=""):
        return self.keys.get(key, {}).get(name)

    def set_string(self, name, value, key=""):
        self.keys.setdefault(key, {})[name] = value

    def delete_value(self, name, key=""):
        return self.keys.get(key, {}).pop(name, None) is not None

    def clock(self):
        self.now += timedelta(milliseconds=1)
        return self.now

    def seconds(self):
        return self.now.timestamp()

    def new_token(self):
        self.tokens += 1
        return f"token-{self.tokens}"

    def leases(self):
        return Leases(self, clock=self.clock, new_token=self.new_token, ttl_s=100)

    def later(self, seconds):
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def machine():
    return Machine()


def test_a_free_lease_is_held_at_the_first_try_and_free_again_after_release(machine):
    leases = machine.leases()
    claim = leases.try_acquire("VM x", "run 1")
    assert claim.is_held
    waiting = leases.try_acquire("VM x", "run 2")
    assert waiting.state == "waiting"
    leases.release(waiting)
    leases.release(claim)
    assert leases.try_acquire("VM x", "run 3").is_held


def test_a_waiting_contender_gets_the_lease_before_a_younger_one(machine):
    leases = machine.leases()
    first = leases.try_acquire("Slot h", "first")
    second = leases.try_acquire("Slot h", "second")
    third = leases.try_acquire("Slot h", "third")
    assert (second.state, third.state) == ("waiting", "withdrawn")
    leases.release(first)
    third = leases.try_acquire("Slot h", "third", third)
    assert not third.is_held
    assert leases.try_acquire("Slot h", "second", second).is_held


def test_a_holder_that_stopped_renewing_is_followed_after_its_time_and_learns_that_it_was_superseded(machine):
    leases = machine.leases()
    claim = leases.try_acquire("VM x", "dead run")
    machine.later(101)
    successor = leases.try_acquire("VM x", "new run")
    assert successor.is_held
    for call in (leases.renew, leases.keep, lambda lost: leases.attach(lost.name, lost.token)):
        with pytest.raises(LeaseLost) as caught:
            call(claim)
        assert caught.value.kind == "superseded"
    assert leases.attach("VM x", successor.token).is_held


def test_a_late_renewal_never_brings_a_lease_back_even_when_nobody_took_it(machine):
    leases = machine.leases()
    claim = leases.try_acquire("VM x", "slow run")
    machine.later(101)
    with pytest.raises(LeaseLost):
        leases.renew(claim)
    assert machine.keys["Leases\\VM x"] == {}


def test_a_holder_whose_value_an_operator_deleted_has_lost_the_lease(machine):
    leases = machine.leases()
    claim = leases.try_acquire("VM x", "run")
    machine.keys["Leases\\VM x"].clear()
    with pytest.raises(LeaseLost):
        leases.renew(claim)


def test_keep_writes_only_when_half_of_the_time_is_over(machine):
    leases = machine.leases()
    claim = leases.try_acquire("VM x", "run")
    before = dict(machine.keys["Leases\\VM x"])
    machine.later(10)
    claim = leases.keep(claim)
    assert machine.keys["Leases\\VM x"] == before
    machine.later(50)
    assert leases.keep(claim).expires > claim.expires


def test_a_held_lease_is_found_again_by_its_token_in_another_process(machine):
    claim = machine.leases().try_acquire("VM x", "run")
    again = machine.leases().attach("VM x", claim.token)
    assert (again.token, again.expires, again.owner) == (claim.token, claim.expires, "run")


def test_a_token_that_is_only_waiting_is_not_a_held_lease(machine):
    leases = machine.leases()
    leases.try_acquire("VM x", "run 1")
    waiting = leases.try_acquire("VM x", "run 2")
    with pytest.raises(LeaseLost):
        leases.attach("VM x", waiting.token)


def test_waiting_ends_with_the_names_of_those_who_hold_it_and_leaves_no_value_behind(machine):
    leases = machine.leases()
    holder = leases.try_acquire("Slot h", "VM alpha of run 7")
    lines = []

    def sleep(seconds):
        nonlocal holder
        machine.later(seconds)
        holder = leases.keep(holder)

    waiting = Waiting(sleep=sleep, now=machine.seconds, progress=lines.append, poll_s=10, timeout_s=300)
    with pytest.raises(BackupError, match="VM alpha of run 7") as caught:
        leases.acquire("Slot h", "VM beta", waiting)
    assert caught.value.kind == "lease_timeout"
    assert list(machine.keys["Leases\\Slot h"]) == [holder.token]
    assert lines == ["waiting for Slot h: VM alpha of run 7 (held)"]


def test_a_wait_that_is_stopped_leaves_no_value_behind(machine):
    leases = machine.leases()
    holder = leases.try_acquire("Slot h", "alpha")

    def stop():
        raise LeaseLost("superseded", "the controller died")

    waiting = Waiting(sleep=machine.later, now=lambda: 0.0, should_stop=stop)
    with pytest.raises(LeaseLost):
        leases.acquire("Slot h", "beta", waiting)
    assert list(machine.keys["Leases\\Slot h"]) == [holder.token]


@pytest.mark.parametrize("text", ["", "no json", "[]", '{"format": 2}', json.dumps({"format": 1, "expires": "soon"})])
def test_a_value_that_cannot_be_read_stops_the_run_and_is_named(machine, text):
    machine.set_string("somebody", text, "Leases\\VM x")
    with pytest.raises(BackupError, match="somebody") as caught:
        machine.leases().try_acquire("VM x", "run")
    assert caught.value.kind == "lease_unreadable"
    assert machine.get_string("somebody", "Leases\\VM x") == text


def test_names_of_leases_ignore_case_and_braces():
    assert vm_lease("{285CEA9B-0000-0000-0000-000000000001}") == vm_lease("285cea9b-0000-0000-0000-000000000001")
    assert host_slot("HV01") == host_slot("hv01")
    with pytest.raises(BackupError):
        Machine().leases().try_acquire("a\\b", "run")
