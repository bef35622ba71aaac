# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Task host_restore: one VM, on a Hyper-V host, from a backup set. Looks, refuses, exports, restores, and holds the VM still.

The rules are `_backup.host_restore_checks`, the engine is one of `_backup.engines`; the VM's hands are `_hyperv`.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ..plugin_utils._backup.backup_set import from_result, vm_key
from ..plugin_utils._backup.engine import RestoreRequest
from ..plugin_utils._backup.host_restore_checks import (
    HostFacts,
    HostWishes,
    host_findings,
    mapped_name,
    recorded_files,
)
from ..plugin_utils._backup.set_choice import refusal, used_attempt
from ..plugin_utils._backup.set_store import REGISTRY_BASE
from ..plugin_utils._guard import Guard, NoGuard
from ..plugin_utils._hyperv import HypervError, Registry, file_evidence, observe_host
from ..plugin_utils._hyperv.vm_power import change_power, discard_saved_state, find_power
from ..plugin_utils._hyperv.vm_settings import (
    export_configuration,
    network_switches,
    read_automatic_start_action,
    reconnect_fibre_channel,
    reconnect_network,
    set_automatic_start_action,
    virtual_sans,
)
from ..plugin_utils._hyperv.volumes import mounted_volumes
from ..plugin_utils._restore import OPTIONS, RestoreJobs, Tried, refuse
from ..plugin_utils._task import HypervAction, Outcome, Run, TaskError
from ..plugin_utils._wsman import WsmanFault

if t.TYPE_CHECKING:
    from ..plugin_utils._backup.backup_set import Attempt, BackupSet
    from ..plugin_utils._backup.engine import RestoreResult, Waiting

_SETTLED_KEY = "Restored"  # in the host's registry: which recovered VMs were held still once
_EXPORTS = "C:\\ProgramData\\hyperv.passthrough\\exports"


class ActionModule(HypervAction):
    SPEC: t.ClassVar[dict[str, t.Any]] = {
        "argument_spec": {
            **OPTIONS,
            "engine": {"type": "str", "choices": ["command", "diskshadow", "export", "wsb"]},
            "vm": {"type": "str", "required": True},
            "overwrite_vm": {"type": "str"},
            "export_folder": {"type": "str", "default": _EXPORTS},
            "switch_map": {"type": "dict", "default": {}},
            "vsan_map": {"type": "dict", "default": {}},
        }
    }
    IDENTITIES = frozenset({"vm", "overwrite_vm", "restore_id"})

    def perform(self, run: Run) -> Outcome:
        arguments = run.arguments
        item = from_result(arguments["set"])
        why = refusal(item, restore_phase="host", vm_id=arguments["vm"])
        attempt = used_attempt(item, "host")
        if why is not None or attempt is None or attempt.version is None:
            kind, sentence = why or ("host_half_failed", f"the set {item.set_id} holds no version of its host phase")
            if run.check_mode:
                return _unusable(run, item, {"kind": kind, "sentence": sentence, "accept_with": None})
            raise TaskError(kind, f"{sentence}; nothing was changed")
        guard: Guard | NoGuard = NoGuard(run)
        if arguments["lease"] and not run.check_mode:
            guard = Guard(run, run.client).attach(arguments["lease"])
        request = RestoreRequest(
            kind="vm",
            version=attempt.version,
            target=arguments["target"] or attempt.target,
            machine=attempt.machine,
            item=str(item.vm["id"]),
            label=str(item.vm.get("name")),
            vm=item.vm,
            disks=item.disks,
            evidence=attempt.evidence,
        )
        return _HostRestore(run, item, attempt, request, guard).perform()


