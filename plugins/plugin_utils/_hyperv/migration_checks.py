# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""What of the VM, its guest and its LUNs forbids a migration, or should be known before one: findings and notes.

Not here: whether the file fits, what the operator must confirm, and the plan itself (`migration_plan`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .disk_selector import DiskSelector, select_disk
from .errors import HypervError
from .migration_record import DiskMigration
from .migration_steps import Finding, Request, Situation
from .model import Slot

_WAYS_OUT: Mapping[str, str] = {
    "saved": "start it, or discard its saved state with vm_state",
    "paused": "resume it and shut it down",
}

_GUEST_DISK = ("unique_id", "partition_style", "guid", "signature", "size_bytes", "is_boot")
_VOLUME = (
    *("path", "letter", "access_paths", "label", "file_system", "size_bytes", "used_bytes", "serial_number"),
    *("allocation_unit_bytes", "partition_number", "offset_bytes"),
)

# The content of a disk is copied, its WWN is not: that is the identity of the LUN.
_NOT_WINDOWS = (
    "the guest is not Windows ({os}): on a VHD its disk has another WWN, so that what is mounted by /dev/disk/by-id (wwn-, scsi-3), "
    "by a multipath WWID or through LVM's devices file is not found; UUID=, LABEL=, PARTUUID= and by-path stay. Let /etc/fstab and its "
    "like use UUID= before the migration",
    "nobody proves inside this guest ({os}) that its volumes are as before: the tasks for guests know Windows only. Look there yourself",
)

Lun = Mapping[str, Any]


class MigrationChecks:
    """Collects findings and notes over one situation, so that all of them are told at once."""

    def __init__(self, situation: Situation, request: Request) -> None:
        self._at = situation
        self._request = request
        self._findings: list[Finding] = []
        self._notes: list[str] = []

    @property
    def findings(self) -> tuple[Finding, ...]:
        return tuple(self._findings)

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self._notes))

    def _refuse(self, kind: str, sentence: str, slot: Slot | None = None) -> None:
        finding = Finding(kind=kind, sentence=sentence, slot=slot)
        if finding not in self._findings:
            self._findings.append(finding)

    def check_vm(self, disks: Sequence[DiskMigration]) -> None:
        vm, name = self._at.vm, self._at.vm["name"]
        if vm["is_clustered"] or self._at.view["host"]["cluster"]["member"]:
            self._refuse(
                "clustered", f"VM {name} or its host belongs to a failover cluster, which is not supported yet."
            )
        if vm["replication"]["is_replica"]:
            self._refuse("replica", f"VM {name} is a replica and is never touched.")
        if vm["busy"]:
            self._refuse("vm_busy", f"VM {name} is busy ({vm['busy']}); wait until that has ended.")
        if vm["checkpoints"]:
            listed = ", ".join(f"{item['name']} ({item['type']})" for item in vm["checkpoints"])
            self._refuse(
                "checkpoints_exist",
                f"VM {name} has checkpoints: {listed}; delete them and wait for the merge (a recovery checkpoint belongs to "
                f"a backup that runs).",
            )
        state = vm["state"]
        if state in _WAYS_OUT:
            self._refuse(
                f"vm_{state}", f"VM {name} is {state}, and its disks must not change then; {_WAYS_OUT[state]}."
            )
        elif state not in ("running", "off"):
            self._refuse("vm_busy", f"VM {name} is {state}; wait until it is running or off.")
        copied = [disk for disk in disks if disk.leg in ("copy", "staging")]
        if copied and self._at.full_scsi and not self._request.accept_full_scsi:
            self._refuse(
                "full_scsi_command_set",
                f"The guest of VM {name} may send any SCSI command to its disks (AllowFullSCSICommandSet), such as persistent "
                f"reservations, which a VHD does not take; set accept_full_scsi if nothing in the guest needs them.",
            )
        if self.is_not_windows():
            self._notes += [text.format(os=vm["guest"].get("os_name") or "Linux") for text in _NOT_WINDOWS]

    def is_not_windows(self) -> bool:
        """Whether guest or host say that another system than Windows runs in the VM."""
        asked = str((self._at.guest or {}).get("guest", {}).get("os_family") or "")
        return (asked or str(self._at.vm["guest"].get("os_family") or "")) not in ("", "windows")

    def check_lun(self, lun: Lun, slot: Slot, *, attached_is_fine: bool) -> None:
        """Used by nobody else: not by the host, not by a cluster, not by another VM, not through another host."""
        named = f"LUN {lun['unique_id']}"
        if lun["is_boot"] or lun["is_system"]:
            self._refuse("lun_in_use", f"{named} is a boot or system disk of the host.", slot)
        if lun["is_clustered"]:
            self._refuse("lun_in_use", f"{named} is managed by a failover cluster.", slot)
        others = [item for item in lun["attached_to"] if item["vm_id"].upper() != self._at.vm["id"].upper()]
        if others or (lun["attached_to"] and not attached_is_fine):
            listed = ", ".join(str(item.get("vm_name") or item["vm_id"]) for item in lun["attached_to"])
            self._refuse("lun_attached_elsewhere", f"{named} is attached to: {listed}; detach it there first.", slot)
        if attached_is_fine and not lun["is_offline"]:
            self._refuse(
                "lun_online",
                f"{named} is online on the host while VM {self._at.vm['name']} has it; take it offline on the host and check "
                f"the guest's file system before anything is copied.",
                slot,
            )
        if not attached_is_fine and lun["offline_reason"] in ("Collision", "Redundant Path"):
            self._refuse(
                "identity_collision", f"{named} is held offline ({lun['offline_reason']}); repair that first.", slot
            )
        for host, seen in self._seen_elsewhere(lun):
            used = seen["attached_to"] or not seen["is_offline"]
            if used:
                self._refuse("lun_used_elsewhere", f"{named} is used by host {host} too; take it away there.", slot)
            elif not attached_is_fine and not self._request.accept_seen_elsewhere:
                self._refuse(
                    "lun_seen_elsewhere",
                    f"{named} is seen by host {host} too, which could mount the new volume; take its mapping away there, or "
                    f"set accept_seen_elsewhere.",
                    slot,
                )

    def _seen_elsewhere(self, lun: Lun) -> Iterator[tuple[str, Lun]]:
        key = str(lun["unique_id"]).casefold()
        for host, view in self._at.other_hosts.items():
            for other in view.get("luns") or ():
                if key and str(other["unique_id"]).casefold() == key:
                    yield host, other

    def check_guest_disk(self, lun: Lun, slot: Slot) -> None:
        """What only the guest knows; a guest that was not asked is said."""
        if self._at.guest is None:
            self._notes.append(
                f"{slot.describe()}: the guest was not asked, so that dynamic disks, Storage Spaces and BitLocker are unknown"
            )
            return
        disk = self._guest_disk(lun)
        if disk is None:
            self._notes.append(f"{slot.describe()}: the guest shows no disk with UniqueId {lun['unique_id']}")
            return
        if disk["size_bytes"] != lun["size_bytes"]:
            self._refuse(
                "size_differs",
                f"The host sees {lun['size_bytes']} bytes of LUN {lun['unique_id']} and the guest {disk['size_bytes']}; rescan "
                f"on both sides until they agree.",
                slot,
            )
        if disk["is_dynamic"] or disk["in_storage_pool"]:
            what = "a dynamic disk" if disk["is_dynamic"] else "part of a storage pool"
            self._refuse(
                "guest_dynamic_disk" if disk["is_dynamic"] else "guest_storage_pool",
                f"In the guest the disk at {slot.describe()} is {what}, whose disks know each other by identity; move its "
                f"data to a basic disk first.",
                slot,
            )
        if disk["is_clustered"]:
            self._refuse("guest_cluster", f"The disk at {slot.describe()} belongs to a cluster of guests.", slot)
        protected = [v for v in disk["volumes"] if (v.get("bitlocker") or {}).get("protection") in ("on", "unknown")]
        if protected and any(volume["is_boot"] or volume["is_system"] for volume in disk["volumes"]):
            self._refuse(
                "bitlocker_boot_disk",
                f"The disk at {slot.describe()} starts the guest and BitLocker protects it: on another disk it asks for the "
                f"recovery key; suspend the protectors first.",
                slot,
            )
        elif protected:
            self._notes.append(f"{slot.describe()}: BitLocker volumes are copied as they are, encrypted")
        if disk["is_boot"]:
            self._notes.append(
                f"{slot.describe()}: the guest starts from this disk; generation 2 may need its boot order set again"
            )

    def recorded_guest_disk(self, lun: Lun) -> dict[str, Any] | None:
        """What is kept of the disk as the guest sees it: its identity and its volumes."""
        disk = self._guest_disk(lun)
        if disk is None:
            return None
        volumes = [{name: volume.get(name) for name in _VOLUME} for volume in disk["volumes"]]
        return {**{name: disk.get(name) for name in _GUEST_DISK}, "volumes": volumes}

    def _guest_disk(self, lun: Lun) -> Mapping[str, Any] | None:
        key = str(lun["unique_id"]).casefold()
        disks = self._at.guest["disks"] if self._at.guest is not None else ()
        return next((disk for disk in disks if key and str(disk["unique_id"]).casefold() == key), None)

    def find_lun(self, selector: DiskSelector, slot: Slot) -> Lun | None:
        try:
            return select_disk(self._at.view["luns"], selector, where=str(self._at.view["host"]["name"]))
        except HypervError as refused:
            self._refuse(refused.kind, refused.sentence, slot)
            return None


def shown(vm_disk: Mapping[str, Any] | None) -> str:
    """What hangs at a slot, in words."""
    if vm_disk is None:
        return "nothing"
    what = vm_disk.get("path") or vm_disk.get("unique_id")
    return f"{vm_disk['attachment'].replace('_', ' ')}{f' {what}' if what else ''}"
