# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this file is private to the hyperv.passthrough collection and may change without notice.
"""Makes a WS-Management channel out of the target's own Ansible connection.

Responsible for: building an HTTP transport (pywinrm for ``ansible_connection: winrm``, pypsrp for ``psrp``) from the
connection plugin's documented options, carrying one envelope at a time over it, and saying for every failure whether the
request was executed. Not responsible for: what is in an envelope (``_wsman``), Ansible tasks (``_task``), credentials of its
own (there are none: every secret comes from the connection plugin).

Facts: wsman 8, 10 and 11.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import struct
import typing as t
from urllib.parse import urlunsplit

from ansible import constants as C  # noqa: N812  # ansible-core's own name for it
from ansible.errors import AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean

from ._wsman import (
    AuthenticationFailed,
    CertificateRejected,
    HttpError,
    ReplyLost,
    RequestNotSent,
    WsmanError,
)

if t.TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ansible.plugins.action import ActionBase
    from ansible.plugins.connection import ConnectionBase

#: Options that the winrm connection plugin sets itself and that are never taken from ``ansible_winrm_*`` extras.
_WINRM_OWN = frozenset(
    {"self", "endpoint", "transport", "username", "password", "scheme", "path", "kinit_mode", "kinit_cmd"}
)
_DEFAULT_READ_TIMEOUT_S = 30
#: OpenSSL's words for a session that never came up; any other trouble may have come after a request was sent.
_NO_TLS_SESSION = re.compile("WRONG_VERSION_NUMBER|(UNKNOWN|UNSUPPORTED)_PROTOCOL|PROTOCOL_VERSION|HANDSHAKE_FAILURE")
#: How pywinrm and pypsrp fail when a sealed answer is cut short or is none.
_UNREADABLE = (LookupError, ValueError, struct.error)
_MARGIN_S = 10  # the HTTP read must outlive the operation, or a slow answer would look like a lost one


class ConnectionRefused(Exception):
    """The target cannot carry WS-Management at all: wrong connection plugin, or its Python library is missing."""

    def __init__(self, kind: str, sentence: str) -> None:
        super().__init__(sentence)
        self.kind = kind


@dataclasses.dataclass(frozen=True, kw_only=True)
class Carrier:
    """One authenticated HTTP session: `post` carries an envelope, `close` ends it.

    `prepare` does whatever happens before the first envelope (the empty POST that seals an NTLM session), so that a
    failure there is known to have executed nothing.
    """

    prepare: Callable[[], None]
    post: Callable[[bytes], bytes]
    close: Callable[[], None]


class HttpStatus(Exception):
    """An HTTP status of 400 and above with its decrypted body; raised by a carrier's `post`."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"HTTP status {status}")
        self.status = status
        self.body = body


