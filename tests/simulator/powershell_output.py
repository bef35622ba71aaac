# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How PowerShell 5.1 shows values: lines on the console, JSON, and the CLIXML of standard error.

Objects are shown one by one, as a table up to four properties and as a list beyond. Source: about_Format.ps1xml, the
documentation of ConvertTo-Json and its output in 5.1 (JavaScriptSerializer's escapes, its own indentation).
"""

from __future__ import annotations

import json
import re
from datetime import datetime, timezone
from typing import Any
from xml.sax.saxutils import escape

from .powershell_values import (
    Array,
    CustomObject,
    DictionaryEntry,
    Enum,
    ErrorRecord,
    GenericList,
    Hashtable,
    NetException,
    float_text,
    int_number,
    is_number,
    number_text,
    runtime_error,
    to_text,
    type_of,
)


def lines_of(ps: Any, value: Any) -> list[str]:
    """What Out-Default writes for one value."""
    if value is None:
        return []
    if isinstance(value, CustomObject):
        return _object_lines(value.pairs())
    if isinstance(value, Hashtable | DictionaryEntry):
        pairs = value.items() if isinstance(value, Hashtable) else [(value.key, value.value)]
        rows = [f"{to_text(key):<30} {to_text(one)}" for key, one in pairs]
        return ["", f"{'Name':<30} Value", f"{'----':<30} -----", *rows, "", ""]
    if isinstance(value, ErrorRecord):
        return str(ps.error_text(value)).split("\n")
    if isinstance(value, NetException):
        return [value.text]
    if isinstance(value, datetime):
        return ["", value.strftime("%A, %B %d, %Y %I:%M:%S %p"), "", ""]
    return to_text(value).replace("\r\n", "\n").split("\n")


def _object_lines(pairs: list[tuple[str, Any]]) -> list[str]:
    shown = [
        (name, to_text(value) if not isinstance(value, Array) else "{" + ", ".join(map(to_text, value)) + "}")
        for name, value in pairs
    ]
    if len(shown) > 4:
        width = max(len(name) for name, _value in shown)
        return ["", "", *(f"{name:<{width}} : {value}" for name, value in shown), "", "", ""]
    widths = [max(len(name), len(value)) for name, value in shown]
    right = [is_number(value) for _name, value in pairs]
    rows = [[name for name, _v in shown], ["-" * len(name) for name, _v in shown], [value for _n, value in shown]]
    text = [
        " ".join(cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(row, widths, right, strict=True)).rstrip()
        for row in rows
    ]
    return ["", *text, "", ""]


# -- JSON ------------------------------------------------------------------------------------------------------------------

_JSON_ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def _json_text(text: str) -> str:
    def one(letter: str) -> str:
        if letter in _JSON_ESCAPES:
            return _JSON_ESCAPES[letter]
        return f"\\u{ord(letter):04x}" if ord(letter) < 32 or letter in "<>'&\x85\u2028\u2029" else letter

    return '"' + "".join(one(letter) for letter in text) + '"'


def to_json(value: Any, depth: int, *, compress: bool, indent: int = 0) -> str:
    """ConvertTo-Json of Windows PowerShell 5.1."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Enum):
        return str(value.value)
    if is_number(value):
        if isinstance(value, float):
            text = float_text(value)
            return text if re.search(r"[.EN∞]", text) else f"{text}.0" if value == int(value) else text
        return number_text(value)
    if isinstance(value, str):
        return _json_text(str(value))
    if isinstance(value, datetime):
        moment = value if value.tzinfo else value.replace(tzinfo=timezone.utc)
        return f'"\\/Date({int(moment.timestamp() * 1000)})\\/"'
    if depth < 0:
        return _json_text(to_text(value))
    if isinstance(value, Array | GenericList):
        if not len(value):
            return "[]" if compress else "[\n\n" + " " * indent + "]"
        inner = [to_json(one, depth - 1, compress=compress, indent=indent + 4) for one in value]
        if compress:
            return "[" + ",".join(inner) + "]"
        pad = " " * (indent + 4)
        return "[\n" + ",\n".join(pad + one for one in inner) + "\n" + " " * indent + "]"
    pairs = _pairs(value)
    if compress:
        return "{" + ",".join(f"{_json_text(n)}:{to_json(v, depth - 1, compress=True)}" for n, v in pairs) + "}"
    if not pairs:
        return "{\n\n" + " " * indent + "}"
    pad = " " * (indent + 4)
    rows = []
    for name, one in pairs:
        head = f"{pad}{_json_text(name)}:  "
        rows.append(head + to_json(one, depth - 1, compress=False, indent=len(head)))
    return "{\n" + ",\n".join(rows) + "\n" + " " * indent + "}"


def _pairs(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Hashtable):
        return [(to_text(key), one) for key, one in value.items()]
    if isinstance(value, CustomObject):
        return value.pairs()
    raise runtime_error("NotSimulated", f"The simulator does not turn a {type_of(value)} into JSON.")


def from_json(text: str) -> Any:
    try:
        return _from(json.loads(text))
    except (ValueError, RecursionError) as problem:
        raise runtime_error(
            "System.ArgumentException", f"Invalid JSON primitive: {text[:40]}.", kind="System.ArgumentException"
        ) from problem


def _from(value: Any) -> Any:
    if isinstance(value, dict):
        return CustomObject([(name, _from(one)) for name, one in value.items()])
    if isinstance(value, list):
        return Array([_from(one) for one in value])
    if isinstance(value, int) and not isinstance(value, bool):
        return int_number(value)
    return value


# -- CLIXML ------------------------------------------------------------------------------------------------------------------


def clixml_errors(texts: list[str]) -> str:
    """Standard error of `powershell -EncodedCommand` whose error stream is redirected: one <S> per line."""
    rows = []
    for text in texts:
        for line in text.split("\n"):
            plain = "".join(f"_x{ord(c):04X}_" if ord(c) < 32 else c for c in line + "\r\n")
            rows.append(f'<S S="Error">{escape(plain)}</S>')
    body = "".join(rows)
    return f'#< CLIXML\r\n<Objs Version="1.1.0.1" xmlns="http://schemas.microsoft.com/powershell/2004/04">{body}</Objs>'


__all__ = ["clixml_errors", "from_json", "lines_of", "to_json"]
