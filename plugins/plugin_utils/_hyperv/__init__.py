# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""The Hyper-V and Windows storage domain (public names); no XML and no Ansible below this point.

A name is imported when it is first asked for: Ansible compiles a collection's files anew in each run, so that a task
should not pay for what only other tasks need.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .cim_access import CimClient
    from .disk_identity import vhd_unique_ids
    from .errors import Ambiguous, HypervError, JobFailed, MethodFailed, NotFound, Precondition
    from .guest import file_evidence, list_root, observe_guest
    from .guest_model import FileEntry, GuestDisk, GuestView, GuestVolume
    from .host import observe_host, read_virtual_hard_disk, resolve_vms
    from .jobs import JobStatus, read_job, wait_for_job
    from .machine import (
        MachineFacts,
        RunningProcess,
        Service,
        machine_facts,
        processes_named,
        services_named,
        utc_now,
    )
    from .model import HostView, Lun, Slot, VirtualMachine, VmDisk
    from .registry import Registry, RegistryValue
    from .scheduled_tasks import ScheduledTask, ScheduledTasks
    from .schema import SCHEMA
else:
    _HOMES = {
        "cim_access": "CimClient",
        "disk_identity": "vhd_unique_ids",
        "errors": "Ambiguous HypervError JobFailed MethodFailed NotFound Precondition",
        "guest": "file_evidence list_root observe_guest",
        "guest_model": "FileEntry GuestDisk GuestView GuestVolume",
        "host": "observe_host read_virtual_hard_disk resolve_vms",
        "jobs": "JobStatus read_job wait_for_job",
        "machine": "MachineFacts RunningProcess Service machine_facts processes_named services_named utc_now",
        "model": "HostView Lun Slot VirtualMachine VmDisk",
        "registry": "Registry RegistryValue",
        "scheduled_tasks": "ScheduledTask ScheduledTasks",
        "schema": "SCHEMA",
    }
    _HOME_OF = {name: module for module, names in _HOMES.items() for name in names.split()}

    def __getattr__(name):
        if name not in _HOME_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f".{_HOME_OF[name]}", __name__), name)
        return value


__all__ = [
    "SCHEMA",
    "Ambiguous",
    "CimClient",
    "FileEntry",
    "GuestDisk",
    "GuestView",
    "GuestVolume",
    "HostView",
    "HypervError",
    "JobFailed",
    "JobStatus",
    "Lun",
    "MachineFacts",
    "MethodFailed",
    "NotFound",
    "Precondition",
    "Registry",
    "RegistryValue",
    "RunningProcess",
    "ScheduledTask",
    "ScheduledTasks",
    "Service",
    "Slot",
    "VirtualMachine",
    "VmDisk",
    "file_evidence",
    "list_root",
    "machine_facts",
    "observe_guest",
    "observe_host",
    "processes_named",
    "read_job",
    "read_virtual_hard_disk",
    "resolve_vms",
    "services_named",
    "utc_now",
    "vhd_unique_ids",
    "wait_for_job",
]
