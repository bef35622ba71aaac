# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""Observing a Hyper-V host: which questions are asked, and what it means when they are refused.

The number of questions does not grow with the VMs (hyperv-wmi 2.7), and of each class only the properties that are read
are asked for (`HOST_COLUMNS`). Asked for some VMs only, the host filters, so that the answer grows with those VMs and the
LUNs alone. What only running VMs have is asked for only when one runs. With `vhd_details` there is one question more per
VHD file.

Not here: the joins (`host_topology`), guests (`guest`), changing anything.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from .._wsman import AccessDenied, CimInstance, CimPath, WsmanFault
from .cim_access import CimClient, any_of, chunks, code_text, int_of, query_filtered, query_optional, text_of, texts_of
from .disk_identity import vhd_unique_ids
from .errors import Ambiguous, HypervError, NotFound, Precondition
from .host_topology import (
    PHYSICAL_DISK_DRIVE,
    RESOURCE_TYPES,
    VIRTUAL_HARD_DISK,
    HostRows,
    build_host_view,
    is_vm,
    owner_of,
    vhd_of_path,
    vm_guid,
)
from .machine import Service, machine_facts, rights_missing, services_named
from .model import VHD_FORMATS, VHD_TYPES, ClusterMembership, HostView, NetworkAdapter, VirtualHardDisk, word
from .network_adapters import ETHERNET_PORT, build_network_adapters
from .schema import CIMV2, CLUSTER, HOST_COLUMNS, STORAGE, VIRTUALIZATION

_HYPERV_SERVICE = "vmms"
_CLUSTER_SERVICE = "ClusSvc"
_CANDIDATES_LISTED = 20
_CANDIDATES_IN_SENTENCE = 5
_IMAGE_SERVICE = CimPath(
    VIRTUALIZATION, "Msvm_ImageManagementService", {"CreationClassName": "Msvm_ImageManagementService"}
)
_JOB_STARTED = 4096
_FILE_NOT_FOUND = 32779  # hyperv-wmi 5.1


def observe_host(client: CimClient, vms: Sequence[str] | None = None, vhd_details: bool = False) -> HostView:
    """The host, its LUNs, and all VMs or those named in `vms` (names or GUIDs).

    Raises:
        Precondition: `no_hyperv_role`, `hyperv_unavailable` or `rights_missing`.
        NotFound, Ambiguous: `unknown_vm`, `ambiguous_vm`; both list candidates with GUIDs.
    """
    problems: list[str] = []
    machine = machine_facts(client)
    services = services_named(client, [_HYPERV_SERVICE, _CLUSTER_SERVICE])
    _check_hyperv(client, machine.computer_name, services)
    cluster, cluster_resources = _cluster(client, services, problems)
    rows = HostRows(machine=machine, cluster=cluster, cluster_resources=cluster_resources)
    if vms is None:
        rows, selected = _rows_of_all(client, rows, problems), None
    else:
        rows, selected = _rows_of_some(client, rows, vms, problems)
    fc_connections, fc_switches = _fibre_channel_fabric(client, rows.fc_ports, problems)
    rows = replace(
        rows,
        disk_drives=_disk_drives(client, rows.resources),
        disks=_rows(client, STORAGE, "MSFT_Disk"),
        volumes=_rows(client, CIMV2, "Win32_Volume"),
        disk_policy=_disk_policy(client, problems),
        fc_connections=fc_connections,
        fc_switches=fc_switches,
        network_adapters=_network_adapters(client, selected, problems),
    )
    if vhd_details:
        rows = replace(rows, vhds=_vhd_details(client, rows, selected))
    return build_host_view(replace(rows, problems=problems), selected=selected)


def _rows(client: CimClient, namespace: str, class_name: str, where: str | None = None) -> list[CimInstance]:
    try:
        return query_filtered(client, namespace, class_name, where, select=HOST_COLUMNS.get(class_name))
    except AccessDenied as fault:
        raise rights_missing(f"{class_name} in {namespace}", fault) from fault


