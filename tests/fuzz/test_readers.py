# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The first cases of every reader, and what the fuzzing has found once; `make fuzz` goes on for as long as it is told to."""

from __future__ import annotations

import itertools
import json
import random
import tracemalloc

import pytest

from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup import backup_set
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.backup_events import (
    EventsUnreadable,
    number_of,
    read_events,
)
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.detached_job import JobLook
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.errors import BackupError, SetUnreadable
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.lease import _entries
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.set_copy import parse_reg_export
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.wbadmin_text import log_paths, version_ids
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._wsman import ProtocolError
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._wsman.wire import parse_xml
from fuzz.__main__ import finding, limited
from fuzz.mutation import any_bytes
from fuzz.readers import READERS, Reader

#: A case of them takes milliseconds, of the others tens of them.
CASES = {"machine": 25, "wbadmin-text": 25, "run-files": 60, "partition-table": 60, "answer": 150}
MIB = 1024 * 1024


@pytest.mark.parametrize("reader", READERS.values(), ids=lambda reader: reader.name)
def test_whatever_comes_a_reader_raises_nothing_but_its_own_errors(reader: Reader) -> None:
    found = {number: finding(reader, number) for number in range(CASES.get(reader.name, 120))}
    wrong = [f"make fuzz CASE={reader.name}/{number}  # {text}" for number, text in found.items() if text]
    assert wrong == []


def test_the_same_number_is_the_same_case() -> None:
    made = [any_bytes(b"<a>text</a>", random.Random("x/7")) for _unused in range(2)]
    assert made[0] == made[1]


def test_a_reader_that_raises_something_else_is_found() -> None:
    reader = Reader(name="broken", seeds=lambda: [b"x"], read=lambda _seed, _dice: {}["no"])
    assert "KeyError" in str(finding(reader, 0))


@pytest.mark.parametrize("piece", [b"<Event>", b"<Event ", b"<?xml", b"</Event>", b"<Event></Event>"])
def test_a_log_of_events_that_never_end_is_refused_before_dinner(piece: bytes) -> None:
    with limited(60), pytest.raises(EventsUnreadable):
        read_events(piece * (4 * MIB // len(piece)))


@pytest.mark.parametrize("text", ["9" * 5000, "0x" + "f" * 5000, "1_0", "١", "0b1", "", "-", "0x"])
def test_a_number_of_an_event_is_a_number_or_none(text: str) -> None:
    assert number_of(text) is None


def test_numbers_of_events_are_unsigned_and_may_have_leading_zeros() -> None:
    assert [number_of(text) for text in ("007", "-1", "0x80070005", " 14 ")] == [7, 0xFFFFFFFF, 0x80070005, 14]


def test_megabytes_of_paths_and_versions_are_read_while_one_waits() -> None:
    with limited(60):
        assert log_paths(b"C:\\" * (MIB // 6)) == ()
        assert len(log_paths(b"".join(b"C:\\%d.log\r\n" % number for number in range(100_000)))) == 10
        assert version_ids(b"06/30/2026-19:26 " * 200_000) == ("06/30/2026-19:26",)
        days = [
            f"{month:02}/{day:02}/{year}"
            for year in range(2000, 2060)
            for month in range(1, 13)
            for day in range(1, 29)
        ]
        assert len(version_ids(" ".join(f"{day}-19:26" for day in days).encode())) == len(days)


def test_an_exit_code_is_a_plain_number() -> None:
    texts = [b"0", b" 0\r\n", b"4294967295", b"-3", b"0_0", b"+0", b"9" * 5000, "٠".encode(), b"0 0", b""]
    looks = [JobLook(run_id="a", task=None, is_done=True, files={"rc.txt": text}) for text in texts]
    assert [look.exit_code("rc.txt") for look in looks] == [0, 0, -1, -3, *[None] * 6]


def test_a_lease_of_endless_nesting_is_unreadable_and_no_crash() -> None:
    with pytest.raises(BackupError) as caught:
        _entries("vm-1", {"token": "[" * 100_000})
    assert caught.value.kind == "lease_unreadable"


def test_a_million_attributes_are_refused_before_they_cost_memory() -> None:
    bomb = b"<a " + b" ".join(b"a%x=''" % number for number in range(700_000)) + b"/>"
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError, match="attributes"):
            parse_xml(bomb)
        assert tracemalloc.get_traced_memory()[1] < 4 * len(bomb)
    finally:
        tracemalloc.stop()


def test_an_export_of_nothing_but_quotes_is_refused_while_one_waits() -> None:
    head = "Windows Registry Editor Version 5.00\n"
    for piece in ('\\"', '"', '"a"=', "\\", '"="'):
        with limited(60), pytest.raises(SetUnreadable):
            parse_reg_export((head + piece * (1_000_000 // len(piece))).encode())


def _recorded() -> dict[str, object]:
    made = READERS["set-values"].seeds()[0]
    assert isinstance(made, dict)
    return json.loads(json.dumps(made))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("evidence",), 1),
        (("evidence", "host"), "x"),
        (("evidence", "guest"), []),
        (("evidence", "guest", "iscsi"), True),
        (("volumes",), 1.5),
        (("volumes",), ["S:"]),
        (("slot",), 7),
        (("kind",), {}),
        (("unique_id",), ["a"]),
    ],
)
def test_a_record_that_a_restore_could_not_walk_through_is_refused_when_it_is_read(
    path: tuple[str, ...], value: object
) -> None:
    record = _recorded()
    holder = record["disks"][1]  # type: ignore[index]
    for name in path[:-1]:
        holder = holder[name]
    holder[path[-1]] = value
    with pytest.raises(SetUnreadable, match="disks is malformed"):
        backup_set.from_dict(record)
    holder[path[-1]] = None
    assert backup_set.from_dict(record).disks


def test_every_reader_has_texts_that_it_is_made_for() -> None:
    assert all(reader.seeds() for reader in READERS.values())
    assert len(set(itertools.chain(READERS))) == len(READERS)
