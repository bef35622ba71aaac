# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""The Hyper-V and Windows storage domain (public names); no XML and no Ansible below this point."""

from __future__ import annotations

from .cim_access import CimClient
from .disk_identity import vhd_unique_ids
from .errors import Ambiguous, HypervError, JobFailed, MethodFailed, NotFound, Precondition
from .guest import file_evidence, list_root, observe_guest
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
from .model import (
    FileEntry,
    GuestDisk,
    GuestView,
    GuestVolume,
    HostView,
    Lun,
    Slot,
    VirtualMachine,
    VmDisk,
)
from .registry import Registry, RegistryValue
from .scheduled_tasks import ScheduledTask, ScheduledTasks
from .schema import SCHEMA

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
