# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""Runs the comparison of two disks (`_hyperv.disk_comparison`) as a detached job of the host, as backups run.

Responsible for: starting it once, finding it again by its run id, its progress, its end, and what it leaves. Not
responsible for: the script, what its answer proves, and whether these disks may be read.
"""

from __future__ import annotations

from .._hyperv import disk_comparison as comparison
from .._hyperv.errors import HypervError
from .._hyperv.jobs import Hands, pause
from .detached_job import DetachedJobs, MachineClient, Step, job_folder


class DetachedComparer:
    """`disk_comparison.Comparer` on one machine."""

    def __init__(self, client: MachineClient) -> None:
        self._jobs = DetachedJobs(client)

    def compare(self, run_id: str, source: str, copy: str, size_bytes: int, hands: Hands) -> comparison.Comparison:
        """Start it, or attach to it, and wait for its end; its task and files are gone then.

        Raises: HypervError `comparison_timeout`; it goes on, and a rerun attaches to it.
        """
        script = comparison.script_text(source=source, copy=copy, size_bytes=size_bytes, folder=job_folder(run_id))
        step = Step(
            command=comparison.powershell_command(script), output=comparison.OUTPUT, exit_code=comparison.EXIT_CODE
        )
        hands.should_stop()
        self._jobs.start(run_id, [step], f"Compare {copy} with {source}, read-only")
        self._wait(run_id, f"Comparing {copy} with {source}", hands)
        look = self._jobs.look(run_id, [comparison.EXIT_CODE, comparison.RESULT, comparison.OUTPUT])
        found = comparison.read_result(look.exit_code(comparison.EXIT_CODE), look.files)
        self._jobs.discard(run_id)
        return found

    def _wait(self, run_id: str, what: str, hands: Hands) -> None:
        began, shown = hands.now(), -1
        while True:
            look = self._jobs.look(run_id)
            if look.is_done or look.is_interrupted or not look.is_known:
                return
            percent = self._jobs.size(run_id, comparison.PROGRESS) or 0
            if percent != shown:
                shown = percent
                hands.progress(f"{what}: {percent} %")
            if hands.now() - began >= hands.timeout_s:
                raise HypervError(
                    "comparison_timeout",
                    f"{what} is at {percent} % after {int(hands.timeout_s)} s; it goes on, so run again to attach to it, or "
                    f"raise wait_timeout.",
                    {"run_id": run_id, "percent": percent},
                )
            pause(hands)

    def knows(self, run_id: str) -> bool:
        """Whether it runs, or ran to its end; False when it was broken off, or never begun."""
        look = self._jobs.look(run_id)
        return look.is_known and not look.is_interrupted

    def stop(self, run_id: str) -> None:
        """End it, if it runs, and take away what it left. The disks are only read, so that nothing is lost."""
        self._jobs.stop(run_id)
        self._jobs.discard(run_id)
