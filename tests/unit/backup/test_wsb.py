# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine wsb over detached jobs: command lines, task XML, targets, and whole runs on a machine in memory."""

from __future__ import annotations

import dataclasses
import re
from datetime import datetime, timedelta, timezone
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup import backup_set as sets
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup import engine, engines, wsb, wsb_job
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.backup_set import BackupSet
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.detached_job import (
    JOBS_FOLDER,
    MAX_COMMAND_CHARS,
    DetachedJobs,
    Step,
    argument,
    command_arguments,
    task_xml,
)
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.engine import BackupRequest, Waiting
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.errors import BackupError, TargetRefused
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.set_copy import copy_set
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.target import (
    check_target,
    folder_name,
    parse_target,
    run_target,
)
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.wsb import WindowsServerBackup
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._wsman import (
    CimInstance,
    MethodResult,
    OutcomeUnknown,
    ShellResult,
)

NOW = datetime(2026, 6, 30, 19, 26, tzinfo=timezone.utc)
VM_ID = "285CEA9B-1111-2222-3333-000000000001"
VOLUME = "\\\\?\\Volume{0a0b0c0d-1111-2222-3333-000000000001}\\"
VOLUME_2 = "\\\\?\\Volume{0a0b0c0d-1111-2222-3333-000000000002}\\"
RUN = "nightly.host.1"
VERSION = "06/30/2026-19:26"


def host_request(**changes):
    request = BackupRequest(phase="host", target="E:", label="db01", vm_id=VM_ID, vm_name="db01", left_out_disks=1)
    return dataclasses.replace(request, **changes)


def guest_request(**changes):
    request = BackupRequest(phase="guest", target="E:", label="DB01", volumes=(VOLUME, VOLUME_2))
    return dataclasses.replace(request, **changes)


# --- command lines --------------------------------------------------------------------------------------------------


def test_a_vm_is_named_by_its_guid():
    assert wsb.backup_command(host_request(), "E:") == (
        f"wbadmin start backup -backupTarget:E: -hyperv:{VM_ID} -vssCopy -quiet"
    )


def test_volumes_keep_their_backslash_outside_quotes():
    line = wsb.backup_command(guest_request(vss_backup_type="full"), "\\\\nas\\my share")
    assert line == (
        f'wbadmin start backup -backupTarget:"\\\\nas\\my share" -include:{VOLUME},{VOLUME_2} -vssFull -quiet'
    )


