# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
r"""Deleting one version of Windows Server Backup: the folder of its own that a run has on a share, and nothing else.

Responsible for proving that a folder holds what our record says, for removing it, and for seeing that it is gone. Not
responsible for which version goes (`retention.py`).

On a volume a server's wbadmin documents no way to delete one version (`delete backup` has a page for client Windows only, and
the cmdlet knows the oldest and a number to keep); what it keeps there it drops by itself when it needs room (backup-engines
1.1, 1.3, 1.4). On a share every run of ours has a folder named after its run id, `<share>\<label>\<run id>`. It is removed when
its name is the run's and the only version in it is the one that the record binds to that run. A folder from which a removal of
ours was broken off (its job is known to the machine) may list none any more.

Proof of success: the folder is not there while the folder above it is.
"""

from __future__ import annotations

from .detached_job import DetachedJobs, JobLook, Step, argument
from .engine import Deletion, Waiting
from .retention import CANNOT
from .target import parse_target
from .wbadmin_text import last_lines, version_ids
from .wsb_job import with_output

LOOK_SUFFIX = ".look"
DELETE_SUFFIX = ".delete"

_ABOVE, _ABOVE_RC = "above.txt", "above-rc.txt"
_FOLDER, _FOLDER_RC = "folder.txt", "folder-rc.txt"
_VERSIONS, _VERSIONS_RC = "versions.txt", "versions-rc.txt"
_OUT, _RC = "removed.txt", "removed-rc.txt"


def why_kept(target: str) -> str:
    """Why a version on a target cannot be deleted; empty for a share."""
    return "" if parse_target(target).kind == "share" else CANNOT


def delete_folder(
    jobs: DetachedJobs, run_id: str, version: str, target: str, machine: str, waiting: Waiting
) -> Deletion:
    """Remove the folder of a run when it provably holds that run's version.

    Args:
        target: the run's own folder, as the record names it.
        machine: computer name of the machine that made the version.
    """
    place = parse_target(target)
    above, _slash, name = place.root.rpartition("\\")
    if place.kind != "share":
        return Deletion(state="kept", reason=CANNOT)
    if name.casefold() != run_id.casefold():
        return Deletion(state="kept", reason=f"the folder {place.text} is not named after the run {run_id}")
    began = jobs.look(run_id + DELETE_SUFFIX).is_known
    verdict = _judge(_look(jobs, run_id, place.text, above, machine, waiting), version, place.text, began=began)
    if verdict is not None:
        if verdict.state == "gone":
            jobs.discard(run_id + DELETE_SUFFIX)
        return verdict
    waiting.should_stop()
    steps = (
        Step(command=f"rd /s /q {argument(place.text)}", output=_OUT, exit_code=_RC),
        *_presence(place.text, above),
    )
    run = run_id + DELETE_SUFFIX
    if began:
        jobs.discard(run)
    removed = jobs.run_small(
        run, steps, f"removal of {place.text}", exit_code=_ABOVE_RC, files=[_FOLDER_RC, _RC, _OUT], waiting=waiting
    )
    if not removed.is_done or removed.exit_code(_ABOVE_RC) != 0 or removed.exit_code(_FOLDER_RC) in (0, None):
        said = last_lines(removed.files.get(_OUT, b""))
        return Deletion(state="kept", reason=with_output(f"{place.text} could not be removed", said))
    jobs.discard(run)
    return Deletion(state="deleted")


def _presence(folder: str, above: str) -> tuple[Step, ...]:
    return (
        Step(command=f"dir /b {argument(folder)}", output=_FOLDER, exit_code=_FOLDER_RC),
        Step(command=f"dir /b {argument(above)}", output=_ABOVE, exit_code=_ABOVE_RC),
    )


def _look(jobs: DetachedJobs, run_id: str, folder: str, above: str, machine: str, waiting: Waiting) -> JobLook:
    """What lies in the folder now, never what an earlier look left."""
    run = run_id + LOOK_SUFFIX
    jobs.discard(run)
    listing = f"wbadmin get versions -backupTarget:{argument(folder)} -machine:{machine}"
    steps = (
        *_presence(folder, above),
        Step(command=listing, output=_VERSIONS, exit_code=_VERSIONS_RC),
    )
    try:
        return jobs.run_small(
            run,
            steps,
            f"look at {folder}",
            exit_code=_ABOVE_RC,
            files=[_FOLDER_RC, _VERSIONS_RC, _FOLDER, _VERSIONS],
            waiting=waiting,
        )
    finally:
        jobs.discard(run)


def _judge(look: JobLook, version: str, folder: str, *, began: bool) -> Deletion | None:
    """What a look at the folder proves; None when it holds that version and nothing else."""
    if not look.is_done or look.exit_code(_ABOVE_RC) != 0:
        return Deletion(
            state="kept", reason=f"the folder above {folder} could not be read, so that nothing is known of it"
        )
    if look.exit_code(_FOLDER_RC) != 0:
        return Deletion(state="gone", reason=f"{folder} is not there any more")
    versions = version_ids(look.files.get(_VERSIONS, b""))
    if versions == (version,) or (began and not versions):
        return None
    found = ", ".join(versions) or "none"
    return Deletion(
        state="kept", reason=f"{folder} should hold version {version} and nothing else, but wbadmin lists {found} there"
    )
