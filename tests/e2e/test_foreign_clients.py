# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole conversations of other Hyper-V clients with a simulated host: what they list, switch, build and take down.

Each client here is written in the manner of a family of real ones (their way of asking, paging, naming, polling), over
real HTTP with Basic or sealed NTLM, and each test ends at the state of the world. Not here: broken requests
(unit/simulator/test_foreign_exchanges.py), our own collection.
"""

from __future__ import annotations

import base64
import itertools
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Mapping
from html import escape
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from ssl import create_default_context
from typing import Any
from xml.sax.saxutils import quoteattr

import pytest
from pypsrp.wsman import SelectorSet, WSMan
from winrm.exceptions import WSManFaultError
from winrm.protocol import Protocol

from simulator.assumed import import_everything
from simulator.door_http import HttpDoors
from simulator.virtual_machine import OFF, PAUSED, RUNNING, SAVED, Vm
from simulator.world import Machine, World

WORLD = """
name: foreign
seed: foreign
clock: 2026-10-01T20:00:00Z
luns:
  - {id: blank, size: 300M, bus: iscsi, serial: "f0000001"}
  - {id: attached, size: 16M, bus: iscsi, serial: "f0000002"}
  - {id: remote, size: 300M, bus: iscsi, portal: 127.24.9.1, serial: "f0000003"}
hosts:
  - name: hv01
    address: 127.24.0.1
    os: server2022
    winrm: {basic: true, allow_unencrypted: true}
    volumes: [{letter: C, size: 60G, label: System}, {letter: D, size: 100G, label: VMs}]
    luns: [blank, attached]
vms:
  - name: web01
    host: hv01
    generation: 2
    disks:
      - {slot: "scsi 0:0", vhd: 'D:\\VMs\\web01\\os.vhdx', size: 16M}
      - {slot: "scsi 0:1", dvd: null}
    guest:
      address: 127.24.1.1
      winrm: {basic: true, allow_unencrypted: true}
      disks:
        - slot: "scsi 0:0"
          partitions: [{letter: C, label: Windows, boot: true, files: {count: 4, size: 64K}}]
  - name: old & "odd" <vm>
    host: hv01
    generation: 1
    state: "off"
    disks:
      - {slot: "ide 0:0", vhd: 'D:\\VMs\\old\\os.vhd', size: 16M}
      - {slot: "ide 0:1", lun: attached}
"""
USER, PASSWORD = "Administrator", "Passw0rd!"
SOAP, ADDRESSING = "http://www.w3.org/2003/05/soap-envelope", "http://schemas.xmlsoap.org/ws/2004/08/addressing"
ENUMERATION = "http://schemas.xmlsoap.org/ws/2004/09/enumeration"
TRANSFER = "http://schemas.xmlsoap.org/ws/2004/09/transfer"
WSMAN = "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"
BINDING = "http://schemas.dmtf.org/wbem/wsman/1/cimbinding.xsd"
WMI = "http://schemas.microsoft.com/wbem/wsman/1/wmi/"
V2, CIMV2, STORAGE = "root/virtualization/v2", "root/cimv2", "root/Microsoft/Windows/Storage"
WQL = "http://schemas.microsoft.com/wbem/wsman/1/WQL"
SELECTOR_FILTER = "http://schemas.dmtf.org/wbem/wsman/1/wsman/SelectorFilter"
ASSOCIATION_FILTER = "http://schemas.dmtf.org/wbem/wsman/1/cimbinding/associationFilter"
ANONYMOUS = f"{ADDRESSING}/role/anonymous"
NS = {"s": SOAP, "a": ADDRESSING, "n": ENUMERATION, "w": WSMAN}
VSMS, IMAGES = "Msvm_VirtualSystemManagementService", "Msvm_ImageManagementService"
SNAPSHOTS, COMPUTER = "Msvm_VirtualSystemSnapshotService", "Msvm_ComputerSystem"
RASD, SASD = "Msvm_ResourceAllocationSettingData", "Msvm_StorageAllocationSettingData"
VSSD = "Msvm_VirtualSystemSettingData"
DEVICE_KEYS = ("CreationClassName", "DeviceID", "SystemCreationClassName", "SystemName")
_IDS = itertools.count(1)


class Refused(Exception):
    """A fault: HTTP status and the text of the envelope."""


class Site:
    """A world behind its doors."""

    def __init__(self, folder: Path) -> None:
        import_everything()
        self.world = World.from_yaml(WORLD, folder)
        self.doors = HttpDoors(list(self.world.machines), folder / "certificates", port=0, tls_port=0).start()

    def close(self) -> None:
        self.doors.stop()
        self.world.close()

    @property
    def host(self) -> Machine:
        return self.world.machine("hv01")

    def vm(self, name: str) -> Vm:
        return next(vm for vm in self.world.vms if vm.name == name)

    def basic(self, machine: str = "hv01", *, tls: bool = False) -> Callable[[bytes], ET.Element]:
        """Basic, sent with the first request already; over TLS with the world's CA."""
        door = self.doors.door(machine, tls=tls)
        connection: HTTPConnection = (
            HTTPSConnection(
                door.address, door.port, timeout=20, context=create_default_context(cafile=self.doors.ca_file)
            )
            if tls
            else HTTPConnection(door.address, door.port, timeout=20)
        )

        def send(data: bytes) -> ET.Element:
            connection.request("POST", "/wsman", data, {"Content-Type": "application/soap+xml", **authorization()})
            answer = connection.getresponse()
            text = answer.read()
            if answer.status != 200:
                raise Refused(f"{answer.status} {text.decode()}")
            return ET.fromstring(text)

        return send

    def asked_first(self, machine: str = "hv01") -> Callable[[bytes], ET.Element]:
        """Basic as libvirt has it: the whole request goes out bare, comes back 401, and goes out again."""
        door = self.doors.door(machine)
        connection, send = HTTPConnection(door.address, door.port, timeout=20), None

        def ask(data: bytes) -> ET.Element:
            nonlocal send
            connection.request("POST", "/wsman", data, {"User-Agent": "openwsman 2.2.0"})
            answer = connection.getresponse()
            assert (answer.status, answer.read()) == (401, b"")
            assert any("Basic realm=" in value for value in answer.headers.get_all("WWW-Authenticate") or [])
            send = send or self.basic(machine)
            return send(data)

        return ask

    def ntlm(self, machine: str = "hv01", *, tls: bool = False) -> Callable[[bytes], ET.Element]:
        """NTLM, sealed over http."""
        door = self.doors.door(machine, tls=tls)
        more: dict[str, Any] = {"ca_trust_path": str(self.doors.ca_file)} if tls else {}
        protocol: Any = Protocol(door.url, transport="ntlm", username=USER, password=PASSWORD, **more)

        def send(data: bytes) -> ET.Element:
            try:
                return ET.fromstring(protocol.send_message(data))
            except WSManFaultError as error:
                raise Refused(f"{error.code} {error.response}") from None

        return send

    def carrier(self, name: str) -> Callable[[bytes], ET.Element]:
        tls = name.endswith("tls")
        return self.ntlm(tls=tls) if name.startswith("ntlm") else self.basic(tls=tls)


