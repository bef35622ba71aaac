# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Readers of what Windows leaves: wbadmin's text in several languages, the event log's XML, and the version they prove."""

from __future__ import annotations

import itertools
from datetime import datetime, timezone
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup import wbadmin_text as text
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.backup_events import (
    EventsUnreadable,
    bind_version,
    newest_record_id,
    number_of,
    read_events,
    time_of,
)

VM_ID = "285cea9b-1111-2222-3333-000000000001"
TEMPLATE = "{aaaaaaaa-1111-2222-3333-000000000001}"
OTHER_TEMPLATE = "{bbbbbbbb-1111-2222-3333-000000000002}"

ENGLISH_VERSIONS = (
    b"wbadmin 1.0 - Backup command-line tool\r\n(C) Copyright Microsoft Corporation. All rights reserved.\r\n\r\n"
    b"Backup time: 6/30/2026 12:26 PM\r\nBackup target: Fixed Disk labeled F:\r\n"
    b"Version identifier: 06/30/2026-19:26\r\nCan recover: Volume(s), File(s)\r\n\r\n"
    b"Backup time: 4/18/2025 3:12 PM\r\nBackup target: Fixed Disk labeled F:\r\nVersion identifier: 04/18/2025-22:12\r\n"
)
GERMAN_VERSIONS = (
    "wbadmin 1.0 - Sicherungs-Befehlszeilentool\r\n\r\nSicherungszeit: 30.06.2026 21:26\r\n"
    "Sicherungsziel: Netzwerkfreigabe mit Bezeichnung \\\\nas\\b\r\nVersions-ID: 06/30/2026-19:26\r\n"
    "Wiederherstellbar: Volumes, Dateien\r\n"
).encode("cp850")


# --- wbadmin --------------------------------------------------------------------------------------------------------


def test_version_ids_are_found_in_any_language_and_ordered_by_time():
    assert text.version_ids(ENGLISH_VERSIONS) == ("04/18/2025-22:12", "06/30/2026-19:26")
    assert text.version_ids(GERMAN_VERSIONS) == ("06/30/2026-19:26",)
    assert text.version_ids(ENGLISH_VERSIONS.decode().encode("utf-16")) == ("04/18/2025-22:12", "06/30/2026-19:26")


@pytest.mark.parametrize("data", [b"", b"13/45/2026-19:26", b"06/30/2026", b"106/30/2026-19:261", b"06/30/2026-25:00"])
def test_what_is_no_version_is_not_taken_for_one(data):
    assert text.version_ids(data) == ()


def test_the_version_of_a_time_is_its_utc_minute():
    assert text.version_id(datetime(2026, 6, 30, 19, 26, 59, tzinfo=timezone.utc)) == "06/30/2026-19:26"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"Creating a backup of volume (C:), copied (7%).\r\nCreating a backup of volume (C:), copied (43%).\r\n", 43),
        ("Sicherung von Volume (C:) wird erstellt, 12 % kopiert.".encode("cp850"), 12),
        (b"", None),
        (b"copied (430%)", None),
    ],
)
def test_progress_is_the_last_percentage(data, expected):
    assert text.percent(data) == expected


def test_the_busy_text_is_known_in_english_and_german():
    assert text.says_busy(b"ERROR - Another backup or recovery operation is in progress.")
    assert text.says_busy("Ein weiterer Sicherungs- oder Wiederherstellungsvorgang ist aktiv.".encode("cp850"))
    assert not text.says_busy(b"The backup operation successfully completed.")


@pytest.mark.parametrize("form", ["{%s}", "%s", "VM identifier: %s\r\n"])
def test_a_guid_is_found_with_or_without_braces_in_any_case(form):
    assert text.lists_guid((form % VM_ID.upper()).encode(), "{" + VM_ID + "}")
    assert not text.lists_guid(b"", VM_ID)
    assert not text.lists_guid((form % VM_ID).encode(), "285cea9b")


