# Two commands are all a newcomer needs: `make run` and `make test`.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.NOTPARALLEL:

LISTEN ?= 127.0.0.1:8080
ARGS ?=
MINUTES ?= 10
PART ?= routing
PYTEST_ARGS ?=
BENCH ?= run
KILLS ?= 200
RAY := 2.60.0
CLUSTER_PACKAGES := slurmctld slurmd slurmrestd slurm-client slurm-wlm-jwt-plugin munge redis-server
# The others name their servers; `make e2e` runs them.
BEHIND_GUNICORN := $(filter-out %/test_doors.py %/test_client_matrix.py %/test_kills.py %/test_gunicorn.py %/test_bench.py %/test_api_streams.py,$(wildcard tests/e2e/test_*.py))

# The interface is served by what is not compiled; the others make programs of their own, or change
# a constant of the program.
COMPILED := $(filter-out %/test_bench.py %/test_client_matrix.py %/test_development.py %/test_kills.py %/test_wheel.py,$(wildcard tests/e2e/test_*.py tests/e2e/raw/test_*.py))

# Unit tests of what is compiled, but for those that put something else in place of a part of it.
COMPILED_UNITS := $(addprefix tests/,fuzz http logs proxy routing server telemetry)
REPLACING := $(addprefix tests/,logs/test_hub.py telemetry/test_recorder.py \
	server/test_connection.py http/test_auth.py $(addprefix proxy/test_,dispatch.py loading.py parser.py \
	request.py selected.py stream.py))

# The newest-named python3 may be too old while a python3.12 stands beside it.
ifndef PYTHON
PYTHON := $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
endif

# Tests start the same programs hundreds of times: compiled modules are kept, whatever the shell says.
unexport PYTHONDONTWRITEBYTECODE

BIN := .venv/bin
ENVIRONMENT = $(PYTHON) scripts/environment.py
UV := 0.13.9
COMPILE_VERSIONS := uv pip compile --quiet --universal --python-version 3.11 --upgrade --no-annotate \
	--no-emit-index-url --custom-compile-command "make constraints"
ON_CLUSTERS = LLMSNAP_TEST_LANE=7 LLMSNAP_RAY=build/ray LLMSNAP_SLURM=1 $(BIN)/python -m pytest -q --durations=10
say = @printf '\n== %s\n' "$(1)"

.PHONY: help python run demo dev test lint types unit minimum newest e2e e2e-cluster compiled e2e-gunicorn kills bench coverage mutants \
	fuzz soak clients format docs constraints release first-minutes clean

help:  ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*  ## /\1\t/p' Makefile | expand -t 14

run: python  ## start the demo: two small models behind one address (LISTEN=HOST:PORT, ARGS=...)
	@$(ENVIRONMENT) demo?
	@exec $(BIN)/python scripts/demo.py run $(LISTEN) $(ARGS)

demo: python  ## try again to install what the demo serves, after a failure
	@rm -f .venv/stamps/demo
	@$(ENVIRONMENT) demo

dev: python
	@$(ENVIRONMENT) dev

test:  ## everything a change has to pass: lint types unit e2e
	@echo "lint, types, unit and end-to-end tests: about 6 and a half minutes on 2 cores, and 1 more to install them"
	@$(MAKE) --no-print-directory lint types unit e2e
	$(call say,all checks passed)

lint: dev  ## style, format and spelling
	$(call say,lint)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell

types: dev  ## mypy
	$(call say,types)
	$(BIN)/mypy llmsnap scripts

unit: dev  ## fast tests
	$(call say,unit tests)
	$(BIN)/python scripts/side_by_side.py unit $(PYTEST_ARGS)

minimum: python  ## unit tests on the oldest versions that setup.py allows
	@$(ENVIRONMENT) --folder build/minimum --versions scripts/minimum.txt dev
	$(call say,unit tests on the oldest versions)
	build/minimum/bin/python scripts/side_by_side.py unit $(PYTEST_ARGS)

newest: python  ## unit and end-to-end tests on the newest version of everything
	rm -rf build/newest
	@$(ENVIRONMENT) --folder build/newest --versions newest dev demo?
	$(call say,unit and end-to-end tests on the newest versions)
	build/newest/bin/python scripts/side_by_side.py unit $(PYTEST_ARGS)
	build/newest/bin/python scripts/side_by_side.py e2e $(PYTEST_ARGS)

constraints: python  ## renew scripts/constraints.txt and scripts/lock.txt with today's versions
	$(PYTHON) -m venv build/uv
	build/uv/bin/pip install --quiet --disable-pip-version-check uv==$(UV)
	build/uv/bin/$(COMPILE_VERSIONS) --all-extras setup.py --output-file scripts/constraints.txt
	build/uv/bin/$(COMPILE_VERSIONS) --extra image --generate-hashes --constraints scripts/constraints.txt \
		setup.py --output-file scripts/lock.txt

