# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine export on a simulated host, in process: a VM exported while it runs, brought back, and what goes wrong on the way."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup import engines
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.engine import (
    BackupRequest,
    RestoreRequest,
    TargetQuestion,
    Waiting,
    Workplace,
)
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.errors import BackupError, TargetRefused
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv import SCHEMA, HypervError, observe_host
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.vm_export import (
    checkpoints_of,
    make_recovery_checkpoint,
)
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.vm_import import find_planned
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.volumes import mounted_volumes
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._wsman import WsmanClient
from simulator.assumed import import_everything
from simulator.door_memory import memory_door
from simulator.mishaps import mishap
from simulator.world import World

TEXT = """
name: exports
seed: exports
clock: 2026-10-01T20:00:00Z
shares:
  - {server: filer01, name: backup, size: 100G, read: ["*"], write: ["HV01$"]}
luns:
  - {id: data, size: 24M, bus: iscsi}
hosts:
  - name: hv01
    address: 127.46.0.1
    os: server2022
    volumes:
      - {letter: C, size: 40G, label: System}
      - {letter: D, size: 60G, label: VMs}
      - {letter: E, size: 60G, label: Backup}
      - {letter: F, size: 16M, label: Small}
    luns: [data]
    switches: [External]
vms:
  - name: erp01
    host: hv01
    state: running
    generation: 2
    guest:
      address: 127.46.1.1
      disks:
        - {slot: "scsi 0:0", partitions: [{letter: C, label: Windows, boot: true, files: {count: 3, size: 64K}}]}
        - {slot: "scsi 0:2", partitions: [{letter: L, label: Logs, files: {count: 3, size: 64K}}]}
    automatic_start: always
    networks: [External]
    disks:
      - {slot: "scsi 0:0", vhd: 'D:\\VMs\\erp01\\os.vhdx', size: 12M}
      - {slot: "scsi 0:1", lun: data}
      - {slot: "scsi 0:2", vhd: 'D:\\VMs\\erp01\\log.vhdx', size: 12M, type: dynamic}
"""
RUN = "set1.host.1"
RESTORE = "set1.host_restore.r1.1"
OFF, RUNNING, SAVED, PAUSED = 3, 2, 6, 9


class Site:
    """One host, the engine on it, and what there is to look at."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.host = world.machine("hv01")
        ids = (f"{number:08X}-0000-4000-8000-000000000000" for number in itertools.count())
        self.new_id: Callable[[], str] = lambda: next(ids)
        self.client = WsmanClient(
            memory_door(self.host, "Administrator"), schema=SCHEMA, new_id=self.new_id, endpoint="memory"
        )
        counter = itertools.count()
        self.said: list[str] = []
        self.waiting = Waiting(
            sleep=world.clock.advance,
            now=lambda: float(next(counter)),
            progress=self.said.append,
            poll_s=1.0,
            timeout_s=600.0,
        )
        self.vm_id = next(vm.id for vm in world.vms if vm.name == "erp01").upper()

    def engine(self, **options: Any) -> Any:
        return self._made("backup", options)

    def restores(self, **options: Any) -> Any:
        return self._made("restore", options)

    def _made(self, half: str, options: dict[str, Any]) -> Any:
        entry = engines.engine("export")
        place = Workplace(
            client=self.client, waiting=self.waiting, options=entry.options(options, "host"), new_id=self.new_id
        )
        return getattr(entry, half)(place)

    def view(self) -> dict[str, Any]:
        return observe_host(self.client, vms=[self.vm_id], vhd_details=True).to_dict()["vms"][0]

    def request(self, target: str = "E:", **changes: Any) -> BackupRequest:
        vm = self.view()
        request = BackupRequest(
            phase="host",
            target=target,
            label=vm["name"],
            vm_id=vm["id"],
            vm_name=vm["name"],
            vm_state=vm["state"],
            left_out_disks=1,
            vm=vm,
            covered=True,
        )
        return dataclasses.replace(request, **changes)

    def backed_up(self, target: str = "E:", run_id: str = RUN, **options: Any) -> Any:
        return self.engine(**options).run(run_id, self.request(target), self.waiting)

    def restore_request(self, made: Any, vm: dict[str, Any], **changes: Any) -> RestoreRequest:
        rows = [{"coverage": disk["captured_by"], "evidence": {"host": {"path": disk["path"]}}} for disk in vm["disks"]]
        request = RestoreRequest(
            kind="vm",
            version=made.version,
            target=made.target,
            machine="HV01",
            item=self.vm_id,
            label="erp01",
            vm={"id": self.vm_id, "name": "erp01", "configuration": vm["configuration"]},
            disks=rows,
            evidence=made.evidence,
        )
        return dataclasses.replace(request, **changes)

    def checkpoints(self) -> list[str]:
        return [one.name for one in checkpoints_of(self.client, self.vm_id)]

    def images(self) -> dict[str, str]:
        """Digests of the VM's own disks (not of exports)."""
        return {
            path: digest
            for path, digest in self.world.digests()["images"].items()
            if path.casefold().startswith("hv01:d:")
        }

    def exported(self) -> dict[str, str]:
        """Digest of each file of the exports on E:, by its path below that volume."""
        return {path: digest for path, digest in self.files("E").items() if "exports" in path.casefold()}

    def files(self, letter: str) -> dict[str, str]:
        """Digest of every file of a volume of the host."""
        volume, _path = self.host.resolve(f"{letter}:\\")
        root = Path(volume.files.root)
        return {
            str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(root.rglob("*"))
            if path.is_file()
        }

    def trees(self) -> dict[str, str]:
        """Digests of the file trees on the guest's volumes: a copied virtual hard disk is another file with the same disk."""
        return dict(self.world.digests()["guest_volumes"])

    @property
    def vm(self) -> Any:
        return next(vm for vm in self.world.vms if vm.name == "erp01")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    import_everything()
    with closing(World.from_yaml(TEXT, tmp_path / "world")) as world:
        yield Site(world)


