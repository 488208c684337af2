# stellarbook. `make help` lists what there is.
PYTHON  ?= python3
PROFILE ?= quick
# Another build of torch: make env TORCH="torch==2.13.0 --index-url <an index of CUDA builds>"
TORCH   ?= $(shell grep '^torch==' constraints.txt)
CHAPTER ?= 01_data
CORES   ?= $(shell nproc 2>/dev/null || echo 2)
BIN     := .venv/bin
PY      := $(BIN)/python
# The chapters' kernel and every tool come from the project's own environment.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export NUMBA_CACHE_DIR ?= $(CURDIR)/.venv/numba
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help env data book run site lab test regression tolerances bench weights publish stale pairs clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' Makefile
	@echo "  PROFILE=quick|standard|long|full   CHAPTER=01_data   SYSTEM=xp_mlp   TORCH='pip arguments'"

env: .venv/.ready  ## the environment, in .venv
.venv/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "stellarbook needs Python 3.11 or newer; PYTHON=… names another")'
	@echo "Installing into .venv: a few minutes and 2.5 GB, more with a CUDA build of torch"
	$(PY) -m pip --version > /dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	$(PY) -m pip install $(TORCH)
	grep -v '^torch==' constraints.txt > .venv/constraints.txt
	$(PY) -c 'from importlib.metadata import version; print("torch==" + version("torch"))' >> .venv/constraints.txt
	$(PY) -m pip install -c .venv/constraints.txt -e '.[book,test]'
	@touch $@

data: env  ## fetch and distil the public archives (once, into the cache)
	$(PY) -m stellarbook.data.archives

book: data  ## everything: environment, archives, all chapters under PROFILE, the site of that run
	$(BIN)/snakemake --cores $(CORES) --config profile=$(PROFILE) --quiet rules

run: data  ## one chapter: make run CHAPTER=01_data PROFILE=standard
	$(PY) -m stellarbook.report.run $(CHAPTER) --profile $(PROFILE)

site: env  ## the committed book, nothing executed: _build/html
	$(BIN)/jupyter-book build . --path-output . -W -n --keep-going -q
	@echo "Read it: _build/html/index.html"

lab: data  ## open the chapters in JupyterLab
	$(BIN)/jupyter lab --notebook-dir=. chapters

test: data  ## lint, floors, unit and property tests, gates, nbval, site
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pytest --nbval-lax

regression: data  ## rewrite the notebooks that nbval holds (after a change that is meant)
	for chapter in $$(cd chapters && ls *.ipynb); do \
	  OMP_NUM_THREADS=1 $(PY) -m stellarbook.report.run $$chapter --profile quick \
	    --folder _build/regression --output tests/regression/$$chapter || exit 1; done

tolerances: data  ## measure the references of one chapter's checks: ten quick runs
	$(PY) tests/regression/measure.py $(CHAPTER)

bench: data  ## benchmarks, into book/benchmarks.json
	mkdir -p _build
	OMP_NUM_THREADS=1 $(BIN)/pytest tests/benchmarks --benchmark-only --benchmark-json=_build/benchmarks.json
	$(PY) -m stellarbook.report.publish benchmarks

weights: data  ## put a run's weights into the book: make weights SYSTEM=xp_mlp PROFILE=long
	@test -n "$(SYSTEM)" || { echo "weights of which system? make weights SYSTEM=xp_mlp"; exit 2; }
	test -f runs/$(PROFILE)/$(CHAPTER).ipynb || $(PY) -m stellarbook.report.run $(CHAPTER) --profile $(PROFILE)
	$(PY) -m stellarbook.report.publish weights $(SYSTEM) --chapter $(CHAPTER) --profile $(PROFILE)

publish: env  ## bring a finished run into book/: make publish PROFILE=long
	$(PY) -m stellarbook.report.publish pages --profile $(PROFILE) $(if $(findstring command,$(origin CHAPTER)),--chapter $(CHAPTER))

stale: env  ## which published pages no longer match the tree
	$(PY) -m stellarbook.report.provenance

pairs: env  ## write each chapter's .ipynb from its .py
	for text in chapters/*.py; do $(BIN)/jupytext --quiet --to ipynb --update "$$text" || exit 1; done
	$(BIN)/jupyter-nbconvert --clear-output --inplace --log-level=ERROR chapters/*.ipynb

clean:  ## remove what was built (not the environment, not the cache)
	rm -rf _build runs .snakemake .pytest_cache .ruff_cache .hypothesis .import_linter_cache
