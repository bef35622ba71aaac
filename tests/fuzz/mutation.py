# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Damages bytes, deterministically by the dice it is given.

Responsible for: what is done to a text, a JSON value or an answer. Not responsible for: which reader gets it (`readers.py`).
"""

from __future__ import annotations

import json
import random
from typing import Any

MAX_BYTES = 2_000_000

#: What hurts readers: numbers at and beyond limits, nesting, entities, characters that are none, other scripts, other types.
PIECES: tuple[bytes, ...] = (
    *(b"", b"\0", b"\xff", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\r\n", b" " * 200),
    *(
        b"0",
        b"-1",
        b"1e999",
        b"NaN",
        b"4294967295",
        b"18446744073709551616",
        b"9" * 5000,
        b"0x" + b"f" * 40,
        b"1_0",
        b"007",
    ),
    *(
        b"<",
        b">",
        b"</p:x>",
        b"<a/>",
        b"<a>" * 70,
        b"&#0;",
        b"&#x110000;",
        b"&amp;lt;",
        b"&undefined;",
        b"]]>",
        b"<![CDATA[",
    ),
    *(
        b"<!DOCTYPE x>",
        b"<!ENTITY a 'b'>",
        b"<?xml version='1.0' encoding='utf-7'?>",
        b"xsi:nil='true'",
        b" a='1' a='2'",
    ),
    *(b"{", b"}", b"[" * 2000, b'{"a":' * 500, b'"', b"\\", b'"\\ud800"', b"null", b"true", b"[]", b"{}", b'""'),
    *(
        "١٢٣".encode(),
        "Größe 東京".encode(),
        "İſß".encode(),
        "\u202e\u200b".encode(),
        b"..\\..\\",
        b"C:\\" * 50,
        b"%s%n{}{0}",
    ),
    *(b"00000000000000.000000+***", b"99991231235959.999999+999", b"2026-02-30T25:61:61Z", b"06/31/2026-25:61", b"P1Y"),
    *(b"<Event>", b"</Event>", b"<Event ", b"=" * 100, b"(Online) ", b"100 %", b"--Encrypted Boundary\r\n"),
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, 10**30, 1e300, 1.5, "", " ", "x", "\ud800", "\0", "9" * 400),
    *(
        [],
        {},
        [None],
        [[]],
        {"": None},
        {"a": {"b": []}},
        "A" * 3000,
        "\\\\?\\Volume{0}\\",
        "..",
        "2026-01-01T00:00:00.000000Z",
    ),
)


def damaged(data: bytes, dice: random.Random) -> bytes:
    """Bytes with a few pieces cut out, doubled, swapped, overwritten or repeated many times."""
    text = bytearray(data)
    for _unused in range(dice.choice((1, 1, 2, 3, 5))):
        start = dice.randrange(len(text) + 1)
        end = min(len(text), start + dice.choice((0, 1, 1, 4, 40, 400)))
        kind = dice.randrange(8)
        if kind == 0:
            del text[start:end]
        elif kind == 1:
            text[start:start] = text[start:end] * dice.choice((1, 2, 50))
        elif kind == 2:
            other = dice.randrange(len(text) + 1)
            text[start:end] = text[other : other + dice.choice((1, 10, 100))]
        elif kind == 3 and text:
            place = min(start, len(text) - 1)
            text[place] ^= 1 << dice.randrange(8)
        elif kind == 4:
            text[start:end] = dice.randbytes(dice.choice((1, 2, 8, 64)))
        elif kind == 5:
            del text[start:]
        else:
            text[start:end] = dice.choice(PIECES) * dice.choice((1, 1, 1, 3, 100))
        del text[MAX_BYTES:]
    return bytes(text)


def nonsense(dice: random.Random) -> bytes:
    """Bytes out of nothing."""
    if dice.random() < 0.3:
        return dice.randbytes(dice.choice((0, 1, 2, 16, 300)))
    return b"".join(dice.choice(PIECES) for _unused in range(dice.choice((1, 3, 10))))


def repeated(data: bytes, dice: random.Random) -> bytes:
    """One piece of the text, or of what hurts, up to a size at which anything worse than linear is noticed."""
    start = dice.randrange(len(data) + 1)
    piece = dice.choice((data[start : start + dice.choice((1, 3, 10, 60))], dice.choice(PIECES[1:]))) or b"a"
    size = dice.choice((50_000, 300_000, MAX_BYTES))
    head, tail = dice.choice(((b"", b""), (data[:start], b""), (data[:start], data[start:])))
    return head + piece * (size // len(piece)) + tail


def any_bytes(seed: bytes, dice: random.Random) -> bytes:
    kind = dice.random()
    if kind < 0.1:
        return nonsense(dice)
    if kind < 0.16:
        return repeated(seed, dice)
    return damaged(seed, dice)


def other_json(value: Any, dice: random.Random) -> Any:
    """JSON of the same shape in which a few places hold something else, are missing or are there twice."""
    value = json.loads(json.dumps(value))
    for _unused in range(dice.choice((1, 1, 2, 4))):
        places = list(_places(value))
        if not places:
            return dice.choice(VALUES)
        holder, key = dice.choice(places)
        kind = dice.randrange(5)
        if kind == 0:
            del holder[key]
        elif kind == 1 and isinstance(holder, list):
            holder.append(holder[key])
        elif kind == 2:
            other, name = dice.choice(places)
            if isinstance(other, list) == isinstance(name, int) and (
                name in other if isinstance(other, dict) else name < len(other)
            ):
                holder[key] = json.loads(json.dumps(other[name]))
        elif kind == 3 and isinstance(holder[key], str) and holder[key]:
            holder[key] = damaged(holder[key].encode("utf-8", "replace"), dice)[:5000].decode("utf-8", "replace")
        else:
            holder[key] = dice.choice(VALUES)
    return value


def _places(value: Any) -> Any:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in list(inside):
        yield value, key
        yield from _places(one)
