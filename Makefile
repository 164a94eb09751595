# make demo    set up .venv and go the whole way on small videos made on the spot; make demo-all: with all methods
# make test    set up .venv and run the tests, in under five minutes; make test-all: those marked slow, too, those of
#                object stores, Ray and pages, for which it installs more, and those of networks and training with the
#                instructions of older CPUs; make test-golden: all comparisons with steps of the authors' code, which
#                take ten minutes and 14 GB
# make check   ruff and mypy
# make docs    the pages in docs/_build/html; each warning is an error

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# Two test processes, each with whole files: the fixtures of a file are made once.
PYTEST := $(BIN)/pytest -n 2 --dist loadfile
# What computes with oneDNN's convolutions, which differ with the CPU's instructions. bf16 is not trained on a CPU.
ISA_TESTS := $(patsubst %,tests/train/test_%.py,backbones recipes inference training rspnet prp pace) \
  -k "not bf16 and not compiles and not at_full_size and not as_the_published"

.PHONY: demo demo-all test test-all test-golden check docs clean

demo: $(READY)
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh demo.sh

demo-all: $(READY)
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh demo.sh rspnet ascnet prp pace

test: $(READY)
	$(PYTEST)

test-all: .venv/.all
	$(PYTEST) -m "not big"
	for isa in SSE41 AVX2 AVX512_CORE; do \
	  echo "ONEDNN_MAX_CPU_ISA=$$isa" && ONEDNN_MAX_CPU_ISA=$$isa $(PYTEST) -q $(ISA_TESTS) || exit 1; done

test-golden: $(READY)
	$(BIN)/pytest -m "" tests/train/test_golden_steps.py

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: .venv/.docs
	$(BIN)/sphinx-build -b html -W --keep-going -n -q docs docs/_build/html

.venv/.all: $(READY) tests/fetch_axe.sh
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-build-isolation -e '.[dev,tests]'
	sh tests/fetch_axe.sh || echo "without npm, no page is checked for accessibility" >&2
	@touch $@

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
