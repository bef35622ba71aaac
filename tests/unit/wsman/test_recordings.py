# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The codec reads every recorded answer of a real Windows host. The recordings are not part of the repository."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from ansible_collections.hyperv.passthrough.plugins.plugin_utils._wsman import (
    NEVER,
    CimInstance,
    CimPath,
    FilterRefused,
    NotFound,
    OperationTimedOut,
    QuotaExceeded,
    Schema,
    WsmanFault,
)
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._wsman.shell import Command, run
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._wsman.values import decode_instance
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._wsman.wire import (
    Page,
    fault_error,
    read_answer,
    read_page,
)
from unit.wsman.scripted_host import V2

HYPERV = "r4sd-go-wsman-recorded"


def _page(recordings: Path, name: str) -> Page:
    return read_page(read_answer((recordings / HYPERV / f"{name}.xml").read_bytes()).body)


def _row(recordings: Path, schema: Schema, name: str, class_name: str) -> CimInstance:
    (item,) = _page(recordings, name).items
    return decode_instance(item, schema=schema, namespace=V2, class_name=class_name)


def _got(recordings: Path, schema: Schema, name: str, class_name: str, folder: str = HYPERV) -> CimInstance:
    (element,) = read_answer((recordings / folder / f"{name}.xml").read_bytes()).body
    return decode_instance(element, schema=schema, namespace=V2, class_name=class_name)


def test_every_recording_is_read_as_an_answer_or_a_fault(recordings: Path) -> None:
    files = sorted(recordings.glob("*/*.xml"))
    assert len(files) >= 20
    for file in files:
        answer = read_answer(file.read_bytes())
        assert (answer.fault is not None) == ("Fault>" in file.read_text("utf-8")), file.name


def test_every_recorded_row_is_decoded(recordings: Path, schema: Schema) -> None:
    rows = 0
    for file in sorted((recordings / HYPERV).glob("*pull*.xml")):
        for item in read_page(read_answer(file.read_bytes()).body).items:
            instance = decode_instance(item, schema=schema, namespace=V2, class_name="Msvm_ComputerSystem")
            assert instance.properties, file.name
            assert instance.namespace == V2
            rows += 1
    assert rows >= 9


def test_a_virtual_machine_that_is_off(recordings: Path, schema: Schema) -> None:
    vm = _row(recordings, schema, "recorded_computersystem_pull_vm_off", "Msvm_ComputerSystem")
    assert vm.class_name == "Msvm_ComputerSystem"
    assert vm["EnabledState"] == 3
    assert vm["OperationalStatus"] == [2]
    assert vm["StatusDescriptions"] == ["正常稼働中"]
    assert vm["IdentifyingDescriptions"] == []
    assert vm["ProcessID"] is None
    assert vm["InstallDate"] == datetime(2026, 10, 8, 15, 15, 36, 684240, tzinfo=timezone.utc)
    assert vm["TimeOfLastStateChange"] == NEVER
    assert vm["onTIMEinmilliseconds"] == 0


def test_the_last_page_of_a_recorded_enumeration(recordings: Path, schema: Schema) -> None:
    page = _page(recordings, "recorded_computersystem_pull_vm_running_c_eos")
    assert page.context is None
    vm = decode_instance(page.items[0], schema=schema, namespace=V2, class_name="Msvm_ComputerSystem")
    assert (vm["EnabledState"], vm["ProcessID"], vm["OnTimeInMilliseconds"]) == (2, 8748, 6138293824)


def test_the_host_itself_is_a_row_without_process_and_date(recordings: Path, schema: Schema) -> None:
    host = _row(recordings, schema, "recorded_computersystem_pull_host", "Msvm_ComputerSystem")
    assert host["ProcessID"] is None
    assert host["InstallDate"] is None
    assert host["Name"] == host["ElementName"]


def test_a_plain_enumerate_answer_has_a_context_and_no_rows(recordings: Path) -> None:
    page = _page(recordings, "recorded_computersystem_enumerate")
    assert page.items == ()
    assert page.context == "uuid:00000000-0000-4000-8000-000000000003"


def test_recorded_jobs_while_running_and_when_done(recordings: Path, schema: Schema) -> None:
    running = _got(recordings, schema, "get_response_storagejob_running", "Msvm_StorageJob")
    done = _got(recordings, schema, "get_response_storagejob_completed", "Msvm_StorageJob")
    assert (running["JobState"], running["PercentComplete"], running["OperationalStatus"]) == (4, 0, [2])
    assert (done["JobState"], done["PercentComplete"], done["OperationalStatus"]) == (7, 100, [17, 2])
    assert done["ElapsedTime"] == timedelta(seconds=1, microseconds=4170)
    assert done["TimeBeforeRemoval"] == timedelta(minutes=5)
    assert (done["ErrorDescription"], done["Child"], done["Cancellable"]) == ("", None, True)


