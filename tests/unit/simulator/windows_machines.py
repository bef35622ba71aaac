# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A world with a Hyper-V host, two VMs, a Windows 11 guest and shares, and ways to run command lines in it: for tests of
the services of a Windows machine (registry, cmd.exe, Task Scheduler, Windows Server Backup)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulator.cim import Value
from simulator.processes import SYSTEM, Token
from simulator.service import PROVIDERS, Caller, acting_as
from simulator.world import Machine, World

WORLD = """
name: services
seed: services
clock: 2026-10-01T20:00:00Z
luns:
  - {id: data1, size: 48M, bus: iscsi, serial: "a1b2c3d40001"}
  - {id: spare, size: 48M, bus: iscsi}
hosts:
  - name: hv01
    address: 127.21.0.1
    utc_offset: -420
    volumes:
      - {letter: C, size: 120G, label: System}
      - {letter: D, size: 200G, label: VMs}
      - {letter: E, size: 100G, label: Backup}
      - {letter: F, size: 600M, label: Small}
    luns: [data1, spare]
  - {name: hv02, address: 127.21.0.2, locale: de-DE, utc_offset: 120}
shares:
  - {server: filer, name: backups, size: 1T, read: ["HV01$", "SQL01$", "operator"], write: ["HV01$", "SQL01$", "operator"]}
  - {server: filer, name: readonly, size: 1T, read: ["*"], write: []}
vms:
  - name: web01
    host: hv01
    id: 11111111-2222-3333-4444-555555555555
    disks:
      - {slot: "scsi 0:0", vhd: 'D:\\VMs\\web01\\os.vhdx', size: 24M}
    guest:
      address: 127.21.1.1
      os: windows11
      disks:
        - slot: "scsi 0:0"
          partitions:
            - {letter: C, label: Windows, boot: true, files: {count: 8, size: 256K}}
  - name: sql01
    host: hv01
    disks:
      - {slot: "scsi 0:0", vhd: 'D:\\VMs\\sql01\\os.vhdx', size: 40M}
      - {slot: "scsi 0:1", lun: data1}
      - {slot: "scsi 0:2", vhd: 'D:\\VMs\\sql01\\backup.vhdx', size: 96M}
    guest:
      address: 127.21.1.2
      disks:
        - slot: "scsi 0:0"
          partitions:
            - {letter: C, label: Windows, boot: true, files: {count: 8, size: 256K}}
        - slot: "scsi 0:1"
          partitions:
            - {letter: S, label: Data, size: 30M, files: {count: 16, size: 4M}}
            - {letter: X, label: Exchange, file_system: exFAT, size: 4M}
        - slot: "scsi 0:2"
          partitions:
            - {letter: B, label: Backup}
  - name: app01
    host: hv01
    disks:
      - {slot: "scsi 0:0", vhd: 'D:\\VMs\\app01\\os.vhdx', size: 24M}
      - {slot: "scsi 0:1", lun: spare}
    guest:
      address: 127.21.1.3
      disks:
        - slot: "scsi 0:0"
          partitions:
            - {letter: C, label: Windows, boot: true, files: {count: 4, size: 64K}}
        - slot: "scsi 0:1"
          partitions:
            - {letter: S, label: Data, files: {count: 4, size: 64K}}
"""


def make_world(directory: Path, **switches: str) -> World:
    world = World.from_yaml(WORLD, directory)
    for name, value in switches.items():
        world.switches.choose(name.replace("_", "-"), value)
    return world


ADMINISTRATOR = Token(account="Administrator", kind="network", groups=frozenset({"Administrators"}))
NOBODY = Token(account="visitor", kind="network", groups=frozenset({"Users"}))


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a command line left: unsigned exit code, both streams decoded with LF line ends."""

    code: int
    out: str
    err: str

    @property
    def signed(self) -> int:
        return self.code - (1 << 32) if self.code >= 1 << 31 else self.code

    @property
    def text(self) -> str:
        return self.out + self.err


def run(
    machine: Machine,
    line: str,
    *,
    token: Token = SYSTEM,
    stdin: bytes = b"",
    directory: str = "C:\\",
    code_page: int | None = None,
) -> Outcome:
    """Runs a command line in a shell of its own until it ends."""
    process = machine.processes.start_shell_command(
        line, token=token, shell_id="test shell", directory=directory, code_page=code_page
    )
    process.stdin.feed(stdin)
    process.stdin.close()
    code = machine.processes.run_to_end(process)
    page = code_page or machine.processes.code_page
    codec = "utf-8" if page == 65001 else f"cp{page}"
    streams = [stream.take().decode(codec).replace("\r\n", "\n") for stream in (process.stdout, process.stderr)]
    return Outcome(code=code, out=streams[0], err=streams[1])


def call(
    machine: Machine,
    namespace: str,
    class_name: str,
    name: str,
    *,
    groups: tuple[str, ...] = ("Administrators",),
    **arguments: Any,
) -> Mapping[str, Value]:
    """A static CIM method as its registered function."""
    function = PROVIDERS.methods[namespace.lower(), class_name.lower(), name.lower()]
    with acting_as(Caller(account="Administrator", groups=frozenset(groups))):
        return function(machine, None, dict(arguments))


def rows(machine: Machine, namespace: str, class_name: str) -> list[Mapping[str, Value]]:
    return list(PROVIDERS.views[namespace.lower(), class_name.lower()].rows(machine, {}))


def write_file(machine: Machine, path: str, data: bytes) -> None:
    volume, below = machine.resolve(path)
    folder = below.rpartition("\\")[0]
    if folder and not volume.files.exists(folder):
        volume.files.mkdir(folder, parents=True)
    volume.files.write(below, data)


def read_file(machine: Machine, path: str) -> bytes:
    volume, below = machine.resolve(path)
    data: bytes = volume.files.read(below)
    return data


def all_bytes_below(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file())
