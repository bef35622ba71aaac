# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""wbadmin.exe: reads a command line, asks the engine, prints what happens. Ending it does not end the engine's job.

Syntax, lists and rules: backup-engines 1.3; texts: wbadmin_texts.py; exit codes: 1.7 (0 and -4 are known, the rest is
declared). Names of switches are compared without case; a blank after the colon is a syntax error, as documented.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from ..assumed import assumed
from ..backup_recovery import RecoveryRequest, find_version, plan_recovery, start_recovery
from ..backup_reports import CANCELLED, FAILED, SUCCEEDED
from ..backup_store import Version
from ..processes import Line, Pause, Process, Program, Until, Wait, decode_text, split_command_line
from ..windows_backup import (
    BACKUP,
    BackupRefused,
    Job,
    Policy,
    Request,
    WindowsBackup,
)
from .wbadmin_texts import YES, language, text

assumed(
    "wbadmin-exit-failed",
    "Exit code of wbadmin when an operation fails or is refused",
    source="backup-engines 1.7: only 0 and -4 were seen",
    values=("-3", "-1", "1"),
)
assumed(
    "wbadmin-exit-busy",
    "Exit code of wbadmin when another operation runs",
    source="backup-engines 1.7, 9.2",
    values=("-3", "-2"),
)
assumed(
    "wbadmin-exit-warnings",
    "Exit code of wbadmin when a backup completed with errors",
    source="backup-engines 1.7: may be 0",
    values=("0", "-5"),
)
assumed(
    "wbadmin-exit-cancelled",
    "Exit code of wbadmin when its job was cancelled",
    source="backup-engines 9.2",
    values=("-3", "-6"),
)
assumed("wbadmin-exit-syntax", "Exit code of wbadmin for a wrong command line", source="no source", values=("-1", "-3"))
assumed(
    "wbadmin-items-guid",
    "get items prints the GUID of each VM, or its name and caption only",
    source="backup-engines 1.6, 9.1",
    values=("yes", "no"),
)
assumed(
    "wbadmin-prompt-eof",
    "A prompt of wbadmin that meets the end of standard input counts as No",
    source="backup-engines 1.3 says only that it waits for input",
)

assumed(
    "wbadmin-delete-same-minute",
    "delete backup -version deletes every version of that minute, or the newest of them",
    source="backup-engines 1.5: such versions are indistinguishable",
    values=("all", "newest"),
)

DELETE_SECONDS = 10

_EXIT = {"success": "0", "full": "-4"}
_FLAGS = {
    "allcritical",
    "systemstate",
    "noverify",
    "noinheritacl",
    "vssfull",
    "vsscopy",
    "quiet",
    "recursive",
    "notrestoreacl",
    "skipbadclustercheck",
    "norollforward",
    "alternatelocation",
    "recreatepath",
    "allowdeleteoldbackups",
    "deleteoldest",
}
_START_BACKUP = {
    "backuptarget",
    "include",
    "exclude",
    "nonrecurseinclude",
    "nonrecurseexclude",
    "hyperv",
    "allcritical",
    "systemstate",
    "noverify",
    "user",
    "password",
    "noinheritacl",
    "vssfull",
    "vsscopy",
    "quiet",
    "allowdeleteoldbackups",
}
_START_RECOVERY = {
    "version",
    "itemtype",
    "items",
    "backuptarget",
    "machine",
    "recoverytarget",
    "recursive",
    "overwrite",
    "notrestoreacl",
    "skipbadclustercheck",
    "norollforward",
    "alternatelocation",
    "recreatepath",
    "quiet",
}
_ENABLE = (_START_BACKUP - {"backuptarget"}) | {"addtarget", "removetarget", "schedule"}
_COMMANDS: dict[str, set[str]] = {
    "start backup": _START_BACKUP,
    "stop job": {"quiet"},
    "get versions": {"backuptarget", "machine"},
    "get items": {"version", "backuptarget", "machine"},
    "get status": set(),
    "get disks": set(),
    "get virtualmachines": set(),
    "start recovery": _START_RECOVERY,
    "delete backup": {"keepversions", "version", "deleteoldest", "backuptarget", "machine", "quiet"},
    "enable backup": _ENABLE,
    "disable backup": {"quiet"},
    "delete catalog": {"quiet"},
    "restore catalog": {"backuptarget", "machine", "quiet"},
}
_CLIENT = {
    "enable backup",
    "disable backup",
    "start backup",
    "stop job",
    "get versions",
    "get items",
    "get status",
    "delete backup",
}
_CLIENT_REFUSES = {"hyperv", "systemstate", "exclude", "nonrecurseexclude", "nonrecurseinclude"}

