# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Trouble around a migration: LUNs that other hosts see, guests that are not Windows, several disks that moved, full volumes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup import engines
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.engine import BackupRequest, Workplace
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv import HypervError, observe_host
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.disk_selector import DiskSelector
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.model import Slot
from backup_scene import at_exchange
from migration_site import PAUSED, RUNNING, SLOT, SOURCE, TARGET, TARGET_BYTES, VHDX, Site, world_text
from playbook_run import PlaybookRun
from simulator.mishaps import mishap

pytestmark = [pytest.mark.e2e, pytest.mark.gates]
MORE, TARGET2 = "6006016000000000000000000000AA03", "6006016000000000000000000000BB04"
SECOND = Slot(controller_type="SCSI", controller_number=0, controller_location=3)
DISKS = [{"lun": SOURCE, "destination_lun": TARGET, "confirm_size_bytes": TARGET_BYTES, "drive_letter": "V"}]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    made: list[Site] = []

    def make(**text: Any) -> Site:
        made.append(Site(tmp_path, world_text(**text)))
        return made[-1]

    yield make
    for one in made:
        one.world.close()


# -- through the role ------------------------------------------------------------------------------------------------------


def play(lab: Any, **variables: Any) -> PlaybookRun:
    prefixed = {f"vhd_migration_{name}": value for name, value in variables.items()}
    given = {"vhd_migration_reserve": "0", "vhd_migration_poll_interval": 0, **prefixed}
    run: PlaybookRun = lab.run("hyperv.passthrough.vhd_migration", "-e", json.dumps(given))
    return run


SECOND_HOST = """
  - name: hv02
    address: 127.46.0.2
    os: server2022
    volumes: [{letter: C, size: 40G, label: System}]
    luns: [target]
vms:
"""


def test_a_destination_that_another_host_sees_is_refused_by_the_role_until_it_is_accepted(
    lab: Callable[..., Any],
) -> None:
    here = lab(world_text().replace("\nvms:\n", SECOND_HOST, 1))
    mark = here.world.mark()
    refused = play(here, disks=DISKS)
    assert refused.status != 0
    (failed,) = refused.of("lun_to_vhd")
    assert failed.result["error"]["kind"] == "lun_seen_elsewhere"
    assert "hv02" in failed.result["msg"]
    assert set(here.world.written_since(mark).values()) <= {0}
    accepted = play(here, disks=DISKS, accept_seen_elsewhere=True)
    assert accepted.status == 0, accepted.output
    assert here.world.check() == []


def test_another_host_that_cannot_be_asked_must_be_accepted_by_name(lab: Callable[..., Any]) -> None:
    here = lab(world_text().replace("\nvms:\n", SECOND_HOST, 1))
    mishap(here.world, "set_password", machine="hv02", account="Administrator", password="another one")
    refused = play(here, disks=DISKS)
    assert refused.status != 0
    assert refused.of("lun_to_vhd") == []
    assert play(here, disks=DISKS, accept_unseen_hosts=True).status == 0


LINUX = "    guest: {address: 127.46.1.1, os: linux, "


def linux_text() -> str:
    return world_text().replace(
        "    guest:\n      address: 127.46.1.1\n", "    guest:\n      address: 127.46.1.1\n      os: linux\n"
    )


def test_a_linux_guest_is_migrated_only_when_its_proof_is_left_out_by_name(lab: Callable[..., Any]) -> None:
    here = lab(linux_text())
    content = here.world.digests()["luns"]["data"]
    report = play(here)
    assert report.status == 0, report.output
    refused = play(here, disks=DISKS)
    assert refused.status != 0
    assert "vhd_migration_guest_storage: none" in refused.output
    assert refused.of("lun_to_vhd") == []
    run = play(here, disks=DISKS, guest_storage="none", verify="full")
    assert run.status == 0, run.output
    assert "not verified inside the guest" in run.output
    (done,) = run.of("lun_to_vhd")
    assert any("UUID=" in note for note in done.result["notes"])
    assert done.result["vhd"][0]["sha256"] == content
    assert here.world.check() == []


# -- several disks that moved ----------------------------------------------------------------------------------------------


def two_disks(site: Callable[..., Site]) -> Site:
    return site(
        luns=f'  - {{id: more, size: 8M, bus: iscsi, serial: "7a0b1e000003", unique_id: {MORE}, unique_id_format: 3}}\n'
        f'  - {{id: target2, size: 360M, bus: iscsi, serial: "7a0b1e000004", unique_id: {TARGET2}, unique_id_format: 3}}\n',
        more_luns=", more, target2",
        disks='      - {slot: "scsi 0:3", lun: more}\n',
        inside='        - slot: "scsi 0:3"\n          partitions: [{letter: T, label: More, files: {count: 1, size: 4K}}]\n',
    )


