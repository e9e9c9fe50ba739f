# The two commands: `make run` (the whole digits study) and `make test`.
# torch from PyPI on Linux is the CUDA build (several GB); for the CPU build (about 200 MB):
#   make run TORCH_INDEX=<index of CPU builds, see README>
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check
TORCH_INDEX ?=

.PHONY: run test setup lint prove clean

run: setup
	$(BIN)/inklab run

test: setup lint
	$(BIN)/pytest -m "not prove"

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -q -c constraints.txt $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	$(PIP) install -q -c constraints.txt -e '.[dev]'
	touch $@

lint: setup
	$(BIN)/ruff check src tests examples scripts/*
	$(BIN)/ruff format --check src tests examples scripts/*
	$(BIN)/mypy
	$(BIN)/python scripts/docs --check

prove: setup
	$(BIN)/pytest -m prove tests/prove

clean:
	rm -rf $(VENV) build dist src/*.egg-info
