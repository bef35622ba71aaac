# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
r"""What has to be true before diskshadow is started: which volumes, which provider, is there room for what changes.

Pure functions over what was read. Findings are all told at once. Not responsible for reading (`_hyperv`), nor for running.

The volumes are those of every virtual hard disk that the host captures, and that of the VM's configuration: a shadow copy that
lacks the configuration cannot bring the VM back. Facts: backup-engines 2, 3.2; windows-storage 3.8.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from .._hyperv.shadow_copies import HARDWARE, SYSTEM_PROVIDER, ShadowProvider, ShadowStorage, guid_in
from .diskshadow_job import SourceVolume
from .diskshadow_options import DiskShadowOptions
from .engine import Refusal

FILE_SYSTEMS = frozenset({"NTFS", "REFS"})
MAX_VOLUMES = 20  # of one VM; a set can hold 64 (documentation of VSS)

View = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Facts:
    """What was read on the host.

    Attributes:
        vm: the VM's entry of `disk_info`.
        volumes: rows of `mounted_volumes` as dicts.
        providers: of shadow copies; None when the host does not tell.
        support: pairs (provider, GUID of a volume); None when the host does not tell.
        storages: of the system provider.
    """

    vm: View
    volumes: Sequence[View]
    providers: Sequence[ShadowProvider] | None
    support: frozenset[tuple[str, str]] | None
    storages: Sequence[ShadowStorage]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """`files` maps the path of each file that has to come back to its bytes (None: not known)."""

    volumes: tuple[SourceVolume, ...] = ()
    provider: str = ""
    files: Mapping[str, int | None] = dataclasses.field(default_factory=dict)
    refusals: tuple[Refusal, ...] = ()


def plan_backup(facts: Facts, options: DiskShadowOptions, *, covered: bool) -> Plan:
    """What is to be done, or why it is not.

    Args:
        covered: a coverage was made that leaves no disk out; without it nobody vouches for the disks that the host leaves out.
    """
    refusals = [*_vm(facts.vm, covered=covered)]
    volumes, found = _volumes(facts)
    refusals += found
    provider, found = _provider(options, facts, volumes)
    refusals += found
    files = _files(facts.vm)
    if provider == SYSTEM_PROVIDER and not refusals:
        refusals += _storage(facts, options, volumes, files)
    return Plan(volumes=tuple(volumes), provider=provider, files=files, refusals=tuple(refusals))


def configuration_paths(vm: View) -> tuple[str, ...]:
    r"""Where the VM's configuration file may be: `.vmcx` from Server 2016, `.xml` before (backup-engines 3.1)."""
    configuration = vm.get("configuration") or {}
    root = str(configuration.get("data_root") or "").rstrip("\\")
    guid = str(vm.get("id") or "").strip("{}").upper()
    if not root or not guid:
        return ()
    base = f"{root}\\Virtual Machines\\{guid}"
    return (f"{base}.vmcx", f"{base}.xml")


def _vm(vm: View, *, covered: bool) -> list[Refusal]:
    name = f"VM {vm.get('name')}"
    found = []
    left_out = [disk for disk in vm.get("disks") or () if disk.get("captured_by") == "guest"]
    if left_out and not covered:
        found.append(
            Refusal(
                kind="left_out_disks",
                sentence=f"{name} has {len(left_out)} disk(s) that no shadow copy on the host holds, and nobody says that the guest "
                "phase covers them; pass the coverage, or migrate them to virtual hard disks first",
            )
        )
    if vm.get("checkpoints"):
        found.append(
            Refusal(
                kind="has_checkpoints",
                sentence=f"{name} has checkpoints, whose chain of files the engine diskshadow does not bring back; delete them (their "
                "disks are merged then), or use the engine wsb",
            )
        )
    if vm.get("busy"):
        found.append(Refusal(kind="vm_busy", sentence=f"{name} is busy ({vm['busy']}); wait for its end"))
    return found


def _volumes(facts: Facts) -> tuple[list[SourceVolume], list[Refusal]]:
    by_letter = {str(volume.get("letter")).upper(): volume for volume in facts.volumes if volume.get("letter")}
    wanted: dict[str, SourceVolume] = {}
    found: list[Refusal] = []
    for what, path in _places(facts.vm):
        letter = path[:1].upper()
        volume = by_letter.get(letter) if path[1:3] == ":\\" else None
        file_system = str((volume or {}).get("file_system") or "").upper()
        if path.startswith("\\\\") and not path.startswith("\\\\?\\"):
            found.append(_place(what, path, "lies on a share, of which the host makes no shadow copies"))
        elif volume is None:
            found.append(_place(what, path, "is not on a volume of the host with a drive letter"))
        elif "\\clusterstorage\\" in path.casefold():
            found.append(_place(what, path, "lies on a cluster shared volume, which is not supported"))
        elif file_system not in FILE_SYSTEMS:
            found.append(
                _place(what, path, f"lies on a volume with {file_system or 'no file system'}, not NTFS or ReFS")
            )
        else:
            source = SourceVolume(path=str(volume["path"]), letter=letter)
            wanted.setdefault(source.guid, source)
    for disk in facts.vm.get("disks") or ():
        seen = guid_in((disk.get("host_volume") or {}).get("path"))
        if disk.get("captured_by") == "host" and seen and seen not in wanted and not found:
            found.append(
                _place(
                    "the virtual hard disk", str(disk.get("path")), "lies on another volume than its drive letter says"
                )
            )
    if not wanted and not found:
        found.append(Refusal(kind="nothing_to_back_up", sentence="the VM has no file on a volume of the host"))
    if len(wanted) > MAX_VOLUMES:
        found.append(
            Refusal(
                kind="too_many_volumes",
                sentence=f"the VM's files lie on {len(wanted)} volumes, more than {MAX_VOLUMES}; put them together",
            )
        )
    return sorted(wanted.values(), key=lambda one: str(one.letter)), found


