# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Responsible for what befalls a world from outside Windows: arrays, cables, power, and operators who do as they like.

`mishap(world, "delete_vm", vm="erp01")` does one now. The administration door has them as POST /mishap, fault rules as
the effect "mishap", so that they happen between two exchanges. Everything is deterministic; arguments are JSON types.
Names: ``vm`` is a name or GUID, ``lun`` a LUN's id in the world, ``slot`` is "scsi 0:1", sizes are bytes or "48M".
Not responsible for what Windows makes of it (the views) nor for looking at the result (world_truth.py).
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from .content import SparseFile, copy_content, fill_with_noise, noise
from .disks import Disk, Lun, stable_guid, stable_hex
from .faults import effect
from .file_system import FileSystem, FileSystemError
from .jobs import PlannedFailure
from .partition_table import read_table, write_table
from .virtual_machine import OFF, RUNNING, Drive, Vm, vm_from_configuration
from .volume_shadow_service import CODES, STAGES, PlannedVssFailure, SetOptions
from .volumes import Volume
from .vss_writer import WRITER_ID
from .windows_backup import Failure
from .world import Machine, World
from .world_file import HOST_FOLDERS
from .world_reader import parse_size, parse_slot
from .world_truth import probe

MISHAPS: dict[str, Callable[..., object]] = {}
BALLAST = "ballast"
WHOLE = 256 << 20
"""Up to this size all of a disk is overwritten, above it the first and the last part of this size."""

__all__ = ["MISHAPS", "find_vm", "mishap"]


def _mishap(function: Callable[..., object]) -> Callable[..., object]:
    MISHAPS[function.__name__] = function
    return function


def mishap(world: World, name: str, **arguments: Any) -> object:
    """Let it happen; ValueError names what is not understood. Takes the world's lock."""
    function = MISHAPS.get(name)
    if function is None:
        raise ValueError(f"no mishap is called {name!r}; there are {', '.join(sorted(MISHAPS))}")
    try:
        inspect.signature(function).bind(world, **arguments)
    except TypeError as problem:
        raise ValueError(f"{name}{inspect.signature(function)}: {problem}") from problem
    with world.lock:
        return function(world, **arguments)


def mishap_texts() -> dict[str, str]:
    """Every mishap with its arguments and what it does."""
    return {
        name: f"{inspect.signature(function)}: {' '.join((function.__doc__ or '').split())}"
        for name, function in sorted(MISHAPS.items())
    }


@effect("mishap")
def _as_effect(machine: Any, parameters: Mapping[str, Any]) -> None:
    """`{name: "unplug_lun", lun: "data1"}`; every parameter but the name is the mishap's."""
    arguments = {key: value for key, value in parameters.items() if key not in ("name", "before", "after", "when")}
    mishap(machine.world, str(parameters["name"]), **arguments)


# -- finding what is meant


def find_vm(world: World, vm: str, host: str | None = None) -> Vm:
    """The VM of that name or GUID; of several registrations the one on ``host``."""
    wanted = vm.strip("{}").upper()
    found = [v for v in world.vms if wanted in (v.id, v.name.upper()) and host in (None, v.host.name)]
    if len(found) != 1:
        raise ValueError(f"{len(found)} virtual machines are called {vm!r}; say which GUID or host is meant.")
    return found[0]


def _lun(world: World, lun: str) -> Lun:
    local = {own.id: own for machine in world.machines for own in machine.local_luns}
    found = world.luns.get(lun) or local.get(lun)
    if found is None:
        raise ValueError(f"no LUN is called {lun!r}; there are {', '.join(world.luns)}")
    return found


def _rescan_all(world: World) -> None:
    for machine in world.machines:
        if machine.kind == "host" and machine.powered:
            machine.rescan()
    for machine in world.machines:
        if machine.kind == "guest" and machine.powered:
            machine.rescan()


