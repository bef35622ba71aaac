# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Task lun_to_vhd over HTTP: the guest's bytes in the VHD, one downtime, failures that give the disk back, reruns, rollback."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backup_scene import at_exchange
from playbook_run import PlaybookRun
from simulator.door_memory import rules_of
from simulator.file_system import FileSystemError
from simulator.mishaps import mishap

pytestmark = pytest.mark.e2e

MIB = 1024**2
SOURCE, TARGET = "6006016000000000000000000000AA01", "6006016000000000000000000000BB02"
TARGET_BYTES = 360 * MIB
OFF, RUNNING = 3, 2
NOTHING, IF_RUNNING = 2, 3
VHDX = "V:\\sql01-scsi0-2.vhdx"
STAGING = "D:\\Staging\\sql01-scsi0-2.vhdx"
REGISTRY = "SOFTWARE\\hyperv.passthrough\\Migrations"


def world_text(*, vm: str = "", luns: str = "", more_luns: str = "", host: str = "", vms: str = "") -> str:
    return f"""
name: migration
seed: migration
clock: 2026-10-01T20:00:00Z
luns:
  - {{id: data, size: 24M, bus: iscsi, serial: "7a0b1e000001", unique_id: {SOURCE}, unique_id_format: 3}}
  - {{id: target, size: 360M, bus: iscsi, serial: "7a0b1e000002", unique_id: {TARGET}, unique_id_format: 3}}
  - {{id: other, size: 24M, bus: iscsi, serial: "7a0b1e000003"}}
{luns}
hosts:
  - name: hv01
    address: 127.46.0.1
    os: server2022
    volumes:
      - {{letter: C, size: 40G, label: System}}
      - {{letter: D, size: 60G, label: VMs}}
    luns: [data, target, other{more_luns}]
{host}
vms:
  - name: sql01
    host: hv01
    automatic_start: if_running
{vm or "    generation: 2"}
    disks:
      - {{slot: "scsi 0:0", vhd: 'D:\\VMs\\sql01\\os.vhdx', size: 12M}}
      - {{slot: "scsi 0:2", lun: data}}
    guest:
      address: 127.46.1.1
      disks:
        - slot: "scsi 0:0"
          partitions: [{{letter: C, label: Windows, boot: true, files: {{count: 3, size: 64K}}}}]
        - slot: "scsi 0:2"
          partitions: [{{letter: S, label: Data, files: {{count: 3, size: 256K}}}}]
{vms}
"""


class Scene:
    """A running world, the task on its host, and what is left afterwards."""

    def __init__(self, lab: Any) -> None:
        self.lab = lab
        self.world = lab.world
        self.host = lab.world.machine("hv01")
        self.vm = next(vm for vm in lab.world.vms if vm.name == "sql01")

    def task(self, **options: Any) -> dict[str, Any]:
        chosen = {
            "vm": "sql01",
            "slot": {"controller_location": 2},
            "destination_lun": TARGET,
            "confirm_size_bytes": TARGET_BYTES,
            "reserve": 0,
            "drive_letter": "V",
            "poll_interval": 0,
            **options,
        }
        given = {name: value for name, value in chosen.items() if value is not None}
        return {"name": "Migrate", "hyperv.passthrough.lun_to_vhd": given}

    def migrate(self, *arguments: str, **options: Any) -> PlaybookRun:
        return self.run([self.task(**options)], *arguments)

    def run(self, tasks: list[dict[str, Any]], *arguments: str) -> PlaybookRun:
        play = {"name": "Migration", "hosts": "hv01", "gather_facts": False, "tasks": tasks}
        run: PlaybookRun = self.lab.run([play], *arguments)
        return run

    def record(self) -> dict[str, Any]:
        with self.world.lock:
            return dict(json.loads(self.host.registry.text(f"{REGISTRY}\\{self.vm.id.upper()}", "Record")))

    def file(self, path: str) -> bytes | None:
        """A file on a volume of the host; None when it is not there."""
        with self.world.lock:
            try:
                return bytes(self.host.volume_by_letter(path[0]).read(path[3:]))
            except FileSystemError:
                return None

    def disk(self) -> Any:
        """What hangs at SCSI 0:2, as disk_info says."""
        shown = self.run([{"name": "Look", "hyperv.passthrough.disk_info": {"vms": ["sql01"]}}]).of("disk_info")[-1]
        disks = shown.result["vms"][0]["disks"]
        return next((disk for disk in disks if disk["slot"]["controller_location"] == 2), None)

    def fault(self, match: dict[str, str], effect: str, *, skip: int = 0, **parameters: Any) -> None:
        rules_of(self.world).add({"match": match, "effect": effect, "skip": skip, "parameters": parameters})

    def calls(self, method: str) -> int:
        return sum(entry.summary.method == method for entry in rules_of(self.world).transcript)


