# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bytes of answers: against recordings of real hosts, and against answers of our own writing in the same shapes."""

from __future__ import annotations

import os
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from simulator import wire
from simulator.assumed import Switches
from simulator.cim import CimFault, Instance
from simulator.schema import Schema
from simulator.wire_faults import fault_envelope
from unit.simulator.tiny_world import NS, V2, VM_ID, Client, TinyMachine, envelope, invoke, pull, query

RECORDINGS = os.environ.get("HYPERV_PASSTHROUGH_RECORDINGS", "")
ANSWERS = Path(__file__).parent / "answers"
needs_recordings = pytest.mark.skipif(
    not RECORDINGS, reason="HYPERV_PASSTHROUGH_RECORDINGS does not name the folder of recorded answers"
)
# Properties that builds newer than the schema's Server 2019 have.
NEWER = ("ManagementVtlImageFileName", "ManagementVtlImageVersion", "TargetVtl")
WITH_INSTANCES = (
    "get_response_storagejob_completed.xml",
    "get_response_storagejob_running.xml",
    "recorded_affectedjobelement_pull_created.xml",
    "recorded_affectedjobelement_pull_same_job_effect0.xml",
    "recorded_computersystem_pull_host.xml",
    "recorded_computersystem_pull_vm_off.xml",
    "recorded_computersystem_pull_vm_running_c_eos.xml",
    "recorded_pull_externalethernetport.xml",
    "recorded_pull_guestnetworkadapterconfiguration.xml",
    "recorded_pull_virtualethernetswitch.xml",
)


def recorded(name: str) -> str:
    text = (Path(RECORDINGS) / "r4sd-go-wsman-recorded" / name).read_text(encoding="utf-8-sig")
    return re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL).strip()


def writer() -> wire.Writer:
    return wire.Writer(schema=Schema.shared(), host="HV01", assume=Switches().__getitem__)


def rewrite(element: ET.Element) -> str:
    """Read an instance with the schema and write it again."""
    schema = Schema.shared()
    target = wire.parse_class_uri(wire.split(element.tag)[0])
    assert target is not None
    entry = schema.get(*target)
    return writer().instance(Instance(entry.namespace, entry.name, wire.parse_properties(element, entry, schema)))


@needs_recordings
@pytest.mark.parametrize("name", WITH_INSTANCES)
def test_a_recorded_instance_is_written_again_byte_for_byte(name: str) -> None:
    text = recorded(name)
    for newer in NEWER:
        text = re.sub(rf'<p:{newer} xsi:nil="true"/>', "", text)
    root = ET.fromstring(text)
    found = [e for e in root.iter() if e.get(f"{{{wire.XSI}}}type", "").startswith("p:Msvm_")]
    assert len(found) == 1
    start = text.index(f"<p:{found[0].tag.rpartition('}')[2]} ")
    end = text.index("</s:Body>")
    for closing in ("</n:PullResponse>", "<n:EndOfSequence/>", "</n:Items>"):
        end = text.index(closing) if closing in text else end
    assert rewrite(found[0]) == text[start:end]


@needs_recordings
@pytest.mark.parametrize("name", [*WITH_INSTANCES, "recorded_computersystem_enumerate.xml"])
def test_a_recorded_envelope_is_written_again_byte_for_byte(name: str) -> None:
    text = recorded(name)
    root = ET.fromstring(text)
    action = root.findtext(".//a:Action", "", NS)
    body = text[text.index("<s:Body>") + len("<s:Body>") : text.index("</s:Body>")]
    made = wire.envelope(
        action,
        root.findtext(".//a:MessageID", "", NS),
        root.findtext(".//a:RelatesTo", "", NS),
        body,
        "x w p" if action.endswith("GetResponse") else "n w",
        "ja-JP",
    )
    assert made.decode() == text


def shape(element: ET.Element) -> tuple[object, ...]:
    """Names, attribute names and nesting, without any text."""
    attributes = tuple(
        sorted(name for name in element.attrib if not name.endswith("}lang") and not name.endswith("}type"))
    )
    return (element.tag, attributes, tuple(shape(child) for child in element))


@needs_recordings
def test_wql_on_a_missing_class_has_the_recorded_shape() -> None:
    told = ET.parse(Path(RECORDINGS) / "winrb" / "wsman_fault.xml").getroot()
    machine = TinyMachine()
    machine.install()
    told_text = "Select * from Win32_Processa where name='sshd.exe'"
    made = Client(machine).send(query(told_text, "root/cimv2"))
    theirs, ours = told.find(".//s:Fault", NS), made.find(".//s:Fault", NS)
    assert theirs is not None
    assert ours is not None
    assert shape(ours) == shape(theirs)
    assert made.findtext(".//a:Action", "", NS) == told.findtext(".//a:Action", "", NS)
    assert made.find(".//f:WSManFault", NS).get("Code") == told.find(".//f:WSManFault", NS).get("Code")  # type: ignore[union-attr]


