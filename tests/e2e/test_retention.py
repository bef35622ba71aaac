# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two-phase backups with retention: what no rule keeps is deleted through its engine, what a rule keeps can still be got back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from backup_proof import prove
from backup_scene import Scene, world_text

SHARE = r"\\filer01\backup"


def proven(here: Scene, record: dict[str, Any]) -> set[bool]:
    """Whether the contents of a set's versions can be got back, of each disk and volume.

    Not of the disk that Windows runs from: the jobs that list versions in the guest write to it after its snapshot.
    """
    with here.locked():
        return {held.is_proven for held in prove(here.world, record) if not held.name.endswith("os.vhdx")}


def states(here: Scene) -> list[str]:
    return [record["state"] for record in here.sets()]


def test_after_a_good_backup_the_older_one_goes_and_check_mode_has_said_so(lab: Callable[[str], Any]) -> None:
    here = Scene(lab(world_text()))
    settings = {"host_target": SHARE, "guest_target": SHARE, "keep_last": 1}
    assert here.backup(**settings).status == 0
    (first,) = here.sets()
    assert proven(here, first) == {True}
    here.pass_time(86400)
    only_kept = here.backup("--check", "--diff", **settings).of("backup_retention", "sql01")[0].result
    assert [row["action"] for row in only_kept["sets"]] == ["keep"]
    run = here.backup(**settings)
    assert run.status == 0
    (done,) = run.of("backup_retention", "sql01")
    assert done.result["problems"] == []
    assert [(row["set_id"], row["state"]) for row in done.result["expired"]] == [(first["set_id"], "expired")]
    assert states(here) == ["expired", "good"]
    assert proven(here, here.record()) == {True}
    with pytest.raises(AssertionError, match="is not on"):
        proven(here, first)  # its versions are gone


@pytest.mark.gates
def test_versions_on_volumes_stay_and_are_named(lab: Callable[[str], Any]) -> None:
    here = Scene(lab(world_text()))
    for _night in range(2):
        run = here.backup(keep_last=1)
        assert run.status == 0
        here.pass_time(86400)
    row = run.of("backup_retention", "sql01")[0].result["sets"][1]
    assert (row["action"], row["reasons"]) == ("keep", ["kept: engine cannot delete single versions"])
    assert states(here) == ["good", "good"]
    assert proven(here, here.record()) == {True}
