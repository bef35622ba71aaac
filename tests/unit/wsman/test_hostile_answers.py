# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever arrives, the decoder gives data or a WsmanError, within its limits."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.hyperv.passthrough.plugins.plugin_utils._wsman import (
    CimPath,
    ProtocolError,
    ReplyUnreadable,
    RequestNotSent,
    Schema,
    WsmanClient,
    WsmanError,
    decode_embedded_instance,
)
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._wsman.wire import (
    MAX_ANSWER_BYTES,
    MAX_XML_DEPTH,
    MAX_XML_NODES,
    parse_xml,
    read_answer,
)
from unit.wsman.scripted_host import ANSWERS, V2, answer, ids

SERVICE = CimPath(V2, "Msvm_ImageManagementService", {"CreationClassName": "x"})
DOCTYPES = [
    "<!DOCTYPE x>",
    '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>',
    '<!DOCTYPE x SYSTEM "file:///etc/passwd">',
    "<!doctype x>",
    "< ! DocType x>",
    "<!\n\tDOCTYPE\nx>",
    '<!ENTITY a "b">',
]


@pytest.mark.parametrize("declared", DOCTYPES)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_a_document_type_is_refused_in_every_encoding(declared: str, encoding: str) -> None:
    with pytest.raises(ProtocolError, match="document type"):
        parse_xml(f"<?xml version='1.0'?>{declared}<x/>".encode(encoding))


@pytest.mark.parametrize("declared", DOCTYPES)
def test_a_document_type_is_refused_inside_an_embedded_instance(schema: Schema, declared: str) -> None:
    with pytest.raises(ProtocolError, match="document type"):
        decode_embedded_instance(f'{declared}<INSTANCE CLASSNAME="X"/>', schema=schema, namespace=V2)


def test_an_answer_in_utf_16_is_read() -> None:
    text = answer("enumerate_complete").decode()
    for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-8-sig"):
        assert read_answer(text.encode(encoding)).fault is None
    declared = '<?xml version="1.0" encoding="UTF-16"?>' + text
    assert read_answer(declared.encode("utf-16")).fault is None


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not well-formed"),
        (b"   ", "not well-formed"),
        (b"\xff\xfe", "not well-formed"),
        (b"<a", "not well-formed"),
        (b"<a>&undefined;</a>", "not well-formed"),
        (b"<a>\x00</a>", "not well-formed"),
        (b"<a>&#0;</a>", "not well-formed"),
        (b"<a b='1' b='2'/>", "not well-formed"),
        (b"\xff\xfe\x00\x00<\x00\x00\x00", "UTF-32"),
        (b"<a>\xff</a>", "not text in utf-8"),
        (b"<\x00a\x00/\x00>\x00\x01", "not text in utf-16"),
        (b"<?xml version='1.0' encoding='cp037'?><a/>", "cp037"),
        (b"<?xml version='1.0' encoding='utf-16'?><a/>", "utf-16"),
        (b"<html><body>It works!</body></html>", "envelope"),
        (b"<Envelope/>", "envelope"),
        (b"<s:Envelope xmlns:s='http://www.w3.org/2003/05/soap-envelope'/>", "without a body"),
        (b"<a>" * (MAX_XML_DEPTH + 1) + b"</a>" * (MAX_XML_DEPTH + 1), "deeper"),
        (b"<a>" * 100_000 + b"</a>" * 100_000, "deeper"),
        (b"<r>" + b"<a></a>" * MAX_XML_NODES + b"</r>", "more than"),
        (b"<a>" + b" " * MAX_ANSWER_BYTES + b"</a>", "refused"),
        (b"<a xmlns:p='" + b"u" * 1000 + b"'/>", "namespace"),
        (b"<a xmlns='" + b"u" * 1000 + b"'/>", "namespace"),
        (b"<a xmlns:p='urn:x' " + b" ".join(b"p:a%d=''" % number for number in range(10_000)) + b"/>", "attributes"),
    ],
)
def test_nonsense_is_a_protocol_error_in_one_short_sentence(data: bytes, words: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        read_answer(data)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_bomb_of_prefixed_attributes_is_refused_before_it_costs_memory() -> None:
    bomb = b"<a xmlns:p='" + b"u" * 500_000 + b"' " + b" ".join(b"p:a%d=''" % one for one in range(100_000)) + b"/>"
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError):
            parse_xml(bomb)
        assert tracemalloc.get_traced_memory()[1] < 16 * len(bomb)
    finally:
        tracemalloc.stop()


# -- fuzz -----------------------------------------------------------------------------------------------------------


def _operations(schema: Schema, data: bytes) -> list[Callable[[], object]]:
    def client() -> WsmanClient:
        answers = iter([data] * 40)

        def send(request: bytes) -> bytes:
            # A page that repeats for ever is bounded by the number of pages; that would only take long here.
            for one in answers:
                return one
            raise RequestNotSent("The host is tired.", repeatable=False)

        return WsmanClient(send, schema=schema, new_id=ids())

    return [
        lambda: client().query(V2, "Msvm_ComputerSystem"),
        lambda: client().query(V2, "Msvm_ComputerSystem", where="Name = 'x'", with_paths=True, limit=2),
        lambda: client().get(CimPath(V2, "Msvm_StorageJob", {"InstanceID": "x"})),
        lambda: client().invoke(SERVICE, "GetVirtualHardDiskSettingData"),
        lambda: client().invoke(CimPath(V2, "Msvm_VirtualSystemManagementService"), "GetSummaryInformation"),
        lambda: client().run("ver", keep_waiting=lambda: False),
    ]


