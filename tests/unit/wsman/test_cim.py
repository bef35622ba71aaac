# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The object model: names without case, inheritance, and what a schema must not contain."""

from __future__ import annotations

import dataclasses
import inspect

import pytest

from ansible_collections.hyperv.passthrough.plugins.plugin_utils import _wsman
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._wsman import (
    CimClass,
    CimInstance,
    CimMethod,
    CimParameter,
    CimPath,
    CimProperty,
    Schema,
    SchemaError,
    WsmanError,
)

NS = "root/cimv2"
BASE = CimClass(
    "CIM_Base",
    NS,
    None,
    {"Name": CimProperty("string"), "Size": CimProperty("uint32")},
    (CimMethod("Start"), CimMethod("Stop", returns=None)),
    ("Name",),
)
DERIVED = CimClass(
    "Win32_Derived",
    NS,
    "cim_BASE",
    {"size": CimProperty("uint64"), "Extra": CimProperty("string", is_array=True)},
    (CimMethod("START", (CimParameter("How", "string"),)),),
    ("Extra",),
)


def test_names_and_namespaces_are_found_without_case_and_in_both_slashes() -> None:
    schema = Schema([BASE, DERIVED])
    found = schema.find("\\ROOT\\CimV2\\", "win32_DERIVED")
    assert found is not None
    assert (found.name, found.namespace) == ("Win32_Derived", NS)
    assert schema.find("root/other", "Win32_Derived") is None
    assert {one.name for one in schema} == {"CIM_Base", "Win32_Derived"}


def test_inherited_members_are_there_and_the_nearest_statement_wins() -> None:
    derived = Schema([DERIVED, BASE]).require(NS, "Win32_Derived")
    assert set(derived.properties) == {"Name", "size", "Extra"}
    assert derived.property_named("SIZE") == ("size", CimProperty("uint64"))
    assert derived.property_named("Nothing") is None
    assert derived.keys == ("Name", "Extra")
    start = derived.method("start")
    assert start is not None
    assert start.parameter("HOW") == CimParameter("How", "string")
    assert derived.method("stop") == CimMethod("Stop", returns=None)


def test_a_base_that_is_not_stated_ends_the_chain() -> None:
    schema = Schema([DERIVED])
    assert set(schema.require(NS, "Win32_Derived").properties) == {"size", "Extra"}
    assert schema.is_a(NS, "Win32_Derived", "CIM_Base")


def test_descent_is_known() -> None:
    schema = Schema([BASE, DERIVED])
    assert schema.is_a(NS, "win32_derived", "CIM_BASE")
    assert schema.is_a(NS, "CIM_Base", "CIM_Base")
    assert not schema.is_a(NS, "CIM_Base", "Win32_Derived")
    assert not schema.is_a(NS, "Unknown", "CIM_Base")


def test_what_a_schema_must_not_contain() -> None:
    with pytest.raises(SchemaError, match="twice"):
        Schema([BASE, dataclasses.replace(BASE, name="cim_base")])
    with pytest.raises(SchemaError, match="its own base"):
        Schema([CimClass("A", NS, "B"), CimClass("B", NS, "A")])
    with pytest.raises(SchemaError, match="no class Nothing in root/cimv2"):
        Schema([]).require(NS, "Nothing")
    with pytest.raises(SchemaError, match="several namespaces"):
        Schema([BASE, dataclasses.replace(BASE, namespace="root/x")]).find_by_name("CIM_Base")
    with pytest.raises(SchemaError, match="uint7"):
        CimProperty("uint7")
    with pytest.raises(SchemaError, match="sideways"):
        CimParameter("P", "string", direction="sideways")
    with pytest.raises(SchemaError, match="void"):
        CimMethod("M", returns="void")


def test_paths_are_equal_without_case_of_names_but_with_case_of_values() -> None:
    one = CimPath("root\\CIMV2", "Win32_X", {"Id": "a"})
    assert one == CimPath("root/cimv2", "win32_x", {"ID": "a"})
    assert hash(one) == hash(CimPath("root/cimv2", "win32_x", {"ID": "a"}))
    assert one != CimPath("root/cimv2", "Win32_X", {"Id": "A"})
    assert one.identity == CimPath("root/cimv2", "Win32_X", {"Id": "A"}).identity
    assert one.identity != CimPath("root/cimv2", "Win32_X", {"Id": "b"}).identity
    outer = CimPath("root/cimv2", "Assoc", {"Of": one})
    assert outer == CimPath("root/cimv2", "Assoc", {"of": CimPath("root/cimv2", "WIN32_X", {"id": "a"})})
    assert len({outer, one, CimPath("root/cimv2", "win32_x", {"ID": "a"})}) == 2
    assert (one.key("ID"), one.key("Name")) == ("a", None)


def test_an_instance_is_data_and_cannot_be_changed_from_outside() -> None:
    properties = {"Name": "x"}
    instance = CimInstance("Win32_X", NS, properties)
    properties["Name"] = "y"
    assert instance["NAME"] == "x"
    assert "name" in instance
    assert 5 not in instance
    assert instance == CimInstance("Win32_X", NS, {"Name": "x"})
    with pytest.raises(dataclasses.FrozenInstanceError):
        instance.class_name = "other"  # type: ignore[misc]


def test_every_public_name_exists_and_every_error_is_a_wsman_error() -> None:
    for name in _wsman.__all__:
        assert hasattr(_wsman, name), name
    errors = [one for one in vars(_wsman).values() if inspect.isclass(one) and issubclass(one, Exception)]
    assert len(errors) > 20
    for error in errors:
        assert issubclass(error, WsmanError)
        assert error.kind


def test_the_sentence_of_an_error_is_its_text() -> None:
    assert str(SchemaError("The schema has no class X.")) == "The schema has no class X."
