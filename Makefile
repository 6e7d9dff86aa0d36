# `make help` lists the targets. Everything a target needs it makes itself.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PY := PYTHONPATH=tests $(BIN)/python
PYTEST := $(BIN)/python -m pytest
# The test bed needs nothing from .venv, so that it can run while .venv is being installed.
TESTBED := PYTHONPATH=tests $(PYTHON) -m testbed

# These variables choose a cluster of yours for demo, demo-down and test-cluster; docs/try-it.md explains them. They count
# only on make's command line: KUBECONFIG of the environment may name a production cluster.
CLUSTER_VARIABLES := KUBECONFIG CONTEXT REGISTRY LOAD BUILDER BASE_IMAGE OPERATOR_IMAGE JOB_IMAGE FAKE_DRIVER_IMAGE KAFKA_IMAGE STORAGE_CLASS
GIVEN := $(foreach name,$(CLUSTER_VARIABLES) FLIGHTS,$(if $(findstring command line,$(origin $(name))),$(name)))
$(foreach name,$(GIVEN),$(eval demo demo-down test-cluster: export DEDUP_$(name) := $($(name))))
# The test bed's cluster with the images in it, unless the user has chosen another cluster.
CLUSTER := $(if $(filter $(CLUSTER_VARIABLES),$(GIVEN))$(DEDUP_KUBECONFIG),setup,ready)

.PHONY: help
help: ## This list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "%-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: python
python: ## Check the version of Python
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: set PYTHON=python3.11 (found $$($(PYTHON) -V))" >&2; exit 2; }

$(READY): pyproject.toml requirements/build.txt requirements/dev.txt requirements/wheel.cfg | python
	@$(TESTBED) setup

.PHONY: setup
setup: $(READY) ## Python environment in .venv, from the locked requirements

.PHONY: lock
lock: setup ## Lock the newest versions that pyproject.toml allows, with hashes
	$(BIN)/uv pip compile --quiet --upgrade --generate-hashes --no-header --no-emit-index-url --python-version 3.11 requirements/build.in -o requirements/build.txt
	for extra in operator job dev; do $(BIN)/uv pip compile --quiet --upgrade --generate-hashes --no-header --no-emit-index-url --python-version 3.11 --extra $$extra pyproject.toml -o requirements/$$extra.txt; done

.PHONY: generate
generate: setup ## Write the files that are made from the models: CRD, reference, reasons, metrics
	$(BIN)/python crds/generate.py
	$(BIN)/python job/generate_metrics_page.py

.PHONY: lint
lint: setup ## Style, types, layers, chart, stale generated files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python crds/generate.py --check
	$(BIN)/python job/generate_metrics_page.py --check
	"$$($(PY) -m testbed tool helm)" lint --strict charts/dedup-operator

.PHONY: test-unit
test-unit: setup ## Pure parts: no cluster, no Kafka, no Spark
	$(PYTEST) -n 2 tests/unit

.PHONY: test-kafka
test-kafka: setup ## The driver with real Kafka and Spark; uses the test bed's broker if it runs, else one of its own
	$(PYTEST) tests/kafka

.PHONY: test-cluster
test-cluster: $(CLUSTER) ## CRD, operator and chart on the test bed, or on a cluster of yours: KUBECONFIG=…
	$(PYTEST) tests/cluster

.PHONY: test-fault-injection
test-fault-injection: setup ## The operator against a real API server through a proxy that injects faults; DEDUP_SEED=n repeats a sample
	@$(PY) -c 'from fault_injection.control_plane import ensure_programs; ensure_programs()'
	$(PYTEST) tests/fault_injection

.PHONY: test-simulation
test-simulation: setup ## 5,000 seeds of the control plane in a simulated cluster; SEEDS=first:end plays others
	$(PYTEST) -n 2 --dist loadgroup tests/simulation $(if $(SEEDS),--seeds $(SEEDS))

.PHONY: test-faults
test-faults: setup ## Delivery while driver, JVM and broker are killed: the short form of soak
	$(PYTEST) tests/faults

.PHONY: soak
soak: setup ## Delivery of two million records while driver, JVM and broker are killed; SEED=n repeats a run
	$(PY) -m faults $(if $(SEED),--seed $(SEED))

.PHONY: bench-backlog
bench-backlog: setup ## Late records, time and state of a year's backlog in uneven partitions, by both rules for the watermark
	@$(PY) -m bench.backlog

# The longest parts come first. The simulation comes last: it never waits, and fills the time in which the others do.
TIMED_PARTS := tests/cluster tests/faults tests/fault_injection tests/kafka tests/simulation

.PHONY: test
test: python ## Everything that CI runs
	@$(MAKE) -j2 ready checks
	$(PYTEST) -n 3 --dist loadgroup --no-loadscope-reorder --durations=30 --durations-min=20 $(TIMED_PARTS)

.PHONY: checks
checks: ## lint and test-unit; their output comes at the end, in one piece
	@output=$$($(MAKE) lint 2>&1 && $(MAKE) test-unit 2>&1) && echo "$$output" || { echo "$$output"; echo "lint or test-unit failed, see above" >&2; exit 1; }

.PHONY: test-full
test-full: test demo ## What does not fit into `make test`: the demo on the whole flight data, long tests
	$(PYTEST) -m full tests/simulation tests/kafka tests/faults tests/fault_injection tests/cluster

.PHONY: cluster
cluster: python ## One-node Kubernetes with Kafka on this machine; state in .testbed/
	@$(TESTBED) up

.PHONY: ready
ready: python ## setup, cluster and images side by side, which is the fastest way to have all three
	@$(TESTBED) ready

.PHONY: cluster-down
cluster-down: python ## Stop the cluster and leave nothing of it on the machine
	@$(TESTBED) down

.PHONY: images
images: python ## Build the operator and job images and load them into the cluster
	@$(TESTBED) images

.PHONY: demo
demo: $(CLUSTER) ## A DedupJob on a year of flights, checked record by record; on your cluster: KUBECONFIG=… (docs/try-it.md)
	@$(PY) -m demo run

.PHONY: demo-down
demo-down: setup ## Remove the demo from the cluster; the cluster stays
	@$(PY) -m demo remove

.PHONY: clean
clean: ## Remove .venv and caches of the checkout; the cluster and the shared cache stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
