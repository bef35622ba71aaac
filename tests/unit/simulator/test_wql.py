# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""WQL: what selects what, and which texts are refused."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator import wql
from simulator.assumed import Switches
from simulator.cim import Instance, Ref, parse_object_path, path_host
from simulator.schema import Schema

V2 = "root/virtualization/v2"
ROW = Instance(
    V2,
    "Msvm_VirtualSystemSettingData",
    {
        "InstanceID": "Microsoft:ABC\\83F8638B-8DCA-4152-9EDA-2CA8B33039B4\\0",
        "ElementName": 'it\'s a "VM"',
        "VirtualSystemType": "Microsoft:Hyper-V:System:Realized",
        "CreationTime": datetime(2026, 7, 22, 12, 0, tzinfo=timezone.utc),
        "IsSaved": False,
        "VirtualNumaEnabled": True,
        "LowMmioGapSize": 128,
        "Notes": ["a"],
    },
)


def matches(text: str, row: Instance = ROW, switches: dict[str, str] | None = None) -> bool:
    schema = Schema.shared()
    entry = schema.get(row.namespace, row.class_name)
    assume = Switches(switches).__getitem__
    tree = wql.parse(f"SELECT * FROM {row.class_name} WHERE {text}", V2)  # noqa: S608 - WQL against a dictionary
    assert isinstance(tree, wql.Select)
    wql.check(tree, entry, assume)
    context = wql.Context(
        server="HV01",
        assume=assume,
        entry=entry,
        is_a=lambda value, name: schema.get(value.namespace, value.class_name).is_a(name),
        reference=lambda value: Ref(value.namespace, value.class_name, {"InstanceID": str(value.get("InstanceID"))}),
    )
    return wql.matches(tree.where, row, context)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("VirtualSystemType = 'Microsoft:Hyper-V:System:Realized'", True),
        ('VirtualSystemType = "microsoft:hyper-v:system:realized"', True),
        ("VirtualSystemType <> 'x'", True),
        ("VirtualSystemType != 'x'", True),
        ("virtualsystemtype like 'Microsoft:%:Realized'", True),
        ("VirtualSystemType LIKE 'Microsoft:Hyper_V%'", True),
        ("VirtualSystemType LIKE '[a-m]icrosoft%'", True),
        ("VirtualSystemType LIKE '[^m]icrosoft%'", False),
        ("VirtualSystemType NOT LIKE '%Snapshot%'", True),
        ("NOT VirtualSystemType LIKE '%Realized'", False),
        ("InstanceID LIKE '%\\\\0'", True),
        ("InstanceID LIKE '%\\0'", True),
        ("InstanceID = 'Microsoft:ABC\\\\83F8638B-8DCA-4152-9EDA-2CA8B33039B4\\\\0'", True),
        ("ElementName = 'it\\'s a \"VM\"'", True),
        ('ElementName = "it\'s a \\"VM\\""', True),
        ("IsSaved = FALSE", True),
        ("IsSaved = 'false'", True),
        ("VirtualNumaEnabled = true AND IsSaved <> TRUE", True),
        ("LowMmioGapSize > 127 AND LowMmioGapSize <= 128", True),
        ("LowMmioGapSize = '128'", True),
        ("128 = LowMmioGapSize", True),
        ("LowMmioGapSize < 128 OR LowMmioGapSize >= 1000", False),
        ("(LowMmioGapSize < 128 OR IsSaved = FALSE) AND NOT (IsSaved = TRUE)", True),
        ("Caption IS NULL", True),
        ("Caption IS NOT NULL", False),
        ("ElementName IS NOT NULL", True),
        ("Caption = NULL", True),
        ("Caption <> 'x'", False),
        ("Notes IS NOT NULL", True),
        ("CreationTime > '20260101000000.000000+000'", True),
        ("CreationTime = '20260722140000.000000+120'", True),
        ("__CLASS = 'Msvm_VirtualSystemSettingData'", True),
        ("__SERVER = 'hv01'", True),
        ("ElementName != __SERVER", True),
        ("__NAMESPACE LIKE '%virtualization%'", True),
        ("__THIS ISA 'CIM_SettingData'", True),
        ("__THIS ISA 'CIM_Job'", False),
        (
            "__PATH = '\\\\\\\\HV01\\\\root\\\\virtualization\\\\v2:Msvm_VirtualSystemSettingData.InstanceID="
            '"Microsoft:ABC\\\\\\\\83F8638B-8DCA-4152-9EDA-2CA8B33039B4\\\\\\\\0"\'',
            True,
        ),
    ],
)
def test_a_condition_selects(condition: str, expected: bool) -> None:
    assert matches(condition) is expected


def test_a_comparison_with_null_follows_its_switch() -> None:
    assert matches("Caption <> 'x'", switches={"wql-null-comparison": "not-equal-true"})


