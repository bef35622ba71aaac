# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Responsible for Win32_EncryptableVolume (BitLocker) in root/cimv2/security/microsoftvolumeencryption.

Bytes of an encrypted volume are not really encrypted: its boot sector says BitLocker, and a locked one gives no files.
"""

from __future__ import annotations

from collections.abc import Iterable

from .assumed import assumed
from .cim import CimFault, Instance, Value
from .partition_table import EFI_SYSTEM
from .service import method, view
from .volumes import FVE_E_LOCKED_VOLUME, Volume
from .world import Machine

NS = "root/cimv2/security/microsoftvolumeencryption"
Row = dict[str, Value]

assumed(
    "bitlocker-key",
    "Any numerical password or passphrase of at least eight characters unlocks a simulated BitLocker volume",
    source="no source; keys are not simulated",
)

FVE_E_FAILED_AUTHENTICATION = 0x80310027


def _row(volume: Volume) -> Row:
    state = volume.bitlocker
    return {
        "ConversionStatus": None if volume.locked else 1 if state else 0,
        "DeviceID": volume.path,
        "DriveLetter": f"{volume.letter}:" if volume.letter else "",
        "EncryptionMethod": None if volume.locked else state.method if state else 0,
        "IsVolumeInitializedForProtection": state is not None,
        "PersistentVolumeID": f"{{{volume.guid.upper()}}}" if state else "",
        "ProtectionStatus": 2 if volume.locked else int(bool(state and state.protection)),
        "VolumeType": 0 if volume.is_boot else 1,
    }


@view(NS, "Win32_EncryptableVolume")
def encryptable_volumes(machine: Machine) -> Iterable[Row]:
    for volume in machine.volumes():
        if volume.partition.gpt_type != EFI_SYSTEM and (volume.file_system == "NTFS" or volume.bitlocker):
            yield _row(volume)


def _volume(machine: Machine, target: Instance | None) -> Volume:
    wanted = str(target.get("DeviceID")).lower() if target is not None else ""
    for volume in machine.volumes():
        if volume.path.lower() == wanted:
            return volume
    raise CimFault.wmi(0x80041002, "Not found")


@method(NS, "Win32_EncryptableVolume", "GetLockStatus")
def get_lock_status(machine: Machine, target: Instance | None, _arguments: dict[str, Value]) -> Row:
    return {"ReturnValue": 0, "LockStatus": int(_volume(machine, target).locked)}


@method(NS, "Win32_EncryptableVolume", "GetProtectionStatus")
def get_protection_status(machine: Machine, target: Instance | None, _arguments: dict[str, Value]) -> Row:
    return {"ReturnValue": 0, "ProtectionStatus": _row(_volume(machine, target))["ProtectionStatus"]}


@method(NS, "Win32_EncryptableVolume", "GetConversionStatus")
def get_conversion_status(machine: Machine, target: Instance | None, _arguments: dict[str, Value]) -> Row:
    volume = _volume(machine, target)
    if volume.locked:
        return {"ReturnValue": FVE_E_LOCKED_VOLUME}
    encrypted = volume.bitlocker is not None
    return {
        "ReturnValue": 0,
        "ConversionStatus": int(encrypted),
        "EncryptionPercentage": 100 if encrypted else 0,
        "EncryptionFlags": 0,
        "WipingStatus": 0,
        "WipingPercentage": 0,
    }


@method(NS, "Win32_EncryptableVolume", "GetEncryptionMethod")
def get_encryption_method(machine: Machine, target: Instance | None, _arguments: dict[str, Value]) -> Row:
    volume = _volume(machine, target)
    if volume.locked:
        return {"ReturnValue": FVE_E_LOCKED_VOLUME}
    return {"ReturnValue": 0, "EncryptionMethod": volume.bitlocker.method if volume.bitlocker else 0}


@method(NS, "Win32_EncryptableVolume", "IsAutoUnlockEnabled")
def is_auto_unlock_enabled(machine: Machine, target: Instance | None, _arguments: dict[str, Value]) -> Row:
    state = _volume(machine, target).bitlocker
    return {"ReturnValue": 0, "IsAutoUnlockEnabled": bool(state and state.auto_unlock)}


@method(NS, "Win32_EncryptableVolume", "Lock")
def lock(machine: Machine, target: Instance | None, _arguments: dict[str, Value]) -> Row:
    volume = _volume(machine, target)
    if volume.bitlocker is None or volume.is_boot:
        return {"ReturnValue": 0x80310008}
    volume.bitlocker.locked = True
    return {"ReturnValue": 0}


def _unlock(machine: Machine, target: Instance | None, key: Value) -> Row:
    volume = _volume(machine, target)
    if volume.bitlocker is None:
        return {"ReturnValue": 0x80310008}
    if not isinstance(key, str) or len(key) < 8:
        return {"ReturnValue": FVE_E_FAILED_AUTHENTICATION}
    volume.bitlocker.locked = False
    return {"ReturnValue": 0}


@method(NS, "Win32_EncryptableVolume", "UnlockWithNumericalPassword")
def unlock_with_password(machine: Machine, target: Instance | None, arguments: dict[str, Value]) -> Row:
    return _unlock(machine, target, arguments.get("NumericalPassword"))


@method(NS, "Win32_EncryptableVolume", "UnlockWithPassphrase")
def unlock_with_passphrase(machine: Machine, target: Instance | None, arguments: dict[str, Value]) -> Row:
    return _unlock(machine, target, arguments.get("Passphrase"))
