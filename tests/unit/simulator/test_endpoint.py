# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the endpoint answers and refuses: enumerations, gets, invokes, rights; through the memory door."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.cim import Instance, Ref
from simulator.door_memory import endpoint_of, memory_door
from simulator.endpoint import WinRmSettings
from unit.simulator.tiny_world import (
    NS,
    PROVIDERS,
    STORAGE,
    V2,
    VM_ID,
    WMI,
    Client,
    TinyMachine,
    envelope,
    invoke,
    local,
    pull,
    query,
    values,
)

N, X = NS["n"], NS["x"]
VM = {"CreationClassName": "Msvm_ComputerSystem", "Name": VM_ID}
SERVICE = {"CreationClassName": "Msvm_VirtualSystemManagementService"}
ANONYMOUS = "http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous"


@pytest.fixture
def machine() -> TinyMachine:
    made = TinyMachine()
    made.install()
    return made


@pytest.fixture
def client(machine: TinyMachine) -> Client:
    return Client(machine)


def context_of(answer: ET.Element) -> str:
    return answer.findtext(".//n:EnumerationContext", "", NS)


def enumerate_class(name: str, body: str = "", namespace: str = V2) -> bytes:
    return envelope(N + "/Enumerate", f"{WMI}{namespace}/{name}", f"<n:Enumerate>{body}</n:Enumerate>")


# -- enumeration ------------------------------------------------------------------------------------------------------


def test_an_optimised_enumeration_of_several_rows_gives_one_item_and_a_context(client: Client) -> None:
    answer = client.send(query("SELECT * FROM Msvm_ComputerSystem", batch=32000))
    assert [len(items) for items in answer.iterfind(".//w:Items", NS)] == [1]
    assert context_of(answer).startswith("uuid:")
    assert answer.find(".//w:EndOfSequence", NS) is None


def test_a_result_of_one_row_is_complete_in_one_answer(client: Client) -> None:
    answer = client.send(query("SELECT * FROM Msvm_ConcreteJob"))
    assert context_of(answer) == ""
    assert answer.find(".//n:EnumerationContext", NS) is not None
    assert answer.find(".//w:EndOfSequence", NS) is not None


def test_a_plain_enumeration_gives_a_context_only(client: Client) -> None:
    answer = client.send(enumerate_class("Msvm_ComputerSystem"))
    response = answer.find(".//n:EnumerateResponse", NS)
    assert response is not None
    assert [local(child) for child in response] == ["EnumerationContext"]


def test_a_pull_without_max_elements_gives_one_item(client: Client) -> None:
    context, counts = context_of(client.send(enumerate_class("Msvm_ComputerSystem"))), []
    while context:
        answer = client.send(pull(context, batch=None))
        counts.append(sum(len(items) for items in answer.iterfind(".//n:Items", NS)))
        context = context_of(answer)
    assert counts == [1, 1, 1, 1]


def test_an_empty_result_ends_with_the_first_pull(client: Client) -> None:
    context = context_of(client.send(query("SELECT * FROM Msvm_ComputerSystem WHERE Name='none'", optimized=False)))
    answer = client.send(pull(context))
    assert [len(items) for items in answer.iterfind(".//n:Items", NS)] == [0]
    assert answer.find(".//n:EndOfSequence", NS) is not None


def test_every_page_has_another_context_and_an_old_one_is_gone(client: Client) -> None:
    first = context_of(client.send(enumerate_class("Msvm_ComputerSystem")))
    second = context_of(client.send(pull(first, batch=1)))
    assert second != first
    assert client.fault(pull(first)) == ("n:InvalidEnumerationContext", 2150858779)
    assert client.send(pull(second)).find(".//n:EndOfSequence", NS) is not None


def test_a_page_stops_at_the_cap_and_everything_arrives(client: Client) -> None:
    context, sizes, seen = context_of(client.send(enumerate_class("Win32_Process", namespace="root/cimv2"))), [], 0
    send = memory_door(client.machine, "Administrator")
    while context:
        data = send(pull(context, "root/cimv2", batch=32000))
        answer = ET.fromstring(data)
        sizes.append(len(data.decode()))
        seen += sum(len(items) for items in answer.iterfind(".//n:Items", NS))
        context = context_of(answer)
    assert seen == 300
    assert len(sizes) > 2
    assert max(sizes) < 76_800 + 2_048


def test_a_context_expires_and_belongs_to_its_caller(client: Client, machine: TinyMachine) -> None:
    context = context_of(client.send(enumerate_class("Msvm_ComputerSystem")))
    assert Client(machine, "operator").fault(pull(context))[1] == 2150858779
    context = context_of(client.send(enumerate_class("Msvm_ComputerSystem")))
    machine.world.clock.advance(239)
    context = context_of(client.send(pull(context, batch=1)))
    machine.world.clock.advance(241)
    assert client.fault(pull(context)) == ("n:InvalidEnumerationContext", 2150858779)


