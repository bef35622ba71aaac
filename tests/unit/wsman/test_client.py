# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which messages the client sends, what it repeats and what never; answers are data, the host plays a script."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ansible_collections.hyperv.passthrough.plugins.plugin_utils._wsman import (
    AccessDenied,
    AuthenticationFailed,
    ClassMissing,
    FilterRefused,
    HttpError,
    InvalidContext,
    NamespaceMissing,
    NotFound,
    OperationTimedOut,
    OutcomeUnknown,
    ProtocolError,
    QuotaExceeded,
    ReplyLost,
    ReplyUnreadable,
    RequestNotSent,
    SchemaError,
    SelectorsRejected,
    WsmanClient,
    WsmanError,
    WsmanFault,
    http_error,
)
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._wsman.cim import CimPath
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._wsman.client import (
    MAX_EMPTY_PAGES,
    MAX_RESTARTS,
)
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._wsman.errors import FAULTS, fault_class
from unit.wsman.scripted_host import V2, ScriptedHost, answer

Play = Callable[..., tuple[WsmanClient, ScriptedHost]]
VM = "Msvm_ComputerSystem"
SERVICE = CimPath(V2, "Msvm_ImageManagementService", {"CreationClassName": "Msvm_ImageManagementService"})
LOST = ReplyLost("The connection was reset while waiting for the answer.")
NOT_SENT = RequestNotSent("Connection refused.")


def _names(rows: list) -> list[object]:  # type: ignore[type-arg]
    return [row["ElementName"] for row in rows]


# -- some properties only ---------------------------------------------------------------------------------------------


def test_a_host_that_refuses_some_properties_only_is_asked_for_all_and_remembered(play: Play) -> None:
    """Windows refuses a query for a property that its version of the class lacks."""
    client, host = play("fault_filter", "enumerate_complete", "enumerate_complete")
    for _unused in range(2):
        assert len(client.query(V2, VM, where="EnabledState = 2", select=("Name", "EnabledState"))) == 1
    queries = [request.decode().partition('WQL">')[2].partition("<")[0] for request in host.requests]
    asked = [query.partition(" FROM ") for query in queries]
    assert [columns for columns, _from, _rest in asked] == ["SELECT Name,EnabledState", "SELECT *", "SELECT *"]
    assert {rest for _columns, _from, rest in asked} == {f"{VM} WHERE EnabledState = 2"}


def test_a_missing_class_is_missing_whatever_was_selected(play: Play) -> None:
    client, host = play("fault_filter", "fault_filter", "fault_invalid_class")
    with pytest.raises(ClassMissing):
        client.query(V2, VM, select=("Name",))
    assert host.finished()


# -- paging -----------------------------------------------------------------------------------------------------------


def test_all_pages_are_read_in_both_item_namespaces(play: Play) -> None:
    client, host = play("enumerate_first_of_many", "pull_middle", "pull_last")
    assert _names(client.query(V2, VM)) == ["web & db", "ゲスト", ""]
    assert host.actions() == ["Enumerate", "Pull", "Pull"]


@pytest.mark.parametrize("name", ["enumerate_empty", "enumerate_empty_items"])
def test_no_rows_are_an_empty_list_in_one_request(play: Play, name: str) -> None:
    client, host = play(name)
    assert client.query(V2, VM) == []
    assert host.actions() == ["Enumerate"]


def test_an_enumerate_answer_without_rows_is_followed_by_pulls(play: Play) -> None:
    client, host = play("enumerate_context_only", "pull_middle", "pull_last")
    assert len(client.query(V2, VM)) == 2
    assert host.finished()


def test_an_empty_page_is_not_the_end(play: Play) -> None:
    client, host = play("enumerate_first_of_many", "pull_empty", "pull_last")
    assert _names(client.query(V2, VM)) == ["web & db", ""]
    assert b"uuid:CTX-3" in host.requests[2]


def test_empty_pages_without_end_are_refused_and_the_enumeration_is_released(play: Play) -> None:
    client, host = play("enumerate_first_of_many", *["pull_empty"] * (MAX_EMPTY_PAGES + 1), "release")
    with pytest.raises(ProtocolError, match="empty pages"):
        client.query(V2, VM)
    assert host.actions()[-1] == "Release"
    assert host.finished()


def test_properties_called_like_the_frame_do_not_end_the_enumeration(play: Play) -> None:
    client, host = play("enumerate_context_only", "pull_trap", "pull_empty", "pull_trap", "enumerate_empty")
    rows = client.query(V2, "Test_Trap", limit=2)
    assert [(row["EndOfSequence"], row["EnumerationContext"], row["Items"]) for row in rows] == [
        ("mine", "not yours", [1, 2])
    ] * 2
    assert b"<n:EnumerationContext>uuid:CTX-4</n:EnumerationContext>" in host.requests[2]


