# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
r"""Running the operator's commands as detached jobs, and what one of them came to.

Responsible for: the steps of a job (write the request, run the command), small jobs that ask, following a run to its end, and
what a product has to have said before a run counts as ended well. Not responsible for what is backed up (`command.py`) or
restored (`command_restore.py`), nor for shapes (`command_exchange.py`).

A run may end with its `start` command, or go on in the product when that answers `running`; then `status` is asked until it has
ended. What a product says is never better than the exit code of the command that said it.

Driven by roles, the job of a run only writes down the request, and a second one the answer that the role gave, when our role hands
it over; until then the run counts as running. So a rerun finds both, and a role is never asked twice for what has ended.

An interrupted run (machine restarted, task removed) is a failure unless `status` still knows its run id: the product may have
gone on without us.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from .._hyperv.guest import file_evidence
from .._hyperv.scheduled_tasks import ScheduledTasks
from .command_exchange import (
    MAX_ANSWER_BYTES,
    AnswerUnreadable,
    ListAnswer,
    RunAnswer,
    answer_text,
    read_list_answer,
    read_run_answer,
    request_text,
)
from .command_options import NAME, CommandOptions, command_line
from .detached_job import TASK_FOLDER, DetachedJobs, JobLook, Step, job_folder
from .engine import Deletion, Job, JobStatus, Refusal, RunState, Waiting, Workplace, wait_for
from .errors import BackupError
from .retention import CANNOT
from .wbadmin_text import last_lines

ANSWER_SUFFIX = ".answer"
REQUEST, ANSWER, LOG, RC = "request.json", "answer.json", "log.txt", "rc.txt"
MAX_LOG_BYTES = 256 * 1024
_RUN = re.compile(r"\.(?:guest|host)(?:_restore\.[a-z0-9_-]+)?\.\d+(?:\.\d+)?$")  # helpers have a word at their end
NOT_FOUND = 9009  # cmd.exe: the program was not found


@dataclasses.dataclass(frozen=True, kw_only=True)
class Said:
    """What a command, or a run as a whole, came to. `state` as in `engine.JobState`; `kind`, `message` explain a failure."""

    state: str
    kind: str = ""
    message: str = ""
    answer: RunAnswer | None = None
    exit_code: int | None = None


def judge(look: JobLook, action: str, run_id: str, options: CommandOptions) -> Said:
    """What a finished command said, by its files. Never raises: what cannot be used is a failure with its kind."""
    exit_code, said = look.exit_code(RC), last_lines(look.files.get(LOG, b""))
    if exit_code is None:
        return Said(
            state="failed",
            kind="interrupted",
            message=_with_output(f"{action} left no exit code (a batch file has to end with exit /b)", said),
        )
    meaning = options.meaning(exit_code)
    try:
        answer = read_run_answer(look.files.get(ANSWER, b""), run_id)
    except AnswerUnreadable as err:
        if meaning == "failed":
            return _failed_by(action, exit_code, said, "")
        return Said(
            state="failed",
            kind="answer_unreadable",
            message=_with_output(
                f"{action} ended with exit code {exit_code}, but its answer cannot be used: {err}", said
            ),
            exit_code=exit_code,
        )
    if meaning == "failed":
        return _failed_by(action, exit_code, said, answer.message)
    state = answer.state or meaning
    if state == "succeeded" and meaning == "warning":
        state = "warning"
    if state == "failed":
        message = f"{action} ended with exit code {exit_code} and says that it failed: {answer.message or 'no reason'}"
        return Said(state=state, kind="command_failed", message=message, answer=answer, exit_code=exit_code)
    return Said(state=state, message=answer.message, answer=answer, exit_code=exit_code)


def _failed_by(action: str, exit_code: int, said: str, message: str) -> Said:
    if exit_code == NOT_FOUND and not message:
        return Said(
            state="failed",
            kind="command_missing",
            message=_with_output(
                f"the program of {action} was not found on the machine; install it, or correct its path", said
            ),
            exit_code=exit_code,
        )
    text = f"{action} ended with exit code {exit_code}, which means a failure" + (f": {message}" if message else "")
    return Said(state="failed", kind="command_failed", message=_with_output(text, said), exit_code=exit_code)


def _with_output(message: str, said: str) -> str:
    return f"{message}; it printed: {said}" if said else message


class CommandRuns:
    """What backups and restores by the operator's commands share, on one machine."""

    name = NAME

    def __init__(self, place: Workplace) -> None:
        self._client = place.client
        self._waiting = place.waiting
        self._options: CommandOptions = place.options
        self._jobs = DetachedJobs(place.client)

    def known(self, run_id: str) -> RunState:
        """What the machine knows of a run, by one look."""
        look = self._jobs.look(run_id)
        if look.is_done:
            waits = self._options.roles and not self._jobs.look(run_id + ANSWER_SUFFIX).is_done
            return "running" if waits else "ended"
        if not look.is_known:
            return "unknown"
        if look.is_pending:
            return "pending"
        return "interrupted" if look.is_interrupted else "running"

    def is_busy(self) -> Sequence[str]:
        """Runs of ours on the machine, unless the product can do several things at once. What else it does it has to say itself."""
        if self._options.concurrent or self._options.roles:
            return ()
        names = ScheduledTasks(self._client).active(TASK_FOLDER)
        return tuple(f"run {name}" for name in names if _RUN.search(name))

    def versions(self, run_id: str, target: str) -> Sequence[str]:
        """Version ids that the product lists. Raises: `BackupError`: `list_failed`, `command_missing`, `helper_timeout`."""
        return tuple(one.version for one in self._listed(run_id, target).versions)

    def stop(self, job: Job) -> None:
        """Ask the product to stop a run of ours. Raises: `BackupError`: `cannot_stop`, `stop_failed`."""
        if self.known(job.run_id) not in ("running", "ended"):
            return
        answer = self._followed(job, "start")
        if answer.state not in ("pending", "running"):
            return
        if not self._options.has("stop"):
            raise BackupError(
                "cannot_stop", f"The run {job.run_id} was not stopped: the engine {NAME} was given no stop command."
            )
        said = self._ask("stop", job.run_id, job.target, {"job": self._job_of(answer)})
        if said.state == "failed":
            raise BackupError("stop_failed", f"The run {job.run_id} was not stopped: {said.message}.")

    # -- deleting ------------------------------------------------------------------------------------------------------

    def why_kept(self, target: str) -> str:
        return "" if self._options.has("delete") else CANNOT

    def delete(self, run_id: str, version: str, target: str, machine: str) -> Deletion:
        """Delete the version that a run made, when the product lists it (as that run's, if it tells); seen to be gone after."""
        if not self._options.has("delete"):
            return Deletion(state="kept", reason=CANNOT)
        facts = {"version": version, "machine": machine}
        listed = self._listed(run_id, target, **facts).find(version)
        if listed is None:
            return Deletion(state="gone", reason=f"the product does not list version {version} any more")
        if listed.run_id is not None and listed.run_id != run_id:
            return Deletion(state="kept", reason=f"the product says that version {version} is of run {listed.run_id}")
        self._waiting.should_stop()
        said = self._ask("delete", run_id, target, facts)
        if said.state == "failed":
            return Deletion(state="kept", reason=said.message)
        if self._listed(run_id, target, **facts).find(version) is not None:
            return Deletion(state="kept", reason=f"version {version} is still listed after it was deleted")
        return Deletion(state="deleted")

    # -- steps ---------------------------------------------------------------------------------------------------------

    def _steps(
        self, action: str, run_id: str, folder_of: str, target: str, facts: Mapping[str, Any]
    ) -> tuple[Step, ...]:
        """Write the request, run the command. `facts`: of the request; texts among them are placeholders too."""
        if self._options.roles:
            text = request_text(action, run_id, {"phase": self._options.phase, "target": target, **facts})
            return (Step(command=f"echo {text}", output=REQUEST, exit_code=RC),)
        folder = job_folder(folder_of)
        answer = f"{folder}\\{ANSWER}"
        facts = {"phase": self._options.phase, "target": target, **facts, "answer": answer}
        values = {name: _as_argument(value) for name, value in facts.items()}
        values |= {"request": f"{folder}\\{REQUEST}", "run_id": run_id}
        command = self._options.commands[action]
        return (
            Step(command=f"echo {request_text(action, run_id, facts)}", output=REQUEST),
            Step(command=command_line(command, _Lenient(values)), output=LOG, exit_code=RC),
        )

    def _finished(self, run_id: str) -> JobLook:
        """A finished run with its files; one that has grown too large is left out and proves nothing."""
        limits = {ANSWER: MAX_ANSWER_BYTES, LOG: MAX_LOG_BYTES}
        sizes = {name: self._jobs.size(run_id, name) for name in limits}
        wanted = [name for name, limit in limits.items() if 0 < (sizes[name] or 0) <= limit]
        return self._jobs.look(run_id, [RC, *wanted])

    def _small(self, action: str, run_id: str, target: str, facts: Mapping[str, Any]) -> JobLook:
        """Run a command that answers soon, and read what it left; nothing stays on the machine."""
        helper = f"{run_id}.{action}"
        self._jobs.discard(helper)
        try:
            self._jobs.run_small(
                helper,
                self._steps(action, run_id, helper, target, facts),
                f"{action} of {run_id}",
                exit_code=RC,
                files=[],
                waiting=self._waiting,
            )
            return self._finished(helper)
        finally:
            self._jobs.discard(helper)

    def _ask(self, action: str, run_id: str, target: str, facts: Mapping[str, Any]) -> Said:
        return judge(self._small(action, run_id, target, facts), action, run_id, self._options)

    def _listed(self, run_id: str, target: str, **facts: Any) -> ListAnswer:
        """Raises: `BackupError`: `command_missing`, `list_failed`, `answer_unreadable`, `helper_timeout`."""
        if self._options.roles:
            return self._list_by_role(run_id)
        look = self._small("list", run_id, target, facts)
        return self._list_of(look, run_id)

    def _list_by_role(self, run_id: str) -> ListAnswer:
        given = self._options.answers.get("list")
        if given is None:
            raise BackupError(
                "list_failed",
                f"What the product holds is not known: the role {self._options.roles['list']} was not asked, or set no "
                "command_answer.",
            )
        try:
            return read_list_answer(answer_text({**given, "run_id": run_id}).encode(), run_id)
        except AnswerUnreadable as err:
            raise BackupError(
                "answer_unreadable", f"The answer of role {self._options.roles['list']} cannot be used: {err}."
            ) from err

    def _list_of(self, look: JobLook, run_id: str) -> ListAnswer:
        exit_code, said = look.exit_code(RC), last_lines(look.files.get(LOG, b""))
        if exit_code is None or self._options.meaning(exit_code) == "failed":
            failure = _failed_by("list", -1 if exit_code is None else exit_code, said, "")
            kind = "command_missing" if failure.kind == "command_missing" else "list_failed"
            raise BackupError(kind, f"What the product holds could not be listed: {failure.message}.")
        try:
            return read_list_answer(look.files.get(ANSWER, b""), run_id)
        except AnswerUnreadable as err:
            raise BackupError(
                "answer_unreadable",
                f"What the product holds could not be listed: the answer of list cannot be used: {_with_output(str(err), said)}.",
            ) from err

    # -- following a run -----------------------------------------------------------------------------------------------

    def _check_free(self, run_id: str) -> None:
        """Raises: `BackupError` `busy` while another run of ours works on the machine, so that nothing was started."""
        busy = [text for text in self.is_busy() if text != f"run {run_id}"]
        if busy:
            raise BackupError(
                "busy",
                f"The machine works on {', '.join(busy)}, and the engine {NAME} was not told that the product is concurrent; wait for "
                "its end.",
                {"processes": busy},
            )

    def _begin(self, run_id: str, steps: Sequence[Step], target: str, description: str, *, again: bool = False) -> Job:
        self._waiting.should_stop()
        attached = self._jobs.start(run_id, steps, description, again=again)
        return Job(run_id=run_id, engine=NAME, target=target, attached=attached)

    def _followed(self, job: Job, action: str) -> Said:
        """One look at a run: its own command, then the product's status when that goes on."""
        look = self._jobs.look(job.run_id)
        if not look.is_known:
            return Said(
                state="failed", kind="unknown_run", message=f"the machine knows no run {job.run_id}; start it again"
            )
        if look.is_pending:
            return Said(state="pending", message="the scheduled task has not begun")
        if look.is_interrupted:
            if self._options.has("status"):
                found = self._status_of(job, action, None)
                if found.answer is not None:
                    return found
            return Said(
                state="failed",
                kind="interrupted",
                message=f"the run {job.run_id} was interrupted before its {action} command had ended (the machine was restarted, its "
                "scheduled task was removed, or a batch file ended with exit instead of exit /b); what it left is not used",
            )
        if not look.is_done:
            return Said(state="running")
        if self._options.roles:
            return self._said_by_role(job, action)
        said = judge(self._finished(job.run_id), action, job.run_id, self._options)
        if said.state not in ("pending", "running"):
            return said
        if not self._options.has("status"):
            return Said(
                state="failed",
                kind="no_status",
                message=f"{action} says that the product goes on, but the engine {NAME} was given no status command to ask it",
                exit_code=said.exit_code,
            )
        return self._status_of(job, action, said)

    def _said_by_role(self, job: Job, action: str) -> Said:
        """What the role of a run answered: once it has ended it is written beside the run and stays what it is."""
        role, kept = self._options.roles[action], job.run_id + ANSWER_SUFFIX
        given = self._options.answers.get(action)
        if not self._jobs.look(kept).is_done:
            if not given or given.get("run_id") != job.run_id or given.get("state") in ("pending", "running"):
                return Said(state="running", message=f"waiting for the answer of role {role}")
            self._waiting.should_stop()
            self._jobs.run_small(
                kept,
                (Step(command=f"echo {answer_text(given)}", output=ANSWER, exit_code=RC),),
                f"answer of role {role}",
                exit_code=RC,
                files=[],
                waiting=self._waiting,
            )
        return judge(self._finished(kept), f"role {role}", job.run_id, self._options)

    def _status_of(self, job: Job, action: str, begun: Said | None) -> Said:
        now = self._ask("status", job.run_id, job.target, {"job": self._job_of(begun), "of": action})
        if now.answer is None and begun is not None and now.kind in ("answer_unreadable", "interrupted"):
            return dataclasses.replace(now, message=f"the run {job.run_id} cannot be followed: {now.message}")
        return now

    @staticmethod
    def _job_of(said: Said | None) -> str:
        return (said.answer.job if said is not None and said.answer is not None else None) or ""

    def _shown(self, said: Said) -> JobStatus:
        state: Any = said.state
        percent = said.answer.percent if said.answer is not None else None
        finished = state in ("succeeded", "warning")
        return JobStatus(state=state, percent=100 if finished else percent, kind=said.kind, message=said.message)

    def _wait(self, job: Job, action: str, waiting: Waiting, what: str) -> None:
        """Wait for the end. Raises: `BackupError` `wait_timeout` while the run goes on."""
        waiting.should_stop()
        seen = wait_for(lambda: self._shown(self._followed(job, action)), waiting, what=what)
        if not seen.is_finished:
            raise BackupError(
                "wait_timeout",
                f"The {what} still runs after {waiting.timeout_s:.0f} s; it goes on, and running this again attaches to it.",
            )

    # -- before --------------------------------------------------------------------------------------------------------

    def _missing_programs(self) -> list[Refusal]:
        """Programs that commands name by their whole path and that are not there; read only."""
        return [
            Refusal(
                kind="command_missing",
                sentence=f"the program {path} that the engine {NAME} is to run is not there; install it, or correct its path",
            )
            for path in self._options.programs
            if file_evidence(self._client, path) is None
        ]


class _Lenient(dict[str, str]):
    """A placeholder that has nothing to say in this run is an empty text."""

    def __missing__(self, key: str) -> str:
        return ""


def _as_argument(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return ",".join(str(one) for one in value)
    return "" if value is None else str(value)
