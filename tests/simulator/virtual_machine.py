# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Responsible for one virtual machine: its settings, controllers, drives, checkpoints, power states and what its guest sees.

Not responsible for the WMI face of these things (hyperv_systems.py, hyperv_storage.py) nor for jobs (jobs.py).
Facts: hyperv-wmi 1.2-1.4 (states, settings), 2 (storage topology), 3.2 (HostResource), 6.1 (power).
"""

from __future__ import annotations

import copy
import json
import re
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from .assumed import assumed
from .content import Content, fingerprint
from .disks import BUS_TYPES, Backing, Identity, Lun, stable_guid, stable_hex, vhd_unique_id
from .file_system import FileSystemError
from .guest_disk import STEP, GuestDisk
from .image_file import open_image, suffix_of
from .vhd import DYNAMIC, Image, ImageError, ImageFacts

if TYPE_CHECKING:
    from .volumes import Volume
    from .world import Machine

RUNNING, OFF, STOPPING, SAVED, PAUSED, STARTING, RESET, OTHER = 2, 3, 4, 6, 9, 10, 11, 1
"""Msvm_ComputerSystem.EnabledState (hyperv-wmi 1.2)."""

STATE_WORDS = {"running": RUNNING, "off": OFF, "saved": SAVED, "paused": PAUSED}

IDE_GUID = "83F8638B-8DCA-4152-9EDA-2CA8B33039B4"
DISKETTE_GUID = "8F0D2762-0B00-4E04-AF4F-19010527CB93"
PHYSICAL_DISK_POOL = "353B3BE8-310C-4cf4-839E-4E1B14616136"

SLOTS = {"ide": 2, "scsi": 64, "diskette": 1}
CONTROLLERS = {"ide": 2, "scsi": 4, "diskette": 1}

assumed(
    "passthrough-after-renumber",
    "HostResource of a pass-through disk after the host renumbered its disks: the number stays and may mean another"
    " disk, or vmms follows the device",
    source="facts hyperv-wmi 11.5, windows-storage 4.3",
    values=("stale", "follow"),
)
assumed(
    "passthrough-missing",
    "HostResource of a pass-through disk whose host disk is gone: the old path stays, or it says NODRIVE",
    source="facts hyperv-wmi 3.2, 11.4",
    values=("stale", "nodrive"),
)
assumed(
    "drive-moved-instance-id",
    "The InstanceID of a drive that was moved to another slot follows the slot",
    source="facts hyperv-wmi 11.7",
)


@dataclass
class Medium:
    """A file in a drive: ``kind`` is "vhd", "iso" or "floppy"; ``shared`` is PersistentReservationsSupported."""

    path: str
    kind: str = "vhd"
    shared: bool = False
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass
class Drive:
    """A drive in a slot: ``kind`` is "disk", "physical", "dvd", "physical dvd" or "diskette".

    ``host_resource`` is the path text frozen when a physical disk was attached; ``given`` is the UniqueId that it meant
    then, which no Windows keeps: the simulator tells with it that a number has come to mean another disk.
    """

    kind: str
    location: int
    medium: Medium | None = None
    host_resource: str | None = None
    element_name: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    given: str | None = None


@dataclass
class Controller:
    """A controller: ``kind`` is "ide", "scsi" or "diskette"; ``guid`` upper case; ``number`` counts within the kind."""

    kind: str
    number: int
    guid: str
    drives: dict[int, Drive] = field(default_factory=dict)

    @property
    def index(self) -> int:
        """The number that InstanceIDs carry: only IDE controllers share a GUID (hyperv-wmi 2.4)."""
        return self.number if self.kind == "ide" else 0

    def instance_id(self, owner: str) -> str:
        return f"Microsoft:{owner}\\{self.guid}\\{self.index}"

    def drive_id(self, owner: str, location: int) -> str:
        return f"{self.instance_id(owner)}\\{location}\\D"

    def medium_id(self, owner: str, location: int) -> str:
        return f"{self.instance_id(owner)}\\{location}\\L"


@dataclass
class NetworkAdapter:
    """A synthetic adapter; ``guid`` upper case, ``mac`` twelve hex digits, ``switch`` the GUID of a virtual switch.

    ``last_switch`` is the name of the switch that it was connected to last, for LastKnownSwitchName.
    """

    guid: str
    mac: str
    switch: str | None = None
    name: str = "Network Adapter"
    static_mac: bool = False
    last_switch: str = ""


@dataclass
class FibreChannelPort:
    """A virtual HBA with both address sets; ``luns`` are what the fabric shows behind it, when it has a virtual SAN."""

    guid: str
    virtual_san: str | None
    wwpn: tuple[str, str]
    wwnn: tuple[str, str]
    luns: list[str] = field(default_factory=list)


@dataclass
class Checkpoint:
    """A snapshot: ``id`` upper-case GUID; ``kind`` "standard", "production" or "recovery"; the settings as they were.

    A ``transient`` one belongs to a backup that runs and is gone with it.
    """

    id: str
    name: str
    created: datetime
    kind: str
    parent: str | None
    controllers: list[Controller]
    with_memory: bool = False
    notes: str = ""
    transient: bool = False


@dataclass
class Settings:
    """The plain settings of a VM; names follow Msvm_VirtualSystemSettingData where there is a property."""

    version: str = "10.0"
    notes: str = ""
    automatic_startup_action: int = 3
    automatic_startup_delay: int = 0
    automatic_shutdown_action: int = 3
    automatic_recovery_action: int = 3
    user_snapshot_type: int = 3
    incremental_backup: bool = True
    memory_mb: int = 2048
    minimum_memory_mb: int = 512
    maximum_memory_mb: int = 1048576
    dynamic_memory: bool = False
    processors: int = 2
    secure_boot: bool = True
    allow_full_scsi: bool = False
    bios_guid: str = ""
    bios_serial: str = ""
    integration: dict[str, bool] = field(
        default_factory=lambda: {
            "Heartbeat": True,
            "KvpExchange": True,
            "Shutdown": True,
            "TimeSync": True,
            "Vss": True,
            "GuestServiceInterface": False,
        }
    )
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass
class GuestTraits:
    """How a guest behaves towards its host; what a world says below ``guest``.

    ``shutdown`` is "obeys", "ignores" or "locked"; ``integration_installed`` false = no integration services at all.
    ``boot_looks`` looks at the VM (or knocks at the guest's door) pass before its operating system is up; with ``boots``
    false it never is.
    """

    shutdown: str = "obeys"
    integration_installed: bool = True
    vss: bool = True
    answers: bool = True
    boots: bool = True
    boot_looks: int = 0


class Vm:
    """One virtual machine of one host. ``id`` is an upper-case GUID without braces."""

    def __init__(self, host: Machine, identifier: str, name: str, generation: int, created: datetime) -> None:
        self.host = host
        self.id = identifier.upper()
        self.name = name
        self.generation = generation
        self.created = created
        self.state = OFF
        self.other_state: str | None = None
        self.requested_state = 12
        self.state_changed = created
        self.configured = created
        self.started: datetime | None = None
        self.last_backup: datetime | None = None
        self.settings = Settings()
        self.controllers: list[Controller] = []
        self.adapters: list[NetworkAdapter] = []
        self.fibre_channel: list[FibreChannelPort] = []
        self.checkpoints: list[Checkpoint] = []
        self.current_checkpoint: str | None = None
        self.configuration_root = ""
        self.snapshot_root = ""
        self.replica = "none"
        self.clustered = False
        self.planned = False
        self.busy: int | None = None
        self.guest: Machine | None = None
        self.traits = GuestTraits()
        self.kvp_host_items: dict[str, str] = {}
        self.shutdown_looks: int | None = None
        self.boot_error: str | None = None
        self.boot_looks = 0
        self.saved_disks: dict[str, list[str]] = {}
        self.was_running = False
        self.critical = False
        self.images: list[Image] = []

    # -- controllers and drives

    def add_controller(self, kind: str, guid: str | None = None) -> Controller:
        number = sum(1 for c in self.controllers if c.kind == kind)
        if kind == "ide":
            guid = IDE_GUID
        elif kind == "diskette":
            guid = DISKETTE_GUID
        guid = guid or stable_guid(self.id, "scsi", number, len(self.controllers)).upper()
        controller = Controller(kind, number, guid)
        self.controllers.append(controller)
        return controller

    def controller(self, kind: str, number: int) -> Controller | None:
        return next((c for c in self.controllers if c.kind == kind and c.number == number), None)

    def drives(self) -> list[tuple[Controller, Drive]]:
        return [(c, c.drives[slot]) for c in self.controllers for slot in sorted(c.drives)]

    def physical_drives(self) -> list[tuple[Controller, Drive]]:
        return [(c, d) for c, d in self.drives() if d.kind == "physical"]

    def slot_name(self, controller: Controller, location: int) -> str:
        return f"{controller.kind} {controller.number}:{location}"

    # -- state

    @property
    def running(self) -> bool:
        """The worker process exists and holds the disks open (running, paused or on its way)."""
        return self.state in (RUNNING, PAUSED, STOPPING, STARTING, RESET) or (
            self.state == OTHER and self.other_state in ("Saving", "Quiescing", "Pausing", "Resuming", "FastSaving")
        )

    @property
    def guest_runs(self) -> bool:
        """The guest's operating system is up and could answer."""
        up = self.boot_error is None and self.boot_looks <= 0
        return self.state in (RUNNING, STOPPING) and self.guest is not None and up

    @property
    def uptime_ms(self) -> int:
        if self.started is None or not self.running:
            return 0
        return int((self.host.now() - self.started).total_seconds() * 1000)

    @property
    def process_id(self) -> int | None:
        return 4000 + int(stable_hex(self.id, "vmwp", length=4), 16) // 4 * 4 if self.running else None

    def set_state(self, state: int, other: str | None = None) -> None:
        """Enter a state at once, with what that means for the guest."""
        was_running = self.running
        was_saved = self.state == SAVED
        if state == SAVED and not was_saved:
            self.saved_disks = self.disk_evidence()
        elif was_saved and state == RUNNING:
            self._compare_with_saved()
        self.state, self.other_state = state, other
        self.critical = self.critical and state == PAUSED
        self.state_changed = self.host.now()
        if self.running and not was_running:
            self.started = self.host.now()
            self.was_running = False
        if state in (OFF, SAVED):
            self.shutdown_looks = None
            self.images = []
            if state == OFF:
                self.started = None
                self.saved_disks = {}
            if self.guest is not None:
                self.guest.power_off(saved=state == SAVED)
        elif state == RUNNING and not was_running:
            self.boot_guest(resumed=was_saved)

    def run_out_of_room(self, path: str) -> None:
        """Hyper-V pauses the VM because the volume of one of its images is full."""
        self.set_state(PAUSED)
        self.critical = True
        volume, _relative = self.host.resolve(path)
        place = volume.access_paths[0]
        self.host.event_log.write(
            "Microsoft-Windows-Hyper-V-VMMS-Admin",
            provider="Microsoft-Windows-Hyper-V-VMMS",
            event_id=16060,
            level=2,
            data={"VmName": self.name, "VmId": self.id},
            message=f"'{self.name}' has been paused because it has run out of disk space on '{place}'. (Virtual machine ID {self.id})",
        )

    def lacks_room(self) -> str:
        """The image that cannot grow by one block, "" when all could."""
        for path in self.vhd_paths():
            volume, _relative = self.host.resolve(path)
            if self.host.open_image(path).facts.type >= DYNAMIC and volume.free < STEP:
                return path
        return ""

    def disk_evidence(self) -> dict[str, list[str]]:
        """What each disk is and holds now: for saved state, which must not be resumed on anything else."""
        try:
            return {b.slot or b.key: [b.key, fingerprint(b.content)] for b in self.backings()}
        except (ImageError, FileSystemError):
            return {}

    def _compare_with_saved(self) -> None:
        if not self.saved_disks:
            return
        now = self.disk_evidence()
        changed = [slot for slot in sorted({*now, *self.saved_disks}) if now.get(slot) != self.saved_disks.get(slot)]
        for slot in changed:
            self.host.world.incidents.append(f"{self.name} resumed from saved state although its disk {slot} changed")
        self.saved_disks = {}

    def boot_guest(self, *, resumed: bool = False) -> None:
        self.shutdown_looks = None
        self.boot_error = None
        self.boot_looks = 0 if resumed else self.traits.boot_looks
        if self.guest is not None:
            try:
                self.guest.boot(resumed=resumed)
            except ImageError as problem:
                self.boot_error = str(problem)
            if not self.traits.boots and not resumed:
                self.boot_error = "The guest's operating system does not start."

    def wait_for_boot(self) -> None:
        """Somebody looked at the VM or knocked at its guest's door: a guest that is starting comes one step further."""
        if self.boot_looks > 0 and self.state == RUNNING:
            self.boot_looks -= 1
            self.host.world.clock.advance(5)
            if self.boot_looks == 0 and self.guest is not None and self.boot_error is None:
                self.guest.rescan()

    def changed(self) -> None:
        """The configuration was changed: remember when, and write the configuration file."""
        self.configured = self.host.now()
        self.save_configuration()

    def switch_name(self, adapter: NetworkAdapter) -> str | None:
        """The name of the switch that an adapter is connected to, when that exists."""
        return next((name for name, guid in self.host.virtual_switches.items() if guid == adapter.switch), None)

    # -- pass-through disks

    def host_resource_for(self, number: int) -> str:
        r"""The path text of the host's Msvm_DiskDrive (hyperv-wmi 3.2)."""
        host = self.host.netbios_name
        return (
            f'\\\\{host}\\root\\virtualization\\v2:Msvm_DiskDrive.CreationClassName="Msvm_DiskDrive",DeviceID='
            f'"Microsoft:{PHYSICAL_DISK_POOL}\\\\{number}",SystemCreationClassName="Msvm_ComputerSystem",'
            f'SystemName="{host}"'
        )

    @staticmethod
    def number_in(host_resource: str | None) -> int | None:
        """The disk number that a HostResource designates, None for NODRIVE and everything else."""
        match = re.search(r"353B3BE8-310C-4CF4-839E-4E1B14616136\\+(\d+)", (host_resource or "").upper())
        return int(match[1]) if match else None

    # -- what the guest sees

    def backings(self) -> list[Backing]:
        """Disks of the guest in the order of controllers and slots; raises ImageError when one cannot be opened."""
        found = []
        for position, (controller, drive) in enumerate(self.drives()):
            backing = None
            if drive.kind == "disk" and drive.medium is not None:
                backing = self._vhd_backing(controller, drive, drive.medium, position)
            elif drive.kind == "physical":
                backing = self._physical_backing(controller, drive, position)
            if backing is not None:
                found.append(backing)
        for number, port in enumerate(self.fibre_channel):
            for lun_number, identifier in enumerate(port.luns):
                lun = self.host.world.luns[identifier]
                if not lun.present or port.virtual_san not in self.host.virtual_sans:
                    continue
                found.append(
                    Backing(
                        key=f"lun:{lun.id}",
                        content=lun.content,
                        identity=lun.identity,
                        bus_type=BUS_TYPES["fc"],
                        lun=lun,
                        sector=lun.sector,
                        physical_sector=lun.physical_sector,
                        location=f"Integrated : Adapter {8 + number} : Port 0 : Target 0 : LUN {lun_number}",
                        scsi=(8 + number, 0, 0, lun_number),
                    )
                )
        return found

    def open_vhd(self, path: str) -> Image:
        return self.host.open_image(path)

    def _address(self, controller: Controller, drive: Drive) -> tuple[str, tuple[int, int, int, int]]:
        if controller.kind == "ide":
            where = f"PCI Slot 0 : Adapter {controller.number} : Channel 0 : Device {drive.location}"
            return where, (controller.number, 0, drive.location, 0)
        adapter = 2 + controller.number
        device = 8331 + controller.number
        where = f"Integrated : Bus 0 : Device {device} : Function 65486 : Adapter {adapter} : Port 0 : Target 0"
        return f"{where} : LUN {drive.location}", (adapter, 0, 0, drive.location)

    def _vhd_backing(self, controller: Controller, drive: Drive, medium: Medium, position: int) -> Backing:
        image = self.open_vhd(medium.path)
        facts = image.facts
        location, scsi = self._address(controller, drive)
        base = self._base_facts(facts)
        if controller.kind == "ide":
            # facts windows-storage 2.5: text of the PnP id and the host, format 0
            text = "IDE\\DISKVIRTUAL_HD" + "_" * 30 + f"1.1.0___\\5&{stable_hex(self.id, position, length=8)}&0&0."
            name = self.guest.netbios_name if self.guest else self.name
            identity = Identity(
                unique_id=f"{text}{controller.number}.{drive.location}:{name}",
                unique_id_format=0,
                vendor="Virtual",
                model="Virtual HD",
                revision="1.1.0",
            )
        else:
            identity = Identity(
                unique_id=vhd_unique_id(base.disk_id, self.host.world.assume("vhd-unique-id")),
                unique_id_format=3,
                vendor="Msft",
                model="Virtual Disk",
            )
        return Backing(
            key=f"vhd:{base.disk_id}",
            content=GuestDisk(image.payload, self, medium.path) if facts.type >= DYNAMIC else image.payload,
            identity=identity,
            bus_type=BUS_TYPES["ata" if controller.kind == "ide" else "sas"],
            sector=facts.logical_sector,
            physical_sector=facts.physical_sector,
            location=location,
            scsi=scsi,
            provisioning=1 if facts.type >= DYNAMIC else 2,
            slot=self.slot_name(controller, drive.location),
        )

    def _base_facts(self, facts: ImageFacts) -> ImageFacts:
        """Children of a checkpoint keep the identity of the image at the bottom of their chain."""
        seen = 0
        while facts.parent_path is not None and seen < 64:
            facts = self.open_vhd(facts.parent_path).facts
            seen += 1
        return facts

    def physical_lun(self, drive: Drive) -> Lun | None:
        """The LUN that the host's disk number means now."""
        number = self.number_in(drive.host_resource)
        disk = self.host.disk_by_number(number) if number is not None else None
        return disk.lun if disk is not None else None

    def drifted(self, drive: Drive) -> bool:
        """The drive's number means another disk than it was given, or none."""
        lun = self.physical_lun(drive)
        return drive.given is not None and (lun is None or lun.identity.unique_id != drive.given)

    def _physical_backing(self, controller: Controller, drive: Drive, position: int) -> Backing | None:
        number = self.number_in(drive.host_resource)
        disk = self.host.disk_by_number(number) if number is not None else None
        if disk is None:
            return None
        location, scsi = self._address(controller, drive)
        name = self.guest.netbios_name if self.guest else self.name
        identity = disk.identity
        if controller.kind == "ide":
            tail = stable_hex(self.id, position, length=8)
            identity = Identity(
                unique_id=f"IDE\\DISKPHYSICAL_HD\\5&{tail}&0&0.{controller.number}.{drive.location}:{name}",
                unique_id_format=0,
                vendor="Virtual",
                model="Physical HD",
                revision="1.1.0",
            )
        elif self.host.world.assume("passthrough-guest-identity") == "hidden":
            identity = Identity(
                unique_id=f"SCSI\\DISK&VEN_MSFT&PROD_PHYSICAL_DISK\\{stable_hex(self.id, position, length=8)}:{name}",
                unique_id_format=0,
                vendor="Msft",
                model="Physical Disk",
            )
        return Backing(
            key=f"lun:{disk.lun.id}" if disk.lun else f"host:{disk.backing.key}",
            content=disk.content,
            identity=identity,
            bus_type=BUS_TYPES["ata" if controller.kind == "ide" else "sas"],
            lun=disk.lun,
            sector=disk.backing.sector,
            physical_sector=disk.backing.physical_sector,
            location=location,
            scsi=scsi,
            slot=self.slot_name(controller, drive.location),
        )

    # -- files

    def media_paths(self) -> list[str]:
        """Image files that the VM's drives and its checkpoints name, chains not followed."""
        lists = [self.controllers, *(c.controllers for c in self.checkpoints)]
        return [
            drive.medium.path
            for controllers in lists
            for controller in controllers
            for drive in controller.drives.values()
            if drive.medium is not None and drive.medium.kind == "vhd"
        ]

    def vhd_paths(self) -> list[str]:
        """Every image file that the VM or one of its checkpoints names, chains followed, each once."""
        found: dict[str, str] = {}
        for path in self.media_paths():
            self._follow(path, found)
        return list(found.values())

    def _follow(self, path: str, found: dict[str, str]) -> None:
        if path.lower() in found:
            return
        found[path.lower()] = path
        try:
            parent = self.host.open_image(path).facts.parent_path
        except (ImageError, FileSystemError):
            return
        if parent:
            self._follow(parent, found)

    def files(self) -> list[tuple[Volume, str, Content]]:
        """Images and configuration file on the host's volumes: (volume, path on it, real bytes, past every lock)."""
        result = []
        for path in [*self.vhd_paths(), self.configuration_path]:
            try:
                volume, relative = self.host.resolve(path)
                result.append((volume, relative, volume.files.open(relative)))
            except FileSystemError:
                continue
        return result

    @property
    def configuration_file(self) -> str:
        """Relative to :attr:`configuration_root`."""
        return f"Virtual Machines\\{self.id}.vmcx"

    @property
    def configuration_path(self) -> str:
        return f"{self.configuration_root.rstrip(chr(92))}\\{self.configuration_file}"

    def save_configuration(self) -> None:
        text = json.dumps(self.export_configuration(), indent=1, ensure_ascii=False, default=str)
        try:
            volume, relative = self.host.resolve(self.configuration_path)
            folder = relative.rsplit("\\", 1)[0]
            if not volume.files.exists(folder):
                volume.files.mkdir(folder, parents=True)
            volume.files.write(relative, text.encode())
        except FileSystemError as problem:
            self.boot_error = f"The configuration could not be written: {problem}"

    def export_configuration(self) -> dict[str, Any]:
        """Everything that :func:`vm_from_configuration` needs, as JSON types."""
        return {
            "id": self.id,
            "name": self.name,
            "generation": self.generation,
            "created": self.created.isoformat(),
            "settings": asdict(self.settings),
            "controllers": [asdict(c) for c in self.controllers],
            "adapters": [{**asdict(a), "last_switch": self.switch_name(a) or a.last_switch} for a in self.adapters],
            "fibre_channel": [asdict(p) for p in self.fibre_channel],
            "checkpoints": [
                {**asdict(c), "created": c.created.isoformat()} for c in self.checkpoints if not c.transient
            ],
            "current_checkpoint": self.current_checkpoint,
            "configuration_root": self.configuration_root,
            "snapshot_root": self.snapshot_root,
            "replica": self.replica,
            "clustered": self.clustered,
            "state": self.state if self.state in (OFF, SAVED) else OFF,
            "kvp_host_items": dict(self.kvp_host_items),
            "saved_disks": dict(self.saved_disks) if self.state == SAVED else {},
        }


def _controllers_from(data: list[dict[str, Any]]) -> list[Controller]:
    controllers = []
    for entry in data:
        controller = Controller(entry["kind"], entry["number"], entry["guid"])
        for slot, drive in entry["drives"].items():
            fields = dict(drive)
            medium = fields.pop("medium")
            controller.drives[int(slot)] = Drive(**fields, medium=Medium(**medium) if medium else None)
        controllers.append(controller)
    return controllers


def vm_from_configuration(host: Machine, configuration: dict[str, Any]) -> Vm:
    """A VM as its exported configuration says; it is not registered with the host yet."""
    data = copy.deepcopy(configuration)
    vm = Vm(host, data["id"], data["name"], data["generation"], datetime.fromisoformat(data["created"]))
    vm.settings = Settings(**data["settings"])
    vm.controllers = _controllers_from(data["controllers"])
    vm.adapters = [NetworkAdapter(**a) for a in data["adapters"]]
    vm.fibre_channel = [
        FibreChannelPort(**{**p, "wwpn": tuple(p["wwpn"]), "wwnn": tuple(p["wwnn"])}) for p in data["fibre_channel"]
    ]
    vm.checkpoints = [
        Checkpoint(
            **{
                **c,
                "created": datetime.fromisoformat(c["created"]),
                "controllers": _controllers_from(c["controllers"]),
            }
        )
        for c in data["checkpoints"]
    ]
    for name in ("current_checkpoint", "configuration_root", "snapshot_root", "replica", "clustered"):
        setattr(vm, name, data[name])
    vm.kvp_host_items = dict(data["kvp_host_items"])
    if data["state"] == SAVED:
        vm.state = SAVED
        vm.saved_disks = dict(data.get("saved_disks", {}))
    return vm


def copy_controllers(controllers: list[Controller]) -> list[Controller]:
    return copy.deepcopy(controllers)


def open_host_image(host: Machine, path: str) -> Image:
    """Open an image file of a host by its path; raises ImageError or FileSystemError."""
    volume, relative = host.resolve(path)

    def parent(facts: ImageFacts) -> Image:
        if not facts.parent_path:
            raise ImageError(f"{path} names no parent.")
        return open_host_image(host, facts.parent_path)

    if suffix_of(path) == ".vhds":
        data = json.loads(volume.files.read(relative).decode())
        return open_host_image(host, str(data["data"]))
    return open_image(volume.files.open(relative), parent)
