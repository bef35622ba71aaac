# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Task guest_backup: the left-out disks, inside the guest. Identifies them again, records evidence, runs the engine."""

from __future__ import annotations

import typing as t

from ..plugin_utils._backup.backup_set import root_listing
from ..plugin_utils._backup.engine import BackupRequest
from ..plugin_utils._backup.recheck import guest_changes
from ..plugin_utils._guard import Guard, NoGuard
from ..plugin_utils._hyperv import file_evidence, list_root, observe_guest, utc_now
from ..plugin_utils._job import OPTIONS, BackupJob
from ..plugin_utils._task import HypervAction, Outcome, Run, TaskError

if t.TYPE_CHECKING:
    from ..plugin_utils._hyperv import GuestVolume


class ActionModule(HypervAction):
    SPEC: t.ClassVar[dict[str, t.Any]] = {
        "argument_spec": {
            **OPTIONS,
            "engine": {"type": "str", "choices": ["command", "wsb"], "default": "wsb"},
            "vm_id": {"type": "str", "required": True},
            "coverage": {"type": "dict", "required": True},
            "sentinels": {"type": "list", "elements": "str", "default": []},
            "hyperv_host": {"type": "str"},
        },
        "required_by": {"lease": "hyperv_host"},
    }
    IDENTITIES = frozenset({"vm_id", "set_id", "hyperv_host"})

    def perform(self, run: Run) -> Outcome:
        arguments = run.arguments
        coverage = arguments["coverage"]
        if _plain(coverage.get("vm", {}).get("id")) != _plain(arguments["vm_id"]):
            raise TaskError(
                "wrong_coverage",
                f"coverage is of VM {coverage.get('vm', {}).get('id')}, but vm_id is {arguments['vm_id']}; pass the coverage "
                "of the same VM",
            )
        host = run.client_of(arguments["hyperv_host"]) if arguments["hyperv_host"] else None
        guard = Guard(run, host).attach(arguments["lease"]) if host and arguments["lease"] else NoGuard(run)
        job = BackupJob(run, "guest", guard, reference_clock=None if host is None else lambda: utc_now(host))
        guest = observe_guest(run.client)
        view = guest.to_dict()
        changes = guest_changes(coverage, view)
        if changes:
            raise TaskError(
                "changed_since_discovery",
                f"the guest is not what was planned for: {'; '.join(changes)}; nothing was backed up, run again",
                changes=changes,
            )
        able = job.capabilities(view["guest"])
        if not able.available or not able.backs_up_volumes:
            raise TaskError(
                able.kind or "engine_unable", f"{view['guest']['computer_name']} cannot back up: {able.reason}"
            )
        paths = [volume["path"] for disk in coverage["guest_volumes"] for volume in disk["volumes"]]
        if not paths:
            raise TaskError(
                "nothing_to_back_up", "no disk of this VM is to be captured in the guest; leave the guest phase out"
            )
        volumes = {volume.path: volume for disk in guest.disks for volume in disk.volumes}
        chosen = [volumes[path] for path in dict.fromkeys(paths)]
        if not job.is_under_way:
            job.check_target(
                source_paths=paths,
                left_out_paths=_on_left_out_disks(coverage),
                needed_bytes=sum(volume.used_bytes or 0 for volume in chosen),
            )
        request = BackupRequest(
            phase="guest",
            target=arguments["target"],
            label=view["guest"]["computer_name"],
            volumes=[volume.path for volume in chosen],
            volume_letters={volume.path: volume.letter for volume in chosen if volume.letter},
            vss_backup_type=arguments["vss_backup_type"],
        )
        shown = {volume["path"]: volume for disk in view["disks"] for volume in disk["volumes"]}
        evidence = [{**shown[volume.path], "root_listing": _root_listing(run, volume)} for volume in chosen]
        sentinels = [_sentinel(run, path) for path in arguments["sentinels"]]
        more = {"volumes": evidence, "sentinels": sentinels, "machine": view["guest"]["computer_name"]}
        return job.planned(request, **more) if run.check_mode else job.run(request, **more)


def _root_listing(run: Run, volume: GuestVolume) -> dict[str, t.Any] | None:
    """What a restore compares later, read before the snapshot; None when no path leads to the volume."""
    entries = list_root(run.client, volume)
    return None if entries is None else root_listing(entry.name for entry in entries)


def _sentinel(run: Run, path: str) -> dict[str, t.Any]:
    found = file_evidence(run.client, path)
    return {"path": path, "found": found is not None, **({} if found is None else dict(found.to_dict()))}


def _on_left_out_disks(coverage: t.Mapping[str, t.Any]) -> list[str]:
    return [
        volume["path"]
        for disk in coverage["disks"]
        if disk["coverage"] != "host"
        for volume in disk["volumes"]
        if volume.get("path")
    ]


def _plain(guid: object) -> str:
    return str(guid or "").strip().strip("{}").casefold()
