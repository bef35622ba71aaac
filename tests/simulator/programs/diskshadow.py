# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""diskshadow.exe: the VSS requester of Windows Server, from standard input or a script (/s), on behalf of administrators.

Commands and literals: backup-engines 2 and the public command pages; layout and notes as public transcripts show them. The
work is done by volume_shadow_service.py and shadow_transport.py. What no source proves is declared below.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from ..assumed import assumed
from ..file_system import FileSystemError
from ..processes import (
    Buffer,
    Handles,
    Input,
    Line,
    Pause,
    Process,
    Program,
    ProgramNotFound,
    Wait,
    decode_text,
    split_command_line,
    wait_for,
)
from ..shadow_transport import (
    Metadata,
    break_set,
    import_set,
    keep_for_transport,
    mask_set,
    metadata_bytes,
    read_metadata,
    revert,
)
from ..volume_shadow_service import WRITER_STATES, SetOptions, ShadowCopy, VolumeShadowService, VssError
from ..windows_files import Files, join

assumed(
    "diskshadow-lf-script",
    "A script whose lines end with LF alone, or whose last line has no end, loses the last character of those lines",
    source="backup-engines 2 (common report; transcripts show 'end backu' and scripts padded with one letter)",
    values=("truncates", "reads"),
)
assumed(
    "diskshadow-script-error",
    "A script ends at its first command that fails, or goes on with the next one",
    source="backup-engines 2: documented for exec only",
    values=("quits", "goes-on"),
)
assumed(
    "diskshadow-exit-failed",
    "Exit code of diskshadow when a command of its script failed",
    source="backup-engines 2, 9.10: none documented",
    values=("1", "0", "-1"),
)
assumed(
    "diskshadow-error-text",
    "A failed VSS call prints the call, 'The last operation failed.', the HRESULT in hexadecimal and its name",
    source="one public sentence shows the first line; the rest is recalled",
)
assumed(
    "diskshadow-delete-nothing",
    "delete shadows that finds no shadow copy is an error, or succeeds",
    source="no source",
    values=("error", "success"),
)
assumed(
    "diskshadow-after-create",
    "After create nothing can be added or created until reset",
    source="the page of reset names compound operations that it separates",
)
assumed(
    "diskshadow-other-texts",
    "Texts of diskshadow that no transcript shows (lists of shadow copies by ID, deletions, refusals)",
    source="no source",
)
assumed(
    "diskshadow-german",
    "What diskshadow prints on a German Windows",
    source="no source; commands, GUIDs, names of states and errors stay as they are",
)
assumed(
    "diskshadow-parameters",
    "Parameters behind the script's name are the variables DISH_PARAM_1 and so on",
    source="no source",
)

PREPARE_SECONDS, COMMIT_SECONDS = 8, 2
HEAD = "Microsoft DiskShadow version 1.0\nCopyright (C) 2013 Microsoft Corporation"
NOT_COMPLETE = "Note: END BACKUP was not commanded, writers not notified BackupComplete.\nDiskShadow is exiting."

GERMAN = (
    ("On computer: ", "Auf Computer: "),
    (" set as environment variable.", " als Umgebungsvariable festgelegt."),
    (" for shadow ID ", " für Schatten-ID "),
    (" for shadow set ID ", " für Schattensatz-ID "),
    ("Querying all shadow copies with the shadow copy set ID", "Alle Schattenkopien mit der Schattenkopiesatz-ID werden abgefragt:"),
    ("Shadow copy ID =", "Schattenkopie-ID ="),
    ("Shadow copy set:", "Schattenkopiesatz:"),
    ("Original count of shadow copies =", "Ursprüngliche Anzahl der Schattenkopien ="),
    ("Original volume name:", "Ursprünglicher Volumename:"),
    ("Creation time:", "Erstellungszeit:"),
    ("Shadow copy device name:", "Schattenkopie-Gerätename:"),
    ("Originating machine:", "Ursprungscomputer:"),
    ("Service machine:", "Dienstcomputer:"),
    ("Not exposed", "Nicht verfügbar gemacht"),
    ("Provider ID:", "Anbieter-ID:"),
    ("Attributes:", "Attribute:"),
    ("Number of shadow copies listed:", "Anzahl der aufgelisteten Schattenkopien:"),
    ("The shadow copy was successfully exposed as", "Die Schattenkopie wurde erfolgreich verfügbar gemacht als"),
    ("Note: END BACKUP was not commanded, writers not notified BackupComplete.",
     "Hinweis: END BACKUP wurde nicht ausgeführt, die Writer wurden nicht über BackupComplete benachrichtigt."),
    ("DiskShadow is exiting.", "DiskShadow wird beendet."),
    ("The last operation failed.", "Fehler beim letzten Vorgang."),
    ("Returned HRESULT =", "Zurückgegebenes HRESULT ="),
    ("Error text:", "Fehlertext:"),
    ("Writer Failure code:", "Writer-Fehlercode:"),
    ("Writer ID:", "Writer-ID:"),
    ("Instance ID:", "Instanz-ID:"),
)  # fmt: skip
"""What a German Windows may print instead; the translations are a guess."""

