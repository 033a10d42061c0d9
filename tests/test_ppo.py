"""One optimiser step of PPO on a tiny model with hand-made rollouts (satori.reinforcement.ppo)."""

import copy
import random
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from satori.engines.base import EngineError
from satori.reinforcement import ppo as module
from satori.reinforcement.ppo import Learner, PPOSettings, prepare, train, update
from satori.reinforcement.restart_buffer import Start
from satori.reinforcement.rewards import Outcome, RewardBreakdown
from satori.reinforcement.rollouts import InitialState, Rollout
from satori.scoring import token_logprobs
from satori.types import Completion, FinishReason, Problem

close = torch.testing.assert_close
TEMPERATURE = 0.7


def rollout(prompt, prefix, response, reward, start=Start.PROBLEM):
    initial = InitialState(Problem("p", "?", "1"), start, tuple(prompt), tuple(prefix))
    completion = Completion(tuple(response), FinishReason.STOP)
    return Rollout(initial, completion, "", Outcome.WRONG, RewardBreakdown(reward, 0.0, 0.0))


def random_rollouts(seed=0):
    """Six rollouts of mixed lengths; every second one starts from a restart prefix."""
    rng = random.Random(seed)

    def ids(low, high):
        return [rng.randrange(2, 40) for _ in range(rng.randint(low, high))]

    return [
        rollout(ids(2, 6), ids(2, 5) if i % 2 else (), ids(1, 9), rng.choice([0.0, -1.0, 0.5]),
                Start.NEGATIVE if i % 2 else Start.PROBLEM)
        for i in range(6)
    ]  # fmt: skip


@pytest.fixture
def learner(make_policy, make_critic):
    """Plain gradient descent, so that a step is the gradient itself."""
    policy, critic = make_policy(kv_heads=2, factor=3.0), make_critic(factor=3.0)
    return Learner(
        policy, critic, torch.optim.SGD(policy.parameters(), lr=0.05), torch.optim.SGD(critic.parameters(), lr=0.05)
    )


def settings(**changes):
    return PPOSettings(**{"batch_size": 6, "max_grad_norm": 1e9, "gae_lambda": 1.0, **changes})


def weights(model):
    return torch.cat([p.detach().flatten().clone() for p in model.parameters()])


def step(learner, rollouts, options, number=0):
    return update(learner, prepare(learner, rollouts, options, TEMPERATURE), options, TEMPERATURE, number, seed=0)


def response_logprob(learner, rollouts):
    return [float(row.sum()) for row in token_logprobs(learner.policy, [r.sequence for r in rollouts], TEMPERATURE)]


# --- prepare ---


def test_the_mask_covers_the_sampled_tokens_and_nothing_else(learner):
    rollouts = random_rollouts()
    experience = prepare(learner, rollouts, settings(), TEMPERATURE)
    assert experience.mask_BT.sum(1).tolist() == [len(r.completion.token_ids) for r in rollouts]
    for tensor in (
        experience.old_logprobs_BT, experience.old_values_BT, experience.advantages_BT, experience.returns_BT
    ):  # fmt: skip
        assert tensor.shape == experience.mask_BT.shape
        assert not (tensor * (1 - experience.mask_BT)).any()


def test_at_lambda_one_every_sampled_token_returns_the_reward(learner):
    rollouts = random_rollouts()
    experience = prepare(learner, rollouts, settings(), TEMPERATURE)
    rewards = torch.tensor([r.reward.total for r in rollouts])
    close(experience.returns_BT, rewards[:, None] * experience.mask_BT, atol=1e-5, rtol=0)


def test_advantages_are_whitened_over_sampled_tokens(learner):
    experience = prepare(learner, random_rollouts(), settings(), TEMPERATURE)
    sampled = experience.advantages_BT[experience.mask_BT.bool()]
    assert float(sampled.mean()) == pytest.approx(0, abs=1e-5)
    assert float(sampled.std(correction=0)) == pytest.approx(1, abs=1e-4)


def test_old_logprobs_are_at_the_sampling_temperature(learner):
    rollouts = random_rollouts()
    experience = prepare(learner, rollouts, settings(), TEMPERATURE)
    close(experience.old_logprobs_BT.sum(1), torch.tensor(response_logprob(learner, rollouts)), atol=1e-4, rtol=0)


