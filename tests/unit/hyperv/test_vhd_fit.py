# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Does a virtual hard disk fit on a LUN: the arithmetic against the measured tables of windows-storage 5."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.errors import Precondition
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.vhd_fit import (
    DEFAULT_RESERVE,
    GIB,
    MIB,
    VolumeShape,
    choose_format,
    estimated_hours,
    file_bytes,
    fit,
    fits_on_volume,
    free_after_format,
    largest_data_bytes,
    needed_lun_bytes,
    volume_bytes,
)

WIDE = VolumeShape()
OLD = VolumeShape(os_build=9600)

# windows-storage 5.2: LUN in GiB, volume size, metadata used, largest VHD in MiB (64 KiB clusters)
MEASURED = [
    (1, 1055850496, 6225920, 1000),
    (2, 2129592320, 11599872, 2019),
    (5, 5350817792, 27721728, 5076),
    (10, 10719526912, 54525952, 10170),
    (20, 21456945152, 68091904, 20397),
    (100, 107356291072, 68288512, 102317),
    (500, 536853020672, 69074944, 511917),
    (1000, 1073723932672, 70123520, 1023916),
    (2040, 2190415429632, 72220672, 2088874),
]


@pytest.mark.parametrize(("lun_gib", "volume", "used", "largest_mib"), MEASURED)
def test_the_floor_is_what_was_measured(lun_gib: int, volume: int, used: int, largest_mib: int) -> None:
    lun = lun_gib * GIB
    assert volume_bytes(lun, WIDE) == volume
    assert volume - free_after_format(lun, WIDE, conservative=False) == used
    assert largest_data_bytes(lun, "VHD", WIDE, reserve_bytes=0, conservative=False) == largest_mib * MIB


@pytest.mark.parametrize(("lun_gib", "used"), [(1, 5767168), (10, 54382592), (100, 70844416), (1000, 100335616)])
def test_small_clusters_cost_what_was_measured(lun_gib: int, used: int) -> None:
    shape = VolumeShape(allocation_unit=4096)
    lun = lun_gib * GIB
    assert volume_bytes(lun, shape) - free_after_format(lun, shape, conservative=False) == used


@pytest.mark.parametrize(("data_gib", "growth_mib"), [(10, 274), (100, 274), (500, 275), (1000, 276), (2040, 278)])
def test_the_recommended_growth_is_that_of_the_facts(data_gib: int, growth_mib: int) -> None:
    needed = needed_lun_bytes(data_gib * GIB, "VHD", WIDE, reserve_bytes=0)
    assert needed - data_gib * GIB == growth_mib * MIB


@pytest.mark.parametrize(("data_gib", "growth_mib"), [(100, 387), (500, 388), (2000, 391)])
def test_an_old_windows_needs_more_for_its_reserved_partition(data_gib: int, growth_mib: int) -> None:
    needed = needed_lun_bytes(data_gib * GIB, "VHD", OLD, reserve_bytes=0)
    assert needed - data_gib * GIB == growth_mib * MIB


def test_with_the_default_reserve_one_more_gib_is_enough_up_to_the_largest_vhd() -> None:
    for data_gib in (1, 10, 500, 2040):
        assert needed_lun_bytes(data_gib * GIB, "VHD", OLD) == data_gib * GIB + GIB


def test_the_three_answers_of_a_lun_of_ten_gib() -> None:
    def answer(data_mib: int) -> str:
        return fit(data_bytes=data_mib * MIB, lun_bytes=10 * GIB, format_name="VHD", shape=WIDE, reserve_bytes=0).answer

    assert [answer(mib) for mib in (9966, 9967, 10170, 10171)] == ["certain", "possible", "possible", "no"]


def test_a_lun_of_the_sources_own_size_must_grow_by_the_reserve() -> None:
    found = fit(data_bytes=100 * GIB, lun_bytes=100 * GIB, format_name="VHD", shape=WIDE)
    assert (found.answer, found.growth_bytes, found.growth_gib) == ("no", GIB, 1)
    grown = fit(data_bytes=100 * GIB, lun_bytes=101 * GIB, format_name="VHD", shape=WIDE)
    assert (grown.answer, grown.growth_bytes) == ("certain", 0)
    assert grown.left_free_bytes >= 320 * 10**6  # the smallest shadow storage area


def test_what_a_snapshot_can_need_beyond_the_reserve_is_said() -> None:
    found = fit(data_bytes=100 * GIB, lun_bytes=101 * GIB, format_name="VHD", shape=WIDE)
    assert found.snapshot_bytes == 10 * GIB
    assert any("raise reserve" in note for note in found.notes)


def test_no_reserve_is_reported() -> None:
    found = fit(data_bytes=9 * GIB, lun_bytes=10 * GIB, format_name="VHD", shape=WIDE, reserve_bytes=0)
    assert any("no reserve" in note for note in found.notes)