def _vm_drive(vm: Vm, slot: str) -> Drive:
    kind, number, location = parse_slot(slot, "slot")
    controller = vm.controller(kind, number)
    if controller is None or location not in controller.drives:
        raise ValueError(f"{vm.name} has nothing in slot {slot}.")
    return controller.drives[location]


def _image_path(world: World, vm: str, slot: str) -> tuple[Vm, str]:
    found = find_vm(world, vm)
    medium = _vm_drive(found, slot).medium
    if medium is None or medium.kind != "vhd":
        raise ValueError(f"{vm} has no virtual hard disk in slot {slot}.")
    return found, medium.path


def _noise(content: Any, seed: str) -> None:
    size = content.size
    if size <= WHOLE:
        fill_with_noise(content, seed, 0, size)
        return
    fill_with_noise(content, seed, 0, WHOLE)
    fill_with_noise(content, seed, size - WHOLE, WHOLE)


# -- virtual machines and their files


@_mishap
def delete_vm(world: World, vm: str, *, files: bool = True, host: str | None = None) -> None:
    """An operator deletes a VM, running or not, and its VHDs with it (``files``)."""
    found = find_vm(world, vm, host)
    paths = found.vhd_paths()
    found.host.unregister(found)
    for path in paths if files else []:
        with contextlib.suppress(FileSystemError):
            volume, relative = found.host.resolve(path)
            volume.files.delete(relative)


@_mishap
def overwrite_vhd(world: World, vm: str, slot: str, *, seed: str = "noise") -> None:
    """Every byte of the image file becomes noise, whoever holds it open; a VM that ran on it is off."""
    found, path = _image_path(world, vm, slot)
    if found.running:
        found.set_state(OFF)
    volume, relative = found.host.resolve(path)
    content = volume.files.open(relative)
    fill_with_noise(content, seed, 0, content.size)


@_mishap
def delete_vhd(world: World, vm: str, slot: str) -> None:
    """The image file is gone; a VM that ran on it is off."""
    found, path = _image_path(world, vm, slot)
    if found.running:
        found.set_state(OFF)
    volume, relative = found.host.resolve(path)
    volume.files.delete(relative)


@_mishap
def start_vm(world: World, vm: str, *, host: str | None = None) -> str:
    """An operator starts a VM; returns why it did not start, or an empty text."""
    found = find_vm(world, vm, host)
    if found.state == RUNNING or found.busy is not None:
        return f"{found.name} is running or busy"
    problem = world.power.start_problem(found) or ""
    if not problem:
        world.power.start_now(found)
    return problem


@_mishap
def stop_vm(world: World, vm: str, *, host: str | None = None) -> None:
    """An operator turns a VM off."""
    find_vm(world, vm, host).set_state(OFF)


@_mishap
def save_vm(world: World, vm: str, *, host: str | None = None) -> None:
    found = find_vm(world, vm, host)
    if found.running:
        found.set_state(6)


@_mishap
def reboot_guest(world: World, vm: str) -> None:
    guest = find_vm(world, vm).guest
    if guest is not None:
        guest.reboot()


@_mishap
def move_vm(world: World, vm: str, host: str) -> None:
    """A VM turns up on another host, files and all; it is off there. LUNs stay where they are mapped."""
    found = find_vm(world, vm)
    target = world.machine(host)
    configuration = found.export_configuration()
    _copy_files(found, target)
    delete_vm(world, found.id, host=found.host.name)
    target.register(configuration)


@_mishap
def copy_vm(world: World, vm: str, host: str, *, start: bool = False) -> None:
    """The same VM (same GUID) is registered on another host as well, as a careless restore leaves it."""
    found = find_vm(world, vm)
    target = world.machine(host)
    _copy_files(found, target)
    guest = found.guest
    copied = vm_from_configuration(target, found.export_configuration())
    target.vms.append(copied)
    copied.save_configuration()
    if start:
        copied.guest, copied.traits = guest, found.traits
        copied.state = RUNNING


