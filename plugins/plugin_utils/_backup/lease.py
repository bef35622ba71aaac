# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
r"""Leases in a machine's registry: who may run the backup job of this host, who may change this VM.

Responsible for mutual exclusion between runs on different controllers, with nothing but a registry that can write one
value, list the values of a key and delete one value, and with the machine's own clock. Not responsible for what the
holder does, nor for the machine's own one-job lock (`wsb.py`).

Layout: `HKLM\SOFTWARE\hyperv.passthrough\Leases\<name>`, one string value per contender: its name is the contender's
token, its data JSON {"format": 1, "state": "waiting|held", "expires", "ticket", "owner"}.

Protocol. Each contender writes its own value and then lists the key; it holds the lease only if that list shows no other
live value. Two that write at the same time see each other, so none holds, and the younger withdraws. Why two can never
hold: of two holders one wrote second, and its list came after both writes; it saw the first one's value, unless that was
released or expired. "Expired" is judged by a clock that was read before the list, so an owner that has not renewed until
then can renew only too late; and who renews too late (its own clock, read after the write) has lost the lease and never
uses that token again. So a late delete of an expired value can only hit a value that nobody relies on any more.

Assumption: the machine's clock does not jump backwards by more than the time to live. A forward jump loses leases early,
which is safe.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Generator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any, Protocol

from .._hyperv.registry import RegistryValue
from .engine import Waiting
from .errors import BackupError, LeaseLost

LEASES_KEY = "Leases"  # below the base key of the registry that is passed in
FORMAT = 1
MAX_OWNER_CHARS = 200
MAX_VALUES = 500  # of one lease's key; more means that something else writes there
DEFAULT_TTL_S = 600.0


class LeaseRegistry(Protocol):
    """What a lease needs of `_hyperv.registry.Registry`, based at `set_store.REGISTRY_BASE`."""

    def list_values(self, key: str = "") -> tuple[RegistryValue, ...] | None: ...

    def get_string(self, name: str, key: str = "") -> str | None: ...

    def set_string(self, name: str, value: str, key: str = "") -> None: ...

    def delete_value(self, name: str, key: str = "") -> bool: ...


def host_slot(host_name: str) -> str:
    """Name of the lease for the one backup job that a machine can run (backup-engines 1.8)."""
    return f"Slot {host_name.strip().casefold()}"


def vm_lease(vm_id: str) -> str:
    """Name of the lease for changes to one VM."""
    return f"VM {vm_id.strip().strip('{}').casefold()}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Claim:
    """One contender's place at a lease. Keep it (or its `token`) for the next call."""

    name: str
    token: str
    owner: str
    ticket: str  # when it first asked; the oldest ticket is first in the queue
    expires: datetime | None = None
    state: str = "withdrawn"  # held | waiting | withdrawn
    ahead: tuple[str, ...] = ()  # owners of what stands in the way

    @property
    def is_held(self) -> bool:
        return self.state == "held"

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "token": self.token,
            "owner": self.owner,
            "held": self.is_held,
            "expires": None if self.expires is None else _text_of(self.expires),
            "ahead": list(self.ahead),
        }


# --- the protocol, as steps -----------------------------------------------------------------------------------------
#
# Steps are generators: each `yield` is one request to the machine, the value sent back is its answer. So the driver below
# and the test that walks through every interleaving run the same code.


@dataclasses.dataclass(frozen=True)
class ReadClock:
    pass


@dataclasses.dataclass(frozen=True)
class ListValues:
    pass


@dataclasses.dataclass(frozen=True)
class WriteValue:
    token: str
    text: str


@dataclasses.dataclass(frozen=True)
class DeleteValue:
    token: str


Request = ReadClock | ListValues | WriteValue | DeleteValue
Steps = Generator[Request, Any, Claim]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Entry:
    token: str
    state: str
    expires: datetime
    ticket: str
    owner: str

    @property
    def rank(self) -> tuple[str, str]:
        return (self.ticket, self.token)


