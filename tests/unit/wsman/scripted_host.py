# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the WS-Management tests share: a small schema, answers as data, and a host that plays a script of them.

The answers are files in ``answers/``; nothing here decodes or encodes anything.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ansible_collections.hyperv.passthrough.plugins.plugin_utils._wsman import (
    CimClass,
    CimMethod,
    CimParameter,
    CimProperty,
    Schema,
)

ANSWERS = Path(__file__).parent / "answers"
V2 = "root/virtualization/v2"
STORAGE = "root/Microsoft/Windows/Storage"

SCALAR_TYPES = (
    *(f"{sign}int{bits}" for sign in "us" for bits in (8, 16, 32, 64)),
    *("boolean", "string", "datetime", "char16", "real64", "reference"),
)


def _properties(**types: str) -> dict[str, CimProperty]:
    return {name: CimProperty(kind.removesuffix("[]"), kind.endswith("[]")) for name, kind in types.items()}


def make_schema() -> Schema:
    echo = [
        CimParameter(("Many" if is_array else "One") + kind.title(), kind, is_array, "inout")
        for kind in SCALAR_TYPES
        for is_array in (False, True)
    ]
    return Schema(
        [
            CimClass("CIM_System", V2, None, _properties(ElementName="string", EnabledState="uint16")),
            CimClass(
                "Msvm_ComputerSystem",
                V2,
                "CIM_System",
                _properties(
                    Caption="string",
                    CreationClassName="string",
                    IdentifyingDescriptions="string[]",
                    InstallDate="datetime",
                    Name="string",
                    OnTimeInMilliseconds="uint64",
                    OperationalStatus="uint16[]",
                    OtherEnabledState="string",
                    ProcessID="uint32",
                    StatusDescriptions="string[]",
                    TimeOfLastStateChange="datetime",
                    TimeOfLastConfigurationChange="datetime",
                ),
                (CimMethod("RequestStateChange", (CimParameter("RequestedState", "uint16"),)),),
                ("CreationClassName", "Name"),
            ),
            CimClass("Test_SubSystem", V2, "Msvm_ComputerSystem", _properties(Extra="uint8[]")),
            CimClass(
                "Test_Trap", V2, None, _properties(EndOfSequence="string", EnumerationContext="string", Items="uint8[]")
            ),
            CimClass(
                "Msvm_StorageJob",
                V2,
                None,
                _properties(
                    Cancellable="boolean",
                    Child="string",
                    ElapsedTime="datetime",
                    ErrorCode="uint16",
                    ErrorDescription="string",
                    InstallDate="datetime",
                    InstanceID="string",
                    JobState="uint16",
                    OperationalStatus="uint16[]",
                    Owner="string",
                    PercentComplete="uint16",
                    StartTime="datetime",
                    StatusDescriptions="string[]",
                    TimeBeforeRemoval="datetime",
                ),
            ),
            CimClass(
                "Msvm_AffectedJobElement",
                V2,
                None,
                _properties(
                    AffectedElement="reference",
                    AffectingElement="reference",
                    ElementEffects="uint16[]",
                    OtherElementEffectsDescriptions="string[]",
                ),
            ),
            CimClass(
                "Msvm_ResourceAllocationSettingData",
                V2,
                None,
                _properties(
                    Address="string",
                    AddressOnParent="string",
                    AutomaticAllocation="boolean",
                    Connection="string[]",
                    ElementName="string",
                    HostResource="string[]",
                    InstanceID="string",
                    Limit="uint64",
                    Parent="string",
                    PoolID="string",
                    ResourceSubType="string",
                    ResourceType="uint16",
                    Weight="uint32",
                ),
            ),
            CimClass(
                "Msvm_ExternalEthernetPort",
                V2,
                None,
                _properties(
                    AutoSense="boolean",
                    FullDuplex="boolean",
                    MaxSpeed="uint64",
                    Name="string",
                    NetworkAddresses="string[]",
                ),
            ),
            CimClass(
                "Msvm_GuestNetworkAdapterConfiguration",
                V2,
                None,
                _properties(
                    DHCPEnabled="boolean", InstanceID="string", IPAddresses="string[]", ProtocolIFType="uint16"
                ),
            ),
            CimClass(
                "Msvm_VirtualEthernetSwitch",
                V2,
                None,
                _properties(
                    Dedicated="uint16[]",
                    ElementName="string",
                    EnabledState="uint16",
                    MaxIOVOffloads="uint32",
                    Name="string",
                ),
            ),
            CimClass(
                "Msvm_VirtualHardDiskSettingData",
                V2,
                None,
                _properties(
                    BlockSize="uint32",
                    Caption="string",
                    Changed="datetime",
                    Delay="datetime",
                    HostResource="string[]",
                    IsPmemCompatible="boolean",
                    MaxInternalSize="uint64",
                    Notes="string[]",
                    ParentPath="string",
                    Path="string",
                    Sint="sint64[]",
                )
                | {"Inner": CimProperty("instance", embedded="Msvm_VirtualHardDiskSettingData")},
            ),
            CimClass(
                "Msvm_SummaryInformation",
                V2,
                None,
                _properties(ElementName="string", Heartbeat="uint16", Name="string", OperationalStatus="uint16[]")
                | {"TestInner": CimProperty("object", embedded="Msvm_ComputerSystem")},
            ),
            CimClass(
                "Msvm_ImageManagementService",
                V2,
                None,
                {},
                (
                    CimMethod(
                        "CreateVirtualHardDisk",
                        (
                            CimParameter(
                                "VirtualDiskSettingData", "instance", embedded="Msvm_VirtualHardDiskSettingData"
                            ),
                            CimParameter("Job", "reference", direction="out"),
                        ),
                    ),
                    CimMethod(
                        "GetVirtualHardDiskSettingData",
                        (
                            CimParameter("Path", "string"),
                            CimParameter(
                                "SettingData", "instance", direction="out", embedded="Msvm_VirtualHardDiskSettingData"
                            ),
                            CimParameter("Job", "reference", direction="out"),
                        ),
                    ),
                ),
            ),
            CimClass(
                "Msvm_VirtualSystemManagementService",
                V2,
                None,
                {},
                (
                    CimMethod(
                        "GetSummaryInformation",
                        (
                            CimParameter("SettingData", "reference", is_array=True),
                            CimParameter("RequestedInformation", "uint32", is_array=True),
                            CimParameter(
                                "SummaryInformation",
                                "object",
                                is_array=True,
                                direction="out",
                                embedded="Msvm_SummaryInformation",
                            ),
                        ),
                    ),
                    CimMethod(
                        "AddResourceSettings",
                        (
                            CimParameter("AffectedConfiguration", "reference"),
                            CimParameter("ResourceSettings", "instance", is_array=True, embedded="Msvm_Any"),
                            CimParameter("ResultingResourceSettings", "reference", is_array=True, direction="out"),
                            CimParameter("Job", "reference", direction="out"),
                        ),
                    ),
                ),
            ),
            CimClass(
                "Test_Echo",
                V2,
                None,
                {},
                (
                    CimMethod("Echo", tuple(echo)),
                    CimMethod("TakeObject", (CimParameter("Given", "object", embedded="Msvm_SummaryInformation"),)),
                    CimMethod("Static", (), is_static=True),
                ),
            ),
            CimClass(
                "MSFT_Disk",
                STORAGE,
                None,
                _properties(ObjectId="string", Number="uint32"),
                (
                    CimMethod(
                        "CreatePartition",
                        (
                            CimParameter("Size", "uint64"),
                            CimParameter("DriveLetter", "char16"),
                            CimParameter("CreatedPartition", "object", direction="out", embedded="MSFT_Partition"),
                            CimParameter(
                                "ExtendedStatus", "object", direction="out", embedded="MSFT_StorageExtendedStatus"
                            ),
                        ),
                    ),
                ),
            ),
            CimClass(
                "MSFT_Partition",
                STORAGE,
                None,
                _properties(AccessPaths="string[]", DriveLetter="char16", Offset="uint64"),
            ),
            CimClass(
                "MSFT_StorageExtendedStatus", STORAGE, None, _properties(CIMStatusCode="uint32", Message="string")
            ),
            CimClass(
                "Test_Unfinished",
                V2,
                None,
                {},
                (CimMethod("Make", (CimParameter("Made", "object", direction="out", embedded="Test_Unstated"),)),),
            ),
            CimClass(
                "myclass", "root/mynamespace", None, _properties(Data1="string", id="uint32", Location="reference")
            ),
        ]
    )