def result_of(run: PlaybookRun) -> dict[str, Any]:
    assert run.status == 0, run.output
    return dict(run.of("lun_to_vhd")[-1].result)


def error_of(run: PlaybookRun) -> dict[str, Any]:
    assert run.status != 0, run.output
    failed = run.of("lun_to_vhd")[-1].result
    return {"sentence": failed["msg"], "changed": failed["changed"], **failed["error"]}


@pytest.fixture
def here(lab: Callable[..., Any]) -> Scene:
    return Scene(lab(world_text()))


def assert_on_its_lun(here: Scene, *, running: bool = True) -> None:
    """The VM has its pass-through disk, its start action, and nobody wrote to the LUN behind its back."""
    disk = here.disk()
    assert (disk["attachment"], disk["unique_id"]) == ("pass_through", SOURCE)
    assert here.vm.settings.automatic_startup_action == IF_RUNNING
    assert here.vm.state == (RUNNING if running else OFF)
    assert here.world.check() == []


# -- copy ----------------------------------------------------------------------------------------------------------------


@pytest.mark.gates
def test_check_mode_shows_the_whole_plan_and_changes_nothing(here: Scene) -> None:
    before, mark = here.world.digests(), here.world.mark()
    run = here.migrate("--check", "--diff")
    result = result_of(run)
    assert (result["changed"], result["planned"], result["state"]) == (True, True, None)
    assert [step["kind"] for step in result["plan"]][-3:] == ["restore_start_action", "start", "close"]
    assert result["downtime"]["copied_bytes"] == 24 * MIB
    assert "[VM off] rescan, compare the sizes, and copy" in run.output
    assert here.world.digests() == before
    assert set(here.world.written_since(mark).values()) <= {0}
    assert here.host.registry.find(0x80000002, REGISTRY) is None


def test_a_copy_holds_the_guests_bytes_and_leaves_the_source_untouched(here: Scene) -> None:
    before, mark = here.world.digests(), here.world.mark()
    result = result_of(here.migrate())
    assert (result["changed"], result["state"]) == (True, "migrated")
    assert result["vhd"][0]["path"] == VHDX
    assert result["rollback"][0]["back_to"] == SOURCE
    after = here.world.digests()
    assert after["guest_volumes"] == before["guest_volumes"]
    assert after["luns"]["data"] == before["luns"]["data"]
    assert here.world.written_since(mark).get("data", 0) == 0
    assert here.vm.state == RUNNING
    assert here.vm.settings.automatic_startup_action == IF_RUNNING
    disk = here.disk()
    assert (disk["attachment"], disk["path"], disk["captured_by"]) == ("virtual_hard_disk", VHDX, "host")
    assert here.file(VHDX.replace(".vhdx", ".migrating.vhdx")) is None
    assert here.world.check() == []
    again = here.migrate()
    assert (result_of(again)["changed"], result_of(again)["plan"]) == (False, [])
    assert here.calls("ConvertVirtualHardDisk") == 1


