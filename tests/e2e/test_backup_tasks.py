# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hooks around the two snapshots, the backup tasks one by one, and what a backup leaves behind (copies, no password)."""

from __future__ import annotations

import ast
import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pytest
import yaml

import backup_scene as scene
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.set_copy import parse_reg_export
from backup_scene import LEASE_S, Scene, error_of, hook_files, sentence_of, world_text
from simulator.windows_backup import Failure

pytestmark = pytest.mark.e2e


@pytest.fixture
def here(lab: Callable[..., Any]) -> Scene:
    return Scene(lab(world_text()))


@pytest.fixture
def hooks(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    return hook_files(tmp_path)


# -- hooks -----------------------------------------------------------------------------------------------------------


def test_a_relative_hook_is_refused_before_anything_is_done(here: Scene) -> None:
    run = here.backup(quiesce_tasks="hooks/quiesce.yml")
    assert run.status == 2
    assert "hooks/quiesce.yml is a relative path" in sentence_of(run)
    assert here.sets() == []
    assert here.leases() == {}


def test_hooks_may_be_roles_and_wrap_both_snapshots(here: Scene, hooks: Any, tmp_path: Path) -> None:
    log, files = hooks
    for name in ("quiesce", "unquiesce"):
        role = tmp_path / "roles" / f"{name}_erp" / "tasks"
        role.mkdir(parents=True)
        (role / "main.yml").write_text(Path(files[f"{name}_tasks"]).read_text())
    during: list[str] = []
    here.at({"method": "StartByPath"}, lambda _machine: during.append(log.read_text()), count=0)
    environment = {"ANSIBLE_ROLES_PATH": str(tmp_path / "roles")}
    run = here.backup(quiesce_tasks="quiesce_erp", unquiesce_tasks="unquiesce_erp", run={"environment": environment})
    assert run.status == 0, run.output
    assert log.read_text().split() == ["quiesce", "unquiesce"]
    begun = [text.split() for text in during]
    assert begun[:3] == [["quiesce"]] * 3  # the guest's job, the listing of its version, the host's job
    record = here.record()
    assert record["hooks"]["used"] is True
    assert record["hooks"]["quiesced"] is False
    assert record["hooks"]["quiesced_at"] <= record["phases"]["guest"]["attempts"][0]["snapshot_time"]
    assert not [reason for reason in record["reasons"] if "not one point in time" in reason]


def test_an_unquiesce_hook_runs_even_without_a_quiesce_hook(here: Scene, hooks: Any) -> None:
    log, settings = hooks
    run = here.backup(unquiesce_tasks=settings["unquiesce_tasks"])
    assert run.status == 0, run.output
    assert log.read_text().split() == ["unquiesce"]
    assert here.record()["state"] == "good"


@pytest.mark.parametrize("where", ["sql01", "hv01"])
def test_applications_are_started_again_when_a_phase_fails(here: Scene, hooks: Any, where: str) -> None:
    log, settings = hooks
    here.world.machine(where).backup.fail_next = Failure()
    run = here.backup(**settings)
    assert run.status == 2
    assert error_of(run)["kind"] == "backup_failed"
    phase = "guest" if where == "sql01" else "host"
    (attempt,) = here.record()["phases"][phase]["attempts"]
    assert (attempt["outcome"], attempt["error"]["kind"]) == ("failed", "backup_failed")
    assert attempt["evidence"]["hresult"] == "0x807800C5"
    assert log.read_text().split() == ["quiesce", "unquiesce"]
    record = here.record()
    assert record["state"] == "failed"
    assert record["hooks"]["quiesced"] is False
    assert here.leases() == {}


def test_applications_are_started_again_when_stopping_them_fails_half_way(here: Scene, hooks: Any) -> None:
    log, settings = hooks
    quiesce = Path(settings["quiesce_tasks"])
    tasks = json.loads(quiesce.read_text())
    quiesce.write_text(json.dumps([*tasks, {"name": "Break", "ansible.builtin.fail": {"msg": "the ERP did not stop"}}]))
    run = here.backup(**settings)
    assert run.status == 2
    assert "the ERP did not stop" in sentence_of(run)
    assert log.read_text().split() == ["quiesce", "unquiesce"]
    assert here.record()["state"] == "failed"
    assert here.record()["hooks"]["quiesced"] is False
    assert here.starts(here.guest) == here.starts(here.host) == []


@pytest.mark.gates
def test_applications_that_do_not_start_again_are_said_and_tried_again_by_the_next_run(here: Scene, hooks: Any) -> None:
    log, settings = hooks
    unquiesce = Path(settings["unquiesce_tasks"])
    good = unquiesce.read_text()
    unquiesce.write_text(json.dumps([{"name": "Break", "ansible.builtin.fail": {"msg": "no licence"}}]))
    run = here.backup(**settings)
    assert run.status == 2
    assert "could not be started again: no licence" in sentence_of(run)
    first = here.record()
    assert (first["state"], first["hooks"]["quiesced"]) == ("degraded", True)
    assert here.leases() == {}
    unquiesce.write_text(good)
    again = here.backup(**settings)
    assert again.status == 0, again.output
    assert log.read_text().split() == ["quiesce", "unquiesce", "quiesce", "unquiesce"]
    assert [item["hooks"]["quiesced"] for item in here.sets()] == [False, False]


def test_a_hook_that_takes_longer_than_a_lease_lives_does_not_end_the_run(here: Scene, hooks: Any) -> None:
    _log, settings = hooks
    passed: list[float] = []

    def long_hook(_machine: Any) -> None:
        if not passed and here.sets() and here.record()["hooks"]["quiesced"]:
            passed.append(here.world.clock.advance(LEASE_S * 3))

    here.at({"machine": "hv01"}, long_hook, when="after", count=0)
    run = here.backup(**settings)
    assert run.status == 0, run.output
    assert passed
    assert here.record()["state"] == "good"
    assert here.leases() == {}


# -- tasks one by one ------------------------------------------------------------------------------------------------

_PLAN: list[dict[str, Any]] = [
    {
        "hyperv.passthrough.disk_info": {"vms": ["{{ hyperv_vm }}"], "include_vhd_details": True},
        "delegate_to": "{{ hyperv_host }}",
        "register": "seen",
        "check_mode": False,
    },
    {"hyperv.passthrough.guest_disk_info": {}, "register": "guest", "check_mode": False},
    {
        "ansible.builtin.set_fact": {
            "plan": "{{ seen.vms[0] | hyperv.passthrough.coverage(host=seen.host, guest=guest) }}"
        }
    },
]


def _opened(**options: Any) -> dict[str, Any]:
    given = {
        "vm": "{{ hyperv_vm }}",
        "state": "open",
        "set_id": "by-hand",
        "coverage": "{{ plan }}",
        "host_target": "E:",
    }
    return {
        "hyperv.passthrough.backup_set": {**given, "guest_target": "B:", **options},
        "delegate_to": "{{ hyperv_host }}",
        "register": "opened",
    }


def _guest(name: str = "guest_phase", **options: Any) -> dict[str, Any]:
    given = {"vm_id": "{{ plan.vm.id }}", "coverage": "{{ plan }}", "target": "B:", "set_id": "by-hand"}
    return {
        "hyperv.passthrough.guest_backup": {**given, "poll_interval": 0, "hyperv_host": "{{ hyperv_host }}", **options},
        "register": name,
    }


def _host(name: str = "host_phase", **options: Any) -> dict[str, Any]:
    given = {"vm": "{{ plan.vm.id }}", "coverage": "{{ plan }}", "target": "E:", "set_id": "by-hand"}
    return {
        "hyperv.passthrough.host_backup": {**given, "poll_interval": 0, **options},
        "delegate_to": "{{ hyperv_host }}",
        "register": name,
    }


def _recorded(phase: str, result: str) -> dict[str, Any]:
    options = {"vm": "{{ plan.vm.id }}", "state": "recorded", "set_id": "by-hand", "phase": phase}
    return {
        "hyperv.passthrough.backup_set": {**options, "result": "{{ " + result + " }}"},
        "delegate_to": "{{ hyperv_host }}",
    }


def _closed(**options: Any) -> dict[str, Any]:
    given = {"vm": "{{ plan.vm.id }}", "state": "closed", "set_id": "by-hand", "coverage": "{{ plan }}"}
    return {
        "hyperv.passthrough.backup_set": {**given, **options},
        "delegate_to": "{{ hyperv_host }}",
    }


def _play(*tasks: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"hosts": "hyperv_guests", "gather_facts": False, "tasks": [*_PLAN, *tasks]}]


