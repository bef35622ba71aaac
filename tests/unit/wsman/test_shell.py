# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A program in a remote shell: the order of messages, output as bytes, limits, and what is not known afterwards."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable

import pytest

from ansible_collections.hyperv.passthrough.plugins.plugin_utils._wsman import (
    AccessDenied,
    OutcomeUnknown,
    ReplyLost,
    ReplyUnreadable,
    RequestNotSent,
    Schema,
    ShellResult,
    ValueRefused,
    WsmanClient,
    http_error,
)
from unit.wsman.scripted_host import ScriptedHost, answer, ids

Play = Callable[..., tuple[WsmanClient, ScriptedHost]]
END = ("shell_signal", "shell_deleted")
LOST = ReplyLost("The connection was reset.")


def test_a_command_is_run_to_its_end_and_its_output_is_bytes(play: Play) -> None:
    client, host = play(
        "shell_created", "shell_command", "fault_timed_out", "shell_receive_running", "shell_receive_done", *END
    )
    assert client.run("wbadmin get versions") == ShellResult(
        exit_code=3, stdout="über".encode() + b"\x00\xff\r\n", stderr=b"oh"
    )
    assert host.actions() == ["Create", "Command", "Receive", "Receive", "Receive", "Signal", "Delete"]


def test_the_shell_has_no_profile_and_the_utf8_code_page(play: Play) -> None:
    client, host = play("shell_created", "shell_command", "shell_receive_done", *END)
    client.run("ver")
    create, command, receive, signal, delete = (request.decode() for request in host.requests)
    assert '<w:Option Name="WINRS_NOPROFILE">TRUE</w:Option><w:Option Name="WINRS_CODEPAGE">65001</w:Option>' in create
    assert "<rsp:OutputStreams>stdout stderr</rsp:OutputStreams>" in create
    assert '<w:Option Name="WINRS_SKIP_CMD_SHELL">FALSE</w:Option>' in command
    assert "<rsp:Command>ver</rsp:Command></rsp:CommandLine>" in command
    assert 'CommandId="EEEEEEEE-0000-4000-8000-00000000000B">stdout stderr</rsp:DesiredStream>' in receive
    assert "http://schemas.microsoft.com/wbem/wsman/1/windows/shell/signal/terminate</rsp:Code>" in signal
    shell_id = '<w:Selector Name="ShellId">DDDDDDDD-0000-4000-8000-00000000000A</w:Selector>'
    assert all(shell_id in request for request in (command, receive, signal, delete))
    assert shell_id not in create


def test_the_command_shell_can_be_skipped_and_arguments_are_escaped(play: Play) -> None:
    client, host = play("shell_created", "shell_command", "shell_receive_done", *END)
    client.run("C:\\a.exe", arguments=["a&b", '"<c>"'], skip_cmd_shell=True)
    sent = host.requests[1].decode()
    assert '<w:Option Name="WINRS_SKIP_CMD_SHELL">TRUE</w:Option>' in sent
    assert '<rsp:Arguments>a&amp;b</rsp:Arguments><rsp:Arguments>"&lt;c&gt;"</rsp:Arguments>' in sent


def test_input_is_sent_in_pieces_that_fit_and_the_last_one_ends_it(schema: Schema) -> None:
    host = ScriptedHost("shell_created", "shell_command", *["shell_send"] * 3, "shell_receive_done", *END)
    client = WsmanClient(host.send, schema=schema, new_id=ids(), max_envelope_bytes=32_768)
    data = bytes(range(256)) * 100
    client.run("more", stdin=data)
    assert all(len(request) <= 32_768 for request in host.requests)
    pieces = [re.search(rb'CommandId="[^"]+"( End="true")?>([^<]*)</rsp:Stream>', one) for one in host.requests[2:5]]
    assert [bool(piece and piece.group(1)) for piece in pieces] == [False, False, True]
    assert b"".join(base64.b64decode(piece.group(2)) for piece in pieces if piece) == data


def test_the_deadline_ends_the_command_and_says_that_its_outcome_is_unknown(play: Play) -> None:
    answers = iter([True, False])
    client, host = play("shell_created", "shell_command", *["fault_timed_out"] * 2, *END)
    with pytest.raises(OutcomeUnknown, match="deadline"):
        client.run("sleep", keep_waiting=lambda: next(answers))
    assert host.actions() == ["Create", "Command", "Receive", "Receive", "Signal", "Delete"]


