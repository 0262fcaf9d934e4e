# Everything a contributor runs. `make` alone lists it. The virtual environment is made
# on demand from the two pyproject.toml files and made again when they change.

PYTHON ?= python3
SEEDS ?= 50
SECONDS ?= 120
WORKERS ?= auto

VENV := .venv
BIN := $(VENV)/bin
RUN := $(VENV)/run.stamp
DEV := $(VENV)/dev.stamp
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# Nodes start hundreds of times here: let Python keep what it has compiled, whoever calls.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help

.PHONY: help
help:  ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

# ------------------------------------------------------------------ environment

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "error: there is no '$(PYTHON)'; name a Python of 3.11 to 3.14: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))' || { \
	  echo "error: '$(PYTHON)' is $$($(PYTHON) -V 2>&1); 3.11 to 3.14 is needed: make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "making $(VENV) with $$($(PYTHON) -V)"
	@$(PYTHON) -m venv $(VENV) || { \
	  echo "error: '$(PYTHON) -m venv' failed; some systems package it apart (python3-venv)" >&2; \
	  rm -rf $(VENV); exit 1; }

$(RUN): $(BIN)/python pyproject.toml tq/pyproject.toml
	@echo "installing what the server and the SDK need"
	@$(PIP) -e ./tq -e '.[fast]'
	@touch $@

$(DEV): $(RUN)
	@echo "installing what tests and checks need"
	@$(PIP) -e '.[dev]'
	@touch $@

.PHONY: venv clean
venv: $(DEV)  ## Make the virtual environment with everything in it

clean:  ## Remove the virtual environment and the caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .import_linter_cache .hypothesis

# ------------------------------------------------------------------ see it work

.PHONY: demo cluster
demo: $(RUN)  ## Three nodes, two workers, one killed leader: count what was lost
	@$(BIN)/python -m deploy.demo

cluster: $(RUN)  ## Run three nodes on loopback in the foreground
	@$(BIN)/python -m deploy.local

# ------------------------------------------------------------------ test and check

.PHONY: test long check format
test: $(DEV)  ## Run all tests but the minutes-long ones
	@$(BIN)/python -m pytest -n $(WORKERS) -m "not long" $(ARGS)

long: $(DEV)  ## Run the minutes-long tests: real processes under load, fresh installs
	@$(BIN)/python -m pytest -n $(WORKERS) --maxschedchunk 1 -m long --timeout 900 $(ARGS)

check: $(DEV)  ## Format, lint, types, import contracts, tidiness: all must be clean
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q -n $(WORKERS) tests/tidy

format: $(DEV)  ## Rewrite the sources as `check` wants them
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# ------------------------------------------------------------------ try to break it

.PHONY: sim sim-teeth chaos chaos-teeth bench bench-peers fuzz
sim: $(DEV)  ## Simulate the cluster on SEEDS fresh seeds (default 50) from BASE on, or show one SEED
	@$(BIN)/python -m tests.simulation \
	  $(if $(SEED),--seed $(SEED),--seeds $(SEEDS) $(if $(BASE),--base $(BASE))) $(ARGS)

bench: $(DEV)  ## Measure speed, memory and failover in ROUNDS (default 5), all or ONLY some; judge each figure
	@$(BIN)/python -m benchmarks --rounds $(or $(ROUNDS),5) $(foreach name,$(ONLY),--only $(name)) $(ARGS)

sim-teeth: $(DEV)  ## Plant known bugs and see the simulation find each
	@$(BIN)/python -m tests.simulation.teeth

chaos: $(RUN)  ## Hurt real processes for MINUTES (default 5) or TIMES, by SCENARIO, from SEED on; check the record
	@$(BIN)/python -m chaos $(if $(MINUTES),--minutes $(MINUTES)) $(if $(TIMES),--times $(TIMES)) \
	  $(if $(SEED),--seed $(SEED)) $(if $(TIER),--tier $(TIER)) \
	  $(foreach name,$(SCENARIO),--scenario $(name)) $(ARGS)

chaos-teeth: $(DEV)  ## Plant known bugs in real nodes and see the chaos suite find each
	@$(BIN)/python -m tests.chaos_teeth $(ARGS)

bench-peers:  ## Measure other queues on this machine for comparison
	@$(not-there-yet)

fuzz: $(DEV)  ## Feed every decoder with mutated bytes for SECONDS (default 120)
	@$(BIN)/python -m tests.fuzz --seconds $(SECONDS) $(ARGS)

not-there-yet = echo "make $@: not there yet; see 'What is not there yet' in README.md" >&2; exit 2
