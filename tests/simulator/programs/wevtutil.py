# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""wevtutil.exe: el, gl, gli, qe, cl, epl of one machine's event logs (windows-commands, wevtutil).

XML goes out as one event per line without a root element (/e adds one); text and rendered messages are in the machine's
language, names of fields never are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..assumed import assumed
from ..event_log import LEVEL_NAMES, EventRecord, XPathError, system_time
from ..file_system import FileSystemError
from ..processes import Process, Program, split_command_line
from ..windows_files import Files

assumed(
    "wevtutil-exit-codes",
    "wevtutil ends with the Win32 error of the event log: 15007 no such channel, 15001 bad query, 5 denied, 87 syntax",
    source="winerror.h; that the exit code is the error is general knowledge",
)

ERROR_EVT_CHANNEL_NOT_FOUND = 15007
ERROR_EVT_INVALID_QUERY = 15001
_NAMES = {
    "el": "enum-logs",
    "gl": "get-log",
    "gli": "get-loginfo",
    "qe": "query-events",
    "cl": "clear-log",
    "epl": "export-log",
}


def main(machine: Any, process: Process) -> Program:
    yield from ()
    words = split_command_line(process.command_line)[1:]
    short = {long: name for name, long in _NAMES.items()}
    command = words[0].lower() if words else ""
    action = _ACTIONS.get(short.get(command, command))
    if action is None:
        process.err(
            f"Command {command} is not supported. The parameter is incorrect." if command else "Too few arguments."
        )
        return 87
    try:
        return action(machine, process, words[1:])
    except KeyError:
        process.err("The specified channel could not be found.")
        return ERROR_EVT_CHANNEL_NOT_FOUND
    except XPathError as problem:
        process.err(f"{problem}" if str(problem).endswith(".") else "The specified query is invalid.")
        return ERROR_EVT_INVALID_QUERY
    except FileSystemError as problem:
        process.err(str(problem))
        return problem.code


def _options(words: list[str]) -> tuple[list[str], dict[str, str]]:
    plain, options = [], {}
    long = {"count": "c", "reversedirection": "rd", "format": "f", "element": "e", "query": "q", "locale": "l"}
    for word in words:
        if word.startswith("/") and ":" in word:
            name, _unused, value = word[1:].partition(":")
            options[long.get(name.lower(), name.lower())] = value
        else:
            plain.append(word)
    return plain, options


def _readable(machine: Any, process: Process, name: str) -> Any:
    channel = machine.event_log.channel(name)
    if channel is None:
        raise KeyError(name)
    if not process.token.is_administrator and not process.token.member_of("Event Log Readers"):
        raise FileSystemError(5, name)
    return channel


def _query(machine: Any, process: Process, words: list[str]) -> int:
    plain, options = _options(words)
    if not plain:
        process.err("Too few arguments.")
        return 87
    unknown = set(options) - {"c", "rd", "f", "e", "q", "l", "lf", "sq", "bm", "sbm", "r", "u", "p", "a"}
    if unknown:
        process.err(f"Invalid option {sorted(unknown)[0]}. Option name is not valid. The parameter is incorrect.")
        return 87
    channel = _readable(machine, process, plain[0])
    newest_first = options.get("rd", "false").lower() in {"true", "1"}
    records = machine.event_log.query(channel.name, options.get("q", "*"), newest_first=newest_first)
    if "c" in options:
        records = records[: int(options["c"])]
    form = options.get("f", "xml").lower()
    root = options.get("e", "")
    if root:
        process.out(f"<{root}>")
    for index, record in enumerate(records):
        if form == "text":
            process.out(_text(index, record))
        elif form == "renderedxml":
            process.out(_rendered(record))
        else:
            process.out(record.xml())
    if root:
        process.out(f"</{root}>")
    return 0


def _text(index: int, record: EventRecord) -> str:
    level = LEVEL_NAMES.get(record.level, "Information")
    return (
        f"Event[{index}]:\n  Log Name: {record.channel}\n  Source: {record.provider}\n"
        f"  Date: {system_time(record.created)[:23]}\n  Event ID: {record.event_id}\n  Task: N/A\n  Level: {level}\n"
        f"  Opcode: N/A\n  Keyword: N/A\n  User: {record.user_sid}\n  User Name: N/A\n  Computer: {record.computer}\n"
        f"  Description: \n{record.message}\n"
    )


def _rendered(record: EventRecord) -> str:
    level = LEVEL_NAMES.get(record.level, "Information")
    message = record.message.replace("&", "&amp;").replace("<", "&lt;")
    rendering = (
        f"<RenderingInfo Culture='en-US'><Message>{message}</Message><Level>{level}</Level><Task></Task><Opcode></Opcode>"
        f"<Channel></Channel><Provider></Provider><Keywords></Keywords></RenderingInfo></Event>"
    )
    return record.xml().removesuffix("</Event>") + rendering


def _enumerate(machine: Any, process: Process, words: list[str]) -> int:
    for name in machine.event_log.channel_names():
        process.out(name)
    return 0


def _get_log(machine: Any, process: Process, words: list[str]) -> int:
    channel = _readable(machine, process, words[0] if words else "")
    file_name = channel.name.replace("/", "%4")
    process.out(
        f"name: {channel.name}\nenabled: true\ntype: {'Admin' if '/' not in channel.name else 'Operational'}\n"
        f"owningPublisher: {channel.name.partition('/')[0]}\nisolation: Application\n"
        "channelAccess: O:BAG:SYD:(A;;0xf0007;;;SY)(A;;0x7;;;BA)(A;;0x3;;;BO)(A;;0x1;;;S-1-5-32-573)\nlogging:\n"
        f"  logFileName: %SystemRoot%\\System32\\Winevt\\Logs\\{file_name}.evtx\n  retention: false\n  autoBackup: false\n"
        "  maxSize: 1052672\npublishing:\n  fileMax: 1"
    )
    return 0


def _get_info(machine: Any, process: Process, words: list[str]) -> int:
    channel = _readable(machine, process, words[0] if words else "")
    records = channel.records
    moment = system_time(records[-1].created) if records else system_time(machine.world.clock.utc())
    process.out(
        f"creationTime: {moment}\nlastAccessTime: {moment}\nlastWriteTime: {moment}\nfileSize: 1118208\nattributes: 32\n"
        f"numberOfLogRecords: {len(records)}"
    )
    if records:
        process.out(f"oldestRecordNumber: {records[0].record_id}")
    return 0


def _clear(machine: Any, process: Process, words: list[str]) -> int:
    plain, _options_given = _options(words)
    channel = _readable(machine, process, plain[0] if plain else "")
    if not process.token.is_administrator:
        raise FileSystemError(5, channel.name)
    machine.event_log.clear(channel.name)
    return 0


def _export(machine: Any, process: Process, words: list[str]) -> int:
    plain, options = _options(words)
    if len(plain) < 2:
        process.err("Too few arguments.")
        return 87
    channel = _readable(machine, process, plain[0])
    files = Files(machine, process.token, process.directory)
    if files.exists(plain[1]) and options.get("ow", "false").lower() != "true":
        process.err("The file exists.")
        return 80
    records = machine.event_log.query(channel.name, options.get("q", "*"))
    files.write(plain[1], "".join(record.xml() + "\r\n" for record in records).encode())
    return 0


_ACTIONS: dict[str, Callable[[Any, Process, list[str]], int]] = {
    "cl": _clear,
    "el": _enumerate,
    "epl": _export,
    "gl": _get_log,
    "gli": _get_info,
    "qe": _query,
}
