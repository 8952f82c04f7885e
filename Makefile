# Two commands are the whole set-up: `make demo` and `make test`. Both create what they need in .venv.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

OLD_VENV := .venv-old
OLD_STAMP := $(OLD_VENV)/.installed
OLD_TESTS := $(wildcard tests/test_vendor_snapshot*.py tests/test_stand_ins*.py tests/test_weightless*.py) \
	tests/test_hugging_face.py tests/test_signatures.py tests/test_movement.py tests/test_model.py \
	tests/test_memory.py tests/test_recorded_forward.py tests/test_verify.py

NODE_MODULES := web/node_modules/.package-lock.json

.PHONY: demo test test-slow test-old lint types bench page page-test node graphviz chromium clean

demo: $(STAMP)
	$(BIN)/modelmeter trace deepseek-ocr examples/sample_page.png --out runs/demo --force

test: lint types graphviz chromium page-test
	$(BIN)/pytest -n 2 --dist loadfile

test-slow: $(STAMP)
	$(BIN)/pytest -m slow

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

# The same tracing with the oldest torch and transformers; several gigabytes, since that torch brings CUDA's libraries.
# That transformers has no qwen3_moe.
test-old: $(OLD_STAMP)
	$(OLD_VENV)/bin/pytest $(OLD_TESTS) --deselect 'tests/test_hugging_face.py::test_other_models[qwen3_moe]'

bench: $(STAMP)
	$(BIN)/python benchmarks/trace_ratio.py
	$(BIN)/python benchmarks/replay.py
	$(BIN)/python benchmarks/folding.py
	$(BIN)/python benchmarks/closed_form.py
	$(BIN)/python benchmarks/service.py

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

$(OLD_STAMP): pyproject.toml constraints-old.txt
	test -x $(OLD_VENV)/bin/python || $(PYTHON) -m venv $(OLD_VENV)
	$(OLD_VENV)/bin/pip install --quiet --disable-pip-version-check -c constraints-old.txt -e '.[trace]' \
		pytest hypothesis networkx jsonschema
	touch $@

# The interactive page's template. Only who changes web/ needs Node; the built template is part of the repository.
page: $(NODE_MODULES)
	cd web && npm run --silent build

# Types, unit tests, and whether the template is what web/ builds.
page-test: node
	@if node -e 'process.exit(process.versions.node.split(".")[0] < 20 ? 1 : 0)' 2>/dev/null && command -v npm >/dev/null; then \
		$(MAKE) --no-print-directory $(NODE_MODULES) \
		&& cd web && npm run --silent types && npm run --silent test && npm run --silent check; \
	else echo "Node 20 is not installed and could not be: the checks of web/ are skipped"; fi

$(NODE_MODULES): web/package.json web/package-lock.json
	cd web && npm ci --silent
	touch $@

node:
	@command -v npm >/dev/null \
	|| { command -v apt-get >/dev/null && apt-get update -qq && apt-get install -y -qq nodejs npm; } >/dev/null 2>&1 \
	|| { command -v brew >/dev/null && brew install --quiet node; } >/dev/null 2>&1 \
	|| true

# A browser tries the page. Where it may not be installed, these tests are skipped and say so.
chromium:
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null \
	|| { command -v apt-get >/dev/null && apt-get update -qq && apt-get install -y -qq chromium; } >/dev/null 2>&1 \
	|| { command -v brew >/dev/null && brew install --quiet --cask chromium; } >/dev/null 2>&1 \
	|| echo "Chromium is not installed and could not be: the tests of the page in a browser are skipped"

# Graphviz draws the SVG views. Where it may not be installed, what needs it says so and the rest passes.
graphviz:
	@command -v dot >/dev/null \
	|| { command -v apt-get >/dev/null && apt-get update -qq && apt-get install -y -qq graphviz; } >/dev/null 2>&1 \
	|| { command -v brew >/dev/null && brew install --quiet graphviz; } >/dev/null 2>&1 \
	|| echo "Graphviz is not installed and could not be: the tests that draw with it are skipped"

clean:
	rm -rf $(VENV) $(OLD_VENV) web/node_modules runs build dist .pytest_cache .mypy_cache .ruff_cache
