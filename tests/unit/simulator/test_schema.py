# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The schema: complete against the fact file, with keys that exist, types that hold and sources everywhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from simulator.cim import Instance, Ref
from simulator.schema import DATA, Schema, Type

FACTS = os.environ.get("HYPERV_PASSTHROUGH_FACTS", "")
needs_facts = pytest.mark.skipif(not FACTS, reason="HYPERV_PASSTHROUGH_FACTS does not name the folder of fact sheets")


def facts() -> dict[str, Any]:
    loaded = json.loads((Path(FACTS) / "cim-classes.json").read_text(encoding="utf-8"))
    return {name.lower(): classes for name, classes in loaded.items() if isinstance(classes, dict)}


def corrected() -> dict[str, Any]:
    data: dict[str, Any] = json.loads((DATA / "corrections.json").read_text(encoding="utf-8"))
    return data


def fact_type(text: str) -> tuple[str, str, bool]:
    """(kind, class, array) of a fact type, said independently of the transcription."""
    array = text.endswith("[]")
    text = text.removesuffix("[]").rstrip("?")
    if text.endswith(" REF") and text != "string REF":
        return "ref", text.removesuffix(" REF"), array
    if text.startswith("object:"):
        return "object", text.removeprefix("object:"), array
    if "_" in text:
        return "object", text, array
    return text.removesuffix(" REF").lower(), "", array


@needs_facts
def test_every_fact_class_and_member_is_in_the_schema() -> None:
    schema, changes = Schema.shared(), corrected()
    missing = []
    for namespace, classes in facts().items():
        for name, fact in classes.items():
            entry = schema.find(namespace, name)
            if entry is None:
                missing.append(f"{namespace}:{name}")
                continue
            for member, kind in fact["properties"].items():
                found = entry.properties.get(member)
                wanted = fact_type(kind["type"] if isinstance(kind, dict) else kind)
                if found is None:
                    missing.append(f"{name}.{member}")
                elif f"{name}.{member}" not in changes.get(namespace, {}) and found.declared_by == name:
                    assert (found.type.base, found.type.of, found.type.array) == wanted, f"{name}.{member}"
            for method, spec in fact.get("methods", {}).items():
                made = entry.methods.get(method)
                if made is None:
                    missing.append(f"{name}.{method}()")
                    continue
                assert [p.name for p in made.parameters] == [row[1] for row in spec["params"]], f"{name}.{method}"
                assert [(p.is_in, p.is_out) for p in made.parameters] == [
                    ("in" in row[0].split(",")[0], "out" in row[0]) for row in spec["params"]
                ], f"{name}.{method}"
                assert dict(made.returns) == spec.get("returns", {}), f"{name}.{method}"
    assert missing == []


@needs_facts
def test_the_transcription_is_what_the_script_makes(tmp_path: Path) -> None:
    script = tmp_path / "transcribe.py"
    script.write_text((DATA / "transcribe.py").read_text(encoding="utf-8"), encoding="utf-8")
    subprocess.run([sys.executable, str(script), str(Path(FACTS) / "cim-classes.json")], check=True)
    for path in tmp_path.glob("*.json"):
        assert path.read_text(encoding="utf-8") == (DATA / path.name).read_text(encoding="utf-8"), path.name


@needs_facts
def test_every_correction_is_of_a_member_that_the_facts_have() -> None:
    known = facts()
    for namespace, changes in corrected().items():
        if namespace == "about":
            continue
        for where in changes:
            name, *rest = where.split(".")
            fact = known[namespace][name]
            if len(rest) == 1:
                assert rest[0] in fact["properties"], where
            else:
                assert rest[1] in [row[1] for row in fact["methods"][rest[0]]["params"]], where


def test_every_class_has_a_source() -> None:
    schema = Schema.shared()
    for namespace in schema.namespaces():
        for entry in schema.classes(namespace):
            assert entry.source, f"{namespace}:{entry.name}"


