# `make` prints the targets. Set-up is done by whatever needs it, once; deploy/setup.sh says what it does.
SHELL := /bin/bash
.DEFAULT_GOAL := help
RECIPE ?= recipes/cifar10-resnet20.toml
RELEASE ?=
PORT ?= 8080
GRPC_PORT ?=
SECRETS ?=
REACH = --port=$(PORT) $(if $(GRPC_PORT),--grpc-port=$(GRPC_PORT)) $(if $(PUBLIC),--public) $(if $(SECRETS),--secrets=$(SECRETS))
TESTS ?=
LOCK := requirements/dev.txt
STAMP := .venv/.complete
UV := .venv/bin/uv
LOCKS := deploy/images/locks
RESOLVE := $(UV) pip compile --quiet --python-version 3.11 --no-header --no-annotate
COMPILE := $(RESOLVE) --universal --generate-hashes
BASE_IN := requirements/base.in
CPU_IN := $(BASE_IN) requirements/cpu.in
GPU_IN := $(CPU_IN) requirements/gpu.in
DEV_IN := $(GPU_IN) $(LOCKS)/runtime-tracing.in requirements/dev.in requirements/notebook.in requirements/grpc.in \
    requirements/search.in requirements/mlflow.in requirements/tensorboard.in requirements/wandb.in
SIZES := .toolchain/sizes
# Deploying needs neither tests nor linters; who has a larger environment keeps it.
CPU_STAMP := $(firstword $(wildcard .venv/.complete .venv/.gpu) .venv/.cpu)
GPU_STAMP := $(firstword $(wildcard .venv/.complete) .venv/.gpu)

help:  ## print this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

deploy-cpu: $(CPU_STAMP) engine  ## trained model -> certified container: RECIPE=… RELEASE=… PORT=… for your own; GRPC_PORT=… SECRETS=folder PUBLIC=1
	@.venv/bin/toolchain deploy $(RECIPE) --target=openvino $(if $(RELEASE),--release=$(RELEASE)) $(REACH)

deploy-gpu: $(GPU_STAMP) engine  ## the same for NVIDIA GPUs by TensorRT; without one here, as far as that goes, and it says what was not run
	@.venv/bin/toolchain deploy $(RECIPE) --target=tensorrt $(if $(RELEASE),--release=$(RELEASE)) $(REACH)

gate: $(CPU_STAMP) engine  ## refuse CANDIDATE=image of NAME=model when it is slower than the release before; FLAGS='--minutes=3' for more
	@deploy/gate/gate.sh "$(CANDIDATE)" "$(NAME)" $(FLAGS)

setup: $(STAMP) engine  ## the whole environment, of tests and linters too, and Docker Engine, where missing

engine:
	@deploy/setup.sh engine

$(STAMP): $(LOCK) requirements/uv.txt pyproject.toml
	@deploy/setup.sh plan $(LOCK)
	@deploy/setup.sh packages
	@deploy/setup.sh venv $(LOCK)
	@touch $@

.venv/.cpu .venv/.gpu: .venv/.%: requirements/%.txt requirements/uv.txt pyproject.toml
	@deploy/setup.sh plan $<
	@deploy/setup.sh packages
	@deploy/setup.sh venv $<
	@touch $@

# Python's compiled modules are kept, whatever the caller's environment says: a test run starts some hundred processes,
# and to compile torch's sources takes each of them five seconds.
export PYTHONDONTWRITEBYTECODE :=

# Most tests wait for servers and containers: two workers a core. A worker holds up to 1.5 GB: at most eight.
CORES := $(shell nproc)
WORKERS ?= $(shell echo $$(( 2 * $(CORES) < 8 ? 2 * $(CORES) : 8 )))
PYTEST = .venv/bin/python -m pytest --numprocesses=$(WORKERS) --dist=loadgroup --no-loadscope-reorder --durations=25 $(if $(SEED),--randomly-seed=$(SEED))

test: setup  ## every test but the exhaustive ones, Docker journeys too, in random order; TESTS='tests/deploy -k port' for some, SEED=… for one order again, WORKERS=… at a time
	@deploy/setup.sh servers
	@$(PYTEST) $(TESTS)

test-all: setup  ## the exhaustive tests too: all pairs of compression steps, a network of 550 MB
	@deploy/setup.sh servers
	@$(PYTEST) -m '' $(TESTS)

# These compute and do not wait, and every worker spends ten seconds on imports: one a core.
test-fast: WORKERS = $(CORES)
test-fast: $(STAMP)  ## what needs no Docker Engine, no server and no more than five seconds of CPU a test; in two minutes
	@$(PYTEST) --durations=5 -m 'not docker and not server and not slow and not exhaustive' $(TESTS)

check: $(STAMP)  ## ruff, mypy, house tests
	@.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy && .venv/bin/python -m pytest tests/house

bench-house: setup  ## what the sources, the README and the tests look like, each against its bound; QUICK=1: no test run
	@.venv/bin/python -m benchmarks.house

bench-main: setup  ## measure and print every figure that must hold
	@.venv/bin/python -m benchmarks.main

bench-compress: setup  ## every compression technique against its figure; QUICK=1: committed checkpoints, no training
	@.venv/bin/python -m benchmarks.compress

bench-gate: setup  ## how often the gate is wrong here, beside other rules; QUICK=1: an eighth of the gates
	@.venv/bin/python -m benchmarks.gate

bench-ship: setup  ## shipping to edge servers of this machine's own, faults in every stage; QUICK=1: fewer; needs root
	@.venv/bin/python -m benchmarks.ship

