# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Windows Server Backup of the simulator: command lines, literal texts, events, and the bytes that are and are not kept."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from simulator.content import digest
from simulator.event_log import EventRecord
from simulator.mishaps import mishap
from simulator.processes import SYSTEM
from simulator.service import CimService
from simulator.virtual_machine import OFF, PAUSED, RUNNING, SAVED, FibreChannelPort, Vm
from simulator.vss_writer import component_of, components
from simulator.windows_backup import Failure
from simulator.world import Machine, World
from unit.simulator.windows_machines import (
    ADMINISTRATOR,
    NOBODY,
    Outcome,
    all_bytes_below,
    make_world,
    read_file,
    rows,
    run,
    write_file,
)

LOG = "Microsoft-Windows-Backup"
HEAD = "wbadmin 1.0 - Backup command-line tool\n(C) Copyright 2013 Microsoft Corporation. All rights reserved.\n\n"
VERSION = re.compile(r"\b\d{2}/\d{2}/\d{4}-\d{2}:\d{2}\b")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = make_world(tmp_path)
    yield world
    world.close()


@pytest.fixture
def host(world: World) -> Machine:
    return world.machine("hv01")


@pytest.fixture
def guest(world: World) -> Machine:
    return world.machine("sql01")


def vm_named(host: Machine, name: str) -> Vm:
    return next(vm for vm in host.vms if vm.name == name)


def backup(machine: Machine, options: str, **arguments: object) -> Outcome:
    return run(machine, f"wbadmin start backup {options} -quiet", **arguments)  # type: ignore[arg-type]


def events(machine: Machine) -> list[EventRecord]:
    found: list[EventRecord] = machine.event_log.query(LOG)
    return found


def versions(machine: Machine, target: str = "") -> list[str]:
    option = f" -backupTarget:{target}" if target else ""
    return VERSION.findall(run(machine, f"wbadmin get versions{option}").out)


# -- what it prints ---------------------------------------------------------------------------------------


def test_the_output_of_a_volume_backup(guest: Machine) -> None:
    outcome = backup(guest, "-backupTarget:B: -include:S:")
    assert outcome.code == 0
    log = "C:\\Windows\\Logs\\WindowsServerBackup\\Backup-01-10-2026_20-00-00.log"
    assert outcome.out == HEAD + (
        "Retrieving volume information...\n"
        "This will back up Data(S:) to B:.\n"
        "The backup operation to B: is starting.\n"
        "Creating a shadow copy of the volumes specified for backup...\n"
        "Creating a shadow copy of the volumes specified for backup...\n"
        "Creating a backup of volume (S:), copied (49%).\n"
        "Creating a backup of volume (S:), copied (50%).\n"
        "Creating a backup of volume (S:), copied (99%).\n"
        "Creating a backup of volume (S:), copied (100%).\n"
        "Summary of the backup operation:\n------------------\n\n"
        "The backup operation successfully completed.\n"
        "The backup of volume (S:) completed successfully.\n"
        f"Log of files successfully backed up:\n{log}\n\n"
    )
    assert read_file(guest, log).decode("utf-16") == "Data(S:)\r\n"


def test_the_version_is_utc_and_the_backup_time_local(host: Machine) -> None:
    backup(host, "-backupTarget:E: -hyperv:web01")
    assert run(host, "wbadmin get versions").out == HEAD + (
        "Backup time: 10/1/2026 1:00 PM\n"
        "Backup target: Fixed Disk labeled E:\n"
        "Version identifier: 10/01/2026-20:00\n"
        "Can recover: Application(s)\n"
        f"Snapshot ID: {host.backup.catalog[0].snapshot_id}\n\n"
    )


def test_german_labels(world: World) -> None:
    host = world.machine("hv02")
    assert backup(host, "-backupTarget:D: -include:C:").code == 0
    out = run(host, "wbadmin get versions").out
    assert "Sicherungszeit: 01.10.2026 22:00\nSicherungsziel: " in out
    assert "Versions-ID: 10/01/2026-20:00\nWiederherstellbar: " in out


def test_german_output_is_in_the_oem_code_page(world: World) -> None:
    host = world.machine("hv02")
    process = host.processes.start_shell_command(
        "wbadmin start backup -backupTarget:D: -include:C: -quiet", token=SYSTEM, shell_id="s", directory="C:\\"
    )
    host.processes.run_to_end(process)
    assert "Für die zur Sicherung".encode("cp850") in process.stdout.take()


