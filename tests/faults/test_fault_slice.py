# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The quick slice of the fault enumeration, and the tests of its own parts; `make faults` is the whole of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from faults.__main__ import REGISTERED
from faults.invariants import (
    EVERYWHERE,
    Glance,
    good_is_good,
    no_run_started_twice,
    no_version_deleted,
    records_readable,
)
from faults.planted import PLANTED, Planted
from faults.scenarios import SCENARIOS
from faults.state import essence, without_ids

TESTS = Path(__file__).resolve().parents[1]
#: In `make test`; the others take longer and run in `make gates`.
QUICK = ("two_phase_backup", "reverse_restore_kept", "vhd_migration_finalized")
assert REGISTERED


def faults(*words: str) -> subprocess.CompletedProcess[str]:
    """The command that `make faults` gives; apart from pytest, because it changes ansible within its process."""
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "PYTHONHASHSEED": "0"}
    command = [sys.executable, "-m", "faults", *words]
    return subprocess.run(command, env=environment, check=False, capture_output=True, text=True, cwd=TESTS)


def sliced(scenario: str, folder: Path) -> list[dict[str, object]]:
    results = folder / "results.jsonl"
    done = faults("--slice", "--scenario", scenario, "--results", str(results))
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in results.read_text().splitlines()]


def ends_well(scenario: str, folder: Path) -> None:
    found = sliced(scenario, folder)
    assert {"killed", "orphaned", "overtaken"} <= {one["effect"] for one in found}
    assert [one for one in found if one["findings"]] == []


@pytest.mark.e2e
@pytest.mark.parametrize("scenario", QUICK)
def test_a_few_of_all_faults_end_as_if_nothing_had_happened(scenario: str, tmp_path: Path) -> None:
    ends_well(scenario, tmp_path)


@pytest.mark.e2e
@pytest.mark.gates
@pytest.mark.parametrize(
    "scenario", [one for one in SCENARIOS if one not in QUICK and not SCENARIOS[one].only_while_job]
)
def test_a_few_of_all_faults_end_as_if_nothing_had_happened_in_the_longer_scenarios(
    scenario: str, tmp_path: Path
) -> None:
    ends_well(scenario, tmp_path)


@pytest.mark.e2e
@pytest.mark.gates
def test_a_rerun_waits_for_the_backup_of_a_killed_run_that_keeps_the_vm_saved(tmp_path: Path) -> None:
    (killed,) = sliced("two_phase_backup_saved", tmp_path)
    assert (killed["effect"], killed["outcome"], killed["findings"]) == ("killed", "same", [])


@pytest.mark.e2e
@pytest.mark.gates
def test_a_restore_whose_host_restarts_at_any_change_is_done_only_when_the_vm_runs_with_its_own_disks(
    tmp_path: Path,
) -> None:
    """Also at the last one, which puts the automatic start action back: the restart has left the VM saved."""
    results = tmp_path / "results.jsonl"
    chosen = ("--scenario", "reverse_restore_kept", "--effect", "restart_host", "--passes", "changes", "--jobs", "1")
    done = faults(*chosen, "--results", str(results))
    assert done.returncode == 0, done.stdout + done.stderr
    found = [json.loads(line) for line in results.read_text().splitlines()]
    assert any("ModifySystemSettings" in one["what"] and one["outcome"] == "same" for one in found)
    assert [one for one in found if one["findings"]] == []


@pytest.mark.parametrize("fault", PLANTED, ids=lambda fault: fault.name)
def test_a_fault_that_is_planted_finds_its_place_in_the_product(fault: Planted) -> None:
    for file, old, new in fault.changes:
        assert (TESTS.parent / file).read_text(encoding="utf-8").count(old) == 1, file
        assert new != old


def look(**changed: object) -> Glance:
    names = ("vms", "sets", "versions", "starts", "runs", "disks")
    empty: dict[str, object] = {name: {} for name in names}
    return Glance(**{"findings": (), "quiesced": frozenset(), **empty, **changed})  # type: ignore[arg-type]


