# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Responsible for what happens to virtual machines over time: starting, stopping, saving, guests that obey or do not.

Not responsible for the WMI methods that ask for it (hyperv_systems.py). Facts: hyperv-wmi 1.2, 6.1, 6.2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .assumed import assumed
from .file_system import ERROR_SHARING_VIOLATION, FileSystemError
from .jobs import JobFailed
from .vhd import ImageError
from .virtual_machine import OFF, OTHER, PAUSED, RESET, RUNNING, SAVED, STARTING, STOPPING, Vm

if TYPE_CHECKING:
    from .world import World

assumed(
    "start-missing-disk",
    "Starting a VM whose pass-through disk is missing fails with ErrorCode 32768 and leaves it off",
    source="facts backup-engines 1.12, hyperv-wmi 3.6",
)
assumed(
    "start-online-disk",
    "Starting a VM whose pass-through disk is online on the host is refused",
    source="facts windows-storage 6.3",
    values=("refused", "allowed"),
)
assumed(
    "one-lun-two-vms",
    "Starting a VM with a pass-through disk that another running VM holds is refused",
    source="facts windows-storage 6.3, backup-engines 1.12",
    values=("refused", "allowed"),
)

assumed(
    "start-without-san",
    "Starting a VM with a Fibre Channel port whose virtual SAN does not exist",
    source="hyperv-wmi 8 names the connection; what a start makes of a missing one is unknown",
    values=("refused", "starts"),
)
assumed(
    "automatic-start-failure",
    "An automatic start that fails leaves event 12010 in Microsoft-Windows-Hyper-V-Worker-Admin and the VM as it was",
    source="backup-engines 1.10 names the log; number and fields are a guess",
)

# RequestedState -> (states it is allowed from, transitional state, its OtherEnabledState, final state, job type, name)
_Plan = tuple[frozenset[int], int, "str | None", int, int, str]
TRANSITIONS: dict[int, _Plan] = {
    2: (frozenset({OFF, SAVED, PAUSED}), STARTING, None, RUNNING, 12, "Starting Virtual Machine"),
    3: (
        frozenset({RUNNING, PAUSED, SAVED, STARTING, STOPPING}),
        STOPPING,
        None,
        OFF,
        13,
        "Turning Off Virtual Machine",
    ),
    4: (frozenset({RUNNING}), STOPPING, None, OFF, 16, "Shutting Down Virtual Machine"),
    6: (frozenset({RUNNING, PAUSED}), OTHER, "Saving", SAVED, 14, "Saving Virtual Machine"),
    9: (frozenset({RUNNING}), OTHER, "Quiescing", PAUSED, 26, "Pausing Virtual Machine"),
    10: (frozenset({RUNNING}), RESET, None, RUNNING, 29, "Restarting Virtual Machine"),
    11: (frozenset({RUNNING, PAUSED}), RESET, None, RUNNING, 28, "Resetting Virtual Machine"),
}