Steps = Generator[Wait, None, None]


class _Failed(Exception):
    """A command that fails; the text is what it prints."""


class _Leave(Exception):
    """exit."""


def stamp(moment: datetime) -> str:
    """10/5/2020 4:30:40 PM"""
    half = "AM" if moment.hour < 12 else "PM"
    return f"{moment.month}/{moment.day}/{moment.year} {moment.hour % 12 or 12}:{moment:%M:%S} {half}"


def main(machine: Any, process: Process) -> Program:
    try:
        arguments = _Arguments.read(split_command_line(process.command_line)[1:])
    except ValueError as problem:
        process.out(f"{problem}\n\nDISKSHADOW [/s <script> [parameters]] [/l <log file>]")
        return 1
    session = Session(machine, process, arguments)
    try:
        return (yield from session.run())
    finally:
        session.close()


@dataclass(frozen=True, kw_only=True)
class _Arguments:
    script: str = ""
    parameters: tuple[str, ...] = ()
    log: str = ""

    @classmethod
    def read(cls, words: list[str]) -> _Arguments:
        script, log, parameters = "", "", []
        index = 0
        while index < len(words):
            word = words[index].lower()
            if word in {"/s", "-s", "/l", "-l"}:
                if index + 1 >= len(words):
                    raise ValueError(f"{words[index]} needs a file name.")
                script, log = (words[index + 1], log) if word[1] == "s" else (script, words[index + 1])
                index += 2
                continue
            if not script:
                raise ValueError(f"Unknown parameter {words[index]}.")
            parameters.append(words[index])
            index += 1
        return cls(script=script, parameters=tuple(parameters), log=log)


@dataclass
class _Chosen:
    """A volume of the set that is being put together."""

    volume: Any
    provider: Any
    alias: str


@dataclass
class _State:
    """What `reset` forgets."""

    options: SetOptions = field(default_factory=SetOptions)
    volumes: list[_Chosen] = field(default_factory=list)
    verified: list[str] = field(default_factory=list)
    excluded: set[str] = field(default_factory=set)
    metadata: str = ""
    begun: bool = False
    set_id: str = ""
    complete: bool = False
    loaded: Metadata | None = None
    restoring: bool = False