def test_a_page_that_is_neither_last_nor_continued_is_an_error_and_not_a_short_list(play: Play) -> None:
    cut = answer("pull_middle").replace(b"<n:EnumerationContext>uuid:CTX-2</n:EnumerationContext>", b"")
    client, _unused = play("enumerate_first_of_many", cut)
    with pytest.raises(ProtocolError, match="neither the last"):
        client.query(V2, VM)


def test_a_limit_stops_early_and_releases_the_newest_context(play: Play) -> None:
    client, host = play("enumerate_first_of_many", "pull_middle", "release")
    assert len(client.query(V2, VM, limit=2)) == 2
    assert host.actions() == ["Enumerate", "Pull", "Release"]
    assert b"<n:EnumerationContext>uuid:CTX-2</n:EnumerationContext>" in host.requests[2]


def test_a_release_that_fails_is_of_no_consequence(play: Play) -> None:
    client, _unused = play("enumerate_first_of_many", "fault_invalid_context")
    assert len(client.query(V2, VM, limit=1)) == 1


def test_a_row_that_cannot_be_read_releases_the_enumeration(play: Play) -> None:
    broken = answer("enumerate_first_of_many").replace(b"<p:EnabledState>2<", b"<p:EnabledState>two<")
    client, host = play(broken, "release")
    with pytest.raises(ProtocolError, match=r"Msvm_ComputerSystem\.EnabledState should be uint16"):
        client.query(V2, VM)
    assert host.actions() == ["Enumerate", "Release"]


# -- restarts and repetitions -------------------------------------------------------------------------------------------


def test_an_expired_context_restarts_from_zero_without_doubling_rows(play: Play) -> None:
    client, host = play(
        "enumerate_first_of_many", "fault_invalid_context", "enumerate_first_of_many", "pull_middle", "pull_last"
    )
    assert _names(client.query(V2, VM)) == ["web & db", "ゲスト", ""]
    assert host.actions() == ["Enumerate", "Pull", "Enumerate", "Pull", "Pull"]


def test_restarts_are_bounded(play: Play) -> None:
    client, host = play(*["enumerate_first_of_many", "fault_invalid_context"] * (MAX_RESTARTS + 1))
    with pytest.raises(InvalidContext):
        client.query(V2, VM)
    assert host.finished()


def test_a_lost_pull_is_never_resent_but_restarts_the_enumeration(play: Play) -> None:
    client, host = play("enumerate_first_of_many", LOST, "enumerate_first_of_many", "pull_middle", "pull_last")
    assert len(client.query(V2, VM)) == 3
    assert host.actions() == ["Enumerate", "Pull", "Enumerate", "Pull", "Pull"]


def test_pulls_that_are_lost_again_and_again_end_in_reply_lost(play: Play) -> None:
    client, host = play(*["enumerate_first_of_many", LOST] * (MAX_RESTARTS + 1))
    with pytest.raises(ReplyLost):
        client.query(V2, VM)
    assert host.finished()


def test_a_pull_that_was_not_sent_is_sent_once_more(play: Play) -> None:
    client, host = play("enumerate_first_of_many", NOT_SENT, "pull_last")
    assert len(client.query(V2, VM)) == 2
    assert host.actions() == ["Enumerate", "Pull", "Pull"]
    assert b"uuid:CTX-1" in host.requests[2]


def test_a_pull_whose_own_time_was_up_is_asked_again(play: Play) -> None:
    client, host = play("enumerate_first_of_many", "fault_pull_timed_out", "pull_last")
    assert len(client.query(V2, VM)) == 2
    assert host.actions() == ["Enumerate", "Pull", "Pull"]


@pytest.mark.parametrize("trouble", [LOST, NOT_SENT])
def test_a_read_is_repeated_once_with_a_new_message_id(play: Play, trouble: WsmanError) -> None:
    client, host = play(trouble, "get_job")
    client.get(CimPath(V2, "Msvm_StorageJob", {"InstanceID": "x"}))
    assert len(set(host.requests)) == 2


@pytest.mark.parametrize("trouble", [LOST, NOT_SENT])
def test_a_read_is_not_repeated_twice(play: Play, trouble: WsmanError) -> None:
    client, host = play(trouble, trouble)
    with pytest.raises(type(trouble)):
        client.query(V2, VM)
    assert host.finished()


def test_a_read_is_not_repeated_when_the_transport_says_that_it_cannot_help(play: Play) -> None:
    client, host = play(RequestNotSent("No such host name.", repeatable=False))
    with pytest.raises(RequestNotSent):
        client.query(V2, VM)
    assert len(host.requests) == 1