@pytest.mark.parametrize(
    "text",
    [
        "", "SELECT", "SELECT * FROM", "SELECT FROM X", "SELECT * FROM X WHERE", "SELECT * FROM X WHERE a",
        "SELECT * FROM X WHERE a ==", "SELECT * FROM X WHERE a = 'b", "SELECT * FROM X WHERE (a = 1",
        "SELECT * FROM X ORDER BY a", "SELECT * FROM X LIMIT 1", "SELECT * FROM X; DROP", "UPDATE X SET a = 1",
        "SELECT * FROM X WHERE a LIKE b", "SELECT * FROM X WHERE 1 = 1", "SELECT a b FROM X",
        "ASSOCIATORS OF {X.K='1'", "ASSOCIATORS OF {} ", "REFERENCES OF {X.K='1'} WHERE AssocClass = Y",
        "ASSOCIATORS OF {X.K='1'} WHERE Nonsense = Y", "SELECT * FROM X WHERE " + "(" * 200 + "a = 1" + ")" * 200,
    ],
)  # fmt: skip
def test_what_is_no_wql_is_refused(text: str) -> None:
    with pytest.raises(wql.WqlError):
        wql.parse(text, V2)


@pytest.mark.parametrize("condition", ["NoSuch = 1", "Notes = 'a'", "LowMmioGapSize = 'many'", "CreationTime > 'soon'"])
def test_a_condition_that_does_not_fit_the_class_is_refused(condition: str) -> None:
    with pytest.raises(wql.WqlError):
        matches(condition)


def test_a_reference_condition_is_refused_unless_the_switch_says_otherwise() -> None:
    row = Instance(V2, "Msvm_SettingsDefineState", {"ManagedElement": Ref(V2, "Msvm_ComputerSystem", {"Name": "X"})})
    condition = "ManagedElement = 'Msvm_ComputerSystem.Name=\"x\"'"
    with pytest.raises(wql.WqlError):
        matches(condition, row)
    assert matches(condition, row, {"wql-ref-filter": "accepted"})


def test_equalities_joined_by_and_are_known_to_the_view() -> None:
    tree = wql.parse("SELECT a FROM X WHERE Name = 'C:\\\\x' AND Size > 5 AND Drive = 'c:'", V2)
    assert isinstance(tree, wql.Select)
    assert tree.known() == {"Name": "C:\\x", "Drive": "c:"}
    either = wql.parse("SELECT a FROM X WHERE Name = 'a' OR Name = 'b'", V2)
    assert isinstance(either, wql.Select)
    assert either.known() == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "ASSOCIATORS OF {Msvm_ComputerSystem.CreationClassName=\"Msvm_ComputerSystem\",Name='AB'} "
            "WHERE AssocClass = Msvm_SettingsDefineState ResultClass=Msvm_VirtualSystemSettingData",
            {"association": "Msvm_SettingsDefineState", "result": "Msvm_VirtualSystemSettingData", "references": False},
        ),
        (
            "associators of {X.Id='{1}'} where ResultRole = SettingData Role=a",
            {"result_role": "SettingData", "role": "a"},
        ),
        ("REFERENCES OF {X.Id='1'} WHERE ResultClass = Y", {"references": True, "result": "Y"}),
        ("ASSOCIATORS OF {X.Id='1'} WHERE ClassDefsOnly", {"class_definitions_only": True}),
    ],
)
def test_a_walk_is_understood(text: str, expected: dict[str, Any]) -> None:
    tree = wql.parse(text, V2)
    assert isinstance(tree, wql.Walk)
    assert {name: getattr(tree, name) for name in expected} == expected


names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)


@given(st.dictionaries(st.from_regex(r"\A[A-Z][a-z]{1,8}\Z"), st.one_of(names, st.integers(0, 2**63), st.booleans()),
                       min_size=1, max_size=4))  # fmt: skip
def test_an_object_path_reads_back_as_it_was_written(keys: dict[str, Any]) -> None:
    ref = Ref("root/virtualization/v2", "Msvm_X", keys)
    path = ref.path("HV01")
    assert parse_object_path(path).same_as(ref)
    assert path_host(path) == "HV01"


@given(st.text(max_size=60))
def test_any_text_is_either_wql_or_refused(text: str) -> None:
    try:
        wql.parse(text, V2)
    except wql.WqlError:
        return


@given(st.text(st.characters(codec="utf-8"), max_size=20))
def test_a_quoted_constant_comes_back_when_quotes_and_backslashes_are_escaped(text: str) -> None:
    quoted = "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
    assert wql.unquote(quoted) == text


def test_like_is_anchored_and_takes_regular_expression_characters_as_they_are() -> None:
    assert wql.like("a.b", "a.b")
    assert not wql.like("axb", "a.b")
    assert not wql.like("xabc", "ab%")
    assert wql.like("line\nbreak", "line%")
