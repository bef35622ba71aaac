# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""diskshadow.exe and the Volume Shadow Copy Service behind it: sets, writers, exposure, storage, transport, trouble."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from simulator.assumed import import_everything
from simulator.content import digest
from simulator.file_system import FileSystemError
from simulator.mishaps import find_vm, mishap
from simulator.processes import SYSTEM as SYSTEM_TOKEN
from simulator.virtual_machine import RUNNING, SAVED
from simulator.volume_shadow_service import SYSTEM, SetOptions, VssError
from simulator.world import Machine, World
from unit.simulator.provider_calls import VSMS, call, finish, service
from unit.simulator.windows_machines import NOBODY, Outcome, read_file, run, write_file

ARRAY = "{11112222-3333-4444-5555-666677778888}"
WORLD = """
name: shadow
seed: shadow
clock: 2026-10-01T20:00:00Z
luns:
  - {id: data, size: 24M, bus: iscsi}
hosts:
  - name: hv01
    address: 127.43.0.1
    volumes:
      - {letter: C, size: 60G}
      - {letter: D, size: 60G, label: VMs}
      - {letter: E, size: 200M, label: Small}
    luns: [data]
    configuration_root: 'D:\\Hyper-V'
    vss_providers:
      - {id: "{11112222-3333-4444-5555-666677778888}", name: Array VSS Provider, volumes: [E]}
  - name: hv02
    address: 127.43.0.2
    locale: de-DE
    vss_providers:
      - {id: "{11112222-3333-4444-5555-666677778888}", name: Array VSS Provider, volumes: [E]}
vms:
  - name: erp01
    host: hv01
    state: running
    disks:
      - {slot: "scsi 0:0", vhd: 'D:\\VMs\\erp01\\os.vhdx', size: 16M}
      - {slot: "scsi 0:1", lun: data}
    guest:
      address: 127.43.1.1
      disks: [{slot: "scsi 0:0", partitions: [{letter: C, boot: true}]}]
"""
BACKUP = """set verbose on
set context persistent
set metadata C:\\meta.cab
begin backup
add volume D: alias vms
writer verify {66841cd4-6ded-4f4b-8f17-fd23f8ddc3de}
create
end backup
"""
VHD = "VMs\\erp01\\os.vhdx"


@pytest.fixture
def world(tmp_path: Path) -> World:
    import_everything()
    return World.from_yaml(WORLD, tmp_path)


@pytest.fixture
def host(world: World) -> Machine:
    return world.machine("hv01")


def shadow(host: Machine, script: str, **more: Any) -> Outcome:
    """Run a script of diskshadow."""
    write_file(host, "C:\\script.dsh", script.replace("\n", "\r\n").encode())
    return run(host, "diskshadow /s C:\\script.dsh", **more)


def one_copy(host: Machine) -> Any:
    copies = host.vss.present()
    assert len(copies) == 1
    return copies[0]


def test_a_backup_script_makes_a_persistent_copy_with_the_literals_of_windows(host: Machine) -> None:
    done = shadow(host, BACKUP)

    copy = one_copy(host)
    assert done.code == 0
    assert "-> begin backup\n" in done.out
    assert f"Alias vms for shadow ID {{{copy.id}}} set as environment variable." in done.out
    assert f"Alias VSS_SHADOW_SET for shadow set ID {{{copy.set_id}}} set as environment variable." in done.out
    assert '* Including writer "Microsoft Hyper-V VSS Writer":\n\t+ Adding component: \\' in done.out
    assert f"\t* Shadow copy ID = {{{copy.id}}}\t\t%vms%" in done.out
    assert "\t\t- Attributes:  No_Auto_Release Persistent Differential\n" in done.out
    assert "Number of shadow copies listed: 1" in done.out
    assert "END BACKUP was not commanded" not in done.out
    assert host.world.check() == [] and read_file(host, "C:\\meta.cab").startswith(b"MSCF")


