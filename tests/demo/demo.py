# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make demo`: the main job against a simulated world, with the playbooks an operator runs, judged by the bytes.

Responsible for: the order of the show and for failing when anything is not as promised. Not responsible for: the simulated
world (`tests/simulator`), the judge (`tests/backup_proof.py`), or the collection, which it only calls through
ansible-playbook.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

import backup_scene  # noqa: E402
from backup_proof import only_on_the_host, prove  # noqa: E402
from playbook_run import PlaybookRun, run_playbook  # noqa: E402
from simulator.__main__ import inventory as inventory_of  # noqa: E402
from simulator.assumed import import_everything  # noqa: E402
from simulator.door_http import HttpDoors  # noqa: E402
from simulator.mishaps import mishap  # noqa: E402
from simulator.world import World  # noqa: E402

WORLD = ROOT / "tests" / "simulator" / "worlds" / "demo.yml"
ERP_LUNS = ("erp-data", "erp-log")
#: Where the migration puts them: the host's first free drive letters, named by VM and slot.
ERP_VHDS = ("F:\\erp01-scsi0-1.vhdx", "G:\\erp01-scsi0-2.vhdx")
GIB = 1024**3
#: What the operator of the demo's world puts into the inventory beside the connections.
VARIABLES: dict[str, Any] = {
    "two_phase_backup_host_target": "E:",
    "two_phase_backup_guest_target": r"\\filer01\backup",
    "two_phase_backup_poll_interval": 0,
    "reverse_restore_poll_interval": 0,
}


class Show:
    """Headings, findings, and the verdict at the end."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._broken: list[str] = []

    def heading(self, text: str) -> None:
        print(f"\n=== {text} [{time.monotonic() - self._began:.0f} s]\n", flush=True)

    def say(self, text: str) -> None:
        print(text, flush=True)

    def demand(self, is_so: bool, text: str) -> None:
        print(f"  {'ok  ' if is_so else 'FAIL'} {text}", flush=True)
        if not is_so:
            self._broken.append(text)

    def end(self) -> int:
        if self._broken:
            print(f"\nThe demo FAILED: {len(self._broken)} promise(s) broken, first: {self._broken[0]}")
            return 1
        print(f"\nThe demo passed in {time.monotonic() - self._began:.0f} s.")
        return 0


def main() -> int:
    folder = _folder()
    show = Show()
    show.heading("A simulated world: two Hyper-V hosts and their guests on loopback addresses")
    import_everything()
    with contextlib.closing(World.from_yaml(WORLD, folder / "world")) as world:
        machines = [machine for machine in world.machines if machine.os.family == "windows"]
        with HttpDoors(machines, folder / "certificates", name=world.name, port=0, tls_port=0) as doors:
            inventory = inventory_of(world, doors)
            inventory["all"]["vars"] = VARIABLES
            (folder / "inventory.yml").write_text(yaml.safe_dump(inventory, sort_keys=False, allow_unicode=True))
            for vm in world.vms:
                show.say(f"  {vm.name} on {vm.host.name}")
            show.say(f"  inventory: {folder / 'inventory.yml'}")
            discover(show, world, inventory)
            records = back_up(show, world, inventory)
            judge(show, world, records)
            bring_back(show, world, inventory)
            keep_what_survived(show, world, inventory)
            migrate_by_copy(show, world, inventory)
            migrate_in_place(show, world, inventory)
            one_host_backup_takes_all(show, world, inventory)
            the_array_snapshots_it_from_the_host(show, world, inventory)
            show.demand(world.check() == [], "the simulated world has no finding against the run")
    show.say(f"\nEverything is in {folder} (inventory, disks, certificates); remove it when you like.")
    return show.end()


def discover(show: Show, world: World, inventory: dict[str, Any]) -> None:
    show.heading("Discovery: ansible-playbook hyperv.passthrough.discover")
    before = world.digests()
    run = run_playbook("hyperv.passthrough.discover", inventory, on_screen=True)
    show.demand(run.status != 0, "it fails, because two VMs have disks that nobody would capture")
    show.demand(world.digests() == before, "it changed nothing")


def back_up(show: Show, world: World, inventory: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Run the backup; returns the sets of the VMs that must have one, by inventory name."""
    show.heading("Two-phase backup: ansible-playbook hyperv.passthrough.two_phase_backup")
    run = run_playbook("hyperv.passthrough.two_phase_backup", inventory, on_screen=True)
    show.demand(run.status != 0, "the exit code says that not every VM was backed up")
    records: dict[str, dict[str, Any]] = {}
    for name in inventory["all"]["children"]["hyperv_guests"]["hosts"]:
        status = _status(run, name)
        if status is None:
            continue
        show.say(f"  {name}: {status['state']}")
        if status["state"] == "good":
            records[name] = status["set"]
    show.demand(len(records) == len(world.vms) - 2, "every VM but the two with gaps has a good backup set")
    return records


