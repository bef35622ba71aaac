# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients that write sloppily or mean harm: odd prefixes, headers and letter case, broken HTTP, floods, giants, idlers.

Each gets the answer that Windows gives, or a closed connection; the machine goes on answering everybody else. Not
here: what well-behaved clients of other projects do with a whole host (tests/e2e/test_foreign_clients.py).
"""

from __future__ import annotations

import base64
import errno
import re
import socket
import ssl
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

import pytest

from simulator.door_http import HttpDoors
from simulator.endpoint import WinRmSettings
from unit.simulator.tiny_world import NS, V2, VM_ID, WMI, TinyMachine, envelope, pull, query

ACCOUNT = base64.b64encode(b"Administrator:Correct-Horse-9").decode()
HEADERS = {"Content-Type": "application/soap+xml;charset=UTF-8", "Authorization": f"Basic {ACCOUNT}"}
GET = "http://schemas.xmlsoap.org/ws/2004/09/transfer/Get"
SYSTEM = f"{WMI}{V2}/Msvm_ComputerSystem"
KEYS = {"CreationClassName": "Msvm_ComputerSystem", "Name": VM_ID}
ASK = query("SELECT * FROM Msvm_ComputerSystem")


class Site:
    """A tiny machine that takes Basic over http, and raw ways to talk to it."""

    def __init__(self, folder: Path) -> None:
        self.machine = TinyMachine(winrm=WinRmSettings(basic=True, allow_unencrypted=True))
        self.machine.install()
        self.doors = HttpDoors([self.machine], folder, port=0, tls_port=0).start()
        self.port = self.doors.door("HV01").port
        self.tls_port = self.doors.door("HV01", tls=True).port

    def post(
        self, body: bytes, headers: Mapping[str, str] | None = None, path: str = "/wsman", *, plain: bool = False
    ) -> tuple[int, bytes]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("POST", path, body, {**({} if plain else HEADERS), **(headers or {})})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def raw(self, *pieces: bytes, port: int | None = None) -> bytes:
        """Everything that comes back for bytes sent as they are; the client's half is closed after the last piece."""
        with socket.create_connection(("127.0.0.1", port or self.port), timeout=10) as peer:
            try:
                for piece in pieces:
                    peer.sendall(piece)
                peer.shutdown(socket.SHUT_WR)
                return b"".join(iter(lambda: peer.recv(65536), b""))
            except OSError as trouble:  # hung up, seen while writing, while closing our half or while reading
                if trouble.errno not in (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN):
                    raise
                return b""

    def answers(self) -> bool:
        status, body = self.post(ASK)
        return status == 200 and b"EnumerateResponse" in body


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("site"))
    yield made
    made.doors.stop()


@pytest.fixture(autouse=True)
def alive(site: Site) -> Iterator[None]:
    """Whatever a test did, the machine answers afterwards and no handler ended with an error of its own."""
    before = len(site.doors.bugs)
    yield
    assert site.answers()
    assert site.doors.bugs[before:] == []


def fault_number(body: bytes) -> int:
    found = re.search(rb'WSManFault [^>]*Code="(\d+)"', body)
    return int(found[1]) if found else 0


# -- sloppy but understandable ----------------------------------------------------------------------------------------


def renamed(body: bytes) -> bytes:
    """The same infoset with other prefixes, and the SOAP namespace as the default one."""
    text = body.decode()
    for old, new in (("a", "addr"), ("w", "q17"), ("n", "enum-1")):
        text = text.replace(f"<{old}:", f"<{new}:").replace(f"</{old}:", f"</{new}:")
        text = text.replace(f"xmlns:{old}=", f"xmlns:{new}=")
    text = text.replace("<s:Envelope ", f'<Envelope xmlns="{NS["s"]}" ').replace("</s:Envelope>", "</Envelope>")
    return re.sub(r"<(/?)s:(Header|Body)>", r"<\1\2>", text).encode()