@pytest.mark.parametrize("estimator", ["grpo", "rloo"])
def test_group_estimators_compare_the_samples_of_one_initial_state(learner, estimator):
    same = [rollout([5, 6], [], [7, 8], 0.0), rollout([5, 6], [], [9], -1.0)]
    alone = rollout([5, 7], [], [7, 8], -1.0)
    experience = prepare(learner, [same[0], alone, same[1]], settings(estimator=estimator), TEMPERATURE)
    right, neutral, wrong = experience.advantages_BT
    assert right[0] == right[1] > 0 > wrong[0]
    assert neutral.tolist() == [0, 0]  # nothing to compare with: no shift by other groups' lengths
    assert wrong[1] == 0


# --- update ---


@pytest.mark.parametrize("tokens_per_micro_batch", [1, 30])
def test_a_step_does_not_depend_on_the_size_of_micro_batches(learner, tokens_per_micro_batch):
    other = copy.deepcopy((learner.policy, learner.critic))
    split = Learner(
        *other, torch.optim.SGD(other[0].parameters(), lr=0.05), torch.optim.SGD(other[1].parameters(), lr=0.05)
    )
    start = weights(learner.policy)
    whole_metrics = step(learner, random_rollouts(), settings(tokens_per_micro_batch=100_000))
    split_metrics = step(split, random_rollouts(), settings(tokens_per_micro_batch=tokens_per_micro_batch))
    assert (weights(learner.policy) - start).abs().max() > 1e-3
    close(weights(split.policy), weights(learner.policy), atol=1e-5, rtol=0)
    close(weights(split.critic), weights(learner.critic), atol=1e-5, rtol=0)
    assert split_metrics == pytest.approx(whole_metrics, abs=1e-4)


def test_the_policy_gradient_is_that_of_the_sampled_tokens_alone(learner):
    """At the first step the ratio is 1, so the gradient is -sum(A * grad log p) / tokens, over sampled tokens only;
    here with transformers' own forward pass, one sequence at a time."""
    rollouts = random_rollouts()
    experience = prepare(learner, rollouts, settings(), TEMPERATURE)
    naive = copy.deepcopy(learner.policy)
    total = sum(len(r.completion.token_ids) for r in rollouts)
    for i, r in enumerate(rollouts):
        context, response = r.sequence
        logits = naive(torch.tensor([[*context, *response]])).logits[0] / TEMPERATURE
        for t, token in enumerate(response):
            logprob = logits[len(context) + t - 1].log_softmax(-1)[token]
            (-logprob * experience.advantages_BT[i, t] / total).backward(retain_graph=True)
    torch.optim.SGD(naive.parameters(), lr=0.05).step()
    update(learner, experience, settings(), TEMPERATURE, step=0, seed=0)
    close(weights(learner.policy), weights(naive), atol=1e-5, rtol=0)


def test_the_critic_gradient_is_that_of_the_values_before_sampled_tokens(learner):
    """At the first step no value is held by the clip, so the loss is half the squared error, over tokens."""
    rollouts = random_rollouts()
    experience = prepare(learner, rollouts, settings(), TEMPERATURE)
    naive = copy.deepcopy(learner.critic)
    total = sum(len(r.completion.token_ids) for r in rollouts)
    for r in rollouts:
        context, response = r.sequence
        values = naive.score(naive.model(torch.tensor([[*context, *response]])).last_hidden_state)[0, :, 0]
        errors = values[len(context) - 1 : -1] - r.reward.total
        (0.5 * errors.pow(2).sum() / total).backward()
    torch.optim.SGD(naive.parameters(), lr=0.05).step()
    update(learner, experience, settings(), TEMPERATURE, step=0, seed=0)
    close(weights(learner.critic), weights(naive), atol=1e-5, rtol=0)


