# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Breaks one scenario at its exchanges: the undisturbed run is the trunk, and every case is a fork of it.

Responsible for: running the trunk, forking a case off at an exchange, rerunning the command until it converges, looking at
the world after every exchange, judging the end. Not responsible for: what an effect does (`effects.py`), what must hold
(`invariants.py`, the scenario), choosing and reporting (`__main__.py`, `report.py`).

Two things make it cheap enough to be done at every exchange. When the same request is sent again at once, in the state of the
world in which it was broken, everything goes on as in the trunk: the case ends there as `repaired`; those at every
`PLAY_OUT`-th exchange are played to their end all the same. And a rerun that would begin in a state in which another case's
rerun began takes over that one's end; `state.py` says what makes two states the same.

A fork copies the whole state of command and world at once, so a case costs only what comes after its fault. The world's
files lie in a relative folder: a fork gets a copy of it, and changes into the copy.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import json
import os
import shutil
import sys
import tempfile
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from simulator.assumed import Switches, import_everything
from simulator.door_memory import rules_of
from simulator.endpoint import Reply, Summary
from simulator.world import World

from . import one_process
from .effects import Effect, is_busy, kind_of
from .invariants import BASE, Glance, glance, no_secret, nobody_left_quiesced, nothing_runs
from .one_process import Command, Controller
from .scenarios import Scenario, hooks_in, inventory_of
from .state import fingerprint, without_ids

RERUNS = 3
PLAY_OUT = 10
LEASE_S = 301  # longer than a lease lives
BETWEEN_RUNS_S = 30  # how long an operator takes to run the command again
WORLD = "world"
MEMORY = Path("/dev/shm")


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
    """

    scenario: str
    effect: str
    number: int
    what: str
    kind: str
    outcome: str
    runs: int
    kinds: list[str]
    findings: list[str]
    seconds: float
    taken_over: bool = False

    @property
    def case(self) -> str:
        return f"{self.scenario}/{self.effect}/{self.number}"

    @property
    def line(self) -> str:
        said = "" if not self.findings else ": " + "; ".join(self.findings)
        return f"make faults CASE={self.case}  # {self.what}: {self.outcome} after {self.runs} runs{said}"


class Exchange(NamedTuple):
    """One exchange of the undisturbed run: what it is about, what kind it is, whether a backup runs, whether the VM does."""

    what: str
    kind: str
    busy: bool
    vm_runs: bool


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


class Stage:
    """A world with its controller, in a folder of its own, prepared for a scenario."""

    def __init__(self, scenario: Scenario, *, switches: Mapping[str, str] | None = None) -> None:
        one_process.prepare()
        import_everything()
        self.scenario = scenario
        self.folder = Path(tempfile.mkdtemp(prefix="hyperv-faults-", dir=MEMORY if MEMORY.is_dir() else None))
        self._origin = Path.cwd()
        os.chdir(self.folder)
        chosen = f"{scenario.world}\nswitches: {json.dumps({**scenario.switches, **(switches or {})})}\n"
        self.world = World.from_yaml(chosen, Path(WORLD))
        self.controller = Controller(self.world, inventory_of(self.world), self.folder)
        self.variables = dict(scenario.variables)
        if scenario.hook is not None:
            hook = scenario.hook
            hook(self.world, "")
            self.variables |= {
                f"{scenario.playbook.rpartition('.')[2]}_{k}": v for k, v in hooks_in(self.folder).items()
            }
            self.controller.on_task = lambda task: hook(self.world, task)
        if scenario.prepare is not None:
            scenario.prepare(self.world, self.controller)

    def run(self) -> Command:
        return self.controller.run(self.scenario.playbook, self.variables)

    def go_on(self, command: Command) -> Command:
        return self.controller.go_on(command, self.scenario.playbook, self.variables)

    def copy_world(self) -> None:
        """In a fork: leave the shared files to the others."""
        folder = Path(tempfile.mkdtemp(prefix="hyperv-faults-", dir=self.folder))
        _copy_tree(self.folder / WORLD, folder / WORLD)
        self.folder = folder
        os.chdir(folder)

    def close(self) -> None:
        os.chdir(self._origin)
        shutil.rmtree(self.folder, ignore_errors=True)


def _copy_tree(source: Path, target: Path) -> None:
    """A copy in which holes stay holes."""
    for place, folders, files in os.walk(source):
        here = target / Path(place).relative_to(source)
        here.mkdir(parents=True, exist_ok=True)
        for name in folders:
            (here / name).mkdir(exist_ok=True)
        for name in files:
            _copy_file(Path(place) / name, here / name)


def _copy_file(source: Path, target: Path) -> None:
    with source.open("rb") as reader, target.open("wb") as writer:
        size = os.fstat(reader.fileno()).st_size
        writer.truncate(size)
        offset = 0
        while offset < size:
            try:
                start = os.lseek(reader.fileno(), offset, os.SEEK_DATA)
            except OSError:
                return
            offset = min(size, os.lseek(reader.fileno(), start, os.SEEK_HOLE))
            position = start
            while position < offset:
                position += os.copy_file_range(reader.fileno(), writer.fileno(), offset - position, position, position)


class Watch:
    """Looks at the world after every exchange of everybody."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.findings: list[str] = []
        self.last: Glance = glance(stage.world)

    def look(self) -> Glance:
        now = glance(self._stage.world)
        for invariant in self._stage.scenario.invariants:
            for finding in invariant(self.last, now):
                text = f"exchange {rules_of(self._stage.world).exchanges}: {finding}"
                if len(self.findings) < 20 and not any(one.endswith(finding) for one in self.findings):
                    self.findings.append(text)
        self.last = now
        return now


