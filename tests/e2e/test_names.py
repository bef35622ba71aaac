# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""VMs of any name: found by it, shown as it is, never taken for a template, and backed up whole.

The world `awkward` is backed up in test_extra_worlds.py; here is one small host with many names.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from backup_proof import prove
from playbook_run import PlaybookRun, Unsafe

pytestmark = [pytest.mark.e2e, pytest.mark.core]

NAMES = {
    "spaces": "  two  spaces ",
    "quotes": 'it\'s "quoted" `here`',
    "comma": "a, b; c=d",
    "percent": "100% %TEMP% ^& | more",
    "backslash": "C:\\vm\\new \\\\server",
    "umlauts": "Größe ÄÖÜ ß é",
    "cjk": "仮想マシン 虚拟机",
    "jinja": "{{ 7*7 }}",
    "raw": "{% raw %} {# comment #}",
    "lookup": "{{ lookup('pipe', 'echo broken') }}",
    "like": "50_x [a] LIKE '%'",
    "number": "0123",
    "mixed": 'it\'s "all", 100% & \\ Ü 仮',
}
BACKED_UP = ("mixed", "lookup")


def world_of(names: dict[str, str]) -> str:
    """A host with one VM of each name; those that are backed up have a guest and a pass-through disk."""
    luns, vms = [], []
    for number, (key, name) in enumerate(names.items()):
        vm: dict[str, Any] = {
            "name": name,
            "host": "hv01",
            "disks": [{"slot": "scsi 0:0", "vhd": f"D:\\VMs\\{key}\\os.vhdx", "size": "12M"}],
        }
        if key in BACKED_UP:
            luns.append({"id": key, "size": "12M", "bus": "iscsi"})
            vm["disks"].append({"slot": "scsi 0:1", "lun": key})
            vm["guest"] = {
                "name": key,
                "address": f"127.61.1.{number + 1}",
                "disks": [
                    {"slot": "scsi 0:0", "partitions": [{"letter": "C", "boot": True}]},
                    {"slot": "scsi 0:1", "partitions": [{"letter": "S", "label": "Data", "tree": {"a.txt": name}}]},
                ],
            }
        vms.append(vm)
    twins = [
        {
            "name": "twin",
            "host": "hv01",
            "disks": [{"slot": "scsi 0:0", "vhd": f"D:\\VMs\\twin{n}\\os.vhdx", "size": "4M"}],
        }
        for n in (1, 2)
    ]
    volumes = [{"letter": "C", "size": "80G"}, {"letter": "D", "size": "80G"}, {"letter": "E", "size": "80G"}]
    host = {"name": "hv01", "address": "127.61.0.1", "volumes": volumes, "luns": list(BACKED_UP)}
    return yaml.safe_dump(
        {"name": "names", "clock": "2026-10-01T20:00:00Z", "luns": luns, "hosts": [host], "vms": [*vms, *twins]},
        allow_unicode=True,
        sort_keys=False,
    )


@pytest.fixture(scope="module")
def names(shared_lab: Callable[..., Any]) -> Any:
    """The world, and an inventory that names every VM by its name, marked as no template where it looks like one."""
    made = shared_lab(world_of(NAMES))
    by_id = {vm.id: vm.name for vm in made.world.vms}
    guests = {}
    for key, name in NAMES.items():
        (entry,) = [one for one in made.guests.values() if by_id.get(one["hyperv_vm"], one["hyperv_vm"]) == name]
        guests[key] = {**entry, "hyperv_vm": Unsafe(name) if "{" in name else name}
    made.inventory["all"]["children"]["hyperv_guests"]["hosts"] = {
        **guests,
        "twin": {"hyperv_host": "hv01", "hyperv_vm": "twin"},
    }
    made.inventory["all"]["vars"] = {
        "two_phase_backup_host_target": "E:",
        "two_phase_backup_guest_target": "C:",
        "two_phase_backup_poll_interval": 0,
    }
    return made


@pytest.fixture(scope="module")
def discovery(names: Any) -> PlaybookRun:
    done: PlaybookRun = names.run("hyperv.passthrough.discover", "--forks", "4")
    return done


def test_every_name_finds_its_vm_and_comes_back_as_it_is(discovery: PlaybookRun) -> None:
    found = {
        task.host: task.result["ansible_facts"]["discover_coverage"]["vm"]["name"]
        for task in discovery.tasks
        if "discover_coverage" in (task.result.get("ansible_facts") or {})
    }
    assert found == NAMES


def test_names_are_on_the_screen_as_they_are(discovery: PlaybookRun) -> None:
    failed = {
        task.host: task.result["msg"] for task in discovery.failures() if task.task.startswith("Fail for each VM")
    }
    for key in set(NAMES) - set(BACKED_UP):
        assert failed[key].startswith(f"VM '{NAMES[key]}': ")
        shown = (NAMES[key], json.dumps(NAMES[key], ensure_ascii=False)[1:-1])  # an older core shows JSON only
        assert any(f"VM '{one}': " in discovery.output for one in shown)
    assert "VM '49'" not in discovery.output
    assert "VM 'broken'" not in discovery.output


def test_two_vms_of_one_name_are_refused_with_both_guids(names: Any, discovery: PlaybookRun) -> None:
    (refused,) = discovery.of("disk_info", "twin")
    ids = sorted(vm.id for vm in names.world.vms if vm.name == "twin")
    assert refused.result["error"]["kind"] == "ambiguous_vm"
    assert sorted(one["id"] for one in refused.result["error"]["candidates"]) == ids
    assert all(one in refused.result["msg"] for one in ids)
    assert "give the GUID" in refused.result["msg"]


def test_a_guid_tells_two_vms_of_one_name_apart(names: Any) -> None:
    (vm, _other) = [vm for vm in names.world.vms if vm.name == "twin"]
    play = {
        "hosts": "hv01",
        "gather_facts": False,
        "tasks": [{"hyperv.passthrough.disk_info": {"vms": ["{" + vm.id.lower() + "}"]}}],
    }
    run = names.run([play])
    assert run.status == 0, run.output
    assert [found["id"] for found in run.of("disk_info")[0].result["vms"]] == [vm.id]


@pytest.mark.gates
def test_vms_of_awkward_names_are_backed_up_in_both_phases(names: Any) -> None:
    run = names.run("hyperv.passthrough.two_phase_backup", "--limit", ",".join(BACKED_UP))
    assert run.status == 0, run.output
    for key in BACKED_UP:
        record = run.of("backup_set", key)[-1].result["set"]
        assert (record["state"], record["vm"]["name"]) == ("good", NAMES[key])
        proof = prove(names.world, record)
        assert [item.kind for item in proof] == ["virtual hard disk", "volume"]
        assert [item for item in proof if not item.is_proven] == []
    (summary,) = [task.result["msg"] for task in run.tasks if task.task.startswith("What each backup holds")]
    for key in BACKED_UP:
        assert [line for line in summary if f"of VM {NAMES[key]} is good" in line]
