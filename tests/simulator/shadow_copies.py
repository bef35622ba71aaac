# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Win32_ShadowCopy, Win32_ShadowStorage, Win32_ShadowProvider: shadow copies, their storage and providers as CIM.

The rows are those of the machine's VSS (volume_shadow_service.py) and the versions that backups keep on local targets.
The copies of a running wbengine job are not listed; they are released with it. Facts: windows-storage 5.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from .assumed import assumed
from .cim import CimFault, Instance, Ref, Value
from .disks import stable_guid
from .processes import SYSTEM as SYSTEM_TOKEN
from .service import delete, method, view
from .shadow_transport import revert
from .volume_shadow_service import (
    E_INVALIDARG,
    SYSTEM,
    SYSTEM_PROVIDER,
    VSS_E_BAD_STATE,
    VSS_E_MAXIMUM_NUMBER_OF_SNAPSHOTS_REACHED,
    VSS_E_PROVIDER_NOT_REGISTERED,
    VSS_E_PROVIDER_VETO,
    VSS_E_VOLUME_IN_USE,
    SetOptions,
    ShadowCopy,
    VssError,
)
from .vss_writer import VSS_E_INSUFFICIENT_STORAGE, VSS_E_SNAPSHOT_SET_IN_PROGRESS, VSS_E_VOLUME_NOT_SUPPORTED

NS = "root/cimv2"

Row = Mapping[str, Value]

ACCESS_DENIED, INVALID_ARGUMENT, NO_VOLUME, UNSUPPORTED_VOLUME, BAD_CONTEXT = 1, 2, 3, 4, 5
CREATE_CODES = {
    E_INVALIDARG: INVALID_ARGUMENT,
    VSS_E_VOLUME_NOT_SUPPORTED: UNSUPPORTED_VOLUME,
    VSS_E_INSUFFICIENT_STORAGE: 6,
    VSS_E_VOLUME_IN_USE: 7,
    VSS_E_MAXIMUM_NUMBER_OF_SNAPSHOTS_REACHED: 8,
    VSS_E_SNAPSHOT_SET_IN_PROGRESS: 9,
    VSS_E_PROVIDER_VETO: 10,
    VSS_E_PROVIDER_NOT_REGISTERED: 11,
    VSS_E_BAD_STATE: 12,
}
"""Return codes of Win32_ShadowCopy.Create (windows-storage 5); everything else is 13."""

assumed(
    "shadow-copies-of-versions",
    "Every version on a local target is one persistent shadow copy of the target volume, with the version's Snapshot ID",
    source="backup-engines 1.6 prints a Snapshot ID for local targets; that it is a shadow copy is inferred",
)
assumed(
    "shadow-create-contexts",
    "Win32_ShadowCopy.Create takes the context ClientAccessible only, or Backup, AppRollback and the like as well",
    source="windows-storage 5 names ClientAccessible; code 5 is an unsupported context",
    values=("client-accessible", "all"),
)