def test_machines_and_items_are_listed(host: Machine) -> None:
    out = run(host, "wbadmin get virtualmachines").out
    assert "VM name: web01\nVM caption: web01 (Online)\nVM identifier: 11111111-2222-3333-4444-555555555555\n\n" in out
    assert "VM name: Host Component\n" in out
    backup(host, "-backupTarget:E: -hyperv:{11111111-2222-3333-4444-555555555555}")
    items = run(host, "wbadmin get items -version:10/01/2026-20:00").out
    assert "VM name: web01\n" in items
    assert "sql01" not in items


def test_a_prompt_takes_y_or_n_and_the_end_of_input_is_no(host: Machine) -> None:
    line = "wbadmin start backup -backupTarget:E: -hyperv:web01"
    assert "[Y] Yes [N] No" in run(host, line, stdin=b"N\r\n").out
    assert run(host, line).code != 0
    assert versions(host) == []
    assert run(host, f"echo Y| {line}").code == 0
    assert versions(host) == ["10/01/2026-20:00"]


@pytest.mark.parametrize(
    ("line", "token"),
    [
        ("wbadmin", ""),
        ("wbadmin /?", "/?"),
        ("wbadmin start nothing", "start nothing"),
        ("wbadmin start backup -backupTarget: E:", "-backupTarget:"),
        ("wbadmin start backup -bogus:1", "-bogus:1"),
        ("wbadmin start backup backupTarget:E:", "backupTarget:E:"),
        ("wbadmin start backup -backupTarget:E: -quiet:yes", "-quiet:yes"),
        ("wbadmin get items", "-version"),
        ("wbadmin start recovery -version:1 -items:x", "-itemtype"),
        ("wbadmin start recovery -version:1 -itemType:Disk -items:x", "-itemType:Disk"),
        ("wbadmin delete backup -keepVersions:1 -deleteOldest", "-deleteoldest"),
    ],
)
def test_a_syntax_error_names_the_token(host: Machine, line: str, token: str) -> None:
    outcome = run(host, line)
    assert outcome.code != 0
    assert f"ERROR - Command syntax incorrect. Error: {token}" in outcome.out


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ("-backupTarget:Q: -include:C:", "Q: is not valid"),
        ("-backupTarget:E: -include:Q:", "Q: was not found"),
        ("-backupTarget:E: -include:E:", "one of the volumes"),
        ("-backupTarget:D: -hyperv:web01", "one of the volumes"),
        ("-backupTarget:C: -include:C:\\Windows", "one of the volumes"),
        ("-backupTarget:E:", "Nothing was specified"),
        ("-include:C:", "not specified"),
        ("-backupTarget:E: -hyperv:nobody", "nobody was not found"),
        ('-backupTarget:E: -hyperv:"web01, sql99"', "sql99 was not found"),
        ("-backupTarget:\\\\filer\\readonly -hyperv:web01", "Access is denied"),
        ("-backupTarget:\\\\filer\\nowhere -hyperv:web01", "cannot be accessed"),
        ("-backupTarget:\\\\filer\\backups\\missing -hyperv:web01", "cannot be accessed"),
    ],
)
def test_what_is_refused_before_a_job_starts(host: Machine, options: str, text: str) -> None:
    outcome = backup(host, options)
    assert outcome.code != 0
    assert text in outcome.out
    assert host.backup.job is None


@pytest.mark.parametrize("volume", ["X:"])
def test_a_volume_that_is_not_ntfs_or_refs_is_refused(guest: Machine, volume: str) -> None:
    assert "not formatted with NTFS/ReFS" in backup(guest, f"-backupTarget:B: -include:S:,{volume}").out


def test_an_offline_volume_is_not_found_and_a_share_without_ntfs_is_refused(
    world: World, host: Machine, guest: Machine
) -> None:
    disk = guest.volume_by_letter("S").disk  # type: ignore[union-attr]
    disk.online = False
    assert "S: was not found" in backup(guest, "-backupTarget:B: -include:S:").out
    share = next(share for share in world.shares if share.name == "backups")
    share.volume.files.kind = "FAT32"
    assert (
        "A backup cannot be done to a remote shared folder which is not hosted on a volume formatted with NTFS/ReFS."
        in backup(host, "-backupTarget:\\\\filer\\backups -hyperv:web01").out
    )