def authorization() -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.close()
    assert made.doors.bugs == []


# -- what all families share ------------------------------------------------------------------------------------------


def plain(row: ET.Element) -> dict[str, str]:
    """Property name to text; a date is the text of its inner element, an array its last entry."""
    return {child.tag.rpartition("}")[2]: "".join(child.itertext()) for child in row}


def path_of(reference: ET.Element) -> dict[str, str]:
    """The selectors below an EndpointReference or below a parameter that is one."""
    return {str(s.get("Name")): "".join(s.itertext()) for s in reference.iterfind(".//w:SelectorSet/w:Selector", NS)}


def embedded(class_name: str, *, pretty: bool = False, **properties: str | int | bool | list[str]) -> str:
    """CIM-XML text, escaped for XML; `pretty` with declaration, line breaks and indentation as openwsman writes it."""
    parts = []
    for name, value in properties.items():
        kind = "boolean" if isinstance(value, bool) else "uint64" if isinstance(value, int) else "string"
        if isinstance(value, list):
            inner = "".join(f"<VALUE>{escape(text, quote=False)}</VALUE>" for text in value)
            parts.append(
                f'<PROPERTY.ARRAY NAME="{name}" TYPE="string"><VALUE.ARRAY>{inner}</VALUE.ARRAY></PROPERTY.ARRAY>'
            )
        else:
            text = str(value).lower() if isinstance(value, bool) else escape(str(value), quote=False)
            parts.append(f'<PROPERTY NAME="{name}" TYPE="{kind}"><VALUE>{text}</VALUE></PROPERTY>')
    text = f'<INSTANCE CLASSNAME="{class_name}">{"".join(parts)}</INSTANCE>'
    if pretty:
        text = '<?xml version="1.0"?>\n' + text.replace("><", ">\n  <") + "\n"
    return escape(text, quote=False)


def object_path(class_name: str, instance_id: str) -> str:
    doubled = instance_id.replace("\\", "\\\\")
    return f'\\\\HV01\\root\\virtualization\\v2:{class_name}.InstanceID="{doubled}"'


class Client:
    """A conversation in one family's dialect; subclasses choose prefixes, headers, paging and polling."""

    soap, addressing, wsman, enumeration = "s", "a", "w", "n"
    extra = ""

    def __init__(self, send: Callable[[bytes], ET.Element]) -> None:
        self._send = send
        self.requests = 0

    def exchange(self, action: str, uri: str, body: str, selectors: Mapping[str, str] | None = None) -> ET.Element:
        s, a, w = self.soap, self.addressing, self.wsman
        chosen = self.selectors(selectors) if selectors else ""
        text = (
            f'<?xml version="1.0" encoding="UTF-8"?><{s}:Envelope xmlns:{s}="{SOAP}" xmlns:{a}="{ADDRESSING}" '
            f'xmlns:{w}="{WSMAN}" xmlns:{self.enumeration}="{ENUMERATION}" xmlns:b="{BINDING}"><{s}:Header>'
            f'<{a}:Action {s}:mustUnderstand="true">{action}</{a}:Action>'
            f'<{a}:To {s}:mustUnderstand="true">http://anything:5985/wsman</{a}:To>'
            f'<{w}:ResourceURI {s}:mustUnderstand="true">{uri}</{w}:ResourceURI>'
            f'<{a}:MessageID {s}:mustUnderstand="true">uuid:00000000-0000-4000-8000-{next(_IDS):012d}</{a}:MessageID>'
            f"<{a}:ReplyTo><{a}:Address>{ANONYMOUS}</{a}:Address></{a}:ReplyTo>{self.extra}{chosen}</{s}:Header>"
            f"<{s}:Body>{body}</{s}:Body></{s}:Envelope>"
        )
        self.requests += 1
        answer = self._send(text.encode()).find("s:Body", NS)
        assert answer is not None
        return answer

    def selectors(self, chosen: Mapping[str, str]) -> str:
        w = self.wsman
        inner = "".join(f"<{w}:Selector Name={quoteattr(n)}>{escape(v)}</{w}:Selector>" for n, v in chosen.items())
        return f"<{w}:SelectorSet>{inner}</{w}:SelectorSet>"

    def reference(self, class_name: str, selectors: Mapping[str, str], namespace: str = V2) -> str:
        a, w = self.addressing, self.wsman
        return (
            f"<{a}:Address>{ANONYMOUS}</{a}:Address><{a}:ReferenceParameters><{w}:ResourceURI>{WMI}{namespace}/{class_name}"
            f"</{w}:ResourceURI>{self.selectors(selectors)}</{a}:ReferenceParameters>"
        )

    def invoke(
        self, class_name: str, method: str, inner: str, selectors: Mapping[str, str] | None = None, namespace: str = V2
    ) -> ET.Element:
        """`inner` uses the prefix n1 for parameters. The Method_OUTPUT element comes back."""
        uri = f"{WMI}{namespace}/{class_name}"
        body = f'<n1:{method}_INPUT xmlns:n1="{uri}">{inner}</n1:{method}_INPUT>'
        answer = self.exchange(f"{uri}/{method}", uri, body, selectors or {"CreationClassName": class_name})
        output = answer.find(f"{{*}}{method}_OUTPUT")
        assert output is not None
        return output


def returned(output: ET.Element) -> int:
    return int(output.findtext("{*}ReturnValue", "-1"))


def parameter(name: str, text: str) -> str:
    return f"<n1:{name}>{text}</n1:{name}>"


# -- libvirt: WQL only, one item per Pull, references copied, everything text ------------------------------------------