def windows_arguments(line):
    """How a Windows program splits its command line: a backslash escapes only in front of a quote."""
    found, word, quoted, started, position = [], "", False, False, 0
    while position < len(line):
        slashes = len(line[position:]) - len(line[position:].lstrip("\\"))
        after = line[position + slashes : position + slashes + 1]
        if slashes:
            started = True
            word += "\\" * (slashes // 2 if after == '"' else slashes)
            position += slashes
            if after == '"' and slashes % 2:
                word += '"'
                position += 1
        elif after == '"':
            quoted, started = not quoted, True
            position += 1
        elif after == " " and not quoted:
            found += [word] if started else []
            word, started = "", False
            position += 1
        else:
            word += after
            started = True
            position += 1
    return [*found, word] if started else found


@given(st.text(alphabet=st.sampled_from("aB1 \\&()',;=`-_.{}?:ü数"), min_size=1, max_size=30))
def test_any_text_that_is_not_refused_reaches_the_program_whole(text):
    assert windows_arguments(f"x {argument(text)} y") == ["x", text, "y"]


@pytest.mark.parametrize("text", ['a"b', "50%", "a!b", "a^b", "a\nb", "a\x00b", "\x7f"])
def test_what_no_quoting_carries_is_refused_before_anything_is_sent(text):
    with pytest.raises(BackupError) as caught:
        argument(text)
    assert caught.value.kind == "command_characters"


@pytest.mark.parametrize(
    "request_",
    [
        host_request(vm_id=None),
        host_request(vm_id="db01"),
        host_request(volumes=(VOLUME,)),
        guest_request(volumes=()),
        guest_request(volumes=("E:",)),
        guest_request(volumes=(VOLUME[:-1],)),
        guest_request(volumes=(VOLUME + " & calc",)),
        guest_request(vm_id=VM_ID),
        guest_request(volumes=(VOLUME,) * 101),
    ],
)
def test_a_request_that_is_none_is_refused(request_):
    with pytest.raises(BackupError) as caught:
        wsb.backup_command(request_, "E:")
    assert caught.value.kind == "bad_request"


def test_full_in_both_phases_is_refused():
    engine.check_vss_backup_types("full", "copy")
    with pytest.raises(BackupError):
        engine.check_vss_backup_types("full", "full")
    with pytest.raises(BackupError):
        engine.check_vss_backup_types("copy", "incremental")


def test_the_whole_line_makes_its_folder_first_and_says_done_last():
    line = command_arguments(RUN, wsb.backup_steps(host_request(), RUN))
    folder = f"{JOBS_FOLDER}\\{RUN}"
    assert line.startswith(f'/d /v:on /s /c "(md {folder} || exit 7) & wevtutil qe Microsoft-Windows-Backup ')
    assert line.endswith(f' & echo done>{folder}\\done.txt"')
    order = ["baseline.xml", "before.txt", "wbadmin start backup", "\\rc.txt", "events.xml", "after.txt", "done.txt"]
    assert [line.index(word) for word in order] == sorted(line.index(word) for word in order)
    assert f"echo !ERRORLEVEL!>{folder}\\rc.txt.tmp & move /y {folder}\\rc.txt.tmp {folder}\\rc.txt >nul" in line
    assert "%" not in line
    assert "password" not in line.casefold()
    assert line.count('"') == 2


def test_on_a_share_the_run_gets_a_folder_of_its_own():
    steps = wsb.backup_steps(host_request(target="\\\\nas\\my share\\", label="Büro 1"), RUN)
    place = f'"\\\\nas\\my share\\{folder_name("Büro 1")}\\{RUN}"'
    assert steps[0].command == f"md {place}"
    assert all(f"-backupTarget:{place}" in step.command for step in steps if "wbadmin" in step.command)


def test_too_many_volumes_for_one_command_line_are_refused_with_advice():
    volumes = tuple(f"\\\\?\\Volume{{0a0b0c0d-1111-2222-3333-{number:012d}}}\\" for number in range(100))
    request = guest_request(volumes=volumes, target="\\\\nas\\" + "x" * 180)
    run_id = "n" * 64 + ".guest.1"
    with pytest.raises(BackupError, match="fewer volumes") as caught:
        command_arguments(run_id, wsb.backup_steps(request, run_id))
    assert caught.value.kind == "command_too_long"


def test_forty_volumes_fit():
    volumes = tuple(f"\\\\?\\Volume{{0a0b0c0d-1111-2222-3333-{number:012d}}}\\" for number in range(40))
    line = command_arguments(RUN, wsb.backup_steps(guest_request(volumes=volumes, target="\\\\nas\\backups"), RUN))
    assert len(line) < MAX_COMMAND_CHARS


# --- task XML -------------------------------------------------------------------------------------------------------

TASK = {"t": "http://schemas.microsoft.com/windows/2004/02/mit/task"}


@given(st.text(alphabet=st.characters(blacklist_categories=["Cs", "Cc"], blacklist_characters="￾￿"), max_size=50))
def test_the_task_runs_as_system_without_any_time_limit_whatever_its_texts_hold(words):
    root = ElementTree.fromstring(task_xml(f'/c "{words}"', words))
    assert root.findtext(".//t:Arguments", namespaces=TASK) == f'/c "{words}"'
    assert root.findtext(".//t:Description", namespaces=TASK) == words
    facts = {
        "Command": "cmd.exe",
        "UserId": "S-1-5-18",
        "RunLevel": "HighestAvailable",
        "ExecutionTimeLimit": "PT0S",
        "StopIfGoingOnBatteries": "false",
        "DisallowStartIfOnBatteries": "false",
        "MultipleInstancesPolicy": "IgnoreNew",
        "StopOnIdleEnd": "false",
    }
    assert {name: root.findtext(f".//t:{name}", namespaces=TASK) for name in facts} == facts
    assert list(root.find("t:Triggers", TASK)) == []


# --- targets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind", "expected"),
    [
        ("e:", "volume", "E:"),
        ("E:\\", "volume", "E:"),
        (VOLUME.upper().replace("VOLUME", "Volume"), "volume", VOLUME),
        (VOLUME[:-1], "volume", VOLUME),
        ("\\\\nas\\backups\\", "share", "\\\\nas\\backups"),
        ("\\\\nas\\my backups\\hv", "share", "\\\\nas\\my backups\\hv"),
    ],
)
def test_targets_are_read_in_the_form_that_wbadmin_takes(text, kind, expected):
    target = parse_target(text)
    assert (target.kind, target.text) == (kind, expected)


NO_TARGETS = (
    r"""E|E:\folder|1:|nas\backups|\\nas|\\nas\|\\nas\a\..\b|\\?\C:\x|\\.\x\y|\\nas\50%|\\nas\a"b|\\nas\a!b|\\nas\a^b"""
)


