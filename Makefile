# make demo: run a first sweep on real text, from nothing to a verdict.    make test: install the test dependencies and run all tests.
PYTHON ?= python3
VENV ?= .venv
SEED ?= 0
BIN = $(VENV)/bin

.PHONY: demo test fuzz lint lock install install-dev benchmarks gpu-check chaos clean

demo: install
	$(BIN)/assay demo

test: install-dev
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

# All changes of configuration files with every command; `make test` runs a part of them.
fuzz: install-dev
	ASSAY_FUZZ=all $(BIN)/python -m pytest -n auto tests/cli/test_fuzz.py

lint: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

install: $(VENV)/.assay
install-dev: $(VENV)/.assay-dev

$(VENV)/.assay: requirements.lock pyproject.toml scripts/install.py
	$(PYTHON) scripts/install.py $(VENV)
	@touch $@

$(VENV)/.assay-dev: requirements-dev.lock pyproject.toml scripts/install.py
	$(PYTHON) scripts/install.py $(VENV) --dev
	@touch $@ $(VENV)/.assay

lock:
	scripts/lock.sh

benchmarks: install-dev
	for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

# Checks training, resume, evaluation and packing on one GPU in less than eight minutes. Uses PYTHON as it is, without the lock file.
gpu-check:
	$(PYTHON) -m scripts.gpu_check --out gpu-check.json

# Forty runs for ten minutes on a cluster with random failures. Requires root and SLURM (tests/slurm/packages.txt).
chaos: install-dev
	$(BIN)/python -m tests.slurm.chaos --seed $(SEED)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache dist build
