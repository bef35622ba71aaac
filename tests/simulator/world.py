# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Responsible for the simulated world: machines with their disks and volumes, LUNs, shares, reboots, invariants, digests.

Worlds are read from YAML by world_file.py. Not responsible for what machines answer to WS-Man (the views) nor for the
parts of Windows that windows_services.py attaches to each machine.
"""

from __future__ import annotations

import importlib
import random
import shutil
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from . import world_truth
from .assumed import Switches, assumed
from .clock import SimClock
from .disks import (
    BUS_TYPES,
    OFFLINE_SHARED,
    REASON_COLLISION,
    REASON_NONE,
    REASON_POLICY,
    Backing,
    Disk,
    Identity,
    Lun,
    offline_by_policy,
    stable_guid,
    vhd_unique_id,
)
from .file_system import ERROR_PATH_NOT_FOUND, DirectoryFileSystem, FileSystemError
from .jobs import JobFailed, JobTable
from .mscluster import Cluster
from .operating_systems import OPERATING_SYSTEMS, OperatingSystem
from .partition_table import LDM_METADATA, MBR, MICROSOFT_RESERVED, STORAGE_SPACES
from .vhd import Image, ImageError
from .virtual_machine import OFF, RUNNING, SAVED, Vm, open_host_image, vm_from_configuration
from .volumes import BitLocker, Mount, Volume

HOST_NAMESPACES = frozenset(
    {
        "root/cimv2",
        "root/cimv2/security/microsoftvolumeencryption",
        "root/default",
        "root/microsoft/windows/storage",
        "root/microsoft/windows/taskscheduler",
        "root/virtualization/v2",
    }
)
SHADOW_DEVICE = "\\\\?\\globalroot\\device\\harddiskvolumeshadowcopy"
GUEST_NAMESPACES = HOST_NAMESPACES - {"root/virtualization/v2"}


assumed(
    "start-if-running-after-restore",
    "A VM with the automatic start action 'start if it ran before' that was restored from a backup of its running self"
    " starts when the host starts, or stays off until it ran once",
    source="hyperv-wmi 1.4 names the action (restart if previously active); what a restore leaves behind is unknown",
    values=("starts", "stays-off"),
)


@dataclass
class Account:
    """A Windows account of one machine: password, and groups such as "Administrators".

    ``remote_enable`` names the WMI namespaces that a non-administrator may enter ("*": all); ``filtered`` is a local
    administrator whose token is filtered over the network (wsman 7); ``disabled`` cannot log on.
    """

    password: str
    groups: frozenset[str] = frozenset({"Administrators"})
    domain: str = ""
    remote_enable: frozenset[str] = frozenset()
    filtered: bool = False
    disabled: bool = False


@dataclass
class Share:
    """A file share: a folder of a machine's volume, or a directory of its own. Names in ``allowed`` are accounts.

    An account is written as the machine that is asked sees it: ``HV01$`` (what SYSTEM of hv01 is on the network),
    ``DOMAIN\\user`` or ``*``.
    """

    server: str
    name: str
    volume: Volume
    folder: str = ""
    readers: tuple[str, ...] = ("*",)
    writers: tuple[str, ...] = ("*",)
    present: bool = True

    def admits(self, account: str, *, write: bool) -> bool:
        allowed = self.writers if write else (*self.readers, *self.writers)
        short = account.rsplit("\\", 1)[-1].lower()
        return any(a == "*" or a.lower() == account.lower() or a.lower() == short for a in allowed)


@dataclass
class StoragePool:
    """A Storage Spaces pool with one simple virtual disk, kept on the members' partitions."""

    name: str
    members: list[str]
    virtual_disk: str
    backing: Callable[[], Backing | None]
    guid: str = ""


@dataclass
class MountedImage:
    """An image attached to a machine's own disks (loopback)."""

    path: str
    image: Image
    read_only: bool
    letters: bool
    lun: int


