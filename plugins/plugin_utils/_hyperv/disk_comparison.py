# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
r"""Two disks of a host, compared byte by byte: the script that does it there, and what its answer proves.

No CIM method reads a disk's bytes, so that `verify: full` alone starts Windows' own powershell.exe. The script is plain
Windows PowerShell 5.1 over .NET: it opens both disks for reading, shares them, reads them in blocks of 1 MiB, compares each
block as base64 text (a loop over bytes would take weeks) and hashes both sides. .NET Framework may refuse to open a device
by its path (documentation of System.IO.FileStream), so that the script falls back to CreateFile of kernel32.

Its files in the run's folder: `progress.txt` has as many bytes as percent are done, so that its size over CIM is enough;
`result.txt` appears whole. Raw reads of offline disks: windows-storage 6.4.

Not here: starting it (`_backup.comparison_job`), which disks these are and that they may be read (`migration`).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from .errors import HypervError, Precondition
from .jobs import Hands

POWERSHELL = r"C:\Windows\System32\WindowsPowerShell\v1.0\powershell.exe"
RESULT, PROGRESS, OUTPUT, EXIT_CODE = "result.txt", "progress.txt", "out.txt", "rc.txt"
# Exit codes of the script; anything else is that of powershell.exe itself
SAME, UNREADABLE, DIFFERENT = 0, 3, 4

_DRIVE = re.compile(r"\\\\\.\\PHYSICALDRIVE\d{1,5}\Z")
_FOLDER = re.compile(r"[A-Za-z]:(?:\\[A-Za-z0-9][A-Za-z0-9._-]*)+\Z")
_HASH = re.compile(r"[0-9A-F]{2}(?:-[0-9A-F]{2}){31}\Z")
_MAX_SHOWN = 300

# Lines are joined as they are; indentation is taken away, for cmd.exe takes 8191 characters and base64 triples them.
SCRIPT = r"""
$ErrorActionPreference = 'Stop'
$folder = '@FOLDER@'
[long]$size = @SIZE@
function Tell($text) {
    [IO.File]::WriteAllText("$folder\result.tmp", $text)
    [IO.File]::Move("$folder\result.tmp", "$folder\result.txt")
}
function Reader($path) {
    try {
        return New-Object IO.FileStream($path, [IO.FileMode]::Open, [IO.FileAccess]::Read, [IO.FileShare]::ReadWrite, 512)
    } catch {
        Add-Type -Namespace Own -Name Native -MemberDefinition '@DECLARATION@'
        $zero = [IntPtr]::Zero
        $handle = [Own.Native]::CreateFile($path, [uint32]2147483648, [uint32]3, $zero, [uint32]3, [uint32]0, $zero)
        if ($handle.IsInvalid) { throw "$path cannot be opened" }
        return New-Object IO.FileStream($handle, [IO.FileAccess]::Read, 512)
    }
}
function Fill($disk, $block, $count) {
    $got = 0
    while ($got -lt $count) {
        $n = $disk.Read($block, $got, $count - $got)
        if ($n -le 0) { throw 'a disk ends too early' }
        $got += $n
    }
}
function Differ($from, $count) {
    $x = [Convert]::ToBase64String($a, $from, $count)
    $y = [Convert]::ToBase64String($b, $from, $count)
    return -not $x.Equals($y)
}
$code = 3
try {
    $a = New-Object byte[] 1048576
    $b = New-Object byte[] 1048576
    $one = Reader '@SOURCE@'
    $two = Reader '@COPY@'
    $h = New-Object Security.Cryptography.SHA256CryptoServiceProvider
    $i = New-Object Security.Cryptography.SHA256CryptoServiceProvider
    [long]$at = 0
    [long]$offset = -1
    $shown = -1
    while ($at -lt $size -and $offset -lt 0) {
        $count = [int][Math]::Min([long]1048576, $size - $at)
        Fill $one $a $count
        Fill $two $b $count
        [void]$h.TransformBlock($a, 0, $count, $null, 0)
        [void]$i.TransformBlock($b, 0, $count, $null, 0)
        if (Differ 0 $count) {
            $low = 0
            while ($count -gt 1) {
                $half = [int][Math]::Floor($count / 2)
                if (Differ $low $half) { $count = $half } else { $low += $half; $count -= $half }
            }
            $offset = $at + $low
        } else {
            $at += $count
        }
        $done = [int][Math]::Floor(100 * $at / $size)
        if ($done -ne $shown) { [IO.File]::WriteAllText("$folder\progress.txt", '.' * $done) }
        $shown = $done
    }
    [void]$h.TransformFinalBlock($a, 0, 0)
    [void]$i.TransformFinalBlock($b, 0, 0)
    $s = [BitConverter]::ToString($h.Hash)
    $c = [BitConverter]::ToString($i.Hash)
    Tell "same=$at`noffset=$offset`nsource=$s`ncopy=$c`n"
    $code = 0
    if ($offset -ge 0) { $code = 4 }
} catch {
    Tell "error=$($_.Exception.Message)`n"
} finally {
    if ($one) { $one.Close() }
    if ($two) { $two.Close() }
}
exit $code
"""
_DECLARATION = (
    '[DllImport("kernel32.dll", CharSet = CharSet.Unicode)] public static extern '
    "Microsoft.Win32.SafeHandles.SafeFileHandle CreateFile(string n, uint a, uint s, IntPtr p, uint d, uint f, IntPtr t);"
)
# Blanks that the language does not need; no text of the script holds them.
_TIGHT = re.compile(r" (=|\+=|-=|\{|\}) ?|(?<=[,;{]) ")


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What the script found.

    Attributes:
        exit_code: of powershell.exe; None when it left none.
        compared: bytes from the beginning that are the same on both.
        offset: of the first byte that differs; None when none does.
        source_sha256, copy_sha256: over what was read, in lower case.
        said: the script's own sentence, or what powershell.exe printed instead of running it.
    """

    exit_code: int | None
    compared: int | None = None
    offset: int | None = None
    source_sha256: str | None = None
    copy_sha256: str | None = None
    said: str = ""