def _copy_files(vm: Vm, target: Machine) -> None:
    for path in vm.vhd_paths():
        origin_volume, origin = vm.host.resolve(path)
        volume, relative = target.resolve(path)
        folder = relative.rpartition("\\")[0]
        if folder and not volume.files.exists(folder):
            volume.files.mkdir(folder, parents=True)
        source = origin_volume.files.open(origin)
        copy_content(source, volume.files.create(relative, source.size))


@_mishap
def attach_lun(world: World, vm: str, lun: str, slot: str) -> None:
    """An operator attaches a LUN to a VM, whatever else it is attached to."""
    found = find_vm(world, vm)
    kind, number, location = parse_slot(slot, "slot")
    controller = found.controller(kind, number)
    disk = found.host.disk_of_lun(_lun(world, lun))
    if controller is None or disk is None:
        raise ValueError(f"{vm} has no controller for {slot}, or its host does not see LUN {lun}.")
    host_resource = found.host_resource_for(disk.number)
    controller.drives[location] = Drive(
        "physical", location, host_resource=host_resource, given=disk.identity.unique_id
    )
    _changed(found)


@_mishap
def detach_disk(world: World, vm: str, slot: str) -> None:
    """An operator removes whatever is in a slot of a VM."""
    found = find_vm(world, vm)
    kind, number, location = parse_slot(slot, "slot")
    controller = found.controller(kind, number)
    if controller is None or controller.drives.pop(location, None) is None:
        raise ValueError(f"{vm} has nothing in slot {slot}.")
    _changed(found)


def _changed(vm: Vm) -> None:
    vm.changed()
    if vm.guest is not None and vm.guest_runs:
        vm.guest.rescan()


@_mishap
def set_busy(world: World, vm: str, status: int | None) -> None:
    """The VM works on something for long: 32768 to 32774 as OperationalStatus[1] (32772 merges disks); null: no more."""
    find_vm(world, vm).busy = status


@_mishap
def set_automatic_start(world: World, vm: str, action: int) -> None:
    """2 nothing, 3 start if it ran, 4 always."""
    found = find_vm(world, vm)
    found.settings.automatic_startup_action = action
    found.changed()


# -- LUNs and the array


def _fail_vms_on(world: World, lun: Lun) -> None:
    """VMs that run on images of a volume of this LUN are off: their storage is going away."""
    for vm in world.vms:
        if vm.running and any(volume.disk.lun is lun for volume, _path, _content in vm.files()):
            vm.set_state(OFF)


@_mishap
def overwrite_lun(world: World, lun: str, *, seed: str = "noise") -> None:
    """The LUN becomes noise: no partition table, no file system, not blank either."""
    _fail_vms_on(world, _lun(world, lun))
    _noise(_lun(world, lun).content, seed)
    _rescan_all(world)


@_mishap
def bad_sectors(world: World, lun: str, *, offset: int | str = 0, size: int | str = 512) -> None:
    """Reads of raw sectors in this range fail from now on (error 23) on every machine; size 0: whole again."""
    length = parse_size(size, "bad_sectors") if size else 0
    ranges = _lun(world, lun).bad_sectors
    if not length:
        ranges.clear()
    else:
        ranges.append((parse_size(offset, "bad_sectors") if offset else 0, length))


@_mishap
def blank_lun(world: World, lun: str) -> None:
    """The LUN becomes zeros, same identity."""
    _fail_vms_on(world, _lun(world, lun))
    content = _lun(world, lun).content
    content.zero(0, content.size)
    _rescan_all(world)


