# make demo: a first sweep on real text, from nothing to a verdict.    make test: install what tests need, run them all.
PYTHON ?= python3
VENV ?= .venv
SEED ?= 0
BIN = $(VENV)/bin

.PHONY: demo test lint lock install install-dev benchmarks chaos clean

demo: install
	$(BIN)/assay demo

test: install-dev
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

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

# Ten minutes of forty runs on a cluster that is hurt at random; as root, with SLURM installed (tests/slurm/packages.txt).
chaos: install-dev
	$(BIN)/python -m tests.slurm.chaos --seed $(SEED)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache dist build