def judge(show: Show, world: World, records: dict[str, dict[str, Any]]) -> None:
    show.heading("Proof, by digests of the bytes on the backup targets")
    lost = 0
    for name, record in records.items():
        for item in prove(world, record):
            what = f"{name}: {item.kind} {item.name}, {item.bytes_now} bytes, is in the {item.phase} phase's version"
            show.demand(item.is_proven, what)
        for missing in only_on_the_host(world, record):
            lost += 1
            show.say(f"       a host backup alone would have lost {missing}")
    show.demand(lost > 0, f"a host backup alone would have lost {lost} guest volume(s), silently")


def bring_back(show: Show, world: World, inventory: dict[str, Any]) -> None:
    show.heading(
        "Disaster: erp01 and its disks are gone, its LUNs are noise, the host rebooted and renumbered its disks"
    )
    whole = _of_erp01(world)
    mishap(world, "stop_vm", vm="erp01")
    mishap(world, "delete_vm", vm="erp01")
    for lun in ERP_LUNS:
        mishap(world, "overwrite_lun", lun=lun)
    mishap(world, "reboot", machine="hv01")
    show.heading("Reverse restore: ansible-playbook hyperv.passthrough.reverse_restore --limit erp01")
    at_boot: dict[str, str] = {}
    backup_scene.at_exchange(
        world, {"machine": "hv01", "method": "RequestStateChange"}, lambda _machine: at_boot.update(_of_erp01(world))
    )
    run = run_playbook("hyperv.passthrough.reverse_restore", inventory, "--limit", "erp01", on_screen=True)
    show.demand(run.status == 0, "the restore says that it worked")
    # the disk that Windows boots from changes as soon as it runs, so that it is judged at the moment the VM is started
    now = {**_of_erp01(world), **{name: digest for name, digest in at_boot.items() if name.endswith(".vhdx")}}
    for name, digest in whole.items():
        what = "every byte" if name.endswith(".vhdx") else "every file"
        show.demand(now.get(name) == digest, f"{what} of {name} is as it was")


def keep_what_survived(show: Show, world: World, inventory: dict[str, Any]) -> None:
    show.heading("The commoner disaster: only the host's side of erp01 is gone, its LUNs hold newer data")
    mishap(world, "write_file", machine="erp01", path="F:\\orders-of-today.txt", text="newer than any backup")
    mishap(world, "stop_vm", vm="erp01")
    newer = {name: digest for name, digest in _of_erp01(world).items() if name in ("erp01:F", "erp01:L")}
    mishap(world, "delete_vm", vm="erp01")
    mark = world.mark()
    run = run_playbook(
        "hyperv.passthrough.reverse_restore",
        inventory,
        "--limit",
        "erp01",
        "-e",
        "reverse_restore_id=r2",
        on_screen=True,
    )
    show.demand(run.status == 0, "the restore says that it worked")
    written = world.written_since(mark)
    for lun in ERP_LUNS:
        show.demand(written[lun] == 0, f"not one byte of LUN {lun} was written")
    now = _of_erp01(world)
    show.demand(all(now.get(name) == digest for name, digest in newer.items()), "today's orders are still there")


