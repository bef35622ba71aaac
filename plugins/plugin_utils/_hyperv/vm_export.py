# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
r"""Recovery checkpoints of a VM, and the export of one into a folder: the calls, and what the host shows of them.

A recovery checkpoint is what Hyper-V makes for backup products: the VM keeps running, its virtual hard disks stand still
until the checkpoint is removed, disks that cannot be part of one are left out only when that is asked for. An export of it
copies these standing files and a definition without any pass-through disk's content.

Facts: hyperv-wmi 7.1 to 7.4, backup-engines 3.3. Not proven there and taken as Microsoft's sample does it: SnapshotType 32768,
CopySnapshotConfiguration 3 with SnapshotVirtualSystem. Assumed: the name in the snapshot's settings becomes the checkpoint's
name (it is set again afterwards in any case).

Not here: which run made a checkpoint and what is done with it (`_backup.export`), importing (`vm_import`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from .._wsman import CimInstance, CimPath, OutcomeUnknown, Value, object_path
from .cim_access import CimClient, any_of, invoke_checked, query_filtered, text_of, texts_of, time_of
from .host_topology import owner_of
from .jobs import HYPERV_CODES, JOB_STARTED, VANISHED, Hands, JobStatus, act, look_until, read_job
from .machine import machine_facts
from .model import CHECKPOINT_TYPES
from .passthrough import MANAGEMENT_SERVICE, setting_path
from .schema import VIRTUALIZATION
from .vm_power import find_power, vm_path

_SNAPSHOT_SERVICE = CimPath(
    VIRTUALIZATION,
    "Msvm_VirtualSystemSnapshotService",
    {"CreationClassName": "Msvm_VirtualSystemSnapshotService"},
)
_SETTINGS = "Msvm_VirtualSystemSettingData"
_STORAGE = "Msvm_StorageAllocationSettingData"
_VIRTUAL_HARD_DISK = "microsoft:hyper-v:virtual hard disk"
_SNAPSHOT = "microsoft:hyper-v:snapshot"
_RECOVERY = 32768  # SnapshotType (hyperv-wmi 7.1)
_ONE_FOR_BACKUP, _MERGE = 3, 1  # CopySnapshotConfiguration, BackupIntent (hyperv-wmi 7.3, 7.4)
_KILL = 5  # RequestedState of a job (hyperv-wmi 4.3)
CONSISTENCY = {"application": 1, "crash": 2}
GUEST_BACKUP = {"full": 1, "copy": 2}


@dataclass(frozen=True, kw_only=True)
class VmCheckpoint:
    """A checkpoint of a VM; `kind` as in disk_info (`recovery`, `standard`, ...)."""

    id: str
    name: str
    kind: str
    created: datetime | None

    @property
    def is_recovery(self) -> bool:
        return self.kind == "recovery"


def checkpoints_of(client: CimClient, vm_id: str) -> tuple[VmCheckpoint, ...]:
    """All checkpoints of a VM, oldest first."""
    rows = query_filtered(client, VIRTUALIZATION, _SETTINGS, any_of("VirtualSystemIdentifier", [vm_id.upper()]))
    found = [
        VmCheckpoint(
            id=owner_of(text_of(row, "InstanceID")),
            name=text_of(row, "ElementName"),
            kind=CHECKPOINT_TYPES.get(kind, "unknown"),
            created=time_of(row, "CreationTime"),
        )
        for row in rows
        if (kind := text_of(row, "VirtualSystemType").casefold()).startswith(_SNAPSHOT)
        and text_of(row, "VirtualSystemIdentifier").casefold() == vm_id.casefold()
    ]
    return tuple(sorted(found, key=lambda one: (one.created is None, str(one.created), one.id)))


def files_of(client: CimClient, owner_id: str) -> tuple[str, ...]:
    """The virtual hard disk files of a checkpoint, or of a VM, in the order of their settings."""
    where = any_of("InstanceID", [f"Microsoft:{owner_id.upper()}%"], operator="LIKE")
    rows = [
        row
        for row in query_filtered(client, VIRTUALIZATION, _STORAGE, where)
        if owner_of(text_of(row, "InstanceID")) == owner_id.upper()
        and text_of(row, "ResourceSubType").casefold() == _VIRTUAL_HARD_DISK
    ]
    ordered = sorted(rows, key=lambda row: text_of(row, "InstanceID"))
    return tuple(path for row in ordered for path in texts_of(row, "HostResource")[:1] if path)


def make_recovery_checkpoint(
    client: CimClient, vm_id: str, name: str, hands: Hands, *, consistency: str, guest_backup_type: str
) -> None:
    """Ask for a recovery checkpoint and wait for the end of the job; the caller looks for it by its name.

    Args:
        consistency: `application` (the guest's VSS takes part) or `crash`.
        guest_backup_type: `copy` or `full`, what the guest's applications are told.

    Raises: MethodFailed, JobFailed: none was made, as far as Hyper-V says.
    """
    settings: dict[str, Value] = {
        "ElementName": name,
        "ConsistencyLevel": CONSISTENCY[consistency],
        "GuestBackupType": GUEST_BACKUP[guest_backup_type],
        "IgnoreNonSnapshottableDisks": True,
    }
    act(
        client,
        _SNAPSHOT_SERVICE,
        "CreateSnapshot",
        {
            "AffectedSystem": vm_path(vm_id),
            "SnapshotSettings": CimInstance("Msvm_VirtualSystemSnapshotSettingData", VIRTUALIZATION, settings),
            "SnapshotType": _RECOVERY,
        },
        hands,
        what=f"Making recovery checkpoint {name}",
    )


def name_checkpoint(client: CimClient, checkpoint: VmCheckpoint, name: str, hands: Hands) -> None:
    """Give a checkpoint its name, when the host has not taken it from the settings."""
    if checkpoint.name == name:
        return
    values: dict[str, Value] = {"InstanceID": f"Microsoft:{checkpoint.id}", "ElementName": name}
    act(
        client,
        MANAGEMENT_SERVICE,
        "ModifySystemSettings",
        {"SystemSettings": CimInstance(_SETTINGS, VIRTUALIZATION, values)},
        hands,
        what=f"Naming checkpoint {checkpoint.id} {name}",
    )


def remove_checkpoint(client: CimClient, vm_id: str, checkpoint: VmCheckpoint, hands: Hands) -> None:
    """Remove a checkpoint and wait until its disks are merged into the VM's own files again.

    Raises: MethodFailed, JobFailed; HypervError `not_observed`, `job_timeout`.
    """
    what = f"Removing recovery checkpoint {checkpoint.name}"
    path = setting_path(f"Microsoft:{checkpoint.id}", _SETTINGS)
    act(client, _SNAPSHOT_SERVICE, "DestroySnapshot", {"AffectedSnapshot": path}, hands, what=what)

    def gone() -> bool | None:
        return None if any(one.id == checkpoint.id for one in checkpoints_of(client, vm_id)) else True

    look_until(gone, hands, what=what)
    wait_for_merge(client, vm_id, hands)


def wait_for_merge(client: CimClient, vm_id: str, hands: Hands) -> None:
    """Wait until the VM works on its own files and Hyper-V does nothing with it. Raises: HypervError `not_observed`."""
    looks = max(30, int(hands.timeout_s / max(hands.poll_s, 1.0)))

    def at_rest() -> bool | None:
        power = find_power(client, vm_id)
        return True if power is None or not power.busy else None

    look_until(at_rest, hands, what=f"Merging the disks of VM {vm_id}", looks=looks)


def start_export(
    client: CimClient, vm_id: str, checkpoint: VmCheckpoint, folder: str, hands: Hands
) -> tuple[bool, str | None]:
    r"""Begin to export a checkpoint with its disks into a folder that holds nothing yet.

    Returns: (finished already, id of the job). (False, None) when the reply was lost: whether it was begun is not known.

    Raises: MethodFailed when Hyper-V refuses; nothing was begun then.
    """
    host = machine_facts(client).computer_name
    settings: dict[str, Value] = {
        "CopySnapshotConfiguration": _ONE_FOR_BACKUP,
        "CopyVmRuntimeInformation": False,
        "CopyVmStorage": True,
        "CreateVmExportSubdirectory": False,
        "BackupIntent": _MERGE,
        "SnapshotVirtualSystem": object_path(setting_path(f"Microsoft:{checkpoint.id}", _SETTINGS), host),
    }
    hands.should_stop()
    try:
        result = invoke_checked(
            client,
            MANAGEMENT_SERVICE,
            "ExportSystemDefinition",
            {
                "ComputerSystem": vm_path(vm_id),
                "ExportDirectory": folder,
                "ExportSettingData": CimInstance("Msvm_VirtualSystemExportSettingData", VIRTUALIZATION, settings),
            },
            what=f"Exporting checkpoint {checkpoint.name} to {folder}",
            codes=HYPERV_CODES,
            accept=(0, JOB_STARTED),
        )
    except OutcomeUnknown:
        return False, None
    if result.return_value != JOB_STARTED:
        return True, None
    job = result.out.get("Job")
    found = job.key("InstanceID") if isinstance(job, CimPath) else None
    return False, found if isinstance(found, str) else None


def look_at_export(client: CimClient, job_id: str) -> JobStatus:
    """The job of an export now; state `vanished` when the host does not know it any more."""
    return read_job(client, CimPath(VIRTUALIZATION, "Msvm_ConcreteJob", {"InstanceID": job_id}))


def stop_export(client: CimClient, job_id: str, hands: Hands) -> None:
    """Ask the host to end the job of an export (hyperv-wmi 4.3); it shows as killed or terminated when it has."""
    path = CimPath(VIRTUALIZATION, "Msvm_ConcreteJob", {"InstanceID": job_id})
    act(client, path, "RequestStateChange", {"RequestedState": _KILL}, hands, what="Ending an export")

    def ended() -> bool | None:
        status = read_job(client, path)
        return True if status.has_failed or status.is_done or status.state == VANISHED else None

    look_until(ended, hands, what="Ending an export")
