# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
r"""Single files of a Windows machine: is it there, give it its final name, remove what we ourselves left unfinished.

Only paths on a drive letter: CIM_DataFile knows a file by its whole name such as `V:\sql01-data.vhd`.

Not here: reading a file's content, folders, what a file holds (`image_service` for virtual hard disks).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from .._wsman import CimPath, NotFound
from .cim_access import CimClient
from .errors import HypervError, Precondition
from .guest import file_evidence
from .guest_model import FileEntry
from .jobs import Hands, act, look_until
from .schema import CIMV2

# documentation of CIM_DataFile (CIMWin32 provider): return values of Rename and Delete
FILE_CODES: Mapping[int, str] = {
    2: "access denied",
    8: "unspecified failure",
    9: "invalid object",
    10: "an object of that name exists",
    11: "not an NTFS file system",
    12: "not Windows NT",
    13: "another drive",
    14: "the directory is not empty",
    15: "sharing violation: the file is in use",
    16: "invalid start file",
    17: "a privilege is not held",
    21: "invalid parameter",
}

_ON_A_DRIVE = re.compile(r"[A-Za-z]:\\(?:[^\\/:*?\"<>|\x00-\x1f]+\\)*[^\\/:*?\"<>|\x00-\x1f]+\Z")


def check_file_path(path: str) -> str:
    r"""The path, if it is one that CIM_DataFile knows. Raises: HypervError (`bad_path`)."""
    if not _ON_A_DRIVE.match(path) or any(part.strip(" .") != part or part == ".." for part in path.split("\\")[1:]):
        raise HypervError(
            "bad_path",
            rf"{path!r} is not the whole path of a file on a drive of the host, such as V:\folder\disk.vhdx.",
        )
    return path


def file_at(client: CimClient, path: str) -> FileEntry | None:
    """The file's name and size, None when there is none."""
    return file_evidence(client, check_file_path(path))


def rename_file(client: CimClient, path: str, new_path: str, hands: Hands) -> None:
    """Give a file another name on the same drive; nothing happens when it has it already.

    Raises: Precondition `file_exists` (the new name is taken), `file_missing`.
    """
    check_file_path(new_path)
    there, taken = file_at(client, path), file_at(client, new_path)
    if taken is not None and there is None:
        return
    if taken is not None:
        raise Precondition(
            "file_exists", f"{path} cannot be renamed to {new_path}, because that file exists; move one of them away."
        )
    if there is None:
        raise Precondition("file_missing", f"Neither {path} nor {new_path} is there; look what became of the file.")
    what = f"Renaming {path} to {new_path}"
    act(client, _path(path), "Rename", {"FileName": new_path}, hands, what=what, codes=FILE_CODES)
    look_until(lambda: file_at(client, new_path), hands, what=what)


def delete_own_file(client: CimClient, path: str, hands: Hands) -> bool:
    """Delete an unfinished file that this collection made; whether there was one.

    The caller knows that it is ours and that nothing uses it; Windows refuses what is open.
    """
    if file_at(client, path) is None:
        return False
    what = f"Deleting the unfinished {path}"
    try:
        act(client, _path(path), "Delete", {}, hands, what=what, codes=FILE_CODES)
    except NotFound:
        return True
    look_until(lambda: True if file_at(client, path) is None else None, hands, what=what)
    return True


def _path(path: str) -> CimPath:
    return CimPath(CIMV2, "CIM_DataFile", {"Name": path})
