# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Joins the services of a simulated Windows machine: registry, event log, processes, task scheduler, backup.

Importing it registers their CIM classes and the fault effects that concern backups. `attach` is called once per machine,
`rebooted` each time a machine starts anew (not when it resumes from saved state).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from . import event_log_provider, process_provider, registry_provider, shadow_copies, task_scheduler_provider
from .assumed import assumed
from .event_log import CHANNELS, HYPERV_CHANNELS, EventLog
from .faults import effect
from .file_system import FileSystemError
from .processes import ProcessTable
from .programs import PROGRAMS, find_program, full_path
from .task_scheduler import TaskScheduler
from .volume_shadow_service import VolumeShadowService
from .windows_backup import Failure, WindowsBackup

assumed(
    "wsb-program-without-feature",
    "On a server without the feature Windows-Server-Backup the file wbadmin.exe is missing, or present and unusable",
    source="backup-engines 1.1: it may be present",
    values=("missing", "present"),
)

OEM_CODE_PAGES = {"de": 850, "fr": 850, "es": 850, "it": 850, "pl": 852, "ja": 932}


class MachineClock:
    """The world's time as one machine believes it."""

    def __init__(self, machine: Any) -> None:
        self._machine = machine

    def utc(self) -> datetime:
        moment: datetime = self._machine.now()
        return moment

    def advance(self, seconds: float) -> datetime:
        self._machine.world.clock.advance(seconds)
        return self.utc()


def attach(machine: Any) -> None:
    """Gives a machine its services. A Linux guest gets none."""
    if machine.os.family != "windows":
        return
    channels = [name for name in CHANNELS if machine.kind == "host" or name not in HYPERV_CHANNELS]
    machine.registry = registry_provider.new_registry(machine)
    machine.event_log = EventLog(computer=machine.dns_name, now=machine.now, channels=channels)
    machine.processes = ProcessTable(
        machine,
        clock=MachineClock(machine),
        find_program=find_program,
        code_page=OEM_CODE_PAGES.get(str(machine.os.locale)[:2].lower(), 437),
    )
    machine.scheduler = TaskScheduler(machine)
    machine.backup = WindowsBackup(machine)
    machine.vss = VolumeShadowService(machine)
    machine.processes.tickers += [machine.scheduler.tick, machine.backup.tick]
    machine.processes.lookers.append(machine.backup.look)
    if machine.kind == "host":
        _lay_program_files(machine)


def _lay_program_files(machine: Any) -> None:
    """The programs as files of a host's system volume, for clients that look for them (their bytes mean nothing)."""
    absent = set()
    if not machine.backup.installed and machine.world.assume("wsb-program-without-feature") == "missing":
        absent = {"wbadmin.exe", "wbengine.exe"}
    for name in sorted({*PROGRAMS, "wbengine.exe", "vmms.exe", "vmwp.exe"} - absent):
        try:
            volume, below = machine.resolve(full_path(name))
            if not volume.files.exists(below):
                volume.files.mkdir(below.rpartition("\\")[0], parents=True)
                volume.files.write(below, b"MZ" + bytes(62))
        except FileSystemError:
            return  # a host without a drive C: has no place for them


def rebooted(machine: Any) -> None:
    """Everything that runs is gone; registry, logs, tasks and catalogs stay."""
    if machine.processes is None:
        return
    machine.vss.reboot()
    machine.backup.reboot()
    machine.processes.reboot()
    machine.vss.reboot()  # requesters died above, and what they left undone goes with the service
    machine.scheduler.reboot()


@effect("fail_backup")
def fail_backup(machine: Any, parameters: Mapping[str, Any]) -> None:
    """The machine's next (or running) backup or recovery fails at `percent` (or completes with errors: `warning`)."""
    defaults = Failure()
    machine.backup.fail_next = Failure(
        percent=int(parameters.get("percent", defaults.percent)),
        hresult=int(str(parameters.get("hresult", defaults.hresult)), 0),
        detailed=int(str(parameters.get("detailed", defaults.detailed)), 0),
        warning=bool(parameters.get("warning", False)),
    )


@effect("stuck_backup")
def stuck_backup(machine: Any, parameters: Mapping[str, Any]) -> None:
    """wbengine says that another operation is in progress until its service is restarted."""
    machine.backup.get_stuck()


__all__ = [
    "MachineClock",
    "attach",
    "event_log_provider",
    "process_provider",
    "rebooted",
    "shadow_copies",
    "task_scheduler_provider",
]
