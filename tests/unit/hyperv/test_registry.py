# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The registry below one base key: values of every type, missing things, refusals, limits."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv import (
    HypervError,
    MethodFailed,
    Precondition,
    Registry,
)
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.registry import MAX_STRING_CHARS
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._wsman import CimPath, Value
from unit.hyperv.cim_store import CimStore

BASE = "SOFTWARE\\hyperv.passthrough"
NUMBERS = {"String": 1, "ExpandedString": 2, "DWORD": 4, "MultiString": 7, "QWORD": 11}


class Hive:
    """StdRegProv as documented: keys by case-folded path, a value is (type, value), codes of winerror.h."""

    def __init__(self, store: CimStore) -> None:
        self.keys: dict[str, dict[str, tuple[str, Value]]] = {"software": {}}
        for method in ("CreateKey", "DeleteKey", "DeleteValue", "EnumKey", "EnumValues"):
            store.on("StdRegProv", method, getattr(self, f"_{method}"))
        for kind in ("String", "MultiString", "DWORD", "QWORD"):
            store.on("StdRegProv", f"Set{kind}Value", self._setter(kind))
            store.on("StdRegProv", f"Get{kind}Value", self._getter(kind))

    @staticmethod
    def _path(given: Mapping[str, Value]) -> str:
        assert given["hDefKey"] == 0x80000002
        return str(given["sSubKeyName"]).casefold()

    def _setter(self, kind: str):  # type: ignore[no-untyped-def]
        def call(target: CimPath, given: Mapping[str, Value]) -> tuple[int, dict[str, Value]]:
            path = self._path(given)
            if path not in self.keys:
                return 2, {}
            self.keys[path][str(given["sValueName"])] = (kind, given.get("sValue", given.get("uValue")))
            return 0, {}

        return call

    def _getter(self, kind: str):  # type: ignore[no-untyped-def]
        def call(target: CimPath, given: Mapping[str, Value]) -> tuple[int, dict[str, Value]]:
            found = self.keys.get(self._path(given), {}).get(str(given["sValueName"]))
            name = "uValue" if kind in ("DWORD", "QWORD") else "sValue"
            if found is None:
                return 1, {name: None}
            return (0, {name: found[1]}) if found[0] == kind else (0x80041005, {name: None})

        return call

    def _CreateKey(self, target: CimPath, given: Mapping[str, Value]) -> tuple[int, dict[str, Value]]:  # noqa: N802
        parts = self._path(given).split("\\")
        for length in range(1, len(parts) + 1):
            self.keys.setdefault("\\".join(parts[:length]), {})
        return 0, {}

    def _DeleteKey(self, target: CimPath, given: Mapping[str, Value]) -> tuple[int, dict[str, Value]]:  # noqa: N802
        path = self._path(given)
        if any(other.startswith(path + "\\") for other in self.keys):
            return 5, {}
        return (0, {}) if self.keys.pop(path, None) is not None else (2, {})

    def _DeleteValue(self, target: CimPath, given: Mapping[str, Value]) -> tuple[int, dict[str, Value]]:  # noqa: N802
        values = self.keys.get(self._path(given), {})
        return (0, {}) if values.pop(str(given["sValueName"]), None) is not None else (2, {})

    def _EnumKey(self, target: CimPath, given: Mapping[str, Value]) -> tuple[int, dict[str, Value]]:  # noqa: N802
        path = self._path(given)
        if path not in self.keys:
            return 2, {}
        below = [other[len(path) + 1 :] for other in self.keys if other.startswith(path + "\\")]
        return 0, {"sNames": sorted(name for name in below if "\\" not in name)}

    def _EnumValues(self, target: CimPath, given: Mapping[str, Value]) -> tuple[int, dict[str, Value]]:  # noqa: N802
        path = self._path(given)
        if path not in self.keys:
            return 2, {}
        values = self.keys[path]
        return 0, {"sNames": list(values), "Types": [NUMBERS[kind] for kind, _unused in values.values()]}


@pytest.fixture
def store() -> CimStore:
    return CimStore()


@pytest.fixture
def hive(store: CimStore) -> Hive:
    return Hive(store)


@pytest.fixture
def registry(store: CimStore, hive: Hive) -> Registry:
    return Registry(store, BASE)


