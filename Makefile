# Everything runs in .venv, made here on first use. PyTorch is pinned by constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
PYTEST := $(BIN)/python -m pytest -n auto --dist loadfile

.PHONY: demo test check bench docs clean

demo: $(INSTALLED)
	$(BIN)/hsifcn demo -o runs/demo --overwrite

test: $(INSTALLED)
	$(PYTEST)

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(PYTEST) -m "not slow"

bench: $(INSTALLED)
	$(BIN)/python benchmarks/main_job.py
	$(BIN)/python benchmarks/synthetic.py
	$(BIN)/python benchmarks/reading.py
	$(BIN)/python -m benchmarks.scale --gigabytes 20 --megapixels 1,50
	$(BIN)/python -m benchmarks.speed --gigabytes 5
	$(BIN)/python -m benchmarks.memory
	$(BIN)/python -m benchmarks.field_sizes
	$(BIN)/python -m benchmarks.other_scenes

docs: $(INSTALLED)
	$(BIN)/python docs/build.py

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all]'
	touch $(INSTALLED)
