"""PPO's losses against arithmetic done by hand (satori.reinforcement.losses)."""

import math

import pytest
import torch

from satori.reinforcement.losses import policy_loss, value_loss

close = torch.testing.assert_close


def one_token(ratio, advantage, clip=0.2):
    """Loss, clipped count, KL and gradient in the log-probability, for one token."""
    old = torch.tensor([-1.3])
    new = (old + math.log(ratio)).requires_grad_()
    loss, clipped, kl = policy_loss(new, old, torch.tensor([advantage]), clip)
    loss.backward()
    return loss.item(), int(clipped), kl.item(), new.grad.item()


# The loss is -min(ratio * A, clamp(ratio, 0.8, 1.2) * A). The gradient in the log-probability is -ratio * A where
# the unclipped term is the smaller one, 0 where the clipped one is.
@pytest.mark.parametrize(
    ("advantage", "ratio", "loss", "clipped", "gradient"),
    [
        (2.0, 1.1, -2.2, 0, -2.2),
        (2.0, 1.5, -2.4, 1, 0.0),  # min(3, 1.2 * 2)
        (2.0, 0.5, -1.0, 0, -1.0),  # min(1, 0.8 * 2)
        (-2.0, 1.1, 2.2, 0, 2.2),
        (-2.0, 1.5, 3.0, 0, 3.0),  # min(-3, 1.2 * -2)
        (-2.0, 0.5, 1.6, 1, 0.0),  # min(-1, 0.8 * -2)
    ],
)
def test_policy_loss_in_every_clip_case(advantage, ratio, loss, clipped, gradient):
    found_loss, found_clipped, _, found_gradient = one_token(ratio, advantage)
    assert found_loss == pytest.approx(loss, rel=1e-5)
    assert found_clipped == clipped
    assert found_gradient == pytest.approx(gradient, rel=1e-5)


@pytest.mark.parametrize(
    ("ratio", "kl"),
    [(1.0, 0.0), (2.0, 1 - math.log(2)), (0.5, math.log(2) - 0.5)],  # ratio - 1 - log ratio
)
def test_kl_estimate_by_hand(ratio, kl):
    assert one_token(ratio, 1.0)[2] == pytest.approx(kl, abs=1e-6)


def test_policy_loss_is_a_sum_over_tokens():
    # Two tokens of ratio 1: -(3 - 1); four of them: twice that.
    logprobs, advantages = torch.tensor([-0.5, -2.0]), torch.tensor([3.0, -1.0])
    assert policy_loss(logprobs, logprobs, advantages, 0.2)[0].item() == pytest.approx(-2.0)
    double = policy_loss(logprobs.repeat(2), logprobs.repeat(2), advantages.repeat(2), 0.2)
    assert double[0].item() == pytest.approx(-4.0)


def test_policy_loss_does_not_depend_on_the_split_into_micro_batches():
    torch.manual_seed(0)
    new, old, advantages = -torch.rand(20) * 2, -torch.rand(20) * 2, torch.randn(20)
    whole = policy_loss(new, old, advantages, 0.2)
    parts = [policy_loss(new[s], old[s], advantages[s], 0.2) for s in (slice(0, 3), slice(3, 19), slice(19, 20))]
    for index in range(3):
        close(sum(part[index] for part in parts), whole[index])


@pytest.mark.parametrize("difference", [1000.0, -1000.0])
def test_a_huge_log_ratio_stays_finite(difference):
    loss, _, kl = policy_loss(torch.tensor([difference]), torch.tensor([0.0]), torch.tensor([-1.0]), 0.2)
    assert torch.isfinite(loss)
    assert torch.isfinite(kl)


# Old value 1, clip 0.2: the held value lies in [0.8, 1.2]. Half the larger squared error.
@pytest.mark.parametrize(
    ("value", "target", "loss"),
    [
        (1.1, 2.0, 0.405),  # within the clip: 0.9^2 / 2
        (1.5, 2.0, 0.32),  # towards the target, too far: held 1.2, 0.8^2 / 2
        (1.5, 0.0, 1.125),  # away from the target: 1.5^2 / 2
        (0.5, 0.0, 0.32),  # towards, too far: held 0.8, 0.8^2 / 2
        (0.5, 2.0, 1.125),  # away: 1.5^2 / 2
    ],
)
def test_value_loss_in_every_clip_case(value, target, loss):
    found = value_loss(torch.tensor([value]), torch.tensor([1.0]), torch.tensor([target]), 0.2)
    assert found.item() == pytest.approx(loss, rel=1e-5)


def test_a_value_held_by_the_clip_gets_no_gradient():
    value = torch.tensor([1.5, 1.1], requires_grad=True)
    value_loss(value, torch.tensor([1.0, 1.0]), torch.tensor([2.0, 2.0]), 0.2).backward()
    close(value.grad, torch.tensor([0.0, -0.9]))


def test_value_loss_is_a_sum_over_tokens():
    # 0.5 * (1^2 + 2^2) = 2.5
    found = value_loss(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.0]), torch.tensor([0.0, 0.0]), 0.2)
    assert found.item() == pytest.approx(2.5)