def _optional_rows(
    client: CimClient, problems: list[str], class_name: str, *, what: str, where: str | None = None
) -> list[CimInstance]:
    found = query_optional(
        client, problems, VIRTUALIZATION, class_name, what=what, where=where, select=HOST_COLUMNS.get(class_name)
    )
    return found or []


def _disk_drives(client: CimClient, resources: Sequence[CimInstance]) -> list[CimInstance]:
    """The host disks that VMs may have; asked only when a pass-through drive is there that names one."""
    for row in resources:
        if text_of(row, "ResourceSubType").casefold() == PHYSICAL_DISK_DRIVE.casefold() and texts_of(
            row, "HostResource"
        ):
            return _rows(client, VIRTUALIZATION, "Msvm_DiskDrive", "DriveNumber IS NOT NULL")
    return []


def _check_hyperv(client: CimClient, host: str, services: dict[str, Service]) -> None:
    """Tell a host without the role from one whose service is down and from an account without rights.

    A missing namespace, a missing class and a bad filter share their fault numbers, so that the service decides
    (wsman 6). WMI gives rows only to those who may see them, and UAC filtering gives empty answers: no management
    service row means no rights (hyperv-wmi 0.2).
    """
    try:
        found = _rows(client, VIRTUALIZATION, "Msvm_VirtualSystemManagementService")
    except WsmanFault as fault:
        if fault.is_passing:
            raise  # it says nothing about the role
        service = services.get(_HYPERV_SERVICE.lower())
        if service is None:
            raise Precondition(
                "no_hyperv_role",
                f"{host} has no Hyper-V role (no service {_HYPERV_SERVICE}, no namespace {VIRTUALIZATION}); "
                f"name a Hyper-V host, or install the role with Install-WindowsFeature Hyper-V.",
            ) from fault
        raise Precondition(
            "hyperv_unavailable",
            f"Hyper-V on {host} does not answer although its service {service.name} is installed "
            f"(state {service.state or 'unknown'}): {fault} Start or restart the service.",
        ) from fault
    if not found:
        raise Precondition(
            "rights_missing",
            f"Hyper-V on {host} shows nothing to the connection's account; add the account to the local group "
            f"Hyper-V Administrators or Administrators (a local account other than the built-in Administrator also "
            f"needs the registry value LocalAccountTokenFilterPolicy = 1).",
        )


def _cluster(
    client: CimClient, services: dict[str, Service], problems: list[str]
) -> tuple[ClusterMembership, list[CimInstance]]:
    """Cluster membership, and the cluster's VM resources.

    The service's start mode decides when the cluster cannot be asked: it is Disabled until a node joins (assumption:
    general Windows knowledge), so that a node whose cluster is down is still told as a member.
    """
    service = services.get(_CLUSTER_SERVICE.lower())
    if service is None:
        return ClusterMembership(member=False), []
    found = query_optional(client, problems, CLUSTER, "MSCluster_Cluster", what="The failover cluster")
    if found:
        resources = query_optional(
            client,
            problems,
            CLUSTER,
            "MSCluster_Resource",
            what="The cluster's VMs",
            where=any_of("Type", ["Virtual Machine"]),
        )
        return ClusterMembership(member=True, name=text_of(found[0], "Name") or None), resources or []
    return ClusterMembership(member=service.start_mode.casefold() not in ("disabled", "")), []


def _disk_policy(client: CimClient, problems: list[str]) -> int | None:
    """MSFT_StorageSetting has no key and is read by its static method (windows-storage 3.7)."""
    try:
        result = client.invoke(CimPath(STORAGE, "MSFT_StorageSetting"), "Get", {})
    except WsmanFault as fault:
        if fault.is_passing:
            raise
        problems.append(f"The host's policy for new disks could not be read: {fault}")
        return None
    setting = result.out.get("StorageSetting")
    return int_of(setting, "NewDiskPolicy") if isinstance(setting, CimInstance) else None


def _fibre_channel_fabric(
    client: CimClient, ports: Sequence[CimInstance], problems: list[str]
) -> tuple[list[CimInstance], list[CimInstance]]:
    """Connections and virtual SANs; asked only when a VM has a virtual Fibre Channel port, because few hosts have."""
    if all(owner_of(text_of(port, "InstanceID")) == "DEFINITION" for port in ports):
        return [], []
    connections, switches = (
        _optional_rows(client, problems, class_name, what="Virtual Fibre Channel")
        for class_name in ("Msvm_FcPortAllocationSettingData", "Msvm_VirtualFcSwitch")
    )
    return connections, switches


