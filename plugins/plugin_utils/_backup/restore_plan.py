# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""What a restore would do, and everything that forbids it: one pure function over a set and the views of all hosts.

The newest data is not assumed to be in the backup: the commonest real case is a VM or its virtual hard disks that died while
the LUNs are intact and newer. So a LUN is kept unless it is blank, unrecognisable, or named in `overwrite_disks`. From the
host a LUN is recognised by its partition table; what is on its volumes only the guest can tell, which looks again
(`guest_restore_plan.py`) before anything is written.

Not responsible for: choosing the set (`set_choice.py`), what only the target host can tell (room, switches, targets: the task
host_restore in check mode, whose findings are merged here), changing anything.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from datetime import timezone
from typing import Any

from .backup_set import BackupSet, vm_key
from .coverage import slot_text
from .disk_matching import LEFT_OUT, first, fold, table_identity
from .guest_restore_plan import guest_restore_plan, sharpened
from .set_choice import phases_of, refusal, used_attempt

View = Mapping[str, Any]

IN_GUEST_KINDS = frozenset({"iscsi", "virtual_fibre_channel"})
CONFIGURATION_KINDS = frozenset({"guest_storage"})  # rows of a coverage that are no disk
OVERWRITE = frozenset({"overwrite", "map_overwrite"})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """What forbids the restore: a word for machines, a sentence with what to do, and the option that accepts it, if any."""

    kind: str
    sentence: str
    accept_with: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RestoreOptions:
    """What the operator asked for and accepts; words as in the role `reverse_restore`, host names as in the inventory."""

    target_host: str
    vm_id: str | None = None
    restore_phase: str = "both"
    overwrite_vm: str | None = None
    overwrite_disks: Sequence[str] = ()
    lun_map: Mapping[str, str] = dataclasses.field(default_factory=dict)
    accept_unseen_hosts: Sequence[str] = ()
    hosts_expected: Sequence[str] = ()
    chap_targets: Sequence[str] = ()


def restore_plan(
    item: BackupSet,
    views: Mapping[str, View],
    options: RestoreOptions,
    *,
    host_check: View | None = None,
    versions: Iterable[View] = (),
    guest: View | None = None,
) -> dict[str, Any]:
    """The plan, JSON types only.

    Args:
        views: inventory name -> registered result of `disk_info` without `vms`; a failed one counts as not seen.
        host_check: registered result of `host_restore` in check mode on the target host; its `findings` are taken over. When
            it says `restored`, this restore has brought the VM back already, and the VM is no obstacle.
        versions: of `backup_set_info` with `relist`.
        guest: `guest_disk_info` of the restored guest, once it answers: makes the actions of guest_disks exact.

    Returns: set_id, vm {id, name, exists, host, state, overwrite, automatic_start_action}, restore_phase, phases[], findings
        [{kind, sentence, accept_with}], refused, message (all findings in one text), disks[] (each with action `keep`,
        `overwrite`, `map_keep`, `map_overwrite`, `with_vm`, `in_guest`, `not_asked` or `not_captured`, and the evidence),
        remap[] {slot, lun} for passthrough_disk, guest_disks[] {unique_id, slot, kind, action, evidence, needs_preparing,
        size_bytes, entry}, guest_phase and start (whether there is a guest phase, whether the VM ran when it was backed up),
        iscsi[] {target, portal, port, portals, chap}, steps[], notes[], summary.
    """
    return _Planner(item, views, options, host_check).plan(versions=versions, guest=guest)


def merged_message(findings: Sequence[Finding]) -> str:
    """All findings in one text for one error message."""
    if not findings:
        return ""
    if len(findings) == 1:
        return _sentence(findings[0].sentence)
    listed = " ".join(f"({number}) {_sentence(one.sentence)}" for number, one in enumerate(findings, start=1))
    return f"{len(findings)} findings forbid the restore: {listed}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Seen:
    """A LUN as one host sees it."""

    host: str
    lun: View

    @property
    def users(self) -> list[View]:
        return list(self.lun.get("attached_to") or ())