@pytest.mark.parametrize(
    ("name", "code_page"),
    [
        *itertools.product(["db01", "a & b", "50%", "C:\\x", "x (Offline)", "{{ 7*7 }}"], ["utf-8", "cp850", "utf-16"]),
        *itertools.product(["Büro 1"], ["utf-8", "cp850", "cp1252", "utf-16"]),
        *itertools.product(["数据库"], ["utf-8", "cp936", "utf-16"]),
    ],
)
def test_a_name_is_found_whole_in_every_code_page(name, code_page):
    data = f'head\r\nVM name: {name}\r\n"{name} (Online)"\r\n'.encode(code_page)
    longer = f"VM name: {name}2\r\nVM name: x{name}\r\n".encode(code_page)
    assert text.lists_name(data, name)
    if name.isascii():
        assert not text.lists_name(longer, name)


def test_a_name_that_the_code_page_lacks_is_found_as_question_marks():
    assert text.lists_name(b"VM name: ???\r\n", "数据库")
    assert text.lists_name("VM name: B?ro ü\r\n".encode("cp850"), "B数ro ü")
    assert not text.lists_name(b"VM name: ??\r\n", "数据库")
    assert text.consistency_of(b'"??? (Offline)"', "数据库") == "saved_state"


def test_a_letter_is_found_as_a_letter_and_not_inside_something_else():
    assert text.lists_letter(b"Volume 'data', mounted at E:\r\n", "e")
    assert not text.lists_letter(b"Version: 1.E:x Mode:fast", "E")
    assert not text.lists_letter(b"E:", "")


@pytest.mark.parametrize(
    ("data", "name", "expected"),
    [
        (b'The backup of "db01 (Online)" completed', "db01", "online"),
        (b'"db01 (Offline)"', "db01", "saved_state"),
        (b"Backup Using Saved State\\db01", "db01", "saved_state"),
        (b"Backup Using Child Partition Snapshot\\db01\r\n", "db01", "online"),
        (b'"db01 (Offline)" "db01 (Online)"', "db01", "unknown"),
        (b'"db01 (Hors connexion)"', "db01", "unknown"),
        (b'"db012 (Online)" "xdb01 (Online)"', "db01", "unknown"),
        (b'"db01 (Offline) (Online)"', "db01 (Offline)", "online"),
        (b'"db01 (Offline) (Online)"', "db01", "unknown"),
        (b"", "db01", "unknown"),
    ],
)
def test_online_and_offline_are_told_by_known_captions_only(data, name, expected):
    assert text.consistency_of(data, name) == expected


def test_an_error_shows_the_last_words_without_progress():
    log = b"copied (3%).\r\ncopied (4%).\r\n\r\nThere is not enough space.\r\ncopied (5%).\r\nERROR - Failed.\r\n"
    assert text.last_lines(log) == "There is not enough space. / ERROR - Failed."
    assert len(text.last_lines(b"x" * 10000)) <= text.MAX_SHOWN_CHARS + 3


@given(st.binary(max_size=300), st.text(max_size=20))
def test_no_bytes_break_a_reader(data, name):
    assert isinstance(text.version_ids(data), tuple)
    assert text.percent(data) is None or 0 <= text.percent(data) <= 100
    assert text.last_lines(data).isprintable()
    assert text.consistency_of(data, name) in ("online", "saved_state", "unknown")
    assert text.lists_name(data, name) in (True, False)
    assert text.lists_guid(data, name) in (True, False)
    assert text.lists_letter(data, name) in (True, False)
    assert isinstance(text.log_paths(data), tuple)
    try:
        read_events(data)
    except EventsUnreadable as err:
        assert str(err)


# --- events ---------------------------------------------------------------------------------------------------------


def event(record, number, **fields):
    data = "".join(f"<Data Name='{name}'>{escape(str(value))}</Data>" for name, value in fields.items())
    return (
        "<Event xmlns='http://schemas.microsoft.com/win/2004/08/events/event'><System>"
        "<Provider Name='Microsoft-Windows-Backup'/>"
        f"<EventID>{number}</EventID><Level>4</Level><EventRecordID>{record}</EventRecordID>"
        "<Channel>Microsoft-Windows-Backup</Channel><Computer>HV01</Computer></System>"
        f"<EventData>{data}</EventData></Event>"
    )