class LibvirtStyle(Client):
    addressing, wsman, enumeration = "wsa", "wsman", "wsen"

    def rows(self, wql: str, namespace: str = V2, *, references: bool = False) -> list[ET.Element]:
        mode = "<wsman:EnumerationMode>EnumerateEPR</wsman:EnumerationMode>" if references else ""
        filters = f'{mode}<wsman:Filter Dialect="{WQL}">{escape(wql, quote=False)}</wsman:Filter>'
        body = f"<wsen:Enumerate>{filters}</wsen:Enumerate>"
        answer = self.exchange(f"{ENUMERATION}/Enumerate", f"{WMI}{namespace}/*", body)
        assert answer.find(".//w:Items", NS) is None
        context, found = answer.findtext(".//n:EnumerationContext", "", NS), []
        while context:
            body = f"<wsen:Pull><wsen:EnumerationContext>{context}</wsen:EnumerationContext></wsen:Pull>"
            answer = self.exchange(f"{ENUMERATION}/Pull", f"{WMI}{namespace}/{COMPUTER}", body)
            items = answer.find(".//n:Items", NS)
            assert items is not None and len(items) <= 1
            found += list(items)
            context = answer.findtext(".//n:EnumerationContext", "", NS)
        return found

    def one(self, wql: str, namespace: str = V2) -> dict[str, str]:
        (row,) = self.rows(wql, namespace)
        return plain(row)

    def copied(self, wql: str) -> str:
        """The children of the one reference that the query finds, as they came."""
        (reference,) = self.rows(wql, references=True)
        return "".join(ET.tostring(child, encoding="unicode") for child in reference)

    def finish(self, output: ET.Element) -> dict[str, str]:
        """Poll by WQL until the job is complete; {} when there was none."""
        if returned(output) != 4096:
            assert returned(output) == 0
            return {}
        selector = output.find("{*}Job/a:ReferenceParameters/w:SelectorSet/w:Selector[@Name='InstanceID']", NS)
        assert selector is not None
        for _unused in range(20):
            job = self.one(f"SELECT * FROM Msvm_ConcreteJob WHERE InstanceID = '{selector.text}' ")  # noqa: S608
            if job["JobState"] not in ("2", "3", "4"):
                return job
        raise AssertionError("the job does not end")

    def change_state(self, vm_id: str, state: int) -> str:
        keys = {"CreationClassName": COMPUTER, "Name": vm_id.lower()}
        job = self.finish(self.invoke(COMPUTER, "RequestStateChange", parameter("RequestedState", str(state)), keys))
        return job["JobState"]


def test_libvirt_style_inspects_a_host_and_its_machines(site: Site) -> None:
    client = LibvirtStyle(site.asked_first())
    assert client.one("SELECT * FROM Win32_OperatingSystem ", CIMV2)["Version"] == "10.0.20348"
    assert len(client.one("SELECT * FROM Win32_ComputerSystemProduct ", CIMV2)["UUID"]) == 36
    assert client.rows("SELECT * FROM Win32_Processor ", CIMV2)
    names = [plain(row)["ElementName"] for row in client.rows(
        "SELECT * FROM Msvm_ComputerSystem WHERE Description = 'Microsoft Virtual Machine' AND EnabledState != 0 ")]  # fmt: skip
    assert names == ["web01", 'old & "odd" <vm>']
    vm = site.vm("web01")
    found = client.one(f"SELECT * FROM Msvm_ComputerSystem WHERE Name != __SERVER AND Name = '{vm.id.lower()}'")  # noqa: S608
    assert (found["ElementName"], found["EnabledState"]) == ("web01", "2")
    settings = client.one(
        f"ASSOCIATORS OF {{Msvm_ComputerSystem.CreationClassName='Msvm_ComputerSystem',Name='{vm.id.lower()}'}} "
        "WHERE AssocClass = Msvm_SettingsDefineState ResultClass = Msvm_VirtualSystemSettingData"
    )
    assert settings["InstanceID"] == f"Microsoft:{vm.id}"
    part = "ASSOCIATORS OF {{Msvm_VirtualSystemSettingData.InstanceID='{}'}} WHERE AssocClass = {} ResultClass = {}"
    component = "Msvm_VirtualSystemSettingDataComponent"
    processor = client.one(part.format(settings["InstanceID"], component, "Msvm_ProcessorSettingData"))
    memory = client.one(part.format(settings["InstanceID"], component, "Msvm_MemorySettingData"))
    assert (processor["VirtualQuantity"], memory["VirtualQuantity"]) == ("2", "2048")
    disks = [plain(row) for row in client.rows(part.format(settings["InstanceID"], component, SASD))]
    assert [disk["HostResource"] for disk in disks if "HostResource" in disk] == ["D:\\VMs\\web01\\os.vhdx"]
    parents = [
        plain(row)
        for row in client.rows(f"SELECT * FROM {RASD} WHERE __PATH = '{wql_text(disks[0]['Parent'])}'")  # noqa: S608
    ]
    assert [row["ResourceSubType"] for row in parents] == ["Microsoft:Hyper-V:Synthetic Disk Drive"]
    assert client.rows("SELECT * FROM Msvm_ComputerSystem WHERE Name = 'nobody' ") == []


def wql_text(path: str) -> str:
    return path.replace("\\", "\\\\")


def test_libvirt_style_takes_a_machine_through_all_states(site: Site) -> None:
    client, vm = LibvirtStyle(site.asked_first()), site.vm("web01")
    assert vm.guest is not None
    for state, reached in ((9, PAUSED), (2, RUNNING), (6, SAVED), (2, RUNNING), (11, RUNNING)):
        assert client.change_state(vm.id, state) == "7"
        assert vm.state == reached
    (row,) = client.rows(f"SELECT * FROM Msvm_Keyboard WHERE SystemName = '{vm.id.lower()}' ")  # noqa: S608
    keys = {name: plain(row)[name] for name in DEVICE_KEYS}
    for pressed in ("PressKey", "ReleaseKey"):
        assert returned(client.invoke("Msvm_Keyboard", pressed, parameter("keyCode", "65"), keys)) == 0
    (row,) = client.rows(f"SELECT * FROM Msvm_ShutdownComponent WHERE SystemName = '{vm.id.lower()}' ")  # noqa: S608
    keys = {
        name: plain(row)[name] for name in ("CreationClassName", "DeviceID", "SystemCreationClassName", "SystemName")
    }
    reason = parameter("Force", "False") + parameter("Reason", "Planned shutdown via libvirt")
    assert returned(client.invoke("Msvm_ShutdownComponent", "InitiateShutdown", reason, keys)) == 0
    for _unused in range(10):
        if client.one(f"SELECT * FROM Msvm_ComputerSystem WHERE Name = '{vm.id}'")["EnabledState"] == "3":  # noqa: S608
            break
    assert vm.state == OFF
    assert not vm.guest.answers
    assert client.change_state(vm.id, 2) == "7"
    assert vm.state == RUNNING


