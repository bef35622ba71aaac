# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Recovery with the simulated Windows Server Backup: volumes, files, virtual machines.

A recovery is destructive from its first step: a volume is formatted, a virtual machine is turned off and deleted, before
anything is written (backup-engines 1.3, 1.12). What becomes of pass-through disks in a restored configuration is not
documented and therefore a switch. Not here: backups and the engine's lock (windows_backup.py).
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from typing import Any

from .assumed import assumed
from .backup_store import Container, Version
from .file_system import FileSystemError
from .guest_memory import recall
from .processes import Token
from .virtual_machine import OFF, SAVED
from .vss_writer import HOST_COMPONENT
from .windows_backup import ENGINE_TOKEN, RECOVERY, BackupRefused, Job, JobFailed, Target, WindowsBackup
from .windows_files import Files, join, parent_folder

assumed(
    "wsb-passthrough-restore",
    "Pass-through drives of a restored VM keep the recorded disk number, point at another disk, or are gone",
    source="backup-engines 1.12, 9.3: not documented",
    values=("keeps-number", "wrong-disk", "dropped"),
)
assumed(
    "wsb-volume-restore-size",
    "A volume may be restored to a larger volume and keeps its old size there; a smaller one is refused",
    source="backup-engines 1.3 says only that the target is formatted",
)
assumed(
    "wsb-critical-restore",
    "A boot or system volume that is in use cannot be the target of a volume recovery",
    source="general knowledge; the documentation sends bare metal recovery to WinRE",
)
assumed(
    "wsb-hyperv-recovery-events",
    "The recovery of a VM writes events 1025 to 1028",
    source="backup-engines 1.10 (inferred)",
)
assumed(
    "wsb-restored-state",
    "A VM that was saved for its backup comes back in saved state, any other one off",
    source="backup-engines 3.2 (inferred)",
)

assumed(
    "wsb-fibre-channel-restore",
    "Virtual Fibre Channel ports of a restored VM keep their virtual SAN by name, lose the connection, or are gone",
    source="backup-engines 1.12 speaks of switch ports only",
    values=("kept", "disconnected", "dropped"),
)
assumed(
    "wsb-switch-restore",
    "A restored network adapter is connected when the switch of its GUID exists, or when one of its name does",
    source="backup-engines 1.12: only if the switch still exists; by what it is found is unknown",
    values=("guid", "name"),
)
assumed(
    "wsb-volume-in-use",
    "A volume recovery to a volume that a running service works on dismounts it all the same, or is refused",
    source="backup-engines 1.3 says only that the target is formatted",
    values=("dismounts", "refused"),
)
assumed(
    "wsb-partial-restore",
    "A recovery of a VM that breaks off leaves its files at full size without their contents",
    source="no source; the VM itself is deleted before (backup-engines 1.12)",
)

VOLUME_EVENTS = (193, 194, 195, 196)
FILE_EVENTS = (208, 209, 210, 211)
HYPERV_EVENTS = (1025, 1026, 1027, 1028)


@dataclass(frozen=True, kw_only=True)
class RecoveryRequest:
    """What a start recovery asks for; names as on the command line."""

    version_id: str
    item_type: str
    items: tuple[str, ...]
    target: str = ""
    computer: str = ""
    recovery_target: str = ""
    recursive: bool = False
    overwrite: str = "createcopy"
    alternate_location: bool = False
    recreate_path: bool = False


@dataclass(frozen=True, kw_only=True)
class RecoveryPlan:
    request: RecoveryRequest
    source: Target
    version: Version
    members: tuple[dict[str, Any], ...]
    destination: Any = None
    paths: tuple[str, ...] = ()

    def description(self) -> str:
        return ",".join(str(member.get("caption") or member.get("name") or "") for member in self.members) or ",".join(
            self.paths
        )


