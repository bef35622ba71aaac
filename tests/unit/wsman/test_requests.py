# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bytes that leave us: headers, bodies, arguments, embedded instances, paths and WQL."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from xml.etree import ElementTree

import pytest

from ansible_collections.hyperv.passthrough.plugins.plugin_utils._wsman import (
    CimInstance,
    CimPath,
    EnvelopeTooLarge,
    ProtocolError,
    Schema,
    SchemaError,
    Value,
    ValueRefused,
    WsmanClient,
    dmtf_time,
    embedded_instance,
    object_path,
    parse_object_path,
    wql_literal,
)
from unit.wsman.scripted_host import STORAGE, V2, ScriptedHost, ids

Play = Callable[..., tuple[WsmanClient, ScriptedHost]]

ANONYMOUS = "http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous"
URI = "http://schemas.microsoft.com/wbem/wsman/1/wmi/root/virtualization/v2/"


def _envelope(number: int, action: str, uri: str, selectors: str, body: str) -> str:
    return (
        '<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"'
        ' xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing"'
        ' xmlns:w="http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"><s:Header>'
        "<a:To>http://windows-host:5985/wsman</a:To>"
        f'<w:ResourceURI s:mustUnderstand="true">{uri}</w:ResourceURI>'
        f'<a:ReplyTo><a:Address s:mustUnderstand="true">{ANONYMOUS}</a:Address></a:ReplyTo>'
        f'<a:Action s:mustUnderstand="true">{action}</a:Action>'
        f"<a:MessageID>uuid:00000000-0000-4000-8000-{number:012X}</a:MessageID>"
        '<w:MaxEnvelopeSize s:mustUnderstand="true">512000</w:MaxEnvelopeSize>'
        "<w:OperationTimeout>PT60S</w:OperationTimeout>"
        '<w:Locale xml:lang="en-US" s:mustUnderstand="false"/>'
        f"{selectors}</s:Header><s:Body>{body}</s:Body></s:Envelope>"
    )


def test_a_query_is_sent_as_wql_on_the_namespace_and_its_pages_with_the_newest_context(play: Play) -> None:
    client, host = play("enumerate_first_of_many", "pull_middle", "pull_last")
    client.query(V2, "Msvm_ComputerSystem", where="ElementName = " + wql_literal("a&b's \\ <x>"))
    enumeration = "http://schemas.xmlsoap.org/ws/2004/09/enumeration"
    wql = 'SELECT * FROM Msvm_ComputerSystem WHERE ElementName = "a&amp;b\'s \\\\ &lt;x&gt;"'
    assert host.requests[0].decode() == _envelope(
        1,
        f"{enumeration}/Enumerate",
        f"{URI}*",
        "",
        '<n:Enumerate xmlns:n="http://schemas.xmlsoap.org/ws/2004/09/enumeration">'
        "<w:OptimizeEnumeration/><w:MaxElements>500</w:MaxElements>"
        f'<w:Filter Dialect="http://schemas.microsoft.com/wbem/wsman/1/WQL">{wql}</w:Filter></n:Enumerate>',
    )
    for number, context in ((2, "uuid:CTX-1"), (3, "uuid:CTX-2")):
        assert host.requests[number - 1].decode() == _envelope(
            number,
            f"{enumeration}/Pull",
            f"{URI}*",
            "",
            '<n:Pull xmlns:n="http://schemas.xmlsoap.org/ws/2004/09/enumeration">'
            f"<n:EnumerationContext>{context}</n:EnumerationContext>"
            "<n:MaxElements>500</n:MaxElements></n:Pull>",
        )


def test_a_get_carries_all_keys_as_selectors_and_no_namespace_selector(play: Play) -> None:
    client, host = play("get_job")
    client.get(CimPath(V2, "Msvm_StorageJob", {"InstanceID": "B\\<&>"}))
    assert host.requests[0].decode() == _envelope(
        1,
        "http://schemas.xmlsoap.org/ws/2004/09/transfer/Get",
        f"{URI}Msvm_StorageJob",
        '<w:SelectorSet><w:Selector Name="InstanceID">B\\&lt;&amp;&gt;</w:Selector></w:SelectorSet>',
        "",
    )


def test_a_key_that_is_a_reference_is_wrapped_in_the_header(play: Play) -> None:
    client, host = play("get_job")
    inner = CimPath(V2, "Msvm_StorageJob", {"InstanceID": "x"})
    client.get(CimPath(V2, "Msvm_AffectedJobElement", {"AffectingElement": inner}))
    assert (
        '<w:Selector Name="AffectingElement"><a:EndpointReference>'
        f"<a:Address>{ANONYMOUS}</a:Address><a:ReferenceParameters><w:ResourceURI>{URI}Msvm_StorageJob</w:ResourceURI>"
        '<w:SelectorSet><w:Selector Name="InstanceID">x</w:Selector></w:SelectorSet></a:ReferenceParameters>'
        "</a:EndpointReference></w:Selector>"
    ) in host.requests[0].decode()


SERVICE = CimPath(V2, "Msvm_ImageManagementService", {"CreationClassName": "Msvm_ImageManagementService"})


def test_a_method_is_called_with_an_embedded_instance_as_escaped_text(play: Play) -> None:
    client, host = play("invoke_done")
    settings = CimInstance(
        "msvm_virtualharddisksettingdata",
        V2,
        {"path": "C:\\a & <b>\n.vhdx", "MaxInternalSize": 2**64 - 1, "Delay": timedelta(minutes=30), "BlockSize": None},
    )
    client.invoke(SERVICE, "createvirtualharddisk", {"virtualdisksettingdata": settings})
    text = (
        '&lt;INSTANCE CLASSNAME="Msvm_VirtualHardDiskSettingData"&gt;'
        '&lt;PROPERTY NAME="Path" TYPE="string"&gt;&lt;VALUE&gt;'
        "C:\\a &amp;#38; &amp;#60;b&amp;gt;&amp;#xA;.vhdx&lt;/VALUE&gt;&lt;/PROPERTY&gt;"
        '&lt;PROPERTY NAME="MaxInternalSize" TYPE="uint64"&gt;&lt;VALUE&gt;18446744073709551615&lt;/VALUE&gt;&lt;/PROPERTY&gt;'
        '&lt;PROPERTY NAME="Delay" TYPE="datetime"&gt;&lt;VALUE&gt;00000000003000.000000:000&lt;/VALUE&gt;&lt;/PROPERTY&gt;'
        "&lt;/INSTANCE&gt;"
    )
    assert host.requests[0].decode() == _envelope(
        1,
        f"{URI}Msvm_ImageManagementService/CreateVirtualHardDisk",
        f"{URI}Msvm_ImageManagementService",
        '<w:SelectorSet><w:Selector Name="CreationClassName">Msvm_ImageManagementService</w:Selector></w:SelectorSet>',
        f'<i:CreateVirtualHardDisk_INPUT xmlns:i="{URI}Msvm_ImageManagementService">'
        f"<i:VirtualDiskSettingData>{text}</i:VirtualDiskSettingData></i:CreateVirtualHardDisk_INPUT>",
    )


def _body(host: ScriptedHost) -> ElementTree.Element:
    body = ElementTree.fromstring(host.requests[-1]).find("{http://www.w3.org/2003/05/soap-envelope}Body")
    assert body is not None
    return body[0]


@pytest.mark.parametrize(
    ("name", "value", "texts"),
    [
        ("OneUint64", 2**64 - 1, ["18446744073709551615"]),
        ("OneSint64", -(2**63), ["-9223372036854775808"]),
        ("OneBoolean", False, ["false"]),
        ("OneString", "", [""]),
        ("OneString", " ü\u4e2d{{ 7*7 }}\U0001f4be\r\n\t%&<>\"'", [" ü\u4e2d{{ 7*7 }}\U0001f4be\r\n\t%&<>\"'"]),
        ("OneChar16", "D", ["D"]),
        ("OneReal64", 0.1, ["0.1"]),
        ("ManyUint16", [1, 65535], ["1", "65535"]),
        ("ManyString", ["a", "", "a"], ["a", "", "a"]),
        ("ManyString", [], []),
        ("OneString", None, []),
    ],
)
def test_arguments_are_written_by_the_schema(play: Play, name: str, value: Value, texts: list[str]) -> None:
    client, host = play("invoke_without_output")
    with pytest.raises(ProtocolError):
        client.invoke(CimPath(V2, "Test_Echo"), "Echo", {name: value})
    parameters = list(_body(host))
    assert [one.tag for one in parameters] == [f"{{{URI}Test_Echo}}{name}"] * len(texts)
    assert [one.text or "" for one in parameters] == texts


def test_times_are_written_as_cim_elements_in_utc(play: Play) -> None:
    client, host = play("invoke_without_output")
    moment = datetime(2026, 3, 4, 5, 6, 7, tzinfo=timezone(timedelta(hours=2)))
    with pytest.raises(ProtocolError):
        client.invoke(
            CimPath(V2, "Test_Echo"), "Echo", {"OneDatetime": moment, "ManyDatetime": [timedelta(days=1, seconds=2)]}
        )
    one, many = _body(host)
    assert [(child.tag, child.text) for child in one] == [
        ("{http://schemas.dmtf.org/wbem/wscim/1/common}Datetime", "2026-03-04T03:06:07Z")
    ]
    assert [(child.tag, child.text) for child in many] == [
        ("{http://schemas.dmtf.org/wbem/wscim/1/common}Interval", "P1DT0H0M2S")
    ]


def test_references_are_written_without_a_wrapper_and_arrays_of_them_repeated(play: Play) -> None:
    client, host = play("invoke_summary")
    paths = [CimPath(V2, "Msvm_ComputerSystem", {"Name": name}) for name in ("one", "two")]
    client.invoke(
        CimPath(V2, "Msvm_VirtualSystemManagementService"),
        "GetSummaryInformation",
        {"SettingData": paths, "RequestedInformation": [0, 1]},
    )
    parameters = list(_body(host))
    assert [one.tag.rpartition("}")[2] for one in parameters] == ["SettingData"] * 2 + ["RequestedInformation"] * 2
    address, reference = parameters[0]
    assert address.text == ANONYMOUS
    assert reference[0].text == f"{URI}Msvm_ComputerSystem"
    assert [(one.get("Name"), one.text) for one in reference[1]] == [("Name", "one")]


def test_real_embedded_objects_are_nested_in_the_namespace_of_their_class(play: Play) -> None:
    client, host = play("invoke_without_output")
    inner = CimInstance("Test_SubSystem", V2, {"ElementName": "x", "Extra": [1, 2]})
    given = CimInstance("Msvm_SummaryInformation", V2, {"Name": "n", "OperationalStatus": [2, 3], "TestInner": inner})
    with pytest.raises(ProtocolError):
        client.invoke(CimPath(V2, "Test_Echo"), "TakeObject", {"Given": given})
    (parameter,) = _body(host)
    summary = f"{{{URI}Msvm_SummaryInformation}}"
    sub = f"{{{URI}Test_SubSystem}}"
    assert parameter.get("{http://www.w3.org/2001/XMLSchema-instance}type", "").endswith(
        ":Msvm_SummaryInformation_Type"
    )
    assert [(one.tag, one.text) for one in parameter.iter() if one.text] == [
        (f"{summary}Name", "n"),
        (f"{summary}OperationalStatus", "2"),
        (f"{summary}OperationalStatus", "3"),
        (f"{sub}ElementName", "x"),
        (f"{sub}Extra", "1"),
        (f"{sub}Extra", "2"),
    ]


def test_a_static_method_is_called_without_selectors_and_with_an_empty_input(play: Play) -> None:
    client, host = play("invoke_without_output")
    with pytest.raises(ProtocolError):
        client.invoke(CimPath(V2, "Test_Echo", {"Key": "ignored"}), "Static")
    assert b"SelectorSet" not in host.requests[0]
    assert _body(host).tag == f"{{{URI}Test_Echo}}Static_INPUT"
    assert len(_body(host)) == 0


SECRET = "hunter2-secret"


@pytest.mark.parametrize(
    ("method", "arguments", "words"),
    [
        ("Echo", {"Nothing": 1}, "takes no parameter Nothing"),
        ("Missing", {}, "no method Missing"),
        ("Echo", {"OneUint8": 256}, "uint8 (0 to 255)"),
        ("Echo", {"OneUint8": True}, "type bool"),
        ("Echo", {"OneUint64": -1}, "uint64"),
        ("Echo", {"OneUint64": SECRET}, "type str"),
        ("Echo", {"OneBoolean": 1}, "boolean"),
        ("Echo", {"OneBoolean": "false"}, "boolean"),
        ("Echo", {"OneString": 5}, "string"),
        ("Echo", {"OneString": [SECRET]}, "one value but was given a list"),
        ("Echo", {"ManyString": SECRET}, "takes a list"),
        ("Echo", {"ManyString": ["a", None]}, "null"),
        ("Echo", {"OneString": f"{SECRET}\x00"}, "control character U+0000 at position 14"),
        ("Echo", {"OneString": "\x1b[31m"}, "control character U+001B at position 0"),
        ("Echo", {"OneString": "\ud800"}, "U+D800"),
        ("Echo", {"OneString": "\uffff"}, "U+FFFF"),
        ("Echo", {"OneChar16": "DE"}, "char16"),
        ("Echo", {"OneReal64": float("nan")}, "real64"),
        ("Echo", {"OneDatetime": datetime(2026, 1, 1)}, "time zone"),
        ("Echo", {"OneDatetime": timedelta(seconds=-1)}, "interval"),
        ("Echo", {"OneDatetime": "20260101"}, "date or an interval"),
        ("Echo", {"OneReference": "Msvm_X.Name='1'"}, "path of an instance"),
        ("Echo", {"OneString": "x", "onestring": "y"}, "twice"),
        ("TakeObject", {"Given": "text"}, "needs an instance"),
        ("TakeObject", {"Given": CimInstance("Msvm_SummaryInformation", V2, {"Nope": 1})}, "no property Nope"),
        ("TakeObject", {"Given": CimInstance("Unheard", V2, {})}, "no class Unheard"),
    ],
)
def test_what_the_schema_does_not_know_is_refused_before_anything_is_sent(
    play: Play, method: str, arguments: dict[str, Value], words: str
) -> None:
    client, host = play()
    with pytest.raises(SchemaError) as caught:
        client.invoke(CimPath(V2, "Test_Echo"), method, arguments)
    assert words in str(caught.value)
    assert SECRET not in str(caught.value)
    assert host.requests == []


def test_an_output_parameter_is_not_an_argument(play: Play) -> None:
    client, host = play()
    with pytest.raises(SchemaError, match="takes no parameter Job"):
        client.invoke(SERVICE, "CreateVirtualHardDisk", {"Job": CimPath(V2, "Msvm_StorageJob")})
    assert host.requests == []


@pytest.mark.parametrize("operation", ["query", "enumerate", "get", "invoke", "associators"])
def test_an_unknown_class_is_refused_before_anything_is_sent(play: Play, operation: str) -> None:
    client, host = play()
    path = CimPath(V2, "Win32_Unknown")
    with pytest.raises(SchemaError, match="Win32_Unknown"):
        {
            "query": lambda: client.query(V2, "Win32_Unknown"),
            "enumerate": lambda: client.enumerate(V2, "Win32_Unknown"),
            "get": lambda: client.get(path),
            "invoke": lambda: client.invoke(path, "Create"),
            "associators": lambda: client.associators(path, result_class="Win32_Unknown"),
        }[operation]()
    assert host.requests == []


def test_a_request_beyond_the_envelope_limit_is_not_sent(schema: Schema) -> None:
    host = ScriptedHost()
    client = WsmanClient(host.send, schema=schema, new_id=ids(), max_envelope_bytes=8192)
    with pytest.raises(EnvelopeTooLarge, match="8192"):
        client.invoke(CimPath(V2, "Test_Echo"), "Echo", {"OneString": "x" * 8192})
    assert host.requests == []