def answer(name: str) -> bytes:
    return (ANSWERS / f"{name}.xml").read_bytes()


class ScriptedHost:
    """Plays answers in order: a name of a file in ``answers/``, bytes, or an exception to raise. Keeps the requests."""

    def __init__(self, *script: str | bytes | Exception) -> None:
        self._script: Iterator[str | bytes | Exception] = iter(script)
        self.requests: list[bytes] = []

    def send(self, request: bytes) -> bytes:
        self.requests.append(request)
        step = next(self._script, None)
        if step is None:
            pytest.fail(f"request {len(self.requests)} was not expected: {self.actions()[-1]}")
        if isinstance(step, Exception):
            raise step
        data = answer(step) if isinstance(step, str) else step
        message_id = re.search(rb"<a:MessageID>([^<]+)</a:MessageID>", request)
        assert message_id is not None
        return data.replace(b"@RELATES_TO@", message_id.group(1))

    def actions(self) -> list[str]:
        """The last word of each request's Action."""
        found = []
        for request in self.requests:
            action = re.search(rb"<a:Action[^>]*>([^<]+)</a:Action>", request)
            assert action is not None
            found.append(action.group(1).decode().rpartition("/")[2])
        return found

    def finished(self) -> bool:
        return next(self._script, None) is None


def ids() -> Callable[[], str]:
    counter = itertools.count(1)
    return lambda: f"00000000-0000-4000-8000-{next(counter):012x}"