def test_the_copy_keeps_the_bytes_of_its_moment(host: Machine, world: World) -> None:
    volume = host.volume_by_letter("D")
    assert volume is not None
    before = digest(volume.files.open(VHD))
    shadow(host, BACKUP)

    vm = find_vm(world, "erp01")
    assert vm.guest is not None
    vm.guest.volume_by_letter("C").write("new.txt", b"later" * 5000)  # type: ignore[union-attr]
    copy = one_copy(host)

    assert digest(volume.files.open(VHD)) != before
    shadowed, below = host.resolve(f"{copy.device}\\{VHD}")
    assert digest(shadowed.files.open(below)) == before
    assert copy.used > 0
    assert copy.components[vm.id]["consistency"] == "application"
    assert "pass-through" in copy.components[vm.id]["left_out"][0]


def test_an_exposed_copy_is_read_by_letter_device_and_share_and_written_by_nobody(host: Machine) -> None:
    write_file(host, "D:\\note.txt", b"as it was")
    shadow(host, "set context persistent\nadd volume D: alias a\ncreate\n")
    write_file(host, "D:\\note.txt", b"changed")
    copy = one_copy(host)

    done = shadow(host, f"expose {{{copy.id}}} Z:\n")

    assert "The shadow copy was successfully exposed as Z:\\." in done.out
    assert run(host, "type Z:\\note.txt").out == "as it was"
    assert run(host, f"copy /b {copy.device}\\note.txt C:\\back.txt").code == 0
    assert read_file(host, "C:\\back.txt") == b"as it was"
    assert run(host, "echo x>Z:\\y.txt").code == 1
    with pytest.raises(FileSystemError) as problem:
        host.resolve("Z:\\note.txt")[0].files.open("note.txt").write_at(0, b"x")
    assert problem.value.code == 19
    assert "os.vhdx" in run(host, "dir /b Z:\\VMs\\erp01").out
    shadow(host, f"unexpose Z:\nexpose {{{copy.id}}} old\n")
    assert host.resolve("\\\\hv01\\old\\note.txt")[0].read("note.txt") == b"as it was"


def test_exposed_copies_survive_a_restart_and_volatile_ones_do_not(host: Machine) -> None:
    shadow(host, "set context persistent\nadd volume D: alias a\ncreate\nexpose %a% Z:\n")
    options = SetOptions()
    volume = host.volume_by_letter("D")
    pending = host.vss.start_set([(volume, SYSTEM)], options)
    host.vss.commit(pending)
    assert len(host.vss.present()) == 2

    host.reboot()

    copy = one_copy(host)
    assert copy.options.persistent and host.volume_by_letter("Z") is copy.volume
    assert f"exposed as {copy.exposed.name}" in "\n".join(host.world.leftovers())


def test_volatile_copies_end_with_the_program_and_cannot_be_exposed(host: Machine) -> None:
    done = shadow(host, "set context volatile\nadd volume D: alias a\ncreate\nexpose %a% Z:\n")

    assert done.code == 1 and "E_INVALIDARG" in done.out
    assert host.vss.present() == [] and host.world.leftovers() == []


def test_a_missing_end_backup_is_noted_and_found_until_the_next_complete_one(host: Machine) -> None:
    done = shadow(host, BACKUP.replace("end backup\n", ""))

    assert "Note: END BACKUP was not commanded, writers not notified BackupComplete." in done.out
    assert "wait for the end of their backup" in host.world.check()[0]
    listed = shadow(host, "list writers status\n").out
    assert "- Status: 5 (VSS_WS_WAITING_FOR_BACKUP_COMPLETE)" in listed

    shadow(host, BACKUP)
    assert host.world.check() == []
    assert "- Status: 1 (VSS_WS_STABLE)" in shadow(host, "list writers status\n").out


def test_a_session_that_is_killed_after_create_leaves_waiting_writers(host: Machine) -> None:
    write_file(host, "C:\\script.dsh", BACKUP.replace("\n", "\r\n").encode())
    process = host.processes.start_shell_command("diskshadow /s C:\\script.dsh", token=SYSTEM_TOKEN, shell_id="x")
    while not host.vss.present():
        host.processes.look()
    host.processes.kill_tree(process)

    assert host.vss.unnotified and host.vss.present()


