# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real clients over real sockets: pywinrm, pypsrp, and requests written the way libvirt and go-wsman write them."""

from __future__ import annotations

import base64
import contextlib
import socket
import ssl
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import pytest
import requests
from pypsrp.exceptions import AuthenticationError
from pypsrp.exceptions import WSManFaultError as PsrpFault
from pypsrp.shell import Process, SignalCode, WinRS
from pypsrp.wsman import WSMan
from winrm.exceptions import (
    InvalidCredentialsError,
    WinRMOperationTimeoutError,
    WinRMTransportError,
    WSManFaultError,
)
from winrm.protocol import Protocol

from simulator.cim import Ref
from simulator.door_http import HttpDoors
from simulator.door_memory import rules_of
from simulator.endpoint import WinRmSettings
from unit.simulator.tiny_world import NS, V2, VM_ID, WMI, TinyAccount, TinyMachine, envelope, pull, query

PASSWORD = "Correct-Horse-9"
QUERY = "SELECT * FROM Msvm_ComputerSystem"
HTTP_TYPE = "application/soap+xml;charset=UTF-8"


class Rig:
    """A tiny machine behind HTTP and HTTPS on free ports."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.machine = TinyMachine(winrm=WinRmSettings(**settings))
        self.endpoint = self.machine.install()
        self.doors = HttpDoors([self.machine], folder, port=0, tls_port=0).start()

    def url(self, *, tls: bool = False) -> str:
        return self.doors.door("HV01", tls=tls).url

    @property
    def port(self) -> int:
        return self.doors.door("HV01").port

    def pywinrm(self, transport: str = "ntlm", *, user: str = "Administrator", password: str = PASSWORD,
                tls: bool = False, **more: Any) -> Any:  # fmt: skip
        if tls:
            more.setdefault("ca_trust_path", str(self.doors.ca_file))
        kind: Any = transport
        return Protocol(self.url(tls=tls), transport=kind, username=user, password=password, **more)

    def post(self, body: bytes, headers: dict[str, str] | None = None, path: str = "/wsman") -> HTTPResponse:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("POST", path, body, {"Content-Type": HTTP_TYPE, **(headers or {})})
        response = connection.getresponse()
        response.read()
        return response


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    yield made
    made.doors.stop()
    assert made.doors.bugs == []


@pytest.fixture
def basic_rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path, basic=True, allow_unencrypted=True)
    yield made
    made.doors.stop()


def basic(user: str = "Administrator", password: str = PASSWORD) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


# -- pywinrm ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("user", ["Administrator", "administrator", "HV01\\Administrator", ".\\Administrator"])
def test_pywinrm_talks_ntlm_with_sealing_over_http(rig: Rig, user: str) -> None:
    protocol = rig.pywinrm(user=user)
    answer = ET.fromstring(protocol.send_message(query(QUERY)))
    context = answer.findtext(".//n:EnumerationContext", "", NS)
    last = ET.fromstring(protocol.send_message(pull(context)))
    assert sum(len(items) for items in last.iterfind(".//n:Items", NS)) == 3


def test_nothing_readable_crosses_the_wire_under_ntlm(rig: Rig) -> None:
    protocol = rig.pywinrm()
    protocol.send_message(query(QUERY))
    transport = protocol.transport
    seen: list[bytes] = []
    session = transport.session
    session.hooks["response"].append(lambda response, **_unused: seen.append(response.request.body + response.content))
    protocol.send_message(query(QUERY))
    assert seen
    assert all(b"Msvm_ComputerSystem" not in data for data in seen)


@pytest.mark.parametrize("transport", ["ntlm", "ssl"])
def test_pywinrm_talks_over_tls_with_the_world_ca(basic_rig: Rig, transport: str) -> None:
    answer = basic_rig.pywinrm(transport, tls=True).send_message(query(QUERY))
    assert b"EnumerateResponse" in answer


def test_ntlm_inside_tls_may_be_sealed_too(rig: Rig) -> None:
    assert b"EnumerateResponse" in rig.pywinrm(tls=True, message_encryption="always").send_message(query(QUERY))


def test_a_wrong_password_is_rejected_and_so_is_an_unknown_or_disabled_account(rig: Rig) -> None:
    rig.machine.accounts["former"] = TinyAccount(password=PASSWORD, disabled=True)
    for user, password in (("Administrator", "wrong"), ("nobody-there", PASSWORD), ("former", PASSWORD)):
        with pytest.raises(InvalidCredentialsError):
            rig.pywinrm(user=user, password=password).send_message(query(QUERY))


def test_basic_is_not_offered_unless_the_machine_allows_it(rig: Rig) -> None:
    with pytest.raises(InvalidCredentialsError):
        rig.pywinrm("basic").send_message(query(QUERY))


def test_basic_over_http_is_refused_without_allow_unencrypted(tmp_path: Path) -> None:
    rig = Rig(tmp_path, basic=True)
    try:
        response = rig.post(query(QUERY), basic())
        assert (response.status, response.headers["Content-Length"]) == (500, "0")
    finally:
        rig.doors.stop()


def test_ntlm_without_sealing_is_refused_over_http(rig: Rig) -> None:
    with pytest.raises(WinRMTransportError) as caught:
        rig.pywinrm(message_encryption="never").send_message(query(QUERY))
    assert caught.value.code == 500


def test_an_untrusted_certificate_is_not_accepted(tmp_path: Path) -> None:
    for kind in ("self_signed", "wrong_name", "expired"):
        rig = Rig(tmp_path / kind, certificate_kind=kind)
        try:
            with pytest.raises(requests.exceptions.SSLError):
                rig.pywinrm(tls=True).send_message(query(QUERY))
        finally:
            rig.doors.stop()


def test_a_client_certificate_is_a_login(tmp_path: Path) -> None:
    rig = Rig(tmp_path, certificate=True)
    try:
        pair = rig.doors.authority.issue_client("Administrator")
        protocol = rig.pywinrm("certificate", tls=True, cert_pem=str(pair.certificate), cert_key_pem=str(pair.key))
        assert b"EnumerateResponse" in protocol.send_message(query(QUERY))
        stranger = rig.doors.authority.issue_client("stranger")
        with pytest.raises(InvalidCredentialsError):
            rig.pywinrm(
                "certificate", tls=True, cert_pem=str(stranger.certificate), cert_key_pem=str(stranger.key)
            ).send_message(query(QUERY))
    finally:
        rig.doors.stop()


def test_pywinrm_sees_faults_with_their_numbers(rig: Rig) -> None:
    with pytest.raises(WSManFaultError) as caught:
        rig.pywinrm().send_message(query("SELECT * FROM Nothing"))
    assert (caught.value.fault_subcode, caught.value.wsman_fault_code) == ("n:CannotProcessFilter", 2150858778)


def test_a_dropped_keep_alive_gives_400_for_ever_until_the_session_is_renewed(rig: Rig) -> None:
    protocol = rig.pywinrm()
    protocol.send_message(query(QUERY))
    rig.doors.drop_connections()
    for _unused in range(2):
        with pytest.raises(WinRMTransportError) as caught:
            protocol.send_message(query(QUERY))
        assert caught.value.code == 400
    protocol.transport.close_session()
    assert b"EnumerateResponse" in protocol.send_message(query(QUERY))


def test_pywinrm_runs_a_command_in_a_shell(rig: Rig) -> None:
    protocol = rig.pywinrm()
    shell = protocol.open_shell(codepage=65001, env_vars={"A": "b"}, working_directory="C:\\")
    command = protocol.run_command(shell, "wbadmin", ["get", "versions"])
    assert protocol.get_command_output(shell, command) == (b"wbadmin get versions\r\n", b"", 3)
    protocol.cleanup_command(shell, command)
    protocol.close_shell(shell, close_session=False)
    assert rig.machine.processes.killed_jobs == [shell]
    with pytest.raises(WSManFaultError) as caught:
        protocol.run_command(shell, "again")
    assert caught.value.wsman_fault_code == 2150858843


def test_receive_with_nothing_yet_times_out_and_input_is_delivered(rig: Rig) -> None:
    protocol = rig.pywinrm()
    shell = protocol.open_shell()
    command = protocol.run_command(shell, "more")
    first = protocol.get_command_output_raw(shell, command)
    assert first[0] == b"more\r\n"
    with pytest.raises(WinRMOperationTimeoutError):
        protocol.get_command_output_raw(shell, command)
    protocol.send_command_input(shell, command, b"typed", end=True)
    out, _unused, code, done = protocol.get_command_output_raw(shell, command)
    assert (out, code, done) == (b"typed", 0, True)


def test_the_shell_quota_is_a_fault(tmp_path: Path) -> None:
    rig = Rig(tmp_path, max_shells_per_user=2)
    try:
        protocol = rig.pywinrm()
        protocol.open_shell()
        protocol.open_shell()
        with pytest.raises(WSManFaultError) as caught:
            protocol.open_shell()
        assert (caught.value.fault_subcode, caught.value.wsman_fault_code) == ("w:QuotaLimit", 2150859173)
    finally:
        rig.doors.stop()


# -- pypsrp -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("auth", ["ntlm", "negotiate"])
def test_pypsrp_talks_ntlm_with_sealing_over_http(rig: Rig, auth: str) -> None:
    with WSMan("127.0.0.1", port=rig.port, ssl=False, auth=auth, username="Administrator", password=PASSWORD) as wsman:
        body = wsman.get(WMI + "root/cimv2/Win32_OperatingSystem")
        assert body.findtext(".//{*}Version") == "10.0.17763"
        assert b"EnumerateResponse" in wsman.transport.send(query(QUERY))
        with pytest.raises(PsrpFault) as caught:
            wsman.get(WMI + f"{V2}/Msvm_ComputerSystem")
        assert caught.value.code == 2150859002


def test_pypsrp_talks_basic_over_tls(basic_rig: Rig) -> None:
    port = basic_rig.doors.door("HV01", tls=True).port
    trusted: Any = str(basic_rig.doors.ca_file)
    with WSMan("127.0.0.1", port=port, ssl=True, auth="basic", username="Administrator", password=PASSWORD,
               cert_validation=trusted) as wsman:  # fmt: skip
        assert wsman.get(WMI + "root/cimv2/Win32_OperatingSystem").findtext(".//{*}Version") == "10.0.17763"


def test_pypsrp_with_a_wrong_password_is_rejected(rig: Rig) -> None:
    wsman = WSMan("127.0.0.1", port=rig.port, ssl=False, auth="ntlm", username="Administrator", password="wrong")
    with pytest.raises(AuthenticationError):
        wsman.get(WMI + "root/cimv2/Win32_OperatingSystem")


def test_pypsrp_runs_a_process_in_a_shell(rig: Rig) -> None:
    wsman = WSMan("127.0.0.1", port=rig.port, ssl=False, auth="ntlm", username="Administrator", password=PASSWORD)
    with wsman, WinRS(wsman) as shell:
        process = Process(shell, "echo", ["a", "b"])
        process.invoke()
        process.signal(SignalCode.CTRL_C)
        assert (process.rc, process.stdout) == (3, b"echo a b\r\n")


# -- plain HTTP rules -------------------------------------------------------------------------------------------------


def test_an_unauthenticated_request_with_a_body_gets_401_and_the_schemes(basic_rig: Rig) -> None:
    response = basic_rig.post(query(QUERY))
    assert response.status == 401
    assert response.headers.get_all("WWW-Authenticate") == ["Negotiate", 'Basic realm="WSMAN"']


def test_a_sealed_message_on_a_connection_without_a_context_is_400(rig: Rig) -> None:
    kind = 'multipart/encrypted;protocol="application/HTTP-SPNEGO-session-encrypted";boundary="Encrypted Boundary"'
    assert rig.post(b"--Encrypted Boundary\r\n", {"Content-Type": kind}).status == 400


@pytest.mark.parametrize(
    ("path", "status"), [("/", 404), ("/wsman2", 404), ("/wsman?PSVersion=7", 401), ("/WSMAN", 401)]
)
def test_only_the_wsman_prefix_answers(rig: Rig, path: str, status: int) -> None:
    assert rig.post(b"", path=path).status == status


def test_identify_needs_no_login(rig: Rig) -> None:
    body = (
        b'<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Header/><s:Body><i:Identify '
        b'xmlns:i="http://schemas.dmtf.org/wbem/wsman/identity/1/wsmanidentity.xsd"/></s:Body></s:Envelope>'
    )
    assert rig.post(body, {"WSMANIDENTIFY": "unauthenticated"}).status == 200
    assert rig.post(query(QUERY), {"WSMANIDENTIFY": "unauthenticated"}).status == 401


def test_a_machine_that_does_not_run_resets_the_connection(rig: Rig) -> None:
    rig.machine.answers = False
    with pytest.raises((ConnectionError, OSError)):
        rig.post(b"")


def test_garbage_on_the_tls_port_does_no_harm(rig: Rig) -> None:
    with socket.create_connection(("127.0.0.1", rig.doors.door("HV01", tls=True).port), timeout=5) as plain:
        plain.sendall(b"GET / HTTP/1.0\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            plain.recv(100)
    context = ssl.create_default_context(cafile=str(rig.doors.ca_file))
    with (
        socket.create_connection(("127.0.0.1", rig.doors.door("HV01", tls=True).port), timeout=5) as again,
        context.wrap_socket(again, server_hostname="127.0.0.1") as sealed,
    ):
        assert sealed.version() in ("TLSv1.2", "TLSv1.3")


# -- libvirt and go-wsman ---------------------------------------------------------------------------------------------

LIBVIRT_HEAD = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" '
    'xmlns:wsa="http://schemas.xmlsoap.org/ws/2004/08/addressing" '
    'xmlns:wsman="http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd" '
    'xmlns:wsen="http://schemas.xmlsoap.org/ws/2004/09/enumeration"><s:Header>'
    '<wsa:Action s:mustUnderstand="true">{action}</wsa:Action>'
    '<wsa:To s:mustUnderstand="true">http://127.0.0.1:5985/wsman</wsa:To>'
    '<wsman:ResourceURI s:mustUnderstand="true">{uri}</wsman:ResourceURI>'
    '<wsa:MessageID s:mustUnderstand="true">uuid:6b3a6ab8-c3e5-13e5-8002-6e2c1f3d0000</wsa:MessageID>'
    "<wsa:ReplyTo><wsa:Address>http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous</wsa:Address>"
    "</wsa:ReplyTo>{selectors}</s:Header><s:Body>{body}</s:Body></s:Envelope>"
)


class Libvirt:
    """Requests the way libvirt's openwsman writes them: own prefixes, few headers, no MaxElements, Basic."""

    def __init__(self, rig: Rig) -> None:
        self._connection = HTTPConnection("127.0.0.1", rig.port, timeout=10)

    def send(self, action: str, uri: str, body: str, selectors: dict[str, str] | None = None) -> ET.Element:
        chosen = "".join(f'<wsman:Selector Name="{n}">{v}</wsman:Selector>' for n, v in (selectors or {}).items())
        chosen = f"<wsman:SelectorSet>{chosen}</wsman:SelectorSet>" if chosen else ""
        text = LIBVIRT_HEAD.format(action=action, uri=uri, body=body, selectors=chosen)
        headers = {"Content-Type": HTTP_TYPE, "User-Agent": "openwsman 2.2.0"}
        for attempt in (headers, {**headers, **basic()}):  # the first try always goes without credentials
            self._connection.request("POST", "/wsman", text.encode(), attempt)
            response = self._connection.getresponse()
            data = response.read()
            assert response.status == (401 if attempt is headers else 200), data
        return ET.fromstring(data)

    def rows(self, wql: str, namespace: str = V2, mode: str = "") -> list[ET.Element]:
        text = wql.replace("&", "&amp;").replace("<", "&lt;")
        chosen = f"<wsman:EnumerationMode>{mode}</wsman:EnumerationMode>" if mode else ""
        body = (
            f'<wsen:Enumerate>{chosen}<wsman:Filter Dialect="http://schemas.microsoft.com/wbem/wsman/1/WQL">{text}'
            "</wsman:Filter></wsen:Enumerate>"
        )
        answer = self.send(NS["n"] + "/Enumerate", f"{WMI}{namespace}/*", body)
        context, found = answer.findtext(".//n:EnumerationContext", "", NS), []
        class_uri = f"{WMI}{namespace}/" + wql.rsplit(" FROM ", maxsplit=1)[-1].split(maxsplit=1)[0].strip("{}")
        while context:
            body = f"<wsen:Pull><wsen:EnumerationContext>{context}</wsen:EnumerationContext></wsen:Pull>"
            answer = self.send(NS["n"] + "/Pull", class_uri, body)
            items = answer.find(".//n:PullResponse/n:Items", NS)
            assert items is not None
            found += list(items)[:1]  # it takes the first item of a page and no more
            context = answer.findtext(".//n:EnumerationContext", "", NS)
        return found


