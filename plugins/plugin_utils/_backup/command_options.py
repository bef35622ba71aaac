# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""The options of the engine `command`: the operator's own commands, what their exit codes mean, what the product can do.

Responsible for reading `engine_options`, for the placeholders of a command and for the command line that it becomes. Not
responsible for running it (`command_runs.py`) or for what its files say (`command_exchange.py`).

A product that is driven from elsewhere (a director, a REST API) is given by roles instead: the collection's own roles include
them on the controller and hand their answers to the tasks, which never run a role themselves.

A command is a list of arguments, never a text that a shell would take apart. Placeholders such as `{run_id}` may stand anywhere
in an argument. A batch file is started by `call`, which is the only way back from it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from .detached_job import argument
from .engine import Phase
from .errors import BackupError

NAME = "command"
ACTIONS = ("start", "status", "list", "restore", "stop", "delete")
STATES = ("succeeded", "warning", "failed")
MAX_ARGUMENTS = 40
MAX_ARGUMENT_CHARS = 500
MAX_EXIT_CODES = 50

_ALWAYS = frozenset({"request", "answer", "run_id", "phase", "target"})
_RUN = frozenset({"label", "vm_id", "vm_name", "volumes", "letters", "items", "vss_backup_type"})
#: What each action can be told in its arguments; the request file holds all of it and more.
PLACEHOLDERS: Mapping[str, frozenset[str]] = {
    "start": _ALWAYS | _RUN,
    "status": _ALWAYS | {"job", "of"},
    "list": _ALWAYS | {"machine", "version", "items", "letters"},
    "restore": _ALWAYS | {"machine", "version", "item", "onto", "label", "replace"},
    "stop": _ALWAYS | {"job"},
    "delete": _ALWAYS | {"machine", "version"},
}
_FLAGS = ("application_consistent", "incremental", "concurrent", "restores_elsewhere", "remote_vhds", "checkpoints")
ROLES = ("start", "list", "restore")
_KNOWN = frozenset({*ACTIONS, *_FLAGS, "exit_codes", "file_systems", "roles"})
_FILE_SYSTEMS = frozenset({"NTFS", "REFS"})

_PLACEHOLDER = re.compile(r"\{([A-Za-z_]+)\}")
_HIDDEN = r"pass(?:word|wd|phrase)?|pwd|secret|token|credentials?|api[_-]?key|private[_-]?key"
_SECRET = re.compile(
    rf"^[-/]{{1,2}}[\w.-]*(?:{_HIDDEN})\b|\b[\w.-]*(?:{_HIDDEN})\s*[=:]\s*\S|://[^/\s:@]+:[^/\s@]+@",
    re.IGNORECASE,
)
_BATCH = (".cmd", ".bat")
_ROLE = re.compile(r"[A-Za-z0-9_.-]{1,200}", re.ASCII)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CommandOptions:
    """What the operator says of the product.

    Attributes:
        commands: action -> its arguments.
        roles: action -> name of a role; either these or commands.
        answers: action -> what its role answered in this run; never recorded.
        exit_codes: exit code -> what it means; every other one is a failure.
    """

    phase: Phase
    commands: Mapping[str, tuple[str, ...]]
    exit_codes: Mapping[int, str]
    roles: Mapping[str, str] = dataclasses.field(default_factory=dict)
    answers: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    file_systems: frozenset[str] = _FILE_SYSTEMS
    application_consistent: bool = False
    incremental: bool = False
    concurrent: bool = False
    restores_elsewhere: bool = False
    remote_vhds: bool = False
    checkpoints: bool = True

    def meaning(self, exit_code: int) -> str:
        return self.exit_codes.get(exit_code, "failed")

    def has(self, action: str) -> bool:
        return action in self.commands or action in self.roles

    @property
    def programs(self) -> tuple[str, ...]:
        """Whole paths on the machine's own volumes that commands name as their program, each once."""
        found = (command[0] for command in self.commands.values())
        return tuple(dict.fromkeys(path for path in found if re.match(r"[A-Za-z]:\\", path)))


def parse_options(given: Mapping[str, Any], phase: Phase) -> CommandOptions:
    """Read `engine_options`. Raises: `BackupError`: `bad_option`, `secret_option`, `command_characters`."""
    unknown = sorted(str(key) for key in given if key not in _KNOWN)
    if unknown:
        raise _bad(f"has no option {', '.join(unknown)}; it has {', '.join(sorted(_KNOWN))}")
    commands = {name: _command(name, given[name]) for name in ACTIONS if given.get(name) is not None}
    roles = _roles(given.get("roles"))
    if roles and commands:
        raise _bad(f"takes roles or commands, not both; roles were given, and {', '.join(commands)}")
    lacking = [name for name in ("start", "list") if name not in {**commands, **roles}]
    if lacking:
        raise _bad(
            f"needs {' and '.join(lacking)}: a run is only good when its version is listed afterwards; write each as a list, the "
            "program first"
        )
    systems = given.get("file_systems") or sorted(_FILE_SYSTEMS)
    if not isinstance(systems, (list, tuple)) or not all(isinstance(one, str) for one in systems):
        raise _bad("takes file_systems as a list of names, such as [NTFS, ReFS]")
    flags: dict[str, Any] = {}
    for name in _FLAGS:
        value = given.get(name)
        if value is not None and not isinstance(value, bool):
            raise _bad(f"takes {name} as true or false, not {value!r}")
        if value is not None:
            flags[name] = value
    return CommandOptions(
        phase=phase,
        commands=commands,
        roles=roles,
        exit_codes=_exit_codes(given.get("exit_codes")),
        file_systems=frozenset(one.upper() for one in systems),
        **flags,
    )


