# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine's WS-Management service without HTTP: bytes in, bytes out, in the same process.

`memory_door(machine, account)` is what fault enumeration and most scenario tests use. Authentication is skipped; the
account's groups still decide what it may do. Fault rules of the world apply, and a dropped connection is a
ConnectionError.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from .assumed import import_everything
from .endpoint import Endpoint, Reply
from .faults import Dropped, FaultRules
from .service import Caller, host_name

_LOCKS: weakref.WeakKeyDictionary[Any, threading.RLock] = weakref.WeakKeyDictionary()
_RULES: weakref.WeakKeyDictionary[Any, FaultRules] = weakref.WeakKeyDictionary()
_ENDPOINTS: weakref.WeakKeyDictionary[Any, Endpoint] = weakref.WeakKeyDictionary()
_GUARD = threading.Lock()


def lock_of(world: Any) -> threading.RLock:
    """The one lock of a world; every exchange of every door holds it."""
    own = getattr(world, "lock", None)
    if own is not None:
        return own  # type: ignore[no-any-return]
    with _GUARD:
        return _LOCKS.setdefault(world, threading.RLock())


def rules_of(world: Any) -> FaultRules:
    """The fault rules and transcript of a world (`world.faults` when the world has such an attribute)."""
    with _GUARD:
        if hasattr(world, "faults"):
            if world.faults is None:
                world.faults = FaultRules()
            return world.faults  # type: ignore[no-any-return]
        if world not in _RULES:
            _RULES[world] = FaultRules()
        return _RULES[world]


def endpoint_of(machine: Any) -> Endpoint:
    """The machine's endpoint, shared by all its doors (enumeration contexts and shells live in it)."""
    with _GUARD:
        if machine not in _ENDPOINTS:
            from .shell import Shells

            import_everything()
            endpoint = Endpoint(machine)
            endpoint.shells = Shells(endpoint)
            _ENDPOINTS[machine] = endpoint
        return _ENDPOINTS[machine]


def caller_of(machine: Any, account: str) -> Caller:
    """The caller that a named account of the machine is; KeyError when the machine has no such account."""
    for name, entry in machine.accounts.items():
        if name.lower() == account.lower():
            return Caller(
                account=name,
                groups=frozenset(entry.groups) if not getattr(entry, "filtered", False) else frozenset(),
                domain=str(getattr(entry, "domain", "") or host_name(machine)),
                remote_enable=frozenset(getattr(entry, "remote_enable", ()) or ()),
            )
    raise KeyError(f"{machine.name} has no account {account}")


@contextmanager
def exclusively(machine: Any) -> Iterator[None]:
    with lock_of(getattr(machine, "world", machine)):
        yield


def exchange(machine: Any, who: Caller | None, data: bytes) -> Reply:
    """One exchange under the world's lock and fault rules; `Dropped` when a rule cuts the connection."""
    endpoint = endpoint_of(machine)
    with exclusively(machine):
        rules = rules_of(getattr(machine, "world", machine))
        reply = rules.around(endpoint, who, data)
        vm = getattr(machine, "vm", None)
        if vm is not None and vm.critical:
            raise Dropped(f"{machine.name} was paused in the middle of the exchange", executed=True)
        return reply


def memory_door(machine: Any, account: str) -> Callable[[bytes], bytes]:
    """A `send(bytes) -> bytes` on behalf of `account`; an unreachable machine or a dropped exchange is ConnectionError."""

    def send(data: bytes) -> bytes:
        if not getattr(machine, "answers", True):
            getattr(machine, "knock", lambda: None)()
            raise ConnectionError(f"{machine.name} does not answer: it is not running")
        try:
            reply = exchange(machine, caller_of(machine, account), data)
        except Dropped as dropped:
            raise ConnectionError(str(dropped)) from None
        if not reply.body:
            raise ConnectionError(f"{machine.name} answered HTTP {reply.status} without a body")
        return reply.body[: len(reply.body) // 2] if reply.truncated else reply.body

    return send