def migrate_by_copy(show: Show, world: World, inventory: dict[str, Any]) -> None:
    show.heading("Get rid of the problem: ansible-playbook hyperv.passthrough.vhd_migration --limit erp01 (mode copy)")
    before, mark = world.digests(), world.mark()
    disks = [
        {"slot": {"controller_location": place}, "destination_lun": unique_id, "confirm_size_bytes": GIB}
        for place, unique_id in ((1, "6006016000000000000000000000ED01"), (2, "6006016000000000000000000000ED02"))
    ]
    copied: list[str] = []
    backup_scene.at_exchange(
        world,
        {"machine": "hv01", "method": "RequestStateChange"},
        lambda _machine: copied.extend(_payload(world, "hv01", path) for path in ERP_VHDS),
    )
    options = {"vhd_migration_disks": disks, "vhd_migration_reserve": "400M", "vhd_migration_poll_interval": 0}
    run = _with(options, "vhd_migration", inventory, "erp01")
    show.demand(run.status == 0, "the migration says that it worked")
    now = world.digests()
    for lun, payload in zip(ERP_LUNS, copied, strict=True):
        show.demand(now["luns"][lun] == before["luns"][lun], f"LUN {lun} is as it was, for the way back")
        show.demand(world.written_since(mark)[lun] == 0, f"not one byte of LUN {lun} was written")
        if payload:
            show.demand(payload == before["luns"][lun], f"qemu-img reads every byte of {lun} out of its VHDX")
        else:
            show.say(f"       the VHDX of {lun} is not read, because qemu-img is not installed")
    same = all(now["guest_volumes"][name] == before["guest_volumes"][name] for name in ("erp01:F", "erp01:L"))
    show.demand(same, "the guest has every file of F: and L:, under their letters")


def migrate_in_place(show: Show, world: World, inventory: dict[str, Any]) -> None:
    show.heading("The LUN of files01 becomes a VHD on itself, in two halves (mode in_place)")
    before = world.digests()
    unique_id = "60080E5000D4C1F200000A1B5E2D7C90"
    disk = {"lun": unique_id, "staging_path": "D:\\VMs\\files01", "growth_gib": 1}
    options = {
        "vhd_migration_mode": "in_place",
        "vhd_migration_reserve": "400M",
        "vhd_migration_poll_interval": 0,
    }
    first = _with({**options, "vhd_migration_disks": [disk]}, "vhd_migration", inventory, "files01")
    show.demand(first.status == 0, "the first half says that it worked, and waits for the array")
    show.demand(world.digests()["luns"]["archive"] == before["luns"]["archive"], "the LUN is as it was")
    mishap(world, "grow_lun", lun="archive", size="1G")
    wipe = {**disk, "confirm_wipe": unique_id}
    second = _with({**options, "vhd_migration_disks": [wipe]}, "vhd_migration", inventory, "files01")
    show.demand(second.status == 0, "after the array grew the LUN, the second half says that it worked")
    payload = _payload(world, "hv02", "F:\\files01-scsi0-1.vhdx")
    if payload:
        show.demand(payload == before["luns"]["archive"], "qemu-img reads every byte of the old LUN out of the VHDX")
    volume = "files01:R"
    show.demand(
        world.digests()["guest_volumes"].get(volume) == before["guest_volumes"].get(volume), f"{volume} is as it was"
    )


def one_host_backup_takes_all(show: Show, world: World, inventory: dict[str, Any]) -> None:
    show.heading("Now one host backup takes all of erp01, and brings all of it back")
    run = run_playbook("hyperv.passthrough.two_phase_backup", inventory, "--limit", "erp01", on_screen=True)
    status = _status(run, "erp01") or {"state": "none", "set": {}}
    show.demand(status["state"] == "good", "the backup is good")
    record = status["set"]
    show.demand(not record["phases"]["guest"]["needed"], "nothing had to be backed up in the guest")
    for item in prove(world, record):
        show.demand(item.is_proven, f"{item.kind} {item.name} is in the host's version, byte for byte")
    whole = world.digests()["guest_volumes"]
    mishap(world, "stop_vm", vm="erp01")
    mishap(world, "delete_vm", vm="erp01")
    run = run_playbook("hyperv.passthrough.reverse_restore", inventory, "--limit", "erp01", on_screen=True)
    show.demand(run.status == 0, "the restore says that it worked")
    now = world.digests()["guest_volumes"]
    for name in ("erp01:F", "erp01:L"):
        show.demand(now.get(name) == whole[name], f"every file of {name} is as it was")


