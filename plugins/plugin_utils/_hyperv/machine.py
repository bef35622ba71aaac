# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""Facts of any Windows machine: its name, system and clock, its services and running programs.

The clock is the machine's own: times that are compared with each other come from one clock, never the controller's.

Not here: Hyper-V (`host`), disks (`guest`), starting programs (`scheduled_tasks`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone

from .._wsman import AccessDenied, CimInstance
from .cim_access import CimClient, any_of, int_of, query_filtered, required_text, text_of, time_of
from .errors import HypervError, Precondition
from .schema import CIMV2

_WORKSTATION = 1  # Win32_OperatingSystem.ProductType: 1 workstation, 2 domain controller, 3 server


@dataclass(frozen=True, kw_only=True)
class MachineFacts:
    computer_name: str
    os_caption: str
    os_version: str
    os_build: int
    is_server: bool
    is_domain_controller: bool
    system_directory: str
    utc: datetime


@dataclass(frozen=True, kw_only=True)
class Service:
    name: str
    state: str
    start_mode: str


@dataclass(frozen=True, kw_only=True)
class RunningProcess:
    """A program that runs; ids are reused, so that id and start time together identify it."""

    id: int
    parent_id: int | None
    name: str
    command_line: str
    started: datetime | None


def rights_missing(what: str, fault: Exception) -> Precondition:
    """The error for a refused read."""
    return Precondition(
        "rights_missing",
        f"{what} may not be read by the connection's account ({fault}); use an account of the local group "
        f"Administrators (a local account other than the built-in Administrator also needs the registry value "
        f"LocalAccountTokenFilterPolicy = 1).",
    )


def _operating_system(client: CimClient) -> CimInstance:
    try:
        rows = client.query(CIMV2, "Win32_OperatingSystem")
    except AccessDenied as fault:
        raise rights_missing("The operating system's facts", fault) from fault
    if not rows:
        raise HypervError(
            "unexpected_answer",
            "Win32_OperatingSystem has no instance, so that neither the Windows version nor the clock is known; "
            "repair the machine's WMI repository.",
        )
    return rows[0]


def machine_facts(client: CimClient) -> MachineFacts:
    row = _operating_system(client)
    build = text_of(row, "BuildNumber")
    product_type = int_of(row, "ProductType")
    return MachineFacts(
        computer_name=required_text(row, "CSName", what="The machine's name is unknown"),
        os_caption=text_of(row, "Caption"),
        os_version=text_of(row, "Version"),
        os_build=int(build) if build.isdecimal() else 0,
        is_server=product_type not in (None, _WORKSTATION),
        is_domain_controller=product_type == 2,
        system_directory=text_of(row, "SystemDirectory") or "C:\\Windows\\System32",
        utc=_utc(row),
    )


def utc_now(client: CimClient) -> datetime:
    """The machine's own time in UTC (Win32_OperatingSystem.LocalDateTime)."""
    return _utc(_operating_system(client))


def _utc(row: CimInstance) -> datetime:
    """LocalDateTime carries its offset on the wire (wsman 3); the object model gives it as an aware time."""
    local = time_of(row, "LocalDateTime")
    if local is None:
        raise HypervError(
            "unexpected_answer",
            "Win32_OperatingSystem tells no LocalDateTime, so that the machine's clock is unknown; "
            "repair the machine's WMI repository.",
        )
    return (local if local.tzinfo is not None else local.replace(tzinfo=timezone.utc)).astimezone(timezone.utc)


def services_named(client: CimClient, names: Iterable[str]) -> dict[str, Service]:
    """Services that are installed, by their lower-case name; a name that is missing is not installed."""
    wanted = {name.lower() for name in names}
    try:
        rows = query_filtered(client, CIMV2, "Win32_Service", any_of("Name", sorted(wanted)))
    except AccessDenied as fault:
        raise rights_missing("The list of services", fault) from fault
    return {
        text_of(row, "Name").lower(): Service(
            name=text_of(row, "Name"), state=text_of(row, "State"), start_mode=text_of(row, "StartMode")
        )
        for row in rows
        if text_of(row, "Name").lower() in wanted
    }


def services_on(client: CimClient, letter: str) -> tuple[str, ...]:
    """Running services whose program lies on a drive, as `Title (Name)`: who keeps that volume busy, as far as Windows tells."""
    wanted = f"{letter.rstrip(':').casefold()}:\\"
    rows = query_filtered(client, CIMV2, "Win32_Service", any_of("State", ["Running"]))
    return tuple(
        f"{text_of(row, 'DisplayName') or text_of(row, 'Name')} ({text_of(row, 'Name')})"
        for row in rows
        if text_of(row, "State").casefold() == "running"
        and text_of(row, "PathName").strip().lstrip('"').casefold().startswith(wanted)
    )


def processes_named(client: CimClient, names: Iterable[str]) -> tuple[RunningProcess, ...]:
    """Running programs by file name such as `wbadmin.exe`, with their command lines."""
    wanted = {name.lower() for name in names}
    rows = query_filtered(client, CIMV2, "Win32_Process", any_of("Name", sorted(wanted)))
    return tuple(
        RunningProcess(
            id=int_of(row, "ProcessId") or 0,
            parent_id=int_of(row, "ParentProcessId"),
            name=text_of(row, "Name"),
            command_line=text_of(row, "CommandLine"),
            started=time_of(row, "CreationDate"),
        )
        for row in rows
        if text_of(row, "Name").lower() in wanted
    )
