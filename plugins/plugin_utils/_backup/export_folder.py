# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
r"""The folder of one export: where it lies, what stands in it, whether it is whole, and removing it again.

Responsible for `<target>\hyperv.passthrough\exports\<VM>\<run id>` with its `Virtual Machines\<GUID>.vmcx` and
`Virtual Hard Disks\...`, as Hyper-V makes them (hyperv-wmi 7.4). Not responsible for making them (`export.py`).

A folder on a drive is listed over CIM, every file with its size. Of a share CIM knows nothing, because the connection's account
has no second hop; Hyper-V itself reads there as the computer account, which is who reads it when a VM is restored, and tells of
each virtual hard disk what it is. The definition alone has no such reader, so that on a share the export job's success stands
for it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .._hyperv.guest import file_evidence
from .._hyperv.host import read_virtual_hard_disk
from .._hyperv.host_files import FILE_CODES
from .._hyperv.jobs import Hands, act
from .._hyperv.schema import CIMV2
from .._wsman import CimPath, NotFound, wql_literal
from .target import folder_name, parse_target

EXPORTS = "hyperv.passthrough\\exports"
DEFINITIONS, DISKS = "Virtual Machines", "Virtual Hard Disks"
_MAX_FILES = 500
_MAX_DEPTH = 3
_SMALLEST_DEFINITION = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportedDisk:
    """One virtual hard disk of an export.

    Attributes:
        path: the VM's file, as it stood still while it was copied; a restore puts it back there.
        file: its name in the export's folder of disks.
        file_size_bytes: of the VM's file at that time.
    """

    path: str
    file: str
    format: str | None
    type: str | None
    id: str | None
    size_bytes: int | None
    file_size_bytes: int | None

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def read_disk(client: Any, path: str) -> ExportedDisk:
    """What a VM's virtual hard disk is now."""
    found = read_virtual_hard_disk(client, path)
    return ExportedDisk(
        path=path,
        file=path.rpartition("\\")[2],
        format=found.format,
        type=found.type,
        id=found.id,
        size_bytes=found.size_bytes,
        file_size_bytes=found.file_size_bytes,
    )


def disks_of(evidence: Mapping[str, Any]) -> tuple[ExportedDisk, ...]:
    """The disks that an export's evidence recorded; what is malformed is left out."""
    fields = [field.name for field in dataclasses.fields(ExportedDisk)]
    rows = evidence.get("disks")
    found = []
    for row in rows if isinstance(rows, Sequence) and not isinstance(rows, str) else ():
        if isinstance(row, Mapping) and row.get("path") and row.get("file"):
            given: dict[str, Any] = {name: row.get(name) for name in fields}
            found.append(ExportedDisk(**given))
    return tuple(found)


def export_folder(target: str, label: str, run_id: str) -> str:
    r"""`<target>\hyperv.passthrough\exports\<VM>\<run id>`. Raises `TargetRefused`."""
    return f"{parse_target(target, folders=True).root}\\{EXPORTS}\\{folder_name(label)}\\{run_id}"


def is_ours(folder: str, run_id: str) -> bool:
    """Whether a folder is one that a run of that id made; nothing else is ever deleted."""
    parts = folder.casefold().split("\\")
    return len(parts) > 4 and parts[-1] == run_id.casefold() and parts[-4:-2] == EXPORTS.casefold().split("\\")


def definition_file(folder: str, vm_id: str) -> str:
    return f"{folder}\\{DEFINITIONS}\\{vm_id.upper()}.vmcx"


def disk_file(folder: str, name: str) -> str:
    return f"{folder}\\{DISKS}\\{name}"


def is_on_share(folder: str) -> bool:
    return folder.startswith("\\\\")


def listed_files(client: Any, folder: str) -> dict[str, int] | None:
    """Every file below a folder of a drive with its size in bytes, by lower-case path; None for a share."""
    if is_on_share(folder):
        return None
    found: dict[str, int] = {}
    for path, size in _entries(client, folder, _MAX_DEPTH):
        if size is not None:
            found[path.casefold()] = size
    return found


def _entries(client: Any, folder: str, depth: int) -> Iterable[tuple[str, int | None]]:
    """Files with their sizes, folders with None; inner ones first."""
    drive, rest = folder[:2], folder[2:].rstrip("\\") + "\\"
    where = f"Drive = {wql_literal(drive)} AND Path = {wql_literal(rest)}"
    rows = client.query(CIMV2, "CIM_LogicalFile", where=where)
    for row in rows[:_MAX_FILES]:
        name = str(row.get("Name") or "")
        if row.class_name.casefold() in ("win32_directory", "cim_directory"):
            if depth > 1:
                yield from _entries(client, name, depth - 1)
            yield name, None
        else:
            size = row.get("FileSize")
            yield name, size if isinstance(size, int) else 0


def problems_of(client: Any, folder: str, vm_id: str, disks: Sequence[ExportedDisk]) -> list[str]:
    """What an export lacks: its definition, a disk, a disk's size. Empty when it is whole."""
    problems = []
    files = listed_files(client, folder)
    definition = definition_file(folder, vm_id)
    if files is not None and files.get(definition.casefold(), 0) < _SMALLEST_DEFINITION:
        problems.append(f"the definition {definition} is not there")
    for disk in disks:
        path = disk_file(folder, disk.file)
        if files is not None and path.casefold() not in files:
            problems.append(f"{path} is not there")
            continue
        found = read_virtual_hard_disk(client, path)
        size = found.file_size_bytes if files is None else files[path.casefold()]
        if found.problem or found.size_bytes is None:
            problems.append(f"{path} cannot be read ({found.problem or 'its size is not told'})")
        elif found.type == "differencing":
            problems.append(f"{path} is a differencing disk, so that it is not whole by itself")
        elif disk.size_bytes is not None and found.size_bytes != disk.size_bytes:
            problems.append(f"{path} holds {found.size_bytes} bytes instead of {disk.size_bytes}")
        elif found.type == "fixed" and size is not None and size < found.size_bytes:
            problems.append(f"{path} has {size} bytes, less than the {found.size_bytes} of its disk")
        elif size is not None and size < 1:
            problems.append(f"{path} is empty")
    return problems


def remove_export(client: Any, folder: str, run_id: str, hands: Hands) -> list[str]:
    """Delete the files and folders of an export that is ours, as far as CIM reaches them; what is left, as paths.

    A share is left as it is: the connection's account cannot reach it.
    """
    if not is_ours(folder, run_id):
        raise ValueError(f"{folder} is no export of run {run_id}")
    if is_on_share(folder):
        return [folder]
    left = []
    for path, size in [*_entries(client, folder, _MAX_DEPTH), (folder, None)]:
        class_name = "CIM_Directory" if size is None else "CIM_DataFile"
        if size is None and not has_directory(client, path):
            continue
        try:
            act(
                client,
                CimPath(CIMV2, class_name, {"Name": path}),
                "Delete",
                {},
                hands,
                what=f"Deleting {path} of an export that is not used",
                codes=FILE_CODES,
            )
        except NotFound:
            continue
        there = has_directory(client, path) if size is None else file_evidence(client, path) is not None
        if there:
            left.append(path)
    return left


def has_directory(client: Any, path: str) -> bool:
    return bool(client.query(CIMV2, "Win32_Directory", where=f"Name = {wql_literal(path)}"))