def record(state: str = "open", *, host_version: str | None = None) -> str:
    attempt = {"machine": "HV01", "outcome": "succeeded", "purpose": "first", "version": host_version}
    host = {"needed": True, "attempts": [attempt] if host_version else []}
    phases = {"guest": {"needed": False, "attempts": []}, "host": host}
    hooks = {"quiesced": False}
    return json.dumps({"set_id": "one", "state": state, "opened": "2026", "phases": phases, "hooks": hooks})


def test_a_set_called_good_without_a_version_is_found() -> None:
    before, now = look(), look(sets={"hv01/one": record("good")})
    assert list(good_is_good(before, now)) == ["set one is good without a version of its host phase"]


def test_a_set_called_good_whose_version_no_machine_lists_is_found() -> None:
    now = look(sets={"hv01/one": record("good", host_version="v1")}, versions={"hv01": frozenset({"v2"})})
    assert list(good_is_good(look(), now)) == ["set one names version v1, which HV01 does not list"]


def test_a_good_set_is_nothing_to_talk_about() -> None:
    now = look(sets={"hv01/one": record("good", host_version="v1")}, versions={"hv01": frozenset({"v1"})})
    assert [text for invariant in EVERYWHERE for text in invariant(look(), now)] == []


def test_a_version_that_is_gone_is_found() -> None:
    before, now = look(versions={"hv01": frozenset({"v1", "v2"})}), look(versions={"hv01": frozenset({"v2"})})
    assert list(no_version_deleted(before, now)) == ["version v1 of hv01 is gone"]


def test_a_backup_that_begins_twice_for_one_run_is_found() -> None:
    now = look(starts={"hv01": 2}, runs={"hv01": frozenset({"a.host.1"})})
    assert list(no_run_started_twice(look(), now)) == ["2 backups began on hv01, but only 1 runs of ours exist"]


def test_a_record_that_cannot_be_read_is_found() -> None:
    assert list(records_readable(look(), look(sets={"hv01/one": "{"}))) == ["the record hv01/one cannot be read"]


def test_a_request_is_the_same_request_when_only_its_message_has_a_new_id() -> None:
    one = b"<a:MessageID>uuid:0D1C0A7F-6E0D-4E43-9E0F-8E7B3B1B6C11</a:MessageID><x>1</x>"
    other = b"<a:MessageID>uuid:5A1C0A7F-6E0D-4E43-9E0F-8E7B3B1B6C22</a:MessageID><x>1</x>"
    assert without_ids(one) == without_ids(other)
    assert without_ids(one) != without_ids(other.replace(b"<x>1", b"<x>2"))


def test_results_are_the_same_when_only_sentences_ids_and_times_differ() -> None:
    one = {
        "error": {"kind": "quota", "sentence": "too many"},
        "msg": "a",
        "at": "2026-10-01T20:00:00Z",
        "changed": True,
    }
    other = {
        "error": {"kind": "quota", "sentence": "far too many"},
        "msg": "b",
        "at": "2026-10-02T20:00:00Z",
        "changed": True,
    }
    assert essence(one) == essence(other)
    assert essence(one) != essence({**other, "changed": False})
    assert essence(one) != essence({**other, "error": {"kind": "fault"}})


@pytest.mark.parametrize(
    "how", ["shutil.rmtree('world/a')", "open('world/a/b', 'w').close()", "os.remove('world/a/b')"]
)
def test_a_fork_that_writes_leaves_the_files_of_its_trunk_alone(how: str, tmp_path: Path) -> None:
    (tmp_path / "world" / "a").mkdir(parents=True)
    (tmp_path / "world" / "a" / "b").write_text("kept")
    lines = (
        "import os, pathlib, shutil",
        "from faults.stage import Stage",
        "stage = Stage.__new__(Stage)",
        "stage.folder = pathlib.Path.cwd()",
        "stage.share_world()",
        how,
        "print(stage.own, os.path.exists('world/a/b') and os.path.getsize('world/a/b'))",
        "stage.leave()",
    )
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    command = [sys.executable, "-c", "\n".join(lines)]
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.split() in (["True", "0"], ["True", "False"]), done.stderr
    assert (tmp_path / "world" / "a" / "b").read_text() == "kept"
    assert [path.name for path in tmp_path.iterdir()] == ["world"]
