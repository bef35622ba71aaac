# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Hyper-V VSS writer of a simulated host, and the space that shadow copies take.

It decides per VM which files belong to its component, whether it is saved to disk for the snapshot, and - the point of
the whole project - leaves out every disk that is no virtual hard disk on the host. Facts: backup-engines 1.11, 3.1-3.3,
9.4; the minimum diff area is windows-storage 5 (320 MB, 32 MB on volumes up to 500 MB).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .assumed import assumed
from .content import Content
from .file_system import FileSystemError
from .vhd import ImageError
from .virtual_machine import Checkpoint, copy_controllers

WRITER_NAME = "Microsoft Hyper-V VSS Writer"
WRITER_ID = "66841cd4-6ded-4f4b-8f17-fd23f8ddc3de"
HOST_COMPONENT = "Host Component"

VSS_E_VOLUME_NOT_SUPPORTED = 0x8004230C
VSS_E_SNAPSHOT_SET_IN_PROGRESS = 0x80042316
VSS_E_INSUFFICIENT_STORAGE = 0x8004231F
VSS_E_WRITERERROR_PARTIAL_FAILURE = 0x80042336
VSS_E_UNEXPECTED_PROVIDER_ERROR = 0x8004230F

MEBIBYTE = 1 << 20

assumed(
    "wsb-passthrough",
    "What a host backup does to a running VM that has pass-through or virtual Fibre Channel disks on 2016 and later",
    source="backup-engines 9.4, 3.3",
    values=("online", "saved", "refused"),
)
assumed(
    "vss-without-integration",
    "A running VM whose guest takes part in no VSS snapshot is saved for the backup, or gets a crash-consistent checkpoint",
    source="backup-engines 3.2 (the writer's documentation against third-party texts for 2012 R2 and later)",
    values=("saved", "online"),
)
assumed(
    "vss-smb-vhd",
    "A VM with a VHD on an SMB share makes a wbadmin backup of that VM fail, or the share's files are left out silently",
    source="backup-engines 3.2 (a volume snapshot does not cover a share); what wbadmin says is unknown",
    values=("refused", "left-out"),
)
assumed(
    "vss-shared-vhdx",
    "A shared VHDX or VHD set is left out of the VM's component, or makes the backup of the VM fail",
    source="backup-engines 3.3, 8.8",
    values=("left-out", "refused"),
)
assumed(
    "vss-offline-event",
    "A VM that is saved for a backup leaves event 19100 with its name in Microsoft-Windows-Hyper-V-Worker-Admin",
    source="backup-engines 1.10 names log and provider; number and fields are a guess",
)
assumed(
    "vss-failure-codes",
    "Which VSS error the writer's refusals give: 0x80042336, 0x8004230C, 0x8004231F",
    source="vss.h names the codes; which refusal gives which is a guess",
)
assumed(
    "vss-snapshot-location",
    "The writer's rule that the snapshot folder lies on the volume of the VHDs still holds, or went with 2012 R2",
    source="backup-engines 3.2 states it from a page of the 2008 era; later hosts put the .avhdx beside its parent",
    values=("not-needed", "needed"),
)
assumed(
    "vss-small-volumes",
    "On volumes up to 500 MB the diff area is a sixteenth (small worlds stand for large ones) or the documented 32 MB",
    source="windows-storage 5: 32 MB; scaling is the simulator's own",
    values=("scaled", "as-documented"),
)
assumed(
    "vss-checkpoint-size",
    "A VM that is backed up online writes 4 MiB plus the churn of the world into an .avhdx beside each VHD during the job",
    source="backup-engines 3.2, 3.3; the amount is a guess",
)


assumed(
    "vss-recovery-checkpoint",
    "While a VM is backed up online its recovery checkpoint is listed among its snapshots, or is not",
    source="hyperv-wmi 7.1 names the type of such snapshots; whether the writer's own shows is unknown",
    values=("hidden", "listed"),
)


class VssFailure(Exception):
    """The shadow copy cannot be made; nothing is backed up."""

    def __init__(self, hresult: int, message: str) -> None:
        super().__init__(message)
        self.hresult = hresult


@dataclass(frozen=True, kw_only=True)
class ComponentFile:
    """A file that belongs to a VM: its path on the host and its bytes past every lock."""

    path: str
    volume: Any
    content: Content


@dataclass(frozen=True, kw_only=True)
class Component:
    """One component of the writer. `method`: online (child snapshot), saved (the VM is saved), still (it does not run)."""

    identifier: str
    name: str
    method: str
    reason: str = ""
    left_out: tuple[str, ...] = ()
    vm: Any = None

    @property
    def caption(self) -> str:
        if self.vm is None:
            return self.name
        return f"{self.name} ({'Online' if self.method == 'online' else 'Offline'})"


