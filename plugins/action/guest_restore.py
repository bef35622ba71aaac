# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Task guest_restore: a guest's left-out disks from a backup set. Keeps what is there, restores what is not, proves it.

The rules are `_backup.guest_restore_plan` and `_backup.content_evidence`, the engine is one of `_backup.engines`.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ..plugin_utils._backup.backup_set import from_result, vm_key
from ..plugin_utils._backup.content_evidence import Verdict, verify_volume
from ..plugin_utils._backup.engine import RestoreRequest
from ..plugin_utils._backup.guest_restore_plan import (
    KEEP,
    RESTORE,
    DiskPlan,
    GuestFinding,
    GuestPlan,
    VolumePlan,
    guest_restore_plan,
    still_the_same,
)
from ..plugin_utils._backup.set_choice import refusal, used_attempt
from ..plugin_utils._backup.set_store import REGISTRY_BASE
from ..plugin_utils._guard import Guard, NoGuard
from ..plugin_utils._hyperv import Registry, file_evidence, list_root, observe_guest
from ..plugin_utils._hyperv.machine import services_on
from ..plugin_utils._restore import OPTIONS, RestoreJobs, Tried, refuse
from ..plugin_utils._task import HypervAction, Outcome, Run, TaskError

if t.TYPE_CHECKING:
    from ..plugin_utils._backup.backup_set import BackupSet
    from ..plugin_utils._hyperv import GuestView

_VERIFIED_KEY = "Restored"  # in the guest's registry: what was verified right after it was restored


class ActionModule(HypervAction):
    SPEC: t.ClassVar[dict[str, t.Any]] = {
        "argument_spec": {
            **OPTIONS,
            "engine": {"type": "str", "choices": ["command", "wsb"]},
            "vm_id": {"type": "str", "required": True},
            "overwrite_disks": {"type": "list", "elements": "str", "default": []},
            "lun_map": {"type": "dict", "default": {}},
            "restore_volumes": {"type": "list", "elements": "str", "default": []},
            "hyperv_host": {"type": "str"},
        },
        "required_by": {"lease": "hyperv_host"},
    }
    IDENTITIES = frozenset({"vm_id", "overwrite_disks", "restore_id", "hyperv_host"})

    def perform(self, run: Run) -> Outcome:
        arguments = run.arguments
        item = from_result(arguments["set"])
        why = refusal(item, restore_phase="guest", vm_id=arguments["vm_id"])
        if why is not None:
            if run.check_mode:
                return _unusable(run, why)
            raise TaskError(why[0], f"{why[1]}; nothing was changed")
        guard: Guard | NoGuard = NoGuard(run)
        if arguments["lease"] and not run.check_mode:
            guard = Guard(run, run.client_of(arguments["hyperv_host"])).attach(arguments["lease"])
        return _GuestRestore(run, item, guard).perform()


