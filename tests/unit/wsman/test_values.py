# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decoding by the schema, and that what we write is what we would read."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.hyperv.passthrough.plugins.plugin_utils._wsman import (
    NEVER,
    CimInstance,
    CimPath,
    ProtocolError,
    Schema,
    SchemaError,
    ValueRefused,
    WsmanClient,
    decode_embedded_instance,
    embedded_instance,
    object_path,
    parse_object_path,
    parse_time,
    wql_literal,
)
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._wsman.values import (
    MAX_EMBEDDED_DEPTH,
    decode_instance,
    decode_output,
    dmtf_time,
    encode_input,
    iso_time,
)
from unit.wsman.scripted_host import SCALAR_TYPES, STORAGE, V2, ScriptedHost

Play = Callable[..., tuple[WsmanClient, ScriptedHost]]
URI = "http://schemas.microsoft.com/wbem/wsman/1/wmi/root/virtualization/v2/"
SERVICE = CimPath(V2, "Msvm_ImageManagementService", {"CreationClassName": "Msvm_ImageManagementService"})


def _one(schema: Schema, class_name: str, inner: str, namespace: str = V2) -> CimInstance:
    uri = f"http://schemas.microsoft.com/wbem/wsman/1/wmi/{namespace}/{class_name}"
    text = (
        f'<p:{class_name} xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:p="{uri}"'
        f' xmlns:cim="http://schemas.dmtf.org/wbem/wscim/1/common">{inner}</p:{class_name}>'
    )
    return decode_instance(ElementTree.fromstring(text), schema=schema, namespace=namespace, class_name=class_name)


# -- whole answers --------------------------------------------------------------------------------------------------


def test_a_row_is_decoded_by_type(play: Play) -> None:
    client, _unused = play("enumerate_complete")
    (vm,) = client.query(V2, "Msvm_ComputerSystem")
    assert vm["ElementName"] == "only one"
    assert vm["EnabledState"] == 2
    assert vm["OnTimeInMilliseconds"] == 2**64 - 1
    assert vm["InstallDate"] == datetime(2026, 3, 4, 5, 6, 7, 500000, timezone.utc)
    assert vm["TimeOfLastStateChange"] == NEVER
    assert vm["OperationalStatus"] == [2]
    assert vm["StatusDescriptions"] == []
    assert vm["OtherEnabledState"] is None
    assert vm.path is None


def test_a_missing_property_is_named_with_its_class(play: Play) -> None:
    client, _unused = play("enumerate_complete")
    (vm,) = client.query(V2, "Msvm_ComputerSystem")
    assert "TimeOfLastConfigurationChange" not in vm
    assert vm.get("TimeOfLastConfigurationChange", "unset") == "unset"
    with pytest.raises(SchemaError, match="Msvm_ComputerSystem in root/virtualization/v2 has no property TimeOfLast"):
        _unused = vm["TimeOfLastConfigurationChange"]
    with pytest.raises(KeyError):
        _unused = vm["Nothing"]


def test_the_path_of_a_row_comes_from_its_endpoint_reference(play: Play) -> None:
    client, host = play("enumerate_with_paths")
    (vm,) = client.query(V2, "Msvm_ComputerSystem", with_paths=True)
    name = "AAAAAAAA-0000-4000-8000-000000000001"
    assert vm.path == CimPath(V2, "Msvm_ComputerSystem", {"CreationClassName": "Msvm_ComputerSystem", "Name": name})
    assert vm["Name"] == name
    assert b"<w:EnumerationMode>EnumerateObjectAndEPR</w:EnumerationMode>" in host.requests[0]


def test_a_projection_is_decoded_by_the_queried_class_and_invents_no_arrays(play: Play) -> None:
    client, _unused = play("enumerate_projection")
    (row,) = client.query(V2, "Msvm_ComputerSystem", select=["ElementName"])
    assert row.class_name == "Msvm_ComputerSystem"
    assert dict(row.properties) == {
        "ElementName": "alpha",
        "EnabledState": 2,
        "InstallDate": datetime(2026, 3, 4, 3, 6, 7, tzinfo=timezone.utc),
        "OtherEnabledState": None,
    }


