# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The simulated event logs: records, XML, the XPath of queries, what CIM shows of them."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from simulator.event_log import EVENT_NAMESPACE, EventLog, XPathError
from simulator.world import Machine
from unit.simulator.windows_machines import NOBODY, make_world, rows, run

START = datetime(2026, 10, 1, 20, 0, tzinfo=timezone.utc)


@pytest.fixture
def log() -> EventLog:
    times = iter(START + timedelta(minutes=n) for n in range(100))
    log = EventLog(computer="hv01", now=lambda: next(times))
    for number, event_id in enumerate((1, 4, 5, 14)):
        log.write(
            "Microsoft-Windows-Backup",
            provider="Microsoft-Windows-Backup",
            event_id=event_id,
            level=2 if event_id == 5 else 4,
            data={"BackupTemplateID": f"{{{number}}}", "BackupTarget": "E:"},
        )
    return log


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Machine]:
    world = make_world(tmp_path)
    yield world.machine("hv01")
    world.close()


@pytest.mark.parametrize(
    ("xpath", "ids"),
    [
        ("*", [1, 4, 5, 14]),
        ("*[System[EventRecordID > 2]]", [5, 14]),
        ("*[System[(EventRecordID>1)]]", [4, 5, 14]),
        ("*[System[EventRecordID &gt; 1 and EventID=4]]", [4]),
        ("*[System[(EventID=4 or EventID=5) and EventRecordID>=2]]", [4, 5]),
        ("Event/System[EventID=14]", [14]),
        ("Event[System[Level=2]]", [5]),
        ("*[System[Provider[@Name='Microsoft-Windows-Backup'] and (EventID=1)]]", [1]),
        ("*[System[Provider[@Name='Other']]]", []),
        ("*[EventData[Data[@Name='BackupTemplateID']='{1}']]", [4]),
        ("*[EventData[Data='{2}']]", [5]),
        ("*[System[EventID=4]] ", [4]),
        ("*[System[EventID=4] and EventData[Data[@Name='BackupTarget']='E:']]", [4]),
        ("*[System[TimeCreated[@SystemTime>='2026-10-01T20:02:00.000Z']]]", [5, 14]),
        ("*[System[TimeCreated[timediff(@SystemTime) <= 119000]]]", [14]),
    ],
)
def test_a_query_selects_records(log: EventLog, xpath: str, ids: list[int]) -> None:
    assert [record.event_id for record in log.query("microsoft-windows-backup", xpath)] == ids


@pytest.mark.parametrize(
    "xpath",
    ["", "System[EventID=4]", "*[System[Nothing=4]]", "*[System[EventID=4]", "*[Foo]", "*[System[EventID=abc]]"],
)
def test_a_bad_query_is_refused(log: EventLog, xpath: str) -> None:
    with pytest.raises(XPathError):
        log.query("Microsoft-Windows-Backup", xpath)


def test_the_xml_has_named_fields_in_the_namespace(log: EventLog) -> None:
    record = log.write("Application", provider="Tést", event_id=7, data={"Ünï": "a<b>&'\"", "Empty": ""})
    event = ET.fromstring(record.xml())
    space = f"{{{EVENT_NAMESPACE}}}"
    assert event.tag == f"{space}Event"
    assert event.findtext(f"{space}System/{space}EventRecordID") == "1"
    assert {d.get("Name"): d.text or "" for d in event.iter(f"{space}Data")} == {"Ünï": "a<b>&'\"", "Empty": ""}


def test_record_ids_start_again_after_a_clear(log: EventLog) -> None:
    log.clear("Microsoft-Windows-Backup")
    assert log.write("Microsoft-Windows-Backup", provider="x", event_id=1).record_id == 1


def test_wevtutil_prints_what_was_asked_for(host: Machine) -> None:
    for number in range(3):
        host.event_log.write("Microsoft-Windows-Backup", provider="Microsoft-Windows-Backup", event_id=number + 1)
    outcome = run(
        host, 'wevtutil qe Microsoft-Windows-Backup /q:"*[System[(EventRecordID>1)]]" /c:1 /rd:true /f:xml /e:Events'
    )
    assert outcome.code == 0
    events = ET.fromstring(outcome.out)
    assert events.tag == "Events"
    assert [e.findtext(f".//{{{EVENT_NAMESPACE}}}EventID") for e in events] == ["3"]
    assert "numberOfLogRecords: 3" in run(host, "wevtutil gli Microsoft-Windows-Backup").out


def test_wevtutil_says_no(host: Machine) -> None:
    assert run(host, "wevtutil qe No-Such-Log").code == 15007
    assert run(host, 'wevtutil qe System /q:"*[System[Bad=1]]"').code == 15001
    assert run(host, "wevtutil qe System", token=NOBODY).code == 5
    assert run(host, "wevtutil zz").code == 87


def test_cim_shows_classic_logs_only(host: Machine) -> None:
    host.event_log.write("Microsoft-Windows-Backup", provider="Microsoft-Windows-Backup", event_id=1)
    host.event_log.write("Application", provider="App", event_id=9, level=2, message="broken")
    found = rows(host, "root/cimv2", "Win32_NTLogEvent")
    assert [(row["Logfile"], row["EventCode"], row["Type"]) for row in found] == [("Application", 9, "Error")]
