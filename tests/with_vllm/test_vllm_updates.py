"""New weights for the vLLM engine: compiled, asleep, incomplete (satori.engines.vllm_engine).

What the weights are afterwards is looked at in ``test_vllm_weights.py``.
"""

import weakref
from functools import partial

import pytest
import torch
from vllm_models import EOS, PROMPTS, SETTINGS, make_model, wrong

from satori.engines import vllm_engine, vllm_process
from satori.engines.base import EngineError, Sampling, generate_all
from satori.engines.vllm_engine import VllmEngine


def test_a_compiled_model_takes_weights_and_is_given_back(saved):
    """Compiled is how a GPU runs it. Weights that outlive their engine keep the next one from opening there."""
    model, other = make_model(), make_model(seed=1)
    settings = SETTINGS.model_copy(update={"enforce_eager": False, "max_model_len": 64})
    with VllmEngine(saved(model), EOS, settings) as engine:
        executor = engine._llm.llm_engine.model_executor
        modules = [weakref.ref(each) for each in executor.driver_worker.worker.model_runner.model.modules()]
        assert wrong(engine, model) < 1e-4
        engine.update_weights(other)
        assert wrong(engine, other) < 1e-4
        del executor
    assert len(modules) > 10
    assert not [module() for module in modules if module() is not None]


@pytest.fixture
def asleep(saved, monkeypatch):
    """An engine that says it sleeps, as one on a GPU does, and what is asked of it."""
    asked = []
    with VllmEngine(saved(make_model()), EOS, SETTINGS) as engine:
        monkeypatch.setattr(engine._llm.llm_engine, "is_sleeping", lambda: True)
        monkeypatch.setattr(engine._llm, "wake_up", lambda tags=None: asked.append(tags))
        monkeypatch.setattr(engine._llm, "collective_rpc", lambda method, kwargs: asked.append(method))
        monkeypatch.setattr(vllm_engine, "end", lambda *given: (asked.append("end"), vllm_process.end(*given)))
        yield engine, asked


def test_weights_are_woken_before_they_are_replaced_and_the_cache_after(asleep):
    engine, asked = asleep
    engine.update_weights(make_model())
    assert asked == [["weights"], "reload_weights", ["kv_cache"]]


def test_a_sleeping_engine_is_woken_before_its_end(asleep):
    engine, asked = asleep
    engine.close()
    assert asked == [None, "end"]


@pytest.mark.parametrize("full", ["weights", "kv_cache"])
def test_no_memory_to_wake_up(asleep, monkeypatch, full):
    engine, asked = asleep

    def wake_up(tags=None):
        if tags in (None, [full]):
            raise RuntimeError("CUDA Error: out of memory")

    monkeypatch.setattr(engine._llm, "wake_up", wake_up)
    with pytest.raises(EngineError, match=f"memory of its {full}.*out of memory; set engine.vllm.gpu_memory_util"):
        engine.update_weights(make_model())
    assert asked[-1] == "end"
    with pytest.raises(EngineError, match="closed"):
        generate_all(engine, PROMPTS, Sampling(), 0)


def without(name, model):
    return [(n, p) for n, p in model.named_parameters() if n != name]


def broken_off(model):
    yield from without("", model)[:7]
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("pairs", "error", "message"),
    [
        (partial(without, "model.layers.0.self_attn.v_proj.weight"), EngineError, "not given, such as .*v_proj"),
        (partial(without, "model.layers.1.mlp.down_proj.weight"), EngineError, "not given, such as .*down_proj"),
        (lambda model: [*without("", model), ("model.gate", torch.zeros(3))], EngineError, "no parameter model.gate"),
        (broken_off, KeyboardInterrupt, "^$"),
    ],
)
def test_an_update_that_fails_closes_the_engine(saved, pairs, error, message):
    """vLLM cannot go back: an engine with half of its weights must not be sampled from."""
    model = make_model()
    engine = VllmEngine(saved(model), EOS, SETTINGS)
    with pytest.raises(error, match=message):
        engine.update_weights_from(pairs(model))
    with pytest.raises(EngineError, match="closed"):
        generate_all(engine, [[5]], Sampling(), 0)


def test_what_vllm_leaves_as_it_was_is_an_error(saved, monkeypatch):
    """Should it pass over a weight that was given."""
    model = make_model()
    engine = VllmEngine(saved(model), EOS, SETTINGS)
    monkeypatch.setattr(vllm_engine, "check_each", lambda pairs, shapes: pairs)
    with pytest.raises(EngineError, match=r"vLLM kept old weights.*down_proj"):
        engine.update_weights_from(without("model.layers.1.mlp.down_proj.weight", model))