@dataclass
class Snapshot:
    """What one run holds on its volumes until it is released."""

    reserved: list[tuple[Any, str]] = field(default_factory=list)
    resume: list[Any] = field(default_factory=list)
    checkpoints: list[tuple[Any, Checkpoint]] = field(default_factory=list)

    def release(self) -> None:
        for vm, checkpoint in self.checkpoints:
            if checkpoint in vm.checkpoints:
                vm.checkpoints.remove(checkpoint)
        self.checkpoints.clear()
        for volume, purpose in self.reserved:
            volume.reserve(purpose, 0)
        self.reserved.clear()


def components(host: Any) -> list[Component]:
    """All components of a host, the host component first; no writer on a machine without the Hyper-V role."""
    if host.kind != "host" or not host.role_present:
        return []
    found = [Component(identifier=HOST_COMPONENT, name=HOST_COMPONENT, method="still")]
    for vm in sorted(host.vms, key=lambda vm: str(vm.name).lower()):
        if not vm.planned:
            found.append(component_of(vm))
    return found


def component_of(vm: Any) -> Component:
    method, reason = _method(vm)
    return Component(identifier=vm.id, name=vm.name, method=method, reason=reason, left_out=tuple(_left_out(vm)), vm=vm)


def _left_out(vm: Any) -> list[str]:
    """Disks of the VM that the writer does not see, in words."""
    found = [f"pass-through disk at {vm.slot_name(c, d.location)}" for c, d in vm.physical_drives()]
    found += [f"virtual Fibre Channel LUN {lun}" for port in vm.fibre_channel for lun in port.luns]
    if vm.guest is not None:
        found += [f"iSCSI LUN {lun.id} of the guest's own initiator" for lun in vm.guest.iscsi_sessions]
    found += [f"shared disk {path}" for path in _shared_paths(vm)]
    return found


def _shared_paths(vm: Any) -> list[str]:
    paths = []
    for _controller, drive in vm.drives():
        medium = drive.medium
        if medium is not None and medium.kind == "vhd" and (medium.shared or medium.path.lower().endswith(".vhds")):
            paths.append(str(medium.path))
    return paths


def _method(vm: Any) -> tuple[str, str]:
    """How the writer takes a VM, and why when it is not online."""
    if not vm.running:
        return "still", ""
    world = vm.host.world
    if (vm.physical_drives() or any(port.luns for port in vm.fibre_channel)) and (
        world.assume("wsb-passthrough") == "saved"
    ):
        return "saved", "it has disks that cannot be part of a snapshot"
    takes_part = vm.settings.integration.get("Vss", False) and vm.traits.integration_installed and vm.traits.vss
    if not takes_part and world.assume("vss-without-integration") == "saved":
        return "saved", "the backup integration service does not run in the guest"
    if not _snapshots_beside_disks(vm):
        return "saved", "its snapshot folder is not on the volume of its virtual hard disks"
    guest = vm.guest
    if guest is not None and takes_part:
        for volume in guest.volumes():
            if volume.is_dynamic:
                return "saved", "a disk of the guest is dynamic"
            if volume.file_system not in {"NTFS", "ReFS"} and not volume.is_system:
                return "saved", f"the guest's volume {volume.letter or volume.path} cannot take a snapshot"
    return "online", ""


def _snapshots_beside_disks(vm: Any) -> bool:
    if not vm.snapshot_root or vm.host.world.assume("vss-snapshot-location") == "not-needed":
        return True
    try:
        snapshots, _below = vm.host.resolve(vm.snapshot_root)
        return all(vm.host.resolve(path)[0].guid == snapshots.guid for path in vm.vhd_paths() if not _is_share(path))
    except FileSystemError:
        return True


def _is_share(path: str) -> bool:
    return path.startswith("\\\\") and not path.startswith("\\\\?\\")


def component_files(component: Component) -> list[ComponentFile]:
    """Files of a component: VHDs with their chains and the configuration, nothing that the writer leaves out."""
    vm = component.vm
    if vm is None:
        return []
    host, world = vm.host, vm.host.world
    refused = bool(component.left_out) and vm.running and world.assume("wsb-passthrough") == "refused"
    if refused and (vm.physical_drives() or vm.fibre_channel):
        raise VssFailure(
            VSS_E_WRITERERROR_PARTIAL_FAILURE,
            f"{vm.name}: the writer refused the snapshot because of disks that cannot be part of one.",
        )
    shared = {path.lower() for path in _shared_paths(vm)}
    if shared and world.assume("vss-shared-vhdx") == "refused":
        raise VssFailure(VSS_E_WRITERERROR_PARTIAL_FAILURE, f"{vm.name}: a shared virtual hard disk was refused.")
    files = []
    for path in [*vm.vhd_paths(), vm.configuration_path]:
        if path.lower() in shared:
            continue
        if _is_share(path):
            if world.assume("vss-smb-vhd") == "refused":
                raise VssFailure(VSS_E_VOLUME_NOT_SUPPORTED, f"{path} is not on a volume of this computer.")
            continue
        try:
            volume, below = host.resolve(path)
            files.append(ComponentFile(path=path, volume=volume, content=volume.files.open(below)))
        except (FileSystemError, ImageError) as problem:
            raise VssFailure(VSS_E_WRITERERROR_PARTIAL_FAILURE, f"{path}: {problem}") from problem
    return files