SLOPPY: dict[str, bytes] = {
    "other prefixes": renamed(ASK),
    "an XML declaration and a byte order mark": b"\xef\xbb\xbf<?xml version='1.0' encoding='UTF-8'?>\n" + ASK,
    "comments, processing instructions and indentation": ASK.replace(b"<s:Body>", b"<!-- body -->\n\t<s:Body><?php ?>\n  "),
    "UTF-16 without a word about it": ASK.decode().encode("utf-16"),
    "blanks around the resource URI": re.sub(rb"(<w:ResourceURI[^>]*>)([^<]*)", rb"\1\n      \2\n    ", ASK),
    "another letter case of the resource URI": ASK.replace(b"root/virtualization/v2/*", b"ROOT/Virtualization/V2/*"),
    "another letter case of keywords, class and property": query(
        "sElEcT * fRoM MSVM_computersystem wHeRe ELEMENTNAME <> 'x'"
    ),
    "trailing blanks and line breaks in the query": query("\n SELECT *\n   FROM Msvm_ComputerSystem \t\n"),
    "the query in CDATA": ASK.replace(b"SELECT", b"<![CDATA[SELECT").replace(b"</w:Filter>", b"]]></w:Filter>"),
    "no timeout, locale, envelope size or session": ASK,
    "a message id without uuid": ASK.replace(b"uuid:", b""),
    "a header nobody knows": ASK.replace(b"</s:Header>", b'<z:Trace xmlns:z="urn:z">7</z:Trace></s:Header>'),
    "an unknown locale": ASK.replace(b"</s:Header>", b'<w:Locale xml:lang="xx-XX" s:mustUnderstand="false"/></s:Header>'),
}  # fmt: skip


@pytest.mark.parametrize("what", sorted(SLOPPY))
def test_a_sloppy_request_is_answered_like_a_tidy_one(site: Site, what: str) -> None:
    status, body = site.post(SLOPPY[what])
    assert status == 200, body
    items = ET.fromstring(body).find(".//w:Items", NS)
    assert items is not None and [item.tag for item in items] == [f"{{{SYSTEM}}}Msvm_ComputerSystem"]


def test_names_in_another_letter_case_find_the_same_machine(site: Site) -> None:
    request = envelope(
        GET, SYSTEM.lower(), selectors={"NAME": VM_ID.lower(), "creationclassname": "msvm_computersystem"}
    )
    status, body = site.post(request)
    assert status == 200
    assert ET.fromstring(body).findtext(".//{*}ElementName") == "vm & <0>"


def test_parameters_are_told_apart_by_letter_case_as_xml_is(site: Site) -> None:
    def ask(name: str) -> tuple[int, bytes]:
        inner = f'<p:RequestStateChange_INPUT xmlns:p="{SYSTEM}"><p:{name}>3</p:{name}></p:RequestStateChange_INPUT>'
        return site.post(envelope(f"{SYSTEM}/RequestStateChange", SYSTEM, inner, KEYS))

    calls = len(site.machine.calls)
    assert ask("requestedstate")[0] == 500
    assert len(site.machine.calls) == calls
    assert ask("RequestedState")[0] == 200
    assert site.machine.calls[-1] == ("RequestStateChange", {"RequestedState": 3})


def without(header: str) -> bytes:
    return re.sub(rb"<" + header.encode() + rb"[ >].*?</" + header.encode() + rb">", b"", ASK)


