# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine diskshadow's decisions: its options, scripts, what must be true before, and what a run's texts and rows prove."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup import diskshadow, diskshadow_restore
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.detached_job import command_arguments
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.diskshadow_job import (
    HYPERV_WRITER,
    SourceVolume,
    backup_script,
    backup_steps,
    copy_names,
    inside,
    written,
)
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.diskshadow_options import (
    DiskShadowOptions,
    parse_options,
)
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.diskshadow_plan import Facts, plan_backup
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.diskshadow_proof import (
    Proof,
    Seen,
    judge,
    read_log,
    takes_part,
    writer_state,
)
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.engines import engine
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.errors import BackupError, TargetRefused
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.shadow_copies import (
    SYSTEM_PROVIDER,
    ShadowCopy,
    ShadowProvider,
    ShadowStorage,
)

RUN = "nightly.host.1"
D_GUID, C_GUID = "0a0b0c0d-1111-2222-3333-00000000000d", "0a0b0c0d-1111-2222-3333-00000000000c"
D = SourceVolume(path=f"\\\\?\\Volume{{{D_GUID}}}\\", letter="D")
C = SourceVolume(path=f"\\\\?\\Volume{{{C_GUID}}}\\", letter="C")
SET = "aaaaaaaa-0000-4000-8000-000000000001"
COPY_D, COPY_C = "dddddddd-0000-4000-8000-000000000001", "cccccccc-0000-4000-8000-000000000001"
OTHER, OTHER_SET = "eeeeeeee-0000-4000-8000-000000000009", "ffffffff-0000-4000-8000-000000000009"
ARRAY = "12345678-aaaa-4bbb-8ccc-000000000001"
VM = "285CEA9B-1111-2222-3333-000000000001"
NOW = datetime(2026, 6, 30, 19, 26, tzinfo=timezone.utc)


# --- options ----------------------------------------------------------------------------------------------------------


def test_without_options_the_system_provider_makes_persistent_copies():
    assert parse_options(None) == DiskShadowOptions(provider="system", context="persistent", storage_needed="10%")


def test_an_unknown_option_is_refused_with_those_there_are():
    with pytest.raises(BackupError) as caught:
        parse_options({"providers": "hardware"})
    assert caught.value.kind == "bad_option"
    assert "providers" in str(caught.value) and "metadata_copy" in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"provider": "array"},
        {"context": "volatile"},
        {"copy_type": "full"},
        {"transportable": "perhaps"},
        {"transportable": True},
        {"context": "client_accessible", "provider": "hardware"},
        {"provider": "hardware", "transportable": True, "copy_to": "E:\\vms"},
        {"storage_needed": "much"},
        {"storage_needed": True},
    ],
)
def test_options_that_do_not_fit_are_refused_in_one_sentence(options):
    with pytest.raises(BackupError) as caught:
        parse_options(options)
    assert caught.value.kind == "bad_option"
    assert "\n" not in str(caught.value)


def test_a_folder_option_that_no_command_line_can_carry_is_refused():
    with pytest.raises(TargetRefused):
        parse_options({"copy_to": "E:\\100%"})


def test_a_provider_is_known_by_its_guid_however_it_is_written():
    assert parse_options({"provider": f"{{{ARRAY.upper()}}}"}).provider == ARRAY


def test_safety_switches_that_arrive_as_text_mean_what_they_say():
    assert parse_options({"provider": "hardware", "transportable": "false"}).transportable is False
    assert parse_options({"provider": "hardware", "transportable": "true"}).transportable is True


@pytest.mark.parametrize(("given_", "files", "wanted"), [("10%", 1000, 100), ("4096", 1, 4096), ("0", 9, 0), (0, 9, 0)])
def test_room_is_asked_for_in_bytes_or_per_cent(given_, files, wanted):
    assert parse_options({"storage_needed": given_}).storage_bytes(files) == wanted


def test_the_table_of_engines_refuses_it_in_a_guest():
    with pytest.raises(BackupError) as caught:
        engine("diskshadow").options({}, "guest")
    assert caught.value.kind == "wrong_phase"


