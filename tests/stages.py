# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the test stages in order, each as a person would by hand, and says how long each took.

Responsible for: the commands of each stage, a scratch copy of the tracked files for ansible-test, stopping at the first
failure. Not responsible for: what is tested. The last stage is pytest, so the output ends in its own summary.

Usage: stages.py [STAGE ...]
"""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
BUILD = ROOT / ".build"
COLLECTIONS = Path(os.environ.get("ANSIBLE_COLLECTIONS_PATH", ROOT / ".venv" / "collections"))
LIBRARY = "ansible_collections.hyperv.passthrough.plugins.plugin_utils"

#: ansible-test downloads get-pip from a server that is not always there; this stand-in uses the
#: interpreter's own pip instead. Facts: ecosystem 4.1.
GET_PIP = "import ensurepip\n\nensurepip.bootstrap()\n"


def call(*command: str | Path, cwd: Path = ROOT, **environment: str) -> None:
    """Run one command with its output on the screen; a non-zero exit ends the whole run with that status."""
    words = [str(word) for word in command]
    print("+ " + " ".join(words), flush=True)
    path = f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}"  # the tools start each other by name
    done = subprocess.run(words, cwd=cwd, env={**os.environ, "PATH": path, **environment}, check=False)
    if done.returncode:
        sys.exit(done.returncode)


def scratch_collection() -> Path:
    """A copy of the tracked and not ignored files at ansible_collections/hyperv/passthrough, as ansible-test demands."""
    target = BUILD / "scratch" / "ansible_collections" / "hyperv" / "passthrough"
    shutil.rmtree(BUILD / "scratch", ignore_errors=True)
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    # ansible-test asks git which files there are, and the copy lies in a folder that the checkout's own git ignores
    subprocess.run(["git", "init", "-q"], cwd=target, check=True)
    return target


def sanity_home() -> Path:
    """A home directory for ansible-test: the user's pip configuration and the get-pip stand-ins, nothing else."""
    home = BUILD / "sanity-home"
    cache = home / ".ansible" / "test" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    for version in ("20_3_4", "21_3_1", "23_1_2", "24_2", "25_2"):
        (cache / f"get_pip_{version}.py").write_text(GET_PIP)
    listed = subprocess.run(
        [BIN / "python", "-m", "pip", "config", "list"], check=False, capture_output=True, text=True
    ).stdout
    settings = configparser.ConfigParser(interpolation=None)
    settings["global"] = {}
    for line in listed.splitlines():
        name, _unused, value = line.partition("=")
        section, _unused, key = name.rpartition(".")
        if section in ("global", ":env:", "install") and key not in ("config-file",):
            settings["global"][key] = value.strip("'\"").replace("\\n", "\n")
    folder = home / ".config" / "pip"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "pip.conf").open("w") as file:
        settings.write(file)
    return home


def lint() -> None:
    call(BIN / "ruff", "check", ".")
    call(BIN / "ruff", "format", "--check", ".")
    for package in ("_wsman", "_hyperv", "_backup"):
        call(BIN / "mypy", "-p", f"{LIBRARY}.{package}", MYPYPATH=str(COLLECTIONS))
    call(BIN / "mypy", "-p", "simulator", MYPYPATH="tests")
    call(BIN / "yamllint", "-s", ".")
    call(BIN / "ansible-lint", "--offline", "--strict", ANSIBLE_COLLECTIONS_PATH=str(COLLECTIONS))


def docs() -> None:
    call(BIN / "antsibull-changelog", "lint")
    copy = scratch_collection()
    call(
        BIN / "antsibull-docs",
        "lint-collection-docs",
        "--plugin-docs",
        "--validate-collection-refs=all",
        ".",
        cwd=copy,
        ANSIBLE_COLLECTIONS_PATH=str(copy.parents[2]),
    )


def sanity() -> None:
    copy = scratch_collection()
    shutil.rmtree(copy / "tests" / "simulator" / "__pycache__", ignore_errors=True)
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    interpreters = BUILD / "interpreters"
    shutil.rmtree(interpreters, ignore_errors=True)
    interpreters.mkdir(parents=True)
    (interpreters / f"python{python}").symlink_to(Path(sys.executable).resolve())
    call(
        BIN / "ansible-test",
        "sanity",
        "--python",
        python,
        "--color",
        "no",
        cwd=copy,
        HOME=str(sanity_home()),
        PATH=f"{BIN}:{interpreters}:/usr/bin:/bin",
        LC_ALL="C.UTF-8",
    )


def units() -> None:
    pytest("not gates", "tests/unit", "tests/fuzz", spread="load")


def e2e() -> None:
    pytest("not gates", "tests/e2e", "tests/faults", "tests/long_runs")


def gates() -> None:
    pytest("gates", "tests/unit", "tests/e2e", "tests/faults", "tests/long_runs")


def pytest(marked: str, *folders: str, spread: str = "loadfile") -> None:
    """The tests of these folders on both cores, unless said otherwise a file on one of them, so that its world is made once."""
    call(BIN / "python", "-m", "pytest", "-q", "-n", "2", f"--dist={spread}", "--durations=10", "-m", marked, *folders)


STAGES = {"lint": lint, "docs": docs, "sanity": sanity, "units": units, "e2e": e2e}
EXTRA = {"gates": gates}


def main(wanted: list[str]) -> None:
    stages = STAGES | EXTRA
    unknown = [name for name in wanted if name not in stages]
    if unknown:
        sys.exit(f"There is no stage {unknown[0]}; the stages are {', '.join(stages)}.")
    for name in wanted or list(STAGES):
        print(f"== {name}", flush=True)
        begun = time.monotonic()
        stages[name]()
        if (
            name != (wanted or list(STAGES))[-1]
        ):  # the last words belong to the test runner, which tells its own seconds
            print(f"== {name}: {time.monotonic() - begun:.0f} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
