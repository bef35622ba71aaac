# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""Which phase of a two-phase backup captures which disk of a VM, and what none captures.

One pure function over the host's view of a VM (`disk_info`) and the guest's view of itself (`guest_disk_info`). It asks
nobody and changes nothing. It never guesses: two views that disagree are an `identity_mismatch`, a guest that could not
be asked is `unverified`, a disk that no phase can back up *and* restore is a `gap`.

Facts: backup-engines 1.1, 1.11, 3.2; windows-storage 4.2, 4.3; hyperv-wmi 2.8, 7.2, 8.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from .disk_matching import (
    DERIVED_KINDS,
    LEFT_OUT,
    Matches,
    Pair,
    View,
    first,
    fold,
    guid_text,
    host_unique_ids,
    match_disks,
    table_identity,
)
from .engine import Capabilities
from .errors import BackupError

CAPTURED = frozenset({"host", "guest"})
GUEST_UNVERIFIED = "guest_unverified"  # the word of `accept_gaps` for "this guest could not be asked"

NOT_A_DISK = frozenset({"dvd", "empty"})


def coverage(
    vm: View,
    guest: View | None,
    *,
    guest_engine: Capabilities | None,
    host_engine: Capabilities | None,
    guest_storage: str = "ask",
    accept_gaps: Sequence[str] = (),
    guest_error: str | None = None,
) -> dict[str, Any]:
    """The protection plan of one VM.

    Args:
        vm: one entry of `disk_info`'s `vms`.
        guest: the result of `guest_disk_info` of that VM's guest, or None when it was not asked or did not answer.
        guest_engine: what the chosen engine can do in that guest; None when nothing is known of the guest.
        host_engine: what it can do on the host.
        guest_storage: `ask`, or `none` when the operator declares that the guest has no storage of its own (iSCSI).
        accept_gaps: what the operator accepts as not captured: a disk's `unique_id`, its slot as text (`SCSI 0:2`), its
            partition table identity as `accept_as` shows it, `wwpn:<port>` for a virtual Fibre Channel port, or
            `guest_unverified`. It never turns a gap into "captured". A text that fits several disks accepts none.
        guest_error: why the guest did not answer, a sentence.

    Returns: JSON types only.
        vm {id, name}, status `ok|replica|clustered`, disks[], guest_volumes[], unpaired_virtual_hard_disks[] (disks of
        the guest that are virtual hard disks of the host, it is not known which), notes[], complete, uncovered[],
        accepted[], unused_acceptances[], consistency_forecast {consistency, reason}, summary. Each disk: slot,
        slot_text, unique_id, kind, size_bytes, coverage `host|guest|gap|unverified|identity_mismatch`, reason,
        evidence {host, guest}, volumes[], accept_as[], accepted. `complete` is false as soon as one disk is neither
        captured nor accepted.

    Raises: `BackupError` of kind `bad_option` for an unknown `guest_storage`.
    """
    if guest_storage not in ("ask", "none"):
        raise BackupError("bad_option", f"guest_storage is {guest_storage!r}; it must be 'ask' or 'none'.")
    name = str(vm.get("name"))
    if (vm.get("replication") or {}).get("is_replica"):
        return _untouched(vm, "replica", f"VM '{name}' is a replica: it is listed and never touched.", complete=True)
    if vm.get("is_clustered"):
        sentence = (
            f"VM '{name}' belongs to a failover cluster, which this collection does not support yet; "
            "nothing was changed. Back it up with a tool that knows the cluster."
        )
        return _untouched(vm, "clustered", sentence, complete=False)
    answer = _answer(vm, guest, guest_error, guest_storage)
    guest = guest if answer.asked else None
    guests = [] if guest is None else _guest_disks(guest)
    scene = _Scene(
        answer=answer,
        guest=guest,
        guests=guests,
        spread=_spread_volumes(guests),
        guest_engine=guest_engine,
        host_engine=host_engine,
    )
    rows, notes = _rows(vm, scene)
    notes = [*answer.notes, *notes]
    unused = _accept(rows, accept_gaps)
    disks = [row.to_dict() for row in rows]
    open_rows = [row for row in rows if row.coverage not in CAPTURED and not row.accepted]
    return {
        "vm": {"id": vm.get("id"), "name": vm.get("name")},
        "status": "ok",
        "disks": disks,
        "guest_volumes": [
            {"unique_id": row.unique_id, "slot": row.slot, "disk": row.label, "volumes": list(row.volumes)}
            for row in rows
            if row.coverage == "guest"
        ],
        "unpaired_virtual_hard_disks": scene.unpaired,
        "notes": notes,
        "complete": not open_rows,
        "uncovered": [f"{row.label}: {row.reason}" for row in open_rows],
        "accepted": [f"{row.label}: {row.reason}" for row in rows if row.accepted],
        "unused_acceptances": unused,
        "consistency_forecast": _forecast(vm, guest, rows),
        "summary": _summary(name, rows),
    }


