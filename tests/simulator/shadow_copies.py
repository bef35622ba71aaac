# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Win32_ShadowCopy: the shadow copies of a machine as CIM - the versions that backups keep on local targets.

Taking a snapshot for a backup is vss_writer.py. Create and Revert are not simulated. The copies of a running job are not
listed; they are released with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from .assumed import assumed
from .cim import Value
from .service import view

SYSTEM_PROVIDER = "{b5946137-7b9f-4925-af80-51abd60b20d5}"

assumed(
    "shadow-copies-of-versions",
    "Every version on a local target is one persistent shadow copy of the target volume, with the version's Snapshot ID",
    source="backup-engines 1.6 prints a Snapshot ID for local targets; that it is a shadow copy is inferred",
)


@view("root/cimv2", "Win32_ShadowCopy")
def shadow_copies(machine: Any) -> Iterable[Mapping[str, Value]]:
    if machine.backup is None:
        return
    for number, version in enumerate(machine.backup.catalog, 1):
        volume = machine.backup.find_volume(version.target) if version.snapshot_id else None
        if volume is None:
            continue
        yield {
            "ClientAccessible": False,
            "Count": 1,
            "DeviceObject": f"\\\\?\\GLOBALROOT\\Device\\HarddiskVolumeShadowCopy{number}",
            "Differential": True,
            "ExposedLocally": False,
            "ExposedRemotely": False,
            "HardwareAssisted": False,
            "ID": version.snapshot_id.upper(),
            "Imported": False,
            "InstallDate": datetime.fromisoformat(version.time),
            "NoAutoRelease": True,
            "NotSurfaced": False,
            "NoWriters": True,
            "OriginatingMachine": machine.dns_name,
            "Persistent": True,
            "Plex": False,
            "ProviderID": SYSTEM_PROVIDER.upper(),
            "ServiceMachine": machine.dns_name,
            "SetID": version.template_id.upper(),
            "State": 12,
            "Transportable": False,
            "VolumeName": volume.path,
        }
