# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
r"""Copies of a backup set outside the host's registry, so that a lost host can be rebuilt from one.

The copy beside the backup is written by the machine itself: a small job as SYSTEM runs `reg export` of the set's key into
`<target>\hyperv.passthrough\<set id>.reg`; on a share the machine's computer account writes it. `reg import` of that file
puts the set back on a rebuilt host; `parse_reg_export` reads it on the controller. The copy on the controller is
`BackupSet.to_json()`.
"""

from __future__ import annotations

import re

from .backup_set import MAX_RECORD_CHARS, BackupSet, check_set_id, from_json
from .detached_job import DetachedJobs, Step, argument
from .engine import Waiting
from .errors import BackupError, SetUnreadable
from .set_store import RECORD, REGISTRY_BASE, SETS_KEY
from .target import parse_target
from .wbadmin_text import last_lines

COPIES_FOLDER = "hyperv.passthrough"

_OUT, _RC = "copy.txt", "copy-rc.txt"
_THERE_RC = "there-rc.txt"
_REG_HEADER = "Windows Registry Editor Version 5.00"
_REG_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"="((?:[^"\\]|\\.)*)"', re.DOTALL)
_REG_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


def copy_path(item: BackupSet, target: str) -> str:
    r"""Where the copy lies: `<target>\hyperv.passthrough\<set id>.reg`. Raises `TargetRefused`."""
    return f"{parse_target(target, folders=True).root}\\{COPIES_FOLDER}\\{check_set_id(item.set_id)}.reg"


def copy_run_id(item: BackupSet) -> str:
    """One job for each revision, so that a rerun finds the copy of this revision made."""
    return f"{check_set_id(item.set_id).lower()}.copy.{item.revision}"


def copy_steps(item: BackupSet, target: str) -> tuple[Step, ...]:
    path = copy_path(item, target)
    folder = path.rpartition("\\")[0]
    key = f"HKLM\\{REGISTRY_BASE}\\{SETS_KEY}\\{item.set_id}"
    return (
        Step(command=f"md {argument(folder)}"),
        Step(command=f"reg export {argument(key)} {argument(path)} /y", output=_OUT, exit_code=_RC),
    )


def copy_set(jobs: DetachedJobs, item: BackupSet, target: str, waiting: Waiting) -> str:
    """Write the stored record of a set beside its backup; returns the path.

    Args:
        jobs: of the Hyper-V host, whose registry holds the set (write it there first).
        target: the host phase's target as the operator wrote it.

    Raises: `BackupError` of kind `copy_failed`; the set itself is not touched by that.
    """
    seen = jobs.run_small(
        copy_run_id(item),
        copy_steps(item, target),
        f"copy of backup set {item.set_id}",
        exit_code=_RC,
        files=[_OUT],
        waiting=waiting,
    )
    if not seen.is_done or seen.exit_code(_RC) != 0:
        said = last_lines(seen.files.get(_OUT, b""))
        raise BackupError(
            "copy_failed",
            f"The copy of set {item.set_id} could not be written to {copy_path(item, target)}"
            + (f" ({said})" if said else "")
            + "; the set is safe in the host's registry. Give the computer account of the host rights on the target.",
        )
    return copy_path(item, target)


def remove_copy(jobs: DetachedJobs, item: BackupSet, path: str, waiting: Waiting) -> str:
    """Remove a copy that `copy_set` wrote; returns why it is still there, a sentence, or an empty text.

    Only a file of this set's name in a folder of ours is removed. What is not there is removed.
    """
    folder, _slash, name = path.rpartition("\\")
    if name != f"{item.set_id}.reg" or folder.rpartition("\\")[2] != COPIES_FOLDER:
        return f"the copy {path} is not named as a copy of set {item.set_id} and was left where it is"
    run_id = f"{check_set_id(item.set_id).lower()}.uncopy"
    steps = (
        Step(command=f"del /q {argument(path)}"),
        Step(command=f"dir /b {argument(path)}", output=_OUT, exit_code=_THERE_RC),
        Step(command=f"dir /b {argument(folder)}", exit_code=_RC),
    )
    jobs.discard(run_id)
    try:
        seen = jobs.run_small(run_id, steps, f"removal of {path}", exit_code=_RC, files=[_THERE_RC], waiting=waiting)
    finally:
        jobs.discard(run_id)
    if seen.is_done and seen.exit_code(_RC) == 0 and seen.exit_code(_THERE_RC) not in (0, None):
        return ""
    return f"the copy {path} of set {item.set_id} could not be removed, or its folder could not be read"


def parse_reg_export(data: bytes) -> BackupSet:
    r"""The set in a file that `reg export` wrote for its key.

    Such a file is UTF-16 with a byte order mark, a header line, `[key]` lines and `"name"="data"` lines in which `\` and
    `"` are escaped by a backslash. Raises `SetUnreadable`.
    """
    if len(data) > MAX_RECORD_CHARS * 8:
        raise SetUnreadable("set_unreadable", f"The file has {len(data)} bytes, far too many for a backup set.")
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as err:
        raise SetUnreadable("set_unreadable", "The file is not text as `reg export` writes it.") from err
    if not text.lstrip().startswith(_REG_HEADER):
        raise SetUnreadable("set_unreadable", "The file is no export of the registry (its first line is another).")
    # line by line, because the pattern is linear only from the beginning of a value; a record has no line break
    values = [match.groups() for line in text.split("\n") if (match := _REG_STRING.fullmatch(line.strip("\r")))]
    records = [
        _REG_ESCAPE.sub(r"\1", value)
        for name, value in values
        if _REG_ESCAPE.sub(r"\1", name).casefold() == RECORD.casefold()
    ]
    if len(records) != 1:
        raise SetUnreadable(
            "set_unreadable", f"The file holds {len(records)} records of a backup set, one was expected."
        )
    return from_json(records[0], name="the exported set")