class _Planner:
    """Collects findings while it goes through hosts, VM and disks; used once."""

    def __init__(
        self, item: BackupSet, views: Mapping[str, View], options: RestoreOptions, host_check: View | None
    ) -> None:
        self._item = item
        self._options = options
        self._host_check = host_check
        self._restored = bool((host_check or {}).get("restored"))
        self._wants_host = options.restore_phase != "guest"
        self._wants_guest = options.restore_phase != "host"
        self._views = {name: view for name, view in views.items() if _answered(view)}
        self._silent = {name: view for name, view in views.items() if not _answered(view)}
        self._findings: list[Finding] = []
        self._notes: list[str] = []
        self._named: set[str] = set()  # texts of overwrite_disks that fitted a disk

    def plan(self, *, versions: Iterable[View], guest: View | None) -> dict[str, Any]:
        item, options = self._item, self._options
        why = refusal(item, restore_phase=options.restore_phase, vm_id=options.vm_id, versions=versions)
        if why is not None:
            self._find(*why)
        self._check_hosts()
        vm = self._vm()
        self._check_map()
        disks = [self._disk(row) for row in item.disks if row.get("kind") not in CONFIGURATION_KINDS]
        for text in options.overwrite_disks:
            if text not in self._named:
                self._find(
                    "overwrite_unknown",
                    f"overwrite_disks names {text}, which is no disk of the set {item.set_id}; it has "
                    f"{', '.join(row['label'] for row in disks) or 'none'}",
                )
        logins = self._logins()
        self._take_over()
        phases = [] if why is not None else list(phases_of(options.restore_phase, item))
        guest_disks = [_guest_disk(row) for row in disks if row["entry"] is not None] if "guest" in phases else []
        if guest is not None and "disks" in guest:
            guest_disks = self._seen_by_guest(guest_disks, guest)
        plan = {
            "set_id": item.set_id,
            "vm": vm,
            "restore_phase": options.restore_phase,
            "phases": phases,
            "findings": [one.to_dict() for one in self._findings],
            "refused": bool(self._findings),
            "message": merged_message(self._findings),
            "disks": [{key: value for key, value in row.items() if key != "entry"} for row in disks],
            "remap": [
                {"slot": dict(row["slot"]), "lun": row["lun"]}
                for row in disks
                if "host" in phases and row["slot"] and row["lun"]
            ],
            "guest_disks": guest_disks,
            "guest_phase": "guest" in phases,
            "start": _ran(item),
            "iscsi": logins,
            "notes": self._notes,
        }
        return {**plan, "steps": _steps(item, plan), "summary": _summary(item, disks, self._findings)}

    # -- hosts and the VM ------------------------------------------------------------------------------------------

    def _find(self, kind: str, sentence: str, accept_with: str | None = None) -> None:
        self._findings.append(Finding(kind=kind, sentence=sentence, accept_with=accept_with))

    def _check_hosts(self) -> None:
        options = self._options
        if options.target_host not in self._views:
            told = _why_silent(self._silent.get(options.target_host))
            self._find(
                "target_host_not_seen",
                f"the Hyper-V host {options.target_host}, on which the VM is to be restored, was not seen ({told}); make it "
                "reachable, or restore on another host",
            )
        expected = dict.fromkeys([*options.hosts_expected, *self._silent])
        for name in expected:
            if name in self._views or name == options.target_host or name in options.accept_unseen_hosts:
                continue
            told = _why_silent(self._silent.get(name))
            self._find(
                "host_not_seen",
                f"the Hyper-V host {name} was not seen ({told}), so that nobody knows whether the VM or its LUNs are in use there; "
                "make it reachable, or name it in accept_unseen_hosts",
                "accept_unseen_hosts",
            )

    def _vm(self) -> dict[str, Any]:
        item, options = self._item, self._options
        wanted = item.vm_id
        name = item.vm.get("name")
        here: View | None = None
        for host, view in self._views.items():
            for vm in view.get("vms") or ():
                if vm_key(vm.get("id")) != wanted:
                    continue
                if host == options.target_host:
                    here = vm
                    continue
                self._find(
                    "vm_elsewhere",
                    f"VM {name} ({item.vm.get('id')}) exists on host {host} ({vm.get('state')}"
                    f"{', a replica' if (vm.get('replication') or {}).get('is_replica') else ''}); restore it there, or remove "
                    "it from that host first",
                )
        if here is not None:
            self._check_existing(here)
        elif options.restore_phase == "guest" and options.target_host in self._views:
            self._find(
                "vm_missing",
                f"VM {name} ({item.vm.get('id')}) is not on {options.target_host}, so that only its guest phase cannot be "
                "restored; set restore_phase to both",
            )
        return {
            "id": item.vm.get("id"),
            "name": name,
            "exists": here is not None,
            "host": options.target_host,
            "state": None if here is None else here.get("state"),
            "overwrite": here is not None and options.restore_phase != "guest" and not self._restored,
            "automatic_start_action": item.automatic_start_action,
        }

    def _check_existing(self, vm: View) -> None:
        item, options = self._item, self._options
        name = f"VM {vm.get('name')} ({vm.get('id')})"
        if (vm.get("replication") or {}).get("is_replica"):
            self._find("vm_is_replica", f"{name} on {options.target_host} is a replica, which is never touched")
        if vm.get("is_clustered"):
            self._find(
                "vm_clustered",
                f"{name} on {options.target_host} belongs to a failover cluster, which is not supported; take it out first",
            )
        if options.restore_phase == "guest" or self._restored:
            return
        problem = overwrite_refusal(item, options.overwrite_vm, f"{name} exists on {options.target_host}")
        if problem is not None:
            self._find(*problem)
        elif vm.get("checkpoints"):
            self._notes.append(f"{name} has {len(vm['checkpoints'])} checkpoint(s), which are lost with it.")

    # -- disks -----------------------------------------------------------------------------------------------------

    def _check_map(self) -> None:
        known = {key for row in self._item.disks for key in _recorded_ids(row)}
        targets: dict[str, str] = {}
        for old, new in self._options.lun_map.items():
            if not fold(old) & known:
                self._find(
                    "lun_map_unknown",
                    f"lun_map maps {old}, but no left-out disk of the set has that UniqueId; correct it",
                )
            key = next(iter(fold(new)), "")
            if key in targets:
                self._find(
                    "lun_map_twice",
                    f"lun_map maps {targets[key]} and {old} to the same LUN {new}; give each disk a LUN of its own",
                )
            targets[key] = old

    def _mapped(self, row: View) -> str | None:
        ids = _recorded_ids(row)
        return next((new for old, new in self._options.lun_map.items() if fold(old) & ids), None)

    def _is_named(self, row: View, mapped: str | None) -> bool:
        """Whether overwrite_disks names the disk: by its UniqueId, old or new, or by its slot."""
        ids = {*_recorded_ids(row), *(fold(mapped) if mapped else ())}
        slot = str(slot_text(row.get("slot")) or "").casefold()
        hits = [text for text in self._options.overwrite_disks if fold(text) & ids or text.strip().casefold() == slot]
        self._named.update(hits)
        return bool(hits)

    def _disk(self, row: View) -> dict[str, Any]:
        kind = str(row.get("kind"))
        mapped = self._mapped(row)
        named = self._is_named(row, mapped)
        label = slot_text(row.get("slot")) or str(row.get("unique_id") or kind)
        shown: dict[str, Any] = {
            "label": label,
            "slot": row.get("slot"),
            "slot_text": slot_text(row.get("slot")),
            "kind": kind,
            "coverage": row.get("coverage"),
            "unique_id": mapped or row.get("unique_id"),
            "recorded_unique_id": row.get("unique_id"),
            "lun": None,
            "size_bytes": row.get("size_bytes"),
            "volumes": [
                {key: volume.get(key) for key in ("path", "letter", "label", "file_system", "used_bytes")}
                for volume in row.get("volumes") or ()
            ],
            "entry": None,
        }
        captured = row.get("coverage") == "guest"
        if kind in LEFT_OUT and kind != "shared_virtual_hard_disk":
            return self._lun_disk(row, shown, mapped=mapped, named=named, captured=captured)
        if row.get("coverage") == "host":
            if not self._wants_host:
                return {
                    **shown,
                    "action": "not_asked",
                    "evidence": "it stays as it is; only the guest phase was asked for",
                }
            return {**shown, "action": "with_vm", "evidence": _held_by(self._item)}
        shown["entry"] = _entry(row, shown["unique_id"]) if captured else None
        if not captured:
            return {**shown, "action": "not_captured", "evidence": f"the set does not hold it: {row.get('reason')}"}
        if not self._wants_guest:
            return {**shown, "action": "not_asked", "evidence": "only the host phase was asked for"}
        if named:
            return {**shown, "action": "overwrite", "evidence": "it is named in overwrite_disks"}
        return {
            **shown,
            "action": "in_guest",
            "evidence": "the host cannot see it; the guest keeps it when it is there as recorded",
        }

    def _lun_disk(
        self, row: View, shown: dict[str, Any], *, mapped: str | None, named: bool, captured: bool
    ) -> dict[str, Any]:
        seen = self._lun(row, shown["label"], mapped)
        if seen is None:
            return {
                **shown,
                "action": "not_captured" if not captured else "in_guest",
                "evidence": "its LUN was not found",
            }
        self._check_lun(row, shown["label"], seen)
        lun = seen.lun
        shown["lun"] = {
            key: lun.get(key)
            for key in ("unique_id", "serial_number", "guid", "signature", "size_bytes")
            if lun.get(key) not in (None, "")
        }
        shown["size_bytes"] = first(lun.get("size_bytes"), row.get("size_bytes"))
        shown["unique_id"] = lun.get("unique_id")
        if captured and not self._wants_guest:
            shown["entry"] = _entry(row, str(lun.get("unique_id")))
            return {**shown, "action": "not_asked", "evidence": "attached as it is; only the host phase was asked for"}
        verdict, evidence = self._verdict(row, shown["label"], lun, named=named)
        if verdict == "overwrite" and not captured:
            return {
                **shown,
                "action": "not_captured",
                "evidence": f"{evidence}, and the set does not hold it: {row.get('reason')}",
            }
        shown["entry"] = _entry(row, str(lun.get("unique_id"))) if captured else None
        action = f"map_{verdict}" if mapped and verdict in ("keep", "overwrite") else verdict
        return {**shown, "action": action, "evidence": evidence}

    def _verdict(self, row: View, label: str, lun: View, *, named: bool) -> tuple[str, str]:
        """Keep or overwrite, by what the host sees of the partition table (MSFT_Disk tells it of an offline disk too)."""
        if named:
            return "overwrite", "it is named in overwrite_disks"
        recorded = _recorded_table(row)
        style = str(lun.get("partition_style") or "").upper()
        if style == "RAW":
            return "overwrite", "it has no partition table: it is blank or unrecognisable"
        present = table_identity(lun)
        if not recorded or not present:
            return "in_guest", "its partition table cannot be compared from the host; the guest looks"
        if recorded & present:
            return "keep", f"its partition table is the recorded one ({', '.join(sorted(present))})"
        self._find(
            "lun_changed",
            f"the LUN of {label} ({lun.get('unique_id')}) has another partition table ({', '.join(sorted(present))}) than the set "
            f"recorded ({', '.join(sorted(recorded))}), so that somebody may use it for something else; name it in "
            "overwrite_disks to have it overwritten, or choose another LUN with lun_map",
            "overwrite_disks",
        )
        return "keep", "its partition table is not the recorded one, and it is not named in overwrite_disks"

    def _lun(self, row: View, label: str, mapped: str | None) -> _Seen | None:
        """The one LUN of the target host that is the recorded disk, or its replacement."""
        host = self._options.target_host
        view = self._views.get(host)
        if view is None:
            return None
        wanted = fold(mapped) if mapped else _recorded_ids(row)
        name = mapped or str(row.get("unique_id"))
        found = [lun for lun in view.get("luns") or () if fold(lun.get("unique_id")) & wanted]
        if not found:
            elsewhere = [other.host for other in self._elsewhere(wanted)]
            more = f"; {', '.join(elsewhere)} sees it" if elsewhere else ""
            self._find(
                "lun_missing",
                f"the LUN of {label} ({name}) is not there on {host}{more}; present it to the host and rescan, or name its "
                "replacement in lun_map",
                "lun_map",
            )
            return None
        if len(found) > 1:
            same = [lun for lun in found if _second_identity(lun) & _second_of_row(row)]
            if len(same) != 1 or mapped:
                self._find(
                    "lun_ambiguous",
                    f"{len(found)} LUNs of {host} have the UniqueId {name} of {label}, and nothing tells which one it is; remove "
                    "the copy (a snapshot or clone of the array) from the host",
                )
                return None
            found = same
        lun = found[0]
        weak = bool(lun.get("weak_identity")) or lun.get("unique_id_format") == 0
        if weak and not (_second_identity(lun) & _second_of_row(row)):
            self._find(
                "lun_weak",
                f"the LUN of {label} on {host} has the weak UniqueId {name} and neither its serial number nor its partition "
                "table confirms it; it cannot be attached safely",
            )
        return _Seen(host=host, lun=lun)

    def _elsewhere(self, wanted: set[str]) -> list[_Seen]:
        return [
            _Seen(host=host, lun=lun)
            for host, view in self._views.items()
            if host != self._options.target_host
            for lun in view.get("luns") or ()
            if fold(lun.get("unique_id")) & wanted
        ]

    def _check_lun(self, row: View, label: str, seen: _Seen) -> None:
        lun, host = seen.lun, seen.host
        name = f"the LUN of {label} ({lun.get('unique_id')})"
        if lun.get("is_boot") or lun.get("is_system"):
            self._find(
                "lun_boot_or_system", f"{name} is the boot or system disk of {host}; choose another one with lun_map"
            )
        if lun.get("is_clustered"):
            self._find(
                "lun_clustered",
                f"{name} is a clustered disk of {host}, which is not supported; remove it from the cluster",
            )
        for user in seen.users:
            if vm_key(user.get("vm_id")) != self._item.vm_id:
                self._find(
                    "lun_in_use",
                    f"{name} is attached to VM {user.get('vm_name')} ({user.get('vm_id')}) on {host}; detach it there, or choose "
                    "another LUN with lun_map",
                )
        if not lun.get("is_offline") and not seen.users:
            self._find(
                "lun_online",
                f"{name} is online on {host}, which may write to it; take it offline there (it cannot be attached while it is "
                "online)",
            )
        size, recorded = lun.get("size_bytes"), row.get("size_bytes")
        if isinstance(size, int) and isinstance(recorded, int) and size < recorded:
            self._find(
                "lun_too_small",
                f"{name} has {size} bytes, but the recorded disk had {recorded}; present a LUN that is at least as large",
            )
        for other in self._elsewhere(fold(lun.get("unique_id"))):
            busy = [f"attached to VM {user.get('vm_name')}" for user in other.users]
            if not other.lun.get("is_offline") and not busy:
                busy = ["online there"]
            if busy:
                self._find(
                    "lun_in_use",
                    f"{name} is also seen by {other.host} and {', '.join(busy)}; two users of one LUN destroy it: free it there "
                    "first",
                )
            else:
                self._notes.append(f"{other.host} sees {name} too; it is offline and attached to nothing there.")

    def _logins(self) -> list[dict[str, Any]]:
        """iSCSI targets that the guest logs in to by itself, each once."""
        found: dict[str, dict[str, Any]] = {}
        for row in self._item.disks:
            connection = ((row.get("evidence") or {}).get("guest") or {}).get("iscsi")
            if not connection or not connection.get("target"):
                continue
            portals = list(connection.get("portals") or ())
            chap = "CHAP" in str(connection.get("authentication") or "").upper()
            target = str(connection["target"])
            if target not in found and chap and target not in self._options.chap_targets:
                self._find(
                    "chap_secret_missing",
                    f"the guest logs in to iSCSI target {target} with CHAP; give its secret, so that the session can be made again",
                    "iscsi_chap",
                )
            found.setdefault(
                target,
                {
                    "target": target,
                    "portal": portals[0].get("address") if portals else None,
                    "port": (portals[0].get("port") if portals else None) or 3260,
                    "portals": portals,
                    "chap": chap,
                },
            )
        return list(found.values())

    def _seen_by_guest(self, rows: Sequence[dict[str, Any]], guest: View) -> list[dict[str, Any]]:
        """The same disks with what the guest sees of them. What only their content can tell, guest_restore decides."""
        options = self._options
        seen = guest_restore_plan(
            self._item, guest, overwrite_disks=options.overwrite_disks, lun_map=options.lun_map, prepared=False
        )
        for one in seen.findings:
            if one.kind in ("disk_missing", "disk_ambiguous", "volume_too_small", "volume_locked"):
                self._find(one.kind, one.sentence, one.accept_with)
        return sharpened(rows, seen)

    def _take_over(self) -> None:
        """Findings of the target host's own look; what was found from outside already is not said twice."""
        host_check = self._host_check
        if host_check is None:
            return
        known = {one.kind for one in self._findings}
        if host_check.get("failed"):
            error = host_check.get("error") or {}
            if error.get("kind") not in known:
                self._find(str(error.get("kind") or "host_check_failed"), str(host_check.get("msg")))
            return
        for one in host_check.get("findings") or ():
            if one.get("kind") not in known:
                self._find(str(one.get("kind")), str(one.get("sentence")), one.get("accept_with"))


