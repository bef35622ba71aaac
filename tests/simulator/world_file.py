# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Responsible for reading worlds: YAML with strict validation and realistic defaults, and making disks, files and VMs of it.

A mistake in a world is one sentence that names the place (WorldError). Not responsible for how machines behave.
The keys are described in worlds/everything.yml, which uses each of them.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import yaml

from .checkpoints import take_checkpoint
from .cimv2 import WindowsService
from .content import Content, Window
from .disks import BUS_TYPES, SAN_POLICIES, Backing, Disk, Identity, Lun, stable_guid, stable_hex
from .endpoint import WinRmSettings
from .file_system import DirectoryFileSystem, FileSystemError
from .image_file import FORMAT_BY_SUFFIX, create_image, file_size_for, suffix_of
from .partition_file_system import PartitionFileSystem, _boot_sector
from .partition_table import (
    BASIC_DATA,
    EFI_SYSTEM,
    GPT,
    MIB,
    MICROSOFT_RESERVED,
    STORAGE_SPACES,
    Partition,
    PartitionTable,
    free_ranges,
    write_table,
)
from .vhd import DIFFERENCING, DYNAMIC, FIXED, VHD_SET, VHDX, Image, ImageError
from .virtual_machine import (
    OFF,
    RUNNING,
    STATE_WORDS,
    Drive,
    FibreChannelPort,
    Medium,
    NetworkAdapter,
    Vm,
)
from .volume_shadow_service import Provider
from .volumes import Mount, Volume
from .world import OPERATING_SYSTEMS, Account, Machine, OperatingSystem, Share, StoragePool, World
from .world_layout import LayoutBuilder, sparse
from .world_reader import Reader, WorldError, parse_slot

__all__ = ["WorldError", "build_world"]

_IMAGE_TYPES = {"fixed": FIXED, "dynamic": DYNAMIC, "differencing": DIFFERENCING}
STARTUP_ACTIONS = {"nothing": 2, "if_running": 3, "always": 4}
HOST_FOLDERS = ("Windows\\System32", "Windows\\Temp", "ProgramData\\Microsoft\\Windows", "Users\\Public")
SHUTDOWN_ACTIONS = {"turn_off": 2, "save": 3, "shut_down": 4}


def build_world(source: str | Path, directory: Path, *, owned: bool) -> World:
    text, origin = _text_of(source)
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as problem:
        raise WorldError(f"{origin} is not YAML: {' '.join(str(problem).split())}") from problem
    return _Builder(Reader(data, origin), directory, owned=owned).build()


def _text_of(source: str | Path) -> tuple[str, str]:
    if isinstance(source, Path) or ("\n" not in source and source.endswith((".yml", ".yaml"))):
        path = Path(source)
        try:
            return path.read_text(encoding="utf-8"), path.name
        except OSError as problem:
            raise WorldError(f"The world {path} cannot be read: {problem.strerror}.") from problem
    return source, "world"