def test_rights_feature_and_client_windows(world: World, host: Machine) -> None:
    assert "rights" in backup(host, "-backupTarget:E: -hyperv:web01", token=NOBODY).out
    host.features["Windows-Server-Backup"] = False
    assert "not installed" in backup(host, "-backupTarget:E: -hyperv:web01").out
    client = world.machine("web01")
    assert client.os.product_type == 1
    for line in ("start recovery -version:1 -itemType:File -items:x", "get disks", "get virtualmachines"):
        assert "syntax incorrect" in run(client, f"wbadmin {line}").out
    for options in ("-hyperv:x", "-systemState"):
        assert "syntax incorrect" in backup(client, f"-backupTarget:\\\\filer\\backups {options}").out
    write_file(client, "C:\\Data\\x.txt", b"x")
    assert "edition of Windows" in backup(client, "-backupTarget:C: -include:C:\\Data").out


# -- one job at a time ---------------------------------------------------------------------------------------


def test_one_job_at_a_time_and_the_job_outlives_its_program(host: Machine) -> None:
    first = host.processes.start_shell_command(
        "wbadmin start backup -backupTarget:E: -hyperv:web01 -quiet",
        token=ADMINISTRATOR,
        shell_id="a",
        directory="C:\\",
    )
    assert host.backup.job.running
    names = {row["Name"] for row in rows(host, "root/cimv2", "Win32_Process")}
    assert {"wbadmin.exe", "wbengine.exe"} <= names
    host.world.looks_per_job = 50
    busy = host.processes.start_shell_command(
        "wbadmin start backup -backupTarget:E: -hyperv:sql01 -quiet",
        token=ADMINISTRATOR,
        shell_id="b",
        directory="C:\\",
    )
    assert not busy.alive
    assert busy.exit_code not in {0, None}
    assert b"Another backup or recovery operation is in progress." in busy.stdout.take()
    host.processes.kill_job("a")
    assert not first.alive
    assert host.backup.job.running
    for _look in range(3):
        host.processes.look()
    assert versions(host) == ["10/01/2026-20:00"]


def test_a_stuck_engine_is_busy_until_its_service_stops(host: Machine) -> None:
    host.backup.get_stuck()
    assert "Another backup or recovery operation" in backup(host, "-backupTarget:E: -hyperv:web01").out
    host.service_states["wbengine"] = "Stopped"  # what Win32_Service.StopService leaves
    assert backup(host, "-backupTarget:E: -hyperv:web01").code == 0


def test_stop_job_cancels_and_leaves_no_version(host: Machine) -> None:
    host.world.looks_per_job = 50
    shell = host.processes.start_shell_command(
        "wbadmin start backup -backupTarget:E: -hyperv:web01 -quiet",
        token=ADMINISTRATOR,
        shell_id="a",
        directory="C:\\",
    )
    host.processes.look()
    host.processes.look()
    assert run(host, "wbadmin stop job -quiet").code == 0
    assert host.processes.run_to_end(shell) != 0
    assert [event.event_id for event in events(host)] == [1, 8, 14]
    assert versions(host, "E:") == []
    assert "WindowsImageBackup\\HV01\\Backup" not in run(host, "dir /s /b E:\\").out


def test_status_waits_for_the_end_of_the_job(host: Machine) -> None:
    assert run(host, "wbadmin get status").code != 0
    host.processes.start_shell_command(
        "wbadmin start backup -backupTarget:E: -hyperv:web01 -quiet",
        token=ADMINISTRATOR,
        shell_id="a",
        directory="C:\\",
    )
    outcome = run(host, "wbadmin get status")
    assert outcome.code == 0
    assert "The backup operation successfully completed." in outcome.out


def test_a_reboot_loses_the_job(host: Machine) -> None:
    host.world.looks_per_job = 50
    host.processes.start_shell_command(
        "wbadmin start backup -backupTarget:E: -hyperv:web01 -quiet",
        token=ADMINISTRATOR,
        shell_id="a",
        directory="C:\\",
    )
    host.processes.look()
    host.reboot()
    assert not host.backup.busy
    assert versions(host) == []
    assert [event.event_id for event in events(host)] == [1]


# -- events -----------------------------------------------------------------------------------------------------


def test_events_of_a_good_run_carry_one_template_id(host: Machine) -> None:
    backup(host, "-backupTarget:E: -hyperv:web01")
    found = events(host)
    assert [event.event_id for event in found] == [1, 4, 14]
    assert len({event.field("BackupTemplateID") for event in found}) == 1
    last = found[1]
    expected = {"HRESULT": "0", "DetailedHRESULT": "0", "BackupState": "14", "BackupTarget": "E:"}
    assert {name: last.field(name) for name in expected} == expected
    assert str(last.field("BackupTime")).startswith("2026-10-01T20:00:00")