@needs_recordings
def test_get_of_a_missing_instance_has_the_recorded_shape() -> None:
    told = ET.parse(Path(RECORDINGS) / "omi-tests-windows-answers" / "04-test_wsmanparser-line1509.xml").getroot()
    text = fault_envelope(
        CimFault.wmi(0x80041002, operation="GetObject", parameter='Win32_Process.Handle="29"', provider="CIMWin32"),
        message_id="uuid:1",
        relates_to="uuid:2",
        host="h",
        namespace="root/cimv2",
        in_query=False,
        assume=Switches().__getitem__,
        lang="en-US",
    )
    made = ET.fromstring(text)

    def plain(root: ET.Element) -> str:
        fault = root.find(".//s:Fault", NS)
        assert fault is not None
        # The recorded client used the DMTF form of class URIs; ours is the Microsoft form.
        return re.sub(r"\{[^}]*__ExtendedStatus\}", "", repr(shape(fault)))

    assert plain(made) == plain(told)
    assert made.findtext(".//a:Action", "", NS) == told.findtext(".//a:Action", "", NS)
    assert made.findtext(".//w:FaultDetail", "", NS) == told.findtext(".//w:FaultDetail", "", NS)


@needs_recordings
def test_an_msft_wmierror_has_the_recorded_shape() -> None:
    told = ET.parse(Path(RECORDINGS) / "winrb" / "wmi_error_v2.xml").getroot()
    text = fault_envelope(
        CimFault.mi(27, "too many", 2150859173),
        message_id="uuid:1", relates_to="uuid:2", host="h", namespace="root/cimv2", in_query=False,
        assume=Switches().__getitem__, lang="en-US",
    )  # fmt: skip
    theirs, ours = told.find(".//s:Detail", NS), ET.fromstring(text).find(".//s:Detail", NS)
    assert theirs is not None
    assert ours is not None
    assert shape(ours) == shape(theirs)
    assert [e.text for e in ours.iter() if e.tag.endswith(("error_Code", "MessageID"))] == [
        e.text for e in theirs.iter() if e.tag.endswith(("error_Code", "MessageID"))
    ]


@needs_recordings
@pytest.mark.parametrize(
    "path", sorted(Path(RECORDINGS).rglob("*.xml")) if RECORDINGS else [], ids=lambda path: path.name
)
def test_every_recording_is_well_formed_for_our_parser(path: Path) -> None:
    text = re.sub(r"<!--.*?-->\s*", "", path.read_text(encoding="utf-8-sig"), flags=re.DOTALL)
    root = wire.parse_xml(text.encode())
    assert root.tag == f"{{{wire.S}}}Envelope"


def golden(name: str, made: bytes) -> None:
    """Compare with the kept answer; message ids are replaced, they are not the point."""
    text = re.sub(r"uuid:[0-9A-F-]{36}", "uuid:ID", made.decode())
    assert text == (ANSWERS / name).read_text(encoding="utf-8").rstrip("\n")


SELECTORS = {"CreationClassName": "Msvm_ComputerSystem", "Name": VM_ID}
GOLDEN = {
    "enumerate_plain.xml": [
        envelope(NS["n"] + "/Enumerate", f"{wire.WMI_PREFIX}{V2}/Msvm_ConcreteJob", "<n:Enumerate/>"),
    ],
    "enumerate_one_row.xml": [query("SELECT InstanceID, ElapsedTime, OperationalStatus FROM Msvm_ConcreteJob")],
    "get_job.xml": [
        envelope(
            NS["x"] + "/Get",
            f"{wire.WMI_PREFIX}{V2}/Msvm_ConcreteJob",
            selectors={"InstanceID": "11111111-2222-4333-8444-555555555555"},
        )
    ],
    "invoke_job_started.xml": [
        invoke("Msvm_ComputerSystem", "RequestStateChange", "<p:RequestedState>3</p:RequestedState>", SELECTORS)
    ],
    "invoke_extended_status.xml": [
        invoke("MSFT_Disk", "Offline", "", {"ObjectId": '{1}\\\\HV01\\root:WSP_Disk.ObjectId="{0}"'},
               "root/microsoft/windows/storage")
    ],
    "fault_storage_provider.xml": [
        invoke("MSFT_Disk", "Online", "", {"ObjectId": '{1}\\\\HV01\\root:WSP_Disk.ObjectId="{0}"'},
               "root/microsoft/windows/storage")
    ],
    "fault_missing_instance.xml": [
        envelope(NS["x"] + "/Get", f"{wire.WMI_PREFIX}{V2}/Msvm_ConcreteJob", selectors={"InstanceID": "none"})
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_an_answer_is_exactly_the_kept_one(name: str) -> None:
    from simulator.door_memory import memory_door

    machine = TinyMachine()
    machine.install()
    send = memory_door(machine, "Administrator")
    for request in GOLDEN[name]:
        answer = send(re.sub(rb"(?<=<a:MessageID>)[^<]*", b"uuid:00000000-0000-4000-8000-00000000000A", request))
    golden(name, answer)


def test_the_last_pull_has_an_end_and_no_context() -> None:
    machine = TinyMachine()
    machine.install()
    client = Client(machine)
    first = client.send(query("SELECT * FROM Msvm_ComputerSystem"))
    context = first.findtext(".//n:EnumerationContext", "", NS)
    last = client.send(pull(context))
    response = last.find(".//n:PullResponse", NS)
    assert response is not None
    assert [child.tag.rpartition("}")[2] for child in response] == ["Items", "EndOfSequence"]
    assert all(child.tag.startswith(f"{{{NS['n']}}}") for child in response)
