"""Activations computed again in the backward pass (satori.recompute)."""

import copy

import pytest
import torch
from test_ppo import TEMPERATURE, learner, random_rollouts, settings, step, weights  # noqa: F401  (a fixture)
from test_training import tune
from torch.utils.checkpoint import checkpoint

from satori.lora import LoraSettings, add_adapters
from satori.recompute import recomputing
from satori.reinforcement.ppo import prepare
from satori.scoring import make_batch, policy_logprobs

SEQUENCES = [((5, 6, 7), tuple(range(8, 9 + n))) for n in (1, 7, 3, 12, 5)]


def gradients(model, again):
    """All gradients of a forward and backward pass, and the bytes that were kept between the two."""
    kept: dict[int, int] = {}

    def count(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor), recomputing(model, again):
        logprobs_N, _ = policy_logprobs(model, make_batch(SEQUENCES), 1.0)
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    logprobs_N.sum().backward()
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found, sum(size for place, size in kept.items() if place not in own)


@pytest.mark.parametrize("rank", [0, 4])
@pytest.mark.parametrize("training", [False, True])
def test_the_gradients_are_the_same_and_far_less_is_kept(make_policy, rank, training):
    model = add_adapters(make_policy(kv_heads=2), LoraSettings(rank=rank), seed=0).train(training)
    kept, size = gradients(model, again=False)
    again, smaller = gradients(model, again=True)
    assert kept.keys() == again.keys()
    assert all(torch.equal(again[name], gradient) for name, gradient in kept.items())
    assert smaller < size / 3
    assert model.training == training
    assert gradients(model, again=False)[1] == size, "and off again afterwards"


def test_a_step_of_ppo_is_the_same(learner):  # noqa: F811
    other = copy.deepcopy(learner)
    expected = step(learner, random_rollouts(), settings(recompute_activations=False))
    assert step(other, random_rollouts(), settings(recompute_activations=True)) == expected
    assert torch.equal(weights(other.policy), weights(learner.policy))
    assert torch.equal(weights(other.critic), weights(learner.critic))


def test_scoring_without_gradients_computes_nothing_twice(learner, monkeypatch):  # noqa: F811
    monkeypatch.setattr("satori.recompute.checkpoint", lambda *arguments, **options: pytest.fail("not here"))
    prepare(learner, random_rollouts(), settings(recompute_activations=True), TEMPERATURE)


def test_fine_tuning_is_the_same(embedded, tmp_path, monkeypatch):
    def count(*arguments, **options):
        calls.append(again)
        return checkpoint(*arguments, **options)

    monkeypatch.setattr("satori.recompute.checkpoint", count)
    calls, results = [], []
    for again in (False, True):
        tokenizer, model = embedded[0], copy.deepcopy(embedded[1])
        results.append(tune(model, tokenizer, tmp_path / str(again), recompute_activations=again))
    assert torch.equal(*results)
    assert calls
    assert all(calls)