def _only_wsman_errors(schema: Schema, data: bytes) -> None:
    for operation in _operations(schema, data):
        try:
            operation()
        except WsmanError as error:
            assert str(error)
            assert len(str(error)) < 2000


@settings(deadline=None)
@given(data=st.binary(max_size=300))
def test_arbitrary_bytes_give_only_our_errors(schema: Schema, data: bytes) -> None:
    _only_wsman_errors(schema, data)


NAMES = sorted(file.stem for file in ANSWERS.glob("*.xml"))


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """An answer of ours with some pieces cut out, doubled, swapped or overwritten."""
    data = bytearray(answer(draw(st.sampled_from(NAMES))).replace(b"<a:RelatesTo>@RELATES_TO@</a:RelatesTo>", b""))
    for _unused in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 40)))
        piece = bytes(data[start:end])
        data[start:end] = draw(
            st.sampled_from(
                [b"", piece * 2, b"<", b">", b"</p:x>", b"&#1;", b"&amp;lt;", b"xsi:nil='true'", b"\xff", b"9" * 30]
            )
            | st.binary(max_size=8)
        )
    return bytes(data)


@settings(max_examples=300, deadline=None)
@given(data=damaged())
def test_damaged_answers_give_data_or_only_our_errors(schema: Schema, data: bytes) -> None:
    _only_wsman_errors(schema, data)


WORDS = [
    *(
        "Items",
        "EndOfSequence",
        "EnumerationContext",
        "Item",
        "EndpointReference",
        "ReferenceParameters",
        "ResourceURI",
    ),
    *("SelectorSet", "Selector", "XmlFragment", "Datetime", "Interval", "OperationalStatus", "InstallDate"),
    *("EnabledState", "TestInner", "SettingData", "SummaryInformation", "ReturnValue", "Stream", "CommandState"),
    *("ExitCode", "WSManFault", "Message", "ProviderFault", "MSFT_WmiError", "error_Code", "Code", "Value", "Name"),
]
URIS = [
    "http://schemas.xmlsoap.org/ws/2004/09/enumeration",
    "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd",
    "http://schemas.xmlsoap.org/ws/2004/08/addressing",
    "http://www.w3.org/2003/05/soap-envelope",
    "http://schemas.microsoft.com/wbem/wsman/1/wmi/root/virtualization/v2/Msvm_ComputerSystem",
    "http://schemas.microsoft.com/wbem/wsman/1/wmi/root/virtualization/v2/Msvm_SummaryInformation",
    "",
]
TEXTS = st.sampled_from(
    ["", "1", "true", "x", "2026-01-01T00:00:00Z", "&lt;INSTANCE CLASSNAME='X'/&gt;", "-1", URIS[4]]
)
ATTRIBUTES = st.sampled_from(
    [
        "",
        ' Name="x"',
        ' Name="stdout"',
        ' Code="x"',
        ' Code="5"',
        ' xsi:nil="true"',
        ' xsi:type="p:X_Type"',
        ' State="/Done"',
    ]
)


def _element(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds(
        lambda word, uri, attributes, content: f'<{word} xmlns="{uri}"{attributes}>{content}</{word}>',
        st.sampled_from(WORDS),
        st.sampled_from(URIS),
        ATTRIBUTES,
        inner,
    )


TREES = st.recursive(TEXTS, lambda inner: st.lists(_element(inner), min_size=1, max_size=4).map("".join), max_leaves=12)
FRAMES = st.sampled_from(
    [
        '<n:EnumerateResponse xmlns:n="http://schemas.xmlsoap.org/ws/2004/09/enumeration">%s</n:EnumerateResponse>',
        '<n:PullResponse xmlns:n="http://schemas.xmlsoap.org/ws/2004/09/enumeration"><n:Items>%s</n:Items><n:EndOfSequence/>'
        "</n:PullResponse>",
        "<GetVirtualHardDiskSettingData_OUTPUT>%s</GetVirtualHardDiskSettingData_OUTPUT>",
        "<GetSummaryInformation_OUTPUT>%s</GetSummaryInformation_OUTPUT>",
        "<s:Fault>%s</s:Fault>",
        "<s:Fault><s:Detail>%s</s:Detail></s:Fault>",
        "<ReceiveResponse><ShellId>1</ShellId><CommandId>1</CommandId>%s</ReceiveResponse>",
        "%s",
    ]
)


@settings(max_examples=300, deadline=None)
@given(frame=FRAMES, tree=TREES)
def test_well_formed_nonsense_gives_data_or_only_our_errors(schema: Schema, frame: str, tree: str) -> None:
    envelope = (
        '<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" '
        'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><s:Body>%s</s:Body></s:Envelope>'
    )
    _only_wsman_errors(schema, (envelope % (frame % tree)).encode())


def test_an_endless_enumeration_ends(schema: Schema) -> None:
    empty = answer("enumerate_context_only").replace(b"<a:RelatesTo>@RELATES_TO@</a:RelatesTo>", b"")
    requests = []

    def send(request: bytes) -> bytes:
        requests.append(request)
        return empty

    with pytest.raises(ProtocolError, match="no end"):
        WsmanClient(send, schema=schema, new_id=ids()).query(V2, "Msvm_ComputerSystem")
    assert len(requests) < 50


def test_a_method_s_damaged_answer_is_an_unknown_outcome(schema: Schema) -> None:
    client = WsmanClient(lambda _unused: b"<!DOCTYPE x><x/>", schema=schema, new_id=ids())
    with pytest.raises(ReplyUnreadable, match="document type"):
        client.invoke(SERVICE, "CreateVirtualHardDisk")