class _GuestRestore:
    """The guest half of one restore."""

    def __init__(self, run: Run, item: BackupSet, guard: Guard | NoGuard) -> None:
        attempt = used_attempt(item, "guest")
        if attempt is None or attempt.version is None:
            raise TaskError("guest_half_failed", f"the set {item.set_id} holds no version of its guest phase")
        self._run = run
        self._item = item
        self._guard = guard
        self._version = attempt.version
        self._made_by = attempt.machine
        self._evidence = attempt.evidence
        self._target = run.arguments["target"] or attempt.target
        self._jobs = RestoreJobs(run, phase="guest", set_id=item.set_id, guard=guard, attempt=attempt)
        self._marks = Registry(run.client, REGISTRY_BASE)
        self._machine = ""
        self._shown: dict[int, dict[str, t.Any]] = {}  # jobs by the volume's number
        self._verdicts: dict[int, Verdict] = {}
        self._before: dict[int, list[str] | None] = {}

    def perform(self) -> Outcome:
        run = self._run
        guest = observe_guest(run.client)
        view = guest.to_dict()
        self._machine = str(view["guest"]["computer_name"])
        tried = self._tried()
        begun = {number for number, one in tried.items() if one.state != "new" or one.earlier}
        listings = dict(_listings(run, guest))
        plan = guest_restore_plan(
            self._item,
            view,
            overwrite_disks=run.arguments["overwrite_disks"],
            lun_map=run.arguments["lun_map"],
            restore_volumes=run.arguments["restore_volumes"],
            listings=listings,
            begun=begun,
        )
        new = [(disk, volume) for disk, volume in plan.to_restore if tried[volume.number].state == "new"]
        named: dict[str, str] = {}
        findings = [*self._identity(view), *plan.findings, *self._engine(view, new, named)]
        if run.check_mode:
            return self._planned(plan, tried, findings, changed=bool(new))
        refuse([one.to_dict() for one in findings], f"the left-out disks of {self._machine} cannot be restored")
        if new:
            self._jobs.queue()
        for disk, volume in plan.to_restore:
            self._before[volume.number] = listings.get(str((volume.current or {}).get("path")).casefold())
            outcome = self._restored(plan, disk, volume, tried[volume.number], named)
            if outcome is not None:
                return outcome
        self._verify(plan)
        data = self._data(plan)
        wrong = [
            f"{volume.name}: {self._verdicts[volume.number].sentence}"
            for disk in plan.disks
            for volume in disk.volumes
            if volume.number in self._verdicts and self._verdicts[volume.number].verified is False
        ]
        if wrong:
            raise TaskError(
                "verification_failed",
                f"what the set {self._item.set_id} recorded did not come back: {'; '.join(wrong)}; keep the applications stopped, and "
                "restore again with another restore_id",
                **data,
            )
        unsure = [
            f"{volume.name} was restored, but {self._verdicts[volume.number].sentence}; the event log's success is the only proof"
            for disk in plan.disks
            for volume in disk.volumes
            if volume.action == RESTORE and self._verdicts[volume.number].verified is None
        ]
        return Outcome(changed=run.changed, data=data, diff=self._diff(plan) if run.changed else (), warnings=unsure)

    # -- before --------------------------------------------------------------------------------------------------------

    def _tried(self) -> dict[int, Tried]:
        """What this guest knows of each volume's jobs, by the volume's number in the set."""
        found: dict[int, Tried] = {}
        volumes = [
            volume for row in self._item.disks if row.get("coverage") == "guest" for volume in row.get("volumes") or ()
        ]
        for number, volume in enumerate(volumes, start=1):
            path = str(volume.get("path"))
            found[number] = self._jobs.tried(self._request(path, path, str(volume.get("label"))), number)
        return found

    def _request(self, name: str, onto: str, label: str) -> RestoreRequest:
        return RestoreRequest(
            kind="volume",
            version=self._version,
            target=self._target,
            machine=self._made_by,
            item=name,
            onto=onto,
            label=label,
            evidence=self._evidence,
        )

    def _identity(self, view: t.Mapping[str, t.Any]) -> list[GuestFinding]:
        """The guest must be the VM's: it says so, or one of the recorded disks is there."""
        told = view["guest"].get("vm_id")
        if told and vm_key(told) != self._item.vm_id:
            return [
                GuestFinding(
                    kind="wrong_guest",
                    sentence=f"{self._machine} says that it runs in VM {told}, not in {self._item.vm.get('id')}; correct the inventory",
                )
            ]
        recorded = {str(row.get("unique_id")).casefold() for row in self._item.disks if row.get("unique_id")}
        if not told and not any(str(disk["unique_id"]).casefold() in recorded for disk in view["disks"]):
            return [
                GuestFinding(
                    kind="wrong_guest",
                    sentence=f"{self._machine} does not tell which VM it runs in, and none of its disks is one that the set recorded; "
                    "switch on the VM's data exchange integration service",
                )
            ]
        return []

    def _engine(
        self,
        view: t.Mapping[str, t.Any],
        new: t.Sequence[tuple[DiskPlan, VolumePlan]],
        named: dict[str, str],
    ) -> list[GuestFinding]:
        """Whether the engine can restore here, whether the version is there, and who works on the volumes.

        Fills `named` with the names under which the version lists the volumes.
        """
        if not new:
            return []
        able = self._jobs.capabilities(view["guest"])
        if not able.available or not able.restores_volumes:
            return [
                GuestFinding(
                    kind=able.kind or "engine_unable", sentence=f"{self._machine} cannot restore volumes: {able.reason}"
                )
            ]
        found = []
        for _unused, volume in new:
            letter = (volume.current or {}).get("letter")
            holders = services_on(self._run.client, letter) if letter else ()
            if holders:
                found.append(
                    GuestFinding(
                        kind="volume_in_use",
                        sentence=f"the volume {volume.name} is worked on by the running service {', '.join(holders)}; stop it first",
                    )
                )
        wanted = {str(volume.recorded.get("path")): str(volume.recorded.get("letter") or "") for _unused, volume in new}
        listing = self._jobs.listing(self._target, self._made_by, version=self._version, items=wanted)
        if listing.versions is None:
            return [
                *found,
                GuestFinding(
                    kind="target_unreadable", sentence=f"{self._machine} cannot read the backup: {listing.reason}"
                ),
            ]
        if self._version not in listing.versions:
            held = ", ".join(listing.versions[-5:]) or "no version"
            return [
                *found,
                GuestFinding(
                    kind="version_not_listed",
                    sentence=f"version {self._version} is not on {self._target}, which holds {held}; name where the backup lies now in "
                    "target, or choose another set",
                ),
            ]
        missing = [path for path in wanted if path not in listing.items]
        if missing:
            found.append(
                GuestFinding(
                    kind="items_not_listed",
                    sentence=f"version {self._version} on {self._target} does not list {', '.join(missing)}; choose another set",
                )
            )
        named.update(listing.items)
        return found

    # -- restoring -----------------------------------------------------------------------------------------------------

    def _restored(
        self, plan: GuestPlan, disk: DiskPlan, volume: VolumePlan, tried: Tried, named: t.Mapping[str, str]
    ) -> Outcome | None:
        """Restore one volume, or attach to its job; an outcome when the task shall not wait for it."""
        run, path = self._run, str(volume.recorded.get("path"))
        onto = str((volume.current or {}).get("path"))
        request = self._request(named.get(path, path), onto, volume.name)
        if tried.state == "new":
            self._guard.check()
            problem = still_the_same(disk, volume, observe_guest(run.client).to_dict())
            if problem is not None:
                raise TaskError(
                    "changed_since_look",
                    f"right before volume {volume.name} was to be overwritten, {problem}; it was not touched, run again",
                    **self._data(plan),
                )
        job = self._jobs.start(tried, request, volume.number)
        self._shown[volume.number] = {**job, "volume": volume.name}
        if not run.arguments["wait"] and job["state"] in ("pending", "running"):
            return Outcome(changed=run.changed, data=self._data(plan), diff=self._diff(plan))
        result = self._jobs.finish(tried, request, self._jobs.waiting, volume.number)
        self._shown[volume.number].update(state=result.state, percent=100, evidence=dict(result.evidence))
        if result.state != "succeeded":
            letter = (volume.current or {}).get("letter")
            holders = services_on(run.client, letter) if letter else ()
            by = f"; it is worked on by the running service {', '.join(holders)}, stop it first" if holders else ""
            raise TaskError(
                "volume_in_use" if holders else result.kind or "restore_failed",
                f"the restore of volume {volume.name} failed: {result.message}{by}",
                **self._data(plan),
            )
        return None

    # -- after ---------------------------------------------------------------------------------------------------------

    def _verify(self, plan: GuestPlan) -> None:
        """Look again, and compare what is there with what the set recorded of it."""
        run = self._run
        guest = observe_guest(run.client)
        shown = {
            str(volume["path"]).casefold(): volume
            for disk in guest.to_dict()["disks"]
            for volume in disk["volumes"]
            if volume["path"]
        }
        records = {volume.path.casefold(): volume for disk in guest.disks for volume in disk.volumes if volume.path}
        for _disk, volume in ((disk, volume) for disk in plan.disks for volume in disk.volumes):
            if volume.action not in (KEEP, RESTORE):
                continue
            key = str((volume.current or {}).get("path")).casefold()
            mark = self._shown.get(volume.number, {}).get("run_id")
            if mark and self._marks.get_string(mark, _VERIFIED_KEY):
                self._verdicts[volume.number] = Verdict(
                    verified=True, checks=()
                )  # its applications may have changed it since
                continue
            current, record = shown.get(key), records.get(key)
            kept = volume.action == KEEP
            entries = None if record is None or kept else list_root(run.client, record)
            verdict = verify_volume(
                volume.recorded,
                current,
                names=None if entries is None else [entry.name for entry in entries],
                sentinels={} if kept else self._sentinels(volume, current),
                names_before=self._before.get(volume.number),
                kept=kept,
            )
            self._verdicts[volume.number] = verdict
            if mark and verdict.verified is True:
                self._marks.set_string(mark, verdict.sentence, _VERIFIED_KEY)

    def _sentinels(
        self, volume: VolumePlan, current: t.Mapping[str, t.Any] | None
    ) -> dict[str, t.Mapping[str, t.Any] | None]:
        """The recorded sentinel files as they are now, under the letter that the volume has now."""
        found: dict[str, t.Mapping[str, t.Any] | None] = {}
        for file in volume.recorded.get("sentinels") or ():
            path = str(file.get("path"))
            letter = (current or {}).get("letter")
            now = f"{letter}{path[1:]}" if letter and path[1:3] == ":\\" else path
            entry = file_evidence(self._run.client, now)
            found[path] = None if entry is None else entry.to_dict()
        return found

    # -- results -------------------------------------------------------------------------------------------------------

    def _planned(
        self,
        plan: GuestPlan,
        tried: t.Mapping[int, Tried],
        findings: t.Sequence[GuestFinding],
        *,
        changed: bool,
    ) -> Outcome:
        for _disk, volume in plan.to_restore:
            one = tried[volume.number]
            known = one.state != "new"
            self._shown[volume.number] = {
                "run_id": self._jobs.run_id(one.attempt, volume.number),
                "state": one.state if known else None,
                "percent": None,
                "attached": known,
                "volume": volume.name,
            }
        data = {**self._data(plan), "version": None, "findings": [one.to_dict() for one in findings], "planned": True}
        return Outcome(changed=changed, data=data, diff=self._diff(plan) if changed else ())

    def _data(self, plan: GuestPlan) -> dict[str, t.Any]:
        jobs = [self._shown[number] for number in sorted(self._shown)]
        unfinished = any(job["state"] != "succeeded" for job in jobs)
        return {
            "jobs": jobs,
            "job": jobs[-1] if jobs else None,
            "version": None if unfinished else self._version,
            "machine": self._machine,
            "disks": [self._disk(disk) for disk in plan.disks],
            "findings": [],
            "lease": self._guard.lease or self._run.arguments["lease"],
        }

    def _disk(self, disk: DiskPlan) -> dict[str, t.Any]:
        volumes = [self._volume(volume) for volume in disk.volumes]
        told = [one["verified"] for one in volumes if one["action"] != "skipped"]
        verified = False if False in told else True if told and None not in told else None
        return {
            "label": disk.label,
            "unique_id": (disk.disk or {}).get("unique_id"),
            "action": disk.action,
            "evidence": disk.evidence,
            "verified": verified,
            "volumes": volumes,
        }

    def _volume(self, volume: VolumePlan) -> dict[str, t.Any]:
        verdict = self._verdicts.get(volume.number)
        return {
            "path": volume.recorded.get("path"),
            "now": (volume.current or {}).get("path"),
            "letter": (volume.current or {}).get("letter"),
            "action": volume.action,
            "reason": volume.reason,
            "verified": None if verdict is None else verdict.verified,
            "checks": [] if verdict is None else [dataclasses.asdict(check) for check in verdict.checks],
        }

    def _diff(self, plan: GuestPlan) -> tuple[dict[str, str], ...]:
        lines = [f"{disk.label}: {disk.action} ({disk.evidence})" for disk in plan.disks]
        after = f"restore version {self._version} from {self._target}\n" + "\n".join(lines) + "\n"
        return ({"before_header": self._run.target, "after_header": self._run.target, "before": "", "after": after},)


def _listings(run: Run, guest: GuestView) -> t.Iterator[tuple[str, list[str] | None]]:
    """The roots of the volumes that a restore could write to; of boot and system volumes nobody needs to know."""
    for disk in guest.disks:
        for volume in disk.volumes:
            if volume.path is None or volume.is_boot or volume.is_system or not volume.file_system:
                continue
            entries = list_root(run.client, volume)
            yield volume.path.casefold(), None if entries is None else [entry.name for entry in entries]


def _unusable(run: Run, why: tuple[str, str]) -> Outcome:
    data = {
        "jobs": [],
        "job": None,
        "version": None,
        "machine": None,
        "disks": [],
        "findings": [{"kind": why[0], "sentence": why[1], "accept_with": None}],
        "lease": run.arguments["lease"],
        "planned": True,
    }
    return Outcome(changed=True, data=data)
