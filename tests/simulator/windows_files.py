# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files as a program meets them: relative paths, wildcards, who may reach a share, which file another program writes.

Not here: the bytes (file_system.py), the volumes (volumes.py), which path lies on which volume (Machine.resolve).
"""

from __future__ import annotations

import re
from typing import Any

from .file_system import (
    ATTRIBUTE_HIDDEN,
    ATTRIBUTE_SYSTEM,
    ERROR_ACCESS_DENIED,
    ERROR_FILE_NOT_FOUND,
    ERROR_INVALID_NAME,
    ERROR_PATH_NOT_FOUND,
    ERROR_SHARING_VIOLATION,
    FileStat,
    FileSystemError,
    fold,
)
from .processes import Process, Sink, Token

__all__ = ["FileSink", "FileSystemError", "Files", "join", "parent_folder"]


def is_rooted(path: str) -> bool:
    return path.startswith("\\\\") or path[1:2] == ":"


def join(folder: str, name: str) -> str:
    return folder + name if folder.endswith("\\") else f"{folder}\\{name}"


def parent_folder(path: str) -> str:
    return path.rstrip("\\").rpartition("\\")[0]


def root_of(path: str) -> str:
    r"""`C:\`, `\\?\Volume{..}\`, the device of a shadow copy or `\\server\share\`; "" when the path has none."""
    match = re.match(
        r"[A-Za-z]:\\?|\\\\\?\\Volume\{[0-9A-Fa-f-]+\}\\?|\\\\\?\\GLOBALROOT\\Device\\HarddiskVolumeShadowCopy\d+\\?"
        r"|\\\\[^\\?]+\\[^\\]+\\?",
        path,
        re.IGNORECASE,
    )
    return match[0] if match else ""


class Files:
    """The file system of a machine as one token sees it from one current directory."""

    def __init__(self, machine: Any, token: Token, directory: str) -> None:
        self._machine = machine
        self._token = token
        self.directory = directory

    # -- names ---------------------------------------------------------------------------------------------------

    def absolute(self, path: str) -> str:
        path = path.replace("/", "\\").replace('"', "")
        if path.startswith("\\") and not path.startswith("\\\\"):
            path = root_of(self.directory).rstrip("\\") + path
        elif path[1:2] == ":" and path[2:3] != "\\":
            same = path[0].upper() == self.directory[:1].upper()
            path = join(self.directory if same else f"{path[:2]}\\", path[2:]) if path[2:] else path[:2] + "\\"
        elif not is_rooted(path):
            path = join(self.directory, path) if path else self.directory
        root = root_of(path)
        if not root:
            raise FileSystemError(ERROR_INVALID_NAME, path)
        parts: list[str] = []
        for part in path[len(root) :].split("\\"):
            if part == "..":
                parts = parts[:-1]
            elif part not in {"", "."}:
                parts.append(part.rstrip(" .") or part)
        return root.rstrip("\\") + "\\" + "\\".join(parts) if parts else root.rstrip("\\") + "\\"

    def locate(self, path: str, *, write: bool = False) -> tuple[Any, str]:
        """(volume, path below its root). A share that the token cannot reach is refused with 5, as Windows does."""
        absolute = self.absolute(path)
        account = self._token.full_name
        if absolute.startswith("\\\\") and not absolute.startswith("\\\\?\\"):
            server = absolute[2:].partition("\\")[0].partition(".")[0].lower()
            if self._token.kind == "system":
                account = "SYSTEM"  # Machine.resolve turns it into the computer account
            elif server not in {str(self._machine.name).lower(), str(self._machine.netbios_name).lower(), "localhost"}:
                identity = self._token.network_identity(str(self._machine.netbios_name))
                if identity is None:
                    raise FileSystemError(ERROR_ACCESS_DENIED, path)
                account = identity
        volume, below = self._machine.resolve(absolute, account, write=write)
        return volume, below

    def real_name(self, path: str) -> str:
        """The absolute path with the letter case that the volume has."""
        volume, below = self.locate(path)
        absolute = self.absolute(path)
        stored = volume.stat(below).path if below else ""
        return absolute[: len(absolute) - len(stored)] + stored if stored else absolute

    # -- questions -------------------------------------------------------------------------------------------------

    def stat(self, path: str) -> FileStat:
        volume, below = self.locate(path)
        found: FileStat = volume.stat(below)
        return found

    def exists(self, path: str) -> bool:
        if "*" in path or "?" in path.removeprefix("\\\\?\\"):
            return bool(self.matching(path))
        try:
            self.stat(path)
        except FileSystemError:
            return False
        return True

    def is_folder(self, path: str) -> bool:
        try:
            return self.stat(path).is_directory
        except FileSystemError:
            return False

    def listdir(self, path: str) -> list[FileStat]:
        volume, below = self.locate(path)
        names: list[str] = volume.listdir(below)
        return [volume.stat(f"{below}\\{name}" if below else name) for name in names]

    def matching(self, pattern: str) -> list[str]:
        """Absolute paths of files and folders that a pattern with wildcards in its last part names."""
        absolute = self.absolute(pattern)
        folder, _unused, last = absolute.rpartition("\\")
        expression = wildcard(last)
        try:
            entries = self.listdir(folder + "\\")
        except FileSystemError:
            return []
        return [join(folder, entry.name) for entry in entries if expression.fullmatch(fold(entry.name))]

    def read(self, path: str) -> bytes:
        volume, below = self.locate(path)
        data: bytes = volume.read(below)
        return data

    def hidden(self, entry: FileStat) -> bool:
        return bool(entry.attributes & (ATTRIBUTE_HIDDEN | ATTRIBUTE_SYSTEM))

    # -- changes ----------------------------------------------------------------------------------------------------

    def write(self, path: str, data: bytes) -> None:
        volume, below = self._writable(path)
        volume.write(below, data)

    def append(self, path: str, data: bytes) -> None:
        volume, below = self.locate(path, write=True)
        volume.append(below, data)

    def mkdir(self, path: str) -> None:
        """With all folders above, as cmd.exe's md does."""
        volume, below = self.locate(path, write=True)
        volume.mkdir(below, parents=not volume.exists(below))

    def delete(self, path: str, *, recursive: bool = False) -> None:
        volume, below = self._writable(path)
        if recursive:
            for entry in list(volume.walk(below)):
                self._refuse_open(volume, entry.path)
        volume.delete(below, recursive=recursive)

    def rename(self, path: str, new: str) -> None:
        """Within one volume; across volumes it is copied and deleted."""
        volume, below = self._writable(path)
        target, target_below = self._writable(new)
        if target is volume or target.guid == volume.guid:
            volume.rename(below, target_below)
            return
        if volume.stat(below).is_directory:
            raise FileSystemError(ERROR_ACCESS_DENIED, path)
        target.write(target_below, volume.read(below))
        volume.delete(below)

    def _writable(self, path: str) -> tuple[Any, str]:
        volume, below = self.locate(path, write=True)
        self._refuse_open(volume, below)
        return volume, below

    def _refuse_open(self, volume: Any, below: str) -> None:
        if volume.key_of(below) in self._machine.processes.open_files:
            raise FileSystemError(ERROR_SHARING_VIOLATION, below)

    def open_for_writing(self, path: str, *, append: bool, owner: Process) -> FileSink:
        volume, below = self._writable(path)
        if volume.exists(below) and volume.stat(below).is_directory:
            raise FileSystemError(ERROR_ACCESS_DENIED, path)
        if not append or not volume.exists(below):
            volume.write(below, b"")
        return FileSink(volume, below, owner, self._machine.processes.open_files)

    def missing(self, path: str) -> int:
        """Which "not found" Windows gives: 2 when only the last part is missing, 3 when a folder above is."""
        try:
            folder = parent_folder(self.absolute(path))
            return ERROR_FILE_NOT_FOUND if self.is_folder(folder + "\\") else ERROR_PATH_NOT_FOUND
        except FileSystemError as problem:
            return problem.code


def wildcard(pattern: str) -> re.Pattern[str]:
    """`*.*` means every name; `?` one letter; names are compared folded."""
    folded = fold(pattern)
    if folded == "*.*":
        folded = "*"
    return re.compile("".join(".*" if c == "*" else "." if c == "?" else re.escape(c) for c in folded), re.DOTALL)


class FileSink(Sink):
    """Output into a file that nobody else may write, move or delete until `close` or the end of its owner."""

    def __init__(self, volume: Any, below: str, owner: Process, open_files: dict[tuple[str, str], Process]) -> None:
        self._volume = volume
        self._below = below
        self._open_files = open_files
        self._key = volume.key_of(below)
        open_files[self._key] = owner

    def write(self, data: bytes) -> None:
        if data:
            self._volume.append(self._below, data)

    def close(self) -> None:
        self._open_files.pop(self._key, None)
