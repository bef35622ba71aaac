# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Task host_backup: one VM, on its Hyper-V host. Looks again at everything the plan relies on, then runs the engine."""

from __future__ import annotations

import dataclasses
import typing as t

from ..plugin_utils._backup.engine import BackupRequest
from ..plugin_utils._backup.recheck import host_changes
from ..plugin_utils._guard import Guard, NoGuard
from ..plugin_utils._hyperv import observe_host
from ..plugin_utils._job import OPTIONS, BackupJob
from ..plugin_utils._task import HypervAction, Outcome, Run, TaskError


class ActionModule(HypervAction):
    SPEC: t.ClassVar[dict[str, t.Any]] = {
        "argument_spec": {
            **OPTIONS,
            "engine": {"type": "str", "choices": ["command", "diskshadow", "export", "wsb"], "default": "wsb"},
            "vm": {"type": "str", "required": True},
            "coverage": {"type": "dict"},
            "allow_offline": {"type": "bool", "default": False},
        }
    }
    IDENTITIES = frozenset({"vm", "set_id"})

    def perform(self, run: Run) -> Outcome:
        arguments = run.arguments
        guard = Guard(run, run.client).attach(arguments["lease"]) if arguments["lease"] else NoGuard(run)
        job = BackupJob(run, "host", guard)
        view = observe_host(run.client, vms=[arguments["vm"]], vhd_details=True).to_dict()
        vm = view["vms"][0]
        files = [disk for disk in vm["disks"] if disk["captured_by"] == "host"]
        request = BackupRequest(
            phase="host",
            target=arguments["target"],
            label=vm["name"],
            vm_id=vm["id"],
            vm_name=vm["name"],
            vm_state=vm["state"],
            vss_backup_type=arguments["vss_backup_type"],
            left_out_disks=sum(disk["captured_by"] == "guest" for disk in vm["disks"]),
            vm=vm,
            covered=bool((arguments["coverage"] or {}).get("complete")),
        )
        if not job.is_under_way:
            self._check(run, job, view, request, files)
        more = {"vm": _named(vm), "machine": view["host"]["name"]}
        return job.planned(request, **more) if run.check_mode else job.run(request, **more)

    def _check(
        self,
        run: Run,
        job: BackupJob,
        view: t.Mapping[str, t.Any],
        request: BackupRequest,
        files: t.Sequence[t.Mapping[str, t.Any]],
    ) -> None:
        """Everything that can be known before a backup starts. Raises: TaskError, TargetRefused."""
        arguments, vm = run.arguments, request.vm
        coverage = arguments["coverage"]
        changes = host_changes(coverage, vm) if coverage else []
        if changes:
            raise TaskError(
                "changed_since_discovery",
                f"VM {vm['name']} is not what was planned for: {'; '.join(changes)}; nothing was backed up, run again",
                changes=changes,
            )
        able = job.capabilities(view["host"])
        if not able.available or not able.backs_up_vms:
            raise TaskError(able.kind or "engine_unable", f"{view['host']['name']} cannot back up VMs: {able.reason}")
        forecast = (coverage or {}).get("consistency_forecast") or {}
        if forecast.get("consistency") == "saved_state" and not arguments["allow_offline"]:
            raise TaskError(
                "would_go_offline",
                f"the backup would put VM {vm['name']} into saved state ({forecast.get('reason')}); set allow_offline to "
                "accept that, or remove the reason",
            )
        job.check_target(
            source_paths=[disk["host_volume"]["path"] for disk in files if (disk["host_volume"] or {}).get("path")],
            needed_bytes=sum(_stored_bytes(disk) for disk in files),
        )
        found = job.refusals(request)
        if found:
            sentences = "; ".join(one.sentence.rstrip(".") for one in found)
            raise TaskError(
                found[0].kind,
                f"VM {vm['name']} cannot be backed up; nothing was started: {sentences}",
                findings=[dataclasses.asdict(one) for one in found],
            )


def _named(vm: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    return {"id": vm["id"], "name": vm["name"]}


def _stored_bytes(disk: t.Mapping[str, t.Any]) -> int:
    vhd = disk["vhd"] or {}
    return int(vhd.get("file_size_bytes") or disk["size_bytes"] or 0)
