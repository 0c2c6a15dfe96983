# Everything runs in .venv, made here on first use. PyTorch is pinned by constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
PYTEST := $(BIN)/python -m pytest -n auto --dist loadfile

.PHONY: demo test check bench torture docs qgis-plugin clean

demo: $(INSTALLED)
	$(BIN)/hsifcn demo -o runs/demo --overwrite

test: $(INSTALLED)
	$(PYTEST)

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/bandit -q -r hsifcn -c pyproject.toml
	@# The audit waits for a service: it runs beside the tests.
	$(BIN)/python tests/audit.py & audit=$$!; $(PYTEST) -m "not slow" && wait $$audit

bench: $(INSTALLED)
	$(BIN)/python -m benchmarks.main_job --write
	$(BIN)/python -m benchmarks.reading --write
	$(BIN)/python -m benchmarks.large_scenes --write
	$(BIN)/python -m benchmarks.fleet --write
	$(BIN)/python -m benchmarks.accuracy
	$(BIN)/python -m benchmarks.transfer
	$(BIN)/python -m benchmarks.scenes

torture: $(INSTALLED)
	$(BIN)/python tests/torture --write

docs: $(INSTALLED)
	$(BIN)/python docs/build.py

qgis-plugin:
	$(PYTHON) integrations/qgis/build.py dist

clean:
	rm -rf .venv build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all]'
	touch $(INSTALLED)