@pytest.mark.parametrize("text", ["", "\\\\nas\\a\nb", "\\\\nas\\" + "a" * 300, *NO_TARGETS.split("|")])
def test_what_is_no_target_is_refused_with_a_sentence(text):
    with pytest.raises(TargetRefused) as caught:
        parse_target(text)
    assert caught.value.kind in ("target_invalid", "target_characters")


def test_a_share_that_lost_a_backslash_is_shown_as_it_came_and_told_why():
    with pytest.raises(BackupError) as refused:
        parse_target("\\filer01\\backup")
    assert "The target '\\filer01\\backup' is none" in str(refused.value)
    assert "begins with two backslashes" in str(refused.value)


@given(st.text(max_size=60))
def test_any_vm_name_becomes_a_folder_name_of_its_own(name):
    folder = folder_name(name)
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,60}", folder)
    assert folder == name or re.search(r"[0-9a-f]{8}\Z", folder)


VOLUMES = [
    {"path": VOLUME, "letter": "E", "file_system": "NTFS", "size_bytes": 100, "used_bytes": 40},
    {"path": VOLUME_2, "letter": None, "file_system": "FAT32", "size_bytes": 100, "used_bytes": 0},
]


@pytest.mark.parametrize(
    ("text", "facts", "kind"),
    [
        ("F:", {}, "target_missing"),
        ("E:", {"source_paths": [VOLUME.upper()]}, "target_is_source"),
        ("E:", {"left_out_paths": [VOLUME]}, "target_on_left_out_disk"),
        (VOLUME_2, {}, "target_file_system"),
        ("E:", {"needed_bytes": 61}, "target_full"),
        ("E:", {"needed_bytes": 60}, None),
        (VOLUME, {"source_paths": [VOLUME_2]}, None),
        ("\\\\nas\\b", {"needed_bytes": 10**15}, None),
    ],
)
def test_a_target_is_refused_by_what_is_known_before_the_run(text, facts, kind):
    if kind is None:
        check_target(parse_target(text), volumes=VOLUMES, **facts)
        return
    with pytest.raises(TargetRefused) as caught:
        check_target(parse_target(text), volumes=VOLUMES, **facts)
    assert caught.value.kind == kind


def test_a_local_volume_is_used_as_it_is_by_every_run():
    assert run_target(parse_target("E:"), "db01", RUN).text == "E:"


# --- abilities ------------------------------------------------------------------------------------------------------


def test_engines_are_found_by_name_and_an_unknown_one_lists_them():
    assert engines.engine("wsb").name == "wsb"
    with pytest.raises(BackupError, match="wsb"):
        engines.engine("veeam")
    with pytest.raises(BackupError, match="no option speed"):
        engines.engine("wsb").options({"speed": 3}, "host")
    with pytest.raises(BackupError, match="looks like a secret"):
        engines.engine("wsb").options({"login": [{"Password": "x"}]}, "guest")


@pytest.mark.parametrize(
    ("machine", "kind", "restores"),
    [
        ({"is_server": True, "windows_server_backup": "installed"}, "", True),
        ({"is_server": True}, "", True),
        ({"is_server": True, "windows_server_backup": "missing"}, "wbadmin_missing", False),
        (
            {"is_server": False, "windows_server_backup": "installed", "os_caption": "Windows 11"},
            "client_windows",
            False,
        ),
        ({"os_family": "linux", "is_server": True}, "not_windows", False),
    ],
)
def test_abilities_follow_from_the_machine(machine, kind, restores):
    found = wsb.capabilities(machine)
    assert (found.kind, found.restores_volumes, bool(found.reason)) == (kind, restores, bool(kind))


# --- a machine in memory --------------------------------------------------------------------------------------------


def event(record, number, **fields):
    data = "".join(f"<Data Name='{name}'>{escape(str(value))}</Data>" for name, value in fields.items())
    return (
        f"<Event><System><EventID>{number}</EventID><EventRecordID>{record}</EventRecordID></System>"
        f"<EventData>{data}</EventData></Event>"
    )


