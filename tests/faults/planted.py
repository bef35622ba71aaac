# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Proves that the enumeration can fail: puts faults into a scratch copy of the collection and breaks the scenario there.

Responsible for: the copies, the faults, and that each is caught. Not responsible for: the enumeration itself, which runs as it
always does, out of the copy. A fault is a piece of text of the product and what it is replaced by; a piece that is not found
is an error, so that a fault cannot quietly stop being one.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Planted:
    """A fault: in `file`, `old` becomes `new`; `arguments` choose the cases that are run.

    One is harmless when a second layer of the product holds: a task that runs is not started again (MultipleInstancesPolicy),
    a run's folder is made only once, and values in the registry are the same when they are written twice.
    """

    name: str
    text: str
    changes: tuple[tuple[str, str, str], ...]
    arguments: tuple[str, ...]
    scenario: str = "two_phase_backup"
    is_harmless: bool = False


PLANTED: tuple[Planted, ...] = (
    Planted(
        name="good_before_host",
        text="the set is marked good before the host phase",
        changes=(
            (
                "plugins/plugin_utils/_backup/backup_set.py",
                "        if attempt is None:\n            failed.append(_why_missing(item, phase))\n            continue\n",
                "        if attempt is None:\n            if phase == 'guest':\n"
                "                failed.append(_why_missing(item, phase))\n            continue\n",
            ),
            (
                "plugins/plugin_utils/_backup/set_recording.py",
                "    done = not what_is_left(item).phases\n",
                "    done = all(todo.phase == 'host' for todo in what_is_left(item).phases)\n",
            ),
        ),
        arguments=("--effect", "fault", "--passes", "changes"),
    ),
    Planted(
        name="no_lease_check",
        text="nobody asks whether the lease is still held",
        changes=(
            (
                "plugins/plugin_utils/_guard.py",
                "        self._claims = [self._leases.keep(claim) for claim in self._claims]",
                "        return",
            ),
            (
                "plugins/plugin_utils/_guard.py",
                "            claim = self._attached(name, token)\n            if claim.is_held:",
                "            claim = Claim(name=name, token=token, owner=self._owner(), ticket='', state='held')\n"
                "            if claim.is_held:",
            ),
        ),
        arguments=(
            "--effect",
            "overtaken",
            "--effect",
            "two_at_once",
            "--passes",
            "changes",
            "--passes",
            "two at changes",
        ),
    ),
    Planted(
        name="never_attached",
        text="a rerun counts its attempts anew, so that it does not find the job that runs",
        changes=(
            (
                "plugins/plugin_utils/_backup/backup_set.py",
                "    number = len(attempts) + 1\n",
                "    number = len(attempts) + max(1, item.revision)\n",
            ),
        ),
        arguments=("--effect", "killed", "--passes", "changes"),
    ),
    Planted(
        name="resend",
        text="a method whose reply was lost is called again (harmless here: a second layer of the product holds)",
        is_harmless=True,
        changes=(
            (
                "plugins/plugin_utils/_wsman/client.py",
                "    def _act(",
                "    def _act(self, *given, **more):\n"
                "        try:\n"
                "            return self._act_once(*given, **more)\n"
                "        except OutcomeUnknown:\n"
                "            return self._act_once(*given, **more)\n"
                "\n"
                "    def _act_once(",
            ),
        ),
        arguments=("--effect", "drop_after", "--effect", "timeout_after", "--passes", "changes"),
    ),
    Planted(
        name="start_before_remap",
        text="the restored VM is started before its pass-through disk is remapped",
        scenario="reverse_restore_kept",
        changes=(
            (
                "roles/reverse_restore/tasks/host_phase.yml",
                "- name: Attach every pass-through disk where it was, by its identity\n",
                "- name: Start the VM\n"
                "  hyperv.passthrough.vm_state:\n"
                '    vm: "{{ reverse_restore_plan.vm.id }}"\n'
                "    state: running\n"
                '    lease: "{{ reverse_restore_lease }}"\n'
                '  delegate_to: "{{ hyperv_host }}"\n'
                "\n"
                "- name: Attach every pass-through disk where it was, by its identity\n",
            ),
        ),
        arguments=("--effect", "killed", "--passes", "changes"),
    ),
    Planted(
        name="no_identity_check",
        text="a LUN is attached by the number that its disk had, and nobody looks whether it is that LUN",
        scenario="reverse_restore_kept",
        changes=(
            (
                "plugins/plugin_utils/_hyperv/passthrough.py",
                "    return _prove(client, look_until(look, hands, what=what), slot, lun, hands)\n",
                "    return _required(look_until(look, hands, what=what), slot)\n",
            ),
            (
                "plugins/plugin_utils/_hyperv/passthrough.py",
                "    plan.check()\n    if not plan.steps:\n        return _required(view, slot)\n    drive",
                "    if not plan.steps:\n        return _required(view, slot)\n    drive",
            ),
        ),
        arguments=("--effect", "restart_host", "--effect", "restart_host_down", "--passes", "changes"),
    ),
)