def test_jobs_that_are_not_waited_for_are_attached_to_and_every_second_call_changes_nothing(here: Scene) -> None:
    tasks = [
        _opened(),
        _opened(lease="{{ opened.lease }}"),
        _guest("guest_begun", wait=False),
        _host("host_begun", wait=False),
        _recorded("guest", "guest_begun"),
        _guest(),
        _host(),
        _guest("guest_again"),
        _host("host_again"),
        _recorded("guest", "guest_phase"),
        _recorded("guest", "guest_phase"),
        _recorded("guest", "guest_again"),
        _recorded("host", "host_phase"),
        _recorded("host", "host_phase"),
        _closed(lease="{{ opened.lease }}"),
        _closed(),
        _opened(),
    ]
    run = here.lab.run(_play(*tasks))
    assert run.status == 0, run.output
    ours = [task for task in run.tasks if task.action.endswith(("backup", "backup_set"))]
    changed = [task.result["changed"] for task in ours]
    assert changed == [
        *(True, False),
        *(True, True, True),
        *(False, False, False, False),
        *(True, False, False),
        *(True, False),
        *(True, False),
        False,
    ]
    begun, ended = ours[2].result, ours[5].result
    assert begun["job"]["state"] in ("pending", "running")
    assert begun["version"] is begun["result"] is None
    assert (ended["job"]["attached"], ended["job"]["state"]) == (True, "succeeded")
    assert ended["version"] == here.versions(here.guest)[0].version_id
    assert here.record()["state"] == "good"
    for machine in (here.guest, here.host):
        assert len(here.starts(machine)) == len(here.versions(machine)) == 1


