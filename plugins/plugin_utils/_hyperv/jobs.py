# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""Call a method of Hyper-V and wait for its job: Msvm_ConcreteJob, Msvm_StorageJob and their like, which all look alike.

Windows removes a finished job about five minutes after its end, sometimes sooner (hyperv-wmi 4.3): a job that is gone
has an unknown outcome, and the caller looks at what it should have changed. The same holds for a lost reply.

Not here: what is called, clocks (they are given), jobs of MSFT_Storage classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Protocol, TypeVar

from .._wsman import CimInstance, CimPath, MethodResult, NotFound, OutcomeUnknown, Value
from .cim_access import CimClient, int_of, invoke_checked, text_of
from .errors import HypervError, JobFailed
from .model import word

T = TypeVar("T")

JOB_STARTED = 4096
LOOKS = 30  # at an effect that the host shows a little later than it says "done"
DEFAULT_POLL_S = 2.0
DEFAULT_TIMEOUT_S = 24 * 3600.0

# hyperv-wmi 4.3
JOB_STATES: Mapping[int, str] = {
    2: "new",
    3: "starting",
    4: "running",
    5: "suspended",
    6: "shutting_down",
    7: "completed",
    8: "terminated",
    9: "killed",
    10: "exception",
    11: "service",
    32768: "completed_with_warnings",
}
_DONE = frozenset(["completed", "completed_with_warnings"])
_FAILED = frozenset(["terminated", "killed", "exception"])
VANISHED = "vanished"

# hyperv-wmi 4.1, list B; ErrorCode of a job and return values of many methods
HYPERV_CODES: Mapping[int, str] = {
    0: "completed",
    1: "not supported",
    2: "failed",
    3: "timeout",
    4: "invalid parameter",
    5: "invalid state",
    6: "incompatible parameters",
    4096: "job started",
    32768: "failed",
    32769: "access denied",
    32770: "not supported",
    32771: "status is unknown",
    32772: "timeout",
    32773: "invalid parameter",
    32774: "system is in use",
    32775: "invalid state for this operation",
    32776: "incorrect data type",
    32777: "system is not available",
    32778: "out of memory",
    32779: "file in use or not found",
    32780: "system is not ready",
    32781: "system is locked",
    32782: "shutdown is in progress",
    32787: "VHD chain cycle",
    32789: "object not found",
}


class Hands(Protocol):
    """What an action may use of the outside world: `_backup.engine.Waiting` is one.

    `should_stop` is called before every call that changes something and before every further look; it raises when this
    run may not go on (a lost lease, a dead controller). `now` is a monotonic clock in seconds.
    """

    @property
    def sleep(self) -> Callable[[float], None]: ...

    @property
    def now(self) -> Callable[[], float]: ...

    @property
    def progress(self) -> Callable[[str], None]: ...

    @property
    def should_stop(self) -> Callable[[], None]: ...

    @property
    def poll_s(self) -> float: ...

    @property
    def timeout_s(self) -> float: ...


def pause(hands: Hands) -> None:
    """Sleep until the next look, and ask whether this run may still look."""
    hands.sleep(hands.poll_s)
    hands.should_stop()


def act(
    client: CimClient,
    target: CimPath,
    method: str,
    arguments: Mapping[str, Value],
    hands: Hands,
    *,
    what: str,
    codes: Mapping[int, str] | None = None,
    accept: tuple[int, ...] = (0,),
) -> MethodResult | None:
    """Call a method once, and wait for the job that it may start.

    Args:
        what: the action as the beginning of a sentence ("Starting VM sql01").
        codes: names of the method's codes; `HYPERV_CODES` if not given.

    Returns: the answer; None when it is not known whether it was done (the reply was lost, or its job is not there any
    more): the caller looks at what it should have changed, and never calls again before that.

    Raises: Precondition (rights_missing), MethodFailed, JobFailed, HypervError (job_timeout), `_wsman` errors for calls
    that were refused or never sent.
    """
    hands.should_stop()
    try:
        result = invoke_checked(
            client, target, method, arguments, what=what, codes=codes or HYPERV_CODES, accept=(*accept, JOB_STARTED)
        )
    except OutcomeUnknown:
        hands.progress(f"{what}: the answer was lost; looking at what happened")
        return None
    if result.return_value != JOB_STARTED:
        return result
    job = result.out.get("Job")
    if not isinstance(job, CimPath):
        return None
    shown: list[int] = []

    def report(status: JobStatus) -> None:
        if status.percent is not None and not status.is_done and status.percent not in shown:
            shown.append(status.percent)
            hands.progress(f"{what}: {status.percent} %")

    def sleep(seconds: float) -> None:
        hands.sleep(seconds)
        hands.should_stop()

    status = wait_for_job(
        client,
        job,
        now=lambda: _EPOCH + timedelta(seconds=hands.now()),
        sleep=sleep,
        progress=report,
        timeout_s=hands.timeout_s,
        poll_s=hands.poll_s,
    )
    return None if status.state == VANISHED else result


