# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Raw disks, image files and sharing for PowerShell scripts on a simulated host."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from simulator.mishaps import mishap
from simulator.mounted_images import disk_of, mount_image
from simulator.processes import SYSTEM
from simulator.world import Machine
from unit.simulator.windows_machines import ADMINISTRATOR, NOBODY, make_world, read_file, run, write_file

DIGEST = r"""
$ErrorActionPreference = 'Stop'
$stream = New-Object IO.FileStream('%s', [IO.FileMode]::Open, [IO.FileAccess]::Read, [IO.FileShare]::ReadWrite)
try {
    $sha = New-Object Security.Cryptography.SHA256CryptoServiceProvider
    $buffer = New-Object byte[] 4MB
    [long]$left = %d
    while ($left -gt 0) {
        $count = $stream.Read($buffer, 0, [int][Math]::Min([long]$buffer.Length, $left))
        if ($count -le 0) { throw "ended with $left bytes to go" }
        [void]$sha.TransformBlock($buffer, 0, $count, $null, 0)
        $left -= $count
    }
    [void]$sha.TransformFinalBlock($buffer, 0, 0)
    [IO.File]::WriteAllText('C:\result.tmp', [BitConverter]::ToString($sha.Hash).Replace('-', '').ToLower())
    [IO.File]::Move('C:\result.tmp', 'C:\result.txt')
} finally { $stream.Dispose() }
"""


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Machine]:
    world = make_world(tmp_path, powershell_encoded_stderr="text")
    yield world.machine("hv01")
    world.close()


