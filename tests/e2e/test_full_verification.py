# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`verify: full`, in process: every byte of source and copy is read and compared on the host before anything uses the copy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.errors import HypervError
from backup_scene import at_exchange
from migration_site import (
    RUNNING,
    SOURCE,
    STAGING,
    VHDX,
    WORK,
    Site,
    Stopped,
    in_place,
    lines_with,
    world_text,
)
from simulator.mishaps import mishap

pytestmark = pytest.mark.e2e
SIZE = 8 * 1024**2


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    made: list[Site] = []

    def make(**text: Any) -> Site:
        made.append(Site(tmp_path, world_text(**text)))
        return made[-1]

    yield make
    for one in made:
        one.world.close()


def spoiled(here: Site, offset: int) -> None:
    """One byte of the copy is another one, as soon as it is mounted for its verification."""

    def spoil(_machine: Any) -> None:
        volume = here.host.volume_by_letter("V")
        files = volume.files
        whole = bytearray(files.read(WORK[3:]))
        payload = here.world.luns["data"].content.read_at(0, 4096)
        start = bytes(whole).index(bytes(payload[:512]))
        whole[start + offset] ^= 1
        files.write(WORK[3:], bytes(whole))

    at_exchange(here.world, {"method": "^ValidateVirtualHardDisk$"}, spoil)


def failed(here: Site, **options: Any) -> HypervError:
    with pytest.raises(HypervError) as caught:
        here.migrate(here.request(every_byte=True), **options)
    return caught.value


def test_a_copy_is_compared_with_its_source_byte_by_byte(site: Callable[..., Site]) -> None:
    here = site()
    before = here.world.digests()
    (disk,) = here.migrate(here.request(every_byte=True)).disks
    assert (disk.outcome, disk.verified, disk.sha256) == ("migrated", "full", before["luns"]["data"])
    assert here.world.digests()["guest_volumes"] == before["guest_volumes"]
    assert (here.vm.state, here.jobs_left(), here.world.check()) == (RUNNING, [], [])
    assert here.disk()["path"] == VHDX  # type: ignore[index]


@pytest.mark.gates
def test_the_plan_says_that_every_byte_is_read_while_the_vm_is_off(site: Callable[..., Site]) -> None:
    here = site()
    quick, full = (here.plan(here.request(every_byte=word)) for word in (False, True))
    assert full.copied_bytes_while_off == 2 * quick.copied_bytes_while_off == 2 * SIZE
    (step,) = (step for step in full.steps if step.kind == "verify")
    assert "every byte" in step.sentence
    assert step.needs_vm_off


@pytest.mark.parametrize("offset", [3 * 1024**2 + 17])
def test_a_copy_that_differs_in_one_byte_is_not_used(site: Callable[..., Site], offset: int) -> None:
    here = site()
    spoiled(here, offset)
    error = failed(here)
    assert error.kind == "bytes_differ"
    assert f"offset {offset} of {SIZE}" in str(error)
    here.assert_on_its_lun()
    assert not here.is_there(VHDX)
    assert here.migrate(here.request(every_byte=True)).disks[0].verified == "full"


def test_quick_does_not_start_any_program(site: Callable[..., Site]) -> None:
    here = site()
    (disk,) = here.migrate().disks
    assert (disk.verified, disk.sha256) == ("quick", None)
    assert here.calls("RegisterByXml") == 0


@pytest.mark.parametrize(
    ("switches", "kind"),
    [
        ('powershell-blocked: "yes"', "powershell_unavailable"),
        ("powershell-language-mode: ConstrainedLanguage", "powershell_unavailable"),
    ],
)
def test_a_powershell_that_may_not_run_gives_the_disk_back(site: Callable[..., Site], switches: str, kind: str) -> None:
    here = site(switches=switches)
    error = failed(here)
    assert (error.kind, "verify: quick" in str(error)) == (kind, True)
    here.assert_on_its_lun()
    assert here.migrate().disks[0].outcome == "migrated"