_Asked = Generator[Wait, None, bool]


class _Syntax(Exception):
    """The token that is wrong."""


@dataclass
class _Run:
    """One run of wbadmin.exe."""

    machine: Any
    process: Process
    engine: WindowsBackup
    options: dict[str, str]

    @property
    def locale(self) -> str:
        return str(self.machine.os.locale)

    def say(self, key: str, **values: str) -> None:
        self.process.out(text(self.locale, key, **values))

    def has(self, name: str) -> bool:
        return name in self.options

    def value(self, name: str) -> str:
        return self.options.get(name, "")

    def items(self, name: str) -> tuple[str, ...]:
        return tuple(part.strip() for part in self.value(name).split(",") if part.strip())

    def exit_code(self, outcome: str) -> int:
        assumption = {
            "busy": "wbadmin-exit-busy",
            "warnings": "wbadmin-exit-warnings",
            "cancelled": "wbadmin-exit-cancelled",
            "syntax": "wbadmin-exit-syntax",
        }.get(outcome, "wbadmin-exit-failed")
        return int(_EXIT.get(outcome) or self.machine.world.assume(assumption))

    def confirm(self, key: str) -> _Asked:
        """-quiet, or a Y on standard input; without either the program waits."""
        if self.has("quiet"):
            return True
        while True:
            self.say(key)
            yield Line(self.process.stdin)
            line = self.process.stdin.read_line()
            if line is None:
                return False
            answer = decode_text(line, self.process.code_page).strip().lower()
            if answer in YES[language(self.locale)] | YES["en"]:
                return True
            if answer in {"n", "no", "nein"}:
                return False


def main(machine: Any, process: Process) -> Program:
    engine: WindowsBackup = machine.backup
    run = _Run(machine=machine, process=process, engine=engine, options={})
    run.say("head")
    try:
        if not engine.installed:
            raise BackupRefused("not_installed")
        command, run.options = _read(split_command_line(process.command_line)[1:], engine)
        engine.require_rights(process.token)
        return (yield from _ACTIONS[command](run))
    except _Syntax as problem:
        run.say("syntax", token=str(problem))
        process.out(_usage(engine))
        return run.exit_code("syntax")
    except BackupRefused as refused:
        run.say(refused.key, **refused.values)
        return run.exit_code(refused.outcome)


def _usage(engine: WindowsBackup) -> str:
    names = [name for name in _COMMANDS if not engine.is_client or name in _CLIENT]
    return "\n".join(f"{name.upper():24} -- see the documentation of wbadmin {name}" for name in names)


def _read(words: list[str], engine: WindowsBackup) -> tuple[str, dict[str, str]]:
    command = " ".join(word.lower() for word in words[:2])
    known = _COMMANDS.get(command)
    if known is None or (engine.is_client and command not in _CLIENT):
        raise _Syntax(words[0] if words and words[0] == "/?" else " ".join(words[:2]))
    options: dict[str, str] = {}
    for word in words[2:]:
        match = re.fullmatch(r"-([A-Za-z]+)(?::(.*))?", word, re.DOTALL)
        if match is None:
            raise _Syntax(word)
        name, value = match[1].lower(), match[2]
        if name not in known or (engine.is_client and name in _CLIENT_REFUSES):
            raise _Syntax(word)
        if (name in _FLAGS) == (value is not None) or (name not in _FLAGS and not value) or name in options:
            raise _Syntax(word)
        options[name] = value or ""
    return command, options


# -- backup ----------------------------------------------------------------------------------------


def _request(run: _Run, target: str) -> Request:
    if run.has("vssfull") and run.has("vsscopy"):
        raise _Syntax("-vssCopy")
    selective = any(run.has(name) for name in ("include", "exclude", "allcritical", "hyperv", "nonrecurseinclude"))
    if selective and not target:
        raise BackupRefused("no_target")
    return Request(
        target=target,
        include=run.items("include") + run.items("nonrecurseinclude"),
        exclude=run.items("exclude") + run.items("nonrecurseexclude"),
        hyperv=run.items("hyperv"),
        all_critical=run.has("allcritical"),
        system_state=run.has("systemstate"),
        vss_full=run.has("vssfull"),
        user=run.value("user"),
        password=run.value("password"),
    )


