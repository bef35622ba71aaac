# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this file is private to the hyperv.passthrough collection and may change without notice.
"""Identities that a filter gets from a playbook: always text, one or several.

Responsible for: refusing what YAML turned into a number, and splitting the one text that `-e name=a,b` makes of a list. Not
responsible for: tasks, whose options `_task.py` checks, and what an identity means.
"""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError


def texts(value: t.Any, name: str) -> list[str]:
    """A list of texts. A role's argument spec lets one text with commas pass for a list but hands it on as it is.

    Raises: AnsibleFilterError for what is no text.
    """
    if value is None:
        return []
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return [text(item, name) for item in value]


def text(value: t.Any, name: str) -> str:
    if not isinstance(value, str):
        raise AnsibleFilterError(
            f"{name} holds {value} without quotes, which YAML reads as a number and may rewrite, but an identity must be text; "
            f'quote it: "{value}"'
        )
    return value


def text_map(value: t.Any, name: str) -> dict[str, str]:
    """A mapping of texts to texts."""
    if not value:
        return {}
    if not isinstance(value, dict):
        raise AnsibleFilterError(f"{name} must be a mapping of texts to texts")
    return {text(key, name): text(item, name) for key, item in value.items()}