REFUSED: dict[str, tuple[bytes, int]] = {
    "no action": (without("a:Action"), 2150858769),
    "no message id": (without("a:MessageID"), 2150858769),
    "no resource URI": (without("w:ResourceURI"), 2150858811),
    "an unknown selector": (envelope(GET, SYSTEM, selectors={**KEYS, "Colour": "blue"}), 2150858843),
    "one of two keys": (envelope(GET, SYSTEM, selectors={"Name": VM_ID}), 2150858752),
    "no keys at all": (envelope(GET, SYSTEM), 2150859002),
    "a header that must be understood": (
        ASK.replace(b"</s:Header>", b'<z:T xmlns:z="urn:z" s:mustUnderstand="1"/></s:Header>'),
        2150858768,
    ),
    "an alias instead of a URI": (ASK.replace(WMI.encode(), b"wmi/"), 2150858811),
    "backslashes in the URI": (ASK.replace(b"root/virtualization/v2/*", b"root\\virtualization\\v2\\*"), 2150858811),
    "a context that never was": (pull("uuid:00000000-0000-4000-8000-000000000000"), 2150858779),
    "a document type": (b'<!DOCTYPE x [<!ENTITY e "eeee">]>' + ASK, 2150858819),
    "SOAP 1.1": (ASK.replace(NS["s"].encode(), b"http://schemas.xmlsoap.org/soap/envelope/"), 2150858765),
    "JSON": (b'{"action": "Get"}', 2150858819),
}


@pytest.mark.parametrize("what", sorted(REFUSED))
def test_what_cannot_be_understood_is_a_fault_with_its_number(site: Site, what: str) -> None:
    request, number = REFUSED[what]
    status, body = site.post(request)
    assert (status, fault_number(body)) == (500, number), body
    assert ET.fromstring(body).findtext(".//s:Code/s:Value", "", NS).startswith("s:")


# -- authentication ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        "Basic", "Basic ", "Basic ====", "Basic " + base64.b64encode(b"Administrator").decode(), "Basic \xff\xfe",
        "Basic " + base64.b64encode(b"\xff\xfe:x").decode(), "Digest username=x", "Bearer abc", "Negotiate", "Negotiate !",
        "Negotiate " + base64.b64encode(b"NTLMSSP\0\x03\0\0\0").decode(), "NTLM " + base64.b64encode(b"NTLMSSP\0").decode(),
        "Negotiate " + base64.b64encode(bytes(range(256))).decode(), "Kerberos YII=",
    ],
)  # fmt: skip
def test_credentials_that_are_none_are_refused_with_the_schemes_on_offer(site: Site, value: str) -> None:
    connection = HTTPConnection("127.0.0.1", site.port, timeout=10)
    connection.putrequest("POST", "/wsman")
    connection.putheader("Content-Length", str(len(ASK)))
    connection.putheader("Authorization", value.encode("latin-1"))
    connection.endheaders(ASK)
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (401, b"")
    assert answer.getheader("WWW-Authenticate")
    connection.close()


@pytest.mark.parametrize(
    "body", [b"", b"--Encrypted Boundary\r\n", b"--Encrypted Boundary--\r\n" * 3, b"\x00" * 5000, ASK]
)
def test_a_sealed_body_that_is_none_is_400(site: Site, body: bytes) -> None:
    sealed = {
        "Content-Type": 'multipart/encrypted;protocol="application/HTTP-SPNEGO-session-encrypted";'
        'boundary="Encrypted Boundary"'
    }
    assert site.post(body, sealed, plain=True)[0] == 400


# -- HTTP itself ------------------------------------------------------------------------------------------------------


