PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.ready

.PHONY: setup demo test test-slow test-kills lint ui bench bench-gpu lock

setup: $(STAMP)
	$(BIN)/python -W ignore -m ft_assets.defs.setup

# Every file that is installed has a hash in requirements.lock; only llama.cpp is compiled (library only,
# for any processor of the family), with build tools that are in the lock too. torch is downloaded by
# itself, for then pip takes the build that is on disk, if one is; a torch that is there is kept.
PIP := $(BIN)/python -m pip
LOCKED := $(PIP) install --quiet --no-deps --require-hashes
TORCH := $(shell sed -n 's/^torch==//p' constraints.txt)

$(STAMP): pyproject.toml constraints.txt requirements.lock requirements-cuda.lock
	test -d .venv || $(PYTHON) -m venv .venv
	mkdir -p .venv/locks
	grep '^torch==' requirements.lock > .venv/locks/torch
	grep '^llama_cpp_python==' requirements.lock > .venv/locks/compiled
	grep -v '^llama_cpp_python==' requirements.lock > .venv/locks/wheels
	$(BIN)/python -c "from importlib.metadata import version as v; assert v('torch').split('+')[0] == '$(TORCH)'" 2> /dev/null || \
	{ $(PIP) download --quiet --no-deps --only-binary :all: -d .venv/locks/files torch==$(TORCH) && \
	$(LOCKED) --no-index --find-links .venv/locks/files -r .venv/locks/torch && rm -r .venv/locks/files; }
	$(LOCKED) --only-binary :all: -r .venv/locks/wheels
	! $(PIP) check | grep -q '^torch .* requires \(cuda\|nvidia\|triton\)' || \
	$(LOCKED) --only-binary :all: -r requirements-cuda.lock
	PATH="$(CURDIR)/$(BIN):$$PATH" \
	CMAKE_ARGS="-DGGML_NATIVE=OFF -DLLAVA_BUILD=OFF -DMTMD_BUILD=OFF -DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_TESTS=OFF" \
	CMAKE_BUILD_PARALLEL_LEVEL=$(shell nproc 2>/dev/null || echo 2) \
	$(LOCKED) --no-build-isolation -r .venv/locks/compiled
	$(PIP) install --quiet --no-deps --no-build-isolation -e .
	$(PIP) check
	$(BIN)/python -m ft_assets.stages.models
	touch $(STAMP)

# The hashes of the versions in constraints.txt, asked of the indexes that pip knows.
lock: $(STAMP)
	$(BIN)/python -m scripts.lock

demo: setup
	$(BIN)/ft-assets demo

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

# Three at once on two cores: many of these tests wait for a sensor or a server.
test-slow: $(STAMP)
	$(BIN)/python -m pytest -n 3 --dist loadfile -m slow

# The kills of `make test-slow` at every point, where it takes a sample.
test-kills: $(STAMP)
	FT_ASSETS_TEST_KILLS=all $(BIN)/python -m pytest -n 2 -rP -m slow ft_assets_tests/engine/test_crashes.py ft_assets_tests/stages/qa/test_crashes.py ft_assets_tests/stages/training/test_kills.py

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

ui: setup
	$(BIN)/ft-assets ui

bench: $(STAMP)
	$(BIN)/python -m benchmarks.run

# Eight minutes at most; without a GPU it says so.
bench-gpu: $(STAMP)
	$(BIN)/python -m benchmarks.gpu benchmarks/gpu.json
