# `make` alone lists the targets. Needs Python 3.11 or later; PYTHON=/path/to/python chooses one.
.DEFAULT_GOAL := help
.PHONY: help demo test env lint clean

help: ## list the targets
	@grep -E '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1	/'

demo: ## set up, train the quickstart preset (minutes), print accuracy and curves; DEMO_ARGS adds to the command
	@scripts/environment.sh .venv "$(PYTHON)" -e .
	.venv/bin/approxtrain train quickstart $(DEMO_ARGS)

test: ## the one gate: format, lint, types, tests, the wheel elsewhere, the other Python
	@PYTHON="$(PYTHON)" scripts/gate.sh

env: ## make .venv with the package (editable) and the tools
	@scripts/environment.sh .venv "$(PYTHON)" -e . --group dev

lint: env ## format and fix what can be fixed, then check the types
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .
	.venv/bin/pyright --pythonpath .venv/bin/python

clean: ## remove environments, builds and caches; runs/ stays
	rm -rf .venv .venv-* dist build .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
