# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""powershell.exe 5.1: its switches, where the script comes from, exit codes, and what forbids it to run.

The language is in powershell_parser.py and powershell_interpreter.py. A world may give a machine `powershell_results`: a
list of (regular expression, standard output, exit code), searched in the script together with standard input and answered
instead of running anything; the bench needs it for scripts that are beyond the simulator.
Sources: about_PowerShell_exe (switches, exit codes), about_Execution_Policies, about_Language_Modes.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from typing import Any

from .. import powershell_cmdlets, powershell_file_cmdlets
from ..assumed import assumed
from ..file_system import FileSystemError
from ..powershell_classes import ANSI, decode_marked
from ..powershell_commands import bind
from ..powershell_interpreter import Interpreter
from ..powershell_language import Script, SyntaxFault
from ..powershell_output import clixml_errors, lines_of
from ..powershell_parser import parse
from ..powershell_scopes import Flow
from ..powershell_values import PowerShellError, Thrown
from ..processes import Process, Program, Until, decode_text, encode_text, split_command_line
from ..windows_files import Files

assumed(
    "powershell-canned", "A world may answer scripts of powershell.exe from a table", source="limit of the simulator"
)
assumed(
    "powershell-language-mode",
    "ConstrainedLanguage is what WDAC or AppLocker gives powershell.exe; methods of other than core types are refused",
    source="about_Language_Modes; off on a default installation",
    values=("FullLanguage", "ConstrainedLanguage"),
)
assumed(
    "powershell-blocked",
    "powershell.exe itself is blocked by AppLocker or WDAC: it ends with this code and the system's text",
    source="Win32 error 1260 ERROR_ACCESS_DISABLED_BY_POLICY; what cmd.exe shows is assumed",
    values=("no", "yes"),
)
assumed(
    "powershell-execution-policy",
    "The machine's execution policy where the command line names none: scripts by -File are refused under Restricted",
    source="about_Execution_Policies: servers have RemoteSigned, clients Restricted",
    values=("RemoteSigned", "Restricted", "AllSigned"),
)
assumed(
    "powershell-encoded-stderr",
    "With -EncodedCommand and a redirected error stream errors are written as CLIXML",
    source="source of ConsoleHost (ErrorFormat); known from WinRM clients",
    values=("clixml", "text"),
)
BLOCKED = "This program is blocked by group policy. For more information, contact your system administrator."
MAXIMUM_SCRIPT = 1 << 20


@dataclass
class Options:
    command: str = ""
    kind: str = ""
    file: str = ""
    arguments: list[str] = field(default_factory=list)
    policy: str = ""
    interactive: bool = True
    fault: str = ""


_SWITCHES = ("noprofile", "nologo", "noninteractive", "sta", "mta", "noexit")
_VALUES = (
    "executionpolicy",
    "windowstyle",
    "outputformat",
    "inputformat",
    "version",
    "psconsolefile",
    "configurationname",
)


def read_switches(words: list[str]) -> Options:
    """The command line of powershell.exe; names may be cut short where that is unambiguous (-enc, -nop, -ep)."""
    options = Options()
    index = 0
    while index < len(words):
        word = words[index]
        name = word[1:].lower() if word[:1] in "-/" else ""
        if not name:
            options.kind, options.command = "command", " ".join(words[index:])
            return options
        index += 1
        if name == "c" or _short("command", name):
            options.kind, options.command = "command", " ".join(words[index:])
            if not words[index:]:
                options.fault = (
                    "Cannot process the command because of a missing parameter. A command must follow -Command."
                )
            return options
        if name == "f" or _short("file", name):
            if index >= len(words):
                options.fault = (
                    "Windows PowerShell terminated with the following error: -File needs the path of a script."
                )
                return options
            options.kind, options.file, options.arguments = "file", words[index], words[index + 1 :]
            return options
        if name == "ec" or _short("encodedcommand", name):
            options.kind = "encoded"
            options.command, options.fault = _decoded(words[index] if index < len(words) else "")
            index += 1
        elif name in ("ep", "ex") or _short("executionpolicy", name):
            options.policy = words[index] if index < len(words) else ""
            index += 1
        elif name in ("?", "help"):
            options.fault = "PowerShell[.exe] [-NoProfile] [-NonInteractive] [-File <path>] [-Command <text>] ..."
            return options
        elif any(_short(one, name) for one in _SWITCHES):
            if _short("noninteractive", name) and not _short("noprofile", name):
                options.interactive = False
        elif any(_short(one, name) for one in _VALUES):
            index += 1
        else:
            options.kind, options.command = "command", " ".join(words[index - 1 :])
            return options
    return options


def _short(full: str, name: str) -> bool:
    return bool(name) and full.startswith(name)


def _decoded(text: str) -> tuple[str, str]:
    try:
        return base64.b64decode(text, validate=True).decode("utf-16-le"), ""
    except (binascii.Error, ValueError, UnicodeDecodeError):
        return "", (
            "Cannot process the command because the value specified with -EncodedCommand is not properly encoded. The value"
            " must be Base64 encoded."
        )