@pytest.mark.gates
def test_a_vhd_is_the_luns_bytes_and_a_footer(lab: Callable[..., Any]) -> None:
    here = Scene(lab(world_text(vm="    generation: 1\n    state: 'off'")))
    lun = here.world.digests()["luns"]["data"]
    result = result_of(here.migrate())
    assert (result["vhd"][0]["path"], result["vhd"][0]["format"]) == ("V:\\sql01-scsi0-2.vhd", "VHD")
    file = here.file("V:\\sql01-scsi0-2.vhd")
    assert file is not None
    assert len(file) == 24 * MIB + 512
    assert hashlib.sha256(file[:-512]).hexdigest() == lun
    footer = file[-512:]
    assert footer[:8] == b"conectix"
    assert int.from_bytes(footer[48:56], "big") == 24 * MIB
    assert int.from_bytes(footer[64:68], "big") == ~(sum(footer) - sum(footer[64:68])) & 0xFFFFFFFF
    assert here.vm.state == OFF


@pytest.mark.gates
def test_two_disks_are_migrated_in_one_downtime(lab: Callable[..., Any]) -> None:
    second = "6006016000000000000000000000CC03"
    text = world_text(
        luns=f'  - {{id: more, size: 16M, bus: iscsi, serial: "7a0b1e00000c"}}\n'
        f'  - {{id: target2, size: 360M, bus: iscsi, serial: "7a0b1e00000d", unique_id: {second}, unique_id_format: 3}}\n',
        more_luns=", more, target2",
    )
    text = text.replace(
        '      - {slot: "scsi 0:2", lun: data}\n',
        '      - {slot: "scsi 0:2", lun: data}\n      - {slot: "scsi 0:3", lun: more}\n',
    )
    text = text.rstrip() + '\n        - slot: "scsi 0:3"\n          partitions: [{letter: T, label: More}]\n'
    here = Scene(lab(text))
    before = here.world.digests()["guest_volumes"]
    disks = [
        {"slot": {"controller_location": 2}, "destination_lun": TARGET, "confirm_size_bytes": TARGET_BYTES},
        {"slot": {"controller_location": 3}, "destination_lun": second, "confirm_size_bytes": TARGET_BYTES},
    ]
    result = result_of(
        here.migrate(disks=disks, slot=None, destination_lun=None, confirm_size_bytes=None, drive_letter=None)
    )
    assert [vhd["path"] for vhd in result["vhd"]] == ["E:\\sql01-scsi0-2.vhdx", "F:\\sql01-scsi0-3.vhdx"]
    assert here.calls("InitiateShutdown") == 1
    assert here.world.digests()["guest_volumes"] == before
    assert here.world.check() == []


# -- trouble before the cut-over ---------------------------------------------------------------------------------------------


@pytest.mark.gates
def test_a_copy_job_that_fails_gives_the_disk_back_and_a_rerun_finishes(here: Scene) -> None:
    mark = here.world.mark()
    here.fault({"method": "^ConvertVirtualHardDisk$"}, "fail_job", percent=40, code=32768)
    failed = error_of(here.migrate())
    assert (failed["kind"], failed["changed"]) == ("job_failed", True)
    assert "has its disks back" in failed["sentence"]
    assert_on_its_lun(here)
    assert here.world.written_since(mark).get("data", 0) == 0
    assert result_of(here.migrate())["state"] == "migrated"
    assert here.disk()["path"] == VHDX


@pytest.mark.gates
def test_an_image_service_that_refuses_the_source_gives_the_disk_back(here: Scene) -> None:
    here.fault({"method": "^ConvertVirtualHardDisk$"}, "fault", hresult="0x80041008")
    assert "has its disks back" in error_of(here.migrate())["sentence"]
    assert_on_its_lun(here)