@pytest.mark.parametrize("text", ["", "plain", '{"name": "Größe 数据库", "t": "{{ 7*7 }}"}', "a\\b'c\"d%e&f<g>"])
def test_text_comes_back_as_written(registry: Registry, text: str) -> None:
    registry.set_string("set", text, "sets\\2026")
    assert registry.get_string("set", "sets\\2026") == text


def test_numbers_and_lists_come_back_as_written(registry: Registry) -> None:
    registry.set_dword("d", 2**32 - 1)
    registry.set_qword("q", 2**63)
    registry.set_multi_string("m", ("a", "", "ü"))
    assert (registry.get_dword("d"), registry.get_qword("q")) == (2**32 - 1, 2**63)
    assert registry.get_multi_string("m") == ("a", "", "ü")


def test_a_missing_key_is_made_by_the_first_write_and_only_then(
    registry: Registry, store: CimStore, hive: Hive
) -> None:
    registry.set_string("a", "1", "leases")
    registry.set_string("a", "2", "leases")
    methods = [method for _unused, method, _unused in store.calls]
    assert methods == ["SetStringValue", "CreateKey", "SetStringValue", "SetStringValue"]
    assert hive.keys[f"{BASE}\\leases".casefold()] == {"a": ("String", "2")}


def test_what_is_missing_is_none_and_deleting_it_is_no_error(registry: Registry) -> None:
    assert registry.get_string("no") is None
    assert registry.get_dword("no", "no such key") is None
    assert registry.list_keys() is None
    assert registry.list_values() is None
    assert registry.key_exists() is False
    assert registry.delete_value("no") is False
    assert registry.delete_key("no") is False


def test_keys_and_values_are_listed(registry: Registry) -> None:
    registry.set_string("one", "1", "a")
    registry.set_dword("two", 2, "a")
    registry.create_key("b")
    assert registry.list_keys() == ("a", "b")
    assert registry.list_keys("b") == ()
    values = registry.list_values("a")
    assert values is not None
    assert [(value.name, value.type) for value in values] == [("one", "REG_SZ"), ("two", "REG_DWORD")]
    assert registry.list_values("b") == ()


def test_a_key_is_deleted_with_all_below_it(registry: Registry, hive: Hive) -> None:
    registry.set_string("x", "1", "sets\\a\\b")
    registry.set_string("x", "1", "keep")
    assert registry.delete_key("sets") is True
    assert registry.list_keys() == ("keep",)


def test_a_value_is_deleted(registry: Registry) -> None:
    registry.set_string("x", "1")
    assert registry.delete_value("x") is True
    assert registry.get_string("x") is None


def test_the_base_key_cannot_be_deleted_nor_be_a_hive(registry: Registry, store: CimStore) -> None:
    with pytest.raises(ValueError, match="base key"):
        registry.delete_key("\\")
    with pytest.raises(ValueError, match="hive"):
        Registry(store, "\\")


def test_a_value_of_another_type_is_an_error_with_the_codes_name(registry: Registry) -> None:
    registry.set_dword("x", 1)
    with pytest.raises(MethodFailed, match="another type") as caught:
        registry.get_string("x")
    assert caught.value.details["code"] == 0x80041005
    assert "0x80041005" in str(caught.value)


def test_a_refused_write_names_key_and_code(registry: Registry, store: CimStore) -> None:
    store.on("StdRegProv", "SetStringValue", lambda target, given: (5, {}))
    with pytest.raises(MethodFailed, match="access denied") as caught:
        registry.set_string("x", "secret text")
    assert "HKEY_LOCAL_MACHINE\\SOFTWARE\\hyperv.passthrough" in str(caught.value)
    assert "secret text" not in str(caught.value)


def test_missing_rights_are_told(registry: Registry, store: CimStore) -> None:
    store.denied.add("StdRegProv")
    with pytest.raises(Precondition) as caught:
        registry.get_string("x")
    assert caught.value.kind == "rights_missing"


def test_a_value_beyond_the_limit_is_refused_before_anything_is_sent(registry: Registry, store: CimStore) -> None:
    with pytest.raises(HypervError) as caught:
        registry.set_string("x", "a" * (MAX_STRING_CHARS + 1))
    assert caught.value.kind == "registry_value_too_large"
    assert store.calls == []
    with pytest.raises(HypervError, match="nested"):
        registry.get_string("x", "\\".join("abc" * 20))
