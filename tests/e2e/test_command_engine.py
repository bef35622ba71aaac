# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plain script of examples/command on both sides: a two-phase backup with it, and a reverse restore from that, by bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from backup_scene import set_of, world_text
from restore_scene import Restored, lose
from simulator.mishaps import mishap

pytestmark = pytest.mark.e2e

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "command"
SCRIPT = r"C:\Tools\windows_server_backup.cmd"


def test_a_plain_script_backs_up_on_both_sides_and_brings_everything_back(lab: Callable[[str], Any]) -> None:
    # Windows makes no GPT on less than 128 MiB
    here = Restored(lab(world_text().replace("id: sql01-data, size: 24M", "id: sql01-data, size: 136M")))
    script = (EXAMPLES / "windows_server_backup.cmd").read_text(encoding="ascii").replace("\n", "\r\n")
    for machine in ("hv01", "sql01"):
        mishap(here.world, "write_file", machine=machine, path=SCRIPT, text=script)
    options = yaml.safe_load((EXAMPLES / "windows_server_backup.yml").read_text(encoding="utf-8"))
    given = {name.removeprefix("two_phase_backup_"): value for name, value in options.items()}
    run = here.backup(**given)
    assert run.status == 0, run.output
    made = set_of(run)
    assert made["state"] == "good"
    assert [made["phases"][phase]["attempts"][0]["engine"] for phase in ("guest", "host")] == ["command", "command"]

    trees, images, at_boot = here.trees(), here.images(), dict[str, str]()
    lose(here)
    mishap(here.world, "overwrite_lun", lun="sql01-data")
    # the disk that Windows boots from changes as soon as it runs, so that it is judged at the moment the VM is started
    here.at({"machine": "hv01", "method": "RequestStateChange"}, lambda _machine: at_boot.update(here.images()))
    run = here.restore()
    assert run.status == 0, run.output
    assert here.trees()["sql01:S"] == trees["sql01:S"]
    assert at_boot == images
    assert here.world.check() == []
    assert here.record()["state"] == "restored"


# The operator's roles: their "product" is Windows Server Backup by our own tasks, its catalogue a file on the controller.
ROLES = {
    "product_start": """
- hyperv.passthrough.guest_backup:
    vm_id: "{{ discover_coverage.vm.id }}"
    target: "{{ command_engine_request.target }}"
    coverage: "{{ discover_coverage }}"
    set_id: "{{ command_engine_request.run_id | replace('.', '-') }}"
    poll_interval: 0
  register: product_guest
  when: command_engine_request.phase == 'guest'
- hyperv.passthrough.host_backup:
    vm: "{{ discover_coverage.vm.id }}"
    target: "{{ command_engine_request.target }}"
    coverage: "{{ discover_coverage }}"
    set_id: "{{ command_engine_request.run_id | replace('.', '-') }}"
    poll_interval: 0
  delegate_to: "{{ hyperv_host }}"
  register: product_host
  when: command_engine_request.phase == 'host'
- ansible.builtin.set_fact:
    product_made: "{{ product_guest.result if command_engine_request.phase == 'guest' else product_host.result }}"
- ansible.builtin.set_fact:
    product_written: "{{ lookup('ansible.builtin.pipe', 'printf %s ' ~ (row | to_json | quote) ~ ' > ' ~ file) }}"
    command_engine_answer:
      run_id: "{{ command_engine_request.run_id }}"
      version: "{{ product_made.version }}"
      snapshot_time: "{{ product_made.snapshot_time }}"
  vars:
    file: "{{ product_catalogue }}/{{ command_engine_request.phase }}"
    row:
      version: "{{ product_made.version }}"
      items: "{{ command_engine_request['items'] }}"
      run_id: "{{ command_engine_request.run_id }}"
""",
    "product_list": """
- ansible.builtin.set_fact:
    command_engine_answer:
      versions: ["{{ lookup('ansible.builtin.file', product_catalogue ~ '/' ~ command_engine_request.phase) | from_json }}"]
""",
    "product_restore": """
- vars:
    half: "{{ command_engine_request.phase }}"
    made: "{{ reverse_restore_chosen.chosen.phases[half].attempts[0] | combine({'engine': 'wsb', 'engine_options': {}}) }}"
    product_set: "{{ reverse_restore_chosen.chosen | combine({'phases': {half: {'attempts': [made]}}}, recursive=true) }}"
  block:
    - hyperv.passthrough.host_restore:
        vm: "{{ command_engine_request.item }}"
        set: "{{ product_set }}"
        restore_id: product
        poll_interval: 0
      delegate_to: "{{ hyperv_host }}"
      when: command_engine_request.kind == 'vm'
    - hyperv.passthrough.guest_restore:
        vm_id: "{{ command_engine_request.vm_id }}"
        set: "{{ product_set }}"
        restore_id: product
        poll_interval: 0
      when: command_engine_request.kind == 'volume'
- ansible.builtin.set_fact:
    command_engine_answer: {run_id: "{{ command_engine_request.run_id }}", version: "{{ command_engine_request.version }}"}
""",
}


@pytest.mark.gates
def test_roles_of_the_operator_back_up_on_both_sides_and_bring_everything_back(
    lab: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, tasks in ROLES.items():
        (tmp_path / "roles" / name / "tasks").mkdir(parents=True)
        (tmp_path / "roles" / name / "tasks" / "main.yml").write_text(tasks, encoding="utf-8")
    monkeypatch.setenv("ANSIBLE_ROLES_PATH", str(tmp_path / "roles"))
    here = Restored(lab(world_text().replace("id: sql01-data, size: 24M", "id: sql01-data, size: 136M")))
    options = {"roles": {action: f"product_{action}" for action in ("start", "list", "restore")}}
    catalogue = ["-e", f"product_catalogue={tmp_path}"]
    given = {f"{phase}_engine": "command" for phase in ("guest", "host")}
    given |= {f"{phase}_engine_options": options for phase in ("guest", "host")}
    run = here.backup(*catalogue, **given)
    assert run.status == 0, run.output
    assert set_of(run)["state"] == "good"
    trees = here.trees()
    lose(here)
    mishap(here.world, "overwrite_lun", lun="sql01-data")
    run = here.restore(*catalogue)
    assert run.status == 0, run.output
    assert here.trees()["sql01:S"] == trees["sql01:S"]
    assert here.trees()["sql01:B"] == trees["sql01:B"]
    assert here.world.check() == []
    assert here.record()["state"] == "restored"
