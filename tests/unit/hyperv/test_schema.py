# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The schema is held against the fact sheet of live Server 2019 classes: names, types, arrays, parameters, directions.

The sheet is not part of the repository: set HYPERV_PASSTHROUGH_FACTS to the folder that holds `cim-classes.json`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv import schema
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._wsman import CimClass

FACTS = os.environ.get("HYPERV_PASSTHROUGH_FACTS", "")

# What the sheet cannot tell; the source of each is written beside the class in schema.py.
NOT_IN_THE_SHEET = {
    "CIM_Directory",
    "Win32_Directory",
    "MSFT_TaskDynamicInfo",
    "MSCluster_Property",
    "Win32_EncryptableVolume",
    "Win32_ShadowProvider",
    "Win32_ShadowVolumeSupport",
}
# The sheet's generator writes `string` for datetime and `uint8` for char16, and the type of an association's end as an
# object; documentation and recordings decide.
TYPES_DECIDED_ELSEWHERE = {
    ("Win32_OperatingSystem", "LocalDateTime"),
    ("Win32_OperatingSystem", "LastBootUpTime"),
    ("Win32_Process", "CreationDate"),
    ("CIM_LogicalFile", "CreationDate"),
    ("CIM_LogicalFile", "LastAccessed"),
    ("CIM_LogicalFile", "LastModified"),
    ("CIM_DataFile", "CreationDate"),
    ("CIM_DataFile", "LastAccessed"),
    ("CIM_DataFile", "LastModified"),
    ("MSFT_Partition", "DriveLetter"),
    ("MSFT_Volume", "DriveLetter"),
    ("Msvm_VirtualSystemSettingData", "VirtualSystemSubType"),
}

needs_facts = pytest.mark.skipif(
    not FACTS, reason="HYPERV_PASSTHROUGH_FACTS is not set, so that there is no cim-classes.json to compare with"
)
CLASSES = sorted(schema.SCHEMA, key=lambda cim_class: cim_class.name)


def sheet() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((Path(FACTS) / "cim-classes.json").read_text(encoding="utf-8"))
    return loaded


def chain(classes: dict[str, Any], name: str | None) -> Iterator[dict[str, Any]]:
    while name in classes:
        yield classes[name]
        name = classes[name]["base"]


def stated(fact: Any) -> tuple[str, bool]:
    """A type of the sheet as (type without array, is it an array)."""
    text = fact if isinstance(fact, str) else fact["type"]
    return text.removesuffix("[]"), text.endswith("[]")


def agrees(ours: str, embedded: str | None, theirs: str) -> bool:
    if theirs.endswith(" REF"):
        return ours == "reference"
    if theirs.startswith("object:"):
        return ours in ("object", "reference") and theirs == f"object:{embedded}"
    if theirs == "string":
        return ours in ("string", "instance")  # an embedded instance is a string in the schema
    if theirs.endswith("?"):
        return ours.startswith(("uint", "sint"))  # the sheet does not know the width
    return ours == theirs


@needs_facts
@pytest.mark.parametrize("cim_class", CLASSES, ids=lambda cim_class: cim_class.name)
def test_every_name_and_type_is_as_live_hosts_show_it(cim_class: CimClass) -> None:
    classes = sheet().get(cim_class.namespace, {})
    if cim_class.name in NOT_IN_THE_SHEET:
        assert cim_class.name not in classes
        return
    assert cim_class.name in classes
    properties = {name: fact for part in chain(classes, cim_class.name) for name, fact in part["properties"].items()}
    for name, ours in cim_class.properties.items():
        assert name in properties, f"{cim_class.name}.{name}"
        theirs, is_array = stated(properties[name])
        if (cim_class.name, name) in TYPES_DECIDED_ELSEWHERE:
            assert not agrees(ours.type, ours.embedded, theirs), f"{cim_class.name}.{name} needs no exception"
            continue
        assert ours.is_array == is_array, f"{cim_class.name}.{name}"
        assert agrees(ours.type, ours.embedded, theirs), f"{cim_class.name}.{name}: {ours.type} against {theirs}"
    assert set(cim_class.keys) <= set(cim_class.properties)


@needs_facts
@pytest.mark.parametrize(
    "cim_class", [one for one in CLASSES if one.name not in NOT_IN_THE_SHEET], ids=lambda cim_class: cim_class.name
)
def test_every_method_has_the_parameters_of_live_hosts(cim_class: CimClass) -> None:
    classes = sheet()[cim_class.namespace]
    methods = {
        name: fact
        for part in reversed(list(chain(classes, cim_class.name)))
        for name, fact in part.get("methods", {}).items()
    }
    for method in cim_class.methods:
        assert method.name in methods, f"{cim_class.name}.{method.name}"
        theirs = {
            name: (direction.removeprefix("optional ").replace("in,out", "inout"), fact)
            for direction, name, fact in methods[method.name]["params"]
        }
        ours = {parameter.name: parameter for parameter in method.parameters}
        assert set(ours) == set(theirs), f"{cim_class.name}.{method.name}"
        for name, (direction, fact) in theirs.items():
            theirs_type, is_array = stated(fact)
            assert ours[name].direction == direction, f"{method.name}({name})"
            assert ours[name].is_array == is_array, f"{method.name}({name})"
            assert agrees(ours[name].type, ours[name].embedded, theirs_type), f"{method.name}({name})"


def test_every_embedded_class_is_in_the_schema_itself() -> None:
    for cim_class in CLASSES:
        kinds = [*cim_class.properties.values(), *(one for method in cim_class.methods for one in method.parameters)]
        for kind in kinds:
            if kind.type in ("object", "instance"):
                assert kind.embedded is not None
                assert schema.SCHEMA.find(cim_class.namespace, kind.embedded) is not None, kind.embedded


def test_a_method_signature_over_several_lines_keeps_all_parameters() -> None:
    register = schema.SCHEMA.require(schema.TASK_SCHEDULER, "PS_ScheduledTask").method("RegisterByXml")
    assert register is not None
    assert [parameter.name for parameter in register.parameters] == [
        "Force",
        "Xml",
        "Password",
        "User",
        "TaskPath",
        "TaskName",
        "cmdletOutput",
    ]


@pytest.mark.parametrize("text", ["uint16[", "two words", ""])
def test_a_type_that_is_none_is_refused_at_import(text: str) -> None:
    with pytest.raises(ValueError):
        schema._type(text)
