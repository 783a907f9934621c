# `make run` starts the server, `make test` and `make check` are what has to pass.

CARGO ?= cargo
PYTHON ?= python3

.PHONY: help run test release bench bench-quick soak simulate breaks mutants check fmt lint docs deny image spec

help:
	@echo "make run        the server on http://127.0.0.1:8080, data in ./data"
	@echo "make test       all tests, with the services that they need"
	@echo "make check      formatting, lints, documentation"
	@echo "make bench      Parlance beside what it replaces and the fastest broadcasters there are; takes an hour"
	@echo "make bench-quick  a little of it with the build of the tests, against gross regressions only"
	@echo "make simulate   nodes and clients under a seed, SEEDS=10000 times; SEED=7 plays one and prints its trace"
	@echo "make breaks     breaks the code in every way of tests/breaks.rs, and has the simulation find it"
	@echo "make mutants    breaks the use cases and the live side in a thousand ways, MUTANTS='-f FILE' in fewer, against their own tests"
	@echo "make soak       the fault tests, for PARLANCE_SOAK=10m each, with a report"
	@echo "make deny       licences and bans of dependencies"
	@echo "make spec       the checked-in OpenAPI and AsyncAPI documents, anew"
	@echo "make image      the container image parlance:latest"

run:
	$(CARGO) run --release -p parlance-server -- serve

test:
	@command -v cargo-nextest >/dev/null || $(CARGO) install cargo-nextest --locked
	$(PYTHON) tests/services.py -- $(CARGO) nextest run --workspace
	$(CARGO) test --workspace --doc

# A time for each scenario, then optionally people and messages per second: 10m,500,200.
soak: export PARLANCE_SOAK ?= 10m
soak:
	$(PYTHON) tests/services.py -- $(CARGO) nextest run --release -p parlance-server --test soak --profile soak --no-capture

BENCH = $${CARGO_TARGET_DIR:-target}/release/parlance-bench
RESULTS = crates/bench/results

# The server is built separately, so that what is measured is what `make run` starts. ROWS="--row paced --runs 3" and the like.
bench: release
	$(PYTHON) tests/services.py -- $(BENCH) rows --markdown $(RESULTS)/rows.md --svg $(RESULTS)/rows.svg $(ROWS)
	$(PYTHON) tests/services.py -- $(BENCH) curves --markdown $(RESULTS)/curves.md --svg $(RESULTS)/curves.svg

# Built with the tests, to share the libraries that `make test` has built.
bench-quick:
	$(CARGO) build --workspace --bins --tests
	$${CARGO_TARGET_DIR:-target}/debug/parlance-bench quick

release:
	$(CARGO) build --release -p parlance-server
	$(CARGO) build --release -p parlance-bench

check: fmt lint docs

fmt:
	$(CARGO) fmt --all --check

lint:
	$(CARGO) clippy --workspace --all-targets --all-features -- -D warnings

docs:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --document-private-items

SEEDS ?= 10000

simulate:
	PARLANCE_SEEDS=$(SEEDS) $(if $(SEED),PARLANCE_SEED=$(SEED)) $(CARGO) test --release -p parlance-embedded --test simulation -- --nocapture nothing_is_lost

breaks:
	$(CARGO) run -p parlance-embedded --example breaks

# Survivors in live/ are mostly for the simulation to find, or change only what something costs.
mutants:
	@command -v cargo-mutants >/dev/null || $(CARGO) install cargo-mutants --locked
	$(CARGO) mutants --package parlance-application --test-package parlance-application --test-tool nextest --timeout 60 --output target $(MUTANTS)

deny:
	@command -v cargo-deny >/dev/null || $(CARGO) install cargo-deny --locked
	$(CARGO) deny check licenses bans sources

# Regenerates the checked-in documents; a test fails while one is stale.
SPEC = crates/transport/spec

# Replaced only once complete: the build reads the old ones.
spec:
	for document in openapi asyncapi; do \
		$(CARGO) run -p parlance-server -- $$document > $(SPEC)/$$document.new && mv $(SPEC)/$$document.new $(SPEC)/$$document.json || exit 1; \
	done

image:
	docker build --file docker/Dockerfile --tag parlance:latest .
