# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The register of everything the simulator does that no source proves.

Each guess is declared once, beside the code that acts on it, with the values that the facts leave open. A world holds
the chosen value of each (`world.assume(identifier)`); `python -m simulator --assumed` prints the register. This file
decides nothing about behaviour itself.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Assumption:
    """One unproven behaviour: what it is about, where the facts speak of it, the values it may have."""

    identifier: str
    text: str
    source: str
    values: tuple[str, ...]
    default: str


_REGISTER: dict[str, Assumption] = {}


def assumed(
    identifier: str, text: str, *, source: str, values: Iterable[str] = ("yes",), default: str = ""
) -> Assumption:
    """Declare a guess; the first of `values` is the default unless `default` names another."""
    choices = tuple(values)
    entry = Assumption(identifier=identifier, text=text, source=source, values=choices, default=default or choices[0])
    if entry.default not in entry.values:
        raise ValueError(f"assumption {identifier}: the default {entry.default!r} is none of {choices}")
    if _REGISTER.setdefault(identifier, entry) != entry:
        raise ValueError(f"assumption {identifier} is declared twice with different contents")
    return entry


def register() -> dict[str, Assumption]:
    """All declared assumptions by identifier; complete only when every module of the package was imported."""
    return dict(sorted(_REGISTER.items()))


class Switches:
    """The chosen values of one world: `switches[identifier]`; what was not chosen has its default.

    `choose` accepts an identifier that is not declared yet (its module may be imported later); reading checks it.
    """

    def __init__(self, chosen: Mapping[str, str] | None = None) -> None:
        self._chosen = dict(chosen or {})

    def __getitem__(self, identifier: str) -> str:
        entry = _REGISTER.get(identifier)
        if entry is None:
            raise KeyError(f"no assumption is called {identifier!r}; `python -m simulator --assumed` lists them")
        value = self._chosen.get(identifier, entry.default)
        if value not in entry.values:
            raise ValueError(f"switch {identifier}: {value!r} is none of {', '.join(entry.values)}")
        return value

    def choose(self, identifier: str, value: str) -> None:
        entry = _REGISTER.get(identifier)
        if entry is not None and value not in entry.values:
            raise ValueError(f"switch {identifier}: {value!r} is none of {', '.join(entry.values)}")
        self._chosen[identifier] = value

    def values(self) -> dict[str, str]:
        """Every declared assumption with the value in force."""
        return {identifier: self[identifier] for identifier in register()}


def import_everything() -> None:
    """Import every module of the package, so that all assumptions, views and methods are registered."""
    here = Path(__file__).parent
    package = str(__package__)
    for path in sorted(here.rglob("*.py")):
        parts = path.relative_to(here).with_suffix("").parts
        if parts[-1] in ("__main__", "__init__") or parts[0] == "schema_data":
            continue
        importlib.import_module(".".join((package, *parts)))


def used_in(identifier: str) -> list[str]:
    """The modules of the package whose text names the identifier."""
    here = Path(__file__).parent
    files = sorted(here.rglob("*.py"))
    return [str(path.relative_to(here)) for path in files if f'"{identifier}"' in path.read_text(encoding="utf-8")]
