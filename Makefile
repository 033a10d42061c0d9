# Two commands: `make tiny` installs everything and runs the whole method; `make test` installs and passes the tests.
PYTHON ?= python3.11
VENV ?= .venv
OUT ?= runs/tiny

.PHONY: tiny test check install bench clean

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --upgrade pip
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

tiny: install
	$(VENV)/bin/satori run tiny --out $(OUT)

test: install
	$(VENV)/bin/python -m pytest

check: install
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

bench: install
	$(VENV)/bin/python bench/sampler.py

clean:
	rm -rf $(VENV) runs
