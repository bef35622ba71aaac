# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every backup engine has to do, held against the simulated Windows in memory.

Responsible for the demands of the contract (`_backup/engine.py`). Which engines there are: `entries.py`; what each needs to be
looked at: its site. Nothing here knows an engine by name.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.engine import FINISHED, BackupResult, Job
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.engines import engine as table_entry
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.errors import BackupError
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.set_recording import CONTINUABLE
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv import HypervError
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._wsman import WsmanError
from simulator.faults import Dropped
from unit.conformance.engine_site import UNICODE_VM, EngineSite, Gone, Reply
from unit.conformance.entries import ENTRIES

OURS = (BackupError, HypervError, WsmanError)


#: An engine's guest half is a gate where its host half runs always: both are the same code. So is the operator's own product.
HELD = [
    pytest.param(one, marks=[pytest.mark.gates] if one.phase == "guest" or one.name == "command" else [])
    for one in ENTRIES
]


@pytest.fixture(params=HELD, ids=lambda entry: f"{entry.name}-{entry.phase}")
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EngineSite]:
    with closing(request.param(tmp_path)) as made:
        yield made


@pytest.fixture(params=[entry for entry in ENTRIES if entry.phase == "host"], ids=lambda entry: f"{entry.name}-host")
def large(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EngineSite]:
    """With a second VM and a second host."""
    with closing(request.param(tmp_path, is_large=True)) as made:
        yield made


def good(result: BackupResult) -> BackupResult:
    assert result.state == "succeeded", (result.kind, result.message)
    return result


def is_a_sentence(text: str) -> None:
    assert text
    assert "Traceback" not in text and "\n" not in text
    assert len(text) < 2000


# -- a run -------------------------------------------------------------------------------------------------------------


def test_a_run_ends_with_a_version_that_is_its_own(site: EngineSite) -> None:
    before = site.footprint()
    result = good(site.backup())
    assert (result.run_id, result.engine) == (site.run_id(), site.name)
    assert {result.version} == site.there()
    assert site.begun() == 1
    assert result.listed
    assert result.snapshot_time is not None and abs(site.now() - result.snapshot_time.timestamp()) < 3600
    assert site.footprint() == before


def test_the_same_run_id_started_twice_is_one_run(site: EngineSite) -> None:
    request = site.request()
    first = site.engine().start(site.run_id(), request)
    second = site.engine().start(site.run_id(), request)
    assert (first.attached, second.attached) == (False, True)
    assert first.target == second.target
    good(site.backup())
    assert site.engine().start(site.run_id(), request).attached
    assert (site.begun(), len(site.there())) == (1, 1)


def test_what_is_known_of_a_run_follows_its_life(site: EngineSite) -> None:
    assert site.engine().known(site.run_id()) == "unknown"
    site.engine().start(site.run_id(), site.request())
    assert site.engine().known(site.run_id()) in ("pending", "running")
    good(site.backup())
    assert site.engine().known(site.run_id()) == "ended"
    assert site.engine().known(site.run_id(2)) == "unknown"


def test_looking_at_a_run_shows_its_states_in_order_to_the_end(site: EngineSite) -> None:
    engine, request = site.engine(), site.request()
    seen = site.look_until_finished(engine, site.run_id(), request)
    order = [("pending", "running", "succeeded").index(one.state) for one in seen]
    assert order == sorted(order)
    shown = [one.percent for one in seen if one.percent is not None]
    assert shown == sorted(shown)
    assert all(0 <= one <= 100 for one in shown)
    job = engine.start(site.run_id(), request)
    assert site.engine().status(job, request).state == "succeeded"


def test_a_result_is_the_same_however_often_and_by_whomever_it_is_asked_for(site: EngineSite) -> None:
    request = site.request()
    good(site.backup())
    job = site.engine().start(site.run_id(), request)
    texts = {json.dumps(site.engine().result(job, request).to_dict(), sort_keys=True) for _unused in range(2)}
    assert len(texts) == 1


def test_there_is_no_result_before_the_end(site: EngineSite) -> None:
    site.slow_down()
    request = site.request()
    job = site.engine().start(site.run_id(), request)
    with pytest.raises(BackupError) as caught:
        site.engine().result(job, request)
    assert caught.value.kind == "not_finished"


def test_a_run_that_never_was_has_no_version(site: EngineSite) -> None:
    good(site.backup())
    request = site.request()
    job = Job(run_id=site.run_id(7), engine=site.name, target=request.target, attached=True)
    result = site.engine().result(job, request)
    assert (result.state, result.version) == ("failed", None)


