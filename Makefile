# Causeway's dev loop. Every target prepares what it needs; `make` alone says what there is.
# The work is in tests/dev/: it runs from any folder (make -C, make -f) and with any Python from 3.11 on.
HERE := $(dir $(lastword $(MAKEFILE_LIST)))
DEV := sh "$(HERE)tests/dev/python"

.DEFAULT_GOAL := help
.PHONY: help demo test lint types unit functional sanity molecule docs pages build compat bench fuzz faults clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' "$(HERE)Makefile" | awk -F'|' '{ printf "%-18s %s\n", $$1, $$2 }'

demo: ## move a live database between two local clusters and prove every row (DEMO_JSON=file, DEMO_KEEP=1, DEMO_SABOTAGE=1)
	@$(DEV) demo

test: ## everything below up to docs, with the time of each (this is what CI runs)
	@$(DEV) test

lint: ## ruff, yamllint, ansible-lint (production profile), changelog fragments
	@$(DEV) lint

types: ## mypy, strict on the engine
	@$(DEV) types

unit: ## tests/unit: no server
	@$(DEV) unit

sanity: ## ansible-test sanity on a copy laid out as a collection, without containers
	@$(DEV) sanity

functional: ## tests/functional: real PostgreSQL clusters on loopback ports
	@$(DEV) functional

molecule: ## the scenarios of extensions/molecule: the main job through the roles
	@$(DEV) molecule

docs: ## check the documentation of modules and roles, and that the pages under docs/ match it
	@$(DEV) docs

pages: ## rewrite the pages of docs/modules and docs/roles
	@$(DEV) pages

build: ## the collection's archive, in build/
	@$(DEV) build

compat: ## sanity and the main job on the oldest ansible-core that meta/runtime.yml promises
	@$(DEV) compat

bench: ## measure against peers, side by side, and print the result as JSON in the last line: BENCH=clone, clone_mixed, copy_scale, definitions, tables_10k, validate, cdc_…
	@$(DEV) bench

fuzz: ## the property tests with as many more examples as fit into FUZZ_MINUTES (30)
	@$(DEV) fuzz

faults: ## kill workers, modules and servers during migrations, for at most FAULTS_MINUTES (60)
	@$(DEV) faults

clean: ## remove the environments, caches and archives
	@cd "$(HERE)." && rm -rf .cache build && find . -name __pycache__ -type d -prune -exec rm -rf {} +