class Channel:
    """`send(bytes) -> bytes` over one connection of one target, with the repairs that are provably safe.

    Repaired here: an HTTP 400 after a dropped keep-alive (the server could not decrypt, so it executed nothing) and an
    HTTP 401 on a session that was accepted before. Each is repaired once per request, on a new session. Everything else is
    raised: `RequestNotSent` when nothing was executed, `ReplyLost` when nobody knows.
    """

    def __init__(
        self,
        carriers: t.Sequence[Callable[[], Carrier]],
        *,
        endpoint: str,
        classify: Callable[[BaseException], WsmanError | None],
        operation_timeout_s: int = 20,
    ) -> None:
        self.endpoint = endpoint
        self.operation_timeout_s = operation_timeout_s
        self._makers = list(carriers)
        self._classify = classify
        self._carrier: Carrier | None = None
        self._accepted = False

    def send(self, envelope: bytes) -> bytes:
        """Carry one envelope.

        Returns the answer's body, also for HTTP 500 (a SOAP fault is an answer).
        Raises: RequestNotSent, ReplyLost, AuthenticationFailed, CertificateRejected, HttpError.
        """
        repaired = False
        while True:
            carrier = self._open()
            try:
                answer = carrier.post(envelope)
            except HttpStatus as http:
                if http.status == 500:
                    self._accepted = True
                    return http.body
                self._close()
                if not repaired and (http.status == 400 or (http.status == 401 and self._accepted)):
                    repaired = True
                    continue
                if http.status == 401:
                    if not self._accepted and len(self._makers) > 1:
                        self._makers.pop(
                            0
                        )  # the next transport of the operator's list; this one was refused unexecuted
                        continue
                    raise AuthenticationFailed(self._rejected()) from http
                raise HttpError(
                    f"{self.endpoint} answered HTTP status {http.status} where WS-Management was expected; "
                    "check the port, the URL prefix and any proxy between the controller and the host",
                    status=http.status,
                ) from http
            except Exception as err:
                self._close()
                known = self._classify(err)
                if isinstance(err, _UNREADABLE) or (self._accepted and isinstance(known, AuthenticationFailed)):
                    # the request was carried; it is the answer that the library could not unseal
                    raise ReplyLost(
                        f"the answer of {self.endpoint} could not be unsealed ({type(err).__name__})"
                    ) from err
                if known is None:
                    raise
                raise known from err
            self._accepted = True
            return answer

    def close(self) -> None:
        """End the HTTP session; the channel may be used again and then opens a new one."""
        self._close()

    def _open(self) -> Carrier:
        if self._carrier is not None:
            return self._carrier
        while True:
            try:
                carrier = self._makers[0]()
                carrier.prepare()
            except HttpStatus as http:
                if http.status == 401:
                    if not self._accepted and len(self._makers) > 1:
                        self._makers.pop(0)
                        continue
                    raise AuthenticationFailed(self._rejected()) from http
                raise HttpError(
                    f"{self.endpoint} answered HTTP status {http.status} to the first request; check the port, the URL "
                    "prefix and any proxy between the controller and the host",
                    status=http.status,
                ) from http
            except Exception as err:
                known = self._classify(err)
                if known is None:
                    raise
                # nothing but the empty hand-shake was sent, so nothing can have been executed
                raise (RequestNotSent(str(known)) if isinstance(known, ReplyLost) else known) from err
            self._carrier = carrier
            return carrier

    def _close(self) -> None:
        carrier, self._carrier = self._carrier, None
        if carrier is not None:
            with contextlib.suppress(Exception):  # closing a dead session may fail in any way and never matters
                carrier.close()

    def _rejected(self) -> str:
        return (
            f"{self.endpoint} rejected the credentials; check ansible_user, ansible_password and the transport "
            "(a full shell quota on the host can look the same)"
        )


_channels: dict[tuple[t.Any, ...], Channel] = {}


def open_channel(connection: ConnectionBase, *, target: str) -> Channel:
    """The channel of `connection`; one per worker process and set of options.

    A task loop gets a new connection object for each item, so the cache lives in the module: a worker is forked per host
    and task and dies with it (facts: wsman 10.2).

    Raises: ConnectionRefused when the connection plugin is not winrm or psrp, or its library is missing.
    """
    plugin = str(getattr(connection, "transport", "unknown")).rsplit(".", 1)[-1]
    maker = _PLUGINS.get(plugin)
    if maker is None:
        raise ConnectionRefused(
            "not_windows",
            f"{target} is not a Windows host of this inventory (connection {plugin}); hyperv_host must be its inventory "
            "name, and its ansible_connection winrm or psrp",
        )
    key, build = maker(connection)
    if key not in _channels:
        _channels[key] = build()
    return _channels[key]


def open_sibling_channel(action: ActionBase, host: str, task_vars: Mapping[str, t.Any]) -> Channel:
    """A channel to another inventory host than the task's own target, from that host's own connection variables.

    A task on a guest renews its VM's lease on the Hyper-V host while it waits; ansible gives a task one connection only.

    Raises: ConnectionRefused when the inventory has no such host, or it is not reached by winrm or psrp.
    """
    hostvars = task_vars.get("hostvars") or {}
    if host not in hostvars:
        raise ConnectionRefused(
            "unknown_host",
            f"hyperv_host {host!r} is not a host of this inventory; add it to group hyperv_hosts or correct the name",
        )
    variables = hostvars[host]
    plugin = str(variables.get("ansible_connection", "ssh"))
    if plugin.rsplit(".", 1)[-1] not in _PLUGINS:
        raise ConnectionRefused(
            "not_windows",
            f"{host} is not a Windows host of this inventory (connection {plugin}); hyperv_host must be its inventory "
            "name, and its ansible_connection winrm or psrp",
        )
    connection = action._shared_loader_obj.connection_loader.get(plugin, action._play_context, os.devnull)
    names = list(C.config.get_plugin_vars("connection", connection._load_name))
    options = {name: variables[name] for name in names if name in variables}
    options["inventory_hostname"] = host
    if getattr(connection, "allow_extras", False):
        prefix = f"ansible_{plugin.rsplit('.', 1)[-1]}_"
        extras = [name for name in variables if name.startswith(prefix) and name not in options]
        options["_extras"] = {name: variables[name] for name in extras}
    # of the play's own keywords only remote_user can hold for another host too; core does the same for the task's target
    keywords = {"remote_user": action._task.remote_user} if action._task.remote_user else None
    connection.set_options(task_keys=keywords, var_options=options)
    return open_channel(connection, target=host)