def test_a_run_id_that_cannot_be_a_name_is_refused_before_anything_is_changed(site: EngineSite) -> None:
    before, request = site.footprint(), site.request()
    for run_id in ("", "a b", "..\\x", "A&b", "x" * 200, 'a"b', "a.host.1.", "ümlaut.host.1"):
        with pytest.raises(BackupError) as caught:
            site.engine().start(run_id, request)
        is_a_sentence(str(caught.value))
    assert (site.begun(), site.footprint()) == (0, before)


def test_a_wait_that_is_over_leaves_the_job_to_a_rerun(site: EngineSite) -> None:
    with pytest.raises((BackupError, HypervError)) as caught:
        site.engine().run(site.run_id(), site.request(), site.waiting(timeout_s=0.0))
    assert caught.value.kind in CONTINUABLE
    assert site.begun() <= 1
    good(site.backup())
    assert site.begun() == 1


def test_who_may_wait_no_longer_neither_stops_the_job_nor_starts_another(site: EngineSite) -> None:
    asked = itertools.count()

    def should_stop() -> None:
        if next(asked) >= 2:
            raise Gone

    with pytest.raises(Gone):
        site.engine().run(site.run_id(), site.request(), site.waiting(should_stop=should_stop))
    good(site.backup())
    assert site.begun() == 1


# -- what is lost on the way ---------------------------------------------------------------------------------------------


def dropped(number: int, *, executed: bool) -> Callable[[Any, bytes, Callable[[], Reply]], Reply]:
    """The connection breaks at that exchange."""
    count = itertools.count(1)

    def hook(_machine: Any, _data: bytes, carry: Callable[[], Reply]) -> Reply:
        if next(count) == number:
            if executed:
                carry()
            raise Dropped("by the test", executed=executed)
        return carry()

    return hook


@pytest.mark.parametrize("executed", [True, False], ids=["reply-lost", "not-sent"])
def test_whatever_exchange_of_a_start_is_lost_the_rerun_makes_it_one_run(
    site: EngineSite, tmp_path: Path, executed: bool
) -> None:
    site.exchanges = 0
    request = site.request()
    before = site.exchanges
    site.engine().start(site.run_id(), request)
    count = site.exchanges - before
    # every exchange has its turn in `make gates`; here the last ones, in which things are changed
    for number in range(max(1, count - 1), count + 1):
        with closing(type(site)(tmp_path / f"{number}")) as other:
            request = other.request()
            engine = other.engine()
            other.hook = dropped(number, executed=executed)
            try:
                engine.start(other.run_id(), request)
            except OURS as error:
                is_a_sentence(str(error))
            other.hook = lambda _machine, _data, carry: carry()
            result = other.backup()
            if result.state == "failed":  # what nobody saw the end of may be given up, never started twice
                assert (result.version, result.kind) == (None, "interrupted"), f"exchange {number} of {count}"
                result = good(other.backup(2))
                assert other.begun() <= 2
            else:
                assert other.begun() == 1
            good(result)
            assert other.there() == {result.version}, f"exchange {number} of {count}"


def test_an_interrupted_run_did_not_succeed_and_the_next_one_leaves_nothing_of_it(site: EngineSite) -> None:
    before, request = site.footprint(), site.request()
    job = site.engine().start(site.run_id(), request)
    site.work_until_busy()
    site.cut_power()
    engine = site.engine()
    status = engine.status(job, request)
    assert status.state == "failed", status
    result = engine.result(job, request)
    assert (result.state, result.version) == ("failed", None)
    assert result.kind
    is_a_sentence(result.message)
    assert engine.known(site.run_id()) in ("interrupted", "ended")
    second = good(site.backup(2))
    assert second.run_id == site.run_id(2)
    assert site.there() == {second.version}
    assert site.footprint() == before


# -- whose version --------------------------------------------------------------------------------------------------------


def test_a_version_of_somebody_else_is_never_taken_for_ours(site: EngineSite) -> None:
    site.make_foreign()
    (foreign,) = site.there()
    result = good(site.backup())
    assert result.version != foreign
    assert site.there() == {foreign, result.version}
    site.make_foreign()
    job = site.engine().start(site.run_id(), site.request())
    assert site.engine().result(job, site.request()).version == result.version


@pytest.mark.parametrize("percent", [0, 50, 99])
def test_a_job_that_fails_is_a_failure_beside_anybody_s_good_version(site: EngineSite, percent: int) -> None:
    site.make_foreign()
    before, there = site.footprint(), site.there()
    site.break_next(percent)
    result = site.backup()
    assert (result.state, result.version) == ("failed", None)
    assert result.kind
    is_a_sentence(result.message)
    assert site.there() == there
    assert site.engine().known(site.run_id()) == "ended"
    second = good(site.backup(2))
    assert site.there() == {*there, second.version}
    assert site.footprint() == before