_EPOCH = datetime(2000, 1, 1, tzinfo=timezone.utc)  # only differences count


def look_until(look: Callable[[], T | None], hands: Hands, *, what: str, looks: int = LOOKS) -> T:
    """Look until there is something; for effects that follow an answer with a delay, or whose answer was lost.

    Raises: HypervError `not_observed`, after so many looks.
    """
    for attempt in range(looks):
        if attempt:
            pause(hands)
        found = look()
        if found is not None:
            return found
    raise HypervError(
        "not_observed",
        f"{what} was asked of the machine, but {looks} looks later it does not show; look at the machine's state and its "
        f"event logs, then run again.",
    )


@dataclass(frozen=True, kw_only=True)
class JobStatus:
    """`state` is a word of `JOB_STATES`, or `vanished`; texts are in the host's language and only for people."""

    path: CimPath
    state: str
    percent: int | None = None
    error_code: int | None = None
    error_description: str = ""

    @property
    def is_done(self) -> bool:
        return self.state in _DONE

    @property
    def has_failed(self) -> bool:
        return self.state in _FAILED or (self.is_done and self.error_code not in (None, 0))


def job_status(path: CimPath, row: CimInstance) -> JobStatus:
    return JobStatus(
        path=path,
        state=word(JOB_STATES, int_of(row, "JobState")) or "unknown (not told)",
        percent=int_of(row, "PercentComplete"),
        error_code=int_of(row, "ErrorCode"),
        error_description=text_of(row, "ErrorDescription"),
    )


def read_job(client: CimClient, path: CimPath) -> JobStatus:
    """The job now; state `vanished` when the host does not know it (any more)."""
    try:
        return job_status(path, client.get(path))
    except NotFound:
        return JobStatus(path=path, state=VANISHED)


def wait_for_job(
    client: CimClient,
    path: CimPath,
    *,
    now: Callable[[], datetime],
    sleep: Callable[[float], None],
    progress: Callable[[JobStatus], None] | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    poll_s: float = DEFAULT_POLL_S,
) -> JobStatus:
    """Poll until the job ends, and return how: done, or `vanished` (then observe what it should have changed).

    Success of the job does not prove its effect either: observe it anyway (hyperv-wmi 6.1).

    Args:
        path: the path that the method returned; its class decides where the job is looked up (hyperv-wmi 0.5).
        progress: called with every status that differs from the one before.

    Raises:
        JobFailed: `job_failed`, with state, error code and its name.
        HypervError: `job_timeout`; the job may still run.
    """
    started = now()
    last: JobStatus | None = None
    while True:
        status = read_job(client, path)
        if status != last and progress is not None:
            progress(status)
        last = status
        if status.has_failed:
            raise _job_failed(status)
        if status.is_done or status.state == VANISHED:
            return status
        waited_s = (now() - started).total_seconds()
        if waited_s >= timeout_s:
            raise HypervError(
                "job_timeout",
                f"The host's job {_job_id(path)} is still {status.state} at {status.percent or 0} % after "
                f"{int(waited_s)} s, and at most {int(timeout_s)} s were allowed; it goes on running, so look at it "
                f"before starting it again.",
                {"job": _job_id(path), "state": status.state, "percent": status.percent},
            )
        sleep(poll_s)


def _job_id(path: CimPath) -> str:
    value = path.key("InstanceID")
    return value if isinstance(value, str) else path.class_name


def _job_failed(status: JobStatus) -> JobFailed:
    code = status.error_code
    name = HYPERV_CODES.get(code, "no documented name") if code is not None else "not told"
    said = f" Hyper-V says: {status.error_description}" if status.error_description else ""
    return JobFailed(
        "job_failed",
        f"The host's job {_job_id(status.path)} ended as {status.state} with error code {code} ({name}).{said} "
        f"See the event log Microsoft-Windows-Hyper-V-VMMS of the host.",
        {"job": _job_id(status.path), "state": status.state, "code": code, "code_name": name},
    )
