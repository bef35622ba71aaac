# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
r"""Backup targets: a local volume or a share, and whether it can be used.

Responsible for the form of a target and for what is known about it before a backup starts. Not responsible for whether a
share is reachable: only the run itself, as the machine's own account, can tell. Facts: backup-engines 1.3, 1.4.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .._wsman.errors import shortened
from .errors import TargetRefused

MAX_TARGET_CHARS = 200
FILE_SYSTEMS = frozenset({"NTFS", "REFS"})
VERSIONS_FOLDER = "WindowsImageBackup"  # in the root of a target that holds versions (backup-engines 1.3)

# cmd.exe cannot be handed these inside its own command line in a way that survives delayed expansion.
_REFUSED = re.compile(r"[\x00-\x1f\x7f\"%!^<>|*]")
_LETTER = re.compile(r"([A-Za-z]):\\?")
_VOLUME = re.compile(r"\\\\\?\\Volume\{([0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})\}\\?")
_FOLDER = re.compile(r"[A-Za-z]:(?:\\[^\\/?:]+)+\\?")
_SHARE = re.compile(r"\\\\[^\\/?.:]+[^\\/?:]*\\[^\\/?:]+(?:\\[^\\/?:]+)*\\?")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
    """`text` is how wbadmin takes it: `E:`, `\\\\?\\Volume{guid}\\` or `\\\\server\\share\\folder` (no backslash at its end)."""

    kind: str  # volume | share | folder
    text: str
    letter: str | None = None
    volume: str | None = None  # GUID path

    @property
    def root(self) -> str:
        """Folder text to put names behind, without a backslash at its end."""
        return self.text.rstrip("\\")


def parse_target(text: str, *, folders: bool = False) -> Target:
    """Read a target; `folders` takes a folder of a drive (`E:\\backups`) as well, which Windows Server Backup does not.

    Raises `TargetRefused`: `target_characters` or `target_invalid`.
    """
    wanted = text.strip()
    if _REFUSED.search(wanted) or len(wanted) > MAX_TARGET_CHARS:
        raise TargetRefused(
            "target_characters",
            f"The target {shortened(text, 200)!r} holds a quote, a percent sign, an exclamation mark, a caret or another character that a "
            f"command line on Windows cannot carry, or is longer than {MAX_TARGET_CHARS} characters; choose another name.",
        )
    if match := _LETTER.fullmatch(wanted):
        letter = match[1].upper()
        return Target(kind="volume", text=f"{letter}:", letter=letter)
    if match := _VOLUME.fullmatch(wanted):
        path = f"\\\\?\\Volume{{{match[1].lower()}}}\\"
        return Target(kind="volume", text=path, volume=path)
    if folders and _FOLDER.fullmatch(wanted) and not any(part in (".", "..") for part in wanted.split("\\")):
        return Target(kind="folder", text=wanted[:1].upper() + wanted[1:].rstrip("\\"), letter=wanted[0].upper())
    if _SHARE.fullmatch(wanted) and not any(part in (".", "..") for part in wanted.split("\\")):
        return Target(kind="share", text=wanted.rstrip("\\"))
    halved = re.match(r"\\[^\\]", wanted) is not None
    raise TargetRefused(
        "target_invalid",
        f"The target '{wanted}' is none that {'this engine' if folders else 'Windows Server Backup'} takes; write a drive letter "
        f"(E:), {'a folder of one (E:' + chr(92) + 'backups), ' if folders else ''}a volume GUID path or a "
        "share (\\\\server\\share, with folders if you like; mapped letters do not exist for the SYSTEM account)."
        + (
            " A share begins with two backslashes; -e name=value makes one of two, -e with JSON or a file does not."
            * halved
        ),
    )


def run_target(target: Target, label: str, run_id: str) -> Target:
    r"""Where one run writes to: the volume itself, on a share a folder of its own (`<share>\<label>\<run id>`).

    A folder on a share holds one backup per computer; the next run would overwrite it, and a failed one leave none.
    """
    if target.kind != "share":
        return target
    return dataclasses.replace(target, text=f"{target.root}\\{folder_name(label)}\\{run_id}")


def folder_name(label: str) -> str:
    """A folder name for any VM name: what is not plain is replaced and a digest keeps different names apart."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", label).strip("_")[:40]
    if plain == label and plain:
        return plain
    digest = hashlib.sha256(label.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{plain}-{digest}" if plain else digest


def check_target(
    target: Target,
    *,
    volumes: Sequence[Mapping[str, Any]],
    source_paths: Iterable[str] = (),
    left_out_paths: Iterable[str] = (),
    needed_bytes: int | None = None,
    may_be_pruned: bool = False,
) -> None:
    """Refuse a target that cannot work, by what is known before the run.

    Args:
        volumes: of the machine that runs the backup: `path`, `letter`, `file_system`, `size_bytes`, `used_bytes` or
            `free_bytes`.
        source_paths: volume GUID paths that are backed up.
        left_out_paths: GUID paths of volumes on this VM's left-out disks: the backup would lie on what it is to save.
        needed_bytes: used bytes of what is backed up; None skips the check of room.
        may_be_pruned: older versions may lie there, which Windows Server Backup drops when it needs room (backup-engines 1.4):
            then only a target that is too small as a whole is refused.

    Raises: `TargetRefused`: `target_missing`, `target_is_source`, `target_on_left_out_disk`, `target_file_system`,
        `target_full`. A share is not looked at.
    """
    if target.kind == "share":
        return
    found = next((volume for volume in volumes if _is_target(target, volume)), None)
    if found is None:
        known = ", ".join(sorted(f"{volume.get('letter')}:" for volume in volumes if volume.get("letter")))
        raise TargetRefused(
            "target_missing",
            f"The target {target.text} is not a volume of this machine; it has {known or 'no volume with a letter'}.",
        )
    path = str(found.get("path") or "").casefold()
    if path in {text.casefold() for text in source_paths}:
        raise TargetRefused(
            "target_is_source", f"The target {target.text} is one of the volumes to back up; choose another volume."
        )
    if path in {text.casefold() for text in left_out_paths}:
        raise TargetRefused(
            "target_on_left_out_disk",
            f"The target {target.text} lies on a disk of the same VM that the host's backup leaves out; "
            "choose a volume on another machine's storage.",
        )
    file_system = str(found.get("file_system") or "").upper()
    if file_system not in FILE_SYSTEMS:
        raise TargetRefused(
            "target_file_system",
            f"The target {target.text} has the file system {file_system or 'RAW'}; Windows Server Backup needs NTFS or ReFS.",
        )
    free = found.get("size_bytes") if may_be_pruned else _free_bytes(found)
    if needed_bytes is not None and free is not None and free < needed_bytes:
        raise TargetRefused(
            "target_full",
            f"The target {target.text} has {free} bytes {'in all' if may_be_pruned else 'free'} and the backup can need "
            f"{needed_bytes}; make room or choose another target.",
        )


def _is_target(target: Target, volume: Mapping[str, Any]) -> bool:
    if target.letter is not None:
        return str(volume.get("letter") or "").rstrip(":\\").upper() == target.letter
    return str(volume.get("path") or "").casefold() == str(target.volume).casefold()


def _free_bytes(volume: Mapping[str, Any]) -> int | None:
    free = volume.get("free_bytes")
    if free is None and volume.get("size_bytes") is not None and volume.get("used_bytes") is not None:
        free = volume["size_bytes"] - volume["used_bytes"]
    return None if free is None else int(free)
