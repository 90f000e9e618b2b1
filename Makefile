# Two commands do all the set-up they need: make up, make test. PYTHON chooses the interpreter (3.11 or newer).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SOURCES := pyproject.toml hatch_build.py $(shell find dashboard/web -type f -not -path '*/node_modules/*' 2>/dev/null)
PACKAGES := watchroom gateway ingest alarms dashboard simulators benchmarks tests

.DEFAULT_GOAL := help
.PHONY: help up test chaos bench bench-history lint web-test clean

help:
	@echo 'make up     run a whole simulated compound on http://127.0.0.1:8080  (ARGS="--port 9000 --scenario burst_pipe")'
	@echo 'make test   run all tests  (ARGS="-k burst")'
	@echo 'make chaos  kill every part fifty times under load, and cut the power at every step; takes an hour'
	@echo 'make bench  measure; results in build/bench.json'
	@echo 'make bench-history  the history with a billion samples: an hour, 20 GB of disk'
	@echo 'make lint   ruff, mypy'

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'Watchroom needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 ...'; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(BIN)/python $(SOURCES)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[server]'
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $@

up: $(VENV)/.installed
	$(BIN)/watchroom up $(ARGS)

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest $(ARGS)

chaos: $(VENV)/.installed-test
	WATCHROOM_TEST_KILLS=$${WATCHROOM_TEST_KILLS:-50} $(BIN)/python -m pytest tests/system/test_kill.py tests/system/test_power_loss.py tests/contract/test_journal.py $(ARGS)

bench: $(VENV)/.installed-test
	$(BIN)/python -m benchmarks $(ARGS)

bench-history: $(VENV)/.installed-test
	$(BIN)/python -m benchmarks.history --samples 1e9 $(ARGS)

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache dashboard/static dashboard/web/node_modules