def test_a_subclass_is_decoded_by_its_own_class_or_else_by_the_queried_one(play: Play) -> None:
    client, _unused = play("enumerate_subclasses")
    base, derived, stranger = client.query(V2, "Msvm_ComputerSystem")
    assert [one.class_name for one in (base, derived, stranger)] == [
        "Msvm_ComputerSystem",
        "Test_SubSystem",
        "Test_UnknownSystem",
    ]
    assert derived["Extra"] == [7, 8]
    assert (stranger["ElementName"], stranger["EnabledState"]) == ("stranger", 6)
    assert "Whatever" not in stranger


def test_a_shallow_query_leaves_subclasses_out(play: Play) -> None:
    client, _unused = play("enumerate_subclasses")
    assert [one["ElementName"] for one in client.query(V2, "msvm_computersystem", deep=False)] == ["base"]


def test_references_are_read_with_and_without_their_wrapper(play: Play) -> None:
    client, _unused = play("enumerate_association")
    (row,) = client.query(V2, "Msvm_AffectedJobElement")
    assert row["AffectingElement"] == CimPath(
        V2, "Msvm_StorageJob", {"InstanceID": "BBBBBBBB-0000-4000-8000-000000000009"}
    )
    assert isinstance(row["AffectedElement"], CimPath)
    assert row["AffectedElement"].key("name") == "AAAAAAAA-0000-4000-8000-000000000001"
    assert (row["ElementEffects"], row["OtherElementEffectsDescriptions"]) == ([5], [])


def test_a_job_is_read(play: Play) -> None:
    client, _unused = play("get_job")
    path = CimPath(V2, "Msvm_StorageJob", {"InstanceID": "BBBBBBBB-0000-4000-8000-000000000009"})
    job = client.get(path)
    assert job.path == path
    assert (job["JobState"], job["PercentComplete"], job["OperationalStatus"]) == (4, 40, [17, 2])
    assert job["ElapsedTime"] == timedelta(seconds=1, microseconds=4170)


def test_a_method_that_starts_a_job_gives_its_path(play: Play) -> None:
    client, _unused = play("invoke_job_started")
    result = client.invoke(SERVICE, "CreateVirtualHardDisk", {"VirtualDiskSettingData": "<INSTANCE/>"})
    assert result.return_value == 4096
    assert result.out == {"Job": CimPath(V2, "Msvm_StorageJob", {"InstanceID": "BBBBBBBB-0000-4000-8000-000000000009"})}


def test_an_empty_output_is_no_return_value_and_no_parameters(play: Play) -> None:
    client, _unused = play("invoke_empty_output")
    result = client.invoke(SERVICE, "CreateVirtualHardDisk")
    assert (result.return_value, dict(result.out)) == (None, {"Job": None})


def test_an_embedded_instance_text_is_read_by_the_schema(play: Play) -> None:
    client, _unused = play("invoke_embedded_text")
    result = client.invoke(SERVICE, "GetVirtualHardDiskSettingData", {"Path": "C:\\x.vhdx"})
    settings = result.out["SettingData"]
    assert isinstance(settings, CimInstance)
    assert settings.class_name == "Msvm_VirtualHardDiskSettingData"
    assert dict(settings.properties) == {
        "BlockSize": 33554432,
        "Caption": "Virtual Hard Disk Setting Data",
        "Changed": datetime(2026, 3, 4, 4, 6, 7, 500000, timezone.utc),
        "Delay": timedelta(days=1, minutes=30),
        "HostResource": [],
        "IsPmemCompatible": False,
        "MaxInternalSize": 2**63 + 1,
        "Notes": ["one\ntwo", ""],
        "ParentPath": None,
        "Path": "C:\\vm & co\\a<b>.vhdx",
        "Sint": [],
    }


def test_nested_objects_are_read_in_their_own_namespaces(play: Play) -> None:
    client, _unused = play("invoke_summary")
    result = client.invoke(CimPath(V2, "Msvm_VirtualSystemManagementService"), "GetSummaryInformation")
    first, second = result.out["SummaryInformation"]  # type: ignore[misc]
    assert (first.class_name, first["ElementName"], first["Heartbeat"]) == ("Msvm_SummaryInformation", "vm1", None)
    assert second["OperationalStatus"] == [2]
    assert second["TestInner"].class_name == "Test_SubSystem"
    assert second["TestInner"]["ElementName"] == "inner2"


