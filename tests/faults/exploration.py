# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Breaks one scenario at its exchanges: the undisturbed run is the trunk, and every case is a fork of it.

Responsible for: running the trunk, forking a case off at an exchange, and seeing without a fork that a case is one that was tried
already. Not responsible for: what happens in a case (`case.py`), which cases are wanted (`passes.py`), reporting (`report.py`).

A fork copies the state of command, product and world at once; the trunk waits for it. Four things need no case of their own:

- *state*: the controller is killed where the world is in a state in which it was killed before.
- *position*: a request that only looks fails in the same way, at the same place in the product's code (every line of the stack),
  after the same results of the tasks before, in the same state of the world, as in a case that was tried.
- *request*: a reply to a request that only looks is lost: to product and world it is the same as if the request had been.
- *answers*: something happens to a machine before requests that only look and are answered as if nothing had happened, to the
  last byte, and no time passes: then it may as well have happened after them.

One in `AUDIT` of them is tried all the same, and must end like the case that it stands for.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import hashlib
import json
import os
import pickle
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from simulator.assumed import Switches
from simulator.door_memory import caller_of, exchange
from simulator.endpoint import Reply, Summary

from . import one_process
from .case import (
    BETWEEN_RUNS_S,
    Case,
    Memory,
    boundary,
    differences,
    is_audited,
    moves,
    plain,
    remember,
    texts,
)
from .effects import BESIDE, CHANGE, Effect, is_busy, kind_of
from .invariants import nobody_left_quiesced, nothing_runs
from .one_process import Command
from .scenarios import Scenario
from .stage import Stage, Watch
from .state import fingerprint

