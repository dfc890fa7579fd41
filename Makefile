# Each target is a command that you could type yourself.
#   make reproduce              redraw every table and figure, retrain a sample, compare
#   make reproduce TIER=paper   train whatever is missing of the paper's protocol first (the data sets, and a GPU for figures 2, 3, 4c and 4d)
#   make reproduce TIER=paper STUDIES=figure4a   ... of one study alone
#   make reproduce TIER=paper DEVICE=cuda JOBS=10   ... ten runs at a time on a GPU
PYTHON ?= python3
TIER ?=
JOBS ?= 2
# How many runs of a study verify trains again, at most.
SAMPLE ?= 8
# What to train on. On a GPU, such as DEVICE=cuda, steps are CUDA graphs.
DEVICE ?= cpu
# All but figure4e, which needs torchvision: make reproduce TIER=paper STUDIES=figure4e
STUDIES ?= table1 kappa figure2a figure2b figure3 figure4a figure4b figure4c figure4d \
  figure4c_adam figure4d_adam sensitivity2019 heights2019 horizon choices figure3_choices robustness peers ingredients heldout
BIN := .venv/bin

.PHONY: reproduce train figures verify verdicts test test-slow bench bench-compare bench-check bench-record lint

.NOTPARALLEL: # figures are drawn from what was trained before

reproduce: $(if $(TIER),train) figures verify verdicts

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

train: .venv/installed
	$(BIN)/python -m experiments run $(STUDIES) --tier $(TIER) --jobs $(JOBS) --device $(DEVICE) $(if $(filter cuda%,$(DEVICE)),--cuda-graphs)

figures: .venv/installed
	$(BIN)/python -m paper_figures

verify: .venv/installed
	$(BIN)/python -m experiments verify --jobs $(JOBS) --device $(DEVICE) --sample $(SAMPLE)

verdicts: .venv/installed
	$(BIN)/python -m paper_figures --verdicts

test: .venv/installed
	$(BIN)/python -m pytest -n auto --dist worksteal

test-slow: .venv/installed
	$(BIN)/python -m pytest -m slow

bench: .venv/installed
	$(BIN)/python -m pytest tests/benchmarks -o addopts= --benchmark-json results/benchmarks.json

# FRESH=results/benchmarks.json after make bench; without, it is run first and leaves no file.
bench-compare: .venv/installed
	$(BIN)/python -m tests.benchmarks compare $(FRESH)

bench-check: .venv/installed
	$(BIN)/python -m tests.benchmarks check

bench-record: .venv/installed
	$(BIN)/python -m tests.benchmarks record

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