def test_a_power_cut_while_a_set_is_created_leaves_nothing_of_it(host: Machine, world: World) -> None:
    find_vm(world, "erp01").traits.vss = False  # so that the writer saves it
    write_file(host, "C:\\script.dsh", BACKUP.replace("\n", "\r\n").encode())
    host.processes.start_shell_command("diskshadow /s C:\\script.dsh", token=SYSTEM_TOKEN, shell_id="x")
    host.processes.look()
    assert host.vss.pending is not None and find_vm(world, "erp01").state == SAVED

    host.reboot(power_cut=True)

    assert host.vss.pending is None and host.vss.present() == []
    assert find_vm(world, "erp01").state == SAVED


def test_a_vm_that_cannot_go_online_is_saved_for_the_moment_and_resumed(host: Machine, world: World) -> None:
    find_vm(world, "erp01").traits.vss = False
    shadow(host, BACKUP)

    assert find_vm(world, "erp01").state == RUNNING
    assert one_copy(host).components[find_vm(world, "erp01").id]["consistency"] == "saved"


def test_a_vm_with_files_on_another_volume_is_left_out_and_writer_verify_stops_the_set(host: Machine) -> None:
    host.world.hosts[0].vms[0].configuration_root = "C:\\Elsewhere"
    host.world.hosts[0].vms[0].save_configuration()

    done = shadow(host, BACKUP)

    assert done.code == 1 and host.vss.present() == []
    assert "VSS_E_OBJECT_NOT_FOUND" in done.out
    plain = shadow(host, BACKUP.replace("writer verify {66841cd4-6ded-4f4b-8f17-fd23f8ddc3de}\n", ""))
    assert "because it requires volume C:\\ which is not in the shadow copy set." in plain.out
    assert [facts["consistency"] for facts in one_copy(host).components.values()] == ["crash"]


def test_one_set_at_a_time(host: Machine) -> None:
    volume = host.volume_by_letter("E")
    pending = host.vss.start_set([(volume, SYSTEM)], SetOptions(persistent=True))

    done = shadow(host, BACKUP)
    assert "VSS_E_SNAPSHOT_SET_IN_PROGRESS" in done.out and "HRESULT = 80042316" in done.out
    assert call(host, "Win32_ShadowCopy", "Create", {"Volume": "D:\\"}, namespace="root/cimv2")["ReturnValue"] == 9

    host.vss.abort(pending)
    assert shadow(host, BACKUP).code == 0


@pytest.mark.parametrize(
    ("stage", "code", "what"),
    [
        ("add", "VSS_E_PROVIDER_VETO", "AddToSnapshotSet"),
        ("prepare", "VSS_E_WRITERERROR_TIMEOUT", "PrepareForBackup"),
        ("commit", "VSS_E_HOLD_WRITES_TIMEOUT", "DoSnapshotSet"),
        ("post", "VSS_E_WRITERERROR_NONRETRYABLE", "DoSnapshotSet"),
    ],
)
def test_a_set_that_fails_leaves_nothing_and_the_next_one_works(
    host: Machine, world: World, stage: str, code: str, what: str
) -> None:
    mishap(world, "fail_shadow", machine="hv01", stage=stage, code=code)

    done = shadow(host, BACKUP)

    assert done.code == 1 and f'{what}" failed.' in done.out and code in done.out
    assert world.leftovers() == [] and find_vm(world, "erp01").state == RUNNING
    assert host.volume_by_letter("D").files.reservations == {}  # type: ignore[union-attr]
    assert shadow(host, BACKUP).code == 0