def test_release_frees_the_context(client: Client) -> None:
    context = context_of(client.send(enumerate_class("Msvm_ComputerSystem")))
    body = f"<n:Release><n:EnumerationContext>{context}</n:EnumerationContext></n:Release>"
    answer = client.send(envelope(N + "/Release", f"{WMI}{V2}/*", body))
    assert answer.findtext(".//a:Action", "", NS) == N + "/ReleaseResponse"
    assert client.fault(pull(context))[1] == 2150858779


def test_references_and_objects_with_references(client: Client) -> None:
    text = f"SELECT * FROM Msvm_ComputerSystem WHERE Name='{VM_ID.lower()}'"  # noqa: S608 - WQL
    only = client.send(query(text, mode="EnumerateEPR"))
    names = [s.get("Name") for s in only.iterfind(".//w:Items/a:EndpointReference//w:Selector", NS)]
    assert names == ["CreationClassName", "Name"]
    both = client.send(query(text, mode="EnumerateObjectAndEPR"))
    item = both.find(".//w:Items/w:Item", NS)
    assert item is not None
    assert [local(child) for child in item] == ["Msvm_ComputerSystem", "EndpointReference"]


def test_an_enumeration_is_deep_and_rows_keep_their_own_class(client: Client) -> None:
    rows = client.rows("SELECT * FROM CIM_Service")
    assert {local(row) for row in rows} == {"Msvm_VirtualSystemManagementService", "Msvm_ImageManagementService"}
    assert rows[0].tag.startswith("{" + WMI + V2 + "/Msvm_")


def test_associators_walk_to_the_settings(client: Client) -> None:
    path = f"Msvm_ComputerSystem.CreationClassName='Msvm_ComputerSystem',Name='{VM_ID.lower()}'"
    for condition in (
        "WHERE AssocClass = Msvm_SettingsDefineState ResultClass = Msvm_VirtualSystemSettingData",
        "WHERE ResultClass = CIM_SettingData",
        "WHERE ResultRole = SettingData",
        "",
    ):
        rows = client.rows(f"ASSOCIATORS OF {{{path}}} {condition}")
        assert [values(row)["InstanceID"] for row in rows] == [f"Microsoft:{VM_ID}"], condition
    assert client.rows(f"ASSOCIATORS OF {{{path}}} WHERE ResultRole = ManagedElement") == []
    references = client.rows(f"REFERENCES OF {{{path}}}")
    assert [local(row) for row in references] == ["Msvm_SettingsDefineState"]
    ends = references[0].findall("*/a:ReferenceParameters/w:ResourceURI", NS)
    assert [end.text for end in ends] == [f"{WMI}{V2}/Msvm_ComputerSystem", f"{WMI}{V2}/Msvm_VirtualSystemSettingData"]


def test_the_association_filter_dialect(client: Client) -> None:
    selectors = "".join(f'<w:Selector Name="{n}">{v}</w:Selector>' for n, v in VM.items())
    body = (
        '<n:Enumerate><w:OptimizeEnumeration/><w:Filter Dialect="http://schemas.dmtf.org/wbem/wsman/1/cimbinding/'
        'associationFilter"><b:AssociatedInstances xmlns:b="http://schemas.dmtf.org/wbem/wsman/1/cimbinding.xsd">'
        f"<b:Object><a:Address>{ANONYMOUS}</a:Address><a:ReferenceParameters><w:ResourceURI>{WMI}{V2}/"
        f"Msvm_ComputerSystem</w:ResourceURI><w:SelectorSet>{selectors}</w:SelectorSet></a:ReferenceParameters></b:Object>"
        "<b:ResultClassName>Msvm_VirtualSystemSettingData</b:ResultClassName></b:AssociatedInstances></w:Filter>"
        "</n:Enumerate>"
    )
    answer = client.send(envelope(N + "/Enumerate", f"{WMI}{V2}/*", body))
    assert [local(item) for items in answer.iterfind(".//w:Items", NS) for item in items] == [
        "Msvm_VirtualSystemSettingData"
    ]


def test_the_selector_filter_dialect(client: Client) -> None:
    body = (
        '<n:Enumerate><w:OptimizeEnumeration/><w:Filter Dialect="http://schemas.dmtf.org/wbem/wsman/1/wsman/'
        'SelectorFilter"><w:SelectorSet><w:Selector Name="Number">1</w:Selector></w:SelectorSet></w:Filter></n:Enumerate>'
    )
    answer = client.send(envelope(N + "/Enumerate", f"{WMI}{STORAGE}/MSFT_Disk", body))
    (items,) = answer.iterfind(".//w:Items", NS)
    assert [values(item)["Number"] for item in items] == ["1"]


