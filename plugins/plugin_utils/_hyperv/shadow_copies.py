# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
r"""Shadow copies of a Windows machine as CIM shows them: copies, providers, what a provider supports, where changes go.

Responsible for reading. Not responsible for making, exposing or deleting a shadow copy (`_backup/diskshadow.py` lets diskshadow do
that), nor for which of them is whose.

Facts: windows-storage 3.8; documentation of Win32_ShadowCopy, Win32_ShadowProvider, Win32_ShadowVolumeSupport and
Win32_ShadowStorage (the VSS provider of WMI). A reference to a volume is compared by the GUID in it: how Windows writes the
backslashes of its key on the wire is not recorded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from .._wsman import CimInstance, CimPath
from .cim_access import CimClient, any_of, bool_of, int_of, query_filtered, text_of, time_of
from .schema import CIMV2

SYSTEM_PROVIDER = "b5946137-7b9f-4925-af80-51abd60b20d5"  # backup-engines 2
HARDWARE = 3
PROVIDER_TYPES = {1: "system", 2: "software", 3: "hardware"}

_GUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


def guid_in(text: object) -> str:
    """The first GUID of a text, lower case and without braces; "" when there is none."""
    match = _GUID.search(str(text or ""))
    return match[0].lower() if match else ""


@dataclass(frozen=True, kw_only=True)
class ShadowCopy:
    r"""One shadow copy. GUIDs are lower case without braces; `exposed_as` is where it can be read (`Z:\`), None when nowhere."""

    id: str
    set_id: str
    volume: str  # GUID path of the original volume
    provider: str
    device: str
    created: datetime | None
    is_persistent: bool
    is_transportable: bool
    is_hardware: bool
    is_client_accessible: bool
    has_no_writers: bool
    is_surfaced: bool  # whether this machine can read it; a transportable one is surfaced by its import
    exposed_as: str | None

    @property
    def volume_guid(self) -> str:
        return guid_in(self.volume)

    def describe(self) -> str:
        return f"{{{self.id}}} of {self.volume}"


@dataclass(frozen=True, kw_only=True)
class ShadowProvider:
    id: str
    name: str
    type: int | None

    def describe(self) -> str:
        return f"{self.name or 'a provider without a name'} {{{self.id}}} ({PROVIDER_TYPES.get(self.type or 0, 'unknown')})"


@dataclass(frozen=True, kw_only=True)
class ShadowStorage:
    """Where the system provider keeps what is changed after a shadow copy. `max_bytes` is None when it is not bounded."""

    volume_guid: str
    on_volume_guid: str
    max_bytes: int | None
    used_bytes: int


_UNBOUNDED = 1 << 62  # Windows shows UNBOUNDED as the greatest number of 64 bits (general knowledge)


def shadow_copies(client: CimClient, ids: Iterable[str] | None = None) -> tuple[ShadowCopy, ...]:
    """All shadow copies of the machine, or those of some ids, oldest first."""
    wanted = None if ids is None else {one.lower() for one in ids}
    if wanted is not None and not wanted:
        return ()
    where = None
    if wanted is not None and len(wanted) <= 20:
        where = any_of("ID", sorted(f"{{{one.upper()}}}" for one in wanted))
    rows = [_copy(row) for row in query_filtered(client, CIMV2, "Win32_ShadowCopy", where)]
    kept = [row for row in rows if row.id and (wanted is None or row.id in wanted)]
    return tuple(sorted(kept, key=lambda row: ("" if row.created is None else row.created.isoformat(), row.id)))


def shadow_providers(client: CimClient) -> tuple[ShadowProvider, ...]:
    rows = client.query(CIMV2, "Win32_ShadowProvider")
    found = [
        ShadowProvider(id=guid_in(text_of(row, "ID")), name=text_of(row, "Name"), type=int_of(row, "Type"))
        for row in rows
    ]
    return tuple(sorted((one for one in found if one.id), key=lambda one: one.id))


def supported_volumes(client: CimClient) -> frozenset[tuple[str, str]]:
    """Pairs (provider, GUID of a volume) that Windows calls possible."""
    rows = client.query(CIMV2, "Win32_ShadowVolumeSupport")
    pairs = {(_reference(row, "Antecedent", "ID"), _reference(row, "Dependent", "DeviceID")) for row in rows}
    return frozenset(pair for pair in pairs if all(pair))


def shadow_storages(client: CimClient) -> tuple[ShadowStorage, ...]:
    rows = client.query(CIMV2, "Win32_ShadowStorage")
    return tuple(_storage(row) for row in rows)


def free_letters(client: CimClient) -> tuple[str, ...]:
    """Drive letters that no drive of the machine has, from Z backwards; A, B and C are never among them.

    Letters of network drives that some other logon has mapped do not show; to use one of them as well does no harm.
    """
    taken = {text_of(row, "DeviceID")[:1].upper() for row in client.query(CIMV2, "Win32_LogicalDisk")}
    taken |= {text_of(row, "DriveLetter")[:1].upper() for row in client.query(CIMV2, "Win32_Volume")}
    return tuple(letter for letter in "ZYXWVUTSRQPONMLKJIHGFED" if letter not in taken)


def of_volumes(copies: Sequence[ShadowCopy], volume_guids: Iterable[str]) -> tuple[ShadowCopy, ...]:
    wanted = {one.lower() for one in volume_guids}
    return tuple(copy for copy in copies if copy.volume_guid in wanted)


def _copy(row: CimInstance) -> ShadowCopy:
    exposed = text_of(row, "ExposedName") or text_of(row, "ExposedPath")
    is_local = row.get("ExposedLocally") is not False
    return ShadowCopy(
        id=guid_in(text_of(row, "ID")),
        set_id=guid_in(text_of(row, "SetID")),
        volume=text_of(row, "VolumeName"),
        provider=guid_in(text_of(row, "ProviderID")),
        device=text_of(row, "DeviceObject"),
        created=time_of(row, "InstallDate"),
        is_persistent=bool_of(row, "Persistent"),
        is_transportable=bool_of(row, "Transportable"),
        is_hardware=bool_of(row, "HardwareAssisted"),
        is_client_accessible=bool_of(row, "ClientAccessible"),
        has_no_writers=bool_of(row, "NoWriters"),
        is_surfaced=not bool_of(row, "NotSurfaced") or bool_of(row, "Imported"),
        exposed_as=exposed.rstrip("\\") + "\\" if exposed and is_local else None,
    )


def _storage(row: CimInstance) -> ShadowStorage:
    maximum = int_of(row, "MaxSpace")
    return ShadowStorage(
        volume_guid=_reference(row, "Volume", "DeviceID"),
        on_volume_guid=_reference(row, "DiffVolume", "DeviceID"),
        max_bytes=None if maximum is None or maximum >= _UNBOUNDED else maximum,
        used_bytes=int_of(row, "UsedSpace") or 0,
    )


def _reference(row: CimInstance, name: str, key: str) -> str:
    value = row.get(name)
    if isinstance(value, CimPath):
        return guid_in(value.key(key))
    if isinstance(value, CimInstance):
        return guid_in(text_of(value, key))
    return guid_in(value)