def plan_recovery(engine: WindowsBackup, request: RecoveryRequest, token: Token) -> RecoveryPlan:
    """Everything that wbadmin checks before it asks; BackupRefused otherwise."""
    engine.require_rights(token)
    source, version = find_version(engine, request.version_id, request.target, request.computer, token)
    kind = request.item_type.lower()
    if kind == "volume":
        return _plan_volume(engine, request, source, version)
    if kind == "hyperv":
        return _plan_machines(engine, request, source, version)
    if kind == "file":
        return _plan_files(engine, request, source, version, token)
    raise BackupRefused("no_application", item=",".join(request.items))


def find_version(
    engine: WindowsBackup, version_id: str, target_text: str, computer: str, token: Token
) -> tuple[Target, Version]:
    """The newest version of that identifier at the target, or in the local catalog when no target is named."""
    if target_text:
        target = engine.target(target_text, token, write=False)
        found = [v for v in engine.versions_at(target, computer) if v.version_id == version_id]
        if found:
            return target, found[-1]
        raise BackupRefused("no_version", version=version_id)
    known = [v for v in engine.catalog if v.version_id == version_id]
    if not known:
        raise BackupRefused("no_version", version=version_id)
    target = engine.target(known[-1].target, token, write=False)
    there = [v for v in engine.versions_at(target, known[-1].computer) if v.template_id == known[-1].template_id]
    if not there:
        raise BackupRefused("media_missing", target=known[-1].target_label)
    return target, there[-1]


def start_recovery(engine: WindowsBackup, plan: RecoveryPlan) -> Job:
    kind = plan.request.item_type.lower()
    job = engine.new_job(RECOVERY, [plan.description()])
    job.progress_key = "progress_recovery"
    job.template_id = plan.version.template_id
    job.media = plan.source
    size = sum(int(member.get("size", 0)) for member in plan.members)
    job.seconds = 60.0 + (size or plan.version.size) / 100_000_000
    if kind == "volume":
        engine.reports.event(192, 4, {"BackupSetId": engine.reports.set_id(plan.version)}, opcode=1)
        job.begin = lambda job: _wipe_volume(engine, plan)
        job.end = lambda job: _restore_volume(engine, plan)
        data = {
            "NumOfVolumes": "1",
            "VolumesInfo": plan.description(),
            "PrepareRestoreTime": "5",
            "WriteRestoreTime": str(int(job.seconds)),
        }
        job.report = lambda job: engine.reports.recovery(job, plan.version, VOLUME_EVENTS, data)
    elif kind == "hyperv":
        job.begin = lambda job: _remove_machines(engine, plan)
        job.end = lambda job: _restore_machines(engine, plan)
        data = {
            "RecoveryFromSSB": "false",
            "AppRestoreAlternateTargetPath": plan.request.recovery_target,
            "NumOfComponents": str(len(plan.members)),
            "AppsInfo": plan.description(),
            "AlternateLocationRecovery": "true" if plan.request.alternate_location else "false",
            "RecreatePath": "true" if plan.request.recreate_path else "false",
            "ComponentInfoSummary": plan.description(),
        }
        job.report = lambda job: engine.reports.recovery(job, plan.version, HYPERV_EVENTS, data)
    else:
        job.end = lambda job: _restore_files(engine, plan, job)
        where = plan.request.recovery_target or "original location"
        data = {"FileRestoreTargetPath": where, "NumOfFiles": str(len(plan.paths)), "FilesInfo": plan.description()}
        job.report = lambda job: engine.reports.recovery(job, plan.version, FILE_EVENTS, data)
    return job


# -- volumes --------------------------------------------------------------------------------------