def test_libvirt_style_defines_a_machine_piece_by_piece(site: Site) -> None:
    client, host = LibvirtStyle(site.asked_first()), site.host
    system = embedded(VSSD, pretty=True, ElementName="made")
    client.finish(client.invoke(VSMS, "DefineSystem", parameter("SystemSettings", system)))
    name = client.one("SELECT * FROM Msvm_ComputerSystem WHERE ElementName = 'made'")["Name"]
    vm = site.vm("made")
    assert (vm.id, vm.generation, vm.state) == (name, 1, OFF)
    settings = client.copied(f"SELECT * FROM {VSSD} WHERE InstanceID = 'Microsoft:{name.lower()}'")  # noqa: S608

    def modify(query: str, class_name: str, **values: str) -> None:
        found = client.one(query)
        text = embedded(class_name, pretty=True, InstanceID=found["InstanceID"], **values)
        client.finish(client.invoke(VSMS, "ModifyResourceSettings", parameter("ResourceSettings", text)))

    like = f"InstanceID LIKE 'Microsoft:{name}%'"
    modify(f"SELECT * FROM Msvm_ProcessorSettingData WHERE {like}", "Msvm_ProcessorSettingData", VirtualQuantity="3")  # noqa: S608
    modify(f"SELECT * FROM Msvm_MemorySettingData WHERE {like}", "Msvm_MemorySettingData", VirtualQuantity="768")  # noqa: S608
    assert (vm.settings.processors, vm.settings.memory_mb) == (3, 768)

    def add(class_name: str, **values: Any) -> str:
        text = embedded(class_name, pretty=True, **values)
        parameters = parameter("AffectedConfiguration", settings) + parameter("ResourceSettings", text)
        output = client.invoke(VSMS, "AddResourceSettings", parameters)
        assert returned(output) == 0
        first = output.find(".//w:Selector[@Name='InstanceID']", NS)
        assert first is not None and first.text is not None
        return first.text

    kind = "Microsoft:Hyper-V:"
    controller = add(RASD, ResourceSubType=kind + "Synthetic SCSI Controller", ResourceType=6)
    parent = object_path(RASD, controller)
    drive = add(
        RASD, AddressOnParent="0", Parent=parent, ResourceSubType=kind + "Synthetic Disk Drive", ResourceType=17
    )
    site.vm("web01").set_state(OFF)
    add(SASD, ResourceSubType=kind + "Virtual Hard Disk", HostResource=["D:\\VMs\\web01\\os.vhdx"],
        Parent=object_path(RASD, drive), ResourceType=31)  # fmt: skip
    number = next(disk.number for disk in host.disks if disk.lun is site.world.luns["blank"])
    (resource,) = [
        row for row in client.rows("SELECT * FROM Msvm_DiskDrive ") if plain(row).get("DriveNumber") == str(number)
    ]
    inner = ",".join(f'{key}="{wql_text(plain(resource)[key])}"' for key in DEVICE_KEYS)
    add(RASD, AddressOnParent="1", Parent=parent, ResourceSubType=kind + "Physical Disk Drive", ResourceType=17,
        HostResource=[f"\\\\HV01\\root\\virtualization\\v2:Msvm_DiskDrive.{inner}"])  # fmt: skip
    port = add(
        "Msvm_SyntheticEthernetPortSettingData", ResourceSubType=kind + "Synthetic Ethernet Port", ResourceType=10
    )
    switch = client.one("SELECT * FROM Msvm_VirtualEthernetSwitch ")
    target = f'\\\\HV01\\root\\virtualization\\v2:Msvm_VirtualEthernetSwitch.CreationClassName="Msvm_VirtualEthernetSwitch",Name="{switch["Name"]}"'  # noqa: E501
    add("Msvm_EthernetPortAllocationSettingData", ResourceSubType=kind + "Ethernet Connection", ResourceType=33,
        Parent=object_path("Msvm_SyntheticEthernetPortSettingData", port), HostResource=[target])  # fmt: skip
    slots = {location: drive.kind for location, drive in vm.controllers[-1].drives.items()}
    assert slots == {0: "disk", 1: "physical"}
    assert vm.physical_lun(vm.controllers[-1].drives[1]) is site.world.luns["blank"]
    assert [adapter.switch for adapter in vm.adapters] == [switch["Name"]]
    assert client.change_state(vm.id, 2) == "7"
    assert vm.state == RUNNING
    affected = parameter("AffectedSystem", client.copied(f"SELECT * FROM Msvm_ComputerSystem WHERE Name = '{name}'"))  # noqa: S608
    assert returned(client.invoke(VSMS, "DestroySystem", affected)) == 32775
    client.change_state(vm.id, 3)
    client.finish(client.invoke(VSMS, "DestroySystem", affected))
    assert [one.name for one in site.world.vms] == ["web01", 'old & "odd" <vm>']
    assert host.resolve("D:\\VMs\\web01\\os.vhdx")[0].files.exists("VMs\\web01\\os.vhdx")
    assert site.world.check() == []


# -- Go libraries and providers: class URIs, filters of their own, Get on what a method returned -----------------------


class GoStyle(Client):
    extra = (
        '<w:MaxEnvelopeSize s:mustUnderstand="true">153600</w:MaxEnvelopeSize>'
        "<w:OperationTimeout>PT60S</w:OperationTimeout>"
    )

    def rows(self, class_name: str) -> list[dict[str, str]]:
        uri = f"{WMI}{V2}/{class_name}"
        answer = self.exchange(f"{ENUMERATION}/Enumerate", uri, "<n:Enumerate/>")
        context, found = answer.findtext(".//n:EnumerationContext", "", NS), []
        while context:
            body = f"<n:Pull><n:EnumerationContext>{context}</n:EnumerationContext></n:Pull>"
            answer = self.exchange(f"{ENUMERATION}/Pull", uri, body)
            found += [plain(item) for items in answer.iterfind(".//n:Items", NS) for item in items]
            context = answer.findtext(".//n:EnumerationContext", "", NS)
        return found

    def get(self, uri: str, selectors: Mapping[str, str]) -> dict[str, str]:
        return plain(self.exchange(f"{TRANSFER}/Get", uri, "", selectors)[0])

    def finish(self, output: ET.Element) -> dict[str, str]:
        """Get on the job's own reference, whatever class it has, until it is over; {} when there is no job."""
        job = output.find("{*}Job")
        if returned(output) == 0:
            return {}
        assert returned(output) == 4096 and job is not None
        uri = job.findtext(".//w:ResourceURI", "", NS)
        for _unused in range(20):
            row = self.get(uri, path_of(job))
            if int(row["JobState"]) >= 7:
                return row
        raise AssertionError("the job does not end")

    def affected(self, vm_id: str) -> str:
        return parameter("AffectedConfiguration", self.reference(VSSD, {"InstanceID": f"Microsoft:{vm_id}"}))

    def system(self, vm_id: str, name: str = "AffectedSystem") -> str:
        return parameter(name, self.reference(COMPUTER, {"CreationClassName": COMPUTER, "Name": vm_id}))

    def add(self, vm_id: str, class_name: str, **values: Any) -> str:
        text = parameter("ResourceSettings", embedded(class_name, **values))
        output = self.invoke(VSMS, "AddResourceSettings", self.affected(vm_id) + text)
        made = output.find("{*}ResultingResourceSettings")
        assert returned(output) == 0 and made is not None
        return path_of(made)["InstanceID"]