@pytest.mark.parametrize(("form", "text"), [("decimal", "2155348165"), ("hexadecimal", "0x807800C5")])
def test_a_failing_run_writes_its_codes(host: Machine, form: str, text: str) -> None:
    host.world.switches.choose("wsb-hresult-format", form)
    host.backup.fail_next = Failure(percent=50)
    outcome = backup(host, "-backupTarget:E: -hyperv:web01")
    assert outcome.signed == -3
    assert [event.event_id for event in events(host)] == [1, 5, 14]
    assert events(host)[1].field("HRESULT") == text
    assert versions(host, "E:") == []


def test_a_run_with_warnings_leaves_a_version_and_event_7(host: Machine) -> None:
    host.backup.fail_next = Failure(percent=100, warning=True)
    assert backup(host, "-backupTarget:E: -hyperv:web01").code == 0
    assert [event.event_id for event in events(host)] == [1, 7, 14]
    assert versions(host) == ["10/01/2026-20:00"]


# -- bytes ---------------------------------------------------------------------------------------------------------


def test_a_volume_comes_back_file_by_file_and_the_rest_is_noise(guest: Machine) -> None:
    volume = guest.volume_by_letter("S")
    assert volume is not None
    before, raw, serial = volume.files.tree_digest(), digest(volume.content), volume.serial
    assert backup(guest, "-backupTarget:B: -include:S:").code == 0
    for name in volume.files.listdir(""):
        volume.files.delete(name, recursive=True)
    volume.files.write("newer.txt", b"written after the backup")
    version = versions(guest, "B:")[0]
    outcome = run(guest, f"wbadmin start recovery -version:{version} -itemType:Volume -items:S: -quiet")
    assert outcome.code == 0
    assert "The recovery operation completed." in outcome.out
    restored = guest.volume_by_letter("S")
    assert restored is not None
    assert (restored.files.tree_digest(), restored.serial) == (before, serial)
    assert digest(restored.content) != raw
    assert [event.event_id for event in events(guest)][-3:] == [192, 194, 193]


def test_a_failed_volume_recovery_leaves_the_target_formatted(guest: Machine) -> None:
    backup(guest, "-backupTarget:B: -include:S:")
    guest.backup.fail_next = Failure(percent=50)
    assert run(guest, "wbadmin start recovery -version:10/01/2026-20:00 -itemType:Volume -items:S: -quiet").code != 0
    volume = guest.volume_by_letter("S")
    assert volume is not None
    assert volume.file_system == "RAW"


def test_boot_volumes_are_no_target_of_a_recovery(guest: Machine) -> None:
    assert backup(guest, "-backupTarget:B: -include:C:").code == 0
    outcome = run(guest, "wbadmin start recovery -version:10/01/2026-20:00 -itemType:Volume -items:C: -quiet")
    assert "critical volume" in outcome.out


def test_a_vm_comes_back_with_its_bytes_and_its_identity(host: Machine) -> None:
    vm = vm_named(host, "web01")
    path = vm.vhd_paths()[0]
    volume, below = host.resolve(path)
    before = digest(volume.files.open(below))
    identity = vm.id
    assert backup(host, "-backupTarget:E: -hyperv:web01").code == 0
    volume.files.open(below).write_at(1 << 20, b"changed later")
    outcome = run(host, f"wbadmin start recovery -version:10/01/2026-20:00 -itemType:HyperV -items:{identity} -quiet")
    assert outcome.code == 0
    restored = vm_named(host, "web01")
    assert restored is not vm
    assert (restored.id, restored.state) == (identity, OFF)
    assert digest(volume.files.open(below)) == before
    assert [event.event_id for event in events(host)][-2:] == [1026, 1025]
    assert host.world.check() == []


def test_an_alternate_location_still_deletes_the_original(host: Machine) -> None:
    backup(host, "-backupTarget:E: -hyperv:web01")
    line = "wbadmin start recovery -version:10/01/2026-20:00 -itemType:HyperV -items:web01 -quiet"
    assert "must be used together" in run(host, f"{line} -alternateLocation").out
    run(host, "md D:\\restored")
    assert run(host, f"{line} -alternateLocation -recoveryTarget:D:\\restored").code == 0
    assert [vm.name for vm in host.vms if vm.name == "web01"] == ["web01"]
    assert vm_named(host, "web01").vhd_paths() == ["D:\\restored\\os.vhdx"]
    run(host, "md D:\\deep")
    assert run(host, f"{line} -alternateLocation -recoveryTarget:D:\\deep -recreatePath").code == 0
    assert vm_named(host, "web01").vhd_paths() == ["D:\\deep\\D\\VMs\\web01\\os.vhdx"]