def started(record, template=TEMPLATE):
    return event(record, 1, BackupTemplateID=template, SystemStateBackup="false")


def ended(record, number=4, template=TEMPLATE, **changes):
    fields = {
        "BackupTemplateID": template,
        "HRESULT": "0",
        "DetailedHRESULT": "0x0",
        "BackupState": "14",
        "BackupTime": "2026-06-30T19:26:05.1234567Z",
        "BackupTarget": "F:",
        "ComponentInfo": '<ComponentInfo Name="db01 & co"/>',
    }
    return event(record, number, **{**fields, **changes})


def log(*events):
    """As wevtutil prints it: newest first, one event after another, no root."""
    return "\r\n".join(reversed(events)).encode()


def bind(*events, **changes):
    facts = {
        "baseline": 10,
        "limit": 40,
        "exit_code": 0,
        "before": ("06/30/2026-18:00",),
        "after": ("06/30/2026-18:00", "06/30/2026-19:26"),
    }
    return bind_version(read_events(log(event(10, 4), *events)), **{**facts, **changes})


def test_events_are_read_in_order_with_their_named_fields():
    found = read_events(log(started(11), ended(12)))
    assert [(one.record_id, one.event_id) for one in found] == [(11, 1), (12, 4)]
    assert found[1].fields["ComponentInfo"] == '<ComponentInfo Name="db01 & co"/>'
    assert newest_record_id(found) == 12
    assert newest_record_id(read_events(b"")) == 0
    assert read_events(b"<Events>" + log(started(11)) + b"</Events>")[0].event_id == 1
    assert read_events(log(started(11)).decode().encode("utf-16"))[0].event_id == 1


@pytest.mark.parametrize(
    "data",
    [
        b"Failed to query events.",
        b"<Event><System></Event>",
        b"<Event><System><EventID>1</EventID></System></Event>",
        b"<!DOCTYPE x [<!ENTITY a 'b'>]>" + b"<Event/>",
        started(11).encode() + b"tail",
        started(11).encode()[:-3],
        b"".join(started(number).encode() for number in range(600)),
    ],
)
def test_what_is_not_whole_is_refused_because_a_start_could_hide_in_it(data):
    with pytest.raises(EventsUnreadable):
        read_events(data)


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("0", 0),
        ("0x0", 0),
        ("2155348165", 0x807800C5),
        ("0x807800c5", 0x807800C5),
        ("-2139619131", 0x807800C5),
        ("007", 7),
        ("", None),
        ("x", None),
        ("0x", None),
    ],
)
def test_codes_are_read_decimal_and_hexadecimal(written, number):
    assert number_of(written) == number


@pytest.mark.parametrize(
    ("written", "hour"),
    [
        ("2026-06-30T19:26:05Z", 19),
        ("2026-06-30T19:26:05.123456789Z", 19),
        ("2026-06-30 19:26:05", 19),
        ("2026-06-30T21:26:05+02:00", 19),
        ("6/30/2026 7:26 PM", None),
        ("2026-13-30T19:26:05Z", None),
        ("", None),
    ],
)
def test_times_of_the_log_are_utc(written, hour):
    moment = time_of(written)
    assert (None if moment is None else (moment.hour, moment.minute)) == (None if hour is None else (hour, 26))


def test_one_start_one_clean_end_and_a_new_listed_version_are_a_proof():
    bound = bind(started(11), ended(12), ended(13, 14))
    assert (bound.state, bound.version) == ("succeeded", "06/30/2026-19:26")
    assert (bound.start.record_id, bound.end.record_id) == (11, 13)


