"""Muon and AdamW as one optimiser: what each covers, learning rates, resuming."""

import copy
import io

import pytest
import torch
from torch.nn.functional import cross_entropy

from satori.optimizers import MuonWithAdamW, OptimizerKind, is_layer_matrix, make_optimizer
from satori.tiny_model import build_model

IDS = torch.randint(2, 40, (4, 12), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def policy(make_policy):
    return make_policy(kv_heads=2, factor=1.0)


def loss_of(model):
    logits = model(IDS).logits
    return cross_entropy(logits[:, :-1].flatten(0, 1), IDS[:, 1:].flatten())


def train(model, optimizer, steps, scheduler=None):
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = loss_of(model)
        loss.backward()
        optimizer.step()
        if scheduler:
            scheduler.step()
        losses.append(loss.item())
    return losses


def weights(model):
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def same(one, two):
    return all(torch.equal(one[name], two[name]) for name in one)


def covered(optimizer):
    return [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]


# --- what is covered ---


@pytest.mark.parametrize("kind", OptimizerKind)
def test_every_parameter_is_covered_once(policy, kind):
    ids = covered(make_optimizer(policy, kind, 0.01))
    assert sorted(ids) == sorted(id(p) for p in policy.parameters())


def test_tied_embeddings_are_covered_once(tokenizer):
    model = build_model(tokenizer, hidden_size=16, layers=1, heads=2, seed=0)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    ids = covered(MuonWithAdamW(model, 0.01))
    assert len(ids) == len(set(ids)) == len(list(model.parameters()))


def test_muon_has_the_layers_matrices_and_adamw_all_else(policy):
    muon, adamw = MuonWithAdamW(policy, 0.01).parts
    names = {id(p): name for name, p in policy.named_parameters()}
    matrices = {names[i].rsplit(".", 2)[1] for i in covered(muon)}
    assert matrices == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    others = {names[i] for i in covered(adamw)}
    assert {"model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"} <= others


def test_a_reward_models_head_is_adamws(make_critic):
    [score] = [p for name, p in make_critic().named_parameters() if name == "score.weight"]
    assert not is_layer_matrix("score.weight", score)


def test_the_kind_decides_the_optimiser(policy):
    assert isinstance(make_optimizer(policy, OptimizerKind.MUON, 0.01), MuonWithAdamW)
    assert isinstance(make_optimizer(policy, OptimizerKind.ADAMW, 0.01), torch.optim.AdamW)


@pytest.mark.parametrize("kind", OptimizerKind)
def test_there_is_no_weight_decay(policy, kind):
    assert {group["weight_decay"] for group in make_optimizer(policy, kind, 0.01).param_groups} == {0.0}


# --- steps ---


@pytest.mark.parametrize("kind", OptimizerKind)
def test_the_loss_falls(policy, kind):
    losses = train(policy, make_optimizer(policy, kind, 0.01), 15)
    assert losses[-1] < 0.7 * losses[0]


def test_a_step_moves_every_parameter_that_has_a_gradient(policy):
    before = weights(policy)
    train(policy, MuonWithAdamW(policy, 0.01), 1)
    moved = {name for name, parameter in policy.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved == {name for name, parameter in policy.named_parameters() if parameter.grad.any()}


def test_zero_grad_clears_the_gradients_of_both_parts(policy):
    optimizer = MuonWithAdamW(policy, 0.01)
    loss_of(policy).backward()
    optimizer.zero_grad()
    assert all(parameter.grad is None for parameter in policy.parameters())


# --- learning rate ---


def test_a_scheduler_sets_the_learning_rate_of_both_parts(policy):
    optimizer = MuonWithAdamW(policy, 0.01)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    train(policy, optimizer, 2, scheduler)
    assert [group["lr"] for part in optimizer.parts for group in part.param_groups] == [0.0025, 0.0025]


def test_at_learning_rate_zero_nothing_moves(policy):
    optimizer = MuonWithAdamW(policy, 0.01)
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.0)
    before = weights(policy)
    train(policy, optimizer, 1)
    assert same(weights(policy), before)


def test_a_scheduler_reaches_an_optimiser_that_was_loaded(policy):
    optimizer = MuonWithAdamW(policy, 0.01)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(policy, optimizer, 1, scheduler)
    assert [group["lr"] for part in optimizer.parts for group in part.param_groups] == [0.005, 0.005]


# --- resuming ---


def saved(state):
    """The state as it comes back from a file."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("kind", OptimizerKind)
def test_training_goes_on_bit_for_bit_from_a_saved_state(policy, kind):
    optimizer = make_optimizer(policy, kind, 0.01)
    train(policy, optimizer, 3)
    resumed = copy.deepcopy(policy)
    resumed_optimizer = make_optimizer(resumed, kind, 0.5)  # the saved learning rate holds, not this one
    resumed_optimizer.load_state_dict(saved(optimizer.state_dict()))
    assert train(policy, optimizer, 3) == train(resumed, resumed_optimizer, 3)
    assert same(weights(policy), weights(resumed))


def test_without_the_saved_state_training_goes_on_differently(policy):
    optimizer = MuonWithAdamW(policy, 0.01)
    train(policy, optimizer, 3)
    resumed = copy.deepcopy(policy)
    train(policy, optimizer, 3)
    train(resumed, MuonWithAdamW(resumed, 0.01), 3)
    assert not same(weights(policy), weights(resumed))


def test_a_state_of_another_shape_is_refused(policy):
    optimizer = MuonWithAdamW(policy, 0.01)
    with pytest.raises(ValueError, match="argument"):
        optimizer.load_state_dict({"parts": optimizer.state_dict()["parts"][:1]})
