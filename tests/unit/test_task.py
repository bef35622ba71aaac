# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds for every task before it does anything; the same through ansible-playbook is in tests/e2e/test_connections.py."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.hyperv.passthrough.plugins.plugin_utils._task import HypervAction, Run, TaskError, _numbers_in

ACTIONS = Path(__file__).resolve().parents[2] / "plugins" / "action"
PACKAGE = "ansible_collections.hyperv.passthrough.plugins.action"
TASKS = sorted(path.stem for path in ACTIONS.glob("*.py"))


def action_of(task: str) -> type[HypervAction]:
    action: type[HypervAction] = importlib.import_module(f"{PACKAGE}.{task}").ActionModule
    return action


# Masked by the task itself; an end-to-end test looks for it in everything that a run prints.
SECRETS = {"guest_disk": ["iscsi.chap_secret"]}
ACCOUNTS = {"guest_disk": ["iscsi.chap_secret", "iscsi.chap_user"]}


def options_of(task: str) -> dict[str, dict[str, Any]]:
    """Options and suboptions, the latter as `option.suboption`."""
    options = dict(action_of(task).SPEC["argument_spec"])
    for name, option in list(options.items()):
        options.update({f"{name}.{inner}": one for inner, one in option.get("options", {}).items()})
    return options


@pytest.mark.parametrize("task", TASKS)
def test_no_option_of_a_task_is_a_secret_because_results_are_not_masked(task: str) -> None:
    options = options_of(task)
    assert [name for name, option in options.items() if option.get("no_log")] == SECRETS.get(task, [])
    like = re.compile(r"pass(word|wd)|secret|credential|api_key|user")
    assert sorted(name for name in options if like.search(name)) == ACCOUNTS.get(task, [])


@pytest.mark.parametrize("task", TASKS)
def test_every_task_supports_check_mode_and_refuses_async(task: str) -> None:
    action = action_of(task)
    assert action._supports_check_mode
    assert not action._supports_async


@pytest.mark.parametrize("value", [83, 6e5, True, [83], ["a", 83]])
def test_an_identity_that_yaml_rewrote_is_refused_with_the_text_to_write(value: Any) -> None:
    sentence = _numbers_in({"vm": value}, frozenset({"vm"}))
    assert sentence is not None
    shown = value[-1] if isinstance(value, list) else value
    assert f'quote it: vm: "{shown}"' in sentence


@pytest.mark.parametrize("value", ["0083", None, [], ["a", "b"], "{{ 7*7 }}"])
def test_an_identity_that_is_text_or_left_out_passes(value: Any) -> None:
    assert _numbers_in({"vm": value}, frozenset({"vm"})) is None


def test_options_that_are_no_identities_may_be_numbers() -> None:
    assert _numbers_in({"vm": "a", "poll_interval": 5}, frozenset({"vm"})) is None


class Worker(Run):
    """A task's run whose ansible-playbook may be gone."""

    parent_is_gone = False

    def __init__(self) -> None:
        self._told_orphan = False

    def is_orphan(self) -> bool:
        return self.parent_is_gone


def test_a_worker_whose_parent_is_gone_asks_for_nothing_more_and_may_only_tidy_up() -> None:
    run, sent = Worker(), []
    send = run._unless_orphan(lambda envelope: sent.append(envelope) or b"answer")
    assert send(b"one") == b"answer"
    run.parent_is_gone = True
    with pytest.raises(TaskError, match="is gone") as stopped:
        send(b"two")
    assert stopped.value.kind == "orphaned"
    assert send(b"the lease is given back") == b"answer"
    assert sent == [b"one", b"the lease is given back"]
