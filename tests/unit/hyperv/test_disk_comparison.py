# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The comparison of two disks: what its script is made of, and what its answer proves."""

from __future__ import annotations

import base64
import hashlib

import pytest

from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.disk_comparison import (
    EXIT_CODE,
    OUTPUT,
    RESULT,
    Comparison,
    powershell_command,
    read_result,
    require_same,
    script_text,
)
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.errors import HypervError

FOLDER = "C:\\Windows\\Logs\\hyperv.passthrough\\jobs\\" + "v" * 60
DRIVES = {"source": "\\\\.\\PHYSICALDRIVE12345", "copy": "\\\\.\\PHYSICALDRIVE54321"}
SIZE = 8 * 1024**2
DIGEST = hashlib.sha256(b"the disk").digest()
SHOWN = "-".join(f"{byte:02X}" for byte in DIGEST)


def answer(*, same: int = SIZE, offset: int = -1, source: str = SHOWN, copy: str = SHOWN) -> dict[str, bytes]:
    return {RESULT: f"same={same}\noffset={offset}\nsource={source}\ncopy={copy}\n".encode()}


def judged(exit_code: int | None, files: dict[str, bytes]) -> str:
    found = read_result(exit_code, files)
    return require_same(found, source="the LUN 60AA", copy="V:\\a.vhdx", size_bytes=SIZE)


def test_the_script_names_both_disks_the_size_and_the_folder_and_fits_into_a_command_line() -> None:
    script = script_text(**DRIVES, size_bytes=64 * 1024**4, folder=FOLDER)
    for part in (*DRIVES.values(), str(64 * 1024**4), FOLDER):
        assert part in script
    assert "@" not in script.replace("@(", "")
    command = powershell_command(script)
    assert len(command) < 7200  # the rest of what cmd.exe takes is the job's own
    assert base64.b64decode(command.rpartition(" ")[2]).decode("utf-16-le") == script


def test_the_script_opens_both_disks_for_reading_only() -> None:
    script = script_text(**DRIVES, size_bytes=SIZE, folder=FOLDER)
    assert "[IO.FileAccess]::Write" not in script
    assert "ReadWrite" in script  # what others may do meanwhile
    assert "FileShare]::ReadWrite" in script
    assert script.count("ReadWrite") == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"source": "C:\\x"},
        {"copy": "\\\\.\\PHYSICALDRIVE1'; exit"},
        {"size_bytes": 0},
        {"folder": "C:\\a' + 'b"},
        {"folder": "C:\\a b"},
    ],
)
def test_nothing_else_becomes_part_of_a_script(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="two drives"):
        script_text(**{**DRIVES, "size_bytes": SIZE, "folder": FOLDER, **changes})  # type: ignore[arg-type]


def test_two_disks_with_the_same_bytes_have_one_digest() -> None:
    assert judged(0, answer()) == DIGEST.hex()


@pytest.mark.parametrize(
    ("exit_code", "files", "kind"),
    [
        (4, answer(same=1024, offset=1030), "bytes_differ"),
        (0, answer(same=1024, offset=1030), "bytes_differ"),
        (0, answer(same=SIZE - 512), "comparison_failed"),
        (0, answer(copy=SHOWN.replace(SHOWN[:2], "00")), "comparison_failed"),
        (0, answer(source="", copy=""), "comparison_failed"),
        (3, {RESULT: b"error=The device is not ready.\n"}, "comparison_failed"),
        (3, {}, "comparison_failed"),
        (1, {OUTPUT: b"This program is blocked by group policy."}, "powershell_unavailable"),
        (9009, {}, "powershell_unavailable"),
        (0, {}, "powershell_unavailable"),
        (None, {}, "powershell_unavailable"),
        (0, {RESULT: b"\xff\xfe=\x00\n"}, "powershell_unavailable"),
    ],
)
def test_anything_but_every_byte_proven_is_a_failure(exit_code: int | None, files: dict[str, bytes], kind: str) -> None:
    with pytest.raises(HypervError) as caught:
        judged(exit_code, files)
    assert caught.value.kind == kind


def test_the_first_byte_that_differs_is_named() -> None:
    with pytest.raises(HypervError, match="offset 1030 of 8388608"):
        judged(4, answer(same=1024, offset=1030))


def test_a_powershell_that_may_not_run_leads_to_the_other_level() -> None:
    with pytest.raises(HypervError, match=r"blocked by group policy.*verify: quick"):
        judged(1, {OUTPUT: b"This program is blocked by group policy.", EXIT_CODE: b"1"})


def test_what_was_printed_is_shown_shortly() -> None:
    assert read_result(1, {OUTPUT: b"no " * 1000}) == Comparison(exit_code=1, said=("no " * 100).strip()[:300] + " ")
