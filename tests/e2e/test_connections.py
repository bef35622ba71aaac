# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every way an operator may reach a host, and every way it may fail, with real ansible-playbook and real HTTP.

One playbook run looks at one simulated host through many inventory names, each with its own connection variables; most tests
judge that run. Managed Kerberos is tested as far as it goes without a KDC in tests/unit/test_kerberos.py.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from playbook_run import PlaybookRun, TaskResult
from simulator.door_memory import rules_of
from wire_tap import WireTap

pytestmark = [pytest.mark.e2e, pytest.mark.core]

PASSWORD = "C0rrect-Horse-Battery"
GUEST_PASSWORD = "An0ther-Horse-Battery"
VIEWER = "V1ewer-Without-Rights"
WRONG = "Wr0ng-Horse-Battery"
WORLD = f"""
name: connections
seed: connections
clock: 2026-10-01T20:00:00Z
accounts:
  Administrator: {{password: {PASSWORD}}}
  viewer: {{password: {VIEWER}, groups: [Remote Management Users]}}
luns:
  - {{id: data1, size: 8M, bus: iscsi, serial: "c0ffee01"}}
hosts:
  - name: hv01
    address: 127.21.0.1
    volumes:
      - {{letter: C, size: 60G, label: System}}
      - {{letter: D, size: 60G, label: VMs}}
      - {{letter: E, size: 60G, label: Backup}}
    luns: [data1]
    winrm: {{basic: true}}
  - name: plain01
    address: 127.21.0.2
    hyperv_role: false
vms:
  - name: sql01
    host: hv01
    generation: 2
    disks:
      - {{slot: "scsi 0:0", vhd: 'D:\\VMs\\sql01\\os.vhdx', size: 16M}}
      - {{slot: "scsi 0:1", lun: data1}}
    guest:
      address: 127.21.1.1
      accounts: {{Administrator: {{password: {GUEST_PASSWORD}}}}}
      disks:
        - slot: "scsi 0:0"
          partitions:
            - {{letter: C, label: Windows, boot: true, files: {{count: 2, size: 16K}}}}
        - slot: "scsi 0:1"
          partitions:
            - {{letter: S, label: Data, files: {{count: 2, size: 16K}}}}
"""

HKEY_LOCAL_MACHINE = 0x80000002
PSRP = {"ansible_connection": "psrp", "ansible_psrp_protocol": "http", "ansible_psrp_auth": "ntlm"}
STARTS = {"Create", "RegisterByXml", "StartByPath"}  # of a process or a scheduled task

Lab = Any


def play(*tasks: dict[str, Any], hosts: str = "hyperv_hosts", **keywords: Any) -> list[dict[str, Any]]:
    return [{"hosts": hosts, "gather_facts": False, "tasks": list(tasks), **keywords}]


DISK_INFO = {"hyperv.passthrough.disk_info": {}}


