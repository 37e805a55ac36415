# Everything needs only Python 3.11+ and make: each target sets up .venv first if it is not there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
OUT ?= samespace-demo
WORKERS ?= 2
# what the image gets besides samespace, from where, and for which Python
EXTRAS ?= serve,postgres
LOCKED ?= deploy/locked
TOOLS := $(VENV)/lock
comma := ,
INDEX ?= --extra-index-url https://download.pytorch.org/whl/cpu

.PHONY: setup demo test check bench docs lock clean

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
	$(BIN)/python benchmarks/serve_kill.py --kills 50
	$(BIN)/python benchmarks/serve_load.py --rows 20000
	$(BIN)/python benchmarks/serve_memory.py --rows 20000 --searches 5000
	$(BIN)/python benchmarks/serve_page.py

docs: setup
	$(BIN)/python docs/build.py --check

# with tools in a place of their own, and pip alone to fetch them
lock:
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check pip-tools cyclonedx-bom
	mkdir -p $(LOCKED) && rm -f $(LOCKED)/samespace-*.whl
	$(TOOLS)/bin/pip-compile --quiet --strip-extras --generate-hashes --emit-index-url $(INDEX) --constraint constraints.txt \
	  $(foreach extra,$(subst $(comma), ,$(EXTRAS)),--extra $(extra)) --output-file $(LOCKED)/requirements.txt pyproject.toml
	$(TOOLS)/bin/cyclonedx-py requirements $(LOCKED)/requirements.txt --pyproject pyproject.toml --output-file $(LOCKED)/sbom.json
	$(TOOLS)/bin/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir $(LOCKED) .

clean:
	rm -rf $(VENV) $(OUT) .pytest_cache .mypy_cache .ruff_cache
