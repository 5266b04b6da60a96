# The commands of this project. "make test" needs Go and make; what else the
# tests want, test/install brings where it may (as root, with apt-get).

GO ?= go
# For every run of go test, such as TESTFLAGS=-v.
TESTFLAGS ?=
# How long each fuzz target runs.
FUZZTIME ?= 30s
# INSTALL=no leaves the machine as it is; tests whose programs are missing are skipped.
INSTALL ?= yes
# The version to build in, such as VERSION=v1.0.0; Go's own notes otherwise.
VERSION ?=
# How long "make soak" loads the proxy.
SOAK ?= 3m

# Where "make man" and "make completions" write to.
MANDIR ?= dist/man
COMPLETIONDIR ?= dist/completions

# The linters are pinned in a module of their own and never reach go.sum.
tool = $(GO) tool -modfile=tools/go.mod
# The race detector needs a C compiler. Asked when used: test/install brings one.
race = $(shell [ "$$($(GO) env CGO_ENABLED)" = 1 ] && echo -race)
scripts = .ci/run bench/install deploy/acme/install-certificate deploy/release $(addprefix deploy/debian/,build postinst prerm postrm) \
	test/install test/verify-container test/verify-package test/verify-release

.DEFAULT_GOAL := help
.NOTPARALLEL: # what test depends on runs in its order
.PHONY: help build test install format vet unit integration fuzz bench bench-micro bench-domains bench-floods release verify lint vuln schemas verify-container verify-kubernetes verify-package verify-release man completions clean faults soak

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-17s %s\n", $$1, $$2 }' Makefile

build: ## Build ./smtp-tlsproxy, one static binary
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w$(if $(VERSION), -X main.version=$(VERSION))' -o smtp-tlsproxy ./cmd/smtp-tlsproxy

# What writes the page is a test, so that nothing of it is in the program. The
# date is that of the last commit: the same source gives the same page.
man: ## Write the manual page into MANDIR (dist/man)
	@MANDIR=$(abspath $(MANDIR)) MANDATE=$$(date -u -d "@$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct 2>/dev/null || date +%s)}" +%F) \
		$(GO) test -count=1 -run '^TestManual$$' $(if $(VERSION),-ldflags '-X main.version=$(VERSION)') ./cmd/smtp-tlsproxy

completions: ## Write the completions of bash, zsh, fish and PowerShell into COMPLETIONDIR (dist/completions)
	@mkdir -p $(COMPLETIONDIR)
	@for shell in bash:smtp-tlsproxy.bash zsh:_smtp-tlsproxy fish:smtp-tlsproxy.fish powershell:smtp-tlsproxy.ps1; do \
		$(GO) run ./cmd/smtp-tlsproxy completion "$${shell%%:*}" >"$(COMPLETIONDIR)/$${shell#*:}" || exit 1; \
	done

test: install format vet unit integration ## Run all tests, with real clients and servers where they can be installed

install: ## Install what the integration tests drive
ifeq ($(INSTALL),yes)
	@test/install || { \
		[ "$$TLSPROXY_INTEGRATION" != required ] && \
		echo "test/install could not install everything: tests whose programs are missing are skipped"; }
endif

format:
	@files=$$("$$($(GO) env GOROOT)/bin/gofmt" -l .); [ -z "$$files" ] || \
		{ printf 'not formatted; run "gofmt -w" on:\n%s\n' "$$files"; exit 1; }

vet:
	@$(GO) vet ./...

unit: ## Run the unit tests and the fuzz seeds, with the race detector
	@[ -n "$(race)" ] || echo "no C compiler: the tests run without the race detector"
	$(GO) test $(race) $(TESTFLAGS) $$($(GO) list ./... | grep -v '/test$$')

# Where everything is there, a test that skips itself is a failure.
integration: install ## Run the built program between real clients and servers
	@if [ -z "$$TLSPROXY_INTEGRATION" ]; then \
		if [ "$(INSTALL)$$(id -u)" = yes0 ] && [ -z "$$(test/install 2>&1)" ]; then \
			export TLSPROXY_INTEGRATION=required; \
		else \
			echo "integration: not everything is there, so tests whose programs are missing are skipped"; \
		fi; \
	fi; \
	set -x; $(GO) test $(race) -count=1 -timeout=14m $(TESTFLAGS) ./test