def test_a_system_property_in_a_projection_is_not_sent(client: Client) -> None:
    (row,) = client.rows("SELECT __PATH, JobState FROM Msvm_ConcreteJob")
    assert values(row) == {"JobState": "7"}


def test_child_namespaces_can_be_listed(client: Client) -> None:
    assert [values(row)["Name"] for row in client.rows("SELECT * FROM __NAMESPACE", "root/virtualization")] == ["v2"]


# -- what is refused --------------------------------------------------------------------------------------------------

FILTER = (
    '<w:Filter Dialect="http://schemas.microsoft.com/wbem/wsman/1/WQL">SELECT * FROM Msvm_ComputerSystem</w:Filter>'
)
REFUSED: dict[str, tuple[bytes, tuple[str, int]]] = {
    "WQL on a class URI": (
        enumerate_class("Msvm_ComputerSystem", FILTER),
        ("n:CannotProcessFilter", 2150859003),
    ),
    "WQL on a class that is not there": (query("SELECT * FROM Nothing"), ("n:CannotProcessFilter", 2150858778)),
    "WQL in a namespace that is not there": (
        query("SELECT * FROM X", "root/mscluster"),
        ("n:CannotProcessFilter", 2150858778),
    ),
    "no WQL at all": (query("SELECTED"), ("n:CannotProcessFilter", 2150858778)),
    "class definitions": (
        query("ASSOCIATORS OF {Msvm_ConcreteJob.InstanceID='x'} WHERE ClassDefsOnly"),
        ("n:CannotProcessFilter", 2150858778),
    ),
    "a walk from what is not there": (
        query("ASSOCIATORS OF {Msvm_ConcreteJob.InstanceID='x'}"),
        ("a:DestinationUnreachable", 2150858752),
    ),
    "an unknown dialect": (
        enumerate_class("*", '<w:Filter Dialect="http://example.invalid/x">x</w:Filter>'),
        ("n:FilterDialectRequestedUnavailable", 2150858777),
    ),
    "selectors on an enumeration": (
        envelope(N + "/Enumerate", f"{WMI}{V2}/Msvm_ComputerSystem", "<n:Enumerate/>", VM),
        ("w:InvalidSelectors", 2150859016),
    ),
    "a class URI of a class that is not there": (
        enumerate_class("Msvm_Nothing"),
        ("a:DestinationUnreachable", 2150858752),
    ),
    "an unknown element of Enumerate": (
        enumerate_class("Msvm_ComputerSystem", "<n:Sideways/>"),
        ("w:SchemaValidationError", 2150858817),
    ),
    "a shallow enumeration": (
        enumerate_class(
            "Msvm_ComputerSystem",
            '<b:PolymorphismMode xmlns:b="http://schemas.dmtf.org/wbem/wsman/1/cimbinding.xsd">None</b:PolymorphismMode>',
        ),
        ("w:UnsupportedFeature", 2150859063),
    ),
    "a Get without selectors": (
        envelope(X + "/Get", f"{WMI}{V2}/Msvm_ComputerSystem"),
        ("w:InvalidSelectors", 2150859002),
    ),
    "a Get with one of two keys": (
        envelope(X + "/Get", f"{WMI}{V2}/Msvm_ComputerSystem", selectors={"Name": VM_ID}),
        ("a:DestinationUnreachable", 2150858752),
    ),
    "a Get with a selector that is no key": (
        envelope(X + "/Get", f"{WMI}{V2}/Msvm_ComputerSystem", selectors={**VM, "ElementName": "x"}),
        ("w:InvalidSelectors", 2150858843),
    ),
    "a Get of what is not there": (
        envelope(X + "/Get", f"{WMI}{V2}/Msvm_ComputerSystem", selectors={**VM, "Name": "x"}),
        ("a:DestinationUnreachable", 2150858752),
    ),
    "another namespace in __cimnamespace": (
        envelope(X + "/Get", f"{WMI}{V2}/Msvm_ComputerSystem", selectors={**VM, "__cimnamespace": "root/cimv2"}),
        ("w:InvalidSelectors", 2150859067),
    ),
    "a winrm alias as URI": (envelope(X + "/Get", "winrm/config"), ("w:InvalidResourceURI", 2150858811)),
    "backslashes in the URI": (
        envelope(X + "/Get", WMI + "root\\cimv2/Win32_OperatingSystem"),
        ("w:InvalidResourceURI", 2150858811),
    ),
    "a method that the class does not have": (
        invoke("Msvm_ComputerSystem", "Fly", "", VM),
        ("a:ActionNotSupported", 2150858771),
    ),
    "an action of another class": (
        envelope(f"{WMI}{V2}/Msvm_Other/Fly", f"{WMI}{V2}/Msvm_ComputerSystem", "", VM),
        ("a:ActionNotSupported", 2150858771),
    ),
    "a parameter that the method does not have": (
        invoke("Msvm_ComputerSystem", "RequestStateChange", "<p:requestedState>3</p:requestedState>", VM),
        ("w:InternalError", 0x8004102F),
    ),
    "a parameter of the wrong type": (
        invoke("Msvm_ComputerSystem", "RequestStateChange", "<p:RequestedState>off</p:RequestedState>", VM),
        ("w:InvalidParameter", 2150859011),
    ),
    "a parameter out of range": (
        invoke("Msvm_ComputerSystem", "RequestStateChange", "<p:RequestedState>65536</p:RequestedState>", VM),
        ("w:InvalidParameter", 2150859011),
    ),
    "a parameter outside the class namespace": (
        invoke("Msvm_ComputerSystem", "RequestStateChange", "<RequestedState>3</RequestedState>", VM),
        ("w:SchemaValidationError", 2150858817),
    ),
    "a parameter in another WMI namespace": (
        invoke(
            "Msvm_ComputerSystem",
            "RequestStateChange",
            f'<q:RequestedState xmlns:q="{WMI}root/cimv2/Msvm_ComputerSystem">3</q:RequestedState>',
            VM,
        ),
        ("w:SchemaValidationError", 2150858817),
    ),
    "no INPUT element": (
        envelope(f"{WMI}{V2}/Msvm_ComputerSystem/RequestStateChange", f"{WMI}{V2}/Msvm_ComputerSystem", "", VM),
        ("w:SchemaValidationError", 2150858817),
    ),
    "the management service without selectors": (
        invoke("Msvm_VirtualSystemManagementService", "DestroySystem"),
        ("w:InternalError", 0x8004102F),
    ),
    "the image service without selectors": (
        invoke("Msvm_ImageManagementService", "GetVirtualHardDiskSettingData", "<p:Path>x</p:Path>"),
        ("w:InternalError", 0x80041001),
    ),
    "an EndpointReference around a reference": (
        invoke(
            "Msvm_VirtualSystemManagementService",
            "DestroySystem",
            f"<p:AffectedSystem><a:EndpointReference><a:Address>{ANONYMOUS}</a:Address></a:EndpointReference>"
            "</p:AffectedSystem>",
            SERVICE,
        ),
        ("w:SchemaValidationError", 2150858817),
    ),
    "an element tree where embedded text belongs": (
        invoke(
            "Msvm_VirtualSystemManagementService",
            "ModifySystemSettings",
            "<p:SystemSettings><p:InstanceID>x</p:InstanceID></p:SystemSettings>",
            SERVICE,
        ),
        ("w:SchemaValidationError", 2150858817),
    ),
    "a fault of the method itself": (
        invoke("Msvm_ComputerSystem", "RequestStateChange", "<p:RequestedState>77</p:RequestedState>", VM),
        ("w:InternalError", 0x80041001),
    ),
    "a documented method that nothing serves": (
        invoke("Msvm_ComputerSystem", "InjectNonMaskableInterrupt", "", VM),
        ("w:InternalError", 0x80041024),
    ),
    "a header that must be understood and is not": (
        envelope(X + "/Get", f"{WMI}{V2}/X", header='<z:Odd xmlns:z="urn:z" s:mustUnderstand="true"/>'),
        ("s:MustUnderstand", 2150858768),
    ),
    "an envelope size below the floor": (
        envelope(X + "/Get", f"{WMI}{V2}/X", header="<w:MaxEnvelopeSize>4096</w:MaxEnvelopeSize>"),
        ("w:EncodingLimit", 2150858878),
    ),
    "no message id": (
        envelope(X + "/Get", f"{WMI}{V2}/X").replace(b"a:MessageID", b"a:From"),
        ("a:MessageInformationHeaderRequired", 2150858769),
    ),
    "a document type": (
        b'<!DOCTYPE x [<!ENTITY y "z">]>' + envelope(X + "/Get", f"{WMI}{V2}/X"),
        ("w:InvalidBody", 2150858819),
    ),
    "broken XML": (b"<s:Envelope", ("w:InvalidBody", 2150858819)),
    "another SOAP version": (
        b'<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"/>',
        ("s:VersionMismatch", 2150858765),
    ),
    "a Pull of no items": (
        envelope(
            N + "/Pull",
            f"{WMI}{V2}/*",
            "<n:Pull><n:EnumerationContext>x</n:EnumerationContext><n:MaxElements>0</n:MaxElements></n:Pull>",
        ),
        ("w:InvalidBatchParameter", 2150858799),
    ),
    "a Put that no provider takes": (
        envelope(
            X + "/Put",
            f"{WMI}{V2}/Msvm_ComputerSystem",
            f'<p:Msvm_ComputerSystem xmlns:p="{WMI}{V2}/Msvm_ComputerSystem"/>',
            VM,
        ),
        ("w:InternalError", 0x8004100C),
    ),
}


@pytest.mark.parametrize("what", sorted(REFUSED))
def test_it_is_refused_with_the_right_fault(client: Client, what: str) -> None:
    request, expected = REFUSED[what]
    assert client.fault(request) == expected


@pytest.mark.parametrize("what", sorted(REFUSED))
def test_the_other_fault_shape_carries_the_same_numbers(client: Client, machine: TinyMachine, what: str) -> None:
    machine.world.switches.choose("wmi-fault-shape", "wmierror")
    request, expected = REFUSED[what]
    answer = client.send(request)
    assert answer.find(".//f:WSManFault", NS) is None
    assert answer.find(".//{http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/MSFT_WmiError}MSFT_WmiError") is not None
    assert client.fault(request) == expected


def test_an_instance_too_large_for_the_envelope_is_refused(client: Client, machine: TinyMachine) -> None:
    small = "<w:MaxEnvelopeSize>8192</w:MaxEnvelopeSize>"
    body = "<n:Pull><n:EnumerationContext>{}</n:EnumerationContext></n:Pull>"
    machine.notes = "x" * 9000
    get = envelope(
        X + "/Get",
        f"{WMI}{V2}/Msvm_VirtualSystemSettingData",
        selectors={"InstanceID": f"Microsoft:{VM_ID}"},
        header=small,
    )
    assert client.fault(get) == ("w:EncodingLimit", 2150858824)
    context = context_of(client.send(enumerate_class("Msvm_VirtualSystemSettingData")))
    request = envelope(N + "/Pull", f"{WMI}{V2}/*", body.format(context), header=small)
    assert client.fault(request) == ("w:EncodingLimit", 2150858824)


def test_a_reply_relates_to_its_request_and_echoes_an_activity(client: Client) -> None:
    header = (
        '<p:ActivityId xmlns:p="http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd">'
        "36C7E17B-0864-0007-E2F2-CB366408D201</p:ActivityId>"
    )
    request = envelope(X + "/Get", f"{WMI}{V2}/Msvm_ComputerSystem", selectors=VM, header=header)
    answer = client.send(request)
    assert answer.findtext(".//a:RelatesTo", "", NS).encode() in request
    assert [local(e) for e in answer[0]] == ["Action", "MessageID", "ActivityId", "To", "RelatesTo"]


# -- invoke -----------------------------------------------------------------------------------------------------------


def test_arguments_arrive_as_values(client: Client, machine: TinyMachine) -> None:
    reference = (
        f"<a:Address>{ANONYMOUS}</a:Address><a:ReferenceParameters><w:ResourceURI>{WMI}{V2}/Msvm_VirtualSystemSettingData"
        f'</w:ResourceURI><w:SelectorSet><w:Selector Name="InstanceID">Microsoft:{VM_ID}</w:Selector></w:SelectorSet>'
        "</a:ReferenceParameters>"
    )
    text = (
        "&lt;INSTANCE CLASSNAME=&quot;Msvm_StorageAllocationSettingData&quot;&gt;&lt;PROPERTY.ARRAY "
        "NAME=&quot;HostResource&quot; TYPE=&quot;string&quot;&gt;&lt;VALUE.ARRAY&gt;&lt;VALUE&gt;C:\\a &amp;#38; b.vhdx"
        "&lt;/VALUE&gt;&lt;/VALUE.ARRAY&gt;&lt;/PROPERTY.ARRAY&gt;&lt;PROPERTY NAME=&quot;ResourceType&quot; "
        "TYPE=&quot;uint16&quot;&gt;&lt;VALUE&gt;31&lt;/VALUE&gt;&lt;/PROPERTY&gt;&lt;/INSTANCE&gt;"
    )
    parameters = (
        f"<p:AffectedConfiguration>{reference}</p:AffectedConfiguration>"
        f"<p:ResourceSettings>{text}</p:ResourceSettings><p:ResourceSettings>{text}</p:ResourceSettings>"
    )
    answer = client.send(invoke("Msvm_VirtualSystemManagementService", "AddResourceSettings", parameters, SERVICE))
    assert answer.find(".//{*}ReturnValue") is not None
    arguments = machine.calls[-1][1]
    affected: Any = arguments["AffectedConfiguration"]
    assert isinstance(affected, Ref)
    assert affected.same_as(Ref(V2, "msvm_virtualsystemsettingdata", {"instanceid": f"microsoft:{VM_ID.lower()}"}))
    settings: Any = arguments["ResourceSettings"]
    assert [type(item) for item in settings] == [Instance, Instance]
    assert settings[0].properties == {"HostResource": ["C:\\a & b.vhdx"], "ResourceType": 31}


