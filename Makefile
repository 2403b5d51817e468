# Tidewatch: every target says what it does in `make help`.

export CARGO_TARGET_DIR ?= $(HOME)/.cache/tidewatch/target
LADDER := it/ladder
SECONDS ?=

.DEFAULT_GOAL := help

help: ## lists the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: ## fetches crates and the jars of real Kafka into the cache, once per machine
	@cargo fetch --locked --quiet
	@$(LADDER) setup

build: ## builds the product's programs
	@cargo build --locked --workspace --bins

demo: ## collector, topics, aggregator and a live table on the embedded broker; SECONDS=30 ends by itself
	@it/demo $(SECONDS)

check: ## the inner loop: format, lints, house rules, unit tests
	@$(LADDER) check

test: setup ## the contract: every rung of the test ladder, real Kafka included
	@$(LADDER) test

soak: setup ## the long form of what is short in `make test`
	@$(LADDER) soak

test-redpanda: ## the suites for a real Kafka against Redpanda in a container; needs Docker
	@it/redpanda

mutants: ## breaks the product on purpose, patch by patch, and wants each patch's test to fail
	@it/mutants/run

bench: ## ns per record beside a floor measured in the same run
	@$(LADDER) bench

check-no-c: ## proves that the product's build compiles and links no C
	@$(LADDER) no-c

dist: ## static programs for every target, packed: tarballs, .debs and their SHA-256 sums
	@dist/build
	@dist/package

dist-check: ## proves what `make dist` made: static, no C, delivering; the packages installed and purged
	@dist/check
	@dist/check-packages

dist-twice: ## builds and packs twice, in two folders, and wants the same bytes
	@dist/check-reproducible

fmt: ## formats the sources
	@cargo fmt --all

doc: ## builds the documentation of the crates
	@cargo doc --locked --workspace --no-deps

clean: ## removes what was built
	@cargo clean

.PHONY: help setup build demo check test soak test-redpanda mutants bench check-no-c dist dist-check dist-twice fmt doc clean