# What the log shows: (events, changes of the facts, state, kind)
BINDINGS = {
    "nothing began": ((), {}, "failed", "no_start_event"),
    "nothing began, and it was refused": ((event(11, 19, HRESULT="0x80780049"),), {}, "failed", "no_start_event"),
    "two backups began": ((started(11), started(12, OTHER_TEMPLATE), ended(13)), {}, "failed", "ambiguous_version"),
    "two of one template": ((started(11), ended(12), started(13), ended(14)), {}, "failed", "ambiguous_version"),
    "a scheduled one ends inside our window": (
        (ended(11, 4, OTHER_TEMPLATE), ended(12, 14, OTHER_TEMPLATE), started(13), ended(14), ended(15, 14)),
        {},
        "succeeded",
        "",
    ),
    "a scheduled one of our template ends before we begin": (
        (ended(11, BackupTime="2026-06-30T18:59:00Z"), started(12), ended(13)),
        {},
        "succeeded",
        "",
    ),
    "only a foreign end": ((started(11), ended(12, 4, OTHER_TEMPLATE)), {}, "failed", "no_end_event"),
    "no end": ((started(11),), {}, "failed", "no_end_event"),
    "the end says failed": ((started(11), ended(12, 5, HRESULT="2155348165")), {}, "failed", "backup_failed"),
    "no shadow copy": (
        (started(11), event(12, 9, HRESULT="1"), ended(13, 5, HRESULT="0x8078011E")),
        {},
        "failed",
        "snapshot_failed",
    ),
    "cancelled": ((started(11), ended(12, 8)), {}, "failed", "cancelled"),
    "with errors": ((started(11), ended(12, 7, HRESULT="0x80780049")), {}, "warning", "completed_with_errors"),
    "with errors and a bad exit code": (
        (started(11), ended(12, 7)),
        {"exit_code": -3},
        "warning",
        "completed_with_errors",
    ),
    "a bad exit code": ((started(11), ended(12)), {"exit_code": -4}, "failed", "backup_failed"),
    "a code in the success event": ((started(11), ended(12, HRESULT="0x1")), {}, "failed", "backup_failed"),
    "a detailed code": ((started(11), ended(12, DetailedHRESULT="2147942833")), {}, "failed", "backup_failed"),
    "a missing code": ((started(11), ended(12, HRESULT="")), {}, "failed", "backup_failed"),
    "another state": ((started(11), ended(12, BackupState="9")), {}, "failed", "backup_failed"),
    "no target": ((started(11), ended(12, BackupTarget="")), {}, "failed", "backup_failed"),
    "one of two ends is not clean": (
        (started(11), ended(12), ended(13, 14, HRESULT="5")),
        {},
        "failed",
        "backup_failed",
    ),
    "two times": (
        (started(11), ended(12), ended(13, 14, BackupTime="2026-06-30T19:27:05Z")),
        {},
        "failed",
        "ambiguous_version",
    ),
    "a time that is none": ((started(11), ended(12, BackupTime="now")), {}, "failed", "ambiguous_version"),
    "two backups in one minute": (
        (started(11), ended(12)),
        {"before": ("06/30/2026-19:26",)},
        "failed",
        "ambiguous_version",
    ),
    "not on the target": ((started(11), ended(12)), {"after": ("06/30/2026-19:27",)}, "failed", "version_not_listed"),
    "more events than were read": (
        (started(11), ended(12)),
        {"baseline": 9, "limit": 3},
        "failed",
        "ambiguous_version",
    ),
    "an empty log before": ((started(11), ended(12)), {"baseline": 0, "limit": 40}, "succeeded", ""),
}


@pytest.mark.parametrize("case", BINDINGS.values(), ids=BINDINGS.keys())
def test_a_version_is_ours_only_when_the_log_proves_it(case):
    events, changes, state, kind = case
    bound = bind(*events, **changes)
    assert (bound.state, bound.kind) == (state, kind)
    assert (bound.version is None) == (state == "failed")
    assert bound.message or state == "succeeded"


def test_the_code_of_a_failure_is_kept_for_the_message():
    bound = bind(started(11), ended(12, 5, HRESULT="2155348165", DetailedHRESULT="0x800701B1"))
    assert bound.hresult == 0x807800C5
    assert "0x807800C5" in bound.message and "0x800701B1" in bound.message
