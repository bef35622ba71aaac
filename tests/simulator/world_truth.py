# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Responsible for what is true of a world, whatever its machines say: invariants, digests of images, LUNs and file trees.

Nothing here changes a world. What a test may do to a world is in mishaps.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .content import digest
from .disks import Disk, stable_guid
from .file_system import DirectoryFileSystem, FileSystemError
from .partition_table import EFI_SYSTEM, GPT, LDM_METADATA, MICROSOFT_RESERVED, STORAGE_SPACES
from .vhd import ImageError
from .volumes import Volume

if TYPE_CHECKING:
    from .virtual_machine import Controller, Drive, Vm
    from .world import Machine, World


def findings(world: World) -> list[str]:
    """Invariants that hold in any world that Windows could be in; empty when all is well.

    A drive whose number has drifted to another disk (a reboot, a restore) counts only while its VM runs: that it did is
    Windows' doing, that nobody looked before the VM started is not.
    """
    found: list[str] = list(world.incidents)
    slots: dict[str, str] = {}
    for host in world.hosts:
        numbers = [d.number for d in host.disks]
        if len(numbers) != len(set(numbers)):
            found.append(f"{host.name}: two disks share a number")
        for vm in host.vms:
            found += _check_vm(world, host, vm, slots)
    homes: dict[str, list[str]] = {}
    for vm in world.vms:
        homes.setdefault(vm.id, []).append(vm.host.name)
    found += [f"VM {i} is registered on {' and '.join(h)}" for i, h in homes.items() if len(h) > 1]
    for machine in world.machines:
        letters = [v.letter for v in [*machine.volumes(), *machine.exposed_volumes()] if v.letter]
        if len(letters) != len(set(letters)):
            found.append(f"{machine.name}: two volumes share a letter")
        for lost in machine.vss.unnotified.values() if machine.vss is not None else ():
            found.append(
                f"{machine.name}: the writers of shadow copy set {lost.set_id} wait for the end of their backup"
            )
    return found


def leftovers(world: World) -> list[str]:
    """What backups have left behind and may have meant to: shadow copies, exposures, recovery checkpoints, planned VMs,
    writers that wait, a VM that was saved for a snapshot. A test that expects a clean world demands an empty list."""
    found: list[str] = []
    for machine in world.machines:
        if machine.vss is None:
            continue
        for copy in machine.vss.present():
            found.append(f"{machine.name}: shadow copy {copy.id} of {(copy.origin_names or [copy.origin_path])[0]}")
            if copy.exposed is not None:
                found.append(f"{machine.name}: shadow copy {copy.id} is exposed as {copy.exposed.name}")
        if machine.vss.pending is not None:
            found.append(f"{machine.name}: shadow copy set {machine.vss.pending.id} is being created")
        found += [f"{machine.name}: shadow copy set {lost} was never completed" for lost in machine.vss.unnotified]
    for vm in world.vms:
        if vm.planned:
            found.append(f"{vm.host.name}: {vm.name} {vm.id} is planned only")
        found += [
            f"{vm.host.name}: {vm.name} has the recovery checkpoint {checkpoint.id}"
            for checkpoint in vm.checkpoints
            if checkpoint.kind == "recovery" and not checkpoint.transient
        ]
    return found


def _check_vm(world: World, host: Machine, vm: Vm, slots: dict[str, str]) -> list[str]:
    found = []
    for controller, drive in vm.drives():
        where = f"{vm.name} {vm.slot_name(controller, drive.location)}"
        key = _key_of(host, vm, drive)
        if key is None or (vm.drifted(drive) and not vm.running):
            continue
        if drive.kind == "physical":
            found += _online_somewhere(world, host, vm, controller, drive)
        if key in slots:
            found.append(f"{host.name}: {key} is in {slots[key]} and in {where}")
        slots[key] = where
    for port in vm.fibre_channel:
        for identifier in port.luns:
            key, where = f"lun:{identifier}", f"{vm.name} Fibre Channel port {port.wwpn[0]}"
            if key in slots and not slots[key].startswith(f"{vm.name} Fibre"):
                found.append(f"{host.name}: {key} is in {slots[key]} and in {where}")
            slots[key] = where
    return found


def _key_of(host: Machine, vm: Vm, drive: Drive) -> str | None:
    """What the drive holds, in a form that two drives must not share; None when it holds nothing that counts."""
    if drive.kind == "physical":
        disk = host.disk_by_number(vm.number_in(drive.host_resource))
        return disk.backing.key if disk is not None else None
    if drive.medium is None or drive.medium.kind != "vhd" or drive.medium.shared:
        return None
    return f"file:{host.name}:{drive.medium.path.lower()}"


def _online_somewhere(world: World, host: Machine, vm: Vm, controller: Controller, drive: Drive) -> list[str]:
    lun = vm.physical_lun(drive)
    disks = [host.disk_by_number(vm.number_in(drive.host_resource))]
    if lun is not None:
        disks += [other.disk_of_lun(lun) for other in world.hosts if other is not host]
    where = f"{vm.name} {vm.slot_name(controller, drive.location)}"
    return [
        f"{disk.machine.name}: disk {disk.number} is online on the host while attached to {where}"
        for disk in disks
        if disk is not None and disk.online
    ]


def digests(world: World) -> dict[str, dict[str, str]]:
    """SHA-256 of every image file, every LUN and every guest volume's file tree, running or not."""
    images: dict[str, str] = {}
    volumes: dict[str, str] = {}
    for host in world.hosts:
        for vm in host.vms:
            for path in vm.vhd_paths():
                try:
                    volume, relative = host.resolve(path)
                    images[f"{host.name}:{path}"] = digest(volume.files.open(relative))
                except FileSystemError:
                    images[f"{host.name}:{path}"] = "missing"
            if vm.guest is not None:
                volumes.update(guest_digests(vm.guest))
    return {
        "images": images,
        "guest_volumes": volumes,
        "luns": {lun.id: digest(lun.content) for lun in world.luns.values()},
    }


def guest_digests(guest: Machine) -> dict[str, str]:
    """Digest of the file tree of each volume that the guest has or would have, by ``guest:letter-or-guid``."""
    found: dict[str, str] = {}
    try:
        backings = guest._backings()
    except (ImageError, FileSystemError) as problem:
        return {f"{guest.name}:?": f"unreadable: {problem}"}
    for backing in backings:
        disk = Disk(guest, backing, -1)
        for volume in probe(guest, disk):
            backend = volume.backend()
            if backend is None or isinstance(backend, DirectoryFileSystem):
                continue
            mount = guest.mounts.get(volume.guid)
            name = mount.letter if mount is not None and mount.letter else volume.guid
            found[f"{guest.name}:{name}"] = backend.tree_digest()
    return found


def probe(machine: Machine, disk: Disk) -> list[Volume]:
    """Volumes of a disk that is not among the machine's disks now: for looking only."""
    skip = (MICROSOFT_RESERVED, LDM_METADATA, STORAGE_SPACES, EFI_SYSTEM)
    found = []
    for partition in disk.table.partitions:
        if disk.table.style == GPT and partition.gpt_type in skip:
            continue
        guid = partition.guid or stable_guid(machine.name, disk.table.signature, partition.offset)
        found.append(Volume(machine, disk, partition, guid))
    return found
