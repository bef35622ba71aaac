# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""Wait for a job of Hyper-V: Msvm_ConcreteJob, Msvm_StorageJob and their like, which all look alike.

Windows removes a finished job about five minutes after its end, sometimes sooner (hyperv-wmi 4.3): a job that is gone
has an unknown outcome, and the caller looks at what it should have changed.

Not here: starting jobs, clocks (they are given), jobs of MSFT_Storage classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from .._wsman import CimInstance, CimPath, NotFound
from .cim_access import CimClient, int_of, text_of
from .errors import HypervError, JobFailed
from .model import word

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
