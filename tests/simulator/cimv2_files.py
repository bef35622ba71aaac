# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Responsible for CIM_DataFile and Win32_Directory in root/cimv2: files of mounted volumes by name, or by Drive and Path.

A question without a name or a drive lists every file with a letter, as slow on Windows as it is here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from .assumed import assumed
from .cim import Instance, Value
from .file_system import ATTRIBUTE_HIDDEN, ATTRIBUTE_READ_ONLY, ATTRIBUTE_SYSTEM, FileStat, FileSystemError
from .service import method, view
from .volumes import Volume
from .world import Machine

assumed(
    "program-version",
    "The version of Windows' own programs is the system's version and .1.",
    source="CIM_DataFile.Version is the file's version resource; the last number grows with each update",
)

NS = "root/cimv2"
Row = dict[str, Value]
Known = Mapping[str, Value]


def _matches(machine: Machine, known: Known) -> Iterator[tuple[Volume, FileStat]]:
    """Files and folders that the question can be about."""
    name, drive, path = known.get("Name"), known.get("Drive"), known.get("Path")
    if isinstance(name, str):
        try:
            volume, relative = machine.resolve(name)
            if relative and volume.letter is not None:
                yield volume, volume.files.stat(relative)
        except FileSystemError:
            return
        return
    for volume in machine.volumes():
        if volume.letter is None or volume.is_raw:
            continue
        if isinstance(drive, str) and drive.rstrip("\\").rstrip(":").upper() != volume.letter:
            continue
        try:
            if isinstance(path, str):
                folder = path.strip("\\")
                for entry in volume.listdir(folder):
                    yield volume, volume.files.stat(f"{folder}\\{entry}".strip("\\"))
            else:
                yield from ((volume, entry) for entry in volume.walk())
        except FileSystemError:
            continue


def _row(
    machine: Machine, volume: Volume, entry: FileStat, class_name: str, held: Mapping[tuple[str, str], str]
) -> Row:
    stem, dot, extension = entry.name.rpartition(".")
    folder = "\\" + entry.path.rpartition("\\")[0]
    in_use = bool(held) and volume.key_of(entry.path) in held
    row: Row = {
        "AccessMask": 2032127,
        "Archive": not entry.is_directory,
        "Caption": f"{volume.letter}:\\{entry.path}".lower(),
        "Compressed": False,
        "CreationClassName": class_name,
        "CreationDate": entry.created,
        "CSCreationClassName": "Win32_ComputerSystem",
        "CSName": machine.netbios_name,
        "Description": f"{volume.letter}:\\{entry.path}".lower(),
        "Drive": f"{volume.letter}:".lower(),
        "EightDotThreeFileName": f"{volume.letter}:\\{entry.path}".lower(),
        "Encrypted": False,
        "Extension": extension.lower() if dot and not entry.is_directory else "",
        "FileName": (stem if dot and not entry.is_directory else entry.name).lower(),
        "FileSize": entry.size if not entry.is_directory else None,
        "FileType": "File Folder" if entry.is_directory else f"{extension.lower()} File".strip(),
        "FSCreationClassName": "Win32_FileSystem",
        "FSName": volume.file_system,
        "Hidden": bool(entry.attributes & ATTRIBUTE_HIDDEN),
        "InstallDate": entry.created,
        "InUseCount": 1 if in_use else None,
        "LastAccessed": entry.modified,
        "LastModified": entry.modified,
        "Name": f"{volume.letter}:\\{entry.path}".lower(),
        "Path": (folder + "\\").replace("\\\\", "\\").lower(),
        "Readable": not in_use,
        "Status": "OK",
        "System": bool(entry.attributes & ATTRIBUTE_SYSTEM),
        "Writeable": not entry.attributes & ATTRIBUTE_READ_ONLY,
    }
    return row


@view(NS, "CIM_DataFile")
def data_files(machine: Machine, known: Known) -> Iterable[Row]:
    held = machine.locked_files()
    for volume, entry in _matches(machine, known):
        if not entry.is_directory:
            row = _row(machine, volume, entry, "CIM_LogicalFile", held)
            if str(row["Path"]).startswith("\\windows\\") and row["Extension"] in ("exe", "dll"):
                # the version resource of the system's own programs: virt-who asks vmms.exe for the host's version
                machine.world.assume("program-version")
                row |= {"Manufacturer": "Microsoft Corporation", "Version": f"{machine.os.version}.1"}
            yield row


@view(NS, "Win32_Directory")
def directories(machine: Machine, known: Known) -> Iterable[Row]:
    for volume, entry in _matches(machine, known):
        if entry.is_directory:
            yield _row(machine, volume, entry, "CIM_LogicalFile", {})


_CODES = {2: 9, 3: 9, 5: 2, 19: 2, 32: 15, 80: 10, 112: 8, 123: 9, 145: 14, 183: 10}
"""Win32 error -> return code of CIM_LogicalFile methods (2 denied, 8 failed, 9 invalid, 10 exists, 15 shared)."""


@method(NS, "CIM_LogicalFile", "Delete")
def delete_file(machine: Machine, target: Instance | None, _arguments: dict[str, Value]) -> Row:
    try:
        volume, relative = machine.resolve(str(target.get("Name")) if target is not None else "")
        volume.delete(relative, recursive=True)
    except FileSystemError as problem:
        return {"ReturnValue": _CODES.get(problem.code, 8)}
    return {"ReturnValue": 0}


@method(NS, "CIM_LogicalFile", "Rename")
def rename_file(machine: Machine, target: Instance | None, arguments: dict[str, Value]) -> Row:
    try:
        volume, relative = machine.resolve(str(target.get("Name")) if target is not None else "")
        other, new = machine.resolve(str(arguments.get("FileName", "")))
        if other.guid != volume.guid:
            return {"ReturnValue": 11}
        volume.rename(relative, new)
    except FileSystemError as problem:
        return {"ReturnValue": _CODES.get(problem.code, 8)}
    return {"ReturnValue": 0}


@method(NS, "CIM_LogicalFile", "Copy")
def copy_file(machine: Machine, target: Instance | None, arguments: dict[str, Value]) -> Row:
    try:
        volume, relative = machine.resolve(str(target.get("Name")) if target is not None else "")
        other, new = machine.resolve(str(arguments.get("FileName", "")))
        if other.exists(new):
            return {"ReturnValue": 10}
        other.write(new, volume.read(relative))
    except FileSystemError as problem:
        return {"ReturnValue": _CODES.get(problem.code, 8)}
    return {"ReturnValue": 0}
