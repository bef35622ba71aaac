# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Identities of disks: VHD ids in both byte orders, LUN numbers out of free text."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv import vhd_unique_ids
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.disk_identity import scsi_lun


def test_a_vhd_id_gives_naa_and_t10_names_in_both_byte_orders() -> None:
    assert vhd_unique_ids("{00112233-4455-6677-8899-AABBCCDDEEFF}") == (
        "60022480" + "332211005544" + "AABBCCDDEEFF",
        "4D53465420202020" + "33221100554477668899AABBCCDDEEFF",
        "60022480" + "001122334455" + "AABBCCDDEEFF",
        "4D53465420202020" + "00112233445566778899AABBCCDDEEFF",
    )


@pytest.mark.parametrize("text", ["", "nonsense", "{}", "0011"])
def test_text_that_is_no_guid_gives_no_identity(text: str) -> None:
    assert vhd_unique_ids(text) == ()


@given(st.uuids())
def test_every_identity_holds_the_whole_or_the_ends_of_the_id(disk_id: uuid.UUID) -> None:
    naa, t10, _unused, _unused = [*vhd_unique_ids(str(disk_id)), "", ""][:4]
    assert bytes.fromhex(t10)[8:] == disk_id.bytes_le
    assert bytes.fromhex(naa)[4:] == disk_id.bytes_le[:6] + disk_id.bytes_le[10:]
    assert vhd_unique_ids(str(disk_id).upper()) == vhd_unique_ids("{" + str(disk_id) + "}")


@pytest.mark.parametrize(
    ("location", "lun"),
    [
        ("Integrated : Bus 0 : Device 8331 : Function 65486 : Adapter 2 : Port 0 : Target 0 : LUN 0", 0),
        ("PCI Slot 3 : Adapter 1 : LUN 63 ", 63),
        ("PCIROOT(0)#PCI(0101)#ATA(C00T00L00)", None),
        ("D:\\VM\\LUN 4.vhdx", None),
        ("", None),
    ],
)
def test_only_a_trailing_lun_number_counts(location: str, lun: int | None) -> None:
    assert scsi_lun(location) == lun