class Case:
    """One fault at one exchange, from there to the end."""

    def __init__(self, stage: Stage, watch: Watch, effect: Effect, number: int, command: Command, end: Any) -> None:
        self.stage, self.watch, self.effect, self.number, self.command = stage, watch, effect, number, command
        self.scenario, self.world = stage.scenario, stage.world
        self.unreachable: set[str] = set()
        self.before_rerun: list[Callable[[], object]] = []
        self.runs: list[Command] = [command]
        self.done: Callable[[Case], NoReturn] | None = None
        self.taken_over = False
        self.may_stop_early = True
        self.memory: Path | None = None
        self._end = end
        self._rest: tuple[str, list[str]] | None = None
        self._request: bytes | None = None
        self._state = ""
        self._before_rerun: Glance | None = None
        self._after_rerun: Glance | None = None
        self._turns: _Turns | None = None

    # -- exchanges from the fault on

    def exchange(self, machine: Any, data: bytes, carry: Callable[[], Reply]) -> Reply:
        if self._turns is not None:
            self._turns.give()
        if machine.name in self.unreachable:
            raise ConnectionRefusedError(111, "Connection refused")
        asked, self._request = self._request, None
        if asked is not None and asked == without_ids(data) and fingerprint(self.world) == self._state:
            self._rest = ("wrong" if self.watch.findings else "repaired", [])
            assert self.done is not None
            self.done(self)
        try:
            return carry()
        finally:
            if not _only_looks(data) or _busy(self.world):
                self.watch.look()

    def act(self, machine: Any, data: bytes, carry: Callable[[], Reply]) -> Reply:
        """The broken exchange itself."""
        if self.may_stop_early and self.effect.of_the_wire:
            self._request, self._state = without_ids(data), fingerprint(self.world)
        try:
            return self.effect.act(self, machine, data, carry)
        finally:
            self.watch.look()

    # -- what effects ask for

    def rerun_beside(self) -> None:
        """The command is given again and runs to its end, while this run hangs in its exchange."""
        if not self.command.parent_killed:
            self.world.clock.advance(LEASE_S)
        self._before_rerun = self.watch.look()
        command = Command()
        self.runs.append(command)
        _in_thread(lambda: self.stage.go_on(command))
        self._after_rerun = self.watch.look()

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
        known: Path | None = None
        for number in range(RERUNS):
            self.unreachable.clear()
            for action in self.before_rerun:
                action()
            self.before_rerun.clear()
            self.world.clock.advance(BETWEEN_RUNS_S)
            if not number and self.memory is not None:
                known = self.memory / fingerprint(self.world)
                if known.exists():
                    outcome, findings = json.loads(known.read_text(encoding="utf-8"))
                    self._rest, self.taken_over = (outcome, findings), True
                    return
                seen = len(self.watch.findings)
            self.runs.append(self.stage.run())
            if self.runs[-1].status == 0:
                break
        if known is not None:
            outcome, findings = self._ending(self.watch.look())
            findings = [*self.watch.findings[seen:], *findings]
            del self.watch.findings[seen:]
            self._rest = ("wrong" if findings else outcome, findings)
            partial = known.with_suffix(f".{os.getpid()}")
            partial.write_text(json.dumps(self._rest), encoding="utf-8")
            partial.replace(known)

    def judge(self) -> tuple[str, list[str]]:
        """(outcome, findings)."""
        now = self.watch.look()
        findings = list(self.watch.findings)
        findings += self._changed_afterwards(now)
        for number, run in enumerate(self.runs):
            if run.status not in (0, None, one_process.KILLED) and (not run.named or "internal" in run.kinds):
                findings.append(
                    f"run {number + 1} failed without a name of its own: {run.last_words or run.screen[-3:]}"
                )
        findings += no_secret(self.world, _texts(self.stage, self.runs))
        outcome, more = self._rest or self._ending(now)
        findings += more
        return ("wrong" if findings else outcome), findings

    def _changed_afterwards(self, now: Glance) -> Iterator[str]:
        """What a run did after another one had taken over and finished; a set of its own, from its start, it may make."""
        before, then = self._before_rerun, self._after_rerun
        if before is None or then is None or self.runs[1].status != 0:
            return
        for name, text in then.sets.items():
            if before.sets.get(name) != text and now.sets.get(name) != text:
                yield f"the overtaken run changed the record {name} after the other one had finished it"
        if self.command.parent_killed:
            for what in ("sets", "runs", "starts", "versions"):
                if getattr(now, what) != getattr(then, what):
                    yield f"a worker whose parent is gone changed {what} after the rerun had finished"

    def _ending(self, now: Glance) -> tuple[str, list[str]]:
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
        findings += differences(self._end, _plain(self.scenario.end_state(self.world, now)))
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


