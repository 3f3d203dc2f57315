# Everything a user or contributor runs. Needs Python 3.11 or newer, pip and make; `make` lists the targets.
# PYTHON chooses the interpreter, VENV the virtual environment, CONSTRAINTS an optional pip constraints file,
# JOBS the number of test processes, SELECT a choice of tests (an expression of marks for pytest).
PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?=
JOBS ?= auto
SELECT ?=
# Further words for `make demo`, `make bench` and `make test`, for example ARGS="cells --shapes 32x128x128x128" or ARGS=tests/norms;
# OLD and NEW are folders of results.
ARGS ?=
# The folder of the data sets of the experiments; without it they read what is installed.
DATA ?=
OLD ?=
NEW ?=

PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help venv demo experiments evidence bench bench-compare bench-tpu bench-cuda accuracy test full tables lint format types floors doctest onnx compiled examples docs look build clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-14s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

# One virtual environment; a stamp for each extra of pyproject.toml says what is in it, and is newer than pyproject.toml.
$(VENV)/.installed-%: pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "jaxnorm needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1 || true). Try: make PYTHON=python3.11 ..." >&2; exit 1; }
	@$(PY) -m pip --version >/dev/null 2>&1 || { echo "making $(VENV)"; $(PYTHON) -m venv --clear $(VENV); }
	@echo "installing jaxnorm[$*] into $(VENV)"
	@$(PIP) install $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS)) --editable '.[$*]'
	@touch $@

venv: $(VENV)/.installed-dev ## make the virtual environment with everything for development

demo: $(VENV)/.installed-examples ## train four character models on real text, each at its best learning rate, into runs/char_lm; a run there goes on
	$(PY) examples/char_lm.py --out runs/char_lm $(ARGS)

experiments: $(VENV)/.installed-experiments ## rerun the papers' claims, a night on two cores; DATA is the folder of the data sets, ARGS are handed on
	$(PY) -m experiments run all $(if $(DATA),--data $(DATA)) --resume $(ARGS)

evidence: $(VENV)/.installed-experiments ## write docs/evidence.md, the table of README, summaries and pictures from the committed records
	$(PY) -m experiments report

bench: $(VENV)/.installed-bench ## measure jaxnorm beside other libraries, forty minutes on two cores; ARGS are handed on
	$(PY) -m benchmarks.run $(ARGS)

bench-compare: $(VENV)/.installed-bench ## compare two folders of results: make bench-compare OLD=... NEW=...
	$(PY) -m benchmarks.compare $(OLD) $(NEW)

bench-tpu: $(VENV)/.installed-bench-tpu ## count what programs compiled for TPUs need, none has to be there: make bench-tpu VENV=.venv-tpu
	$(PY) -m benchmarks.run static --targets v5e v6e v5p $(ARGS)

bench-cuda: $(VENV)/.installed-bench-cuda ## the same for an H200: make bench-cuda VENV=.venv-cuda
	$(PY) -m benchmarks.run static --targets h200 $(ARGS)

accuracy: $(VENV)/.installed-bench ## write the table of errors beside other libraries, into benchmarks/results/accuracy.md
	$(PY) -m benchmarks.accuracy $(ARGS)

test: $(VENV)/.installed-test ## run the tests
	$(PY) -m pytest -n $(JOBS) --maxprocesses 8 --dist worksteal $(if $(SELECT),-m '$(SELECT)') $(ARGS)

lint: $(VENV)/.installed-dev ## check style with ruff
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

format: $(VENV)/.installed-dev ## format, and fix what ruff can
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

types: $(VENV)/.installed-dev ## check types with mypy --strict
	$(VENV)/bin/mypy

floors: $(VENV)/.installed-dev ## check that imports go downwards only
	$(VENV)/bin/lint-imports

doctest: $(VENV)/.installed-test ## run the examples in docstrings and in the documentation
	$(PY) -m pytest -n $(JOBS) --maxprocesses 8 --dist worksteal --doctest-modules --doctest-glob='*.md' --ignore=docs/skeletons --ignore=docs/_ext --ignore=docs/conf.py jaxnorm docs/*.md

full: ## everything, the heavy checks too: both interpreters with the whole suite, ONNX, compiled programs; takes one to two hours on two cores
	bash .ci/run full

onnx: $(VENV)/.installed-onnx ## run programs converted to ONNX beside the originals; takes an environment of its own: make onnx VENV=.venv-onnx
	$(PY) -m pytest tests/export/test_onnx.py

compiled: $(VENV)/.installed-bench-tpu ## compile for a TPU that is not there and check the counts; takes an environment of its own: make compiled VENV=.venv-tpu
	$(PY) -m pytest tests/benchmarks/static

tables: $(VENV)/.installed-test ## write what is generated: the exports of the zoo, the tables of normalizers and of cells
	$(PY) docs/_ext/zoo_exports.py
	$(PY) docs/_ext/normalizer_table.py
	$(PY) docs/_ext/cell_table.py

examples: $(VENV)/.installed-test ## run every example with --smoke (the tests do so too)
	$(PY) -m pytest -n $(JOBS) --maxprocesses 8 --durations=0 tests/examples/test_examples.py

docs: $(VENV)/.installed-docs ## build the documentation into docs/_build/html, warnings are errors; check its links, and that it needs no network
	$(VENV)/bin/sphinx-build --fail-on-warning --keep-going --quiet -b html docs docs/_build/html
	$(PY) docs/_ext/site_checks.py docs/_build/html
	@echo "open docs/_build/html/index.html"

look: docs ## look at eleven pages of the documentation in Chromium, at two widths; pictures go to docs/_build/pictures
	$(PY) docs/_ext/look.py docs/_build/html docs/_build/pictures

build: $(VENV)/.installed-dev ## build sdist and wheel; install the wheel in an empty environment and run README's example
	rm -rf dist build/wheel-test
	$(PY) -m build --outdir dist
	$(PYTHON) -m venv build/wheel-test
	build/wheel-test/bin/python -m pip --disable-pip-version-check --quiet install dist/*.whl
	$(PY) tests/docs/test_readme.py > build/readme_example.py
	cd build && wheel-test/bin/python readme_example.py

clean: ## remove the virtual environments and everything that was generated
	rm -rf .venv .venv-* build dist docs/_build .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