def test_a_script_that_goes_on_after_an_error_is_a_switch(host: Machine, world: World) -> None:
    script = "expose {00000000-0000-4000-8000-000000000000} Z:\nset context persistent\nadd volume D:\ncreate\n"
    assert shadow(host, script).code == 1 and host.vss.present() == []

    world.switches.choose("diskshadow-script-error", "goes-on")
    world.switches.choose("diskshadow-exit-failed", "0")
    done = shadow(host, script)

    assert done.code == 0 and "Alias VSS_SHADOW_1 for shadow ID" in done.out
    assert len(host.vss.present()) == 1


def test_lines_without_carriage_return_lose_their_last_letter(host: Machine, world: World) -> None:
    write_file(host, "C:\\unix.dsh", b"set context persistent\nadd volume D:\ncreate\n")
    assert "-> set context persisten\n" in run(host, "diskshadow -s C:\\unix.dsh").out
    assert host.vss.present() == []

    world.switches.choose("diskshadow-lf-script", "reads")
    assert run(host, "diskshadow -s C:\\unix.dsh").code == 0


def test_interactive_commands_come_from_standard_input(host: Machine) -> None:
    done = run(host, "diskshadow", stdin=b"list providers\r\nexit\r\n")

    assert "DISKSHADOW> " in done.out
    assert "* ProviderID: {b5946137-7b9f-4925-af80-51abd60b20d5}\n\tType: [1] VSS_PROV_SYSTEM" in done.out
    assert "2 providers registered." in done.out


def test_administrators_of_a_server_only(host: Machine, world: World) -> None:
    assert run(host, "diskshadow", token=NOBODY).code == 1
    copies = rows_of(host, "Win32_ShadowProvider")
    assert [row.get("Type") for row in copies] == [3, 1]


def rows_of(host: Machine, class_name: str) -> list[Any]:
    return list(service(host).enumerate("root/cimv2", class_name).instances)


def test_cim_shows_the_copy_and_deletes_it(host: Machine) -> None:
    shadow(host, "set context persistent\nadd volume D: alias a\ncreate\nexpose %a% Z:\n")

    row = rows_of(host, "Win32_ShadowCopy")[0]
    assert row.get("Persistent") is True and row.get("ExposedName") == "Z:\\" and row.get("NoWriters") is False
    assert row.get("VolumeName") == host.volume_by_letter("D").path  # type: ignore[union-attr]
    storage = rows_of(host, "Win32_ShadowStorage")[0]
    assert storage.get("AllocatedSpace") == 320 << 20
    assert "Z:" in [volume.get("DriveLetter") for volume in rows_of(host, "Win32_Volume")]
    service(host).delete("root/cimv2", "Win32_ShadowCopy", [("ID", row.get("ID"))])
    assert rows_of(host, "Win32_ShadowCopy") == [] and host.volume_by_letter("Z") is None


def test_win32_shadowcopy_create_is_client_accessible_and_can_be_reverted_to(host: Machine) -> None:
    write_file(host, "E:\\data.txt", b"old")
    made = call(host, "Win32_ShadowCopy", "Create", {"Volume": "E:\\"}, namespace="root/cimv2")
    assert made["ReturnValue"] == 0
    write_file(host, "E:\\data.txt", b"new")

    assert shadow(host, f"revert {made['ShadowID']}\n").code == 0
    assert read_file(host, "E:\\data.txt") == b"old"


def test_only_client_accessible_copies_are_reverted_to(host: Machine) -> None:
    shadow(host, BACKUP)
    assert "VSS_E_BAD_STATE" in shadow(host, f"revert {{{one_copy(host).id}}}\n").out


def test_the_oldest_copy_goes_when_the_storage_is_full(host: Machine, world: World) -> None:
    volume = host.volume_by_letter("E")
    assert volume is not None
    volume.write("big.bin", bytes(4 << 20))
    mishap(world, "set_shadow_storage", machine="hv01", letter="E", maximum=30 << 20)
    script = "set context persistent\nadd volume E: provider {b5946137-7b9f-4925-af80-51abd60b20d5}\ncreate\n"
    shadow(host, script)
    first = one_copy(host)
    shadow(host, script)
    assert len(host.vss.present()) == 2

    shadow(host, script)

    assert first not in host.vss.present() and len(host.vss.present()) == 2
    events = host.event_log.channel("System").records
    assert [event.event_id for event in events if event.provider == "Volsnap"] == [33]