class _HostRestore:
    """One restore of one VM on one host, from the first look to the VM that stands still."""

    def __init__(
        self, run: Run, item: BackupSet, attempt: Attempt, request: RestoreRequest, guard: Guard | NoGuard
    ) -> None:
        self._run = run
        self._item = item
        self._request = request
        self._guard = guard
        self._vm_id = vm_key(item.vm["id"]).upper()
        self._jobs = RestoreJobs(run, phase="host", set_id=item.set_id, guard=guard, attempt=attempt)
        self._marks = Registry(run.client, REGISTRY_BASE)
        self._exported: str | None = None
        self._host = ""

    def perform(self) -> Outcome:
        run = self._run
        tried = self._jobs.tried(self._request)
        view = observe_host(run.client).to_dict()
        self._host = str(view["host"]["name"])
        vm = next((one for one in view["vms"] if vm_key(one["id"]) == self._item.vm_id), None)
        if tried.state == "succeeded" and vm is None:
            # what came back is gone again, so that nothing is in the way of another attempt
            tried = self._jobs.tried(self._request, skip_succeeded=True)
        if tried.state == "new":
            findings = [one.to_dict() for one in self._findings(view, tried)]
            if run.check_mode:
                return self._planned(tried, vm, findings)
            refuse(findings, f"VM {self._item.vm.get('name')} cannot be restored on {self._host}")
            self._prepare(vm)
            self._request = dataclasses.replace(self._request, replace=vm is not None)
        elif run.check_mode:
            return self._planned(tried, vm, [])
        job = self._jobs.start(tried, self._request)
        if not run.arguments["wait"] and job["state"] in ("pending", "running"):
            return Outcome(changed=run.changed, data=self._data(job, None), diff=self._diff())
        result = self._jobs.finish(tried, self._request, self._watching())
        job = {**job, "state": result.state, "percent": 100}
        if result.state != "succeeded":
            raise TaskError(
                result.kind or "restore_failed",
                f"the restore of VM {self._item.vm.get('name')} failed: {result.message}",
                **self._data(job, result),
            )
        network = self._settle(job, result, self._jobs.run_id(tried.attempt))
        return Outcome(
            changed=run.changed,
            data={**self._data(job, result, vm=self._shown()), "network": network},
            diff=self._diff() if run.changed else (),
        )

    # -- before --------------------------------------------------------------------------------------------------------

    def _findings(self, view: t.Mapping[str, t.Any], tried: Tried) -> list[t.Any]:
        run, request = self._run, self._request
        able = self._jobs.capabilities(view["host"])
        files = {}
        for path, _size in recorded_files(self._item):
            entry = file_evidence(run.client, path)
            files[path] = None if entry is None else (entry.size_bytes or 0)
        facts = HostFacts(
            name=self._host,
            vms=view["vms"],
            volumes=[volume.to_dict() for volume in mounted_volumes(run.client)],
            files=files,
            switches=[one.name for one in network_switches(run.client)],
            virtual_sans=[one.name for one in virtual_sans(run.client)]
            if self._item.vm.get("fibre_channel_ports")
            else [],
            engine=able,
            listing=self._jobs.listing(
                request.target, request.machine, version=request.version, items={self._vm_id: ""}
            )
            if able.available and able.restores_vms
            else None,
            began_before=bool(tried.earlier),
            refusals=self._jobs.refusals(request),
        )
        wishes = HostWishes(
            overwrite_vm=run.arguments["overwrite_vm"],
            switch_map=run.arguments["switch_map"],
            vsan_map=run.arguments["vsan_map"],
            target=request.target,
            version=request.version,
            planned_only=run.check_mode,
        )
        return host_findings(self._item, facts, wishes)

    def _prepare(self, vm: t.Mapping[str, t.Any] | None) -> None:
        """Export what is about to be deleted, then look once more that it stands still."""
        run = self._run
        self._jobs.queue()
        self._guard.check()
        if vm is None:
            return
        folder = f"{run.arguments['export_folder']}\\{self._item.set_id}.{run.arguments['restore_id']}"
        try:
            self._exported = export_configuration(run.client, self._vm_id, folder, self._jobs.waiting)
            run.changed = True
        except HypervError as err:
            if err.kind != "export_exists":
                raise
            self._exported = folder  # of an earlier try of this restore, of the same VM
        power = find_power(run.client, self._vm_id)
        if power is not None and power.state not in ("off", "saved"):
            raise TaskError(
                "vm_not_off",
                f"VM {power.name} was {power.state} right before the restore, so that it was not started; shut the VM down and run "
                "again",
            )
        self._guard.check()

    def _watching(self) -> Waiting:
        """While the job runs: a VM that is registered again must not be started by a host that restarts right now."""
        waiting = self._jobs.waiting

        def should_stop() -> None:
            waiting.should_stop()
            try:
                if find_power(self._run.client, self._vm_id) is not None:
                    set_automatic_start_action(self._run.client, self._vm_id, "nothing", waiting)
            except (HypervError, WsmanFault):
                return  # it is being deleted or made right now; after the job it is done for certain

        return dataclasses.replace(waiting, should_stop=should_stop)

    # -- after ---------------------------------------------------------------------------------------------------------

    def _settle(self, job: t.Mapping[str, t.Any], result: RestoreResult, run_id: str) -> list[dict[str, t.Any]]:
        """The VM is there, does not start by itself, has no saved state, and is connected; on every run again.

        A VM that runs before it was settled once was started by its host (a restart right after the recovery), perhaps on wrong
        disks: it is turned off. Later it may run, because this restore has started it.
        """
        run, item, waiting = self._run, self._item, self._jobs.waiting
        power = find_power(run.client, self._vm_id)
        if power is None:
            raise TaskError(
                "vm_not_restored",
                f"the recovery was called a success, but {self._host} has no VM {item.vm.get('name')} ({self._vm_id}); look into "
                f"the logs {result.evidence.get('logs')}",
                **self._data(job, result),
            )
        missing = [path for path, _size in recorded_files(item) if file_evidence(run.client, path) is None]
        if missing:
            raise TaskError(
                "files_missing",
                f"the recovery was called a success, but {', '.join(missing)} did not come back; look into the logs "
                f"{result.evidence.get('logs')}",
                **self._data(job, result),
            )
        if set_automatic_start_action(run.client, self._vm_id, "nothing", waiting) != "Nothing":
            run.changed = True
        settled = self._marks.get_string(run_id, _SETTLED_KEY) is not None
        if not settled and power.state not in ("off", "saved"):
            run.progress(f"VM {power.name} is {power.state} before its disks were looked at; turning it off")
            change_power(run.client, self._vm_id, "off", waiting, force=True)
            run.changed = True
        if power.state == "saved" and discard_saved_state(run.client, self._vm_id, waiting):
            run.changed = True
        switch_map, vsan_map = run.arguments["switch_map"], run.arguments["vsan_map"]
        adapters = _connected(item.vm.get("network_adapters"), "switch_name", switch_map)
        network = reconnect_network(run.client, self._vm_id, adapters, switch_map, waiting) if adapters else []
        ports = _connected(item.vm.get("fibre_channel_ports"), "san", vsan_map)
        if ports and (not settled or power.state in ("off", "saved")):
            network += reconnect_fibre_channel(run.client, self._vm_id, ports, vsan_map, waiting)
        if any(one["changed"] for one in network):
            run.changed = True
        if not settled:
            self._marks.set_string(run_id, "settled", _SETTLED_KEY)
        return network

    # -- results -------------------------------------------------------------------------------------------------------

    def _shown(self) -> dict[str, t.Any]:
        power = find_power(self._run.client, self._vm_id)
        return {
            "id": self._vm_id,
            "name": self._item.vm.get("name") if power is None else power.name,
            "exists": power is not None,
            "state": None if power is None else power.state,
            "automatic_start_action": None
            if power is None
            else read_automatic_start_action(self._run.client, self._vm_id),
        }

    def _data(
        self,
        job: t.Mapping[str, t.Any] | None,
        result: RestoreResult | None,
        *,
        vm: t.Mapping[str, t.Any] | None = None,
        findings: t.Sequence[t.Mapping[str, t.Any]] = (),
        restored: bool = False,
    ) -> dict[str, t.Any]:
        done = result is not None and result.state == "succeeded"
        return {
            "job": job,
            "version": self._request.version if done else None,
            "machine": self._host,
            "evidence": {} if result is None else dict(result.evidence),
            "vm": vm or {"id": self._vm_id, "name": self._item.vm.get("name"), "exists": None, "state": None},
            "exported": self._exported,
            "network": [],
            "findings": list(findings),
            "restored": restored or done,
            "lease": self._guard.lease or self._run.arguments["lease"],
        }

    def _planned(
        self, tried: Tried, vm: t.Mapping[str, t.Any] | None, findings: t.Sequence[t.Mapping[str, t.Any]]
    ) -> Outcome:
        """What check mode returns: every key, nothing started, findings told and never raised."""
        known = tried.state != "new"
        job = {
            "run_id": self._jobs.run_id(tried.attempt),
            "state": None if not known else tried.state,
            "percent": None,
            "attached": known,
        }
        shown = {
            "id": self._vm_id,
            "name": self._item.vm.get("name"),
            "exists": vm is not None,
            "state": None if vm is None else vm["state"],
            "automatic_start_action": None if vm is None else vm["automatic_start_action"],
        }
        restored = tried.state == "succeeded"
        data = self._data(job, tried.result, vm=shown, findings=findings, restored=restored)
        return Outcome(changed=not restored, data={**data, "planned": True}, diff=() if restored else self._diff())

    def _diff(self) -> tuple[dict[str, str], ...]:
        request = self._request
        text = f"VM {request.label} ({request.item}) from version {request.version} on {request.target}\n"
        return (
            {
                "before_header": self._run.target,
                "after_header": self._run.target,
                "before": "",
                "after": f"restore {text}",
            },
        )


def _connected(recorded: t.Any, key: str, mapping: t.Mapping[str, str]) -> list[t.Mapping[str, t.Any]]:
    """Adapters or ports that are to be connected: not those that were not, nor those mapped to nothing."""
    return [one for one in recorded or () if one.get(key) and mapped_name(str(one[key]), mapping)]


def _unusable(run: Run, item: BackupSet, finding: t.Mapping[str, t.Any]) -> Outcome:
    data = {
        "job": None,
        "version": None,
        "machine": None,
        "evidence": {},
        "vm": {"id": item.vm.get("id"), "name": item.vm.get("name"), "exists": None, "state": None},
        "exported": None,
        "network": [],
        "findings": [dict(finding)],
        "restored": False,
        "lease": run.arguments["lease"],
        "planned": True,
    }
    return Outcome(changed=True, data=data)
