# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
r"""Programs that run detached on a Windows machine, as SYSTEM, and are found again by a run id.

Responsible for the command line, the one-off scheduled task that runs it, the folder it leaves its files in, and reading
those files back. Not responsible for what is run (`wsb.py`, `set_copy.py`).

Why a task: a program started in a remote shell dies with the shell, one made by Win32_Process has the caller's network
logon and no second hop; a task as SYSTEM needs no password and reaches a share as the computer account. Its name is the
run id, so a rerun finds it. Why one cmd.exe line and no script file: there is no way to write a file over CIM, and the line
needs none. The first step makes the run's folder and ends everything when it exists, so that one run id never runs twice,
even if two callers start it at the same moment.

Reading files back (`type` in a remote shell) is the one use of a shell. Facts: backup-engines 5.1, 5.2, 5.3, 10.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Protocol

from .._hyperv.errors import MethodFailed
from .._hyperv.guest import file_evidence
from .._hyperv.scheduled_tasks import DeletingClient, ScheduledTask, ScheduledTasks
from .._wsman import OutcomeUnknown, ShellResult
from .._wsman.wire import xml_text
from .engine import JobStatus, Waiting, wait_for
from .errors import BackupError

TASK_FOLDER = "\\hyperv.passthrough\\"
# Beside the engine's own logs: only administrators may create anything there, while an ordinary user could prepare a folder
# of our name in ProgramData, into which SYSTEM would then write. Fixed, because a variable cannot be expanded without
# knowing the machine; it is this on every Windows we know.
JOBS_FOLDER = "C:\\Windows\\Logs\\hyperv.passthrough\\jobs"

DONE = "done.txt"
ALREADY_THERE = 7  # exit code of a run whose folder was there
MAX_COMMAND_CHARS = 8000  # cmd.exe takes 8191
MAX_FILES_BYTES = 4 * 1024 * 1024
KEPT_DAYS = 60  # what a finished backup has left on its machine, for people who look into it
MAX_FORGOTTEN = 8  # at once, since their folders are removed on the same command line; a backup leaves about three

_RUN_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,119}", re.ASCII)
_OF_A_BACKUP = re.compile(
    r"[0-9a-f]{8}-(\d{8}t\d{6}z)-[0-9a-z]{4,16}\.(?:(?:guest|host)\.\d+(?:\.(?:items|list|stop))?|copy\.\d+)", re.ASCII
)
_FILE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,30}\.[a-z]{1,4}", re.ASCII)
_EXIT_CODE = re.compile(rb"-?[0-9]{1,10}")
_REFUSED = re.compile(r"[\x00-\x1f\x7f\"%!^]")
_NEEDS_QUOTES = re.compile(r"[\s&|<>()@,;=`'~+\[\]]")


class MachineClient(DeletingClient, Protocol):
    """What a detached job needs of `_wsman.WsmanClient`."""

    def run(self, command: str, *, max_output_bytes: int = ...) -> ShellResult: ...


def argument(text: str, *, quoted: bool | None = None) -> str:
    r"""One argument for a program, inside our cmd.exe line.

    Quotes are set only where a blank or a character of cmd's own needs them: a backslash before a closing quote would be
    read as an escape by the program, so that a volume path would swallow what follows; inside quotes it is doubled.

    Raises: `BackupError` of kind `command_characters` for what no quoting carries through cmd with delayed expansion.
    """
    if _REFUSED.search(text):
        raise BackupError(
            "command_characters",
            f"{text!r} holds a quote, percent sign, exclamation mark, caret or control character, which a command line on "
            "Windows cannot carry; use a name without it.",
        )
    if not (bool(_NEEDS_QUOTES.search(text)) if quoted is None else quoted):
        return text
    trailing = len(text) - len(text.rstrip("\\"))
    return '"' + text + "\\" * trailing + '"'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """One program of a job.

    Attributes:
        command: its command line, built with `argument`.
        output: file for what it prints, standard error included; None throws it away.
        exit_code: file for its exit code; it appears whole (written under another name, then renamed).
    """

    command: str
    output: str | None = None
    exit_code: str | None = None


def job_folder(run_id: str) -> str:
    return f"{JOBS_FOLDER}\\{check_run_id(run_id)}"


def check_run_id(run_id: str) -> str:
    if not _RUN_ID.fullmatch(run_id) or run_id.endswith("."):
        raise BackupError("bad_run_id", f"{run_id!r} cannot be the name of a run.")
    return run_id


def command_arguments(run_id: str, steps: Sequence[Step], *, again: bool = False) -> str:
    """What cmd.exe is started with. `again` first removes the folder of an earlier try of the same run.

    `/d` keeps AutoRun commands out, `/v:on` gives `!ERRORLEVEL!` its value when it is reached, `/s` takes the outer quotes
    away and nothing else. Raises `BackupError` of kind `command_too_long`.
    """
    folder = job_folder(run_id)
    parts = [f"rd /s /q {folder}"] if again else []
    parts.append(f"(md {folder} || exit {ALREADY_THERE})")
    for step in steps:
        to = "nul" if step.output is None else f"{folder}\\{_file_name(step.output)}"
        parts.append(f"{step.command} >{to} 2>&1")
        if step.exit_code is not None:
            name = _file_name(step.exit_code)
            parts.append(f"echo !ERRORLEVEL!>{folder}\\{name}.tmp")
            parts.append(f"move /y {folder}\\{name}.tmp {folder}\\{name} >nul")
    parts.append(f"echo done>{folder}\\{DONE}")
    line = " & ".join(parts)
    if len(line) > MAX_COMMAND_CHARS:
        raise BackupError(
            "command_too_long",
            f"The job {run_id} would need a command line of {len(line)} characters, more than the {MAX_COMMAND_CHARS} that "
            "Windows takes; back up fewer volumes at once.",
        )
    return f'/d /v:on /s /c "{line}"'


def _file_name(name: str) -> str:
    if not _FILE_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a file name of a job")
    return name


def task_xml(arguments: str, description: str) -> str:
    """A task that runs cmd.exe once, when it is started, as SYSTEM, for as long as it takes, on battery and mains."""
    return (
        '<Task version="1.2" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">'
        f"<RegistrationInfo><Author>hyperv.passthrough</Author><Description>{xml_text(description, 'A description')}"
        "</Description></RegistrationInfo>"
        "<Triggers/>"
        '<Principals><Principal id="System"><UserId>S-1-5-18</UserId><RunLevel>HighestAvailable</RunLevel></Principal>'
        "</Principals>"
        "<Settings><MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>"
        "<DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>"
        "<StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>"
        "<AllowHardTerminate>true</AllowHardTerminate>"
        "<StartWhenAvailable>false</StartWhenAvailable>"
        "<RunOnlyIfNetworkAvailable>false</RunOnlyIfNetworkAvailable>"
        "<IdleSettings><StopOnIdleEnd>false</StopOnIdleEnd><RestartOnIdle>false</RestartOnIdle></IdleSettings>"
        "<AllowStartOnDemand>true</AllowStartOnDemand><Enabled>true</Enabled><Hidden>false</Hidden>"
        "<RunOnlyIfIdle>false</RunOnlyIfIdle><WakeToRun>false</WakeToRun>"
        "<ExecutionTimeLimit>PT0S</ExecutionTimeLimit><Priority>5</Priority></Settings>"
        '<Actions Context="System"><Exec><Command>cmd.exe</Command>'
        f"<Arguments>{xml_text(arguments, 'The arguments of a task')}</Arguments></Exec></Actions></Task>"
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class JobLook:
    """One look at a run. `files` holds what was asked for and is there; `is_done` means that all of it is complete."""

    run_id: str
    task: ScheduledTask | None
    is_done: bool
    files: Mapping[str, bytes]

    @property
    def is_known(self) -> bool:
        return self.task is not None or self.is_done or bool(self.files)

    @property
    def is_pending(self) -> bool:
        """Registered and not run yet."""
        return self.task is not None and not self.task.is_active and not self.task.has_run and not self.is_done

    @property
    def is_interrupted(self) -> bool:
        """It will never be done: no task works on it (machine restarted, task ended or removed) and it has not finished.

        True only because the task was looked at before the files.
        """
        if self.is_done or not self.is_known:
            return False
        return self.task is None or (self.task.has_run and not self.task.is_active)

    def exit_code(self, name: str) -> int | None:
        """A program's exit code from its file, as signed 32 bits; None when it is not there or no number."""
        text = self.files.get(name, b"").strip()
        if not _EXIT_CODE.fullmatch(text):
            return None
        number = int(text)
        return number - (1 << 32) if (1 << 31) <= number < (1 << 32) else number


