.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

help: ## show what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-17s %s\n", $$1, $$2}'

$(READY): pyproject.toml constraints.txt hatch_build.py $(wildcard metering/native/*.p* metering/native/*.h)
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[local,web,dev,docs]'
	@touch $(READY)

SERVE ?=
demo: $(READY) ## from real usage events to a bill and an account that adds up; SERVE=1 keeps it up, with the page
	$(BIN)/metering demo $(if $(SERVE),--serve)

JOBS ?= 2
test: $(READY) ## the tests, on the real parts; JOBS processes, each with parts of its own
	$(BIN)/pytest -q -n $(JOBS) --dist loadfile

test-slow: $(READY) ## the tests that take long: kills, growth, recovery, broken safeguards, the pages
	$(BIN)/pytest -q -n $(JOBS) -m slow

test-web: $(READY) ## the page in a real Chromium, which is installed from the system's packages if there is none
	@command -v chromium >/dev/null || { apt-get -qq update && apt-get install -y -qq chromium; }
	$(BIN)/pytest -q tests/bills tests/web

EVENTS ?= 1000000
SEED ?= 1
MINUTES ?= 6
chaos: $(READY) ## kills, full disks and clock steps under a million events; then everything is compared
	$(BIN)/python -m tests.chaos.run --events $(EVENTS) --seed $(SEED) --minutes $(MINUTES)

SEEDS ?= 1000
simulate-billing: $(READY) ## billing under faults, restarts and outages, a seed each; then Stripe equals the books
	$(BIN)/python -m tests.billing_sync.simulate --seeds $(SEEDS)

SIMULATED = $(if $(filter file,$(origin SEED)),--seeds $(SEEDS),--seed $(SEED) --trace)
simulate: $(READY) ## thousands of seeded runs of the whole engine in memory; SEED=n replays one
	$(BIN)/python -m tests.simulation.run $(SIMULATED)

REPEATS ?= 3
BENCH_EVENTS = $(if $(filter file,$(origin EVENTS)),,--events $(EVENTS))
bench: $(READY) ## the worker and its peers on one Kafka, every total verified; ROWS="peers deep", EVENTS=, REPEATS=
	$(BIN)/python -m bench run $(ROWS) $(BENCH_EVENTS) --repeats $(REPEATS)

bench-check: $(READY) ## the meter fold against a reference loop: fails when it got clearly dearer
	$(BIN)/python -m bench check

bench-page: $(READY) ## docs/performance.md and docs/scaling.md from the committed results
	$(BIN)/python -m bench page
	$(BIN)/python -m bench model

bench-rating: $(READY) ## rows a second: numpy, integers and a Decimal loop side by side
	$(BIN)/python -m tests.bench.bench_rating

bench-whatif: $(READY) ## a month of 100,000 customer-meters rated again under another catalog
	$(BIN)/python -m tests.bench.bench_whatif

bench-dedupe: $(READY) ## 35 days of ids on disk: bytes an id, microseconds an event
	$(BIN)/python -m tests.bench.bench_dedupe

RATE ?= 50000
bench-quota: $(READY) ## what checks, posts and reservations cost, and how soon a client knows; RATE=, WRITE=1
	$(BIN)/python -m tests.bench.bench_quota --rate $(RATE) $(if $(WRITE),--write)

bench-overshoot: $(READY) ## how far clients pass a hard limit, beside the published bounds
	$(BIN)/python -m tests.quota.overshoot

bench-overshoot-stack: $(READY) ## the same on the real stack: client processes at one limit, in every mode
	$(BIN)/python -m tests.client.overshoot

dashboards: $(READY) ## generate the dashboards and their provisioning anew
	$(BIN)/python -W ignore -m dashboards.generate

preview: $(READY) ## the dashboards' numbers of the last demo as pages, in dashboards/preview
	METERING_DATABASE=metering_demo $(BIN)/python -W ignore -m dashboards.preview

ROWS ?= 10000000
bench-dashboards: $(READY) ## every panel over ten million charges, beside its budget
	$(BIN)/python -W ignore -m tests.bench.bench_dashboards --rows $(ROWS)

promtool: ## the tool that tests the Prometheus rules, on Debian
	command -v promtool || apt-get install -y --no-install-recommends prometheus

bench-billing: $(READY) ## lines a second to the Stripe fake; a month of 100,000 customers planned
	$(BIN)/python -m tests.bench.bench_billing

check: $(READY) ## ruff, formatting, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(READY) reference ## the pages as a site in build/docs; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

reference: $(READY) ## the reference pages, from the code
	$(BIN)/python -m tests.docs.reference

install: $(READY) ## everything in .venv

clean: ## stop the local parts and remove what was made here
	-@test ! -x $(BIN)/metering || $(BIN)/metering local down
	rm -rf .metering .venv build .pytest_cache .mypy_cache .ruff_cache .hypothesis

.PHONY: help demo test test-slow test-web chaos simulate simulate-billing bench bench-check bench-page bench-rating bench-whatif \
	bench-dedupe bench-quota bench-overshoot bench-overshoot-stack bench-billing dashboards preview bench-dashboards promtool \
	check docs reference install clean