def good_files(caption="db01 (Online)"):
    success = {
        "BackupTemplateID": "{aaaaaaaa-1111-2222-3333-000000000001}",
        "HRESULT": "0",
        "DetailedHRESULT": "0",
        "BackupState": "14",
        "BackupTime": "2026-06-30T19:26:31.5Z",
        "BackupTarget": "E:",
    }
    start = event(11, 1, BackupTemplateID=success["BackupTemplateID"])
    return {
        "baseline.xml": event(10, 14),
        "baseline-rc.txt": "0",
        "before.txt": "Version identifier: 06/29/2026-19:26",
        "before-rc.txt": "0",
        "log.txt": f'The backup of "{caption}" completed (100%).\r\nLog: C:\\Windows\\Logs\\WindowsServerBackup\\B.log',
        "rc.txt": "0",
        "events.xml": event(13, 14, **success) + event(12, 4, **success) + start + event(10, 14),
        "events-rc.txt": "0",
        "after.txt": f"Version identifier: 06/29/2026-19:26\r\nVersion identifier: {VERSION}",
        "after-rc.txt": "0",
        "done.txt": "done",
    }


ITEMS = f"VM identifier: {{{VM_ID.lower()}}}"


def item_files(text=ITEMS, code="0"):
    return {"items.txt": text, "items-rc.txt": code, "done.txt": "done"}


class Machine:
    """Tasks, files and processes of a Windows machine, as far as the engine looks at them.

    A started task is active until time passes; then it leaves the next files planned for it.
    """

    def __init__(self):
        self.tasks = {}
        self.files = {}
        self.processes = []
        self.plans = {}
        self.starts = []
        self.seconds = 0.0
        self.lose = None
        self.lines = []
        self.has_service = self.has_wbadmin = True

    def plan(self, run_id, *outcomes):
        self.plans[run_id] = list(outcomes)

    def query(self, namespace, class_name, *, where=None, with_paths=False, deep=True, select=None):
        if class_name == "MSFT_ScheduledTask":
            rows = [
                {"TaskName": name, "TaskPath": "\\hyperv.passthrough\\", "State": 4 if task["active"] else 3}
                for name, task in self.tasks.items()
            ]
        elif class_name == "Win32_Process":
            rows = [{"ProcessId": 4, "Name": "wbadmin.exe", "CommandLine": line} for line in self.processes]
        elif class_name == "CIM_DataFile":
            wanted = where.split("'")[1].replace("\\\\", "\\").rsplit("\\", 2)
            if wanted[-1] == "wbadmin.exe":
                return [CimInstance(class_name, namespace, {"Name": "\\".join(wanted)})] if self.has_wbadmin else []
            data = self.files.get(wanted[1], {}).get(wanted[2])
            rows = [] if data is None else [{"Name": "\\".join(wanted), "FileSize": len(data)}]
        elif class_name == "Win32_Service":
            rows = [{"Name": "wbengine", "State": "Stopped", "StartMode": "Manual"}] if self.has_service else []
        elif class_name == "Win32_OperatingSystem":
            rows = [{"CSName": "HV01", "BuildNumber": "20348", "ProductType": 3, "LocalDateTime": NOW}]
        elif class_name == "Win32_Volume":
            rows = []
        else:
            raise AssertionError(class_name)
        return [CimInstance(class_name, namespace, row) for row in rows]

    def invoke(self, target, method, arguments=None):
        name = arguments["TaskName"]
        if method == "GetInfoByName":
            task = self.tasks[name]
            info = {"LastTaskResult": 0 if task["ran"] else 0x41303}
            if task["ran"]:
                info["LastRunTime"] = NOW + timedelta(seconds=self.seconds)
            return MethodResult(0, {"cmdletOutput": CimInstance("MSFT_TaskDynamicInfo", "x", info)})
        if method == "RegisterByXml":
            assert name not in self.tasks
            ElementTree.fromstring(arguments["Xml"])
            self.tasks[name] = {"active": False, "ran": False, "xml": arguments["Xml"]}
        elif method == "StartByPath":
            self.starts.append(name)
            if name in self.files and "rd /s /q" not in self.tasks[name]["xml"].split("||")[0]:
                self.tasks[name]["ran"] = True  # its folder is there: it ends at once
            else:
                self.files[name] = {}
                self.tasks[name].update(active=True, ran=True)
        else:
            raise AssertionError(method)
        if self.lose == method:
            self.lose = None
            raise OutcomeUnknown("the reply was lost")
        return MethodResult(0, {})

    def get(self, path):
        raise AssertionError(path)

    def delete(self, path):
        del self.tasks[path.keys["TaskName"]]

    def run(self, command, *, max_output_bytes=0):
        self.lines.append(command)
        if command.startswith("rd /s /q "):
            self.files.pop(command.rpartition("\\")[2], None)
            return ShellResult(0, b"", b"")
        output = b""
        for part in command.split(" & "):
            mark, path = re.fullmatch(r"echo (==[^=]+==)& type (\S+) 2>nul", part).groups()
            run_id, name = path.removeprefix(JOBS_FOLDER + "\\").split("\\")
            data = self.files.get(run_id, {}).get(name, "")
            output += mark.encode() + b"\r\n" + data.encode()
        return ShellResult(0, output, b"")

    def pass_time(self, seconds):
        self.seconds += seconds
        for name, task in self.tasks.items():
            if task["active"] and self.plans.get(name):
                outcome = self.plans[name].pop(0)
                if outcome is None:
                    continue
                self.files[name] = dict(outcome)
                task["active"] = False

    def waiting(self, **changes):
        self.shown = []
        options = {"poll_s": 10.0, "timeout_s": 600.0, **changes}
        return Waiting(sleep=self.pass_time, now=lambda: self.seconds, progress=self.shown.append, **options)

    def engine(self):
        return WindowsServerBackup(self, helper_waiting=self.waiting())


