# Everything here needs Python >= 3.11 and make; the rest is installed into $(VENV).
# Another interpreter: make PYTHON=python3.12 demo

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# The project is built by the pinned setuptools in $(VENV), not by whatever the registry holds today.
INSTALL := $(PIP) install -qq --no-build-isolation --constraint constraints.txt
DEMO_EXTRAS := media
ALL_EXTRAS := media,spark,jvm,torch,models,test
# Arguments for the demo and for pytest, e.g. make demo ARGS="--scale 2", make test ARGS="tests/storage"
ARGS ?=

MADE := $(VENV)/.made
DEMO := $(VENV)/.installed-demo
ALL := $(VENV)/.installed-all

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-all setup lint format bench wheel clean

help: ## list the targets (what `make` alone does)
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(DEMO) ## the whole way on this machine: simulate, ingest, seal, media, pack, train, report
	$(BIN)/reclake demo $(ARGS)

test: $(ALL) ## the default tests
	$(BIN)/pytest $(ARGS)

test-slow: $(ALL) ## the tests left out of the default ones: slow, and Airflow in a second environment
	$(BIN)/pytest -m "slow or airflow" $(ARGS)

test-all: test test-slow ## every test

setup: $(ALL) ## make .venv with everything that tests and benchmarks need

lint: $(ALL) ## ruff, formatting and strict types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p reclake

format: $(ALL) ## rewrite the sources the way lint wants them
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(ALL) ## every benchmark on small data, in minutes: reclake beside what one would use instead
	@set -e; for script in $$(grep -l __main__ benchmarks/*.py); do echo "== $$script"; $(BIN)/python "$$script" --quick; done

wheel: $(ALL) ## build the wheel into dist/
	rm -rf build dist
	$(BIN)/python -m build --wheel --no-isolation --outdir dist .

clean: ## remove the environments and everything built
	rm -rf $(VENV) .venv-airflow build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(MADE):
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "reclake needs Python 3.11 or newer, and " + sys.executable + " is " + sys.version.split()[0] + ". Name another one: make PYTHON=python3.12 ...")'
	@echo "making $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install -qq --constraint constraints.txt setuptools
	@touch $@

$(DEMO): $(MADE) pyproject.toml constraints.txt pipelines/feed/_copy.c storage/_pages.c
	@echo "installing reclake with what the demo needs into $(VENV) (about a minute)"
	@$(INSTALL) --editable '.[$(DEMO_EXTRAS)]'
	@touch $@

$(ALL): $(MADE) pyproject.toml constraints.txt pipelines/feed/_copy.c storage/_pages.c
	@echo "installing reclake with everything that tests and benchmarks need into $(VENV) (some minutes)"
	@$(INSTALL) --editable '.[$(ALL_EXTRAS)]'
	@# By itself, since it asks for the kernels by the name of their build for CUDA; the one for the CPU has another.
	@$(INSTALL) --no-deps torchrec fbgemm-gpu-cpu || echo "no TorchRec for this machine: its tests will be skipped"
	@touch $(DEMO) $@
