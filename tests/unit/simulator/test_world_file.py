# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Worlds from YAML: each shipped one stands, the same text makes the same world, a mistake is one clear sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulator.world import World
from simulator.world_file import WorldError
from unit.simulator.provider_calls import WORLDS

HEAD = "name: t\nclock: 2026-10-01T20:00:00Z\n"
HOST = "hosts: [{name: hv01, address: 127.40.0.1, luns: %s}]\n"


@pytest.mark.parametrize("name", ["small", "demo", "everything"])
def test_shipped_worlds_stand_and_keep_their_invariants(tmp_path: Path, name: str) -> None:
    world = World.from_yaml(WORLDS / f"{name}.yml", tmp_path)
    assert world.check() == []
    assert all(vm.boot_error is None for vm in world.vms)
    assert "missing" not in world.digests()["images"].values()


def test_the_same_text_makes_the_same_world(tmp_path: Path) -> None:
    first = World.from_yaml(WORLDS / "small.yml", tmp_path / "a")
    second = World.from_yaml(WORLDS / "small.yml", tmp_path / "b")
    assert first.digests() == second.digests()
    assert [vm.id for vm in first.vms] == [vm.id for vm in second.vms]


def test_a_world_without_a_directory_leaves_nothing(tmp_path: Path) -> None:
    world = World.from_yaml(HEAD)
    folder = world.directory
    assert folder.exists()
    world.close()
    assert not folder.exists()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("hostz: []\n", "unknown key 'hostz'"),
        ("hosts: [{name: hv01, adress: 127.0.0.1}]\n", "hosts[0] has the unknown key 'adress'"),
        ("hosts: [{address: 127.0.0.1}]\n", "hosts[0] needs name"),
        ("hosts: [{name: 7}]\n", "hosts[0].name must be text, not 7: quote it"),
        ("hosts: [{name: hv01, os: dos}]\n", "must be one of"),
        ("luns: [{id: a, size: big}]\n", "must be a size such as 64M"),
        ("luns: [{id: a, size: 1M}, {id: a, size: 1M}]\n", "exists twice"),
        (HOST % "[nope]", "names LUN 'nope'"),
        (HOST % "[]" + "vms: [{name: v, host: hv09}]\n", "hv09"),
        (HOST % "[]" + "vms: [{name: v, host: hv01, disks: [{slot: 'scsi 0:99x', empty: true}]}]\n", "such as"),
        (HOST % "[]" + "vms: [{name: v, host: hv01, disks: [{slot: 'scsi 7:0', empty: true}]}]\n", "no controller"),
        (HOST % "[]" + "vms: [{name: v, host: hv01, disks: [{slot: 'scsi 0:0'}]}]\n", "one of vhd, lun, dvd, empty"),
        (HOST % "[]" + "vms: [{name: v, host: hv01, disks: [{slot: 'scsi 0:0', vhd: 'Q:\\x.vhdx'}]}]\n", "no volume"),
        ("switches: {vhd-unique-id: sideways}\n", "sideways"),
        ("- a\n", "must be a mapping"),
        ("a: [\n", "is not YAML"),
    ],
)
def test_a_mistake_is_one_sentence_with_the_place(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(WorldError) as raised:
        World.from_yaml(HEAD + text if not text.startswith("- ") else text, tmp_path)
    assert sentence in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_running_vm_needs_its_disks(tmp_path: Path) -> None:
    text = (
        HEAD
        + "luns: [{id: a, size: 8M}]\n"
        + HOST % "[a]"
        + "vms:\n"
        + "".join(f"  - {{name: v{n}, host: hv01, disks: [{{slot: 'scsi 0:0', lun: a}}]}}\n" for n in range(2))
    )
    with pytest.raises(WorldError, match="in use by"):
        World.from_yaml(text, tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WorldError, match=r"nowhere\.yml"):
        World.from_yaml(tmp_path / "nowhere.yml", tmp_path)