def embedded(inner: str, class_name: str = "Msvm_VirtualSystemSettingData") -> bytes:
    text = f'<INSTANCE CLASSNAME="{class_name}">{inner}</INSTANCE>'
    text = text.replace("&", "&amp;").replace("<", "&lt;")
    return invoke(
        "Msvm_VirtualSystemManagementService",
        "ModifySystemSettings",
        f"<p:SystemSettings>{text}</p:SystemSettings>",
        SERVICE,
    )


def prop(name: str, value: str, kind: str = "string") -> str:
    return f'<PROPERTY NAME="{name}" TYPE="{kind}"><VALUE>{value}</VALUE></PROPERTY>'


@pytest.mark.parametrize(
    ("inner", "expected"),
    [
        (prop("ElementName", "plain"), 0),
        (prop("ElementName", "a &#38; b &#60; c &gt; d &#34;"), 0),
        (prop("ElementName", "a &amp; b"), 32768),
        (prop("ElementName", "a &lt; b"), 32773),
        (prop("AutomaticStartupActionDelay", "00000000003000.000000:000", "datetime"), 0),
        (prop("AutomaticStartupActionDelay", "P0DT0H30M0S", "datetime"), 32768),
        (prop("AutomaticStartupActionDelay", "00000000003000.000000:000", "string"), 32768),
        (prop("Notes", "scalar"), 32773),
        (
            '<PROPERTY.ARRAY NAME="ElementName" TYPE="string"><VALUE.ARRAY><VALUE>a</VALUE></VALUE.ARRAY></PROPERTY.ARRAY>',
            32773,
        ),
        (prop("NoSuchProperty", "x"), 32773),
        (prop("__PATH", "x") + '<QUALIFIER NAME="a"/>' + prop("ElementName", "x"), 0),
        (prop("IsSaved", "maybe", "boolean"), 32773),
        (prop("LowMmioGapSize", "-1", "uint64"), 32773),
        ("<PROPERTY", 32773),
    ],
)
def test_embedded_text_follows_the_measured_rules(client: Client, inner: str, expected: int) -> None:
    assert client.send(embedded(inner)).findtext(".//{*}ReturnValue") == str(expected)


def test_a_switch_lifts_an_embedded_rule(client: Client, machine: TinyMachine) -> None:
    machine.world.switches.choose("embedded-amp", "accepted")
    assert client.send(embedded(prop("ElementName", "a &amp; b"))).findtext(".//{*}ReturnValue") == "0"
    settings: Any = machine.calls[-1][1]["SystemSettings"]
    assert settings.get("ElementName") == "a & b"


def test_an_embedded_output_is_text_and_a_typed_one_is_elements(client: Client) -> None:
    answer = client.send(
        invoke("Msvm_ImageManagementService", "GetVirtualHardDiskSettingData", "<p:Path>x</p:Path>",
               {"CreationClassName": "Msvm_ImageManagementService"})
    )  # fmt: skip
    text = answer.findtext(".//{*}SettingData", "")
    inner = ET.fromstring(text)
    found = {p.get("NAME"): p.findtext("VALUE") for p in inner.iter("PROPERTY")}
    assert found["Path"] == "C:\\a & b.vhdx"
    assert found["MaxInternalSize"] == str(2**40)
    assert found["ParentPath"] is None


def test_a_provider_can_answer_a_refused_embedded_text_itself(client: Client) -> None:
    seen = []

    def answer(machine: TinyMachine, class_name: str, method: str, code: int, why: str) -> dict[str, Any]:
        seen.append((class_name, method, code))
        return {"ReturnValue": 4096}

    PROVIDERS.refusals[V2] = answer
    try:
        assert client.send(embedded(prop("ElementName", "&amp;"))).findtext(".//{*}ReturnValue") == "4096"
    finally:
        del PROVIDERS.refusals[V2]
    assert seen == [("Msvm_VirtualSystemManagementService", "ModifySystemSettings", 32768)]


def test_a_capital_boolean_is_taken_and_nil_is_absent(client: Client, machine: TinyMachine) -> None:
    nil = '<p:TimeoutPeriod xsi:nil="true"/><p:RequestedState>3</p:RequestedState>'
    client.send(invoke("Msvm_ComputerSystem", "RequestStateChange", nil, VM))
    assert machine.calls[-1][1] == {"RequestedState": 3}


# -- the DMTF form ----------------------------------------------------------------------------------------------------


def test_the_dmtf_form_with_cimnamespace_works(client: Client) -> None:
    uri = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/Msvm_ComputerSystem"
    answer = client.send(envelope(X + "/Get", uri, selectors={**VM, "__cimnamespace": "root\\virtualization\\v2"}))
    body = answer.find("s:Body", NS)
    assert body is not None
    assert body[0].tag == f"{{{uri}}}Msvm_ComputerSystem"


