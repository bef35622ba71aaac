# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Win32_NTLogEvent and Win32_NTEventlogFile: the classic logs as CIM. The store is event_log.py.

Only Application, Security and System are visible here; channels such as Microsoft-Windows-Backup are not, as on Windows
(the provider opens logs through the old event log API).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .assumed import assumed
from .cim import Value
from .event_log import CLASSIC_CHANNELS, LEVEL_NAMES, EventLog, EventRecord
from .service import view

assumed(
    "eventlog-modern-channels",
    "Win32_NTLogEvent never shows a channel that has no key below Services\\EventLog (the backup's has none)",
    source="backup-engines 1.10 names the channel only; the provider's limit is general knowledge",
)

_TYPES = {0: (3, "Information"), 1: (1, "Error"), 2: (1, "Error"), 3: (2, "Warning"), 4: (3, "Information")}


def cim_time(record: EventRecord) -> str:
    return record.created.strftime("%Y%m%d%H%M%S.%f") + "-000"


def _row(record: EventRecord) -> Mapping[str, Value]:
    code, name = _TYPES.get(record.level, (3, "Information"))
    strings: list[Value] = [value for _name, value in record.data]
    return {
        "Category": record.task,
        "CategoryString": None,
        "ComputerName": record.computer,
        "Data": None,
        "EventCode": record.event_id,
        "EventIdentifier": record.event_id,
        "EventType": code,
        "InsertionStrings": strings or None,
        "Logfile": record.channel,
        "Message": record.message or None,
        "RecordNumber": record.record_id,
        "SourceName": record.provider,
        "TimeGenerated": record.created,
        "TimeWritten": record.created,
        "Type": name,
        "User": "NT AUTHORITY\\SYSTEM" if record.user_sid == "S-1-5-18" else None,
    }


@view("root/cimv2", "Win32_NTLogEvent")
def classic_events(machine: Any, known: Mapping[str, Value]) -> Iterable[Mapping[str, Value]]:
    log: EventLog = machine.event_log
    wanted = known.get("Logfile")
    for name in CLASSIC_CHANNELS:
        if isinstance(wanted, str) and wanted.upper() != name.upper():
            continue
        channel = log.channel(name)
        for record in reversed(channel.records if channel else []):
            yield _row(record)


__all__ = ["LEVEL_NAMES", "cim_time", "classic_events"]