def head(length: str, *more: str) -> bytes:
    lines = ["POST /wsman HTTP/1.1", "Host: hv01", f"Authorization: Basic {ACCOUNT}", *more]
    if length:
        lines.append(f"Content-Length: {length}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def test_a_chunked_body_is_read(site: Site) -> None:
    status, body = site.post(ASK[:1], plain=False)
    assert status == 500 and fault_number(body) == 2150858819
    connection = HTTPConnection("127.0.0.1", site.port, timeout=10)
    pieces = (ASK[at : at + 97] for at in range(0, len(ASK), 97))
    for _unused in range(2):  # the connection stays usable
        connection.request("POST", "/wsman", iter(list(pieces) or [ASK]), HEADERS, encode_chunked=True)
        answer = connection.getresponse()
        assert answer.status == 200 and b"EnumerateResponse" in answer.read()
    connection.close()


def test_a_client_may_ask_before_it_sends_its_body(site: Site) -> None:
    with socket.create_connection(("127.0.0.1", site.port), timeout=10) as peer:
        peer.sendall(head(str(len(ASK)), "Expect: 100-continue"))
        assert peer.recv(1024).startswith(b"HTTP/1.1 100")
        peer.sendall(ASK)
        assert peer.recv(65536).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (head(""), b"411"),
        (head("-1"), b"411"),
        (head("\xb2"), b"411"),
        (head("9" * 5000), b"411"),
        (head(str(2**31)), b"413"),
        (head("", "Transfer-Encoding: chunked") + b"zz\r\n", b"400"),
        (head("", "Transfer-Encoding: chunked") + b"FFFFFFFF\r\nx", b"413"),
        (head("0").replace(b"/wsman", b"http://[wsman"), b"404"),
        (head("0").replace(b"/wsman", b"/powershell"), b"404"),
        (head("0").replace(b"POST", b"GET"), b"405"),
        (head("0").replace(b"HTTP/1.1", b"HTTP/9.9"), b"505"),
        (b"\x00\x01\x02 hello\r\n\r\n", b"400"),
        (b"POST /wsman HTTP/1.1\r\n" + b"X: y\r\n" * 500 + b"\r\n", b"431"),
        (b"POST " + b"/" * 70000 + b" HTTP/1.1\r\n\r\n", b"414"),
    ],
)
def test_broken_http_is_answered_with_its_status(site: Site, request_bytes: bytes, status: bytes) -> None:
    answer = site.raw(request_bytes)
    assert status in answer.split(b"\r\n", 1)[0]


@pytest.mark.parametrize("cut", [5, 60, len(head("9")), len(head("9")) + 40])
def test_a_client_that_goes_away_half_way_hurts_nobody(site: Site, cut: int) -> None:
    whole = head(str(len(ASK))) + ASK
    before = len(site.machine.calls)
    answer = site.raw(whole[:cut])
    assert b"EnumerateResponse" not in answer
    assert len(site.machine.calls) == before


def test_a_connection_that_says_nothing_does_not_keep_others_waiting(site: Site) -> None:
    idle = [socket.create_connection(("127.0.0.1", site.port), timeout=10) for _unused in range(40)]
    idle += [socket.create_connection(("127.0.0.1", site.tls_port), timeout=10) for _unused in range(20)]
    try:
        for number, peer in enumerate(idle):
            peer.sendall(head(str(len(ASK)))[: number + 1] if number < 40 else b"\x16\x03\x01")
        assert site.answers()
    finally:
        for peer in idle:
            peer.close()


def test_a_body_that_trickles_in_is_answered_when_it_is_there(site: Site) -> None:
    with socket.create_connection(("127.0.0.1", site.port), timeout=10) as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer.sendall(head(str(len(ASK))))
        for at in range(0, len(ASK), 16):
            peer.sendall(ASK[at : at + 16])
            if at == 160:
                assert site.answers()  # meanwhile others are served
        assert peer.recv(65536).startswith(b"HTTP/1.1 200")


def test_several_requests_in_one_packet_are_answered_in_order(site: Site) -> None:
    one = head(str(len(ASK))) + ASK
    last = one.replace(b"Host: hv01", b"Connection: close")
    answer = site.raw(one + one + last)
    assert answer.count(b"HTTP/1.1 200") == 3
    assert answer.count(b"n:EnumerateResponse>") == 6


def test_plain_http_on_the_tls_port_and_tls_on_the_plain_port(site: Site) -> None:
    assert b"EnumerateResponse" not in site.raw(head(str(len(ASK))) + ASK, port=site.tls_port)
    careless = ssl.create_default_context()
    careless.check_hostname, careless.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", site.port), timeout=10) as peer,
        pytest.raises((ssl.SSLError, OSError)),
        careless.wrap_socket(peer),
    ):
        pass