def scratch(planted: Planted, folder: Path) -> Path:
    """A copy of the tracked files with the fault in it; the collections path that leads to it."""
    copy = folder / planted.name / "ansible_collections" / "hyperv" / "passthrough"
    shutil.rmtree(folder / planted.name, ignore_errors=True)
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    for file, old, new in planted.changes:
        text = (copy / file).read_text(encoding="utf-8")
        if text.count(old) != 1:
            raise AssertionError(f"{planted.name}: {file} has {text.count(old)} times what the fault replaces: {old!r}")
        (copy / file).write_text(text.replace(old, new), encoding="utf-8")
    return copy


def run(planted: Planted, folder: Path, *more: str) -> dict[str, object]:
    """Enumerate in the scratch copy: how many cases there were, and how many of them are wrong."""
    copy = scratch(planted, folder)
    results = folder / f"{planted.name}.jsonl"
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(folder / planted.name),
        "PYTHONPATH": str(copy / "tests"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "-m", "faults", "--results", str(results), "--scenario", planted.scenario]
    done = subprocess.run(
        [*command, *planted.arguments, *more], cwd=copy, env=environment, check=False, capture_output=True, text=True
    )
    found = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    wrong = [one for one in found if one["findings"]]
    if wrong:
        first = wrong[0]
        example = f"`{first['effect']}/{first['number']}` {first['what']}: {first['findings'][0][:200]}"
    else:
        example = (done.stdout + done.stderr).strip().splitlines()[-1][:300] if not found else ""
    caught = f"{len(wrong)} of {len(found)}" if found else "the undisturbed run" if done.returncode == 2 else "nothing"
    return {
        "fault": planted.name,
        "text": planted.text,
        "scenario": planted.scenario,
        "cases": len(found),
        "caught": caught,
        "example": example,
        "is_caught": bool(wrong) or done.returncode == 2,
        "is_harmless": planted.is_harmless,
    }


def main(folder: Path, names: list[str], remembered: Path, *more: str) -> list[dict[str, object]]:
    """Try them one by one; each is remembered as soon as it has been tried, beside those of earlier runs."""
    known = json.loads(remembered.read_text(encoding="utf-8")) if remembered.exists() else []
    by_name = {one["fault"]: one for one in known}
    found = []
    for planted in PLANTED:
        if not names or planted.name in names:
            found.append(run(planted, folder, *more))
            by_name[planted.name] = found[-1]
            rows = [by_name[one.name] for one in PLANTED if one.name in by_name]
            remembered.write_text(json.dumps(rows, indent=1), encoding="utf-8")
            print(f"planted {planted.name}: caught by {found[-1]['caught']}: {found[-1]['example']}", flush=True)
    return found