def _plan_volume(engine: WindowsBackup, request: RecoveryRequest, source: Target, version: Version) -> RecoveryPlan:
    if len(request.items) != 1:
        raise BackupRefused("one_volume")
    wanted = request.items[0].rstrip("\\").lower()
    members = [m for m in version.volumes if wanted in {str(m["name"]).rstrip("\\").lower(), _guid_path(m)}]
    if not members:
        raise BackupRefused("item_missing", item=request.items[0], version=version.version_id)
    where = request.recovery_target or request.items[0]
    destination = engine.find_volume(where)
    if destination is None:
        raise BackupRefused("no_volume", item=where)
    if destination.is_boot or destination.is_system:
        raise BackupRefused("critical_volume", item=where)
    if source.kind == "volume" and source.volume.guid == destination.guid:
        raise BackupRefused("target_is_source", target=where)
    if destination.partition.size < int(members[0]["size"]):
        raise BackupRefused("volume_too_small", item=where)
    if destination.disk.read_only or destination.partition.read_only:
        raise BackupRefused("volume_read_only", item=where)
    if destination.locked:
        raise BackupRefused("volume_locked", item=where)
    if _held(engine, destination) and engine.machine.world.assume("wsb-volume-in-use") == "refused":
        raise BackupRefused("volume_in_use", item=where)
    return RecoveryPlan(
        request=request, source=source, version=version, members=tuple(members[:1]), destination=destination
    )


def _held(engine: WindowsBackup, volume: Any) -> bool:
    """A running service works on the volume, or a VM's or a mounted image lies on it."""
    machine = engine.machine
    prefix = f"{volume.letter}:\\".lower() if volume.letter else None
    services = any(
        prefix is not None and service.path.strip('"').lower().startswith(prefix)
        for service in machine.extra_services
        if machine.service_states.get(service.name, service.state) == "Running"
    )
    return services or any(guid == volume.guid for guid, _path in machine.locked_files())


def _guid_path(member: dict[str, Any]) -> str:
    return f"\\\\?\\volume{{{str(member['guid']).lower()}}}"


def _wipe_volume(engine: WindowsBackup, plan: RecoveryPlan) -> None:
    """The target is formatted first: from here on its old contents are gone."""
    volume = plan.destination
    if engine.machine.directory_volumes.get(volume.guid) is not None:
        for name in volume.files.listdir(""):
            volume.files.delete(name, recursive=True)
        return
    volume.content.write_at(0, bytes(min(1 << 20, volume.content.size)))
    volume.forget_backend()


def _restore_volume(engine: WindowsBackup, plan: RecoveryPlan) -> None:
    container = _container(plan, str(plan.members[0]["container"]))
    volume = plan.destination
    if engine.machine.directory_volumes.get(volume.guid) is not None:
        for member in container.members:
            _write_file(volume.files, member.name, container, member)
        return
    member = container.members[0]
    if member.allocated is None:
        raise JobFailed(0x80780049, 0, "The backup of the volume holds files, not blocks.")
    container.restore_volume(member, volume.content, f"restore:{plan.version.template_id}:{volume.guid}")
    volume.forget_backend()


def _container(plan: RecoveryPlan, name: str) -> Container:
    return plan.source.place.container(plan.version.computer, plan.version, name)


def _write_file(files: Any, path: str, container: Container, member: Any) -> None:
    folder = path.rpartition("\\")[0]
    if folder and not files.exists(folder):
        files.mkdir(folder, parents=True)
    content = files.create(path, member.size)
    container.restore_file(member, content)


# -- files ------------------------------------------------------------------------------------------


def _plan_files(
    engine: WindowsBackup, request: RecoveryRequest, source: Target, version: Version, token: Token
) -> RecoveryPlan:
    folders = {parent_folder(item.rstrip("\\")).lower() for item in request.items}
    if len(folders) > 1:
        raise BackupRefused("one_folder")
    if request.recovery_target and not Files(engine.machine, token, "C:\\").is_folder(request.recovery_target):
        raise BackupRefused("no_volume", item=request.recovery_target)
    plan = RecoveryPlan(request=request, source=source, version=version, members=(), paths=request.items)
    if not list(_wanted_files(plan)):
        raise BackupRefused("item_missing", item=request.items[0], version=version.version_id)
    return plan