@pytest.mark.parametrize(
    ("text", "kind"), [("E:\\records", "volume"), ("\\\\filer\\share\\vms", "share"), ("E:", "volume")]
)
def test_a_target_is_a_folder_a_volume_or_a_share(text, kind):
    assert engine("diskshadow").target_kind(text) == kind


# --- abilities --------------------------------------------------------------------------------------------------------


def test_client_windows_cannot():
    able = diskshadow.capabilities({"is_server": False, "os_caption": "Windows 11"}, parse_options({}))
    assert (able.available, able.kind) == (False, "client_windows")


def test_a_hardware_provider_that_is_not_there_makes_the_engine_unable():
    machine = {"is_server": True, "shadow_providers": [{"id": SYSTEM_PROVIDER, "name": "System", "type": 1}]}
    able = diskshadow.capabilities(machine, parse_options({"provider": "hardware"}))
    assert (able.available, able.kind) == (False, "provider_missing")
    assert SYSTEM_PROVIDER in able.reason


def test_where_nobody_looked_for_providers_the_engine_is_able():
    assert diskshadow.capabilities({"is_server": True}, parse_options({"provider": "hardware"})).available


# --- scripts ----------------------------------------------------------------------------------------------------------


def test_the_script_has_the_hyperv_writer_verified_between_begin_and_end_of_the_backup():
    lines = backup_script(RUN, [C, D], SYSTEM_PROVIDER, parse_options({}))
    assert lines == (
        "set verbose on",
        "set context persistent",
        f"set metadata C:\\Windows\\Logs\\hyperv.passthrough\\jobs\\{RUN}\\metadata.cab",
        "begin backup",
        f"add volume C: alias hvp1 provider {{{SYSTEM_PROVIDER}}}",
        f"add volume D: alias hvp2 provider {{{SYSTEM_PROVIDER}}}",
        f"writer verify {{{HYPERV_WRITER}}}",
        "create",
        "end backup",
        "exit",
    )


def test_a_transportable_set_of_differential_copies_says_so():
    options = parse_options({"provider": "hardware", "transportable": True, "copy_type": "differential"})
    assert "set option differential transportable" in backup_script(RUN, [D], ARRAY, options)


def test_copies_that_can_be_reverted_to_have_their_own_context():
    assert "set context clientaccessible" in backup_script(
        RUN, [D], SYSTEM_PROVIDER, parse_options({"context": "client_accessible"})
    )


def test_the_job_fits_into_a_command_line_and_writes_its_scripts_itself():
    options = parse_options({"metadata_copy": "\\\\filer\\share\\second"})
    volumes = [dataclasses.replace(D, letter=letter) for letter in "CDEFGHIJKLMNOPQRSTUV"]
    run_id = "285cea9b-20260630t192600z-0123456789abcdef.host.10"
    line = command_arguments(run_id, backup_steps(run_id, volumes, ARRAY, options, "\\\\filer\\share\\db01\\" + run_id))
    assert "echo create& echo end backup& echo exit) >" in line
    assert line.index("script.txt") < line.index("diskshadow -s") < line.index("list writers status")


@given(st.text(alphabet=st.sampled_from('a %!^&|<>()"\n'), min_size=1))
def test_no_line_of_a_script_carries_what_cmd_would_read_as_its_own(text):
    line = f"expose {text}"
    if set(text) <= {"a", " "} and text.rstrip() == text:
        assert f"echo {line}" in written([line], "script.txt").command
    else:
        with pytest.raises(BackupError):
            written([line], "script.txt")


# --- what a run proves ------------------------------------------------------------------------------------------------

