# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guard of a run: which leases it holds, passes on and gives back. Leases themselves are in unit/backup/test_lease.py."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any, cast  # pylint: disable=unused-import  # used in the text of a type

import pytest

from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.engine import Waiting
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.errors import BackupError
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._guard import Guard
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._task import TaskError
from unit.hyperv.cim_store import CimStore
from unit.hyperv.test_registry import Hive

VM = "285cea9b-1111-2222-3333-000000000001"
OTHER = "285cea9b-1111-2222-3333-000000000002"
LEASES = "software\\hyperv.passthrough\\leases\\"


class Controller:
    """What a guard uses of a task's run."""

    _ids = itertools.count(1)

    def new_id(self) -> str:
        return f"{next(self._ids):08d}"

    def is_orphan(self) -> bool:
        return False

    def progress(self, line: str) -> None:
        pass


@pytest.fixture
def store() -> CimStore:
    store = CimStore()
    store.add("root/cimv2", "Win32_OperatingSystem", LocalDateTime=datetime(2026, 10, 1, 20, tzinfo=timezone.utc))
    return store


def guard_on(store: CimStore) -> Guard:
    return Guard(cast("Any", Controller()), cast("Any", store))


def hands(should_stop: Callable[[], None], sleep: Callable[[float], None]) -> Waiting:
    return Waiting(sleep=sleep, now=lambda: 0.0, should_stop=should_stop, poll_s=1.0, timeout_s=60.0)


def test_a_slot_that_had_to_be_waited_for_is_passed_on_and_given_back(store: CimStore) -> None:
    hive = Hive(store)
    first, second = guard_on(store), guard_on(store)
    first.take_vm(VM, hands(first.check, lambda _s: None)).take_slot("hv01", hands(first.check, lambda _s: None))
    second.take_vm(OTHER, hands(second.check, lambda _s: None))
    second.take_slot("hv01", hands(second.check, lambda _s: first.release()))
    assert "Slot hv01=" in str(second.lease)
    assert f"VM {OTHER}=" in str(second.lease)
    guard_on(store).attach(str(second.lease)).release()
    assert {path: values for path, values in hive.keys.items() if path.startswith(LEASES) and values} == {}


def test_a_lease_that_one_task_took_anew_is_found_by_the_next_one_that_still_has_the_old_text(store: CimStore) -> None:
    hive = Hive(store)
    first = guard_on(store).take_vm(VM, hands(lambda: None, lambda _s: None))
    hive.keys[f"{LEASES}vm {VM}"].clear()  # it ran out, and another run that came and went has tidied up
    old = str(first.lease)
    second = guard_on(store).attach(old)
    assert str(second.lease) != old
    third = guard_on(store).attach(old)
    third.check()
    assert third.lease == second.lease
    assert guard_on(store).attach(str(second.lease)).lease == second.lease
    third.release()
    assert hive.keys[f"{LEASES}vm {VM}"] == {}


def test_a_lease_that_was_lost_to_another_run_is_not_taken_anew(store: CimStore) -> None:
    hive = Hive(store)
    first = guard_on(store).take_vm(VM, hands(lambda: None, lambda _s: None))
    hive.keys[f"{LEASES}vm {VM}"].clear()
    other = guard_on(store).take_vm(VM, hands(lambda: None, lambda _s: None))
    with pytest.raises(TaskError, match="another run works on this VM") as refused:
        guard_on(store).attach(str(first.lease))
    assert refused.value.kind == "superseded"
    other.check()


def test_an_engine_that_works_on_several_vms_has_so_many_places_and_no_more(store: CimStore) -> None:
    hive = Hive(store)
    guards = [guard_on(store) for _unused in range(3)]
    for guard in guards[:2]:
        guard.take_place("hv01", "export", 2, hands(guard.check, lambda _s: None))
    assert [str(guard.lease).partition("=")[0] for guard in guards[:2]] == ["Slot hv01 export 1", "Slot hv01 export 2"]
    guards[2].take_slot(
        "hv01", hands(guards[2].check, lambda _s: None)
    )  # the one job of other engines is not in the way
    guards[2].release()
    guards[2].take_place("hv01", "export", 2, hands(guards[2].check, lambda _s: guards[0].release()))
    assert str(guards[2].lease).startswith("Slot hv01 export 1=")
    guard_on(store).attach(str(guards[2].lease)).release()
    guards[1].release()
    assert {path: values for path, values in hive.keys.items() if path.startswith(LEASES) and values} == {}


def test_a_place_that_never_gets_free_is_an_error_that_names_the_limit(store: CimStore) -> None:
    Hive(store)
    first, second = guard_on(store), guard_on(store)
    first.take_place("hv01", "export", 1, hands(first.check, lambda _s: None))
    seconds = itertools.count(0, 30)
    waiting = Waiting(sleep=lambda _s: None, now=lambda: float(next(seconds)), poll_s=1.0, timeout_s=60.0)
    with pytest.raises(BackupError) as caught:
        second.take_place("hv01", "export", 1, waiting)
    assert caught.value.kind == "lease_timeout"
    assert second.lease is None