def test_a_restart_prefix_is_context_like_the_prompt(learner):
    """The same ids split otherwise between prompt and prefix make the same step."""
    other = copy.deepcopy((learner.policy, learner.critic))
    twin = Learner(
        *other, torch.optim.SGD(other[0].parameters(), lr=0.05), torch.optim.SGD(other[1].parameters(), lr=0.05)
    )
    step(learner, [rollout([5, 6, 7], [8, 9], [10, 11], 0.0), rollout([5], [], [6], -1.0)], settings())
    step(twin, [rollout([5, 6], [7, 8, 9], [10, 11], 0.0), rollout([5], [], [6], -1.0)], settings())
    close(weights(learner.policy), weights(twin.policy), atol=0, rtol=0)


def test_a_positive_advantage_raises_the_log_probability(learner):
    rollouts = random_rollouts()
    experience = prepare(learner, rollouts, settings(), TEMPERATURE)
    before = response_logprob(learner, rollouts)
    advantages = torch.zeros_like(experience.mask_BT)
    advantages[2] = experience.mask_BT[2]
    update(learner, replace(experience, advantages_BT=advantages), settings(), TEMPERATURE, step=0, seed=0)
    assert response_logprob(learner, rollouts)[2] > before[2]


@pytest.mark.parametrize("estimator", ["gae", "grpo", "rloo"])
def test_the_better_of_two_samples_gains_on_the_worse(learner, estimator):
    pair = [rollout([5, 6], [], [7, 8, 9], 0.0), rollout([5, 6], [], [10, 11, 12], -1.0)]
    before = response_logprob(learner, pair)
    step(learner, pair, settings(estimator=estimator))
    after = response_logprob(learner, pair)
    assert after[0] - after[1] > before[0] - before[1]


def test_the_policy_stands_still_while_the_critic_warms_up(learner):
    policy, critic = weights(learner.policy), weights(learner.critic)
    metrics = step(learner, random_rollouts(), settings(critic_warmup_steps=2), number=1)
    close(weights(learner.policy), policy, atol=0, rtol=0)
    assert (weights(learner.critic) - critic).abs().max() > 1e-3
    assert metrics.keys() == {"value_loss", "critic_grad_norm", "explained_variance"}


def test_a_policy_that_stands_still_is_not_computed(learner, monkeypatch):
    options = settings(critic_warmup_steps=1)
    experience = prepare(learner, random_rollouts(), options, TEMPERATURE)

    def computed(*_):
        raise AssertionError("a forward pass of the policy")

    monkeypatch.setattr(learner.policy, "forward", computed)
    update(learner, experience, options, TEMPERATURE, step=0, seed=0)


def test_no_policy_waits_for_a_critic_that_there_is_not(learner):
    before = weights(learner.policy)
    pair = [rollout([5, 6], [], [7, 8, 9], 0.0), rollout([5, 6], [], [10, 11, 12], -1.0)]
    metrics = step(learner, pair, settings(estimator="grpo", critic_warmup_steps=1))
    assert (weights(learner.policy) - before).abs().max() > 1e-4
    assert metrics.keys() == {"policy_loss", "kl", "clip_fraction", "entropy", "policy_grad_norm"}


def test_the_policy_moves_after_the_warm_up_by_its_own_gradient_alone(learner):
    """Gradients of the steps it sat out do not add to its first step."""
    fresh = copy.deepcopy(learner.policy)
    options = settings(critic_warmup_steps=1)
    experience = prepare(learner, random_rollouts(), options, TEMPERATURE)
    update(learner, experience, options, TEMPERATURE, step=0, seed=0)
    update(learner, experience, options, TEMPERATURE, step=1, seed=0)
    twin = Learner(fresh, learner.critic, torch.optim.SGD(fresh.parameters(), lr=0.05), learner.critic_optimizer)
    update(twin, experience, options, TEMPERATURE, step=1, seed=0)
    close(weights(learner.policy), weights(twin.policy), atol=1e-6, rtol=0)


@pytest.mark.parametrize("estimator", ["grpo", "rloo"])
def test_group_estimators_leave_the_critic_alone(learner, estimator):
    critic = weights(learner.critic)
    step(learner, random_rollouts(), settings(estimator=estimator))
    close(weights(learner.critic), critic, atol=0, rtol=0)