@pytest.mark.parametrize(
    "trouble",
    [LOST, "fault_timed_out", b"<html/>", http_error(504, b"x"), "shell_send"],
)
def test_a_command_whose_start_got_no_answer_is_never_resent(play: Play, trouble: str | bytes | Exception) -> None:
    client, host = play("shell_created", trouble, "shell_deleted")
    with pytest.raises(OutcomeUnknown) as caught:
        client.run("format C: /p:hunter2")
    assert "hunter2" not in str(caught.value)
    assert host.actions() == ["Create", "Command", "Delete"]


@pytest.mark.parametrize(
    "trouble",
    [
        LOST,
        "fault_selectors",
        b"<html/>",
        "shell_send",
        RequestNotSent("Gone.", repeatable=False),
        "fault_access_denied",
    ],
)
def test_trouble_while_it_runs_makes_the_outcome_unknown_and_the_shell_is_deleted(
    play: Play, trouble: str | bytes | Exception
) -> None:
    client, host = play("shell_created", "shell_command", trouble, *END)
    with pytest.raises(OutcomeUnknown):
        client.run("ver")
    assert host.actions()[-2:] == ["Signal", "Delete"]
    assert host.finished()


def test_a_shell_that_got_no_answer_means_that_nothing_was_started(play: Play) -> None:
    client, host = play(LOST)
    with pytest.raises(RequestNotSent, match="not started"):
        client.run("ver")
    assert host.actions() == ["Create"]


def test_a_refused_command_keeps_its_fault_and_the_shell_is_deleted(play: Play) -> None:
    client, host = play("shell_created", "fault_access_denied", "shell_deleted")
    with pytest.raises(AccessDenied):
        client.run("ver")
    assert host.finished()


def test_a_command_with_a_control_character_is_refused_and_the_shell_is_deleted(play: Play) -> None:
    client, host = play("shell_created", "shell_deleted")
    with pytest.raises(ValueRefused, match=r"The command holds the control character U\+0000"):
        client.run("echo \x00")
    assert host.actions() == ["Create", "Delete"]


def test_too_much_output_ends_the_command(play: Play) -> None:
    client, host = play("shell_created", "shell_command", "shell_receive_running", *END)
    with pytest.raises(ReplyUnreadable, match="more than 3 bytes"):
        client.run("type", max_output_bytes=3)
    assert host.finished()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b"<rsp:ExitCode>3</rsp:ExitCode>", b"", "exit code"),
        (b"<rsp:ExitCode>3</rsp:ExitCode>", b"<rsp:ExitCode>x</rsp:ExitCode>", "exit code"),
        (b"AP8N\nCg==", b"AP8N*", "base64"),
        (b"AP8N\nCg==", b"\xc3\xbc", "base64"),
    ],
)
def test_output_that_cannot_be_read_makes_the_outcome_unknown(play: Play, old: bytes, new: bytes, words: str) -> None:
    client, _unused = play("shell_created", "shell_command", answer("shell_receive_done").replace(old, new), *END)
    with pytest.raises(ReplyUnreadable, match=words):
        client.run("ver")


def test_streams_of_another_command_are_left_out(play: Play) -> None:
    other = answer("shell_receive_running").replace(b"00000000000B", b"00000000000C")
    client, _unused = play("shell_created", "shell_command", other, "shell_receive_done", *END)
    assert client.run("ver").stderr == b""


def test_a_shell_that_is_already_gone_does_not_hide_the_result(play: Play) -> None:
    client, _unused = play("shell_created", "shell_command", "shell_receive_done", LOST, "fault_selectors")
    assert client.run("ver").exit_code == 3


def test_a_receive_that_was_not_sent_is_sent_once_more(play: Play) -> None:
    gone = RequestNotSent("Connection refused.")
    client, host = play(
        "shell_created", "shell_command", gone, "shell_receive_running", gone, "shell_receive_done", *END
    )
    assert client.run("ver").exit_code == 3
    client, host = play("shell_created", "shell_command", gone, gone, *END)
    with pytest.raises(OutcomeUnknown):
        client.run("ver")
    assert host.finished()