def test_libvirt_sees_every_machine_one_item_at_a_time(basic_rig: Rig) -> None:
    client = Libvirt(basic_rig)
    rows = client.rows("SELECT * FROM Msvm_ComputerSystem WHERE Description = 'Microsoft Virtual Machine' ")
    assert len(rows) == 3
    found = client.rows(f"SELECT * FROM Msvm_ComputerSystem WHERE Name != __SERVER AND Name = '{VM_ID.lower()}'")  # noqa: S608
    assert [row.findtext("{*}ElementName") for row in found] == ["vm & <0>"]


def test_libvirt_copies_a_reference_into_an_invoke_and_embeds_cdata(basic_rig: Rig) -> None:
    client = Libvirt(basic_rig)
    wql = f"SELECT * FROM Msvm_VirtualSystemSettingData WHERE InstanceID = 'Microsoft:{VM_ID}'"  # noqa: S608
    (reference,) = client.rows(wql, mode="EnumerateEPR")
    inner = "".join(ET.tostring(child, encoding="unicode") for child in reference)
    uri = f"{WMI}{V2}/Msvm_VirtualSystemManagementService"
    settings = (
        '<![CDATA[<?xml version="1.0"?>\n<INSTANCE CLASSNAME="Msvm_ResourceAllocationSettingData">\n '
        '<PROPERTY NAME="ResourceType" TYPE="uint16">\n  <VALUE>17</VALUE>\n </PROPERTY>\n '
        '<PROPERTY.ARRAY NAME="HostResource" TYPE="string">\n  <VALUE.ARRAY>\n   <VALUE>x</VALUE>\n  </VALUE.ARRAY>\n '
        "</PROPERTY.ARRAY>\n</INSTANCE>\n]]>"
    )
    body = (
        f'<n1:AddResourceSettings_INPUT xmlns:n1="{uri}"><n1:AffectedConfiguration>{inner}</n1:AffectedConfiguration>'
        f"<n1:ResourceSettings>{settings}</n1:ResourceSettings></n1:AddResourceSettings_INPUT>"
    )
    answer = client.send(
        f"{uri}/AddResourceSettings", uri, body, {"CreationClassName": "Msvm_VirtualSystemManagementService"}
    )
    assert answer.findtext(".//{*}ReturnValue") == "0"
    arguments = basic_rig.machine.calls[-1][1]
    affected, embedded = arguments["AffectedConfiguration"], arguments["ResourceSettings"]
    assert isinstance(affected, Ref)
    assert affected.key("InstanceID") == f"Microsoft:{VM_ID}"
    assert isinstance(embedded, list)
    assert embedded[0].properties == {"ResourceType": 17, "HostResource": ["x"]}