def test_a_created_partition_is_read_whatever_the_case_of_its_namespace(play: Play) -> None:
    client, _unused = play("invoke_created_partition")
    result = client.invoke(CimPath(STORAGE, "MSFT_Disk", {"ObjectId": "x"}), "CreatePartition", {"Size": 2**40})
    partition = result.out["CreatedPartition"]
    assert isinstance(partition, CimInstance)
    assert (partition.class_name, partition.namespace) == ("MSFT_Partition", STORAGE)
    assert (partition["DriveLetter"], partition["Offset"]) == ("D", 1048576)
    assert partition["AccessPaths"] == ["\\\\?\\Volume{cccccccc-0000-4000-8000-000000000001}\\"]
    assert (result.return_value, result.out["ExtendedStatus"]) == (0, None)


@pytest.mark.parametrize(
    ("attributes", "child_class", "class_name"),
    [
        ("", "Test_SubSystem", "Test_SubSystem"),
        ('xsi:type="q:Test_SubSystem_Type"', "Msvm_SummaryInformation", "Test_SubSystem"),
        ('xsi:type="q:Test_Newer_Type"', "Test_Newer", "Test_Newer"),
    ],
)
def test_the_class_of_a_nested_object_is_in_its_type_or_in_its_children(
    schema: Schema, attributes: str, child_class: str, class_name: str
) -> None:
    inner = f'<q:ElementName xmlns:q="{URI}{child_class}">x</q:ElementName>'
    row = _one(schema, "Msvm_SummaryInformation", f"<p:TestInner {attributes}>{inner}</p:TestInner>")
    nested = row["TestInner"]
    assert isinstance(nested, CimInstance)
    assert (nested.class_name, nested["ElementName"], nested["OperationalStatus"]) == (class_name, "x", [])
    assert ("Extra" in nested) == (class_name == "Test_SubSystem")


def test_rows_of_a_class_that_nobody_stated_are_an_error(schema: Schema) -> None:
    element = ElementTree.fromstring(f'<p:Other xmlns:p="{URI}Other"/>')
    with pytest.raises(SchemaError, match="Other"):
        decode_instance(element, schema=schema, namespace=V2, class_name="Another")


# -- single values ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("", None),
        ("0", None),
        ("D", "D"),
        ("68", "D"),
        ("d", "d"),
        ("7", "7"),
        ("20013", "中"),
        (" D ", "D"),
        ("  ", None),
    ],
)
def test_char16_in_all_its_forms(schema: Schema, text: str, letter: str | None) -> None:
    row = _one(schema, "MSFT_Partition", f"<p:DriveLetter>{text}</p:DriveLetter>", STORAGE)
    assert row["DriveLetter"] == letter


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("TRUE", True), ("False", False), (" false\n", False), ("1", True), ("0", False), ("", None)],
)
def test_booleans_in_any_case(schema: Schema, text: str, value: bool | None) -> None:
    assert _one(schema, "Msvm_StorageJob", f"<p:Cancellable>{text}</p:Cancellable>")["Cancellable"] is value