#: Of which only the reply is lost: at a request that only looks, the same as another effect.
AS_WELL = {"drop_after": "drop_before", "timeout_after": "timeout_before"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """How one case ended.

    Attributes:
        number: of the exchange, from 1.
        what: the exchange, for people.
        kind: change, shell or read.
        outcome: `same`, `same, beside ...`, `repaired`, `refused: kind`, or `wrong`.
        runs: commands until it was over, the broken one included.
        kinds: of the errors on the way.
        findings: why it is wrong; empty when it is right.
        how: played, repaired, merged, rerun (see `case.py`), or state, position, request, answers (see above).
        audited: it could have been taken over, and was played all the same.
    """

    scenario: str
    effect: str
    number: int
    what: str
    kind: str
    outcome: str
    runs: int = 0
    kinds: list[str] = dataclasses.field(default_factory=list)
    findings: list[str] = dataclasses.field(default_factory=list)
    seconds: float = 0
    how: str = "played"
    audited: bool = False

    @property
    def case(self) -> str:
        return f"{self.scenario}/{self.effect}/{self.number}"

    @property
    def line(self) -> str:
        said = "" if not self.findings else ": " + "; ".join(self.findings)
        return f"make faults CASE={self.case}  # {self.what}: {self.outcome} after {self.runs} runs{said}"


class Exchange(NamedTuple):
    """One exchange of the undisturbed run.

    Attributes:
        busy: whether a backup runs somewhere.
        moves: whether anything runs.
        waited: whether the product slept before it.
        machine: name; with `account` and `request` it can be sent again.
        answer: digest of the body of the reply.
    """

    what: str
    kind: str
    busy: bool
    vm_runs: bool
    moves: bool
    waited: bool
    machine: str
    account: str
    request: bytes
    answer: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Undisturbed:
    """What the run without a fault did and left."""

    exchanges: list[Exchange]
    end: Mapping[str, Any]
    findings: list[str]
    status: int
    seconds: float
    last_words: str = ""
    kinds: list[str] = dataclasses.field(default_factory=list)
    runs: int = 1
    asked: list[str] = dataclasses.field(default_factory=list)  # switches of the simulator that were read
    states: list[str] = dataclasses.field(default_factory=list)  # between its tasks


Choose = Callable[[int, Exchange], Iterator[Effect]]


class Trunk:
    """The undisturbed run, with cases forked off.

    Args:
        choose: which effects are to be tried at an exchange.
        known: outcomes of cases that were tried before.
        results: where every case puts its line.
        memory: shared by everybody who tries this scenario; None: every case is played to its end.
        until: no new case begins after this moment of `time.monotonic`.
        budget: nor after so many seconds were spent on cases.
        show: tell what the runs of a case said.
    """

    def __init__(
        self,
        scenario: Scenario,
        undisturbed: Undisturbed,
        *,
        choose: Choose,
        known: Mapping[str, Result],
        results: Path,
        memory: Path | None,
        until: float | None = None,
        budget: float | None = None,
        show: bool = False,
    ) -> None:
        self._scenario, self._undisturbed = scenario, undisturbed
        self._choose, self._results = choose, results
        self._until, self._left = until, budget
        self._memory = Memory(memory) if memory is not None else None
        self._show = show
        self._known = dict(known)
        self._number = 0
        self._case: Case | None = None
        self._classes: dict[tuple[Any, ...], str] = {}  # to the case that stands for it
        self._later: dict[
            tuple[str, int], list[tuple[int, Exchange]]
        ] = {}  # (effect, exchange): who waits for its outcome
        self._postponed: dict[tuple[str, int], int] = {}
        self.stopped_at: int | None = None

    def run(self) -> None:
        self._stage = Stage(self._scenario)
        self._watch = Watch(self._stage)
        self._command = Command()
        self._stage.controller.hook = self._exchange
        self._stage.controller.on_result = remember
        gc.collect()
        gc.freeze()
        sys.stdout.flush()
        try:
            self._stage.go_on(self._command)
            if self._case is not None:
                self._case.rerun_until_good()
                self._finish(self._case)
            there = len(self._undisturbed.exchanges)
            if self._command.status != self._undisturbed.status or self._number != there:
                raise RuntimeError(
                    f"the trunk of {self._scenario.name} has left its path: {self._number} exchanges instead of {there}, "
                    f"status {self._command.status}: {self._command.last_words[:300]}"
                )
        except BaseException:
            if self._case is None:
                raise
            self._crashed(self._case)
        finally:
            self._stage.close()

    # -- in the trunk

    def _exchange(self, machine: Any, data: bytes, carry: Callable[[], Reply]) -> Reply:
        if self._case is not None:
            return self._case.exchange(machine, data, carry)
        self._number += 1
        late = self._until is not None and time.monotonic() > self._until
        if late or (self._left is not None and self._left <= 0):
            self.stopped_at = self.stopped_at or self._number
        began = time.monotonic()
        if self.stopped_at is None and self._number <= len(self._undisturbed.exchanges):
            here = self._undisturbed.exchanges[self._number - 1]
            vm = self._scenario.vm_of(self._stage.world)
            wanted = [effect for effect in self._choose(self._number, here) if effect.applies(vm)]
            beside = [effect for effect in wanted if effect.name in BESIDE]
            if here.kind == CHANGE and len(beside) > 1 and self._memory is not None:
                wanted = [effect for effect in wanted if effect not in beside]
                if self._fork():
                    return self._in_three_ways(beside, here, machine, data, carry)
            for effect in wanted:
                if not self._is_known(effect, here) and self._fork():
                    return self._begin(effect, here).act(machine, data, carry)
                self._settle(effect)
        if self._left is not None:
            self._left -= time.monotonic() - began
        try:
            return carry()
        finally:
            self._watch.look()

    def _is_known(self, effect: Effect, here: Exchange) -> bool:
        """Whether another case shows how this one ends; then it is written down."""
        if self._memory is None or here.kind == CHANGE:
            return False
        name = f"{self._scenario.name}/{effect.name}/{self._number}"
        if is_audited(name):
            return False
        world = self._stage.world
        if effect.name in AS_WELL and not here.moves:
            return self._stands_for(
                f"{self._scenario.name}/{AS_WELL[effect.name]}/{self._number}", "request", effect, here
            )
        if effect.name == "killed":
            return self._same_class(("killed", fingerprint(world)), "state", effect, here)
        if effect.of_the_wire or effect.name == "outage":
            stack = _position(sys._getframe(2))
            key = (effect.name, self._command.history, stack, fingerprint(world))
            return self._same_class(key, "position", effect, here)
        return effect.of_the_world and self._waits_for_a_later_one(effect, here)

    def _same_class(self, key: tuple[Any, ...], how: str, effect: Effect, here: Exchange) -> bool:
        stands = self._classes.setdefault(key, f"{self._scenario.name}/{effect.name}/{self._number}")
        return self._stands_for(stands, how, effect, here)

    def _stands_for(self, case: str, how: str, effect: Effect, here: Exchange) -> bool:
        found = self._known.get(case)
        if found is None:
            return False
        self._write(self._as(found, how, effect, self._number, here))
        return True

    def _as(self, found: Result, how: str, effect: Effect, number: int, here: Exchange) -> Result:
        return dataclasses.replace(
            found, effect=effect.name, number=number, what=here.what, kind=here.kind, how=how, seconds=0, audited=False
        )

    def _waits_for_a_later_one(self, effect: Effect, here: Exchange) -> bool:
        place = (effect.name, self._number)
        if place not in self._postponed:
            last = self._look_ahead(effect)
            for number in range(self._number, last):
                self._postponed[effect.name, number] = last
            self._postponed[effect.name, last] = last
        last = self._postponed[place]
        if last == self._number:
            return False
        known = self._known.get(f"{self._scenario.name}/{effect.name}/{last}")
        if known is not None:
            self._write(self._as(known, "answers", effect, self._number, here))
        else:
            self._later.setdefault((effect.name, last), []).append((self._number, here))
        return True

    def _settle(self, effect: Effect) -> None:
        """Those who waited for the outcome of the case at this exchange get it."""
        found = self._known.get(f"{self._scenario.name}/{effect.name}/{self._number}")
        if found is not None:
            for number, here in self._later.pop((effect.name, self._number), ()):
                self._write(self._as(found, "answers", effect, number, here))

    def _look_ahead(self, effect: Effect) -> int:
        """The last exchange at which the effect is the same as at this one."""
        reader, writer = os.pipe()
        pid = os.fork()
        if pid:
            os.close(writer)
            with os.fdopen(reader) as stream:
                text = stream.read()
            os.waitpid(pid, 0)
            return int(text or self._number)
        try:
            os.close(reader)
            gc.disable()
            self._stage.share_world()
            last = self._same_until(effect)
            os.write(writer, str(last).encode())
        except BaseException:  # noqa: BLE001  # nothing is known then
            traceback.print_exc()
        self._stage.leave()
        os._exit(0)

    def _same_until(self, effect: Effect) -> int:
        exchanges, number = self._undisturbed.exchanges, self._number
        case = Case(self._stage, self._watch, effect, number, self._command, {}, None)
        done = False
        while number < len(exchanges):
            one, following = exchanges[number - 1], exchanges[number]
            if one.kind == CHANGE or following.waited or (effect.only_job and not following.busy):
                break
            if (effect.needs_stopped_vm and following.vm_runs) or (effect.needs_running_vm and not following.vm_runs):
                break
            machine = self._stage.world.machine(one.machine)

            def carry(machine: Any = machine, one: Exchange = one) -> Reply:
                if not machine.answers:
                    raise ConnectionRefusedError
                return exchange(machine, caller_of(machine, one.account), one.request)

            try:
                reply = carry() if done else effect.act(case, machine, one.request, carry)
            except ConnectionRefusedError:
                break
            done = True
            if _answer(reply) != one.answer:
                break
            number += 1
        return number

    def _fork(self) -> bool:
        """True in the child. The trunk waits for it, and knows afterwards what it came to."""
        sys.stdout.flush()
        reader, writer = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(reader)
            self._writer = writer
            gc.disable()
            self._stage.share_world()
            return True
        os.close(writer)
        with os.fdopen(reader) as stream:
            for line in stream:
                found = Result(**json.loads(line))
                self._known[found.case] = found
                append(self._results, found)
        _pid, status = os.waitpid(pid, 0)
        if status:
            print(f"a case at exchange {self._number} ended with status {status}", file=sys.stderr, flush=True)
        return False

    def _write(self, result: Result) -> None:
        self._known[result.case] = result
        append(self._results, result)

    # -- in a child

    def _begin(self, effect: Effect, here: Exchange) -> Case:
        self._here, self._began = here, time.monotonic()
        case = Case(self._stage, self._watch, effect, self._number, self._command, self._undisturbed.end, self._memory)
        case.done = self._finish
        self._case = case
        return case

    def _in_three_ways(
        self, effects: list[Effect], here: Exchange, machine: Any, data: bytes, carry: Callable[[], Reply]
    ) -> Reply:
        """A rerun beside the hanging run is played once; then this run is gone, or goes on with or without its parent."""
        case = self._begin(effects[0], here)
        try:
            reply = carry()
        finally:
            case.watch.look()
        case.rerun_beside()
        for place, effect in enumerate(effects):
            last = place == len(effects) - 1
            if not last:
                sys.stdout.flush()
                pid = os.fork()
                if pid:
                    os.waitpid(pid, 0)
                    continue
                if self._stage.own:
                    self._stage.share_world()
            case.turn_into(effect)
            if effect.name == "killed":
                self._finish(case)
            case.command.parent_killed = effect.name == "orphaned"
            return reply
        raise AssertionError("no effect at all")

    def _finish(self, case: Case) -> NoReturn:
        try:
            outcome, findings = case.judge()
            self._tell(case, outcome, findings)
        except BaseException:  # noqa: BLE001  # told as the case's result
            self._crashed(case)
        self._leave()

    def _crashed(self, case: Case) -> NoReturn:
        text = traceback.format_exc()
        self._tell(case, "wrong", [f"the case broke: {text.strip().splitlines()[-1]}", text])
        self._leave()

    def _leave(self) -> NoReturn:
        self._stage.leave()
        os._exit(0)

    def _tell(self, case: Case, outcome: str, findings: list[str]) -> None:
        for number, run in enumerate(case.runs if self._show else ()):
            print(f"-- run {number + 1}: status {run.status}, errors {', '.join(run.kinds) or 'none'}")
            print("\n".join(f"   {done.task}: {done.result.get('msg')}" for done in run.failures()), flush=True)
        kinds: list[str] = []
        for run in case.runs:
            kinds += [kind for kind in run.kinds if kind not in kinds]
        result = Result(
            scenario=case.scenario.name,
            effect=case.effect.name,
            number=case.number,
            what=self._here.what,
            kind=self._here.kind,
            outcome=outcome,
            runs=len(case.runs),
            kinds=kinds,
            findings=findings,
            seconds=round(time.monotonic() - self._began, 2),
            how=case.how,
            audited=bool(case.should) or (case.audited and self._here.kind != CHANGE),
        )
        os.write(self._writer, (json.dumps(dataclasses.asdict(result)) + "\n").encode())


def append(results: Path, result: Result) -> None:
    handle = os.open(results, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(handle, (json.dumps(dataclasses.asdict(result)) + "\n").encode())
    os.close(handle)


def _position(frame: Any) -> int:
    """Where in the code a request is sent from, down to the task's beginning."""
    lines = []
    while frame is not None and frame.f_code.co_name != "start":
        lines.append((frame.f_code.co_filename, frame.f_lineno))
        frame = frame.f_back
    return hash(tuple(lines))


def _answer(reply: Reply) -> str:
    """What of a reply a caller can depend on: everything but the header, which has ids of its own."""
    body = reply.body[max(reply.body.find(b":Body"), 0) :]
    return hashlib.sha256(repr((reply.status, body)).encode()).hexdigest()


def describe(summary: Summary) -> str:
    name = f"{summary.class_name}.{summary.method}" if summary.method else summary.class_name
    if summary.query:
        words = summary.query.split()
        low = [word.lower() for word in words]
        name = words[low.index("from") + 1] if "from" in low[:-1] else summary.class_name
    return f"{summary.machine} {summary.action} {name}"


def _busy(world: Any) -> bool:
    return any(is_busy(machine) for machine in world.machines)


def undisturbed(scenario: Scenario, *, switches: Mapping[str, str] | None = None, runs: int = 1) -> Undisturbed:
    """The run without a fault, in a fork of its own so that it leaves nothing behind; repeated until it is well, `runs` times."""
    one_process.prepare()
    return in_fork(lambda: run_undisturbed(scenario, switches, runs))  # type: ignore[no-any-return]


def run_undisturbed(scenario: Scenario, switches: Mapping[str, str] | None = None, runs: int = 1) -> Undisturbed:
    """The same in this process, which is warm afterwards: everything that a run imports and compiles is there."""
    asked: set[str] = set()
    read = Switches.__getitem__

    def recorded(chosen: Switches, identifier: str) -> str:
        asked.add(identifier)
        return read(chosen, identifier)

    Switches.__getitem__ = recorded  # type: ignore[method-assign]
    try:
        return _recorded(scenario, switches, runs, asked)
    finally:
        Switches.__getitem__ = read  # type: ignore[method-assign]


def _recorded(scenario: Scenario, switches: Mapping[str, str] | None, runs: int, asked: set[str]) -> Undisturbed:
    stage = Stage(scenario, switches=switches)
    watch = Watch(stage)
    seen: list[Exchange] = []
    states: list[str] = []
    slept = [False]
    world, controller = stage.world, stage.controller

    def hook(machine: Any, data: bytes, carry: Callable[[], Reply]) -> Reply:
        summary = one_process.summary_of(machine, data)
        vm = scenario.vm_of(world)
        waited, slept[0] = slept[0], False
        answer = ""
        row = [describe(summary), kind_of(summary), _busy(world), vm is not None and vm.running, moves(world), waited]
        try:
            reply = carry()
            answer = _answer(reply)
            return reply
        finally:
            seen.append(Exchange(*row, machine.name, controller.account, data, answer))
            watch.look()

    def ended(command: Command, done: Any) -> None:
        remember(command, done)
        states.append(boundary(command, world, False, ([], 0, False), 0, ""))

    def sleep(seconds: float) -> None:
        slept[0] = True
        controller.pass_time(seconds)

    controller.hook, controller.on_result, controller.sleep = hook, ended, sleep
    began = time.monotonic()
    try:
        commands = [stage.run()]
        while commands[-1].status and len(commands) < runs:
            world.clock.advance(BETWEEN_RUNS_S)
            commands.append(stage.run())
        command, now = commands[-1], watch.look()
        findings = [*watch.findings, *nobody_left_quiesced(now), *nothing_runs(world)]
        findings += no_secret_in(stage, commands)
        if command.status == 0:
            findings += scenario.proof(world, now)
        return Undisturbed(
            exchanges=seen,
            end=plain(scenario.end_state(world, now)),
            findings=findings,
            status=int(command.status or 0),
            seconds=time.monotonic() - began,
            last_words=command.last_words if command.status else "",
            kinds=command.kinds,
            runs=len(commands),
            asked=sorted(asked),
            states=states,
        )
    finally:
        stage.close()


def no_secret_in(stage: Stage, commands: list[Command]) -> list[str]:
    from .invariants import no_secret

    return list(no_secret(stage.world, texts(stage, commands)))


def in_fork(work: Callable[[], Any]) -> Any:
    """What `work` returns, done in a fork; RuntimeError with its traceback when it fails."""
    return next(in_forks([work], jobs=1))()


def in_forks(works: Iterable[Callable[[], Any]], *, jobs: int) -> Iterator[Callable[[], Any]]:
    """Each piece of work in a fork of its own, several at once; gives, in order, what to call for each one's answer."""
    begun: deque[tuple[int, int]] = deque()
    for work in works:
        if len(begun) >= jobs:
            yield _ended(*begun.popleft())
        begun.append(_begun(work))
    while begun:
        yield _ended(*begun.popleft())


def _begun(work: Callable[[], Any]) -> tuple[int, int]:
    sys.stdout.flush()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writer)
        return pid, reader
    os.close(reader)
    gc.disable()
    try:
        answer = (True, work())
    except BaseException:  # noqa: BLE001  # carried to the parent
        answer = (False, traceback.format_exc())
    with contextlib.suppress(BrokenPipeError), os.fdopen(writer, "wb") as stream:
        pickle.dump(answer, stream)
    sys.stdout.flush()
    os._exit(0)


def _ended(pid: int, reader: int) -> Callable[[], Any]:
    with os.fdopen(reader, "rb") as stream:
        data = stream.read()
    os.waitpid(pid, 0)
    is_good, answer = pickle.loads(data) if data else (False, "the fork died")  # noqa: S301  # from our own fork

    def found() -> Any:
        if not is_good:
            raise RuntimeError(answer)
        return answer

    return found


__all__ = [
    "Choose",
    "Exchange",
    "Result",
    "Trunk",
    "Undisturbed",
    "append",
    "differences",
    "in_forks",
    "run_undisturbed",
    "undisturbed",
]