@_mishap
def replace_lun(
    world: World,
    lun: str,
    *,
    size: int | str | None = None,
    unique_id: str | None = None,
    serial: str | None = None,
) -> str:
    """The array lost the LUN; a blank one of another identity is mapped in its place. Returns the new UniqueId."""
    old = _lun(world, lun)
    _fail_vms_on(world, old)
    wanted = old.size if size is None else parse_size(size, "size")
    world.serial += 1
    digits = stable_hex(world.seed, "replaced", lun, world.serial)
    path = old.content.path.with_name(f"{old.content.path.stem}-{world.serial}.img")
    old.content = SparseFile.create(path, wanted)
    old.identity = replace(
        old.identity, unique_id=unique_id or f"6589CFC0{digits[:24]}", serial=serial or digits[24:32].lower() + "000"
    )
    old.present = False
    _rescan_all(world)  # everybody loses the old one ...
    old.present = True
    _rescan_all(world)  # ... and meets a new disk
    return old.identity.unique_id


@_mishap
def same_identity(world: World, lun: str, other: str) -> None:
    """``lun`` says of itself what ``other`` says: a clone that the array presents with the identity of its origin."""
    _lun(world, lun).identity = _lun(world, other).identity
    _rescan_all(world)


@_mishap
def clone_lun(world: World, lun: str, other: str) -> None:
    """The bytes of ``other`` are copied to ``lun`` (disk GUID and all), which keeps its identity."""
    source, target = _lun(world, other).content, _lun(world, lun).content
    copy_content(source, target, min(source.size, target.size))
    _rescan_all(world)


@_mishap
def grow_lun(world: World, lun: str, size: int | str) -> None:
    """The array makes a LUN larger; machines keep the old size until they rescan."""
    _lun(world, lun).grow(parse_size(size, "size"))


@_mishap
def unplug_lun(world: World, lun: str) -> None:
    """Nobody sees the LUN any more, at once."""
    _fail_vms_on(world, _lun(world, lun))
    _lun(world, lun).present = False
    _rescan_all(world)


@_mishap
def plug_lun(world: World, lun: str, *, rescan: bool = True) -> None:
    """The LUN is back; with ``rescan`` false machines see it only after they looked again."""
    _lun(world, lun).present = True
    if rescan:
        _rescan_all(world)


@_mishap
def map_lun(world: World, lun: str, machine: str, *, rescan: bool = True) -> None:
    """The array maps a LUN to one more host."""
    target, found = world.machine(machine), _lun(world, lun)
    if found not in target.mapped_luns:
        target.mapped_luns.append(found)
    if rescan:
        target.rescan()


@_mishap
def unmap_lun(world: World, lun: str, machine: str) -> None:
    target = world.machine(machine)
    target.mapped_luns = [kept for kept in target.mapped_luns if kept.id != lun]
    target.rescan()


@_mishap
def renumber_disks(world: World, machine: str) -> None:
    """The fabric hiccups: LUNs leave and come back under other numbers, without a reboot. Disks of running VMs stay."""
    host = world.machine(machine)
    held = {vm.number_in(drive.host_resource) for vm in host.vms if vm.running for _c, drive in vm.physical_drives()}
    moving = [d for d in host.disks if d.lun is not None and d.lun in host.mapped_luns and d.number not in held]
    numbers = [disk.number for disk in moving]
    for disk, number in zip(moving, [*numbers[1:], *numbers[:1]], strict=True):
        disk.number = number
    host.disks.sort(key=lambda disk: disk.number)


@_mishap
def set_disk_online(world: World, machine: str, lun: str, online: bool) -> None:
    """An operator brings a LUN online (writable) on a machine, or takes it offline, attached or not."""
    disk = world.machine(machine).disk_of_lun(_lun(world, lun))
    if disk is None:
        raise ValueError(f"{machine} does not see LUN {lun}.")
    disk.online, disk.read_only, disk.offline_reason = online, not online, 0 if online else 1
    disk.machine.remember_disks()


@_mishap
def forget_iscsi(world: World, machine: str, *, portals: bool = True) -> None:
    """A rebuilt guest: its initiator has no session, nor (``portals``) a portal, and the service does not run."""
    found = world.machine(machine)
    found.iscsi_sessions.clear()
    found.persistent_targets.clear()
    if portals:
        found.iscsi_portals.clear()
    found.service_states["MSiSCSI"] = "Stopped"
    found.rescan()


