# bake: every target says what it does in `make help`.
SHELL   := /bin/bash
.SHELLFLAGS := -euo pipefail -c
export CGO_ENABLED = 0
BAKE    := bin/bake
LAB     := testdata/lab
E2E     := go test -tags e2e -count 1 -timeout 80m -v

.DEFAULT_GOAL := help
.PHONY: help deps guest build dist image dist-test demo test lint e2e e2e-fleet e2e-arm64 e2e-full bench fuzz golden cover lab-base clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## / { printf "%-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

deps: ## install with apt what is missing for demo, test and e2e
	@$(LAB)/deps

guest: ## build the program that attests in the guest, the same bytes everywhere
	for arch in amd64 arm64; do GOARCH=$$arch go build -trimpath -buildvcs=false -ldflags='-s -w -buildid=' \
		-o internal/guest/bin/attest-$$arch ./cmd/bake-attest; done

build: guest ## build bin/bake
	go build -trimpath -buildvcs=auto -tags urfave_cli_no_docs -o $(BAKE) ./cmd/bake

dist: guest ## static programs, .deb, .rpm, checksums; signed with BAKE_RELEASE_KEY=FILE of an ssh key
	go run ./cmd/bake-dist

image: deps build ## container image of bake as dist/bake-image.tar, without a Docker daemon
	go run ./cmd/bake-image

dist-test: deps ## make a release twice, compare, verify its signature, install it in a fresh Debian; as root
	go test -tags dist -count 1 -timeout 60m -v ./cmd/bake-dist

demo: deps build ## bake host zap on a locally built base, boot it, verify it, show the report
	base=$$($(LAB)/base debian-13)
	$(BAKE) image --host zap --base "$$base"
	$(BAKE) verify --host zap --boot

test: deps guest lint ## all tests that need no boot; a missing outside judge is a failure
	CI=true go test -timeout 30m ./...

lint: ## gofmt, vet, staticcheck, shellcheck
	@unformatted=$$(gofmt -l cmd internal layers); [ -z "$$unformatted" ] || { echo "gofmt: $$unformatted"; exit 1; }
	go vet ./... && go vet -tags 'e2e bench dist' ./...
	go tool staticcheck -tags 'e2e bench dist' ./...
	shellcheck -x -P SCRIPTDIR $$(grep -lE '^#!.*[/ ](ba)?sh$$' --directories=skip $(LAB)/*) .ci/run cmd/bake/completion/bake.bash

lab-base: deps ## build the Debian 12 and 13 base images, cached outside the clone
	@$(LAB)/base debian-12 && $(LAB)/base debian-13

e2e: deps build ## real boots on Debian 12 and 13 that guard the main job
	export BAKE_E2E_DEBIAN_12=$$($(LAB)/base debian-12) BAKE_E2E_DEBIAN_13=$$($(LAB)/base debian-13)
	export BAKE_E2E_S3=$$($(LAB)/s3-server)
	# The circle of a backup takes as long as all others, and each keeps one processor busy.
	said=$$(mktemp)
	set -m
	$(E2E) -run TestE2EBackup ./cmd/bake > "$$said" 2>&1 & circle=$$!
	set +m
	trap 'kill -- -$$circle || :; rm -f "$$said"' EXIT
	failed=
	$(E2E) -run TestE2E -skip TestE2EBackup ./internal/report ./cmd/bake || failed=yes
	$(E2E) -run TestE2E ./internal/backup || failed=yes
	wait $$circle || failed=yes
	trap 'rm -f "$$said"' EXIT
	cat "$$said"
	[ -z "$$failed" ]

e2e-fleet: deps guest ## a real Kubernetes control plane judges what bake exports, and runs a night in shards
	export BAKE_E2E_KUBE=$$($(LAB)/kube-apiserver) BAKE_E2E_S3=$$($(LAB)/s3-server)
	$(E2E) -run TestFleet ./internal/kubevirt ./cmd/bake

e2e-arm64: deps build ## a machine for arm64, emulated: its claims, each falsified; makes a base for it first
	$(LAB)/deps arm64
	export BAKE_E2E_ARM64=$$($(LAB)/base debian-13-arm64)
	$(E2E) -run TestARM64 ./cmd/bake

e2e-full: deps build ## every boot there is: e2e with all falsified, faults, Lynis, reboots
	export BAKE_E2E_FULL=1 BAKE_E2E_S3=$$($(LAB)/s3-server)
	export BAKE_E2E_DEBIAN_12=$$($(LAB)/base debian-12) BAKE_E2E_DEBIAN_13=$$($(LAB)/base debian-13)
	$(E2E) -timeout 180m ./cmd/bake -run 'TestE2E|TestFull'
	$(E2E) -run TestFull ./internal/openclaw
	for base in "$$BAKE_E2E_DEBIAN_12" "$$BAKE_E2E_DEBIAN_13"; do
		BAKE_E2E_BASE=$$base $(E2E) ./internal/vm ./internal/inspect
	done

bench: deps build ## speed beside the usual tools, in one run
	export BAKE_E2E_DEBIAN_13=$$($(LAB)/base debian-13)
	go test -tags bench -count 1 -timeout 30m -p 1 -run TestBench -v ./cmd/bake ./internal/download
	$(E2E) -run TestBenchFirstBoot ./cmd/bake

fuzz: guest deps ## every fuzz target for 20 s; 100000 sets of parts beside cloud-init
	for file in $$(grep -rl --include='*_test.go' '^func Fuzz' internal cmd); do
		for target in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9]*\).*/\1/p' $$file); do
			go test -run '^$$' -fuzz "^$$target\$$" -fuzztime 20s -fuzzminimizetime 10x ./$$(dirname $$file)
		done
	done
	CI=true BAKE_DIFFERENTIAL=100000 go test -v -timeout 180m -run TestLike ./internal/cloudinit ./internal/pyyaml
	CI=true BAKE_DIFFERENTIAL=5000 go test -v -timeout 60m -run TestLike ./internal/schema

golden: guest ## rewrite the golden files; the diff is the review
	go test ./internal/host ./internal/seed ./internal/domain ./cmd/bake -update

cover: guest ## coverage of each package
	go test -cover ./internal/... ./cmd/...

clean: ## remove what was built here; the lab cache stays
	rm -rf bin dist out

.ONESHELL:
