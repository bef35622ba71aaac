# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""Start, shut down, turn off and save one VM, discard its saved state, and wait for its heartbeat.

A job that ended well, or a guest that took a request to shut down, does not prove a state (hyperv-wmi 6.1, 6.2): after
every request the VM's own state is read until it is as wanted. Turning off a saved VM would throw its memory away, which is
`discard_saved_state` and nothing else.

Not here: settings of a VM (`vm_settings`), its disks (`passthrough`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from .._wsman import CimPath
from .cim_access import CimClient, any_of, int_of, ints_of, query_filtered, text_of
from .errors import HypervError, MethodFailed, NotFound, Precondition
from .host_topology import vm_guid, vm_state
from .jobs import HYPERV_CODES, LOOKS, Hands, act, pause
from .model import COMPONENT_STATES, VM_BUSY, VM_HEALTH, word
from .schema import VIRTUALIZATION

Wanted = Literal["running", "off", "saved", "shut_down"]

# hyperv-wmi 6.1: RequestedState by the state that it leads to
_REQUESTS: Mapping[str, int] = {"running": 2, "off": 3, "saved": 6}
_STABLE = frozenset(["running", "off", "saved", "paused"])
_NOT_POSSIBLE_NOW = 32775  # also the answer when the VM is in that state already (hyperv-wmi 4.2)
_SHUTDOWN_UNDER_WAY = 32782
_SHUTDOWN_CODES: Mapping[int, str] = {
    **HYPERV_CODES,
    32780: "the guest is not ready",
    32781: "the guest is locked",
    32782: "a shutdown is in progress",
}
_HEARTBEAT_GOOD = ("ok", "degraded")
_REASON = "Asked for by the hyperv.passthrough collection"


@dataclass(frozen=True, kw_only=True)
class VmPower:
    """`state` is a word of disk_info; `busy` what Hyper-V is doing with the VM."""

    name: str
    state: str
    health: str | None
    busy: str | None

    @property
    def is_stable(self) -> bool:
        return self.state in _STABLE


@dataclass(frozen=True, kw_only=True)
class PowerChange:
    before: str
    after: str

    @property
    def changed(self) -> bool:
        return self.before != self.after


def vm_path(vm_id: str) -> CimPath:
    return CimPath(
        VIRTUALIZATION, "Msvm_ComputerSystem", {"CreationClassName": "Msvm_ComputerSystem", "Name": vm_id.upper()}
    )


def find_power(client: CimClient, vm_id: str) -> VmPower | None:
    """The VM's state now; None when the host has no such VM."""
    wanted = vm_guid(vm_id)
    rows = query_filtered(client, VIRTUALIZATION, "Msvm_ComputerSystem", any_of("Name", [vm_id]))
    for row in rows:
        if wanted is not None and vm_guid(text_of(row, "Name")) == wanted:
            statuses = ints_of(row, "OperationalStatus")
            return VmPower(
                name=text_of(row, "ElementName"),
                state=vm_state(row),
                health=word(VM_HEALTH, int_of(row, "HealthState")),
                busy=word(VM_BUSY, statuses[1]) if len(statuses) > 1 else None,
            )
    return None


def read_power(client: CimClient, vm_id: str) -> VmPower:
    """Raises: NotFound `unknown_vm`."""
    found = find_power(client, vm_id)
    if found is None:
        raise NotFound(
            "unknown_vm", f"The host has no VM {vm_id} any more; look where it went before anything else is done."
        )
    return found


def read_heartbeat(client: CimClient, vm_id: str) -> str | None:
    """The guest's heartbeat in one word of `COMPONENT_STATES`; None when the VM has none (it does not run)."""
    rows = query_filtered(client, VIRTUALIZATION, "Msvm_HeartbeatComponent", any_of("SystemName", [vm_id.upper()]))
    for row in rows:
        if vm_guid(text_of(row, "SystemName")) == vm_guid(vm_id):
            return word(COMPONENT_STATES, next(iter(ints_of(row, "OperationalStatus")), None))
    return None


def change_power(client: CimClient, vm_id: str, wanted: Wanted, hands: Hands, *, force: bool = False) -> PowerChange:
    """Bring a VM into a state and see it there; nothing happens when it is there.

    Args:
        wanted: `off` turns off at once; `shut_down` asks the guest, which needs integration services.
        force: for `shut_down`: the guest closes applications without asking, and is turned off when it does not follow.

    Raises: Precondition `vm_saved`, `cannot_save`, `shutdown_refused`; HypervError `shutdown_timeout`, `state_timeout`;
        MethodFailed, JobFailed.
    """
    power = _settled(client, vm_id, hands)
    goal = "off" if wanted == "shut_down" else wanted
    if power.state == goal:
        return PowerChange(before=power.state, after=power.state)
    check_possible(power, wanted, force=force)
    if wanted == "shut_down" and power.state == "running":
        _shut_down(client, vm_id, power, hands, force=force)
    else:
        _request(client, vm_id, power, goal, hands)
    return PowerChange(before=power.state, after=goal)


def discard_saved_state(client: CimClient, vm_id: str, hands: Hands) -> bool:
    """Throw away the saved memory of a VM, so that it is off; whether there was any."""
    power = _settled(client, vm_id, hands)
    if power.state != "saved":
        return False
    _request(client, vm_id, power, "off", hands, what=f"Discarding the saved state of VM {power.name}")
    return True


def wait_for_heartbeat(client: CimClient, vm_id: str, hands: Hands) -> str:
    """Wait until the guest's integration services answer; the heartbeat's word, `ok` or `degraded`.

    Raises: HypervError `heartbeat_timeout`; Precondition `vm_not_running`.
    """
    began = hands.now()
    shown: str | None = None
    while True:
        heartbeat = read_heartbeat(client, vm_id)
        if heartbeat in _HEARTBEAT_GOOD:
            return str(heartbeat)
        power = read_power(client, vm_id)
        if power.is_stable and power.state != "running":
            raise Precondition(
                "vm_not_running",
                f"VM {power.name} is {power.state} while its heartbeat was waited for; see the guest's and the host's event "
                f"logs, then start it again.",
            )
        if heartbeat != shown:
            hands.progress(f"VM {power.name} is {power.state}, its heartbeat is {heartbeat or 'not there yet'}")
            shown = heartbeat
        if hands.now() - began >= hands.timeout_s:
            raise HypervError(
                "heartbeat_timeout",
                f"VM {power.name} is {power.state}, but its guest sent no heartbeat within {int(hands.timeout_s)} s (it is "
                f"{heartbeat or 'not there'}). The VM is left as it is: look at its console, and run again when it has "
                f"booted.",
            )
        pause(hands)


# --- Steps ----------------------------------------------------------------------------------------------------------


def check_possible(power: VmPower, wanted: Wanted, *, force: bool) -> None:
    """What can be known before anything is asked. Raises: Precondition, as `change_power`."""
    if power.state == "saved" and wanted in ("off", "shut_down"):
        raise Precondition(
            "vm_saved",
            f"VM {power.name} is saved, and turning it off would throw its memory away; start it to keep that, or set "
            f"discard_saved_state.",
        )
    if power.state == "off" and wanted == "saved":
        raise Precondition("cannot_save", f"VM {power.name} is off and has no memory to save; start it first.")
    if power.state == "paused" and wanted == "shut_down" and not force:
        raise Precondition(
            "shutdown_refused",
            f"VM {power.name} is paused, so that its guest cannot shut down; resume it, or set force.",
        )
    if power.busy and wanted != "running":
        raise Precondition(
            "vm_busy", f"Hyper-V is at work on VM {power.name} ({power.busy}); wait for its end, then run again."
        )


def _settled(client: CimClient, vm_id: str, hands: Hands) -> VmPower:
    """The VM in a state that lasts: one in transition is waited for."""
    return _wait(client, vm_id, hands, lambda power: power.is_stable, wanted="a state that lasts")


def _wait(client: CimClient, vm_id: str, hands: Hands, enough: Callable[[VmPower], bool], *, wanted: str) -> VmPower:
    """Raises: HypervError `state_timeout`."""
    began = hands.now()
    shown = ""
    while True:
        power = read_power(client, vm_id)
        if enough(power):
            return power
        if power.state != shown:
            hands.progress(f"VM {power.name} is {power.state}")
            shown = power.state
        if hands.now() - began >= hands.timeout_s:
            raise HypervError(
                "state_timeout",
                f"VM {power.name} is {power.state} after {int(hands.timeout_s)} s, and {wanted} was waited for; look at it on "
                f"the host, then run again.",
                {"state": power.state},
            )
        pause(hands)


def _request(client: CimClient, vm_id: str, power: VmPower, goal: str, hands: Hands, *, what: str = "") -> None:
    """RequestStateChange, and wait until the VM is in the state.

    A VM that stays in another lasting state although Hyper-V called the request done is told after some looks.
    """
    names = {"running": "Starting", "off": "Turning off", "saved": "Saving"}
    what = what or f"{names[goal]} VM {power.name}"
    hands.progress(what)
    result = act(
        client,
        vm_path(vm_id),
        "RequestStateChange",
        {"RequestedState": _REQUESTS[goal]},
        hands,
        what=what,
        accept=(0, _NOT_POSSIBLE_NOW),
    )
    refused = result is not None and result.return_value == _NOT_POSSIBLE_NOW
    looks = 0

    def reached(now: VmPower) -> bool:
        nonlocal looks
        if now.state == goal:
            return True
        if now.is_stable:
            looks += 1
            if refused:
                raise MethodFailed(
                    "method_failed",
                    f"{what} failed: Hyper-V says that the VM cannot go from {now.state} to {goal} now (code "
                    f"{_NOT_POSSIBLE_NOW}); see the host's event log Microsoft-Windows-Hyper-V-VMMS.",
                    {"code": _NOT_POSSIBLE_NOW, "state": now.state},
                )
            if looks >= LOOKS:
                raise HypervError(
                    "state_timeout",
                    f"{what} was asked for, but the VM is still {now.state}; see the host's event log "
                    f"Microsoft-Windows-Hyper-V-VMMS, then run again.",
                    {"state": now.state},
                )
        return False

    _wait(client, vm_id, hands, reached, wanted=goal)


def _shut_down(client: CimClient, vm_id: str, power: VmPower, hands: Hands, *, force: bool) -> None:
    """Ask the guest and wait; with `force` turn off what does not follow."""
    try:
        _ask_guest(client, vm_id, power, hands, force=force)
        _wait(client, vm_id, hands, lambda now: now.state == "off", wanted="off")
        return
    except Precondition as refusal:
        if not force or refusal.kind != "shutdown_refused":
            raise
        hands.progress(str(refusal))
    except HypervError as error:
        if error.kind != "state_timeout":
            raise
        if not force:
            raise HypervError(
                "shutdown_timeout",
                f"The guest of VM {power.name} was asked to shut down, but the VM is still "
                f"{error.details.get('state')} after {int(hands.timeout_s)} s; look at its console, wait longer, or set "
                f"force to turn it off.",
                error.details,
            ) from error
        hands.progress(str(error))
    now = _settled(client, vm_id, hands)
    if now.state != "off":
        _request(client, vm_id, now, "off", hands)


def _ask_guest(client: CimClient, vm_id: str, power: VmPower, hands: Hands, *, force: bool) -> None:
    """Raises: Precondition `shutdown_refused`."""
    rows = [
        row
        for row in query_filtered(
            client, VIRTUALIZATION, "Msvm_ShutdownComponent", any_of("SystemName", [vm_id.upper()])
        )
        if vm_guid(text_of(row, "SystemName")) == vm_guid(vm_id)
    ]
    if not rows:
        raise Precondition(
            "shutdown_refused",
            f"The guest of VM {power.name} offers no shutdown (integration services are off or do not answer); shut it down "
            f"from inside, or set force to turn it off.",
        )
    keys = ("CreationClassName", "DeviceID", "SystemCreationClassName", "SystemName")
    target = CimPath(VIRTUALIZATION, "Msvm_ShutdownComponent", {name: text_of(rows[0], name) for name in keys})
    what = f"Shutting down the guest of VM {power.name}"
    hands.progress(what)
    try:
        act(
            client,
            target,
            "InitiateShutdown",
            {"Force": force, "Reason": _REASON},
            hands,
            what=what,
            codes=_SHUTDOWN_CODES,
            accept=(0, _SHUTDOWN_UNDER_WAY),
        )
    except MethodFailed as error:
        raise Precondition(
            "shutdown_refused",
            f"The guest of VM {power.name} did not take the request to shut down: {error.details.get('code_name')} (code "
            f"{error.details.get('code')}); look at its console, or set force to turn it off.",
            error.details,
        ) from error
