# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The simulated registry: StdRegProv's return codes, types, names without case, .reg files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.registry import (
    HKEY_LOCAL_MACHINE,
    REG_BINARY,
    REG_DWORD,
    REG_EXPAND_SZ,
    REG_MULTI_SZ,
    REG_QWORD,
    REG_SZ,
    Registry,
    RegistryValue,
)
from simulator.world import Machine
from unit.simulator.windows_machines import call, make_world, read_file, run

HKLM = HKEY_LOCAL_MACHINE
KEY = "SOFTWARE\\Contoso\\Prüfung"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Machine]:
    world = make_world(tmp_path)
    yield world.machine("hv01")
    world.close()


@pytest.mark.parametrize("namespace", ["root/cimv2", "root/default"])
@pytest.mark.parametrize(
    ("word", "parameter", "value"),
    [
        ("String", "sValue", 'Grüße \\ "x" \n 資料'),
        ("ExpandedString", "sValue", "%SystemRoot%\\x"),
        ("DWORD", "uValue", 2**32 - 1),
        ("QWORD", "uValue", 2**64 - 1),
        ("MultiString", "sValue", ["a", "b c", "ü"]),
        ("Binary", "uValue", [0, 1, 255]),
    ],
)
def test_a_value_comes_back_as_it_was_set(host: Machine, namespace: str, word: str, parameter: str, value: Any) -> None:
    assert call(host, namespace, "StdRegProv", "CreateKey", hDefKey=HKLM, sSubKeyName=KEY)["ReturnValue"] == 0
    where: dict[str, Any] = {"hDefKey": HKLM, "sSubKeyName": KEY, "sValueName": "Name"}
    assert call(host, namespace, "StdRegProv", f"Set{word}Value", **where, **{parameter: value})["ReturnValue"] == 0
    answer = call(host, namespace, "StdRegProv", f"Get{word}Value", **where)
    assert (answer["ReturnValue"], answer[parameter]) == (0, value)


def test_return_codes_of_missing_things(host: Machine) -> None:
    call(host, "root/cimv2", "StdRegProv", "CreateKey", hDefKey=HKLM, sSubKeyName=KEY)

    def code(name: str, **arguments: Any) -> object:
        return call(host, "root/cimv2", "StdRegProv", name, **arguments)["ReturnValue"]

    assert code("GetStringValue", hDefKey=HKLM, sSubKeyName=KEY + "\\none", sValueName="x") == 2
    assert code("GetStringValue", hDefKey=HKLM, sSubKeyName=KEY, sValueName="x") == 1
    assert code("SetStringValue", hDefKey=HKLM, sSubKeyName=KEY + "\\none", sValueName="x", sValue="y") == 2
    assert code("DeleteValue", hDefKey=HKLM, sSubKeyName=KEY, sValueName="x") == 2
    assert code("EnumKey", hDefKey=HKLM, sSubKeyName=KEY + "\\none") == 2
    assert code("DeleteKey", hDefKey=HKLM, sSubKeyName="SOFTWARE\\Contoso") == 5
    assert code("CreateKey", hDefKey=HKLM, sSubKeyName="NewRoot") == 5
    assert code("EnumKey", hDefKey=0x80000009, sSubKeyName="") == 6
    assert code("CreateKey", hDefKey=HKLM, sSubKeyName="SOFTWARE\\" + "x" * 256) == 87


def test_a_value_of_another_type_is_refused(host: Machine) -> None:
    call(host, "root/cimv2", "StdRegProv", "CreateKey", hDefKey=HKLM, sSubKeyName=KEY)
    call(host, "root/cimv2", "StdRegProv", "SetDWORDValue", hDefKey=HKLM, sSubKeyName=KEY, sValueName="n", uValue=7)
    answer = call(host, "root/cimv2", "StdRegProv", "GetStringValue", hDefKey=HKLM, sSubKeyName=KEY, sValueName="n")
    assert answer == {"ReturnValue": 0x80041005}


def test_hklm_is_the_default_hive_and_names_have_no_case(host: Machine) -> None:
    answer = call(
        host,
        "root/cimv2",
        "StdRegProv",
        "GetStringValue",
        sSubKeyName="software\\microsoft\\WINDOWS NT\\currentversion",
        sValueName="productname",
    )
    assert answer["sValue"] == "Windows Server 2022 Datacenter"


def test_only_administrators_write_below_hklm(host: Machine) -> None:
    answer = call(host, "root/cimv2", "StdRegProv", "CreateKey", groups=("Users",), hDefKey=HKLM, sSubKeyName=KEY)
    assert answer["ReturnValue"] == 5
    assert host.registry.find(HKLM, KEY) is None


