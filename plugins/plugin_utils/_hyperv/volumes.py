# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""The volumes that a Windows machine has mounted: what a backup target is chosen from.

Responsible for: one query of Win32_Volume and its records. Not responsible for: which disk a volume lies on
(`guest_disks.py`), or whether it may be a target (`_backup/target.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

from .._wsman import CimInstance, wql_literal
from .cim_access import CimClient
from .schema import CIMV2


@dataclass(frozen=True, kw_only=True)
class MountedVolume:
    r"""`path` is the volume's GUID path, `letter` has no colon; sizes are None for what has no file system."""

    path: str
    letter: str | None
    file_system: str | None
    size_bytes: int | None
    free_bytes: int | None

    def to_dict(self) -> dict[str, object]:
        return {
            "path": self.path,
            "letter": self.letter,
            "file_system": self.file_system,
            "size_bytes": self.size_bytes,
            "free_bytes": self.free_bytes,
        }


def mounted_volumes(client: CimClient) -> tuple[MountedVolume, ...]:
    """All volumes that Win32_Volume shows (windows-storage 3.8)."""
    return tuple(_volume(row) for row in client.query(CIMV2, "Win32_Volume"))


def has_folder(client: CimClient, letter: str, name: str) -> bool:
    """Whether a folder of that name lies in the root of a drive."""
    where = f"Drive = {wql_literal(letter + ':')} AND Path = {wql_literal(chr(92))}"
    rows = client.query(CIMV2, "CIM_LogicalFile", where=where)
    return any(str(row.get("Name") or "").rpartition("\\")[2].casefold() == name.casefold() for row in rows)


def _volume(row: CimInstance) -> MountedVolume:
    letter = str(row.get("DriveLetter") or "").rstrip(":\\") or None
    return MountedVolume(
        path=str(row.get("DeviceID") or ""),
        letter=letter,
        file_system=str(row.get("FileSystem") or "") or None,
        size_bytes=_number(row.get("Capacity")),
        free_bytes=_number(row.get("FreeSpace")),
    )


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
