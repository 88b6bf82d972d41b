# make help lists the targets. PYTHON= picks the interpreter (3.11 or newer) of a new environment;
# make clean removes the present one.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
FOUND = $(or $(wildcard $(BIN)/python),$(PYTHON))
FITS = import sys; v = sys.version_info[:3]; sys.exit((v < (3, 11) or v == (3, 14, 1)) and 'Python 3.11 or newer is needed, but not 3.14.1: make PYTHON=python3.11')

help:
	@echo 'setup        install into $(VENV)'
	@echo 'reproduce    the paper: download, train, score, tables'
	@echo 'test         install the test tools, run the tests'
	@echo 'test-faults  disk errors at every call, and ten thousand odd inputs'
	@echo 'lint         ruff, layers, types'
	@echo 'bench        measure the speed; run nothing else meanwhile'
	@echo 'test-lowest  the tests with the oldest packages allowed'
	@echo 'lock         pin the newest packages allowed'
	@echo 'audit        compare the pinned packages with advisories'
	@echo 'clean        remove the environments'
	@echo
	@$(FOUND) -c "$(FITS)"
	@$(FOUND) -m bloodcells

.PHONY: help setup reproduce test test-faults lint bench test-lowest lock audit clean

setup: $(VENV)/.installed

$(VENV)/.installed: requirements-lock.txt
	$(PYTHON) -c "$(FITS)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --requirement requirements-lock.txt
	touch $@

reproduce: setup
	$(BIN)/python data_visualization.py
	$(BIN)/python model_baseline.py --overwrite
	$(BIN)/python model_cnn.py --overwrite
	$(BIN)/python model_baseline.py --protocol as-published --overwrite
	$(BIN)/python model_cnn.py --protocol as-published --overwrite
	$(BIN)/python report.py

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt
	$(BIN)/python -m pip install --requirement requirements-dev.txt
	touch $@

# One thread each; a worker that has nothing left to do takes tests from another.
test: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist worksteal

test-faults: $(VENV)/.installed-dev
	FAULTS=all OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/test_faults.py tests/test_faults_of_tools.py tests/test_properties.py tests/test_committed_results.py tests/search tests/training/test_session.py tests/training/test_distributed.py --numprocesses auto

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy .

bench: setup
	$(BIN)/python bench.py

# The lower bounds of requirements.txt, tested: the oldest versions that they allow.
test-lowest:
	$(PYTHON) -m venv --clear .venv-lowest
	.venv-lowest/bin/python -m pip install uv
	.venv-lowest/bin/uv pip compile --quiet --resolution lowest-direct requirements.txt requirements-dev.txt --python .venv-lowest/bin/python --only-binary :all: --output-file .venv-lowest/lowest.txt
	.venv-lowest/bin/python -m pip install --requirement .venv-lowest/lowest.txt
	.venv-lowest/bin/python -m pytest

# Pin the newest versions that requirements.txt allows, by their hashes, for every platform and Python.
lock: $(VENV)/.installed-dev
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --no-header --generate-hashes requirements.txt --output-file requirements-lock.txt

# Compare the pinned packages with the published advisories.
audit:
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/python -m pip install pip-audit
	.venv-audit/bin/pip-audit --require-hashes --disable-pip --requirement requirements-lock.txt

clean:
	rm -rf $(VENV) .venv-lowest .venv-audit