@pytest.mark.parametrize(
    ("class_name", "name", "text"),
    [
        ("Msvm_StorageJob", "Cancellable", "yes"),
        ("Msvm_StorageJob", "ErrorCode", "-1"),
        ("Msvm_StorageJob", "ErrorCode", "65536"),
        ("Msvm_StorageJob", "ErrorCode", "1_0"),
        ("Msvm_StorageJob", "ErrorCode", "٣"),
        ("Msvm_StorageJob", "ErrorCode", "9" * 5000),
        ("Msvm_StorageJob", "ErrorCode", "<x/>"),
        ("Msvm_StorageJob", "ErrorCode", "1</p:ErrorCode><p:ErrorCode>2"),
        ("Msvm_StorageJob", "StartTime", "<cim:Datetime>yesterday</cim:Datetime>"),
        ("Msvm_StorageJob", "StartTime", "<cim:Datetime>2026-02-30T00:00:00Z</cim:Datetime>"),
        ("Msvm_StorageJob", "StartTime", "<cim:Datetime>0000-01-01T00:00:00Z</cim:Datetime>"),
        ("Msvm_StorageJob", "StartTime", "<cim:Interval>P9999999999DT0H0M0S</cim:Interval>"),
        ("Msvm_StorageJob", "StartTime", "<cim:Interval>P</cim:Interval>"),
        ("Msvm_AffectedJobElement", "AffectedElement", "<a/>"),
        (
            "Msvm_AffectedJobElement",
            "AffectedElement",
            "<ReferenceParameters><ResourceURI>x</ResourceURI></ReferenceParameters>",
        ),
        ("Msvm_SummaryInformation", "TestInner", "not an instance"),
    ],
)
def test_a_value_of_another_type_names_its_property(schema: Schema, class_name: str, name: str, text: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        _one(schema, class_name, f"<p:{name}>{text}</p:{name}>")
    if "instance" not in text:
        assert f"{class_name}.{name}" in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2013-04-15T20:26:12.701Z", datetime(2013, 4, 15, 20, 26, 12, 701000, timezone.utc)),
        ("2013-04-15T20:26:12Z", datetime(2013, 4, 15, 20, 26, 12, 0, timezone.utc)),
        ("2013-04-15T20:26:12", datetime(2013, 4, 15, 20, 26, 12, 0, timezone.utc)),
        ("2013-04-15T20:26:12.Z", datetime(2013, 4, 15, 20, 26, 12, 0, timezone.utc)),
        ("2013-04-15T20:26:12.123456789Z", datetime(2013, 4, 15, 20, 26, 12, 123456, timezone.utc)),
        ("2013-04-15T22:26:12.5+02:00", datetime(2013, 4, 15, 20, 26, 12, 500000, timezone.utc)),
        ("2013-04-16T02:11:12+0545", datetime(2013, 4, 15, 20, 26, 12, 0, timezone.utc)),
        ("2013-04-15T13:26:12-7", datetime(2013, 4, 15, 20, 26, 12, 0, timezone.utc)),
        ("2013-04-15", datetime(2013, 4, 15, tzinfo=timezone.utc)),
        ("1601-01-01T00:00:00Z", NEVER),
        ("20130415222612.701000+120", datetime(2013, 4, 15, 20, 26, 12, 701000, timezone.utc)),
        ("20130415202612.******+***", datetime(2013, 4, 15, 20, 26, 12, 0, timezone.utc)),
        ("P0DT0H30M0S", timedelta(minutes=30)),
        ("P1DT2H3M4.5S", timedelta(days=1, hours=2, minutes=3, seconds=4, microseconds=500000)),
        ("PT5M", timedelta(minutes=5)),
        ("P3D", timedelta(days=3)),
        ("-PT1S", timedelta(seconds=-1)),
        ("00000000003000.000000:000", timedelta(minutes=30)),
        ("00000001003000.******:000", timedelta(days=1, minutes=30)),
    ],
)
def test_dates_and_intervals_in_all_their_forms(text: str, value: datetime | timedelta) -> None:
    assert parse_time(text) == value


def test_a_lone_nil_is_an_empty_array_and_a_nil_among_others_is_kept(schema: Schema) -> None:
    nil = '<p:OperationalStatus xsi:nil="true"/>'
    one = "<p:OperationalStatus>2</p:OperationalStatus>"
    assert _one(schema, "Msvm_StorageJob", nil)["OperationalStatus"] == []
    assert _one(schema, "Msvm_StorageJob", one + nil)["OperationalStatus"] == [2, None]


def test_an_empty_string_is_not_null(schema: Schema) -> None:
    row = _one(schema, "Msvm_StorageJob", '<p:Owner></p:Owner><p:Child xsi:nil="true"/><p:ErrorCode></p:ErrorCode>')
    assert (row["Owner"], row["Child"], row["ErrorCode"]) == ("", None, None)


def test_text_around_comments_is_whole(schema: Schema) -> None:
    assert _one(schema, "Msvm_StorageJob", "<p:Owner>ab<!-- x -->cd</p:Owner>")["Owner"] == "abcd"