def offline_refusal(plan: View, *, allow_offline: bool) -> str | None:
    """Why the host phase must not start: the VM would certainly be saved meanwhile, and the operator did not allow it.

    What is only known afterwards (`unknown`) does not refuse; a VM that was saved then makes the set `degraded`.
    """
    forecast = plan.get("consistency_forecast") or {}
    if allow_offline or forecast.get("consistency") != "saved_state":
        return None
    return (
        f"VM '{(plan.get('vm') or {}).get('name')}' would be saved while the host backs it up ({forecast.get('reason')}); "
        "set allow_offline when that is acceptable."
    )


def slot_text(slot: View | None) -> str | None:
    """`SCSI 0:2` for controller number 0, location 2; None for a disk that the host does not attach."""
    if slot is None:
        return None
    return f"{slot.get('controller_type')} {slot.get('controller_number')}:{slot.get('controller_location')}"


# --- rows ---------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(kw_only=True)
class _Row:
    """One line of the plan while it is being made."""

    kind: str
    coverage: str
    reason: str
    slot: View | None = None
    unique_id: str | None = None
    size_bytes: int | None = None
    host: dict[str, Any] | None = None
    guest: dict[str, Any] | None = None
    volumes: Sequence[View] = ()
    names: Sequence[str] = ()  # further texts by which it can be accepted
    acceptable: bool = True
    accepted: bool = False

    @property
    def label(self) -> str:
        return slot_text(self.slot) or self.unique_id or (self.names[0] if self.names else self.kind)

    @property
    def accept_as(self) -> list[str]:
        if not self.acceptable:
            return []
        return [text for text in (slot_text(self.slot), self.unique_id, *self.names) if text]

    def to_dict(self) -> dict[str, Any]:
        return {
            "slot": None if self.slot is None else dict(self.slot),
            "slot_text": slot_text(self.slot),
            "unique_id": self.unique_id,
            "kind": self.kind,
            "size_bytes": self.size_bytes,
            "coverage": self.coverage,
            "reason": self.reason,
            "evidence": {"host": self.host, "guest": self.guest},
            "volumes": [dict(volume) for volume in self.volumes],
            "accept_as": self.accept_as,
            "accepted": self.accepted,
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Answer:
    """Whether the guest was asked, and what that means for the VM as a whole."""

    asked: bool
    wrong: bool = False
    is_off: bool = False
    declared_none: bool = False
    reason: str = ""  # with what to do
    finding: str = ""  # without
    notes: tuple[str, ...] = ()


def _answer(vm: View, guest: View | None, guest_error: str | None, guest_storage: str) -> _Answer:
    state = str(vm.get("state"))
    declared = guest_storage == "none"
    notes = (
        ("The operator declared guest_storage: none, so storage that the guest connects itself was not looked for.",)
        if declared
        else ()
    )
    if state != "running":
        return _Answer(
            asked=False,
            is_off=True,
            declared_none=declared,
            notes=notes,
            finding=f"the VM is {state}",
            reason=f"the VM is {state}, so its guest cannot be asked what it connects itself; start it, "
            "or declare guest_storage: none for this VM",
        )
    if guest is None:
        why = guest_error or "it was not asked"
        return _Answer(
            asked=False,
            declared_none=declared,
            notes=notes,
            finding=f"the guest did not tell which disks it sees ({why.rstrip('.')})",
            reason=f"the guest did not tell which disks it connects itself ({why.rstrip('.')}); give it a connection, "
            "or declare guest_storage: none for this VM",
        )
    told = (guest.get("guest") or {}).get("vm_id")
    if told and guid_text(told) != guid_text(vm.get("id")):
        computer = (guest.get("guest") or {}).get("computer_name")
        return _Answer(
            asked=False,
            wrong=True,
            reason=f"the guest '{computer}' says that it runs in VM {told}, not in {vm.get('id')}; "
            "correct the inventory so that it names this VM's own guest",
        )
    if not told and not _proves_itself(vm, guest):
        return _Answer(
            asked=False,
            declared_none=declared,
            notes=notes,
            finding="the guest does not tell which VM it runs in and none of its disks proves it",
            reason="the guest does not tell which VM it runs in and none of its disks proves it; switch on the VM's "
            "data exchange integration service, or declare guest_storage: none for this VM",
        )
    if not told:
        notes = (*notes, "The guest does not tell its VM's GUID; its disks prove that it is this VM's guest.")
    return _Answer(asked=True, declared_none=declared, notes=notes)


def _proves_itself(vm: View, guest: View) -> bool:
    pairs = match_disks(_host_disks(vm), _guest_disks(guest)).pairs
    return any(pair.how == "UniqueId" for pair in pairs.values())


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Scene:
    """What every verdict looks at; `guest` is None unless it was asked and is this VM's."""

    answer: _Answer
    guest: View | None
    guests: Sequence[View]
    spread: frozenset[str]  # GUID paths of volumes that lie on several disks
    guest_engine: Capabilities | None
    host_engine: Capabilities | None
    unpaired: list[dict[str, Any]] = dataclasses.field(default_factory=list)  # virtual hard disks of the guest


def _rows(vm: View, scene: _Scene) -> tuple[list[_Row], list[str]]:
    answer, guests = scene.answer, scene.guests
    rows: list[_Row] = []
    notes: list[str] = []
    for disk in vm.get("disks") or ():
        if disk.get("attachment") == "dvd":
            notes.append(f"{slot_text(disk.get('slot'))} is a DVD drive; its media is not backed up.")
    hosts = _host_disks(vm)
    matches = match_disks(hosts, guests)
    for index, disk in enumerate(hosts):
        pair = matches.pairs.get(index)
        other = None if pair is None else guests[pair.guest]
        seen = guests[matches.lookalikes[index]] if index in matches.lookalikes else other
        row = _host_row(disk, seen, pair)
        if answer.wrong:
            row.coverage, row.reason, row.acceptable = "identity_mismatch", answer.reason, False
        elif disk.get("attachment") in LEFT_OUT:
            _judge_left_out(row, disk, other, matches.trouble.get(index), scene)
        else:
            _judge_vhd(row, disk, other, scene.host_engine)
            _judge_chain(row, vm, scene.host_engine)
        rows.append(row)
        notes.extend(_disk_notes(row, other, scene.guest))
    rows.extend(_guest_only_rows(hosts, matches, scene, notes))
    rows.extend(_port_rows(vm, guests, answer))
    if answer.wrong or (not answer.asked and not answer.declared_none):
        rows.append(
            _Row(
                kind="guest_storage",
                coverage="identity_mismatch" if answer.wrong else "unverified",
                reason=answer.reason,
                names=(GUEST_UNVERIFIED,),
                acceptable=not answer.wrong,
            )
        )
    for volume in (scene.guest or {}).get("volumes_without_disk") or ():
        notes.append(
            f"The guest's volume {_volume_name(volume)} lies on no disk that the guest lists (parts of a dynamic disk do so); "
            "make sure that one of the captured disks holds it."
        )
    if vm.get("checkpoints") and any(row.slot and row.kind in LEFT_OUT for row in rows):
        notes.append("The VM has checkpoints although some of its disks cannot be part of one.")
    return rows, notes


def _host_disks(vm: View) -> list[View]:
    return [disk for disk in vm.get("disks") or () if disk.get("attachment") not in NOT_A_DISK]


def _guest_disks(guest: View) -> list[View]:
    return list(guest.get("disks") or ())


def _host_row(disk: View, other: View | None, pair: Pair | None) -> _Row:
    lun = disk.get("lun") or {}
    vhd = disk.get("vhd") or {}
    volume = disk.get("host_volume") or {}
    size = first(disk.get("size_bytes"), lun.get("size_bytes"), vhd.get("size_bytes"))
    host = {
        "attachment": disk.get("attachment"),
        "captured_by": disk.get("captured_by"),
        "path": disk.get("path"),
        "host_volume": volume.get("path"),
        "unique_id": first(disk.get("unique_id"), lun.get("unique_id")),
        "serial_number": lun.get("serial_number"),
        "guid": lun.get("guid"),
        "signature": lun.get("signature"),
        "vhd_id": vhd.get("id"),
        "file_size_bytes": vhd.get("file_size_bytes"),
        "size_bytes": size,
    }
    return _Row(
        kind=str(disk.get("attachment")),
        coverage="gap",
        reason="",
        slot=disk.get("slot"),
        unique_id=first(disk.get("unique_id"), lun.get("unique_id"), None if other is None else other.get("unique_id")),
        size_bytes=size,
        host=host,
        guest=None if other is None else _guest_evidence(other, None if pair is None else pair.how),
        volumes=() if other is None else _volumes(other),
    )


def _guest_evidence(disk: View, how: str | None) -> dict[str, Any]:
    wanted = (
        "kind",
        "unique_id",
        "serial_number",
        "guid",
        "signature",
        "size_bytes",
        "partition_style",
        "friendly_name",
    )
    evidence = {key: disk.get(key) for key in wanted}
    evidence["iscsi"] = disk.get("iscsi")
    evidence["partitions"] = list(disk.get("partitions") or ())
    evidence["matched_by"] = how
    return evidence


def _volumes(disk: View) -> list[View]:
    return list(disk.get("volumes") or ())


# --- verdicts -----------------------------------------------------------------------------------------------------


def _judge_vhd(row: _Row, disk: View, other: View | None, engine: Capabilities | None) -> None:
    """A virtual hard disk on the host: the host phase takes it when the engine can read where it lies."""
    volume = disk.get("host_volume")
    file_system = str((volume or {}).get("file_system") or "").upper()
    if engine is None or not engine.available or not (engine.backs_up_vms and engine.restores_vms):
        row.reason = "no engine can back this VM up on the host" + (
            f": {engine.reason}" if engine and engine.reason else ""
        )
    elif volume is not None and volume.get("is_remote") and engine.remote_vhds:
        row.coverage, row.reason = "host", f"engine {engine.engine} takes virtual hard disks on SMB shares as well"
    elif volume is not None and volume.get("is_remote"):
        row.reason = (
            f"its file lies on an SMB share, which engine {engine.engine} does not back up; move it to a local volume"
        )
    elif disk.get("captured_by") == "none":
        row.reason = str(disk.get("reason") or "the host says that its backup does not take this disk")
    elif volume is None or not (volume.get("path") or volume.get("is_csv")):
        row.reason = f"the host volume that holds '{disk.get('path')}' is not known"
    elif file_system and file_system not in engine.vhd_file_systems:
        row.reason = (
            f"its file lies on a host volume with {file_system}, of which engine {engine.engine} makes no shadow copies"
        )
    elif other is not None and _sizes_differ(row.size_bytes, other.get("size_bytes")):
        row.coverage = "identity_mismatch"
        row.reason = _size_sentence(row.size_bytes, other.get("size_bytes"))
    else:
        row.coverage, row.reason = "host", "the host's backup of the VM holds this virtual hard disk"


def _judge_chain(row: _Row, vm: View, engine: Capabilities | None) -> None:
    """A virtual hard disk under checkpoints is a chain of files, which some engines cannot take; a recovery checkpoint passes."""
    names = [str(one.get("name")) for one in vm.get("checkpoints") or () if one.get("type") != "recovery"]
    if row.coverage == "host" and names and engine is not None and not engine.checkpoints:
        row.coverage = "gap"
        row.reason = (
            f"the VM has the checkpoint(s) {', '.join(names)}, and nothing proves what engine {engine.engine} makes of a chain of "
            "virtual hard disks; remove the checkpoints, or choose another engine"
        )


def _judge_left_out(row: _Row, disk: View, other: View | None, trouble: str | None, scene: _Scene) -> None:
    """A disk that the host's backup leaves out: only the guest phase can take it."""
    answer = scene.answer
    what = {
        "pass_through": "a pass-through disk",
        "unresolved_pass_through": "a pass-through disk",
        "shared_virtual_hard_disk": "a shared virtual hard disk",
    }[str(disk.get("attachment"))]
    if answer.is_off:
        row.reason = f"{what} that only the guest can back up, but {answer.finding}; start the VM and run again"
    elif disk.get("attachment") == "unresolved_pass_through":
        row.reason = (
            "the host cannot tell which LUN stands behind this pass-through disk; attach it again by its UniqueId"
        )
    elif not answer.asked:
        row.coverage = "unverified"
        row.reason = f"{what} that only the guest can back up, but {answer.finding}"
    elif trouble is not None:
        row.coverage, row.reason = "identity_mismatch", trouble
    elif other is None and _is_pooled(row, scene.guest):
        row.reason = "the guest uses it in a Storage Spaces pool, which no engine restores disk by disk"
    elif other is None:
        row.coverage = "identity_mismatch"
        row.reason = (
            f"the host attaches {what} here, but no disk of the guest has its identity; "
            "rescan the disks in the guest and compare both views"
        )
    elif row.size_bytes is None or other.get("size_bytes") is None:
        row.coverage = "unverified"
        row.reason = "host and guest agree on its identity, but one of them does not tell its size"
    elif _sizes_differ(row.size_bytes, other.get("size_bytes")):
        row.coverage = "identity_mismatch"
        row.reason = _size_sentence(row.size_bytes, other.get("size_bytes"))
    else:
        _judge_in_guest(row, other, scene)


def _judge_in_guest(row: _Row, disk: View, scene: _Scene) -> None:
    reasons = _guest_gaps(disk, scene.guest_engine, scene.spread)
    if reasons:
        row.coverage, row.reason = "gap", "; ".join(reasons)
        return
    names = ", ".join(_volume_name(volume) for volume in _volumes(disk))
    row.coverage, row.reason = "guest", f"the guest's backup takes its volumes {names}"


# Why a disk cannot be captured in the guest; first column: is it so, second: the sentence (design 5, "Coverage").
_DISK_GAPS: tuple[tuple[Callable[[View], bool], str], ...] = (
    (
        lambda disk: bool(disk.get("is_clustered") and disk.get("is_offline")),
        "another node of the guest cluster owns it; run this on the owner",
    ),
    (
        lambda disk: bool(disk.get("is_offline")),
        "it is offline in the guest; bring it online there",
    ),
    (
        lambda disk: bool(disk.get("is_read_only")),
        "it is read-only in the guest, so that it can neither be snapshot nor restored there; make it writable",
    ),
    (
        lambda disk: bool(disk.get("is_boot") or disk.get("is_system")),
        "the guest starts from it, and a running guest cannot restore its own boot or system disk; migrate it to a VHD",
    ),
    (
        lambda disk: bool(disk.get("is_dynamic")),
        "it is a dynamic disk; only basic disks can be restored one by one",
    ),
    (
        lambda disk: bool(disk.get("in_storage_pool")) or disk.get("kind") == "storage_space",
        "it belongs to a Storage Spaces pool of the guest, which no engine restores disk by disk",
    ),
    (
        lambda disk: disk.get("kind") == "mounted_virtual_hard_disk",
        "it is a virtual hard disk file that the guest has mounted; no source says that a volume backup holds it whole",
    ),
    (
        lambda disk: str(disk.get("partition_style")).upper() == "RAW",
        "it has no partition table, so the engine sees nothing on it; what an application stores there is not captured",
    ),
)


_FILE_SYSTEM_NAMES = {"REFS": "ReFS", "EXFAT": "exFAT"}


def _guest_gaps(disk: View, engine: Capabilities | None, spread: frozenset[str]) -> list[str]:
    """Every reason why the guest phase cannot take this disk; empty when it can."""
    if engine is None:
        return ["no backup engine is known for this guest"]
    if not engine.available:
        return [engine.reason or f"engine {engine.engine} cannot run in this guest"]
    if not engine.backs_up_volumes or not engine.restores_volumes:
        return [engine.reason or f"engine {engine.engine} cannot both back up and restore volumes in this guest"]
    reasons = [sentence for applies, sentence in _DISK_GAPS if applies(disk)][:1]
    if reasons:
        return reasons
    volumes = _volumes(disk)
    if not volumes:
        return ["it has no volume, so there is nothing the engine could read; whatever is stored there is not captured"]
    for volume in volumes:
        name = _volume_name(volume)
        file_system = str(volume.get("file_system") or "").upper()
        lock = (volume.get("bitlocker") or {}).get("lock")
        if lock == "locked":
            reasons.append(f"volume {name} is locked by BitLocker; unlock it")
        elif _path(volume) in spread:
            reasons.append(f"volume {name} spans several disks")
        elif not file_system or file_system == "RAW":
            reasons.append(f"volume {name} has no file system that Windows knows")
        elif file_system not in engine.file_systems:
            known = ", ".join(_FILE_SYSTEM_NAMES.get(one, one) for one in sorted(engine.file_systems))
            reasons.append(f"volume {name} has {volume.get('file_system')}, engine {engine.engine} takes {known} only")
        elif not volume.get("path"):
            reasons.append(f"volume {name} has no GUID path")
    return reasons


def _guest_only_rows(hosts: Sequence[View], matches: Matches, scene: _Scene, notes: list[str]) -> list[_Row]:
    """Guest disks that no host disk stands behind: iSCSI, virtual Fibre Channel, and what maps to nothing."""
    rows: list[_Row] = []
    guests = scene.guests
    taken = {*(pair.guest for pair in matches.pairs.values()), *matches.lookalikes.values()}
    # Identical virtual hard disks need no pairing: all of them are the host's. Only their number per size must fit.
    free = [
        first(host.get("size_bytes"), (host.get("vhd") or {}).get("size_bytes"))
        for index, host in enumerate(hosts)
        if index not in matches.pairs and host.get("attachment") == "virtual_hard_disk"
    ]
    for index, disk in enumerate(guests):
        if index in taken:
            continue
        kind = str(disk.get("kind"))
        row = _Row(
            kind=kind,
            coverage="gap",
            reason="",
            unique_id=disk.get("unique_id"),
            size_bytes=disk.get("size_bytes"),
            guest=_guest_evidence(disk, None),
            volumes=_volumes(disk),
            names=tuple(sorted(table_identity(disk))),
        )
        if kind == "virtual_hard_disk" and _take(free, disk.get("size_bytes")):
            scene.unpaired.append(
                {key: disk.get(key) for key in ("unique_id", "guid", "signature", "size_bytes", "volumes")}
            )
            continue
        if kind == "storage_space" and _pools_are_on_vhds(hosts, scene.guest):
            row.coverage, row.reason = (
                "host",
                "every disk of its pool is a virtual hard disk that the host's backup holds",
            )
        elif kind in ("iscsi", "virtual_fibre_channel") or kind in DERIVED_KINDS:
            _judge_in_guest(row, disk, scene)
        elif matches.guest_trouble.get(index) is not None:
            row.coverage, row.reason = "identity_mismatch", matches.guest_trouble[index]
        else:
            row.reason = (
                f"the guest sees this disk ({kind.replace('_', ' ')}), but nothing that the host attaches has its "
                "identity and it is not known how it is connected"
            )
        rows.append(row)
        notes.extend(_disk_notes(row, disk, scene.guest))
    return rows


def _port_rows(vm: View, guests: Sequence[View], answer: _Answer) -> list[_Row]:
    """Virtual Fibre Channel ports whose LUNs nobody sees: the host cannot list them, so absence proves nothing."""
    ports = list(vm.get("fibre_channel_ports") or ())
    if not ports or any(disk.get("kind") == "virtual_fibre_channel" for disk in guests):
        return []
    names = tuple(f"wwpn:{port.get('wwpn')}" for port in ports)
    if answer.wrong:
        why = answer.reason
    elif answer.asked:
        why = "the guest shows no disk behind them; check zoning and the guest's multipath, or accept it by name"
    else:
        why = "the guest was not asked which disks stand behind them"
    return [
        _Row(
            kind="virtual_fibre_channel",
            coverage="identity_mismatch" if answer.wrong else "unverified",
            reason=f"the VM has {len(ports)} virtual Fibre Channel port(s), which a host backup leaves out, and {why}",
            host={"fibre_channel_ports": [dict(port) for port in ports]},
            names=names,
            acceptable=not answer.wrong,
        )
    ]


# --- small judgements ---------------------------------------------------------------------------------------------


def _sizes_differ(one: object, other: object) -> bool:
    return one is not None and other is not None and one != other


def _size_sentence(host: object, guest: object) -> str:
    return (
        f"the host says {host} bytes, the guest {guest}; rescan the disks on both sides, "
        "and when they still differ find out which disk this is before anything else"
    )


def _take(free: list[Any], size: object) -> bool:
    """Use up one host virtual hard disk of that size, or one whose size is not known."""
    for wanted in (size, None):
        if wanted in free:
            free.remove(wanted)
            return True
    return False


def _path(volume: View) -> str:
    return str(volume.get("path") or "").casefold()


def _spread_volumes(guests: Iterable[View]) -> frozenset[str]:
    """GUID paths of volumes that lie on more than one disk."""
    count = Counter(path for disk in guests for path in {_path(volume) for volume in _volumes(disk)} if path)
    return frozenset(path for path, disks in count.items() if disks > 1)


def _volume_name(volume: View) -> str:
    letter = str(volume.get("letter") or "").rstrip(":")
    if letter:
        return f"{letter}:"
    folder = next(iter(volume.get("access_paths") or ()), None)
    return str(folder or volume.get("path") or f"at offset {volume.get('offset_bytes')}")


def _is_pooled(row: _Row, guest: View | None) -> bool:
    """Windows hides the members of a pool from the disk list; the pool itself may name them."""
    if guest is None or row.unique_id is None:
        return False
    return str(row.unique_id).casefold() in {text for pool in _pools(guest) for text in _member_ids(pool)}


def _pools(guest: View) -> list[View]:
    return [pool for pool in guest.get("storage_pools") or () if isinstance(pool, Mapping)]


def _member_ids(pool: View) -> set[str]:
    return {text for member in pool.get("member_unique_ids") or () for text in fold(member)}


def _pools_are_on_vhds(hosts: Sequence[View], guest: View | None) -> bool:
    """True only when every member of every pool is known to be a virtual hard disk of the host.

    Nothing says which pool a space belongs to, so all of them must be."""
    vhds = {text for host in hosts if host.get("attachment") == "virtual_hard_disk" for text in host_unique_ids(host)}
    pools = [] if guest is None else [_member_ids(pool) for pool in _pools(guest)]
    return bool(pools) and all(members and members <= vhds for members in pools)


def _disk_notes(row: _Row, disk: View | None, guest: View | None) -> list[str]:
    if disk is None or row.coverage == "host":
        return []
    notes = []
    for path in ((guest or {}).get("guest") or {}).get("ntds_paths") or ():
        if any(_lies_on(str(path), volume) for volume in _volumes(disk)):
            notes.append(
                f"{row.label} holds the Active Directory database {path}; a volume backup of it is no backup of the "
                "domain controller, that needs system state."
            )
    for volume in _volumes(disk):
        bitlocker = volume.get("bitlocker") or {}
        if bitlocker.get("protection") == "on" and bitlocker.get("lock") != "locked":
            notes.append(
                f"{row.label}: volume {_volume_name(volume)} is protected by BitLocker; its backup is not "
                "encrypted, and a restored volume has to be encrypted again."
            )
    if row.coverage == "guest" and disk.get("is_clustered"):
        notes.append(f"{row.label} is a disk of a guest cluster, owned by this node now; the owner can change.")
    return notes


def _lies_on(path: str, volume: View) -> bool:
    places = [str(place) for place in volume.get("access_paths") or ()]
    letter = str(volume.get("letter") or "").rstrip(":")
    if letter:
        places.append(f"{letter}:\\")
    wanted = path.casefold()
    return any(wanted.startswith(place.casefold()) for place in places if place and not place.startswith("\\\\?\\"))


def _forecast(vm: View, guest: View | None, rows: Iterable[_Row]) -> dict[str, Any]:
    """What can be known before the host phase about the VM staying online (backup-engines 3.2, 9.4, 9.5)."""
    state = str(vm.get("state"))
    if state in ("off", "saved"):
        return {"consistency": "off", "reason": f"the VM is {state}"}
    if state != "running":
        return {"consistency": "unknown", "reason": f"the VM is {state}"}
    offline = []
    for disk in _guest_disks(guest) if guest is not None else ():
        if disk.get("is_dynamic"):
            offline.append("the guest has a dynamic disk")
        for volume in _volumes(disk):
            file_system = str(volume.get("file_system") or "").upper()
            if file_system.startswith(("FAT", "EXFAT")) and volume.get("letter"):
                offline.append(f"volume {_volume_name(volume)} of the guest has {file_system}")
    if offline:
        return {"consistency": "saved_state", "reason": "; ".join(dict.fromkeys(offline))}
    if any(row.slot is not None and row.kind in LEFT_OUT for row in rows):
        reason = "no source says whether the host keeps a VM with such disks online while it backs it up"
        return {"consistency": "unknown", "reason": reason}
    if guest is None:
        return {"consistency": "unknown", "reason": "the guest was not asked"}
    return {"consistency": "online", "reason": "nothing speaks against it"}


def _accept(rows: Sequence[_Row], accept_gaps: Sequence[str]) -> list[str]:
    """Mark what the operator accepts; returns the texts that accepted nothing."""
    unused = []
    for text in accept_gaps:
        wanted = str(text).strip().casefold()
        fitting = [row for row in rows if wanted in {name.casefold() for name in row.accept_as}]
        if len(fitting) == 1 and fitting[0].coverage not in CAPTURED:
            fitting[0].accepted = True
        else:
            unused.append(str(text))
    return unused


def _summary(name: str, rows: Sequence[_Row]) -> str:
    count = Counter(row.coverage for row in rows)
    parts = [f"{count['host']} disk(s) by the host", f"{count['guest']} in the guest"]
    missing = [row for row in rows if row.coverage not in CAPTURED]
    if not missing:
        return f"VM '{name}': {', '.join(parts)}; nothing is left out."
    listing = "; ".join(
        f"{row.label}: {row.coverage.replace('_', ' ')}{', accepted' if row.accepted else ''}" for row in missing
    )
    parts.append(f"{len(missing)} NOT captured ({listing})")
    return f"VM '{name}': {', '.join(parts)}."


def _untouched(vm: View, status: str, sentence: str, *, complete: bool) -> dict[str, Any]:
    return {
        "vm": {"id": vm.get("id"), "name": vm.get("name")},
        "status": status,
        "disks": [],
        "guest_volumes": [],
        "unpaired_virtual_hard_disks": [],
        "notes": [],
        "complete": complete,
        "uncovered": [] if complete else [sentence],
        "accepted": [],
        "unused_acceptances": [],
        "consistency_forecast": {"consistency": "unknown", "reason": sentence},
        "summary": sentence,
    }
