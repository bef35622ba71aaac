# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
r"""What the engine `command` and the operator's commands tell each other: a request in JSON, an answer in JSON.

Responsible for both shapes and their limits. Not responsible for files or programs. `docs/engines/command.md` is the contract
as an operator reads it; both have to say the same.

A request is written by `echo` in the job's own command line, because there is no way to write a file over CIM: ASCII only, and
every character that means something to cmd.exe as `\uXXXX`, so that any name gets through unharmed.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

FORMAT = "hyperv.passthrough/command"
VERSION = 1
MAX_ANSWER_BYTES = 1024 * 1024
MAX_VERSIONS = 10_000
MAX_ITEMS = 1_000
MAX_TEXT_CHARS = 1_000
MAX_VERSION_CHARS = 200

RUN_STATES = ("pending", "running", "succeeded", "warning", "failed")
_CONSISTENCIES = ("online", "saved_state", "off", "unknown")
_FOR_CMD = re.compile(r"[&|<>()^%!'`=;~]")
_ESCAPE = re.compile(r"\\(.)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_GUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_LETTER = re.compile(r"([A-Za-z]):?\\?")


class AnswerUnreadable(Exception):
    """An answer that cannot be used; the text says why, as the rest of a sentence."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunAnswer:
    """What start, status, restore, stop and delete answer. `state` is None when the exit code shall tell."""

    run_id: str
    state: str | None = None
    version: str | None = None
    job: str | None = None
    percent: int | None = None
    message: str = ""
    snapshot_time: datetime | None = None
    consistency: str = "unknown"
    warnings: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class ListedVersion:
    """One version of a listing. `run_id` when the product knows which run made it."""

    version: str
    items: tuple[str, ...]
    time: datetime | None = None
    run_id: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ListAnswer:
    run_id: str
    versions: tuple[ListedVersion, ...]

    def find(self, version: str) -> ListedVersion | None:
        return next((one for one in self.versions if one.version == version), None)


def request_text(action: str, run_id: str, facts: Mapping[str, Any]) -> str:
    """A request as one line that `echo` prints unharmed inside our command line."""
    return _for_echo({"format": FORMAT, "version": VERSION, "action": action, "run_id": run_id, **facts})


def answer_text(answer: Mapping[str, Any]) -> str:
    """What a role answered, as one line that `echo` prints unharmed inside our command line."""
    return _for_echo(answer)


def _for_echo(data: Mapping[str, Any]) -> str:
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=True, default=str)
    text = _ESCAPE.sub(lambda match: "\\u0022" if match[1] == '"' else match[0], text)
    return _FOR_CMD.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def read_run_answer(data: bytes, run_id: str) -> RunAnswer:
    """The answer of start, status, restore, stop or delete. Raises `AnswerUnreadable`."""
    fields = _fields(data, run_id, frozenset(RunAnswer.__dataclass_fields__))
    state = fields.get("state")
    if state is not None and state not in RUN_STATES:
        raise AnswerUnreadable(f"its state is {state!r}, which is none of {', '.join(RUN_STATES)}")
    percent = fields.get("percent")
    if percent is not None and (not isinstance(percent, int) or isinstance(percent, bool) or not 0 <= percent <= 100):
        raise AnswerUnreadable(f"its percent is {percent!r}, not a number from 0 to 100")
    consistency = fields.get("consistency", "unknown")
    if consistency not in _CONSISTENCIES:
        raise AnswerUnreadable(f"its consistency is {consistency!r}, which is none of {', '.join(_CONSISTENCIES)}")
    return RunAnswer(
        run_id=run_id,
        state=state,
        version=_optional(fields, "version", MAX_VERSION_CHARS),
        job=_optional(fields, "job", MAX_VERSION_CHARS),
        percent=percent,
        message=_optional(fields, "message", MAX_TEXT_CHARS) or "",
        snapshot_time=_moment(fields, "snapshot_time"),
        consistency=consistency,
        warnings=_texts(fields, "warnings"),
    )