@pytest.mark.gates
def test_a_guest_that_does_not_shut_down_keeps_running_on_its_lun(here: Scene) -> None:
    mishap(here.world, "set_guest", vm="sql01", shutdown="ignores")
    failed = error_of(here.migrate(shutdown_timeout=0))
    assert failed["kind"] == "shutdown_timeout"
    assert_on_its_lun(here)
    assert result_of(here.migrate(shutdown_timeout=0, force=True))["state"] == "migrated"


@pytest.mark.gates
def test_a_host_that_restarts_during_the_copy_does_not_start_the_vm_on_the_source(here: Scene) -> None:
    seen: list[int] = []

    def restart(_machine: Any) -> None:
        mishap(here.world, "reboot", machine="hv01", renumber=True)
        seen.append(here.vm.state)

    at_exchange(here.world, {"method": "^ConvertVirtualHardDisk$"}, restart, when="after")
    before, mark = here.world.digests()["guest_volumes"], here.world.mark()
    assert result_of(here.migrate())["state"] == "migrated"
    assert seen == [OFF]
    assert here.calls("ConvertVirtualHardDisk") == 2
    assert here.disk()["path"] == VHDX
    assert here.vm.state == RUNNING
    assert here.vm.settings.automatic_startup_action == IF_RUNNING
    assert here.world.digests()["guest_volumes"] == before
    assert here.world.written_since(mark).get("data", 0) == 0
    assert here.world.check() == []


@pytest.mark.gates
def test_disk_numbers_that_move_right_before_the_copy_are_noticed(here: Scene) -> None:
    mark = here.world.mark()
    here.fault({"method": "^ConvertVirtualHardDisk$"}, "mishap", name="reboot", machine="hv01")
    before = here.world.digests()["guest_volumes"]
    run = here.migrate()
    if run.status != 0:  # which number the LUN has then is up to the world's seed; a wrong copy is never used
        assert error_of(run)["kind"] in ("vhd_wrong", "vhd_differs", "method_failed", "job_failed")
        assert_on_its_lun(here)
        run = here.migrate()
    assert result_of(run)["state"] == "migrated"
    assert here.world.digests()["guest_volumes"] == before
    assert here.world.written_since(mark).get("data", 0) == 0


@pytest.mark.gates
def test_a_reply_that_is_lost_after_the_copy_began_does_not_leave_two_copies(here: Scene) -> None:
    here.fault({"method": "^ConvertVirtualHardDisk$"}, "drop_after")
    assert result_of(here.migrate())["state"] == "migrated"
    assert here.disk()["path"] == VHDX


@pytest.mark.gates
def test_a_lun_that_the_array_grew_meanwhile_is_not_copied_short(here: Scene) -> None:
    mishap(here.world, "grow_lun", lun="data", size="32M")
    failed = error_of(here.migrate())
    assert failed["kind"] == "size_differs"
    disk = here.disk()
    assert (disk["attachment"], disk["unique_id"]) == ("pass_through", SOURCE)
    assert here.vm.state == RUNNING


@pytest.mark.gates
def test_the_letter_of_the_new_volume_can_be_taken_meanwhile(here: Scene) -> None:
    mishap(here.world, "use_letter", machine="hv01", volume="D", letter="V")
    failed = error_of(here.migrate())
    assert failed["kind"] == "letter_taken"
    assert_on_its_lun(here)


# -- refusals ----------------------------------------------------------------------------------------------------------------