def acquire_steps(claim: Claim, ttl: timedelta) -> Steps:
    """Try once. The result is held, waiting (its value stays and keeps its place) or withdrawn (it left no value).

    A withdrawn claim must come back with a fresh token; its ticket keeps its age.
    """
    now = yield ReadClock()
    present = _entries(claim.name, (yield ListValues()))
    for entry in present:
        if entry.expires < now and entry.token != claim.token:
            yield DeleteValue(entry.token)
    rivals = [entry for entry in present if entry.expires >= now and entry.token != claim.token]
    earlier = [entry for entry in rivals if entry.state != "held" and entry.rank < (claim.ticket, claim.token)]
    is_new = claim.state != "waiting"
    lapsed = not is_new and (claim.expires is None or now > claim.expires)
    if earlier or lapsed:
        if not is_new:
            yield DeleteValue(claim.token)
        return _withdrawn(claim, rivals)
    expires = now + ttl
    yield WriteValue(claim.token, _entry_text(claim, "waiting", expires))
    listed = _entries(claim.name, (yield ListValues()))
    after = yield ReadClock()
    valid_until = expires if is_new or claim.expires is None else claim.expires
    if after > valid_until or claim.token not in {entry.token for entry in listed}:
        yield DeleteValue(claim.token)
        return _withdrawn(claim, rivals)
    # `now` was read before the list: whoever is expired by it cannot renew in time any more.
    rivals = [entry for entry in listed if entry.expires >= now and entry.token != claim.token]
    if not rivals:
        held = dataclasses.replace(claim, state="held", expires=expires, ahead=())
        return (yield from _mark_held(held, expires, ttl))
    if any(entry.state != "held" and entry.rank < (claim.ticket, claim.token) for entry in rivals):
        yield DeleteValue(claim.token)
        return _withdrawn(claim, rivals)
    return dataclasses.replace(claim, state="waiting", expires=expires, ahead=_owners(rivals))


def renew_steps(claim: Claim, ttl: timedelta) -> Steps:
    """Prolong a held lease; a result that is not held means that it is lost, and that its value was taken away."""
    now = yield ReadClock()
    listed = _entries(claim.name, (yield ListValues()))
    if claim.expires is None or now > claim.expires or claim.token not in {entry.token for entry in listed}:
        yield DeleteValue(claim.token)
        return _withdrawn(claim, [entry for entry in listed if entry.token != claim.token])
    return (yield from _mark_held(claim, now + ttl, ttl))


def _mark_held(claim: Claim, expires: datetime, ttl: timedelta) -> Steps:
    yield WriteValue(claim.token, _entry_text(claim, "held", expires))
    after = yield ReadClock()
    if claim.expires is None or after > claim.expires:
        # Written after it had expired: somebody may have taken it meanwhile.
        yield DeleteValue(claim.token)
        return _withdrawn(claim, [])
    return dataclasses.replace(claim, state="held", expires=expires, ahead=())


def _withdrawn(claim: Claim, rivals: Sequence[_Entry]) -> Claim:
    return dataclasses.replace(claim, state="withdrawn", expires=None, ahead=_owners(rivals))


def _owners(rivals: Sequence[_Entry]) -> tuple[str, ...]:
    ordered = sorted(rivals, key=lambda entry: (entry.state != "held", entry.rank))
    return tuple(f"{entry.owner} ({entry.state} until {_text_of(entry.expires)})" for entry in ordered)


# --- text of a value ------------------------------------------------------------------------------------------------


def _entry_text(claim: Claim, state: str, expires: datetime) -> str:
    return json.dumps(
        {
            "format": FORMAT,
            "state": state,
            "expires": _text_of(expires),
            "ticket": claim.ticket,
            "owner": claim.owner[:MAX_OWNER_CHARS],
        }
    )


def _entries(name: str, values: Mapping[str, str]) -> list[_Entry]:
    """The contenders of a lease. What cannot be read might be a holder, so it stops us instead of being ignored."""
    if len(values) > MAX_VALUES:
        raise BackupError(
            "lease_unreadable",
            f"The lease {name!r} has {len(values)} values, more than {MAX_VALUES}; look at "
            f"HKLM\\SOFTWARE\\hyperv.passthrough\\{LEASES_KEY}\\{name} and delete what does not belong there.",
        )
    entries = []
    for token, text in values.items():
        try:
            data = json.loads(text)
            if data["format"] != FORMAT:
                raise ValueError("another format")
            entry = _Entry(
                token=token,
                state=str(data["state"]),
                expires=_time_of(data["expires"]),
                ticket=str(data["ticket"]),
                owner=str(data["owner"])[:MAX_OWNER_CHARS],
            )
        except (ValueError, KeyError, TypeError, RecursionError) as err:
            raise BackupError(
                "lease_unreadable",
                f"The value {token!r} of the lease {name!r} was not written by this version of hyperv.passthrough; when no "
                f"other run works there, delete it from HKLM\\SOFTWARE\\hyperv.passthrough\\{LEASES_KEY}\\{name}.",
            ) from err
        entries.append(entry)
    return entries