def test_a_singleton_needs_no_selectors_and_keeps_its_offset(client: Client) -> None:
    answer = client.send(envelope(X + "/Get", f"{WMI}root/cimv2/Win32_OperatingSystem"))
    assert answer.findtext(".//{*}LastBootUpTime/cim:Datetime", "", NS) == "2026-04-15T20:26:12.701+02:00"


def test_winrm_config_and_identify(client: Client, machine: TinyMachine) -> None:
    uri = "http://schemas.microsoft.com/wbem/wsman/1/config"
    answer = client.send(envelope(X + "/Get", uri))
    assert [answer.findtext(f".//{{{uri}}}{n}") for n in ("MaxEnvelopeSizekb", "MaxBatchItems", "EnumerationTimeoutms")] == [
        "500", "32000", "240000",
    ]  # fmt: skip
    identify = (
        b'<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Header/><s:Body><i:Identify '
        b'xmlns:i="http://schemas.dmtf.org/wbem/wsman/identity/1/wsmanidentity.xsd"/></s:Body></s:Envelope>'
    )
    reply = endpoint_of(machine).exchange(None, identify)
    assert b"OS: 0.0.0 SP: 0.0 Stack: 3.0" in reply.body
    assert endpoint_of(machine).exchange(None, query("SELECT * FROM X")).status == 401


# -- rights -----------------------------------------------------------------------------------------------------------


def test_who_may_see_what(machine: TinyMachine) -> None:
    text = "SELECT * FROM Msvm_ComputerSystem"
    assert len(Client(machine).rows(text)) == 4
    assert len(Client(machine, "operator").rows(text)) == 4
    assert Client(machine, "viewer").rows(text) == []
    assert Client(machine, "nobody").fault(query(text)) == ("w:AccessDenied", 5)
    assert Client(machine, "operator").fault(query(text, "root/cimv2")) == ("w:AccessDenied", 2150859013)
    machine.world.switches.choose("remote-enable", "granted")
    assert len(Client(machine, "operator").rows("SELECT * FROM Win32_OperatingSystem", "root/cimv2")) == 1


def test_a_guard_can_refuse_a_class(machine: TinyMachine) -> None:
    from simulator.cim import CimFault

    def refuse(machine: TinyMachine, who: object) -> None:
        raise CimFault.wmi(0x80041003, "not you")

    PROVIDERS.guards[(STORAGE, "msft_disk")] = refuse
    try:
        assert Client(machine).fault(query("SELECT * FROM MSFT_Disk", STORAGE)) == ("w:AccessDenied", 2150859013)
    finally:
        del PROVIDERS.guards[(STORAGE, "msft_disk")]


def test_a_view_that_breaks_the_schema_is_a_loud_error(machine: TinyMachine, client: Client) -> None:
    PROVIDERS.views.pop((V2, "msvm_externalfcport"), None)

    @PROVIDERS.view(V2, "Msvm_ExternalFcPort")
    def broken(machine: TinyMachine) -> list[dict[str, Any]]:
        return [{"NoSuchProperty": 1}]

    try:
        with pytest.raises(KeyError, match="NoSuchProperty"):
            client.send(query("SELECT * FROM Msvm_ExternalFcPort"))
    finally:
        del PROVIDERS.views[(V2, "msvm_externalfcport")]


def test_what_nothing_serves_is_noted(client: Client, machine: TinyMachine) -> None:
    assert client.rows("SELECT * FROM Msvm_TPM") == []
    client.send(invoke("Msvm_ComputerSystem", "InjectNonMaskableInterrupt", "", VM))
    assert endpoint_of(machine).service.unserved == {
        (V2, "Msvm_TPM"),
        (V2, "Msvm_ComputerSystem.InjectNonMaskableInterrupt"),
    }


def test_settings_may_come_as_a_mapping() -> None:
    class Plain:
        winrm: ClassVar = {"basic": True}

    assert WinRmSettings.of(Plain()).basic
    assert not WinRmSettings.of(object()).basic


# -- any bytes --------------------------------------------------------------------------------------------------------


def test_a_utf16_request_is_understood(client: Client) -> None:
    text = query("SELECT * FROM Msvm_ConcreteJob").decode()
    for data in (text.encode("utf-16"), text.encode("utf-16-le"), ('<?xml version="1.0"?>' + text).encode("utf-8-sig")):
        assert client.send(data).find(".//w:EndOfSequence", NS) is not None


def test_a_request_above_the_envelope_limit_is_refused(client: Client) -> None:
    assert client.fault(query("SELECT * FROM X WHERE a = '" + "x" * 600_000 + "'")) == ("w:EncodingLimit", 2150858805)