@pytest.fixture
def machine():
    machine = Machine()
    machine.plan(RUN, good_files())
    machine.plan(RUN + ".items", item_files())
    return machine


def test_a_run_ends_with_the_version_that_it_made_and_its_proof(machine):
    result = machine.engine().run(RUN, host_request(), machine.waiting())
    assert (result.state, result.version, result.listed, result.consistency) == ("succeeded", VERSION, True, "online")
    assert result.snapshot_time == datetime(2026, 6, 30, 19, 26, 31, 500000, timezone.utc)
    assert result.evidence["start_record_id"] == 11
    assert result.evidence["items"] == [f"VM {VM_ID} by GUID"]
    assert machine.starts == [RUN, RUN + ".items"]
    assert f"-version:{VERSION} -backupTarget:E:" in machine.tasks[RUN + ".items"]["xml"]


def test_a_run_becomes_a_record_of_its_set(machine):
    item = BackupSet(
        set_id="nightly", vm={"id": VM_ID}, opened=NOW, updated=NOW, max_skew_s=1.0, guest_phase_needed=False
    )
    todo = sets.what_is_left(item).phases[0]
    begun = sets.begun_attempt(todo, engine="wsb", machine="HV01", target="E:", started=NOW)
    item = sets.record_phase(item, "host", begun, NOW)
    assert sets.what_is_left(item).phases[0].action == "attach"
    result = machine.engine().run(todo.run_id, host_request(), machine.waiting())
    ended = sets.ended_attempt(begun, result, ended=NOW, clock_offset_s=2.5)
    closed = sets.close(sets.record_phase(item, "host", ended, NOW), NOW)
    assert (closed.state, closed.host[0].version) == ("good", VERSION)
    assert sets.from_json(closed.to_json()) == closed
    machine.plan("nightly.host.2", {**good_files(), "after.txt": ""})
    failed = machine.engine().run("nightly.host.2", host_request(), machine.waiting())
    assert sets.ended_attempt(begun, failed, ended=NOW, clock_offset_s=0.0).error["kind"] == "version_not_listed"


def test_running_again_attaches_and_starts_nothing(machine):
    first = machine.engine().run(RUN, host_request(), machine.waiting())
    starts = list(machine.starts)
    assert machine.engine().run(RUN, host_request(), machine.waiting()) == first
    assert machine.starts == starts
    assert machine.engine().start(RUN, host_request()).attached is True


def test_a_session_dropped_while_the_backup_runs_attaches_to_it(machine):
    machine.plan(RUN, None, None, good_files())
    with pytest.raises(BackupError) as caught:
        machine.engine().run(RUN, host_request(), machine.waiting(timeout_s=5.0))
    assert caught.value.kind == "wait_timeout"
    machine.processes = ["wbadmin start backup -backupTarget:E:"]  # our own: attaching is no new start
    assert machine.engine().run(RUN, host_request(), machine.waiting()).state == "succeeded"
    assert machine.starts.count(RUN) == 1


@pytest.mark.parametrize("method", ["RegisterByXml", "StartByPath"])
def test_a_lost_reply_is_looked_after_and_nothing_is_sent_twice(machine, method):
    machine.lose = method
    assert machine.engine().run(RUN, host_request(), machine.waiting()).state == "succeeded"
    assert machine.starts.count(RUN) == 1