def test_too_little_room_for_the_diff_area(host: Machine) -> None:
    volume = host.volume_by_letter("E")
    assert volume is not None
    volume.files.create("fill.bin", volume.free - (1 << 20))
    with pytest.raises(VssError) as problem:
        host.vss.commit(host.vss.start_set([(volume, SYSTEM)], SetOptions(persistent=True)))
    assert problem.value.name == "VSS_E_INSUFFICIENT_STORAGE"
    assert host.world.leftovers() == []


def test_writes_that_outgrow_the_storage_cost_the_copies_and_not_the_write(host: Machine, world: World) -> None:
    volume = host.volume_by_letter("E")
    assert volume is not None
    volume.write("big.bin", bytes(40 << 20))
    mishap(world, "set_shadow_storage", machine="hv01", letter="E", maximum=20 << 20)
    pending = host.vss.start_set([(volume, SYSTEM)], SetOptions(persistent=True))
    host.vss.commit(pending)

    volume.files.open("big.bin").write_at(0, b"x" * (30 << 20))

    assert host.vss.present() == [] and volume.read("big.bin", 0, 1) == b"x"
    assert host.event_log.channel("System").records[-1].event_id == 36
    assert volume.files.reservations == {}


def test_a_hardware_provider_costs_no_diff_area_and_travels_to_another_host(host: Machine, world: World) -> None:
    write_file(host, "E:\\data.txt", b"travels")
    made = shadow(
        host,
        "set context persistent\nset option transportable\nset metadata C:\\t.cab\n"
        f"add volume E: alias a provider {ARRAY}\ncreate\n",
    )
    assert made.code == 0 and "Not_Surfaced" in made.out
    assert host.volume_by_letter("E").files.reservations == {}  # type: ignore[union-attr]
    other = world.machine("hv02")
    write_file(other, "C:\\t.cab", read_file(host, "C:\\t.cab"))

    brought = shadow(other, "load metadata C:\\t.cab\nimport\n")

    copy = one_copy(other)
    assert brought.code == 0 and "Transportable Hardware_Assisted Differential Imported" in brought.out
    assert other.resolve(f"{copy.device}\\data.txt")[0].read("data.txt") == b"travels"
    assert shadow(other, f"break writable {{{copy.set_id}}}\n").code == 0
    letter = next(v.letter for v in other.volumes() if v.exists("data.txt"))
    assert read_file(other, f"{letter}:\\data.txt") == b"travels" and other.vss.present() == []


def test_the_system_provider_makes_nothing_transportable(host: Machine) -> None:
    done = shadow(host, "set context persistent\nset option transportable\nadd volume D:\ncreate\n")
    assert done.code == 1 and "VSS_E_VOLUME_NOT_SUPPORTED" in done.out


@pytest.mark.parametrize(
    ("script", "text"),
    [
        ("add volume X:\n", "The volume X: was not found."),
        ("create\n", "There is no volume in the shadow copy set"),
        ("end backup\n", "END BACKUP needs a BEGIN BACKUP"),
        ("import\n", "IMPORT needs LOAD METADATA before it."),
        ("add volume D: provider {99999999-3333-4444-5555-666677778888}\n", "VSS_E_PROVIDER_NOT_REGISTERED"),
        ("add volume D: provider {11112222-3333-4444-5555-666677778888}\n", "VSS_E_VOLUME_NOT_SUPPORTED_BY_PROVIDER"),
        ("set context sometimes\n", "set context {clientaccessible"),
        ("set metadata C:\\nowhere\\x.cab\n", "does not exist"),
        ("delete shadows all\n", "No shadow copies were found"),
        ("nonsense\n", "WRITER VERIFY"),
    ],
)
def test_what_windows_refuses(host: Machine, script: str, text: str) -> None:
    done = shadow(host, script)
    assert done.code == 1 and text in done.out