def test_every_class_that_a_member_names_exists() -> None:
    schema = Schema.shared()
    named = {
        (namespace, kind.of or kind.embedded)
        for namespace in schema.namespaces()
        for entry in schema.classes(namespace)
        for kind in (
            *(p.type for p in entry.properties.values()),
            *(p.type for m in entry.methods.values() for p in m.parameters),
        )
        if kind.of or kind.embedded
    }
    missing = {f"{namespace}:{name}" for namespace, name in named if schema.find(namespace, name) is None}
    assert missing <= {"root/mscluster:CIM_ManagedElement"}


@pytest.mark.parametrize(
    ("namespace", "name", "keys"),
    [
        ("root/virtualization/v2", "Msvm_ComputerSystem", ("CreationClassName", "Name")),
        ("root/virtualization/v2", "Msvm_VirtualSystemSettingData", ("InstanceID",)),
        ("root/virtualization/v2", "Msvm_StorageJob", ("InstanceID",)),
        ("root/virtualization/v2", "Msvm_DiskDrive",
         ("CreationClassName", "DeviceID", "SystemCreationClassName", "SystemName")),
        ("root/virtualization/v2", "Msvm_MountedStorageImage", ("Lun", "PathId", "PortNumber", "TargetId")),
        ("root/virtualization/v2", "Msvm_SettingsDefineState", ("ManagedElement", "SettingData")),
        ("root/microsoft/windows/storage", "MSFT_Disk", ("ObjectId",)),
        ("root/microsoft/windows/storage", "MSFT_DiskImage", ("ImagePath", "StorageType")),
        ("root/microsoft/windows/storage", "MSFT_StorageSetting", ()),
        ("root/cimv2", "Win32_Volume", ("DeviceID",)),
        ("root/cimv2", "StdRegProv", ()),
        ("root/default", "StdRegProv", ()),
        ("root/mscluster", "MSCluster_Disk", ("Id",)),
        ("root/microsoft/windows/taskscheduler", "MSFT_ScheduledTask", ("TaskName", "TaskPath")),
        ("root/cimv2/security/microsoftvolumeencryption", "Win32_EncryptableVolume", ("DeviceID",)),
    ],
)  # fmt: skip
def test_keys_are_those_of_the_fact_sheets(namespace: str, name: str, keys: tuple[str, ...]) -> None:
    assert Schema.shared().get(namespace, name).keys == keys


def test_a_method_parameter_knows_the_embedded_class_it_carries() -> None:
    entry = Schema.shared().get("root/virtualization/v2", "Msvm_VirtualSystemManagementService")
    method = entry.find_method("addresourcesettings")
    assert method is not None
    assert method.inputs["ResourceSettings"].type.embedded == "CIM_ResourceAllocationSettingData"
    assert method.inputs["ResourceSettings"].type.array
    assert method.outputs["Job"].type.base == "ref"


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("uint8", 256), ("uint16", -1), ("uint32", "5"), ("uint32", True), ("string", 5), ("boolean", 1),
        ("uint16[]", 5), ("datetime", datetime(2026, 1, 1)), ("ref:CIM_Job", "path"), ("object:MSFT_Disk", {}),
        ("char16", "DD"),
    ],
)  # fmt: skip
def test_a_value_of_the_wrong_type_is_a_loud_error(word: str, value: Any) -> None:
    with pytest.raises(TypeError):
        Schema.shared().check_value(Type.parse(word), value, "X.Y")


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("uint64", 2**64 - 1), ("uint16[]", [1, 2]), ("string", None), ("datetime", timedelta(1)),
        ("ref:CIM_Job", Ref("root/cimv2", "X")), ("object:MSFT_Disk", Instance("a", "b")), ("char16", "D"),
    ],
)  # fmt: skip
def test_a_value_of_the_right_type_passes(word: str, value: Any) -> None:
    Schema.shared().check_value(Type.parse(word), value, "X.Y")
