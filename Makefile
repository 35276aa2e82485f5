# Every target with a "##" comment shows in `make help`.

GO        ?= go
BUILD     := CGO_ENABLED=0 $(GO) build -buildvcs=false -trimpath -ldflags='-s -w'
SEEDS     ?= 10000
FRESH     ?= 0s
FUZZTIME  ?= 30s
DURATION  ?= 1m
USERS     ?= 2
FAULTS    ?= 0
WAITS     ?= 0
SEED      ?= $(shell date +%s)

.PHONY: help
help: ## Show this.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: build examples ## Watch a program being built, started, restarted, crashed, retried, stopped and replayed (installs Docker and gVisor on Debian).
	@scripts/demo.sh

.PHONY: test
test: tools lint examples ## Check and test everything, on real NATS, Docker and gVisor.
	@scripts/ensure-docker.sh $${CI:+--require-gvisor} || test -z "$$CI"
	$(GO) test -race -timeout 60m ./...
	$(GO) test ./internal/sim

.PHONY: build
build: ## Build the CLI and the services into bin/.
	@mkdir -p bin
	@$(BUILD) -o bin/ ./cmd/...

.PHONY: examples
examples: ## Build the static binary of examples/counter.
	@$(BUILD) -o examples/counter/counter ./examples/counter

.PHONY: lint
lint: ## Check format, vet, staticcheck, gosec and go.mod.
	@unformatted=$$(gofmt -l .); test -z "$$unformatted" || { echo "gofmt would change: $$unformatted"; exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	@scripts/gosec.sh
	$(GO) mod tidy -diff

.PHONY: golden
golden: ## Rewrite the golden files; read the diff before you commit it.
	$(GO) test ./reducer ./effects/compose -update

.PHONY: bench
bench: examples ## Measure: Reduce, replay, and a start through Hersh against the same Docker calls made directly.
	@scripts/ensure-docker.sh
	$(GO) test -run '^$$' -bench . -benchmem ./reducer ./internal/bus ./internal/e2e

.PHONY: sim
sim: ## Simulate SEEDS worlds (10000) full of faults and then fresh ones for FRESH (0s), on all cores; a failure prints its seed.
	$(GO) test ./internal/sim -run 'TestSeeds$$' -seeds $(SEEDS) -fresh $(FRESH) -timeout 24h -v

.PHONY: small-world
small-world: ## Go through every order of steps of one program with USERS requests (1 to 4), FAULTS faults (0 to 2) and WAITS waits, on all cores.
	GOGC=400 $(GO) test ./internal/sim -run 'TestSmallWorld$$' -users $(USERS) -faults $(FAULTS) -waits $(WAITS) $(SMALLFLAGS) -timeout 24h -v

.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZTIME (30s).
	@scripts/fuzz.sh $(FUZZTIME)

.PHONY: chaos
chaos: ## Kill, freeze and cut off a whole Hersh of processes for DURATION (1m), by the schedule of SEED, and check that nothing was lost.
	$(GO) run ./internal/chaos/cmd -duration $(DURATION) -seed $(SEED) -fault '$(FAULT)' $(CHAOSFLAGS)

.PHONY: images
images: ## Build the images of docker-compose.dev.yml, FROM scratch, from static binaries.
	@mkdir -p bin/static
	$(BUILD) -o bin/static/supervisor ./cmd/supervisor
	$(BUILD) -o bin/static/executor ./cmd/executor
	$(BUILD) -o bin/static/nats-server github.com/nats-io/nats-server/v2
	@cp deploy/dev/nats.conf bin/static/
	@for image in supervisor executor nats; do \
		DOCKER_BUILDKIT=0 docker build --quiet --tag hersh/$$image:dev --file deploy/images/$$image.Dockerfile bin/static 2>/dev/null || exit 1; done

.PHONY: compose-test
compose-test: build images examples ## Run docker-compose.dev.yml: two users' programs on two supervisors and two executors.
	@scripts/compose-test.sh

.PHONY: cluster-test
cluster-test: build images examples ## Run deploy/cluster: programs on three NATS servers, while disks, leaders and the majority of them are lost.
	@scripts/cluster-test.sh

.PHONY: tools
tools:
	@scripts/ensure-tools.sh

.PHONY: clean
clean: ## Remove what was built.
	rm -rf bin examples/counter/counter