def test_a_failed_vm_recovery_has_already_deleted_the_vm(host: Machine) -> None:
    backup(host, "-backupTarget:E: -hyperv:web01")
    host.backup.fail_next = Failure(percent=50)
    assert run(host, "wbadmin start recovery -version:10/01/2026-20:00 -itemType:HyperV -items:web01 -quiet").code != 0
    assert [vm.name for vm in host.vms] == ["sql01", "app01"]


def test_files_come_back_beside_or_over_what_is_there(host: Machine) -> None:
    write_file(host, "C:\\data\\a.txt", b"old a")
    write_file(host, "C:\\data\\sub\\b.txt", b"old b")
    assert backup(host, "-backupTarget:E: -include:C:\\data -exclude:C:\\data\\sub\\none").code == 0
    write_file(host, "C:\\data\\a.txt", b"new a")
    line = "wbadmin start recovery -version:10/01/2026-20:00 -itemType:File -items:C:\\data -quiet"
    assert run(host, line + " -overwrite:Skip").code == 0
    assert read_file(host, "C:\\data\\a.txt") == b"new a"
    assert run(host, line + " -overwrite:Overwrite").code == 0
    assert read_file(host, "C:\\data\\a.txt") == b"old a"
    run(host, "md C:\\out")
    outcome = run(host, line + " -recursive -recoveryTarget:C:\\out")
    assert read_file(host, "C:\\out\\data\\sub\\b.txt") == b"old b"
    assert "Total files recovered - 2" in outcome.out


# -- targets --------------------------------------------------------------------------------------------------------


def test_a_share_keeps_one_backup_and_a_failed_run_leaves_none(world: World, host: Machine) -> None:
    target = "\\\\filer\\backups"
    assert "Note: The backed up data" in backup(host, f"-backupTarget:{target} -hyperv:web01").out
    assert versions(host, target) == ["10/01/2026-20:00"]
    assert "Backup location: Network Share labeled \\\\filer\\backups\n" in run(host, "wbadmin get versions").out
    world.clock.advance(3600)
    backup(host, f"-backupTarget:{target} -hyperv:sql01")
    assert len(versions(host, target)) == 1
    host.backup.fail_next = Failure()
    backup(host, f"-backupTarget:{target} -hyperv:web01")
    assert versions(host, target) == []


def test_a_share_keeps_the_backups_of_other_computers(host: Machine, guest: Machine) -> None:
    run(host, "md \\\\filer\\backups\\run1")
    backup(host, "-backupTarget:\\\\filer\\backups\\run1 -hyperv:web01")
    backup(guest, "-backupTarget:\\\\filer\\backups\\run1 -include:S:")
    listing = run(host, "dir /b \\\\filer\\backups\\run1\\WindowsImageBackup").out
    assert listing == "HV01\nSQL01\n"
    other = run(host.world.machine("hv02"), "wbadmin get versions -backupTarget:E:")
    assert other.code != 0
    both = run(host, "wbadmin get versions -backupTarget:\\\\filer\\backups\\run1 -machine:SQL01").out
    assert "Can recover: Volume(s)" in both


def test_credentials_open_a_share_for_a_backup_but_not_for_a_listing(host: Machine) -> None:
    target = "\\\\filer\\backups"
    assert "Access is denied" in backup(host, f"-backupTarget:{target} -hyperv:web01", token=ADMINISTRATOR).out
    line = f"wbadmin start backup -backupTarget:{target} -hyperv:web01 -user:operator -password:s3cret -quiet"
    process = host.processes.start_shell_command(line, token=ADMINISTRATOR, shell_id="s", directory="C:\\")
    lines = [str(row["CommandLine"]) for row in rows(host, "root/cimv2", "Win32_Process")]
    assert any("s3cret" in text for text in lines)
    assert host.processes.run_to_end(process) == 0
    listing = run(host, f"wbadmin get versions -backupTarget:{target}", token=ADMINISTRATOR)
    assert "Access is denied" in listing.out


def test_a_full_local_target_drops_its_oldest_versions(world: World, host: Machine) -> None:
    volume = host.volume_by_letter("F")
    assert volume is not None
    for _number in range(3):
        assert backup(host, "-backupTarget:F: -hyperv:web01").code == 0
        world.clock.advance(3600)
    kept = versions(host, "F:")
    assert len(kept) == 3
    volume.reserve("something else", volume.free - 1000)
    assert backup(host, "-backupTarget:F: -hyperv:web01").code == 0
    after = versions(host, "F:")
    assert kept[0] not in after
    assert after[:-1] == kept[-len(after) + 1 :]
    assert set(versions(host)) == set(after)


