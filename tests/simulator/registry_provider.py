# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""StdRegProv, the registry as CIM: static methods in root/cimv2 and root/default; the contents of a new machine.

The store itself is registry.py. Parameter names and types: cim-classes.json, class StdRegProv. Return codes are Win32
errors (win32 docs, regprov): 0, 2 not found, 5 denied, 6 no such hive; what they leave open is declared below.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .assumed import assumed
from .cim import WBEM_E_INVALID_METHOD_PARAMETERS, WBEM_E_TYPE_MISMATCH, CimFault, Instance, Value
from .registry import (
    ERROR_ACCESS_DENIED,
    ERROR_FILE_NOT_FOUND,
    HKEY_CLASSES_ROOT,
    HKEY_CURRENT_CONFIG,
    HKEY_CURRENT_USER,
    HKEY_LOCAL_MACHINE,
    HKEY_USERS,
    REG_BINARY,
    REG_DWORD,
    REG_EXPAND_SZ,
    REG_MULTI_SZ,
    REG_QWORD,
    REG_SZ,
    Registry,
    RegistryError,
    RegistryValue,
)
from .service import Caller, caller, method

NAMESPACES = ("root/cimv2", "root/default")

assumed(
    "registry-missing-value",
    "StdRegProv answers 1 when the key exists and the value does not (2 is for a missing key)",
    source="common scripting knowledge; the reference only says non-zero",
    values=("1", "2"),
)
assumed(
    "registry-wrong-type",
    "StdRegProv answers 0x80041005 when a value of another type is read through a typed method",
    source="common scripting knowledge; the reference only says non-zero",
    values=("0x80041005", "0x1"),
)
assumed(
    "registry-create-below-root",
    "A new key directly below HKEY_LOCAL_MACHINE is refused with 5",
    source="registry documentation forbids it, the code is a guess",
)

KEY_QUERY_VALUE, KEY_SET_VALUE, KEY_CREATE_SUB_KEY, KEY_ENUMERATE_SUB_KEYS, KEY_NOTIFY = 1, 2, 4, 8, 0x10
_WRITING = KEY_SET_VALUE | KEY_CREATE_SUB_KEY | 0x20 | 0x10000 | 0x40000 | 0x80000
_SYSTEM_ONLY = ("SAM\\SAM", "SECURITY")

Arguments = dict[str, Value]
Body = Callable[[Any, int, str, Arguments], Mapping[str, Value]]


def may(who: Caller, hive: int, path: str, *, write: bool) -> bool:
    """Default ACLs: administrators may all but SAM and SECURITY, everyone else reads HKLM and owns HKCU."""
    if who.account.upper() == "SYSTEM":
        return True
    below = path.upper().strip("\\")
    if hive == HKEY_LOCAL_MACHINE and any(below == top or below.startswith(top + "\\") for top in _SYSTEM_ONLY):
        return False
    if hive == HKEY_CURRENT_USER or who.is_administrator:
        return True
    return not write


def _register(name: str, body: Body, *, write: bool) -> None:
    def call(machine: Any, target: Instance | None, arguments: Arguments) -> Mapping[str, Value]:
        hive = arguments.get("hDefKey")
        hive = HKEY_LOCAL_MACHINE if hive is None else hive
        path = arguments.get("sSubKeyName")
        if not isinstance(hive, int) or not isinstance(path, str):
            raise CimFault.wmi(WBEM_E_INVALID_METHOD_PARAMETERS, provider="RegProv")
        if not may(caller(), hive, path, write=write):
            return {"ReturnValue": ERROR_ACCESS_DENIED}
        try:
            return {"ReturnValue": 0, **body(machine, hive, path, arguments)}
        except RegistryError as error:
            return {"ReturnValue": error.code}

    for namespace in NAMESPACES:
        method(namespace, "StdRegProv", name)(call)


def _create_key(machine: Any, hive: int, path: str, arguments: Arguments) -> Mapping[str, Value]:
    registry: Registry = machine.registry
    first = path.strip("\\").partition("\\")[0]
    if hive in {HKEY_LOCAL_MACHINE, HKEY_USERS} and registry.find(hive, first) is None:
        return {"ReturnValue": ERROR_ACCESS_DENIED}
    registry.create_key(hive, path)
    return {}


def _delete_key(machine: Any, hive: int, path: str, arguments: Arguments) -> Mapping[str, Value]:
    machine.registry.delete_key(hive, path)
    return {}


def _enum_key(machine: Any, hive: int, path: str, arguments: Arguments) -> Mapping[str, Value]:
    names: list[Value] = [key.name for key in sorted(machine.registry.open(hive, path).subkeys.values(), key=_by_name)]
    return {"sNames": names or None}


def _by_name(key: Any) -> str:
    return str(key.name).upper()