@pytest.mark.gates
def test_a_framework_that_refuses_devices_by_path_is_asked_by_handle(site: Callable[..., Site]) -> None:
    here = site(switches="powershell-device-path: refused")
    assert here.migrate(here.request(every_byte=True)).disks[0].verified == "full"


@pytest.mark.gates
def test_a_source_that_cannot_be_read_is_told_and_given_back(site: Callable[..., Site]) -> None:
    here = site()
    at_exchange(
        here.world,
        {"method": "^ValidateVirtualHardDisk$"},
        lambda _machine: mishap(here.world, "bad_sectors", lun="data", offset="5M", size="4K"),
    )
    error = failed(here)
    assert error.kind == "comparison_failed"
    here.assert_on_its_lun()


def test_a_rerun_uses_the_comparison_of_a_killed_run(site: Callable[..., Site]) -> None:
    here = site(switches='powershell-pace: "1 MiB"')
    with pytest.raises(Stopped):
        here.migrate(here.request(every_byte=True), dies_at="Comparing")
    assert here.record()["disks"][0]["comparison"]
    assert here.migrate(here.request(every_byte=True)).disks[0].verified == "full"
    assert here.calls("StartByPath") == 1
    assert here.jobs_left() == []


@pytest.mark.gates
def test_a_comparison_that_takes_longer_than_one_waits_goes_on(site: Callable[..., Site]) -> None:
    here = site(switches='powershell-pace: "1 MiB"')
    error = failed(here, timeout_s=3.0)
    assert lines_with(here.said, "Comparing")
    assert error.kind == "comparison_timeout"
    assert "run again" in str(error)
    assert here.vm.state != RUNNING
    assert here.migrate(here.request(every_byte=True)).disks[0].verified == "full"
    assert here.calls("StartByPath") == 1


@pytest.mark.gates
@pytest.mark.parametrize("word", ["quick", "rolled_back"])
def test_whatever_follows_a_killed_comparison_ends_it_first(site: Callable[..., Site], word: str) -> None:
    here = site(switches='powershell-pace: "1 MiB"')
    with pytest.raises(Stopped):
        here.migrate(here.request(every_byte=True), dies_at="Comparing")
    if word == "quick":
        assert here.migrate().disks[0].verified == "quick"
    else:
        here.migrate(here.request(state="rolled_back"))
        assert here.disk()["unique_id"] == SOURCE  # type: ignore[index]
    assert (here.vm.state, here.jobs_left(), here.world.check()) == (RUNNING, [], [])


@pytest.mark.gates
def test_a_host_that_restarts_during_the_comparison_is_compared_anew(site: Callable[..., Site]) -> None:
    here = site(switches='powershell-pace: "1 MiB"')
    with pytest.raises(Stopped):
        here.migrate(here.request(every_byte=True), dies_at="Comparing")
    mishap(here.world, "reboot", machine="hv01")
    (disk,) = here.migrate(here.request(every_byte=True)).disks
    assert (disk.verified, here.jobs_left()) == ("full", [])
    assert here.calls("StartByPath") == 2


@pytest.mark.gates
def test_both_halves_in_place_are_compared(site: Callable[..., Site]) -> None:
    here = site()
    before = here.world.digests()
    (half,) = here.migrate(here.request(in_place(), every_byte=True)).disks
    assert (half.outcome, half.verified, half.sha256) == ("awaiting_growth", "full", before["luns"]["data"])
    mishap(here.world, "grow_lun", lun="data", size="400M")
    whole = in_place(confirm_wipe=SOURCE, drive_letter="V")
    (disk,) = here.migrate(here.request(whole, every_byte=True)).disks
    assert (disk.outcome, disk.verified, disk.staging_path) == ("migrated", "full", STAGING)
    assert here.world.digests()["guest_volumes"] == before["guest_volumes"]
    assert (here.vm.state, here.jobs_left(), here.world.check()) == (RUNNING, [], [])