def test_what_cannot_be_migrated_is_refused_before_anything_changes(here: Scene) -> None:
    asked: dict[str, dict[str, Any]] = {
        "vhd_on_generation_2": {"vhd_format": "VHD"},
        "size_not_confirmed": {"confirm_size_bytes": 1},
        "disk_number_given": {"destination_lun": "2"},
        "does_not_fit": {"reserve": "1G"},
        "destination_is_source": {"destination_lun": SOURCE},
        "not_pass_through": {"slot": {"controller_location": 0}},
        "letter_taken": {"drive_letter": "D"},
        "size_differs": {"guest_size_bytes": 1},
        "nothing_to_roll_back": {"state": "rolled_back"},
        "no_staging_path": {"mode": "in_place", "destination_lun": None},
        "unknown_vm": {"vm": "sql02"},
        "unquoted_identity": {"lun": 600601600000},
    }
    before = here.world.digests()
    tasks = [{**here.task(**options), "ignore_errors": True} for options in asked.values()]
    run = here.run(tasks)
    found = [task.result["error"]["kind"] for task in run.of("lun_to_vhd")]
    assert found == list(asked)
    assert not any(task.result["changed"] for task in run.of("lun_to_vhd"))
    assert here.world.digests() == before
    assert here.host.registry.find(0x80000002, REGISTRY) is None


@pytest.mark.gates
@pytest.mark.parametrize(
    ("trouble", "kind"),
    [
        ({"name": "save_vm", "vm": "sql01"}, "vm_saved"),
        ({"name": "set_disk_online", "machine": "hv01", "lun": "data", "online": True}, "unresolved_pass_through"),
        ({"name": "overwrite_lun", "lun": "target"}, None),
        ({"name": "clone_lun", "lun": "target", "other": "data"}, "destination_not_blank"),
        ({"name": "same_identity", "lun": "target", "other": "other"}, None),
    ],
)
def test_what_happened_to_the_world_before_is_noticed(here: Scene, trouble: dict[str, Any], kind: str | None) -> None:
    mishap(here.world, **trouble)
    run = here.migrate("--check")
    if kind is None:
        assert run.of("lun_to_vhd")
        return
    assert kind in [finding["kind"] for finding in error_of(run)["findings"]]


# -- back and the end -----------------------------------------------------------------------------------------------------------


@pytest.mark.gates
def test_the_way_back_names_what_would_be_lost_and_keeps_the_vhd(here: Scene) -> None:
    migrated = result_of(here.migrate())
    since = migrated["rollback"][0]["discard_writes_since"]
    refused = error_of(here.migrate(state="rolled_back"))
    assert refused["kind"] == "writes_would_be_lost"
    assert since in refused["sentence"]
    assert here.disk()["path"] == VHDX
    back = result_of(here.migrate(state="rolled_back", discard_writes_since=since))
    assert back["state"] == "rolled_back"
    assert_on_its_lun(here)
    assert here.file(VHDX) is not None
    again = result_of(here.migrate(state="rolled_back", discard_writes_since=since))
    assert again["changed"] is False


@pytest.mark.gates
def test_finalizing_releases_the_lun_and_closes_the_way_back(here: Scene) -> None:
    since = result_of(here.migrate())["rollback"][0]["discard_writes_since"]
    mark = here.world.mark()
    done = result_of(here.migrate(state="finalized"))
    assert (done["changed"], done["state"]) == (True, "finalized")
    assert SOURCE in done["rollback"][0]["reclaimable"]
    assert here.world.written_since(mark).get("data", 0) == 0
    assert result_of(here.migrate(state="finalized"))["changed"] is False
    assert error_of(here.migrate(state="rolled_back", discard_writes_since=since))["kind"] == "already_finalized"


# -- in place and new --------------------------------------------------------------------------------------------------------------


IN_PLACE: dict[str, Any] = {
    "mode": "in_place",
    "destination_lun": None,
    "confirm_size_bytes": None,
    "staging_path": "D:\\Staging",
    "growth_gib": 1,
}


@pytest.fixture
def with_folder(here: Scene) -> Scene:
    mishap(here.world, "write_file", machine="hv01", path="D:\\Staging\\readme.txt", text="room for staging")
    return here