def test_recorded_references_have_no_wrapper_and_become_paths(recordings: Path, schema: Schema) -> None:
    created = _row(recordings, schema, "recorded_affectedjobelement_pull_created", "Msvm_AffectedJobElement")
    assert created["AffectedElement"] == CimPath(
        V2, "Msvm_VirtualSystemSettingData", {"InstanceID": "Microsoft:00000000-0000-4000-8000-000000000083"}
    )
    assert created["ElementEffects"] == [5]
    affected = _row(recordings, schema, "recorded_affectedjobelement_pull_same_job_effect0", "Msvm_AffectedJobElement")
    assert affected["AffectedElement"] == CimPath(
        V2,
        "Msvm_ComputerSystem",
        {"CreationClassName": "Msvm_ComputerSystem", "Name": "00000000-0000-4000-8000-000000000003"},
    )
    assert affected["AffectingElement"] == created["AffectingElement"]


def test_a_null_is_none_and_an_absent_array_is_empty(recordings: Path, schema: Schema) -> None:
    drive = _row(recordings, schema, "pull_response_xsinil_real", "Msvm_ResourceAllocationSettingData")
    assert (drive["Address"], drive["Parent"], drive["HostResource"]) == (None, None, [])
    assert (drive["AutomaticAllocation"], drive["Limit"], drive["ResourceType"]) == (True, 1, 17)


def test_old_answers_with_a_reference_in_a_foreign_namespace(recordings: Path, schema: Schema) -> None:
    for name in ("01-test_wsmanparser-line59", "02-test_wsmanparser-line218"):
        old = _got(recordings, schema, name, "myclass", "omi-tests-windows-answers")
        assert (old["Data1"], old["id"]) == ("Hello World", 1)
        assert old["Location"] == CimPath("root/mynamespace", "myclass", {"id": "1"})


@pytest.mark.parametrize(
    ("file", "error", "code", "text"),
    [
        ("omi-tests-windows-answers/03-test_wsmanparser-line1389", WsmanFault, 2152992672, "WSManPluginReceiveResult"),
        ("omi-tests-windows-answers/04-test_wsmanparser-line1509", NotFound, 2150858752, "cannot find the resource"),
        ("omi-tests-windows-answers/05-test_wsmanparser-line1652", OperationTimedOut, 2150858793, "OperationTimeout"),
        ("winrb/soap_fault_v1", FilterRefused, 2150858778, "class does not exist"),
        ("winrb/soap_fault_v2", FilterRefused, 2150858778, "class does not exist"),
        ("winrb/wsman_fault", FilterRefused, 2150858778, "class does not exist"),
        ("winrb/wmi_error_v2", QuotaExceeded, 2150859173, "30 concurrent shells"),
    ],
)
def test_recorded_faults_become_their_errors(
    recordings: Path, file: str, error: type[WsmanFault], code: int, text: str
) -> None:
    fault = read_answer((recordings / f"{file}.xml").read_bytes()).fault
    assert fault is not None
    raised = fault_error(fault, "The test")
    assert raised.__class__ is error
    assert raised.code == code
    assert text in str(raised)
    assert str(code) in str(raised)


@pytest.mark.parametrize(
    ("file", "shell_id"),
    [
        ("open_shell_v1", "uuid:739990FF-1492-4CDD-80BB-6E07ADB06D85"),
        ("open_shell_v2", "62DE33F0-8674-43D9-B6A5-3298012CC4CD"),
    ],
)
def test_recorded_shells_are_used_by_their_id(recordings: Path, file: str, shell_id: str) -> None:
    opened = read_answer((recordings / "winrb" / f"{file}.xml").read_bytes()).body
    timeout = read_answer(
        (recordings / "omi-tests-windows-answers" / "05-test_wsmanparser-line1652.xml").read_bytes()
    ).fault
    assert timeout is not None
    seen = []

    def exchange(request, asked):  # type: ignore[no-untyped-def]
        seen.append(request)
        if len(seen) == 1:
            return opened
        raise NotFound("the rest is not recorded")

    with pytest.raises(NotFound):
        run(exchange, Command(line="whoami"))
    assert [request.selectors.get("ShellId") for request in seen] == [None, shell_id, shell_id]
