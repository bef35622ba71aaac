# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
r"""What a run of diskshadow proves: which shadow copies are ours, whether the writers were told the end, what went wrong.

Pure functions over files of a job and rows of Win32_ShadowCopy. Not responsible for running (`diskshadow.py`).

Nothing is read that depends on a language: GUIDs, our own aliases, the echo of our own commands (`-> end backup`), names of
constants (VSS_WS_STABLE), HRESULTs. What proves a success, all of it together:
- exit code 0, and the log echoes a command after `end backup`, so that `end backup` was begun and left again;
- the machine has shadow copies that it did not have before the run, whose ids diskshadow printed, all of one set, one for each
  volume, made by the provider that was asked for and with writers;
- the Hyper-V writer is stable afterwards (that the writers could not be listed is a warning, anything else a failure);
- the metadata file was copied to the target.
Where the log adds other VMs to the backup and not ours, it is a failure, too.
A transportable set is not surfaced on the machine that made it: its copies are then those that the log names by our aliases.

Facts: backup-engines 2 (echo, blocks, writer rows), 3.1; windows-storage 3.8; HRESULTs: documentation of VSS (IVssBackupComponents,
writer errors). Assumed: diskshadow echoes commands of a script as the public transcripts show it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from .._hyperv.shadow_copies import ShadowCopy
from .diskshadow_job import ALIAS, HYPERV_WRITER, SourceVolume, alias
from .wbadmin_text import last_lines, shown_text

_GUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_ECHO = re.compile(r"^\s*(?:DISKSHADOW>\s*)?->\s*(\S.*?)\s*$", re.MULTILINE | re.IGNORECASE)
_HRESULT = re.compile(r"0x8[0-9A-Fa-f]{7}")
_STATE_NAME = re.compile(r"VSS_WS_[A-Z_]+")
_STATE_NUMBER = re.compile(r":\s*\[?(\d{1,2})\]?(?=\s|\(|$)")

# documentation of VSS: what can be said in a sentence
HRESULTS: Mapping[int, tuple[str, str]] = {
    0x80042302: ("vss_unexpected", "the volume shadow copy service met an unexpected error; see the event log VSS"),
    0x80042304: ("provider_missing", "the provider is not registered"),
    0x80042306: (
        "provider_veto",
        "the provider refused; see the event log of VSS and of the provider for what it lacked",
    ),
    0x8004230C: ("volume_not_supported", "shadow copies of this volume are not supported"),
    0x8004230E: ("volume_not_supported", "the provider does not support this volume"),
    0x8004230F: ("provider_failed", "the provider met an unexpected error; see its event log"),
    0x80042313: ("flush_timeout", "the volume could not be flushed in time; run again when it is less busy"),
    0x80042314: ("flush_timeout", "the volume could not be held in time; run again when it is less busy"),
    0x80042316: ("busy", "another shadow copy is being made on the machine"),
    0x80042317: ("too_many_copies", "the volume has as many shadow copies as it can have; delete old ones"),
    0x8004231F: ("no_shadow_storage", "the shadow storage area is too small; enlarge it or make room"),
    0x800423F0: ("writer_failed", "a writer saw only a part of its components"),
    0x800423F1: ("writer_failed", "a writer ran out of resources"),
    0x800423F2: ("writer_timeout", "a writer did not answer in time; run again when the host is less busy"),
    0x800423F3: ("writer_failed", "a writer failed for now; run again"),
    0x800423F4: ("writer_failed", "a writer failed; see the event logs of the Hyper-V host"),
}
#: States of a writer after a backup whose end it was told (backup-engines 2; documentation of VSS_WRITER_STATE).
STABLE_NAMES, STABLE_NUMBERS = frozenset({"VSS_WS_STABLE"}), frozenset({1})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Told:
    """What a log says, as far as no language is needed."""

    commands: tuple[str, ...]  # echoed, lower case, in order
    guids: frozenset[str]
    aliases: Mapping[str, frozenset[str]]  # our alias -> GUIDs on lines with it
    hresults: tuple[int, ...]

    def begun(self, command: str) -> bool:
        return any(one == command or one.startswith(command + " ") for one in self.commands)

    def passed(self, command: str) -> bool:
        """A later command was begun, so that this one ended well: diskshadow leaves a script at the first failure."""
        places = [n for n, one in enumerate(self.commands) if one == command or one.startswith(command + " ")]
        return bool(places) and places[-1] < len(self.commands) - 1


def read_log(data: bytes) -> Told:
    text = shown_text(data).replace("\x00", "")
    commands = tuple(" ".join(match.split()).casefold() for match in _ECHO.findall(text))
    aliases: dict[str, frozenset[str]] = {}
    guids: set[str] = set()
    for line in text.splitlines():
        if _ECHO.match(line):
            continue  # the script's own text proves nothing
        found = {one.lower() for one in _GUID.findall(line)}
        guids |= found
        for name in re.findall(rf"\b(?:{ALIAS}\d{{1,3}}|VSS_SHADOW_SET)\b", line, re.IGNORECASE):
            aliases[name.lower()] = aliases.get(name.lower(), frozenset()) | found
    hresults = tuple(dict.fromkeys(int(one, 16) for one in _HRESULT.findall(text)))
    return Told(commands=commands, guids=frozenset(guids), aliases=aliases, hresults=hresults)


def writer_state(data: bytes, writer: str = HYPERV_WRITER) -> str | None:
    """The state of a writer in `list writers status`: a constant's name or a number as text; None when it is not told.

    A writer's block begins with its `*` line and may name its id before or after its state.
    """
    text = shown_text(data).replace("\x00", "")
    blocks = re.split(r"^\s*\*", text, flags=re.MULTILINE)
    for block in blocks[1:]:
        if writer not in block.lower():
            continue
        name = _STATE_NAME.search(block)
        if name is not None:
            return name[0]
        for line in block.splitlines():
            if _GUID.search(line) or _HRESULT.search(line):
                continue
            number = _STATE_NUMBER.search(line)
            if number is not None:
                return number[1]
    return None


def is_stable(state: str) -> bool:
    return state in STABLE_NAMES or (state.isdecimal() and int(state) in STABLE_NUMBERS)


def takes_part(log: bytes, vm_id: str) -> bool | None:
    """Whether a verbose log adds the VM to the backup: a line with `+` and its GUID, which is its component's name.

    None when the log adds no component with a GUID for a name, so that nothing can be told.
    """
    added = [
        line
        for line in shown_text(log).replace("\x00", "").splitlines()
        if line.lstrip().startswith("+") and _GUID.search(line)
    ]
    if not added:
        return None
    wanted = vm_id.strip("{}").casefold()
    return any(wanted in line.casefold() for line in added)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Proof:
    """What a finished or broken run proves.

    Attributes:
        state: `succeeded`, `warning` or `failed`.
        set_id, shadows: of the shadow copies that are ours; `shadows` maps the GUID of a volume to the id of its copy.
        leftovers: ids of copies that are provably ours and belong to nothing that succeeded: to be deleted.
        doubtful: ids of copies that are new since the run began and not provably ours: never touched, told.
    """

    state: str
    kind: str = ""
    message: str = ""
    set_id: str | None = None
    shadows: Mapping[str, str] = dataclasses.field(default_factory=dict)
    copies: tuple[ShadowCopy, ...] = ()
    leftovers: tuple[str, ...] = ()
    doubtful: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    evidence: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seen:
    """What is known of a run: the end of its job (exit codes None when there is none), its texts, the copies there are."""

    is_done: bool
    exit_code: int | None
    log: bytes
    writers: bytes
    writers_code: int | None
    cab_code: int | None
    cab2_code: int | None
    copies: Sequence[ShadowCopy]


def judge(
    seen: Seen,
    *,
    baseline: Sequence[str],
    volumes: Sequence[SourceVolume],
    provider: str,
    transportable: bool,
    second_cab: bool,
) -> Proof:
    """What a run that has ended, or will never end, proves. Never raises."""
    told = read_log(seen.log)
    before = {one.lower() for one in baseline}
    wanted = {volume.guid for volume in volumes}
    fresh = [copy for copy in seen.copies if copy.id not in before and copy.volume_guid in wanted]
    ours = [copy for copy in fresh if copy.id in told.guids]
    doubtful = tuple(copy.id for copy in fresh if copy.id not in told.guids)
    state = writer_state(seen.writers)
    base: dict[str, Any] = {
        "leftovers": tuple(copy.id for copy in ours),
        "doubtful": doubtful,
        "evidence": {
            "exit_code": seen.exit_code,
            "commands": list(told.commands),
            "writer_state": state,
            "hresults": [f"0x{one:08X}" for one in told.hresults],
            "new_copies": [copy.id for copy in fresh],
        },
    }
    failure = _trouble(seen, told, bool(ours), state)
    if failure is not None:
        return Proof(state="failed", kind=failure[0], message=failure[1], **base)
    if transportable:
        proof = _transportable(told, volumes, base)
    else:
        proof = _surfaced(ours, told, volumes, provider, base)
    if proof.state == "failed":
        return proof
    if seen.cab_code != 0:
        return dataclasses.replace(
            proof,
            state="failed",
            kind="metadata_not_kept",
            set_id=None,
            shadows={},
            leftovers=base["leftovers"],
            message="the shadow copies were made, but their metadata file could not be copied to the target; give the host's "
            "computer account the right to write there",
        )
    warnings = []
    if state is None:
        warnings.append("diskshadow did not tell the state of the Hyper-V writer after the backup")
    if second_cab and seen.cab2_code != 0:
        warnings.append("the second copy of the metadata file (metadata_copy) could not be written")
    if warnings:
        return dataclasses.replace(proof, state="warning", kind="incomplete_proof", warnings=tuple(warnings))
    return proof


def _trouble(seen: Seen, told: Told, has_copies: bool, state: str | None) -> tuple[str, str] | None:
    """Kind and sentence of what makes the run a failure, whatever was made."""
    said = last_lines(seen.log)
    began, ended = told.begun("begin backup"), told.passed("end backup")
    if not seen.is_done or seen.exit_code is None:
        if began and not ended and (has_copies or told.begun("create")):
            return "end_backup_missing", missing_end(said)
        return "interrupted", _with(
            "the run was broken off before diskshadow ended (the machine was restarted, or its scheduled task was ended)",
            said,
        )
    if seen.exit_code == 9009:
        return "diskshadow_missing", "diskshadow was not found; it is part of Windows Server, client Windows has none"
    meaning = next((HRESULTS[code] for code in told.hresults if code in HRESULTS), None)
    if meaning is not None and not (ended and seen.exit_code == 0):
        return meaning[0], _with(meaning[1], said)
    if began and not ended and (has_copies or told.passed("create")):
        return "end_backup_missing", missing_end(said)
    if seen.exit_code != 0 or not ended:
        return _where_it_stopped(seen.exit_code, told), _with(
            f"diskshadow ended with code {seen.exit_code}"
            + (f" at the command '{told.commands[-1]}'" if told.commands else ""),
            said,
        )
    if state is None and seen.writers_code == 0:
        return (
            "writer_missing",
            "diskshadow lists the writers after the backup, and the Hyper-V writer is not among them, so that no VM in the shadow "
            "copies is consistent; look whether the service vmms runs, and run again",
        )
    if state is not None and not is_stable(state):
        return (
            "writer_not_stable",
            f"the Hyper-V writer is in state {state} after the backup, so that it was not told the end of it, or failed; look at "
            "'diskshadow> list writers status' and restart the service vmms when it stays so (its VMs go on running)",
        )
    return None


def missing_end(said: str) -> str:
    return _with(
        "the shadow copies were made, but the backup was never ended (end backup), so that the Hyper-V writer was not told and the "
        "set is not good; look at the VM (is it still saved, has it a recovery checkpoint?) and at 'diskshadow> list writers status', "
        "restart the service vmms when its writer does not become stable, and run again: the copies that this run left are deleted then",
        said,
    )


_STOPPED_AT = (
    ("end backup", "end_backup_missing"),
    ("create", "snapshot_failed"),
    ("writer verify", "writer_missing"),
    ("add volume", "volume_refused"),
)


def _where_it_stopped(exit_code: int, told: Told) -> str:
    last = told.commands[-1] if told.commands else ""
    if last == "exit" and exit_code != 0:
        return "diskshadow_failed"
    return next((kind for command, kind in _STOPPED_AT if last.startswith(command)), "diskshadow_failed")


def _surfaced(
    ours: Sequence[ShadowCopy], told: Told, volumes: Sequence[SourceVolume], provider: str, base: Mapping[str, Any]
) -> Proof:
    """Exactly one set, one copy for each volume, by the right provider, with writers."""
    problems: list[tuple[str, str]] = []
    sets = sorted({copy.set_id for copy in ours})
    by_volume: dict[str, list[ShadowCopy]] = {}
    for copy in ours:
        by_volume.setdefault(copy.volume_guid, []).append(copy)
    missing = [volume.named for volume in volumes if volume.guid not in by_volume]
    if not ours:
        problems.append(("no_shadow_copy", "diskshadow ended well, but the machine has no shadow copy that it names"))
    elif missing:
        problems.append(("no_shadow_copy", f"there is no shadow copy of {', '.join(missing)}"))
    elif len(sets) != 1 or any(len(copies) != 1 for copies in by_volume.values()):
        problems.append(
            (
                "ambiguous_shadow_set",
                f"{len(ours)} new shadow copies of {len(sets)} sets were found, one set was expected",
            )
        )
    elif sets[0] not in told.guids:
        problems.append(("ambiguous_shadow_set", f"diskshadow does not name the shadow copy set {{{sets[0]}}}"))
    elif any(copy.has_no_writers for copy in ours):
        problems.append(
            ("writers_left_out", "the shadow copies were made without writers, so that no VM in them is consistent")
        )
    elif any(copy.provider and copy.provider != provider for copy in ours):
        others = sorted({copy.provider for copy in ours})
        problems.append(("wrong_provider", f"the shadow copies were made by {', '.join(others)}, not by {provider}"))
    elif any(not copy.is_persistent for copy in ours):
        problems.append(("not_persistent", "the shadow copies are not persistent and vanish"))
    if problems:
        return Proof(state="failed", kind=problems[0][0], message=problems[0][1], **base)
    return Proof(
        state="succeeded",
        set_id=sets[0],
        shadows={copy.volume_guid: copy.id for copy in ours},
        copies=tuple(ours),
        **{**base, "leftovers": ()},
    )


def _transportable(told: Told, volumes: Sequence[SourceVolume], base: Mapping[str, Any]) -> Proof:
    """The log names each copy by our alias; what else stands on such a line (the set's id) is told by several of them."""
    named = {volume.guid: told.aliases.get(alias(index), frozenset()) for index, volume in enumerate(volumes)}
    shadows: dict[str, str] = {}
    volume_guids = {volume.guid for volume in volumes}
    for guid, found in named.items():
        own = found - volume_guids - {HYPERV_WRITER}
        if len(own) != 1:
            return Proof(
                state="failed",
                kind="no_shadow_copy",
                message="diskshadow ended well, but does not name a shadow copy for each volume, so that the transportable set is not "
                "known; look into its log",
                **base,
            )
        shadows[guid] = next(iter(own))
    set_ids = told.aliases.get("vss_shadow_set", frozenset())
    return Proof(
        state="succeeded",
        set_id=next(iter(set_ids)) if len(set_ids) == 1 else sorted(shadows.values())[0],
        shadows=shadows,
        **{**base, "leftovers": ()},
    )


def _with(message: str, said: str) -> str:
    return f"{message}; diskshadow printed: {said}" if said else message