CREATED = f"""
-> set verbose on
-> begin backup
-> add volume C: alias hvp1 provider {{{SYSTEM_PROVIDER}}}
-> add volume D: alias hvp2 provider {{{SYSTEM_PROVIDER}}}
-> writer verify {{{HYPERV_WRITER}}}
-> create
Alias hvp1 for shadow ID {{{COPY_C.upper()}}} set as environment variable.
Alias hvp2 for shadow ID {{{COPY_D.upper()}}} set as environment variable.
Alias VSS_SHADOW_SET for shadow set ID {{{SET}}} set as environment variable.
"""
ENDED = CREATED + "-> end backup\n-> exit\n"
STABLE = f"""
-> list writers status
* WRITER "Task Scheduler Writer"
        - Status: 7 (VSS_WS_FAILED_AT_PREPARE_BACKUP)
        - Writer ID: {{d61d61c8-d73a-4eee-8cdd-f6f9786b7124}}
* WRITER "Microsoft Hyper-V VSS Writer"
        - Status: 1 (VSS_WS_STABLE)
        - Writer Failure code: 0x00000000 (S_OK)
        - Writer ID: {{{HYPERV_WRITER}}}
        - Instance ID: {{0a0b0c0d-1111-2222-3333-000000000077}}
"""


def copy(one: str, volume: SourceVolume, **changes: Any) -> ShadowCopy:
    made = ShadowCopy(
        id=one,
        set_id=SET,
        volume=volume.path,
        provider=SYSTEM_PROVIDER,
        device="",
        created=NOW,
        is_persistent=True,
        is_transportable=False,
        is_hardware=False,
        is_client_accessible=False,
        has_no_writers=False,
        is_surfaced=True,
        exposed_as=None,
    )
    return dataclasses.replace(made, **changes)


MADE = (copy(COPY_C, C), copy(COPY_D, D))


def seen(**changes: Any) -> Seen:
    good = Seen(
        is_done=True,
        exit_code=0,
        log=ENDED.encode(),
        writers=STABLE.encode(),
        writers_code=0,
        cab_code=0,
        cab2_code=None,
        copies=MADE,
    )
    return dataclasses.replace(good, **changes)


def judged(found: Seen, **changes: Any) -> Proof:
    asked: dict[str, Any] = {
        "baseline": (),
        "volumes": (C, D),
        "provider": SYSTEM_PROVIDER,
        "transportable": False,
        "second_cab": False,
        **changes,
    }
    return judge(found, **asked)


def test_a_run_is_proven_by_its_set_its_copies_its_end_and_a_stable_writer():
    proof = judged(seen())
    assert (proof.state, proof.set_id) == ("succeeded", SET)
    assert proof.shadows == {C_GUID: COPY_C, D_GUID: COPY_D}
    assert proof.leftovers == ()


def test_the_text_may_be_in_any_language_and_code_page():
    text = ENDED.replace("Alias", "Pseudonym").replace("set as environment variable", "als Umgebungsvariable gesetzt")
    writers = (
        STABLE.replace("Status", "Zustand").replace("Writer ID", "Verfasser-Kennung").replace("(VSS_WS_STABLE)", "")
    )
    for code_page in ("utf-16", "cp850", "utf-8"):
        proof = judged(seen(log=text.encode(code_page), writers=writers.encode(code_page)))
        assert proof.state == "succeeded"


def test_copies_that_were_there_before_or_that_diskshadow_does_not_name_are_never_ours():
    before = copy(OTHER, D, set_id=OTHER_SET)
    meanwhile = copy("eeeeeeee-0000-4000-8000-000000000008", D, set_id=OTHER_SET)
    proof = judged(seen(copies=(*MADE, before, meanwhile)), baseline=[OTHER.upper()])
    assert proof.state == "succeeded"
    assert set(proof.shadows.values()) == {COPY_C, COPY_D}
    assert proof.doubtful == (meanwhile.id,)


def test_a_backup_that_was_never_ended_is_noticed_and_its_copies_are_leftovers():
    for log in (CREATED, CREATED + "-> end backup\n"):
        for changes in ({"exit_code": 1}, {"exit_code": None, "is_done": False}, {"exit_code": 0}):
            proof = judged(seen(log=log.encode(), **changes))
            assert (proof.state, proof.kind) == ("failed", "end_backup_missing")
            assert set(proof.leftovers) == {COPY_C, COPY_D}
            assert "end backup" in proof.message and "vmms" in proof.message


