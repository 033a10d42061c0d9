"""How a recipe's stages open their engine (satori.engines.opening); vLLM itself is not needed."""

from contextlib import nullcontext

import pytest

from satori.engines import opening, vllm_engine
from satori.engines.opening import EngineSettings
from satori.engines.vllm_engine import VllmSettings
from satori.pretraining import SHIPPED_BASE


@pytest.mark.parametrize(("given", "expected"), [({}, 0.4), ({"gpu_memory_utilization": 0.7}, 0.7)])
def test_in_a_recipe_vllm_leaves_memory_for_the_training(monkeypatch, given, expected):
    monkeypatch.setattr(opening, "VllmEngine", lambda checkpoint, eos, settings, also_stop: nullcontext(settings))
    with opening.open_engine(EngineSettings(kind="vllm", rows=3, vllm=given), SHIPPED_BASE) as settings:
        assert (settings.gpu_memory_utilization, settings.max_num_seqs) == (expected, 3)


def test_vllm_by_itself_takes_most_of_the_memory(monkeypatch):
    monkeypatch.setattr(vllm_engine, "saved_type", lambda *_: "float32")
    arguments = vllm_engine.engine_arguments("m", VllmSettings(), False, on_cpu=False)
    assert arguments["gpu_memory_utilization"] == 0.9