# -- targets of backups


def _target(world: World, machine: str, target: str) -> Any:
    found = world.machine(machine)
    if target.startswith("\\\\") and not target.startswith("\\\\?\\"):
        server, _slash, name = target.strip("\\").partition("\\")
        name = name.partition("\\")[0]
        shares = [*world.shares, *(s for m in world.machines for s in m.shares)]
        for share in shares:
            if (share.server.lower(), share.name.lower()) == (server.partition(".")[0].lower(), name.lower()):
                return share
        raise ValueError(f"no share is called {target}.")
    letter = target[:1].upper()
    for lun in found.local_luns:
        guids = [g for g, mount in found.mounts.items() if mount.letter == letter]
        disk = Disk(found, found._lun_backing(lun, 0, local=True), -1)
        if any(volume.guid in guids for volume in probe(found, disk)):
            return lun
    volume = found.volume_by_letter(letter)
    if volume is not None and volume.disk.lun is not None:
        return volume.disk.lun
    raise ValueError(f"{machine} has no volume {target} that could be unplugged.")


@_mishap
def unplug_target(world: World, machine: str, target: str) -> None:
    r"""A backup target goes away: ``E:`` of a machine (its disk leaves), or a share ``\\server\name`` for everybody."""
    _target(world, machine, target).present = False
    world.machine(machine).rescan()


@_mishap
def plug_target(world: World, machine: str, target: str) -> None:
    _target(world, machine, target).present = True
    world.machine(machine).rescan()


# -- machines


@_mishap
def reboot(world: World, machine: str, *, renumber: bool = True) -> None:
    """A host restarts (running VMs as their automatic stop action says, then automatic start actions), or a guest."""
    world.machine(machine).reboot(renumber=renumber)


@_mishap
def power_cut(world: World, machine: str, *, renumber: bool = False) -> None:
    """The power of a host fails and comes back: nobody could save, jobs leave half-made files."""
    world.machine(machine).reboot(renumber=renumber, power_cut=True)


@_mishap
def rebuild_host(
    world: World,
    machine: str,
    *,
    volumes: list[str] | None = None,
    switches: list[str] | None = None,
    virtual_sans: list[str] | None = None,
) -> None:
    """The host is installed anew under its name: no VM, empty local volumes (all, or the letters named), registry, event
    log and backup catalog empty, LUNs offline and renumbered, switches of these names only (new GUIDs)."""
    host = world.machine(machine)
    for vm in list(host.vms):
        host.unregister(vm)
    for volume in host.volumes():
        directory = host.directory_volumes.get(volume.guid)
        if directory is not None and (volumes is None or volume.letter in volumes):
            for name in directory.listdir():
                directory.delete(name, recursive=True)
    world.serial += 1
    names = ["External"] if switches is None else switches
    host.virtual_switches = {n: stable_guid(world.seed, machine, "switch", n, world.serial).upper() for n in names}
    if virtual_sans is not None:
        host.virtual_sans = {n: stable_guid(world.seed, machine, "san", n, world.serial).upper() for n in virtual_sans}
    local = {lun.id for lun in host.local_luns}
    host.disks = [disk for disk in host.disks if disk.lun is not None and disk.lun.id in local]
    host.disk_memory.clear()
    host.remember_disks()
    host.service_states.clear()
    host.shadow_storage.clear()
    host.vss.forget_all()
    world.reboots += 1
    host.disks = []
    host.jobs.lose()
    host.boot(renumber=True)
    for folder in (*(f"C:\\{name}" for name in HOST_FOLDERS), host.vhd_root, host.configuration_root):
        with contextlib.suppress(FileSystemError):
            place, relative = host.resolve(folder)
            place.files.mkdir(relative, parents=True)
    world.services_call("attach", host)