def _start_backup(run: _Run) -> Program:
    if not [name for name in run.options if name != "quiet"]:
        if run.engine.policy is None:
            raise BackupRefused("policy_none")
        request = run.engine.policy.request
    else:
        request = _request(run, run.value("backuptarget"))
    if request.target.startswith("\\\\") and not request.target.startswith("\\\\?\\"):
        run.say("note_network")
    run.say("retrieving")
    plan = run.engine.plan(request, run.process.token)
    if run.engine.busy:
        raise BackupRefused("busy", "busy")
    run.say("will_back_up", items=",".join(plan.items()), target=plan.target.label)
    if not (yield from run.confirm("ask_backup")):
        run.say("cancelled")
        return run.exit_code("cancelled")
    job = run.engine.start_backup(plan)
    yield from _follow(run, job)
    return _backup_ended(run, job)


def _follow(run: _Run, job: Job) -> Generator[Wait, None, None]:
    """Prints the lines of a job as they come, until it ends."""
    shown = 0
    while True:
        while shown < len(job.lines):
            key, values = job.lines[shown]
            shown += 1
            if key not in {"item_done", "item_failed", "recovered_totals"}:
                run.say(key, **values)
        if not job.running:
            return
        yield Until(partial(_has_more, job, shown))


def _has_more(job: Job, shown: int) -> bool:
    return len(job.lines) > shown or not job.running


def _backup_ended(run: _Run, job: Job) -> int:
    run.say("summary_backup")
    if job.state == SUCCEEDED:
        run.say("backup_ok")
    elif job.state == CANCELLED:
        run.say("stopped")
    elif job.state == FAILED:
        run.say("backup_failed", message=job.message)
    else:
        run.say("backup_warned")
    for key, values in job.lines:
        if key in {"item_done", "item_failed"}:
            run.say(key, **values, message=job.message)
    good = job.state not in {FAILED, CANCELLED}
    run.say("log_ok" if good else "log_failed", path=job.log_path if good else job.error_log_path)
    return run.exit_code(job.outcome)


def _get_status(run: _Run) -> Program:
    job = run.engine.job
    if job is None or not (job.running or run.engine.stuck):
        run.say("no_job")
        return run.exit_code("failed")
    yield from _follow(run, job)
    return _backup_ended(run, job) if job.kind == BACKUP else _recovery_ended(run, job, "")


def _stop_job(run: _Run) -> Program:
    if run.engine.job is None or not run.engine.job.running:
        raise BackupRefused("no_job")
    if not (yield from run.confirm("ask_stop")):
        return run.exit_code("cancelled")
    if not run.engine.stop_job():
        raise BackupRefused("no_job")
    run.say("stopped")
    return 0


def _enable(run: _Run) -> Program:
    if not [name for name in run.options if name != "quiet"]:
        policy = run.engine.policy
        if policy is None:
            run.say("policy_none")
        else:
            items = ",".join((*policy.request.include, *policy.request.hyperv)) or "-"
            run.say("policy", items=items, target=policy.request.target, schedule=",".join(policy.schedule))
        return 0
    old = run.engine.policy
    target = run.value("addtarget") or (old.request.target if old else "")
    schedule = run.items("schedule") or (old.schedule if old else ())
    if not run.process.token.is_administrator:
        raise BackupRefused("no_rights", "denied")
    if not schedule or any(not re.fullmatch(r"(?:[01]?\d|2[0-3]):[0-5]\d", entry) for entry in schedule):
        raise _Syntax("-schedule")
    request = _request(run, target)
    run.engine.plan(request, run.process.token)
    if not (yield from run.confirm("ask_enable")):
        return run.exit_code("cancelled")
    run.engine.set_policy(Policy(schedule=tuple(schedule), request=request))
    run.say("policy", items=",".join((*request.include, *request.hyperv)), target=target, schedule=",".join(schedule))
    return 0


def _disable(run: _Run) -> Program:
    yield from ()
    run.engine.set_policy(None)
    run.say("policy_off")
    return 0


# -- looking ------------------------------------------------------------------------------------------


def _versions(run: _Run) -> list[Version]:
    if not run.has("backuptarget"):
        return list(run.engine.catalog)
    target = run.engine.target(run.value("backuptarget"), run.process.token, write=False)
    return run.engine.versions_at(target, run.value("machine"))


def _local_moment(run: _Run, moment: datetime) -> str:
    local = run.machine.processes.local_time(moment)
    if language(run.locale) == "de":
        return str(local.strftime("%d.%m.%Y %H:%M"))
    hour = local.hour % 12 or 12
    return f"{local.month}/{local.day}/{local.year} {hour}:{local.minute:02d} {'AM' if local.hour < 12 else 'PM'}"