class Machine:
    """A Windows computer: a Hyper-V host or a guest."""

    registry: Any = None
    event_log: Any = None
    processes: Any = None
    scheduler: Any = None
    backup: Any = None
    vss: Any = None

    def __init__(self, world: World, kind: str, name: str, os: OperatingSystem) -> None:
        self.world = world
        self.kind = kind
        self.name = name
        self.os = os
        self.addresses: list[str] = []
        self.ports: dict[str, int] = {"http": 5985, "https": 5986}
        self.accounts: dict[str, Account] = {}
        self.namespaces: set[str] = set(HOST_NAMESPACES if kind == "host" else GUEST_NAMESPACES)
        self.domain = ""
        self.skew = timedelta(0)
        self.san_policy = OFFLINE_SHARED
        self.vm: Vm | None = None
        self.vms: list[Vm] = []
        self.disks: list[Disk] = []
        self.directory_volumes: dict[str, DirectoryFileSystem] = {}
        self.mounts: dict[str, Mount] = {}
        self.bitlocker: dict[str, BitLocker] = {}
        self.boot_volume_guid: str | None = None
        self.boot_disk_key: str | None = None
        self.disk_memory: dict[str, tuple[bool, bool]] = {}
        self.local_luns: list[Lun] = []
        self.mapped_luns: list[Lun] = []
        self.iscsi_sessions: list[Lun] = []
        self.iscsi_portals: list[str] = []
        self.persistent_targets: set[str] = set()
        self.chap_sessions: set[str] = set()
        self.pools: list[StoragePool] = []
        self.mounted_images: list[MountedImage] = []
        self.service_states: dict[str, str] = {}
        self.extra_services: list[Any] = []
        self.installed_programs: dict[tuple[str, str], Any] = {}
        self.winrm: Any = None
        self.features: dict[str, bool] = {"Windows-Server-Backup": os.product_type != 1}
        self.role_present = kind == "host"
        self.shares: list[Share] = []
        self.virtual_switches: dict[str, str] = {}
        self.virtual_sans: dict[str, str] = {}
        self.cluster: Cluster | None = None
        self.shadow_storage: dict[str, tuple[str, int]] = {}
        self.powered = kind == "host"
        self.suspended = False
        self.booted_at = world.clock.utc()
        self.vhd_root = ""
        self.configuration_root = ""
        self.ntds_paths: tuple[str, str] | None = None
        self.uuid = stable_guid(world.seed, kind, name).upper()
        self.arriving = 0
        self.jobs = JobTable(self)
        self._volume_cache: dict[str, Volume] = {}
        self._held: dict[str, tuple[tuple[object, ...], dict[tuple[str, str], str]]] = {}

    # -- names and time

    @property
    def netbios_name(self) -> str:
        return self.name.split(".")[0].upper()[:15]

    @property
    def dns_name(self) -> str:
        return f"{self.name}.{self.domain}" if self.domain else self.name

    @property
    def computer_account(self) -> str:
        return f"{self.netbios_name}$"

    def now(self) -> datetime:
        """The time that this machine believes in, UTC."""
        return self.world.clock.utc() + self.skew

    def local_now(self) -> datetime:
        return self.now().astimezone(timezone(timedelta(minutes=self.os.utc_offset)))

    @property
    def answers(self) -> bool:
        """Whether anything listens on the machine's addresses now."""
        if self.kind == "host":
            return self.powered
        return self.vm is not None and self.vm.guest_runs and self.vm.traits.answers and self.os.family == "windows"

    def knock(self) -> None:
        """Somebody tries to reach the machine: a guest that is starting comes one step further."""
        if self.vm is not None:
            with self.world.lock:
                self.vm.wait_for_boot()

    # -- disks

    def _connected(self) -> list[Backing]:
        """Disks by controller, path or session, pooled ones included."""
        if self.kind == "guest":
            found = self.vm.backings() if self.vm is not None else []
        else:
            found = [self._lun_backing(lun, number, local=True) for number, lun in enumerate(self.local_luns)]
            found += [self._lun_backing(lun, number) for number, lun in enumerate(self.mapped_luns)]
        found += [self._iscsi_backing(lun, number) for number, lun in enumerate(self.iscsi_sessions)]
        return [b for b in found if b.lun is None or b.lun.present]

    def pool_members(self, pool: StoragePool) -> list[Backing]:
        """The disks of a Storage Spaces pool that are there; Windows keeps them from the list of disks."""
        return [b for b in self._connected() if b.slot in pool.members or b.key.removeprefix("lun:") in pool.members]

    def _backings(self) -> list[Backing]:
        found = self._connected()
        pooled = {f"lun:{m}" for p in self.pools for m in p.members} | {m for p in self.pools for m in p.members}
        found = [b for b in found if b.key not in pooled and b.slot not in pooled]
        found += [b for p in self.pools if (b := p.backing()) is not None]
        return found + [self._image_backing(m) for m in self.mounted_images]

    def _lun_backing(self, lun: Lun, number: int, *, local: bool = False) -> Backing:
        adapter = 0 if local else 2
        clustered = bool(self.cluster and lun.id in self.cluster.luns)
        return Backing(
            key=f"lun:{lun.id}",
            content=lun.content,
            identity=lun.identity,
            bus_type=BUS_TYPES[lun.bus],
            lun=lun,
            sector=lun.sector,
            physical_sector=lun.physical_sector,
            location=f"PCI Slot {adapter + 1} : Bus 3 : Device 0 : Function 0 : Adapter {adapter} : Port 0"
            f" : Target {number if local else 0} : LUN {0 if local else number}",
            scsi=(adapter, 0, number, 0) if local else (adapter, 0, 0, number),
            provisioning=1 if lun.thin else 2,
            clustered=clustered,
            target=lun.target,
        )

    def _iscsi_backing(self, lun: Lun, number: int) -> Backing:
        return Backing(
            key=f"lun:{lun.id}",
            content=lun.content,
            identity=lun.identity,
            bus_type=BUS_TYPES["iscsi"],
            lun=lun,
            sector=lun.sector,
            physical_sector=lun.physical_sector,
            location=f"Integrated : Adapter 5 : Port 0 : Target {number} : LUN 0",
            scsi=(5, 0, number, 0),
            provisioning=1 if lun.thin else 2,
            target=lun.target,
        )

    def _image_backing(self, mounted: MountedImage) -> Backing:
        facts = mounted.image.facts
        return Backing(
            key=f"image:{mounted.path.lower()}",
            content=mounted.image.payload,
            identity=Identity(
                unique_id=vhd_unique_id(facts.disk_id, self.world.assume("vhd-unique-id")),
                unique_id_format=3,
                vendor="Msft",
                model="Virtual Disk",
            ),
            bus_type=BUS_TYPES["virtual"],
            sector=facts.logical_sector,
            physical_sector=facts.physical_sector,
            location=mounted.path,
            scsi=(7, 0, 0, mounted.lun),
            image_path=mounted.path,
            forced_read_only=mounted.read_only,
        )

    def rescan(self) -> None:
        """Take in what is connected now: gone disks leave, new ones get the next free number and the SAN policy."""
        if self.kind == "guest" and not (self.vm is not None and self.vm.guest_runs):
            return
        backings = {b.key: b for b in self._backings()}
        kept: list[Disk] = []
        for disk in self.disks:
            backing = backings.pop(disk.backing.key, None)
            if backing is None:
                self._remember(disk)
                continue
            disk.backing = backing
            disk.size = backing.content.size
            kept.append(disk)
        self.disks = kept
        for backing in backings.values():
            self._arrive(backing, self._free_number())
        self.disks.sort(key=lambda d: d.number)

    def _free_number(self) -> int:
        taken = {d.number for d in self.disks}
        return next(n for n in range(len(taken) + 1) if n not in taken)

    def _memory_key(self, backing: Backing, number: int) -> str:
        if self.world.assume("disk-memory") == "number":
            return f"number:{number}"
        return f"id:{backing.identity.unique_id}:{backing.key}"

    def _remember(self, disk: Disk) -> None:
        self.disk_memory[self._memory_key(disk.backing, disk.number)] = (disk.online, disk.read_only)

    def remember_disks(self) -> None:
        for disk in self.disks:
            self._remember(disk)

    def _arrive(self, backing: Backing, number: int) -> Disk:
        disk = Disk(self, backing, number)
        memory = self.disk_memory.get(self._memory_key(backing, number))
        loopback = backing.image_path is not None
        if backing.key == self.boot_disk_key or loopback:
            disk.online, disk.read_only = True, backing.forced_read_only
        elif memory is not None:
            disk.online, disk.read_only = memory
        elif offline_by_policy(self.san_policy, backing.bus_type) and not self.boots_from(disk):
            disk.online, disk.read_only = False, True
        disk.offline_reason = REASON_NONE if disk.online else REASON_POLICY
        if disk.online and self.collides(disk):
            disk.online, disk.offline_reason = False, REASON_COLLISION
        self.disks.append(disk)
        return disk

    def collides(self, disk: Disk) -> bool:
        mine = disk.identifier_on_disk
        return mine is not None and any(
            other is not disk and other.online and other.identifier_on_disk == mine for other in self.disks
        )

    def disk_by_number(self, number: int | None) -> Disk | None:
        return next((d for d in self.disks if d.number == number), None)

    def disk_of_lun(self, lun: Lun) -> Disk | None:
        return next((d for d in self.disks if d.lun is lun), None)

    def boots_from(self, disk: Disk) -> bool:
        if self.boot_disk_key is not None:
            return disk.backing.key == self.boot_disk_key
        return any(p.guid == self.boot_volume_guid for p in disk.table.partitions if p.guid)

    def attached_to_vm(self, disk: Disk) -> Vm | None:
        """The VM of this host whose pass-through drive designates this disk, by number."""
        for vm in self.vms:
            if any(vm.number_in(d.host_resource) == disk.number for _c, d in vm.physical_drives()):
                return vm
        return None

    # -- volumes

    def volumes_of(self, disk: Disk) -> list[Volume]:
        if not disk.online:
            return []
        found = []
        for partition in disk.table.partitions:
            if partition.gpt_type in (MICROSOFT_RESERVED, LDM_METADATA, STORAGE_SPACES) or partition.hidden:
                continue
            if disk.table.style == MBR and partition.mbr_type in (5, 15):
                continue
            guid = partition.guid or stable_guid(self.name, disk.table.signature, partition.offset)
            volume = self._volume_cache.get(guid)
            if volume is None or volume.disk is not disk or volume.partition != partition:
                same = volume is not None and volume.disk is disk and volume.partition.offset == partition.offset
                kept = volume
                volume = Volume(self, disk, partition, guid)
                if same and kept is not None and kept.partition.size == partition.size:
                    volume._backend, volume._backend_version = kept._backend, kept._backend_version
                self._volume_cache[guid] = volume
            found.append(volume)
        return found

    def forget_file_systems(self) -> dict[str, dict[str, int]]:
        """The bytes behind the disks are elsewhere now: what was mounted is forgotten; the reservations, by volume GUID."""
        reserved = {
            guid: dict(volume._backend.reservations)
            for guid, volume in self._volume_cache.items()
            if volume._backend is not None
        }
        for volume in self._volume_cache.values():
            volume.forget_backend()
        return reserved

    def volumes(self) -> list[Volume]:
        """Mounted volumes of the machine in the order of disks and offsets."""
        return [volume for disk in self.disks for volume in self.volumes_of(disk)]

    def volume_by_letter(self, letter: str) -> Volume | None:
        everything = [*self.volumes(), *self.exposed_volumes()]
        return next((v for v in everything if v.letter and v.letter.upper() == letter.upper()), None)

    def exposed_volumes(self) -> list[Volume]:
        """Shadow copies that have a letter or a folder: volumes that can only be read."""
        return list(self.vss.exposed_volumes()) if self.vss is not None else []

    def letter_taken(self, letter: str) -> bool:
        remembered = any(mount.letter == letter.upper() for mount in self.mounts.values())
        return remembered or self.volume_by_letter(letter) is not None

    def volume_by_guid(self, guid: str) -> Volume | None:
        return next((v for v in self.volumes() if v.guid.lower() == guid.lower()), None)

    def give_letter(self, volume: Volume, letter: str) -> None:
        """One letter means one volume: whoever had it, present or not, has none any more."""
        for mount in self.mounts.values():
            if mount.letter == letter.upper():
                mount.letter = None
        volume.mount.letter = letter.upper()

    def free_letter(self) -> str | None:
        used = {v.letter for v in [*self.volumes(), *self.exposed_volumes()]}
        used |= {m.letter for m in self.mounts.values()}
        return next((chr(c) for c in range(ord("D"), ord("Z") + 1) if chr(c) not in used), None)

    def resolve(self, path: str, account: str = "SYSTEM", *, write: bool = False) -> tuple[Volume, str]:
        r"""A path as (volume, path on it): ``C:\x``, ``\\?\Volume{..}\x`` or ``\\server\share\x``.

        For UNC paths ``account`` says who asks; SYSTEM goes out as the computer account. Raises FileSystemError 3 for
        a missing volume, 53 / 67 for a missing server / share, 5 when the share admits no such account.
        """
        path = path.replace("/", "\\")
        if path[:4] == "\\\\?\\" and path[4:].lower().startswith("volume{"):
            guid, _unused, rest = path[11:].partition("}")
            volume = self.volume_by_guid(guid)
            if volume is None:
                raise FileSystemError(ERROR_PATH_NOT_FOUND, path)
            return volume, rest.strip("\\")
        if path.lower().startswith(SHADOW_DEVICE):
            number, _unused, rest = path[len(SHADOW_DEVICE) :].partition("\\")
            copy = self.vss.device_volume(int(number)) if self.vss is not None and number.isdigit() else None
            if copy is None:
                raise FileSystemError(ERROR_PATH_NOT_FOUND, path)
            return copy, rest.strip("\\")
        if path[:4] in ("\\\\?\\", "\\\\.\\"):
            path = path[4:]
        if path.startswith("\\\\"):
            return self.world.resolve_unc(self, path, account, write=write)
        if len(path) >= 2 and path[1] == ":":
            return self._resolve_local(path)
        raise FileSystemError(ERROR_PATH_NOT_FOUND, path)

    def _resolve_local(self, path: str) -> tuple[Volume, str]:
        best: tuple[int, Volume] | None = None
        folded = path.rstrip("\\").lower() + "\\"
        for volume in [*self.volumes(), *self.exposed_volumes()]:
            for folder in volume.mount_points:
                prefix = folder.rstrip("\\").lower() + "\\"
                if folded.startswith(prefix) and (best is None or len(prefix) > best[0]):
                    best = (len(prefix), volume)
        if best is not None:
            return best[1], path[best[0] :].strip("\\")
        found = self.volume_by_letter(path[0])
        if found is None:
            raise FileSystemError(ERROR_PATH_NOT_FOUND, path)
        return found, path[2:].strip("\\")

    def file_in_use(self, volume: Volume, path: str) -> bool:
        """Whether an image file is held open by a running VM or by a mount."""
        if self.kind != "host" and not self.mounted_images:
            return False
        wanted = volume.key_of(path)
        return wanted in self.locked_files()

    def locked_files(self) -> dict[tuple[str, str], str]:
        """Files that a running VM or a mount holds open: key of the file -> who holds it."""
        held: dict[tuple[str, str], str] = {}
        letters = tuple((guid, mount.letter) for guid, mount in self.mounts.items())
        for vm in self.vms:
            if not vm.running:
                self._held.pop(vm.id, None)
                continue
            state = (letters, vm.name, *vm.media_paths())
            known = self._held.get(vm.id)
            if known is None or known[0] != state:  # following chains opens files: only when something changed
                found: dict[tuple[str, str], str] = {}
                for path in vm.vhd_paths():
                    self._hold(found, path, vm.name)
                known = self._held[vm.id] = (state, found)
            held.update(known[1])
        for mounted in self.mounted_images:
            self._hold(held, mounted.path, "a mounted image")
        return held

    def _hold(self, held: dict[tuple[str, str], str], path: str, who: str) -> None:
        try:
            volume, relative = self.resolve(path)
            held[volume.key_of(relative)] = who
        except FileSystemError:
            return

    def open_image(self, path: str) -> Image:
        return open_host_image(self, path)

    # -- power

    def boot(self, *, renumber: bool = False, resumed: bool = False) -> None:
        """Start: every disk is found anew; with ``renumber`` the LUNs come in another (seeded) order than now.

        ``resumed``: from saved state, so that what ran goes on running.
        """
        self.remember_disks()
        numbers = {disk.backing.key: disk.number for disk in self.disks}
        if not self.suspended:  # only persistent sessions come back
            self.iscsi_sessions = [lun for lun in self.iscsi_sessions if lun.target in self.persistent_targets]
        backings = self._backings()
        if self.kind == "guest" and not self._can_boot(backings):
            raise ImageError("No bootable disk was found: the guest stays at its firmware.")
        self.disks = []
        local = {f"lun:{lun.id}" for lun in self.local_luns}
        first = [b for b in backings if b.key == self.boot_disk_key or b.key in local]
        rest = [b for b in backings if b not in first]
        last = max(numbers.values(), default=0) + 1
        now = sorted(rest, key=lambda backing: numbers.get(backing.key, last))
        if renumber and len(rest) > 1:
            order = list(rest)
            dice = random.Random(f"{self.world.seed}:{self.name}:{self.world.reboots}")
            while order == now:
                dice.shuffle(order)
            now = order
        for number, backing in enumerate([*first, *now]):
            self._arrive(backing, number)
        resumed, self.suspended = self.suspended, False
        if not resumed:
            self.booted_at = self.now()
        self.powered = True
        if self.processes is not None and not resumed:
            importlib.import_module(f"{__package__}.windows_services").rebooted(self)
        self.set_host_values()

    def _can_boot(self, backings: list[Backing]) -> bool:
        """A guest boots from the disk that holds its boot volume, if that still is a volume."""
        if self.boot_volume_guid is None:
            return True
        for backing in backings:
            probe = Disk(self, backing, -1)
            for partition in probe.table.partitions:
                guid = partition.guid or stable_guid(self.name, probe.table.signature, partition.offset)
                if guid == self.boot_volume_guid:
                    return Volume(self, probe, partition, guid).backend() is not None
        return False

    def power_off(self, *, saved: bool = False) -> None:
        self.remember_disks()
        self.powered = False
        self.suspended = saved
        if not saved:
            self.mounted_images = []
            for name, state in list(self.service_states.items()):
                if state == "Running" and name.lower() == "wbengine":
                    self.service_states[name] = "Stopped"
        self.disks = []

    def reboot(self, *, renumber: bool = False, power_cut: bool = False) -> None:
        """Restart a host with its VMs (automatic start actions obeyed), or a guest; ``power_cut``: nobody could save."""
        self.world.reboots += 1
        if self.kind == "guest":
            if self.vm is not None and self.vm.state == RUNNING:
                self.remember_disks()
                self.disks = []
                self.vm.boot_guest()
            return
        were_running = [vm for vm in self.vms if vm.running]
        for vm in were_running:
            action = vm.settings.automatic_shutdown_action
            vm.set_state(SAVED if action == 3 and not power_cut else OFF)
            vm.saved_disks = {}  # what Windows makes of its own reboot is nobody's mistake: no incident
        for vm in self.vms:
            vm.busy = None
        followed = {
            id(drive): lun
            for vm in self.vms
            for _c, drive in vm.physical_drives()
            if (lun := vm.physical_lun(drive)) is not None
        }
        self.mounted_images = []
        self.jobs.lose()
        self.boot(renumber=renumber)
        self._renumbered(followed)
        for vm in self.vms:
            again = vm.settings.automatic_startup_action
            restored = vm.was_running and self.world.assume("start-if-running-after-restore") == "starts"
            if not vm.planned and (again == 4 or (again == 3 and (vm in were_running or restored))):
                try:
                    self.world.power.start_now(vm)
                except JobFailed as problem:
                    self.world.power.report_failed_start(vm, str(problem))

    def _renumbered(self, followed: dict[int, Lun]) -> None:
        for vm in self.vms:
            for _controller, drive in vm.physical_drives():
                lun = followed.get(id(drive))
                disk = self.disk_of_lun(lun) if lun is not None else None
                if self.world.assume("passthrough-after-renumber") == "follow" and disk is not None:
                    drive.host_resource = vm.host_resource_for(disk.number)
                gone = self.disk_by_number(vm.number_in(drive.host_resource)) is None
                if gone and self.world.assume("passthrough-missing") == "nodrive":
                    drive.host_resource = vm.host_resource_for(0).replace('\\\\0"', '\\\\NODRIVE"')

    # -- virtual machines

    def register(self, configuration: dict[str, Any]) -> Vm:
        """A VM comes into being from an exported configuration; its guest machine, if the world knows one, comes back."""
        if any(vm.id == str(configuration["id"]).upper() for vm in self.vms):
            raise ValueError(f"A virtual machine {configuration['id']} is registered on {self.name} already.")
        vm = vm_from_configuration(self, configuration)
        self.adopt(vm)
        vm.save_configuration()
        return vm

    def adopt(self, vm: Vm) -> None:
        vm.host = self
        self.vms.append(vm)
        guest = self.world.guests.get(vm.id)
        if guest is not None:
            vm.guest = guest
            vm.traits = self.world.guest_traits.get(vm.id, vm.traits)
            guest.vm = vm

    def unregister(self, vm: Vm) -> None:
        """Forget a VM; its files stay (DestroySystem never deletes VHDs)."""
        if vm.running:
            vm.set_state(OFF)
        self.vms.remove(vm)
        if vm.guest is not None and vm.guest.vm is vm:
            vm.guest.power_off()
            vm.guest.vm = None
        try:
            volume, relative = self.resolve(vm.configuration_path)
            volume.files.delete(relative)
        except FileSystemError:
            return

    def vm_by_id(self, identifier: str) -> Vm | None:
        return next((vm for vm in self.vms if vm.id == identifier.strip("{}").upper()), None)

    def install_program(self, path: str, function: Callable[[Any], Any]) -> None:
        """A program of the operator's at ``path``: what `function(call)` does (installed_programs.py)."""
        importlib.import_module(f"{__package__}.installed_programs").install_program(self, path, function)

    def set_host_values(self) -> None:
        """What integration services write into a guest's registry (HostName, VirtualMachineId ...)."""
        if self.kind != "guest" or self.vm is None or self.registry is None or not self.vm.traits.integration_installed:
            return
        host = self.vm.host
        self.registry.put(
            "HKLM\\SOFTWARE\\Microsoft\\Virtual Machine\\Guest\\Parameters",
            {
                "HostName": host.dns_name,
                "HostingSystemEditionId": str(host.os.sku),
                "HostingSystemNestedLevel": 0,
                "HostingSystemOsMajor": "10",
                "HostingSystemOsMinor": "0",
                "HostingSystemProcessorArchitecture": "9",
                "HostingSystemSpMajor": "0",
                "HostingSystemSpMinor": "0",
                "PhysicalHostName": host.netbios_name,
                "PhysicalHostNameFullyQualified": host.dns_name,
                "VirtualMachineDynamicMemoryBalancingEnabled": int(self.vm.settings.dynamic_memory),
                "VirtualMachineId": self.vm.id,
                "VirtualMachineName": self.vm.name,
            },
        )

    def __repr__(self) -> str:
        return f"<Machine {self.kind} {self.name}>"


