# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Loaded by Python in every ansible-playbook that the bench starts: at its end it leaves the CPU seconds of its workers.

Responsible for: user and system time of everything that was forked, which is the workers. Not responsible for: what is made
of it (`bench/disk_info.py`).
"""

from __future__ import annotations

import atexit
import os
import resource


def _tell() -> None:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    with open(os.environ["BENCH_WORKER_CLOCK"], "a", encoding="ascii") as file:
        file.write(f"{used.ru_utime + used.ru_stime}\n")


if os.environ.get("BENCH_WORKER_CLOCK"):
    # Registered first, so it runs last: after multiprocessing has waited for every worker. Workers leave without atexit.
    atexit.register(_tell)
