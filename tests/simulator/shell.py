# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The remote shell (winrs) protocol: Create, Command, Send, Receive, Signal, Delete on a machine's command shell.

Facts: wsman 9, the recorded shell answers. What a command does is processes.py and command_interpreter.py; this file
keeps shells and their commands, moves bytes, and enforces the quotas of wsman 7. There is no PSRP runspace here.
"""

from __future__ import annotations

import base64
import binascii
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from xml.sax.saxutils import escape

from . import wire
from .assumed import assumed
from .cim import CimFault
from .endpoint import Endpoint
from .service import Caller
from .wire import RSP, Request, X

assumed(
    "shell-looks",
    "A Receive gives waiting programs one look; with nothing to deliver simulated time moves by the operation timeout "
    "and the answer is 2150858793.",
    source="wsman 9; that the time is simulated is the simulator's own",
)
assumed(
    "exit-code-unsigned",
    "A negative exit code is reported as its unsigned 32-bit number.",
    source="no recording of a negative exit code",
)
assumed(
    "shell-envelope",
    "A Receive delivers at most 150 kB of a stream per answer.",
    source="from the MaxEnvelopeSize limit; the chunk size is not recorded",
)

SHELL_URI = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell/cmd"
STATE = f"{RSP}/CommandState/"
SIGNALS = f"{RSP}/signal/"
CHUNK = 150_000 * 3 // 4
SHELL_NOT_FOUND = 2150858843
KNOWN_OPTIONS = {"winrs_noprofile", "winrs_codepage"}
COMMAND_OPTIONS = {"winrs_consolemode_stdin", "winrs_skip_cmd_shell"}


@dataclass(eq=False, kw_only=True)
class _Command:
    process: Any
    done_sent: bool = False


@dataclass(eq=False, kw_only=True)
class _Shell:
    owner: str
    code_page: int
    directory: str
    environment: dict[str, str]
    expires: datetime
    idle: float
    commands: dict[str, _Command] = field(default_factory=dict)


class Shells:
    """The shells of one machine."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._shells: dict[str, _Shell] = {}

    def handle(self, request: Request, who: Caller) -> tuple[str, str, str]:
        """(reply action, body, prefixes) for any request on a shell resource URI."""
        if not (who.is_administrator or who.member_of("Remote Management Users")):
            raise CimFault.wsman(5, "w:AccessDenied")
        if request.resource_uri.lower() != SHELL_URI:
            raise CimFault.wsman(2150858811, "w:InvalidResourceURI")
        self._expire()
        if request.action == f"{X}/Create":
            return self._create(request, who)
        shell_id, shell = self._find(request, who)
        shell.expires = self._endpoint.now() + timedelta(seconds=shell.idle)
        actions = {
            f"{X}/Delete": self._delete,
            f"{X}/Get": self._get,
            f"{RSP}/Command": self._command,
            f"{RSP}/Send": self._send,
            f"{RSP}/Receive": self._receive,
            f"{RSP}/Signal": self._signal,
        }
        if request.action not in actions:
            raise CimFault.wsman(2150858771, "a:ActionNotSupported")
        return actions[request.action](request, shell_id, shell, who)

    def forget(self) -> None:
        """The machine restarted: no shell survives."""
        self._shells.clear()

    def listing(self) -> list[str]:
        """Every open shell as an rsp:Shell element."""
        self._expire()
        return [
            f'<rsp:Shell xmlns:rsp="{RSP}">{self._shell_members(key, shell)}</rsp:Shell>'
            for key, shell in self._shells.items()
        ]

    def __len__(self) -> int:
        return len(self._shells)

    def _processes(self) -> Any:
        return self._endpoint.machine.processes

    def _expire(self) -> None:
        now = self._endpoint.now()
        for shell_id in [key for key, shell in self._shells.items() if shell.expires <= now]:
            self._processes().kill_job(shell_id)
            del self._shells[shell_id]

    def _find(self, request: Request, who: Caller) -> tuple[str, _Shell]:
        named = [value for name, value in request.selectors if name.lower() == "shellid"]
        wanted = str(named[0]).upper() if named else ""
        shell = self._shells.get(wanted)
        if shell is None or shell.owner != who.account.lower():
            raise CimFault.wsman(
                SHELL_NOT_FOUND, "w:InvalidSelectors", detail=wire.FAULT_DETAIL + "UnexpectedSelectors"
            )
        return wanted, shell

    # -- shells -------------------------------------------------------------------------------------------------------

    def _create(self, request: Request, who: Caller) -> tuple[str, str, str]:
        settings = self._endpoint.settings
        mine = [shell for shell in self._shells.values() if shell.owner == who.account.lower()]
        if len(mine) >= settings.max_shells_per_user:
            raise CimFault.wsman(2150859173, "w:QuotaLimit")
        for name in request.options:
            if name.lower() not in KNOWN_OPTIONS:
                raise CimFault.wsman(2150858834, "w:InvalidOptions")
        body = request.body
        if body is None or body.tag != f"{{{RSP}}}Shell":
            raise wire.schema_error("the body needs the element Shell")
        shell = _Shell(
            owner=who.account.lower(),
            code_page=_number({k.lower(): v for k, v in request.options.items()}.get("winrs_codepage", "437")),
            directory="",
            environment={},
            idle=settings.idle_timeout,
            expires=self._endpoint.now(),
        )
        wanted_id = body.get("ShellId", "")
        for element in body:
            _read_shell(shell, element)
        shell.idle = min(max(shell.idle, 60.0), settings.idle_timeout)
        shell.expires += timedelta(seconds=shell.idle)
        shell_id = (wanted_id or self._endpoint.new_id()).upper()
        self._shells[shell_id] = shell
        reference = (
            f"<a:Address>{escape(request.to)}</a:Address><a:ReferenceParameters>"
            f"<w:ResourceURI>{SHELL_URI}</w:ResourceURI>"
            f'<w:SelectorSet><w:Selector Name="ShellId">{shell_id}</w:Selector></w:SelectorSet></a:ReferenceParameters>'
        )
        content = (
            f"<x:ResourceCreated>{reference}</x:ResourceCreated>"
            f'<rsp:Shell xmlns:rsp="{RSP}">{self._shell_members(shell_id, shell)}</rsp:Shell>'
        )
        return f"{X}/CreateResponse", content, "x w rsp p"

    def _shell_members(self, shell_id: str, shell: _Shell) -> str:
        return (
            f"<rsp:ShellId>{shell_id}</rsp:ShellId><rsp:ResourceUri>{SHELL_URI}</rsp:ResourceUri>"
            f"<rsp:Owner>{escape(shell.owner)}</rsp:Owner>"
            f"<rsp:IdleTimeOut>PT{shell.idle:.3f}S</rsp:IdleTimeOut>"
            "<rsp:InputStreams>stdin</rsp:InputStreams><rsp:OutputStreams>stdout stderr</rsp:OutputStreams>"
        )

    def _get(self, request: Request, shell_id: str, shell: _Shell, who: Caller) -> tuple[str, str, str]:
        return f"{X}/GetResponse", f"<rsp:Shell>{self._shell_members(shell_id, shell)}</rsp:Shell>", "x w rsp p"

    def _delete(self, request: Request, shell_id: str, shell: _Shell, who: Caller) -> tuple[str, str, str]:
        self._processes().kill_job(shell_id)
        del self._shells[shell_id]
        return f"{X}/DeleteResponse", "", "x w"

    # -- commands -----------------------------------------------------------------------------------------------------

    def _command(self, request: Request, shell_id: str, shell: _Shell, who: Caller) -> tuple[str, str, str]:
        from .processes import ProgramNotFound, Token

        body = _need(request, "CommandLine")
        alive = [command for command in shell.commands.values() if command.process.alive]
        if len(alive) >= self._endpoint.settings.max_processes_per_shell:
            raise CimFault.wsman(2150859174, "w:QuotaLimit")
        options = {name.lower(): value for name, value in request.options.items()}
        for name in options:
            if name not in COMMAND_OPTIONS:
                raise CimFault.wsman(2150858834, "w:InvalidOptions")
        words = []
        command_id = body.get("CommandId", "")
        for element in body:
            if element.tag not in (f"{{{RSP}}}Command", f"{{{RSP}}}Arguments"):
                raise wire.schema_error(f"CommandLine has no element {wire.split(element.tag)[1]}")
            if element.text:
                words.append(element.text.strip())
        token = Token(account=who.account, domain=who.domain, kind="network", groups=who.groups)
        try:
            process = self._processes().start_shell_command(
                " ".join(words),
                token=token,
                shell_id=shell_id,
                directory=shell.directory,
                environment=shell.environment,
                code_page=shell.code_page,
                skip_cmd_shell=options.get("winrs_skip_cmd_shell", "").lower() == "true",
            )
        except ProgramNotFound:
            raise CimFault.wsman(2, "w:InternalError", "The system cannot find the file specified.") from None
        process.stdin.console = options.get("winrs_consolemode_stdin", "true").lower() == "true"
        command_id = (command_id or self._endpoint.new_id()).upper()
        shell.commands[command_id] = _Command(process=process)
        content = f"<rsp:CommandResponse><rsp:CommandId>{command_id}</rsp:CommandId></rsp:CommandResponse>"
        return f"{RSP}/CommandResponse", content, "w rsp p"

    def _command_of(self, shell: _Shell, command_id: str) -> _Command:
        found = shell.commands.get(command_id.upper())
        if found is None:
            raise CimFault.wsman(
                SHELL_NOT_FOUND, "w:InvalidSelectors", detail=wire.FAULT_DETAIL + "UnexpectedSelectors"
            )
        return found

    def _send(self, request: Request, shell_id: str, shell: _Shell, who: Caller) -> tuple[str, str, str]:
        for stream in _need(request, "Send"):
            if stream.tag != f"{{{RSP}}}Stream" or stream.get("Name") != "stdin":
                raise wire.schema_error("Send needs Stream elements named stdin")
            command = self._command_of(shell, stream.get("CommandId", ""))
            try:
                data = base64.b64decode(stream.text or "", validate=False)
            except binascii.Error:
                raise wire.schema_error("a stream is not base64") from None
            if command.process.alive:
                command.process.stdin.feed(data)
                if stream.get("End", "").lower() in ("true", "1"):
                    command.process.stdin.close()
        self._processes().pump()
        return f"{RSP}/SendResponse", "<rsp:SendResponse/>", "w rsp p"

    def _receive(self, request: Request, shell_id: str, shell: _Shell, who: Caller) -> tuple[str, str, str]:
        body = _need(request, "Receive")
        wanted = next(iter(body), None)
        if wanted is None or wanted.tag != f"{{{RSP}}}DesiredStream":
            raise wire.schema_error("Receive needs DesiredStream")
        command_id = wanted.get("CommandId", "").upper()
        command = self._command_of(shell, command_id)
        names = (wanted.text or "stdout stderr").split()
        process = command.process
        before = self._endpoint.now()
        if not len(process.stdout) and not len(process.stderr) and process.alive:
            self._endpoint.service.assume("shell-looks")
            self._processes().look()
        parts, more = [], False
        for name in names:
            stream = {"stdout": process.stdout, "stderr": process.stderr}.get(name)
            if stream is None:
                raise wire.schema_error(f"no stream is called {name}")
            data = stream.take()
            chunk, rest = data[:CHUNK], data[CHUNK:]
            if rest:
                stream.write(rest)
                more = True
            if chunk:
                text = base64.b64encode(chunk).decode("ascii")
                parts.append(f'<rsp:Stream Name="{name}" CommandId="{command_id}">{text}</rsp:Stream>')
        done = not process.alive and not more
        if not parts and not done:
            if self._endpoint.now() == before:  # nothing else let time pass: the server waited in vain
                limit = self._endpoint.settings.max_timeout
                self._endpoint.let_pass(min(request.operation_timeout or limit, limit))
            raise CimFault.wsman(2150858793, "w:TimedOut")
        if done:
            parts.extend(
                f'<rsp:Stream Name="{name}" CommandId="{command_id}" End="true"></rsp:Stream>' for name in names
            )
            self._endpoint.service.assume("exit-code-unsigned")
            state = (
                f'<rsp:CommandState CommandId="{command_id}" State="{STATE}Done">'
                f"<rsp:ExitCode>{process.exit_code}</rsp:ExitCode></rsp:CommandState>"
            )
            command.done_sent = True
        else:
            state = f'<rsp:CommandState CommandId="{command_id}" State="{STATE}Running"/>'
        content = f"<rsp:ReceiveResponse>{''.join(parts)}{state}</rsp:ReceiveResponse>"
        return f"{RSP}/ReceiveResponse", content, "w rsp p"

    def _signal(self, request: Request, shell_id: str, shell: _Shell, who: Caller) -> tuple[str, str, str]:
        body = _need(request, "Signal")
        command_id = body.get("CommandId", "").upper()
        code = wire.text_of(body.find(f"{{{RSP}}}Code")).lower()
        if not code.startswith(SIGNALS):
            raise CimFault.wsman(2150858838, "w:InvalidParameter")
        command = self._command_of(shell, command_id)
        if command.process.alive:
            self._processes().kill_tree(command.process, 0xC000013A if code.endswith("ctrl_c") else 1)
        if code.endswith("terminate"):
            del shell.commands[command_id]
        return f"{RSP}/SignalResponse", "<rsp:SignalResponse/>", "w rsp p"