def _enum_values(machine: Any, hive: int, path: str, arguments: Arguments) -> Mapping[str, Value]:
    entries = list(machine.registry.open(hive, path).values.values())
    names: list[Value] = [name for name, _value in entries]
    kinds: list[Value] = [value.kind for _name, value in entries]
    return {"sNames": names or None, "Types": kinds or None}


def _delete_value(machine: Any, hive: int, path: str, arguments: Arguments) -> Mapping[str, Value]:
    machine.registry.delete_value(hive, path, _name(arguments))
    return {}


def _check_access(machine: Any, hive: int, path: str, arguments: Arguments) -> Mapping[str, Value]:
    machine.registry.open(hive, path)
    wanted = arguments.get("uRequired")
    wanted = KEY_QUERY_VALUE | KEY_SET_VALUE if wanted is None else wanted
    write = isinstance(wanted, int) and bool(wanted & _WRITING)
    granted = may(caller(), hive, path, write=write)
    return {"bGranted": granted, "ReturnValue": 0 if granted else ERROR_ACCESS_DENIED}


def _name(arguments: Arguments) -> str:
    name = arguments.get("sValueName")
    if name is None:
        return ""
    if not isinstance(name, str):
        raise CimFault.wmi(WBEM_E_INVALID_METHOD_PARAMETERS, provider="RegProv")
    return name


def _getter(kind: int, parameter: str) -> Body:
    def body(machine: Any, hive: int, path: str, arguments: Arguments) -> Mapping[str, Value]:
        value: RegistryValue | None = machine.registry.get(hive, path, _name(arguments))
        if value is None:
            return {"ReturnValue": int(machine.world.assume("registry-missing-value"))}
        readable = {REG_SZ, REG_EXPAND_SZ} if kind in {REG_SZ, REG_EXPAND_SZ} else {kind}
        if value.kind not in readable:
            return {"ReturnValue": int(machine.world.assume("registry-wrong-type"), 16)}
        data: Value
        if isinstance(value.data, bytes | tuple):
            data = list(value.data)
        else:
            data = value.data
        return {parameter: data if data != [] else None}

    return body


def _setter(kind: int, parameter: str, convert: Callable[[Value], Any]) -> Body:
    def body(machine: Any, hive: int, path: str, arguments: Arguments) -> Mapping[str, Value]:
        machine.registry.open(hive, path)
        data = convert(arguments.get(parameter))
        machine.registry.set(hive, path, _name(arguments), RegistryValue(kind=kind, data=data))
        return {}

    return body


def _text(value: Value) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise CimFault.wmi(WBEM_E_TYPE_MISMATCH, provider="RegProv")
    return value


def _number(value: Value) -> int:
    if value is None:
        return 0
    if not isinstance(value, int):
        raise CimFault.wmi(WBEM_E_TYPE_MISMATCH, provider="RegProv")
    return value


def _octets(value: Value) -> bytes:
    if value is None:
        return b""
    if not isinstance(value, list):
        raise CimFault.wmi(WBEM_E_TYPE_MISMATCH, provider="RegProv")
    return bytes(value)


def _strings(value: Value) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise CimFault.wmi(WBEM_E_TYPE_MISMATCH, provider="RegProv")
    return tuple(str(item) for item in value)


_register("CreateKey", _create_key, write=True)
_register("DeleteKey", _delete_key, write=True)
_register("EnumKey", _enum_key, write=False)
_register("EnumValues", _enum_values, write=False)
_register("DeleteValue", _delete_value, write=True)
_register("CheckAccess", _check_access, write=False)
for _word, _kind, _parameter, _convert in (
    ("String", REG_SZ, "sValue", _text),
    ("ExpandedString", REG_EXPAND_SZ, "sValue", _text),
    ("DWORD", REG_DWORD, "uValue", _number),
    ("QWORD", REG_QWORD, "uValue", _number),
    ("MultiString", REG_MULTI_SZ, "sValue", _strings),
    ("Binary", REG_BINARY, "uValue", _octets),
):
    _register(f"Get{_word}Value", _getter(_kind, _parameter), write=False)
    _register(f"Set{_word}Value", _setter(_kind, _parameter, _convert), write=True)


# -- what a freshly installed machine has --------------------------------------------------------------------------

