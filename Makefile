# make demo      index real text on this machine and search it
# make test      the test suite
# make lint      ruff and mypy
# make docs      build the documentation into build/site, without a network
# make torture   the long form of the fault tests: kill -9, full disk, flipped bytes
# make clean     remove what these wrote, but not .venv
#
# PYTHON=python3.12 make demo              another Python (3.11 to 3.13) for .venv
# PYTEST_ARGS='tests/corpus -x' make test  a part of the suite
# PYTEST_ARGS='-n 0 --pdb' make test       in one process, which a debugger needs

PYTHON ?= python3
PYTEST_ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt

.PHONY: help demo test docs torture lint clean

help:
	@sed -n '/^$$/q; s/^# \{0,1\}//p' Makefile

# The stamps are touched last, so that what was interrupted is done again.
$(VENV)/.made:
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.made pyproject.toml constraints.txt
	@echo "Installing llm2comp into $(VENV), once; PyTorch is large"
	$(PIP) --editable '.[cpu]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.made pyproject.toml constraints.txt
	@echo "Installing llm2comp and its test tools into $(VENV), once; PyTorch is large"
	$(PIP) --editable '.[cpu,serve,mcp,dev]'
	@touch $(VENV)/.installed $@

# Print a search as it can be typed in this folder, and run it.
define search
	@echo; echo '$$ $(BIN)/llm2comp search --index demo/pydocs.index $(1)'
	@$(BIN)/llm2comp search --index demo/pydocs.index $(1)
endef

demo: $(VENV)/.installed
	@mkdir -p demo
	$(BIN)/python -m llm2comp_apps.corpus.pydocs demo/pydocs.jsonl
	$(BIN)/llm2comp index build demo/pydocs.jsonl
	$(call search,"repeat the same items forever" -k 3)
	$(call search,"keep a list in order when inserting" -k 3 --mode dense)
	$(call search,"read and write compressed archives" -k 3 --mode lexical)
	@echo; echo "Your own documents: $(BIN)/llm2comp index build FILE_OR_FOLDER"

# Files are dealt out to a process for each processor, four at most: each holds PyTorch, and some tests start servers.
test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m "not torture" -n logical --maxprocesses 4 --dist loadfile --durations=15 $(PYTEST_ARGS)

# The reference of the command line is written first; the theme's banner about its successor is no news here.
docs: $(VENV)/.installed-dev
	$(BIN)/python docs/generate_cli.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "Open build/site/index.html, or, for its search box, run: $(BIN)/python -m http.server -d build/site"

torture: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m torture --durations=15 $(PYTEST_ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf demo build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
