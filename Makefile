# make setup | reproduce | test | bench | test-lowest | lock. PYTHON= picks the interpreter (3.11 or newer).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: setup reproduce test bench test-lowest lock clean

setup: $(VENV)/.installed

$(VENV)/.installed: requirements-lock.txt
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or newer is needed: make PYTHON=python3.11')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --requirement requirements-lock.txt
	touch $@

reproduce: setup
	$(BIN)/python data_visualization.py
	$(BIN)/python model_baseline.py
	$(BIN)/python model_cnn.py
	$(BIN)/python model_baseline.py --protocol as-published
	$(BIN)/python model_cnn.py --protocol as-published
	$(BIN)/python report.py

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt
	$(BIN)/python -m pip install --requirement requirements-dev.txt
	touch $@

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest

bench: setup
	$(BIN)/python bench.py

# The lower bounds of requirements.txt, tested: the oldest versions that they allow.
test-lowest:
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install uv
	.venv-lowest/bin/uv pip compile --quiet --resolution lowest-direct requirements.txt requirements-dev.txt --output-file .venv-lowest/lowest.txt
	.venv-lowest/bin/python -m pip install --requirement .venv-lowest/lowest.txt
	.venv-lowest/bin/python -m pytest

# Pin the newest versions that requirements.txt allows, for every platform and Python it runs on.
lock: $(VENV)/.installed-dev
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-header requirements.txt --output-file requirements-lock.txt

clean:
	rm -rf $(VENV) .venv-lowest
