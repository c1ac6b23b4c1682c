.DEFAULT_GOAL := help
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export PATH := $(abspath $(BIN)):$(PATH)
export PYTHONTZPATH :=

help: ## Show the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/run ## A working clinic on this machine: database, demo, web and worker
	@exec afterglow up

test: $(VENV)/dev ## From nothing to green: lint, types, imports, migrations, all tests
	@$(MAKE) --no-print-directory lint types imports
	@$(BIN)/python -m pytest -n $${TEST_PROCESSES:-2} --dist loadgroup

check: test ## Everything that must be green before a commit

format: $(VENV)/dev ## Rewrite the code in the house format
	$(BIN)/ruff format . && $(BIN)/ruff check --fix .

lint: $(VENV)/dev ## Style and traps
	@$(BIN)/ruff format --check . && $(BIN)/ruff check .

types: $(VENV)/dev ## Types, strict
	@$(BIN)/mypy

imports: $(VENV)/dev ## Who may import whom
	@PYTHONPATH=. $(BIN)/lint-imports --no-cache

migrate: $(VENV)/run ## Bring the database to what this code expects
	@afterglow migrate

faults: $(VENV)/dev ## All trials under faults, whole: some minutes, a table, `lost 0, doubled 0`
	@FAULTS=whole $(BIN)/python -m pytest -n $${TEST_PROCESSES:-2} --dist loadgroup --timeout=900 tests/faults

soak: $(VENV)/dev ## Every property on a hundred times as many cases: half an hour, with a bar
	@$(BIN)/python -m tests.soak

mutants: $(VENV)/mutmut ## The rules behind gates, changed one thing at a time: what does no test find? A quarter of an hour
	@$(BIN)/python -m tests.mutants

bench: $(VENV)/dev ## What the README claims about speed, measured here and now
	@$(BIN)/python -m benchmarks

clean: ## Remove what was installed and cached; the data in var/ stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis *.egg-info

# The locked dependencies, by hash; then the house itself, without looking for anything.
$(VENV)/run: locks/run.txt pyproject.toml | $(VENV)/made
	@echo "Installing what Afterglow stands on ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r locks/run.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/dev: locks/dev.txt pyproject.toml | $(VENV)/made
	@echo "Installing what Afterglow is tested with ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r locks/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@ $(VENV)/run

# Not locked: nobody needs it to build, to run or to test.
$(VENV)/mutmut: $(VENV)/dev
	@echo "Installing what makes mutants ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'mutmut==3.8.1'
	@touch $@

$(VENV)/made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Afterglow needs Python 3.11 or newer; set PYTHON=/path/to/it."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "Python cannot make a virtual environment here (on Debian and Ubuntu: apt install python3-venv)."; exit 1; }
	@touch $@

lock: ## Renew the locks (needs uv)
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --extra install -o locks/run.txt pyproject.toml
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --all-extras -c locks/run.txt -o locks/dev.txt pyproject.toml

.PHONY: help run test check faults soak mutants format lint types imports migrate bench clean lock