class Power:
    """Moves the VMs of a world. A look at a VM's row is what lets a pending change happen."""

    def __init__(self, world: World) -> None:
        self.world = world

    def start_problem(self, vm: Vm) -> str | None:
        """Why the VM cannot start now, None when it can."""
        host = vm.host
        others = [v for v in host.vms if v is not vm and v.running]
        held = host.locked_files()
        for controller, drive in vm.drives():
            slot = vm.slot_name(controller, drive.location)
            if drive.kind == "physical":
                number = vm.number_in(drive.host_resource)
                disk = host.disk_by_number(number)
                if disk is None:
                    return f"'{vm.name}' failed to start: the physical disk in slot {slot} was not found."
                if disk.online and self.world.assume("start-online-disk") == "refused":
                    return f"'{vm.name}' failed to start: physical disk {number} in slot {slot} is online on the host."
                for other in others:
                    used = {other.number_in(d.host_resource) for _c, d in other.physical_drives()}
                    if number in used and self.world.assume("one-lun-two-vms") == "refused":
                        return f"'{vm.name}' failed to start: physical disk {number} is in use by '{other.name}'."
            elif drive.medium is not None:
                problem = self._medium_problem(vm, drive.medium.path, drive.medium.kind, drive.medium.shared, held)
                if problem:
                    return f"'{vm.name}' failed to start: {problem}"
        for port in vm.fibre_channel:
            if port.virtual_san not in host.virtual_sans and self.world.assume("start-without-san") == "refused":
                return f"'{vm.name}' failed to start: Fibre Channel port {port.wwpn[0]} has no virtual SAN."
        return None

    def _medium_problem(
        self, vm: Vm, path: str, kind: str, shared: bool, held: dict[tuple[str, str], str]
    ) -> str | None:
        try:
            volume, relative = vm.host.resolve(path)
            volume.files.open(relative)
            if kind == "vhd":
                _size = vm.open_vhd(path).payload.size
        except (FileSystemError, ImageError) as problem:
            return f"attachment '{path}' could not be opened: {problem}"
        if kind == "vhd" and volume.key_of(relative) in vm.host.processes.open_files:
            return f"attachment '{path}' could not be opened: {FileSystemError(ERROR_SHARING_VIOLATION, path)}"
        if kind == "vhd" and not shared and volume.key_of(relative) in held:
            return f"attachment '{path}' is in use by another process ({held[volume.key_of(relative)]})."
        return None

    def start_now(self, vm: Vm) -> None:
        """Off, saved or paused becomes running; raises JobFailed."""
        if vm.state == PAUSED:
            vm.set_state(RUNNING)
            return
        was = SAVED if vm.state == SAVED else OFF
        problem = self.start_problem(vm)
        if problem:
            vm.set_state(was)
            raise JobFailed(32768, problem)
        vm.state = was
        vm.set_state(RUNNING)

    def resumed(self, vm: Vm) -> None:
        """A paused VM runs again; what had no room tries once more."""
        lacking = vm.lacks_room() if vm.critical and self.world.assume("paused-critical-resume") == "at-once" else ""
        vm.critical = False
        if lacking:
            vm.run_out_of_room(lacking)

    def report_failed_start(self, vm: Vm, why: str) -> None:
        """An automatic start that failed: nobody waits for an answer, the event log keeps it."""
        vm.host.event_log.write(
            "Microsoft-Windows-Hyper-V-Worker-Admin",
            provider="Microsoft-Windows-Hyper-V-Worker",
            event_id=12010,
            level=2,
            data={"VmName": vm.name, "VmId": vm.id},
            message=why,
        )

    def enter(self, vm: Vm, requested: int) -> Callable[[], None]:
        """Begin a transition; the returned function ends it."""
        _allowed, transitional, other, final, _type, _name = TRANSITIONS[requested]
        before = vm.state
        vm.requested_state = requested
        if requested == 2 and before in (OFF, SAVED):
            # Not set_state: the worker exists, but the guest boots only when the start succeeds.
            problem = self.start_problem(vm)
            vm.state, vm.other_state, vm.state_changed = STARTING, None, vm.host.now()

            def started() -> None:
                vm.state = before
                if problem:
                    raise JobFailed(32768, problem)
                self.start_now(vm)

            return started
        if requested == 2:
            vm.state, vm.other_state = OTHER, "Resuming"
        elif before == SAVED:  # turning off a saved VM deletes the saved state
            vm.state, vm.other_state = STOPPING, None
        else:
            vm.state, vm.other_state = transitional, other

        def ended() -> None:
            if final == RUNNING and requested in (10, 11):
                vm.state, vm.other_state = RUNNING, None
                if vm.guest is not None:
                    vm.guest.power_off()
                vm.started = vm.host.now()
                vm.boot_guest()
            elif requested == 2 or (final == PAUSED):
                vm.state, vm.other_state, vm.state_changed = final, None, vm.host.now()
                if requested == 2:
                    self.resumed(vm)
            else:
                vm.set_state(final)

        return ended

    def initiate_shutdown(self, vm: Vm, *, force: bool, restart: bool = False) -> int:
        """What the shutdown integration service answers (hyperv-wmi 6.2); 0 = the guest was told, not that it is off."""
        if vm.state != RUNNING:
            return 32775
        if vm.boot_error is not None or vm.guest is None:
            return 32780
        if not vm.settings.integration.get("Shutdown", True) or not vm.traits.integration_installed:
            return 32770
        if vm.shutdown_looks is not None:
            return 32782
        if vm.traits.shutdown == "locked" and not force:
            return 32781
        if vm.traits.shutdown == "ignores":
            return 0
        if restart:
            vm.guest.power_off()
            vm.boot_guest()
            return 0
        vm.shutdown_looks = max(2, self.world.looks_per_job)
        return 0

    def look(self, vm: Vm) -> None:
        """Someone reads the VM's row: what is pending moves on by one step."""
        vm.host.jobs.look_at_subject(vm)
        vm.wait_for_boot()
        if vm.shutdown_looks is None or vm.state not in (RUNNING, STOPPING):
            return
        vm.shutdown_looks -= 1
        self.world.clock.advance(5)
        if vm.shutdown_looks <= 0:
            vm.set_state(OFF)
        else:
            vm.state, vm.state_changed = STOPPING, vm.host.now()
