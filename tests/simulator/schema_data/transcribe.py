# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Transcribes the fact file cim-classes.json into the simulator's own schema files, one per namespace.

Run by hand when the fact file changes: `python tests/simulator/schema_data/transcribe.py path/to/cim-classes.json`.
It writes the namespace files beside itself and nothing else. Keys, corrections and classes that the fact file lacks
are not its business: they are written by hand in keys.json, corrections.json and additions.json.

One class per line, types in one word:

    string, uint16, datetime, ...   scalars         uint16[]                    arrays
    ref:CIM_Job                     a reference     object:MSFT_Volume          an embedded object
    any trailing ?                  the width is a guess (an enumeration whose width the live schema does not tell)
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SCALARS = {
    "boolean", "string", "datetime", "char16", "real32", "real64",
    "uint8", "uint16", "uint32", "uint64", "sint8", "sint16", "sint32", "sint64",
}  # fmt: skip


def type_word(text: str) -> str:
    """`CIM_Job REF[]` -> `ref:CIM_Job[]`, `object:X` -> `object:X`, a bare class name -> `object:Name`."""
    array = "[]" if text.endswith("[]") else ""
    text = text.removesuffix("[]")
    if text == "string REF":  # a documentation slip: an out string
        return "string" + array
    if text.endswith(" REF"):
        return f"ref:{text.removesuffix(' REF')}{array}"
    if text.startswith("object:"):
        return text + array
    if text.rstrip("?").lower() in SCALARS:
        return text.lower().removesuffix("?") + array + ("?" if text.endswith("?") else "")
    return f"object:{text}{array}"


def transcribe_class(fact: dict[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {"base": fact["base"]}
    values: dict[str, dict[str, str]] = {}
    properties: dict[str, str] = {}
    for name, kind in fact.get("properties", {}).items():
        properties[name] = type_word(kind["type"] if isinstance(kind, dict) else kind)
        if isinstance(kind, dict) and kind.get("values"):
            values[name] = kind["values"]
    out["properties"] = properties
    if values:
        out["values"] = values
    methods: dict[str, Any] = {}
    for name, fact_method in fact.get("methods", {}).items():
        rows = [
            f"{way.replace(' ', '-')} {parameter} {type_word(kind)}" for way, parameter, kind in fact_method["params"]
        ]
        methods[name] = {"parameters": rows}
        if fact_method.get("returns"):
            methods[name]["returns"] = dict(sorted(fact_method["returns"].items(), key=lambda item: _number(item[0])))
    if methods:
        out["methods"] = methods
    return out


def _number(text: str) -> tuple[int, str]:
    head = text.split("-", maxsplit=1)[0].split(".", maxsplit=1)[0]
    return (int(head), text) if head.isdigit() else (1 << 40, text)


def main(source: Path) -> None:
    facts = json.loads(source.read_text(encoding="utf-8"))
    for namespace, classes in facts.items():
        if not isinstance(classes, dict):
            continue
        lines = [
            json.dumps(name) + ": " + json.dumps(transcribe_class(fact), separators=(",", ":"), ensure_ascii=True)
            for name, fact in classes.items()
        ]
        text = (
            "{\n"
            + f'"namespace": {json.dumps(namespace.lower())},\n'
            + '"source": "cim-classes: live Server 2019 schema (presence, arrays), public reference (types, codes)",\n'
            + '"classes": {\n'
            + ",\n".join(lines)
            + "\n}\n}\n"
        )
        (HERE / (namespace.lower().replace("/", ".") + ".json")).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
