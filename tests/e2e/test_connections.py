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
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playbook_run import PlaybookRun, TaskResult
from wire_tap import WireTap

pytestmark = [pytest.mark.e2e, pytest.mark.core]

PASSWORD = "C0rrect-Horse-Battery"
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
      - {{slot: "scsi 0:0", vhd: 'D:\\VMs\\sql01\\os.vhdx', size: 8M}}
      - {{slot: "scsi 0:1", lun: data1}}
    guest:
      address: 127.21.1.1
      disks:
        - slot: "scsi 0:0"
          partitions:
            - {{letter: C, label: Windows, boot: true, files: {{count: 2, size: 16K}}}}
"""

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
        with WireTap(door.address, door.port) as gone:
            closed = gone.port
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