@pytest.mark.parametrize("field", ["advantages_BT", "returns_BT"])
def test_a_gradient_that_is_no_number_stops_training(learner, field):
    experience = prepare(learner, random_rollouts(), settings(), TEMPERATURE)
    broken = replace(experience, **{field: torch.full_like(experience.mask_BT, torch.nan)})
    with pytest.raises(FloatingPointError, match="nan"):
        update(learner, broken, settings(), TEMPERATURE, step=0, seed=0)


def test_a_broken_policy_gradient_moves_no_weight(learner):
    policy = weights(learner.policy)
    experience = prepare(learner, random_rollouts(), settings(), TEMPERATURE)
    broken = replace(experience, advantages_BT=torch.full_like(experience.mask_BT, torch.nan))
    with pytest.raises(FloatingPointError):
        update(learner, broken, settings(), TEMPERATURE, step=0, seed=0)
    close(weights(learner.policy), policy, atol=0, rtol=0)


def test_gradients_are_clipped_to_the_norm(learner):
    before = weights(learner.policy)
    metrics = step(learner, random_rollouts(), settings(max_grad_norm=0.01))
    assert metrics["policy_grad_norm"] > 0.01  # reported as it was before clipping
    assert float((weights(learner.policy) - before).norm()) == pytest.approx(0.05 * 0.01, rel=1e-2)


def test_metrics_of_the_first_step(learner):
    rollouts = random_rollouts()
    metrics = step(learner, rollouts, settings())
    assert metrics["kl"] == pytest.approx(0, abs=1e-5)
    assert metrics["clip_fraction"] == 0
    assert metrics["policy_loss"] == pytest.approx(0, abs=1e-4)  # minus the mean of whitened advantages
    assert metrics["entropy"] > 0
    assert metrics["value_loss"] > 0


def test_the_kl_grows_with_a_second_epoch(learner):
    assert step(learner, random_rollouts(), settings(epochs=2))["kl"] > 1e-4


@pytest.mark.parametrize(("estimator", "shared"), [("gae", 2), ("grpo", 0)])
def test_threads_are_shared_with_a_critic_only(learner, monkeypatch, estimator, shared):
    calls = []

    def both(one, other, device):
        calls.append(device)
        return one(), other()

    monkeypatch.setattr(module, "both", both)
    step(learner, random_rollouts(), settings(estimator=estimator, batch_size=len(random_rollouts())))
    assert len(calls) == shared  # before the update and in it


# --- train ---


def run(learner, options, steps, total):
    def collect(states, seed):
        return random_rollouts(seed)

    return list(train(learner, lambda number: (), collect, options, TEMPERATURE, steps, total, seed=3))


def test_a_run_in_two_parts_is_the_run_in_one(make_policy, make_critic):
    def fresh():
        policy, critic = make_policy(factor=3.0), make_critic(factor=3.0)
        return Learner(policy, critic, torch.optim.AdamW(policy.parameters()), torch.optim.AdamW(critic.parameters()))

    options = settings(actor_lr=1e-3, critic_lr=1e-3, batch_size=4, epochs=2)
    whole, parts = fresh(), fresh()
    metrics = [m for _, _, m in run(whole, options, range(3), 3)]
    found = [m for _, _, m in [*run(parts, options, range(1), 3), *run(parts, options, range(1, 3), 3)]]
    assert found == metrics
    close(weights(parts.policy), weights(whole.policy), atol=0, rtol=0)


def test_learning_rates_follow_the_step(learner):
    options = settings(actor_lr=1e-3, critic_lr=1e-2, critic_warmup_steps=1)
    rates = []
    for _ in train(learner, lambda n: (), lambda s, seed: random_rollouts(), options, TEMPERATURE, range(3), 2, seed=0):
        rates.append((learner.policy_optimizer.param_groups[0]["lr"], learner.critic_optimizer.param_groups[0]["lr"]))
    # Cosine from 1 to 0.1: at the start 1, half-way 0.55, at the end 0.1. The policy waits for one step.
    assert rates == [
        (0.0, pytest.approx(1e-2)),
        (pytest.approx(5.5e-4), pytest.approx(5.5e-3)),
        (pytest.approx(1e-4), pytest.approx(1e-3)),
    ]


# --- the engine that sampled, and the trainer ---