def test_a_target_that_stays_too_small_ends_with_minus_four(host: Machine) -> None:
    volume = host.volume_by_letter("F")
    assert volume is not None
    volume.reserve("something else", volume.free - 1000)
    assert backup(host, "-backupTarget:F: -hyperv:web01").signed == -4
    assert events(host)[-2].event_id == 5
    assert versions(host, "F:") == []


def test_a_target_volume_without_letter_is_named_by_its_guid(host: Machine) -> None:
    volume = host.volume_by_letter("F")
    assert volume is not None
    host.mounts[volume.guid].letter = None
    assert backup(host, f"-backupTarget:{volume.path} -hyperv:web01").code == 0
    assert versions(host, volume.path) == ["10/01/2026-20:00"]


def test_versions_are_deleted_by_count_age_and_name(world: World, host: Machine) -> None:
    for _number in range(4):
        backup(host, "-backupTarget:E: -hyperv:web01")
        world.clock.advance(3600)
    first, second, third, fourth = versions(host)
    assert run(host, "wbadmin delete backup -deleteOldest -quiet").code == 0
    assert versions(host) == [second, third, fourth]
    assert run(host, f"wbadmin delete backup -version:{third} -backupTarget:E: -quiet").code == 0
    assert versions(host, "E:") == [second, fourth]
    assert run(host, "wbadmin delete backup -keepVersions:0 -quiet").code == 0
    assert versions(host) == []
    assert first != second


def test_a_schedule_fires_at_its_local_time(world: World, host: Machine) -> None:
    line = "wbadmin enable backup -addtarget:E: -schedule:14:30 -hyperv:web01 -vssFull -quiet"
    assert run(host, line).code == 0
    assert "web01 to E: at 14:30" in run(host, "wbadmin enable backup").out
    for minutes, found in ((31, []), (60, ["10/01/2026-21:31"])):  # 13:00 local is 20:00 UTC
        world.clock.advance(minutes * 60)
        for _look in range(3):
            host.processes.look()
        assert versions(host) == found
    assert events(host)[1].field("VssFullBackup") == "true"
    assert run(host, "wbadmin disable backup -quiet").code == 0
    world.clock.advance(86400)
    host.processes.look()
    assert len(versions(host)) == 1


# -- what the writer leaves out ------------------------------------------------------------------------------------------


def test_a_host_backup_keeps_nothing_of_a_passthrough_disk_and_says_nothing(
    world: World, host: Machine, guest: Machine
) -> None:
    volume = guest.volume_by_letter("S")
    assert volume is not None
    secret = b"only on the pass-through disk: 7f3a9c" * 64  # more than fits into an MFT record
    volume.files.write("secret.bin", secret)
    plain = b"on the virtual hard disk: 55aa1177" * 64
    write_file(guest, "C:\\plain.bin", plain)
    outcome = backup(host, "-backupTarget:\\\\filer\\backups -hyperv:sql01")
    assert outcome.code == 0
    assert "pass" not in outcome.out.lower().replace("passw", "")
    stored = all_bytes_below(world.directory / "shares" / "filer" / "backups")
    assert plain in stored
    assert secret not in stored
    assert component_of(vm_named(host, "sql01")).left_out == ("pass-through disk at scsi 0:1",)
    assert "passthrough" not in "".join(event.xml() for event in events(host)).lower().replace("-", "")


@pytest.mark.parametrize(
    ("choice", "code", "caption"), [("online", 0, "(Online)"), ("saved", 0, "(Offline)"), ("refused", -3, "(Online)")]
)
def test_what_a_passthrough_disk_does_to_the_backup_is_a_switch(
    host: Machine, choice: str, code: int, caption: str
) -> None:
    host.world.switches.choose("wsb-passthrough", choice)
    vm = vm_named(host, "app01")
    outcome = backup(host, "-backupTarget:E: -hyperv:app01")
    assert outcome.signed == code
    assert f'"app01 {caption}"' in outcome.out
    assert vm.state == RUNNING
    assert len(versions(host)) == (code == 0)