def test_a_taken_letter_is_refused(host: Machine) -> None:
    done = shadow(host, "set context persistent\nadd volume D: alias a\ncreate\nexpose %a% E:\n")
    assert "VSS_E_OBJECT_ALREADY_EXISTS" in done.out
    assert re.search(r"-> %a% = \{[0-9a-f-]{36}\}\n", done.out)


def test_a_restore_session_takes_the_vm_away_and_brings_it_back(host: Machine, world: World) -> None:
    shadow(host, BACKUP)
    vm = find_vm(world, "erp01")
    path = vm.configuration_path
    saved = read_file(host, path)
    ended = shadow(host, "load metadata C:\\meta.cab\nbegin restore\n")
    assert ended.code == 0 and host.vms == []
    write_file(host, path, saved)
    assert shadow(host, "load metadata C:\\meta.cab\nbegin restore\nend restore\n").code == 0
    assert [vm.name for vm in host.vms] == ["erp01"]


def test_a_writer_that_is_not_there_fails_the_verification(host: Machine, world: World) -> None:
    mishap(world, "remove_writer", machine="hv01")
    assert shadow(host, BACKUP).code == 1 and host.vss.present() == []


def test_the_log_file_holds_what_was_printed(host: Machine) -> None:
    write_file(host, "C:\\s.dsh", b"list providers\r\n")
    done = run(host, "diskshadow /s C:\\s.dsh /l C:\\log.txt")
    assert done.code == 0 and b"-> list providers\r\n" in read_file(host, "C:\\log.txt")


# -- volumes on bytes: guests


def test_a_guest_makes_copies_of_its_own_volumes_on_bytes(world: World) -> None:
    guest = find_vm(world, "erp01").guest
    assert guest is not None
    volume = guest.volume_by_letter("C")
    assert volume is not None
    volume.write("note.txt", b"as it was" * 4000)
    options = SetOptions(persistent=True)
    copy = guest.vss.commit(guest.vss.start_set([(volume, SYSTEM)], options))[0]
    volume.write("note.txt", b"changed" * 4000)

    guest.vss.expose(copy, "Z:")

    assert guest.resolve("Z:\\note.txt")[0].read("note.txt") == b"as it was" * 4000
    assert volume.read("note.txt") == b"changed" * 4000
    with pytest.raises(FileSystemError):
        guest.resolve("Z:\\")[0].write("x.txt", b"x")
    with pytest.raises(FileSystemError):
        guest.resolve("Z:\\")[0].files.write("x.txt", b"x")
    assert run(guest, "type Z:\\note.txt").out.startswith("as it was")
    guest.vss.delete(copy)
    assert guest.volume_by_letter("Z") is None


def test_volatile_copies_of_a_guest_are_not_exposed_unless_a_switch_says_so(world: World) -> None:
    guest = find_vm(world, "erp01").guest
    assert guest is not None
    copy = guest.vss.commit(guest.vss.start_set([(guest.volumes()[0], SYSTEM)], SetOptions()))[0]
    with pytest.raises(VssError) as problem:
        guest.vss.expose(copy, "Z:")
    assert problem.value.name == "E_INVALIDARG"
    world.switches.choose("vss-expose-volatile", "works")
    assert guest.vss.expose(copy, "Z:").name == "Z:\\"


def test_backups_and_shadow_copies_do_not_disturb_each_other(host: Machine, world: World) -> None:
    volume = host.volume_by_letter("E")
    pending = host.vss.start_set([(volume, SYSTEM)], SetOptions(persistent=True))
    process = host.processes.start_shell_command(
        "wbadmin start backup -backupTarget:\\\\hv02\\none -include:E: -quiet", token=SYSTEM_TOKEN, shell_id="x"
    )
    host.processes.run_to_end(process)
    done = run(host, "wbadmin start backup -backupTarget:E: -hyperv:erp01 -quiet")
    assert done.code != 0 and "shadow" in done.out.lower()
    host.vss.commit(pending)
    assert run(host, "wbadmin start backup -backupTarget:E: -hyperv:erp01 -quiet").code == 0
    devices = [row.get("DeviceObject") for row in rows_of(host, "Win32_ShadowCopy")]
    assert len(devices) == 2 and len(set(devices)) == 2


