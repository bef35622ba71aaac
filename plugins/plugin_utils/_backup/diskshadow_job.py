# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
r"""The scripts that diskshadow is given, and the steps of the detached jobs that run them.

Responsible for text: what stands in a script, how it is written into the job's folder, what else the job does. Not responsible
for detaching (`detached_job.py`) or for judging what came of it (`diskshadow_proof.py`).

A script is written by the job itself with cmd's own `echo`, because there is no way to write a file over CIM; `echo` ends its
lines with CRLF, which diskshadow wants (backup-engines 2). Shadow copies are named by their GUIDs; our aliases appear in the
creating script only, to bind what it prints to us.

Facts: backup-engines 2, 3.1, 5.2.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .detached_job import Step, argument, job_folder
from .diskshadow_options import DiskShadowOptions
from .errors import BackupError

HYPERV_WRITER = "66841cd4-6ded-4f4b-8f17-fd23f8ddc3de"  # backup-engines 3.1
ALIAS = "hvp"
METADATA = "metadata.cab"

SCRIPT = "script.txt"
LOG, RC = "log.txt", "rc.txt"
WRITERS_SCRIPT, WRITERS, WRITERS_RC = "writers-script.txt", "writers.txt", "writers-rc.txt"
PARTS_SCRIPT, PARTS, PARTS_RC = "parts-script.txt", "parts.txt", "parts-rc.txt"
CAB_LOG, CAB_RC = "cab.txt", "cab-rc.txt"
CAB2_LOG, CAB2_RC = "cab2.txt", "cab2-rc.txt"

_GUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_LINE_REFUSED = re.compile(r"[\x00-\x1f\x7f\"%!^&|<>()]")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceVolume:
    r"""A volume of the host that is shadow-copied: GUID path, letter if it has one (without colon)."""

    path: str
    letter: str | None = None

    @property
    def guid(self) -> str:
        match = _GUID.search(self.path)
        return match[0].lower() if match else ""

    @property
    def named(self) -> str:
        """As diskshadow is told: by its letter as all examples do, else by its GUID path; proven afterwards by its GUID."""
        return f"{self.letter.upper()}:" if self.letter else self.path

    def to_dict(self) -> dict[str, str | None]:
        return {"path": self.path, "letter": self.letter}


def alias(index: int) -> str:
    return f"{ALIAS}{index + 1}"


def backup_script(
    run_id: str, volumes: Sequence[SourceVolume], provider: str, options: DiskShadowOptions
) -> tuple[str, ...]:
    """The script that makes the shadow copies, with the Hyper-V writer taking part.

    `writer verify` makes diskshadow fail when the writer is not in it. `end backup` is followed by another command, so that the
    log shows whether it was passed: diskshadow echoes each command that it begins.
    """
    lines = ["set verbose on", f"set context {options.context.replace('_', '')}"]
    words = [options.copy_type] if options.copy_type else []
    if options.transportable:
        words.append("transportable")
    if words:
        lines.append(f"set option {' '.join(words)}")
    lines.append(f"set metadata {job_folder(run_id)}\\{METADATA}")
    lines.append("begin backup")
    for index, volume in enumerate(volumes):
        lines.append(f"add volume {volume.named} alias {alias(index)} provider {braced(provider)}")
    lines += [f"writer verify {braced(HYPERV_WRITER)}", "create", "end backup", "exit"]
    return tuple(lines)


def braced(guid: str) -> str:
    match = _GUID.search(guid)
    if match is None:
        raise BackupError("bad_request", f"{guid!r} is not a GUID.")
    return f"{{{match[0].lower()}}}"


def written(lines: Sequence[str], name: str) -> Step:
    """The step that writes a script into the job's folder; one group of echoes, so that nothing is appended twice."""
    for line in lines:
        if _LINE_REFUSED.search(line) or not line.strip() or line != line.strip():
            raise BackupError(
                "command_characters",
                f"The line {line!r} of a diskshadow script holds a character that a command line on Windows cannot carry.",
            )
    return Step(command="(" + "& ".join(f"echo {line}" for line in lines) + ")", output=name)


def run_script(run_id: str, script: str, log: str, exit_code: str) -> Step:
    return Step(command=f"diskshadow -s {job_folder(run_id)}\\{script}", output=log, exit_code=exit_code)


