# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine small enough to see through, with views and methods of its own, for the tests of the doors and the codec.

It shares nothing with the worlds of the simulator: its providers are a set of their own.
"""

from __future__ import annotations

import itertools
import threading
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from simulator import door_memory
from simulator.assumed import Switches
from simulator.cim import NEVER, CimFault, Instance, Ref, Value
from simulator.endpoint import Endpoint, WinRmSettings
from simulator.service import CimService, Providers
from simulator.shell import Shells

V2 = "root/virtualization/v2"
STORAGE = "root/microsoft/windows/storage"
WMI = "http://schemas.microsoft.com/wbem/wsman/1/wmi/"
WQL = "http://schemas.microsoft.com/wbem/wsman/1/WQL"
NS = {
    "s": "http://www.w3.org/2003/05/soap-envelope",
    "a": "http://schemas.xmlsoap.org/ws/2004/08/addressing",
    "n": "http://schemas.xmlsoap.org/ws/2004/09/enumeration",
    "x": "http://schemas.xmlsoap.org/ws/2004/09/transfer",
    "w": "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd",
    "f": "http://schemas.microsoft.com/wbem/wsman/1/wsmanfault",
    "rsp": "http://schemas.microsoft.com/wbem/wsman/1/windows/shell",
    "cim": "http://schemas.dmtf.org/wbem/wscim/1/common",
    "xsi": "http://www.w3.org/2001/XMLSchema-instance",
}
VM_ID = "7A6C6A1B-3A5F-4A0B-9F6E-0B6A7F1D2C01"
PROVIDERS = Providers()


@dataclass
class TinyClock:
    moment: datetime = datetime(2026, 11, 1, 12, 0, tzinfo=timezone.utc)

    def utc(self) -> datetime:
        return self.moment

    def advance(self, seconds: float) -> datetime:
        self.moment += timedelta(seconds=seconds)
        return self.moment


@dataclass(eq=False)
class TinyWorld:
    clock: TinyClock = field(default_factory=TinyClock)
    seed: int = 1
    switches: Switches = field(default_factory=Switches)
    lock: threading.RLock = field(default_factory=threading.RLock)
    machines: list[TinyMachine] = field(default_factory=list)

    def assume(self, identifier: str) -> str:
        return self.switches[identifier]


@dataclass(kw_only=True)
class TinyAccount:
    password: str
    groups: set[str] = field(default_factory=lambda: {"Administrators"})
    remote_enable: set[str] = field(default_factory=set)
    disabled: bool = False


class TinyProcess:
    """A command that prints its own command line, then whatever it reads, and ends when standard input closes."""

    def __init__(self, command_line: str, needs_input: bool) -> None:
        self.exit_code: int | None = None
        self.stdout, self.stderr, self.stdin = TinyStream(), TinyStream(), TinyInput(self)
        self.stdout.write(f"{command_line}\r\n".encode())
        if not needs_input:
            self.exit_code = 3

    @property
    def alive(self) -> bool:
        return self.exit_code is None


class TinyStream:
    def __init__(self) -> None:
        self._data = b""

    def write(self, data: bytes) -> None:
        self._data += data

    def take(self) -> bytes:
        data, self._data = self._data, b""
        return data

    def __len__(self) -> int:
        return len(self._data)


class TinyInput:
    def __init__(self, process: TinyProcess) -> None:
        self._process = process

    def feed(self, data: bytes) -> None:
        self._process.stdout.write(data)

    def close(self) -> None:
        self._process.exit_code = 0


class TinyProcesses:
    """Only what the shell asks of a process table."""

    def __init__(self) -> None:
        self.killed_jobs: list[str] = []

    def start_shell_command(self, command_line: str, *, skip_cmd_shell: bool = False, **_unused: Any) -> TinyProcess:
        return TinyProcess(command_line, needs_input=command_line.startswith("more"))

    def look(self) -> None:
        return None

    def pump(self) -> None:
        return None

    def kill_job(self, shell_id: str) -> None:
        self.killed_jobs.append(shell_id)

    def kill_tree(self, process: TinyProcess, code: int) -> None:
        process.exit_code = code


@dataclass(eq=False)
class TinyMachine:
    world: TinyWorld = field(default_factory=TinyWorld)
    name: str = "HV01"
    addresses: list[str] = field(default_factory=lambda: ["127.0.0.1"])
    accounts: dict[str, TinyAccount] = field(
        default_factory=lambda: {
            "Administrator": TinyAccount(password="Correct-Horse-9"),
            "viewer": TinyAccount(password="v", groups={"Remote Management Users"}, remote_enable={V2, "root/cimv2"}),
            "operator": TinyAccount(
                password="o", groups={"Remote Management Users", "Hyper-V Administrators"}, remote_enable={V2}
            ),
            "nobody": TinyAccount(password="n", groups={"Users"}),
        }
    )
    namespaces: set[str] = field(
        default_factory=lambda: {"root", "root/cimv2", V2, "root/virtualization", STORAGE, "root/microsoft"}
    )
    winrm: WinRmSettings = field(default_factory=WinRmSettings)
    answers: bool = True
    booted_at: datetime = datetime(2026, 11, 1, tzinfo=timezone.utc)
    processes: TinyProcesses = field(default_factory=TinyProcesses)
    vm_count: int = 3
    notes: str = "first line\nsecond line"
    calls: list[tuple[str, dict[str, Value]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.world.machines.append(self)

    def install(self) -> Endpoint:
        """Make this machine's endpoint use the tiny providers."""
        endpoint = Endpoint(self, CimService(self, PROVIDERS))
        endpoint.shells = Shells(endpoint)
        door_memory._ENDPOINTS[self] = endpoint
        return endpoint


@PROVIDERS.view(V2, "Msvm_ComputerSystem")
def computer_systems(machine: TinyMachine) -> Iterator[Mapping[str, Value]]:
    yield {
        "CreationClassName": "Msvm_ComputerSystem",
        "Name": machine.name,
        "ElementName": machine.name,
        "Caption": "Hosting Computer System",
        "EnabledState": 2,
        "OperationalStatus": [2],
    }
    for number in range(machine.vm_count):
        yield {
            "CreationClassName": "Msvm_ComputerSystem",
            "Name": f"{VM_ID[:-2]}{number + 1:02d}",
            "ElementName": f"vm & <{number}>",
            "Caption": "Virtual Machine",
            "Description": "Microsoft Virtual Machine",
            "EnabledState": 2 if number == 0 else 3,
            "InstallDate": datetime(2026, 10, 8, 15, 15, 36, 684240, tzinfo=timezone.utc),
            "LastReplicationTime": NEVER,
            "OperationalStatus": [2],
            "StatusDescriptions": ["Operating normally"],
            "OnTimeInMilliseconds": 0,
        }


@PROVIDERS.view(V2, "Msvm_VirtualSystemSettingData")
def settings(machine: TinyMachine) -> Iterator[Mapping[str, Value]]:
    for number in range(machine.vm_count):
        name = f"{VM_ID[:-2]}{number + 1:02d}"
        yield {
            "InstanceID": f"Microsoft:{name}",
            "VirtualSystemIdentifier": name,
            "ElementName": f"vm & <{number}>",
            "VirtualSystemType": "Microsoft:Hyper-V:System:Realized",
            "AutomaticStartupActionDelay": timedelta(minutes=30),
            "Notes": [machine.notes],
        }


@PROVIDERS.view(V2, "Msvm_SettingsDefineState")
def settings_define_state(machine: TinyMachine) -> Iterator[Mapping[str, Value]]:
    for number in range(machine.vm_count):
        name = f"{VM_ID[:-2]}{number + 1:02d}"
        yield {
            "ManagedElement": Ref(
                V2, "Msvm_ComputerSystem", {"CreationClassName": "Msvm_ComputerSystem", "Name": name}
            ),
            "SettingData": Ref(V2, "Msvm_VirtualSystemSettingData", {"InstanceID": f"Microsoft:{name}"}),
        }


@PROVIDERS.view(V2, "Msvm_ConcreteJob")
def jobs(machine: TinyMachine) -> Iterator[Mapping[str, Value]]:
    yield {"InstanceID": "11111111-2222-4333-8444-555555555555", "JobState": 7, "PercentComplete": 100, "ErrorCode": 0,
           "ElapsedTime": timedelta(seconds=1, microseconds=4170), "OperationalStatus": [17, 2]}  # fmt: skip


def _service(class_name: str) -> Callable[[TinyMachine], Iterator[Mapping[str, Value]]]:
    def rows(machine: TinyMachine) -> Iterator[Mapping[str, Value]]:
        yield {
            "CreationClassName": class_name,
            "Name": "service",
            "SystemCreationClassName": "Msvm_ComputerSystem",
            "SystemName": machine.name,
        }

    return rows


PROVIDERS.view(V2, "Msvm_VirtualSystemManagementService")(_service("Msvm_VirtualSystemManagementService"))
PROVIDERS.view(V2, "Msvm_ImageManagementService")(_service("Msvm_ImageManagementService"))


@PROVIDERS.view(STORAGE, "MSFT_Disk")
def disks(machine: TinyMachine) -> Iterator[Mapping[str, Value]]:
    for number in range(2):
        yield {"ObjectId": f'{{1}}\\\\HV01\\root:WSP_Disk.ObjectId="{{{number}}}"', "Number": number, "Size": 2**40,
               "UniqueId": f"600140{number:026d}", "IsOffline": False}  # fmt: skip


@PROVIDERS.view(STORAGE, "MSFT_Partition")
def partitions(machine: TinyMachine) -> Iterator[Mapping[str, Value]]:
    yield {"ObjectId": "p1", "DiskNumber": 0, "PartitionNumber": 1, "DriveLetter": "D"}


@PROVIDERS.view("root/cimv2", "Win32_OperatingSystem")
def operating_system(machine: TinyMachine) -> Iterator[Mapping[str, Value]]:
    yield {"Name": "Windows", "Version": "10.0.17763",
           "LastBootUpTime": datetime(2026, 4, 15, 20, 26, 12, 701000, tzinfo=timezone(timedelta(hours=2)))}  # fmt: skip


@PROVIDERS.view("root/cimv2", "Win32_Process")
def processes(machine: TinyMachine) -> Iterator[Mapping[str, Value]]:
    for number in range(300):
        yield {"Handle": str(number), "Name": f"process{number}.exe", "CommandLine": "x" * 500, "ProcessId": number}


@PROVIDERS.method(V2, "Msvm_ComputerSystem", "RequestStateChange")
def request_state_change(
    machine: TinyMachine, target: Instance | None, arguments: dict[str, Value]
) -> dict[str, Value]:
    machine.calls.append(("RequestStateChange", arguments))
    assert target is not None
    if arguments.get("RequestedState") == 77:
        raise CimFault.wmi(0x80041001, "no such state")
    return {
        "ReturnValue": 4096,
        "Job": Ref(V2, "Msvm_ConcreteJob", {"InstanceID": "11111111-2222-4333-8444-555555555555"}),
    }


@PROVIDERS.method(V2, "Msvm_VirtualSystemManagementService", "AddResourceSettings")
@PROVIDERS.method(V2, "Msvm_VirtualSystemManagementService", "ModifySystemSettings")
@PROVIDERS.method(V2, "Msvm_VirtualSystemManagementService", "DestroySystem")
def record(machine: TinyMachine, target: Instance | None, arguments: dict[str, Value]) -> dict[str, Value]:
    machine.calls.append(("call", arguments))
    return {"ReturnValue": 0}


@PROVIDERS.method(V2, "Msvm_ImageManagementService", "GetVirtualHardDiskSettingData")
def vhd_settings(machine: TinyMachine, target: Instance | None, arguments: dict[str, Value]) -> dict[str, Value]:
    made = Instance(
        V2, "Msvm_VirtualHardDiskSettingData", {"Path": "C:\\a & b.vhdx", "Type": 2, "MaxInternalSize": 2**40}
    )
    return {"ReturnValue": 0, "SettingData": made}


@PROVIDERS.method(STORAGE, "MSFT_Disk", "Offline")
def offline(machine: TinyMachine, target: Instance | None, arguments: dict[str, Value]) -> dict[str, Value]:
    status = Instance(STORAGE, "MSFT_StorageExtendedStatus", {"CIMStatusCode": 1, "Message": "in use"})
    return {"ReturnValue": 41000, "ExtendedStatus": status}


@PROVIDERS.method(STORAGE, "MSFT_Disk", "Online")
def online(machine: TinyMachine, target: Instance | None, arguments: dict[str, Value]) -> dict[str, Value]:
    raise CimFault.mi(6, "Not found", 2150858752)


# -- writing requests and reading answers -----------------------------------------------------------------------------

_NUMBERS = itertools.count(1)


def envelope(
    action: str, uri: str, body: str = "", selectors: Mapping[str, str] | None = None, header: str = ""
) -> bytes:
    chosen = ""
    if selectors is not None:
        inner = "".join(f'<w:Selector Name="{name}">{_escape(value)}</w:Selector>' for name, value in selectors.items())
        chosen = f"<w:SelectorSet>{inner}</w:SelectorSet>"
    declared = " ".join(f'xmlns:{prefix}="{uri}"' for prefix, uri in NS.items())
    return (
        f'<s:Envelope {declared}><s:Header><a:To>http://hv01:5985/wsman</a:To><w:ResourceURI s:mustUnderstand="true">{uri}'
        "</w:ResourceURI><a:ReplyTo><a:Address>http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous"
        f'</a:Address></a:ReplyTo><a:Action s:mustUnderstand="true">{action}</a:Action>'
        f"<a:MessageID>uuid:00000000-0000-4000-8000-{next(_NUMBERS):012d}</a:MessageID>{chosen}{header}</s:Header>"
        f"<s:Body>{body}</s:Body></s:Envelope>"
    ).encode()


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


def query(text: str, namespace: str = V2, *, optimized: bool = True, mode: str = "", batch: int = 500) -> bytes:
    options = f"<w:OptimizeEnumeration/><w:MaxElements>{batch}</w:MaxElements>" if optimized else ""
    options += f"<w:EnumerationMode>{mode}</w:EnumerationMode>" if mode else ""
    return envelope(
        NS["n"] + "/Enumerate",
        f"{WMI}{namespace}/*",
        f'<n:Enumerate>{options}<w:Filter Dialect="{WQL}">{_escape(text)}</w:Filter></n:Enumerate>',
    )


def pull(context: str, namespace: str = V2, batch: int | None = 500) -> bytes:
    limit = f"<n:MaxElements>{batch}</n:MaxElements>" if batch else ""
    body = f"<n:Pull><n:EnumerationContext>{context}</n:EnumerationContext>{limit}</n:Pull>"
    return envelope(NS["n"] + "/Pull", f"{WMI}{namespace}/*", body)


def invoke(class_name: str, method: str, parameters: str = "", selectors: Mapping[str, str] | None = None,
           namespace: str = V2) -> bytes:  # fmt: skip
    uri = f"{WMI}{namespace}/{class_name}"
    return envelope(
        f"{uri}/{method}", uri, f'<p:{method}_INPUT xmlns:p="{uri}">{parameters}</p:{method}_INPUT>', selectors
    )


@dataclass
class Client:
    """Sends requests through the memory door and takes answers apart."""

    machine: TinyMachine
    account: str = "Administrator"

    def send(self, data: bytes) -> ET.Element:
        return ET.fromstring(door_memory.memory_door(self.machine, self.account)(data))

    def rows(self, text: str, namespace: str = V2, batch: int = 500) -> list[ET.Element]:
        """All items of a query, through as many pages as it takes."""
        answer = self.send(query(text, namespace))
        fault = answer.find(".//s:Fault", NS)
        assert fault is None, ET.tostring(answer)
        items = [item for block in answer.iterfind(".//w:Items", NS) for item in block]
        context = answer.findtext(".//n:EnumerationContext", "", NS)
        while context:
            answer = self.send(pull(context, namespace, batch))
            items += [item for block in answer.iterfind(".//n:Items", NS) for item in block]
            context = answer.findtext(".//n:EnumerationContext", "", NS)
        return items

    def fault(self, data: bytes) -> tuple[str, int]:
        """(subcode, code) of the fault that the request gives."""
        answer = self.send(data)
        subcode = answer.findtext(".//s:Subcode/s:Value", "", NS) or answer.findtext(".//s:Code/s:Value", "", NS)
        detail = answer.find(".//f:WSManFault", NS)
        if detail is not None:
            return subcode, int(detail.get("Code", "0"))
        return subcode, int(next(e.text or "0" for e in answer.iter() if e.tag.endswith("error_Code")))


def local(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]


def values(element: ET.Element) -> dict[str, Any]:
    """Property texts by local name."""
    return {local(child): child.text for child in element}
