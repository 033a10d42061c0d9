"""Weights of a live model in the vLLM engine (satori.engines.vllm_engine, satori.engines.vllm_weights)."""

import random

import pytest
import torch
from vllm_models import EOS, SETTINGS, VOCABULARY, make_model, perturb, wrong

from satori.engines import vllm_engine
from satori.engines.base import EngineError
from satori.engines.vllm_engine import VllmEngine
from satori.engines.vllm_weights import with_tied_head
from satori.lora import LoraSettings, add_adapters

CLOSE = 1e-4


@pytest.fixture(scope="module", params=["qwen2", "tied-qwen2", "tied-llama"])
def opened(request, saved):
    """The kind of a model and an engine for it."""
    with VllmEngine(saved(make_model(request.param)), EOS, SETTINGS) as engine:
        yield request.param, engine


@pytest.fixture
def prompts():
    """Short ones, and two that share more than a block of the engine's cache."""
    rng = random.Random(0)
    long = [rng.randrange(2, VOCABULARY) for _ in range(300)]
    return [[rng.randrange(2, VOCABULARY) for _ in range(n)] for n in (1, 5, 20)] + [[*long, 3], [*long, 4]]


def test_the_weights_of_a_live_model_are_sampled(opened, prompts):
    """Again and again, with the same prompts: nothing of the old weights is left in the cache either."""
    kind, engine = opened
    model = make_model(kind)
    engine.update_weights(model)
    for seed in (1, 2):
        assert wrong(engine, model, prompts) < CLOSE
        perturb(model, seed)
        assert wrong(engine, model, prompts) > 100 * CLOSE, "the engine has weights of its own"
        engine.update_weights(model)
    assert wrong(engine, model, prompts) < CLOSE


def test_adapters_go_over_merged(opened, prompts):
    kind, engine = opened
    model = add_adapters(make_model(kind, seed=2), LoraSettings(rank=4), seed=0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.2)
    engine.update_weights(model)
    assert wrong(engine, model, prompts) < CLOSE
    assert wrong(engine, make_model(kind, seed=2), prompts) > 100 * CLOSE


def test_weights_one_by_one(opened, prompts):
    """As sharded training has them: named parameters, and each gone when the next one comes."""
    kind, engine = opened
    model = make_model(kind, seed=5)

    def shards():
        for name, parameter in model.named_parameters():
            whole = parameter.detach().clone()
            yield name, whole

    engine.update_weights_from(shards())
    assert wrong(engine, model, prompts) < CLOSE


def test_a_tied_head_needs_its_second_name(opened, prompts, monkeypatch):
    """What the engine adds to the named parameters is needed: without it the head stays the old one."""
    kind, engine = opened
    if kind == "qwen2":
        pytest.skip("has a head of its own")
    engine.update_weights(make_model(kind, seed=1))
    model = make_model(kind, seed=2)
    with monkeypatch.context() as patch:
        patch.setattr(vllm_engine, "with_tied_head", lambda pairs, shapes: pairs)
        patch.setattr(vllm_engine, "check_each", lambda pairs, shapes: pairs)
        engine.update_weights_from(model.named_parameters())
    assert wrong(engine, model, prompts) > 100 * CLOSE
    engine.update_weights_from(model.named_parameters())
    assert wrong(engine, model, prompts) < CLOSE


def test_weights_of_another_type_are_converted(opened, prompts):
    kind, engine = opened
    model = make_model(kind, seed=6)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.bfloat16())
    engine.update_weights_from((name, parameter.bfloat16()) for name, parameter in model.named_parameters())
    assert wrong(engine, model, prompts) < CLOSE


def test_another_model_is_refused_and_changes_nothing(opened, prompts):
    kind, engine = opened
    model, grown = make_model(kind, seed=3), make_model(kind, seed=4)
    engine.update_weights(model)
    grown.resize_token_embeddings(VOCABULARY + 3, mean_resizing=False)
    with pytest.raises(EngineError, match=rf"embed_tokens.weight has the shape \({VOCABULARY + 3}, 64\)"):
        engine.update_weights(grown)
    assert wrong(engine, model, prompts) < CLOSE


def test_sleep_is_harmless_where_there_is_no_gpu(opened, prompts):
    kind, engine = opened
    if engine._can_sleep:
        pytest.skip("this is a GPU")
    model = make_model(kind, seed=8)
    engine.update_weights(model)
    engine.sleep()
    assert wrong(engine, model, prompts) < CLOSE


def test_the_head_is_added_once():
    embeddings, norm, head = torch.ones(2, 2), torch.ones(2), torch.zeros(2, 2)
    pairs = [("model.embed_tokens.weight", embeddings), ("model.norm.weight", norm)]
    shapes = {"lm_head.weight": embeddings.shape}
    assert list(with_tied_head(pairs, shapes)) == [*pairs, ("lm_head.weight", embeddings)]
    assert list(with_tied_head(pairs, {})) == pairs
    whole = [*pairs, ("lm_head.weight", head)]
    assert list(with_tied_head(whole, shapes)) == whole