def _network_adapters(
    client: CimClient, selected: frozenset[str] | None, problems: list[str]
) -> Mapping[str, tuple[NetworkAdapter, ...]]:
    """Ports of every kind (the query of the base class is deep), their connections, and the switches these lead to."""
    if selected is not None and not selected:
        return {}
    filters: list[str | None] = [None]
    if selected is not None:
        filters = [_owned(some) for some in chunks(sorted(selected))]

    def rows(class_name: str, condition: str | None) -> list[CimInstance]:
        wheres = [" AND ".join(filter(None, (condition, owned))) or None for owned in filters]
        return [
            row for where in wheres for row in _optional_rows(client, problems, class_name, what="Network", where=where)
        ]

    ports = rows("CIM_EthernetPortAllocationSettingData", f"ResourceType = {ETHERNET_PORT}")
    connections = rows("Msvm_EthernetPortAllocationSettingData", None) if ports else []
    switches = _optional_rows(client, problems, "Msvm_VirtualEthernetSwitch", what="Network") if connections else []
    return build_network_adapters(ports, connections, switches)


# --- All VMs, or some ---------------------------------------------------------------------------------------------

_TYPES_WANTED = "(" + " OR ".join(f"ResourceType = {number}" for number in RESOURCE_TYPES) + ")"


# Off and saved: no guest runs, so that there are no rows of integration components (hyperv-wmi 1.2, 6.2, 6.3).
_NO_GUEST_RUNS = (3, 6)


def _guest_may_run(system: CimInstance) -> bool:
    return is_vm(system) and int_of(system, "EnabledState") not in _NO_GUEST_RUNS


def _rows_of_all(client: CimClient, rows: HostRows, problems: list[str]) -> HostRows:
    systems = _rows(client, VIRTUALIZATION, "Msvm_ComputerSystem")
    some_guest_runs = any(map(_guest_may_run, systems))

    def integration(what: str, class_name: str) -> list[CimInstance]:
        return _optional_rows(client, problems, class_name, what=what) if some_guest_runs else []

    return replace(
        rows,
        systems=systems,
        settings=_rows(client, VIRTUALIZATION, "Msvm_VirtualSystemSettingData"),
        resources=_rows(client, VIRTUALIZATION, "Msvm_ResourceAllocationSettingData", _TYPES_WANTED),
        storage=_rows(client, VIRTUALIZATION, "Msvm_StorageAllocationSettingData"),
        fc_ports=_optional_rows(client, problems, "Msvm_SyntheticFcPortSettingData", what="Virtual Fibre Channel"),
        kvp=integration("Guest data", "Msvm_KvpExchangeComponent"),
        vss=integration("The state of backup in guests", "Msvm_VssComponent"),
        heartbeats=integration("Heartbeats", "Msvm_HeartbeatComponent"),
    )


def _owned(some: Sequence[str]) -> str:
    """The condition for devices of some VMs, by the GUID that their InstanceID begins with."""
    return any_of("InstanceID", [f"Microsoft:{vm_id}%" for vm_id in some], operator="LIKE")


