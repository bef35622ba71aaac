# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The faults, one table: what is done to an exchange or to the world around it, and at which exchanges it is worth doing.

Responsible for: what an effect does at its exchange and afterwards. Not responsible for: choosing exchanges, rerunning,
judging (`exploration.py`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from simulator.cim import CimFault
from simulator.door_memory import endpoint_of
from simulator.endpoint import Reply
from simulator.faults import GARBAGE, Dropped
from simulator.mishaps import mishap
from simulator.virtual_machine import OFF, RUNNING
from simulator.windows_backup import Failure

if TYPE_CHECKING:
    from .exploration import Case

Carry = Callable[[], Reply]
Act = Callable[["Case", Any, bytes, Carry], Reply]

TIMED_OUT = 2150858793
QUOTA = 2150859174  # the user's limit of concurrent operations (wsman 6)

#: Methods that only look. Everything else that is invoked counts as a change, also what changes nothing this time.
READING = frozenset(
    {
        "getstringvalue",
        "getdwordvalue",
        "enumvalues",
        "enumkey",
        "getinfobyname",
        "getvirtualharddisksettingdata",
        "getvirtualharddiskstate",
        "get",
        "getsummaryinformation",
    }
)
NEVER_STARTED = 2  # AutomaticStartupAction
CHANGE, SHELL, READ = "change", "shell", "read"


def kind_of(summary: Any) -> str:
    """What an exchange is: a change, a step of a shell (which only reads files here), or a read."""
    if summary.action == "Invoke":
        return READ if summary.method.lower() in READING else CHANGE
    if summary.action in ("Enumerate", "Pull", "Get", "Release", "Identify"):
        return READ
    return SHELL if summary.class_name == "cmd" else CHANGE


@dataclasses.dataclass(frozen=True, kw_only=True)
class Effect:
    """One fault.

    Attributes:
        text: for the table in the documentation.
        act: does it at the exchange; what it returns is what the client gets.
        others: at every which exchange that is no change it is tried; changes are never left out.
        while_job: the exchanges at which a backup runs somewhere count as changes.
        only_job: no other exchanges are tried.
        of_the_wire: only this exchange is harmed; the world is not.
        of_the_world: something happens to a machine before the exchange; the exchange itself is not harmed.
        only_named: only scenarios that name their effects may have it.
        only_method: it is tried where the description of the exchange begins with this, behind the machine's name.
    """

    name: str
    text: str
    act: Act
    others: int = 12
    while_job: bool = False
    only_job: bool = False
    of_the_wire: bool = False
    of_the_world: bool = False
    only_method: str = ""
    only_named: bool = False
    needs_stopped_vm: bool = False
    needs_running_vm: bool = False

    def is_for(self, what: str, busy: bool) -> bool:
        """Whether it is tried at such an exchange at all."""
        return (busy or not self.only_job) and f" {self.only_method}" in what

    def applies(self, vm: Any) -> bool:
        """Whether there is anything to do in the world as it is now."""
        runs = vm is not None and vm.running
        return not (self.needs_stopped_vm and runs) and not (self.needs_running_vm and not runs)

    def every(self, kind: str) -> int:
        return 1 if kind == CHANGE else self.others


# -- the wire -------------------------------------------------------------------------------------------------------------


def _drop_before(_case: Case, _machine: Any, _data: bytes, _carry: Carry) -> Reply:
    raise Dropped("the connection was cut before the request was executed", executed=False)


def _drop_after(_case: Case, _machine: Any, _data: bytes, carry: Carry) -> Reply:
    carry()
    raise Dropped("the connection was cut after the request was executed", executed=True)


def _status(number: int) -> Act:
    return lambda _case, _machine, _data, _carry: Reply(status=number, body=b"")


def _fault(code: int, subcode: str, *, executed: bool = False) -> Act:
    def act(_case: Case, machine: Any, data: bytes, carry: Carry) -> Reply:
        if executed:
            carry()
        return Reply(status=500, body=endpoint_of(machine).fault(CimFault.wsman(code, subcode), data))

    return act


def _truncated(_case: Case, _machine: Any, _data: bytes, carry: Carry) -> Reply:
    return dataclasses.replace(carry(), truncated=True)


def _garbage(_case: Case, _machine: Any, _data: bytes, carry: Carry) -> Reply:
    return dataclasses.replace(carry(), status=200, body=GARBAGE)


def _outage(case: Case, machine: Any, _data: bytes, _carry: Carry) -> Reply:
    """The machine is out of reach until the run has ended."""
    case.unreachable.add(machine.name)
    raise ConnectionRefusedError(111, "Connection refused")


# -- the controller -------------------------------------------------------------------------------------------------------


def _killed(case: Case, _machine: Any, _data: bytes, carry: Carry) -> Reply:
    """SIGKILL for everything, after the request was executed: nothing of the run happens any more."""
    carry()
    case.go_on_without_this_run()
    raise AssertionError("a killed run went on")


def _orphaned(case: Case, _machine: Any, _data: bytes, carry: Carry) -> Reply:
    """ansible-playbook is killed, its worker hangs in this exchange until a rerun has done everything, and then goes on."""
    reply = carry()
    case.command.parent_killed = True
    case.rerun_beside()
    return reply


def _overtaken(case: Case, _machine: Any, _data: bytes, carry: Carry) -> Reply:
    """The controller is suspended for long; meanwhile the command is run elsewhere, and then this one wakes up."""
    reply = carry()
    case.rerun_beside()
    return reply


def _two_at_once(case: Case, _machine: Any, _data: bytes, carry: Carry) -> Reply:
    """A second run begins, and both go on in turns, exchange by exchange."""
    reply = carry()
    case.begin_second_run()
    return reply


# -- the machines ---------------------------------------------------------------------------------------------------------


def _restart_host(case: Case, _machine: Any, _data: bytes, carry: Carry) -> Reply:
    """Numbers stay where Windows itself starts the VM: that it may do so on other disks then, no restore can prevent."""
    host, vm = case.world.hosts[0], case.scenario.vm_of(case.world)
    host.reboot(renumber=vm is None or vm not in host.vms or vm.settings.automatic_startup_action == NEVER_STARTED)
    case.watch.excuse()
    reply = carry()
    case.watch.excuse()  # the very request that starts the VM comes too late to be taken back
    return reply


def _restart_guest(case: Case, _machine: Any, _data: bytes, carry: Carry) -> Reply:
    vm = case.scenario.vm_of(case.world)
    if vm is not None and vm.guest is not None and vm.running:
        vm.guest.reboot()
    return carry()


def _turned_off(case: Case, _machine: Any, _data: bytes, carry: Carry) -> Reply:
    """An operator turns the VM off at the wrong moment, and on again before the rerun."""
    vm = case.scenario.vm_of(case.world)
    if vm is not None and vm.running:
        vm.set_state(OFF)
        case.before_rerun.append(lambda: _start(case, vm))
    return carry()


def _start(case: Case, vm: Any) -> None:
    """Unless it runs again already, or Hyper-V does not let them."""
    if vm.state != RUNNING and case.world.power.start_problem(vm) is None:
        case.world.power.start_now(vm)


def _turned_on(case: Case, _machine: Any, _data: bytes, carry: Carry) -> Reply:
    """An operator starts the VM at the wrong moment, as far as Hyper-V lets them."""
    vm = case.scenario.vm_of(case.world)
    if vm is not None:
        _start(case, vm)
    case.watch.excuse()
    return carry()


def _job_fails(percent: int) -> Act:
    def act(case: Case, machine: Any, _data: bytes, carry: Carry) -> Reply:
        target = _busy_machine(case) or machine
        target.backup.fail_next = Failure(percent=percent)
        case.before_rerun.append(lambda: setattr(target.backup, "fail_next", None))
        return carry()

    return act


def _engine_dies(case: Case, machine: Any, _data: bytes, carry: Carry) -> Reply:
    (_busy_machine(case) or machine).backup.engine_stopped()
    return carry()


def _job_vanishes(case: Case, machine: Any, _data: bytes, carry: Carry) -> Reply:
    """Somebody ends our scheduled task and deletes it, and the engine's job with it; its files stay."""
    target = _busy_machine(case) or machine
    for task in list(target.scheduler.tasks()):
        if task.folder.strip("\\") == "hyperv.passthrough" and task.runs:
            target.scheduler.stop(task)
            target.scheduler.unregister(task)
    target.backup.stop_job()
    return carry()


def _cim_job_fails(percent: int) -> Act:
    def act(case: Case, machine: Any, _data: bytes, carry: Carry) -> Reply:
        """The method returns 4096, and its job fails."""
        mishap(case.world, "fail_job", machine=machine.name, percent=percent)
        try:
            return carry()
        finally:
            machine.jobs.failures.clear()

    return act


def _cim_job_vanishes(case: Case, machine: Any, _data: bytes, carry: Carry) -> Reply:
    """The service that keeps the jobs starts anew; what it was at is left as a power cut leaves it."""
    reply = carry()
    machine.jobs.lose()
    return reply


def _busy_machine(case: Case) -> Any:
    return next((machine for machine in case.world.machines if is_busy(machine)), None)


def is_busy(machine: Any) -> bool:
    """Whether a backup, or anything that we started, runs on the machine."""
    if machine.backup is None:
        return False
    job = machine.backup.job
    ours = any(task.runs for task in machine.scheduler.tasks() if task.folder.strip("\\") == "hyperv.passthrough")
    return bool(job is not None and job.running) or ours


EFFECTS: tuple[Effect, ...] = (
    Effect(
        name="drop_before",
        others=12,
        of_the_wire=True,
        text="connection dropped before the request arrives",
        act=_drop_before,
    ),
    Effect(name="drop_after", others=6, of_the_wire=True, text="request executed, reply lost", act=_drop_after),
    Effect(
        name="http_400",
        others=16,
        of_the_wire=True,
        text="HTTP 400, as after a keep-alive drop",
        act=_status(400),
    ),
    Effect(name="http_401", others=16, of_the_wire=True, text="HTTP 401 once", act=_status(401)),
    Effect(name="http_503", others=16, of_the_wire=True, text="HTTP 503", act=_status(503)),
    Effect(
        name="fault",
        others=12,
        of_the_wire=True,
        text="SOAP fault w:InternalError",
        act=_fault(2150858755, "w:InternalError"),
    ),
    Effect(name="quota", others=16, of_the_wire=True, text="quota fault", act=_fault(QUOTA, "w:QuotaLimit")),
    Effect(
        name="timeout_before",
        others=16,
        of_the_wire=True,
        text="operation timeout, not executed",
        act=_fault(TIMED_OUT, "w:TimedOut"),
    ),
    Effect(
        name="timeout_after",
        others=16,
        of_the_wire=True,
        text="operation timeout, though executed",
        act=_fault(TIMED_OUT, "w:TimedOut", executed=True),
    ),
    Effect(name="truncated", others=16, of_the_wire=True, text="reply cut in the middle", act=_truncated),
    Effect(name="garbage", others=16, of_the_wire=True, text="reply that is no SOAP", act=_garbage),
    Effect(name="outage", others=6, text="machine out of reach until the run has ended", act=_outage),
    Effect(name="killed", others=6, text="controller killed, worker and all", act=_killed, while_job=True),
    Effect(name="orphaned", others=24, text="parent killed, its worker alive beside the rerun", act=_orphaned),
    Effect(name="overtaken", others=24, text="run suspended, overtaken by another, woken up", act=_overtaken),
    Effect(name="two_at_once", others=40, text="two runs on one VM at once", act=_two_at_once),
    Effect(
        name="restart_host",
        of_the_world=True,
        others=24,
        text="host restarted, its disks renumbered",
        act=_restart_host,
        while_job=True,
    ),
    Effect(
        name="restart_host_down",
        of_the_world=True,
        only_named=True,
        needs_stopped_vm=True,
        others=24,
        text="the same, while the VM is off",
        act=_restart_host,
    ),
    Effect(
        name="restart_guest", of_the_world=True, others=24, text="guest restarted", act=_restart_guest, while_job=True
    ),
    Effect(
        name="turned_off",
        of_the_world=True,
        needs_running_vm=True,
        others=24,
        text="operator turns the VM off, and on before the rerun",
        act=_turned_off,
    ),
    Effect(
        name="turned_on",
        of_the_world=True,
        needs_stopped_vm=True,
        others=24,
        text="operator starts the VM",
        act=_turned_on,
    ),
    Effect(name="job_fails_0", of_the_world=True, others=40, text="engine's job fails at once", act=_job_fails(0)),
    Effect(
        name="job_fails_50",
        of_the_world=True,
        text="engine's job fails at 50 percent",
        act=_job_fails(50),
        only_job=True,
    ),
    Effect(
        name="job_fails_99",
        of_the_world=True,
        text="engine's job fails at 99 percent",
        act=_job_fails(99),
        only_job=True,
    ),
    Effect(name="engine_dies", of_the_world=True, text="the engine's service dies", act=_engine_dies, only_job=True),
    Effect(name="job_vanishes", of_the_world=True, text="job and task vanish", act=_job_vanishes, only_job=True),
    *(
        Effect(
            name=f"cim_job_fails_{percent}",
            text=f"method returns 4096, and its job fails at {percent} percent",
            act=_cim_job_fails(percent),
            only_method="Invoke Msvm_",
        )
        for percent in (0, 50, 99)
    ),
    Effect(
        name="cim_job_vanishes",
        text="method returns 4096, and its job vanishes",
        act=_cim_job_vanishes,
        only_method="Invoke Msvm_",
    ),
)
#: Those that begin with a rerun beside the run: one rerun is enough for the three.
BESIDE = ("killed", "orphaned", "overtaken")
BY_NAME = {effect.name: effect for effect in EFFECTS}