def test_a_reference_may_be_path_text_or_a_dmtf_uri_with_a_namespace_selector(schema: Schema) -> None:
    path_text = "\\\\H\\root\\virtualization\\v2:Msvm_X.Id=&quot;a&quot;"
    row = _one(schema, "Msvm_AffectedJobElement", f"<p:AffectedElement>{path_text}</p:AffectedElement>")
    assert row["AffectedElement"] == CimPath(V2, "Msvm_X", {"Id": "a"})
    row = _one(
        schema,
        "Msvm_AffectedJobElement",
        "<p:AffectedElement><x:ReferenceParameters xmlns:x='urn:x'>"
        "<x:ResourceURI>http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/Msvm_X</x:ResourceURI><x:SelectorSet>"
        "<x:Selector Name='__cimnamespace'>root/other</x:Selector><x:Selector Name='Id'/></x:SelectorSet>"
        "</x:ReferenceParameters></p:AffectedElement>",
    )
    assert row["AffectedElement"] == CimPath("root/other", "Msvm_X", {"Id": ""})


def test_an_unstated_class_in_cim_xml_is_read_by_its_type_attributes(schema: Schema) -> None:
    instance = decode_embedded_instance(
        '<?xml version="1.0"?><INSTANCE CLASSNAME="Msvm_Error"><PROPERTY NAME="ErrorType" TYPE="uint16"><VALUE>4</VALUE>'
        '</PROPERTY><PROPERTY NAME="Fatal" TYPE="boolean"><VALUE>TRUE</VALUE></PROPERTY>'
        '<PROPERTY.ARRAY NAME="Args" TYPE="string"><VALUE.ARRAY><VALUE>a</VALUE><VALUE.NULL/></VALUE.ARRAY></PROPERTY.ARRAY>'
        '<PROPERTY.REFERENCE NAME="Of" REFERENCECLASS="X"><VALUE.REFERENCE><LOCALINSTANCEPATH><LOCALNAMESPACEPATH>'
        '<NAMESPACE NAME="root"/><NAMESPACE NAME="cimv2"/></LOCALNAMESPACEPATH><INSTANCENAME CLASSNAME="Win32_X">'
        '<KEYBINDING NAME="Id"><KEYVALUE>7</KEYVALUE></KEYBINDING></INSTANCENAME></LOCALINSTANCEPATH>'
        "</VALUE.REFERENCE></PROPERTY.REFERENCE></INSTANCE>",
        schema=schema,
        namespace=V2,
    )
    assert dict(instance.properties) == {
        "ErrorType": 4,
        "Fatal": True,
        "Args": ["a", None],
        "Of": CimPath("root/cimv2", "Win32_X", {"Id": "7"}),
    }


def test_instances_nested_without_end_are_refused_in_both_directions(schema: Schema) -> None:
    text, value = "x", CimInstance("Msvm_VirtualHardDiskSettingData", V2, {"Path": "x"})
    text = embedded_instance("Msvm_VirtualHardDiskSettingData", {"Path": "x"}, schema)
    for _unused in range(MAX_EMBEDDED_DEPTH + 1):
        text = embedded_instance("Msvm_VirtualHardDiskSettingData", {"Inner": text}, schema)
        value = CimInstance("Msvm_VirtualHardDiskSettingData", V2, {"Inner": value})
    with pytest.raises(ProtocolError, match="deeper"):
        decode_embedded_instance(text, schema=schema, namespace=V2)
    with pytest.raises(ValueRefused, match="deeper"):
        embedded_instance("Msvm_VirtualHardDiskSettingData", value.properties, schema)


# -- round trips ----------------------------------------------------------------------------------------------------

CARRIED = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff")
    | st.sampled_from("\t\n\r&<>'\"\\]{}%")
)
# A character property of NUL is "no character" on the wire; white space alone is taken as nothing.
CHARACTERS = st.characters(
    min_codepoint=0x21, max_codepoint=0xD7FF, exclude_categories=["Cc", "Zs", "Zl", "Zp"]
).filter(lambda one: one != "0")
MOMENTS = st.datetimes(timezones=st.just(timezone.utc))
INTERVALS = st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=99_999_999))
PATH_TEXTS = st.dictionaries(st.from_regex(r"\A[A-Za-z_][A-Za-z0-9_]{0,8}\Z"), CARRIED, max_size=3)
REFERENCES = st.builds(lambda keys: CimPath(V2, "Msvm_StorageJob", keys), PATH_TEXTS)


def _integers(kind: str) -> st.SearchStrategy[int]:
    bits = int(kind[4:])
    return st.integers(0, 2**bits - 1) if kind[0] == "u" else st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


