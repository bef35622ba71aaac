# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs ansible-playbook inside this process against a simulated world, so that one moment of it can be copied by a fork.

Responsible for: everything of a real command that makes copies impossible or slow, replaced at the narrowest seam there is.
Workers run where they are started instead of in forks of their own; the HTTP library below `_channel.Channel` hands its
envelopes to the world in memory; the product's clock and sleep are the world's. Command line, inventory, playbook, roles,
strategy, templating, action plugins and the channel's own repairs are the real ones. Real forks and real HTTP are what
tests/e2e is about. Not responsible for: what happens at an exchange (the hook of `Controller`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import random
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from simulator.door_memory import caller_of, endpoint_of, exchange
from simulator.endpoint import Reply
from simulator.faults import Dropped

COLLECTIONS = Path(sys.prefix) / "collections"
#: What a wait of the product takes at least, so that a poll interval of 0 cannot stop simulated time.
LEAST_SLEEP_S = 1.0
KILLED = -9


@dataclasses.dataclass(frozen=True, kw_only=True)
class Done:
    """What one task of a run returned."""

    host: str
    task: str
    action: str
    status: str
    result: Mapping[str, Any]


@dataclasses.dataclass(kw_only=True)
class Command:
    """One ansible-playbook command, its tasks and its exit code."""

    status: int | None = None
    tasks: list[Done] = dataclasses.field(default_factory=list)
    screen: list[str] = dataclasses.field(default_factory=list)
    #: True once the process that started the workers is gone.
    parent_killed: bool = False
    #: Digest of what its tasks have returned so far (`case.remember`).
    history: str = ""
    #: What the worker would have told it.
    orphan: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def failures(self) -> list[Done]:
        return [done for done in self.tasks if done.status in ("failed", "unreachable")]

    @property
    def last_words(self) -> str:
        failed = self.failures()
        return str(failed[-1].result.get("msg", "")) if failed else ""

    @property
    def kinds(self) -> list[str]:
        """`error.kind` of every task that failed, in order, without repetition."""
        found = [str((done.result.get("error") or {}).get("kind", "")) for done in self.failures()]
        return [kind for number, kind in enumerate(found) if kind and kind not in found[:number]]

    @property
    def named(self) -> bool:
        """Whether something says why it failed: a task's `error.kind`, or the sentence of a role's own check."""
        return bool(self.kinds) or any(done.action.endswith(".assert") for done in self.failures())


class ParentGone(BaseException):
    """ansible-playbook was killed: the task that its worker was in has ended, and no other follows."""


class Controller:
    """The machine that ansible-playbook runs on: the commands started on it, and the way from it to the world.

    Args:
        world: of simulator.world.
        inventory: as an operator writes it.
        folder: for the inventory file; nothing else is written there.
    """

    def __init__(self, world: Any, inventory: Mapping[str, Any], folder: Path) -> None:
        self.world = world
        #: Called with (machine, request, carry), where `carry()` lets the world answer; returns what the client gets.
        self.hook: Callable[[Any, bytes, Callable[[], Reply]], Reply] = lambda _machine, _data, carry: carry()
        #: Called instead of sleeping, with the seconds.
        self.sleep: Callable[[float], None] = self.pass_time
        #: Told the name of every task that has ended well.
        self.on_task: Callable[[str], None] = lambda _task: None
        #: Of the request that is under way.
        self.account = ""
        #: Told the result of every task before the run goes on.
        self.on_result: Callable[[Command, Done], None] = lambda _command, _done: None
        self._dice = random.Random(str(world.seed))
        self._inventory = folder / "inventory.json"
        self._inventory.write_text(json.dumps(inventory), encoding="utf-8")
        self._addresses = {address: machine for machine in world.machines for address in machine.addresses}

    def pass_time(self, seconds: float) -> None:
        self.world.clock.advance(max(seconds, LEAST_SLEEP_S))

    def new_id(self) -> str:
        return str(uuid.UUID(int=self._dice.getrandbits(128), version=4)).upper()

    def monotonic(self) -> float:
        return float(self.world.clock.utc().timestamp())

    def run(self, playbook: str, variables: Mapping[str, Any], *arguments: str) -> Command:
        """One command from its start to its end."""
        return self.go_on(Command(), playbook, variables, *arguments)

    def go_on(self, command: Command, playbook: str, variables: Mapping[str, Any], *arguments: str) -> Command:
        """As `run`, into a command that the caller looks at meanwhile."""
        words = ["-i", str(self._inventory), playbook, "-e", json.dumps(variables), *arguments]
        with _current(_Session(controller=self, command=command)):
            try:
                command.status = _ansible_playbook(words)
            except ParentGone:
                command.status = KILLED
        return command

    def post(self, address: str, account: str, data: bytes) -> Reply:
        machine = self._addresses[address]
        self.account = account

        def carry() -> Reply:
            if not machine.answers:
                raise ConnectionRefusedError(111, "Connection refused")
            return exchange(machine, caller_of(machine, account), data)

        return self.hook(machine, data, carry)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Session:
    controller: Controller
    command: Command


_sessions = threading.local()


@contextlib.contextmanager
def _current(session: _Session) -> Iterator[None]:
    before = getattr(_sessions, "session", None)
    _sessions.session = session
    try:
        yield
    finally:
        _sessions.session = before


def _session() -> _Session:
    return _sessions.session  # type: ignore[no-any-return]


# -- ansible in one process ---------------------------------------------------------------------------------------------


def prepare() -> None:
    """Import ansible and the collection and put the replacements in place; once per process, before any `Controller`."""
    if getattr(prepare, "done", False):
        return
    os.environ.update(
        {
            "ANSIBLE_COLLECTIONS_PATH": os.environ.get("ANSIBLE_COLLECTIONS_PATH", str(COLLECTIONS)),
            "ANSIBLE_HOME": str(Path(sys.prefix) / "ansible-home"),
            "ANSIBLE_CONFIG": str(Path(__file__).with_name("ansible.cfg")),
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_RETRY_FILES_ENABLED": "false",
            "LC_ALL": "C.UTF-8",
            "HYPERV_PASSTHROUGH_NTFS": "no",  # the simulator's own file system: a C library's memory is no part of a world
        }
    )
    import signal
    import warnings

    warnings.filterwarnings("ignore", message="AnsibleCollectionFinder has already been configured")
    from ansible.cli.playbook import PlaybookCLI
    from ansible.executor import task_queue_manager
    from ansible.plugins import strategy
    from ansible.plugins.loader import init_plugin_loader
    from ansible.utils.display import Display

    keep = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    PlaybookCLI(["ansible-playbook", "--version"])
    init_plugin_loader()
    _replace_transport()
    task_queue_manager.FinalQueue = _InlineQueue
    task_queue_manager.TaskQueueManager._signal_handler = keep[signal.SIGTERM]
    task_queue_manager.signal = _NoSignals
    task_queue_manager.TaskQueueManager.load_callbacks = _load_callbacks
    strategy.WorkerProcess = _InlineWorker
    strategy.results_thread_main = _no_thread
    Display.display = _display
    _remember_templates()
    prepare.done = True  # type: ignore[attr-defined]


def _remember_templates() -> None:
    """A template is compiled once in a process; each command has an environment of its own."""
    from jinja2 import Environment

    compiled: dict[Any, Any] = {}
    original = Environment.compile

    def compile_once(
        self: Any,
        source: Any,
        name: str | None = None,
        filename: str | None = None,
        raw: bool = False,
        defer_init: bool = False,
    ) -> Any:
        if not isinstance(source, str):
            return original(self, source, name, filename, raw, defer_init)
        key = (type(self), str(source), name, filename, raw, defer_init, self.variable_start_string, self.trim_blocks)
        if key not in compiled:
            compiled[key] = original(self, source, name, filename, raw, defer_init)
        return compiled[key]

    Environment.compile = compile_once


class _NoSignals:
    """In place of the module `signal`: commands here run in threads too, and the process keeps its own handlers."""

    SIGINT, SIGTERM = 2, 15

    @staticmethod
    def signal(_number: int, _handler: object) -> None:
        return


def _ansible_playbook(words: list[str]) -> int:
    from ansible.cli.playbook import PlaybookCLI
    from ansible.errors import AnsibleError
    from ansible.parsing.vault import VaultSecretsContext
    from ansible.utils.context_objects import GlobalCLIArgs
    from ansible.utils.vars import load_extra_vars

    # ansible remembers the command line of the first command in a process, and what its -e came to
    GlobalCLIArgs._Singleton__instance = None
    load_extra_vars.extra_vars = None
    cli = PlaybookCLI(["ansible-playbook", *words])
    VaultSecretsContext._current = None  # ansible expects one command in a process
    try:
        cli.parse()
        return int(cli.run() or 0)
    except AnsibleError as error:
        _session().command.screen.append(str(error))
        return 1


def _no_thread(strategy: Any) -> None:
    """In place of the thread that reads the queue: the queue itself hands everything over."""
    strategy._final_q.strategy = strategy


class _InlineQueue:
    """In place of the queue from workers to the strategy."""

    strategy: Any = None

    def send_callback(self, method_name: str, task_result: Any) -> None:
        self.strategy._tqm.send_callback(method_name, task_result)

    def send_task_result(self, task_result: Any) -> None:
        found = self.strategy._convert_wire_task_result_to_raw(task_result.as_wire_task_result())
        with self.strategy._results_lock:
            self.strategy._results.append(found)

    def send_display(self, method: str, *arguments: Any, **more: Any) -> None:
        _display(None, str(arguments[0]) if arguments else method, **more)

    def send_prompt(self, **_more: Any) -> None:
        raise AssertionError("a task of the collection asked for input")

    def put(self, _item: object) -> None:
        """The strategy's own farewell to its thread."""

    def close(self) -> None:
        """Nothing to close."""


class _InlineWorker:
    """In place of a forked worker: the task is executed at once, on copies of what a fork would have copied."""

    exitcode = 0
    pid = None

    def __init__(self, **given: Any) -> None:
        self._given = given

    def start(self) -> None:
        from ansible._internal import _task
        from ansible.executor.task_executor import TaskExecutor
        from ansible.executor.task_result import _RawTaskResult

        given = self._given
        task = given["task"].copy(exclude_parent=True)
        task._parent = given["task"]._parent
        loader = given["loader"]
        kept = loader._tempfiles
        loader._tempfiles = set()
        _forget_channels()
        try:
            with _task.TaskContext(task):
                result = TaskExecutor(
                    given["host"],
                    task,
                    dict(given["task_vars"]),
                    given["play_context"].copy(),
                    loader,
                    given["shared_loader_obj"],
                    given["final_q"],
                    given["variable_manager"],
                ).run()
        finally:
            loader._tempfiles = kept
        session = _session()
        if session.command.parent_killed:
            session.command.orphan = dict(result)
            raise ParentGone
        status = "failed" if result.get("failed") else "skipped" if result.get("skipped") else "ok"
        session.controller.on_result(
            session.command,
            Done(
                host=given["host"].get_name(),
                task=task.get_path() or task.get_name(),
                action=task.action,
                status=status,
                result=result,
            ),
        )
        given["final_q"].send_task_result(
            _RawTaskResult(host=given["host"], task=task, return_data=result, task_fields=task.dump_attrs())
        )

    def is_alive(self) -> bool:
        return False

    def close(self) -> None:
        """Nothing to close."""


def _forget_channels() -> None:
    """A worker's channels die with it."""
    channel = sys.modules.get(f"{_UTILS}._channel")
    if channel is not None:
        channel._channels.clear()


def _display(_self: object, text: str, *_arguments: Any, **_more: Any) -> None:
    session = getattr(_sessions, "session", None)
    if session is not None:
        session.command.screen.append(text)


def _load_callbacks(manager: Any) -> None:
    if manager._callback_plugins:
        return
    from ansible.plugins.callback import CallbackBase

    session = _session()
    command = session.command

    class Collect(CallbackBase):  # type: ignore[misc]
        CALLBACK_VERSION = 2.0
        CALLBACK_TYPE = "stdout"
        CALLBACK_NAME = "collect"

        def _keep(self, status: str, result: Any) -> None:
            command.tasks.append(
                Done(
                    host=result.host.get_name(),
                    task=result.task.get_name(),
                    action=result.task.action,
                    status=status,
                    result=dict(result.result),
                )
            )

        def v2_runner_on_ok(self, result: Any) -> None:
            self._keep("ok", result)
            session.controller.on_task(result.task.get_name())

        def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
            self._keep("failed", result)

        def v2_runner_on_unreachable(self, result: Any) -> None:
            self._keep("unreachable", result)

        def v2_runner_on_skipped(self, result: Any) -> None:
            self._keep("skipped", result)

    callback = Collect()
    callback._init_callback_methods()
    manager._callback_plugins.append(callback)


# -- the product's way out ----------------------------------------------------------------------------------------------

_UTILS = "ansible_collections.hyperv.passthrough.plugins.plugin_utils"


def _replace_transport() -> None:
    """Put the world in the place of pywinrm and pypsrp, and its clock in the place of the controller's."""
    import importlib

    channel: Any = importlib.import_module(f"{_UTILS}._channel")
    task: Any = importlib.import_module(f"{_UTILS}._task")
    if channel._PLUGINS.get("winrm") is _in_memory:
        return
    channel._PLUGINS = {"winrm": _in_memory, "psrp": _in_memory}
    task.Run.sleep = lambda _run, seconds: _session().controller.sleep(seconds)
    task.Run.new_id = lambda _run: _session().controller.new_id()
    task.Run.now = lambda _run: _session().controller.monotonic()
    task.Run.is_orphan = lambda _run: _session().command.parent_killed


def _in_memory(connection: Any) -> tuple[tuple[Any, ...], Callable[[], Any]]:
    import importlib

    import requests

    channel = importlib.import_module(f"{_UTILS}._channel")
    address, account = str(connection.get_option("remote_addr")), str(connection.get_option("remote_user"))
    endpoint = f"http://{address}:5985/wsman"
    controller = _session().controller

    def post(envelope: bytes) -> bytes:
        try:
            reply = controller.post(address, account, envelope)
        except ConnectionRefusedError as error:
            from urllib3.exceptions import NewConnectionError

            raise requests.exceptions.ConnectionError(NewConnectionError(None, str(error))) from error  # type: ignore[arg-type]
        except Dropped as error:
            raise requests.exceptions.ConnectionError(ConnectionResetError(104, "Connection reset by peer")) from error
        if reply.truncated:
            raise requests.exceptions.ChunkedEncodingError("the connection was closed in the middle of the answer")
        if reply.status != 200:
            raise channel.HttpStatus(reply.status, reply.body)
        return reply.body

    def build() -> Any:
        carrier = channel.Carrier(prepare=lambda: None, post=post, close=lambda: None)
        return channel.Channel(
            [lambda: carrier], endpoint=endpoint, classify=lambda err: channel.classify(err, endpoint)
        )

    return ("memory", address, account), build


def summary_of(machine: Any, data: bytes) -> Any:
    """What a request is about, as the transcript says it."""
    return endpoint_of(machine).summary(data)