def ways(lab: Lab, tap: WireTap, untouched: WireTap, closed_port: int) -> dict[str, dict[str, Any]]:
    """Inventory names of hv01 and the connection variables of each."""
    tls = lab.doors.door("hv01", tls=True).port
    http = lab.doors.door("hv01").port
    ca = str(lab.doors.ca_file)
    common = {"ansible_host": "127.21.0.1", "ansible_user": "Administrator", "ansible_password": PASSWORD}

    def winrm(port: int, scheme: str, transport: str, **more: Any) -> dict[str, Any]:
        return {
            **common,
            "ansible_connection": "winrm",
            "ansible_port": port,
            "ansible_winrm_scheme": scheme,
            "ansible_winrm_transport": transport,
            **more,
        }

    def psrp(port: int, protocol: str, auth: str, **more: Any) -> dict[str, Any]:
        return {
            **common,
            "ansible_connection": "psrp",
            "ansible_port": port,
            "ansible_psrp_protocol": protocol,
            "ansible_psrp_auth": auth,
            **more,
        }

    trusted, trusted_psrp = {"ansible_winrm_ca_trust_path": ca}, {"ansible_psrp_ca_cert": ca}
    plain01 = {"ansible_host": "127.21.0.2"}
    return {
        "winrm-ntlm-http": winrm(http, "http", "ntlm"),
        "winrm-ntlm-tls": winrm(tls, "https", "ntlm", **trusted),
        "winrm-basic-tls": winrm(tls, "https", "basic", **trusted),
        "winrm-by-full-name": winrm(http, "http", "ntlm", ansible_connection="ansible.builtin.winrm"),
        "winrm-templated": winrm(
            http,
            "http",
            "ntlm",
            ansible_host="{{ address }}",
            ansible_password="{{ secret }}",
            secret=PASSWORD,
            address="127.21.0.1",
        ),
        "psrp-ntlm-http": psrp(http, "http", "ntlm"),
        "psrp-negotiate-http": psrp(http, "http", "negotiate"),
        "psrp-ntlm-tls": psrp(tls, "https", "ntlm", **trusted_psrp),
        "psrp-basic-tls": psrp(tls, "https", "basic", **trusted_psrp),
        "psrp-by-full-name": psrp(http, "http", "ntlm", ansible_connection="ansible.builtin.psrp"),
        "winrm-validation-off": winrm(tls, "https", "ntlm", ansible_winrm_server_cert_validation="ignore"),
        "psrp-validation-off": psrp(tls, "https", "ntlm", ansible_psrp_cert_validation="ignore"),
        "winrm-untrusted": winrm(tls, "https", "basic"),
        "psrp-untrusted": psrp(tls, "https", "basic"),
        "winrm-wrong-password": winrm(tap.port, "http", "ntlm", ansible_password=WRONG),
        "psrp-wrong-password": psrp(http, "http", "ntlm", ansible_password=WRONG),
        "winrm-wrong-password-basic": winrm(tls, "https", "basic", ansible_password=WRONG, **trusted),
        "psrp-wrong-password-basic": psrp(tls, "https", "basic", ansible_password=WRONG, **trusted_psrp),
        "winrm-no-rights": winrm(http, "http", "ntlm", ansible_user="viewer", ansible_password=VIEWER),
        "psrp-no-rights": psrp(http, "http", "ntlm", ansible_user="viewer", ansible_password=VIEWER),
        "winrm-no-role": winrm(lab.doors.door("plain01").port, "http", "ntlm", **plain01),
        "psrp-no-role": psrp(lab.doors.door("plain01").port, "http", "ntlm", **plain01),
        "winrm-closed": winrm(closed_port, "http", "ntlm"),
        "psrp-closed": psrp(closed_port, "http", "ntlm"),
        "winrm-basic-http": winrm(untouched.port, "http", "basic"),
        "winrm-plaintext-http": winrm(untouched.port, "http", "plaintext"),
        "winrm-unsealed-http": winrm(untouched.port, "http", "ntlm", ansible_winrm_message_encryption="never"),
        "psrp-basic-http": psrp(untouched.port, "http", "basic"),
        "psrp-unsealed-http": psrp(untouched.port, "http", "ntlm", ansible_psrp_message_encryption="never"),
        "by-ssh": {**common, "ansible_connection": "ssh", "ansible_port": untouched.port},
        "no-connection-at-all": {"ansible_host": "127.21.0.1", "ansible_port": untouched.port},
    }


@dataclasses.dataclass(kw_only=True)
class Survey:
    """The run over all ways, and what its taps saw."""

    run: PlaybookRun
    tap: WireTap
    untouched: WireTap

    def of(self, host: str) -> TaskResult:
        (found,) = self.run.of("disk_info", host)
        return found


@pytest.fixture(scope="module")
def survey(shared_lab: Callable[[str], Lab]) -> Iterator[Survey]:
    with contextlib.ExitStack() as stack:
        lab = shared_lab(WORLD)
        door = lab.doors.door("hv01")
        tap = stack.enter_context(WireTap(door.address, door.port))
        untouched = stack.enter_context(WireTap(door.address, door.port))
        reserved = stack.enter_context(socket.socket())  # bound and not listening: nobody else gets the port
        reserved.bind((door.address, 0))
        closed = reserved.getsockname()[1]
        lab.hosts.clear()
        lab.hosts.update(ways(lab, tap, untouched, closed))
        yield Survey(run=lab.run(play(DISK_INFO), "-vvv", "--forks", "4"), tap=tap, untouched=untouched)


WORKING = (
    "winrm-ntlm-http",
    "winrm-ntlm-tls",
    "winrm-basic-tls",
    "winrm-by-full-name",
    "winrm-templated",
    "psrp-ntlm-http",
    "psrp-negotiate-http",
    "psrp-ntlm-tls",
    "psrp-basic-tls",
    "psrp-by-full-name",
    "winrm-validation-off",
    "psrp-validation-off",
)


@pytest.mark.parametrize("host", WORKING)
def test_a_host_is_reached(survey: Survey, host: str) -> None:
    task = survey.of(host)
    assert task.status == "ok", task.result
    assert {disk["attachment"] for vm in task.result["vms"] for disk in vm["disks"]} == {
        "virtual_hard_disk",
        "pass_through",
    }