def _wanted_files(plan: RecoveryPlan) -> list[tuple[str, str, str, str]]:
    """(container, name of the member, its full original path, path below the wanted item)."""
    found: list[tuple[str, str, str, str]] = []
    if plan.version.files:
        container = _container(plan, "Files.wsbimage")
        found += [("Files.wsbimage", m.name, m.name, "") for m in container.members]
    for volume in plan.version.volumes:
        opened = _container(plan, str(volume["container"]))
        if all(member.allocated is None for member in opened.members):
            found += [(str(volume["container"]), m.name, f"{volume['name']}\\{m.name}", "") for m in opened.members]
    chosen = []
    for container_name, name, original, _below in found:
        for item in plan.request.items:
            wanted = item.rstrip("\\").lower()
            lowered = original.lower()
            if lowered == wanted:
                chosen.append((container_name, name, original, original.rpartition("\\")[2]))
            elif lowered.startswith(wanted + "\\"):
                below = original[len(wanted) + 1 :]
                if plan.request.recursive or "\\" not in below:
                    chosen.append(
                        (container_name, name, original, f"{item.rstrip(chr(92)).rpartition(chr(92))[2]}\\{below}")
                    )
    return chosen


def _restore_files(engine: WindowsBackup, plan: RecoveryPlan, job: Job) -> None:
    access = Files(engine.machine, ENGINE_TOKEN, "C:\\")
    total = count = 0
    for container_name, name, original, below in _wanted_files(plan):
        container = _container(plan, container_name)
        member = next(m for m in container.members if m.name == name)
        goal = join(plan.request.recovery_target, below) if plan.request.recovery_target else original
        if access.exists(goal):
            if plan.request.overwrite == "skip":
                continue
            if plan.request.overwrite == "createcopy":
                folder, _unused, last = goal.rpartition("\\")
                goal = join(folder, f"{engine.machine.local_now().strftime('%Y-%m-%d %H-%M')} Copy of {last}")
        volume, relative = access.locate(goal, write=True)
        _write_file(volume.files, relative, container, member)
        total += member.size
        count += 1
    job.say("recovered_totals", bytes=str(total), files=str(count), failed="0")


# -- virtual machines ----------------------------------------------------------------------------------


def _plan_machines(engine: WindowsBackup, request: RecoveryRequest, source: Target, version: Version) -> RecoveryPlan:
    if engine.machine.kind != "host" or not engine.machine.role_present:
        raise BackupRefused("no_application", item=",".join(request.items))
    if request.alternate_location != bool(request.recovery_target):
        raise BackupRefused("alternate_needs_target")
    members: list[dict[str, Any]] = []
    for item in request.items:
        bare = item.strip().strip("{}").lower()
        found = [m for m in version.machines if bare in {str(m["id"]).lower(), str(m["name"]).lower()}]
        if not found:
            raise BackupRefused("item_missing", item=item, version=version.version_id)
        members += found
    if request.recovery_target and not Files(engine.machine, ENGINE_TOKEN, "C:\\").is_folder(request.recovery_target):
        raise BackupRefused("no_volume", item=request.recovery_target)
    return RecoveryPlan(request=request, source=source, version=version, members=tuple(members))


def _remove_machines(engine: WindowsBackup, plan: RecoveryPlan) -> None:
    """PreRestore: every VM that is to be restored is turned off and deleted, without a question."""
    host = engine.machine
    for member in plan.members:
        if member["id"] == HOST_COMPONENT:
            continue
        vm = host.vm_by_id(str(member["id"]))
        if vm is not None:
            if vm.running:
                vm.set_state(OFF)
            host.unregister(vm)
        for entry in _container(plan, str(member["container"])).members:
            volume, relative = _place_of(host, _goal(plan, entry.name))
            volume.files.create(relative, entry.size)


def _place_of(host: Any, goal: str) -> tuple[Any, str]:
    """Where a file of a VM goes, its folder made; JobFailed when that cannot be."""
    try:
        volume, relative = Files(host, ENGINE_TOKEN, "C:\\").locate(goal, write=True)
        if host.file_in_use(volume, relative):
            raise FileSystemError(32, goal)
        folder = relative.rpartition("\\")[0]
        if folder and not volume.files.exists(folder):
            volume.files.mkdir(folder, parents=True)
    except FileSystemError as problem:
        raise JobFailed(0x80070000 | problem.code, 0x80070000 | problem.code, f"{goal}: {problem}") from problem
    return volume, relative