@pytest.mark.parametrize("carrier", ["ntlm", "ntlm tls"])
def test_go_style_builds_changes_and_destroys_a_machine(site: Site, carrier: str) -> None:
    client, host = GoStyle(site.carrier(carrier)), site.host
    new = embedded("Msvm_VirtualHardDiskSettingData", Type=3, Format=3, Path="D:\\VMs\\new.vhdx",
                   MaxInternalSize=32 << 20, BlockSize=1 << 20, LogicalSectorSize=512, PhysicalSectorSize=4096)  # fmt: skip
    output = client.invoke(IMAGES, "CreateVirtualHardDisk", parameter("VirtualDiskSettingData", new))
    assert "Msvm_StorageJob" in output.findtext(".//w:ResourceURI", "", NS)
    assert client.finish(output)["JobState"] == "7"
    output = client.invoke(IMAGES, "GetVirtualHardDiskSettingData", parameter("Path", "D:\\VMs\\new.vhdx"))
    facts = ET.fromstring(output.findtext("{*}SettingData", ""))
    values = {p.get("NAME"): p.findtext("VALUE") for p in facts.iterfind("PROPERTY")}
    assert (facts.get("CLASSNAME"), values["MaxInternalSize"]) == ("Msvm_VirtualHardDiskSettingData", str(32 << 20))
    assert host.open_image("D:\\VMs\\new.vhdx").payload.size == 32 << 20

    text = embedded(VSSD, ElementName="built", VirtualSystemSubType="Microsoft:Hyper-V:SubType:2")
    output = client.invoke(VSMS, "DefineSystem", parameter("SystemSettings", text))
    made = output.find("{*}ResultingSystem")
    assert returned(output) == 0 and made is not None
    identifier = path_of(made)["Name"]
    assert [row["ElementName"] for row in client.rows(COMPUTER) if row["Name"] == identifier] == ["built"]
    vm, kind = site.vm("built"), "Microsoft:Hyper-V:"
    assert (vm.generation, vm.controllers) == (2, [])
    controller = client.add(identifier, RASD, ResourceType=6, ResourceSubType=kind + "Synthetic SCSI Controller")
    drive = client.add(identifier, RASD, ResourceType=17, ResourceSubType=kind + "Synthetic Disk Drive",
                       Parent=object_path(RASD, controller), AddressOnParent="3")  # fmt: skip
    disk = client.add(identifier, SASD, ResourceType=31, ResourceSubType=kind + "Virtual Hard Disk",
                      Parent=object_path(RASD, drive), HostResource=["D:\\VMs\\new.vhdx"])  # fmt: skip
    client.add(identifier, "Msvm_SyntheticEthernetPortSettingData", ResourceType=10,
               ResourceSubType=kind + "Synthetic Ethernet Port", ElementName="first")  # fmt: skip
    assert vm.vhd_paths() == ["D:\\VMs\\new.vhdx"]
    assert [adapter.name for adapter in vm.adapters] == ["first"]
    notes = embedded(VSSD, InstanceID=f"Microsoft:{identifier}", ElementName="renamed", Notes=["one line"])
    job = client.finish(client.invoke(VSMS, "ModifySystemSettings", parameter("SystemSettings", notes)))
    assert job.get("JobState", "7") == "7"
    assert (vm.name, vm.settings.notes) == ("renamed", "one line")

    arguments = client.system(identifier) + parameter("SnapshotSettings", "") + parameter("SnapshotType", "2")
    output = client.invoke(SNAPSHOTS, "CreateSnapshot", arguments)
    assert client.finish(output)["JobState"] == "7"
    (point,) = [
        row for row in client.rows(VSSD)
        if row["VirtualSystemIdentifier"] == identifier and row["VirtualSystemType"] == kind + "Snapshot:Realized"
    ]  # fmt: skip
    assert vm.vhd_paths()[0].endswith((".avhd", ".avhdx"))
    target = parameter("AffectedSnapshot", client.reference(VSSD, {"InstanceID": point["InstanceID"]}))
    assert client.finish(client.invoke(SNAPSHOTS, "DestroySnapshot", target))["JobState"] == "7"
    assert (vm.checkpoints, vm.vhd_paths()) == ([], ["D:\\VMs\\new.vhdx"])

    for class_name, instance_id in ((SASD, disk), (RASD, drive)):
        gone = parameter("ResourceSettings", client.reference(class_name, {"InstanceID": instance_id}))
        client.finish(client.invoke(VSMS, "RemoveResourceSettings", gone))
    assert vm.drives() == []
    client.finish(client.invoke(VSMS, "DestroySystem", client.system(identifier)))
    assert identifier not in {row["Name"] for row in client.rows(COMPUTER)}
    assert host.resolve("D:\\VMs\\new.vhdx")[0].files.exists("VMs\\new.vhdx")
    with pytest.raises(Refused, match="DestinationUnreachable"):
        client.get(f"{WMI}{V2}/{COMPUTER}", {"CreationClassName": COMPUTER, "Name": identifier})


