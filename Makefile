# Pollux: `make run` to see it, `make test` to trust it.
SHELL      := /bin/bash
GO         ?= go
# For all there is: what is compiled for the program serves vet, staticcheck and the tools, too. The tag spares compiling a zstd in C, which nothing uses.
export GOFLAGS := $(strip $(GOFLAGS) -trimpath -tags=pebblegozstd)
TOOL       := $(GO) tool -modfile=tools.mod
BUF        := web/node_modules/.bin/buf
VERSION    ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
DRIVERS    := pjlink tasmota $(patsubst drivers/library/%/main.go,%,$(wildcard drivers/library/*/main.go))
ENGINE     := drivers/js/dist/engine.wasm.zst
DRIVER_BIN := $(DRIVERS:%=bin/drivers/%.wasm)
SCRIPTS    := $(foreach d,$(wildcard drivers/library/*),$(wildcard $(d)/$(notdir $(d)).js))
SCRIPT_ZST := $(foreach s,$(SCRIPTS),drivers/catalog/dist/$(basename $(notdir $(s))).js.zst)
RUST       := $(patsubst drivers/library/%/Cargo.toml,%,$(wildcard drivers/library/*/Cargo.toml))
CATALOG    := $(DRIVERS:%=drivers/catalog/dist/%.wasm.zst)
PROTO      := $(shell find proto -name '*.proto')
WEB_SRC    := $(shell find web -type f -not -path '*/node_modules/*' -not -path 'web/dist/*' -not -name '*.go')
SDK_SRC    := $(shell find drivers/sdk -name '*.go')

.DEFAULT_GOAL := help
.PHONY: help run build test test-go test-web e2e chaos soak bench conformance lint proto proto-check platforms clean cross

help: ## show this list
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: build ## build everything and start a simulated building on one node, or on NODES=3
	@bin/pollux serve --demo $(if $(filter-out 1,$(NODES)),--demo-nodes $(NODES) --data data/demo-$(NODES),--data data/demo) $(ARGS)

build: $(DRIVER_BIN) bin/pollux ## build bin/pollux, with drivers and console inside
	@echo "built bin/pollux ($$(du -h bin/pollux | cut -f1)), version $(VERSION)"

bin/pollux: $(CATALOG) $(ENGINE) $(SCRIPT_ZST) build/rust.stamp web/dist/index.html FORCE
	@echo "building bin/pollux"
	@$(GO) build -ldflags='-s -w -X main.version=$(VERSION)' -o $@ ./cmd/pollux

FORCE:

.SECONDARY: $(DRIVER_BIN)

define go_driver
@mkdir -p bin/drivers build/guests
@echo "building driver $*"
@GOOS=wasip1 GOARCH=wasm $(GO) build -buildvcs=false -buildmode=c-shared -ldflags=-w -o build/guests/$*.wasm ./$(<D)
@$(GO) run ./drivers/sdk/pack -manifest $< -o $@ build/guests/$*.wasm
endef

bin/drivers/%.wasm: drivers/%/driver.json $(SDK_SRC) FORCE
	$(go_driver)

bin/drivers/%.wasm: drivers/library/%/driver.json $(SDK_SRC) FORCE
	$(go_driver)

drivers/catalog/dist/%.wasm.zst: bin/drivers/%.wasm
	@$(GO) run ./drivers/catalog/pack $<

drivers/js/engine/node_modules/.package-lock.json: drivers/js/engine/package-lock.json
	@echo "fetching the JavaScript engine"
	@cd drivers/js/engine && npm ci --no-audit --no-fund --loglevel=error