REFUSED = {
    "winrm-untrusted": ("certificate", "ansible_winrm_ca_trust_path"),
    "psrp-untrusted": ("certificate", "ansible_psrp_ca_cert"),
    "winrm-wrong-password": ("authentication", "ansible_password"),
    "psrp-wrong-password": ("authentication", "ansible_password"),
    "winrm-wrong-password-basic": ("authentication", "ansible_password"),
    "psrp-wrong-password-basic": ("authentication", "ansible_password"),
    "winrm-no-rights": ("rights_missing", "account of the local group Administrators"),
    "psrp-no-rights": ("rights_missing", "account of the local group Administrators"),
    "winrm-no-role": ("no_hyperv_role", "role"),
    "psrp-no-role": ("no_hyperv_role", "role"),
    "winrm-closed": ("unreachable", "connection refused.*listener"),
    "psrp-closed": ("unreachable", "connection refused.*listener"),
    "winrm-basic-http": ("unencrypted", "clear text.*(ntlm|https)"),
    "winrm-plaintext-http": ("unencrypted", "clear text.*(ntlm|https)"),
    "winrm-unsealed-http": ("unencrypted", "message_encryption"),
    "psrp-basic-http": ("unencrypted", "clear text.*(ntlm|https)"),
    "psrp-unsealed-http": ("unencrypted", "message encryption"),
    "by-ssh": ("not_windows", "connection ssh.*winrm or psrp"),
    "no-connection-at-all": ("not_windows", "connection ssh.*winrm or psrp"),
}


@pytest.mark.parametrize("host", REFUSED)
def test_a_failure_is_one_sentence_with_a_kind(survey: Survey, host: str) -> None:
    kind, words = REFUSED[host]
    result = survey.of(host).result
    assert survey.of(host).status == "failed"
    assert result["error"]["kind"] == kind, result["msg"]
    assert result["error"]["host"] == host
    assert result["changed"] is False
    assert re.search(words, result["msg"]), result["msg"]
    assert len(result["msg"].splitlines()) == 1
    assert not re.search(r"Traceback|Errno|object at 0x|<class", result["msg"])


def test_no_password_is_in_any_output_even_with_vvv(survey: Survey) -> None:
    assert "TASK" in survey.run.output
    for secret in (PASSWORD, VIEWER, WRONG):
        assert secret not in survey.run.output
        assert not [task.host for task in survey.run.tasks if secret in str(task.result)]


def test_a_wrong_password_is_tried_once_so_that_no_account_gets_locked(survey: Survey) -> None:
    assert survey.tap.logons == 1


def test_what_would_go_over_the_wire_in_clear_text_or_by_ssh_is_refused_before_anything_is_sent(survey: Survey) -> None:
    assert survey.untouched.connections == 0


def test_no_failure_of_one_host_touches_another(survey: Survey) -> None:
    assert survey.run.status == 2
    assert {task.host for task in survey.run.failures()} == set(REFUSED)


# -- one channel, and what is repaired -----------------------------------------------------------------------------------


@contextlib.contextmanager
def both_plugins(lab: Lab) -> Iterator[dict[str, WireTap]]:
    """hv01 behind one tap as `winrm` and behind another as `psrp`."""
    with contextlib.ExitStack() as stack:
        door, hv01 = lab.doors.door("hv01"), lab.hosts["hv01"]
        taps = {name: stack.enter_context(WireTap(door.address, door.port)) for name in ("winrm", "psrp")}
        lab.hosts.clear()
        for name, more in (("winrm", {}), ("psrp", PSRP)):
            lab.hosts[name] = {**hv01, **more, "ansible_port": taps[name].port}
        yield taps


def executed(lab: Lab) -> list[tuple[str, str, str]]:
    return [
        (entry.summary.action, entry.summary.class_name, entry.summary.method)
        for entry in rules_of(lab.world).transcript
    ]


def test_all_items_of_a_loop_share_one_connection_and_one_logon(lab: Callable[[str], Lab]) -> None:
    world = lab(WORLD)
    with both_plugins(world) as taps:
        run = world.run(play({**DISK_INFO, "loop": [1, 2, 3]}))
        assert run.status == 0, run.output
        assert {name: (tap.connections, tap.logons) for name, tap in taps.items()} == {"winrm": (1, 1), "psrp": (1, 1)}