class World:
    """Everything simulated together. Take ``lock`` around each exchange; nothing below it locks."""

    def __init__(
        self, name: str, directory: Path, *, seed: str = "0", start: datetime | None = None, owned: bool = False
    ) -> None:
        self.name = name
        self.directory = directory
        self.seed = seed
        self.clock = SimClock(start)
        self.switches = Switches()
        self.faults: Any = None
        self.lock = threading.RLock()
        self.luns: dict[str, Lun] = {}
        self.zoning: dict[str, list[str]] = {}
        self.machines: list[Machine] = []
        self.guests: dict[str, Machine] = {}
        self.guest_traits: dict[str, Any] = {}
        self.guest_memories: dict[tuple[str, str], Any] = {}
        self.shares: list[Share] = []
        self.share_hosts: dict[str, Machine] = {}
        self.looks_per_job = 2
        self.reboots = 0
        self.incidents: list[str] = []
        self.transportable_sets: dict[str, list[tuple[Any, Volume]]] = {}
        self.serial = 0
        self._owned = owned
        from .hyperv_power import Power

        self.power = Power(self)

    @classmethod
    def from_yaml(cls, source: str | Path, directory: Path | None = None) -> World:
        """A world from a YAML file or text; files go below ``directory`` (default: a temporary one, gone at close)."""
        from .world_file import build_world

        owned = directory is None
        directory = directory or Path(tempfile.mkdtemp(prefix="hyperv-simulator-"))
        return build_world(source, directory, owned=owned)

    def close(self) -> None:
        if self._owned:
            shutil.rmtree(self.directory, ignore_errors=True)

    def assume(self, identifier: str) -> str:
        """The value in force of a behaviour that no source proves (assumed.py)."""
        return self.switches[identifier]

    def new_guid(self, *words: object) -> str:
        """A fresh lower-case GUID; the same sequence for the same world."""
        self.serial += 1
        return stable_guid(self.seed, "new", self.serial, *words)

    @property
    def hosts(self) -> list[Machine]:
        return [m for m in self.machines if m.kind == "host"]

    @property
    def vms(self) -> list[Vm]:
        return [vm for host in self.hosts for vm in host.vms]

    def machine(self, name: str) -> Machine:
        for candidate in self.machines:
            if name.lower() in (candidate.name.lower(), candidate.dns_name.lower()):
                return candidate
        raise KeyError(
            f"no machine of this world is called {name}; there are {', '.join(m.name for m in self.machines)}"
        )

    def machine_at(self, address: str) -> Machine | None:
        return next((m for m in self.machines if address in m.addresses), None)

    def add_machine(self, machine: Machine) -> None:
        self.machines.append(machine)
        self.services_call("attach", machine)
        machine.set_host_values()

    @staticmethod
    def services_call(function: str, machine: Machine) -> None:
        """``attach`` or ``rebooted`` of windows_services.py, which imports the parts of Windows that need this module."""
        services = importlib.import_module(f"{__package__}.windows_services")
        getattr(services, function)(machine)

    def resolve_unc(self, asker: Machine, path: str, account: str, *, write: bool) -> tuple[Volume, str]:
        parts = [p for p in path.strip("\\").split("\\") if p]
        if len(parts) < 2:
            raise FileSystemError(53, path)
        server, name = parts[0].lower(), parts[1].lower()
        short = server.split(".")[0]
        shares = [s for s in self.shares if s.server.lower() in (server, short) and s.present]
        machine = next((m for m in self.machines if short in (m.name.lower(), m.netbios_name.lower())), None)
        if machine is None and server.replace(".", "").isdigit():
            machine = self.machine_at(server)
        if machine is not None:
            shares += [s for s in machine.shares if s.present]
        if not shares and machine is None:
            raise FileSystemError(53, path)
        who = account
        if account.upper().rsplit("\\", 1)[-1] == "SYSTEM":
            who = asker.computer_account
        relative = "\\".join(parts[2:])
        for share in shares:
            if share.name.lower() == name:
                if not share.admits(who, write=write):
                    raise FileSystemError(5, path)
                return share.volume, f"{share.folder}\\{relative}".strip("\\")
        if machine is not None and name.endswith("$") and len(name) == 2 and machine is asker:
            volume = machine.volume_by_letter(name[0])
            if volume is not None:
                return volume, relative
        raise FileSystemError(67, path)

    # -- truth about the world (world_truth.py)

    def check(self) -> list[str]:
        """Invariants that hold in any world that Windows could be in; the findings, empty when all is well."""
        return world_truth.findings(self)

    def leftovers(self) -> list[str]:
        """Shadow copies, exposures, recovery checkpoints, planned VMs and waiting writers; empty in a clean world."""
        return world_truth.leftovers(self)

    def shadow_state(self) -> dict[str, Any]:
        """VSS of every Windows machine, in JSON types (VolumeShadowService.describe)."""
        return {machine.name: machine.vss.describe() for machine in self.machines if machine.vss is not None}

    def digests(self) -> dict[str, dict[str, str]]:
        """SHA-256 of every image file, every LUN and every guest volume's file tree, running or not."""
        return world_truth.digests(self)

    def guest_digests(self, guest: Machine) -> dict[str, str]:
        """Digest of the file tree of each volume that the guest has or would have, by ``guest:letter-or-guid``."""
        return world_truth.guest_digests(guest)

    def mark(self) -> dict[str, tuple[int, int]]:
        """A point in time for :meth:`written_since`."""
        return {lun.id: (id(lun.content), lun.content.written) for lun in self.luns.values()}

    def written_since(self, mark: dict[str, tuple[int, int]]) -> dict[str, int]:
        """Bytes written to each LUN since a mark, by anybody through any path; equal bytes count as well."""
        found = {}
        for lun in self.luns.values():
            origin, count = mark.get(lun.id, (0, 0))
            found[lun.id] = lun.content.written - (count if origin == id(lun.content) else 0)
        return found

    def drifted(self) -> list[tuple[str, str, str | None]]:
        """Pass-through drives whose number means another LUN than they were given: (VM, slot, LUN that it means now)."""
        return [
            (vm.name, vm.slot_name(controller, drive.location), lun.id if lun is not None else None)
            for vm in self.vms
            for controller, drive in vm.physical_drives()
            if vm.drifted(drive)
            for lun in [vm.physical_lun(drive)]
        ]


__all__ = [
    "OPERATING_SYSTEMS",
    "Account",
    "Machine",
    "OperatingSystem",
    "Share",
    "StoragePool",
    "Vm",
    "Volume",
    "World",
]
