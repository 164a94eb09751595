# make demo    set up .venv and go the whole way on small videos made on the spot; make demo-all: with all methods
# make test    set up .venv and run the tests, in under five minutes; make test-all: those marked slow, too
# make check   ruff and mypy
# make docs    the pages in docs/_build/html; each warning is an error

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo demo-all test test-all check docs clean

demo: $(READY)
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh demo.sh

demo-all: $(READY)
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh demo.sh rspnet ascnet prp pace

test: $(READY)
	$(BIN)/pytest

test-all: $(READY)
	$(BIN)/pytest -m "slow or not slow"

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: .venv/.docs
	$(BIN)/sphinx-build -b html -W --keep-going -n -q docs docs/_build/html

.venv/.docs: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-build-isolation -e '.[dev,docs]'
	@touch $@

clean:
	rm -rf .venv demo_run

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is older than 3.11; name a newer one: make PYTHON=python3.12" >&2; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt hatchling editables
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-build-isolation -e '.[dev]'
	@touch $@