def test_progress_is_shown_while_waiting(machine):
    machine.plan(RUN, None, None, good_files())
    engine, waiting = machine.engine(), machine.waiting()
    job = engine.start(RUN, host_request())
    assert engine.status(job, host_request()).message == "preparing"
    machine.files[RUN] = {"log.txt": "copied (7%).\r\ncopied (42%).\r\n"}
    assert engine.status(job, host_request()).percent == 42
    machine.files[RUN] = {"log.txt": "x" * (wsb_job.MAX_LOG_BYTES + 1)}
    assert engine.status(job, host_request()).percent is None
    machine.files[RUN] = {}
    engine.run(RUN, host_request(), waiting)
    assert waiting.timeout_s == 600.0
    assert machine.shown[0].startswith(f"backup {RUN} running")


def test_a_machine_that_restarted_in_the_middle_is_interrupted(machine):
    machine.plan(RUN, {"baseline.xml": "", "baseline-rc.txt": "0"})
    result = machine.engine().run(RUN, host_request(), machine.waiting())
    assert (result.state, result.kind, result.version) == ("failed", "interrupted", None)


def test_a_run_that_the_machine_does_not_know_is_said(machine):
    engine = machine.engine()
    job = dataclasses.replace(engine.start(RUN, host_request()), run_id="other.host.1")
    assert engine.status(job, host_request()).kind == "unknown_run"


def test_another_backup_is_waited_for_and_never_stopped(machine):
    machine.processes = ["C:\\Windows\\System32\\wbadmin.exe  Start  Backup -templateId:{x} -quiet -password:secret"]
    engine = machine.engine()
    with pytest.raises(BackupError) as caught:
        engine.start(RUN, host_request())
    assert caught.value.kind == "busy"
    assert "secret" not in str(caught.value)
    with pytest.raises(BackupError) as caught:
        engine.run(RUN, host_request(), machine.waiting(timeout_s=35.0))
    assert caught.value.kind == "busy_timeout"
    assert machine.starts == []
    assert any("queued" in line for line in machine.shown)


def test_a_backup_that_began_just_before_ours_is_queued_behind(machine):
    busy = {
        **good_files(),
        "rc.txt": "-1",
        "log.txt": "ERROR - Another backup or recovery operation is in progress.",
        "events.xml": event(11, 1, BackupTemplateID="{b}"),
    }
    machine.plan(RUN, busy, good_files())
    result = machine.engine().run(RUN, host_request(), machine.waiting())
    assert result.state == "succeeded"
    assert machine.starts.count(RUN) == 2


def test_listing_commands_of_others_do_not_make_the_machine_busy(machine):
    machine.processes = ["wbadmin get versions", "wbadmin get status"]
    assert machine.engine().is_busy() == []


FAILURES = {
    "the target is full": (
        {"rc.txt": "4294967292", "events.xml": "", "log.txt": "Not enough space."},
        "backup_not_started",
    ),
    "wbadmin is not there": ({"rc.txt": "9009", "events.xml": ""}, "wbadmin_missing"),
    "it does not know the switch": (
        {"rc.txt": "-3", "log.txt": "ERROR - Command syntax incorrect. Error: -HYPERV.", "events.xml": ""},
        "wbadmin_refused",
    ),
    "no event log": ({"events-rc.txt": "15001", "events.xml": "The channel was not found."}, "events_unreadable"),
    "no baseline": ({"baseline-rc.txt": ""}, "events_unreadable"),
    "no exit code": ({"rc.txt": ""}, "interrupted"),
    "two backups": (
        {"events.xml": event(11, 1, BackupTemplateID="{a}") + event(12, 1, BackupTemplateID="{b}")},
        "ambiguous_version",
    ),
    "not on the target": ({"after.txt": ""}, "version_not_listed"),
}


@pytest.mark.parametrize(("change", "kind"), FAILURES.values(), ids=FAILURES.keys())
def test_exit_code_and_listing_alone_prove_nothing(machine, change, kind):
    machine.plan(RUN, {**good_files(), **change})
    result = machine.engine().run(RUN, host_request(), machine.waiting())
    assert (result.state, result.kind, result.version) == ("failed", kind, None)
    assert result.message
    assert RUN + ".items" not in machine.starts


def test_a_refused_vm_with_left_out_disks_points_to_another_engine(machine):
    start = event(11, 1, BackupTemplateID="{a}")
    end = event(13, 5, BackupTemplateID="{a}", HRESULT="0x80780049")
    machine.plan(RUN, {**good_files(), "rc.txt": "-3", "events.xml": end + event(12, 9, HRESULT="1") + start})
    result = machine.engine().run(RUN, host_request(), machine.waiting())
    assert result.kind == "snapshot_failed"
    assert "export" in result.message and "nothing of what was asked for" in result.message
    plain = machine.engine().run(RUN, host_request(left_out_disks=0), machine.waiting())
    assert (plain.kind, "export" in plain.message) == ("snapshot_failed", False)