EVERYTHING = "SELECT * FROM Msvm_ComputerSystem WHERE"
GIANTS: dict[str, bytes] = {
    "a request above the envelope limit": ASK.replace(b"SELECT", b"SELECT" + b" " * 600_000),
    "a thousand levels": ASK.replace(b"<n:Enumerate>", b"<n:Enumerate>" + b"<x>" * 1000 + b"</x>" * 1000),
    "ten thousand brackets": query(f"{EVERYTHING} {'(' * 10_000}Name = 'x'"),
    "ten thousand conditions": query(f"{EVERYTHING} {' OR '.join(['Name = 1'] * 10_000)}"),
    "a thousand selectors": envelope(GET, SYSTEM, selectors={f"K{number}": "v" for number in range(1000)}),
    "a number without end": pull("uuid:1").replace(b">500<", b">" + b"9" * 5000 + b"<"),
    "a pattern that backtracks": query(f"{EVERYTHING} Name LIKE '{'%a' * 2000}'"),
}  # fmt: skip


@pytest.mark.parametrize("what", sorted(GIANTS))
def test_a_giant_gets_an_answer(site: Site, what: str) -> None:
    status, body = site.post(GIANTS[what])
    assert status in (200, 413, 500)
    assert b"simulator" not in body
    if status != 413:
        ET.fromstring(body)


def test_a_burst_of_a_thousand_requests_from_a_few_threads_is_answered_one_by_one(site: Site) -> None:
    def worker(number: int) -> int:
        connection = HTTPConnection("127.0.0.1", site.port, timeout=30)
        good = 0
        for turn in range(125):
            if turn % 25 == 24:  # some come back on a fresh connection
                connection.close()
            name = f"{VM_ID[:-2]}{(number + turn) % 3 + 1:02d}"
            request = envelope(GET, SYSTEM, selectors={**KEYS, "Name": name})
            message = re.search(rb"<a:MessageID>([^<]*)", request)
            connection.request("POST", "/wsman", request, HEADERS)
            answer = connection.getresponse()
            body = answer.read()
            assert message is not None
            good += answer.status == 200 and message[1] in body and f">{name}<".encode() in body
        connection.close()
        return good

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(worker, range(8))) == 1000


def test_contexts_that_nobody_pulls_do_not_pile_up_for_ever(site: Site) -> None:
    endpoint = site.machine.install()
    plain = envelope(NS["n"] + "/Enumerate", SYSTEM, "<n:Enumerate/>")
    for _unused in range(5):
        assert site.post(plain)[0] == 200
    assert len(endpoint.contexts) == 5
    site.machine.world.clock.advance(endpoint.settings.enumeration_timeout + 1)
    assert site.post(plain)[0] == 200
    assert len(endpoint.contexts) == 1


def test_the_open_shells_are_listed_to_administrators_only(site: Site) -> None:
    uri = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell"
    ask = envelope(f"{NS['n']}/Enumerate", uri, "<n:Enumerate><w:OptimizeEnumeration/></n:Enumerate>")
    empty = site.post(ask)
    assert empty[0] == 200 and b"EndOfSequence" in empty[1] and b"rsp:Shell" not in empty[1]
    streams = (
        "<rsp:Shell><rsp:InputStreams>stdin</rsp:InputStreams><rsp:OutputStreams>stdout</rsp:OutputStreams></rsp:Shell>"
    )
    assert site.post(envelope("http://schemas.xmlsoap.org/ws/2004/09/transfer/Create", f"{uri}/cmd", streams))[0] == 200
    listed = ET.fromstring(site.post(ask)[1])
    assert [item.findtext("rsp:Owner", "", NS) for item in listed.iterfind(".//w:Items/rsp:Shell", NS)] == [
        "administrator"
    ]
    viewer = {"Authorization": "Basic " + base64.b64encode(b"viewer:v").decode()}
    status, body = site.post(ask, viewer)
    assert (status, fault_number(body)) == (500, 5)