build/engine.wasm: drivers/js/engine/node_modules/.package-lock.json $(wildcard drivers/js/engine/*.*)
	@echo "building the JavaScript engine"
	@mkdir -p build && node drivers/js/engine/build.mjs $@

$(ENGINE): build/engine.wasm
	@$(GO) run ./drivers/js/pack $< $@

$(SCRIPT_ZST) &: $(SCRIPTS) $(ENGINE) $(wildcard drivers/js/sdk/*)
	@$(GO) run ./drivers/catalog/pack $(SCRIPTS)
	@touch $(SCRIPT_ZST)

build/rust.stamp: $(wildcard drivers/library/*/src/*.rs drivers/library/*/Cargo.toml drivers/sdk/rust/src/*.rs)
	@$(GO) run ./drivers/project/rust -o bin/drivers $(RUST:%=drivers/library/%)
	@for d in $(RUST); do test ! -f bin/drivers/$$d.wasm || $(GO) run ./drivers/catalog/pack bin/drivers/$$d.wasm || exit 1; done
	@mkdir -p build && touch $@

test/peers/node_modules/.package-lock.json: test/peers/package-lock.json
	@echo "fetching the independent peers of the drivers' tests"
	@cd test/peers && npm ci --no-audit --no-fund --loglevel=error

web/node_modules/.package-lock.json: web/package-lock.json
	@echo "fetching the console's libraries"
	@cd web && npm ci --no-audit --no-fund --loglevel=error

web/dist/index.html: web/node_modules/.package-lock.json $(WEB_SRC) $(PROTO)
	@echo "building the console"
	@cd web && npm run --silent build
	@touch $@

test: build test/peers/node_modules/.package-lock.json ## every test, with the race detector, and the console in a real browser
	@echo "testing the packages (race detector on)"
	@# The packages that take longest go first. The program that tests run is the one built above; the race detector would sleep a second at each package's end.
	@# A test that fails is tried twice more, unless more than ten fail or a data race was seen; a third failure is one.
	@# What passed only then is listed: it is a bug of the test or of the program, and is to be mended.
	@# The vet of go test is left out: "make lint" vets more.
	@mkdir -p build && rm -f build/flaky.txt
	@CGO_ENABLED=1 POLLUX_BIN=$(CURDIR)/bin/pollux GORACE=atexit_sleep_ms=0 $(TOOL) gotestsum --format pkgname-and-test-fails \
		--rerun-fails=2 --rerun-fails-max-failures=10 --rerun-fails-abort-on-data-race --rerun-fails-report=build/flaky.txt \
		--packages="./actors ./test ./test/chaos ./rpc ./cmd/pollux ./..." -- -race -vet=off -p 3 -timeout 40m
	@if [ -s build/flaky.txt ]; then echo "passed only when tried again, to be mended:"; cat build/flaky.txt; fi
	@echo "testing the console without a browser"
	@cd web && npm test --silent
	@$(MAKE) --no-print-directory e2e

e2e: build ## the console in headless Chromium against a real node
	@echo "testing the console in Chromium"
	@cd web && npm run --silent e2e

SEED    ?= 0
SECONDS ?= 180
chaos: build ## three nodes under load and harm for SECONDS=180, drawn from SEED=; prints what was done and checked
	@POLLUX_BIN=$(CURDIR)/bin/pollux $(GO) test -count=1 -timeout 60m -run '^TestChaos$$' -v ./test/chaos -args -seed $(SEED) -seconds $(SECONDS)

soak: build ## 2,000 devices at 2,000 messages a second for SECONDS=180 (an hour: 3600) while nodes, the history server and sinks fail
	@POLLUX_BIN=$(CURDIR)/bin/pollux $(GO) test -count=1 -timeout 3h -run '^TestSoak$$' -v ./test -args -soak $(SECONDS)s

bench: build ## measure: ours, floor, ratio; lines to build/bench.jsonl
	@mkdir -p build && $(GO) run ./test/bench -o build/bench.jsonl

conformance: build ## hold the SDKs and all bundled drivers to the contract; writes docs/conformance.md
	@POLLUX_PEERS=all $(GO) test -count=1 -run '^TestEveryDriverConforms$$' ./drivers/conformance -update

lint: ## vet, staticcheck, formatting, proto and console
	@echo "checking formatting"
	@out=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$out" || { echo "not gofmt-ed: $$out"; exit 1; }
	@echo "go vet"
	@$(GO) vet ./...
	@echo "staticcheck"
	@$(TOOL) staticcheck ./...
	@$(MAKE) --no-print-directory build/proto web/node_modules/.package-lock.json
	@echo "buf lint"
	@$(BUF) lint proto
	@echo "checking the console"
	@cd web && npm run --silent check

build/proto: FORCE
	@$(GO) run ./proto/deps build/proto

proto: build/proto web/node_modules/.package-lock.json ## generate code from the .proto files
	@echo "generating from proto/"
	@$(BUF) generate proto
	@$(BUF) generate --template web/buf.gen.yaml

proto-check: proto ## fail where the generated code is not fresh
	@test -z "$$(git status --porcelain -- proto web/src/gen)" || \
	  { git status --short -- proto web/src/gen; echo "generated code is stale: run make proto and commit"; exit 1; }

platforms: ## check the types of everything, tests included, for PLATFORMS= other than this one, without compiling
	@$(GO) run ./test/platforms $(filter-out $(shell $(GO) env GOOS)/$(shell $(GO) env GOARCH),$(PLATFORMS))

PLATFORMS ?= linux/amd64 linux/arm64 darwin/arm64
cross: ## build for PLATFORMS="linux/amd64 linux/arm64 darwin/arm64", without cgo
	@for t in $(PLATFORMS); do echo "building for $$t"; \
	  CGO_ENABLED=0 GOOS=$${t%/*} GOARCH=$${t#*/} $(GO) build -ldflags='-s -w' -o build/pollux-$${t%/*}-$${t#*/} ./cmd/pollux || exit 1; done

clean: ## remove what was built (data/ stays)
	@echo "removing bin, build, web/dist and packed drivers"
	@rm -rf bin build web/node_modules drivers/js/engine/node_modules drivers/catalog/dist/*.zst drivers/catalog/dist/*.json drivers/js/dist/*.zst
	@find web/dist -mindepth 1 -not -name README -delete 2>/dev/null || true