def test_two_runs_have_two_versions_and_each_knows_its_own(site: EngineSite) -> None:
    first = good(site.backup(1))
    site.world.clock.advance(120)
    second = good(site.backup(2))
    assert first.version != second.version
    for number, expected in ((1, first), (2, second)):
        job = site.engine().start(site.run_id(number), site.request())
        assert site.engine().result(job, site.request()).version == expected.version


# -- stopping --------------------------------------------------------------------------------------------------------------


def test_a_job_that_is_stopped_has_no_version_and_leaves_nothing(site: EngineSite) -> None:
    before, request = site.footprint(), site.request()
    site.slow_down()
    job = site.engine().start(site.run_id(), request)
    site.work_until_busy()
    if not site.is_stoppable:  # it says so, and the job comes to its own good end
        with pytest.raises(BackupError) as caught:
            site.engine().stop(job)
        assert caught.value.kind == "not_stoppable"
        is_a_sentence(str(caught.value))
        assert site.is_working()
        result = good(site.backup())
        assert (site.begun(), site.there(), site.footprint()) == (1, {result.version}, before)
        return
    site.engine().stop(job)
    seen = site.look_until_finished(site.engine(), site.run_id(), request)
    assert seen[-1].state == "failed"
    result = site.engine().result(job, request)
    assert (result.state, result.version) == ("failed", None)
    assert not site.is_working()
    second = good(site.backup(2))
    assert site.there() == {second.version}
    assert site.footprint() == before


def test_stopping_what_has_ended_or_never_was_changes_nothing(site: EngineSite) -> None:
    result = good(site.backup())
    request = site.request()
    site.engine().stop(site.engine().start(site.run_id(), request))
    site.engine().stop(Job(run_id=site.run_id(9), engine=site.name, target=request.target, attached=True))
    assert site.there() == {result.version}


# -- listing and restoring ------------------------------------------------------------------------------------------------


def test_a_version_is_listed_with_what_it_holds(site: EngineSite) -> None:
    result, before = good(site.backup()), site.footprint()
    assert result.version in site.engine().versions(site.run_id(), result.target)
    items = site.listed_items()
    listing = site.restorer().listing(
        "conformance.listing.1", result.target, site.machine.netbios_name, version=result.version, items=items
    )
    assert listing.versions == (result.version,)
    assert set(listing.items) == set(items)
    other = {"00000000-1111-2222-3333-444444444444": ""}
    listing = site.restorer().listing(
        "conformance.listing.2", result.target, site.machine.netbios_name, version=result.version, items=other
    )
    assert dict(listing.items) == {}
    assert site.footprint() == before


def test_a_restore_gives_the_bytes_back(site: EngineSite) -> None:
    recorded, before = site.recorded(), site.contents()
    assert before
    result = good(site.backup())
    site.damage()
    request = site.restore_request(result, recorded)
    assert [one.sentence for one in site.restorer().refusals(request)] == []
    restored = site.restorer().run("conformance.restore.1", request, site.waiting())
    assert restored.state == "succeeded", (restored.kind, restored.message)
    assert (restored.engine, restored.version) == (site.name, result.version)
    assert site.contents() == before
    assert site.there() == {result.version}
    again = site.restorer().run("conformance.restore.1", request, site.waiting())
    assert (again.state, site.contents()) == ("succeeded", before)


@pytest.mark.parametrize("percent", [50, 99])
def test_a_restore_that_fails_is_a_failure_and_the_next_one_succeeds(site: EngineSite, percent: int) -> None:
    recorded, before = site.recorded(), site.contents()
    result = good(site.backup())
    site.damage()
    site.break_next(percent)
    request = site.restore_request(result, recorded)
    failed = site.restorer().run("conformance.restore.1", request, site.waiting())
    assert failed.state == "failed"
    assert failed.kind
    is_a_sentence(failed.message)
    second = site.restorer().run("conformance.restore.2", request, site.waiting())
    assert second.state == "succeeded", (second.kind, second.message)
    assert (site.contents(), site.there(), list(site.leftovers())) == (before, {result.version}, [])


def test_a_restore_of_a_version_that_is_not_there_changes_nothing(site: EngineSite) -> None:
    recorded, result = site.recorded(), good(site.backup())
    before = site.contents()
    request = site.restore_request(result, recorded, version="01/01/2001-01:01")
    try:
        restored = site.restorer().run("conformance.restore.1", request, site.waiting())
        assert restored.state == "failed"
        is_a_sentence(restored.message)
    except OURS as error:
        is_a_sentence(str(error))
    assert site.contents() == before


