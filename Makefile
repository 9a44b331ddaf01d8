# Each target sets up what it needs in .venv by itself. Python 3.11 or newer and a C++ compiler must be there.
#   make demo     compress the shipped photographs, decode them, show what happened
#   make test     all tests            make test-photos PHOTOS=DIR   also those on photographs
#   make bench    benchmarks           make lint                     style
#   make fuzz     hostile input for SECONDS=60 (clang)
# Others: PYTHON=python3.12 chooses the interpreter, VENV=DIR the environment, ARGS="..." goes to the tool.

VENV ?= .venv
PYTHON ?= $(shell for p in python3.12 python3.11 python3.13 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
ARGS ?=

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
LIBRARY := flic_kernels/libflic_kernels.so
SOURCES := $(shell find flic_kernels/csrc -type f)

.PHONY: all demo test test-photos bench fuzz lint build clean
.DELETE_ON_ERROR:

all: demo

$(INSTALLED): pyproject.toml setup.py
	@test -n "$(PYTHON)" || { echo "make: needs Python 3.11 or newer (set PYTHON=...)" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip setuptools wheel
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	@touch $@

# The install builds the native library; later changes of its sources rebuild only that.
$(LIBRARY): $(INSTALLED) $(SOURCES)
	$(BIN)/python setup.py --quiet build_ext --inplace
	@touch $@

build: $(LIBRARY)

demo: $(LIBRARY)
	$(BIN)/flic demo demo $(ARGS)

test: $(LIBRARY)
	$(BIN)/python -m pytest $(ARGS)

test-photos: $(LIBRARY)
	@test -n "$(PHOTOS)" || { echo "make: say where: make test-photos PHOTOS=DIR" >&2; exit 2; }
	$(BIN)/python -m pytest --photos "$(PHOTOS)" $(ARGS)

$(VENV)/.bench: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	@touch $@

bench: $(LIBRARY) $(VENV)/.bench
	$(BIN)/python -m benches $(ARGS)

fuzz: $(LIBRARY)
	fuzz/run.sh $(or $(SECONDS),60) $(BIN)/python

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:
	rm -rf build *.egg-info $(INSTALLED) $(VENV)/.bench $(LIBRARY)