@pytest.mark.parametrize(
    ("items", "state", "evidence"),
    [
        (item_files("VM name: db01\r\n"), "succeeded", ["VM 'db01' by name"]),
        (item_files("VM name: db012\r\n"), "failed", []),
        (item_files("", "0"), "failed", []),
        (item_files(code="-1"), "failed", [f"VM {VM_ID} by GUID"]),
    ],
)
def test_the_vm_must_stand_in_the_version(machine, items, state, evidence):
    machine.plan(RUN + ".items", items)
    result = machine.engine().run(RUN, host_request(), machine.waiting())
    assert (result.state, result.evidence["items"]) == (state, evidence)
    assert (result.kind == "items_not_listed") == (state == "failed")


def test_each_volume_must_stand_in_the_version_by_guid_or_letter(machine):
    request = guest_request(volume_letters={VOLUME_2: "F"})
    data = b"Volume ID = {0A0B0C0D-1111-2222-3333-000000000001}\r\nVolume 'x', mounted at F:\r\n"
    assert wsb.items_found(data, request) == ([f"{VOLUME} by GUID", f"{VOLUME_2} by letter F:"], [])
    assert wsb.items_found(data, guest_request()) == ([f"{VOLUME} by GUID"], [VOLUME_2])


def test_a_vm_that_was_saved_meanwhile_is_told(machine):
    machine.plan(RUN, good_files("db01 (Offline)"))
    result = machine.engine().run(RUN, host_request(), machine.waiting())
    assert (result.state, result.consistency) == ("succeeded", "saved_state")
    assert "saved" in result.warnings[0]


@pytest.mark.parametrize("state", ["off", "saved"])
def test_a_vm_that_did_not_run_anyway_lost_nothing_by_its_backup(machine, state):
    machine.plan(RUN, good_files("db01 (Offline)"))
    result = machine.engine().run(RUN, host_request(vm_state=state), machine.waiting())
    assert (result.consistency, result.warnings) == ("off", ())


def test_a_log_that_has_grown_too_large_is_not_needed_for_the_proof(machine):
    machine.plan(RUN, {**good_files(), "log.txt": "copied (5%).\r\n" * 100_000})
    result = machine.engine().run(RUN, host_request(), machine.waiting())
    assert (result.state, result.consistency) == ("succeeded", "unknown")


def test_waiting_for_a_quiet_job_needs_no_shell(machine):
    machine.plan(RUN, *[None] * 20, good_files())
    engine = machine.engine()
    job = engine.start(RUN, host_request())
    machine.lines.clear()
    machine.files[RUN] = {"log.txt": "copied (42%)."}
    for _poll in range(10):
        assert engine.status(job, host_request()).percent == 42
    assert len(machine.lines) == 1


def test_an_interrupted_listing_is_made_again_by_the_next_call(machine):
    machine.plan(RUN + ".items", {"items.txt": "half"}, item_files())
    assert machine.engine().run(RUN, host_request(), machine.waiting()).kind == "items_not_listed"
    assert machine.engine().run(RUN, host_request(), machine.waiting()).state == "succeeded"
    assert machine.starts.count(RUN) == 1


def test_a_listing_that_never_ends_is_left_and_found_again(machine):
    machine.plan(RUN + ".items", *[None] * 200)
    with pytest.raises(BackupError) as caught:
        machine.engine().run(RUN, host_request(), machine.waiting())
    assert caught.value.kind == "helper_timeout"
    machine.plan(RUN + ".items", item_files())
    assert machine.engine().run(RUN, host_request(), machine.waiting()).state == "succeeded"
    assert machine.starts == [RUN, RUN + ".items"]


def test_versions_on_a_target_are_listed_as_system(machine):
    machine.plan("nightly.check.1.list", {"after.txt": f"x {VERSION}", "after-rc.txt": "0", "done.txt": "done"})
    assert machine.engine().versions("nightly.check.1", "E:") == (VERSION,)


def test_a_backup_of_somebody_else_is_not_stopped_for_ours(machine):
    machine.plan(RUN, None, None, None)
    engine = machine.engine()
    job = engine.start(RUN, host_request(target="\\\\nas\\b"))
    machine.processes = ["wbadmin start backup -backupTarget:F: -allCritical -quiet"]
    with pytest.raises(BackupError) as caught:
        engine.stop(job)
    assert caught.value.kind == "not_ours"
    machine.processes = [f"wbadmin start backup -backupTarget:{job.target} -hyperv:x -quiet"]
    machine.plan(RUN + ".stop", {"rc.txt": "0", "done.txt": "done"})
    engine.stop(job)
    assert RUN + ".stop" in machine.starts