# -- abilities -------------------------------------------------------------------------------------------------------------


def test_its_abilities_are_those_of_its_place_in_the_table(site: EngineSite) -> None:
    able = site.capabilities()
    assert (able.engine, able.available) == (site.name, True), able.reason
    entry = table_entry(site.name)
    assert entry.name == site.name
    assert site.phase in entry.phases
    assert able.backs_up_vms if site.phase == "host" else able.backs_up_volumes
    assert able.restores_vms if site.phase == "host" else able.restores_volumes


def test_without_what_it_needs_it_says_so_and_starts_nothing(site: EngineSite) -> None:
    site.without_feature()
    able = site.capabilities()
    assert (able.available, bool(able.kind)) == (False, True)
    is_a_sentence(able.reason)
    if not site.is_enforced:
        return
    try:
        result = site.backup()
        assert (result.state, result.version) == ("failed", None)
        is_a_sentence(result.message)
    except OURS as error:
        is_a_sentence(str(error))
    assert site.there() == frozenset()


def test_an_option_it_does_not_know_is_refused_with_those_it_knows(site: EngineSite) -> None:
    with pytest.raises(BackupError) as caught:
        site.entry().options({**site.options, "no_such_option": 1}, site.phase)
    assert caught.value.kind == "bad_option"
    assert "no_such_option" in str(caught.value)
    with pytest.raises(BackupError) as caught:
        site.entry().options({**site.options, "password": "swordfish"}, site.phase)
    assert "swordfish" not in str(caught.value)


def test_several_at_once_only_when_it_says_so(large: EngineSite) -> None:
    site = large
    site.slow_down()
    names = ("sql01", UNICODE_VM)
    runs = {name: (site.run_id(vm=f"vm{number}"), site.request(name)) for number, name in enumerate(names)}
    site.engine().start(*runs["sql01"])
    if site.capabilities().concurrent:
        assert list(site.engine().is_busy()) == []
        site.engine().start(*runs[UNICODE_VM])
    else:
        with pytest.raises(BackupError) as caught:
            site.engine().start(*runs[UNICODE_VM])
        assert caught.value.kind == "busy"
    for run_id, request in runs.values():
        good(site.engine().run(run_id, request, site.waiting()))
    assert (site.begun(), len(site.there())) == (2, 2)


def test_a_vm_that_runs_is_refused_only_when_it_must_be_off(site: EngineSite) -> None:
    if site.phase != "host":
        return
    if not site.capabilities().needs_vm_off:
        result = good(site.backup())
        assert result.consistency != "off"
        assert site.vm().running
        return
    with pytest.raises(BackupError) as caught:
        site.backup()
    is_a_sentence(str(caught.value))
    assert site.there() == frozenset()


def test_names_in_any_script_are_backed_up_and_restored(large: EngineSite) -> None:
    recorded, before = large.recorded(UNICODE_VM), large.contents(UNICODE_VM)
    result = good(large.backup(vm=UNICODE_VM))
    large.damage(UNICODE_VM)
    request = large.restore_request(result, recorded)
    restored = large.restorer().run("conformance.restore.1", request, large.waiting())
    assert restored.state == "succeeded", (restored.kind, restored.message)
    assert large.contents(UNICODE_VM) == before


def test_another_host_gets_the_vm_back_when_it_says_so(large: EngineSite) -> None:
    if large.share is None or not large.capabilities().restores_elsewhere:
        return
    recorded, before = large.recorded(), large.contents()
    result = good(large.backup(target=large.share))
    large.damage()
    other = large.world.machine("hv02")
    request = large.restore_request(result, recorded)
    restored = large.restorer(other).run("conformance.restore.1", request, large.waiting())
    assert restored.state == "succeeded", (restored.kind, restored.message)
    assert large.contents(host=other) == before


# -- what nobody may read ----------------------------------------------------------------------------------------------------


def test_no_password_is_in_a_result_a_task_or_a_file(site: EngineSite) -> None:
    result = good(site.backup())
    secrets = {one.password for machine in site.world.machines for one in machine.accounts.values() if one.password}
    texts = [json.dumps(result.to_dict())]
    texts += [repr(vars(task.definition)) for task in site.machine.scheduler.tasks()]
    assert secrets
    assert [text for text in texts if any(secret in text for secret in secrets)] == []
    assert {"state", "version", "target", "snapshot_time"} <= set(json.loads(texts[0]))


def test_finished_states_are_the_only_ones_that_end_a_wait(site: EngineSite) -> None:
    result = good(site.backup())
    assert result.state in FINISHED
