# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Managed Kerberos as far as it goes without a KDC: who calls kinit, with what, and what a failure says.

Tickets, SPNs, sealing with a Kerberos session key and delegation are not tested anywhere: they need a domain controller, which the
simulator is not, and pykerberos, which has no wheel.
"""

from __future__ import annotations

import itertools
import os
import re
import stat
from pathlib import Path
from typing import Any

import pytest
from ansible.playbook.play_context import PlayContext
from ansible.plugins.loader import connection_loader

from ansible_collections.hyperv.passthrough.plugins.plugin_utils._channel import (
    Channel,
    ConnectionRefused,
    open_channel,
)
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._wsman import AuthenticationFailed, RequestNotSent

PASSWORD = "S3cret-Of-The-Domain"
PRINCIPAL = "backup@EXAMPLE.COM"
_NUMBERS = itertools.count(1)


class Kinit:
    """A kinit that writes down how it was called, then answers as told."""

    def __init__(self, folder: Path, status: int = 0) -> None:
        self._folder = folder
        self.path = folder / "kinit"
        self.path.write_text(
            f'#!/bin/sh\nprintf \'%s\\n\' "$0" "$@" >> {folder}/arguments\ncat > {folder}/input\n'
            f"env > {folder}/environment\necho 'kinit: Preauthentication failed while getting initial credentials' >&2\n"
            f"exit {status}\n"
        )
        self.path.chmod(self.path.stat().st_mode | stat.S_IXUSR)

    @property
    def was_called(self) -> bool:
        return (self._folder / "arguments").exists()

    def read(self, name: str) -> str:
        return (self._folder / name).read_text()


@pytest.fixture(autouse=True)
def _credential_cache_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KRB5CCNAME", "FILE:/nonexistent")  # the connection plugin sets it for good


def channel(**variables: Any) -> Channel:
    connection = connection_loader.get("winrm", PlayContext(), os.devnull)
    options = {
        "ansible_host": f"hv{next(_NUMBERS)}.example.com",  # channels are kept, and each test wants its own
        "ansible_port": 5985,
        "ansible_winrm_scheme": "http",
        "ansible_winrm_transport": "kerberos",
        "ansible_user": PRINCIPAL,
        "ansible_password": PASSWORD,
        "_extras": {},
        **variables,
    }
    connection.set_options(var_options=options)
    return open_channel(connection, target="hv01")


def test_a_ticket_is_got_by_the_operators_own_kinit_and_the_password_goes_through_its_input_only(
    tmp_path: Path,
) -> None:
    kinit = Kinit(tmp_path)
    with pytest.raises(AuthenticationFailed) as caught:  # the ticket is there, but nobody to use it with
        channel(ansible_winrm_kinit_cmd=str(kinit.path)).send(b"<envelope/>")
    assert PRINCIPAL in kinit.read("arguments").splitlines()
    assert kinit.read("input").strip() == PASSWORD
    for place in ("arguments", "environment"):
        assert PASSWORD not in kinit.read(place)
    assert "KRB5CCNAME=FILE:" in kinit.read("environment")
    assert PASSWORD not in str(caught.value)


def test_a_kinit_that_fails_is_an_authentication_failure_without_the_password(tmp_path: Path) -> None:
    kinit = Kinit(tmp_path, status=1)
    with pytest.raises(AuthenticationFailed, match=re.escape(f"no Kerberos ticket for {PRINCIPAL}")) as caught:
        channel(ansible_winrm_kinit_cmd=str(kinit.path)).send(b"<envelope/>")
    assert caught.value.kind == "authentication"
    assert "Preauthentication failed" in str(caught.value)
    assert PASSWORD not in str(caught.value)


def test_a_kinit_that_is_missing_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "no-such-kinit"
    with pytest.raises(AuthenticationFailed, match="no-such-kinit"):
        channel(ansible_winrm_kinit_cmd=str(missing)).send(b"<envelope/>")


def test_with_manual_tickets_kinit_is_left_alone(tmp_path: Path) -> None:
    kinit = Kinit(tmp_path)
    with pytest.raises(AuthenticationFailed):
        channel(ansible_winrm_kinit_cmd=str(kinit.path), ansible_winrm_kinit_mode="manual").send(b"<envelope/>")
    assert not kinit.was_called


def test_other_transports_never_call_kinit(tmp_path: Path) -> None:
    kinit = Kinit(tmp_path)
    refused = {"ansible_host": "127.0.0.1", "ansible_port": 1, "ansible_winrm_transport": "ntlm"}
    with pytest.raises(RequestNotSent, match="cannot be reached"):
        channel(ansible_winrm_kinit_cmd=str(kinit.path), **refused).send(b"<envelope/>")
    assert not kinit.was_called


def test_kerberos_over_http_without_message_encryption_is_refused() -> None:
    with pytest.raises(ConnectionRefused, match="message_encryption"):
        channel(_extras={"ansible_winrm_message_encryption": "never"})