def test_a_guest_volume_that_cannot_be_frozen_saves_the_vm_and_it_runs_on(world: World, host: Machine) -> None:
    vm = vm_named(host, "sql01")
    assert component_of(vm).method == "saved"
    world.looks_per_job = 10
    host.processes.start_shell_command(
        "wbadmin start backup -backupTarget:E: -hyperv:sql01 -quiet",
        token=ADMINISTRATOR,
        shell_id="a",
        directory="C:\\",
    )
    host.processes.look()
    assert vm.state == SAVED
    booted = vm.guest.booted_at if vm.guest else None
    host.processes.look()
    assert vm.state == RUNNING
    assert vm.guest is not None
    assert vm.guest.booted_at == booted
    assert vm.guest.processes is not None
    found = host.event_log.query("Microsoft-Windows-Hyper-V-Worker-Admin")
    assert [event.field("VmName") for event in found] == ["sql01"]


def test_a_vm_that_was_saved_is_restored_in_saved_state(host: Machine) -> None:
    assert backup(host, "-backupTarget:E: -hyperv:sql01").code == 0
    assert run(host, "wbadmin start recovery -version:10/01/2026-20:00 -itemType:HyperV -items:sql01 -quiet").code == 0
    assert vm_named(host, "sql01").state == SAVED


@pytest.mark.parametrize("choice", ["keeps-number", "wrong-disk", "dropped"])
def test_a_restored_passthrough_slot(host: Machine, choice: str) -> None:
    host.world.switches.choose("wsb-passthrough-restore", choice)
    vm = vm_named(host, "sql01")
    number = vm.number_in(vm.physical_drives()[0][1].host_resource)
    backup(host, "-backupTarget:E: -hyperv:sql01")
    assert run(host, "wbadmin start recovery -version:10/01/2026-20:00 -itemType:HyperV -items:sql01 -quiet").code == 0
    drives = vm_named(host, "sql01").physical_drives()
    if choice == "dropped":
        assert drives == []
    else:
        assert (vm.number_in(drives[0][1].host_resource) == number) == (choice == "keeps-number")


def test_without_room_for_the_snapshot_nothing_is_backed_up(host: Machine) -> None:
    volume = host.volume_by_letter("D")
    assert volume is not None
    volume.reserve("something else", volume.free - (340 << 20))
    outcome = backup(host, "-backupTarget:E: -hyperv:web01,sql01")
    assert outcome.code == 0
    volume.reserve("something else", volume.files.reservations["something else"] + (40 << 20))
    outcome = backup(host, "-backupTarget:E: -hyperv:web01,sql01")
    assert outcome.signed == -3
    assert [event.event_id for event in events(host)][-3:] == [9, 5, 14]
    assert len(versions(host)) == 1
    assert not any("diff area" in name for name in volume.files.reservations)


def test_a_vm_whose_checkpoint_cannot_grow_is_paused(host: Machine) -> None:
    volume = host.volume_by_letter("D")
    assert volume is not None
    host.backup.churn = volume.size
    assert backup(host, "-backupTarget:E: -hyperv:web01").signed == -3
    assert vm_named(host, "web01").state == PAUSED


def test_all_or_nothing_for_several_vms(host: Machine) -> None:
    host.world.switches.choose("wsb-passthrough", "refused")
    assert backup(host, "-backupTarget:E: -hyperv:web01,sql01").signed == -3
    assert versions(host, "E:") == []


def test_the_writer_exists_on_hyper_v_hosts_only(world: World, host: Machine, guest: Machine) -> None:
    assert [component.name for component in components(host)] == ["Host Component", "app01", "sql01", "web01"]
    assert components(guest) == []


def test_every_version_on_a_local_target_is_a_shadow_copy(host: Machine) -> None:
    backup(host, "-backupTarget:E: -hyperv:web01")
    service = CimService(host)
    found = service.query("root/cimv2", "SELECT * FROM Win32_ShadowCopy").instances
    volume = host.volume_by_letter("E")
    assert volume is not None
    assert [(row.get("ID"), row.get("VolumeName")) for row in found] == [
        (host.backup.catalog[0].snapshot_id.upper(), volume.path)
    ]


# -- the writer's rules --------------------------------------------------------------------------------


def test_a_vm_without_the_backup_integration_service_is_saved_or_taken_as_it_is(host: Machine) -> None:
    vm = vm_named(host, "web01")
    assert component_of(vm).caption == "web01 (Online)"
    vm.settings.integration["Vss"] = False
    assert component_of(vm).caption == "web01 (Offline)"
    host.world.switches.choose("vss-without-integration", "online")
    assert component_of(vm).caption == "web01 (Online)"
    vm.set_state(OFF)
    assert component_of(vm).method == "still"