def main(machine: Any, process: Process) -> Program:
    words = split_command_line(process.command_line)[1:]
    options = read_switches(words)
    canned = getattr(machine, "powershell_results", [])
    script = options.command or " ".join(words)
    if canned or not options.kind:
        # A console (WINRS_CONSOLEMODE_STDIN) never ends, and a script that is given does not wait for it.
        yield Until(lambda: process.stdin.closed or bool(getattr(process.stdin, "console", False)))
        typed = decode_text(process.stdin.read_all(), 65001)
        for pattern, output, code in canned:
            if re.search(pattern, script + "\n" + typed):
                process.stdout.write(encode_text(output, process.code_page))
                return int(code)
        if not options.kind:
            options.kind, options.command = "command", typed
    if machine.world.assume("powershell-blocked") == "yes":
        process.err(BLOCKED)
        return 1
    if options.fault:
        process.err(options.fault)
        return 1 if options.kind != "file" else -196608 & 0xFFFFFFFF
    path = ""
    if options.kind == "file":
        text, path, fault = _script_file(machine, process, options)
        if fault:
            process.err(fault)
            return -196608 & 0xFFFFFFFF if "does not exist" in fault else 1
    elif options.command.strip() == "-":
        yield Until(lambda: process.stdin.closed)
        text = decode_text(process.stdin.read_all(), process.code_page)
    else:
        text = options.command
    return (yield from run(machine, process, text[:MAXIMUM_SCRIPT], options, path))


def _script_file(machine: Any, process: Process, options: Options) -> tuple[str, str, str]:
    files = Files(machine, process.token, process.directory)
    try:
        path = files.absolute(options.file)
        if not re.search(r"\.ps1$", path, re.IGNORECASE):
            fault = (
                f"Processing -File '{options.file}' failed because the file does not have a '.ps1' extension. Specify a valid"
                " PowerShell script file name, and then try again."
            )
            return "", "", fault
        data = files.read(path)
    except FileSystemError:
        fault = (
            f"The argument '{options.file}' to the -File parameter does not exist. Provide the path to an existing '.ps1' file"
            " as an argument to the -File parameter."
        )
        return "", "", fault
    policy = (options.policy or machine.world.assume("powershell-execution-policy")).lower()
    if (policy in ("restricted", "default") and machine.os.product_type == 1) or policy in ("restricted", "allsigned"):
        why = (
            "running scripts is disabled on this system"
            if policy != "allsigned"
            else "the file is not digitally signed"
        )
        return (
            "",
            path,
            (
                f"File {path} cannot be loaded because {why}. For more information, see about_Execution_Policies at"
                " https:/go.microsoft.com/fwlink/?LinkID=135170.\n    + CategoryInfo          : SecurityError: (:) [],"
                " ParentContainsErrorRecordException\n    + FullyQualifiedErrorId : UnauthorizedAccess"
            ),
        )
    return decode_marked(data, ANSI), path, ""


def run(machine: Any, process: Process, text: str, options: Options, path: str) -> Program:
    """Parses and runs; gives the exit code."""
    constrained = machine.world.assume("powershell-language-mode") == "ConstrainedLanguage"
    ps = Interpreter(machine, process, text, path=path, constrained=constrained)
    ps.clixml = options.kind == "encoded" and machine.world.assume("powershell-encoded-stderr") == "clixml"

    def show(value: Any) -> None:
        for line in lines_of(ps, value):
            process.stdout.write(encode_text(line + "\n", process.code_page))

    code: int | None = None
    try:
        tree = parse(text)
        bind(ps, "", tree.parameters, _words(options.arguments), None)
        yield from ps.block(tree.body, show)
    except SyntaxFault as fault:
        _show_syntax(ps, fault)
        code = 1
    except Flow as flow:
        code = flow.code if flow.keyword == "exit" else None
    except PowerShellError as problem:
        ps.remember(problem.record)
        if ps.preference() not in ("silentlycontinue", "ignore") or problem.script:
            ps.write_error(problem.record)
        code = 1
    except Thrown as problem:
        ps.write_error(ps.from_net(problem.value, Script(parameters=(), body=tree.body)).record)
        code = 1
    finally:
        for stream in machine.processes.open_streams:
            if stream.process is process:
                stream.close(ps)
    if ps.clixml and ps.reported:
        process.stderr.write(clixml_errors(ps.reported).encode("utf-8"))
    if code is None:
        code = 0 if options.kind == "file" or ps.succeeded else 1
    return code & 0xFFFFFFFF


def _words(arguments: list[str]) -> list[tuple[str, Any]]:
    """Arguments of -File: -Name is a parameter, all else literal text."""
    from ..powershell_commands import NOT_GIVEN

    found: list[tuple[str, Any]] = []
    for word in arguments:
        match = re.fullmatch(r"-([A-Za-z_]\w*)(?::(.*))?", word, re.DOTALL)
        if match is None:
            found.append(("", word))
        else:
            found.append((match[1], match[2] if match[2] is not None else NOT_GIVEN))
    return found


def _show_syntax(ps: Interpreter, fault: SyntaxFault) -> None:
    lines = [*ps.position(fault.at, fault.at + 1), str(fault)]
    lines.append("    + CategoryInfo          : ParserError: (:) [], ParentContainsErrorRecordException")
    lines.append(f"    + FullyQualifiedErrorId : {fault.identifier}")
    text = "\n".join(lines) + "\n "
    if ps.clixml:
        ps.reported.append(text)
    else:
        ps.process.err(text)


__all__ = ["main", "powershell_cmdlets", "powershell_file_cmdlets", "read_switches"]
