# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this file is private to the hyperv.passthrough collection and may change without notice.
"""Who may change a VM now: the guard that every mutating task asks before it acts and while it waits.

Responsible for: taking, passing on, renewing and giving back the leases of one run, and noticing that its
ansible-playbook is gone. Not responsible for: the lease itself (`_backup/lease.py`).

A run holds up to two leases in the Hyper-V host's registry: that of the VM, and the host's backup slot. Tasks are separate
processes, so the leases travel between them as one text that means nothing to anybody else.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import typing as t
import uuid

from ._backup.errors import BackupError, LeaseLost
from ._backup.lease import Claim, Leases, host_slot, vm_lease
from ._backup.set_store import REGISTRY_BASE
from ._hyperv import Registry, utc_now
from ._task import TaskError

if t.TYPE_CHECKING:
    from collections.abc import Sequence

    from ._backup.engine import Waiting
    from ._task import Run
    from ._wsman import WsmanClient

#: A lease that is not renewed for this long is free for others; renewed by every poll, and by every task that starts.
TTL_S = 300.0
_BETWEEN, _IS = ";", "="


class Guard:
    """The leases of one run on one Hyper-V host.

    Args:
        client: of the Hyper-V host, whose registry and clock the leases use.
    """

    def __init__(self, run: Run, client: WsmanClient) -> None:
        self._run = run
        self._claims: list[Claim] = []
        self._leases = Leases(
            Registry(client, REGISTRY_BASE),
            clock=lambda: utc_now(client),
            new_token=run.new_id,
            ttl_s=TTL_S,
        )

    @property
    def lease(self) -> str | None:
        """The text that later tasks attach with."""
        return _BETWEEN.join(f"{claim.name}{_IS}{claim.token}" for claim in self._claims) or None

    def attach(self, lease: str) -> Guard:
        """Take over the leases of an earlier task of this run.

        One that ran out while nobody else wanted it (a hook can take long) is taken anew, so that `lease` is another text
        afterwards. The host's slot is not worth a failure: without it others may come in between, which `max_skew` judges.

        Raises: TaskError (bad_lease, superseded).
        """
        for part in lease.split(_BETWEEN):
            name, found, token = part.partition(_IS)
            if not found:
                raise TaskError(
                    "bad_lease", "lease is not what backup_set returned; pass its return value lease on as it is"
                )
            claim = self._attached(name, token)
            if claim.is_held:
                self._claims.append(claim)
                continue
            self._leases.release(claim)
            if name.startswith(host_slot("")):
                self._run.progress(
                    f"the backup slot of the host went to another run ({listed(claim.ahead)}); going on without"
                )
                continue
            raise TaskError(
                "superseded",
                f"another run works on this VM now ({listed(claim.ahead) or name}), so that this one stops and changes nothing "
                "more; wait for the other run, then run again",
            )
        return self

    def _attached(self, name: str, token: str) -> Claim:
        """The lease of that token, or the one that an earlier task of this run took anew in its place, or a fresh try.

        The token of a lease that is taken anew follows from the one that was lost, so that a later task that still has the
        old text finds it, instead of taking its own run for another one.
        """
        anew = _successor(token)
        for known in (token, anew):
            with contextlib.suppress(LeaseLost):
                return self._leases.attach(name, known)
        return self._leases.try_acquire(name, self._owner(), token=anew)

    def take_vm(self, vm_id: str, waiting: Waiting) -> Guard:
        """Take the VM's lease. One that nobody renews any more is waited out; a living one is refused at once.

        Raises: TaskError (vm_in_use).
        """
        name = vm_lease(vm_id)
        if self._holds(name):
            return self
        claim = self._leases.try_acquire(name, self._owner())
        first = claim.ahead
        began = waiting.now()
        try:
            while not claim.is_held:
                waiting.should_stop()
                if (claim.ahead and claim.ahead != first) or waiting.now() - began > 2 * TTL_S:
                    raise TaskError(
                        "vm_in_use",
                        f"another run works on this VM ({listed(claim.ahead)}) and is alive; wait for its end, then run "
                        "again",
                    )
                waiting.progress(
                    f"an earlier run may still work on this VM ({listed(claim.ahead)}); waiting for its lease"
                )
                waiting.sleep(waiting.poll_s)
                claim = self._leases.try_acquire(name, self._owner(), claim)
        except BaseException:
            self._leases.release(claim)
            raise
        self._claims.append(claim)
        return self

    def holders(self, vm_id: str) -> tuple[str, ...]:
        """Who holds or waits for the VM's lease now, for a task that takes none."""
        return self._leases.holders(vm_lease(vm_id))

    def take_slot(self, host_name: str, waiting: Waiting) -> Guard:
        """Wait for the host's backup slot; the leases already held are renewed meanwhile.

        Raises: BackupError (lease_timeout).
        """
        claim = self._leases.acquire(host_slot(host_name), self._owner(), waiting)
        self._claims.append(claim)  # not in one line: waiting may renew, which makes another list of the claims
        return self

    def take_place(self, host_name: str, engine: str, places: int, waiting: Waiting) -> Guard:
        """Wait for one of so many places of an engine that works on several VMs of a host at once; as `take_slot` else.

        Whoever finds all of them taken tries each again in turn; nobody queues for one while another gets free.

        Raises: BackupError (lease_timeout).
        """
        names = [f"{host_slot(host_name)} {engine} {number}" for number in range(1, places + 1)]
        began, told = waiting.now(), False
        while True:
            waiting.should_stop()
            for name in names:
                claim = self._leases.try_acquire(name, self._owner())
                if claim.is_held:
                    self._claims.append(claim)
                    return self
                self._leases.release(claim)
            if not told:
                waiting.progress(
                    f"{host_name} works on {places} VM(s) at once with the engine {engine}; waiting for one to end"
                )
                told = True
            if waiting.now() - began >= waiting.timeout_s:
                raise BackupError(
                    "lease_timeout",
                    f"{host_name} works on {places} VM(s) at once with the engine {engine}, and none of them ended within "
                    f"{waiting.timeout_s:.0f} s; raise queue_timeout, or allow more at once.",
                )
            waiting.sleep(waiting.poll_s)

    def check(self) -> None:
        """Raise unless this run may still change something; renews what it holds.

        Raises: TaskError (orphaned), LeaseLost (superseded).
        """
        if self._run.is_orphan():
            self.release()
            raise TaskError(
                "orphaned",
                "the ansible-playbook that started this task is gone, so that nothing more is changed; what was started goes "
                "on, and running the playbook again attaches to it",
            )
        self._claims = [self._leases.keep(claim) for claim in self._claims]

    def release(self) -> None:
        """Give everything back."""
        for claim in reversed(self._claims):
            self._leases.release(claim)
        self._claims = []

    def _holds(self, name: str) -> bool:
        return any(claim.name == name for claim in self._claims)

    def _owner(self) -> str:
        return f"{os.uname().nodename} process {os.getppid()}"