def test_the_endpoint_locale_and_timeout_go_into_the_header(schema: Schema) -> None:
    host = ScriptedHost("enumerate_empty")
    client = WsmanClient(
        host.send, schema=schema, new_id=ids(), endpoint="https://h:5986/a&b", operation_timeout_s=7, locale="de-DE"
    )
    assert client.query(V2, "Msvm_ComputerSystem") == []
    sent = host.requests[0].decode()
    assert "<a:To>https://h:5986/a&amp;b</a:To>" in sent
    assert "<w:OperationTimeout>PT7S</w:OperationTimeout>" in sent
    assert sent.count('xml:lang="de-DE" s:mustUnderstand="false"') == 1


def test_associators_are_asked_with_an_escaped_path_in_braces(play: Play) -> None:
    client, host = play("enumerate_empty")
    path = CimPath(V2, "Msvm_ComputerSystem", {"CreationClassName": "Msvm_ComputerSystem", "Name": "it's a\\b"})
    client.associators(path, association="Msvm_SettingsDefineState", result_class="Msvm_StorageJob")
    assert (
        "ASSOCIATORS OF {Msvm_ComputerSystem.CreationClassName='Msvm_ComputerSystem',Name='it\\'s a\\\\b'} "
        "WHERE AssocClass = Msvm_SettingsDefineState ResultClass = Msvm_StorageJob</w:Filter>"
    ) in host.requests[0].decode()


def test_a_projection_and_a_limit_are_part_of_the_request(play: Play) -> None:
    client, host = play("enumerate_projection")
    rows = client.query(V2, "Msvm_ComputerSystem", select=["ElementName", "EnabledState"], limit=3)
    assert len(rows) == 1
    sent = host.requests[0].decode()
    assert ">SELECT ElementName,EnabledState FROM Msvm_ComputerSystem</w:Filter>" in sent
    assert "<w:MaxElements>3</w:MaxElements>" in sent


def test_names_in_a_query_must_be_names(play: Play) -> None:
    client, host = play()
    with pytest.raises(SchemaError, match="not the name"):
        client.query(V2, "Msvm_ComputerSystem", select=["Name FROM Secret--"])
    assert host.requests == []


@pytest.mark.parametrize(
    ("text", "literal"),
    [
        ("plain", "'plain'"),
        ("", "''"),
        ("back\\slash", "'back\\\\slash'"),
        ("it's", '"it\'s"'),
        ('say "hi"', "'say \"hi\"'"),
        ("both ' and \"", "'both \\' and \"'"),
        ("%_[x]", "'%_[x]'"),
    ],
)
def test_wql_literals_are_quoted_with_the_sign_that_needs_less_escaping(text: str, literal: str) -> None:
    assert wql_literal(text) == literal


def test_wql_literals_refuse_control_characters() -> None:
    with pytest.raises(ValueRefused, match=r"U\+0007"):
        wql_literal("a\x07")


def test_an_embedded_instance_writes_arrays_as_arrays_and_leaves_out_none(schema: Schema) -> None:
    text = embedded_instance(
        "Msvm_ResourceAllocationSettingData",
        {"HostResource": ['\\\\H\\root:X.Id="a\\\\b"'], "Connection": [], "Parent": None, "ResourceType": 17},
        schema,
    )
    assert text == (
        '<INSTANCE CLASSNAME="Msvm_ResourceAllocationSettingData">'
        '<PROPERTY.ARRAY NAME="HostResource" TYPE="string"><VALUE.ARRAY>'
        '<VALUE>\\\\H\\root:X.Id="a\\\\b"</VALUE></VALUE.ARRAY></PROPERTY.ARRAY>'
        '<PROPERTY.ARRAY NAME="Connection" TYPE="string"><VALUE.ARRAY></VALUE.ARRAY></PROPERTY.ARRAY>'
        '<PROPERTY NAME="ResourceType" TYPE="uint16"><VALUE>17</VALUE></PROPERTY>'
        "</INSTANCE>"
    )


def test_an_embedded_instance_has_no_cdata_and_no_named_entity_that_windows_refuses(schema: Schema) -> None:
    nasty = "]]>&amp;&lt;<![CDATA[x]]>"
    text = embedded_instance("Msvm_VirtualHardDiskSettingData", {"Path": nasty}, schema)
    value = text[text.index("<VALUE>") + 7 : text.index("</VALUE>")]
    assert "<" not in value
    assert "&amp;" not in value
    assert "&lt;" not in value
    assert ElementTree.fromstring(text)[0][0].text == nasty


