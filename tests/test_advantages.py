"""Advantage estimators against arithmetic done by hand (satori.reinforcement.advantages)."""

import pytest
import torch

from satori.reinforcement.advantages import gae, grpo, rloo, whiten

close = torch.testing.assert_close


def run_gae(rewards, values, mask, gamma, lam):
    return gae(torch.tensor(rewards), torch.tensor(values), torch.tensor(mask, dtype=torch.float), gamma, lam)


# Three tokens, reward 1 at the last, values 0.5, 0.2, 0.1. The temporal differences, gamma 1:
#   d2 = 1 + 0 - 0.1 = 0.9        d1 = 0 + 0.1 - 0.2 = -0.1        d0 = 0 + 0.2 - 0.5 = -0.3
@pytest.mark.parametrize(
    ("gamma", "lam", "expected"),
    [
        # lambda 0: the differences themselves.
        (1.0, 0.0, [-0.3, -0.1, 0.9]),
        # lambda 1: the reward less the value: 1 - 0.5, 1 - 0.2, 1 - 0.1.
        (1.0, 1.0, [0.5, 0.8, 0.9]),
        # A2 = 0.9; A1 = -0.1 + 0.95 * 0.9 = 0.755; A0 = -0.3 + 0.95 * 0.755 = 0.41725.
        (1.0, 0.95, [0.41725, 0.755, 0.9]),
        # gamma 0.9, lambda 0.5: d1 = 0.9 * 0.1 - 0.2 = -0.11, d0 = 0.9 * 0.2 - 0.5 = -0.32;
        # A1 = -0.11 + 0.45 * 0.9 = 0.295; A0 = -0.32 + 0.45 * 0.295 = -0.18725.
        (0.9, 0.5, [-0.18725, 0.295, 0.9]),
    ],
)
def test_gae_by_hand(gamma, lam, expected):
    advantages, returns = run_gae([1.0], [[0.5, 0.2, 0.1]], [[1, 1, 1]], gamma, lam)
    close(advantages, torch.tensor([expected]))
    close(returns, torch.tensor([expected]) + torch.tensor([[0.5, 0.2, 0.1]]))


def test_gae_gives_the_reward_at_the_last_sampled_token_of_each_row():
    # Row 0 as above with lambda 0.95. Row 1 has one token of value 0.4 and reward -1: A = -1 - 0.4 = -1.4.
    # What stands in its padded tail (7) plays no part.
    advantages, returns = run_gae([1.0, -1.0], [[0.5, 0.2, 0.1], [0.4, 7.0, 7.0]], [[1, 1, 1], [1, 0, 0]], 1.0, 0.95)
    close(advantages, torch.tensor([[0.41725, 0.755, 0.9], [-1.4, 0.0, 0.0]]))
    close(returns, torch.tensor([[0.91725, 0.955, 1.0], [-1.0, 0.0, 0.0]]))


def test_gae_carries_value_and_advantage_through_a_masked_token():
    # The token in the middle was not sampled: A2 = 0.9; A0 = (0.1 - 0.5) + 0.95 * 0.9 = 0.455.
    advantages, returns = run_gae([1.0], [[0.5, 9.0, 0.1]], [[1, 0, 1]], 1.0, 0.95)
    close(advantages, torch.tensor([[0.455, 0.0, 0.9]]))
    close(returns, torch.tensor([[0.955, 0.0, 1.0]]))


def test_gae_discounts_the_reward():
    # Values 0, lambda 1: A0 = gamma^2 * 4 = 1, A1 = gamma * 4 = 2, A2 = 4.
    advantages, _ = run_gae([4.0], [[0.0, 0.0, 0.0]], [[1, 1, 1]], 0.5, 1.0)
    close(advantages, torch.tensor([[1.0, 2.0, 4.0]]))


# Group 0 holds rewards 3, 0, 0: mean 1, centred 2, -1, -1, variance (4 + 1 + 1) / (3 - 1) = 3.
# Group 1 holds 5 alone. Group 2 holds 1 and 1. Groups stand interleaved.
REWARDS = torch.tensor([3.0, 5.0, 0.0, 1.0, 0.0, 1.0])
GROUPS = torch.tensor([0, 1, 0, 2, 0, 2])


def test_grpo_by_hand():
    close(grpo(REWARDS, GROUPS), torch.tensor([2.0, 0, -1, 0, -1, 0]) / 3**0.5, atol=1e-5, rtol=0)


def test_grpo_without_scale_by_hand():
    close(grpo(REWARDS, GROUPS, scale_by_std=False), torch.tensor([2.0, 0, -1, 0, -1, 0]))


def test_rloo_by_hand():
    # 3 - (0 + 0) / 2 = 3;  0 - (3 + 0) / 2 = -1.5;  1 - 1 = 0;  alone: 0.
    close(rloo(REWARDS, GROUPS), torch.tensor([3.0, 0, -1.5, 0, -1.5, 0]))


@pytest.mark.parametrize("estimate", [grpo, rloo])
def test_group_numbers_may_have_gaps(estimate):
    close(estimate(torch.tensor([1.0, 0.0, 8.0]), torch.tensor([4, 4, 9]))[2], torch.tensor(0.0))


def test_whiten_by_hand():
    # Sampled: 1, 2, 3, of mean 2 and variance (1 + 0 + 1) / 3. The 100 stands where the mask is 0.
    whitened = whiten(torch.tensor([[1.0, 2.0], [3.0, 100.0]]), torch.tensor([[1.0, 1.0], [1.0, 0.0]]))
    close(whitened, torch.tensor([[-(1.5**0.5), 0.0], [1.5**0.5, 0.0]]))


def test_whiten_of_equal_advantages_is_zero():
    close(whiten(torch.full((2, 2), 3.0), torch.ones(2, 2)), torch.zeros(2, 2))
