# `make demo` and `make test` need nothing else first: both install what they use into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install browser demo test test-all check docs pictures bench newest clean

install: $(STAMP)

# Only what inkfold imports is compiled: pip would compile all 21,000 modules on one core, a third to a half of an installation.
COMPILE := import importlib, pkgutil, inkfold; \
  names = [module.name for module in pkgutil.walk_packages(inkfold.__path__, "inkfold.")]; \
  [importlib.import_module(name) for name in names if not name.endswith("__main__")]; \
  from inkfold.models.torchvision_compat import declare_missing_operators; declare_missing_operators(); \
  import timm, optuna, matplotlib.figure, scipy.stats, scipy.optimize

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt torch -e '.[dev]'
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -c '$(COMPILE)'
	touch $(STAMP)

# Reports are looked at in a browser; where there is none and none can be installed, those tests say so and are skipped.
browser:
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
		&& apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium >/dev/null; } \
		|| echo "no chromium: the tests that need one will be skipped"

demo: install
	$(BIN)/inkfold demo --out demo

# A file's tests stay together, so that what they share is made once; conftest.py puts the longest files first.
# Three workers for two cores: tests that wait (for kills, browsers, servers) leave a core free.
WORKERS ?= 3
# Compiled modules are kept: each worker, and each interpreter that tests start, would compile all of them anew (7 s a worker).
test test-all: export PYTHONDONTWRITEBYTECODE =
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test: install
	$(PYTEST)

# With the slow tests, and with other examples each time; a failure prints how to repeat it.
test-all: install
	$(PYTEST) -m 'not gpu' --hypothesis-profile explore

check: install
	$(BIN)/ruff format --check src tests benchmarks docs
	$(BIN)/ruff check src tests benchmarks docs
	$(BIN)/mypy
	$(BIN)/lint-imports

# The manual, as docs/_build/html/index.html; what builds it is installed here alone. Warnings are errors.
docs: install
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

pictures: install browser
	$(BIN)/python docs/pictures/make.py

# The libraries that inkfold is compared with are installed here alone: no test needs them.
bench: install
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	for script in decode extract chunks augment heads vote reference_procedure report export serve depthwise; do $(BIN)/python benchmarks/$$script.py || exit 1; done

# The newest versions of all dependencies, in an environment of its own: needs a network.
newest:
	.ci/newest

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