def overwrite_refusal(item: BackupSet, overwrite_vm: str | None, what: str) -> tuple[str, str, str] | None:
    """Why an existing VM must not be replaced: only its GUID, written out, allows it. Kind, sentence, option; or None."""
    if overwrite_vm is None or not str(overwrite_vm).strip():
        return (
            "vm_exists",
            f"{what}, and a restore deletes it with its virtual hard disks; set overwrite_vm to its GUID to replace it",
            "overwrite_vm",
        )
    if vm_key(overwrite_vm) != item.vm_id:
        return (
            "overwrite_vm_mismatch",
            f"{what}, but overwrite_vm names {overwrite_vm}; it must be exactly the GUID of the VM that is replaced",
            "overwrite_vm",
        )
    return None


# --- small readings -------------------------------------------------------------------------------------------------


def _answered(view: View) -> bool:
    return not view.get("failed") and not view.get("unreachable") and "luns" in view and "vms" in view


def _why_silent(view: View | None) -> str:
    if view is None:
        return "it is not in the inventory or was not asked"
    return _clause(str(view.get("msg") or "it did not answer"))


def _recorded_ids(row: View) -> set[str]:
    evidence = row.get("evidence") or {}
    return {
        key
        for text in (
            row.get("unique_id"),
            (evidence.get("host") or {}).get("unique_id"),
            (evidence.get("guest") or {}).get("unique_id"),
        )
        for key in fold(text)
    }