@pytest.mark.gates
def test_in_place_runs_on_staging_until_the_array_has_grown_the_lun(with_folder: Scene) -> None:
    here = with_folder
    before, mark = here.world.digests(), here.world.mark()
    first = result_of(here.migrate(**IN_PLACE))
    assert first["state"] == "awaiting_growth"
    assert first["vhd"][0]["path"] == STAGING
    assert here.disk()["path"] == STAGING
    assert here.world.written_since(mark).get("data", 0) == 0
    waiting = result_of(here.migrate(**IN_PLACE))
    assert (waiting["changed"], waiting["state"]) == (False, "awaiting_growth")
    assert any("must still grow" in note for note in waiting["notes"])
    assert error_of(here.migrate(**IN_PLACE, confirm_wipe=SOURCE))["kind"] == "does_not_fit"
    assert here.world.written_since(mark).get("data", 0) == 0
    mishap(here.world, "grow_lun", lun="data", size="400M")
    assert error_of(here.migrate(**IN_PLACE, confirm_wipe=TARGET))["kind"] == "wipe_not_confirmed"
    assert here.world.written_since(mark).get("data", 0) == 0
    second = result_of(here.migrate(**IN_PLACE, confirm_wipe=SOURCE))
    assert second["state"] == "migrated"
    assert here.disk()["path"] == VHDX
    assert here.world.digests()["guest_volumes"] == before["guest_volumes"]
    assert here.vm.state == RUNNING
    assert here.world.check() == []
    assert result_of(here.migrate(**IN_PLACE, confirm_wipe=SOURCE))["changed"] is False
    done = result_of(here.migrate(state="finalized"))
    assert STAGING in done["rollback"][0]["reclaimable"]


@pytest.mark.gates
def test_after_the_wipe_a_failure_gives_the_staging_vhd_back(with_folder: Scene) -> None:
    here = with_folder
    before = here.world.digests()["guest_volumes"]
    result_of(here.migrate(**IN_PLACE))
    mishap(here.world, "grow_lun", lun="data", size="400M")
    here.fault({"method": "^ConvertVirtualHardDisk$"}, "fail_job", percent=40, code=32768)
    failed = error_of(here.migrate(**IN_PLACE, confirm_wipe=SOURCE))
    assert "has its disks back" in failed["sentence"]
    assert here.disk()["path"] == STAGING
    assert here.vm.state == RUNNING
    assert here.world.digests()["guest_volumes"] == before
    assert result_of(here.migrate(**IN_PLACE, confirm_wipe=SOURCE))["state"] == "migrated"
    assert here.world.digests()["guest_volumes"] == before


@pytest.mark.gates
def test_after_the_wipe_the_way_back_is_the_staging_vhd(with_folder: Scene) -> None:
    here = with_folder
    result_of(here.migrate(**IN_PLACE))
    mishap(here.world, "grow_lun", lun="data", size="400M")
    since = result_of(here.migrate(**IN_PLACE, confirm_wipe=SOURCE))["rollback"][0]["discard_writes_since"]
    back = result_of(here.migrate(state="rolled_back", discard_writes_since=since))
    assert back["state"] == "awaiting_growth"
    assert here.disk()["path"] == STAGING
    assert here.vm.state == RUNNING


@pytest.mark.gates
def test_an_empty_vhd_is_added_to_the_running_vm(here: Scene) -> None:
    options: dict[str, Any] = {"mode": "new", "slot": {"controller_location": 5}}
    result = result_of(here.migrate(**options))
    assert (result["state"], result["downtime"]["class"]) == ("migrated", "none")
    assert here.vm.state == RUNNING
    assert here.calls("InitiateShutdown") == 0
    assert result_of(here.migrate(**options))["changed"] is False
    assert here.world.check() == []


# -- other kinds of disks ---------------------------------------------------------------------------------------------------------