class _Builder(LayoutBuilder):
    def __init__(self, root: Reader, directory: Path, *, owned: bool) -> None:
        start = root.any("clock")
        if isinstance(start, str):
            try:
                start = datetime.fromisoformat(start.replace("Z", "+00:00"))
            except ValueError as problem:
                raise WorldError(f"clock must be a time such as 2026-10-01T20:00:00Z, not {start!r}.") from problem
        if start is not None and not isinstance(start, datetime):
            raise WorldError(f"clock must be a time such as 2026-10-01T20:00:00Z, not {start!r}.")
        if start is not None and start.tzinfo is None:
            start = start.replace(tzinfo=timezone.utc)
        seed = str(root.any("seed", "0"))
        super().__init__(World(root.text("name", "world"), directory, seed=seed, start=start, owned=owned), root)
        self.shared: dict[str, Machine] = {}
        self.states: list[tuple[Vm, int]] = []
        self.host_luns: list[tuple[Machine, dict[str, dict[str, Any]]]] = []

    def build(self) -> World:
        world, root = self.world, self.root
        for name, value in root.mapping("switches").items():
            try:
                world.switches.choose(str(name), str(value))
            except ValueError as problem:
                raise WorldError(f"switches: {problem}.") from problem
        world.looks_per_job = root.number("looks_per_job", 2)
        accounts = self._accounts(root, {"Administrator": Account("Passw0rd!")})
        for reader in root.readers("luns"):
            self._lun(reader)
        for reader in root.readers("hosts"):
            self._host(reader, accounts)
        for reader in root.readers("shares"):
            self._share(reader)
        vms = root.readers("vms")
        for reader in vms:
            self._vm(reader, accounts)
        root.finish()
        for machine, options in self.host_luns:
            self._host_disk_states(machine, options)
        for vm, state in self.states:
            self._enter_state(vm, state)
        return world

    # -- parts that several have

    def _accounts(self, reader: Reader, default: dict[str, Account]) -> dict[str, Account]:
        entries = reader.mapping("accounts")
        if not entries:
            return {name: replace(account) for name, account in default.items()}
        found = {}
        for name, entry in entries.items():
            one = Reader({"password": entry} if isinstance(entry, str) else entry, f"{reader.where}.accounts.{name}")
            groups = frozenset(one.texts("groups", ("Administrators",)))
            found[str(name)] = Account(
                one.text("password"),
                groups,
                one.text("domain", ""),
                frozenset(one.texts("remote_enable")),
                one.flag("filtered"),
                one.flag("disabled"),
            )
            one.finish()
        return found

    def _os(self, reader: Reader) -> OperatingSystem:
        name = reader.text("os", "server2022", choices=tuple(OPERATING_SYSTEMS))
        return replace(
            OPERATING_SYSTEMS[name],
            utc_offset=reader.number("utc_offset", 0),
            locale=reader.text("locale", "en-US"),
            product_type=2 if reader.flag("domain_controller") else OPERATING_SYSTEMS[name].product_type,
        )

    def _machine_parts(self, machine: Machine, reader: Reader, accounts: dict[str, Account]) -> None:
        machine.accounts = self._accounts(reader, accounts)
        address = reader.optional("address")
        machine.addresses = [address] if address else list(reader.texts("addresses"))
        for name, port in reader.mapping("ports").items():
            if name not in ("http", "https") or not isinstance(port, int):
                raise WorldError(
                    f"{reader.where}.ports knows http and https with a number each, not {name!r}: {port!r}."
                )
            machine.ports[name] = port
        try:
            machine.winrm = WinRmSettings(**reader.mapping("winrm"))
        except TypeError as problem:
            raise WorldError(f"{reader.where}.winrm: {problem}.") from problem
        machine.domain = reader.text("domain", "")
        machine.skew = timedelta(seconds=reader.number("clock_skew", 0))
        machine.san_policy = SAN_POLICIES[
            reader.text(
                "san_policy",
                "offline_shared" if machine.os.product_type != 1 else "online_all",
                choices=tuple(SAN_POLICIES),
            )
        ]
        for name in reader.texts("missing_features"):
            machine.features[name] = False
        for name, state in reader.mapping("services").items():
            if isinstance(state, dict):
                one = Reader(state, f"{reader.where}.services.{name}")
                machine.extra_services.append(
                    WindowsService(
                        name=str(name),
                        title=one.text("title", str(name)),
                        state=one.text("state", "Running"),
                        mode="Auto",
                        path=one.text("path"),
                    )
                )
                one.finish()
            else:
                machine.service_states[str(name)] = str(state)

    # -- hosts

    def _host(self, reader: Reader, accounts: dict[str, Account]) -> None:
        world = self.world
        name = reader.text("name")
        host = Machine(world, "host", name, self._os(reader))
        self._machine_parts(host, reader, accounts)
        if not reader.flag("hyperv_role", True):
            host.role_present = False
            host.namespaces.discard("root/virtualization/v2")
        if reader.has("cluster"):
            from .mscluster import Cluster

            one = Reader(reader.any("cluster"), f"{reader.where}.cluster")
            host.cluster = Cluster(
                name=one.text("name"), nodes=list(one.texts("nodes", (name,))), luns=set(one.texts("luns"))
            )
            one.finish()
            host.namespaces.add("root/mscluster")
            host.namespaces.add("root/hypervcluster/v2")
        volumes = reader.readers("volumes") or [
            Reader({"letter": "C", "size": "120G"}, "default"),
            Reader({"letter": "D", "size": "500G", "label": "VMs"}, "default"),
        ]
        for number, entry in enumerate(volumes):
            self._local_volume(host, number, entry)
        options: dict[str, dict[str, Any]] = {}
        for number, item in enumerate(reader.items("luns")):
            one = Reader({"lun": item} if isinstance(item, str) else item, f"{reader.where}.luns[{number}]")
            lun = self._known_lun(one.text("lun"), one.where)
            host.mapped_luns.append(lun)
            options[lun.id] = {"online": one.flag("online"), "read_only": one.any("read_only")}
            one.finish()
        self.host_luns.append((host, options))
        for switch in reader.texts("switches", ("External",)):
            host.virtual_switches[switch] = stable_guid(world.seed, name, "switch", switch).upper()
        for san in reader.texts("virtual_sans"):
            host.virtual_sans[san] = stable_guid(world.seed, name, "san", san).upper()
        host.vhd_root = reader.text("vhd_root", "C:\\Users\\Public\\Documents\\Hyper-V\\Virtual Hard Disks")
        host.configuration_root = reader.text("configuration_root", "C:\\ProgramData\\Microsoft\\Windows\\Hyper-V")
        share_readers = reader.readers("shares")
        image_readers = reader.readers("images")
        providers = [self._vss_provider(one) for one in reader.readers("vss_providers")]
        storage_readers = reader.readers("shadow_storage")
        reader.finish()
        host.boot()
        for folder in (host.vhd_root, host.configuration_root):
            volume, relative = host.resolve(folder)
            volume.files.mkdir(relative, parents=True)
        for one in image_readers:
            self._image(host, one, "", {})
            one.finish()
        for one in share_readers:
            volume, folder = host.resolve(one.text("path"))
            if not volume.files.exists(folder):
                volume.files.mkdir(folder, parents=True)
            host.shares.append(
                Share(name, one.text("name"), volume, folder, one.texts("read", ("*",)), one.texts("write", ("*",)))
            )
            one.finish()
        for one in storage_readers:
            source, store = (
                host.volume_by_letter(one.text("for")),
                host.volume_by_letter(one.text("on", one.text("for"))),
            )
            if source is None or store is None:
                raise WorldError(f"{one.where}: {name} has no volume with that letter.")
            host.shadow_storage[source.guid] = (store.guid, one.size("maximum", 0))
            one.finish()
        world.add_machine(host)
        host.vss.extra_providers = providers

    @staticmethod
    def _vss_provider(reader: Reader) -> Provider:
        found = Provider(
            id=reader.text("id").strip("{}").lower().join(("{", "}")),
            name=reader.text("name"),
            kind=reader.text("type", "hardware", choices=("hardware", "software")),
            version=reader.text("version", "1.0.0.0"),
            class_id=reader.text("class_id", "{00000000-0000-4000-8000-000000000001}"),
            luns=reader.texts("luns"),
            letters=reader.texts("volumes"),
        )
        reader.finish()
        return found

    def _local_volume(self, host: Machine, number: int, reader: Reader) -> None:
        world = self.world
        letter = reader.text("letter")
        size = reader.size("size")
        kind = reader.text("file_system", "NTFS", choices=("NTFS", "ReFS"))
        label = reader.text("label", "")
        cluster = reader.number("cluster", 4096)
        used = reader.size("used", 0)
        boot = number == 0
        reader.finish()
        key = f"{host.name}-local{number}"
        disk_size = size + (128 << 20)
        digits = stable_hex(world.seed, key)
        lun = Lun(
            key,
            sparse(world, f"local/{key}.img", disk_size),
            "sata",
            Identity(
                unique_id=f"5000C500{digits[:8]}",
                unique_id_format=3,
                vendor="ATA",
                model="SAMSUNG MZ7LH480",
                revision="HXT7",
                serial=f"S45{digits[:11]}",
            ),
        )
        table = PartitionTable(style=GPT, guid=stable_guid(world.seed, key, "disk"))
        at = MIB
        if boot:
            efi = stable_guid(world.seed, key, "efi")
            table = table.adding(
                Partition(offset=at, size=99 * MIB, gpt_type=EFI_SYSTEM, guid=efi, name="EFI system partition")
            )
            at += 99 * MIB
        msr = stable_guid(world.seed, key, "msr")
        table = table.adding(
            Partition(
                offset=at, size=15 * MIB, gpt_type=MICROSOFT_RESERVED, guid=msr, name="Microsoft reserved partition"
            )
        )
        at += 15 * MIB
        guid = stable_guid(world.seed, key, "volume")
        data = (disk_size - at - MIB) // MIB * MIB
        table = table.adding(
            Partition(offset=at, size=data, gpt_type=BASIC_DATA, guid=guid, name="Basic data partition")
        )
        write_table(lun.content, table)
        if boot:
            PartitionFileSystem.format(
                Window(lun.content, MIB, 99 * MIB), kind="FAT32", serial=int(digits[:8], 16), now=world.clock.utc
            )
            host.boot_volume_guid, host.boot_disk_key = guid, f"lun:{key}"
        serial = int(digits[8:24], 16)
        lun.content.write_at(at, bytes(_boot_sector(kind, serial, label, cluster, data)))
        host.local_luns.append(lun)
        host.mounts[guid] = Mount(letter)
        host.disk_memory[f"id:{lun.identity.unique_id}:lun:{key}"] = (True, False)
        host.disk_memory[f"number:{number}"] = (True, False)
        root = world.directory / "volumes" / host.name / letter
        fs = DirectoryFileSystem(
            root,
            size,
            kind=kind,
            label=label,
            serial=serial,
            cluster_size=cluster,
            used=used or (18 << 30 if boot and size > (40 << 30) else 0),
            now=world.clock.utc,
        )
        host.directory_volumes[guid] = fs
        if boot:
            for folder in HOST_FOLDERS:
                fs.mkdir(folder, parents=True)

    def _host_disk_states(self, host: Machine, options: dict[str, dict[str, Any]]) -> None:
        for disk in host.disks:
            if disk.lun is None or disk.lun.id not in options:
                continue
            wanted = options[disk.lun.id]
            if wanted["online"]:
                if host.attached_to_vm(disk) is not None:
                    raise WorldError(f"LUN {disk.lun.id} cannot be online on {host.name}: a virtual machine has it.")
                disk.online, disk.read_only, disk.offline_reason = True, bool(wanted["read_only"]), 0
            elif wanted["read_only"] is not None:
                disk.read_only = bool(wanted["read_only"])
            if disk.online and not wanted["online"] and host.attached_to_vm(disk) is not None:
                disk.online, disk.offline_reason = False, 1  # an operator took it offline to attach it
        host.remember_disks()

    def _share(self, reader: Reader) -> None:
        world = self.world
        server, name = reader.text("server"), reader.text("name")
        key = f"share-{server}-{name}"
        machine = self.shared.get(server)
        if machine is None:
            machine = self.shared[server] = Machine(world, "host", server, OPERATING_SYSTEMS["server2022"])
        size = reader.size("size", "1T")
        lun = Lun(
            key,
            sparse(world, f"shares/{key}.img", size),
            "sata",
            Identity(unique_id=stable_hex(key), unique_id_format=0, vendor="FILER", model="share"),
        )
        guid = stable_guid(key)
        disk = Disk(machine, Backing(key=f"lun:{key}", content=lun.content, identity=lun.identity, bus_type=11), 0)
        volume = Volume(machine, disk, Partition(offset=0, size=size, gpt_type=BASIC_DATA, guid=guid), guid)
        machine.directory_volumes[guid] = DirectoryFileSystem(
            world.directory / "shares" / server / name,
            size,
            label=name,
            serial=int(stable_hex(key, length=16), 16),
            now=world.clock.utc,
        )
        world.shares.append(
            Share(server, name, volume, "", reader.texts("read", ("*",)), reader.texts("write", ("*",)))
        )
        reader.finish()

    # -- virtual machines

    def _vm(self, reader: Reader, accounts: dict[str, Account]) -> None:
        world = self.world
        name = reader.text("name")
        host_name = reader.text("host")
        host = next((h for h in world.hosts if h.name == host_name), None)
        if host is None:
            raise WorldError(f"{reader.where}.host is {host_name!r}, which hosts does not have.")
        number = sum(1 for h in world.hosts for _v in h.vms)
        identifier = reader.text("id", stable_guid(world.seed, "vm", name, number)).strip("{}").upper()
        created = world.clock.utc() - timedelta(days=200 - number % 100)
        vm = Vm(host, identifier, name, reader.number("generation", 2), created)
        if vm.generation not in (1, 2):
            raise WorldError(f"{reader.where}.generation must be 1 or 2, not {vm.generation}.")
        settings = vm.settings
        settings.version = reader.text(
            "version", {"14393": "8.0", "17763": "9.0", "26100": "12.0"}.get(host.os.build, "10.0")
        )
        settings.notes = reader.text("notes", "")
        settings.memory_mb = reader.number("memory", 2048)
        settings.dynamic_memory = reader.flag("dynamic_memory")
        settings.processors = reader.number("processors", 2)
        settings.allow_full_scsi = reader.flag("full_scsi")
        settings.automatic_startup_action = STARTUP_ACTIONS[
            reader.text("automatic_start", "if_running", choices=tuple(STARTUP_ACTIONS))
        ]
        settings.automatic_shutdown_action = SHUTDOWN_ACTIONS[
            reader.text("automatic_stop", "save", choices=tuple(SHUTDOWN_ACTIONS))
        ]
        settings.user_snapshot_type = reader.number("checkpoint_type", 3)
        settings.bios_guid = stable_guid(world.seed, identifier, "bios").upper()
        digits = str(int(stable_hex(world.seed, identifier, "serial"), 16))
        settings.bios_serial = "-".join([*(digits[4 * i : 4 * i + 4] for i in range(6)), digits[24:26]])
        if vm.generation == 1:
            vm.add_controller("ide")
            vm.add_controller("ide")
            vm.add_controller("diskette").drives[0] = Drive("diskette", 0)
            settings.secure_boot = False
        for count in range(reader.number("scsi_controllers", 1)):
            vm.add_controller("scsi", stable_guid(world.seed, identifier, "scsi", count).upper())
        vm.configuration_root = reader.text("configuration_root", host.configuration_root)
        vm.snapshot_root = vm.configuration_root
        vm.replica = reader.text("replica", "none", choices=("none", "primary", "replica"))
        vm.clustered = reader.flag("clustered")
        if vm.clustered and host.cluster is None:
            raise WorldError(f"{reader.where}.clustered needs a cluster on host {host.name}.")
        for count, switch in enumerate(reader.texts("networks", ("External",))):
            guid = stable_guid(world.seed, identifier, "nic", count).upper()
            mac = "00155D" + stable_hex(world.seed, identifier, "mac", count, length=6)
            vm.adapters.append(NetworkAdapter(guid, mac, host.virtual_switches.get(switch)))
        for count, entry in enumerate(reader.readers("fibre_channel")):
            self._fibre_channel(vm, entry, count)
        contents: dict[str, tuple[Content, int]] = {}
        for entry in reader.readers("disks"):
            self._disk_of_vm(vm, entry, contents)
        guest_data = reader.any("guest")
        state = STATE_WORDS[reader.text("state", "running", choices=tuple(STATE_WORDS))]
        checkpoints = [(c.text("name"), c.text("kind", "production"), c) for c in reader.readers("checkpoints")]
        reader.finish()
        if guest_data is not None:
            self._guest(vm, Reader(guest_data, f"{reader.where}.guest"), accounts, contents)
        host.vms.append(vm)
        if vm.guest is not None:
            vm.guest.vm = vm
        for label, kind, one in checkpoints:
            one.finish()
            self._checkpoint(vm, label, kind)
        vm.save_configuration()
        self.states.append((vm, state))

    def _fibre_channel(self, vm: Vm, reader: Reader, number: int) -> None:
        seed = self.world.seed
        san = reader.text("virtual_san", "Fabric-A")
        vm.host.virtual_sans.setdefault(san, stable_guid(seed, vm.host.name, "san", san).upper())
        luns = [self._known_lun(identifier, f"{reader.where}.luns").id for identifier in reader.texts("luns")]
        tail = stable_hex(seed, vm.id, "wwpn", number, length=6)
        wwpn = (f"C003FF{tail}0000"[:16], f"C003FF{tail}0001"[:16])
        self.world.zoning.update(dict.fromkeys(wwpn, luns))
        vm.fibre_channel.append(
            FibreChannelPort(
                stable_guid(seed, vm.id, "fc", number).upper(),
                san,
                wwpn,
                ("C003FF0000FFFF00", "C003FF0000FFFF00"),
                luns,
            )
        )
        reader.finish()

    def _disk_of_vm(self, vm: Vm, reader: Reader, contents: dict[str, tuple[Content, int]]) -> None:
        kind, number, location = parse_slot(reader.any("slot"), f"{reader.where}.slot")
        controller = vm.controller(kind, number)
        if controller is None:
            raise WorldError(f"{reader.where}: the virtual machine has no controller {kind} {number}.")
        if location in controller.drives and controller.kind != "diskette":
            raise WorldError(f"{reader.where}: slot {kind} {number}:{location} is taken twice.")
        slot = f"{kind} {number}:{location}"
        if reader.has("lun"):
            lun = self._known_lun(reader.text("lun"), reader.where)
            disk = vm.host.disk_of_lun(lun)
            if disk is None:
                raise WorldError(f"{reader.where}: host {vm.host.name} does not see LUN {lun.id}; list it in its luns.")
            controller.drives[location] = Drive(
                "physical",
                location,
                host_resource=vm.host_resource_for(disk.number),
                element_name=reader.optional("name"),
                given=lun.identity.unique_id,
            )
            contents[slot] = (lun.content, lun.sector)
        elif reader.has("vhd"):
            controller.drives[location] = Drive("disk", location, self._image(vm.host, reader, slot, contents))
        elif reader.has("dvd"):
            path = reader.optional("dvd")
            if path:
                self._iso(vm.host, path)
            controller.drives[location] = Drive("dvd", location, Medium(path, "iso") if path else None)
        elif reader.has("empty"):
            reader.flag("empty", True)
            controller.drives[location] = Drive("disk", location)
        else:
            raise WorldError(f"{reader.where} needs one of vhd, lun, dvd, empty.")
        reader.finish()

    @staticmethod
    def _iso(host: Machine, path: str) -> None:
        volume, relative = host.resolve(path)
        if not volume.files.exists(relative):
            volume.files.mkdir(relative.rpartition("\\")[0], parents=True)
            volume.files.write(relative, bytes(32768) + b"\x01CD001\x01" + bytes(2041))

    def _image(self, host: Machine, reader: Reader, slot: str, contents: dict[str, tuple[Content, int]]) -> Medium:
        path = reader.text("vhd")
        shared = reader.flag("shared")
        image_format = FORMAT_BY_SUFFIX.get(suffix_of(path))
        if image_format is None:
            raise WorldError(f"{reader.where}.vhd must end in .vhd, .vhdx or .vhds, not {path!r}.")
        kind = _IMAGE_TYPES[reader.text("type", "fixed", choices=tuple(_IMAGE_TYPES))]
        try:
            volume, relative = host.resolve(path)
        except FileSystemError as problem:
            raise WorldError(f"{reader.where}.vhd {path!r} lies on no volume of {host.name}: {problem}") from problem
        parent_path = reader.optional("parent")
        wanted_id = reader.text("disk_id", stable_guid(self.world.seed, host.name, path.lower()))
        size = reader.size("size", "16M")
        sector = reader.number("sector", 512)
        if shared and volume.files.exists(relative):
            image: Image = host.open_image(path)
        else:
            folder = relative.rpartition("\\")[0]
            if folder:
                volume.files.mkdir(folder, parents=True)
            data_path = path
            if image_format == VHD_SET:
                data_path = path[: -len(".vhds")] + "_" + wanted_id + ".avhdx"
                volume.files.write(relative, json.dumps({"data": data_path}).encode())
                relative = host.resolve(data_path)[1]
                image_format = VHDX
            image = self._new_image(
                host, data_path, relative, image_format, kind, size, sector, wanted_id, parent_path, reader.where
            )
        contents[slot] = (image.payload, image.facts.logical_sector)
        return Medium(path, "vhd", shared)

    def _new_image(
        self,
        host: Machine,
        path: str,
        relative: str,
        image_format: int,
        kind: int,
        size: int,
        sector: int,
        disk_id: str,
        parent_path: str | None,
        where: str,
    ) -> Image:
        volume, _same = host.resolve(path)
        try:
            parent = host.open_image(parent_path) if parent_path else None
            if parent is not None:
                size = parent.facts.virtual_size
            file = volume.files.create(relative, file_size_for(image_format, kind, size))
            return create_image(
                file,
                image_format=image_format,
                kind=kind,
                size=size,
                disk_id=disk_id,
                moment=self.world.clock.utc(),
                logical_sector=sector,
                parent=parent,
                parent_path=parent_path or "",
                open_parent=lambda facts: host.open_image(facts.parent_path or ""),
            )
        except (ImageError, FileSystemError) as problem:
            raise WorldError(f"{where}: the image {path!r} cannot be made: {problem}") from problem

    def _checkpoint(self, vm: Vm, name: str, kind: str) -> None:
        take_checkpoint(vm, name, kind)

    # -- guests

    def _guest(
        self, vm: Vm, reader: Reader, accounts: dict[str, Account], contents: dict[str, tuple[Content, int]]
    ) -> None:
        world = self.world
        default_name = re.sub(r"[^A-Za-z0-9-]", "-", vm.name)[:15].strip("-") or f"guest{len(world.guests)}"
        guest = Machine(world, "guest", reader.text("name", default_name), self._os(reader))
        guest.vm = vm
        vm.guest = guest
        self._machine_parts(guest, reader, accounts)
        traits = vm.traits
        traits.shutdown = reader.text("shutdown", "obeys", choices=("obeys", "ignores", "locked"))
        traits.integration_installed = reader.flag("integration_services", True)
        traits.vss = reader.flag("vss", True)
        traits.answers = reader.flag("answers", True)
        traits.boots = reader.flag("boots", True)
        traits.boot_looks = reader.number("boot_looks", 0)
        for identifier in reader.texts("iscsi"):
            lun = self._known_lun(identifier, f"{reader.where}.iscsi")
            guest.iscsi_sessions.append(lun)
            guest.persistent_targets.add(lun.target or "")
            if lun.chap is not None:
                guest.chap_sessions.add(lun.id)
            if lun.portal:
                guest.iscsi_portals.append(lun.portal)
            guest.service_states["MSiSCSI"] = "Running"
        if reader.has("ntds"):
            paths = reader.texts("ntds")
            guest.ntds_paths = (paths[0], paths[-1])
        world.guests[vm.id] = guest
        world.guest_traits[vm.id] = traits
        laid: dict[str, bool] = {}
        for entry in reader.readers("disks"):
            self._guest_disk(vm, guest, entry, contents, laid)
        pools = reader.readers("storage_pools")
        for entry in pools:
            self._pool(guest, entry, contents)
        reader.finish()
        for key, offline in laid.items():
            guest.disk_memory[key] = (not offline, offline)
        world.add_machine(guest)

    def _guest_disk(
        self,
        vm: Vm,
        guest: Machine,
        reader: Reader,
        contents: dict[str, tuple[Content, int]],
        laid: dict[str, bool],
    ) -> None:
        """Lay out a disk that the guest owns and remember it as seen before."""
        world = self.world
        if reader.has("slot"):
            kind, number, location = parse_slot(reader.any("slot"), f"{reader.where}.slot")
            slot = f"{kind} {number}:{location}"
            if slot not in contents:
                raise WorldError(f"{reader.where}.slot {slot} holds no disk of this virtual machine.")
            content, sector = contents[slot]
            key = f"slot:{vm.id}:{slot}"
        else:
            lun = self._known_lun(reader.text("lun"), reader.where)
            content, sector, key = lun.content, lun.sector, f"lun:{lun.id}"
            slot = ""
        offline = reader.flag("offline")
        seen = reader.flag("seen", True)
        layouts = self._layout(reader, content, sector, key)
        reader.finish()
        probe = Disk(guest, Backing(key=key, content=content, identity=_NOBODY, bus_type=0, sector=sector), -1)
        self._claim(guest, layouts, probe.table.signature)
        if not seen:
            return
        for number, backing in enumerate(guest._backings()):
            if backing.slot == slot if slot else backing.key == key:
                laid[guest._memory_key(backing, number)] = offline
                if any(layout.boot for layout in layouts):
                    guest.boot_disk_key = None
        world.guests[vm.id] = guest

    def _pool(self, guest: Machine, reader: Reader, contents: dict[str, tuple[Content, int]]) -> None:
        name = reader.text("name")
        members = list(reader.texts("members"))
        disk_name = reader.text("virtual_disk", "Space")
        if not members:
            raise WorldError(f"{reader.where}.members must name at least one slot or LUN.")
        first = members[0]
        if first in contents:
            content, sector = contents[first]
        else:
            lun = self._known_lun(first, f"{reader.where}.members")
            content, sector = lun.content, lun.sector
        guid = stable_guid(self.world.seed, guest.name, "space", name)
        table = PartitionTable(style=GPT, guid=stable_guid(guid, "disk"))
        offset, room = free_ranges(table, content.size, sector)[0]
        member = Partition(
            offset=offset, size=room, gpt_type=STORAGE_SPACES, guid=stable_guid(guid, "member"), name="Storage pool"
        )
        write_table(content, table.adding(member), sector)
        inner = Window(content, offset + 4 * MIB, room - 4 * MIB)
        layouts = self._layout(reader, inner, sector, f"space:{guid}")
        reader.finish()
        self._claim(guest, layouts, None)
        identity = Identity(
            unique_id=guid.replace("-", "").upper(),
            unique_id_format=0,
            vendor="Msft",
            model="Storage Space",
            serial=f"{{{guid}}}",
        )

        def backing() -> Backing | None:
            available = guest.vm.backings() if guest.vm is not None else []
            keys = {b.slot for b in available} | {b.key.removeprefix("lun:") for b in available}
            keys |= {lun.id for lun in guest.iscsi_sessions}
            if not all(m in keys for m in members):
                return None
            live = next((b.content for b in available if first in (b.slot, b.key.removeprefix("lun:"))), content)
            return Backing(
                key=f"space:{guid}",
                content=Window(live, offset + 4 * MIB, room - 4 * MIB),
                identity=identity,
                bus_type=BUS_TYPES["spaces"],
                sector=sector,
                location="Integrated : Adapter 6",
                scsi=(6, 0, 0, 0),
            )

        guest.pools.append(StoragePool(name, members, disk_name, backing, guid))
        guest.disk_memory[f"id:{identity.unique_id}:space:{guid}"] = (True, False)

    def _enter_state(self, vm: Vm, state: int) -> None:
        if state == OFF:
            return
        problem = self.world.power.start_problem(vm)
        if problem:
            raise WorldError(f"The virtual machine {vm.name!r} cannot be {state_word(state)}: {problem}")
        vm.set_state(RUNNING)
        if vm.started is not None:
            vm.started -= timedelta(days=11, hours=3)
        vm.state_changed -= timedelta(days=11, hours=3)
        if vm.boot_error is not None:
            raise WorldError(f"The guest of {vm.name!r} does not boot: {vm.boot_error}")
        if state != RUNNING:
            vm.set_state(state)


_NOBODY = Identity(unique_id="", unique_id_format=0, vendor="", model="")


def state_word(state: int) -> str:
    return next(word for word, number in STATE_WORDS.items() if number == state)
