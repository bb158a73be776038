# Set-up and main jobs, from a bare clone: Python 3.11+, make and a C++ compiler are enough.
PYTHON ?= python3
VENV ?= .venv
# What pip is given to install torch: any wheel, path or pip options (README, "The CPU build of torch").
TORCH ?= torch==2.13.0
JOBS ?= 2
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: run test lint types docs wheel clean

run: $(VENV)/run.stamp
	$(BIN)/systolith run --out out

test: $(VENV)/test.stamp
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

lint: $(VENV)/lint.stamp
	$(BIN)/ruff check .

types: $(VENV)/lint.stamp
	$(BIN)/pyright --pythonpath $(BIN)/python

docs: $(VENV)/lint.stamp
	$(BIN)/python -m sphinx -W -q -b html docs docs/_build/html

wheel: $(VENV)/lint.stamp
	rm -rf dist
	$(BIN)/python -m hatchling build -t wheel
	$(BIN)/check-wheel-contents dist/*.whl

$(VENV)/run.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --constraint constraints.txt $(TORCH)
	$(PIP) install --constraint constraints.txt --editable .
	touch $@

$(VENV)/test.stamp: $(VENV)/run.stamp
	$(PIP) install --constraint constraints.txt --editable '.[test]'
	touch $@

$(VENV)/lint.stamp: $(VENV)/test.stamp
	$(PIP) install --constraint constraints.txt --editable '.[test,lint,docs]'
	touch $@

clean:
	rm -rf $(VENV) build dist out docs/_build .pytest_cache .ruff_cache .hypothesis
