# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Responsible for what a world file says of LUNs and of what lies on disks: partition tables, volumes, file trees.

world_file.py builds machines and VMs on top of it. Not responsible for how disks behave later (disks.py, volumes.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .content import Content, SparseFile, Window, fill_with_noise
from .disks import BUS_TYPES, Identity, Lun, stable_guid, stable_hex
from .file_system import FileSystemError, grow_tree
from .partition_file_system import PartitionFileSystem
from .partition_table import (
    BASIC_DATA,
    EFI_SYSTEM,
    GPT,
    LDM_DATA,
    LDM_METADATA,
    MBR,
    MBR_IFS,
    MBR_LDM,
    MIB,
    MICROSOFT_RESERVED,
    RECOVERY,
    STORAGE_SPACES,
    Partition,
    PartitionTable,
    free_ranges,
    write_table,
)
from .volumes import BitLocker, Mount, lay_file_system
from .world import Machine, World
from .world_reader import Reader, WorldError, parse_size

_PARTITION_TYPES = {
    "basic": BASIC_DATA,
    "efi": EFI_SYSTEM,
    "msr": MICROSOFT_RESERVED,
    "recovery": RECOVERY,
    "ldm_metadata": LDM_METADATA,
    "ldm_data": LDM_DATA,
    "spaces": STORAGE_SPACES,
}


@dataclass
class Layout:
    """What one partition of the YAML became: for letters, BitLocker and the boot volume of its machine."""

    partition: Partition
    reader_name: str
    letter: str | None
    folders: list[str]
    boot: bool
    bitlocker: str | None


class LayoutBuilder:
    """Makes the LUNs of a world and lays out disks; the class that reads the rest of the file goes on from it."""

    def __init__(self, world: World, root: Reader) -> None:
        self.world = world
        self.root = root

    # -- LUNs

    def _lun(self, reader: Reader) -> Lun:
        world = self.world
        identifier = reader.text("id")
        if identifier in world.luns:
            raise WorldError(f"{reader.where}: LUN {identifier!r} exists twice.")
        size = reader.size("size")
        bus = reader.text("bus", "iscsi", choices=tuple(BUS_TYPES))
        local = bus in ("sata", "nvme", "ata")
        digits = stable_hex(world.seed, "lun", identifier)
        default_id = f"6589CFC0{digits[:24]}"
        default_format = 3
        if local:
            default_id, default_format = f"{'eui.' if bus == 'nvme' else ''}5000C500{digits[:8]}", 3
        identity = Identity(
            unique_id=reader.text("unique_id", default_id),
            unique_id_format=reader.number("unique_id_format", default_format),
            vendor=reader.text("vendor", "ATA" if local else "TrueNAS"),
            model=reader.text("model", "SAMSUNG MZ7LH480" if local else "iSCSI Disk"),
            revision=reader.text("revision", "0123"),
            serial=reader.optional("serial") or digits[24:32].lower() + digits[:7].lower(),
        )
        lun = Lun(
            identifier,
            sparse(world, f"luns/{identifier}.img", size),
            bus,
            identity,
            sector=reader.number("sector", 512),
            physical_sector=reader.number("physical_sector", 4096),
            target=reader.optional("target")
            or (f"iqn.2005-10.org.freenas.ctl:{identifier}" if bus == "iscsi" else None),
            portal=reader.optional("portal") or ("127.10.9.1" if bus == "iscsi" else None),
            thin=reader.flag("thin"),
            chap=self._chap(reader),
        )
        world.luns[identifier] = lun
        if reader.has("partitions") or reader.has("style"):
            self._layout(reader, lun.content, lun.sector, f"lun:{identifier}")
        reader.finish()
        return lun

    @staticmethod
    def _chap(reader: Reader) -> tuple[str, str] | None:
        """`chap: {user: .., secret: ..}`: what an initiator must say to log in to the LUN's target."""
        if not reader.has("chap"):
            return None
        one = Reader(reader.any("chap"), f"{reader.where}.chap")
        found = one.text("user"), one.text("secret")
        one.finish()
        return found

    # -- layouts and volumes

    def _layout(self, reader: Reader, content: Content, sector: int, key: str) -> list[Layout]:
        """Write a partition table and file systems into ``content`` as ``reader`` says."""
        seed = self.world.seed
        style_word = reader.text("style", "gpt", choices=("gpt", "mbr", "raw"))
        dynamic = reader.flag("dynamic")
        noise_seed = reader.optional("noise")
        entries = reader.readers("partitions")
        if noise_seed is not None:
            fill_with_noise(content, noise_seed, MIB, content.size - 2 * MIB)
        if style_word == "raw":
            return []
        style = GPT if style_word == "gpt" else MBR
        table = PartitionTable(
            style=style,
            guid=reader.text("disk_guid", stable_guid(seed, key, "disk")) if style == GPT else None,
            signature=reader.number("signature", int(stable_hex(seed, key, length=8), 16)) if style == MBR else None,
        )
        layouts: list[tuple[Reader, Layout]] = []
        if dynamic and style == GPT:
            where = free_ranges(table, content.size, sector)[0][0]
            table = table.adding(
                Partition(
                    offset=where,
                    size=MIB,
                    gpt_type=LDM_METADATA,
                    guid=stable_guid(seed, key, "ldm"),
                    name="LDM metadata",
                )
            )
        for number, entry in enumerate(entries):
            layout, table = self._partition(entry, table, content.size, sector, f"{key}:{number}", dynamic)
            layouts.append((entry, layout))
        write_table(content, table, sector)
        for entry, layout in layouts:
            self._volume(entry, layout, content, sector, f"{key}:{layout.partition.offset}")
            entry.finish()
        return [layout for _entry, layout in layouts]

    def _partition(
        self, reader: Reader, table: PartitionTable, disk_size: int, sector: int, key: str, dynamic: bool
    ) -> tuple[Layout, PartitionTable]:
        kind = reader.text("type", "basic", choices=tuple(_PARTITION_TYPES))
        wanted = reader.any("size", "max")
        gaps = free_ranges(table, disk_size, sector)
        if not gaps:
            raise WorldError(f"{reader.where}: no room is left on a disk of {disk_size} bytes.")
        offset, room = gaps[-1]
        size = room if wanted == "max" else parse_size(wanted, f"{reader.where}.size")
        if size > room:
            raise WorldError(f"{reader.where}: {size} bytes do not fit into the {room} bytes that are left.")
        gpt_type = LDM_DATA if dynamic and kind == "basic" else _PARTITION_TYPES[kind]
        seed = self.world.seed
        if table.style == GPT:
            partition = Partition(
                offset=offset,
                size=size,
                gpt_type=gpt_type,
                guid=reader.text("guid", stable_guid(seed, key, "partition")),
                name={EFI_SYSTEM: "EFI system partition", MICROSOFT_RESERVED: "Microsoft reserved partition"}.get(
                    gpt_type, "Basic data partition"
                ),
            )
        else:
            mbr_type = MBR_LDM if dynamic else reader.number("mbr_type", MBR_IFS)
            partition = Partition(offset=offset, size=size, mbr_type=mbr_type, active=reader.flag("active"))
        if reader.flag("hidden"):
            partition = partition.with_flags(hidden=True)
        layout = Layout(
            partition,
            key,
            reader.optional("letter"),
            list(reader.texts("mount_points")),
            reader.flag("boot"),
            reader.text("bitlocker", "off", choices=("off", "unlocked", "locked")),
        )
        return layout, table.adding(partition)

    def _volume(self, reader: Reader, layout: Layout, content: Content, sector: int, key: str) -> None:
        default = {EFI_SYSTEM: "FAT32", MICROSOFT_RESERVED: "RAW", STORAGE_SPACES: "RAW", LDM_METADATA: "RAW"}.get(
            layout.partition.gpt_type or "", "NTFS"
        )
        kind = reader.text("file_system", default, choices=("NTFS", "ReFS", "FAT32", "exFAT", "RAW"))
        label = reader.text("label", "")
        cluster = reader.number("cluster", 4096)
        serial = reader.any("serial")
        files = reader.any("files")
        tree = reader.mapping("tree")
        if kind == "RAW":
            return
        window = Window(content, layout.partition.offset, layout.partition.size)
        digits = stable_hex(self.world.seed, key, "serial", length=16 if kind in ("NTFS", "ReFS") else 8)
        number = int(str(serial), 16) if serial is not None else int(digits, 16)
        try:
            fs = lay_file_system(
                window,
                kind=kind,
                label=label,
                serial=number,
                cluster_size=cluster,
                sector_size=sector,
                encrypted=layout.bitlocker != "off",
                now=self.world.clock.utc,
            )
            with fs.batch():
                if layout.boot:
                    for folder in ("Windows\\System32\\config", "Windows\\Temp", "Users\\Administrator", "ProgramData"):
                        fs.mkdir(folder, parents=True)
                    fs.write("Windows\\System32\\ntoskrnl.exe", b"MZ" + bytes(4094))
                if files is not None:
                    one = Reader(files, f"{reader.where}.files")
                    grow_tree(
                        fs, str(one.any("seed", key)), files=one.number("count", 20), total=one.size("size", "1M")
                    )
                    one.finish()
                for path, text in tree.items():
                    above = path.rpartition("\\")[0]
                    if above:
                        fs.mkdir(above, parents=True)
                    fs.write(path, str(text).encode())
        except FileSystemError as problem:
            raise WorldError(f"{reader.where}: the files do not fit or cannot be named so: {problem}") from problem
        if isinstance(fs, PartitionFileSystem) and layout.bitlocker != "off":
            fs.set_encrypted(True)

    @staticmethod
    def _claim(machine: Machine, layouts: list[Layout], signature: int | None) -> None:
        """Letters, folders, BitLocker state and boot volume of a machine, from what was laid out for it."""
        for layout in layouts:
            guid = layout.partition.guid or stable_guid(machine.name, signature, layout.partition.offset)
            if layout.letter or layout.folders:
                machine.mounts[guid] = Mount(layout.letter, [f.rstrip("\\") + "\\" for f in layout.folders])
            if layout.bitlocker != "off":
                machine.bitlocker[guid] = BitLocker(locked=layout.bitlocker == "locked")
            if layout.boot:
                machine.boot_volume_guid = guid

    def _known_lun(self, identifier: str, where: str) -> Lun:
        lun = self.world.luns.get(identifier)
        if lun is None:
            known = ", ".join(self.world.luns) or "none"
            raise WorldError(f"{where} names LUN {identifier!r}, which luns does not have ({known}).")
        return lun


def sparse(world: World, name: str, size: int) -> SparseFile:
    return SparseFile.create(world.directory / re.sub(r"[^\w./-]", "_", name), size)
