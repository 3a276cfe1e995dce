# Every target is one line over the command line interface; `make` alone lists them.
DATA     ?= digits
OUT      ?= runs
BACKBONE ?=
ARGS     ?=
MINUTES  ?=
SEED     ?=
# Where pip takes it for a GPU, and gigabytes: name a build for CPUs, TORCH=torch==2.13.0+cpu.
TORCH    ?= torch>=2.6
PYTHON   ?= python3

VENV      := .venv
HEADSTART  = $(VENV)/bin/headstart
FLAGS      = --out "$$OUT" $(if $(BACKBONE),--backbone "$$BACKBONE") $(ARGS)
LOCK       = $(VENV)/bin/uv pip compile pyproject.toml --universal --python-version 3.11 --extra openvino --extra fast --generate-hashes \
             --no-annotate --no-header --no-emit-index-url --quiet --upgrade
PIP        = $(VENV)/bin/python -m pip --disable-pip-version-check --quiet

# How Keras takes arrays from JAX and torch, which NumPy 2 has deprecated: theirs to mend.
UPSTREAM   = -W 'ignore:__array__ implementation:DeprecationWarning'

# Through the environment, so that a folder's name may hold any character.
export DATA OUT BACKBONE

.DEFAULT_GOAL := help
.PHONY: help features heads test test-backends lint torture bench bench-heads lock clean
.DELETE_ON_ERROR:

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' Makefile
	@echo 'variables: DATA=digits|FOLDER|FILE.csv|FILE.parquet  OUT=runs  BACKBONE=resnet50  ARGS="--pooling max ..."'

features: $(VENV)/base ## stage one: run the frozen backbone once over DATA and keep its features
	@$(HEADSTART) features "$$DATA" $(FLAGS)

heads: $(VENV)/base ## stage two: train many heads on the features (makes those that are missing)
	@$(HEADSTART) heads "$$DATA" $(FLAGS)

test: lint ## lint, type-check and run the tests
	@$(VENV)/bin/python -m pytest

test-backends: .venv-jax/ready .venv-torch/ready ## the tests of the engine and of MLP heads on Keras' other backends
	@for backend in jax torch; do echo "== $$backend"; KERAS_BACKEND=$$backend PYTHONPATH=.venv-$$backend \
	  $(VENV)/bin/python -m pytest -n 0 $(UPSTREAM) tests/pipeline/engines/test_keras_engine.py \
	  tests/pipeline/heads/test_mlp_keras.py || exit 1; done

lint: $(VENV)/dev ## ruff, its format, and mypy --strict on both packages
	@$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check . && $(VENV)/bin/mypy

torture: $(VENV)/dev ## inject faults into the cache (all that there are, or for MINUTES=5), and count what was lost
	@$(VENV)/bin/python -m tests.torture $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED))

bench: $(VENV)-bench/done ## the benchmarks: peers and Headstart on the same work, alternating
	@for name in cache end_to_end limits runs; do echo "== $$name"; \
	  $(VENV)-bench/bin/python -m tests.bench.bench_$$name $(ARGS) || exit 1; done

bench-heads: $(VENV)/dev ## benchmarks of stage two: Headstart against scikit-learn and Keras, and its statistics
	@for name in sweep linear_heads mlp_heads bias; do echo "== $$name"; \
	  $(VENV)/bin/python -m tests.bench.bench_$$name $(ARGS) || exit 1; done

lock: $(VENV)/dev ## rebuild both lock files with the newest versions
	@$(LOCK) --output-file requirements.lock > /dev/null
	@$(LOCK) --extra dev --constraint requirements.lock --output-file requirements-dev.lock > /dev/null

clean: ## remove the virtual environment and the tools' caches; OUT is yours and stays
	@rm -rf $(VENV) $(VENV)-bench $(VENV)-jax $(VENV)-torch build *.egg-info \
	  .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/base: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
	  || { echo 'Headstart needs Python 3.11, 3.12 or 3.13: make PYTHON=python3.12 ...' >&2; exit 2; }
	@echo 'installing into $(VENV) (once; a minute or two)' >&2
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) install --require-hashes -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@$(VENV)/bin/python -c 'from pipeline.heads import mlp_compiled; from pipeline.images import compiled; \
	  compiled.load_kernels(); mlp_compiled.load_kernels()'
	@touch $@

$(VENV)/dev: requirements-dev.lock $(VENV)/base
	@echo 'installing the development tools into $(VENV)' >&2
	@$(PIP) install --require-hashes -r requirements-dev.lock
	@touch $@

# Apart from .venv, whose packages it sees: a peer shall not change what Headstart is tested with.
$(VENV)-bench/done: tests/bench/requirements.txt tests/bench/requirements-alone.txt $(VENV)/dev
	@echo 'installing the peers of the benchmarks into $(VENV)-bench (once)' >&2
	@test -x $(VENV)-bench/bin/python || $(VENV)/bin/python -m venv $(VENV)-bench
	@$(VENV)-bench/bin/python -c 'import site, sys; from pathlib import Path; \
	  Path(site.getsitepackages()[0], "headstart.pth").write_text("import site; site.addsitedir(%r)" % sys.argv[1])' \
	  "$$($(VENV)/bin/python -c 'import site; print(site.getsitepackages()[0])')"
	@$(VENV)-bench/bin/python -m pip --disable-pip-version-check --quiet install -r $<
	@$(VENV)-bench/bin/python -m pip --disable-pip-version-check --quiet install --no-deps -r $(word 2,$^)
	@touch $@

# Apart from the base environment, and before it on the path.
.venv-jax/ready: REQUIREMENT = jax>=0.6
.venv-torch/ready: REQUIREMENT = $(TORCH)
.venv-jax/ready .venv-torch/ready: $(VENV)/dev
	@echo 'installing $(REQUIREMENT) into $(@D)' >&2
	@$(PIP) install --upgrade --target $(@D) '$(REQUIREMENT)'
	@touch $@