def _winrm(connection: ConnectionBase) -> tuple[tuple[t.Any, ...], Callable[[], Channel]]:
    try:
        from winrm.protocol import Protocol
    except ImportError as err:
        raise ConnectionRefused(
            "missing_library",
            "the Python library pywinrm is missing on the controller; install pywinrm >= 0.5.0 for connection winrm",
        ) from err
    option = connection.get_option
    host, port, path = option("remote_addr"), int(option("port")), option("path")
    scheme = option("scheme") or ("http" if port == 5985 else "https")
    user, password = option("remote_user"), option("remote_password")
    transports = [name for name in option("transport") or [] if name]
    if not transports:
        transports = ["kerberos"] if user and "@" in user else ["ssl"] if scheme == "https" else ["plaintext"]
    if scheme == "http" and set(transports) & {"basic", "plaintext", "ssl"}:
        raise ConnectionRefused(
            "unencrypted",
            f"connection winrm to {host} would send the password in clear text (transport {transports[0]} over http); "
            "use ntlm, kerberos or credssp, which seal their messages, or https",
        )
    extras = {key.removeprefix("ansible_winrm_"): value for key, value in (option("_extras") or {}).items()}
    accepted = set(_parameters(Protocol.__init__)) - _WINRM_OWN
    arguments = {key: value for key, value in extras.items() if key in accepted}
    timeout = option("connection_timeout")
    if timeout:
        arguments["operation_timeout_sec"] = int(timeout)
        arguments["read_timeout_sec"] = int(timeout) + _MARGIN_S
    read_timeout = int(arguments.get("read_timeout_sec") or _DEFAULT_READ_TIMEOUT_S)
    if str(arguments.get("message_encryption", "auto")) == "never" and scheme == "http":
        raise ConnectionRefused(
            "unencrypted",
            f"connection winrm to {host} has ansible_winrm_message_encryption: never over http; "
            "remove it or use https, backups are not sent in clear text",
        )
    endpoint = urlunsplit((scheme, f"{_bracketed(host)}:{port}", path, "", ""))

    def carrier(transport: str) -> Carrier:
        if transport == "kerberos":
            _managed_kerberos(connection, user, password)
        protocol = Protocol(
            endpoint, transport=t.cast("t.Any", transport), username=user, password=password, **arguments
        )

        def post(envelope: bytes) -> bytes:
            from winrm.exceptions import InvalidCredentialsError, WinRMTransportError

            try:
                return protocol.transport.send_message(envelope)
            except InvalidCredentialsError as err:
                raise HttpStatus(401, b"") from err
            except WinRMTransportError as err:
                body = err.response_text
                raise HttpStatus(err.code, body.encode() if isinstance(body, str) else bytes(body or b"")) from err

        def prepare() -> None:
            from winrm.exceptions import InvalidCredentialsError, WinRMTransportError

            try:
                protocol.transport.build_session()
            except InvalidCredentialsError as err:
                raise HttpStatus(401, b"") from err
            except WinRMTransportError as err:
                raise HttpStatus(err.code, b"") from err

        return Carrier(prepare=prepare, post=post, close=protocol.transport.close_session)

    key = ("winrm", endpoint, user, password, tuple(transports), repr(sorted(arguments.items(), key=str)))
    return key, lambda: Channel(
        [_bind(carrier, name) for name in transports],
        endpoint=endpoint,
        classify=lambda err: classify(err, endpoint),
        operation_timeout_s=max(5, read_timeout - _MARGIN_S),
    )