def _need(request: Request, name: str) -> ET.Element:
    if request.body is None or request.body.tag != f"{{{RSP}}}{name}":
        raise wire.schema_error(f"the body needs the element {name}")
    return request.body


def _number(text: str) -> int:
    if not text.isdigit():
        raise CimFault.wsman(2150858835, "w:InvalidOptions")
    return int(text)


def _read_shell(shell: _Shell, element: ET.Element) -> None:
    space, name = wire.split(element.tag)
    text = wire.text_of(element)
    if space != RSP:
        raise wire.schema_error(f"Shell has no element {name}")
    if name == "WorkingDirectory":
        shell.directory = text
    elif name == "Environment":
        for variable in element:
            shell.environment[variable.get("Name", "")] = variable.text or ""
    elif name in ("IdleTimeOut", "IdleTimeout"):
        shell.idle = wire.parse_duration(text).total_seconds()
    elif name == "InputStreams":
        if text not in ("", "stdin"):
            raise wire.schema_error("the one input stream is stdin")
    elif name == "OutputStreams":
        if not set(text.split()) <= {"stdout", "stderr"}:
            raise wire.schema_error("the output streams are stdout and stderr")
    elif name not in ("Lifetime", "Name", "CompressionMode", "ProfileLoaded"):
        raise wire.schema_error(f"Shell has no element {name}")
