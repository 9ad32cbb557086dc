# The project's commands; `make` alone prints them. Each does its own set-up and says what is missing on this machine.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules
# The stages of `make test` share one target directory and stop at the first failure: one after the other.
.NOTPARALLEL:

export CARGO_TARGET_DIR ?= $(CURDIR)/target
export PIP_DISABLE_PIP_VERSION_CHECK := 1

TOOLS := $(CURDIR)/.venv#            for development: ruff, mypy, maturin; `make demo` installs loamy here
WHEELS := $(CURDIR)/.venv-wheels#    made anew from nothing but the built wheels; all Python tests run here
BENCH := $(CURDIR)/.venv-bench#      the release wheel, for `make bench`
TEST_DIST := $(CARGO_TARGET_DIR)/test-dist
# Build scripts look at these: with the same values in every stage, nothing is compiled twice.
export PYO3_PYTHON := $(TOOLS)/bin/python
export PYO3_BUILD_EXTENSION_MODULE := 1
export PYO3_ENVIRONMENT_SIGNATURE = $(shell $(TOOLS)/bin/python -c \
	'import sys; print("cpython-%d.%d-%dbit" % (*sys.version_info[:2], 64 if sys.maxsize > 2**32 else 32))' 2>/dev/null)

PYTEST := $(WHEELS)/bin/python -m pytest
export LOAMY_DIST := $(TEST_DIST)
# The wheels under test are built without optimisation, which loamy would otherwise warn of.
export LOAMY_UNOPTIMISED := 1
export LOAMY_TESTKIT := $(CARGO_TARGET_DIR)/debug/testkit

##@ The two commands

.PHONY: demo
demo: need-build ## build loamy and show it at work: 1,000 mixed requests against the embedded server
	@scripts/venv $(TOOLS)
	@echo "building loamy into .venv (a few minutes the first time)"
	@MATURIN_PEP517_ARGS="--profile demo" $(TOOLS)/bin/python -m pip install --quiet .
	@$(TOOLS)/bin/python examples/quickstart.py

.PHONY: test
test: need-test rustfmt clippy rust wheels contract python network peers ruff mypy stubtest examples packaging ## run everything, in this order, up to the first failure
	@echo; echo "everything passed"

##@ Parts of `make test`

.PHONY: rustfmt clippy rust wheels contract python network peers ruff mypy stubtest examples packaging
rustfmt: need-rust ## Rust is formatted
	@scripts/stage $@ cargo fmt --all --check

clippy: need-rust tools ## Rust lints, warnings denied; the engine without its features too
	@scripts/stage $@ bash -c 'cargo clippy --locked --workspace --all-targets -- -D warnings \
		&& cargo clippy --locked -p loamy --lib --no-default-features -- -D warnings'

rust: need-rust need-crashes tools ## Rust tests, those in the documentation included
	@scripts/stage $@ cargo test --locked --workspace

wheels: need-build tools ## wheels and sdists (unoptimised), installed into an empty environment
	@scripts/stage $@ bash -c 'scripts/dist $(TOOLS)/bin/python dev $(TEST_DIST) && scripts/empty-environment $(WHEELS) $(TEST_DIST)'

contract: need-servers wheels ## the two documented Python APIs, against the originals and the wheels
	@scripts/stage $@ scripts/contract-tests $(WHEELS)/bin/python

python: need-servers testkit wheels ## Python tests, the Python half of the fault cells included
	@scripts/stage $@ $(PYTEST) tests/python tests/faults

network: need-network wheels ## faults of the network itself, in namespaces made for each test (wants root)
	@scripts/stage $@ $(PYTEST) tests/network

peers: need-peers wheels ## real servers in each protocol that they speak, reloaded, restarted and killed under load
	@scripts/stage $@ $(PYTEST) tests/peers

ruff: tools ## Python is formatted and lint-free
	@scripts/stage $@ bash -c '$(TOOLS)/bin/ruff format --check . && $(TOOLS)/bin/ruff check .'

mypy: tools wheels ## types of the package, the stubs, the examples, the benches and the tests
	@scripts/stage $@ bash -c '$(TOOLS)/bin/mypy && (cd benches && $(TOOLS)/bin/mypy .) && scripts/type-tests $(WHEELS)/bin/python'

stubtest: wheels ## the stubs say what the module has
	@scripts/stage $@ $(WHEELS)/bin/python -m mypy.stubtest loamy --mypy-config-file pyproject.toml \
		--allowlist crates/loamy-python/stubtest-allowlist.txt

examples: wheels ## each file of examples/ runs
	@scripts/stage $@ scripts/run-examples $(WHEELS)/bin/python

packaging: wheels ## the built wheels and sdists hold what they promise
	@scripts/stage $@ $(PYTEST) tests/packaging

##@ While you work

.PHONY: format lint types wheel torture bench clean
format: need-rust tools ## format Rust and Python
	cargo fmt --all
	$(TOOLS)/bin/ruff check --fix-only --quiet .
	$(TOOLS)/bin/ruff format .

lint: rustfmt clippy ruff ## all linters

types: mypy stubtest ## all type checks

wheel: need-build tools ## release wheel and sdist of both distributions into dist/
	scripts/dist $(TOOLS)/bin/python release $(CURDIR)/dist

torture: need-rust need-crashes tools ## a job with a journal is killed 200 times at any instant, and resumed (minutes)
	LOAMY_KILLS=200 cargo test --locked -p loamy --test it h5_a_job_that_is_killed -- --nocapture

bench: need-bench wheel ## the speed table, against its rivals (minutes; wants a quiet machine)
	scripts/venv $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet --force-reinstall dist/loamy-*.whl dist/zconcurrent-*.whl
	$(BENCH)/bin/python benches/overloaded.py
	$(BENCH)/bin/python benches/run.py --our-python $(BENCH)/bin/python

clean: ## remove what was built, the environments included
	rm -rf $(CARGO_TARGET_DIR) dist .venv .venv-* .mypy_cache .ruff_cache .pytest_cache .hypothesis

##@ Behind the scenes

.PHONY: help tools testkit need-python need-rust need-crashes need-build need-servers need-peers need-network need-test need-bench
help: ## print this page
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@/ { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

tools: need-python ## make the environment .venv
	@scripts/venv $(TOOLS) build lint

# The same build as `make rust`, so that it costs nothing after it.
testkit: need-rust tools
	@cargo test --quiet --locked --workspace --no-run

need-python:
	@scripts/need python

need-rust:
	@scripts/need cargo rustfmt clippy cc python

need-crashes:
	@scripts/need strace unshare

need-build:
	@scripts/need cargo cc python

need-servers:
	@scripts/need nginx

need-peers:
	@scripts/need nginx apache2 haproxy nghttpd

need-network:
	@scripts/need nginx dnsmasq nft ip

need-test:
	@scripts/need cargo rustfmt clippy cc python nginx apache2 haproxy nghttpd dnsmasq nft ip strace unshare

need-bench:
	@scripts/need cargo cc python nginx h2load wrk curl openssl
