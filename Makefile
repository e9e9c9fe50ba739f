# The two commands: `make run` (the whole digits study) and `make test`.
# Tests come in three sizes: `make test` (minutes), `make integration` (minutes), `make test-slow` (an hour).
# torch from PyPI on Linux is the CUDA build (several GB); for the CPU build (about 200 MB):
#   make run TORCH_INDEX=<index of CPU builds, see README>
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check
TORCH_INDEX ?=
# Hundreds of processes import the package: where writing bytecode is off, compiling it again costs a fifth of the time.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test fast-tests integration test-slow setup lint bench-setup clean

run: setup
	$(BIN)/inklab run

# With `--dist loadfile` the tests of a file stay in one process, which builds what they share once.
# Type checking beside them takes half a minute of one core.
test: setup
	@$(MAKE) -j 2 lint fast-tests

fast-tests: setup
	$(BIN)/pytest -m "not integration and not slow" -n auto --maxprocesses 4 --dist loadfile

# Browsers, killed processes, compilers, notebooks: a quarter of the time is waiting, so one more than cores.
integration: setup
	$(BIN)/pytest -m "integration and not slow" -n 3 --dist loadfile

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -q -c constraints.txt $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	$(PIP) install -q -c constraints.txt -e '.[dev]'
	touch $@

lint: setup
	$(BIN)/ruff check src tests examples benchmarks scripts
	$(BIN)/ruff format --check src tests examples benchmarks scripts
	$(BIN)/mypy
	$(BIN)/python scripts/build_cli_docs.py --check
	$(BIN)/python scripts/build_results_schema.py --check
	$(BIN)/python scripts/build_readme_tables.py --check

test-slow: setup
	$(BIN)/pytest -m slow

# What a user would take instead, in an environment of its own (3 GB); then `python -m benchmarks all`.
PEERS := benchmarks/.venv-peers
bench-setup: setup $(PEERS)/.ready

$(PEERS)/.ready: benchmarks/requirements-peers.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/pip --disable-pip-version-check install -q -c $< $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	$(PEERS)/bin/pip --disable-pip-version-check install -q -r $<
	touch $@

clean:
	rm -rf $(VENV) build dist src/*.egg-info
