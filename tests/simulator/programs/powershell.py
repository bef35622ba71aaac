# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""powershell.exe, which the simulator does not interpret: it answers canned results and says so otherwise.

A world may give a machine `powershell_results`: a list of (regular expression, standard output, exit code); the
expression is searched in the decoded script together with standard input. It exists for the bench, which needs the cost of
Ansible's way, not its meaning.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

from ..assumed import assumed
from ..processes import Process, Program, Until, decode_text, encode_text, split_command_line

assumed("powershell-canned", "PowerShell scripts are not run: answers are canned", source="limit of the simulator")

NOT_SIMULATED = "powershell.exe is not simulated: the world of this machine holds no answer for the script."


def main(machine: Any, process: Process) -> Program:
    words = split_command_line(process.command_line)[1:]
    script = _script(words)
    # A console (WINRS_CONSOLEMODE_STDIN) never ends, and a script that is given does not wait for it.
    yield Until(lambda: process.stdin.closed or bool(getattr(process.stdin, "console", False)))
    script += "\n" + decode_text(process.stdin.read_all(), 65001)
    for pattern, output, code in getattr(machine, "powershell_results", []):
        if re.search(pattern, script):
            process.stdout.write(encode_text(output, process.code_page))
            return int(code)
    process.err(NOT_SIMULATED)
    return 1


def _script(words: list[str]) -> str:
    for index, word in enumerate(words[:-1]):
        name = word.lower().lstrip("-/")
        if name and "encodedcommand".startswith(name) and not name.startswith("ex"):
            try:
                return base64.b64decode(words[index + 1]).decode("utf-16-le", "replace")
            except (binascii.Error, ValueError):
                return ""
        if name and "command".startswith(name):
            return " ".join(words[index + 1 :])
    return " ".join(words)
