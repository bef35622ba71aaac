# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Authentication of one TCP connection: NTLM and Negotiate with message encryption, Basic, client certificates.

Facts: wsman 8. The NTLM mathematics is pyspnego's; this file finds the account, feeds the acceptor and frames sealed
messages as MS-WSMV 2.2.9.1 says. It opens no socket and knows no CIM.
"""

from __future__ import annotations

import base64
import os
import re
import struct
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import spnego
from spnego._ntlm_raw.crypto import lmowfv1, ntowfv1
from spnego.exceptions import SpnegoError

from .assumed import assumed
from .door_memory import caller_of
from .service import Caller

assumed(
    "ntlm-domain",
    "Any domain part is taken for the local account of that name.",
    source="behaviour of workgroup hosts, from memory",
)

BOUNDARY = "Encrypted Boundary"
SPNEGO_PROTOCOL = "application/HTTP-SPNEGO-session-encrypted"
MUTUAL = "http://schemas.dmtf.org/wbem/wsman/1/wsman/secprofile/https/mutual"
_SIGNATURE = b"NTLMSSP\x00"
_STORE_VARIABLE = "NTLM_USER_FILE"
# Always there (empty means none): other threads may walk through the environment, which must not grow or shrink meanwhile.
os.environ.setdefault(_STORE_VARIABLE, "")
_PROCESS_LOCK = threading.Lock()


class Rejected(Exception):
    """The credentials are not good: the answer is 401."""


class Undecipherable(Exception):
    """A sealed message without a context, or one that does not unseal: the answer is 400."""


def account_of(machine: Any, user: str) -> str | None:
    """The machine's account that a user name as sent (`user`, `DOMAIN\\user`, `user@domain`) means."""
    for name in (user, user.rpartition("\\")[2], user.partition("@")[0]):
        for known, entry in machine.accounts.items():
            if known.lower() == name.lower() and not getattr(entry, "disabled", False):
                return str(known)
    return None


def check_basic(machine: Any, value: str) -> Caller:
    """The caller of a Basic Authorization value."""
    try:
        user, colon, password = base64.b64decode(value, validate=True).decode("utf-8").partition(":")
    except ValueError:
        raise Rejected from None
    account = account_of(machine, user)
    if not colon or account is None or machine.accounts[account].password != password:
        raise Rejected
    return caller_of(machine, account)


class NtlmSession:
    """The acceptor side of one connection. `step` runs the handshake, `unseal` and `seal` carry messages after it."""

    def __init__(self, machine: Any) -> None:
        self._machine = machine
        self._context: Any = None
        self.caller: Caller | None = None

    def step(self, token: bytes) -> bytes:
        """The next token for the client, b"" when there is none; `caller` is set once the handshake is complete."""
        account = None
        message = token.find(_SIGNATURE)
        kind = int.from_bytes(token[message + 8 : message + 12], "little") if message >= 0 else 0
        domain = user = ""
        if kind == 3:
            domain, user = _names(token[message:])
            account = account_of(self._machine, user)
            if account is None:
                raise Rejected
        try:
            with self._store(domain, user, account):
                if self._context is None or kind == 1:
                    raw = token.startswith(_SIGNATURE)
                    options = spnego.NegotiateOptions.use_ntlm if raw else spnego.NegotiateOptions.use_negotiate
                    self.caller = None
                    self._context = spnego.server(protocol="ntlm" if raw else "negotiate", options=options)
                answer = self._context.step(token) or b""
        except (SpnegoError, ValueError, struct.error, KeyError):
            self._context = None
            raise Rejected from None
        if self._context.complete:
            if account is None:
                raise Rejected
            self.caller = caller_of(self._machine, account)
        return bytes(answer)

    @contextmanager
    def _store(self, domain: str, user: str, account: str | None) -> Iterator[None]:
        """pyspnego reads accounts from the file that an environment variable names, so one step runs at a time."""
        password = self._machine.accounts[account].password if account else ""
        name = f"{domain}\\{user}" if domain else user
        line = f"{name}:0:{lmowfv1(password).hex().upper()}:{ntowfv1(password).hex().upper()}:[U]:LCT-0\n"
        with _PROCESS_LOCK, tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "accounts"
            path.write_text(line, encoding="utf-8")
            before = os.environ[_STORE_VARIABLE]
            os.environ[_STORE_VARIABLE] = str(path)
            try:
                yield
            finally:
                os.environ[_STORE_VARIABLE] = before

    def unseal(self, content_type: str, body: bytes) -> bytes:
        """The message inside a multipart/encrypted body; Undecipherable when there is none for this connection."""
        if self._context is None or self.caller is None:
            raise Undecipherable
        found = re.search(r'boundary="?([^";]+)"?', content_type)
        if found is None:
            raise Undecipherable
        boundary = re.escape(found[1].strip()).encode()
        head = re.match(
            rb"--\s*" + boundary + rb"\r\n(?P<header>.*?)--\s*" + boundary + rb"\r\n"
            rb"[ \t]*Content-Type:[ \t]*application/octet-stream\r\n",
            body,
            re.DOTALL | re.IGNORECASE,
        )
        tail = re.search(rb"--\s*" + boundary + rb"--(?:\r\n)?$", body)
        if head is None or tail is None or b"session-encrypted" not in head["header"]:
            raise Undecipherable
        length = re.search(rb"Length=(\d+)", head["header"])
        sealed = body[head.end() : tail.start()]
        if length is None or len(sealed) < 4:
            raise Undecipherable
        size = struct.unpack("<I", sealed[:4])[0]
        if size > len(sealed) - 4:
            raise Undecipherable
        try:
            data = bytes(self._context.unwrap_winrm(sealed[4 : 4 + size], sealed[4 + size :]))
        except (SpnegoError, ValueError, struct.error):
            raise Undecipherable from None
        if len(data) != int(length[1]):
            raise Undecipherable
        return data

    def seal(self, data: bytes) -> tuple[str, bytes]:
        """(content type, body) of a sealed answer."""
        wrapped = self._context.wrap_winrm(data)
        head = (
            f"--{BOUNDARY}\r\n\tContent-Type: {SPNEGO_PROTOCOL}\r\n"
            f"\tOriginalContent: type=application/soap+xml;charset=UTF-8;Length={len(data) + wrapped.padding_length}\r\n"
            f"--{BOUNDARY}\r\n\tContent-Type: application/octet-stream\r\n"
        ).encode()
        body = head + struct.pack("<I", len(wrapped.header)) + wrapped.header + wrapped.data
        content_type = f'multipart/encrypted;protocol="{SPNEGO_PROTOCOL}";boundary="{BOUNDARY}"'
        return content_type, body + f"--{BOUNDARY}--\r\n".encode()


def _names(message: bytes) -> tuple[str, str]:
    """(domain, user) of an NTLM AUTHENTICATE message."""

    def text(at: int) -> str:
        length, _unused, offset = struct.unpack("<HHI", message[at : at + 8])
        return message[offset : offset + length].decode("utf-16-le" if flags & 1 else "cp1252", "replace")

    if len(message) < 64:
        raise Rejected
    flags = struct.unpack("<I", message[60:64])[0]
    return text(28), text(36)
