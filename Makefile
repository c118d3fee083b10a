# On a fresh machine, `make run` and `make test` do everything that is needed.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
export PYTHON

INPUTS := pyproject.toml constraints.txt

.PHONY: help run test lint style types layers manifest numbers format pytest pytest-keras pytest-alone pytest-rest bench docs site constraints clean

help:
	@echo "make run     show the analysis of a bundled micrograph (napari; without a display a figure)"
	@echo "make test    every check and test"
	@echo "make lint    the checks only: style, types, import layers, plugin manifest, tunable numbers"
	@echo "make pytest  the tests only; ARGS='-m \"not slow\" tests/core' to choose"
	@echo "make format  put the code in its standard form"
	@echo "make bench   measure speed and memory"
	@echo "make docs    write anew the pages that are made from the program"
	@echo "make site    build the documentation site in build/site"
	@echo "make clean   remove the environment and everything made"

run: $(VENV)/.run-installed
	@scripts/run.sh $(BIN)/hrstem-defects

test: lint pytest

lint: style types layers manifest numbers

style: $(VENV)/.test-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.test-installed
	$(BIN)/mypy

layers: $(VENV)/.test-installed
	$(BIN)/lint-imports

manifest: $(VENV)/.test-installed
	$(BIN)/npe2 validate --imports src/napari_hrstem_defects/napari.yaml
	$(PIP) check

# Last, so that its summary closes the output.
ifdef ARGS
pytest: $(VENV)/.test-installed
	$(BIN)/python -m pytest $(ARGS)
else
pytest: pytest-keras pytest-alone pytest-rest
endif

# TensorFlow and the software OpenGL of the virtual screen crash in one process; what measures time runs alone.
pytest-keras: $(VENV)/.test-installed
	$(BIN)/python -m pytest --no-xvfb -m keras

pytest-alone: $(VENV)/.test-installed
	$(BIN)/python -m pytest -m alone

pytest-rest: $(VENV)/.test-installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not keras and not alone" -n logical --maxprocesses 4 --dist worksteal

bench: $(VENV)/.test-installed
	$(BIN)/python -m pytest benchmarks/speed $(ARGS)

# The limit only ever goes down.
numbers: $(VENV)/.test-installed
	$(BIN)/python -m benchmarks.accuracy.numbers --quiet --limit 90

format: $(VENV)/.test-installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.test-installed
	$(BIN)/python docs/recipe_table.py

# A warning is an error. OpenMP's threads only hinder each other in small images.
site: $(VENV)/.docs-installed
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -W --keep-going --quiet --jobs auto docs build/site
	@echo "Open build/site/index.html"

# The versions that everything is tested with; needs uv.
constraints:
	uv pip compile pyproject.toml --universal --all-extras --python-version 3.11 \
	  --upgrade --no-annotate --no-header --quiet --output-file constraints.txt

clean:
	rm -rf $(VENV) build dist results .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache docs/gallery docs/generated

# A stamp is older than what it was made from when something must be installed anew.
$(BIN)/python:
	@"$(PYTHON)" -c "import sys; sys.exit(sys.version_info < (3, 11))" || \
	  { echo "Python 3.11 or newer is needed; name it with: make PYTHON=/path/to/python3" >&2; exit 1; }
	@scripts/system-packages.sh python
	"$(PYTHON)" -m venv $(VENV)

$(VENV)/.run-installed: $(INPUTS) | $(BIN)/python
	@if [ -n "$${DISPLAY:-}$${WAYLAND_DISPLAY:-}" ]; then scripts/system-packages.sh window; fi
	@echo "Installing into $(VENV), which takes a minute or two the first time ..."
	@$(PIP) install --constraint constraints.txt --editable '.[formats,qt]'
	@touch $@

$(VENV)/.docs-installed: $(INPUTS) | $(BIN)/python
	@echo "Installing into $(VENV), which takes a minute or two the first time ..."
	@$(PIP) install --constraint constraints.txt --editable '.[formats,docs]'
	@touch $@

$(VENV)/.test-installed: $(INPUTS) | $(BIN)/python
	@scripts/system-packages.sh test
	@echo "Installing into $(VENV), which takes a minute or two the first time ..."
	@$(PIP) install --constraint constraints.txt --editable '.[formats,qt,tensorflow,test]'
	@touch $@ $(VENV)/.run-installed
