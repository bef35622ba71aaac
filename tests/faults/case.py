# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One fault at one exchange, from there to the end: reruns until the command succeeds, looks after every exchange, the verdict.

Responsible for: playing a case, and ending it early where another case has already shown how it ends. Not responsible for:
which cases there are (`exploration.py`, `passes.py`), what an effect does (`effects.py`).

A case ends early in three ways, each of them because product and world are deterministic:

- *repaired*: the same request is sent again at once in the state of the world in which it was broken.
- *merged*: a task has ended, and this run's results up to here, what is still out of reach, how often the command was given
  before and the state of the world are those of a case (or of the undisturbed run) whose end is known.
- *rerun*: the command is about to be given again in a state of the world in which it was given before.

`state.py` says what makes two states the same. Sentences of errors, ids and times are left out: nothing is decided by them. One
case in `AUDIT` is played to its end all the same, and its end must be the one that it would have taken over.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from simulator.endpoint import Reply

from . import one_process
from .effects import Effect, is_busy
from .invariants import BASE, Glance, no_secret, nobody_left_quiesced, nothing_runs
from .one_process import Command, Done
from .stage import Stage, Watch
from .state import essence, fingerprint, job_files, without_ids

RERUNS = 3
AUDIT = 211
BETWEEN_RUNS_S = 30  # how long an operator takes to run the command again

Ending = tuple[str, list[str]]


def is_audited(case: str) -> bool:
    return zlib.crc32(case.encode()) % AUDIT == 0


class Memory:
    """How it ends from a state on; a folder, shared by the processes that try one scenario."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    def get(self, key: str) -> Ending | None:
        try:
            outcome, findings = json.loads((self._folder / key).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return outcome, findings

    def put(self, key: str, ending: Ending) -> None:
        partial = self._folder / f".{os.getpid()}"
        partial.write_text(json.dumps(ending), encoding="utf-8")
        partial.replace(self._folder / key)


def boundary(command: Command, world: Any, *more: object) -> str:
    """The state of a run between two of its tasks, and of the world."""
    return hashlib.sha256(repr((command.history, fingerprint(world), *more)).encode()).hexdigest()


def remember(command: Command, done: Done) -> None:
    """A task has ended: it becomes part of what the run has come to know."""
    row = (command.history, done.host, done.task, done.status, essence(done.result))
    command.history = hashlib.sha256(repr(row).encode()).hexdigest()


class Case:
    """One fault at one exchange.

    Args:
        end: of the undisturbed run.
        memory: of other cases; None plays everything to its end.
    """

    def __init__(
        self, stage: Stage, watch: Watch, effect: Effect, number: int, command: Command, end: Any, memory: Memory | None
    ) -> None:
        self.stage, self.watch, self.effect, self.number, self.command = stage, watch, effect, number, command
        self.scenario, self.world, self.memory = stage.scenario, stage.world, memory
        self.unreachable: set[str] = set()
        self.before_rerun: list[Callable[[], object]] = []
        self.runs: list[Command] = [command]
        self.done: Callable[[Case], NoReturn] | None = None
        self.how = "played"
        self.beside = ""  # the state that a rerun beside this run has left
        self.audited = is_audited(f"{self.scenario.name}/{effect.name}/{number}")
        self.should: list[tuple[str, Ending]] = []  # what an audited case could have taken over
        self._passed: list[tuple[str, int]] = []
        self._end = end
        self._rest: Ending | None = None
        self._request: bytes | None = None
        self._state = ""
        self._before_rerun: Glance | None = None
        self._after_rerun: Glance | None = None
        self._turns: _Turns | None = None
        self._is_still = False  # a rerun beside this run plays to its end
        stage.controller.on_result = self.task_ended

    @property
    def name(self) -> str:
        return f"{self.scenario.name}/{self.effect.name}/{self.number}"

    # -- exchanges from the fault on

    def exchange(self, machine: Any, data: bytes, carry: Callable[[], Reply]) -> Reply:
        if self._turns is not None:
            self._turns.give()
        if machine.name in self.unreachable:
            raise ConnectionRefusedError(111, "Connection refused")
        asked, self._request = self._request, None
        if asked is not None and asked == without_ids(data) and fingerprint(self.world) == self._state:
            self._take_over("repaired", ("wrong" if self.watch.findings else "repaired", []))
        try:
            return carry()
        finally:
            if not only_looks(data) or moves(self.world):
                self.watch.look()

    def act(self, machine: Any, data: bytes, carry: Callable[[], Reply]) -> Reply:
        """The broken exchange itself."""
        if self.memory is not None and self.effect.of_the_wire:
            self._request, self._state = without_ids(data), fingerprint(self.world)
        try:
            return self.effect.act(self, machine, data, carry)
        finally:
            self.watch.look()

    def task_ended(self, command: Command, done: Done) -> None:
        """Take over what another case came to from here on, or leave a mark for what this one comes to."""
        remember(command, done)
        if self._turns is None and not self._is_still:
            good = any(run.status == 0 for run in self.runs)
            left = (sorted(self.unreachable), len(self.before_rerun) and self.effect.name, command.parent_killed)
            count = sum(run.status is not None for run in self.runs)
            self._arrive("merged", boundary(command, self.world, good, left, count, self.beside))

    def _arrive(self, how: str, key: str) -> None:
        if self.memory is None:
            return
        known = self.memory.get(key)
        if known is not None:
            self._take_over(how, known)
        elif all(key != one for one, _count in self._passed):
            self._passed.append((key, len(self.watch.findings)))

    def _take_over(self, how: str, ending: Ending) -> None:
        if self.audited:
            self.should.append((how, ending))
            return
        self._rest, self.how = ending, how
        assert self.done is not None
        self.done(self)

    # -- what effects ask for

    def rerun_beside(self) -> None:
        """The command is given again and runs to its end, while this run hangs in its exchange."""
        self.world.clock.advance(BETWEEN_RUNS_S)
        self._before_rerun = self.watch.look()
        self._is_still = True
        for _attempt in range(RERUNS):
            command = Command()
            self.runs.append(command)
            _in_thread(lambda one=command: self.stage.go_on(one))  # type: ignore[misc]
            if command.status == 0:
                break
            self.world.clock.advance(BETWEEN_RUNS_S)
        self._is_still = False
        self._after_rerun = self.watch.look()
        self.beside = fingerprint(self.world)

    def turn_into(self, effect: Effect) -> None:
        """From here on this is the case of another effect at the same exchange, with the same rerun beside it."""
        self.effect = effect
        self.audited = is_audited(self.name)

    def begin_second_run(self) -> None:
        command = Command()
        self.runs.append(command)
        self._turns = _Turns(lambda: self.stage.go_on(command))
        self._turns.give()

    def go_on_without_this_run(self) -> NoReturn:
        _in_thread(self.rerun_until_good)
        assert self.done is not None
        self.done(self)
        raise AssertionError("a case went on after its end")

    # -- the end

    def rerun_until_good(self) -> None:
        """Run the command again until it says that all is well, or take over what such a rerun came to."""
        if self._turns is not None:
            self._turns.finish()
            self._turns = None
        if any(run.status == 0 for run in self.runs):
            for action in self.before_rerun:
                action()
            return
        for number in range(RERUNS):
            self.unreachable.clear()
            for action in self.before_rerun:
                action()
            self.before_rerun.clear()
            self.world.clock.advance(BETWEEN_RUNS_S)
            self._arrive("rerun", f"{fingerprint(self.world)}.{number}")
            self.runs.append(self.stage.run())
            if self.runs[-1].status == 0:
                break

    def judge(self) -> Ending:
        """(outcome, findings); what others may take over from this case is remembered."""
        now = self.watch.look()
        played = self._rest is None
        outcome, more = self._rest or self._ending(now)
        more = [*self._changed_afterwards(now), *more] if played else more
        if (played and self.memory is not None) or (
            self._rest is not None and self.memory is not None and self.how != "repaired"
        ):
            for key, count in self._passed:
                later = [*self.watch.findings[count:], *more]
                self.memory.put(key, ("wrong" if later else outcome, later))
        findings = list(self.watch.findings)
        for number, run in enumerate(self.runs):
            if run.status not in (0, None, one_process.KILLED) and (not run.named or "internal" in run.kinds):
                findings.append(
                    f"run {number + 1} failed without a name of its own: {run.last_words or run.screen[-3:]}"
                )
        findings += no_secret(self.world, texts(self.stage, self.runs))
        findings += more
        if played:
            for how, (said, _findings) in self.should:
                if said not in (outcome, "repaired", "wrong") and not findings:
                    findings.append(f"taking over ({how}) would have said: {said}")
        return ("wrong" if findings else outcome), findings

    def _changed_afterwards(self, now: Glance) -> Iterator[str]:
        """What a run did after another one had taken over and finished; a set of its own, from its start, it may make."""
        before, then = self._before_rerun, self._after_rerun
        if before is None or then is None or not any(run.status == 0 for run in self.runs[1:]):
            return
        for name, text in then.sets.items():
            if before.sets.get(name) != text and now.sets.get(name) != text:
                yield f"the overtaken run changed the record {name} after the other one had finished it"
        if self.command.parent_killed:
            for what in ("sets", "runs", "starts", "versions"):
                if getattr(now, what) != getattr(then, what):
                    yield f"a worker whose parent is gone changed {what} after the rerun had finished"

    def _ending(self, now: Glance) -> Ending:
        """What the world must be like when no more run follows."""
        findings = [*nobody_left_quiesced(now), *nothing_runs(self.world)]
        if not any(run.status == 0 for run in self.runs):
            last = self.runs[-1]
            refused = [kind for kind in last.kinds if kind in self.scenario.refusals]
            if not refused:
                findings.append(f"{len(self.runs)} runs and no end: {', '.join(last.kinds)}: {last.last_words[:300]}")
                return "wrong", findings
            return f"refused: {refused[0]}", findings
        findings += self.scenario.proof(self.world, now)
        findings += differences(self._end, plain(self.scenario.end_state(self.world, now)))
        beside = self.scenario.others(now)
        return (f"same, beside {beside}" if beside else "same"), findings


class _Turns:
    """Two runs in one world, one exchange each in turn; whoever waits, sleeps."""

    def __init__(self, second: Callable[[], object]) -> None:
        self._mine = {False: threading.Semaphore(0), True: threading.Semaphore(0)}
        self._alive = {False: True, True: True}
        self._error: BaseException | None = None
        self._second = threading.Thread(target=self._run, args=(second,), daemon=True)
        self._is_second = threading.local()
        self._second.start()

    def _run(self, second: Callable[[], object]) -> None:
        self._is_second.value = True
        self._mine[True].acquire()
        try:
            second()
        except BaseException as error:  # noqa: BLE001  # raised again in the thread that judges
            self._error = error
        finally:
            self._alive[True] = False
            self._mine[False].release()

    def give(self) -> None:
        """Let the other one do its next exchange."""
        me = getattr(self._is_second, "value", False)
        if self._alive[not me]:
            self._mine[not me].release()
            self._mine[me].acquire()

    def finish(self) -> None:
        """The first run has ended; the second one goes on alone."""
        self._alive[False] = False
        if self._alive[True]:
            self._mine[True].release()
        self._second.join()
        if self._error is not None:
            raise self._error


def _in_thread(work: Callable[[], object]) -> None:
    """Run something apart from the stack, and the context variables, that it is called from."""
    trouble: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  # raised again below
            trouble.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join()
    if trouble:
        raise trouble[0]


def only_looks(request: bytes) -> bool:
    """An enumeration: with nothing running, it leaves the world as it was."""
    return b"/enumeration/Enumerate<" in request or b"/enumeration/Pull<" in request


def moves(world: Any) -> bool:
    """Whether something runs that a look, or time, moves on."""
    return any(
        is_busy(machine) or (machine.jobs is not None and any(not job.done for job in machine.jobs.all()))
        for machine in world.machines
    )


def texts(stage: Stage, runs: list[Command]) -> dict[str, str]:
    """Everything that a run says or leaves, where no secret may be."""
    found = {f"the screen of run {number + 1}": "\n".join(run.screen) for number, run in enumerate(runs)}
    for number, run in enumerate(runs):
        found[f"the results of run {number + 1}"] = repr([done.result for done in run.tasks])
    for machine in stage.world.machines:
        if machine.scheduler is not None:
            found[f"the tasks of {machine.name}"] = repr([vars(task.definition) for task in machine.scheduler.tasks()])
            found[f"the registry of {machine.name}"] = _registry_text(machine)
            found[f"the processes of {machine.name}"] = repr([one.command_line for one in machine.processes._processes])
            found[f"the files of {machine.name}"] = repr(list(job_files(machine)))
    return found


def _registry_text(machine: Any) -> str:
    key = machine.registry.find(0x80000002, BASE)
    return repr(_values(key)) if key is not None else ""


def _values(key: Any) -> Any:
    return [[str(value) for value in key.values.values()], [_values(one) for one in key.subkeys.values()]]


def plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str, sort_keys=True))


def differences(wanted: Any, found: Any, path: str = "") -> list[str]:
    """Where two JSON values differ, a few of them."""
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        keys = [*wanted, *(key for key in found if key not in wanted)]
        parts = [differences(wanted.get(key), found.get(key), f"{path}/{key}") for key in keys]
        return [line for part in parts for line in part][:8]
    if isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        rows = [
            differences(one, other, f"{path}/{place}")
            for place, (one, other) in enumerate(zip(wanted, found, strict=True))
        ]
        return [line for row in rows for line in row][:8]
    if wanted == found:
        return []
    return [f"end state {path}: {json.dumps(found)[:200]} instead of {json.dumps(wanted)[:200]}"]


__all__ = ["RERUNS", "Case", "Memory", "boundary", "differences", "is_audited", "moves", "only_looks", "plain", "texts"]