class Session:
    """One run of diskshadow.exe."""

    def __init__(self, machine: Any, process: Process, arguments: _Arguments) -> None:
        self.machine = machine
        self.process = process
        self.arguments = arguments
        self.vss: VolumeShadowService = machine.vss
        self.state = _State()
        self.verbose = False
        self.aliases: dict[str, str] = {}
        self.failed = False

    @property
    def files(self) -> Files:
        return Files(self.machine, self.process.token, self.process.directory)

    def say(self, text: str) -> None:
        if str(self.machine.os.locale).lower().startswith("de") and not text.startswith("-> "):
            for english, german in GERMAN:
                text = text.replace(english, german)
        self.process.out(text)
        if self.arguments.log:
            try:
                self.files.append(self.arguments.log, (text + "\n").replace("\n", "\r\n").encode())
            except FileSystemError:
                return

    # -- the interpreter -------------------------------------------------------------------------------

    def run(self) -> Program:
        now = self.machine.processes.local_now()
        self.say(f"{HEAD}\nOn computer:  {self.machine.netbios_name},  {stamp(now)}\n")
        if not self.process.token.is_administrator:
            self.say("You must be an administrator to run DiskShadow.")
            return 1
        for number, parameter in enumerate(self.arguments.parameters, 1):
            self.process.environment.set(f"DISH_PARAM_{number}", parameter)
        try:
            if self.arguments.script:
                yield from self._script()
            else:
                yield from self._interactive()
        except _Leave:
            pass
        if self._owed:
            self.say(NOT_COMPLETE)
        return int(self.machine.world.assume("diskshadow-exit-failed")) if self.failed else 0

    @property
    def _owed(self) -> bool:
        return self.state.begun and bool(self.state.set_id) and not self.state.complete

    def close(self) -> None:
        """The process ends, or is killed: whatever it was creating is given up, volatile copies go with it."""
        pending = self.vss.pending
        if pending is not None and pending.requester is self.process:
            self.vss.abort(pending)
        if self.state.set_id:
            self.vss.session_ended(self.state.set_id, complete=self.state.complete)
            self.state.set_id = ""

    def _script(self) -> Steps:
        try:
            data = self.files.read(self.arguments.script)
        except FileSystemError as problem:
            self.say(f"The script file {self.arguments.script} could not be opened.\n{problem}")
            self.failed = True
            return
        strict = self.machine.world.assume("diskshadow-lf-script") == "truncates"
        for line in script_lines(data, truncates=strict):
            if not line.strip():
                continue
            if line.lstrip().startswith("#"):
                continue
            self.say(f"-> {line}")
            good = yield from self._command(line)
            if not good and self.machine.world.assume("diskshadow-script-error") == "quits":
                return
        self.say("->")

    def _interactive(self) -> Steps:
        while True:
            self.process.stdout.write(b"\r\nDISKSHADOW> ")
            yield Line(self.process.stdin)
            line = self.process.stdin.read_line()
            if line is None:
                return
            text = decode_text(line, self.process.code_page)
            if text.strip():
                yield from self._command(text)

    def _command(self, line: str) -> Generator[Wait, None, bool]:
        """One command; false, after its message, when it fails."""
        try:
            words = split_command_line(self._substitute(line))
            name = " ".join(word.lower() for word in words[:2])
            action = _COMMANDS.get(name)
            rest = words[2:]
            if action is None:
                name = words[0].lower() if words else ""
                action, rest = _COMMANDS.get(name), words[1:]
            if action is None:
                raise _Failed(_help())
            yield from action(self, rest)
            return True
        except _Failed as problem:
            self.say(str(problem))
        except VssError as problem:
            text = f"\n{problem}" if str(problem) else ""
            self.say(
                f'COM call "lvssObject4->{problem.call}" failed.\nThe last operation failed.\n'
                f"\t- Returned HRESULT = {problem.hresult:x}\n\t- Error text: {problem.name}{text}"
            )
        except FileSystemError as problem:
            self.say(str(problem))
        self.failed = True
        return False

    def _substitute(self, line: str) -> str:
        """Aliases and variables; each alias that is used is shown with its value."""

        def value(match: re.Match[str]) -> str:
            found = self.process.environment.get(match[1])
            if found is None:
                return match[0]
            self.say(f"-> %{match[1]}% = {found}")
            return found

        return re.sub(r"%([^%\s]+)%", value, line)

    # -- settings ------------------------------------------------------------------------------------------

    def set_context(self, words: list[str]) -> Steps:
        yield from ()
        given = [word.lower() for word in words]
        if not given or given[0] not in {"persistent", "volatile", "clientaccessible"} or len(given) > 2:
            raise _Failed(_help("set context {clientaccessible | persistent [nowriters] | volatile [nowriters]}"))
        if given[1:] not in ([], ["nowriters"]) or (given[0] == "clientaccessible" and given[1:]):
            raise _Failed(_help("set context {clientaccessible | persistent [nowriters] | volatile [nowriters]}"))
        self._before_create()
        self.state.options = replace(
            self.state.options,
            persistent=given[0] == "persistent",
            client_accessible=given[0] == "clientaccessible",
            no_writers=given[1:] == ["nowriters"],
        )

    def set_option(self, words: list[str]) -> Steps:
        yield from ()
        usage = "set option {[differential | plex] [transportable] [[rollbackrecover] [txfrecover] | [noautorecover]]}"
        given = {word.lower() for word in words}
        known = {"differential", "plex", "transportable", "rollbackrecover", "txfrecover", "noautorecover"}
        if not given or given - known or {"differential", "plex"} <= given:
            raise _Failed(_help(usage))
        if "noautorecover" in given and given & {"rollbackrecover", "txfrecover"}:
            raise _Failed(_help(usage))
        self._before_create()
        self.state.options = replace(
            self.state.options,
            transportable="transportable" in given,
            plex="plex" in given,
            rollback_recover="rollbackrecover" in given,
            txf_recover="txfrecover" in given,
            no_auto_recover="noautorecover" in given,
        )

    def set_metadata(self, words: list[str]) -> Steps:
        yield from ()
        if len(words) != 1:
            raise _Failed(_help("set metadata [<drive>:][<path>]<metadata.cab>"))
        path = self.files.absolute(words[0])
        if not self.files.is_folder(path.rpartition("\\")[0] + "\\"):
            raise _Failed(f"The path of {path} does not exist.")
        if self.files.exists(path):
            self.say("The existing file will be overwritten.")
        self.state.metadata = path

    def set_verbose(self, words: list[str]) -> Steps:
        yield from ()
        if [word.lower() for word in words] not in (["on"], ["off"]):
            raise _Failed(_help("set verbose {on | off}"))
        self.verbose = words[0].lower() == "on"

    def reset(self, words: list[str]) -> Steps:
        yield from ()
        if self._owed:
            self.say(NOT_COMPLETE.partition("\n")[0])
        self.close()
        self.state = _State()

    def _before_create(self) -> None:
        if self.state.set_id:
            raise VssError("SetContext", 0x80042301, "A shadow copy set was created; use RESET first.")

    # -- the set ---------------------------------------------------------------------------------------------

    def begin_backup(self, words: list[str]) -> Steps:
        yield from ()
        self._before_create()
        if self.state.options.no_writers or self.state.options.client_accessible:
            raise _Failed("A backup session needs a context with writers.")
        self.state.begun = True
        self.state.options = replace(self.state.options, full=True)

    def end_backup(self, words: list[str]) -> Steps:
        yield Pause(self.machine.now(), COMMIT_SECONDS, self.machine.world.looks_per_job)
        if not self.state.begun or not self.state.set_id:
            raise _Failed("END BACKUP needs a BEGIN BACKUP and a CREATE before it.")
        self.vss.backup_complete(self.state.set_id)
        self.state.complete = True

    def add_volume(self, words: list[str]) -> Steps:
        yield from ()
        usage = "add volume <volume> [alias <alias>] [provider <providerid>]"
        if len(words) % 2 != 1:
            raise _Failed(_help(usage))
        options = {words[at].lower(): words[at + 1] for at in range(1, len(words), 2)}
        if set(options) - {"alias", "provider"}:
            raise _Failed(_help(usage))
        self._before_create()
        volume = self._volume(words[0])
        if any(chosen.volume.guid == volume.guid for chosen in self.state.volumes):
            raise VssError("AddToSnapshotSet", 0x8004230D, f"{words[0]} is in the shadow copy set already.")
        provider = self.vss.provider_for(volume, options.get("provider", ""), self.state.options)
        self.state.volumes.append(_Chosen(volume, provider, options.get("alias", "")))

    def _volume(self, text: str) -> Any:
        wanted = text.rstrip("\\").lower()
        for volume in self.machine.volumes():
            if any(path.rstrip("\\").lower() == wanted for path in volume.access_paths):
                return volume
        raise _Failed(f"The volume {text} was not found.")

    def add_alias(self, words: list[str]) -> Steps:
        yield from ()
        if len(words) != 2:
            raise _Failed(_help("add alias <aliasname> <aliasvalue>"))
        self._alias(words[0], words[1])

    def add(self, words: list[str]) -> Steps:
        yield from ()
        if words:
            raise _Failed(_help("add {volume | alias}"))
        for name, value in self.aliases.items():
            self.say(f"%{name}% = {value}")

    def _alias(self, name: str, value: str) -> None:
        self.aliases[name] = value
        self.process.environment.set(name, value)

    def writer_verify(self, words: list[str]) -> Steps:
        yield from ()
        if len(words) != 1:
            raise _Failed(_help("writer verify [writer | component]"))
        self.state.verified.append(words[0])

    def writer_exclude(self, words: list[str]) -> Steps:
        yield from ()
        if len(words) != 1:
            raise _Failed(_help("writer exclude [writer | component]"))
        self.state.excluded.add(words[0].strip('"').rpartition("\\")[2].lower())

    def create(self, words: list[str]) -> Steps:
        if not self.state.volumes:
            raise _Failed("There is no volume in the shadow copy set; use ADD VOLUME.")
        self._before_create()
        cabinet = self._cabinet()
        pending = self.vss.start_set(
            [(chosen.volume, chosen.provider) for chosen in self.state.volumes],
            self.state.options,
            excluded=self.state.excluded,
            verified=self.state.verified,
            requester=self.process,
        )
        if self.verbose:
            self._show_writers(pending)
        yield Pause(self.machine.now(), PREPARE_SECONDS, self.machine.world.looks_per_job)
        copies = self.vss.commit(pending)
        self.state.set_id = pending.id
        if self.state.options.transportable:
            keep_for_transport(self.vss, copies)
        for number, (copy, chosen) in enumerate(zip(copies, self.state.volumes, strict=True), 1):
            name = chosen.alias or f"VSS_SHADOW_{number}"
            self._alias(name, f"{{{copy.id}}}")
            self.say(f"Alias {name} for shadow ID {{{copy.id}}} set as environment variable.")
        self._alias("VSS_SHADOW_SET", f"{{{pending.id}}}")
        self.say(f"Alias VSS_SHADOW_SET for shadow set ID {{{pending.id}}} set as environment variable.")
        if cabinet:
            self.files.write(cabinet, metadata_bytes(self.vss, copies))
            if self.verbose:
                short = cabinet.rpartition("\\")[2]
                for member in ("Manifest.xml", "BCDocument.xml", *(f"WM{n}.xml" for n in range(len(pending.writers)))):
                    self.say(f"Inserted file {member} into .cab file {short}")
        self._list(copies, f"with the shadow copy set ID {{{pending.id}}}")
        yield Pause(self.machine.now(), COMMIT_SECONDS, self.machine.world.looks_per_job)

    def _cabinet(self) -> str:
        """Where the metadata go; a place that cannot be written is refused before anything is created."""
        name = self.machine.processes.local_now().strftime("%Y-%m-%d_%H-%M-%S_") + f"{self.machine.netbios_name}.cab"
        path = self.state.metadata or join(self.process.directory, name)
        try:
            self.files.write(path, b"")
        except FileSystemError as problem:
            raise _Failed(
                "The .cab metadata file cannot be stored in the current working directory, because it is read-only."
                if not self.state.metadata
                else f"The .cab metadata file {path} cannot be written: {problem}"
            ) from problem
        return path

    def _show_writers(self, pending: Any) -> None:
        for component, missing in pending.excluded:
            self.say(
                f'Component "\\{component.identifier}" from writer "Microsoft Hyper-V VSS Writer" is excluded from backup,\n'
                f"because it requires volume {missing} which is not in the shadow copy set."
            )
        for writer in self.vss.writers():
            if writer not in pending.writers:
                self.say(f'Excluding writer "{writer.name}", because all of its components have been excluded.')
        for writer in pending.writers:
            self.say(f'\n* Including writer "{writer.name}":')
            if writer.component:
                self.say(f"\t+ Adding component: {writer.component}")
            else:
                for component in pending.chosen:
                    self.say(f"\t+ Adding component: \\{component.identifier}")
        self.say("")

    # -- shadow copies -----------------------------------------------------------------------------------------

    def _copy(self, text: str) -> ShadowCopy:
        found = self.vss.find(text)
        if found is None:
            raise VssError("GetSnapshotProperties", 0x80042308, f"There is no shadow copy {text}.")
        return found

    def expose(self, words: list[str]) -> Steps:
        yield from ()
        if len(words) != 2:
            raise _Failed(_help("expose <shadowID> {<drive>: | <share> | <mountpoint>}"))
        exposure = self.vss.expose(self._copy(words[0]), words[1])
        self.say(f"The shadow copy was successfully exposed as {exposure.name}.")

    def unexpose(self, words: list[str]) -> Steps:
        yield from ()
        if len(words) != 1:
            raise _Failed(_help("unexpose {<shadowID> | <drive>: | <share> | <mountpoint>}"))
        found = self.vss.find(words[0]) or self.vss.exposed_at(words[0])
        if found is None or found.exposed is None:
            raise VssError("UnexposeSnapshot", 0x80042308, f"{words[0]} is no exposed shadow copy.")
        self.vss.unexpose(found)
        self.say("The shadow copy was successfully unexposed.")

    def exec(self, words: list[str]) -> Steps:
        if len(words) != 1:
            raise _Failed(_help("exec <scriptfile.cmd>"))
        output = Buffer()
        try:
            child = self.machine.processes.start(
                f'"{words[0]}"',
                token=self.process.token,
                parent=self.process,
                handles=Handles(stdin=Input(closed=True), stdout=output, stderr=output),
                directory=self.process.directory,
                environment=self.process.environment,
            )
        except ProgramNotFound as problem:
            raise _Failed(f"The file {words[0]} could not be executed.") from problem
        yield wait_for(child)
        self.process.stdout.write(output.take())
        if child.exit_code:
            self.say(f"The script {words[0]} failed with error {child.exit_code}.")
            self.failed = True
            raise _Leave

    def delete_shadows(self, words: list[str]) -> Steps:
        yield from ()
        kind = words[0].lower() if words else ""
        one = words[1] if len(words) == 2 else ""
        if kind == "all" and not one:
            doomed = self.vss.present()
        elif kind in {"volume", "oldest"} and one:
            doomed = self.vss.of_volume(self._volume(one).guid)[: 1 if kind == "oldest" else None]
        elif kind == "set" and one:
            doomed = self.vss.of_set(one)
        elif kind == "id" and one:
            doomed = [copy for copy in [self.vss.find(one)] if copy is not None]
        elif kind == "exposed" and one:
            doomed = [copy for copy in [self.vss.exposed_at(one)] if copy is not None]
        else:
            raise _Failed(
                _help(
                    "delete shadows {all | volume <volume> | oldest <volume> | set <setID> | id <ID> | exposed <drive>}"
                )
            )
        if not doomed and self.machine.world.assume("diskshadow-delete-nothing") == "error":
            raise _Failed("No shadow copies were found that match the request.")
        for copy in list(doomed):
            place = (copy.origin_names or [copy.origin_path])[0]
            self.say(f"Deleting shadow copy {{{copy.id}}} on volume {place} from provider {copy.provider.id}...")
            self.vss.delete(copy)
        self.say(f"\nNumber of shadow copies deleted: {len(doomed)}")

    def list_shadows(self, words: list[str]) -> Steps:
        yield from ()
        kind = words[0].lower() if words else ""
        if kind == "all" and len(words) == 1:
            self._list(self.vss.present(), "on the computer ...")
        elif kind == "set" and len(words) == 2:
            self._list(self.vss.of_set(words[1]), f"with the shadow copy set ID {words[1]}")
        elif kind == "id" and len(words) == 2:
            self._list([self._copy(words[1])], f"with the shadow copy ID {words[1]}")
        else:
            raise _Failed(_help("list shadows {all | set <setID> | id <shadowID>}"))

    def _list(self, copies: list[ShadowCopy], what: str) -> None:
        self.say(f"\nQuerying all shadow copies {what}\n")
        for copy in copies:
            self.say(self._block(copy))
        self.say(f"Number of shadow copies listed: {len(copies)}")

    def _block(self, copy: ShadowCopy) -> str:
        def alias(value: str) -> str:
            name = next((n for n, v in self.aliases.items() if v == f"{{{value}}}"), "")
            return f"%{name}%" if name else ""

        names = f" [{copy.origin_names[0]}]" if copy.origin_names else ""
        exposed = f"Exposed as: {copy.exposed.name}" if copy.exposed is not None else "Not exposed"
        local = self.machine.processes.local_time(copy.created)
        return (
            f"\t* Shadow copy ID = {{{copy.id}}}\t\t{alias(copy.id)}\n"
            f"\t\t- Shadow copy set: {{{copy.set_id}}}\t{alias(copy.set_id)}\n"
            f"\t\t- Original count of shadow copies = {copy.count}\n"
            f"\t\t- Original volume name: {copy.origin_path}{names}\n"
            f"\t\t- Creation time: {stamp(local)}\n"
            f"\t\t- Shadow copy device name: {copy.device}\n"
            f"\t\t- Originating machine: {copy.originating}\n"
            f"\t\t- Service machine: {copy.service}\n"
            f"\t\t- {exposed}\n"
            f"\t\t- Provider ID: {copy.provider.id}\n"
            f"\t\t- Attributes:  {' '.join(copy.attributes)}\n"
        )

    def list_providers(self, words: list[str]) -> Steps:
        yield from ()
        providers = self.vss.providers()
        kinds = {
            "system": "[1] VSS_PROV_SYSTEM",
            "software": "[2] VSS_PROV_SOFTWARE",
            "hardware": "[3] VSS_PROV_HARDWARE",
        }
        for provider in providers:
            self.say(
                f"* ProviderID: {provider.id}\n\tType: {kinds[provider.kind]}\n\tName: {provider.name}\n"
                f"\tVersion: {provider.version}\n\tCLSID: {provider.class_id}"
            )
        self.say(f"{len(providers)} provider{'s' if len(providers) > 1 else ''} registered.")

    def list_writers(self, words: list[str]) -> Steps:
        yield from ()
        detail = words[0].lower() if words else "detailed"
        if detail not in {"metadata", "detailed", "status"}:
            raise _Failed(_help("list writers [metadata | detailed | status]"))
        self.say("Listing writer status ..." if detail == "status" else "Listing writer metadata ...")
        for writer in self.vss.writers():
            status = self.vss.writer_status(writer)
            code = "S_OK" if not status.failure else VssError("", status.failure).name
            self.say(
                f'* WRITER "{writer.name}"\n\t- Status: {status.state} ({WRITER_STATES.get(status.state, "VSS_WS_UNKNOWN")})\n'
                f"\t- Writer Failure code: 0x{status.failure:08x} ({code})\n\t- Writer ID: {{{writer.id}}}\n"
                f"\t- Instance ID: {{{self.machine.uuid.lower()[:24]}{writer.id[24:]}}}"
            )
            if detail != "status":
                for name in self._components(writer.id):
                    self.say(f"\t+ Component: {name}")
        self.say(f"\nNumber of writers listed: {len(self.vss.writers())}")

    def _components(self, writer_id: str) -> list[str]:
        from ..vss_writer import WRITER_ID, components

        if writer_id != WRITER_ID:
            return []
        return [f"\\{component.identifier} ({component.caption})" for component in components(self.machine)]

    # -- transport and restore -----------------------------------------------------------------------------------

    def load_metadata(self, words: list[str]) -> Steps:
        yield from ()
        if len(words) != 1:
            raise _Failed(_help("load metadata [<drive>:][<path>]<metadata.cab>"))
        try:
            self.state.loaded = read_metadata(self.files.read(words[0]))
        except ValueError as problem:
            raise _Failed(str(problem)) from problem
        self._alias("VSS_SHADOW_SET", f"{{{self.state.loaded.set_id}}}")
        self.say(f"Alias VSS_SHADOW_SET for shadow set ID {{{self.state.loaded.set_id}}} set as environment variable.")

    def _loaded(self, command: str) -> Metadata:
        if self.state.loaded is None:
            raise _Failed(f"{command} needs LOAD METADATA before it.")
        return self.state.loaded

    def import_(self, words: list[str]) -> Steps:
        metadata = self._loaded("IMPORT")
        yield Pause(self.machine.now(), PREPARE_SECONDS, self.machine.world.looks_per_job)
        copies = import_set(self.vss, metadata)
        self._list(copies, f"with the shadow copy set ID {{{metadata.set_id}}}")

    def break_(self, words: list[str]) -> Steps:
        yield from ()
        given = [word.lower() for word in words]
        writable = given[:1] == ["writable"]
        if len(words) != 1 + writable:
            raise _Failed(_help("break [writable] <setID>"))
        count = break_set(self.vss, words[-1], writable=writable)
        self.say(f"{count} shadow copies are no longer managed by VSS.")

    def mask(self, words: list[str]) -> Steps:
        yield from ()
        if len(words) != 1:
            raise _Failed(_help("mask <setID>"))
        self.say(f"{mask_set(self.vss, words[0])} shadow copies were masked.")

    def revert(self, words: list[str]) -> Steps:
        if len(words) != 1:
            raise _Failed(_help("revert <shadowID>"))
        copy = self._copy(words[0])
        yield Pause(self.machine.now(), PREPARE_SECONDS, self.machine.world.looks_per_job)
        revert(self.vss, copy, force=True)
        self.say("The volume was successfully reverted.")

    def _restored_machines(self, metadata: Metadata) -> dict[str, dict[str, Any]]:
        return {
            identifier: facts
            for identifier, facts in metadata.machines.items()
            if not {identifier.lower(), str(facts["name"]).lower()} & self.state.excluded
        }

    def simulate_restore(self, words: list[str]) -> Steps:
        yield from ()
        for identifier, facts in self._restored_machines(self._loaded("SIMULATE RESTORE")).items():
            self.say(f"\t+ Component: \\{identifier} ({facts['name']})")

    def begin_restore(self, words: list[str]) -> Steps:
        """PreRestore: the Hyper-V writer turns the VMs off and deletes them (backup-engines 1.12)."""
        metadata = self._loaded("BEGIN RESTORE")
        yield Pause(self.machine.now(), COMMIT_SECONDS, self.machine.world.looks_per_job)
        for identifier in self._restored_machines(metadata):
            vm = self.machine.vm_by_id(identifier)
            if vm is not None:
                self.machine.unregister(vm)
        self.state.restoring = True

    def end_restore(self, words: list[str]) -> Steps:
        """PostRestore: VMs whose configuration is in its place again are registered."""
        if not self.state.restoring:
            raise _Failed("END RESTORE needs a BEGIN RESTORE before it.")
        yield Pause(self.machine.now(), COMMIT_SECONDS, self.machine.world.looks_per_job)
        self.state.restoring = False
        for identifier, facts in self._restored_machines(self._loaded("END RESTORE")).items():
            if self.files.exists(str(facts["configuration_path"])) and self.machine.vm_by_id(identifier) is None:
                self.machine.register(facts["document"])

    def leave(self, words: list[str]) -> Steps:
        yield from ()
        raise _Leave