@view(NS, "Win32_ShadowCopy")
def shadow_copies(machine: Any) -> Iterable[Row]:
    if machine.backup is None:
        return
    for version in machine.backup.catalog:
        volume = machine.backup.find_volume(version.target) if version.snapshot_id else None
        if volume is None:
            continue
        yield {
            "ClientAccessible": False,
            "Count": 1,
            "DeviceObject": "\\\\?\\GLOBALROOT\\Device\\HarddiskVolumeShadowCopy"
            f"{machine.vss.device_number(version.template_id)}",
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
    for copy in machine.vss.present():
        yield _row(copy)


def _row(copy: ShadowCopy) -> Row:
    words = set(copy.attributes)
    exposed = copy.exposed
    return {
        "ClientAccessible": copy.options.client_accessible,
        "Count": copy.count,
        "DeviceObject": copy.device,
        "Differential": not copy.options.plex,
        "ExposedLocally": "Exposed_Locally" in words,
        "ExposedName": exposed.name if exposed is not None else None,
        "ExposedRemotely": "Exposed_Remotely" in words,
        "HardwareAssisted": copy.provider.kind == "hardware",
        "ID": f"{{{copy.id}}}".upper(),
        "Imported": copy.imported,
        "InstallDate": copy.created,
        "NoAutoRelease": copy.options.stays,
        "NotSurfaced": not copy.surfaced,
        "NoWriters": "No_Writers" in words,
        "OriginatingMachine": copy.originating,
        "Persistent": copy.options.stays,
        "Plex": copy.options.plex,
        "ProviderID": copy.provider.id.upper(),
        "ServiceMachine": copy.service,
        "SetID": f"{{{copy.set_id}}}".upper(),
        "State": 12,
        "Transportable": copy.options.transportable,
        "VolumeName": copy.origin_path,
    }


@method(NS, "Win32_ShadowCopy", "Create")
def create_shadow_copy(machine: Any, _target: Instance | None, arguments: dict[str, Value]) -> Row:
    """Without writers; done when it answers."""
    wanted, context = arguments.get("Volume"), str(arguments.get("Context") or "ClientAccessible")
    known = {"clientaccessible"}
    if machine.world.assume("shadow-create-contexts") == "all":
        known |= {"backup", "filesharebackup", "nasrollback", "approllback", "clientaccessiblewriters"}
    if not isinstance(wanted, str) or not wanted:
        return {"ReturnValue": INVALID_ARGUMENT}
    if context.lower() not in known:
        return {"ReturnValue": BAD_CONTEXT}
    volume = machine.backup.find_volume(wanted)
    if volume is None:
        return {"ReturnValue": NO_VOLUME}
    options = SetOptions(client_accessible=True)
    try:
        pending = machine.vss.start_set([(volume, machine.vss.provider_for(volume, SYSTEM.id, options))], options)
        made = machine.vss.commit(pending)
    except VssError as problem:
        return {"ReturnValue": CREATE_CODES.get(problem.hresult, 13)}
    return {"ReturnValue": 0, "ShadowID": f"{{{made[0].id}}}".upper()}


def _copy_of(machine: Any, target: Instance | None) -> ShadowCopy:
    found: ShadowCopy | None = machine.vss.find(str(target.get("ID"))) if target is not None else None
    if found is None:
        raise CimFault.wmi(0x80041002, "Not found")
    return found


@method(NS, "Win32_ShadowCopy", "Revert")
def revert_shadow_copy(machine: Any, target: Instance | None, arguments: dict[str, Value]) -> Row:
    try:
        revert(machine.vss, _copy_of(machine, target), force=bool(arguments.get("ForceDismount")))
    except VssError as problem:
        return {"ReturnValue": CREATE_CODES.get(problem.hresult, 13)}
    return {"ReturnValue": 0}


assumed(
    "shadow-of-version-deleted",
    "Deleting the shadow copy of a version (Win32_ShadowCopy) takes the version from its target and the catalog",
    source="backup-engines 1.6 (inferred)",
)


@delete(NS, "Win32_ShadowCopy")
def delete_shadow_copy(machine: Any, target: Instance) -> None:
    wanted = str(target.get("ID")).upper()
    for version in [v for v in machine.backup.catalog if v.snapshot_id.upper() == wanted]:
        place = machine.backup.target(version.target, SYSTEM_TOKEN, write=True).place
        place.drop_version(version.computer, version)
        machine.backup.forget(version)
        return
    try:
        machine.vss.delete(_copy_of(machine, target))
    except VssError as problem:
        raise CimFault.wmi(problem.hresult, problem.name) from problem


@view(NS, "Win32_ShadowProvider")
def shadow_providers(machine: Any) -> Iterable[Row]:
    for provider in machine.vss.providers() if machine.vss is not None else ():
        yield {
            "CLSID": provider.class_id,
            "ID": provider.id.upper(),
            "Name": provider.name,
            "Type": {"system": 1, "software": 2, "hardware": 3}[provider.kind],
            "Version": provider.version,
            "VersionID": f"{{{stable_guid(provider.id, provider.version)}}}".upper(),
        }


@view(NS, "Win32_ShadowVolumeSupport")
def shadow_volume_support(machine: Any) -> Iterable[Row]:
    for provider in machine.vss.providers() if machine.vss is not None else ():
        for volume in machine.volumes():
            if provider.supports(volume):
                yield {
                    "Antecedent": Ref(NS, "Win32_ShadowProvider", {"ID": provider.id.upper()}),
                    "Dependent": Ref(NS, "Win32_Volume", {"DeviceID": volume.path}),
                }


@view(NS, "Win32_ShadowStorage")
def shadow_storage(machine: Any) -> Iterable[Row]:
    """Volumes with the volume that holds their diff area: where one was set up, or where shadow copies are."""
    vss = machine.vss
    guids = dict.fromkeys(machine.shadow_storage)
    for copy in vss.present() if vss is not None else ():
        if copy.provider.kind == "system":
            guids[copy.origin_guid] = None
    for guid in guids:
        store_guid, limit = machine.shadow_storage.get(guid, (guid, 0))
        source, target = machine.volume_by_guid(guid), machine.volume_by_guid(store_guid)
        if source is None or target is None or target.is_raw:
            continue
        reserved = sum(size for purpose, size in target.files.reservations.items() if guid in purpose)
        allocated, used = vss.used_space(guid) if vss is not None else (0, 0)
        yield {
            "Volume": Ref(NS, "Win32_Volume", {"DeviceID": source.path}),
            "DiffVolume": Ref(NS, "Win32_Volume", {"DeviceID": target.path}),
            "AllocatedSpace": reserved,
            "UsedSpace": used + max(0, reserved - allocated),
            "MaxSpace": limit or (vss.limit(guid) if vss is not None else target.size // 10),
        }


@method(NS, "Win32_ShadowStorage", "Create")
def create_shadow_storage(machine: Any, _target: Instance | None, arguments: dict[str, Value]) -> Row:
    source = machine.backup.find_volume(str(arguments.get("Volume") or ""))
    store = machine.backup.find_volume(str(arguments.get("DiffVolume") or ""))
    size = arguments.get("MaxSpace")
    if source is None or store is None:
        return {"ReturnValue": NO_VOLUME}
    if source.guid in machine.shadow_storage or machine.vss.of_volume(source.guid):
        return {"ReturnValue": 7}
    machine.shadow_storage[source.guid] = (store.guid, int(size) if isinstance(size, int) else 0)
    return {"ReturnValue": 0}
