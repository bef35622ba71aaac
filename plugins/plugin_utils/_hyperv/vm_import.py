# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
r"""A VM from a definition file: imported as a planned VM, put right while it is only planned, then realised.

A planned VM cannot start and no host starts it by itself, so that what must not happen to a restored VM is settled here: its
automatic start action is Nothing, no pass-through drive leads to a disk number of old, its virtual hard disks are where they
shall be, and its configuration lies in folders of its own and not in the backup. Each step reads first and changes only what
is not so yet, so that calling all of them again is the recovery.

Facts: hyperv-wmi 7.5, 2.4, 2.6. Assumed: the data roots of a planned VM can be changed and its files are then made there when
it is realised (Microsoft's own import with a destination works that way).

Not here: which files go where and whether a VM may be replaced (`_backup`), networks (`vm_settings`), attaching LUNs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .._wsman import CimInstance, CimPath, Value
from .cim_access import CimClient, any_of, int_of, query_filtered, text_of, texts_of
from .errors import HypervError, Precondition
from .host_topology import PHYSICAL_DISK_DRIVE, owner_of
from .jobs import Hands, act, look_until
from .passthrough import MANAGEMENT_SERVICE, setting_path
from .schema import VIRTUALIZATION
from .vm_power import find_power

_PLANNED = "Msvm_PlannedComputerSystem"
_SETTINGS = "Msvm_VirtualSystemSettingData"
_STORAGE = "Msvm_StorageAllocationSettingData"
_RESOURCE = "Msvm_ResourceAllocationSettingData"
_VIRTUAL_HARD_DISK = "Microsoft:Hyper-V:Virtual Hard Disk"
_START_NOTHING = 2
#: Folders of a VM's own files; a definition that was read from a backup must not keep them there.
DATA_ROOTS = ("ConfigurationDataRoot", "SnapshotDataRoot")


@dataclass(frozen=True, kw_only=True)
class PlannedVm:
    """A planned VM as it is now.

    Attributes:
        files: InstanceID of a virtual hard disk's setting -> the file it leads to.
        physical: InstanceIDs of its pass-through drives.
        roots: `DATA_ROOTS` and where they lead.
    """

    id: str
    name: str
    files: Mapping[str, str]
    physical: tuple[str, ...]
    roots: Mapping[str, str]
    automatic_start: int | None


def planned_path(vm_id: str) -> CimPath:
    return CimPath(VIRTUALIZATION, _PLANNED, {"CreationClassName": _PLANNED, "Name": vm_id.upper()})


def find_planned(client: CimClient, vm_id: str) -> PlannedVm | None:
    """The planned VM of that GUID, None when there is none (a realised one of that GUID does not count)."""
    rows = query_filtered(client, VIRTUALIZATION, _PLANNED, any_of("Name", [vm_id.upper()]))
    row = next((one for one in rows if text_of(one, "Name").casefold() == vm_id.casefold()), None)
    if row is None:
        return None
    settings = client.get(setting_path(_instance(vm_id), _SETTINGS))
    return PlannedVm(
        id=vm_id.upper(),
        name=text_of(row, "ElementName"),
        files={
            text_of(one, "InstanceID"): next(iter(texts_of(one, "HostResource")), "")
            for one in _rows_of(client, vm_id, _STORAGE)
            if text_of(one, "ResourceSubType").casefold() == _VIRTUAL_HARD_DISK.casefold()
        },
        physical=tuple(
            text_of(one, "InstanceID")
            for one in _rows_of(client, vm_id, _RESOURCE)
            if text_of(one, "ResourceSubType").casefold() == PHYSICAL_DISK_DRIVE.casefold()
        ),
        roots={name: text_of(settings, name) for name in DATA_ROOTS},
        automatic_start=int_of(settings, "AutomaticStartupAction"),
    )


def import_definition(client: CimClient, definition: str, vm_id: str, hands: Hands) -> PlannedVm:
    r"""Import a definition file under the GUID it holds; a planned VM of that GUID that is there is returned as it is.

    Args:
        definition: whole path of `<GUID>.vmcx`, local or on a share that the host's computer account can read.

    Raises: Precondition `vm_exists`: a VM of that GUID is on the host, two of one GUID cannot be; MethodFailed, JobFailed;
        HypervError `not_observed`: what was imported has another GUID (it is left for the operator to see).
    """
    there = find_planned(client, vm_id)
    if there is not None:
        return there
    existing = find_power(client, vm_id)
    if existing is not None:
        raise Precondition(
            "vm_exists", f"VM {existing.name} ({vm_id}) is on the host, so that it cannot be imported beside itself."
        )
    what = f"Importing {definition}"
    act(
        client,
        MANAGEMENT_SERVICE,
        "ImportSystemDefinition",
        {
            "SystemDefinitionFile": definition,
            "SnapshotFolder": definition.rpartition("\\")[0],
            "GenerateNewSystemIdentifier": False,
        },
        hands,
        what=what,
    )
    return look_until(lambda: find_planned(client, vm_id), hands, what=what)


def settle_planned(
    client: CimClient,
    vm_id: str,
    hands: Hands,
    *,
    place: Callable[[str], str | None],
    roots: Mapping[str, str] | None = None,
) -> PlannedVm:
    """Make a planned VM one that may be realised: no start by itself, no pass-through drive, files and folders as wished.

    Args:
        place: the path that a virtual hard disk has in the definition -> the one it shall have; None leaves it.
        roots: `DATA_ROOTS` -> folder; one that is not named is left.

    Raises: MethodFailed, JobFailed; HypervError `unknown_planned_vm`, `not_observed`.
    """
    planned = _required(client, vm_id)
    wished = {name: folder for name, folder in (roots or {}).items() if name in DATA_ROOTS and folder}
    _set_up(client, planned, wished, hands)
    if planned.physical:
        _drop_pass_through(client, planned, hands)
    for instance_id, path in planned.files.items():
        wanted = place(path)
        if wanted is not None and wanted.casefold() != path.casefold():
            _repoint(client, vm_id, instance_id, path, wanted, hands)
    return _required(client, vm_id)


def validate_planned(client: CimClient, vm_id: str, hands: Hands) -> None:
    """Let Hyper-V say what speaks against a planned VM. Raises: MethodFailed, JobFailed."""
    what = f"Validating the planned VM {vm_id}"
    act(client, MANAGEMENT_SERVICE, "ValidatePlannedSystem", {"PlannedSystem": planned_path(vm_id)}, hands, what=what)


def realize_planned(client: CimClient, vm_id: str, hands: Hands) -> None:
    """Make a VM of a planned one; nothing happens when it is one already. Raises: MethodFailed, JobFailed, HypervError."""
    if find_planned(client, vm_id) is None and find_power(client, vm_id) is not None:
        return
    _required(client, vm_id)
    what = f"Realising the planned VM {vm_id}"
    act(client, MANAGEMENT_SERVICE, "RealizePlannedSystem", {"PlannedSystem": planned_path(vm_id)}, hands, what=what)

    def realised() -> bool | None:
        return True if find_power(client, vm_id) is not None and find_planned(client, vm_id) is None else None

    look_until(realised, hands, what=what)


def discard_planned(client: CimClient, vm_id: str, hands: Hands) -> bool:
    """Take a planned VM away; its files stay. Whether there was one. The caller knows that it is ours."""
    if find_planned(client, vm_id) is None:
        return False
    what = f"Discarding the planned VM {vm_id}"
    act(client, MANAGEMENT_SERVICE, "DestroySystem", {"AffectedSystem": planned_path(vm_id)}, hands, what=what)
    look_until(lambda: True if find_planned(client, vm_id) is None else None, hands, what=what)
    return True


# --- Steps --------------------------------------------------------------------------------------------------------


def _set_up(client: CimClient, planned: PlannedVm, roots: Mapping[str, str], hands: Hands) -> None:
    moved = {name: folder for name, folder in roots.items() if not _same_folder(planned.roots.get(name, ""), folder)}
    if planned.automatic_start == _START_NOTHING and not moved:
        return
    what = f"Preparing the planned VM {planned.name}"
    values: dict[str, Value] = {
        "InstanceID": _instance(planned.id),
        "AutomaticStartupAction": _START_NOTHING,
        **moved,
    }
    settings = CimInstance(_SETTINGS, VIRTUALIZATION, values)
    act(client, MANAGEMENT_SERVICE, "ModifySystemSettings", {"SystemSettings": settings}, hands, what=what)

    def prepared() -> bool | None:
        now = _required(client, planned.id)
        done = all(_same_folder(now.roots.get(name, ""), folder) for name, folder in moved.items())
        return True if now.automatic_start == _START_NOTHING and done else None

    look_until(prepared, hands, what=what)


def _drop_pass_through(client: CimClient, planned: PlannedVm, hands: Hands) -> None:
    what = f"Taking the pass-through drives away from the planned VM {planned.name}"
    drives: list[Value] = [setting_path(instance_id) for instance_id in planned.physical]
    act(client, MANAGEMENT_SERVICE, "RemoveResourceSettings", {"ResourceSettings": drives}, hands, what=what)
    look_until(lambda: None if _required(client, planned.id).physical else True, hands, what=what)


def _repoint(client: CimClient, vm_id: str, instance_id: str, path: str, wanted: str, hands: Hands) -> None:
    what = f"Pointing {path} of the planned VM {vm_id} to {wanted}"
    values: dict[str, Value] = {"InstanceID": instance_id, "HostResource": [wanted]}
    setting = CimInstance(_STORAGE, VIRTUALIZATION, values)
    act(client, MANAGEMENT_SERVICE, "ModifyResourceSettings", {"ResourceSettings": [setting]}, hands, what=what)

    def pointed() -> bool | None:
        now = _required(client, vm_id).files
        return True if any(one.casefold() == wanted.casefold() for one in now.values()) else None

    look_until(pointed, hands, what=what)


def _required(client: CimClient, vm_id: str) -> PlannedVm:
    planned = find_planned(client, vm_id)
    if planned is None:
        raise HypervError(
            "unknown_planned_vm", f"The host has no planned VM {vm_id} any more; somebody took it away, run again."
        )
    return planned


def _instance(vm_id: str) -> str:
    return f"Microsoft:{vm_id.upper()}"


def _rows_of(client: CimClient, vm_id: str, class_name: str) -> list[CimInstance]:
    where = any_of("InstanceID", [f"{_instance(vm_id)}%"], operator="LIKE")
    rows = query_filtered(client, VIRTUALIZATION, class_name, where)
    return [row for row in rows if owner_of(text_of(row, "InstanceID")) == vm_id.upper()]


def _same_folder(one: str, other: str) -> bool:
    return one.rstrip("\\").casefold() == other.rstrip("\\").casefold()
