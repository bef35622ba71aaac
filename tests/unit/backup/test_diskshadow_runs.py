# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole runs of the engine diskshadow on a simulated host, and what it makes of trouble.

What every engine has to do is in `tests/unit/conformance`; here is what only shadow copies can do wrong.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.errors import BackupError
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._wsman import WsmanFault
from backup_scene import HKLM, REGISTRY
from simulator.content import digest
from simulator.door_memory import rules_of
from simulator.faults import Rule
from simulator.mishaps import mishap
from unit.conformance.engine_site import EngineSite, Gone, world_of

ARRAY = "12345678-aaaa-4bbb-8ccc-000000000001"
FOLDER = "E:\\shadow-records"


class Bench(EngineSite):
    """The engine on hv01, whose VM has a pass-through disk that somebody else covers."""

    name = "diskshadow"
    target = FOLDER
    host_keys: Mapping[str, Any] = {}

    def world_text(self, *, is_large: bool) -> str:
        text = yaml.safe_load(world_of(is_large=is_large))
        text["hosts"][0] |= dict(self.host_keys)
        return str(yaml.safe_dump(text, allow_unicode=True))

    def copies(self) -> dict[str, str]:
        """Id -> set of every shadow copy of the host."""
        return {one.id.strip("{}").lower(): one.set_id.strip("{}").lower() for one in self.host.vss.present()}

    def exposed(self) -> list[str]:
        return [one.id for one in self.host.vss.present() if one.exposed]

    def restore(self, result: Any, recorded: Mapping[str, Any], number: int = 1, **changes: Any) -> Any:
        request = self.restore_request(result, recorded, **changes)
        return self.restorer().run(f"conformance.host_restore.r1.{number}", request, self.waiting())

    def disks(self) -> dict[str, str]:
        """Digest of each virtual hard disk's file, whatever it holds."""
        found = {}
        for path in self.files("D:\\VMs\\sql01"):
            if path.endswith(".vhdx"):
                volume, name = self.host.resolve(f"D:\\VMs\\sql01\\{path}")
                found[path] = digest(volume.files.open(name))
        return found

    def files(self, folder: str) -> dict[str, int]:
        volume, path = self.host.resolve(folder)
        return {name: volume.files.stat(f"{path}\\{name}").size for name in volume.files.listdir(path)}


class ArrayBench(Bench):
    """A host whose array has a VSS provider for all its volumes."""

    host_keys: Mapping[str, Any] = {
        "vss_providers": [
            {"id": f"{{{ARRAY}}}", "name": "Array", "type": "hardware", "version": "1.0", "volumes": ["C", "D"]}
        ]
    }
    options: Mapping[str, Any] = {"provider": "hardware"}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


@pytest.fixture
def array(tmp_path: Path) -> Iterator[Bench]:
    made = ArrayBench(tmp_path)
    yield made
    made.close()


# --- it works ---------------------------------------------------------------------------------------------------------


def test_a_backup_is_a_set_of_all_volumes_of_the_vm_and_its_metadata_lies_at_the_target(bench: Bench) -> None:
    result = bench.backup()
    assert (result.state, result.message) == ("succeeded", "")
    assert set(bench.copies()) == set(result.evidence["shadows"].values())
    assert set(bench.copies().values()) == {result.version}
    assert bench.files(result.target)["metadata.cab"] > 0
    assert (result.consistency, result.listed, bench.exposed()) == ("online", True, [])
    assert bench.world.check() == []


@pytest.mark.gates
def test_a_vm_that_was_off_is_off_in_its_shadow_copy(bench: Bench) -> None:
    mishap(bench.world, "stop_vm", vm="sql01")
    assert bench.backup().consistency == "off"


def test_a_vm_that_is_there_is_replaced_only_when_that_was_permitted(bench: Bench) -> None:
    recorded, before = bench.recorded(), bench.disks()
    result = bench.backup()
    mishap(bench.world, "stop_vm", vm="sql01")
    mishap(bench.world, "overwrite_vhd", vm="sql01", slot="scsi 0:0")
    noise = bench.disks()
    assert noise != before
    with pytest.raises(BackupError) as caught:
        bench.restore(result, recorded)
    assert caught.value.kind == "vm_exists"
    assert bench.disks() == noise
    restored = bench.restore(result, recorded, 2, replace=True)
    assert restored.state == "succeeded"
    assert bench.disks() == before
    assert not [name for name in bench.files("D:\\VMs\\sql01") if "replaced" in name and "r1.2" in name]