def backup_steps(
    run_id: str, volumes: Sequence[SourceVolume], provider: str, options: DiskShadowOptions, folder: str
) -> tuple[Step, ...]:
    """The backup job: the shadow copies, what the writers say afterwards and which parts they have (in files of their own, because
    the second can be long), the metadata file beside the record.

    Args:
        folder: of this run below the target, for the metadata file.
    """
    cab = f"{job_folder(run_id)}\\{METADATA}"
    steps = [
        written(backup_script(run_id, volumes, provider, options), SCRIPT),
        run_script(run_id, SCRIPT, LOG, RC),
        written(("list writers status", "exit"), WRITERS_SCRIPT),
        run_script(run_id, WRITERS_SCRIPT, WRITERS, WRITERS_RC),
        written(("list writers metadata", "exit"), PARTS_SCRIPT),
        run_script(run_id, PARTS_SCRIPT, PARTS, PARTS_RC),
        Step(command=f"md {argument(folder)}"),
        copy_step(cab, f"{folder}\\{METADATA}", CAB_LOG, CAB_RC),
    ]
    if options.metadata_copy:
        second = f"{options.metadata_copy}\\{run_id}"
        steps += [
            Step(command=f"md {argument(second)}"),
            copy_step(cab, f"{second}\\{METADATA}", CAB2_LOG, CAB2_RC),
        ]
    return tuple(steps)


def copy_step(source: str, destination: str, log: str, exit_code: str) -> Step:
    """`/b`: to the end of the file and not to its first Ctrl-Z; both paths in quotes, because folders have blanks."""
    return Step(
        command=f"copy /b /y {argument(source, quoted=True)} {argument(destination, quoted=True)}",
        output=log,
        exit_code=exit_code,
    )


def expose_script(places: Mapping[str, str]) -> tuple[str, ...]:
    r"""Shadow id -> `Z:`."""
    return (*(f"expose {braced(one)} {place.rstrip(chr(92))}" for one, place in sorted(places.items())), "exit")


def unexpose_script(ids: Sequence[str]) -> tuple[str, ...]:
    return (*(f"unexpose {braced(one)}" for one in sorted(ids)), "exit")


def delete_script(ids: Sequence[str]) -> tuple[str, ...]:
    return (*(f"delete shadows id {braced(one)}" for one in sorted(ids)), "exit")


def script_steps(run_id: str, lines: Sequence[str]) -> tuple[Step, ...]:
    """A job that only runs a script."""
    return (written(lines, SCRIPT), run_script(run_id, SCRIPT, LOG, RC))


# --- files in shadow copies -----------------------------------------------------------------------------------------


def inside(
    path: str, volumes: Sequence[Mapping[str, Any]], shadows: Mapping[str, str], roots: Mapping[str, str]
) -> str:
    """A file's path inside the exposed shadow copy of its volume."""
    for one in volumes:
        volume = SourceVolume(path=str(one["path"]), letter=one.get("letter"))
        if volume.letter and path[:2].upper() == f"{volume.letter.upper()}:" and volume.guid in shadows:
            return roots[shadows[volume.guid]].rstrip("\\") + path[2:]
    raise BackupError("bad_request", f"{path} lies on none of the volumes that were shadow-copied.")


def copy_names(paths: Iterable[str]) -> dict[str, str]:
    """File names in `copy_to`: numbered, because two disks of a VM may have one name in two folders."""
    return {path: f"{number:02d}-{path.rpartition(chr(92))[2]}" for number, path in enumerate(sorted(paths), 1)}


def copy_steps(sources: Mapping[str, str], folder: str) -> tuple[Step, ...]:
    """A step for each file, by its own path; `sources` says where it is read."""
    names = copy_names(sources)
    steps = [Step(command=f"md {argument(folder)}")]
    for number, path in enumerate(sorted(sources), 1):
        log = f"copied-{number}.txt"
        steps.append(copy_step(sources[path], f"{folder}\\{names[path]}", log, copied_exit_code(number)))
    return tuple(steps)


def copied_exit_code(number: int) -> str:
    """File with the exit code of one of `copy_steps`."""
    return f"copied-{number}-rc.txt"