@pytest.fixture(scope="module")
def quiet_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Shared by tests that change nothing; nobody uses its LUNs."""
    world = make_world(tmp_path_factory.mktemp("quiet"), powershell_encoded_stderr="text")
    stop(world.machine("hv01"), "sql01")
    yield world.machine("hv01")
    world.close()


def command(script: str) -> str:
    return f"powershell.exe -NoProfile -EncodedCommand {base64.b64encode(script.encode('utf-16-le')).decode()}"


def device(host: Machine, lun: str) -> str:
    disk = host.disk_of_lun(host.world.luns[lun])
    assert disk is not None
    return disk.device_id


def stop(host: Machine, name: str) -> None:
    mishap(host.world, "stop_vm", vm=name)


def opened(path: str, rest: str = "'Open', 'Read', 'ReadWrite'") -> str:
    return f"$s = [IO.File]::Open('{path}', {rest})\n"


def test_the_digest_of_an_offline_disk_is_that_of_the_lun(host: Machine) -> None:
    stop(host, "sql01")
    lun = host.world.luns["data1"]
    disk = host.disk_of_lun(lun)
    assert disk is not None
    assert not disk.online
    ended = run(host, command(DIGEST % (disk.device_id.lower(), lun.size)))
    assert (ended.code, ended.err) == (0, "")
    assert read_file(host, "C:\\result.txt").decode() == hashlib.sha256(lun.content.read_at(0, lun.size)).hexdigest()


def test_an_attached_image_shows_its_virtual_disk_and_its_file_can_be_read_beside(host: Machine) -> None:
    stop(host, "sql01")
    path = "D:\\VMs\\sql01\\backup.vhdx"
    mounted = mount_image(host, path, read_only=True, letters=False)
    disk = disk_of(host, mounted)
    assert disk is not None
    ended = run(host, command(DIGEST % (disk.device_id, disk.size)))
    assert (ended.code, ended.err) == (0, "")
    payload = mounted.image.payload
    assert read_file(host, "C:\\result.txt").decode() == hashlib.sha256(payload.read_at(0, payload.size)).hexdigest()
    script = f"$f = [IO.File]::OpenRead('{path}'); $b = New-Object byte[] 8; [void]$f.Read($b, 0, 8); [Text.Encoding]::ASCII.GetString($b)"
    assert run(host, command(script)).out == "vhdxfile\n"
    host.world.switches.choose("powershell-mounted-image-read", "no")
    assert "being used by another process" in run(host, command(script)).err


def test_a_disk_of_a_running_vm_is_refused_or_opened_as_assumed(host: Machine) -> None:
    script = opened(device(host, "data1")) + "'opened'"
    assert "being used by another process" in run(host, command(script)).err
    host.world.switches.choose("powershell-device-in-use", "opened")
    assert run(host, command(script)).out == "opened\n"


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("[IO.File]::Open('{d}', 'Open', 'Read', 'Read')", "IOException"),
        ("[IO.File]::Open('{d}', 'OpenOrCreate', 'Read', 'ReadWrite')", "IOException"),
        ("[IO.File]::Open('\\\\.\\PHYSICALDRIVE99', 'Open', 'Read', 'ReadWrite')", "FileNotFoundException"),
        ("[IO.File]::Open('\\\\.\\C:', 'Open', 'Read', 'ReadWrite')", "IOException"),
        ("$s = [IO.File]::Open('{d}', 'Open', 'Read', 'ReadWrite'); $s.Length", "ExceptionWhenGetting"),
        ("$s = [IO.File]::Open('{d}', 'Open', 'Read', 'ReadWrite'); $s.Seek(0, 'End')", "IOException"),
        ("$s = [IO.File]::Open('{d}', 'Open', 'Read', 'ReadWrite'); $s.Read((New-Object byte[] 8192), 0, 5000)", "ArgumentException"),
        ("$s = [IO.File]::Open('{d}', 'Open', 'Read', 'ReadWrite'); $s.Position = 100; $s.Read((New-Object byte[] 8192), 0, 8192)",
         "ArgumentException"),
        ("$s = [IO.File]::Open('{d}', 'Open', 'Read', 'ReadWrite'); [void]$s.Seek({n} - 4096, 'Begin');"
         "$s.Read((New-Object byte[] 8192), 0, 8192)",
         "ArgumentException"),
        ("New-Object IO.FileStream('{d}', 'Open', 'Read', 'ReadWrite', 0)", "ArgumentOutOfRangeException"),
    ],
)  # fmt: skip
def test_what_windows_refuses_of_a_raw_disk(quiet_host: Machine, script: str, error: str) -> None:
    lun = quiet_host.world.luns["data1"]
    ended = run(quiet_host, command(script.replace("{d}", device(quiet_host, "data1")).replace("{n}", str(lun.size))))
    assert ended.code == 1
    assert f"FullyQualifiedErrorId : {error}" in ended.err


def test_a_short_read_fills_the_buffer_of_net_and_may_be_unaligned(quiet_host: Machine) -> None:
    lun = quiet_host.world.luns["data1"]
    read = (
        opened(device(quiet_host, "data1"))
        + "$b = New-Object byte[] 6; [void]$s.Seek(1048576, 'Begin'); $s.Read($b, 0, 6); [BitConverter]::ToString($b); $s.Position"
    )
    found = run(quiet_host, command(read)).out.split("\n")
    assert found[:3] == ["6", lun.content.read_at(1 << 20, 6).hex("-").upper(), str((1 << 20) + 6)]


def test_only_administrators_open_disks(quiet_host: Machine) -> None:
    script = command(opened(device(quiet_host, "data1")) + "'opened'")
    assert "Access to the path" in run(quiet_host, script, token=NOBODY, directory="C:\\").err
    assert run(quiet_host, script, token=ADMINISTRATOR).out == "opened\n"


def test_writes_to_a_read_only_disk_are_refused_and_change_nothing(host: Machine) -> None:
    stop(host, "sql01")
    lun = host.world.luns["data1"]
    mark = host.world.mark()
    script = (
        opened(device(host, "data1"), "'Open', 'ReadWrite', 'ReadWrite'") + "$s.Write((New-Object byte[] 512), 0, 512)"
    )
    ended = run(host, command(script))
    assert "The media is write protected." in ended.err
    assert host.world.written_since(mark)[lun.id] == 0


def test_bad_sectors_and_pulled_cables_fail_the_read(host: Machine) -> None:
    stop(host, "sql01")
    path = device(host, "data1")
    mishap(host.world, "bad_sectors", lun="data1", offset="1M", size="4K")
    read = "$b = New-Object byte[] 1MB; $s.Read($b, 0, 1MB); $s.Read($b, 0, 1MB)"
    ended = run(host, command(opened(path) + read))
    assert ended.out == "1048576\n"
    assert "Data error (cyclic redundancy check)." in ended.err
    mishap(host.world, "bad_sectors", lun="data1", size=0)
    assert run(host, command(opened(path) + read)).out == "1048576\n1048576\n"
    mishap(host.world, "unplug_lun", lun="data1")
    assert "Could not find file" in run(host, command(opened(path))).err


def test_paths_of_devices_may_be_refused_and_createfile_still_opens_them(host: Machine) -> None:
    stop(host, "sql01")
    host.world.switches.choose("powershell-device-path", "refused")
    path = device(host, "data1")
    assert "FileStream will not open Win32 devices" in run(host, command(opened(path))).err
    rest = "[uint32]2147483648, [uint32]3, [IntPtr]::Zero, [uint32]3, [uint32]0, [IntPtr]::Zero)\n"
    script = (
        "Add-Type -Namespace Raw -Name Native -MemberDefinition '"
        '[DllImport("kernel32.dll", CharSet = CharSet.Unicode, SetLastError = true)]'
        " public static extern Microsoft.Win32.SafeHandles.SafeFileHandle CreateFile(string name, uint access, uint share,"
        " IntPtr security, uint disposition, uint flags, IntPtr template);'\n"
        f"$h = [Raw.Native]::CreateFile('{path}', {rest}"
        "$s = New-Object IO.FileStream($h, [IO.FileAccess]::Read, 4096)\n$b = New-Object byte[] 4096\n$s.Read($b, 0, 4096)\n"
        f"$n = [Raw.Native]::CreateFile('\\\\.\\PHYSICALDRIVE99', {rest}"
        "$n.IsInvalid; [Runtime.InteropServices.Marshal]::GetLastWin32Error()"
    )
    assert run(host, command(script)).out == "4096\nTrue\n2\n"


def test_a_power_cut_in_the_middle_leaves_no_result(host: Machine) -> None:
    stop(host, "sql01")
    host.world.switches.choose("powershell-pace", "4 MiB")
    lun = host.world.luns["data1"]
    process = host.processes.start(command(DIGEST % (device(host, "data1"), lun.size)), token=SYSTEM)
    looks = 0
    while process.alive and looks < 3:
        host.processes.look()
        looks += 1
    assert process.alive
    mishap(host.world, "power_cut", machine="hv01")
    for _look in range(30):
        host.processes.look()
    assert run(host, "dir /b C:\\result.*").out == ""


def test_an_open_file_is_shared_as_its_handles_say(host: Machine) -> None:
    write_file(host, "C:\\f\\a.bin", b"abc")
    holder = "$f = [IO.File]::Open('C:\\f\\a.bin', 'Open', 'Read', '%s'); Start-Sleep 600"
    process = host.processes.start(command(holder % "Read"), token=SYSTEM)
    host.processes.pump()
    assert run(host, command("[IO.File]::ReadAllText('C:\\f\\a.bin')")).out == "abc\n"
    assert "being used by another process" in run(host, command("[IO.File]::WriteAllText('C:\\f\\a.bin', 'x')")).err
    assert run(host, "del C:\\f\\a.bin").err != ""
    host.processes.kill(process)
    process = host.processes.start(command(holder % "None"), token=SYSTEM)
    host.processes.pump()
    assert "being used by another process" in run(host, command("[IO.File]::ReadAllText('C:\\f\\a.bin')")).err
    host.processes.kill(process)
    assert (
        run(host, command("[IO.File]::WriteAllText('C:\\f\\a.bin', 'x'); [IO.File]::ReadAllText('C:\\f\\a.bin')")).out
        == "x\n"
    )


def test_the_image_of_a_running_vm_is_in_use(host: Machine) -> None:
    ended = run(host, command("[IO.File]::OpenRead('D:\\VMs\\sql01\\os.vhdx')"))
    assert "The process cannot access the file 'D:\\VMs\\sql01\\os.vhdx'" in ended.err


def test_a_vm_does_not_start_while_a_script_reads_its_image(host: Machine) -> None:
    stop(host, "sql01")
    holder = command("$f = [IO.File]::OpenRead('D:\\VMs\\sql01\\os.vhdx'); Start-Sleep 600")
    process = host.processes.start(holder, token=SYSTEM)
    host.processes.pump()
    assert "being used by another process" in str(mishap(host.world, "start_vm", vm="sql01"))
    host.processes.kill(process)
    assert mishap(host.world, "start_vm", vm="sql01") == ""