@pytest.mark.gates
def test_a_running_vm_is_never_replaced(bench: Bench) -> None:
    recorded = bench.recorded()
    result = bench.backup()
    with pytest.raises(BackupError) as caught:
        bench.restore(result, recorded, replace=True)
    assert caught.value.kind == "vm_not_off"
    assert bench.vm().running


@pytest.mark.gates
def test_the_array_makes_the_copies_when_the_hardware_provider_is_wanted(array: Bench) -> None:
    result = array.backup()
    assert (result.state, result.evidence["provider"]) == ("succeeded", ARRAY)


def test_the_files_are_copied_out_of_the_shadow_copies_when_that_is_wanted(bench: Bench) -> None:
    bench.options = {"copy_to": "E:\\copies"}
    result = bench.backup()
    assert (result.state, result.message) == ("succeeded", "")
    files = bench.files(result.evidence["copied_to"])
    sizes = sorted(size for name, size in files.items() if name.endswith(".vhdx"))
    assert sizes == sorted(result.evidence["files"].values())
    assert any(name.endswith(".vmcx") for name in files)
    assert bench.exposed() == []


# --- before anything starts -------------------------------------------------------------------------------------------


def test_hardware_without_a_provider_is_refused_and_nothing_was_started(bench: Bench) -> None:
    bench.options = {"provider": "hardware"}
    assert bench.capabilities().kind == "provider_missing"
    with pytest.raises(BackupError) as caught:
        bench.backup()
    assert caught.value.kind == "provider_missing"
    assert bench.copies() == {} and bench.engine().known(bench.run_id()) == "unknown"


@pytest.mark.gates
def test_left_out_disks_that_nobody_covers_are_refused(bench: Bench) -> None:
    assert [one.kind for one in bench.engine().refusals(bench.request(covered=False))] == ["left_out_disks"]
    assert list(bench.engine().refusals(bench.request())) == []


def test_shadow_storage_that_is_too_small_is_refused(bench: Bench) -> None:
    mishap(bench.world, "set_shadow_storage", machine="hv01", letter="D", maximum=1)
    assert [one.kind for one in bench.engine().refusals(bench.request())] == ["no_shadow_storage"]
    bench.options = {"storage_needed": 0}
    assert list(bench.engine().refusals(bench.request())) == []


# --- trouble ----------------------------------------------------------------------------------------------------------


STAGES = ("add", "prepare", "commit", "post", "complete")


@pytest.mark.parametrize(
    ("stage", "exit_code", "script_error"),
    [
        pytest.param(
            stage,
            code,
            error,
            marks=() if (code, error) == ("0", "goes-on") and stage in ("commit", "complete") else pytest.mark.gates,
        )
        for stage in STAGES
        for code in ("1", "0")
        for error in ("quits", "goes-on")
    ],
)
def test_whatever_fails_is_a_failure_and_the_next_run_takes_its_copies_away(
    tmp_path: Path, stage: str, exit_code: str, script_error: str
) -> None:
    switches = {"diskshadow-exit-failed": exit_code, "diskshadow-script-error": script_error}
    bench = type("Switched", (Bench,), {"switches": switches})(tmp_path)
    foreign = str(mishap(bench.world, "shadow_of_others", machine="hv01", letter="D")).strip("{}").lower()
    mishap(bench.world, "fail_shadow", machine="hv01", stage=stage, code="VSS_E_PROVIDER_VETO")
    broken = bench.backup()
    assert (broken.state, broken.version) == ("failed", None)
    assert broken.kind and broken.message
    good = bench.backup(2)
    assert good.state in ("succeeded", "warning")
    assert set(bench.copies()) == {foreign, *good.evidence["shadows"].values()}
    bench.close()


@pytest.mark.gates
def test_a_missing_end_of_the_backup_is_noticed(bench: Bench) -> None:
    mishap(bench.world, "fail_shadow", machine="hv01", stage="complete", code="VSS_E_UNEXPECTED")
    broken = bench.backup()
    assert (broken.state, broken.kind) in {("failed", "end_backup_missing"), ("failed", "vss_unexpected")}
    assert "vmms" in broken.message or "end backup" in broken.message


