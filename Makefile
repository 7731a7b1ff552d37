# Everything a newcomer types. Needs make, a shell and Python >= 3.11; all else goes into .venv.

.DEFAULT_GOAL := help
SHELL := /bin/sh
.PHONY: help install check demo test test-unit test-fast planted types lint format schemas docs dashboards constraints bench bench-detect bench-queries chaos clean

VENV := .venv
BIN := $(VENV)/bin
# One that works: new enough, and able to make an environment. `make PYTHON=/path/to/python3` asks for another.
PYTHON ?=
PYTHONS := $(or $(PYTHON),python3.11 python3.12 python3.13 python3.14 python3 python)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
export PYTHONUNBUFFERED := 1
# More for the program behind a target: make demo ARGS="--for 60s", make test-fast ARGS="-k ledger".
ARGS ?=

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1 | \2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-20s%s\n", $$1, $$2}'

install: $(VENV)/.installed ## a .venv with the command inferwatch and all that its tests need

CONSOLE := pipeline/web/console
$(VENV)/.installed: pyproject.toml constraints.txt $(CONSOLE)/package-lock.json
	@for python in $(PYTHONS); do \
	  if "$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	    echo "installing into $(VENV) with $$("$$python" --version); the first time this takes a minute or two"; \
	    exec "$$python" -m venv $(VENV); \
	  fi; \
	done; \
	echo "Python 3.11 or newer with venv is needed; tried: $(PYTHONS)." >&2; \
	echo "Install one (Debian, Ubuntu: python3 and python3-venv) or say make PYTHON=/path/to/python3" >&2; \
	exit 1
	$(BIN)/python -m pip install -c constraints.txt -e '.[dev]'
	@$(CONSOLE)/fetch_assets.sh "$(CURDIR)/$(BIN)/python"
	@touch $@

demo: install ## the whole thing: real Kafka, real ClickHouse, a real model; stop it with Ctrl-C
	$(BIN)/inferwatch demo $(ARGS)

check: install ## linters, types, import contracts, fast unit tests: before each commit, a minute
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q -m "not integration and not slow" tests/unit tests/scenarios $(ARGS)

test: install ## all tests; real Kafka and ClickHouse included
	$(BIN)/python -m pytest -q -n auto -m "not integration and not planted" --durations=5 $(ARGS)
	$(BIN)/python -m pytest -m integration -n 2 --dist loadfile --durations=10 -v $(ARGS)

test-unit: install ## the unit tests, slow ones too: make test-unit ARGS="-k ledger"
	$(BIN)/python -m pytest -q tests/unit $(ARGS)

planted: install ## bugs planted in each role, each found by the simulation; some minutes
	$(BIN)/python -m pytest -q -n auto -m planted $(ARGS)

test-fast: install ## the tests that need no engine, on all cores
	$(BIN)/python -m pytest -q -n auto -m "not integration and not planted" $(ARGS)

types: install ## mypy alone
	$(BIN)/mypy

lint: install ## ruff, mypy, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install ## the code as ruff writes it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

schemas: install ## schemas/json from the structs
	$(BIN)/python -m schemas.json_schema

docs: install ## the generated pages of docs/
	$(BIN)/python -m schemas.reference
	$(BIN)/python -m pipeline.edge.metrics_reference
	$(BIN)/python -W ignore -m pipeline.web.query.openapi
	@{ printf '# Settings\n\nWritten by `make docs`. From the environment, or a TOML file that INFERWATCH_CONFIG_FILE names (keys without the\nprefix, in lower case). A secret may also be given as NAME_FILE, the path of a file that holds it.\n\n'; $(BIN)/inferwatch settings --markdown; } > docs/settings.md

dashboards: install ## Grafana's dashboards and alert rules from deploy/grafana
	$(BIN)/python -m deploy.grafana

bench: install ## what an event costs, and how long it takes
	PYTHONPATH=client/src $(BIN)/python -m tests.performance $(ARGS)

bench-detect: install ## how soon automatic detection sees a fault, and how often it is wrong; some ten minutes
	$(BIN)/python -m tests.performance.detect $(ARGS)

bench-queries: install ## what every panel and search takes over 100 million inferences; an hour, 15 GB of disk for a while
	$(BIN)/python -m tests.performance.bench_queries $(ARGS)

chaos: install ## two million events under twenty SIGKILLs, and the proof
	$(BIN)/python -m tests.performance.chaos $(ARGS)

# Newest versions that pyproject.toml allows, resolved in an environment of their own.
constraints: install ## constraints.txt anew
	rm -rf $(VENV)-new
	$(BIN)/python -m venv $(VENV)-new
	$(VENV)-new/bin/python -m pip install -q -e '.[dev]'
	@{ sed -n '/^#/p' constraints.txt; $(VENV)-new/bin/python -m pip freeze --exclude-editable; } > $(VENV)-new/constraints.txt
	@mv $(VENV)-new/constraints.txt constraints.txt
	rm -rf $(VENV)-new
	@echo "constraints.txt is written; run make test"

clean: ## removes .venv, caches and built packages; no data
	rm -rf $(VENV) $(VENV)-new build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