def _successor(token: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, token)).upper()


class NoGuard:
    """For a task that was given no lease: only the dead controller is noticed."""

    lease: str | None = None

    def __init__(self, run: Run) -> None:
        self._run = run

    def check(self) -> None:
        if self._run.is_orphan():
            raise TaskError("orphaned", "the ansible-playbook that started this task is gone; nothing more is changed")


def waiting_of(
    run: Run, *, timeout_s: float, poll_s: float, should_stop: t.Callable[[], None] | None = None
) -> Waiting:
    """The hands that wait for this task: it sleeps, shows progress, and asks the guard before every look."""
    from ._backup.engine import Waiting as Hands

    return Hands(
        sleep=run.sleep,
        now=run.now,
        progress=run.progress,
        should_stop=should_stop or (lambda: None),
        poll_s=poll_s,
        timeout_s=timeout_s,
    )


def with_timeout(waiting: Waiting, timeout_s: float) -> Waiting:
    return dataclasses.replace(waiting, timeout_s=max(0.0, timeout_s))


def strategy_of(task: t.Any) -> str:
    """Name of the strategy of the play a task belongs to, without its collection; '' when core does not tell."""
    node = task
    while node is not None:
        play = getattr(node, "_play", None)
        if play is not None:
            return str(play.strategy).rsplit(".", 1)[-1]
        node = getattr(node, "_parent", None)
    return ""


def listed(texts: Sequence[str]) -> str:
    return "; ".join(texts)