def test_what_the_guest_reaches_by_itself_is_left_out(world: World, host: Machine) -> None:
    vm = vm_named(host, "web01")
    vm.fibre_channel.append(FibreChannelPort("G", "san", ("a", "b"), ("c", "d"), ["spare"]))
    assert vm.guest is not None
    vm.guest.iscsi_sessions.append(world.luns["data1"])
    left_out = component_of(vm).left_out
    assert left_out == ("virtual Fibre Channel LUN spare", "iSCSI LUN data1 of the guest's own initiator")


@pytest.mark.parametrize(("choice", "code"), [("left-out", 0), ("refused", -3)])
def test_a_shared_virtual_disk_is_left_out_or_refused(world: World, host: Machine, choice: str, code: int) -> None:
    host.world.switches.choose("vss-shared-vhdx", choice)
    vm = vm_named(host, "app01")
    path = vm.vhd_paths()[0]
    medium = next(d.medium for _c, d in vm.drives() if d.medium is not None)
    medium.shared = True
    volume, below = host.resolve(path)
    volume.files.open(below).write_at(8 << 20, b"in the shared disk only " * 20)
    assert backup(host, "-backupTarget:\\\\filer\\backups -hyperv:app01").signed == code
    assert b"in the shared disk only " not in all_bytes_below(world.directory / "shares" / "filer" / "backups")


@pytest.mark.parametrize(("choice", "code"), [("refused", -3), ("left-out", 0)])
def test_a_virtual_disk_on_an_smb_share_is_no_part_of_a_volume_snapshot(host: Machine, choice: str, code: int) -> None:
    host.world.switches.choose("vss-smb-vhd", choice)
    vm = vm_named(host, "web01")
    vm.set_state(OFF)
    medium = next(d.medium for _c, d in vm.drives() if d.medium is not None)
    medium.path = "\\\\filer\\backups\\os.vhdx"
    assert backup(host, "-backupTarget:E: -hyperv:web01").signed == code


def test_a_small_volume_needs_the_documented_diff_area_when_asked(guest: Machine) -> None:
    guest.world.switches.choose("vss-small-volumes", "as-documented")
    assert backup(guest, "-backupTarget:B: -include:S:").signed == -3
    assert events(guest)[1].field("HRESULT") == str(0x8004231F)


def test_what_delete_backup_refuses(world: World, host: Machine) -> None:
    assert run(host, "wbadmin delete backup -deleteOldest -quiet").signed == -3
    backup(host, "-backupTarget:E: -hyperv:web01")
    backup(host, "-backupTarget:\\\\filer\\backups -hyperv:web01")
    for words in (
        "",
        "-keepVersions:x -quiet",
        "-version:01/01/2020-00:00 -quiet",
        "-keepVersions:0 -backupTarget:\\\\filer\\backups -quiet",
    ):
        assert run(host, f"wbadmin delete backup {words}").code != 0
    assert run(host, "wbadmin delete backup -keepVersions:0", stdin=b"N\r\n").signed == -3
    assert len(versions(host)) == 2
    assert run(host, "wbadmin delete backup -keepVersions:5 -quiet").code == 0
    assert run(host, "wbadmin delete backup -keepVersions:0 -quiet").code == 0
    assert [v.target_kind for v in host.backup.catalog] == ["share"]


def test_a_deletion_that_is_cut_off_leaves_the_versions_it_had_not_reached(world: World, host: Machine) -> None:
    for _number in range(3):
        backup(host, "-backupTarget:E: -hyperv:web01")
        world.clock.advance(3600)
    before = versions(host)
    process = host.processes.start_shell_command(
        "wbadmin delete backup -keepVersions:0 -quiet", token=SYSTEM, shell_id="x"
    )
    while len(host.backup.catalog) == 3:
        host.processes.look()
    mishap(world, "power_cut", machine="hv01")
    assert process.exit_code is not None
    left = versions(host, "E:")
    assert left == before[-len(left) :] and 0 < len(left) < 3
    mishap(world, "fail_delete_backup", machine="hv01")
    assert "could not be deleted" in run(host, "wbadmin delete backup -deleteOldest -quiet").out
    assert versions(host, "E:") == left


@pytest.mark.parametrize(("choice", "left"), [("all", 0), ("newest", 1)])
def test_versions_of_one_minute_are_one_to_delete_backup(world: World, host: Machine, choice: str, left: int) -> None:
    world.switches.choose("wbadmin-delete-same-minute", choice)
    for _number in range(2):
        backup(host, "-backupTarget:E: -hyperv:web01")
    same = host.backup.catalog[0].version_id
    host.backup.catalog[1].version_id = same
    run(host, f"wbadmin delete backup -version:{same} -quiet")
    assert len(host.backup.catalog) == left