@_mishap
def fail_shadow(world: World, machine: str, *, stage: str = "prepare", code: str = "VSS_E_WRITERERROR_TIMEOUT",
                count: int = 1, letter: str = "", text: str = "") -> None:  # fmt: skip
    """VSS calls fail: stage add (AddToSnapshotSet), prepare (writers), commit (provider), post (auto-recovery), expose,
    delete, import or complete (BackupComplete); code is a name of vss.h; ``letter`` limits it to a volume."""
    if stage not in STAGES or code not in CODES:
        raise ValueError(f"stage is one of {', '.join(STAGES)}, code one of {', '.join(CODES)}.")
    vss = world.machine(machine).vss
    vss.failures.append(PlannedVssFailure(stage=stage, hresult=CODES[code], text=text, count=count, letter=letter))


@_mishap
def fail_delete_backup(world: World, machine: str, *, count: int = 1) -> None:
    """The next ``count`` deletions of a version by `wbadmin delete backup` fail, the version stays."""
    world.machine(machine).backup.fail_deletes = count


@_mishap
def remove_writer(world: World, machine: str, *, writer: str = WRITER_ID, back: bool = False) -> None:
    """A VSS writer (GUID) is not subscribed any more, or ``back`` again."""
    absent = world.machine(machine).vss.absent_writers
    if back:
        absent.discard(writer.strip("{}").lower())
    else:
        absent.add(writer.strip("{}").lower())


@_mishap
def set_shadow_storage(world: World, machine: str, letter: str, *, maximum: int | str = 0, on: str = "") -> None:
    """The diff area of a volume: at most ``maximum`` bytes (0: the default), on another volume."""
    host = world.machine(machine)
    source, store = host.volume_by_letter(letter), host.volume_by_letter(on or letter)
    if source is None or store is None:
        raise ValueError(f"{machine} has no volume {letter}: or {on or letter}:.")
    host.shadow_storage[source.guid] = (store.guid, parse_size(maximum, "maximum"))


@_mishap
def shadow_of_others(world: World, machine: str, letter: str, *, expose: str = "") -> str:
    """Somebody else makes a persistent shadow copy of a volume, exposed as a letter if said; returns its ID."""
    host = world.machine(machine)
    volume = host.volume_by_letter(letter)
    if volume is None:
        raise ValueError(f"{machine} has no volume {letter}:.")
    options = SetOptions(persistent=True, no_writers=True)
    pending = host.vss.start_set([(volume, host.vss.provider_for(volume, "", options))], options)
    copy = host.vss.commit(pending)[0]
    if expose:
        host.vss.expose(copy, f"{expose}:")
    return f"{{{copy.id}}}".upper()


@_mishap
def delete_shadow(world: World, machine: str, *, shadow: str = "") -> None:
    """Somebody (an operator, Windows for lack of room) deletes a shadow copy, or all of the machine."""
    vss = world.machine(machine).vss
    for copy in [copy for copy in vss.present() if shadow.strip("{}").lower() in ("", copy.id)]:
        vss.delete(copy)


@_mishap
def fail_job(world: World, machine: str, *, job_type: int | None = None, percent: int = 50, code: int = 32768,
             text: str = "The operation failed.", count: int = 1) -> None:  # fmt: skip
    """The host's next jobs of a JobType (null: any) fail at ``percent``; code 0 is a warning."""
    failure = PlannedFailure(type=job_type, percent=percent, code=code, text=text, count=count)
    world.machine(machine).jobs.plan_failure(failure)


@_mishap
def fail_backup(world: World, machine: str, *, percent: int = 50, warning: bool = False) -> None:
    """The machine's next (or running) backup or recovery fails at ``percent``, or completes with errors."""
    world.machine(machine).backup.fail_next = Failure(percent=percent, warning=warning)


@_mishap
def set_password(world: World, machine: str, account: str, password: str) -> None:
    world.machine(machine).accounts[account].password = password


