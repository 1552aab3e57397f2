# Each target first makes .venv, if it is missing or older than pyproject.toml or constraints.txt.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
READY := .venv/.ready
READY_BENCH := .venv/.ready-bench
READY_AUDIT := .venv/.ready-audit
READY_SCHEDULERS := build/schedulers/.ready
# these run on synthetic data; the benchmarks left out need files as arguments
BENCHMARKS := $(filter-out $(addprefix benchmarks/,estimates.py published.py published_corpora.py published_models.py retrained.py serving.py silences.py words.py),$(wildcard benchmarks/*.py))
FAST_TESTS := $(BIN)/pytest -n logical --maxprocesses 8 -m "not ray and not slow and not soak"
ALL_TESTS := $(BIN)/pytest -n 4 --dist loadfile --no-loadscope-reorder --durations 30

export RAY_USAGE_STATS_ENABLED = 0
export MLFLOW_DISABLE_TELEMETRY = true
unexport PYTHONDONTWRITEBYTECODE # otherwise every process would compile the package and the tests again

.PHONY: demo test tests check lint docs bench soak audit clean

demo: $(READY)
	$(BIN)/sentiflow demo

test: $(READY)
	$(MAKE) --no-print-directory -j 2 lint tests

tests: $(READY)
	$(ALL_TESTS) --hypothesis-profile same_examples

check: $(READY)
	$(BIN)/ruff format .
	$(MAKE) --no-print-directory lint
	$(FAST_TESTS)

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(READY)
	$(BIN)/python -m sphinx -q -W --keep-going -c docs . build/site
	@echo open build/site/index.html

bench: $(READY_BENCH)
	for file in $(BENCHMARKS); do echo "== $$file"; $(BIN)/python $$file || exit 1; done

soak: $(READY)
	-$(MAKE) --no-print-directory $(READY_SCHEDULERS) # without them their tests are skipped
	$(BIN)/pytest -m soak --timeout 3600 tests

audit: $(READY_AUDIT)
	$(BIN)/python security/audit.py

clean:
	rm -rf .venv build runs/quickstart

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed"'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

$(READY_BENCH): $(READY)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev,bench]'
	touch $@

$(READY_AUDIT): $(READY)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev,audit]'
	touch $@

# Airflow and Dagster have an environment of their own: they need other versions of packages.
$(READY_SCHEDULERS): tests/schedulers.txt
	$(PYTHON) -m venv build/schedulers
	build/schedulers/bin/pip install --quiet --requirement tests/schedulers.txt
	touch $@
