# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The HTTP face of the machines of a world: real HTTP/1.1 on their addresses, plain and over TLS.

One thread per connection, keep-alive, authentication per connection. Facts: wsman 8, hyperv-wmi 0.5b, wire-shapes 3.
What an exchange means is endpoint.py; how credentials are checked is authentication.py.
"""

from __future__ import annotations

import base64
import contextlib
import re
import socket
import ssl
import struct
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from urllib.parse import urlsplit

from . import wire
from .assumed import assumed
from .authentication import MUTUAL, NtlmSession, Rejected, Undecipherable, account_of, check_basic
from .certificates import Authority
from .cim import CimFault
from .door_memory import caller_of, endpoint_of, exchange, exclusively
from .endpoint import Reply, WinRmSettings
from .faults import Dropped
from .service import Caller

assumed(
    "unencrypted-refused",
    "Plain requests over http are HTTP 500 with an empty body unless AllowUnencrypted is set.",
    source="hyperv-wmi 0.5b",
)
assumed(
    "offline-machine",
    "A machine that does not run resets connections at once; a real network would time out.",
    source="a limit of loopback addresses",
)
assumed(
    "kerberos-offer",
    "The machines offer Negotiate (and Basic when it is allowed), never Kerberos.",
    source="a limit of the simulator; a real host also sends WWW-Authenticate: Kerberos",
)

IDLE_SECONDS = 120.0
WAIT_SECONDS = 0.02  # what is left of a wait that Windows makes last; keeps a polling client from spinning
SOAP = "application/soap+xml;charset=UTF-8"
MAX_BODY_BYTES = 2 * wire.MAX_REQUEST_BYTES
_COUNT = re.compile(r"\d{1,12}", re.ASCII)
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?\r?\n")


class Handler(BaseHTTPRequestHandler):
    """One connection; the security context lives and dies with it."""

    protocol_version = "HTTP/1.1"
    server_version = "Microsoft-HTTPAPI/2.0"
    sys_version = ""
    timeout = IDLE_SECONDS
    disable_nagle_algorithm = True

    server: _Server

    def setup(self) -> None:
        super().setup()
        self.machine = self.server.machine
        self.session = NtlmSession(self.machine)
        self.settings = WinRmSettings.of(self.machine)

    @property
    def tls(self) -> bool:
        return self.server.tls

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing goes to standard error; the transcript is the log."""

    def do_GET(self) -> None:
        self._plain(405)

    def do_POST(self) -> None:
        if not self.server.running():
            self._cut()
            return
        body = self._read_body()
        if body is None:
            return
        if self._prefix() != "/wsman":
            self._plain(404)
            return
        try:
            self._answer(body)
        except Rejected:
            self._unauthorized()
        except Undecipherable:
            self._plain(400, close=True)
        except Dropped:
            self._cut()

    def _prefix(self) -> str:
        try:
            return urlsplit(self.path).path.rstrip("/").lower()
        except ValueError:  # no URL
            return ""

    def _read_body(self) -> bytes | None:
        """The body, or None after a refusal; http.sys takes chunked bodies as well."""
        if self.headers.get("Transfer-Encoding", "").strip().lower() == "chunked":
            return self._read_chunks()
        length = self.headers.get("Content-Length", "")
        if not _COUNT.fullmatch(length):
            self._plain(411, close=True)
            return None
        if int(length) > MAX_BODY_BYTES:
            self._plain(413, close=True)
            return None
        return self._read_exactly(int(length))

    def _read_exactly(self, count: int) -> bytes | None:
        data = self.rfile.read(count)
        if len(data) < count:
            self.close_connection = True
            return None
        return data

    def _read_chunks(self) -> bytes | None:
        body = bytearray()
        while True:
            size = _CHUNK.match(self.rfile.readline(1024))
            if size is None:
                self._plain(400, close=True)
                return None
            count = int(size[1], 16)
            if len(body) + count > MAX_BODY_BYTES:
                self._plain(413, close=True)
                return None
            if not count:
                break
            part = self._read_exactly(count)
            if part is None or self.rfile.readline(3) not in (b"\r\n", b"\n"):
                self.close_connection = True
                return None
            body += part
        for _unused in range(64):  # trailers
            if self.rfile.readline(4096) in (b"\r\n", b"\n", b""):
                return bytes(body)
        self._plain(400, close=True)
        return None

    # -- authentication -----------------------------------------------------------------------------------------------

    def _answer(self, body: bytes) -> None:
        content_type = self.headers.get("Content-Type", "")
        scheme, _unused, value = self.headers.get("Authorization", "").partition(" ")
        if scheme.lower() in ("negotiate", "ntlm") and self.settings.negotiate:
            if not self._handshake(scheme, value):
                return
        elif scheme.lower() == "basic":
            if not self.settings.basic:
                raise Rejected
            self._serve(check_basic(self.machine, value.strip()), body)
            return
        elif scheme == MUTUAL:
            self._serve(self._certificate_caller(), body)
            return
        if content_type.lower().startswith("multipart/encrypted"):
            data = self.session.unseal(content_type, body)
            self._serve(self.session.caller, data, sealed=True)
        elif self.session.caller is not None:
            if not body:
                self._reply(200, b"", "")
            else:
                self._serve(self.session.caller, body)
        elif "WSMANIDENTIFY" in self.headers:
            self._serve(None, body)
        else:
            raise Rejected

    def _handshake(self, scheme: str, value: str) -> bool:
        """One step; True when the connection is authenticated by it."""
        try:
            token = base64.b64decode(value, validate=True)
        except ValueError:
            raise Rejected from None
        answer = self.session.step(token)
        if self.session.caller is not None:
            self._last_token = f"{scheme} {base64.b64encode(answer).decode()}" if answer else ""
            return True
        self._reply(401, b"", "", extra=[("WWW-Authenticate", f"{scheme} {base64.b64encode(answer).decode()}")])
        return False

    _last_token = ""

    def _certificate_caller(self) -> Caller:
        shown = self.connection.getpeercert() if isinstance(self.connection, ssl.SSLSocket) else None
        if not self.settings.certificate or not shown:
            raise Rejected
        subject: Any = shown.get("subject", ())
        names = [value for part in subject for key, value in part if key == "commonName"]
        account = account_of(self.machine, names[0]) if names else None
        if account is None:
            raise Rejected
        return caller_of(self.machine, account)

    def _unauthorized(self) -> None:
        schemes = ["Negotiate"] if self.settings.negotiate else []
        if self.settings.basic:
            schemes.append('Basic realm="WSMAN"')
        self._reply(401, b"", "", extra=[("WWW-Authenticate", scheme) for scheme in schemes])

    # -- answers ------------------------------------------------------------------------------------------------------

    def _serve(self, who: Caller | None, data: bytes, *, sealed: bool = False) -> None:
        if who is not None and not (sealed or self.tls or self.settings.allow_unencrypted):
            self._reply(500, b"", "")
            return
        if not data and who is not None:
            self._reply(200, b"", "")
            return
        try:
            reply = exchange(self.machine, who, data)
        except Dropped:
            raise
        except Exception as bug:  # noqa: BLE001 - a bug of a view must reach the developer, not hang the client
            reply = self._bug(bug, data)
        if reply.status == 401:
            raise Rejected
        if reply.waited:
            time.sleep(WAIT_SECONDS)
        body, content_type = reply.body, SOAP
        if sealed and body:
            content_type, body = self.session.seal(body)
        if reply.truncated:
            self._reply(reply.status, body, content_type, cut_after=len(body) // 2)
            return
        if reply.close:
            self._hold_back()
        self._reply(reply.status, body, content_type)
        if reply.close:
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)

    def _bug(self, bug: Exception, data: bytes) -> Reply:
        text = "".join(traceback.format_exception(bug))
        sys.stderr.write(text)
        self.server.doors.bugs.append(text)
        with exclusively(self.machine):
            body = endpoint_of(self.machine).fault(
                CimFault.wsman(2150858755, "w:InternalError", f"bug of the simulator: {bug!r}"), data
            )
        return Reply(status=500, body=body)

    def _plain(self, status: int, *, close: bool = False) -> None:
        self._reply(status, b"", "", close=close)

    def _reply(
        self,
        status: int,
        body: bytes,
        content_type: str,
        *,
        extra: list[tuple[str, str]] | None = None,
        close: bool = False,
        cut_after: int | None = None,
    ) -> None:
        self.send_response(status)
        if self._last_token:
            extra = [*(extra or []), ("WWW-Authenticate", self._last_token)]
            self._last_token = ""
        for name, value in extra or []:
            self.send_header(name, value)
        if content_type:
            self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        if close:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        self.wfile.write(body if cut_after is None else body[:cut_after])
        self.wfile.flush()
        if cut_after is not None:
            self._cut()

    def _hold_back(self) -> None:
        """Let the answer and the end of the connection leave together, so that a client sees both or neither."""
        if hasattr(socket, "TCP_CORK"):
            self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)

    def _cut(self) -> None:
        """Reset the connection."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()


class _Server(ThreadingMixIn, TCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128
    block_on_close = False

    def __init__(
        self, address: tuple[str, int], machine: Any, doors: HttpDoors, context: ssl.SSLContext | None
    ) -> None:
        self.machine = machine
        self.doors = doors
        self.tls = context is not None
        self._context = context
        self._open: set[socket.socket] = set()
        super().__init__(address, Handler)

    def running(self) -> bool:
        return bool(getattr(self.machine, "answers", True))

    def finish_request(self, request: Any, client_address: Any) -> None:
        if not self.running():
            getattr(self.machine, "knock", lambda: None)()
            request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return
        if self._context is not None:
            request.settimeout(IDLE_SECONDS)
            try:
                request = self._context.wrap_socket(request, server_side=True)
            except (ssl.SSLError, OSError):
                return
        self._open.add(request)
        try:
            super().finish_request(request, client_address)
        finally:
            self._open.discard(request)
            if self._context is not None:
                with contextlib.suppress(OSError):
                    request.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no event; anything else is a bug to keep."""
        kind, error, _unused = sys.exc_info()
        if kind is not None and not issubclass(kind, (OSError, ssl.SSLError)):
            self.doors.bugs.append("".join(traceback.format_exception(error)))

    def drop_connections(self) -> None:
        """Close every idle keep-alive connection, as Windows does after a while."""
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