def kind_of(action: Callable[[], object]) -> str:
    with pytest.raises((BackupError, HypervError)) as caught:
        action()
    return caught.value.kind


@pytest.mark.parametrize("target", ["E:", "E:\\Backups\\Hyper-V", "\\\\filer01\\backup"])
def test_a_running_vm_is_exported_and_nothing_is_left_of_the_checkpoint(site: Site, target: str) -> None:
    before, luns = site.images(), site.world.digests()["luns"]
    made = site.backed_up(target)
    assert (made.state, made.version, made.consistency, made.listed) == ("succeeded", RUN, "online", True), made
    assert [disk["path"] for disk in made.evidence["disks"]] == ["D:\\VMs\\erp01\\os.vhdx", "D:\\VMs\\erp01\\log.vhdx"]
    assert (made.evidence["consistency_wished"], made.evidence["consistency_came"]) == ("application", "application")
    assert made.target.startswith(target)
    assert site.checkpoints() == []
    assert site.vm.state == RUNNING
    assert site.images() == before
    assert site.world.digests()["luns"] == luns
    assert site.world.check() == []
    again = site.engine().run(RUN, site.request(target), site.waiting)
    assert (again.version, again.evidence) == (made.version, made.evidence)
    assert site.engine().known(RUN) == "ended"
    assert RUN in site.restores().listing("l", made.target, "HV01", version=RUN).versions


@pytest.mark.parametrize("target", ["E:", "\\\\filer01\\backup"])
def test_a_vm_that_is_gone_comes_back_where_it_was_off_and_without_pass_through_drives(site: Site, target: str) -> None:
    before, trees, vm = site.images(), site.trees(), site.view()
    made = site.backed_up(target)
    exports = site.exported()
    mishap(site.world, "stop_vm", vm="erp01")
    mishap(site.world, "delete_vm", vm="erp01")
    request = site.restore_request(made, vm)
    assert list(site.restores().refusals(request)) == []
    result = site.restores().run(RESTORE, request, site.waiting)
    assert result.state == "succeeded", result
    assert (site.trees(), site.images().keys()) == (trees, before.keys())
    assert site.exported() == exports
    assert site.vm.state == OFF
    assert site.vm.settings.automatic_startup_action == 2
    now = site.view()
    assert [disk["path"] for disk in now["disks"]] == ["D:\\VMs\\erp01\\os.vhdx", "D:\\VMs\\erp01\\log.vhdx"]
    assert [disk["vhd"]["id"] for disk in now["disks"]] == [
        disk["vhd"]["id"] for disk in vm["disks"] if disk["captured_by"] == "host"
    ]
    assert now["configuration"] == vm["configuration"]
    assert find_planned(site.client, site.vm_id) is None
    assert site.restores().known(RESTORE) == "ended"
    assert site.world.check() == []


