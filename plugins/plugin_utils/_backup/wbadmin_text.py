# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""Reading what wbadmin prints, in whatever language Windows speaks.

Only what does not depend on a language is read: version ids, percentages, paths, GUIDs, names. Captions and sentences are
used where no number says it (online or offline, busy), as hints with an `unknown` beside them.

wbadmin writes in the OEM code page of the machine, which nothing tells us; so names are looked for in every code page, and
as the question marks that a code page without their characters makes of them. A name is never more than a confirmation:
which version is ours is proven by the event log, and a job names its VM by GUID.
Facts: backup-engines 1.5, 1.6, 1.7, 1.8.
"""

from __future__ import annotations

import re
from datetime import datetime, timezone

from .engine import Consistency

MAX_LINES_SHOWN = 6
MAX_SHOWN_CHARS = 400
MAX_LOG_PATHS = 10  # a run has two

_VERSION = re.compile(rb"(?<![0-9/])(\d{2}/\d{2}/\d{4}-\d{2}:\d{2})(?![0-9])")
_PERCENT = re.compile(rb"(?<![0-9])(\d{1,3})\s?%")
_LOG_PATH = re.compile(r"[A-Za-z]:\\[^\"<>|\r\n]{1,260}?\.log", re.IGNORECASE)
_MOMENT = re.compile(r"(\d{2})/(\d{2})/(\d{4})-(\d{2}):(\d{2})", re.ASCII)
_BUSY = re.compile(rb"another backup or recovery operation|weiterer? Sicherungs", re.IGNORECASE)
_SYNTAX = re.compile(rb"ERROR - Command syntax incorrect", re.IGNORECASE)
_CODE_PAGES = (
    "utf-8",
    "cp850",
    "cp437",
    "cp852",
    "cp1252",
    "cp1250",
    "cp866",
    "cp1251",
    "cp857",
    "cp737",
    "cp775",
    "cp932",
    "cp936",
    "cp949",
    "cp950",
)
# Captions of a VM's component, newer and older hosts (backup-engines 3.1); other languages give none of them.
_CAPTIONS: tuple[tuple[bytes, bytes, Consistency], ...] = (
    (b"", b" (Online)", "online"),
    (b"", b" (Offline)", "saved_state"),
    (b"Backup Using Child Partition Snapshot\\", b"", "online"),
    (b"Backup Using Saved State\\", b"", "saved_state"),
)
_BEFORE = rb"(?:^|(?<=[\s\"':=\\,;(]))"
_AFTER = rb"(?=$|[\s\"',;)(])"


def shown_text(data: bytes) -> str:
    """Output as text for people; characters of an unknown code page may look wrong."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", "replace")
    if data[:1] and data[1::2].count(0) > len(data) // 4:
        return data.decode("utf-16-le", "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp850", "replace")


def last_lines(data: bytes) -> str:
    """The last lines that are no progress, joined to one, for an error message."""
    lines = [" ".join(line.split()) for line in shown_text(data)[-65_536:].splitlines()]
    said = [line for line in lines if line and not _PERCENT.search(line.encode("utf-8", "replace"))]
    text = " / ".join(dict.fromkeys(said[-MAX_LINES_SHOWN:]))
    text = "".join(char if char.isprintable() else " " for char in text)
    return text if len(text) <= MAX_SHOWN_CHARS else "..." + text[-MAX_SHOWN_CHARS:]


def version_ids(data: bytes) -> tuple[str, ...]:
    """Version identifiers (`MM/DD/YYYY-HH:MM`, UTC), oldest first whatever the print order; "Backup time" is ignored."""
    found = {}
    for text in set(_VERSION.findall(_plain_bytes(data))):
        version = text.decode("ascii")
        moment = version_moment(version)
        if moment is not None:
            found[version] = moment
    return tuple(sorted(found, key=lambda version: found[version]))


def version_moment(version: str) -> datetime | None:
    """The minute that a version id names; None for text that is none."""
    match = _MOMENT.fullmatch(version)
    if match is None:
        return None
    month, day, year, hour, minute = (int(part) for part in match.groups())
    try:
        return datetime(year, month, day, hour, minute, tzinfo=timezone.utc)
    except ValueError:
        return None


def version_id(moment: datetime) -> str:
    """The version id of a backup that began at this time (backup-engines 1.5: UTC, whole minutes)."""
    return moment.astimezone(timezone.utc).strftime("%m/%d/%Y-%H:%M")


def percent(data: bytes) -> int | None:
    """The last percentage printed; None when there is none yet."""
    found = [int(text) for text in _PERCENT.findall(_plain_bytes(data)[-4096:])]
    usable = [number for number in found if number <= 100]
    return usable[-1] if usable else None


def log_paths(data: bytes) -> tuple[str, ...]:
    """Paths of log files that wbadmin names."""
    found = dict.fromkeys(match.strip() for match in _LOG_PATH.findall(shown_text(data)))
    return tuple(found)[:MAX_LOG_PATHS]


def says_busy(data: bytes) -> bool:
    """Whether the text is known to mean that another backup or recovery runs (English and German only)."""
    return bool(_BUSY.search(_plain_bytes(data)))


def says_syntax_error(data: bytes) -> bool:
    return bool(_SYNTAX.search(_plain_bytes(data)))


def lists_guid(data: bytes, guid: str) -> bool:
    """Whether a GUID stands in the text, with or without braces, in any case."""
    wanted = guid.strip().strip("{}").casefold().encode("ascii", "ignore")
    return len(wanted) == 36 and wanted in _plain_bytes(data).lower()


def lists_name(data: bytes, name: str) -> bool:
    """Whether a name stands in the text as a whole, not as part of a longer one, in some code page."""
    plain = _plain_bytes(data)
    return any(re.search(_BEFORE + re.escape(needle) + _AFTER, plain, re.MULTILINE) for needle in _encodings(name))


def lists_letter(data: bytes, letter: str) -> bool:
    """Whether a drive letter stands in the text as `E:`."""
    wanted = letter.strip().rstrip(":\\").upper()
    if not re.fullmatch("[A-Z]", wanted):
        return False
    return bool(re.search(rb"(?<![A-Za-z0-9])" + wanted.encode() + rb":(?![A-Za-z0-9])", _plain_bytes(data).upper()))


def consistency_of(data: bytes, vm_name: str) -> Consistency:
    """How the VM was backed up, by the caption in which its name is printed; `unknown` when no known caption is."""
    found: set[Consistency] = set()
    plain = _plain_bytes(data)
    for needle in _encodings(vm_name):
        for before, after, meaning in _CAPTIONS:
            start = _BEFORE if not before else b""
            pattern = start + re.escape(before + needle + after) + rb"(?! \((?:Online|Offline)\))"
            if re.search(pattern + (_AFTER if not after else b""), plain, re.MULTILINE):
                found.add(meaning)
    return found.pop() if len(found) == 1 else "unknown"


def _encodings(text: str) -> list[bytes]:
    """The bytes that a name can be printed as; in a code page that lacks its characters these are question marks."""
    found = []
    for code_page in _CODE_PAGES:
        try:
            found.append(text.encode(code_page))
        except UnicodeEncodeError:
            found.append(text.encode(code_page, "replace"))
    return [needle for needle in dict.fromkeys(found) if needle]


def _plain_bytes(data: bytes) -> bytes:
    """UTF-16 output as UTF-8; other output as it is, since its code page is not known."""
    if b"\x00" not in data:
        return data
    return shown_text(data).replace("\x00", "").encode("utf-8", "replace")