@pytest.mark.gates
def test_a_host_without_the_hyperv_writer_makes_no_backup(bench: Bench) -> None:
    mishap(bench.world, "remove_writer", machine="hv01")
    broken = bench.backup()
    assert (broken.state, broken.version) == ("failed", None)
    assert broken.kind in {"writer_missing", "snapshot_failed"}  # at its verification, or when the set is made


def test_a_power_cut_between_creation_and_end_is_a_failure_whose_copies_the_next_run_deletes(bench: Bench) -> None:
    bench.slow_down()
    engine, request = bench.engine(), bench.request()
    job = engine.start(bench.run_id(), request)
    cut = False
    for _unused in range(400):
        bench.world.clock.advance(1.0)
        if engine.status(job, request).is_finished:
            break
        if bench.copies():
            mishap(bench.world, "power_cut", machine="hv01")
            cut = True
            break
    while not bench.machine.answers:
        bench.machine.knock()
    bench.world.looks_per_job = 1
    if cut:
        broken = bench.engine().run(bench.run_id(), request, bench.waiting())
        assert broken.state == "failed"
        good = bench.backup(2, vm_state="off")
        assert good.state == "succeeded"
        assert set(bench.copies()) == set(good.evidence["shadows"].values())


def test_copies_of_others_are_never_deleted_and_their_letters_never_hidden(bench: Bench) -> None:
    foreign = str(mishap(bench.world, "shadow_of_others", machine="hv01", letter="D", expose="Z")).strip("{}").lower()
    result = bench.backup()
    assert result.state == "succeeded"
    assert foreign in bench.copies() and foreign not in result.evidence["shadows"].values()
    assert [one.strip("{}").lower() for one in bench.exposed()] == [foreign]


def test_a_set_whose_copies_windows_has_deleted_is_not_restored_and_nothing_was_changed(bench: Bench) -> None:
    recorded = bench.recorded()
    result = bench.backup()
    mishap(bench.world, "stop_vm", vm="sql01")
    before = bench.contents()
    mishap(bench.world, "delete_shadow", machine="hv01")
    with pytest.raises(BackupError) as caught:
        bench.restore(result, recorded, replace=True)
    assert caught.value.kind == "shadow_copy_gone"
    assert bench.contents() == before
    listing = bench.restorer().listing("x.listing.1", result.target, "HV01", version=result.version)
    assert listing.versions == ()


@pytest.mark.gates
def test_an_exposure_that_fails_once_is_tried_with_another_letter(bench: Bench) -> None:
    mishap(bench.world, "fail_shadow", machine="hv01", stage="expose", code="VSS_E_UNEXPECTED")
    assert bench.backup().state == "succeeded"
    assert bench.exposed() == []


def test_a_host_that_cannot_answer_now_is_not_one_that_lacks_something(bench: Bench) -> None:
    request, rules = bench.request(), rules_of(bench.world)
    for name in ("Provider", "VolumeSupport", "Storage"):
        for code in (2150859174, 2150858793):  # a quota, a timeout
            rules.add(Rule(match={"query": f"Win32_Shadow{name}"}, effect="fault", parameters={"code": code}, count=0))
            with pytest.raises(WsmanFault) as caught:
                bench.engine().start(bench.run_id(), request)
            assert caught.value.is_passing
            if name == "Provider":
                with pytest.raises(WsmanFault):
                    bench.capabilities()
            rules.clear()
    assert (bench.engine().known(bench.run_id()), bench.copies()) == ("unknown", {})


def test_copies_into_another_folder_can_be_stopped_and_the_next_run_deletes_their_shadow_copies(bench: Bench) -> None:
    bench.options = {"copy_to": "E:\\copies"}
    bench.slow_down()

    def should_stop() -> None:
        if any(name.endswith(".copy") for name in bench.working_tasks(bench.host)):
            raise Gone

    engine, request = bench.engine(), bench.request()
    with pytest.raises(Gone):
        engine.run(bench.run_id(), request, bench.waiting(should_stop=should_stop))
    job = bench.engine().start(bench.run_id(), request)
    bench.engine().stop(job)
    assert bench.working_tasks(bench.host) == []
    bench.world.looks_per_job = 1
    result = bench.engine().result(job, request)
    assert (result.state, result.version, result.kind) == ("failed", None, "copy_incomplete")
    second = bench.backup(2)
    assert second.state == "succeeded"
    assert (set(bench.copies().values()), bench.exposed()) == ({second.version}, [])