@pytest.mark.parametrize("state", ["5 (VSS_WS_WAITING_FOR_BACKUP_COMPLETE)", "[9]", "8 (VSS_WS_FAILED_AT_FREEZE)"])
def test_a_writer_that_is_not_stable_afterwards_makes_the_run_a_failure(state):
    proof = judged(seen(writers=STABLE.replace("1 (VSS_WS_STABLE)", state).encode()))
    assert (proof.state, proof.kind) == ("failed", "writer_not_stable")
    assert set(proof.leftovers) == {COPY_C, COPY_D}


def test_a_list_of_writers_without_that_of_hyperv_is_a_failure_and_no_list_a_warning():
    without = STABLE.replace(HYPERV_WRITER, "0a0b0c0d-1111-2222-3333-000000000078")
    assert judged(seen(writers=without.encode())).kind == "writer_missing"
    unknown = judged(seen(writers=b"", writers_code=1))
    assert (unknown.state, len(unknown.warnings)) == ("warning", 1)


@pytest.mark.parametrize(
    ("last", "kind"),
    [
        (f"-> add volume D: alias hvp2 provider {{{SYSTEM_PROVIDER}}}", "volume_refused"),
        (f"-> writer verify {{{HYPERV_WRITER}}}", "writer_missing"),
        ("-> create", "snapshot_failed"),
    ],
)
def test_where_a_script_stopped_names_the_failure(last, kind):
    log = CREATED[: CREATED.index(last) + len(last)] + "\nnope\n"
    proof = judged(seen(exit_code=2, log=log.encode(), copies=()))
    assert (proof.state, proof.kind) == ("failed", kind)
    assert "nope" in proof.message


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("0x8004231f", "no_shadow_storage"),
        ("0x80042306", "provider_veto"),
        ("0x80042316", "busy"),
        ("0x800423F4", "writer_failed"),
        ("0x8004230c", "volume_not_supported"),
    ],
)
def test_an_hresult_says_it_in_every_language(code, kind):
    log = CREATED[: CREATED.index("Alias")] + f"fehlgeschlagen ({code})\n"
    proof = judged(seen(exit_code=2, log=log.encode(), copies=()))
    assert (proof.state, proof.kind) == ("failed", kind)


def test_the_exit_code_alone_never_counts():
    assert judged(seen(copies=())).kind == "no_shadow_copy"
    assert judged(seen(copies=MADE[:1])).kind == "no_shadow_copy"
    assert judged(seen(log=b"")).kind != ""
    assert judged(seen(exit_code=1)).state == "failed"


def test_what_is_no_whole_set_of_ours_is_a_failure():
    torn = (MADE[0], copy(COPY_D, D, set_id=OTHER_SET))
    assert judged(seen(copies=torn)).kind == "ambiguous_shadow_set"
    assert judged(seen(log=ENDED.replace(SET, OTHER_SET).encode())).kind == "ambiguous_shadow_set"
    assert judged(seen(copies=[copy(COPY_C, C, has_no_writers=True), MADE[1]])).kind == "writers_left_out"
    assert judged(seen(copies=[copy(COPY_C, C, is_persistent=False), MADE[1]])).kind == "not_persistent"
    assert judged(seen(), provider=ARRAY).kind == "wrong_provider"


def test_a_set_without_its_metadata_file_is_no_backup_and_its_copies_are_taken_away():
    proof = judged(seen(cab_code=1))
    assert (proof.state, proof.kind) == ("failed", "metadata_not_kept")
    assert set(proof.leftovers) == {COPY_C, COPY_D}
    assert judged(seen(cab2_code=1), second_cab=True).state == "warning"


def test_a_transportable_set_is_known_by_our_aliases_because_it_is_not_surfaced():
    proof = judged(seen(copies=()), transportable=True)
    assert (proof.state, proof.set_id) == ("succeeded", SET)
    assert proof.shadows == {C_GUID: COPY_C, D_GUID: COPY_D}
    unnamed = judged(seen(copies=(), log=ENDED.replace("Alias hvp2", "Alias").encode()), transportable=True)
    assert (unnamed.state, unnamed.kind) == ("failed", "no_shadow_copy")


def test_the_script_that_is_echoed_proves_no_guid():
    assert SYSTEM_PROVIDER not in read_log(ENDED.encode()).guids