KINDS: dict[str, dict[str, Any]] = {
    # VM: generation, slot, the LUN's own keys, the guest's disk, the size of the destination, options
    "ide01": {
        "generation": 1,
        "slot": {"controller_type": "IDE", "controller_location": 1},
        "guest": "style: mbr, partitions: [{letter: E, label: Ide, mbr_type: 7, files: {count: 2, size: 64K}}]",
        "format": "VHD",
    },
    "fourk01": {"lun": "sector: 4096", "guest": "partitions: [{letter: H, label: FourK}]"},
    "refs01": {
        "guest": "partitions: [{letter: R, label: Data, files: {count: 2, size: 64K}}]",
        "size": "4G",
        "options": {"file_system": "ReFS"},
    },
    "small01": {
        "guest": "partitions: [{letter: M, label: Small, files: {count: 2, size: 64K}}]",
        "options": {"allocation_unit": 4096, "vhd_format": "VHDX", "file_name": "my data.vhdx"},
        "path": "my_data.vhdx",
    },
    "boot01": {
        "slot": {"controller_location": 0},
        "guest": "partitions: [{letter: C, label: Windows, boot: true, files: {count: 2, size: 64K}}]",
    },
    "thin01": {
        "guest": "partitions: [{letter: T, label: Thin}]",
        "destination": "thin: true",
        "options": {"accept_full_allocation": True},
    },
}


def kinds_text() -> str:
    luns, names, vms = "", [], ""
    for number, (name, kind) in enumerate(KINDS.items()):
        slot = kind.get("slot", {"controller_location": 2})
        where = f"{slot.get('controller_type', 'SCSI').lower()} 0:{slot['controller_location']}"
        luns += f"  - {{id: {name}, size: 16M, bus: fc, {kind.get('lun', 'serial: s' + name)}}}\n"
        luns += (
            f"  - {{id: {name}-new, size: {kind.get('size', '360M')}, bus: fc, {kind.get('destination', 'vendor: PURE')}, "
            f"unique_id: 6006016000000000000000000000D{number:03d}, unique_id_format: 3}}\n"
        )
        names += [name, f"{name}-new"]
        vms += (
            f"  - name: {name}\n    host: hv01\n    generation: {kind.get('generation', 2)}\n"
            f'    disks: [{{slot: "{where}", lun: {name}}}]\n'
            f'    guest:\n      address: 127.46.2.{number + 1}\n      disks: [{{slot: "{where}", {kind["guest"]}}}]\n'
        )
    return world_text(luns=luns, more_luns=", " + ", ".join(names), vms=vms)


@pytest.mark.gates
def test_every_kind_of_disk_and_destination_can_be_migrated(lab: Callable[..., Any]) -> None:
    here = Scene(lab(kinds_text()))
    before, mark = here.world.digests()["guest_volumes"], here.world.mark()
    tasks = []
    for number, (name, kind) in enumerate(KINDS.items()):
        size = 4 * 1024 * MIB if kind.get("size") == "4G" else TARGET_BYTES
        tasks.append(
            here.task(
                vm=name,
                slot=kind.get("slot", {"controller_location": 2}),
                destination_lun=f"6006016000000000000000000000D{number:03d}",
                confirm_size_bytes=size,
                drive_letter=None,
                **kind.get("options", {}),
            )
        )
    run = here.run(tasks)
    assert run.status == 0, run.output
    results = [task.result for task in run.of("lun_to_vhd")]
    assert [result["state"] for result in results] == ["migrated"] * len(KINDS)
    assert [result["vhd"][0]["format"] for result in results] == [kind.get("format", "VHDX") for kind in KINDS.values()]
    paths = {name: result["vhd"][0]["path"] for name, result in zip(KINDS, results, strict=True)}
    assert paths["small01"].endswith(":\\my_data.vhdx")
    assert len({path[0] for path in paths.values()}) == len(KINDS)
    assert here.world.digests()["guest_volumes"] == before
    written = here.world.written_since(mark)
    assert {name: written.get(name, 0) for name in KINDS} == dict.fromkeys(KINDS, 0)
    assert here.world.check() == []


# -- the lease ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.gates
def test_a_run_whose_lease_is_lost_stops_before_it_changes_anything(here: Scene, tmp_path: Path) -> None:
    failed = error_of(here.migrate(lease="nonsense"))
    assert (failed["kind"], failed["changed"]) == ("bad_lease", False)
    assert_on_its_lun(here)


# -- the role and its playbooks -------------------------------------------------------------------------------------------------------

PLAYBOOK = "hyperv.passthrough.vhd_migration"


def play(here: Scene, *arguments: str, playbook: str = PLAYBOOK, **settings: Any) -> PlaybookRun:
    chosen = {
        f"vhd_migration_{name}": value for name, value in {"poll_interval": 0, "reserve": "0", **settings}.items()
    }
    run: PlaybookRun = here.lab.run(playbook, "-e", json.dumps(chosen), *arguments)
    return run


def sentences(run: PlaybookRun) -> str:
    shown = [task.result["msg"] for task in run.tasks if task.task.startswith("What each VM runs on")]
    return "\n".join(shown[-1])


DISKS = [{"lun": SOURCE, "destination_lun": TARGET, "confirm_size_bytes": TARGET_BYTES, "drive_letter": "V"}]


@pytest.mark.core
def test_the_playbook_reports_migrates_and_leaves_the_guest_as_it_was(here: Scene) -> None:
    before = here.world.digests()
    report = play(here, "--check")
    assert report.status == 0, report.output
    assert f"sql01 SCSI 0:2 ({SOURCE}" in sentences(report)
    assert here.world.digests() == before
    checked = play(here, "--check", "--diff", disks=DISKS)
    assert checked.status == 0, checked.output
    assert "would do: write the migration" in sentences(checked)
    assert here.world.digests() == before
    run = play(here, disks=DISKS)
    assert run.status == 0, run.output
    assert f"sql01: migrated, {VHDX}" in sentences(run)
    assert here.world.digests()["guest_volumes"] == before["guest_volumes"]
    volume = next(
        volume
        for disk in run.of("guest_disk_info")[-1].result["disks"]
        for volume in disk["volumes"]
        if volume["label"] == "Data"
    )
    assert volume["letter"] == "S"
    assert here.world.check() == []
    assert here.disk()["captured_by"] == "host"


@pytest.mark.gates
def test_the_rollback_playbook_leads_back_and_the_guest_has_its_disk(here: Scene) -> None:
    before = here.world.digests()["guest_volumes"]
    run = play(here, disks=DISKS)
    assert run.status == 0, run.output
    again = play(here, disks=DISKS)
    assert again.status == 0, again.output
    assert not any(task.result.get("changed") for task in again.of("lun_to_vhd") + again.of("guest_disk"))
    since = here.record()["disks"][0]["cut_over"]
    rollback = "hyperv.passthrough.vhd_migration_rollback"
    refused = play(here, playbook=rollback)
    assert refused.status != 0
    assert since in refused.output
    back = play(here, playbook=rollback, discard_writes_since=since)
    assert back.status == 0, back.output
    assert_on_its_lun(here)
    assert here.world.digests()["guest_volumes"] == before


@pytest.mark.gates
def test_a_guest_that_cannot_be_asked_is_not_migrated(here: Scene) -> None:
    mishap(here.world, "set_guest", vm="sql01", answers=False)
    run = play(here, disks=DISKS)
    assert run.status != 0
    assert run.of("lun_to_vhd") == []
    assert_on_its_lun(here)


@pytest.mark.gates
def test_a_letter_that_another_volume_of_the_guest_took_is_told(here: Scene) -> None:
    at_exchange(
        here.world,
        {"machine": "^sql01$", "method": "^Online$"},
        lambda _machine: mishap(here.world, "use_letter", machine="sql01", volume="C", letter="S"),
    )
    run = play(here, disks=DISKS)
    assert run.status != 0
    assert "S:" in run.output
    assert here.disk()["path"] == VHDX