def test_wrong_credentials_are_not_tried_again(play: Play) -> None:
    client, host = play(AuthenticationFailed("The host refused the credentials."))
    with pytest.raises(AuthenticationFailed):
        client.query(V2, VM)
    assert len(host.requests) == 1


# -- filter refused or class missing -------------------------------------------------------------------------------------


def test_a_refused_filter_on_a_class_that_is_there_is_filter_refused(play: Play) -> None:
    client, host = play("fault_filter", "enumerate_first_of_many", "release")
    with pytest.raises(FilterRefused):
        client.query(V2, VM, where="ElementName = 'x'")
    assert host.actions() == ["Enumerate", "Enumerate", "Release"]
    assert b"/root/virtualization/v2/Msvm_ComputerSystem</w:ResourceURI>" in host.requests[1]
    assert b"Filter" not in host.requests[1]


def test_a_refused_filter_on_a_class_that_is_not_there_is_class_missing(play: Play) -> None:
    client, host = play("fault_filter", "fault_filter")
    with pytest.raises(ClassMissing, match="2150858778") as caught:
        client.query(V2, VM, where="ElementName = 'x'")
    assert caught.value.kind == "class_missing"
    assert host.finished()


def test_the_number_of_a_missing_class_or_namespace_needs_no_second_question(play: Play) -> None:
    client, host = play("fault_invalid_class", "fault_invalid_namespace")
    with pytest.raises(ClassMissing) as caught:
        client.query(V2, VM, where="Name = ''")
    assert caught.value.__class__ is ClassMissing
    with pytest.raises(NamespaceMissing):
        client.query(V2, VM)
    assert host.finished()


def test_a_query_without_a_condition_falls_back_to_enumerating_the_class(play: Play) -> None:
    client, host = play("fault_filter", "enumerate_first_of_many", "pull_last")
    assert len(client.query(V2, VM)) == 2
    assert b"/root/virtualization/v2/Msvm_ComputerSystem</w:ResourceURI>" in host.requests[2]


def test_an_unfiltered_read_of_a_missing_class_is_class_missing(play: Play) -> None:
    client, _unused = play("fault_filter", "fault_filter", "fault_filter")
    with pytest.raises(ClassMissing):
        client.enumerate(V2, VM)
    with pytest.raises(ClassMissing):
        client.get(CimPath(V2, VM, {"Name": "x"}))
    with pytest.raises(ClassMissing):
        client.invoke(SERVICE, "CreateVirtualHardDisk")


# -- faults ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "error", "numbers"),
    [
        ("fault_access_denied", AccessDenied, (5, None, None)),
        ("fault_not_found", NotFound, (2150858752, 2150858752, None)),
        ("fault_selectors", SelectorsRejected, (2150858843, None, None)),
        ("fault_timed_out", OperationTimedOut, (2150858793, None, None)),
        ("fault_unknown_number", WsmanFault, (2150861234, None, None)),
        ("fault_wmi_error_status", NotFound, (46001, None, 6)),
        ("fault_wmi_error_hresult", AccessDenied, (1, 0x80041003, 1)),
        ("fault_bare", WsmanFault, (None, None, None)),
    ],
)
def test_faults_become_errors_by_number(
    play: Play, name: str, error: type[WsmanFault], numbers: tuple[int | None, int | None, int | None]
) -> None:
    client, _unused = play(name)
    with pytest.raises(error) as caught:
        client.get(CimPath(V2, "Msvm_StorageJob", {"InstanceID": "top-secret-key"}))
    raised = caught.value
    assert raised.__class__ is error
    assert (raised.code, raised.provider_code, raised.cim_status) == numbers
    sentence = str(raised)
    assert "Msvm_StorageJob in root/virtualization/v2" in sentence
    assert "top-secret-key" not in sentence
    assert len(sentence) < 700
    assert "\n" not in sentence
    if numbers[0] is not None:
        assert str(numbers[0]) in sentence


def test_every_number_of_the_table_chooses_its_class_and_the_provider_wins_over_the_frame() -> None:
    for code, (name, error) in FAULTS.items():
        assert fault_class((None, code)) is error, name
        assert fault_class((code, 2150858755)) is error, name
    assert fault_class((0x80041003, 2150858778)) is AccessDenied
    assert fault_class((None, 12345), cim_status=6) is NotFound
    assert fault_class((None, None), subcode="QuotaLimit") is QuotaExceeded
    assert fault_class(()) is WsmanFault


def test_every_error_has_a_word_for_machines() -> None:
    kinds = {error.kind for _unused, error in FAULTS.values()}
    assert kinds <= {
        *("access_denied", "not_found", "class_missing", "namespace_missing", "method_missing", "filter_refused"),
        *("quota", "busy", "timeout", "invalid_context", "schema_rejected", "selectors_rejected", "too_large"),
    }
    assert (RequestNotSent.kind, OutcomeUnknown.kind, ReplyUnreadable.kind) == (
        "unreachable",
        "outcome_unknown",
        "outcome_unknown",
    )