_SERVICES = {
    "wbengine": ('"%systemroot%\\system32\\wbengine.exe"', "@%systemroot%\\system32\\wbengine.exe,-104", 3),
    "VSS": ("%systemroot%\\system32\\vssvc.exe", "@%systemroot%\\system32\\vssvc.exe,-102", 3),
    "WinRM": (
        "%SystemRoot%\\System32\\svchost.exe -k NetworkService -p",
        "@%Systemroot%\\system32\\wsmsvc.dll,-101",
        2,
    ),
    "Schedule": ("%systemroot%\\system32\\svchost.exe -k netsvcs -p", "@%SystemRoot%\\system32\\schedsvc.dll,-100", 2),
    "MSiSCSI": ("%systemroot%\\system32\\svchost.exe -k netsvcs -p", "@%SystemRoot%\\system32\\iscsidsc.dll,-5000", 3),
}
_HOST_SERVICES = {"vmms": ("%systemroot%\\system32\\vmms.exe", "@%systemroot%\\system32\\vmms.exe,-10", 2)}
_GUEST_SERVICES = {
    "vmicvss": (
        "%systemroot%\\system32\\svchost.exe -k LocalSystemNetworkRestricted -p",
        "@%systemroot%\\system32\\icsvc.dll,-701",
        3,
    )
}


def new_registry(machine: Any) -> Registry:
    """The registry of a machine as its world describes it."""
    registry = Registry()
    caption = str(machine.os.caption).removeprefix("Microsoft ").strip()
    build = str(machine.os.build)
    server = int(machine.os.product_type) != 1
    for top in ("HARDWARE", "SAM", "SECURITY", "SOFTWARE", "SYSTEM"):
        registry.create_key(HKEY_LOCAL_MACHINE, top)
    registry.put(
        "SOFTWARE\\Microsoft\\Windows NT\\CurrentVersion",
        {
            "CurrentMajorVersionNumber": 10,
            "CurrentMinorVersionNumber": 0,
            "CurrentVersion": "6.3",
            "CurrentBuild": build,
            "CurrentBuildNumber": build,
            "ProductName": caption,
            "EditionID": machine.os.edition,
            "InstallationType": "Server" if server else "Client",
            "SystemRoot": "C:\\Windows",
            "UBR": 1,
        },
    )
    registry.put(
        "SOFTWARE\\Microsoft\\Windows\\CurrentVersion",
        {"ProgramFilesDir": "C:\\Program Files", "CommonFilesDir": "C:\\Program Files\\Common Files"},
    )
    registry.put(
        "SYSTEM\\CurrentControlSet\\Control\\ComputerName\\ComputerName", {"ComputerName": machine.netbios_name}
    )
    registry.put(
        "SYSTEM\\CurrentControlSet\\Control\\ComputerName\\ActiveComputerName", {"ComputerName": machine.netbios_name}
    )
    registry.put("SYSTEM\\CurrentControlSet\\Services\\Tcpip\\Parameters", {"Hostname": machine.name, "Domain": ""})
    registry.put("SYSTEM\\CurrentControlSet\\Control\\Session Manager\\Environment", {"OS": "Windows_NT"})
    registry.put("SYSTEM\\CurrentControlSet\\Services\\partmgr\\Parameters", {"SanPolicy": 2 if server else 1})
    registry.put("SYSTEM\\CurrentControlSet\\Control\\Nls\\CodePage", {"ACP": "1252", "OEMCP": "437", "MACCP": "10000"})
    services = _SERVICES | (_HOST_SERVICES if machine.kind == "host" else _GUEST_SERVICES)
    for name, (image, display, start) in services.items():
        path = f"SYSTEM\\CurrentControlSet\\Services\\{name}"
        registry.put(path, {"DisplayName": display, "ObjectName": "LocalSystem", "Start": start, "Type": 16})
        registry.set(HKEY_LOCAL_MACHINE, path, "ImagePath", RegistryValue(kind=REG_EXPAND_SZ, data=image))
    if machine.kind == "host":
        registry.put(
            "SOFTWARE\\Microsoft\\Windows NT\\CurrentVersion\\Virtualization",
            {
                "DefaultVirtualHardDiskPath": "C:\\Users\\Public\\Documents\\Hyper-V\\Virtual Hard Disks",
                "DefaultExternalDataRoot": "C:\\ProgramData\\Microsoft\\Windows\\Hyper-V",
            },
        )
    else:
        registry.put(
            "SOFTWARE\\Microsoft\\Virtual Machine\\Guest\\Parameters", {"HostName": "", "VirtualMachineName": ""}
        )
    if machine.ntds_paths is not None:  # documented where Microsoft tells how to move the directory's files
        database, logs = machine.ntds_paths
        registry.put(
            "SYSTEM\\CurrentControlSet\\Services\\NTDS\\Parameters",
            {"DSA Database file": f"{database}\\ntds.dit", "Database log files path": logs},
        )
    registry.create_key(HKEY_USERS, ".DEFAULT\\Software")
    registry.create_key(HKEY_CURRENT_USER, "Software")
    registry.create_key(HKEY_CURRENT_CONFIG, "System")
    registry.create_key(HKEY_CLASSES_ROOT, ".txt")
    return registry


__all__ = ["ERROR_FILE_NOT_FOUND", "NAMESPACES", "may", "new_registry"]
