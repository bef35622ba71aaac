# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this file is private to the hyperv.passthrough collection and may change without notice.
"""What the tasks share that change a VM, its disks or a guest's disks step by step.

Responsible for: their common options, the guard and the hands of the domain's actions, telling truly whether something has
landed, and the diff of a plan. Not responsible for: the steps (`_hyperv`).
"""

from __future__ import annotations

import contextlib
import typing as t

from ._guard import Guard, NoGuard, waiting_of
from ._hyperv import HypervError
from ._wsman import OutcomeUnknown, ReplyLost

if t.TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ._backup.engine import Waiting
    from ._task import Run
    from ._wsman import WsmanClient

#: Options of all of these tasks; documented in the fragment change.
OPTIONS: Mapping[str, Mapping[str, t.Any]] = {
    "wait_timeout": {"type": "int", "default": 600},
    "poll_interval": {"type": "int", "default": 2},
    "lease": {"type": "str"},
}
# After these it is not known that nothing happened, so that the task must not say so.
_MAY_HAVE_LANDED = frozenset(["job_timeout", "not_observed", "state_timeout", "shutdown_timeout"])


def guard_of(run: Run, client: WsmanClient | None = None) -> Guard | NoGuard:
    """The lease that the task was given, taken over; without one only a dead controller is noticed.

    Args:
        client: of the Hyper-V host that keeps the lease, when that is not the task's target.
    """
    lease = run.arguments["lease"]
    return Guard(run, client or run.client).attach(lease) if lease else NoGuard(run)


def hands_of(run: Run, guard: Guard | NoGuard) -> Waiting:
    """The hands for actions of `_hyperv`: before each call that changes something the guard is asked."""
    return waiting_of(
        run,
        timeout_s=float(run.arguments["wait_timeout"]),
        poll_s=float(run.arguments["poll_interval"]),
        should_stop=guard.check,
    )


@contextlib.contextmanager
def landing(run: Run) -> Iterator[None]:
    """One step: afterwards something has landed; when it fails, only if that is possible."""
    try:
        yield
    except (ReplyLost, OutcomeUnknown):
        run.changed = True
        raise
    except HypervError as error:
        run.changed = run.changed or error.kind in _MAY_HAVE_LANDED
        raise
    run.changed = True


def plan_diff(run: Run, before: Sequence[str], after: Sequence[str]) -> tuple[dict[str, str], ...]:
    """What `--diff` shows; nothing when nothing is to be done."""
    if list(before) == list(after):
        return ()
    return (
        {
            "before_header": run.target,
            "after_header": run.target,
            "before": "".join(f"{line}\n" for line in before),
            "after": "".join(f"{line}\n" for line in after),
        },
    )
