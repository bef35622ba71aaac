# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls of a machine's CIM service without any wire, for the tests of worlds: queries, method calls, jobs.

Answers go through the same schema checks as on the wire. Not here: envelopes and values (test_endpoint.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from simulator.cim import Instance, Ref, Value
from simulator.door_memory import endpoint_of
from simulator.service import CimService
from simulator.world import Machine, World

V2 = "root/virtualization/v2"
STORAGE = "root/microsoft/windows/storage"
WORLDS = Path(__file__).parents[2] / "simulator" / "worlds"
VSMS, IMAGES, SNAPSHOTS = (
    "Msvm_VirtualSystemManagementService",
    "Msvm_ImageManagementService",
    "Msvm_VirtualSystemSnapshotService",
)


def small_world(tmp_path: Path, **switches: str) -> World:
    """The world small.yml; `switches` with underscores for hyphens."""
    world = World.from_yaml(WORLDS / "small.yml", tmp_path)
    for name, value in switches.items():
        world.switches.choose(name.replace("_", "-"), value)
    return world


def service(machine: Machine) -> CimService:
    found: CimService = endpoint_of(machine).service
    return found


def query(machine: Machine, text: str, namespace: str = V2) -> list[Instance]:
    return list(service(machine).query(namespace, text).instances)


def one(machine: Machine, text: str, namespace: str = V2) -> Instance:
    found = query(machine, text, namespace)
    assert len(found) == 1, f"{len(found)} rows for {text}"
    return found[0]


def call(
    machine: Machine,
    class_name: str,
    method: str,
    arguments: dict[str, Value] | None = None,
    target: Instance | None = None,
    namespace: str = V2,
) -> dict[str, Any]:
    """Call a method; its outputs are checked against the schema."""
    cim = service(machine)
    entry = cim.schema.get(namespace, class_name)
    signature = entry.find_method(method)
    assert signature is not None
    function = cim._function(class_name, namespace, method)
    assert function is not None, f"{class_name}.{method} is not simulated"
    return dict(cim._outputs(entry, signature, function(machine, target, arguments or {})))


def finish(machine: Machine, answer: dict[str, Any], looks: int = 20) -> Instance | None:
    """Look at the job of an answer until it has ended; None when there was no job."""
    job = answer.get("Job")
    if not isinstance(job, Ref):
        return None
    for _unused in range(looks):
        row = one(machine, f"SELECT * FROM {job.class_name} WHERE InstanceID = '{job.key('InstanceID')}'")  # noqa: S608
        if row.get("JobState") not in (2, 3, 4, 5, 6):
            return row
    raise AssertionError("the job does not end")


def storage(machine: Machine, class_name: str, method: str, target: Instance | None = None, **arguments: Any) -> Any:
    return call(machine, class_name, method, arguments, target, STORAGE)


def disk_of(machine: Machine, number: int) -> Instance:
    return one(machine, f"SELECT * FROM MSFT_Disk WHERE Number = {number}", STORAGE)  # noqa: S608


def setting(class_name: str, **properties: Any) -> Instance:
    return Instance(V2, class_name, properties)