def test_enumerations_list_names_and_types(host: Machine) -> None:
    host.registry.put(KEY, {"b": 1, "a": "x"})
    host.registry.put(KEY + "\\Sub", {})
    values = call(host, "root/cimv2", "StdRegProv", "EnumValues", hDefKey=HKLM, sSubKeyName=KEY)
    assert (values["sNames"], values["Types"]) == (["b", "a"], [REG_DWORD, REG_SZ])
    assert call(host, "root/cimv2", "StdRegProv", "EnumKey", hDefKey=HKLM, sSubKeyName=KEY)["sNames"] == ["Sub"]
    empty = call(host, "root/cimv2", "StdRegProv", "EnumKey", hDefKey=HKLM, sSubKeyName=KEY + "\\Sub")
    assert empty == {"ReturnValue": 0, "sNames": None}


def test_the_registry_outlives_a_reboot(host: Machine) -> None:
    host.registry.put(KEY, {"kept": "yes"})
    host.reboot()
    assert host.registry.text(KEY, "kept") == "yes"


_TEXT = st.text(st.characters(exclude_characters="\0\r\n", exclude_categories=("Cs", "Cc")), max_size=40)
_VALUES = st.one_of(
    st.builds(lambda data: RegistryValue(kind=REG_SZ, data=data), _TEXT),
    st.builds(lambda data: RegistryValue(kind=REG_EXPAND_SZ, data=data), _TEXT),
    st.builds(lambda data: RegistryValue(kind=REG_BINARY, data=data), st.binary(max_size=200)),
    st.builds(lambda data: RegistryValue(kind=REG_DWORD, data=data), st.integers(0, 2**32 - 1)),
    st.builds(lambda data: RegistryValue(kind=REG_QWORD, data=data), st.integers(0, 2**64 - 1)),
    st.builds(
        lambda data: RegistryValue(kind=REG_MULTI_SZ, data=tuple(data)), st.lists(_TEXT.filter(bool), max_size=4)
    ),
)


@given(st.dictionaries(_TEXT, _VALUES, max_size=6))
def test_a_reg_file_brings_back_what_was_exported(values: dict[str, RegistryValue]) -> None:
    registry = Registry()
    registry.create_key(HKLM, "SOFTWARE\\a [b]")
    for name, value in values.items():
        registry.set(HKLM, "SOFTWARE\\a [b]", name, value)
    text = registry.export_reg(HKLM, "SOFTWARE")
    other = Registry()
    other.import_reg(text)
    key = other.open(HKLM, "SOFTWARE\\a [b]")
    original = registry.open(HKLM, "SOFTWARE\\a [b]")
    assert key.values == original.values


def test_reg_exe_exports_utf16_and_deletes(host: Machine) -> None:
    host.registry.put(KEY, {"name": 'a\\b "c"', "number": 42})
    assert run(host, f'reg export "HKLM\\{KEY}" C:\\out.reg').code == 0
    data = read_file(host, "C:\\out.reg")
    assert data.startswith(b"\xff\xfe")
    text = data.decode("utf-16")
    assert text.startswith(
        "Windows Registry Editor Version 5.00\r\n\r\n[HKEY_LOCAL_MACHINE\\SOFTWARE\\Contoso\\Prüfung]"
    )
    assert '"name"="a\\\\b \\"c\\""' in text
    assert '"number"=dword:0000002a' in text
    assert run(host, f'reg delete "HKLM\\{KEY}" /f').code == 0
    assert run(host, f'reg query "HKLM\\{KEY}"').code == 1
    assert run(host, "reg import C:\\out.reg").code == 0
    assert "    number    REG_DWORD    0x2a" in run(host, f'reg query "HKLM\\{KEY}" /v number').out


def test_a_reg_file_deletes_keys_and_values() -> None:
    registry = Registry()
    registry.put("SOFTWARE\\a", {"x": "1", "y": "2"})
    registry.put("SOFTWARE\\b\\c", {})
    registry.import_reg(
        "Windows Registry Editor Version 5.00\r\n\r\n"
        '[HKEY_LOCAL_MACHINE\\SOFTWARE\\a]\r\n"x"=-\r\n\r\n'
        "[-HKEY_LOCAL_MACHINE\\SOFTWARE\\b]\r\n"
    )
    assert list(registry.open(HKLM, "SOFTWARE\\a").values) == ["Y"]
    assert registry.find(HKLM, "SOFTWARE\\b") is None
