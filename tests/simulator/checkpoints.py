# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Responsible for checkpoints of a VM in real bytes: differencing children, applying, deleting with a merge.

Not responsible for who may ask (hyperv_snapshots.py). Facts: hyperv-wmi 7.1, 7.2.
"""

from __future__ import annotations

from collections.abc import Callable

from .content import copy_content
from .disks import stable_guid
from .file_system import FileSystemError
from .image_file import SUFFIX_OF_CHILD, create_image, file_size_for
from .jobs import JobFailed
from .vhd import DIFFERENCING, VHD, Image, ImageError, ImageFacts
from .virtual_machine import Checkpoint, Controller, Medium, Vm, copy_controllers
from .world import Machine


def _child_path(vm: Vm, medium: Medium, identifier: str) -> str:
    stem, _dot, suffix = medium.path.rpartition(".")
    base = stem.split("_", 1)[0] if suffix.startswith("a") else stem
    facts = vm.host.open_image(medium.path).facts
    return f"{base}_{identifier}{SUFFIX_OF_CHILD[facts.format]}"


def parent_opener(host: Machine) -> Callable[[ImageFacts], Image]:
    return lambda facts: host.open_image(facts.parent_path or "")


def new_child(vm: Vm, parent_path: str, child_path: str) -> None:
    """An empty differencing image over ``parent_path``; raises ImageError or FileSystemError."""
    host = vm.host
    parent = host.open_image(parent_path)
    facts = parent.facts
    volume, relative = host.resolve(child_path)
    file = volume.files.create(relative, file_size_for(facts.format, DIFFERENCING, facts.virtual_size))
    create_image(
        file,
        image_format=VHD if facts.format == VHD else facts.format,
        kind=DIFFERENCING,
        size=facts.virtual_size,
        disk_id=host.world.new_guid("child"),
        moment=host.now(),
        logical_sector=facts.logical_sector,
        physical_sector=facts.physical_sector,
        parent=parent,
        parent_path=parent_path,
        open_parent=parent_opener(host),
    )


def take_checkpoint(vm: Vm, name: str, kind: str, *, with_memory: bool = False) -> Checkpoint:
    """Freeze every VHD and go on writing to children; pass-through drives stay as they are (the caller may refuse them)."""
    identifier = vm.host.world.new_guid("checkpoint").upper()
    frozen = copy_controllers(vm.controllers)
    made: list[str] = []
    try:
        for _controller, drive in vm.drives():
            if drive.kind == "disk" and drive.medium is not None and not drive.medium.shared:
                child = _child_path(vm, drive.medium, stable_guid(identifier, drive.medium.path).upper())
                made.append(child)
                new_child(vm, drive.medium.path, child)
                drive.medium.path = child
    except (ImageError, FileSystemError) as problem:
        vm.controllers = frozen
        for child in made:
            _delete(vm, child)
        raise JobFailed(32768, f"Checkpoint of '{vm.name}' failed: {problem}") from problem
    checkpoint = Checkpoint(identifier, name, vm.host.now(), kind, vm.current_checkpoint, frozen, with_memory)
    vm.checkpoints.append(checkpoint)
    vm.current_checkpoint = identifier
    _reopen(vm)
    vm.changed()
    return checkpoint


def _reopen(vm: Vm) -> None:
    """The files behind the disks of a running VM changed: its guest reads and writes the new ones."""
    guest = vm.guest
    if guest is None or not vm.guest_runs:
        return
    reserved = guest.forget_file_systems()
    guest.rescan()
    for volume in guest.volumes():
        if reserved.get(volume.guid) and not volume.is_raw:
            volume.files.reservations.update(reserved[volume.guid])


def apply_checkpoint(vm: Vm, checkpoint: Checkpoint) -> None:
    """Go back: what was written since is thrown away, new children start from the checkpoint's images."""
    _drop_media(vm, _used(vm))
    vm.controllers = copy_controllers(checkpoint.controllers)
    identifier = vm.host.world.new_guid("apply").upper()
    for _controller, drive in vm.drives():
        if drive.kind == "disk" and drive.medium is not None and not drive.medium.shared:
            child = _child_path(vm, drive.medium, stable_guid(identifier, drive.medium.path).upper())
            new_child(vm, drive.medium.path, child)
            drive.medium.path = child
    vm.current_checkpoint = checkpoint.id
    vm.changed()


def delete_checkpoint(vm: Vm, checkpoint: Checkpoint) -> None:
    """Forget a checkpoint; each image that only it froze is merged into by its one child."""
    vm.checkpoints.remove(checkpoint)
    for other in vm.checkpoints:
        if other.parent == checkpoint.id:
            other.parent = checkpoint.parent
    if vm.current_checkpoint == checkpoint.id:
        vm.current_checkpoint = checkpoint.parent
    for controller in checkpoint.controllers:
        for drive in controller.drives.values():
            if drive.kind == "disk" and drive.medium is not None and not drive.medium.shared:
                _merge(vm, drive.medium.path)
    _reopen(vm)
    vm.changed()


def _lists(vm: Vm) -> list[list[Controller]]:
    return [vm.controllers, *(c.controllers for c in vm.checkpoints)]


def _media(vm: Vm) -> list[Medium]:
    return [
        drive.medium
        for controllers in _lists(vm)
        for controller in controllers
        for drive in controller.drives.values()
        if drive.kind == "disk" and drive.medium is not None
    ]


def _used(vm: Vm) -> set[str]:
    return {
        drive.medium.path.lower()
        for c in vm.checkpoints
        for controller in c.controllers
        for drive in controller.drives.values()
        if drive.medium is not None
    }


def _drop_media(vm: Vm, keep: set[str]) -> None:
    for _controller, drive in vm.drives():
        medium = drive.medium
        if drive.kind == "disk" and medium is not None and not medium.shared and medium.path.lower() not in keep:
            _delete(vm, medium.path)


def _delete(vm: Vm, path: str) -> None:
    try:
        volume, relative = vm.host.resolve(path)
        volume.files.delete(relative)
    except FileSystemError:
        return


def _merge(vm: Vm, path: str) -> None:
    """The image at ``path`` is frozen for nobody any more: its only child is written into it, and users of the child move."""
    children: list[str] = []
    for medium in _media(vm):
        seen = medium.path
        for _unused in range(64):
            facts = vm.host.open_image(seen).facts
            if facts.parent_path is None:
                break
            if facts.parent_path.lower() == path.lower() and seen.lower() not in [c.lower() for c in children]:
                children.append(seen)
            seen = facts.parent_path
    if any(m.path.lower() == path.lower() for m in _media(vm)) or len(children) != 1:
        return
    child = children[0]
    image, target = vm.host.open_image(child), vm.host.open_image(path)
    copy_content(image.payload, target.payload)
    for medium in _media(vm):
        if medium.path.lower() == child.lower():
            medium.path = path
    _delete(vm, child)
