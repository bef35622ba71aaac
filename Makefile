# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# The two commands are `make demo` and `make test`; everything else is for developers (`make help`).

SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
COLLECTIONS := $(VENV)/collections
export ANSIBLE_COLLECTIONS_PATH := $(abspath $(COLLECTIONS))
export ANSIBLE_HOME := $(abspath $(VENV))/ansible-home
export ANSIBLE_LOCALHOST_WARNING := false
export no_proxy := 127.0.0.0/8,localhost,$(no_proxy)

.PHONY: help demo test lint docs units sanity e2e gates heavy faults fuzz walk soak switches matrix bench simulator clean

help:  ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

# -- set-up ----------------------------------------------------------------------------------------------------------

# Installed from wheels only: nothing is built, so no compiler and no headers are needed.
PIP_INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary :all: -c constraints.txt

$(VENV)/.runtime: requirements.txt constraints.txt Makefile
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 10) else "Python 3.10 or newer is needed, this is " + sys.version.split()[0])'
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo 'The Python module venv is missing; on Debian: apt install git make python3 python3-venv'; exit 1; }
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	@echo 'Setting up a virtual environment in $(VENV) ...'
	@$(PIP_INSTALL) ansible-core -r requirements.txt PyYAML cryptography pyspnego
	@mkdir -p $(COLLECTIONS)/ansible_collections/hyperv
	@ln -sfn $(abspath .) $(COLLECTIONS)/ansible_collections/hyperv/passthrough
	@touch $@

$(VENV)/.development: $(VENV)/.runtime tests/requirements.txt
	@$(PIP_INSTALL) -r tests/requirements.txt
	@touch $@

# -- the two commands ------------------------------------------------------------------------------------------------

demo: $(VENV)/.runtime  ## the main job against a simulated world, proven byte for byte
	@$(BIN)/python tests/demo/demo.py

test: $(VENV)/.development  ## the whole test suite, the same that continuous integration calls
	@$(BIN)/python tests/stages.py

# -- parts of it, for developers ----------------------------------------------------------------------------------------

lint: $(VENV)/.development  ## ruff, mypy, yamllint, ansible-lint
	@$(BIN)/python tests/stages.py lint

docs: $(VENV)/.development  ## documentation and changelog lint
	@$(BIN)/python tests/stages.py docs

sanity: $(VENV)/.development  ## ansible-test sanity on the core version at hand
	@$(BIN)/python tests/stages.py sanity

units: $(VENV)/.development  ## unit tests of the product and the simulator
	@$(BIN)/python tests/stages.py units

e2e: $(VENV)/.development  ## ansible-playbook against the simulator over HTTP
	@$(BIN)/python tests/stages.py e2e

gates: $(VENV)/.development  ## what takes minutes: long end-to-end tests, then every supported ansible-core
	@$(BIN)/python tests/stages.py gates
	@$(BIN)/python tests/matrix.py

heavy: $(VENV)/.runtime  ## the fit of a VHD on a LUN against real NTFS; needs root, ntfs-3g, loop devices, 22 GiB of disk
	@PYTHONPATH=$(COLLECTIONS) $(BIN)/python tests/heavy/ntfs_fit.py $(SIZES)

# Deterministic: the same checkout gives the same cases. CASE=scenario/effect/exchange runs one of them and shows what it said.
# ARGS="--minutes 28" begins no case after so long, and the table says what is left; ARGS="--resume --minutes 28" goes on there.
faults: $(VENV)/.development  ## break every scenario at its exchanges, into docs/FAULTS.md: make faults [CASE=...] [PLANTED=1] [ARGS="--minutes 28"]
	@PYTHONPATH=tests $(BIN)/python -m faults $(if $(CASE),--case $(CASE),$(if $(PLANTED),--planted $(PLANTED),--write)) $(ARGS)

switches: $(VENV)/.development  ## every scenario under every value of every guess, into docs/ASSUMPTIONS.md
	@PYTHONPATH=tests $(BIN)/python -m faults --switches $(ARGS)

# Deterministic, but for how many cases there is time; a finding prints the line that repeats it.
fuzz: $(VENV)/.development  ## damaged bytes for everything that reads from outside: make fuzz [CASE=reader/number] [ARGS="--seconds 300"]
	@PYTHONPATH=tests:$(COLLECTIONS) $(BIN)/python -m fuzz $(if $(CASE),--case $(CASE)) $(ARGS)

# The same seed is the same walk; a finding prints the line that repeats it.
walk: $(VENV)/.development  ## random commands, outages and mistakes in one world: make walk [ARGS="--seed 1 --walks 20 --steps 20 --show"]
	@PYTHONPATH=tests $(BIN)/python -m long_runs walk $(or $(ARGS),--walks 20)

soak: $(VENV)/.development  ## hundreds of backups and restores in one world, nothing may grow: make soak [ARGS="--cycles 300"]
	@PYTHONPATH=tests $(BIN)/python -m long_runs soak $(ARGS)

matrix: $(VENV)/.development  ## the glue on every supported ansible-core: make matrix [CORES="2.16.0 2.21"]
	@$(BIN)/python tests/matrix.py $(CORES)

# ansible.windows, which the bench compares with, comes from PyPI's wheel `ansible` for the installed core; of it only this
# collection is unpacked.
BENCH := .build/bench
$(BENCH)/collections/ansible_collections/ansible/windows: | $(VENV)/.development
	@mkdir -p $(BENCH)
	@core=$$($(BIN)/python -c 'import ansible.release as r; print(int(r.__version__.split(".")[1]) - 7)') && \
	$(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
		--dest $(BENCH) "ansible==$$core.*"
	@cd $(BENCH) && $(abspath $(BIN))/python -c 'import glob, zipfile; z = zipfile.ZipFile(glob.glob("ansible-*.whl")[0]); \
		z.extractall("collections", [n for n in z.namelist() if n.startswith("ansible_collections/ansible/windows/")])'

bench: $(VENV)/.development $(BENCH)/collections/ansible_collections/ansible/windows  ## what disk_info costs beside win_powershell, into docs/PERFORMANCE.md
	@$(BIN)/python bench/disk_info.py --write

simulator: $(VENV)/.runtime  ## run a simulated world by hand: make simulator WORLD=tests/simulator/worlds/demo.yml
	@PYTHONPATH=tests $(BIN)/python -m simulator $(or $(WORLD),tests/simulator/worlds/demo.yml) $(ARGS)

clean:  ## remove everything that the other targets made
	rm -rf $(VENV) .build .pytest_cache .mypy_cache .ruff_cache .hypothesis demo-run