@dataclass(frozen=True, kw_only=True)
class Door:
    """Where a machine listens."""

    machine: str
    address: str
    port: int
    tls: bool

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.address}:{self.port}/wsman"


class HttpDoors:
    """All HTTP doors of some machines. Use as a context manager, or `start` and `stop`.

    `port` and `tls_port` 0 choose free ports; None leaves that door out. A machine's own `ports` come first.
    """

    def __init__(
        self,
        machines: list[Any],
        folder: Path,
        *,
        name: str = "world",
        port: int | None = None,
        tls_port: int | None = None,
    ) -> None:
        self.authority = Authority(folder, name)
        self.bugs: list[str] = []
        self.doors: list[Door] = []
        self._servers: list[_Server] = []
        self._threads: list[threading.Thread] = []
        self._machines = machines
        self._ports = {"http": port, "https": tls_port}

    @property
    def ca_file(self) -> Path:
        return self.authority.ca_file

    def start(self) -> HttpDoors:
        """Listen; OSError names the address that is taken."""
        try:
            for machine in self._machines:
                self._open(machine)
        except OSError:
            self.stop()
            raise
        return self

    def _open(self, machine: Any) -> None:
        default = {"http": 5985, "https": 5986}
        for address in machine.addresses:
            for scheme in ("http", "https"):
                chosen = self._ports[scheme]
                port = chosen if chosen is not None else getattr(machine, "ports", default).get(scheme)
                if port is None:
                    continue
                context = self._tls(machine) if scheme == "https" else None
                try:
                    server = _Server((address, port), machine, self, context)
                except OSError as error:
                    raise OSError(
                        error.errno, f"{machine.name} cannot listen on {address}:{port}: {error.strerror}"
                    ) from None
                thread = threading.Thread(
                    target=server.serve_forever,
                    kwargs={"poll_interval": 0.1},
                    name=f"{machine.name}:{port}",
                    daemon=True,
                )
                thread.start()
                self._servers.append(server)
                self._threads.append(thread)
                self.doors.append(
                    Door(
                        machine=str(machine.name), address=address, port=server.server_address[1], tls=scheme == "https"
                    )
                )

    def _tls(self, machine: Any) -> ssl.SSLContext:
        settings = WinRmSettings.of(machine)
        pair = self.authority.issue_server(str(machine.name), machine.addresses, settings.certificate_kind)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(pair.certificate, pair.key)
        if settings.certificate:
            context.load_verify_locations(self.authority.ca_file)
            context.verify_mode = ssl.CERT_OPTIONAL
        return context

    def door(self, machine: str, *, tls: bool = False) -> Door:
        return next(door for door in self.doors if door.machine == machine and door.tls == tls)

    def drop_connections(self) -> None:
        for server in self._servers:
            server.drop_connections()

    def stop(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()
            server.drop_connections()
        for thread in self._threads:
            thread.join(timeout=5)
        self._servers.clear()

    def __enter__(self) -> HttpDoors:
        return self.start()

    def __exit__(self, *_unused: object) -> None:
        self.stop()