def test_a_lost_vm_comes_back_from_a_set_that_its_host_has_forgotten_and_no_letter_is_left(bench: Bench) -> None:
    recorded, before = bench.recorded(), bench.contents()
    result = bench.backup()
    bench.damage()
    bench.host.registry.delete_key(HKLM, f"{REGISTRY}\\DiskShadow", tree=True)
    items = {recorded["vm"]["id"]: ""}
    listing = bench.restorer().listing("x.listing.1", result.target, "HV01", version=result.version, items=items)
    assert (listing.versions, set(listing.items)) == ((result.version,), set(items))
    restored = bench.restore(result, recorded)
    assert (restored.state, restored.message) == ("succeeded", "")
    assert bench.contents() == before
    vm = bench.vm()
    assert (vm.settings.automatic_startup_action, vm.planned) == (2, False)
    assert [drive.kind for _controller, drive in vm.drives() if drive.kind == "physical"] == []
    assert bench.exposed() == []
    assert set(bench.copies().values()) == {result.version}


# --- deleting ---------------------------------------------------------------------------------------------------------


def test_a_version_is_deleted_when_the_record_proves_it_ours(bench: Bench) -> None:
    first, second = bench.backup(), bench.backup(2)
    delete = bench.restorer().delete
    assert delete("conformance.host.9", str(first.version), first.target, "HV01").state == "kept"
    assert delete(bench.run_id(2), str(first.version), first.target, "HV01").state == "kept"
    assert delete(bench.run_id(), str(first.version), first.target, "HV01").state == "deleted"
    assert set(bench.copies().values()) == {second.version}
    assert delete(bench.run_id(), str(first.version), first.target, "HV01").state == "gone"


@pytest.mark.gates
def test_a_version_that_somebody_reads_is_kept(bench: Bench) -> None:
    result = bench.backup()
    restorer: Any = bench.restorer()
    restorer._scripts.expose("x.look", list(result.evidence["shadows"].values()), lambda places: None)
    deletion = restorer.delete(bench.run_id(), str(result.version), result.target, "HV01")
    assert (deletion.state, set(bench.copies().values())) == ("kept", {result.version})


# --- transportable ----------------------------------------------------------------------------------------------------


def test_a_transportable_set_is_proven_by_its_metadata_and_restored_only_where_it_is_imported(array: Bench) -> None:
    array.options = {"provider": "hardware", "transportable": True}
    recorded = array.recorded()
    result = array.backup()
    assert (result.state, result.message) == ("succeeded", "")
    refusals = array.restorer().refusals(array.restore_request(result, recorded))
    assert [one.kind for one in refusals] == ["not_imported"]
    assert "metadata.cab" in refusals[0].sentence


# --- killed anywhere --------------------------------------------------------------------------------------------------

CHANGES = re.compile(
    rb"SetStringValue|DestroySystem|/Rename<|/Rename\b|DataFile/Delete|ImportSystemDefinition|ModifySystemSettings|RemoveResourceSettings"
    rb"|ModifyResourceSettings|PlannedSystem|RegisterByXml|StartByPath|transfer/Delete"
)


class Killed(BaseException):
    """The process of the task is gone."""


def kill_at(bench: Bench, number: int, *, after: bool) -> list[int]:
    """The process dies at the changing exchange of that number; returns the list that counts them."""
    seen: list[int] = []

    def hook(_machine: Any, data: bytes, carry: Any) -> Any:
        if not CHANGES.search(data):
            return carry()
        seen.append(len(seen))
        if len(seen) - 1 != number:
            return carry()
        if after:
            carry()
        raise Killed

    bench.hook = hook
    return seen


