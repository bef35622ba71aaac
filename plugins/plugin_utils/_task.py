# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this file is private to the hyperv.passthrough collection and may change without notice.
"""What every task of this collection does before and after its own work.

Responsible for: argument validation, refusing identities that YAML turned into numbers, the client for the task's target,
check and diff flags, progress lines, the guard against a dead controller, turning every error into one sentence with
`error.kind`. Not responsible for: what a task does (its `perform`), HTTP (`_channel`). No option of a task is a secret but
the CHAP secret of guest_disk (a test holds that), which masks its own errors; the account of a machine is its connection's.
"""

from __future__ import annotations

import dataclasses
import os
import time
import traceback
import typing as t
import uuid

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ._channel import ConnectionRefused, open_channel, open_sibling_channel
from ._hyperv import HypervError
from ._hyperv.schema import SCHEMA
from ._wsman import ReplyLost, WsmanClient, WsmanError

if t.TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ._channel import Channel

_display = Display()

_BECOME = "become is ignored: WS-Management runs as the account of the connection, which needs the rights itself"


class TaskError(Exception):
    """A refusal of the task itself: one sentence and a word for machines. `changed` tells what already happened."""

    def __init__(self, kind: str, sentence: str, *, changed: bool = False, **details: t.Any) -> None:
        super().__init__(sentence)
        self.kind = kind
        self.changed = changed
        self.details = details


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a task's `perform` returns; `data` holds the documented return keys, JSON types only."""

    data: Mapping[str, t.Any]
    changed: bool = False
    diff: Sequence[Mapping[str, str]] = ()
    warnings: Sequence[str] = ()


