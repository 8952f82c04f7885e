# Two commands are the whole set-up: `make demo` and `make test`. Both create what they need in .venv.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-slow lint types bench graphviz clean

demo: $(STAMP)
	$(BIN)/modelmeter trace deepseek-ocr examples/sample_page.png --out runs/demo --force

test: lint types graphviz
	$(BIN)/pytest -n 2 --dist loadfile

test-slow: $(STAMP)
	$(BIN)/pytest -m slow

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

bench: $(STAMP)
	$(BIN)/python benchmarks/trace_ratio.py
	$(BIN)/python benchmarks/folding.py
	$(BIN)/python benchmarks/closed_form.py
	$(BIN)/python benchmarks/service.py

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

# Graphviz draws the SVG views. Where it may not be installed, what needs it says so and the rest passes.
graphviz:
	@command -v dot >/dev/null \
	|| { command -v apt-get >/dev/null && apt-get update -qq && apt-get install -y -qq graphviz; } >/dev/null 2>&1 \
	|| { command -v brew >/dev/null && brew install --quiet graphviz; } >/dev/null 2>&1 \
	|| echo "Graphviz is not installed and could not be: the tests that draw with it are skipped"

clean:
	rm -rf $(VENV) runs build dist .pytest_cache .mypy_cache .ruff_cache
