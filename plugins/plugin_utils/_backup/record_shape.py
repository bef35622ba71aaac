# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""The shape of what a backup set records of a VM and its disks, which are mappings as the tasks gave them.

Responsible for: refusing a damaged record when it is read, so that nobody who walks through it has to ask at each step. Not
responsible for: which fields there are (`disk_info`, `guest_disk_info`, `coverage.py`), or for the fields of a set itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_mapping(value: object) -> bool:
    return isinstance(value, Mapping)


def _is_list_of_mappings(value: object) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(one, Mapping) for one in value)


#: Wherever the name stands; null is always allowed.
_SHAPES: Mapping[str, Callable[[object], bool]] = {
    **dict.fromkeys(("slot", "evidence", "iscsi", "configuration", "root_listing"), _is_mapping),
    **dict.fromkeys(
        ("volumes", "partitions", "portals", "network_adapters", "fibre_channel_ports", "sentinels"),
        _is_list_of_mappings,
    ),
    **dict.fromkeys(("unique_id", "kind", "coverage", "slot_text"), _is_text),
}


def check_shape(value: object) -> None:
    """Raises: TypeError, for a value that nobody could walk through; its nesting has to be limited before."""
    if isinstance(value, Mapping):
        for key, one in value.items():
            fits = _SHAPES.get(key)
            if one is not None and fits is not None and not fits(one):
                raise TypeError(f"{key} is a {type(one).__name__}")
            check_shape(one)
    elif isinstance(value, (list, tuple)):
        for one in value:
            check_shape(one)


def check_disk(row: Mapping[str, object]) -> None:
    """As `check_shape`, for one of a set's disks: what the host and the guest saw of it."""
    check_shape(row)
    evidence = row.get("evidence")
    for side in ("host", "guest"):
        if isinstance(evidence, Mapping) and not isinstance(evidence.get(side), (Mapping, type(None))):
            raise TypeError(f"evidence of the {side} is a {type(evidence[side]).__name__}")
