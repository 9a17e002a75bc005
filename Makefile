# Needs Python 3.11 or newer and make. Everything else is installed at the versions of constraints.txt: what the demos
# need into .venv-demo, what developers need into .venv.

# The first that runs, is new enough and can make environments. A shim on the PATH may stand for a version not installed.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import ensurepip, sqlite3, ssl, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& { echo $$python; break; }; done)
BIN := .venv/bin
INSTALLED := .venv/.installed
DEMO := .venv-demo/bin
DEMO_INSTALLED := .venv-demo/.installed
PYTEST_ARGS ?=

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo demo-check demo-flask demo-flask-check demo-fastapi demo-fastapi-check test test-all lint docs bench clean

help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-19s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(DEMO_INSTALLED) ## Serve the example site with two tenants and print its addresses
	$(DEMO)/python -u examples/django_saas/demo.py

demo-check: $(DEMO_INSTALLED) ## Walk through the example site without a person
	$(DEMO)/python -u examples/django_saas/demo.py --check

demo-flask: $(DEMO_INSTALLED) ## Serve the Flask example
	$(DEMO)/python -u examples/flask_app/demo.py

demo-flask-check: $(DEMO_INSTALLED) ## Walk through the Flask example without a person
	$(DEMO)/python -u examples/flask_app/demo.py --check

demo-fastapi: $(DEMO_INSTALLED) ## Serve the FastAPI example
	$(DEMO)/python -u examples/fastapi_chat/demo.py

demo-fastapi-check: $(DEMO_INSTALLED) ## Walk through the FastAPI example without a person
	$(DEMO)/python -u examples/fastapi_chat/demo.py --check

test: lint ## Run the linters, the type checker and every test
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal $(PYTEST_ARGS)

test-all: $(INSTALLED) ## The same, other releases of SDKs, a minute of fuzzing, and the Pythons and Djangos found here
	$(BIN)/nox --sessions published_client uwsgi --install-only
	$(MAKE) test
	$(BIN)/nox

lint: $(INSTALLED) ## Run the linters and the type checker
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(INSTALLED) ## Build the documentation site into site/, strictly
	$(BIN)/mkdocs build --strict --quiet

bench: $(INSTALLED) ## Measure what the suite costs per call and per request
	$(BIN)/python benchmarks/run.py

clean: ## Remove the environments and everything generated
	rm -rf .venv .venv-demo .nox .mypy_cache .ruff_cache .pytest_cache build dist site artifacts examples/*/.demo
	find . -name __pycache__ -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml constraints.txt
	$(call install,.venv,dev)

$(DEMO_INSTALLED): pyproject.toml constraints.txt
	$(call install,.venv-demo,demo)

define install # an environment, and the extra it gets
	@test -n "$(PYTHON)" || { \
		echo "No Python 3.11 or newer with the venv module was found. Install it (on Debian: python3 and" \
			"python3-venv) or name it: make PYTHON=/path/to/python3" >&2; exit 1; }
	test -x $(1)/bin/python || $(PYTHON) -m venv $(1)
	$(1)/bin/python -m pip install --quiet --editable '.[$(2)]' --constraint constraints.txt
	@touch $(1)/.installed
endef