def test_go_wsman_reads_a_class_by_its_uri_and_a_job_by_its_reference(rig: Rig) -> None:
    protocol = rig.pywinrm()
    uri = f"{WMI}{V2}/Msvm_ComputerSystem"
    first = ET.fromstring(protocol.send_message(envelope(NS["n"] + "/Enumerate", uri, "<n:Enumerate/>")))
    context = first.findtext(".//n:EnumerationContext", "", NS)
    names = []
    while context:
        page = ET.fromstring(protocol.send_message(pull(context, batch=None)))
        names += [item.findtext("{*}ElementName") for items in page.iterfind(".//n:Items", NS) for item in items]
        context = page.findtext(".//n:EnumerationContext", "", NS)
    assert names == ["HV01", "vm & <0>", "vm & <1>", "vm & <2>"]


# -- fault rules over HTTP --------------------------------------------------------------------------------------------


def test_dropped_before_and_after_differ_only_in_what_the_machine_did(rig: Rig) -> None:
    rules = rules_of(rig.machine.world)
    uri = f"{WMI}{V2}/Msvm_ComputerSystem"
    call = envelope(
        f"{uri}/RequestStateChange", uri,
        f'<p:RequestStateChange_INPUT xmlns:p="{uri}"><p:RequestedState>3</p:RequestedState></p:RequestStateChange_INPUT>',
        {"CreationClassName": "Msvm_ComputerSystem", "Name": VM_ID},
    )  # fmt: skip
    for effect, calls in (("drop_before", 0), ("drop_after", 1)):
        rules.add({"match": {"method": "RequestStateChange"}, "effect": effect})
        with pytest.raises(requests.exceptions.ConnectionError):
            rig.pywinrm().send_message(call)
        assert len(rig.machine.calls) == calls
    rules.add({"match": {"method": "RequestStateChange"}, "effect": "truncated"})
    with pytest.raises((requests.exceptions.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        rig.pywinrm().send_message(call)
    assert len(rig.machine.calls) == 2
    assert b"4096" in rig.pywinrm().send_message(call)


def test_a_connection_closed_after_an_answer_is_the_400_of_an_idle_server(rig: Rig) -> None:
    rules_of(rig.machine.world).add({"effect": "close"})
    protocol = rig.pywinrm()
    assert b"EnumerateResponse" in protocol.send_message(query(QUERY))
    with pytest.raises(WinRMTransportError) as caught:
        protocol.send_message(query(QUERY))
    assert caught.value.code == 400


def test_many_clients_at_once_each_get_their_own_answers(rig: Rig) -> None:
    def names(number: int) -> list[str | None]:
        protocol = rig.pywinrm()
        found: list[str | None] = []
        for _unused in range(5):
            wql = f"SELECT * FROM Msvm_ComputerSystem WHERE ElementName = 'vm & <{number % 3}>'"  # noqa: S608
            answer = ET.fromstring(protocol.send_message(query(wql)))
            found += [item.findtext("{*}ElementName") for items in answer.iterfind(".//w:Items", NS) for item in items]
        return found

    with ThreadPoolExecutor(8) as pool:
        for number, found in enumerate(pool.map(names, range(16))):
            assert found == [f"vm & <{number % 3}>"] * 5


def test_waiting_for_a_silent_command_takes_simulated_time(rig: Rig) -> None:
    protocol = rig.pywinrm(operation_timeout_sec=20, read_timeout_sec=30)
    shell = protocol.open_shell()
    command = protocol.run_command(shell, "more")
    protocol.get_command_output_raw(shell, command)
    before = rig.machine.world.clock.utc()
    with pytest.raises(WinRMOperationTimeoutError):
        protocol.get_command_output_raw(shell, command)
    assert (rig.machine.world.clock.utc() - before).total_seconds() == 20
