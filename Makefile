# Every target works from a fresh clone: it sets up what is missing first.
.DEFAULT_GOAL := help
.PHONY: help setup reference demo test lint format bench accuracy docs package deploy clean
SHELL := /bin/bash
PYTHON := .venv/bin/python

# Both must be there before Python starts: QGIS 3.22 aborts without a display, and packages of the user's own
# (~/.local) would come before the system's numpy.
export QT_QPA_PLATFORM := offscreen
export PYTHONNOUSERSITE := 1

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup: ## Install what is missing: QGIS (apt), .venv, a QGIS profile of its own
	@scripts/setup.sh

reference: ## The same, and pydensecrf2, which tests and benchmarks compare with
	@scripts/setup.sh reference

demo: setup ## Map water on a real scene, through qgis_process (own files: SCENE=... LABELS=...)
	$(PYTHON) scripts/demo.py

test: reference ## Run the whole test suite (some of it: ARGS='-k chips')
	$(PYTHON) -m pytest $(ARGS)

lint: setup ## Check style and common mistakes
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

format: setup ## Format the code
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

bench: reference ## Measure speed and peak memory
	$(PYTHON) benchmarks/bench.py $(ARGS)

accuracy: setup ## Train on real chips, compare with water indices on held-out places
	$(PYTHON) benchmarks/accuracy.py $(ARGS)

docs: setup ## Write the reference page of all algorithms
	$(PYTHON) scripts/make_docs.py

package: ## Make the plugin's zip for QGIS (dist/)
	@scripts/package.sh

deploy: ## Install the plugin into your own QGIS profile (LINK=1: a link to this clone)
	@scripts/deploy.sh

clean: ## Remove what was made (ALL=1: also .venv, the profile and downloads)
	rm -rf build dist demo benchmarks/out .pytest_cache .ruff_cache .hypothesis $(if $(ALL),.venv .qgis-profile .cache .setup-lock)
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