VALUES: dict[str, st.SearchStrategy[Any]] = {
    **{kind: _integers(kind) for kind in SCALAR_TYPES if "int" in kind},
    "boolean": st.booleans(),
    "string": CARRIED,
    "datetime": MOMENTS | INTERVALS,
    "char16": CHARACTERS,
    "real64": st.floats(allow_nan=False, allow_infinity=False),
    "reference": REFERENCES,
}
ECHO = st.fixed_dictionaries(
    {},
    optional={f"One{kind.title()}": values for kind, values in VALUES.items()}
    | {f"Many{kind.title()}": st.lists(values, max_size=3) for kind, values in VALUES.items()},
)


@settings(deadline=None)
@given(arguments=ECHO)
def test_what_is_written_as_input_reads_the_same_as_output(schema: Schema, arguments: dict[str, Any]) -> None:
    cim_class = schema.require(V2, "Test_Echo")
    method = cim_class.method("Echo")
    assert method is not None
    frame = "<b xmlns:a='http://schemas.xmlsoap.org/ws/2004/08/addressing' xmlns:w='http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd'>"
    body = encode_input(arguments, schema=schema, cim_class=cim_class, method=method)
    (element,) = ElementTree.fromstring(f"{frame}{body}</b>")
    returned, out = decode_output(element, schema=schema, namespace=V2, class_name="Test_Echo", method=method)
    assert returned is None
    nothing = {one.name: [] if one.is_array else None for one in method.parameters}
    assert out == nothing | arguments


@settings(deadline=None)
@given(
    properties=st.fixed_dictionaries(
        {},
        optional={
            "BlockSize": _integers("uint32"),
            "MaxInternalSize": _integers("uint64"),
            "Path": CARRIED,
            "Notes": st.lists(CARRIED, max_size=3),
            "Sint": st.lists(_integers("sint64"), max_size=3),
            "IsPmemCompatible": st.booleans(),
            "Changed": MOMENTS,
            "Delay": INTERVALS,
        },
    )
)
def test_embedded_instances_read_the_same_as_written_also_nested(schema: Schema, properties: dict[str, Any]) -> None:
    arrays: dict[str, Any] = {"HostResource": [], "Notes": [], "Sint": []}
    name = "Msvm_VirtualHardDiskSettingData"
    text = embedded_instance(name, properties, schema)
    back = decode_embedded_instance(text, schema=schema, namespace=V2)
    assert dict(back.properties) == arrays | properties
    outer = embedded_instance(name, {"Inner": CimInstance(name, V2, properties)}, schema)
    nested = decode_embedded_instance(outer, schema=schema, namespace=V2)["Inner"]
    assert isinstance(nested, CimInstance)
    assert nested.properties == back.properties


@settings(deadline=None)
@given(keys=PATH_TEXTS, host=st.none() | st.just("HOST-1"))
def test_object_paths_read_the_same_as_written(keys: dict[str, str], host: str | None) -> None:
    path = CimPath(V2, "Msvm_DiskDrive", keys)
    assert parse_object_path(object_path(path, host)) == path


@settings(deadline=None)
@given(value=MOMENTS | INTERVALS)
def test_times_read_the_same_as_written_in_both_forms(value: datetime | timedelta) -> None:
    assert parse_time(iso_time(value, "x")) == value
    assert parse_time(dmtf_time(value, "x")) == value


@settings(deadline=None)
@given(text=CARRIED)
def test_a_wql_literal_ends_where_it_should(text: str) -> None:
    literal = wql_literal(text)
    quote, inner = literal[0], literal[1:-1]
    assert literal[-1] == quote
    assert quote not in re.sub(r"\\.", "", inner, flags=re.DOTALL)
    assert re.sub(r"\\(.)", r"\1", inner, flags=re.DOTALL) == text


@settings(deadline=None)
@given(text=st.text(max_size=60))
def test_any_text_is_a_path_or_a_protocol_error(text: str) -> None:
    try:
        assert parse_object_path(text).class_name
    except ProtocolError as error:
        assert "object path" in str(error)


@settings(deadline=None)
@given(text=st.text(max_size=60) | st.from_regex(r"\A[-+]?P?[0-9TDHMS.:,*Z -]{0,40}\Z"))
def test_any_text_is_a_time_or_a_value_error(text: str) -> None:
    try:
        assert isinstance(parse_time(text), (datetime, timedelta))
    except ValueError as error:
        assert str(error)
