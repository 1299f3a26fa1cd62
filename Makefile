PYTHON ?= python3
VENV := .venv
VENV4 := .venv-tl4
VENVB := .venv-bench
BIN := $(VENV)/bin
export HF_HUB_OFFLINE ?= 1

.PHONY: help demo test test-slow test-families test-all test-tl4 bench calibrate audit lint types check models figures clean

help:            ## show this list
	@grep -E '^[a-z0-9-]+: .*## |^[a-z0-9-]+:  +## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

# The golden tests compare with these two packages. They ask for older transformers and NumPy and work with ours; without
# their declared dependencies they can be installed.
PEERS := steering-vectors repeng

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps $(PEERS)
	touch $@

$(VENV4)/.installed-dev: pyproject.toml constraints.txt
	test -x $(VENV4)/bin/python || $(PYTHON) -m venv $(VENV4)
	grep -v '^transformer-lens==' constraints.txt > $(VENV4)/constraints.txt
	$(VENV4)/bin/python -m pip install --quiet --disable-pip-version-check -c $(VENV4)/constraints.txt -e '.[dev]' 'transformer-lens>=4,<5'
	$(VENV4)/bin/python -m pip install --quiet --disable-pip-version-check -c $(VENV4)/constraints.txt --no-deps $(PEERS)
	touch $@

$(VENVB)/.installed: pyproject.toml constraints.txt
	test -x $(VENVB)/bin/python || $(PYTHON) -m venv $(VENVB)
	$(VENVB)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	$(VENVB)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps steering-vectors
	touch $@

demo: $(VENV)/.installed          ## run the main job on the embedded model
	$(BIN)/python analyses/random_control.py --overwrite

test: $(VENV)/.installed-dev      ## run the tests that find most mistakes (seven minutes on 2 cores)
	$(BIN)/python -m pytest -q -n auto --dist loadfile

test-slow: $(VENV)/.installed-dev ## run what the suite leaves out (long tests, the other backend), and the property tests with all their examples
	$(BIN)/python -m pytest -q -m 'slow or hypothesis' --hypothesis-profile=thorough -n auto --dist loadfile

test-families: $(VENV)/.installed-dev ## run the comparison of 80 architectures with plain Hugging Face (five minutes)
	$(BIN)/python -m pytest -q -m families -n auto

test-all: $(VENV)/.installed-dev  ## run all of these in one go
	$(BIN)/python -m pytest -q -m '' --hypothesis-profile=thorough -n auto --dist loadfile

test-tl4: $(VENV4)/.installed-dev ## run the tests against the newest TransformerLens 4.x
	$(VENV4)/bin/python -m pytest -q -n auto --dist loadfile

bench: $(VENVB)/.installed        ## measure the fast path against other ways to do the same work (an hour on 2 cores)
	$(VENVB)/bin/python -m benchmarks

calibrate: $(VENV)/.installed     ## simulate true nulls and real effects for every test (10,000 simulations of each); writes data/calibration.md
	$(BIN)/python analyses/calibrate.py --out data/calibration.md

audit: $(VENV)/.installed         ## judge the numbers of the published documents again; writes data/published/audit.md
	$(BIN)/python analyses/published_audit.py --out data/published

lint: $(VENV)/.installed-dev      ## ruff (lint and format) and the import-direction check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(VENV)/.installed-dev     ## mypy
	$(BIN)/mypy

check: test test-slow test-families test-tl4 lint types   ## everything that CI runs

models: $(VENV)/.installed        ## train the embedded model again
	$(BIN)/python analyses/train_tiny_arithmetic.py

figures: $(VENV)/.installed-dev   ## make the pictures of the README again (needs chromium)
	$(BIN)/python analyses/make_figures.py

clean:           ## remove environments, caches and runs
	rm -rf $(VENV) $(VENV4) $(VENVB) runs build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