def test_an_empty_http_500_says_that_unencrypted_traffic_is_refused(play: Play) -> None:
    client, host = play(b"")
    with pytest.raises(HttpError, match="unencrypted") as caught:
        client.invoke(SERVICE, "CreateVirtualHardDisk")
    assert (caught.value.status, caught.value.kind) == (500, "http")
    assert len(host.requests) == 1


def test_an_answer_to_another_request_is_refused(play: Play) -> None:
    other = answer("enumerate_complete").replace(b"@RELATES_TO@", b"uuid:99999999-0000-4000-8000-000000000000")
    client, host = play(other)
    with pytest.raises(ProtocolError, match="another request"):
        client.query(V2, VM)
    assert len(host.requests) == 1


def test_an_answer_without_relates_to_is_accepted_and_case_does_not_matter(play: Play) -> None:
    without = answer("enumerate_complete").replace(b"<a:RelatesTo>@RELATES_TO@</a:RelatesTo>", b"")
    lower = answer("enumerate_complete").replace(b"@RELATES_TO@", b"uuid:00000000-0000-4000-8000-00000000000a")
    client, _unused = play(*[without] * 9, lower)
    for _unused in range(10):
        assert len(client.query(V2, VM)) == 1


def test_an_answer_of_another_kind_is_a_protocol_error(play: Play) -> None:
    client, _unused = play("get_empty")
    with pytest.raises(ProtocolError):
        client.get(CimPath(V2, "Msvm_StorageJob", {"InstanceID": "x"}))
    client, _unused = play("get_job")
    with pytest.raises(ProtocolError):
        client.query(V2, VM)


# -- methods --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trouble",
    [
        LOST,
        "fault_timed_out",
        b"<html>Bad gateway</html>",
        b"not even XML",
        "invoke_without_output",
        "invoke_bad_value",
        http_error(502, b"<html/>"),
        http_error(500, b"<html/>"),
    ],
)
def test_a_method_whose_outcome_is_not_known_is_said_so_and_never_resent(
    play: Play, trouble: str | bytes | Exception
) -> None:
    client, host = play(trouble)
    with pytest.raises(OutcomeUnknown) as caught:
        client.invoke(SERVICE, "CreateVirtualHardDisk", {"VirtualDiskSettingData": "<SECRET/>"})
    assert caught.value.kind == "outcome_unknown"
    assert "Msvm_ImageManagementService.CreateVirtualHardDisk" in str(caught.value)
    assert "SECRET" not in str(caught.value)
    assert len(host.requests) == 1


def test_the_answer_to_another_request_makes_a_method_s_outcome_unknown(play: Play) -> None:
    other = answer("invoke_done").replace(b"@RELATES_TO@", b"uuid:99999999-0000-4000-8000-000000000000")
    client, _unused = play(other)
    with pytest.raises(ReplyUnreadable) as caught:
        client.invoke(SERVICE, "CreateVirtualHardDisk")
    assert isinstance(caught.value, ProtocolError)


@pytest.mark.parametrize(
    "trouble", [NOT_SENT, AuthenticationFailed("Refused."), http_error(403, b"no"), http_error(404, b"")]
)
def test_a_method_that_was_certainly_not_executed_keeps_its_error(play: Play, trouble: WsmanError) -> None:
    client, host = play(trouble)
    with pytest.raises(type(trouble)) as caught:
        client.invoke(SERVICE, "CreateVirtualHardDisk")
    assert caught.value is trouble
    assert not isinstance(caught.value, OutcomeUnknown)
    assert len(host.requests) == 1


def test_a_refused_method_keeps_its_fault(play: Play) -> None:
    client, _unused = play("fault_access_denied")
    with pytest.raises(AccessDenied):
        client.invoke(SERVICE, "CreateVirtualHardDisk")


def test_a_method_whose_output_could_not_be_decoded_is_not_called_at_all(play: Play) -> None:
    client, host = play()
    with pytest.raises(SchemaError, match="Test_Unstated"):
        client.invoke(CimPath(V2, "Test_Unfinished"), "Make")
    assert host.requests == []


@pytest.mark.parametrize(("text", "value"), [("-2147023728", 0x80070490), ("2147943568", 0x80070490), ("0", 0)])
def test_an_hresult_as_return_value_is_its_32_bits(play: Play, text: str, value: int) -> None:
    client, _unused = play(answer("invoke_bad_value").replace(b">done<", f">{text}<".encode()))
    assert client.invoke(SERVICE, "CreateVirtualHardDisk").return_value == value