def _get_versions(run: _Run) -> Program:
    yield from ()
    versions = _versions(run)
    if not versions:
        raise BackupRefused("no_versions")
    for version in versions:
        run.process.out("\n".join(_version_lines(run, version)) + "\n")
    return 0


def _version_lines(run: _Run, version: Version) -> list[str]:
    def label(key: str, **values: str) -> str:
        return text(run.locale, key, **values)

    share = version.target_kind == "share"
    can = []
    if version.volumes:
        can.append(label("recover_volumes"))
    if version.volumes or version.files:
        can.append(label("recover_files"))
    if version.machines or version.volumes:
        can.append(label("recover_applications"))
    if version.bare_metal:
        can.append(label("recover_bmr"))
    if version.system_state or version.bare_metal:
        can.append(label("recover_state"))
    where = label("network_share" if share else "fixed_disk", label=version.target_label)
    lines = [
        label("backup_time") + _local_moment(run, datetime.fromisoformat(version.time)),
        label("backup_location" if share else "backup_target") + where,
        label("version") + version.version_id,
        label("can_recover") + ", ".join(can),
    ]
    return lines + ([label("snapshot") + version.snapshot_id] if version.snapshot_id else [])


def _get_items(run: _Run) -> Program:
    yield from ()
    if not run.has("version"):
        raise _Syntax("-version")
    _target, version = find_version(
        run.engine, run.value("version"), run.value("backuptarget"), run.value("machine"), run.process.token
    )
    for volume in version.volumes:
        name = f"'{volume['label']}'" if volume["label"] else "'<Unlabeled Volume>'"
        gigabytes = int(volume["size"]) / (1 << 30)
        run.process.out(
            f"Volume ID = {{{volume['guid']}}}\nVolume {name}, mounted at {volume['name']}\n"
            f"Volume size = {gigabytes:.2f} GB\nCan recover = Full volume\n"
        )
    for entry in version.files:
        run.process.out(f"Volume ID = {entry['path'][:2]}\nCan recover = Selected files\n{entry['path']}\n")
    if version.machines:
        run.process.out("Application = Hyper-V")
        for entry in version.machines:
            run.process.out(f"Component = {entry['name']}")
        run.process.out("")
        for entry in version.machines:
            _print_machine(run, entry["name"], entry["caption"], entry["id"])
    if version.system_state:
        run.process.out("Application = System State\nComponent = System State\n")
    return 0


def _print_machine(run: _Run, name: str, caption: str, identifier: str, *, always: bool = False) -> None:
    run.process.out(text(run.locale, "vm_name") + name)
    run.process.out(text(run.locale, "vm_caption") + caption)
    if always or run.machine.world.assume("wbadmin-items-guid") == "yes":
        run.process.out(text(run.locale, "vm_identifier") + identifier)
    run.process.out("")


def _get_disks(run: _Run) -> Program:
    yield from ()
    for disk in run.machine.disks:
        volumes = ",".join(f"{v.letter}:" for v in run.machine.volumes_of(disk) if v.letter)
        run.process.out(
            f"Disk name: {disk.model.strip()}\nDisk number: {disk.number}\nDisk identifier:"
            f" {{{(disk.identifier_on_disk or 'none:').partition(':')[2]}}}\nTotal space: {disk.size / (1 << 30):.2f} GB\n"
            f"Volumes: {volumes or 'None'}\n"
        )
    return 0


def _get_machines(run: _Run) -> Program:
    yield from ()
    found = run.engine.components()
    for component in found:
        _print_machine(run, component.name, component.caption, component.identifier, always=True)
    run.say("vm_trailer", count=str(sum(1 for component in found if component.vm is not None)))
    return 0


# -- recovery -------------------------------------------------------------------------------------------


