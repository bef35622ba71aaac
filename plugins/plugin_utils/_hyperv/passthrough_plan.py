# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""Which pass-through drives of a VM must go and which must come, or why nothing may be changed: pure functions.

They work on what `disk_info` returns of a VM and of the host's LUNs. All findings are told at once, and a plan with a
finding is never executed. What is as wanted already needs no step, and then no finding stands in the way either.

Not here: the steps themselves (`passthrough`), choosing a disk by identity (`disk_selector`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .disk_selector import Disk, DiskSelector, select_disk
from .errors import HypervError, Precondition
from .model import Slot, record_dict

LOCATIONS: Mapping[str, int] = {"IDE": 2, "SCSI": 64}  # hyperv-wmi 2.5
PASS_THROUGH = ("pass_through", "unresolved_pass_through")
_HERE = "the host"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One disk that shall be at one slot."""

    slot: Slot
    lun: DiskSelector


@dataclass(frozen=True, kw_only=True)
class PlanStep:
    """`kind` is `take_offline`, `detach` or `attach`; `lun` is what identifies the disk, None when a drive leads nowhere."""

    kind: str
    slot: Slot | None
    lun: DiskSelector | None
    drive_id: str | None
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Why a plan may not be executed: a machine word, a sentence, and what else an error tells."""

    kind: str
    sentence: str
    details: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PassthroughPlan:
    steps: tuple[PlanStep, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def refused(self) -> bool:
        return bool(self.findings)

    def describe(self) -> list[dict[str, object]]:
        """The steps as JSON types."""
        return [
            {
                "kind": step.kind,
                "slot": record_dict(step.slot) if step.slot is not None else None,
                "unique_id": step.lun.unique_id if step.lun is not None else None,
                "sentence": step.sentence,
            }
            for step in self.steps
        ]

    def check(self) -> None:
        """Raises Precondition with the first finding's kind and every finding's sentence."""
        if self.findings:
            raise Precondition(
                self.findings[0].kind,
                " ".join(finding.sentence for finding in self.findings),
                {
                    **self.findings[0].details,
                    "findings": [{"kind": finding.kind, "message": finding.sentence} for finding in self.findings],
                },
            )


def slot_of(option: Mapping[str, Any]) -> Slot:
    """A slot from a task's option or a recorded disk.

    Raises: HypervError `bad_slot`.
    """
    kind = str(option.get("controller_type") or "SCSI").upper()
    number, location = option.get("controller_number"), option.get("controller_location")
    if kind not in LOCATIONS or not isinstance(number, int) or not isinstance(location, int):
        raise HypervError(
            "bad_slot",
            f"A slot is controller_type (SCSI or IDE), controller_number and controller_location, but {dict(option)!r} was "
            f"given.",
        )
    slot = Slot(controller_type=kind, controller_number=number, controller_location=location)
    if not 0 <= location < LOCATIONS[kind] or not 0 <= number < 4:
        raise HypervError(
            "bad_slot",
            f"There is no slot {slot.describe()}: a {kind} controller has locations 0 to {LOCATIONS[kind] - 1}.",
        )
    return slot


def plan_attached(
    vm: Mapping[str, Any],
    luns: Sequence[Disk],
    wanted: Wanted,
    *,
    take_offline: bool = False,
    allow_running: bool = False,
) -> PassthroughPlan:
    """One LUN at one slot that must be free; nothing is taken away for it."""
    look = _Look(vm, luns, [wanted], take_offline=take_offline)
    at_slot = look.at(wanted.slot)
    if at_slot is not None and not look.is_done(wanted):
        look.find(
            "slot_taken", f"Slot {wanted.slot.describe()} of VM {vm['name']} holds {_held(at_slot)}; free it first."
        )
    for drive in look.drives_of(wanted):
        if drive is not at_slot:
            look.find(
                "lun_attached_elsewhere",
                f"{_named(look.lun(wanted))} is at {_slot_text(drive)} of VM {vm['name']} already; detach it there, or use "
                f"state remapped.",
            )
    return look.plan([], allow_running=allow_running and wanted.slot.controller_type == "SCSI")


def plan_passthrough(
    vm: Mapping[str, Any], luns: Sequence[Disk], wanted: Sequence[Wanted], *, take_offline: bool = False
) -> PassthroughPlan:
    """Every listed slot with exactly its LUN (state `remapped`).

    Pass-through drives at a listed slot with another disk, elsewhere with a listed LUN, and those that lead to nothing are
    removed. Virtual hard disks and DVD drives are never touched. The VM must be off.
    """
    look = _Look(vm, luns, wanted, take_offline=take_offline)
    gone: list[Mapping[str, Any]] = []
    for one in wanted:
        at_slot = look.at(one.slot)
        if at_slot is not None and not look.is_done(one):
            if at_slot["attachment"] in PASS_THROUGH:
                gone.append(at_slot)
            else:
                look.find(
                    "slot_taken",
                    f"Slot {one.slot.describe()} of VM {vm['name']} holds {_held(at_slot)}, which is not touched; free it or "
                    f"name another slot.",
                )
        gone += [drive for drive in look.drives_of(one) if drive is not at_slot]
    gone += [drive for drive in vm["disks"] if drive["attachment"] == "unresolved_pass_through"]
    return look.plan(gone, allow_running=False)


def plan_detached(
    vm: Mapping[str, Any],
    luns: Sequence[Disk],
    *,
    slot: Slot | None = None,
    lun: DiskSelector | None = None,
    allow_running: bool = False,
) -> PassthroughPlan:
    """No pass-through drive at the slot, or none with the LUN; with both, that LUN's drive at that slot."""
    look = _Look(vm, luns, [], take_offline=False)
    drives: list[Mapping[str, Any]] = []
    if slot is not None:
        at_slot = look.at(slot)
        if at_slot is not None and at_slot["attachment"] not in PASS_THROUGH:
            look.find(
                "not_pass_through",
                f"Slot {slot.describe()} of VM {vm['name']} holds {_held(at_slot)} and no pass-through disk; it is not "
                f"touched.",
            )
        elif at_slot is not None:
            drives = [at_slot]
    if lun is not None:
        chosen = look.choose(lun)
        with_lun = [drive for drive in vm["disks"] if chosen is not None and _is_lun(drive, chosen)]
        if slot is None:
            drives = with_lun
        elif drives and chosen is not None and drives[0]["attachment"] == "pass_through" and drives != with_lun:
            look.find(
                "other_lun",
                f"Slot {slot.describe()} of VM {vm['name']} holds {_held(drives[0])} and not {lun.describe()}; it is left "
                f"alone.",
            )
    on_scsi = all(drive["slot"]["controller_type"] == "SCSI" for drive in drives)
    return look.plan(drives, allow_running=allow_running and on_scsi)


class _Look:
    """One VM and the host's LUNs, looked at for a list of wanted disks."""

    def __init__(
        self, vm: Mapping[str, Any], luns: Sequence[Disk], wanted: Sequence[Wanted], *, take_offline: bool
    ) -> None:
        self._vm = vm
        self._luns = luns
        self._wanted = wanted
        self._take_offline = take_offline
        self._findings: list[Finding] = []
        self._chosen = {one.slot: self.choose(one.lun) for one in wanted}
        self._check_lists()
        for one in wanted:
            if not self.is_done(one):
                self._check_slot(one.slot)
                self._check_lun(one)

    def find(self, kind: str, sentence: str, details: Mapping[str, object] | None = None) -> None:
        if all(found.sentence != sentence for found in self._findings):
            self._findings.append(Finding(kind=kind, sentence=sentence, details=details or {}))

    def choose(self, selector: DiskSelector) -> Disk | None:
        try:
            return select_disk(self._luns, selector, where=_HERE)
        except HypervError as error:
            self.find(error.kind, error.sentence, error.details)
            return None

    def lun(self, wanted: Wanted) -> Disk:
        return self._chosen[wanted.slot] or {}

    def at(self, slot: Slot) -> Mapping[str, Any] | None:
        return disk_at(self._vm, slot)

    def is_done(self, wanted: Wanted) -> bool:
        at_slot, lun = self.at(wanted.slot), self._chosen[wanted.slot]
        return at_slot is not None and lun is not None and _is_lun(at_slot, lun)

    def drives_of(self, wanted: Wanted) -> list[Mapping[str, Any]]:
        """Pass-through drives of this VM with the wanted LUN, wherever they are."""
        lun = self._chosen[wanted.slot]
        return [drive for drive in self._vm["disks"] if lun is not None and _is_lun(drive, lun)]

    def _check_lists(self) -> None:
        if len(self._chosen) < len(self._wanted):
            self.find("listed_twice", f"A slot of VM {self._vm['name']} is listed twice; give each slot one disk.")
        numbers = [lun.get("number") for lun in self._chosen.values() if lun is not None]
        for number in {number for number in numbers if numbers.count(number) > 1}:
            lun = next(lun for lun in self._luns if lun.get("number") == number)
            self.find("listed_twice", f"{_named(lun)} is listed for two slots; give each slot a disk of its own.")

    def _check_slot(self, slot: Slot) -> None:
        if self.at(slot) is None and controller_of(self._vm, slot) is None:
            there = ", ".join(f"{one['type']} {one['number']}" for one in self._vm["controllers"]) or "none"
            self.find(
                "no_such_controller",
                f"VM {self._vm['name']} has no controller {slot.controller_type} {slot.controller_number} (it has {there}); "
                f"add the controller or correct the slot.",
            )

    def _check_lun(self, wanted: Wanted) -> None:
        lun = self._chosen[wanted.slot]
        if lun is None:
            return
        name = _named(lun)
        users: Iterable[Mapping[str, Any]] = lun.get("attached_to") or ()  # type: ignore[assignment]  # a LUN's dict
        for user in users:
            if str(user["vm_id"]).upper() != str(self._vm["id"]).upper():
                self.find(
                    "lun_attached_elsewhere",
                    f"{name} is attached to VM {user['vm_name'] or user['vm_id']} at {Slot(**user['slot']).describe()}; a disk "
                    f"that two VMs write is destroyed, so detach it there first.",
                )
        if lun.get("is_boot") or lun.get("is_system"):
            self.find("lun_in_use", f"{name} holds the host's own system and is never given to a VM.")
        elif lun.get("is_clustered") or lun.get("number") is None:
            self.find("lun_in_use", f"{name} is managed by a failover cluster, which is not supported.")
        elif not lun.get("is_offline") and not self._take_offline:
            self.find(
                "lun_online",
                f"{name} is online on the host, where a file system may be mounted and written; take it offline first, or "
                f"set take_offline when nothing of the host uses it.",
            )

    def _check_vm(self, *, allow_running: bool) -> None:
        vm = self._vm
        name, state = vm["name"], vm["state"]
        if vm["replication"]["is_replica"]:
            self.find("replica", f"VM {name} is a replica, whose disks belong to replication; it is never changed.")
        if vm["is_clustered"]:
            self.find(
                "clustered", f"VM {name} belongs to a failover cluster, which is not supported; nothing is changed."
            )
        if vm["busy"]:
            self.find("vm_busy", f"Hyper-V is at work on VM {name} ({vm['busy']}); wait for its end, then run again.")
        if state == "saved":
            self.find(
                "vm_saved",
                f"VM {name} is saved, and its memory would resume onto other disks; discard the saved state or start and "
                f"shut down the VM first.",
            )
        elif state != "off" and not (allow_running and state == "running"):
            self.find(
                "vm_not_off",
                f"VM {name} is {state} and must be off; shut it down first"
                + (", or set allow_running for a disk on a SCSI controller." if state == "running" else "."),
            )

    def plan(self, gone: Sequence[Mapping[str, Any]], *, allow_running: bool) -> PassthroughPlan:
        """Detach what must go, then attach what is missing; without findings only."""
        steps: list[PlanStep] = []
        seen: set[str] = set()
        for drive in gone:
            if drive["drive_id"].casefold() in seen:
                continue
            seen.add(drive["drive_id"].casefold())
            steps.append(
                PlanStep(
                    kind="detach",
                    slot=Slot(**drive["slot"]),
                    lun=_known(drive["lun"]),
                    drive_id=drive["drive_id"],
                    sentence=f"detach {_held(drive)} from {_slot_text(drive)} of VM {self._vm['name']}",
                )
            )
        for one in self._wanted:
            lun = self._chosen[one.slot]
            if lun is None or self.is_done(one):
                continue
            found = exact_selector(one.lun, lun)
            if not lun.get("is_offline"):
                steps.append(
                    PlanStep(
                        kind="take_offline",
                        slot=None,
                        lun=found,
                        drive_id=None,
                        sentence=f"take {_named(lun)} offline on the host",
                    )
                )
            steps.append(
                PlanStep(
                    kind="attach",
                    slot=one.slot,
                    lun=found,
                    drive_id=None,
                    sentence=f"attach {_named(lun)} at {one.slot.describe()} of VM {self._vm['name']}",
                )
            )
        if steps:
            self._check_vm(allow_running=allow_running)
        return PassthroughPlan(steps=tuple(steps), findings=tuple(self._findings))


def exact_selector(selector: DiskSelector, disk: Disk) -> DiskSelector:
    """The selector for the steps that follow: the disk's UniqueId, and every identifier that the caller knew of it."""
    found = DiskSelector.of(disk)
    return DiskSelector(
        unique_id=found.unique_id,
        serial_number=selector.serial_number or (found.serial_number if found.unique_id is None else None),
        guid=selector.guid,
        signature=selector.signature,
        size_bytes=found.size_bytes,
    )


def _known(lun: Disk | None) -> DiskSelector | None:
    """What identifies the disk of a drive that is taken away; None when that is not enough to choose one by."""
    if not lun:
        return None
    try:
        return DiskSelector.of(select_disk([lun], DiskSelector.of(lun), where=_HERE))
    except HypervError:
        return None


def disk_at(vm: Mapping[str, Any], slot: Slot) -> Mapping[str, Any] | None:
    """What the VM has at a slot, drives without medium included."""
    wanted = record_dict(slot)
    return next((disk for disk in vm["disks"] if disk["slot"] == wanted), None)


def controller_of(vm: Mapping[str, Any], slot: Slot) -> str | None:
    """InstanceID of the slot's controller."""
    return next(
        (
            str(one["id"])
            for one in vm["controllers"]
            if one["type"] == slot.controller_type and one["number"] == slot.controller_number
        ),
        None,
    )


def _is_lun(drive: Mapping[str, Any], lun: Disk) -> bool:
    """Both come from one look at the host, so that the number of the moment tells disks of one identity apart."""
    has = drive["lun"]
    return (
        drive["attachment"] == "pass_through"
        and has is not None
        and has["number"] == lun.get("number")
        and has["unique_id"] == lun.get("unique_id")
    )


def _named(lun: Disk) -> str:
    return f"the LUN with UniqueId {lun.get('unique_id') or '(none)'} ({lun.get('friendly_name') or 'unnamed'})"


def _held(drive: Mapping[str, Any]) -> str:
    if drive["attachment"] == "pass_through":
        return f"the pass-through disk with UniqueId {drive['unique_id'] or '(none)'}"
    words = {
        "unresolved_pass_through": "a pass-through drive that leads to no disk of a VM",
        "dvd": "a DVD drive",
        "empty": "an empty drive",
        "shared_virtual_hard_disk": f"the shared virtual hard disk {drive['path']}",
    }
    return words.get(drive["attachment"], f"the virtual hard disk {drive['path']}")


def _slot_text(drive: Mapping[str, Any]) -> str:
    return Slot(**drive["slot"]).describe()