def _texts(stage: Stage, runs: list[Command]) -> dict[str, str]:
    """Everything that a run says or leaves, where no secret may be."""
    found = {f"the screen of run {number + 1}": "\n".join(run.screen) for number, run in enumerate(runs)}
    for number, run in enumerate(runs):
        found[f"the results of run {number + 1}"] = repr([done.result for done in run.tasks])
    for machine in stage.world.machines:
        if machine.scheduler is not None:
            found[f"the tasks of {machine.name}"] = repr([vars(task.definition) for task in machine.scheduler.tasks()])
            found[f"the registry of {machine.name}"] = _registry_text(machine)
    return found


def _registry_text(machine: Any) -> str:
    key = machine.registry.find(0x80000002, BASE)
    return repr(_values(key)) if key is not None else ""


def _values(key: Any) -> Any:
    return [[str(value) for value in key.values.values()], [_values(one) for one in key.subkeys.values()]]


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str, sort_keys=True))


def differences(wanted: Any, found: Any, path: str = "") -> list[str]:
    """Where two JSON values differ, a few of them."""
    if isinstance(wanted, dict) and isinstance(found, dict):
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


class Trunk:
    """The undisturbed run, with cases forked off.

    Args:
        choose: (exchange, what, kind, busy) -> effects to be tried there.
        results: where a case puts its line.
        jobs: forks at once.
        deadline: no new case begins after this moment of `time.monotonic`.
        show: tell what the runs of a case said.
    """

    def __init__(
        self,
        scenario: Scenario,
        undisturbed: Undisturbed,
        *,
        choose: Callable[[int, str, str, bool], Iterator[Effect]],
        results: Path,
        jobs: int,
        deadline: float | None = None,
        show: bool = False,
    ) -> None:
        self._scenario, self._undisturbed = scenario, undisturbed
        self._choose, self._results, self._jobs, self._deadline = choose, results, jobs, deadline
        self._show = show
        self._children: set[int] = set()
        self._number = 0
        self._case: Case | None = None
        self.stopped_at: int | None = None

    def run(self) -> None:
        self._stage = Stage(self._scenario)
        self._memory = self._stage.folder / "reruns"
        self._memory.mkdir()
        self._watch = Watch(self._stage)
        self._command = Command()
        self._stage.controller.hook = self._exchange
        gc.collect()
        gc.freeze()
        sys.stdout.flush()
        try:
            self._stage.go_on(self._command)
            if self._case is not None:
                self._case.rerun_until_good()
                self._finish(self._case)
        except BaseException:
            if self._case is None:
                raise
            self._crashed(self._case)
        finally:
            while self._children:
                self._wait()
            self._stage.close()

    def _exchange(self, machine: Any, data: bytes, carry: Callable[[], Reply]) -> Reply:
        if self._case is not None:
            return self._case.exchange(machine, data, carry)
        self._number += 1
        if self._deadline is not None and time.monotonic() > self._deadline:
            self.stopped_at = self.stopped_at or self._number
        summary = one_process.summary_of(machine, data)
        what, kind, busy = describe(summary), kind_of(summary), _busy(self._stage.world)
        vm = self._scenario.vm_of(self._stage.world)
        for effect in self._choose(self._number, what, kind, busy) if self.stopped_at is None else ():
            if effect.applies(vm) and self._fork():
                return self._begin(effect, what, kind).act(machine, data, carry)
        try:
            return carry()
        finally:
            self._watch.look()

    def _fork(self) -> bool:
        """True in the child, which has files of its own then."""
        while len(self._children) >= self._jobs:
            self._wait()
        reader, writer = os.pipe()
        pid = os.fork()
        if pid:
            os.close(writer)
            os.read(reader, 1)  # until the copy is made, or the child is gone
            os.close(reader)
            self._children.add(pid)
            return False
        os.close(reader)
        gc.disable()
        self._children = set()
        try:
            self._stage.copy_world()
            os.write(writer, b".")
            os.close(writer)
        except BaseException:  # noqa: BLE001  # a fork never returns into the trunk's code
            traceback.print_exc()
            os._exit(1)
        return True

    def _wait(self) -> None:
        pid, status = os.wait()
        self._children.discard(pid)
        if status:
            print(f"a case ended with status {status}", file=sys.stderr, flush=True)

    def _begin(self, effect: Effect, what: str, kind: str) -> Case:
        self._what, self._kind, self._began = what, kind, time.monotonic()
        case = Case(self._stage, self._watch, effect, self._number, self._command, self._undisturbed.end)
        case.done = self._finish
        case.may_stop_early = self._number % PLAY_OUT != 0
        case.memory = self._memory
        self._case = case
        return case

    def _finish(self, case: Case) -> NoReturn:
        try:
            outcome, findings = case.judge()
            self._write(case, outcome, findings)
        except BaseException:  # noqa: BLE001  # told as the case's result
            self._crashed(case)
        self._leave()

    def _crashed(self, case: Case) -> NoReturn:
        text = traceback.format_exc()
        self._write(case, "wrong", [f"the case broke: {text.strip().splitlines()[-1]}", text])
        self._leave()

    def _leave(self) -> NoReturn:
        os.chdir("/")
        shutil.rmtree(self._stage.folder, ignore_errors=True)
        os._exit(0)

    def _write(self, case: Case, outcome: str, findings: list[str]) -> None:
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
            what=self._what,
            kind=self._kind,
            outcome=outcome,
            runs=len(case.runs),
            kinds=kinds,
            findings=findings,
            seconds=round(time.monotonic() - self._began, 2),
            taken_over=case.taken_over,
        )
        line = (json.dumps(dataclasses.asdict(result)) + "\n").encode()
        handle = os.open(self._results, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.write(handle, line)
        os.close(handle)


def _only_looks(request: bytes) -> bool:
    """An enumeration: with nothing running, it leaves the world as it was."""
    return b"/enumeration/Enumerate<" in request or b"/enumeration/Pull<" in request


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
    return as_undisturbed(in_fork(lambda: run_undisturbed(scenario, switches, runs)))


def as_undisturbed(found: Mapping[str, Any]) -> Undisturbed:
    return Undisturbed(**{**found, "exchanges": [Exchange(*one) for one in found["exchanges"]]})


def run_undisturbed(scenario: Scenario, switches: Mapping[str, str] | None, runs: int) -> Mapping[str, Any]:
    asked: set[str] = set()
    read = Switches.__getitem__

    def recorded(chosen: Switches, identifier: str) -> str:
        asked.add(identifier)
        return read(chosen, identifier)

    Switches.__getitem__ = recorded  # type: ignore[method-assign]  # this fork does nothing else
    stage = Stage(scenario, switches=switches)
    watch = Watch(stage)
    seen: list[Exchange] = []

    def hook(machine: Any, data: bytes, carry: Callable[[], Reply]) -> Reply:
        summary = one_process.summary_of(machine, data)
        vm = scenario.vm_of(stage.world)
        runs = vm is not None and vm.running
        seen.append(Exchange(describe(summary), kind_of(summary), _busy(stage.world), runs))
        try:
            return carry()
        finally:
            watch.look()

    stage.controller.hook = hook
    began = time.monotonic()
    try:
        commands = [stage.run()]
        while commands[-1].status and len(commands) < runs:
            stage.world.clock.advance(BETWEEN_RUNS_S)
            commands.append(stage.run())
        command, now = commands[-1], watch.look()
        findings = [*watch.findings, *nobody_left_quiesced(now), *nothing_runs(stage.world)]
        findings += no_secret(stage.world, _texts(stage, commands))
        if command.status == 0:
            findings += scenario.proof(stage.world, now)
        return dataclasses.asdict(
            Undisturbed(
                exchanges=seen,
                end=_plain(scenario.end_state(stage.world, now)),
                findings=findings,
                status=int(command.status or 0),
                seconds=time.monotonic() - began,
                last_words=command.last_words if command.status else "",
                kinds=command.kinds,
                runs=len(commands),
                asked=sorted(asked),
            )
        )
    finally:
        stage.close()


def in_fork(work: Callable[[], Mapping[str, Any]]) -> Any:
    """What `work` returns, done in a fork; RuntimeError with its traceback when it fails."""
    return next(in_forks([work], jobs=1))()


def in_forks(works: Iterable[Callable[[], Mapping[str, Any]]], *, jobs: int) -> Iterator[Callable[[], Any]]:
    """Each piece of work in a fork of its own, several at once; gives, in order, what to call for each one's answer."""
    begun: deque[tuple[int, int]] = deque()
    for work in works:
        if len(begun) >= jobs:
            yield _ended(*begun.popleft())
        begun.append(_begun(work))
    while begun:
        yield _ended(*begun.popleft())


def _begun(work: Callable[[], Mapping[str, Any]]) -> tuple[int, int]:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writer)
        return pid, reader
    os.close(reader)
    gc.disable()
    try:
        answer: dict[str, Any] = {"found": work()}
    except BaseException:  # noqa: BLE001  # carried to the parent
        answer = {"trouble": traceback.format_exc()}
    with contextlib.suppress(BrokenPipeError), os.fdopen(writer, "w") as stream:
        json.dump(answer, stream, default=str)
    os._exit(0)


def _ended(pid: int, reader: int) -> Callable[[], Any]:
    with os.fdopen(reader) as stream:
        text = stream.read()
    os.waitpid(pid, 0)
    answer = json.loads(text or '{"trouble": "the fork died"}')

    def found() -> Any:
        if "trouble" in answer:
            raise RuntimeError(answer["trouble"])
        return answer["found"]

    return found


__all__ = [
    "Case",
    "Result",
    "Trunk",
    "Undisturbed",
    "as_undisturbed",
    "differences",
    "in_forks",
    "run_undisturbed",
    "undisturbed",
]
