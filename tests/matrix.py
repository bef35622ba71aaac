# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs what depends on ansible-core with the oldest supported, the middle and the newest core that this machine can run.

Responsible for: one virtual environment per core below .build/matrix, the tests marked `core` and the unit tests of the glue
in each, one line per core at the end. Not responsible for: what is tested, and the rest of the suite, which does not import
ansible. Not part of `make test`: it takes minutes and needs several interpreters.

Usage: matrix.py [CORE ...] [--set-up]      for example: matrix.py 2.16.0 2.21
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / ".build" / "matrix"
TESTS = ("tests/unit/test_channel.py", "tests/unit/test_kerberos.py", "tests/unit/test_documentation.py", "tests/e2e")
#: Pinned for the suite's own core; an older core wants another one.
NOT_PINNED_HERE = ("ansible-core==", "resolvelib==")
PACKAGES = ("PyYAML", "cryptography", "pyspnego", "pytest", "pytest-xdist", "hypothesis")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    core: str
    python: str  # the first interpreter of this minor version is taken
    why: str


#: Newest last. A core's Python range: ecosystem 2.1.
CELLS = (
    Cell(core="2.16.0", python="3.10", why="the floor of requires_ansible, on the oldest Python"),
    Cell(core="2.16.19", python="3.11", why="the last 2.16"),
    Cell(core="2.19.14", python="3.11", why="the first core with data tagging"),
    Cell(core="2.21.5", python="3.13", why="the newest release"),
    Cell(core="2.22.0rc1", python="3.13", why="the next release, as a warning"),
)


def interpreter(minor: str) -> Path | None:
    """A Python of this minor version that starts and can make virtual environments (a pyenv shim may do neither)."""
    kept = sorted(Path.home().glob(f".pyenv/versions/{minor}.*/bin/python"))
    on_path = [Path(folder) / f"python{minor}" for folder in os.get_exec_path()]
    for candidate in (*kept, *on_path):
        if not candidate.exists():
            continue
        works = subprocess.run([candidate, "-c", "import ensurepip, venv"], check=False, capture_output=True)
        if works.returncode == 0:
            return candidate
    return None


def set_up(cell: Cell, python: Path) -> Path:
    """The cell's virtual environment, wheels only, made anew when a requirement file is newer. Returns its folder."""
    venv = BUILD / f"{cell.core}-py{cell.python}"
    done = venv / ".done"
    sources = [ROOT / name for name in ("constraints.txt", "requirements.txt", "tests/matrix.py")]
    if done.exists() and all(source.stat().st_mtime < done.stat().st_mtime for source in sources):
        return venv
    shutil.rmtree(venv, ignore_errors=True)
    subprocess.run([python, "-m", "venv", venv], check=True)
    constraints = venv / "constraints.txt"
    pins = (ROOT / "constraints.txt").read_text().splitlines(keepends=True)
    constraints.write_text("".join(line for line in pins if not line.startswith(NOT_PINNED_HERE)))
    install = [venv / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    only_wheels = ["--only-binary", ":all:", "-c", constraints]
    wanted = [f"ansible-core=={cell.core}", "-r", ROOT / "requirements.txt", *PACKAGES]
    subprocess.run([*install, *only_wheels, *wanted], check=True)
    namespace = venv / "collections" / "ansible_collections" / "hyperv"
    namespace.mkdir(parents=True)
    (namespace / "passthrough").symlink_to(ROOT)
    done.touch()
    return venv


def run(cell: Cell, venv: Path) -> tuple[bool, str]:
    """Run the tests of one cell; (green, pytest's own last line)."""
    collections = venv / "collections"
    command = [
        venv / "bin" / "python",
        "-m",
        "pytest",
        "-q",
        "-n",
        "2",
        "-m",
        "core or not e2e",
        "-p",
        "no:cacheprovider",
    ]
    command += ["-o", f"pythonpath=tests {collections}", *TESTS]
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(collections),
        "ANSIBLE_HOME": str(venv / "ansible-home"),
        "PATH": f"{venv / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    done = subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True)
    lines = done.stdout.strip().splitlines() or [done.stderr.strip()]
    if done.returncode:
        print(done.stdout + done.stderr, flush=True)
    return done.returncode == 0, lines[-1].strip("= ")


def main(arguments: list[str]) -> int:
    wanted = [word for word in arguments if not word.startswith("-")]
    cells = [cell for cell in CELLS if not wanted or cell.core.startswith(tuple(wanted))]
    if not cells:
        sys.exit(f"There is no core {wanted[0]} here; there are {', '.join(cell.core for cell in CELLS)}.")
    report, green = [], True
    for cell in cells:
        name = f"ansible-core {cell.core} on Python {cell.python}"
        python = interpreter(cell.python)
        if python is None:
            report.append(f"{name}: not run, this machine has no Python {cell.python}")
            continue
        begun = time.monotonic()
        print(f"== {name} ({cell.why})", flush=True)
        venv = set_up(cell, python)
        passed, said = (True, "set up") if "--set-up" in arguments else run(cell, venv)
        green = green and passed
        report.append(f"{name}: {said} ({time.monotonic() - begun:.0f} s with set-up)")
    print("\n".join(report))
    return 0 if green else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
