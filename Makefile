# One entry for people and CI. `make help` lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOCAL := $(BIN)/python -m local
DEPLOY := $(BIN)/python -m deploy
COMPILE := $(BIN)/uv pip compile --quiet --upgrade --generate-hashes --no-header --no-emit-index-url --no-annotate

# KUBECONFIG, STACK and NODES count only when they are written on make's command line: a variable that merely is in the
# shell's environment must never make `make up` deploy into the cluster or stack that somebody happened to look at last.
CLUSTER :=
WHICH :=
ifeq ($(origin STACK),command line)
WHICH += --stack "$(STACK)"
ifeq ($(origin SITE),command line)
WHICH += --site "$(SITE)"
endif
endif
ifeq ($(origin KUBECONFIG),command line)
CLUSTER += --kubeconfig "$(KUBECONFIG)"
endif
ifeq ($(origin NODES),command line)
CLUSTER += --nodes "$(NODES)"
endif
ifdef CONTEXT
CLUSTER += --context "$(CONTEXT)"
endif
ifdef PUSH
CLUSTER += --push "$(PUSH)"
endif

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: up
up: $(VENV) ## the dev site here [NODES=2], or on KUBECONFIG=… CONTEXT=… PUSH=<registry>; STACK=… [SITE=…]: those sites
	@$(if $(WHICH),$(DEPLOY) up $(WHICH),$(LOCAL) up $(CLUSTER))

.PHONY: preview
preview: $(VENV) ## STACK=… [SITE=…]: show what `make up` would do to each site
	@$(DEPLOY) preview $(or $(WHICH),$(error make preview: say which stack, as in STACK=world))

.PHONY: destroy
destroy: $(VENV) ## STACK=… [SITE=…]: take sites down, each startd after its last job
	@$(DEPLOY) destroy $(or $(WHICH),$(error make destroy: say which stack, as in STACK=world))

.PHONY: demo
demo: $(VENV) ## run a batch of Monte Carlo jobs on the site and draw the merged result
	@$(LOCAL) demo

.PHONY: status
status: $(VENV) ## one screen: what runs, what waits, what backs off and why
	@$(LOCAL) status

.PHONY: env
env: $(VENV) ## print the environment in which pulumi and kubectl work: eval "$$(make -s env)"
	@$(LOCAL) env

.PHONY: images
images: $(VENV) ## build the images; PUSH=<registry> publishes them and prints the stack's images: block
	@$(LOCAL) images $(if $(PUSH),--push "$(PUSH)")

.PHONY: verify-cloud
verify-cloud: $(VENV) ## look on a real cloud at what no test can show: STACK=… [PEER=host:port]; makes a node per pool
	@test -n "$(STACK)" || { echo "error: name the stack, as in make verify-cloud STACK=azure" >&2; exit 1; }
	@$(BIN)/python -m local.verify "$(STACK)" $(if $(PEER),--peer "$(PEER)")

.PHONY: report
report: $(VENV) ## STACK=… [MONTH=2026-11]: what each site did and cost in a month, as one HTML page with plots
	@test -n "$(STACK)" || { echo "error: name the stack, as in make report STACK=world" >&2; exit 1; }
	@$(BIN)/python -m report "$(STACK)" $(if $(MONTH),--month "$(MONTH)")

.PHONY: down
down: $(VENV) ## take the site down and undo every change to this machine (caches stay)
	@$(LOCAL) down

.PHONY: test
test: lint test-fast test-engine test-cluster ## everything, as CI runs it

.PHONY: test-fast
test-fast: $(VENV) ## tests that need nothing but Python
	$(BIN)/pytest -m fast -n auto

.PHONY: test-engine
test-engine: $(VENV) ## tests that need the Pulumi engine (built once where it is missing)
	$(BIN)/pytest -m engine -n 2 --dist loadfile

.PHONY: test-cluster
test-cluster: $(VENV) ## tests on the real node: needs root; takes the machine's dev site up and down
	$(BIN)/pytest -m cluster

.PHONY: lint
lint: $(VENV) ## format, lint, types and import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy .
	$(BIN)/mypy policies/__main__.py
	$(BIN)/lint-imports
	$(BIN)/zizmor --offline --no-progress --quiet .github

.PHONY: docs
docs: $(VENV) ## write what is made from code: the reference, the dashboards
	$(BIN)/python -c 'import outputs; print(outputs.schema(), end="")' > docs/outputs.schema.json
	$(BIN)/python -m dashboards

# The image has the extra `services` alone, without what the program needs.
EXTRA_SERVICES := import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["services"], sep="\n")

.PHONY: lock
lock: $(VENV) ## write the lock files anew from pyproject.toml
	$(COMPILE) --python-version 3.11 pyproject.toml --extra dev -o requirements/dev.txt
	$(COMPILE) --python-version 3.11 pyproject.toml -c requirements/dev.txt -o requirements.txt
	$(COMPILE) --python-version 3.11 pyproject.toml --extra clouds -c requirements/dev.txt -o requirements/clouds.txt
	$(BIN)/python -c '$(EXTRA_SERVICES)' | $(COMPILE) --python-version 3.13 - -c requirements/dev.txt -o images/services/requirements.txt
	$(COMPILE) --python-version 3.11 --group benchmarks -c requirements/dev.txt -o requirements/benchmarks.txt

.PHONY: clean
clean: ## forget caches: the next `make up` builds everything again
	rm -rf $(VENV) "$${XDG_CACHE_HOME:-$$HOME/.cache}/atlas-sites"

# The stamp is named after the lock file's content, so that a changed lock is installed and an unchanged one is not.
LOCK_SUM := $(shell sha256sum requirements/dev.txt | cut -c1-16)
$(VENV): $(VENV)/.installed-$(LOCK_SUM)
$(VENV)/.installed-$(LOCK_SUM):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "error: Python 3.11 or later is needed, and $(PYTHON) is not: install it, or say make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "error: $(PYTHON) cannot make a virtual environment: install python3-venv" >&2; exit 1; }
	@echo "installing the locked Python packages" >&2
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@rm -f $(VENV)/.installed-* && touch $@
