# Two commands are enough: `make demo` shows what sfumato does, `make test` checks that it works.
# Each installs what it needs into .venv first; that takes some minutes once.

PYTHON ?= python3
WORKERS ?= 2
BIN := .venv/bin
# Twice quiet: errors are shown, progress and warnings are not.
PIP := $(BIN)/python -m pip --quiet --quiet --disable-pip-version-check
INSTALLED := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo check test clean

help:
	@echo "make demo    train on real images and write demo/report.html (under six minutes)"
	@echo "make test    check style and types, then run all tests"
	@echo "make check   check style and types only"
	@echo "make setup   install sfumato and its tools into .venv"
	@echo "make clean   remove .venv, the demo's output and all caches"

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml CMakeLists.txt $(wildcard src/sfumato/_kernel/*.?pp)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "sfumato needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 setup" >&2; exit 1; }
	@echo "Installing into .venv; the first time this takes some minutes ..."
	@$(BIN)/python -m pip --version > /dev/null 2>&1 || $(PYTHON) -m venv --clear .venv || \
		{ rm -rf .venv; echo "no virtual environment: install your system's python3-venv" >&2; exit 1; }
	@$(PIP) install --upgrade 'pip>=25.1'
# torch comes first and with its full version, so that a CPU build (2.13.0+cpu) is taken where
# pip finds one. The default build for Linux brings CUDA along.
	@$(PIP) install torch==2.13.0
	@$(PIP) install --editable '.[demo,dicom,server]' --group dev
	@touch $@

demo: setup
	@$(BIN)/sfumato demo --out demo --overwrite

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# One thread a worker: tests work on small arrays, where threads only wait for each other.
test: check
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS)

clean:
	rm -rf .venv demo dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests -type d -name __pycache__ -exec rm -rf {} +
