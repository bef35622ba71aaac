# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine `export` in the conformance suite."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from simulator.file_system import FileSystemError
from simulator.mishaps import mishap
from unit.conformance.engine_site import EngineSite

EXPORT, CONVERSION = 62, 6
FOLDER = "E:\\hyperv.passthrough\\exports"


class Export(EngineSite):
    name = "export"
    is_enforced = False  # the tasks ask the capabilities first; nothing in the simulated host depends on its build

    def prepare(self) -> None:
        self._begun = 0
        self._is_restoring = False
        start = self.machine.jobs.start

        def counted(class_name: str, job_type: int, *arguments: Any, **more: Any) -> Any:
            self._begun += job_type == EXPORT
            return start(class_name, job_type, *arguments, **more)

        self.machine.jobs.start = counted

    def without_feature(self) -> None:
        """Windows Server 2012 R2 has no recovery checkpoints that could be asked for."""
        self.machine.os = dataclasses.replace(self.machine.os, build="9600", version="6.3.9600")

    def begun(self) -> int:
        return self._begun

    def _runs(self) -> Iterator[tuple[str, list[str]]]:
        """Folders of runs and their files."""
        for label in self._names(FOLDER):
            for run in self._names(f"{FOLDER}\\{label}"):
                yield run, list(self._files(f"{FOLDER}\\{label}\\{run}"))

    def _names(self, folder: str) -> list[str]:
        try:
            volume, path = self.machine.resolve(folder)
            return sorted(volume.files.listdir(path))
        except FileSystemError:
            return []

    def _files(self, folder: str) -> Iterator[str]:
        volume, path = self.machine.resolve(folder)
        for name in self._names(folder):
            if volume.files.stat(f"{path}\\{name}").is_directory:
                yield from self._files(f"{folder}\\{name}")
            else:
                yield f"{folder}\\{name}"

    def there(self) -> frozenset[str]:
        return frozenset(run for run, files in self._runs() if any(file.endswith(".vmcx") for file in files))

    def make_foreign(self) -> None:
        number = len(self.there())
        path = f"{FOLDER}\\sql01\\foreign{number}\\sql01\\Virtual Machines\\{self.world.new_guid('foreign')}.vmcx"
        mishap(self.world, "write_file", machine="hv01", path=path, text="exported by somebody else")

    def damage(self, vm: str = "sql01") -> None:
        self._is_restoring = True
        super().damage(vm)

    def break_next(self, percent: int) -> None:
        kind = CONVERSION if self._is_restoring else EXPORT
        mishap(self.world, "fail_job", machine="hv01", job_type=kind, percent=percent)

    def is_working(self) -> bool:
        return any(vm.busy is not None for vm in self.host.vms)

    def leftovers(self) -> Sequence[str]:
        partial = [run for run, files in self._runs() if not any(file.endswith(".vmcx") for file in files)]
        marked = [file for file in self._files("D:\\VMs") if ".restoring" in file or ".replaced" in file]
        return [*partial, *marked, *(file for file in self._files("D:\\VMs") if file.endswith(".avhdx"))]
