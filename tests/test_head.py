"""The output head in chunks against the plain computation with all logits at once (satori.head)."""

from types import SimpleNamespace

import pytest
import torch

from satori import head
from satori.head import head_logits, head_logprobs

TOKENS, HIDDEN, VOCABULARY = 23, 16, 50
CASES = {
    "plain": {},
    "granite": {"logits_scaling": 4.0},
    "cohere": {"logit_scale": 0.5},
    "gemma": {"final_logit_softcapping": 3.0},
}


def model_of(config, bias=False):
    """What the head needs of a model."""
    layer = torch.nn.Linear(HIDDEN, VOCABULARY, bias=bias)
    return SimpleNamespace(config=SimpleNamespace(**config), get_output_embeddings=lambda: layer)


def naive(hidden, model, targets, temperature):
    logprobs = (head_logits(model, hidden) / temperature).log_softmax(-1)
    return logprobs.gather(-1, targets[:, None])[:, 0], -(logprobs.exp() * logprobs).sum(-1)


def results(compute, model, temperature, seed=0, precision=None):
    """Values, and the gradients of a random weighting of the log-probabilities."""
    torch.manual_seed(seed)
    hidden = torch.randn(TOKENS, HIDDEN, requires_grad=True)
    targets, weights = torch.randint(VOCABULARY, (TOKENS,)), torch.randn(TOKENS)
    with torch.autocast("cpu", dtype=precision or torch.bfloat16, enabled=precision is not None):
        logprobs, entropy = compute(hidden, model, targets, temperature)
    (logprobs * weights).sum().backward()
    layer = model.get_output_embeddings()
    grads = [hidden.grad, *(p.grad for p in layer.parameters())]
    layer.zero_grad(set_to_none=True)
    return [logprobs.detach(), entropy.detach(), *grads]


@pytest.fixture(autouse=True, params=[1, 7, 1000], ids=lambda tokens: f"{tokens} tokens a chunk")
def chunk(request, monkeypatch):
    monkeypatch.setattr(head, "CHUNK_LOGITS", request.param * VOCABULARY)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("config", CASES.values(), ids=CASES.keys())
def test_values_and_gradients_equal_the_plain_computation(config, temperature, bias):
    torch.manual_seed(5)
    model = model_of(config, bias)
    for mine, plain in zip(results(head_logprobs, model, temperature), results(naive, model, temperature), strict=True):
        torch.testing.assert_close(mine, plain, atol=2e-5, rtol=1e-4)


def test_under_autocast_it_multiplies_in_bfloat16_and_adds_up_in_float32():
    torch.manual_seed(5)
    model = model_of({})
    exact = results(head_logprobs, model, 1.0)
    mine, plain = (results(compute, model, 1.0, precision=torch.bfloat16) for compute in (head_logprobs, naive))
    assert all(tensor.dtype == torch.float32 for tensor in mine)
    assert not torch.equal(mine[0], exact[0])
    for a, b, true in zip(mine, plain, exact, strict=True):
        assert (a - true).abs().max() <= 1.5 * (b - true).abs().max() + 1e-3


def test_a_head_kept_in_bfloat16_has_its_gradient_added_up_in_float32():
    """As exact in many chunks as in one product."""
    torch.manual_seed(5)
    layer, hidden = model_of({}).get_output_embeddings().bfloat16(), torch.randn(512, HIDDEN).bfloat16()
    model = SimpleNamespace(config=SimpleNamespace(), get_output_embeddings=lambda: layer)
    targets = torch.randint(VOCABULARY, (512,))
    grads = []
    for compute in (head_logprobs, naive):
        compute(hidden, model, targets, 1.0)[0].sum().backward()
        grads.append(layer.weight.grad.float())
        layer.zero_grad(set_to_none=True)
    assert layer.weight.dtype == torch.bfloat16
    torch.testing.assert_close(*grads, atol=2e-2 * float(grads[1].abs().max()), rtol=0)


def test_a_frozen_head_gets_no_gradient_and_passes_it_on():
    model = model_of({})
    model.get_output_embeddings().requires_grad_(False)
    _, _, grad_hidden, grad_weight = results(head_logprobs, model, 1.0)
    assert grad_weight is None
    assert grad_hidden.abs().sum() > 0


def test_a_second_gradient_is_added_where_the_first_stands():
    torch.manual_seed(5)
    model = model_of({}, bias=True)
    layer = model.get_output_embeddings()
    sums = [torch.zeros_like(p) for p in layer.parameters()]
    for seed in (1, 2):
        sums = [a + b for a, b in zip(sums, results(naive, model, 0.6, seed)[3:], strict=True)]
    places = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        hidden, targets = torch.randn(TOKENS, HIDDEN), torch.randint(VOCABULARY, (TOKENS,))
        (head_logprobs(hidden, model, targets, 0.6)[0] * torch.randn(TOKENS)).sum().backward()
        places.append(layer.weight.grad.data_ptr())
    assert places[0] == places[1]
    for total, parameter in zip(sums, layer.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, total, atol=2e-5, rtol=1e-4)


def test_no_tensor_of_all_logits_is_kept_for_the_backward_pass():
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        results(head_logprobs, model_of({}), 1.0)
    assert kept
    assert max(kept) < TOKENS * VOCABULARY


def test_the_entropy_has_no_gradient():
    hidden = torch.randn(TOKENS, HIDDEN, requires_grad=True)
    _, entropy = head_logprobs(hidden, model_of({}), torch.zeros(TOKENS, dtype=torch.long), 1.0)
    assert not entropy.requires_grad


def test_another_kind_of_head_is_refused_by_name():
    model = SimpleNamespace(config=SimpleNamespace(), get_output_embeddings=lambda: torch.nn.Identity())
    with pytest.raises(ValueError, match="Identity"):
        head_logprobs(torch.randn(2, HIDDEN), model, torch.zeros(2, dtype=torch.long), 1.0)