def test_an_embedded_instance_refuses_what_its_class_does_not_have(schema: Schema) -> None:
    with pytest.raises(SchemaError, match="no property Colour"):
        embedded_instance("Msvm_VirtualHardDiskSettingData", {"Colour": "red"}, schema)
    with pytest.raises(SchemaError, match="no class Msvm_Nothing"):
        embedded_instance("Msvm_Nothing", {}, schema)


def test_intervals_inside_embedded_instances_are_in_the_dmtf_form() -> None:
    assert dmtf_time(timedelta(minutes=30), "x") == "00000000003000.000000:000"
    assert dmtf_time(timedelta(days=12345678, hours=23, microseconds=5), "x") == "12345678230000.000005:000"
    assert dmtf_time(datetime(2013, 4, 15, 20, 26, 12, 701000, timezone.utc), "x") == "20130415202612.701000+000"


PATHS = [
    (
        CimPath(V2, "Msvm_DiskDrive", {"DeviceID": "Microsoft:A\\0"}),
        'root/virtualization/v2:Msvm_DiskDrive.DeviceID="Microsoft:A\\\\0"',
    ),
    (
        CimPath(V2, "Msvm_X", {"A": 'quo"te', "B": "com,ma=x"}),
        'root/virtualization/v2:Msvm_X.A="quo\\"te",B="com,ma=x"',
    ),
    (CimPath(STORAGE, "MSFT_Disk"), "root/Microsoft/Windows/Storage:MSFT_Disk"),
    (CimPath("", "MSFT_Disk", {"Id": ""}), 'MSFT_Disk.Id=""'),
    (CimPath("root/cimv2", "Win32_Volume", {"": "x"}), 'root/cimv2:Win32_Volume="x"'),
]


@pytest.mark.parametrize(("path", "text"), PATHS)
def test_wmi_object_paths_are_written_and_read(path: CimPath, text: str) -> None:
    assert object_path(path) == text
    assert parse_object_path(text) == path


def test_a_path_with_a_host_has_backslashes_only() -> None:
    path = CimPath(V2, "Msvm_DiskDrive", {"DeviceID": "Microsoft:A\\0"})
    text = object_path(path, host="HOST1")
    assert text == '\\\\HOST1\\root\\virtualization\\v2:Msvm_DiskDrive.DeviceID="Microsoft:A\\\\0"'
    assert parse_object_path(text) == path


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("//./root/cimv2:Win32_Process.Handle='4'", CimPath("root/cimv2", "Win32_Process", {"Handle": "4"})),
        ("\\\\?\\root\\cimv2:Win32_Process.Handle=4", CimPath("root/cimv2", "Win32_Process", {"Handle": "4"})),
        ('Win32_X.A=TRUE,B="b"', CimPath("", "Win32_X", {"A": "TRUE", "B": "b"})),
        ("root\\cimv2:Win32_OperatingSystem=@", CimPath("root/cimv2", "Win32_OperatingSystem")),
        (
            '\\\\H\\root/Microsoft/Windows/Storage/Providers_v2:WSP_Disk.ObjectId="{a}:DI:\\\\\\\\?\\\\scsi#disk"',
            CimPath("root/Microsoft/Windows/Storage/Providers_v2", "WSP_Disk", {"ObjectId": "{a}:DI:\\\\?\\scsi#disk"}),
        ),
    ],
)
def test_other_spellings_of_paths_are_read(text: str, path: CimPath) -> None:
    assert parse_object_path(text) == path


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "C:\\vm\\disk.vhdx",
        "X.",
        "X.A",
        'X.A="b',
        'X.A="b",',
        'X.A="b"x',
        'X.="b"',
        'X="a",B="c"',
        "1X.A=1",
        'X.A="a",A="b"',
        "X.A=" + "9" * 40_000,
    ],
)
def test_what_is_not_a_path_is_refused(text: str) -> None:
    with pytest.raises(ProtocolError):
        parse_object_path(text)
