# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which disk is meant: by UniqueId and other identities, never by number, and never by an identity that proves nothing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv import HypervError
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.disk_selector import DiskSelector, select_disk


def disk(number: int, unique_id: str, **more: Any) -> dict[str, Any]:
    return {
        "number": number,
        "unique_id": unique_id,
        "serial_number": f"S{number}",
        "guid": f"{{00000000-0000-4000-8000-{number:012}}}",
        "signature": None,
        "size_bytes": 1000 + number,
        "friendly_name": f"LUN {number}",
        "weak_identity": False,
        **more,
    }


DISKS = [
    disk(1, "600A01"),
    disk(2, "600A02"),
    disk(3, "600A0C", weak_identity=True),
    disk(4, "600A0C", weak_identity=True),
    disk(5, "SCSI\\DISK&VEN_X:HV01", weak_identity=True, serial_number=""),
    disk(6, "600A06", guid=None, signature=77),
]


def chosen(value: Any) -> int:
    return int(select_disk(DISKS, DiskSelector.from_option(value), where="hv01")["number"])  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("600A01", 1),
        ("  600a01 ", 1),
        ({"unique_id": "600A02", "size_bytes": 1002}, 2),
        ({"serial_number": "s2"}, 2),
        ({"guid": "00000000-0000-4000-8000-000000000001"}, 1),
        ({"signature": 77}, 6),
        ({"unique_id": "600A06", "signature": "77"}, 6),
        ({"unique_id": "600A0C", "serial_number": "S4"}, 4),
        ({"unique_id": "600A0C", "guid": "{00000000-0000-4000-8000-000000000003}"}, 3),
        ({"unique_id": "SCSI\\DISK&VEN_X:HV01", "guid": "{00000000-0000-4000-8000-000000000005}"}, 5),
        (DISKS[0], 1),
        ({**DISKS[1], "number": 99, "friendly_name": "renamed"}, 2),
    ],
)
def test_a_disk_is_found_by_what_identifies_it(value: Any, number: int) -> None:
    assert chosen(value) == number


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("600A99", "unknown_disk"),
        ({"serial_number": "nosuch"}, "unknown_disk"),
        ("1", "disk_number_given"),
        (1, "disk_number_given"),
        ("9999", "disk_number_given"),
        (600000000000, "unquoted_identity"),
        (6e5, "unquoted_identity"),
        ({"unique_id": 123456}, "unquoted_identity"),
        ({"serial_number": 7}, "unquoted_identity"),
        ("", "invalid_disk"),
        ({}, "invalid_disk"),
        ({"size_bytes": 1001}, "invalid_disk"),
        (["600A01"], "invalid_disk"),
        (True, "unquoted_identity"),
        ("600A0C", "ambiguous_disk"),
        ("SCSI\\DISK&VEN_X:HV01", "weak_identity"),
        ({"unique_id": "600A01", "serial_number": "S2"}, "disk_changed"),
        ({"unique_id": "600A01", "size_bytes": 1002}, "disk_changed"),
        ({"unique_id": "600A0C", "serial_number": "S9"}, "disk_changed"),
        ({"unique_id": "SCSI\\DISK&VEN_X:HV01", "size_bytes": 1005}, "weak_identity"),
    ],
)
def test_what_is_not_one_certain_disk_is_refused(value: Any, kind: str) -> None:
    with pytest.raises(HypervError) as caught:
        chosen(value)
    assert caught.value.kind == kind


def test_a_number_is_told_with_the_disk_that_has_it_now() -> None:
    with pytest.raises(HypervError) as caught:
        chosen(2)
    assert "600A02" in caught.value.sentence
    assert caught.value.details["disk"]["unique_id"] == "600A02"  # type: ignore[index]


@given(st.permutations(DISKS), st.sampled_from(range(6)))
def test_the_order_of_the_disks_decides_nothing(disks: list[dict[str, Any]], index: int) -> None:
    wanted = DISKS[index]
    assert select_disk(disks, DiskSelector.of(wanted), where="hv01") is wanted