def test_refs_needs_gigabytes_more_than_ntfs() -> None:
    refs = VolumeShape(file_system="ReFS")
    for lun in (10 * GIB, 127 * GIB, 1000 * GIB):
        assert (
            free_after_format(lun, WIDE, conservative=True) - free_after_format(lun, refs, conservative=True)
            > 1.5 * GIB
        )
    used = volume_bytes(127 * GIB, refs) - free_after_format(127 * GIB, refs, conservative=False)
    assert used == pytest.approx(1.89 * GIB, rel=0.02)


def test_a_volume_that_is_smaller_than_promised_has_the_last_word() -> None:
    found = fit(data_bytes=9966 * MIB, lun_bytes=10 * GIB, format_name="VHD", shape=WIDE, reserve_bytes=0)
    assert fits_on_volume(found, 9966 * MIB + 65536)
    assert not fits_on_volume(found, 9966 * MIB + 65535)


@pytest.mark.parametrize(
    ("format_name", "data", "size"),
    [
        ("VHD", 10485760, 10486272),
        ("VHD", 68719476736, 68719477248),
        ("VHDX", 4 * GIB, 4 * GIB + 4 * MIB),
        ("VHDX", 4 * GIB + 512, 4 * GIB + 36 * MIB),
    ],
)
def test_the_file_is_the_data_and_its_overhead(format_name: str, data: int, size: int) -> None:
    assert file_bytes(format_name, data) == size


def test_a_vhdx_that_is_planned_for_is_never_smaller_than_its_margin() -> None:
    assert file_bytes("VHDX", 4 * GIB, conservative=True) == 4 * GIB + 64 * MIB


@given(
    data_mib=st.integers(3, 3_000_000),
    format_name=st.sampled_from(["VHD", "VHDX"]),
    file_system=st.sampled_from(["NTFS", "ReFS"]),
    unit=st.sampled_from([4096, 65536]),
    reserve=st.sampled_from([0, 300 * MIB, DEFAULT_RESERVE, 20 * GIB]),
)
def test_a_lun_grown_as_told_is_certain_and_one_mib_less_is_not(
    data_mib: int, format_name: str, file_system: str, unit: int, reserve: int
) -> None:
    shape = VolumeShape(file_system=file_system, allocation_unit=unit)
    data = data_mib * MIB
    needed = needed_lun_bytes(data, format_name, shape, reserve_bytes=reserve)

    def answer(lun: int) -> str:
        return fit(data_bytes=data, lun_bytes=lun, format_name=format_name, shape=shape, reserve_bytes=reserve).answer

    assert answer(needed) == "certain"
    assert answer(needed - MIB) != "certain"
    assert needed >= data + reserve


@given(lun_mib=st.integers(0, 5_000_000), format_name=st.sampled_from(["VHD", "VHDX"]))
def test_what_is_certain_is_possible(lun_mib: int, format_name: str) -> None:
    certain = largest_data_bytes(lun_mib * MIB, format_name, WIDE, reserve_bytes=0, conservative=True)
    possible = largest_data_bytes(lun_mib * MIB, format_name, WIDE, reserve_bytes=0, conservative=False)
    assert 0 <= certain <= possible <= lun_mib * MIB


@pytest.mark.parametrize(
    ("wanted", "generation", "size", "sector", "expected"),
    [
        (None, 1, 100 * GIB, 512, "VHD"),
        ("VHDX", 1, 100 * GIB, 512, "VHDX"),
        ("VHD", 1, 2040 * GIB, 512, "VHD"),
        (None, 1, 2040 * GIB + 512, 512, "VHDX"),
        (None, 1, 100 * GIB, 4096, "VHDX"),
        (None, 2, 100 * GIB, 512, "VHDX"),
        (None, None, 100 * GIB, 512, "VHDX"),
    ],
)
def test_the_format_follows_what_hyper_v_can_start(
    wanted: str | None, generation: int | None, size: int, sector: int, expected: str
) -> None:
    choice = choose_format(wanted, generation=generation, size_bytes=size, logical_sector_bytes=sector)
    assert choice.format == expected
    assert choice.reason


@pytest.mark.parametrize(
    ("generation", "size", "sector", "kind"),
    [
        (2, 100 * GIB, 512, "vhd_on_generation_2"),
        (1, 100 * GIB, 4096, "vhd_4kn"),
        (1, 2041 * GIB, 512, "vhd_too_large"),
        (1, 65 * 1024 * GIB, 512, "disk_too_large"),
        (1, MIB, 512, "disk_too_small"),
    ],
)
def test_a_vhd_that_cannot_be_is_refused_before_anything_happens(
    generation: int, size: int, sector: int, kind: str
) -> None:
    with pytest.raises(Precondition) as refused:
        choose_format("VHD", generation=generation, size_bytes=size, logical_sector_bytes=sector)
    assert refused.value.kind == kind


def test_an_estimate_is_never_zero() -> None:
    assert estimated_hours(MIB) == 0.1
    assert estimated_hours(1000 * GIB) == 2.8


def test_clusters_that_nobody_measured_are_refused() -> None:
    with pytest.raises(ValueError, match="no numbers"):
        VolumeShape(allocation_unit=8192)
