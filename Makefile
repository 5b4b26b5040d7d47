# Tallyboard's verbs. Each makes .venv and installs what it needs: Python ≥ 3.11, pip and make are enough.

SHELL := /bin/sh
.SHELLFLAGS := -eu -c
.DEFAULT_GOAL := help

# The first interpreter that is new enough; override with `make PYTHON=/path/to/python3.12 …`.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# Two test processes: the tests start real servers and TensorBoards, which need cores of their own. The tests of a
# file stay together, because they share one.
TEST_PROCESSES ?= 2
PYTEST_ARGS ?=
BENCH_ARGS ?=
DEMO_ARGS ?=
KILLS ?= 100
RUNS ?= 1000
SOURCES := client server tests

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(STAMP) ## make .venv and install Tallyboard in it, with all extras

# Keyed on pyproject.toml: nothing is installed again until the dependencies change.
$(STAMP): pyproject.toml
	@test -n "$(PYTHON)" || { echo "make: Tallyboard needs Python 3.11 or newer, and found none on PATH;" \
		"install one, or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "make: $(PYTHON) is no Python 3.11 or newer; name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "make: could not make $(VENV); on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[server,examples,dev]'
	@touch $@

.PHONY: check
check: $(STAMP) ## lint, format, types, and the direction of imports
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/mypy client/examples tests
	$(BIN)/lint-imports

.PHONY: test
test: $(STAMP) ## all tests (PYTEST_ARGS="-k rewind" for some)
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile $(PYTEST_ARGS)

.PHONY: bench
bench: $(STAMP) ## measure speed and memory: a table, and JSON in bench-results/
	$(BIN)/python -m tests.bench $(BENCH_ARGS)

.PHONY: demo
demo: $(STAMP) ## serve and train on real data until Ctrl-C (ONCE=1: train once, compare with TensorBoard, end)
	$(BIN)/tallyboard demo $(if $(filter-out 0,$(ONCE)),--once) $(DEMO_ARGS)

.PHONY: demo-preempt
demo-preempt: $(STAMP) ## kill jobs, service and network of a training, and compare with plain tensorboardX
	$(BIN)/tallyboard demo-preempt $(DEMO_ARGS)

.PHONY: demo-thousand
demo-thousand: $(STAMP) ## serve a thousand runs of sweeps until Ctrl-C (ONCE=1: write them and end; RUNS=200)
	$(BIN)/tallyboard demo-thousand $(if $(filter-out 0,$(ONCE)),--once) --runs $(RUNS) $(DEMO_ARGS)

.PHONY: kill
kill: $(STAMP) ## kill the server and clients at random under load (KILLS=500), and compare with what was acknowledged
	KILLS=$(KILLS) $(BIN)/python -m pytest -s tests/kill $(PYTEST_ARGS)

.PHONY: clean
clean: ## remove what the other verbs made, but for data
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache dist build