class DetachedJobs:
    """Detached runs of one machine."""

    def __init__(self, client: MachineClient) -> None:
        self.client = client
        self._tasks = ScheduledTasks(client)

    def look(self, run_id: str, files: Sequence[str] = (), *, limit: int = MAX_FILES_BYTES) -> JobLook:
        """The task first, then the files: so a missing end means that there will be none.

        While the task is active its end is not looked for, so that waiting needs no shell.
        """
        check_run_id(run_id)
        task = self._tasks.state(TASK_FOLDER, run_id)
        if task is not None and task.is_active and not files:
            return JobLook(run_id=run_id, task=task, is_done=False, files={})
        found = self.read(run_id, [DONE, *files], limit=limit)
        return JobLook(
            run_id=run_id,
            task=task,
            is_done=found.get(DONE, b"").strip() == b"done",
            files={name: data for name, data in found.items() if name != DONE},
        )

    def read(self, run_id: str, files: Sequence[str], *, limit: int = MAX_FILES_BYTES) -> dict[str, bytes]:
        """Files of a run, in one shell call; what is missing or empty is left out."""
        folder = job_folder(run_id)
        marks = {name: f"=={run_id}/{_file_name(name)}==" for name in files}
        line = " & ".join(f"echo {marks[name]}& type {folder}\\{name} 2>nul" for name in files)
        output = self.client.run(line, max_output_bytes=limit).stdout
        found: dict[str, bytes] = {}
        position = 0
        for index, name in enumerate(files):
            mark = marks[name].encode()
            begin = output.find(mark, position)
            if begin < 0:
                break
            begin += len(mark)
            following = marks[files[index + 1]].encode() if index + 1 < len(files) else None
            end = output.find(following, begin) if following is not None else len(output)
            if end < 0:
                end = len(output)
            content = re.sub(rb"\A[ \t]*\r?\n", b"", output[begin:end])
            if content.strip():
                found[name] = content
            position = end
        return found

    def size(self, run_id: str, name: str) -> int | None:
        """Bytes of a file of a run, without reading it; None when it is not there."""
        entry = file_evidence(self.client, f"{job_folder(run_id)}\\{_file_name(name)}")
        return None if entry is None else entry.size_bytes

    def start(self, run_id: str, steps: Sequence[Step], description: str, *, again: bool = False) -> bool:
        """Start a run, or find that it was started; returns whether it was there already.

        `again` runs a finished run once more under its id; its files are lost. A run that is active is never disturbed.
        After a lost reply the machine is looked at; `OutcomeUnknown` is raised only when the run is not seen there, and
        calling again is safe.
        """
        xml = task_xml(command_arguments(run_id, steps, again=again), description)
        task = self._tasks.state(TASK_FOLDER, run_id)
        if task is not None and task.is_active:
            return True
        if not again and (task.has_run if task is not None else bool(self.read(run_id, [DONE]))):
            return True
        if task is not None and again:
            # A new registration forgets when it last ran, so that "has run" means this time.
            self._tasks.remove(TASK_FOLDER, run_id)
            task = None
        if task is None:
            self._register(run_id, xml)
        try:
            self._tasks.start(TASK_FOLDER, run_id)
        except (OutcomeUnknown, MethodFailed):
            # Lost, or another caller was faster: what is there tells.
            task = self._tasks.state(TASK_FOLDER, run_id)
            if task is None or not (task.is_active or task.has_run):
                raise
        return False

    def _register(self, run_id: str, xml: str) -> None:
        try:
            self._tasks.register(TASK_FOLDER, run_id, xml)
        except (OutcomeUnknown, MethodFailed):
            # Never sent twice: the task is there, or the caller has to call again.
            if self._tasks.state(TASK_FOLDER, run_id) is None:
                raise

    def run_small(
        self,
        run_id: str,
        steps: Sequence[Step],
        description: str,
        *,
        exit_code: str,
        files: Sequence[str],
        waiting: Waiting,
    ) -> JobLook:
        """Run a short job that may be repeated (it only reads, or writes the same again) and read its files.

        A run of that id that was interrupted, or failed in an earlier call, is started once more.

        Raises: `BackupError` of kind `helper_timeout` when it does not end in time.
        """
        fresh = not self.start(run_id, steps, description)

        def look() -> JobStatus:
            nonlocal fresh
            seen = self.look(run_id)
            if not seen.is_done and not seen.is_interrupted:
                return JobStatus(state="running")
            ended = self.look(run_id, [exit_code])
            if ended.exit_code(exit_code) != 0 and not fresh:
                fresh = True
                self.start(run_id, steps, description, again=True)
                return JobStatus(state="running")
            return JobStatus(state="succeeded" if ended.is_done else "failed")

        if not wait_for(look, waiting, what=description).is_finished:
            raise BackupError(
                "helper_timeout",
                f"The small job {run_id} ({description}) did not end in time; run again, it is found then.",
            )
        return self.look(run_id, [exit_code, *files])

    def stop(self, run_id: str) -> bool:
        """End the program of a run, and with it the run; whether it was active. Not for what a service goes on with."""
        task = self._tasks.state(TASK_FOLDER, check_run_id(run_id))
        if task is None or not task.is_active:
            return False
        self._tasks.stop(TASK_FOLDER, run_id)
        return True

    def forget(self, run_id: str) -> bool:
        """Remove the task of a finished run; whether there was one. An active one is left alone."""
        task = self._tasks.state(TASK_FOLDER, check_run_id(run_id))
        return task is not None and not task.is_active and self._tasks.remove(TASK_FOLDER, run_id)

    def discard(self, run_id: str) -> None:
        """Remove what a finished run left: its task and its folder. An active one is left alone."""
        task = self._tasks.state(TASK_FOLDER, check_run_id(run_id))
        if task is not None and task.is_active:
            return
        if task is not None:
            self._tasks.remove(TASK_FOLDER, run_id)
        self.client.run(f"rd /s /q {job_folder(run_id)}")

    def forget_old(self, run_id: str) -> tuple[str, ...]:
        """Remove the tasks of finished backups of generated sets that are `KEPT_DAYS` older than this run's set; a few at a time.

        Returns those run ids, for `remove_folders`. Restores are kept: that one has ended is known from its task.
        """
        now = _opened(run_id)
        if now is None:
            return ()
        found = []
        for name in sorted(self._tasks.names(TASK_FOLDER)):
            then = _opened(name)
            if then is not None and now - then > timedelta(days=KEPT_DAYS) and self.forget(name):
                found.append(name)
                if len(found) == MAX_FORGOTTEN:
                    break
        return tuple(found)


def _opened(run_id: str) -> datetime | None:
    """When the set of a backup's run was opened, by its id; None for any other run."""
    match = _OF_A_BACKUP.fullmatch(run_id)
    if match is None:
        return None
    try:
        return datetime.strptime(match[1], "%Y%m%dt%H%M%Sz").replace(tzinfo=timezone.utc)
    except ValueError:
        return None


def remove_folders(run_ids: Sequence[str]) -> tuple[Step, ...]:
    """Steps that remove the folders of old runs; they ride along in another job, since CIM removes no folder."""
    return tuple(Step(command=f"rd /s /q {job_folder(run_id)}") for run_id in run_ids)