def _rows_of_some(
    client: CimClient, rows: HostRows, wanted: Sequence[str], problems: list[str]
) -> tuple[HostRows, frozenset[str]]:
    """Rows of the wanted VMs, and of every pass-through drive: a LUN must show all VMs that use it."""
    systems = resolve_vms(client, wanted)
    ids = [text_of(row, "Name").upper() for row in systems]
    running = [text_of(row, "Name").upper() for row in systems if _guest_may_run(row)]

    def per_vm(class_name: str, filter_of: Callable[[Sequence[str]], str]) -> list[CimInstance]:
        return [row for some in chunks(ids) for row in _rows(client, VIRTUALIZATION, class_name, filter_of(some))]

    def integration(what: str, class_name: str) -> list[CimInstance]:
        return [
            row
            for some in chunks(running)
            for row in _optional_rows(client, problems, class_name, what=what, where=any_of("SystemName", some))
        ]

    resources = per_vm("Msvm_ResourceAllocationSettingData", lambda some: f"{_TYPES_WANTED} AND {_owned(some)}")
    resources += _rows(
        client, VIRTUALIZATION, "Msvm_ResourceAllocationSettingData", any_of("ResourceSubType", [PHYSICAL_DISK_DRIVE])
    )
    others = sorted({owner_of(text_of(row, "InstanceID")) for row in resources} - set(ids))
    others = [vm_id for vm_id in others if vm_guid(vm_id) is not None]
    names = {
        text_of(row, "Name").upper(): text_of(row, "ElementName")
        for some in chunks(others)
        for row in query_filtered(
            client, VIRTUALIZATION, "Msvm_ComputerSystem", any_of("Name", some), select=("Name", "ElementName")
        )
    }
    read = replace(
        rows,
        systems=systems,
        settings=per_vm("Msvm_VirtualSystemSettingData", lambda some: any_of("VirtualSystemIdentifier", some)),
        resources=resources,
        storage=per_vm("Msvm_StorageAllocationSettingData", _owned),
        fc_ports=[
            row
            for some in chunks(ids)
            for row in _optional_rows(
                client,
                problems,
                "Msvm_SyntheticFcPortSettingData",
                what="Virtual Fibre Channel",
                where=_owned(some),
            )
        ],
        kvp=integration("Guest data", "Msvm_KvpExchangeComponent"),
        vss=integration("The state of backup in guests", "Msvm_VssComponent"),
        heartbeats=integration("Heartbeats", "Msvm_HeartbeatComponent"),
        vm_names=names,
    )
    return read, frozenset(ids)


def resolve_vms(client: CimClient, wanted: Sequence[str]) -> list[CimInstance]:
    """The Msvm_ComputerSystem rows of VMs given by name or GUID, each once; one query for up to 10 of them.

    A GUID means the VM with that id; text that is no VM's id is a name. Names compare without regard to case.

    Raises:
        NotFound (`unknown_vm`), Ambiguous (`ambiguous_vm`): with `details["candidates"]` as [{name, id}].
    """
    texts = list(dict.fromkeys(wanted))
    rows: dict[str, CimInstance] = {}
    for some in chunks(texts, 10):
        terms = [any_of("ElementName", some)]
        ids = [guid for text in some if (guid := vm_guid(text)) is not None]
        if ids:
            terms.append(any_of("Name", ids))
        for row in _rows(client, VIRTUALIZATION, "Msvm_ComputerSystem", " OR ".join(terms)):
            if is_vm(row):
                rows[text_of(row, "Name").upper()] = row
    by_name: dict[str, list[str]] = {}
    for vm_id, row in rows.items():
        by_name.setdefault(text_of(row, "ElementName").casefold(), []).append(vm_id)
    found: dict[str, CimInstance] = {}
    for text in texts:
        guid = vm_guid(text)
        matches = [guid] if guid in rows else by_name.get(text.casefold(), [])
        if len(matches) > 1:
            raise _ambiguous_vm(text, [rows[vm_id] for vm_id in matches])
        if not matches:
            raise _unknown_vm(client, text)
        found[str(matches[0])] = rows[str(matches[0])]
    return list(found.values())


def _candidates(rows: Sequence[CimInstance]) -> list[dict[str, str]]:
    return [{"name": text_of(row, "ElementName"), "id": text_of(row, "Name").upper()} for row in rows]


def _listed(candidates: Sequence[dict[str, str]]) -> str:
    shown = [f"{candidate['name']} ({candidate['id']})" for candidate in candidates[:_CANDIDATES_IN_SENTENCE]]
    more = len(candidates) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def _ambiguous_vm(text: str, rows: Sequence[CimInstance]) -> HypervError:
    candidates = _candidates(rows)
    return Ambiguous(
        "ambiguous_vm",
        f"{len(candidates)} VMs are named '{text}': {_listed(candidates)}; give the GUID of the one you mean.",
        {"vm": text, "candidates": candidates},
    )


