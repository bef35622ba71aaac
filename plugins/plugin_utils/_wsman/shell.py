# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""One program in one remote shell: Create, Command, Send, Receive until done, Signal, Delete (wsman 9).

Responsible for the order of those messages and their bodies. No clock: how long to wait is the caller's ``keep_waiting``.
A command line is never shown in an error, it may hold a secret.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import (
    HttpError,
    OperationTimedOut,
    OutcomeUnknown,
    ProtocolError,
    ReplyLost,
    ReplyUnreadable,
    RequestNotSent,
    WsmanError,
)
from .wire import CREATE, DELETE, SHELL, Request, bounded_int, local_name, text_of, xml_attribute, xml_text

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

RESOURCE = f"{SHELL}/cmd"
MAX_OUTPUT_BYTES = 64 * 1024 * 1024
MAX_RECEIVES = 100_000  # answers of one command, whatever keep_waiting says
MAX_QUIET_RECEIVES = 240  # timeouts in a row without keep_waiting: four hours at the usual 60 s
_UTF8_CODEPAGE = "65001"
_TERMINATE = f"{SHELL}/signal/terminate"

Exchange = Callable[[Request, str], "Element"]


@dataclass(frozen=True)
class ShellResult:
    """What a program left: its exit code and its output as bytes (UTF-8 where it obeys the code page)."""

    exit_code: int
    stdout: bytes
    stderr: bytes


@dataclass(frozen=True, kw_only=True)
class Command:
    """What to run. ``line`` goes to cmd.exe unless ``skip_cmd_shell``; ``arguments`` are appended to it by Windows."""

    line: str
    arguments: tuple[str, ...] = ()
    stdin: bytes = b""
    skip_cmd_shell: bool = False
    max_output_bytes: int = MAX_OUTPUT_BYTES
    stdin_chunk_bytes: int = 256 * 1024


def run(exchange: Exchange, command: Command, *, keep_waiting: Callable[[], bool] | None = None) -> ShellResult:
    """Run a command to its end; the shell is deleted whatever happens.

    Raises:
        RequestNotSent: the command was not started.
        OutcomeUnknown: the command was sent, and its end is not known (lost, unreadable, too much output, deadline).
        WsmanFault: the host refused the shell or the command.
    """
    shell_id = _create(exchange)
    try:
        command_id = _start(exchange, shell_id, command)
        try:
            _send_input(exchange, shell_id, command_id, command)
            return _receive(exchange, shell_id, command_id, command, keep_waiting)
        except OutcomeUnknown:
            raise
        except ProtocolError as error:
            raise ReplyUnreadable(f"The command was started, but its output cannot be read: {error}") from error
        except WsmanError as error:
            raise OutcomeUnknown(f"The command was started, but its end is not known: {error}") from error
        finally:
            _quietly(exchange, _signal(shell_id, command_id))
    finally:
        _quietly(exchange, Request(action=DELETE, resource_uri=RESOURCE, selectors={"ShellId": shell_id}))


def _quietly(exchange: Exchange, request: Request) -> None:
    """Tidy up; what fails here must not hide what happened before, and Windows ends idle shells by itself."""
    try:
        exchange(request, "The end of the remote shell")
    except WsmanError:
        return


def _create(exchange: Exchange) -> str:
    asked = "The start of a remote shell"
    request = Request(
        action=CREATE,
        resource_uri=RESOURCE,
        options={"WINRS_NOPROFILE": "TRUE", "WINRS_CODEPAGE": _UTF8_CODEPAGE},
        body=(
            f'<rsp:Shell xmlns:rsp="{SHELL}"><rsp:InputStreams>stdin</rsp:InputStreams>'
            f"<rsp:OutputStreams>stdout stderr</rsp:OutputStreams></rsp:Shell>"
        ),
    )
    try:
        body = exchange(request, asked)
    except ReplyLost as error:
        # A shell may be left over on the host until its idle timeout, but no command was sent.
        raise RequestNotSent(f"{asked} got no answer, so the command was not started: {error}") from error
    selectors = (one for one in body.iter() if local_name(one.tag) == "Selector" and one.get("Name") == "ShellId")
    identifiers = (one for one in body.iter() if local_name(one.tag) == "ShellId")
    for one in (*selectors, *identifiers):
        if text_of(one):
            return text_of(one)
    raise ProtocolError(f"{asked} was answered without a ShellId.")


