# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the channel does when HTTP goes wrong: repaired when nothing can have run, told apart when nobody knows.

The carrier is a parameter of the channel; here it is a list of things that happen. The same over real HTTP is in tests/e2e.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable

import pytest
import requests
from winrm.encryption import Encryption
from winrm.exceptions import WinRMError

from ansible_collections.hyperv.passthrough.plugins.plugin_utils._channel import Carrier, Channel, HttpStatus, classify
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._wsman import (
    AuthenticationFailed,
    CertificateRejected,
    HttpError,
    ReplyLost,
    RequestNotSent,
)

ENDPOINT = "http://hv01.example:5985/wsman"


class Sessions:
    """Hands out carriers that live through a list of events, one event per envelope; counts what was executed."""

    def __init__(self, *sessions: list[bytes | Exception], handshake: Exception | None = None) -> None:
        self.sessions = [list(events) for events in sessions]
        self.handshake = handshake
        self.opened = 0
        self.executed: list[bytes] = []

    def maker(self) -> Carrier:
        events = self.sessions[self.opened]
        self.opened += 1

        def prepare() -> None:
            if self.handshake is not None:
                raise self.handshake

        def post(envelope: bytes) -> bytes:
            event = events.pop(0)
            if isinstance(event, Exception):
                raise event
            self.executed.append(envelope)
            return event

        return Carrier(prepare=prepare, post=post, close=lambda: None)


def channel(*makers: Callable[[], Carrier]) -> Channel:
    return Channel(makers, endpoint=ENDPOINT, classify=lambda err: classify(err, ENDPOINT))


def test_http_400_is_repaired_on_a_new_session_because_the_server_could_not_decrypt_the_request() -> None:
    sessions = Sessions([b"one", HttpStatus(400, b"")], [b"two"])
    sut = channel(sessions.maker)
    assert [sut.send(b"a"), sut.send(b"b")] == [b"one", b"two"]
    assert sessions.executed == [b"a", b"b"]


def test_http_400_twice_is_an_error_and_not_a_loop() -> None:
    sessions = Sessions([HttpStatus(400, b"")], [HttpStatus(400, b"")], [b"never"])
    with pytest.raises(HttpError) as caught:
        channel(sessions.maker).send(b"a")
    assert caught.value.status == 400
    assert not caught.value.may_have_run
    assert sessions.opened == 2


def test_a_soap_fault_is_an_answer() -> None:
    assert channel(Sessions([HttpStatus(500, b"<fault/>")]).maker).send(b"a") == b"<fault/>"


def test_http_401_on_a_session_that_was_accepted_is_repaired_once() -> None:
    sessions = Sessions([b"one", HttpStatus(401, b"")], [b"two"])
    sut = channel(sessions.maker)
    assert [sut.send(b"a"), sut.send(b"b")] == [b"one", b"two"]


def test_a_wrong_password_is_tried_once_only_so_that_no_account_gets_locked() -> None:
    sessions = Sessions([HttpStatus(401, b"")], [b"never"])
    with pytest.raises(AuthenticationFailed, match="rejected the credentials"):
        channel(sessions.maker).send(b"a")
    assert sessions.opened == 1


def test_the_next_transport_of_the_list_is_tried_when_one_is_refused() -> None:
    refused, accepted = Sessions([], handshake=HttpStatus(401, b"")), Sessions([b"answer"])
    assert channel(refused.maker, accepted.maker).send(b"a") == b"answer"


def test_trouble_before_the_first_envelope_means_that_nothing_was_sent() -> None:
    sessions = Sessions([], handshake=requests.exceptions.ReadTimeout("read timed out"))
    with pytest.raises(RequestNotSent):
        channel(sessions.maker).send(b"a")