def test_check_mode_returns_every_documented_key_and_says_that_it_is_a_plan(here: Scene) -> None:
    before = here.world.digests()
    closing = _closed()
    run = here.lab.run(_play(_opened(), _guest(), _host(), _recorded("host", "host_phase"), closing), "--check")
    assert run.status == 0, run.output
    ours = [task for task in run.tasks if task.action.endswith(("backup", "backup_set"))]
    assert len(ours) == 5
    for task in ours:
        documented = yaml.safe_load(_returns(task.action.rpartition(".")[2]))
        assert set(documented) - set(task.result) == set(), task.action
        assert task.result["planned"] is True
        assert task.result["changed"] is True
    assert here.world.digests() == before
    assert here.sets() == []
    assert here.tasks(here.host) == here.tasks(here.guest) == []


def _returns(task: str) -> str:
    """The RETURN text of a task's documentation."""
    source = (Path(__file__).resolve().parents[2] / "plugins" / "modules" / f"{task}.py").read_text()
    (found,) = [
        node.value.value
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and node.targets[0].id == "RETURN"
    ]
    return str(found)


# -- what is left behind -----------------------------------------------------------------------------------------------


def test_the_copies_hold_the_record_and_no_password_is_anywhere(here: Scene, tmp_path: Path) -> None:
    secret = "Gehe1m&<'x\\y"  # not in any other text
    for machine in (here.host, here.guest):
        machine.accounts["Administrator"].password = secret
    for entry in (here.lab.hosts["hv01"], here.lab.guests["sql01"]):
        entry["ansible_password"] = secret
    run = here.backup("-vvv", "--diff", controller_copy=str(tmp_path / "copies"))
    assert run.status == 0, run.output
    record = here.record()
    volume, below = here.host.resolve(f"E:\\hyperv.passthrough\\{record['set_id']}.reg")
    content = volume.files.open(below)
    beside = parse_reg_export(content.read_at(0, content.size)).to_dict()
    assert beside["state"] == "good"
    on_controller = json.loads((tmp_path / "copies" / f"{record['set_id']}.json").read_text())
    changing = ("revision", "updated", "copies")
    for copy in (beside, on_controller):
        assert {k: v for k, v in copy.items() if k not in changing} == {
            k: v for k, v in record.items() if k not in changing
        }
    texts = {"output": run.output, "results": json.dumps([task.result for task in run.tasks])}
    for machine in (here.host, here.guest):
        texts[f"{machine.name} events"] = "".join(
            event.xml() + event.message
            for name in machine.event_log.channel_names()
            for event in machine.event_log.query(name)
        )
        texts[f"{machine.name} tasks"] = repr([vars(task.definition) for task in machine.scheduler.tasks()])
        texts[f"{machine.name} registry"] = machine.registry.export_reg(scene.HKLM, "SOFTWARE")
        texts[f"{machine.name} processes"] = "".join(process.command_line for process in machine.processes)
        texts[f"{machine.name} files"] = "".join(_job_files(machine))
    assert "hyperv.passthrough" in texts["hv01 files"] + texts["hv01 tasks"]
    shapes = {secret, json.dumps(secret)[1:-1], escape(secret), base64.b64encode(secret.encode()).decode()}
    assert {name for name, text in texts.items() for shape in shapes if shape in text} == set()


def _job_files(machine: Any) -> Iterator[str]:
    for folder in ("C:\\ProgramData\\hyperv.passthrough", "C:\\Windows\\Logs"):
        volume, below = machine.resolve(folder)
        if volume.files.exists(below):
            for entry in volume.files.walk(below):
                if not entry.is_directory:
                    content = volume.files.open(entry.path)
                    yield content.read_at(0, content.size).decode("utf-8", "replace").replace("\0", "")