def script_lines(data: bytes, *, truncates: bool) -> list[str]:
    """Lines of a script; with ``truncates`` a line that does not end with CR LF loses its last character."""
    lines = []
    for raw in re.findall(rb"[^\n]*\n|[^\n]+$", data):
        text = raw.decode("cp1252", "replace")
        if text.endswith("\r\n"):
            lines.append(text[:-2])
        else:
            text = text.rstrip("\n")
            lines.append(text[:-1] if truncates else text)
    return lines


def _help(usage: str = "") -> str:
    return usage or "\n".join(sorted(name.upper() for name in _COMMANDS))


_COMMANDS: dict[str, Callable[[Session, list[str]], Steps]] = {
    "add": Session.add,
    "add alias": Session.add_alias,
    "add volume": Session.add_volume,
    "begin backup": Session.begin_backup,
    "begin restore": Session.begin_restore,
    "break": Session.break_,
    "create": Session.create,
    "delete shadows": Session.delete_shadows,
    "end backup": Session.end_backup,
    "end restore": Session.end_restore,
    "exec": Session.exec,
    "exit": Session.leave,
    "expose": Session.expose,
    "import": Session.import_,
    "list providers": Session.list_providers,
    "list shadows": Session.list_shadows,
    "list writers": Session.list_writers,
    "load metadata": Session.load_metadata,
    "mask": Session.mask,
    "quit": Session.leave,
    "reset": Session.reset,
    "revert": Session.revert,
    "set context": Session.set_context,
    "set metadata": Session.set_metadata,
    "set option": Session.set_option,
    "set verbose": Session.set_verbose,
    "simulate restore": Session.simulate_restore,
    "unexpose": Session.unexpose,
    "writer exclude": Session.writer_exclude,
    "writer verify": Session.writer_verify,
}