def test_open_enumerations_count_against_the_operation_quota(client: Client, machine: TinyMachine) -> None:
    machine.winrm = WinRmSettings(max_operations_per_user=2)
    contexts = [context_of(client.send(enumerate_class("Msvm_ComputerSystem"))) for _unused in range(2)]
    assert client.fault(enumerate_class("Msvm_ComputerSystem")) == ("w:InternalError", 2150859174)
    client.send(pull(contexts[0]))
    assert context_of(client.send(enumerate_class("Msvm_ComputerSystem")))


def test_a_word_that_looks_like_a_document_type_in_text_is_no_document_type(client: Client) -> None:
    text = "<p:Path><![CDATA[<!DOCTYPE x>]]></p:Path>"
    selectors = {"CreationClassName": "Msvm_ImageManagementService"}
    answer = client.send(invoke("Msvm_ImageManagementService", "GetVirtualHardDiskSettingData", text, selectors))
    assert answer.findtext(".//{*}ReturnValue") == "0"


SEEDS = [
    query("SELECT * FROM Msvm_ComputerSystem WHERE Name LIKE '%a%'"),
    embedded(prop("ElementName", "x")),
    envelope(
        X + "/Get",
        f"{WMI}{V2}/Msvm_ComputerSystem",
        selectors=VM,
        header="<w:OperationTimeout>PT60S</w:OperationTimeout>",
    ),
    pull("uuid:x"),
]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(SEEDS), st.integers(0, 3000), st.integers(0, 40), st.binary(max_size=12))
def test_a_damaged_request_gets_an_answer_and_never_breaks_the_machine(
    seed: bytes, at: int, length: int, replacement: bytes
) -> None:
    machine = TinyMachine()
    machine.install()
    at %= len(seed)
    data = seed[:at] + replacement + seed[at + length :]
    root = ET.fromstring(memory_door(machine, "Administrator")(data))
    assert root.tag == f"{{{NS['s']}}}Envelope"


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=80))
def test_any_filter_text_gets_rows_or_a_fault(text: str) -> None:
    machine = TinyMachine()
    machine.install()
    clean = "".join(char for char in text if char.isprintable())
    answer = ET.fromstring(memory_door(machine, "Administrator")(query(clean)))
    assert answer.find("s:Body", NS) is not None


# -- switches ---------------------------------------------------------------------------------------------------------

SWITCHED: dict[str, tuple[str, bytes]] = {
    "get-with-partial-keys": (
        "accepted",
        envelope(X + "/Get", f"{WMI}{V2}/Msvm_ComputerSystem", selectors={"Name": VM_ID}),
    ),
    "missing-class-fault": ("cannot-process-filter", enumerate_class("Msvm_Nothing")),
    "null-output": (
        "absent",
        invoke(
            "Msvm_VirtualSystemManagementService",
            "ModifySystemSettings",
            "",
            SERVICE,
        ),
    ),
    "output-order": (
        "alphabetical",
        invoke(
            "Msvm_ImageManagementService",
            "GetVirtualHardDiskSettingData",
            "<p:Path>x</p:Path>",
            {"CreationClassName": "Msvm_ImageManagementService"},
        ),
    ),
    "unknown-header": (
        "fault",
        envelope(X + "/Get", f"{WMI}{V2}/Msvm_ComputerSystem", selectors=VM, header='<z:Odd xmlns:z="urn:z"/>'),
    ),
    "empty-result-items": ("empty", query("SELECT * FROM Msvm_ComputerSystem WHERE Name = 'none'")),
    "char16-form": ("code", query("SELECT * FROM MSFT_Partition", STORAGE)),
    "embedded-lt": ("accepted", embedded(prop("ElementName", "&lt;"))),
    "embedded-iso-interval": ("accepted", embedded(prop("AutomaticStartupActionDelay", "P0DT0H30M0S", "datetime"))),
    "embedded-unknown-property": ("ignored", embedded(prop("NoSuchProperty", "x"))),
    "wql-null-comparison": ("not-equal-true", query("SELECT * FROM Msvm_ConcreteJob WHERE Caption <> 'x'")),
    "wql-ref-filter": ("accepted", query("SELECT * FROM Msvm_SettingsDefineState WHERE SettingData = 'X.Y=1'")),
}


@pytest.mark.parametrize("identifier", sorted(SWITCHED))
def test_a_switch_changes_the_answer(machine: TinyMachine, identifier: str) -> None:
    value, request = SWITCHED[identifier]
    send = memory_door(machine, "Administrator")

    def body() -> bytes:
        return send(request).partition(b"<s:Body>")[2]

    before = body()
    machine.world.switches.choose(identifier, value)
    assert body() != before