def read_list_answer(data: bytes, run_id: str) -> ListAnswer:
    """The answer of list. Raises `AnswerUnreadable`."""
    fields = _fields(data, run_id, frozenset({"run_id", "versions"}))
    rows = fields.get("versions")
    if not isinstance(rows, list) or len(rows) > MAX_VERSIONS:
        raise AnswerUnreadable(f"it has no list named versions with at most {MAX_VERSIONS} entries")
    found = []
    for row in rows:
        if not isinstance(row, dict):
            raise AnswerUnreadable("an entry of versions is not an object")
        _known(row, frozenset({"version", "time", "items", "run_id"}))
        version = _optional(row, "version", MAX_VERSION_CHARS)
        if not version:
            raise AnswerUnreadable("an entry of versions has no version")
        found.append(
            ListedVersion(
                version=version,
                items=_texts(row, "items"),
                time=_moment(row, "time"),
                run_id=_optional(row, "run_id", MAX_VERSION_CHARS),
            )
        )
    if len({one.version for one in found}) != len(found):
        raise AnswerUnreadable("it lists a version twice, so that one could not be told from the other")
    return ListAnswer(run_id=run_id, versions=tuple(found))


def asked(items: Mapping[str, str]) -> dict[str, list[str]]:
    """What a listing is asked for: `items`, and in the same order the `letters` of volumes (`S:`, empty for others)."""
    letters = [text.rstrip(":\\").upper() for text in items.values()]
    return {"items": list(items), "letters": [f"{letter}:" if letter else "" for letter in letters]}


def items_named(listed: ListedVersion, wanted: Mapping[str, str]) -> dict[str, str]:
    """As what a version lists each of the wanted things; what it does not list is left out.

    Args:
        wanted: GUID of a VM or GUID path of a volume -> the volume's drive letter, or an empty text. A thing is found by its
            GUID, or a volume by its letter (`S:`).
    """
    guids = {match[0].casefold() for item in listed.items if (match := _GUID.search(item))}
    letters = {match[1].upper() for item in listed.items if (match := _LETTER.fullmatch(item))}
    found = {}
    for item, text in wanted.items():
        guid, letter = _GUID.search(item), text.rstrip(":\\").upper()
        if guid is not None and guid[0].casefold() in guids:
            found[item] = item
        elif letter in letters:
            found[item] = f"{letter}:"
    return found


# --- reading --------------------------------------------------------------------------------------------------------


def _fields(data: bytes, run_id: str, known: frozenset[str]) -> dict[str, Any]:
    if not data.strip():
        raise AnswerUnreadable("it wrote no answer")
    if len(data) > MAX_ANSWER_BYTES:
        raise AnswerUnreadable(f"it has {len(data)} bytes, more than {MAX_ANSWER_BYTES}")
    try:
        fields = json.loads(data.decode("utf-8-sig"))
    except (UnicodeDecodeError, ValueError, RecursionError) as err:
        raise AnswerUnreadable(f"it is no JSON in UTF-8 ({type(err).__name__})") from err
    if not isinstance(fields, dict):
        raise AnswerUnreadable("it is not one JSON object")
    _known(fields, known)
    if fields.get("run_id") != run_id:
        raise AnswerUnreadable(f"its run_id is {str(fields.get('run_id'))[:80]!r}, but the run is {run_id}")
    return fields


def _known(fields: Mapping[str, Any], known: frozenset[str]) -> None:
    unknown = sorted(set(fields) - known)
    if unknown:
        raise AnswerUnreadable(
            f"it has the unknown keys {', '.join(unknown[:5])[:200]}; known are {', '.join(sorted(known))}"
        )


def _optional(fields: Mapping[str, Any], name: str, limit: int) -> str | None:
    value = fields.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > limit or _CONTROL.search(value):
        raise AnswerUnreadable(f"its {name} is not a text of at most {limit} characters without control characters")
    return value


def _texts(fields: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value: Sequence[Any] = fields.get(name) or ()
    if not isinstance(value, (list, tuple)) or len(value) > MAX_ITEMS:
        raise AnswerUnreadable(f"its {name} is not a list of at most {MAX_ITEMS} texts")
    texts = tuple(_optional({name: one}, name, MAX_TEXT_CHARS) for one in value)
    return tuple(text for text in texts if text is not None)


def _moment(fields: Mapping[str, Any], name: str) -> datetime | None:
    text = _optional(fields, name, 40)
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise AnswerUnreadable(f"its {name} {text!r} is no point in time such as 2026-10-01T20:00:00Z") from None
    return moment.replace(tzinfo=timezone.utc) if moment.tzinfo is None else moment.astimezone(timezone.utc)
