# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Responsible for what every row of root/virtualization/v2 has in common: references, selection of VMs, host language.

The rows themselves are in hyperv_systems.py, hyperv_storage.py, hyperv_devices.py, hyperv_images.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from .cim import Ref, Value, parse_object_path
from .service import caller
from .virtual_machine import Controller, Drive, Vm
from .world import Machine

NS = "root/virtualization/v2"
Row = dict[str, Value]
Known = Mapping[str, Value]
FAILED, INVALID, INVALID_STATE = 32768, 32773, 32775
"""Return and error codes of list B (hyperv-wmi 4.1)."""

# What a host of another language says instead; German and Japanese are enough to show that nobody may compare texts.
# Japanese texts of the first rows are those of the recordings.
_TEXTS: dict[str, dict[str, str]] = {
    "ja-JP": {
        "Virtual Machine": "仮想マシン",
        "Hosting Computer System": "ホスト コンピューター システム",
        "Microsoft Hosting Computer System": "Microsoft ホスト コンピューター システム",
        "Operating normally": "正常稼働中",
        "Hard Drive": "ハード ドライブ",
        "Hard Disk Image": "ハード ディスク イメージ",
        "Virtual Switch": "仮想スイッチ",
        "The job has completed": "ジョブは完了しました",
        "Job is running": "ジョブは実行中です",
        "Ethernet Port": "イーサネット ポート",
    },
    "de-DE": {
        "Virtual Machine": "Virtueller Computer",
        "Hosting Computer System": "Hostcomputersystem",
        "Microsoft Hosting Computer System": "Microsoft-Hostcomputersystem",
        "Operating normally": "Normaler Betrieb",
        "Hard Drive": "Festplatte",
        "Hard Disk Image": "Festplattenabbild",
        "SCSI Controller": "SCSI-Controller",
        "IDE Controller": "IDE-Controller",
        "Network Adapter": "Netzwerkkarte",
        "Virtual Switch": "Virtueller Switch",
        "The job has completed": "Der Auftrag wurde abgeschlossen",
        "Job is running": "Der Auftrag wird ausgeführt",
    },
}


def text(machine: Machine, english: str) -> str:
    """The text as a host of that language says it; where we do not know it, it is marked so that nobody relies on it."""
    locale = machine.os.locale
    if locale.startswith("en"):
        return english
    return _TEXTS.get(locale, {}).get(english, f"[{locale}] {english}")


def ref(class_name: str, **keys: str) -> Ref:
    return Ref(NS, class_name, keys)


def setting_ref(class_name: str, instance_id: str) -> Ref:
    return Ref(NS, class_name, {"InstanceID": instance_id})


def system_ref(vm: Vm) -> Ref:
    if vm.planned:
        return ref("Msvm_PlannedComputerSystem", CreationClassName="Msvm_PlannedComputerSystem", Name=vm.id)
    return ref("Msvm_ComputerSystem", CreationClassName="Msvm_ComputerSystem", Name=vm.id)


def host_ref(machine: Machine) -> Ref:
    return ref("Msvm_ComputerSystem", CreationClassName="Msvm_ComputerSystem", Name=machine.netbios_name)


def vssd_ref(identifier: str) -> Ref:
    return setting_ref("Msvm_VirtualSystemSettingData", f"Microsoft:{identifier}")


def device_ref(class_name: str, device_id: str, system: str) -> Ref:
    return ref(
        class_name,
        CreationClassName=class_name,
        DeviceID=device_id,
        SystemCreationClassName="Msvm_ComputerSystem",
        SystemName=system,
    )


def wmi_path(machine: Machine, target: Ref) -> str:
    return target.path(machine.netbios_name)


def owner_of(instance_id: str) -> str:
    """The GUID between ``Microsoft:`` and the first backslash, upper case."""
    match = re.match(r"Microsoft:(?:GuestNetwork\\)?([^\\]+)", instance_id, re.IGNORECASE)
    return match[1].upper() if match else ""


