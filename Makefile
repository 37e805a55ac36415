# Everything needs only Python 3.11+ and make: each target sets up .venv first if it is not there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
OUT ?= samespace-demo
WORKERS ?= 2

.PHONY: setup demo test check bench docs clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(STAMP)

demo: setup
	$(BIN)/samespace demo --out $(OUT)

test: setup
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup
	$(BIN)/python benchmarks/prototypes.py
	$(BIN)/python benchmarks/step_time.py
	$(BIN)/python benchmarks/ijbc.py
	$(BIN)/python benchmarks/gallery_search.py
	$(BIN)/python benchmarks/gallery_backfill.py
	$(BIN)/python benchmarks/gallery_kill.py --kills 100
	$(BIN)/python benchmarks/behind.py

docs: setup
	$(BIN)/python docs/build.py --check

clean:
	rm -rf $(VENV) $(OUT) .pytest_cache .mypy_cache .ruff_cache