class Comparer(Protocol):
    """Where the comparison runs; found again by its run id."""

    def compare(self, run_id: str, source: str, copy: str, size_bytes: int, hands: Hands) -> Comparison:
        """Start it, or attach to it, and wait for its end. Raises: HypervError `comparison_timeout`; it goes on then."""

    def knows(self, run_id: str) -> bool:
        """Whether it runs, or ran to its end; False when it was broken off, or never begun."""

    def stop(self, run_id: str) -> None:
        """End it, if it runs, and take away what it left."""


def script_text(*, source: str, copy: str, size_bytes: int, folder: str) -> str:
    r"""The script for two disks (`\\.\PHYSICALDRIVEn`), writing into a folder that exists.

    Raises: ValueError for what is no drive, folder or size: nothing else may become part of a script.
    """
    if not (_DRIVE.match(source) and _DRIVE.match(copy) and _FOLDER.match(folder)) or size_bytes <= 0:
        raise ValueError(f"not two drives, a size and a folder: {source!r}, {copy!r}, {size_bytes!r}, {folder!r}")
    lines = (line.strip() for line in SCRIPT.strip().splitlines())
    text = "\n".join(_TIGHT.sub(r"\1", line) for line in lines if line)
    for name, value in (
        ("@FOLDER@", folder),
        ("@SIZE@", str(size_bytes)),
        ("@DECLARATION@", _DECLARATION),
        ("@SOURCE@", source),
        ("@COPY@", copy),
    ):
        text = text.replace(name, value)
    return text


def powershell_command(script: str) -> str:
    """The command line; powershell.exe takes a script as base64 of UTF-16LE."""
    encoded = base64.b64encode(script.encode("utf-16-le")).decode("ascii")
    return f"{POWERSHELL} -NoProfile -NonInteractive -EncodedCommand {encoded}"


def read_result(exit_code: int | None, files: Mapping[str, bytes]) -> Comparison:
    """What a run left; nothing in it is trusted that is not of its form."""
    text = files.get(RESULT, b"").decode("utf-8", "replace")
    found = dict(line.partition("=")[::2] for line in text.splitlines() if "=" in line)
    offset = _number(found.get("offset"))
    printed = files.get(OUTPUT, b"").decode("utf-8", "replace")
    return Comparison(
        exit_code=exit_code,
        compared=_number(found.get("same")),
        offset=None if offset is None or offset < 0 else offset,
        source_sha256=_hash(found.get("source")),
        copy_sha256=_hash(found.get("copy")),
        said=" ".join((found.get("error") or ("" if text else printed)).split())[:_MAX_SHOWN],
    )


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"-?\d{1,19}", text.strip()) else None


def _hash(text: str | None) -> str | None:
    """As .NET writes bytes, `0A-FF-...`."""
    return text.strip().replace("-", "").lower() if text is not None and _HASH.match(text.strip()) else None


def require_same(found: Comparison, *, source: str, copy: str, size_bytes: int) -> str:
    """The SHA-256 that both disks have.

    Raises: Precondition `bytes_differ`; HypervError `comparison_failed` (a disk cannot be read), `powershell_unavailable`.
    """
    if found.offset is not None:
        raise Precondition(
            "bytes_differ",
            f"{copy} is not a copy of {source}: the first byte that differs is at offset {found.offset} of {size_bytes}.",
            {"offset": found.offset, "size_bytes": size_bytes},
        )
    proven = (
        found.exit_code == SAME
        and found.compared == size_bytes
        and found.source_sha256 is not None
        and found.source_sha256 == found.copy_sha256
    )
    if proven and found.source_sha256 is not None:
        return found.source_sha256
    said = f"; it said: {found.said}" if found.said else ""
    if found.exit_code == UNREADABLE or found.compared is not None:
        raise HypervError(
            "comparison_failed",
            f"{copy} could not be compared with {source} byte by byte ({found.compared or 0} of {size_bytes} bytes were){said}. "
            f"Look at the host's disks, or use verify: quick, which compares size, structure and partition table.",
        )
    raise HypervError(
        "powershell_unavailable",
        f"Windows PowerShell did not run the comparison of {copy} on the host (exit code {found.exit_code}){said}. Its language "
        f"mode or AppLocker may forbid it: allow it for SYSTEM, or use verify: quick, which needs no program.",
        {"exit_code": found.exit_code},
    )