fuzz: ## Run each fuzz target for FUZZTIME (30s)
	@targets=$$($(GO) test -list '^Fuzz' ./...) || { echo "$$targets"; exit 1; }; \
	echo "$$targets" | awk '/^Fuzz/ { names[++n] = $$1 } /^ok/ { for (i = 1; i <= n; i++) print names[i], $$2; n = 0 }' | \
	while read -r name package; do \
		echo "$$package $$name"; \
		$(GO) test -run='^$$' -fuzz="^$$name\$$" -fuzztime=$(FUZZTIME) "$$package" </dev/null || exit 1; \
	done

faults: ## Do every fault of a connection at every byte of TLS, too
	$(GO) test $(race) -count=1 -timeout=30m -run='^TestFaultsAtEveryByte$$' ./proxy -every-fault -v

bench: build ## Measure CPU and memory beside nginx, HAProxy, Hitch and stunnel
	@bench/install
	$(GO) run ./bench/peers -binary ./smtp-tlsproxy -json bench.json

bench-micro: ## Run the benchmarks of the hot parts
	$(GO) test -run='^$$' -bench=. -benchmem ./...

bench-domains: ## Measure directories of 1,000, 10,000 and 100,000 certificate folders
	@for folders in 1000 10000 100000; do $(GO) run ./bench/domains -folders $$folders || exit 1; done

bench-floods: build ## Measure how long a good client waits while others flood the proxy
	$(GO) run ./bench/floods -binary ./smtp-tlsproxy

soak: build ## Run the proxy for SOAK (3m) under mail, renewals, reloads, kills of backends and floods at once
	$(GO) run ./bench/soak -binary ./smtp-tlsproxy -for $(SOAK)

release: man completions ## Build a release into dist/release: VERSION=v1.0.0, or what git says
	VERSION='$(VERSION)' deploy/release dist/release

verify: lint schemas vuln verify-kubernetes verify-release verify-package verify-container ## Check everything that is not a test: the linters, the schemas, the vulnerabilities, what is deployed

verify-release: man completions install ## Build a release twice, compare it, and check what it says of itself
	test/verify-release

verify-package: man completions install ## Install, run, upgrade and purge the Debian package, beside this machine's files
	test/verify-package

verify-container: install ## Do what the container file says, without an engine
	test/verify-container

lint: format vet ## Check format, vet, staticcheck, go.mod and the scripts
	$(tool) staticcheck ./...
	$(GO) mod tidy -diff
	cd tools && $(GO) vet ./... && $(GO) tool staticcheck ./...
	@if command -v shellcheck >/dev/null; then set -x; shellcheck $(scripts); else \
		echo "no shellcheck: the scripts are not checked"; [ "$$TLSPROXY_INTEGRATION" != required ]; fi

schemas: ## Hold docs/*.schema.json against configuration files, with a validator
	cd tools && $(GO) vet ./schema && $(GO) test -count=1 -timeout=2m ./schema

# Its database is not in reach of every machine. Nothing else may pass for that.
vuln: ## Look for known vulnerabilities in what the program calls, where their database is in reach
	@log=$$(mktemp); trap 'rm -f "$$log"' EXIT; \
	if $(tool) govulncheck ./... >"$$log" 2>&1; then cat "$$log"; \
	elif grep -q '^govulncheck: fetching vulnerabilities: .*dial tcp' "$$log"; then \
		echo "make vuln: SKIPPED, the vulnerability database is out of reach:"; cat "$$log"; \
	else cat "$$log"; exit 1; fi

# A module of its own: the types of Kubernetes never reach go.sum. It has no
# servers and asks none but Go's for modules.
verify-kubernetes: ## Decode what the overlays and the chart render, hold it to policies, and have the program read its configuration
	cd deploy/verify && $(GO) mod tidy -diff && $(GO) vet . && $(GO) test -count=1 -timeout=8m $(TESTFLAGS) .

clean: ## Remove what was built and unpacked here
	rm -rf smtp-tlsproxy bench.json .cache dist
