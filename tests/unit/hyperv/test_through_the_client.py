# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The domain through the real client: values whose shape on the wire decides what we understand.

Only shapes that the fact sheets record or state are here; the whole conversation is tested against the simulator.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from xml.sax.saxutils import escape

from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv import (
    SCHEMA,
    ScheduledTasks,
    read_virtual_hard_disk,
)
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.guest_disks import drive_letter
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.schema import (
    CIMV2,
    CLUSTER,
    STORAGE,
    TASK_SCHEDULER,
    VIRTUALIZATION,
)
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._wsman import CimInstance, CimPath, WsmanClient

WMI = "http://schemas.microsoft.com/wbem/wsman/1/wmi/"


class Answers:
    """A table of canned answers: class name of the request's resource or query -> body."""

    def __init__(self, bodies: Mapping[str, str]) -> None:
        self.bodies = bodies
        self.sent: list[str] = []

    def send(self, message: bytes) -> bytes:
        text = message.decode()
        self.sent.append(text)
        message_id = re.search(r"MessageID>([^<]+)<", text)
        assert message_id is not None
        key = next(key for key in self.bodies if key in text)
        return (
            '<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" '
            'xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing" '
            'xmlns:n="http://schemas.xmlsoap.org/ws/2004/09/enumeration" '
            'xmlns:w="http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd">'
            f"<s:Header><a:RelatesTo>{message_id[1]}</a:RelatesTo></s:Header><s:Body>{self.bodies[key]}</s:Body></s:Envelope>"
        ).encode()

    def client(self) -> WsmanClient:
        return WsmanClient(self.send, schema=SCHEMA, new_id=lambda: "11111111-2222-3333-4444-555555555555")


def rows(namespace: str, class_name: str, *contents: str) -> str:
    uri = f"{WMI}{namespace.lower()}/{class_name}"
    items = "".join(
        f'<p:{class_name} xmlns:p="{uri}" xmlns:cim="http://schemas.dmtf.org/wbem/wscim/1/common" '
        f'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="p:{class_name}_Type">{content}</p:{class_name}>'
        for content in contents
    )
    return f"<n:EnumerateResponse><n:EnumerationContext/><w:Items>{items}</w:Items><w:EndOfSequence/></n:EnumerateResponse>"


def test_guest_data_is_escaped_text_inside_an_array_of_strings() -> None:
    item = escape(
        '<INSTANCE CLASSNAME="Msvm_KvpExchangeDataItem"><PROPERTY NAME="Name" TYPE="string"><VALUE>OSName</VALUE></PROPERTY>'
        '<PROPERTY NAME="Data" TYPE="string"><VALUE>Größe &amp; co</VALUE></PROPERTY></INSTANCE>'
    )
    content = f"<p:GuestIntrinsicExchangeItems>{item}</p:GuestIntrinsicExchangeItems><p:SystemName>X</p:SystemName>"
    answers = Answers({"Msvm_KvpExchangeComponent": rows(VIRTUALIZATION, "Msvm_KvpExchangeComponent", content)})
    (row,) = answers.client().query(VIRTUALIZATION, "Msvm_KvpExchangeComponent")
    value = row["GuestIntrinsicExchangeItems"]
    assert isinstance(value, list)
    assert [(one["Name"], one["Data"]) for one in value] == [("OSName", "Größe & co")]


def test_a_drive_letter_is_a_character_its_number_or_nothing() -> None:
    contents = [
        "<p:DriveLetter>D</p:DriveLetter>",
        "<p:DriveLetter>68</p:DriveLetter>",
        "<p:DriveLetter>0</p:DriveLetter>",
        "<p:DriveLetter></p:DriveLetter>",
        '<p:DriveLetter xsi:nil="true"/>',
    ]
    answers = Answers({"MSFT_Partition": rows(STORAGE, "MSFT_Partition", *contents)})
    found = answers.client().query(STORAGE, "MSFT_Partition")
    assert [drive_letter(row) for row in found] == ["D", "D", None, None, None]


def test_a_clusters_private_properties_have_a_class_of_their_own() -> None:
    uri = f"{WMI}root/mscluster/MSCluster_Property_Resource_Virtual_Machine"
    content = (
        "<p:Name>Virtual Machine db01</p:Name><p:PrivateProperties "
        f'xmlns:q="{uri}" xsi:type="q:MSCluster_Property_Resource_Virtual_Machine_Type">'
        "<q:DefaultMoveType>4</q:DefaultMoveType><q:VmID>0f6a0b3c-1111-2222-3333-444455556666</q:VmID>"
        "</p:PrivateProperties>"
    )
    answers = Answers({"MSCluster_Resource": rows(CLUSTER, "MSCluster_Resource", content)})
    (row,) = answers.client().query(CLUSTER, "MSCluster_Resource")
    properties = row["PrivateProperties"]
    assert isinstance(properties, CimInstance)
    assert properties.get("VmID") == "0f6a0b3c-1111-2222-3333-444455556666"