def _start(exchange: Exchange, shell_id: str, command: Command) -> str:
    asked = "The start of a command in a remote shell"
    arguments = "".join(
        f"<rsp:Arguments>{xml_text(one, 'An argument of the command')}</rsp:Arguments>" for one in command.arguments
    )
    request = Request(
        action=f"{SHELL}/Command",
        resource_uri=RESOURCE,
        selectors={"ShellId": shell_id},
        options={
            "WINRS_CONSOLEMODE_STDIN": "TRUE",
            "WINRS_SKIP_CMD_SHELL": "TRUE" if command.skip_cmd_shell else "FALSE",
        },
        body=(
            f'<rsp:CommandLine xmlns:rsp="{SHELL}"><rsp:Command>{xml_text(command.line, "The command")}</rsp:Command>'
            f"{arguments}</rsp:CommandLine>"
        ),
    )
    unknown = f"{asked} was sent, but whether it was started is not known: "
    try:
        body = exchange(request, asked)
    except ProtocolError as error:
        raise ReplyUnreadable(f"{unknown}{error}") from error
    except (ReplyLost, OperationTimedOut) as error:
        raise OutcomeUnknown(f"{unknown}{error}") from error
    except HttpError as error:
        if not error.may_have_run:
            raise
        raise OutcomeUnknown(f"{unknown}{error}") from error
    command_id = next((text_of(one) for one in body.iter() if local_name(one.tag) == "CommandId"), "")
    if not command_id:
        raise ReplyUnreadable(f"{asked} was answered without a CommandId.")
    return command_id


def _signal(shell_id: str, command_id: str) -> Request:
    """End the command if it still runs, and let Windows forget it."""
    return Request(
        action=f"{SHELL}/Signal",
        resource_uri=RESOURCE,
        selectors={"ShellId": shell_id},
        body=(
            f'<rsp:Signal xmlns:rsp="{SHELL}" CommandId="{xml_attribute(command_id, "The command id")}">'
            f"<rsp:Code>{_TERMINATE}</rsp:Code></rsp:Signal>"
        ),
    )


def _send_input(exchange: Exchange, shell_id: str, command_id: str, command: Command) -> None:
    pieces = [
        command.stdin[start : start + command.stdin_chunk_bytes]
        for start in range(0, len(command.stdin), command.stdin_chunk_bytes)
    ]
    for number, piece in enumerate(pieces, 1):
        end = ' End="true"' if number == len(pieces) else ""
        stream = (
            f'<rsp:Stream Name="stdin" CommandId="{xml_attribute(command_id, "The command id")}"{end}>'
            f"{base64.b64encode(piece).decode('ascii')}</rsp:Stream>"
        )
        request = Request(
            action=f"{SHELL}/Send",
            resource_uri=RESOURCE,
            selectors={"ShellId": shell_id},
            body=f'<rsp:Send xmlns:rsp="{SHELL}">{stream}</rsp:Send>',
        )
        exchange(request, "The input for a command in a remote shell")


def _receive(
    exchange: Exchange,
    shell_id: str,
    command_id: str,
    command: Command,
    keep_waiting: Callable[[], bool] | None,
) -> ShellResult:
    request = Request(
        action=f"{SHELL}/Receive",
        resource_uri=RESOURCE,
        selectors={"ShellId": shell_id},
        body=(
            f'<rsp:Receive xmlns:rsp="{SHELL}"><rsp:DesiredStream '
            f'CommandId="{xml_attribute(command_id, "The command id")}">stdout stderr</rsp:DesiredStream></rsp:Receive>'
        ),
    )
    output = {"stdout": bytearray(), "stderr": bytearray()}
    quiet = 0
    repeated = False
    for turn in range(MAX_RECEIVES):
        if turn and keep_waiting is not None and not keep_waiting():
            raise OutcomeUnknown("The command did not end before the deadline; it was told to stop.")
        try:
            body = exchange(request, "The output of a command in a remote shell")
        except OperationTimedOut:
            quiet += 1
            if keep_waiting is None and quiet > MAX_QUIET_RECEIVES:
                raise
            continue
        except RequestNotSent as error:
            # Nothing was executed, so no output can have been taken; a lost answer would have taken some with it.
            if repeated or not error.repeatable:
                raise
            repeated = True
            continue
        quiet, repeated = 0, False
        exit_code = _read_output(body, command_id, output, command.max_output_bytes)
        if exit_code is not None:
            return ShellResult(exit_code, bytes(output["stdout"]), bytes(output["stderr"]))
    raise ProtocolError(f"The command's output came in more than {MAX_RECEIVES} pieces.")


def _read_output(body: Element, command_id: str, output: dict[str, bytearray], limit: int) -> int | None:
    """Add the pieces of one ReceiveResponse to ``output``; the exit code when the command is done."""
    response = next((one for one in body if local_name(one.tag) == "ReceiveResponse"), None)
    if response is None:
        raise ProtocolError("The answer to a Receive holds no ReceiveResponse.")
    exit_code: int | None = None
    for one in response:
        name = local_name(one.tag)
        if one.get("CommandId", command_id).lower() != command_id.lower():
            continue
        if name == "Stream" and one.get("Name") in output:
            try:
                output[one.get("Name", "")] += base64.b64decode("".join((one.text or "").split()), validate=True)
            except (binascii.Error, ValueError):
                raise ProtocolError("A piece of a command's output is not base64.") from None
            if sum(len(stream) for stream in output.values()) > limit:
                raise ProtocolError(f"The command gave more than {limit} bytes of output; it was told to stop.")
        elif name == "CommandState" and one.get("State", "").lower().endswith("/done"):
            code = next((text_of(inner) for inner in one if local_name(inner.tag) == "ExitCode"), "")
            exit_code = bounded_int(code)
            if exit_code is None:
                raise ProtocolError("The command ended without an exit code.")
    return exit_code