class Run:
    """One execution of a task: its arguments, its target, and the outside world as callables."""

    def __init__(self, action: HypervAction, arguments: Mapping[str, t.Any], task_vars: Mapping[str, t.Any]) -> None:
        self._action = action
        self._task_vars = task_vars
        self._client: WsmanClient | None = None
        self._controller = os.getppid()
        self._told_orphan = False
        self.arguments = arguments
        self.check_mode = bool(action._task.check_mode)
        self.target = str(action._task.delegate_to or task_vars.get("inventory_hostname") or "the target")
        self.changed = False  # set as soon as one step has landed, so that a failure afterwards tells the truth

    @property
    def client(self) -> WsmanClient:
        """The WS-Management client of the task's target; nothing is sent before its first use."""
        if self._client is None:
            self._client = self._client_over(open_channel(self._action._connection, target=self.target))
        return self._client

    def client_of(self, host: str) -> WsmanClient:
        """A client of another inventory host, built from that host's own connection variables."""
        return self._client_over(open_sibling_channel(self._action, host, self._task_vars))

    def _client_over(self, channel: Channel) -> WsmanClient:
        return WsmanClient(
            self._unless_orphan(channel.send),
            schema=SCHEMA,
            new_id=self.new_id,
            endpoint=channel.endpoint,
            operation_timeout_s=min(60, channel.operation_timeout_s),
        )

    def _unless_orphan(self, send: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
        """Stop at the first request after ansible-playbook died; what comes after that only gives back what is held."""

        def carry(envelope: bytes) -> bytes:
            if self.is_orphan() and not self._told_orphan:
                self._told_orphan = True
                raise TaskError(
                    "orphaned",
                    "the ansible-playbook that started this task is gone, so that nothing more is done; what was started goes on, "
                    "and running the playbook again attaches to it",
                )
            return send(envelope)

        return carry

    def new_id(self) -> str:
        return str(uuid.uuid4()).upper()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def now(self) -> float:
        """Seconds of the controller's monotonic clock, for limits on waiting; times in records come from the machine."""
        return time.monotonic()

    def is_orphan(self) -> bool:
        """True when ansible-playbook died and left this worker behind; such a worker must not change anything more."""
        return os.getppid() != self._controller

    def progress(self, line: str) -> None:
        """Show one line on the operator's screen while the task waits."""
        _display.display(f"{self.target}: {line}")


class HypervAction(ActionBase):  # type: ignore[misc]  # ansible-core ships no type hints
    """Base of every action plugin here. A subclass declares `SPEC` and `perform`; nothing else.

    `SPEC` holds the keyword arguments of core's argument spec validation; `IDENTITIES` names the options that must be
    strings in the playbook, because YAML turns 0123 or 6E5 into numbers and an identity would silently change.
    No option may hold a secret that the task does not mask itself.
    """

    SPEC: t.ClassVar[Mapping[str, t.Any]] = {"argument_spec": {}}
    IDENTITIES: t.ClassVar[frozenset[str]] = frozenset()
    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False

    def perform(self, run: Run) -> Outcome:
        raise NotImplementedError

    def run(self, tmp: t.Any = None, task_vars: Mapping[str, t.Any] | None = None) -> dict[str, t.Any]:
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        del tmp
        task_vars = task_vars or {}
        unquoted = _numbers_in(self._task.args, self.IDENTITIES)
        if unquoted:
            return {**result, **_failure("unquoted_identity", unquoted, target=None, changed=False)}
        try:
            _unused, arguments = self.validate_argument_spec(**self.SPEC)
        except AnsibleError as err:
            return {**result, **_failure("invalid_arguments", str(err), target=None, changed=False)}
        run = Run(self, arguments, task_vars)
        try:
            result.update(_success(self.perform(run), check_mode=run.check_mode))
        except (WsmanError, HypervError, ConnectionRefused, TaskError) as err:
            changed = run.changed or bool(getattr(err, "changed", False))
            details = getattr(err, "details", None) or {}
            sentence = f"{err}; only reading was interrupted, run again" if isinstance(err, ReplyLost) else str(err)
            result.update(_failure(err.kind, sentence, target=run.target, changed=changed, **details))
        except AnsibleError:
            raise
        except Exception as err:  # noqa: BLE001  # an operator never gets a traceback as an answer; -vvv shows it
            _display.vvv(traceback.format_exc())
            result.update(
                _failure(
                    "internal",
                    f"internal error in {self._task.action} on {run.target} ({type(err).__name__}: {err}); nothing more was "
                    "done; run again with -vvv and report what it shows",
                    target=run.target,
                    changed=run.changed,
                )
            )
        if self._play_context.become:
            result["warnings"] = [*result.get("warnings", []), _BECOME]
        return result


def _success(outcome: Outcome, *, check_mode: bool) -> dict[str, t.Any]:
    result: dict[str, t.Any] = {**outcome.data, "changed": outcome.changed}
    if check_mode and outcome.changed:
        result["planned"] = True
    if outcome.diff:
        result["diff"] = [dict(entry) for entry in outcome.diff]
    if outcome.warnings:
        result["warnings"] = list(outcome.warnings)
    return result


def _failure(kind: str, sentence: str, *, target: str | None, changed: bool, **details: t.Any) -> dict[str, t.Any]:
    return {
        "failed": True,
        "msg": sentence,
        "changed": changed,
        "error": {"kind": kind, "host": target, **details},
    }


def _numbers_in(arguments: Mapping[str, t.Any], identities: frozenset[str]) -> str | None:
    """The sentence that refuses an identity which is not text, or None."""
    for name in sorted(identities):
        value = arguments.get(name)
        for item in value if isinstance(value, list) else [value]:
            if item is not None and not isinstance(item, (str, dict, list)):
                return (
                    f"{name} was given as {item} without quotes, which YAML reads as a number or truth value and may rewrite, "
                    f'but an identity must be text; quote it: {name}: "{item}"'
                )
    return None


def waiting(run: Run, *, limit_s: float, every_s: float) -> Callable[[], bool]:
    """A callable that sleeps `every_s` seconds and returns False once `limit_s` seconds have passed."""
    deadline = run.now() + limit_s

    def wait() -> bool:
        if run.now() >= deadline:
            return False
        run.sleep(every_s)
        return True

    return wait