def test_a_connection_that_the_server_dropped_meanwhile_is_cured_and_nothing_runs_twice(
    lab: Callable[[str], Lab],
) -> None:
    world = lab(WORLD)
    rules = rules_of(world.world)
    with both_plugins(world) as taps:
        assert world.run(play(DISK_INFO), "--limit", "winrm").status == 0
        undisturbed = executed(world)
        for name, tap in taps.items():
            rules.transcript.clear()
            rules.clear()
            rules.add({"effect": "close", "skip": len(undisturbed) - 1})
            before = tap.connections
            run = world.run(play({**DISK_INFO, "loop": [1, 2], "loop_control": {"pause": 0.3}}), "--limit", name)
            assert run.status == 0, run.output
            assert executed(world) == undisturbed * 2
            # the first one, the one that is refused with HTTP 400 as it has no security context, and the cure
            assert tap.connections - before == 3


OPEN_SET = (
    {"ansible.builtin.include_role": {"name": "hyperv.passthrough.discover"}},
    {
        "hyperv.passthrough.backup_set": {
            "vm": "{{ discover_coverage.vm.id }}",
            "state": "open",
            "host_target": "E:",
            "guest_target": "C:",
            "coverage": "{{ discover_coverage }}",
        },
        "delegate_to": "{{ hyperv_host }}",
    },
)


@pytest.mark.parametrize("plugin", ["winrm", "psrp"])
def test_a_lost_answer_to_an_invoke_is_an_unknown_outcome_and_is_never_sent_again(
    lab: Callable[[str], Lab], plugin: str
) -> None:
    world = lab(WORLD)
    if plugin == "psrp":
        world.hosts["hv01"].update(PSRP)
    # the first one finds no key to write to, the second one writes the claim of the VM's lease
    rules_of(world.world).add({"match": {"method": "^SetStringValue$"}, "effect": "drop_after", "skip": 1})
    run = world.run(play(*OPEN_SET, hosts="hyperv_guests"))
    (failed,) = run.failures()
    assert failed.result["error"] == {"kind": "outcome_unknown", "host": "hv01"}
    assert "not known" in failed.result["msg"]
    assert [method for _unused, _unused, method in executed(world)].count("SetStringValue") == 2
    leases = world.world.machine("hv01").registry.find(HKEY_LOCAL_MACHINE, "SOFTWARE\\hyperv.passthrough\\Leases")
    assert [len(lease.values) for lease in leases.subkeys.values()] == [1]


def test_a_lost_answer_to_a_question_is_asked_for_once_more(lab: Callable[[str], Lab]) -> None:
    world = lab(WORLD)
    rules = rules_of(world.world)
    asked = {"machine": "hv01", "query": "Msvm_ComputerSystem"}
    rules.add({"match": asked, "effect": "drop_after", "count": 1})
    assert world.run(play(DISK_INFO), "--limit", "hv01").status == 0
    rules.add({"match": asked, "effect": "drop_after", "count": 0})
    run = world.run(play(DISK_INFO), "--limit", "hv01")
    (failed,) = run.failures()
    assert failed.result["error"]["kind"] == "reply_lost"
    assert failed.result["msg"].endswith("run again")


# -- names that lead nowhere, and text that YAML changed ----------------------------------------------------------------


def test_a_host_that_is_not_in_the_inventory_is_a_sentence_and_never_an_ssh(lab: Callable[[str], Lab]) -> None:
    world = lab(WORLD)
    world.inventory["all"]["hosts"] = {"jump01": {"ansible_host": "127.21.0.1", "ansible_connection": "ssh"}}
    backup = {
        "vm_id": "{{ discover_coverage.vm.id }}",
        "coverage": "{{ discover_coverage }}",
        "target": "C:",
        "set_id": "0-0-0",
        "lease": "vm-0=0",
    }
    tasks = [
        {**DISK_INFO, "delegate_to": "hv99"},
        {**DISK_INFO, "delegate_to": "jump01"},
        {"hyperv.passthrough.guest_backup": {**backup, "hyperv_host": "hv99"}},
        {"hyperv.passthrough.guest_backup": {**backup, "hyperv_host": "jump01"}},
    ]
    run = world.run(play(OPEN_SET[0], *({**task, "ignore_errors": True} for task in tasks), hosts="hyperv_guests"))
    failed = [task.result for task in run.failures()]
    assert [result["error"]["kind"] for result in failed] == [
        "not_windows",
        "not_windows",
        "unknown_host",
        "not_windows",
    ]
    for result, name in zip(failed, ["hv99", "jump01", "hv99", "jump01"], strict=True):
        assert name in result["msg"]
        assert "inventory" in result["msg"]


