# Each target sets up what it needs in .venv by itself. Python 3.11 or newer and a C++ compiler must be there.
#   make demo     compress the shipped photographs, decode them, show what happened; without PyTorch
#   make test     all tests            make test-photos PHOTOS=DIR   also those on photographs
#   make bench    benchmarks: one table, one chart    make bench-coder   of the coder and the exact engine
#   make lint     style, and the direction of imports
#   make test-ray `flic encode-dataset --ray`; installs Ray (about 0.5 GB)
#   make perturb  20,000 perturbed or damaged decodes, counted
#   make exact-full   exp and GELU of the exact engine on all 2^32 inputs, its emulated fma on 10^9 (minutes)
#   make bench-gpu OUT=DIR   tests and benchmarks on the card    make aot   Triton kernels compiled without one
#   make train-built-in PHOTOS=DIR   the built-in model's long run, started or resumed; DEVICE=cuda MINUTES=20 OUT=DIR
#   make measure PHOTOS=DIR MACHINE=NAME   every table of docs/performance.md, kernels.md and rans.md (an hour)
#   make figures  the pictures that README shows
#   make fuzz     hostile input for SECONDS=60 (clang)
#   make sanitize tests on a library with ASan and UBSan, then TSan (g++); a part with ARGS=--quick
# Others: PYTHON=python3.12 chooses the interpreter, VENV=DIR the environment, ARGS="..." goes to the tool.