BOTH: tuple[Mapping[str, Any], ...] = (
    {"lun": DiskSelector(unique_id=SOURCE), "slot": None},
    {
        "lun": DiskSelector(unique_id=MORE),
        "slot": None,
        "destination": DiskSelector(unique_id=TARGET2),
        "drive_letter": "W",
    },
)


def test_several_disks_that_drifted_are_all_told_and_none_is_touched(site: Callable[..., Site]) -> None:
    here = two_disks(site)
    for _unused in range(8):
        if len(here.world.drifted()) < 2:
            mishap(here.world, "reboot", machine="hv01", renumber=True)
    assert len(here.world.drifted()) == 2
    mark = here.world.mark()
    slots = (SLOT, SECOND)
    wanted = [{**one, "slot": slot} for one, slot in zip(BOTH, slots, strict=True)]
    plan = here.plan(here.request(*wanted))
    assert plan.refused
    assert {finding.slot for finding in plan.findings} >= set(slots)
    assert set(here.world.written_since(mark).values()) <= {0}


def test_a_restart_in_the_downtime_of_two_disks_mixes_nothing_up(site: Callable[..., Site]) -> None:
    here = two_disks(site)
    before = here.world.digests()
    at_exchange(
        here.world,
        {"method": "^ConvertVirtualHardDisk$"},
        lambda _machine: mishap(here.world, "reboot", machine="hv01", renumber=True),
        skip=1,
    )
    request = here.request(*BOTH, every_byte=True)
    for _unused in range(3):
        try:
            record = here.migrate(request)
            break
        except HypervError as error:
            assert error.kind != "internal"
    else:
        pytest.fail("three runs and no end")
    assert {disk.sha256 for disk in record.disks} == {before["luns"]["data"], before["luns"]["more"]}
    assert here.world.digests()["guest_volumes"] == before["guest_volumes"]
    assert (here.vm.state, here.jobs_left(), here.world.check()) == (RUNNING, [], [])


def test_a_vm_whose_other_pass_through_disk_drifted_meanwhile_is_not_started(site: Callable[..., Site]) -> None:
    here = two_disks(site)
    at_exchange(
        here.world,
        {"method": "^ConvertVirtualHardDisk$"},
        lambda _machine: mishap(here.world, "reboot", machine="hv01", renumber=True),
    )
    kinds = []
    for _unused in range(2):
        with pytest.raises(HypervError) as caught:
            here.migrate(here.request(BOTH[0]))
        kinds.append(caught.value.kind)
    assert "disks_moved" in kinds
    assert here.vm.state != RUNNING


# -- volumes that run full -------------------------------------------------------------------------------------------------


def backed_up(here: Site, run_id: str) -> str:
    """Windows Server Backup of the VM by its host; how it ended."""
    entry = engines.engine("wsb")
    waiting = here.hands()
    vm: Any = observe_host(here.client, vms=["sql01"], vhd_details=True).to_dict()["vms"][0]  # type: ignore[index]
    place = Workplace(client=here.client, waiting=waiting, options=entry.options({}, "host"), new_id=lambda: run_id)
    request = BackupRequest(
        phase="host",
        target="E:",
        label="sql01",
        vm_id=vm["id"],
        vm_name="sql01",
        vm_state=vm["state"],
        left_out_disks=0,
        vm=vm,
        covered=True,
    )
    result = entry.backup(place).run(run_id, request, waiting)
    return result.state


def test_a_vm_whose_filled_lun_has_no_room_for_a_backup_is_paused_and_then_left_alone(
    site: Callable[..., Site],
) -> None:
    here = site()
    here.migrate()
    mishap(here.world, "fill_volume", machine="hv01", letter="V", free="64K")
    mishap(here.world, "set_shadow_storage", machine="hv01", letter="V", on="E")
    whole = hashlib.sha256(here.host.volume_by_letter("V").files.read(VHDX[3:])).hexdigest()
    assert backed_up(here, "set1.host.1") == "failed"
    assert here.vm.state == PAUSED
    since = here.record()["disks"][0]["cut_over"]
    plan = here.plan(here.request(state="rolled_back", discard_writes_since=since))
    assert "vm_paused" in {finding.kind for finding in plan.findings}
    assert hashlib.sha256(here.host.volume_by_letter("V").files.read(VHDX[3:])).hexdigest() == whole
    assert here.world.check() == []


def test_the_reserve_leaves_room_for_the_same_backup(site: Callable[..., Site]) -> None:
    here = site(
        luns=f'  - {{id: roomy, size: 2G, bus: iscsi, serial: "7a0b1e000009", unique_id: {MORE}}}\n',
        more_luns=", roomy",
    )
    one = {"destination": DiskSelector(unique_id=MORE), "confirm_size_bytes": 2 * 1024**3, "reserve_bytes": 1024**3}
    here.migrate(here.request(one))
    mishap(here.world, "set_shadow_storage", machine="hv01", letter="V", on="E")
    assert backed_up(here, "set1.host.1") == "succeeded"
    assert here.vm.state == RUNNING