def test_an_export_holds_the_bytes_of_the_disks_and_a_definition(site: Site) -> None:
    site.backed_up()
    own = {path.rpartition("/")[2]: digest for path, digest in site.files("D").items() if path.endswith(".vhdx")}
    there = {path.rpartition("/")[2]: digest for path, digest in site.exported().items()}
    assert {name: there[name] for name in own} == own
    assert [name for name in there if name.endswith(".vmcx")] == [f"{site.vm_id}.vmcx"]


def test_a_vm_that_exists_is_replaced_only_when_that_was_permitted(site: Site) -> None:
    before, trees, vm = site.images(), site.trees(), site.view()
    made = site.backed_up()
    mishap(site.world, "stop_vm", vm="erp01")
    mishap(site.world, "overwrite_vhd", vm="erp01", slot="scsi 0:0")
    newer = site.images()
    request = site.restore_request(made, vm)
    assert kind_of(lambda: site.restores().run(RESTORE, request, site.waiting)) == "vm_exists"
    assert newer.items() <= site.images().items()
    assert site.trees() != trees
    replaced = dataclasses.replace(request, replace=True)
    result = site.restores().run("set1.host_restore.r2.1", replaced, site.waiting)
    assert result.state == "succeeded", result
    assert (site.trees(), site.images().keys()) == (trees, before.keys())


def test_a_file_that_appears_while_the_disks_are_copied_is_not_replaced(site: Site) -> None:
    vm = site.view()
    made = site.backed_up()
    mishap(site.world, "stop_vm", vm="erp01")
    mishap(site.world, "delete_vm", vm="erp01")
    request = site.restore_request(made, vm)
    site.restores().start(RESTORE, request)
    mishap(site.world, "write_file", machine="hv01", path="D:\\VMs\\erp01\\log.vhdx", text="somebody's own")
    theirs = site.files("D")["VMs/erp01/log.vhdx"]
    assert kind_of(lambda: site.restores().run(RESTORE, request, site.waiting)) == "vhd_exists"
    assert site.files("D")["VMs/erp01/log.vhdx"] == theirs
    mishap(site.world, "delete_file", machine="hv01", path="D:\\VMs\\erp01\\log.vhdx")
    assert site.restores().run(RESTORE, request, site.waiting).state == "succeeded"


def test_a_run_that_died_after_its_checkpoint_goes_on_with_it(site: Site) -> None:
    engine = site.engine()
    request = site.request()
    job = engine.start(RUN, request)
    assert site.checkpoints() == [f"hyperv.passthrough {RUN}"]
    assert site.engine().known(RUN) == "running"
    assert site.engine().start(RUN, request).attached is True
    made = site.engine().run(RUN, request, site.waiting)
    assert (made.state, made.target) == ("succeeded", job.target)
    assert site.checkpoints() == []


def test_another_run_removes_what_a_dead_one_left_and_nothing_else(site: Site) -> None:
    site.engine().start("set0.host.1", site.request())
    mishap(site.world, "reboot", machine="hv01", renumber=False)
    assert site.checkpoints() == ["hyperv.passthrough set0.host.1"]
    made = site.backed_up()
    assert made.state == "succeeded", made
    assert site.checkpoints() == []
    assert all(RUN in path for path in site.exported())
    assert site.engine().known("set0.host.1") == "ended"


def test_a_recovery_checkpoint_of_somebody_else_is_left_alone_and_the_vm_is_refused(site: Site) -> None:
    make_recovery_checkpoint(
        site.client, site.vm_id, "Their backup", site.waiting, consistency="crash", guest_backup_type="copy"
    )
    there = site.checkpoints()
    assert [one.kind for one in site.engine().refusals(site.request())] == ["foreign_checkpoint"]
    assert kind_of(site.backed_up) == "foreign_checkpoint"
    assert site.checkpoints() == there


