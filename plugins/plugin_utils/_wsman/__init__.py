# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""WS-Management and CIM without sockets (public names)."""

from __future__ import annotations

from .cim import (
    NEVER,
    CimClass,
    CimInstance,
    CimMethod,
    CimParameter,
    CimPath,
    CimProperty,
    Schema,
    Value,
)

__all__ = [
    "NEVER",
    "CimClass",
    "CimInstance",
    "CimMethod",
    "CimParameter",
    "CimPath",
    "CimProperty",
    "Schema",
    "Value",
]
