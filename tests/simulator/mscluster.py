# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Responsible for failover clusters as far as detecting them goes: namespace root/MSCluster on cluster nodes.

Not simulated: failover, moving groups, maintenance mode. Facts: hyperv-wmi 9, windows-storage 7.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .cim import Instance, Ref, Value
from .disks import stable_guid
from .service import method, view
from .virtual_machine import Vm

if TYPE_CHECKING:
    from .world import Machine

NS = "root/mscluster"
Row = dict[str, Value]


@dataclass
class Cluster:
    """A cluster as one node sees it: its name, node names, and the LUN ids that are Physical Disk resources."""

    name: str
    nodes: list[str]
    luns: set[str] = field(default_factory=set)


def cluster_name(machine: Machine) -> str:
    return machine.cluster.name if machine.cluster is not None else ""


def _vms(machine: Machine) -> list[Vm]:
    return [vm for vm in machine.vms if vm.clustered]


@view(NS, "MSCluster_Cluster")
def clusters(machine: Machine) -> Iterable[Row]:
    if machine.cluster is not None:
        name = machine.cluster.name
        yield {
            "Name": name,
            "Caption": name,
            "CreationClassName": "MSCluster_Cluster",
            "Fqdn": f"{name}.{machine.domain}" if machine.domain else name,
            "ClusterFunctionalLevel": 11,
            "SharedVolumesRoot": "C:\\ClusterStorage",
            "MaxNumberOfNodes": 64,
            "QuorumType": "Majority",
            "Status": "OK",
        }


@method(NS, "MSCluster_Cluster", "GetNodeClusterState")
def get_node_cluster_state(machine: Machine, _target: Instance | None, _arguments: dict[str, Value]) -> Row:
    return {"ClusterState": 19 if machine.cluster is not None else 0}


@view(NS, "MSCluster_Node")
def nodes(machine: Machine) -> Iterable[Row]:
    for number, name in enumerate(machine.cluster.nodes if machine.cluster is not None else [], 1):
        yield {
            "Name": name.upper(),
            "Caption": name.upper(),
            "Id": str(number),
            "NodeInstanceID": f"00000000-0000-0000-0000-{number:012d}",
            "State": 0,
            "NodeWeight": 1,
            "NodeDrainStatus": 0,
            "CreationClassName": "MSCluster_Node",
            "Status": "OK",
        }


def _group_state(vm: Vm) -> int:
    return 0 if vm.running else 1


@view(NS, "MSCluster_ResourceGroup")
def groups(machine: Machine) -> Iterable[Row]:
    for name, kind in (("Cluster Group", 1), ("Available Storage", 2)):
        yield {
            "Name": name,
            "Caption": name,
            "Id": stable_guid(cluster_name(machine), name),
            "GroupType": kind,
            "State": 0,
            "OwnerNode": machine.netbios_name,
            "IsCore": True,
            "PersistentState": True,
            "Priority": 2000,
        }
    for vm in _vms(machine):
        yield {
            "Name": vm.name,
            "Caption": vm.name,
            "Id": stable_guid(vm.id, "group"),
            "GroupType": 111,
            "State": _group_state(vm),
            "OwnerNode": machine.netbios_name,
            "IsCore": False,
            "PersistentState": True,
            "Priority": 2000,
            "PrivateProperties": Instance(NS, "MSCluster_Property", {"VmID": vm.id.lower()}),
        }


def _resource(machine: Machine, name: str, kind: str, group: str, state: int) -> Row:
    return {
        "Name": name,
        "Caption": name,
        "Id": stable_guid(cluster_name(machine), kind, name),
        "Type": kind,
        "OwnerGroup": group,
        "OwnerNode": machine.netbios_name,
        "State": state,
        "IsClusterSharedVolume": False,
        "CoreResource": False,
        "ResourceClass": 1 if kind == "Physical Disk" else 32768,
        "Status": "OK",
    }


def _group_of_lun(machine: Machine, lun: str) -> str:
    for vm in _vms(machine):
        for _controller, drive in vm.physical_drives():
            found = vm.physical_lun(drive)
            if found is not None and found.id == lun:
                return vm.name
    return "Available Storage"


@view(NS, "MSCluster_Resource")
def resources(machine: Machine) -> Iterable[Row]:
    for vm in _vms(machine):
        state = 2 if vm.running else 3
        for kind in ("Virtual Machine", "Virtual Machine Configuration"):
            yield {
                **_resource(machine, f"{kind} {vm.name}", kind, vm.name, state if kind == "Virtual Machine" else 2),
                "PrivateProperties": Instance(NS, "MSCluster_Property", {"VmID": vm.id.lower(), "Type": kind}),
            }
    for number, lun in enumerate(sorted(machine.cluster.luns if machine.cluster is not None else ()), 1):
        yield _resource(machine, f"Cluster Disk {number}", "Physical Disk", _group_of_lun(machine, lun), 2)


def _disk_id(machine: Machine, lun: str) -> str | None:
    disk = next((d for d in machine.disks if d.lun is not None and d.lun.id == lun), None)
    if disk is None:
        return None
    return f"{{{disk.table.guid}}}" if disk.table.guid else str(disk.table.signature or 0)


@view(NS, "MSCluster_Disk")
def cluster_disks(machine: Machine) -> Iterable[Row]:
    for number, lun in enumerate(sorted(machine.cluster.luns if machine.cluster is not None else ()), 1):
        disk = next((d for d in machine.disks if d.lun is not None and d.lun.id == lun), None)
        if disk is None:
            continue
        port, bus, target, unit = disk.backing.scsi
        yield {
            "Id": _disk_id(machine, lun),
            "Name": f"Cluster Disk {number}",
            "Number": disk.number,
            "GptGuid": f"{{{disk.table.guid}}}" if disk.table.guid else None,
            "Signature": disk.table.signature,
            "Size": disk.size,
            "ScsiPort": port,
            "ScsiBus": bus,
            "ScsiTargetId": target,
            "ScsiLun": unit,
            "UniqueId": disk.identity.unique_id,
            "UniqueIdFormat": disk.identity.unique_id_format,
        }


@view(NS, "MSCluster_ResourceToDisk")
def resources_to_disks(machine: Machine) -> Iterable[Row]:
    for number, lun in enumerate(sorted(machine.cluster.luns if machine.cluster is not None else ()), 1):
        identifier = _disk_id(machine, lun)
        if identifier is not None:
            yield {
                "GroupComponent": Ref(NS, "MSCluster_Resource", {"Name": f"Cluster Disk {number}"}),
                "PartComponent": Ref(NS, "MSCluster_Disk", {"Id": identifier}),
            }


@view(NS, "MSCluster_ResourceGroupToResource")
def groups_to_resources(machine: Machine) -> Iterable[Row]:
    for row in resources(machine):
        yield {
            "GroupComponent": Ref(NS, "MSCluster_ResourceGroup", {"Name": str(row["OwnerGroup"])}),
            "PartComponent": Ref(NS, "MSCluster_Resource", {"Name": str(row["Name"])}),
        }