def of_set(day: str, phase: str = "host", number: str = "1") -> str:
    return f"285cea9b-{day}t190000z-0123abcd.{phase}.{number}"


def test_a_new_backup_takes_the_tasks_and_folders_of_old_ones_with_it(machine):
    old = [
        of_set("20260401"),
        of_set("20260401") + ".items",
        of_set("20260402", "guest"),
        of_set("20260402", "copy", "4"),
    ]
    kept = [
        of_set("20260629"),  # young
        "nightly.host.1",  # of a set that the operator named: its age is not known
        "285cea9b-20260401t190000z-0123abcd.restore.r1.host.1",  # a restore that ended is known by it
        of_set("20269999"),
    ]
    for name in (*old, *kept):
        machine.tasks[name] = {"active": False, "ran": True, "xml": ""}
    running = of_set("20260403")
    machine.tasks[running] = {"active": True, "ran": True, "xml": ""}
    new = of_set("20260630")
    machine.engine().start(new, host_request())
    assert sorted(machine.tasks) == sorted([*kept, running, new])
    line = machine.tasks[new]["xml"]
    assert all(f"rd /s /q {JOBS_FOLDER}\\{name}" in line for name in old)
    assert not any(f"{JOBS_FOLDER}\\{name} " in line for name in kept)


def test_hundreds_of_old_runs_go_a_few_at_a_time_and_only_when_a_run_is_started(machine):
    old = [of_set("20260401", number=str(number)) for number in range(1, 101)]
    for name in old:
        machine.tasks[name] = {"active": False, "ran": True, "xml": ""}
    new = of_set("20260630")
    machine.engine().start(new, host_request())
    left = sum(name in machine.tasks for name in old)
    assert left == 92
    machine.engine().start(new, host_request())
    assert sum(name in machine.tasks for name in old) == left


@pytest.mark.parametrize(("service", "expected"), [(True, "installed"), (False, "missing")])
def test_the_feature_is_told_by_its_engines_service(machine, service, expected):
    machine.has_service = service
    assert wsb.windows_server_backup(machine) == expected


def test_a_lost_lease_ends_the_wait_and_leaves_the_job_running(machine):
    machine.plan(RUN, None, None, None)

    def lost():
        if machine.seconds > 15:
            raise BackupError("superseded", "the lease is lost")

    waiting = dataclasses.replace(machine.waiting(), should_stop=lost)
    with pytest.raises(BackupError, match="lease"):
        machine.engine().run(RUN, host_request(), waiting)
    assert machine.tasks[RUN]["active"] is True


def test_the_copy_of_a_set_is_written_by_a_job_and_a_failure_is_said(machine):
    item = BackupSet(set_id="Nightly", vm={"id": VM_ID}, opened=NOW, updated=NOW, max_skew_s=1.0, revision=3)
    machine.plan("nightly.copy.3", {"copy-rc.txt": "0", "done.txt": "done"})
    assert copy_set(DetachedJobs(machine), item, "E:", machine.waiting()) == "E:\\hyperv.passthrough\\Nightly.reg"
    machine.plan("nightly.copy.4", {"copy-rc.txt": "1", "copy.txt": "ERROR: denied", "done.txt": "done"})
    item = dataclasses.replace(item, revision=4)
    with pytest.raises(BackupError, match="denied") as caught:
        copy_set(DetachedJobs(machine), item, "E:", machine.waiting())
    assert caught.value.kind == "copy_failed"
    machine.plan("nightly.copy.4", {"copy-rc.txt": "0", "done.txt": "done"})
    assert copy_set(DetachedJobs(machine), item, "E:", machine.waiting()), "a later call tries again"


def test_files_of_a_run_are_told_apart_even_when_one_has_no_end_of_line(machine):
    machine.files[RUN] = {"a.txt": "no newline", "b.txt": "", "c.txt": "1\r\n2"}
    found = DetachedJobs(machine).read(RUN, ["a.txt", "b.txt", "c.txt", "d.txt"])
    assert found == {"a.txt": b"no newline", "c.txt": b"1\r\n2"}


@pytest.mark.parametrize("name", ["", "A", "a b", "..\\x", "a/b", "a&b", "a.", "x" * 130])
def test_run_ids_that_could_leave_their_folder_are_refused(machine, name):
    with pytest.raises(BackupError):
        DetachedJobs(machine).look(name)


def test_steps_without_output_throw_it_away():
    line = command_arguments("a.b.1", [Step(command="md x")])
    assert " & md x >nul 2>&1 & " in line
