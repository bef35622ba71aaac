# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""System.Security.Cryptography for scripts: the hash classes of .NET Framework, their blocks, errors and FIPS policy.

Source: the .NET API documentation of HashAlgorithm and of the Managed, Cng and CryptoServiceProvider classes.
"""

from __future__ import annotations

import hashlib
from typing import Any

from .assumed import assumed
from .powershell_classes import check_range, null_argument
from .powershell_dotnet import VOID, constructor, getter, inherits, method, static
from .powershell_values import Array, NetObject, thrown

assumed(
    "powershell-fips",
    "Whether the policy for FIPS validated cryptography is on: managed hash classes then refuse to be made",
    source=".NET documentation of the *Managed classes; off on a default installation",
    values=("off", "on"),
)

BYTES, STRING, INT = "System.Byte[]", "System.String", "System.Int32"

# -- hashes ------------------------------------------------------------------------------------------------------------------------


class HashAlgorithm(NetObject):
    def __init__(self, type_name: str, algorithm: str) -> None:
        self.type_name = type_name
        self.algorithm = algorithm
        self.state = hashlib.new(algorithm, usedforsecurity=False)
        self.value: bytes | None = None
        self.running = False
        self.disposed = False

    def need(self) -> None:
        if self.disposed:
            raise thrown("System.ObjectDisposedException", "Cannot access a disposed object.")

    def feed(self, ps: Any, data: bytes | memoryview) -> None:
        if not self.running:
            self.state, self.running = hashlib.new(self.algorithm, usedforsecurity=False), True
        self.state.update(data)
        ps.worked += len(data)

    def finish(self) -> Array:
        if not self.running:
            self.state = hashlib.new(self.algorithm, usedforsecurity=False)
        self.value, self.running = self.state.digest(), False
        return Array(self.value, "System.Byte")


_HASHES = "System.Security.Cryptography."
_HASH = _HASHES + "HashAlgorithm"


def _new_hash(ps: Any, name: str, algorithm: str) -> HashAlgorithm:
    managed = name.endswith("Managed") or name == _HASHES + "MD5CryptoServiceProvider"
    if managed and ps.machine.world.assume("powershell-fips") == "on":
        raise thrown(
            "System.InvalidOperationException",
            "This implementation is not part of the Windows Platform FIPS validated cryptographic algorithms.",
        )
    return HashAlgorithm(name, algorithm)


def _declare_hash(base: str, algorithm: str, classes: tuple[str, ...], default: str) -> None:
    inherits(_HASHES + base, _HASH)
    static(_HASHES + base, "Create")(lambda ps: _new_hash(ps, _HASHES + default, algorithm))
    for one in classes:
        inherits(_HASHES + one, _HASHES + base)
        constructor(_HASHES + one)(lambda ps, n=_HASHES + one: _new_hash(ps, n, algorithm))


_declare_hash("SHA256", "sha256", ("SHA256Managed", "SHA256Cng", "SHA256CryptoServiceProvider"), "SHA256Managed")
_declare_hash("SHA1", "sha1", ("SHA1Managed", "SHA1Cng", "SHA1CryptoServiceProvider"), "SHA1CryptoServiceProvider")
_declare_hash("SHA384", "sha384", ("SHA384Managed", "SHA384Cng", "SHA384CryptoServiceProvider"), "SHA384Managed")
_declare_hash("SHA512", "sha512", ("SHA512Managed", "SHA512Cng", "SHA512CryptoServiceProvider"), "SHA512Managed")
_declare_hash("MD5", "md5", ("MD5CryptoServiceProvider", "MD5Cng"), "MD5CryptoServiceProvider")


@static(_HASH, "Create", STRING)
def _hash_named(ps: Any, name: str) -> Any:
    known = {
        "SHA256": ("SHA256Managed", "sha256"),
        "SHA1": ("SHA1CryptoServiceProvider", "sha1"),
        "SHA": ("SHA1CryptoServiceProvider", "sha1"),
        "SHA384": ("SHA384Managed", "sha384"),
        "SHA512": ("SHA512Managed", "sha512"),
        "MD5": ("MD5CryptoServiceProvider", "md5"),
    }
    short = name.upper().rpartition(".")[2].replace("-", "")
    return _new_hash(ps, _HASHES + known[short][0], known[short][1]) if short in known else None


@method(_HASH, "ComputeHash", BYTES)
def _compute(ps: Any, state: HashAlgorithm, data: Array | None) -> Array:
    state.need()
    if data is None:
        raise null_argument("buffer")
    state.feed(ps, bytes(data.items))
    return state.finish()


@method(_HASH, "ComputeHash", "System.IO.Stream")
def _compute_stream(ps: Any, state: HashAlgorithm, stream: Any) -> Array:
    state.need()
    if stream is None:
        raise null_argument("inputStream")
    for block in stream.rest(ps):
        state.feed(ps, block)
    return state.finish()


@method(_HASH, "ComputeHash", BYTES, INT, INT)
def _compute_part(ps: Any, state: HashAlgorithm, data: Array | None, offset: int, count: int) -> Array:
    state.need()
    check_range(data, offset, count)
    assert data is not None
    state.feed(ps, memoryview(data.items)[offset : offset + count])
    return state.finish()


@method(_HASH, "TransformBlock", BYTES, INT, INT, BYTES, INT)
def _transform(
    ps: Any, state: HashAlgorithm, data: Array | None, offset: int, count: int, output: Array | None, at: int
) -> int:
    state.need()
    _check_input(data, offset, count)
    assert data is not None
    block = bytes(memoryview(data.items)[offset : offset + count])
    state.feed(ps, block)
    if output is not None and (output is not data or at != offset):
        check_range(output, at, count, "outputBuffer")
        output.items[at : at + count] = block
    return count


@method(_HASH, "TransformFinalBlock", BYTES, INT, INT)
def _transform_final(ps: Any, state: HashAlgorithm, data: Array | None, offset: int, count: int) -> Array:
    state.need()
    _check_input(data, offset, count)
    assert data is not None
    block = bytes(memoryview(data.items)[offset : offset + count])
    state.feed(ps, block)
    state.finish()
    return Array(block, "System.Byte")


def _check_input(data: Array | None, offset: int, count: int) -> None:
    if data is None:
        raise null_argument("inputBuffer")
    if offset < 0:
        raise thrown("System.ArgumentOutOfRangeException", "Non-negative number required.", parameter="inputOffset")
    if count < 0 or count > len(data):
        raise thrown("System.ArgumentException", "Value was invalid.")
    if len(data) - count < offset:
        raise thrown(
            "System.ArgumentException",
            "Offset and length were out of bounds for the array or count is greater than the number of elements from index"
            " to the end of the source collection.",
        )


@method(_HASH, "Initialize")
def _initialize(_ps: Any, state: HashAlgorithm) -> Any:
    state.need()
    state.running, state.value = False, None
    return VOID


@method(_HASH, "Dispose")
@method(_HASH, "Clear")
def _dispose(_ps: Any, state: HashAlgorithm) -> Any:
    state.disposed, state.value = True, None
    return VOID


@getter(_HASH, "Hash")
def _hash_value(_ps: Any, state: HashAlgorithm) -> Array | None:
    state.need()
    if state.running:
        raise thrown(
            _HASHES + "CryptographicUnexpectedOperationException",
            "Hash must be finalized before the hash value is retrieved.",
        )
    return None if state.value is None else Array(state.value, "System.Byte")


getter(_HASH, "HashSize")(lambda _p, state: state.state.digest_size * 8)
