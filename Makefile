# All that a newcomer needs; `make help` lists it.
SHELL := /bin/bash
.DEFAULT_GOAL := help

GO      ?= go
TAGS    := faults
BIN     := bin/lockstep
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
TIMEOUT ?= 12m
SECONDS ?= 90
SEED    ?= 1

.PHONY: help install build up down demo examples test bench k6 chaos guards mutants lint charts clean

help: ## list the targets
	@grep -hE '^[a-z0-9]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

install: ## install what is missing (Debian, Ubuntu or Homebrew packages)
	@bash deploy/install.sh

build: install ## build bin/lockstep, with fault points that act only where the configuration names them
	@$(GO) build -tags $(TAGS) -ldflags "-X main.version=$(VERSION)" -o $(BIN) .

up: build ## start the local cluster; DETACH=1 returns when all is ready, ARGS="--nodes 3" changes it
	@$(BIN) up $(if $(DETACH),--detach) $(ARGS)

down: ## stop the local cluster
	@$(BIN) down $(ARGS)

demo: build ## deposits, transfers, holds, and the proof that no money was lost
	@$(BIN) demo $(ARGS)

test: ## all tests, on real servers and with the race detector; installs a browser, too
	@bash deploy/install.sh --tests
	@bash deploy/test.sh

examples: build ## the neighbours beside the running local cluster, with a tour of each; ARGS="petstore" for one
	@for example in $(or $(ARGS),ticketoffice petstore lockinglab); do \
		echo "== $$example"; $(GO) run ./examples/$$example tour --credentials .lockstep/credentials.json || exit 1; done

bench: build ## the engine against SQL by hand, as ratios measured in one run
	@$(BIN) bench $(ARGS)

k6: build ## load, storms, faults by k6, which it compiles once; ARGS=smoke runs one script
	@bash deploy/k6.sh $(ARGS)

chaos: build ## clients under faults, and the proof that no money was lost; SECONDS=600 SEED=2
	@cd deploy/tools/toxiproxy && $(GO) build -o $(CURDIR)/.lockstep/bin/toxiproxy-server tool
	@$(GO) run ./cluster/chaos/run --seconds $(SECONDS) --seed $(SEED) $(ARGS)

guards: build ## let the chaos suite find builds that lack a guard; minutes for each, ARGS="row-lock"
	@cd deploy/tools/toxiproxy && $(GO) build -o $(CURDIR)/.lockstep/bin/toxiproxy-server tool
	@$(GO) run ./cluster/chaos/guards $(ARGS)

mutants: ## remove each guard and see its test fail
	@bash deploy/install.sh --tests
	@$(GO) run -tags $(TAGS) ./deploy/mutants $(ARGS)

lint: ## gofumpt and golangci-lint; compiles them once
	@bash deploy/lint.sh

charts: ## the Helm chart, by Helm itself; compiles it once, which takes some minutes
	@bash deploy/charts.sh

clean: ## remove what was built, and the test servers; the cluster's data stays
	-@$(GO) run ./cluster/local/servers/keeper stop
	@rm -rf bin .lockstep/test .lockstep/bin
