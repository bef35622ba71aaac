# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A TCP relay in front of a machine's HTTP door: what a client really put on the wire, and over how many connections.

Responsible for: relaying bytes both ways, counting, keeping what the client sent. Not responsible for: HTTP, or faults (the
simulator's rules make those).
"""

from __future__ import annotations

import contextlib
import socket
import threading

#: How an NTLM AUTHENTICATE message begins in an Authorization header: one of these is one logon attempt.
NTLM_LOGON = b"TlRMTVNTUAADAAAA"


class WireTap:
    """Listens on a free port of the door's own address. Use as a context manager."""

    def __init__(self, address: str, port: int) -> None:
        self._door = (address, port)
        self._listener = socket.create_server((address, 0))
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self._sent: list[bytes] = []
        self._lock = threading.Lock()

    @property
    def sent(self) -> bytes:
        """Everything that clients sent so far."""
        with self._lock:
            return b"".join(self._sent)

    @property
    def logons(self) -> int:
        return self.sent.count(NTLM_LOGON)

    def __enter__(self) -> WireTap:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_unused: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the listener was closed
            while True:
                client, _unused = self._listener.accept()
                self.connections += 1
                door = socket.create_connection(self._door)
                threading.Thread(target=self._pump, args=(client, door, True), daemon=True).start()
                threading.Thread(target=self._pump, args=(door, client, False), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, is_client: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if is_client:
                    with self._lock:
                        self._sent.append(data)
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