def replaced_bench(folder: Path) -> tuple[Bench, Any, Mapping[str, Any], dict[str, str]]:
    bench = Bench(folder)
    recorded, before = bench.recorded(), bench.disks()
    result = bench.backup()
    mishap(bench.world, "stop_vm", vm="sql01")
    mishap(bench.world, "overwrite_vhd", vm="sql01", slot="scsi 0:0")
    return bench, result, recorded, before


def killed_restores(folder: Path, numbers: Iterable[int]) -> list[str]:
    """Findings over restores that were killed at changing exchanges and run again by another process."""
    findings = []
    for number in numbers:
        bench, result, recorded, before = replaced_bench(folder / str(number))
        seen = kill_at(bench, number, after=number % 2 == 0)
        try:
            bench.restore(result, recorded, replace=True)
            bench.close()
            break  # there are no more
        except Killed:
            pass
        bench.hook = lambda _machine, _data, carry: carry()
        known = bench.restorer().known("conformance.host_restore.r1.1")
        restored = bench.restore(result, recorded, replace=known == "unknown")
        now = bench.disks()
        if restored.state != "succeeded" or now != before:
            findings.append(f"{number} of {len(seen)}: {restored.state} {restored.message} {sorted(now)}")
        if bench.exposed() or [one for one in bench.world.leftovers() if "shadow copy" not in one]:
            findings.append(f"{number}: {bench.exposed()} {bench.world.leftovers()}")
        if bench.vm().settings.automatic_startup_action != 2 or bench.world.check():
            findings.append(f"{number}: the VM may start by itself, or {bench.world.check()}")
        names = bench.files("D:\\VMs\\sql01")
        if [name for name in names if name.endswith((".restoring", ".replaced"))]:
            findings.append(f"{number}: {sorted(names)}")
        bench.close()
        shutil.rmtree(folder / str(number))  # a world has 100 MB, and there are dozens of them
    return findings


def test_a_restore_that_is_killed_between_its_steps_is_finished_by_the_next_run(tmp_path: Path) -> None:
    assert killed_restores(tmp_path, (20, 27)) == []


@pytest.mark.gates
def test_a_restore_that_is_killed_at_any_changing_exchange_is_finished_by_the_next_run(tmp_path: Path) -> None:
    assert killed_restores(tmp_path, range(200)) == []


def killed_backups(folder: Path, numbers: Iterable[int]) -> list[str]:
    """Findings over backups that were killed at changing exchanges and run again, with the next attempt when one failed."""
    findings = []
    for number in numbers:
        bench = Bench(folder / str(number))
        foreign = str(mishap(bench.world, "shadow_of_others", machine="hv01", letter="D")).strip("{}").lower()
        kill_at(bench, number, after=number % 2 == 0)
        try:
            bench.backup()
            bench.close()
            break
        except Killed:
            pass
        bench.hook = lambda _machine, _data, carry: carry()
        result = bench.backup()
        if result.state == "failed":
            result = bench.backup(2)
        ours = set((result.evidence.get("shadows") or {}).values())
        if result.state != "succeeded" or set(bench.copies()) != {foreign, *ours}:
            findings.append(f"{number}: {result.state} {result.message} {bench.copies()}")
        if bench.exposed() or bench.world.check():
            findings.append(f"{number}: {bench.exposed()} {bench.world.check()}")
        bench.close()
        shutil.rmtree(folder / str(number))  # a world has 100 MB, and there are dozens of them
    return findings


@pytest.mark.gates
def test_a_backup_that_is_killed_at_any_changing_exchange_is_finished_or_cleaned_up_by_the_next_run(
    tmp_path: Path,
) -> None:
    assert killed_backups(tmp_path, range(200)) == []


@pytest.mark.gates
def test_a_power_cut_while_the_disks_are_copied_back_is_survived_by_another_copy(tmp_path: Path) -> None:
    bench, result, recorded, before = replaced_bench(tmp_path)
    noise = bench.disks()
    bench.slow_down()
    request = bench.restore_request(result, recorded, replace=True)
    bench.restorer().start("conformance.host_restore.r1.1", request)
    bench.cut_power()
    assert {name: digest_ for name, digest_ in bench.disks().items() if name in noise} == noise
    bench.world.looks_per_job = 1
    assert bench.restore(result, recorded).state == "succeeded"
    assert bench.disks() == before
    assert bench.exposed() == []
    bench.close()