@_mishap
def set_guest(world: World, vm: str, *, boots: bool | None = None, boot_looks: int | None = None,
              shutdown: str | None = None, answers: bool | None = None) -> None:  # fmt: skip
    """How the guest behaves from now on (the keys of a world's ``guest``); ``boots`` counts at its next start."""
    traits = find_vm(world, vm).traits
    for name, value in (("boots", boots), ("boot_looks", boot_looks), ("shutdown", shutdown), ("answers", answers)):
        if value is not None:
            setattr(traits, name, value)


@_mishap
def take_letter(world: World, machine: str, letter: str, new: str | None = None) -> None:
    """The volume that has ``letter`` loses it, or gets ``new``."""
    volume = world.machine(machine).volume_by_letter(letter)
    if volume is None:
        raise ValueError(f"{machine} has no volume {letter}:.")
    volume.mount.letter = new


@_mishap
def use_letter(world: World, machine: str, volume: str, letter: str) -> None:
    """The volume with this letter or GUID gets another letter, which may be that of a disk that is away."""
    found = world.machine(machine)
    found.give_letter(_volume(found, volume), letter)


def _volume(machine: Machine, name: str) -> Volume:
    found = machine.volume_by_letter(name[0]) if len(name) <= 3 else machine.volume_by_guid(name.strip("{}"))
    if found is None:
        raise ValueError(f"{machine.name} has no volume {name}.")
    return found


# -- files that somebody writes


def _files(world: World, machine: str, path: str) -> tuple[FileSystem, str]:
    """The file system and relative path of ``E:\\a`` on a machine, running or not, past every lock."""
    found = world.machine(machine)
    with contextlib.suppress(FileSystemError):
        volume, relative = found.resolve(path)
        return volume.files, relative
    for backing in found._backings():
        for volume in probe(found, Disk(found, backing, -1)):
            mount = found.mounts.get(volume.guid)
            if mount is not None and mount.letter == path[0].upper():
                return volume.files, path[3:]
    raise ValueError(f"{machine} has no volume for {path}.")


@_mishap
def write_file(world: World, machine: str, path: str, text: str) -> None:
    """A program of the machine writes a file (newer data, for example); folders are made."""
    files, relative = _files(world, machine, path)
    folder = relative.rpartition("\\")[0]
    if folder and not files.exists(folder):
        files.mkdir(folder, parents=True)
    files.write(relative, text.encode())


@_mishap
def fill_volume(world: World, machine: str, letter: str, *, free: int | str = 0) -> None:
    """Somebody else's data leave so many bytes free on a volume (a ballast without a file); `free_volume` takes it away."""
    volume = _volume(world.machine(machine), letter)
    volume.reserve(BALLAST, 0)
    wanted = parse_size(free, "free") if free else 0
    if volume.free > wanted:
        volume.reserve(BALLAST, volume.free - wanted)


@_mishap
def free_volume(world: World, machine: str, letter: str) -> None:
    _volume(world.machine(machine), letter).reserve(BALLAST, 0)


@_mishap
def guest_writes(world: World, vm: str, path: str, *, size: int | str = "1M", seed: str = "guest") -> str:
    """Something in a running guest writes a file of noise; "" or why not (a VM whose image cannot grow is paused by it)."""
    guest = find_vm(world, vm).guest
    if guest is None or not guest.answers:
        return f"{vm} does not run."
    try:
        volume, relative = guest.resolve(path)
        volume.write(relative, noise(seed, 0, parse_size(size, "size")))
    except FileSystemError as problem:
        return str(problem)
    return ""


@_mishap
def delete_file(world: World, machine: str, path: str) -> None:
    files, relative = _files(world, machine, path)
    files.delete(relative, recursive=True)


@_mishap
def same_disk_guid(world: World, lun: str, other: str) -> None:
    """``lun`` gets the disk GUID or signature of ``other`` on its partition table: a collision once both are online."""
    mine, theirs = _lun(world, lun), _lun(world, other)
    table = read_table(theirs.content, theirs.sector)
    own = read_table(mine.content, mine.sector)
    write_table(mine.content, replace(own, guid=table.guid, signature=table.signature, style=table.style), mine.sector)