def _text_of(moment: datetime) -> str:
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _time_of(text: object) -> datetime:
    return datetime.strptime(str(text), "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc)


# --- the driver -----------------------------------------------------------------------------------------------------


class Leases:
    """Leases of one machine.

    Args:
        registry: the machine's registry.
        clock: reads the machine's clock (UTC), never the controller's.
        new_token: makes a fresh token for each try that starts anew.
        ttl_s: for how long a value counts without being renewed.
    """

    def __init__(
        self,
        registry: LeaseRegistry,
        *,
        clock: Callable[[], datetime],
        new_token: Callable[[], str],
        ttl_s: float = DEFAULT_TTL_S,
    ) -> None:
        self._registry = registry
        self._clock = clock
        self._new_token = new_token
        self._ttl = timedelta(seconds=ttl_s)

    def try_acquire(self, name: str, owner: str, previous: Claim | None = None, *, token: str | None = None) -> Claim:
        """One try; pass the previous claim when trying again, it keeps its place in the queue.

        `token` is one that nobody else can come to, for a first try that others have to recognise.
        """
        if previous is None:
            claim = Claim(name=name, token=token or self._new_token(), owner=owner, ticket=_text_of(self._clock()))
        elif previous.state == "waiting":
            claim = previous
        else:
            claim = dataclasses.replace(previous, token=self._new_token(), state="withdrawn", expires=None)
        return self._drive(acquire_steps(claim, self._ttl), name)

    def acquire(self, name: str, owner: str, waiting: Waiting) -> Claim:
        """Wait until the lease is held.

        Raises: `BackupError` of kind `lease_timeout`, naming who holds it, when `waiting.timeout_s` is over.
        """
        began = waiting.now()
        claim = self.try_acquire(name, owner)
        shown: tuple[str, ...] | None = None
        try:
            while not claim.is_held:
                waiting.should_stop()
                holders = tuple(text.split(" until ")[0] + ")" for text in claim.ahead)
                if holders != shown:
                    waiting.progress(f"waiting for {name}: {'; '.join(holders) or 'a moment'}")
                    shown = holders
                if waiting.now() - began >= waiting.timeout_s:
                    raise BackupError(
                        "lease_timeout",
                        f"{name} did not become free within {waiting.timeout_s:.0f} s; it is taken by "
                        f"{'; '.join(claim.ahead) or 'others'}. Wait for that run, or raise the limit.",
                        {"ahead": list(claim.ahead)},
                    )
                waiting.sleep(waiting.poll_s)
                claim = self.try_acquire(name, owner, claim)
        except BaseException:
            self.release(claim)
            raise
        return claim

    def attach(self, name: str, token: str) -> Claim:
        """The held lease of an earlier task, by its token. Raises `LeaseLost` when it is not held any more."""
        now = self._clock()
        for entry in _entries(name, self._values(name)):
            if entry.token == token and entry.state == "held" and entry.expires >= now:
                return Claim(
                    name=name,
                    token=token,
                    owner=entry.owner,
                    ticket=entry.ticket,
                    expires=entry.expires,
                    state="held",
                )
        raise _lost(name, ())

    def renew(self, claim: Claim) -> Claim:
        """Prolong a held lease. Raises `LeaseLost`; then nothing may be changed any more."""
        renewed = self._drive(renew_steps(claim, self._ttl), claim.name)
        if not renewed.is_held:
            raise _lost(claim.name, renewed.ahead)
        return renewed

    def keep(self, claim: Claim) -> Claim:
        """Renew when half of the time is over, else only look whether the lease is still ours."""
        now = self._clock()
        if claim.expires is None or now > claim.expires - self._ttl / 2:
            return self.renew(claim)
        return self.attach(claim.name, claim.token)

    def release(self, claim: Claim) -> None:
        """Give the lease, or the place in its queue, back. Never fails because it is already gone."""
        self._registry.delete_value(claim.token, _key(claim.name))

    def holders(self, name: str) -> tuple[str, ...]:
        """Owners of live values, the holder first; for messages."""
        now = self._clock()
        return _owners([entry for entry in _entries(name, self._values(name)) if entry.expires >= now])

    def _values(self, name: str) -> dict[str, str]:
        """All values of a lease. Reading name by name is enough: what appears after the names were listed sees us."""
        key = _key(name)
        listed = self._registry.list_values(key) or ()
        texts = ((value.name, self._registry.get_string(value.name, key)) for value in listed[: MAX_VALUES + 1])
        return {token: text for token, text in texts if text is not None}

    def _drive(self, steps: Steps, name: str) -> Claim:
        key = _key(name)
        answer: Any = None
        try:
            while True:
                request = steps.send(answer)
                answer = None
                if isinstance(request, ReadClock):
                    answer = self._clock()
                elif isinstance(request, ListValues):
                    answer = self._values(name)
                elif isinstance(request, WriteValue):
                    self._registry.set_string(request.token, request.text, key)
                else:
                    self._registry.delete_value(request.token, key)
        except StopIteration as end:
            result: Claim = end.value
            return result


def _key(name: str) -> str:
    if "\\" in name or not name.strip():
        raise BackupError("bad_option", f"{name!r} cannot be the name of a lease.")
    return f"{LEASES_KEY}\\{name}"


def _lost(name: str, ahead: Sequence[str]) -> LeaseLost:
    who = f" by {'; '.join(ahead)}" if ahead else ""
    return LeaseLost(
        "superseded",
        f"The lease {name!r} is no longer ours, it has expired or was taken over{who}; this run stops and changes nothing "
        "more. Run it again.",
        {"ahead": list(ahead)},
    )