def _start_recovery(run: _Run) -> Program:
    for name in ("version", "itemtype", "items"):
        if not run.has(name):
            raise _Syntax(f"-{name}")
    kind = run.value("itemtype").lower()
    if kind not in {"volume", "app", "file", "hyperv"}:
        raise _Syntax(f"-itemType:{run.value('itemtype')}")
    overwrite = run.value("overwrite").lower() or "createcopy"
    if overwrite not in {"overwrite", "createcopy", "skip"}:
        raise _Syntax(f"-overwrite:{run.value('overwrite')}")
    request = RecoveryRequest(
        version_id=run.value("version"),
        item_type=kind,
        items=run.items("items"),
        target=run.value("backuptarget"),
        computer=run.value("machine"),
        recovery_target=run.value("recoverytarget"),
        recursive=run.has("recursive"),
        overwrite=overwrite,
        alternate_location=run.has("alternatelocation"),
        recreate_path=run.has("recreatepath"),
    )
    run.say("retrieving")
    plan = plan_recovery(run.engine, request, run.process.token)
    if run.engine.busy:
        raise BackupRefused("busy", "busy")
    where = request.recovery_target or (run.value("items") if kind == "volume" else "original location")
    created = _local_moment(run, datetime.fromisoformat(plan.version.time))
    run.say("will_recover", items=plan.description(), time=created, target=where)
    if kind == "hyperv":
        run.say("warn_recover_vm")
    elif kind == "volume":
        run.say("warn_recover_volume", target=where)
    else:
        run.say("preparing_files")
    if not (yield from run.confirm("ask_continue")):
        run.say("cancelled")
        return run.exit_code("cancelled")
    job = start_recovery(run.engine, plan)
    yield from _follow(run, job)
    return _recovery_ended(run, job, where)


def _recovery_ended(run: _Run, job: Job, where: str) -> int:
    good = job.state == SUCCEEDED
    if good:
        run.say("recovered", item=",".join(job.items), target=where)
        run.say("recovery_ok")
    else:
        run.say("recovery_failed", message=job.message)
    run.say("summary_recovery")
    for key, values in job.lines:
        if key == "recovered_totals":
            run.say(key, **values)
    run.say("log_recovery", path=job.log_path)
    return run.exit_code(job.outcome)


# -- deleting ----------------------------------------------------------------------------------------------


def _doomed(run: _Run) -> list[Version]:
    """The versions on volumes that the selector names, oldest first; one on a share is never deleted this way."""
    selectors = [name for name in ("keepversions", "version", "deleteoldest") if run.has(name)]
    if len(selectors) != 1 or (run.has("keepversions") and not run.value("keepversions").isdigit()):
        raise _Syntax(f"-{selectors[1]}" if len(selectors) > 1 else "-keepVersions")
    if run.value("backuptarget").startswith("\\\\") and not run.value("backuptarget").startswith("\\\\?\\"):
        raise BackupRefused("bad_target", target=run.value("backuptarget"))
    versions = sorted((v for v in _versions(run) if v.target_kind == "volume"), key=lambda v: v.time)
    if run.has("version"):
        found = [version for version in versions if version.version_id == run.value("version")]
        if not found:
            raise BackupRefused("no_version", version=run.value("version"))
        return found if run.machine.world.assume("wbadmin-delete-same-minute") == "all" else found[-1:]
    if not versions:
        raise BackupRefused("no_versions")
    keep = int(run.value("keepversions")) if run.has("keepversions") else len(versions) - 1
    return versions[: max(0, len(versions) - keep)]


def _delete_backup(run: _Run) -> Program:
    """One after another; what was deleted before it breaks off stays deleted."""
    doomed = _doomed(run)
    if run.engine.busy:
        raise BackupRefused("busy", "busy")
    if not (yield from run.confirm("ask_delete")):
        return run.exit_code("cancelled")
    for version in doomed:
        yield Pause(run.machine.now(), DELETE_SECONDS, run.machine.world.looks_per_job)
        if run.engine.busy:
            raise BackupRefused("busy", "busy")
        run.engine.delete_version(version, run.process.token)
        run.say("deleted", version=version.version_id)
    return 0


def _delete_catalog(run: _Run) -> Program:
    yield from ()
    run.engine.catalog.clear()
    run.say("catalog_deleted")
    return 0


def _restore_catalog(run: _Run) -> Program:
    yield from ()
    if not run.has("backuptarget"):
        raise _Syntax("-backupTarget")
    known = {version.template_id for version in run.engine.catalog}
    run.engine.catalog += [version for version in _versions(run) if version.template_id not in known]
    run.say("catalog_restored")
    return 0


_ACTIONS: dict[str, Callable[[_Run], Program]] = {
    "start backup": _start_backup,
    "stop job": _stop_job,
    "get versions": _get_versions,
    "get items": _get_items,
    "get status": _get_status,
    "get disks": _get_disks,
    "get virtualmachines": _get_machines,
    "start recovery": _start_recovery,
    "delete backup": _delete_backup,
    "enable backup": _enable,
    "disable backup": _disable,
    "delete catalog": _delete_catalog,
    "restore catalog": _restore_catalog,
}