def _psrp(connection: ConnectionBase) -> tuple[tuple[t.Any, ...], Callable[[], Channel]]:
    try:
        from pypsrp.wsman import WSMan
    except ImportError as err:
        raise ConnectionRefused(
            "missing_library",
            "the Python library pypsrp is missing on the controller; install pypsrp >= 0.8.0 for connection psrp",
        ) from err
    arguments = _psrp_arguments(connection)
    endpoint = "{}://{}:{}/{}".format(
        "https" if arguments["ssl"] else "http", _bracketed(arguments["server"]), arguments["port"], arguments["path"]
    )
    clear_text = arguments["auth"] == "basic" or arguments["encryption"] == "never"
    if not arguments["ssl"] and clear_text:
        raise ConnectionRefused(
            "unencrypted",
            f"connection psrp to {arguments['server']} would send the password or the messages in clear text over http; "
            "use negotiate, ntlm or kerberos with message encryption, or https",
        )
    known = _parameters(WSMan.__init__)

    def carrier() -> Carrier:
        wsman = WSMan(**{key: value for key, value in arguments.items() if key in known or "kwargs" in known})

        def post(envelope: bytes) -> bytes:
            from pypsrp.exceptions import AuthenticationError, WinRMTransportError

            try:
                return wsman.transport.send(envelope)
            except AuthenticationError as err:
                raise HttpStatus(401, b"") from err
            except WinRMTransportError as err:
                body = err.response_text
                raise HttpStatus(err.code, body.encode() if isinstance(body, str) else bytes(body or b"")) from err

        return Carrier(prepare=lambda: None, post=post, close=wsman.close)

    key = ("psrp", endpoint, repr(sorted(arguments.items(), key=str)))
    return key, lambda: Channel(
        [carrier],
        endpoint=endpoint,
        classify=lambda err: classify(err, endpoint),
        operation_timeout_s=max(
            5, min(int(arguments["operation_timeout"]), int(arguments["read_timeout"]) - _MARGIN_S)
        ),
    )


def _psrp_arguments(connection: ConnectionBase) -> dict[str, t.Any]:
    """pypsrp's WSMan arguments from the psrp plugin's documented options (the names are the plugin's, facts: wsman 10.3)."""
    option = connection.get_option
    protocol, port = option("protocol"), option("port")
    if protocol is None:
        protocol = "http" if port is not None and int(port) == 5985 else "https"
    if port is None:
        port = 5986 if protocol == "https" else 5985
    validation: bool | str = option("cert_validation") != "ignore"
    if validation and option("ca_cert"):
        validation = str(option("ca_cert"))
    arguments: dict[str, t.Any] = {
        "server": option("remote_addr"),
        "port": int(port),
        "username": option("remote_user"),
        "password": option("remote_password"),
        "ssl": protocol == "https",
        "path": option("path"),
        "auth": option("auth"),
        "cert_validation": validation,
        "encryption": option("message_encryption"),
        "proxy": option("proxy"),
        "no_proxy": boolean(option("ignore_proxy")),
        "reconnection_retries": 0,  # a retry below us could execute a method twice
    }
    arguments.update({name: option(name) for name in _PSRP_SAME_NAME})
    return arguments


_PSRP_SAME_NAME = (
    "certificate_key_pem",
    "certificate_pem",
    "connection_timeout",
    "credssp_auth_mechanism",
    "credssp_disable_tlsv1_2",
    "credssp_minimum_version",
    "max_envelope_size",
    "negotiate_delegate",
    "negotiate_hostname_override",
    "negotiate_send_cbt",
    "negotiate_service",
    "operation_timeout",
    "read_timeout",
)

_PLUGINS: Mapping[str, Callable[[ConnectionBase], tuple[tuple[t.Any, ...], Callable[[], Channel]]]] = {
    "winrm": _winrm,
    "psrp": _psrp,
}