def test_a_typo_in_hyperv_host_stops_that_vm_alone_and_says_what_to_correct(lab: Callable[[str], Lab]) -> None:
    world = lab(WORLD)
    world.guests["other01"] = {**world.guests["sql01"], "hyperv_host": "hv10"}
    run = world.run("hyperv.passthrough.discover")
    assert run.status == 2
    assert {task.host for task in run.failures()} == {"other01"}
    assert "hv10 is not a Windows host of this inventory" in run.failures()[-1].result["msg"]
    assert run.of("set_fact", "sql01")


@pytest.mark.parametrize("name", [83, 6e5, True, "83"])
def test_a_vm_name_that_yaml_turned_into_something_else_is_refused(lab: Callable[[str], Lab], name: Any) -> None:
    world = lab(WORLD)
    world.guests["sql01"]["hyperv_vm"] = name
    run = world.run(play(OPEN_SET[0], hosts="hyperv_guests"))
    (failed,) = run.failures()
    if isinstance(name, str):
        assert failed.result["error"]["kind"] == "unknown_vm"
    else:
        assert "quotes" in failed.result["msg"]
        assert executed(world) == []


def test_identities_without_quotes_in_a_task_are_refused_before_anything_is_sent(lab: Callable[[str], Lab]) -> None:
    world = lab(WORLD)
    tasks = [
        {"hyperv.passthrough.disk_info": {"vms": [123]}},
        {"hyperv.passthrough.host_backup": {"vm": 123, "target": "E:", "set_id": "x"}},
        {"hyperv.passthrough.backup_set_info": {"vm_id": 6e5}},
    ]
    run = world.run(play(*({**task, "ignore_errors": True} for task in tasks)), "--limit", "hv01")
    assert [task.result["error"]["kind"] for task in run.failures()] == ["unquoted_identity"] * 3
    assert 'quote it: vms: "123"' in run.failures()[0].result["msg"]
    assert executed(world) == []


def test_become_is_ignored_and_said_so(lab: Callable[[str], Lab]) -> None:
    run = lab(WORLD).run(play(DISK_INFO, become=True, become_user="SYSTEM"), "--limit", "hv01")
    assert run.status == 0, run.output
    assert "become is ignored" in " ".join(run.output.split())


# -- the main job ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plugin", ["winrm", "psrp"])
def test_the_main_job_with_options_given_as_texts_and_templated_credentials(
    lab: Callable[[str], Lab], plugin: str
) -> None:
    world = lab(WORLD)
    for machine in (*world.hosts.values(), *world.guests.values()):
        machine.update(PSRP if plugin == "psrp" else {})
        machine.update(secret=machine["ansible_password"], ansible_password="{{ secret }}")
    options = {
        "host_target": "E:",
        "guest_target": "C:",
        "poll_interval": "0",
        "allow_offline": "false",
        "copy_beside_backup": "false",
        "max_skew": "7200",
        "accept_gaps": "guest_unverified,SCSI 7:7",
        "sentinels": "S:\\none.txt",
    }
    extra = [word for name, value in options.items() for word in ("-e", f"two_phase_backup_{name}='{value}'")]
    run = world.run("hyperv.passthrough.two_phase_backup", *extra)
    assert run.status == 0, run.output
    record = run.of("backup_set", "sql01")[-1].result["set"]
    assert record["state"] == "good"
    assert record["copies"] == []
    # while the guest's job runs, its task looks after the lease on the host, with the host's own account
    seen = [entry.summary for entry in rules_of(world.world).transcript]
    started = next(at for at, item in enumerate(seen) if item.machine == "sql01" and item.method in STARTS)
    last = max(at for at, item in enumerate(seen) if item.machine == "sql01")
    assert "hv01" in {item.machine for item in seen[started:last]}


def test_check_mode_of_the_main_job_with_diff_leaves_the_world_as_it_was(lab: Callable[[str], Lab]) -> None:
    world = lab(WORLD)
    before = world.world.digests()
    targets = ("-e", "two_phase_backup_host_target=E:", "-e", "two_phase_backup_guest_target=C:")
    run = world.run("hyperv.passthrough.two_phase_backup", *targets, "--check", "--diff")
    assert run.status == 0, run.output
    assert world.world.digests() == before
    assert world.world.machine("hv01").registry.find(HKEY_LOCAL_MACHINE, "SOFTWARE\\hyperv.passthrough") is None
    assert run.of("host_backup")[-1].result["planned"] is True
