# Octavo's commands. `make serve` and `make test` set up what they need on a fresh machine
# (Python >= 3.10 and make) and cost nothing when it is there already.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
ROOMS  := cli bench server engine scheduler paged_cache models kernels
ARGS   ?=

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev setup-clients setup-docs serve test test-fast image-test lint audit format types \
  screenshots \
  bench compare scaling drills kernels schemathesis sanitise reference dashboards docs docs-serve lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

NATIVE := $(wildcard kernels/cpu/native/*.[ch])

$(VENV)/.installed: pyproject.toml $(NATIVE)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[structured]'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml $(NATIVE)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-clients: pyproject.toml $(NATIVE)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[clients]'
	@touch $@ $(VENV)/.installed-dev $(VENV)/.installed

$(VENV)/.installed-docs: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	@touch $@ $(VENV)/.installed

setup: $(VENV)/.installed ## create .venv with what serving needs
setup-dev: $(VENV)/.installed-dev ## create .venv with what development needs
setup-clients: $(VENV)/.installed-clients ## and the client libraries of tests/clients, a browser driver (0.6 GB more)
setup-docs: $(VENV)/.installed-docs

serve: setup ## serve the embedded model on http://127.0.0.1:8000 (ARGS="--port 9000 …")
	@exec $(BIN)/octavo serve $(ARGS)

test: setup-clients ## run every test
	$(BIN)/python -m pytest $(ARGS)

test-fast: setup-dev ## run the tests that finish within two minutes
	$(BIN)/python -m pytest -m "not slow" $(ARGS)

image-test: setup-dev ## build the CPU image and run it (as root; apt-get install buildah podman debootstrap)
	$(BIN)/python -m pytest tests/image -m image $(ARGS)

lint: setup-dev types audit ## ruff (lint, format), mypy --strict, hadolint and the audit of dependencies
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/hadolint Dockerfile

# It says so where no advisory service can be reached, and checks what is on file.
audit: setup-dev ## ask whether locked packages have known vulnerabilities (docs/security.md)
	$(BIN)/python deploy/docker/audit.py

# mypy cannot read the editable install's package mapping, so it gets a tree of links of that shape,
# and runs there: from here it would take our kernels/ for the package that huggingface_hub imports.
types: setup-dev
	@mkdir -p $(VENV)/types/octavo
	@for f in octavo/*.py octavo/py.typed; do ln -sfn "$(CURDIR)/$$f" "$(VENV)/types/octavo/$$(basename $$f)"; done
	@for room in $(ROOMS); do ln -sfn "$(CURDIR)/$$room" "$(VENV)/types/octavo/$$room"; done
	cd $(VENV)/types && $(abspath $(BIN)/mypy) --strict --config-file $(CURDIR)/pyproject.toml -p octavo

format: setup-dev ## rewrite the code in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup-dev ## measure decode and prefill speed on this machine
	$(BIN)/python benchmarks/step_time.py $(ARGS)

compare: setup-dev ## compare with the other servers that are installed (benchmarks/README.md)
	$(BIN)/python -m benchmarks.compare $(ARGS)

scaling: setup-dev ## measure how cost grows with load (ARGS="--only blocks,scheduler")
	$(BIN)/python -m benchmarks.scaling $(ARGS)

drills: setup-dev ## break running servers on purpose and count what is lost (ARGS="--only soak,disk --seed 7")
	$(BIN)/python -m tests.faults $(ARGS)

kernels: setup-dev ## compile the GPU kernels without a GPU, list registers and spills
	env -u TRITON_INTERPRET $(BIN)/python benchmarks/gpu/compile_kernels.py $(ARGS)

# Of a server that runs: make serve ARGS="--max-model-len 64 --admin-key admin"
URL     ?= http://127.0.0.1:8000
FUZZ_S  ?= 300
schemathesis: setup-dev ## send a running server all that its openapi.json allows, for five minutes (URL=…)
	SCHEMATHESIS_HOOKS=schemathesis_hooks PYTHONPATH=tests/server $(BIN)/python -m schemathesis.cli run \
	  $(URL)/openapi.json --max-time $(FUZZ_S) --phases coverage,fuzzing --workers 2 \
	  --checks not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance \
	  --header "Authorization: Bearer admin" --continue-on-failure --warnings off \
	  --request-timeout 60 --generation-database none $(ARGS)

# The report of a fault goes to the process's own stderr, which pytest must leave alone.
sanitise: setup-dev ## run the native CPU kernels' tests under GCC's AddressSanitizer and UBSan
	folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && \
	gcc -fsanitize=address,undefined -fno-sanitize-recover=undefined -O1 -g -std=gnu11 \
	  -ffp-contract=off -fopenmp -fPIC -shared -Wall -Wextra -Wno-psabi \
	  -o "$$folder/native.so" kernels/cpu/native/*.c && \
	NATIVE_KERNELS_LIBRARY="$$folder/native.so" ASAN_OPTIONS=detect_leaks=0 \
	LD_PRELOAD="$$(gcc -print-file-name=libasan.so)" \
	$(BIN)/python -m pytest --capture=sys -p no:cacheprovider tests/kernels/native $(ARGS)

reference: setup-dev ## write docs/metrics.md and docs/configuration.md anew from the code
	$(BIN)/python docs/generate.py

dashboards: setup-dev ## write Grafana's dashboards anew from deploy/grafana/definitions
	$(BIN)/python deploy/grafana/build_dashboards.py

screenshots: setup-clients ## take the documents' pictures of the page anew (apt-get install chromium)
	$(BIN)/python docs/screenshots.py $(ARGS)

docs: setup-docs ## build the documentation site into build/site; any warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

docs-serve: setup-docs ## show the documentation site on http://127.0.0.1:8001
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve --dev-addr 127.0.0.1:8001

lock: ## write the image's lock files anew with the newest versions (needs uv)
	sh deploy/docker/lock.sh

clean: ## remove .venv and caches (models stay in the user's cache folder)
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