def test_go_style_meets_the_refusals_that_real_hosts_have(site: Site) -> None:
    client, vm = GoStyle(site.ntlm()), site.vm("web01")
    uri = f"{WMI}{V2}/{COMPUTER}"
    wql = f'<n:Enumerate><w:Filter Dialect="{WQL}">SELECT * FROM {COMPUTER}</w:Filter></n:Enumerate>'  # noqa: S608
    with pytest.raises(Refused, match="CannotProcessFilter"):
        client.exchange(f"{ENUMERATION}/Enumerate", uri, wql)
    wrapped = f"<a:EndpointReference>{client.reference(COMPUTER, {'CreationClassName': COMPUTER, 'Name': vm.id})}</a:EndpointReference>"
    with pytest.raises(Refused, match="SchemaValidationError"):
        client.invoke(VSMS, "DestroySystem", parameter("AffectedSystem", wrapped))
    tree = "<n1:Msvm_VirtualSystemSettingData><n1:ElementName>x</n1:ElementName></n1:Msvm_VirtualSystemSettingData>"
    with pytest.raises(Refused, match="SchemaValidationError"):
        client.invoke(VSMS, "DefineSystem", parameter("SystemSettings", tree))
    assert [one.name for one in site.world.vms] == ["web01", 'old & "odd" <vm>']


# -- test automation that lives in WinRM: objects with references, selector and association filters -------------------


class AutomationStyle(Client):
    soap = "env"
    extra = (
        '<w:MaxEnvelopeSize env:mustUnderstand="true">67108864</w:MaxEnvelopeSize>'
        "<w:OperationTimeout>PT120.000S</w:OperationTimeout>"
        '<w:Locale env:mustUnderstand="false" xml:lang="en-US"/>'
    )
    batch = 32000

    def objects(self, uri: str, filters: str = "") -> list[tuple[str, dict[str, str], dict[str, str]]]:
        """(class URI, selectors, properties) of each object."""
        body = (
            f"<n:Enumerate><w:OptimizeEnumeration></w:OptimizeEnumeration><w:MaxElements>{self.batch}</w:MaxElements>"
            f"<w:EnumerationMode>EnumerateObjectAndEPR</w:EnumerationMode>{filters}</n:Enumerate>"
        )
        answer = self.exchange(f"{ENUMERATION}/Enumerate", uri, body)[0]
        items, found = answer.find("w:Items", NS), []
        if items is not None:
            found += list(items)
            assert found, "an empty first page has no Items at all"
        while answer.find("w:EndOfSequence", NS) is None and answer.find("n:EndOfSequence", NS) is None:
            context = answer.findtext("n:EnumerationContext", "", NS)
            body = f"<n:Pull><n:EnumerationContext>{context}</n:EnumerationContext><n:MaxElements>{self.batch}</n:MaxElements></n:Pull>"
            answer = self.exchange(f"{ENUMERATION}/Pull", uri, body)[0]
            found += list(answer.iterfind("n:Items/w:Item", NS))
        return [self.pair(item) for item in found]

    @staticmethod
    def pair(item: ET.Element) -> tuple[str, dict[str, str], dict[str, str]]:
        reference = item.find("a:EndpointReference", NS)
        assert reference is not None
        uri = reference.findtext("a:ReferenceParameters/w:ResourceURI", "", NS)
        row = item.find(f"{{*}}{uri.rpartition('/')[2]}")
        assert row is not None
        return uri, path_of(reference), plain(row)

    def every(self, class_name: str, namespace: str = STORAGE) -> list[tuple[str, dict[str, str], dict[str, str]]]:
        return self.objects(f"{WMI}{namespace}/{class_name}")

    def select(
        self, class_name: str, namespace: str = STORAGE, **wanted: str
    ) -> list[tuple[str, dict[str, str], dict[str, str]]]:
        filters = f'<w:Filter Dialect="{SELECTOR_FILTER}">{self.selectors(wanted)}</w:Filter>'
        return self.objects(f"{WMI}{namespace}/{class_name}", filters)

    def associated(
        self, class_name: str, selectors: Mapping[str, str], result: str, namespace: str = STORAGE
    ) -> list[tuple[str, dict[str, str], dict[str, str]]]:
        inner = (
            f"<b:AssociatedInstances><b:Object>{self.reference(class_name, selectors, namespace)}</b:Object>"
            f"<b:AssociationClassName></b:AssociationClassName><b:ResultClassName>{result}</b:ResultClassName>"
            "<b:Role></b:Role><b:ResultRole></b:ResultRole></b:AssociatedInstances>"
        )
        return self.objects(f"{WMI}{namespace}/*", f'<w:Filter Dialect="{ASSOCIATION_FILTER}">{inner}</w:Filter>')

    def act(
        self, class_name: str, selectors: Mapping[str, str], method: str, namespace: str = STORAGE, **values: str
    ) -> ET.Element:
        inner = "".join(parameter(name, text) for name, text in values.items())
        uri = f"{WMI}{namespace}/{class_name}"
        body = f'<{method}_INPUT xmlns:n1="{uri}">{inner}</{method}_INPUT>'  # its own element has no namespace
        output = self.exchange(f"{uri}/{method}", uri, body, selectors)[0]
        assert output.findtext("{*}ReturnValue") in ("0", None)
        return output

    def make_volume(self, disk: Mapping[str, str], label: str) -> None:
        self.act("MSFT_Disk", disk, "Initialize", PartitionStyle="1")
        self.act("MSFT_Disk", disk, "CreatePartition", UseMaximumSize="true", MbrType="7", AssignDriveLetter="True")
        ((_uri, partition, _row),) = self.associated("MSFT_Disk", disk, "MSFT_Partition")
        ((_uri, volume, _row),) = self.associated("MSFT_Partition", partition, "MSFT_Volume")
        self.act("MSFT_Volume", volume, "Format", FileSystem="NTFS", FileSystemLabel=label, Full="False")


def test_automation_style_makes_a_volume_of_a_lun(site: Site) -> None:
    client, lun = AutomationStyle(site.basic()), site.world.luns["blank"]
    ((uri, selectors, row),) = client.select("MSFT_Disk", UniqueId=lun.identity.unique_id)
    assert uri.lower() == f"{WMI}{STORAGE}/MSFT_Disk".lower()
    assert (row["IsOffline"], row["PartitionStyle"], list(selectors)) == ("true", "0", ["ObjectId"])
    client.act("MSFT_Disk", selectors, "Online")
    client.act("MSFT_Disk", selectors, "SetAttributes", IsReadOnly="false")
    client.make_volume(selectors, "Made and odd")
    volume = next(volume for volume in site.host.volumes() if volume.label == "Made and odd")
    assert (volume.file_system, volume.disk.lun) == ("NTFS", lun)
    assert volume.letter in {row["DriveLetter"] for _uri, _selectors, row in client.every("MSFT_Volume")}


def test_automation_style_logs_a_guest_in_to_a_target(site: Site) -> None:
    client, lun = AutomationStyle(site.basic("web01")), site.world.luns["remote"]
    ((_uri, keys, row),) = client.select("Win32_Service", CIMV2, name="MSiSCSI")
    assert (keys, row["State"]) == ({"Name": "MSiSCSI"}, "Stopped")
    client.act("Win32_Service", keys, "StartService", CIMV2)
    client.act("MSFT_iSCSITargetPortal", {}, "New", TargetPortalAddress=str(lun.portal))
    output = client.act(
        "MSFT_iSCSITarget", {}, "Connect", NodeAddress=str(lun.target), TargetPortalAddress=str(lun.portal)
    )
    session = output.findtext("{*}CreatediSCSISession/{*}SessionIdentifier")
    assert session
    for _unused in range(10):
        disks = client.associated("MSFT_iSCSISession", {"SessionIdentifier": session}, "MSFT_Disk")
        if disks:
            break
    ((_uri, selectors, row),) = disks
    assert row["UniqueId"] == lun.identity.unique_id
    client.act("MSFT_Disk", selectors, "Online")
    client.act("MSFT_Disk", selectors, "SetAttributes", IsReadOnly="false")
    client.make_volume(selectors, "Remote")
    guest = site.world.machine("web01")
    assert [volume.disk.lun for volume in guest.volumes() if volume.label == "Remote"] == [lun]


def test_automation_style_sees_nothing_singletons_and_missing_things_as_they_are(site: Site) -> None:
    client = AutomationStyle(site.basic())
    assert client.select("Win32_Service", CIMV2, Name="Non-Existent") == []
    ((_uri, selectors, row),) = client.every("Win32_OperatingSystem", CIMV2)
    assert (selectors, row["CSName"]) == ({}, "HV01")
    uri = f"{WMI}{CIMV2}/Win32_OperatingSystem"
    assert plain(client.exchange(f"{TRANSFER}/Get", uri, "")[0])["CSName"] == "HV01"
    with pytest.raises(Refused, match="InvalidSelectors"):
        client.exchange(f"{TRANSFER}/Get", f"{WMI}{CIMV2}/Win32_Service", "", {"UNEXPECTED": "x"})
    with pytest.raises(Refused, match=r"2150858752.*__ExtendedStatus"):
        client.exchange(f"{TRANSFER}/Get", f"{WMI}{CIMV2}/Win32_Service", "", {"Name": "Non-Existent"})
    vm = site.vm("web01")
    keys = {"CreationClassName": COMPUTER, "Name": vm.id.lower()}
    found = client.associated(COMPUTER, keys, VSSD, V2)
    assert [row["InstanceID"] for _uri, _selectors, row in found] == [f"Microsoft:{vm.id}"]


# -- monitoring: big optimised enumerations, many pages ----------------------------------------------------------------


class MonitoringStyle(Client):
    extra = (
        '<w:MaxEnvelopeSize s:mustUnderstand="true">512000</w:MaxEnvelopeSize>'
        "<w:OperationTimeout>PT60S</w:OperationTimeout>"
    )

    def pages(self, wql: str, namespace: str = CIMV2) -> list[list[ET.Element]]:
        uri = f"{WMI}{namespace}/*"
        body = (
            "<n:Enumerate><w:OptimizeEnumeration/><w:MaxElements>32000</w:MaxElements>"
            f'<w:Filter Dialect="{WQL}">{escape(wql, quote=False)}</w:Filter></n:Enumerate>'
        )
        answer = self.exchange(f"{ENUMERATION}/Enumerate", uri, body)[0]
        found = [list(answer.find("w:Items", NS) or [])]
        contexts = [answer.findtext("n:EnumerationContext", "", NS)]
        while contexts[-1]:
            body = f"<n:Pull><n:EnumerationContext>{contexts[-1]}</n:EnumerationContext><n:MaxElements>32000</n:MaxElements></n:Pull>"
            answer = self.exchange(f"{ENUMERATION}/Pull", uri, body)[0]
            found.append(list(answer.find("n:Items", NS) or []))
            contexts.append(answer.findtext("n:EnumerationContext", "", NS))
        assert len(set(contexts)) == len(contexts)
        return found


@pytest.mark.parametrize("carrier", ["basic", "basic tls", "ntlm"])
def test_monitoring_style_gets_every_row_once_over_many_pages(site: Site, carrier: str) -> None:
    volume, _unused = site.host.resolve("D:\\")
    volume.mkdir("many")
    for number in range(150):
        volume.write(f"many\\file {number}.txt", b"")
    client = MonitoringStyle(site.carrier(carrier))
    where = "WHERE Drive = 'd:' AND Path = '\\\\many\\\\'"
    pages = client.pages(f"SELECT * FROM CIM_DataFile {where}")  # noqa: S608
    assert len(pages[0]) == 1 and len(pages) >= 4
    assert sorted(plain(row)["FileName"] for page in pages for row in page) == sorted(f"file {n}" for n in range(150))
    narrow = client.pages(f"SELECT FileName, CreationDate FROM CIM_DataFile {where}")  # noqa: S608
    assert {row.tag for page in narrow for row in page} == {f"{{{WSMAN}}}XmlFragment"}
    assert sorted(child.tag for child in narrow[0][0]) == ["CreationDate", "FileName"]
    assert len(narrow) < len(pages)
    services = [row.tag for page in client.pages("SELECT * FROM Win32_BaseService") for row in page]
    assert services and all(tag.startswith(f"{{{WMI}{CIMV2}/Win32_") for tag in services)


# -- subscription reporting: a bare first POST, projections, odd namespaces --------------------------------------------


class ReportingStyle(LibvirtStyle):
    """As libvirt, but every Pull names root/virtualization and the URI stands between line breaks."""

    def exchange(self, action: str, uri: str, body: str, selectors: Mapping[str, str] | None = None) -> ET.Element:
        chosen = f"{WMI}root/virtualization/*" if action.endswith("/Pull") else uri
        return super().exchange(action, f"\n      {chosen}\n      ", body, selectors)


