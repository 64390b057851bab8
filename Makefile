# `make` alone lists the targets. Needs Python 3.11 or later; PYTHON=/path/to/python chooses one.
.DEFAULT_GOAL := help
.PHONY: help demo check test test-all env lint docs gpu-check gpu-bench soak clean

help: ## list the targets
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1	/'

demo: ## set up, train the quickstart preset (minutes), print accuracy and curves; DEMO_ARGS adds to the command
	@tools/environment.sh .venv "$(PYTHON)" -e .
	.venv/bin/approxtrain train quickstart $(DEMO_ARGS)

check: ## every few minutes of work: format, lint, types, the quick tests on one Python
	@PYTHON="$(PYTHON)" tools/gate.sh check

test: ## the gate: check, the wheel in an environment of its own, the other Python where versions matter
	@PYTHON="$(PYTHON)" tools/gate.sh test

test-all: ## every case, both Pythons, full optimisation, the installs; an hour or more
	@PYTHON="$(PYTHON)" tools/gate.sh all

env: ## make .venv with the package (editable) and the tools
	@tools/environment.sh .venv "$(PYTHON)" -e . --group dev

lint: env ## format and fix what can be fixed, then check the types
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .
	.venv/bin/pyright --pythonpath .venv/bin/python

docs: ## build the documentation with the API reference into site/
	@tools/environment.sh .venv-docs "$(PYTHON)" --group docs
	.venv-docs/bin/mkdocs build --strict --quiet

gpu-check: ## no GPU needed: compile for an H200, check registers, spills and what a step launches (docs/gpu.md)
	@PYTHON="$(PYTHON)" tools/gpu_check.sh $(GPU_ARGS)

gpu-bench: ## what needs a GPU, as much as fits into 8 minutes; GPU_PYTHON=python3 GPU_DATA=FOLDER GPU_ARGS=... (docs/gpu.md)
	@PYTHON="$(PYTHON)" GPU_PYTHON="$(GPU_PYTHON)" tools/gpu_bench.sh $(if $(GPU_DATA),--data "$(GPU_DATA)") $(GPU_ARGS)

soak: ## hours of kills, failing disks, power cuts and spoilt inputs → results/soak.json; goes on where it ended; SOAK_ARGS="--scale 0.1"
	@tools/environment.sh .venv "$(PYTHON)" -e . --group dev
	.venv/bin/python -m tools.soak $(SOAK_ARGS)

clean: ## remove environments, builds and caches; runs/ stays
	rm -rf .venv .venv-* dist build .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
