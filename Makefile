# Everything starts from here. `make demo` and `make test` need Python 3.11+ and a C++ compiler, nothing else.
VENV ?= .venv
PYTHON ?= python3
LOCK ?= requirements.lock
BIN := $(VENV)/bin
LLAMA_CPP_PYTHON = $(shell sed -n 's/^llama-cpp-python==//p' $(LOCK))
INSTALLED := $(VENV)/.installed-$(shell cat pyproject.toml $(LOCK) | cksum | cut -d' ' -f1)

# Each worker and each command of a test would compile all modules for itself.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo environment test test-slow pictures coverage browser smoke integration check docs exactness fuzz bench ui lock lowest highest wheel clean

demo: $(INSTALLED) ## the main job: 4 quants x 3 tasks on the embedded model
	$(BIN)/python -m quantexp -m quant=Q8_0,Q5_K_M,Q4_K_M,Q3_K_M task=gsm8k,triviaqa,extraction divergence=true

environment: $(INSTALLED) ## what everything else starts from

test: $(INSTALLED) ## each behaviour, in some minutes
	$(BIN)/python -m pytest -n auto --dist worksteal $(PYTEST)

test-slow: $(INSTALLED) ## the rest: kills by the dozen, all documented commands, simulations; properties on more examples
	$(BIN)/python -m pytest -n auto --dist worksteal -m "slow or hypothesis" --hypothesis-profile thorough $(PYTEST)

coverage: $(INSTALLED) ## as `make test`, and which lines no test runs; a tenth slower
	$(BIN)/python -m pytest -n auto --dist worksteal --cov --cov-report=term $(PYTEST)

browser: ## what the tests of the HTML report open it in; without it they are skipped
	command -v chromium >/dev/null || { apt-get update && apt-get install --yes --no-install-recommends chromium; }

smoke: $(INSTALLED) ## the published experiment's 36 jobs, on the embedded model
	$(BIN)/python -m pytest -m smoke tests/sweep/test_smoke.py

integration: $(INSTALLED) ## a real Slurm, Ray, PostgreSQL and llama-server, installed or built if they are not there (needs cmake); much of it waits
	tests/integration/install.sh $(BIN)/python
	$(BIN)/python -m pytest -m integration -n 3 --dist loadfile tests/integration

check: $(INSTALLED) ## lint, format, rooms, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy

FUZZ_SECONDS ?= 600
fuzz: $(INSTALLED) ## coverage-guided fuzzing of graders and readers of files, ten minutes each (FUZZ_SECONDS=60 for one)
	$(BIN)/python -c "import atheris" 2>/dev/null || $(BIN)/python -m pip install --disable-pip-version-check atheris
	for target in graders headers lines whole_segments; do \
		$(BIN)/python -m tests.fuzz.targets $$target -max_total_time=$(FUZZ_SECONDS) -max_len=4096 -rss_limit_mb=5000 || exit; done

docs: $(INSTALLED) ## the documentation site, into site/; a warning is an error
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet --builder html docs site

pictures: $(INSTALLED) browser ## take the pictures of README and docs anew, from a sweep in build/pictures
	$(BIN)/python docs/making/pictures.py

exactness: $(INSTALLED) ## the engine's contract, on many more random cases than the tests try
	QUANTEXP_EXACTNESS_EXAMPLES=40 $(BIN)/python -m pytest -n 2 -m "" tests/engines/llama_cpp/test_exactness.py tests/engines/llama_cpp/test_continuations.py

bench: $(INSTALLED) ## speed, as ratios within one run
	$(BIN)/python benchmarks/generation.py
	$(BIN)/python benchmarks/kv_types.py
	$(BIN)/python benchmarks/footprint.py
	$(BIN)/python benchmarks/choices.py
	$(BIN)/python benchmarks/store.py
	$(BIN)/python benchmarks/comparisons.py
	$(BIN)/python benchmarks/aggregation.py
	$(BIN)/python benchmarks/overhead.py

# One worker and no job runner: half the time to start, a quarter of the memory. MLflow would make a store that is missing.
ui: $(INSTALLED) ## browse the runs at http://127.0.0.1:5000
	@test -f mlruns/mlflow.db || { echo "quantexp: There is no mlruns/mlflow.db here; run a sweep first: make demo" >&2; exit 2; }
	MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false MLFLOW_DISABLE_TELEMETRY=true \
		$(BIN)/python -m mlflow ui --backend-store-uri sqlite:///mlruns/mlflow.db --workers 1 --port 5000

lock: $(INSTALLED) ## pin what pyproject.toml asks for, with all that it needs
	$(BIN)/pip-compile --quiet --strip-extras --extra demo --extra dev --no-emit-index-url --no-emit-find-links \
		--no-emit-trusted-host --no-header --output-file requirements.lock pyproject.toml

lowest highest: $(INSTALLED) ## the tests with the oldest, or the newest, versions that pyproject.toml allows, in an environment of their own
	$(BIN)/python -c "import uv" 2>/dev/null || $(BIN)/python -m pip install --disable-pip-version-check uv
	mkdir -p build
	$(BIN)/uv pip compile --quiet --resolution $(@:lowest=lowest-direct) --extra demo --extra dev --output-file build/$@.lock \
		--no-emit-index-url --no-emit-find-links --no-header pyproject.toml
	$(MAKE) test VENV=build/$@ LOCK=build/$@.lock PYTEST="-W ignore::DeprecationWarning" # of old libraries, about new ones

wheel: $(INSTALLED)
	$(BIN)/python -m build --wheel

clean:
	rm -rf build dist site docs/figures src/*.egg-info .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis

# The stamp's name changes with what is asked for, so an old environment is brought up to date. llama.cpp comes first: with
# the settings of src/quantexp/util/native/settings.cmake, and tried, because pip takes what it has kept, whatever made it.
$(INSTALLED):
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	PYTHONPATH=src $(BIN)/python -m quantexp.build_llama --if-needed --version $(LLAMA_CPP_PYTHON) --constraint $(LOCK)
	$(BIN)/python -m pip install --disable-pip-version-check -r $(LOCK)
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps --editable .
	rm -f $(VENV)/.installed-*
	touch $@
