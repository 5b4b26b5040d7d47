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

# Three test processes keep two cores busy: tests wait for real servers, TensorBoards and browsers much of the time. The
# tests of a file stay together, because they share one; files go in the order of their names, by which the long ones
# (acceptance, browser, integration) come before the short ones (unit), so that all processes end at about the same time.
TEST_PROCESSES ?= 3
IN_PARALLEL := --dist loadfile --no-loadscope-reorder
PYTEST_ARGS ?=
BENCH_ARGS ?=
DEMO_ARGS ?=
KILLS ?= 100
RUNS ?= 1000
LOAD_ARGS ?=
SECONDS ?= 1800
SOURCES := client server tests tools
# Where the frameworks are kept that Tallyboard has integrations for; else in the user's cache.
FRAMEWORKS_VENV ?=
export FRAMEWORKS_VENV

DASHBOARD := server/dashboard
NODE_MODULES := $(DASHBOARD)/node_modules/.package-lock.json
# Node comes with the `dev` extra; one on PATH will do, too.
WITH_NODE := PATH="$(abspath $(BIN)):$$PATH"
NPM := cd $(DASHBOARD) && $(WITH_NODE) npm
SCHEMA := src/api/schema.d.ts

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(STAMP) ## make .venv and install Tallyboard in it, with all extras

.PHONY: python
python:
	@test -n "$(PYTHON)" || { echo "make: Tallyboard needs Python 3.11 or newer, and found none on PATH;" \
		"install one, or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "make: $(PYTHON) is no Python 3.11 or newer; name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }

# Keyed on pyproject.toml: nothing is installed again until the dependencies change.
$(STAMP): pyproject.toml | python
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "make: could not make $(VENV); on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[server,postgres,examples,dev]'
	@touch $@

# npm writes this file last, so it is newer than the lock that it was installed from.
$(NODE_MODULES): $(DASHBOARD)/package-lock.json | $(STAMP)
	@$(NPM) ci --no-audit --no-fund --loglevel=error
	@touch $@

.PHONY: dashboard
dashboard: $(STAMP) ## build the dashboard, if its sources have changed
	@$(WITH_NODE) $(BIN)/python $(DASHBOARD)/build_hook.py

.PHONY: dashboard-dev
dashboard-dev: $(NODE_MODULES) ## serve the dashboard's sources as they change, for the service at TALLYBOARD_URL
	@$(NPM) run --silent dev

.PHONY: dashboard-types
dashboard-types: $(NODE_MODULES) ## make the dashboard's types of the API anew
	@$(BIN)/python $(DASHBOARD)/openapi.py > $(DASHBOARD)/node_modules/openapi.json
	@$(NPM) run --silent types -- --output $(SCHEMA)

.PHONY: check
check: $(STAMP) check-dashboard check-known ## lint, format, types, and the direction of imports
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy -n 2
	$(BIN)/lint-imports

.PHONY: check-dashboard
check-dashboard: $(NODE_MODULES) ## format and types of the dashboard, and that the types of the API are those of the service
	@$(NPM) run --silent check
	@$(BIN)/python $(DASHBOARD)/openapi.py > $(DASHBOARD)/node_modules/openapi.json
	@$(NPM) run --silent types -- --output node_modules/schema.d.ts
	@cmp -s $(DASHBOARD)/node_modules/schema.d.ts $(DASHBOARD)/$(SCHEMA) || { \
		echo "make: $(DASHBOARD)/$(SCHEMA) is not what the API is now; run make dashboard-types" >&2; exit 1; }

# The one waits for others' services, the other takes the processor: together they take as long as the longer one.
.PHONY: check-known
check-known: $(NODE_MODULES) ## dependencies that are known to be vulnerable, and secrets in the source
	@$(WITH_NODE) $(BIN)/python -m tools.audit_dependencies & audit=$$!; \
	status=0; $(BIN)/python -m tools.scan_secrets || status=$$?; \
	wait $$audit || status=$$?; exit $$status

.PHONY: test-dashboard
test-dashboard: $(NODE_MODULES) ## the dashboard's own tests
	$(NPM) run --silent test

.PHONY: test
test: test-dashboard dashboard ## all tests (PYTEST_ARGS="-k rewind" for some)
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) $(IN_PARALLEL) $(PYTEST_ARGS)

.PHONY: frameworks-venv
frameworks-venv: python ## make the venv of test-frameworks, if it is not there, and say where it is
	@$(PYTHON) tests/frameworks/venv.py

.PHONY: test-frameworks
test-frameworks: python ## tests with the real Keras, PyTorch, JAX, …, in a venv of their own that is kept
	@venv=$$($(PYTHON) tests/frameworks/venv.py); \
	PYTHONPATH="$(CURDIR)/client:$(CURDIR)/server:$(CURDIR)" "$$venv/bin/python" -m pytest \
		-n 2 --dist worksteal $(PYTEST_ARGS) tests/frameworks

.PHONY: bench
bench: dashboard ## measure speed and memory: a table, and JSON in bench-results/
	$(BIN)/python -m tests.bench $(BENCH_ARGS)

.PHONY: bench-dashboard
bench-dashboard: dashboard ## measure the dashboard's charts in Chromium: a table
	$(BIN)/python -m tests.browser.bench_dashboard $(BENCH_ARGS)

.PHONY: load
load: dashboard ## 1,000 clients that report once a second, alone and beside one gone wild (LOAD_ARGS="--seconds 20")
	$(BIN)/python -m tests.bench.crowd $(LOAD_ARGS)

.PHONY: soak
soak: dashboard ## half an hour of everything at once (SECONDS=480 for less): what grows, and what fails
	$(BIN)/python -m tests.bench.soak --seconds $(SECONDS)

.PHONY: demo
demo: dashboard ## serve and train on real data until Ctrl-C (ONCE=1: train once, compare with TensorBoard, end)
	$(BIN)/tallyboard demo $(if $(filter-out 0,$(ONCE)),--once) $(DEMO_ARGS)

.PHONY: demo-preempt
demo-preempt: $(STAMP) ## kill jobs, service and network of a training, and compare with plain tensorboardX
	$(BIN)/tallyboard demo-preempt $(DEMO_ARGS)

.PHONY: demo-thousand
demo-thousand: dashboard ## serve a thousand runs of sweeps until Ctrl-C (ONCE=1: write them and end; RUNS=200)
	$(BIN)/tallyboard demo-thousand $(if $(filter-out 0,$(ONCE)),--once) --runs $(RUNS) $(DEMO_ARGS)

.PHONY: kill
kill: $(STAMP) ## kill the server and clients at random under load (KILLS=500), and compare with what was acknowledged
	KILLS=$(KILLS) $(BIN)/python -m pytest -s tests/kill $(PYTEST_ARGS)

.PHONY: clean
clean: ## remove what the other verbs made, but for data
	rm -rf $(VENV) $(DASHBOARD)/node_modules server/tallyboard_server/static .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache dist build