def minimum_diff_area(size: int, small: str = "scaled") -> int:
    """320 MB, on volumes up to 500 MB 32 MB, or a sixteenth where small volumes stand for large ones."""
    if size > 500 * MEBIBYTE:
        return 320 * MEBIBYTE
    return 32 * MEBIBYTE if small == "as-documented" else min(32 * MEBIBYTE, size // 16)


def take_snapshot(machine: Any, volumes: list[Any], taken: list[Component], purpose: str, churn: int) -> Snapshot:
    """Reserves diff areas and checkpoint space and saves VMs; VssFailure undoes everything (all or nothing)."""
    snapshot = Snapshot()
    small = machine.world.assume("vss-small-volumes")
    try:
        for volume in _each_once(volumes):
            if volume.file_system not in {"NTFS", "ReFS"}:
                raise VssFailure(VSS_E_VOLUME_NOT_SUPPORTED, f"{volume.letter or volume.path} takes no snapshot.")
            store_guid = machine.shadow_storage.get(volume.guid, (volume.guid, 0))[0]
            store = machine.volume_by_guid(store_guid) or volume
            _reserve(snapshot, store, f"diff area {purpose} {volume.guid}", minimum_diff_area(volume.size, small))
        prepare_components(machine, snapshot, taken, purpose, churn)
    except VssFailure:
        undo(snapshot)
        raise
    return snapshot


def prepare_components(machine: Any, snapshot: Snapshot, taken: list[Component], purpose: str, churn: int) -> None:
    """PrepareForSnapshot: room for the .avhdx of VMs that go on running, the others are saved; VssFailure in the middle."""
    for component in taken:
        if component.method == "online":
            if machine.world.assume("vss-recovery-checkpoint") == "listed":
                _list_checkpoint(snapshot, component.vm)
            for file in component_files(component):
                if file.path.lower().endswith((".vhd", ".vhdx", ".avhd", ".avhdx")):
                    size = 4 * MEBIBYTE + churn
                    _reserve(snapshot, file.volume, f"checkpoint {purpose} {file.path}", size, component.vm)
        elif component.method == "saved":
            component.vm.set_state(6)
            snapshot.resume.append(component.vm)
            machine.event_log.write(
                "Microsoft-Windows-Hyper-V-Worker-Admin",
                provider="Microsoft-Windows-Hyper-V-Integration",
                event_id=19100,
                level=3,
                data={"VmName": component.name, "VmId": component.identifier},
                message=f"{component.name}: The backup could not be taken online: {component.reason}.",
            )


def component_volumes(component: Component) -> dict[str, Any]:
    """Volumes that hold files of a component, by GUID; a file that is on none of this computer's volumes has the key ""."""
    vm = component.vm
    if vm is None:
        return {}
    shared = {path.lower() for path in _shared_paths(vm)}
    found: dict[str, Any] = {}
    for path in [*vm.vhd_paths(), vm.configuration_path]:
        if path.lower() in shared:
            continue
        if _is_share(path):
            if vm.host.world.assume("vss-smb-vhd") == "refused":
                found[""] = path
            continue
        try:
            volume, _below = vm.host.resolve(path)
            found[volume.guid] = volume
        except FileSystemError:
            found[""] = path
    return found


def _list_checkpoint(snapshot: Snapshot, vm: Any) -> None:
    made = Checkpoint(
        id=vm.host.world.new_guid("recovery").upper(),
        name=f"{vm.name} - Backup",
        created=vm.host.now(),
        kind="recovery",
        parent=None,
        controllers=copy_controllers(vm.controllers),
        transient=True,
    )
    vm.checkpoints.append(made)
    snapshot.checkpoints.append((vm, made))


def undo(snapshot: Snapshot) -> None:
    snapshot.release()
    resume(snapshot)


def resume(snapshot: Snapshot) -> None:
    """PostSnapshot: VMs that were saved run again."""
    for vm in snapshot.resume:
        if vm.state == 6:
            vm.set_state(2)
    snapshot.resume.clear()


def _reserve(snapshot: Snapshot, volume: Any, purpose: str, size: int, vm: Any = None) -> None:
    if volume.free < size:
        if vm is not None:
            vm.run_out_of_room(f"{volume.access_paths[0]}")  # a running VM whose .avhdx cannot grow is paused
        raise VssFailure(
            VSS_E_INSUFFICIENT_STORAGE,
            f"{volume.letter or volume.path} has {volume.free} bytes free; the snapshot needs {size}.",
        )
    volume.reserve(purpose, size)
    snapshot.reserved.append((volume, purpose))


def _each_once(volumes: list[Any]) -> list[Any]:
    found: dict[str, Any] = {}
    for volume in volumes:
        found.setdefault(volume.guid, volume)
    return list(found.values())