def _places(vm: View) -> list[tuple[str, str]]:
    places = [
        ("the virtual hard disk", str(disk["path"]))
        for disk in vm.get("disks") or ()
        if disk.get("captured_by") == "host" and disk.get("path")
    ]
    places += [
        ("its parent", str((disk.get("vhd") or {})["parent_path"]))
        for disk in vm.get("disks") or ()
        if (disk.get("vhd") or {}).get("parent_path")
    ]
    root = (vm.get("configuration") or {}).get("data_root")
    places.append(("the configuration", str(root or "(not told by the host)")))
    return places


def _place(what: str, path: str, why: str) -> Refusal:
    return Refusal(
        kind="volume_not_supported",
        sentence=f"{what} {path} {why}; move it to a local NTFS or ReFS volume, or use another engine",
    )


def _files(vm: View) -> dict[str, int | None]:
    files: dict[str, int | None] = {}
    for disk in vm.get("disks") or ():
        if disk.get("captured_by") == "host" and disk.get("path"):
            size = (disk.get("vhd") or {}).get("file_size_bytes")
            files[str(disk["path"])] = size if isinstance(size, int) else None
    return files


def _provider(options: DiskShadowOptions, facts: Facts, volumes: Sequence[SourceVolume]) -> tuple[str, list[Refusal]]:
    """The GUID of the provider, whatever Windows would choose by itself."""
    providers, wanted = facts.providers, options.provider
    listed = ", ".join(one.describe() for one in providers or ()) or "none that the host tells of"
    if wanted == "system":
        candidates = [SYSTEM_PROVIDER]
    elif wanted == "hardware":
        candidates = [one.id for one in providers or () if one.type == HARDWARE]
    else:
        candidates = [one.id for one in providers or () if one.id == wanted]
    if not candidates:
        return "", [
            Refusal(
                kind="provider_missing",
                sentence=f"the host has no {'hardware provider' if wanted == 'hardware' else f'provider {wanted}'} for shadow copies (it "
                f"has {listed}); install the array's VSS provider, or choose another one in engine_options.provider",
            )
        ]
    if facts.support is None:
        if wanted == "hardware":
            return "", [
                Refusal(
                    kind="provider_unknown",
                    sentence="the host does not tell which volumes a provider supports; name the provider by its GUID in "
                    "engine_options.provider when you know it",
                )
            ]
        return candidates[0], []
    able = [one for one in candidates if all((one, volume.guid) in facts.support for volume in volumes)]
    if len(able) == 1:
        return able[0], []
    names = ", ".join(volume.named for volume in volumes)
    if able:
        return "", [
            Refusal(
                kind="provider_ambiguous",
                sentence=f"{len(able)} hardware providers support {names} ({', '.join(able)}); name one of them in "
                "engine_options.provider",
            )
        ]
    return "", [
        Refusal(
            kind="provider_unsupported",
            sentence=f"the provider {', '.join(candidates)} does not support {names} (the host has {listed}); choose another provider",
        )
    ]


def _storage(
    facts: Facts, options: DiskShadowOptions, volumes: Sequence[SourceVolume], files: Mapping[str, int | None]
) -> list[Refusal]:
    """Room for what changes while the shadow copies live; the system provider alone keeps that on a volume."""
    free = {guid_in(volume.get("path")): volume.get("free_bytes") for volume in facts.volumes}
    letters = {guid_in(volume.get("path")): volume.get("letter") for volume in facts.volumes}
    needs: dict[str, int] = {}
    limits: list[Refusal] = []
    for volume in volumes:
        bytes_here = sum(size or 0 for path, size in files.items() if path[:1].upper() == volume.letter)
        needed = options.storage_bytes(bytes_here)
        storage = next((one for one in facts.storages if one.volume_guid == volume.guid), None)
        place = volume.guid if storage is None or not storage.on_volume_guid else storage.on_volume_guid
        needs[place] = needs.get(place, 0) + needed
        if storage is not None and storage.max_bytes is not None and storage.max_bytes - storage.used_bytes < needed:
            limits.append(
                Refusal(
                    kind="no_shadow_storage",
                    sentence=f"the shadow storage of {volume.named} may grow to {storage.max_bytes} bytes, of which "
                    f"{storage.used_bytes} are used, and the backup can need {needed} ({options.storage_needed} of the VM's files "
                    "there); raise its maximum "
                    f"(vssadmin resize shadowstorage /for={volume.named} /on=... /maxsize=...), delete old shadow copies, or lower "
                    "engine_options.storage_needed",
                )
            )
    for place, needed in needs.items():
        there = free.get(place)
        if isinstance(there, int) and there < needed:
            name = f"{letters.get(place)}:" if letters.get(place) else place
            limits.append(
                Refusal(
                    kind="no_shadow_storage",
                    sentence=f"{name}, which holds the shadow storage, has {there} bytes free and the backup can need {needed} "
                    f"({options.storage_needed} of the VM's files); make room, put the shadow storage on another volume (vssadmin add "
                    "shadowstorage), use a hardware provider, or lower engine_options.storage_needed",
                )
            )
    return limits
