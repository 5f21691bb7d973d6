# make demo: simulate a small campaign and reduce it.   make test: run the tests.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
STAMP = $(VENV)/.installed

.PHONY: help demo season test test-slow accuracy lint types bench bench-recipes bench-frame clean

help:
	@echo "make demo       simulate a small campaign and reduce it (under 5 minutes)"
	@echo "make season     twenty nights of a planet and of a constant star (half an hour and 30 GB; SEASON=)"
	@echo "make test       install and run the tests"
	@echo "make test-slow  full-size and long checks"
	@echo "make accuracy   reduce a full-size night and compare it with its truth (an hour; NIGHT=, RAW=)"
	@echo "make lint types check style and types"
	@echo "make bench      benchmarks of planner, index, simulator, kernels, velocities and templates"
	@echo "make bench-recipes  time whole recipes on a full-size night (an hour and 20 GB; BENCH_NIGHT=)"
	@echo "make bench-frame  time one science frame, raw to velocities, on the night of make accuracy (NIGHT=)"

$(STAMP): setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip setuptools wheel
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	@touch $@

demo: $(STAMP)
	$(BIN)/apero-dask simulate --campaign demo --out demo --workers 2 --no-truth-images
	$(BIN)/apero_processing --data demo SPIROU_MINI runfiles/demo.ini
	$(BIN)/apero-dask status --data demo
	$(BIN)/apero-dask compare-rv --data demo

SEASON ?= season
season: $(STAMP)
	$(BIN)/apero-dask simulate --campaign season --out $(SEASON) --workers 2 --no-truth-images
	$(BIN)/apero_processing --data $(SEASON) SPIROU_MINI runfiles/season.ini
	$(BIN)/apero-dask compare-rv --data $(SEASON)
	$(BIN)/python -m tests.recipes.season $(SEASON)

test: $(STAMP)
	$(BIN)/python -m pytest -q -n 2 --dist loadgroup --no-loadscope-reorder -m "not slow"

test-slow: $(STAMP)
	$(BIN)/python -m pytest -q -m slow

# Full-size night below NIGHT; with RAW= the frames of an earlier simulation are taken (hard links).
NIGHT ?= accuracy
accuracy: $(STAMP)
	$(BIN)/python -m tests.accuracy $(NIGHT) $(if $(RAW),--raw $(RAW)) --table $(NIGHT).md

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

bench: $(STAMP)
	$(BIN)/python benchmarks/bench_planner.py
	$(BIN)/python benchmarks/bench_index.py
	$(BIN)/python benchmarks/bench_simulator.py
	$(BIN)/python benchmarks/bench_kernels.py
	$(BIN)/python benchmarks/bench_threads.py
	$(BIN)/python benchmarks/bench_science.py

BENCH_NIGHT ?= bench-night
bench-recipes: $(STAMP)
	$(BIN)/python benchmarks/bench_recipes.py $(BENCH_NIGHT)

# After make accuracy with the same NIGHT, whose products of one frame are made again.
bench-frame: $(STAMP)
	$(BIN)/python benchmarks/bench_frame.py $(NIGHT) $(NIGHT)/accuracy.ini

clean:
	rm -rf $(VENV) demo season accuracy accuracy.md build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
