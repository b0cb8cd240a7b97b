# make book   build the book            make test   check everything            make help   all targets
SHELL := /bin/sh
.DEFAULT_GOAL := help

PYTHON ?= python3
CHAPTER ?=
SLUG ?=
FROM ?=
PROFILE ?= default
SEED ?= 0

# Inside the conda environment of environment.yml that environment is used; everywhere else a virtual environment in .venv.
ifeq ($(CONDA_DEFAULT_ENV),executable-papers)
BIN := $(CONDA_PREFIX)/bin
ENVIRONMENT :=
else
BIN := .venv/bin
ENVIRONMENT := .venv/installed
endif

# What requires-python in pyproject.toml says; tests/test_environment.py holds them together.
IN_RANGE := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
RANGE := 3.11 to 3.13

SPHINX := -W -n --keep-going
TESTS := not slow and not browser
HTML := _build/html
SIDE = $(if $(FROM),--from $(FROM))
export MPLBACKEND = agg
export PYDEVD_DISABLE_FILE_VALIDATION = 1

.PHONY: help python book html refresh new-chapter restamp sync test check lint unit nbval nbval-portable browser run data bench lock clean wheels gpu gpu-import

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 18

.venv/installed: requirements.lock pyproject.toml | python
	@test -x .venv/bin/pip || $(PYTHON) -m venv .venv || { echo "python3 -m venv failed; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@echo "Installing the locked dependencies into .venv (some minutes the first time) ..."
	@.venv/bin/pip install --quiet --no-compile --disable-pip-version-check -r requirements.lock
	@.venv/bin/pip install --quiet --disable-pip-version-check --no-deps --editable .
	@# Compiled once, here and on all cores, also where PYTHONDONTWRITEBYTECODE is set: it halves the start of every run. Packages ship
	@# files for other Pythons, which do not compile and are never imported.
	@.venv/bin/python -m compileall -qq -j 0 .venv/lib || true
	@touch $@

python:
	@if [ -L .venv/bin/python ] || [ -e .venv/bin/python ]; then \
		.venv/bin/python -c '$(IN_RANGE)' 2>/dev/null || { echo "The environment in .venv is broken, or not of Python $(RANGE): remove it with 'rm -r .venv', then run make again."; exit 1; }; \
	else \
		$(PYTHON) -c '$(IN_RANGE)' 2>/dev/null || { echo "Python $(RANGE) is needed, and $$($(PYTHON) -c 'import sys; print("Python %d.%d" % sys.version_info[:2])' 2>/dev/null || echo '$(PYTHON)') is not: name one with PYTHON=..."; exit 1; }; \
	fi

book: $(ENVIRONMENT) ## install, re-execute stale chapters, build the book
	@$(BIN)/python -m lib.publishing.execute $(SIDE)
	@$(BIN)/python -m lib.publishing.pages sync
	@$(BIN)/python -m lib.publishing.readme
	@$(MAKE) --no-print-directory html
	@echo "The book: file://$(CURDIR)/$(HTML)/index.html"

html: $(ENVIRONMENT) ## build the pages from the stored outputs
	@$(BIN)/jupyter-book build --quiet --path-output . $(SPHINX) .
	@mv _build/.doctrees/under-way _build/.doctrees/complete  # see lib/publishing/build.py

refresh: $(ENVIRONMENT) ## execute CHAPTER again and store its outputs (PROFILE=default)
	@$(BIN)/python -m lib.publishing.execute $(CHAPTER) --profile $(PROFILE) --force $(SIDE)
	@$(BIN)/python -m lib.publishing.pages sync
	@$(BIN)/python -m lib.publishing.readme

restamp: $(ENVIRONMENT) ## stamp CHAPTER as fresh if no number changed, else execute it (CHECK=1, BASE=commit)
	@$(BIN)/python -m lib.publishing.restamp $(CHAPTER) $(if $(BASE),--base $(BASE)) $(if $(CHECK),--check)
	@$(if $(CHECK),true,$(BIN)/python -m lib.publishing.pages sync)
	@$(if $(CHECK),true,$(BIN)/python -m lib.publishing.readme)

new-chapter: $(ENVIRONMENT) ## write the skeleton of the chapter SLUG, whose ledger is there
	@$(BIN)/python -m lib.publishing.new_chapter "$(SLUG)"

sync: $(ENVIRONMENT) ## copy new wording into the executed notebooks (FROM=ipynb: out of edited ones), running nothing
	@$(BIN)/python -m lib.publishing.execute $(CHAPTER) --sync-only $(SIDE)

test: lint unit nbval html browser ## lint, unit tests, nbval, book build with warnings as errors, browser check

check: TESTS += and not thorough
check: lint unit html browser ## lint, unit tests, pages: within six minutes, for daily use

lint: $(ENVIRONMENT)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m lib.publishing.freshness
	$(BIN)/python -m lib.publishing.pages check
	$(BIN)/python -m lib.publishing.readme --check

unit: $(ENVIRONMENT)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=worksteal -m "$(TESTS)" tests

nbval: $(ENVIRONMENT)
	$(PORTABLE) $(BIN)/python -m pytest --nbval-lax --nbval-current-env --nbval-cell-timeout=1800 notebooks/

# The plainest instruction set that torch, oneDNN, MKL and numba have, and one thread: what other processors round like.
nbval-portable: PORTABLE = ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 MKL_CBWR=COMPATIBLE NUMBA_CPU_NAME=generic OMP_NUM_THREADS=1
nbval-portable: nbval ## nbval as on another processor: the same cells must be green

browser: $(ENVIRONMENT)
	$(BIN)/python -m pytest -m browser tests/book

run: $(ENVIRONMENT) ## one run: make run CHAPTER=minrnn PROFILE=smoke SEED=0
	@test -f "notebooks/$(CHAPTER).ipynb" || { echo "CHAPTER='$(CHAPTER)' is not one of: $$(ls notebooks | sed -n 's/\.ipynb$$//p' | tr '\n' ' ')"; exit 1; }
	@mkdir -p runs/$(CHAPTER)/$(PROFILE)-seed$(SEED)
	$(BIN)/papermill --inject-output-path notebooks/$(CHAPTER).ipynb runs/$(CHAPTER)/$(PROFILE)-seed$(SEED)/$(CHAPTER).ipynb -p profile $(PROFILE) -p seed $(SEED)

data: $(ENVIRONMENT) ## download the data files that are neither in PAPERS_DATA nor in the cache
	@$(BIN)/python -m lib.datasets

bench: $(ENVIRONMENT) ## measure the speed tables of the book (on an idle machine)
	@for f in benchmarks/*.py; do $(BIN)/python $$f --out benchmarks/results/$$(basename $$f .py).json || exit 1; done

# A GPU for some minutes. "make gpu" needs neither .venv nor a network: python3 with its own torch, and what "make wheels" collected.
GPU_PYTHON = $(firstword $(wildcard $(BIN)/python) $(PYTHON))

wheels: $(ENVIRONMENT) ## collect what a GPU machine without a network lacks
	@$(BIN)/python -m lib.publishing.wheels

gpu: ## run what needs a GPU, and pack it: make gpu MINUTES=10 CHAPTERS="minrnn smbh" OUT=folder
	@$(GPU_PYTHON) -m lib.publishing.gpu $(if $(MINUTES),--minutes $(MINUTES)) $(if $(CHAPTERS),--chapters $(CHAPTERS)) $(if $(OUT),--out "$(OUT)") $(if $(WHEELS),--wheels "$(WHEELS)")

gpu-import: $(ENVIRONMENT) ## check what came back, and put it into the book: make gpu-import ARCHIVE=path
	@test -n "$(ARCHIVE)" || { echo "ARCHIVE=path names what make gpu wrote: a gpu-session*.tar.gz, or the folder of all"; exit 1; }
	@$(BIN)/python -m lib.publishing.gpu_import "$(ARCHIVE)" $(if $(FORCE),--force)
	@$(MAKE) --no-print-directory html

lock: $(ENVIRONMENT) ## bring requirements.lock up to pyproject.toml (needs uv); UPGRADE=1 gives up its present versions
	@printf '# Written by "make lock" from pyproject.toml, for every platform and Python $(RANGE).\ntorch==2.13.0\n' > requirements.lock.tmp
	@uv pip compile --quiet --universal --python-version 3.11 --extra test --no-annotate --no-header --no-emit-index-url $(if $(UPGRADE),,--constraints requirements.lock) pyproject.toml \
		| grep -vE '^(torch|nvidia-[a-z0-9-]+|cuda-[a-z-]+)=' >> requirements.lock.tmp
	@mv requirements.lock.tmp requirements.lock

clean: ## remove what was built, and what killed runs left behind (not .venv, not runs)
	rm -rf _build book/generated .pytest_cache .mypy_cache .ruff_cache
	@$(or $(wildcard $(BIN)/python),$(PYTHON)) -m lib.publishing.leftovers
