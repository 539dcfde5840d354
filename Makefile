# raymd: `make fit` trains, `make test` tests, bare `make` sets up. Needs Python 3.11 or later.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ARGS ?=
# tests without Ray run beside each other, a thread each; those with it have the machine to themselves
BESIDE := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal
ALONE := $(BIN)/python -m pytest

.PHONY: setup fit test test-all chaos e2e-cluster lint format clean

setup: $(STAMP)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(v < (3, 11) and f"raymd needs Python 3.11 or later, but $(PYTHON) is {v[0]}.{v[1]}; try: make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--config-settings editable_mode=compat -e '.[dev]'
	@touch $@

fit: $(STAMP)
	$(BIN)/python -m raymd.fit --students resnet18,resnet50 $(ARGS)

test: $(STAMP)
	$(BESIDE) -m 'not slow and not ray'
	$(ALONE) -m 'ray and not slow'

test-all: $(STAMP)
	$(BESIDE) -m 'slow and not ray'
	$(ALONE) -m 'slow and ray'

# the long one: an hour or so; called again it goes on where it was
chaos: $(STAMP)
	$(BIN)/python -m tests.chaos.long --kills 60 --seed 0 --out build/chaos.json $(ARGS)

# a real `ray up` on three hosts that are made on this machine; takes root and openssh-server
e2e-cluster: $(STAMP)
	$(BIN)/python -m tests.cluster.e2e || test $$? = 77  # 77: it said why it cannot run here

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
