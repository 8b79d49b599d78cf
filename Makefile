# One word for each thing that people do with this project. `make serve` needs git, make and Python 3.11 or later.

PYTHON ?= python3
VENV := .venv
IN := $(VENV)/bin
RECIPE ?= mnist

.DEFAULT_GOAL := help
.PHONY: help serve train test coverage test-ray test-container lint format tables locks figures bench bench-quick bench-gpu bench-train bench-pretrained bench-anomalies fuzz siege soak audit clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' Makefile

serve: $(VENV)/.use ## serve the models of the store on port 8000 (settings: python -m service --help)
	$(IN)/python -m service $(ARGS)

train: $(VENV)/.use ## train and publish a model: make train RECIPE=mnist [DATA=DIR] [ARGS='--set epochs=3']
	$(IN)/python -m training $(RECIPE) $(if $(DATA),--data $(DATA)) $(ARGS)

test: $(VENV)/.dev ## run the tests
	$(IN)/python -m pytest $(ARGS)

# This test raises an exception in a thread from outside. Under coverage's tracer the test never ends.
NOT_TRACED := tests/service/compute/test_device_thread.py::test_callers_of_a_thread_that_dies_are_answered

coverage: $(VENV)/.dev ## run the tests and list the lines and branches that they miss
	$(IN)/coverage erase
	$(IN)/coverage run -m pytest --deselect $(NOT_TRACED) $(ARGS)
	$(IN)/coverage combine --quiet
	$(IN)/coverage report

test-ray: $(VENV)-ray/.use ## the tests on a cluster of two Ray nodes on this machine
	$(VENV)-ray/bin/python -m pytest tests/deploy --log-cli-level=info $(ARGS)

test-container: $(VENV)/.dev ## build the images and run them as the compose file says: make test-container CONTAINER_TOOLS=DIR
	CONTAINER_TOOLS=$(CONTAINER_TOOLS) $(IN)/python -m pytest tests/deploy/test_container.py $(ARGS)

lint: $(VENV)/.dev ## style, types and spelling
	$(IN)/ruff format --check .
	$(IN)/ruff check .
	$(IN)/mypy
	$(IN)/codespell

format: $(VENV)/.dev ## correct the style
	$(IN)/ruff format .
	$(IN)/ruff check --fix .

tables: $(VENV)/.use ## bring the tables of docs/settings.md and docs/recipes.md and the tree of docs/architecture.md up to date
	$(IN)/python -m docs.make_tables

locks: $(VENV)-locks/bin/uv $(VENV)/.use ## the exact packages of the images, with their hashes, into deploy/locks
	PATH=$(abspath $(VENV)-locks/bin):$$PATH $(IN)/python -m deploy.make_locks

figures: $(VENV)/.use ## the figures of docs/theory.md: make figures [DATA=DIR]
	$(IN)/python -m docs.make_figures $(if $(DATA),--data $(DATA)) $(ARGS)

bench: $(VENV)/.use ## our service beside its peers, into docs/benchmarks.md: make bench [DATA=DIR] (an hour; wants wrk)
	$(IN)/python -m benchmarks.serving $(if $(DATA),--data $(DATA)) $(ARGS)

bench-quick: $(VENV)/.use ## three cases of the same in about two minutes, printed only
	$(IN)/python -m benchmarks.serving --quick $(if $(DATA),--data $(DATA)) $(ARGS)

bench-gpu: $(VENV)/.use ## on a GPU: our service beside the bare loop, into docs/benchmarks.md
	$(IN)/python -m benchmarks.gpu --out docs/benchmarks.md $(ARGS)

bench-train: $(VENV)/.use ## our training loop beside a plain one, the bare step and Pythae, into docs/benchmarks.md
	$(IN)/python -m benchmarks.training --out docs/benchmarks.md $(ARGS)

bench-pretrained: $(VENV)/.dev ## pretrained autoencoders beside diffusers in a route: make bench-pretrained TAEF2=DIR PHOTO=FILE
	$(IN)/python -m benchmarks.pretrained --taef2 $(TAEF2) --photo $(PHOTO) --out docs/benchmarks.md $(ARGS)

bench-anomalies: $(VENV)/.use ## which statistic tells which unusual image: make bench-anomalies MNIST=DIR FASHION=DIR PHOTOS=DIR
	$(IN)/python -m benchmarks.anomalies --mnist $(MNIST) --fashion $(FASHION) --photos $(PHOTOS) --out docs/anomalies.md $(ARGS)

fuzz: $(VENV)/.dev ## look for inputs that break the service, into docs/reliability.md (ten minutes)
	$(IN)/python -m tests.reliability.fuzz --out docs/reliability.md $(ARGS)

siege: $(VENV)/.dev ## a good client beside hundreds of hostile ones, and what one request may cost, into docs/reliability.md
	$(IN)/python -m tests.reliability.siege --out docs/reliability.md $(ARGS)
	$(IN)/python -m tests.reliability.costs --out docs/reliability.md
	$(IN)/python -m tests.reliability.all_at_once --out docs/reliability.md

soak: $(VENV)/.dev ## mixed traffic for ten minutes, and whether memory grows, into docs/reliability.md
	$(IN)/python -m tests.reliability.soak --minutes 10 --out docs/reliability.md $(ARGS)

audit: $(VENV)-audit/bin/pip-audit ## look for known vulnerabilities of the pinned dependencies in a public database
	$< --requirement constraints.txt --no-deps --disable-pip --strict

clean: ## remove the environments and caches that make has made
	rm -rf $(VENV) $(VENV)-* .mypy_cache .pytest_cache .ruff_cache .coverage .coverage.*

# One call of pip, so that torch and the packages that depend on it are installed at their pinned versions together.
INSTALL = $(IN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable

$(VENV)/.use: pyproject.toml constraints.txt | $(VENV)
	$(INSTALL) '.[onnxruntime,training]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)
	$(INSTALL) '.[dev]'
	@touch $@ $(VENV)/.use

$(VENV)-ray/.use: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)-ray
	$(VENV)-ray/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,ray]'
	@touch $@

$(VENV)-audit/bin/pip-audit:
	$(PYTHON) -m venv $(VENV)-audit
	$(VENV)-audit/bin/pip install --quiet --disable-pip-version-check 'pip-audit>=2.9'

$(VENV)-locks/bin/uv:
	$(PYTHON) -m venv $(VENV)-locks
	$(VENV)-locks/bin/pip install --quiet --disable-pip-version-check 'uv>=0.9'

$(VENV):
	$(PYTHON) -m venv $(VENV)
