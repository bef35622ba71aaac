# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What statements and commands of a PowerShell script share: scopes with their variables, and ways to leave a block."""

from __future__ import annotations

from collections.abc import Callable, Generator  # pylint: disable=unused-import
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from . import powershell_language as tree
from .processes import Wait  # pylint: disable=unused-import

Step: TypeAlias = "Generator[Wait, None, None]"
Emit: TypeAlias = "Callable[[Any], None]"


class Flow(Exception):
    """break, continue, return and exit on their way out."""

    def __init__(self, keyword: str, label: str = "", code: int = 0) -> None:
        super().__init__(keyword)
        self.keyword = keyword
        self.label = label
        self.code = code


@dataclass
class Slot:
    value: Any
    type_name: str = ""


@dataclass
class Scope:
    parent: Scope | None = None
    variables: dict[str, Slot] = field(default_factory=dict)
    functions: dict[str, tree.FunctionDefinition] = field(default_factory=dict)

    def find(self, name: str) -> Slot | None:
        scope: Scope | None = self
        while scope is not None:
            slot = scope.variables.get(name)
            if slot is not None:
                return slot
            scope = scope.parent
        return None

    def root(self) -> Scope:
        return self.parent.root() if self.parent else self
