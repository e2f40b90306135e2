# `make help` lists the targets. Everything is installed into .venv from the hash-pinned files under requirements/.
PYTHON ?= python3
OTHER ?= $(shell for p in python3.12 "$$(pyenv prefix 3.12 2>/dev/null)/bin/python" python3.13; do "$$p" -c "" 2>/dev/null && echo "$$p" && break; done)
BIN := .venv/bin
LOG ?= embedded
.DEFAULT_GOAL := help

.PHONY: help setup other demo test check lint types soak bench peers lock clean

help: ## List the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1	\2/' | expand -t 16

.venv/run.stamp: requirements/run.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/run.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

.venv/kafka.stamp: .venv/run.stamp requirements/kafka.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/kafka.txt
	@touch $@

.venv/dev.stamp: .venv/run.stamp requirements/dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@

setup: .venv/dev.stamp ## Build .venv with everything that tests and checks need

.venv/other.stamp: requirements/run.txt
	$(OTHER) -m venv .venv-other
	.venv-other/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/run.txt
	@mkdir -p .venv && touch $@

other: .venv/other.stamp ## Build .venv-other with another Python (OTHER=python3.12), by which a test rebuilds golden records too

demo: $(if $(filter kafka,$(LOG)),.venv/kafka.stamp,.venv/run.stamp) ## Run the hub's main job on a seeded CRM, HubSpot and Mailchimp (LOG=kafka: on a local broker)
	$(BIN)/hub demo --log $(LOG)

test: .venv/dev.stamp ## Run the tests, on a real PostgreSQL and a real Kafka broker
	-@[ -z "$(OTHER)" ] || $(MAKE) --no-print-directory other
	$(BIN)/python -m pytest --numprocesses 4

check: .venv/dev.stamp lint types ## Lint, types and import direction

lint: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: .venv/dev.stamp
	$(BIN)/mypy

soak: .venv/dev.stamp ## Run the long forms of the promises, and of what tells of the past and of changes: 1,000,000 changes under at least 40 kills, on each log; report in .hub/soak.json
	@mkdir -p .hub
	HUB_LONG=1 HUB_REPORT=.hub/soak.json $(BIN)/python -m pytest --verbose --numprocesses 2 --timeout 7200 tests/promises tests/budgets tests/stages/test_histories.py tests/past tests/changes tests/e2e/test_audit.py

bench: .venv/dev.stamp ## Print events/s of append and consume beside bare aiokafka and stock Faust, of delivery beside poison, and how much of a rate limit is used, how long the past takes to see, how long an edit takes to arrive, and how all that grows
	$(BIN)/python bench/log.py
	$(BIN)/python -m bench.poison
	$(BIN)/python bench/budget.py
	$(BIN)/python -m bench.past
	$(BIN)/python -m bench.rebuild
	$(BIN)/python -m bench.fold
	$(BIN)/python -m bench.floor
	$(BIN)/python -m bench.latency
	$(BIN)/python -m bench.growth

peers: .venv/dev.stamp ## Build the peers that the bench measures beside the hub: Quix Streams in .venv-peers, Kafka Streams by Maven
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/pip install --quiet --disable-pip-version-check --require-hashes -r bench/peers/requirements.txt
	if command -v mvn > /dev/null; then cd bench/peers/streams && \
	  mvn -q -B package dependency:copy-dependencies -DoutputDirectory=target/lib; fi

lock: .venv/dev.stamp ## Write the requirements files anew from pyproject.toml
	for extra in run kafka dev; do \
	  $(BIN)/pip-compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
	    --no-emit-options --no-header --strip-extras --allow-unsafe --extra build \
	    $$(case $$extra in kafka) echo --extra kafka;; dev) echo --extra kafka --extra dev;; esac) \
	    $$([ $$extra = run ] || echo --constraint requirements/run.txt) \
	    --output-file requirements/$$extra.txt pyproject.toml; done

clean: ## Remove the virtual environment and the hub's local state
	rm -rf .venv .venv-other .venv-peers .hub bench/peers/streams/target