@given(st.binary(max_size=400), st.binary(max_size=400), st.one_of(st.none(), st.integers(-5, 5)), st.booleans())
def test_no_text_is_a_success_by_accident_and_none_is_an_exception(log, writers, code, done):
    proof = judged(seen(log=log, writers=writers, exit_code=code, is_done=done))
    assert proof.state == "failed"


def test_a_vm_takes_part_when_the_log_adds_its_component_and_not_when_it_adds_others_only():
    other = f"\t+ Adding component: \\{OTHER.upper()}\n"
    excluded = f"\tComponent \\{VM} is excluded.\n"
    assert takes_part(f"{other}\t+ Ajout: \\{VM.lower()}\n".encode("utf-16"), VM) is True
    assert takes_part((other + excluded).encode(), f"{{{VM}}}") is False
    assert takes_part((excluded + "\t+ Adding component: \\Host Component\n").encode(), VM) is None


def test_the_state_of_a_writer_is_that_of_its_own_block():
    assert writer_state(STABLE.encode()) == "VSS_WS_STABLE"
    assert writer_state(b"nothing") is None


# --- before -----------------------------------------------------------------------------------------------------------


def vm(**changes: Any) -> dict[str, Any]:
    made = {
        "id": VM,
        "name": "db01",
        "configuration": {"data_root": "C:\\ProgramData\\Microsoft\\Windows\\Hyper-V", "snapshot_root": "C:\\x"},
        "disks": [disk("D:\\vms\\os.vhdx", 1000), disk("D:\\vms\\data.vhdx", 2000)],
        "checkpoints": [],
        "busy": None,
    }
    return {**made, **changes}


def disk(path: str, size: int, **changes: Any) -> dict[str, Any]:
    made = {
        "path": path,
        "captured_by": "host",
        "host_volume": {"path": D.path if path[:1] == "D" else C.path},
        "vhd": {"file_size_bytes": size},
    }
    return {**made, **changes}


def volume(one: SourceVolume, free: int = 10_000, file_system: str = "NTFS") -> dict[str, Any]:
    return {"path": one.path, "letter": one.letter, "file_system": file_system, "free_bytes": free, "size_bytes": free}


def facts(**changes: Any) -> Facts:
    made = Facts(
        vm=vm(),
        volumes=[volume(C), volume(D)],
        providers=[ShadowProvider(id=SYSTEM_PROVIDER, name="System", type=1)],
        support=frozenset({(SYSTEM_PROVIDER, C_GUID), (SYSTEM_PROVIDER, D_GUID)}),
        storages=(),
    )
    return dataclasses.replace(made, **changes)


def kinds(found: Facts, covered: bool = True, **options: Any) -> list[str]:
    return [one.kind for one in plan_backup(found, parse_options(options), covered=covered).refusals]


def test_the_volumes_of_all_disks_and_of_the_configuration_are_taken():
    plan = plan_backup(facts(), parse_options({}), covered=False)
    assert [one.named for one in plan.volumes] == ["C:", "D:"]
    assert (plan.provider, plan.refusals) == (SYSTEM_PROVIDER, ())
    assert plan.files == {"D:\\vms\\os.vhdx": 1000, "D:\\vms\\data.vhdx": 2000}