def _unknown_vm(client: CimClient, text: str) -> HypervError:
    """Only now all names are read, to show what there is instead."""
    rows = [row for row in _rows(client, VIRTUALIZATION, "Msvm_ComputerSystem") if is_vm(row)]
    names = [text_of(row, "ElementName").casefold() for row in rows]
    alike = difflib.get_close_matches(text.casefold(), names, n=_CANDIDATES_LISTED, cutoff=0.5)
    rank = {name: position for position, name in enumerate(alike)}
    rows.sort(
        key=lambda row: (rank.get(text_of(row, "ElementName").casefold(), len(rank)), text_of(row, "ElementName"))
    )
    candidates = _candidates(rows[:_CANDIDATES_LISTED])
    there = f"it has {_listed(candidates)}" if candidates else "it has no VM that this account may see"
    return NotFound(
        "unknown_vm",
        f"The host has no VM '{text}' (name or GUID); {there}. Correct the name, or look on the host that owns the VM now.",
        {"vm": text, "candidates": candidates},
    )


# --- Details of VHD files -----------------------------------------------------------------------------------------


def _vhd_details(client: CimClient, rows: HostRows, selected: frozenset[str] | None) -> dict[str, VirtualHardDisk]:
    owners = selected if selected is not None else {text_of(row, "Name").upper() for row in rows.systems if is_vm(row)}
    paths: dict[str, str] = {}
    for row in rows.storage:
        if owner_of(text_of(row, "InstanceID")) not in owners:
            continue
        if text_of(row, "ResourceSubType").casefold() == VIRTUAL_HARD_DISK:
            for path in texts_of(row, "HostResource")[:1]:
                paths.setdefault(path.casefold(), path)
    return {key: read_virtual_hard_disk(client, path) for key, path in paths.items() if path}


def read_virtual_hard_disk(client: CimClient, path: str) -> VirtualHardDisk:
    """Type, identity and sizes of one VHD file; what cannot be read is told in `problem`, and the rest stays None."""
    known = vhd_of_path(path)
    setting, problem = _image_information(client, path, "GetVirtualHardDiskSettingData", "SettingData")
    if setting is None:
        return replace(known, problem=problem)
    state, state_problem = _image_information(client, path, "GetVirtualHardDiskState", "State")
    disk_id = text_of(setting, "VirtualDiskId").strip("{}")
    return VirtualHardDisk(
        format=word(VHD_FORMATS, int_of(setting, "Format")) or known.format,
        type=word(VHD_TYPES, int_of(setting, "Type")) or known.type,
        id=disk_id.upper() or None,
        unique_ids=vhd_unique_ids(disk_id),
        size_bytes=int_of(setting, "MaxInternalSize"),
        file_size_bytes=int_of(state, "FileSize") if state is not None else None,
        parent_path=text_of(setting, "ParentPath") or None,
        logical_sector_bytes=int_of(setting, "LogicalSectorSize"),
        physical_sector_bytes=int_of(setting, "PhysicalSectorSize"),
        block_bytes=int_of(setting, "BlockSize"),
        problem=state_problem or None,
    )


def _image_information(client: CimClient, path: str, method: str, output: str) -> tuple[CimInstance | None, str]:
    """The embedded instance that a method of the image service gives inline, or None and why not.

    Where the instance is when the host starts a job instead is unknown (hyperv-wmi 5.1): it counts when it is inline
    all the same, else as not told.
    """
    try:
        result = client.invoke(_IMAGE_SERVICE, method, {"Path": path})
    except WsmanFault as fault:
        if fault.is_passing:
            raise
        return None, f"The details of {path} could not be read: {fault}"
    found = result.out.get(output)
    if result.return_value in (0, None, _JOB_STARTED) and isinstance(found, CimInstance):
        return found, ""
    if result.return_value == _FILE_NOT_FOUND:
        return None, f"The file {path} does not exist on the host."
    if result.return_value == _JOB_STARTED:
        return None, f"The host tells the details of {path} in a job only, which cannot be read."
    return None, f"The details of {path} could not be read: {method} answered {code_text(result.return_value or 0)}."
