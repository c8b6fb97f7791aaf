# Two commands do everything: `make run` sets up and trains the demo, `make test` passes the tests. `make help` lists the rest.
.DEFAULT_GOAL := help
.PHONY: help setup run test test-slow lint format benchmark clean
PYTHON ?= python3
bin := .venv/bin

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: .venv/.installed ## make .venv and install the package with its development tools

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(bin)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

run: .venv/.installed ## set up, then train the demo: a ResNet GAN on the chest films of the embedded cohort (minutes)
	$(bin)/python -m medgan_pl.train model=resnet_gan data=chest_xray experiment=demo

test: .venv/.installed ## the tests: CPU, no network, minutes
	PYTHONDONTWRITEBYTECODE= $(bin)/python -m pytest -m 'not slow' -n auto --maxprocesses 4 --dist worksteal

test-slow: .venv/.installed ## the checks that take minutes each: before a release, or after a change of what they guard
	$(bin)/python -m pytest -m slow -n auto --maxprocesses 2

lint: .venv/.installed ## style and format, as CI holds them
	$(bin)/ruff check .
	$(bin)/ruff format --check .

format: .venv/.installed ## mend style and format
	$(bin)/ruff check --fix .
	$(bin)/ruff format .

benchmark: .venv/.installed ## speed of the training step, of the loader, of options and of judging, beside the plain loop
	$(bin)/python -m benchmarks.train_step
	$(bin)/python -m benchmarks.options
	$(bin)/python -m benchmarks.data
	$(bin)/python -m benchmarks.neighbours

clean: ## remove what building and testing leave (not .venv, not outputs)
	rm -rf build dist .pytest_cache .ruff_cache *.egg-info
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