def _recorded_table(row: View) -> frozenset[str]:
    evidence = row.get("evidence") or {}
    return table_identity(evidence.get("guest") or {}) or table_identity(evidence.get("host") or {})


def _second_identity(disk: View) -> set[str]:
    serial = str(disk.get("serial_number") or "").strip()
    return {*table_identity(disk), *({f"serial:{serial.casefold()}"} if serial else ())}


def _second_of_row(row: View) -> set[str]:
    evidence = row.get("evidence") or {}
    return {
        *_recorded_table(row),
        *_second_identity(evidence.get("host") or {}),
        *_second_identity(evidence.get("guest") or {}),
    }


def _held_by(item: BackupSet) -> str:
    attempt = used_attempt(item, "host")
    when = None if attempt is None or attempt.snapshot_time is None else attempt.snapshot_time.astimezone(timezone.utc)
    return (
        "the host's version holds it" if when is None else f"the host's version of {when:%Y-%m-%d %H:%M} UTC holds it"
    )


def _guest_disk(row: View) -> dict[str, Any]:
    action = {"map_keep": "keep", "map_overwrite": "overwrite"}.get(str(row["action"]), str(row["action"]))
    keys = ("label", "unique_id", "slot", "kind", "evidence", "size_bytes", "entry")
    return {**{key: row[key] for key in keys}, "action": action, "needs_preparing": None}