VENV ?= .venv
PYTHON ?= $(shell for p in python3.12 python3.11 python3.13 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
ARGS ?=

BIN := $(VENV)/bin
SMALL := $(VENV)/.small
INSTALLED := $(VENV)/.installed
LIBRARY := flic_kernels/libflic_kernels.so
SOURCES := $(shell find flic_kernels/csrc -type f)

# An extra's packages alone: installing the project again would compile it again.
extra = $(BIN)/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb')) \
	['project']['optional-dependencies']['$(1)'], sep='\n')" | $(BIN)/python -m pip install --quiet -r /dev/stdin

.PHONY: all demo test test-photos test-ray perturb exact-full bench bench-coder bench-gpu aot fuzz lint \
	sanitize train-built-in figures measure build clean
.DELETE_ON_ERROR:

all: demo

# The codec and what it needs: some 84 MB.
$(SMALL): pyproject.toml setup.py
	@test -n "$(PYTHON)" || { echo "make: needs Python 3.11 or newer (set PYTHON=...)" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip setuptools wheel
	@# setuptools warns of every editable installation
	PYTHONWARNINGS=ignore::UserWarning $(BIN)/python -m pip install --quiet --editable .
	@touch $@

# Everything: PyTorch, CompressAI and what tests need, some 6 GB.
$(INSTALLED): $(SMALL)
	$(call extra,torch)
	$(call extra,test)
	@touch $@

# The install builds the native library; later changes of its sources rebuild only that.
$(LIBRARY): $(SMALL) $(SOURCES)
	@if [ ! -f $@ ] || [ -n "$$(find setup.py $(SOURCES) -newer $@)" ]; then \
		$(BIN)/python setup.py --quiet build_ext --inplace; \
	fi
	@touch $@

build: $(LIBRARY) $(INSTALLED)

demo: $(LIBRARY)
	$(BIN)/flic demo demo $(ARGS)

# One process a core, one thread each: most tests are too small to share.
test: $(LIBRARY) $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal $(ARGS)

test-photos: $(LIBRARY) $(INSTALLED)
	@test -n "$(PHOTOS)" || { echo "make: say where: make test-photos PHOTOS=DIR" >&2; exit 2; }
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --photos="$(PHOTOS)" tests $(ARGS)

$(VENV)/.ray: $(INSTALLED)
	$(call extra,ray)
	@touch $@

test-ray: $(LIBRARY) $(VENV)/.ray
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/dataset/test_dataset.py -k ray $(ARGS)

perturb: $(LIBRARY) $(INSTALLED)
	$(BIN)/python -W ignore tests/helpers/perturbation.py $(ARGS)

exact-full: $(INSTALLED)
	$(BIN)/python tests/helpers/native_builds.py exact-full

$(VENV)/.bench: $(INSTALLED)
	$(call extra,bench)
	@touch $@

bench: $(LIBRARY) $(INSTALLED)
	$(BIN)/python -m benches $(ARGS)

bench-coder: $(LIBRARY) $(VENV)/.bench
	$(BIN)/python -m benches exact_engine
	$(BIN)/python -m benches entropy_coders

bench-gpu: $(LIBRARY) $(INSTALLED)
	@test -n "$(OUT)" || { echo "make: say where: make bench-gpu OUT=DIR" >&2; exit 2; }
	$(BIN)/python -m benches gpu --out "$(OUT)" $(ARGS)

aot: $(LIBRARY) $(INSTALLED)
	$(BIN)/python -m benches aot --write docs/kernels.md $(ARGS)

# Begins with the shipped weights where there is no run yet. Ctrl-C or a kill loses at most --every steps.
RUN := runs/built-in
DEVICE ?= cpu
THREADS ?= 1
train-built-in: $(LIBRARY) $(INSTALLED)
	@test -n "$(PHOTOS)" || { echo "make: say where: make train-built-in PHOTOS=DIR" >&2; exit 2; }
	OMP_NUM_THREADS=$(THREADS) nice -n 19 $(BIN)/flic train --recipe fast -d "$(PHOTOS)" --save $(RUN) \
		--checkpoint $(or $(wildcard $(RUN)/last.pth.tar),small) --schedule constant -lr 5e-4 --warmup 200 \
		--finest 0.3 --coarsest 4 --balance 0.5 --ema 0.999 --steps 10000000 \
		--hold-out 4 --validate-every 2000 --every 100 --log-every 100 \
		--device $(DEVICE) --threads $(THREADS) $(if $(MINUTES),--minutes $(MINUTES)) $(ARGS)
	$(if $(OUT),mkdir -p "$(OUT)" && cp $(RUN)/model.safetensors $(RUN)/last.pth.tar $(RUN)/*.csv "$(OUT)")

# What the documents say, with nothing else running on the machine. Rows and tables go to benches/results/MACHINE*,
# what else is made to runs/measure/. The command line is a small installation's, without PyTorch.
PAGE := docs/performance.md
ROWS = benches/results/$(MACHINE)
SMALL_ENV := runs/measure/small
STUDY = $(BIN)/python -W ignore -m benches
# $(call EVALUATED,PART,OPTIONS), $(,) being a comma in the options
, := ,
EVALUATED = $(BIN)/flic eval --data "$(PHOTOS)" -m small --overwrite --out runs/measure/$(1) $(2) && \
	$(BIN)/python -m benches.harness.document $(PAGE):$(1) runs/measure/$(1)/results.md && \
	cp runs/measure/$(1)/results.csv $(ROWS)-$(1).csv
measure: $(LIBRARY) $(INSTALLED) $(VENV)/.bench
	@test -n "$(PHOTOS)" -a -n "$(MACHINE)" || { echo "make: make measure PHOTOS=DIR MACHINE=NAME" >&2; exit 2; }
	rm -rf $(SMALL_ENV) && $(BIN)/python -m venv $(SMALL_ENV) && $(SMALL_ENV)/bin/python -m pip install --quiet .
	du -sm $(SMALL_ENV)
	$(STUDY) training codec transforms ops --no-compile --dtypes float32 --rows $(ROWS).jsonl --write $(PAGE)
	$(STUDY) transforms -k "g_s and 768x512-float32 or g_a and 768x512-float32" --dtypes float32 \
		--rows $(ROWS)-compile.jsonl --write $(PAGE):compile
	$(STUDY) training -k "tiny and step" --no-compile --dtypes float32,bfloat16 --rows $(ROWS)-training.jsonl \
		--write $(PAGE):training
	$(STUDY) against e613e49 --rounds 9 --write $(PAGE):step-then --json $(ROWS)-step-then.jsonl
	$(STUDY) step_profile --write $(PAGE) --json $(ROWS)-step-profile.jsonl
	$(STUDY) cli --python $(SMALL_ENV)/bin/python --write $(PAGE) --json $(ROWS)-cli.jsonl
	$(STUDY) cli --python $(SMALL_ENV)/bin/python --cold --rounds 3 --write $(PAGE):cold --json $(ROWS)-cold.jsonl
	$(STUDY) cli --python $(SMALL_ENV)/bin/python --config base --write $(PAGE):base --json $(ROWS)-base.jsonl
	$(STUDY) against 1c7bec1 --what picture --config base --calls 8 --write $(PAGE):base-then \
		--json $(ROWS)-base-then.jsonl
	$(STUDY) large --write $(PAGE) --json $(ROWS)-large.jsonl
	$(STUDY) large --sizes 768x512 --effort 1 --write $(PAGE):base-effort --json $(ROWS)-base-effort.jsonl
	$(STUDY) tiles --photos "$(PHOTOS)" -m small --write $(PAGE) --json $(ROWS)-tiles.jsonl
	$(STUDY) exact_engine --write $(PAGE) --json $(ROWS)-exact-engine.jsonl
	$(STUDY) entropy_coders --write $(PAGE) --json $(ROWS)-entropy-coders.jsonl
	$(STUDY) file_overhead --photos "$(PHOTOS)" --write $(PAGE) --json $(ROWS)-file-overhead.jsonl
	$(STUDY) padding --photos "$(PHOTOS)" --write $(PAGE) --json $(ROWS)-padding.jsonl
	$(call EVALUATED,bfloat16,--steps 0.4$(,)1$(,)2.5 --dtype bfloat16)
	$(call EVALUATED,float32,--steps 0.4$(,)1$(,)2.5)
	$(call EVALUATED,effort,--steps 0.5$(,)1.4$(,)4 --effort 0$(,)3$(,)9 --anchors avif)
	$(STUDY) rans_overhead --write docs/rans.md --json $(ROWS)-rans-overhead.jsonl
	$(STUDY) traffic --write docs/kernels.md
	$(MAKE) aot VENV=$(VENV)

figures: $(LIBRARY) $(INSTALLED)
	$(BIN)/python -m benches figures $(ARGS)

fuzz: $(LIBRARY) $(INSTALLED)
	fuzz/run.sh $(or $(SECONDS),60) $(BIN)/python

sanitize: $(INSTALLED)
	$(BIN)/python tests/helpers/sanitizers.py address $(ARGS)
	$(BIN)/python tests/helpers/sanitizers.py thread $(ARGS)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run -Werror $$(git ls-files '*.cpp' '*.cu' '*.h' '*.c')
	$(BIN)/lint-imports

clean:
	rm -rf build *.egg-info $(SMALL) $(INSTALLED) $(VENV)/.bench $(VENV)/.ray $(LIBRARY)
