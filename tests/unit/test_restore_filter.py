# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter restore_plan as a playbook calls it: texts from `-e`, identities that YAML rewrote, results as they are registered."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.hyperv.passthrough.plugins.filter.restore_plan import restore_plan
from unit.backup.restore_world import LUN, NEW_LUN, backup_set, lun, view

CHOSEN = {**backup_set().to_dict(), "id": "nightly"}


def test_a_set_as_it_was_returned_is_planned_and_one_text_is_a_list() -> None:
    views = {"hv01": view(lun()), "hv02": {"failed": False, "msg": "no answer"}}
    made = restore_plan(
        CHOSEN, views, "hv01", accept_unseen_hosts="hv02, hv03", hosts_expected=["hv01", "hv03"], overwrite_disks=LUN
    )
    assert made["findings"] == []
    assert made["disks"][1]["action"] == "overwrite"


@pytest.mark.parametrize(
    "options",
    [
        {"overwrite_disks": [600]},
        {"lun_map": {LUN: 7}},
        {"lun_map": "x"},
        {"overwrite_vm": 12},
        {"restore_phase": "half"},
    ],
)
def test_what_is_no_identity_is_refused_in_one_sentence(options: dict[str, object]) -> None:
    with pytest.raises(AnsibleFilterError):
        restore_plan(CHOSEN, {"hv01": view(lun())}, "hv01", **options)  # type: ignore[arg-type]


def test_what_is_no_set_is_refused() -> None:
    with pytest.raises(AnsibleFilterError, match="not a backup set"):
        restore_plan({"id": "x"}, {}, "hv01")


def test_a_mapping_of_texts_is_a_map() -> None:
    new = lun(NEW_LUN, serial_number="B2")
    assert restore_plan(CHOSEN, {"hv01": view(new)}, "hv01", lun_map={LUN: NEW_LUN})["refused"] is False
