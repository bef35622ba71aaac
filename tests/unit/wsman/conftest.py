# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the WS-Management tests."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ansible_collections.hyperv.passthrough.plugins.plugin_utils._wsman import Schema, WsmanClient
from unit.wsman.scripted_host import ScriptedHost, ids, make_schema


@pytest.fixture(scope="session")
def schema() -> Schema:
    return make_schema()


@pytest.fixture(scope="session")
def recordings() -> Path:
    """The folder of recorded answers of real hosts, which is not part of the repository."""
    place = os.environ.get("HYPERV_PASSTHROUGH_RECORDINGS", "")
    if not place or not Path(place).is_dir():
        pytest.skip("no recordings of real hosts here: HYPERV_PASSTHROUGH_RECORDINGS does not name their folder")
    return Path(place)


@pytest.fixture
def play(schema: Schema) -> Callable[..., tuple[WsmanClient, ScriptedHost]]:
    """``play("enumerate_complete", ...)`` -> a client and the host that will answer it so."""

    def start(*script: str | bytes | Exception) -> tuple[WsmanClient, ScriptedHost]:
        host = ScriptedHost(*script)
        return WsmanClient(host.send, schema=schema, new_id=ids()), host

    return start