bench-hardening: setup  ## attacks on shipping and on the server, int8 on other CPUs, other engines; QUICK=1: fewer; ONLY=topic; needs root
	@.venv/bin/python -m benchmarks.hardening

bench-intake: setup  ## models, folders, recipes and clients that nobody here made; QUICK=1: fewer; ONLY=topic
	@.venv/bin/python -m benchmarks.intake

bench-first-hour: setup  ## what a newcomer meets first; QUICK=1: fewer; ONLY=topic; PICTURES=folder
	@.venv/bin/python -m benchmarks.first_hour

bench-optimizers: setup  ## one net by every optimizer that runs here, interleaved; QUICK=1: fewer images; ONLY=topic
	@.venv/bin/python -m benchmarks.optimizers

bench-serving: setup  ## our server, five others and the bare engine, interleaved; QUICK=1: fewer rounds; ONLY=ours,FastAPI MODELS=… AT=4
	@.venv/bin/python -m benchmarks.serving

soak: setup  ## 200,000 malformed requests, what the OpenAPI document has, attacks on a container of 1 GB, then ten minutes at 3 times what the server can do; QUICK=1: 3,000, 5 s each and 20 s; COUNT=… SEED=…
	@.venv/bin/python -m benchmarks.soak

scan: setup  ## known vulnerabilities of what is in the containers, where the package index tells them; nothing told: fails
	@for lock in runtime-cpu runtime-gpu runtime-tracing; do \
	    .venv/bin/pip-audit --strict --disable-pip --require-hashes -r $(LOCKS)/$$lock.txt || exit 1; done

bench-tensorrt: setup  ## what must hold of the GPU target, as far as it can be measured without a GPU
	@.venv/bin/python -m benchmarks.tensorrt

test-gpu: setup  ## what any NVIDIA GPU with CUDA 13 shows of the GPU runtime; skips, and says why, without one
	@.venv/bin/python -m pytest -rs tests/gpu

bench-a6000: setup  ## every candidate measured on this machine's GPU, for docs/benchmarks/a6000.md
	@.venv/bin/python -m benchmarks.a6000

docs: $(STAMP)  ## the documentation site, built strictly into build/site
	@NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs build --quiet --strict && echo "build/site/index.html"

docs-serve: $(STAMP)  ## the site at http://127.0.0.1:8000, built again whenever a page changes
	@NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs serve --strict

docs-reference: $(STAMP)  ## write the pages of docs/reference again, from the code
	@.venv/bin/python -m docs.generate

grpc-descriptors: $(STAMP)  ## compile deploy/runtime/grpc/inference.proto again; grpcio-tools runs outside the environment: it pins an older protobuf
	@$(UV) tool run --from grpcio-tools python -m grpc_tools.protoc --proto_path=deploy/runtime/grpc \
	    --descriptor_set_out=deploy/runtime/grpc/inference.binpb inference.proto

lock: $(STAMP)  ## write requirements/*.txt again from *.in; LOCKFLAGS=--upgrade for newer versions
	@$(COMPILE) $(LOCKFLAGS) requirements/uv.in -o requirements/uv.txt
	@$(COMPILE) $(LOCKFLAGS) $(LOCKS)/pip.in -o $(LOCKS)/pip.txt
	@$(COMPILE) $(LOCKFLAGS) $(DEV_IN) -o requirements/dev.txt
	@$(COMPILE) -c requirements/dev.txt --override requirements/cpu-overrides.in $(CPU_IN) -o requirements/cpu.txt
	@$(COMPILE) -c requirements/dev.txt $(GPU_IN) -o requirements/gpu.txt
	@$(MAKE) --no-print-directory lock-sizes
	@for name in runtime-cpu runtime-gpu runtime-gpu-classic runtime-tracing; do \
	    $(COMPILE) -c requirements/dev.txt $(LOCKS)/$$name.in -o $(LOCKS)/$$name.txt || exit 1; done
	@$(COMPILE) -c $(LOCKS)/runtime-gpu-classic.txt $(LOCKS)/tensorrt-libs.in -o $(LOCKS)/tensorrt-libs.txt
	@for peer in fastapi litserve bentoml mlserver kserve; do \
	    $(COMPILE) -c $(LOCKS)/runtime-cpu.txt requirements/peers/$$peer.in -o requirements/peers/$$peer.txt || exit 1; done

lock-sizes:  ## write into the locks how much is downloaded for each: set-up says it
	@SIZE() { $(RESOLVE) --format pylock.toml -c requirements/dev.txt "$${@:2}" -o $(SIZES)/pylock.toml && \
	    .venv/bin/python requirements/download_size.py $(SIZES)/pylock.toml $$1; }; mkdir -p $(SIZES) && \
	SIZE requirements/cpu.txt --override requirements/cpu-overrides.in $(CPU_IN) && \
	SIZE requirements/gpu.txt $(GPU_IN) && SIZE requirements/dev.txt $(DEV_IN)

clean:  ## remove what can be made again, except .venv and data: caches, bundles, wheelhouse
	@rm -rf .toolchain/cache .toolchain/bundles .toolchain/wheelhouse .toolchain/serving .toolchain/peers .mypy_cache .ruff_cache .pytest_cache build *.egg-info
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

# Both halves of set-up call apt-get, which takes one caller at a time: no -j.
.NOTPARALLEL:
.PHONY: bench-hardening bench-intake bench-first-hour help deploy-cpu deploy-gpu gate setup engine test test-all test-fast check bench-house bench-main bench-compress bench-gate bench-ship bench-optimizers bench-serving soak scan bench-tensorrt test-gpu bench-a6000 lock lock-sizes clean docs docs-serve docs-reference grpc-descriptors