def test_a_job_that_fails_half_way_is_a_failure_and_what_it_wrote_is_taken_away(site: Site) -> None:
    request = site.request()
    mishap(site.world, "fail_job", machine="hv01", job_type=62, percent=50, code=32768)
    made = site.engine().run(RUN, request, site.waiting)
    assert (made.state, made.version, made.kind) == ("failed", None, "export_failed"), made
    assert site.checkpoints() == []
    assert site.exported() == {}
    assert site.backed_up(run_id="set1.host.2").state == "succeeded"


def test_a_host_that_restarts_in_the_middle_leaves_a_failure_and_no_checkpoint(site: Site) -> None:
    request = site.request()
    site.engine().start(RUN, request)
    mishap(site.world, "reboot", machine="hv01", renumber=False)
    made = site.engine().run(RUN, request, site.waiting)
    assert (made.state, made.kind) == ("failed", "interrupted"), made
    assert site.checkpoints() == []
    assert site.exported() == {}


def test_a_target_without_room_is_refused_before_anything_is_begun(site: Site) -> None:
    question = TargetQuestion(
        target="F:", volumes=[volume.to_dict() for volume in mounted_volumes(site.client)], needed_bytes=1 << 30
    )
    with pytest.raises(TargetRefused) as caught:
        site.engine().check_target(question)
    assert caught.value.kind == "target_full"


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"vm_state": "paused"}, "vm_not_steady"),
        ({"vm_state": "starting"}, "vm_not_steady"),
        ({"covered": False}, "not_covered"),
    ],
)
def test_what_speaks_against_an_export(site: Site, changes: dict[str, Any], kind: str) -> None:
    assert [one.kind for one in site.engine().refusals(site.request(**changes))] == [kind]


def test_two_disks_of_one_file_name_are_refused(site: Site) -> None:
    request = site.request()
    disks = [{**disk, "path": f"D:\\{n}\\same.vhdx"} for n, disk in enumerate(request.vm["disks"])]
    twice = dataclasses.replace(request, vm={**request.vm, "disks": disks})
    assert [one.kind for one in site.engine().refusals(twice)] == ["same_file_names"]


@pytest.mark.parametrize("state", ["off", "saved"])
def test_a_vm_that_does_not_run_is_exported_as_it_lies_there(site: Site, state: str) -> None:
    mishap(site.world, "stop_vm" if state == "off" else "save_vm", vm="erp01")
    made = site.backed_up()
    assert (made.state, made.consistency, made.evidence["consistency_came"]) == ("succeeded", "off", "off"), made


def test_an_export_that_lost_a_file_is_no_version_any_more(site: Site) -> None:
    made, vm = site.backed_up(), site.view()
    mishap(site.world, "delete_file", machine="hv01", path=f"{made.target}\\Virtual Hard Disks\\log.vhdx")
    assert site.restores().listing("l", made.target, "HV01").versions == ()
    assert [one.kind for one in site.restores().refusals(site.restore_request(made, vm))] == ["export_not_whole"]


def test_retention_deletes_an_export_that_its_record_proves_to_be_ours(site: Site) -> None:
    made = site.backed_up()
    restores = site.restores()
    assert restores.why_kept("\\\\filer01\\backup")
    assert restores.delete("set2.host.1", RUN, made.target, "HV01").state == "kept"
    assert [restores.delete(RUN, RUN, made.target, "HV01").state for _unused in range(2)] == ["deleted", "gone"]
    assert site.exported() == {}


def test_options_are_known_by_name_and_value() -> None:
    entry = engines.engine("export")
    for given in ({"consistency": "best"}, {"speed": 1}, {"allow_crash_consistent": 3}):
        assert kind_of(lambda given=given: entry.options(given, "host")) == "bad_option"  # type: ignore[misc]
    assert kind_of(lambda: entry.options({}, "guest")) == "wrong_phase"
    assert entry.options({"allow_crash_consistent": "false"}, "host").allow_crash_consistent is False


def test_hosts_before_server_2016_are_told_so() -> None:
    entry = engines.engine("export")
    options = entry.options({}, "host")
    old = entry.capabilities({"os_build": "9600", "os_caption": "Windows Server 2012 R2"}, options)
    assert (old.available, old.kind) == (False, "too_old")
    new = entry.capabilities({"os_build": "20348"}, options)
    assert (new.available, new.concurrent, new.checkpoints, new.restores_elsewhere) == (True, True, False, True)