def _ran(item: BackupSet) -> bool:
    """Whether the VM ran when it was backed up; an older record does not tell, unless its host phase found it off."""
    state = item.vm.get("state")
    if state is not None:
        return bool(state == "running")
    attempt = used_attempt(item, "host")
    return attempt is None or attempt.consistency != "off"


def _entry(row: View, unique_id: str) -> dict[str, Any]:
    """The recorded disk as guest_disk takes it, under the identity that it has now."""
    evidence = (row.get("evidence") or {}).get("guest") or {}
    return {
        "unique_id": unique_id,
        "size_bytes": first(evidence.get("size_bytes"), row.get("size_bytes")),
        "evidence": {"guest": {**evidence, "unique_id": unique_id}},
        "volumes": [dict(volume) for volume in row.get("volumes") or ()],
    }


def _clause(text: str) -> str:
    return text.strip().rstrip(".")


def _sentence(text: str) -> str:
    text = text.strip()
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _steps(item: BackupSet, plan: View) -> list[str]:
    """The restore in the order in which it is done, for people."""
    name = item.vm.get("name")
    steps = []
    if "host" in plan["phases"]:
        attempt = used_attempt(item, "host")
        if plan["vm"]["exists"]:
            steps.append(f"shut VM {name} down and export its configuration")
            steps.append(f"replace VM {name}: it is deleted with its virtual hard disks")
        if attempt is not None:
            steps.append(
                f"restore VM {name} from version {attempt.version} on {attempt.target}, automatic start: nothing"
            )
        steps += [f"attach LUN {one['lun']['unique_id']} at {slot_text(one['slot'])}" for one in plan["remap"]]
        steps.append(f"start VM {name} and wait for its guest")
    if "guest" in plan["phases"]:
        for row in plan["disks"]:
            if row["coverage"] == "guest":
                word = {"keep": "keep", "map_keep": "keep"}.get(row["action"], "restore")
                if row["action"] == "in_guest":
                    word = "keep or restore (the guest decides)"
                steps.append(f"{word} disk {row['label']}: {row['evidence']}")
        steps.append("compare the restored volumes with what the set recorded")
    if "host" in plan["phases"]:
        steps.append(f"set automatic start of VM {name} back to {item.automatic_start_action}")
    return steps


def _summary(item: BackupSet, disks: Sequence[View], findings: Sequence[Finding]) -> str:
    count: dict[str, int] = {}
    for row in disks:
        word = {"map_keep": "keep", "map_overwrite": "overwrite"}.get(str(row["action"]), str(row["action"]))
        count[word] = count.get(word, 0) + 1
    words = {
        "with_vm": "come back with the VM",
        "keep": "are kept",
        "overwrite": "are overwritten",
        "in_guest": "are decided in the guest",
        "not_captured": "are not in the set",
        "not_asked": "are left as they are",
    }
    parts = [f"{count[word]} disk(s) {text}" for word, text in words.items() if word in count]
    verdict = "refused" if findings else "possible"
    return f"Restore of VM {item.vm.get('name')} from set {item.set_id} is {verdict}: {', '.join(parts) or 'no disks'}."
