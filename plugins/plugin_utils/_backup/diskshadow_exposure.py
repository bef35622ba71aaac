# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
r"""Small jobs of diskshadow: show a shadow copy under a free drive letter, take it away again, delete our own.

Responsible for running one script and looking over CIM at what it did: the exit code alone never counts. Not responsible for
which shadow copies are ours (the callers prove that), nor for long copies.

Letters, no mount folders: CIM_DataFile knows files by `Z:\...` only, and Hyper-V is handed such paths. A copy that somebody has
exposed already is read where it is and never hidden by us. Facts: backup-engines 2 (expose, unexpose, delete).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from .._hyperv.shadow_copies import ShadowCopy, free_letters, shadow_copies
from .detached_job import DetachedJobs, JobLook, MachineClient
from .diskshadow_job import (
    LOG,
    RC,
    delete_script,
    expose_script,
    script_steps,
    unexpose_script,
)
from .engine import Waiting
from .errors import BackupError
from .wbadmin_text import last_lines

EXPOSE_SUFFIX, HIDE_SUFFIX, DELETE_SUFFIX = ".expose", ".hide", ".delete"
_TRIES = 3  # with other letters, when one was taken between the look and the script


class ShadowScripts:
    """Scripts on one machine, each run to its end and looked at."""

    def __init__(self, client: MachineClient, jobs: DetachedJobs, waiting: Waiting) -> None:
        self._client = client
        self._jobs = jobs
        self._waiting = waiting

    def expose(self, run_id: str, ids: Sequence[str], remember: Callable[[Mapping[str, str]], None]) -> dict[str, str]:
        r"""Make shadow copies readable; returns id -> root (`Z:\`).

        Args:
            remember: is called before anything is exposed, with id -> root of what is about to be ours to hide.

        Raises: `BackupError`: `shadow_copy_gone`, `no_free_letter`, `expose_failed`.
        """
        said = ""
        refused: set[str] = set()
        for _unused in range(_TRIES):
            rows = {copy.id: copy for copy in shadow_copies(self._client, ids)}
            gone = [one for one in ids if one not in rows]
            if gone:
                raise BackupError(
                    "shadow_copy_gone",
                    f"The shadow copy {{{gone[0]}}} is not on the machine any more; Windows deletes the oldest ones when their storage "
                    "is full. Choose another set.",
                )
            found = {one: str(copy.exposed_as) for one, copy in rows.items() if copy.exposed_as is not None}
            hidden = [one for one in ids if one not in found]
            if not hidden:
                return found
            letters = [letter for letter in free_letters(self._client) if letter not in refused]
            if len(letters) < len(hidden):
                raise BackupError(
                    "no_free_letter",
                    f"The machine has {len(letters)} free drive letter(s) and {len(hidden)} are needed to read the shadow copies; "
                    "free one.",
                )
            places = {one: f"{letter}:\\" for one, letter in zip(hidden, letters, strict=False)}
            remember(places)
            look = self._script(run_id + EXPOSE_SUFFIX, expose_script(places), "exposing shadow copies")
            said = last_lines(look.files.get(LOG, b""))
            refused |= {place[0] for place in places.values()}
        rows = {copy.id: copy for copy in shadow_copies(self._client, ids)}
        if all(one in rows and rows[one].exposed_as for one in ids):
            return {one: str(rows[one].exposed_as) for one in ids}
        raise BackupError(
            "expose_failed",
            "The shadow copies could not be made readable under a drive letter"
            + (f"; diskshadow printed: {said}" if said else "")
            + ". Free a letter and run again.",
        )

    def hide(self, run_id: str, places: Mapping[str, str]) -> bool:
        """Take away what we exposed and nothing else; whether all of it is away. A copy that is gone counts as away."""
        ours = self._ours(places)
        if not ours:
            return True
        self._script(run_id + HIDE_SUFFIX, unexpose_script([copy.id for copy in ours]), "hiding shadow copies")
        return not self._ours(places)

    def delete(self, run_id: str, ids: Sequence[str]) -> tuple[str, ...]:
        """Delete shadow copies that the caller has proven to be ours; returns the ids that are still there."""
        present = [copy.id for copy in shadow_copies(self._client, ids)]
        if present:
            self._waiting.should_stop()
            self._script(run_id + DELETE_SUFFIX, delete_script(present), "deleting shadow copies")
        return tuple(copy.id for copy in shadow_copies(self._client, present))

    def _ours(self, places: Mapping[str, str]) -> list[ShadowCopy]:
        return [
            copy
            for copy in shadow_copies(self._client, places)
            if copy.exposed_as is not None and copy.exposed_as.casefold() == places[copy.id].casefold()
        ]

    def _script(self, run_id: str, lines: Sequence[str], what: str) -> JobLook:
        """Run it anew: what an earlier script of that name did is looked at over CIM, its files tell nothing of now."""
        self._waiting.should_stop()
        self._jobs.discard(run_id)
        look = self._jobs.run_small(
            run_id, script_steps(run_id, lines), what, exit_code=RC, files=[LOG], waiting=self._waiting
        )
        self._jobs.discard(run_id)
        return look