def classify(err: BaseException, endpoint: str) -> WsmanError | None:
    """What a library's exception says about the request, or None when it is not about the network at all.

    Certificate trouble and a connection that was never made executed nothing; anything that broke after a connection was
    made may have been executed (facts: wsman 11.3).
    """
    try:
        import requests
        from urllib3.exceptions import ConnectTimeoutError, NewConnectionError
    except ImportError:  # requests comes with pywinrm and pypsrp alike; without it no carrier could exist
        return None
    if isinstance(err, WsmanError):
        return err
    if isinstance(err, requests.exceptions.SSLError):
        if "certificate" not in str(err).lower():
            if not _NO_TLS_SESSION.search(str(err)):
                return ReplyLost(f"the TLS session with {endpoint} broke ({_root_cause(err)})")
            return RequestNotSent(
                f"{endpoint} does not speak TLS as it should ({_root_cause(err)}); check that the port and the scheme belong "
                "together (5985 http, 5986 https)"
            )
        return CertificateRejected(
            f"the certificate of {endpoint} is not trusted ({_root_cause(err)}); add its issuer to "
            "ansible_winrm_ca_trust_path (psrp: ansible_psrp_ca_cert), or replace the certificate"
        )
    if err.__class__ is OSError and err.errno is None and "certificate" in str(err):
        return CertificateRejected(  # how requests says that a file is not there, before it connects
            f"nothing was sent to {endpoint}: {str(err).splitlines()[0]}; correct ansible_winrm_ca_trust_path (psrp: "
            "ansible_psrp_ca_cert) or the path of the client certificate"
        )
    if isinstance(err, requests.exceptions.ProxyError):
        return RequestNotSent(
            f"the proxy on the way to {endpoint} refused the connection; check http_proxy and no_proxy"
        )
    if isinstance(err, (requests.exceptions.ConnectTimeout,)) or _caused_by(
        err, (NewConnectionError, ConnectTimeoutError)
    ):
        return RequestNotSent(
            f"{endpoint} cannot be reached ({_root_cause(err)}); check the address, the WinRM listener and the firewall"
        )
    if isinstance(err, (requests.exceptions.RequestException, OSError)):
        return ReplyLost(f"the answer of {endpoint} was lost ({_root_cause(err)})")
    if type(err).__module__.split(".")[0] in ("winrm", "pypsrp", "spnego", "requests_ntlm", "requests_credssp"):
        return AuthenticationFailed(
            f"no authenticated session with {endpoint} could be set up ({_root_cause(err)}); check the transport, the "
            "account and the Kerberos set-up of the controller"
        )
    return None


def _managed_kerberos(connection: ConnectionBase, user: str | None, password: str | None) -> None:
    """Get a ticket with the winrm plugin's own kinit, when the plugin is the one who manages tickets."""
    mode = connection.get_option("kerberos_mode")
    if mode == "manual" or (mode is None and not password):
        return
    kinit, build = getattr(connection, "_kerb_auth", None), getattr(connection, "_build_winrm_kwargs", None)
    if kinit is None or build is None:
        raise ConnectionRefused(
            "kerberos",
            "this ansible-core's winrm plugin has no managed Kerberos that can be used; run kinit beforehand and set "
            "ansible_winrm_kinit_mode: manual",
        )
    try:
        build()
        kinit(user, password)
    except AnsibleError as err:
        raise AuthenticationFailed(f"no Kerberos ticket for {user} ({err})") from err


def _bind(maker: Callable[[str], Carrier], name: str) -> Callable[[], Carrier]:
    return lambda: maker(name)


def _parameters(function: Callable[..., t.Any]) -> frozenset[str]:
    import inspect

    return frozenset(inspect.signature(function).parameters)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _caused_by(err: BaseException, kinds: tuple[type[BaseException], ...]) -> bool:
    return any(isinstance(link, kinds) for link in _chain(err))


def _chain(err: BaseException, limit: int = 8) -> t.Iterator[BaseException]:
    """The exception, what it wraps (requests and urllib3 nest in `args` and `reason`), and its causes."""
    todo, seen = [err], 0
    while todo and seen < limit:
        link = todo.pop(0)
        seen += 1
        yield link
        nested = [getattr(link, "reason", None), *getattr(link, "args", ()), link.__cause__, link.__context__]
        todo.extend(item for item in nested if isinstance(item, BaseException))


def _root_cause(err: BaseException) -> str:
    """One short phrase for people; never the request, its headers or an option of the connection."""
    for link in _chain(err):
        if isinstance(link, OSError) and link.errno is not None and link.errno > 0:
            return os.strerror(link.errno).lower()
        named = re.search(r"\[Errno -?\d+\] ([^\n)>]+)", str(link))
        if named:
            return named.group(1).strip().lower()
    last = list(_chain(err))[-1]
    text = str(last).strip().splitlines()
    return (text[0] if text else type(last).__name__)[:200]