e2e: dev  ## the real command with real children
	@$(ENVIRONMENT) demo?
	$(call say,end-to-end tests)
	@$(BIN)/python scripts/demo.py explain
	@$(BIN)/python scripts/side_by_side.py e2e $(PYTEST_ARGS)

compiled: dev  ## tests with the hot path compiled, as in the release wheels
	$(call say,unit tests of what is compiled)
	@$(BIN)/python scripts/compiled.py $(abspath $(BIN))/python -m pytest -q -m "not e2e" $(COMPILED_UNITS) $(addprefix --ignore=,$(REPLACING)) $(PYTEST_ARGS) || [ $$? = 5 ]  # none was selected
	$(call say,end-to-end tests of what is compiled)
	@$(BIN)/python scripts/compiled.py $(abspath $(BIN))/python scripts/side_by_side.py e2e $(COMPILED) $(PYTEST_ARGS)

e2e-gunicorn: dev  ## the same behind gunicorn, as far as a test does not name a server itself
	@$(ENVIRONMENT) demo?
	$(call say,end-to-end tests behind gunicorn)
	@LLMSNAP_TEST_SERVER=gunicorn $(BIN)/python scripts/side_by_side.py e2e $(BEHIND_GUNICORN) $(PYTEST_ARGS)

e2e-cluster: python  ## real clusters of Ray and Slurm: placing, swaps, and what is lost when parts are killed (Linux, root)
	@for program in slurmctld slurmd slurmrestd scontrol munged redis-server; do PATH=$$PATH:/usr/sbin \
		command -v $$program >/dev/null || { echo "first: apt install $(CLUSTER_PACKAGES)"; exit 1; }; done
	@test "$$(id -u)" = 0 || { echo "as root: each node has a PID namespace"; exit 1; }
	@$(MAKE) --no-print-directory dev
	@$(ENVIRONMENT) demo?
	@test -x build/ray/bin/ray || { $(PYTHON) -m venv build/ray && build/ray/bin/pip install -q "ray[default]==$(RAY)"; }
	$(call say,the contract of launchers: local and fake ones)
	@$(BIN)/python -m pytest -q $(PYTEST_ARGS) tests/launchers/test_contract.py
	$(call say,the contract of launchers: real clusters)
	@$(ON_CLUSTERS) -k "ray or slurm" $(PYTEST_ARGS) tests/launchers/test_contract.py
	$(call say,llmsnap with real clusters)
	@$(ON_CLUSTERS) -m e2e $(PYTEST_ARGS) tests/e2e/test_cluster.py
	$(call say,all tests on clusters passed)

kills: dev  ## kill llmsnap 200 times at random moments (KILLS=N) and look for what is left
	LLMSNAP_KILLS=$(KILLS) $(BIN)/python -m pytest -q -m e2e -k nothing_outlives $(PYTEST_ARGS) tests/e2e/test_kills.py

coverage: dev  ## unit tests with branch coverage
	$(BIN)/coverage run -m pytest -q -m "not e2e" $(PYTEST_ARGS)
	$(BIN)/coverage report

mutants: dev  ## how many changes of the code its tests notice (PART=routing, residency or http1; MINUTES)
	$(BIN)/python scripts/mutation.py $(PART) --minutes $(MINUTES)

bench: dev  ## measure on this machine (BENCH="nodelay" for another of bench/)
	@$(BIN)/python scripts/compiled.py true
	@for name in $(BENCH); do printf '\n== %s\n' $$name; $(BIN)/python bench/$$name.py $(ARGS) || exit 1; done

fuzz: dev  ## mutate what comes from outside, MINUTES for each fuzzer (ARGS="head --seed 1")
	@$(ENVIRONMENT) fuzz?
	@$(BIN)/python -m tests.fuzz --minutes $(MINUTES) $(ARGS)

soak: dev  ## a real llama-server for MINUTES, with kills, reloads, swaps and clients that leave
	@$(ENVIRONMENT) demo?
	@$(BIN)/python -m tests.soak --minutes $(MINUTES) $(ARGS)

clients: dev  ## the newest SDKs and odd parsers in front of models that load long, fail and die
	@$(BIN)/python -m tests.clients $(ARGS)

docs: dev  ## write what derives from routes, configuration keys and tests: tables in docs/, the schema, the example
	@$(BIN)/python -m scripts.docs
	@$(BIN)/python -m scripts.reference
	@$(BIN)/python -m scripts.parity

format: dev  ## rewrite the code in the house format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

release: python  ## build sdist and wheel and check them; publishes nothing
	@$(ENVIRONMENT) release
	rm -rf build dist
	$(BIN)/python -m build
	$(BIN)/python -m twine check --strict dist/*

first-minutes:  ## measure clone, install, first answer and the tests, with an empty home and cache
	scripts/first_minutes.sh

clean:  ## remove what the other targets made here (the model's cache stays)
	rm -rf .venv build dist *.egg-info llmsnap__mypyc*.so
	find llmsnap -name '*.so' -delete
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

python:
	@test -n "$(PYTHON)" || { echo "llmsnap needs Python 3.11 or later; $$(python3 --version 2>&1)"; exit 1; }