def test_reporting_style_maps_a_host_to_its_guests(site: Site) -> None:
    door = site.doors.door("hv01")
    bare = HTTPConnection(door.address, door.port, timeout=20)
    bare.request("POST", "/wsman", None, {"Content-Type": "application/soap+xml;charset=UTF-8", "Content-Length": "0"})
    answer = bare.getresponse()
    assert answer.status == 401 and "basic" in ", ".join(answer.headers.get_all("WWW-Authenticate") or []).lower()
    bare.close()
    client = ReportingStyle(site.basic())
    old = "select BIOSGUID, VirtualSystemIdentifier from Msvm_VirtualSystemSettingData where SettingType = 3"
    with pytest.raises(Refused, match="2150858778"):
        client.rows(old, "root/virtualization")
    realized = "where VirtualSystemType='Microsoft:Hyper-V:System:Realized'"
    rows = client.rows(
        f"select BIOSGUID, ElementName, VirtualSystemIdentifier from Msvm_VirtualSystemSettingData {realized}"  # noqa: S608
    )
    guests = {plain(row)["VirtualSystemIdentifier"]: plain(row) for row in rows}
    assert {vm.id: vm.name for vm in site.world.vms} == {key: row["ElementName"] for key, row in guests.items()}
    assert all(row["BIOSGUID"].startswith("{") and row["BIOSGUID"].endswith("}") for row in guests.values())
    uri = f"{WMI}{V2}/{VSMS}"
    asked = "".join(f"<p:RequestedInformation>{code}</p:RequestedInformation>" for code in (0, 1, 100))
    body = f'<wsman:GetSummaryInformation_INPUT xmlns:p="{uri}">{asked}</wsman:GetSummaryInformation_INPUT>'
    keys = {"CreationClassName": VSMS, "SystemCreationClassName": COMPUTER}
    output = client.exchange(f"{uri}/GetSummaryInformation", uri, body, keys)[0]
    assert output.tag == f"{{{uri}}}GetSummaryInformation_OUTPUT"
    summary = f"{{{WMI}{V2}/Msvm_SummaryInformation}}"
    states = {
        row.findtext(f"{summary}Name"): row.findtext(f"{summary}EnabledState")
        for row in output.iterfind("{*}SummaryInformation")
    }
    assert states == {vm.id: str(vm.state) for vm in site.world.vms}
    version = "select * from CIM_Datafile where Path = '\\\\windows\\\\system32\\\\' and FileName='vmms'"
    assert client.one(version, CIMV2)["Version"].startswith("10.0.20348.")
    system = client.one("select DNSHostName, NumberOfProcessors from Win32_ComputerSystem", CIMV2)
    assert (system["DNSHostName"].lower(), int(system["NumberOfProcessors"]) > 0) == ("hv01", True)
    assert set(client.one("select UUID from Win32_ComputerSystemProduct", CIMV2)) == {"UUID"}


# -- a management tool: the whole power cycle, by selectors, on every carrier ------------------------------------------


@pytest.mark.parametrize("carrier", ["basic", "basic tls", "ntlm", "ntlm tls"])
def test_a_management_tool_takes_a_machine_through_its_day(site: Site, carrier: str) -> None:
    client, vm = GoStyle(site.carrier(carrier)), site.vm("web01")
    assert vm.guest is not None
    keys = {"Name": vm.id, "CreationClassName": COMPUTER}

    def request(state: int) -> dict[str, str]:
        return client.finish(
            client.invoke(COMPUTER, "RequestStateChange", parameter("RequestedState", str(state)), keys)
        )

    for state, reached, answers in ((6, SAVED, False), (2, RUNNING, True), (9, PAUSED, False), (2, RUNNING, True),
                                    (11, RUNNING, True)):  # fmt: skip
        assert request(state)["JobState"] == "7"
        assert (vm.state, vm.guest.answers) == (reached, answers)
        assert client.get(f"{WMI}{V2}/{COMPUTER}", keys)["EnabledState"] == str(reached)
    component = next(row for row in client.rows("Msvm_ShutdownComponent") if row["SystemName"] == vm.id)
    target = {key: component[key] for key in DEVICE_KEYS}
    why = parameter("Force", "true") + parameter("Reason", "night")
    assert returned(client.invoke("Msvm_ShutdownComponent", "InitiateShutdown", why, target)) == 0
    states = [client.get(f"{WMI}{V2}/{COMPUTER}", keys)["EnabledState"] for _unused in range(6)]
    assert states[-1] == "3" and vm.state == OFF
    again = client.invoke(COMPUTER, "RequestStateChange", parameter("RequestedState", "3"), keys)
    assert returned(again) == 32775
    assert request(2)["JobState"] == "7"
    assert request(3)["JobState"] == "7"
    assert vm.state == OFF
    assert site.world.check() == []


@pytest.mark.parametrize(("auth", "tls"), [("ntlm", False), ("negotiate", False), ("basic", True), ("ntlm", True)])
def test_pypsrp_enumerates_gets_and_invokes(site: Site, auth: str, tls: bool) -> None:
    door = site.doors.door("hv01", tls=tls)
    trust: Any = str(site.doors.ca_file) if tls else False
    uri = f"{WMI}{V2}/{COMPUTER}"
    with WSMan(door.address, port=door.port, ssl=tls, auth=auth, username=USER, password=PASSWORD,
               cert_validation=trust) as client:  # fmt: skip
        body = client.enumerate(uri, ET.Element(f"{{{ENUMERATION}}}Enumerate"))
        context, names = body.findtext(f".//{{{ENUMERATION}}}EnumerationContext"), []
        while context:
            pull = ET.Element(f"{{{ENUMERATION}}}Pull")
            ET.SubElement(pull, f"{{{ENUMERATION}}}EnumerationContext").text = context
            ET.SubElement(pull, f"{{{ENUMERATION}}}MaxElements").text = "2"
            body = client.pull(uri, pull)
            names += [row.findtext("{*}ElementName") for row in body.iterfind(f".//{{{ENUMERATION}}}Items/*")]
            context = body.findtext(f".//{{{ENUMERATION}}}EnumerationContext")
        assert names == ["HV01", "web01", 'old & "odd" <vm>']
        vm, chosen = site.vm("web01"), SelectorSet()
        chosen.add_option("CreationClassName", COMPUTER)
        chosen.add_option("Name", vm.id)
        assert client.get(uri, selector_set=chosen)[0].findtext("{*}EnabledState") == "2"
        request = ET.Element(f"{{{uri}}}RequestStateChange_INPUT")
        ET.SubElement(request, f"{{{uri}}}RequestedState").text = "3"
        output = client.invoke(f"{uri}/RequestStateChange", uri, request, selector_set=chosen)
        assert output.findtext(".//{*}ReturnValue") == "4096"
        for _unused in range(10):
            state = client.get(uri, selector_set=chosen)[0].findtext("{*}EnabledState")
            if state == "3":
                break
    assert vm.state == OFF