def test_the_ends_of_an_association_are_references() -> None:
    def end(class_name: str, key: str, value: str) -> str:
        return (
            "<a:Address>http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous</a:Address><a:ReferenceParameters>"
            f"<w:ResourceURI>{WMI}root/microsoft/windows/storage/{class_name}</w:ResourceURI>"
            f'<w:SelectorSet><w:Selector Name="{key}">{escape(value)}</w:Selector></w:SelectorSet></a:ReferenceParameters>'
        )

    disk = '{1}\\\\DB01\\root/Microsoft:WSP_Disk.ObjectId="{a}:DI:\\\\?\\x&y"'
    content = (
        f"<p:Disk>{end('MSFT_Disk', 'ObjectId', disk)}</p:Disk>"
        f"<p:iSCSISession>{end('MSFT_iSCSISession', 'SessionIdentifier', 'ffff-4')}</p:iSCSISession>"
    )
    answers = Answers({"MSFT_iSCSISessionToDisk": rows(STORAGE, "MSFT_iSCSISessionToDisk", content)})
    (row,) = answers.client().query(STORAGE, "MSFT_iSCSISessionToDisk")
    assert row["Disk"] == CimPath(STORAGE, "MSFT_Disk", {"ObjectId": disk})


def test_files_and_folders_come_as_their_own_classes() -> None:
    when = "<p:LastModified><cim:Datetime>2026-10-08T15:15:36.68424Z</cim:Datetime></p:LastModified>"
    body = rows(CIMV2, "Win32_Directory", f"<p:Name>e:\\daten</p:Name>{when}")
    answers = Answers({"CIM_LogicalFile": body})
    (row,) = answers.client().query(CIMV2, "CIM_LogicalFile", where="Drive = 'E:'")
    assert (row.class_name, row["Name"]) == ("Win32_Directory", "e:\\daten")


def test_a_scheduled_task_is_removed_by_deleting_its_instance() -> None:
    folder, name = "\\hyperv.passthrough\\", "run & 1"
    content = f"<p:TaskName>{escape(name)}</p:TaskName><p:TaskPath>{folder}</p:TaskPath><p:State>3</p:State>"
    info = f'<p:GetInfoByName_OUTPUT xmlns:p="{WMI}x/y"><p:ReturnValue>0</p:ReturnValue></p:GetInfoByName_OUTPUT>'
    answers = Answers(
        {
            "GetInfoByName_INPUT": info,
            "transfer/Delete<": "",
            "FROM MSFT_ScheduledTask": rows(TASK_SCHEDULER, "MSFT_ScheduledTask", content),
        }
    )
    assert ScheduledTasks(answers.client()).remove(folder, name) is True
    sent = answers.sent[-1]
    assert f"{TASK_SCHEDULER}/MSFT_ScheduledTask</" in sent
    assert '<w:Selector Name="TaskName">run &amp; 1</w:Selector>' in sent
    assert f'<w:Selector Name="TaskPath">{folder}</w:Selector>' in sent


def test_vhd_details_are_escaped_text_in_the_methods_answer() -> None:
    uri = f"{WMI}{VIRTUALIZATION}/Msvm_ImageManagementService"
    setting = escape(
        '<INSTANCE CLASSNAME="Msvm_VirtualHardDiskSettingData">'
        '<PROPERTY NAME="Type" TYPE="uint16"><VALUE>2</VALUE></PROPERTY>'
        '<PROPERTY NAME="Format" TYPE="uint16"><VALUE>3</VALUE></PROPERTY>'
        '<PROPERTY NAME="MaxInternalSize" TYPE="uint64"><VALUE>18446744073709551615</VALUE></PROPERTY>'
        '<PROPERTY NAME="ParentPath" TYPE="string"><VALUE></VALUE></PROPERTY>'
        '<PROPERTY NAME="ParentTimestamp" PROPAGATED="true" TYPE="datetime"></PROPERTY>'
        "</INSTANCE>"
    )
    state = escape(
        '<INSTANCE CLASSNAME="Msvm_VirtualHardDiskState"><PROPERTY NAME="FileSize" TYPE="uint64"><VALUE>7</VALUE></PROPERTY>'
        "</INSTANCE>"
    )

    def output(method: str, name: str, text: str) -> str:
        return (
            f'<p:{method}_OUTPUT xmlns:p="{uri}"><p:{name}>{text}</p:{name}><p:ReturnValue>0</p:ReturnValue>'
            f"</p:{method}_OUTPUT>"
        )

    answers = Answers(
        {
            "GetVirtualHardDiskSettingData_INPUT": output("GetVirtualHardDiskSettingData", "SettingData", setting),
            "GetVirtualHardDiskState_INPUT": output("GetVirtualHardDiskState", "State", state),
        }
    )
    vhd = read_virtual_hard_disk(answers.client(), "D:\\a & b.vhdx")
    assert (vhd.type, vhd.format, vhd.size_bytes, vhd.file_size_bytes) == ("fixed", "VHDX", 2**64 - 1, 7)
    assert (vhd.parent_path, vhd.problem) == (None, None)
    assert all("D:\\a &amp; b.vhdx" in sent for sent in answers.sent)