def test_left_out_disks_are_refused_unless_the_guest_phase_covers_them():
    left_out = facts(
        vm=vm(disks=[disk("D:\\vms\\os.vhdx", 1000), {**disk("", 5), "path": None, "captured_by": "guest"}])
    )
    assert kinds(left_out, covered=False) == ["left_out_disks"]
    assert kinds(left_out, covered=True) == []


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"vm": vm(checkpoints=[{"id": "x"}])}, "has_checkpoints"),
        ({"vm": vm(busy="merging_disks")}, "vm_busy"),
        ({"vm": vm(disks=[disk("\\\\filer\\vms\\os.vhdx", 1)])}, "volume_not_supported"),
        ({"vm": vm(disks=[disk("Q:\\os.vhdx", 1)])}, "volume_not_supported"),
        ({"vm": vm(configuration={"data_root": "\\\\filer\\vms"})}, "volume_not_supported"),
        ({"vm": vm(configuration={})}, "volume_not_supported"),
        ({"volumes": [volume(C), volume(D, file_system="FAT32")]}, "volume_not_supported"),
        ({"support": frozenset({(SYSTEM_PROVIDER, C_GUID)})}, "provider_unsupported"),
        ({"volumes": [volume(C), volume(D, free=299)]}, "no_shadow_storage"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_starts(change, kind):
    assert set(kinds(facts(**change))) == {kind}


def test_a_disk_whose_letter_means_another_volume_now_is_refused():
    moved = disk("D:\\vms\\os.vhdx", 1, host_volume={"path": "\\\\?\\Volume{0a0b0c0d-1111-2222-3333-0000000000ff}\\"})
    assert kinds(facts(vm=vm(disks=[moved]))) == ["volume_not_supported"]


def test_hardware_needs_a_provider_that_supports_every_volume_and_no_room():
    array = ShadowProvider(id=ARRAY, name="Array", type=3)
    cramped = [volume(C, free=1), volume(D, free=1)]
    both = frozenset({(ARRAY, C_GUID), (ARRAY, D_GUID)})
    assert kinds(facts(), provider="hardware") == ["provider_missing"]
    assert kinds(facts(providers=[array]), provider="hardware") == ["provider_unsupported"]
    assert kinds(facts(providers=[array], support=None), provider="hardware") == ["provider_unknown"]
    plan = plan_backup(
        facts(providers=[array], support=both, volumes=cramped), parse_options({"provider": "hardware"}), covered=True
    )
    assert (plan.provider, plan.refusals) == (ARRAY, ())
    second = ShadowProvider(id=OTHER, name="Array 2", type=3)
    twice = facts(providers=[array, second], support=both | {(OTHER, C_GUID), (OTHER, D_GUID)})
    assert kinds(twice, provider="hardware") == ["provider_ambiguous"]
    assert kinds(twice, provider=OTHER) == []


def test_room_is_looked_for_where_the_shadow_storage_lies():
    elsewhere = ShadowStorage(volume_guid=D_GUID, on_volume_guid=C_GUID, max_bytes=None, used_bytes=0)
    assert kinds(facts(volumes=[volume(C), volume(D, free=0)], storages=[elsewhere])) == []
    assert kinds(facts(volumes=[volume(C, free=299), volume(D)], storages=[elsewhere])) == ["no_shadow_storage"]
    bounded = ShadowStorage(volume_guid=D_GUID, on_volume_guid=D_GUID, max_bytes=400, used_bytes=101)
    assert kinds(facts(storages=[bounded])) == ["no_shadow_storage"]
    assert kinds(facts(storages=[bounded]), storage_needed="5%") == []


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_file_is_found_in_the_exposed_copy_of_its_own_volume():
    volumes = [C.to_dict(), D.to_dict()]
    shadows, roots = {C_GUID: COPY_C, D_GUID: COPY_D}, {COPY_C: "Z:\\", COPY_D: "Y:\\"}
    assert inside("d:\\vms\\os.vhdx", volumes, shadows, roots) == "Y:\\vms\\os.vhdx"
    with pytest.raises(BackupError):
        inside("Q:\\os.vhdx", volumes, shadows, roots)


def test_disks_of_one_name_in_two_folders_get_two_names_in_the_copy():
    names = copy_names(["D:\\a\\os.vhdx", "D:\\b\\os.vhdx"])
    assert len(set(names.values())) == 2


def test_a_disk_that_the_import_left_in_the_shadow_copy_is_led_back_to_its_own_file():
    files, roots = {"D:\\vms\\os.vhdx": 1}, {COPY_D: "Z:\\"}
    back = diskshadow_restore.back_in_place
    assert back("Z:\\VMs\\os.vhdx", files, {D_GUID: COPY_D}, roots) == "D:\\vms\\os.vhdx"
    assert back("D:\\vms\\OS.vhdx", files, {D_GUID: COPY_D}, roots) is None
    assert back("Z:\\other.vhdx", files, {D_GUID: COPY_D}, roots) is None