def sampled_with(learner, rollouts, difference):
    """The same rollouts with log-probabilities of an engine, which are the trainer's less ``difference``."""
    rows = token_logprobs(learner.policy, [r.sequence for r in rollouts], TEMPERATURE)
    return [
        replace(r, completion=replace(r.completion, logprobs=tuple((row - difference).tolist())))
        for r, row in zip(rollouts, rows, strict=True)
    ]


def test_the_mismatch_is_the_mean_distance_of_the_log_probabilities(learner):
    rollouts = sampled_with(learner, random_rollouts(), 0.5)
    mismatch = prepare(learner, rollouts, settings(), TEMPERATURE).mismatch
    assert mismatch["engine_mismatch"] == pytest.approx(0.5, abs=1e-5)
    assert mismatch["engine_kl"] == pytest.approx(1.6487213 - 1 - 0.5, abs=1e-4)
    assert mismatch.keys() == {"engine_mismatch", "engine_kl"}


def test_an_engine_without_log_probabilities_is_not_compared(learner):
    assert prepare(learner, random_rollouts(), settings(), TEMPERATURE).mismatch == {}
    with pytest.raises(EngineError, match="importance_cap needs an engine"):
        prepare(learner, random_rollouts(), settings(importance_cap=2.0), TEMPERATURE)


def test_the_engines_log_probabilities_can_be_the_old_ones(learner):
    rollouts = sampled_with(learner, random_rollouts(), 0.5)
    options = settings(old_logprobs="engine", batch_size=4)
    experience = prepare(learner, rollouts, options, TEMPERATURE)
    theirs = torch.tensor([sum(r.completion.logprobs) for r in rollouts])
    close(experience.old_logprobs_BT.sum(1), theirs, atol=1e-4, rtol=0)
    # The ratio starts at e^0.5; KL(engine || trainer) is that of the first optimiser step, in which nothing has moved.
    metrics = update(learner, experience, options, TEMPERATURE, 0, seed=0)
    assert metrics["engine_kl"] == pytest.approx(1.6487213 - 1 - 0.5, abs=1e-4)
    assert "engine_mismatch" not in metrics


def test_a_step_from_the_engines_log_probabilities_is_that_from_the_trainers(learner):
    other = copy.deepcopy(learner)
    other.policy_optimizer = torch.optim.SGD(other.policy.parameters(), lr=0.05)
    other.critic_optimizer = torch.optim.SGD(other.critic.parameters(), lr=0.05)
    rollouts = sampled_with(learner, random_rollouts(), 0.0)
    step(learner, rollouts, settings())
    step(other, rollouts, settings(old_logprobs="engine"))
    close(weights(other.policy), weights(learner.policy), atol=1e-6, rtol=0)
    close(weights(other.critic), weights(learner.critic), atol=1e-6, rtol=0)


def test_old_log_probabilities_of_the_engine_need_an_engine_that_gives_them(learner):
    with pytest.raises(EngineError, match="old_logprobs: engine needs an engine"):
        prepare(learner, random_rollouts(), settings(old_logprobs="engine"), TEMPERATURE)
    with pytest.raises(ValidationError, match="needs old_logprobs: trainer"):
        settings(old_logprobs="engine", importance_cap=2.0)


def test_truncated_importance_weights_scale_the_policy_gradient(learner):
    """Every token e^0.5 times likelier to the trainer: the gradient is as much larger, or as the cap allows."""
    moves = []
    for cap in (0.0, 10.0, 1.25):
        fresh = copy.deepcopy(learner)
        fresh.policy_optimizer = torch.optim.SGD(fresh.policy.parameters(), lr=0.05)
        fresh.critic_optimizer = torch.optim.SGD(fresh.critic.parameters(), lr=0.05)
        before = weights(fresh.policy)
        metrics = step(fresh, sampled_with(fresh, random_rollouts(), 0.5), settings(importance_cap=cap))
        moves.append(weights(fresh.policy) - before)
        assert metrics.get("importance_weight", 1.0) == pytest.approx(min(cap, 1.6487213) if cap else 1.0, rel=1e-4)
    close(moves[1], moves[0] * 1.6487213, rtol=1e-3, atol=1e-6)
    close(moves[2], moves[0] * 1.25, rtol=1e-3, atol=1e-6)