def _restore_machines(engine: WindowsBackup, plan: RecoveryPlan) -> None:
    """The files go back, then PostRestore registers the VM."""
    host = engine.machine
    for member in plan.members:
        if member["id"] == HOST_COMPONENT:
            continue
        container = _container(plan, str(member["container"]))
        moved: dict[str, str] = {}
        for entry in container.members:
            goal = _goal(plan, entry.name)
            moved[entry.name.lower()] = goal
            volume, relative = _place_of(host, goal)
            try:
                _write_file(volume.files, relative, container, entry)
            except FileSystemError as problem:
                raise JobFailed(0x80070000 | problem.code, 0x80070000 | problem.code, f"{goal}: {problem}") from problem
        configuration = _rewritten(engine, plan, copy.deepcopy(container.facts["configuration"]), moved)
        if container.facts.get("method") == "saved":
            configuration["state"] = SAVED
        try:
            restored = host.register(configuration)
        except ValueError as problem:
            raise JobFailed(0x80780049, 0x80070050, str(problem)) from problem
        recall(restored, host.world.guest_memories.get((plan.version.template_id, restored.id)))
        restored.was_running = container.facts.get("method") != "still"


def _goal(plan: RecoveryPlan, path: str) -> str:
    target = plan.request.recovery_target
    if not target:
        return path
    if plan.request.recreate_path:
        return join(target, path.replace(":", "", 1))
    return join(target, path.rpartition("\\")[2])


def _rewritten(
    engine: WindowsBackup, plan: RecoveryPlan, configuration: dict[str, Any], moved: dict[str, str]
) -> dict[str, Any]:
    """Paths of restored VHDs, and whatever happens to pass-through drives."""
    host = engine.machine
    lists = [configuration["controllers"], *(c["controllers"] for c in configuration["checkpoints"])]
    for controllers in lists:
        for controller in controllers:
            for slot, drive in list(controller["drives"].items()):
                medium = drive.get("medium")
                if medium and str(medium["path"]).lower() in moved:
                    medium["path"] = moved[str(medium["path"]).lower()]
                if drive["kind"] == "physical":
                    _restored_passthrough(host, controller["drives"], slot)
    for adapter in configuration["adapters"]:
        _restored_adapter(host, adapter)
    choice = host.world.assume("wsb-fibre-channel-restore")
    if choice == "dropped":
        configuration["fibre_channel"] = []
    for port in configuration["fibre_channel"]:
        if choice == "disconnected" or port["virtual_san"] not in host.virtual_sans:
            port["virtual_san"] = None
    if plan.request.recovery_target:
        configuration["configuration_root"] = plan.request.recovery_target.rstrip("\\")
        configuration["snapshot_root"] = plan.request.recovery_target.rstrip("\\")
    return configuration


def _restored_adapter(host: Any, adapter: dict[str, Any]) -> None:
    """Its port is made again only when the switch is there."""
    if adapter["switch"] in host.virtual_switches.values():
        return
    by_name = host.world.assume("wsb-switch-restore") == "name"
    adapter["switch"] = host.virtual_switches.get(adapter["last_switch"]) if by_name else None


def _restored_passthrough(host: Any, drives: dict[str, Any], slot: str) -> None:
    choice = host.world.assume("wsb-passthrough-restore")
    if choice == "dropped":
        del drives[slot]
        return
    drive = drives[slot]
    match = re.search(r"\\\\(\d+)\"", str(drive["host_resource"]))
    if match is None:
        return
    number = int(match[1])
    if choice == "wrong-disk":
        others = (d.number for d in host.disks if d.number != number and d.lun is not None and not d.is_system)
        number = next(others, number)
    wanted = str(number)
    if host.disk_by_number(number) is None and host.world.assume("passthrough-missing") == "nodrive":
        wanted = "NODRIVE"
    drive["host_resource"] = str(drive["host_resource"]).replace(match[0], f'\\\\{wanted}"')
