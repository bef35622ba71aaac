# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Responsible for copying one file as a program does it: real bytes, holes stay holes, time passes, and it can be cut off.

A large file first takes its whole size at the target and is filled when the time is over, so that whoever looks in between,
or a power cut, meets what Windows leaves. Used by cmd.exe's copy, xcopy and robocopy (programs/file_copies.py).
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from .assumed import assumed
from .content import copy_content
from .file_system import ERROR_DISK_FULL, FileSystemError
from .processes import Pause, Process, Wait
from .windows_files import Files

SLOW_SIZE = 1 << 20
"""From this size on a copy takes simulated time."""

BYTES_PER_SECOND = 100_000_000

assumed(
    "copy-interrupted",
    "A copy that is cut off in the middle leaves a file of full size without contents, or none",
    source="general knowledge: the size is set before the data are written",
    values=("full-size", "removed"),
)


def copy_file(machine: Any, files: Files, source: str, target: str, owner: Process) -> Generator[Wait, None, int]:
    """Copy a file with its modification time; returns its size. FileSystemError: 32 in use, 112 full, 19, 5, 2, 3, 53..."""
    volume, below = files.locate(source)
    volume.read(below, 0, 0)  # refuses what somebody holds open
    facts = volume.stat(below)
    sink = files.open_for_writing(target, append=False, owner=owner)
    whole = False
    try:
        goal_volume, goal = files.locate(target, write=True)
        content = goal_volume.files.create(goal, facts.size)
        if facts.size >= SLOW_SIZE:
            yield Pause(machine.now(), 1 + facts.size / BYTES_PER_SECOND, machine.world.looks_per_job)
            volume, below = files.locate(source)
            goal_volume, goal = files.locate(target, write=True)
            content = goal_volume.files.open(goal)
        copy_content(volume.files.open(below), content)
        goal_volume.files.set_modified(goal, facts.modified)
        whole = True
    except FileSystemError as problem:
        if problem.code == ERROR_DISK_FULL:
            _remove(files, target)
        raise
    finally:
        sink.close()
        if not whole and machine.world.assume("copy-interrupted") == "removed":
            _remove(files, target)
    return int(facts.size)


def _remove(files: Files, path: str) -> None:
    try:
        volume, below = files.locate(path, write=True)
        volume.files.delete(below)
    except FileSystemError:
        return