def the_array_snapshots_it_from_the_host(show: Show, world: World, inventory: dict[str, Any]) -> None:
    show.heading("And the array's hardware VSS snapshots work from the host: erp01 with engine diskshadow")
    options = {
        "two_phase_backup_host_engine": "diskshadow",
        "two_phase_backup_host_engine_options": {"provider": "hardware"},
        "two_phase_backup_host_target": "E:\\shadow-records",
    }
    run = _with(options, "two_phase_backup", inventory, "erp01")
    status = _status(run, "erp01") or {"state": "none", "set": {}}
    show.demand(status["state"] == "good", "the backup is good")
    copies = world.machine("hv01").vss.present()
    show.demand(len(copies) == 3, "there is one snapshot of each of the three volumes with erp01's files")
    whole = world.digests()["guest_volumes"]
    mishap(world, "stop_vm", vm="erp01")
    for place in (1, 2):
        mishap(world, "overwrite_vhd", vm="erp01", slot=f"scsi 0:{place}")
    show.heading("Its disks are noise now, but the VM is there: it is replaced only when it is named by its GUID")
    run = run_playbook("hyperv.passthrough.reverse_restore", inventory, "--limit", "erp01", on_screen=True)
    show.demand(run.status != 0, "the restore refuses to overwrite a VM that exists")
    named = {"reverse_restore_overwrite_vm": status["set"]["vm"]["id"]}
    run = _with(named, "reverse_restore", inventory, "erp01")
    show.demand(run.status == 0, "the restore says that it worked")
    now = world.digests()["guest_volumes"]
    for name in ("erp01:F", "erp01:L"):
        show.demand(now.get(name) == whole[name], f"every file of {name} is as it was")
    left = [copy for copy in world.machine("hv01").vss.present() if copy.exposed]
    show.demand(not left, "no snapshot is left under a drive letter")


def _with(options: dict[str, Any], playbook: str, inventory: dict[str, Any], vm: str) -> PlaybookRun:
    return run_playbook(
        f"hyperv.passthrough.{playbook}", inventory, "--limit", vm, "-e", json.dumps(options), on_screen=True
    )


def _payload(world: World, host: str, path: str) -> str:
    """The digest of the disk inside a virtual hard disk, read by qemu-img; empty where that is not installed."""
    if shutil.which("qemu-img") is None:
        return ""
    with tempfile.TemporaryDirectory() as name:
        image, raw = Path(name) / "image.vhdx", Path(name) / "image.raw"
        image.write_bytes(world.machine(host).volume_by_letter(path[0]).read(path[3:]))
        subprocess.run(["qemu-img", "convert", "-f", "vhdx", "-O", "raw", str(image), str(raw)], check=True)
        with raw.open("rb") as file:
            digest = hashlib.sha256()
            while part := file.read(1024 * 1024):
                digest.update(part)
            return digest.hexdigest()


def _of_erp01(world: World) -> dict[str, str]:
    """Digests of erp01's virtual hard disks (their bytes) and of the volumes on its LUNs (their files)."""
    digests = world.digests()
    return {
        **{name: digest for name, digest in digests["images"].items() if "erp01" in name},
        **{name: digests["guest_volumes"][name] for name in ("erp01:F", "erp01:L") if name in digests["guest_volumes"]},
    }


def _status(run: PlaybookRun, host: str) -> dict[str, Any] | None:
    """What the playbook remembered of one VM at its end."""
    kept = [
        task.result["ansible_facts"]["two_phase_backup_status"]
        for task in run.tasks
        if task.host == host and "two_phase_backup_status" in (task.result.get("ansible_facts") or {})
    ]
    return dict(kept[-1]) if kept else None


def _folder() -> Path:
    """A fresh folder for each run, so that two runs do not meet."""
    base = Path(os.environ.get("DEMO_DIRECTORY", ROOT / "demo-run"))
    base.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=time.strftime("%Y%m%d-%H%M%S-"), dir=base))


if __name__ == "__main__":
    sys.exit(main())