def test_a_connection_that_breaks_after_sending_leaves_the_outcome_open() -> None:
    reset = requests.exceptions.ConnectionError(ConnectionResetError(104, "Connection reset by peer"))
    sessions = Sessions([reset], [b"next"])
    sut = channel(sessions.maker)
    with pytest.raises(ReplyLost, match="connection reset by peer"):
        sut.send(b"a")
    assert sut.send(b"b") == b"next"


@pytest.mark.parametrize(
    "body", [b"", b"--Encrypted Boundary\r\n", b"--Encrypted Boundary\r\nx\r\n--Encrypted Boundary\r\ny"]
)
def test_a_sealed_answer_that_is_cut_short_leaves_the_outcome_open(body: bytes) -> None:
    encryption = Encryption.__new__(Encryption)
    encryption._decrypt_message = lambda data, _host: data[struct.unpack("<i", data[:4])[0] :]

    def post(_envelope: bytes) -> bytes:
        answer = requests.Response()
        answer._content = body + b"--Encrypted Boundary\r\n\tOriginalContent: type=x;Length="
        return encryption._decrypt_response(answer, "hv01")

    sut = channel(lambda: Carrier(prepare=lambda: None, post=post, close=lambda: None))
    with pytest.raises(ReplyLost, match="unsealed"):
        sut.send(b"a")


def test_a_seal_that_breaks_after_others_held_is_no_wrong_password() -> None:
    sessions = Sessions([b"first", WinRMError("message has been tampered with")], [b"next"])
    sut = channel(sessions.maker)
    assert sut.send(b"a") == b"first"
    with pytest.raises(ReplyLost, match="unsealed"):
        sut.send(b"b")
    assert sut.send(b"c") == b"next"


def test_a_host_that_cannot_be_reached_was_sent_nothing() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/wsman"

        def post(envelope: bytes) -> bytes:
            return requests.post(url, data=envelope, timeout=5).content

        sut = channel(lambda: Carrier(prepare=lambda: None, post=post, close=lambda: None))
        with pytest.raises(RequestNotSent, match="cannot be reached"):
            sut.send(b"a")


def test_an_untrusted_certificate_says_where_to_put_the_issuer() -> None:
    error = requests.exceptions.SSLError("certificate verify failed: self-signed certificate")
    known = classify(error, ENDPOINT)
    assert isinstance(known, CertificateRejected)
    assert "ansible_winrm_ca_trust_path" in str(known)


def test_a_port_that_does_not_speak_tls_is_no_matter_of_certificates() -> None:
    with socket.create_server(("127.0.0.1", 0)) as plain:
        url = f"https://127.0.0.1:{plain.getsockname()[1]}/wsman"

        def answer() -> None:
            client, _address = plain.accept()
            client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            client.close()

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(requests.exceptions.SSLError) as caught:
            requests.post(url, timeout=5)
    known = classify(caught.value, url)
    assert isinstance(known, RequestNotSent)
    assert "port and the scheme" in str(known)


def test_a_tls_session_that_breaks_later_leaves_the_outcome_open() -> None:
    broken = requests.exceptions.SSLError("[SSL: DECRYPTION_FAILED_OR_BAD_RECORD_MAC] decryption failed")
    assert isinstance(classify(broken, ENDPOINT), ReplyLost)


def test_a_file_of_trusted_issuers_that_is_not_there_is_named_and_nothing_was_sent() -> None:
    with pytest.raises(OSError, match="bundle") as caught:
        requests.post("https://127.0.0.1:1/wsman", verify="/nonexistent/ca.pem", timeout=5)
    known = classify(caught.value, ENDPOINT)
    assert isinstance(known, CertificateRejected)
    assert "/nonexistent/ca.pem" in str(known)
    assert "ansible_winrm_ca_trust_path" in str(known)


def test_an_error_that_is_not_about_the_network_is_not_swallowed() -> None:
    assert classify(ZeroDivisionError(), ENDPOINT) is None
    with pytest.raises(ZeroDivisionError):
        channel(Sessions([ZeroDivisionError()]).maker).send(b"a")