def selected(machine: Machine, known: Known) -> list[Vm]:
    """The VMs that a question can be about; all of them unless it names one."""
    wanted: set[str] = set()
    for name, value in known.items():
        if not isinstance(value, str):
            continue
        if name.lower() in ("systemname", "virtualsystemidentifier"):
            wanted.add(value.strip("{}").upper())
        elif name.lower() == "instanceid" and "definition\\" not in value.lower():
            wanted.add(owner_of(value))
    if not wanted:
        return list(machine.vms)
    return [vm for vm in machine.vms if vm.id in wanted or any(c.id in wanted for c in vm.checkpoints)]


def owners(vm: Vm) -> Iterator[tuple[str, list[Controller]]]:
    """(GUID that InstanceIDs start with, controllers): the VM itself, then its checkpoints."""
    yield vm.id, vm.controllers
    for checkpoint in vm.checkpoints:
        yield checkpoint.id, checkpoint.controllers


def asks_templates(known: Known) -> bool:
    value = next((v for n, v in known.items() if n.lower() == "instanceid"), None)
    return not isinstance(value, str) or "definition\\" in value.lower()


def who() -> str:
    """The account of the one who asks, as job owners are written."""
    account = caller()
    return f"{account.domain}\\{account.account}" if account.domain else account.account


def managed(machine: Machine) -> Row:
    """Health of something that works."""
    return {
        "HealthState": 5,
        "OperationalStatus": [2],
        "StatusDescriptions": [text(machine, "OK") if machine.os.locale.startswith("en") else "OK"],
        "Status": "OK",
    }


def device(machine: Machine, class_name: str, device_id: str, system: str, caption: str, description: str) -> Row:
    """A CIM_LogicalDevice row."""
    return {
        **managed(machine),
        "Caption": text(machine, caption),
        "Description": text(machine, description),
        "ElementName": text(machine, caption),
        "Name": text(machine, caption),
        "CreationClassName": class_name,
        "DeviceID": device_id,
        "SystemCreationClassName": "Msvm_ComputerSystem",
        "SystemName": system,
        "EnabledDefault": 2,
        "EnabledState": 2,
        "RequestedState": 12,
    }


def drive_class(drive: Drive) -> str:
    return {"dvd": "Msvm_DVDDrive", "physical dvd": "Msvm_DVDDrive", "diskette": "Msvm_DisketteDrive"}.get(
        drive.kind, "Msvm_DiskDrive"
    )


def find_owner(machine: Machine, instance_id: str) -> tuple[Vm, list[Controller], str] | None:
    """VM, controllers and owner GUID that an InstanceID belongs to (the VM's own or a checkpoint's)."""
    wanted = owner_of(instance_id)
    for vm in machine.vms:
        for identifier, controllers in owners(vm):
            if identifier == wanted:
                return vm, controllers, identifier
    return None


def find_part(machine: Machine, instance_id: str) -> tuple[Vm, Controller, Drive | None, bool] | None:
    """What a RASD or SASD InstanceID names: VM, controller, drive (None: the controller itself), whether the medium."""
    owner = find_owner(machine, instance_id)
    if owner is None:
        return None
    vm, controllers, identifier = owner
    wanted = instance_id.upper()
    for controller in controllers:
        if controller.instance_id(identifier).upper() == wanted:
            return vm, controller, None, False
        for location, drive in controller.drives.items():
            if controller.drive_id(identifier, location).upper() == wanted:
                return vm, controller, drive, False
            if drive.medium is not None and controller.medium_id(identifier, location).upper() == wanted:
                return vm, controller, drive, True
    return None


def as_text(value: Any) -> str:
    return "" if value is None else str(value)


def first_text(value: Value) -> str | None:
    """The one text of an array such as HostResource."""
    if isinstance(value, list) and value and isinstance(value[0], str):
        return value[0]
    return None


def key_of_path(path: Value, key: str = "InstanceID") -> str | None:
    """The key value of an object path text; None when it is no path (wrong escaping shows here)."""
    if not isinstance(path, str):
        return None
    try:
        value = parse_object_path(path, NS).key(key)
    except ValueError:
        return None
    return value if isinstance(value, str) else None