def test_an_operator_and_windows_take_copies_away(host: Machine, world: World) -> None:
    other = mishap(world, "shadow_of_others", machine="hv01", letter="D", expose="Y")
    shadow(host, BACKUP)
    assert len(host.vss.present()) == 2 and host.volume_by_letter("Y") is not None
    mishap(world, "delete_shadow", machine="hv01", shadow=str(other))
    assert len(host.vss.present()) == 1 and host.volume_by_letter("Y") is None
    assert world.shadow_state()["hv01"]["copies"][0]["id"] == one_copy(host).id
    mishap(world, "delete_shadow", machine="hv01")
    assert world.leftovers() == []


def test_an_end_backup_that_fails_leaves_the_writers_waiting(host: Machine, world: World) -> None:
    mishap(world, "fail_shadow", machine="hv01", stage="complete", code="VSS_E_UNEXPECTED_WRITER_ERROR")
    done = shadow(host, BACKUP)
    assert done.code == 1 and "VSS_E_UNEXPECTED_WRITER_ERROR" in done.out
    assert "END BACKUP was not commanded" in done.out and world.check() != []


def test_what_a_missing_end_backup_leaves_is_a_switch(host: Machine, world: World) -> None:
    world.switches.choose("vss-missing-end-backup", "recovery-checkpoints")
    shadow(host, BACKUP.replace("end backup\n", ""))
    assert [c.kind for c in find_vm(world, "erp01").checkpoints] == ["recovery"]
    shadow(host, BACKUP)
    assert find_vm(world, "erp01").checkpoints == []


def test_another_context_is_no_backup_and_owes_nothing(host: Machine) -> None:
    done = shadow(host, "set context persistent nowriters\nadd volume D: alias a\ncreate\nexit\n")
    assert done.code == 0 and "END BACKUP" not in done.out
    assert "No_Auto_Release Persistent No_Writers Differential" in done.out
    assert host.world.check() == []


def test_exec_runs_a_script_and_its_failure_ends_diskshadow(host: Machine) -> None:
    write_file(host, "C:\\good.cmd", b"@echo from the script %a%\r\n")
    write_file(host, "C:\\bad.cmd", b"@exit /b 3\r\n")
    script = "set context persistent\nadd volume D: alias a\ncreate\nexec C:\\good.cmd\nexec C:\\bad.cmd\nreset\n"
    done = shadow(host, script)
    assert f"from the script {{{one_copy(host).id}}}" in done.out
    assert done.code == 1 and "-> reset" not in done.out


def test_an_imported_configuration_is_read_from_an_exposed_copy(host: Machine, world: World) -> None:
    vm = find_vm(world, "erp01")
    vm.save_configuration()
    shadow(host, BACKUP)
    shadow(host, f"expose {{{one_copy(host).id}}} Z:\n")
    mishap(world, "delete_vm", vm="erp01")
    path = f"Z:\\Hyper-V\\Virtual Machines\\{vm.id}.vmcx"
    answer = call(host, VSMS, "ImportSystemDefinition", {"SystemDefinitionFile": path})
    job = finish(host, answer)
    assert job is not None and job.get("JobState") == 7
    assert find_vm(world, "erp01").planned
    assert "is planned only" in "\n".join(world.leftovers())


def test_a_german_windows_prints_other_words_and_the_same_identifiers(world: World) -> None:
    other = world.machine("hv02")
    done = shadow(other, "set context persistent\nadd volume C: alias a\ncreate\nexpose %a% Z:\n")
    copy = one_copy(other)
    assert done.code == 0 and "Shadow copy ID" not in done.out and "-> add volume C: alias a" in done.out
    assert f"{{{copy.id}}}" in done.out and "%a%" in done.out and copy.device in done.out