def with_answers(options: CommandOptions, answers: Mapping[str, Any]) -> CommandOptions:
    """The options with what roles answered in this run. Raises: `BackupError` `bad_option`."""
    if not options.roles:
        raise _bad("takes engine_answers only when it is driven by roles")
    unknown = sorted(set(answers) - set(ROLES))
    if unknown or not all(isinstance(one, Mapping) for one in answers.values()):
        raise _bad(f"takes engine_answers as a mapping of {', '.join(ROLES)} to what their roles answered")
    return dataclasses.replace(options, answers=dict(answers))


def command_line(command: Sequence[str], values: Mapping[str, str]) -> str:
    """The command as it stands in a job's line. Raises: `BackupError` `command_characters`."""
    words = [_PLACEHOLDER.sub(lambda match: values[match[1]], word) for word in command]
    if words[0].casefold().endswith(_BATCH):
        # A batch file gets its arguments as they stand, so that a backslash before a quote is not doubled for it.
        return " ".join(["call", *(_for_batch(word) for word in words)])
    return " ".join(argument(word, quoted=True if not word else None) for word in words)


def _for_batch(word: str) -> str:
    bare = argument(word, quoted=False)  # refuses what no quoting carries
    return f'"{bare}"' if not bare or argument(word) != bare else bare


def _command(name: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, (list, tuple)) or not value:
        raise _bad(f"takes {name} as a list of arguments, the program first, not as {type(value).__name__}")
    if len(value) > MAX_ARGUMENTS:
        raise _bad(f"takes at most {MAX_ARGUMENTS} arguments for {name}, {len(value)} were given")
    words = []
    for word in value:
        if not isinstance(word, str) or len(word) > MAX_ARGUMENT_CHARS:
            raise _bad(
                f"takes the arguments of {name} as texts of at most {MAX_ARGUMENT_CHARS} characters; quote {word!r}"
            )
        if _SECRET.search(word):
            raise BackupError(
                "secret_option",
                f"An argument of the engine's {name} looks like a password or key. Arguments are seen in the machine's list of "
                "processes and written into the backup set; let the product read it from its own store, or from a file or "
                "credential that only SYSTEM can read.",
            )
        for found in _PLACEHOLDER.findall(word):
            if found not in PLACEHOLDERS[name]:
                raise _bad(
                    f"knows no placeholder {{{found}}} for {name}; there are "
                    f"{', '.join('{' + one + '}' for one in sorted(PLACEHOLDERS[name]))}"
                )
        words.append(word)
    if _PLACEHOLDER.search(words[0]) or not words[0].strip():
        raise _bad(f"needs the program of {name} as it is, without a placeholder")
    for word in words:
        argument(_PLACEHOLDER.sub("", word))
    if not any("{answer}" in word or "{request}" in word for word in words):
        raise _bad(f"needs {{answer}} or {{request}} among the arguments of {name}: how else could it answer")
    return tuple(words)


def _roles(value: Any) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not value or set(value) - set(ROLES):
        raise _bad(f"takes roles as a mapping of {', '.join(ROLES)} to names of roles")
    for action, name in value.items():
        if not isinstance(name, str) or not _ROLE.fullmatch(name):
            raise _bad(f"takes the name of a role for {action}, not {name!r}")
    return {str(action): str(name) for action, name in value.items()}


def _exit_codes(value: Any) -> dict[int, str]:
    if value is None:
        return {0: "succeeded"}
    if not isinstance(value, Mapping) or not 1 <= len(value) <= MAX_EXIT_CODES:
        raise _bad("takes exit_codes as a mapping such as {0: succeeded, 2: warning}")
    found = {}
    for code, state in value.items():
        try:
            number = int(str(code))
        except ValueError:
            raise _bad(f"takes numbers as exit codes, not {code!r}") from None
        if state not in STATES or isinstance(code, bool):
            raise _bad(f"takes one of {', '.join(STATES)} as the meaning of exit code {code}, not {state!r}")
        found[number] = str(state)
    return found


def _bad(what: str) -> BackupError:
    return BackupError("bad_option", f"The engine {NAME} {what}.")
